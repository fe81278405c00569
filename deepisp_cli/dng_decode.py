"""The data of a DNG that LibRaw does not decode, or not as DNG specifies."""

import struct
from typing import BinaryIO

import numpy as np
import tifffile

from deepisp_cli.dng_opcodes import MAP_POLYNOMIAL, opcodes
from deepisp_cli.dng_tags import Tags, cfa_pattern, first_number, is_dng, linear_levels, raw_page
from deepisp_cli.errors import InputError
from deepisp_cli.libraw import Decoded, read_capture

FULL_SCALE = 65535.0  # the white level of decoded lossy data, as LibRaw scales it
_DEFLATE, _OLD_DEFLATE, _JPEG_XL = 8, 32946, 52546  # Compression


def is_decoded_here(tags: Tags) -> bool:
    """Whether it is a DNG of integers in JPEG XL (DNG 1.7) or Deflate, neither of which LibRaw reads."""
    return is_dng(tags) and first_number(tags, "Compression", 1) in (_DEFLATE, _OLD_DEFLATE, _JPEG_XL)


def decode(source: BinaryIO, tags: Tags, name: str) -> Decoded:
    """Decode a DNG with tifffile and imagecodecs, as `libraw.decode` does; its tags say everything else.

    Raises
    ------
    InputError
        If the data is damaged.
    """
    samples = _samples(source, tags, name)
    across, down = tags.get("DefaultScale", np.ones(2))
    stated = 0 < across < np.inf and 0 < down < np.inf
    return Decoded(
        samples=samples,
        colours=cfa_pattern(tags),
        letters="RGBCMYW",
        origin=np.zeros(2, int),
        visible=samples.shape[:2],
        orientation=int(first_number(tags, "Orientation", 1)),
        pixel_aspect=across / down if stated else 1.0,
        black=np.zeros(4, np.float32),
        white=np.zeros(4, np.float32),
        camera_gains=np.ones(3),
        daylight_gains=np.ones(3),
        xyz_to_camera=np.zeros((3, 3)),
        capture=read_capture(source),
    )


def _samples(source: BinaryIO, tags: Tags, name: str) -> np.ndarray:
    """The raw image, (H, W) or (H, W, 3), unsigned integers: with margins, interleaved fields in order,
    LinearizationTable applied."""
    stored = _stored(source, name)
    for axis, tag in enumerate(("RowInterleaveFactor", "ColumnInterleaveFactor")):
        fields, length = int(first_number(tags, tag, 1)), stored.shape[axis]
        if not 1 <= fields <= length:
            raise ValueError(f"{tag} {fields} of {length}")
        order = np.concatenate([np.arange(field, length, fields) for field in range(fields)])
        stored = np.take(stored, np.argsort(order), axis)
    return _linearised(stored, tags)


def decode_lossy(source: BinaryIO, tags: Tags, name: str) -> tuple[np.ndarray, Tags]:
    """Decode the 8-bit JPEG data of a lossy linear DNG as DNG specifies.

    LinearizationTable, then black and white, then OpcodeList2's MapPolynomial. LibRaw applies the polynomial
    to the JPEG values and reports the JPEG's black level for the result.

    Returns
    -------
    samples : ndarray of shape (H, W, 3), float32
        Black is 0, white is full scale; not clipped.
    tags : mapping
        ``tags`` with these levels.

    Raises
    ------
    InputError
        If the data is damaged.
    """
    black, white = linear_levels(tags, name)
    stored = _stored(source, name)
    curves = (_linearised(np.arange(256), tags)[:, None] - black) / (white - black)
    for code, _, data in opcodes(tags, 2):
        if code == MAP_POLYNOMIAL:
            # Area (4), plane, planes, row and column pitch, degree; in practice it covers the whole picture.
            plane, planes, degree = struct.unpack_from(">16x2I8xI", data)
            coefficients = struct.unpack_from(f">{degree + 1}d", data, 36)
            of_these = slice(plane, plane + planes)
            curves[:, of_these] = np.polyval(coefficients[::-1], curves[:, of_these])
    curves = (curves * FULL_SCALE).astype(np.float32)
    samples = np.stack([curves[stored[..., plane], plane] for plane in range(3)], axis=-1)
    return samples, {**tags, "BlackLevel": np.zeros(3), "WhiteLevel": np.full(3, FULL_SCALE)}


def _linearised(stored: np.ndarray, tags: Tags) -> np.ndarray:
    """``stored`` through LinearizationTable (uint16), if any; its last value stands for all beyond."""
    table = tags.get("LinearizationTable")
    return stored if table is None else np.take(table.astype(np.uint16), stored, mode="clip")


def _stored(source: BinaryIO, name: str) -> np.ndarray:
    source.seek(0)
    try:
        with tifffile.TiffFile(source) as tif:
            page = raw_page(tif)
            assert page is not None
            return page.asarray()
    except MemoryError:
        raise
    except Exception as error:  # tifffile and imagecodecs fail on damage in many ways
        raise InputError(f"{name}: damaged: its image data cannot be decoded; copy it again") from error

"""What LibRaw leaves undone in a DNG: opcodes, and data that it does not decode, or not as DNG specifies."""

import struct
from typing import BinaryIO

import numpy as np
import tifffile

from deepisp_cli.dng_tags import Tags, first_number, is_dng, is_lossy, linear_levels, raw_page
from deepisp_cli.errors import InputError

FULL_SCALE = 65535.0  # the white level of decoded lossy data, as LibRaw scales it
_DEFLATE, _OLD_DEFLATE, _JPEG_XL = 8, 32946, 52546  # Compression
_FIX_CONSTANT, _FIX_LIST, _MAP_POLYNOMIAL = 4, 5, 8  # opcodes


# Opcodes


def opcodes(tags: Tags, number: int) -> list[tuple[int, bytes]]:
    """Return the code and parameters of each entry in OpcodeList1, 2 or 3."""
    tag = f"OpcodeList{number}"
    data = tags[tag].tobytes() if tag in tags else b""
    entries, position = [], 4  # after the count
    while position + 16 <= len(data):
        code, _version, _flags, length = struct.unpack_from(">4I", data, position)
        entries.append((code, data[position + 16 : position + 16 + length]))
        position += 16 + length
    return entries


def unapplied_lists(tags: Tags) -> list[str]:
    """Names of the pre-demosaic lists with corrections that are not applied."""
    applied = {1: (_FIX_CONSTANT, _FIX_LIST), 2: (_MAP_POLYNOMIAL,) if is_lossy(tags) else ()}
    return [
        f"OpcodeList{number}"
        for number, known in applied.items()
        if any(code not in known for code, _ in opcodes(tags, number))
    ]


def fix_bad_pixels(samples: np.ndarray, tags: Tags) -> np.ndarray:
    """Replace the samples that OpcodeList1 calls bad with the mean of their good neighbours of that colour.

    Parameters
    ----------
    samples : (H, W) counts of a Bayer mosaic, margins included.

    Returns
    -------
    ndarray
        ``samples`` themselves if none is bad.
    """
    entries = opcodes(tags, 1)
    if not entries:
        return samples
    height, width = samples.shape
    bad = np.zeros((height, width), bool)
    for code, data in entries:
        if code == _FIX_CONSTANT:
            bad |= samples == struct.unpack_from(">I", data)[0]
        elif code == _FIX_LIST:
            _phase, points, areas = struct.unpack_from(">3I", data)
            for row, column in struct.iter_unpack(">2I", data[12 : 12 + 8 * points]):
                bad[row : row + 1, column : column + 1] = True
            for top, left, bottom, right in struct.iter_unpack(">4I", data[12 + 8 * points :][: 16 * areas]):
                bad[top:bottom, left:right] = True
    if not bad.any():
        return samples
    rows, columns = np.nonzero(bad)
    total = np.zeros(len(rows))
    good = np.zeros(len(rows))
    for down, right in ((-2, 0), (2, 0), (0, -2), (0, 2), (-2, -2), (-2, 2), (2, -2), (2, 2)):
        other_rows, other_columns = rows + down, columns + right
        inside = (other_rows >= 0) & (other_rows < height)
        inside &= (other_columns >= 0) & (other_columns < width)
        beside = np.where(inside, other_rows, rows), np.where(inside, other_columns, columns)
        usable = ~bad[beside]  # neighbours outside were replaced by the sample itself, which is bad
        total += np.where(usable, samples[beside], 0)
        good += usable
    fixed = samples.copy()
    found = good > 0
    fixed[rows[found], columns[found]] = np.rint(total[found] / good[found]).astype(samples.dtype)
    return fixed


# Data


def is_decoded_here(tags: Tags) -> bool:
    """Whether it is a DNG of integers in JPEG XL (DNG 1.7) or Deflate, neither of which LibRaw reads."""
    return is_dng(tags) and first_number(tags, "Compression", 1) in (_DEFLATE, _OLD_DEFLATE, _JPEG_XL)


def decode(source: BinaryIO, tags: Tags, name: str) -> np.ndarray:
    """Decode the samples of the raw image with tifffile and imagecodecs.

    Returns
    -------
    ndarray of shape (H, W) or (H, W, 3), unsigned integers
        With margins, interleaved fields in order, LinearizationTable applied.

    Raises
    ------
    InputError
        If the data is damaged.
    """
    stored = _stored(source, name)
    for axis, tag in enumerate(("RowInterleaveFactor", "ColumnInterleaveFactor")):
        fields, length = int(first_number(tags, tag, 1)), stored.shape[axis]
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
    for code, data in opcodes(tags, 2):
        if code == _MAP_POLYNOMIAL:
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
    except Exception as error:  # tifffile and imagecodecs fail on damage in many ways
        raise InputError(f"{name}: damaged: its image data cannot be decoded; copy it again") from error

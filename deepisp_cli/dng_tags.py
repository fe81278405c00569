"""What a raw file says in its own TIFF tags, a DNG above all: areas, levels, colour matrix, opcodes.

These are taken from the tags because LibRaw rounds fractional black levels, hides repeating ones, does not
apply the default crop, leaves the XYZ matrix of a camera it does not know at zero, and forgets the black
level of lossy JPEG data. Areas are (top, left) and (height, width). Tags: Adobe DNG Specification 1.7.
"""

import logging
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import tifffile

from deepisp_cli.errors import InputError, UnsupportedRawError

tifffile.logger().addHandler(logging.NullHandler())  # a damaged file is reported once, by us

Tags = Mapping[str, Any]
"""Values by tag name, as `read_tags` returns them."""

MAP_POLYNOMIAL = 8  # OpcodeList2

_CFA, _LINEAR_RAW = 32803, 34892  # PhotometricInterpretation
_VC5, _LOSSY_JPEG = 9, 34892  # Compression
_FULL_SCALE = 65535.0  # white of decoded lossy data, as LibRaw scales it
# EXIF LightSource codes from D65 (21) away: D55, D75, daylight kinds, flash, shade, D50; others are further.
_NEAR_D65 = (21, 20, 22, 1, 9, 10, 4, 11, 23)
# What the first directory says of its own data, usually a preview, and not of the raw data.
_OWN_TAGS = (
    *("PhotometricInterpretation", "Compression", "SampleFormat", "BitsPerSample", "SamplesPerPixel"),
    *("StripOffsets", "StripByteCounts", "TileOffsets", "TileByteCounts", "ImageWidth", "ImageLength"),
)


def read_tags(source: BinaryIO) -> Tags:
    """Read the tags of a TIFF-based raw file, those of the raw image over those of the first directory.

    Parameters
    ----------
    source : seekable binary file
        Its position is not kept.

    Returns
    -------
    mapping from tag name to value
        Numbers come as float64 arrays, bytes as uint8 arrays, text as str. Empty if the file is not
        TIFF-based or cannot be walked; ``PhotometricInterpretation`` is there only if a raw image was found.
    """
    source.seek(0)
    try:
        with tifffile.TiffFile(source) as tif:
            tags = {tag.name: _value(tag) for tag in tif.pages.first.tags if tag.name not in _OWN_TAGS}
            raw = _raw_page(tif)
            return tags if raw is None else tags | {tag.name: _value(tag) for tag in raw.tags}
    except Exception:  # tifffile meets damage in many ways; LibRaw then decides alone
        return {}


def _raw_page(tif: tifffile.TiffFile) -> tifffile.TiffPage | None:
    """Return the directory of the largest raw image."""
    pages = [page for top in tif.pages for page in (top, *(top.pages or ()))]
    raws = [page for page in pages if page.photometric in (_CFA, _LINEAR_RAW) and not page.subfiletype]
    return max(raws, key=lambda page: page.imagewidth * page.imagelength, default=None)


def _value(tag: tifffile.TiffTag) -> Any:
    value = tag.value
    if isinstance(value, str | dict):
        return value
    if isinstance(value, bytes):
        return np.frombuffer(value, np.uint8)
    numbers = np.atleast_1d(np.asarray(value, np.float64))
    if tag.dtype in (tifffile.DATATYPE.RATIONAL, tifffile.DATATYPE.SRATIONAL):
        with np.errstate(divide="ignore", invalid="ignore"):
            return numbers[0::2] / numbers[1::2]
    return numbers


# What kind of file it is


def is_dng(tags: Tags) -> bool:
    return "DNGVersion" in tags


def is_linear(tags: Tags) -> bool:
    """Whether it is a DNG of LinearRaw: colours already interpolated, or monochrome."""
    return is_dng(tags) and bool(tags.get("PhotometricInterpretation") == _LINEAR_RAW)


def is_lossy(tags: Tags) -> bool:
    return first_number(tags, "Compression", 1) == _LOSSY_JPEG


def first_number(tags: Tags, tag: str, default: float) -> float:
    return tags[tag][0] if tag in tags else default


def refuse_by_tags(tags: Tags, size: int, name: str) -> None:
    """Refuse what the tags already tell: raw data beyond the end of the file, kinds not developed.

    Parameters
    ----------
    size : int
        Bytes of the file.
    name : str
        What messages call the file.

    Raises
    ------
    InputError, UnsupportedRawError
    """
    if "PhotometricInterpretation" not in tags:
        return
    for starts, lengths in (("StripOffsets", "StripByteCounts"), ("TileOffsets", "TileByteCounts")):
        if starts in tags and lengths in tags and (end := int((tags[starts] + tags[lengths]).max())) > size:
            raise InputError(
                f"{name}: cut off: raw data up to byte {end}, file ends at {size}; copy it again"
            )
    _refuse_too_few_bytes(tags, name)
    if first_number(tags, "SampleFormat", 1) == tifffile.SAMPLEFORMAT.IEEEFP:
        raise UnsupportedRawError(f"{name}: floating-point samples are not developed; save it with integers")
    if is_dng(tags) and first_number(tags, "Compression", 1) == _VC5:
        raise UnsupportedRawError(
            f"{name}: GoPro's VC-5 cannot be decoded; convert it with Adobe's converter"
        )
    if first_number(tags, "CFALayout", 1) != 1:
        raise UnsupportedRawError(f"{name}: a staggered mosaic is not developed; convert it to a linear DNG")


def _refuse_too_few_bytes(tags: Tags, name: str) -> None:
    """Uncompressed data that is too short for its own size: LibRaw would leave memory unfilled."""
    counts = tags.get("StripByteCounts", tags.get("TileByteCounts"))
    sizes = [first_number(tags, key, 0) for key in ("ImageWidth", "ImageLength", "BitsPerSample")]
    if not is_dng(tags) or counts is None or first_number(tags, "Compression", 1) != 1:
        return
    width, height, bits = sizes
    needed = int(width * height * bits * first_number(tags, "SamplesPerPixel", 1) // 8)
    if counts.sum() < needed:
        raise InputError(
            f"{name}: damaged: {int(counts.sum())} bytes of raw data where {width:g}x{height:g} samples"
            f" of {bits:g} bits need {needed}; copy it again"
        )


# Areas


def active_area(tags: Tags, stored: tuple[int, ...]) -> tuple[np.ndarray, tuple[int, int]] | None:
    """Return DNG's ActiveArea of data of shape ``stored``; None if there is none, or none that fits."""
    if is_dng(tags) and "ActiveArea" in tags:
        top, left, bottom, right = tags["ActiveArea"].astype(int)
        if 0 <= top < bottom <= stored[0] and 0 <= left < right <= stored[1]:
            return np.array([top, left]), (int(bottom - top), int(right - left))
    return None


def default_crop(tags: Tags, visible: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Return DNG's default crop within the visible area, whose (height, width) is ``visible``.

    DefaultCropOrigin and DefaultCropSize are (horizontal, vertical) and count from the ActiveArea. A crop
    that does not fit is ignored; other raw files keep the visible area.
    """
    origin = tags.get("DefaultCropOrigin", np.zeros(2))
    size = tags.get("DefaultCropSize", np.zeros(2))
    if is_dng(tags) and origin.shape == size.shape == (2,) and np.isfinite([origin, size]).all():
        offset, shape = np.rint(origin[::-1]).astype(int), np.rint(size[::-1]).astype(int)
        if (offset >= 0).all() and (shape >= 2).all() and (offset + shape <= visible).all():
            return offset, (int(shape[0]), int(shape[1]))
    return np.zeros(2, int), visible


# Levels, float32 counts. ``offset`` is (top, left) of the crop within the active area


def mosaic_levels(tags: Tags, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the black tile, at least 2x2, and the 2x2 white levels as seen from the crop's first sample."""
    levels = tags.get("BlackLevel", np.zeros(1))
    unsaid = (2, 2) if levels.size == 4 else (1, 1)
    rows, columns = (int(number) for number in tags.get("BlackLevelRepeatDim", unsaid))
    tile = np.roll(levels.reshape(rows, columns), -offset, axis=(0, 1))  # repeats from the active area
    tile = np.tile(tile, (2 if rows == 1 else 1, 2 if columns == 1 else 1))
    return tile.astype(np.float32), np.full((2, 2), _white_level(tags)[0], np.float32)


def subtract_deltas(samples: np.ndarray, tags: Tags, offset: np.ndarray) -> np.ndarray:
    """Subtract what BlackLevelDeltaV and -H add to the black of each row and column of the active area.

    Returns ``samples`` (H, W) themselves where nothing is added, else float32.
    """
    for axis, tag in enumerate(("BlackLevelDeltaV", "BlackLevelDeltaH")):
        if tag in tags and tags[tag].any():
            deltas = tags[tag][offset[axis] :][: samples.shape[axis]].astype(np.float32)
            samples = samples - np.expand_dims(deltas, 1 - axis)
    return samples


def linear_levels(tags: Tags, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return black (3,) and white (3,) of a linear DNG; UnsupportedRawError if its black level varies."""
    black = tags.get("BlackLevel", np.zeros(1))
    deltas = [tags[tag].any() for tag in ("BlackLevelDeltaH", "BlackLevelDeltaV") if tag in tags]
    if black.size not in (1, 3) or any(deltas):
        raise UnsupportedRawError(f"{name}: a linear DNG whose black level varies over the picture")
    return np.resize(black, 3).astype(np.float32), np.resize(_white_level(tags), 3).astype(np.float32)


def _white_level(tags: Tags) -> np.ndarray:
    return tags["WhiteLevel"] if "WhiteLevel" in tags else 2.0 ** tags["BitsPerSample"] - 1


# Colour


def colour_matrix(tags: Tags) -> np.ndarray | None:
    """Return DNG's AnalogBalance x CameraCalibration x ColorMatrix for the light nearest D65.

    It is (colours, 3), float64, XYZ to the RGB of the samples, and not checked; None if there is none.
    """
    numbers = [number for number in "123" if f"ColorMatrix{number}" in tags]
    if not (is_dng(tags) and numbers):
        return None
    lights = [tags.get(f"CalibrationIlluminant{number}", [0])[0] for number in numbers]
    distances = [_NEAR_D65.index(light) if light in _NEAR_D65 else len(_NEAR_D65) for light in lights]
    number = numbers[distances.index(min(distances))]
    matrix = tags[f"ColorMatrix{number}"].reshape(-1, 3)
    same = tags.get("CameraCalibrationSignature", "") == tags.get("ProfileCalibrationSignature", "")
    if same and f"CameraCalibration{number}" in tags:
        matrix = tags[f"CameraCalibration{number}"].reshape(-1, len(matrix)) @ matrix
    return tags.get("AnalogBalance", np.ones(len(matrix)))[:, None] * matrix


def as_shot_neutral(tags: Tags, matrix: np.ndarray | None) -> np.ndarray | None:
    """Return the camera RGB of what is neutral in the shot, not checked; None if the DNG does not say.

    AsShotWhiteXY needs ``matrix``, (3, 3), XYZ to the RGB of the samples, and then wins over AsShotNeutral.
    """
    if "AsShotWhiteXY" in tags and matrix is not None:
        x, y = tags["AsShotWhiteXY"]
        return matrix @ [x / y, 1.0, (1 - x - y) / y]
    return tags.get("AsShotNeutral")


# Opcodes and lossy data


def opcodes(tags: Tags) -> list[tuple[int, bytes]]:
    """Return number and parameters of each entry of OpcodeList2."""
    data = tags["OpcodeList2"].tobytes() if "OpcodeList2" in tags else b""
    entries, position = [], 4  # behind the count
    while position + 16 <= len(data):
        opcode, _version, _flags, length = struct.unpack_from(">4I", data, position)
        entries.append((opcode, data[position + 16 : position + 16 + length]))
        position += 16 + length
    return entries


def decode_lossy(source: BinaryIO, tags: Tags, name: str) -> tuple[np.ndarray, Tags]:
    """Decode the 8-bit JPEG data of a lossy linear DNG as DNG says.

    First black and white, then OpcodeList2's MapPolynomial. LibRaw applies the polynomial to the JPEG
    values and reports the JPEG's black level for the result.

    Returns
    -------
    samples : ndarray of shape (H, W, 3), float32
        Black is 0, white is full scale; not clipped.
    tags : mapping
        ``tags`` with these levels.

    Raises
    ------
    InputError
        If the data are damaged.
    """
    black, white = linear_levels(tags, name)
    source.seek(0)
    try:
        with tifffile.TiffFile(source) as tif:
            page = _raw_page(tif)
            assert page is not None
            stored = page.asarray()
        curves = (np.arange(256)[:, None] - black) / (white - black)
        for opcode, data in opcodes(tags):
            if opcode == MAP_POLYNOMIAL:
                # Area (4), plane, planes, row and column pitch, degree; Adobe writes one plane, all of it.
                plane, degree = struct.unpack_from(">16xI12xI", data)
                coefficients = struct.unpack_from(f">{degree + 1}d", data, 36)
                curves[:, plane] = np.polyval(coefficients[::-1], curves[:, plane])
        curves = (curves * _FULL_SCALE).astype(np.float32)
        samples = np.stack([curves[stored[..., plane], plane] for plane in range(3)], axis=-1)
    except Exception as error:  # tifffile and imagecodecs meet damage in many ways
        raise InputError(f"{name}: damaged: its JPEG data cannot be decoded; copy it again") from error
    return samples, {**tags, "BlackLevel": np.zeros(3), "WhiteLevel": np.full(3, _FULL_SCALE)}

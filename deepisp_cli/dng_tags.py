"""What a raw file, above all a DNG, says in its own TIFF tags: areas, levels, colour matrix.

They are read from the tags because LibRaw rounds fractional black levels, hides repeating ones, does not
apply the default crop, leaves the XYZ matrix of an unknown camera at zero, and loses the black level of lossy
JPEG data. Areas are (top, left) and (height, width). Tags: Adobe DNG Specification 1.7.
"""

import logging
from collections.abc import Mapping
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import tifffile

from deepisp_cli.errors import InputError, UnsupportedRawError

tifffile.logger().addHandler(logging.NullHandler())  # a damaged file is reported once, by us

Tags = Mapping[str, Any]
"""Values by tag name, as `read_tags` returns them."""

_CFA, _LINEAR_RAW = 32803, 34892  # PhotometricInterpretation
_VC5 = 9  # Compression
_PLANAR = 2  # PlanarConfiguration
_MOST_PAGES = 100  # directories, of which files have a few
_LARGEST = 1 << 31  # bytes of samples, as LibRaw has it
_LARGEST_TILE = 64  # sides of a tile of black levels
# Panasonic's own tags, as tifffile calls them: its numbers mean other things in other files.
_SENSOR_WIDTH, _SENSOR_HEIGHT, _RAW_FORMAT, _RAW_DATA_OFFSET = "2", "3", "45", "MinSampleValue"
_LAST_FIXED_RATE = 7  # Panasonic's RawFormat; from 8 on the data is of variable length
_LEAST_RATE = 16 / 14  # bytes per sample of RawFormat 4; the others need more
SIGNATURES = ("CameraCalibrationSignature", "ProfileCalibrationSignature")
_MATRICES = frozenset(
    (
        *(f"{name}{number}" for name in ("ColorMatrix", "ForwardMatrix") for number in "123"),
        *(f"{name}{number}" for name in ("CameraCalibration", "CalibrationIlluminant") for number in "123"),
        *(f"{name}{number}" for name in ("IlluminantData", "ProfileHueSatMapData") for number in "123"),
        *("AnalogBalance", *SIGNATURES, "ProfileHueSatMapDims", "ProfileHueSatMapEncoding"),
        *("ProfileLookTableDims", "ProfileLookTableData", "ProfileLookTableEncoding"),
        *("ProfileName", "ProfileCopyright", "ProfileEmbedPolicy", "AsShotProfileName"),
    )
)
_LOOK = frozenset(
    (
        *("UniqueCameraModel", "LocalizedCameraModel", "CameraSerialNumber"),
        *("BaselineExposure", "BaselineExposureOffset", "DefaultBlackRender", "ProfileToneCurve"),
    )
)
_COLOR_MATRICES = (50721, 50722, 52531)
_ILLUMINANT_DATA_3 = 52535  # which tifffile does not name
_RATIONAL, _SIGNED_RATIONAL, _DOUBLE = 5, 10, 12  # TIFF 6.0's types, of which the last is the last
# What the first directory says about its own data, usually a preview, and not about the raw data.
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
        Numbers are float64 arrays, bytes uint8 arrays, text str. Empty if the file is not TIFF-based or
        cannot be parsed; ``PhotometricInterpretation`` is present only if a raw image was found.
    """
    source.seek(0)
    try:
        with tifffile.TiffFile(source) as tif:
            tags = {tag.name: _value(tag) for tag in tif.pages.first.tags if tag.name not in _OWN_TAGS}
            raw = raw_page(tif)
            return tags if raw is None else tags | {tag.name: _value(tag) for tag in raw.tags}
    except MemoryError:
        raise
    except Exception:  # tifffile fails on damage in many ways; LibRaw then decides alone
        return {}


class RawTag(NamedTuple):
    """A tag as stored: TIFF's number of its type, text as bytes, rationals as numerators and denominators in
    turn."""

    code: int
    type: int
    length: int
    value: Any

    @property
    def number(self) -> float:
        """Its value, or the first of several."""
        first, *others = np.ravel(self.value).tolist()
        return float(first / others[0] if self.type in (_RATIONAL, _SIGNED_RATIONAL) else first)

    @property
    def is_matrix(self) -> bool:
        """Whether it is a ColorMatrix."""
        return self.code in _COLOR_MATRICES


def profile_tags(source: BinaryIO, matrices: bool) -> tuple[RawTag, ...]:
    """What a DNG says about its camera's colours and how they are meant to look, for a copy with the same
    colours.

    Parameters
    ----------
    source : seekable binary file
        Its position is not kept.
    matrices : whether its matrices are wanted, and all that holds only together with them.
    """
    names = _LOOK | _MATRICES if matrices else _LOOK
    source.seek(0)
    with tifffile.TiffFile(source) as tif:
        pages = [page for page in (tif.pages.first, raw_page(tif)) if page is not None]
        found = {tag.code: tag for page in pages for tag in page.tags if _name(tag) in names}
    return tuple(_stored(tag) for _, tag in sorted(found.items()) if _makes_sense(tag))


def _name(tag: tifffile.TiffTag) -> str:
    return "IlluminantData3" if tag.code == _ILLUMINANT_DATA_3 else tag.name


def _stored(tag: tifffile.TiffTag) -> RawTag:
    if not isinstance(tag.value, str):
        return RawTag(tag.code, int(tag.dtype), tag.count, tag.value)
    text = tag.value.encode("utf-8", "replace") + b"\0"
    return RawTag(tag.code, int(tag.dtype), len(text), text)


def _makes_sense(tag: tifffile.TiffTag) -> bool:
    """Whether the tag has a value, of a type that TIFF 6.0 knows, and its numbers are numbers."""
    if not 1 <= tag.dtype <= _DOUBLE or tag.value is None:
        return False
    value = _value(tag)
    return bool(np.isfinite(value).all() and value.size) if isinstance(value, np.ndarray) else bool(value)


def restored_share(tags: Tags) -> float:
    """NoiseReductionApplied of restored raws that this program wrote (with its version and the model's name);
    0 for others."""
    ours = str(tags.get("Software", "")).startswith("deepisp ")
    share = float(np.ravel(tags.get("NoiseReductionApplied", 0.0))[0])  # 0/0: unknown
    return share if ours and 0 < share <= 1 else 0.0


def raw_page(tif: tifffile.TiffFile) -> tifffile.TiffPage | None:
    """Return the directory of the largest raw image."""
    # damaged, each may point to itself as the next: tifffile would follow that forever
    most = _MOST_PAGES
    pages: list[Any] = [
        page for top in islice(tif.pages, most) for page in (top, *islice(top.pages or (), most))
    ]
    raws = [page for page in pages if page.photometric in (_CFA, _LINEAR_RAW) and not page.subfiletype]
    return max(raws, key=lambda page: page.imagewidth * page.imagelength, default=None)


def _value(tag: tifffile.TiffTag) -> Any:
    value = tag.value
    if isinstance(value, str | dict):
        return value
    if isinstance(value, bytes):
        return np.frombuffer(value, np.uint8)
    numbers = np.atleast_1d(np.asarray(value, np.float64))
    if tag.dtype not in (_RATIONAL, _SIGNED_RATIONAL):
        return numbers
    if numbers.size == tag.count > 1:  # of more than a thousand, tifffile reads the first half
        file, word = tag.parent.filehandle, "I" if tag.dtype == _RATIONAL else "i"
        file.seek(tag.valueoffset)
        numbers = file.read_array(tag.parent.tiff.byteorder + word, 2 * tag.count).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return numbers[0::2] / numbers[1::2]


# What kind of file it is


def is_dng(tags: Tags) -> bool:
    """Whether they are a DNG's."""
    return "DNGVersion" in tags


def is_linear(tags: Tags) -> bool:
    """Whether it is a LinearRaw DNG: colours already interpolated, or monochrome."""
    return is_dng(tags) and bool(tags.get("PhotometricInterpretation") == _LINEAR_RAW)


def first_number(tags: Tags, tag: str, default: float) -> float:
    """The first of a tag's numbers; ``default`` if it is missing."""
    return tags[tag][0] if tag in tags else default


def refuse_by_tags(tags: Tags, size: int) -> None:
    """Refuse what the tags already give away: raw data beyond the end of the file, kinds not developed.

    Parameters
    ----------
    tags : from `read_tags`.
    size : bytes in the file.

    Raises
    ------
    InputError, UnsupportedRawError
    """
    _refuse_short_panasonic(tags, size)
    for starts, lengths in (("StripOffsets", "StripByteCounts"), ("TileOffsets", "TileByteCounts")):
        if starts in tags and lengths in tags and (end := int((tags[starts] + tags[lengths]).max())) > size:
            raise InputError(f"cut off: its raw data ends at byte {end}, the file at {size}; copy it again")
    _refuse_too_few_bytes(tags)
    if is_linear(tags) and first_number(tags, "PlanarConfiguration", 1) == _PLANAR:
        raise UnsupportedRawError(
            "a linear DNG with one plane for each colour is not supported; save it with interleaved colours"
        )
    if first_number(tags, "SampleFormat", 1) == tifffile.SAMPLEFORMAT.IEEEFP:
        raise UnsupportedRawError("floating-point samples are not supported; save it with integers")
    if is_dng(tags) and first_number(tags, "Compression", 1) == _VC5:
        raise UnsupportedRawError("GoPro's VC-5 cannot be decoded; convert it with Adobe DNG Converter")
    if is_dng(tags) and (tags.get("SubTileBlockSize", np.ones(1)) != 1).any():
        raise UnsupportedRawError(
            "samples in blocks within tiles are not supported; convert it with Adobe DNG Converter"
        )
    width, height = (first_number(tags, f"Image{side}", 0) for side in ("Width", "Length"))
    if is_dng(tags) and width * height * first_number(tags, "SamplesPerPixel", 1) * 2 > _LARGEST:
        raise UnsupportedRawError(f"{width:.0f}x{height:.0f} pixels are too many; develop a part of it")
    if first_number(tags, "CFALayout", 1) != 1:
        raise UnsupportedRawError("a staggered mosaic is not supported; convert it to a linear DNG")


def _refuse_short_panasonic(tags: Tags, size: int) -> None:
    """Refuse a cut-off RW2, whose tags state no length: LibRaw would repeat the last block that is there."""
    if not 0 < first_number(tags, _RAW_FORMAT, 0) <= _LAST_FIXED_RATE:
        return
    start, width, height = (
        first_number(tags, key, 0) for key in (_RAW_DATA_OFFSET, _SENSOR_WIDTH, _SENSOR_HEIGHT)
    )
    if (end := int(start + width * height * _LEAST_RATE)) > size:
        raise InputError(
            f"cut off: its raw data ends at byte {end} or later, the file at {size}; copy it again"
        )


def _refuse_too_few_bytes(tags: Tags) -> None:
    """Refuse uncompressed data that is too short for its size: LibRaw would leave memory unfilled."""
    counts = tags.get("StripByteCounts", tags.get("TileByteCounts"))
    sizes = [first_number(tags, key, 0) for key in ("ImageWidth", "ImageLength", "BitsPerSample")]
    if not is_dng(tags) or counts is None or first_number(tags, "Compression", 1) != 1:
        return
    width, height, bits = sizes
    needed = int(width * height * bits * first_number(tags, "SamplesPerPixel", 1) // 8)
    if counts.sum() < needed:
        raise InputError(
            f"damaged: {int(counts.sum())} bytes of raw data where {width:g}x{height:g} samples"
            f" of {bits:g} bits need {needed}; copy it again"
        )


def cfa_pattern(tags: Tags) -> np.ndarray | None:
    """Return the CFA's colours (n, n) from the first stored sample, margins included: 0 red, 1 green, 2 blue.
    None for a linear DNG, (1, 1) for a monochrome one."""
    if is_linear(tags):
        return None if first_number(tags, "SamplesPerPixel", 1) > 1 else np.zeros((1, 1), np.uint8)
    if "CFAPattern" not in tags:
        return np.zeros((1, 1), np.uint8)
    rows, columns = (int(number) for number in tags.get("CFARepeatPatternDim", (2, 2)))
    top, left = tags.get("ActiveArea", np.zeros(4)).astype(int)[:2]
    return np.roll(tags["CFAPattern"].astype(np.uint8).reshape(rows, columns), (top, left), (0, 1))


# Areas


def active_area(tags: Tags, stored: tuple[int, ...]) -> tuple[np.ndarray, tuple[int, int]] | None:
    """Return the DNG's ActiveArea.

    Parameters
    ----------
    tags : from `read_tags`.
    stored : shape of the data, (H, W) or (H, W, 3).

    Returns
    -------
    ((top, left), (height, width)); None if it is missing or does not fit.
    """
    if is_dng(tags) and "ActiveArea" in tags:
        top, left, bottom, right = tags["ActiveArea"].astype(int)
        if 0 <= top < bottom <= stored[0] and 0 <= left < right <= stored[1]:
            return np.array([top, left]), (int(bottom - top), int(right - left))
    return None


def default_crop(tags: Tags, visible: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the DNG's default crop within the visible area, whose (height, width) is ``visible``.

    DefaultCropOrigin and DefaultCropSize are (horizontal, vertical) and count from the ActiveArea.
    DefaultUserCrop, the crop that the photographer chose in the camera, is a part of that. A crop that does
    not fit is ignored; other raw files keep the visible area.
    """
    offset, shape = _sensor_crop(tags, visible)
    user = tags.get("DefaultUserCrop", np.array([0.0, 0.0, 1.0, 1.0]))
    if is_dng(tags) and user.shape == (4,) and (user >= 0).all() and (user <= 1).all():
        (top, left), (bottom, right) = np.rint(user.reshape(2, 2) * shape).astype(int)
        if bottom - top >= 2 and right - left >= 2:
            return offset + np.array([top, left]), (int(bottom - top), int(right - left))
    return offset, shape


def _sensor_crop(tags: Tags, visible: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    origin = tags.get("DefaultCropOrigin", np.zeros(2))
    size = tags.get("DefaultCropSize", np.zeros(2))
    if is_dng(tags) and origin.shape == size.shape == (2,) and np.isfinite([origin, size]).all():
        offset, shape = np.rint(origin[::-1]).astype(int), np.rint(size[::-1]).astype(int)
        if (offset >= 0).all() and (shape >= 2).all() and (offset + shape <= visible).all():
            return offset, (int(shape[0]), int(shape[1]))
    return np.zeros(2, int), visible


# Levels, float32 counts. ``offset`` is the crop's (top, left) within the active area


def mosaic_levels(tags: Tags, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the levels of a mosaic.

    Parameters
    ----------
    tags : from `read_tags`.
    offset : (2,), the crop's top and left in the active area.

    Returns
    -------
    black : (rows, columns) float32 counts, at least 2x2, repeating from the crop's first sample.
    white : (2, 2) float32 counts, repeating likewise.
    """
    levels = tags.get("BlackLevel", np.zeros(1))
    likely = (2, 2) if levels.size == 4 else (1, 1)
    rows, columns = (int(number) for number in tags.get("BlackLevelRepeatDim", likely))
    if max(rows, columns) > _LARGEST_TILE:
        raise ValueError(f"{rows}x{columns} black levels")
    if levels.size in (1, 4) and rows * columns != levels.size:  # some writers contradict themselves
        rows, columns = likely
    tile = np.roll(levels.reshape(rows, columns), -offset, axis=(0, 1))  # repeats from the active area
    tile = np.tile(tile, (2 if rows == 1 else 1, 2 if columns == 1 else 1))
    return tile.astype(np.float32), np.full((2, 2), _white_level(tags)[0], np.float32)


def subtract_deltas(samples: np.ndarray, tags: Tags, offset: np.ndarray) -> np.ndarray:
    """Subtract what BlackLevelDeltaV and -H add to the black level of each row and column of the active area.

    Parameters
    ----------
    samples : (H, W) counts of the crop.
    tags : from `read_tags`.
    offset : (2,), the crop's top and left in the active area.

    Returns
    -------
    (H, W), ``samples`` themselves if nothing is added, else float32.
    """
    for axis, tag in enumerate(("BlackLevelDeltaV", "BlackLevelDeltaH")):
        if tag in tags and tags[tag].any():
            if not np.isfinite(tags[tag]).all():
                raise ValueError(f"{tag} holds a value that is not a number")
            deltas = tags[tag][offset[axis] :][: samples.shape[axis]].astype(np.float32)
            samples = samples - np.expand_dims(deltas, 1 - axis)
    return samples


def linear_levels(tags: Tags) -> tuple[np.ndarray, np.ndarray]:
    """Return black (3,) and white (3,) of a linear DNG; UnsupportedRawError if its black level varies."""
    black = tags.get("BlackLevel", np.zeros(1))
    if black.size % 3 == 0 and (black.reshape(-1, 3) == black[:3]).all():  # a tile of equal levels
        black = black[:3]
    deltas = [tags[tag].any() for tag in ("BlackLevelDeltaH", "BlackLevelDeltaV") if tag in tags]
    if black.size not in (1, 3) or any(deltas):
        raise UnsupportedRawError(
            "a linear DNG whose black level varies over the picture is not supported; save it with"
            " black subtracted"
        )
    return np.resize(black, 3).astype(np.float32), np.resize(_white_level(tags), 3).astype(np.float32)


def _white_level(tags: Tags) -> np.ndarray:
    return tags["WhiteLevel"] if "WhiteLevel" in tags else 2.0 ** tags["BitsPerSample"] - 1


def text(tags: Tags, name: str) -> str:
    """The text of a tag, whose type may be ASCII or BYTE, and its letters in an unknown encoding; "" if it is
    missing."""
    value = tags.get(name, "")
    if isinstance(value, np.ndarray):
        return value.astype(np.uint8).tobytes().split(b"\0")[0].decode("utf-8", "replace")
    return str(value)

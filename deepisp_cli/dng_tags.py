"""The TIFF tags of a raw file, above all a DNG: read from it, and what kind of file they make it.

LibRaw loses some of them, and rounds others. Their meaning: Adobe DNG Specification 1.7.
"""

import logging
from collections.abc import Mapping
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import tifffile
from tifffile import COMPRESSION, DATATYPE, PHOTOMETRIC, SAMPLEFORMAT

tifffile.logger().addHandler(logging.NullHandler())  # a damaged file is reported once, by us

Tags = Mapping[str, Any]
"""Values by tag name, as `read_tags` returns them."""

_OF_RAW_DATA = (PHOTOMETRIC.CFA, PHOTOMETRIC.LINEAR_RAW)
_MOST_PAGES = 100  # directories, of which files have a few
DEFLATE = (COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE)  # one and the same
UNKNOWN_CAMERA = "unknown"  # UniqueCameraModel, which must be there
SIGNATURES = ("CameraCalibrationSignature", "ProfileCalibrationSignature")
_OF_EACH_LIGHT = (
    "ColorMatrix", "ForwardMatrix", "CameraCalibration", "CalibrationIlluminant", "IlluminantData",
    "ProfileHueSatMapData",
)  # fmt: skip
_MATRICES = {f"{name}{number}" for name in _OF_EACH_LIGHT for number in "123"} | {
    "AnalogBalance", *SIGNATURES, "ProfileHueSatMapDims", "ProfileHueSatMapEncoding", "ProfileLookTableDims",
    "ProfileLookTableData", "ProfileLookTableEncoding", "ProfileName", "ProfileCopyright",
    "ProfileEmbedPolicy", "AsShotProfileName",
}  # fmt: skip
_LOOK = {
    "UniqueCameraModel", "LocalizedCameraModel", "CameraSerialNumber", "BaselineExposure",
    "BaselineExposureOffset", "DefaultBlackRender", "ProfileToneCurve", "ProfileDynamicRange",
    "ProfileGroupName", "ColorimetricReference",
}  # fmt: skip
_COLOR_MATRICES = (50721, 50722, 52531)
_ILLUMINANT_DATA_3 = 52535  # which tifffile does not name
_DYNAMIC_RANGE = 52551
_STRUCTURES = {52533: 2, 52534: 2, _ILLUMINANT_DATA_3: 2, _DYNAMIC_RANGE: 4}  # bytes that are SHORTs
_RATIONALS = (DATATYPE.RATIONAL, DATATYPE.SRATIONAL)
# What the first directory says about its own data, usually a preview, and not about the raw data.
_OWN_TAGS = {
    "PhotometricInterpretation", "Compression", "SampleFormat", "BitsPerSample", "SamplesPerPixel",
    "StripOffsets", "StripByteCounts", "TileOffsets", "TileByteCounts", "ImageWidth", "ImageLength",
    "Predictor", "RowsPerStrip", "TileWidth", "TileLength",
}  # fmt: skip


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
            tags = {_name(tag): _value(tag) for tag in tif.pages.first.tags if tag.name not in _OWN_TAGS}
            raw = raw_page(tif)
            own = {} if raw is None else {_name(tag): _value(tag) for tag in raw.tags}
            if first_number(tags, "Orientation", 1) != 1:
                own.pop("Orientation", None)  # belongs into the first; what is here may be TIFF's default
            return tags | own
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
        return float(first / others[0] if self.type in _RATIONALS else first)

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


def _little_endian(tag: tifffile.TiffTag) -> bytes:
    """A value of numbers in bytes, which are in the file's byte order: a few SHORTs, then LONGs."""
    value, start = bytes(tag.value), _STRUCTURES[tag.code]
    if tag.parent.tiff.byteorder == "<" or len(value) < start or (len(value) - start) % 4:
        return value
    shorts, longs = np.frombuffer(value[:start], ">u2"), np.frombuffer(value[start:], ">u4")
    return shorts.astype("<u2").tobytes() + longs.astype("<u4").tobytes()


def _stored(tag: tifffile.TiffTag) -> RawTag:
    if tag.code in _STRUCTURES and isinstance(tag.value, bytes):
        return RawTag(tag.code, int(tag.dtype), tag.count, _little_endian(tag))
    if not isinstance(tag.value, str):
        return RawTag(tag.code, int(tag.dtype), tag.count, tag.value)
    text = tag.value.encode("utf-8", "replace") + b"\0"
    return RawTag(tag.code, int(tag.dtype), len(text), text)


def _makes_sense(tag: tifffile.TiffTag) -> bool:
    """Whether the tag has a value, of a type that TIFF 6.0 knows, and its numbers are numbers."""
    if not DATATYPE.BYTE <= tag.dtype <= DATATYPE.DOUBLE or tag.value is None:
        return False
    value = _value(tag)
    return bool(np.isfinite(value).all() and value.size) if isinstance(value, np.ndarray) else bool(value)


def written_here(tags: Tags) -> bool:
    """Whether this program wrote the file: Software is its name and version, and the model's name."""
    return str(tags.get("Software", "")).startswith("deepisp ")


def restored_strength(tags: Tags) -> float:
    """NoiseReductionApplied of restored raws that this program wrote; 0 for others."""
    share = float(first_number(tags, "NoiseReductionApplied", 0.0))  # 0/0: unknown
    return share if written_here(tags) and 0 < share <= 1 else 0.0


def raw_page(tif: tifffile.TiffFile) -> tifffile.TiffPage | None:
    """Return the directory of the largest raw image."""
    # damaged, each may point to itself as the next: tifffile would follow that forever
    pages: list[Any] = [
        page
        for top in islice(tif.pages, _MOST_PAGES)
        for page in (top, *islice(top.pages or (), _MOST_PAGES))
    ]
    raws = [page for page in pages if page.photometric in _OF_RAW_DATA and not page.subfiletype]
    return max(raws, key=lambda page: page.imagewidth * page.imagelength, default=None)


def _value(tag: tifffile.TiffTag) -> Any:
    value = tag.value
    if isinstance(value, str | dict):
        return value
    if isinstance(value, bytes):
        return np.frombuffer(_little_endian(tag) if tag.code in _STRUCTURES else value, np.uint8)
    numbers = np.atleast_1d(np.asarray(value, np.float64))
    if tag.dtype not in _RATIONALS:
        return numbers
    if numbers.size == tag.count > 1:  # of more than a thousand, tifffile reads the first half
        file, word = tag.parent.filehandle, "I" if tag.dtype == DATATYPE.RATIONAL else "i"
        file.seek(tag.valueoffset)
        numbers = file.read_array(tag.parent.tiff.byteorder + word, 2 * tag.count).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return numbers[0::2] / numbers[1::2]


# What kind of file it is


def is_dng(tags: Tags) -> bool:
    """Whether they are a DNG's."""
    return "DNGVersion" in tags


def is_linear(tags: Tags) -> bool:
    """Whether it is a DNG with all colours at each pixel."""
    return _is_linear_raw(tags) and first_number(tags, "SamplesPerPixel", 1) > 1


def is_monochrome(tags: Tags) -> bool:
    """Whether it is a DNG without colours."""
    return _is_linear_raw(tags) and first_number(tags, "SamplesPerPixel", 1) == 1


def _is_linear_raw(tags: Tags) -> bool:
    return is_dng(tags) and first_number(tags, "PhotometricInterpretation", 0) == PHOTOMETRIC.LINEAR_RAW


def is_floating(tags: Tags) -> bool:
    """Whether the samples are floating-point numbers, as in merged exposures."""
    return first_number(tags, "SampleFormat", 1) == SAMPLEFORMAT.IEEEFP


def stored_size(tags: Tags) -> tuple[float, float]:
    """(height, width) of the raw image as stored, margins included; 0: not stated."""
    return first_number(tags, "ImageLength", 0), first_number(tags, "ImageWidth", 0)


class Parts(NamedTuple):
    """The tiles or strips that raw data is stored in."""

    kind: str  # "tile" or "strip"
    offsets: np.ndarray
    rows: float
    columns: float


def stored_parts(tags: Tags) -> Parts | None:
    """How the raw data is divided; None if the tags do not say where it is. One strip is all of it, whatever
    its tags say."""
    height, width = stored_size(tags)
    if "TileOffsets" in tags:
        sides = first_number(tags, "TileLength", height), first_number(tags, "TileWidth", width)
        return Parts("tile", tags["TileOffsets"], *sides)
    if "StripOffsets" not in tags:
        return None
    offsets = tags["StripOffsets"]
    rows = min(first_number(tags, "RowsPerStrip", height), height) if len(offsets) > 1 else height
    return Parts("strip", offsets, rows, width)


def first_number(tags: Tags, tag: str, default: float) -> float:
    """The first of a tag's numbers; ``default`` if it is missing."""
    return tags[tag][0] if tag in tags else default


def cfa_pattern(tags: Tags) -> np.ndarray | None:
    """Return the CFA's colours (n, n) from the first stored sample, margins included: 0 red, 1 green, 2 blue.
    None for a linear DNG, (1, 1) for a monochrome one."""
    if is_linear(tags):
        return None
    if is_monochrome(tags) or "CFAPattern" not in tags:
        return np.zeros((1, 1), np.uint8)
    rows, columns = (int(number) for number in tags.get("CFARepeatPatternDim", (2, 2)))
    top, left = tags.get("ActiveArea", np.zeros(4)).astype(int)[:2]
    return np.roll(tags["CFAPattern"].astype(np.uint8).reshape(rows, columns), (top, left), (0, 1))


def camera_model(tags: Tags) -> str:
    """Model, or UniqueCameraModel, which a DNG states even without it; "" if that tells nothing, either."""
    unique = text(tags, "UniqueCameraModel")
    return text(tags, "Model") or ("" if unique == UNKNOWN_CAMERA else unique)


def text(tags: Tags, name: str) -> str:
    """The text of a tag, whose type may be ASCII or BYTE, and its letters in an unknown encoding; "" if it is
    missing."""
    value = tags.get(name, "")
    if isinstance(value, np.ndarray):
        return value.astype(np.uint8).tobytes().split(b"\0")[0].decode("utf-8", "replace")
    return str(value)

"""The source's metadata: camera, lens, exposure, time, place, authors. The only user of exifread.

Only what remains true of the developed picture is carried over. How the raw is stored (strips, sizes,
orientation, thumbnails), how to develop it (DNG tags, colour space) and maker notes are left behind.
"""

import contextlib
import inspect
import logging
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from io import BytesIO
from typing import Any, BinaryIO

import exifread
from PIL.ExifTags import GPS
from PIL.ExifTags import Base as Tag

from deepisp_cli.exif_values import (
    LARGE_SENSITIVITIES,
    LONG_SENSITIVITIES,
    READERS,
    Value,
    parse_date,
    parse_offset,
    positive,
    to_comment,
)

# The kind of each tag's value, which has a reader in `exif_values`. Tags: EXIF 2.32, sections 4.6.4 to 4.6.6.
IMAGE_TAGS: dict[int, str] = {
    **dict.fromkeys((Tag.ImageDescription, Tag.Make, Tag.Model, Tag.Artist), "text"),
    Tag.Copyright: "copyright",
    Tag.DateTime: "date",
    **dict.fromkeys((Tag.Rating, Tag.RatingPercent), "number"),
    # what people can type in Windows Explorer, UTF-16
    **dict.fromkeys((Tag.XPTitle, Tag.XPComment, Tag.XPAuthor, Tag.XPKeywords, Tag.XPSubject), "bytes"),
}
EXIF_TAGS: dict[int, str] = {
    **dict.fromkeys((Tag.DateTimeOriginal, Tag.DateTimeDigitized), "date"),
    **dict.fromkeys((Tag.OffsetTime, Tag.OffsetTimeOriginal, Tag.OffsetTimeDigitized), "zone"),
    **dict.fromkeys((Tag.SubsecTime, Tag.SubsecTimeOriginal, Tag.SubsecTimeDigitized), "text"),
    **dict.fromkeys((Tag.ExposureTime, Tag.FNumber, Tag.FocalLength, Tag.DigitalZoomRatio), "ratio"),
    **dict.fromkeys((Tag.ShutterSpeedValue, Tag.ApertureValue, Tag.MaxApertureValue), "ratio"),
    **dict.fromkeys((Tag.BrightnessValue, Tag.ExposureBiasValue, Tag.SubjectDistance), "ratio"),
    **dict.fromkeys((Tag.ExposureProgram, Tag.ExposureMode, Tag.MeteringMode), "number"),
    **dict.fromkeys((Tag.ISOSpeedRatings, Tag.SensitivityType, *LONG_SENSITIVITIES), "number"),
    **dict.fromkeys((Tag.LightSource, Tag.Flash, Tag.WhiteBalance, Tag.GainControl), "number"),
    **dict.fromkeys((Tag.FocalLengthIn35mmFilm, Tag.SubjectDistanceRange), "number"),
    **dict.fromkeys((Tag.SceneCaptureType, Tag.SensingMethod, Tag.CompositeImage), "number"),
    **dict.fromkeys((Tag.FileSource, Tag.SceneType), "bytes"),  # a digital camera, photographed directly
    **dict.fromkeys((Tag.AmbientTemperature, Tag.Humidity, Tag.Pressure), "ratio"),
    **dict.fromkeys((Tag.WaterDepth, Tag.Acceleration, Tag.CameraElevationAngle), "ratio"),
    Tag.UserComment: "comment",
    **dict.fromkeys((Tag.ImageUniqueID, Tag.CameraOwnerName, Tag.BodySerialNumber), "text"),
    **dict.fromkeys((Tag.LensMake, Tag.LensModel, Tag.LensSerialNumber), "text"),
    Tag.LensSpecification: "ratio",
}
GPS_KINDS = {
    "bytes": (GPS.GPSVersionID,),
    "byte": (GPS.GPSAltitudeRef, GPS.GPSDifferential),
    "comment": (GPS.GPSProcessingMethod, GPS.GPSAreaInformation),
    "ratio": (
        *(GPS.GPSLatitude, GPS.GPSLongitude, GPS.GPSAltitude, GPS.GPSTimeStamp, GPS.GPSDOP),
        *(GPS.GPSSpeed, GPS.GPSTrack, GPS.GPSImgDirection, GPS.GPSHPositioningError),
        *(GPS.GPSDestLatitude, GPS.GPSDestLongitude, GPS.GPSDestBearing, GPS.GPSDestDistance),
    ),
}
GPS_TAGS: dict[int, str] = {
    **dict.fromkeys(GPS, "text"),
    **{tag: kind for kind, tags in GPS_KINDS.items() for tag in tags},
}
DNG_TWINS: dict[int, int] = {
    Tag.CameraSerialNumber: Tag.BodySerialNumber,
    Tag.LensInfo: Tag.LensSpecification,
}

ZERO_IS_UNKNOWN = (Tag.ExposureTime, Tag.FNumber, Tag.ISOSpeedRatings, Tag.FocalLength)
# Where these are zero LibRaw takes the APEX value, which is a placeholder, too: 0 of it are 1 s and f/1.
ZERO_MEANS_APEX = (Tag.ExposureTime, Tag.FNumber)
DIRECTORIES = {"EXIF": Tag.ExifOffset, "GPS": Tag.GPSInfo}

MAX_READS = 50_000  # a sound file needs a few thousand; a damaged one could keep exifread busy for hours
MAX_VALUE = 1 << 16
HEADER = 1 << 20  # where JPEG, Canon CR3 and Minolta MRW keep their EXIF

_QUICK = {"details": False}  # no maker notes
if "extract_thumbnail" in inspect.signature(exifread.process_file).parameters:  # exifread 3.1 and later
    _QUICK["extract_thumbnail"] = False
logging.getLogger("exifread").addHandler(logging.NullHandler())  # keeps warnings about bad files off stderr
logging.getLogger("exifread").propagate = False


@dataclass(frozen=True)
class Metadata:
    """Values by IFD and EXIF tag number; the usual ones also by name (None or "" where unknown)."""

    image: Mapping[int, Value] = field(default_factory=dict)
    exif: Mapping[int, Value] = field(default_factory=dict)
    gps: Mapping[int, Value] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What could not be read and was dropped, one sentence each."""

    @property
    def captured(self) -> datetime | None:
        """When the picture was taken, by the camera's clock; with a time zone if the source names one."""
        dates = (  # original, digitized, modified: date, offset, sub-seconds
            (self.exif, Tag.DateTimeOriginal, Tag.OffsetTimeOriginal, Tag.SubsecTimeOriginal),
            (self.exif, Tag.DateTimeDigitized, Tag.OffsetTimeDigitized, Tag.SubsecTimeDigitized),
            (self.image, Tag.DateTime, Tag.OffsetTime, Tag.SubsecTime),
        )
        for ifd, tag, offset_tag, fraction_tag in dates:
            moment = parse_date(str(ifd.get(tag, "")))
            if moment is not None:
                digits = str(self.exif.get(fraction_tag, "")).strip()
                if digits.isascii() and digits.isdigit():
                    moment = moment.replace(microsecond=int(digits[:6].ljust(6, "0")))
                return moment.replace(tzinfo=parse_offset(str(self.exif.get(offset_tag, ""))))
        return None

    @property
    def camera(self) -> str:
        """Make and model; the make is left out if the model repeats it ("Canon", "Canon EOS R5")."""
        make, model = str(self.image.get(Tag.Make, "")), str(self.image.get(Tag.Model, ""))
        brand = make.partition(" ")[0]
        repeated = model.lower().startswith(brand.lower())
        return model if repeated else f"{make} {model}".strip()

    @property
    def lens(self) -> str:
        """The lens's name."""
        return str(self.exif.get(Tag.LensModel, ""))

    @property
    def exposure_time(self) -> float | None:
        """Seconds."""
        return positive(self.exif.get(Tag.ExposureTime))

    @property
    def f_number(self) -> float | None:
        """Focal length over aperture diameter."""
        return positive(self.exif.get(Tag.FNumber))

    @property
    def iso(self) -> int | None:
        """Sensitivity. The old 16-bit tag ends at 65535; beyond that one of its 32-bit successors has it."""
        short = positive(self.exif.get(Tag.ISOSpeedRatings)) or 65535
        tags = (Tag.ISOSpeedRatings,) if short < 65535 else (*LARGE_SENSITIVITIES, Tag.ISOSpeedRatings)
        found = (positive(self.exif.get(tag)) for tag in tags)
        return next((int(value) for value in found if value), None)

    @property
    def focal_length(self) -> float | None:
        """Millimetres."""
        return positive(self.exif.get(Tag.FocalLength))


def read_metadata(
    source: BinaryIO, name: str, *, preview: bytes | None = None, fallback: Mapping[str, object] | None = None
) -> Metadata:
    """Collect the source's metadata. Never fails: a raw with broken EXIF is still developed.

    Parameters
    ----------
    source : seekable binary file
        The whole raw file; its position afterwards is undefined.
    name : str
        The file's name in notes.
    preview : bytes, optional
        The embedded preview JPEG; its EXIF fills in what the source lacks.
    fallback : mapping, optional
        LibRaw's values, for what both lack: ``make``, ``model``, ``artist``, ``lens``, ``iso``,
        ``exposure_time`` (s), ``f_number``, ``focal_length`` (mm), ``timestamp`` (datetime, camera's clock).

    Returns
    -------
    Metadata
    """
    image: dict[int, Value] = {}
    exif: dict[int, Value] = {}
    gps: dict[int, Value] = {}
    notes: list[str] = []
    refused: set[int] = set()
    unknown: set[int] = set()
    files = {"EXIF": source, "EXIF of the preview": BytesIO(preview or b"")}
    for what, file in files.items():
        try:
            for index, stream in enumerate(_tiff_streams(file)):
                found, lost = _read_tiff(stream, is_gps=index == 2)
                twins = {exif_tag: found["Image"].get(dng_tag) for dng_tag, exif_tag in DNG_TWINS.items()}
                faults = {
                    **_add(image, IMAGE_TAGS, {**found["EXIF"], **found["Image"]}),
                    **_add(exif, EXIF_TAGS, {**found["Image"], **found["EXIF"]}),
                    **_add(gps, GPS_TAGS, found["GPS"]),
                    **_add(exif, EXIF_TAGS, twins),
                }
                refused |= faults.keys()
                unknown |= {tag for tag in ZERO_MEANS_APEX if _is_zero(found["EXIF"].get(tag))}
                notes += [f"{name}: EXIF tag 0x{tag:04X} dropped ({fault})" for tag, fault in faults.items()]
                notes += [
                    f"{name}: its {directory} directory is damaged and was dropped" for directory in lost
                ]
        except Exception as error:  # exifread raises all sorts on damaged files, and none of it is fatal
            notes.append(f"{name}: {what} cannot be read ({type(error).__name__}: {error})")
    _add_fallback(image, exif, fallback or {}, refused | unknown)
    _settle_iso(exif)
    return Metadata(image, exif, gps, tuple(dict.fromkeys(notes)))


def _tiff_streams(source: BinaryIO) -> list[BinaryIO]:
    """Find the TIFF structures that hold EXIF: one, or for Canon CR3 three (image, exif, GPS)."""
    source.seek(0)
    header = source.read(HEADER)
    if header[:2] in (b"II", b"MM"):
        return [source]
    if header.startswith(b"FUJIFILMCCD-RAW"):  # RAF: the offset of a whole JPEG, big-endian
        source.seek(int.from_bytes(header[84:88], "big"))
        header = source.read(HEADER)
    if header[:2] == b"\xff\xd8":
        return [BytesIO(header.partition(b"Exif\0\0")[2])]
    if header.startswith(b"\0MRM"):  # Minolta MRW: the block called TTW, after a name and a length of 4 bytes
        return [BytesIO(header.partition(b"\0TTW")[2][4:])]
    if header[4:11] == b"ftypcrx":
        return [BytesIO(header.partition(box)[2]) for box in (b"CMT1", b"CMT2", b"CMT4")]
    return []


class _BoundedReader:
    """The three methods that exifread uses, with limits on the number and size of reads."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._reads = 0
        self.tell = stream.tell
        self.seek = stream.seek

    def read(self, size: int = MAX_VALUE) -> bytes:
        self._reads += 1
        if self._reads > MAX_READS:
            raise ValueError("its directories never end")
        return self._stream.read(min(size, MAX_VALUE))


def _read_tiff(stream: BinaryIO, is_gps: bool) -> tuple[dict[str, dict[int, Any]], list[str]]:
    """Read a TIFF structure's values by IFD ("Image", "EXIF", "GPS") and tag number; and name the directories
    of which nothing could be read."""
    stream.seek(0)
    head = stream.read(4)
    found: dict[str, dict[int, Any]] = {"Image": {}, "EXIF": {}, "GPS": {}}
    if head[:2] not in (b"II", b"MM"):
        return found, []
    tags = exifread.process_file(_BoundedReader(stream), **_QUICK)  # type: ignore[arg-type]
    for key, tag in tags.items():
        ifd = key.partition(" ")[0]
        if ifd in found and hasattr(tag, "values"):
            found["GPS" if is_gps else ifd].setdefault(tag.tag, tag.values)
    order = "<" if head[:2] == b"II" else ">"
    pointers = {directory: found["Image"].get(tag) for directory, tag in DIRECTORIES.items()}
    lost = [
        directory
        for directory, pointer in pointers.items()
        if pointer and not found[directory] and not _is_empty(stream, pointer[0])
    ]
    with contextlib.suppress(struct.error, TypeError, ValueError):  # damaged; keep what exifread has found
        first = struct.unpack(order + "I", _read_at(stream, 4, 4))
        found["Image"].update(_find(stream, order, first[0], Tag.Copyright))
        for comment in _find(stream, order, (pointers["EXIF"] or first)[0], Tag.UserComment).values():
            found["EXIF"][Tag.UserComment] = to_comment(comment, order)
    return found, lost


def _is_empty(stream: BinaryIO, pointer: Any) -> bool:
    """Whether a directory has no entries; one whose pointer is not an offset is not empty but damaged."""
    return isinstance(pointer, int) and pointer >= 0 and _read_at(stream, pointer, 2) == b"\0\0"


def _find(stream: BinaryIO, order: str, ifd: int, wanted: int) -> dict[int, bytes]:
    """The bytes of a long value. exifread leaves out UserComment and cuts Copyright off at its first zero."""
    (count,) = struct.unpack(order + "H", _read_at(stream, ifd, 2))
    for tag, _, size, offset in struct.iter_unpack(order + "HHII", _read_at(stream, ifd + 2, 12 * count)):
        if tag == wanted and size > 4:
            return {tag: _read_at(stream, offset, min(size, MAX_VALUE))}
    return {}


def _read_at(stream: BinaryIO, offset: int, size: int) -> bytes:
    stream.seek(offset)
    return stream.read(size)


def _add(target: dict[int, Value], kinds: Mapping[int, str], values: Mapping[int, Any]) -> dict[int, str]:
    """Convert the values whose tags are in ``kinds`` and add those that ``target`` lacks.

    Returns what is wrong with values that make no sense.
    """
    faults: dict[int, str] = {}
    for tag, kind in kinds.items():
        if tag in target or values.get(tag) is None:
            continue
        try:
            value = READERS[kind](values[tag])
        except (ArithmeticError, AttributeError, TypeError, ValueError) as error:  # of another type
            faults[tag] = str(error)
        else:
            if value is not None and (tag not in ZERO_IS_UNKNOWN or positive(value)):
                target[tag] = value
    return faults


def _is_zero(values: Any) -> bool:
    """Whether a tag is there, but zero."""
    return values is not None and not any(values)


def _add_fallback(
    image: dict[int, Value], exif: dict[int, Value], known: Mapping[str, object], refused: set[int]
) -> None:
    """Fill in what LibRaw knows. It says 0 or "" for unknown, and turns even month 13 into a date: tags that
    were ``refused`` stay unknown."""
    texts = (
        ("make", image, Tag.Make),
        ("model", image, Tag.Model),
        ("artist", image, Tag.Artist),
        ("lens", exif, Tag.LensModel),
    )
    for key, ifd, tag in texts:
        text = str(known.get(key) or "").strip()
        if text:
            ifd.setdefault(tag, text)
    ratios = (
        ("exposure_time", Tag.ExposureTime, 100_000),
        ("f_number", Tag.FNumber, 100),
        ("focal_length", Tag.FocalLength, 100),
    )
    for key, tag, steps in ratios:
        ratio = positive(known.get(key))
        if ratio and tag not in refused:
            exif.setdefault(tag, Fraction(ratio).limit_denominator(steps))
    iso = positive(known.get("iso"))
    if iso and iso < 2**32 and not (exif.keys() | refused) & {Tag.ISOSpeedRatings, *LARGE_SENSITIVITIES}:
        exif[Tag.ISOSpeedRatings] = round(iso)
    moment = known.get("timestamp")
    if isinstance(moment, datetime) and Tag.DateTimeOriginal not in refused:
        exif.setdefault(Tag.DateTimeOriginal, f"{moment:%Y:%m:%d %H:%M:%S}")


def _settle_iso(exif: dict[int, Value]) -> None:
    """Move a sensitivity beyond 16 bits into the tag's 32-bit successor, as EXIF specifies."""
    iso = exif.get(Tag.ISOSpeedRatings)
    if isinstance(iso, int) and iso > 65535:
        exif[Tag.ISOSpeedRatings] = 65535
        for tag, value in ((Tag.SensitivityType, 2), (Tag.RecommendedExposureIndex, iso)):  # 2: that one
            exif.setdefault(tag, value)

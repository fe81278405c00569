"""The source's metadata: camera, lens, exposure, time, place, authors, and what people wrote about it (XMP).

Only what remains true of the developed picture is carried over. How the raw is stored (strips, sizes,
orientation, thumbnails), how to develop it (DNG tags, colour space) and maker notes are left behind.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from io import BytesIO
from typing import Any, BinaryIO

from PIL.ExifTags import GPS
from PIL.ExifTags import Base as Tag

from deepisp_cli.exif_corrections import correct_place, correct_time
from deepisp_cli.exif_reader import read_tiff, tiff_streams, xmp_packet
from deepisp_cli.exif_values import (
    LARGE_SENSITIVITIES,
    LONG_SENSITIVITIES,
    READERS,
    SIGNED,
    Value,
    parse_date,
    parse_offset,
    positive,
)
from deepisp_cli.xmp import LENS, gather, values_in

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
    **dict.fromkeys((Tag.ApertureValue, Tag.MaxApertureValue, Tag.SubjectDistance), "ratio"),
    **dict.fromkeys((Tag.ExposureProgram, Tag.ExposureMode, Tag.MeteringMode), "number"),
    **dict.fromkeys((Tag.ISOSpeedRatings, Tag.SensitivityType, *LONG_SENSITIVITIES), "number"),
    **dict.fromkeys((Tag.LightSource, Tag.Flash, Tag.WhiteBalance, Tag.GainControl), "number"),
    **dict.fromkeys((Tag.FocalLengthIn35mmFilm, Tag.SubjectDistanceRange), "number"),
    **dict.fromkeys((Tag.SceneCaptureType, Tag.SensingMethod), "number"),
    **dict.fromkeys((Tag.CompositeImage, Tag.CompositeImageCount), "number"),
    **dict.fromkeys((Tag.FileSource, Tag.SceneType), "bytes"),  # a digital camera, photographed directly
    **dict.fromkeys((Tag.Humidity, Tag.Pressure, Tag.Acceleration), "ratio"),
    **dict.fromkeys((Tag.FlashEnergy, Tag.ExposureIndex), "ratio"),
    Tag.UserComment: "comment",
    **dict.fromkeys((Tag.ImageUniqueID, Tag.CameraOwnerName, Tag.BodySerialNumber), "text"),
    **dict.fromkeys((Tag.LensMake, Tag.LensModel, Tag.LensSerialNumber), "text"),
    **dict.fromkeys((0xA436, 0xA437), "text"),  # ImageTitle, Photographer: EXIF 3.0
    Tag.LensSpecification: "ratio",
    **dict.fromkeys(SIGNED, "signed ratio"),
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
CARRIED = IMAGE_TAGS.keys() | EXIF_TAGS.keys() | GPS_TAGS.keys() | DNG_TWINS.keys()

# What the XMP says, too: the tags that then say the same, and those that go.
XMP_TWINS: dict[str, int] = {
    "dc:description": Tag.ImageDescription,
    "dc:creator": Tag.Artist,
    "dc:rights": Tag.Copyright,
}
OUTDATED_BY_XMP: dict[str, tuple[int, ...]] = {
    "dc:title": (Tag.XPTitle,),
    "dc:description": (Tag.XPComment, Tag.XPSubject),
    "dc:subject": (Tag.XPKeywords,),
    "dc:creator": (Tag.XPAuthor,),
    "xmp:Rating": (Tag.Rating, Tag.RatingPercent),
}

OF_COMPANIES = (  # the ends of their names
    *("corporation", "corp", "company", "co", "ltd", "inc", "ag", "gmbh"),
    *("imaging", "camera", "optical", "electric", "electronics", "photo", "computer"),
)
ZERO_IS_UNKNOWN = (Tag.ExposureTime, Tag.FNumber, Tag.ISOSpeedRatings, Tag.FocalLength)
# Where these are zero LibRaw takes the APEX value, which is a placeholder, too: 0 of it are 1 s and f/1.
ZERO_MEANS_APEX = (Tag.ExposureTime, Tag.FNumber)


@dataclass(frozen=True)
class Metadata:
    """Values by IFD and EXIF tag number; the usual ones also by name (None or "" where unknown)."""

    image: Mapping[int, Value] = field(default_factory=dict)
    exif: Mapping[int, Value] = field(default_factory=dict)
    gps: Mapping[int, Value] = field(default_factory=dict)
    xmp: bytes = b""
    """What people wrote about the picture, a packet of XMP from `xmp.gather`; empty if nothing."""
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
    def model(self) -> str:
        """The camera's model alone."""
        return str(self.image.get(Tag.Model, ""))

    @property
    def camera(self) -> str:
        """Make and model; the make without "CORPORATION" and the like, and left out if the model repeats it
        ("Canon", "Canon EOS R5")."""
        make, model = str(self.image.get(Tag.Make, "")), self.model
        brand, *words = make.replace(",", " ").split() or [""]
        while words and words[-1].strip(".").lower() in OF_COMPANIES:
            words.pop()
        repeated = any(model.lower().startswith(word.lower()) for word in (brand, *words[-1:]))
        return model if repeated else " ".join((brand, *words, model)).strip()

    @property
    def lens(self) -> str:
        """The lens's name; without one its focal lengths and apertures, as "18-70mm f/3.5-4.5"."""
        name = str(self.exif.get(Tag.LensModel, ""))
        stated = self.exif.get(Tag.LensSpecification)
        if name or not isinstance(stated, tuple) or len(stated) != 4:
            return name
        numbers = [f"{round(float(value), 1):g}" if positive(value) else "" for value in stated]
        ranges = ("-".join(dict.fromkeys(filter(None, numbers[start : start + 2]))) for start in (0, 2))
        focal_length, aperture = ranges
        parts = (f"{focal_length}mm" * bool(focal_length), f"f/{aperture}" * bool(aperture))
        return " ".join(filter(None, parts))

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

    @property
    def rating(self) -> int | None:
        """0 to 5 stars; -1: rejected, which EXIF cannot say."""
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            return int(float(str(values_in(self.xmp).get("xmp:Rating") or self.image.get(Tag.Rating))))
        return None


def read_metadata(
    source: BinaryIO,
    name: str,
    *,
    preview: bytes | None = None,
    fallback: Mapping[str, object] | None = None,
    sidecars: Sequence[tuple[str, bytes]] = (),
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
    sidecars : (name, contents) of XMP files beside it, the more specific ones first.

    Returns
    -------
    Metadata
    """
    image: dict[int, Value] = {}
    exif: dict[int, Value] = {}
    gps: dict[int, Value] = {}
    notes: list[str] = []
    refused: set[int] = set()
    files = {"EXIF": source, "EXIF of the preview": BytesIO(preview or b"")}
    for what, file in files.items():
        try:
            for index, stream in enumerate(tiff_streams(file)):
                found, lost, cut_off = read_tiff(stream, is_gps=index == 2)
                if file is not source:
                    _drop_made_up(found)
                twins = {exif_tag: found["Image"].get(dng_tag) for dng_tag, exif_tag in DNG_TWINS.items()}
                faults = {
                    **_add(image, IMAGE_TAGS, {**found["EXIF"], **found["Image"]}),
                    **_add(exif, EXIF_TAGS, {**found["Image"], **found["EXIF"]}),
                    **_add(gps, GPS_TAGS, found["GPS"]),
                    **_add(exif, EXIF_TAGS, twins),
                    **{tag: "cut off" for tag in cut_off if tag in CARRIED},
                }
                refused |= faults.keys()
                refused |= {tag for tag in ZERO_MEANS_APEX if _is_zero(found["EXIF"].get(tag))}
                notes += [f"{name}: EXIF tag 0x{tag:04X} dropped ({fault})" for tag, fault in faults.items()]
                notes += [
                    f"{name}: its {directory} directory is damaged and was dropped" for directory in lost
                ]
        except Exception as error:  # exifread raises all sorts on damaged files, and none of it is fatal
            notes.append(f"{name}: {what} cannot be read ({type(error).__name__}: {error})")
    _add_fallback(image, exif, fallback or {}, refused)
    if not any(map(str.isalnum, str(exif.get(Tag.LensModel)))):
        exif.pop(Tag.LensModel, None)  # "----": a lens that the camera does not know
    _settle_iso(exif)
    embedded = b""
    try:
        embedded = xmp_packet(source)
    except OSError as error:
        notes.append(f"{name}: XMP cannot be read ({error})")
    located = {GPS.GPSLatitude, GPS.GPSLongitude} <= gps.keys()
    xmp = gather(name, embedded, sidecars, Tag.DateTimeOriginal in exif, located)
    _add_texts(image, xmp.texts)
    for key in LENS:
        if key in xmp.texts:
            exif.setdefault(Tag.LensModel, xmp.texts[key])
    notes += xmp.notes
    for what, ifd, correct in (("time", exif, correct_time), ("place", gps, correct_place)):
        try:
            correct(ifd, xmp.texts)
        except (ArithmeticError, ValueError):
            files_of_xmp = " or ".join([*(sidecar for sidecar, _ in sidecars), name])
            notes.append(f"{files_of_xmp}: the {what} in its XMP makes no sense and was dropped")
    return Metadata(image, exif, gps, xmp.packet, tuple(dict.fromkeys(notes)))


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


def _drop_made_up(found: dict[str, dict[int, Any]]) -> None:
    """LibRaw writes EXIF for a preview without any: its own idea of time and exposure, which ``fallback``
    states, too, a place with bytes of the header for N and E, an "unknown" make if it knows none, and Canon's
    "unknown" owner."""
    image = found["Image"]
    if str(image.get(Tag.Software, "")).startswith("dcraw "):
        found["EXIF"].clear()
        found["GPS"].clear()
        image.pop(Tag.DateTime, None)
        for tag in (Tag.Make, Tag.Artist):
            if image.get(tag) == "unknown":
                del image[tag]


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
        if text and text != "unknown":  # Canon's owner, if nobody has been entered
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
    moment = known.get("timestamp")  # of any of the file's dates
    dated = Tag.DateTime in image or Tag.DateTimeDigitized in exif
    if isinstance(moment, datetime) and not dated and Tag.DateTimeOriginal not in refused:
        exif.setdefault(Tag.DateTimeOriginal, f"{moment:%Y:%m:%d %H:%M:%S}")


def _add_texts(image: dict[int, Value], texts: Mapping[str, str]) -> None:
    """Put what the XMP says in place of what the EXIF says about the same."""
    for key in texts:
        for tag in OUTDATED_BY_XMP.get(key, ()):
            image.pop(tag, None)
    image |= {tag: texts[key] for key, tag in XMP_TWINS.items() if key in texts}
    with contextlib.suppress(ValueError):  # no number: EXIF has none, either
        rating = float(texts.get("xmp:Rating", "nan"))
        if rating in range(6):  # -1, rejected, is XMP's alone
            image[Tag.Rating] = int(rating)


def _settle_iso(exif: dict[int, Value]) -> None:
    """Move a sensitivity beyond 16 bits into the tag's 32-bit successor, as EXIF specifies."""
    iso = exif.get(Tag.ISOSpeedRatings)
    if isinstance(iso, int) and iso > 65535:
        exif[Tag.ISOSpeedRatings] = 65535
        for tag, value in ((Tag.SensitivityType, 2), (Tag.RecommendedExposureIndex, iso)):  # 2: that one
            exif.setdefault(tag, value)

"""EXIF values as readers deliver them → meaningful text, numbers and ratios, or None."""

import contextlib
import math
import re
from collections.abc import Callable
from datetime import datetime, timezone
from fractions import Fraction
from typing import Any

from PIL.ExifTags import GPS
from PIL.ExifTags import Base as Tag

Value = int | str | bytes | Fraction | float | tuple[int | Fraction | float, ...]
"""A text is ``str``, a rational a ``Fraction``; the EXIF rational 0/0, "unknown", is the float NaN."""

# Sensitivities of 32 bits, the successors of ISOSpeedRatings, and the ranges of one of them.
LARGE_SENSITIVITIES = (Tag.ISOSpeed, Tag.RecommendedExposureIndex, Tag.StandardOutputSensitivity)
LONG_SENSITIVITIES: tuple[int, ...] = (*LARGE_SENSITIVITIES, Tag.ISOSpeedLatitudeyyy, Tag.ISOSpeedLatitudezzz)

# Ratios that may be below zero.
SIGNED: tuple[int, ...] = (
    *(Tag.ShutterSpeedValue, Tag.BrightnessValue, Tag.ExposureBiasValue),
    *(Tag.AmbientTemperature, Tag.WaterDepth, Tag.CameraElevationAngle),
)


def _to_text(values: Any) -> str | None:
    """ASCII, in practice often UTF-8 or Windows' Latin-1; padded, and blank if the user has set nothing."""
    if not isinstance(values, str):
        values = _decoded(bytes(values))
    return values.split("\0")[0].strip() or None


def _decoded(text: bytes) -> str:
    for encoding in ("utf-8", "cp1252"):
        with contextlib.suppress(UnicodeDecodeError):
            return text.decode(encoding)
    return text.decode("latin-1")  # which every byte fits


def _to_copyright(values: Any) -> str | None:
    """The photographer's, a zero, the editor's (EXIF 2.32), joined: most programs stop at the zero."""
    parts = values.split("\0") if isinstance(values, str) else bytes(values).split(b"\0")
    return "; ".join(filter(None, map(_to_text, parts[:2]))) or None


def _to_zone(values: Any) -> str | None:
    text = _to_text(values) or ""
    return text if text.strip(": ") else None


def _to_date(values: Any) -> str | None:
    text = _to_text(values) or ""
    if not text.strip("0: "):
        return None
    moment = parse_date(text)
    if moment is not None:
        return f"{moment.year:04}:{moment:%m:%d %H:%M:%S}"  # %Y has no leading zeros on Linux
    try:
        return str(to_moment(text)[Tag.DateTimeOriginal])  # as XMP has it
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} is not a date") from error


def _to_number(values: Any) -> Value | None:
    if isinstance(values, str):
        raise ValueError(f"{values[:40]!r} is a text")
    numbers = tuple(int(value) for value in values)
    if not all(0 <= number < 2**32 for number in numbers):
        raise ValueError(f"{numbers} is out of range")
    return numbers[0] if len(numbers) == 1 else numbers or None


def _to_byte(values: Any) -> Value | None:
    number = _to_number(values)
    if number is not None and not (isinstance(number, int) and number < 256):
        raise ValueError(f"{number!r} is out of range")
    return number


def _to_ratio(values: Any) -> Value | None:
    ratios = _to_signed_ratio(values)
    if ratios is not None and min(ratios if isinstance(ratios, tuple) else (ratios,)) < 0:  # type: ignore
        raise ValueError("it is negative")
    return ratios


def _to_signed_ratio(values: Any) -> Value | None:
    ratios: list[Fraction | float] = []
    for value in values:
        number = value[0] if isinstance(value, tuple) else value  # exifread wraps floats
        if isinstance(number, float):
            number = Fraction(number) if math.isfinite(number) else None
        known = number is not None and number.denominator != 0  # exifread's ratios may be 0/0
        ratios.append(Fraction(number.numerator, number.denominator) if known else math.nan)
    if all(isinstance(ratio, float) for ratio in ratios):
        return None
    return ratios[0] if len(ratios) == 1 else tuple(ratios)


def to_comment(values: Any, order: str = "") -> str | None:
    """Eight bytes that name the encoding, then the text (EXIF 2.32, UserComment)."""
    if isinstance(values, str):
        return _to_text(values)
    data = bytes(values)
    encoding, body = data[:8].rstrip(b"\0 "), data[8:]
    if encoding == b"JIS":
        return _to_text(body.decode("iso2022_jp"))
    if encoding != b"UNICODE":
        return _to_text(body if encoding in (b"ASCII", b"") else data)
    # UTF-16 in the file's byte order, which half of all writers get wrong: most text has more zeros among its
    # high bytes than among its low ones.
    even, odd = body[::2].count(0), body[1::2].count(0)
    big = even > odd or (even == odd and order == ">")
    return _to_text(body.decode("utf-16-be" if big else "utf-16-le", "replace").lstrip("\ufeff"))


READERS: dict[str, Callable[[Any], Value | None]] = {
    "text": _to_text,
    "copyright": _to_copyright,
    "zone": _to_zone,
    "date": _to_date,
    "number": _to_number,
    "byte": _to_byte,
    "ratio": _to_ratio,
    "signed ratio": _to_signed_ratio,
    "comment": to_comment,
    "bytes": lambda values: bytes(values) or None,
}


def positive(value: object) -> float | None:
    """The number, if it is one and above zero: cameras and LibRaw write 0 for "unknown"."""
    try:
        number = float(value[0] if isinstance(value, tuple) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 < number < math.inf else None


def parse_date(text: str) -> datetime | None:
    """EXIF DateTime, "2024:05:17 06:07:08", without a time zone."""
    try:
        return datetime.strptime(text[:19], "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None


def parse_offset(text: str) -> timezone | None:
    """EXIF OffsetTime, "+05:30"."""
    try:
        return datetime.strptime(text, "%z").tzinfo  # type: ignore[return-value]
    except ValueError:
        return None


def to_place(
    latitude: str, longitude: str, altitude: str = "", below: str = "", north: str = "", east: str = ""
) -> dict[int, Value]:
    """GPS tags from their texts in XMP.

    Parameters
    ----------
    latitude, longitude : angles such as "48,51.5N" or "48,51,30N"; or in degrees, as Apple's programs write.
    altitude : in metres, such as "35/1"; one that makes no sense is left out.
    below : "1" if that is below the sea.
    north, east : "N" or "S" and "E" or "W", for angles without these letters.

    Raises
    ------
    ArithmeticError, ValueError
        If the angles are none.
    """
    altitude = altitude.strip()
    place: dict[int, Value] = {}
    for tag, reference, text, side, sides, most in (
        (GPS.GPSLatitude, GPS.GPSLatitudeRef, latitude, north, "NS", 90),
        (GPS.GPSLongitude, GPS.GPSLongitudeRef, longitude, east, "EW", 180),
    ):
        text = text.strip()
        if side and not text.endswith(tuple(sides)):
            minutes = round(60 * _ratio(text), 9)
            text = f"{minutes // 60},{float(minutes % 60):.9f}{side.strip()}"
        *parts, last = text.split(",")
        angle = [_ratio(part) for part in (*parts, last[:-1])]
        sensible = angle[0] >= 0 and all(0 <= part < 60 for part in angle[1:])
        sensible &= sum(part / 60**power for power, part in enumerate(angle)) <= most
        if last[-1:] not in tuple(sides) or len(angle) not in (2, 3) or not sensible:
            raise ValueError(text)
        place[tag], place[reference] = (*angle, Fraction(0))[:3], last[-1]
    with contextlib.suppress(ArithmeticError, ValueError):
        height: dict[int, Value] = {
            GPS.GPSAltitude: _ratio(altitude.removeprefix("-")),
            GPS.GPSAltitudeRef: int(below.strip() == "1" or altitude.startswith("-")),
        }
        place |= height
    return place


def _ratio(text: str) -> Fraction:
    """Of a few digits: `Fraction` would compute 1e99999999."""
    if not _RATIO.fullmatch(text.strip()):
        raise ValueError(text)
    return Fraction(text.strip())


_RATIO = re.compile(r"\d{1,15}(\.\d{0,20}|/\d{1,15})?", re.ASCII)
_MOMENT = re.compile(
    r"(\d{4})[-:](\d\d)[-:](\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d:\d\d)?", re.ASCII
)


def states_seconds(moment: str) -> bool:
    """Whether a text that `to_moment` understands does: in XMP they may be left out."""
    match = _MOMENT.fullmatch(moment.strip())
    return match is not None and match[6] is not None


def to_moment(text: str) -> dict[int, Value]:
    """EXIF's tags of the original time, from one in XMP such as "2026-11-22T23:30:00.25+01:00"; programs also
    write it as EXIF does.

    Raises
    ------
    ValueError
        If it is none.
    """
    match = _MOMENT.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    *numbers, fraction, zone = match.groups()
    year, month, day, hour, minute, second = (number or "00" for number in numbers)
    date = f"{year}:{month}:{day} {hour}:{minute}:{second}"
    if parse_date(date) is None:
        raise ValueError(text)
    found: dict[int, Value] = {Tag.DateTimeOriginal: date}
    if fraction and int(fraction):
        found[Tag.SubsecTimeOriginal] = fraction
    if zone:
        found[Tag.OffsetTimeOriginal] = "+00:00" if zone == "Z" else zone
    return found

"""Time and place in EXIF → as a person has corrected them in XMP."""

import math
from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction
from typing import Any

from PIL.ExifTags import GPS
from PIL.ExifTags import Base as Tag

from deepisp_cli.exif_values import Value, parse_date, parse_offset, states_seconds, to_moment, to_place
from deepisp_cli.xmp import PLACE, TIMES

DIGITISED: dict[int, int] = {
    Tag.DateTimeOriginal: Tag.DateTimeDigitized,
    Tag.SubsecTimeOriginal: Tag.SubsecTimeDigitized,
    Tag.OffsetTimeOriginal: Tag.OffsetTimeDigitized,
}
NEARBY = 1e-5  # degrees, a metre: programs round angles
SAME_HEIGHT = 1.0  # metres: programs round heights


def correct_time(exif: dict[int, Value], texts: Mapping[str, str]) -> None:
    """Set the time that the XMP states, if it does; raises what `to_moment` does."""
    stated = [texts[key] for key in TIMES if key in texts]
    if not stated:
        return
    moment, before = to_moment(stated[0]), exif.get(Tag.DateTimeOriginal)
    if not states_seconds(stated[0]):
        seconds = str(before or "")[-2:] or "00"
        moment[Tag.DateTimeOriginal] = str(moment[Tag.DateTimeOriginal])[:-2] + seconds
    instant = _instant(moment)
    if moment[Tag.DateTimeOriginal] == before or (instant and instant == _instant(exif)):
        exif |= {**moment, **exif}
        return
    at_once = before is not None and exif.get(Tag.DateTimeDigitized) == before  # as cameras digitise
    for tag in (Tag.SubsecTimeOriginal, Tag.DateTimeDigitized, Tag.SubsecTimeDigitized):
        exif.pop(tag, None)  # by the same wrong clock
    exif |= moment
    if at_once:
        exif |= {twin: moment[tag] for tag, twin in DIGITISED.items() if tag in moment}
    else:
        exif.pop(Tag.OffsetTimeDigitized, None)


def _instant(exif: Mapping[int, Value]) -> datetime | None:
    """The original time, if its zone is known."""
    moment = parse_date(str(exif.get(Tag.DateTimeOriginal, "")))
    zone = parse_offset(str(exif.get(Tag.OffsetTimeOriginal, "")))
    return moment.replace(tzinfo=zone) if moment and zone else None


def correct_place(gps: dict[int, Value], texts: Mapping[str, str]) -> None:
    """Set the place that the XMP states, if it does; raises what `to_place` does."""
    if PLACE[0] not in texts:
        return
    place = to_place(*(texts.get(key, "") for key in PLACE))
    known = _angles(gps)
    if len(known) == 2 and all(abs(a - b) < NEARBY for a, b in zip(known, _angles(place), strict=True)):
        if abs(_height(gps) - _height(place)) >= SAME_HEIGHT:  # both are known
            gps |= {tag: place[tag] for tag in (GPS.GPSAltitude, GPS.GPSAltitudeRef)}
        gps |= {**place, **gps}  # some programs repeat the place in every sidecar
        return
    for tag in gps.keys() - {GPS.GPSTimeStamp, GPS.GPSDateStamp}:
        del gps[tag]
    gps |= place


def _angles(gps: Mapping[int, Value]) -> list[float]:
    """Latitude and longitude in degrees, those that are known; south and west are negative."""
    angles = []
    for tag, reference in ((GPS.GPSLatitude, GPS.GPSLatitudeRef), (GPS.GPSLongitude, GPS.GPSLongitudeRef)):
        if tag in gps:
            stated: Any = gps[tag]
            parts = stated if isinstance(stated, tuple) else (stated,)  # some writers state degrees alone
            degrees = float(sum(part / 60**index for index, part in enumerate(parts)))
            angles.append(-degrees if gps.get(reference) in ("S", "W") else degrees)
    return angles


def _height(gps: Mapping[int, Value]) -> float:
    """Metres above the sea; NaN: not known."""
    height = gps.get(GPS.GPSAltitude)
    if not isinstance(height, int | float | Fraction):
        return math.nan
    return -float(height) if gps.get(GPS.GPSAltitudeRef) == 1 else float(height)

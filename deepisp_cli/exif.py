"""EXIF as bytes: values to typed fields, fields to the image file directories (IFDs) of TIFF 6.0."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from PIL.ExifTags import GPS
from PIL.ExifTags import Base as Tag

from deepisp_cli.exif_values import LONG_SENSITIVITIES, SIGNED

if TYPE_CHECKING:
    from deepisp_cli.exif_values import Value
    from deepisp_cli.metadata import Metadata


class Field(NamedTuple):
    """One value as stored in an EXIF file, little-endian."""

    type: int
    length: int
    data: bytes


Ifds = dict[str, dict[int, Field]]
"""The keys "image", "exif" and "gps"; each maps tag numbers to fields."""

LARGEST_DENOMINATOR = 1_000_000  # of numbers that are not ratios of small ones
POINTERS: dict[str, int] = {"exif": Tag.ExifOffset, "gps": Tag.GPSInfo}
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SIGNED_RATIONAL = 1, 2, 3, 4, 5, 7, 10
IFD = 13  # a newer name for LONG that readers of EXIF do not expect
INTEGERS = {BYTE: "B", SHORT: "H", LONG: "I"}
SIZES = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), 1))  # bytes of each type
COMMENTS = (("exif", Tag.UserComment), ("gps", GPS.GPSProcessingMethod), ("gps", GPS.GPSAreaInformation))
NO_RESOLUTION: dict[int, Value] = {  # 72 pixels an inch stand for it
    **dict.fromkeys((Tag.XResolution, Tag.YResolution), Fraction(72)),
    Tag.ResolutionUnit: 2,
}
TYPES: dict[tuple[str, int], int] = {  # where EXIF 2.32 wants another type than the Python value suggests
    ("gps", GPS.GPSVersionID): BYTE,
    ("gps", GPS.GPSAltitudeRef): BYTE,
    **dict.fromkeys((("exif", tag) for tag in LONG_SENSITIVITIES), LONG),
    **dict.fromkeys((("exif", tag) for tag in SIGNED), SIGNED_RATIONAL),
    ("image", Tag.XMLPacket): BYTE,
    **dict.fromkeys((("image", tag) for tag in range(Tag.XPTitle, Tag.XPSubject + 1)), BYTE),
}


def picture_ifds(metadata: Metadata, width: int, height: int, software: str, format: str) -> Ifds:
    """The source's metadata, and what is true only of the new file: upright, its size, sRGB unless a DNG.
    With XMP for the formats that have it in their image IFD.

    Includes the tags that EXIF 2.32 requires for each kind of file (section 4.6.8).
    """
    image = {**metadata.image, Tag.Orientation: 1, Tag.Software: software}
    exif = {**metadata.exif, Tag.ExifVersion: b"0232", Tag.FlashPixVersion: b"0100"}
    if format != "dng":
        exif[Tag.ColorSpace] = 1  # sRGB
    if format not in ("tiff", "dng"):  # which have these in their image IFD
        exif.update({Tag.ExifImageWidth: width, Tag.ExifImageHeight: height})
    elif metadata.xmp:
        image[Tag.XMLPacket] = metadata.xmp
    if format == "jpeg":
        image.update(NO_RESOLUTION)
        image[Tag.YCbCrPositioning] = 1  # centred
        exif[Tag.ComponentsConfiguration] = b"\1\2\3\0"  # Y, Cb, Cr
    gps = {GPS.GPSVersionID: bytes([2, 3, 0, 0]), **metadata.gps} if metadata.gps else {}
    given = {"image": image, "exif": exif, "gps": gps}
    return {ifd: to_fields(ifd, values) for ifd, values in given.items()}


def to_fields(ifd: str, values: Mapping[int, Value]) -> dict[int, Field]:
    """Encode the values of one of the ``Ifds``."""
    return {tag: _field(ifd, tag, value) for tag, value in values.items()}


def _field(ifd: str, tag: int, value: Value) -> Field:
    """Encode a value with the type that EXIF wants for the tag."""
    if isinstance(value, str):
        if (ifd, tag) not in COMMENTS:  # EXIF says ASCII; writers and readers have agreed on UTF-8
            encoded = value.replace("\0", " ").encode("utf-8", "replace") + b"\0"
            return Field(ASCII, len(encoded), encoded)
        if value.isascii():
            encoded = b"ASCII\0\0\0" + value.encode("ascii")
        else:
            encoded = b"UNICODE\0" + value.encode("utf-16-le", "replace")
        return Field(UNDEFINED, len(encoded), encoded)
    if isinstance(value, bytes):
        return Field(TYPES.get((ifd, tag), UNDEFINED), len(value), value)
    values = value if isinstance(value, tuple) else (value,)
    kind = TYPES.get((ifd, tag))
    if all(isinstance(item, int) for item in values) and kind != SIGNED_RATIONAL:
        kind = kind or (SHORT if max(values) < 2**16 else LONG)
        return Field(kind, len(values), struct.pack(f"<{len(values)}{INTEGERS[kind]}", *values))
    kind = kind or RATIONAL
    return Field(kind, len(values), b"".join(_rational(item, kind == SIGNED_RATIONAL) for item in values))


def _rational(value: int | Fraction | float, signed: bool) -> bytes:
    """Two 32-bit integers; 0/0 means "unknown"."""
    if not math.isfinite(value):
        return bytes(8)
    low, high = (-(2**31), 2**31 - 1) if signed else (0, 2**32 - 1)
    ratio = Fraction(value)
    if max(abs(ratio.numerator), ratio.denominator) > high:
        ratio = nearest_ratio(value, high)
    numerator = min(max(ratio.numerator, low), high)
    return struct.pack("<ii" if signed else "<II", numerator, ratio.denominator)


def nearest_ratio(value: Fraction | float, largest: int) -> Fraction:
    """The ratio nearest to ``value`` whose denominator is at most a million and whose numerator, unless the
    value itself is larger, at most ``largest``."""
    ratio = Fraction(value)
    fitting = int(largest / max(abs(ratio), Fraction(1)))
    return ratio.limit_denominator(max(1, min(LARGEST_DENOMINATOR, fitting)))


def exif_block(ifds: Ifds, thumbnail: bytes = b"") -> bytes:
    """EXIF for a JPEG or PNG: a little-endian TIFF without a picture but, if given, the ``thumbnail``, a JPEG
    (EXIF 2.32, section 4.5.4)."""
    block = bytearray(struct.pack("<2sHI", b"II", 42, 8) + ifd_blocks(ifds, 8))
    if thumbnail:
        (entries,) = struct.unpack_from("<H", block, 8)
        struct.pack_into("<I", block, 8 + 2 + 12 * entries, len(block))  # where the next IFD is
        fields = to_fields("image", {Tag.Compression: 6, **NO_RESOLUTION})
        fields[Tag.JpegIFByteCount] = Field(LONG, 1, struct.pack("<I", len(thumbnail)))
        fields[Tag.JpegIFOffset] = Field(LONG, 1, bytes(4))
        end = len(block) + len(_ifd_bytes(fields, len(block)))
        fields[Tag.JpegIFOffset] = Field(LONG, 1, struct.pack("<I", end))
        block += _ifd_bytes(fields, len(block)) + thumbnail
    return bytes(block)


def ifd_blocks(ifds: Ifds, offset: int) -> bytes:
    """Image IFD, EXIF IFD and, if not empty, GPS IFD, to be placed at ``offset``."""
    others = {key: ifds[key] for key in POINTERS if ifds[key]}
    pointers = {POINTERS[key]: Field(LONG, 1, bytes(4)) for key in others}
    end = offset + len(_ifd_bytes({**ifds["image"], **pointers}, offset))
    blocks = []
    for key, fields in others.items():
        pointers[POINTERS[key]] = Field(LONG, 1, struct.pack("<I", end))
        blocks.append(_ifd_bytes(fields, end))
        end += len(blocks[-1])
    return _ifd_bytes({**ifds["image"], **pointers}, offset) + b"".join(blocks)


def _ifd_bytes(fields: Mapping[int, Field], offset: int) -> bytes:
    """An image file directory (TIFF 6.0, section 2) to be placed at ``offset``, long values after it."""
    entries, values = [], b""
    offset += 2 + 12 * len(fields) + 4
    for tag, (kind, count, data) in sorted(fields.items()):
        if len(data) <= 4:
            entries.append(struct.pack("<HHI", tag, kind, count) + data.ljust(4, b"\0"))
        else:
            entries.append(struct.pack("<HHII", tag, kind, count, offset + len(values)))
            values += data + b"\0" * (len(data) % 2)
    return struct.pack("<H", len(fields)) + b"".join(entries) + bytes(4) + values


def with_metadata(tiff: bytes, ifds: Ifds) -> bytes:
    """A little-endian TIFF with further tags in its image IFD, and with EXIF and GPS.

    tifffile writes no EXIF IFD, and an IFD cannot grow in place: it is written again at the end.
    """
    tiff += b"\0" * (len(tiff) % 2)
    image = {**read_ifd(tiff, *struct.unpack_from("<I", tiff, 4)), **ifds["image"]}
    blocks = ifd_blocks({**ifds, "image": image}, len(tiff))
    return b"".join((tiff[:4], struct.pack("<I", len(tiff)), memoryview(tiff)[8:], blocks))


def read_ifd(tiff: bytes, offset: int) -> dict[int, Field]:
    """The inverse of `_ifd_bytes`, for IFDs that tifffile has written."""
    fields = {}
    (entries,) = struct.unpack_from("<H", tiff, offset)
    for start in range(offset + 2, offset + 2 + 12 * entries, 12):
        tag, kind, length = struct.unpack_from("<HHI", tiff, start)
        size = SIZES[kind] * length
        at = start + 8 if size <= 4 else struct.unpack_from("<I", tiff, start + 8)[0]
        fields[tag] = Field(LONG if kind == IFD else kind, length, tiff[at : at + size])
    return fields


def drop_largest(ifds: Ifds) -> tuple[int, int]:
    """Make room by dropping a tag, long comments first, then whatever is largest; returns it and its size."""

    def weight(place: tuple[str, int]) -> tuple[bool, int]:
        size = len(ifds[place[0]][place[1]].data)
        return place in (*COMMENTS, ("image", Tag.ImageDescription)) and size > 1000, size

    ifd, tag = max(((ifd, tag) for ifd, fields in ifds.items() for tag in fields), key=weight)
    return tag, len(ifds[ifd].pop(tag).data)

"""Find EXIF and XMP in files of each kind; read EXIF's values with exifread, which only this module uses."""

import contextlib
import inspect
import logging
import math
import struct
from collections.abc import Iterator
from fractions import Fraction
from io import SEEK_END, BytesIO
from typing import Any, BinaryIO, NamedTuple

import exifread
from PIL.ExifTags import GPS
from PIL.ExifTags import Base as Tag

from deepisp_cli.exif_values import to_comment
from deepisp_cli.xmp import LARGEST_PACKET, XMP_IN_JPEG

DIRECTORIES = {"EXIF": Tag.ExifOffset, "GPS": Tag.GPSInfo}

# What exifread leaves out, ends at the first zero, or empties if it has a thousand bytes or more.
TEXTS: dict[str, tuple[int, ...]] = {
    "Image": (Tag.Copyright, *range(Tag.XPTitle, Tag.XPSubject + 1)),
    "EXIF": (Tag.UserComment,),
    "GPS": (GPS.GPSProcessingMethod, GPS.GPSAreaInformation),
}

UTF8 = 129  # the type of a value, since EXIF 3.0
CANON_SETTINGS, CANON_LENS, NIKON_LENS = 0x0001, 0x0095, 0x0084  # in their maker notes
MAX_READS = 50_000  # a sound file needs a few thousand; a damaged one could keep exifread busy for hours
MAX_VALUE = 1 << 16
HEADER = 1 << 20  # where JPEG, Canon CR3 and Minolta MRW keep their EXIF

XMP_IN_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # XMP specification part 3, section 1.2.7.1

_QUICK = {"details": False}  # no maker notes
if "extract_thumbnail" in inspect.signature(exifread.process_file).parameters:  # exifread 3.1 and later
    _QUICK["extract_thumbnail"] = False
logging.getLogger("exifread").addHandler(logging.NullHandler())  # keeps warnings about bad files off stderr
logging.getLogger("exifread").propagate = False


def tiff_streams(source: BinaryIO) -> list[BinaryIO]:
    """Find the TIFF structures that hold EXIF: one, or for Canon CR3 three (image, exif, GPS)."""
    header = _header(source)
    if header[:2] in (b"II", b"MM"):
        return [source]
    if header[:2] == b"\xff\xd8":
        return [BytesIO(header.partition(b"Exif\0\0")[2])]
    if header.startswith(b"\0MRM"):  # Minolta MRW: the block called TTW, after a name and a length of 4 bytes
        return [BytesIO(header.partition(b"\0TTW")[2][4:])]
    if header[:4] == b"\x89PNG":
        return [BytesIO(header.partition(b"eXIf")[2])]
    if header[4:11] == b"ftypcrx":
        return [BytesIO(header.partition(box)[2]) for box in (b"CMT1", b"CMT2", b"CMT4")]
    return []


def xmp_packet(source: BinaryIO) -> bytes:
    """The XMP in a raw file, empty if there is none; padded, as stored."""
    header = _header(source)
    if header[:2] in (b"II", b"MM"):
        order = "<" if header[:2] == b"II" else ">"
        with contextlib.suppress(struct.error):  # damaged
            (first,) = struct.unpack_from(order + "I", header, 4)
            return _find(source, order, first, Tag.XMLPacket, LARGEST_PACKET)
    if header[:2] == b"\xff\xd8" and (start := header.find(XMP_IN_JPEG)) > 0:
        size = int.from_bytes(header[start - 2 : start], "big")  # counts itself
        return header[start + len(XMP_IN_JPEG) : start - 2 + size]
    if header[4:11] == b"ftypcrx" and (start := header.find(XMP_IN_BOX)) > 0:
        size = int.from_bytes(header[start - 8 : start - 4], "big")  # of the box, which begins there
        return header[start + len(XMP_IN_BOX) : start - 8 + size]
    return b""


def _header(source: BinaryIO) -> bytes:
    """The beginning of the file, or of the JPEG in a Fujifilm RAF."""
    source.seek(0)
    header = source.read(HEADER)
    if header.startswith(b"FUJIFILMCCD-RAW"):  # RAF: the offset of a whole JPEG, big-endian
        source.seek(int.from_bytes(header[84:88], "big"))
        header = source.read(HEADER)
    return header


class _BoundedReader:
    """The three methods that exifread uses, with limits on the number and size of reads. Beyond the end of
    the file there are zeros, because not every version of exifread expects one."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._reads = 0
        self.tell = stream.tell
        self.seek = stream.seek

    def read(self, size: int = MAX_VALUE) -> bytes:
        self._reads += 1
        if self._reads > MAX_READS:
            raise ValueError("its directories never end")
        size = min(size, MAX_VALUE)
        return self._stream.read(size).ljust(size, b"\0")


class TiffValues(NamedTuple):
    """What a TIFF structure holds."""

    found: dict[str, dict[int, Any]]  # "Image", "EXIF", "GPS" -> tag number -> value
    lost: list[str]  # directories that are not within the file, or of which nothing could be read
    cut_off: list[int]  # tags whose values would lie beyond the end of the file


def read_tiff(stream: BinaryIO, is_gps: bool) -> TiffValues:
    """Read a TIFF structure; its image IFD counts as "GPS" if ``is_gps``."""
    end = stream.seek(0, SEEK_END)
    stream.seek(0)
    head = stream.read(4)
    found: dict[str, dict[int, Any]] = {"Image": {}, "EXIF": {}, "GPS": {}}
    if head[:2] not in (b"II", b"MM"):
        return TiffValues(found, [], [])
    order = "<" if head[:2] == b"II" else ">"
    first = int.from_bytes(_read_at(stream, 4, 4), "little" if order == "<" else "big")
    if _count(stream, order, first, end) is None:
        return TiffValues(found, ["GPS" if is_gps else "Image"], [])
    cut_off = []
    tags = exifread.process_file(_BoundedReader(stream), **_QUICK)  # type: ignore[arg-type]
    for key, tag in tags.items():
        ifd = key.partition(" ")[0]
        if ifd not in found:
            continue
        if tag.field_length > 4 and tag.field_offset + tag.field_length > end:  # exifread invents the rest
            cut_off.append(tag.tag)
        else:
            found["GPS" if is_gps else ifd].setdefault(tag.tag, tag.values)
    pointers = {directory: found["Image"].get(tag) for directory, tag in DIRECTORIES.items()}
    with contextlib.suppress(struct.error, TypeError):  # damaged
        for directory, pointer in (("Image", [first]), ("EXIF", pointers["EXIF"])):
            found[directory] |= _utf8_texts(stream, order, pointer[0]) if pointer else {}
    starts = {"Image": first, "EXIF": (pointers["EXIF"] or [first])[0]}
    if is_gps or pointers["GPS"]:
        starts["GPS"] = (pointers["GPS"] or [first])[0]
    for directory, start in starts.items():
        with contextlib.suppress(struct.error, TypeError, ValueError):  # damaged; keep what was found
            for tag in TEXTS[directory]:
                if text := _find(stream, order, start, tag):
                    found[directory][tag] = text if directory == "Image" else to_comment(text, order)
    if pointers["EXIF"] and not found["EXIF"].keys() & {Tag.LensModel, Tag.LensSpecification}:
        with contextlib.suppress(struct.error, TypeError):  # damaged
            maker = str(found["Image"].get(Tag.Make, "")).upper()
            found["EXIF"] |= _lens_in_maker_note(stream, order, pointers["EXIF"][0], maker)
    lost = []
    for directory, pointer in pointers.items():
        count = _count(stream, order, pointer[0], end) if pointer else 0
        if pointer and count and not found[directory]:  # a maker note is not read, but sound
            count = 0 if _find(stream, order, pointer[0], Tag.MakerNote, 1) else None
        if count is None:
            found[directory].clear()
            lost.append(directory)
    return TiffValues(found, lost, cut_off)


def _count(stream: BinaryIO, order: str, pointer: Any, end: int) -> int | None:
    """The entries of a directory; None if ``pointer`` is no offset, or it does not end within the file."""
    if not isinstance(pointer, int) or not 0 <= pointer <= end - 2:
        return None
    (count,) = struct.unpack(order + "H", _read_at(stream, pointer, 2))
    return count if pointer + 2 + 12 * count <= end else None


def _find(stream: BinaryIO, order: str, ifd: int, wanted: int, largest: int = MAX_VALUE) -> bytes:
    """The first ``largest`` bytes of a tag's value; none if it has four or fewer, or is cut off."""
    for tag, _, size, offset in _entries(stream, order, ifd):
        if tag == wanted and size > 4:
            value = _read_at(stream, offset, min(size, largest))
            return value if len(value) == min(size, largest) else b""
    return b""


def _entries(stream: BinaryIO, order: str, ifd: int) -> Iterator[tuple[int, int, int, int]]:
    """The entries of a directory: tag, type, count, and the value or where it is."""
    (count,) = struct.unpack(order + "H", _read_at(stream, ifd, 2))
    yield from struct.iter_unpack(order + "HHII", _read_at(stream, ifd + 2, 12 * count))


def _lens_in_maker_note(stream: BinaryIO, order: str, ifd: int, maker: str) -> dict[int, Any]:
    """LensModel or LensSpecification of older Canons and Nikons, which state it in their maker notes alone.

    Canon's note is a directory, whose values count from the beginning of the TIFF structure; so is the one of
    the first Nikons. Of later ones it is a TIFF structure of its own, after ten bytes.
    """
    start = next(
        (at for tag, _, size, at in _entries(stream, order, ifd) if tag == Tag.MakerNote and size > 4), 0
    )
    if start and maker.startswith("CANON"):
        if text := _find(stream, order, start, CANON_LENS).strip(b"\0 -"):  # compacts leave it empty
            return {Tag.LensModel: text}
        for tag, kind, count, at in _entries(stream, order, start):  # before 2006 only the focal lengths
            if (tag, kind) == (CANON_SETTINGS, 3) and count > 25:
                longest, shortest, unit = struct.unpack(order + "HHH", _read_at(stream, at + 2 * 23, 6))
                if longest and shortest and unit:
                    ends = [Fraction(shortest, unit), Fraction(longest, unit)]
                    return {Tag.LensSpecification: [*ends, math.nan, math.nan]}
        return {}
    if not start or not maker.startswith("NIKON"):
        return {}
    base = 0
    if _read_at(stream, start, 7) == b"Nikon\0\2":
        base = start + 10
        order = "<" if _read_at(stream, base, 2) == b"II" else ">"
        start = base + struct.unpack(order + "I", _read_at(stream, base + 4, 4))[0]
    for tag, kind, count, at in _entries(stream, order, start):
        if (tag, kind, count) == (NIKON_LENS, 5, 4):
            pairs = struct.iter_unpack(order + "II", _read_at(stream, base + at, 32))
            lens = [Fraction(*pair) if pair[1] else math.nan for pair in pairs]
            return {Tag.LensSpecification: lens} if len(lens) == 4 and lens[0] else {}
    return {}


def _utf8_texts(stream: BinaryIO, order: str, ifd: int) -> dict[int, bytes]:
    """The texts of EXIF 3.0's type UTF-8, which exifread does not know, that are within the file."""
    texts = {}
    for tag, kind, size, value in _entries(stream, order, ifd):
        if kind == UTF8:
            near = struct.pack(order + "I", value)  # the text itself, if it has no more bytes
            text = near[:size] if size <= len(near) else _read_at(stream, value, min(size, MAX_VALUE))
            if len(text) == min(size, MAX_VALUE):
                texts[tag] = text
    return texts


def _read_at(stream: BinaryIO, offset: int, size: int) -> bytes:
    stream.seek(offset)
    return stream.read(size)

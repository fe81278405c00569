"""Finished pixels to a JPEG, PNG or TIFF with EXIF, GPS and colour profile; whole or absent.

imagecodecs and tifffile encode the pixels, Pillow supplies the sRGB profile. Pillow's own optimised JPEGs
fail on noisy pictures: it guesses how large they get ("broken data stream when writing image file").
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import secrets
import stat
import struct
import zlib
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import ImageCms

from deepisp_cli.errors import OutputError, UsageError

if TYPE_CHECKING:
    from deepisp_cli.metadata import Metadata, Value


Pixels = NDArray[np.uint8] | NDArray[np.uint16]


class Format(NamedTuple):
    """How files of one output format end, and what they can hold."""

    suffixes: tuple[str, ...]
    bit_depths: tuple[int, ...]


class Field(NamedTuple):
    """One value as it stands in an EXIF file, little-endian."""

    type: int
    length: int
    data: bytes


Ifds = dict[str, dict[int, Field]]
"""The keys "image", "exif" and "gps"; each maps tag numbers to fields."""


FORMATS: Mapping[str, Format] = {
    "jpeg": Format((".jpg", ".jpeg"), (8,)),
    "png": Format((".png",), (8, 16)),
    "tiff": Format((".tif", ".tiff"), (8, 16)),
}

JPEG_MAX_SIDE = 65500  # libjpeg's JPEG_MAX_DIMENSION
JPEG_MAX_SEGMENT = 65533  # its length field has 16 bits and counts itself
TIFF_MAX_BYTES = 2**32 - 2**25  # offsets have 32 bits; room for what is not pixels
STRIP_BYTES = 1 << 20

POINTERS = {"exif": 0x8769, "gps": 0x8825}
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SIGNED_RATIONAL = 1, 2, 3, 4, 5, 7, 10
INTEGERS = {BYTE: "B", SHORT: "H", LONG: "I"}
SIZES = {BYTE: 1, ASCII: 1, SHORT: 2, LONG: 4, RATIONAL: 8, UNDEFINED: 1, SIGNED_RATIONAL: 8}
COMMENTS = (("exif", 0x9286), ("gps", 27), ("gps", 28))  # UserComment, GPS processing method and area
TYPES = {  # where EXIF 2.32 does not say what the Python type of the value suggests
    **dict.fromkeys((("gps", 0), ("gps", 5)), BYTE),
    **dict.fromkeys((("exif", tag) for tag in range(0x8831, 0x8836)), LONG),  # long sensitivities
    **dict.fromkeys((("exif", tag) for tag in (0x9201, 0x9203, 0x9204)), SIGNED_RATIONAL),  # APEX values
}
REMEDIES = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EACCES: "choose a folder you may write to",
    errno.EPERM: "choose a folder you may write to",
    errno.EROFS: "choose a folder you may write to",
    errno.ENOENT: "create the folder first",
    errno.ENOTDIR: "choose another folder",
    errno.EISDIR: "name a file, not a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EPIPE: "whoever should read it has closed the pipe",
}


def format_of_suffix(path: str | os.PathLike[str]) -> str:
    """Name of the format a file name asks for, a key of ``FORMATS``."""
    suffix = Path(path).suffix.lower()
    for name, known in FORMATS.items():
        if suffix in known.suffixes:
            return name
    suffixes = ", ".join(suffix for known in FORMATS.values() for suffix in known.suffixes)
    raise UsageError(f"{path}: unknown suffix {suffix!r}; use one of {suffixes}")


def write_picture(
    target: Path | BinaryIO,
    pixels: Pixels,
    metadata: Metadata,
    *,
    format: str,
    quality: int = 95,
    software: str,
    overwrite: bool,
) -> int:
    """Write one picture: the whole of it, or nothing and an error.

    Parameters
    ----------
    target : Path or writable binary stream
        A path gets a temporary file next to it that is renamed when complete; a link is followed.
    pixels : ndarray of shape (H, W, 3), uint8 or uint16
        Upright sRGB.
    metadata : Metadata
        Written as EXIF, with the tags that describe the new file added.
    format : str
        A key of ``FORMATS``; JPEG holds 8 bits only.
    quality : int
        Of a JPEG, 1 to 100. The chroma has full resolution.
    software : str
        EXIF tag Software.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    ValueError
        If the pixels do not fit the description above.
    UsageError
        If the file exists and ``overwrite`` is false.
    OutputError
        If the picture is too large for the format, or cannot be written.
    """
    name = str(target) if isinstance(target, Path) else "output stream"
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"pixels must be (H, W, 3), not {pixels.shape}")
    if pixels.dtype.itemsize * 8 not in FORMATS[format].bit_depths or pixels.dtype.kind != "u":
        raise ValueError(f"{format} cannot hold {pixels.dtype}")
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1 to 100, not {quality}")
    if isinstance(target, Path) and not overwrite and os.path.lexists(target) and not _is_device(target):
        raise _exists(target)
    ifds = _ifds(metadata, pixels, software)
    if format == "jpeg":
        data = _encode_jpeg(pixels, ifds, quality, name)
    elif format == "png":
        data = _encode_png(pixels, ifds)
    else:
        data = _encode_tiff(pixels, ifds, name)
    try:
        if isinstance(target, Path):
            _save(target, data, overwrite)
        else:
            _pour(target, data)
    except OSError as error:
        number = errno.EPIPE if isinstance(error, BrokenPipeError) else error.errno
        remedy = REMEDIES.get(number or 0, "check the disk and the path")
        raise OutputError(f"{name}: cannot be written ({error.strerror or error}); {remedy}") from error
    return len(data)


# --- encoding ---


def _encode_jpeg(pixels: Pixels, ifds: Ifds, quality: int, name: str) -> bytes:
    if max(pixels.shape) > JPEG_MAX_SIDE:
        raise OutputError(
            f"{name}: JPEG holds at most {JPEG_MAX_SIDE} pixels a side, and the picture is "
            f"{pixels.shape[1]}x{pixels.shape[0]}; choose PNG or TIFF"
        )
    jpeg = imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels), quality, subsampling="444", optimize=True)
    exif = b"Exif\0\0" + _exif_block(ifds)
    while len(exif) > JPEG_MAX_SEGMENT:
        _drop_largest(ifds)
        exif = b"Exif\0\0" + _exif_block(ifds)
    profile = b"ICC_PROFILE\0\1\1" + srgb_profile()
    segments = [
        b"\xff" + marker + struct.pack(">H", len(body) + 2) + body
        for marker, body in ((b"\xe1", exif), (b"\xe2", profile))
    ]
    start = 4 + int.from_bytes(jpeg[4:6], "big") if jpeg[2:4] == b"\xff\xe0" else 2  # after the JFIF segment
    return b"".join((jpeg[:start], *segments, jpeg[start:]))


def _encode_png(pixels: Pixels, ifds: Ifds) -> bytes:
    png = imagecodecs.png_encode(np.ascontiguousarray(pixels))
    profile = b"sRGB\0\0" + zlib.compress(srgb_profile(), 9)
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"iCCP", profile), (b"eXIf", _exif_block(ifds)))
    ]
    start = 8 + 25  # signature, IHDR
    return b"".join((png[:start], *chunks, png[start:]))


def _encode_tiff(pixels: Pixels, ifds: Ifds, name: str) -> bytes:
    """tifffile writes the picture; its image IFD, with ours merged in, is written anew behind it.

    (tifffile writes no EXIF IFD, and an IFD cannot grow where it stands.)
    """
    if pixels.nbytes > TIFF_MAX_BYTES:
        raise OutputError(f"{name}: a TIFF holds at most 4 GiB; choose PNG")
    buffer = BytesIO()
    tifffile.imwrite(
        buffer,
        pixels,
        byteorder="<",
        bigtiff=False,
        photometric="rgb",
        compression="zlib",
        predictor=True,
        rowsperstrip=max(1, STRIP_BYTES // (pixels.nbytes // len(pixels))),
        iccprofile=srgb_profile(),
        software=False,
        metadata=None,
    )
    tiff = buffer.getvalue()
    tiff += b"\0" * (len(tiff) % 2)
    image = {**_read_ifd(tiff, *struct.unpack_from("<I", tiff, 4)), **ifds["image"]}
    blocks = _ifd_blocks({**ifds, "image": image}, len(tiff))
    return b"".join((tiff[:4], struct.pack("<I", len(tiff)), memoryview(tiff)[8:], blocks))


@cache
def srgb_profile() -> bytes:
    """The ICC profile of sRGB, with a fixed date of creation so that equal input gives equal bytes."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + profile[36:]


# --- EXIF ---


def _ifds(metadata: Metadata, pixels: Pixels, software: str) -> Ifds:
    """What the source says, and what is true of the new file only."""
    image = {**metadata.image, 0x0112: 1, 0x0131: software}  # Orientation, Software
    exif = {
        **metadata.exif,
        0x9000: b"0232",  # ExifVersion
        0xA001: 1,  # ColorSpace: sRGB
        0xA002: pixels.shape[1],  # PixelXDimension
        0xA003: pixels.shape[0],
    }
    given = {"image": image, "exif": exif, "gps": metadata.gps}
    return {
        ifd: {tag: _field(ifd, tag, value) for tag, value in values.items()} for ifd, values in given.items()
    }


def _field(ifd: str, tag: int, value: Value) -> Field:
    """Encode a value with the type EXIF wants for the tag."""
    if isinstance(value, str):
        if (ifd, tag) not in COMMENTS:  # ASCII, says EXIF; UTF-8 is what writers and readers have agreed on
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
    """Two integers of 32 bits; 0/0 says "unknown"."""
    if not math.isfinite(value):
        return bytes(8)
    low, high = (-(2**31), 2**31 - 1) if signed else (0, 2**32 - 1)
    ratio = Fraction(value)
    if ratio.denominator > high:
        ratio = ratio.limit_denominator(1_000_000)
    numerator = min(max(ratio.numerator, low), high)
    return struct.pack("<ii" if signed else "<II", numerator, ratio.denominator)


def _exif_block(ifds: Ifds) -> bytes:
    """A little-endian TIFF without a picture."""
    return struct.pack("<2sHI", b"II", 42, 8) + _ifd_blocks(ifds, 8)


def _ifd_blocks(ifds: Ifds, offset: int) -> bytes:
    """Image IFD, EXIF IFD and, where there is anything to say, GPS IFD, to be placed at ``offset``."""
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
    """An image file directory (TIFF 6.0, section 2) for the place ``offset``, its long values after it."""
    entries, values = [], b""
    offset += 2 + 12 * len(fields) + 4
    for tag, (kind, count, data) in sorted(fields.items()):
        if len(data) <= 4:
            entries.append(struct.pack("<HHI", tag, kind, count) + data.ljust(4, b"\0"))
        else:
            entries.append(struct.pack("<HHII", tag, kind, count, offset + len(values)))
            values += data + b"\0" * (len(data) % 2)
    return struct.pack("<H", len(fields)) + b"".join(entries) + bytes(4) + values


def _read_ifd(tiff: bytes, offset: int) -> dict[int, Field]:
    """The other way round, for IFDs that tifffile has written."""
    fields = {}
    (entries,) = struct.unpack_from("<H", tiff, offset)
    for start in range(offset + 2, offset + 2 + 12 * entries, 12):
        tag, kind, length = struct.unpack_from("<HHI", tiff, start)
        size = SIZES[kind] * length
        at = start + 8 if size <= 4 else struct.unpack_from("<I", tiff, start + 8)[0]
        fields[tag] = Field(kind, length, tiff[at : at + size])
    return fields


def _drop_largest(ifds: Ifds) -> None:
    """Make room: long comments go first, then whatever is largest."""

    def weight(place: tuple[str, int]) -> tuple[bool, int]:
        size = len(ifds[place[0]][place[1]].data)
        return place in (*COMMENTS, ("image", 0x010E)) and size > 1000, size  # 0x010E: ImageDescription

    ifd, tag = max(((ifd, tag) for ifd, fields in ifds.items() for tag in fields), key=weight)
    del ifds[ifd][tag]


# --- files ---


def _save(target: Path, data: bytes, overwrite: bool) -> None:
    """Write a file under another name in the same folder and rename it when it is complete."""
    final = os.path.realpath(target)
    if _is_device(target):
        with open(final, "wb", buffering=0) as device:
            return _pour(device, data)
    temporary = os.path.join(os.path.dirname(final), f".deepisp-{secrets.token_hex(8)}.part")
    try:
        with open(temporary, "xb") as file:  # not the tempfile module, whose files only the owner can read
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            os.replace(temporary, final)
        else:
            _rename_to_new(temporary, final)
    except FileExistsError as error:
        raise _exists(target) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _rename_to_new(temporary: str, final: str) -> None:
    """Rename, and fail if the new name exists, also if it has come into being just now."""
    try:
        os.link(temporary, final)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: FAT, some network shares
        os.close(os.open(final, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            os.replace(temporary, final)
        except BaseException:
            os.unlink(final)
            raise


def _is_device(path: Path) -> bool:
    """Whether the path is a device or pipe, such as /dev/stdout: written to, never replaced."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _pour(stream: BinaryIO, data: bytes) -> None:
    """Write everything: an unbuffered stream may take less at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) or 0 :]
    stream.flush()


def _exists(target: Path) -> UsageError:
    return UsageError(f"{target}: exists already; allow overwriting or choose another name")

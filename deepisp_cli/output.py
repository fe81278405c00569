"""Write finished pixels as JPEG, PNG or TIFF with EXIF, GPS, XMP and colour profile, or a restored raw as
DNG: a whole file or none.

imagecodecs and tifffile encode the pixels, Pillow supplies the sRGB profile. Pillow's own optimised JPEGs
fail on noisy pictures, whose size it underestimates ("broken data stream when writing image file").
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import imagecodecs
import numpy as np
import tifffile
from PIL import ImageCms

from deepisp_cli.errors import OutputError, UsageError
from deepisp_cli.exif import Ifds, drop_largest, exif_block, picture_ifds, with_metadata
from deepisp_cli.files import exists_already, is_taken, output_errors, pour, save
from deepisp_cli.resize import reduce_to
from deepisp_cli.restored import RestoredRaw, encode_dng
from deepisp_cli.xmp import XMP_IN_JPEG, shortened

if TYPE_CHECKING:
    from deepisp_cli.metadata import Metadata
    from deepisp_cli.render import Pixels


class Format(NamedTuple):
    """Suffixes and bit depths of one output format."""

    suffixes: tuple[str, ...]
    bit_depths: tuple[int, ...]


FORMATS: Mapping[str, Format] = {
    "jpeg": Format((".jpg", ".jpeg"), (8,)),
    "png": Format((".png",), (8, 16)),
    "tiff": Format((".tif", ".tiff"), (8, 16)),
    "dng": Format((".dng",), (16,)),
}

OUTPUT_SUFFIXES = {suffix: name for name, known in FORMATS.items() for suffix in known.suffixes}
FINISHED_SUFFIXES = OUTPUT_SUFFIXES.keys() - {*FORMATS["dng"].suffixes}

JPEG_MAX_SIDE = 65500  # libjpeg's JPEG_MAX_DIMENSION
NAMED = 5  # of the properties that a JPEG has no room for
JPEG_MAX_SEGMENT = 65533  # its length field has 16 bits and counts itself
TIFF_MAX_BYTES = 2**32 - 2**25  # of pixels: offsets have 32 bits, and the rest needs room, too
STRIP_BYTES = 1 << 20
THUMBNAIL_SIDE, THUMBNAIL_QUALITY = 160, 80  # pixels of the longer side, as DCF wants it


def check_format(name: str) -> None:
    """`UsageError` if it is no key of `FORMATS`."""
    if not isinstance(name, str) or name not in FORMATS:
        raise UsageError(f"unknown format {name!r}; known: {', '.join(FORMATS)}")


def format_of_suffix(path: str | os.PathLike[str]) -> str:
    """The format that a file name implies, a key of ``FORMATS``."""
    suffix = Path(path).suffix.lower()
    if suffix not in OUTPUT_SUFFIXES:
        known = ", ".join(OUTPUT_SUFFIXES)
        raise UsageError(f"{path}: unknown suffix {suffix!r}; use one of {known}, or end a folder with '/'")
    return OUTPUT_SUFFIXES[suffix]


def write_picture(
    target: Path | BinaryIO,
    pixels: Pixels | RestoredRaw,
    metadata: Metadata,
    *,
    format: str,
    quality: int = 95,
    software: str,
    overwrite: bool,
    notes: list[str] | None = None,
) -> int:
    """Write one picture completely, or raise and write nothing.

    Parameters
    ----------
    target : Path or writable binary stream
        For a path, a temporary file beside it is renamed when complete; links are followed.
    pixels : ndarray of shape (H, W, 3), uint8 or uint16; for a DNG a RestoredRaw
        Upright sRGB.
    metadata : Metadata
        Written as EXIF, with the tags that describe the new file added, and XMP.
    format : str
        A key of ``FORMATS``; JPEG holds 8 bits only.
    quality : int
        JPEG only, 1 to 100. The chroma has full resolution.
    software : str
        EXIF tag Software.
    overwrite : bool
        Replace an existing file, keeping its permissions.
    notes : list of str, optional
        A sentence is added if a JPEG has no room for some of the metadata.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    ValueError
        If the pixels do not fit the description above.
    OutputExistsError
        If the file exists and ``overwrite`` is false.
    OutputError
        If the picture is too large for the format, or cannot be written.
    """
    stream = getattr(target, "name", None)  # a number, if it was opened by one
    name = str(target) if isinstance(target, Path) else stream if isinstance(stream, str) else "output stream"
    if isinstance(pixels, RestoredRaw) != (format == "dng"):
        raise ValueError(f"{format} cannot hold {type(pixels).__name__}")
    if not isinstance(pixels, RestoredRaw):
        _check_pixels(pixels, format)
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1 to 100, not {quality}")
    if isinstance(target, Path) and not overwrite and is_taken(target):
        raise exists_already(target)
    height, width = pixels.shape[:2]
    ifds = picture_ifds(metadata, width, height, software, format)
    if isinstance(pixels, RestoredRaw):
        _refuse_4_gib(pixels.samples, f"{name}: a DNG")
        data = with_metadata(encode_dng(pixels, metadata.camera), ifds)
    elif format == "jpeg":
        data = _encode_jpeg(pixels, ifds, metadata.xmp, quality, name, [] if notes is None else notes)
    elif format == "png":
        data = _encode_png(pixels, ifds, metadata.xmp)
    else:
        _refuse_4_gib(pixels, f"{name}: a TIFF")
        data = _encode_tiff(pixels, ifds)
    with output_errors(name):
        if isinstance(target, Path):
            save(target, data, overwrite)
        else:
            pour(target, data)
    return len(data)


def _check_pixels(pixels: Pixels, format: str) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"pixels must be (H, W, 3), not {pixels.shape}")
    if pixels.dtype.itemsize * 8 not in FORMATS[format].bit_depths or pixels.dtype.kind != "u":
        raise ValueError(f"{format} cannot hold {pixels.dtype}")


def _refuse_4_gib(pixels: Pixels, file: str) -> None:
    if pixels.nbytes > TIFF_MAX_BYTES:
        raise OutputError(f"{file} holds at most 4 GiB; choose PNG")


def _encode_jpeg(pixels: Pixels, ifds: Ifds, xmp: bytes, quality: int, name: str, notes: list[str]) -> bytes:
    if max(pixels.shape) > JPEG_MAX_SIDE:
        raise OutputError(
            f"{name}: JPEG holds at most {JPEG_MAX_SIDE} pixels a side, but the picture is "
            f"{pixels.shape[1]}x{pixels.shape[0]}; choose PNG or TIFF"
        )
    jpeg = imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels), quality, subsampling="444", optimize=True)
    exif = b"Exif\0\0" + exif_block(ifds, _thumbnail(pixels))
    if len(exif) > JPEG_MAX_SEGMENT:
        exif = b"Exif\0\0" + exif_block(ifds)
    while len(exif) > JPEG_MAX_SEGMENT:
        tag, size = drop_largest(ifds)
        notes.append(
            f"EXIF tag 0x{tag:04X} dropped: a JPEG has no room for its {size} bytes; TIFF and PNG keep it"
        )
        exif = b"Exif\0\0" + exif_block(ifds)
    packet, dropped = shortened(xmp, JPEG_MAX_SEGMENT - len(XMP_IN_JPEG))
    if dropped:
        more = f" and {len(dropped) - NAMED} more" if len(dropped) > NAMED else ""
        notes.append(
            f"{', '.join(dropped[:NAMED])}{more} dropped: a JPEG has no room for it; TIFF and PNG keep it"
        )
    profile = b"ICC_PROFILE\0\1\1" + srgb_profile()
    bodies = [(b"\xe1", exif), *([(b"\xe1", XMP_IN_JPEG + packet)] if packet else []), (b"\xe2", profile)]
    segments = [b"\xff" + marker + struct.pack(">H", len(body) + 2) + body for marker, body in bodies]
    start = 4 + int.from_bytes(jpeg[4:6], "big")  # after the JFIF segment, which libjpeg always writes
    return b"".join((jpeg[:start], *segments, jpeg[start:]))


def _thumbnail(pixels: Pixels) -> bytes:
    """The picture in small, for file managers; nothing for one that is hardly larger."""
    longest = max(pixels.shape[:2])
    if longest <= 2 * THUMBNAIL_SIDE:
        return b""
    step = longest // (2 * THUMBNAIL_SIDE)
    small = reduce_to(pixels[::step, ::step], THUMBNAIL_SIDE)
    return bytes(imagecodecs.jpeg8_encode(small, THUMBNAIL_QUALITY, subsampling="420", optimize=True))


def _encode_png(pixels: Pixels, ifds: Ifds, xmp: bytes) -> bytes:
    png = imagecodecs.png_encode(np.ascontiguousarray(pixels))
    profile = b"sRGB\0\0" + zlib.compress(srgb_profile(), 9)
    text = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp  # not compressed, no language, no translated keyword
    bodies = [(b"iCCP", profile), (b"eXIf", exif_block(ifds)), *([(b"iTXt", text)] if xmp else [])]
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in bodies
    ]
    start = 8 + 25  # signature, IHDR
    return b"".join((png[:start], *chunks, png[start:]))


def _encode_tiff(pixels: Pixels, ifds: Ifds) -> bytes:
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
        resolution=(72, 72),
        resolutionunit="INCH",
    )
    return with_metadata(buffer.getvalue(), ifds)


@cache
def srgb_profile() -> bytes:
    """The ICC profile of sRGB, with a fixed creation date so that equal input gives equal bytes."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + profile[36:]

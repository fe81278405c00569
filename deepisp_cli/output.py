"""Write finished pixels as JPEG, PNG or TIFF with EXIF, GPS, XMP and colour profile, or a restored raw as
DNG: a whole file or none.

imagecodecs and tifffile encode the pixels, Pillow supplies the sRGB profile. Pillow's own optimised JPEGs
fail on noisy pictures, whose size it underestimates ("broken data stream when writing image file").
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import secrets
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import imagecodecs
import numpy as np
import tifffile
from PIL import ImageCms

from deepisp_cli.errors import OutputError, OutputExistsError, UsageError
from deepisp_cli.exif import Ifds, drop_largest, exif_block, picture_ifds, with_metadata
from deepisp_cli.reduction import reduce_to
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

JPEG_MAX_SIDE = 65500  # libjpeg's JPEG_MAX_DIMENSION
NAMED = 5  # of the properties that a JPEG has no room for
JPEG_MAX_SEGMENT = 65533  # its length field has 16 bits and counts itself
TIFF_MAX_BYTES = 2**32 - 2**25  # of pixels: offsets have 32 bits, and the rest needs room, too
STRIP_BYTES = 1 << 20
THUMBNAIL_SIDE, THUMBNAIL_QUALITY = 160, 80  # pixels of the longer side, as DCF wants it

REMEDIES = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "free some space or choose another folder",
    errno.EACCES: "choose a folder you may write to",
    errno.EPERM: "choose a folder you may write to",
    errno.EROFS: "choose a folder you may write to",
    errno.ENOENT: "create the folder first",
    errno.ENOTDIR: "choose another folder",
    errno.EISDIR: "name a file, not a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EPIPE: "the program that reads it has closed the pipe",
}


def format_of_suffix(path: str | os.PathLike[str]) -> str:
    """The format that a file name implies, a key of ``FORMATS``."""
    suffix = Path(path).suffix.lower()
    for name, known in FORMATS.items():
        if suffix in known.suffixes:
            return name
    suffixes = ", ".join(suffix for known in FORMATS.values() for suffix in known.suffixes)
    raise UsageError(f"{path}: unknown suffix {suffix!r}; use one of {suffixes}, or end a folder with '/'")


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
    name = str(target) if isinstance(target, Path) else "output stream"
    if isinstance(pixels, RestoredRaw) != (format == "dng"):
        raise ValueError(f"{format} cannot hold {type(pixels).__name__}")
    if not isinstance(pixels, RestoredRaw):
        _check_pixels(pixels, format)
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1 to 100, not {quality}")
    if isinstance(target, Path) and not overwrite and is_taken(target):
        raise _exists(target)
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
            _save(target, data, overwrite)
        else:
            _pour(target, data)
    return len(data)


def _check_pixels(pixels: Pixels, format: str) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"pixels must be (H, W, 3), not {pixels.shape}")
    if pixels.dtype.itemsize * 8 not in FORMATS[format].bit_depths or pixels.dtype.kind != "u":
        raise ValueError(f"{format} cannot hold {pixels.dtype}")


def _refuse_4_gib(pixels: Pixels, file: str) -> None:
    if pixels.nbytes > TIFF_MAX_BYTES:
        raise OutputError(f"{file} holds at most 4 GiB; choose PNG")


# --- encoding ---


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


# --- files ---

_unfinished: set[str] = set()  # temporary files being written


@contextlib.contextmanager
def output_errors(name: object) -> Iterator[None]:
    """Turn the system's errors about a file that cannot be written into `OutputError`."""
    try:
        yield
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "check the disk and the path")
        raise OutputError(f"{name}: cannot be written ({error.strerror or error}); {remedy}") from error


def replace_file(target: Path, data: bytes) -> None:
    """Write a file completely, or raise `OutputError` and leave what was there."""
    with output_errors(target):
        _save(target, data, overwrite=True)


def _save(target: Path, data: bytes, overwrite: bool) -> None:
    """Write a file under another name in the same folder and rename it when it is complete."""
    if is_device(target):
        with open(target, "wb", buffering=0) as device:
            return _pour(device, data)
    final = os.path.realpath(target)
    temporary = os.path.join(os.path.dirname(final), f".deepisp-{secrets.token_hex(8)}.part")
    _unfinished.add(temporary)
    try:
        with open(temporary, "xb") as file:  # not by tempfile, whose files only the owner can read
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            if os.name == "posix":  # elsewhere: write protection, which stops renaming and removing
                with contextlib.suppress(OSError):
                    os.chmod(temporary, stat.S_IMODE(os.stat(final).st_mode))
            os.replace(temporary, final)
        else:
            _rename_to_new(temporary, final)
    except FileExistsError as error:
        raise _exists(target) from error
    finally:
        _remove(temporary)


def _remove(temporary: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(temporary)
    _unfinished.discard(temporary)


@atexit.register
def _remove_unfinished() -> None:
    """Remove what threads were still writing when the program was forced to end."""
    for temporary in list(_unfinished):
        _remove(temporary)


def _rename_to_new(temporary: str, final: str) -> None:
    """Rename, but fail if the new name exists, even if it has only just appeared."""
    try:
        os.link(temporary, final)
    except (FileExistsError, FileNotFoundError):  # not found: `_remove_unfinished` was first
        raise
    except OSError:  # a file system without hard links: FAT, some network shares
        os.close(os.open(final, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            os.replace(temporary, final)
        except BaseException:
            os.unlink(final)
            raise


def is_taken(target: Path) -> bool:
    """Whether writing there would replace something: also a dangling link, but not a device."""
    return os.path.lexists(target) and not is_device(target)


def check_target(target: Path, overwrite: bool) -> None:
    """Look, before minutes of work, whether a picture can be written; `write_picture` looks once more.

    Raises
    ------
    OutputExistsError
        If that would replace something, and ``overwrite`` does not allow it.
    OutputError
        If the folder that it goes into, or would be made in, cannot be written.
    """
    if not overwrite and is_taken(target):
        raise _exists(target)
    with contextlib.suppress(OSError):  # reported when the folder is made
        parents = target.absolute().parents
        drive = parents[-1]  # which may be missing, too
        folder = next((parent for parent in parents if parent.exists()), drive)
        if not folder.is_dir():
            raise OutputError(f"{folder}: is not a folder; choose another with -o")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{folder}: cannot be written to; choose another folder with -o")


def make_parent(target: Path) -> None:
    """Make the folder that a picture goes into.

    Raises
    ------
    OutputError
        If that fails.
    """
    try:
        os.makedirs(target.parent, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{target.parent}: cannot be created ({error.strerror}); choose another folder with -o"
        ) from error


def is_device(path: Path) -> bool:
    """Whether the path is a device or pipe, such as /dev/stdout: written to, never replaced."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _pour(stream: BinaryIO, data: bytes) -> None:
    """Write everything: an unbuffered stream may accept only part at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) or 0 :]
    stream.flush()


def _exists(target: Path) -> OutputExistsError:
    return OutputExistsError(f"{target}: already exists; use --overwrite or choose another name")

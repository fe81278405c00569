"""LibRaw, through rawpy: a raw file's samples and what LibRaw knows of them, copied out of its memory."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import rawpy

from deepisp_cli.dng_tags import Tags
from deepisp_cli.errors import InputError, UnsupportedRawError

# LibRaw's flip is "50132467"[orientation & 7], so EXIF orientation N is _FLIPS.index(flip) + 1.
_FLIPS = (0, 1, 3, 2, 4, 6, 7, 5)
_STARTS = {
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"GIF8": "a GIF picture",
    b"BM": "a BMP picture",
    b"%PDF": "a PDF document",
    b"RIFF": "a RIFF file (WebP, AVI, WAV)",
    b"PK\x03\x04": "a ZIP archive",
    b"II+\0": "a BigTIFF file",
    b"MM\0+": "a BigTIFF file",
}
# With too little memory LibRaw raises either.
OUT_OF_MEMORY = (rawpy.LibRawUnsufficientMemoryError, rawpy.LibRawMemPoolOverflowError)
_HEIF_BRANDS = (b"heic", b"heix", b"mif1", b"avif")


class Decoded(NamedTuple):
    """A raw as decoded. What has a default is for files without a DNG's tags, which state that themselves;
    LibRaw's matrix also counts for a DNG that has none."""

    samples: np.ndarray  # (H, W) or (H, W, 3), with margins
    colours: np.ndarray | None  # (n, n) colour numbers from samples[0, 0]; None: not a mosaic
    letters: str  # the letter of each colour number
    origin: np.ndarray  # (top, left) of the visible area
    visible: tuple[int, int]  # (height, width) of that area
    orientation: int
    pixel_aspect: float
    capture: Mapping[str, Any]
    black: np.ndarray = np.zeros(4, np.float32)  # by colour number
    white: np.ndarray = np.zeros(4, np.float32)  # by colour number
    camera_gains: np.ndarray = np.ones(3)
    daylight_gains: np.ndarray = np.ones(3)
    xyz_to_camera: np.ndarray = np.zeros((3, 3))


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn LibRaw's errors about memory into MemoryError."""
    try:
        yield
    except OUT_OF_MEMORY as error:
        raise MemoryError(str(error)) from error


def read_preview(source: BinaryIO) -> bytes | None:
    """Return the largest embedded JPEG preview (LibRaw adds an EXIF header if it has none), or None."""
    source.seek(0)
    with rawpy.RawPy() as raw:
        try:
            with memory_errors():
                raw.open_buffer(source)
                # Never after unpack(): there rawpy releases the buffer, and LibRaw would read freed memory.
                data = raw.extract_thumb().data
        except (rawpy.LibRawError, rawpy.NotSupportedError, NotImplementedError):
            return None
    return data if isinstance(data, bytes) else None


def read_capture(source: BinaryIO) -> Mapping[str, Any]:
    """Return `RawImage.capture` without decoding the samples; empty if LibRaw cannot open the file."""
    source.seek(0)
    with rawpy.RawPy() as raw:
        try:
            with memory_errors():
                raw.open_buffer(source)
                return _capture(raw)
        except (rawpy.LibRawError, rawpy.NotSupportedError):
            return {}


def decode(source: BinaryIO, tags: Tags) -> Decoded:
    """Let LibRaw decode the file.

    Parameters
    ----------
    source : seekable binary file
    tags : from `dng_tags.read_tags`; they tell whether a file that LibRaw refuses is a TIFF.

    Raises
    ------
    InputError, UnsupportedRawError, MemoryError
    """
    source.seek(0)
    start = source.read(12)
    source.seek(0)
    with rawpy.RawPy() as raw:
        try:
            with memory_errors():
                raw.open_buffer(source)
        except rawpy.LibRawError as error:
            raise InputError(_not_raw(start, tags)) from error
        try:
            with memory_errors():
                raw.unpack()
                stored, colours = raw.raw_image, _colours(raw)
        except (rawpy.LibRawFileUnsupportedError, NotImplementedError, RuntimeError) as error:
            raise UnsupportedRawError("LibRaw cannot decode its data; convert it to DNG") from error
        except rawpy.LibRawTooBigError as error:
            raise UnsupportedRawError("too large for LibRaw; develop a part of it") from error
        except rawpy.LibRawError as error:
            raise InputError("damaged or cut off; copy it again") from error
        white = raw.camera_white_level_per_channel or [raw.white_level] * 4
        return Decoded(
            samples=stored[..., :3].copy() if stored.ndim == 3 else stored.copy(),
            colours=colours,
            letters=raw.color_desc.decode("ascii", "replace"),
            origin=np.array([raw.sizes.top_margin, raw.sizes.left_margin]),
            visible=(raw.sizes.height, raw.sizes.width),
            orientation=_FLIPS.index(raw.sizes.flip & 7) + 1,
            pixel_aspect=raw.sizes.pixel_aspect,
            black=np.array(raw.black_level_per_channel, np.float32),
            white=np.minimum(white, raw.white_level).astype(np.float32),
            camera_gains=np.array(raw.camera_whitebalance[:3]),
            daylight_gains=np.array(raw.daylight_whitebalance[:3]),
            xyz_to_camera=raw.rgb_xyz_matrix[:3].astype(np.float64),
            capture=_capture(raw),
        )


def _colours(raw: rawpy.RawPy) -> np.ndarray | None:
    """``raw.raw_pattern``, also of X-Trans mosaics whose margins are wider than six samples: there LibRaw
    reads outside its table, so the visible area's colours are asked for and rolled back."""
    colours = raw.raw_pattern
    if colours is None or colours.shape != (6, 6):
        return colours
    top, left = raw.sizes.top_margin, raw.sizes.left_margin
    visible = [[raw.raw_color(top + row, left + column) for column in range(6)] for row in range(6)]
    return np.roll(visible, (top, left), (0, 1))


def _not_raw(start: bytes, tags: Tags) -> str:
    kind = next((kind for magic, kind in _STARTS.items() if start.startswith(magic)), "")
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS:
        kind = "a HEIF picture"
    elif start[4:8] == b"ftyp" and start[8:12] != b"crx ":  # Canon's raws
        kind = "a film or sound (MOV, MP4)"
    if tags and "PhotometricInterpretation" not in tags:
        return "a TIFF without raw data that LibRaw can read: a picture, or a damaged, cut-off or too new raw"
    if kind:
        return f"{kind}, not a raw file; give the raw file that the camera wrote"
    return "not a raw file that LibRaw can read; if a camera wrote it, it is damaged, cut off or too new"


def _capture(raw: rawpy.RawPy) -> dict[str, Any]:
    """Return what LibRaw knows about the exposure, for which 0 means unknown."""
    try:
        other = raw.other
    except (ValueError, OverflowError, OSError):  # a date that is none: the year 10000
        return {}
    known = {
        "iso": other.iso_speed,
        "exposure_time": other.shutter_speed,
        "f_number": other.aperture,
        "focal_length": other.focal_length,
        "timestamp": other.timestamp if other.timestamp != datetime.fromtimestamp(0) else None,
        "lens": raw.lens.model,
        "artist": other.artist,
    }
    return {key: value for key, value in known.items() if value}

"""Write a DNG: a mosaic or linear RGB with levels, white balance, matrix, crops, preview and EXIF.

Tag names and meanings: Adobe DNG Specification 1.4, which every DNG reader supports.
"""

import io
import math
from collections.abc import Iterable, Mapping
from itertools import product
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import tifffile

from deepisp_cli.dng_tags import UNKNOWN_CAMERA, RawTag
from deepisp_cli.exif import nearest_ratio, to_fields, with_metadata
from deepisp_cli.machine import on_all_cores

_JPEG = 7  # Compression
_TILE = 512  # side in pixels of a tile of linear samples that is a lossless JPEG: a multiple of 16
_D65 = 21  # EXIF LightSource
_WIDEST_GAIN = 1000  # and its inverse the smallest: the inverses of gains are written as rationals


def write_dng(
    target: str | PathLike[str] | BinaryIO,
    samples: np.ndarray,
    *,
    pattern: str | None,
    black: Any = 0,
    white: int | None = None,
    white_balance: Iterable[float] | None = None,
    xyz_to_camera: np.ndarray | None = None,
    orientation: int = 1,
    make: str = "",
    model: str = "",
    unique_camera_model: str = "",
    active_area: tuple[int, int, int, int] | None = None,
    default_crop: tuple[int, int, int, int] | None = None,
    compression: str = "none",
    preview: bytes | None = None,
    exif: Mapping[int, Any] | None = None,
    gps: Mapping[int, Any] | None = None,
    extra: Iterable[tuple[int, int, int, Any]] = (),
) -> None:
    """Write one picture as DNG.

    Parameters
    ----------
    target : path, or writable binary stream
        Written in one go at the end; an existing file is replaced.
    samples : ndarray of shape (H, W) for a mosaic or (H, W, 3) for linear camera RGB, uint8 or uint16
        Counts, black not subtracted. A mosaic has 2x2 samples at least.
    pattern : str or None
        CFA colours from the first sample of the active area in reading order, 2x2 ("RGGB") or 6x6; None:
        linear.
    black : number, or array of shape (rows, columns) for a mosaic, (3,) for linear
        Counts from 0 to below ``white``; a mosaic's tile repeats from the first sample of the active area.
    white : int, optional
        Counts; by default the largest of the dtype.
    white_balance : three numbers from 0.001 to 1000, optional
        RGB gains as shot; AsShotNeutral is their inverse.
    xyz_to_camera : ndarray of shape (3, 3), optional
        ColorMatrix1, for D65.
    orientation : int
        EXIF orientation that turns the samples upright, 1 to 8.
    make, model : str
        Of the camera.
    unique_camera_model : str
        By which programs find its profile; by default make and model, or "unknown".
    active_area, default_crop : (top, left, height, width), optional
        ActiveArea of ``samples``; default crop within the active area.
    compression : "none" or "ljpeg"
        "ljpeg" is lossless JPEG; linear samples are then uint16.
    preview : bytes, optional
        A JPEG of the finished picture, 4:2:0, for file managers and catalogues.
    exif, gps : mapping from tag number to value, optional
        ``int``, ``str``, ``bytes``; ``float`` and ``Fraction`` for rationals; tuples of these.
    extra : (code, TIFF type number, count, value), optional
        Further tags as tifffile takes them, not checked; they override those made here.

    Raises
    ------
    ValueError
        If shape, dtype, pattern and compression do not fit together, or levels, gains, matrix or orientation
        are not as stated above.
    """
    _check(samples, pattern, compression)
    white = np.iinfo(samples.dtype).max if white is None else white
    _check_levels(pattern, black, white)
    if orientation not in range(1, 9):
        raise ValueError(f"orientation must be 1 to 8, not {orientation!r}")
    if xyz_to_camera is not None and not (
        np.shape(xyz_to_camera) == (3, 3) and np.isfinite(xyz_to_camera).all()
    ):
        raise ValueError(f"xyz_to_camera must be 3x3 finite numbers, not {xyz_to_camera!r}")
    tags = [
        _ascii(271, make),
        _ascii(272, model),
        RawTag(274, 3, 1, orientation),
        RawTag(50706, 1, 4, bytes((1, 4, 0, 0))),  # DNGVersion
        RawTag(50707, 1, 4, bytes((1, 1, 0, 0))),  # DNGBackwardVersion
        _ascii(50708, unique_camera_model or f"{make} {model}".strip() or UNKNOWN_CAMERA),
        *_level_tags(pattern, black, white),
    ]
    if xyz_to_camera is not None:
        tags += [_rationals(50721, np.ravel(xyz_to_camera), signed=True), RawTag(50778, 3, 1, _D65)]
    if white_balance is not None:
        tags.append(_rationals(50728, 1 / _checked_gains(white_balance)))
    if active_area is not None:
        top, left, height, width = active_area
        tags.append(RawTag(50829, 4, 4, (top, left, top + height, left + width)))
    if default_crop is not None:
        top, left, height, width = default_crop
        tags += [RawTag(50719, 4, 2, (left, top)), RawTag(50720, 4, 2, (width, height))]
    further = [RawTag(*tag) for tag in extra]
    replaced = {tag.code for tag in further}
    tags = [tag for tag in tags if tag.code not in replaced] + further
    contents = _tiff(samples, pattern, compression, tags, preview)
    if exif or gps:
        given = {"image": {}, "exif": exif or {}, "gps": gps or {}}
        contents = with_metadata(contents, {ifd: to_fields(ifd, values) for ifd, values in given.items()})
    if isinstance(target, str | PathLike):
        Path(target).write_bytes(contents)
    else:
        target.write(contents)


def _check(samples: np.ndarray, pattern: str | None, compression: str) -> None:
    shape = "(H, W)" if pattern else "(H, W, 3)"
    if samples.ndim != (2 if pattern else 3) or (pattern is None and samples.shape[2] != 3):
        raise ValueError(f"samples must have shape {shape}, not {samples.shape}")
    if min(samples.shape[:2]) < (2 if pattern else 1):
        raise ValueError(f"samples must be {'2x2' if pattern else '1x1'} at least, not {samples.shape}")
    if samples.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"samples must be uint8 or uint16, not {samples.dtype}")
    if pattern is not None and (len(pattern) not in (4, 36) or not set(pattern) <= set("RGB")):
        raise ValueError(f"pattern must be 4 or 36 of R, G and B, not {pattern!r}")
    if compression not in ("none", "ljpeg"):
        raise ValueError(f"compression {compression!r} is not known")
    if compression == "ljpeg" and pattern is None and samples.dtype != np.uint16:
        raise ValueError("linear samples in lossless JPEG must be uint16")


def _check_levels(pattern: str | None, black: Any, white: int) -> None:
    levels = np.asarray(black, np.float64)
    if pattern is None:
        shape, fits = "(3,)", levels.shape in ((), (3,))
    else:
        shape, fits = "(rows, columns)", levels.ndim in (0, 2) and levels.size > 0
    if not fits:
        raise ValueError(f"black must be a number or of shape {shape}, not {levels.shape}")
    if not (isinstance(white, Integral) and white < 2**32):
        raise ValueError(f"white must be a whole number of 32 bits, not {white!r}")
    if not 0 <= levels.min() <= levels.max() < white:  # false for NaN, too
        raise ValueError(f"black must be from 0 to below white ({white!r}), not {black!r}")


def _checked_gains(white_balance: Iterable[float]) -> np.ndarray:
    gains = np.array(list(white_balance), np.float64)
    if gains.shape != (3,) or not np.all((gains >= 1 / _WIDEST_GAIN) & (gains <= _WIDEST_GAIN)):
        raise ValueError(
            f"white_balance must be three gains from {1 / _WIDEST_GAIN:g} to {_WIDEST_GAIN}, "
            f"not {gains.tolist()}"
        )
    return gains


def _level_tags(pattern: str | None, black: Any, white: int) -> list[RawTag]:
    planes = 1 if pattern else 3
    tile = np.atleast_2d(np.asarray(black, np.float64)) if pattern else np.resize(black, (1, 1, 3))
    tags = [
        RawTag(50713, 3, 2, tile.shape[:2]),  # BlackLevelRepeatDim
        _rationals(50714, tile.ravel()),  # BlackLevel
        RawTag(50717, 4, planes, (white,) * planes),  # WhiteLevel
    ]
    if pattern:
        side = math.isqrt(len(pattern))
        tags += [
            RawTag(33421, 3, 2, (side, side)),
            RawTag(33422, 1, side**2, bytes("RGB".index(letter) for letter in pattern)),
        ]
    return tags


def _ascii(code: int, text: str) -> RawTag:
    encoded = text.encode("utf-8", "replace") + b"\0"  # the standard says ASCII; everybody writes UTF-8
    return RawTag(code, 2, len(encoded), encoded)


def _rationals(code: int, numbers: Iterable[float], *, signed: bool = False) -> RawTag:
    largest = 2**31 - 1 if signed else 2**32 - 1
    fractions = [nearest_ratio(float(number), largest) for number in numbers]
    parts = [part for fraction in fractions for part in (fraction.numerator, fraction.denominator)]
    return RawTag(code, 10 if signed else 5, len(fractions), parts)


def _tiff(
    samples: np.ndarray, pattern: str | None, compression: str, tags: list[RawTag], preview: bytes | None
) -> bytes:
    """Return a TIFF file whose first directory holds the samples; below it is the preview's."""
    file = io.BytesIO()
    data: Any = samples
    layout: dict[str, Any] = {"rowsperstrip": samples.shape[0]}
    if compression == "ljpeg" and pattern:
        height, width = samples.shape
        # columns in turn as two colours: neighbours of the same colour predict each other
        colours = samples if width % 2 else samples.reshape(height, width // 2, 2)
        data = iter([_lossless(colours)])
    elif compression == "ljpeg":
        # LibRaw wraps tiles that are wider than the picture
        side = min(_TILE, max(16, samples.shape[1] // 16 * 16))
        data, layout = iter(_lossless_tiles(samples, side)), {"tile": (side, side)}
    with tifffile.TiffWriter(file, byteorder="<") as writer:
        writer.write(
            data,
            shape=samples.shape,
            dtype=samples.dtype,
            photometric="cfa" if pattern else "linear_raw",
            planarconfig=None if pattern else "contig",
            compression=None if compression == "none" else _JPEG,
            bitspersample=8 * samples.dtype.itemsize,  # tifffile takes 16-bit JPEG for 12 bits
            subfiletype=0,
            subifds=0 if preview is None else 1,
            software="deepisp",
            metadata=None,
            extratags=[(*tag, True) for tag in tags],
            **layout,
        )
        if preview is not None:
            shape = imagecodecs.jpeg8_decode(preview).shape
            writer.write(
                iter([preview]),
                shape=shape,
                dtype=np.uint8,
                photometric="ycbcr",
                subsampling=(2, 2),
                compression=_JPEG,
                rowsperstrip=shape[0],
                subfiletype=1,
                software=False,
                metadata=None,
            )
    return file.getvalue()


def _lossless_tiles(samples: np.ndarray, side: int) -> list[bytes]:
    """Each tile as a lossless JPEG; those at the right and lower edges are filled up by repetition."""

    def encode(corner: tuple[int, int]) -> bytes:
        top, left = corner
        tile = samples[top : top + side, left : left + side]
        missing = ((0, side - tile.shape[0]), (0, side - tile.shape[1]), (0, 0))
        return _lossless(np.pad(tile, missing, mode="edge"))

    height, width = samples.shape[:2]
    return on_all_cores(encode, product(range(0, height, side), range(0, width, side)))


def _lossless(samples: np.ndarray) -> bytes:
    """A lossless JPEG. Its predictor 1, the sample on the left, is the only one that every reader knows."""
    bits = 8 * samples.dtype.itemsize
    samples = np.ascontiguousarray(samples)
    return bytes(imagecodecs.jpeg8_encode(samples, lossless=True, predictor=1, bitspersample=bits))

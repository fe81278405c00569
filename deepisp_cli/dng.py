"""Write a DNG: a Bayer mosaic or linear RGB with levels, white balance, matrix, crops and EXIF.

Tag names and meanings: Adobe DNG Specification 1.4, which every DNG reader supports.
"""

import io
import math
import struct
from collections.abc import Iterable, Mapping
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import tifffile
from PIL import TiffImagePlugin

from deepisp_cli.exif import nearest_ratio

_EXIF_IFD, _GPS_IFD = 34665, 34853
_D65 = 21  # EXIF LightSource
_LARGEST_GAIN = 1000  # and its inverse the smallest: the inverses of gains are written as rationals


class _Tag(NamedTuple):
    """One entry of tifffile's ``extratags``."""

    code: int
    dtype: int
    length: int
    value: Any
    once: bool = True


def write_dng(
    path: str | PathLike[str],
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
    active_area: tuple[int, int, int, int] | None = None,
    default_crop: tuple[int, int, int, int] | None = None,
    compression: str = "none",
    exif: Mapping[int, Any] | None = None,
    gps: Mapping[int, Any] | None = None,
    extra: Iterable[tuple[int, int, int, Any]] = (),
) -> None:
    """Write one picture as DNG.

    Parameters
    ----------
    path : path
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
        Of the camera; where both are "", UniqueCameraModel is "unknown".
    active_area, default_crop : (top, left, height, width), optional
        ActiveArea of ``samples``; default crop within the active area.
    compression : "none" or "ljpeg"
        "ljpeg" is lossless JPEG, for a mosaic only.
    exif, gps : mapping from tag number to value, optional
        Values as Pillow takes them, also ``float`` and ``Fraction`` for rationals, and tuples of these.
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
        _Tag(274, 3, 1, orientation),
        _Tag(50706, 1, 4, bytes((1, 4, 0, 0))),  # DNGVersion
        _Tag(50707, 1, 4, bytes((1, 1, 0, 0))),  # DNGBackwardVersion
        _ascii(50708, f"{make} {model}".strip() or "unknown"),  # UniqueCameraModel
        *_level_tags(pattern, black, white),
    ]
    if xyz_to_camera is not None:
        tags += [_rationals(50721, np.ravel(xyz_to_camera), signed=True), _Tag(50778, 3, 1, _D65)]
    if white_balance is not None:
        tags.append(_rationals(50728, 1 / _checked_gains(white_balance)))
    if active_area is not None:
        top, left, height, width = active_area
        tags.append(_Tag(50829, 4, 4, (top, left, top + height, left + width)))
    if default_crop is not None:
        top, left, height, width = default_crop
        tags += [_Tag(50719, 4, 2, (left, top)), _Tag(50720, 4, 2, (width, height))]
    directories = {_EXIF_IFD: exif, _GPS_IFD: gps}
    # tifffile drops pointers that it did not make, so they are first written under their tag number minus 1.
    tags += [_Tag(code - 1, 4, 1, 0) for code, values in directories.items() if values]
    further = [_Tag(*tag) for tag in extra]
    replaced = {tag.code for tag in further}
    contents = _tiff(
        samples, pattern, compression, [tag for tag in tags if tag.code not in replaced] + further
    )
    for code, values in directories.items():
        if values:
            contents = _append_directory(contents, code, values)
    Path(path).write_bytes(contents)


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
    if compression not in ("none", "ljpeg") or (compression == "ljpeg" and pattern is None):
        raise ValueError(f"compression {compression!r} is not known, or not for linear samples")


def _check_levels(pattern: str | None, black: Any, white: int) -> None:
    levels = np.asarray(black, np.float64)
    if pattern is None:
        shape, fits = "(3,)", levels.shape in ((), (3,))
    else:
        shape, fits = "(rows, columns)", levels.ndim <= 2 and levels.size > 0
    if not fits:
        raise ValueError(f"black must be a number or of shape {shape}, not {levels.shape}")
    if not 0 <= levels.min() <= levels.max() < white:  # false for NaN, too
        raise ValueError(f"black must be from 0 to below white ({white!r}), not {black!r}")


def _checked_gains(white_balance: Iterable[float]) -> np.ndarray:
    gains = np.array(list(white_balance), np.float64)
    if gains.shape != (3,) or not np.all((gains >= 1 / _LARGEST_GAIN) & (gains <= _LARGEST_GAIN)):
        raise ValueError(
            f"white_balance must be three gains from {1 / _LARGEST_GAIN:g} to {_LARGEST_GAIN}, "
            f"not {gains.tolist()}"
        )
    return gains


def _level_tags(pattern: str | None, black: Any, white: int) -> list[_Tag]:
    planes = 1 if pattern else 3
    tile = np.atleast_2d(np.asarray(black, np.float64)) if pattern else np.resize(black, (1, 1, 3))
    tags = [
        _Tag(50713, 3, 2, tile.shape[:2]),  # BlackLevelRepeatDim
        _rationals(50714, tile.ravel()),  # BlackLevel
        _Tag(50717, 4, planes, (white,) * planes),  # WhiteLevel
    ]
    if pattern:
        side = math.isqrt(len(pattern))
        tags += [
            _Tag(33421, 3, 2, (side, side)),
            _Tag(33422, 1, side**2, bytes("RGB".index(letter) for letter in pattern)),
        ]
    return tags


def _ascii(code: int, text: str) -> _Tag:
    return _Tag(code, 2, 0, text)


def _rationals(code: int, numbers: Iterable[float], *, signed: bool = False) -> _Tag:
    largest = 2**31 - 1 if signed else 2**32 - 1
    fractions = [nearest_ratio(float(number), largest) for number in numbers]
    parts = [part for fraction in fractions for part in (fraction.numerator, fraction.denominator)]
    return _Tag(code, 10 if signed else 5, len(fractions), parts)


def _tiff(samples: np.ndarray, pattern: str | None, compression: str, tags: list[_Tag]) -> bytes:
    """Return a TIFF file of one directory with the samples in one strip."""
    file = io.BytesIO()
    data: Any = samples
    if compression == "ljpeg":
        data = iter([imagecodecs.ljpeg_encode(np.ascontiguousarray(samples))])
    with tifffile.TiffWriter(file, byteorder="<") as writer:
        writer.write(
            data,
            shape=samples.shape,
            dtype=samples.dtype,
            photometric="cfa" if pattern else "linear_raw",
            planarconfig=None if pattern else "contig",
            compression=None if compression == "none" else 7,
            rowsperstrip=samples.shape[0],
            subfiletype=0,
            software="deepisp",
            metadata=None,
            extratags=tags,
        )
    return file.getvalue()


def _append_directory(contents: bytes, pointer: int, values: Mapping[int, Any]) -> bytes:
    """Return the file with a directory of ``values`` at its end and tag ``pointer`` pointing there."""
    directory = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\0\0\0\0", group=pointer)
    for code, value in values.items():
        directory[code] = (
            tuple(map(_pillow_value, value)) if isinstance(value, tuple) else _pillow_value(value)
        )
    contents += b"\0" * (len(contents) % 2)
    patched = bytearray(contents + directory.tobytes(len(contents)))
    (first,) = struct.unpack_from("<I", contents, 4)
    (entries,) = struct.unpack_from("<H", contents, first)
    for entry in range(first + 2, first + 2 + 12 * entries, 12):  # code, type, count, value
        if struct.unpack_from("<H", contents, entry) == (pointer - 1,):
            struct.pack_into("<HHII", patched, entry, pointer, 4, 1, len(contents))
    return bytes(patched)


def _pillow_value(value: Any) -> Any:
    if isinstance(value, float | Fraction):
        return TiffImagePlugin.IFDRational(nearest_ratio(value, 2**31 - 1))  # signed or not: Pillow decides
    return value

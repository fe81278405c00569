"""Sensor counts to linear camera RGB: levels, white balance, bilinear demosaic. Pure functions of arrays.

`normalise` and `demosaic` use only operators that NumPy arrays and torch tensors share, and accept leading
batch dimensions, so that training feeds the network exactly what the product does.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from deepisp_cli.colour import Array, library

BAYER_PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")


def red_position(pattern: str) -> tuple[int, int]:
    """Row and column, each 0 or 1, of the red sample in the 2x2 cell of ``pattern``."""
    if pattern not in BAYER_PATTERNS:
        raise ValueError(f"{pattern!r} is not a Bayer pattern; known: {', '.join(BAYER_PATTERNS)}")
    return divmod(pattern.index("R"), 2)


def phases(pattern: str) -> Iterator[tuple[int, slice, slice]]:
    """Each sample of a CFA cell in reading order: the number of its colour in "RGB", and the rows and columns
    of a mosaic in which it lies."""
    side = math.isqrt(len(pattern))
    for number, colour in enumerate(pattern):
        yield "RGB".index(colour), slice(number // side, None, side), slice(number % side, None, side)


def sample_mosaic(picture: Array, pattern: str = "RGGB") -> Array:
    """What a sensor keeps of a picture.

    Parameters
    ----------
    picture : (..., H, W, 3).
    pattern : the 2x2 or 6x6 colours that the mosaic begins with, in reading order.

    Returns
    -------
    (..., H, W), of the dtype of ``picture``.
    """
    mosaic = library(picture).empty_like(picture[..., 0])
    for channel, rows, columns in phases(pattern):
        mosaic[..., rows, columns] = picture[..., rows, columns, channel]
    return mosaic


def normalise(counts: Array, black: Any, scale: Any) -> Array:
    """Subtract black, scale, clip highlights to 1. Negative values are kept: they are half of the noise.

    Clipping *after* white balance makes blown highlights white: otherwise a clipped channel would outshine
    the others by its gain.

    Parameters
    ----------
    counts : float32, any shape.
    black, scale : float32, broadcastable to ``counts``; scale = white-balance gain / (white - black).
    """
    return ((counts - black) * scale).clip(None, 1.0)


def normalise_mosaic(
    samples: np.ndarray, pattern: str, black: np.ndarray, white: np.ndarray, gains: np.ndarray
) -> np.ndarray:
    """Sensor counts to a white-balanced mosaic.

    Parameters
    ----------
    samples : (H, W) counts, any numeric dtype.
    pattern : CFA colours of ``samples[:2, :2]``, or ``samples[:6, :6]``, in reading order.
    black : (rows, columns) counts, repeating from ``samples[0, 0]``.
    white : (rows, columns) counts, repeating likewise.
    gains : (3,) white-balance gains for R, G, B, the smallest 1.

    Returns
    -------
    (H, W) float32; 1.0 is the white level, highlights are clipped to it, negative values kept.
    """
    if samples.ndim != 2:
        raise ValueError(f"a mosaic has two dimensions, got shape {samples.shape}")
    mosaic = np.empty(samples.shape, np.float32)
    levels, scales = black_and_scale(pattern, black, white, gains)
    rows, columns = levels.shape
    for row in range(rows):
        for column in range(columns):
            phase = (slice(row, None, rows), slice(column, None, columns))
            counts = samples[phase].astype(np.float32)
            mosaic[phase] = normalise(counts, levels[row, column], scales[row, column])
    return mosaic


def black_and_scale(
    pattern: str, black: np.ndarray, white: np.ndarray, gains: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Black and scale for `normalise`, for one period of a mosaic: whole CFA cells.

    Parameters
    ----------
    pattern, black, white, gains : as for `normalise_mosaic`.

    Returns
    -------
    black, scale : (rows, columns) float32; the sides of a period are multiples of those of the parameters.
    """
    side = math.isqrt(len(pattern))
    channels = np.array(["RGB".index(colour) for colour in pattern]).reshape(side, side)
    shape = np.lcm.reduce([black.shape, white.shape, channels.shape])
    black, white, channels = (np.tile(each, shape // each.shape) for each in (black, white, channels))
    black = black.astype(np.float32)
    return black, (gains[channels] / (white - black)).astype(np.float32)


def demosaic(mosaic: Array, pattern: str) -> Array:
    """Interpolate a Bayer mosaic bilinearly to linear camera RGB.

    Parameters
    ----------
    mosaic : float32 of shape (..., H, W), H and W at least 2
        Black-subtracted, white-balanced; 1.0 is the white level. Not clipped below.
    pattern : str
        CFA colours of ``mosaic[..., :2, :2]`` in reading order, e.g. "RGGB".

    Returns
    -------
    float32 of shape (..., H, W, 3)
        Measured samples are returned unchanged.

    Raises
    ------
    ValueError
        If ``mosaic`` is smaller than 2x2 or not of floating-point numbers, or ``pattern`` is not Bayer.

    Notes
    -----
    Borders are mirrored about the border pixel, which keeps the CFA phase.
    """
    height, width = mosaic.shape[-2:]
    if height < 2 or width < 2:
        raise ValueError(f"a mosaic must be at least 2x2, got {height}x{width}")
    if "float" not in str(mosaic.dtype):  # NumPy's or torch's; sums of counts would wrap around
        raise ValueError(f"a mosaic must be of floating-point numbers, got {mosaic.dtype}; use `normalise`")
    red_row, red_column = red_position(pattern)
    join = library(mosaic).concatenate
    padded = join([mosaic[..., 1:2, :], mosaic, mosaic[..., -2:-1, :]], axis=-2)
    padded = join([padded[..., 1:2], padded, padded[..., -2:-1]], axis=-1)
    shape = (*mosaic.shape, 3)
    rgb = np.empty(shape, np.float32) if isinstance(mosaic, np.ndarray) else mosaic.new_empty(shape)

    def at(row: int, column: int, down: int, right: int) -> Any:
        """The neighbours (down, right) of the samples whose phase is (row, column)."""
        rows = slice(1 + row + down, height + 1 + down, 2)
        return padded[..., rows, 1 + column + right : width + 1 + right : 2]

    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        phase = rgb[..., row::2, column::2, :]
        own = at(row, column, 0, 0)
        beside = (at(row, column, 0, -1) + at(row, column, 0, 1)) * 0.5
        above = (at(row, column, -1, 0) + at(row, column, 1, 0)) * 0.5
        on_red_row, on_red_column = row == red_row, column == red_column
        if on_red_row == on_red_column:  # a red or a blue sample
            across = (
                at(row, column, -1, -1)
                + at(row, column, -1, 1)
                + at(row, column, 1, -1)
                + at(row, column, 1, 1)
            )
            phase[..., 0 if on_red_row else 2] = own
            phase[..., 1] = (beside + above) * 0.5
            phase[..., 2 if on_red_row else 0] = across * 0.25
        else:  # a green sample, its row neighbours red or blue
            phase[..., 0 if on_red_row else 2] = beside
            phase[..., 1] = own
            phase[..., 2 if on_red_row else 0] = above
    return rgb

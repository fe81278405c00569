"""Fujifilm's X-Trans mosaics, 6x6 samples instead of Bayer's 2x2, to linear camera RGB.

The networks take interpolated pictures, so such a mosaic needs no network of its own; they were trained
mostly on Bayer's, though.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from deepisp_cli.colour import Array, library
from deepisp_cli.machine import on_blocks

X_TRANS = "GGRGGBGGBGGRBRGRBGGGBGGRGGRGGBRBGBRG"  # one of its phases
SIDE = 6
BLOCK_ROWS = 6 * SIDE  # interpolated at a time: temporaries stay in the cache
RADIUS = 2  # each 3x3 samples hold every colour, so that a corner has all of them within reach
SMALLEST = 1 + RADIUS  # rows and columns of a frame
SIGMA = 0.7  # in pixels. Smaller: fine detail gets coloured; larger: it blurs
KERNEL = np.exp(-(np.arange(-RADIUS, RADIUS + 1) ** 2) / (2 * SIGMA**2)).astype(np.float32)


def is_x_trans(pattern: str) -> bool:
    """Whether these are the colours of 6x6 samples in reading order, in any phase of the X-Trans mosaic."""
    if len(pattern) != SIDE**2:
        return False
    colours, known = (np.array(list(letters)).reshape(SIDE, SIDE) for letters in (pattern, X_TRANS))
    phases = [(down, right) for down in range(SIDE) for right in range(SIDE)]
    return any(np.array_equal(np.roll(known, phase, (0, 1)), colours) for phase in phases)


def interpolate(mosaic: np.ndarray, pattern: str, out: np.ndarray | None = None) -> np.ndarray:
    """Each colour at each pixel: the mean of the nearest samples, weighted with a Gaussian of their distance.

    That is normalised convolution (Knutsson and Westin 1993).

    Parameters
    ----------
    mosaic : (H, W) float32, H and W at least `SMALLEST`. As for `demosaic.demosaic`.
    pattern : the colours of ``mosaic[:6, :6]`` in reading order, for which `is_x_trans` holds.
    out : (H, W, 3) float32, where the colours go; by default a new array.

    Returns
    -------
    (H, W, 3) float32. Measured samples are returned unchanged.
    """
    height, width = mosaic.shape
    rgb = np.empty((height, width, 3), np.float32) if out is None else out

    def fill(rows: slice) -> None:
        first, last = max(rows.start - RADIUS, 0), min(rows.stop + RADIUS, height)
        start = SIDE * (first % SIDE)
        masks, weights = _masks_and_weights(pattern[start:] + pattern[:start], last - first, width)
        for colour, plane in enumerate(weighted_means(mosaic[first:last], masks, weights)):
            rgb[rows, :, colour] = plane[rows.start - first :][: rows.stop - rows.start]

    on_blocks(fill, height, BLOCK_ROWS)
    return rgb


def measured(pattern: str, height: int, width: int) -> np.ndarray:
    """Where each colour is measured, (3, height, width) bool."""
    letters = np.array(list(pattern)).reshape(SIDE, SIDE)
    tiled = np.tile(letters, (-(-height // SIDE), -(-width // SIDE)))[:height, :width]
    return np.stack([tiled == colour for colour in "RGB"])


@lru_cache(maxsize=4)
def _masks_and_weights(pattern: str, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """For `weighted_means`. Most blocks of a frame share them."""
    masks = measured(pattern, height, width)
    return masks, _blurred(masks)


def weighted_means(mosaic: Array, masks: Array, weights: Array | None = None) -> Iterator[Array]:
    """Each colour's plane of a mosaic, (..., H, W) float32, one after the other.

    Parameters
    ----------
    mosaic : (..., H, W) float32.
    masks : (3, ..., H, W) bool
        Where each colour is measured.
    weights : (3, ..., H, W) float32, optional
        Those masks `_blurred`, if that is known.
    """
    for number, mask in enumerate(masks):
        weight = _blurred(mask) if weights is None else weights[number]
        yield library(mosaic).where(mask, mosaic, _blurred(mosaic * mask) / weight)


def _blurred(planes: Array) -> Array:
    """``planes`` (..., H, W), float32 or bool, convolved with `KERNEL` both ways; zeros beyond borders."""
    centre, *outwards = KERNEL[RADIUS:]
    for _ in range(2):  # across, then down
        result = planes * centre
        for distance, weight in enumerate(outwards, 1):
            result[..., distance:] += planes[..., :-distance] * weight
            result[..., :-distance] += planes[..., distance:] * weight
        planes = result.swapaxes(-1, -2)
    return planes

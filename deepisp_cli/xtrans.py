"""Fujifilm's X-Trans mosaics, 6x6 samples instead of Bayer's 2x2, to three counts at each pixel.

The networks take interpolated pictures, so such a mosaic needs no network of its own; they were trained on
Bayer's, though.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from deepisp_cli.colour import Array, library
from deepisp_cli.machine import on_all_cores

X_TRANS = "GGRGGBGGBGGRBRGRBGGGBGGRGGRGGBRBGBRG"  # one of its phases
SIDE = 6
BLOCK_ROWS = 6 * SIDE  # interpolated at a time: temporaries stay in the cache
RADIUS = 2  # each 3x3 samples hold every colour, so that a corner has all of them within reach
SIGMA = 0.7  # in pixels. Smaller: fine detail gets coloured; larger: it blurs
KERNEL = np.exp(-(np.arange(-RADIUS, RADIUS + 1) ** 2) / (2 * SIGMA**2)).astype(np.float32)


def is_x_trans(pattern: str) -> bool:
    """Whether these are the colours of 6x6 samples in reading order, in any phase of the X-Trans mosaic."""
    if len(pattern) != SIDE**2:
        return False
    colours, known = (np.array(list(letters)).reshape(SIDE, SIDE) for letters in (pattern, X_TRANS))
    phases = [(down, right) for down in range(SIDE) for right in range(SIDE)]
    return any(np.array_equal(np.roll(known, phase, (0, 1)), colours) for phase in phases)


def to_linear(
    samples: np.ndarray, pattern: str, black: np.ndarray, white: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An X-Trans mosaic as a linear picture.

    Parameters
    ----------
    samples, pattern : as for `interpolate`.
    black : (rows, columns) counts, repeating from ``samples[0, 0]``.
    white : counts, any shape; the lowest is used for all.

    Returns
    -------
    samples : (H, W, 3), of the same dtype; float32 if the black level varies, which is then evened out.
    black, white : (3,) float32.
    """
    level = black.min()
    if np.ptp(black):
        rows, columns = (
            np.arange(side) % period for side, period in zip(samples.shape, black.shape, strict=True)
        )
        samples = samples.astype(np.float32) - (black - level)[np.ix_(rows, columns)]
    return interpolate(samples, pattern), np.full(3, level, np.float32), np.full(3, white.min(), np.float32)


def interpolate(samples: np.ndarray, pattern: str) -> np.ndarray:
    """Each colour at each pixel: the mean of the nearest samples, weighted with a Gaussian of their distance.

    That is normalised convolution (Knutsson and Westin 1993). Black and white levels stay what they are.

    Parameters
    ----------
    samples : (H, W) uint16 or float32 counts, H and W at least 3.
    pattern : the colours of ``samples[:6, :6]`` in reading order, for which `is_x_trans` holds.

    Returns
    -------
    (H, W, 3) of the same dtype. Measured samples are returned unchanged.

    Raises
    ------
    ValueError
        If ``samples`` is smaller.
    """
    height, width = samples.shape
    if min(samples.shape) < RADIUS + 1:
        raise ValueError(f"an X-Trans mosaic must be at least 3x3, got {height}x{width}")
    rgb = np.empty((height, width, 3), samples.dtype)

    def fill(top: int) -> None:
        bottom = min(top + BLOCK_ROWS, height)
        first, last = max(top - RADIUS, 0), min(bottom + RADIUS, height)
        part = samples[first:last].astype(np.float32)
        below = pattern[SIDE * (first % SIDE) :] + pattern[: SIDE * (first % SIDE)]
        planes = weighted_means(part, *masks_and_weights(below, last - first, width))
        for colour, plane in enumerate(planes):
            values = plane[top - first :][: bottom - top]
            rgb[top:bottom, :, colour] = values if samples.dtype == np.float32 else np.rint(values)

    on_all_cores(fill, range(0, height, BLOCK_ROWS))
    return rgb


@lru_cache(maxsize=4)
def masks_and_weights(pattern: str, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each colour is measured, (3, height, width) bool, and the weights of its samples within reach,
    summed up, float32. Most blocks of a frame share them."""
    letters = np.array(list(pattern)).reshape(SIDE, SIDE)
    tiled = np.tile(letters, (-(-height // SIDE), -(-width // SIDE)))[:height, :width]
    masks = np.stack([tiled == colour for colour in "RGB"])
    return masks, blurred(masks.astype(np.float32))


def weighted_means(samples: Array, masks: Array, weights: Array) -> Iterator[Array]:
    """Each colour's plane (..., H, W) of a mosaic (..., H, W); the rest from `masks_and_weights`."""
    for mask, weight in zip(masks, weights, strict=True):
        yield library(samples).where(mask, samples, blurred(samples * mask) / weight)


def blurred(planes: Array) -> Array:
    """``planes`` (..., H, W) convolved with `KERNEL` both ways; zeros beyond their borders."""
    centre, *outwards = KERNEL[RADIUS:].tolist()
    for _ in range(2):  # across, then down
        result = centre * planes
        for distance, weight in enumerate(outwards, 1):
            result[..., distance:] += weight * planes[..., :-distance]
            result[..., :-distance] += weight * planes[..., distance:]
        planes = result.swapaxes(-1, -2)
    return planes

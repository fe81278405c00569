"""From display-referred floats to the integers of a picture file: clip, orient, dither, quantise. Pure."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
LEVELS = {8: 255, 16: 65535}
"""Bit depth -> the integer that stands for 1.0."""

TURNS: dict[int, tuple[tuple[int, ...], bool]] = {
    1: ((), False), 2: ((1,), False), 3: ((0, 1), False), 4: ((0,), False),
    5: ((), True), 6: ((0,), True), 7: ((0, 1), True), 8: ((1,), True),
}  # fmt: skip
"""EXIF orientation -> the axes of the stored picture to flip, and whether rows then become columns."""

DITHER_SIDE = 256
BLOCK_ROWS = 32  # divides DITHER_SIDE; a block of a 24 megapixel picture stays in the processor's cache


def render(picture: NDArray[np.float32], orientation: int, bit_depth: int) -> Pixels:
    """Clip, orient and quantise a picture.

    Parameters
    ----------
    picture : ndarray of shape (H, W, 3), float32
        Display-referred sRGB, already gamma-encoded; 1.0 is white. Values outside [0, 1] are clipped.
    orientation : int
        EXIF orientation of ``picture``, 1 to 8. The result is upright, so its own orientation is 1.
    bit_depth : int
        8 (dithered) or 16 (rounded).

    Returns
    -------
    ndarray of shape (H, W, 3), or (W, H, 3) for orientations 5 to 8, uint8 or uint16
        A new, contiguous array.

    Raises
    ------
    ValueError
        If shape, dtype, orientation or bit depth is not one of the above, or ``picture`` holds a NaN.

    Notes
    -----
    Dither is added before *truncation* and lies in [0, 1): the mean of a flat field is kept at every level,
    and exact 0 and exact 1 stay 0 and 255, which noise of both signs cannot promise without clipping it.
    """
    check_picture(picture)
    if bit_depth not in LEVELS:
        raise ValueError(f"bit depth must be 8 or 16, not {bit_depth}")
    upright = orient(picture, orientation)
    height, width = upright.shape[:2]
    white = LEVELS[bit_depth]
    pixels = np.empty(upright.shape, np.uint8 if bit_depth == 8 else np.uint16)
    noise = np.tile(dither(), (1, -(-width // DITHER_SIDE), 1))[:, :width]
    buffer = np.empty((BLOCK_ROWS, width, 3), np.float32)
    for top in range(0, height, BLOCK_ROWS):
        rows = upright[top : top + BLOCK_ROWS]
        block = np.multiply(rows, np.float32(white), out=buffer[: len(rows)])
        if block.size and np.isnan(block.min()):
            raise ValueError(f"picture holds a NaN in rows {top} to {top + len(rows) - 1}")
        np.clip(block, 0, white, out=block)
        if bit_depth == 8:
            block += noise[top % DITHER_SIDE :][: len(rows)]
        else:
            np.rint(block, out=block)
        pixels[top : top + BLOCK_ROWS] = block  # the assignment truncates
    return pixels


def check_picture(picture: np.ndarray) -> None:
    """Refuse what is no picture.

    Parameters
    ----------
    picture : (H, W, 3) float32

    Raises
    ------
    ValueError
        If it is something else.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.float32:
        raise ValueError(f"picture must be (H, W, 3) float32, not {picture.shape} {picture.dtype}")


def orient(array: NDArray, orientation: int) -> NDArray:
    """Turn an array upright.

    Parameters
    ----------
    array : ndarray of shape (H, W, ...)
    orientation : int
        EXIF tag Orientation (0x0112): where the stored first row and column are seen, 1 to 8.

    Returns
    -------
    ndarray of shape (H, W, ...), or (W, H, ...) for orientations 5 to 8
        A view of ``array``.

    Raises
    ------
    ValueError
        If orientation or number of dimensions is not one of the above.
    """
    if orientation not in TURNS or array.ndim < 2:
        raise ValueError(
            f"orientation must be 1 to 8 and the array two-dimensional or more, "
            f"not {orientation} and {array.shape}"
        )
    flipped, swapped = TURNS[orientation]
    turned = np.flip(array, flipped)
    return turned.swapaxes(0, 1) if swapped else turned


def make_grey(pixels: Pixels) -> None:
    """Give red and blue the values of green, in place.

    Parameters
    ----------
    pixels : (H, W, 3), the finished picture of a monochrome sensor, whose channels differ by dither and the
        learned look's tint.
    """
    pixels[..., 0] = pixels[..., 2] = pixels[..., 1]


def upright_aspect(aspect: float, orientation: int) -> float:
    """Width over height of the pixels of a picture turned upright; ``aspect`` is that of the stored ones."""
    _, swapped = TURNS[orientation]
    return 1 / aspect if swapped else aspect


@cache
def dither() -> NDArray[np.float32]:
    """A tile of noise, (DITHER_SIDE, DITHER_SIDE, 3) float32 in [0, 1), weak at low frequencies.

    White noise is high-passed and its values replaced by their ranks, twice over: every value then
    occurs exactly once per tile (so the mean is right), and neighbours differ (so it is right locally too,
    and the grain is as fine as it can be). The channels use the same tile, shifted, so that they do not
    rise and fall together. The values are multiples of 2^-16: 255 plus the largest is exact in float32.
    """
    frequency = np.fft.fftfreq(DITHER_SIDE)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    high_pass = 1 - np.exp(-((radius / 0.2) ** 2))
    tile = np.random.default_rng(0).random((DITHER_SIDE, DITHER_SIDE))
    for _ in range(2):
        tile = np.fft.ifft2(np.fft.fft2(tile) * high_pass).real
        tile = tile.ravel().argsort().argsort().reshape(tile.shape) / tile.size
    shifts = ((0, 0), (97, 151), (181, 59))
    noise = np.stack([np.roll(tile, shift, (0, 1)) for shift in shifts], axis=-1).astype(np.float32)
    noise.setflags(write=False)
    return noise

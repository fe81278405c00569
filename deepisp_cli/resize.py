"""A finished picture in another size: fewer pixels, for the web or a client, or square ones. Pure."""

from collections.abc import Callable

import numpy as np
from PIL import Image
from PIL.Image import Resampling

from deepisp_cli.colour import srgb_decode, srgb_encode
from deepisp_cli.render import Pixels, render


def reduce_to(pixels: Pixels, long_side: int) -> Pixels:
    """Reduce a picture that is wider or higher than ``long_side`` pixels; a smaller one is returned as it is.

    Parameters
    ----------
    pixels : ndarray of shape (H, W, 3), uint8 or uint16, sRGB.
    long_side : int
        Pixels, at least 1. The other side is rounded, so that proportions stay.

    Returns
    -------
    ndarray of shape (height, width, 3), of the same dtype.
    """
    height, width = pixels.shape[:2]
    scale = long_side / max(height, width)
    if scale >= 1:
        return pixels
    return _resized(pixels, max(1, round(width * scale)), max(1, round(height * scale)))


def with_square_pixels(pixels: Pixels, aspect: float) -> Pixels:
    """Enlarge a picture whose pixels are not square in one direction, so that nothing in it is distorted.

    Parameters
    ----------
    pixels : ndarray of shape (H, W, 3), uint8 or uint16, sRGB.
    aspect : float
        Width of a pixel over its height, above 0.

    Returns
    -------
    ndarray of shape (height, width, 3), of the same dtype; the same one where that adds no pixel.
    """
    height, width = pixels.shape[:2]
    size = round(width * max(aspect, 1)), round(height * max(1 / aspect, 1))
    return pixels if size == (width, height) else _resized(pixels, *size)


def _resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """Lanczos's filter in linear light, as the eye averages: lamps, stars and fine type keep their
    brightness. Within what is there: beside a lamp the filter swings below the darkest and above the
    brightest, which in linear light would be black rings."""
    white = np.iinfo(pixels.dtype).max
    light = srgb_decode(np.arange(white + 1, dtype=np.float32) / white)
    resized = np.empty((height, width, 3), np.float32)
    for channel in range(3):
        plane = Image.fromarray(light[pixels[..., channel]])
        # means of whole pixels would take the peaks off fine texture
        halves = np.asarray(plane.resize((2 * width, 2 * height), Resampling.BOX))
        least, most = (_around(halves, extreme) for extreme in (np.minimum, np.maximum))
        sharp = np.asarray(plane.resize((width, height), Resampling.LANCZOS))
        resized[..., channel] = sharp.clip(least, most)
    return render(srgb_encode(resized), 1, 8 * pixels.dtype.itemsize)


def _around(halves: np.ndarray, extreme: Callable[..., np.ndarray]) -> np.ndarray:
    """The least or the most, (H, W), of each 3x3 pixels of which there are (2 H, 2 W) quarters."""
    for _ in range(2):  # down, then across
        pairs = np.pad(extreme(halves[::2], halves[1::2]), ((1, 1), (0, 0)), mode="edge")
        halves = extreme(extreme(pairs[:-2], pairs[1:-1]), pairs[2:]).T
    return halves

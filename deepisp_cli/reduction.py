"""A finished picture in fewer pixels, for the web or a client. Pure."""

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

    Notes
    -----
    Lanczos's filter in linear light, as the eye averages: lamps, stars and fine type keep their brightness.
    """
    height, width = pixels.shape[:2]
    scale = long_side / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    white = np.iinfo(pixels.dtype).max
    light = srgb_decode(np.arange(white + 1, dtype=np.float32) / white)
    reduced = np.empty((size[1], size[0], 3), np.float32)
    for channel in range(3):
        plane = Image.fromarray(light[pixels[..., channel]])
        reduced[..., channel] = plane.resize(size, Resampling.LANCZOS)
    return render(srgb_encode(reduced), 1, 8 * pixels.dtype.itemsize)

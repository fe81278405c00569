"""What the network took off, put back where the restoration is not to be whole (``--strength``)."""

from itertools import product

import numpy as np

from deepisp_cli.camera_rgb import at_each_pixel
from deepisp_cli.colour import Array, library
from deepisp_cli.demosaic import phases, sample_mosaic
from deepisp_cli.machine import by_rows

OUTLIER = 2.0  # times as large as all around it
NEIGHBOURS = [place for place in product((-1, 0, 1), repeat=2) if place != (0, 0)]
OUTLIER_ROWS = 64  # looked at at a time, which bounds the memory


def leave_noise(image: np.ndarray, picture: np.ndarray, pattern: str, share: float) -> None:
    """Add a share of what the network took off the sensor's samples to the restored image, in place.

    That alone is interpolated (residual interpolation, Kiku et al. 2013): noise comes back, but not the
    softness and the false colours of ``picture``, nor hot pixels. With a share of 1 the image has the
    sensor's samples.

    Parameters
    ----------
    image : (H, W, 3) float32, restored, encoded camera RGB.
    picture : (H, W, 3) float32, what the network got, interpolated from a mosaic; is used up.
    pattern : that of the mosaic, as in `at_each_pixel`.
    share : 0 to 1.
    """
    noise = at_each_pixel(taken_off(image, picture, pattern, share), pattern, picture)
    by_rows(lambda rows: as_grain(rows, share), noise)
    image += noise


def leave_noise_in_linear(image: np.ndarray, plain: np.ndarray, share: float) -> None:
    """`leave_noise` for a linear DNG, which has all colours at each pixel.

    Parameters
    ----------
    image : (H, W, 3) float32, restored, encoded camera RGB.
    plain : (H, W, 3) float32, the file's own colours, in the same form; is used up.
    share : 0 to 1.
    """
    plain -= image  # in place: another 288 MB at 24 megapixels would be too much
    by_rows(lambda rows: as_grain(rows, share), plain)
    image += plain


def taken_off(image: Array, picture: Array, pattern: str, share: float) -> Array:
    """What the network took off the sensor's samples; of hot pixels little, unless all is to come back.

    Parameters
    ----------
    image, picture, pattern, share : as for `leave_noise`, of NumPy or torch. Nothing is used up.

    Returns
    -------
    (H, W) float32, at the samples of the mosaic.
    """
    residual = sample_mosaic(picture, pattern)
    for channel, rows, columns in phases(pattern):  # in place: memory
        residual[rows, columns] -= image[rows, columns, channel]
    if share < 1:
        limit_outliers(residual)
    return residual


def as_grain(noise: Array, share: float) -> Array:
    """A share of noise; of its colours, which the eye minds more, the square of the share.

    Parameters
    ----------
    noise : (..., 3) float32, differences of encoded camera RGB.
    share : 0 to 1.

    Returns
    -------
    (..., 3) float32.
    """
    grey = (noise[..., :1] + 2 * noise[..., 1:2] + noise[..., 2:]) / 4
    return share * (grey + share * (noise - grey))


def limit_outliers(residual: Array) -> None:
    """Limit what differs far more than any of the eight samples around it, in place: hot pixels are no grain.

    Parameters
    ----------
    residual : (H, W) float32, differences at a mosaic's samples. Noise has few that are limited.
    """
    xp = library(residual)
    height, width = residual.shape
    above = xp.zeros_like(residual[:1])
    for top in range(0, height, OUTLIER_ROWS):
        rows = xp.concatenate((above, residual[top : top + OUTLIER_ROWS + 1]))
        end = min(OUTLIER_ROWS, height - top)
        above = rows[end : end + 1] + 0  # a copy, so that the rest is freed
        size = abs(rows)
        around = xp.zeros_like(size[1 : 1 + end])
        for down, right in NEIGHBOURS:
            shifted = size[1 + down : 1 + down + end]
            there, here = (slice(max(by, 0), width + min(by, 0)) for by in (right, -right))
            part = around[: len(shifted), here]
            part[:] = xp.maximum(part, shifted[:, there])
        limit = OUTLIER * around
        residual[top : top + end] = xp.minimum(xp.maximum(rows[1 : 1 + end], -limit), limit)

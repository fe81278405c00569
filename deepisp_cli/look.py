"""The look of a restored frame: light meter, camera matrix, sRGB curve, learned transform, exposure,
contrast. Pure functions of NumPy arrays and torch tensors alike."""

from math import ceil, log2
from typing import Any

from deepisp_cli.colour import Array, apply_transform, decode, library, srgb_decode, srgb_encode
from deepisp_cli.metering import expose, metered_gains


def frame_gain(image: Array, matrix: Array) -> float:
    """The light meter's gain for a restored frame.

    Parameters
    ----------
    image : (H, W, 3) float32, encoded camera RGB, of any size; about a million pixels are looked at.
    matrix : (3, 3) float32, white-balanced camera RGB to linear sRGB.

    Returns
    -------
    What linear light is to be multiplied by; see `metering.metered_gains`.
    """
    height, width = image.shape[:2]
    step = ceil((height * width / 1e6) ** 0.5)  # a million pixels are enough
    linear = decode(image[::step, ::step]) @ matrix.T
    xp = library(linear)
    red, green, blue = linear[..., 0], linear[..., 1], linear[..., 2]
    brightest = xp.maximum(xp.maximum(red, green), blue)  # NumPy's amax takes seven times as long
    return float(metered_gains(brightest.reshape(-1)))


def exposure_of(gain: float | None) -> float | None:
    """A gain in EV, to hundredths."""
    return None if gain is None else round(log2(gain), 2)


def develop_colour(
    image: Array, matrix: Array, transform: Any, exposure: float = 0.0, gain: float | None = None,
    contrast: float = 0.0,
) -> Array:  # fmt: skip
    """The colours of a restored frame: camera RGB to sRGB.

    Parameters
    ----------
    image : (..., 3) float32, encoded camera RGB.
    matrix : (3, 3) float32, white-balanced camera RGB to linear sRGB.
    transform : W (3, 10), an array or nested numbers, or None for the neutral look.
    exposure : EV, applied by `brighten`, so that it brightens whatever the transform made.
    gain : the light meter's, which the transform expects; None: it takes the frame as exposed.
    contrast : 0 to 1, applied last by `add_contrast`.

    Returns
    -------
    (..., 3) float32, sRGB-encoded; 1 is white. Not clipped.
    """
    linear = decode(image) @ matrix.T
    if transform is not None and gain is not None:
        linear = expose(linear, gain)
    srgb = srgb_encode(linear)
    if transform is not None:
        planes = apply_transform(srgb[..., 0], srgb[..., 1], srgb[..., 2], transform)
        srgb = library(srgb).stack(planes, -1)
    srgb = brighten(srgb, exposure) if exposure else srgb
    return add_contrast(srgb, contrast) if contrast else srgb


def brighten(srgb: Array, exposure: float) -> Array:
    """A finished picture exposed by ``exposure`` EV, in linear light.

    Where it becomes brighter than white, the largest and the smallest channel are cut off, and the middle one
    stays where it is between them, as Adobe's tone curves have it (DNG SDK, RefBaselineRGBTone): cut off by
    itself, it would turn an orange yellow and a pink violet.

    Parameters
    ----------
    srgb : (..., 3) float32, sRGB-encoded. Darkened, it shows what is beyond white.
    exposure : EV.

    Returns
    -------
    (..., 3) float32, likewise; at most 1 where ``exposure`` is positive.
    """
    xp = library(srgb)
    if exposure <= 0:
        return srgb_encode(srgb_decode(srgb) * 2.0**exposure)
    linear = srgb_decode(srgb.clip(0, 1)) * 2.0**exposure
    red, green, blue = linear[..., :1], linear[..., 1:2], linear[..., 2:]
    smallest = xp.minimum(xp.minimum(red, green), blue)
    largest = xp.maximum(xp.maximum(red, green), blue)
    share = (linear - smallest) / (largest - smallest).clip(1e-6, None)
    return srgb_encode(smallest + share * (largest.clip(None, 1) - smallest)).clip(0, 1)


def add_contrast(srgb: Array, share: Any) -> Array:
    """An S-curve on each channel, as cameras put on their pictures: shadows become darker, lights brighter,
    colours stronger. Black, white and the middle stay.

    Parameters
    ----------
    srgb : (..., 3) float32, sRGB-encoded.
    share : of a smoothstep, 0 to 1; of a shape that broadcasts.

    Returns
    -------
    (..., 3) float32, likewise, 0 to 1.
    """
    inside = srgb.clip(0, 1)
    return inside + share * inside * (1 - inside) * (2 * inside - 1)

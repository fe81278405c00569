"""A raw's samples to linear camera RGB at every pixel: levels, white balance, the demosaic of its mosaic."""

import math
from dataclasses import replace

import numpy as np

from deepisp_cli.calibration import srgb_from_calibrated
from deepisp_cli.colour import srgb_from_camera
from deepisp_cli.demosaic import demosaic, normalise, normalise_mosaic
from deepisp_cli.machine import on_blocks
from deepisp_cli.raw import RawImage
from deepisp_cli.xtrans import SIDE, interpolate

GREY = np.array([0.25, 0.5, 0.25], np.float32)  # by which all samples of a Bayer mosaic count alike
REACH = 2  # rows above and below that a demosaic looks at; even, which keeps the CFA's phase


def linear_rgb(raw: RawImage, gains: np.ndarray) -> np.ndarray:
    """Normalise, balance and demosaic; linear files skip the demosaic.

    Parameters
    ----------
    raw : from `read_raw`.
    gains : (3,) float32, white balance for R, G and B, the smallest 1.

    Returns
    -------
    (H, W, 3) float32, linear camera RGB: 0 is black, 1 is white, grey is neutral; negatives are noise.
    """
    samples = _balanced(raw, gains)
    return samples if raw.pattern is None else at_each_pixel(samples, raw.pattern)


def clipped_off(raw: RawImage, gains: np.ndarray, rows: slice) -> np.ndarray | None:
    """What `linear_rgb` clips off the highlights of the channels that white balance amplifies.

    The demosaics are linear, so the two add up to the whole.

    Parameters
    ----------
    raw, gains : as for `linear_rgb`.
    rows : of the picture, from start to stop.

    Returns
    -------
    (rows, W, 3) float32, 0 or more; None if that is 0 everywhere.
    """
    period = math.lcm(math.isqrt(len(raw.pattern)), len(raw.black)) if raw.pattern else 1
    start = max(0, rows.start - REACH) // period * period  # where CFA and black level begin anew
    part = replace(raw, samples=raw.samples[start : rows.stop + REACH])
    most = gains.max() * np.float32(2**raw.brightened)
    excess = _balanced(part, gains / most)  # of which nothing is clipped
    excess *= most
    excess -= 1
    np.maximum(excess, 0, out=excess)
    if not excess.any():
        return None
    colours = excess if raw.pattern is None else at_each_pixel(excess, raw.pattern)
    return colours[rows.start - start :][: rows.stop - rows.start]


def _balanced(raw: RawImage, gains: np.ndarray) -> np.ndarray:
    """The samples as float32, of the same shape: 0 is black, highlights are clipped to 1."""
    if raw.pattern is None:
        samples = np.asarray(raw.samples, np.float32)
        return normalise(samples, raw.black, (gains / (raw.white - raw.black)).astype(np.float32))
    return normalise_mosaic(raw.samples, raw.pattern, raw.black, raw.white, gains)


def at_each_pixel(mosaic: np.ndarray, pattern: str, out: np.ndarray | None = None) -> np.ndarray:
    """All colours of a mosaic at each pixel.

    Parameters
    ----------
    mosaic : (H, W) float32.
    pattern : the colours of its first 2x2 or 6x6 samples in reading order.
    out : (H, W, 3) float32, optional
        Where they go; by default into a new array.

    Returns
    -------
    (H, W, 3) float32. Measured samples are returned unchanged.
    """
    if len(pattern) == SIDE**2:
        return interpolate(mosaic, pattern, out)
    picture = np.empty((*mosaic.shape, 3), np.float32) if out is None else out

    def fill(rows: slice) -> None:
        above = min(REACH, rows.start)
        part = mosaic[rows.start - above : rows.stop + REACH]
        picture[rows] = demosaic(part, pattern)[above:][: rows.stop - rows.start]

    on_blocks(fill, len(mosaic))
    return picture


def camera_matrix(raw: RawImage, gains: np.ndarray) -> tuple[np.ndarray, str]:
    """The camera's colours.

    Of a file with matrices for other lights the one for the light of the shot; one for D65 alone is scaled
    to white. Of a monochrome sensor one that makes grey of any colour.

    Parameters
    ----------
    raw : from `read_raw`.
    gains : (3,) float32, white balance.

    Returns
    -------
    matrix : (3, 3) float32, white-balanced camera RGB to linear sRGB; each row sums to 1.
    note : what is wrong with the file's, or "".
    """
    if raw.monochrome:
        return np.tile(GREY, (3, 1)), ""
    try:
        if raw.calibrations:
            return srgb_from_calibrated(raw.calibrations, gains), ""
        return srgb_from_camera(raw.xyz_to_camera), ""
    except ValueError as error:
        return srgb_from_camera(None), f"{error}: camera RGB is used as sRGB"

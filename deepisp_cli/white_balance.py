"""Which white balance a raw gets: the camera's, daylight's, an estimate, or the user's gains."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from deepisp_cli.calibration import LARGEST_GAIN, neutral_gains
from deepisp_cli.demosaic import normalise, normalise_mosaic
from deepisp_cli.errors import UsageError
from deepisp_cli.lights import D65, white_xyz
from deepisp_cli.raw import RawImage

WHITE_BALANCES = ("camera", "daylight", "auto")
TEMPERATURES = (1667, 25000)  # K: where `white_xyz` holds
DARKEST_MEAN = 1e-4  # of full scale: less may come from an inexact black level rather than from light
UNCLIPPED = 0.98  # share of white: a pixel that is brighter in any channel may be clipped
BLOCK_ROWS = 256  # judged at a time, which bounds the memory
LARGEST_ESTIMATED_GAIN = 8.0
ENOUGH_CELLS = 1_000_000
BRIGHTEST_SHARE = 1e-3
MINKOWSKI = 6  # the exponent of the mean; 1 is the grey world, infinity the brightest place
MIREDS = range(80, 441, 4)  # 1e6 / K of the lights there are, 12500 to 2270 K
TINT_KEPT = 0.2  # share of what an estimate is off these lights


def find_balanced(raw: RawImage) -> tuple[RawImage, str]:
    """The raw itself, or what is known of it if its samples are white-balanced.

    Early cameras (the Nikon D1) balanced the samples themselves and do not say so. Where a file states no
    white balance, and its samples are nearer to grey than the gains for daylight would make them, they count
    as balanced for daylight, and so does the colour matrix.

    Parameters
    ----------
    raw : from `read_raw`.

    Returns
    -------
    raw : with gains of 1 as shot and for daylight, if it is balanced.
    note : that it is, or "".
    """
    daylight = raw.daylight_white_balance
    if raw.camera_white_balance is not None or daylight is None or not raw.pattern:
        return raw, ""  # nobody knows what a linear file has been balanced for
    estimated = estimated_gains(raw.samples, raw.pattern, raw.black, raw.white)
    if estimated is None or not _nearer_to_one(estimated, daylight):
        return raw, ""
    ones, matrix = np.ones(3, np.float32), raw.xyz_to_camera
    balanced = replace(
        raw,
        camera_white_balance=ones,
        daylight_white_balance=ones,
        xyz_to_camera=None if matrix is None else matrix / (matrix @ D65)[:, None],
        calibrations=(),  # these are for samples that are not balanced
        profile=(),
    )
    return balanced, "the samples seem to be white-balanced already"


def choose_white_balance(raw: RawImage, wanted: str | Sequence[float]) -> tuple[np.ndarray, str]:
    """The white balance to develop with.

    Without the camera's own white balance daylight is used, without that an estimate.

    Parameters
    ----------
    raw : from `find_balanced`.
    wanted : as `Options.white_balance`.

    Returns
    -------
    gains : (3,) float32 for R, G, B, the smallest 1.
    note : what they are if not what was wanted, else "".
    """
    if raw.monochrome:
        return np.ones(3, np.float32), "" if wanted == "camera" else "monochrome: no white balance is applied"
    if isinstance(wanted, str) and (kelvin := parse_kelvin(wanted)):
        gains = gains_at(kelvin, raw)
        if gains is not None:
            return gains, ""
        known, note = choose_white_balance(raw, "camera")
        reason = "no colour matrix, which a colour temperature needs"
        if raw.matrix_at(kelvin) is not None:
            reason = f"light of {kelvin:g} K is beyond the camera's colour matrix"
        return known, note or f"{reason}: the camera's is used"
    if not isinstance(wanted, str) or wanted not in WHITE_BALANCES:
        return parse_gains(wanted), ""
    camera, daylight = raw.camera_white_balance, raw.daylight_white_balance
    if wanted == "daylight" and daylight is not None:
        return daylight, ""
    if wanted == "camera" and camera is not None:
        return camera, ""
    estimated = None
    if wanted == "auto" or (raw.pattern and daylight is None):  # a linear file may be balanced
        estimated = estimated_gains(raw.samples, raw.pattern, raw.black, raw.white)
    if wanted == "auto" and estimated is not None:
        return near_daylight(estimated, raw), ""
    if wanted == "auto" and camera is not None:
        return camera, "white balance cannot be estimated from the picture: the camera's is used"
    if daylight is not None:
        return daylight, "daylight white balance is used"
    if estimated is not None:
        return estimated, "white balance is estimated from the picture"
    if camera is not None:
        return camera, "no colour matrix, which daylight needs: the camera's is used"
    return np.ones(3, np.float32), "no white balance is applied"


def parse_kelvin(given: str) -> float | None:
    """The colour temperature in a text such as "3200K" or "3200"; None if it is none.

    Raises
    ------
    UsageError
        If it is not one of `TEMPERATURES`.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?[Kk]?", given.strip())
    if not match:
        return None
    kelvin, (lowest, highest) = float(match[1]), TEMPERATURES
    if not lowest <= kelvin <= highest:
        raise UsageError(f"white balance {given!r}: colour temperatures are {lowest} to {highest} K")
    return kelvin


def parse_gains(given: str | Sequence[float]) -> np.ndarray:
    """The white-balance gains that a user gives.

    Parameters
    ----------
    given : text "R,G,B", or three numbers.

    Returns
    -------
    (3,) float32, scaled so that the smallest is 1.

    Raises
    ------
    UsageError
        If these are not three positive, finite numbers, or differ by more than `LARGEST_GAIN`.
    """
    try:
        parts = given.split(",") if isinstance(given, str) else given
        gains = np.array([float(part) for part in parts])
    except (OverflowError, TypeError, ValueError):
        gains = np.empty(0)
    if gains.shape != (3,) or not np.all(np.isfinite(gains)) or gains.min() <= 0:
        raise UsageError(
            f"white balance {given!r}: give camera, daylight, auto, a colour temperature such as 5500K, or"
            " three gains such as 2.1,1,1.6"
        )
    if gains.max() / LARGEST_GAIN > gains.min():
        raise UsageError(f"white balance {given!r}: one gain is more than {LARGEST_GAIN:g} times another")
    return (gains / gains.min()).astype(np.float32)


def gains_at(kelvin: float, raw: RawImage) -> np.ndarray | None:
    """White-balance gains that make light of a colour temperature neutral.

    Parameters
    ----------
    kelvin : as for `white_xyz`.
    raw : whose matrices are used.

    Returns
    -------
    (3,) float32, the smallest 1; None if it has no matrix, or not one that sees such light.
    """
    matrix = raw.matrix_at(kelvin)
    return None if matrix is None else neutral_gains(matrix, white_xyz(kelvin))


def _nearer_to_one(gains: np.ndarray, other: np.ndarray) -> bool:
    """Whether gains (3,) are nearer to no gain at all than to ``other``, by their ratios to green."""
    ratios, others = np.log(gains / gains[1]), np.log(other / other[1])
    return bool(np.abs(ratios).sum() < np.abs(ratios - others).sum())


def estimated_gains(
    samples: np.ndarray, pattern: str | None, black: np.ndarray, white: np.ndarray
) -> np.ndarray | None:
    """White-balance gains that make a picture grey: its Minkowski mean, which bright places decide more than
    the plain mean ("Shades of grey", Finlayson and Trezzi 2004).

    What is clipped, and the brightest thousandth of the rest, where hot pixels are, does not count.

    Parameters
    ----------
    samples : (H, W) counts of a mosaic, or (H, W, 3) linear counts.
    pattern : colours of a CFA cell from ``samples[0, 0]`` in reading order; None if the counts are linear.
    black : (rows, columns) counts, repeating from ``samples[0, 0]``; (3,) of linear counts.
    white : (rows, columns) counts, repeating likewise; (3,) of linear counts.

    Returns
    -------
    (3,) float32, the smallest 1; None if the picture is too dark or too bright to tell.
    """
    side = math.isqrt(len(pattern)) if pattern else 1
    period = math.lcm(side, len(black))  # rows of whole CFA cells and black tiles
    rows = period * max(1, BLOCK_ROWS // period)
    step = -(-samples.shape[0] * samples.shape[1] // (side**2 * ENOUGH_CELLS))
    cells = [
        _cell_colours(samples[top : top + rows], pattern, black, white)[:, ::step].copy()
        for top in range(0, len(samples), rows)
    ]
    *rgb, brightest = np.concatenate(cells, 1)
    unclipped = brightest < UNCLIPPED
    colours = np.stack(rgb)[:, unclipped]
    if not colours.size:
        return None
    brightness = colours.max(0)
    colours = colours[:, brightness <= np.quantile(brightness, 1 - BRIGHTEST_SHARE)]
    if colours.mean(1).min() < DARKEST_MEAN:
        return None
    colours = colours.clip(0, None)
    means = np.power(colours / brightness.max(), MINKOWSKI, dtype=np.float64).mean(1) ** (1 / MINKOWSKI)
    return np.clip(means.max() / means, 1, LARGEST_ESTIMATED_GAIN).astype(np.float32)


def near_daylight(gains: np.ndarray, raw: RawImage) -> np.ndarray:
    """Gains moved most of the way to the nearest that make natural or incandescent light neutral: a meadow is
    green, its light is not.

    Parameters
    ----------
    gains : (3,) float32.
    raw : whose matrices are used; if it has none, ``gains`` are returned.

    Returns
    -------
    (3,) float32, the smallest 1.
    """
    lights = [gains_at(1e6 / mired, raw) for mired in MIREDS]
    known = np.array([light for light in lights if light is not None])
    if not len(known):
        return gains
    ratios, given = np.log(known / known[:, 1:2]), np.log(gains / gains[1])
    nearest = ratios[np.square(ratios - given).sum(1).argmin()]
    moved = np.exp(nearest + TINT_KEPT * (given - nearest))
    return (moved / moved.min()).astype(np.float32)


def _cell_colours(
    samples: np.ndarray, pattern: str | None, black: np.ndarray, white: np.ndarray
) -> np.ndarray:
    """(4, cells) float32: red, green and blue of each CFA cell, or of each pixel of linear counts, and the
    brightest sample of a cell."""
    if pattern is None:
        rgb = normalise(samples.astype(np.float32), black, 1 / (white - black))
        return np.stack([*rgb.reshape(-1, 3).T, rgb.max(-1).ravel()])
    mosaic = normalise_mosaic(samples, pattern, black, white, np.ones(3, np.float32))
    side = math.isqrt(len(pattern))
    height, width = (length // side * side for length in mosaic.shape)
    cells = mosaic[:height, :width].reshape(height // side, side, width // side, side)
    cells = cells.transpose(1, 3, 0, 2).reshape(side**2, -1)
    letters = np.array(list(pattern))
    return np.stack([*(cells[letters == colour].mean(0) for colour in "RGB"), cells.max(0)])

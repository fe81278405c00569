"""Metering: the exposure at which a frame reaches the learned transform.

W is a mean of guesses, one per cell, and follows the exposure only in part: dark raws come out dark, bright
ones too bright (docs/training-history.md has the figures). A light meter takes that burden off it. It looks
at the highlights: overall brightness varies between photographs far more than how close their brightest parts
come to white. Where these are clipped, nobody knows how bright they were, and the other bright parts have a
say. Pure functions of NumPy arrays and torch tensors alike, so that training runs the product's code.
"""

from typing import Any

import numpy as np

from deepisp_cli.colour import Array, library

GLINTS = 0.001  # share of the frame that is brighter than its highlights: hot pixels and glints
LAMPS = 0.02  # share of the frame that is brighter than what is below the lamps
READINGS = 9  # with half to twice these shares
LEVEL = 1.0  # linear light of the highlights at which a frame is left as it is: just white
LAMP_LEVEL = 0.5  # of what is below clipped lamps: nine in ten finished photographs have more
MOST_FOR_LAMPS = 2.0  # largest gain on its account, 1 EV: a night with stars should stay dark
TRUST = 0.94  # share of the way to `LEVEL`, in stops, that a frame is moved
MOST = 32.0  # largest gain, 5 EV: darker frames are meant to be dark
BLACK = 2.0**-9  # highlights below which a frame counts as black: a lens cap should stay dark
HEADROOM = 4.0  # brightest highlights that T sees, 2 EV above white; the rest are clipped to it


def metered_gains(brightest: Array) -> Array:
    """The gains of frames: of each the geometric mean of nine readings of `meter`, at as many quantiles.

    With a single one, a lamp that grows past its share of the frame would make the picture jump by a stop.

    Parameters
    ----------
    brightest : (..., P) float32, of the P pixels of each frame the largest of R, G and B in linear sRGB where
        white is 1.

    Returns
    -------
    (...), what linear light is to be multiplied by.
    """
    xp = library(brightest)
    where = {} if xp is np else {"dtype": brightest.dtype, "device": brightest.device}  # no wait for a copy
    spread = 2 ** xp.linspace(-1, 1, READINGS, **where)
    values = xp.quantile(brightest, 1 - xp.concatenate((GLINTS * spread, LAMPS * spread)), -1)
    readings = meter(values[:READINGS], values[READINGS:])
    return xp.exp(xp.log(readings).mean(0))


def meter(highlights: Array, below_lamps: Array) -> Array:
    """One reading of a frame: (`LEVEL` / highlights) ** `TRUST`, 1 to `MOST`, falling again below `BLACK`.

    Not all the way, because a dark frame is sometimes a dark scene and not a short exposure;
    ``benchmarks/metering.py`` prints the slope that fits photographs best (0.9, for a level a little above
    white). A frame is never darkened: what the sensor clipped stays white. Below `BLACK` the gain falls with
    the highlights: a picture of nothing would show only the restoration's error, less than a thousandth of
    white.

    Highlights that the sensor clipped (fully from `LEVEL` on, not at all below half of it) may be a lamp that
    is many times as bright, in a picture that is too dark. What is below the lamps is then brought to
    `LAMP_LEVEL`, with at most `MOST_FOR_LAMPS`.

    Parameters
    ----------
    highlights, below_lamps : quantiles over the frame of the largest of R, G and B in linear sRGB where white
        is 1; arrays of one shape.
    """
    gain = ((LEVEL / highlights.clip(1e-6)) ** TRUST).clip(min=1.0)
    clipped = (2 * highlights / LEVEL - 1).clip(0.0, 1.0)
    for_lamps = ((LAMP_LEVEL / (gain * below_lamps).clip(1e-6)) ** TRUST).clip(1.0, MOST_FOR_LAMPS)
    most = (MOST * highlights / BLACK).clip(1.0, MOST)
    return (gain * for_lamps**clipped).clip(max=most)


def expose(linear: Array, gain: Any) -> Array:
    """Linear light as metered, with highlights clipped at `HEADROOM`.

    Parameters
    ----------
    linear : of any shape; 1 is white.
    gain : from `metered_gains`, of a shape that broadcasts.

    Returns
    -------
    Linear light of the shape of ``linear``.
    """
    return (linear * gain).clip(max=HEADROOM)

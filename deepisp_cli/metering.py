"""Metering: the exposure at which a frame reaches the learned transform.

W is a mean of guesses, one per cell, and follows the exposure only in part: dark raws come out dark, bright
ones too bright (docs/training.md has the figures). A light meter takes that burden off it. It looks at the
highlights: overall brightness varies between photographs far more than how close their brightest parts come
to white. Pure functions of NumPy arrays and torch tensors alike, so that training runs the product's code.
"""

from typing import Any

from deepisp_cli.colour import Array

QUANTILE = 0.999  # of the largest channel's values: hot pixels and glints do not set the exposure
LEVEL = 1.0  # linear light of that quantile at which a frame is left as it is: just white
TRUST = 0.94  # share of the way to `LEVEL`, in stops, that a frame is moved
MOST = 32.0  # largest gain, 5 EV: darker frames are meant to be dark
BLACK = 2.0**-9  # highlights below which a frame counts as black: a lens cap should stay dark
HEADROOM = 4.0  # brightest highlights that T sees, 2 EV above white; the rest are clipped to it


def meter(highlights: Array) -> Array:
    """The gain (`LEVEL` / highlights) ** `TRUST` of a frame, 1 to `MOST`, falling again below `BLACK`.

    Not all the way, because a dark frame is sometimes a dark scene and not a short exposure;
    ``benchmarks/metering.py`` prints the slope that fits photographs best (0.9, for a level a little above
    white). A frame is never darkened: what the sensor clipped stays white. Below `BLACK` the gain falls with
    the highlights: a picture of nothing would show only the restoration's error, less than a thousandth of
    white.

    Parameters
    ----------
    highlights : the `QUANTILE` over the frame of the largest of R, G and B in linear sRGB where white is 1; a
        scalar array or one per frame.
    """
    most = (MOST * highlights / BLACK).clip(1.0, MOST)
    return ((LEVEL / highlights.clip(1e-6)) ** TRUST).clip(min=1.0).clip(max=most)


def expose(linear: Array, gain: Any) -> Array:
    """Linear light of any shape times ``gain``, which broadcasts; highlights are clipped at `HEADROOM`."""
    return (linear * gain).clip(max=HEADROOM)

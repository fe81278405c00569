"""Metering: the exposure at which a frame meets the learned transform.

W is a mean of guesses, one per cell, and follows an exposure only in part: dark raws come out dark, bright
ones too bright (docs/training.md has the figures). A light meter takes that burden off it. It looks at the
highlights: how bright a scene is on the whole differs from photograph to photograph by far more than how near
its brightest parts come to white. Pure functions of NumPy arrays and torch tensors alike, so that training
runs the very code of the product.
"""

from typing import Any, TypeVar

Array = TypeVar("Array", Any, Any)

QUANTILE = 0.999  # of the largest channel's values: hot pixels and glints do not set the exposure
LEVEL = 1.0  # linear light of that quantile at which a frame is left as it is: just white
TRUST = 0.94  # share of the way to `LEVEL`, in stops, that a frame is taken
MOST = 32.0  # gain, 5 EV: beyond that a frame is meant to be dark
BLACK = 2.0**-9  # highlights below which a frame is as good as black: a lens cap is not to be lit
HEADROOM = 4.0  # highlights that T still sees, 2 EV above white; brighter ones are held there


def meter(highlights: Array) -> Array:
    """The gain (`LEVEL` / highlights) ** `TRUST` of a frame, 1 to `MOST`, and less again below `BLACK`.

    Not all the way, because a dark frame is now and then a dark scene and no short exposure;
    ``benchmarks/metering.py`` prints the slope that fits photographs best (0.9, of a level a little above
    white). A frame is never darkened: what the sensor clipped stays white. Below `BLACK` the gain falls with
    the highlights: a picture of nothing would show what the restoration is off by, less than a thousandth of
    white, and nothing else.

    Parameters
    ----------
    highlights : the `QUANTILE` over the frame of the largest of R, G and B in linear sRGB where white is 1; a
        scalar array or one per frame.
    """
    most = (MOST * highlights / BLACK).clip(1.0, MOST)
    return ((LEVEL / highlights.clip(1e-6)) ** TRUST).clip(min=1.0).clip(max=most)


def expose(linear: Array, gain: Any) -> Array:
    """Linear light of any shape times ``gain``, which broadcasts; highlights are held at `HEADROOM`."""
    return (linear * gain).clip(max=HEADROOM)

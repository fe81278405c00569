"""Metering: the exposure at which a frame meets the learned transform.

W is a mean of guesses, one per cell, and follows an exposure only in part: dark raws come out dark, bright
ones too bright (docs/training.md has the figures). A light meter takes that burden off it. Pure functions of
NumPy arrays and torch tensors alike, so that training runs the very code of the product.
"""

from typing import Any, TypeVar

Array = TypeVar("Array", Any, Any)

LEVEL = 0.6  # brightness, in linear light, at which a frame is left as it is
TRUST = 0.65  # share of the way to `LEVEL`, in stops, that a frame is taken
MOST = 32.0  # gain, 5 EV: beyond that a frame is meant to be dark
HEADROOM = 4.0  # highlights that T still sees, 2 EV above white; brighter ones are held there


def meter(mean_square: Array) -> Array:
    """The gain (`LEVEL` / brightness) ** `TRUST` of a frame, 1 to `MOST`.

    Not all the way, because a dark frame is a dark scene as often as it is a short exposure;
    ``benchmarks/metering.py`` prints how the error depends on the trust. A frame is never darkened: what the
    sensor clipped stays white.

    Parameters
    ----------
    mean_square : of linear sRGB where white is 1, negatives taken as 0; a scalar array or one per frame. Its
        root is the brightness: a lamp in the night weighs more than the night.
    """
    return ((LEVEL**2 / (mean_square + 1e-12)) ** (TRUST / 2)).clip(1.0, MOST)


def expose(linear: Array, gain: Any) -> Array:
    """Linear light of any shape times ``gain``, which broadcasts; highlights are held at `HEADROOM`."""
    return (linear * gain).clip(max=HEADROOM)

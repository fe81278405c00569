"""Metering: the exposure at which a frame meets the learned transform.

W is a mean of guesses, one per cell, and follows an exposure only in part: dark raws come out dark, bright
ones too bright (docs/training.md has the figures). A light meter takes that burden off it. Pure functions of
NumPy arrays and torch tensors alike, so that training runs the very code of the product.
"""

from typing import Any, TypeVar

Array = TypeVar("Array", Any, Any)

HEADROOM = 4.0  # highlights that T still sees, 2 EV above white; brighter ones are held there
MOST = 32.0  # gain, 5 EV: beyond that a frame is meant to be dark


def meter(mean_square: Array) -> Array:
    """The gain that brings a frame of brightness b to the square root of b: half way to white, in stops.

    Half way, because dark frames are dark scenes as often as they are short exposures: over the training data
    an exposure is best guessed from the brightness with a slope of 0.5 (docs/training.md). A frame is
    never darkened: what the sensor clipped stays white.

    Parameters
    ----------
    mean_square : of linear sRGB where white is 1, negatives taken as 0; a scalar array or one per frame. Its
        root is the brightness: a lamp in the night weighs more than the night.
    """
    return (1 / (mean_square + 1e-12) ** 0.25).clip(1.0, MOST)


def expose(linear: Array, gain: Any) -> Array:
    """Linear light of any shape times ``gain``, which broadcasts; highlights are held at `HEADROOM`."""
    return (linear * gain).clip(max=HEADROOM)

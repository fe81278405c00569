"""Metering: the exposure at which a frame meets the learned transform.

W is a mean of guesses, one per cell, and follows an exposure only in part: dark raws come out dark, bright
ones too bright (docs/training.md has the figures). A light meter takes that burden off it. Pure functions of
NumPy arrays and torch tensors alike, so that training runs the very code of the product.
"""

from typing import Any, TypeVar

Array = TypeVar("Array", Any, Any)

LEVEL = 0.3  # root mean square of all samples that a frame is brought to; about that of finished photographs
MOST = 32.0  # gain, 5 EV: beyond that a frame is meant to be dark
HEADROOM = 4.0  # highlights that T still sees, 2 EV above white; brighter ones are held there


def meter(mean_square: Array) -> Array:
    """The gain that brings frames to `LEVEL`, 1 to `MOST`.

    Never below 1: what the sensor clipped must stay white.

    Parameters
    ----------
    mean_square : of linear sRGB where white is 1, negatives taken as 0; a scalar array or one per frame. The
        square, because a lamp in the night is what the night is exposed for.
    """
    return (LEVEL / (mean_square + 1e-9) ** 0.5).clip(1.0, MOST)


def expose(linear: Array, gain: Any) -> Array:
    """Linear light of any shape times ``gain``, which broadcasts; highlights are held at `HEADROOM`."""
    return (linear * gain).clip(max=HEADROOM)

"""Checks of the values of options."""

import math
from typing import Any


def check_range(
    options: Any, *names: str, least: float = -math.inf, above: float = -math.inf, most: float = math.inf
) -> None:
    """Check that these attributes, numbers or tuples of numbers, lie in a range; None stands for no value.

    Raises
    ------
    ValueError
        If one does not; names it, the range and the value.
    """
    for name in names:
        value = getattr(options, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not (least <= number <= most and number > above):
                floor = f"above {above}" if above > least else f"{least} or more"
                text = floor if most == math.inf else f"{floor}, at most {most}"
                raise ValueError(f"{name} is {text}, got {number}")


def check_order(options: Any, *names: str) -> None:
    """Check that these attributes, pairs of numbers, go from low to high.

    Raises
    ------
    ValueError
        If one does not; names it.
    """
    for name in names:
        low, high = getattr(options, name)
        if low > high:
            raise ValueError(f"{name} goes from low to high, got [{low}, {high}]")

"""Make a trained network deeper without changing what it computes, so that training can continue from there
(Chen, Goodfellow, Shlens: "Net2Net", 2016)."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import takewhile
from operator import eq

import torch
from torch import Tensor

from deepisp_cli.network import NetworkConfig


def fits_into(old: NetworkConfig, new: NetworkConfig) -> bool:
    """Whether `deepen` leads from one to the other: the same except for blocks inserted at one place."""
    if replace(old, dilations=new.dilations) != new or len(old.dilations) > len(new.dilations):
        return False
    first, added = _place(old, new)
    return first > 0 and old.dilations[first:] == new.dilations[first + added :]


def deepen(weights: Mapping[str, Tensor], old: NetworkConfig, new: NetworkConfig) -> dict[str, Tensor]:
    """The state of a ``new`` network that computes what the ``old`` one does with ``weights``.

    The blocks that ``old`` lacks, after the longest common beginning of the dilations, pass their
    features on (these are not negative, so ReLU keeps them) and leave the image unchanged.
    """
    first, added = _place(old, new)
    grown = {name: value for name, value in weights.items() if not name.startswith("low.")}
    for index in range(len(old.dilations)):
        place = index if index < first else index + added
        for part in ("weight", "bias"):
            grown[f"low.{place}.{part}"] = weights[f"low.{index}.{part}"]
    features = torch.arange(new.width - new.image_channels)
    for place in range(first, first + added):
        weight = torch.zeros(new.width, new.width, 3, 3)
        weight[features, features, 1, 1] = 1
        grown[f"low.{place}.weight"] = weight
        grown[f"low.{place}.bias"] = torch.zeros(new.width)
    return grown


def _place(old: NetworkConfig, new: NetworkConfig) -> tuple[int, int]:
    """The index of the first block that ``old`` lacks, and how many it lacks."""
    first = sum(takewhile(bool, map(eq, old.dilations, new.dilations)))
    return first, len(new.dilations) - len(old.dilations)

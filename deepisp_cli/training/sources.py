"""Where training pairs come from: photographs, HDR panoramas, raws with a reference picture."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deepisp_cli.errors import InputError, UsageError
from deepisp_cli.training.config import TrainConfig
from deepisp_cli.training.crops import Crops, reduced
from deepisp_cli.training.mosaics import MosaicSynthesis
from deepisp_cli.training.pictures import (
    HDR_SUFFIXES,
    list_files,
    list_photographs,
    load_all,
    load_photograph,
    load_scene,
    some,
)
from deepisp_cli.training.raw_pairs import RawPairs
from deepisp_cli.training.synthesis import Pairs, Synthesis

log = logging.getLogger(__name__)


class Source(Protocol):
    """Draws training pairs."""

    sides: Mapping[Path, int]  # of the files that it draws from: pixels of the smaller side
    largest: int  # pixels a side of the largest crop

    def __call__(self, count: int, size: int) -> Pairs:
        """``count`` pairs of ``size`` pixels a side, or as large as the largest picture allows."""


class Synthesised:
    """Pairs made from crops of pictures."""

    def __init__(self, crops: Crops, synthesis: Callable[[Tensor], Pairs], sides: Mapping[Path, int]) -> None:
        self.crops, self.synthesis, self.sides = crops, synthesis, sides
        self.largest = crops.largest

    def __call__(self, count: int, size: int) -> Pairs:
        return self.synthesis(self.crops(count, min(size, self.largest)))


def open_sources(config: TrainConfig, generator: torch.Generator) -> tuple[list[Source], list[float]]:
    """The sources of a configuration and their shares of the steps.

    Raises
    ------
    InputError
        If a folder holds nothing to train on, or the configuration names none at all.
    UsageError
        If raw pairs would teach a stage nothing.
    """
    _refuse_unfit(config)
    crops = [stage.crop for stage in config.stages]
    opened: list[Source] = []
    shares, lacking = [], []
    kinds = {"photographs": _photographs, "panoramas": _panoramas, "raw_pairs": _raw_pairs}
    for (name, open_kind), share in zip(kinds.items(), config.shares, strict=True):
        folders = getattr(config, name)
        if folders and share > 0:
            for folder in folders:
                if not Path(folder).is_dir():
                    raise InputError(
                        f"{folder}: is not a folder; name folders of pictures in the configuration,"
                        " or give --photographs"
                    )
            source = open_kind(config, [Path(folder) for folder in folders], min(crops), generator)
            _warn_of_narrow(source.sides, max(crops), source.largest)
            if source.largest < config.smallest_side:
                raise InputError(
                    f"{', '.join(folders)}: the largest crops have {source.largest} pixels a side; stages"
                    f" with the high level need {config.smallest_side}"
                )
            opened.append(source)
            shares.append(share)
        elif folders:
            log.warning("%s: not used, because its share is 0", ", ".join(folders))
        elif share > 0:
            lacking.append(name)
    if not opened and any(getattr(config, name) for name in kinds):
        raise InputError(
            "nothing to train on: the data that is named has a share of 0; shares are those of photographs,"
            " panoramas and raw_pairs, such as shares = [0.0, 0.0, 1.0] for raw_pairs alone"
        )
    if not opened:
        raise InputError("nothing to train on: name folders of photographs, panoramas or raw_pairs")
    if lacking:
        log.warning("no folders of %s are named, though they have a share", " and ".join(lacking))
    return opened, shares


def _refuse_unfit(config: TrainConfig) -> None:
    """Refuse data that is not of the task: raw pairs have no noise-free frames, so some stages learn nothing
    from them, and panoramas are not finished pictures."""
    data = (config.photographs, config.panoramas, config.raw_pairs)
    *others, pairs = (bool(folders) and share > 0 for folders, share in zip(data, config.shares, strict=True))
    parts = {stage.parts for stage in config.stages}
    if config.mosaic and others[1]:
        raise UsageError("[mosaic] takes photographs; panoramas become raws, in another encoding")
    if pairs and "low" in parts:
        raise UsageError("raw_pairs teach the parts 'low' nothing: they have no noise-free frames")
    if pairs and not any(others) and "separate" in parts:
        raise UsageError(
            "raw_pairs alone, which have no noise-free frames, leave the restoration of the parts 'separate'"
            " untrained: use 'joint', or 'high' to keep the restoration that --initial brings"
        )


def _photographs(
    config: TrainConfig, folders: Sequence[Path], smallest: int, generator: torch.Generator
) -> Source:
    levels: list[list] = [[] for _ in config.reductions]
    sides, useless = {}, []

    def load(path: Path) -> tuple[Path, int, list[np.ndarray | None]]:
        picture = load_photograph(path)
        picture.thumbnail((config.longest_side, config.longest_side), Image.Resampling.LANCZOS)
        side = int(min(picture.size) / min(config.reductions))
        return path, side, reduced(picture, config.reductions, smallest)

    for path, side, pictures in load_all(list_photographs(folders, recursive=True), load):
        if all(smaller is None for smaller in pictures):
            useless.append(f"{path} ({side})")
            continue
        sides[path] = side
        for level, smaller in zip(levels, pictures, strict=True):
            if smaller is not None:
                level.append(smaller)
    if not any(levels):
        least = math.ceil(smallest * min(config.reductions))
        reduced_to = f" ({smallest} once reduced)" if least > smallest else ""
        raise InputError(
            f"{_names(folders)}: no photograph of at least {least} pixels a side{reduced_to};"
            f" the longest_side is {config.longest_side}"
        )
    if useless:
        log.warning("less than %d pixels a side, the smallest crops: %s; left out", smallest, some(useless))
    crops = Crops(levels, generator)
    if config.mosaic:
        return Synthesised(crops, MosaicSynthesis(config.mosaic, generator), sides)
    return Synthesised(crops, Synthesis(config.synthesis, generator), sides)


def _warn_of_narrow(sides: Mapping[Path, int], largest: int, possible: int) -> None:
    """Name the pictures that are smaller than the largest crops, which have ``largest`` pixels a side, or
    ``possible`` if no picture is as large."""
    if narrow := [f"{path} ({side})" for path, side in sides.items() if side < largest]:
        kept = "left out of crops of that size"
        if possible < largest:
            kept = f"none is as large, so crops have at most {possible} pixels"
        log.warning("less than %d pixels a side: %s; %s", largest, some(narrow), kept)


def _panoramas(
    config: TrainConfig, folders: Sequence[Path], smallest: int, generator: torch.Generator
) -> Source:
    def load(path: Path) -> tuple[Path, np.ndarray]:
        scene = load_scene(path)
        if min(scene.shape[:2]) < smallest:
            raise InputError(f"{path}: has less than {smallest} pixels a side, the smallest crops")
        return path, scene

    loaded = load_all(list_files(folders, HDR_SUFFIXES, recursive=True), load)
    if not loaded:
        raise InputError(f"{_names(folders)}: no HDR file that can be used")
    sides = {path: min(scene.shape[:2]) for path, scene in loaded}
    crops = Crops([[scene for _, scene in loaded]], generator)
    return Synthesised(crops, Synthesis(config.synthesis, generator).of_scenes, sides)


def _raw_pairs(
    config: TrainConfig, folders: Sequence[Path], smallest: int, generator: torch.Generator
) -> Source:
    return RawPairs(folders, smallest, generator)


def _names(folders: Sequence[Path]) -> str:
    return ", ".join(map(str, folders))

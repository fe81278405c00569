"""Photographs to train on: loaded once as 8-bit sRGB, at several reductions; random crops of them."""

import logging
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from deepisp_cli.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
log = logging.getLogger(__name__)


def list_photographs(folders: list[Path]) -> list[Path]:
    """All picture files directly in ``folders``, sorted by folder and name."""
    files = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: is not a folder; name folders of photographs")
        files += sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return files


def load_photograph(path: Path) -> Image.Image:
    """One photograph as an upright 8-bit RGB picture."""
    with Image.open(path) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")


class Photographs:
    """Photographs in memory at several reductions.

    A file that cannot be read is named and left out.

    Raises
    ------
    InputError
        If no photograph is large enough for a crop.
    """

    def __init__(self, folders: list[Path], reductions: list[float], smallest: int) -> None:
        self.levels: list[list[np.ndarray]] = [[] for _ in reductions]  # (H, W, 3) uint8 each
        for path in list_photographs(folders):
            try:
                picture = load_photograph(path)
            except OSError as error:
                log.warning("%s: left out: %s", path, error)
                continue
            for level, reduction in zip(self.levels, reductions, strict=True):
                size = (round(picture.width / reduction), round(picture.height / reduction))
                if min(size) >= smallest:
                    reduced = picture if reduction == 1 else picture.resize(size, Image.Resampling.LANCZOS)
                    level.append(np.asarray(reduced))
        self.levels = [level for level in self.levels if level]
        if not self.levels:
            names = ", ".join(str(folder) for folder in folders)
            raise InputError(f"{names}: no photograph of at least {smallest} pixels a side")

    def crops(self, count: int, size: int, rng: np.random.Generator) -> Tensor:
        """``count`` random crops (N, 3, size, size) uint8, flipped and turned at random.

        Every second crop is the more detailed of two draws: flat sky teaches little.
        """
        return torch.from_numpy(np.stack([self._crop(size, rng) for _ in range(count)]))

    def _crop(self, size: int, rng: np.random.Generator) -> np.ndarray:
        draws = [self._draw(size, rng) for _ in range(rng.integers(1, 3))]
        crop = max(draws, key=_detail)
        crop = np.rot90(crop, int(rng.integers(4)))
        if rng.integers(2):
            crop = crop[:, ::-1]
        return np.ascontiguousarray(crop.transpose(2, 0, 1))

    def _draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        fitting = [[p for p in level if min(p.shape[:2]) >= size] for level in self.levels]
        fitting = [level for level in fitting if level]
        if not fitting:
            raise InputError(f"no photograph holds a crop of {size} pixels a side; train on smaller crops")
        level = fitting[rng.integers(len(fitting))]
        photograph = level[rng.integers(len(level))]
        top = rng.integers(photograph.shape[0] - size + 1)
        left = rng.integers(photograph.shape[1] - size + 1)
        return photograph[top : top + size, left : left + size]


def _detail(crop: np.ndarray) -> float:
    """Mean absolute difference between neighbours of the green channel."""
    green = crop[..., 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green, axis=1)).mean())

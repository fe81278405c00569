"""Random crops of pictures in the device's memory, a whole batch in a few operations."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deepisp_cli.errors import InputError


class Crops:
    """Pictures of one dtype, in one tensor, and random crops of them.

    Each crop is turned and mirrored at random, and half of them are the more detailed of two draws: flat sky
    teaches little.

    Parameters
    ----------
    levels : for each scale, pictures (H, W, 3), all uint8 or all float32. A crop's scale is drawn first, then
        one of that scale's pictures.
    generator : on the device that will hold them.
    """

    def __init__(self, levels: Sequence[Sequence[np.ndarray]], generator: torch.Generator) -> None:
        self.generator = generator
        self.device = generator.device
        pictures = [picture for level in levels for picture in level]
        sizes = torch.tensor([picture.shape[:2] for picture in pictures])
        ends = sizes.prod(1).cumsum(0)
        pixels = np.concatenate([picture.reshape(-1, 3) for picture in pictures])
        self.pixels = torch.from_numpy(pixels).to(self.device)
        self.starts = (ends - sizes.prod(1)).to(self.device)
        self.sizes = sizes.to(self.device)
        self.largest = int(sizes.min(1).values.max()) // 2 * 2  # pixels a side of the largest crop
        self.level = torch.cat([torch.full((len(level),), i) for i, level in enumerate(levels)])
        self._weights_by_size: dict[int, Tensor] = {}

    def __call__(self, count: int, size: int) -> Tensor:
        """``count`` crops (count, 3, size, size).

        Raises
        ------
        InputError
            If no picture holds a crop of ``size`` pixels a side.
        """
        if size not in self._weights_by_size:
            self._weights_by_size[size] = self._weights(size)
        weights = self._weights_by_size[size]
        picture = torch.multinomial(weights, 2 * count, replacement=True, generator=self.generator)
        random = torch.rand(2, 2 * count, generator=self.generator, device=self.device)
        corner = (random.T * (self.sizes[picture] - size + 1)).long()
        turn = torch.randint(8, (2 * count,), generator=self.generator, device=self.device)
        index = self._index(picture, corner, turn, size)
        green = self.pixels[:, 1][index].float()
        detail = green.diff(dim=1).abs().mean((1, 2)) + green.diff(dim=2).abs().mean((1, 2))
        choosy = torch.rand(count, generator=self.generator, device=self.device) < 0.5
        second = choosy & (detail[count:] > detail[:count])
        index = torch.where(second[:, None, None], index[count:], index[:count])
        return self.pixels[index].permute(0, 3, 1, 2)

    def _weights(self, size: int) -> Tensor:
        """How often each picture is drawn: scales evenly, then the pictures of a scale evenly."""
        fits = (self.sizes.cpu() >= size).all(1)
        if not fits.any():
            raise InputError(f"no picture holds a crop of {size} pixels a side; train on smaller crops")
        number = torch.bincount(self.level[fits], minlength=int(self.level.max()) + 1)
        return (fits / number[self.level].clamp(min=1)).to(self.device)

    def _index(self, picture: Tensor, corner: Tensor, turn: Tensor, size: int) -> Tensor:
        """Pixel numbers (N, size, size) of the crops, in one of eight orientations each."""
        ramp = torch.arange(size, device=self.device)
        row = torch.where((turn & 1).bool()[:, None], ramp.flip(0), ramp)[:, :, None]
        column = torch.where((turn & 2).bool()[:, None], ramp.flip(0), ramp)[:, None, :]
        width = self.sizes[picture, 1]
        first = self.starts[picture] + corner[:, 0] * width + corner[:, 1]
        width = width[:, None, None]
        upright = row * width + column
        lying = row + column * width
        return first[:, None, None] + torch.where((turn & 4).bool()[:, None, None], lying, upright)


def reduced(picture: Image.Image, reductions: Sequence[float], smallest: int) -> list[np.ndarray | None]:
    """``picture`` at each reduction (Lanczos) as (H, W, 3) uint8; None where a side would fall below
    ``smallest``."""
    results: list[np.ndarray | None] = []
    for reduction in reductions:
        size = (round(picture.width / reduction), round(picture.height / reduction))
        smaller = picture if reduction == 1 else picture.resize(size, Image.Resampling.LANCZOS)
        results.append(np.asarray(smaller) if min(size) >= smallest else None)
    return results

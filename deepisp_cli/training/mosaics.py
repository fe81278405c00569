"""Mosaics of finished pictures with Gaussian noise: the protocol of the field's demosaicing benchmarks.

The photograph's sRGB values are sampled as they are, as if they were sensor counts.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from deepisp_cli.demosaic import demosaic
from deepisp_cli.training.ranges import check_order, check_range
from deepisp_cli.training.synthesis import PATTERN, Pairs, sample_planes


@dataclass(frozen=True)
class MosaicOptions:
    """Ranges that a mosaic is drawn from."""

    sigma: tuple[float, float] = (0.0, 20.0)  # standard deviation of the noise, of 255; uniform
    clean_share: float = 0.0  # share of mosaics without noise

    def __post_init__(self) -> None:
        check_order(self, "sigma")
        check_range(self, "sigma", least=0)
        check_range(self, "clean_share", least=0, most=1)


class MosaicSynthesis:
    """Photographs (N, 3, H, W) uint8 sRGB, H and W even, to `Pairs` whose clean frame is the photograph."""

    def __init__(self, options: MosaicOptions, generator: torch.Generator) -> None:
        self.options = options
        self.generator = generator

    @torch.no_grad()
    def __call__(self, photographs: Tensor) -> Pairs:
        device = self.generator.device
        target = photographs.to(device, torch.float32) / 255
        count = len(target)
        low, high = self.options.sigma
        draws = torch.rand(2, count, generator=self.generator, device=device)
        sigma = (low + (high - low) * draws[0]) / 255 * (draws[1] >= self.options.clean_share)
        mosaic = sample_planes(target)
        noise = torch.randn(mosaic.shape, generator=self.generator, device=device)
        picture = demosaic(mosaic + sigma[:, None, None] * noise, PATTERN).permute(0, 3, 1, 2).contiguous()
        return Pairs(
            picture, target, target, torch.eye(3, device=device).expand(count, 3, 3), target.new_zeros(count)
        )

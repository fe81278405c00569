"""The network on an NVIDIA GPU in kernels of our own: the same results as `network.DeepISP` alone, sooner."""

import logging
from contextlib import AbstractContextManager
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepisp_cli.errors import first_line
from deepisp_cli.joining import PLAIN, Join, PaddedJoin
from deepisp_cli.network import DeepISP

WIDTHS = (32, 64, 128)  # of networks that the kernels take
CAPABILITY = (8, 0)  # of GPUs whose tensor cores Triton uses; without them the kernels are slower than cuDNN
TOLERANCE = 0.05  # of the image, 1 being white, and of the coefficients, against torch's own half precision
NOT_FUSED = "%s: not with our own kernels (%s)"
log = logging.getLogger(__name__)


def fuse(network: DeepISP) -> "FusedNetwork | None":
    """``network``, on a device and without gradients, in our kernels; None where they do not suit it or do
    not work: Triton needs a C compiler."""
    device = network.low[0].weight.device
    if not _suits(device, network.config.width):
        return None
    try:
        with torch.inference_mode(), half_precision():
            fused = FusedNetwork(network)
            compare(fused, network)
    except Exception as error:  # as compilers fail in many ways: there is another path
        log.info(NOT_FUSED, device, first_line(error))
        return None
    return fused


@cache
def fused_join_works(device: torch.device, width: int) -> bool:
    """Whether `fused_join` works on ``device``, for a network of that width."""
    if not _suits(device, width):
        return False
    try:
        compare_joins(device)
    except Exception as error:  # likewise
        log.info(NOT_FUSED, device, first_line(error))
        return False
    return True


def _suits(device: torch.device, width: int) -> bool:
    if device.type != "cuda" or width not in WIDTHS or find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= CAPABILITY


def fused_join() -> Join:
    """In one kernel each way."""
    from deepisp_cli import kernels

    return Join(kernels.padded_join, kernels.padded_join_backward)


def compare(fused: "FusedNetwork", network: DeepISP) -> None:
    """Run both on one tile of noise.

    Raises
    ------
    AssertionError
        If they differ by more than `TOLERANCE`.
    """
    config, device = network.config, network.low[0].weight.device
    side = 2 * config.reach + config.lead + config.cell
    tile = torch.rand(1, 3, side, side, device=device, generator=torch.Generator(device).manual_seed(0))
    for found, expected in zip(fused(tile), network(tile), strict=True):
        torch.testing.assert_close(found.float(), expected.float(), atol=TOLERANCE, rtol=TOLERANCE)


def compare_joins(device: torch.device, size: tuple[int, int] = (6, 7), padding: int = 2) -> None:
    """Run `fused_join` and what torch does both ways on noise of this height and width.

    Raises
    ------
    AssertionError
        If they differ.
    """
    generator = torch.Generator(device).manual_seed(0)
    output = torch.randn(2, WIDTHS[0], *size, device=device, generator=generator)
    image = torch.rand(2, 3, *size, device=device, generator=generator)
    results = []
    for functions in (fused_join(), PLAIN):
        inputs = [tensor.clone().requires_grad_() for tensor in (output, image)]
        stem, corrected = PaddedJoin.apply(*inputs, padding, functions)
        weight = torch.linspace(-1, 1, stem.numel(), device=device).reshape(stem.shape)
        ((stem * weight).sum() + corrected.square().sum()).backward()
        results.append((stem, corrected, *(tensor.grad for tensor in inputs)))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def half_precision() -> AbstractContextManager[Any]:
    """Autocast for CUDA. Without its cache: all threads would share it, but each lane has its own stream."""
    return torch.autocast("cuda", torch.float16, cache_enabled=False)


class FusedNetwork(DeepISP):
    """``network``'s copy on its device, for one tile without padding. Its width is in `WIDTHS`; it returns
    the same, in float16 but for the running image."""

    def __init__(self, network: DeepISP) -> None:
        from deepisp_cli.kernels import arrange, convolve

        super().__init__(network.config)
        self.load_state_dict(network.state_dict())
        self.to(network.low[0].weight.device, memory_format=torch.channels_last)
        self._convolve = convolve
        self._filters = [arrange(layer.weight) for layer in self.low]
        if self.high:
            self.high[0] = _over_all_channels(self.high[0], self.config.width)

    def _run_blocks(
        self, image: Tensor, pad: bool, separate: bool, blocks: nn.ModuleList
    ) -> tuple[Tensor, Tensor]:
        """The features come with the image's channels."""
        if pad or separate or len(image) != 1:
            raise ValueError(f"the kernels take one tile, not padded, got {len(image)} (pad={pad})")
        image = image[0].permute(1, 2, 0).contiguous()
        stem = F.pad(image, (0, self._filters[0].shape[1] - image.shape[2])).to(torch.float16)
        for layer, filters, dilation in zip(blocks, self._filters, self.config.dilations, strict=True):
            stem, image = self._convolve(stem, filters, layer.bias, image, dilation)
        return image.permute(2, 0, 1)[None], stem.permute(2, 0, 1)[None]


def _over_all_channels(layer: nn.Conv2d, width: int) -> nn.Conv2d:
    """A layer on features, for a whole stem: its filters are zero on the image, which comes last."""
    wider = nn.Conv2d(width, layer.out_channels, 3, stride=2).to(layer.weight)
    with torch.no_grad():
        wider.weight.copy_(F.pad(layer.weight, (0, 0, 0, 0, 0, width - layer.in_channels)))
        wider.bias.copy_(layer.bias)
    return wider.to(memory_format=torch.channels_last)

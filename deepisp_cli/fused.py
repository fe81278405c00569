"""The network on an NVIDIA GPU in kernels of our own: the same results as `network.DeepISP` alone, sooner."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepisp_cli.errors import first_line
from deepisp_cli.joining import PaddedJoin
from deepisp_cli.network import MIDDLE, DeepISP

WIDTHS = (32, 64, 128)  # of networks that the kernels take
TOLERANCE = 0.05  # of the image, 1 being white, and of the coefficients, against torch's own half precision
log = logging.getLogger(__name__)


def fuse(network: DeepISP) -> "FusedNetwork | None":
    """``network``, on a device and without gradients, in our kernels; None where they do not suit it or do
    not work: Triton needs a C compiler, and a GPU with tensor cores."""
    device = network.low[0].weight.device
    if device.type != "cuda" or network.config.width not in WIDTHS or find_spec("triton") is None:
        return None
    with _trying(device) as failures, torch.inference_mode(), half_precision():
        fused = FusedNetwork(network)
        compare(fused, network)
    return None if failures else fused


@cache
def joins(device: torch.device) -> bool:
    """Whether `FusedPaddedJoin` works on ``device``."""
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    with _trying(device) as failures:
        compare_joins(device)
    return not failures


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
    """Run `FusedPaddedJoin` and `joining.PaddedJoin` both ways on noise of this height and width.

    Raises
    ------
    AssertionError
        If they differ.
    """
    generator = torch.Generator(device).manual_seed(0)
    output = torch.randn(2, WIDTHS[0], *size, device=device, generator=generator)
    image = torch.rand(2, 3, *size, device=device, generator=generator)
    results = []
    for function in (FusedPaddedJoin, PaddedJoin):
        inputs = [tensor.clone().requires_grad_() for tensor in (output, image)]
        stem, corrected = function.apply(*inputs, padding)
        weight = torch.linspace(-1, 1, stem.numel(), device=device).reshape(stem.shape)
        ((stem * weight).sum() + corrected.square().sum()).backward()
        results.append((stem, corrected, *(tensor.grad for tensor in inputs)))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def half_precision() -> AbstractContextManager[Any]:
    """Autocast for CUDA. Without its cache: all threads would share it, but each lane has its own stream."""
    return torch.autocast("cuda", torch.float16, cache_enabled=False)


@contextmanager
def _trying(device: torch.device) -> Iterator[list[Exception]]:
    """Catch whatever fails, as compilers do in many ways: there is another path. Yields what failed."""
    failures: list[Exception] = []
    try:
        yield failures
    except Exception as error:
        failures.append(error)
        log.info("%s: not with our own kernels (%s)", device, first_line(error))


class FusedNetwork:
    """`DeepISP` without padding for one tile: called with (1, 3, H, W) it returns the same, in float16 but
    for the running image.

    ``network`` is on the device, its width in `WIDTHS`.
    """

    def __init__(self, network: DeepISP) -> None:
        from deepisp_cli.kernels import arrange, convolve

        self._convolve = convolve
        self._network = network = deepcopy(network)
        self._blocks = [
            (arrange(layer.weight), layer.bias.detach(), dilation)
            for layer, dilation in zip(network.low, network.config.dilations, strict=True)
        ]
        if network.high:
            network.high[0] = _over_all_channels(network.high[0], network.config.width)

    def __call__(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        config = self._network.config
        image = picture - MIDDLE
        if config.fold > 1:
            image = F.pixel_unshuffle(image, config.fold)
        image = image[0].permute(1, 2, 0).contiguous()
        inputs = self._blocks[0][0].shape[1]
        stem = F.pad(image, (0, inputs - image.shape[2])).to(torch.float16)
        for filters, bias, dilation in self._blocks:
            stem, image = self._convolve(stem, filters, bias, image, dilation)
        coefficients = self._network.coefficients(stem.permute(2, 0, 1)[None], pad=False)
        restored = image.permute(2, 0, 1)[None]
        if config.fold > 1:
            restored = F.pixel_shuffle(restored, config.fold)
        return restored[:, :, config.lead :, config.lead :] + MIDDLE, coefficients


class FusedPaddedJoin(torch.autograd.Function):
    """`joining.PaddedJoin` in one kernel each way, for networks whose width is in `WIDTHS`."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, image: Tensor, padding: int) -> tuple[Tensor, Tensor]:
        from deepisp_cli.kernels import padded_join

        stem, image, residual = padded_join(output, image, padding)
        ctx.save_for_backward(stem, residual)
        ctx.padding = padding
        return stem, image

    @staticmethod
    def backward(ctx: Any, stem_gradient: Tensor, image_gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        from deepisp_cli.kernels import padded_join_backward

        stem, residual = ctx.saved_tensors
        return *padded_join_backward(stem, residual, stem_gradient, image_gradient, ctx.padding), None


def _over_all_channels(layer: nn.Conv2d, width: int) -> nn.Conv2d:
    """A layer on features, for a whole stem: its filters are zero on the image, which comes last."""
    wider = nn.Conv2d(width, layer.out_channels, 3, stride=2).to(layer.weight)
    with torch.no_grad():
        wider.weight.copy_(F.pad(layer.weight, (0, 0, 0, 0, 0, width - layer.in_channels)))
        wider.bias.copy_(layer.bias)
    return wider.to(memory_format=torch.channels_last)

"""All operations between two low-level blocks, in one pass over memory each way.

On a GPU, ReLU, tanh, padding and concatenation take longer than the convolutions when done one by one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

RESIDUAL_LIMIT = 0.1  # a block's residual is tanh(x) / 10 (authors' code)


def join(output: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Correct the running image by a block's residual, in place of ``output``.

    Parameters
    ----------
    output : (N, C, H, W), a block's convolution: features, then as many residual channels as the image has.
        It is overwritten.
    image : (N, I, H, W) float32.

    Returns
    -------
    stem : (N, C, H, W), the next block's input: ReLU of the features, then the corrected image.
    image : corrected.
    """
    count = output.shape[1] - image.shape[1]
    image = image + RESIDUAL_LIMIT * torch.tanh(output[:, count:])
    output[:, :count].relu_()
    output[:, count:] = image
    return output, image


class Join(NamedTuple):
    """`join` for training, and its gradients: `padded_join` and `padded_join_backward`, or the kernels of
    these names."""

    forward: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor, Tensor]]
    backward: Callable[[Tensor, Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]


class PaddedJoin(torch.autograd.Function):
    """``PaddedJoin.apply(output, image, padding, functions)``: the first two results of ``functions``, a
    `Join`, and gradients flow."""

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, image: Tensor, padding: int, functions: Join
    ) -> tuple[Tensor, Tensor]:
        stem, image, residual = functions.forward(output, image, padding)
        ctx.save_for_backward(stem, residual)
        ctx.padding, ctx.functions = padding, functions
        return stem, image

    @staticmethod
    def backward(
        ctx: Any, stem_gradient: Tensor, image_gradient: Tensor
    ) -> tuple[Tensor, Tensor, None, None]:
        stem, residual = ctx.saved_tensors
        gradients = ctx.functions.backward(stem, residual, stem_gradient, image_gradient, ctx.padding)
        return *gradients, None, None


def padded_join(output: Tensor, image: Tensor, padding: int) -> tuple[Tensor, Tensor, Tensor]:
    """`join`, the stem padded by replication; ``output`` stays as it is.

    Parameters
    ----------
    output : (N, C, H, W).
    image : (N, I, H, W) float32.
    padding : pixels at each border.

    Returns
    -------
    stem : (N, C, H + 2 padding, W + 2 padding), like ``output``.
    image : (N, I, H, W) float32.
    residual : (N, I, H, W), like ``output``: the tanh.
    """
    count, batch, (height, width) = output.shape[1] - image.shape[1], len(output), output.shape[2:]
    residual = torch.tanh(output[:, count:])
    image = image + RESIDUAL_LIMIT * residual
    size = (batch, output.shape[1], height + 2 * padding, width + 2 * padding)
    stem = torch.empty(size, dtype=output.dtype, device=output.device, memory_format=_layout(output))
    middle = slice(padding, -padding)
    inner = stem[:, :, middle, middle]
    torch.clamp(output[:, :count], min=0, out=inner[:, :count])
    inner[:, count:] = image
    stem[:, :, :padding, middle] = inner[:, :, :1]
    stem[:, :, -padding:, middle] = inner[:, :, -1:]
    stem[..., :padding] = stem[..., padding, None]
    stem[..., -padding:] = stem[..., -padding - 1, None]
    return stem, image, residual


def padded_join_backward(
    stem: Tensor, residual: Tensor, stem_gradient: Tensor, image_gradient: Tensor, padding: int
) -> tuple[Tensor, Tensor]:
    """The gradients of `padded_join`'s ``output`` and ``image``.

    Parameters
    ----------
    stem, residual : what it returned.
    stem_gradient, image_gradient : gradients of its stem and its image, of their shapes.
    padding : that it was given.

    Returns
    -------
    (N, C, H, W) and (N, I, H, W).
    """
    count = stem.shape[1] - residual.shape[1]
    middle = slice(padding, -padding)
    gradient = _fold(stem_gradient, padding)
    image_gradient = image_gradient + gradient[:, count:]
    result = torch.empty_like(gradient)
    features = stem[:, :count, middle, middle]
    torch.ops.aten.threshold_backward(gradient[:, :count], features, 0, grad_input=result[:, :count])
    result[:, count:] = image_gradient * RESIDUAL_LIMIT * (1 - residual * residual)
    return result, image_gradient


PLAIN = Join(padded_join, padded_join_backward)


def _fold(gradient: Tensor, padding: int) -> Tensor:
    """The gradient (N, C, H, W) before padding by replication: the padding's part is added to the border
    that it repeats."""
    middle = slice(padding, -padding)
    inner = gradient[:, :, middle, middle].clone(memory_format=_layout(gradient))
    for rows, border in ((slice(0, padding), 0), (slice(-padding, None), -1)):
        outer = gradient[:, :, rows].sum(2)  # (N, C, W + 2 padding)
        inner[:, :, border] += outer[:, :, middle]
        inner[:, :, border, 0] += outer[:, :, :padding].sum(2)
        inner[:, :, border, -1] += outer[:, :, -padding:].sum(2)
        inner[..., border] += gradient[:, :, middle, rows].sum(3)
    return inner


def _layout(tensor: Tensor) -> torch.memory_format:
    last = tensor.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format

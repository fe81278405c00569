"""The 8-bit form of the low-level blocks for ONNX Runtime, and the ranges it needs to know.

Weights and features of the middle blocks become 8-bit numbers; the running image, the first and the last
block and the high-level stage stay float32. Neither takes all 256 values: AVX2 adds two products of a
feature and a weight in 16 bits, and twice the product of the largest must not overflow.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from deepisp_cli.network import RESIDUAL_LIMIT, DeepISP
from deepisp_cli.training.onnx_builder import Graph

RARE = 1e-6  # share of values that may lie beyond a range
RESIDUAL_REACH = 2.0  # of tanh's argument; beyond it tanh is nearly flat
LEVELS = 191  # of features and image above zero
WEIGHT_LEVELS = 85  # on either side of zero
RESIDUAL_LEVELS = 127  # on either side of zero


@dataclass(frozen=True)
class BlockRange:
    """Of one block of the low-level stage, over all calibration frames."""

    features: float  # largest output of the ReLU
    image: tuple[float, float]  # smallest and largest value of the running image that comes in
    image_channels: int
    mean: np.ndarray  # (channels,) float32 of what goes in


@torch.inference_mode()
def measure_ranges(network: DeepISP, pictures: Iterable[Tensor]) -> list[BlockRange]:
    """Ranges of each block over ``pictures``, the network's inputs (N, 3, H, W) float32; one at least."""
    images = network.config.image_channels
    found: list[list[tuple[float, float, float, np.ndarray]]] = [[] for _ in network.low]

    def look(index: int, inputs: Tensor, output: Tensor) -> None:
        image = inputs[:, -images:]
        mean = inputs.mean((0, 2, 3)).numpy()
        found[index].append((_largest(output[:, :-images]), -_largest(-image), _largest(image), mean))

    hooks = [
        layer.register_forward_hook(lambda _, inputs, output, index=index: look(index, inputs[0], output))
        for index, layer in enumerate(network.low)
    ]
    for picture in pictures:
        network.restore(picture, pad=True)
    for hook in hooks:
        hook.remove()
    return [
        BlockRange(max(features), (min(low), max(high)), images, np.mean(mean, 0))
        for features, low, high, mean in (zip(*values, strict=True) for values in found)
    ]


def _largest(values: Tensor) -> float:
    """The value that all but `RARE` stay below."""
    flat = values.flatten()
    count = max(1, int(RARE * flat.numel()))
    return float(flat.topk(count).values[-1])


@dataclass(frozen=True)
class Block:
    """A low-level block in ONNX's order of channels."""

    weight: np.ndarray  # (features + image, features + image, 3, 3)
    bias: np.ndarray
    dilation: int
    mean: np.ndarray | None = None  # `BlockRange.mean`, for the 8-bit form


def add_eight_bit_blocks(
    graph: Graph, blocks: Sequence[Block], ranges: Sequence[BlockRange], extracted: str, image: str
) -> tuple[str, str]:
    """The middle blocks in 8 bits. ``ranges`` begin with those of the block before. Features and image come
    and go in float32, channels first; in between channels are last, as ONNX Runtime's kernels want them."""
    first, last = ranges[0].features / LEVELS, ranges[-1].features / LEVELS
    extracted = graph.node("Transpose", [graph.quantised(extracted, first)], perm=[0, 2, 3, 1])
    image = graph.node("Transpose", [image], perm=[0, 2, 3, 1])
    for block, (before, here) in zip(blocks, pairwise(ranges), strict=True):
        extracted, image = _add_eight_bit_block(graph, block, before, here, extracted, image)
    extracted = graph.node("Transpose", [extracted], perm=[0, 3, 1, 2])
    return graph.dequantised(extracted, last), graph.node("Transpose", [image], perm=[0, 3, 1, 2])


def _add_eight_bit_block(
    graph: Graph, block: Block, before: BlockRange, here: BlockRange, extracted: str, image: str
) -> tuple[str, str]:
    """One convolution for features and residual. It knows one step size and one zero for all that goes in and
    one for all that comes out: the steps and zeros of the image and of the residual are put into the weights
    and the bias. The ReLU is what 8 bits without sign cut off."""
    name = f"middle_{len(graph.nodes)}"
    width, (low, high) = len(block.weight), here.image
    step_in, step_out = before.features / LEVELS, here.features / LEVELS
    step_image, step_residual = (high - low) / LEVELS, RESIDUAL_REACH / RESIDUAL_LEVELS
    zero_image, zero_residual = round(-low / step_image), 128
    features = width - here.image_channels

    weight, bias = block.weight.copy(), block.bias.copy()
    weight[features:] *= step_out / step_residual
    bias[features:] *= step_out / step_residual
    scale = np.r_[np.ones(features), np.full(here.image_channels, step_image / step_in)]
    weight *= scale[:, None, None]
    steps = np.abs(weight).max((1, 2, 3), keepdims=True) / WEIGHT_LEVELS + 1e-12
    rounded = np.round(weight / steps)
    # what rounding the weights does to the mean of an output is known
    bias += (weight - steps * rounded).sum((2, 3)) @ (block.mean / scale)
    bias -= zero_image * step_in * (steps * rounded)[:, features:].sum((1, 2, 3))
    bias[features:] += zero_residual * step_out
    steps = steps.reshape(-1)

    stem = graph.node("Concat", [extracted, graph.quantised(image, step_image, zero_image)], axis=3)
    output = graph.node(
        "QLinearConv",
        [
            stem,
            *graph.scale(step_in),
            graph.constant(f"{name}_weight", rounded.astype(np.int8)),
            graph.constant(f"{name}_steps", steps.astype(np.float32)),
            graph.constant(f"{name}_zeros", np.zeros(width, np.int8)),
            *graph.scale(step_out),
            graph.constant(f"{name}_bias", np.round(bias / (step_in * steps)).astype(np.int32)),
        ],
        domain="com.microsoft",
        channels_last=1,
        kernel_shape=[3, 3],
        dilations=[block.dilation] * 2,
    )
    residual = graph.dequantised(graph.channels(output, features, width, 3), step_residual, zero_residual)
    residual = graph.node("Mul", [graph.node("Tanh", [residual]), graph.number(RESIDUAL_LIMIT)])
    image = graph.node("Add", [graph.crop(image, block.dilation, block.dilation, 1), residual])
    return graph.channels(output, 0, features, 3), image

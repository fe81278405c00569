"""The 8-bit form of the low-level blocks for ONNX Runtime, and the statistics it needs.

Weights and features of the middle blocks become 8-bit numbers; the running image, the first block, the last
two and the high-level stage stay float32. Weights do not use all 256 values: AVX2 adds two products of a
feature and a weight in 16 bits, and twice the largest product must not overflow.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deepisp_cli.joining import RESIDUAL_LIMIT
from deepisp_cli.network import DeepISP
from deepisp_cli.training.onnx_builder import Graph

PATCH_STRIDE = 3  # every third pixel of each row and column is enough
DAMPING = 0.01  # share of the mean variance added to each, as in GPTQ
LAST_IN_FLOAT = 2  # blocks: no later one corrects their errors
FEWEST_BLOCKS = 2 + LAST_IN_FLOAT  # of a network that has any in 8 bits; the first is not
RARE = 1e-6  # share of values that may lie beyond a range
NARROWEST = 1e-3  # smallest range of features or image, for blocks that hardly use any
LARGEST_BIAS = 2**28  # in steps; rounding adds to it, and it has 32 bits
# Ranges of tanh's argument: the smaller is used where all residuals lie within it. Beyond the larger, tanh is
# flat to 1e-4; clipping at 3, where it is flat to 0.005, left a tint in deep shadows: many lie beyond.
RESIDUAL_REACHES = 3.0, 5.0
LEVELS = 255  # of features and image above zero
WEIGHT_LEVELS = 63  # on either side of zero
RESIDUAL_LEVELS = 127  # on either side of zero


@dataclass(frozen=True)
class BlockStatistics:
    """Statistics of one low-level block over all calibration frames."""

    features: float  # largest output of the ReLU
    residual: float  # largest magnitude of the residual, before the tanh
    image: tuple[float, float]  # smallest and largest value of the incoming running image
    mean: np.ndarray  # (channels,) of the input
    covariance: np.ndarray  # (9 channels, 9 channels) of the input's 3x3 patches, as unfold orders them

    def reordered(self, channels: np.ndarray) -> "BlockStatistics":
        """The same for these input channels, in this order."""
        values = (9 * channels[:, None] + np.arange(9)).reshape(-1)
        covariance = self.covariance[np.ix_(values, values)]
        return replace(self, mean=self.mean[channels], covariance=covariance)


@torch.inference_mode()
def measure(network: DeepISP, pictures: Iterable[Tensor]) -> list[BlockStatistics]:
    """Statistics of each block over ``pictures``, the network's inputs (N, 3, H, W) float32; at least one."""
    images = network.config.image_channels
    found: list[list[tuple]] = [[] for _ in network.low]

    def look(index: int, inputs: Tensor, output: Tensor) -> None:
        image = inputs[:, -images:]
        patches = F.unfold(inputs, 3, network.low[index].dilation, stride=PATCH_STRIDE)
        patches = patches.transpose(0, 1).flatten(1).double()
        moments = (patches @ patches.T / patches.shape[1]).numpy()
        outputs = _largest(output[:, :-images]), _largest(output[:, -images:].abs())
        ranges = *outputs, -_largest(-image), _largest(image)
        found[index].append((*ranges, patches.mean(1).numpy(), moments))

    hooks = [
        layer.register_forward_hook(lambda _, inputs, output, index=index: look(index, inputs[0], output))
        for index, layer in enumerate(network.low)
    ]
    for picture in pictures:
        network.restore(picture, pad=True)
    for hook in hooks:
        hook.remove()
    return [_pooled(values) for values in found]


def _pooled(found: Sequence[tuple]) -> BlockStatistics:
    """Pool the findings of several pictures; ranges include zero, so that an 8-bit number stands for it."""
    features, residuals, low, high, means, moments = zip(*found, strict=True)
    mean = np.mean(means, 0)
    covariance = np.mean(moments, 0) - np.outer(mean, mean)
    channels = mean.reshape(-1, 9).mean(1)
    image = min(*low, 0.0), max(*high, NARROWEST)
    return BlockStatistics(max(*features, NARROWEST), max(residuals), image, channels, covariance)


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
    features: int  # of the outputs; the rest is the residual
    dilation: int


def add_eight_bit_blocks(
    graph: Graph, blocks: Sequence[Block], statistics: Sequence[BlockStatistics], extracted: str, image: str
) -> tuple[str, str]:
    """Add the middle blocks in 8 bits. ``statistics`` begin with those of the preceding block. Features and
    image come and go in float32, channels first; in between, channels are last, as ONNX Runtime's kernels
    want them."""
    first, last = statistics[0].features / LEVELS, statistics[-1].features / LEVELS
    extracted = graph.node("Transpose", [graph.quantised(extracted, first)], perm=[0, 2, 3, 1])
    image = graph.node("Transpose", [image], perm=[0, 2, 3, 1])
    for block, (before, here) in zip(blocks, pairwise(statistics), strict=True):
        extracted, image = _add_eight_bit_block(graph, block, before, here, extracted, image)
    extracted = graph.node("Transpose", [extracted], perm=[0, 3, 1, 2])
    return graph.dequantised(extracted, last), graph.node("Transpose", [image], perm=[0, 3, 1, 2])


def _add_eight_bit_block(
    graph: Graph, block: Block, before: BlockStatistics, here: BlockStatistics, extracted: str, image: str
) -> tuple[str, str]:
    """One convolution for features and residual. It has one step size and one zero for all of its input, and
    one of each for its output: the steps and zeros of the image and of the residual are folded into weights
    and bias. Unsigned 8-bit numbers, clipped at zero, are the ReLU."""
    name = f"middle_{len(graph.nodes)}"
    width, features, (low, high) = len(block.weight), block.features, here.image
    step_in, step_out = before.features / LEVELS, here.features / LEVELS
    reach = RESIDUAL_REACHES[here.residual > RESIDUAL_REACHES[0]]
    step_image, step_residual = (high - low) / LEVELS, reach / RESIDUAL_LEVELS
    zero_image, zero_residual = round(-low / step_image), 128

    weight, bias = block.weight.copy(), block.bias.copy()
    weight[features:] *= step_out / step_residual
    bias[features:] *= step_out / step_residual
    scale = np.r_[np.ones(features), np.full(width - features, step_image / step_in)]
    weight *= scale[:, None, None]
    # filters may be almost zero compared with their bias
    smallest = (np.abs(bias) + zero_residual * step_out) / (step_in * LARGEST_BIAS)
    steps = np.maximum(np.abs(weight).max((1, 2, 3)) / WEIGHT_LEVELS, smallest)[:, None, None, None]
    spread = np.repeat(scale, 9)
    rounded = round_together((weight / steps).reshape(width, -1), here.covariance / np.outer(spread, spread))
    rounded = rounded.reshape(weight.shape)
    # compensate for what rounding the weights does to the mean of an output
    bias += (weight - steps * rounded).sum((2, 3)) @ (here.mean / scale)
    bias -= zero_image * step_in * (steps * rounded)[:, features:].sum((1, 2, 3))
    bias[features:] += zero_residual * step_out
    steps = steps.reshape(-1)

    extracted = graph.joined(extracted, 2 * block.dilation, features, 1, np.uint8)
    image = graph.joined(image, 2 * block.dilation, width - features, 1)
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


def round_together(weights: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Round weights to whole numbers, at most `WEIGHT_LEVELS`, so that the outputs change least: weights not
    yet rounded make up for each rounding (Frantar et al., "GPTQ", 2023).

    Parameters
    ----------
    weights : (outputs, inputs) in units of their rounding steps.
    covariance : (inputs, inputs) of the inputs.
    """
    order = np.argsort(-covariance.diagonal(), kind="stable")
    damping = DAMPING * covariance.diagonal().mean() + 1e-12
    inverse = np.linalg.inv(covariance[np.ix_(order, order)] + damping * np.eye(len(order)))
    upper = np.linalg.cholesky(inverse).T
    weights = weights[:, order].astype(np.float64)
    rounded = np.empty_like(weights)
    for index in range(len(order)):
        rounded[:, index] = np.round(weights[:, index]).clip(-WEIGHT_LEVELS, WEIGHT_LEVELS)
        error = (weights[:, index] - rounded[:, index]) / upper[index, index]
        weights[:, index + 1 :] -= np.outer(error, upper[index, index + 1 :])
    return rounded[:, np.argsort(order)]

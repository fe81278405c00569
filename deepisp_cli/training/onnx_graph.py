"""The tile form of `deepisp_cli.network.DeepISP` as an ONNX graph of dynamic size.

Written node by node: torch's exporter needs minutes to reason about the sizes of the many crops, and cannot
choose ONNX's own order of folded channels, which saves the graph all transposes.
"""

from collections.abc import Sequence

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from deepisp_cli.joining import RESIDUAL_LIMIT
from deepisp_cli.models import IR_VERSION, OPSET
from deepisp_cli.network import MIDDLE, TRANSFORM_SIZE, DeepISP
from deepisp_cli.training.onnx_builder import Graph
from deepisp_cli.training.quantise import LAST_IN_FLOAT, Block, BlockStatistics, add_eight_bit_blocks


@torch.no_grad()
def to_onnx(network: DeepISP, statistics: Sequence[BlockStatistics] | None = None) -> bytes:
    """The serialised graph, ``picture`` to ``image`` and ``coefficients``: `forward` without padding.

    A tile directly below another needs no halo above: the rows that its layers have to see again are the
    other's outputs ``below_N`` and its own inputs ``above_N``, which are optional.

    With ``statistics``, one per block, all blocks except the first and the last two work on 8-bit numbers.
    """
    config = network.config
    fold, images = config.fold, config.image_channels
    features = config.width - images
    # torch folds a pixel to channel (colour, row, column), ONNX to (row, column, colour)
    order = np.arange(images).reshape(3, fold * fold).T.reshape(-1)
    outputs = np.concatenate([np.arange(features), features + order])
    graph = Graph()

    image = graph.node("Sub", ["picture", graph.number(MIDDLE)])
    if fold > 1:
        image = graph.node("SpaceToDepth", [image], blocksize=fold)
    blocks = []
    for index, (layer, dilation) in enumerate(zip(network.low, config.dilations, strict=True)):
        inputs = outputs if index else order
        weight, bias = layer.weight.numpy()[outputs][:, inputs], layer.bias.numpy()[outputs]
        blocks.append(Block(weight, bias, features, dilation))

    end = max(1, len(blocks) - LAST_IN_FLOAT) if statistics else 1  # where the 8-bit blocks end
    extracted, image = _add_block(graph, blocks[0], "", image)
    if statistics and end > 1:
        middle = [statistics[0], *(each.reordered(outputs) for each in statistics[1:end])]
        extracted, image = add_eight_bit_blocks(graph, blocks[1:end], middle, extracted, image)
    for block in blocks[end:]:
        extracted, image = _add_block(graph, block, extracted, image)
    if fold > 1:
        image = graph.node("DepthToSpace", [image], blocksize=fold, mode="DCR")
    if config.lead:
        image = graph.joined(image, config.lead, 3)
        image = graph.crop(image, config.lead, 0)
    graph.node("Add", [image, graph.number(MIDDLE)], "image")
    _high_level(graph, network, extracted)

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "deepisp",
            [
                helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, "height", "width"]),
                *graph.above,
            ],
            [
                helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "rows", "columns"]),
                helper.make_tensor_value_info(
                    "coefficients", TensorProto.FLOAT, [1, TRANSFORM_SIZE, "down", "across"]
                ),
                *graph.below,
            ],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)],
        producer_name="deepisp",
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _add_block(graph: Graph, block: Block, extracted: str, image: str) -> tuple[str, str]:
    """A low-level block in float32: its features and the corrected image."""
    width, features = len(block.weight), block.features
    image = graph.joined(image, 2 * block.dilation, width - features)
    stem = image
    if extracted:
        extracted = graph.joined(extracted, 2 * block.dilation, features)
        stem = graph.node("Concat", [extracted, image], axis=1)
    output = graph.convolution(stem, block.weight, block.bias, dilations=[block.dilation] * 2)
    extracted = graph.node("Relu", [graph.channels(output, 0, features)])
    residual = graph.node("Tanh", [graph.channels(output, features, width)])
    residual = graph.node("Mul", [residual, graph.number(RESIDUAL_LIMIT)])
    return extracted, graph.node("Add", [graph.crop(image, block.dilation, block.dilation), residual])


def _high_level(graph: Graph, network: DeepISP, name: str) -> None:
    if not network.config.high_blocks:
        empty = graph.constant("no_cells", np.zeros((1, TRANSFORM_SIZE, 0, 0), np.float32))
        graph.node("Identity", [empty], "coefficients")
        return
    for layer in network.high:
        weight, bias = layer.weight.numpy(), layer.bias.numpy()
        name = graph.joined(name, 1, weight.shape[1])
        name = graph.convolution(name, weight, bias, strides=[2, 2])
        name = graph.node("MaxPool", [graph.node("Relu", [name])], strides=[2, 2], kernel_shape=[2, 2])
    weight = graph.constant("head_weight", network.head.weight.numpy())
    bias = graph.constant("head_bias", (network.head.bias + network.w0).numpy())
    graph.node("Conv", [name, weight, bias], "coefficients", kernel_shape=[1, 1])

"""The tile form of `deepisp_cli.network.DeepISP` as an ONNX graph of dynamic size.

Written node by node: torch's exporter needs minutes to reason about the sizes of the many crops, and cannot
choose ONNX's own order of folded channels, which saves the graph all transposes.
"""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from deepisp_cli.network import MIDDLE, RESIDUAL_LIMIT, TRANSFORM_SIZE, DeepISP

OPSET = 17
IR_VERSION = 8  # what onnxruntime 1.17 reads


class _Graph:
    """Nodes and constants in the making."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes: object) -> str:
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def number(self, value: float) -> str:
        return self.constant(f"number_{value:g}", np.array(value, np.float32))

    def crop(self, name: str, before: int, after: int) -> str:
        """Cut rows and columns off an (N, C, H, W) tensor."""
        ends = [np.iinfo(np.int64).max if after == 0 else -after] * 2
        inputs = [name]
        for what, values in (("starts", [before] * 2), ("ends", ends), ("axes", [2, 3])):
            inputs.append(self.constant(f"crop_{before}_{after}_{what}", np.array(values, np.int64)))
        return self.node("Slice", inputs)

    def channels(self, name: str, start: int, stop: int) -> str:
        inputs = [name]
        for what, values in (("starts", [start]), ("ends", [stop]), ("axes", [1])):
            inputs.append(self.constant(f"channels_{start}_{stop}_{what}", np.array(values, np.int64)))
        return self.node("Slice", inputs)


@torch.no_grad()
def to_onnx(network: DeepISP) -> bytes:
    """The serialised graph, ``picture`` to ``image`` and ``coefficients``: `forward` without padding."""
    config = network.config
    fold, images = config.fold, config.image_channels
    features = config.width - images
    # torch folds a pixel to channel (colour, row, column), ONNX to (row, column, colour)
    order = np.arange(images).reshape(3, fold * fold).T.reshape(-1)
    outputs = np.concatenate([np.arange(features), features + order])
    graph = _Graph()

    image = graph.node("Sub", ["picture", graph.number(MIDDLE)])
    if fold > 1:
        image = graph.node("SpaceToDepth", [image], blocksize=fold)
    stem, extracted = image, ""
    for index, (layer, dilation) in enumerate(zip(network.low, config.dilations, strict=True)):
        inputs = outputs if index else order
        weight = graph.constant(f"low_{index}_weight", layer.weight.numpy()[outputs][:, inputs])
        bias = graph.constant(f"low_{index}_bias", layer.bias.numpy()[outputs])
        output = graph.node("Conv", [stem, weight, bias], dilations=[dilation] * 2, kernel_shape=[3, 3])
        extracted = graph.node("Relu", [graph.channels(output, 0, features)])
        residual = graph.node("Tanh", [graph.channels(output, features, config.width)])
        residual = graph.node("Mul", [residual, graph.number(RESIDUAL_LIMIT)])
        image = graph.node("Add", [graph.crop(image, dilation, dilation), residual])
        if index + 1 < len(config.dilations):
            stem = graph.node("Concat", [extracted, image], axis=1)
    if fold > 1:
        image = graph.node("DepthToSpace", [image], blocksize=fold, mode="DCR")
    if config.lead:
        image = graph.crop(image, config.lead, 0)
    graph.node("Add", [image, graph.number(MIDDLE)], "image")
    _high_level(graph, network, extracted)

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "deepisp",
            [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, "height", "width"])],
            [
                helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "rows", "columns"]),
                helper.make_tensor_value_info(
                    "coefficients", TensorProto.FLOAT, [1, TRANSFORM_SIZE, "down", "across"]
                ),
            ],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="deepisp",
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _high_level(graph: _Graph, network: DeepISP, name: str) -> None:
    if not network.config.high_blocks:
        empty = graph.constant("no_cells", np.zeros((1, TRANSFORM_SIZE, 0, 0), np.float32))
        graph.node("Identity", [empty], "coefficients")
        return
    for index, layer in enumerate(network.high):
        weight = graph.constant(f"high_{index}_weight", layer.weight.numpy())
        bias = graph.constant(f"high_{index}_bias", layer.bias.numpy())
        name = graph.node("Conv", [name, weight, bias], strides=[2, 2], kernel_shape=[3, 3])
        name = graph.node("MaxPool", [graph.node("Relu", [name])], strides=[2, 2], kernel_shape=[2, 2])
    weight = graph.constant("head_weight", network.head.weight.numpy())
    bias = graph.constant("head_bias", (network.head.bias + network.w0).numpy())
    graph.node("Conv", [name, weight, bias], "coefficients", kernel_shape=[1, 1])

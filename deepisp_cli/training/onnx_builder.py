"""ONNX graphs node by node."""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


class Graph:
    """Nodes and constants in the making."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes: object) -> str:
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def quantised(self, name: str, step: float, zero: int = 0) -> str:
        """Float32 to 8 bits: round(x / step) + zero."""
        return self.node("QuantizeLinear", [name, *self.scale(step, zero)])

    def dequantised(self, name: str, step: float, zero: int = 0) -> str:
        return self.node("DequantizeLinear", [name, *self.scale(step, zero)])

    def scale(self, step: float, zero: int = 0) -> list[str]:
        """The two inputs that say what 8-bit numbers mean."""
        number = self.constant(f"step_{step:.9g}", np.array(step, np.float32))
        return [number, self.constant(f"zero_{zero}", np.array(zero, np.uint8))]

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def number(self, value: float) -> str:
        return self.constant(f"number_{value:g}", np.array(value, np.float32))

    def convolution(self, stem: str, weight: np.ndarray, bias: np.ndarray, **attributes: Any) -> str:
        name = f"convolution_{len(self.nodes)}"
        inputs = [stem, self.constant(f"{name}_weight", weight), self.constant(f"{name}_bias", bias)]
        return self.node("Conv", inputs, kernel_shape=list(weight.shape[2:]), **attributes)

    def crop(self, name: str, before: int, after: int, first_axis: int = 2) -> str:
        """Cut rows and columns off a tensor whose rows are ``first_axis``."""
        end = np.iinfo(np.int64).max if after == 0 else -after
        return self._slice(name, [before] * 2, [end] * 2, [first_axis, first_axis + 1])

    def channels(self, name: str, start: int, stop: int, axis: int = 1) -> str:
        return self._slice(name, [start], [stop], [axis])

    def _slice(self, name: str, *limits: list[int]) -> str:
        """``limits``: starts, ends, axes."""
        arrays = [np.array(values, np.int64) for values in limits]
        return self.node("Slice", [name, *(self.constant("int_" + "_".join(map(str, a)), a) for a in arrays)])

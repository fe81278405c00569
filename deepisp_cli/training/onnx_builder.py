"""Build ONNX graphs node by node."""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


class Graph:
    """A graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.above: list[onnx.ValueInfoProto] = []  # optional inputs
        self.below: list[onnx.ValueInfoProto] = []  # outputs: the same rows, of this tile

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes: object) -> str:
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        # below 1.22 ONNX Runtime does not open graphs whose nodes have no names
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def quantised(self, name: str, step: float, zero: int = 0) -> str:
        """Float32 to 8 bits: round(x / step) + zero."""
        return self.node("QuantizeLinear", [name, *self.scale(step, zero)])

    def dequantised(self, name: str, step: float, zero: int = 0) -> str:
        return self.node("DequantizeLinear", [name, *self.scale(step, zero)])

    def scale(self, step: float, zero: int = 0) -> list[str]:
        """The two inputs that define what 8-bit numbers mean."""
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

    def joined(
        self, name: str, rows: int, channels: int, axis: int = 2, kind: type[np.generic] = np.float32
    ) -> str:
        """A tensor preceded by the rows of it that the tile above has kept. Its last ``rows``, as many as the
        next layer has to see again, are kept for the tile below.

        They come in as ``above_N``, by default no rows, and go out as ``below_N``. ``axis`` is the row axis;
        the column axis comes next.
        """
        above, below = f"above_{len(self.above)}", f"below_{len(self.below)}"
        shape: list[int | str] = [1, *(f"{letter}_{above}" for letter in "chw")]
        shape[1 if axis == 2 else 3] = channels
        none = [0 if isinstance(side, str) else side for side in shape]
        self.constants[above] = numpy_helper.from_array(np.zeros(none, kind), above)
        self.above.append(_value(above, kind, shape))
        shape[axis] = f"kept_{below}"
        self.below.append(_value(below, kind, shape))
        whole = self.node("Concat", [above, name], axis=axis)
        self._slice(whole, [-rows], [np.iinfo(np.int64).max], [axis], output=below)
        return whole

    def crop(self, name: str, before: int, after: int, first_axis: int = 2) -> str:
        """Cut rows and columns off a tensor whose row axis is ``first_axis``."""
        end = np.iinfo(np.int64).max if after == 0 else -after
        return self._slice(name, [before] * 2, [end] * 2, [first_axis, first_axis + 1])

    def channels(self, name: str, start: int, stop: int, axis: int = 1) -> str:
        return self._slice(name, [start], [stop], [axis])

    def _slice(self, name: str, *limits: list[int], output: str = "") -> str:
        """``limits``: starts, ends, axes."""
        arrays = [np.array(values, np.int64) for values in limits]
        constants = [self.constant("int_" + "_".join(map(str, a)), a) for a in arrays]
        return self.node("Slice", [name, *constants], output)


def _value(name: str, kind: type[np.generic], shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)

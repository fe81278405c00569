"""How many operations a network takes, and how many a second the machine could do."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from deepisp_cli.engine import Engine
from deepisp_cli.models import EIGHT_BIT_FILE, IR_VERSION, OPSET, Model
from deepisp_cli.onnx_engine import open_session

SIDES = {"cpu": 2048, "cuda": 8192, "mps": 4096}  # sizes of the matrices whose product measures the peak
REPEAT = 5  # products; the fastest counts


def multiply_adds(architecture: dict[str, Any]) -> float:
    """Multiply-adds of the network's convolutions per pixel of the frame, halos aside."""
    fold, width, dilations = (architecture[key] for key in ("fold", "width", "dilations"))
    images = 3 * fold**2
    low = 9 * width * (images + (len(dilations) - 1) * width) / fold**2
    high = 0.0
    for level in range(architecture["high_blocks"]):
        inputs = width if level else width - images
        high += 9 * inputs * width / (fold**2 * 4 ** (2 * level + 1))
    return low + high


def peak_gflops(engine: Engine) -> float | None:
    """The peak of the engine's device in 10^9 operations a second, as large matrix products reach it.

    In the engine's precision: NumPy's products in float32 on the CPU, torch's on a GPU, in half precision on
    CUDA; ONNX Runtime's in TF32, in which it computes float32 there. The 8-bit form does some convolutions in
    float32: its peak is that of the mixture. None where a library that this needs (torch, or onnx for 8 bits)
    is not installed or cannot use the device.
    """
    kind = engine.device.partition(":")[0]
    try:
        if kind != "cpu":
            return _torch_peak(engine, kind)
        peak = _numpy_peak()
        if engine.name == "onnx-int8":
            share = eight_bit_multiply_adds(engine.model) / multiply_adds(engine.model.card["architecture"])
            peak = 1 / (share / _eight_bit_peak() + (1 - share) / peak)
        return round(peak, 1)
    except (ImportError, RuntimeError):  # torch's, where it has no code for a GPU or no memory is left
        return None


def eight_bit_multiply_adds(model: Model) -> float:
    """The part of `multiply_adds` that the model's 8-bit form does in 8 bits."""
    import onnx

    graph = onnx.load_from_string(model.read(EIGHT_BIT_FILE)).graph
    sizes = {constant.name: math.prod(constant.dims) for constant in graph.initializer}
    weights = sum(sizes[node.input[3]] for node in graph.node if node.op_type == "QLinearConv")
    return weights / model.card["architecture"]["fold"] ** 2


def _numpy_peak() -> float:
    a, b = np.random.default_rng(0).random((2, SIDES["cpu"], SIDES["cpu"]), np.float32)
    return _rate(lambda: a @ b, SIDES["cpu"])


def _torch_peak(engine: Engine, kind: str) -> float | None:
    import torch

    if kind == "cuda" and not torch.cuda.is_available():  # ONNX Runtime has the device, this torch does not
        return None
    half = torch.float16 if engine.name == "torch" and kind == "cuda" else torch.float32
    a, b = torch.rand(2, SIDES[kind], SIDES[kind], device=engine.device, dtype=half)
    before = torch.get_float32_matmul_precision()

    def multiply() -> None:
        a @ b
        if kind == "cuda":
            torch.cuda.synchronize(engine.device)
        else:
            torch.mps.synchronize()

    try:
        torch.set_float32_matmul_precision("high" if engine.name == "onnx" else before)  # high: TF32
        return round(_rate(multiply, SIDES[kind]), 1)
    finally:
        torch.set_float32_matmul_precision(before)


def _eight_bit_peak() -> float:
    """ONNX Runtime's product of unsigned and signed 8-bit numbers, as in the convolutions."""
    from onnx import TensorProto, helper, numpy_helper

    side = SIDES["cpu"]
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (side, side), np.uint8)
    b = rng.integers(-128, 128, (side, side), np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["product"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, a.shape)],
        [helper.make_tensor_value_info("product", TensorProto.INT32, a.shape)],
        [numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    session = open_session(model.SerializeToString())
    return _rate(lambda: session.run(None, {"a": a}), side)


def _rate(multiply: Callable[[], Any], side: int) -> float:
    """10^9 operations a second in the fastest of several products of square matrices."""
    best = math.inf
    for _ in range(REPEAT):
        started = time.perf_counter()
        multiply()
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best / 1e9

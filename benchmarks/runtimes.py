"""ONNX Runtime beside OpenVINO on one tile of a model, in one run: seconds and exactness.

    pip install openvino nncf
    python benchmarks/runtimes.py [--model NAME|DIR] [--tile PIXELS] [--repeat N]

Each core works on its own tile, with its full halo. Prints the median of N runs after one to warm up, in
seconds per tile, its ratio to ONNX Runtime in float32, and the largest difference of the restored tile from
its result. OpenVINO's 8-bit form is made by NNCF ("mixed" preset) from the float32 graph. Without NNCF or
OpenVINO, what needs it is left out. For ONNX Runtime, also prints the time with all cores on one tile, and
the share of a core's time that convolutions take, by its own profile; the rest splits, joins, adds and
changes layouts.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import local
from typing import Any

import click
import numpy as np
from script import run_script

from deepisp_cli.engine import open_engine
from deepisp_cli.machine import available_cores
from deepisp_cli.models import EIGHT_BIT_FILE, ONNX_FILE, TILE, Model, find_model
from deepisp_cli.onnx_engine import import_onnxruntime, open_session, session_options

Run = Callable[[], Any]
CONVOLUTIONS = ("Conv", "FusedConv", "QLinearConv")  # as ONNX Runtime's profile names them
PRECISIONS = ("f32", "bf16")  # bf16 where the processor has it, else OpenVINO computes in float32


@click.command(help=__doc__.split("\n")[0])
@click.option("--model", "name", default="deepisp", show_default=True, metavar="NAME|DIR")
@click.option("--tile", default=TILE, show_default=True, type=click.IntRange(min=64))
@click.option("--repeat", default=5, show_default=True, type=click.IntRange(min=1))
def main(name: str, tile: int, repeat: int) -> None:
    model = find_model(name)
    needs = model.tile_needs
    side = needs.before + max(1, tile // needs.cell) * needs.cell + needs.after
    noise = np.random.default_rng(0).standard_normal((1, 3, side, side))
    picture = (0.2 + 0.05 * noise).astype(np.float32)

    runs: dict[str, Run] = {}
    for kind in ("onnx", "onnx-int8") if model.has_eight_bit_form else ("onnx",):
        engine = open_engine(model, kind, "cpu")
        runs[kind] = lambda engine=engine: engine.run(picture)[0]
    runs |= _openvino(model, picture, engine.workers)

    usual, reference = 0.0, runs["onnx"]()
    for kind, run in runs.items():
        seconds = _seconds_per_tile(run, repeat, engine.workers)
        usual = usual or seconds
        off = float(np.abs(run() - reference).max())
        click.echo(f"{kind:16}{seconds:7.2f} s  {seconds / usual:5.2f} of onnx  off by {off:.1e}")
    for kind, file in (("onnx", ONNX_FILE), ("onnx-int8", EIGHT_BIT_FILE)):
        if kind in runs:
            graph = model.read(file)
            shared = partial(open_session(graph).run, ["image"], {"picture": picture})
            seconds = _seconds_per_tile(shared, repeat, 1)
            click.echo(f"{kind:16}{seconds:7.2f} s  {seconds / usual:5.2f} of onnx  all cores on one tile")
            share = _share_of_convolutions(graph, picture, repeat)
            click.echo(f"{kind:16}{share:.0%} of a core's time in convolutions")


def _openvino(model: Model, picture: np.ndarray, workers: int) -> dict[str, Run]:
    try:
        import openvino
    except ImportError:
        click.echo("openvino is not installed")
        return {}
    core = openvino.Core()
    graph = core.read_model(model.read(ONNX_FILE))
    threads = {"INFERENCE_NUM_THREADS": available_cores(), "NUM_STREAMS": workers}
    graphs = {f"openvino-{kind}": (graph, {"INFERENCE_PRECISION_HINT": kind}) for kind in PRECISIONS}
    try:
        import nncf

        mixed = nncf.QuantizationPreset.MIXED
        eight_bit = nncf.quantize(graph, nncf.Dataset([picture]), preset=mixed, subset_size=1)
        graphs["openvino-int8"] = (eight_bit, {})
    except ImportError:
        click.echo("nncf is not installed")
    compiled = {
        kind: core.compile_model(one, "CPU", {**threads, **options})
        for kind, (one, options) in graphs.items()
    }
    return {kind: partial(_infer, network, picture, local()) for kind, network in compiled.items()}


def _infer(network: Any, picture: np.ndarray, own: Any) -> np.ndarray:
    """OpenVINO needs a request for each thread."""
    if not hasattr(own, "request"):
        own.request = network.create_infer_request()
    return own.request.infer([picture])[0].copy()


def _share_of_convolutions(graph: bytes, picture: np.ndarray, repeat: int) -> float:
    onnxruntime = import_onnxruntime()
    options = session_options(1)
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        for _ in range(repeat):
            session.run(None, {"picture": picture})
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    nodes = [event for event in events if event["name"].endswith("_kernel_time")]
    spent = sum(node["dur"] for node in nodes if node["args"]["op_name"] in CONVOLUTIONS)
    return spent / sum(node["dur"] for node in nodes)


def _seconds_per_tile(run: Run, repeat: int, workers: int) -> float:
    with ThreadPoolExecutor(workers) as pool:

        def seconds() -> float:
            started = time.perf_counter()
            list(pool.map(lambda _: run(), range(workers)))
            return (time.perf_counter() - started) / workers

        seconds()
        return statistics.median(seconds() for _ in range(repeat))


if __name__ == "__main__":
    run_script(main)

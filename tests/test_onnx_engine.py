"""ONNX Runtime's engine: its two forms agree, its tiles fit, its errors are ours."""

import os
import subprocess
import sys

import numpy as np
import pytest

from deepisp_cli import onnx_engine
from deepisp_cli.errors import EngineError
from deepisp_cli.onnx_engine import OnnxEngine
from deepisp_cli.tiling import run_tiled


@pytest.mark.parametrize("brightness", [0.02, 0.2, 1.0])
def test_the_8_bit_form_agrees_on_frames_larger_than_a_tile(eight_bit_model, brightness):
    picture = brightness * np.random.default_rng(0).uniform(0, 1, (150, 170, 3)).astype(np.float32)
    exact, exact_transform = run_tiled(OnnxEngine(eight_bit_model), picture, tile=64)
    image, transform = run_tiled(OnnxEngine(eight_bit_model, eight_bit=True), picture, tile=64)
    assert np.abs(exact - picture).mean() > 4e-3  # the network's whole effect
    assert 0 < np.abs(image - exact).mean() < 1e-3
    assert np.abs((image - exact).mean((0, 1))).max() < 8e-4
    np.testing.assert_allclose(transform, exact_transform, atol=0.05)


def test_the_8_bit_form_has_no_cast(eight_bit_model):
    """On frames like those of the calibration, the shift of means by rounding is compensated."""
    picture = np.random.default_rng(0).uniform(0, 1, (150, 170, 3)).astype(np.float32)
    exact, _ = run_tiled(OnnxEngine(eight_bit_model), picture)
    image, _ = run_tiled(OnnxEngine(eight_bit_model, eight_bit=True), picture)
    assert np.abs((image - exact).mean((0, 1))).max() < 6e-5


def test_the_first_and_the_last_two_blocks_stay_in_float32(eight_bit_model):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load_from_string(eight_bit_model.read("model-int8.onnx")).graph
    kinds = [node.op_type for node in graph.node if node.op_type in ("Conv", "QLinearConv")]
    assert kinds[:5] == ["Conv", "QLinearConv", "QLinearConv", "Conv", "Conv"]


def test_shapes_are_the_contract(tiny_model, tile):
    image, coefficients = OnnxEngine(tiny_model).run(tile)
    cell = tiny_model.tile_needs.cell
    assert image.shape == (1, 3, 4 * cell, 5 * cell)
    assert coefficients.shape == (1, 30, 4, 5)


def test_onnxruntime_tells_nobody(tmp_path):
    """From 1.32 on it reports each run to its makers, unless that is switched off before the import."""
    code = "from deepisp_cli.onnx_engine import session_options; session_options()"
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")} | home
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert not list(tmp_path.iterdir())


def test_onnxruntime_tells_windows_nothing(monkeypatch):
    """There the variable has no effect."""
    import onnxruntime

    told = []
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: told.append("nothing"))
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: told.append("a session"))
    onnx_engine.open_session(b"")
    assert told[0] == "nothing"
    assert told[-1] == "a session"


def test_onnxruntime_that_quietly_falls_back_is_an_error(tiny_model, monkeypatch, capsys):
    """It does so if CUDA's libraries are missing; the session's own providers show it."""
    import onnxruntime

    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda graph, options, providers, **_: real(graph, providers=["CPUExecutionProvider"]),
    )
    asked = []
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: asked.append(print("they are not there")))
    with pytest.raises(EngineError, match="opened CPUExecutionProvider instead"):
        OnnxEngine(tiny_model, "cuda")
    assert asked
    assert capsys.readouterr().out == ""  # where pictures may go


def test_a_gpu_that_fails_is_told_and_nothing_is_printed(tiny_model, monkeypatch, capsys):
    """ONNX Runtime would print what failed and go on on the CPU."""
    import onnxruntime

    def create(session, *_):
        session._fallback_providers = ["CPUExecutionProvider"]
        raise RuntimeError("CUDA failure 35: CUDA driver version is insufficient")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime.InferenceSession, "_create_inference_session", create)
    with pytest.raises(EngineError, match=r"cannot open it on cuda .*CUDA driver version is insufficient"):
        OnnxEngine(tiny_model, "cuda")
    assert capsys.readouterr().out == ""


def test_onnxruntime_without_cuda_is_an_error_that_says_what_to_install(tiny_model, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(EngineError, match=r"device cuda:1: .*install onnxruntime-gpu"):
        OnnxEngine(tiny_model, "cuda:1")


@pytest.mark.parametrize(
    "words",
    [
        "bad allocation: Failed to allocate memory for requested buffer",
        "CUDA failure 2: out of memory ; GPU=0 ; expr=cudaStreamCreateWithFlags(&stream, flags);",
    ],
)
def test_running_out_of_memory_is_a_memory_error(tiny_model, tile, words):
    opened = OnnxEngine(tiny_model)

    class Full:
        def run(self, *args):
            raise RuntimeError(words)

    opened._session = Full()
    with pytest.raises(MemoryError):
        opened.run(tile)


def test_the_tile_on_a_cpu_follows_cores_and_frame(tiny_model, monkeypatch):
    smallest = onnx_engine.CPU_TILES[0]
    monkeypatch.setattr(onnx_engine, "CPU_TILES", (smallest, 10**6))
    found = {}
    for cores in (1, 2, 4, 12, 64):
        monkeypatch.setattr(onnx_engine, "available_cores", lambda cores=cores: cores)
        opened = OnnxEngine(tiny_model)
        threads = opened._session.get_session_options().intra_op_num_threads
        assert opened.workers + threads - 1 == cores  # of its threads, one is the caller
        found[cores] = opened.tile(10**9)
        assert found[cores] == opened.tile(10**8) < opened.tile(12 * 10**6) < opened.tile(10**6)
    assert found[1] > found[2] > found[4] > found[64]
    monkeypatch.setattr(onnx_engine, "CPU_MEMORY", (1, 1))
    assert opened.tile(1) == smallest
    monkeypatch.setattr(onnx_engine, "CPU_TILES", (1, 2))
    needs = tiny_model.tile_needs
    assert opened.tile(1) > needs.before + needs.after


def test_other_failures_are_engine_errors(tiny_model):
    with pytest.raises(EngineError, match="onnxruntime failed"):
        OnnxEngine(tiny_model).run(np.zeros((1, 3, 4, 4), np.float32))

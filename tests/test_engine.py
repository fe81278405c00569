"""Engines agree; a device that is named either runs or is an error."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepisp_cli import engine as engines
from deepisp_cli.engine import OnnxEngine, TorchEngine, as_engine, open_engine
from deepisp_cli.errors import EngineError, ModelError, UsageError
from deepisp_cli.models import Model
from deepisp_cli.tiling import run_tiled


@pytest.fixture
def tile(tiny_model):
    needs = tiny_model.tile_needs
    side = 4 * needs.cell + needs.before + needs.after
    return np.random.default_rng(0).uniform(0, 1, (1, 3, side, side + needs.cell)).astype(np.float32)


def test_both_engines_agree(tiny_model, tile):
    pytest.importorskip("torch")
    ours, theirs = OnnxEngine(tiny_model).run(tile), TorchEngine(tiny_model).run(tile)
    for first, second in zip(ours, theirs, strict=True):
        assert first.dtype == second.dtype == np.float32
        np.testing.assert_allclose(first, second, atol=1e-4)


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


@pytest.fixture
def found_by_numpy(monkeypatch):
    """Sets the processor extensions that NumPy finds."""

    def set_them(**extensions):
        monkeypatch.setattr(engines.np, "show_config", lambda mode: {"SIMD Extensions": extensions})

    return set_them


def test_who_gets_the_8_bit_form(eight_bit_model, tiny_model, found_by_numpy, monkeypatch):
    monkeypatch.setattr(engines, "_has_nvidia_driver", lambda: False)
    found_by_numpy()  # the processor is unknown
    assert open_engine(eight_bit_model).name == "onnx"
    for slow in ({"baseline": ["X86_V2"], "found": []}, {"baseline": ["NEON"], "found": ["ASIMDDP"]}):
        found_by_numpy(**slow)
        assert open_engine(eight_bit_model).name == "onnx"
        assert open_engine(eight_bit_model, "onnx-int8").name == "onnx-int8"
    for fast in ({"baseline": ["SSE2"], "found": ["AVX2"]}, {"baseline": ["X86_V3"], "found": []}):
        found_by_numpy(**fast)
        assert open_engine(eight_bit_model).name == "onnx-int8"
    assert open_engine(eight_bit_model, "auto", "cpu").name == "onnx-int8"
    assert open_engine(eight_bit_model, "onnx").name == "onnx"
    assert open_engine(tiny_model).name == "onnx"  # it has no 8-bit form
    with pytest.raises(EngineError, match="no 8-bit form"):
        open_engine(tiny_model, "onnx-int8")
    with pytest.raises(EngineError, match="CPU only"):
        open_engine(eight_bit_model, "onnx-int8", "cuda:0")


def test_shapes_are_the_contract(tiny_model, tile):
    image, coefficients = OnnxEngine(tiny_model).run(tile)
    cell = tiny_model.tile_needs.cell
    assert image.shape == (1, 3, 4 * cell, 5 * cell)
    assert coefficients.shape == (1, 30, 4, 5)


def test_auto_opens_what_works_and_says_which(tiny_model):
    opened = open_engine(tiny_model)
    assert opened.name in ("onnx", "torch")
    assert opened.device.partition(":")[0] in ("cpu", "cuda", "mps")


def test_auto_on_a_cpu_is_onnx_runtime(tiny_model, monkeypatch):
    monkeypatch.setattr(engines, "_has_nvidia_driver", lambda: False)
    monkeypatch.setattr(engines.sys, "platform", "linux")
    assert (open_engine(tiny_model).name, open_engine(tiny_model).device) == ("onnx", "cpu")


@pytest.mark.parametrize("engine", ["auto", "onnx", "torch"])
@pytest.mark.parametrize("device", ["cuda:99", "mps"])
def test_a_named_device_that_is_missing_is_an_error(tiny_model, engine, device):
    if device == "mps" and engines.sys.platform == "darwin":
        pytest.skip("this machine may have it")
    with pytest.raises(EngineError, match=device):
        open_engine(tiny_model, engine, device)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", "cuda:-1"])
def test_unknown_device_names(tiny_model, device):
    with pytest.raises(EngineError, match="unknown device"):
        open_engine(tiny_model, "auto", device)


@pytest.mark.parametrize("device", [None, 0])
def test_a_device_that_is_no_name_is_unknown_too(tiny_model, device):
    with pytest.raises(EngineError, match=f"unknown device {device}; known"):
        open_engine(tiny_model, "onnx", device)


def test_a_model_may_be_named(tiny_model, monkeypatch):
    """As a path of either kind. A Path is a folder, also where it looks like a name."""
    assert open_engine(str(tiny_model.folder), "onnx", "cpu").model == tiny_model
    monkeypatch.chdir(tiny_model.folder.parent)
    folder = Path(tiny_model.folder.name)
    assert open_engine(folder, "onnx", "cpu").model.card == tiny_model.card
    with pytest.raises(ModelError, match="no such model; known: deepisp"):
        open_engine(folder.name)


def test_an_engine_may_be_one_or_a_model_or_its_name(tiny_model, identity_engine):
    assert as_engine(identity_engine) is identity_engine
    for given in (tiny_model, str(tiny_model.folder)):
        assert as_engine(given).model == tiny_model


@pytest.mark.parametrize("wrong", [None, 3, {"name": "deepisp"}], ids=str)
def test_what_is_no_model_and_no_engine_is_told(wrong):
    with pytest.raises(UsageError, match=r"is not a model; give a name"):
        open_engine(wrong)
    with pytest.raises(UsageError, match=r"is not an engine; give open_engine"):
        as_engine(wrong)


@pytest.mark.parametrize("failure", ["construct", "memory", "run"])
def test_auto_goes_on_where_a_gpu_does_not_work(tiny_model, monkeypatch, failure):
    """It may be full, lost, or too old for this build of torch: the first tile shows it."""
    torch = pytest.importorskip("torch")
    from deepisp_cli.network import DeepISP

    def fail(*_, **__):
        raise (torch.OutOfMemoryError if failure == "memory" else RuntimeError)("no kernel image")

    monkeypatch.setattr(engines, "_check_torch_device", lambda torch, device: "mps")
    monkeypatch.setattr(engines, "_candidates", lambda *_: [("torch", "mps"), ("onnx", "cpu")])
    monkeypatch.setattr(DeepISP, "to", fail if failure != "run" else lambda network, *_, **__: network)
    assert open_engine(tiny_model).name == "onnx"
    monkeypatch.setattr(engines, "_candidates", lambda *_: [("torch", "mps")])
    with pytest.raises(EngineError, match="memory" if failure == "memory" else "mps"):
        open_engine(tiny_model)


def test_onnxruntime_tells_nobody(tmp_path):
    """From 1.32 on it reports each run to its makers, unless that is switched off before the import."""
    code = "from deepisp_cli.engine import session_options; session_options()"
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")} | home
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert not list(tmp_path.iterdir())


def test_onnxruntime_that_quietly_falls_back_is_an_error(tiny_model, monkeypatch):
    """It does so if CUDA's libraries are missing; the session's own providers show it."""
    import onnxruntime

    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda graph, options, providers: real(graph, providers=["CPUExecutionProvider"]),
    )
    with pytest.raises(EngineError, match="opened CPUExecutionProvider instead"):
        OnnxEngine(tiny_model, "cuda")


def test_onnxruntime_without_cuda_is_an_error_that_says_what_to_install(tiny_model, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(EngineError, match=r"device cuda:1: .*install onnxruntime-gpu"):
        OnnxEngine(tiny_model, "cuda:1")


def test_without_torch_the_error_says_what_to_install(tiny_model, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"pip install '\.\[torch\]'"):
        TorchEngine(tiny_model)


@pytest.mark.parametrize("change", [{"attention": True}, {"width": 24}, {"fold": 3}], ids=str)
def test_a_network_of_a_later_version_is_told_as_such(tiny_model, tile, change):
    """torch builds it by its description; ONNX Runtime has all that it needs in the graph."""
    pytest.importorskip("torch")
    architecture = {**tiny_model.card["architecture"], **change}
    later = Model(tiny_model.folder, {**tiny_model.card, "architecture": architecture})
    with pytest.raises(ModelError, match=r"tiny: holds a network that this version does not know .*update"):
        open_engine(later, "torch", "cpu")
    assert open_engine(later, "onnx", "cpu").run(tile)


def test_running_out_of_memory_is_a_memory_error(tiny_model, tile):
    opened = OnnxEngine(tiny_model)

    class Full:
        def run(self, *args):
            raise RuntimeError("bad allocation: Failed to allocate memory for requested buffer")

    opened._session = Full()
    with pytest.raises(MemoryError):
        opened.run(tile)


def test_the_tile_on_cuda_follows_the_free_memory(tiny_model, monkeypatch):
    import torch

    opened = TorchEngine(tiny_model)
    assert opened.tile(1) == engines.TILE
    opened._kind = "cuda"
    sides = []
    for free in (1e6, 2e8, 8e8, 1e12):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (int(free), 2e12))
        sides.append(opened.tile(1))
    assert sides[0] == engines.GPU_TILES[0]
    assert sides[3] == engines.GPU_TILES[1]
    assert sides[2] == pytest.approx(2 * sides[1], rel=0.01)


def test_the_tile_on_a_cpu_follows_cores_and_frame(tiny_model, monkeypatch):
    smallest = engines.CPU_TILES[0]
    monkeypatch.setattr(engines, "CPU_TILES", (smallest, 10**6))
    found = {}
    for cores in (1, 2, 4, 64):
        monkeypatch.setattr(engines, "available_cores", lambda cores=cores: cores)
        opened = OnnxEngine(tiny_model)
        threads = opened._session.get_session_options().intra_op_num_threads
        assert opened.workers * threads == cores
        found[cores] = opened.tile(10**9)
        assert found[cores] == opened.tile(10**8) < opened.tile(12 * 10**6) < opened.tile(10**6)
    assert found[1] > found[2] > found[4] > found[64]
    monkeypatch.setattr(engines, "CPU_MEMORY", (1, 1))
    assert opened.tile(1) == smallest
    monkeypatch.setattr(engines, "CPU_TILES", (1, 2))
    needs = tiny_model.tile_needs
    assert opened.tile(1) > needs.before + needs.after


def test_other_failures_are_engine_errors(tiny_model):
    with pytest.raises(EngineError, match="onnxruntime failed"):
        OnnxEngine(tiny_model).run(np.zeros((1, 3, 4, 4), np.float32))

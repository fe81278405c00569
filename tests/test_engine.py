"""Engines agree; a device that is named either runs or is an error."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

from deepisp_cli import engine as engines
from deepisp_cli import torch_engine
from deepisp_cli.engine import as_engine, open_engine
from deepisp_cli.errors import EngineError, ModelError, UsageError
from deepisp_cli.models import Model
from deepisp_cli.onnx_engine import OnnxEngine
from deepisp_cli.torch_engine import TorchEngine


def test_both_engines_agree(tiny_model, tile):
    pytest.importorskip("torch")
    ours, theirs = OnnxEngine(tiny_model).run(tile), TorchEngine(tiny_model).run(tile)
    for first, second in zip(ours, theirs, strict=True):
        assert first.dtype == second.dtype == np.float32
        np.testing.assert_allclose(first, second, atol=1e-4)


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


@pytest.mark.parametrize("engine", ["auto", "onnx"])
@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", "cuda:-1", None, 0])
def test_unknown_device_names(tiny_model, engine, device):
    with pytest.raises(EngineError, match=f"unknown device {device!r}; known"):
        open_engine(tiny_model, engine, device)


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

    monkeypatch.setattr(torch_engine, "_check_device", lambda torch, device: "mps")
    monkeypatch.setattr(engines, "_candidates", lambda *_: [("torch", "mps"), ("onnx", "cpu")])
    monkeypatch.setattr(DeepISP, "to", fail if failure != "run" else lambda network, *_, **__: network)
    assert open_engine(tiny_model).name == "onnx"
    monkeypatch.setattr(engines, "_candidates", lambda *_: [("torch", "mps")])
    with pytest.raises(EngineError, match="memory" if failure == "memory" else "mps"):
        open_engine(tiny_model)


def test_auto_goes_on_where_cuda_fails_when_it_starts(tiny_model, monkeypatch):
    """torch has a class of its own for that, which is no RuntimeError."""
    torch = pytest.importorskip("torch")

    def fail(*_):
        raise torch.cuda.DeferredCudaCallError("CUDA call failed lazily at initialization")

    monkeypatch.setattr(torch_engine, "_check_device", lambda torch, device: "cuda:0")
    monkeypatch.setattr(torch.cuda, "Stream", fail)
    monkeypatch.setattr(engines, "_candidates", lambda *_: [("torch", "cuda"), ("onnx", "cpu")])
    assert open_engine(tiny_model).name == "onnx"


@pytest.mark.parametrize(("place", "remedy"), [("mps", " that use it, or use --device cpu"), ("cpu", "")])
def test_a_remedy_is_another_device(tiny_model, monkeypatch, place, remedy):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(engines, "_candidates", lambda *_: [("torch", place), ("onnx", place)])
    monkeypatch.setattr(engines, "_open", full)
    with pytest.raises(EngineError) as error:
        open_engine(tiny_model)
    assert str(error.value) == f"device {place}: not enough memory; close other programs{remedy}"


def test_auto_tells_all_that_failed(tiny_model, monkeypatch):
    """The last failure alone would hide the first one's cause; a damaged file is told at once."""
    graph = b"no graph"
    files = {**tiny_model.card["files"], "model.onnx": hashlib.sha256(graph).hexdigest()}
    read = Model.read
    broken = Model(tiny_model.folder, {**tiny_model.card, "files": {**files, "weights.safetensors": "0"}})
    monkeypatch.setattr(
        Model, "read", lambda model, file: graph if file == "model.onnx" else read(model, file)
    )
    monkeypatch.setattr(engines, "_candidates", lambda *_: [("onnx", "cpu"), ("torch", "cpu")])
    pytest.importorskip("torch")
    with pytest.raises(
        EngineError, match=r"model\.onnx: onnxruntime cannot open it on cpu .*safetensors: is not"
    ):
        open_engine(broken)
    monkeypatch.setattr(engines, "_candidates", lambda *_: [("torch", "cpu"), ("onnx", "cpu")])
    with pytest.raises(ModelError, match=r"safetensors: is not the file"):
        open_engine(broken)


@pytest.mark.parametrize("change", [{"attention": True}, {"width": 24}, {"fold": 3}], ids=str)
def test_a_network_of_a_later_version_is_told_as_such(tiny_model, tile, change):
    """torch builds it by its description; ONNX Runtime has all that it needs in the graph."""
    pytest.importorskip("torch")
    architecture = {**tiny_model.card["architecture"], **change}
    later = Model(tiny_model.folder, {**tiny_model.card, "architecture": architecture})
    with pytest.raises(ModelError, match=r"tiny: holds a network that this version does not know .*update"):
        open_engine(later, "torch", "cpu")
    assert open_engine(later, "onnx", "cpu").run(tile)


@pytest.mark.parametrize("failure", ["ImportError", "OSError"])
@pytest.mark.parametrize(
    ("library", "engine", "other"), [("onnxruntime", "onnx", "torch"), ("torch",) * 2 + ("onnx",)]
)
def test_a_half_installed_library_is_told_and_auto_takes_another(
    tiny_model, tmp_path, monkeypatch, library, engine, other, failure
):
    """On Windows "DLL load failed" where a runtime is missing; from torch an OSError."""
    pytest.importorskip("torch")
    monkeypatch.setattr(engines, "_candidates", lambda *_: [(engine, "cpu"), (other, "cpu")])
    (tmp_path / f"{library}.py").write_text(f"raise {failure}('no X.so')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, library, raising=False)
    assert open_engine(tiny_model).name == other
    monkeypatch.setattr(engines, "_candidates", lambda *_: [(engine, "cpu")])
    with pytest.raises(EngineError, match=rf"^{library} cannot be loaded \(no X\.so\); install it again$"):
        open_engine(tiny_model)


@pytest.mark.parametrize(("library", "engine"), [("onnxruntime", "onnx"), ("torch", "torch")])
def test_a_library_of_which_only_the_folder_is_left_is_told(
    tiny_model, tmp_path, monkeypatch, library, engine
):
    """Uninstalling leaves it where other files lie in it."""
    pytest.importorskip("torch")
    (tmp_path / f"{library}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name == library or name.startswith("safetensors.torch")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(EngineError, match=rf"^{library} cannot be loaded \(module .* has no attribute"):
        open_engine(tiny_model, engine, "cpu")


def test_a_missing_form_is_not_told_of_a_gpu_that_nobody_named(monkeypatch):
    monkeypatch.setattr(engines, "_has_nvidia_driver", lambda: True)
    with pytest.raises(EngineError) as caught:
        open_engine("deepisp-jdd", "onnx-int8")
    assert str(caught.value) == "the model deepisp-jdd has no 8-bit form; use the onnx engine"

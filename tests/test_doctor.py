"""``deepisp doctor`` on installations that do not work. (`test_cli.py`: on one that does.)"""

import json
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import IdentityEngine

from deepisp_cli import doctor
from deepisp_cli.cli import main
from deepisp_cli.colour import encode
from deepisp_cli.demosaic import demosaic
from deepisp_cli.errors import EngineError, ModelError

CLEAN = encode(demosaic(doctor._ramp(), "RGGB"))
NOTHING = np.zeros((3, 10), np.float32)  # a transform


@pytest.fixture(autouse=True)
def identity(monkeypatch):
    """Every engine opens and leaves the noise in."""
    monkeypatch.setattr(doctor, "find_model", lambda name: IdentityEngine().model)
    monkeypatch.setattr(doctor, "open_engine", lambda model, engine, device: IdentityEngine())


def run(*arguments):
    return CliRunner().invoke(main, ["doctor", *arguments])


def states(findings):
    return {f"{row['engine']}/{row['device']}": row["state"] for row in findings["engines"]}


def test_a_model_that_leaves_the_noise_fails():
    result = run("--json")
    assert result.exit_code == 4
    findings = json.loads(result.stdout)
    assert not findings["healthy"]
    before, after = (
        findings["self_test"].removeprefix("failed: the default model reduces noise from ").split(" to ")
    )
    assert float(before) == float(after) > 0.02
    assert set(states(findings).values()) == {"works"}  # as the model does


@pytest.mark.parametrize(("share", "verdict"), [(0.45, "passed"), (0.55, "failed")])
def test_half_of_the_noise_has_to_go(monkeypatch, share, verdict):
    monkeypatch.setattr(
        doctor, "run_tiled", lambda engine, noisy, tile: (CLEAN + share * (noisy - CLEAN), NOTHING)
    )
    findings = doctor.examine()
    assert findings["self_test"].startswith(f"{verdict}: the default model")
    assert findings["healthy"] == (verdict == "passed")


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["image", "transform"])
def test_numbers_that_are_not_finite_fail(monkeypatch, number, where):
    returned = {"image": CLEAN.copy(), "transform": NOTHING.copy()}
    returned[where][1, 1] = number
    monkeypatch.setattr(doctor, "run_tiled", lambda *_, **__: tuple(returned.values()))
    findings = doctor.examine()
    assert findings["self_test"] == "failed: the model returns numbers that are not finite"
    assert not findings["healthy"]


def test_a_model_without_a_transform_may_pass(monkeypatch):
    monkeypatch.setattr(doctor, "run_tiled", lambda *_, **__: (CLEAN, None))
    assert doctor.examine()["healthy"]


@pytest.mark.parametrize(
    ("difference", "wrong"),
    [
        (1, set()),
        (2, {"onnx/cpu", "torch/cpu", "torch/mps"}),
        (-6, {"onnx/cpu", "torch/cpu", "torch/mps", "onnx/cuda", "torch/cuda"}),
        (13, {"onnx/cpu", "torch/cpu", "torch/mps", "onnx/cuda", "torch/cuda", "onnx-int8/cpu"}),
        (-200, {"onnx/cpu", "torch/cpu", "torch/mps", "onnx/cuda", "torch/cuda", "onnx-int8/cpu"}),
    ],
)
def test_an_engine_whose_picture_is_another_is_wrong(monkeypatch, difference, wrong):
    """One pixel in the picture of one lane; half precision and 8 bits may be further off."""
    expected = np.full((4, 4, 3), 220, np.uint8)
    off = expected.copy()
    off[3, 0, 1] = 220 + difference
    pictures = iter([[expected], *[[expected, off]] * len(doctor.PLACES)])
    monkeypatch.setattr(doctor, "_pictures", lambda raw, engine: next(pictures))
    found = states(doctor.examine())
    for place, state in found.items():
        assert state == (f"wrong: differs by {abs(difference)} of 255 levels" if place in wrong else "works")
    assert wrong <= set(found)


def test_an_engine_that_fails_is_named_and_the_others_go_on(monkeypatch):
    def open_engine(model, engine, device):
        if (engine, device) == ("torch", "cuda"):
            raise EngineError("device cuda: there is none")
        if (engine, device) == ("torch", "mps"):
            raise ZeroDivisionError
        return IdentityEngine()

    monkeypatch.setattr(doctor, "open_engine", open_engine)
    result = run()
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert lines["torch/cuda"] == "no: device cuda: there is none"
    assert lines["torch/mps"].startswith("no: bug, please report it")
    assert lines["onnx/cpu"] == lines["torch/cpu"] == "works"


def test_a_self_test_that_ends_in_an_error_is_none_that_passed(monkeypatch):
    def fail(*_):
        raise EngineError("out of order")

    monkeypatch.setattr(doctor, "run_tiled", lambda *_, **__: (CLEAN, None))
    assert run().exit_code == 0
    monkeypatch.setattr(doctor, "develop_array", fail)
    result = run()
    assert result.exit_code == 4 and "failed: self-test: out of order" in result.stdout


def test_a_library_may_be_there_as_its_variant_for_gpus(monkeypatch):
    def version(name):
        if name != "onnxruntime-gpu":
            raise PackageNotFoundError(name)
        return "1.30"

    monkeypatch.setattr(doctor, "version", version)
    assert doctor.installed_version("onnxruntime") == "1.30"
    assert doctor.installed_version("torch") is None


def test_a_model_that_is_missing_fails(monkeypatch):
    def find_model(name):
        raise ModelError(f"{name}: is not there")

    monkeypatch.setattr(doctor, "find_model", find_model)
    monkeypatch.setattr(doctor, "PACKAGES", ("numpy", "no-such-package"))
    result = run()
    assert result.exit_code == 4
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert lines["self-test"] == "failed: deepisp: is not there"
    assert lines["numpy"] == np.__version__
    assert lines["no-such-package"] == "not installed"

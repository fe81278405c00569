"""A model folder is written only if ONNX Runtime and torch agree; else nothing is left or changed."""

import json
import os
from copy import deepcopy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepisp_cli.errors import ModelError, OutputError
from deepisp_cli.models import CARD_FILE, EIGHT_BIT_FILE, ONNX_FILE
from deepisp_cli.network import DeepISP, NetworkConfig
from deepisp_cli.training import export as exporting
from deepisp_cli.training.export import eight_bit_difference, export
from deepisp_cli.training.onnx_graph import to_onnx

FACTS = {"summary": "for tests", "training": {}, "results": []}
PICTURES = [torch.full((1, 3, 48, 48), level) for level in (0.2, 0.6)]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return DeepISP(NetworkConfig(fold=1, dilations=(1, 1, 1, 1), width=8, high_blocks=1)).eval()


@pytest.fixture
def differ(monkeypatch):
    """Sets the results of the comparisons; returns the arguments that they were called with, by name."""

    def set_them(**found):
        calls = {}
        for name, difference in found.items():

            def compare(*arguments, name=name, difference=difference):
                calls[name] = arguments
                return difference

            monkeypatch.setattr(exporting, name, compare)
        return calls

    return set_them


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("difference", [1.1e-4, np.nan, np.inf])
def test_engines_that_differ_leave_no_folder(network, tmp_path, differ, difference):
    calls = differ(largest_difference=difference)
    with pytest.raises(
        ModelError, match=r"new[/\\]model: torch and ONNX Runtime differ by .*nothing was written"
    ):
        export(network, tmp_path / "new" / "model", FACTS)
    assert calls
    assert not list(tmp_path.iterdir())


def test_what_is_no_number_differs(network, tmp_path):
    broken = deepcopy(network)
    broken.low[0].weight.data.fill_(np.nan)
    with pytest.raises(ModelError, match="differ by nan"):
        export(broken, tmp_path / "model", FACTS)
    assert not (tmp_path / "model").exists()
    assert np.isnan(eight_bit_difference(broken, to_onnx(network), PICTURES)).all()


@pytest.mark.parametrize("found", [(5.1e-3, 0.0), (0.0, 0.031), (np.nan, 0.0), (0.0, np.nan)])
def test_an_8_bit_form_that_is_off_leaves_no_folder(network, tmp_path, differ, found):
    calls = differ(eight_bit_difference=found)
    with pytest.raises(ModelError, match=r"new[/\\]model: the 8-bit form is off by .*nothing was written"):
        export(network, tmp_path / "new" / "model", FACTS, PICTURES)
    assert calls
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_there_already_stays_as_it_was(network, tmp_path, differ):
    export(network, tmp_path, FACTS, PICTURES)
    before = contents(tmp_path)
    differ(eight_bit_difference=(1.0, 0.0))
    other = DeepISP(network.config).eval()
    with pytest.raises(ModelError):
        export(other, tmp_path, FACTS, PICTURES)
    differ(largest_difference=1.0)
    with pytest.raises(ModelError):
        export(other, tmp_path, FACTS)
    assert contents(tmp_path) == before


def test_no_8_bit_form_of_another_model_stays(network, tmp_path, differ):
    export(network, tmp_path, FACTS, PICTURES)
    assert (tmp_path / EIGHT_BIT_FILE).exists()
    export(network, tmp_path, FACTS)
    assert not (tmp_path / EIGHT_BIT_FILE).exists()
    assert EIGHT_BIT_FILE not in json.loads((tmp_path / "card.json").read_text())["files"]


@pytest.mark.parametrize("checks", [(), PICTURES[:1]])
def test_what_is_compared_is_what_is_written(network, tmp_path, differ, checks):
    """On the pictures meant for it, if any; the card states the difference."""
    calls = differ(largest_difference=9e-5, eight_bit_difference=(4.9e-3, 0.029))
    export(network, tmp_path / "model", FACTS, PICTURES, checks)
    files = contents(tmp_path / "model")
    assert calls["largest_difference"] == (network, files[ONNX_FILE])
    assert calls["eight_bit_difference"] == (network, files[EIGHT_BIT_FILE], checks or PICTURES)
    assert list(json.loads(files["card.json"])["parity"].values()) == [9e-5, 4.9e-3, 0.029]


@pytest.mark.parametrize("high_blocks", [1, 0])
def test_what_an_8_bit_form_is_off_by(monkeypatch, high_blocks):
    """For images the root mean square over all of them, for W the worst coefficient of the worst frame."""
    torch.manual_seed(0)
    network = DeepISP(NetworkConfig(fold=2, dilations=(1,), width=20, high_blocks=high_blocks)).eval()
    config = network.config
    side = 2 * config.cell + config.lead + 2 * config.reach
    pictures = [torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    errors = iter([(0.01, 0.1), (-0.03, -0.2)])

    class Session:
        def run(self, names, inputs):
            assert names == ["image", "coefficients"]
            image, coefficients = (
                each.numpy().copy() for each in network(torch.from_numpy(inputs["picture"]))
            )
            off, coefficient_off = next(errors)
            if coefficients.size:
                coefficients[0, 7, 0, 1] += coefficient_off  # of one of four cells
            return image + np.float32(off), coefficients

    monkeypatch.setattr(exporting, "open_session", lambda graph: Session())
    with torch.inference_mode():
        image, transform = eight_bit_difference(network, b"", pictures)
    assert image == pytest.approx(np.sqrt((0.01**2 + 0.03**2) / 2), rel=1e-3)
    assert transform == pytest.approx(0.05 if high_blocks else 0, rel=1e-3)


def test_a_full_disk_does_not_take_what_a_person_wrote_into_the_card(network, tmp_path, monkeypatch):
    (tmp_path / CARD_FILE).write_text('{"summary": "by hand"}')
    replace, before = os.replace, contents(tmp_path)

    def full(source, target):
        if target.endswith(CARD_FILE):
            raise OSError(28, "full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match=r"card\.json: cannot be written \(full\); free some space"):
        export(network, tmp_path, FACTS)
    assert contents(tmp_path)[CARD_FILE] == before[CARD_FILE]

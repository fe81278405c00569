"""``deepisp train`` and ``deepisp export`` refuse what they cannot do as asked, before any work."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

torch = pytest.importorskip("torch")

from deepisp_cli.cli import main

RECIPE = (
    "[network]\nfold = 2\ndilations = [1, 2]\nwidth = 20\nhigh_blocks = 1\n"
    "[[stages]]\nlearning_rate = 1e-3\nbatch = 1\ncrop = 16\nsteps = 1\n"
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """``run(*arguments)`` runs ``deepisp train`` on a recipe of one step for the network of `tiny_model`."""
    monkeypatch.chdir(tmp_path)
    photographs, recipe = tmp_path / "photographs", tmp_path / "tiny" / "train.toml"
    photographs.mkdir()
    recipe.parent.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(photographs / "a.png")
    recipe.write_text(RECIPE)

    def run(*arguments):
        train = ["train", str(recipe), "--photographs", str(photographs), "--device", "cpu"]
        return CliRunner().invoke(main, [*train, *map(str, arguments)])

    return run


def test_resume_needs_a_checkpoint(run, tmp_path):
    result = run("-o", "gone", "--resume")
    assert result.exit_code == 2, result.output
    assert "checkpoint.pt: there is no checkpoint to continue from; leave out --resume" in result.output
    assert not (tmp_path / "gone").exists()


def test_a_run_that_goes_on_takes_no_other_weights(run, tiny_model, tmp_path):
    assert run("-o", "run").exit_code == 0
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    result = run("-o", "run", "--resume", "--initial", tiny_model.folder)
    assert result.exit_code == 2, result.output
    assert "leave out --resume or --initial" in result.output
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


def test_a_run_cannot_begin_with_a_network_of_a_later_version(run, tiny_model, tmp_path):
    later = shutil.copytree(tiny_model.folder, tmp_path / "later")
    card = json.loads((later / "card.json").read_text("utf-8"))
    assert run("--initial", later, "-o", "known").exit_code == 0
    card["architecture"]["attention"] = True
    (later / "card.json").write_text(json.dumps(card), "utf-8")
    result = run("--initial", later)
    assert result.exit_code == 4, result.output
    assert "later: holds a network that this version does not know" in result.output


def test_a_checkpoint_of_a_later_version_is_neither_resumed_nor_exported(run, tmp_path):
    assert run("-o", "run").exit_code == 0
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    state = torch.load(checkpoint, weights_only=True)
    state["config"]["network"]["attention"] = True
    torch.save(state, checkpoint)
    for result in (
        run("-o", "run", "--resume"),
        CliRunner().invoke(main, ["export", str(checkpoint), "later"]),
    ):
        assert result.exit_code == 4, result.output
        assert "checkpoint.pt: holds a network that this version does not know" in result.output
    assert not (tmp_path / "models").exists()

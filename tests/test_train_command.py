"""``deepisp train`` and ``deepisp export`` refuse what they cannot do as asked, before any work."""

import dataclasses
import json
import shutil
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

torch = pytest.importorskip("torch")

from deepisp_cli.cli import main
from deepisp_cli.dng import write_dng
from deepisp_cli.network import NetworkConfig
from deepisp_cli.training.config import Stage, TrainConfig, tomllib
from deepisp_cli.training.mosaics import MosaicOptions
from deepisp_cli.training.quantise import FEWEST_BLOCKS
from deepisp_cli.training.synthesis import SynthesisOptions
from deepisp_cli.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]
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


def edit(recipe, old, new):
    text = recipe.read_text("utf-8")
    assert old in text
    recipe.write_text(text.replace(old, new), "utf-8")


def test_a_resumed_run_keeps_the_data_that_it_began_with(run, tmp_path, caplog):
    """Whether the configuration names a folder that is not there, or other pictures."""
    photographs, recipe = tmp_path / "photographs", tmp_path / "tiny" / "train.toml"
    other = tmp_path / "other"
    other.mkdir()
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(other / "b.png")
    edit(recipe, "steps = 1", "steps = 3")
    assert run("-o", "whole", "--validation", photographs).exit_code == 0
    for name in ("gone", "other"):
        data = f"photographs = [{name!r}]\npanoramas = ['nowhere']\nshares = [0.5, 0.5, 0.0]\n"
        recipe.write_text(data + RECIPE.replace("steps = 1", "steps = 3"), "utf-8")
        assert run("-o", name, "--validation", photographs, "--steps", "2").exit_code == 0
        result = CliRunner().invoke(main, ["train", str(recipe), "-o", name, "--device", "cpu", "--resume"])
        assert result.exit_code == 0, result.output
        told = f"{name}: trained on the data that the run began with, not on that of {recipe}"
        assert told in caplog.messages
        caplog.clear()
        whole, resumed = (
            torch.load(tmp_path / each / "checkpoint.pt", weights_only=True) for each in ("whole", name)
        )
        assert resumed["config"] == whole["config"]
        assert resumed["history"][-1]["psnr"] == whole["history"][-1]["psnr"]
        for key, value in whole["network"].items():
            assert torch.equal(value, resumed["network"][key]), key


def test_a_resumed_run_takes_the_data_that_it_is_given(run, tmp_path):
    other = tmp_path / "other"
    edit(tmp_path / "tiny" / "train.toml", "steps = 1", "steps = 2")
    assert run("-o", "run", "--validation", tmp_path / "photographs", "--steps", 1).exit_code == 0
    (tmp_path / "photographs").rename(other)
    (tmp_path / "photographs").mkdir()  # where the configuration of the checkpoint points to
    result = run("-o", "run", "--resume", "--photographs", other, "--validation", other)
    assert result.exit_code == 0, result.output
    saved = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["config"]
    assert saved["photographs"] == (str(tmp_path / "photographs"), str(other))
    assert saved["validation"] == (str(other),)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[network]", "seed = 3\n[network]", "seed was 0, is 3"),
        ("[network]", "restoration_weight = 1\n[network]", "restoration_weight was 0.5, is 1"),
        ("learning_rate = 1e-3", "learning_rate = 2e-3", "stage 1: learning_rate was 0.001, is 0.002"),
        (
            "[[stages]]",
            "[synthesis]\nbits = [12, 12]\n[[stages]]",
            "synthesis.bits was [12, 14], is [12, 12]",
        ),
        ("steps = 1", "steps = 1\n" + RECIPE[RECIPE.index("[[") :], "number of stages was 1, is 2"),
    ],
)
def test_a_run_does_not_go_on_with_another_configuration(run, tmp_path, old, new, message):
    assert run("-o", "run").exit_code == 0
    edit(tmp_path / "tiny" / "train.toml", old, new)
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    result = run("-o", "run", "--resume")
    assert result.exit_code == 4, result.output
    assert message in result.output
    assert "checkpoint.pt: the run began with another configuration" in result.output
    assert "change it back, or train into another folder with --initial" in result.output
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


def test_a_run_whose_data_is_gone_does_not_go_on_with_other(run, tmp_path):
    recipe = tmp_path / "tiny" / "train.toml"
    recipe.write_text("photographs = ['before']\n" + RECIPE.replace("steps = 1", "steps = 2"))
    (tmp_path / "photographs").rename(tmp_path / "before")
    plain = ["train", str(recipe), "-o", "run", "--device", "cpu"]
    assert CliRunner().invoke(main, [*plain, "--steps", "1"]).exit_code == 0
    (tmp_path / "before").rename(tmp_path / "after")
    edit(recipe, "before", "after")
    result = CliRunner().invoke(main, [*plain, "--resume"])
    assert result.exit_code == 3
    initial = Path("run", "checkpoint.pt")
    assert "before: the data of the run is not there; mount its disk" in result.output
    assert f"with --initial {initial}" in result.output
    plain[3] = "other"
    assert CliRunner().invoke(main, [*plain, "--initial", str(initial)]).exit_code == 0


def test_a_run_that_is_given_data_keeps_its_validation(run, tmp_path):
    edit(tmp_path / "tiny" / "train.toml", "steps = 1", "steps = 2")
    shutil.copytree(tmp_path / "photographs", tmp_path / "kept")
    assert run("-o", "run", "--validation", "kept", "--steps", 1).exit_code == 0
    (tmp_path / "photographs").rename(tmp_path / "after")
    plain = ["train", "tiny/train.toml", "-o", "run", "--device", "cpu", "--resume", "--photographs", "after"]
    assert CliRunner().invoke(main, plain).exit_code == 0
    saved = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert saved["config"]["validation"] == ("kept",)


def test_data_that_was_never_used_may_be_gone(run, tmp_path):
    recipe = tmp_path / "tiny" / "train.toml"
    data = "photographs = ['photographs']\npanoramas = ['nowhere']\n"  # whose share is 0
    recipe.write_text(data + RECIPE.replace("steps = 1", "steps = 2"))
    plain = ["train", str(recipe), "-o", "run", "--device", "cpu"]
    assert CliRunner().invoke(main, [*plain, "--steps", "1"]).exit_code == 0
    assert CliRunner().invoke(main, [*plain, "--resume"]).exit_code == 0


def test_a_configuration_whose_validation_is_not_used_is_told(run, tmp_path, caplog):
    edit(tmp_path / "tiny" / "train.toml", "steps = 1", "steps = 2")
    assert run("-o", "run", "--steps", 1).exit_code == 0
    edit(tmp_path / "tiny" / "train.toml", "[network]", "validation = ['photographs']\n[network]")
    assert run("-o", "run", "--resume").exit_code == 0
    assert "run: validated as the run began" in caplog.text
    assert "--validation changes it" in caplog.text


def test_the_length_of_a_stage_that_is_over_changes_nothing(run, tmp_path, caplog):
    recipe = tmp_path / "tiny" / "train.toml"
    recipe.write_text(RECIPE + RECIPE[RECIPE.index("[[") :])
    assert run("-o", "run", "--steps", 1).exit_code == 0
    recipe.write_text(recipe.read_text().replace("steps = 1", "steps = 3", 1))
    assert run("-o", "run", "--resume").exit_code == 0
    assert "(stage 1: steps was 1, is 3); that stage is over, so it changes nothing" in caplog.text


def test_a_resumed_run_may_become_longer(run, tmp_path, caplog):
    assert run("-o", "run").exit_code == 0
    edit(tmp_path / "tiny" / "train.toml", "steps = 1", "steps = 2")
    result = run("-o", "run", "--resume")
    assert result.exit_code == 0, result.output
    assert "another length (stage 1: steps was 1, is 2); it goes on with this one" in caplog.text
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["position"][3] == 2


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("recipes/first.toml", "first"),
        ("recipes/second.v2.toml", "second.v2"),
        ("recipes/train.toml", "recipes"),
        ("model/finish.toml", "model"),
    ],
)
def test_runs_of_one_folders_configurations_go_into_folders_of_their_own(run, tmp_path, caplog, path, name):
    recipe = tmp_path / path
    recipe.parent.mkdir()
    if recipe.parent.name == "model":
        (recipe.parent / "card.json").write_text("{}")
    recipe.write_text(RECIPE, "utf-8")
    caplog.set_level("INFO")
    command = ["train", str(recipe), "--photographs", "photographs", "--device", "cpu"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "runs" / name / "checkpoint.pt").exists()
    assert result.stdout.splitlines()[-1] == str(Path("runs") / name / "checkpoint.pt")
    assert f"into {Path('runs') / name}" in caplog.text


@pytest.mark.parametrize("validation", [True, False])
def test_a_run_tells_early_what_it_does(run, tmp_path, caplog, validation):
    """What it begins with, a line after ten steps of it, and what there is to do once it is finished."""
    caplog.set_level("INFO")
    photographs = tmp_path / "photographs"
    options = ["-o", "run", *(["--validation", photographs] if validation else [])]
    shutil.copy(photographs / "a.png", photographs / "b.png")
    Image.new("RGB", (15, 64)).save(photographs / "small.png")  # holds no crop
    edit(tmp_path / "tiny" / "train.toml", "steps = 1\n", "steps = 24\n" + RECIPE[RECIPE.index("[[") :])
    assert run(*options, "--steps", 2).exit_code == 0
    expected = f"2 pictures, {3 if validation else 0} for validation; stage 1 of 2; into run"
    assert expected in caplog.messages
    caplog.clear()
    assert run(*options, "--resume").exit_code == 0
    reports = [line for line in caplog.messages if line.startswith("stage ")]
    assert [line.split("  ")[:2] for line in reports] == [
        ["stage 1", "step 12"], ["stage 1", "step 24"], ["stage 2", "step 1"],
    ]  # fmt: skip
    for line in reports:
        assert "nan" not in line
        assert ("psnr" in line, "dead" in line) == (validation, validation)
    columns = (tmp_path / "run" / "log.csv").read_text().splitlines()[0].split(",")
    documented = section("Stop, resume and the log")
    assert columns[-2:] == ["psnr", "dead"]
    assert all(f"`{column}`" in documented for column in columns)
    caplog.clear()
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    result = run(*options, "--resume")
    assert result.exit_code == 0, result.output
    assert "the run is finished, after 25 steps; there is nothing to resume" in caplog.messages
    assert not [line for line in caplog.messages if line.startswith("stage ")]
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


def section(title):
    """A section of the documentation."""
    return (ROOT / "docs" / "training.md").read_text("utf-8").split(f"## {title}\n")[1].split("\n## ")[0]


def configuration(title):
    """The configuration that a section of the documentation shows."""
    return section(title).split("```toml\n")[1].split("```\n")[0]


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate"), True),
        (RuntimeError("shapes differ"), False),
    ],
)
def test_too_little_memory_is_told_with_a_remedy(monkeypatch, tmp_path, failure, told):
    from deepisp_cli.training import train as module

    def fail(*_, **__):
        raise failure

    monkeypatch.setattr(module, "train", fail)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["train", str(ROOT / "models/deepisp/high.toml")])
    assert ("not enough memory; smaller batches" in result.output) == told
    assert result.exit_code == (4 if told else 1)


@pytest.mark.parametrize(("name", "folder"), [("mine", "models/mine"), ("./mine", "mine"), ("..", "..")])
def test_a_model_is_exported_where_process_finds_it(monkeypatch, tmp_path, name, folder):
    from deepisp_cli.training import export as module

    asked = []
    monkeypatch.setattr(module, "export_checkpoint", lambda checkpoints, folder, _: asked.append(folder))
    (tmp_path / "checkpoint.pt").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["export", "checkpoint.pt", name]).exit_code == 0
    assert asked == [Path(folder)]
    refused = CliRunner().invoke(main, ["export", "checkpoint.pt", ""])
    assert (refused.exit_code, len(asked)) == (2, 1)
    assert "the model's name is empty" in refused.output


def test_the_documented_configuration_trains(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(configuration("A first run"), "utf-8")
    Path("photographs").mkdir()
    rng = np.random.default_rng(0)
    for index in range(5):
        Image.fromarray(rng.integers(0, 256, (130, 140, 3), np.uint8)).save(f"photographs/{index}.png")
    result = CliRunner().invoke(main, ["train", "small.toml", "--steps", "2", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    state = torch.load("runs/small/checkpoint.pt", weights_only=True)
    assert state["position"][3] == 2
    assert len(state["config"]["stages"]) == 2
    assert len(state["config"]["network"]["dilations"]) >= FEWEST_BLOCKS  # it has an 8-bit form, too


def test_the_documented_configuration_for_raw_pairs_trains(tmp_path, monkeypatch):
    """Except that its crops are of a megapixel, and its W0 is that of many."""
    monkeypatch.setattr(Trainer, "set_w0", partialmethod(Trainer.set_w0, frames=2))
    monkeypatch.chdir(tmp_path)
    text = configuration("Real pairs")
    assert "crop = 1024\n" in text
    Path("s7.toml").write_text(text.replace("crop = 1024\n", "crop = 176\n"), "utf-8")
    scene = Path("S7-ISP-Dataset/1")
    scene.mkdir(parents=True)
    rng = np.random.default_rng(0)
    counts = rng.integers(64, 1000, (180, 190)).astype(np.uint16)
    write_dng(scene / "short_exposure.dng", counts, pattern="GRBG", black=64, white=4095)
    Image.fromarray(rng.integers(0, 256, (180, 190, 3), np.uint8)).save(scene / "medium_exposure.jpg")
    result = CliRunner().invoke(main, ["train", "s7.toml", "--steps", "1", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    config = torch.load("runs/s7/checkpoint.pt", weights_only=True)["config"]
    assert (len(config["network"]["dilations"]), config["network"]["width"]) == (15, 64)


def test_every_key_is_documented_with_its_default():
    rows = [line.split("|")[1:4] for line in section("All keys").splitlines() if line.startswith("| ")]
    tables: list[dict[str, str]] = []
    for key, default, meaning in rows:
        if key.startswith(" key"):
            tables.append({})
        else:
            tables[-1][key.strip(" `")] = default.strip(" `")
            assert meaning.strip()
    kinds = TrainConfig, NetworkConfig, Stage, SynthesisOptions, MosaicOptions
    for kind, table in zip(kinds, tables, strict=True):
        assert list(table) == [field.name for field in dataclasses.fields(kind)]
        for field in dataclasses.fields(kind):
            shown = table[field.name]
            if field.default in (dataclasses.MISSING, None):
                optional = field.default is None or field.default_factory is not dataclasses.MISSING
                assert shown == ("" if optional else "needed"), field.name
            else:
                value = tomllib.loads(f"value = {shown}")["value"]
                assert (tuple(value) if isinstance(value, list) else value) == field.default, field.name


def test_what_to_do_about_a_missing_folder_is_said(run, tmp_path):
    recipe = tmp_path / "tiny" / "train.toml"
    edit(recipe, "[network]", "photographs = ['gone']\n[network]")
    result = CliRunner().invoke(main, ["train", str(recipe), "--device", "cpu"])
    assert result.exit_code == 3, result.output
    assert "gone: is not a folder; name folders of pictures in the configuration, or give --photographs" in (
        result.output
    )


def test_a_run_may_begin_with_a_model_by_its_name(run, tiny_model, monkeypatch):
    from deepisp_cli import models

    monkeypatch.setattr(models, "_models_folder", lambda: tiny_model.folder.parent)
    assert run("--initial", tiny_model.folder.name, "-o", "named").exit_code == 0
    result = run("--initial", "nonsense", "-o", "other")
    assert result.exit_code == 4
    assert "nonsense: no such model; known: tiny" in result.output
    for gone in ("gone/checkpoint.pt", "checkpoint.pt", "./tiny"):
        result = run("--initial", gone, "-o", "other")
        assert result.exit_code == 2
        assert f"{gone}: is neither a checkpoint nor a model's folder" in result.output


def test_minutes_that_are_no_number_are_refused(run):
    result = run("--minutes", "nan")
    assert result.exit_code == 2
    assert "'nan' is no number from 0 on" in result.output


def test_a_run_that_is_refused_leaves_no_folder(run, tmp_path):
    (tmp_path / "photographs" / "a.png").unlink()
    assert run("-o", "run").exit_code == 3
    assert not (tmp_path / "run").exists()


def test_a_file_that_windows_editors_have_marked_is_read(run, tmp_path):
    (tmp_path / "tiny" / "train.toml").write_text(RECIPE, "utf-8-sig")
    assert run("-o", "run").exit_code == 0


@pytest.mark.parametrize("name", ["meta", "xla", "foo", "cpu:3", "cuda:x"])
def test_a_device_that_is_not_known_is_refused(run, name):
    result = run("-o", "run", "--device", name)
    assert result.exit_code == 4
    assert result.stderr == f"deepisp: unknown device '{name}'; known: auto, cpu, cuda, cuda:N\n"


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


def test_training_on_metal_is_refused_with_the_reason(run):
    """It would fail at the first square root of a frame, after all pictures were read."""
    result = CliRunner().invoke(main, ["train", "tiny/train.toml", "--device", "mps"])
    assert result.exit_code == 4, result.output
    assert "device mps: training takes 64-bit numbers, which Metal lacks" in result.output


def test_a_run_may_begin_with_the_checkpoint_of_another(run, tmp_path):
    assert run("-o", "first").exit_code == 0
    result = run("--initial", tmp_path / "first" / "checkpoint.pt", "-o", "second")
    assert result.exit_code == 0, result.output
    second = torch.load(tmp_path / "second" / "checkpoint.pt", weights_only=True)
    assert [entry["steps"] for entry in second["lineage"]] == [1]

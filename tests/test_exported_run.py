"""Models made of training runs: their weights, their 8-bit form, their cards."""

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

import safetensors.torch
from runs import CPU, LOW_ONLY, TINY, config

from deepisp_cli.cli import main
from deepisp_cli.engine import open_engine
from deepisp_cli.errors import InputError, ModelError
from deepisp_cli.models import WEIGHTS_FILE, find_model
from deepisp_cli.training import export as exporting
from deepisp_cli.training.config import Stage
from deepisp_cli.training.export import export_checkpoint
from deepisp_cli.training.train import train


def test_calibration_does_not_mind_the_crops_of_stages(folder, caplog):
    stages = (Stage(1e-3, 1, 32, steps=1, parts="low"), Stage(1e-3, 1, 200, steps=1, parts="low"))
    exporting._inputs(config(folder, network=LOW_ONLY, stages=stages), [str(folder)])
    assert not caplog.messages


def test_photographs_to_calibrate_on_need_not_be_as_large_as_crops_to_train_on(folder, monkeypatch):
    monkeypatch.setattr(exporting, "CALIBRATION", (1, 2, 64))
    stages = (Stage(1e-3, 1, 1024, steps=1, parts="low"),)
    (picture,), _ = exporting._inputs(config(folder, network=LOW_ONLY, stages=stages), [str(folder)])
    assert picture.shape == (2, 3, 64, 64)


def test_photographs_are_not_reduced_below_what_calibration_takes(folder, monkeypatch):
    monkeypatch.setattr(exporting, "CALIBRATION", (1, 2, 64))
    (picture,), _ = exporting._inputs(config(folder, longest_side=40), [str(folder)])
    assert picture.shape == (2, 3, 64, 64)


def test_calibration_sees_hot_pixels_and_saturated_colours(folder, monkeypatch):
    seen = []
    original = exporting.open_sources

    def remember(settings, generator):
        assert settings.reductions == (1, 2, 3) and generator.initial_seed() == settings.seed
        seen.append(settings.synthesis)
        return original(settings, generator)

    monkeypatch.setattr(exporting, "open_sources", remember)
    stages = (Stage(1e-3, 1, 32, steps=1, parts="low"),)
    exporting._inputs(config(folder, network=LOW_ONLY, stages=stages), [str(folder)])
    (synthesis,) = seen
    assert synthesis.hot_share >= 2e-4 and synthesis.saturated_share >= 0.5


def test_the_commands_train_resume_and_export_a_model_that_loads(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "recipes" / "tiny"
    recipe.mkdir(parents=True)
    (recipe / "train.toml").write_text(
        "panoramas = ['elsewhere']\nshares = [0.5, 0.5, 0.0]\n"  # --photographs stands for all data
        "[network]\nfold = 2\ndilations = [1]\nwidth = 20\nhigh_blocks = 1\n"
        "[[stages]]\nlearning_rate = 1e-3\nbatch = 2\ncrop = 32\nsteps = 5\n"
    )
    run = ["train", str(recipe / "train.toml"), "--photographs", str(folder), "--device", "cpu"]
    result = CliRunner().invoke(main, [*run, "--validation", str(folder), "--steps", "2"])
    assert result.exit_code == 0, result.output
    assert Path("runs/tiny/checkpoint.pt").exists()
    refused = CliRunner().invoke(main, run)
    assert refused.exit_code == 2
    assert "--resume" in refused.output
    assert CliRunner().invoke(main, [*run, "--validation", str(folder), "--resume"]).exit_code == 0
    rows = list(csv.DictReader(Path("runs/tiny/log.csv").read_text().splitlines()))
    assert rows[-1]["step"] == "5"
    assert float(rows[-1]["psnr"]) > 5
    assert list(Path("runs/tiny").glob("sheet-*.jpg"))

    for name in ("model.onnx", "model-int8.onnx", "weights.safetensors"):
        (mine := Path("mine") / name).parent.mkdir(exist_ok=True)
        mine.write_bytes(b"mine")
        refused = CliRunner().invoke(main, ["export", "runs/tiny/checkpoint.pt", "./mine"])
        assert (refused.exit_code, mine.read_bytes()) == (2, b"mine")
        mine.unlink()
    result = CliRunner().invoke(main, ["export", "runs/tiny/checkpoint.pt", "tiny"])
    assert result.exit_code == 0, result.output
    averaged = ["export", "runs/tiny/checkpoint.pt", "twice", "--average", "models/tiny"]
    assert CliRunner().invoke(main, averaged).exit_code == 0
    refused = CliRunner().invoke(main, averaged)
    assert refused.exit_code == 2
    assert "holds a model already" in refused.output
    assert CliRunner().invoke(main, [*averaged, "--overwrite"]).exit_code == 0
    refused = CliRunner().invoke(main, [*averaged, "--average", "runs/none.pt", "--overwrite"])
    assert refused.exit_code == 2
    assert "runs/none.pt" in refused.output
    card = json.loads(Path("models/tiny/card.json").read_text())
    assert card["training"]["steps"] == 5
    digest = hashlib.sha256(Path("runs/tiny/checkpoint.pt").read_bytes()).hexdigest()
    assert card["training"]["lineage"] == [[{"sha256": digest, "steps": 5}]]
    picture = np.random.default_rng(0).random((1, 3, 40, 40)).astype(np.float32)
    outputs = [open_engine(find_model("models/tiny"), name, "cpu").run(picture) for name in ("onnx", "torch")]
    np.testing.assert_allclose(outputs[0][0], outputs[1][0], atol=1e-5)


def test_an_export_can_take_the_mean_of_checkpoints(folder, tmp_path):
    paths = [train(config(folder, seed=seed), tmp_path / str(seed), device=CPU) for seed in (1, 2)]
    first, second = (torch.load(path, weights_only=True)["average"] for path in paths)
    model = find_model(str(export_checkpoint([paths[0], paths[0], paths[1]], tmp_path / "model").parent))
    card = json.loads((model.folder / "card.json").read_text(), parse_constant=pytest.fail)  # NaN is not JSON
    assert card["training"]["log"][0]["psnr"] is None  # without validation
    weights = safetensors.torch.load(model.read(WEIGHTS_FILE))
    for name, value in weights.items():
        torch.testing.assert_close(value, (2 * first[name] + second[name]) / 3)
    with_model = find_model(str(export_checkpoint([paths[1], model.folder], tmp_path / "another").parent))
    lineage = json.loads((with_model.folder / "card.json").read_text())["training"]["lineage"]
    assert lineage[1] == [{"model": "model", "sha256": hashlib.sha256(model.read(WEIGHTS_FILE)).hexdigest()}]
    for name, value in safetensors.torch.load(with_model.read(WEIGHTS_FILE)).items():
        torch.testing.assert_close(value, (second[name] + weights[name]) / 2)
    unmetered = replace(TINY, metered=not TINY.metered)
    stages = (Stage(1e-3, 4, 32, 1, parts="joint"),)
    other = train(config(folder, network=unmetered, stages=stages), tmp_path / "metered", device=CPU)
    with pytest.raises(ModelError, match="another architecture"):
        export_checkpoint([paths[0], other], tmp_path / "model")
    card = with_model.folder / "card.json"
    (with_model.folder / WEIGHTS_FILE).write_bytes(b"no weights")
    digest = hashlib.sha256(b"no weights").hexdigest()
    files = {**with_model.card["files"], WEIGHTS_FILE: digest}
    card.write_text(json.dumps({**with_model.card, "files": files}))
    with pytest.raises(ModelError, match=r"weights\.safetensors: holds no weights"):
        export_checkpoint([paths[0], with_model.folder], tmp_path / "model")
    card = tmp_path / "model" / "card.json"
    card.write_text('{"summary": "by hand",}')
    with pytest.raises(ModelError, match=r"card\.json: is not JSON \(.*\); correct it, or remove it"):
        export_checkpoint(paths, tmp_path / "model")
    assert card.read_text() == '{"summary": "by hand",}'
    for damage in ("[]", '{"training": null}', '{"files": 1}'):
        card.write_text(damage)
        with pytest.raises(ModelError, match=r"card\.json: is no model card"):
            export_checkpoint(paths, tmp_path / "model")


def test_an_export_calibrates_the_8_bit_form_on_photographs(folder, tmp_path):
    network = replace(TINY, dilations=(1, 1, 1, 1))
    checkpoint = train(config(folder, network=network), tmp_path / "run", device=CPU, steps=2)
    model = find_model(str(export_checkpoint([checkpoint], tmp_path / "model", [str(folder)]).parent))
    assert model.has_eight_bit_form
    assert open_engine(model, "onnx-int8", "cpu").name == "onnx-int8"
    assert model.card["parity"]["8 bit against float32, root mean square"] < 5e-3
    assert model.card["parity"]["8 bit against float32, largest difference of W"] < 0.03
    again = find_model(str(export_checkpoint([checkpoint], tmp_path / "model").parent))
    assert not again.has_eight_bit_form
    deep = replace(network, dilations=(1, 16, 16, 1))  # its field of view is larger than these pictures
    checkpoint = train(config(folder, network=deep), tmp_path / "deep", device=CPU, steps=1)
    with pytest.raises(InputError, match="is calibrated on photographs of"):
        export_checkpoint([checkpoint], tmp_path / "deep-model", [str(folder)])


def test_a_network_without_blocks_for_8_bits_is_not_calibrated(folder, tmp_path):
    for count in (3, 4):
        network = replace(LOW_ONLY, dilations=(1,) * count)
        stages = (Stage(1e-3, 1, 32, 1, parts="low"),)
        checkpoint = train(config(folder, network=network, stages=stages), tmp_path / str(count), device=CPU)
        command = ["export", str(checkpoint), str(tmp_path / f"model-{count}"), "--calibrate", str(folder)]
        result = CliRunner().invoke(main, command)
        if count == 4:
            assert result.exit_code == 0, result.output
            assert (tmp_path / "model-4" / "model-int8.onnx").exists()
        else:
            assert result.exit_code == 4
            assert f"{checkpoint}: a network of 3 low-level blocks has no 8-bit form" in result.output
            assert "leave out --calibrate" in result.output
            assert not (tmp_path / "model-3").exists()


@pytest.mark.parametrize("name", ["mine", "./mine", "there/mine"])
def test_an_export_says_how_to_use_the_model(folder, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    checkpoint = train(config(folder), tmp_path / "run", device=CPU, steps=1)
    result = CliRunner().invoke(main, ["export", str(checkpoint), name])
    assert result.exit_code == 0, result.output
    start, model = result.stderr.strip().split(" --model ")
    assert start == "use it with"
    assert find_model(model).card["name"] == "mine"
    assert (tmp_path / result.stdout.strip()).parent.resolve() == Path(model).resolve()


def test_results_stay_with_the_weights_that_they_are_of(folder, tmp_path):
    settings = config(folder)
    checkpoint = train(settings, tmp_path / "run", device=CPU, steps=2)
    path = export_checkpoint([checkpoint], tmp_path / "model")
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "results": [{"psnr": 99}], "summary": "mine"})
    )
    assert json.loads(export_checkpoint([checkpoint], tmp_path / "model").read_text())["results"]
    checkpoint = train(settings, tmp_path / "run", device=CPU, resume=True, steps=4)
    card = json.loads(export_checkpoint([checkpoint], tmp_path / "model").read_text())
    assert (card["results"], card["summary"]) == ([], "mine")


def test_a_card_tells_where_its_weights_come_from(folder, tmp_path):
    settings = config(folder, stages=(Stage(2e-3, 4, 32, steps=2),))
    first = train(settings, tmp_path / "a", device=CPU)
    export_checkpoint([first], tmp_path / "mine")
    second = train(settings, tmp_path / "b", device=CPU, initial=first)
    train(settings, tmp_path / "c", device=CPU, initial=second, steps=1)
    runs = [
        train(settings, tmp_path / "c", device=CPU, resume=True),
        train(settings, tmp_path / "d", device=CPU, initial=tmp_path / "mine"),
    ]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (first, second, *runs)]
    *begun, third, fourth = ({"sha256": digest, "steps": 2} for digest in digests)
    weights_file = hashlib.sha256((tmp_path / "mine/weights.safetensors").read_bytes()).hexdigest()
    card = json.loads(export_checkpoint(runs, tmp_path / "mean").read_text())
    assert card["training"]["lineage"] == [
        [*begun, third],
        [{"model": "mine", "sha256": weights_file}, fourth],
    ]


def test_what_a_person_wrote_into_a_card_is_kept(folder, tmp_path):
    checkpoint = train(config(folder), tmp_path / "run", device=CPU, steps=1)
    path = export_checkpoint([checkpoint], tmp_path / "model")
    card = json.loads(path.read_text())
    card |= {"summary": "For tests.", "contrast": 0.5}
    card["training"]["hardware"] = "one core"
    path.write_text(json.dumps(card))
    again = json.loads(export_checkpoint([checkpoint], tmp_path / "model").read_text())
    assert (again["summary"], again["contrast"]) == ("For tests.", 0.5)
    assert again["training"]["hardware"] == "one core"

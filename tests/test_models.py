"""Model folders are found, verified and listed; and the models that ship."""

import hashlib
import json
import shutil
from fnmatch import fnmatch
from pathlib import Path

import pytest

from deepisp_cli import models
from deepisp_cli.errors import ModelError
from deepisp_cli.models import ONNX_FILE, WEIGHTS_FILE, find_model, list_models


@pytest.fixture
def copy(tiny_model, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_model.folder, folder)
    return folder


def test_a_changed_file_is_refused(copy):
    path = copy / ONNX_FILE
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)
    with pytest.raises(ModelError, match=r"model\.onnx: is not the file"):
        find_model(str(copy)).read(ONNX_FILE)
    assert find_model(str(copy)).read(WEIGHTS_FILE)


def test_the_size_of_a_missing_file_is_not_known(copy):
    model = find_model(str(copy))
    assert model.graph_bytes == (copy / ONNX_FILE).stat().st_size
    (copy / ONNX_FILE).write_bytes(b"damaged")
    assert model.graph_bytes == 7  # a list of models shows it, too
    (copy / ONNX_FILE).unlink()
    with pytest.raises(ModelError, match=r"model\.onnx: cannot be read"):
        assert model.graph_bytes


def test_a_missing_file_is_named(copy):
    (copy / ONNX_FILE).unlink()
    with pytest.raises(ModelError, match=r"model\.onnx: cannot be read"):
        find_model(str(copy)).read(ONNX_FILE)


@pytest.mark.parametrize(
    "card", ["", "[]", "{}", '{"name": "x"}', "[" * 100_000], ids=["empty", "list", "nothing", "name", "deep"]
)
def test_a_card_that_is_none(copy, card):
    (copy / "card.json").write_text(card)
    with pytest.raises(ModelError, match=r"card\.json: is not a model card"):
        find_model(str(copy))


def lacking(card, table, key):
    """The card without one number of a table."""
    return {**card, table: {name: value for name, value in card[table].items() if name != key}}


def saying(card, table, **values):
    """The card with other values in a table."""
    return {**card, table: {**card[table], **values}}


@pytest.mark.parametrize("key", ["fold", "dilations", "width", "high_blocks"])
def test_a_card_without_a_number_that_the_program_needs(tiny_model, copy, key):
    (copy / "card.json").write_text(json.dumps(lacking(tiny_model.card, "architecture", key)))
    with pytest.raises(ModelError, match=rf"card\.json: .*'{key}' is missing.*; update deepisp"):
        find_model(str(copy))


@pytest.mark.parametrize("key", ["parameters", "summary", "results"])
def test_a_card_without_what_the_list_of_models_shows(tiny_model, copy, key):
    card = {name: value for name, value in tiny_model.card.items() if name != key}
    (copy / "card.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match=rf"card\.json: .*'{key}' is missing.*; update deepisp"):
        find_model(str(copy))


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("architecture", {"width": "wide"}),
        ("architecture", {"width": 64.5}),
        ("architecture", {"high_blocks": -1}),
        ("architecture", {"fold": 0}),
        ("architecture", {"dilations": [1, 0]}),
        ("tile", {"cell": 0}),
        ("tile", {"before": -1}),
        ("tile", {"after": 4097}),
        ("architecture", {"width": 10**9}),
        ("tile", {"after": -1}),
        ("tile", {"shape": "round"}),
        ("files", {"model.onnx": 7}),
    ],
    ids=str,
)
def test_a_card_of_values_that_make_no_sense(tiny_model, copy, table, values):
    (copy / "card.json").write_text(json.dumps(saying(tiny_model.card, table, **values)))
    with pytest.raises(ModelError, match=r"card\.json: is not a model card that this version knows"):
        find_model(str(copy))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("parameters", "many"),
        ("results", None),
        ("results", [{"benchmark": "a"}]),
        ("results", [{"benchmark": "a", "values": {"psnr": "high"}}]),
        ("contrast", 1.5),
        ("contrast", -0.1),
        ("contrast", "strong"),
    ],
)
def test_a_card_whose_figures_cannot_be_used(tiny_model, copy, key, value):
    """People write results and the look's contrast into cards."""
    (copy / "card.json").write_text(json.dumps({**tiny_model.card, key: value}))
    with pytest.raises(ModelError, match=r"card\.json: is not a model card"):
        find_model(str(copy))


def test_a_broken_card_hides_no_other_model(copy, monkeypatch, caplog):
    shutil.copytree(copy, copy.parent / "broken")
    (copy.parent / "broken" / "card.json").write_text("{")
    monkeypatch.setattr(models, "_models_folder", lambda: copy.parent)
    assert [model.folder for model in list_models()] == [copy]
    assert "card.json: is not a model card" in caplog.text and caplog.text.rstrip().endswith("left out")
    with pytest.raises(ModelError, match="nothing: no such model; known: copy;"):
        find_model("nothing")
    assert find_model("copy").folder == copy  # by the folder's name, whatever the card's


def test_an_installation_without_models_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "_models_folder", lambda: tmp_path)
    with pytest.raises(ModelError, match=r"^the program's models are not installed; install deepisp again"):
        find_model("deepisp")


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ModelError, match=r"known: deepisp"):
        find_model("deepsleep")
    with pytest.raises(ModelError, match=r"card\.json"):
        find_model("./deepsleep")


@pytest.mark.parametrize("place", ["mine", "models/mine"])
def test_a_folder_that_is_given_as_a_name_is_shown_as_a_path(copy, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "there" / place
    target.parent.mkdir(parents=True)
    copy.rename(target)
    monkeypatch.chdir(tmp_path / "there")
    with pytest.raises(ModelError, match=rf"give a folder as a path \((\./)?{place}\)"):
        find_model("mine")


def test_a_path_is_a_folder_even_if_it_looks_like_a_name(copy, monkeypatch):
    monkeypatch.chdir(copy.parent)
    (copy.parent / "deepisp").mkdir(exist_ok=True)
    assert find_model(Path(copy.name)).folder.resolve() == copy.resolve()
    with pytest.raises(ModelError, match="deepisp"):
        find_model(Path("deepisp"))  # which holds none
    assert find_model("deepisp").name == "deepisp"


def test_a_training_run_is_told_to_be_exported(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"x")
    for given in (tmp_path, tmp_path / "checkpoint.pt"):
        with pytest.raises(ModelError, match="is a training run's, no model; 'deepisp export' makes"):
            find_model(str(given))
    for given in (tmp_path / "typo.pt", tmp_path / "typo" / "checkpoint.pt"):
        with pytest.raises(ModelError, match=r"a model folder holds card\.json"):
            find_model(str(given))


def test_a_name_that_is_too_long_is_no_model():
    with pytest.raises(ModelError, match="no such model"):
        find_model("a" * 5000)
    with pytest.raises(ModelError, match=r"card\.json: cannot be read"):
        find_model("./" + "a" * 300)


def test_here_and_above_are_paths(copy, monkeypatch):
    (copy / "sub").mkdir()
    for folder, name in ((copy, "."), (copy / "sub", ".."), (copy, "sub/..")):
        monkeypatch.chdir(folder)
        assert find_model(name).name == "tiny"


@pytest.mark.parametrize("name", ["./nobody", r"..\nobody", r"C:\models\nobody"])
def test_of_a_path_the_card_is_missed_and_not_the_name(name):
    with pytest.raises(ModelError, match=r"card\.json: cannot be read"):
        find_model(name)


def test_the_default_comes_first():
    assert list_models()[0].name == "deepisp"


@pytest.mark.parametrize("model", list_models(), ids=lambda model: model.name)
def test_models_that_ship_are_whole(model):
    for file, digest in model.card["files"].items():
        assert hashlib.sha256(model.read(file)).hexdigest() == digest
    for key in ("summary", "training", "results", "limitations", "parameters", "licence", "openness"):
        assert model.card[key], key
    assert json.loads((model.folder / "card.json").read_text("utf-8"))["name"] == model.folder.name


@pytest.mark.parametrize("model", list_models(), ids=lambda model: model.name)
def test_the_card_describes_the_network(model):
    pytest.importorskip("torch")
    from deepisp_cli.network import DeepISP, config_from_card

    config = config_from_card(model.card["architecture"])
    assert sum(parameter.numel() for parameter in DeepISP(config).parameters()) == model.card["parameters"]
    needs = model.tile_needs
    assert (needs.cell, needs.before, needs.after) == (config.cell, config.reach + config.lead, config.reach)


@pytest.mark.parametrize("model", list_models(), ids=lambda model: model.name)
def test_the_wheel_carries_every_file_of_a_model(model):
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((model.folder.parents[1] / "pyproject.toml").read_text("utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["deepisp_models"]
    for file in ("card.json", *model.card["files"]):
        assert any(fnmatch(f"{model.folder.name}/{file}", pattern) for pattern in patterns), file

"""The documents agree with the program."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from deepisp_cli import develop_array, open_engine
from deepisp_cli.cli import main
from deepisp_cli.raw import read_raw

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from readme_options import with_options
from write_results import load_reports, written

README = (ROOT / "README.md").read_text("utf-8")


def test_the_option_table_is_the_commands():
    assert with_options(README) == README, "run python tools/readme_options.py"


@pytest.mark.parametrize("name", main.commands)
def test_every_command_is_documented_with_an_example(name):
    command = main.commands[name]
    assert f"deepisp {name}" in (command.help or ""), "its help text starts with an example"
    assert f"deepisp {name}" in README
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert parameter.help, parameter.name


@pytest.mark.parametrize("place", ["*.md", "docs/*.md", "deepisp_cli/**/*.py"])
def test_commands_are_quoted_for_every_shell(place):
    """cmd.exe hands single quotes on as a part of the argument."""
    for path in ROOT.glob(place):
        for line in path.read_text("utf-8").splitlines():
            assert not re.search(r"pip install '|^ +deepisp .* '[^']*[{*]", line), f"{path}: {line}"


def test_documents_and_cards_show_the_results():
    pytest.importorskip("skimage")
    reports = load_reports()
    assert {report["benchmark"] for report in reports} >= {"demosaic", "lowlight"}
    for path, text in written(reports):
        assert path.read_text("utf-8") == text, f"{path}: run python tools/write_results.py"


def test_results_are_of_the_weights_that_ship():
    for report in load_reports():
        for name, files in report["models"].items():
            card = json.loads((ROOT / "models" / name / "card.json").read_text("utf-8"))
            assert card["files"] == files, f"{report['command']}: measure again"


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name
)
def test_links_and_pictures_exist(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", ["README.md", "docs/how-it-works.md"])
def test_what_is_shown_from_python_runs(page, write_raw, grey_ramp, tmp_path, monkeypatch):
    for name in ("night.dng", "card/a.dng", "card/sub/b.dng"):
        write_raw(name, grey_ramp, orientation=6)
    monkeypatch.chdir(tmp_path)
    names = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.DOTALL | re.MULTILINE)
    for block in blocks:
        exec(block, names)
    assert names["pixels"].shape == (64, 48, 3) and names["pixels"].dtype == np.uint8
    if page == "README.md":
        assert [Path(name).is_file() for name in ("night.jpg", "out/a.jpg", "out/sub/b.jpg")] == [True] * 3
        return
    assert names["restored"].shape == names["linear"].shape == (48, 64, 3)
    half = read_raw("half.dng")
    np.testing.assert_array_equal(half.samples, names["raw"].samples // 2)
    np.testing.assert_array_equal(half.black, names["raw"].black / 2)


@pytest.mark.parametrize(("pattern", "level"), [("RGGB", 0.6), ("GBRG", 0.1), ("BGGR", 3.0)])
def test_the_onnx_model_develops_as_shown(pattern, level, write_raw, grey_ramp, tmp_path, monkeypatch):
    """Whatever the mosaic begins with, and whether the meter finds a dark frame or clipped lamps."""
    scene = grey_ramp * [0.9, 1.0, 0.7] / 0.6 * level
    scene[:, :-1] /= max(level, 1) ** 2  # what is below the lamps
    raw = write_raw("night.dng", scene.clip(0, 1), pattern=pattern)
    monkeypatch.chdir(tmp_path)
    names = {}
    page = (ROOT / "docs" / "how-it-works.md").read_text("utf-8")
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        exec(block, names)
    expected = develop_array(raw, open_engine("deepisp", "onnx", "cpu"))
    difference = np.abs(255 * names["developed"] - expected)
    assert difference.max() < 1.01, "at most the dither"


def test_versions_agree():
    import deepisp_cli

    assert f"## {deepisp_cli.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")

"""What is installed, and what people are told to install."""

import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from deepisp_cli.cli import main

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [path.read_text("utf-8") for path in (ROOT / "deepisp_cli").rglob("*.py")]


@pytest.fixture
def project():
    tomllib = pytest.importorskip("tomllib")
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_extras_that_people_are_told_to_install_exist(project):
    """In the checkout: the project is on no index."""
    told = {extra for text in SOURCES for extra in re.findall(r'not_installed\(.*, ["\'](\w+)["\']\)', text)}
    assert told == {"torch", "train", "evaluate", "brisque"}
    assert told <= set(project["project"]["optional-dependencies"])
    assert not [line for text in SOURCES for line in text.splitlines() if "deepisp[" in line]


@pytest.mark.parametrize(
    ("arguments", "library", "extra"),
    [
        (["train", "pyproject.toml"], "torch", "train"),
        (["export", "pyproject.toml", "name"], "onnx", "train"),
        (["evaluate", "demosaic", "."], "skimage", "evaluate"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_missing_library_is_told_with_what_installs_it(monkeypatch, arguments, library, extra):
    monkeypatch.chdir(ROOT)
    monkeypatch.setitem(sys.modules, library, None)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert f"{library} is not installed; in deepisp's checkout: pip install '.[{extra}]'" in result.output

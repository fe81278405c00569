"""What is installed, and what people are told to install."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from deepisp_cli.cli import main
from deepisp_cli.models import list_models

ROOT = Path(__file__).resolve().parents[1]
BUILD = """
import setuptools, sys
setuptools.setup(
    script_args=["-q", "egg_info", "--egg-base", sys.argv[1], "build_py", "--build-lib", sys.argv[2]]
)
"""
GRAFTED = ("benchmarks", "docs", "examples", "tests", "tools")
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
    told = f'{library} is not installed; in deepisp\'s checkout: pip install ".[{extra}]"'
    assert told in result.output


@pytest.mark.parametrize(
    ("arguments", "library"),
    [
        (["train", "pyproject.toml"], "torch"),
        (["train", "pyproject.toml"], "onnx"),
        (["evaluate", "demosaic", "."], "torch"),
        (["evaluate", "demosaic", "."], "skimage"),
    ],
)
def test_a_half_installed_library_is_told(monkeypatch, tmp_path, arguments, library):
    pytest.importorskip("torch")
    (tmp_path / f"{library}.py").write_text("raise OSError('no X.dll')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name == library or name.startswith("pytorch_msssim")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.output) == (
        4,
        f"deepisp: {library} cannot be loaded (no X.dll); install it again\n",
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """What setuptools packs: the sdist's files, the folder that becomes the wheel, and what it said."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("built")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, folder, folder / "wheel"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    packed = set((folder / "deepisp.egg-info" / "SOURCES.txt").read_text("utf-8").splitlines())
    return packed, folder / "wheel", done.stdout + done.stderr


def test_an_unpacked_sdist_is_a_checkout(built):
    """It has what its tests read, and what the wheel that is built of it carries."""
    packed, _, _ = built
    wanted = {"CHANGELOG.md", "LICENSE", "README.md", "constraints.txt", "pyproject.toml"}
    wanted |= {"deepisp_cli/py.typed", "models/__init__.py"}
    for model in list_models():
        wanted |= {f"models/{model.folder.name}/{name}" for name in ("card.json", *model.card["files"])}
    for pattern in ("deepisp_cli/**/*.py", "models/*/*.toml", *(f"{name}/**/*.*" for name in GRAFTED)):
        found = {path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern) if path.is_file()}
        assert found, pattern
        wanted |= {path for path in found if not path.endswith(".pyc")}
    assert wanted <= packed, wanted - packed
    assert not [path for path in packed if path.endswith(".pyc")]


def test_a_wheel_holds_the_package_the_models_and_that_it_has_types(built):
    _, wheel, said = built
    for path in (ROOT / "deepisp_cli").rglob("*.py"):
        assert (wheel / path.relative_to(ROOT)).is_file(), path
    assert (wheel / "deepisp_cli" / "py.typed").is_file()
    for model in list_models():
        for name in ("card.json", *model.card["files"], *(path.name for path in model.folder.glob("*.toml"))):
            assert (wheel / "deepisp_models" / model.folder.name / name).is_file(), name
    assert {path.name for path in wheel.iterdir()} == {"deepisp_cli", "deepisp_models"}
    assert "Package would be ignored" not in said


def test_the_least_onnxruntime_opens_the_graphs_that_ship(project):
    """One before 1.22 gives the nodes that it makes of nameless ones one name, and then refuses two."""
    onnx = pytest.importorskip("onnx")
    [least] = re.findall(r"onnxruntime>=1\.(\d+)", " ".join(project["project"]["dependencies"]))
    files = [model.read(file) for model in list_models() for file in model.card["files"] if ".onnx" in file]
    nodes = [node for contents in files for node in onnx.load_from_string(contents).graph.node]
    assert int(least) >= 22 or all(node.name for node in nodes)

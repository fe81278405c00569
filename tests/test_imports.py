"""Which module may import which, and what may be imported early."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "deepisp_cli"
# From the top down: a module imports only from lines below its own.
LAYERS = [
    ["__main__"],
    ["cli"],
    ["process_command", "show_commands"],
    ["benchmark", "doctor", "cli_options", "talk"],
    ["peak"],
    ["batch"],
    ["plan", "info", "limits"],
    ["inputs"],
    ["naming"],
    ["pipeline"],
    ["resident"],
    ["tiling"],
    ["frame", "options", "reading"],
    ["engine", "output", "white_balance"],
    ["onnx_engine", "torch_engine", "restored", "grain"],
    ["camera_rgb", "dng"],
    ["raw", "exif", "files"],
    ["stated_colour"],
    ["dng_corrections", "lens_warp", "dng_decode", "clipping", "calibration", "developed_matrix", "xtrans"],
    ["dng_levels", "refusals"],
    ["libraw", "dng_opcodes", "resize", "jpeg_headers"],
    ["metadata"],
    ["exif_reader", "exif_corrections"],
    ["dng_tags", "demosaic", "look", "render", "models"],
    ["metering", "fused", "lights"],
    ["colour", "network", "exif_values", "kernels"],
    ["joining"],
    ["errors", "machine", "xmp", "interrupts", "streams", "__init__"],
]
LATE = {"joining", "kernels", "network", "fused", "resident"}  # are themselves imported when an engine opens
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
ONLY_HERE = {
    "rawpy": {"libraw", "developed_matrix"},
    "exifread": {"exif_reader"},
    "click": {"cli", "cli_options", "process_command", "show_commands", "talk"},
    # EXIF: the names of its tags
    "PIL": {
        "output",
        "exif",
        "exif_values",
        "exif_reader",
        "exif_corrections",
        "metadata",
        "lens_warp",
        "resize",
    },
    "onnxruntime": {"onnx_engine"},
    "triton": {"kernels"},
}


def imports_of(path, everywhere=True):
    """Full names of the modules that a file imports; ``everywhere=False``: when it is imported itself."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = ast.walk(tree) if everywhere else tree.body
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == PACKAGE.name:
            names = (alias.name for alias in node.names)  # modules, or what the package itself defines
            yield from (f"{node.module}.{name}" if name in RANK else node.module for name in names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


MODULES = [path for path in sorted(PACKAGE.glob("*.py")) if path.stem != "__init__"]
modules = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)


@modules
def test_imports_go_down(path):
    for name in imports_of(path):
        if name == "deepisp_cli":  # the package itself: its version
            continue
        if name.startswith("deepisp_cli."):
            if path.stem == "cli" and name.endswith(".commands"):  # they import what they need when they run
                continue
            other = name.split(".")[1]
            assert other in RANK, f"the product does not import {other}"
            assert RANK[other] > RANK[path.stem], f"{path.stem} imports {other}"


@modules
def test_libraries_are_imported_where_the_design_says(path):
    for name in imports_of(path):
        library = name.split(".")[0]
        assert path.stem in ONLY_HERE.get(library, {path.stem}), f"{path.stem} imports {library}"


@modules
def test_heavy_libraries_wait_for_the_engine(path):
    if path.stem in LATE:
        return
    for name in imports_of(path, everywhere=False):
        assert name.split(".")[0] not in ("torch", "onnxruntime", "safetensors")


def test_help_imports_almost_nothing():
    code = "import sys; from deepisp_cli import cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    heavy = {"numpy", "torch", "onnxruntime", "rawpy", "PIL", "exifread", "deepisp_cli.models"}
    assert not heavy & set(loaded)


def test_the_library_offers_what_it_lists():
    import deepisp_cli

    assert set(deepisp_cli.__all__) <= set(dir(deepisp_cli))
    for name in deepisp_cli.__all__:
        assert getattr(deepisp_cli, name)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = deepisp_cli.nonsense

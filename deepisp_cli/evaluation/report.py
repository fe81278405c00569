"""A benchmark's results as a table, a JSON file, a Markdown page and a contact sheet."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from deepisp_cli.doctor import installed_version
from deepisp_cli.errors import UsageError
from deepisp_cli.files import output_errors, replace_file
from deepisp_cli.machine import available_cores, processor
from deepisp_cli.training.pictures import middle

FILES = ("results.json", "results.md", "sheet.jpg")
LIBRARIES = (
    *("deepisp", "numpy", "onnxruntime", "rawpy", "torch"),
    *("scikit-image", "pytorch-msssim", "brisque", "colour-demosaicing"),
)
DECIMALS = {"ssim": 3, "ms_ssim": 3}  # in a table; 2 for the others
SHEET_ROWS = 8
SHEET_SIDE = 256  # pixels of a crop on the sheet
HEAD = 18  # pixels for the names above it


def table(results: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Head and rows: settings, name, mean of each metric."""
    keys = list(dict.fromkeys(key for row in results for key in row["mean"]))
    rows = [
        [label(row["settings"]), row["name"], *(number(row["mean"], key) for key in keys)] for row in results
    ]
    order = list(dict.fromkeys(row[0] for row in rows))
    return [["settings", "name", *keys], *sorted(rows, key=lambda row: order.index(row[0]))]


def label(settings: Mapping[str, Any]) -> str:
    """Settings in a few words: ``sigma 10``."""
    return ", ".join(f"{key} {value:g}" if isinstance(value, float | int) else f"{key} {value}"
                     for key, value in settings.items())  # fmt: skip


def number(mean: Mapping[str, float | None], key: str) -> str:
    """A metric's mean as tables show it; "-" where there is none."""
    value = mean.get(key)
    return "-" if value is None else f"{value:.{DECIMALS.get(key, 2)}f}"


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns for a terminal."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """The same as a Markdown table."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(
    benchmark: str,
    data: str,
    command: str,
    seeds: str,
    results: Sequence[Mapping[str, Any]],
    left_out: Sequence[Mapping[str, str]],
    models: Mapping[str, Mapping[str, str]],
    engines: Mapping[str, str],
    programs: Mapping[str, str],
) -> dict[str, Any]:
    """The contents of ``results.json``: results, the pictures left out and why, the name of the data, the
    command that printed them, seeds, versions of libraries and other ``programs``, the SHA-256 of each
    model's files, its engine and device, and the processor."""
    libraries = {name: installed_version(name) for name in LIBRARIES}
    return {
        "benchmark": benchmark,
        "data": data,
        "command": command,
        "seeds": seeds,
        "versions": {**{name: version for name, version in libraries.items() if version}, **programs},
        "models": models,
        "engines": engines,
        "processor": f"{available_cores()} cores, {processor()}",
        "results": results,
        "left_out": left_out,
    }


def refuse_to_overwrite(folder: Path) -> None:
    """Raise a UsageError if the folder holds a report already."""
    for name in FILES:
        if (folder / name).exists():
            raise UsageError(f"{folder / name} exists; give another folder or --overwrite")


def write_report(folder: Path, contents: Mapping[str, Any], strips: Sequence[np.ndarray]) -> None:
    """Write `FILES` into ``folder``, the sheet from rows that `sheet_row` made."""
    text = json.dumps(contents, indent=1, ensure_ascii=False, allow_nan=False)
    replace_file(folder / "results.json", f"{text}\n".encode())
    replace_file(folder / "results.md", f"{as_markdown(table(contents['results']))}\n".encode())
    with output_errors(folder / "sheet.jpg"):
        Image.fromarray(np.concatenate(strips)).save(folder / "sheet.jpg", quality=92)


def sheet_row(pictures: Mapping[str, np.ndarray], first: bool) -> np.ndarray:
    """The middle (256, 256, 3) uint8 of each picture side by side, their names above the ``first`` row."""
    row = np.concatenate([_middle(picture) for picture in pictures.values()], 1)
    if not first:
        return row
    head = Image.new("RGB", (row.shape[1], HEAD))
    draw = ImageDraw.Draw(head)
    for index, name in enumerate(pictures):
        draw.text((index * SHEET_SIDE + 4, 3), name, fill="white")
    return np.concatenate([np.asarray(head), row])


def _middle(picture: np.ndarray) -> np.ndarray:
    """The middle (256, 256, 3), black where the picture is smaller."""
    crop = middle(picture, SHEET_SIDE, SHEET_SIDE)
    return np.pad(crop, [(0, SHEET_SIDE - side) for side in crop.shape[:2]] + [(0, 0)])

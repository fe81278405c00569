"""Run a benchmark: every method on every case, means, tables, pictures (``deepisp evaluate``)."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deepisp_cli.doctor import installed_version
from deepisp_cli.errors import InputError
from deepisp_cli.evaluation.benchmarks import Benchmark, Method
from deepisp_cli.training.pictures import PHOTOGRAPH_SUFFIXES, list_files, load_photograph

LIBRARIES = ("deepisp", "numpy", "onnxruntime", "rawpy", "scikit-image", "torch", "colour-demosaicing")
SHEET_ROWS = 8
SHEET_SIDE = 256  # pixels of a crop on the sheet


def find_photographs(folder: Path, limit: int | None = None) -> list[Path]:
    """The pictures in ``folder``, or ``limit`` of them spread evenly; each is opened once.

    Raises
    ------
    InputError
        If there is none, or one cannot be read: before any long work starts.
    """
    files = list_files([folder], PHOTOGRAPH_SUFFIXES)
    if not files:
        raise InputError(f"{folder}: holds no photographs ({', '.join(PHOTOGRAPH_SUFFIXES)})")
    if limit and limit < len(files):
        files = [files[index * len(files) // limit] for index in range(limit)]
    for path in files:
        load_photograph(path)
    return files


def evaluate(
    benchmark: Benchmark,
    photographs: Sequence[Path],
    methods: Mapping[str, Method],
    progress: Callable[[str], None] = lambda name: None,
    sheet: Path | None = None,
) -> list[dict[str, Any]]:
    """Measure each method on each case.

    Parameters
    ----------
    progress : called with each photograph's name.
    sheet : a JPEG to write: the middle of the first pictures by each method, and the photograph.

    Returns
    -------
    For each method and setting ``{"name", "setting", "mean": {metric: value}, "images": [{"name", metric:
    value, ...}]}``.
    """
    results: dict[tuple[str, str], list[dict[str, Any]]] = {}
    rows: list[np.ndarray] = []
    for case in benchmark.cases(photographs):
        progress(case.name)
        pictures = {name: method(case.input) for name, method in methods.items()}
        for name, picture in pictures.items():
            measured = {key: metric(picture, case.truth) for key, metric in benchmark.metrics.items()}
            results.setdefault((name, case.setting), []).append({"name": case.name, **measured})
        if sheet and len(rows) < SHEET_ROWS:
            rows.append(np.concatenate([_middle(p) for p in (*pictures.values(), case.truth)], 1))
    if sheet:
        Image.fromarray(np.concatenate(rows)).save(sheet, quality=92)
    return [
        {"name": name, "setting": setting, "mean": _means(images), "images": images}
        for (name, setting), images in results.items()
    ]


def _middle(picture: np.ndarray) -> np.ndarray:
    """The middle (256, 256, 3), black where the picture is smaller."""
    top, left = (max(0, (side - SHEET_SIDE) // 2) for side in picture.shape[:2])
    crop = picture[top : top + SHEET_SIDE, left : left + SHEET_SIDE]
    return np.pad(crop, [(0, SHEET_SIDE - side) for side in crop.shape[:2]] + [(0, 0)])


def _means(images: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    keys = [key for key in images[0] if key != "name"]
    return {key: float(np.mean([image[key] for image in images])) for key in keys}


def table(results: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Head and rows: setting, name, mean of each metric."""
    keys = list(results[0]["mean"])
    head = ["setting", "name", *keys]
    settings = dict.fromkeys(row["setting"] for row in results)
    return [head] + [
        [setting, row["name"], *(f"{row['mean'][key]:.{3 if key == 'ssim' else 2}f}" for key in keys)]
        for setting in settings
        for row in results
        if row["setting"] == setting
    ]


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns for a terminal."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """The same as a Markdown table."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(
    benchmark: str, results: Sequence[Mapping[str, Any]], models: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """What ``results.json`` holds: results, versions and the SHA-256 of each model's files."""
    return {
        "benchmark": benchmark,
        "versions": {name: version for name in LIBRARIES if (version := installed_version(name))},
        "models": models,
        "results": results,
    }


def write_report(folder: Path, contents: Mapping[str, Any]) -> None:
    """Write ``results.json`` and ``results.md`` into ``folder``."""
    text = json.dumps(contents, indent=1, ensure_ascii=False)
    (folder / "results.json").write_text(text + "\n", "utf-8")
    (folder / "results.md").write_text(as_markdown(table(contents["results"])) + "\n", "utf-8")

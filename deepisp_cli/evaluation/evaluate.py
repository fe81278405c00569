"""Run a benchmark: every method on every case (``deepisp evaluate``)."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deepisp_cli.errors import UsageError
from deepisp_cli.evaluation import model_file
from deepisp_cli.evaluation.baselines import check_installed
from deepisp_cli.evaluation.benchmarks import Benchmark, Case, Method, Settings
from deepisp_cli.evaluation.msr import Msr
from deepisp_cli.evaluation.photographs import Demosaic, LowLight
from deepisp_cli.evaluation.report import SHEET_ROWS, label, sheet_row
from deepisp_cli.evaluation.scenes import S7, Pairs, Raws

BENCHMARKS: Mapping[str, type[Benchmark]] = {
    kind.name: kind for kind in (Demosaic, LowLight, Msr, S7, Pairs, Raws)
}


def open_benchmark(name: str, data: Path, settings: Settings) -> Benchmark:
    """A benchmark by name, its data found and checked.

    Raises
    ------
    UsageError
        If there is none by that name.
    InputError
        If the data is missing or broken.
    """
    if name not in BENCHMARKS:
        raise UsageError(f"unknown benchmark {name!r}; known: {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name](data, settings)


def choose_baselines(
    benchmark: Benchmark, names: Sequence[str]
) -> tuple[dict[str, Method | None], dict[str, Mapping[str, str]]]:
    """The methods with these names, or the benchmark's usual one, and the SHA-256 of those that are files.

    Raises
    ------
    UsageError
        If a name is unknown, two are the same or a program is not installed.
    InputError
        If the data for one is missing.
    ModelError
        If a file cannot be opened as a network.
    """
    methods: dict[str, Method | None] = {}
    files = {}
    for name in dict.fromkeys(names) or (benchmark.usual_baseline,):
        is_file = Path(name).suffix in model_file.SUFFIXES
        shown = Path(name).stem if is_file else name
        if shown in methods:
            raise UsageError(f"{name}: another baseline is called {shown}, too; rename one")
        if is_file:
            engine = model_file.FileEngine(Path(name))
            methods[shown] = benchmark.method(engine)
            files[shown] = engine.model.card["files"]
        elif name in benchmark.own_baselines:
            benchmark.check_baseline(name)
            methods[name] = None
        elif name in benchmark.baselines:
            methods[name] = benchmark.baselines[name]
        else:
            known = ", ".join((*benchmark.own_baselines, *benchmark.baselines))
            raise UsageError(f"unknown baseline {name!r} of {benchmark.name}; known: {known}, or a file")
    check_installed(list(methods))
    return methods, files


@dataclass
class _Row:
    """One method on the cases of one setting."""

    name: str
    settings: Mapping[str, Any]
    images: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    pixels: int = 0

    def result(self) -> dict[str, Any]:
        keys = [key for key in self.images[0] if key != "name"]
        return {
            "name": self.name,
            "settings": self.settings,
            "mean": {key: _mean([image[key] for image in self.images]) for key in keys},
            "seconds_per_megapixel": _rounded(self.seconds / self.pixels * 1e6),
            "images": self.images,
        }


def evaluate(
    benchmark: Benchmark,
    methods: Mapping[str, Method | None],
    progress: Callable[[str], None] = lambda name: None,
    strips: list[np.ndarray] | None = None,
) -> list[dict[str, Any]]:
    """Measure each method on each case.

    Parameters
    ----------
    methods : by name; None for a baseline that comes with the cases.
    progress : called with each case's name.
    strips : is given the rows of a contact sheet: the middle of the first pictures as they go in, by each
        method, and the truth.

    Returns
    -------
    For each method and setting ``{"name", "settings", "mean": {metric: value}, "seconds_per_megapixel",
    "images": [{"name", metric: value, ...}]}``; published results, if any, at the end. None stands for
    missing values.
    """
    rows: dict[tuple[str, str], _Row] = {}
    for case in benchmark.cases():
        progress(case.name)
        shown = strips is not None and len(strips) < SHEET_ROWS
        pictures = {"input": benchmark.show_input(case)} if shown else {}
        for name, method in methods.items():
            row = rows.setdefault((name, label(case.settings)), _Row(name, case.settings))
            picture = _measure(benchmark, case, method or case.baselines[name], row)
            if shown:
                pictures[name] = benchmark.show(picture)
        if strips is not None and shown:
            pictures["truth"] = None if case.truth is None else benchmark.show(case.truth)
            there = {name: picture for name, picture in pictures.items() if picture is not None}
            strips.append(sheet_row(there, first=not strips))
    return [*(row.result() for row in rows.values()), *benchmark.references()]


def _measure(benchmark: Benchmark, case: Case, method: Method, row: _Row) -> np.ndarray:
    started = time.perf_counter()
    picture = method(case.input)
    row.seconds += time.perf_counter() - started
    row.pixels += picture.shape[0] * picture.shape[1]
    values = benchmark.measure(picture, case)
    row.images.append({"name": case.name, **{key: _rounded(value) for key, value in values.items()}})
    return picture


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _rounded(float(np.mean(known))) if known else None


def _rounded(value: float) -> float | None:
    """To four decimals; None for NaN, which JSON lacks."""
    return None if math.isnan(value) else round(value, 4)

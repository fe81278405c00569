"""Run a benchmark: every method on every case (``deepisp evaluate``)."""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deepisp_cli.engine import Engine, open_engine
from deepisp_cli.errors import DeepIspError, UsageError
from deepisp_cli.evaluation import model_file
from deepisp_cli.evaluation.baselines import check_installed
from deepisp_cli.evaluation.benchmarks import Benchmark, Case, Method, Settings
from deepisp_cli.evaluation.msr import Msr
from deepisp_cli.evaluation.photographs import Demosaic, LowLight
from deepisp_cli.evaluation.report import SHEET_ROWS, label, sheet_row
from deepisp_cli.evaluation.scenes import S7, Pairs, Raws
from deepisp_cli.models import find_model

BENCHMARKS: Mapping[str, type[Benchmark]] = {
    kind.name: kind for kind in (Demosaic, LowLight, Msr, S7, Pairs, Raws)
}


def open_benchmark(name: str, data: Path, settings: Settings) -> Benchmark:
    """A benchmark by name, its data found and checked.

    Raises
    ------
    UsageError
        If what it measures with is not installed.
    InputError
        If the data is missing or broken.
    """
    return BENCHMARKS[name](data, settings)


def choose_baselines(
    benchmark: Benchmark, names: Sequence[str]
) -> tuple[dict[str, Method], dict[str, Mapping[str, str]]]:
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
    methods: dict[str, Method] = {}
    files = {}
    for name in dict.fromkeys(names) or (benchmark.usual_baseline,):
        is_file = Path(name).suffix in model_file.SUFFIXES
        shown = Path(name).stem if is_file else name
        if shown in methods or (is_file and shown in benchmark.baselines):
            raise UsageError(f"{name}: another baseline is called {shown}, too; rename one")
        if is_file:
            engine = model_file.FileEngine(Path(name))
            methods[shown] = benchmark.method(engine)
            files[shown] = engine.model.card["files"]
        elif name in benchmark.baselines:
            benchmark.check_baseline(name)
            methods[name] = benchmark.baselines[name]
        else:
            known = ", ".join(benchmark.baselines)
            raise UsageError(f"unknown baseline {name!r} of {benchmark.name}; known: {known}, or a file")
    check_installed(list(methods))
    return methods, files


def open_models(
    names: Sequence[str], engine: str, device: str, baselines: Collection[str]
) -> dict[str, Engine]:
    """Models by the names that tables show: their own, or what the user wrote where two share one.

    Parameters
    ----------
    names : of models, or their folders.
    engine, device : as `open_engine` takes them.
    baselines : names that are taken already.

    Raises
    ------
    UsageError
        If two are called the same.
    ModelError, EngineError
        If a model is unknown or damaged, or cannot run on the device.
    """
    engines: dict[str, Engine] = {}
    for name in dict.fromkeys(names):
        opened = open_engine(find_model(name), engine, device)
        taken = (*baselines, *engines)
        shown = name if opened.model.name in taken else opened.model.name
        if shown in taken:
            raise UsageError(
                f"{name}: another model or baseline is called {shown}, too; rename the baseline's file,"
                " or give the model as a folder"
            )
        engines[shown] = opened
    return engines


@dataclass(frozen=True)
class _Measured:
    """What one method did with one case."""

    picture: np.ndarray
    seconds: float
    values: Mapping[str, float]


@dataclass
class _Row:
    """One method on the cases of one setting."""

    name: str
    settings: Mapping[str, Any]
    images: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    pixels: int = 0

    def add(self, case: str, measured: _Measured) -> None:
        values = {key: _rounded(value) for key, value in measured.values.items()}
        self.images.append({"name": case, **values})
        self.seconds += measured.seconds
        self.pixels += measured.picture.shape[0] * measured.picture.shape[1]

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
    methods: Mapping[str, Method],
    progress: Callable[[str], None] = lambda name: None,
    strips: list[np.ndarray] | None = None,
    failed: Callable[[Case, str, DeepIspError], None] | None = None,
) -> list[dict[str, Any]]:
    """Measure each method on each case.

    Parameters
    ----------
    benchmark : from `open_benchmark`.
    methods : by name.
    progress : called with each case's name.
    strips : is given the rows of a contact sheet: the middle of the first pictures as they go in, by each
        method, and the truth.
    failed : called with a case, a method's name and its error if that method fails on that case, which is
        then left out for all of them: means over different pictures cannot be compared. None: the error is
        raised.

    Returns
    -------
    For each method and setting ``{"name", "settings", "mean": {metric: value}, "seconds_per_megapixel",
    "images": [{"name", metric: value, ...}]}``; published results, if any, at the end. None stands for
    missing values.

    Raises
    ------
    UsageError
        If a method needs what is not installed, or returns something else than the benchmark measures.
    DeepIspError
        If one fails, unless ``failed`` is given.
    """
    rows: dict[tuple[str, str], _Row] = {}
    for case in benchmark.cases():
        progress(case.name)
        of_case: dict[str, _Measured] = {}
        for name, method in methods.items():
            try:
                of_case[name] = _measure(benchmark, case, method)
            except UsageError:
                raise
            except DeepIspError as error:
                if failed is None:
                    raise
                failed(case, name, error)
                break
        else:
            for name, measured in of_case.items():
                row = rows.setdefault((name, label(case.settings)), _Row(name, case.settings))
                row.add(case.name, measured)
            if strips is not None and len(strips) < SHEET_ROWS:
                strips.append(_strip(benchmark, case, of_case, first=not strips))
    return [*(row.result() for row in rows.values()), *benchmark.references()]


def _measure(benchmark: Benchmark, case: Case, method: Method) -> _Measured:
    started = time.perf_counter()
    picture = method(case.input)
    return _Measured(picture, time.perf_counter() - started, benchmark.measure(picture, case))


def _strip(benchmark: Benchmark, case: Case, measured: Mapping[str, _Measured], first: bool) -> np.ndarray:
    """The case's row of the contact sheet."""
    truth = None if case.truth is None else benchmark.show(case.truth)
    made = {name: benchmark.show(of_method.picture) for name, of_method in measured.items()}
    pictures = {"input": benchmark.show_input(case), **made, "truth": truth}
    return sheet_row({name: picture for name, picture in pictures.items() if picture is not None}, first)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _rounded(float(np.mean(known))) if known else None


def _rounded(value: float) -> float | None:
    """To four decimals; None for NaN, which JSON lacks."""
    return None if math.isnan(value) else round(value, 4)

"""Benchmarks on real raw files: ``s7`` and ``pairs`` with reference pictures, ``raws`` without."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

from deepisp_cli.engine import Engine
from deepisp_cli.errors import EngineError, InputError, UsageError, not_installed
from deepisp_cli.evaluation import metrics
from deepisp_cli.evaluation.alignment import align
from deepisp_cli.evaluation.baselines import RAW_BASELINES, developed, plain
from deepisp_cli.evaluation.benchmarks import Benchmark, Case, Method, Settings, check_picture
from deepisp_cli.raw import read_raw
from deepisp_cli.training.pictures import load_photograph, spread
from deepisp_cli.training.raw_pairs import LARGEST_BORDER, find_raws, pictures_beside, well_lit


class Raws(Benchmark):
    """Raw files as cameras wrote them, without a reference: BRISQUE alone."""

    name = "raws"
    baselines = RAW_BASELINES
    usual_baseline = "libraw"

    def __init__(self, data: Path, settings: Settings) -> None:
        super().__init__(data, settings)
        self.scenes = spread(self._find(), settings.limit)
        for raw, reference in self.scenes:
            size = _raw_size(raw)
            if reference is not None:
                _check_sizes(raw, size, reference)
        self.brisque = find_spec("brisque") is not None
        if not self.brisque and self.metrics:
            self.remarks.append(f"no BRISQUE: {not_installed('brisque', 'brisque')}")
        elif not self.brisque:
            raise UsageError(not_installed("brisque", "brisque"))

    def _find(self) -> list[tuple[Path, Path | None]]:
        """Raws and their references."""
        return [(raw, None) for raw in _raws_of(self.data)]

    def cases(self) -> Iterator[Case]:
        for raw, reference in self.scenes:
            truth = None if reference is None else np.asarray(load_photograph(reference))
            yield Case(raw.relative_to(self.data).as_posix(), {}, raw, truth)

    def method(self, engine: Engine) -> Method:
        return developed(engine, self.settings.contrast)

    def measure(self, picture: np.ndarray, case: Case) -> dict[str, float]:
        check_picture(picture)
        values = {}
        if case.truth is not None:
            if not _alike(picture.shape, case.truth.shape):
                raise EngineError(
                    f"{case.input}: the picture that was made is {_shown(picture.shape)}, the reference"
                    f" {_shown(case.truth.shape)} pixels; is it upright and whole?"
                )
            values = self.compare(*align(picture, case.truth))
        return {**values, "brisque": metrics.brisque(picture)} if self.brisque else values

    def show_input(self, case: Case) -> np.ndarray:
        return plain(case.input)


class Pairs(Raws):
    """Raw files, each beside a reference picture of the same scene and name."""

    name = "pairs"
    metrics = metrics.FULL_REFERENCE

    def _find(self) -> list[tuple[Path, Path | None]]:
        raws = _raws_of(self.data)
        pictures = pictures_beside(raws)
        named = [(raw, pictures[raw.parent].get(raw.stem)) for raw in raws]
        return [(raw, _there(picture, raw, f"{raw.stem}.jpg")) for raw, picture in named]


class S7(Pairs):
    """The S7-ISP dataset of the paper: in each scene's folder a raw at a quarter of the exposure
    (short_exposure.dng), the well-lit picture (medium_exposure.jpg), and for the baseline "phone" the phone's
    own picture of the short exposure (short_exposure.jpg)."""

    name = "s7"
    baselines: ClassVar[Mapping[str, Method]] = {
        "phone": lambda raw: np.asarray(load_photograph(_phones_own(raw))),
        **RAW_BASELINES,
    }
    usual_baseline = "phone"

    def _find(self) -> list[tuple[Path, Path | None]]:
        shorts = [raw for raw in _raws_of(self.data) if raw.stem.startswith("short_exposure")]
        if not shorts:
            raise InputError(f"{self.data}: holds no SCENE/short_exposure.dng; give the folder of the scenes")
        pictures = pictures_beside(shorts)
        lit = [(raw, well_lit(pictures[raw.parent])) for raw in shorts]
        return [(raw, _there(picture, raw, "medium_exposure.jpg")) for raw, picture in lit]

    def check_baseline(self, name: str) -> None:
        if name == "phone":
            for raw, _ in self.scenes:
                _phones_own(raw)


def _phones_own(raw: Path) -> Path:
    picture = pictures_beside([raw])[raw.parent].get(raw.stem)
    if picture is None:
        raise InputError(
            f"{raw}: there is no picture {raw.stem}.jpg beside it, the phone's own; add it, or choose"
            " another baseline such as --baseline libraw"
        )
    return picture


def _raws_of(folder: Path) -> list[Path]:
    raws = find_raws(folder)
    if not raws:
        raise InputError(f"{folder}: holds no raw files; give another folder")
    return raws


def _there(picture: Path | None, raw: Path, wanted: str) -> Path:
    if picture is None:
        raise InputError(
            f"{raw}: there is no picture {wanted} beside it that is not of deepisp itself; add the reference"
        )
    return picture


def _raw_size(path: Path) -> tuple[int, int]:
    """Height and width of the upright picture.

    Raises
    ------
    InputError
        If the program would not develop the file.
    """
    raw = read_raw(path)
    return raw.size if raw.orientation < 5 else raw.size[::-1]


def _check_sizes(raw: Path, size: tuple[int, int], reference: Path) -> None:
    shape = np.asarray(load_photograph(reference)).shape
    if not _alike(size, shape):
        raise InputError(
            f"{reference}: is not the size of {raw.name} ({_shown(size)} and {_shown(shape)} pixels)"
        )


def _alike(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two pictures (height, width, ...) differ by no more than what cameras and programs trim."""
    return all(abs(a - b) <= 2 * LARGEST_BORDER for a, b in zip(one[:2], other[:2], strict=True))


def _shown(size: Sequence[int]) -> str:
    return f"{size[1]}x{size[0]}"

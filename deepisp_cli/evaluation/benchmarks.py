"""What makes up a benchmark: cases, methods that work on a case's input, and metrics of their pictures."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from deepisp_cli.engine import Engine
from deepisp_cli.errors import UsageError
from deepisp_cli.evaluation import CFAS, PROTOCOLS

Method = Callable[[Any], np.ndarray]  # a case's input to a picture (H, W, 3)
Metric = Callable[[np.ndarray, np.ndarray], float]  # compares a picture with the truth


@dataclass(frozen=True)
class Settings:
    """What a user can choose for a benchmark."""

    sigmas: Sequence[float] = (0, 5, 10, 15, 20)  # noise for "demosaic", of 255
    limit: int | None = None  # pictures taken, spread evenly; None: all
    protocol: str = PROTOCOLS[0]  # for "msr"
    cfa: str = CFAS[0]  # for "lowlight"
    contrast: float | None = None  # of the pictures that models make of raws; None: the models' own


@dataclass(frozen=True)
class Case:
    """One picture to make."""

    name: str  # the file's
    settings: Mapping[str, Any]  # cases with the same settings are averaged
    input: Any  # what the benchmark's methods take
    truth: np.ndarray | None  # (H, W, 3); None where there is none


class Benchmark(ABC):
    """One protocol on one folder of data.

    Creating one finds the data and checks each file, so that anything missing or broken is an error before
    any long work starts.

    Raises
    ------
    InputError
        Naming the file and what is wrong with it.
    """

    name: ClassVar[str]
    metrics: ClassVar[Mapping[str, Metric]] = {}
    baselines: ClassVar[Mapping[str, Method]]
    usual_baseline: ClassVar[str]  # the one that is measured if none is asked for
    usual_model: ClassVar[str] = "deepisp"  # likewise
    seeds: ClassVar[str] = "none: nothing is random"

    def __init__(self, data: Path, settings: Settings) -> None:
        self.data, self.settings = data, settings
        self.remarks: list[str] = []  # for people, printed once

    @abstractmethod
    def cases(self) -> Iterator[Case]:
        """The cases, one by one."""

    @abstractmethod
    def method(self, engine: Engine) -> Method:
        """What a model does with a case's input."""

    def check_baseline(self, name: str) -> None:  # noqa: B027  most need none
        """Raise `InputError` if data that a baseline needs is missing."""

    def references(self) -> Sequence[dict[str, Any]]:
        """Published results to print beside ours: name, settings, mean and source."""
        return []

    @abstractmethod
    def measure(self, picture: np.ndarray, case: Case) -> dict[str, float]:
        """The metrics of a method's picture."""

    def compare(self, picture: np.ndarray, truth: np.ndarray) -> dict[str, float]:
        """Those of ``metrics`` for two pictures of one size."""
        return {key: metric(picture, truth) for key, metric in self.metrics.items()}

    def show(self, picture: np.ndarray) -> np.ndarray:
        """A picture as (H, W, 3) uint8 sRGB, for the contact sheet."""
        return picture

    def show_input(self, case: Case) -> np.ndarray | None:
        """The case's input as (H, W, 3) uint8 for the contact sheet; None: not shown."""
        return None


def check_picture(picture: np.ndarray) -> None:
    """Refuse what is no finished picture, (H, W, 3) uint8: metrics of it would be wrong without a word.

    Raises
    ------
    UsageError
        If it is none.
    """
    if not isinstance(picture, np.ndarray):
        raise UsageError(f"finished pictures are arrays, a method returned {type(picture).__name__}")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        returned = f"{picture.dtype} of shape {picture.shape}"
        raise UsageError(f"finished pictures are uint8 of shape (H, W, 3), a method returned {returned}")


def eight_bit(image: np.ndarray) -> np.ndarray:
    """Floating-point values, 1.0 being white, as uint8."""
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)

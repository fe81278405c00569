"""What an engine is, and which one opens: ONNX Runtime or torch, on which device.

The heavy libraries are imported when an engine opens. A device asked for by name either runs or is an error.
"""

import ctypes
import os
import platform
import re
import sys
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from deepisp_cli import ENGINES
from deepisp_cli.errors import EngineError, ModelError, UsageError
from deepisp_cli.models import Model, find_model
from deepisp_cli.onnx_engine import OnnxEngine
from deepisp_cli.torch_engine import TorchEngine

PLACES = (  # engines and the devices they can run on
    ("onnx", "cpu"),
    ("onnx-int8", "cpu"),
    ("onnx", "cuda"),
    ("torch", "cpu"),
    ("torch", "cuda"),
    ("torch", "mps"),
)
EIGHT_BIT_EXTENSIONS = {"AVX2", "X86_V3"}  # have 8-bit products; NumPy's names, old and new


class Engine(Protocol):
    """What `tiling.run_tiled` and the pipeline need from an engine.

    Attributes
    ----------
    name : str
        One of `ENGINES`, never "auto".
    device : str
        "cpu", "cuda:0", "mps".
    model : Model
        Whose network it runs.
    resident : bool
        Whether `resident.finish_on_device` develops whole frames on the device.
    workers : int
        How many threads should call `run` at a time.
    continues : bool
        Whether it is a `ContinuingEngine`, which continues where the tile above ended.
    lanes : int
        Pictures at a time that keep the device busy, each in its own thread and `lane`.
    """

    name: str
    device: str
    model: Model
    resident: bool
    workers: int
    continues: bool
    lanes: int

    def tile(self, pixels: int) -> int:
        """Side in pixels of the largest tiles that suit the device beside a frame of ``pixels``; for an
        engine that continues, their width."""

    def lane(self) -> AbstractContextManager[Any]:
        """The context in which a thread develops pictures."""

    def run(self, tile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run the network on one tile with its halo.

        Parameters
        ----------
        tile : (1, 3, H, W) float32, encoded camera RGB; H and W are a multiple of the model's cell plus the
            halo of its `TileNeeds`.

        Returns
        -------
        image : (1, 3, h, w) float32, the restored core.
        coefficients : (1, 30, h / cell, w / cell) float32; no cells for a model without a transform.

        Raises
        ------
        MemoryError
            If the tile is too large for the device.
        EngineError
            If the engine fails otherwise.
        """


class ContinuingEngine(Engine, Protocol):
    """An engine whose tiles continue where the ones above ended."""

    def run_below(self, tile: np.ndarray, above: Any | None) -> tuple[np.ndarray, np.ndarray, Any]:
        """`run` on a tile directly below another one of the same columns.

        Parameters
        ----------
        tile : begins below the other tile's halo, without a halo above; with one if there is no other tile.
        above : ``below`` as returned for the other tile; None if there is none.

        Returns
        -------
        image, coefficients : as `run` does.
        below : what the layers have to see again for the next tile below.
        """


class ResidentEngine(Engine, Protocol):
    """An engine whose ``resident`` is true: what `resident.finish_on_device` needs from it."""

    def run_on_device(self, tile: Any) -> tuple[Any, Any]:
        """`run` for a tensor on the device; returns tensors there."""

    def errors(self) -> AbstractContextManager[None]:
        """Turns the library's errors into MemoryError and EngineError."""

    def synchronise(self) -> None:
        """Wait until the device has finished this thread's work."""


def open_engine(model: Model | str | os.PathLike[str], engine: str = "auto", device: str = "auto") -> Engine:
    """Open the engine and device asked for, or with "auto" the fastest that works.

    Parameters
    ----------
    model : from `find_model`, or what that takes: the name of a model that ships with the program
        ("deepisp"), or its folder as a path ("runs/mine", "./mine").
    engine : "auto", "onnx", "onnx-int8" (faster, for models that have an 8-bit form) or "torch".
    device : "auto", "cpu", "cuda", "cuda:N" or "mps".

    Returns
    -------
    An `Engine` for `develop`, `develop_many` and `tiling.run_tiled`; it can be used any number of times.

    Raises
    ------
    ModelError
        If there is no such model, or it is damaged.
    EngineError
        If what was named is not available. Only "auto" falls back.
    UsageError
        If ``model`` is something else.
    """
    model = model if isinstance(model, Model) else find_model(model)
    if engine not in ENGINES:
        raise EngineError(f"unknown engine {engine!r}; known: {', '.join(ENGINES)}")
    _check_device_name(device)
    failures: list[str] = []
    for kind, place in _candidates(model, engine, device):
        try:
            return _open(model, kind, place)
        except ModelError as error:
            if not failures:
                raise  # damage should be told, not be passed over by a slower engine
            failures.append(str(error))
        except EngineError as error:
            failures.append(str(error))
        except MemoryError:
            elsewhere = "" if place == "cpu" else " that use it, or use --device cpu"
            failures.append(f"device {place}: not enough memory; close other programs{elsewhere}")
    raise EngineError("; ".join(dict.fromkeys(failures)))


def as_engine(engine: Engine | Model | str | os.PathLike[str]) -> Engine:
    """``engine`` itself, or one opened for a model or for the name of one.

    Raises
    ------
    DeepIspError
        As `open_engine` does; `UsageError` if it is none of these.
    """
    if isinstance(engine, Model | str | os.PathLike):
        return open_engine(engine)
    if not (hasattr(engine, "run") and hasattr(engine, "tile")):
        raise UsageError(f'{engine!r} is not an engine; give open_engine("deepisp"), or the name of a model')
    return engine


def _open(model: Model, kind: str, device: str) -> Engine:
    opened = (
        TorchEngine(model, device)
        if kind == "torch"
        else OnnxEngine(model, device, eight_bit=kind == "onnx-int8")
    )
    if opened.device != "cpu":  # a GPU may be there but full, or too old for the library
        needs = model.tile_needs
        opened.run(np.zeros((1, 3, *[needs.cell + needs.halo] * 2), np.float32))
    return opened


def open_engines(model: Model, engine: str, devices: str) -> list[Engine]:
    """`open_engine` for each of several devices.

    Parameters
    ----------
    model, engine : as for `open_engine`.
    devices : as its ``device``, several separated by commas: "cuda:0,cuda:1".
    """
    return [open_engine(model, engine, device) for device in devices.split(",")]


def check_devices(devices: str) -> None:
    """Raise `EngineError` if these are no names that `open_engines` takes; nothing is opened."""
    for device in devices.split(","):
        _check_device_name(device)


def _candidates(model: Model, engine: str, device: str) -> list[tuple[str, str]]:
    """(engine, device) pairs to try in turn, fastest first."""
    on_cpu = on_gpu = [engine]
    if engine == "auto":
        on_cpu, on_gpu = ["onnx", "torch"], ["torch", "onnx"]
        if model.has_eight_bit_form and _has_eight_bit_instructions():
            on_cpu = ["onnx-int8", *on_cpu]
    if device not in ("auto", "cpu"):
        return [(kind, device) for kind in on_gpu]
    pairs = []
    if device == "auto" and _has_nvidia_driver():
        pairs += [(kind, "cuda") for kind in on_gpu]
    if device == "auto" and sys.platform == "darwin" and platform.machine() == "arm64":
        pairs += [(kind, "mps") for kind in on_gpu]
    pairs += [(kind, "cpu") for kind in on_cpu]
    return [pair for pair in pairs if pair in PLACES]


def _check_device_name(device: str) -> None:
    if not (isinstance(device, str) and re.fullmatch("auto|cpu|mps|cuda(:[0-9]+)?", device)):
        raise EngineError(f"unknown device {device!r}; known: auto, cpu, cuda, cuda:N, mps")


def _has_nvidia_driver() -> bool:
    """Whether NVIDIA's driver library can be loaded: a quick look before torch (seconds) is imported."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _has_eight_bit_instructions() -> bool:
    """Whether the CPU, as NumPy detects it, is known to be faster in 8 bits: only x86 was measured."""
    extensions: Any = (np.show_config(mode="dicts") or {}).get("SIMD Extensions", {})
    return not EIGHT_BIT_EXTENSIONS.isdisjoint(extensions.get("baseline", []) + extensions.get("found", []))

"""Engines run a model's network on tiles: ONNX Runtime, or torch.

The heavy libraries are imported when an engine opens. A device asked for by name either runs or is an error.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from deepisp_cli.errors import EngineError, UsageError, not_installed
from deepisp_cli.machine import available_cores
from deepisp_cli.models import (
    EIGHT_BIT_FILE,
    ONNX_FILE,
    WEIGHTS_FILE,
    Model,
    find_model,
    unknown_network,
)
from deepisp_cli.options import ENGINES

PLACES = (  # engines and the devices they can run on
    ("onnx", "cpu"),
    ("onnx-int8", "cpu"),
    ("onnx", "cuda"),
    ("torch", "cpu"),
    ("torch", "cuda"),
    ("torch", "mps"),
)
TILE = 768  # pixels a side, the default
STRIP = 128  # pixels: tile height for an engine that continues; low tiles stay in the cache
MOST_WORKERS = 8  # tiles at a time on a CPU; more cores are shared among them
CPU_TILES = (256, 1024)  # smallest and largest width: long rows do not fit into a core's cache (measured)
CPU_MEMORY = (300e6, 500e6)  # bytes of all tiles in progress, beside a large frame and beside none
FRAME_BYTES = 16  # per pixel: the float32 frame, and restored parts waiting to replace it
GPU_TILES = (512, 4096)  # smallest and largest
GPU_SHARE = 0.5  # share of the GPU's free memory for the activations of all tiles in progress
CUDA_LANES = 2  # pictures at a time: while one is transferred, the other is computed
ACTIVATIONS = 4  # tensors of a block alive at a time: its joined input, its output, features, image
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


class OnnxEngine:
    """ONNX Runtime on the CPU (also in 8 bits) or, where onnxruntime-gpu is installed, on CUDA.

    On the CPU each core works on its own tile, so that neither cutting tiles out nor ONNX Runtime's
    single-threaded work (splits and transposes) keeps the others waiting.
    """

    resident = False
    lanes = 1

    def __init__(self, model: Model, device: str = "cpu", eight_bit: bool = False) -> None:
        onnxruntime = import_onnxruntime()
        self.name = "onnx-int8" if eight_bit else "onnx"
        kind, _, number = device.partition(":")
        if eight_bit and kind != "cpu":
            raise EngineError(f"the 8-bit form runs on the CPU only, not on {device!r}")
        if eight_bit and not model.has_eight_bit_form:
            raise EngineError(f"the model {model.name} has no 8-bit form; use the onnx engine")
        if kind not in ("cpu", "cuda"):
            raise EngineError(f"the onnx engine does not run on {device!r}; use cpu or cuda")
        provider: Any = "CPUExecutionProvider"
        if kind == "cuda":
            provider = ("CUDAExecutionProvider", {"device_id": int(number or 0)})
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise EngineError(f"device {device}: this onnxruntime lacks CUDA; install onnxruntime-gpu")
        self.continues = kind == "cpu" and model.tile_needs.continues
        self.workers = min(available_cores(), MOST_WORKERS) if self.continues else 1
        graph = model.read(EIGHT_BIT_FILE if eight_bit else ONNX_FILE)
        try:
            self._session = session = open_session(graph, provider, available_cores() // self.workers)
        except Exception as error:  # onnxruntime's own classes have no common base
            raise EngineError(f"device {device}: onnxruntime cannot open it ({error})") from error
        opened = self._session.get_providers()[0]
        if kind == "cuda" and opened != "CUDAExecutionProvider":
            raise EngineError(
                f"device {device}: onnxruntime opened {opened} instead; check the CUDA libraries"
            )
        self._below = [output.name for output in session.get_outputs() if output.name.startswith("below_")]
        self.device = "cpu" if kind == "cpu" else f"cuda:{int(number or 0)}"
        self.model = model

    def tile(self, pixels: int) -> int:
        """As wide as memory allows, but wider than the halo, which would otherwise be most of the work."""
        if not self.continues:
            return TILE
        halo = self.model.tile_needs.halo
        memory = max(CPU_MEMORY[1] - FRAME_BYTES * pixels, CPU_MEMORY[0]) / self.workers
        # the first tiles are the largest: they have the full halo
        width = int(memory / _activations(self.model, 4) / (STRIP + halo)) - halo
        smallest, largest = CPU_TILES
        return max(min(width, largest), smallest, halo * 5 // 4)

    def lane(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def run(self, tile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with self._errors():
            image, coefficients = self._session.run(["image", "coefficients"], {"picture": tile})
        return image, coefficients

    def run_below(self, tile: np.ndarray, above: Any | None) -> tuple[np.ndarray, np.ndarray, Any]:
        with self._errors():
            outputs = ["image", "coefficients", *self._below]
            image, coefficients, *kept = self._session.run(outputs, {"picture": tile, **(above or {})})
        names = (name.replace("below", "above") for name in self._below)
        return image, coefficients, dict(zip(names, kept, strict=True))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn ONNX Runtime's errors into MemoryError and EngineError."""
        try:
            yield
        except Exception as error:  # onnxruntime's own classes have no common base
            if "alloc" in str(error).lower():
                raise MemoryError(str(error)) from error
            raise EngineError(f"onnxruntime failed on {self.device}: {error}") from error


def import_onnxruntime() -> Any:
    """ONNX Runtime, which from 1.32 on reports each run to its maker unless this is set first."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def open_session(graph: bytes, provider: Any = "CPUExecutionProvider", threads: int | None = None) -> Any:
    """An ONNX Runtime session with this graph and `session_options`."""
    onnxruntime = import_onnxruntime()
    return onnxruntime.InferenceSession(graph, session_options(threads), providers=[provider])


def session_options(threads: int | None = None) -> Any:
    """Options for running a graph with ``threads`` threads, by default one per core, in little memory."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cores()
    options.log_severity_level = 4  # errors are raised; the log would only repeat them
    options.enable_mem_pattern = False  # it takes twice the memory and is no faster
    # Otherwise the kept rows are sliced off only at the end, and every tensor they come from stays alive
    # until then.
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    # Otherwise its idle threads spin on the cores that colour and the next file need.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


class TorchEngine:
    """torch on the CPU, CUDA or MPS; half precision on CUDA."""

    name = "torch"
    workers = 1
    continues = False

    def __init__(self, model: Model, device: str = "cpu") -> None:
        if find_spec("torch") is None or find_spec("safetensors") is None:
            raise EngineError(not_installed("the torch engine", "torch"))
        import safetensors.torch
        import torch

        from deepisp_cli.network import DeepISP, config_from_card

        self._torch = torch
        self.device = _check_torch_device(torch, device)
        self.model = model
        weights = model.read(WEIGHTS_FILE)
        try:
            network = DeepISP(config_from_card(model.card["architecture"]))
            network.load_state_dict(safetensors.torch.load(weights))
        except (TypeError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
            raise unknown_network(model.folder, error) from error
        self._kind = self.device.partition(":")[0]
        self.resident = self._kind == "cuda"  # Metal lacks the float64 of `colour.encode`
        self.lanes = CUDA_LANES if self._kind == "cuda" else 1
        with self.errors():
            self._network = network.to(self.device, memory_format=torch.channels_last).eval()

    def tile(self, pixels: int) -> int:
        if self._kind != "cuda":
            return TILE
        cuda = self._torch.cuda
        free, _ = cuda.mem_get_info(self.device)
        free += cuda.memory_reserved(self.device) - cuda.memory_allocated(self.device)  # torch's own cache
        side = (GPU_SHARE / self.lanes * free / _activations(self.model, 2)) ** 0.5  # in half precision
        return int(min(max(side, GPU_TILES[0]), GPU_TILES[1]))

    def lane(self) -> AbstractContextManager[Any]:
        """On CUDA, a new stream."""
        if self._kind != "cuda":
            return nullcontext()
        return self._torch.cuda.stream(self._torch.cuda.Stream(self.device))

    def run(self, tile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        torch = self._torch
        with self.errors():
            picture = torch.from_numpy(tile).to(self.device, memory_format=torch.channels_last)
            image, coefficients = self.run_on_device(picture)
            return image.float().cpu().numpy(), coefficients.float().cpu().numpy()

    def run_on_device(self, tile: Any) -> tuple[Any, Any]:
        """`run` for a tensor on the device, best with channels last; returns tensors there."""
        half: AbstractContextManager[Any] = nullcontext()
        if self._kind == "cuda":  # all threads would share the cache, but each lane has its own stream
            half = self._torch.autocast("cuda", self._torch.float16, cache_enabled=False)
        with self.errors(), self._torch.inference_mode(), half:
            return self._network(tile)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn torch's errors into MemoryError and EngineError."""
        try:
            yield
        except self._torch.OutOfMemoryError as error:
            self._torch.cuda.empty_cache()
            raise MemoryError(str(error)) from error
        except RuntimeError as error:
            if "alloc" in str(error).lower():
                raise MemoryError(str(error)) from error
            raise EngineError(f"torch failed on {self.device}: {error}") from error

    def synchronise(self) -> None:
        """Wait until the device has finished this thread's work."""
        if self._kind == "cuda":
            self._torch.cuda.current_stream(self.device).synchronize()


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
    model = _model(model)
    if engine not in ENGINES:
        raise EngineError(f"unknown engine {engine!r}; known: {', '.join(ENGINES)}")
    _check_device_name(device)
    failures = []
    for kind, place in _candidates(model, engine, device):
        try:
            return _open(model, kind, place)
        except EngineError as error:
            failures.append(str(error))
        except MemoryError:
            failures.append(
                f"device {place}: not enough memory; close other programs that use it, or use --device cpu"
            )
    raise EngineError("; ".join(failures))


def as_engine(engine: Engine | Model | str) -> Engine:
    """``engine`` itself, or one opened for a model or for the name of one.

    Raises
    ------
    DeepIspError
        As `open_engine` does; `UsageError` if it is none of these.
    """
    if isinstance(engine, Model | str):
        return open_engine(engine)
    if not (hasattr(engine, "run") and hasattr(engine, "tile")):
        raise UsageError(f'{engine!r} is not an engine; give open_engine("deepisp"), or the name of a model')
    return engine


def _model(given: Model | str | os.PathLike[str]) -> Model:
    if isinstance(given, Model):
        return given
    if isinstance(given, os.PathLike):
        given = os.path.abspath(given)  # a folder even if it looks like a name
    if not isinstance(given, str):
        raise UsageError(f'{given!r} is not a model; give a name such as "deepisp", or a model\'s folder')
    return find_model(given)


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


def open_engines(model: Model | str, engine: str = "auto", devices: str = "auto") -> list[Engine]:
    """`open_engine` for each of several devices.

    Parameters
    ----------
    model, engine : as for `open_engine`.
    devices : as its ``device``, several separated by commas: "cuda:0,cuda:1".
    """
    return [open_engine(model, engine, device) for device in devices.split(",")]


def _activations(model: Model, size: int) -> float:
    """Bytes of activations per pixel of a tile, with ``size`` bytes per number."""
    architecture = model.card["architecture"]
    return ACTIVATIONS * size * architecture["width"] / architecture["fold"] ** 2


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
    return pairs + [(kind, "cpu") for kind in on_cpu]


def _check_device_name(device: str) -> None:
    kind, colon, number = device.partition(":") if isinstance(device, str) else (device, "", "")
    plain = device in ("auto", "cpu", "cuda", "mps")
    if not plain and not (kind == "cuda" and colon and number.isascii() and number.isdigit()):
        raise EngineError(f"unknown device {device!r}; known: auto, cpu, cuda, cuda:N, mps")


def _check_torch_device(torch: Any, device: str) -> str:
    kind, _, number = device.partition(":")
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise EngineError(f"device {device}: torch finds no CUDA device; check driver and torch build")
        if int(number or 0) >= torch.cuda.device_count():
            raise EngineError(f"device {device}: torch finds {torch.cuda.device_count()} CUDA device(s)")
        return f"cuda:{int(number or 0)}"
    if kind == "mps" and not torch.backends.mps.is_available():
        raise EngineError("device mps: torch finds no Metal device")
    return device


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

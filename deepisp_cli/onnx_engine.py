"""The engine that runs ONNX graphs: ONNX Runtime, on the CPU also in 8 bits."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from io import StringIO
from typing import Any

import numpy as np

from deepisp_cli.errors import EngineError, first_line, loading
from deepisp_cli.machine import available_cores
from deepisp_cli.models import EIGHT_BIT_FILE, ONNX_FILE, STRIP, TILE, Model

MOST_WORKERS = 8  # tiles at a time on a CPU; more cores are shared among them
CPU_TILES = (256, 1024)  # smallest and largest width: long rows do not fit into a core's cache (measured)
CPU_MEMORY = (300e6, 500e6)  # bytes of all tiles in progress, beside a large frame and beside none
FRAME_BYTES = 16  # per pixel: the float32 frame, and restored parts waiting to replace it


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
                raise EngineError(
                    f"device {device}: this onnxruntime lacks CUDA; uninstall it, also as onnxruntime-gpu,"
                    " then install onnxruntime-gpu"
                )
            with redirect_stdout(StringIO()):  # where it tells what it has not found
                onnxruntime.preload_dlls()  # CUDA's, where pip has installed them
        self.continues = kind == "cpu" and model.tile_needs.continues
        self.workers = min(available_cores(), MOST_WORKERS) if self.continues else 1
        file = EIGHT_BIT_FILE if eight_bit else ONNX_FILE
        graph = model.read(file)
        try:
            # a session's own threads help whichever workers need them; each worker brings one of its own
            threads = available_cores() - self.workers + 1
            with nullcontext() if kind == "cpu" else redirect_stdout(StringIO()):
                self._session = session = open_session(graph, provider, threads)
            session.disable_fallback()  # below 1.23 the option has no effect
        except Exception as error:  # onnxruntime's own classes have no common base
            raise EngineError(
                f"{model.folder / file}: onnxruntime cannot open it on {device} ({first_line(error)})"
            ) from error
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
        width = int(memory / self.model.activations(4) / (STRIP + halo)) - halo
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
            if any(words in str(error).lower() for words in ("alloc", "out of memory")):
                raise MemoryError(str(error)) from error
            raise EngineError(
                f"onnxruntime failed on {self.device} ({first_line(error)}); try another --engine"
            ) from error


def import_onnxruntime() -> Any:
    """ONNX Runtime, which reports each run to its maker unless told not to: before it is imported, and on
    Windows, where its events go to the system, afterwards."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with loading("onnxruntime"):
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        onnxruntime.set_default_logger_severity(4)  # errors are raised; the log would only repeat them
    return onnxruntime


def open_session(graph: bytes, provider: Any = "CPUExecutionProvider", threads: int | None = None) -> Any:
    """An ONNX Runtime session with this graph and `session_options`."""
    onnxruntime = import_onnxruntime()
    # otherwise it goes on on the CPU where a GPU fails, and says so on standard output, where pictures go
    options = {"providers": [provider], "enable_fallback": 0}
    return onnxruntime.InferenceSession(graph, session_options(threads), **options)


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

"""The engine that runs the network itself: torch, on the CPU, CUDA or MPS."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from itertools import cycle
from typing import Any

import numpy as np

from deepisp_cli.errors import EngineError, first_line, loading, not_installed
from deepisp_cli.models import TILE, WEIGHTS_FILE, Model, unknown_network

GPU_TILES = (512, 4096)  # smallest and largest
GPU_SHARE = 0.5  # share of the GPU's free memory for the activations of all tiles in progress
CUDA_LANES = 2  # pictures at a time: while one is transferred, the other is computed


class TorchEngine:
    """torch on the CPU, CUDA or MPS; half precision on CUDA."""

    name = "torch"
    workers = 1
    continues = False

    def __init__(self, model: Model, device: str = "cpu") -> None:
        if find_spec("torch") is None or find_spec("safetensors") is None:
            raise EngineError(not_installed("the torch engine", "torch"))
        with loading("torch"):
            import safetensors.torch
            import torch

            from deepisp_cli.fused import fuse, half_precision
            from deepisp_cli.network import DeepISP, config_from_card

        self._torch = torch
        self.device = _check_device(torch, device)
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
            if self._kind == "cuda":  # torch keeps freed memory for each stream: there are no others
                self._streams = cycle([torch.cuda.Stream(self.device) for _ in range(self.lanes)])
            network = network.to(self.device, memory_format=torch.channels_last).eval()
            self._precision = half_precision if self._kind == "cuda" else nullcontext
            self._network = fuse(network) or network

    def tile(self, pixels: int) -> int:
        if self._kind != "cuda":
            return TILE
        cuda = self._torch.cuda
        with self.errors():
            free, _ = cuda.mem_get_info(self.device)
        free += cuda.memory_reserved(self.device) - cuda.memory_allocated(self.device)  # torch's own cache
        side = (GPU_SHARE / self.lanes * free / self.model.activations(2)) ** 0.5  # in half precision
        return int(min(max(side, GPU_TILES[0]), GPU_TILES[1]))

    def lane(self) -> AbstractContextManager[Any]:
        """On CUDA, a stream of its own."""
        if self._kind != "cuda":
            return nullcontext()
        with self.errors():
            return self._torch.cuda.stream(next(self._streams))

    def run(self, tile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        torch = self._torch
        with self.errors():
            picture = torch.from_numpy(tile).to(self.device, memory_format=torch.channels_last)
            image, coefficients = self.run_on_device(picture)
            return image.float().cpu().numpy(), coefficients.float().cpu().numpy()

    def run_on_device(self, tile: Any) -> tuple[Any, Any]:
        """`run` for a tensor on the device, best with channels last; returns tensors there."""
        with self.errors(), self._torch.inference_mode(), self._precision():
            return self._network(tile)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn torch's errors into MemoryError and EngineError."""
        try:
            yield
        except self._torch.OutOfMemoryError as error:
            self._torch.cuda.empty_cache()
            raise MemoryError(str(error)) from error
        except (RuntimeError, self._torch.cuda.DeferredCudaCallError) as error:
            if any(words in str(error).lower() for words in ("alloc", "out of memory")):
                raise MemoryError(str(error)) from error
            raise EngineError(
                f"torch failed on {self.device} ({first_line(error)}); try --device cpu"
            ) from error

    def synchronise(self) -> None:
        """Wait until the device has finished this thread's work."""
        if self._kind == "cuda":
            self._torch.cuda.current_stream(self.device).synchronize()


def _check_device(torch: Any, device: str) -> str:
    kind, _, number = device.partition(":")
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise EngineError(f"device {device}: torch finds no CUDA device; check driver and torch build")
        if int(number or 0) >= torch.cuda.device_count():
            raise EngineError(
                f"device {device}: torch finds {torch.cuda.device_count()} CUDA device(s), from cuda:0 on"
            )
        return f"cuda:{int(number or 0)}"
    if kind == "mps" and not torch.backends.mps.is_available():
        raise EngineError("device mps: torch finds no Metal device; use --device cpu")
    return device

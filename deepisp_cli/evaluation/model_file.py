"""Other people's networks in place of ours: any ONNX or TorchScript file that fits `FileEngine`."""

import hashlib
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepisp_cli.errors import EngineError, ModelError, first_line
from deepisp_cli.models import TILE, Model
from deepisp_cli.onnx_engine import open_session

SUFFIXES = (".onnx", ".pt", ".ts")
HALO = 64  # pixels of surroundings around each tile
CELL = 16  # tile sides are multiples of it: networks that halve the picture need that


class FileEngine:
    """A network in a file, as a `deepisp_cli.engine.Engine` on the CPU.

    The contract: one input (1, 3, H, W) float32, the bilinear picture that the product's own network gets;
    the first output is the restored picture of the same shape. H and W are multiples of 16. It is run on
    tiles with 64 pixels of surroundings.

    Raises
    ------
    ModelError
        If the file cannot be opened.
    """

    name, device, resident, workers, continues, lanes = "file", "cpu", False, 1, False, 1

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            contents = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
        self.model = Model(
            path.parent,
            {
                "name": path.stem,
                "tile": {"cell": CELL, "before": HALO, "after": HALO},
                "architecture": {"high_blocks": 0},
                "files": {path.name: hashlib.sha256(contents).hexdigest()},
            },
        )
        try:
            self._run = _open_onnx(contents) if path.suffix == ".onnx" else _open_torchscript(path)
        except Exception as error:  # both libraries raise classes of their own
            kind = "an ONNX graph" if path.suffix == ".onnx" else "TorchScript"
            raise ModelError(
                f"{path}: cannot be opened as {kind} ({first_line(error)}); a checkpoint of a training run"
                " becomes a model with 'deepisp export', and is then given as --model"
            ) from error

    def lane(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def tile(self, pixels: int) -> int:
        return TILE

    def run(self, tile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        try:
            image = self._run(tile)
        except Exception as error:
            raise EngineError(
                f"{self._path}: failed on a tile of shape {tile.shape} ({first_line(error)});"
                " networks take (1, 3, H, W) float32, whatever H and W"
            ) from error
        if image.shape != tile.shape:
            raise EngineError(
                f"{self._path}: yields shape {image.shape} for {tile.shape}; they must be the same"
            )
        if not np.isfinite(image).all():
            raise EngineError(f"{self._path}: yields numbers that are not finite; correct the network")
        return image[:, :, HALO:-HALO, HALO:-HALO], np.empty((1, 30, 0, 0), np.float32)


def _open_onnx(contents: bytes):  # type: ignore[no-untyped-def]
    session = open_session(contents)
    name = session.get_inputs()[0].name
    return lambda tile: session.run(None, {name: tile})[0]


def _open_torchscript(path: Path):  # type: ignore[no-untyped-def]
    module = torch.jit.load(str(path), map_location="cpu").eval()

    def run(tile: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            outputs = module(torch.from_numpy(tile))
        return (outputs if isinstance(outputs, torch.Tensor) else outputs[0]).numpy()

    return run

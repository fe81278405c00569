"""Is this installation able to work: versions, engines and devices that really open, a self-test."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from deepisp_cli import __version__
from deepisp_cli.engine import Engine, open_engine
from deepisp_cli.errors import DeepIspError
from deepisp_cli.models import DEFAULT_MODEL, Model, find_model
from deepisp_cli.tiling import run_tiled

PACKAGES = ("onnxruntime", "torch", "rawpy", "numpy", "pillow", "exifread", "tifffile", "imagecodecs", "click")
PLACES = (("onnx", "cpu"), ("onnx", "cuda"), ("torch", "cpu"), ("torch", "cuda"), ("torch", "mps"))
TOLERANCE = {"cpu": 1e-4, "cuda": 2e-2, "mps": 1e-3}  # half precision on CUDA


def examine() -> dict[str, Any]:
    """Findings as plain JSON values; ``healthy`` is whether the default model works on some device."""
    versions: dict[str, str | None] = {"deepisp": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    engines = []
    self_test, healthy = "not run", False
    try:
        model = find_model(DEFAULT_MODEL)
        reference = _run(open_engine(model, "onnx", "cpu"))
        self_test, healthy = _judge(reference)
        engines = [_try(model, engine, device, reference) for engine, device in PLACES]
    except DeepIspError as error:
        self_test = f"failed: {error}"
    return {"versions": versions, "engines": engines, "self_test": self_test, "healthy": healthy}


def _run(engine: Engine) -> tuple[np.ndarray, np.ndarray | None]:
    """A noisy grey ramp, 256 pixels a side, through the engine."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0.1, 0.6, 256, dtype=np.float32)[None, :, None]
    picture = ramp + rng.normal(0, 0.05, (256, 256, 3)).astype(np.float32)
    return run_tiled(engine, picture.astype(np.float32), tile=256)


def _judge(reference: tuple[np.ndarray, np.ndarray | None]) -> tuple[str, bool]:
    """The default model must take away most of the ramp's noise."""
    image, transform = reference
    ramp = np.linspace(0.1, 0.6, 256, dtype=np.float32)[None, :, None]
    left = float((image - ramp)[32:-32, 32:-32].std())
    if not np.isfinite(image).all() or (transform is not None and not np.isfinite(transform).all()):
        return "failed: the model returns numbers that are not finite", False
    if left > 0.025:
        return f"failed: of noise of 0.05 the model leaves {left:.3f}", False
    return f"passed: of noise of 0.05 the default model leaves {left:.3f}", True


def _try(model: Model, engine: str, device: str, reference: tuple) -> dict[str, str]:
    try:
        image, _ = _run(open_engine(model, engine, device))
    except DeepIspError as error:
        return {"engine": engine, "device": device, "state": f"no: {error}"}
    difference = float(np.abs(image - reference[0]).max())
    state = "works" if difference <= TOLERANCE[device] else f"wrong: differs by {difference:.2g}"
    return {"engine": engine, "device": device, "state": state}

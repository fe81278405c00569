"""Is this installation able to work: versions, engines and devices that really open, a self-test."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from deepisp_cli import __version__
from deepisp_cli.colour import encode
from deepisp_cli.demosaic import demosaic
from deepisp_cli.engine import PLACES, Engine, open_engine
from deepisp_cli.errors import DeepIspError
from deepisp_cli.models import DEFAULT_MODEL, Model, find_model
from deepisp_cli.tiling import run_tiled

PACKAGES = (
    "onnxruntime",
    "torch",
    "rawpy",
    "numpy",
    "pillow",
    "exifread",
    "tifffile",
    "imagecodecs",
    "click",
)
TOLERANCE = {"cpu": 1e-4, "cuda": 2e-2, "mps": 1e-3}  # half precision on CUDA
EIGHT_BIT_TOLERANCE = 5e-2


def examine() -> dict[str, Any]:
    """Findings as plain JSON values; ``healthy`` is whether the default model works on some device."""
    versions: dict[str, str | None] = {"deepisp": __version__, "python": platform.python_version()}
    versions |= {package: installed_version(package) for package in PACKAGES}
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


def installed_version(package: str) -> str | None:
    """The version of an installed distribution, None if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _ramp() -> np.ndarray:
    """A grey ramp as a mosaic, (256, 256) float32, linear."""
    return np.tile(np.linspace(0.02, 0.5, 256, dtype=np.float32), (256, 1))


def _picture(mosaic: np.ndarray) -> np.ndarray:
    return encode(demosaic(mosaic, "RGGB"))


def _noisy() -> np.ndarray:
    ramp = _ramp()
    noise = np.random.default_rng(0).normal(0, 1, ramp.shape).astype(np.float32)
    return _picture(ramp + np.sqrt(0.006 * ramp + 1e-4) * noise)


def _run(engine: Engine) -> tuple[np.ndarray, np.ndarray | None]:
    """The ramp with a sensor's noise through the engine."""
    return run_tiled(engine, _noisy(), tile=256)


def _judge(reference: tuple[np.ndarray, np.ndarray | None]) -> tuple[str, bool]:
    """The default model must take away at least half of the ramp's noise."""
    image, transform = reference
    if not np.isfinite(image).all() or (transform is not None and not np.isfinite(transform).all()):
        return "failed: the model returns numbers that are not finite", False
    clean = _picture(_ramp())
    before, after = (float((picture - clean)[32:-32, 32:-32].std()) for picture in (_noisy(), image))
    verdict = "passed" if after < before / 2 else "failed"
    return f"{verdict}: of noise of {before:.3f} the default model leaves {after:.3f}", verdict == "passed"


def _try(model: Model, engine: str, device: str, reference: tuple) -> dict[str, str]:
    try:
        image, _ = _run(open_engine(model, engine, device))
    except DeepIspError as error:
        return {"engine": engine, "device": device, "state": f"no: {error}"}
    difference = float(np.abs(image - reference[0]).max())
    tolerance = EIGHT_BIT_TOLERANCE if engine == "onnx-int8" else TOLERANCE[device]
    state = "works" if difference <= tolerance else f"wrong: differs by {difference:.2g}"
    return {"engine": engine, "device": device, "state": state}

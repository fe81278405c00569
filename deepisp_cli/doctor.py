"""Check this installation: versions, engines and devices that really open, a self-test."""

import platform
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from typing import Any

import numpy as np

from deepisp_cli import __version__
from deepisp_cli.colour import encode
from deepisp_cli.demosaic import demosaic
from deepisp_cli.dng import write_dng
from deepisp_cli.engine import PLACES, Engine, open_engine
from deepisp_cli.errors import DeepIspError, told_of
from deepisp_cli.models import DEFAULT_MODEL, Model, find_model
from deepisp_cli.pipeline import develop_array
from deepisp_cli.raw import RawImage, read_raw
from deepisp_cli.tiling import run_tiled

PACKAGES = (
    *("onnxruntime", "torch", "rawpy", "numpy", "pillow"),
    *("exifread", "tifffile", "imagecodecs", "click"),
)
BLACK, WHITE = 512, 16383  # counts of the raw that is developed
TOLERANCE = {"cpu": 1, "cuda": 5, "mps": 1}  # levels of 255; half precision on CUDA
EIGHT_BIT_TOLERANCE = 12


def examine() -> dict[str, Any]:
    """Findings as plain JSON values; ``healthy``: whether the default model passes the self-test on
    the CPU, in ONNX Runtime; the other engines are only told of."""
    versions: dict[str, str | None] = {"deepisp": __version__, "python": platform.python_version()}
    versions |= {package: installed_version(package) for package in PACKAGES}
    engines = []
    try:
        model = find_model(DEFAULT_MODEL)
        reference = open_engine(model, "onnx", "cpu")
        noisy = _noisy()
        self_test, healthy = _judge(reference, _picture(noisy))
        with told_of("self-test"):
            file = BytesIO()
            counts = np.clip(noisy * (WHITE - BLACK) + BLACK, 0, WHITE).astype(np.uint16)
            write_dng(file, counts, pattern="RGGB", black=BLACK, white=WHITE, white_balance=(1, 1, 1))
            raw = read_raw(file, "ramp.dng")
            (expected,) = _pictures(raw, reference)
            engines = [_try(model, engine, device, raw, expected) for engine, device in PLACES]
    except DeepIspError as error:
        self_test, healthy = f"failed: {error}", False
    return {"versions": versions, "engines": engines, "self_test": self_test, "healthy": healthy}


def installed_version(package: str) -> str | None:
    """The version of an installed distribution, or of its variant for GPUs; None if neither is there."""
    for name in (package, f"{package}-gpu"):
        with suppress(PackageNotFoundError):
            return version(name)
    return None


def _ramp() -> np.ndarray:
    """A grey ramp as a mosaic, (256, 256) float32, linear."""
    return np.tile(np.linspace(0.02, 0.5, 256, dtype=np.float32), (256, 1))


def _picture(mosaic: np.ndarray) -> np.ndarray:
    return encode(demosaic(mosaic, "RGGB"))


def _noisy() -> np.ndarray:
    """The ramp with a sensor's noise."""
    ramp = _ramp()
    noise = np.random.default_rng(0).normal(0, 1, ramp.shape).astype(np.float32)
    return ramp + np.sqrt(0.006 * ramp + 1e-4) * noise


def _pictures(raw: RawImage, engine: Engine) -> list[np.ndarray]:
    """The raw developed as in a batch, in all of the engine's lanes at the same time."""

    def develop(_: int) -> np.ndarray:
        with engine.lane():
            return develop_array(raw, engine)

    with ThreadPoolExecutor(engine.lanes) as pool:
        return list(pool.map(develop, range(engine.lanes)))


def _judge(reference: Engine, noisy: np.ndarray) -> tuple[str, bool]:
    """The default model must remove at least half of the ramp's noise."""
    image, transform = run_tiled(reference, noisy, tile=256)
    if not np.isfinite(image).all() or (transform is not None and not np.isfinite(transform).all()):
        return "failed: the model returns numbers that are not finite", False
    clean = _picture(_ramp())
    before, after = (float((picture - clean)[32:-32, 32:-32].std()) for picture in (noisy, image))
    verdict = "passed" if after < before / 2 else "failed"
    return f"{verdict}: the default model reduces noise from {before:.3f} to {after:.3f}", verdict == "passed"


def _try(model: Model, engine: str, device: str, raw: RawImage, expected: np.ndarray) -> dict[str, str]:
    try:
        with told_of("self-test"):
            pictures = _pictures(raw, open_engine(model, engine, device))
    except DeepIspError as error:
        reason = str(error).removeprefix("self-test: ").removeprefix("the raw picture: ")
        return {"engine": engine, "device": device, "state": f"no: {reason}"}
    difference = max(int(np.abs(picture.astype(int) - expected).max()) for picture in pictures)
    tolerance = EIGHT_BIT_TOLERANCE if engine == "onnx-int8" else TOLERANCE[device]
    state = "works" if difference <= tolerance else f"wrong: differs by {difference} of 255 levels"
    return {"engine": engine, "device": device, "state": state}

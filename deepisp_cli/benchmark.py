"""How fast and in how much memory this machine develops: ``deepisp benchmark``."""

import math
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from deepisp_cli.dng import write_dng
from deepisp_cli.engine import open_engine
from deepisp_cli.models import Model, find_model
from deepisp_cli.pipeline import Options, develop
from deepisp_cli.tiling import DEFAULT_TILE

PRODUCT_SIDE = 2048  # of the matrix product that measures the machine's peak
FRAME_RATIO = 1.5  # width to height
Returned = TypeVar("Returned")


def measure(
    model: Model,
    engine: str,
    device: str,
    megapixels: Sequence[float],
    repeat: int = 3,
    tile: int = DEFAULT_TILE,
) -> Iterator[dict[str, Any]]:
    """Develop computed frames, smallest first, each size in a process of its own.

    Parameters
    ----------
    engine, device : as for `deepisp_cli.engine.open_engine`.
    repeat : runs of each size; the medians are reported, after one run on a small frame to warm up.
    tile : side of a tile in pixels.

    Yields
    ------
    For each size ``{"model", "engine", "device", "megapixels", "width", "height", "seconds": {stage: s},
    "total", "per_megapixel", "network_gflops", "peak_mb"}``. ``peak_mb`` is the largest memory of the
    process, in 10^6 bytes (None on Windows).
    """
    with tempfile.TemporaryDirectory() as folder:
        raw, small = Path(folder) / "frame.dng", Path(folder) / "small.dng"
        _elsewhere(write_frame, small, 384, 256)
        for size in sorted(megapixels):
            _elsewhere(write_frame, raw, *frame_size(size))
            yield _elsewhere(_measure_frame, model.folder, engine, device, small, raw, repeat, tile)


def _measure_frame(
    folder: Path, engine: str, device: str, small: Path, raw: Path, repeat: int, tile: int
) -> dict[str, Any]:
    opened = open_engine(find_model(str(folder)), engine, device)
    options = Options(overwrite=True, tile=tile)
    picture = raw.with_suffix(".jpg")
    develop(small, picture, opened, options)
    runs = [develop(raw, picture, opened, options) for _ in range(repeat)]
    width, height = runs[0].width, runs[0].height
    seconds = {
        stage: round(statistics.median(run.seconds[stage] for run in runs), 3) for stage in runs[0].seconds
    }
    total = statistics.median(sum(run.seconds.values()) for run in runs)
    operations = 2 * multiply_adds(opened.model.card["architecture"]) * width * height
    return {
        "model": opened.model.name,
        "engine": opened.name,
        "device": opened.device,
        "megapixels": round(width * height / 1e6, 2),
        "width": width,
        "height": height,
        "seconds": seconds,
        "total": round(total, 3),
        "per_megapixel": round(total / (width * height / 1e6), 3),
        "network_gflops": round(operations / seconds["network"] / 1e9, 1),
        "peak_mb": peak_memory(),
    }


def multiply_adds(architecture: dict[str, Any]) -> float:
    """Multiply-adds of the network's convolutions per pixel of the frame, halos aside."""
    fold, width, dilations = (architecture[key] for key in ("fold", "width", "dilations"))
    images = 3 * fold**2
    low = 9 * width * (images + (len(dilations) - 1) * width) / fold**2
    high = 0.0
    for level in range(architecture["high_blocks"]):
        inputs = width if level else width - images
        high += 9 * inputs * width / (fold**2 * 4 ** (2 * level + 1))
    return low + high


def peak_gflops(repeat: int = 5) -> float:
    """The CPU's float32 peak, as a large matrix product in NumPy reaches it, in 10^9 operations a second."""
    rng = np.random.default_rng(0)
    a, b = rng.random((2, PRODUCT_SIDE, PRODUCT_SIDE), np.float32)
    best = math.inf
    for _ in range(repeat):
        started = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - started)
    return round(2 * PRODUCT_SIDE**3 / best / 1e9, 1)


def _elsewhere(function: Callable[..., Returned], *arguments: Any) -> Returned:
    """Call it in a process of its own, whose memory is counted by itself."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def frame_size(megapixels: float) -> tuple[int, int]:
    """Width and height in pixels of a frame of so many megapixels."""
    height = max(2, round(math.sqrt(megapixels * 1e6 / FRAME_RATIO)))
    return max(2, round(megapixels * 1e6 / height)), height


def write_frame(path: Path, width: int, height: int) -> None:
    """Write a dark, noisy frame of smooth waves as a DNG."""
    rng = np.random.default_rng(0)
    rows = np.sin(np.linspace(0, 40, height, dtype=np.float32))[:, None]
    scene = 0.1 + 0.08 * rows * np.cos(np.linspace(0, 60, width, dtype=np.float32))
    scene += 0.02 * rng.standard_normal(scene.shape, np.float32)
    counts = np.clip(scene * 15871 + 512, 0, 16383).astype(np.uint16)
    write_dng(path, counts, pattern="RGGB", black=512, white=16383, white_balance=(2.0, 1.0, 1.5))


def peak_memory() -> float | None:
    """The largest memory of this process so far, in 10^6 bytes; None on Windows."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)

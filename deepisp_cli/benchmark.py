"""How fast and in how much memory this machine develops: ``deepisp benchmark``."""

import math
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepisp_cli.dng import write_dng
from deepisp_cli.engine import Engine
from deepisp_cli.pipeline import Options, develop
from deepisp_cli.tiling import DEFAULT_TILE

PRODUCT_SIDE = 2048  # of the matrix product that measures the machine's peak
FRAME_RATIO = 1.5  # width to height


def measure(
    engine: Engine, megapixels: Sequence[float], repeat: int = 3, tile: int = DEFAULT_TILE
) -> Iterator[dict[str, Any]]:
    """Develop computed frames, smallest first.

    Parameters
    ----------
    repeat : runs of each size; the medians are reported, after one run on a small frame to warm up.
    tile : side of a tile in pixels.

    Yields
    ------
    For each size ``{"megapixels", "width", "height", "seconds": {stage: s}, "total", "per_megapixel",
    "network_gflops", "peak_mb"}``. ``peak_mb`` is the largest memory of this process up to then, in 10^6
    bytes (None on Windows).
    """
    options = Options(overwrite=True, tile=tile)
    with tempfile.TemporaryDirectory() as folder:
        raw, picture = Path(folder) / "frame.dng", Path(folder) / "frame.jpg"
        _write_elsewhere(raw, 384, 256)
        develop(raw, picture, engine, options)
        for size in sorted(megapixels):
            height = max(2, round(math.sqrt(size * 1e6 / FRAME_RATIO)))
            width = max(2, round(size * 1e6 / height))
            _write_elsewhere(raw, width, height)
            runs = [develop(raw, picture, engine, options).seconds for _ in range(repeat)]
            seconds = {stage: round(statistics.median(run[stage] for run in runs), 3) for stage in runs[0]}
            total = statistics.median(sum(run.values()) for run in runs)
            operations = 2 * multiply_adds(engine.model.card["architecture"]) * width * height
            yield {
                "megapixels": round(width * height / 1e6, 2),
                "width": width,
                "height": height,
                "seconds": seconds,
                "total": round(total, 3),
                "per_megapixel": round(total / (width * height / 1e6), 3),
                "network_gflops": round(operations / seconds["network"] / 1e9, 1),
                "peak_mb": _peak_memory(),
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


def _write_elsewhere(path: Path, width: int, height: int) -> None:
    """Write a frame in a process of its own, so that its memory is not counted."""
    process = multiprocessing.get_context("spawn").Process(target=_write_frame, args=(path, width, height))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{path}: could not be written")


def _write_frame(path: Path, width: int, height: int) -> None:
    """A dark, noisy frame of smooth waves."""
    rng = np.random.default_rng(0)
    rows = np.sin(np.linspace(0, 40, height, dtype=np.float32))[:, None]
    scene = 0.1 + 0.08 * rows * np.cos(np.linspace(0, 60, width, dtype=np.float32))
    scene += 0.02 * rng.standard_normal(scene.shape, np.float32)
    counts = np.clip(scene * 15871 + 512, 0, 16383).astype(np.uint16)
    write_dng(path, counts, pattern="RGGB", black=512, white=16383, white_balance=(2.0, 1.0, 1.5))


def _peak_memory() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)

"""How fast and in how much memory this machine develops: ``deepisp benchmark``."""

import math
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from deepisp_cli.batch import develop_many, share_one_heap
from deepisp_cli.dng import write_dng
from deepisp_cli.engine import PLACES, Engine, open_engine
from deepisp_cli.errors import EngineError, UsageError
from deepisp_cli.models import Model, find_model
from deepisp_cli.pipeline import Options, develop
from deepisp_cli.plan import Job

PRODUCT_SIDE = {"cpu": 2048, "cuda": 8192, "mps": 4096}  # of the matrix product that measures the peak
FRAME_RATIO = 1.5  # width to height
SMALLEST_SIDE = 64  # pixels
TENTH = 10  # file of a batch from which on its memory should be flat
THREADS = {"read": "reading", "demosaic": "reading", "write": "writing"}  # stages beside the network's thread
Returned = TypeVar("Returned")


def places(model: Model, engine: str, device: str) -> list[tuple[str, str]]:
    """The engine and device asked for, or with the engine "all" each pair that opens here.

    Raises
    ------
    EngineError
        If what was named cannot be had, or nothing opens.
    """
    if engine != "all":
        opened = open_engine(model, engine, device)
        return [(opened.name, opened.device)]
    found = []
    for kind, place in PLACES:
        if device != "auto":
            if device.partition(":")[0] != place:
                continue
            place = device
        with suppress(EngineError):
            found.append((kind, open_engine(model, kind, place).device))
    if not found:
        raise EngineError(f"no engine opens on {device}")
    return found


def measure(
    model: Model,
    engine: str,
    device: str,
    sizes: Sequence[tuple[int, int]],
    repeat: int = 3,
    tile: int | None = None,
    batch: int = 0,
) -> Iterator[dict[str, Any]]:
    """Develop computed frames, smallest first, each size in a process of its own.

    Parameters
    ----------
    engine, device : as for `deepisp_cli.engine.open_engine`.
    sizes : (width, height) in pixels.
    repeat : runs of each size; the medians are reported, after one run on a small frame to warm up.
    tile : side of a tile in pixels; None: what suits the engine.
    batch : files of each size that are then developed as one batch; 0: none.

    Yields
    ------
    For each size ``{"model", "engine", "device", "megapixels", "width", "height", "seconds": {stage: s},
    "total", "per_megapixel", "network_gflops", "peak_gflops", "peak_mb", "batch"}``. ``peak_gflops`` is what
    a large matrix product reaches in the precision of the engine, None for 8 bits. ``peak_mb`` is the largest
    memory of the process, in 10^6 bytes (None on Windows). ``batch`` is what `_measure_batch` returns.
    """
    with tempfile.TemporaryDirectory() as folder:
        raw, small = Path(folder) / "frame.dng", Path(folder) / "small.dng"
        _elsewhere(write_frame, small, 384, 256)
        for width, height in sorted(sizes, key=math.prod):
            _elsewhere(write_frame, raw, width, height)
            place = (model.folder, engine, device, tile)
            row = _elsewhere(_measure_frame, *place, small, raw, repeat)
            row["batch"] = _elsewhere(_measure_batch, *place, raw, batch) if batch else None
            yield row


def _measure_frame(
    folder: Path, engine: str, device: str, tile: int | None, small: Path, raw: Path, repeat: int
) -> dict[str, Any]:
    share_one_heap()
    opened = open_engine(find_model(str(folder)), engine, device)
    options = Options(overwrite=True, tile=tile)
    picture = raw.with_suffix(".jpg")
    develop(small, picture, opened, options)
    runs = [develop(raw, picture, opened, options) for _ in range(repeat)]
    memory = peak_memory()
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
        "peak_gflops": peak_gflops(opened),
        "peak_mb": memory,
    }


def _measure_batch(
    folder: Path, engine: str, device: str, tile: int | None, raw: Path, files: int
) -> dict[str, Any]:
    """One raw as ``files`` files: ``{"files", "wall", "files_per_second", "slowest", "ratio", "peak_mb",
    "grown_mb"}``.

    ``ratio`` is the wall clock over the seconds of the slowest of the three threads (1: all else is hidden
    behind it), ``grown_mb`` by how much the peak of the memory has grown since the tenth file.
    """
    share_one_heap()
    opened = open_engine(find_model(str(folder)), engine, device)
    jobs = [Job(raw, raw.parent / f"batch-{index}.jpg") for index in range(files)]
    threads: dict[str, float] = defaultdict(float)
    early = None
    started = time.perf_counter()
    for index, result in enumerate(develop_many(jobs, opened, Options(overwrite=True, tile=tile))):
        if result.error:
            raise EngineError(result.error)
        for stage, seconds in result.seconds.items():
            threads[THREADS.get(stage, "network and colour")] += seconds
        early = peak_memory() if index == TENTH - 1 else early
        Path(result.output).unlink()
    wall = time.perf_counter() - started
    slowest = max(threads, key=lambda thread: threads[thread])
    late = peak_memory()
    return {
        "files": files,
        "wall": round(wall, 3),
        "files_per_second": round(files / wall, 3),
        "slowest": slowest,
        "ratio": round(wall / threads[slowest], 3),
        "peak_mb": late,
        "grown_mb": None if early is None or late is None else round(late - early),
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


def peak_gflops(engine: Engine, repeat: int = 5) -> float | None:
    """The device's peak, as a large matrix product in the engine's precision reaches it, in 10^9 operations a
    second: NumPy's in float32 on the CPU, torch's on a GPU, in half precision on CUDA. None for 8 bits."""
    if engine.name == "onnx-int8":
        return None
    kind = engine.device.partition(":")[0]
    side = PRODUCT_SIDE[kind]
    if kind == "cpu":
        a, b = np.random.default_rng(0).random((2, side, side), np.float32)
        finished = None
    else:
        try:
            import torch
        except ImportError:
            return None
        half = torch.float16 if engine.name == "torch" and kind == "cuda" else torch.float32
        a, b = torch.rand(2, side, side, device=engine.device, dtype=half)
        finished = getattr(torch, kind).synchronize
    best = math.inf
    for _ in range(repeat):
        started = time.perf_counter()
        a @ b
        if finished:
            finished()
        best = min(best, time.perf_counter() - started)
    return round(2 * side**3 / best / 1e9, 1)


def _elsewhere(function: Callable[..., Returned], *arguments: Any) -> Returned:
    """Call it in a process of its own, whose memory is counted by itself."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def parse_sizes(text: str) -> list[tuple[int, int]]:
    """ "3,1511x1009" to widths and heights: megapixels, or pixels.

    Raises
    ------
    UsageError
        If a size is neither, or too small to be developed.
    """
    sizes = []
    for part in text.split(","):
        try:
            width, cross, height = part.strip().partition("x")
            sizes.append((int(width), int(height)) if cross else frame_size(float(part)))
        except (ValueError, OverflowError):
            sizes.append((0, 0))
        if min(sizes[-1]) < SMALLEST_SIDE:
            raise UsageError(f"size {part!r}: give megapixels or pixels, such as 3,12,1511x1009")
    return sizes


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

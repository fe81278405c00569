"""How fast this machine develops, and in how much memory: ``deepisp benchmark``."""

import math
import multiprocessing
import re
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

from deepisp_cli.batch import develop_many, reading_threads, share_one_heap
from deepisp_cli.dng import write_dng
from deepisp_cli.engine import PLACES, open_engine
from deepisp_cli.errors import EngineError, UsageError
from deepisp_cli.files import output_errors
from deepisp_cli.models import Model, find_model
from deepisp_cli.options import Options
from deepisp_cli.output import JPEG_MAX_SIDE
from deepisp_cli.peak import multiply_adds, peak_gflops
from deepisp_cli.pipeline import develop
from deepisp_cli.plan import Job

FRAME_RATIO = 1.5  # width to height
SMALLEST_SIDE = 64  # pixels
SETTLED_AFTER = 10  # files of a batch; from then on its memory should be flat
NETWORK = "network and colour"  # the thread of all stages not in `THREADS`
THREADS = {"read": "reading", "demosaic": "reading", "write": "writing"}  # stages in other threads
Returned = TypeVar("Returned")


def places(model: Model, engine: str, device: str) -> list[tuple[str, str]]:
    """The engine and device asked for; with the engine "all", each pair that opens here.

    Raises
    ------
    EngineError
        If what was named is not available, or nothing opens.
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
    """Develop computed frames, smallest first, each size in its own process.

    Parameters
    ----------
    model : `deepisp_cli.models.Model`
    engine, device : as for `deepisp_cli.engine.open_engine`.
    sizes : (width, height) in pixels.
    repeat : runs of each size, after one on a small frame to warm up; the medians are reported.
    tile : side of a tile in pixels; None: what suits the engine.
    batch : files of each size that are then developed as one batch; 0: none.

    Yields
    ------
    For each size ``{"model", "engine", "device", "megapixels", "width", "height", "seconds": {stage: s},
    "total", "per_megapixel", "network_gflops", "peak_gflops", "peak_mb", "batch"}``. ``peak_gflops`` is what
    `deepisp_cli.peak.peak_gflops` returns. ``peak_mb`` is the process's peak memory in 10^6 bytes (None on
    Windows). ``batch`` is what `_measure_batch` returns.
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
    opened = open_engine(find_model(folder), engine, device)
    options = Options(overwrite=True, tile=tile)
    picture = raw.with_suffix(".jpg")
    develop(small, picture, opened, options)
    runs = [develop(raw, picture, opened, options) for _ in range(repeat)]
    memory = peak_memory()
    width, height = runs[0].width or 0, runs[0].height or 0
    seconds = {stage: statistics.median(run.seconds[stage] for run in runs) for stage in runs[0].seconds}
    total = statistics.median(sum(run.seconds.values()) for run in runs)
    operations = 2 * multiply_adds(opened.model.card["architecture"]) * width * height
    return {
        "model": opened.model.name,
        "engine": opened.name,
        "device": opened.device,
        "megapixels": round(width * height / 1e6, 2),
        "width": width,
        "height": height,
        "seconds": {stage: round(spent, 3) for stage, spent in seconds.items()},
        "total": round(total, 3),
        "per_megapixel": round(total / (width * height / 1e6), 3),
        "network_gflops": round(operations / seconds["network"] / 1e9, 1),
        "peak_gflops": peak_gflops(opened),
        "peak_mb": memory,
    }


def _measure_batch(
    folder: Path, engine: str, device: str, tile: int | None, raw: Path, files: int
) -> dict[str, Any]:
    """Develop one raw ``files`` times: ``{"files", "wall", "files_per_second", "slowest", "ratio", "peak_mb",
    "grown_mb"}``.

    ``ratio`` is wall-clock seconds over those of the slowest of the three kinds of threads, per thread (1:
    all else is hidden behind it); ``grown_mb`` is how much peak memory has grown since the tenth file.
    """
    share_one_heap()
    opened = open_engine(find_model(folder), engine, device)
    jobs = [Job(raw, raw.parent / f"batch-{index}.jpg") for index in range(files)]
    threads: dict[str, float] = defaultdict(float)
    early = None
    started = time.perf_counter()
    for index, result in enumerate(develop_many(jobs, opened, Options(overwrite=True, tile=tile))):
        if result.error:
            raise EngineError(result.error)
        for stage, seconds in result.seconds.items():
            thread = NETWORK if opened.resident and stage == "demosaic" else THREADS.get(stage, NETWORK)
            # threads of one kind share the files
            threads[thread] += seconds / (opened.lanes if thread == NETWORK else reading_threads([opened]))
        early = peak_memory() if index == SETTLED_AFTER - 1 else early
        Path(str(result.output)).unlink()
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
        "grown_mb": None if early is None or late is None else max(0, round(late - early)),  # may be rough
    }


def _elsewhere(function: Callable[..., Returned], *arguments: Any) -> Returned:
    """Call it in a new process, so that its memory is counted separately."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except KeyboardInterrupt:  # a signal for this process alone
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def parse_sizes(text: str) -> list[tuple[int, int]]:
    """Parse sizes in megapixels or pixels, such as "3,1511x1009", to widths and heights.

    Raises
    ------
    UsageError
        If a size is neither, or too small or too large to be developed.
    """
    sizes = []
    for part in text.split(","):
        try:
            width, cross, height = part.strip().partition("x")
            sizes.append((int(width), int(height)) if cross else frame_size(float(part)))
        except (ValueError, OverflowError):
            sizes.append((0, 0))
        if not SMALLEST_SIDE <= min(sizes[-1]) <= max(sizes[-1]) <= JPEG_MAX_SIDE:
            sides = f"with sides of {SMALLEST_SIDE} to {JPEG_MAX_SIDE} pixels"
            raise UsageError(f"size {part!r}: give megapixels or pixels, such as 3,12,1511x1009, {sides}")
    return sizes


def frame_size(megapixels: float) -> tuple[int, int]:
    """Width and height in pixels of a frame of ``megapixels``."""
    height = max(2, round(math.sqrt(megapixels * 1e6 / FRAME_RATIO)))
    return max(2, round(megapixels * 1e6 / height)), height


def write_frame(path: Path, width: int, height: int) -> None:
    """Write a dark, noisy frame of smooth waves as a DNG."""
    rng = np.random.default_rng(0)
    rows = np.sin(np.linspace(0, 40, height, dtype=np.float32))[:, None]
    scene = 0.1 + 0.08 * rows * np.cos(np.linspace(0, 60, width, dtype=np.float32))
    scene += 0.02 * rng.standard_normal(scene.shape, np.float32)
    black, white = 512, 16383
    counts = np.clip(scene * (white - black) + black, 0, white).astype(np.uint16)
    with output_errors(path):
        write_dng(path, counts, pattern="RGGB", black=black, white=white, white_balance=(2.0, 1.0, 1.5))


def peak_memory() -> float | None:
    """The peak memory of this process so far, in 10^6 bytes; None on Windows."""
    if sys.platform == "win32":
        return None
    if sys.platform == "linux":  # where ru_maxrss begins with that of the process that started this one
        with suppress(OSError):
            if found := re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE):
                return round(int(found[1]) * 1024 / 1e6)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)

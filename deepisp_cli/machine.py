"""The cores and memory that this process may use, also in a container that limits them; work on all cores."""

import ctypes
import math
import os
import platform
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

MOST_THREADS = 8
BLOCK_ROWS = 16  # rows of a frame processed at a time, an even number: temporaries stay in the cache
Item = TypeVar("Item")
Returned = TypeVar("Returned")

CGROUP = Path("/sys/fs/cgroup")  # Linux: the limits of the container, of version 2 or, in folders, 1


def available_cores() -> int:
    """Processor cores that this process may use; no more than OMP_NUM_THREADS, if that is set."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if wanted.isdecimal() and int(wanted):
        cores = min(cores, int(wanted))
    newer, older = _numbers("cpu.max", 2), (_number("cpu/cpu.cfs_quota_us"), _number("cpu/cpu.cfs_period_us"))
    for quota, period in (newer, older):
        if quota < math.inf and 0 < period < math.inf:
            cores = min(cores, math.ceil(quota / period))
    return max(1, cores)


def processor() -> str:
    """Its name, as far as the system tells."""
    with suppress(OSError, UnicodeDecodeError):  # Linux, where Python knows little more than "x86_64"
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def on_all_cores(work: Callable[[Item], Returned], items: Iterable[Item]) -> list[Returned]:
    """What ``work`` returns for each item, several in threads at a time: NumPy and Pillow release the GIL."""
    with ThreadPoolExecutor(min(available_cores(), MOST_THREADS)) as pool:
        return list(pool.map(work, items))


def by_rows(function: Callable[[Any], Any], frame: Any) -> None:
    """Replace ``frame`` with ``function`` of it, one block of rows at a time.

    Parameters
    ----------
    function : takes and returns an array (rows, ...).
    frame : (H, ...).
    """

    def fill(rows: slice) -> None:
        frame[rows] = function(frame[rows])

    on_blocks(fill, len(frame))


def on_blocks(work: Callable[[slice], None], height: int, rows: int = BLOCK_ROWS) -> None:
    """Call ``work`` with each block of ``rows`` rows, the last of which may be lower."""
    on_all_cores(work, (slice(top, min(top + rows, height)) for top in range(0, height, rows)))


def total_memory() -> float:
    """Bytes of memory that this process may use; infinite where unknown."""
    memory = math.inf
    if sys.platform == "win32":
        kilobytes = ctypes.c_ulonglong()
        if ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes)):
            memory = kilobytes.value * 1024
    else:
        with suppress(AttributeError, ValueError, OSError):
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(memory, _number("memory.max"), _number("memory/memory.limit_in_bytes"))


def _numbers(name: str, count: int) -> list[float]:
    """The numbers in a cgroup file; infinite where it is missing or says "max"."""
    words = []
    with suppress(OSError, UnicodeDecodeError):
        words = (CGROUP / name).read_text().split()
    if len(words) != count:
        return [math.inf] * count
    return [float(word) if word.isdigit() else math.inf for word in words]


def _number(name: str) -> float:
    """The one number in a cgroup file, likewise."""
    return _numbers(name, 1)[0]

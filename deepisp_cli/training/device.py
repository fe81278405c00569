"""The device that training runs on, and what to do if it is too small."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from deepisp_cli.errors import EngineError, first_line


def open_device(name: str) -> torch.device:
    """The device called "auto", "cpu", "cuda" or "cuda:N", after a trial computation on it.

    Raises
    ------
    EngineError
        If it cannot be used.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.partition(":")[0] == "mps":
        raise EngineError("device mps: training takes 64-bit numbers, which Metal lacks; use cpu or cuda")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name, re.ASCII):
        raise EngineError(f"unknown device {name!r}; known: auto, cpu, cuda, cuda:N")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).add_(1)
    except (RuntimeError, AssertionError) as error:
        raise EngineError(f"device {name!r} cannot be used: {first_line(error)}") from error
    return device


@contextmanager
def memory_told(config: Path) -> Iterator[None]:
    """Turn a lack of memory, for which torch has an error of its own on GPUs alone, into an `EngineError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not re.search("out of memory|allocate memory", str(error)):
            raise
        raise EngineError(
            f"{config}: not enough memory; smaller batches or crops, a narrower network, or fewer photographs"
            " and a smaller longest_side need less"
        ) from error

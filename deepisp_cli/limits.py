"""What a batch may use: memory, which threads share, and disks, which fill up."""

import math
import os
from contextlib import suppress
from pathlib import Path
from threading import Condition, Event

from deepisp_cli.errors import DiskFullError
from deepisp_cli.files import disk_space

WAIT = 0.1  # seconds between a waiting thread's checks whether the batch has ended
FREED = 1 << 20  # bytes more than before: less comes and goes by itself


class Stopped(BaseException):
    """The batch has ended: a thread drops its picture. Not an Exception, so that nothing handles it."""


class Memory:
    """A budget of bytes that threads share; one that asks for more than is left waits.

    While nothing is taken any request is granted, so that a picture larger than the limit is developed by
    itself.
    """

    def __init__(self, limit: float) -> None:
        self.limit, self.taken = limit, 0
        self.given_back = Condition()

    def take(self, size: int, stop: Event) -> None:
        """Wait until ``size`` bytes fit; give up once ``stop`` is set."""
        with self.given_back:
            while self.taken and self.taken + size > self.limit:
                if stop.is_set():
                    raise Stopped
                self.given_back.wait(WAIT)
            self.taken += size

    def give(self, size: int) -> None:
        with self.given_back:
            self.taken -= size
            self.given_back.notify_all()


class Disks:
    """Which disks were full: pictures for them need not be developed until somebody frees space."""

    def __init__(self) -> None:
        # by number: free bytes when a picture was too large, and the bytes of the smallest such raw
        self.full: dict[int, tuple[float, float]] = {}

    def check(self, source: Path | str, target: Path) -> None:
        """Raise `DiskFullError` if the disk was full for the picture of a raw that was no larger, and nobody
        has freed any space since."""
        with suppress(OSError):
            disk, free = disk_space(target)
            before, size = self.full.get(disk, (-math.inf, 0))
            if free < before + FREED and os.path.getsize(source) >= size:
                raise DiskFullError(
                    f"{target}: its disk is full, as for a picture before; free some space, then develop the"
                    " rest"
                )

    def note_full(self, source: Path | str, target: Path) -> None:
        """Remember that a picture did not fit."""
        with suppress(OSError):
            disk, free = disk_space(target)
            before, size = self.full.get(disk, (-math.inf, math.inf))
            self.full[disk] = max(free, before), min(os.path.getsize(source), size)

"""Many files: the next one is read and the last one written while the network works on this one."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Full, Queue

from deepisp_cli.engine import Engine
from deepisp_cli.errors import DeepIspError, OutputError
from deepisp_cli.pipeline import STANDARD_STREAM, Frame, Options, Result, finish, prepare, write
from deepisp_cli.plan import Job


@dataclass
class Report:
    """Counts results and decides the exit code."""

    results: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        self.results.append(result)

    def count(self, status: str) -> int:
        return sum(result.status == status for result in self.results)

    @property
    def exit_code(self) -> int:
        """0: nothing failed; the error's own code if the only input failed; else 1."""
        failed = [result.exit_code for result in self.results if result.status == "failed"]
        if not failed:
            return 0
        return failed[0] if len(self.results) == 1 else 1

    def __str__(self) -> str:
        kinds = ("written", "skipped", "failed", "planned")
        return (
            ", ".join(f"{self.count(kind)} {kind}" for kind in kinds if self.count(kind)) or "nothing to do"
        )


def develop_many(
    jobs: Sequence[Job],
    engine: Engine,
    options: Options,
    progress: Callable[[int, float], None] | None = None,
) -> Iterator[Result]:
    """Develop ``jobs``; yields one `Result` for each, in order, failures included.

    Reading and writing run in a thread each. One picture is read ahead and one waits to be written, so that
    memory does not grow with the number of files. When the caller stops early or is interrupted, the picture
    being written is completed and no other is begun.

    Parameters
    ----------
    progress : called with the index of the job and the share of its network time that is done.
    """
    stop = threading.Event()
    ahead = threading.Semaphore(1)  # taken before a file is read: a frame is 300 MB at 24 megapixels
    prepared: Queue = Queue()
    finished: Queue = Queue(1)
    written: Queue = Queue()
    reader = threading.Thread(target=_read_all, args=(jobs, options, prepared, ahead, stop), daemon=True)
    writer = threading.Thread(target=_write_all, args=(finished, written, options, stop), daemon=True)
    reader.start()
    writer.start()
    try:
        for index in range(len(jobs)):
            result, frame, job = prepared.get()
            ahead.release()
            pixels, metadata = None, None
            if frame is not None:
                metadata = frame.metadata
                report = (lambda share, index=index: progress(index, share)) if progress else None
                with _caught(result):
                    pixels = finish(frame, engine, options, result, report)
                del frame
            _put(finished, (result, pixels, metadata, job), stop)
            del pixels
            while not written.empty():
                yield written.get()
        _put(finished, None, stop)
        writer.join()
        while not written.empty():
            yield written.get()
    finally:
        stop.set()
        ahead.release()
        writer.join()


def _read_all(
    jobs: Sequence[Job],
    options: Options,
    prepared: Queue,
    ahead: threading.Semaphore,
    stop: threading.Event,
) -> None:
    for job in jobs:
        ahead.acquire()
        if stop.is_set():
            return
        result = Result(str(job.source), str(job.target))
        frame: Frame | None = None
        if job.skip:
            result.status = "skipped"
        else:
            with _caught(result):
                if job.error:
                    raise job.error
                frame = prepare(job.source, options, result)
        prepared.put((result, frame, job))
        del frame


def _write_all(finished: Queue, written: Queue, options: Options, stop: threading.Event) -> None:
    while True:
        try:
            item = finished.get(timeout=0.1)
        except Empty:
            item = ()
        if item is None or stop.is_set():
            return
        if not item:
            continue
        result, pixels, metadata, job = item
        if pixels is not None:
            with _caught(result):
                if job.target != STANDARD_STREAM:
                    _make_parent(Path(job.target))
                write(pixels, metadata, job.target, options, result)
        written.put(result)
        del item, pixels


def _put(queue: Queue, item: object, stop: threading.Event) -> None:
    """Put, but give up when the batch stops."""
    while not stop.is_set():
        try:
            return queue.put(item, timeout=0.1)
        except Full:
            continue


def _make_parent(target: Path) -> None:
    try:
        os.makedirs(target.parent, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{target.parent}: cannot be created ({error.strerror}); choose another -o"
        ) from error


@contextmanager
def _caught(result: Result) -> Iterator[None]:
    """Turn an exception into the failure of one result: a batch goes on after a bad file."""
    try:
        yield
    except DeepIspError as error:
        result.error, result.exit_code = str(error), error.exit_code
    except MemoryError:
        result.error, result.exit_code = f"{result.input}: not enough memory; try --tile 256", 4
    except Exception as error:
        result.error, result.exit_code = f"{result.input}: bug, please report it: {error!r}", 1
    if result.error:
        result.status = "failed"

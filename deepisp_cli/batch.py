"""Develop many files: the next are read and the last written while the network works."""

import ctypes
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Real
from pathlib import Path
from queue import Empty, Full, Queue, SimpleQueue
from threading import Event, Semaphore, Thread, current_thread
from typing import TypeVar

import numpy as np

from deepisp_cli.engine import Engine, as_engine
from deepisp_cli.errors import (
    DeepIspError,
    DiskFullError,
    EngineError,
    OutputExistsError,
    UsageError,
    check_path,
    joint_exit_code,
    told_of,
)
from deepisp_cli.files import STANDARD_STREAM, check_target, is_device
from deepisp_cli.frame import Frame, Result
from deepisp_cli.limits import WAIT, Disks, Memory, Stopped
from deepisp_cli.machine import available_cores, total_memory
from deepisp_cli.metadata import Metadata
from deepisp_cli.models import Model
from deepisp_cli.options import Options
from deepisp_cli.pipeline import as_options, finish, frame_bytes, load, to_frame, with_format, write
from deepisp_cli.plan import Job
from deepisp_cli.reading import read_bytes
from deepisp_cli.restored import RestoredRaw

PIPE_PATIENCE = 1.0  # seconds that a batch, when it ends, waits for one that reads or writes a pipe
M_ARENA_MAX = -8  # glibc's malloc.h
Item = TypeVar("Item")


@dataclass
class Report:
    """Counts results and decides the exit code. As text: "2 written, 1 failed".

    Attributes
    ----------
    results : list of Result
        In the order in which they were added.
    """

    results: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Append a result."""
        self.results.append(result)

    def count(self, status: str) -> int:
        """The number of results with this `Result.status`."""
        return sum(result.status == status for result in self.results)

    @property
    def exit_code(self) -> int:
        """See `joint_exit_code`."""
        return joint_exit_code([result.exit_code for result in self.results])

    def __str__(self) -> str:
        kinds = ("written", "skipped", "failed", "planned")
        return (
            ", ".join(f"{self.count(kind)} {kind}" for kind in kinds if self.count(kind)) or "nothing to do"
        )


def develop_many(
    jobs: Iterable[Job],
    engines: Engine | Model | str | os.PathLike[str] | Sequence[Engine],
    options: Options | None = None,
    progress: Callable[[int, float], None] | None = None,
    memory: float | None = None,
) -> Generator[Result, None, None]:
    """Develop ``jobs``; yields one `Result` for each, in order, failures included.

    A generator: nothing is developed before the first result is asked for. Each engine works on its own
    picture in its own thread; enough other threads read and write to keep the engines busy. If the caller
    stops early or is interrupted, pictures being written are completed and no others are started.

    Parameters
    ----------
    jobs : the first of the two that `plan_jobs` returns.
    engines : one, or one per device; whichever is free takes the next picture, with the same result. Or a
        model or its name, as `develop` takes it.
    options : as for `develop`; without a format each picture has the one that its name implies.
    progress : called with a job's index and the completed share of its network time.
    memory : bytes that all pictures being developed may take, by default half of the machine's; one picture
        is always allowed, and each reading thread holds a raw file besides.

    Raises
    ------
    EngineError
        If there is no engine, or one fails as a whole.
    ModelError
        If there is no such model, or it is damaged.
    UsageError
        If an argument is of another kind than stated. What is wrong with a file is in its `Result`.
    """
    if isinstance(engines, str) or not isinstance(engines, Sequence):
        engines = [as_engine(engines)]
    engines = [as_engine(engine) for engine in engines]
    options = as_options(options)
    if not engines:
        raise EngineError('no engine to develop with; give open_engine("deepisp")')
    if memory is not None and not (isinstance(memory, Real) and memory > 0):
        raise UsageError(f"memory is above 0 bytes, got {memory!r}")
    jobs = list(jobs) if isinstance(jobs, Iterable) else [jobs]
    if not all(isinstance(job, Job) for job in jobs):
        raise UsageError("jobs are what plan_jobs returns first: jobs, format = plan_jobs(...)")
    contents = b""
    piped = [job for job in jobs if job.source == STANDARD_STREAM and not (job.skip or job.error)]
    if piped:
        # in the caller's thread: Ctrl-C would not reach another that waits for input
        try:
            with told_of(STANDARD_STREAM):
                contents = read_bytes(STANDARD_STREAM)
        except DeepIspError as error:
            jobs = [replace(job, error=error) if job in piped else job for job in jobs]
    batch = _Batch(jobs, engines, options, memory, contents)
    done: dict[int, Result] = {}
    try:
        with told_of("the batch"):
            batch.start()
        for index in range(len(jobs)):
            while index not in done:
                event = batch.next_event()
                if isinstance(event, tuple):
                    if progress:
                        progress(*event)
                elif isinstance(event, BaseException):
                    raise event
                else:
                    done[event.index] = event.result
            yield done.pop(index)
    finally:
        batch.close()


@dataclass
class _Work:
    """A job in progress."""

    index: int
    job: Job
    result: Result
    options: Options
    size: int = 0  # bytes of `Memory` taken for it
    frame: Frame | None = None
    pixels: np.ndarray | RestoredRaw | None = None
    metadata: Metadata | None = None


_Share = tuple[int, float]  # a job's index, and the completed share of its network time


class _Batch:
    """The threads, and the queues between them: to read, to develop, to write, events.

    A frame is 300 MB at 24 megapixels, so no more files are ahead of the engines than there are readers, and
    no more wait to be written than there are writers.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        engines: Sequence[Engine],
        options: Options,
        memory: float | None,
        contents: bytes,
    ) -> None:
        self.options = options
        self.contents = contents  # from standard input
        self.resident = all(engine.resident for engine in engines)
        workers = reading_threads(engines)
        self.machine = total_memory()
        self.memory = Memory(memory or self.machine / 2)
        self.ahead = Semaphore(workers)
        self.stop = Event()
        self.at_pipes: set[Thread] = set()
        self.disks = Disks()
        self.todo: SimpleQueue[_Work] = SimpleQueue()
        self.prepared: SimpleQueue[_Work | None] = SimpleQueue()
        self.finished: Queue[_Work | None] = Queue(workers)
        self.events: SimpleQueue[_Work | _Share | BaseException] = SimpleQueue()
        for index, job in enumerate(jobs):
            self.todo.put(_Work(index, job, job.result(), options))
        calls: list[Callable[[], None]] = [self._read, self._write] * workers
        calls += [partial(self._develop, engine) for engine in engines for _ in range(engine.lanes)]
        self.threads = [Thread(target=self._run, args=(call,), daemon=True) for call in calls]

    def start(self) -> None:
        """If a thread cannot be started, `close` ends the others."""
        for thread in self.threads:
            thread.start()

    def next_event(self) -> _Work | _Share | BaseException:
        """A finished job, a share of one, or the exception that ended a thread."""
        while True:
            with suppress(Empty):
                return self.events.get(timeout=WAIT)  # in between, Python checks for Ctrl-C

    def close(self) -> None:
        self.stop.set()
        for _ in self.threads:  # wake those that wait for work: for one small file WAIT is long
            self.prepared.put(None)
            with suppress(Full):
                self.finished.put_nowait(None)
        for thread in self.threads:
            while thread.is_alive() and thread not in self.at_pipes:
                thread.join(WAIT)
        for thread in self.at_pipes.copy():
            thread.join(PIPE_PATIENCE)

    @contextmanager
    def _at_pipe(self, path: Path | str) -> Iterator[None]:
        """While a thread reads or writes there: at the other end of a pipe nobody may be."""
        thread = current_thread()
        if path == STANDARD_STREAM or is_device(Path(path)):
            self.at_pipes.add(thread)
        try:
            yield
        finally:
            self.at_pipes.discard(thread)

    def _run(self, call: Callable[[], None]) -> None:
        """The body of a thread: an exception in it ends the batch, unless that has ended already."""
        try:
            call()
        except BaseException as error:
            self.events.put(error)

    def _read(self) -> None:
        while not self.stop.is_set():
            if not self.ahead.acquire(timeout=WAIT):
                continue
            try:
                work = self.todo.get_nowait()
            except Empty:
                return
            if work.result.status == "planned":
                with self._caught(work):
                    self._prepare(work)
            if work.frame is None:
                self.ahead.release()
                self._done(work)
            else:
                self.prepared.put(work)
            del work  # its frame must not stay alive until the next file arrives

    def _prepare(self, work: _Work) -> None:
        for path in (work.job.source, work.job.target):
            check_path(path)
        if not work.job.target:
            raise UsageError(f"{work.job.source}: its job has no target; plan_jobs gives one")
        if work.job.target != STANDARD_STREAM:
            # another run may have written it since this one was planned
            check_target(Path(work.job.target), self.options.overwrite, work.job.source)
            self.disks.check(work.job.source, Path(work.job.target))
        work.options = with_format(self.options, work.job.target)  # tells before the work what cannot be
        contents = self.contents if work.job.source == STANDARD_STREAM else None
        with self._at_pipe(work.job.source):
            raw, work.metadata = load(work.job.source, work.result, contents)
        size = frame_bytes(raw, work.options)
        if size > self.machine:
            raise EngineError(
                f"it needs {size / 1e9:.1f} GB of memory, there are {self.machine / 1e9:.1f}; develop it"
                " on a larger machine"
            )
        self.memory.take(size, self.stop)
        work.size = size
        work.frame = to_frame(raw, work.options, work.result, self.resident)

    def _develop(self, engine: Engine) -> None:
        with engine.lane():
            for work in self._each(self.prepared.get):
                self.ahead.release()
                frame, work.frame = work.frame, None
                assert frame is not None
                with self._caught(work):
                    report = partial(self._report, work.index)
                    work.pixels = finish(frame, engine, work.options, work.result, report)
                del frame
                if work.pixels is None:
                    self._done(work)
                else:
                    self._put_finished(work)
                del work

    def _report(self, index: int, share: float) -> None:
        if self.stop.is_set():
            raise Stopped
        self.events.put((index, share))

    def _put_finished(self, work: _Work) -> None:
        while not self.stop.is_set():
            with suppress(Full):
                return self.finished.put(work, timeout=WAIT)

    def _write(self) -> None:
        for work in self._each(self.finished.get):
            assert work.pixels is not None and work.metadata is not None
            with self._caught(work), self._at_pipe(work.job.target):
                write(work.pixels, work.metadata, work.job.target, work.options, work.result)
            work.pixels = None
            self._done(work)
            del work

    def _done(self, work: _Work) -> None:
        self.memory.give(work.size)
        self.events.put(work)

    def _each(self, get: Callable[..., Item | None]) -> Iterator[Item]:
        """Items from a queue until the batch ends."""
        while not self.stop.is_set():
            try:
                item = get(timeout=WAIT)
            except Empty:
                continue
            if item is not None:
                yield item

    @contextmanager
    def _caught(self, work: _Work) -> Iterator[None]:
        """Turn an exception into one failed result: a batch continues after a bad file."""
        try:
            with told_of(work.result.input):
                yield
        except DeepIspError as error:
            if isinstance(error, OutputExistsError) and work.job.skip_existing:
                work.result.status = "skipped"
            else:
                work.result.fail(error)
            if isinstance(error, DiskFullError):
                self.disks.note_full(work.job.source, Path(work.job.target))


def reading_threads(engines: Sequence[Engine]) -> int:
    """The number of reading threads, and of writing ones: a network on the CPU keeps all cores busy; one
    elsewhere has to be fed by them."""
    return 1 if all(engine.device == "cpu" for engine in engines) else max(1, available_cores() // 2)


def share_one_heap() -> None:
    """Let all threads allocate from one heap: with glibc's heap per thread, each keeps 100 MB of freed tiles.

    For programs, before their threads start: it changes the whole process.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)

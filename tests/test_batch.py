"""Many files: overlap, order, failures, interruption."""

import errno
import gc
import os
import re
import threading
import tracemalloc
import weakref
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import IdentityEngine

from deepisp_cli import batch, files, limits, output, restored
from deepisp_cli.batch import Report, develop_many
from deepisp_cli.dng import write_dng
from deepisp_cli.errors import EngineError, OutputError, UnsupportedRawError, UsageError
from deepisp_cli.frame import Result
from deepisp_cli.limits import Memory, Stopped
from deepisp_cli.options import Options
from deepisp_cli.pipeline import frame_bytes
from deepisp_cli.plan import Job
from deepisp_cli.raw import read_raw

NEUTRAL = Options(look="neutral")


@pytest.fixture
def raws(write_raw, grey_ramp):
    return [write_raw(f"in/{index}.dng", grey_ramp * (0.5 + index / 10)) for index in range(5)]


def jobs_for(raws, folder):
    return [Job(path, folder / f"{path.stem}.jpg") for path in raws]


def test_all_are_written_in_order(raws, tmp_path, identity_engine):
    results = list(develop_many(jobs_for(raws, tmp_path / "out"), identity_engine, NEUTRAL))
    assert [result.input for result in results] == [str(path) for path in raws]
    assert {result.status for result in results} == {"written"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{i}.jpg" for i in range(5)]


def test_an_engine_that_is_not_resident_gets_pictures_beside_one_that_is(raws, tmp_path, monkeypatch):
    """`--device cuda,cpu`: whichever takes a file has to find its picture."""
    found = []

    def finish(frame, engine, options, result, progress=None):
        found.append(frame.picture is not None)
        return original(frame, engine, options, result, progress)

    original = batch.finish
    monkeypatch.setattr(batch, "finish", finish)
    engines = [IdentityEngine(), IdentityEngine()]
    engines[0].resident = True
    results = list(develop_many(jobs_for(raws, tmp_path / "out"), engines, NEUTRAL))
    assert {result.status for result in results} == {"written"}
    assert found == [True] * 5


def test_a_picture_that_is_written_is_forgotten(raws, tmp_path, monkeypatch):
    """Memory is bounded: of a thousand files only a few are in it."""
    finished, alive = [], []

    def finish(frame, engine, options, result, progress=None):
        alive.append(sum(reference() is not None for reference in finished))
        pixels = original(frame, engine, options, result, progress)
        finished.append(weakref.ref(pixels))
        return pixels

    original = batch.finish
    monkeypatch.setattr(batch, "finish", finish)
    monkeypatch.setattr(batch, "reading_threads", lambda engines: 1)
    results = develop_many(jobs_for(raws * 3, tmp_path / "out"), IdentityEngine(), Options(overwrite=True))
    assert len(list(results)) == 15
    gc.collect()
    assert max(alive) <= 4 and not any(reference() is not None for reference in finished)


def test_pictures_in_progress_may_take_half_of_the_memory(raws, tmp_path, identity_engine, monkeypatch):
    limits = []

    class Recorded(Memory):
        def __init__(self, limit):
            super().__init__(limit)
            limits.append(limit)

    monkeypatch.setattr(batch, "Memory", Recorded)
    monkeypatch.setattr(batch, "total_memory", lambda: 8e9)
    for memory in (None, 5e9):
        list(
            develop_many(jobs_for(raws[:1], tmp_path / str(memory)), identity_engine, NEUTRAL, memory=memory)
        )
    assert limits == [4e9, 5e9]


def test_bad_files_are_named_and_the_rest_go_on(raws, tmp_path, identity_engine):
    damaged = tmp_path / "in" / "damaged.dng"
    damaged.write_bytes(raws[0].read_bytes()[:2000])
    foreign = tmp_path / "in" / "foreign.dng"
    foreign.write_bytes(b"hello")
    odd = Job(raws[0], "", error=UnsupportedRawError("odd.raf: an X-Trans mosaic"))
    jobs = [*jobs_for([raws[0], damaged, foreign, raws[1]], tmp_path / "out"), odd]
    report = Report(list(develop_many(jobs, identity_engine, NEUTRAL)))
    assert [result.status for result in report.results] == [
        "written",
        "failed",
        "failed",
        "written",
        "failed",
    ]
    for result, name in zip(report.results[1:3], ("damaged.dng", "foreign.dng"), strict=True):
        assert name in result.error
    assert report.exit_code == 1
    assert str(report) == "2 written, 3 failed"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.jpg", "1.jpg"]


def test_an_engine_that_fails_fails_its_file_only(raws, tmp_path):
    class Moody(IdentityEngine):
        calls = 0

        def run(self, tile):
            self.calls += 1
            if self.calls == 1:
                raise EngineError("moody")
            if self.calls == 2:
                raise ZeroDivisionError
            if self.calls == 3:
                raise MemoryError
            return super().run(tile)

    jobs = jobs_for(raws, tmp_path / "out")
    engine = Moody(cell=64)
    results = list(develop_many(jobs, engine, Options(look="neutral", tile=64)))
    assert [result.exit_code for result in results] == [4, 1, 4, 0, 0]
    assert results[0].error == f"{jobs[0].source}: moody"
    assert "bug" in results[1].error
    assert "--tile" in results[2].error


def test_reading_goes_on_while_the_network_works(raws, tmp_path, monkeypatch):
    """The second file is read before the first one's network is done."""
    jobs = jobs_for(raws[:2], tmp_path / "out")
    second_read = threading.Event()
    original, was_read = batch.load, []

    class Waiting(IdentityEngine):
        def run(self, tile):
            was_read.append(second_read.wait(20))  # asserted below: an error here would only fail the file
            return super().run(tile)

    def load(source, result, contents=b""):
        if source == jobs[1].source:
            second_read.set()
        return original(source, result, contents)

    monkeypatch.setattr(batch, "load", load)
    results = list(develop_many(jobs, Waiting(), NEUTRAL))
    assert [result.status for result in results] == ["written"] * 2
    assert was_read == [True] * 2


def test_the_end_wakes_threads_that_wait(raws, tmp_path, identity_engine, monkeypatch):
    """They check for the end only now and then; a single small file must not take that long."""
    monkeypatch.setattr(batch, "WAIT", 3600)
    jobs = jobs_for(raws, tmp_path / "out")
    thread = threading.Thread(target=lambda: list(develop_many(jobs, identity_engine, NEUTRAL)), daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert len(list((tmp_path / "out").iterdir())) == len(raws)


def test_queues_are_bounded(raws, tmp_path, monkeypatch):
    """While the network holds one file, at most one other is read ahead, however many wait."""
    original, read, most = batch.load, [], []
    third_read = threading.Event()

    class Slow(IdentityEngine):
        def run(self, tile):
            if not most:
                third_read.wait(0.5)  # times out
            most.append(len(read))
            return super().run(tile)

    def load(source, result, contents=b""):
        read.append(source)
        if len(read) == 3:
            third_read.set()
        return original(source, result, contents)

    monkeypatch.setattr(batch, "load", load)
    results = list(develop_many(jobs_for(raws, tmp_path / "out"), Slow(cell=64), NEUTRAL))
    assert {result.status for result in results} == {"written"}
    assert len(most) >= len(raws)
    assert all(count <= index + 2 for index, count in enumerate(most))


def test_threads_that_cannot_be_started_end_the_others(raws, tmp_path, identity_engine, monkeypatch):
    started = []

    def start(thread):
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        return threading.Thread.start(thread)

    monkeypatch.setattr(batch, "Thread", type("Limited", (threading.Thread,), {"start": start}))
    with pytest.raises(EngineError, match="not enough memory"):
        next(develop_many(jobs_for(raws, tmp_path / "out"), identity_engine))
    assert len(started) == 2 and not any(thread.is_alive() for thread in started)
    assert not (tmp_path / "out").exists()


def test_an_interrupt_leaves_whole_files_only(raws, tmp_path):
    class Interrupted(IdentityEngine):
        calls = 0

        def run(self, tile):
            self.calls += 1
            if self.calls == 3:
                raise KeyboardInterrupt
            return super().run(tile)

    engine = Interrupted(cell=64)
    done = []
    with pytest.raises(KeyboardInterrupt):
        for result in develop_many(jobs_for(raws, tmp_path / "out"), engine, NEUTRAL):
            done.append(result)
    from PIL import Image

    for path in (tmp_path / "out").iterdir():
        assert path.suffix == ".jpg"
        with Image.open(path) as picture:
            assert np.asarray(picture).shape == (48, 64, 3)
    assert len(list((tmp_path / "out").iterdir())) <= 2


def test_a_thread_that_ends_ends_the_batch(raws, tmp_path):
    """A lane may fail to open: on a GPU that is lost, or full."""

    class Lost(IdentityEngine):
        def lane(self):
            raise EngineError("the device is lost")

    with pytest.raises(EngineError, match="lost"):
        list(develop_many(jobs_for(raws, tmp_path / "out"), Lost(), NEUTRAL))
    with pytest.raises(EngineError, match="no engine"):
        list(develop_many(jobs_for(raws, tmp_path / "out"), [], NEUTRAL))


def test_engine_and_options_are_given_as_to_develop(raws, tmp_path, tiny_model):
    jobs = [Job(raws[0], tmp_path / "out" / "a.png"), Job(raws[1], tmp_path / "out" / "b.jpg")]
    results = list(develop_many(jobs, str(tiny_model.folder)))
    assert [(result.status, result.model) for result in results] == [("written", "tiny")] * 2
    assert (tmp_path / "out" / "a.png").read_bytes().startswith(b"\x89PNG")


def test_arguments_of_other_kinds_are_told(raws, tmp_path, identity_engine):
    jobs = jobs_for(raws, tmp_path / "out")
    for wrong, words in (
        ((jobs, None), "not an engine"),
        ((jobs, [identity_engine, None]), "not an engine"),
        ((jobs, identity_engine, {"exposure": 1}), "not an Options"),
        (((jobs, "jpeg"), identity_engine), "jobs, format = plan_jobs"),
        ((raws, identity_engine), "what plan_jobs returns"),
        ((jobs, identity_engine, None, None, 0), "memory is above 0 bytes"),
        ((jobs, identity_engine, None, None, -1), "memory is above 0 bytes"),
        ((jobs, identity_engine, None, None, "2G"), "memory is above 0 bytes"),
    ):
        with pytest.raises(UsageError, match=words):
            list(develop_many(*wrong))
    assert not (tmp_path / "out").exists()


def test_an_output_without_a_folder_is_told_before_the_work(raws, tmp_path, identity_engine):
    file = tmp_path / "file"
    file.write_bytes(b"mine")
    results = list(develop_many([Job(raws[0], file / "sub" / "a.jpg")], identity_engine, NEUTRAL))
    assert results[0].exit_code == 5
    assert "not a folder" in results[0].error
    assert not identity_engine.tiles


def test_a_folder_that_cannot_be_written_to_is_told_before_the_work(
    raws, tmp_path, identity_engine, monkeypatch
):
    """Of the folders above the output the nearest existing one counts; it must allow writing and entering."""
    asked = []

    def access(path, mode):
        asked.append((path, mode))
        return False

    monkeypatch.setattr(os, "access", access)
    jobs = [Job(raws[0], tmp_path / "new" / "sub" / "a.jpg")]
    (result,) = develop_many(jobs, identity_engine, NEUTRAL)
    assert (result.status, result.exit_code) == ("failed", 5)
    assert f"{tmp_path}: cannot be written to" in result.error
    assert asked == [(tmp_path, os.W_OK | os.X_OK)]
    assert not identity_engine.tiles
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("freed", "status"), [(0, "failed"), (limits.FREED, "written")])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_before_the_work_until_space_is_freed(
    raws, tmp_path, identity_engine, monkeypatch, freed, status, code
):
    free = 5 << 20

    def disk_space(target):
        return len(target.parent.name), free  # "full" and "other" are two disks

    def save(target, data, overwrite):
        if target == first.target:
            raise OSError(code, os.strerror(code))
        files.save(target, data, overwrite)

    monkeypatch.setattr(limits, "disk_space", disk_space)
    monkeypatch.setattr(output, "save", save)
    first, *others = [Job(raws[0], tmp_path / "full" / f"{index}.jpg") for index in range(2)]
    between = [Job(raws[1], tmp_path / "other" / f"{index}.jpg") for index in range(8)]
    results = []
    for result in develop_many([first, *between, *others], identity_engine, NEUTRAL):
        results.append(result)
        if result.output == str(first.target):
            free += freed
    assert [result.status for result in results] == ["failed", *["written"] * 8, status]
    assert results[0].exit_code == 5 and "cannot be written" in results[0].error
    if status == "failed":
        assert (results[-1].exit_code, results[-1].seconds) == (5, {})
        assert "1.jpg: its disk is full, as for a picture before" in results[-1].error


def test_a_full_disk_may_have_room_for_small_pictures(
    raws, write_raw, grey_ramp, tmp_path, identity_engine, monkeypatch
):
    large = write_raw("large.dng", np.tile(grey_ramp, (2, 2, 1)))

    def save(target, data, overwrite):
        if target.stem == "large":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        files.save(target, data, overwrite)

    monkeypatch.setattr(output, "save", save)
    monkeypatch.setattr(limits, "disk_space", lambda target: (1, 1000))
    again = tmp_path / "again"
    jobs = [*jobs_for([large, *raws, *raws], tmp_path / "out")[:6], Job(large, again / "large.jpg")]
    results = list(develop_many(jobs, identity_engine, NEUTRAL))
    assert [result.status for result in results] == ["failed", *["written"] * 5, "failed"]
    assert "as for a picture before" in results[-1].error and not results[-1].seconds


def test_a_picture_larger_than_the_memory_fails_alone(raws, write_raw, grey_ramp, tmp_path, monkeypatch):
    large = write_raw("large.dng", np.tile(grey_ramp, (8, 8, 1)))
    monkeypatch.setattr(batch, "total_memory", lambda: 1e6)
    jobs = jobs_for([raws[0], large, raws[1]], tmp_path / "out")
    results = list(develop_many(jobs, IdentityEngine(), NEUTRAL))
    assert [result.status for result in results] == ["written", "failed", "written"]
    assert results[1].exit_code == 4
    assert re.search(r"large\.dng: it needs \d\.\d GB of memory, there are 0\.0", results[1].error)


def test_a_disk_with_little_space_is_written_to(raws, tmp_path, identity_engine, monkeypatch):
    monkeypatch.setattr(limits, "disk_space", lambda target: (1, 1000))
    results = develop_many(jobs_for(raws[:2], tmp_path / "out"), identity_engine, NEUTRAL)
    assert [result.status for result in results] == ["written"] * 2


def test_a_format_that_cannot_be_is_told_before_the_work(raws, tmp_path, identity_engine):
    jobs = [*jobs_for(raws[:1], tmp_path), Job(raws[1], tmp_path / "1.bmp"), Job(raws[2], tmp_path / "2.png")]
    results = list(develop_many(jobs, identity_engine, Options(look="neutral", bit_depth=16)))
    assert [result.exit_code for result in results] == [2, 2, 0]
    assert "16" in results[0].error and "suffix" in results[1].error
    assert not results[0].seconds and not results[1].seconds


def test_an_output_that_exists_is_told_before_the_work(raws, tmp_path, identity_engine):
    """Two runs may write to the same folder."""
    (target := tmp_path / "0.jpg").write_bytes(b"another run's")
    (result,) = develop_many([Job(raws[0], target)], identity_engine, NEUTRAL)
    assert (result.exit_code, result.seconds) == (2, {})
    assert "0.jpg: already exists" in result.error
    assert target.read_bytes() == b"another run's"
    (result,) = develop_many([Job(raws[0], target)], identity_engine, Options(look="neutral", overwrite=True))
    assert (result.exit_code, result.status) == (0, "written")


def test_standard_input_is_read_once_also_where_it_is_empty(tmp_path, identity_engine, monkeypatch):
    """In the caller's thread, which an interrupt reaches."""
    readers = []

    def read(source):
        readers.append(threading.current_thread())
        return b""

    monkeypatch.setattr(batch, "read_bytes", read)
    monkeypatch.setattr("deepisp_cli.reading.read_bytes", read)
    (result,) = develop_many([Job("-", tmp_path / "a.jpg")], identity_engine, NEUTRAL)
    assert "the file is empty" in result.error
    assert readers == [threading.current_thread()]


def test_two_engines_share_the_files_and_the_order_stays(raws, tmp_path):
    """Each engine waits until the other one has a picture, too: with one at a time this would never end."""
    both = threading.Barrier(2, timeout=20)

    class Meeting(IdentityEngine):
        def run(self, tile):
            if not self.tiles:
                both.wait()
            return super().run(tile)

    engines = [Meeting(), Meeting()]
    results = list(develop_many(jobs_for(raws, tmp_path / "two"), engines, NEUTRAL))
    assert [result.input for result in results] == [str(path) for path in raws]
    assert {result.status for result in results} == {"written"}
    assert sum(len(engine.tiles) for engine in engines) == len(raws)
    assert all(engine.tiles for engine in engines)
    list(develop_many(jobs_for(raws, tmp_path / "one"), IdentityEngine(), NEUTRAL))
    for path in (tmp_path / "two").iterdir():
        assert path.read_bytes() == (tmp_path / "one" / path.name).read_bytes()


def test_lanes_of_an_engine_work_at_a_time_each_in_its_own_context(raws, tmp_path):
    both = threading.Barrier(2, timeout=20)
    entered, left, met = [], [], set()

    class Lanes(IdentityEngine):
        lanes = 2

        @contextmanager
        def lane(self):
            entered.append(threading.get_ident())
            yield
            left.append(threading.get_ident())

        def tile(self, pixels):  # requested by the lane's thread
            assert threading.get_ident() in entered
            if threading.get_ident() not in met:  # each lane's first picture
                met.add(threading.get_ident())
                both.wait()
            return super().tile(pixels)

    results = list(develop_many(jobs_for(raws[:4], tmp_path / "out"), Lanes(cell=256), NEUTRAL))
    assert [result.error for result in results] == [None] * 4
    assert len(set(entered)) == 2
    assert sorted(entered) == sorted(left)


def test_pictures_in_work_fit_into_the_memory_given(raws, tmp_path, monkeypatch):
    """With room for one, the next file waits until the one before is written; all pictures arrive."""
    in_work, most = set(), []
    original, original_write = batch.to_frame, batch.write

    def to_frame(raw, options, result, *resident):
        in_work.add(result.input)
        most.append(len(in_work))
        return original(raw, options, result, *resident)

    def write(pixels, metadata, target, options, result):
        threading.Event().wait(0.05)
        in_work.discard(result.input)
        return original_write(pixels, metadata, target, options, result)

    monkeypatch.setattr(batch, "to_frame", to_frame)
    monkeypatch.setattr(batch, "write", write)
    size = frame_bytes(read_raw(raws[0]), NEUTRAL)
    for memory, allowed in ((1, 1), (2 * size, 2), (None, 4)):
        most.clear()
        jobs = jobs_for(raws, tmp_path / str(memory))
        results = list(develop_many(jobs, IdentityEngine(), NEUTRAL, memory=memory))
        assert {result.status for result in results} == {"written"}
        assert max(most) <= allowed, memory
    assert max(most) > 1


@pytest.mark.parametrize("pattern", ["RGGB", None], ids=["Bayer", "linear"])
@pytest.mark.parametrize("format", ["png", "dng"])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_picture_takes_no_more_memory_than_reckoned(tmp_path, monkeypatch, pattern, format, strength):
    """Beside tiles, a DNG's preview, and what an encoder takes for the file."""
    monkeypatch.setattr(restored, "PREVIEW_SIDE", 200)
    rng = np.random.default_rng(0)
    shape = (1400, 1500) if pattern else (1400, 1500, 3)
    path = tmp_path / "a.dng"
    write_dng(path, rng.integers(500, 4000, shape).astype(np.uint16), pattern=pattern, white=4095)
    options = Options(strength=strength, format=format, bit_depth=16, tile=64)
    result, raw = Result("", ""), read_raw(path)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        frame = batch.to_frame(raw, options, result)
        size = frame_bytes(raw, options)
        counts = raw.samples.nbytes
        del raw
        batch.finish(frame, IdentityEngine(), options, result)
        peak = tracemalloc.get_traced_memory()[1] - before + counts
    finally:
        tracemalloc.stop()
    assert 0.6 * size < peak < 1.02 * size + 8e6


def test_memory_that_a_failed_file_took_is_given_back(raws, tmp_path):
    class Failing(IdentityEngine):
        def run(self, tile):
            raise EngineError("no")

    results = list(develop_many(jobs_for(raws, tmp_path / "out"), Failing(), NEUTRAL, memory=1))
    assert [result.status for result in results] == ["failed"] * 5


def test_an_interrupt_stops_the_network_between_two_tiles(raws, tmp_path):
    class Slow(IdentityEngine):
        def run(self, tile):
            threading.Event().wait(0.02)
            return super().run(tile)

    def interrupt(index, share):
        raise KeyboardInterrupt

    engine = Slow(cell=2)
    options = Options(look="neutral", tile=2)
    with pytest.raises(KeyboardInterrupt):
        list(develop_many(jobs_for(raws, tmp_path / "out"), engine, options, interrupt))
    assert len(engine.tiles) < 24 * 32 / 2  # of the first picture
    assert not (tmp_path / "out").exists()


def test_progress_comes_on_the_callers_thread(raws, tmp_path):
    seen = []

    def progress(index, share):
        seen.append((index, share, threading.current_thread()))

    list(develop_many(jobs_for(raws[:2], tmp_path / "out"), IdentityEngine(), NEUTRAL, progress))
    assert {(index, share) for index, share, _ in seen} >= {(0, 1.0), (1, 1.0)}
    assert {thread for *_, thread in seen} == {threading.current_thread()}


def test_skipped_jobs_are_not_touched(raws, tmp_path, identity_engine):
    target = tmp_path / "kept.jpg"
    target.write_bytes(b"mine")
    results = list(develop_many([Job(raws[0], target, skip=True)], identity_engine, NEUTRAL))
    assert results[0].status == "skipped"
    assert target.read_bytes() == b"mine"


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("when", ["before it is read", "while it is developed"])
def test_a_picture_that_another_run_writes_meanwhile_is_skipped_if_asked(
    raws, tmp_path, identity_engine, monkeypatch, skip, when
):
    targets = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    jobs = [Job(raw, target, skip_existing=skip) for raw, target in zip(raws, targets, strict=False)]
    if when == "before it is read":
        targets[0].write_bytes(b"theirs")
    else:
        rename = files._rename_to_new

        def late(temporary, final):
            if Path(final).name == "a.jpg":
                Path(final).write_bytes(b"theirs")
            rename(temporary, final)

        monkeypatch.setattr(files, "_rename_to_new", late)
    results = list(develop_many(jobs, identity_engine, NEUTRAL))
    assert [result.status for result in results] == ["skipped" if skip else "failed", "written"]
    assert [bool(result.error) for result in results] == [not skip, False]
    assert targets[0].read_bytes() == b"theirs"


def test_exit_codes():
    failed = Result("a", "b", status="failed", exit_code=3)
    with suppress(MemoryError), failed.timed("network"):
        raise MemoryError
    assert list(failed.seconds) == ["network"]  # what failed took time, too
    assert Report([]).exit_code == 0
    assert Report([Result("a", "b")]).exit_code == 0
    assert Report([failed]).exit_code == 3
    assert Report([failed, Result("a", "b")]).exit_code == 1


def test_a_drive_that_is_missing_is_told(tmp_path, monkeypatch):
    """On Windows a path may have no parent that exists."""
    with monkeypatch.context() as windows:
        windows.setattr(os.path, "lexists", lambda path: False)
        windows.setattr(os.path, "isdir", lambda path: False)
        with pytest.raises(OutputError, match="is not a folder; choose another with -o"):
            batch.check_target(tmp_path / "out" / "a.jpg", overwrite=True)


@pytest.mark.skipif(os.name == "nt", reason="links need rights")
def test_a_link_to_a_disk_that_is_not_there_is_told_before_the_work(tmp_path):
    (tmp_path / "pictures").symlink_to(tmp_path / "disk" / "pictures")
    for inside in ("a.jpg", "2024/a.jpg"):
        with pytest.raises(OutputError, match="pictures: is a link to nowhere; mount its disk, or choose"):
            batch.check_target(tmp_path / "pictures" / inside, overwrite=True)
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "pictures").touch()
    with pytest.raises(OutputError, match="pictures: is not a folder; choose another"):
        batch.check_target(tmp_path / "pictures" / "a.jpg", overwrite=True)
    (tmp_path / "disk" / "pictures").unlink()
    (tmp_path / "disk" / "pictures").mkdir()
    batch.check_target(tmp_path / "pictures" / "2024/a.jpg", overwrite=True)


@pytest.mark.parametrize(
    ("devices", "cores", "threads"),
    [
        (["cpu"], 16, 1),
        (["cpu", "cpu"], 16, 1),
        (["cuda:0"], 16, 8),
        (["cpu", "cuda:0"], 16, 8),
        (["mps"], 1, 1),
    ],
)
def test_half_of_the_cores_feed_a_device_and_one_thread_the_cpu(monkeypatch, devices, cores, threads):
    engines = [IdentityEngine() for _ in devices]
    for engine, device in zip(engines, devices, strict=True):
        engine.device = device
    monkeypatch.setattr(batch, "available_cores", lambda: cores)
    assert batch.reading_threads(engines) == threads


def test_memory_may_be_taken_to_the_last_byte():
    memory, stop = Memory(10), threading.Event()
    stop.set()  # nobody waits
    memory.take(4, stop)
    memory.take(6, stop)
    with pytest.raises(Stopped):
        memory.take(1, stop)
    memory.give(10)
    memory.take(11, stop)  # alone a picture may be larger


def test_only_an_output_that_exists_is_skipped_when_asked_and_not_what_fails(raws, tmp_path, identity_engine):
    raws[0].write_bytes(b"no raw")
    jobs = [Job(path, tmp_path / "out" / f"{path.stem}.jpg", skip_existing=True) for path in raws[:2]]
    results = list(develop_many(jobs, identity_engine, NEUTRAL))
    assert [(result.status, result.exit_code) for result in results] == [("failed", 3), ("written", 0)]


def test_a_report_of_nothing_says_so():
    assert str(Report([])) == "nothing to do"
    counted = [Result("a", "b", status=status) for status in ("planned", "failed", "written", "failed")]
    assert str(Report(counted)) == "1 written, 2 failed, 1 planned"


def test_a_job_without_a_target_is_told(raws, identity_engine):
    [result] = develop_many([Job(raws[0], "")], identity_engine, NEUTRAL)
    assert result.error == f"{raws[0]}: its job has no target; plan_jobs gives one"


def test_one_job_is_a_batch_and_something_else_is_told(raws, tmp_path, identity_engine):
    [result] = develop_many(Job(raws[0], tmp_path / "a.jpg"), identity_engine, NEUTRAL)
    assert result.status == "written"
    with pytest.raises(UsageError, match="jobs are what plan_jobs returns first"):
        next(develop_many(None, identity_engine, NEUTRAL))

"""What ``deepisp benchmark`` measures. No test depends on the clock: speed is not a property."""

import json
import multiprocessing
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import IdentityEngine

from deepisp_cli import batch, benchmark, peak
from deepisp_cli.benchmark import _elsewhere, measure, parse_sizes, places
from deepisp_cli.cli import main
from deepisp_cli.engine import PLACES, open_engine
from deepisp_cli.errors import EngineError, OutputError, UsageError
from deepisp_cli.frame import Result
from deepisp_cli.models import find_model
from deepisp_cli.peak import eight_bit_multiply_adds, multiply_adds, peak_gflops


def test_the_papers_network_costs_what_the_design_says():
    paper = {"fold": 1, "dilations": [1] * 15, "width": 64, "high_blocks": 0}
    assert multiply_adds(paper) == 9 * 64 * (3 + 14 * 64)
    assert 0.5e6 < multiply_adds(paper) < 0.56e6
    folded = {**paper, "fold": 2}
    assert multiply_adds(folded) == pytest.approx(multiply_adds(paper) / 4, rel=0.03)
    # the first high-level block has 61 inputs at a quarter of the positions
    assert multiply_adds({**paper, "high_blocks": 1}) - multiply_adds(paper) == 9 * 61 * 64 / 4


def test_the_peak_in_8_bits_is_that_of_its_mixture(monkeypatch):
    pytest.importorskip("onnx")
    model = find_model("deepisp")
    alone = {**model.card["architecture"], "high_blocks": 0}
    middle = len(alone["dilations"]) - 3  # blocks; the first and the last two stay in float32
    without = multiply_adds({**alone, "dilations": alone["dilations"][middle:]})
    assert eight_bit_multiply_adds(model) == pytest.approx(multiply_adds(alone) - without)
    monkeypatch.setattr(peak, "_numpy_peak", lambda: 100.0)
    monkeypatch.setattr(peak, "_eight_bit_peak", lambda: 1e12)  # takes no time: what remains is float32's
    whole = multiply_adds(model.card["architecture"])
    expected = 100 * whole / (whole - eight_bit_multiply_adds(model))
    assert peak_gflops(open_engine(model, "onnx-int8")) == pytest.approx(expected, abs=0.1)
    monkeypatch.setattr(peak, "_eight_bit_peak", lambda: 100.0)
    assert peak_gflops(open_engine(model, "onnx-int8")) == 100
    assert peak_gflops(open_engine(model, "onnx", "cpu")) == 100


def test_a_product_of_8_bit_numbers_is_measured():
    pytest.importorskip("onnx")
    assert peak._eight_bit_peak() > 0


def test_no_peak_where_torch_has_not_the_device(tiny_model):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("it has")
    engine = open_engine(tiny_model, "onnx", "cpu")
    engine.device = "cuda:0"  # ONNX Runtime's, which torch does not have
    assert peak_gflops(engine) is None


def test_no_peak_where_torch_cannot_use_the_device(tiny_model, monkeypatch):
    """It may have no code for a GPU that ONNX Runtime has, or no memory beside it."""
    torch = pytest.importorskip("torch")

    def fail(*_, **__):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "rand", fail)
    engine = open_engine(tiny_model, "onnx", "cpu")
    engine.device = "cuda:0"
    assert peak_gflops(engine) is None


@pytest.fixture
def in_one_process(monkeypatch):
    """Which is quicker to start; nor does the peak take long."""
    monkeypatch.setattr(benchmark, "_elsewhere", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(benchmark, "share_one_heap", lambda: None)
    monkeypatch.setitem(peak.SIDES, "cpu", 256)


@pytest.mark.usefixtures("in_one_process")
def test_each_size_is_measured_smallest_first(tiny_model):
    sizes = [(301, 199), (173, 113)]  # primes: no tile or cell fits
    rows = list(measure(tiny_model, "onnx", "cpu", sizes, repeat=2, tile=128, batch=11))
    assert [(row["width"], row["height"]) for row in rows] == [(173, 113), (301, 199)]
    for row in rows:
        assert list(row["seconds"]) == ["read", "demosaic", "network", "colour", "render", "write"]
        assert row["total"] >= max(row["seconds"].values())
        assert row["peak_mb"] is None or row["peak_mb"] > 10
        assert row["peak_gflops"] > 0
        batch = row["batch"]
        assert batch["files"] == 11
        assert batch["files_per_second"] == pytest.approx(11 / batch["wall"], rel=0.01)
        assert batch["slowest"] in ("reading", "network and colour", "writing")
        assert batch["ratio"] > 0
        assert batch["peak_mb"] is None or 0 <= batch["grown_mb"] < batch["peak_mb"]


class Clock:
    """Says these seconds, one after the other."""

    def __init__(self, *seconds):
        self.seconds = iter(seconds)

    def perf_counter(self):
        return next(self.seconds)


def test_the_figures_of_a_frame_are_medians(tiny_model, tmp_path, monkeypatch):
    runs = [(1.0, 2.0), (9.0, 5.0), (3.0, 4.0), (5.0, 3.0)]  # the first warms up
    results = iter(
        Result("", "", width=3000, height=2000, seconds={"read": read, "network": network})
        for read, network in runs
    )
    monkeypatch.setattr(benchmark, "develop", lambda *_: next(results))
    monkeypatch.setattr(benchmark, "peak_gflops", lambda _: 50.0)
    monkeypatch.setattr(benchmark, "peak_memory", lambda: 70.0)
    monkeypatch.setattr(benchmark, "share_one_heap", lambda: None)  # of this process
    place = (tiny_model.folder, "onnx", "cpu", None)
    row = benchmark._measure_frame(*place, tmp_path / "small.dng", tmp_path / "raw.dng", 3)
    assert (row["model"], row["engine"], row["device"]) == (tiny_model.name, "onnx", "cpu")
    assert (row["megapixels"], row["width"], row["height"]) == (6, 3000, 2000)
    assert row["seconds"] == {"read": 5, "network": 4}
    assert (row["total"], row["per_megapixel"]) == (8, 1.333)  # of 14, 7 and 8
    operations = 2 * multiply_adds(tiny_model.card["architecture"]) * 6e6
    assert row["network_gflops"] == pytest.approx(operations / 4 / 1e9, abs=0.05)
    assert (row["peak_gflops"], row["peak_mb"]) == (50, 70)


def test_a_peak_is_that_of_the_fastest_product(monkeypatch):
    monkeypatch.setattr(peak, "REPEAT", 3)
    monkeypatch.setattr(peak, "time", Clock(10, 14, 20, 22, 30, 37))
    assert peak._rate(lambda: None, 1000) == 1  # 2 x 1000^3 operations in 2 seconds


@pytest.fixture
def measure_batch(tmp_path, monkeypatch):
    """``measure_batch(engine, **seconds)`` of two files whose stages took that long; 12 s by the clock."""

    def run(engine, error=None, files=2, **seconds):
        run.developed = 0

        def develop_many(jobs, *_):
            for job in jobs:
                job.target.touch()
                run.developed += 1
                yield Result("", str(job.target), seconds=seconds, error=error)

        monkeypatch.setattr(benchmark, "develop_many", develop_many)
        monkeypatch.setattr(benchmark, "open_engine", lambda *_: engine)
        found = benchmark._measure_batch("deepisp", "", "", None, tmp_path / "frame.dng", files)
        assert not list(tmp_path.iterdir())
        return found

    monkeypatch.setattr(benchmark, "time", Clock(100.0, 112.0))
    monkeypatch.setattr(benchmark, "share_one_heap", lambda: None)  # of this process
    monkeypatch.setattr(batch, "available_cores", lambda: 8)
    return run


SECONDS = {"read": 1.0, "demosaic": 2.0, "network": 3.0, "colour": 0.5, "render": 0.5, "write": 3.5}


@pytest.mark.parametrize(
    ("device", "changes", "slowest", "busy"),
    [
        ("cpu", {}, "network and colour", 2 * (3 + 0.5 + 0.5)),
        ("cpu", {"read": 3.0}, "reading", 2 * (3 + 2)),
        ("cpu", {"write": 5.0}, "writing", 2 * 5),
        # two lanes, which also demosaic, and four threads each for reading and writing
        ("cuda", {}, "network and colour", 2 * (2 + 3 + 0.5 + 0.5) / 2),
        ("cuda", {"read": 13.0}, "reading", 2 * 13 / 4),
        ("cuda", {"write": 13.0}, "writing", 2 * 13 / 4),
    ],
)
def test_threads_of_a_kind_share_the_files_of_a_batch(measure_batch, device, changes, slowest, busy):
    engine = IdentityEngine()
    engine.device, engine.resident, engine.lanes = device, device == "cuda", 2 if device == "cuda" else 1
    found = measure_batch(engine, **{**SECONDS, **changes})
    assert found["slowest"] == slowest
    assert found["ratio"] == pytest.approx(12 / busy, abs=1e-3)
    assert (found["files"], found["wall"]) == (2, 12)


def test_the_memory_that_counts_as_grown_is_what_came_after_the_tenth_file(measure_batch, monkeypatch):
    monkeypatch.setattr(benchmark, "peak_memory", lambda: 100.0 + measure_batch.developed)
    found = measure_batch(IdentityEngine(), files=13, **SECONDS)
    assert (found["peak_mb"], found["grown_mb"]) == (113, 3)
    monkeypatch.setattr(benchmark, "time", Clock(100.0, 112.0))
    assert measure_batch(IdentityEngine(), files=9, **SECONDS)["grown_mb"] is None


def test_a_batch_that_fails_is_not_measured(measure_batch):
    with pytest.raises(EngineError, match="moody"):
        measure_batch(IdentityEngine(), "moody", **SECONDS)


def test_all_engines_are_those_that_open(tiny_model):
    found = places(tiny_model, "all", "auto")
    assert ("onnx", "cpu") in found
    assert ("onnx-int8", "cpu") not in found  # it has no 8-bit form
    assert found == [pair for pair in PLACES if pair in found]
    assert ("onnx-int8", "cpu") in places(find_model("deepisp"), "all", "cpu")
    assert places(tiny_model, "onnx", "cpu") == [("onnx", "cpu")]
    with pytest.raises(EngineError, match="cuda:99"):
        places(tiny_model, "all", "cuda:99")


def test_sizes_are_megapixels_or_pixels():
    assert parse_sizes("6, 1511x1009") == [(3000, 2000), (1511, 1009)]
    for wrong in ("large", "1e99", "3,", "0", "-1", "12x", "60x500", "nan", "inf"):
        with pytest.raises(UsageError, match=r"such as .* sides of 64 to 65500 pixels"):
            parse_sizes(wrong)


SMALL = ["benchmark", "--sizes", "0.02", "--repeat", "1", "--engine", "onnx", "--model"]


def test_the_command_measures_in_other_processes(tiny_model):
    result = CliRunner().invoke(main, [*SMALL, str(tiny_model.folder), "--batch", "2"])
    assert result.exit_code == 0, result.output
    assert "per megapixel" in result.output
    assert "of a matrix product's" in result.output
    assert "2 files in" in result.output
    assert result.stderr.startswith(f"measuring {tiny_model.name} on sizes 0.02, runs of each: 1;")


@pytest.mark.usefixtures("in_one_process")
def test_the_command_prints_lines_or_an_object_for_each_size(tiny_model):
    arguments = [*SMALL, str(tiny_model.folder)]
    assert "files in" not in CliRunner().invoke(main, arguments).output
    row = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert (row["model"], row["engine"], row["device"]) == (tiny_model.name, "onnx", "cpu")
    assert row["batch"] is None
    refused = CliRunner().invoke(main, ["benchmark", "--sizes", "large"])
    assert refused.exit_code == 2
    assert "large" in refused.output


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(path, contents):
        raise OSError(28, "full")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"a\.dng: cannot be written \(full\); free some space"):
        benchmark.write_frame(tmp_path / "a.dng", 64, 64)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process's peak is its own")
def test_the_memory_of_who_measures_is_not_counted():
    own = np.ones(400_000_000, np.uint8)
    assert benchmark._elsewhere(benchmark.peak_memory) < benchmark.peak_memory() - 300
    assert own.all()


@pytest.mark.skipif(sys.platform != "linux", reason="there is no such file elsewhere")
@pytest.mark.parametrize("status", ["VmRSS:\t 77 kB\n", None])
def test_where_the_peak_is_not_stated_the_system_is_asked(monkeypatch, status):
    """Some containers leave it out."""

    def read(path):
        if status is None:
            raise FileNotFoundError
        return status

    monkeypatch.setattr(Path, "read_text", read)
    assert benchmark.peak_memory() > 10


@pytest.mark.usefixtures("in_one_process")
def test_the_lines_leave_out_a_peak_that_is_not_known(tiny_model, monkeypatch):
    with monkeypatch.context() as windows:
        windows.setattr(sys, "platform", "win32")
        assert benchmark.peak_memory() is None
    monkeypatch.setattr(benchmark, "peak_memory", lambda: None)
    result = CliRunner().invoke(main, [*SMALL, str(tiny_model.folder), "--batch", "2"])
    assert result.exit_code == 0, result.output
    assert "2 files in" in result.stdout
    assert "peak" not in result.stdout


def test_the_peak_of_metal_also_with_a_torch_before_is_available(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.delattr(torch.mps, "is_available", raising=False)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: None)
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.ones(size))
    monkeypatch.setitem(peak.SIDES, "mps", 1024)
    engine = IdentityEngine()
    engine.device = "mps"
    assert peak_gflops(engine) > 0


def test_frames_are_developed_in_the_tiles_asked_for(tiny_model, tmp_path, monkeypatch):
    tiles = []

    def develop(raw, picture, engine, options):
        tiles.append(options.tile)
        return Result("", "", width=3, height=2, seconds={"network": 1.0})

    monkeypatch.setattr(benchmark, "develop", develop)
    monkeypatch.setattr(benchmark, "peak_gflops", lambda _: None)
    monkeypatch.setattr(benchmark, "share_one_heap", lambda: None)  # of this process
    benchmark._measure_frame(tiny_model.folder, "onnx", "cpu", 128, tmp_path / "a.dng", tmp_path / "b.dng", 2)
    assert tiles == [128, 128, 128]


def test_a_folded_network_costs_what_its_convolutions_do():
    folded = {"fold": 2, "dilations": [1, 2, 1], "width": 20, "high_blocks": 2}
    # per cell of 2x2 pixels, of 12 channels and 8 features; high-level outputs at 1/4 and 1/64 of these
    low = 9 * 20 * (12 + 2 * 20)
    high = 9 * 8 * 20 / 4 + 9 * 20 * 20 / 64
    assert multiply_adds(folded) == (low + high) / 4


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_kill_ends_the_measuring_process_too():
    """The executor would wait for what is measured."""
    main_thread = threading.main_thread().ident
    threading.Timer(1.5, signal.pthread_kill, [main_thread, signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        _elsewhere(time.sleep, 300)
    assert not multiprocessing.active_children()

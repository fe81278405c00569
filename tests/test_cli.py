"""The program as people run it: options, streams, exit codes. Runs the tiny model, or none at all."""

import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import click
import imagecodecs
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from deepisp_cli import batch, engine, interrupts, models, reading, talk
from deepisp_cli.cli import main
from deepisp_cli.cli_options import Bytes
from deepisp_cli.errors import ModelError, UsageError
from deepisp_cli.frame import Result
from deepisp_cli.models import Model, find_model
from deepisp_cli.options import Options
from deepisp_cli.pipeline import develop
from deepisp_cli.process_command import process
from deepisp_cli.raw import read_raw
from deepisp_cli.talk import Talk, duration, fact_text, printable, progress_on, told

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def run(tiny_model):
    """``run("process", ...)`` with the tiny model if none is named."""

    def call(*args, **kwargs):
        args = [str(arg) for arg in args]
        if args[0] == "process" and "--model" not in args and "--help" not in args:
            args += ["--model", str(tiny_model.folder)]
        return CliRunner().invoke(main, args, catch_exceptions=False, **kwargs)

    return call


@pytest.fixture
def night(write_raw, grey_ramp):
    return write_raw("night.dng", grey_ramp, exif={0x9003: "2024:05:06 21:30:00"})


def test_one_file(run, night):
    result = run("process", night)
    assert result.exit_code == 0
    assert result.stdout == ""
    with Image.open(night.with_suffix(".jpg")) as picture:
        assert picture.size == (64, 48)


def test_json_is_one_object_a_file_and_nothing_else(run, night, write_raw, grey_ramp, tmp_path):
    other = write_raw("other.dng", grey_ramp)
    bad = tmp_path / "bad.dng"
    bad.write_bytes(b"bad")
    result = run("process", night, bad, other, "-o", tmp_path / "out", "--json", "-v")
    assert result.exit_code == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(line["input"]).name for line in lines] == ["night.dng", "bad.dng", "other.dng"]
    keys = {"input", "output", "model", "engine", "device", "seconds", "bytes", "error", "width", "height"}
    keys |= {"notes", "status", "exit_code", "white_balance", "metered"}
    gone = run("process", night, tmp_path / "gone.dng", "-o", tmp_path / "out2", "--json").stdout
    assert json.loads(gone.splitlines()[1])["output"] is None
    assert all(line.keys() == keys for line in lines)
    assert lines[0]["error"] is None
    assert [line["exit_code"] for line in lines] == [0, 3, 0]
    assert len(lines[0]["white_balance"]) == 3 and min(lines[0]["white_balance"]) == 1
    unknown = ("model", "engine", "device", "bytes", "width", "height", "white_balance", "metered")
    assert {lines[1][key] for key in unknown} == {None}
    assert lines[0]["bytes"] == (tmp_path / "out" / "night.jpg").stat().st_size
    assert "bad.dng" in lines[1]["error"]
    assert "bad.dng" in result.stderr


def test_dry_run_writes_nothing(run, night, tmp_path):
    result = run("process", night, "-o", tmp_path / "out", "--dry-run", "--json")
    assert json.loads(result.stdout)["status"] == "planned"
    assert not (tmp_path / "out").exists()
    result = run("process", night, tmp_path / "gone.dng", "-o", tmp_path / "out", "--dry-run")
    assert result.exit_code == 1
    *_, planned, _, summary = result.stderr.splitlines()
    assert planned.endswith("night.jpg: planned")
    assert summary == "1 failed, 1 planned"
    target = tmp_path / "out" / "night.jpg"
    target.parent.mkdir()
    target.write_bytes(b"there")
    result = run("process", night, "-o", tmp_path / "out", "--skip-existing", "--dry-run", "--json")
    assert json.loads(result.stdout)["status"] == "skipped"
    assert target.read_bytes() == b"there"


def test_verbose_tells_engine_size_and_stages(run, night, tiny_model):
    *_, line = run("process", night, "-v", "--engine", "onnx", "--device", "cpu").stderr.splitlines()
    size = night.with_suffix(".jpg").stat().st_size
    facts = rf"  {tiny_model.name} on onnx/cpu; 64x48, {size} bytes; white balance [\d.]+,1,[\d.]+; read "
    assert re.match(facts, line)
    stages = [stage.split()[0] for stage in line.rpartition("; ")[2].split(", ")]
    assert stages == ["read", "demosaic", "network", "colour", "render", "write"]


def test_quiet_is_quiet_but_for_errors(run, night, tmp_path, write_raw, grey_ramp):
    assert run("process", night, "-q").stderr == ""
    other = write_raw("other.dng", grey_ramp)
    assert run("process", night, other, "-q", "-o", tmp_path / "out").stderr == ""
    assert "2 written" in run("process", night, other, "-o", tmp_path / "out", "--overwrite").stderr
    assert "gone.dng" in run("process", tmp_path / "gone.dng", "-q").stderr


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_formats_and_depths(run, night, tmp_path, suffix):
    depth = "8" if suffix == "jpg" else "16"
    target = tmp_path / f"picture.{suffix}"
    result = run("process", night, "-o", target, "--bit-depth", depth)
    assert result.exit_code == 0, result.stderr
    decode = {"jpg": imagecodecs.jpeg8_decode, "png": imagecodecs.png_decode, "tif": imagecodecs.tiff_decode}
    assert decode[suffix](target.read_bytes()).dtype == f"uint{depth}"


def test_a_restored_raw_gets_a_name_of_its_own(run, night):
    before = night.read_bytes()
    result = run("process", night, "--format", "dng")
    assert result.exit_code == 0, result.stderr
    assert night.read_bytes() == before
    facts = json.loads(run("info", night.with_name("night-deepisp.dng"), "--json").stdout)
    assert (facts["cfa"], facts["width"], facts["height"]) == ("none (linear)", 64, 48)
    refused = run("process", night, "-o", night.with_name("b.dng"), "--exposure", "1")
    assert (refused.exit_code, "left to be developed" in refused.stderr) == (2, True)


def test_exit_codes(run, night, tmp_path):
    bad = tmp_path / "bad.dng"
    bad.write_bytes(b"bad")
    assert run("process", bad).exit_code == 3
    assert run("process", tmp_path / "gone.dng").exit_code == 3
    assert run("process", night, "--model", "nonsense").exit_code == 4
    assert run("process", night, "--device", "cuda:77").exit_code == 4
    assert run("process", night, "--device", "gpu").exit_code == 4
    assert run("process", night, "--name", "{what}").exit_code == 2
    assert run("process", night, "--quality", "101").exit_code == 2
    assert run("process", night, "--bit-depth", "16").exit_code == 2
    assert run("process", night, "--overwrite", "--skip-existing").exit_code == 2
    assert run("process", night, "-q", "-v").exit_code == 2
    assert run("process", night, "--engine", "gpu").exit_code == 2
    assert run("process", night, "-o", "-", "--json").exit_code == 2
    assert json.loads(run("process", night, "-o", "-", "--json", "--dry-run").stdout)["status"] == "planned"
    assert run("process").exit_code == 2
    blocked = tmp_path / "blocked"
    blocked.write_bytes(b"")
    assert run("process", night, "-o", blocked / "sub" / "a.jpg").exit_code == 5
    assert run("process", night).exit_code == 0
    again = run("process", night)
    assert again.exit_code == 2
    assert "--skip-existing" in again.stderr
    assert run("process", night, "--skip-existing").exit_code == 0


def test_a_folder_with_bad_files(run, night, tmp_path, write_raw, grey_ramp):
    """The good ones are written, each bad one is named; exit 1, stdout stays clean."""
    folder = tmp_path / "card"
    write_raw("card/good.dng", grey_ramp)
    (folder / "truncated.dng").write_bytes(night.read_bytes()[: night.stat().st_size // 2])
    (folder / "foreign.nef").write_bytes(b"PK\x03\x04 no raw")
    (folder / "empty.cr2").write_bytes(b"")
    (folder / "notes.txt").write_bytes(b"text")
    result = run("process", folder, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stdout == ""
    for name in ("truncated.dng", "foreign.nef", "empty.cr2"):
        assert name in result.stderr
    lost = run("process", tmp_path / "one.dng", tmp_path / "two.dng")
    assert lost.exit_code == 1
    assert "one.dng: no such file" in lost.stderr and "two.dng: no such file" in lost.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.jpg"]


def test_the_model_makes_a_difference_and_look_and_strength_too(run, night, tmp_path):
    pictures = {}
    for name, options in {
        "learned": [],
        "neutral": ["--look", "neutral"],
        "plain": ["--look", "neutral", "--strength", "0"],
        "bright": ["--look", "neutral", "--strength", "0", "--exposure", "1"],
        "warm": ["--look", "neutral", "--strength", "0", "--white-balance", "3,1,1"],
    }.items():
        target = tmp_path / f"{name}.png"
        assert run("process", night, "-o", target, *options).exit_code == 0
        pictures[name] = np.asarray(Image.open(target)).astype(float)
    names = list(pictures)
    for first, second in itertools.pairwise(names):
        assert np.abs(pictures[first] - pictures[second]).mean() > 0.5
    assert pictures["bright"].mean() > pictures["plain"].mean() + 10


def test_several_devices_share_the_files_within_the_memory_given(run, write_raw, grey_ramp, tmp_path):
    raws = [write_raw(f"{index}.dng", grey_ramp) for index in range(3)]
    arguments = ["process", *raws]
    assert run(*arguments, "-o", tmp_path / "one").exit_code == 0
    several = run(*arguments, "-o", tmp_path / "two", "--device", "cpu,cpu", "--memory", "1k", "-v")
    assert several.exit_code == 0
    assert several.stderr.splitlines()[0] == several.stderr.splitlines()[1]  # the two engines
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize("size", ["much", "0", "-1G", "2X"])
def test_a_memory_that_is_no_size_is_refused(run, night, size):
    refused = run("process", night, "--memory", size)
    assert refused.exit_code == 2
    assert "such as 1500M or 2G" in refused.stderr


@pytest.mark.parametrize(
    ("size", "number"),
    [("2G", 2e9), ("1500 mb", 1.5e9), ("0.5k", 500), ("7", 7), ("2GiB", 2**31), ("3ki", 3072)],
)
def test_sizes_are_bytes(size, number):
    assert Bytes().convert(size, None, None) == number


def test_the_progress_bar_counts_finished_files():
    shown = []

    class Bar:
        pos = 0

        def update(self, steps, done):
            self.pos += steps
            shown.append((self.pos, done))

    move = progress_on(Bar())
    for index, share in ((0, 0.5), (1, 0.25), (0, 1.0), (0, 1.0), (1, 1.0), (1, 1.0)):  # network, then file
        move(index, share)
    assert shown == [(500, 0), (750, 0), (1250, 1), (1250, 1), (2000, 2), (2000, 2)]


def test_info(run, night, tmp_path):
    facts = json.loads(run("info", night, "--json").stdout)
    assert facts["supported"]
    assert facts["cfa"] == "RGGB"
    assert facts["captured"].startswith("2024-05-06T21:30")
    lines = dict(
        re.split(r":\s+", line, maxsplit=1) for line in run("info", night).stdout.splitlines() if line
    )
    assert (lines["cfa"], lines["gps"]) == ("RGGB", "yes" if facts["gps"] else "no")
    assert lines.keys() == {
        key.replace("_", " ") for key, value in facts.items() if value not in (None, "", [], {})
    }
    assert facts["xmp"] == {}
    bad = tmp_path / "bad.dng"
    bad.write_bytes(b"bad")
    result = run("info", bad, "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["reason"]
    assert run("info", night, night).exit_code == 0
    sidecar = tmp_path / "night.xmp"
    sidecar.write_bytes(b"<x/>")
    assert len(run("info", night, sidecar, "--json").stdout.splitlines()) == 1
    assert not json.loads(run("info", sidecar, "--json").stdout)["supported"]
    sidecar.unlink()
    other = shutil.copy(bad, tmp_path / "other.dng")
    result = run("info", bad, night, other, "--json")
    assert result.exit_code == 1
    objects = [json.loads(line) for line in result.stdout.splitlines()]
    assert [facts["supported"] for facts in objects] == [False, True, False]
    assert all(facts.keys() == {"file", "supported", "reason"} for facts in objects[::2])


def test_info_takes_folders_and_patterns_and_speaks_as_photographers_do(run, write_raw, grey_ramp, tmp_path):
    """Shells on Windows leave patterns to the program."""
    exif = {0x829A: Fraction(1, 60), 0x829D: Fraction(28, 10), 0x920A: Fraction(35)}
    night = write_raw("night.dng", grey_ramp, exif=exif)
    card = tmp_path / "up" / "card"
    card.mkdir(parents=True)
    for given, reason in ((card, "no raw files in this folder"), (f"{card}/*.dng", "no file matches")):
        result = run("info", given)
        assert (result.exit_code, reason in result.stdout) == (3, True)
    for name in ("a.dng", "b.dng"):
        shutil.copy(night, card / name)
    assert "-r searches its sub-folders" in run("info", tmp_path / "up").stdout
    for given in (("-r", tmp_path / "up"), (card,), (f"{card}/*.dng",)):
        objects = [json.loads(line) for line in run("info", *given, "--json").stdout.splitlines()]
        assert [Path(facts["file"]).name for facts in objects] == ["a.dng", "b.dng"]
    shown = run("info", night).stdout
    for line in ("exposure time: +1/60 s", "f number: +f/2.8", "focal length: +35 mm"):
        assert re.search(f"\n{line}\n", shown)
    gains = re.search(r"\nwhite balance: +(\S+)\n", shown)[1]
    assert run("process", night, "--white-balance", gains, "--dry-run").exit_code == 0


def test_a_raw_where_a_command_belongs_is_told_how(run, night, tmp_path, monkeypatch):
    result = run(night)
    assert result.exit_code == 2
    assert result.stderr == f"deepisp: {night}: is no command; to develop it: deepisp process {night}\n"
    assert "No such command 'gone.dng'" in run("gone.dng").stderr
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").write_bytes(b"")
    assert run("models").exit_code == 0


def test_too_little_memory_for_a_file_is_told_and_the_next_one_read(run, night, tmp_path, monkeypatch):
    original = reading.read_bytes
    large = shutil.copy(night, tmp_path / "large.dng")

    def read_bytes(source):
        if str(source) in ("-", str(large)):
            raise MemoryError
        return original(source)

    monkeypatch.setattr(reading, "read_bytes", read_bytes)
    monkeypatch.setattr(batch, "read_bytes", read_bytes)
    result = run("info", large, night)
    assert (result.exit_code, "RGGB" in result.stdout) == (1, True)
    assert result.stderr.startswith(f"deepisp: {large}: not enough memory")
    result = run("process", "-")
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.startswith("deepisp: -: not enough memory")


def test_models_lists_the_default(run):
    listed = run("models").stdout
    assert listed.startswith("deepisp ")
    assert find_model("deepisp").card["summary"] in listed
    assert str(find_model("deepisp").folder) in listed
    cards = json.loads(run("models", "--json").stdout)
    assert cards[0]["name"] == "deepisp"
    assert all((Path(card["folder"]) / "card.json").is_file() for card in cards)


def test_a_model_without_its_network_is_named_and_the_others_listed(run, monkeypatch):
    size = Model.graph_bytes.fget

    def gone(model):
        if model.name == "deepisp":
            raise ModelError("model.onnx: cannot be read")
        return size(model)

    monkeypatch.setattr(Model, "graph_bytes", property(gone))
    result = run("models")
    assert result.exit_code == 0
    assert result.stderr == "deepisp: model.onnx: cannot be read\n"
    assert "deepisp-paper  0." in result.stdout and "deepisp  0." not in result.stdout


def test_models_are_listed_by_the_names_that_find_them(run, tiny_model, tmp_path, monkeypatch):
    """Those of their folders, which may have been renamed since the export."""
    shutil.copytree(tiny_model.folder, tmp_path / "renamed")
    card = tmp_path / "renamed" / "card.json"
    card.write_text(json.dumps({**json.loads(card.read_text("utf-8")), "summary": ""}))
    monkeypatch.setattr(models, "_models_folder", lambda: tmp_path)
    lines = run("models").stdout.splitlines()
    assert lines[0].startswith("renamed  0.")
    assert lines[1].strip() == str(tmp_path / "renamed")  # no empty line of a summary that nobody wrote


def test_doctor_passes_here(run):
    findings = json.loads(run("doctor", "--json").stdout)
    assert findings["healthy"]
    assert findings["self_test"].startswith("passed")
    states = {(engine["engine"], engine["device"]): engine["state"] for engine in findings["engines"]}
    assert states["onnx", "cpu"] == "works"


BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def program(*args, **kwargs):
    """As in a shell: its output waits in a buffer."""
    kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": BUFFERED, **kwargs}
    return subprocess.Popen(
        [sys.executable, "-m", "deepisp_cli", *map(str, args)],
        cwd=ROOT, preexec_fn=_heed_interrupts if os.name == "posix" else None, **kwargs,
    )  # fmt: skip


def _heed_interrupts():
    """Even under a test runner that ignores them, as ``nohup`` and ``&`` do."""
    for name in ("SIGINT", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def test_pipes(night, tiny_model):
    process = program("process", "-", "--model", tiny_model.folder, "--format", "png", stdin=subprocess.PIPE)
    out, err = process.communicate(night.read_bytes(), timeout=60)
    assert process.returncode == 0, err
    with Image.open(io.BytesIO(out)) as picture:
        assert (picture.format, picture.size) == ("PNG", (64, 48))
    process = program("process", "-", "--model", tiny_model.folder, "--format", "dng", stdin=subprocess.PIPE)
    out, err = process.communicate(night.read_bytes(), timeout=60)
    assert process.returncode == 0, err
    assert read_raw(io.BytesIO(out)).samples.shape == (48, 64, 3)


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_an_interrupt_ends_the_wait_for_standard_input(tiny_model):
    process = program("process", "-", "--model", tiny_model.folder, stdin=subprocess.PIPE, bufsize=0)
    process.stdin.write(bytes(1 << 20))  # more than a pipe holds: the program is reading
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(60) == -signal.SIGINT  # dies of it, so that a shell's loop ends, too
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(os.name == "nt", reason="no named pipes there")
@pytest.mark.parametrize("end", ["source", "target"])
def test_a_kill_ends_the_wait_for_the_other_end_of_a_pipe(night, tiny_model, tmp_path, end):
    pipe = tmp_path / ("pipe.dng" if end == "source" else "pipe.jpg")
    os.mkfifo(pipe)
    source, target = (pipe, tmp_path / "a.jpg") if end == "source" else (night, pipe)
    process = program("process", source, "-o", target, "--model", tiny_model.folder, "-v")
    try:
        assert process.stderr.readline().startswith(b"tiny on ")  # the engine is open, the work begins
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM
    finally:
        process.kill()
        process.communicate()


def test_an_interrupt_that_an_import_has_swallowed_still_ends_the_batch(run, night, tmp_path, monkeypatch):
    """ONNX Runtime's import drops it."""

    def opened(*_):
        with suppress(KeyboardInterrupt):
            interrupts.interrupt(signal.SIGINT, None)
        return ["engine"]

    monkeypatch.setattr(interrupts, "_received", [])
    monkeypatch.setattr(engine, "open_engines", opened)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    result = run("process", night, "-o", tmp_path / "a.jpg")
    interrupts._received.clear()  # or this process would end by it
    assert result.exit_code == 130
    assert result.stderr == "\ndeepisp: interrupted; at least 0 of 1 written\n"
    assert not (tmp_path / "a.jpg").exists()


@pytest.mark.parametrize(
    ("name", "suffix"), [("jpg", "jpg"), ("JPEG", "jpg"), ("Tif", "tif"), ("PNG", "png")]
)
def test_formats_are_known_by_their_suffixes_and_in_capitals_too(run, night, tmp_path, name, suffix):
    assert run("process", night, "-o", tmp_path / "out", "--format", name).exit_code == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"night.{suffix}"]


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
def test_a_shells_loop_ends_with_an_interrupt():
    """bash goes on to the next file after a program that exits normally, whatever its code."""
    if not shutil.which("bash"):
        pytest.skip("there is no bash")
    script = 'for i in 1 2; do "$0" -c "$1"; done; echo went on'
    code = (
        "import os, signal\n"
        "from deepisp_cli.interrupts import heed_endings\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "heed_endings()\n"
        "print('developing', flush=True)\n"
        "try:\n    os.killpg(0, signal.SIGINT)\n    signal.pause()\n"
        "except KeyboardInterrupt:\n    raise SystemExit(130)\n"
    )
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, code], cwd=ROOT, capture_output=True, text=True,
        start_new_session=True, preexec_fn=_heed_interrupts,
    )  # fmt: skip
    assert done.returncode == -signal.SIGINT
    assert done.stdout == "developing\n"


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
def test_what_libraries_print_gets_into_no_picture(night, tiny_model, tmp_path):
    """With stderr closed, the next file that is opened would be number 2."""
    code = (
        "import os, sys\n"
        "from deepisp_cli.cli import main\n"
        "save = os.fsync\n"
        "os.fsync = lambda number: (os.write(2, b'a warning'), save(number))\n"
        "main(sys.argv[1:])\n"
    )
    target = tmp_path / "a.png"
    command = '"$0" -c "$1" process "$2" -o "$3" --model "$4" 2>&-'
    arguments = (sys.executable, code, night, target, tiny_model.folder)
    subprocess.run(["sh", "-c", command, *map(str, arguments)], cwd=ROOT, env=BUFFERED, check=True)
    assert b"a warning" not in target.read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="descriptors do not block otherwise there")
def test_a_source_that_does_not_block_is_waited_for(night, tiny_model, tmp_path):
    ends = os.pipe()
    os.set_blocking(ends[0], False)
    process = program("process", "-", "-o", tmp_path / "a.png", "--model", tiny_model.folder, stdin=ends[0])
    os.close(ends[0])
    time.sleep(1)
    with open(ends[1], "wb") as pipe:
        pipe.write(night.read_bytes())
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


SHARED = [parameter for parameter in main.commands["process"].params if hasattr(Options, str(parameter.name))]


@pytest.mark.parametrize("parameter", SHARED, ids=lambda parameter: parameter.name)
def test_the_command_and_the_library_have_the_same_options(parameter):
    """Defaults, limits and choices."""
    name, kind = parameter.name, parameter.type
    default = process.make_context("process", ["a.dng"]).params[name]
    assert str(default) == str(getattr(Options, name))

    def accepts(value):
        with suppress(UsageError):
            return Options(**{"format": "png" if value == 16 else None, name: value})
        return None

    if isinstance(kind, click.Choice):
        choices = [int(choice) if choice.isdigit() else choice for choice in kind.choices]
        assert all(map(accepts, choices))
        assert not accepts(7 if name == "bit_depth" else "nonsense")
    for limit, step in ((getattr(kind, "min", None), -1), (getattr(kind, "max", None), 1)):
        if limit is not None:
            assert accepts(limit)
            assert name == "tile" or not accepts(limit + step)  # smaller tiles are for tests


def test_the_help_states_the_contrast_of_the_models_that_ship():
    default, *others = models.list_models()
    (option,) = (each for each in SHARED if each.name == "contrast")
    assert f"{default.name} {default.contrast:g}, others that ship 0;" in option.help
    assert {model.contrast for model in others} == {0}


def test_all_options_of_a_picture_are_those_of_the_command():
    assert {field.name for field in fields(Options)} == {parameter.name for parameter in SHARED}


def test_options_are_looked_at_before_files(run, night, monkeypatch):
    monkeypatch.setattr("deepisp_cli.plan.fill", lambda *_: pytest.fail("has read it"))
    refused = run("process", night, "--name", "{date}", "--white-balance", "nonsense")
    assert refused.exit_code == 2
    assert "white balance" in refused.stderr


@pytest.mark.parametrize("command", [process, main.commands["info"]], ids=lambda command: command.name)
def test_paths_are_not_checked_before_each_file_is_looked_at(command, night, monkeypatch):
    """One that cannot be read fails alone."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    files = command.make_context(command.name, [str(night)]).params
    assert str(night) in next(value for value in files.values() if isinstance(value, tuple))


@pytest.mark.skipif(os.name == "nt", reason="a current folder cannot be removed there")
def test_a_removed_folder_is_told_without_a_stdout(night, tmp_path):
    command = 'mkdir d; cd d; rmdir ../d; PYTHONPATH="$2" "$0" -m deepisp_cli process "$1" -o out.jpg >&-'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, night, ROOT], cwd=tmp_path, env=BUFFERED, capture_output=True
    )
    assert done.returncode == 5
    assert done.stderr.startswith(b"deepisp: the current folder: ")


def test_a_name_for_what_goes_to_standard_output_is_refused(run, night):
    refused = run("process", night, "-o", "-", "--name", "a_{stem}", "--dry-run")
    assert (refused.exit_code, "--name and standard output contradict" in refused.stderr) == (2, True)
    given = {"DEEPISP_PROCESS_NAME": "a_{stem}"}
    assert run("process", night, "-o", "-", "--dry-run", env=given).exit_code == 0  # gives way


def test_bytes_that_are_no_letters_are_shown_as_shells_take_them():
    assert printable("latin\udce9 \u202e\ud800.dng") == "latin\\xe9 \\u202e\\ud800.dng"


def test_a_dry_run_tells_what_cannot_be_written(run, night, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    refused = run("process", night, "-o", f"{tmp_path / 'file'}/", "--dry-run")
    assert refused.exit_code == 5
    assert "is not a folder" in refused.stderr
    assert run("process", night, "-o", tmp_path / "new" / "deeper", "--dry-run").exit_code == 0
    assert not (tmp_path / "new").exists()


def test_shells_complete_paths_and_say_nothing_of_commands(night):
    for words, wanted in (
        ("deepisp process ni", "file"),
        ("deepisp process night.dng -o n", "file"),
        ("deepisp info ni", "file"),
        ("deepisp process night.dng --model m", "file"),
    ):
        completed = subprocess.run(
            [sys.executable, "-m", "deepisp_cli"], cwd=ROOT, capture_output=True, text=True,
            env={**BUFFERED, "_PYTHON_M_DEEPISP_CLI_COMPLETE": "bash_complete", "COMP_WORDS": words,
                 "COMP_CWORD": str(len(words.split()) - 1), "_DEEPISP_COMPLETE": "bash_complete"},
        )  # fmt: skip
        assert completed.stdout.startswith(wanted), completed
    words = f"deepisp {night} n"
    completed = subprocess.run(
        [sys.executable, "-m", "deepisp_cli"], cwd=ROOT, capture_output=True, text=True,
        env={**BUFFERED, "_PYTHON_M_DEEPISP_CLI_COMPLETE": "bash_complete", "COMP_WORDS": words,
             "COMP_CWORD": "2", "_DEEPISP_COMPLETE": "bash_complete"},
    )  # fmt: skip
    assert completed.stderr == ""


def test_standard_output_may_lack_letters(night, tiny_model, tmp_path):
    """A pipe on Windows may be in cp1252. JSON stays JSON, words are escaped."""
    raw = tmp_path / "夜é.dng"
    shutil.copy(night, raw)
    for arguments in (["info"], ["info", "--json"], ["process", "--json", "--model", tiny_model.folder]):
        process = program(*arguments, raw, env={**os.environ, "PYTHONIOENCODING": "cp1252"})
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        if "--json" in arguments:
            assert str(raw) in json.loads(out).values()


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_names_are_no_commands_to_the_terminal(run, night, tmp_path):
    raw, dated = tmp_path / "a\x1b[31m\n.dng", tmp_path / "ü\x07.dng"
    shutil.copy(night, raw)
    dated.write_bytes(night.read_bytes().replace(b"2024:05:06", b"2024:13:06"))
    result = run("process", dated)
    assert "EXIF tag 0x9003 dropped" in result.stderr  # a note that contains the name
    assert "\x07" not in result.stderr and "ü\\x07" in result.stderr
    for source, status in ((raw, 0), (tmp_path / "\x1b[2Jgone.dng", 3)):
        result = run("process", source)
        assert result.exit_code == status
        assert "\\x1b[" in result.stderr
        assert not set(result.stderr.rstrip("\n")) & {"\x1b"}
        assert len(result.stderr.splitlines()) == 1
        facts = run("info", source)
        assert facts.exit_code == status
        assert "\\x1b[" in facts.stdout
        assert "\x1b" not in facts.stdout


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals there")
def test_no_picture_goes_to_a_terminal(night):
    terminal, end = os.openpty()
    try:
        process = program("process", night, "-o", "-", stdout=end)
        _, err = process.communicate(timeout=60)
    finally:
        os.close(terminal)
        os.close(end)
    assert process.returncode == 2
    assert b"redirect it" in err


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals there")
@pytest.mark.parametrize(("kind", "commands"), [("xterm", True), ("dumb", False)])
def test_a_dumb_terminal_gets_no_progress_bar(night, tiny_model, tmp_path, kind, commands):
    terminal, end = os.openpty()
    arguments = ("process", night, "-o", tmp_path / "a.jpg", "--model", tiny_model.folder)
    try:
        process = program(*arguments, stderr=end, env={**os.environ, "TERM": kind})
        assert process.wait(60) == 0
        said = os.read(terminal, 1 << 16)
    finally:
        os.close(terminal)
        os.close(end)
    assert b"written" in said
    assert (b"\x1b" in said) is commands


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            "signal.signal(signal.SIGHUP, signal.SIG_IGN)",
            "signal.getsignal(signal.SIGHUP) == signal.SIG_IGN",
            marks=pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's"),
            id="nohup",  # what the starter has had ignored stays so
        ),
        pytest.param(
            "signal.SIGBREAK = getattr(signal, 'SIGBREAK', getattr(signal, 'SIGUSR1', None))",
            "signal.getsignal(signal.SIGBREAK) is interrupts.interrupt",
            id="Ctrl-Break",  # heeded as Ctrl-C is; only Windows has it, elsewhere another signal stands in
        ),
    ],
)
def test_which_signals_are_heeded(night, before, after):
    code = (
        "import signal, sys\n"
        "from deepisp_cli import interrupts\n"
        "from deepisp_cli.cli import main\n"
        f"{before}\n"
        "try:\n    main(['info', sys.argv[1]])\n"
        f"except SystemExit:\n    print({after})\n"
    )
    done = subprocess.run([sys.executable, "-c", code, night], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "True", done.stderr


@pytest.mark.skipif(os.name == "nt", reason="pipes break otherwise there")
def test_a_reader_that_leaves_ends_the_program_quietly(night):
    read, write = os.pipe()
    os.close(read)
    process = program("info", night, stdout=write)
    os.close(write)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, b"")


@pytest.mark.parametrize("arguments", [["info", "night"], ["models"], ["--help"], ["--version"]], ids=str)
def test_a_full_disk_behind_standard_output_is_told(night, arguments):
    arguments = [night if argument == "night" else argument for argument in arguments]
    if not os.path.exists("/dev/full"):
        pytest.skip("Linux's")
    with open("/dev/full", "wb") as full:
        process = program(*arguments, stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 5
    assert err.startswith(b"deepisp: standard output: No space left")


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"])
def test_without_a_stderr_the_work_is_done(night, tiny_model, tmp_path, stderr):
    target = tmp_path / "a.jpg"
    command = f'"$0" -m deepisp_cli process "$1" -v -o "$2" --model "$3" {stderr}'
    arguments = (sys.executable, night, target, tiny_model.folder)
    done = subprocess.run(["sh", "-c", command, *map(str, arguments)], cwd=ROOT, env=BUFFERED)
    assert done.returncode == 0
    assert target.exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device here")
@pytest.mark.parametrize("arguments", [["process"], ["process", "--bogus"], ["bogus"]])
def test_a_wrong_use_keeps_its_code_where_nothing_can_be_said(arguments):
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "deepisp_cli", *arguments]
        assert subprocess.run(command, cwd=ROOT, env=BUFFERED, stderr=full).returncode == 2


@pytest.mark.skipif(os.name == "nt", reason="pipes block there")
def test_who_reads_the_messages_may_be_slow():
    end, start = os.pipe()
    os.set_blocking(start, False)
    command = [sys.executable, "-m", "deepisp_cli", "models", "--json"]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=start, check=True)
    assert os.get_blocking(start)  # of the pipe, which both share
    os.close(end)
    os.close(start)


@pytest.mark.skipif(os.name == "nt", reason="pipes block there")
def test_who_reads_the_picture_may_be_slow(identity_engine, night, monkeypatch):
    """Another program may have set the pipe to fail rather than wait."""
    end, start = os.pipe()
    os.set_blocking(start, False)
    with open(end, "rb") as reader, open(start, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        develop(night, "-", identity_engine, Options(long_side=16))
        assert os.get_blocking(start)
        monkeypatch.undo()
        assert reader.read(2) == b"\xff\xd8"


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
@pytest.mark.parametrize(
    "arguments", ['info "$1"', 'process -o - "$1"', 'process --json "$1"', "models", "doctor"]
)
def test_a_closed_stdout_is_told_before_the_work(night, arguments):
    command = f'"$0" -m deepisp_cli {arguments} >&-'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, night], cwd=ROOT, env=BUFFERED, capture_output=True
    )
    assert done.returncode == 5
    assert done.stderr.startswith(b"deepisp: standard output is closed")
    assert sorted(night.parent.iterdir()) == [night]


@pytest.mark.skipif(os.name == "nt", reason="a current folder cannot be removed there")
def test_a_current_folder_that_was_removed_is_told(run, night, tmp_path, monkeypatch):
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for arguments, status in ((["../night.dng"], 3), ([night, "-o", "a.jpg"], 5)):
        refused = run("process", *arguments)
        assert refused.exit_code == status
        assert refused.stderr.startswith("deepisp: the current folder: ")
    piped = run("process", "-", input=night.read_bytes())
    assert piped.exit_code == 0 and piped.stdout_bytes.startswith(b"\xff\xd8")


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
@pytest.mark.parametrize("kind", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL", "SIGINT SIGINT SIGINT SIGTERM"])
def test_a_killed_program_leaves_whole_files_only(write_raw, grey_ramp, tiny_model, tmp_path, kind):
    scene = np.tile(grey_ramp, (20, 20, 1))
    raws = [write_raw(f"in/{index}.dng", scene) for index in range(12)]
    out = tmp_path / "out"
    process = program("process", *raws, "-o", out, "--model", tiny_model.folder, "--tile", 64)
    deadline = time.monotonic() + 60
    while not list(out.glob("*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.01)
    for name in kind.split():  # people press Ctrl-C until something happens
        process.send_signal(getattr(signal, name))
        time.sleep(0.1)
    process.communicate(timeout=60)
    assert process.returncode == -getattr(signal, kind.split()[0])
    written = list(out.glob("*.jpg"))
    assert 0 < len(written) < len(raws)
    for path in written:
        with Image.open(path) as picture:
            picture.load()
            assert picture.size == (scene.shape[1], scene.shape[0])
    if kind != "SIGKILL":
        assert sorted(out.iterdir()) == sorted(written)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("exposure_time", 0.001, "1/1000 s"),
        ("exposure_time", 0.25, "1/4 s"),
        ("exposure_time", 0.4, "0.4 s"),
        ("exposure_time", 2.5, "2.5 s"),
        ("f_number", 2.8, "f/2.8"),
        ("white_balance", [2.0, 1.0, 1.5], "2.0,1.0,1.5"),
        ("notes", ["one", "two"], "one; two"),
        ("xmp", {"dc:title": "x", "xmp:Rating": "5"}, "dc:title x; xmp:Rating 5"),
        ("supported", True, "yes"),
    ],
)
def test_facts_are_told_as_people_write_them(key, value, text):
    assert fact_text(key, value) == text


def written(**known) -> Result:
    return Result("a.dng", "a.jpg", status="written", notes=["a note"], **known)


@pytest.mark.parametrize(
    ("result", "options", "told"),
    [
        (written(), {}, "a.dng -> a.jpg: written (0.0 s)\n  a note\n"),
        (written(), {"quiet": True}, ""),
        (Result("a.dng", None, status="skipped"), {"verbose": True}, "a.dng: skipped\n"),
        (
            Result("a", None, status="failed", error="a: \x1b[2J", notes=["b"]),
            {"quiet": True},
            "deepisp: a: \\x1b[2J\n",
        ),
        (
            Result("a", None, status="failed", error="a: bad", seconds={"read": 0.25}),
            {"verbose": True},
            "deepisp: a: bad\n  not developed; read 0.25 s\n",
        ),
        (
            written(model="m", engine="onnx", device="cpu", metered=1.25, seconds={"read": 0.25}),
            {"verbose": True},
            "a.dng -> a.jpg: written (0.2 s)\n  a note\n  m on onnx/cpu; metered +1.25 EV; read 0.25 s\n",
        ),
    ],
)
def test_what_became_of_a_file_is_told_in_words(capsys, result, options, told):
    Talk(**{"as_json": False, "quiet": False, "verbose": False, **options})(result)
    assert capsys.readouterr() == ("", told)


def test_an_interrupt_is_told(capsys):
    with pytest.raises(click.exceptions.Exit) as caught, told(click.Context(main)):
        raise KeyboardInterrupt
    assert caught.value.exit_code == 130
    assert capsys.readouterr().err == "deepisp: interrupted\n"


def test_several_files_take_a_time(run, night, tmp_path):
    other = tmp_path / "other.dng"
    shutil.copy(night, other)
    told = run("process", night, other, "-o", tmp_path / "out").stderr.splitlines()[-1]
    assert re.fullmatch(r"2 written in \d+\.\d s", told)
    assert run("process", night, other, "-o", tmp_path / "new", "--dry-run").stderr.endswith("2 planned\n")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (60, "1 min 0 s"),
        (3599.4, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations(seconds, told):
    assert duration(seconds) == told


def test_a_reader_that_ends_is_told_how_far_the_batch_has_come(night, tiny_model, tmp_path):
    copies = [shutil.copy(night, tmp_path / f"{number}.dng") for number in range(8)]
    read, write = os.pipe()
    os.close(read)
    process = program("process", "--json", *copies, "--model", tiny_model.folder, stdout=write)
    _, err = process.communicate(timeout=60)
    os.close(write)
    assert process.returncode == 5
    said = err.decode().splitlines()[-1]
    assert re.fullmatch(
        r"deepisp: standard output: its reader has closed the pipe; at least \d of 8 written; "
        "--skip-existing goes on",
        said,
    )


def test_a_dry_run_tells_what_would_be_replaced(run, night, tmp_path):
    other = tmp_path / "other.dng"
    shutil.copy(night, other)
    (tmp_path / "other.jpg").write_bytes(b"x")
    planned = run("process", night, other, "--overwrite", "--dry-run", "--json").stdout.splitlines()
    assert [json.loads(line)["notes"] for line in planned] == [[], ["replaces the one that is there"]]


@pytest.mark.parametrize("device", ["gpu", "cuda:0,gpu", "cuda:x"])
def test_a_dry_run_knows_the_names_of_devices(run, night, device):
    refused = run("process", night, "--dry-run", "--device", device)
    assert refused.exit_code == 4
    assert "unknown device" in refused.stderr
    assert run("process", night, "--dry-run", "--device", "cuda:0,cuda:1").exit_code == 0


def test_words_may_be_in_capitals(run, night, tmp_path):
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    run("process", night, "-o", first, "--white-balance", "daylight", "--look", "neutral")
    run("process", night, "-o", second, "--white-balance", "Daylight", "--look", "NEUTRAL")
    assert first.read_bytes() == second.read_bytes()


def test_defaults_may_be_in_the_environment(run, night, tmp_path):
    bright, usual = tmp_path / "a.png", tmp_path / "b.png"
    environment = {"DEEPISP_PROCESS_EXPOSURE": "2", "DEEPISP_PROCESS_QUIET": "1"}
    assert run("process", night, "-o", bright, env=environment).stderr == ""
    run("process", night, "-o", usual, "--exposure", "0", env=environment)
    assert np.asarray(Image.open(bright)).mean() > np.asarray(Image.open(usual)).mean() + 20


def test_info_in_json_tells_people_what_it_cannot_read(run, night, tmp_path):
    (tmp_path / "no.dng").write_bytes(b"x" * 100)
    found = run("info", "--json", night, tmp_path / "no.dng")
    assert [json.loads(line)["supported"] for line in found.stdout.splitlines()] == [True, False]
    assert found.stderr.startswith(f"deepisp: {tmp_path / 'no.dng'}: not a raw file")
    assert run("info", night, tmp_path / "no.dng").stderr == ""


@pytest.mark.parametrize(("exposure", "told"), [("-10", "very dark"), ("10", "almost white"), ("0", None)])
def test_a_picture_of_nothing_gets_a_note(run, night, exposure, told):
    said = run("process", night, "--exposure", exposure, "--overwrite").stderr
    for words in ("very dark", "almost white"):
        assert (words in said) == (words == told)


def test_an_empty_pipe_is_told_as_such(run):
    refused = run("process", "-", input=b"")
    assert refused.exit_code == 3
    assert "-: standard input is empty; did the program before the pipe fail?" in refused.stderr


def test_a_pipe_whose_picture_exists_is_not_read(run, night):
    there = night.with_suffix(".jpg")
    there.write_bytes(b"a picture")
    skipped = run("process", "-", "-o", there, "--skip-existing", "-v", input=b"")
    assert (skipped.exit_code, "skipped" in skipped.stderr) == (0, True)


@pytest.mark.parametrize("kind", ["is empty", "is a folder"])
def test_what_is_no_picture_is_not_kept_as_one(run, night, kind):
    there = night.with_suffix(".jpg")
    there.mkdir() if kind == "is a folder" else there.write_bytes(b"")
    refused = run("process", night, "--skip-existing")
    assert refused.exit_code == 2
    assert f"{there}: {kind}, not a picture; remove it" in refused.stderr


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--exposure", "1,5", "'1,5' is no number from -10 to 10"),
        ("--exposure", "-10.1", "'-10.1' is no number from -10 to 10"),
        ("--exposure", "nan", "'nan' is no number from -10 to 10"),
        ("--strength", "50%", "'50%' is no number from 0 to 1"),
        ("--quality", "101", "'101' is no whole number from 1 to 100"),
        ("--quality", "1.5", "'1.5' is no whole number from 1 to 100"),
        ("--long-side", "0", "'0' is no whole number from 1 on"),
        ("--long-side", "9" * 400, "is no whole number from 1 on"),
        ("--tile", "63", "'63' is no whole number from 64 on"),
    ],
)
def test_numbers_that_are_none_are_told_which_would_be(run, night, option, value, told):
    refused = run("process", night, option, value)
    assert refused.exit_code == 2
    assert told in refused.stderr


@pytest.mark.parametrize(("option", "value"), [("--exposure", "-10"), ("--quality", "1"), ("--tile", "64")])
def test_numbers_at_the_limits_are_taken(run, night, option, value):
    assert run("process", night, option, value).exit_code == 0


@pytest.mark.parametrize("size", [" 2G", "2G\n", "\t2 GB "])
def test_space_around_a_size_says_nothing(size):
    assert Bytes().convert(size, None, None) == 2e9


def test_a_terminal_that_is_gone_stops_no_batch(monkeypatch):
    class Bar:
        pos = 0

        def update(self, *_):
            raise OSError(5, "Input/output error")

    gone = []
    monkeypatch.setattr(talk, "give_up", gone.append)
    progress_on(Bar())(0, 0.5)
    assert gone == [sys.stderr]


def test_no_models_are_an_error(run, monkeypatch):
    monkeypatch.setattr(models, "list_models", list)
    for arguments in (["models"], ["models", "--json"]):
        refused = run(*arguments)
        assert refused.exit_code == 4
        assert "not installed" in refused.stderr


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_an_output_that_is_a_folder_is_told_before_the_work(run, night, options):
    night.with_suffix(".jpg").mkdir()
    refused = run("process", night, "--overwrite", *options)
    assert refused.exit_code == 5
    assert "night.jpg: is a folder; choose another name" in refused.stderr


@pytest.mark.parametrize(
    ("environment", "arguments"),
    [
        ({"CONTRAST": "0.5", "LONG_SIDE": "20", "LOOK": "neutral", "EXPOSURE": "1"}, ["--format", "dng"]),
        ({"CONTRAST": "0.5"}, ["-o", "{}/a.dng"]),
        ({"SKIP_EXISTING": "1"}, ["--overwrite"]),
        ({"OVERWRITE": "1"}, ["--skip-existing"]),
        ({"QUIET": "1"}, ["-v"]),
        ({"FORMAT": "png"}, ["-o", "{}/a.jpg"]),
        ({"NAME": "{date}_{stem}"}, ["-o", "{}/a.jpg"]),
        ({"BIT_DEPTH": "16"}, ["-o", "{}/a.jpg"]),
        ({"BIT_DEPTH": "16"}, ["--format", "jpeg"]),
        ({"JSON": "1"}, ["-o", "-"]),
    ],
    ids=str,
)
def test_what_the_environment_says_gives_way_to_the_command(run, night, tmp_path, environment, arguments):
    environment = {f"DEEPISP_PROCESS_{name}": value for name, value in environment.items()}
    arguments = [argument.format(tmp_path) for argument in arguments]
    done = run("process", night, *arguments, env=environment)
    assert done.exit_code == 0, done.stderr


def test_a_format_in_the_environment_holds_in_a_folder_that_is_named_like_a_file(run, night, tmp_path):
    run("process", night, "-o", f"{tmp_path}/new.jpg/", env={"DEEPISP_PROCESS_FORMAT": "png"})
    assert [path.name for path in (tmp_path / "new.jpg").iterdir()] == ["night.png"]


@pytest.mark.parametrize(
    "environment",
    [
        {"OVERWRITE": "1", "SKIP_EXISTING": "1"},
        {"BIT_DEPTH": "16"},
        {"OUTPUT": "{}/a.jpg", "NAME": "{{stem}}"},
    ],
    ids=str,
)
def test_contradictions_within_the_environment_are_told(run, night, tmp_path, environment):
    variables = {f"DEEPISP_PROCESS_{name}": value.format(tmp_path) for name, value in environment.items()}
    assert run("process", night, env=variables).exit_code == 2


@pytest.mark.parametrize("command", ["process", "info", "models", "doctor"])
def test_every_variable_is_named_like_its_option(command):
    for parameter in main.commands[command].params:
        if isinstance(parameter, click.Option):
            longest = max(parameter.opts, key=len).removeprefix("--").replace("-", "_")
            variable = f"DEEPISP_{command.upper()}_{longest.upper()}"
            assert parameter.name == longest or parameter.envvar == variable


def test_a_version_in_the_environment_is_another_programs(run):
    assert run("models", env={"DEEPISP_VERSION": "0.1"}).exit_code == 0

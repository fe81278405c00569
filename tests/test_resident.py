"""A frame that stays on the device is developed like one that does not, to one level of 255: by torch on the
CPU, and in half precision on CUDA if there is a GPU."""

import struct
import threading
from dataclasses import replace

import numpy as np
import pytest
from conftest import MATRIX, opcode_list
from PIL import Image

from deepisp_cli import doctor
from deepisp_cli.batch import develop_many
from deepisp_cli.colour import encode
from deepisp_cli.demosaic import normalise_mosaic
from deepisp_cli.dng import write_dng
from deepisp_cli.errors import DeepIspError, EngineError
from deepisp_cli.frame import Result
from deepisp_cli.options import Options
from deepisp_cli.pipeline import develop, finish, prepare
from deepisp_cli.plan import Job
from deepisp_cli.raw import read_raw
from deepisp_cli.render import DITHER_SIDE
from deepisp_cli.torch_engine import TorchEngine
from deepisp_cli.xtrans import X_TRANS

torch = pytest.importorskip("torch")
resident = pytest.importorskip("deepisp_cli.resident")
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def engine(tiny_model, request):
    with_contrast = replace(tiny_model, card={**tiny_model.card, "contrast": 0.3})
    opened = TorchEngine(with_contrast, request.param)
    opened.resident = True
    return opened


@pytest.fixture
def colourful():
    """Odd sizes."""
    return waves(61, 83)


def waves(height, width):
    """(height, width, 3) linear camera RGB, some of it beyond white."""
    row, col = np.mgrid[:height, :width]
    channels = [np.sin(row / 7 + phase) * np.cos(col / (9 + phase)) for phase in range(3)]
    return 0.5 + 0.6 * np.stack(channels, -1)


def both(path, engine, **options):
    """The pictures from the CPU's stages and from the device's, and the two results."""
    results = Result(str(path), ""), Result(str(path), "")
    options = Options(**options)
    pictures = [
        finish(prepare(path, options, result, stays), engine, options, result)
        for result, stays in zip(results, (False, True), strict=True)
    ]
    here, there = results
    assert there.white_balance == here.white_balance
    assert (there.metered is None) == (here.metered is None)
    assert there.metered == pytest.approx(here.metered, abs=0.02)
    return *pictures, *results


def assert_near(found, expected, engine):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    levels = 257 if found.dtype == np.uint16 else 1
    apart = np.abs(found.astype(int) - expected.astype(int)) / levels
    assert apart.max() <= (1 if engine.device == "cpu" else 4)
    assert np.mean(apart > 0.5) < (0.01 if engine.device == "cpu" else 0.2)  # where rounding differs


def assert_same(found, expected, engine):
    """Two runs of the same stages. cuBLAS does not add in the same order while other streams are at work."""
    if engine.device == "cpu":
        np.testing.assert_array_equal(found, expected)
    else:
        assert_near(found, expected, engine)
        assert np.mean(found != expected) < 0.01


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bit_depth": 16, "format": "png"},
        {"strength": 0.7},
        {"look": "neutral"},
        {"exposure": 1.0},
        {"contrast": 0.6},
        {"tile": 64},
        {"white_balance": "1.5,1,2.5"},
    ],
    ids=str,
)
def test_the_device_develops_as_the_cpu_does(write_raw, colourful, engine, options):
    expected, found, here, there = both(write_raw("a.dng", colourful), engine, **options)
    assert_near(found, expected, engine)
    assert expected.std() > 10  # there is a picture to be equal to
    assert (there.width, there.height, there.notes) == (here.width, here.height, here.notes)
    assert set(there.seconds) == set(here.seconds)


@pytest.mark.parametrize(
    ("pattern", "orientation"), list(zip(["RGGB", "BGGR", "GRBG", "GBRG"] * 2, range(1, 9), strict=True))
)
def test_every_cfa_and_orientation(write_raw, colourful, engine, pattern, orientation):
    path = write_raw("a.dng", colourful, pattern=pattern, orientation=orientation)
    expected, found, *_ = both(path, engine)
    assert_near(found, expected, engine)


@pytest.mark.parametrize("options", [{}, {"white_balance": "auto"}], ids=str)
def test_an_x_trans_mosaic(write_raw, colourful, engine, options):
    """One that begins elsewhere, with a black level of another period."""
    pattern = X_TRANS[12:] + X_TRANS[:12]
    path = write_raw(
        "a.dng",
        colourful,
        pattern=pattern,
        extra=[(50713, 3, 2, (1, 4)), (50714, 3, 4, [500, 520, 512, 516])],
    )
    expected, found, *_ = both(path, engine, **options)
    assert_near(found, expected, engine)
    assert expected.std() > 10  # there is a picture to be equal to


def test_a_metered_model_meters_on_the_device(write_raw, colourful, engine):
    engine.model.card["architecture"]["metered"] = True
    try:
        expected, found, *_ = both(write_raw("a.dng", colourful / 8), engine)
        unmetered = both(write_raw("b.dng", colourful / 8), engine, look="neutral")[1]
    finally:
        engine.model.card["architecture"]["metered"] = False
    assert_near(found, expected, engine)
    assert found.mean() > unmetered.mean() + 20


def test_blocks_of_rows_join(write_raw, engine, monkeypatch):
    """A frame of more rows than one block has."""
    assert resident.BLOCK_ROWS % DITHER_SIDE == 0  # each block starts at the dither's first row
    monkeypatch.setattr(resident, "BLOCK_ROWS", DITHER_SIDE)
    path = write_raw("tall.dng", waves(DITHER_SIDE + 45, 83), orientation=3)
    expected, found, *_ = both(path, engine)
    assert_near(found, expected, engine)
    assert expected[DITHER_SIDE:].std() > 10  # there is a picture to be equal to


def test_black_levels_may_repeat_in_any_period(write_raw, colourful, engine, monkeypatch):
    """One that divides neither the frame nor a block of rows."""
    monkeypatch.setattr(resident, "BLOCK_ROWS", 25)
    with write_raw("a.dng", colourful).open("rb") as file:
        raw = read_raw(file, "a.dng")
    black = np.float32([[500, 510, 520], [530, 540, 550], [512, 512, 512]])
    gains = np.float32([2, 1, 1.5])
    picture = resident._to_picture(type(raw)(**{**vars(raw), "black": black}), gains, "cpu")
    mosaic = normalise_mosaic(raw.samples, raw.pattern, black, raw.white, gains)
    red = picture[0::2, 0::2, 0].numpy()
    np.testing.assert_allclose(red, encode(mosaic)[0::2, 0::2], atol=1e-6)


def test_lens_shading_is_corrected(write_raw, colourful, engine):
    """Its counts are floats."""
    vignette = opcode_list((3, struct.pack(">7d", 1, 0, 0, 0, 0, 0.5, 0.5)))
    path = write_raw("a.dng", colourful / 2, extra=[(51022, 7, len(vignette), vignette)])
    assert read_raw(path).samples.dtype == np.float32
    expected, found, *_ = both(path, engine)
    assert_near(found, expected, engine)


def test_lens_distortion_is_corrected(write_raw, colourful, engine):
    warp = opcode_list((1, struct.pack(">I8d", 1, 1, -0.1, 0, 0, 0, 0, 0.5, 0.5)))
    path = write_raw("a.dng", colourful, extra=[(51022, 7, len(warp), warp)])
    assert read_raw(path).lens_warp is not None
    expected, found, here, there = both(path, engine)
    assert_near(found, expected, engine)
    assert set(there.seconds) == set(here.seconds)
    plain = both(write_raw("b.dng", colourful), engine)[1]
    assert plain.shape == found.shape and np.abs(plain.astype(int) - found).mean() > 5


def test_linear_files_have_no_mosaic(tmp_path, colourful, engine):
    path = tmp_path / "linear.dng"
    counts = np.round(2000 + np.clip(colourful, 0, 1) * 60000).astype(np.uint16)
    write_dng(path, counts, pattern=None, black=2000, white=62000, white_balance=(1, 1, 1))
    expected, found, *_ = both(path, engine)
    assert_near(found, expected, engine)
    expected, found, *_ = both(path, engine, strength=0.5)
    assert_near(found, expected, engine)


def test_progress_rises_to_one_and_a_batch_is_written(write_raw, colourful, engine, tmp_path):
    paths = [write_raw(f"{index}.dng", colourful) for index in range(3)]
    seen = []
    develop(paths[0], tmp_path / "one.png", engine, Options(format="png", tile=64), seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    jobs = [Job(path, tmp_path / f"{path.stem}.png") for path in paths]
    results = list(develop_many(jobs, engine, Options(format="png")))
    assert [result.error for result in results] == [None] * 3
    expected = np.asarray(Image.open(tmp_path / "one.png"))
    for job in jobs:
        if engine.device == "cpu":
            assert job.target.read_bytes() == (tmp_path / "one.png").read_bytes()
        assert_same(np.asarray(Image.open(job.target)), expected, engine)


def test_what_progress_raises_is_no_error_of_the_device(write_raw, colourful, engine, tmp_path):
    def fail(share):
        raise RuntimeError("the window is gone")

    with pytest.raises(DeepIspError, match=r"bug, please report it: RuntimeError\('the window is gone'\)"):
        develop(write_raw("a.dng", colourful), tmp_path / "a.png", engine, progress=fail)


def test_tiles_are_halved_when_the_device_is_full(write_raw, colourful, engine, monkeypatch):
    path = write_raw("a.dng", colourful)
    _, expected, *_ = both(path, engine)
    original, sides = engine._network, []

    def full(tile):
        sides.append(max(tile.shape[2:]))
        if sides[-1] > 60:
            raise torch.OutOfMemoryError("full")
        return original(tile)

    monkeypatch.setattr(engine, "_network", full)
    found = resident.finish_on_device(
        prepare(path, Options(), Result("", ""), True), engine, Options(), Result("", "")
    )
    assert_near(found, expected, engine)
    assert sides[0] > 60
    monkeypatch.setattr(engine, "_network", lambda tile: (_ for _ in ()).throw(RuntimeError("broken")))
    with pytest.raises(EngineError, match="broken"):
        finish(prepare(path, Options(), Result("", ""), True), engine, Options(), Result("", ""))


def test_tiles_are_halved_when_what_is_cut_out_does_not_fit(write_raw, colourful, engine, monkeypatch):
    path = write_raw("a.dng", colourful)
    _, expected, *_ = both(path, engine)
    original, sides = torch.Tensor.index_select, []

    def full(tensor, axis, index):
        sides.append(len(index))
        if sides[-1] > 75:
            raise torch.OutOfMemoryError("full")
        return original(tensor, axis, index)

    monkeypatch.setattr(torch.Tensor, "index_select", full)
    found = resident.finish_on_device(
        prepare(path, Options(), Result("", ""), True), engine, Options(), Result("", "")
    )
    assert_near(found, expected, engine)
    assert sides[0] > 75


@pytest.fixture
def full(monkeypatch):
    """``full()``: from now on the device has no memory for a frame."""

    def demosaic(*_):
        raise torch.OutOfMemoryError("full")

    return lambda: monkeypatch.setattr(resident, "demosaic", demosaic)


def test_a_frame_that_the_device_does_not_hold_is_developed_in_tiles(write_raw, colourful, engine, full):
    path = write_raw("a.dng", colourful)
    expected, *_ = both(path, engine)
    full()
    result = Result(str(path), "")
    found = finish(prepare(path, Options(), result, True), engine, Options(), result)
    assert_same(found, expected, engine)
    assert result.notes == []


def test_a_linear_dng_that_the_device_does_not_hold_keeps_its_white_balance(tmp_path, engine, full):
    """Its mosaic would be balanced by the grey world, full colour is not."""
    path = tmp_path / "a.dng"
    samples = (np.random.default_rng(0).uniform(0.1, 0.4, (60, 80, 3)) * (60000, 30000, 9000)).astype(
        np.uint16
    )
    write_dng(path, samples, pattern=None, white=60000, xyz_to_camera=MATRIX)
    expected, *_ = both(path, engine)
    full()
    result = Result(str(path), "")
    found = finish(prepare(path, Options(), result, True), engine, Options(), result)
    assert_same(found, expected, engine)


def test_doctor_develops_in_all_lanes_at_a_time(write_raw, colourful, engine, monkeypatch):
    """What it reports for a GPU is measured on the path that files take there."""
    path = write_raw("a.dng", colourful)
    _, expected, *_ = both(path, engine)
    together = threading.Barrier(2, timeout=20)
    original, calls = resident.finish_on_device, []

    def finish_on_device(*arguments):
        calls.append(together.wait())
        return original(*arguments)

    monkeypatch.setattr(resident, "finish_on_device", finish_on_device)
    monkeypatch.setattr(engine, "lanes", 2)
    for picture in doctor._pictures(path, engine):
        assert_same(picture, expected, engine)
    assert len(calls) == 2


def test_a_nan_is_no_picture(engine):
    image = torch.full((4, 4, 3), torch.nan)
    with pytest.raises(ValueError, match="NaN"):
        resident._render(image, 1, 8)

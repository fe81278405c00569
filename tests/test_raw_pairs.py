"""Raws and their reference pictures as training pairs: which belong together, and how they lie."""

import numpy as np
import pytest
from conftest import MATRIX
from PIL import Image

torch = pytest.importorskip("torch")

from runs import config

from deepisp_cli.colour import srgb_from_camera
from deepisp_cli.errors import EngineError, InputError
from deepisp_cli.evaluation.benchmarks import Settings
from deepisp_cli.evaluation.scenes import Pairs as PairsBenchmark
from deepisp_cli.render import orient
from deepisp_cli.training.config import Stage
from deepisp_cli.training.raw_pairs import RawPairs, cut, find_pairs, load_pair
from deepisp_cli.training.sources import open_sources

CPU = torch.device("cpu")


def noise(height, width, seed=0):
    """A picture (H, W, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def write_pair(write_raw, tmp_path):
    """``write_pair(name, picture, height, width)`` writes a grey raw of that size and beside it a picture."""

    def write(name, picture, height, width, **options):
        raw = write_raw(f"{name}.dng", np.full((height, width, 3), 0.3), **options)
        Image.fromarray(picture).save(raw.with_suffix(".png"))
        return raw, raw.with_suffix(".png")

    return write


@pytest.mark.parametrize("orientation", range(1, 9))
def test_references_are_turned_as_the_sensor_was(write_pair, orientation):
    as_sampled = noise(32, 48)
    upright = np.ascontiguousarray(orient(as_sampled, orientation))
    _, reference, _ = load_pair(write_pair("night", upright, 32, 48, orientation=orientation))
    np.testing.assert_array_equal(reference, as_sampled)


def test_the_matrix_is_the_cameras(write_pair):
    _, _, matrix = load_pair(write_pair("night", noise(32, 48), 32, 48))
    np.testing.assert_allclose(matrix, srgb_from_camera(MATRIX), atol=1e-3)


@pytest.mark.parametrize(("trimmed", "fits"), [(0, True), (64, True), (65, False), (-1, False)])
def test_a_reference_may_be_trimmed_by_64_pixels_a_side(write_pair, trimmed, fits):
    whole = np.pad(noise(160, 180), ((1, 1), (1, 1), (0, 0)))
    inner = whole[1 + trimmed : 161 - trimmed, 1:-1]
    pair = write_pair("night", inner, 160, 180)
    if fits:
        mosaic, reference, _ = load_pair(pair)
        np.testing.assert_array_equal(reference, inner)
        assert mosaic.shape == inner.shape[:2]
    else:
        with pytest.raises(InputError, match=r"night\.png: is not the size of night\.dng"):
            load_pair(pair)


@pytest.mark.parametrize("wrong", ["turned", "a corner", None])
def test_pictures_unlike_the_reference_are_not_measured(write_pair, tmp_path, wrong):
    """A forgotten orientation is the likeliest mistake."""
    write_pair("night", noise(160, 360), 160, 360)
    (case,) = PairsBenchmark(tmp_path, Settings()).cases()
    made = {"turned": np.rot90(case.truth).copy(), "a corner": case.truth[:100, :100], None: case.truth}[
        wrong
    ]
    benchmark = PairsBenchmark(tmp_path, Settings())
    benchmark.brisque = False
    if wrong:
        size = "160x360" if wrong == "turned" else "100x100"
        with pytest.raises(EngineError, match=f"night.dng: the picture that was made is {size}, the ref"):
            benchmark.measure(made, case)
    else:
        assert benchmark.measure(made, case)["psnr"] > 60


def test_raws_without_a_reference_are_named(write_pair, write_raw, tmp_path, caplog):
    write_pair("night", noise(32, 32), 32, 32)
    assert len(find_pairs(tmp_path)) == 1 and not caplog.records
    for index in range(7):
        write_raw(f"{index}.dng", np.full((32, 32, 3), 0.3))
    assert len(find_pairs(tmp_path)) == 1
    assert "no reference picture beside" in caplog.text and "4.dng, 2 more; left out" in caplog.text
    (tmp_path / "night.png").unlink()
    caplog.clear()
    assert not find_pairs(tmp_path) and not caplog.records  # which is an error elsewhere


def test_of_pictures_that_could_be_meant_the_first_is(write_pair):
    raw, picture = write_pair("day", noise(32, 32), 32, 32)
    for suffix in (".tif", ".jpg"):
        Image.open(picture).save(raw.with_suffix(suffix))
    assert find_pairs(raw.parent) == [(raw, raw.with_suffix(".jpg"))]


def test_what_this_program_has_made_of_a_raw_is_no_reference(write_pair):
    raw, picture = write_pair("day", noise(32, 32), 32, 32)
    exif = Image.Exif()
    exif[305] = "deepisp 0.1.0 (deepisp)"  # Software
    Image.open(picture).save(raw.with_suffix(".jpg"), exif=exif)
    assert find_pairs(raw.parent) == [(raw, picture)]


def test_a_scene_is_its_short_exposure_and_the_first_well_lit_picture(write_pair):
    """The well-lit raw, which has a picture of its own name, is none."""
    short, picture = write_pair("1/short_exposure", noise(32, 32), 32, 32)
    _, first = write_pair("1/medium_exposure", noise(32, 32), 32, 32)
    Image.open(picture).save(first.with_name("medium_exposure_2.png"))
    Image.open(picture).save(first.with_name("long_exposure.png"))
    assert find_pairs(short.parents[1]) == [(short, first)]


def test_crops_are_as_large_as_the_largest_scene_allows(write_pair, tmp_path):
    """And then all from that one."""
    write_pair("wide", np.full((40, 200, 3), 10, np.uint8), 40, 200)
    write_pair("square", np.full((66, 72, 3), 20, np.uint8), 66, 72)
    source = RawPairs([tmp_path], 40, torch.Generator().manual_seed(0))
    assert (len(source.sides), source.largest) == (2, 66)
    pairs = source(3, 100)
    assert pairs.target.shape == pairs.picture.shape == (3, 3, 66, 66)
    assert not pairs.exposure.any()
    assert torch.equal((255 * source(8, 42).target).round().unique(), torch.tensor([20.0]))
    assert torch.equal((255 * source(20, 40).target).round().unique(), torch.tensor([10.0, 20.0]))


def test_scenes_too_narrow_for_the_largest_crops_are_named(write_pair, tmp_path, caplog):
    write_pair("narrow", noise(70, 200), 70, 200)
    write_pair("wide", noise(100, 200), 100, 200)
    stages = (Stage(1e-3, 1, 64, 1, parts="joint"), Stage(1e-3, 1, 96, 1, parts="joint"))
    settings = config("", photographs=(), raw_pairs=(str(tmp_path),), shares=(0, 0, 1), stages=stages)
    open_sources(settings, torch.Generator())
    assert f"less than 96 pixels a side: {tmp_path / 'narrow.dng'} (70); left out of crops" in caplog.text


def test_scenes_too_narrow_for_the_smallest_crops_are_left_out(write_pair, tmp_path, caplog):
    write_pair("narrow", noise(38, 200), 38, 200)
    write_pair("square", noise(40, 40), 40, 40)
    source = RawPairs([tmp_path], 40, torch.Generator())
    assert (len(source.sides), source.largest) == (1, 40)
    assert "narrow.dng: has less than 40 pixels a side" in caplog.text


def test_crops_reach_all_borders(write_pair):
    picture = noise(48, 60)
    scene = load_pair(write_pair("night", picture, 48, 60))
    places = [(scene, 0.0, 0.0), (scene, 0.999, 0.0), (scene, 0.0, 0.999), (scene, 0.5, 0.5)]
    targets = cut(places, 32, CPU).target.permute(0, 2, 3, 1).numpy()
    corners = [(0, 0), (16, 0), (0, 28), (8, 14)]
    for target, (top, left) in zip(targets, corners, strict=True):
        np.testing.assert_allclose(target, picture[top : top + 32, left : left + 32] / 255, atol=1e-6)


def test_a_pair_in_two_folders_counts_once(write_pair, tmp_path):
    write_pair("night", noise(40, 60), 40, 60)
    source = RawPairs([tmp_path, tmp_path], 32, torch.Generator())
    assert len(source.sides) == 1
    assert source(2, 32).picture.shape == (2, 3, 32, 32)

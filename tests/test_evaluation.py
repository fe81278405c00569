"""Metrics measure what they should, protocols are as described, the command reports its results."""

import functools
import json
import math
import os
import re
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("skimage")

import rawpy
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter

from deepisp_cli.camera_rgb import linear_rgb
from deepisp_cli.cli import main
from deepisp_cli.colour import encode, srgb_encode
from deepisp_cli.demosaic import demosaic, normalise_mosaic, sample_mosaic
from deepisp_cli.errors import EngineError, InputError, UsageError
from deepisp_cli.evaluation import PROTOCOLS, metrics
from deepisp_cli.evaluation import evaluate as evaluation
from deepisp_cli.evaluation.alignment import align, common_middle
from deepisp_cli.evaluation.baselines import RAW_BASELINES, plain
from deepisp_cli.evaluation.benchmarks import Benchmark, Case, Settings, eight_bit
from deepisp_cli.evaluation.evaluate import evaluate
from deepisp_cli.evaluation.model_file import FileEngine
from deepisp_cli.evaluation.msr import Msr, Transform
from deepisp_cli.evaluation.photographs import Demosaic, LowLight
from deepisp_cli.evaluation.report import HEAD, as_markdown, sheet_row, table
from deepisp_cli.evaluation.scenes import Pairs
from deepisp_cli.raw import read_raw
from deepisp_cli.tiling import mirror, run_tiled
from deepisp_cli.training.cameras import HELD_OUT, matrices
from deepisp_cli.training.pictures import spread


def scene(seed=0, height=96, width=128):
    """Gradients, coloured rectangles and a fine pattern, uint8."""
    rng = np.random.default_rng(seed)
    picture = np.linspace(40, 180, width)[None, :, None] * rng.uniform(0.6, 1, (height, 1, 3))
    for _ in range(20):
        top, left = rng.integers(0, height - 12), rng.integers(0, width - 16)
        picture[top : top + 12, left : left + 16] = rng.uniform(10, 240) * rng.uniform(0.7, 1, 3)
    picture[: height // 3, : width // 3] += 30 * np.sin(np.arange(width // 3))[:, None]
    return np.clip(gaussian_filter(picture, (0.8, 0.8, 0)), 0, 255).astype(np.uint8)  # as through a lens


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for seed in range(3):
        Image.fromarray(scene(seed)).save(folder / f"{seed}.png")
    return folder


ALL = {**metrics.FULL_REFERENCE, "channel_psnr": metrics.channel_psnr}
MARGINS = {"psnr": 60, "channel_psnr": 60, "matched_psnr": 60, "ssim": 2e-4, "ms_ssim": 1e-4, "delta_e": 0.2}
FAULTS = {
    "one pixel to the right": lambda picture: np.roll(picture, 1, 1),
    "red and blue swapped": lambda picture: picture[..., ::-1],
    "scaled by 1.02": lambda picture: np.clip(picture * 1.02, 0, 255).round().astype(np.uint8),
    "noise": lambda picture: np.clip(
        picture + 4 * np.random.default_rng(0).standard_normal(picture.shape), 0, 255
    ).astype(np.uint8),
}


TRUTH = scene(height=176, width=192)


@functools.cache
def perfect(metric):
    return ALL[metric](TRUTH, TRUTH)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("metric", ALL)
def test_metrics_see_the_faults_they_should(metric, fault):
    found = ALL[metric](FAULTS[fault](TRUTH), TRUTH)
    if metric == "matched_psnr" and fault in ("red and blue swapped", "scaled by 1.02"):
        assert found > metrics.psnr(FAULTS[fault](TRUTH), TRUTH) + 3
    else:
        assert abs(found - perfect(metric)) > MARGINS[metric]


def test_psnr_is_the_textbooks():
    truth = np.full((4, 4, 3), 100, np.uint8)
    assert metrics.psnr(truth + 5, truth) == pytest.approx(20 * np.log10(255 / 5))
    assert metrics.psnr(truth, truth) == pytest.approx(120)
    linear = np.full((4, 4, 3), 0.25, np.float32)
    assert metrics.psnr(linear + np.float32(0.1), linear) == pytest.approx(20, abs=1e-4)


def test_structure_is_measured_on_the_scale_of_8_bits():
    """Flat pictures differ in luminance alone, which the smallest of five scales counts with its exponent."""
    picture, truth = np.full((2, 176, 192, 3), [[[[10]]], [[[20]]]], np.uint8)
    luminance = (2 * 10 * 20 + 2.55**2) / (10**2 + 20**2 + 2.55**2)
    assert metrics.ssim(picture, truth) == pytest.approx(luminance, abs=1e-5)
    assert metrics.ms_ssim(picture, truth) == pytest.approx(luminance**0.1333, abs=1e-5)


def test_colour_differences_are_ciede2000(monkeypatch):
    """From black to white it is 100, from blue to red 52.9, a third of that in CIE Lab."""
    monkeypatch.setattr(metrics, "ROWS", 3)  # compared at once, of eight
    black, white, blue, red = (
        np.full((8, 8, 3), colour, np.uint8) for colour in (0, 255, (0, 0, 255), (255, 0, 0))
    )
    assert metrics.delta_e(black, white) == pytest.approx(100, abs=0.1)
    assert metrics.delta_e(blue, red) == pytest.approx(52.9, abs=0.1)
    half = black.copy()
    half[:4] = 255
    assert metrics.delta_e(half, white) == pytest.approx(50, abs=0.1)


def test_eight_bits_end_at_black_and_white():
    assert eight_bit(np.array([-1, 0, 0.1, 0.999, 1, 1.01, 7])).tolist() == [0, 0, 26, 255, 255, 255, 255]


def test_five_scales_do_not_fit_into_a_small_picture():
    assert math.isnan(metrics.ms_ssim(scene(), scene()))
    rows = [{"name": "a", "settings": {}, "mean": {"psnr": 30.0, "ms_ssim": None}}]
    assert table(rows) == [["settings", "name", "psnr", "ms_ssim"], ["", "a", "30.00", "-"]]


def test_naturalness_is_that_of_the_picture(monkeypatch):
    """Of all of it, also where it is compared with a truth that is smaller."""
    monkeypatch.setattr(metrics, "brisque", lambda picture: float(picture.mean()))
    benchmark = Pairs.__new__(Pairs)
    benchmark.brisque = True
    picture = scene()
    found = benchmark.measure(picture, Case("a", {}, None, picture[8:-8, 4:-4]))
    assert found["brisque"] == picture.mean()
    assert found["psnr"] == 120


def test_a_table_has_its_rows_by_settings():
    """Whatever the order; structure to three decimals, the rest to two."""
    rows = [
        {"name": name, "settings": {"sigma": sigma}, "mean": {"psnr": 30.126, "ssim": 0.87654}}
        for name, sigma in (("a", 10), ("a", 0), ("b", 10), ("b (published)", 0))
    ]
    head, *body = table(rows)
    assert head == ["settings", "name", "psnr", "ssim"]
    assert [row[:2] for row in body] == [
        ["sigma 10", "a"],
        ["sigma 10", "b"],
        ["sigma 0", "a"],
        ["sigma 0", "b (published)"],
    ]
    assert {tuple(row[2:]) for row in body} == {("30.13", "0.877")}


def test_a_sheet_shows_the_middle_of_each_picture():
    wide = np.zeros((300, 400, 3), np.uint8)
    wide[22:278, 72:328] = 200
    small = np.full((100, 120, 3), 90, np.uint8)
    row = sheet_row({"wide": wide, "small": small}, first=False)
    assert row.shape == (256, 512, 3)
    assert (row[:, :256] == 200).all()
    assert (row[:100, 256:376] == 90).all() and not row[100:, 256:].any() and not row[:, 376:].any()
    titled = sheet_row({"wide": wide, "small": small}, first=True)
    np.testing.assert_array_equal(titled[HEAD:], row)
    assert titled[:HEAD, :256].any() and titled[:HEAD, 256:].any()


def test_brisque_needs_no_truth_to_see_noise():
    clean = scene(height=256, width=256)
    noisy = np.clip(clean + 25 * np.random.default_rng(0).standard_normal(clean.shape), 0, 255)
    assert metrics.brisque(noisy.astype(np.uint8)) > metrics.brisque(clean) + 5


def test_bilinear_agrees_with_an_independent_implementation():
    colour_demosaicing = pytest.importorskip("colour_demosaicing")
    truth = scene()
    mosaic = truth[..., 1].copy()
    mosaic[0::2, 0::2], mosaic[1::2, 1::2] = truth[0::2, 0::2, 0], truth[1::2, 1::2, 2]
    theirs = colour_demosaicing.demosaicing_CFA_Bayer_bilinear(mosaic / 255, "RGGB")
    ours = demosaic((mosaic / 255).astype(np.float32), "RGGB")
    inner = slice(1, -1)  # at the border they repeat the last pixel, which mixes up colours; we mirror
    np.testing.assert_allclose(ours[inner, inner], theirs[inner, inner], atol=1e-6)
    green, other = (
        np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4,
        np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4,
    )
    masks = colour_demosaicing.bayer.masks_CFA_Bayer(mosaic.shape, "RGGB")
    mirrored = [
        convolve(mosaic / 255 * mask, kernel, mode="mirror")
        for mask, kernel in zip(masks, (other, green, other), strict=True)
    ]
    np.testing.assert_allclose(ours, np.dstack(mirrored), atol=1e-6)


def test_baselines_do_not_suffer_at_the_border():
    """colour-demosaicing repeats border pixels, which mixes up colours; ours mirrors the mosaic first."""
    pytest.importorskip("colour_demosaicing")
    rows, cols = np.mgrid[0:40, 0:52]
    truth = np.stack([40 + 2 * cols, 60 + cols + rows, 20 + 3 * rows], 2).astype(np.uint8)
    mosaic = (sample_mosaic(truth) / 255).astype(np.float32)
    for name, method in Demosaic.baselines.items():
        error = np.abs(255 * method(mosaic) - truth)
        assert error[:, -1].max() < 5, name  # mirrored, a ramp turns back by up to two steps
        assert error[3:-3, 3:-3].max() < 1.5, name


def test_baselines_see_beyond_the_border_what_they_see_within():
    """Further mirrored pixels change nothing: as many as they look at are there."""
    pytest.importorskip("colour_demosaicing")
    mosaic = np.random.default_rng(0).random((40, 52)).astype(np.float32)
    rows, cols = (mirror(-20, side + 20, side) for side in mosaic.shape)
    for name, method in Demosaic.baselines.items():
        wide = method(mosaic[np.ix_(rows, cols)])[20:-20, 20:-20]
        np.testing.assert_allclose(method(mosaic), wide, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(("name", "algorithm"), [("malvar", "Malvar2004"), ("menon", "Menon2007")])
def test_baselines_are_the_algorithms_they_are_named_after(name, algorithm):
    colour_demosaicing = pytest.importorskip("colour_demosaicing")
    mosaic = np.random.default_rng(0).random((40, 52)).astype(np.float32)
    theirs = getattr(colour_demosaicing, f"demosaicing_CFA_Bayer_{algorithm}")(mosaic, "RGGB")
    found = Demosaic.baselines[name](mosaic)
    np.testing.assert_allclose(found[8:-8, 8:-8], theirs[8:-8, 8:-8], atol=1e-6)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_raw_as_the_network_sees_it_is_upright_and_as_recorded(write_raw, grey_ramp, orientation):
    """Neither brighter nor with more contrast; the ramp's light is the camera's, and grey."""
    found = plain(write_raw("ramp.dng", grey_ramp, orientation=orientation))
    expected = np.round(255 * srgb_encode(grey_ramp.astype(np.float32)))
    if orientation == 6:
        expected = np.rot90(expected, 3)
    assert found.shape == expected.shape
    assert np.abs(found - expected)[2:-2, 2:-2].max() <= 1  # a ramp turns back at the borders


LIBRAW = {  # AHD is LibRaw's default; numbers are those of its documentation
    "libraw": {"demosaic_algorithm": rawpy.DemosaicAlgorithm(3)},
    "libraw-denoised": {"fbdd_noise_reduction": rawpy.FBDDNoiseReductionMode(2)},
    "libraw-dcb": {"demosaic_algorithm": rawpy.DemosaicAlgorithm(4)},
    "libraw-dcb-denoised": {
        "demosaic_algorithm": rawpy.DemosaicAlgorithm(4),
        "fbdd_noise_reduction": rawpy.FBDDNoiseReductionMode(2),
    },
}


def test_libraw_develops_with_the_settings_that_a_baseline_is_named_after(write_raw):
    path = write_raw("noisy.dng", np.random.default_rng(0).uniform(0.1, 0.5, (64, 64, 3)))
    pictures = {}
    for name, options in LIBRAW.items():
        with rawpy.imread(str(path)) as raw:
            expected = raw.postprocess(use_camera_wb=True, **options)
        pictures[name] = RAW_BASELINES[name](path)
        np.testing.assert_array_equal(pictures[name], expected)
    assert len({picture.tobytes() for picture in pictures.values()}) == len(pictures)


@pytest.mark.parametrize(
    ("down", "right", "plausible"),
    [(0, 60, True), (-63, 8, True), (0, -70, False), (70, 0, False), (-66, 66, False)],
)
def test_a_shift_of_more_than_64_pixels_is_no_shift(down, right, plausible):
    """Cameras trim no more; what correlates there is a repetition."""
    wide = np.random.default_rng(0).integers(0, 256, (340, 360, 3), np.uint8)
    ours, theirs = wide[70:270, 70:290], wide[70 + down : 270 + down, 70 + right : 290 + right]
    found = align(ours, theirs)
    if plausible:
        assert found[0].shape[:2] == (200 - abs(down), 220 - abs(right))
        np.testing.assert_array_equal(*found)
    else:
        np.testing.assert_array_equal(found[0], ours)
        np.testing.assert_array_equal(found[1], theirs)


def test_frames_around_pictures_are_no_detail_to_align():
    """A black line around both lies at the same place, whatever they show."""
    wide = gaussian_filter(np.random.default_rng(0).uniform(0, 255, (140, 150, 3)), (1, 1, 0))
    ours, theirs = (wide[10 + d : 130 + d, 10 + d : 140 + d].astype(np.uint8) for d in (0, 4))
    for picture in (ours, theirs):
        for line in (picture[:2], picture[-2:], picture[:, :2], picture[:, -2:]):
            line[:] = 0
    ours, theirs = align(ours, theirs)
    assert ours.shape == (116, 126, 3)
    np.testing.assert_array_equal(ours[2:-2, 2:-2], theirs[2:-2, 2:-2])


def test_channel_psnr_is_the_mean_of_three():
    truth = np.full((4, 4, 3), 100, np.uint8)
    expected = np.mean([20 * np.log10(255 / error) for error in (1, 5, 25)])
    assert metrics.channel_psnr(truth + np.uint8([1, 5, 25]), truth) == pytest.approx(expected)


def test_the_better_baseline_is_better_and_noise_hurts(folder):
    pytest.importorskip("colour_demosaicing")
    results = evaluate(Demosaic(folder, Settings(sigmas=(0, 10))), Demosaic.baselines)
    psnr = {(row["name"], row["settings"]["sigma"]): row["mean"]["psnr"] for row in results}
    assert psnr["menon", 0] > psnr["bilinear", 0] + 0.5
    assert all(psnr[name, 10] < psnr[name, 0] for name in Demosaic.baselines)
    assert all(row["seconds_per_megapixel"] > 0 for row in results)


def test_noise_of_mosaics_can_be_drawn_again(folder):
    """From the seeds that results state; each picture has its own."""
    shutil.copy(folder / "0.png", folder / "1.png")
    for index, case in enumerate(Demosaic(folder, Settings(sigmas=(20, 30))).cases()):
        sigma = (20, 30)[index % 2]
        assert case.settings == {"sigma": sigma}
        noise = np.random.default_rng(index // 2).standard_normal(case.input.shape)
        expected = (sample_mosaic(case.truth) + sigma * noise) / 255
        np.testing.assert_allclose(case.input, expected, atol=1e-6)
        assert case.input.min() < 0  # not clipped


def unchanging_network(path):
    """A network that changes nothing, as TorchScript."""
    torch = pytest.importorskip("torch")
    torch.jit.trace(torch.nn.Identity(), torch.zeros(1, 3, 32, 32)).save(str(path))
    return FileEngine(path)


def test_networks_of_others_get_sides_that_are_multiples_of_16(tmp_path):
    """With 64 pixels of surroundings on each side."""
    engine = unchanging_network(tmp_path / "same.pt")
    shapes = []
    run = engine._run
    engine._run = lambda tile: shapes.append(tile.shape) or run(tile)
    picture = np.random.default_rng(0).random((70, 90, 3)).astype(np.float32)
    image, _ = run_tiled(engine, picture)
    np.testing.assert_array_equal(image, picture)
    assert shapes == [(1, 3, 80 + 128, 96 + 128)]


def test_the_msr_datasets_mosaics_are_seen_on_the_networks_scale(identity_engine):
    """And the results are linear light again."""
    seen = []
    run = identity_engine.run
    identity_engine.run = lambda tile: seen.append(tile) or run(tile)
    mosaic = np.random.default_rng(0).uniform(0, 1, (32, 48)).astype(np.float32)
    restore = Msr.method(None, identity_engine)
    np.testing.assert_allclose(restore(mosaic), demosaic(mosaic, "RGGB"), atol=1e-5)
    seen.clear()
    restore(np.full((32, 48), 0.25, np.float32))
    np.testing.assert_allclose(seen[0], encode(np.float32(0.25)), atol=1e-6)


@pytest.fixture
def msr():
    """``msr(protocol)`` is the benchmark without its data, with a transform that halves."""

    def of(protocol, transform=True):
        benchmark = Msr.__new__(Msr)
        benchmark.settings = Settings(protocol=protocol)
        # of a curve that is a straight line
        benchmark.transform = Transform(0.5 * np.eye(3), np.array([-1.0, 1.0, 1.0])) if transform else None
        return benchmark

    return of


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_msr_measures_in_linear_light_and_in_srgb(msr, protocol):
    truth = np.full((40, 40, 3), 0.4)
    picture = truth + 10 / 255
    found = msr(protocol).measure(picture, Case("a", {}, None, truth))
    assert found["linear_psnr"] == pytest.approx(20 * np.log10(255 / 10), abs=1e-3)
    assert found["srgb_psnr"] == pytest.approx(20 * np.log10(255 / 5), abs=1e-3)


def test_msr_cuts_seven_pixels_off_each_border(msr):
    ramp = np.arange(30 * 20 * 3).reshape(30, 20, 3) / 1800
    np.testing.assert_array_equal(msr("cropped")._as_protocol(ramp), eight_bit(ramp)[7:23, 7:13])


def test_msr_shows_pictures_in_srgb(msr):
    """Those of the dataset's transform, or of the standard's curve without it."""
    linear = np.full((4, 4, 3), 0.25)
    assert (msr("clipped").show(linear) == 32).all()
    assert (msr("clipped", transform=False).show(linear) == 137).all()


@pytest.mark.parametrize("benchmark", [Demosaic, LowLight])
def test_photographs_are_cut_to_even_sides(tmp_path, benchmark):
    Image.fromarray(scene(height=51, width=77)).save(tmp_path / "a.png")
    (case,) = benchmark(tmp_path, Settings(sigmas=(0,))).cases()
    np.testing.assert_array_equal(case.truth, scene(height=51, width=77)[:50, :76])


def test_low_light_is_measured_on_what_both_pictures_show(folder):
    """RawTherapee leaves out a border."""
    benchmark = LowLight(folder, Settings())
    found = benchmark.measure(scene()[4:-4, 4:-4], Case("a", {}, None, scene()))
    assert found["psnr"] == 120


def test_a_mosaic_is_shown_as_its_samples(folder):
    benchmark = Demosaic(folder, Settings(sigmas=(0,)))
    case = next(benchmark.cases())
    shown = benchmark.show_input(case)
    np.testing.assert_array_equal(shown, np.repeat(sample_mosaic(case.truth)[..., None], 3, 2))


def test_the_common_middle_is_cut_out_of_both():
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    found = common_middle(picture[:, 10:-10], picture[4:-4])
    for part in found:
        np.testing.assert_array_equal(part, picture[4:-4, 10:-10])


def test_each_low_light_raw_has_noise_of_its_own(tmp_path):
    """The tenth picture has the first one's camera, light and noise level."""
    for index in range(10):
        Image.new("RGB", (64, 48), (180,) * 3).save(tmp_path / f"{index}.png")
    first, *_, tenth = (read_raw(case.input) for case in LowLight(tmp_path, Settings()).cases())
    np.testing.assert_array_equal(first.camera_white_balance, tenth.camera_white_balance)
    one, other = (raw.samples[0::2, 1::2].astype(float) for raw in (first, tenth))  # greens
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] < 0.2


def test_low_light_raws_have_the_exposure_and_the_noise_that_the_table_says(tmp_path):
    """A grey card: a grey of 180 is 0.456 in linear light, and reads a quarter of that."""
    for name in "abc":
        Image.new("RGB", (128, 96), (180,) * 3).save(tmp_path / f"{name}.png")
    for case, shot in zip(LowLight(tmp_path, Settings()).cases(), (0.002, 0.006, 0.015), strict=True):
        raw = read_raw(case.input)
        mosaic = normalise_mosaic(raw.samples, raw.pattern, raw.black, raw.white, np.ones(3, np.float32))
        green = np.concatenate([mosaic[0::2, 1::2], mosaic[1::2, 0::2]])
        assert green.mean() == pytest.approx(0.456 / 4, rel=0.02)
        assert green.var() == pytest.approx(shot * 0.456 / 4 + 3.32 * shot**2.18, rel=0.06)


def test_low_light_cameras_lights_and_noises_are_all_combined(tmp_path):
    """Nine pictures: each camera in each light once, each noise with each camera and in each light once."""
    for index in range(9):
        Image.new("RGB", (64, 48), (180,) * 3).save(tmp_path / f"{index}.png")
    drawn = []
    for case in LowLight(tmp_path, Settings()).cases():
        raw = read_raw(case.input)
        mosaic = normalise_mosaic(raw.samples, raw.pattern, raw.black, raw.white, np.ones(3, np.float32))
        green = np.concatenate([mosaic[0::2, 1::2], mosaic[1::2, 0::2]])
        noise = min((0.002, 0.006, 0.015), key=lambda shot: abs(green.var() / (0.114 * shot) - 1))
        light = tuple(np.round(raw.camera_white_balance.astype(float), 2))
        camera = [np.allclose(raw.xyz_to_camera, held, atol=1e-4) for held in matrices(HELD_OUT)].index(True)
        drawn.append((camera, light, noise))
    cameras, lights, noises = (sorted(set(values)) for values in zip(*drawn, strict=True))
    assert (cameras, noises) == ([0, 1, 2], [0.002, 0.006, 0.015])
    assert lights == [(1.6, 1, 2.1), (1.9, 1, 1.7), (2.1, 1, 1.5)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert len({(row[one], row[other]) for row in drawn}) == 9


def test_low_light_raws_may_have_an_x_trans_mosaic_or_none(tmp_path):
    """The same scene: each colour has the same mean."""
    Image.new("RGB", (126, 96), (180, 120, 60)).save(tmp_path / "a.png")
    means = {}
    for cfa in ("bayer", "x-trans", "none"):
        for case in LowLight(tmp_path, Settings(cfa=cfa)).cases():
            raw = read_raw(case.input)
            assert (raw.x_trans, raw.pattern is None) == (cfa == "x-trans", cfa == "none")
            means[cfa] = linear_rgb(raw, np.ones(3, np.float32)).mean((0, 1))
    np.testing.assert_allclose(means["x-trans"], means["bayer"], rtol=0.03)
    np.testing.assert_allclose(means["none"], means["bayer"], rtol=0.03)


def test_photographs_too_small_to_be_measured_are_named_first(tmp_path):
    Image.new("RGB", (64, 21)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: has less than 22 rows or columns"):
        LowLight(tmp_path, Settings())
    Image.new("RGB", (64, 22)).save(tmp_path / "a.png")
    for case in LowLight(tmp_path, Settings()).cases():
        assert RAW_BASELINES["libraw"](case.input).shape == (22, 64, 3)


@pytest.mark.parametrize("wrong", ["nothing", "float", "grey", "part"])
def test_what_is_no_finished_picture_is_not_measured(folder, wrong):
    """Of floating-point values the metrics would be wrong without a word."""
    returned = {
        "nothing": lambda raw: None,
        "float": lambda raw: plain(raw) / np.float32(255),
        "grey": lambda raw: plain(raw)[..., 0],
        "part": lambda raw: plain(raw)[:60],
    }
    with pytest.raises(UsageError, match="a method returned"):
        evaluate(LowLight(folder, Settings()), {"mine": returned[wrong]})


@pytest.mark.parametrize(
    "wrong", [np.zeros((96, 128, 3), np.uint8), np.zeros((90, 128, 3)), np.zeros((96, 128))]
)
def test_what_is_no_restored_mosaic_is_not_measured(folder, wrong):
    with pytest.raises(UsageError, match="restored mosaics are floating-point of shape"):
        evaluate(Demosaic(folder, Settings()), {"mine": lambda mosaic: wrong})


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_mosaic_restored_to_no_numbers_is_a_failure(folder, number):
    """Which may leave out the picture, other than what is no restored mosaic at all."""
    with pytest.raises(EngineError, match="yields numbers that are not finite"):
        evaluate(Demosaic(folder, Settings()), {"mine": lambda mosaic: np.full((96, 128, 3), number)})


def test_the_model_fits_the_benchmark(folder):
    result = run("demosaic", folder, "--sigma", 0, "-q")
    assert "deepisp-jdd" in result.stdout
    result = run("lowlight", folder, "--limit", 1, "-q", "--model", "deepisp-jdd")
    assert "deepisp-jdd: has no learned exposure, tone and colour" in result.stderr
    assert run("lowlight", folder, "--limit", 1, "-q", "--engine", "onnx").stderr == ""


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_noise_that_is_no_number_is_refused(folder, value):
    refused = run("demosaic", folder, "--sigma", value)
    assert refused.exit_code == 2
    assert f"{value!r} is no number from 0 on" in refused.stderr


def test_a_limit_takes_files_from_all_over_the_folder():
    files = list("abcdefghij")
    assert spread(files, 2) == ["a", "f"]
    assert spread(files, 3) == ["a", "d", "g"]
    assert spread(files, 9) == list("abcdefghi")
    for limit in (None, 10, 11):
        assert spread(files, limit) == files


def test_the_seconds_are_those_of_the_method_on_all_pictures(monkeypatch):
    class Clock:
        now = 100.0

        def perf_counter(self):
            return self.now

    class Two(Benchmark):
        def cases(self):
            yield Case("a", {}, 2.0, None)
            yield Case("b", {}, 0.5, None)

        def method(self, engine):
            raise NotImplementedError

        def measure(self, picture, case):
            clock.now += 50  # metrics do not count
            return {"psnr": 30.0}

    def work(seconds):
        clock.now += seconds
        return np.zeros((10, int(100 * seconds), 3), np.uint8)

    clock = Clock()
    monkeypatch.setattr(evaluation, "time", clock)
    (row,) = evaluate(Two(None, Settings()), {"mine": work})
    assert row["seconds_per_megapixel"] == pytest.approx(2.5 / (10 * 250) * 1e6)


def run(*arguments):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def test_two_networks_of_one_name_are_refused(folder, monkeypatch):
    class File:
        def __init__(self, path):
            self.model = type("Model", (), {"name": path.stem, "card": {"files": {}}})

    monkeypatch.setattr(evaluation.model_file, "FileEngine", File)
    chosen, _ = evaluation.choose_baselines(Demosaic(folder, Settings()), ["a/net.onnx", "b/other.onnx"])
    assert list(chosen) == ["net", "other"]
    with pytest.raises(UsageError, match=r"b/net\.onnx: another"):
        evaluation.choose_baselines(Demosaic(folder, Settings()), ["a/net.onnx", "b/net.onnx"])


@pytest.mark.parametrize("order", [1, -1])
def test_a_network_is_not_called_as_a_baseline_is(folder, tiny_model, tmp_path, order):
    choose_baselines = evaluation.choose_baselines
    chosen = Demosaic(folder, Settings())
    names = ["bilinear", str(tiny_model.folder / "model.onnx")]
    assert list(choose_baselines(chosen, [*names, *names])[0]) == ["bilinear", "model"]  # each of them once
    names[1] = str(shutil.copy(names[1], tmp_path / "bilinear.onnx"))
    with pytest.raises(UsageError, match="another baseline is called bilinear"):
        choose_baselines(chosen, names[::order])
    with pytest.raises(UsageError, match="another baseline is called bilinear"):
        choose_baselines(chosen, names[1:])


def test_a_network_in_a_file_does_not_take_the_place_of_a_model(folder, tiny_model, tmp_path):
    theirs = shutil.copy(tiny_model.folder / "model.onnx", tmp_path / "deepisp-jdd.onnx")
    refused = run("demosaic", folder, "--baseline", theirs, "--model", "deepisp-jdd", "--sigma", 0, "-q")
    assert refused.exit_code == 2, refused.output
    assert "another model or baseline is called deepisp-jdd" in refused.stderr


def test_a_model_that_is_named_twice_is_measured_once(folder, tiny_model):
    result = run("demosaic", folder, *("--model", tiny_model.folder) * 2, "--sigma", 0, "-q")
    assert result.exit_code == 0, result.output
    assert [line.split()[2] for line in result.stdout.splitlines()[1:]] == ["bilinear", "tiny"]


def test_the_command_writes_what_it_prints(folder, tmp_path):
    out = tmp_path / "out"
    arguments = ("lowlight", folder, "--limit", 2, "-o", out, "--engine", "onnx", "--contrast", 0, "-q")
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    contents = json.loads((out / "results.json").read_text())
    assert [row["name"] for row in contents["results"]] == ["libraw", "deepisp"]
    assert len(contents["results"][0]["images"]) == 2
    assert set(contents["models"]["deepisp"]) == {"model.onnx", "model-int8.onnx", "weights.safetensors"}
    assert contents["engines"] == {"deepisp": "onnx/cpu"}
    assert re.fullmatch(r"\d+ cores, \S.*", contents["processor"])
    assert contents["versions"]["numpy"]
    assert "default_rng(1000 + i)" in contents["seeds"]
    assert contents["command"] == "deepisp evaluate lowlight photographs --contrast 0 --limit 2 --engine onnx"
    for row in contents["results"]:
        values = [image["psnr"] for image in row["images"]]
        assert row["mean"]["psnr"] == pytest.approx(np.mean(values), abs=1e-3)
        assert f"{row['mean']['psnr']:.2f}" in result.output
        assert row["mean"]["ms_ssim"] is None  # the pictures are too small
    assert as_markdown(table(contents["results"])) in (out / "results.md").read_text()
    assert Image.open(out / "sheet.jpg").size == (4 * 256, HEAD + 2 * 256)  # input, two methods, truth

    refused = run(*arguments)
    assert refused.exit_code == 2
    assert "results.json exists" in refused.output
    assert run(*arguments, "--overwrite").exit_code == 0


def test_a_picture_on_which_one_method_fails_is_left_out_for_all(folder, tmp_path, monkeypatch):
    """Means over different pictures could not be compared."""
    calls = []

    def fails_once(path):
        calls.append(path)
        if len(calls) == 2:
            raise EngineError(f"{path}: it crashed")
        return RAW_BASELINES["libraw-dcb"](path)

    monkeypatch.setattr(LowLight, "baselines", {**RAW_BASELINES, "libraw": fails_once})
    out = tmp_path / "out"
    result = run("lowlight", folder, "-o", out, "--engine", "onnx", "--baseline", "libraw-dcb", "-q",
                 "--baseline", "libraw")  # fmt: skip
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "1.png: left out, because libraw failed: it crashed",
        "deepisp: pictures left out: 1; the means are of the others",
    ]
    contents = json.loads((out / "results.json").read_text())
    assert contents["left_out"] == [{"name": "1.png", "method": "libraw", "error": "it crashed"}]
    for row in contents["results"]:
        assert [image["name"] for image in row["images"]] == ["0.png", "2.png"]
    means = {row["name"]: row["mean"] for row in contents["results"]}
    assert list(means) == ["libraw-dcb", "libraw", "deepisp"]
    assert means["libraw-dcb"] == means["libraw"]
    assert Image.open(out / "sheet.jpg").size == (5 * 256, HEAD + 2 * 256)


def test_a_method_that_always_fails_leaves_nothing_to_report(folder, tmp_path, monkeypatch):
    def fails(path):
        raise EngineError("it crashed")

    monkeypatch.setattr(LowLight, "baselines", {"libraw": fails})
    result = run("lowlight", folder, "-o", tmp_path / "out", "--engine", "onnx", "-q")
    assert result.exit_code == 1
    assert "no picture is left" in result.stderr
    assert not result.stdout and not list((tmp_path / "out").iterdir())


def test_the_library_raises_what_a_method_raises(folder):
    """And the command what concerns all pictures."""

    def fails(mosaic):
        raise EngineError("it crashed")

    def lacks(mosaic):
        raise UsageError("not installed")

    benchmark, told = Demosaic(folder, Settings(sigmas=(0,))), []
    with pytest.raises(EngineError, match="it crashed"):
        evaluate(benchmark, {"mine": fails})
    with pytest.raises(UsageError, match="not installed"):
        evaluate(benchmark, {"mine": lacks}, failed=lambda *failure: told.append(failure))
    assert not told


@pytest.mark.parametrize("benchmark", [Demosaic, LowLight])
def test_a_limit_changes_no_raw(folder, benchmark):
    """Camera, light and noise are those that a picture has among all, every time."""
    shutil.copy(folder / "0.png", folder / "3.png")

    def inputs(limit):
        return {
            case.name: case.input.copy() if isinstance(case.input, np.ndarray) else case.input.read_bytes()
            for case in benchmark(folder, Settings(limit=limit)).cases()
        }

    every, some = inputs(None), inputs(2)
    assert len(some) == 2 < len(every) and list(some) != list(every)[:2]
    for name, found in some.items():
        np.testing.assert_array_equal(found, every[name])


def test_a_full_disk_takes_no_results(folder, tmp_path, monkeypatch):
    """They are printed before they are written."""

    def full(_):
        raise OSError(28, "full")

    monkeypatch.setattr(os, "fsync", full)
    result = run("lowlight", folder, "--limit", 1, "-o", tmp_path / "out", "--engine", "onnx", "-q")
    assert result.exit_code == 5
    assert "results.json: cannot be written (full); free some space" in result.stderr
    assert "matched_psnr" in result.stdout and "deepisp" in result.stdout
    assert not list((tmp_path / "out").iterdir())


def test_two_models_of_one_name_are_told_apart(folder, tiny_model, tmp_path):
    copy = shutil.copytree(tiny_model.folder, tmp_path / "copy")
    result = run("demosaic", folder, "--model", tiny_model.folder, "--model", copy, "--sigma", 0, "-q")
    assert result.exit_code == 0, result.output
    assert [line.split()[2] for line in result.stdout.splitlines()[1:]] == ["bilinear", "tiny", str(copy)]


def test_bad_input_is_refused_before_any_work(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no photographs" in run("demosaic", tmp_path / "empty").output
    unknown = run("demosaic", folder, "--baseline", "libraw")
    assert unknown.exit_code == 2
    assert "bilinear, malvar, menon" in unknown.output
    (folder / "9.png").write_bytes(b"no picture")
    broken = run("lowlight", folder)
    assert broken.exit_code == 3
    assert "9.png" in broken.output
    assert "0.png" not in broken.output  # no photograph was processed


@pytest.mark.parametrize(
    ("option", "value", "wanted", "other"),
    [
        ("--sigma", 10, "demosaic", "lowlight"),
        ("--protocol", "clipped", "msr", "demosaic"),
        ("--cfa", "x-trans", "lowlight", "demosaic"),
    ],
)
def test_an_option_of_another_benchmark_is_refused(folder, option, value, wanted, other):
    result = run(other, folder, option, value)
    assert result.exit_code == 2
    assert f"{option} is for {wanted} only, not for {other}" in result.output


def test_looks_of_different_contrast_are_told(folder, tiny_model):
    models = ("--model", tiny_model.folder, "--model", "deepisp", "--limit", 1, "-q")
    told = "the contrast of the looks differs (tiny 0, deepisp 0.25); --contrast 0 leaves it out"
    assert told in run("lowlight", folder, *models).stderr
    assert told not in run("lowlight", folder, *models, "--contrast", 0).stderr


@pytest.mark.parametrize("name", ["demosaic", "msr"])
def test_contrast_is_for_finished_pictures(folder, name):
    result = run(name, folder, "--contrast", 0)
    assert result.exit_code == 2
    assert f"--contrast is for finished pictures, not for {name}" in result.output


@pytest.mark.parametrize("benchmark", [LowLight, Pairs])
def test_pictures_have_the_contrast_that_is_asked_for(
    folder, write_raw, grey_ramp, identity_engine, benchmark, monkeypatch
):
    monkeypatch.setattr(Pairs, "_find", lambda _: [])
    raw = write_raw("ramp.dng", grey_ramp)
    identity_engine.model.card["contrast"] = 0.5
    made = [
        benchmark(folder, Settings(contrast=contrast)).method(identity_engine)(raw)
        for contrast in (None, 0.5, 1.0)
    ]
    np.testing.assert_array_equal(*made[:2])
    assert made[2].std() > made[1].std()


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("demosaic", ["--sigma", 3, "--sigma", 7, "--limit", 2], Settings((3, 7), 2)),
        ("demosaic", ["--sigma", 7, "--sigma", 3, "--sigma", 7], Settings((7, 3))),
        ("msr", ["--protocol", "clipped"], Settings(protocol="clipped")),
        ("msr", [], Settings()),
        ("lowlight", ["--cfa", "x-trans"], Settings(cfa="x-trans")),
        ("pairs", ["--contrast", 0], Settings(contrast=0)),
    ],
)
def test_the_options_reach_the_benchmark(folder, monkeypatch, name, options, expected):
    def opened(*given):
        assert given == (name, folder, expected)
        raise UsageError("as expected")

    monkeypatch.setattr(evaluation, "open_benchmark", opened)
    assert run(name, folder, *options).output == "deepisp: as expected\n"


def test_names_stand_on_the_first_row_of_a_sheet_alone(folder):
    strips = []
    evaluate(
        Demosaic(folder, Settings(sigmas=(0,))), {"bilinear": Demosaic.baselines["bilinear"]}, strips=strips
    )
    assert [len(strip) for strip in strips] == [HEAD + 256, 256, 256]


def test_colours_are_matched_to_those_of_the_truth(folder):
    """A grey picture cannot be matched to colours, but these to it."""
    benchmark = LowLight(folder, Settings(limit=1))
    truth = scene()
    grey = np.repeat(truth[..., 1:2], 3, 2)
    values = benchmark.measure(grey, Case("a", {}, None, truth))
    assert (
        values["matched_psnr"] == metrics.matched_psnr(grey, truth) < metrics.matched_psnr(truth, grey) - 10
    )


def test_results_do_not_go_among_the_data(folder, monkeypatch):
    """The sheet would be a photograph of the next run."""
    monkeypatch.chdir(folder.parent)
    for data, output in ((folder.name, folder), (folder, folder.name)):
        refused = run("demosaic", data, "-o", output)
        assert refused.exit_code == 2
        assert "holds the data" in refused.output


def test_mosaics_have_five_noises_unless_told_otherwise(folder):
    cases = Demosaic(folder, Settings(limit=1)).cases()
    assert [case.settings["sigma"] for case in cases] == [0, 5, 10, 15, 20]

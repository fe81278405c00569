"""Metrics measure what they should, protocols are as described, the command reports its results."""

import json
import math
import os
import re
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("skimage")

from PIL import Image
from scipy.ndimage import convolve, gaussian_filter

from deepisp_cli.camera_rgb import linear_rgb
from deepisp_cli.cli import main
from deepisp_cli.demosaic import demosaic, normalise_mosaic, sample_mosaic
from deepisp_cli.errors import InputError, UsageError
from deepisp_cli.evaluation import evaluate as evaluation
from deepisp_cli.evaluation import metrics
from deepisp_cli.evaluation.benchmarks import Benchmark, Case, Settings
from deepisp_cli.evaluation.evaluate import evaluate
from deepisp_cli.evaluation.photographs import Demosaic, LowLight
from deepisp_cli.evaluation.report import HEAD, as_markdown, table
from deepisp_cli.raw import read_raw
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


ALL = {
    "psnr": metrics.psnr,
    "channel_psnr": metrics.channel_psnr,
    "ssim": metrics.ssim,
    "ms_ssim": metrics.ms_ssim,
    "delta_e": metrics.delta_e,
    "matched": metrics.matched_psnr,
}
FAULTS = {
    "one pixel to the right": lambda picture: np.roll(picture, 1, 1),
    "red and blue swapped": lambda picture: picture[..., ::-1],
    "scaled by 1.02": lambda picture: np.clip(picture * 1.02, 0, 255).round().astype(np.uint8),
    "noise": lambda picture: np.clip(
        picture + 4 * np.random.default_rng(0).standard_normal(picture.shape), 0, 255
    ).astype(np.uint8),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("metric", ALL)
def test_metrics_see_the_faults_they_should(metric, fault):
    truth = scene(height=176, width=192)
    perfect, found = ALL[metric](truth, truth), ALL[metric](FAULTS[fault](truth), truth)
    forgiven = metric == "matched" and fault in ("red and blue swapped", "scaled by 1.02")
    margin = {"psnr": 60, "channel_psnr": 60, "matched": 60, "ssim": 2e-4, "ms_ssim": 1e-4, "delta_e": 0.2}[
        metric
    ]
    assert forgiven or abs(found - perfect) > margin
    if forgiven:
        assert found > metrics.psnr(FAULTS[fault](truth), truth) + 3


def test_psnr_is_the_textbooks():
    truth = np.full((4, 4, 3), 100, np.uint8)
    assert metrics.psnr(truth + 5, truth) == pytest.approx(20 * np.log10(255 / 5))
    assert metrics.psnr(truth, truth) == pytest.approx(120)
    linear = np.full((4, 4, 3), 0.25, np.float32)
    assert metrics.psnr(linear + np.float32(0.1), linear) == pytest.approx(20, abs=1e-4)


def test_five_scales_do_not_fit_into_a_small_picture():
    assert math.isnan(metrics.ms_ssim(scene(), scene()))
    rows = [{"name": "a", "settings": {}, "mean": {"psnr": 30.0, "ms_ssim": None}}]
    assert table(rows) == [["settings", "name", "psnr", "ms_ssim"], ["", "a", "30.00", "-"]]


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


def test_mosaics_hold_the_photographs_samples_and_the_noise_asked_for(folder):
    cases = list(Demosaic(folder, Settings(sigmas=(0, 20))).cases())
    assert [case.settings for case in cases] == [{"sigma": 0}, {"sigma": 20}] * 3
    np.testing.assert_allclose(cases[0].input[0::2, 0::2] * 255, cases[0].truth[0::2, 0::2, 0], atol=1e-4)
    assert ((cases[1].input - cases[0].input) * 255).std() == pytest.approx(20, rel=0.03)


def test_low_light_raws_are_dark_noisy_and_the_same_every_time(folder):
    dark = LowLight.baselines["libraw"]
    first = [(dark(case.input), case.truth) for case in LowLight(folder, Settings()).cases()]
    again = [dark(case.input) for case in LowLight(folder, Settings()).cases()]
    for (picture, truth), other in zip(first, again, strict=True):
        np.testing.assert_array_equal(picture, other)
        assert picture.shape == truth.shape
        assert metrics.matched_psnr(picture, truth) > metrics.psnr(picture, truth)


def test_low_light_raws_have_the_exposure_and_the_noise_that_the_table_says(tmp_path):
    """A grey card: a grey of 180 is 0.456 in linear light, and reads a quarter of that."""
    for name in "abc":
        Image.new("RGB", (128, 96), (180,) * 3).save(tmp_path / f"{name}.png")
    for case, shot in zip(LowLight(tmp_path, Settings()).cases(), (0.002, 0.006, 0.015), strict=True):
        with case.input.open("rb") as file:
            raw = read_raw(file, case.name)
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
    Image.new("RGB", (64, 12)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: has less than 16 rows or columns"):
        LowLight(tmp_path, Settings())


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


def test_two_networks_of_one_name_are_refused(folder, tmp_path, monkeypatch):
    from deepisp_cli.errors import UsageError

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
    from deepisp_cli.errors import UsageError
    from deepisp_cli.evaluation.evaluate import choose_baselines

    chosen = Demosaic(folder, Settings())
    names = ["bilinear", str(tiny_model.folder / "model.onnx")]
    assert list(choose_baselines(chosen, [*names, *names])[0]) == ["bilinear", "model"]  # each of them once
    names[1] = str(shutil.copy(names[1], tmp_path / "bilinear.onnx"))
    with pytest.raises(UsageError, match="another baseline is called bilinear"):
        choose_baselines(chosen, names[::order])


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
    arguments = ("lowlight", folder, "--limit", 2, "-o", out, "--engine", "onnx", "-q")
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
    assert contents["command"] == "deepisp evaluate lowlight photographs --limit 2 --engine onnx"
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


@pytest.mark.parametrize("benchmark", [Demosaic, LowLight])
def test_a_limit_changes_no_raw(folder, benchmark):
    """Camera, light and noise are those that a picture has among all."""
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

    result = run(wanted, folder, option, value, "--limit", 1, "-q", "--model", "deepisp-jdd")
    assert f"{option} is for" not in result.output


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("demosaic", ["--sigma", 3, "--sigma", 7, "--limit", 2], Settings((3, 7), 2)),
        ("msr", ["--protocol", "clipped"], Settings(protocol="clipped")),
        ("msr", [], Settings()),
        ("lowlight", ["--cfa", "x-trans"], Settings(cfa="x-trans")),
    ],
)
def test_the_options_reach_the_benchmark(folder, monkeypatch, name, options, expected):
    def opened(*given):
        assert given == (name, folder, expected)
        raise UsageError("as expected")

    monkeypatch.setattr(evaluation, "open_benchmark", opened)
    assert run(name, folder, *options).output == "deepisp: as expected\n"

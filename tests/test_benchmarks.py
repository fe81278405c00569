"""Benchmarks of data sets and real raws: layouts, protocols, registration, other programs and networks."""

import json
import os
import stat
import sys
from pathlib import PureWindowsPath

import imagecodecs
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.ndimage import gaussian_filter

pytest.importorskip("skimage")

from deepisp_cli.cli import main
from deepisp_cli.colour import srgb_encode
from deepisp_cli.demosaic import demosaic, sample_mosaic
from deepisp_cli.errors import EngineError, InputError, ModelError, UsageError
from deepisp_cli.evaluation import baselines, metrics, msr, scenes
from deepisp_cli.evaluation.alignment import align
from deepisp_cli.evaluation.benchmarks import Settings
from deepisp_cli.evaluation.evaluate import choose_baselines, evaluate, open_benchmark
from deepisp_cli.evaluation.model_file import FileEngine
from deepisp_cli.evaluation.photographs import Demosaic


def textured(height, width, seed=0):
    """Smooth colours and fine texture, (H, W, 3) float in [0, 1]."""
    rng = np.random.default_rng(seed)
    coarse = gaussian_filter(rng.random((height, width, 3)), (12, 12, 0))
    coarse = (coarse - coarse.min()) / (coarse.max() - coarse.min())
    fine = gaussian_filter(rng.standard_normal((height, width, 1)), (1, 1, 0))
    return np.clip(0.15 + 0.5 * coarse + 0.15 * fine, 0.02, 0.95)


@pytest.fixture
def dataset(tmp_path):
    """Two test pictures of each camera in the layout of the Microsoft dataset, without noise."""
    root = tmp_path / "MSR-Demosaicing"
    for number, camera in enumerate(msr.CAMERAS):
        folder = root / msr.FOLDER / f"bayer_{camera}"
        for name in ("input", "groundtruth"):
            (folder / name).mkdir(parents=True)
        for index in ("7", "12"):
            truth = np.round(65535 * textured(48, 64, seed=int(index) + number)).astype(np.uint16)
            (folder / "groundtruth" / f"{index}.png").write_bytes(imagecodecs.png_encode(truth))
            (folder / "input" / f"{index}.png").write_bytes(imagecodecs.png_encode(sample_mosaic(truth)))
        for name, content in (("train", "1\n2\n"), ("validation", "3\n"), ("test", "7\n12\n")):
            (folder / f"{name}.txt").write_text(content)
    return root


def write_transform(root):
    np.save(root / "colortrans.npy", np.array([[1.4, -0.3, 0.0], [-0.2, 1.5, -0.3], [-0.1, -0.2, 1.3]]))
    np.save(root / "gammaparams.npy", np.array([300.0, 2.2, 0.1]))


def run(*arguments):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


@pytest.mark.parametrize("protocol", ["unclipped", "clipped", "cropped"])
def test_msr_protocols_measure_what_they_say(dataset, protocol):
    write_transform(dataset)
    benchmark = open_benchmark("msr", dataset, Settings(protocol=protocol))
    case = next(benchmark.cases())
    border, white = case.truth.copy(), case.truth.copy()
    border[:7] = 0.5  # an error that "cropped" cannot see
    white[20, 20] = 1.0
    over = white.copy()
    over[20, 20] = 3.0  # an error that only "unclipped" can see
    seen_border = benchmark.measure(border, case)["linear_psnr"] < 60
    seen_over = (
        benchmark.measure(over, case)["linear_psnr"] < benchmark.measure(white, case)["linear_psnr"] - 1
    )
    assert (seen_border, seen_over) == (protocol != "cropped", protocol == "unclipped")
    assert benchmark.measure(case.truth, case) == {"linear_psnr": 120, "srgb_psnr": 120}
    slightly = benchmark.measure(case.truth + np.float32(1e-5), case)["linear_psnr"]
    assert (abs(slightly - 100) < 0.5) == (protocol != "cropped")  # which rounds to eight bits


def test_msr_prints_the_papers_table_beside_its_own(dataset, tmp_path):
    write_transform(dataset)
    result = run("msr", dataset, "--baseline", "bilinear", "-o", tmp_path / "out", "-q")
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    found = {(row["name"], row["settings"]["camera"]): row["mean"] for row in rows}
    assert found["DeepISP (published)", "canon"] == {"linear_psnr": 41.7, "srgb_psnr": 35.43}
    assert found["SEM (published)", "panasonic"] == {"linear_psnr": 38.93, "srgb_psnr": 32.93}
    for camera in msr.CAMERAS:
        assert found["deepisp", camera].keys() == found["bilinear", camera].keys()
    line = next(line for line in result.output.splitlines() if "panasonic" in line and "bilinear" in line)
    assert f"{found['bilinear', 'panasonic']['srgb_psnr']:.2f}" in line
    # one number, computed independently
    case = next(open_benchmark("msr", dataset / msr.FOLDER, Settings()).cases())
    error = np.square(demosaic(case.input, "RGGB") - case.truth).mean(dtype=np.float64)
    image = next(row for row in rows if row["name"] == "bilinear")["images"][0]
    assert image["name"] == "7.png"
    assert image["linear_psnr"] == pytest.approx(-10 * np.log10(error), abs=1e-3)


def test_msr_without_the_datasets_transform_has_no_srgb(dataset):
    result = run("msr", dataset, "-q", "--limit", 1)
    assert result.exit_code == 0, result.output
    assert "colortrans.npy" in result.stderr
    assert "linear_psnr" in result.stdout


def test_the_datasets_transform_is_the_published_formula():
    transform = msr.Transform(
        np.array([[1.0, 0.5, 0], [0, 1.0, 0], [0, 0, 1.0]]), np.array([300.0, 2.2, 0.1])
    )
    linear = np.array([[[0.2, 0.1, -0.3]]])
    found = transform(linear)[0, 0]

    def curve(x):
        return (301 * (65535 * x) ** (1 / 2.2) - 300 + 0.1 * 65535 * x) / 65535 - 15 / 65535

    np.testing.assert_allclose(found, [curve(0.2), curve(0.2), -0.3 - 15 / 65535], rtol=1e-9)


def test_the_datasets_transform_lies_beside_its_folder(dataset):
    write_transform(dataset)
    whole = open_benchmark("msr", dataset, Settings())
    part = open_benchmark("msr", dataset / msr.FOLDER, Settings())
    assert whole.transform is not None and part.transform is not None
    assert part.files == whole.files


def test_msr_names_what_is_wrong(dataset):
    folder = dataset / msr.FOLDER / "bayer_canon"
    truth = folder / "groundtruth" / "12.png"
    whole = truth.read_bytes()
    for content, message in (
        (imagecodecs.png_encode(np.zeros((48, 60, 3), np.uint16)), "not the size"),
        (b"nothing", "cannot be read as a picture"),
        (None, r"is missing, though the folder's test\.txt lists it"),
    ):
        truth.unlink()
        if content is not None:
            truth.write_bytes(content)
        with pytest.raises(InputError, match=r"12\.png: .*" + message):
            open_benchmark("msr", dataset, Settings())
        truth.write_bytes(whole)
    for content, message in (
        (imagecodecs.png_encode(np.zeros((48, 64, 3), np.uint8)), "not a 16-bit picture"),
        (whole[: len(whole) // 2], "cannot be read as a picture"),  # before any work
    ):
        truth.write_bytes(content)
        with pytest.raises(InputError, match=message):
            open_benchmark("msr", dataset, Settings())
    truth.write_bytes(whole)
    (dataset / "colortrans.npy").write_bytes(b"nothing")
    (dataset / "gammaparams.npy").write_bytes(b"nothing")
    for damaged in (b"nothing", b"", b"PK\3\4"):
        (dataset / "colortrans.npy").write_bytes(damaged)
        with pytest.raises(InputError, match=r"npy: is not an array of \(3, 3\) numbers; copy it again$"):
            open_benchmark("msr", dataset, Settings())
    (folder / "test.txt").write_text(" \n")
    with pytest.raises(InputError, match=r"test\.txt: lists no picture"):
        open_benchmark("msr", dataset, Settings())
    (folder / "test.txt").unlink()
    with pytest.raises(InputError, match=r"test\.txt: cannot be read"):
        open_benchmark("msr", dataset, Settings())
    with pytest.raises(InputError, match="neither bayer_panasonic"):
        open_benchmark("msr", folder, Settings())


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-5, 7)])
def test_pictures_are_laid_on_each_other(shift):
    picture = (255 * textured(150, 170)).astype(np.uint8)
    down, right = shift
    truth = picture[10 + down : 130 + down, 20 + right : 140 + right]  # 120 x 120 of it
    noisy = np.clip(0.4 * picture + 2 * np.random.default_rng(1).standard_normal(picture.shape), 0, 255)
    ours, theirs = align(noisy.astype(np.uint8), truth)
    assert ours.shape == theirs.shape
    assert min(ours.shape[:2]) >= 120 - 8 - max(map(abs, shift))
    assert metrics.matched_psnr(ours, theirs) > 32
    assert metrics.matched_psnr(np.roll(ours, 1, 1), theirs) < 30


def _write_scene(write_raw, name, orientation=1, seed=0, width=120):
    """A raw a quarter as bright as its finished picture, and that picture (H, W, 3) uint8 upright."""
    linear = textured(96, width, seed)
    path = write_raw(name, linear / 4, orientation=orientation)
    picture = np.round(255 * srgb_encode(linear.astype(np.float32))).astype(np.uint8)
    return path, np.rot90(picture, 3) if orientation == 6 else picture


def test_a_raw_that_libraw_cannot_develop_is_named(tmp_path):
    path = tmp_path / "a.dng"
    path.write_bytes(b"no raw" * 1000)
    with pytest.raises(EngineError, match=r"a\.dng: LibRaw cannot develop it .*; leave out"):
        baselines.RAW_BASELINES["libraw"](path)


def test_pictures_by_libraw_have_the_white_balance_as_shot(write_raw):
    grey = write_raw("grey.dng", np.full((64, 64, 3), 0.2), gains=(3.5, 1, 1.2))
    picture = baselines.RAW_BASELINES["libraw"](grey)
    assert np.ptp(picture[16:-16, 16:-16].mean((0, 1))) < 3


def test_pairs_are_registered_and_measured(write_raw, tmp_path):
    path, picture = _write_scene(write_raw, "data/night.dng")
    Image.fromarray(picture).save(path.with_suffix(".png"))
    turned, upright = _write_scene(write_raw, "data/sub/turned.dng", orientation=6, seed=1, width=280)
    Image.fromarray(upright[3:-5, 2:-4]).save(turned.with_suffix(".png"))  # as a camera trims its own
    benchmark = open_benchmark("pairs", tmp_path / "data", Settings())
    [result] = evaluate(benchmark, {"libraw": benchmark.baselines["libraw"]})
    assert [image["name"] for image in result["images"]] == ["night.dng", "sub/turned.dng"]
    for image in result["images"]:
        assert image["matched_psnr"] > 25, image
        assert np.isfinite(image["brisque"])


def test_s7_measures_the_phones_own_picture_too(write_raw, tmp_path):
    for scene in ("1", "2"):
        path, picture = _write_scene(write_raw, f"s7/{scene}/short_exposure.dng", seed=int(scene))
        Image.fromarray(picture).save(path.with_name("medium_exposure.jpg"), quality=98)
        Image.fromarray(picture // 2).save(path.with_suffix(".jpg"), quality=98)
        Image.fromarray(picture).save(path.with_name("long_exposure.jpg"))
    out = tmp_path / "out"
    result = run("s7", tmp_path / "s7", "-o", out, "-q", "--baseline", "phone", "--baseline", "libraw")
    assert result.exit_code == 0, result.output
    rows = {row["name"]: row for row in json.loads((out / "results.json").read_text())["results"]}
    assert list(rows) == ["phone", "libraw", "deepisp"]
    assert rows["phone"]["mean"]["matched_psnr"] > rows["phone"]["mean"]["psnr"] + 10
    assert len(rows["deepisp"]["images"]) == 2


def test_scenes_name_what_is_wrong(write_raw, tmp_path):
    path, picture = _write_scene(write_raw, "data/1/short_exposure.dng")
    with pytest.raises(InputError, match=r"medium_exposure\.jpg beside it"):
        open_benchmark("s7", tmp_path / "data", Settings())
    Image.fromarray(picture).save(path.with_name("medium_exposure.jpg"))
    benchmark = open_benchmark("s7", tmp_path / "data", Settings())
    assert list(choose_baselines(benchmark, ["libraw"])[0]) == ["libraw"]  # which needs no phone
    for names in ([], ["libraw", "phone"]):
        with pytest.raises(InputError, match=r"short_exposure\.dng: .*short_exposure\.jpg .*--baseline"):
            choose_baselines(benchmark, names)
    Image.fromarray(picture).save(path.with_suffix(".jpg"))
    choose_baselines(open_benchmark("s7", tmp_path / "data", Settings()), ["phone"])
    Image.fromarray(np.zeros((96, 300, 3), np.uint8)).save(path.with_name("medium_exposure.jpg"))
    with pytest.raises(InputError, match=r"medium_exposure\.jpg: is not the size .*120x96 and 300x96"):
        open_benchmark("s7", tmp_path / "data", Settings())
    (tmp_path / "data" / "broken.dng").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"broken\.dng"):
        open_benchmark("raws", tmp_path / "data", Settings())
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no raw files"):
        open_benchmark("pairs", tmp_path / "empty", Settings())


def test_without_brisque_references_still_serve(write_raw, tmp_path, monkeypatch):
    monkeypatch.setattr(scenes, "find_spec", lambda name: None)
    path, picture = _write_scene(write_raw, "data/night.dng")
    Image.fromarray(picture).save(path.with_suffix(".png"))
    benchmark = open_benchmark("pairs", tmp_path / "data", Settings())
    assert 'pip install ".[brisque]"' in benchmark.remarks[0]
    [result] = evaluate(benchmark, {"libraw": benchmark.baselines["libraw"]})
    assert "brisque" not in result["mean"]
    with pytest.raises(UsageError, match="brisque is not installed"):
        open_benchmark("raws", tmp_path / "data", Settings())


def test_results_name_raws_alike_on_all_systems(monkeypatch):
    """A comparison with results from Windows goes by these names."""
    monkeypatch.setattr(scenes.Raws, "__init__", lambda self: None)
    benchmark = scenes.Raws()
    benchmark.data = PureWindowsPath("C:/data")
    benchmark.scenes = [(PureWindowsPath("C:/data/sub/a.dng"), None)]
    assert [case.name for case in benchmark.cases()] == ["sub/a.dng"]


PROGRAM = r"""#!{python}
import os, sys
from PIL import Image
arguments = sys.argv[1:]
if arguments == ["--version"]:
    sys.stdout.buffer.write(b"this is darktable-cli 4.2.1, \xa9 Jos\x8f")  # in no encoding of ours
    sys.exit()
if "broken" in arguments[0] or os.path.exists(arguments[0] + ".xmp"):
    sys.exit("cannot do that")
Image.new("RGB", (40, 30), (9, 8, 7)).save(arguments[1])
"""


@pytest.mark.skipif(os.name == "nt", reason="a script with a shebang")
def test_other_programs_are_run_and_their_failures_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="darktable-cli is not installed"):
        baselines.check_installed(["libraw", "darktable"])
    program = tmp_path / "darktable-cli"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    baselines.check_installed(["darktable"])
    assert (baselines.program_version("darktable"), baselines.program_version("libraw")) == ("4.2.1", None)
    method = baselines.RAW_BASELINES["darktable"]
    for name in ("x.dng", "x.dng.xmp", "broken.dng"):  # a person's edits are no defaults
        (tmp_path / name).write_bytes(b"x")
    assert np.array_equal(method(tmp_path / "x.dng"), np.full((30, 40, 3), (9, 8, 7)))
    with pytest.raises(EngineError, match=r"broken\.dng: darktable-cli wrote no picture \(cannot do that\)"):
        method(tmp_path / "broken.dng")


def _write_network(path, *, doubled=False):
    """A network that changes nothing, or one whose output is larger than its input."""
    torch = pytest.importorskip("torch")
    if path.suffix != ".onnx":
        module = torch.nn.Upsample(scale_factor=2) if doubled else torch.nn.Identity()
        torch.jit.trace(module, torch.zeros(1, 3, 32, 32)).save(str(path))
        return
    onnx = pytest.importorskip("onnx")
    shape = (onnx.TensorProto.FLOAT, [1, 3, None, None])
    node = onnx.helper.make_node("Concat", ["x", "x"], ["y"], axis=3) if doubled else (
        onnx.helper.make_node("Identity", ["x"], ["y"]))  # fmt: skip
    inputs, outputs = (onnx.helper.make_tensor_value_info(name, *shape) for name in "xy")
    graph = onnx.helper.make_graph([node], "g", [inputs], [outputs])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("name", ["identity.onnx", "identity.pt"])
def test_networks_of_others_run_beside_ours(tmp_path, name):
    _write_network(tmp_path / name)
    folder = tmp_path / "photographs"
    folder.mkdir()
    Image.fromarray((255 * textured(70, 90)).astype(np.uint8)).save(folder / "a.png")
    benchmark = Demosaic(folder, Settings(sigmas=(0,)))
    methods, files = choose_baselines(benchmark, ["bilinear", str(tmp_path / name)])
    bilinear, theirs = evaluate(benchmark, methods)
    assert (bilinear["name"], theirs["name"]) == ("bilinear", "identity")
    assert theirs["mean"] == bilinear["mean"]
    assert len(files["identity"][name]) == 64


def test_networks_that_break_the_contract_are_named(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"broken\.onnx: cannot be opened"):
        FileEngine(tmp_path / "broken.onnx")
    with pytest.raises(ModelError, match=r"missing\.pt: cannot be read"):
        FileEngine(tmp_path / "missing.pt")
    _write_network(tmp_path / "doubled.onnx", doubled=True)
    _write_network(tmp_path / "same.onnx")
    with pytest.raises(EngineError, match=r"same\.onnx: yields numbers that are not finite"):
        FileEngine(tmp_path / "same.onnx").run(np.full((1, 3, 144, 144), np.nan, np.float32))
    with pytest.raises(EngineError, match=r"yields shape \(1, 3, 144, 288\)"):
        FileEngine(tmp_path / "doubled.onnx").run(np.zeros((1, 3, 144, 144), np.float32))
    engine = FileEngine(tmp_path / "doubled.onnx")
    with pytest.raises(EngineError, match=r"failed on a tile of shape \(1, 4, 16, 16\) .*float32") as caught:
        engine.run(np.zeros((1, 4, 16, 16)))
    assert "\n" not in str(caught.value)


def test_the_first_output_of_a_network_is_its_picture(tmp_path):
    torch = pytest.importorskip("torch")

    class Two(torch.nn.Module):
        def forward(self, picture):
            return picture / 2, picture

    torch.jit.trace(Two(), torch.zeros(1, 3, 32, 32)).save(str(tmp_path / "two.pt"))
    tile = np.random.default_rng(0).random((1, 3, 144, 160), np.float32)
    image, _ = FileEngine(tmp_path / "two.pt").run(tile)
    np.testing.assert_array_equal(image, tile[:, :, 64:-64, 64:-64] / 2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reference_is_as_upright_as_its_raw(write_raw, tmp_path, orientation):
    path, _ = _write_scene(write_raw, "data/night.dng", orientation, width=300)
    lying, standing = np.zeros((96, 300, 3), np.uint8), np.zeros((300, 96, 3), np.uint8)
    upright, turned = (lying, standing) if orientation < 5 else (standing, lying)
    Image.fromarray(upright).save(path.with_suffix(".png"))
    open_benchmark("pairs", tmp_path / "data", Settings())
    Image.fromarray(turned).save(path.with_suffix(".png"))
    with pytest.raises(InputError, match="is not the size"):
        open_benchmark("pairs", tmp_path / "data", Settings())


def test_raws_without_references_have_their_naturalness_alone(write_raw, tmp_path, monkeypatch):
    monkeypatch.setattr(scenes, "find_spec", lambda name: "there")
    monkeypatch.setattr(metrics, "brisque", lambda picture: 12.5)
    _write_scene(write_raw, "data/night.dng")
    benchmark = open_benchmark("raws", tmp_path / "data", Settings())
    [result] = evaluate(benchmark, {"grey": lambda raw: np.full((96, 120, 3), 90, np.uint8)})
    assert result["mean"] == {"brisque": 12.5}
    with pytest.raises(UsageError, match="uint8 of shape"):
        evaluate(benchmark, {"grey": lambda raw: np.full((96, 120, 3), 0.3)})

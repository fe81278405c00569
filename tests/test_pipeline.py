"""One file through all stages, with an engine that changes nothing."""

import io
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from conftest import MATRIX, IdentityEngine, mosaic_of, raw_with
from PIL import Image, ImageOps

from deepisp_cli import __version__, reading
from deepisp_cli.batch import develop_many
from deepisp_cli.camera_rgb import at_each_pixel, camera_matrix, linear_rgb
from deepisp_cli.colour import encode, srgb_encode, srgb_from_camera
from deepisp_cli.demosaic import (
    BAYER_PATTERNS,
    demosaic,
    normalise_mosaic,
    red_position,
    sample_mosaic,
)
from deepisp_cli.dng import write_dng
from deepisp_cli.engine import open_engine
from deepisp_cli.errors import DeepIspError, InputError, ModelError, OutputError, UsageError
from deepisp_cli.frame import Result
from deepisp_cli.grain import leave_noise, limit_outliers
from deepisp_cli.info import describe
from deepisp_cli.models import find_model
from deepisp_cli.options import Options
from deepisp_cli.pipeline import develop, develop_array, finish, prepare
from deepisp_cli.plan import Job
from deepisp_cli.raw import read_raw
from deepisp_cli.xtrans import X_TRANS

NEUTRAL = Options(look="neutral")


def picture_of(path, engine, options=NEUTRAL):
    result = Result(str(path), "")
    return finish(prepare(path, options, result), engine, options, result), result


def test_a_known_scene_comes_out_in_its_colours(write_raw, identity_engine):
    """Patches of known linear sRGB go through the camera's matrix and white balance and back."""
    patches = np.array([[0.18, 0.18, 0.18], [0.4, 0.1, 0.1], [0.1, 0.3, 0.08], [0.05, 0.1, 0.5]])
    camera_from_srgb = np.linalg.inv(srgb_from_camera(MATRIX))
    scene = (patches @ camera_from_srgb.T).repeat(16, 0)[None].repeat(24, 0)
    pixels, _ = picture_of(write_raw("patches.dng", scene), identity_engine)
    found = pixels[12, 8::16].astype(float)
    np.testing.assert_allclose(found, 255 * srgb_encode(patches.astype(np.float32)), atol=2)


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
def test_the_four_cfa_orders_give_one_picture(write_raw, identity_engine, grey_ramp, pattern):
    reference, _ = picture_of(write_raw("rggb.dng", grey_ramp), identity_engine)
    pixels, _ = picture_of(write_raw("other.dng", grey_ramp, pattern), identity_engine)
    assert np.abs(pixels.astype(int) - reference)[2:-2, 2:-2].max() <= 2


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
def test_the_network_is_told_where_the_first_red_sample_is(write_raw, grey_ramp, pattern):
    frame = prepare(write_raw("a.dng", grey_ramp, pattern=pattern), Options())
    assert frame.origin == red_position(pattern)


def test_a_grey_ramp_stays_grey_and_rises(write_raw, identity_engine, grey_ramp):
    pixels, _ = picture_of(write_raw("ramp.dng", grey_ramp), identity_engine)
    row = pixels[20, 2:-2].astype(int)
    assert np.ptp(row, axis=1).max() <= 2
    assert np.all(np.diff(row[:, 1]) >= 0)


def test_blown_highlights_are_white(write_raw, identity_engine):
    scene = np.full((32, 32, 3), 5.0)  # far beyond what the sensor can record
    pixels, _ = picture_of(write_raw("blown.dng", scene), identity_engine)
    assert np.all(pixels == 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(write_raw, identity_engine, grey_ramp, orientation):
    grey_ramp[:24] *= 0.3  # dark above, bright to the right: no two orientations agree
    path = write_raw("turned.dng", grey_ramp, orientation=orientation)
    pixels, result = picture_of(path, identity_engine)
    upright = Image.fromarray(picture_of(write_raw("flat.dng", grey_ramp), identity_engine)[0])
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    upright.save(buffer, "png", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(buffer)))
    assert pixels.shape == expected.shape == (result.height, result.width, 3)
    assert np.abs(pixels.astype(int) - expected).max() <= 1  # the dither falls differently


def test_exposure_is_in_linear_light(write_raw, identity_engine, grey_ramp):
    path = write_raw("ramp.dng", grey_ramp * 0.4)
    pixels, _ = picture_of(path, identity_engine, Options(look="neutral", exposure=1))
    doubled, _ = picture_of(write_raw("doubled.dng", grey_ramp * 0.8), identity_engine)
    assert np.abs(pixels.astype(int) - doubled).max() <= 2


def test_strength_blends_restored_and_plain(write_raw, grey_ramp):
    class Brighter(IdentityEngine):
        def run(self, tile):
            core, coefficients = super().run(tile)
            return core + np.float32(0.2), coefficients

    path = write_raw("ramp.dng", grey_ramp)
    plain, half, full = (
        picture_of(path, Brighter(), Options(look="neutral", strength=s))[0].astype(float).mean()
        for s in (0, 0.5, 1)
    )
    untouched = picture_of(path, IdentityEngine())[0].astype(float).mean()
    assert plain == pytest.approx(untouched)
    assert plain < half < full
    assert half == pytest.approx((plain + full) / 2, abs=3)


@pytest.mark.parametrize("pattern", ["RGGB", "GBRG", X_TRANS], ids=["RGGB", "GBRG", "X-Trans"])
def test_strength_takes_noise_off_the_sensors_samples(write_raw, pattern):
    """What is left at each sample is a share of what the network took off it, of colours the square of it;
    sharp colours stay sharp."""
    rng = np.random.default_rng(0)
    scene = np.kron(rng.uniform(0.1, 0.6, (12, 14, 3)), np.ones((5, 5, 1)))
    noisy = scene + rng.normal(0, 0.02, scene.shape)

    path = write_raw("a.dng", noisy, pattern)
    frame = prepare(path, Options())
    picture, restored = frame.picture, encode(scene.astype(np.float32))
    taken_off = sample_mosaic(picture, pattern) - sample_mosaic(restored, pattern)
    for share in (0.25, 1.0):
        image = restored.copy()
        leave_noise(image, picture.copy(), frame.pattern, share)
        noise, left = np.empty_like(image), taken_off.copy()
        if share < 1:
            limit_outliers(left)
            assert np.mean(left != taken_off) < 0.05
        assert at_each_pixel(left, pattern, noise) is noise
        grey = noise @ np.float32([0.25, 0.5, 0.25])
        left = image - restored
        np.testing.assert_allclose(left @ np.float32([0.25, 0.5, 0.25]), share * grey, atol=1e-6)
        colour = noise - grey[..., None]
        np.testing.assert_allclose(left - share * grey[..., None], share**2 * colour, atol=1e-6)
    np.testing.assert_allclose(sample_mosaic(image, pattern), sample_mosaic(picture, pattern), atol=1e-6)
    error, softer = np.abs(image - restored).mean(), np.abs(picture - restored).mean()
    assert error < 1.1 * np.abs(taken_off).mean() < softer / 1.5


def test_the_learned_transform_is_applied_and_neutral_leaves_it_out(write_raw, grey_ramp):
    class Inverting(IdentityEngine):
        def run(self, tile):
            core, coefficients = super().run(tile)
            coefficients = -coefficients
            coefficients[:, 9::10] = 1
            return core, coefficients

    path = write_raw("ramp.dng", grey_ramp)
    neutral, _ = picture_of(path, Inverting())
    inverted, _ = picture_of(path, Inverting(), Options())
    assert np.abs(255 - inverted.astype(int) - neutral).max() <= 2


@pytest.mark.parametrize("gains", [(3, 2, 4), [3, 2, 4], np.array([3, 2, 4]), np.float32([3, 2, 4])], ids=str)
def test_gains_may_be_numbers(write_raw, identity_engine, grey_ramp, gains):
    path = write_raw("ramp.dng", grey_ramp)
    options = Options(white_balance=gains, look="neutral")
    assert options == Options(white_balance=(3, 2, 4), look="neutral") and hash(options)
    pixels, _ = picture_of(path, identity_engine, options)
    text, _ = picture_of(path, identity_engine, Options(white_balance="3,2,4", look="neutral"))
    np.testing.assert_array_equal(pixels, text)


def test_gains_may_come_from_an_iterator():
    assert Options(white_balance=iter((3, 2, 4))).white_balance == (3, 2, 4)


def test_numbers_of_numpy_are_numbers():
    Options(exposure=np.float32(1), strength=np.float64(0.5), quality=np.int64(90), tile=np.uint16(64))


@pytest.mark.parametrize("matrix", [None, np.zeros((3, 3)), np.full((3, 3), np.nan)])
def test_a_matrix_that_is_no_use_is_told(matrix):
    raw = raw_with(np.ones((8, 8)), "RGGB", xyz_to_camera=matrix)
    found, remark = camera_matrix(raw, np.ones(3, np.float32))
    np.testing.assert_array_equal(found, srgb_from_camera(None))
    assert ("camera RGB is used as sRGB" in remark) == (matrix is not None)  # read_raw notes None


def test_without_an_as_shot_white_balance_daylight_is_used_and_said(write_raw, identity_engine, grey_ramp):
    path = write_raw("none.dng", grey_ramp)
    write_dng(
        path,
        mosaic_of(grey_ramp),
        pattern="RGGB",
        black=512,
        white=16383,
        xyz_to_camera=MATRIX,
        make="T",
    )
    _, result = picture_of(path, identity_engine)
    assert any("daylight" in note for note in result.notes)


def test_samples_that_the_camera_has_balanced_are_left_so(tmp_path, identity_engine, grey_ramp):
    """Like those of the Nikon D1, whose files state no white balance: daylight gains would make them red."""
    path = tmp_path / "balanced.dng"
    counts = mosaic_of(grey_ramp, gains=(1, 1, 1))
    write_dng(path, counts, pattern="RGGB", black=512, white=16383, xyz_to_camera=MATRIX, make="T")
    pixels, result = picture_of(path, identity_engine)
    assert any("balanced already" in note for note in result.notes)
    assert np.ptp(pixels[20, 2:-2].astype(int), axis=1).max() <= 2


def test_what_is_too_large_for_a_raw_is_not_read(tmp_path, monkeypatch, identity_engine):
    """An image of a disk may be called .raw, too; and a pipe may never end."""
    monkeypatch.setattr(reading, "LARGEST_FILE", 1000)
    (tmp_path / "disk.raw").write_bytes(bytes(1001))
    with pytest.raises(InputError, match=r"disk\.raw: is larger than .* GiB, no raw file is"):
        develop(tmp_path / "disk.raw", tmp_path / "a.png", identity_engine)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(bytes(10**6)))))
    with pytest.raises(InputError, match="-: is larger than"):
        develop("-", tmp_path / "a.png", identity_engine)
    if os.name == "posix":
        with pytest.raises(InputError, match="/dev/zero: is larger than"):
            develop("/dev/zero", tmp_path / "a.png", identity_engine)
    (tmp_path / "small.raw").write_bytes(bytes(1000))
    with pytest.raises(InputError, match="not a raw file"):
        develop(tmp_path / "small.raw", tmp_path / "a.png", identity_engine)


def read_back(path, counts, pattern):
    write_dng(
        path,
        counts,
        pattern=pattern,
        white=65535,
        white_balance=(1, 1, 1),
        xyz_to_camera=MATRIX,
        make="T",
    )
    with path.open("rb") as file:
        return read_raw(file, path.name)


def test_the_network_sees_a_linear_file_as_a_mosaic(tmp_path, tiny_model):
    """Full colour is unlike all that it was trained on."""
    counts = np.random.default_rng(0).integers(100, 60000, (24, 33, 3)).astype(np.uint16)
    paths = [tmp_path / "linear.dng", tmp_path / "mosaic.dng"]
    linear = read_back(paths[0], counts, None)
    mosaic = read_back(paths[1], sample_mosaic(counts), "RGGB")
    levels = {"black": np.float32([50, 60, 70]), "white": np.float32([60000, 61000, 62000])}
    cell = np.array([[0, 1], [1, 2]])
    linear = replace(linear, **levels)
    mosaic = replace(mosaic, **{name: level[cell] for name, level in levels.items()})
    engine = open_engine(tiny_model, "onnx", "cpu")
    np.testing.assert_array_equal(develop_array(linear, engine), develop_array(mosaic, engine))


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_raw_is_never_replaced_by_its_own_picture(
    write_raw, grey_ramp, tmp_path, identity_engine, overwrite
):
    path = write_raw("a.dng", grey_ramp)
    before = path.read_bytes()
    options = Options(format="dng", overwrite=overwrite)
    with pytest.raises(UsageError, match="would replace its own raw; choose another name"):
        develop(path, str(path), identity_engine, options)
    (result,) = develop_many([Job(str(path), str(path))], identity_engine, options)
    assert "would replace its own raw" in str(result.error)
    assert path.read_bytes() == before


def test_an_output_that_exists_is_refused_before_the_work(write_raw, grey_ramp, tmp_path):
    class Busy(IdentityEngine):
        def run(self, tile):
            raise AssertionError("it worked")

    target = tmp_path / "a.png"
    target.write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"a\.png: already exists"):
        develop(write_raw("a.dng", grey_ramp), target, Busy())
    assert target.read_bytes() == b"mine"


def test_strength_keeps_a_linear_file_in_full_colour(tmp_path, tiny_model, identity_engine):
    counts = np.full((24, 32, 3), 20000, np.uint16)
    counts[12, 15] = (60000, 20000, 20000)  # where a mosaic has green
    raw = read_back(tmp_path / "linear.dng", counts, None)
    off, half, on = (
        develop_array(raw, identity_engine, Options(strength=strength)).astype(int)
        for strength in (0, 0.5, 1)
    )
    red = [picture[12, 15, 0] - picture[4, 4, 0] for picture in (off, half, on)]
    assert red[0] > red[1] + 10 > red[2] + 20
    network = open_engine(tiny_model, "onnx", "cpu")
    kept = develop_array(raw, network, Options(strength=0, look="neutral")).astype(int)
    expected = develop_array(raw, identity_engine, Options(strength=0, look="neutral"))
    assert np.abs(kept - expected).max() <= 1


def test_linear_files_enter_after_the_demosaic(tmp_path, identity_engine):
    counts = np.random.default_rng(0).integers(100, 60000, (24, 32, 3)).astype(np.uint16)
    path = tmp_path / "linear.dng"
    raw = read_back(path, counts, None)
    np.testing.assert_allclose(linear_rgb(raw, np.ones(3, np.float32)), counts / 65535, atol=1e-6)
    pixels, _ = picture_of(path, identity_engine)
    assert pixels.shape == (24, 32, 3)


@pytest.mark.parametrize("pattern", ["RGGB", "GBRG"])
@pytest.mark.parametrize("height", [22, 32, 33, 34, 65])
def test_a_mosaic_is_demosaiced_in_blocks_without_seams(tmp_path, pattern, height):
    counts = np.random.default_rng(height).integers(0, 60000, (height, 26)).astype(np.uint16)
    gains = np.array([2.0, 1.0, 1.5], np.float32)
    raw = read_back(tmp_path / "mosaic.dng", counts, pattern)
    whole = demosaic(normalise_mosaic(counts, pattern, raw.black, raw.white, gains), pattern)
    np.testing.assert_array_equal(linear_rgb(raw, gains), whole)


def test_develop_writes_the_picture_and_tells_about_it(write_raw, identity_engine, grey_ramp, tmp_path):
    path = write_raw("Ünï çødé 夜.dng", grey_ramp, exif={0x8827: 3200})
    target = tmp_path / "out.jpg"
    result = develop(path, target, identity_engine)
    assert result.bytes == target.stat().st_size
    assert (result.width, result.height) == (64, 48)
    assert list(result.seconds) == ["read", "demosaic", "network", "colour", "render", "write"]
    with Image.open(target) as picture:
        exif = picture.getexif()
        assert exif[0x0112] == 1
        assert "deepisp" in exif[0x0131]
        assert "identity" in exif[0x0131]
        assert exif.get_ifd(0x8769)[0x8827] == 3200
    with pytest.raises((OutputError, UsageError), match="exist"):
        develop(path, target, identity_engine)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(quality=50, overwrite=True), ""),
        (Options(white_balance="2,1,1.25", exposure=-0.5), " --white-balance 2,1,1.25 --exposure -0.5"),
        (Options(white_balance=(2, 1, 1.25), strength=0), " --white-balance 2,1,1.25 --strength 0"),
        (Options(look="neutral", long_side=20), " --look neutral --long-side 20"),
        (Options(exposure=1, contrast=0.25), " --exposure 1 --contrast 0.25"),
    ],
)
def test_a_picture_says_how_it_was_developed(write_raw, identity_engine, grey_ramp, tmp_path, options, words):
    target = tmp_path / "a.jpg"
    develop(write_raw("a.dng", grey_ramp), target, identity_engine, options)
    software = Image.open(target).getexif()[0x0131]
    assert software == f"deepisp {__version__} ({identity_engine.model.name}{words})"


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint8), (16, np.uint16)])
def test_develop_array_is_the_picture_that_develop_writes(
    write_raw, identity_engine, grey_ramp, tmp_path, bits, dtype
):
    path = write_raw("a.dng", grey_ramp, orientation=6)
    options = Options(bit_depth=bits, exposure=0.5)
    develop(path, tmp_path / "a.tif", identity_engine, options)
    raw = read_raw(path)
    counts = raw.samples.copy()
    for source in (path, str(path), raw):
        shares = []
        pixels = develop_array(source, identity_engine, options, shares.append)
        assert pixels.dtype == dtype and shares[-1] == 1
        np.testing.assert_array_equal(pixels, tifffile.imread(tmp_path / "a.tif"))
    np.testing.assert_array_equal(raw.samples, counts)
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.dng", "a.tif"}


def test_develop_array_fails_in_words(write_raw, identity_engine, grey_ramp, tmp_path):
    path = write_raw("a.dng", grey_ramp)
    with pytest.raises(InputError, match=r"nowhere\.dng: no such file"):
        develop_array(tmp_path / "nowhere.dng", identity_engine)
    with pytest.raises(InputError, match=r"nowhere\.dng: no such file"):
        develop(tmp_path / "nowhere.dng", tmp_path / "a.jpg", identity_engine)
    with pytest.raises(UsageError, match="not an engine"):
        develop_array(path, None)
    with pytest.raises(UsageError, match="not an Options"):
        develop_array(path, identity_engine, {})
    nonsense = replace(read_raw(path), pattern="RGBG")
    with pytest.raises(DeepIspError, match=r"the raw picture: .*RGBG"):
        develop_array(nonsense, identity_engine)


def test_develop_makes_the_folder_and_keeps_to_the_suffix(write_raw, identity_engine, grey_ramp, tmp_path):
    path = write_raw("a.dng", grey_ramp)
    target = tmp_path / "new" / "sub" / "a.png"
    develop(path, target, identity_engine)
    assert Image.open(target).format == "PNG"
    with pytest.raises(UsageError, match=r"a\.jpg: is not the name of a png file"):
        develop(path, tmp_path / "more" / "a.jpg", identity_engine, Options(format="png"))
    assert not (tmp_path / "more").exists()
    develop(path, tmp_path / "a.picture", identity_engine, Options(format="png"))
    assert Image.open(tmp_path / "a.picture").format == "PNG"


def test_develop_opens_an_engine_for_a_model_or_its_name(write_raw, grey_ramp, tiny_model, tmp_path):
    path = write_raw("a.dng", grey_ramp)
    for number, given in enumerate((tiny_model, str(tiny_model.folder))):
        assert develop(path, tmp_path / f"{number}.png", given).model == "tiny"
        with Image.open(tmp_path / f"{number}.png") as picture:
            np.testing.assert_array_equal(develop_array(path, given), picture)
    with pytest.raises(ModelError, match="nonsense: no such model; known: deepisp"):
        develop(path, tmp_path / "a.jpg", "nonsense")


def test_arguments_of_other_kinds_are_told(write_raw, grey_ramp, identity_engine, tmp_path):
    path, target = write_raw("a.dng", grey_ramp), tmp_path / "a.jpg"
    with pytest.raises(UsageError, match="is not an engine"):
        develop(path, target, None)
    with pytest.raises(UsageError, match=r"is not an Options; give one such as Options\("):
        develop(path, target, identity_engine, {"exposure": 1})
    assert not target.exists()


def test_a_dark_picture_is_said_to_be_dark(write_raw, identity_engine, grey_ramp):
    _, result = picture_of(write_raw("dark.dng", grey_ramp * 1e-3), identity_engine)
    assert any("dark" in note for note in result.notes)


@pytest.mark.parametrize(
    "wrong",
    [
        {"white_balance": "cloudy"},
        {"white_balance": "1,2"},
        {"white_balance": "1,0,1"},
        {"white_balance": "1,nan,1"},
        {"strength": 1.5},
        {"look": "vivid"},
        {"quality": 0},
        {"bit_depth": 12},
        {"bit_depth": 16, "format": "jpeg"},
        {"format": "gif"},
        {"tile": 0},
        {"white_balance": "99,1,1"},
        {"white_balance": (2, 1)},
        {"white_balance": (2, 1, -1)},
        {"white_balance": ("R", "G", "B")},
        {"white_balance": None},
        {"exposure": 40},
        {"exposure": "1"},
        {"strength": None},
        {"quality": 90.5},
        {"bit_depth": "16"},
        {"tile": 512.0},
        {"overwrite": "no"},
        {"overwrite": 1},
        {"format": []},
        {"white_balance": 3},
    ],
    ids=str,
)
def test_options_that_make_no_sense(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong)).partition("_")[0]):
        Options(**wrong)


def test_the_suffix_decides_the_format(write_raw, grey_ramp, identity_engine, tmp_path):
    raw = write_raw("a.dng", grey_ramp)
    for name, start in (("a.png", b"\x89PNG"), ("a.tif", b"II*\0"), ("a.jpeg", b"\xff\xd8")):
        develop(raw, tmp_path / name, identity_engine)
        assert (tmp_path / name).read_bytes().startswith(start)
    develop(raw, tmp_path / "deep.png", identity_engine, Options(bit_depth=16))
    for name, wrong in (("b.jpg", "16 bits"), ("b.gif", "unknown suffix")):
        identity_engine.tiles.clear()
        with pytest.raises(UsageError, match=wrong):
            develop(raw, tmp_path / name, identity_engine, Options(bit_depth=16))
        assert not identity_engine.tiles


@pytest.mark.parametrize(
    ("failure", "message"),
    [(MemoryError(), "memory"), (RuntimeError("can't start new thread"), "memory"), (KeyError("x"), "bug")],
)
def test_what_nobody_expected_names_the_file(
    write_raw, grey_ramp, identity_engine, tmp_path, failure, message
):
    def run(tile):
        raise failure

    identity_engine.run = run
    with pytest.raises(DeepIspError, match=rf"a\.dng: .*{message}"):
        develop(write_raw("a.dng", grey_ramp), tmp_path / "a.jpg", identity_engine, Options(tile=16))


def test_what_is_no_path_is_told_without_its_contents(identity_engine, tmp_path):
    for source in (io.BytesIO(b"raw"), b"raw" * 1000, 3):
        with pytest.raises(UsageError, match=r"^\w+: is no path; develop_array\(read_raw"):
            develop(source, tmp_path / "a.jpg", identity_engine)


def test_a_model_is_given_by_its_folder_and_can_be_a_key(tiny_model, write_raw, grey_ramp):
    path = write_raw("a.dng", grey_ramp)
    by_folder = develop_array(path, tiny_model.folder)
    np.testing.assert_array_equal(by_folder, develop_array(path, tiny_model))
    assert {tiny_model: 1}[find_model(str(tiny_model.folder))] == 1
    raw = read_raw(path)
    assert raw in [raw] and raw not in [read_raw(path)]


@pytest.mark.parametrize("look", ["learned", "neutral"])
def test_a_model_without_a_look_says_so(write_raw, grey_ramp, tmp_path, identity_engine, look):
    identity_engine.model.card["architecture"]["high_blocks"] = 0
    target = tmp_path / "a.jpg"
    notes = develop(write_raw("a.dng", grey_ramp), target, identity_engine, Options(look=look)).notes
    assert ("identity has no look of its own: this is --look neutral" in notes) == (look == "learned")


def test_describe(write_raw, grey_ramp, tmp_path):
    facts = describe(write_raw("ramp.dng", grey_ramp, "GBRG", orientation=6))
    assert facts["supported"]
    assert facts["cfa"] == "GBRG"
    assert (facts["width"], facts["height"], facts["orientation"]) == (64, 48, 6)
    assert facts["black"] == [512]
    assert facts["white"] == [16383]
    for gps, placed in (
        ({0: b"\2\3\0\0", 9: "V"}, False),
        ({1: "N", 2: (1, 2, 3), 3: "E"}, False),  # half a place
        ({1: "N", 3: "E", 4: (4, 5, 6)}, False),
        ({1: "N", 2: (1, 2, 3), 3: "E", 4: (4, 5, 6)}, True),
    ):
        assert describe(write_raw("gps.dng", grey_ramp, gps=gps))["gps"] is placed
    junk = tmp_path / "junk.dng"
    junk.write_bytes(b"no raw at all" * 100)
    with pytest.raises(InputError, match=r"junk\.dng: not a raw file"):
        describe(junk)


@pytest.mark.parametrize(("failure", "message"), [(MemoryError(), "memory"), (KeyError("x"), "bug")])
def test_what_nobody_expected_of_a_file_to_describe_names_it(
    write_raw, grey_ramp, monkeypatch, failure, message
):
    """So that ``deepisp info`` goes on with the other files."""

    def read(*_):
        raise failure

    monkeypatch.setattr("deepisp_cli.reading.read_raw", read)
    with pytest.raises(DeepIspError, match=rf"a\.dng: .*{message}"):
        describe(write_raw("a.dng", grey_ramp))


RAWS = Path(__file__).resolve().parents[2] / "shared" / "data" / "raw"


@pytest.mark.skipif(not RAWS.is_dir(), reason="needs ../shared/data")
def test_four_orders_of_a_real_frame_develop_alike(identity_engine):
    """Shifted crops of one Nikon frame give the same picture where they overlap."""
    pictures = {}
    for pattern in BAYER_PATTERNS:
        pixels, _ = picture_of(RAWS / f"nikon_dsc1339_{pattern.lower()}.dng", identity_engine)
        pictures[pattern] = pixels.astype(float).mean((0, 1))
    for mean in pictures.values():
        np.testing.assert_allclose(mean, pictures["RGGB"], atol=1)


@pytest.mark.parametrize("target", ["a\0.jpg", "a\ud800.jpg", b"a.jpg", 5, None])
def test_a_target_that_is_no_path_is_told(write_raw, grey_ramp, identity_engine, target):
    with pytest.raises(UsageError, match=r"is no path|no file can have this name"):
        develop(write_raw("a.dng", grey_ramp), target, identity_engine)


@pytest.mark.parametrize("source", ["a\0.dng", "a\ud800.dng"])
def test_a_source_that_no_file_can_be_is_told(tmp_path, identity_engine, source):
    with pytest.raises(UsageError, match="no file can have this name"):
        develop(source, tmp_path / "a.jpg", identity_engine)


def test_a_callers_own_error_stops_the_work(write_raw, grey_ramp, tmp_path, identity_engine):
    class CancelledError(DeepIspError):
        pass

    def stop(share):
        raise CancelledError("enough")

    with pytest.raises(CancelledError):
        develop(write_raw("a.dng", grey_ramp), tmp_path / "a.jpg", identity_engine, progress=stop)
    assert not (tmp_path / "a.jpg").exists()


def test_a_notebook_has_no_standard_streams(write_raw, grey_ramp, tmp_path, identity_engine, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(OutputError, match="-: there is no standard output for pictures here"):
        develop(write_raw("a.dng", grey_ramp), "-", identity_engine)
    with pytest.raises(InputError, match="-: standard input is closed"):
        develop("-", tmp_path / "a.jpg", identity_engine)

"""Pictures to train on and to measure with: damaged files are named, whatever their decoder says of them."""

import logging
import struct
import time

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from deepisp_cli.errors import InputError
from deepisp_cli.inputs import CLOSED
from deepisp_cli.plan import plan_jobs
from deepisp_cli.training.pictures import list_files, load_all, load_linear, load_photograph


def write_png(path):
    """A PNG whose second chunk of pixels has no known name."""
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8)
    Image.fromarray(noise).save(path)
    contents = path.read_bytes()
    second = contents.index(b"IDAT", contents.index(b"IDAT") + 4)
    path.write_bytes(contents[:second] + b"I\0AT" + contents[second + 4 :])


def write_tiff(path, values):
    """A floating-point TIFF that says something else of itself: ``values`` of tags by number."""
    tifffile.imwrite(path, np.ones((8, 8, 3), np.float32), photometric="rgb")
    with tifffile.TiffFile(path, mode="r+b") as file:
        for tag, value in values.items():
            file.pages[0].tags[tag].overwrite(value)


DAMAGED = {  # what the decoders of today say of it
    "SyntaxError": (write_png, load_photograph),
    "ZeroDivisionError": (lambda path: write_tiff(path, {256: 0}), load_linear),  # the width
    "TypeError": (lambda path: write_tiff(path, {256: (1, 2)}), load_linear),
    "MemoryError": (lambda path: write_tiff(path, {256: 2**23, 257: 2**31 - 1}), load_linear),  # and height
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_picture_is_named_and_left_out(tmp_path, caplog, kind):
    damage, load = DAMAGED[kind]
    suffix = ".png" if load is load_photograph else ".tif"
    broken, whole = tmp_path / f"broken{suffix}", tmp_path / f"whole{suffix}"
    damage(broken)
    if suffix == ".png":
        Image.new("RGB", (8, 6)).save(whole)
    else:
        tifffile.imwrite(whole, np.ones((6, 8, 3), np.float32), photometric="rgb")
    with pytest.raises(InputError, match=rf"broken\{suffix}: cannot be read as .*; replace it") as told:
        load(broken)
    with caplog.at_level(logging.WARNING, "deepisp_cli"):
        assert len(load_all([broken, whole], load)) == 1
    assert [record.getMessage() for record in caplog.records if record.name.startswith("deepisp_cli")] == [
        f"{told.value}; left out"
    ]


def test_an_error_without_words_is_called_by_its_name(tmp_path, monkeypatch):
    def fail(path):
        raise MemoryError

    monkeypatch.setattr(tifffile, "imread", fail)
    with pytest.raises(InputError, match=r"a\.tif: cannot be read as an HDR file \(MemoryError\)"):
        load_linear(tmp_path / "a.tif")


def test_a_pair_that_is_gone_is_left_out(tmp_path, caplog):
    pytest.importorskip("torch")
    from deepisp_cli.training.raw_pairs import load_pair

    assert load_all([(tmp_path / "gone.dng", tmp_path / "gone.jpg")], load_pair) == []
    assert "gone.dng: cannot be read as a raw file" in caplog.text


def test_a_damaged_picture_of_the_msr_dataset_is_named(tmp_path):
    pytest.importorskip("skimage")
    from deepisp_cli.evaluation.msr import _read

    path = tmp_path / "7.png"
    whole = imagecodecs.png_encode(np.random.default_rng(0).integers(0, 65536, (48, 64), np.uint16))
    path.write_bytes(whole)
    assert _read(path, 2).shape == (48, 64)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"7\.png: cannot be read as a picture") as told:
        _read(path, 2)
    assert len(str(told.value).splitlines()) == 1


def gray_profile(gamma):
    """A minimal ICC profile (ICC.1:2001) of a grey device."""
    curve = struct.pack(">4sIIHxx", b"curv", 0, 1, round(gamma * 256))
    white = struct.pack(">4sI3i", b"XYZ ", 0, 63190, 65536, 54061)  # D50
    table = struct.pack(">I4sII4sII", 2, b"kTRC", 156, 14, b"wtpt", 172, 20)
    head = struct.pack(">I4sI4s4s4s12x4s28xiii48x", 192, b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ",
                       b"acsp", 63190, 65536, 54061)  # fmt: skip
    return (head + table).ljust(156, b"\0") + curve + white


@pytest.mark.parametrize("depth", [8, 16])
def test_grey_photographs_are_turned_upright_and_their_profile_is_respected(tmp_path, depth):
    samples = np.full((20, 30), 128 if depth == 8 else 128 * 257, np.uint8 if depth == 8 else np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(samples).save(tmp_path / "a.png", exif=exif, icc_profile=gray_profile(1))
    picture = load_photograph(tmp_path / "a.png")
    assert (picture.size, picture.mode) == ((20, 30), "RGB")
    np.testing.assert_allclose(np.asarray(picture), 188, atol=2)  # linear 0.5
    Image.fromarray(samples).save(tmp_path / "b.png")
    assert (np.asarray(load_photograph(tmp_path / "b.png")) == 128).all()


def test_grey_with_a_profile_of_colours_is_read_as_grey(tmp_path):
    """As some programs save it; the two do not fit together."""
    samples = np.arange(200, dtype=np.uint8).reshape(10, 20)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(samples).save(tmp_path / "a.png", icc_profile=profile)
    picture = np.asarray(load_photograph(tmp_path / "a.png"))
    np.testing.assert_allclose(picture, samples[..., None].repeat(3, 2), atol=1)


def test_32_bit_numbers_are_no_photograph(tmp_path):
    for value in (70000, 200):  # 200 would be black
        Image.fromarray(np.full((4, 4), value, np.int32)).save(tmp_path / "a.tif")
        with pytest.raises(InputError, match="32-bit numbers"):
            load_photograph(tmp_path / "a.tif")


def test_ctrl_c_does_not_wait_for_pictures_that_have_not_begun():
    loaded = []

    def load(name):
        loaded.append(name)
        if name == 0:
            raise KeyboardInterrupt
        time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        load_all(range(1000), load)
    assert len(loaded) < 500


@pytest.fixture
def card(write_raw, grey_ramp, tmp_path):
    """Two raws, one in a sub-folder, with their pictures; and what macOS leaves beside them."""
    card = tmp_path / "card"
    for name in ("night.dng", "sub/day.DNG"):
        raw = write_raw(f"card/{name}", grey_ramp)
        Image.new("RGB", grey_ramp.shape[1::-1]).save(raw.with_suffix(".jpg"))
        for suffix in (raw.suffix, ".jpg"):
            raw.with_name(f"._{raw.stem}{suffix}").write_bytes(b"\0\5\x16\7")
    (card / ".Trashes").mkdir()
    for suffix in (".dng", ".jpg"):
        (card / ".Trashes" / f"old{suffix}").write_bytes(b"nothing")
        (card / f"folder{suffix}").mkdir()
    return card


def test_all_commands_find_the_same_raws(card):
    """Those that ``deepisp process -r`` finds: neither hidden ones nor folders called so."""
    pytest.importorskip("skimage")
    from deepisp_cli.evaluation.benchmarks import Settings
    from deepisp_cli.evaluation.evaluate import open_benchmark
    from deepisp_cli.training.raw_pairs import find_pairs

    jobs, _ = plan_jobs([str(card)], None, recursive=True, overwrite=True)
    expected = [card / "night.dng", card / "sub" / "day.DNG"]
    pairs = [(raw, raw.with_suffix(".jpg")) for raw in expected]
    assert [job.source for job in jobs] == expected
    assert open_benchmark("raws", card, Settings()).scenes == [(raw, None) for raw in expected]
    assert open_benchmark("pairs", card, Settings()).scenes == pairs
    assert find_pairs(card) == pairs


def test_hidden_pictures_are_passed_over(card):
    both = [card / "night.jpg", card / "sub" / "day.jpg"]
    assert list_files([card, card / "sub"], (".jpg",)) == both
    (card / ".hidden").mkdir(exist_ok=True)
    (card / ".hidden" / "a.jpg").write_bytes(b"x")
    assert list_files([card, card / "sub"], (".jpg",), recursive=True) == both
    assert list_files([card], (".jpg",)) == both[:1]


def test_folders_that_cannot_be_searched_are_named(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from deepisp_cli.training import raw_pairs

    with pytest.raises(InputError, match="gone: is not a folder"):
        raw_pairs.find_pairs(tmp_path / "gone")
    monkeypatch.setattr(
        raw_pairs, "search_folder", lambda folder, recursive: ([], {f"{folder}/closed": CLOSED})
    )
    with pytest.raises(InputError, match="closed: cannot be searched"):
        raw_pairs.find_pairs(tmp_path)

"""Raws of sensors that see no colours: they are developed as mosaics of a grey scene, to grey pictures."""

import io
import struct

import numpy as np
import pytest
import tifffile
from conftest import DNG_VERSION, decoded, gain_map, opcode_list, with_tag

from deepisp_cli import develop_array
from deepisp_cli.colour import srgb_decode
from deepisp_cli.engine import as_engine
from deepisp_cli.errors import InputError
from deepisp_cli.frame import Result
from deepisp_cli.info import describe
from deepisp_cli.options import Options
from deepisp_cli.pipeline import develop, finish, prepare
from deepisp_cli.raw import _assemble, _is_monochrome, read_raw

SHORT, UNDEFINED = 3, 7  # TIFF types
CFA, LINEAR_RAW = 32803, 34892
WHITE = 16000


def scene(height=160, width=192):
    """Counts of soft shapes under noise."""
    row, column = np.mgrid[:height, :width]
    light = 0.2 + 0.15 * np.sin(row / 17) * np.cos(column / 23)
    noise = np.random.default_rng(0).normal(0, 0.02, light.shape)
    return np.clip((light + noise) * WHITE, 0, WHITE).astype(np.uint16)


def dng(samples, extra=(), compression=None, photometric=LINEAR_RAW):
    """A DNG of one sample a pixel: LibRaw decodes what is not compressed."""
    file = io.BytesIO()
    tags = [*DNG_VERSION, (50717, SHORT, 1, WHITE), *extra]
    options = {"photometric": "minisblack", "compression": compression, "metadata": None}
    tifffile.imwrite(file, samples, extratags=tags, **options)
    return with_tag(file.getvalue(), 262, 262, photometric)


def read(data):
    return read_raw(io.BytesIO(data), "test.dng")


def colour_spread(pixels):
    return int(np.ptp(np.asarray(pixels).astype(int), axis=-1).max())


@pytest.fixture
def path(tmp_path):
    (tmp_path / "a.dng").write_bytes(dng(scene()))
    return tmp_path / "a.dng"


@pytest.mark.parametrize("compression", [None, "zlib"], ids=["LibRaw", "decoded here"])
def test_it_is_read_as_a_mosaic_of_a_grey_scene(compression):
    image = read(dng(scene(), compression=compression))
    np.testing.assert_array_equal(image.samples, scene())
    assert (image.monochrome, image.pattern) == (True, "RGGB")
    assert (image.white == WHITE).all() and not image.black.any()
    np.testing.assert_array_equal(image.camera_white_balance, np.ones(3))
    np.testing.assert_array_equal(image.daylight_white_balance, np.ones(3))
    assert image.notes == ("a monochrome sensor: the picture is grey",)


def test_levels_of_other_raws_are_those_of_their_one_colour():
    frame = decoded(
        scene(), np.zeros((1, 1), np.uint8), letters="G", origin=np.array([3, 5]), visible=(100, 101),
        black=np.float32([64, 1, 2, 3]), white=np.float32([4000, 1, 2, 3]),
    )  # fmt: skip
    image = _assemble(frame, {}, io.BytesIO())
    assert image.monochrome
    assert (image.black == 64).all() and (image.white == 4000).all()
    np.testing.assert_array_equal(image.samples, scene()[3:103, 5:106])


@pytest.mark.parametrize("bit_depth", [8, 16])
@pytest.mark.parametrize("look", ["learned", "neutral"])
def test_the_picture_is_grey(path, bit_depth, look):
    picture = develop_array(path, "deepisp", Options(bit_depth=bit_depth, look=look))
    assert colour_spread(picture) == 0
    assert picture.std() > picture.max() / 50  # and shows something


def test_a_resident_engine_makes_the_same_picture(path, tiny_model):
    pytest.importorskip("torch")
    from deepisp_cli.torch_engine import TorchEngine

    engine, options = TorchEngine(tiny_model, "cpu"), Options()
    engine.resident = True
    frames = (prepare(path, options, resident=stays) for stays in (False, True))
    here, there = (finish(frame, engine, options, Result("", "")) for frame in frames)
    assert colour_spread(there) == 0
    assert np.abs(here.astype(int) - there).max() <= 1


def test_every_sample_counts_alike(identity_engine, path):
    """None is taken for a colour: without a network a bright dot holds as much light on any of them."""
    light = []
    for place in np.ndindex(2, 2):
        samples = np.full((64, 64), 2000, np.uint16)
        samples[30 + place[0], 30 + place[1]] = 8000
        path.write_bytes(dng(samples))
        picture = develop_array(path, identity_engine, Options(look="neutral", bit_depth=16))
        light.append((srgb_decode(picture.astype(np.float64) / 65535) - 2000 / WHITE).sum() / 3)
    np.testing.assert_allclose(light, light[0], rtol=1e-4)
    assert light[0] == pytest.approx(6000 / WHITE, rel=0.02)


@pytest.mark.parametrize("white_balance", ["auto", "daylight", "3200K", "2,1,1.5"])
def test_there_is_no_white_balance(path, identity_engine, white_balance):
    usual, asked = Result("", ""), Result("", "")
    expected = finish(prepare(path, Options(), usual), identity_engine, Options(), usual)
    options = Options(white_balance=white_balance)
    found = finish(prepare(path, options, asked), identity_engine, options, asked)
    np.testing.assert_array_equal(found, expected)
    assert [note for note in asked.notes if note not in usual.notes] == [
        "monochrome: no white balance is applied"
    ]


def test_lens_shading_of_its_one_plane_is_corrected_everywhere():
    """By OpcodeList3, which is for the demosaiced picture."""
    opcodes = opcode_list(gain_map([[[1.5]]], (0, 0, 160, 192)))
    image = read(dng(scene() // 2, [(51022, UNDEFINED, len(opcodes), opcodes)]))
    np.testing.assert_allclose(image.samples, scene() // 2 * 1.5, rtol=1e-5)


def test_bad_pixels_are_replaced_without_a_note():
    samples = np.full((64, 64), 900, np.uint16)
    samples[20, 21] = 0
    opcodes = opcode_list((5, struct.pack(">5I", 0, 1, 0, 20, 21)))
    image = read(dng(samples, [(51008, UNDEFINED, len(opcodes), opcodes)]))
    assert (image.samples == 900).all()
    assert len(image.notes) == 1


def test_a_bad_pixel_becomes_what_is_next_to_it():
    samples = np.full((64, 64), 700, np.uint16)
    samples[:, 20:22] = 100  # a line two pixels wide
    samples[20, 21] = 0
    opcodes = opcode_list((5, struct.pack(">5I", 0, 1, 0, 20, 21)))
    image = read(dng(samples, [(51008, UNDEFINED, len(opcodes), opcodes)]))
    assert image.samples[20, 21] < 500


def test_a_restored_dng_is_grey(path, tmp_path):
    samples = scene()
    samples[:40] = np.random.default_rng(1).integers(0, WHITE, (40, 192))
    path.write_bytes(dng(samples))
    develop(path, tmp_path / "b.dng", "deepisp", Options(format="dng"))
    restored = read_raw(tmp_path / "b.dng")
    assert colour_spread(restored.samples) == 0
    assert restored.monochrome and restored.pattern is None
    for white_balance in ("camera", "3200K", "auto"):
        options = Options(white_balance=white_balance, bit_depth=16)
        picture = develop_array(tmp_path / "b.dng", "deepisp", options)
        assert colour_spread(picture) == 0 and picture.std() > 1000
    options = Options(format="dng")
    frame = prepare(path, options)
    assert colour_spread(finish(frame, as_engine("deepisp"), options, Result("", "")).preview) == 0


@pytest.mark.parametrize("odd", [0, 1, 2, None])
def test_a_restored_dng_with_one_plane_unlike_the_others_is_not_grey(odd):
    samples = np.full((4, 4, 3), 100, np.uint16)
    if odd is not None:
        samples[1, 2, odd] += 1
    assert _is_monochrome(samples, None, restored=True) == (odd is None)
    assert not _is_monochrome(samples, None, restored=False)


def test_info_says_so(path):
    assert describe(path)["cfa"] == "none (monochrome)"


@pytest.mark.parametrize("compression", [None, "zlib"], ids=["LibRaw", "decoded here"])
def test_a_mosaic_without_a_pattern_is_not_taken_for_monochrome(compression):
    with pytest.raises(InputError, match=r"damaged.*no CFAPattern"):
        read(dng(scene(), compression=compression, photometric=CFA))

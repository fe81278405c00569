"""Finished pictures in fewer pixels."""

import json
from io import BytesIO

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from deepisp_cli.cli import main
from deepisp_cli.colour import srgb_decode, srgb_encode
from deepisp_cli.errors import UsageError
from deepisp_cli.libraw import read_preview
from deepisp_cli.options import Options
from deepisp_cli.pipeline import develop, develop_array
from deepisp_cli.resize import reduce_to, with_square_pixels

DTYPES = (np.uint8, np.uint16)


@pytest.mark.parametrize(
    ("shape", "side", "expected"),
    [((40, 60), 30, (20, 30)), ((60, 40), 30, (30, 20)), ((7, 1000), 10, (1, 10)), ((41, 61), 60, (40, 60))],
)
def test_the_longer_side_is_what_is_asked_for_and_proportions_stay(shape, side, expected):
    assert reduce_to(np.zeros((*shape, 3), np.uint8), side).shape == (*expected, 3)


def test_a_picture_that_is_small_enough_stays_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    for side in (60, 61, 10_000):
        assert reduce_to(pixels, side) is pixels


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", [0.0, 0.013, 0.5, 1.0])
def test_a_flat_field_keeps_its_level(dtype, level):
    white = np.iinfo(dtype).max
    pixels = np.full((50, 70, 3), round(level * white), dtype)
    found = reduce_to(pixels, 23)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, pixels[0, 0, 0], atol=1 if dtype == np.uint8 else 4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_light_is_averaged_and_not_its_code(dtype):
    """Half of the pixels white: half of the light, which is 188 and not 128 in 8 bits."""
    white = np.iinfo(dtype).max
    pixels = np.zeros((64, 64, 3), dtype)
    pixels[(np.indices((64, 64)).sum(0) % 2) == 0] = white
    middle = reduce_to(pixels, 16)[4:-4, 4:-4]
    assert srgb_decode(middle.astype(np.float32) / white).mean() == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_becomes_darker_or_brighter_than_all_around_it(dtype):
    """Lamps and windows in a dim room have no black rings, and bars no double edges."""
    white, dim = np.iinfo(dtype).max, np.iinfo(dtype).max // 6
    room = np.full((120, 150, 3), dim, dtype)
    room[20:60, 30:70] = white
    room[90:92, 100:102] = white  # a lamp
    room[70:, 10:13] = dim // 3  # a bar
    small = reduce_to(room, 50)
    assert small.min() >= dim // 3 - 1
    assert small[:, 30:].min() >= dim - 1 and small[30, 33].min() > 1.5 * dim
    window = small[6:22, 8:25].astype(int)
    assert (window.min(2) >= dim - 1).all() and window.max() <= white
    assert small[12, 15].min() == white


def test_channels_and_places_stay_where_they_were():
    ramp = np.linspace(0, 255, 64)
    pixels = np.stack(np.broadcast_arrays(ramp[:, None], ramp, 255 - ramp), -1).astype(np.uint8)
    found = reduce_to(pixels, 16).astype(int)
    np.testing.assert_allclose(found, pixels.reshape(16, 4, 16, 4, 3).mean((1, 3)), atol=8)


def test_a_raw_is_developed_whole_and_then_reduced(write_raw, grey_ramp, tiny_model, tmp_path):
    path = write_raw("a.dng", grey_ramp, orientation=6)
    whole, reduced = (develop_array(path, tiny_model, Options(long_side=side)) for side in (None, 30))
    np.testing.assert_array_equal(reduced, reduce_to(whole, 30))
    arguments = ["process", str(path), "--long-side", "32", "--model", str(tiny_model.folder), "--json"]
    result = CliRunner().invoke(main, arguments)
    told = json.loads(result.stdout)
    assert (told["width"], told["height"]) == (24, 32)
    with Image.open(tmp_path / "a.jpg") as picture:
        assert picture.size == (24, 32)
        assert picture.getexif().get_ifd(0x8769)[0xA002] == 24  # PixelXDimension


@pytest.mark.parametrize(
    ("aspect", "expected"), [(2.0, (40, 120)), (0.5, (80, 60)), (1.5, (40, 90)), (0.8, (50, 60))]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_pixels_become_square_by_more_of_them(dtype, aspect, expected):
    level = np.iinfo(dtype).max // 3
    found = with_square_pixels(np.full((40, 60, 3), level, dtype), aspect)
    assert found.shape == (*expected, 3) and found.dtype == dtype
    np.testing.assert_allclose(found.astype(float), level, atol=2)


@pytest.mark.parametrize("aspect", [1.0, 1.008, 0.99])
def test_pixels_that_are_square_to_half_a_pixel_stay_as_they_are(aspect):
    pixels = np.zeros((40, 60, 3), np.uint8)
    assert with_square_pixels(pixels, aspect) is pixels


@pytest.mark.parametrize(
    ("orientation", "size"), [(1, (120, 40)), (3, (120, 40)), (6, (40, 120)), (8, (40, 120))]
)
def test_a_circle_is_round_whatever_the_pixels(write_raw, tiny_model, tmp_path, orientation, size):
    """Pixels twice as wide as high, as DefaultScale says: also of a restored DNG, and in its preview."""
    down, right = np.mgrid[:40, :60] - np.array([19.5, 29.5])[:, None, None]
    circle = (down**2 + (2 * right) ** 2 < 15**2)[..., None].repeat(3, 2) * 0.5
    scale = (50718, 5, 2, (2, 1, 1, 1))
    path = write_raw("a.dng", circle, orientation=orientation, extra=[scale])
    restored = tmp_path / "restored.dng"
    assert develop(path, restored, tiny_model).status == "written"
    for source in (path, restored):
        light = develop_array(source, tiny_model, Options(look="neutral")).mean(2) > 40
        assert light.shape == size[::-1]
        height, width = (np.ptp(np.flatnonzero(light.any(axis))) + 1 for axis in (1, 0))
        assert height == pytest.approx(30, abs=3) and width == pytest.approx(30, abs=3)
    with open(restored, "rb") as file, Image.open(BytesIO(read_preview(file))) as preview:
        assert preview.size == size
    assert develop_array(path, tiny_model, Options(long_side=60)).shape == (*np.array(size)[::-1] // 2, 3)


@pytest.mark.parametrize("side", [0, -3, 2.5, "large"])
def test_a_side_that_makes_no_sense_is_refused(side):
    with pytest.raises(UsageError):
        Options(long_side=side)


@pytest.mark.parametrize("period", [3, 4])
def test_fine_texture_keeps_what_lanczos_leaves_of_it(period):
    """The limit against rings around lamps is not for it: means of whole pixels have lower peaks."""
    waves = 0.5 + 0.3 * np.sin(2 * np.pi * np.arange(960) / (3 * period))
    pixels = np.rint(65535 * srgb_encode(np.tile(waves, (96, 1)).astype(np.float32)))
    pixels = np.repeat(pixels[..., None], 3, 2).astype(np.uint16)
    reduced = srgb_decode(reduce_to(pixels, 320).astype(np.float32) / 65535)[8:-8, 8:-8, 1]
    kept = np.abs(np.fft.rfft(reduced[4, :300] - reduced[4, :300].mean())).max() / 150 / 0.3
    assert kept > 0.93  # a box filter: 0.84 and 0.91

"""Orientation, dither and quantisation."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from deepisp_cli.render import LEVELS, make_grey, orient, render

RANDOM = np.random.default_rng(20260101)


@settings(max_examples=30, deadline=None)
@given(level=st.floats(0, 255))
def test_dither_keeps_the_mean_of_a_flat_field(level):
    flat = np.full((96, 128, 3), level / 255, np.float32)
    means = render(flat, 1, 8).mean(axis=(0, 1))
    assert np.abs(means - level).max() < 0.02, f"level {level}: channel means {means}"


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_black_and_white_stay_exact_and_everything_outside_is_clipped(bit_depth):
    levels = np.array([0, 1, -0.0, -3, 1.0001, 7, -np.inf, np.inf], np.float32)
    picture = np.broadcast_to(levels[:, None, None, None], (8, 300, 300, 3)).reshape(2400, 300, 3)
    white = LEVELS[bit_depth]
    expected = np.repeat([0, white, 0, 0, white, white, 0, white], 300)
    pixels = render(picture, 1, bit_depth)
    assert pixels.dtype == f"uint{bit_depth}"
    np.testing.assert_array_equal(pixels, np.broadcast_to(expected[:, None, None], picture.shape))


@pytest.mark.parametrize("level", [254.9999, 254.5, 0.0001])
def test_dither_never_wraps_around(level):
    pixels = render(np.full((256, 256, 3), level / 255, np.float32), 1, 8)
    assert abs(int(pixels.max()) - level) <= 1 and abs(int(pixels.min()) - level) <= 1


def test_a_slow_ramp_does_not_band():
    """Three levels over 1,200 columns: without dither each step is 400 columns wide and up to 0.5 wrong."""
    ramp = np.linspace(100, 103, 1200, dtype=np.float32)
    pixels = render(np.broadcast_to((ramp / 255)[None, :, None], (64, 1200, 3)), 1, 8)
    windows = pixels.reshape(64, 75, 16, 3).mean(axis=(0, 2))
    error = np.abs(windows - ramp.reshape(75, 16).mean(axis=1)[:, None]).max()
    assert error < 0.08, f"a window of 16 columns is {error:.3f} levels off"


def test_dither_is_finer_than_white_noise():
    pixels = render(np.full((256, 256, 3), 100.5 / 255, np.float32), 1, 8).astype(float)
    of_cells = pixels.reshape(16, 16, 16, 16, 3).mean(axis=(1, 3)).std()
    assert of_cells < 0.5 / 16 * 2 / 3, f"16x16 cells scatter by {of_cells:.4f}, white noise by 0.0313"


def test_the_channels_are_dithered_apart():
    pixels = render(np.full((256, 256, 3), 100.5 / 255, np.float32), 1, 8).reshape(-1, 3).astype(float)
    correlation = np.corrcoef(pixels.T) - np.eye(3)
    assert np.abs(correlation).max() < 0.1, correlation


def test_dither_depends_on_the_place_only():
    picture = RANDOM.random((300, 270, 3), dtype=np.float32)
    whole = render(picture, 1, 8)
    np.testing.assert_array_equal(whole, render(picture.copy(), 1, 8))
    np.testing.assert_array_equal(whole[:77, :130], render(picture[:77, :130], 1, 8))


def test_sixteen_bits_are_rounded_without_dither():
    values = RANDOM.integers(0, 65536, (40, 50, 3))
    picture = ((values + RANDOM.uniform(-0.4, 0.4, values.shape)) / 65535).astype(np.float32)
    np.testing.assert_array_equal(render(picture, 1, 16), values)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_agrees_with_pillow(orientation):
    stored = RANDOM.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(stored).save(buffer, "png", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(buffer)))
    np.testing.assert_array_equal(orient(stored, orientation), upright)
    pixels = render((stored / 255).astype(np.float32), orientation, 16)
    np.testing.assert_array_equal(pixels, upright.astype(int) * 257)
    assert pixels.flags.c_contiguous


def test_the_argument_is_not_changed():
    picture = RANDOM.normal(0.5, 1, (64, 64, 3)).astype(np.float32)
    before = picture.copy()
    render(picture, 6, 8)
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize(
    ("picture", "orientation", "bit_depth", "message"),
    [
        (np.zeros((4, 4), np.float32), 1, 8, r"\(4, 4\)"),
        (np.zeros((4, 4, 4), np.float32), 1, 8, r"\(4, 4, 4\)"),
        (np.zeros((4, 4, 3)), 1, 8, "float64"),
        (np.zeros((4, 4, 3), np.float32), 0, 8, "orientation"),
        (np.zeros((4, 4, 3), np.float32), 9, 8, "orientation"),
        (np.zeros((4, 4, 3), np.float32), 1, 12, "bit depth"),
    ],
)
def test_what_cannot_be_rendered_is_refused(picture, orientation, bit_depth, message):
    with pytest.raises(ValueError, match=message):
        render(picture, orientation, bit_depth)


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_a_nan_anywhere_is_refused(bit_depth):
    picture = np.zeros((70, 5, 3), np.float32)
    picture[66, 4, 1] = np.nan
    with pytest.raises(ValueError, match="NaN in rows 64"):
        render(picture, 1, bit_depth)


def test_the_dither_of_a_row_is_not_that_of_a_row_nearby():
    """Rows are worked on in blocks, which must not show."""
    pixels = render(np.full((128, 64, 3), 0.5, np.float32), 1, 8).astype(float)
    rows = pixels[..., 1] - pixels[..., 1].mean()
    alike = [(rows[:64] * rows[by : by + 64]).mean() / (rows**2).mean() for by in range(1, 65)]
    assert max(map(abs, alike)) < 0.5


def test_grey_is_that_of_green():
    pixels = RANDOM.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    green = pixels[..., 1].copy()
    make_grey(pixels)
    np.testing.assert_array_equal(pixels, green[..., None].repeat(3, -1))


def test_a_row_has_no_orientation():
    with pytest.raises(ValueError, match="two-dimensional"):
        orient(np.zeros(3, np.float32), 1)

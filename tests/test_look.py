"""The default model on scenes whose truth needs no photograph: greys, blown windows, night."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from deepisp_cli.colour import srgb_decode, srgb_encode
from deepisp_cli.engine import open_engine
from deepisp_cli.evaluation.baselines import developed
from deepisp_cli.grain import limit_outliers
from deepisp_cli.look import add_contrast, brighten, develop_colour
from deepisp_cli.models import DEFAULT_MODEL, find_model
from deepisp_cli.options import Options
from deepisp_cli.pipeline import develop_array
from deepisp_cli.training.cameras import HELD_OUT, matrices
from deepisp_cli.training.sensor import Sensor, usual_read_noise

GAINS = (2.0, 1.0, 1.6)
SHOT_NOISE = 5e-4  # of full scale: a low ISO


@dataclass(frozen=True)
class WornSensor(Sensor):
    hot: Sequence[tuple[int, int, float]] = ()  # row, column, and how much brighter the sample is
    dead: Sequence[tuple[int, int]] = ()  # row and column of samples that stay black

    def expose(self, scene, exposure, rng):
        counts = super().expose(scene, exposure, rng).astype(float)
        for row, column, amount in self.hot:
            counts[row, column] += amount * (self.white - self.black)
        for place in self.dead:
            counts[place] = self.black
        return np.minimum(counts, self.white).astype(np.uint16)


@pytest.fixture(scope="module", params=["onnx", "onnx-int8"])
def engine(request):
    return open_engine(find_model(DEFAULT_MODEL), request.param, "cpu")


@pytest.fixture
def develop(engine, tmp_path):
    """``develop(scene, exposure, ...)``: linear sRGB (H, W, 3), 1.0 being white, as a noisy raw and back."""

    def on_camera(scene, exposure, camera=0, shot=SHOT_NOISE, hot=(), dead=()):
        path = tmp_path / "scene.dng"
        sensor = WornSensor(
            matrices(HELD_OUT)[camera], GAINS, shot, usual_read_noise(shot), hot=hot, dead=dead
        )
        sensor.write(path, scene, exposure, np.random.default_rng(0), model="a camera never trained on")
        return developed(engine)(path)

    return on_camera


def blocks(picture, side=16):
    """Means (rows, columns, 3) of blocks, in which the grain averages out."""
    height, width = (size // side * side for size in picture.shape[:2])
    tiled = picture[:height, :width].astype(float).reshape(height // side, side, width // side, side, 3)
    return tiled.mean((1, 3))


def test_brightening_keeps_hues():
    """Rows: dark, bright and beyond white; a colour does not turn into another one."""
    colours = np.array(
        [[0.9, 0.2, 0.4], [1.3, 0.1, 0.1], [0.2, 0.9, 0.95], [0.9, 0.9, 0.1], [0.3, 0.2, 0.25]]
    )
    srgb = np.float32(colours)
    for exposure in (0.01, 0.5, 1, 2, 4):
        bright = brighten(srgb, exposure)
        assert bright.min() >= 0 and bright.max() <= 1
        linear, expected = srgb_decode(bright), srgb_decode(srgb.clip(0, 1)) * 2**exposure
        inside = expected.max(-1) <= 1
        np.testing.assert_allclose(linear[inside], expected[inside], rtol=1e-4)
        np.testing.assert_allclose(linear.max(-1), expected.max(-1).clip(max=1), atol=2e-5)
        np.testing.assert_allclose(linear.min(-1), expected.min(-1).clip(max=1), atol=2e-5)
        # what is over the smallest channel keeps its proportions
        found, wanted = (each - each.min(-1, keepdims=True) for each in (linear, expected))
        white = linear.min(-1) > 0.999
        proportions = [(each / each.max(-1, keepdims=True))[~white] for each in (found, wanted)]
        np.testing.assert_allclose(*proportions, atol=1e-3)
        np.testing.assert_array_equal(white, expected.min(-1) > 0.999)
    np.testing.assert_allclose(brighten(srgb, 1e-6), srgb.clip(0, 1), atol=1e-5)  # no jump at 0 EV
    assert brighten(srgb, -1)[1, 0] > srgb_encode(np.float32(0.5))  # what is beyond white comes back


def test_a_little_more_exposure_changes_colours_little():
    """A twentieth of an EV is at most 13 levels of 255 in any channel, little more than for greys."""
    colours = np.random.default_rng(0).random((4000, 3)).astype(np.float32)
    bright = np.stack([brighten(colours, exposure) for exposure in np.arange(0, 3, 0.05)])
    steps = np.diff(bright, axis=0)
    assert steps.min() > -1e-6 and steps.max() * 255 < 13


def test_yellow_and_sky_keep_their_colours_a_stop_brighter():
    for colour in ([217, 214, 135], [224, 165, 23], [150, 200, 255]):
        found = brighten(np.float32([colour]) / 255, 1)[0] * 255
        clipped = srgb_encode((srgb_decode(np.float32(colour) / 255) * 2).clip(0, 1)) * 255
        assert np.abs(found - clipped).max() < 40 and np.ptp(found) > 20


def test_hot_pixels_are_no_grain():
    """Wherever they are; what noise and edges differ stays."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.02, (150, 90)).astype(np.float32)
    noise[:, 40:] += 0.1  # an edge that was softened
    hot = [(0, 0), (0, 89), (149, 0), (149, 89), (63, 30), (64, 20), (127, 50), (128, 60), (70, 0), (0, 45)]
    for place in hot:
        noise[place] = 0.7
    limited = noise.copy()
    limit_outliers(limited)
    for row, column in hot:
        around = np.abs(noise[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]).copy()
        around[around == np.float32(0.7)] = 0
        assert limited[row, column] == pytest.approx(2 * around.max(), rel=1e-5)
        noise[row, column] = limited[row, column] = 0
    assert np.mean(limited != noise) < 0.01
    np.testing.assert_allclose(limited, noise, atol=0.06)
    thin = np.float32([[0.1, -0.9, 0.1]])
    limit_outliers(thin)
    np.testing.assert_allclose(thin, [[0.1, -0.2, 0.1]], rtol=1e-6)


def test_outliers_are_limited_alike_by_torch():
    torch = pytest.importorskip("torch")
    residual = np.random.default_rng(1).standard_cauchy((130, 40)).astype(np.float32)
    on_device = torch.from_numpy(residual.copy())
    limit_outliers(residual)
    limit_outliers(on_device)
    np.testing.assert_allclose(on_device.numpy(), residual, rtol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_contrast_leaves_black_white_and_the_middle(share):
    levels = np.linspace(-0.2, 1.2, 281, dtype=np.float32)
    found = add_contrast(levels, share)
    inside = levels.clip(0, 1)
    np.testing.assert_allclose(
        found, (1 - share) * inside + share * (3 * inside**2 - 2 * inside**3), atol=1e-6
    )
    np.testing.assert_allclose(found[[40, 140, 240]], [0, 0.5, 1], atol=1e-6)
    assert (np.diff(found) >= 0).all()
    colour = np.float32([0.6, 0.3, 0.3])
    assert np.ptp(add_contrast(colour, share)) >= np.ptp(colour)


def test_contrast_comes_after_exposure(write_raw, grey_ramp, identity_engine):
    path = write_raw("a.dng", grey_ramp)
    plain, contrasty = (
        develop_array(
            path, identity_engine, Options(look="neutral", exposure=1, contrast=contrast, bit_depth=16)
        )
        for contrast in (0, 0.5)
    )
    x = plain / np.float32(65535)
    np.testing.assert_allclose(contrasty / 65535, add_contrast(x, 0.5), atol=1e-3)
    assert np.abs(contrasty - plain.astype(float)).max() > 2000


def test_the_learned_look_has_the_contrast_of_its_model(write_raw, grey_ramp, identity_engine):
    path = write_raw("a.dng", grey_ramp)
    identity_engine.model.card["contrast"] = 0.5

    def developed(**options):
        return develop_array(path, identity_engine, Options(**options))

    np.testing.assert_array_equal(developed(), developed(contrast=0.5))
    np.testing.assert_array_equal(developed(look="neutral"), developed(look="neutral", contrast=0))
    none, usual, strong = (developed(**given).std() for given in ({"contrast": 0}, {}, {"contrast": 0.9}))
    assert none < usual < strong


def test_brightening_greys_is_a_factor_up_to_white():
    grey = np.linspace(0, 1.2, 50, dtype=np.float32)[:, None].repeat(3, 1)
    expected = srgb_encode((srgb_decode(grey.clip(0, 1)) * 2).clip(0, 1))
    np.testing.assert_allclose(brighten(grey, 1), expected, atol=1e-5)


@pytest.mark.parametrize("camera", range(3))
@pytest.mark.parametrize("exposure", [0.5, 0, -2, -4])
def test_greys_stay_grey_and_in_order(develop, exposure, camera):
    ramp = np.geomspace(0.01, 0.9, 384)[None, :, None].repeat(128, 0).repeat(3, 2)
    found = blocks(develop(ramp, exposure, camera))
    assert np.ptp(found, axis=2).max() < 8  # of 255; chroma of about 2
    assert np.all(np.diff(found.mean((0, 2))) > -2)


@pytest.mark.parametrize("exposure", [0.5, 0, -1, -2])
def test_a_blown_window_is_white(develop, exposure):
    room = np.full((256, 256, 3), 0.1)
    room[64:192, 64:192] = 8.0
    picture = develop(room, exposure)
    assert blocks(picture[80:176, 80:176]).min() > 250
    assert blocks(picture)[0].max() < 150  # and the room is not blown out


def test_a_night_sky_stays_dark(develop):
    sky = np.full((256, 256, 3), 0.002)
    rows, cols = np.random.default_rng(1).integers(8, 248, (2, 12))
    for row, col in zip(rows, cols, strict=True):
        sky[row : row + 6, col : col + 6] = 0.8  # lamps
    picture = develop(sky, -1, shot=4e-3)
    assert np.median(picture) < 60
    assert np.percentile(picture, 99.5) > 140


# of single samples, over all four colours of a mosaic
PLACES = [(row + row // 32 % 2, column + column // 64 % 2) for row in range(48, 240, 32)
          for column in range(16, 240, 32)]  # fmt: skip


def largest_change(picture, level, place):
    """From ``level`` (3,), around a place."""
    row, column = place
    return np.abs(picture[row - 3 : row + 4, column - 3 : column + 4] - level).max()


@pytest.mark.parametrize("shot", [1e-5, SHOT_NOISE])
@pytest.mark.parametrize(("light", "most", "half_below"), [(0.2, 30, 15), (0.6, 50, 35)])
def test_dead_pixels_hardly_show(develop, light, most, half_below, shot):
    wall = np.full((256, 256, 3), light)
    wall[:16] = 1.0
    picture = develop(wall, 0, shot=shot, dead=PLACES).astype(float)
    level = np.median(picture[32:], (0, 1))
    changes = [largest_change(picture, level, place) for place in PLACES]
    assert max(changes) < most  # untouched they would stand out by more than 100
    assert np.median(changes) < half_below


def test_hot_pixels_go(develop):
    sky = np.full((256, 256, 3), 0.02)
    sky[:16] = 0.5
    hot = [(*place, amount) for place, amount in zip(PLACES, 9 * (0.04, 0.1, 0.2, 0.4, 0.8), strict=False)]
    picture = develop(sky, 0, hot=hot).astype(float)
    level = np.median(picture[32:], (0, 1))
    for place in PLACES:  # untouched they would stand out by up to 200 of 255
        assert largest_change(picture, level, place) < 24


def test_stars_stay(develop):
    """Points of light that the lens spreads over more than one pixel are not hot pixels."""
    rows, columns = np.mgrid[:256, :256]
    sky = np.full((256, 256), 0.02)
    rng = np.random.default_rng(3)
    places = [(row, column) for row in range(24, 250, 32) for column in range(24, 250, 32)]
    for row, column in places:
        squares = (rows - row - rng.uniform()) ** 2 + (columns - column - rng.uniform()) ** 2
        sky += 0.4 * np.exp(-squares / (2 * 0.7**2))
    picture = srgb_decode(develop(sky[..., None].repeat(3, 2), 0) / np.float32(255))
    level = np.median(picture, (0, 1))
    light = [picture[row - 4 : row + 6, column - 4 : column + 6] - level for row, column in places]
    kept = np.sum(light, (1, 2)) / level / (0.4 / 0.02 * 2 * np.pi * 0.7**2)
    assert np.quantile(kept, 0.1) > 0.75
    assert np.quantile(kept, 0.9) < 1.25


def test_exposure_moves_the_picture_little(develop):
    """The learned tone brings one scene at three exposures to within a stop of each other."""
    rng = np.random.default_rng(2)
    scene = np.full((256, 384, 3), 0.2)
    for _ in range(60):
        top, left = rng.integers(0, 224), rng.integers(0, 352)
        scene[top : top + 32, left : left + 32] = rng.uniform(0.02, 0.9) * rng.uniform(0.6, 1, 3)
    means = [develop(scene, exposure).mean() for exposure in (0, -1, -2)]
    assert max(means) - min(means) < 50


# sRGB, dark to light
SKIN = ((60, 40, 32), (88, 62, 51), (115, 82, 68), (160, 114, 92), (194, 150, 130))


@pytest.mark.parametrize("exposure", [0, -2])
def test_skin_of_every_colour_stays_skin(develop, exposure):
    """The hue stays, and so does most of the saturation."""
    rgb2lab = pytest.importorskip("skimage.color").rgb2lab
    skin = srgb_decode(np.float32(SKIN) / 255)
    scene = np.full((256, 384, 3), 0.18)
    for index, tone in enumerate(skin):
        scene[32:224, 32 + 64 * index : 96 + 64 * index] = tone
    found = blocks(develop(scene, exposure))[4:12, 2:22].reshape(8, 5, 4, 3)[2:6, :, 1:3].mean((0, 2)) / 255
    wanted, found = rgb2lab(np.float64(SKIN) / 255), rgb2lab(found)
    hue = [np.degrees(np.arctan2(lab[:, 2], lab[:, 1])) for lab in (wanted, found)]
    assert np.abs(hue[1] - hue[0]).max() < 15
    strength = np.hypot(*found[:, 1:].T) / np.hypot(*wanted[:, 1:].T)
    assert strength.min() > 0.6
    assert strength.max() < 1.7


def test_the_light_meters_gain_is_for_the_learned_look_alone():
    image = np.random.default_rng(0).random((4, 4, 3)).astype(np.float32)
    matrix = np.eye(3, dtype=np.float32)
    plain, metered = (develop_colour(image, matrix, None, gain=gain) for gain in (None, 4.0))
    np.testing.assert_array_equal(metered, plain)

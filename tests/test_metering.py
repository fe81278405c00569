"""The light meter: one gain per frame, the same in training and in the product."""

import numpy as np
import pytest
from conftest import MATRIX, IdentityEngine

from deepisp_cli import colour
from deepisp_cli.frame import Result
from deepisp_cli.look import frame_gain
from deepisp_cli.metering import (
    BLACK,
    GLINTS,
    HEADROOM,
    LAMP_LEVEL,
    LEVEL,
    MOST,
    MOST_FOR_LAMPS,
    TRUST,
    expose,
    meter,
    metered_gains,
)
from deepisp_cli.options import Options
from deepisp_cli.pipeline import finish, prepare


def highlights(frame):
    return np.quantile(frame.max(-1), 1 - GLINTS)


def plain_meter(highlights):
    """Of frames whose other parts are just as bright."""
    return meter(highlights, highlights)


@pytest.mark.parametrize("exposure", [0.0, -1.0, -3.0])
def test_a_frame_is_brought_nearer_to_the_level(exposure):
    frame = np.random.default_rng(0).uniform(0, 0.4, (40, 50, 3)) * 2**exposure
    exposed = expose(frame, plain_meter(highlights(frame)))
    before, after = (np.log2(LEVEL / highlights(f)) for f in (frame, exposed))
    assert after == pytest.approx((1 - TRUST) * before, rel=1e-4)


def test_what_is_bright_is_never_darkened_and_what_is_black_stays_near_black():
    assert plain_meter(np.float64(1.3)) == 1.0
    assert plain_meter(np.float64(BLACK)) == MOST
    assert plain_meter(np.float64(0.0)) == 1.0
    assert expose(np.float32(1.0), 20.0) == HEADROOM
    assert expose(np.float32(-0.1), 2.0) == np.float32(-0.2)


def test_more_light_never_makes_a_darker_picture():
    frames = np.geomspace(1e-6, 2, 200)
    for share in (1, 0.3, 0.01):
        exposed = frames * meter(frames.clip(max=1), share * frames)
        assert np.all(np.diff(exposed) > 0)
        assert exposed[0] < 1e-5


def test_clipped_lamps_do_not_keep_a_room_dark():
    """What is bright but for them comes to the level that it has in most photographs; by a stop at most."""
    lamp = np.float64(LEVEL)
    gain = meter(lamp, np.float64(0.7 * LAMP_LEVEL))
    assert gain == pytest.approx((1 / 0.7) ** TRUST)
    assert meter(lamp, np.float64(LAMP_LEVEL)) == 1.0
    assert meter(lamp, np.float64(0.001)) == meter(lamp, np.float64(-0.1)) == MOST_FOR_LAMPS
    half = np.float64(0.75 * LEVEL)  # of the way from where it counts not at all
    exposed = plain_meter(half)
    expected = exposed * (LAMP_LEVEL / (exposed * 0.3)) ** (TRUST / 2)
    assert meter(half, np.float64(0.3)) == pytest.approx(expected)
    unclipped = np.float64(LEVEL / 2)
    assert meter(unclipped, np.float64(0.001)) == plain_meter(unclipped)


def test_a_small_lamp_in_a_dark_room_is_no_white_wall():
    eye = np.eye(3, dtype=np.float32)
    room = np.full((100, 100, 3), 0.3, np.float32)
    for side, expected in ((7, (LAMP_LEVEL / 0.3) ** TRUST), (21, 1.0)):
        room[:side, :side] = 1.0
        assert frame_gain(colour.encode(room), eye) == pytest.approx(expected, rel=1e-3)


def test_a_growing_lamp_darkens_the_room_little_by_little():
    """Not all at once, as its edge passes a quantile."""
    room = np.random.default_rng(4).uniform(0.05, 0.1, 300**2).astype(np.float32)
    stops = []
    for share in np.geomspace(1e-4, 0.1, 80):
        room[: int(share * room.size)] = 1.0
        stops.append(np.log2(metered_gains(room)))
    fall = stops[0] - stops[-1]
    assert fall > 3
    assert np.all(np.diff(stops) <= 1e-6)
    assert -np.diff(stops).min() < fall / 8


def test_a_scene_without_lamps_is_metered_by_its_highlights():
    scene = np.random.default_rng(5).uniform(0, 0.1, (3, 200**2)).astype(np.float32)
    scene[:, ::50] = 0.3
    np.testing.assert_allclose(metered_gains(scene), plain_meter(np.float64(0.3)), rtol=1e-3)


def test_the_readings_lie_around_their_shares():
    """A lamp of half of a share of the frame does not count, one of twice that share fully."""
    lamp_aside = (LAMP_LEVEL / 0.3) ** TRUST
    for share, before, after in ((0.001, 0.3**-TRUST, lamp_aside), (0.02, lamp_aside, 1)):
        for part, expected in ((0.49, before), (2.02, after)):
            room = np.full(10**5, 0.3)
            room[: round(part * share * room.size)] = 1.0
            assert metered_gains(room) == pytest.approx(expected, rel=1e-3)


def test_the_gain_is_the_geometric_mean_of_nine_readings():
    frame = 0.8 * np.linspace(0, 1, 10**4) ** 20  # its highlights count as clipped in part
    readings = [
        meter(np.quantile(frame, 1 - 0.001 * factor), np.quantile(frame, 1 - 0.02 * factor))
        for factor in np.geomspace(0.5, 2, 9)
    ]
    assert np.std(readings) > 0.01
    assert metered_gains(frame) == pytest.approx(np.exp(np.log(readings).mean()), rel=1e-6)


def test_each_frame_of_a_batch_has_its_own_gain():
    torch = pytest.importorskip("torch")
    frames = np.random.default_rng(6).uniform(0, 1, (4, 3, 500)).astype(np.float32)
    frames *= np.float32([0.02, 0.1, 0.4, 1])[:, None, None]
    expected = [[metered_gains(frame) for frame in row] for row in frames]
    np.testing.assert_allclose(metered_gains(torch.from_numpy(frames)), expected, rtol=1e-4)
    np.testing.assert_allclose(metered_gains(frames), expected, rtol=1e-6)


def test_frames_of_a_batch_are_metered_one_by_one():
    torch = pytest.importorskip("torch")
    brightness = np.float64([-0.1, 0.0, 1e-3, 0.02, 0.8, 1.5])
    expected = [meter(one, one / 4) for one in brightness]
    tensor = torch.from_numpy(brightness)
    np.testing.assert_allclose(meter(tensor, tensor / 4).numpy(), expected)


def test_a_hot_pixel_does_not_set_the_exposure_and_a_window_does():
    eye = np.eye(3, dtype=np.float32)
    frame = np.full((100, 100, 3), 0.1, np.float32)
    dark = frame_gain(frame, eye)
    frame[50, 50] = 1.0
    assert frame_gain(frame, eye) == dark
    frame[20:30, 20:30] = 1.0
    assert frame_gain(frame, eye) < dark / 10


def test_one_channel_is_enough_for_a_highlight():
    eye = np.eye(3, dtype=np.float32)
    grey = np.full((8, 8, 3), 0.7, np.float32)
    assert frame_gain(grey * np.float32([1, 0.1, 0.1]), eye) == pytest.approx(frame_gain(grey, eye))


def test_the_product_and_training_meter_alike():
    torch = pytest.importorskip("torch")
    from deepisp_cli.training.synthesis import frame_gains

    matrix = colour.srgb_from_camera(MATRIX)
    images = np.random.default_rng(1).normal(0.15, 0.1, (2, 64, 48, 3)).astype(np.float32)
    images[1] *= 0.5
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    found = frame_gains(tensor, torch.from_numpy(matrix).expand(2, 3, 3))
    np.testing.assert_allclose(found, [frame_gain(image, matrix) for image in images], rtol=1e-5)


def test_a_large_frame_is_metered_as_its_reduction():
    small = np.random.default_rng(2).uniform(0, 0.3, (100, 90, 3)).astype(np.float32)
    large = small.repeat(15, 0).repeat(15, 1)  # above a million pixels
    matrix = np.eye(3, dtype=np.float32)
    assert frame_gain(large, matrix) == pytest.approx(frame_gain(small, matrix), rel=0.01)


class Metered(IdentityEngine):
    def __init__(self):
        super().__init__()
        self.model.card["architecture"]["metered"] = True


def develop(path, engine, **options):
    options = Options(format="png", bit_depth=16, **options)
    result = Result(str(path), "")
    return finish(prepare(path, options, result), engine, options, result).astype(float) / 65535


def test_the_exposure_that_is_metered_is_told(write_raw, grey_ramp):
    told = []
    for stops in (0, 3):
        result = Result("", "")
        frame = prepare(write_raw(f"{stops}.dng", grey_ramp / 2**stops), Options(), result)
        expected = np.log2(frame_gain(frame.picture, frame.matrix))
        finish(frame, Metered(), Options(), result)
        assert result.metered == pytest.approx(expected, abs=0.01)
        told.append(result.metered)
    assert told[1] - told[0] == pytest.approx(3 * TRUST, abs=0.1)
    result = Result("", "")
    finish(prepare(write_raw("a.dng", grey_ramp), Options(), result), IdentityEngine(), Options(), result)
    assert result.metered is None


def test_a_metered_model_follows_little_of_the_exposure(write_raw, grey_ramp):
    scene = grey_ramp / 2  # neither white nor beyond `MOST` at either exposure
    bright, dark, plain = (
        colour.srgb_decode(develop(write_raw(f"{stops}.dng", scene / 2**stops), Metered(), strength=strength))
        for stops, strength in ((0, 1.0), (3, 1.0), (3, 0.5))
    )
    np.testing.assert_allclose(2 ** (3 * (1 - TRUST)) * dark, bright, atol=0.02)
    np.testing.assert_allclose(plain, dark, atol=0.01)  # the strength does not change the exposure


def test_the_neutral_look_keeps_the_exposure_of_a_metered_model(write_raw, grey_ramp):
    path = write_raw("dark.dng", grey_ramp / 8)
    found = develop(path, Metered(), look="neutral")
    np.testing.assert_allclose(found, develop(path, IdentityEngine(), look="neutral"))
    np.testing.assert_allclose(found, develop(path, IdentityEngine()), atol=1e-3)  # one that is not metered

"""The simulated camera: what it records of known light."""

import numpy as np
import pytest

from deepisp_cli.colour import srgb_from_camera
from deepisp_cli.demosaic import sample_mosaic
from deepisp_cli.raw import read_raw
from deepisp_cli.training.cameras import HELD_OUT, matrices
from deepisp_cli.training.sensor import Sensor, usual_read_noise

CAMERA = matrices(HELD_OUT)[0]
GAINS = (2.1, 1.0, 1.5)
RANGE = 16383 - 1024  # counts from black to white


def record(scene, exposure=0.0, shot=0.0, read=0.0, **options):
    sensor = Sensor(CAMERA, options.pop("gains", GAINS), shot, read, **options)
    return sensor.expose(scene, exposure, np.random.default_rng(0))


def grey(level):
    return np.full((128, 128, 3), level)


@pytest.mark.parametrize("exposure", [0.0, -2.0])
def test_light_comes_back_from_the_counts(exposure):
    """Through black level, gains, matrix and exposure; without noise."""
    scene = np.random.default_rng(0).uniform(0.2, 0.6, (16, 24, 3))
    counts = record(scene, exposure, pattern=None)
    balanced = (counts.astype(float) - 1024) / RANGE * GAINS
    linear = balanced @ srgb_from_camera(CAMERA).T / 2**exposure
    np.testing.assert_allclose(linear, scene, atol=1e-3)
    mosaic = record(scene, exposure, pattern="GBRG")
    np.testing.assert_array_equal(mosaic, sample_mosaic(counts, "GBRG"))


@pytest.mark.parametrize("level", [0.0, 0.1, 0.5])
def test_noise_grows_with_the_light(level):
    """Its variance is the read noise's, and the shot noise's per unit of what the sensor sees."""
    counts = record(grey(level), shot=0.002, read=3e-4, pattern=None).astype(float)
    for channel, gain in enumerate(GAINS):
        variance = counts[..., channel].var() / RANGE**2
        assert variance == pytest.approx(0.002 * level / gain + 3e-4, rel=0.05)
        mean = (counts[..., channel].mean() - 1024) / RANGE
        assert mean == pytest.approx(level / gain, abs=1e-3)


def test_counts_end_at_zero_and_at_white():
    """Noise below black stays, where there are counts for it."""
    dark = record(grey(0.0), read=1e-4)
    assert 0 < dark.min() < 1024 - 300
    assert (dark < 1024).mean() == pytest.approx(0.5, abs=0.02)
    assert record(grey(0.0), read=1e-4, black=0).min() == 0
    assert (record(grey(3.0), shot=0.001, white=4095, black=256) == 4095).all()


def test_counts_are_rounded():
    """To the nearest: the mean is not half a count lower."""
    counts = record(grey(0.3), read=1e-7, gains=(1, 1, 1))
    assert counts.mean() == pytest.approx(1024 + 0.3 * RANGE, abs=0.2)


def test_a_file_says_what_was_recorded(tmp_path):
    sensor = Sensor(CAMERA, GAINS, 0.002, usual_read_noise(0.002), black=300, white=4000, pattern="BGGR")
    scene = np.random.default_rng(0).uniform(0, 1, (32, 48, 3))
    path = tmp_path / "a.dng"
    sensor.write(path, scene, -1.0, np.random.default_rng(7), model="made up", exif={34855: 1600})
    raw = read_raw(path)
    np.testing.assert_array_equal(raw.samples, sensor.expose(scene, -1.0, np.random.default_rng(7)))
    assert (raw.pattern, raw.make, raw.model) == ("BGGR", "deepisp", "made up")
    assert set(raw.black.ravel()) == {300} and set(raw.white.ravel()) == {4000}
    np.testing.assert_allclose(raw.camera_white_balance, GAINS, rtol=1e-3)
    np.testing.assert_allclose(raw.xyz_to_camera, CAMERA, atol=1e-4)
    assert raw.capture["iso"] == 1600

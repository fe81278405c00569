"""The generated test scene: its radiance range, its determinism, and the place and colours of its chart."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from still_life import chart_patches, render
from still_life.camera import veil
from still_life.setting import EYE, LAMP
from still_life.vectors import unit


@pytest.fixture(scope="module")
def picture():
    return render(192, 128, samples=1)


def test_radiance_is_finite_and_not_negative(picture):
    assert picture.shape == (128, 192, 3)
    assert picture.dtype == np.float32
    assert np.isfinite(picture).all()
    assert picture.min() >= 0


def test_night_scene_has_lamps_and_deep_shadows(picture):
    luminance = picture @ np.float32([0.2126, 0.7152, 0.0722])
    assert luminance.max() > 5, f"brightest {luminance.max():.2f}: no lamp in the picture"
    assert np.median(luminance) < 0.3, f"median {np.median(luminance):.3f}"
    deep = (luminance < 0.01).mean()
    assert deep > 0.015, f"{deep:.1%} of the picture in deep shadow, expected at least 1.5%"


def test_glare_is_finite_looking_straight_at_a_lamp():
    towards = LAMP.centre - EYE
    nearby = np.random.default_rng(0).normal(0, 1e-4, (3, 2000)).astype(np.float32)
    assert np.isfinite(veil(unit(towards + nearby))).all()


def test_same_seed_same_picture():
    first, again, other = (render(24, 16, seed=seed, samples=1) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_chart_patches_hold_their_reflectance(picture):
    """Divided by its reflectance, a neutral patch shows the local light, which changes gradually."""
    patches = chart_patches(192, 128)
    assert len(patches) == 24
    shown = np.array([picture[y0:y1, x0:x1].mean(axis=(0, 1)) for y0, x0, y1, x1, _ in patches[18:]])
    light = shown / np.array([reflectance for *_, reflectance in patches[18:]])
    step = light[1:] / light[:-1]
    level = step.mean(axis=1)
    tint = np.abs(step / level[:, None] - 1).max()
    assert tint < 0.03, f"tint changes by {tint:.3f} from patch to patch, allowed 0.03"
    assert np.abs(level - 1).max() < 0.15, f"light changes by factors {level.round(3)}, allowed 0.15"


def test_chart_patches_scale_with_the_picture():
    small, large = (
        np.array([patch[:4] for patch in chart_patches(width, height)])
        for width, height in ((300, 200), (1536, 1024))
    )
    np.testing.assert_allclose(small, large * 300 / 1536, atol=1.01)
    assert (large[:, 2] - large[:, 0] > 20).all()
    assert (large[:, 3] - large[:, 1] > 20).all()

"""Transfer curves, camera matrices and the quadratic transform."""

import numpy as np
import pytest
from conftest import MATRIX

from deepisp_cli import colour


@pytest.mark.parametrize(
    ("there", "back"), [(colour.encode, colour.decode), (colour.srgb_encode, colour.srgb_decode)]
)
def test_curves_are_odd_rising_and_inverted(there, back):
    linear = np.linspace(-2, 4, 10001, dtype=np.float32)
    curve = there(linear)
    assert np.all(np.diff(curve) > 0)
    np.testing.assert_allclose(there(-linear), -curve, atol=1e-6)
    np.testing.assert_allclose(back(curve), linear, atol=4e-6)
    np.testing.assert_allclose(there(np.float32([0, 1])), [0, 1], atol=1e-6)
    assert curve.dtype == np.float32


def test_srgb_curve_at_known_values():
    """IEC 61966-2-1: mid grey 0.214 is code 0.5; the linear part is 12.92 x."""
    np.testing.assert_allclose(colour.srgb_encode(np.float32([0.21404, 0.001])), [0.5, 0.01292], atol=1e-5)


def test_encode_evens_out_shot_noise():
    """Poisson noise has about the same spread at any brightness after the curve; before it, 30 times."""
    rng = np.random.default_rng(0)
    spreads = [colour.encode(rng.poisson(level, 20000) / 4000).std() for level in (50, 400, 3200)]
    assert max(spreads) / min(spreads) < 1.15


def test_numpy_and_torch_agree_to_the_bit():
    torch = pytest.importorskip("torch")
    linear = np.random.default_rng(0).normal(0.2, 0.5, 10000).astype(np.float32)
    np.testing.assert_array_equal(colour.encode(torch.from_numpy(linear)).numpy(), colour.encode(linear))
    np.testing.assert_array_equal(colour.decode(torch.from_numpy(linear)).numpy(), colour.decode(linear))


def test_camera_matrix_keeps_grey_and_inverts_the_camera():
    matrix = colour.srgb_from_camera(MATRIX)
    np.testing.assert_allclose(matrix @ np.ones(3), 1, atol=1e-6)
    red = np.array([0.8, 0.1, 0.05])  # linear sRGB as the camera sees it, balanced by its white
    camera = MATRIX @ colour.XYZ_FROM_SRGB
    np.testing.assert_allclose(matrix @ (camera @ red / (camera @ np.ones(3))), red, atol=1e-5)


def test_camera_matrix_missing_or_useless():
    np.testing.assert_array_equal(colour.srgb_from_camera(None), np.eye(3))
    with pytest.raises(ValueError, match="inverted"):
        colour.srgb_from_camera(np.zeros((3, 3)))


def test_transform_is_the_papers_quadratic_form():
    rng = np.random.default_rng(0)
    transform = rng.normal(size=(3, 10))
    r, g, b = 0.3, 0.5, 0.7
    terms = [r, g, b, r * r, r * g, r * b, g * g, g * b, b * b, 1]
    found = colour.apply_transform(np.float64(r), np.float64(g), np.float64(b), transform)
    np.testing.assert_allclose(found, transform @ terms)


def test_fit_finds_the_transform_that_was_applied():
    rng = np.random.default_rng(0)
    picture = rng.uniform(0, 1, (40, 50, 3))
    wanted = rng.normal(0, 0.3, (3, 10))
    target = np.stack(colour.apply_transform(*np.moveaxis(picture, 2, 0), wanted), -1)
    fitted = colour.fit_transform(picture, target)
    again = np.stack(colour.apply_transform(*np.moveaxis(picture, 2, 0), fitted), -1)
    np.testing.assert_allclose(again, target, atol=2e-3)


def test_fit_of_a_flat_picture_is_finite():
    fitted = colour.fit_transform(np.full((4, 4, 3), 0.3), np.full((4, 4, 3), 0.6))
    assert np.isfinite(fitted).all()

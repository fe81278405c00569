"""Levels, white balance and the bilinear demosaic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepisp_cli.demosaic import (
    BAYER_PATTERNS,
    demosaic,
    normalise_mosaic,
    red_position,
)
from deepisp_cli.tiling import mirror

sizes = st.tuples(st.integers(2, 9), st.integers(2, 9))


def channel_of(pattern, row, col):
    return "RGB".index(pattern[row % 2 * 2 + col % 2])


def slow_demosaic(mosaic, pattern):
    """By definition, each missing colour is the mean of its nearest neighbours, with borders mirrored."""
    height, width = mosaic.shape
    result = np.empty((height, width, 3))
    for y in range(height):
        for x in range(width):
            for channel in range(3):
                if channel_of(pattern, y, x) == channel:
                    result[y, x, channel] = mosaic[y, x]
                    continue
                ring = [(-1, 0), (1, 0), (0, -1), (0, 1)]
                near = [step for step in ring if channel_of(pattern, y + step[0], x + step[1]) == channel]
                near = near or [(-1, -1), (-1, 1), (1, -1), (1, 1)]
                rows = [int(mirror(y + dy, y + dy + 1, height)[0]) for dy, _ in near]
                cols = [int(mirror(x + dx, x + dx + 1, width)[0]) for _, dx in near]
                result[y, x, channel] = np.mean([mosaic[r, c] for r, c in zip(rows, cols, strict=True)])
    return result


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
@given(size=sizes, seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_equals_the_slow_reference(pattern, size, seed):
    mosaic = np.random.default_rng(seed).normal(0.3, 0.3, size).astype(np.float32)
    np.testing.assert_allclose(demosaic(mosaic, pattern), slow_demosaic(mosaic, pattern), atol=1e-6)


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
@given(size=sizes)
@settings(max_examples=15, deadline=None)
def test_flat_stays_flat_to_the_border(pattern, size):
    field = np.empty((*size, 3), np.float32)
    field[:] = (0.7, 0.2, -0.4)
    rows, cols = np.indices(size)
    channel = np.vectorize(lambda y, x: channel_of(pattern, y, x))(rows, cols)
    mosaic = np.take_along_axis(field, channel[..., None], 2)[..., 0]
    np.testing.assert_array_equal(demosaic(mosaic, pattern), field)


def test_measured_samples_and_negatives_are_unchanged():
    mosaic = np.random.default_rng(0).normal(0, 1, (8, 10)).astype(np.float32)
    rgb = demosaic(mosaic, "GBRG")
    for y in range(8):
        for x in range(10):
            assert rgb[y, x, channel_of("GBRG", y, x)] == mosaic[y, x]
    assert rgb.min() < 0


def test_batches_equal_single_frames():
    mosaics = np.random.default_rng(1).normal(size=(3, 6, 8)).astype(np.float32)
    together = demosaic(mosaics, "BGGR")
    for mosaic, rgb in zip(mosaics, together, strict=True):
        np.testing.assert_array_equal(demosaic(mosaic, "BGGR"), rgb)


@pytest.mark.parametrize(("shape", "pattern"), [((1, 8), "RGGB"), ((8, 8), "RGBG"), ((8, 8), "XTRANS")])
def test_refuses_what_is_not_bayer(shape, pattern):
    with pytest.raises(ValueError, match=r"2x2|Bayer"):
        demosaic(np.zeros(shape, np.float32), pattern)


@pytest.mark.parametrize("kind", ["uint16", "int64"])
def test_refuses_counts_whose_sums_would_wrap_around(kind):
    mosaic = np.full((4, 4), 40000, kind)
    with pytest.raises(ValueError, match=f"floating-point numbers, got {kind}"):
        demosaic(mosaic, "RGGB")
    np.testing.assert_array_equal(demosaic(mosaic.astype(np.float32), "RGGB"), 40000)


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
def test_levels_by_position(pattern):
    """With a repeating 4x4 black level and a white level per position, every sample becomes its gain / 2."""
    black = np.arange(16, dtype=np.float32).reshape(4, 4) * 10
    white = np.array([[1000, 1100], [1200, 1300]], np.float32)
    gains = np.array([1.9, 1.0, 1.4], np.float32)
    full_black = np.tile(black, (2, 2))[:7, :6]
    full_white = np.tile(white, (4, 3))[:7, :6]
    mosaic = normalise_mosaic((full_black + full_white) / 2, pattern, black, white, gains)
    for y in range(7):
        for x in range(6):
            assert mosaic[y, x] == pytest.approx(min(gains[channel_of(pattern, y, x)] / 2, 1), abs=1e-6)


def test_an_odd_black_tile_repeats_from_the_first_sample():
    black = np.array([[0], [100], [200]], np.float32)
    samples = np.tile(black, (3, 4))[:8]
    mosaic = normalise_mosaic(samples, "RGGB", black, np.full((2, 2), 1000, np.float32), np.ones(3))
    np.testing.assert_array_equal(mosaic, 0)


def test_blown_highlights_become_white_and_negatives_stay():
    samples = np.full((4, 4), 4095, np.uint16)
    samples[0, 0] = 0
    gains = np.array([2.0, 1.0, 1.5], np.float32)
    mosaic = normalise_mosaic(
        samples, "RGGB", np.full((2, 2), 256, np.float32), np.full((2, 2), 4000, np.float32), gains
    )
    assert mosaic[0, 0] < 0
    np.testing.assert_array_equal(demosaic(mosaic, "RGGB")[2:, 2:], 1.0)


def test_red_position():
    assert [red_position(pattern) for pattern in BAYER_PATTERNS] == [(0, 0), (1, 1), (0, 1), (1, 0)]

"""LibRaw's matrix is found in its pictures."""

import io

import numpy as np
import pytest
import rawpy
from conftest import MATRIX

from deepisp_cli import developed_matrix as finding
from deepisp_cli.developed_matrix import developed_matrix
from deepisp_cli.libraw import Decoded
from deepisp_cli.raw import _assemble, read_raw

D65 = np.array([0.95047, 1, 1.08883])


@pytest.fixture
def colours():
    """(48, 64, 3) linear camera RGB, slow waves of all colours."""
    row, col = np.mgrid[:48, :64]
    return 0.2 + 0.1 * np.stack([np.sin(row / 9), np.cos(col / 11), np.sin((row + col) / 13)], axis=-1)


def matrix_of(path):
    with open(path, "rb") as source:
        return developed_matrix(source)


@pytest.mark.parametrize("pattern", ["RGGB", "GBRG"])
def test_the_matrix_is_that_which_libraw_was_given(write_raw, colours, pattern):
    """LibRaw scales its rows so that D65 white becomes (1, 1, 1)."""
    path = write_raw("colours.dng", colours, pattern=pattern)
    matrix = matrix_of(path)
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(matrix @ D65, 1, atol=1e-3)
    np.testing.assert_allclose(matrix, MATRIX / (MATRIX @ D65)[:, None], atol=5e-3)


def test_clipped_pixels_do_not_count(write_raw, colours):
    colours[:10] *= 5
    matrix = matrix_of(write_raw("colours.dng", colours))
    np.testing.assert_allclose(matrix, MATRIX / (MATRIX @ D65)[:, None], atol=5e-3)


@pytest.mark.parametrize("level", [0.0, 2.0])
def test_a_black_or_white_picture_does_not_tell(write_raw, level):
    assert matrix_of(write_raw("plain.dng", np.full((48, 64, 3), level))) is None


def test_what_is_nearly_grey_does_not_tell(monkeypatch):
    """The third dimension is rounding only."""
    rng = np.random.default_rng(0)
    grey = rng.uniform(1000, 30000, (500, 1)) * np.ones(3)
    pictures = [np.round(grey + rng.uniform(-1, 1, grey.shape)), np.round(grey)]
    monkeypatch.setattr(finding, "_pixels", lambda _: pictures)
    assert developed_matrix(io.BytesIO()) is None


def test_pictures_that_no_matrix_connects_have_none(monkeypatch):
    camera = np.random.default_rng(0).uniform(1000, 30000, (500, 3))
    pictures = [camera, camera + 10 * np.sin(camera)]
    monkeypatch.setattr(finding, "_pixels", lambda _: pictures)
    assert developed_matrix(io.BytesIO()) is None


@pytest.mark.parametrize("kind", ["LibRawUnsufficientMemoryError", "LibRawMemPoolOverflowError"])
def test_too_little_memory_is_told(monkeypatch, kind):
    """The picture would come out in other colours."""

    def full(*_):
        raise getattr(rawpy, kind)

    monkeypatch.setattr(finding, "_pixels", full)
    with pytest.raises(MemoryError):
        developed_matrix(io.BytesIO())


def test_what_libraw_cannot_open_has_none():
    assert developed_matrix(io.BytesIO(b"not a raw file")) is None


@pytest.mark.parametrize("daylight", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.25)])
def test_a_raw_whose_matrix_is_not_stated_gets_it(write_raw, colours, daylight):
    """A raw of another kind than DNG, as `raw` has it from LibRaw, whose pictures have daylight's balance."""
    path = write_raw("colours.dng", colours)
    frame = Decoded(
        samples=np.arange(144, dtype=np.uint16).reshape(12, 12), colours=np.array([[0, 1], [3, 2]]),
        letters="RGBG", origin=np.zeros(2, int), visible=(12, 12), orientation=1, pixel_aspect=1.0,
        black=np.zeros(4, np.float32), white=np.full(4, 1000, np.float32), camera_gains=np.ones(3),
        daylight_gains=np.array(daylight), xyz_to_camera=np.zeros((3, 3)), capture={},
    )  # fmt: skip
    with open(path, "rb") as source:
        image = _assemble(frame, {}, source)
    balanced = np.array(daylight)[:, None] * image.xyz_to_camera
    np.testing.assert_allclose(balanced, matrix_of(path), rtol=1e-6)
    np.testing.assert_allclose(image.daylight_white_balance, daylight, rtol=2e-3)
    assert not any("matrix" in note for note in image.notes)


def test_a_dng_is_not_developed_for_it(write_raw, grey_ramp, monkeypatch):
    """LibRaw, too, knows only what its tags state, and decoding it twice more takes time."""
    monkeypatch.setattr(rawpy, "imread", lambda _: pytest.fail("developed"))
    image = read_raw(write_raw("grey.dng", grey_ramp, xyz_to_camera=np.zeros((3, 3))))
    assert image.xyz_to_camera is None


def test_without_a_matrix_there_is_none(write_raw, colours):
    assert matrix_of(write_raw("colours.dng", colours, xyz_to_camera=np.zeros((3, 3)))) is None

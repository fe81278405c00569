"""The computed pictures of fine coloured shapes that training sees beside photographs."""

import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

import dead_leaves


@pytest.fixture(scope="module")
def picture():
    return np.asarray(dead_leaves.leaves(512, [0, 0])).astype(float)


def test_a_seed_is_a_picture():
    first, again, other = (np.asarray(dead_leaves.leaves(64, seed)) for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(first, again)
    assert np.mean(first != other) > 0.5


def test_colours_are_as_fine_as_a_pixel_and_some_parts_are_smooth(picture):
    """Unlike in photographs, where JPEG took the finest colours."""
    colour = picture[..., [0, 2]] - picture[..., [1]]
    across = np.abs(np.diff(colour, axis=1)).max(-1)
    both_sides = np.minimum(across[:, 1:], across[:, :-1])  # lines and dots of one pixel, no mere edges
    assert np.mean(both_sides > 40) > 0.07
    assert np.mean(across < 1) > 0.4


def test_edges_are_antialiased_in_linear_light(monkeypatch):
    """Half of a pixel in white and half in black is 186 with a gamma of 2.2, not 128."""
    monkeypatch.setattr(dead_leaves, "COVER", 0.0)
    monkeypatch.setattr(dead_leaves, "STREWN", 1)
    monkeypatch.setattr(dead_leaves, "_colour", lambda rng: (255, 255, 255))
    levels = np.unique(np.asarray(dead_leaves.leaves(128, [0, 0])))
    assert levels.tolist() == [0, 136, 186, 224, 255]


def test_the_command_writes_them(tmp_path):
    result = CliRunner().invoke(dead_leaves.main, [str(tmp_path / "a"), "--pictures", "2", "--side", "64"])
    assert result.exit_code == 0, result.output
    pictures = [Image.open(path) for path in sorted((tmp_path / "a").iterdir())]
    assert pictures[0].tobytes() == dead_leaves.leaves(64, [0, 0]).tobytes() != pictures[1].tobytes()
    other = ["--pictures", "1", "--side", "64", "--seed", "1"]
    assert CliRunner().invoke(dead_leaves.main, [str(tmp_path / "b"), *other]).exit_code == 0
    assert Image.open(tmp_path / "b" / "leaves-00.png").tobytes() != pictures[0].tobytes()
    refused = CliRunner().invoke(dead_leaves.main, [str(tmp_path / "a"), "--side", "64"])
    assert refused.exit_code == 2
    assert "is not empty" in refused.output
    assert [(picture.mode, picture.size) for picture in pictures] == 2 * [("RGB", (64, 64))]

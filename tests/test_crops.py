"""Random crops of pictures: every orientation, every scale, rather of detail than of flat sky."""

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from deepisp_cli.errors import InputError
from deepisp_cli.training.crops import Crops, reduced


def crops(*levels, seed=0):
    return Crops(levels, torch.Generator().manual_seed(seed))


def flat(value, height=32, width=32):
    return np.full((height, width, 3), value, np.uint8)


def test_all_eight_orientations_are_drawn_evenly():
    """Told by where the picture's rows and columns go, the same at each pixel of a crop."""
    rows, cols = np.mgrid[0:40, 0:56].astype(np.float32)
    drawn = crops([np.stack([rows, cols, cols], -1)])(4000, 16)[:, :2]
    steps = torch.cat([drawn.diff(dim=axis).flatten(2) for axis in (2, 3)], 1)  # down and to the right
    assert (steps == steps[..., :1]).all()
    found, number = steps[..., 0].int().unique(dim=0, return_counts=True)
    assert len(found) == 8
    assert (found.abs().sum(1) == 2).all()
    assert number.min() > 400 and number.max() < 600


@pytest.mark.parametrize("axis", [0, 1])
def test_half_of_the_crops_are_the_more_detailed_of_two(axis):
    """Of a flat picture and a striped one, the latter is drawn in 1/2 of the others and 3/4 of these."""
    striped = flat(90)
    striped.swapaxes(0, axis)[::2] = 200
    drawn = crops([flat(128), striped])(4000, 16)
    share = (drawn[:, 1] != 128).flatten(1).any(1).float().mean().item()
    assert share == pytest.approx(5 / 8, abs=0.03)


def test_bright_is_no_detail():
    drawn = crops([flat(10), flat(250)])(4000, 16)
    assert (drawn[:, 0, 0, 0] == 250).float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_scales_are_drawn_evenly_whatever_fits_of_them():
    drawn = crops([*[flat(1)] * 9, *[flat(2, 12, 60)] * 6], [flat(3)])(4000, 16)
    assert set(drawn.unique().tolist()) == {1, 3}
    assert (drawn[:, 0, 0, 0] == 1).float().mean().item() == pytest.approx(0.5, abs=0.04)


def test_crops_may_be_whole_pictures():
    """As large as the largest square with even sides."""
    source = crops([flat(1, 20, 90), flat(2, 49, 61), flat(3, 48, 48)])
    assert source.largest == 48
    assert set(source(40, 48).unique().tolist()) == {2, 3}
    with pytest.raises(InputError, match="no picture holds a crop of 50 pixels"):
        source(1, 50)


def test_reduced_pictures_are_means():
    """Of sides to the nearest pixel; stripes of one pixel become grey."""
    stripes = np.zeros((100, 131, 3), np.uint8)
    stripes[::2] = 200
    once, less, half, _ = reduced(Image.fromarray(stripes), (1.0, 1.41, 2.0, 40.0), 16)
    np.testing.assert_array_equal(once, stripes)
    assert less.shape == (71, 93, 3)
    assert np.abs(half[8:-8].astype(int) - 100).max() < 12
    assert reduced(Image.fromarray(stripes), (2.0, 2.1), 50)[1] is None


def test_crops_begin_wherever_they_fit():
    numbers = np.arange(5 * 6, dtype=np.float32).reshape(5, 6)
    drawn = crops([np.stack([numbers] * 3, -1)])(400, 4)
    corners = drawn[:, 0].amin((1, 2)).int().unique().tolist()
    assert corners == [6 * row + column for row in range(2) for column in range(3)]

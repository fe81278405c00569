"""What each loss counts, term by term."""

import pytest

torch = pytest.importorskip("torch")

from deepisp_cli.training.losses import picture_loss, structure_loss, to_lab


def test_means_of_blocks_count_beside_the_pixels():
    """A blotch costs half as much again; what cancels within a block of 8 costs only its pixels."""
    grey = torch.full((1, 3, 16, 16), 0.5)
    blotch = grey.clone()
    blotch[..., :8, :8] += 0.1
    board = grey.clone()
    board[..., :8, :8] += 0.1 * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4)
    assert picture_loss(blotch, grey) == pytest.approx(1.5 * 0.1 / 4, rel=1e-5)
    assert picture_loss(board, grey) == pytest.approx(0.1 / 4, rel=1e-5)


@pytest.mark.parametrize(
    ("level", "beyond", "error"), [(1.0, 1.3, 0), (0.0, -0.3, 0), (1.0, 0.7, 1), (0.0, 0.3, 1)]
)
def test_what_will_be_clipped_is_no_error(level, beyond, error):
    target = torch.full((1, 3, 16, 16), level)
    loss = picture_loss(torch.full_like(target, beyond), target)
    assert loss == pytest.approx(1.5 * 0.3 * error, rel=1e-5)


def test_structure_is_that_of_what_can_be_seen():
    generator = torch.Generator().manual_seed(0)
    seen = torch.rand((1, 3, 32, 32), generator=generator)
    beyond = torch.where(seen > 0.7, seen + 1, torch.where(seen < 0.3, seen - 1, seen))
    assert structure_loss(beyond, beyond.clamp(0, 1)) == pytest.approx(0, abs=1e-5)
    assert structure_loss(beyond.clamp(0, 1), beyond) == pytest.approx(0, abs=1e-5)
    assert structure_loss(seen, 1 - seen) > 0.5


def test_white_and_black_in_lab():
    colours = torch.tensor([[1.0, 1, 1], [0, 0, 0], [0.5, 0.5, 0.5]]).T.reshape(1, 3, 1, 3)
    lightness, a, b = to_lab(colours)[0, :, 0]
    assert lightness.tolist() == pytest.approx([1, 0, 0.5339], abs=1e-3)
    assert a.abs().max() < 1e-5 and b.abs().max() < 1e-5

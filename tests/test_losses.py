"""What each loss counts, term by term."""

import pytest

torch = pytest.importorskip("torch")

from deepisp_cli.colour import LUMINANCE, srgb_encode
from deepisp_cli.training.losses import (
    colour_loss,
    neutral_loss,
    paper_loss,
    picture_loss,
    structure_loss,
    to_lab,
)


def checks(side):
    """(1, 1, 128, 128): squares of ``side`` pixels, 1 and -1 in turn."""
    square = torch.arange(128) // side
    return 1.0 - 2 * ((square[:, None] + square) % 2)[None, None]


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


@pytest.mark.parametrize(("side", "share"), [(1, 1), (4, 1), (8, 1.5), (16, 1.5)])
def test_blotches_are_those_of_8_pixels_and_more(side, share):
    grey = torch.full((1, 3, 128, 128), 0.5)
    assert picture_loss(grey + 0.1 * checks(side), grey) == pytest.approx(0.1 * share, rel=1e-5)


@pytest.mark.parametrize("beyond", [1.3, -0.3])
def test_what_is_clipped_wrongly_is_an_error(beyond):
    """White or black where the photograph is grey, however far beyond."""
    grey = torch.full((1, 3, 16, 16), 0.5)
    loss = picture_loss(torch.full_like(grey, beyond), grey)
    assert loss == pytest.approx(1.5 * 0.8, rel=1e-5)


@pytest.mark.parametrize(("side", "scales"), [(8, 0), (16, 1), (32, 1), (64, 2), (128, 2)])
def test_colours_are_means_of_16_and_of_64_pixels(side, scales):
    """What cancels within such a block is noise."""
    grey = torch.full((1, 3, 128, 128), 0.5)
    loss = colour_loss(grey + 0.1 * checks(side), grey)
    assert loss == pytest.approx(0.1 * scales, rel=1e-4, abs=1e-5)


def test_the_neutral_loss_sees_the_greys_between_black_and_white():
    """Red off by x - x²: by nothing at both ends. Its share of the three channels' distances from their mean
    is 4/9, and of nine greys the mean of x - x² is 7/48."""
    transform = torch.zeros(3, 10)
    transform[:, :3] = torch.eye(3)
    transform[0, 0], transform[0, 3] = 1.3, -0.3
    coefficients = transform.reshape(1, 30, 1, 1)
    assert neutral_loss(coefficients) == pytest.approx(0.3 * 4 / 9 * 7 / 48, rel=1e-4)
    # the transform is the mean of the cells, some of which may be as red as others are not
    identity = torch.eye(3, 10).reshape(1, 30, 1, 1)
    cells = torch.cat([coefficients, 2 * identity - coefficients], 3)
    assert neutral_loss(cells) == pytest.approx(0, abs=1e-6)


def test_the_papers_structure_is_that_of_lightness():
    """A tint that leaves every pixel's luminance costs none; noise does, which here has no colour."""
    generator = torch.Generator().manual_seed(0)
    linear = 0.2 + 0.1 * torch.rand((1, 1, 176, 176), generator=generator).expand(-1, 3, -1, -1)
    red, _, blue = LUMINANCE.tolist()
    tint = torch.tensor([0.05, 0, -0.05 * red / blue]).reshape(1, 3, 1, 1)
    tint = tint * torch.rand((1, 1, 176, 176), generator=generator)
    target = srgb_encode(linear)
    tinted, noisy = (
        srgb_encode(linear + tint),
        target + 0.05 * torch.randn((1, 1, 176, 176), generator=generator),
    )
    structure = [
        (paper_loss(picture, target, 1.0) - paper_loss(picture, target, 0.0)).item()
        for picture in (tinted, noisy)
    ]
    assert structure[0] < 1e-3
    assert structure[1] > 0.1


def test_structure_is_that_of_what_can_be_seen():
    generator = torch.Generator().manual_seed(0)
    seen = torch.rand((1, 3, 32, 32), generator=generator)
    beyond = torch.where(seen > 0.7, seen + 1, torch.where(seen < 0.3, seen - 1, seen))
    assert structure_loss(beyond, beyond.clamp(0, 1)) == pytest.approx(0, abs=1e-5)
    assert structure_loss(beyond.clamp(0, 1), beyond) == pytest.approx(0, abs=1e-5)
    assert structure_loss(seen, 1 - seen) > 0.5


def test_structure_is_the_librarys():
    """With the windows of Wang et al.: Gaussian, of 11 pixels and a standard deviation of 1.5."""
    skimage = pytest.importorskip("skimage.metrics")
    generator = torch.Generator().manual_seed(0)
    ours, theirs = torch.rand((2, 1, 3, 40, 48), generator=generator)
    theirs = 0.5 * ours + 0.5 * theirs
    expected = skimage.structural_similarity(
        ours[0].numpy(), theirs[0].numpy(), channel_axis=0, data_range=1, gaussian_weights=True,
        use_sample_covariance=False,
    )  # fmt: skip
    assert structure_loss(ours, theirs) == pytest.approx(1 - expected, abs=1e-4)


@pytest.mark.parametrize("tint", [(1, 1, 1), (1, 0.9, 0.7), (0.6, 1, 0.9)])
def test_dark_colours_are_those_of_cie_lab(tint):
    """Also where the cube root becomes a line."""
    skimage = pytest.importorskip("skimage.color")
    colours = torch.linspace(0, 0.2, 50)[:, None] * torch.tensor(tint)
    found = 100 * to_lab(colours.T[None, :, None])[0, :, 0].T
    assert (found - torch.from_numpy(skimage.rgb2lab(colours.numpy()))).abs().max() < 0.02

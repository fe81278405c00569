"""How weights are rounded to the steps of the 8-bit form, and what is measured for it."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F

from deepisp_cli.network import DeepISP, NetworkConfig
from deepisp_cli.onnx_engine import open_session
from deepisp_cli.training.onnx_graph import to_onnx
from deepisp_cli.training.quantise import LEVELS, WEIGHT_LEVELS, _largest, measure, round_together

WEIGHTS = np.random.default_rng(0).uniform(-20, 20, (16, 40))


def small_network(dilations):
    """With five features and an image of three channels."""
    torch.manual_seed(0)
    return DeepISP(NetworkConfig(fold=1, dilations=dilations, width=8, high_blocks=0)).eval()


def smooth_inputs():
    """(40, 2000), in which neighbouring inputs are alike, as pixels are."""
    noise = np.random.default_rng(1).normal(size=(49, 2000))
    return sum(noise[first : first + 40] for first in range(10))


def test_independent_inputs_are_rounded_one_by_one():
    np.testing.assert_array_equal(round_together(WEIGHTS, np.eye(40)), np.round(WEIGHTS))


def test_rounding_together_disturbs_the_outputs_less():
    inputs = smooth_inputs()
    rounded = round_together(WEIGHTS, np.cov(inputs, bias=True))
    error, one_by_one = (np.square((WEIGHTS - each) @ inputs).mean() for each in (rounded, np.round(WEIGHTS)))
    assert error < 0.3 * one_by_one


def test_rounded_weights_are_whole_and_within_their_range():
    rounded = round_together(10 * WEIGHTS, np.cov(smooth_inputs(), bias=True))
    np.testing.assert_array_equal(rounded, np.round(rounded))
    assert np.abs(rounded).max() == WEIGHT_LEVELS


def test_inputs_that_vary_most_are_rounded_first():
    """Their own errors, which the others make up for, are the smallest."""
    covariance = np.cov(smooth_inputs(), bias=True)
    loud = np.ones(40)
    loud[17] = 10
    rounded = round_together(WEIGHTS, covariance * np.outer(loud, loud))
    np.testing.assert_array_equal(rounded[:, 17], np.round(WEIGHTS[:, 17]))
    assert (rounded != np.round(WEIGHTS)).mean() > 0.2


def test_inputs_that_never_vary_are_rounded_too():
    covariance = np.zeros((40, 40))
    covariance[:3, :3] = np.eye(3)
    assert np.isfinite(round_together(WEIGHTS, covariance)).all()


def test_two_of_the_largest_products_fit_into_sixteen_bits():
    assert 2 * LEVELS * WEIGHT_LEVELS < 2**15


@torch.no_grad()
def test_what_is_measured_of_a_block():
    """The second block's patches: mean and covariance over two pictures, in any order of channels."""
    network = small_network((1, 2, 1))
    pictures = [torch.rand(1, 3, 34, 37), 0.2 * torch.rand(1, 3, 34, 37)]
    found = measure(network, pictures)[1]
    patches = []
    for picture in pictures:
        image, features = network.restore(picture, pad=True, blocks=1)
        stem = torch.cat([features, image - 0.2], 1)
        unfolded = F.unfold(F.pad(stem, (2,) * 4, mode="replicate"), 3, dilation=2, stride=3)
        patches.append(unfolded[0].double().numpy())
    expected = np.concatenate(patches, 1)
    np.testing.assert_allclose(found.covariance, np.cov(expected, bias=True), atol=1e-6)
    np.testing.assert_allclose(found.mean, expected.mean(1).reshape(8, 9).mean(1), rtol=1e-5)
    order = np.array([7, 0, 3])
    chosen = expected.reshape(8, 9, -1)[order].reshape(27, -1)
    np.testing.assert_allclose(found.reordered(order).covariance, np.cov(chosen, bias=True), atol=1e-6)
    np.testing.assert_array_equal(found.reordered(order).mean, found.mean[order])


@torch.no_grad()
def test_ranges_are_those_of_all_pictures():
    """And reach down to zero, which bright pictures do not."""
    network = small_network((1, 2, 1))
    torch.nn.init.normal_(network.low[1].weight[-3:], std=0.02)
    generator = torch.Generator().manual_seed(0)
    bright, dark = (level + 0.3 * torch.rand(1, 3, 34, 37, generator=generator) for level in (0.6, 0.3))
    for pictures in ([bright, dark], [dark, bright], [dark - 0.6, bright], [bright]):
        outputs, images = [], []
        for picture in pictures:
            image, features = network.restore(picture, pad=True, blocks=1)
            images.append(image - 0.2)
            stem = F.pad(torch.cat([features, images[-1]], 1), (2,) * 4, mode="replicate")
            outputs.append(network.low[1](stem))
        output, image = torch.cat(outputs), torch.cat(images)
        found = measure(network, pictures)[1]
        assert found.features == pytest.approx(output[:, :5].max().item(), rel=1e-5)
        assert found.residual == pytest.approx(output[:, 5:].abs().max().item(), rel=1e-5)
        assert found.image == pytest.approx((min(image.min().item(), 0), image.max().item()), rel=1e-5)


@torch.no_grad()
def test_pictures_of_a_batch_are_measured_like_those_of_several():
    network = small_network((1, 2, 1))
    dark, bright = 0.2 * torch.rand(1, 3, 34, 37), torch.rand(1, 3, 34, 37)
    alone, together = measure(network, [dark, bright]), measure(network, [torch.cat([dark, bright])])
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other.mean, one.mean, rtol=1e-5)
        np.testing.assert_allclose(other.covariance, one.covariance, atol=1e-6)
        assert other.features == pytest.approx(one.features, rel=1e-5)
        assert other.residual == pytest.approx(one.residual, rel=1e-5)
        assert other.image == pytest.approx(one.image, rel=1e-5)


def test_a_range_leaves_out_one_value_in_a_million():
    assert _largest(torch.arange(100.0).reshape(1, 10, 10)) == 99
    assert _largest(torch.arange(4e6).flip(0)) == 4e6 - 4


@torch.no_grad()
def test_residuals_at_their_limit_are_whole():
    """Each block that falls short, however little, adds to a tint."""
    network = small_network((1,) * 6)
    for layer, sign in zip(network.low[1:4], (1, -1, 1), strict=True):  # the blocks in 8 bits
        torch.nn.init.normal_(layer.weight[-3:], std=0.02)
        layer.bias[-3:] = sign * 20.0
    errors = eight_bit_errors(network, 0.4 * torch.rand(1, 3, 60, 60))
    assert np.abs(errors.mean((0, 2, 3))).max() < 5e-5


def eight_bit_errors(network, picture):
    """Of the 8-bit form's image."""
    graph = to_onnx(network, measure(network, [picture]))
    found = open_session(graph).run(["image"], {"picture": picture.numpy()})[0]
    return found - network(picture)[0].numpy()


@pytest.mark.parametrize(
    "odd", ["no residual", "no features", "constant feature", "constant residual", "bright", "dark"]
)
@torch.no_grad()
def test_what_hardly_occurs_has_an_8_bit_form_too(odd):
    """Untrained blocks, features that are always off, frames that are all bright or all dark."""
    network = small_network((1,) * 6)
    for layer in network.low:
        torch.nn.init.normal_(layer.weight[-3:], std=0.02)
    picture = 0.4 * torch.rand(1, 3, 60, 60)
    layer = network.low[2]
    if odd == "no residual":
        layer.weight[-3:] = layer.bias[-3:] = 0
    elif odd == "no features":
        layer.bias[:-3] = -100
    elif odd == "constant feature":
        layer.weight[0], layer.bias[0] = 0, 0.5
    elif odd == "constant residual":
        layer.weight[-3:], layer.bias[-3:] = 0, 100
    else:
        picture = picture / 4 + (0.8 if odd == "bright" else -0.4)
    assert np.abs(eight_bit_errors(network, picture)).max() < 6e-3

"""Deeper networks from trained ones: nothing changes at first, and the new blocks learn."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from deepisp_cli.network import DeepISP, NetworkConfig
from deepisp_cli.training.growth import deepen, fits_into

OLD = NetworkConfig(fold=2, dilations=(1, 2, 1), width=20, high_blocks=1)


def trained(config):
    """A network in which every block has an effect."""
    network = DeepISP(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize("dilations", [(1, 2, 1), (1, 2, 4, 2, 1), (1, 2, 1, 1), (1, 4, 2, 1), (1, 1, 2, 1)])
def test_a_deepened_network_computes_the_same(dilations):
    new = replace(OLD, dilations=dilations)
    assert fits_into(OLD, new)
    old = trained(OLD)
    grown = DeepISP(new)
    grown.load_state_dict(deepen(old.state_dict(), OLD, new))
    picture = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(1))
    for found, expected in zip(grown(picture, pad=True), old(picture, pad=True), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_new_blocks_learn():
    new = replace(OLD, dilations=(1, 2, 4, 2, 1))
    grown = DeepISP(new)
    grown.load_state_dict(deepen(trained(OLD).state_dict(), OLD, new))
    image, _ = grown.restore(torch.rand(1, 3, 32, 32), pad=True)
    image.square().mean().backward()
    for layer in grown.low[2:4]:
        assert all(float(output.norm()) > 0 for output in layer.weight.grad[-new.image_channels :])


@pytest.mark.parametrize(
    "other",
    [
        replace(OLD, dilations=(2, 1, 2, 1)),  # the first block, which takes no features, differs
        replace(OLD, dilations=(1, 2)),  # shallower
        replace(OLD, dilations=(1, 4, 2, 4)),  # the end differs
        replace(OLD, dilations=(1, 2, 1, 1), width=24),
        replace(OLD, dilations=(1, 2, 1, 1), fold=1),
    ],
)
def test_only_deeper_networks_of_the_same_kind_are_grown(other):
    assert not fits_into(OLD, other)

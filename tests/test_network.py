"""The network as in the paper and the design, and its two exports."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepisp_cli.network import DeepISP, NetworkConfig
from deepisp_cli.onnx_engine import open_session
from deepisp_cli.training.export import largest_difference
from deepisp_cli.training.onnx_graph import to_onnx

PAPER = NetworkConfig()
CONFIGS = {
    "paper": NetworkConfig(dilations=(1, 1, 1), width=16, high_blocks=1),
    "folded": NetworkConfig(fold=2, dilations=(1, 2), width=20, high_blocks=1),
    "two levels": NetworkConfig(fold=2, dilations=(1, 3), width=16, high_blocks=2),
    "denoise+demosaic": NetworkConfig(fold=1, dilations=(1, 2), width=16, high_blocks=0),
}


def random_network(config, seed=0):
    """Weights large enough that every layer matters."""
    torch.manual_seed(seed)
    network = DeepISP(config).eval()
    with torch.no_grad():
        for layer in network.low:
            torch.nn.init.normal_(layer.bias, std=0.1)
            torch.nn.init.normal_(layer.weight[-config.image_channels :], std=0.02)
        if config.high_blocks:
            torch.nn.init.normal_(network.head.weight, std=0.3)
    return network


def test_size_of_the_papers_network():
    """DESIGN: about 0.67 M parameters."""
    parameters = sum(parameter.numel() for parameter in DeepISP(PAPER).parameters())
    assert 0.55e6 < parameters < 0.7e6
    assert (PAPER.cell, PAPER.reach, PAPER.lead) == (64, 15, 21)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_untrained_network_does_not_change_the_picture(config):
    network = DeepISP(config).eval()
    picture = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        image, coefficients = network(picture, pad=True)
    assert image.shape == picture.shape
    torch.testing.assert_close(image, picture, atol=1e-6, rtol=0)
    if config.high_blocks:
        transform = coefficients.mean((2, 3)).reshape(3, 10)
        torch.testing.assert_close(transform[:, :3], torch.eye(3), atol=0.1, rtol=0)


@torch.no_grad()
def test_a_new_networks_features_see_variation_of_the_usual_size_and_no_constant():
    """About a quarter of unit size in the picture, about one in features and beyond."""
    torch.manual_seed(0)
    network = DeepISP(NetworkConfig(dilations=(1, 1), width=64, high_blocks=1))
    for layer, size in ((network.low[0], 0.25), (network.low[1], 1.0), (network.high[0], 1.0)):
        noise = size * torch.randn(1, layer.in_channels, 40, 40)
        features = layer(noise).std((0, 2, 3))[:61]
        assert features.square().mean().sqrt().item() == pytest.approx(
            2**0.5, rel=0.1
        )  # ReLU halves the power
        assert layer(torch.ones_like(noise)).abs().max() < 1e-4


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_padding_matters_at_the_border_only(config):
    """Away from the border, training's padded form and the tile form give the same."""
    network = random_network(config)
    cells = 6
    halo_before, halo_after = config.reach + config.lead, config.reach
    side = cells * config.cell + 64
    picture = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    start = -(-halo_before // config.cell) * config.cell
    size = (side - start - halo_after) // config.cell * config.cell
    tile = picture[:, :, start - halo_before : start + size + halo_after]
    tile = tile[..., start - halo_before : start + size + halo_after]
    with torch.inference_mode():
        padded, padded_cells = network(picture, pad=True)
        core, core_cells = network(tile)
    assert core.shape[2:] == (size, size)
    torch.testing.assert_close(
        core, padded[:, :, start : start + size, start : start + size], atol=1e-5, rtol=0
    )
    if config.high_blocks:
        first, count = start // config.cell, size // config.cell
        assert core_cells.shape == (1, 30, count, count)
        expected = padded_cells[:, :, first : first + count, first : first + count]
        torch.testing.assert_close(core_cells, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_onnx_equals_torch(config):
    network = random_network(config)
    assert largest_difference(network, to_onnx(network)) < 1e-5


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_onnx_goes_on_below_a_tile(config):
    """With the rows that the tile above has kept instead of a halo."""
    session = open_session(to_onnx(random_network(config)))
    outputs = [output.name for output in session.get_outputs()]
    height = max(1, 32 // config.cell) * config.cell
    halo = config.lead + 2 * config.reach
    shape = (1, 3, 3 * height + halo, 2 * config.cell + halo)
    picture = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    whole = session.run(outputs[:2], {"picture": picture})
    kept, parts = {}, []
    for tile in np.split(picture, [height + halo, 2 * height + halo], axis=2):
        image, coefficients, *rows = session.run(outputs, {"picture": tile, **kept})
        kept = {name.replace("below", "above"): each for name, each in zip(outputs[2:], rows, strict=True)}
        assert image.shape[2] == height
        parts.append((image, coefficients))
    for expected, found in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_allclose(np.concatenate(found, 2), expected, atol=1e-6)


def test_parity_check_sees_a_wrong_graph():
    network = random_network(CONFIGS["folded"])
    graph = to_onnx(network)
    with torch.no_grad():
        network.low[1].bias[0] += 0.5
    assert largest_difference(network, graph) > 1e-3


def test_fold_presents_the_red_sample_first():
    """Channel 0 of the folded picture is red at even rows and columns: the sample that the CFA measures."""
    config = NetworkConfig(fold=2, dilations=(1,), width=20, high_blocks=0)
    network = DeepISP(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.low[0].bias[-12] = np.arctanh(0.5)  # the residual of channel 0, tanh / 10
    with torch.inference_mode():
        image, _ = network(torch.full((1, 3, 8, 8), 0.5), pad=True)
    assert torch.all(image[0, 0, 0::2, 0::2] > 0.54)
    assert torch.all(image[0, 0, 1::2] == 0.5)
    assert torch.all(image[0, 1:] == 0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"fold": 3},
        {"dilations": ()},
        {"dilations": (0,)},
        {"width": 3},
        {"fold": 2, "width": 12},
        {"high_blocks": -1},
    ],
)
def test_impossible_configurations_are_refused(wrong):
    with pytest.raises(ValueError, match=r"fold|dilations|width|high_blocks"):
        NetworkConfig(**wrong)

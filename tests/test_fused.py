"""The kernels for GPUs compute what the network does: by Triton's interpreter on the CPU, or on a GPU."""

import os

import pytest

torch = pytest.importorskip("torch")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when kernels are imported and when they run
triton = pytest.importorskip("triton")

from PIL import Image
from test_network import random_network

from deepisp_cli import fused, kernels
from deepisp_cli.fused import FusedNetwork, compare, compare_joins, fuse, fused_join, fused_join_works
from deepisp_cli.joining import PLAIN, join
from deepisp_cli.network import NetworkConfig
from deepisp_cli.training import trainer
from deepisp_cli.training.config import Stage, TrainConfig
from deepisp_cli.training.trainer import Trainer

CONFIGS = {
    "paper": NetworkConfig(dilations=(1, 1, 1), width=64, high_blocks=1),
    "folded": NetworkConfig(fold=2, dilations=(1, 3, 2), width=32, high_blocks=2),
    "denoise+demosaic": NetworkConfig(fold=2, dilations=(1, 2), width=64, high_blocks=0),
}


@pytest.fixture(autouse=True)
def exact_convolutions(monkeypatch):
    """cuDNN's in float32, not in TF32, which it may use otherwise."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def tile_for(config):
    """A tile of 2 x 3 cells."""
    side = config.lead + 2 * config.reach + 2 * config.cell
    return torch.rand(1, 3, side, side + config.cell, device=DEVICE)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_fused_network_is_the_network(config):
    network = random_network(config).to(DEVICE)
    for layer in network.high:
        torch.nn.init.normal_(layer.bias, std=0.3)
    tile = tile_for(config)
    with torch.inference_mode(), torch.autocast(DEVICE, torch.float16):
        image, coefficients = FusedNetwork(network)(tile)
    with torch.inference_mode():
        expected_image, expected_coefficients = network(tile)
    assert image.dtype == torch.float32
    torch.testing.assert_close(image, expected_image, atol=1e-3, rtol=0)
    torch.testing.assert_close(coefficients.float(), expected_coefficients, atol=0.03, rtol=0)


def test_a_block_computes_every_pixel_of_an_odd_frame():
    """More than one program, the last of them partly beyond the frame."""
    torch.manual_seed(0)
    stem = torch.randn(15, 21, 32, device=DEVICE).half()
    image = torch.rand(15, 21, 3, device=DEVICE)
    weight, bias = 0.1 * torch.randn(32, 32, 3, 3, device=DEVICE), torch.randn(32, device=DEVICE)
    found = kernels.convolve(stem, kernels.arrange(weight), bias, image, 2)
    assert found[0][..., 0].numel() % kernels.PIXELS
    output = torch.nn.functional.conv2d(
        stem.permute(2, 0, 1)[None].float(), weight.half().float(), bias, dilation=2
    )
    expected = join(output, image[2:-2, 2:-2].permute(2, 0, 1)[None])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.float(), theirs[0].permute(1, 2, 0), atol=0.01, rtol=0)


def test_the_kernels_take_single_tiles_without_padding_alone():
    network = FusedNetwork(random_network(CONFIGS["folded"]).to(DEVICE))
    tile = tile_for(CONFIGS["folded"])
    for wrong in ({"picture": tile.repeat(2, 1, 1, 1)}, {"picture": tile, "pad": True}):
        with torch.inference_mode(), pytest.raises(ValueError, match="one tile, not padded"):
            network(**wrong)


@pytest.mark.parametrize("padding", [1, 2, 3])
@pytest.mark.parametrize("size", [(5, 7), (2, 3), (9, 2)])
def test_the_fused_join_and_its_gradients_are_those_of_the_plain_one(padding, size):
    compare_joins(torch.device(DEVICE), size, padding)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("name", ["padded_join", "padded_join_backward"])
def test_a_join_that_errs_is_noticed(name, number, monkeypatch):
    original = getattr(kernels, name)

    def err(*arguments):
        results = original(*arguments)
        results[number][0, -1, -1, -1] += 1e-3
        return results

    monkeypatch.setattr(kernels, name, err)
    with pytest.raises(AssertionError):
        compare_joins(torch.device(DEVICE))


@pytest.mark.parametrize("part", ["image", "features"])
def test_a_network_that_errs_is_noticed(part, monkeypatch):
    def err(stem, filters, bias, image, dilation):
        stem, image = original(stem, filters, bias, image, dilation)
        return (stem, image + 0.2) if part == "image" else (stem + 5, image)

    original = kernels.convolve
    network = random_network(CONFIGS["paper"]).to(DEVICE)
    with torch.inference_mode(), torch.autocast(DEVICE, torch.float16):
        compare(FusedNetwork(network), network)
        monkeypatch.setattr(kernels, "convolve", err)
        with pytest.raises(AssertionError):
            compare(FusedNetwork(network), network)


def test_training_with_the_fused_join_has_the_same_gradients():
    network = random_network(CONFIGS["folded"]).to(DEVICE)
    picture = torch.rand(2, 3, 64, 64, device=DEVICE)
    gradients = []
    for functions in (PLAIN, fused_join()):
        network.training_join = functions
        network.zero_grad()
        image, coefficients = network(picture, pad=True)
        (image.square().sum() + coefficients.sum()).backward()
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])
    for found, expected in zip(*gradients, strict=True):
        size = float(expected.abs().max())
        torch.testing.assert_close(found, expected, atol=1e-5 * size, rtol=1e-3)


def test_the_kernels_are_used_on_cuda_only(caplog):
    """Elsewhere they are not even tried."""
    caplog.set_level("INFO")
    network = random_network(CONFIGS["paper"]).to(DEVICE).requires_grad_(False)
    assert (fuse(network) is not None) == (DEVICE == "cuda")
    assert fused_join_works(torch.device(DEVICE), 64) == (DEVICE == "cuda")
    assert not caplog.records


@pytest.mark.parametrize(
    ("device", "width", "capability", "suits"),
    [
        ("cuda", 64, (8, 0), True),
        ("cuda", 64, (12, 1), True),
        ("cuda", 64, (7, 5), False),
        ("cuda", 20, (9, 0), False),
        ("cpu", 64, (9, 0), False),
    ],
)
def test_the_kernels_suit_some_widths_on_recent_gpus(device, width, capability, suits, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert fused._suits(torch.device(device), width) == suits


def test_a_network_of_another_width_is_left_as_it_is():
    assert fuse(random_network(NetworkConfig(dilations=(1,), width=20, high_blocks=0)).to(DEVICE)) is None


@pytest.mark.parametrize(("works", "width"), [(True, 32), (False, 32), (True, 20)])
def test_training_uses_the_fused_join_where_it_works(works, width, monkeypatch, tmp_path):
    Image.new("RGB", (64, 64), (90, 60, 30)).save(tmp_path / "plain.png")
    network = NetworkConfig(fold=2, dilations=(1, 2), width=width, high_blocks=0)
    config = TrainConfig(network, (Stage(1e-3, 1, 16, steps=1, parts="low"),), (str(tmp_path),))
    monkeypatch.setattr(trainer, "fused_join_works", lambda device, width: works and width == 32)
    made = Trainer(config, torch.device(DEVICE))
    assert made.network.training_join == (fused_join() if works and width == 32 else PLAIN)
    assert torch.isfinite(made.train_step())


def test_whatever_fails_leaves_the_plain_network(caplog, monkeypatch):
    """Compilers fail in many ways."""

    def fail(*_):
        raise OSError("no C compiler")

    caplog.set_level("INFO")
    monkeypatch.setattr(fused, "_suits", lambda device, width: True)
    monkeypatch.setattr(fused, "FusedNetwork", fail)
    monkeypatch.setattr(fused, "compare_joins", fail)
    assert fuse(random_network(CONFIGS["paper"])) is None
    assert not fused.fused_join_works.__wrapped__(torch.device(DEVICE), 64)
    assert caplog.text.count("no C compiler") == 2


@pytest.mark.skipif(DEVICE != "cuda", reason="no CUDA device")
def test_kernels_that_err_are_not_used(monkeypatch):
    original = kernels.convolve
    monkeypatch.setattr(kernels, "convolve", lambda *inputs: [each + 1 for each in original(*inputs)])
    assert fuse(random_network(CONFIGS["paper"]).to(DEVICE).requires_grad_(False)) is None

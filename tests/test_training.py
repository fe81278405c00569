"""Synthesis, losses and the training loop."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image

from deepisp_cli import colour
from deepisp_cli.demosaic import demosaic, normalise_mosaic
from deepisp_cli.errors import InputError
from deepisp_cli.network import DeepISP, NetworkConfig
from deepisp_cli.training import cameras, synthesis
from deepisp_cli.training.losses import picture_loss, restoration_loss
from deepisp_cli.training.photographs import Photographs
from deepisp_cli.training.synthesis import Synthesis, SynthesisOptions
from deepisp_cli.training.train import (
    Stage,
    TrainConfig,
    Trainer,
    config_from_dict,
    dead_features,
    load_config,
    train,
)

TINY = NetworkConfig(fold=2, dilations=(1, 2), width=20, high_blocks=2)
QUIET = SynthesisOptions(shot_noise=(1e-9, 1e-9), read_offset=-60, highlight_share=0, bits=(16, 16))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight pictures of coloured rectangles and gradients."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for index in range(8):
        picture = np.linspace(20, 200, 160)[None, :, None] * rng.uniform(0.5, 1, (120, 1, 3))
        for _ in range(12):
            top, left = rng.integers(0, 90), rng.integers(0, 130)
            picture[top : top + 30, left : left + 30] = rng.uniform(0, 255, 3)
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{index}.png")
    return folder


def config(folder, **changes):
    values = {
        "network": TINY,
        "synthesis": SynthesisOptions(),
        "stages": (Stage(learning_rate=2e-3, batch=4, crop=32, steps=6),),
        "photographs": (str(folder),),
        "reductions": (1.0, 2.0),
        **changes,
    }
    return TrainConfig(**values)


def pairs_of(options, seed=0, count=4):
    photographs = torch.randint(0, 256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(9)).byte()
    return Synthesis(options, torch.Generator().manual_seed(seed))(photographs)


def test_the_training_input_is_the_products_input_bit_for_bit(monkeypatch):
    """A synthesised frame's counts, through the product's NumPy stages, are the training input."""
    seen = {}
    original = synthesis.normalise

    def remember(counts, black, scale):
        seen.update(counts=counts, black=black, scale=scale)
        return original(counts, black, scale)

    monkeypatch.setattr(synthesis, "normalise", remember)
    pairs = pairs_of(SynthesisOptions())
    for index in range(4):
        black = seen["black"][index].item()
        scale = seen["scale"][index].numpy()
        # the gains and the white level that give these very scales
        white = np.full((2, 2), black + 1, np.float32)
        gains = np.array([scale[0, 0], scale[0, 1], scale[1, 1]], np.float32)
        mosaic = normalise_mosaic(
            seen["counts"][index].numpy(), "RGGB", np.full((2, 2), black, np.float32), white, gains
        )
        picture = colour.encode(demosaic(mosaic, "RGGB"))
        np.testing.assert_array_equal(pairs.picture[index].permute(1, 2, 0).numpy(), picture)


def test_without_noise_the_mosaic_holds_the_clean_frame():
    pairs = pairs_of(QUIET)
    np.testing.assert_allclose(pairs.picture[:, 0, 0::2, 0::2], pairs.clean[:, 0, 0::2, 0::2], atol=2e-3)
    np.testing.assert_allclose(pairs.picture[:, 2, 1::2, 1::2], pairs.clean[:, 2, 1::2, 1::2], atol=2e-3)


def test_the_clean_frame_leads_back_to_the_photograph():
    """Without tone curve and exposure the camera's matrix alone gives the photograph (saturated colours
    that the sensor clips aside)."""
    options = SynthesisOptions(exposure=(0, 0), inverse_tone=(0, 0), highlight_share=0)
    pairs = pairs_of(options)
    srgb = synthesis.to_srgb(pairs.clean, pairs.matrix)
    unclipped = (pairs.clean < 0.999).all(1, keepdim=True).expand_as(srgb)
    torch.testing.assert_close(srgb[unclipped], pairs.target[unclipped], atol=2e-3, rtol=0)


def test_exposure_and_noise_are_what_was_asked_for():
    grey = torch.full((8, 3, 64, 64), 128, dtype=torch.uint8)

    def measure(**changes):
        options = SynthesisOptions(inverse_tone=(0, 0), highlight_share=0, **changes)
        pairs = Synthesis(options, torch.Generator().manual_seed(0))(grey)
        return colour.decode(pairs.picture[:, 1, 1::2, 0::2]), pairs  # green, where it is measured

    level = ((128 / 255 + 0.055) / 1.055) ** 2.4
    linear, pairs = measure(exposure=(-2, -2), shot_noise=(0.01, 0.01), read_spread=0)
    assert linear.mean().item() == pytest.approx(level / 4, rel=0.02)
    read = math.exp(2.18 * math.log(0.01) + 1.2)
    scene = colour.decode(pairs.clean[:, 1, 0, 0])
    expected = (0.01 * scene.mean().item() + read) ** 0.5
    assert linear.std().item() == pytest.approx(expected, rel=0.2)


def test_the_same_seed_gives_the_same_pairs():
    first, second, other = (
        pairs_of(SynthesisOptions(), 1),
        pairs_of(SynthesisOptions(), 1),
        pairs_of(SynthesisOptions(), 2),
    )
    assert torch.equal(first.picture, second.picture)
    assert not torch.equal(first.picture, other.picture)


def test_the_torch_curve_is_the_products():
    linear = np.linspace(-1, 2, 1001, dtype=np.float32)
    np.testing.assert_allclose(
        synthesis.srgb_encode(torch.from_numpy(linear)), colour.srgb_encode(linear), atol=1e-6
    )


def test_held_out_cameras_are_not_trained_on():
    assert not set(cameras.TRAINING) & set(cameras.HELD_OUT)
    assert not set(cameras.TRAINING.values()) & set(cameras.HELD_OUT.values())
    for table in (cameras.TRAINING, cameras.HELD_OUT):
        for matrix in cameras.matrices(table):
            assert np.abs(colour.srgb_from_camera(matrix)).max() < 5


def test_losses_see_errors_and_forgive_clipping():
    target = torch.rand(2, 3, 16, 16)
    assert picture_loss(target, target) == 0
    assert picture_loss(target + 0.1, target) > 0.1
    white = torch.ones(1, 3, 16, 16)
    assert picture_loss(white * 1.3, white) == 0
    pairs = pairs_of(SynthesisOptions())
    assert restoration_loss(pairs.clean, pairs) == 0
    blotch = torch.zeros_like(pairs.clean)
    blotch[:, :, :16] = 0.05
    noise = 0.05 * torch.sign(torch.randn(blotch.shape, generator=torch.Generator().manual_seed(0))) / 2
    assert restoration_loss(pairs.clean + blotch, pairs) > 1.5 * restoration_loss(pairs.clean + noise, pairs)


@pytest.mark.parametrize("parts", ["separate", "joint", "high"])
def test_which_loss_reaches_which_part(folder, parts):
    stages = (Stage(1e-3, 4, 32, steps=1, parts=parts),)
    trainer = Trainer(config(folder, stages=stages, restoration_weight=0.0), torch.device("cpu"))
    loss = trainer.loss(pairs_of(SynthesisOptions()))
    loss.backward()

    def gradient(layer):
        return sum(float(p.grad.abs().sum()) for p in layer.parameters() if p.grad is not None)

    assert gradient(trainer.network.head) > 0
    assert (gradient(trainer.network.low[0]) > 0) == (parts == "joint")
    last = trainer.network.low[-1].weight.grad
    assert float(last[:-12].abs().sum()) > 0  # the features that the high-level stage sees
    assert (float(last[-12:].abs().sum()) > 0) == (parts == "joint")  # the residual image


def test_the_last_stage_keeps_the_restoration(folder):
    stages = (Stage(1e-2, 4, 32, steps=3, parts="high"),)
    trainer = Trainer(config(folder, stages=stages), torch.device("cpu"))
    photographs = Photographs([folder], [1.0], 32)
    picture = pairs_of(SynthesisOptions()).picture
    before_image, before = (value.detach() for value in trainer.network(picture, pad=True))
    for _ in range(3):
        trainer.train_step(photographs)
    image, after = trainer.network(picture, pad=True)
    assert torch.equal(image, before_image)
    assert not torch.equal(after, before)


def test_training_lowers_the_loss(folder):
    trainer = Trainer(config(folder, stages=(Stage(3e-3, 4, 32, steps=80),)), torch.device("cpu"))
    photographs = Photographs([folder], [1.0], 32)
    trainer.set_w0(photographs, frames=8)
    losses = [trainer.train_step(photographs) for _ in range(80)]
    assert np.mean(losses[-20:]) < 0.9 * np.mean(losses[:20])


def test_a_resumed_run_ends_with_the_same_weights(folder, tmp_path):
    settings = config(folder, stages=(Stage(2e-3, 4, 32, steps=4), Stage(1e-3, 2, 48, steps=3, parts="high")))
    through = torch.load(
        train(settings, tmp_path / "a", resume=False, device=torch.device("cpu")), weights_only=True
    )
    trainer = Trainer(settings, torch.device("cpu"))
    photographs = Photographs([folder], [1.0, 2.0], 32)
    trainer.set_w0(photographs)
    for _ in range(2):
        trainer.train_step(photographs)
    (tmp_path / "b").mkdir()
    trainer.save(tmp_path / "b" / "checkpoint.pt")
    resumed = torch.load(
        train(settings, tmp_path / "b", resume=True, device=torch.device("cpu")), weights_only=True
    )
    assert through["position"][:2] == resumed["position"][:2] == [1, 3]
    for name, value in through["network"].items():
        assert torch.equal(value, resumed["network"][name]), name


def test_photographs_too_small_or_broken(folder, tmp_path, caplog):
    with pytest.raises(InputError, match="no photograph"):
        Photographs([folder], [1.0], 500)
    with pytest.raises(InputError, match="not a folder"):
        Photographs([tmp_path / "gone"], [1.0], 16)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError):
        Photographs([tmp_path], [1.0], 16)
    assert "broken.jpg" in caplog.text


def test_configurations_round_trip_and_unknown_keys_are_refused(folder, tmp_path):
    from dataclasses import asdict
    from pathlib import Path

    settings = config(folder)
    assert config_from_dict(asdict(settings)) == settings
    path = tmp_path / "train.toml"
    path.write_text(
        "colour = 3\n[network]\nfold = 2\n[[stages]]\nlearning_rate = 1e-3\nbatch = 1\ncrop = 32\n"
    )
    with pytest.raises(TypeError, match="colour"):
        load_config(path)
    for shipped in (Path(__file__).resolve().parents[1] / "models").glob("*/train.toml"):
        assert load_config(shipped).stages


def test_few_features_of_a_new_network_are_dead_in_dark_frames():
    """With filters that have a mean it is a third of them from the start, and training kills more."""
    grey = torch.full((4, 3, 64, 64), 90, dtype=torch.uint8)
    pairs = Synthesis(SynthesisOptions(exposure=(-3, -2)), torch.Generator().manual_seed(0))(grey)
    torch.manual_seed(0)
    network = DeepISP(NetworkConfig(fold=2, dilations=(1, 1, 2, 4, 2, 1), width=40))
    assert dead_features(network, [pairs.picture]) < 0.25
    with torch.no_grad():
        network.low[2].bias[:28] = -100
    assert dead_features(network, [pairs.picture]) > 1 / 6


def test_usual_exposures_lie_where_they_should():
    options = SynthesisOptions(usual_share=1.0)
    drawn = Synthesis(options, torch.Generator().manual_seed(0))._draw_exposures(4000)
    assert drawn.mean().item() == pytest.approx(-2.0, abs=0.05)
    assert drawn.std().item() == pytest.approx(0.5, abs=0.05)
    uniform = Synthesis(SynthesisOptions(), torch.Generator().manual_seed(0))._draw_exposures(4000)
    assert uniform.mean().item() == pytest.approx(-1.5, abs=0.05)
    for exposures in (drawn, uniform):
        assert exposures.min() >= -3
        assert exposures.max() <= 0

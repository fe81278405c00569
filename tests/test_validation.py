"""Validation while a network trains measures on what the benchmarks measure on."""

import math

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from deepisp_cli.colour import decode
from deepisp_cli.network import NetworkConfig
from deepisp_cli.training.config import Stage, TrainConfig
from deepisp_cli.training.pictures import spread
from deepisp_cli.training.sensor import usual_read_noise
from deepisp_cli.training.synthesis import SynthesisOptions
from deepisp_cli.training.validation import Validation

NETWORK = NetworkConfig(fold=2, dilations=(1,), width=20, high_blocks=1)


def validation(folder, **options):
    config = TrainConfig(NETWORK, (Stage(1e-3, 1, 32, steps=1),), validation=(str(folder),))
    return Validation(config, torch.device("cpu"), **options)


def test_pictures_are_spread_over_the_folder(tmp_path):
    """Of 23 the first, the last but one and ten between them, not the first twelve."""
    for level in range(23):
        Image.new("RGB", (8, 8), (10 * level,) * 3).save(tmp_path / f"{level:02}.png")
    found = [round(255 * pairs.target.mean().item() / 10) for pairs in validation(tmp_path, size=8).pairs]
    assert found == spread(range(23), 12) == [0, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21]
    assert spread(range(5), 12) == spread(range(5), None) == [0, 1, 2, 3, 4]


def test_a_perfect_picture_has_a_finite_psnr(tmp_path, monkeypatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    found = validation(tmp_path)
    monkeypatch.setattr(found, "result", lambda network, pairs: pairs.target)
    assert found.psnr(None) == pytest.approx(120)


def test_frames_have_the_noise_of_the_low_light_benchmark(tmp_path):
    """The measured greens of a grey card vary by the shot noise of their mean and by the read noise, which
    is drawn about the usual one."""
    for name in "abc":
        Image.new("RGB", (256, 256), (180,) * 3).save(tmp_path / f"{name}.png")
    for pairs, shot in zip(validation(tmp_path).pairs, (0.002, 0.006, 0.015), strict=True):
        frame = decode(pairs.picture)[0, 1]
        green = torch.cat([frame[0::2, 1::2], frame[1::2, 0::2]]).numpy()
        expected = shot * green.mean() + usual_read_noise(shot)
        assert green.mean() == pytest.approx(0.456 / 4, rel=0.02)
        assert green.var() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("shot", [1e-4, 2e-2])
def test_training_draws_about_the_read_noise_of_the_benchmarks(shot):
    """Brooks et al.: 2.18 log(shot) + 1.20."""
    options = SynthesisOptions()
    read = math.exp(options.read_slope * math.log(shot) + options.read_offset)
    assert read == usual_read_noise(shot) == pytest.approx(np.exp(1.2) * shot**2.18)

"""Validation while a network trains measures on what the benchmarks measure on."""

import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from deepisp_cli.colour import decode
from deepisp_cli.errors import InputError
from deepisp_cli.network import DeepISP, NetworkConfig
from deepisp_cli.training.config import Stage, TrainConfig
from deepisp_cli.training.mosaics import MosaicOptions
from deepisp_cli.training.pictures import spread
from deepisp_cli.training.sensor import usual_read_noise
from deepisp_cli.training.synthesis import (
    SynthesisOptions,
    frame_gains,
    srgb_decode,
    to_linear,
    to_picture,
)
from deepisp_cli.training.validation import Validation, _fixed_synthesis, dead_features

NETWORK = NetworkConfig(fold=2, dilations=(1,), width=20, high_blocks=1)


def validation(folder, **options):
    config = TrainConfig(NETWORK, (Stage(1e-3, 1, 32, steps=1),), validation=(str(folder),))
    return Validation(config, torch.device("cpu"), **options)


def of_mosaics(folder):
    config = TrainConfig(
        replace(NETWORK, high_blocks=0), (Stage(1e-3, 1, 32, steps=1, parts="low"),),
        validation=(str(folder),), mosaic=MosaicOptions(),
    )  # fmt: skip
    return Validation(config, torch.device("cpu"))


def test_pictures_are_spread_over_the_folder(tmp_path):
    """Of 23 the first, the last but one and ten between them, not the first twelve."""
    for level in range(23):
        Image.new("RGB", (8, 8), (10 * level,) * 3).save(tmp_path / f"{level:02}.png")
    found = [round(255 * pairs.target.mean().item() / 10) for pairs in validation(tmp_path, size=8).pairs]
    assert found == spread(range(23), 12) == [0, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21]


def test_a_perfect_picture_has_a_finite_psnr(tmp_path, monkeypatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    found = validation(tmp_path)
    monkeypatch.setattr(found, "result", lambda network, pairs: pairs.target)
    assert found.psnr(None) == pytest.approx(120)


def test_psnr_is_the_mean_of_the_frames(tmp_path, monkeypatch):
    """Of 20 and 40 dB, not that of all errors together."""
    for level in (50, 200):
        Image.new("RGB", (64, 64), (level,) * 3).save(tmp_path / f"{level}.png")
    found = validation(tmp_path)

    def result(network, pairs):
        return pairs.target + (0.1 if pairs is found.pairs[0] else 0.01)

    monkeypatch.setattr(found, "result", result)
    assert found.psnr(None) == pytest.approx(30, abs=1e-3)


def test_results_end_at_black_and_white(tmp_path):
    """As files do. Nothing is changed by an untrained network."""
    for name in "abc":
        Image.new("RGB", (64, 64), (255,) * 3).save(tmp_path / f"{name}.png")
    found, mosaics = validation(tmp_path), of_mosaics(tmp_path)
    network = DeepISP(NETWORK)
    for transform in (8.0, -1.0):
        network.w0.copy_(transform * torch.eye(3, 10).flatten())
        result = found.result(network, found.pairs[0])
        assert result.min() >= 0 and result.max() <= 1
        assert result.mean() > 0.99 if transform > 0 else result.mean() < 0.01
    noisy = mosaics.pairs[2]
    assert noisy.picture.max() > 1.05
    result = mosaics.result(DeepISP(replace(NETWORK, high_blocks=0)), noisy)
    torch.testing.assert_close(result, noisy.picture.clamp(0, 1))


def test_a_metered_network_is_validated_on_the_frame_as_it_is_metered(tmp_path):
    Image.new("RGB", (64, 64), (180,) * 3).save(tmp_path / "a.png")
    found = validation(tmp_path)
    (pairs,) = found.pairs
    metered = DeepISP(replace(NETWORK, metered=True)).eval()
    image, coefficients = metered(pairs.picture, pad=True)
    gain = frame_gains(image, pairs.matrix)
    assert gain.item() > 1.5
    expected = to_picture(image, coefficients, pairs.matrix, gain).clamp(0, 1)
    torch.testing.assert_close(found.result(metered, pairs), expected.detach())
    plain = found.result(DeepISP(NETWORK).eval(), pairs)
    assert found.result(metered, pairs).mean() > 1.2 * plain.mean()


def test_a_sheet_shows_input_result_and_photograph(tmp_path, monkeypatch):
    """Of the first six; the input in sRGB, a quarter as bright."""
    card = (180, 60, 90)
    for index in range(8):
        Image.new("RGB", (64, 64), card).save(tmp_path / f"{index}.png")
    found = validation(tmp_path)
    monkeypatch.setattr(found, "result", lambda network, pairs: torch.full_like(pairs.target, 100.6 / 255))
    sheet = np.asarray(found.sheet(None))
    assert sheet.shape == (6 * 64, 3 * 64, 3)
    shown, result, photograph = np.split(sheet[:64], 3, 1)
    assert (photograph == card).all()
    assert (result == 101).all()
    linear = srgb_decode(torch.from_numpy(shown / 255)).mean((0, 1))
    expected = srgb_decode(torch.tensor(card) / 255) / 4
    torch.testing.assert_close(linear.float(), expected, rtol=0.03, atol=0.001)


def test_frames_are_of_the_photographs_own_light(tmp_path):
    """A quarter of it: no tone curve is undone, no highlight extended, nothing wrong with the sensor but
    noise; each is of another camera."""
    ramp = np.linspace(0, 255, 96).round().astype(np.uint8)[:, None, None]
    for name in "abc":
        Image.fromarray(np.broadcast_to(ramp, (96, 64, 3))).save(tmp_path / f"{name}.png")
    pairs = validation(tmp_path).pairs
    for each in pairs:
        frame = 4 * to_linear(each.clean, each.matrix)
        torch.testing.assert_close(frame, srgb_decode(each.target), atol=2e-3, rtol=0)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(pairs[one].matrix, pairs[other].matrix)
    config = TrainConfig(NETWORK, (Stage(1e-3, 1, 32, steps=1),))
    options = _fixed_synthesis(config, 0, torch.Generator()).options
    assert options.black_error == options.row_noise == options.hot_share == options.dead_share == 0


def test_frames_have_even_sides(write_raw, tmp_path):
    """As mosaics have, whatever the pictures'."""
    (tmp_path / "photographs").mkdir()
    Image.new("RGB", (77, 51)).save(tmp_path / "photographs" / "a.png")
    assert validation(tmp_path / "photographs").pairs[0].target.shape == (1, 3, 50, 76)
    raw = write_raw("pairs/a.dng", np.full((49, 61, 3), 0.3))
    Image.new("RGB", (61, 49)).save(raw.with_suffix(".png"))
    assert validation(raw.parent).pairs[0].target.shape == (1, 3, 48, 48)


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


@pytest.mark.parametrize("size", [(4, 90), (90, 4)])
def test_pictures_without_room_for_a_cell_are_left_out(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "narrow.png")
    with pytest.raises(InputError, match="no pictures to validate on"):
        validation(tmp_path)
    Image.new("RGB", (90, 90)).save(tmp_path / "square.png")
    assert len(validation(tmp_path).pairs) == 1


def test_frames_have_room_for_a_cell(tmp_path):
    Image.new("RGB", (600, 520)).save(tmp_path / "a.png")
    large = replace(NETWORK, high_blocks=4)
    settings = TrainConfig(large, (Stage(1e-3, 1, 512, steps=1),), validation=(str(tmp_path),))
    (pair,) = Validation(settings, torch.device("cpu")).pairs
    assert pair.picture.shape[2:] == (large.cell, large.cell) == (512, 512)


def test_features_are_dead_that_are_zero_everywhere():
    network = DeepISP(replace(NETWORK, dilations=(1, 1)))
    with torch.no_grad():
        for layer in network.low:
            layer.weight.zero_()
            layer.bias.fill_(-1)
        network.low[0].bias[:6] = 1  # 6 of its 8 features are on everywhere
        network.low[1].weight[0, -12:, 1, 1] = 100  # one of these where the picture is bright
    dark, lit = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    lit[..., :2, :2] = 1
    assert dead_features(network, [dark]) == pytest.approx(1 - 6 / 16)
    assert dead_features(network, [dark, lit]) == pytest.approx(1 - 7 / 16)

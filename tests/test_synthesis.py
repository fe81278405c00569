"""How training pairs are made: un-rendering, HDR scenes, mosaics, real raws; and the losses."""

import math
import struct
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import imagecodecs
import tifffile
from conftest import opcode_list
from PIL import Image, ImageCms
from torch.nn import functional as F

from deepisp_cli import colour
from deepisp_cli.demosaic import demosaic, normalise_mosaic
from deepisp_cli.dng import write_dng
from deepisp_cli.errors import InputError
from deepisp_cli.look import add_contrast, develop_colour
from deepisp_cli.options import Options
from deepisp_cli.pipeline import prepare
from deepisp_cli.render import orient
from deepisp_cli.training import cameras, synthesis
from deepisp_cli.training.losses import (
    as_seen,
    neutral_loss,
    paper_loss,
    restoration_loss,
    structure_loss,
    to_lab,
)
from deepisp_cli.training.mosaics import MosaicOptions, MosaicSynthesis
from deepisp_cli.training.pictures import GREY, load_linear, load_photograph, load_scene
from deepisp_cli.training.raw_pairs import RawPairs, find_pairs
from deepisp_cli.training.synthesis import Synthesis, SynthesisOptions
from deepisp_cli.xtrans import interpolate, is_x_trans

XYZ_FROM_SRGB = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
SCALES = (1, 4, 16)
EVEN = {"black_error": 0, "row_noise": 0, "hot_share": 0}
QUIET = SynthesisOptions(shot_noise=(1e-9, 1e-9), read_offset=-60, highlight_share=0, bits=(16, 16), **EVEN)


def pairs_of(options, seed=0, count=4):
    photographs = torch.randint(0, 256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(9)).byte()
    return Synthesis(options, torch.Generator().manual_seed(seed))(photographs)


@pytest.fixture
def normalised(monkeypatch):
    """What the last frames were normalised from: "counts", "black", "scale"."""
    seen = {}
    original = synthesis.normalise

    def remember(counts, black, scale):
        seen.update(counts=counts, black=black, scale=scale)
        return original(counts, black, scale)

    monkeypatch.setattr(synthesis, "normalise", remember)
    return seen


def test_the_training_input_is_the_products_input_bit_for_bit(normalised):
    """A synthesised frame's counts, through the product's NumPy stages, are the training input."""
    pairs = pairs_of(SynthesisOptions())
    for index in range(4):
        black = normalised["black"][index].item()
        scale = normalised["scale"][index].numpy()
        # the gains and the white level that give exactly these scales
        white = np.full((2, 2), black + 1, np.float32)
        gains = np.array([scale[0, 0], scale[0, 1], scale[1, 1]], np.float32)
        mosaic = normalise_mosaic(
            normalised["counts"][index].numpy(), "RGGB", np.full((2, 2), black, np.float32), white, gains
        )
        picture = colour.encode(demosaic(mosaic, "RGGB"))
        np.testing.assert_array_equal(pairs.picture[index].permute(1, 2, 0).numpy(), picture)


def test_without_noise_the_mosaic_holds_the_clean_frame():
    pairs = pairs_of(QUIET)
    np.testing.assert_allclose(pairs.picture[:, 0, 0::2, 0::2], pairs.clean[:, 0, 0::2, 0::2], atol=2e-3)
    np.testing.assert_allclose(pairs.picture[:, 2, 1::2, 1::2], pairs.clean[:, 2, 1::2, 1::2], atol=2e-3)


def test_x_trans_frames_are_interpolated_as_the_product_does(monkeypatch):
    seen = []
    original = synthesis.interpolate_x_trans

    def remember(mosaic, masks):
        seen.append((mosaic, masks))
        return original(mosaic, masks)

    monkeypatch.setattr(synthesis, "interpolate_x_trans", remember)
    pairs = pairs_of(replace(QUIET, x_trans_share=0.75), count=40)
    ((mosaics, masks),) = seen
    assert 22 <= masks.flatten(1).any(1).sum() <= 38
    patterns = set()
    for picture, clean, mosaic, mask in zip(pairs.picture, pairs.clean, mosaics, masks, strict=True):
        if not mask.any():  # Bayer
            np.testing.assert_allclose(picture[1, 0::2, 1::2], clean[1, 0::2, 1::2], atol=2e-3)
            patterns.add("RGGB")
            continue
        torch.testing.assert_close(picture[mask], clean[mask], atol=2e-3, rtol=0)
        pattern = "".join("RGB"[colour] for colour in mask[:, :6, :6].int().argmax(0).ravel())
        assert is_x_trans(pattern)
        product = colour.encode(interpolate(mosaic.numpy(), pattern))
        np.testing.assert_allclose(picture.permute(1, 2, 0), product, atol=1e-6)
        patterns.add(pattern)
    assert 10 <= len(patterns) <= 19  # of 18 phases that differ, and Bayer's
    assert "RGGB" in patterns


def test_the_clean_frame_leads_back_to_the_photograph():
    """Without tone curve and exposure the camera's matrix alone gives the photograph (saturated colours
    that the sensor clips aside)."""
    options = SynthesisOptions(exposure=(0, 0), inverse_tone=(0, 0), highlight_share=0)
    pairs = pairs_of(options)
    srgb = synthesis.to_srgb(pairs.clean, pairs.matrix)
    unclipped = (pairs.clean < 0.999).all(1, keepdim=True).expand_as(srgb)
    torch.testing.assert_close(srgb[unclipped], pairs.target[unclipped], atol=2e-3, rtol=0)


@pytest.mark.parametrize("gain", [None, torch.tensor([1.7, 3.0])], ids=["as exposed", "metered"])
def test_the_finished_picture_is_the_products(gain):
    """Of the mean of the cells' transforms."""
    generator = torch.Generator().manual_seed(0)
    image, coefficients = (
        torch.rand(2, 3, 8, 9, generator=generator),
        torch.randn(2, 30, 2, 3, generator=generator),
    )
    matrix = torch.eye(3) + 0.2 * torch.randn(2, 3, 3, generator=generator)
    found = synthesis.to_picture(image, coefficients, matrix, gain)
    for index in range(2):
        product = develop_colour(
            image[index].permute(1, 2, 0).numpy(), matrix[index].numpy(),
            coefficients[index].mean((1, 2)).reshape(3, 10).numpy(),
            gain=None if gain is None else gain[index].item(),
        )  # fmt: skip
        np.testing.assert_allclose(found[index].permute(1, 2, 0).numpy(), product, atol=1e-4)


def test_highlights_are_extended_after_the_tone_curve_is_undone():
    """Which knows nothing brighter than white."""
    options = SynthesisOptions(inverse_tone=(1, 1), highlight_share=1.0, highlight_gain=8.0)
    scenes = Synthesis(options, torch.Generator().manual_seed(0)).unrender(torch.ones(100, 3, 1, 1))
    assert 7 < scenes.max() <= 8 and scenes.min() >= 1


@pytest.mark.parametrize("share", [0, 0.05, 0.5, 0.9999996423721313, 1])
def test_the_tone_curve_is_undone(share):
    """It is that of ``--contrast``, on sRGB values; what is beyond black and white stays."""
    linear = torch.linspace(0, 1, 1001).expand(2, 3, 1, -1)
    camera = Synthesis(SynthesisOptions(inverse_tone=(share,) * 2), torch.Generator())
    toned = camera._tone(linear)
    seen = add_contrast(colour.srgb_encode(linear.numpy()), share)
    torch.testing.assert_close(colour.srgb_encode(toned), torch.from_numpy(seen), atol=1e-5, rtol=0)
    torch.testing.assert_close(camera._invert_tone(toned), linear, atol=1e-4, rtol=0)
    nearly = torch.cat([1 - torch.logspace(-8, -3, 1000), torch.logspace(-12, -3, 1000)]).expand(2, 3, 1, -1)
    assert not camera._invert_tone(nearly).isnan().any()
    beyond = torch.tensor([-0.1, 0, 1, 1.5]).expand(2, 3, 1, -1)
    assert torch.equal(camera._invert_tone(beyond), beyond)
    if not share:
        assert torch.equal(toned, linear) and torch.equal(camera._invert_tone(linear), linear)


def test_photographs_are_taken_for_toned_and_those_of_scenes_are():
    options = SynthesisOptions(exposure=(0, 0), inverse_tone=(1, 1), highlight_share=0)
    pairs = pairs_of(options)
    scene = colour.srgb_encode(synthesis.to_linear(pairs.clean, pairs.matrix).clamp(0, 1))
    unclipped = (pairs.clean < 0.999).all(1, keepdim=True).expand_as(scene)
    toned = 3 * scene**2 - 2 * scene**3
    torch.testing.assert_close(toned[unclipped], pairs.target[unclipped], atol=4e-3, rtol=0)
    light = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    plain, toned = (
        Synthesis(replace(options, inverse_tone=(share,) * 2), torch.Generator().manual_seed(0))
        .of_scenes(light)
        .target
        for share in (0, 1)
    )
    torch.testing.assert_close(toned, 3 * plain**2 - 2 * plain**3, atol=1.5 / 255, rtol=0)


def test_highlights_are_extended_beyond_white():
    """White by up to a factor of 8, log-uniform; near-white by less; hues stay."""
    levels = torch.tensor([[1, 1, 1], [0.9, 0.9, 0.9], [1, 0.95, 0.9], [0.8, 0.8, 0.8], [1, 1, 0.5]])
    linear = levels.T.reshape(1, 3, 1, 5).expand(2000, -1, -1, -1)
    options = SynthesisOptions(highlight_share=1.0, highlight_gain=8.0)
    extended = Synthesis(options, torch.Generator().manual_seed(0))._extend_highlights(linear)
    assert torch.equal(extended[..., 3:], linear[..., 3:])
    gain = extended[:, 0, 0, 0]
    assert 1 <= gain.min() < 1.01
    assert 7.9 < gain.max() <= 8
    assert gain.log2().mean().item() == pytest.approx(1.5, abs=0.06)
    less = (1 + (gain - 1) / 4)[:, None]
    torch.testing.assert_close(extended[:, :, 0, 1], 0.9 * less.expand(-1, 3))
    torch.testing.assert_close(extended[:, :, 0, 2], levels[2] * less)
    some = Synthesis(replace(options, highlight_share=0.25), torch.Generator().manual_seed(0))
    changed = (some._extend_highlights(linear) != linear).flatten(1).any(1)
    assert changed.float().mean().item() == pytest.approx(0.25, abs=0.04)


def test_saturated_colours_go_beyond_srgb_and_greys_stay():
    options = replace(QUIET, exposure=(0, 0), inverse_tone=(0, 0), saturated_share=1.0)
    photographs = torch.randint(0, 160, (6, 3, 8, 8), generator=torch.Generator().manual_seed(4)).byte()
    photographs[:, :, :2] = photographs[:, :1, :2]  # two rows are grey
    pairs = Synthesis(options, torch.Generator().manual_seed(0))(photographs)
    before = photographs / 255
    torch.testing.assert_close(pairs.target[:, :, :2], before[:, :, :2])
    spread, was = (each[:, :, 2:].amax(1) - each[:, :, 2:].amin(1) for each in (pairs.target, before))
    assert (spread >= was - 1e-5).all() and (spread > 1.2 * was).float().mean() > 0.3
    assert pairs.target.min() >= 0 and pairs.target.max() <= 1
    # the camera sees colours that the sRGB target cannot hold, but never negative light
    linear = torch.einsum("nij,njhw->nihw", pairs.matrix, colour.decode(pairs.clean))
    assert linear.min() < -0.05 and pairs.clean.min() == 0
    inside = (pairs.target.amin(1) > 0.01) & (pairs.target.amax(1) < 0.99) & (pairs.clean.amin(1) > 0)
    developed = colour.srgb_encode(linear).permute(0, 2, 3, 1)
    torch.testing.assert_close(developed[inside], pairs.target.permute(0, 2, 3, 1)[inside], atol=1e-4, rtol=0)
    unsaturated = Synthesis(replace(options, saturated_share=0.0), torch.Generator().manual_seed(0))
    torch.testing.assert_close(unsaturated(photographs).target, before)


def test_saturation_keeps_luminance_and_changes_the_share_asked_for():
    """By up to a factor of 3, log-uniform; a colour's distance from grey tells by which."""
    options = SynthesisOptions(saturated_share=0.25, saturation=3.0)
    linear = torch.tensor([0.3, 0.2, 0.1]).reshape(1, 3, 1, 1).expand(4000, -1, -1, -1)
    saturated = Synthesis(options, torch.Generator().manual_seed(0))._saturate(linear)[:, :, 0, 0]
    luminance = 0.2126 * 0.3 + 0.7152 * 0.2 + 0.0722 * 0.1
    weights = torch.from_numpy(colour.LUMINANCE)
    torch.testing.assert_close(saturated @ weights, torch.full((4000,), luminance))
    gain = (saturated[:, 0] - luminance) / (0.3 - luminance)
    changed = gain > 1 + 1e-4
    assert changed.float().mean().item() == pytest.approx(0.25, abs=0.04)
    assert (1 - gain[~changed]).abs().max() < 1e-4
    assert gain.max() == pytest.approx(3, abs=0.05)
    assert gain[changed].log().mean().item() == pytest.approx(math.log(3) / 2, abs=0.06)


def test_white_balance_runs_from_tungsten_to_shade():
    options = SynthesisOptions(white_balance_spread=0)
    gains = Synthesis(options, torch.Generator().manual_seed(0))._draw_gains(4000)
    red, green, blue = gains.unbind(1)
    assert torch.equal(green, torch.ones(4000))
    assert (red.min().item(), red.max().item()) == pytest.approx((1.3, 2.6), abs=0.01)
    assert (blue.min().item(), blue.max().item()) == pytest.approx((1.3, 2.7), abs=0.01)
    assert torch.corrcoef(gains[:, ::2].T)[0, 1] < -0.9
    for middle, low, high in ((red.median(), 1.3, 2.6), (blue.median(), 1.3, 2.7)):
        assert middle.item() == pytest.approx((low * high) ** 0.5, abs=0.04)  # by ratios
    spread = Synthesis(SynthesisOptions(), torch.Generator().manual_seed(0))._draw_gains(4000)
    assert (spread.min(1).values == 1).all()
    assert (spread[:, 0] / red).log().std().item() == pytest.approx(0.1, rel=0.1)
    apart = torch.stack([(spread[:, 0] / red).log(), (spread[:, 2] / blue).log()])
    assert abs(torch.corrcoef(apart)[0, 1]) < 0.15  # towards green and magenta, too


def test_noise_bits_and_black_are_drawn_from_their_whole_ranges(normalised):
    """A black frame's mosaic, from which the counts can be told, and a grey one's noise."""
    options = SynthesisOptions(row_noise=0, hot_share=0, black_error=0, read_spread=0.5)
    count, size = 600, 32
    ones = torch.ones(count, 3)

    def variances(level):
        generator = torch.Generator().manual_seed(1)
        scene = torch.full((count, 3, size, size), level)
        mosaic = Synthesis(options, generator)._expose(scene, ones)
        return mosaic.flatten(1).var(1)

    read, both = variances(0.0), variances(0.5)
    full = 1 / normalised["scale"][:, 0, 0] + normalised["black"].flatten()
    bits = torch.log2(full + 1).round()
    assert set(bits.tolist()) == {12, 13, 14}
    share = normalised["black"].flatten() / full
    assert share.min() < 0.005 and 0.125 < share.max() <= 0.1301
    shot = ((both - read) / 0.5).clamp(min=1e-6).log()
    low, high = np.log(options.shot_noise)
    assert shot.mean().item() == pytest.approx((low + high) / 2, abs=0.25)  # log-uniform
    assert shot.quantile(0.1).item() == pytest.approx(low + 0.1 * (high - low), abs=0.4)
    # of strong read noise, which the rounding and the clipping of negative counts do not hide
    strong = (shot > np.log(5e-3)) & (share > 0.06)
    line = options.read_slope * shot + options.read_offset
    assert (read.log() - line)[strong].std().item() == pytest.approx(0.5, rel=0.2)


def test_counts_are_what_the_converter_has(normalised):
    """Whole numbers from 0 to 4095, of frames that are black and of such that are brighter than white."""
    options = SynthesisOptions(bits=(12, 12), shot_noise=(0.02, 0.02), black_share=(0.01, 0.1))
    scene = torch.tensor([0.0, 2.0]).repeat_interleave(8).reshape(16, 1, 1, 1).expand(-1, 3, 32, 32)
    mosaic = Synthesis(options, torch.Generator().manual_seed(0))._expose(scene, torch.ones(16, 3))
    counts, black = normalised["counts"], normalised["black"]
    assert torch.equal(counts, counts.round()) and torch.equal(black, black.round())
    assert counts[:8].min() == 0 and (counts[8:] == 4095).float().mean() > 0.99
    assert (mosaic[8:] > 0.9999).float().mean() > 0.99
    assert mosaic[:8].min() < 0  # half of the noise


def test_the_noise_free_frame_is_clipped_as_the_sensors_is():
    scene = torch.full((4, 3, 8, 8), 4.0)
    pairs = Synthesis(replace(QUIET, exposure=(0, 0)), torch.Generator().manual_seed(0)).of_scenes(scene)
    white = torch.ones(4, 3, 8, 8)
    torch.testing.assert_close(pairs.clean, white)
    torch.testing.assert_close(pairs.picture, white)


def test_rows_are_off_by_up_to_a_share_of_the_read_noise():
    """Uniformly, by frame; black frames show it."""
    options = SynthesisOptions(
        shot_noise=(0.01, 0.01), read_spread=0, row_noise=1.0, black_share=(0.1, 0.1), bits=(14, 14),
        black_error=0, hot_share=0,
    )  # fmt: skip
    count, height, width = 300, 64, 64
    synthesis = Synthesis(options, torch.Generator().manual_seed(0))
    mosaic = synthesis._expose(torch.zeros(count, 3, height, width), torch.ones(count, 3))
    read = math.exp(2.18 * math.log(0.01) + 1.2)
    banding = (mosaic.mean(2).var(1) / read - 1 / width).clamp(min=0).sqrt()
    assert banding.mean().item() == pytest.approx(0.5, abs=0.06)
    assert banding.quantile(0.1) < 0.2 and banding.quantile(0.9) > 0.8 and banding.max() < 1.4


def test_most_hot_samples_are_little_brighter():
    """By the cube of a uniform number, which is 1/4 in the mean and 1/8 in the median."""
    options = replace(QUIET, hot_share=1.0, black_share=(0.0, 0.0))
    synthesis = Synthesis(options, torch.Generator().manual_seed(0))
    hot = synthesis._expose(torch.zeros(4, 3, 64, 64), torch.ones(4, 3))
    assert hot.mean().item() == pytest.approx(1 / 4, abs=0.02)
    assert hot.median().item() == pytest.approx(1 / 8, abs=0.02)
    assert hot.max() > 0.95


def test_exposure_and_noise_are_what_was_asked_for():
    linear = green_samples(shot_noise=(0.01, 0.01), read_spread=0)
    level = ((128 / 255 + 0.055) / 1.055) ** 2.4 / 4
    assert linear.mean().item() == pytest.approx(level, rel=0.02)
    read = math.exp(2.18 * math.log(0.01) + 1.2)
    assert linear.std().item() == pytest.approx((0.01 * level + read) ** 0.5, rel=0.05)


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
        colour.srgb_encode(torch.from_numpy(linear)), colour.srgb_encode(linear), atol=1e-6
    )


def test_held_out_cameras_are_not_trained_on():
    assert not set(cameras.TRAINING) & set(cameras.HELD_OUT)
    assert not set(cameras.TRAINING.values()) & set(cameras.HELD_OUT.values())
    for table in (cameras.TRAINING, cameras.HELD_OUT):
        for matrix in cameras.matrices(table):
            assert np.abs(colour.srgb_from_camera(matrix)).max() < 5


def test_blotches_are_worse_than_noise_and_dark_frames_count_for_more():
    pairs = pairs_of(SynthesisOptions())
    assert restoration_loss(pairs.clean, pairs, SCALES) == 0
    blotch = torch.zeros_like(pairs.clean)
    blotch[:, :, :16] = 0.05
    noise = 0.05 * torch.sign(torch.randn(blotch.shape, generator=torch.Generator().manual_seed(0))) / 2
    blotched, noisy = (restoration_loss(pairs.clean + error, pairs, SCALES) for error in (blotch, noise))
    assert blotched > 1.5 * noisy
    plain = restoration_loss(pairs.clean + noise, pairs, (1,))
    assert plain.item() == pytest.approx((0.025 * torch.exp2(-pairs.exposure / 2)).mean().item(), rel=1e-3)


def test_the_rms_norm_is_of_each_crop():
    pairs = pairs_of(SynthesisOptions(exposure=(0, 0)))
    even, peaks = torch.full_like(pairs.clean, 0.02), torch.zeros_like(pairs.clean)
    peaks[..., ::2, ::2] = 0.08  # the same L1, twice the root mean square
    for error, expected in ((even, 0.02), (peaks, 0.04)):
        found = restoration_loss(pairs.clean + error, pairs, (1,), "rms").item()
        assert found == pytest.approx(expected, rel=1e-3)
        assert restoration_loss(pairs.clean + error, pairs, (1,)).item() == pytest.approx(0.02, rel=1e-3)
    one_bad = torch.zeros_like(pairs.clean)
    one_bad[0] = 0.4  # in one crop of four: not sqrt(0.4 ** 2 / 4)
    assert restoration_loss(pairs.clean + one_bad, pairs, (1,), "rms").item() == pytest.approx(0.1, rel=1e-3)


def test_structure_is_judged_as_it_would_look_fully_exposed():
    grey = torch.full((2, 3, 32, 32), 90, dtype=torch.uint8)
    pairs = Synthesis(replace(QUIET, exposure=(-2, -2)), torch.Generator().manual_seed(0))(grey)

    def loss(image, pairs):
        return structure_loss(as_seen(image, pairs), as_seen(pairs.clean, pairs)).item()

    assert loss(pairs.clean, pairs) == pytest.approx(0, abs=1e-5)
    noise = 0.02 * torch.sign(torch.randn(pairs.clean.shape, generator=torch.Generator().manual_seed(0)))
    noisy, shifted = (loss(pairs.clean + error, pairs) for error in (noise, 0.02))
    assert noisy > 10 * shifted > 0  # equal in L1
    dark, noisy_dark = (colour.encode(colour.decode(each) / 4) for each in (pairs.clean, pairs.clean + noise))
    darker = replace(pairs, clean=dark, exposure=pairs.exposure - 2)
    assert loss(noisy_dark, darker) == pytest.approx(noisy, rel=1e-3)


def test_lab_is_the_librarys():
    color = pytest.importorskip("skimage.color")
    srgb = torch.rand(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    srgb[0, :, 0, 0], srgb[0, :, 0, 1], srgb[0, :, 0, 2] = 0, 0.01, 1
    expected = color.rgb2lab(srgb.permute(0, 2, 3, 1).numpy()) / 100
    np.testing.assert_allclose(to_lab(srgb).permute(0, 2, 3, 1).numpy(), expected, atol=2e-4)
    odd = torch.tensor([-0.2, 0.0, 0.04, 1.3]).expand(1, 3, 1, 4).clone().requires_grad_()
    to_lab(odd).sum().backward()
    assert torch.isfinite(odd.grad).all()


def test_the_papers_loss_sees_colour_and_structure():
    generator = torch.Generator().manual_seed(0)
    target = F.avg_pool2d(torch.rand(1, 3, 182, 182, generator=generator), 15, stride=1, padding=7)
    target = (0.5 + 3 * (target - 0.5)).clamp(0.05, 0.95)
    noise = 0.05 * torch.randn(target.shape, generator=generator)
    assert paper_loss(target, target, 1.0).item() == pytest.approx(0, abs=1e-5)
    tinted = target * torch.tensor([1.05, 1.0, 0.95]).reshape(1, 3, 1, 1)
    by_colour, by_noise = (
        [paper_loss(wrong, target, weight).item() for weight in (0.0, 1.0)]
        for wrong in (tinted, target + noise)
    )
    assert by_colour[0] > 0.005
    assert by_noise[1] - by_noise[0] > 3 * (by_colour[1] - by_colour[0])  # noise spoils structure
    white = torch.ones(1, 3, 170, 170)
    assert paper_loss(1.3 * white, white, 1.0).item() == pytest.approx(0, abs=1e-5)


def test_the_neutral_loss_sees_tints_and_grey_whites():
    def loss(white=1.0, **changes):
        """Of the identity with some of its entries changed: ``r_g=0.1`` adds 0.1 green to red."""
        terms = ["r", "g", "b", "rr", "rg", "rb", "gg", "gb", "bb", "1"]
        transform = torch.zeros(3, 10)
        transform[:, :3] = torch.eye(3)
        for name, value in changes.items():
            row, _, term = name.partition("_")
            transform["rgb".index(row), terms.index(term)] += value
        return neutral_loss(transform.reshape(1, 30, 1, 1).expand(2, 30, 2, 3), white).item()

    assert loss() == pytest.approx(0, abs=1e-6)
    assert loss(r_r=1, g_g=1, b_b=1) == pytest.approx(0, abs=1e-6)  # brighter, still grey
    assert loss(r_rr=0.5, g_rr=0.5, b_gg=0.5) == pytest.approx(0, abs=1e-6)
    assert loss(r_g=0.1) > 0.01
    assert loss(b_1=-0.1) > 0.03
    dark = {"r_r": -0.3, "g_g": -0.3, "b_b": -0.3}
    assert loss(**dark) == pytest.approx(0.3)  # white comes out grey
    assert loss(white=torch.tensor([2.0, 2.0]), **dark) == pytest.approx(0, abs=1e-6)  # exposed to 2: 1.4


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


def green_samples(**changes):
    """Linear green samples of flat grey frames at -2 EV, by rows."""
    grey = torch.full((16, 3, 64, 64), 128, dtype=torch.uint8)
    plain = {"exposure": (-2, -2), "inverse_tone": (0, 0), "highlight_share": 0, "bits": (14, 14), **EVEN}
    options = SynthesisOptions(**{**plain, "shot_noise": (1e-3, 1e-3), **changes})
    pairs = Synthesis(options, torch.Generator().manual_seed(0))(grey)
    return colour.decode(pairs.picture[:, 1, 1::2, 0::2])


def test_rows_pixels_and_black_levels_go_wrong_as_on_sensors():
    plain = green_samples()
    banded = green_samples(row_noise=20)
    assert banded.mean(2).std() > 3 * plain.mean(2).std()
    assert banded.mean(1).std(1).mean() < 1.5 * plain.mean(1).std(1).mean()  # columns are not worse
    hot = green_samples(hot_share=0.05)
    assert (hot > plain.max() * 1.5).float().mean().item() == pytest.approx(0.05, abs=0.03)
    dead = green_samples(dead_share=0.05)
    assert (dead < plain.min() / 2).float().mean().item() == pytest.approx(0.05, abs=0.01)
    off = green_samples(black_error=0.02)
    assert off.mean((1, 2)).std().item() == pytest.approx(0.02, rel=0.4)  # of full scale, over 16 frames
    assert plain.mean((1, 2)).std() < 1e-3


def test_a_scene_is_metered_whatever_its_unit(tmp_path):
    light = np.random.default_rng(0).lognormal(0, 2, (40, 50, 3)).astype(np.float32)
    for unit in (1, 1000):
        tifffile.imwrite(tmp_path / "a.tif", unit * light, photometric="rgb")
        mean = np.exp(np.log(load_scene(tmp_path / "a.tif") @ colour.LUMINANCE).mean())
        assert mean == pytest.approx(GREY, rel=1e-4)
    tifffile.imwrite(tmp_path / "a.tif", 0 * light, photometric="rgb")
    assert not load_scene(tmp_path / "a.tif").any()


def test_a_scene_is_clipped_as_a_camera_would():
    ramp = GREY * torch.logspace(-2, 2, 64).repeat(64, 1)[None, None].repeat(2, 3, 1, 1)
    options = SynthesisOptions(exposure=(-2, -2), inverse_tone=(0, 0), highlight_share=0, **EVEN)
    pairs = Synthesis(options, torch.Generator().manual_seed(0)).of_scenes(ramp)
    assert pairs.target.max() == 1
    assert 0.3 < pairs.target.median() < 0.6
    # the frame at -2 EV still resolves what the photograph clips
    clipped = (pairs.target == 1).all(1)[0]
    assert clipped.any()
    assert len(torch.unique(pairs.clean[0, 1][clipped])) > 4


def test_scenes_are_exposed_within_half_a_stop():
    """Uniformly; the photograph and the frame are of the same exposure."""
    light = torch.full((600, 3, 2, 2), 0.3)
    options = replace(QUIET, exposure=(0, 0), inverse_tone=(0, 0))
    pairs = Synthesis(options, torch.Generator().manual_seed(0)).of_scenes(light)
    photograph = synthesis.srgb_decode(pairs.target)
    stops = torch.log2(photograph[:, 1, 0, 0] / 0.3)
    assert stops.min().item() == pytest.approx(-0.5, abs=0.04)
    assert stops.max().item() == pytest.approx(0.5, abs=0.04)
    assert stops.std().item() == pytest.approx(1 / math.sqrt(12), abs=0.03)
    frame = synthesis.to_linear(pairs.clean, pairs.matrix)
    torch.testing.assert_close(frame, photograph, atol=0.005, rtol=0)  # which has 8 bits


def test_mosaics_of_finished_pictures_follow_the_benchmarks_protocol():
    photographs = torch.randint(0, 256, (64, 3, 32, 32), generator=torch.Generator().manual_seed(1)).byte()
    clean = MosaicSynthesis(MosaicOptions(sigma=(0, 0)), torch.Generator().manual_seed(0))(photographs)
    assert torch.equal(clean.picture[:, 0, 0::2, 0::2], clean.target[:, 0, 0::2, 0::2])
    noisy = MosaicSynthesis(MosaicOptions(sigma=(20, 20)), torch.Generator().manual_seed(0))(photographs)
    noise = (noisy.picture - clean.picture)[:, 2, 1::2, 1::2]
    assert noise.std().item() == pytest.approx(20 / 255, rel=0.05)
    half = MosaicOptions(sigma=(10, 20), clean_share=0.5)
    pairs = MosaicSynthesis(half, torch.Generator().manual_seed(0))(photographs)
    untouched = (pairs.picture == clean.picture).flatten(1).all(1).float().mean().item()
    assert untouched == pytest.approx(0.5, abs=0.2)
    assert torch.equal(pairs.clean, pairs.target)


def test_noise_of_mosaics_is_drawn_from_its_whole_range():
    """Uniformly, whether or not some have none; the noise of each is told by its red samples."""
    photographs = torch.full((500, 3, 32, 32), 100, dtype=torch.uint8)
    options = MosaicOptions(sigma=(5, 20), clean_share=0.4)
    pairs = MosaicSynthesis(options, torch.Generator().manual_seed(0))(photographs)
    spread = 255 * (pairs.picture - pairs.target)[:, 0, ::2, ::2].flatten(1).std(1)
    noisy = spread[spread > 0]
    assert len(noisy) / 500 == pytest.approx(0.6, abs=0.07)
    assert noisy.mean().item() == pytest.approx(12.5, abs=0.8)
    assert noisy.quantile(0.1).item() == pytest.approx(6.5, abs=1)
    assert noisy.quantile(0.9).item() == pytest.approx(18.5, abs=1)


def swapped_srgb():
    """An ICC profile whose red is sRGB's blue and vice versa."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


def test_photographs_come_upright_in_srgb_and_eight_bit(tmp_path):
    deep = np.full((4, 6, 3), 0x80FF, np.uint16)
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(deep))
    (tmp_path / "grey.png").write_bytes(imagecodecs.png_encode(deep[..., 0].copy()))
    for name in ("deep.png", "grey.png"):
        assert np.asarray(load_photograph(tmp_path / name)).tolist() == np.full((4, 6, 3), 0x80).tolist()
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (6, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert load_photograph(tmp_path / "turned.jpg").size == (4, 6)
    red_is_blue = swapped_srgb()
    Image.new("RGB", (4, 4), (200, 100, 50)).save(tmp_path / "other.png", icc_profile=red_is_blue)
    assert load_photograph(tmp_path / "other.png").getpixel((0, 0)) == pytest.approx((50, 100, 200), abs=2)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"broken\.jpg"):
        load_photograph(tmp_path / "broken.jpg")


def test_hdr_files_are_read_as_linear_light(tmp_path):
    light = np.random.default_rng(0).uniform(0, 50, (8, 16, 3)).astype(np.float32)
    (tmp_path / "scene.hdr").write_bytes(imagecodecs.rgbe_encode(light, header=True))
    np.testing.assert_allclose(load_linear(tmp_path / "scene.hdr"), light, atol=50 / 128)
    light[0, 0], light[0, 1] = np.nan, -1
    tifffile.imwrite(tmp_path / "odd.tif", light, photometric="rgb")
    expected = light.copy()
    expected[0, :2] = 0  # there is no such light
    np.testing.assert_array_equal(load_linear(tmp_path / "odd.tif"), expected)
    light[0, 0] = np.inf  # a sun is as bright as the rest can be: a larger number would ruin the run
    tifffile.imwrite(tmp_path / "sun.tif", light, photometric="rgb")
    expected[0, 0] = expected.max()
    np.testing.assert_array_equal(load_linear(tmp_path / "sun.tif"), expected)
    tifffile.imwrite(tmp_path / "planes.tif", light.transpose(2, 0, 1))
    with pytest.raises(
        InputError, match=r"planes\.tif: is not a linear RGB picture \(float32, \(3, 8, 16\)\)"
    ):
        load_linear(tmp_path / "planes.tif")
    Image.new("RGB", (4, 4)).save(tmp_path / "eight.tif")
    with pytest.raises(InputError, match="not a linear RGB"):
        load_linear(tmp_path / "eight.tif")
    (tmp_path / "broken.hdr").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"broken\.hdr"):
        load_linear(tmp_path / "broken.hdr")


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_raw_pairs_lie_pixel_on_pixel(tmp_path, pattern, orientation):
    """A raw and its reference show the same tinted ramp; so do their crops, whatever CFA and orientation."""
    rows, cols = np.mgrid[0:60, 0:80].astype(np.float32)
    colour_of = {"R": 1.0, "G": 0.7, "B": 0.4}
    ramp = 0.1 + 0.5 * rows / 60 + 0.3 * cols / 80
    tint = np.array([colour_of[letter] for letter in pattern]).reshape(2, 2)
    counts = np.round(64 + ramp * np.tile(tint, (30, 40)) * (4095 - 64)).astype(np.uint16)
    scene = tmp_path / "scene"
    scene.mkdir()
    write_dng(
        scene / "short_exposure.dng", counts, pattern=pattern, black=64, white=4095,
        xyz_to_camera=np.linalg.inv(XYZ_FROM_SRGB), white_balance=(1, 1, 1), orientation=orientation,
    )  # fmt: skip
    picture = ramp[..., None] * list(colour_of.values())
    reference = np.round(255 * picture).astype(np.uint8)[4:-4, 4:-4]
    Image.fromarray(orient(reference, orientation)).save(scene / "medium_exposure.png")
    assert len(find_pairs(tmp_path)) == 1
    pairs = RawPairs([tmp_path], 32, torch.Generator().manual_seed(0))(6, 32)
    assert pairs.clean is None
    assert pairs.picture.shape == pairs.target.shape == (6, 3, 32, 32)
    inner = (..., slice(2, -2), slice(2, -2))  # the frame's own borders are mirrored
    torch.testing.assert_close(colour.decode(pairs.picture)[inner], pairs.target[inner], atol=4e-3, rtol=0)
    assert restoration_loss(pairs.picture, pairs, SCALES) == 0


def test_planes_that_pillow_takes_apart_wrongly_are_refused(tmp_path):
    picture = np.random.default_rng(0).integers(0, 65536, (16, 16, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", picture, photometric="rgb")
    np.testing.assert_allclose(np.asarray(load_photograph(tmp_path / "a.tif")), picture >> 8, atol=1)
    eight = (picture >> 8).astype(np.uint8)
    tifffile.imwrite(tmp_path / "b.tif", eight.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(np.asarray(load_photograph(tmp_path / "b.tif")), eight)
    tifffile.imwrite(
        tmp_path / "c.tif", picture.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"
    )
    with pytest.raises(InputError, match=r"c\.tif: .*separate planes"):
        load_photograph(tmp_path / "c.tif")


def test_pictures_that_cannot_be_photographs_are_named(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "linear.tif", np.ones((8, 8), np.float32))
    with pytest.raises(InputError, match=r"linear\.tif: holds floating-point"):
        load_photograph(tmp_path / "linear.tif")
    Image.new("RGB", (64, 64)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match=r"huge\.png"):
        load_photograph(tmp_path / "huge.png")


def test_raw_pairs_are_developed_as_the_product_does(tmp_path):
    """To the last pixel, wherever the crop is; crops are not larger than a scene."""
    counts = np.random.default_rng(0).integers(64, 4095, (48, 56)).astype(np.uint16)
    path = tmp_path / "night.dng"
    write_dng(
        path, counts, pattern="RGGB", black=64, white=4095,
        xyz_to_camera=np.linalg.inv(XYZ_FROM_SRGB), white_balance=(2, 1, 1.5),
    )  # fmt: skip
    position = np.mgrid[0:48, 0:56].transpose(1, 2, 0)
    Image.fromarray(np.dstack([position, position[..., :1]]).astype(np.uint8)).save(tmp_path / "night.png")
    whole = torch.from_numpy(prepare(path, Options()).picture).permute(2, 0, 1)
    source = RawPairs([tmp_path], 16, torch.Generator().manual_seed(0))
    for size in (16, 48, 200):
        pairs, side = source(6, size), min(size, 48)
        for picture, target in zip(pairs.picture, pairs.target, strict=True):
            top, left = (round(255 * target[axis, 0, 0].item()) for axis in (0, 1))
            assert picture.shape == (3, side, side)
            assert torch.equal(picture, whole[:, top : top + side, left : left + side])


def test_raw_pairs_that_do_not_fit_are_named_and_left_out(tmp_path, caplog):
    counts = np.full((40, 40), 500, np.uint16)
    for name in ("small", "lonely"):
        write_dng(
            tmp_path / f"{name}.dng", counts, pattern="RGGB", black=64, white=4095,
            xyz_to_camera=np.linalg.inv(XYZ_FROM_SRGB), white_balance=(1, 1, 1),
        )  # fmt: skip
    Image.new("RGB", (20, 90)).save(tmp_path / "small.jpg")
    warp = opcode_list((1, struct.pack(">I8d", 1, 1, -0.1, 0, 0, 0, 0, 0.5, 0.5)))
    write_dng(
        tmp_path / "bent.dng", counts, pattern="RGGB", black=64, white=4095,
        extra=[(51022, 7, len(warp), warp)],
    )  # fmt: skip
    Image.new("RGB", (40, 40)).save(tmp_path / "bent.jpg")
    (tmp_path / "broken.dng").write_bytes(b"no raw")
    Image.new("RGB", (20, 90)).save(tmp_path / "broken.jpg")
    Image.new("RGB", (40, 40)).save(tmp_path / "narrow.jpg")
    write_dng(tmp_path / "narrow.dng", counts, pattern="RGGB", black=64, white=4095)
    with pytest.raises(InputError, match="none of the 4 raws with a reference"):
        RawPairs([tmp_path], 48, torch.Generator())
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no raw with a reference"):
        RawPairs([tmp_path / "empty"], 16, torch.Generator())
    assert "narrow.dng: has less than 48 pixels a side" in caplog.text
    assert "small.jpg: is not the size of" in caplog.text
    assert "broken.dng" in caplog.text
    assert "bent.dng: has a lens correction" in caplog.text
    assert "no reference picture beside" in caplog.text and "lonely.dng; left out" in caplog.text

"""The training loop: losses reach the right parts, runs resume, what teaches nothing is refused."""

import math
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

import imagecodecs
from PIL import Image
from runs import CPU, LOW_ONLY, ROOT, TINY, config, new_trainer, weights

from deepisp_cli.cli import main
from deepisp_cli.colour import decode, encode, srgb_encode
from deepisp_cli.demosaic import sample_mosaic
from deepisp_cli.dng import write_dng
from deepisp_cli.errors import InputError, ModelError, UsageError
from deepisp_cli.metering import HEADROOM, TRUST
from deepisp_cli.network import DeepISP, NetworkConfig
from deepisp_cli.training import losses
from deepisp_cli.training import train as training
from deepisp_cli.training.config import Stage, on_photographs
from deepisp_cli.training.losses import (
    as_seen,
    colour_loss,
    neutral_loss,
    paper_loss,
    picture_loss,
    restoration_loss,
    structure_loss,
)
from deepisp_cli.training.mosaics import MosaicOptions
from deepisp_cli.training.sources import open_sources
from deepisp_cli.training.synthesis import (
    Pairs,
    Synthesis,
    SynthesisOptions,
    frame_gains,
    srgb_decode,
    to_picture,
    to_srgb,
)
from deepisp_cli.training.train import _Reporter, train
from deepisp_cli.training.trainer import Trainer
from deepisp_cli.training.validation import Validation, dead_features


@pytest.mark.parametrize("parts", ["low", "separate", "joint", "high"])
def test_which_loss_reaches_which_part(folder, parts):
    stages = (Stage(1e-3, 4, 32, steps=1, parts=parts),)
    trainer = new_trainer(config(folder, stages=stages, restoration_weight=float(parts == "low")))
    trainer.loss(trainer.draw()).backward()

    def gradient(layer):
        return sum(float(p.grad.abs().sum()) for p in layer.parameters() if p.grad is not None)

    assert (gradient(trainer.network.head) > 0) == (parts != "low")
    assert (gradient(trainer.network.low[0]) > 0) == (parts in ("low", "joint"))
    last = trainer.network.low[-1].weight.grad
    # the features that the high-level stage sees, and the residual image
    assert (float(last[:-12].abs().sum()) > 0) == (parts != "low")
    assert (float(last[-12:].abs().sum()) > 0) == (parts in ("low", "joint"))


def test_the_last_stage_keeps_the_restoration(folder):
    trainer = new_trainer(config(folder, stages=(Stage(1e-2, 4, 32, steps=3, parts="high"),)))
    picture = trainer.draw().picture
    before_image, before = (value.detach() for value in trainer.network(picture, pad=True))
    for _ in range(3):
        trainer.train_step()
    image, after = trainer.network(picture, pad=True)
    assert torch.equal(image, before_image)
    assert not torch.equal(after, before)


def test_a_later_stage_trains_again_what_was_kept(folder):
    stages = (Stage(1e-2, 4, 32, steps=1, parts="high"), Stage(1e-2, 4, 32, steps=1, parts="joint"))
    trainer = new_trainer(config(folder, stages=stages))
    assert not trainer.network.low[0].weight.requires_grad
    trainer.advance_stage()
    before = trainer.network.low[0].weight.clone()
    trainer.train_step()
    assert not torch.equal(trainer.network.low[0].weight, before)


def test_a_stage_of_few_blocks_trains_these_and_leaves_the_network_whole(folder):
    network = replace(LOW_ONLY, dilations=(1, 1, 2))
    stages = (Stage(1e-2, 4, 32, steps=2, parts="low", blocks=2), Stage(1e-2, 4, 32, steps=1, parts="low"))
    trainer = new_trainer(config(folder, network=network, stages=stages))
    before = [layer.weight.clone() for layer in trainer.network.low]
    trainer.train_step()
    trainer.train_step()
    changed = [not torch.equal(a, layer.weight) for a, layer in zip(before, trainer.network.low, strict=True)]
    assert changed == [True, True, False]
    picture = trainer.draw().picture
    first, _ = trainer.network.restore(picture, pad=True, blocks=2)
    whole, _ = trainer.network.restore(picture, pad=True)
    assert torch.equal(first, whole)  # the third block's residual is still zero
    trainer.advance_stage()
    trainer.train_step()
    assert not torch.equal(before[2], trainer.network.low[2].weight)


def test_the_papers_loss_reaches_both_parts(folder, tmp_path):
    for index in range(2):  # large enough for the five scales
        picture = Image.open(folder / f"{index}.png").resize((200, 180))
        picture.save(tmp_path / f"{index}.png")
    stages = (Stage(5e-3, 2, 176, steps=1, parts="joint"),)
    settings = config(tmp_path, stages=stages, reductions=(1.0,), picture_loss="lab", structure_weight=0.3)
    trainer = new_trainer(replace(settings, restoration_weight=0.0))
    pairs = trainer.draw()
    loss = trainer.loss(pairs)
    developed = to_picture(*trainer.network(pairs.picture, pad=True), pairs.matrix)
    torch.testing.assert_close(loss, paper_loss(developed, pairs.target, 0.3))
    loss.backward()
    for parameter in (trainer.network.head.weight, trainer.network.low[0].weight):
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0


def seen(image, pairs):
    return as_seen(image, pairs), as_seen(pairs.clean, pairs)


@pytest.mark.parametrize(
    ("option", "loss"), [("restoration_structure", structure_loss), ("restoration_colour", colour_loss)]
)
def test_structure_and_colour_join_the_restorations_loss(folder, option, loss):
    stages = (Stage(1e-3, 2, 64, steps=1, parts="low"),)
    changes = {"reductions": (1.0,), "restoration_weight": 0.5, option: 0.3}
    trainer = new_trainer(config(folder, stages=stages, **changes))
    pairs = trainer.draw()
    image, _ = trainer.network.restore(pairs.picture, pad=True)
    expected = restoration_loss(image, pairs, (1, 4, 16)) + 0.3 * loss(*seen(image, pairs))
    torch.testing.assert_close(trainer.loss(pairs), 0.5 * expected)


def test_a_loss_that_validation_computes_first_trains(folder):
    stages = (Stage(1e-3, 2, 32, steps=1, parts="low"),)
    trainer = new_trainer(config(folder, stages=stages, restoration_structure=0.3))
    losses._ssim_window.cache_clear()
    with torch.inference_mode():
        trainer.loss(trainer.draw())
    trainer.train_step()


def test_the_colours_loss_sees_what_brightening_shows():
    """One tint of a shadow at 0 and at -4 EV: the latter counts four times as much in the restoration's loss,
    which is on the raw's scale, and twice that for the eye."""
    shadow = torch.full((1, 3, 64, 64), 8, dtype=torch.uint8)
    losses = []
    for exposure in (0.0, -4.0):
        options = SynthesisOptions(exposure=(exposure, exposure), highlight_share=0, inverse_tone=(0, 0))
        pairs = Synthesis(options, torch.Generator().manual_seed(0))(shadow)

        def loss(image, pairs=pairs):
            return colour_loss(*seen(image, pairs))

        assert loss(pairs.clean) == 0
        checks = (torch.arange(64) % 2 * 2.0 - 1) * 1e-3  # with zero mean
        tint = torch.tensor([1e-3, -1e-3, 1e-3]).reshape(1, 3, 1, 1)
        assert loss(pairs.clean + checks) < 0.1 * loss(pairs.clean + tint)
        tinted = pairs.clean + tint
        losses.append((restoration_loss(tinted, pairs, (16,)), loss(tinted)))
    (restoration, colour), (restoration_dark, colour_dark) = losses
    assert restoration_dark / restoration == pytest.approx(4, rel=1e-3)
    assert colour_dark / colour > 8


@pytest.mark.parametrize("mosaic", [None, MosaicOptions(sigma=(20, 20))])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_lowers_the_loss(folder, mosaic, precision):
    stages = (Stage(2e-2, 4, 32, steps=120, parts="low" if mosaic else "separate"),)
    network = replace(LOW_ONLY, width=32) if mosaic else TINY
    trainer = new_trainer(config(folder, network=network, stages=stages, mosaic=mosaic, precision=precision))
    trainer.set_w0(frames=8)
    pairs = trainer.sources[0](32, 32)
    before = trainer.loss(pairs).item()
    for _ in range(120):
        trainer.train_step()
    assert trainer.loss(pairs).item() < (0.98 if mosaic else 0.85) * before
    assert all(parameter.dtype == torch.float32 for parameter in trainer.average.parameters())


def test_each_step_trains_all_of_the_network(folder):
    trainer = new_trainer(config(folder, stages=(Stage(1e-2, 4, 32, steps=9, parts="joint"),)))
    before = {name: parameter.clone() for name, parameter in trainer.network.named_parameters()}
    for _ in range(3):  # what is zero at first keeps gradients from the rest
        trainer.train_step()
    for name, parameter in trainer.network.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_the_time_of_all_steps_counts(folder, monkeypatch):
    clock = Clock()
    trainer = new_trainer(config(folder))
    pairs = trainer.draw()

    def loss(trainer, pairs, loss=Trainer.loss):
        clock.now += 20
        return loss(trainer, pairs)

    monkeypatch.setattr("deepisp_cli.training.trainer.time", clock)
    monkeypatch.setattr(Trainer, "loss", loss)
    trainer.train_step(pairs)
    trainer.train_step(pairs)
    assert (trainer.elapsed, trainer.step, trainer.total) == (40, 2, 2)


def test_the_rate_warms_up_and_follows_a_cosine(folder):
    trainer = new_trainer(config(folder, stages=(Stage(2e-3, 1, 32, steps=200), Stage(5e-3, 1, 32, steps=1))))
    pairs = trainer.draw()
    for step, share in {
        0: 0.01,  # the first of a hundred warm-up steps
        50: 0.51 * (2 + math.sqrt(2)) / 4,  # a quarter of the cosine
        99: (1 + math.sin(math.pi / 200)) / 2,
        100: 0.5,
        150: (2 - math.sqrt(2)) / 4,
        199: math.pi**2 / 4 / 200**2,
    }.items():
        trainer.step = step
        trainer.train_step(pairs)
        assert rates(trainer) == pytest.approx([2e-3 * share, 2e-4 * share], rel=1e-4), step
    trainer.advance_stage()
    trainer.train_step(pairs)
    assert rates(trainer) == pytest.approx([5e-5, 5e-6])  # warms up again


def rates(trainer):
    """The learning rates of the filters and of the rest."""
    return [group["lr"] for optimiser in trainer.optimisers for group in optimiser.param_groups]


def test_the_rate_follows_the_clock_where_that_is_ahead(folder):
    trainer = new_trainer(config(folder, stages=(Stage(2e-3, 1, 32, steps=1000, minutes=1),)))
    trainer.step, trainer.elapsed = 250, 30.0
    trainer.train_step()
    assert rates(trainer) == pytest.approx([1e-3, 1e-4])
    trainer.step, trainer.elapsed = 500, 15.0
    trainer.train_step()
    assert rates(trainer) == pytest.approx([1e-3, 1e-4])


@pytest.mark.parametrize("largest", [1e-4, 1e6])
def test_the_gradients_of_each_stage_are_clipped(folder, largest):
    trainer = new_trainer(config(folder, gradient_norm=largest))
    pairs = trainer.draw()
    trainer.loss(pairs).backward()
    parts = trainer.network.low, trainer.network.high
    before = [[parameter.grad.clone() for parameter in part.parameters()] for part in parts]
    trainer.train_step(pairs)
    for part, gradients in zip(parts, before, strict=True):
        norm = math.sqrt(sum(gradient.square().sum().item() for gradient in gradients))
        share = min(1, largest / norm)
        assert (share < 1) == (largest < 1)
        for parameter, gradient in zip(part.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, share * gradient, rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("kind", ["noise-free frame", "real raw", "real raw, restored"])
def test_w0_is_what_most_frames_agree_on(folder, kind):
    """One of five fails: its photograph is black. The mean would be four fifths of the identity."""
    trainer = new_trainer(config(folder))
    frames = torch.rand(5, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    matrix = torch.eye(3).expand(5, 3, 3)
    target = to_srgb(frames, matrix)
    target[3] = 0
    picture = frames if kind == "real raw" else 0 * frames
    clean = frames if kind == "noise-free frame" else None
    pairs = Pairs(picture, clean, target, matrix, torch.zeros(5))
    trainer.sources = [lambda count, size: pairs]
    if "restored" in kind:
        trainer.network.restore = lambda picture, pad: (frames, None)
    trainer.set_w0()
    identity = torch.cat([torch.eye(3), torch.zeros(3, 7)], 1)
    for network in (trainer.network, trainer.average):
        torch.testing.assert_close(network.w0.reshape(3, 10), identity, atol=5e-3, rtol=0)


@pytest.mark.parametrize(("shares", "brightness"), [((3.0, 1.0), 1.0), ((1.0, 3.0), 0.5), ((1e-6, 1.0), 0.5)])
def test_w0_is_fitted_on_all_sources_by_their_shares(folder, shares, brightness):
    """Whatever the seed; a source with a small share has few frames, but some."""
    trainer = new_trainer(config(folder))
    asked = [0, 0]

    def source(number, level):
        def draw(count, size):
            asked[number] += count
            frames = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
            matrix = torch.eye(3).expand(count, 3, 3)
            return Pairs(frames, frames, level * to_srgb(frames, matrix), matrix, torch.zeros(count))

        return draw

    trainer.sources, trainer.shares = [source(0, 1.0), source(1, 0.5)], list(shares)
    trainer.set_w0(frames=40)
    expected = brightness * torch.cat([torch.eye(3), torch.zeros(3, 7)], 1)
    torch.testing.assert_close(trainer.network.w0.reshape(3, 10), expected, atol=5e-3, rtol=0)
    assert asked == [max(1, round(40 * share / sum(shares))) for share in shares]


def test_w0_is_fitted_on_crops_of_the_first_stage_that_uses_it(folder):
    stages = (Stage(1e-3, 5, 16, 1, parts="low"), Stage(1e-3, 3, 32, 1), Stage(1e-3, 1, 64, 1))
    trainer, asked = new_trainer(config(folder, stages=stages)), []
    source = trainer.sources[0]
    trainer.sources = [lambda count, size: asked.append((count, size)) or source(count, size)]
    trainer.set_w0(frames=4)
    assert asked == [(3, 32), (1, 32)]


def test_a_high_level_without_a_restoration_is_not_trained(folder, tmp_path):
    settings = config(folder, stages=(Stage(1e-3, 4, 32, 1, parts="high"),))
    with pytest.raises(UsageError, match="give --initial with a model's folder"):
        train(settings, tmp_path / "run", device=CPU)
    assert not (tmp_path / "run").exists()
    initial = train(config(folder), tmp_path / "first", device=CPU)
    assert train(settings, tmp_path / "run", device=CPU, initial=initial).exists()


@pytest.mark.parametrize("changes", [{"restoration_weight": 0.0}, {"restoration_scales": ()}])
def test_a_restoration_that_no_loss_would_train_is_refused(folder, tmp_path, changes):
    with pytest.raises(UsageError, match="the parts 'separate' leave the restoration untrained"):
        train(config(folder, **changes), tmp_path / "run", device=CPU)
    joint = (Stage(1e-3, 4, 32, 1, parts="joint"),)
    assert train(config(folder, stages=joint, **changes), tmp_path / "run", device=CPU).exists()


def test_first_blocks_alone_are_not_taught_under_later_ones_that_are_trained(folder, tmp_path):
    initial = train(config(folder), tmp_path / "first", device=CPU)
    first = (Stage(1e-3, 4, 32, 1, parts="low", blocks=1),)
    with pytest.raises(ModelError, match="its blocks after the first 1 are trained"):
        new_trainer(config(folder, stages=first)).start_from(initial)
    deeper = replace(TINY, dilations=(1, 2, 1))  # whose last block is new
    second = (Stage(1e-3, 4, 32, 1, parts="low", blocks=2),)
    new_trainer(config(folder, network=deeper, stages=second)).start_from(initial)


def test_a_log_and_a_sheet_that_cannot_be_written_end_no_run(folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(training, "SHEET_EVERY", 2)
    settings = config(folder, stages=(Stage(1e-3, 4, 32, steps=3),), validation=(str(folder),))
    train(settings, tmp_path / "run", device=CPU, steps=1)
    for name in ("log.csv", "sheet-0000002.jpg"):
        (tmp_path / "run" / name).mkdir()
    checkpoint = train(settings, tmp_path / "run", device=CPU, resume=True)
    assert torch.load(checkpoint, weights_only=True)["position"][3] == 3
    for name in ("log.csv", "sheet-0000002.jpg"):
        assert any(name in message and "cannot be written" in message for message in caplog.messages)


def test_pictures_both_trained_and_validated_on_are_told(tmp_path, caplog):
    for name in ("all/a.png", "all/kept/b.png", "other/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    settings = config(tmp_path / "all", validation=(str(tmp_path / "all/kept"), str(tmp_path / "other")))
    train(settings, tmp_path / "run", device=CPU, steps=1)
    told = [message for message in caplog.messages if "trained on and validated on" in message]
    assert told == [f"trained on and validated on, so psnr flatters: {tmp_path / 'all/kept/b.png'}"]


def test_a_run_replaces_no_log(folder, tmp_path):
    (tmp_path / "log.csv").write_text("mine")
    with pytest.raises(UsageError, match=r"log\.csv: exists already"):
        train(config(folder), tmp_path, device=CPU)
    assert (tmp_path / "log.csv").read_text() == "mine"
    (tmp_path / "log.csv").write_text("stage,step,minutes\n")  # of a run that has ended too early
    assert train(config(folder), tmp_path, device=CPU).exists()


def test_w0_is_that_of_both_networks_and_of_frames_as_they_are_metered(folder):
    """Photographs half as bright as the metered frames."""
    trainer = new_trainer(config(folder, network=replace(TINY, metered=True)))
    frames = 0.4 * torch.rand(5, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    matrix = torch.eye(3).expand(5, 3, 3)
    gain = frame_gains(frames, matrix)
    assert gain.min() > 1.5
    pairs = Pairs(frames, frames, 0.5 * to_srgb(frames, matrix, gain), matrix, torch.zeros(5))
    trainer.sources = [lambda count, size: pairs]
    trainer.set_w0()
    for network in (trainer.network, trainer.average):
        found = network.w0.reshape(3, 10)
        torch.testing.assert_close(found, 0.5 * torch.eye(3, 10), atol=5e-3, rtol=0)


def test_a_stage_begins_anew_and_only_the_last_ends_the_run(folder):
    trainer = new_trainer(config(folder, stages=(Stage(1e-3, 1, 32, steps=5, minutes=9),) * 2))
    trainer.step, trainer.elapsed = 5, 100.0
    assert trainer.progress() == 1 and not trainer.finished
    assert trainer.advance_stage()
    assert (trainer.stage, trainer.step, trainer.elapsed, trainer.progress()) == (1, 0, 0.0, 0.0)
    trainer.step = 5
    assert trainer.finished
    assert not trainer.advance_stage()


def test_a_stopped_run_ends_with_the_same_weights(folder, tmp_path):
    stages = (Stage(2e-3, 4, 32, steps=4), Stage(1e-3, 2, 48, steps=3, parts="high"))
    settings = config(folder, stages=stages)
    through = weights(train(settings, tmp_path / "a", device=CPU))
    for stop in (2, 4, 5, None):
        checkpoint = train(settings, tmp_path / "b", device=CPU, resume=stop != 2, steps=stop)
        position = torch.load(checkpoint, weights_only=True)["position"]
        assert position[3] == (stop or 7)
    resumed = weights(checkpoint)
    for name, value in through.items():
        assert torch.equal(value, resumed[name]), name
    before = checkpoint.read_bytes()
    with pytest.raises(UsageError, match="already holds a run"):
        train(settings, tmp_path / "b", device=CPU)
    assert checkpoint.read_bytes() == before
    with pytest.raises(UsageError, match="no checkpoint to continue from"):
        train(settings, tmp_path / "c", device=CPU, resume=True)


@pytest.fixture(params=["SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"])
def interrupt(request, monkeypatch):
    """Sends itself the signal, which raises KeyboardInterrupt, as the command line has it."""
    if request.param == "SIGBREAK" and hasattr(signal, "SIGUSR1"):  # a stand-in: only Windows has it
        monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    number = getattr(signal, request.param, None)
    if number is None:
        pytest.skip("this system has no such signal")
    before = signal.signal(number, signal.default_int_handler)
    yield lambda: signal.raise_signal(number)
    assert signal.getsignal(number) is signal.default_int_handler  # put back after the run
    signal.signal(number, before)


def test_an_interrupted_run_ends_with_the_same_weights(folder, tmp_path, monkeypatch, caplog, interrupt):
    """The interrupt arrives when some of the step's random numbers are drawn and nothing is learned yet."""
    stages = (Stage(2e-3, 4, 32, steps=2), Stage(1e-3, 2, 48, steps=3, parts="high"))
    settings = config(folder, stages=stages)
    through = weights(train(settings, tmp_path / "a", device=CPU))

    def interrupted_loss(trainer, pairs, loss=Trainer.loss):
        if trainer.total == 3:
            interrupt()
        return loss(trainer, pairs)

    caplog.set_level("INFO")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "loss", interrupted_loss)
        train(settings, tmp_path / "b", device=CPU)
    assert caplog.messages[-1] == "saved at stage 2, step 2; continue with --resume"
    assert torch.load(tmp_path / "b" / "checkpoint.pt", weights_only=True)["position"][3] == 4
    resumed = weights(train(settings, tmp_path / "b", device=CPU, resume=True))
    for name, value in through.items():
        assert torch.equal(value, resumed[name]), name


@pytest.fixture
def interruptible():
    """Shells let jobs in the background ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_second_interrupt_does_not_wait_for_the_step(folder, tmp_path, monkeypatch):
    went_on = []

    def loss(trainer, pairs):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        went_on.append(True)

    monkeypatch.setattr(Trainer, "loss", loss)
    with pytest.raises(KeyboardInterrupt):
        train(config(folder), tmp_path / "run", device=CPU)
    assert not went_on
    assert not list((tmp_path / "run").iterdir())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_in_a_thread_leaves_signals_alone(folder, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        checkpoint = pool.submit(train, config(folder), tmp_path / "run", device=CPU, steps=1).result()
    assert checkpoint.exists()


def test_data_without_a_share_and_shares_without_data_are_told(folder, tmp_path, caplog):
    new_trainer(config(folder, panoramas=(str(tmp_path),)))
    assert f"{tmp_path}: not used, because its share is 0" in caplog.messages
    caplog.clear()
    new_trainer(config(folder, shares=(0.5, 0.5, 0.0)))
    assert caplog.messages == ["no folders of panoramas are named, though they have a share"]
    caplog.clear()
    new_trainer(config(folder))
    assert not caplog.messages


def test_all_sources_are_drawn_from_by_their_shares(folder, tmp_path, caplog):
    light = np.random.default_rng(0).uniform(0, 9, (48, 200, 3)).astype(np.float32)
    (tmp_path / "scene.hdr").write_bytes(imagecodecs.rgbe_encode(light, header=True))
    settings = config(folder, panoramas=(str(tmp_path),), shares=(1.0, 3.0, 1.0))
    trainer = new_trainer(settings)
    assert trainer.shares == [1.0, 3.0]
    drawn = []
    trainer.sources = [lambda count, size, name=name: drawn.append(name) for name in ("photo", "scene")]
    for _ in range(400):
        trainer.draw()
    assert drawn.count("scene") / 400 == pytest.approx(0.75, abs=0.06)
    pairs = new_trainer(replace(settings, shares=(0.0, 1.0, 0.0))).draw()
    assert pairs.picture.shape == (4, 3, 32, 32)
    higher = (Stage(1e-3, 2, 64, steps=1), Stage(1e-3, 2, 32, steps=1))
    trainer = new_trainer(replace(settings, shares=(0.0, 1.0, 0.0), stages=higher))
    assert trainer.draw().picture.shape == (2, 3, 48, 48)  # as large as the scene allows
    assert f"less than 64 pixels a side: {tmp_path / 'scene.hdr'} (48); none is as large" in caplog.text
    with pytest.raises(InputError, match="no HDR file that can be used"):
        new_trainer(replace(settings, shares=(0.0, 1.0, 0.0), stages=higher[:1]))
    assert "scene.hdr: has less than 64 pixels a side" in caplog.text
    with pytest.raises(InputError, match=r"the data that is named has a share of 0; .* raw_pairs"):
        new_trainer(replace(settings, shares=(0.0, 0.0, 1.0)))
    with pytest.raises(InputError, match="nothing to train on: name folders"):
        new_trainer(replace(settings, photographs=(), panoramas=()))


@pytest.fixture
def pairs_folder(tmp_path):
    """Three raws beside their finished pictures."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pairs"
    folder.mkdir()
    for name in "abc":
        picture = np.kron(rng.uniform(0.1, 0.9, (6, 6, 3)), np.ones((8, 8, 1)))
        counts = np.round(sample_mosaic(picture) * 1000 + 64 + rng.normal(0, 30, (48, 48))).clip(0)
        write_dng(folder / f"{name}.dng", counts.astype(np.uint16), pattern="RGGB", black=64, white=4095)
        Image.fromarray(np.round(255 * picture).astype(np.uint8)).save(folder / f"{name}.png")
    return str(folder)


def test_raws_with_references_are_validated_on_if_there_are_any(folder, pairs_folder, caplog):
    settings = config(folder, validation=(pairs_folder,))
    found = Validation(settings, CPU, size=40).pairs
    assert len(found) == 3
    expected = np.asarray(Image.open(Path(pairs_folder) / "a.png"))[4:44, 4:44].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(found[0].target[0], expected, atol=1e-6)
    trainer = new_trainer(settings)
    assert Validation(settings, CPU).psnr(trainer.average) > 5
    assert found[0].clean is None
    (Path(pairs_folder) / "d.dng").write_bytes(b"x")
    (Path(pairs_folder) / "d.png").write_bytes(b"x")
    assert len(Validation(settings, CPU).pairs) == 3 and "d.dng" in caplog.text
    only_low = replace(
        settings, network=LOW_ONLY, mosaic=MosaicOptions(), stages=(Stage(1e-3, 1, 32, 1, parts="low"),)
    )
    assert all(pairs.clean is not None for pairs in Validation(only_low, CPU, size=40).pairs)


@pytest.mark.parametrize(
    ("parts", "shares"), [("joint", (0, 0, 1)), ("separate", (0.5, 0, 0.5)), ("high", (0, 0, 1))]
)
def test_raw_pairs_train_what_they_can(folder, pairs_folder, parts, shares):
    stages = (Stage(1e-2, 4, 32, steps=10, parts=parts),)
    trainer = new_trainer(config(folder, raw_pairs=(pairs_folder,), shares=shares, stages=stages))
    trainer.set_w0(8)
    pairs = trainer.sources[-1](4, 32)

    def restored_and_developed():
        image, features = trainer.network.restore(pairs.picture, pad=True)
        return image.detach(), trainer.network.coefficients(features, pad=True).detach()

    image, coefficients = restored_and_developed()
    for _ in range(3):
        assert torch.isfinite(trainer.train_step(pairs))
    image_after, coefficients_after = restored_and_developed()
    assert not torch.equal(coefficients, coefficients_after)
    assert torch.equal(image, image_after) == (parts != "joint")


def test_panoramas_are_no_finished_pictures_to_make_mosaics_of(folder):
    stages = (Stage(1e-3, 4, 32, steps=1, parts="low"),)
    settings = config(
        folder, network=LOW_ONLY, mosaic=MosaicOptions(), stages=stages, panoramas=(str(folder),)
    )
    with pytest.raises(UsageError, match=r"\[mosaic\] takes photographs"):
        new_trainer(replace(settings, shares=(0.5, 0.5, 0)))
    new_trainer(replace(settings, shares=(1, 0, 0)))


@pytest.mark.parametrize(
    ("parts", "shares", "message"),
    [
        ("low", (0.5, 0, 0.5), "raw_pairs teach the parts 'low' nothing"),
        ("low", (0, 0, 1), "raw_pairs teach the parts 'low' nothing"),
        ("separate", (0, 0, 1), "use 'joint'"),
        ("separate", (0.5, 0, 0.5), None),
        ("joint", (0, 0, 1), None),
    ],
)
def test_raw_pairs_that_would_teach_nothing_are_refused(folder, parts, shares, message):
    stages = (Stage(1e-3, 4, 32, steps=1, parts="joint"), Stage(1e-3, 4, 32, steps=1, parts=parts))
    changes = {"raw_pairs": ("somewhere",), "shares": shares, "stages": stages}
    settings = config(folder, **changes)  # what a checkpoint has is read, whatever it is
    open_sources(on_photographs(settings, [str(folder)]), torch.Generator())
    if message is None:
        with pytest.raises(InputError, match="somewhere: is not a folder"):
            open_sources(settings, torch.Generator())
        return
    with pytest.raises(UsageError, match=message):
        open_sources(settings, torch.Generator())


def test_pictures_too_small_for_the_high_level_are_told_before_the_run(folder, tmp_path, caplog):
    """Those of ``folder`` hold 120 pixels."""
    deep = replace(TINY, high_blocks=3)  # whose cells have 128 pixels
    stages = (Stage(1e-3, 4, 32, steps=1, parts="low"), Stage(1e-3, 1, deep.cell, steps=1, parts="high"))
    with pytest.raises(InputError, match=r"crops have 120 pixels .* need 128"):
        new_trainer(config(folder, network=deep, stages=stages))
    lab = (stages[0], Stage(1e-3, 1, 176, steps=1))
    with pytest.raises(InputError, match=r"crops have 120 pixels .* need 161"):
        new_trainer(config(folder, stages=lab, picture_loss="lab"))
    new_trainer(config(folder, network=deep, stages=stages[:1]))
    for side in (100, 128):
        Image.new("RGB", (200, side)).save(tmp_path / f"{side}.png")
    settings = config(folder, network=deep, stages=stages, validation=(str(tmp_path),))
    validation = Validation(settings, CPU)
    assert [each.picture.shape[2] for each in validation.pairs] == [128]
    assert validation.psnr(DeepISP(deep)) > 0
    assert "100.png: has less than 128 pixels a side" in caplog.text


def test_validation_is_the_middle_of_each_picture(tmp_path):
    pixels = np.zeros((100, 140, 3), np.uint8)
    pixels[18:82, 38:102] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (pairs,) = Validation(config(tmp_path, validation=(str(tmp_path),)), CPU, size=64).pairs
    assert pairs.target.shape == (1, 3, 64, 64)
    assert pairs.target.min() == pytest.approx(200 / 255)


def test_a_run_saves_at_intervals(folder, tmp_path, monkeypatch):
    """What a power cut leaves."""
    monkeypatch.setattr(training, "SAVE_EVERY", -1)

    def fail(trainer, pairs, loss=Trainer.loss):
        if trainer.total == 2:
            raise OSError("the power is gone")
        return loss(trainer, pairs)

    monkeypatch.setattr(Trainer, "loss", fail)
    with pytest.raises(OSError, match="power"):
        train(config(folder), tmp_path / "run", device=CPU, steps=4)
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["position"][3] == 2


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.mark.parametrize(("minutes", "seconds", "steps"), [(1, 20, 4), (2, 30, 5), (-1, 20, 0)])
def test_a_run_ends_after_its_minutes(folder, tmp_path, monkeypatch, minutes, seconds, steps):
    """With the first step that lies beyond."""
    clock = Clock()

    def train_step(trainer):
        clock.now += seconds
        trainer.total += 1
        return torch.tensor(1.0)

    monkeypatch.setattr(training, "time", clock)
    monkeypatch.setattr(Trainer, "train_step", train_step)
    checkpoint = train(config(folder), tmp_path / "run", device=CPU, minutes=minutes)
    assert torch.load(checkpoint, weights_only=True)["position"][3] == steps


def test_the_log_tells_of_speed_and_of_the_averaged_networks_quality(folder, tmp_path, monkeypatch):
    """After 10 steps, of which each takes half a second here, and then after 200."""
    clock, measured = Clock(), []
    monkeypatch.setattr(training, "time", clock)
    stages = (Stage(1e-3, 4, 32, steps=2500),)
    trainer = new_trainer(config(folder, stages=stages, validation=(str(folder),)))
    validation = Validation(trainer.config, CPU, size=32, count=1)
    monkeypatch.setattr(validation, "psnr", lambda network: measured.append(network) or 30.0)
    reporter = _Reporter(trainer, validation, tmp_path)
    for step in range(1, 401):
        clock.now += 0.5
        trainer.step = trainer.total = step
        trainer.elapsed = 6.0 * step
        reporter.add(torch.tensor(float(step)))
    assert [row["step"] for row in trainer.history] == [10, 200, 400]
    assert all(network is trainer.average for network in measured) and len(measured) == 3
    row = trainer.history[1]
    assert (row["per_second"], row["minutes"], row["psnr"]) == (2, 20, 30)
    assert row["left"] == 230  # of 250 minutes
    assert [row["loss"] for row in trainer.history] == [5.5, 105.5, 300.5]  # each step once
    assert 0 <= row["dead"] < 1


def test_the_last_step_of_a_stage_has_a_sheet_of_the_averaged_network(folder, tmp_path, monkeypatch):
    shown = []
    trainer = new_trainer(config(folder, validation=(str(folder),)))
    validation = Validation(trainer.config, CPU, size=32, count=1)
    monkeypatch.setattr(
        validation, "sheet", lambda network: shown.append(network) or Image.new("RGB", (9, 9))
    )
    reporter = _Reporter(trainer, validation, tmp_path)
    for step in (4, 6):  # of six
        trainer.total = trainer.step = step
        reporter.add(torch.tensor(1.0))
    assert shown == [trainer.average]
    assert [path.name for path in tmp_path.glob("*.jpg")] == ["sheet-0000006.jpg"]


def test_sheets_are_drawn_at_intervals(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SHEET_EVERY", 2)
    stages = (Stage(1e-3, 4, 32, steps=9),)
    train(config(folder, stages=stages, validation=(str(folder),)), tmp_path / "run", device=CPU, steps=5)
    assert sorted(path.name for path in (tmp_path / "run").glob("*.jpg")) == [
        "sheet-0000002.jpg",
        "sheet-0000004.jpg",
    ]


def test_folders_without_photographs_are_errors(folder, tmp_path, caplog):
    with pytest.raises(InputError, match=r"no photograph of at least .*; the longest_side is 2048"):
        open_sources(config(folder, stages=(Stage(1e-3, 1, 500, steps=1),)), torch.Generator())
    with pytest.raises(InputError, match=r"of at least 128 pixels a side \(32 once reduced\)"):
        open_sources(config(folder, reductions=(4.0, 8.0)), torch.Generator())
    with pytest.raises(InputError, match="not a folder"):
        open_sources(config(tmp_path / "gone"), torch.Generator())
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match="no photograph of at least"):
        open_sources(config(tmp_path), torch.Generator())
    assert "broken.jpg" in caplog.text
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no photographs \(\.jpg"):
        open_sources(config(tmp_path / "empty"), torch.Generator())


def test_large_photographs_are_reduced_first(folder):
    settings = config(folder, longest_side=80, reductions=(1.0,))
    assert new_trainer(settings).sources[0].crops.largest == 60


def test_reduced_photographs_are_means(tmp_path):
    """Stripes of one pixel become grey."""
    stripes = np.zeros((120, 160, 3), np.uint8)
    stripes[::2] = 200
    Image.fromarray(stripes).save(tmp_path / "a.png")
    settings = config(tmp_path, longest_side=80, reductions=(1.0,))
    crops = new_trainer(settings).sources[0].crops(20, 32)
    assert (crops.float().mean((1, 2, 3)) - 100).abs().max() < 12


def test_photographs_too_small_once_reduced_are_named(tmp_path, caplog):
    for side in (300, 401):
        Image.new("RGB", (side, side)).save(tmp_path / f"{side}.png")
    stages = (Stage(1e-3, 1, 64, steps=1), Stage(1e-3, 1, 96, steps=1))
    new_trainer(config(tmp_path, stages=stages, reductions=(4.0, 8.0)))
    assert f"less than 96 pixels a side: {tmp_path / '300.png'} (75); left out" in caplog.text


def test_photographs_too_small_for_any_crop_are_named_apart(tmp_path, caplog):
    for side in (60, 80, 100):
        Image.new("RGB", (side, side)).save(tmp_path / f"{side}.png")
    stages = (Stage(1e-3, 1, 64, steps=1), Stage(1e-3, 1, 96, steps=1))
    assert new_trainer(config(tmp_path, stages=stages, reductions=(1.0,))).pictures == 2
    assert caplog.messages == [
        f"less than 64 pixels a side, the smallest crops: {tmp_path / '60.png'} (60); left out",
        f"less than 96 pixels a side: {tmp_path / '80.png'} (80); left out of crops of that size",
    ]


def test_photographs_count_if_they_are_large_enough_at_any_scale(folder):
    """Those of ``folder`` hold 120 pixels a side, and half of it after a reduction by 2."""
    stages = (Stage(1e-3, 1, 100, steps=1),)
    assert new_trainer(config(folder, stages=stages, reductions=(1.0, 2.0))).pictures == 8


def test_validation_frames_are_the_same_every_time(folder):
    settings = config(folder, validation=(str(folder),))
    first, second = (Validation(settings, CPU, size=64, count=3) for _ in range(2))
    assert len(first.pairs) >= 3
    assert torch.equal(first.pairs[1].picture, second.pairs[1].picture)
    network = DeepISP(TINY)
    assert 5 < first.psnr(network) < 40
    assert first.sheet(network).size == (3 * 64, 64 * min(6, len(first.pairs)))
    mosaics = Validation(config(folder, validation=(str(folder),), network=LOW_ONLY, mosaic=MosaicOptions(),
                                stages=(Stage(1e-3, 1, 32, 1, parts="low"),)), CPU, size=64)  # fmt: skip
    noise = [(pairs.picture - pairs.target)[:, 0, ::2, ::2].std().item() for pairs in mosaics.pairs[:3]]
    assert noise == pytest.approx([0, 10 / 255, 20 / 255], rel=0.1)
    assert math.isnan(Validation(config(folder), CPU).psnr(network))


def test_a_run_goes_on_where_the_validation_pictures_are_missing(folder, tmp_path, caplog):
    settings = config(folder, validation=(str(folder), str(tmp_path / "elsewhere")))
    assert Validation(settings, CPU, size=64).pairs
    assert "elsewhere: is not there" in caplog.text


def test_folders_without_pictures_to_validate_on_are_told(folder, tmp_path):
    """A run would go on, and its log would say nothing of quality."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no pictures to validate on; name others"):
        Validation(config(folder, validation=(str(tmp_path / "empty"),)), CPU)
    assert Validation(config(folder, validation=(str(tmp_path / "empty"), str(folder))), CPU).pairs


@pytest.mark.parametrize("crop", [160, 200])
def test_photographs_smaller_than_the_crops_are_named(folder, tmp_path, caplog, crop):
    """Once; a crop that none of them holds is smaller."""
    small = tmp_path / "small"
    small.mkdir()
    for index in range(7):
        Image.new("RGB", (300, 90)).save(small / f"{index}.png")
    Image.new("RGB", (170, 161)).save(tmp_path / "large.png")
    stages = (Stage(1e-3, 1, 32, steps=1), Stage(1e-3, 1, crop, steps=1))
    trainer = new_trainer(config(small, photographs=(str(small), str(tmp_path)), stages=stages))
    (message,) = caplog.messages
    names = ", ".join(f"{small / f'{index}.png'} (90)" for index in range(5))
    if crop == 160:
        assert message == f"less than 160 pixels a side: {names}, 2 more; left out of crops of that size"
    else:
        expected = f"{names}, 3 more; none is as large, so crops have at most 160 pixels"
        assert message == f"less than 200 pixels a side: {expected}"
    trainer.advance_stage()
    assert trainer.draw().picture.shape == (1, 3, 160, 160)
    assert len(caplog.messages) == 1


def test_few_features_of_a_new_network_are_dead_in_dark_frames():
    """If filters have a mean, a third of the features are dead from the start, and training kills more."""
    grey = torch.full((4, 3, 64, 64), 90, dtype=torch.uint8)
    pairs = Synthesis(SynthesisOptions(exposure=(-3, -2)), torch.Generator().manual_seed(0))(grey)
    torch.manual_seed(0)
    network = DeepISP(NetworkConfig(fold=2, dilations=(1, 1, 2, 4, 2, 1), width=40))
    assert dead_features(network, [pairs.picture]) < 0.1
    with torch.no_grad():
        network.low[2].bias[:28] = -100
    assert dead_features(network, [pairs.picture]) > 1 / 6


@pytest.mark.parametrize(
    ("stage", "step", "share"),
    [
        (0, 0, 0.9),  # early steps count for more
        (0, 90, 0.09),
        (0, 10**6, 0.001),
        (1, 0, 0.9),  # the stage before has ended with a learning rate of 0, where both are the same
        (1, 90, 0.09),
        (1, 10**6, 0.001),
    ],
)
def test_the_averages_are_the_weights_of_a_stages_steps(folder, stage, step, share):
    stages = (Stage(2e-3, 4, 32, steps=6),) * 2
    trainer = new_trainer(config(folder, stages=stages, average_decay=0.999))
    for _ in range(stage):
        trainer.advance_stage()
    trainer.step = step
    before = [parameter.clone() for parameter in trainer.average.parameters()]
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter += 1
    trainer._update_average()
    for old, average in zip(before, trainer.average.parameters(), strict=True):
        torch.testing.assert_close(average, old + share)


def test_a_metered_network_is_trained_on_the_frame_as_it_is_metered(folder):
    metered = replace(TINY, metered=True)
    settings = config(folder, network=metered, restoration_weight=0.0, neutral_weight=1.0)
    trainer = new_trainer(replace(settings, synthesis=SynthesisOptions(exposure=(-1, -1))))
    pairs = trainer.sources[0](4, trainer.config.stages[0].crop)
    image, coefficients = trainer.network(pairs.picture, pad=True)
    gain = frame_gains(image, pairs.matrix)
    assert gain.min() > 1.2
    developed = to_picture(image, coefficients, pairs.matrix, gain)
    white = srgb_encode(gain.clamp(max=HEADROOM))
    expected = picture_loss(developed, pairs.target) + neutral_loss(coefficients, white)
    torch.testing.assert_close(trainer.loss(pairs), expected)
    identity = trainer.network.w0.reshape(1, 30, 1, 1).expand(4, 30, 1, 1)
    bright, dark = (
        srgb_decode(to_picture(frame, identity, pairs.matrix, frame_gains(frame, pairs.matrix)))
        for frame in (encode(0.4 * decode(pairs.clean)), encode(0.1 * decode(pairs.clean)))
    )
    torch.testing.assert_close(bright, 4 ** (1 - TRUST) * dark, atol=1e-3, rtol=0)


def test_the_meter_reads_the_restored_frame(folder):
    """Which a trained network makes another one."""
    settings = config(folder, network=replace(TINY, metered=True), restoration_weight=0.0)
    trainer = new_trainer(replace(settings, synthesis=SynthesisOptions(exposure=(-1, -1))))
    with torch.no_grad():
        trainer.network.low[-1].bias[-12:] = 0.5
    pairs = trainer.sources[0](4, 32)
    image, coefficients = trainer.network(pairs.picture, pad=True)
    gain = frame_gains(image, pairs.matrix)
    assert (frame_gains(pairs.picture, pairs.matrix) / gain - 1).abs().min() > 0.02
    expected = picture_loss(to_picture(image, coefficients, pairs.matrix, gain), pairs.target)
    torch.testing.assert_close(trainer.loss(pairs), expected)


def test_the_commands_refuse_what_cannot_work(tmp_path):
    recipe = tmp_path / "train.toml"
    recipe.write_text("[network]\nfold = 3\n")
    result = CliRunner().invoke(main, ["train", str(recipe)])
    assert result.exit_code == 2
    assert "train.toml" in result.output
    broken = tmp_path / "checkpoint.pt"
    broken.write_bytes(b"nothing")
    result = CliRunner().invoke(main, ["export", str(broken), str(tmp_path / "model")])
    assert result.exit_code == 4
    assert "is not a checkpoint" in result.output
    assert "weights_only" not in result.output  # torch's advice would run what is in the file
    assert not (tmp_path / "model").exists()


def test_weights_of_another_network_are_refused(folder, tmp_path):
    with pytest.raises(ModelError, match="another architecture"):
        train(config(folder), tmp_path / "run", device=CPU, initial=ROOT / "models" / "deepisp")
    assert not (tmp_path / "run").exists()
    low = new_trainer(config(folder, network=LOW_ONLY, stages=(Stage(1e-3, 4, 32, 1, parts="low"),)))
    with pytest.raises(ModelError, match=r"network\.high_blocks was 2, is 0"):
        low.load(train(config(folder), tmp_path / "run", device=CPU, steps=1))


def test_an_interrupted_run_says_so(folder, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("deepisp_cli.training.train.train", interrupt)
    recipe = str(ROOT / "models" / "deepisp" / "train.toml")
    result = CliRunner().invoke(main, ["train", recipe, "-o", str(tmp_path / "run")])
    assert result.exit_code == 130
    assert "interrupted" in result.output

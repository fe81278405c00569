"""One training step, and all that a run needs to continue as if it had not stopped."""

import logging
import math
import time
from copy import deepcopy
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepisp_cli.colour import fit_transform, srgb_encode
from deepisp_cli.errors import ModelError
from deepisp_cli.files import replace_file
from deepisp_cli.fused import fused_join, fused_join_works
from deepisp_cli.metering import expose
from deepisp_cli.network import DeepISP
from deepisp_cli.training.checkpoint import load_weights, read_checkpoint, read_config, read_weights
from deepisp_cli.training.config import LENGTHS, TrainConfig, differences
from deepisp_cli.training.growth import deepen, fits_into
from deepisp_cli.training.losses import (
    as_seen,
    colour_loss,
    neutral_loss,
    paper_loss,
    picture_loss,
    restoration_loss,
    structure_loss,
)
from deepisp_cli.training.optimiser import Muon
from deepisp_cli.training.sources import open_sources
from deepisp_cli.training.synthesis import Pairs, frame_gains, to_picture, to_srgb

log = logging.getLogger(__name__)
WARM_UP = 100  # steps until the learning rate is that of the stage
ADAM_SHARE = 0.1  # learning rate of biases and the fully connected layer, relative to the filters'


class Trainer:
    """The state of one run: network, average, optimisers, random generators, position.

    Raises
    ------
    InputError
        If there is nothing to train on.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        torch.backends.cudnn.benchmark = True  # finds the fastest convolutions for crops of one size
        self.config = config
        self.device = device
        layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format  # the faster one
        self.network = DeepISP(config.network).to(device, memory_format=layout)
        if fused_join_works(device, config.network.width):
            self.network.training_join = fused_join()
        self.average = deepcopy(self.network).eval().requires_grad_(False)
        self.generator = torch.Generator(device).manual_seed(config.seed)
        self.rng = np.random.default_rng(config.seed)  # which source a step draws from
        self.sources, self.shares = open_sources(config, self.generator)
        self.stage = 0
        self.step = 0  # within the stage
        self.elapsed = 0.0  # seconds of the stage
        self.total = 0  # steps of all stages
        self.history: list[dict[str, float]] = []
        self.lineage: list[dict[str, Any]] = []  # what the weights come from, oldest first
        self.optimisers = self._new_optimisers()

    def _new_optimisers(self) -> list[torch.optim.Optimizer]:
        """Muon for the filters, Adam for the biases and the fully connected layer."""
        stage = self.config.stages[self.stage]
        low, high = list(self.network.low), list(self.network.high)
        # only the high-level stage uses the features of the last block
        kept = low[:-1] if stage.parts == "high" else []
        for layer in low:
            layer.requires_grad_(layer not in kept)
        trained = [layer for layer in low + high if layer not in kept]
        filters = [layer.weight for layer in trained]
        others = [layer.bias for layer in trained]
        if self.config.network.high_blocks:
            others += self.network.head.parameters()
        rate = stage.learning_rate
        return [Muon(filters, rate), torch.optim.Adam(others, rate * ADAM_SHARE)]

    def advance_stage(self) -> bool:
        """Go to the next stage; False after the last."""
        if self.stage + 1 >= len(self.config.stages):
            return False
        self.stage += 1
        self.step, self.elapsed = 0, 0.0
        self.optimisers = self._new_optimisers()
        return True

    def progress(self) -> float:
        """Share of the stage that is done, by steps or by minutes."""
        stage = self.config.stages[self.stage]
        by_steps = self.step / stage.steps if stage.steps else 0.0
        by_minutes = self.elapsed / (60 * stage.minutes) if stage.minutes else 0.0
        return min(1.0, max(by_steps, by_minutes))

    @property
    def finished(self) -> bool:
        return self.stage + 1 == len(self.config.stages) and self.progress() >= 1

    @property
    def pictures(self) -> int:
        """How many pictures are trained on, each counted once."""
        return sum(len(source.sides) for source in self.sources)

    def set_w0(self, frames: int = 96) -> None:
        """W0: the median of the per-image least-squares transforms of noise-free frames, from each source
        its share. For real raws the network's restorations take their place: before training, the bilinear
        demosaic. They are as large as in the first stage that uses the transform: the light meter exposes
        small crops to highlights of their own."""
        if not self.config.network.high_blocks:
            return
        stages = self.config.stages[self.stage :]
        stage = next((stage for stage in stages if stage.parts != "low"), stages[0])
        fits = []
        for source, share in zip(self.sources, np.array(self.shares) / sum(self.shares), strict=True):
            left = max(1, round(frames * share))
            while left > 0:
                pairs = source(min(left, stage.batch), stage.crop)
                left -= len(pairs.target)
                clean = pairs.clean
                if clean is None:
                    with torch.no_grad():
                        clean = self.network.restore(pairs.picture, pad=True)[0]
                srgb = to_srgb(clean, pairs.matrix, self._gains(clean, pairs.matrix))
                fits += [
                    fit_transform(a.permute(1, 2, 0).cpu().numpy(), b.permute(1, 2, 0).cpu().numpy())
                    for a, b in zip(srgb, pairs.target, strict=True)
                ]
        w0 = torch.from_numpy(np.median(fits, axis=0)).flatten()
        self.network.w0.copy_(w0)
        self.average.w0.copy_(w0)

    def draw(self) -> Pairs:
        """The pairs of one step, all from one source."""
        stage = self.config.stages[self.stage]
        weights = np.array(self.shares) / sum(self.shares)
        source = self.sources[self.rng.choice(len(self.sources), p=weights)]
        return source(stage.batch, stage.crop)

    def train_step(self, pairs: Pairs | None = None) -> Tensor:
        """One optimiser step, on ``pairs`` or on pairs from the sources; returns the loss, on the device:
        fetching it would mean waiting for the step."""
        started = time.monotonic()
        stage = self.config.stages[self.stage]
        warm_up = min(1.0, (self.step + 1) / WARM_UP)
        schedule = warm_up * 0.5 * (1 + math.cos(math.pi * self.progress()))
        for optimiser, share in zip(self.optimisers, (1, ADAM_SHARE), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = stage.learning_rate * share * schedule
        loss = self.loss(self.draw() if pairs is None else pairs)
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        for part in filter(len, (self.network.low, self.network.high)):
            torch.nn.utils.clip_grad_norm_(part.parameters(), self.config.gradient_norm)
        for optimiser in self.optimisers:
            optimiser.step()
        self._update_average()
        self.step += 1
        self.total += 1
        self.elapsed += time.monotonic() - started
        return loss.detach()

    def loss(self, pairs: Pairs) -> Tensor:
        """The loss of one batch, by the stage's ``parts``.

        "low": the low-level stage alone, on the restored image; crops may be smaller than a cell.
        "separate": also the high-level stage, on the picture only, so that a wrong guess of the brightness
        does not push the restoration around. "joint": the picture's loss reaches both. "high": the
        restoration stays as it is.
        """
        config, stage = self.config, self.config.stages[self.stage]
        parts = stage.parts
        separate = parts in ("separate", "high")  # "low" does not use the features
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16):
            image, features = self.network.restore(
                pairs.picture, pad=True, separate=separate, blocks=stage.blocks
            )
            coefficients = self.network.coefficients(features, pad=True) if parts != "low" else None
        restoration = image.new_zeros(()) if parts == "high" else self._restoration_loss(image, pairs)
        if coefficients is None:
            return restoration
        gain = self._gains(image, pairs.matrix)
        image = image.detach() if separate else image
        developed = to_picture(image, coefficients.float(), pairs.matrix, gain)
        white = 1.0 if gain is None else srgb_encode(expose(torch.ones_like(gain), gain))
        neutral = config.neutral_weight * neutral_loss(coefficients.float(), white)
        if config.picture_loss == "lab":
            finished = paper_loss(developed, pairs.target, config.structure_weight)
        else:
            finished = picture_loss(developed, pairs.target)
        return finished + neutral + restoration

    def _restoration_loss(self, image: Tensor, pairs: Pairs) -> Tensor:
        """The low-level stage's part of the loss. (0 for real raws: their noise-free frame is not known.)"""
        config = self.config
        loss = restoration_loss(image, pairs, config.restoration_scales, config.restoration_norm)
        if pairs.clean is not None and (config.restoration_structure or config.restoration_colour):
            ours, theirs = as_seen(image, pairs), as_seen(pairs.clean, pairs)
            if config.restoration_structure:
                loss = loss + config.restoration_structure * structure_loss(ours, theirs)
            if config.restoration_colour:
                loss = loss + config.restoration_colour * colour_loss(ours, theirs)
        return config.restoration_weight * loss

    def _gains(self, image: Tensor, matrix: Tensor) -> Tensor | None:
        return frame_gains(image, matrix) if self.config.network.metered else None

    @property
    def _bfloat16(self) -> bool:
        precision = self.config.precision
        return precision == "bfloat16" or (precision == "auto" and self.device.type == "cuda")

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.average_decay, (1 + self.step) / (10 + self.step))
        averages, values = list(self.average.parameters()), list(self.network.parameters())
        torch._foreach_lerp_(averages, values, 1 - decay)  # one kernel, as torch's own optimisers do it

    def save(self, path: Path) -> None:
        """Replace the checkpoint at ``path`` in one step: a kill leaves the old one or the new one.

        Raises
        ------
        ModelError
            If the run has diverged. The old checkpoint stays.
        """
        if not all(bool(each.isfinite().all()) for each in self.average.parameters()):
            raise ModelError(
                f"{path}: the run has diverged, its weights are no longer numbers; nothing was saved since"
                " they were: lower the learning rate, or resume from the last checkpoint"
            )
        state = {
            "config": asdict(self.config),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "generator": self.generator.get_state(),
            "rng": self.rng.bit_generator.state,
            "position": [self.stage, self.step, self.elapsed, self.total],
            "history": self.history,
            "lineage": self.lineage,
        }
        contents = BytesIO()  # for a file on a full disk torch raises an error that does not say so
        torch.save(state, contents)
        replace_file(path, contents.getvalue())

    def start_from(self, path: Path) -> None:
        """Start from the weights of a model folder, or from the averaged ones of another run's checkpoint.

        A network that has fewer low-level blocks is made deeper (see `growth`). A transform that differs
        (for frames that are metered differently, or none) starts afresh.

        Raises
        ------
        ModelError
            If the low-level stage differs, or is one that this version does not know; or if a stage is to
            train the first blocks alone, and later ones are trained already.
        """
        weights, network, self.lineage = read_weights(path, self.device)
        ours = self.config.network
        theirs = replace(network, high_blocks=ours.high_blocks, metered=ours.metered)
        if not fits_into(theirs, ours):
            raise ModelError(
                f"{path}: holds a network of another architecture;"
                " [network] needs its fold, its width and its dilations, or these with more at one place"
            )
        weights = deepen(weights, theirs, ours)
        for blocks in filter(None, (stage.blocks for stage in self.config.stages)):
            places = range(blocks, len(ours.dilations))
            if any(weights[f"low.{place}.weight"][-ours.image_channels :].any() for place in places):
                raise ModelError(
                    f"{path}: its blocks after the first {blocks} are trained, and would correct twice what a"
                    " stage teaches the first ones; leave out blocks from the stages"
                )
        network = replace(network, dilations=ours.dilations)
        if network != ours:
            new = self.network.state_dict()
            kept = [name for name in weights if name in new and name.startswith(("low.", "high."))]
            weights = {**new, **{name: weights[name] for name in kept}}
        self.network.load_state_dict(weights)
        self.average.load_state_dict(weights)
        if network != ours:
            self.set_w0()

    def load(self, path: Path) -> None:
        """Continue from the checkpoint at ``path``.

        Raises
        ------
        ModelError
            If the run began with another configuration. Its data may be another; a stage's length, too, of
            which a line in the log tells.
        """
        state = read_checkpoint(path, self.device)
        began = read_config(path, state)
        self.stage, self.step, self.elapsed, self.total = state["position"]
        self._compare(path, began)
        load_weights(self.average, state["average"], path)
        try:
            load_weights(self.network, state["network"], path)
            self.optimisers = self._new_optimisers()
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
            self.generator.set_state(state["generator"].cpu())
            self.rng.bit_generator.state = state["rng"]
            self.history = state["history"]
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"{path}: does not go on with these stages on this device ({error});"
                f" train into another folder with --initial {path}"
            ) from error
        self.lineage = state.get("lineage", [])

    def _compare(self, path: Path, began: TrainConfig) -> None:
        """Refuse a configuration that would make another run of this one; warn of another length."""
        changes = {
            key: f"{key} was {_shown(then)}, is {_shown(now)}"
            for key, (then, now) in differences(began, self.config).items()
        }
        refused = [text for key, text in changes.items() if key.split(": ")[-1] not in LENGTHS]
        if refused:
            raise ModelError(
                f"{path}: the run began with another configuration ({'; '.join(refused)}); change it back,"
                f" or train into another folder with --initial {path}"
            )
        for key, text in changes.items():
            over = int(key.split()[1].rstrip(":")) <= self.stage
            effect = "that stage is over, so it changes nothing" if over else "it goes on with this one"
            log.warning("%s: the run began with another length (%s); %s", path, text, effect)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_shown, value))}]"  # as in TOML
    return "not there" if value is None else repr(value)

"""Train a model from one TOML: ``python -m deepisp_cli.training.train models/deepisp/train.toml``.

Bounded per stage by steps or minutes, whichever comes first. The checkpoint is replaced atomically and holds
all that a resumed run needs to go on as if it had not stopped.
"""

import csv
import logging
import math
import os
import sys
import time
from copy import deepcopy
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from deepisp_cli.colour import fit_transform
from deepisp_cli.network import DeepISP, NetworkConfig
from deepisp_cli.training.losses import picture_loss, restoration_loss
from deepisp_cli.training.photographs import Photographs, list_photographs, load_photograph
from deepisp_cli.training.synthesis import Pairs, Synthesis, SynthesisOptions, to_picture, to_srgb

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """One leg of training with a cosine learning rate of its own."""

    learning_rate: float
    batch: int  # crops a step
    crop: int  # pixels a side
    steps: int = 10**9
    minutes: float = math.inf
    parts: str = "separate"  # see `Trainer.loss`: "separate", "joint" or "high"


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a model, as read from its TOML."""

    network: NetworkConfig
    synthesis: SynthesisOptions
    stages: tuple[Stage, ...]
    photographs: tuple[str, ...]  # folders
    validation: tuple[str, ...] = ()  # folders
    reductions: tuple[float, ...] = (1.0, 1.41, 2.0, 2.83, 4.0)
    restoration_weight: float = 0.5
    average_decay: float = 0.999  # of the exponential moving average of the weights
    gradient_norm: float = 0.5
    seed: int = 0


def load_config(path: Path) -> TrainConfig:
    """Read a TOML; an unknown key is a `TypeError` that names it."""
    data = tomllib.loads(path.read_text("utf-8"))
    return config_from_dict(data)


def config_from_dict(data: dict[str, Any]) -> TrainConfig:
    """A `TrainConfig` from plain lists, tables and numbers; the inverse of ``asdict``."""
    data = dict(data)
    network = NetworkConfig(**_tuples(data.pop("network")))
    synthesis = SynthesisOptions(**_tuples(data.pop("synthesis", {})))
    stages = tuple(Stage(**stage) for stage in data.pop("stages"))
    return TrainConfig(network=network, synthesis=synthesis, stages=stages, **_tuples(data))


def _tuples(table: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


class Trainer:
    """The state of one run: network, average, optimiser, random generators, position."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.device = device
        self.network = DeepISP(config.network).to(device)
        self.average = deepcopy(self.network).eval().requires_grad_(False)
        self.generator = torch.Generator(device).manual_seed(config.seed)
        self.rng = np.random.default_rng(config.seed)
        self.synthesis = Synthesis(config.synthesis, self.generator)
        self.stage = 0
        self.step = 0  # of the stage
        self.elapsed = 0.0  # seconds of the stage
        self.history: list[dict[str, float]] = []
        self.optimiser = self._new_optimiser()

    def _new_optimiser(self) -> torch.optim.Optimizer:
        stage = self.config.stages[self.stage]
        low, high = list(self.network.low), [*self.network.high, self.network.head]
        if stage.parts == "high":
            high.append(low.pop())  # the features of the last block serve the high-level stage alone
            for layer in low:
                layer.requires_grad_(False)
        parts = [high, low] if stage.parts != "high" else [high]
        groups = [{"params": [p for layer in part for p in layer.parameters()]} for part in parts]
        return torch.optim.Adam(groups, lr=stage.learning_rate)

    def advance_stage(self) -> bool:
        """Go to the next stage; False after the last."""
        if self.stage + 1 >= len(self.config.stages):
            return False
        self.stage += 1
        self.step, self.elapsed = 0, 0.0
        self.optimiser = self._new_optimiser()
        return True

    def progress(self) -> float:
        """Share of the stage that is done, by steps or by minutes."""
        stage = self.config.stages[self.stage]
        return min(1.0, max(self.step / stage.steps, self.elapsed / (stage.minutes * 60)))

    def set_w0(self, photographs: Photographs, frames: int = 96) -> None:
        """W0: the median of the per-image least-squares transforms of noise-free frames."""
        pairs = self.synthesis(photographs.crops(frames, self.config.stages[0].crop, self.rng))
        srgb = to_srgb(pairs.clean, pairs.matrix)
        fits = [
            fit_transform(a.permute(1, 2, 0).cpu().numpy(), b.permute(1, 2, 0).cpu().numpy())
            for a, b in zip(srgb, pairs.target, strict=True)
        ]
        w0 = torch.from_numpy(np.median(fits, axis=0)).flatten()
        self.network.w0.copy_(w0)
        self.average.w0.copy_(w0)

    def train_step(self, photographs: Photographs) -> float:
        """One optimiser step; returns the loss."""
        started = time.monotonic()
        stage = self.config.stages[self.stage]
        warm_up = min(1.0, (self.step + 1) / 100)
        rate = stage.learning_rate * warm_up * 0.5 * (1 + math.cos(math.pi * self.progress()))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        pairs = self.synthesis(photographs.crops(stage.batch, stage.crop, self.rng))
        loss = self.loss(pairs)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for group in self.optimiser.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], self.config.gradient_norm)
        self.optimiser.step()
        self._update_average()
        self.step += 1
        self.elapsed += time.monotonic() - started
        return loss.item()

    def loss(self, pairs: Pairs) -> torch.Tensor:
        """The loss of one batch, by the stage's ``parts``.

        "separate": the low-level stage answers for the restored image only, the high-level stage for the
        picture only. A wrong guess of the brightness then does not push the restoration about.
        "joint": the picture's loss reaches both. "high": the restoration is kept as it is.
        """
        parts = self.config.stages[self.stage].parts
        picture = pairs.picture.contiguous(memory_format=torch.channels_last)
        separate = parts != "joint"
        image, features = self.network.restore(picture, pad=True, separate=separate)
        restoration = restoration_loss(image.detach() if parts == "high" else image, pairs)
        coefficients = self.network.coefficients(features, pad=True)
        developed = to_picture(image.detach() if separate else image, coefficients, pairs.matrix)
        return picture_loss(developed, pairs.target) + self.config.restoration_weight * restoration

    @torch.no_grad()
    def _update_average(self) -> None:
        steps = self.step if self.stage == 0 else 10**9
        decay = min(self.config.average_decay, (1 + steps) / (10 + steps))
        for average, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
            average.lerp_(value, 1 - decay)

    def save(self, path: Path) -> None:
        """Replace the checkpoint at ``path`` in one step."""
        state = {
            "config": asdict(self.config),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "rng": self.rng.bit_generator.state,
            "position": [self.stage, self.step, self.elapsed],
            "history": self.history,
        }
        temporary = path.with_suffix(".part")
        torch.save(state, temporary)
        os.replace(temporary, path)

    def start_from(self, path: Path) -> None:
        """Begin with the weights of another run's checkpoint."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["average"])
        self.average.load_state_dict(state["average"])

    def load(self, path: Path) -> None:
        """Continue from the checkpoint at ``path``."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.stage, self.step, self.elapsed = state["position"]
        self.optimiser = self._new_optimiser()
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"].cpu())
        self.rng.bit_generator.state = state["rng"]
        self.history = state["history"]


class Validation:
    """The middle of each validation photograph as one fixed low-light frame."""

    def __init__(self, folders: list[Path], device: torch.device, size: int = 320, count: int = 12) -> None:
        self.pairs: list[Pairs] = []
        files = list_photographs(folders)
        files = files[:: max(1, len(files) // count)][:count]
        for seed, path in enumerate(files):
            picture = np.asarray(load_photograph(path))
            top, left = (picture.shape[0] - size) // 2, (picture.shape[1] - size) // 2
            crop = np.ascontiguousarray(picture[top : top + size, left : left + size].transpose(2, 0, 1))
            shot = (0.002, 0.006, 0.015)[seed % 3]
            options = SynthesisOptions(
                exposure=(-2, -2), shot_noise=(shot, shot), inverse_tone=(0, 0), highlight_share=0
            )
            generator = torch.Generator(device).manual_seed(seed)
            self.pairs.append(Synthesis(options, generator)(torch.from_numpy(crop)[None]))

    @torch.no_grad()
    def psnr(self, network: DeepISP) -> float:
        """Mean PSNR in dB of the finished pictures, not quantised."""
        values = []
        for pairs in self.pairs:
            image, coefficients = network(pairs.picture, pad=True)
            picture = to_picture(image, coefficients, pairs.matrix).clamp(0, 1)
            values.append(-10 * math.log10(float((picture - pairs.target).square().mean())))
        return float(np.mean(values)) if values else math.nan


@torch.no_grad()
def dead_features(network: DeepISP, pictures: list[torch.Tensor]) -> float:
    """Share of the low-level stage's features that are zero everywhere in ``pictures``: they cannot learn."""
    count = network.config.width - network.config.image_channels
    alive: dict[int, torch.Tensor] = {}

    def remember(index: int, output: torch.Tensor) -> None:
        active = (output[:, :count] > 0).any(0).flatten(1).any(1)
        alive[index] = active | alive.get(index, torch.zeros_like(active))

    hooks = [
        layer.register_forward_hook(lambda _, __, output, index=index: remember(index, output))
        for index, layer in enumerate(network.low)
    ]
    for picture in pictures:
        network.restore(picture, pad=True)
    for hook in hooks:
        hook.remove()
    return 1 - float(torch.stack(list(alive.values())).float().mean()) if alive else math.nan


def train(
    config: TrainConfig, folder: Path, *, resume: bool, device: torch.device, initial: Path | None = None
) -> Path:
    """Train to the end of the last stage; returns the checkpoint's path."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    trainer = Trainer(config, device)
    smallest = min(stage.crop for stage in config.stages)
    photographs = Photographs([Path(p) for p in config.photographs], list(config.reductions), smallest)
    validation = Validation([Path(p) for p in config.validation], device)
    if resume and checkpoint.exists():
        trainer.load(checkpoint)
        log.info("resumed at stage %d, step %d", trainer.stage + 1, trainer.step)
    elif initial:
        trainer.start_from(initial)
    else:
        trainer.set_w0(photographs)

    saved = time.monotonic()
    losses: list[float] = []
    while True:
        while trainer.progress() < 1:
            losses.append(trainer.train_step(photographs))
            if trainer.step % 200 == 0:
                _report(trainer, float(np.mean(losses)), validation, folder / "log.csv")
                losses.clear()
            if time.monotonic() - saved > 120:
                trainer.save(checkpoint)
                saved = time.monotonic()
        trainer.save(checkpoint)
        if not trainer.advance_stage():
            return checkpoint


def _report(trainer: Trainer, loss: float, validation: Validation, path: Path) -> None:
    row = {
        "stage": trainer.stage + 1,
        "step": trainer.step,
        "minutes": round(trainer.elapsed / 60, 2),
        "progress": round(trainer.progress(), 4),
        "loss": round(loss, 5),
        "psnr": round(validation.psnr(trainer.average), 3),
        "dead": round(dead_features(trainer.average, [pairs.picture for pairs in validation.pairs[:3]]), 3),
    }
    trainer.history.append(row)
    log.info("  ".join(f"{key} {value}" for key, value in row.items()))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerows(trainer.history)


@click.command()
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the checkpoint [runs/NAME].")
@click.option("--photographs", multiple=True, help="Folder of photographs, in place of the configuration's.")
@click.option("--validation", multiple=True, help="Folder to validate on, in place of the configuration's.")
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint.")
@click.option(
    "--initial", type=click.Path(exists=True, path_type=Path), help="Checkpoint to take weights from."
)
def main(
    config: Path, out: Path | None, photographs: tuple[str, ...], validation: tuple[str, ...], device: str,
    resume: bool, initial: Path | None,
) -> None:  # fmt: skip
    """Train the model that CONFIG (a TOML) describes."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = load_config(config)
    given = {"photographs": photographs, "validation": validation}
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    settings = TrainConfig(**{**values, **{key: value for key, value in given.items() if value}})
    folder = out or Path("runs") / config.parent.name
    train(settings, folder, resume=resume, device=torch.device(device),
          initial=initial)  # fmt: skip


if __name__ == "__main__":
    main()

"""How far to trust the brightness of a frame, over what a model is trained on.

    python benchmarks/metering.py CONFIG [--frames N]

Draws noise-free frames as training does, exposes them by a light meter that looks at something else, with
another trust and level, each time and prints the mean difference (of sRGB, 0 to 1) from the photographs:
without any transform, so that only the brightness counts. The level is the one that fits each trust best.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import click
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deepisp_cli.metering import MOST
from deepisp_cli.training.config import load_config
from deepisp_cli.training.synthesis import Pairs, to_linear, to_srgb
from deepisp_cli.training.trainer import Trainer

BATCH = 12
TRUSTS = (0.0, 0.5, 0.65, 0.8, 0.88, 1.0)
METERS: dict[str, Callable[[Tensor], Tensor]] = {  # of linear sRGB (N, 3, H, W), not below 0
    "mean": lambda linear: linear.mean((1, 2, 3)),
    "root mean square": lambda linear: linear.square().mean((1, 2, 3)).sqrt(),
    "98 % quantile": lambda linear: torch.quantile(linear.amax(1).flatten(1), 0.98, 1),
    "99.5 % quantile": lambda linear: torch.quantile(linear.amax(1).flatten(1), 0.995, 1),
    "99.9 % quantile": lambda linear: torch.quantile(linear.amax(1).flatten(1), 0.999, 1),
}


@click.command(help=__doc__.split("\n")[0])
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--frames", type=click.IntRange(min=12), default=300, show_default=True)
def main(config: Path, frames: int) -> None:
    trainer = Trainer(load_config(config), torch.device("cpu"))
    trainer.stage = len(trainer.config.stages) - 1  # whose crops are scenes, not patches
    batches = [trainer.draw(BATCH) for _ in range(-(-frames // BATCH))]
    for name, look in METERS.items():
        brightness = [look(to_linear(pairs.clean, pairs.matrix).clamp(min=0)) + 1e-6 for pairs in batches]
        middle = torch.cat(brightness).median()
        for trust in TRUSTS:
            errors = {}
            for stops in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0):  # the gain of a frame of median brightness
                gains = [(2**stops * (middle / b) ** trust).clip(1, MOST) for b in brightness]
                errors[stops] = torch.stack(list(map(_error, batches, gains))).mean().item()
            best = min(errors, key=errors.get)
            level = middle * 2 ** (best / trust) if trust else float("nan")
            click.echo(f"{name:16}  trust {trust:.2f}, level {level:.2f}: {errors[best]:.4f}")


def _error(pairs: Pairs, gain: Tensor) -> Tensor:
    return (to_srgb(pairs.clean, pairs.matrix, gain).clamp(0, 1) - pairs.target).abs().mean()


if __name__ == "__main__":
    main()

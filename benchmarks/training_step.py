"""Where the time of a training step goes: drawing pairs, and the network with its loss and optimiser.

    python benchmarks/training_step.py CONFIG [--photographs FOLDER]... [--device cuda] [--steps N]

Prints, for each stage of the configuration, the median seconds of both and the share outside the network.
"""

import statistics
import time
from pathlib import Path

import click
import torch
from script import run_script

from deepisp_cli.training.config import load_config, on_photographs
from deepisp_cli.training.device import open_device
from deepisp_cli.training.trainer import Trainer

WARM_UP = 3  # uncounted steps


@click.command(help=__doc__.split("\n")[0])
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--photographs", multiple=True, help="Folder, in place of the configuration's.")
@click.option("--device", default="auto", show_default=True)
@click.option(
    "--steps", default=20, show_default=True, type=click.IntRange(min=1), help="Counted steps of each stage."
)
def main(config: Path, photographs: tuple[str, ...], device: str, steps: int) -> None:
    settings = load_config(config)
    settings = on_photographs(settings, photographs) if photographs else settings
    trainer = Trainer(settings, open_device(device))
    more = True
    while more:
        seconds = [_step(trainer) for _ in range(WARM_UP + steps)][WARM_UP:]
        draw, network = (statistics.median(column) for column in zip(*seconds, strict=True))
        stage = settings.stages[trainer.stage]
        click.echo(
            f"stage {trainer.stage + 1} ({stage.parts}, {stage.batch} x {stage.crop}²): drawing {draw:.4f} s,"
            f" network {network:.4f} s, outside the network {draw / (draw + network):.1%}"
        )
        more = trainer.advance_stage()


def _step(trainer: Trainer) -> tuple[float, float]:
    started = _now(trainer.device)
    pairs = trainer.draw()
    drawn = _now(trainer.device)
    trainer.train_step(pairs)
    return drawn - started, _now(trainer.device) - drawn


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    run_script(main)

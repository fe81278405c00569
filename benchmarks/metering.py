"""How well each statistic of a frame predicts the exposure of its raw: its error, in stops.

    python benchmarks/metering.py FOLDER...

Photographs, whole but reduced, get part of their tone curve undone and a random exposure of -4 to +0.5 EV,
clipped at white. For each statistic a line from its logarithm to the exposure is fitted on six sevenths of
the photographs and judged on the rest, in turn. Prints the error (root mean square and median, EV), the
slope (the trust of `metering`) and the level at which a frame is left as it is.
"""

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from script import run_script

from deepisp_cli.colour import LUMINANCE
from deepisp_cli.training.pictures import list_photographs, load_all, load_photograph
from deepisp_cli.training.synthesis import Synthesis, SynthesisOptions, srgb_decode

SIDE = 384  # pixels of the longer side
FRAMES = 12  # per photograph
FOLDS = 7


def quantile(share: float) -> Callable[[np.ndarray], float]:
    return lambda linear: np.quantile(linear.max(-1), share)


METERS: dict[str, Callable[[np.ndarray], float]] = {  # each takes linear sRGB (H, W, 3)
    "mean": np.mean,
    "root mean square": lambda linear: np.sqrt(np.square(linear).mean()),
    "median": lambda linear: np.median(linear @ LUMINANCE),
    **{f"{100 * share:g} % quantile": quantile(share) for share in (0.95, 0.98, 0.995, 0.998, 0.999, 0.9995)},
}


@click.command(help=__doc__.split("\n")[0])
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
def main(folders: tuple[Path, ...]) -> None:
    rng = np.random.default_rng(0)
    synthesis = Synthesis(SynthesisOptions(), torch.Generator().manual_seed(0))
    found, exposures, numbers = [], [], []
    for number, picture in enumerate(load_all(list_photographs(folders), load_photograph)):
        picture.thumbnail((SIDE, SIDE))
        target = torch.from_numpy(np.asarray(picture, np.float32) / 255).permute(2, 0, 1)[None]
        for _ in range(FRAMES):
            light = synthesis.unrender(srgb_decode(target))[0]
            exposure = rng.uniform(-4, 0.5)
            frame = np.minimum(light.numpy().transpose(1, 2, 0) * 2**exposure, 1)
            found.append([np.log2(look(frame) + 1e-4) for look in METERS.values()])
            exposures.append(exposure)
            numbers.append(number)
    exposure, fold = np.array(exposures), np.array(numbers) % FOLDS
    click.echo(f"{'no meter':17} {exposure.std():.2f} EV")
    for name, stops in zip(METERS, np.array(found).T, strict=True):
        error = np.empty_like(exposure)
        for kept in range(FOLDS):
            aside = fold == kept
            line = np.polyfit(stops[~aside], exposure[~aside], 1)
            error[aside] = np.polyval(line, stops[aside]) - exposure[aside]
        slope, offset = np.polyfit(stops, exposure, 1)
        spread = np.sqrt(np.square(error).mean())
        half = np.median(np.abs(error))
        level = 2 ** (-offset / slope)
        click.echo(
            f"{name:17} {spread:.2f} EV, half within {half:.2f} EV, trust {slope:.2f}, level {level:.2f}"
        )


if __name__ == "__main__":
    run_script(main)

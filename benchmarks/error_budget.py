"""Where the error of a finished picture comes from: exposure, transform or restoration.

    python benchmarks/error_budget.py FOLDER [--model NAME|DIR] [--engine ENGINE] [--limit N]

Develops the raws of `deepisp evaluate lowlight` with parts of the pipeline replaced by the truth. Prints mean
PSNR and SSIM of the picture as it is; without the S-curve of its look; then also with the exposure that suits
it best; without the transform, as metered and as truly exposed; and after the best transform. At the end, by
how many stops the meter is off.
"""

from collections import defaultdict
from pathlib import Path

import click
import numpy as np
from script import run_script

from deepisp_cli import ENGINES
from deepisp_cli.colour import fit_transform
from deepisp_cli.engine import open_engine
from deepisp_cli.evaluation import metrics
from deepisp_cli.evaluation.benchmarks import Settings, eight_bit
from deepisp_cli.evaluation.photographs import LowLight
from deepisp_cli.look import develop_colour, frame_gain
from deepisp_cli.models import find_model
from deepisp_cli.options import Options
from deepisp_cli.pipeline import prepare
from deepisp_cli.tiling import run_tiled

IDENTITY = np.eye(3, 10, dtype=np.float32)
STOPS = np.arange(-1.5, 1.51, 0.1)  # around the meter's exposure


@click.command(help=__doc__.split("\n")[0])
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", default="deepisp", show_default=True, metavar="NAME|DIR")
@click.option("--engine", "kind", type=click.Choice(ENGINES), default="auto", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="Take N photographs.")
def main(folder: Path, model: str, kind: str, limit: int | None) -> None:
    engine = open_engine(find_model(model), kind)
    true_gain = 2.0**-LowLight.exposure
    found = defaultdict(list)
    stops = []
    for case in LowLight(folder, Settings(limit=limit)).cases():
        frame = prepare(case.input, Options())
        image, transform = run_tiled(engine, frame.picture, frame.origin)
        target = case.truth.astype(np.float32) / 255
        gain = frame_gain(image, frame.matrix) if engine.model.metered else 1.0

        def finished(gain, transform, contrast=0.0, image=image, matrix=frame.matrix):  # type: ignore[no-untyped-def]
            return np.clip(develop_colour(image, matrix, transform, 0.0, gain, contrast), 0, 1)

        tried = [gain * 2**step for step in STOPS]
        best = min(tried, key=lambda one: float(np.square(finished(one, transform) - target).mean()))
        exposed = finished(true_gain, IDENTITY)
        fitted = fit_transform(exposed, target)
        for name, picture in {
            "as it is": finished(gain, transform, engine.model.contrast),
            "no S-curve": finished(gain, transform),
            "with the best exposure": finished(best, transform),
            "no transform, as metered": finished(gain, IDENTITY),
            "no transform, as truly exposed": exposed,
            "the best transform": finished(true_gain, fitted),
        }.items():
            picture = eight_bit(picture)
            found[name].append([measure(picture, case.truth) for measure in (metrics.psnr, metrics.ssim)])
        stops.append(np.log2(gain / true_gain))
    for name, values in found.items():
        psnr, ssim = np.mean(values, 0)
        click.echo(f"{name:32}{psnr:6.2f} dB  {ssim:.3f}")
    if engine.model.metered:
        click.echo(f"the meter is off by {np.mean(stops):+.2f} EV on the mean, spread {np.std(stops):.2f} EV")


if __name__ == "__main__":
    run_script(main)

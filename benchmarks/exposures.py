"""How well a model holds brightness, grey, white and detail from -4 EV to +0.5 EV.

    python benchmarks/exposures.py FOLDER [--model NAME|DIR] [--engine ENGINE] [--limit N]

Photographs become raws of cameras that training never saw, with little noise. Prints for each exposure: how
much brighter the result is than the photograph (L of Lab, mean of a picture: mean and worst over the
pictures), the largest chroma of a grey ramp's levels, of the same in the raw (in linear light, exposed fully:
the effect of noise) and of the ramp's blocks, and the darkest value of a window 8 times as bright as white.
At the end, the matched PSNR of raws without noise at 0 EV, and by how much the mean colour of a picture
changes (CIEDE2000) if the scene has eight times as many pixels, as from 3 to 24 megapixels, at -2 EV.
"""

from pathlib import Path

import click
import numpy as np
from PIL import Image
from script import raw_of, run_script
from skimage.color import deltaE_ciede2000, rgb2lab

from deepisp_cli import ENGINES
from deepisp_cli.colour import decode, srgb_encode
from deepisp_cli.engine import Engine, open_engine
from deepisp_cli.evaluation.baselines import developed
from deepisp_cli.evaluation.metrics import matched_psnr
from deepisp_cli.evaluation.photographs import find_photographs, load_even
from deepisp_cli.models import find_model
from deepisp_cli.options import Options
from deepisp_cli.pipeline import prepare

EXPOSURES = (0.5, 0.0, -1.0, -2.0, -3.0, -4.0)  # EV
SHOT_NOISE = 5e-4  # its variance per unit of signal, white being 1: a low ISO
RAMP = np.repeat(np.geomspace(0.01, 0.9, 384), 256).reshape(384, 256).T[..., None] * np.ones(3)


@click.command(help=__doc__.split("\n")[0])
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", default="deepisp", show_default=True, metavar="NAME|DIR")
@click.option("--engine", "kind", type=click.Choice(ENGINES), default="auto", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="Take N photographs.")
def main(folder: Path, model: str, kind: str, limit: int | None) -> None:
    engine = open_engine(find_model(model), kind)
    photographs = [load_even(path) for _, path in find_photographs(folder, limit)]
    click.echo("EV    dL mean  dL worst  chroma: level  in the raw  block  darkest white")
    for exposure in EXPOSURES:
        brighter = [_lightness(_develop(engine, photograph, exposure, index)) - _lightness(photograph)
                    for index, photograph in enumerate(photographs)]  # fmt: skip
        level, block = _grey_chroma(_develop(engine, RAMP, exposure, 0))
        mean, worst, white = np.mean(brighter), max(brighter, key=abs), _window(engine, exposure)
        click.echo(
            f"{exposure:+4.1f}  {mean:+7.1f}  {worst:+8.1f}  {level:13.1f}  {_noise_chroma(exposure):10.1f}"
            f"  {block:5.1f}  {white:13d}"
        )
    clean = [matched_psnr(_develop(engine, photograph, 0.0, index, shot=1e-7), photograph)
             for index, photograph in enumerate(photographs)]  # fmt: skip
    changes = [_change_with_size(engine, photograph, index) for index, photograph in enumerate(photographs)]
    click.echo(f"without noise: matched PSNR {np.mean(clean):.1f} dB on the mean, {min(clean):.1f} at worst")
    click.echo(f"eight times the pixels: colour {np.mean(changes):.1f} dE off, {max(changes):.1f} at worst")


def _grey_chroma(ramp: np.ndarray) -> tuple[float, float]:
    """The largest chroma of the mean of any level of `RAMP`, and of any block."""
    blocks = rgb2lab(ramp)[..., 1:].reshape(16, 16, 24, 16, 2).mean((1, 3))
    return tuple(float(np.linalg.norm(part, axis=-1).max()) for part in (blocks.mean(0), blocks))


def _change_with_size(engine: Engine, photograph: np.ndarray, index: int) -> float:
    """CIEDE2000 between the mean colours of one scene with few and with many pixels."""
    small = Image.fromarray(photograph)
    large = small.resize([int(side * 8**0.5) // 2 * 2 for side in small.size], Image.Resampling.LANCZOS)
    means = [
        rgb2lab(_develop(engine, np.asarray(scene), -2.0, index)).mean((0, 1)) for scene in (small, large)
    ]
    return float(deltaE_ciede2000(*means))


def _develop(
    engine: Engine, scene: np.ndarray, exposure: float, index: int, shot: float = SHOT_NOISE
) -> np.ndarray:
    """What the model makes of a scene: sRGB uint8 or linear light, (H, W, 3)."""
    with raw_of(scene, exposure, shot, np.random.default_rng(index), index) as raw:
        return developed(engine)(raw)


def _noise_chroma(exposure: float) -> float:
    """The largest chroma of the mean of any level of `RAMP` in the raw."""
    with raw_of(RAMP, exposure, SHOT_NOISE, np.random.default_rng(0)) as raw:
        frame = prepare(raw, Options())
    linear = decode(frame.picture) @ frame.matrix.T * np.float32(2.0**-exposure)
    levels = rgb2lab(srgb_encode(linear.reshape(256, 24, 16, 3).mean((0, 2))))
    return float(np.linalg.norm(levels[:, 1:], axis=-1).max())


def _lightness(picture: np.ndarray) -> float:
    return float(rgb2lab(picture)[..., 0].mean())


def _window(engine: Engine, exposure: float) -> int:
    """The darkest value inside a window of 8 times white in a grey room."""
    room = np.full((256, 256, 3), 0.1)
    room[64:192, 64:192] = 8.0
    return int(_develop(engine, room, exposure, 0)[80:176, 80:176].min())


if __name__ == "__main__":
    run_script(main)

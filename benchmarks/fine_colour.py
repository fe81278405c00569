"""How much of their colour fine dots and lines keep, by their width and the noise.

    python benchmarks/fine_colour.py [--model NAME|DIR]... [--engine ENGINE]

Scenes of vivid discs and upright lines on grey, antialiased, as raws of a camera that training never saw,
exposed fully and developed with the neutral look. Prints the share that stays of the colour differences R - G
and B - G, in linear light, summed around each: 1 is all of it, 0 is grey. For comparison also that of the
bilinear demosaic alone.
"""

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from script import raw_of, run_script

from deepisp_cli import ENGINES
from deepisp_cli.colour import decode, srgb_decode
from deepisp_cli.engine import Engine, open_engine
from deepisp_cli.models import find_model
from deepisp_cli.options import Options
from deepisp_cli.pipeline import develop_array, prepare

SIDE, STEP, HALF = 320, 20, 6  # pixels of the scene, between two shapes, and to each side of a shape
FINER = 8  # drawn pixels per pixel
GREY = 0.18
COLOURS = ((0.8, 0.1, 0.1), (0.1, 0.6, 0.1), (0.1, 0.15, 0.8), (0.9, 0.7, 0.05), (0.7, 0.1, 0.7))  # linear
DIAMETERS, WIDTHS = (1.5, 2, 3, 4, 6), (1, 2)  # pixels, of discs and of lines
SHOT_NOISE = (1e-5, 5e-4, 4e-3)  # its variance per unit of signal, white being 1
Places = list[tuple[slice, slice]]


@click.command(help=__doc__.split("\n")[0])
@click.option("--model", "names", multiple=True, default=["deepisp"], show_default=True, metavar="NAME|DIR")
@click.option("--engine", "kind", type=click.Choice(ENGINES), default="auto", show_default=True)
def main(names: tuple[str, ...], kind: str) -> None:
    shapes = [*(f"disc {size:g}" for size in DIAMETERS), *(f"line {size:g}" for size in WIDTHS)]
    click.echo(f"{'':20}  {'noise':6}" + "".join(f"{shape:>10}" for shape in shapes))
    models = {name: _restored(open_engine(find_model(name), kind)) for name in names}
    for name, develop in {"bilinear": _interpolated, **models}.items():
        for shot in SHOT_NOISE:
            kept = [_kept(develop, size, round_, shot)
                    for round_, sizes in ((True, DIAMETERS), (False, WIDTHS)) for size in sizes]  # fmt: skip
            click.echo(f"{name:20}  {shot:6g}" + "".join(f"{share:10.2f}" for share in kept))


def _restored(engine: Engine) -> Callable[[Path], np.ndarray]:
    """Develops a raw to linear sRGB, without meter and transform."""
    neutral = Options(look="neutral", bit_depth=16, format="png")
    return lambda raw: srgb_decode(develop_array(raw, engine, neutral) / np.float32(65535))


def _interpolated(raw: Path) -> np.ndarray:
    """The demosaiced raw, in linear sRGB."""
    frame = prepare(raw, Options())
    return decode(frame.picture) @ frame.matrix.T


def _kept(develop: Callable[[Path], np.ndarray], size: float, round_: bool, shot: float) -> float:
    """The share of the colour that stays, over all shapes of a scene."""
    rng = np.random.default_rng(1)
    scene, places = _scene(size, round_, rng)
    with raw_of(scene, 0.0, shot, rng) as raw:
        light = develop(raw)
    found, true = (
        np.array([_colour(part[place]) for place in places])
        for part in (light - np.median(light, (0, 1)), scene - GREY)
    )
    return float((found * true).sum() / np.square(true).sum())


def _colour(patch: np.ndarray) -> np.ndarray:
    """Sums of R - G and B - G."""
    red, green, blue = patch.sum((0, 1))
    return np.array([red - green, blue - green])


def _scene(size: float, round_: bool, rng: np.random.Generator) -> tuple[np.ndarray, Places]:
    """Linear sRGB, and where its shapes are. Each lies anywhere between the pixels."""
    scene = np.full((SIDE, SIDE, 3), GREY)
    places = []
    rows, columns = (np.mgrid[: 2 * HALF * FINER, : 2 * HALF * FINER] + 0.5) / FINER - HALF
    for top in range(STEP, SIDE - STEP, STEP):
        for left in range(STEP, SIDE - STEP, STEP):
            down, right = rng.uniform(-0.5, 0.5, 2)
            across = np.hypot(rows - down, columns - right) if round_ else abs(columns - right)
            inside = (across < size / 2).reshape(2 * HALF, FINER, 2 * HALF, FINER).mean((1, 3))[..., None]
            place = (slice(top - HALF, top + HALF), slice(left - HALF, left + HALF))
            colour = COLOURS[len(places) % len(COLOURS)]
            scene[place] = (1 - inside) * GREY + inside * np.array(colour)
            places.append(place)
    return scene, places


if __name__ == "__main__":
    run_script(main)

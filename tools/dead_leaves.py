"""Compute pictures of fine, coloured shapes to train on, beside photographs.

    python tools/dead_leaves.py FOLDER [--pictures N] [--side PIXELS] [--seed N]

Photographs hardly hold colours as fine as a pixel: JPEG halves the resolution of colour. A network that has
seen nothing else takes coloured dots and print for noise or moire. These pictures are dead leaves (Lee,
Mumford and Huang, "Occlusion Models for Natural Images", 2001): discs and strokes of all sizes that cover one
another, their sizes distributed as in nature, with fine ones strewn over parts of the picture that are smooth
otherwise. Rendered at four times the pixels, averaged in linear light.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw

FINER = 2  # pixels drawn per pixel written, each way
LARGEST = 0.1  # radius of the largest shape, of the picture's side
COVER = 3.0  # sum of the squares of the radii of medium and large shapes, of the picture's area
STREWN = 40  # patches of fine shapes on a picture


@click.command(help=__doc__.split("\n")[0])
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--pictures", default=10, show_default=True, type=click.IntRange(min=1))
@click.option("--side", default=1600, show_default=True, type=click.IntRange(min=64), metavar="PIXELS")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
def main(folder: Path, pictures: int, side: int, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise click.UsageError(f"{folder}: is not empty; name a new folder")
    with ProcessPoolExecutor() as pool:
        paths = [folder / f"leaves-{number:02}.png" for number in range(pictures)]
        seeds = [(seed, number) for number in range(pictures)]
        for path, picture in zip(paths, pool.map(leaves, repeat(side), seeds), strict=True):
            picture.save(path)
            click.echo(path)


def leaves(side: int, seed: Sequence[int]) -> Image.Image:
    """A picture of ``side`` pixels a side, sRGB."""
    rng = np.random.default_rng(seed)
    canvas = Image.new("RGB", (side * FINER, side * FINER))
    draw = ImageDraw.Draw(canvas)
    covered = 0.0
    while covered < COVER * canvas.width**2:  # large and medium shapes
        radius = _radius(rng, 3 * FINER, LARGEST * canvas.width)
        covered += radius**2
        _shape(draw, rng, rng.uniform(0, canvas.width, 2), radius, _colour(rng))
    for _ in range(STREWN):  # confetti, print, lights
        centre, spread = rng.uniform(0, canvas.width, 2), rng.uniform(0.01, 0.06) * canvas.width
        palette = [_colour(rng) for _ in range(rng.integers(1, 6))]
        for _ in range(int(rng.uniform(20, 400))):
            radius = _radius(rng, 0.5 * FINER, 4 * FINER)
            colour = palette[rng.integers(len(palette))]
            _shape(draw, rng, rng.normal(centre, spread), radius, colour)
    light = (np.asarray(canvas, np.float32) / 255) ** 2.2
    mean = light.reshape(side, FINER, side, FINER, 3).mean((1, 3))
    return Image.fromarray((mean ** (1 / 2.2) * 255).round().astype(np.uint8))


def _radius(rng: np.random.Generator, smallest: float, largest: float) -> float:
    """From a density that falls with the third power, which looks the same at every distance."""
    return float((rng.uniform(largest**-2, smallest**-2)) ** -0.5)


def _colour(rng: np.random.Generator) -> tuple[int, ...]:
    """Two in three somewhere between grey and vivid, others vivid."""
    vivid = rng.uniform(0, 255, 3)
    share = rng.uniform(0, 1) if rng.uniform() < 2 / 3 else 1.0
    return tuple((share * vivid + (1 - share) * vivid.mean()).round().astype(int).tolist())


def _shape(
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    centre: np.ndarray,
    radius: float,
    colour: tuple[int, ...],
) -> None:
    """A disc, or a stroke half as often."""
    x, y = centre
    if rng.uniform() < 2 / 3:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        return
    angle, long = rng.uniform(0, np.pi), radius * rng.uniform(2, 8)
    along = 0.5 * long * np.array([np.cos(angle), np.sin(angle)])
    across = 0.5 * radius * np.array([-np.sin(angle), np.cos(angle)])
    corners = [
        centre + along + across,
        centre + along - across,
        centre - along - across,
        centre - along + across,
    ]
    draw.polygon([tuple(corner) for corner in corners], fill=colour)


if __name__ == "__main__":
    main()

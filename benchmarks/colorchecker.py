"""How far the colours of a ColorChecker in a raw are from the published ones.

    python benchmarks/colorchecker.py RAW DARK_SKIN BLUISH_GREEN WHITE BLACK [--model NAME|DIR] [--balance]

The last four are the centres of the chart's corner patches in the upright picture, as X,Y in shares of its
width and height. Prints for the learned look, the neutral look and LibRaw: mean and worst CIEDE2000 of the 24
patches against X-Rite's values (charts made after November 2014), after one gain in linear light that makes
the six greys as bright as published; and the largest chroma of the greys. With --balance the raw is first
balanced on the chart's second grey, which leaves what matrix and model do to colours.
"""

from pathlib import Path

import click
import colour
import numpy as np
from script import run_script
from skimage.color import deltaE_ciede2000, xyz2lab

from deepisp_cli.camera_rgb import linear_rgb
from deepisp_cli.colour import XYZ_FROM_SRGB, srgb_decode
from deepisp_cli.engine import open_engine
from deepisp_cli.evaluation.baselines import RAW_BASELINES
from deepisp_cli.frame import Result
from deepisp_cli.models import find_model
from deepisp_cli.options import Options
from deepisp_cli.pipeline import finish, prepare
from deepisp_cli.raw import read_raw

PATCH = 0.3  # share of the patches' spacing that is measured, in each direction
GREYS = slice(18, 24)


class Point(click.ParamType):
    name = "X,Y"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> np.ndarray:
        try:
            x, y = (float(part) for part in value.split(","))
        except ValueError:
            x = y = -1.0
        if not (0 <= x <= 1 and 0 <= y <= 1):
            self.fail(f"{value!r} is not X,Y, each from 0 to 1, such as 0.25,0.7", param, ctx)
        return np.array([x, y])


@click.command(help=__doc__.split("\n")[0])
@click.argument("raw", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("dark_skin", type=Point())
@click.argument("bluish_green", type=Point())
@click.argument("white", type=Point())
@click.argument("black", type=Point())
@click.option("--model", default="deepisp", show_default=True, metavar="NAME|DIR")
@click.option("--balance", is_flag=True, help="White balance on the chart, not as shot.")
def main(raw: Path, model: str, balance: bool, **corners: np.ndarray) -> None:
    engine = open_engine(find_model(model))
    published = _published()
    white_balance = _balance(raw, corners) if balance else "camera"
    results = {}
    for look in ("learned", "neutral"):
        options = Options(white_balance=white_balance, look=look, format="png", bit_depth=16)
        result = Result(str(raw), "")
        results[look] = finish(prepare(raw, options, result), engine, options, result) / 65535
    if not balance:
        results["libraw"] = RAW_BASELINES["libraw"](raw) / 255
    click.echo(f"{raw.name}: CIEDE2000 mean, worst; chroma of greys, largest")
    for name, picture in results.items():
        found = srgb_decode(_patches(picture.astype(np.float32), **corners)) @ XYZ_FROM_SRGB.T
        lab = xyz2lab(found * (published[GREYS, 1].sum() / found[GREYS, 1].sum()))
        error = deltaE_ciede2000(lab, xyz2lab(published))
        chroma = np.hypot(*lab[GREYS, 1:].T).max()
        click.echo(f"{name:8s} {error.mean():5.1f} {error.max():6.1f} {chroma:8.1f}")


def _balance(raw: Path, corners: dict[str, np.ndarray]) -> str:
    """Gains that make the second grey patch grey, as ``--white-balance`` takes them."""
    grey = _patches(linear_rgb(read_raw(raw), np.ones(3, np.float32)), **corners)[19]
    return ",".join(f"{gain:.4f}" for gain in grey[1] / grey)


def _published() -> np.ndarray:
    """XYZ (24, 3) of the patches, adapted to D65; white is (0.95, 1, 1.09)."""
    chart = colour.CCS_COLOURCHECKERS["ColorChecker24 - After November 2014"]
    xyz = colour.xyY_to_XYZ(np.stack(list(chart.data.values())))
    d65 = colour.CCS_ILLUMINANTS["CIE 1931 2 Degree Standard Observer"]["D65"]
    there, here = map(colour.xy_to_XYZ, (chart.illuminant, d65))
    return colour.adaptation.chromatic_adaptation(xyz, there, here)


def _patches(picture: np.ndarray, **corners: np.ndarray) -> np.ndarray:
    """The median colour of each patch, (24, 3), row by row from dark skin to black."""
    height, width = picture.shape[:2]
    size = np.array([width, height])
    top_left, top_right, bottom_left, bottom_right = (
        corners[name] * size for name in ("dark_skin", "bluish_green", "white", "black")
    )
    half = int(PATCH / 2 * np.linalg.norm(top_right - top_left) / 5)
    colours = []
    for down in np.linspace(0, 1, 4):
        left = top_left + down * (bottom_left - top_left)
        right = top_right + down * (bottom_right - top_right)
        for across in np.linspace(0, 1, 6):
            x, y = np.round(left + across * (right - left)).astype(int)
            patch = picture[y - half : y + half + 1, x - half : x + half + 1]
            colours.append(np.median(patch.reshape(-1, 3), 0))
    return np.array(colours)


if __name__ == "__main__":
    run_script(main)

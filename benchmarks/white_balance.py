"""How far ``--white-balance auto`` is from the light: angular errors on raws made from photographs.

    python benchmarks/white_balance.py FOLDER... [--exposure EV] [--shot SHOT]

Each photograph is seen by one of the low-light benchmark's cameras in light of 2700 to 8000 K, each gain off
by 3 % at random, as mixed and coloured light is. Prints degrees between the lights that the gains stand for
and the true one: mean, median, mean of the worst quarter. Beside it, the same for gains that are always those
of daylight (``--white-balance daylight``).
"""

from pathlib import Path

import click
import numpy as np
from script import raw_of, run_script

from deepisp_cli.calibration import neutral_gains
from deepisp_cli.evaluation.photographs import load_even
from deepisp_cli.lights import white_xyz
from deepisp_cli.raw import read_raw
from deepisp_cli.training.cameras import HELD_OUT, matrices
from deepisp_cli.training.pictures import list_photographs
from deepisp_cli.white_balance import choose_white_balance

KELVIN = (2700, 3600, 5000, 6500, 8000)
SPREAD = 0.03  # of the logarithm of each gain


@click.command(help=__doc__.split("\n")[0])
@click.argument(
    "folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--exposure", default=-1.0, show_default=True, help="EV.")
@click.option("--shot", default=0.002, show_default=True, help="Shot noise: variance per unit of signal.")
def main(folders: tuple[Path, ...], exposure: float, shot: float) -> None:
    errors: dict[str, list[float]] = {"auto": [], "daylight": []}
    for index, path in enumerate(list_photographs(folders)):
        rng = np.random.default_rng(index)
        light = white_xyz(KELVIN[index % 5])
        gains = neutral_gains(matrices(HELD_OUT)[index % 3], light) * np.exp(rng.normal(0, SPREAD, 3))
        with raw_of(load_even(path), exposure, shot, rng, index, tuple(gains / gains[1])) as dng:
            raw = read_raw(dng)
        for wanted, found in errors.items():
            found.append(_degrees(1 / choose_white_balance(raw, wanted)[0], 1 / gains))
    for wanted, found in errors.items():
        worst = np.mean(sorted(found)[-len(found) // 4 :])
        click.echo(
            f"{wanted:8s} mean {np.mean(found):.1f}, median {np.median(found):.1f}, worst quarter {worst:.1f}"
            f" degrees ({len(found)} photographs)"
        )


def _degrees(one: np.ndarray, other: np.ndarray) -> float:
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    return float(np.degrees(np.arccos(min(cosine, 1))))


if __name__ == "__main__":
    run_script(main)

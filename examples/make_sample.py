"""Make the sample raw and README's picture of it from the computed still life.

python examples/make_sample.py raw        # renders the scene (minutes), writes examples/night.dng
python examples/make_sample.py picture    # develops it twice, writes docs/pictures/night.jpg
"""

import sys
from fractions import Fraction
from pathlib import Path

import click
import numpy as np
from PIL import Image
from still_life import render

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from deepisp_cli.engine import open_engine
from deepisp_cli.evaluation.baselines import RAW_BASELINES, developed
from deepisp_cli.models import find_model
from deepisp_cli.training.cameras import HELD_OUT
from deepisp_cli.training.sensor import Sensor, usual_read_noise

RAW = ROOT / "examples" / "night.dng"
PICTURE = ROOT / "docs" / "pictures" / "night.jpg"
SHOT_NOISE = 0.004  # about ISO 6400 on a small sensor
EXPOSURE = -2.0  # EV
LAMPLIGHT = (1.5, 1.0, 2.2)  # white-balance gains
EXIF = {
    0x829A: Fraction(1, 30),  # ExposureTime
    0x829D: Fraction(28, 10),  # FNumber
    0x8827: 6400,  # ISO
    0x9003: "2026:11:22 21:30:00",  # DateTimeOriginal
    0x9011: "+01:00",  # OffsetTimeOriginal
    0x920A: Fraction(35),  # FocalLength
}


@click.group()
def main() -> None:
    """Make the sample raw and README's picture of it."""


@main.command()
def raw() -> None:
    """Render the still life and write it as a low-light DNG."""
    matrix = np.array(HELD_OUT["Nikon D750"]).reshape(3, 3) / 10000
    sensor = Sensor(matrix, LAMPLIGHT, SHOT_NOISE, usual_read_noise(SHOT_NOISE), black=256, white=4095)
    rng = np.random.default_rng(0)
    sensor.write(RAW, render(), EXPOSURE, rng, model="computed still life", compression="ljpeg", exif=EXIF)
    click.echo(f"{RAW}: {RAW.stat().st_size / 1e6:.1f} MB")


@main.command()
def picture() -> None:
    """Develop the sample with LibRaw and with deepisp, side by side."""
    theirs = RAW_BASELINES["libraw"](RAW)
    ours = developed(open_engine(find_model("deepisp")))(RAW)
    both = Image.fromarray(np.concatenate([theirs, ours], 1))
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    both.resize((both.width // 2, both.height // 2), Image.Resampling.LANCZOS).save(PICTURE, quality=90)
    click.echo(f"{PICTURE}: {PICTURE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()

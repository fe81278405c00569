"""What scripts in this folder share: they run from a checkout, tell errors as the program does, make raws."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deepisp_cli.colour import srgb_decode
from deepisp_cli.errors import DeepIspError
from deepisp_cli.training.cameras import HELD_OUT, matrices
from deepisp_cli.training.sensor import Sensor, usual_read_noise

GAINS = (2.0, 1.0, 1.6)  # white balance of the light, R, G, B


def run_script(command: click.Command) -> None:
    """Run a script's command; an error of the program ends it with a message instead of a traceback."""
    try:
        command()
    except DeepIspError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")


@contextmanager
def raw_of(
    scene: np.ndarray,
    exposure: float,
    shot: float,
    rng: np.random.Generator,
    camera: int = 0,
    gains: tuple[float, float, float] = GAINS,
) -> Iterator[Path]:
    """The raw that a camera which training never saw, ``camera`` modulo 3, makes of a scene: sRGB uint8 or
    linear light, (H, W, 3)."""
    light = srgb_decode(scene.astype(np.float32) / 255) if scene.dtype == np.uint8 else scene
    sensor = Sensor(matrices(HELD_OUT)[camera % 3], gains, shot, usual_read_noise(shot))
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "scene.dng"
        sensor.write(raw, light, exposure, rng, model="held-out camera")
        yield raw

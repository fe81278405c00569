"""How much contrast brings a developed raw closest to the camera's own picture, the preview in the raw.

    python benchmarks/camera_look.py RAW... [--model NAME|DIR]

Prints for each raw the exposure (EV) and the `--contrast` with which the learned look comes closest to the
preview, and how far the luma of both is apart (root mean square of 96x64 cells, white being 1): without
contrast, with the model's own, and with that one, each at the exposure that suits it best.
"""

from io import BytesIO
from pathlib import Path

import click
import numpy as np
import rawpy
from PIL import Image
from script import run_script

from deepisp_cli.colour import LUMINANCE
from deepisp_cli.engine import open_engine
from deepisp_cli.errors import InputError
from deepisp_cli.look import add_contrast, brighten
from deepisp_cli.models import find_model
from deepisp_cli.options import Options
from deepisp_cli.pipeline import develop_array
from deepisp_cli.raw import read_raw
from deepisp_cli.render import render

CELLS = 96, 64
CONTRASTS = np.arange(0, 1.01, 0.05)
STOPS = np.arange(-2, 2.01, 0.1)
BAR = 0.02  # rows and columns that are darker on the mean are bars around the preview


@click.command(help=__doc__.split("\n")[0])
@click.argument("raws", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", default="deepisp", show_default=True, metavar="NAME|DIR")
def main(raws: tuple[Path, ...], model: str) -> None:
    engine = open_engine(find_model(model))
    own = engine.model.contrast
    click.echo(f"EV    contrast  apart: none    {own:.2f}    best")
    for path in raws:
        target = _cells(_preview(path)) @ LUMINANCE
        ours = _cells(develop_array(path, engine, Options(contrast=0)))
        best, stop, contrast = min((*_apart(ours, target, each), each) for each in CONTRASTS)
        none, usual = (_apart(ours, target, each)[0] for each in (0, own))
        click.echo(f"{stop:+.1f}  {contrast:8.2f}  {none:11.3f}  {usual:6.3f}  {best:6.3f}  {path.name}")


def _apart(ours: np.ndarray, target: np.ndarray, contrast: float) -> tuple[float, float]:
    """The smallest difference over the exposures, and the exposure."""
    tried = ((add_contrast(brighten(ours, stop), contrast) @ LUMINANCE, stop) for stop in STOPS)
    return min((float(np.sqrt(np.square(luma - target).mean())), stop) for luma, stop in tried)


def _preview(path: Path) -> np.ndarray:
    """The camera's picture, upright and without bars, (H, W, 3) uint8."""
    try:
        with path.open("rb") as file, rawpy.imread(file) as raw:
            thumb = raw.extract_thumb()
    except rawpy.LibRawError as error:
        raise InputError(f"{path}: holds no preview that LibRaw reads ({error}); leave it out") from error
    coded = thumb.format == rawpy.ThumbFormat.JPEG
    picture = np.asarray(Image.open(BytesIO(thumb.data)).convert("RGB") if coded else thumb.data)
    rows, columns = (picture.mean((axis, 2)) > 255 * BAR for axis in (1, 0))
    return render(picture[rows][:, columns] / np.float32(255), read_raw(path).orientation, 8)


def _cells(picture: np.ndarray) -> np.ndarray:
    """Means, (64, 96, 3) float32, 1 being white."""
    return np.asarray(Image.fromarray(picture).resize(CELLS, Image.Resampling.BOX), np.float32) / 255


if __name__ == "__main__":
    run_script(main)

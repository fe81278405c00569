"""Quality on low-light raws: photographs at a quarter of their exposure, as DNGs.

    python benchmarks/low_light.py PHOTOGRAPHS [--model NAME|DIR] [--limit N] [--json FILE] [--sheet FOLDER]

Each photograph is taken back to linear light, seen by one of three cameras that training never saw, exposed
at -2 EV, given shot noise of 0.002, 0.006 or 0.015 of full scale and the read noise that goes with it, and
written as a 14-bit DNG. The program and LibRaw (its defaults) develop that file. Reported are means over the
photographs: PSNR in dB, SSIM and CIEDE2000 of the default output, and PSNR after the best quadratic colour
transform ("matched"), which forgives brightness and colour and leaves noise and detail.
"""

import json
import math
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
import rawpy
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deepisp_cli.colour import apply_transform, fit_transform, srgb_decode
from deepisp_cli.engine import open_engine
from deepisp_cli.models import find_model
from deepisp_cli.pipeline import Options, Result, finish, prepare
from deepisp_cli.training.cameras import HELD_OUT, matrices
from deepisp_cli.training.sensor import Sensor, usual_read_noise

EXPOSURE = -2.0  # EV: a quarter of the light
SHOT_NOISE = (0.002, 0.006, 0.015)
GAINS = ((2.1, 1.0, 1.5), (1.9, 1.0, 1.7), (1.6, 1.0, 2.1))
SUFFIXES = {".png", ".jpg", ".jpeg"}


def write_low_light(path: Path, photograph: np.ndarray, index: int) -> None:
    """Write photograph ``index``, (H, W, 3) uint8 sRGB, as a low-light DNG."""
    shot = SHOT_NOISE[(index + index // 3) % 3]
    sensor = Sensor(matrices(HELD_OUT)[index % 3], GAINS[index // 3 % 3], shot, usual_read_noise(shot))
    scene = srgb_decode(photograph.astype(np.float32) / 255)
    rng = np.random.default_rng(1000 + index)
    sensor.write(path, scene, EXPOSURE, rng, model=f"held-out camera {index % 3}")


def measure(picture: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Metrics of one 8-bit picture against its photograph."""
    ours, theirs = picture.astype(np.float64) / 255, target.astype(np.float64) / 255
    transform = fit_transform(ours, theirs)
    matched = np.clip(np.stack(apply_transform(*np.moveaxis(ours, 2, 0), transform), -1), 0, 1)
    return {
        "psnr": _psnr(ours, theirs),
        "ssim": float(structural_similarity(ours, theirs, channel_axis=2, data_range=1.0)),
        "delta_e": float(deltaE_ciede2000(rgb2lab(ours), rgb2lab(theirs)).mean()),
        "matched_psnr": _psnr(np.round(matched * 255) / 255, theirs),
    }


def _psnr(ours: np.ndarray, theirs: np.ndarray) -> float:
    return -10 * math.log10(max(float(np.square(ours - theirs).mean()), 1e-12))


def by_libraw(path: Path) -> np.ndarray:
    """LibRaw's picture with its defaults and the camera's white balance."""
    with rawpy.imread(str(path)) as raw:
        return raw.postprocess(use_camera_wb=True)


@click.command(help=__doc__.split("\n")[0])
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", "names", multiple=True, default=["deepisp"], help="Model name or folder.")
@click.option("--limit", default=0, help="Take this many photographs, spread over the folder.")
@click.option(
    "--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write all numbers here."
)
@click.option(
    "--sheet", type=click.Path(file_okay=False, path_type=Path), help="Write comparison pictures here."
)
def main(folder: Path, names: tuple[str, ...], limit: int, out: Path | None, sheet: Path | None) -> None:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise click.UsageError(f"{folder}: no PNG or JPEG files")
    files = files[:: max(1, len(files) // limit)][:limit] if limit else files
    engines = [open_engine(find_model(name)) for name in names]
    numbers: dict[str, list[dict[str, float]]] = {
        "LibRaw": [],
        **{engine.model.name: [] for engine in engines},
    }
    with tempfile.TemporaryDirectory() as temporary:
        for index, file in enumerate(files):
            photograph = np.asarray(Image.open(file).convert("RGB"))
            photograph = photograph[: photograph.shape[0] // 2 * 2, : photograph.shape[1] // 2 * 2]
            path = Path(temporary) / "low.dng"
            write_low_light(path, photograph, index)
            pictures = {"LibRaw": by_libraw(path)}
            for engine in engines:
                result = Result(str(path), "")
                frame = prepare(path, Options(), result)
                pictures[engine.model.name] = finish(frame, engine, Options(), result)
            for name, picture in pictures.items():
                numbers[name].append(measure(picture, photograph))
            if sheet:
                sheet.mkdir(parents=True, exist_ok=True)
                row = np.concatenate([*pictures.values(), photograph], 1)
                Image.fromarray(row).save(sheet / f"{file.stem}.png")
    click.echo(f"{len(files)} photographs   PSNR    SSIM   dE2000  matched PSNR")
    means = {
        name: {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        for name, rows in numbers.items()
    }
    for name, mean in means.items():
        click.echo(
            f"{name:16}{mean['psnr']:8.2f}{mean['ssim']:8.3f}{mean['delta_e']:8.2f}{mean['matched_psnr']:10.2f}"
        )
    if out:
        images = {name: [{"name": file.name, **row} for file, row in zip(files, rows, strict=True)]
                  for name, rows in numbers.items()}  # fmt: skip
        results = [{"name": name, "mean": means[name], "images": images[name]} for name in numbers]
        hashes = {engine.model.name: engine.model.card["files"] for engine in engines}
        out.write_text(
            json.dumps({"benchmark": "lowlight", "models": hashes, "results": results}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()

"""Benchmarks made from photographs: ``demosaic`` and ``lowlight``."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from deepisp_cli.colour import srgb_decode
from deepisp_cli.demosaic import demosaic, sample_mosaic
from deepisp_cli.engine import Engine
from deepisp_cli.errors import EngineError, InputError, UsageError
from deepisp_cli.evaluation import CFAS, metrics
from deepisp_cli.evaluation.alignment import common_middle
from deepisp_cli.evaluation.baselines import MOSAIC_BASELINES, PATTERN, RAW_BASELINES, developed, plain
from deepisp_cli.evaluation.benchmarks import (
    Benchmark,
    Case,
    Method,
    Metric,
    Settings,
    check_picture,
    eight_bit,
)
from deepisp_cli.tiling import run_tiled
from deepisp_cli.training.cameras import HELD_OUT, matrices
from deepisp_cli.training.pictures import list_photographs, load_photograph, spread
from deepisp_cli.training.sensor import LOW_LIGHT, Sensor, usual_read_noise
from deepisp_cli.xtrans import X_TRANS

SMALLEST = 22  # pixels of a side: LibRaw takes no smaller Bayer raws; of X-Trans ones, none below 512
LARGEST_TRIM = 32  # pixels that programs leave out of a picture's rows or columns: RawTherapee does 8 or 14
PATTERNS = dict(zip(CFAS, ("RGGB", X_TRANS, None), strict=True))


def find_photographs(folder: Path, limit: int | None = None) -> list[tuple[int, Path]]:
    """The pictures in ``folder`` and their numbers in it, all or ``limit`` of them spread evenly; each is
    opened once.

    Raises
    ------
    InputError
        If there is none, or one cannot be read or is too small to be measured.
    """
    numbered = spread(list(enumerate(list_photographs([folder]))), limit)
    for _, path in numbered:
        if min(load_photograph(path).size) < SMALLEST:
            raise InputError(f"{path}: has less than {SMALLEST} rows or columns; take it out of the folder")
    return numbered


def load_even(path: Path) -> np.ndarray:
    """A photograph (H, W, 3) uint8, cut to even sides."""
    picture = np.asarray(load_photograph(path))
    return picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]


class _OfPhotographs(Benchmark):
    """A benchmark on a folder of photographs."""

    def __init__(self, data: Path, settings: Settings) -> None:
        super().__init__(data, settings)
        self.photographs = find_photographs(data, settings.limit)


class Demosaic(_OfPhotographs):
    """Mosaics of finished pictures with Gaussian noise, the field's protocol: sRGB values sampled RGGB, noise
    of ``sigma`` / 255 added, neither clipped nor quantised; the result in 8 bits, no border left out."""

    name = "demosaic"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "psnr": metrics.psnr,
        "channel_psnr": metrics.channel_psnr,
        "ssim": metrics.ssim,
    }
    baselines = MOSAIC_BASELINES
    usual_baseline = "bilinear"
    usual_model = "deepisp-jdd"  # the only one that was trained on such mosaics
    seeds = "picture i: numpy default_rng(i)"

    def cases(self) -> Iterator[Case]:
        for index, path in self.photographs:
            truth = load_even(path)
            mosaic = sample_mosaic(truth)
            noise = np.random.default_rng(index).standard_normal(mosaic.shape)
            for sigma in self.settings.sigmas:
                noisy = ((mosaic + sigma * noise) / 255).astype(np.float32)
                yield Case(path.name, {"sigma": sigma}, noisy, truth)

    def method(self, engine: Engine) -> Method:
        """The network's restored image (demosaiced bilinearly first), without colour transform."""
        return lambda mosaic: run_tiled(engine, demosaic(mosaic, PATTERN))[0]

    def measure(self, picture: np.ndarray, case: Case) -> dict[str, float]:
        assert case.truth is not None
        if not np.issubdtype(picture.dtype, np.floating) or picture.shape != case.truth.shape:
            wanted = f"floating-point of shape {case.truth.shape}, 1.0 being white"
            raise UsageError(f"restored mosaics are {wanted}, not {picture.dtype} of shape {picture.shape}")
        if not np.isfinite(picture).all():  # in 8 bits it would pass for black
            raise EngineError(f"{case.name}: yields numbers that are not finite")
        return self.compare(eight_bit(picture), case.truth)

    def show(self, picture: np.ndarray) -> np.ndarray:
        return picture if picture.dtype == np.uint8 else eight_bit(picture)

    def show_input(self, case: Case) -> np.ndarray:
        return eight_bit(np.repeat(case.input[..., None], 3, 2))


class LowLight(_OfPhotographs):
    """Photographs as raws at a quarter of their exposure: back to linear light, seen by one of three cameras
    that training never saw, -2 EV, shot noise of a variance of 0.002, 0.006 or 0.015 of the signal and the
    read noise that goes with it, a 14-bit DNG: Bayer, X-Trans or linear. Developed with each program's
    defaults."""

    name = "lowlight"
    metrics = metrics.FULL_REFERENCE
    baselines = RAW_BASELINES
    usual_baseline = "libraw"
    seeds = "picture i: numpy default_rng(1000 + i)"
    exposure = -2.0  # EV
    gains = ((2.1, 1.0, 1.5), (1.9, 1.0, 1.7), (1.6, 1.0, 2.1))

    def cases(self) -> Iterator[Case]:
        with tempfile.TemporaryDirectory() as folder:
            for index, path in self.photographs:
                truth = load_even(path)
                dng = Path(folder) / "low.dng"
                self._write(dng, truth, index)
                yield Case(path.name, {"exposure": "-2 EV"}, dng, truth)

    def _write(self, dng: Path, photograph: np.ndarray, index: int) -> None:
        shot = LOW_LIGHT[(index + index // 3) % 3]
        camera, gains = matrices(HELD_OUT)[index % 3], self.gains[index // 3 % 3]
        sensor = Sensor(camera, gains, shot, usual_read_noise(shot), pattern=PATTERNS[self.settings.cfa])
        scene = srgb_decode(photograph.astype(np.float32) / 255)
        rng = np.random.default_rng(1000 + index)
        sensor.write(dng, scene, self.exposure, rng, model=f"held-out camera {index % 3}")

    def method(self, engine: Engine) -> Method:
        return developed(engine, self.settings.contrast)

    def measure(self, picture: np.ndarray, case: Case) -> dict[str, float]:
        """Measured on what both show: RawTherapee leaves out some pixels at each border."""
        assert case.truth is not None
        check_picture(picture)
        if max(np.abs(np.subtract(picture.shape, case.truth.shape))) > LARGEST_TRIM:
            raise UsageError(f"{case.name}: is {case.truth.shape}, a method returned {picture.shape}")
        return self.compare(*common_middle(picture, case.truth))

    def show_input(self, case: Case) -> np.ndarray:
        return plain(case.input)

"""What is measured: a benchmark makes cases of photographs, and methods that work on a case's input."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import rawpy

from deepisp_cli.colour import srgb_decode
from deepisp_cli.demosaic import demosaic
from deepisp_cli.engine import Engine
from deepisp_cli.errors import UsageError
from deepisp_cli.evaluation import metrics
from deepisp_cli.pipeline import Options, Result, finish, prepare
from deepisp_cli.tiling import run_tiled
from deepisp_cli.training.cameras import HELD_OUT, matrices
from deepisp_cli.training.pictures import load_photograph
from deepisp_cli.training.sensor import Sensor, sample_rggb, usual_read_noise

Method = Callable[[Any], np.ndarray]  # a case's input to a picture (H, W, 3) uint8
Metric = Callable[[np.ndarray, np.ndarray], float]  # of a picture and the truth


@dataclass(frozen=True)
class Case:
    """One picture to make."""

    name: str  # of the photograph's file
    setting: str  # cases of one setting are averaged
    input: Any  # what the benchmark's methods take
    truth: np.ndarray  # (H, W, 3) uint8


class Benchmark(Protocol):
    """Cases, methods and metrics of one protocol."""

    name: ClassVar[str]
    baselines: ClassVar[Mapping[str, Method]]
    metrics: ClassVar[Mapping[str, Metric]]

    def cases(self, photographs: Sequence[Path]) -> Iterator[Case]:
        """The cases of these photographs, one after the other."""

    def method(self, engine: Engine) -> Method:
        """What a model does with a case's input."""


def _even(path: Path) -> np.ndarray:
    """A photograph (H, W, 3) uint8, cut to whole CFA cells."""
    picture = np.asarray(load_photograph(path))
    return picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]


def _eight_bit(image: np.ndarray) -> np.ndarray:
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _library_demosaic(name: str) -> Method:
    def method(mosaic: np.ndarray) -> np.ndarray:
        import colour_demosaicing

        function = getattr(colour_demosaicing, f"demosaicing_CFA_Bayer_{name}")
        return _eight_bit(function(mosaic, "RGGB"))

    return method


class Demosaic:
    """Mosaics of finished pictures with Gaussian noise, the protocol of the field: sRGB values sampled RGGB,
    noise of ``sigma`` / 255 added and neither clipped nor quantised; the result in 8 bits, no border left
    out."""

    name: ClassVar = "demosaic"
    baselines: ClassVar[Mapping[str, Method]] = {
        "bilinear": lambda mosaic: _eight_bit(demosaic(mosaic, "RGGB")),
        "malvar": _library_demosaic("Malvar2004"),
        "menon": _library_demosaic("Menon2007"),
    }
    metrics: ClassVar[Mapping[str, Metric]] = {"psnr": metrics.psnr, "ssim": metrics.ssim}

    def __init__(self, sigmas: Sequence[float]) -> None:
        self.sigmas = sigmas

    def cases(self, photographs: Sequence[Path]) -> Iterator[Case]:
        for index, path in enumerate(photographs):
            truth = _even(path)
            mosaic = sample_rggb(truth)
            noise = np.random.default_rng(index).standard_normal(mosaic.shape)
            for sigma in self.sigmas:
                yield Case(
                    path.name, f"sigma {sigma:g}", ((mosaic + sigma * noise) / 255).astype(np.float32), truth
                )

    def method(self, engine: Engine) -> Method:
        """The network's restored image, without colour transform."""
        return lambda mosaic: _eight_bit(run_tiled(engine, demosaic(mosaic, "RGGB"))[0])


class LowLight:
    """Photographs as raws at a quarter of their exposure: back to linear light, seen by one of three cameras
    that training never saw, -2 EV, shot noise of 0.002, 0.006 or 0.015 of full scale and the read noise that
    goes with it, a 14-bit DNG. Developed with each program's defaults."""

    name: ClassVar = "lowlight"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "psnr": metrics.psnr,
        "ssim": metrics.ssim,
        "delta_e": metrics.delta_e,
        "matched_psnr": metrics.matched_psnr,
    }
    exposure = -2.0  # EV
    shot_noise = (0.002, 0.006, 0.015)
    gains = ((2.1, 1.0, 1.5), (1.9, 1.0, 1.7), (1.6, 1.0, 2.1))

    def cases(self, photographs: Sequence[Path]) -> Iterator[Case]:
        with tempfile.TemporaryDirectory() as folder:
            for index, path in enumerate(photographs):
                truth = _even(path)
                dng = Path(folder) / "low.dng"
                self._write(dng, truth, index)
                yield Case(path.name, "quarter exposure", dng, truth)

    def _write(self, dng: Path, photograph: np.ndarray, index: int) -> None:
        shot = self.shot_noise[(index + index // 3) % 3]
        camera, gains = matrices(HELD_OUT)[index % 3], self.gains[index // 3 % 3]
        sensor = Sensor(camera, gains, shot, usual_read_noise(shot))
        scene = srgb_decode(photograph.astype(np.float32) / 255)
        rng = np.random.default_rng(1000 + index)
        sensor.write(dng, scene, self.exposure, rng, model=f"held-out camera {index % 3}")

    def method(self, engine: Engine) -> Method:
        """What ``deepisp process`` writes, before it is compressed."""

        def develop(dng: Path) -> np.ndarray:
            result = Result(str(dng), "")
            return finish(prepare(dng, Options(), result), engine, Options(), result)

        return develop

    @staticmethod
    def _libraw(**options: Any) -> Method:
        def develop(dng: Path) -> np.ndarray:
            with rawpy.imread(str(dng)) as raw:
                return raw.postprocess(use_camera_wb=True, **options)

        return develop

    baselines: ClassVar[Mapping[str, Method]] = {
        "libraw": _libraw(),
        "libraw-dcb": _libraw(demosaic_algorithm=rawpy.DemosaicAlgorithm.DCB),
        "libraw-denoised": _libraw(noise_thr=300, fbdd_noise_reduction=rawpy.FBDDNoiseReductionMode.Full),
    }


def open_benchmark(name: str, sigmas: Sequence[float]) -> Benchmark:
    """A benchmark by name.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if name == Demosaic.name:
        return Demosaic(sigmas)
    if name == LowLight.name:
        return LowLight()
    raise UsageError(f"unknown benchmark {name!r}; known: {Demosaic.name}, {LowLight.name}")

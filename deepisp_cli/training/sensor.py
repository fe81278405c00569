"""A simulated camera for scenes of known light: linear sRGB to raw counts, one frame, NumPy.

`deepisp_cli.training.synthesis` draws thousands of frames on the training device; this is for the few that
are written as DNG: the sample that ships, and the benchmarks.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepisp_cli.colour import srgb_from_camera
from deepisp_cli.demosaic import sample_mosaic
from deepisp_cli.dng import write_dng

# Brooks et al. 2019, equation 2: log(read) = slope * log(shot) + offset, both variances at full scale 1
READ_SLOPE = 2.18
READ_OFFSET = 1.20
LOW_LIGHT = (0.002, 0.006, 0.015)  # shot noise of dark frames to measure with: from little to much


@dataclass(frozen=True)
class Sensor:
    """One camera at one sensitivity."""

    xyz_to_camera: np.ndarray  # (3, 3)
    gains: tuple[float, float, float]  # white balance of the light, R, G, B
    shot: float  # variance per unit of signal, full scale 1
    read: float  # variance of the read noise, full scale 1
    black: int = 1024  # counts
    white: int = 16383  # counts
    pattern: str | None = "RGGB"  # colours of the first 2x2 or 6x6 samples, row by row; None: full colour

    def expose(self, scene: np.ndarray, exposure: float, rng: np.random.Generator) -> np.ndarray:
        """What the camera records.

        Parameters
        ----------
        scene : (H, W, 3) linear sRGB; 1.0 is white at 0 EV.
        exposure : EV.
        rng : for the noise.

        Returns
        -------
        (H, W), or without ``pattern`` (H, W, 3), uint16 counts.
        """
        camera = scene @ np.linalg.inv(srgb_from_camera(self.xyz_to_camera)).T / self.gains * 2.0**exposure
        light = camera if self.pattern is None else sample_mosaic(camera, self.pattern)
        variance = self.shot * np.clip(light, 0, 1) + self.read
        noisy = light + np.sqrt(variance) * rng.standard_normal(light.shape)
        counts = np.round(noisy * (self.white - self.black) + self.black)
        return np.clip(counts, 0, self.white).astype(np.uint16)

    def write(
        self,
        path: Path,
        scene: np.ndarray,
        exposure: float,
        rng: np.random.Generator,
        *,
        model: str,
        compression: str = "none",
        exif: Mapping[int, Any] | None = None,
    ) -> None:
        """Write what `expose` records as a DNG; see `deepisp_cli.dng.write_dng` for the last three."""
        write_dng(
            path,
            self.expose(scene, exposure, rng),
            pattern=self.pattern,
            black=self.black,
            white=self.white,
            white_balance=self.gains,
            xyz_to_camera=self.xyz_to_camera,
            make="deepisp",
            model=model,
            compression=compression,
            exif=exif,
        )


def usual_read_noise(shot: float) -> float:
    """The read noise variance that goes with a shot noise."""
    return math.exp(READ_SLOPE * math.log(shot) + READ_OFFSET)

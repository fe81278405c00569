"""``msr``: the Microsoft demosaicing dataset (Khashabi et al. 2014), as in the paper's section 2."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from deepisp_cli.colour import decode, encode, srgb_encode
from deepisp_cli.demosaic import demosaic
from deepisp_cli.engine import Engine
from deepisp_cli.errors import InputError
from deepisp_cli.evaluation import metrics
from deepisp_cli.evaluation.baselines import MOSAIC_BASELINES, PATTERN
from deepisp_cli.evaluation.benchmarks import Benchmark, Case, Method, Settings, eight_bit
from deepisp_cli.tiling import run_tiled
from deepisp_cli.training.pictures import damage_told, spread

FOLDER = "Dataset_LINEAR_with_noise"
CAMERAS = ("panasonic", "canon")
WHITE = 65535  # in the 16-bit files
BLACK_OFFSET = 15 / WHITE  # subtracted after the curve, as in the published evaluation code
TRANSFORM_FILES = ("colortrans.npy", "gammaparams.npy")

# The paper's Table 1: PSNR in dB in linear light and in sRGB.
PAPER = {
    "panasonic": {
        "RTF": (37.77, 31.77),
        "FlexISP": (38.28, 31.76),
        "DJDD": (38.6, 32.6),
        "SEM": (38.93, 32.93),
        "DeepISP": (39.31, 33.65),
    },
    "canon": {
        "RTF": (40.35, 33.82),
        "FlexISP": (40.71, 33.44),
        "SEM": (41.09, 34.15),
        "DeepISP": (41.7, 35.43),
    },
}


@dataclass(frozen=True)
class Transform:
    """The dataset's conversion from its cameras' linear RGB to sRGB.

    Its numbers belong to the dataset; they are read from `TRANSFORM_FILES`, which come with the evaluation
    code of Klatzer et al. (2016).
    """

    matrix: np.ndarray  # (3, 3); rows are the camera's channels, columns those of sRGB
    curve: np.ndarray  # (3,): a, gamma, slope

    def __call__(self, linear: np.ndarray) -> np.ndarray:
        """(H, W, 3) linear camera RGB, 1.0 being white, to sRGB on the same scale; not clipped."""
        colour = linear @ self.matrix
        offset, gamma, slope = self.curve
        counts = WHITE * np.maximum(colour, 0)
        curved = ((1 + offset) * counts ** (1 / gamma) - offset + slope * counts) / WHITE
        return np.where(colour > 0, curved, colour) - BLACK_OFFSET


class Msr(Benchmark):
    """The test sets of both cameras, in one of three protocols.

    "unclipped": nothing cut off, nothing clipped. "clipped": values clipped to black and white.
    "cropped": 7 pixels of each border cut off, clipped, rounded to 8 bits.
    """

    name = "msr"
    baselines = MOSAIC_BASELINES
    usual_baseline = "bilinear"

    def __init__(self, data: Path, settings: Settings) -> None:
        super().__init__(data, settings)
        folder = data / FOLDER if (data / FOLDER).is_dir() else data
        self.files: dict[str, list[tuple[Path, Path]]] = {}
        for camera in CAMERAS:
            if (folder / f"bayer_{camera}").is_dir():
                pairs = _find_pairs(folder / f"bayer_{camera}")
                self.files[camera] = spread(pairs, settings.limit)
        if not self.files:
            raise InputError(
                f"{data}: holds neither bayer_panasonic nor bayer_canon; give the folder that holds {FOLDER}"
            )
        for mosaic, truth in (pair for pairs in self.files.values() for pair in pairs):
            if _read(mosaic, 2).shape != _read(truth, 3).shape[:2]:
                raise InputError(
                    f"{truth}: is not the size of the mosaic {mosaic.name} beside it; copy both again"
                )
        beside = data.parent if data.name == FOLDER else data
        self.transform = _read_transform(beside)
        if self.transform is None:
            self.remarks.append(
                f"{beside}: without the dataset's own {' and '.join(TRANSFORM_FILES)} there is no PSNR in"
                " sRGB"
            )

    def cases(self) -> Iterator[Case]:
        for camera, pairs in self.files.items():
            for mosaic, truth in pairs:
                settings = {"camera": camera, "protocol": self.settings.protocol}
                yield Case(mosaic.name, settings, _read(mosaic, 2), _read(truth, 3))

    def method(self, engine: Engine) -> Method:
        """The network's restored image in linear light; its input has the same scale as with raw files."""

        def restore(mosaic: np.ndarray) -> np.ndarray:
            return decode(run_tiled(engine, encode(demosaic(mosaic, PATTERN)))[0])

        return restore

    def measure(self, picture: np.ndarray, case: Case) -> dict[str, float]:
        assert case.truth is not None
        values = {"linear_psnr": metrics.psnr(*map(self._as_protocol, (picture, case.truth)))}
        if self.transform:
            finished = (self._as_protocol(self.transform(linear)) for linear in (picture, case.truth))
            values["srgb_psnr"] = metrics.psnr(*finished)
        return values

    def _as_protocol(self, image: np.ndarray) -> np.ndarray:
        if self.settings.protocol == "cropped":
            return eight_bit(image[7:-7, 7:-7])
        return image.clip(0, 1) if self.settings.protocol == "clipped" else image

    def references(self) -> Sequence[dict[str, Any]]:
        return [
            {
                "name": f"{method} (published)",
                "settings": {"camera": camera, "protocol": self.settings.protocol},
                "mean": {"linear_psnr": linear, "srgb_psnr": srgb},
                "source": "Schwartz, Giryes, Bronstein: DeepISP, Table 1; the protocol is not stated there",
            }
            for camera in self.files
            for method, (linear, srgb) in PAPER[camera].items()
        ]

    def show(self, picture: np.ndarray) -> np.ndarray:
        return eight_bit(self.transform(picture) if self.transform else srgb_encode(np.float32(picture)))

    def show_input(self, case: Case) -> np.ndarray:
        return self.show(np.repeat(case.input[..., None], 3, 2))


def _find_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """The mosaics and truths named in the folder's test.txt."""
    listing = folder / "test.txt"
    try:
        names = listing.read_text("utf-8").split()
    except OSError as error:
        raise InputError(
            f"{listing}: cannot be read ({error.strerror}); it lists the test pictures"
        ) from error
    if not names:
        raise InputError(f"{listing}: lists no picture; copy it again")
    return [(folder / "input" / f"{name}.png", folder / "groundtruth" / f"{name}.png") for name in names]


def _read(path: Path, axes: int) -> np.ndarray:
    """A 16-bit PNG as float32, 1.0 being white: a mosaic (H, W) or a picture (H, W, 3).

    Raises
    ------
    InputError
        If it cannot be read or is something else.
    """
    if not path.is_file():
        raise InputError(f"{path}: is missing, though the folder's test.txt lists it; copy the dataset again")
    with damage_told(path, "a picture"):
        samples = imagecodecs.imread(path)
    if samples.dtype != np.uint16 or samples.ndim != axes:
        kind = "mosaic" if axes == 2 else "picture"
        raise InputError(f"{path}: is not a 16-bit {kind} ({samples.dtype}, shape {samples.shape})")
    return samples[..., :3].astype(np.float32) / WHITE if axes == 3 else samples.astype(np.float32) / WHITE


def _read_transform(data: Path) -> Transform | None:
    paths = [data / name for name in TRANSFORM_FILES]
    if not all(path.is_file() for path in paths):
        return None
    return Transform(_read_numbers(paths[0], (3, 3)), _read_numbers(paths[1], (3,)))


def _read_numbers(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False).astype(np.float64).reshape(shape)
    except Exception as error:  # NumPy meets damage in many ways, and advises to load it unsafely
        raise InputError(f"{path}: is not an array of {shape} numbers; copy it again") from error

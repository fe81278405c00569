"""What people use today, and what a model does with a raw file.

A method for mosaics takes (H, W) float32, RGGB, 1.0 being white, and returns (H, W, 3) floating-point values
that are not clipped. A method for raws takes a path and returns a finished picture (H, W, 3) uint8.
"""

import re
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rawpy

from deepisp_cli.demosaic import demosaic
from deepisp_cli.engine import Engine
from deepisp_cli.errors import EngineError, UsageError, first_line
from deepisp_cli.evaluation.benchmarks import Method
from deepisp_cli.look import develop_colour
from deepisp_cli.options import Options
from deepisp_cli.pipeline import develop_array, prepare
from deepisp_cli.render import render
from deepisp_cli.tiling import mirror
from deepisp_cli.training.pictures import load_photograph

PATTERN = "RGGB"
BORDER = 8  # pixels; even, so that the mosaic's phase is kept, and more than any baseline's reach
TIME_LIMIT = 600  # seconds that another program may take for one file


def developed(engine: Engine, contrast: float | None = None) -> Method:
    """What ``deepisp process`` makes of a raw file, before it is compressed."""
    options = Options(contrast=contrast)
    return lambda raw: develop_array(raw, engine, options)


def plain(raw: Path) -> np.ndarray:
    """A raw file as the network sees it, (H, W, 3) uint8: bilinear, exposure and colour as recorded."""
    frame = prepare(raw, Options())
    return render(develop_colour(frame.picture, frame.matrix, None, 0.0), frame.orientation, 8)


def _colour_demosaicing(name: str) -> Method:
    """Demosaicing by the package colour-demosaicing.

    It repeats border pixels, which puts red where green should be; so the mosaic is mirrored first.
    """

    def method(mosaic: np.ndarray) -> np.ndarray:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it warns that it cannot draw
                import colour_demosaicing
        except ImportError as error:
            raise UsageError("colour-demosaicing is not installed; it needs Python 3.11") from error
        rows, columns = (mirror(-BORDER, side + BORDER, side) for side in mosaic.shape)
        demosaicing = getattr(colour_demosaicing, f"demosaicing_CFA_Bayer_{name}")
        return demosaicing(mosaic[np.ix_(rows, columns)], PATTERN)[BORDER:-BORDER, BORDER:-BORDER]

    return method


def _libraw(**options: Any) -> Method:
    """LibRaw via rawpy, with its defaults except for white balance as shot and ``options``.

    Raises
    ------
    EngineError
        If it fails.
    """

    def develop(path: Path) -> np.ndarray:
        try:
            with path.open("rb") as file, rawpy.imread(file) as raw:
                return raw.postprocess(use_camera_wb=True, **options)
        except (rawpy.LibRawError, rawpy.NotSupportedError) as error:
            raise EngineError(
                f"{path}: LibRaw cannot develop it ({first_line(error)}); leave out the file or the baseline"
            ) from error

    return develop


def _program(command: Sequence[str]) -> Method:
    """A program that develops {raw} into {picture} with its defaults; {folder} is an own folder.

    Raises
    ------
    EngineError
        If it fails.
    """

    def develop(path: Path) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            raw, picture = Path(folder) / "raw" / path.name, Path(folder) / "picture.png"
            raw.parent.mkdir()
            shutil.copyfile(path, raw)  # beside the original may lie the edits of a person
            values = {"raw": str(raw), "picture": str(picture), "folder": folder}
            filled = [part.format(**values) for part in command]
            try:
                run = subprocess.run(filled, capture_output=True, timeout=TIME_LIMIT, check=False)
            except subprocess.TimeoutExpired as error:
                raise EngineError(f"{path}: {command[0]} took more than {TIME_LIMIT} s") from error
            if not picture.exists():
                said = (run.stderr or run.stdout).decode(errors="replace").strip()[-300:]
                raise EngineError(f"{path}: {command[0]} wrote no picture ({said})")
            return np.asarray(load_photograph(picture))

    return develop


MOSAIC_BASELINES: Mapping[str, Method] = {
    "bilinear": partial(demosaic, pattern=PATTERN),
    "malvar": _colour_demosaicing("Malvar2004"),
    "menon": _colour_demosaicing("Menon2007"),
}

_DCB = {"demosaic_algorithm": rawpy.DemosaicAlgorithm.DCB}
# LibRaw's other noise reduction, wavelets (noise_thr), crashes the process: rawpy 0.28 with LibRaw 0.22
_DENOISE = {"fbdd_noise_reduction": rawpy.FBDDNoiseReductionMode.Full}
PROGRAMS = {
    "darktable": (
        "darktable-cli", "{raw}", "{picture}", "--core", "--library", ":memory:", "--configdir", "{folder}",
    ),
    "rawtherapee": ("rawtherapee-cli", "-o", "{picture}", "-n", "-b8", "-d", "-Y", "-c", "{raw}"),
}  # fmt: skip
RAW_BASELINES: Mapping[str, Method] = {
    "libraw": _libraw(),  # AHD, LibRaw's default
    "libraw-denoised": _libraw(**_DENOISE),
    "libraw-dcb": _libraw(**_DCB),
    "libraw-dcb-denoised": _libraw(**_DCB, **_DENOISE),
    **{name: _program(command) for name, command in PROGRAMS.items()},
}


def program_version(name: str) -> str | None:
    """The version that a baseline's program reports; None for other baselines."""
    if name not in PROGRAMS:
        return None
    option = "--version" if name == "darktable" else "-v"
    run = subprocess.run([PROGRAMS[name][0], option], capture_output=True, check=False)
    numbers = re.findall(r"\d+(?:\.\d+)+", run.stdout.decode("ascii", "replace"))
    return numbers[0] if numbers else "unknown"


def is_installed(name: str) -> bool:
    """False for a baseline whose program is missing."""
    return name not in PROGRAMS or shutil.which(PROGRAMS[name][0]) is not None


def check_installed(names: Sequence[str]) -> None:
    """Raise a UsageError if a baseline's program is missing, before any work."""
    for name in names:
        if not is_installed(name):
            raise UsageError(
                f"baseline {name}: {PROGRAMS[name][0]} is not installed; install it, or leave it out"
            )

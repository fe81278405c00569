"""What travels through the stages: the frame, the result."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from deepisp_cli.errors import DeepIspError
from deepisp_cli.lens_warp import LensWarp
from deepisp_cli.raw import RawImage


@dataclass
class Result:
    """What became of one input; also the object that ``--json`` prints.

    Attributes
    ----------
    input : str
        Its path, or "-".
    output : str or None
        The picture's path, or "-"; None where there is to be none.
    model, engine, device : str or None
        The model's name, the engine's ("onnx", "onnx-int8", "torch") and the device's ("cpu", "cuda:0",
        "mps"); None where nothing was developed.
    width, height : int or None
        Size of the output in pixels, turned upright; None where nothing was developed.
    bytes : int or None
        Size of the file; None where none was written.
    white_balance : list of three float, or None
        Gains for R, G and B, the smallest 1; None where nothing was developed.
    metered : float or None
        EV by which the light meter exposed the picture; None where it did not.
    seconds : dict from str to float
        By stage: read, demosaic, network, lens (where it is corrected), colour, render, write.
    notes : list of str
        Remarks for people: what the file lacks, what was done instead.
    error : str or None
        Which file, what is wrong and what to do; None: nothing is wrong.
    exit_code : int
        0, or the error's ``exit_code``, which says of what kind it is.
    status : str
        "written", "skipped", "planned" or "failed".
    """

    input: str
    output: str | None
    model: str | None = None
    engine: str | None = None
    device: str | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    white_balance: list[float] | None = None
    metered: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    exit_code: int = 0
    status: str = "planned"

    def fail(self, error: DeepIspError) -> None:
        """Say what went wrong."""
        self.status, self.error, self.exit_code = "failed", str(error), error.exit_code

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the seconds that the block takes to those of ``stage``."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0) + time.perf_counter() - started, 4)


@dataclass(eq=False)
class Frame:
    """A raw file between stages: the network's input, or the raw itself where the engine will compute that
    on its device.

    Attributes
    ----------
    picture : (H, W, 3) float32 or None
        Encoded camera RGB, white-balanced: 0 is black, 1 is white; negatives are noise. None: see ``raw``.
    origin : two ints
        Rows and columns, each 0 or 1, to put in front so that the network sees red first.
    matrix : (3, 3) float32
        White-balanced camera RGB to linear sRGB.
    orientation : int
        EXIF orientation that turns the picture upright, 1 to 8.
    lens_warp : LensWarp or None
        What corrects the lens's distortion in the restored picture.
    raw : RawImage or None
        What ``picture`` is made of, if it is still needed: for the engine's device, or for a DNG.
    gains : (3,) float32
        The white balance, the smallest gain 1.
    pattern : str
        The CFA's colours of the mosaic that ``picture`` is made of, from its first sample, as in `RawImage`.
    strength : float
        0 to 1, of the restoration: the option, or 0 for a DNG that is restored already.
    pixel_aspect : float
        Width over height of a pixel of the picture that has been turned upright.
    plain : (H, W, 3) float32 or None
        A linear DNG in full colour, in the form of ``picture``, where ``strength`` puts back what the network
        took off it; of mosaics it is put back from ``picture``.
    monochrome : bool
        Whether the finished picture is to be grey.
    """

    picture: np.ndarray | None
    origin: tuple[int, int]
    matrix: np.ndarray
    orientation: int
    lens_warp: LensWarp | None
    raw: RawImage | None
    gains: np.ndarray
    pattern: str
    strength: float
    pixel_aspect: float
    plain: np.ndarray | None = None
    monochrome: bool = False

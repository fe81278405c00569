"""What travels through the stages: the options, the frame, the result."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Integral, Real

import numpy as np

from deepisp_cli.errors import UsageError
from deepisp_cli.output import FORMATS
from deepisp_cli.raw import LARGEST_GAIN, RawImage

LOOKS = ("learned", "neutral")


@dataclass(frozen=True)
class Options:
    """How a picture is developed and written."""

    white_balance: str | Sequence[float] = (
        "camera"  # "camera", "daylight", "auto" or R, G, B gains: "2,1,1.6"
    )
    exposure: float = 0.0  # EV added to the finished picture, in linear light
    strength: float = 1.0  # 0: the plain bilinear picture, 1: the network's restoration
    look: str = "learned"  # "learned": the network's transform; "neutral": exposure and colour as metered
    format: str | None = None  # a key of output.FORMATS; None: by the file's suffix, JPEG for a stream
    quality: int = 95  # JPEG only, 1 to 100
    bit_depth: int = 8  # 8, or 16 for PNG and TIFF
    tile: int | None = None  # side of a tile in pixels, None: what suits the engine
    overwrite: bool = False  # replace an output that exists

    def __post_init__(self) -> None:
        if not isinstance(self.white_balance, str):
            parse_gains(self.white_balance)
            gains = tuple(float(gain) for gain in self.white_balance)  # can be compared and hashed
            object.__setattr__(self, "white_balance", gains)  # the class is frozen
        for name, kind, words in (
            ("exposure", Real, "a number"),
            ("strength", Real, "a number"),
            ("quality", Integral, "a whole number"),
            ("bit_depth", Integral, "a whole number"),
            ("tile", Integral | None, "a whole number"),
        ):
            if not isinstance(value := getattr(self, name), kind):
                raise UsageError(f"{name} is {words}, got {value!r}")
        if self.white_balance not in ("camera", "daylight", "auto"):
            parse_gains(self.white_balance)
        if not 0 <= self.strength <= 1:
            raise UsageError(f"strength is 0 to 1, got {self.strength:g}")
        if self.look not in LOOKS:
            raise UsageError(f"unknown look {self.look!r}; known: {', '.join(LOOKS)}")
        if not 1 <= self.quality <= 100:
            raise UsageError(f"quality is 1 to 100, got {self.quality}")
        if self.format is not None and self.format not in FORMATS:
            raise UsageError(f"unknown format {self.format!r}; known: {', '.join(FORMATS)}")
        depths = FORMATS[self.format].bit_depths if self.format else (8, 16)
        if self.bit_depth not in depths:
            holder = f"{self.format} cannot" if self.format else "no format can"
            raise UsageError(f"{holder} hold {self.bit_depth} bits; 16 bits go into PNG or TIFF")
        if self.tile is not None and self.tile < 1:
            raise UsageError(f"tiles have a side of 1 pixel at least, got {self.tile}")
        if not -10 <= self.exposure <= 10:
            raise UsageError(f"exposure is -10 to 10 EV, got {self.exposure:g}")


@dataclass
class Result:
    """What became of one input; also the object that ``--json`` prints."""

    input: str
    output: str
    model: str = ""
    engine: str = ""
    device: str = ""
    width: int = 0  # output size in pixels
    height: int = 0
    bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)  # by stage
    notes: list[str] = field(default_factory=list)  # remarks for people
    error: str | None = None
    exit_code: int = 0
    status: str = "written"  # "written", "skipped", "planned", "failed"

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0) + time.perf_counter() - started, 4)


@dataclass
class Frame:
    """A raw file between stages: the network's input, or the raw itself where the engine will compute that
    on its device."""

    picture: np.ndarray | None  # (H, W, 3) float32, encoded camera RGB
    origin: tuple[int, int]  # rows and columns to put in front so that the network sees red first
    matrix: np.ndarray  # (3, 3) float32, camera RGB to linear sRGB
    orientation: int  # EXIF
    raw: RawImage | None = None
    gains: np.ndarray | None = None  # (3,) float32, white balance


def parse_gains(given: str | Sequence[float]) -> np.ndarray:
    """The white-balance gains that a user gives.

    Parameters
    ----------
    given : text "R,G,B", or three numbers.

    Returns
    -------
    (3,) float32, scaled so that the smallest is 1.

    Raises
    ------
    UsageError
        If these are not three positive, finite numbers, or differ by more than `LARGEST_GAIN`.
    """
    try:
        parts = given.split(",") if isinstance(given, str) else given
        gains = np.array([float(part) for part in parts], np.float32)
    except (TypeError, ValueError):
        gains = np.empty(0, np.float32)
    if gains.shape != (3,) or not np.all(np.isfinite(gains)) or gains.min() <= 0:
        raise UsageError(
            f"white balance {given!r}: give camera, daylight, auto or three gains such as 2.1,1,1.6"
        )
    if gains.max() > LARGEST_GAIN * gains.min():
        raise UsageError(f"white balance {given!r}: one gain is more than {LARGEST_GAIN:g} times another")
    return gains / gains.min()

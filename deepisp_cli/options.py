"""How a picture is developed and written: the options, and what is allowed of them."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

from deepisp_cli.errors import UsageError
from deepisp_cli.output import FORMATS, check_format
from deepisp_cli.white_balance import WHITE_BALANCES, parse_gains, parse_kelvin

LOOKS = ("learned", "neutral")


@dataclass(frozen=True)
class Options:
    """How a picture is developed and written.

    Attributes
    ----------
    white_balance : str or three numbers
        "camera", "daylight" or "auto" (estimated from the picture); a colour temperature ("3200K" or "3200",
        1667 to 25000); or gains for R, G and B, as text ("2,1,1.6") or as numbers: only ratios count, and
        none is over 32.
    exposure : float
        EV from -10 to 10, added to the finished picture, in linear light.
    contrast : float or None
        0 to 1: how much of an S-curve the finished picture gets, as cameras put on theirs. None: what belongs
        to the model's learned look; with the neutral look 0.
    strength : float
        0 to 1: how much of the noise the network takes off. At 0 the picture keeps the sensor's samples, and
        the network only fills in the colours in between; linear DNGs have all of them.
    look : str
        "learned": the light meter and the network's transform; "neutral": neither of the two, exposure and
        colour as recorded.
    long_side : int or None
        Pixels that the longer side of the picture has at most, at least 1. None: it keeps its size.
    format : str or None
        A key of ``output.FORMATS``: "jpeg", "png", "tiff", or "dng", the restored picture as a linear DNG,
        not yet developed. None: by the file's suffix, JPEG for a stream.
    quality : int
        JPEG only, 1 to 100.
    bit_depth : int
        8, or 16 for PNG and TIFF; a DNG always has 16.
    tile : int or None
        Side of a tile in pixels, at least 1: smaller ones need less memory, the picture is the same. None:
        what suits the engine.
    overwrite : bool
        Whether an output that exists is replaced.

    Raises
    ------
    UsageError
        If an option is not one of the above.
    """

    white_balance: str | Sequence[float] = "camera"
    exposure: float = 0.0
    contrast: float | None = None
    strength: float = 1.0
    look: str = "learned"
    long_side: int | None = None
    format: str | None = None
    quality: int = 95
    bit_depth: int = 8
    tile: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.white_balance, str):
            given = self.white_balance
            given = tuple(given) if isinstance(given, Iterable) else given  # an iterator can be read once
            parse_gains(given)
            gains = tuple(float(gain) for gain in given)  # can be compared and hashed
            object.__setattr__(self, "white_balance", gains)  # the class is frozen
        elif self.white_balance not in WHITE_BALANCES and not parse_kelvin(self.white_balance):
            parse_gains(self.white_balance)
        for name, kind, words in (
            ("exposure", Real, "a number"),
            ("contrast", Real | None, "a number"),
            ("strength", Real, "a number"),
            ("quality", Integral, "a whole number"),
            ("bit_depth", Integral, "a whole number"),
            ("tile", Integral | None, "a whole number"),
            ("long_side", Integral | None, "a whole number"),
            ("overwrite", bool, "True or False"),
        ):
            if not isinstance(value := getattr(self, name), kind):
                raise UsageError(f"{name} is {words}, got {value!r}")
        for name in ("contrast", "strength"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"{name} is 0 to 1, got {value:g}")
        if self.look not in LOOKS:
            raise UsageError(f"unknown look {self.look!r}; known: {', '.join(LOOKS)}")
        if not 1 <= self.quality <= 100:
            raise UsageError(f"quality is 1 to 100, got {self.quality}")
        if self.format is not None:
            check_format(self.format)
        depths = FORMATS[self.format].bit_depths if self.format not in (None, "dng") else (8, 16)
        if self.bit_depth not in depths:
            holder = f"{self.format} cannot" if self.format else "no format can"
            raise UsageError(f"{holder} hold {self.bit_depth} bits; 16 bits go into PNG or TIFF")
        if self.tile is not None and self.tile < 1:
            raise UsageError(f"tiles have a side of 1 pixel at least, got {self.tile}")
        if self.long_side is not None and self.long_side < 1:
            raise UsageError(f"a picture has a side of 1 pixel at least, got {self.long_side}")
        if not -10 <= self.exposure <= 10:
            raise UsageError(f"exposure is -10 to 10 EV, got {self.exposure:g}")
        finished = (self.exposure, self.contrast or 0, self.look, self.long_side)  # 0: its preview has none
        if self.format == "dng" and finished != (0, 0, LOOKS[0], None):
            raise UsageError(
                "exposure, contrast, look and long side are for finished pictures, a DNG is left to be"
                " developed: leave them out, or choose another format"
            )

    def contrast_with(self, usual: float) -> float:
        """The contrast that is asked for; ``usual`` belongs to the model's learned look."""
        if self.contrast is not None:
            return self.contrast
        return usual if self.look == "learned" else 0.0

    def arguments(self) -> str:
        """The options of the look that are not the defaults, as `deepisp process` takes them."""
        words = []
        for name in ("white_balance", "exposure", "contrast", "strength", "look", "long_side"):
            value = getattr(self, name)
            if value != getattr(Options, name):
                text = ",".join(f"{gain:g}" for gain in value) if isinstance(value, tuple) else f"{value}"
                words += [f"--{name.replace('_', '-')}", shlex.quote(text)]
        return " ".join(words)

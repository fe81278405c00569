"""Everything that defines a model, as read from its TOML file."""

import math
import sys
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from deepisp_cli.errors import UsageError
from deepisp_cli.models import LARGEST
from deepisp_cli.network import NetworkConfig
from deepisp_cli.training.losses import BLOTCH, COLOUR_SCALES, MS_SSIM_SMALLEST, SSIM_SMALLEST
from deepisp_cli.training.mosaics import MosaicOptions
from deepisp_cli.training.ranges import check_range
from deepisp_cli.training.synthesis import SynthesisOptions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DATA = ("photographs", "panoramas", "raw_pairs", "shares", "validation")  # what a resumed run keeps
MOST = 10**9  # of what is counted: beyond that libraries fail in ways of their own
LENGTHS = ("steps", "minutes")  # of a stage; may change while it runs
SINGULARS = {int: "a whole number", float: "a number", bool: "true or false"}
PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


@dataclass(frozen=True)
class Stage:
    """One part of a run with its own cosine learning rate.

    With ``minutes`` the rate follows the clock where that is ahead of the steps, and a resumed run differs
    from an uninterrupted one; with steps alone it does not.
    """

    learning_rate: float  # for the filters
    batch: int  # crops a step
    crop: int  # pixels a side
    steps: int | None = None
    minutes: float | None = None
    parts: Literal["low", "separate", "joint", "high"] = "separate"  # see `Trainer.loss`
    blocks: int | None = None  # train only the first so many low-level blocks; None: all. Needs "low"

    def __post_init__(self) -> None:
        check_range(self, "learning_rate", above=0, most=1e37)  # float32 ends at 3e38
        check_range(self, "minutes", above=0)
        check_range(self, "batch", "steps", least=1, most=MOST)
        check_range(self, "crop", least=2, most=MOST)
        if self.steps is None and self.minutes is None:
            raise ValueError("a stage needs steps or minutes")
        if self.blocks is not None and (self.blocks < 1 or self.parts != "low"):
            raise ValueError("blocks is a number above 0 and goes with the parts 'low'")


@dataclass(frozen=True)
class TrainConfig:
    """Network, data, synthesis, losses, optimiser, schedule, seed."""

    network: NetworkConfig
    stages: tuple[Stage, ...]
    photographs: tuple[str, ...] = ()  # folders of 8- or 16-bit pictures
    panoramas: tuple[str, ...] = ()  # folders of linear HDR files
    raw_pairs: tuple[str, ...] = ()  # folders of raws and their reference pictures
    shares: tuple[float, float, float] = (1.0, 0.0, 0.0)  # relative shares of steps on each of the three
    validation: tuple[str, ...] = ()  # folders of photographs, or of raws with reference pictures
    longest_side: int = 2048  # pixels that photographs are reduced to, for memory and against their own noise
    reductions: tuple[float, ...] = (1.0, 1.41, 2.0, 2.83, 4.0)
    synthesis: SynthesisOptions = field(default_factory=SynthesisOptions)
    mosaic: MosaicOptions | None = None  # if given: mosaics of finished pictures instead of raws
    restoration_weight: float = 0.5  # weight of the restored image's loss against the finished picture's
    restoration_scales: tuple[int, ...] = (1, 4, 16)  # sides in pixels of the means in the restoration loss
    restoration_norm: Literal["l1", "rms"] = "l1"  # "rms": of each crop
    restoration_structure: float = 0.0  # weight of `losses.structure_loss` in the restoration loss
    restoration_colour: float = 0.0  # weight of `losses.colour_loss` in the restoration loss
    neutral_weight: float = 0.0  # weight of `losses.neutral_loss`
    picture_loss: Literal["rgb", "lab"] = "rgb"  # "rgb": `losses.picture_loss`; "lab": `losses.paper_loss`
    structure_weight: float = 0.2  # weight of structural similarity in "lab"
    average_decay: float = 0.999  # for the exponential moving average of the weights
    gradient_norm: float = 0.5
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # for the convolutions; auto: by the device
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("stages", "reductions"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; name at least one")
        weights = [each.name for each in fields(self) if each.name.endswith("_weight")]
        check_range(self, "shares", *weights, "restoration_structure", "restoration_colour", least=0)
        check_range(self, "longest_side", "restoration_scales", least=1)
        check_range(self, "reductions", least=1, most=100)
        check_range(self, "gradient_norm", above=0)
        check_range(self, "average_decay", least=0, most=1)
        check_range(self, "seed", least=0, most=2**63 - 1)
        ran = 0
        for stage in self.stages:
            if stage.blocks and stage.blocks < ran:
                raise ValueError(f"a stage trains {stage.blocks} blocks after one that trained {ran}")
            ran = max(ran, 0 if stage.parts == "high" else stage.blocks or len(self.network.dilations))
        network = self.network
        if max(network.cell, network.reach + network.lead, network.width) > LARGEST:
            raise ValueError(
                f"[network] has cells of {network.cell} pixels, a reach of {network.reach + network.lead} and"
                f" {network.width} channels; each is at most {LARGEST}, else no model can be made of it"
            )
        if not self.network.high_blocks and any(stage.parts != "low" for stage in self.stages):
            raise ValueError("a network without high-level stage trains the parts 'low' only")
        if any((stage.blocks or 0) > len(self.network.dilations) for stage in self.stages):
            raise ValueError(f"a stage has more blocks than the network's {len(self.network.dilations)}")
        finished = [stage.crop for stage in self.stages if stage.parts != "low"]
        if not self.restores and any(stage.parts == "low" for stage in self.stages):
            raise ValueError(
                "the parts 'low' need a restoration loss: restoration_weight and restoration_scales,"
                " restoration_structure or restoration_colour"
            )
        smallest = min(stage.crop for stage in self.stages)
        if self.restoration_structure and smallest < SSIM_SMALLEST:
            raise ValueError(f"restoration_structure needs crops of {SSIM_SMALLEST} pixels or more")
        if self.restoration_colour and smallest < max(COLOUR_SCALES):
            raise ValueError(f"restoration_colour needs crops of {max(COLOUR_SCALES)} pixels or more")
        if self.mosaic and (self.restoration_structure or self.restoration_colour):
            raise ValueError("restoration_structure and restoration_colour are for raws, not for [mosaic]")
        if self.mosaic and self.network.high_blocks:
            raise ValueError("[mosaic] is for networks without high-level stage (high_blocks = 0)")
        if any(stage.crop % 2 for stage in self.stages):
            raise ValueError("crops have an even number of pixels a side, as the mosaic has")
        if min(finished, default=self.smallest_side) < self.smallest_side:
            what = f"stages with the high level and the picture loss {self.picture_loss!r}"
            raise ValueError(f"{what} need crops of {self.smallest_side} pixels or more")
        if smallest < 2 * self.network.fold:
            raise ValueError(f"crops have at least {2 * self.network.fold} pixels a side")
        if max(self.restoration_scales, default=1) > smallest:
            raise ValueError(f"restoration_scales are at most the smallest crop's {smallest} pixels")

    @property
    def restores(self) -> bool:
        """Whether there is a loss of the restored image."""
        weights = len(self.restoration_scales) + self.restoration_structure + self.restoration_colour
        return self.restoration_weight * weights > 0

    @property
    def smallest_side(self) -> int:
        """Pixels a side without which the stages with the high level cannot run; 1 if there are none."""
        if all(stage.parts == "low" for stage in self.stages):
            return 1
        return max(self.network.cell, MS_SSIM_SMALLEST if self.picture_loss == "lab" else BLOTCH)


def on_photographs(config: TrainConfig, folders: Sequence[str]) -> TrainConfig:
    """``config`` with these photographs in place of all its data."""
    return replace(config, photographs=tuple(folders), panoramas=(), raw_pairs=(), shares=(1.0, 0.0, 0.0))


def with_data_of(config: TrainConfig, earlier: TrainConfig) -> TrainConfig:
    """``config`` with the folders and shares that a run began with."""
    return replace(config, **{key: getattr(earlier, key) for key in DATA})


def differences(earlier: TrainConfig, now: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """The values that differ, by key ("seed", "synthesis.exposure", "stage 2: steps"), as (earlier, now).

    Data is left out. Of a table that only one has, None stands for each value of the other.
    """
    then, new = _flat(earlier), _flat(now)
    return {key: (then.get(key), new.get(key)) for key in then | new if then.get(key) != new.get(key)}


def _flat(config: TrainConfig) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in asdict(config).items():
        if key == "stages":
            flat["number of stages"] = len(value)
            for number, stage in enumerate(value, 1):
                flat |= {f"stage {number}: {name}": entry for name, entry in stage.items()}
        elif isinstance(value, dict):
            flat |= {f"{key}.{name}": entry for name, entry in value.items()}
        elif key not in DATA:
            flat[key] = value
    return flat


def load_config(path: Path) -> TrainConfig:
    """Read a TOML file.

    Raises
    ------
    UsageError
        If it is not TOML, lacks a key, has an unknown one or a value that makes no sense.
    """
    try:
        return config_from_dict(tomllib.loads(path.read_text("utf-8-sig")))  # Windows' editors mark it
    except ValueError as error:  # TOML's and Unicode's errors are ValueErrors, too
        raise UsageError(f"{path}: {error}") from error
    except RecursionError as error:
        raise UsageError(f"{path}: is nested too deeply; no value is a list in a list") from error


def config_from_dict(data: dict[str, Any]) -> TrainConfig:
    """A `TrainConfig` from plain lists, tables and numbers; the inverse of ``asdict``.

    Raises
    ------
    ValueError
        If it lacks a key, has an unknown one or a value that makes no sense; says in which table.
    """
    data = dict(data)
    tables = {"network": NetworkConfig, "synthesis": SynthesisOptions, "mosaic": MosaicOptions}
    for key, kind in tables.items():
        if data.get(key) is not None:
            data[key] = _build(kind, data[key], f"[{key}]: ")
    stages = data.get("stages", [])
    if not isinstance(stages, (list, tuple)):
        raise ValueError("stages are tables in double brackets: [[stages]]")
    if "stages" in data:
        data["stages"] = [_build(Stage, stage, f"stage {number}: ") for number, stage in enumerate(stages, 1)]
    config: TrainConfig = _build(TrainConfig, data, "")
    return config


def _build(kind: Any, table: Any, place: str) -> Any:
    """A ``kind`` of the values in ``table``; what is wrong with them is said after ``place``."""
    if not isinstance(table, dict):
        raise ValueError(f"{place}is a table of keys and values, got {table!r}")
    known = {each.name: each for each in fields(kind)}
    unknown = [key for key in table if key not in known]
    if unknown:
        raise ValueError(f"{place}unknown key {unknown[0]!r}; known: {', '.join(known)}")
    for name, each in known.items():
        if each.default is MISSING and each.default_factory is MISSING and name not in table:
            raise ValueError(f"{place}{name!r} is missing")
    table = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    kinds = get_type_hints(kind)
    for name, value in table.items():
        if not _is_a(kinds[name], value):
            raise ValueError(f"{place}{name} is {_described(kinds[name])}, got {value!r}")
    try:
        return kind(**table)
    except ValueError as error:
        raise ValueError(f"{place}{error}") from error


def _is_a(kind: Any, value: Any) -> bool:
    """Whether ``value`` is of the type ``kind``; whole numbers are numbers, infinity and NaN are not."""
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if not isinstance(value, tuple):
            return False
        if kinds[-1] is not ...:
            return len(value) == len(kinds) and all(map(_is_a, kinds, value))
        return all(_is_a(kinds[0], each) for each in value)
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_args(kind):  # X | None
        return any(_is_a(each, value) for each in get_args(kind))
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _described(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is tuple:
        first, last = get_args(kind)[0], get_args(kind)[-1]
        count = "" if last is ... else f"{len(get_args(kind))} "
        return f"a list of {count}{PLURALS[first]}"
    return SINGULARS[get_args(kind)[0] if get_args(kind) else kind]

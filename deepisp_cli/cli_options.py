"""Options that several commands share."""

import math
import re
from typing import Any

import click

from deepisp_cli import ENGINES

UNITS = {"": 1} | {f"{unit}{binary}": base**power for power, unit in enumerate("KMGT", 1)
                   for binary, base in (("", 1000), ("I", 1024))}  # fmt: skip


class Bytes(click.ParamType):
    """A number of bytes such as 1500M, 2G, 2GB or 2GiB; K to T are powers of 1000, Ki to Ti of 1024."""

    name = "size"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        if isinstance(value, int | float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*((?:[KMGT]I?)?)B?", value.strip().upper())
        if not match or not float(match[1]):
            self.fail(f"{value!r} is not a size; give bytes such as 1500M or 2G", parameter, context)
        return float(match[1]) * UNITS[match[2]]


class Number(click.ParamType):
    """A number from one to another, or upwards; a wrong one is told which would be right."""

    name = "number"

    def __init__(self, lowest: float, highest: float = math.inf, whole: bool = False) -> None:
        self.lowest, self.highest, self.whole = lowest, highest, whole

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        try:
            number = int(value) if self.whole else float(value)
            if self.lowest <= number <= self.highest and math.isfinite(number):
                return number
        except (OverflowError, ValueError):
            pass
        kind = "whole number" if self.whole else "number"
        end = f"to {self.highest:g}" if math.isfinite(self.highest) else "on"
        self.fail(f"{value!r} is no {kind} from {self.lowest:g} {end}", parameter, context)


class Format(click.Choice):
    """A format of pictures, also by its usual suffix."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        return super().convert({"jpg": "jpeg", "tif": "tiff"}.get(value.lower(), value), parameter, context)


# shells complete what is of this type; it checks nothing: one file that cannot be read fails alone
A_PATH = click.Path(readable=False, allow_dash=True)


def json_option(command: str, text: str) -> Any:
    """``--json``, in the environment by this name, too."""
    return click.option("--json", "as_json", is_flag=True, envvar=f"DEEPISP_{command}_JSON", help=text)


engine_option = click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="auto",
    show_default=True,
    help="ONNX Runtime in float32 or 8 bits, or torch; auto: the fastest that works.",
)
DEVICES = (
    "auto (a GPU that works, else the CPU), cpu, cuda, cuda:N or mps. Naming a device that is missing is an"
    " error."
)
device_option = click.option("--device", default="auto", metavar="DEVICE", show_default=True, help=DEVICES)
devices_option = click.option(
    "--device",
    default="auto",
    metavar="DEVICE[,...]",
    show_default=True,
    help=f"{DEVICES} Several, such as cuda:0,cuda:1, share the files.",
)
tile_option = click.option(
    "--tile",
    type=Number(64, whole=True),
    metavar="PIXELS",
    help="Tile size: smaller tiles need less memory; the picture is the same. [as memory allows]",
)
memory_option = click.option(
    "--memory",
    type=Bytes(),
    metavar="SIZE",
    help="Limit for all pictures in progress, such as 2G; one large picture may exceed it. "
    "[half of the machine's]",
)

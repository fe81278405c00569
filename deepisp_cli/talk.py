"""What the command line says: data on stdout, words on stderr. It goes on working where nobody listens."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

import click

from deepisp_cli.errors import INTERRUPTED, DeepIspError, OutputError
from deepisp_cli.streams import let_wait

if TYPE_CHECKING:
    from deepisp_cli.frame import Result

UNITS = {"exposure_time": "{} s", "f_number": "f/{}", "focal_length": "{} mm"}


@contextmanager
def told(context: click.Context) -> Iterator[None]:
    """Tell what went wrong, and end with its exit code."""
    try:
        yield
    except DeepIspError as error:
        tell(f"deepisp: {printable(str(error))}")
        context.exit(error.exit_code)
    except KeyboardInterrupt:
        tell("deepisp: interrupted")
        context.exit(INTERRUPTED)
    except click.ClickException as error:  # click itself would end with 1 where stderr is full
        try:
            error.show()
        except OSError:
            give_up(sys.stderr)
        context.exit(error.exit_code)
    except BrokenPipeError:
        raise  # nobody is reading: click ends quietly, with 1
    except OSError as error:
        give_up(sys.stdout)
        unnamed = "the current folder" if isinstance(error, FileNotFoundError) else "standard output"
        message = f"{error.filename or unnamed}: {error.strerror}; check the disk and the path"
        tell(f"deepisp: {printable(message)}")
        context.exit(OutputError.exit_code)


def tell(text: str, newline: bool = True) -> None:
    """Say something to people. If stderr is closed or full, the work goes on."""
    try:
        click.echo(text, nl=newline, err=True)
    except OSError:
        give_up(sys.stderr)


def give_up(stream: TextIO) -> None:
    """Discard what is still buffered: Python would try, and fail, to write it when it exits."""
    with suppress(OSError, AttributeError):  # it may not be a real file, or closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def duration(seconds: float) -> str:
    """A time such as "8.2 s", "3 min 20 s" or "2 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def need_stdout() -> None:
    """Make standard output ready for data; `OutputError` if it was closed before the program started."""
    if sys.stdout is None:
        raise OutputError("standard output is closed; open it, or name a file with -o")
    let_wait(sys.stdout)


def is_terminal(stream: Any) -> bool:
    """Whether people see at once what is written to a stream, which may be closed (None)."""
    return stream is not None and stream.isatty()


def printable(text: str) -> str:
    """Escape what is not printable: file names may hold line ends, terminal commands and other encodings'
    bytes."""

    def escaped(letter: str) -> str:
        byte = ord(letter) - 0xDC00  # as Python has bytes that are no UTF-8
        return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else letter.encode("unicode_escape").decode()

    return "".join(letter if letter.isprintable() else escaped(letter) for letter in text)


class Talk:
    """Reports what became of each file: JSON on stdout, words on stderr."""

    def __init__(self, as_json: bool, quiet: bool, verbose: bool) -> None:
        self.as_json, self.quiet, self.verbose = as_json, quiet, verbose

    def __call__(self, result: "Result") -> None:
        if self.as_json:
            click.echo(json.dumps(asdict(result)))
        if result.error:
            tell(f"deepisp: {printable(result.error)}")
        elif not self.quiet:
            total = sum(result.seconds.values())
            took = f" ({total:.1f} s)" if result.status == "written" else ""
            names = printable(f"{result.input} -> {result.output}" if result.output else result.input)
            tell(f"{names}: {result.status}{took}")
            for note in result.notes:
                tell(f"  {printable(note)}")
        if self.verbose and result.seconds:
            tell(f"  {'; '.join(_facts(result))}")


def _facts(result: "Result") -> list[str]:
    """How a picture was developed, for ``--verbose``."""
    facts = [f"{result.model} on {result.engine}/{result.device}" if result.model else "not developed"]
    if result.width:
        facts.append(f"{result.width}x{result.height}, {result.bytes or 0} bytes")
    if result.white_balance:
        facts.append("white balance " + ",".join(f"{gain:g}" for gain in result.white_balance))
    if result.metered is not None:
        facts.append(f"metered {result.metered:+g} EV")
    facts.append(", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in result.seconds.items()))
    return facts


def progress_on(bar: Any) -> Callable[[int, float], None]:
    """A ``progress`` for `develop_many` that updates a bar of `click`; it does nothing if that is None.
    Several jobs may be in progress at a time."""
    shares: dict[int, float] = {}  # of jobs in progress
    done: set[int] = set()

    def move(index: int, share: float) -> None:
        if bar is not None:
            shares[index] = share
            if share == 1.0:
                del shares[index]
                done.add(index)
            try:
                bar.update(max(0, int(1000 * (len(done) + sum(shares.values()))) - bar.pos), len(done))
            except OSError:  # the terminal is gone
                give_up(sys.stderr)

    return move


def fact_text(key: str, value: Any) -> str:
    """One of the facts of ``deepisp info``, for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "; ".join(f"{name} {fact_text('', text)}" for name, text in value.items())
    if isinstance(value, list):  # gains as --white-balance takes them
        separator = "," if all(isinstance(item, float) for item in value) else "; "
        return separator.join(map(str, value))
    if key in UNITS:
        fraction = key == "exposure_time" and value < 0.3
        return UNITS[key].format(f"1/{1 / value:.0f}" if fraction else f"{value:g}")
    return str(value)

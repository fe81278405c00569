"""Errors that users can meet. Each class carries the exit code of the command line.

A message says which file, what is wrong and what to do. The library raises; only the command line prints.
"""

import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module

INTERRUPTED = 130  # exit code after Ctrl-C; on POSIX systems `interrupts` has the last word
LACK_OF_MEMORY = ("can't start new thread", "failed to map segment", "cannot allocate memory")


class DeepIspError(Exception):
    """Base of every error the program raises on purpose."""

    exit_code = 1


class UsageError(DeepIspError):
    """The request makes no sense: an unknown option value, clashing outputs, an existing output."""

    exit_code = 2


class OutputExistsError(UsageError):
    """The output exists, and may not be replaced."""


class InputError(DeepIspError):
    """An input cannot be read: missing, damaged or truncated."""

    exit_code = 3


class UnsupportedRawError(InputError):
    """An input is intact, but of a kind that is not developed: Foveon, quad Bayer, ..."""


class ModelError(DeepIspError):
    """A model is missing, damaged or does not fit the program."""

    exit_code = 4


class EngineError(DeepIspError):
    """The engine or device that was asked for is not available, or failed."""

    exit_code = 4


class OutputError(DeepIspError):
    """An output cannot be written."""

    exit_code = 5


class DiskFullError(OutputError):
    """The disk that an output goes to is full, or what the user may take of it is used up."""


def joint_exit_code(codes: Sequence[int]) -> int:
    """0: nothing failed; the error's own code if there was one input; else 1."""
    return codes[0] if len(codes) == 1 else int(any(codes))


def not_installed(what: str, extra: str) -> str:
    """What to tell where a library of one of the project's extras is missing."""
    return f'{what} is not installed; in deepisp\'s checkout: pip install ".[{extra}]"'


def check_path(path: object) -> None:
    """Raise `UsageError` if this is no path, or one that no file can have."""
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise UsageError(f"{type(path).__name__}: is no path; give a str or a Path")
    with suppress(UnicodeEncodeError):
        if b"\0" not in os.fsencode(path):
            return
    raise UsageError(f"{os.fspath(path)!r}: no file can have this name; choose another")


@contextmanager
def input_errors(name: object) -> Iterator[None]:
    """Turn the system's errors about a file that cannot be read into `InputError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file; check the name") from error
    except OSError as error:
        if os.path.isdir(error.filename or ""):  # for which Windows says that access is denied
            raise InputError(f"{name}: is a folder; give raw files") from error
        reason = error.strerror or error
        remedy = "its permissions" if isinstance(error, PermissionError) else "the disk"
        raise InputError(f"{name}: cannot be read ({reason}); check {remedy}") from error


@contextmanager
def loading(library: str) -> Iterator[None]:
    """Turn what an import of a half-installed library raises (DLLs that it needs may be missing, or all but
    its folder) into `EngineError`."""
    try:
        yield
    except (ImportError, OSError, AttributeError) as error:
        if is_lack_of_memory(error):
            raise MemoryError(f"{library} cannot be loaded") from error
        remedy = "install it again"
        if sys.platform == "win32":
            remedy += ", or Microsoft's Visual C++ runtime, which it needs"
        raise EngineError(f"{library} cannot be loaded ({first_line(error)}); {remedy}") from error


def refuse_not_installed(libraries: Iterable[str], extra: str) -> None:
    """Import the libraries of one of the project's extras.

    Raises
    ------
    UsageError
        If one is missing.
    EngineError
        If one is half-installed.
    """
    for library in libraries:
        with loading(library):
            try:
                import_module(library)
            except ModuleNotFoundError as error:
                raise UsageError(not_installed(str(error.name), extra)) from error


def first_line(error: Exception) -> str:
    """The first line of what ``error`` says (some libraries explain at length), or its class if nothing."""
    first = error.args[0] if error.args else ""
    text = first.decode("utf-8", "replace") if isinstance(first, bytes) else str(error)  # LibRaw's are bytes
    return next(iter(text.splitlines()), type(error).__name__)


def is_lack_of_memory(error: Exception) -> bool:
    """Whether that is what an exception is about: Python and the loader of libraries have no class for it."""
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in LACK_OF_MEMORY)


@contextmanager
def told_of(name: str) -> Iterator[None]:
    """Turn unexpected exceptions, out of memory or a bug, into an error that names the file."""
    try:
        yield
    except EngineError as error:  # an engine does not know what it works on
        raise EngineError(f"{name}: {error}") from error
    except DeepIspError:
        raise
    except Exception as error:
        if is_lack_of_memory(error):
            message = f"{name}: not enough memory; close other programs, or try --tile 128"
            raise EngineError(message) from error
        *_, last = traceback.extract_tb(error.__traceback__)
        where = f"{os.path.basename(last.filename)}, line {last.lineno}"
        raise DeepIspError(f"{name}: bug, please report it: {error!r} in {where}") from error

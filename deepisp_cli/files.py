"""Files that are written completely or not at all, and what can be said of them before."""

import atexit
import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from deepisp_cli.errors import DiskFullError, OutputError, OutputExistsError, UsageError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
REMEDIES = {
    **dict.fromkeys(DISK_FULL, "free some space or choose another folder"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose a folder you may write to"),
    errno.ENOENT: "create the folder first",
    errno.ENOTDIR: "choose another folder",
    errno.EISDIR: "name a file, not a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EPIPE: "the program that reads it has closed the pipe",
}
if os.name == "nt":
    REMEDIES[errno.EACCES] += ", or close the program that holds the file"
TRIES, PAUSE = 10 if os.name == "nt" else 1, 0.1  # of renaming a file that is complete, and seconds between
STANDARD_STREAM = "-"  # in place of a path
_RENAME_EXCL = 4  # macOS's stdio.h
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1  # Linux's fcntl.h and fs.h

_unfinished: set[str] = set()  # temporary files being written


@contextlib.contextmanager
def output_errors(name: object) -> Iterator[None]:
    """Turn the system's errors about a file that cannot be written into `OutputError`."""
    try:
        yield
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "check the disk and the path")
        kind = DiskFullError if error.errno in DISK_FULL else OutputError
        raise kind(f"{name}: cannot be written ({error.strerror or error}); {remedy}") from error


def replace_file(target: Path, data: bytes) -> None:
    """Write a file completely, or raise `OutputError` and leave what was there."""
    with output_errors(target):
        save(target, data, overwrite=True)


def save(target: Path, data: bytes, overwrite: bool) -> None:
    """Write a file under another name in the same folder and rename it when it is complete.

    Raises
    ------
    OutputExistsError
        If it exists and ``overwrite`` is false.
    OSError
        If that fails.
    """
    if is_device(target):
        with open(target, "wb", buffering=0) as device:
            return pour(device, data)
    final = os.path.realpath(target)
    temporary = os.path.join(os.path.dirname(final), f".deepisp-{secrets.token_hex(4)}.part")
    _unfinished.add(temporary)
    try:
        mode, kept = 0o666, None  # less the umask; tempfile's files only the owner can read
        if overwrite and os.name == "posix":  # elsewhere: write protection, which stops renaming and removing
            with contextlib.suppress(OSError):
                mode = kept = stat.S_IMODE(os.stat(final).st_mode)
        with open(temporary, "xb", opener=lambda path, flags: os.open(path, flags, mode)) as file:
            file.write(data)
            file.flush()
            _sync(file.fileno())
        if kept is not None:
            with contextlib.suppress(OSError):
                os.chmod(temporary, kept)  # what the umask took
        if overwrite:
            _patiently(os.replace, temporary, final)
        else:
            _patiently(_rename_to_new, temporary, final)
    except FileExistsError as error:
        raise exists_already(target) from error
    finally:
        _remove(temporary)


def _sync(number: int) -> None:
    """Wait until a file is on the disk. Some file systems cannot tell; dd and others go on there, too."""
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise


def _patiently(rename: Callable[[str, str], None], temporary: str, final: str) -> None:
    """On Windows other programs, such as scanners for viruses, hold fresh files for a moment."""
    for _ in range(TRIES - 1):
        try:
            return rename(temporary, final)
        except PermissionError:
            time.sleep(PAUSE)
    rename(temporary, final)


def _remove(temporary: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(temporary)
    _unfinished.discard(temporary)


@atexit.register
def _remove_unfinished() -> None:
    """Remove what threads were still writing when the program was forced to end."""
    for temporary in list(_unfinished):
        _remove(temporary)


def _rename_to_new(temporary: str, final: str) -> None:
    """Rename, but fail if the new name exists, even if it has only just appeared."""
    if os.name == "nt":
        return os.rename(temporary, final)  # which fails there
    for way in (_rename_exclusively, os.link):
        try:
            return way(temporary, final)
        except (FileExistsError, FileNotFoundError):  # not found: `_remove_unfinished` was first
            raise
        except (OSError, AttributeError):  # this system, or file system, does not know it
            continue
    if os.path.lexists(final):  # and hope that it does not appear now
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), final)
    os.replace(temporary, final)


def _rename_exclusively(old: str, new: str) -> None:
    """Linux's and macOS's calls, which Python does not offer. Raises OSError; AttributeError elsewhere."""
    libc = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(old), os.fsencode(new)
    if sys.platform == "darwin":
        failed = libc.renamex_np(*paths, _RENAME_EXCL)
    else:
        failed = libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_NOREPLACE)
    if failed:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), new)


def is_taken(target: Path) -> bool:
    """Whether writing there would replace something: also a dangling link, but not a device."""
    return os.path.lexists(target) and not is_device(target)


def check_target(target: Path, overwrite: bool, source: Path | str | None = None) -> None:
    """Look, before minutes of work, whether a picture can be written; `write_picture` looks once more.

    Raises
    ------
    OutputExistsError
        If that would replace something, and ``overwrite`` does not allow it.
    UsageError
        If it is the ``source`` itself, which is never replaced.
    OutputError
        If the folder that it goes into, or would be made in, cannot be written.
    """
    if is_device(target):
        return
    with contextlib.suppress(OSError, ValueError):  # one is not there, or no file can have its name
        if source is not None and os.path.samefile(source, target):
            raise UsageError(f"{target}: the picture would replace its own raw; choose another name")
    if not overwrite and is_taken(target):
        raise exists_already(target)
    if os.path.isdir(target):
        raise OutputError(f"{target}: is a folder; choose another name")
    with output_errors(target), contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        os.lstat(target)  # its name may be too long
    with contextlib.suppress(OSError):  # reported when the folder is made
        folder = _existing_folder(target)
        if not os.path.isdir(folder):  # nor if it may not be looked at, for which `Path.is_dir` raises
            dead = os.path.islink(folder) and not os.path.exists(folder)
            what = "is a link to nowhere; mount its disk, or" if dead else "is not a folder;"
            raise OutputError(f"{folder}: {what} choose another with -o")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{folder}: cannot be written to; choose another folder with -o")


def _existing_folder(target: Path) -> Path:
    """What there is already of the folders that a picture goes into, which may be behind a link."""
    parents = Path(os.path.realpath(target) if os.path.islink(target) else target).absolute().parents
    drive = parents[-1]  # which may be missing, too
    return next((parent for parent in parents if os.path.lexists(parent)), drive)


def disk_space(target: Path) -> tuple[int, int]:
    """The number of the disk that a picture goes to, and its free bytes; OSError if it is missing."""
    folder = _existing_folder(target)
    return folder.stat().st_dev, shutil.disk_usage(folder).free


def make_parent(target: Path) -> None:
    """Make the folder that a picture goes into.

    Raises
    ------
    OutputError
        If that fails.
    """
    try:
        os.makedirs(target.parent, exist_ok=True)
    except OSError as error:
        full = error.errno in DISK_FULL
        kind, remedy = (DiskFullError, "free some space, or ") if full else (OutputError, "")
        raise kind(
            f"{target.parent}: cannot be created ({error.strerror}); {remedy}choose another folder with -o"
        ) from error


def is_device(path: Path) -> bool:
    """Whether the path is a device or pipe, such as /dev/stdout: written to, never replaced."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def pour(stream: BinaryIO, data: bytes) -> None:
    """Write everything to a stream: an unbuffered one may accept only part at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]
    stream.flush()


def exists_already(target: Path) -> OutputExistsError:
    """What to raise where an output exists that may not be replaced."""
    return OutputExistsError(f"{target}: already exists; use --overwrite or choose another name")

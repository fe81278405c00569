"""What to develop: files, folders and patterns → raw files. Sidecars and other companions are passed over."""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from glob import escape, glob, has_magic
from pathlib import Path
from typing import NamedTuple

from deepisp_cli.errors import InputError, UsageError
from deepisp_cli.files import STANDARD_STREAM
from deepisp_cli.output import FINISHED_SUFFIXES, FORMATS

# What a folder is searched for; a file named explicitly may have any suffix.
RAW_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc"),
    *(".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf"),
    *(".srw", ".x3f"),
)
PICTURE_SUFFIXES = {*FORMATS["jpeg"].suffixes, *FORMATS["png"].suffixes}  # not raws; some raws are .tif
# Of editors, cameras.
SIDECAR_SUFFIXES = {".xmp", ".pp3", ".dop", ".acr", ".on1", ".nksc", ".aae", ".thm", ".lrv"}
# What cameras write beside a raw under its name, and this program's pictures of it.
COMPANION_SUFFIXES = {*FINISHED_SUFFIXES, ".heic", ".heif", ".hif", ".wav"}
FILM_SUFFIXES = {".mov", ".mp4", ".avi", ".mts", ".mxf"}  # which cameras number like pictures
RESTORED = "-deepisp"  # ends the name of a DNG: it must not be that of the source
BINS = ("$RECYCLE.BIN", "SYSTEM VOLUME INFORMATION")  # Windows' folders of deleted files and the like
HIDDEN = (".", *BINS)  # how names of folders begin that are skipped
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
ABSENT_ON_WINDOWS = (21, 123, 1921)  # no disk in the drive; no name, as "*.nef"; a link to nowhere
NAMED_WITHIN = 1 << 16  # bytes
CLOSED = "cannot be searched; check its permissions"
DEAD_LINK = "is a link to a file that is not there; mount its disk or fetch it"
CLOSED_LINK = "is a link to a file that cannot be read; check the permissions of that"
STANDARD_INPUT = "/dev/stdin"
WITHOUT_RAWS = "no raw files in this folder"
EMPTY = "the name of a file or folder is empty; is a variable not set?"


@contextmanager
def _access_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name = error.filename or "the current folder"  # which may have been removed
        check = "its permissions" if isinstance(error, PermissionError) else "the path"
        raise InputError(f"{name}: cannot be accessed ({error.strerror}); check {check}") from error


class Sources(NamedTuple):
    """What inputs stand for."""

    found: list[tuple[Path | str, Path]]
    """Each file once, and the folder that its sub-folders are relative to."""
    missing: list[tuple[str, InputError]]
    """What cannot be read or is no raw, and what is wrong with it."""
    passed_over: list[tuple[str, str]]
    """Folders of other things, as "card/*" finds them beside raws, and a remark."""


@_access_errors()
def find_sources(inputs: Sequence[str], recursive: bool = False) -> Sources:
    """Search the inputs for raw files.

    Sidecars, pictures beside a raw of the same name that is also an input, this program's pictures, and
    folders of other things beside other inputs are passed over: they are what "card/*" finds.

    Parameters
    ----------
    inputs : files, folders, patterns, or "-" alone: standard input.
    recursive : also search sub-folders.

    Raises
    ------
    InputError
        If the current folder has been removed.
    UsageError
        If standard input is among other inputs, or a name is empty.
    """
    if "" in inputs:
        raise UsageError(EMPTY)
    inputs = [STANDARD_STREAM if given == STANDARD_INPUT else given for given in inputs]
    if STANDARD_STREAM in inputs:
        if set(inputs) != {STANDARD_STREAM}:
            raise UsageError("standard input cannot be mixed with other inputs; give it alone")
        return Sources([(STANDARD_STREAM, Path())], [], [])
    search = _Search(recursive)
    chosen = [given for given in inputs if Path(given).name.upper() not in BINS]
    for given in chosen or inputs:  # card/* names the bin, too
        try:
            with _access_errors():
                search.add(given)
        except InputError as error:  # the others can be developed
            search.missing.append((given, error))
    found = _raws_among(search)
    if not found:
        for name in search.without:
            search.miss(name, WITHOUT_RAWS)
        search.without.clear()
    return Sources(found, search.missing, [(name, f"{name}: {WITHOUT_RAWS}") for name in search.without])


@dataclass
class _Search:
    """What inputs have led to so far."""

    recursive: bool
    files: list[tuple[Path, Path]] = field(default_factory=list)  # each with the folder it was found in
    missing: list[tuple[str, InputError]] = field(default_factory=list)
    without: list[str] = field(default_factory=list)  # folders of other things than raws

    def miss(self, name: object, reason: str) -> None:
        self.missing.append((str(name), InputError(f"{name}: {reason}")))

    def add(self, given: str) -> None:
        path = Path(given) if str(Path(given)) != STANDARD_STREAM else Path(given).absolute()
        mode = _mode(path)
        if mode is not None and stat.S_ISDIR(mode):
            self._add_folder(given, path)
        elif mode is not None:
            self.files.append((path, path.parent))
        elif has_magic(given):
            self._add_matches(given)
        else:
            self.miss(given, DEAD_LINK if path.is_symlink() else "no such file or folder; check the name")

    def _add_folder(self, given: str, path: Path) -> None:
        """One that holds nothing at all may be where a card should be."""
        raws, unreadable = search_folder(path, self.recursive)
        self.files += [(raw, path) for raw in raws]
        for name, reason in unreadable.items():
            self.miss(name, reason)
        if raws or unreadable:
            return
        children = [child for child in path.iterdir() if not child.name.startswith(".")]
        if not self.recursive and any(child.is_dir() for child in children):
            self.miss(given, f"{WITHOUT_RAWS}; -r searches its sub-folders")
        elif children:
            self.without.append(given)
        else:
            self.miss(given, WITHOUT_RAWS)

    def _add_matches(self, given: str) -> None:
        root, pattern = os.path.split(given)
        while has_magic(root) and os.path.basename(root) and not os.path.isdir(root):
            root, name = os.path.split(root)
            pattern = os.path.join(name, pattern)
        # "2024 [raw]" is a folder's name; shells on Windows cannot quote a part
        stem, suffix = os.path.splitext(pattern)  # cameras write capitals: *.nef finds *.NEF, too
        any_case = has_magic(os.path.basename(pattern))
        suffixes = {suffix, suffix.lower(), suffix.upper()} if any_case else {suffix}
        spelled = {os.path.join(escape(root), stem + ending) for ending in suffixes}
        found = {Path(name) for each in spelled for name in _matches(each)}
        names = sorted(name for name in found if not _is_in_bin(name.relative_to(root)))
        matches, unreadable = _files_among(names)
        self.files += [(match, match.parent) for match in matches]
        for name, reason in unreadable.items():
            self.miss(name, reason)
        if not matches and not unreadable:
            self.miss(given, "no file matches; check the pattern (a folder is given by its name)")


def _matches(pattern: str) -> Iterator[str]:
    """As of `glob`, but "**" follows no links to folders, which may lead in circles."""
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from glob(pattern)
        return
    place = parts.index("**")
    rest = parts[place + 1 :] or ("*",)
    for start in glob(str(Path(*parts[:place]))):
        for parent, folders, _ in os.walk(start):
            folders[:] = _shown(folders)
            yield from _matches(os.path.join(escape(parent), *rest))


def _shown(folders: Sequence[str]) -> list[str]:
    """Those that a search goes into."""
    return [name for name in folders if not name.upper().startswith(HIDDEN)]


def _is_in_bin(path: Path) -> bool:
    return any(part.upper() in BINS for part in path.parts)


def _raws_among(search: _Search) -> list[tuple[Path | str, Path]]:
    """The files once each, without sidecars, pictures beside their raws and this program's own pictures."""
    files = search.files
    aside = SIDECAR_SUFFIXES | COMPANION_SUFFIXES | FILM_SUFFIXES
    if all(file.suffix.lower() in aside for file, _ in files):
        aside -= {".tif", ".tiff"}  # then these are the raws
    raws = [file for file, _ in files if file.suffix.lower() not in aside and not _is_finished(file)]
    with_raw = {_without_suffix(file) for file in raws}
    found: dict[str, tuple[Path | str, Path]] = {}
    for file, folder in files:
        suffix = file.suffix.lower()
        companion = suffix in aside and _without_suffix(file) in with_raw
        if suffix in SIDECAR_SUFFIXES:
            if not with_raw:
                search.miss(file, "is a sidecar file; give the raw file that it belongs to")
        elif companion or (with_raw and (suffix in FILM_SUFFIXES or _is_finished(file))):
            continue
        elif suffix in PICTURE_SUFFIXES:
            search.miss(file, "is a picture, not a raw file; give the raw file that the camera wrote")
        else:
            found.setdefault(os.path.abspath(file), (file, folder))
    return list(found.values())


def _is_finished(file: Path) -> bool:
    """Whether it is a picture that this program has made."""
    return file.suffix.lower() in FINISHED_SUFFIXES and is_ours(file)


def is_ours(picture: Path) -> bool:
    """Whether the program's name stands in a picture's EXIF, which is at its head or at its end."""
    if not os.path.isfile(picture):
        return False  # a pipe would be waited for
    with suppress(OSError), picture.open("rb") as file:
        head = file.read(NAMED_WITHIN)
        file.seek(-min(NAMED_WITHIN, os.fstat(file.fileno()).st_size), os.SEEK_END)
        return b"deepisp " in head + file.read()
    return False


def _without_suffix(file: Path) -> str:
    return os.path.splitext(os.path.abspath(file))[0]


def _mode(path: Path) -> int | None:
    """What kind of file it is, with links followed; None if there is none. A folder that may not be entered
    raises OSError: `Path.exists` and the like say no of it, from Python 3.14 on."""
    try:
        return path.stat().st_mode
    except ValueError:  # a zero in its name
        return None
    except OSError as error:
        if error.errno in ABSENT or getattr(error, "winerror", None) in ABSENT_ON_WINDOWS:
            return None
        raise


def _files_among(paths: Sequence[Path]) -> tuple[list[Path], dict[str, str]]:
    """Those that are files; and what cannot be read, with the reason: links to raws that are not there, and
    folders that may be listed, but not entered."""
    files: list[Path] = []
    unreadable: dict[str, str] = {}
    for path in paths:
        try:
            mode = _mode(path)
            if mode is None and path.suffix.lower() in RAW_SUFFIXES and path.is_symlink():
                unreadable[str(path)] = DEAD_LINK
            elif mode is not None and stat.S_ISREG(mode):
                files.append(path)
        except PermissionError:
            if not os.path.islink(path):
                unreadable[str(path.parent)] = CLOSED
            elif path.suffix.lower() in RAW_SUFFIXES:
                unreadable[str(path)] = CLOSED_LINK
        except OSError as error:
            unreadable[str(path)] = f"cannot be read ({error.strerror}); check the disk"
    return files, unreadable


def search_folder(folder: Path, recursive: bool) -> tuple[list[Path], dict[str, str]]:
    """The raws in a folder, with ``recursive`` also in its sub-folders, sorted; and what cannot be read, with
    the reason: folders, and links to raws that are not there. Hidden ones are skipped: macOS leaves "._NAME"
    files and .Trashes on cards, Windows its own bin. So are restored raws beside their originals."""
    found: list[Path] = []
    closed: dict[str, str] = {}

    def refused(error: OSError) -> None:
        why = f"cannot be searched ({error.strerror}); check the disk and the path"
        closed[str(error.filename)] = CLOSED if isinstance(error, PermissionError) else why

    for parent, folders, names in os.walk(folder, onerror=refused):
        folders[:] = _shown(folders) if recursive else []
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    files, unreadable = _files_among(sorted(file for file in found if file.suffix.lower() in RAW_SUFFIXES))
    stems = {file.with_suffix("") for file in files}
    restored = {stem.with_name(stem.name + RESTORED) for stem in stems}
    return [file for file in files if file.with_suffix("") not in restored], closed | unreadable

"""What to develop: files, folders and patterns → raw files. Sidecars and other companions are passed over."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import escape, glob, has_magic
from pathlib import Path
from typing import NamedTuple

from deepisp_cli.errors import InputError, UsageError
from deepisp_cli.files import STANDARD_STREAM
from deepisp_cli.output import FORMATS, OUTPUT_SUFFIXES

# What a folder is searched for; a file named explicitly may have any suffix.
RAW_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc"),
    *(".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf"),
    *(".srw", ".x3f"),
)
PICTURE_SUFFIXES = {*FORMATS["jpeg"].suffixes, *FORMATS["png"].suffixes}  # not raws; some raws are .tif
SIDECAR_SUFFIXES = {
    ".xmp",
    ".pp3",
    ".dop",
    ".acr",
    ".on1",
    ".nksc",
    ".aae",
    ".thm",
    ".lrv",
}  # of editors, cameras
# What cameras write beside a raw under its name, and this program's pictures of it.
COMPANION_SUFFIXES = {*OUTPUT_SUFFIXES, ".heic", ".heif", ".hif", ".wav", ".mov", ".mp4"} - {".dng"}
RESTORED = "-deepisp"  # ends the name of a DNG: it must not be that of the source
HIDDEN = (".", "$RECYCLE.BIN", "SYSTEM VOLUME INFORMATION")  # how names of folders begin that are skipped
NAMED_WITHIN = 1 << 16  # bytes
CLOSED = "cannot be searched; check its permissions"
DEAD_LINK = "is a link to a file that is not there; mount its disk or fetch it"
STANDARD_INPUT = "/dev/stdin"
WITHOUT_RAWS = "no raw files in this folder"
EMPTY = "the name of a file or folder is empty; is a variable not set?"


@contextmanager
def _access_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name = error.filename or "the current folder"  # which may have been removed
        raise InputError(f"{name}: cannot be accessed ({error.strerror}); check the path") from error


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
    files: list[tuple[Path, Path]] = []
    missing: list[tuple[str, InputError]] = []
    without: list[str] = []  # folders of other things than raws

    def miss(name: object, reason: str) -> None:
        missing.append((str(name), InputError(f"{name}: {reason}")))

    for given in inputs:
        try:
            with _access_errors():
                files += _expand(given, recursive, miss, without)
        except InputError as error:  # the others can be developed
            missing.append((given, error))
    found = _raws_among(files, miss)
    if not found:
        for name in without:
            miss(name, WITHOUT_RAWS)
    return Sources(found, missing, [(name, f"{name}: {WITHOUT_RAWS}") for name in without if found])


def _expand(
    given: str, recursive: bool, miss: Callable[[object, str], None], without: list[str]
) -> list[tuple[Path, Path]]:
    """The files that an input stands for, each with the folder that its sub-folders are relative to. A folder
    of other things is added to ``without``; one that holds nothing at all may be where a card should be."""
    path = Path(given) if str(Path(given)) != STANDARD_STREAM else Path(given).absolute()
    if path.is_dir():
        raws, unreadable = search_folder(path, recursive)
        for name, reason in unreadable.items():
            miss(name, reason)
        if not raws and not unreadable:
            children = [child for child in path.iterdir() if not child.name.startswith(".")]
            if not recursive and any(child.is_dir() for child in children):
                miss(given, f"{WITHOUT_RAWS}; -r searches its sub-folders")
            elif children:
                without.append(given)
            else:
                miss(given, WITHOUT_RAWS)
        return [(raw, path) for raw in raws]
    if path.exists():
        return [(path, path.parent)]
    if not has_magic(given):
        miss(given, DEAD_LINK if path.is_symlink() else "no such file or folder; check the name")
        return []
    root, pattern = os.path.split(given)
    while has_magic(root) and os.path.basename(root) and not os.path.isdir(root):
        root, name = os.path.split(root)
        pattern = os.path.join(name, pattern)
    # "2024 [raw]" is a folder's name; shells on Windows cannot quote a part
    stem, suffix = os.path.splitext(pattern)  # cameras write capitals: *.nef finds *.NEF, too
    any_case = has_magic(os.path.basename(pattern))
    suffixes = {suffix, suffix.lower(), suffix.upper()} if any_case else {suffix}
    spelled = {os.path.join(escape(root), stem + ending) for ending in suffixes}
    names = sorted({Path(name) for each in spelled for name in glob(each, recursive=True)})
    matches, unreadable = _files_among(names)
    for name, reason in unreadable.items():
        miss(name, reason)
    if not matches and not unreadable:
        miss(given, "no file matches; check the pattern")
    return [(match, match.parent) for match in matches]


def _raws_among(
    files: Sequence[tuple[Path, Path]], miss: Callable[[object, str], None]
) -> list[tuple[Path | str, Path]]:
    """``files`` once each, without sidecars, pictures beside their raws and this program's own pictures."""
    aside = SIDECAR_SUFFIXES | COMPANION_SUFFIXES
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
                miss(file, "is a sidecar file; give the raw file that it belongs to")
        elif companion or (with_raw and _is_finished(file)):
            continue
        elif suffix in PICTURE_SUFFIXES:
            miss(file, "is a picture, not a raw file; give the raw file that the camera wrote")
        else:
            found.setdefault(os.path.abspath(file), (file, folder))
    return list(found.values())


def _is_finished(file: Path) -> bool:
    """Whether it is a picture that this program has made."""
    return file.suffix.lower() in OUTPUT_SUFFIXES - {".dng"} and is_ours(file)


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


def _files_among(paths: Sequence[Path]) -> tuple[list[Path], dict[str, str]]:
    """Those that are files; and what cannot be read, with the reason: links to raws that are not there, and
    folders that may be listed, but not entered."""
    files: list[Path] = []
    unreadable: dict[str, str] = {}
    for path in paths:
        try:
            if path.is_file():
                files.append(path)
            elif path.suffix.lower() in RAW_SUFFIXES and path.is_symlink() and not path.exists():
                unreadable[str(path)] = DEAD_LINK
        except PermissionError:
            unreadable[str(path.parent)] = CLOSED
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
        closed[str(error.filename)] = CLOSED

    for parent, folders, names in os.walk(folder, onerror=refused):
        folders[:] = [name for name in folders if not name.upper().startswith(HIDDEN)] if recursive else []
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    files, unreadable = _files_among(sorted(file for file in found if file.suffix.lower() in RAW_SUFFIXES))
    stems = {file.with_suffix("") for file in files}
    originals = {stem.with_name(stem.name + RESTORED) for stem in stems}
    return [file for file in files if file.with_suffix("") not in originals], closed | unreadable

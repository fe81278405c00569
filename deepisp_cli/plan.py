"""What to develop, and where to write it: inputs and options → jobs. Clashes are found before any work."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import escape, glob, has_magic
from itertools import combinations
from pathlib import Path

from deepisp_cli.errors import DeepIspError, InputError, UsageError
from deepisp_cli.frame import Result
from deepisp_cli.naming import OUTPUT_SUFFIXES, check_template, fields_of, fill
from deepisp_cli.output import FORMATS, format_of_suffix, is_device, is_taken
from deepisp_cli.pipeline import STANDARD_STREAM

# What a folder is searched for; a file named explicitly may have any suffix.
RAW_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc"),
    *(".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf"),
    *(".srw", ".x3f"),
)
PICTURE_SUFFIXES = {*FORMATS["jpeg"].suffixes, *FORMATS["png"].suffixes}  # not raws; some raws are .tif
SIDECAR_SUFFIXES = {".xmp", ".pp3", ".dop", ".thm"}  # of editors, and of cameras
# What cameras write beside a raw under its name, and this program's pictures of it.
COMPANION_SUFFIXES = {*OUTPUT_SUFFIXES, ".heic", ".heif", ".hif", ".wav"} - {".dng"}
RESTORED = "-deepisp"  # ends the name of a DNG: it must not be that of the source
HIDDEN = (".", "$RECYCLE.BIN", "SYSTEM VOLUME INFORMATION")  # how names of folders begin that are skipped
EMPTY = "the name of a file or folder is empty; is a variable not set?"
STANDARD_OUTPUT = (STANDARD_STREAM, "/dev/stdout")  # written to even if it is redirected to an existing file


@dataclass(frozen=True)
class Job:
    """One input and where its picture goes.

    Attributes
    ----------
    source : path of a raw file, or "-" for standard input.
    target : path of the picture, or "-" for standard output; "" if there is none.
    skip : whether the output exists and is kept, or the input is not one to develop.
    error : why there is no target; None if there is one.
    note : a remark for people, or "".
    """

    source: Path | str
    target: Path | str
    skip: bool = False
    error: DeepIspError | None = None
    note: str = ""

    def result(self) -> Result:
        """What is known of it before it is developed."""
        result = Result(str(self.source), str(self.target) or None, notes=[self.note] if self.note else [])
        if self.skip:
            result.status = "skipped"
        if self.error:
            result.fail(self.error)
        return result


def plan_jobs(
    inputs: Sequence[str | Path] | str | Path,
    output: str | Path | None,
    *,
    template: str | None = None,
    format: str | None = None,
    model: str = "",
    recursive: bool = False,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> tuple[list[Job], str]:
    """The jobs in the order of the inputs, those that do not exist last, and the output format.

    Parameters
    ----------
    inputs : files, folders, patterns, or "-"; one or several.
    output : a file (one input), a folder, "-" or None: beside the source.
    template : output name without suffix; folders in it replace the source's. Fields: stem, suffix, folder
        (the one that the source is in), model, date, camera, iso; what a file does not state is called
        "undated" and so on. None: "{stem}", for a DNG "{stem}-deepisp"; inputs of such a name are then
        skipped, so that nothing is restored twice.
    format : a key of ``output.FORMATS``, or None: from the suffix of ``output``, else JPEG.
    model : name of the model, for {model} in ``template``.
    recursive : also search sub-folders.
    overwrite : outputs that exist are no error.
    skip_existing : inputs whose output exists become jobs that are skipped.

    Raises
    ------
    InputError
        If nothing is found. A missing input among others becomes a job with an error.
    UsageError
        If the options contradict each other, two inputs share an output, or an output exists.
    """
    names = [str(given) for given in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    output = None if output is None else str(output)
    if output == "":
        raise UsageError(EMPTY)
    if template is not None:
        template = template.replace(os.sep, "/")  # Windows: a backslash makes folders there, too
        check_template(template)
    output = STANDARD_STREAM if output in STANDARD_OUTPUT else output
    sources, missing = find_sources(names, recursive)
    if missing and not sources and missing[0].error:
        raise missing[0].error
    count = len(sources) + len(missing)
    single = count == 1 and not any(map(os.path.isdir, names))
    is_file_name = output is not None and output != STANDARD_STREAM and _names_a_file(output)
    file = Path(str(output)) if is_file_name and single else None
    if file and template is not None:
        raise UsageError("--name and an output file contradict each other; give a folder with -o")
    if output == STANDARD_STREAM and count > 1:
        raise UsageError(f"{count} inputs cannot all go to standard output; give a folder with -o")
    if is_file_name and not single:
        raise UsageError(f"{output}: is a file name; a folder or several inputs need a folder")
    if file and not is_device(file):
        by_suffix = format_of_suffix(str(output))
        if format and format != by_suffix:
            raise UsageError(f"{output}: the suffix says {by_suffix}, --format says {format}; change one")
        format = by_suffix
    format = format or "jpeg"
    name = template or ("{stem}" + RESTORED if format == "dng" else "{stem}")
    if any(source == STANDARD_STREAM for source, _ in sources) and output is None:
        output = STANDARD_STREAM  # from a pipe into a pipe
    by_default = format == "dng" and template is None
    jobs, restored = [], []
    for source, folder in sources:
        if output == STANDARD_STREAM:
            jobs.append(Job(source, STANDARD_STREAM))
        elif file:
            jobs.append(Job(source, file))
        elif by_default and _folded(str(source)).endswith(RESTORED + ".dng"):
            note = (
                "its name says that it is restored; to restore it, give another name with -o FILE or --name"
            )
            restored.append(Job(source, "", skip=True, note=note))
        else:
            jobs.append(_job(source, folder, output, name, FORMATS[format].suffixes[0], model))
    _refuse_clashes(jobs, name)
    return [*_settle_existing(jobs, overwrite, skip_existing), *restored, *missing], format


@contextmanager
def _access_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name = error.filename or "the current folder"  # which may have been removed
        raise InputError(f"{name}: cannot be accessed ({error.strerror}); check the path") from error


@_access_errors()
def find_sources(
    inputs: Sequence[str], recursive: bool = False
) -> tuple[list[tuple[Path | str, Path]], list[Job]]:
    """(source, the folder that its sub-folders are relative to) for each file, without duplicates; and jobs
    with errors for missing inputs. Sidecars, and pictures beside a raw of the same name that is also an
    input, are passed over: they are what "card/*" finds.

    Raises
    ------
    InputError
        If a folder in a path cannot be entered, or a name is too long.
    UsageError
        If standard input is among other inputs, or a name is empty.
    """
    if "" in inputs:
        raise UsageError(EMPTY)
    files: list[tuple[Path, Path]] = []
    missing: list[Job] = []

    def miss(name: str, reason: str) -> None:
        missing.append(Job(name, "", error=InputError(f"{name}: {reason}")))

    for given in inputs:
        if given == STANDARD_STREAM:
            continue
        path = Path(given) if str(Path(given)) != STANDARD_STREAM else Path(given).absolute()
        if path.is_dir():
            raws, closed = search_folder(path, recursive)
            for name in closed:
                miss(name, "cannot be searched; check its permissions")
            if not raws and not closed:
                deeper = not recursive and any(child.is_dir() for child in path.iterdir())
                hint = "; -r searches its sub-folders" if deeper else ""
                miss(given, f"no raw files in this folder{hint}")
            files += [(raw, path) for raw in raws]
        elif path.exists():
            files.append((path, path.parent))
        elif has_magic(given):
            root, pattern = os.path.split(given)
            while has_magic(root) and os.path.basename(root) and not os.path.isdir(root):
                root, name = os.path.split(root)
                pattern = os.path.join(name, pattern)
            # "2024 [raw]" is a folder's name; shells on Windows cannot quote a part
            stem, suffix = os.path.splitext(pattern)  # cameras write capitals: *.nef finds *.NEF, too
            spelled = {os.path.join(escape(root), stem + ending) for ending in (suffix, suffix.swapcase())}
            names = sorted({Path(name) for each in spelled for name in glob(each, recursive=True)})
            matches = [(match, match.parent) for match in names if match.is_file()]
            if not matches:
                miss(given, "no file matches; check the pattern")
            files += matches
        else:
            miss(given, "no such file or folder; check the name")
    if STANDARD_STREAM in inputs:
        if files or missing:
            raise UsageError("standard input cannot be mixed with other inputs; give it alone")
        return [(STANDARD_STREAM, Path())], []
    aside = SIDECAR_SUFFIXES | COMPANION_SUFFIXES
    if all(file.suffix.lower() in aside for file, _ in files):
        aside -= {".tif", ".tiff"}  # then these are the raws
    with_raw = {_without_suffix(file) for file, _ in files if file.suffix.lower() not in aside}
    found: dict[str, tuple[Path | str, Path]] = {}
    for file, folder in files:
        suffix = file.suffix.lower()
        if suffix in SIDECAR_SUFFIXES:
            if not with_raw:
                miss(str(file), "is a sidecar file; give the raw file that it belongs to")
        elif suffix in aside and _without_suffix(file) in with_raw:
            pass
        elif suffix in PICTURE_SUFFIXES:
            miss(str(file), "is a picture, not a raw file; give the raw file that the camera wrote")
        else:
            found.setdefault(os.path.abspath(file), (file, folder))
    return list(found.values()), missing


def _without_suffix(file: Path) -> str:
    return os.path.splitext(os.path.abspath(file))[0]


def search_folder(folder: Path, recursive: bool) -> tuple[list[Path], list[str]]:
    """The raws in a folder, with ``recursive`` also in its sub-folders, sorted; and folders that cannot be
    read. Hidden ones are skipped: macOS leaves "._NAME" files and .Trashes on cards, Windows its own bin.
    So are restored raws beside their originals."""
    files: list[Path] = []
    closed: list[str] = []
    for parent, folders, names in os.walk(folder, onerror=lambda error: closed.append(str(error.filename))):
        folders[:] = [name for name in folders if not name.upper().startswith(HIDDEN)] if recursive else []
        files += [Path(parent, name) for name in names if not name.startswith(".")]
    files = sorted(file for file in files if file.suffix.lower() in RAW_SUFFIXES and file.is_file())
    stems = {file.with_suffix("") for file in files}
    originals = {stem.with_name(stem.name + RESTORED) for stem in stems}
    return [file for file in files if file.with_suffix("") not in originals], closed


def _names_a_file(output: str) -> bool:
    """Whether ``-o`` names a file: not a folder, no trailing slash, and with a suffix or a device."""
    path = Path(output)
    if output.endswith(("/", "\\")) or os.path.isdir(path):
        return False
    return path.suffix != "" or os.path.exists(path)


def _job(source: Path | str, folder: Path, output: str | None, template: str, suffix: str, model: str) -> Job:
    path = Path(source)
    parent = path.parent if output is None else Path(output)
    if output is not None and "/" not in template:
        parent /= path.parent.relative_to(folder)
    try:
        return Job(source, parent / (fill(template, path, model) + suffix))
    except DeepIspError as error:
        return Job(source, "", error=error)


def _refuse_clashes(jobs: Sequence[Job], template: str) -> None:
    targets = Counter(_key(job.target) for job in jobs if not job.error and job.target != STANDARD_STREAM)
    clashes = {key for key, count in targets.items() if count > 1}
    if clashes:
        first = [job for job in jobs if _key(job.target) in clashes]
        same = [str(job.source) for job in first if _key(job.target) == _key(first[0].target)]
        added = _distinguishing(same) or ({"date"} - fields_of(template))  # which is likely to help
        longer = template + "".join(f"_{{{field}}}" for field in added)
        name = f'use another --name, for instance "{longer}", or ' if added else "give them in "
        which = f"{same[0]} and {same[1] if len(same) == 2 else f'{len(same) - 1} more'}"
        raise UsageError(
            f"{which} would {'both' if len(same) == 2 else 'all'} become {first[0].target}"
            + (", and other names clash, too" if len(clashes) > 1 else "")
            + f"; {name}separate commands{'' if added else ' with other folders'}"
        )
    sources = {_key(job.source) for job in jobs}
    for job in jobs:
        if _key(job.target) in sources and job.target != STANDARD_STREAM and not job.error:
            raise UsageError(f"{job.target}: the output would replace an input; choose another with -o")
        followed = os.path.realpath(job.target)
        picture = Path(followed).suffix.lower() in OUTPUT_SUFFIXES - {".dng"} or is_device(Path(job.target))
        if os.path.islink(job.target) and not picture:
            raise UsageError(
                f"{job.target}: is a link to {followed}, which is not a picture; choose another with -o"
            )


def _distinguishing(sources: Sequence[str]) -> Sequence[str]:
    """The fewest fields of a template by which files differ; none if all are alike."""
    paths = [Path(os.path.abspath(source)) for source in sources]
    fields = {
        "stem": [_folded(path.stem) for path in paths],
        "suffix": [_folded(path.suffix) for path in paths],
        "folder": [_folded(path.parent.name) for path in paths],
    }
    for chosen in (names for count in (1, 2, 3) for names in combinations(fields, count)):
        if len(set(zip(*(fields[name] for name in chosen), strict=True))) == len(paths):
            return chosen
    return ()


def _key(path: Path | str) -> str:
    """Equal for paths that some file system treats as the same: links followed, case and accents folded."""
    return _folded(os.path.realpath(path))


def _settle_existing(jobs: list[Job], overwrite: bool, skip_existing: bool) -> list[Job]:
    if overwrite:
        return jobs
    taken = _taken_names(jobs)
    existing = [job for job in jobs if isinstance(job.target, Path) and job.target in taken]
    if not existing:
        return jobs
    if skip_existing:
        return [Job(job.source, job.target, skip=True) if job.target in taken else job for job in jobs]
    target = taken[Path(existing[0].target)]
    beside = target.suffix.lower() == ".jpg" and target.parent == Path(existing[0].source).parent
    if beside and not _is_ours(target):
        remedy = 'a camera may have written it; choose a folder with -o or use --name "{stem}_{model}"'
    else:
        remedy = "choose a folder with -o or another name with --name, or use --skip-existing or --overwrite"
    raise UsageError(
        f"{target}: exists"
        + (f", and {len(existing) - 1} more of {len(jobs)} outputs as well" if len(existing) > 1 else "")
        + f"; {remedy}"
    )


def _is_ours(picture: Path) -> bool:
    """Whether the program's name stands at the head of a picture, in its EXIF's Software."""
    with suppress(OSError), picture.open("rb") as file:
        return b"deepisp " in file.read(1 << 16)
    return False


def _taken_names(jobs: Sequence[Job]) -> dict[Path, Path]:
    """What exists of the targets: under its own name, or one that some file systems treat as the same, as
    IMG_1.JPG of the camera for IMG_1.jpg."""
    targets = [job.target for job in jobs if isinstance(job.target, Path) and not job.error]
    names: dict[Path, dict[str, Path]] = {}
    for folder in {target.parent for target in targets if not is_device(target)}:
        with suppress(OSError):  # it is not there yet, or may be written to, but not listed
            names[folder] = {_folded(path.name): path for path in folder.iterdir()}
    taken = {target: names.get(target.parent, {}).get(_folded(target.name)) for target in targets}
    taken |= {target: target for target in targets if is_taken(target)}
    return {target: there for target, there in taken.items() if there is not None}


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()

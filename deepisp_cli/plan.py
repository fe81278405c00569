"""What to develop and where to: inputs and options → jobs. Clashes are found before any work starts."""

import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from glob import glob, has_magic
from pathlib import Path

from deepisp_cli.errors import DeepIspError, InputError, UsageError
from deepisp_cli.metadata import read_metadata
from deepisp_cli.output import FORMATS, format_of_suffix
from deepisp_cli.pipeline import STANDARD_STREAM

# What a folder is searched for; a file named outright may end in anything.
RAW_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc"),
    *(".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf"),
    *(".srw", ".x3f"),
)
FIELDS = ("stem", "model", "date", "camera", "iso")


@dataclass(frozen=True)
class Job:
    """One input and where its picture goes; ``error`` if that could not be found out."""

    source: Path | str  # "-" for standard input
    target: Path | str  # "-" for standard output
    skip: bool = False  # the output exists and is to be kept
    error: DeepIspError | None = None


def plan_jobs(
    inputs: Sequence[str],
    output: str | None,
    *,
    template: str = "{stem}",
    format: str | None = None,
    model: str = "",
    recursive: bool = False,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> tuple[list[Job], str]:
    """The jobs in the order of the inputs, and the output format.

    Parameters
    ----------
    inputs : files, folders, patterns, or "-".
    output : a file (one input), a folder, "-" or None: beside the source.
    template : output name without suffix; may hold folders. Fields: stem, model, date, camera, iso.
    format : a key of ``output.FORMATS``, or None: by the suffix of ``output``, else JPEG.

    Raises
    ------
    InputError
        If an input does not exist or nothing is found.
    UsageError
        If the options contradict each other, two inputs share an output, or an output exists.
    """
    sources = _expand(inputs, recursive)
    _check_template(template)
    single = len(sources) == 1 and not any(Path(given).is_dir() for given in inputs)
    to_file = output is not None and output != STANDARD_STREAM and single and _names_a_file(output)
    if to_file and template != "{stem}":
        raise UsageError("--name and an output file contradict each other; give a folder with --name")
    if output == STANDARD_STREAM and len(sources) > 1:
        raise UsageError(f"{len(sources)} inputs cannot go to standard output; give a folder with -o")
    if not single and output not in (None, STANDARD_STREAM) and _names_a_file(str(output)):
        raise UsageError(f"{output}: is a file name, but a folder or several inputs need a folder")
    if to_file:
        by_suffix = format_of_suffix(str(output))
        if format and format != by_suffix:
            raise UsageError(f"{output}: the suffix says {by_suffix}, --format says {format}")
        format = by_suffix
    format = format or "jpeg"
    if any(source == STANDARD_STREAM for source, _ in sources) and output is None:
        output = STANDARD_STREAM  # a raw from a pipe goes into a pipe
    jobs = []
    for source, folder in sources:
        if output == STANDARD_STREAM:
            jobs.append(Job(source, STANDARD_STREAM))
        elif to_file:
            jobs.append(Job(source, Path(str(output))))
        else:
            jobs.append(_job(source, folder, output, template, FORMATS[format].suffixes[0], model))
    _refuse_clashes(jobs)
    return _settle_existing(jobs, overwrite, skip_existing), format


def _expand(inputs: Sequence[str], recursive: bool) -> list[tuple[Path | str, Path]]:
    """(source, the folder its sub-folders are counted from) for each file, without repeats."""
    found: dict[Path | str, Path] = {}
    for given in inputs:
        if given == STANDARD_STREAM:
            found[given] = Path()
            continue
        path = Path(given)
        if path.is_dir():
            entries = path.rglob("*") if recursive else path.iterdir()
            files = sorted(entry for entry in entries if _is_raw(entry))
            if not files:
                hint = "" if recursive else "; -r searches its sub-folders"
                raise InputError(f"{given}: no raw files in this folder{hint}")
            for file in files:
                found.setdefault(file, path)
        elif path.exists():
            found.setdefault(path, path.parent)
        elif has_magic(given):
            matches = sorted(Path(match) for match in glob(given, recursive=recursive))
            files = [match for match in matches if match.is_file()]
            if not files:
                raise InputError(f"{given}: no file matches")
            for file in files:
                found.setdefault(file, file.parent)
        else:
            raise InputError(f"{given}: no such file or folder")
    if STANDARD_STREAM in found and len(found) > 1:
        raise UsageError("standard input cannot be mixed with other inputs")
    return list(found.items())


def _is_raw(path: Path) -> bool:
    # macOS leaves "._NAME" files on cards
    return path.suffix.lower() in RAW_SUFFIXES and not path.name.startswith("._") and path.is_file()


def _names_a_file(output: str) -> bool:
    """Whether ``-o`` names a file: it is no folder, has no trailing slash and has a suffix."""
    return not output.endswith(("/", "\\")) and not Path(output).is_dir() and Path(output).suffix != ""


def _job(source: Path | str, folder: Path, output: str | None, template: str, suffix: str, model: str) -> Job:
    path = Path(source)
    parent = path.parent if output is None else Path(output) / path.parent.relative_to(folder)
    try:
        return Job(source, parent / (_fill(template, path, model) + suffix))
    except DeepIspError as error:
        return Job(source, "", error=error)


def _check_template(template: str) -> None:
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
        unknown = sorted(fields - set(FIELDS))
        if unknown:
            known = ", ".join("{" + field + "}" for field in FIELDS)
            raise UsageError(f"--name: unknown field {{{unknown[0]}}}; known: {known}")
        sample = template.format(stem="a", model="a", date=datetime(2000, 1, 1), camera="a", iso=100)
    except (ValueError, IndexError, KeyError, AttributeError) as error:
        raise UsageError(f"--name {template!r}: {error}") from error
    parts = Path(sample).parts
    if not sample or sample.endswith("/") or Path(sample).is_absolute() or ".." in parts:
        raise UsageError(f"--name {template!r}: must be a name, folders inside the output folder allowed")


def _fill(template: str, source: Path, model: str) -> str:
    fields = {field for _, field, _, _ in string.Formatter().parse(template) if field}
    values: dict[str, object] = {
        "stem": "stdin" if str(source) == STANDARD_STREAM else source.stem,
        "model": model,
    }
    if fields - set(values):
        try:
            with source.open("rb") as file:
                metadata = read_metadata(file, str(source))
        except OSError as error:
            raise InputError(f"{source}: cannot be read ({error.strerror})") from error
        wanted: dict[str, Callable[[], object]] = {
            "date": lambda: metadata.captured,
            "camera": lambda: metadata.camera,
            "iso": lambda: metadata.iso,
        }
        for field in sorted(fields - set(values)):
            values[field] = wanted[field]()
            if not values[field]:
                raise InputError(f"{source}: has no {field} for --name {template!r}; leave the field out")
    safe = {
        key: value.replace("/", "_") if isinstance(value, str) else value for key, value in values.items()
    }
    return template.format(**safe)


def _refuse_clashes(jobs: Sequence[Job]) -> None:
    targets = Counter(_key(job.target) for job in jobs if not job.error and job.target != STANDARD_STREAM)
    clashes = {key for key, count in targets.items() if count > 1}
    if clashes:
        first = [job for job in jobs if _key(job.target) in clashes]
        same = [str(job.source) for job in first if _key(job.target) == _key(first[0].target)]
        raise UsageError(
            f"{' and '.join(same)} would both become {first[0].target}"
            f" ({len(clashes)} such name(s)); use --name, for instance '{{stem}}_{{iso}}', or separate calls"
        )
    sources = {_key(job.source) for job in jobs}
    for job in jobs:
        if _key(job.target) in sources and job.target != STANDARD_STREAM and not job.error:
            raise UsageError(f"{job.target}: the output would replace an input; choose another with -o")


def _key(path: Path | str) -> str:
    """Equal for paths that one file system may hold to be one: case is folded."""
    return str(Path(path).absolute()).casefold()


def _settle_existing(jobs: list[Job], overwrite: bool, skip_existing: bool) -> list[Job]:
    existing = [job for job in jobs if isinstance(job.target, Path) and not job.error and job.target.exists()]
    if not existing or overwrite:
        return jobs
    if skip_existing:
        kept = {id(job) for job in existing}
        return [Job(job.source, job.target, skip=True) if id(job) in kept else job for job in jobs]
    raise UsageError(
        f"{existing[0].target}: exists"
        + (f", and {len(existing) - 1} more of {len(jobs)} outputs do" if len(existing) > 1 else "")
        + "; cameras write a JPEG beside each raw: choose a folder with -o or another name with --name,"
        " or use --skip-existing or --overwrite"
    )

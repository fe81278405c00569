"""What to develop, and where to write it: inputs and options → jobs. Clashes are found before any work."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from glob import has_magic
from itertools import combinations
from pathlib import Path

from deepisp_cli.dng_tags import read_tags, written_here
from deepisp_cli.errors import DeepIspError, UsageError, check_path
from deepisp_cli.files import STANDARD_STREAM, is_device, is_taken
from deepisp_cli.frame import Result
from deepisp_cli.inputs import EMPTY, PICTURE_SUFFIXES, RESTORED, find_sources, is_ours
from deepisp_cli.metadata import read_metadata
from deepisp_cli.naming import check_template, fields_of, fill
from deepisp_cli.output import FINISHED_SUFFIXES, FORMATS, check_format, format_of_suffix
from deepisp_cli.xmp import read_sidecars

STANDARD_OUTPUT = (STANDARD_STREAM, "/dev/stdout")  # written to even if it is redirected to an existing file
SAME_SHOT = timedelta(seconds=2)  # by which the times in files of one shot may differ


@dataclass(frozen=True)
class Job:
    """One input and where its picture goes.

    Attributes
    ----------
    source : path of a raw file, or "-" for standard input.
    target : path of the picture, or "-" for standard output; "" if there is none.
    skip : whether the output exists and is kept, or the input is not one to develop.
    error : why it cannot be developed; None if it can.
    note : a remark for people, or "".
    skip_existing : whether an output that exists only by the time it is to be written is kept, too: another
        run may be at work.
    """

    source: Path | str
    target: Path | str
    skip: bool = False
    error: DeepIspError | None = None
    note: str = ""
    skip_existing: bool = False

    def result(self) -> Result:
        """What is known of it before it is developed."""
        result = Result(str(self.source), str(self.target) or None, notes=[self.note] if self.note else [])
        if self.skip:
            result.status = "skipped"
        if self.error:
            result.fail(self.error)
        return result


def plan_jobs(
    inputs: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    template: str | None = None,
    format: str | None = None,
    model: str = "",
    recursive: bool = False,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> tuple[list[Job], str]:
    """The jobs and the output format. Jobs are in the order of the inputs; those that are skipped as restored
    and those that do not exist come last.

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
    overwrite : outputs that exist are no error; to replace them takes ``Options(overwrite=True)``, too.
    skip_existing : inputs whose output exists become jobs that are skipped; with an error where that shows
        another shot, by its time.

    Raises
    ------
    InputError
        If the only input is missing or holds no raw. Several that are missing become jobs with errors.
    UsageError
        If the options contradict each other, two inputs share an output, or an output exists.
    """
    if format is not None:
        check_format(format)
    names = _texts([inputs] if isinstance(inputs, str | bytes | os.PathLike) else inputs)
    if output is not None:
        check_path(output)
        output = os.fspath(output)
    if output == "":
        raise UsageError(EMPTY)
    if template is not None:
        if not isinstance(template, str) or "\0" in template:
            raise UsageError(f"template {template!r}: give a text such as '{{stem}}'")
        template = template.replace(os.sep, "/")  # Windows: a backslash makes folders there, too
        check_template(template)
        if not model and "model" in fields_of(template):
            raise UsageError("{model} in the template: give plan_jobs a model's name, too")
    if output is None:
        _refuse_output_among(names)
    sources, missing, passed_over = find_sources(names, recursive)
    if output is not None and sources and os.path.isdir(output):  # "card/*" finds it, too
        missing = [(name, error) for name, error in missing if _key(name) != _key(output)]
    if len(missing) == 1 and not sources:
        raise missing[0][1]
    output = STANDARD_STREAM if output in STANDARD_OUTPUT else output
    file = _output_file(output, names, len(sources) + len(missing), template)
    format = _format_of(file, format)
    if any(source == STANDARD_STREAM for source, _ in sources) and output is None:
        output = STANDARD_STREAM  # from a pipe into a pipe
    by_default = format == "dng" and template is None
    template = template or ("{stem}" + RESTORED if by_default else "{stem}")
    jobs, restored = [], []
    for source, folder in sources:
        if file or output == STANDARD_STREAM:
            jobs.append(Job(source, file or STANDARD_STREAM))
        elif by_default and _folded(str(source)).endswith(RESTORED + ".dng"):
            note = (
                "its name says that it is restored; to restore it, give another name with -o FILE or --name"
            )
            restored.append(Job(source, "", skip=True, note=note))
        else:
            jobs.append(_job(source, folder, output, template, FORMATS[format].suffixes[0], model))
    _refuse_clashes(jobs, template, model, any(folder != Path(source).parent for source, folder in sources))
    jobs = _settle_existing(jobs, overwrite, skip_existing)
    others = [Job(name, "", skip=True, note=remark) for name, remark in passed_over]
    return [*jobs, *restored, *others, *(Job(name, "", error=error) for name, error in missing)], format


def _texts(inputs: Iterable[str | os.PathLike[str]]) -> list[str]:
    given = list(inputs) if isinstance(inputs, Iterable) else [inputs]
    if not all(isinstance(path, str | os.PathLike) for path in given):
        raise UsageError(f"{inputs!r}: are no inputs; give a path or a list of paths, each a str or a Path")
    return [os.fspath(path) for path in given]


def _refuse_output_among(inputs: Sequence[str]) -> None:
    """Other programs take it as the last argument."""
    last = inputs[-1] if len(inputs) > 1 else ""
    is_folder = last.endswith(("/", os.sep))
    remedy = f"if it is to be written, name it with -o: -o {last}"
    if not os.path.lexists(last) and not has_magic(last):
        if is_folder or Path(last).suffix.lower() in PICTURE_SUFFIXES:
            raise UsageError(f"{last}: no such file or folder; {remedy}")
    elif is_folder and not (len(inputs) > 2 and all(map(os.path.isdir, inputs))):  # else "*/" has found it
        with suppress(OSError):
            if all(name.startswith(".") for name in os.listdir(last)):
                raise UsageError(f"{last}: is empty; {remedy}")


def _output_file(output: str | None, names: Sequence[str], count: int, template: str | None) -> Path | None:
    """The one file that ``-o`` names for ``count`` inputs, found by ``names``; None if it names a folder,
    standard output or nothing."""
    if output == STANDARD_STREAM and count > 1:
        raise UsageError(f"{count} inputs cannot all go to standard output; give a folder with -o")
    if output is None or output == STANDARD_STREAM or not _names_a_file(output):
        return None
    if count > 1 or any(map(os.path.isdir, names)):
        raise UsageError(
            f"{output}: is a file name; a folder or several inputs need a folder, whose name may end with '/'"
        )
    if template is not None:
        raise UsageError("--name and an output file contradict each other; give a folder with -o")
    return Path(output)


def _format_of(file: Path | None, format: str | None) -> str:
    """The format of the pictures: by the suffix of an output file, as asked for, or JPEG."""
    if file is None or is_device(file):
        return format or "jpeg"
    by_suffix = format_of_suffix(str(file))
    if format and format != by_suffix:
        raise UsageError(f"{file}: the suffix says {by_suffix}, --format says {format}; change one")
    return by_suffix


def file_format(output: str) -> str | None:
    """The format that ``-o`` states by the suffix of a file; None if it names none, or one with another."""
    with suppress(UsageError):
        return format_of_suffix(output) if _names_a_file(output) else None
    return None


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


def _refuse_clashes(jobs: Sequence[Job], template: str, model: str, searched: bool) -> None:
    """``searched``: whether some lie in sub-folders of those that were given."""
    targets = Counter(_key(job.target) for job in jobs if not job.error and job.target != STANDARD_STREAM)
    clashes = {key for key, count in targets.items() if count > 1}
    if clashes:
        first = [job for job in jobs if _key(job.target) in clashes]
        same = [str(job.source) for job in first if _key(job.target) == _key(first[0].target)]
        longer = _distinguishing(same, template, model)
        apart = "give them in separate commands with other folders"
        if searched and "/" not in template:
            apart = f"give the folder that holds both, or {apart}"
        if longer:
            apart = f'use another --name, for instance "{longer}", or separate commands'
        others = f"{same[1]} would both" if len(same) == 2 else f"{len(same) - 1} more would all"
        raise UsageError(
            f"{same[0]} and {others} become {first[0].target}"
            + (", and other names clash, too" if len(clashes) > 1 else "")
            + f"; {apart}"
        )
    files = [job for job in jobs if STANDARD_STREAM not in (job.source, job.target)]
    sources = {_key(job.source) for job in files}
    numbers = {_number(job.source) for job in files} - {None}  # also by another name, or mounted elsewhere
    for job in (job for job in files if not job.error):
        if _key(job.target) in sources or _number(job.target) in numbers:
            raise UsageError(f"{job.target}: the output would replace an input; choose another with -o")
        followed = os.path.realpath(job.target)
        picture = Path(followed).suffix.lower() in FINISHED_SUFFIXES or is_device(Path(job.target))
        if os.path.islink(job.target) and not picture:
            raise UsageError(
                f"{job.target}: is a link to {followed}, which is not a picture; choose another with -o"
            )


def _distinguishing(sources: Sequence[str], template: str, model: str) -> str:
    """The template with the fewest fields by which these files get different names; "" if none do."""
    fields = [field for field in ("stem", "suffix", "folder", "date") if field not in fields_of(template)]
    for added in (names for count in (1, 2, 3) for names in combinations(fields, count)):
        longer = template + "".join(f"_{{{field}}}" for field in added)
        with suppress(DeepIspError):  # one has no such field
            names = {_folded(fill(longer, Path(source), model)) for source in sources}
            if len(names) == len(sources):
                return longer
    return ""


def _key(path: Path | str) -> str:
    """Equal for paths that some file system treats as the same: links followed, case and accents folded."""
    return _folded(os.path.realpath(path))


def _number(path: Path | str) -> tuple[int, int] | None:
    """A file's disk and number on it; None if there is none, or the system has no such numbers."""
    with suppress(OSError):
        status = os.stat(path)
        return (status.st_dev, status.st_ino) if status.st_ino else None
    return None


def _settle_existing(jobs: list[Job], overwrite: bool, skip_existing: bool) -> list[Job]:
    if overwrite:
        _refuse_other_raws(jobs)
        return jobs
    taken = _taken_names(jobs)
    if skip_existing:
        return [_kept(job, taken.get(Path(job.target))) for job in jobs]
    existing = [job for job in jobs if job.target in taken]
    if not existing:
        return jobs
    target = taken[Path(existing[0].target)]
    theirs = "a camera may have written it; " if _may_be_the_cameras(existing[0], target) else ""
    if theirs and target.absolute().parent == Path(existing[0].source).absolute().parent:
        remedy = 'choose a folder with -o or use --name "{stem}_{model}"'
    else:  # if theirs, copied there, or of another program
        folder = "another folder" if theirs else "a folder"
        remedy = f"choose {folder} with -o or another name with --name, or use --skip-existing or --overwrite"
    raise UsageError(
        f"{target}: exists"
        + (f", and {len(existing) - 1} more of {len(jobs)} outputs as well" if len(existing) > 1 else "")
        + f"; {theirs}{remedy}"
    )


def _refuse_other_raws(jobs: Sequence[Job]) -> None:
    """``--overwrite`` replaces pictures; another program's DNG may be all that there is of a photograph."""
    for target in (Path(job.target) for job in jobs if not job.error):
        is_raw = target.suffix.lower() in FORMATS["dng"].suffixes and os.path.isfile(target)
        if is_raw and os.path.getsize(target) and not _is_our_dng(target):
            raise UsageError(
                f"{target}: is a raw that this program has not written; choose another folder with -o or"
                " another name with --name"
            )


def _is_our_dng(path: Path) -> bool:
    """By its tag, unlike `is_ours`: large profiles and texts may lie between that and the end of the file."""
    with suppress(OSError), path.open("rb") as file:
        return written_here(read_tags(file))
    return False


def _kept(job: Job, picture: Path | None) -> Job:
    """The job, skipped if its picture exists."""
    if picture is None:
        return replace(job, skip_existing=True)
    if problem := _why_not(picture, Path(job.source)):
        return replace(job, error=UsageError(f"{picture}: {problem}"))
    note = ""
    if _may_be_the_cameras(job, picture):
        note = f"{picture}: a camera may have written it; for another, choose a folder with -o or a --name"
    return replace(job, skip=True, note=note)


def _why_not(picture: Path, source: Path) -> str:
    """Why what exists is no picture of this raw, and what to do; "" if it may be one. Cameras use names
    again, so it may be of another shot."""
    if not os.path.exists(picture):  # which, unlike `Path.exists`, never raises
        return "is a link to what is not there or may not be read; mount its disk, or choose another --name"
    if os.path.isdir(picture) or (os.path.isfile(picture) and not os.path.getsize(picture)):
        what = "is a folder" if os.path.isdir(picture) else "is empty"
        return f"{what}, not a picture; remove it, or choose another --name"
    (times, model), (shown, other) = _captured(source), _captured(picture)
    words, others = (set(name.casefold().split()) for name in (model, other))
    if not (words <= others or others <= words):  # "NIKON D1" and "D1" are one camera
        return (
            f"shows another photograph, taken with a {other}, {source} with a {model}; choose another folder"
            " with -o or another --name, or, if it is that one, use --overwrite"
        )
    if times and shown and all(abs(one - two) > SAME_SHOT for one in times for two in shown):
        corrected = ", or, if it is that one and its sidecar has changed, use --overwrite"
        return (
            f"shows another photograph, taken {shown[0]:%Y-%m-%d %H:%M:%S}, {source}"
            f" {times[-1]:%Y-%m-%d %H:%M:%S}; choose another folder with -o or another --name"
            + (corrected if times[0] != times[-1] else "")
        )
    return ""


def _may_be_the_cameras(job: Job, picture: Path) -> bool:
    """Cameras write JPEGs under the names of raws; people sort them into other folders."""
    usual = Path(job.source).with_suffix(".jpg").name
    return _folded(picture.name) == _folded(usual) and not is_ours(picture)


def _captured(file: Path) -> tuple[list[datetime], str]:
    """When it was taken by the camera's clock, as the file says and as its sidecars have corrected that; and
    the camera's model, "" if unknown."""
    if is_device(file):
        return [], ""  # a pipe would be waited for, and emptied
    times, model = [], ""
    with suppress(OSError), file.open("rb") as stream:
        known = read_metadata(stream, str(file))
        times, model = [known.captured], known.model
        if sidecars := read_sidecars(file)[0]:
            times.append(read_metadata(stream, str(file), sidecars=sidecars).captured)
    return [time.replace(tzinfo=None) for time in times if time], model


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

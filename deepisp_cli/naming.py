"""The names of outputs: ``--name`` templates, filled with what the raw file says about itself."""

import os
import re
import string
from datetime import datetime
from pathlib import Path

from deepisp_cli.dng_tags import camera_model, read_tags, text
from deepisp_cli.errors import InputError, UsageError, input_errors, told_of
from deepisp_cli.files import STANDARD_STREAM, is_device
from deepisp_cli.libraw import read_capture, read_preview
from deepisp_cli.metadata import Metadata, read_metadata
from deepisp_cli.output import OUTPUT_SUFFIXES
from deepisp_cli.xmp import read_sidecars

# And what to call files that do not state them.
METADATA_FIELDS = {"date": "undated", "camera": "unknown camera", "iso": "unknown iso"}
FIELDS = ("stem", "suffix", "folder", "model", *METADATA_FIELDS)
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')  # in file names on some systems
WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
DATE = "%Y-%m-%d_%H-%M-%S"  # the format of {date}, if the template gives none


def check_template(template: str) -> None:
    """Raise `UsageError` if it is none, names a suffix, or leads out of the output folder."""
    try:
        parsed = list(string.Formatter().parse(template))
        fields = {field for _, field, _, _ in parsed if field is not None}
        if any("{" in (form or "") for _, _, form, _ in parsed):
            raise UsageError(f"--name {template!r}: fields cannot be nested; give them one after the other")
        if any(re.search(r"\d{4}", form or "") for _, field, form, _ in parsed if field != "date"):
            raise UsageError(
                f"--name {template!r}: a field of a thousand letters is too long; make it shorter"
            )
        unknown = sorted(fields - set(FIELDS))
        if unknown:
            known = ", ".join("{" + field + "}" for field in FIELDS)
            raise UsageError(f"--name: unknown field {{{unknown[0]}}}; known: {known}")
        date = _Moment(datetime(2000, 1, 1))
        for form in (form for _, field, form, _ in parsed if field == "date" and form):
            if "%" not in form or re.search("%[A-Za-z]", format(date, form)):
                raise UsageError(f"--name: {{date:{form}}}: dates are given as in {{date:%Y-%m-%d_%H-%M-%S}}")
        sample = template.format(stem="a", suffix="a", folder="a", model="a", date=date, camera="a", iso=100)
    except (ValueError, IndexError, KeyError, AttributeError, MemoryError) as error:
        raise UsageError(f"--name {template!r}: {error}") from error
    if Path(sample).suffix.lower() in OUTPUT_SUFFIXES:
        raise UsageError(f"--name {template!r}: leave out the suffix; --format chooses it")
    if not _stays_inside(sample):
        raise UsageError(f"--name {template!r}: must name a file in the output folder or its sub-folders")


def _stays_inside(name: str) -> bool:
    """Whether this names a file in a folder or its sub-folders."""
    parts = Path(name).parts
    return bool(name) and not name.endswith("/") and not Path(name).anchor and ".." not in parts


def fields_of(template: str) -> set[str]:
    """The names in braces."""
    return {field for _, field, _, _ in string.Formatter().parse(template) if field}


def fill(template: str, source: Path, model: str) -> str:
    """The name, without suffix, of a file's picture.

    Parameters
    ----------
    template : for which `check_template` has raised nothing.
    source : the raw file, which is read if the template has one of `METADATA_FIELDS`.
    model : the model's name.

    Raises
    ------
    InputError
        If the file cannot be read, has no suffix that the template needs, or what it says leads out of the
        output folder.
    UsageError
        If the source is standard input, of which little is known.
    """
    fields = fields_of(template)
    values: dict[str, object] = {
        "stem": "stdin" if str(source) == STANDARD_STREAM else source.stem,
        "suffix": source.suffix[1:].lower(),
        "folder": Path(os.path.abspath(source)).parent.name,
        "model": model,
    }
    wanted = fields & METADATA_FIELDS.keys()
    if fields & {*METADATA_FIELDS, "folder"} and (str(source) == STANDARD_STREAM or is_device(source)):
        what = "standard input" if str(source) == STANDARD_STREAM else "a pipe"
        raise UsageError(f"--name {template!r}: for {what} only stem and model are known; use these")
    if wanted:
        values |= _metadata_values(source, wanted)
    for field in sorted(fields):
        if not values[field]:
            raise InputError(
                f"{source}: has no {field}, which --name {template!r} needs; develop it alone, without that"
            )
    for field in {"folder", "camera", "model"} & values.keys():
        printable = "".join(letter if letter.isprintable() else "_" for letter in str(values[field]))
        values[field] = FORBIDDEN.sub("_", printable).rstrip(". ")  # Windows drops these at the end
    if "camera" in wanted:  # a stranger's text: no option of a program, no hidden file, no device
        values["camera"] = camera = str(values["camera"]).lstrip("-. ")
        if WINDOWS_DEVICE.fullmatch(camera):
            values["camera"] = f"{camera}_"
    try:
        name = template.format(**values)
    except (ArithmeticError, ValueError) as error:  # a character of a number, say
        raise InputError(f"{source}: --name {template!r}: {error}; choose another format") from error
    if not _stays_inside(name):
        raise InputError(f"{source}: --name {template!r} names it {name!r}; choose other fields")
    return name


def _metadata_values(source: Path, wanted: set[str]) -> dict[str, object]:
    """The fields of `METADATA_FIELDS`; where unknown, what to call the file."""

    def values_of(metadata: Metadata) -> dict[str, object]:
        date = metadata.captured and _Moment(metadata.captured)
        return {"date": date, "camera": metadata.camera, "iso": metadata.iso}

    sidecars, _ = read_sidecars(source)  # which may correct the time
    with told_of(str(source)), input_errors(source), source.open("rb") as file:
        values = values_of(read_metadata(file, str(source), sidecars=sidecars))
        if not all(values[field] for field in wanted):  # LibRaw or the preview may know, but are slower
            preview, capture, tags = read_preview(file), read_capture(file), read_tags(file)
            known = {**capture, "make": text(tags, "Make"), "model": camera_model(tags)}
            values = values_of(
                read_metadata(file, str(source), preview=preview, fallback=known, sidecars=sidecars)
            )
    return {field: value or _Unknown(METADATA_FIELDS[field]) for field, value in values.items()}


class _Unknown(str):
    """The value of a field that a file does not state, in whatever format."""

    def __repr__(self) -> str:
        return str(self)

    def __format__(self, form: str) -> str:
        return str(self)


class _Moment:
    """The value of {date}: it may make folders, but no names that some systems forbid."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def __repr__(self) -> str:  # also of {date!s}
        return format(self, "")

    def __format__(self, form: str) -> str:
        return "/".join(FORBIDDEN.sub("_", part) for part in format(self.moment, form or DATE).split("/"))

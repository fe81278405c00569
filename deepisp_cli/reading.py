"""All that is read of a raw file, or of standard input: samples, EXIF and sidecars."""

import os
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

from deepisp_cli.errors import InputError, UsageError, check_path, input_errors
from deepisp_cli.files import STANDARD_STREAM, is_device
from deepisp_cli.libraw import read_preview
from deepisp_cli.metadata import Metadata, read_metadata
from deepisp_cli.raw import RawImage, read_raw
from deepisp_cli.streams import let_wait
from deepisp_cli.xmp import read_sidecars

LARGEST_FILE = 1 << 32  # bytes: TIFF, and so DNG, ends there


def read_source(source: Path | str, contents: bytes | None = None) -> tuple[RawImage, Metadata]:
    """Read and unpack a raw file, its EXIF and its sidecars.

    Parameters
    ----------
    source : path, or "-" for standard input.
    contents : those of standard input, if it has been read already.

    Raises
    ------
    DeepIspError
        As `read_raw` does.
    """
    name = str(source)
    file = BytesIO(read_bytes(source) if contents is None else contents)
    raw = read_raw(file, name)
    fallback = {**raw.capture, "make": raw.make, "model": raw.model}
    preview = read_preview(file)
    sidecars, remarks = read_sidecars(Path(source)) if name != STANDARD_STREAM else ([], [])
    metadata = read_metadata(file, name, preview=preview, fallback=fallback, sidecars=sidecars)
    return raw, replace(metadata, notes=(*metadata.notes, *remarks))


def read_bytes(source: Path | str) -> bytes:
    """All of a file, or of standard input; `InputError` if it is too large to be a raw."""
    if not isinstance(source, str | os.PathLike):
        raise UsageError(
            f"{type(source).__name__}: is no path; develop_array(read_raw(file), ...) takes open files"
        )
    check_path(source)
    too_large = InputError(f"{source}: is larger than {LARGEST_FILE / 2**30:g} GiB, no raw file is")
    with input_errors(source):
        if str(source) != STANDARD_STREAM:
            with open(source, "rb") as file:
                if not is_device(Path(source)):
                    if os.fstat(file.fileno()).st_size > LARGEST_FILE:
                        raise too_large
                    return file.read()
                return _read_all(file, too_large)
        if not hasattr(sys.stdin, "buffer"):  # closed before the program started, or a notebook's
            raise InputError("-: standard input is closed; pipe a raw file into it")
        let_wait(sys.stdin)
        if contents := _read_all(sys.stdin.buffer, too_large):
            return contents
        raise InputError("-: standard input is empty; did the program before the pipe fail?")


def _read_all(stream: Any, too_large: InputError) -> bytes:
    """What a pipe or device yields."""
    contents = bytearray()
    while piece := stream.read1():  # in between, Python checks for Ctrl-C
        contents += piece
        if len(contents) > LARGEST_FILE:
            raise too_large
    return bytes(contents)

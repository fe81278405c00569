"""What LibRaw says of a file besides its samples."""

import io

import pytest
import rawpy

from deepisp_cli import libraw
from deepisp_cli.errors import DeepIspError
from deepisp_cli.naming import fill


@pytest.mark.parametrize("kind", libraw.OUT_OF_MEMORY)
def test_too_little_memory_is_not_taken_for_a_file_without_a_preview(monkeypatch, write_raw, grey_ramp, kind):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def open_buffer(self, _):
            raise kind

    path = write_raw("a.dng", grey_ramp)
    monkeypatch.setattr(rawpy, "RawPy", Full)
    for read in (libraw.read_preview, libraw.read_capture):
        with pytest.raises(MemoryError):
            read(io.BytesIO())
    with pytest.raises(DeepIspError, match=r"a\.dng: not enough memory"):
        fill("{iso}", path, "")

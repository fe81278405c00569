"""What LibRaw says of a file besides its samples."""

import io

import numpy as np
import pytest
import rawpy
from PIL import Image

from deepisp_cli import libraw
from deepisp_cli.dng import write_dng
from deepisp_cli.errors import DeepIspError
from deepisp_cli.naming import fill
from deepisp_cli.reading import read_source


@pytest.mark.parametrize("stated", [{}, {0x9003: "2024:05:06 07:08:09"}])
def test_what_libraw_makes_up_for_a_preview_is_not_taken(tmp_path, stated):
    """Its EXIF for a preview without any says 1970 and "unknown"."""
    counts = np.random.default_rng(0).integers(200, 900, (64, 64), dtype=np.uint16)
    jpeg = io.BytesIO()
    Image.new("RGB", (320, 240)).save(jpeg, "jpeg")
    path = tmp_path / "a.dng"
    write_dng(path, counts, pattern="RGGB", preview=jpeg.getvalue(), exif=stated)
    _, metadata = read_source(path)
    assert metadata.camera == ""
    assert (str(metadata.captured) if metadata.captured else "") == ("2024-05-06 07:08:09" if stated else "")
    assert fill("{date}", path, "") == ("2024-05-06_07-08-09" if stated else "undated")


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

"""Encoding, EXIF and safe files. Other programs' readers read back what is written."""

import errno
import io
import os
import stat
import subprocess
import sys
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import exifread
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from PIL.ExifTags import IFD

from deepisp_cli import files, output
from deepisp_cli.errors import DiskFullError, OutputError, UsageError
from deepisp_cli.exif import LONG, SHORT, picture_ifds
from deepisp_cli.metadata import Metadata, read_metadata
from deepisp_cli.output import FORMATS, format_of_suffix, write_picture
from deepisp_cli.restored import RestoredRaw

RANDOM = np.random.default_rng(20260102)
KINDS = [("jpeg", 8), ("png", 8), ("png", 16), ("tiff", 8), ("tiff", 16)]
METADATA = Metadata(
    image={
        0x010F: "Čamera Åb",
        0x0110: "X-1",
        0x013B: "Zoë Müller 山田",
        0x0132: "2024:05:17 06:07:09",
        0x010E: "a",
        0x4746: 4,
    },
    exif={
        0x829A: Fraction(1, 8000),
        0x829D: Fraction(14, 5),
        0x8827: 65535,
        0x8832: 102400,
        0x9003: "2024:05:17 06:07:08",
        0x9011: "+05:30",
        0x9204: Fraction(-2, 3),
        0x9286: "schön – 山",
        0x9291: "042",
        0xA432: (Fraction(24), Fraction(70), float("nan"), float("nan")),
        0xA434: "24-70 mm",
    },
    gps={
        0: b"\x02\x03\x00\x00",
        1: "S",
        2: (Fraction(33), Fraction(51), Fraction(215, 10)),
        5: 1,
        6: Fraction(1234, 10),
        27: "GPS",
        29: "2024:05:17",
    },
)


def noise(bit_depth: int, height: int = 23, width: int = 31) -> np.ndarray:
    return RANDOM.integers(0, 2**bit_depth, (height, width, 3)).astype(f"u{bit_depth // 8}")


def written(format, pixels, metadata=METADATA, **options) -> bytes:
    buffer = io.BytesIO()
    options = {"software": "deepisp test", "overwrite": False, **options}
    assert write_picture(buffer, pixels, metadata, format=format, **options) == len(buffer.getvalue())
    return buffer.getvalue()


def write(target, format="png", overwrite=False, pixels=None):
    pixels = noise(8) if pixels is None else pixels
    return write_picture(target, pixels, METADATA, format=format, software="test", overwrite=overwrite)


# --- pixels ---


@pytest.mark.parametrize(("format", "bit_depth"), KINDS[1:])
@pytest.mark.parametrize("shape", [(1, 1), (23, 31), (700, 501)])
def test_lossless_formats_keep_every_value(format, bit_depth, shape):
    pixels = noise(bit_depth, *shape)
    data = written(format, pixels)
    read = imagecodecs.png_decode(data) if format == "png" else tifffile.imread(io.BytesIO(data))
    assert read.dtype == pixels.dtype
    np.testing.assert_array_equal(read, pixels)
    if bit_depth == 8:
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


@pytest.mark.parametrize("quality", [1, 80, 94, 100])
def test_a_noisy_jpeg_can_be_written_and_keeps_its_chroma(quality):
    """Pillow's optimised JPEGs fail on this one at each of these qualities but the first."""
    pixels = noise(8, 700, 700)
    image = Image.open(io.BytesIO(written("jpeg", pixels, quality=quality)))
    assert [component[1:3] for component in image.layer] == [(1, 1)] * 3
    if quality == 100:
        error = np.abs(np.asarray(image).astype(int) - pixels).mean()
        assert error < 1.5, f"mean error {error:.2f}"


@pytest.mark.parametrize(("format", "bit_depth"), KINDS)
def test_equal_input_gives_equal_bytes_and_views_are_accepted(format, bit_depth):
    pixels = noise(bit_depth)
    first = written(format, pixels)
    output.srgb_profile.cache_clear()
    assert first == written(format, np.asfortranarray(pixels)[::1])


def test_the_first_segments_of_a_jpeg_are_jfif_exif_and_profile():
    """JFIF wants to be the first, and readers of EXIF look for it right behind."""
    data, position, found = written("jpeg", noise(8)), 2, []
    for _ in range(3):
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        found.append((data[position : position + 2], data[position + 4 :][:4]))
        position += 2 + length
    assert found == [(b"\xff\xe0", b"JFIF"), (b"\xff\xe1", b"Exif"), (b"\xff\xe2", b"ICC_")]


def test_jpegs_are_optimised():
    pixels = noise(8, 400, 400)
    assert len(written("jpeg", pixels)) < len(imagecodecs.jpeg8_encode(pixels, 95, subsampling="444"))


def test_the_profile_is_srgb_and_dated_in_the_past():
    profile = output.srgb_profile()
    assert "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    assert profile[24:36] == bytes.fromhex("07d0 0001 0001 0000 0000 0000")


@pytest.mark.parametrize(("format", "bit_depth"), KINDS)
def test_the_profile_is_embedded(format, bit_depth):
    image = Image.open(io.BytesIO(written(format, noise(bit_depth))))
    assert image.info["icc_profile"] == output.srgb_profile()


def test_a_jpeg_that_is_too_long_says_what_to_choose():
    with pytest.raises(OutputError, match=r"65500.*PNG or TIFF"):
        written("jpeg", np.zeros((1, 65501, 3), np.uint8))
    assert written("jpeg", np.zeros((1, 65500, 3), np.uint8))


def test_a_tiff_of_4_gib_says_what_to_choose(tmp_path, monkeypatch):
    monkeypatch.setattr(tifffile, "imwrite", refuse)
    # takes no memory; its pixels are 30 MB short of 4 GiB
    large = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (37700, 37700, 3))
    with pytest.raises(OutputError, match=r"x\.tif: .*4 GiB; choose PNG"):
        write(tmp_path / "x.tif", "tiff", pixels=large)
    assert not list(tmp_path.iterdir())


def test_a_dng_of_4_gib_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(output, "encode_dng", refuse)
    large = np.broadcast_to(np.zeros((1, 1, 3), np.uint16), (26700, 26700, 3))  # takes no memory
    raw = RestoredRaw(large, noise(8), np.ones(3, np.float32), np.eye(3), (), 1.0)
    with pytest.raises(OutputError, match=r"x\.dng: a DNG holds at most 4 GiB"):
        write(tmp_path / "x.dng", "dng", pixels=raw)
    assert not list(tmp_path.iterdir())


def test_the_limit_of_a_tiff_is_of_its_pixels(monkeypatch):
    pixels = noise(16)
    monkeypatch.setattr(output, "TIFF_MAX_BYTES", pixels.nbytes)
    assert written("tiff", pixels)
    assert written("png", noise(16, 24, 31))
    with pytest.raises(OutputError, match="output stream: a TIFF"):
        written("tiff", noise(16, 24, 31))


@pytest.mark.parametrize(("name", "told"), [("<stdout>", "<stdout>"), (5, "output stream")])
def test_a_stream_that_fails_is_named_if_it_has_a_name(name, told):
    stream = io.BytesIO()
    stream.name = name
    stream.write = Mock(side_effect=OSError(errno.ENOSPC, "No space left"))
    with pytest.raises(OutputError, match=f"^{told}: cannot be written"):
        write_picture(stream, noise(8), Metadata(), format="png", software="", overwrite=False)


@pytest.mark.parametrize(
    ("format", "pixels", "options"),
    [
        ("jpeg", np.zeros((4, 4, 3), np.uint16), {}),
        ("png", np.zeros((4, 4, 3), np.float32), {}),
        ("png", np.zeros((4, 4, 3), np.int8), {}),
        ("png", np.zeros((4, 4), np.uint8), {}),
        ("tiff", np.zeros((0, 4, 3), np.uint8), {}),
        ("jpeg", np.zeros((4, 4, 3), np.uint8), {"quality": 0}),
        ("jpeg", np.zeros((4, 4, 3), np.uint8), {"quality": 101}),
    ],
)
def test_pixels_that_do_not_fit_are_refused(format, pixels, options):
    with pytest.raises(ValueError, match=r"^pixels must|cannot hold|^quality must"):
        written(format, pixels, **options)


# --- EXIF ---


@pytest.mark.parametrize(("format", "bit_depth"), KINDS)
def test_exifread_finds_everything(format, bit_depth):
    tags = exifread.process_file(io.BytesIO(written(format, noise(bit_depth))))
    expected = {
        "Image Make": "Čamera Åb",
        "Image Artist": "Zoë Müller 山田",
        "Image DateTime": "2024:05:17 06:07:09",
        "Image ImageDescription": "a",
        "Image Software": "deepisp test",
        "Image Orientation": [1],
        "EXIF ExposureTime": [Fraction(1, 8000)],
        "EXIF FNumber": [Fraction(14, 5)],
        "EXIF ISOSpeedRatings": [65535],
        "EXIF RecommendedExposureIndex": [102400],
        "EXIF DateTimeOriginal": "2024:05:17 06:07:08",
        "EXIF OffsetTimeOriginal": "+05:30",
        "EXIF SubSecTimeOriginal": "042",
        "EXIF ExposureBiasValue": [Fraction(-2, 3)],
        "EXIF LensModel": "24-70 mm",
        "EXIF ColorSpace": [1],
        "GPS GPSLatitudeRef": "S",
        "GPS GPSLatitude": [33, 51, Fraction(43, 2)],
        "GPS GPSAltitude": [Fraction(617, 5)],
        "GPS GPSAltitudeRef": [1],
        "GPS GPSVersionID": [2, 3, 0, 0],
        "GPS GPSDate": "2024:05:17",
    }
    assert {key: tags[key].values for key in expected} == expected


@pytest.mark.parametrize(("format", "bit_depth"), KINDS)
def test_pillow_finds_everything(format, bit_depth):
    exif = Image.open(io.BytesIO(written(format, noise(bit_depth)))).getexif()
    assert exif[0x013B].encode("latin-1").decode() == "Zoë Müller 山田"
    assert (exif[0x0112], exif[0x0131], exif[0x4746]) == (1, "deepisp test", 4)
    photo, gps = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
    assert photo[0x829A] == Fraction(1, 8000)
    assert photo[0x9204] == Fraction(-2, 3)
    assert photo[0x9000] == b"0232"
    assert photo[0x9286] == b"UNICODE\0" + "schön – 山".encode("utf-16-le")
    assert [(ratio.numerator, ratio.denominator) for ratio in photo[0xA432]] == [
        (24, 1),
        (70, 1),
        (0, 0),
        (0, 0),
    ]
    assert (gps[5], gps[27]) == (b"\x01", b"ASCII\0\0\0GPS")
    assert gps[2] == (33, 51, Fraction(43, 2))


@pytest.mark.parametrize(("format", "bit_depth"), KINDS)
def test_the_tags_that_the_standard_wants_are_there(format, bit_depth):
    """EXIF 2.32, 4.6.8: a JPEG needs more than a TIFF, whose image directory has the rest."""
    exif = Image.open(io.BytesIO(written(format, noise(bit_depth), Metadata()))).getexif()
    photo = exif.get_ifd(0x8769)
    assert (photo[0x9000], photo[0xA000], photo[0xA001]) == (b"0232", b"0100", 1)
    assert (photo.get(0xA002), photo.get(0xA003)) == ((None, None) if format == "tiff" else (31, 23))
    if format == "jpeg":
        assert [exif[tag] for tag in (0x011A, 0x011B, 0x0128, 0x0213)] == [72, 72, 2, 1]
        assert photo[0x9101] == b"\1\2\3\0"
    else:
        assert 0x0213 not in exif and 0x9101 not in photo


@pytest.mark.parametrize(("format", "bit_depth"), KINDS)
def test_types_and_places_are_those_of_the_standard(format, bit_depth):
    """The 32-bit sensitivities are LONG, however small; values start at even offsets (TIFF 6.0)."""
    metadata = Metadata(METADATA.image, {**METADATA.exif, 0x8832: 800}, METADATA.gps)
    tags = exifread.process_file(io.BytesIO(written(format, noise(bit_depth), metadata)))
    assert tags["EXIF RecommendedExposureIndex"].field_type == 4
    odd = [key for key, tag in tags.items() if tag.field_length > 4 and tag.field_offset % 2]
    assert odd == []


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_tiffs_are_deflated_with_a_predictor(bit_depth):
    page = tifffile.TiffFile(io.BytesIO(written("tiff", noise(bit_depth)))).pages[0]
    assert (page.compression, page.predictor) == (8, 2)


@pytest.mark.parametrize(("format", "bit_depth"), KINDS[:1] + KINDS[3:])
def test_what_is_written_is_what_was_meant(format, bit_depth):
    again = read_metadata(io.BytesIO(written(format, noise(bit_depth))), "x")
    assert again.notes == ()
    assert (again.image, again.gps) == (METADATA.image, METADATA.gps)
    lens, meant = dict(again.exif), dict(METADATA.exif)
    assert repr(lens.pop(0xA432)) == repr(meant.pop(0xA432))  # NaN is not equal to itself
    assert lens == meant


@pytest.mark.parametrize("stated", [None, b"\2\2\0\0"])
def test_a_position_has_the_version_that_the_standard_wants(stated):
    gps = {1: "N"} if stated is None else {0: stated, 1: "N"}
    exif = Image.open(io.BytesIO(written("jpeg", noise(8), Metadata(gps=gps)))).getexif()
    assert exif.get_ifd(0x8825) == {0: stated or b"\2\3\0\0", 1: "N"}


@pytest.mark.parametrize(("format", "bit_depth"), KINDS)
def test_without_metadata_there_is_no_gps(format, bit_depth):
    exif = Image.open(io.BytesIO(written(format, noise(bit_depth), Metadata()))).getexif()
    assert 0x8825 not in exif and exif[0x0131] == "deepisp test"


def test_a_jpeg_has_a_thumbnail():
    rows, columns = np.mgrid[:900, :1300]
    pixels = np.stack([rows / 900 * 255, columns / 1300 * 255, 0 * rows + 90], -1).astype(np.uint8)
    data = written("jpeg", pixels)
    tags = Image.open(io.BytesIO(data)).getexif().get_ifd(IFD.IFD1)
    assert (tags[0x0103], tags[0x011A], tags[0x011B], tags[0x0128]) == (6, 72, 72, 2)
    start = data.index(b"Exif\0\0") + 6 + tags[0x0201]
    small = Image.open(io.BytesIO(data[start : start + tags[0x0202]]))
    assert small.size == (160, 111)
    expected = np.asarray(Image.fromarray(pixels).resize(small.size), int)
    assert np.abs(np.asarray(small) - expected).max() < 20
    again = read_metadata(io.BytesIO(data), "x")
    assert (again.notes, again.image) == ((), METADATA.image)


def test_small_pictures_and_full_segments_have_no_thumbnail():
    def has_one(data):
        return bool(Image.open(io.BytesIO(data)).getexif().get_ifd(IFD.IFD1))

    assert has_one(written("jpeg", noise(8, 321, 5)))
    assert not has_one(written("jpeg", noise(8, 320, 320)))
    notes = []
    full = Metadata(exif={0x9286: "c" * 63_000})
    assert not has_one(written("jpeg", noise(8, 900, 900), full, notes=notes))
    assert notes == []


@pytest.mark.parametrize("size", [65_000, 65_600, 300_000])
def test_exif_over_64_kib_still_gives_a_jpeg(size):
    """Long values are dropped, the comment first; short ones stay."""
    metadata = Metadata(
        {**METADATA.image, 0x010E: "d" * 2000, 0x8298: "©" * 2500},
        {**METADATA.exif, 0x9286: "c" * size},
        METADATA.gps,
    )
    notes = []
    image = Image.open(io.BytesIO(written("jpeg", noise(8), metadata, notes=notes)))
    assert [note.split(":")[0] for note in notes] == ["EXIF tag 0x9286 dropped"]
    assert f"its {size + 8} bytes" in notes[0]
    exif = image.getexif()
    assert 0x9286 not in exif.get_ifd(0x8769)
    assert len(exif[0x010E]) == 2000 and len(exif[0x8298]) == 5000
    assert exif.get_ifd(0x8825)[1] == "S"
    image.load()
    for format in ("png", "tiff"):
        kept = Image.open(io.BytesIO(written(format, noise(8), metadata))).getexif().get_ifd(0x8769)
        assert len(kept[0x9286]) == size + 8


@pytest.mark.parametrize("dropped", [0x010E, 0x9286], ids=["description", "comment"])
def test_descriptions_and_comments_are_dropped_before_a_longer_copyright(dropped):
    image, exif = {**METADATA.image, 0x8298: "r" * 40_000}, dict(METADATA.exif)
    (image if dropped in image else exif)[dropped] = "d" * 30_000
    notes = []
    data = written("jpeg", noise(8), Metadata(image, exif), notes=notes)
    assert [note.split(":")[0] for note in notes] == [f"EXIF tag 0x{dropped:04X} dropped"]
    found = Image.open(io.BytesIO(data)).getexif()
    assert len(found[0x8298]) == 40_000 and dropped not in {*found, *found.get_ifd(IFD.Exif)}


def test_a_short_comment_outlives_a_long_copyright():
    metadata = Metadata({0x8298: "c" * 70_000}, {0x9286: "short"})
    exif = Image.open(io.BytesIO(written("jpeg", noise(8), metadata))).getexif()
    assert 0x8298 not in exif and exif.get_ifd(0x8769)[0x9286].endswith(b"short")


def test_exif_may_fill_its_segment_to_the_last_byte():
    largest = 0
    for size in range(65_200, 65_500, 2):
        data = written("jpeg", noise(8, 1, 1), Metadata(exif={0x9286: "c" * size}))
        start = data.index(b"\xff\xe1") + 2
        largest = max(largest, int.from_bytes(data[start : start + 2], "big"))
        Image.open(io.BytesIO(data)).load()
    assert largest in (65534, 65535)


def test_whole_numbers_are_as_short_as_exif_wants_them():
    """SHORT for most; a PNG may be wider than that holds."""
    fields = picture_ifds(Metadata(exif={0x9209: 16}), 2**16, 2**16 - 1, "test", "png")["exif"]
    assert [fields[tag].type for tag in (0x9209, 0xA002, 0xA003)] == [SHORT, LONG, SHORT]


def test_ratios_that_fit_are_written_as_they_are():
    """Also with more than a million parts, to which only others are rounded."""
    exact = {0x829A: Fraction(1_234_567_891, 4_000_000_007), 0x9204: Fraction(-2_000_000_011, 2_000_000_033)}
    exif = Image.open(io.BytesIO(written("jpeg", noise(8), Metadata(exif=exact)))).getexif()
    assert {tag: exif.get_ifd(0x8769)[tag] for tag in exact} == exact


def test_numbers_that_do_not_fit_are_approximated():
    metadata = Metadata(
        exif={
            0x829A: Fraction(1, 3**40),
            0x829D: Fraction(2**70),
            0x920A: 0.1,
            0x9204: -(2.0**40),
            0x9206: Fraction(2**40 + 1, 2**20),
        },
        gps={6: 5000.1234567},  # in millionths its numerator would have more than 32 bits
    )
    exif = Image.open(io.BytesIO(written("jpeg", noise(8), metadata))).getexif()
    photo = exif.get_ifd(0x8769)
    assert float(exif.get_ifd(0x8825)[6]) == pytest.approx(5000.1234567, abs=1e-4)
    assert float(photo[0x9206]) == pytest.approx(2**20)
    assert photo[0x829A] == 0 and photo[0x829D] == 2**32 - 1
    assert float(photo[0x920A]) == pytest.approx(0.1) and photo[0x9204] == -(2**31)


# --- files ---


def test_a_file_is_written_whole_and_nothing_else(tmp_path):
    for name, format in (("ä b.png", "png"), ("山.tif", "tiff"), ("x.jpg", "jpeg")):
        size = write(tmp_path / name, format)
        assert (tmp_path / name).stat().st_size == size
    assert len(list(tmp_path.iterdir())) == 3


def test_an_existing_file_is_kept_unless_asked_for(tmp_path):
    target = tmp_path / "x.png"
    target.write_bytes(b"old")
    with pytest.raises(UsageError, match=r"x\.png.*exists"):
        write(target)
    assert target.read_bytes() == b"old"
    write(target, overwrite=True)
    assert Image.open(target).size == (31, 23)
    assert os.listdir(tmp_path) == ["x.png"]


def test_an_existing_file_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(output, "_encode_png", refuse)
    (tmp_path / "x.png").touch()
    with pytest.raises(UsageError):
        write(tmp_path / "x.png")


WAYS = ["renames exclusively", "has hard links", "has neither"]


@pytest.fixture(params=WAYS)
def file_system(request, monkeypatch):
    """Of which kinds there are several: FAT has no hard links, NFS no exclusive renaming."""
    if request.param != WAYS[0]:
        monkeypatch.setattr(files, "_rename_exclusively", refuse)
    if request.param == WAYS[2]:
        monkeypatch.setattr(os, "link", refuse)
    return request.param


@pytest.mark.usefixtures("file_system")
def test_a_file_that_appears_meanwhile_is_kept(tmp_path, monkeypatch):
    target = tmp_path / "x.png"
    encode = output._encode_png

    def slow(*arguments):
        target.write_bytes(b"somebody else's")
        return encode(*arguments)

    monkeypatch.setattr(output, "_encode_png", slow)
    with pytest.raises(UsageError, match="exists"):
        write(target)
    assert target.read_bytes() == b"somebody else's"
    assert os.listdir(tmp_path) == ["x.png"]


@pytest.mark.usefixtures("file_system")
def test_any_file_system_will_do(tmp_path):
    write(tmp_path / "x.png")
    assert Image.open(tmp_path / "x.png").size == (31, 23)
    assert os.listdir(tmp_path) == ["x.png"]
    assert not (tmp_path / "x.png").stat().st_mode & stat.S_IXUSR


@pytest.mark.skipif(not sys.platform.startswith(("linux", "darwin")), reason="has no such call")
def test_a_picture_gets_its_name_at_once(tmp_path, monkeypatch):
    """With all that is in it: programs that watch the folder are told that it has moved there."""
    monkeypatch.setattr(os, "link", pytest.fail)
    monkeypatch.setattr(os, "replace", pytest.fail)
    write(tmp_path / "x.png")
    assert Image.open(tmp_path / "x.png").size == (31, 23)


@pytest.mark.skipif(os.name != "posix", reason="no named pipes elsewhere")
def test_a_device_needs_no_folder_to_write_into(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jpg")
    monkeypatch.setattr(os, "access", lambda *_: False)
    files.check_target(tmp_path / "pipe.jpg", overwrite=False)
    with pytest.raises(OutputError, match="cannot be written to"):
        files.check_target(tmp_path / "a.jpg", overwrite=False)


def test_a_name_that_is_too_long_is_told_before_the_work(tmp_path):
    with pytest.raises(OutputError, match=r"File name too long.*choose a shorter name"):
        files.check_target(tmp_path / f"{'a' * 300}.png", overwrite=False)
    files.check_target(tmp_path / "new" / "deeper" / "x.png", overwrite=False)


def refuse(*_):
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("step", ["encode", "fsync", "rename"])
@pytest.mark.parametrize(
    "failure",
    [
        OSError(28, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        KeyboardInterrupt(),
        MemoryError(),
    ],
)
def test_a_failure_leaves_the_folder_as_it_was(tmp_path, monkeypatch, step, failure, overwrite):
    def fail(*_):
        raise failure

    target = tmp_path / "x.png"
    if overwrite:
        target.write_bytes(b"old")
    owner, name = {
        "encode": (output, "_encode_png"),
        "fsync": (os, "fsync"),
        "rename": (os, "replace"),
    }[step]
    monkeypatch.setattr(owner, name, fail)
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(files, "_rename_exclusively", refuse)
    translated = isinstance(failure, OSError) and step != "encode"
    with pytest.raises(OutputError if translated else type(failure)) as caught:
        write(target, overwrite=overwrite)
    if translated:
        assert "x.png" in str(caught.value) and "free some space" in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == (
        {"x.png": b"old"} if overwrite else {}
    )


@pytest.mark.parametrize(
    ("code", "written"), [(errno.EINVAL, True), (errno.ENOSYS, True), (errno.EIO, False)]
)
def test_a_file_system_that_cannot_tell_when_a_file_is_on_the_disk(tmp_path, monkeypatch, code, written):
    def fail(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with nullcontext() if written else pytest.raises(OutputError):
        write(tmp_path / "x.png")
    assert (tmp_path / "x.png").exists() == written


def test_a_disk_too_full_for_a_folder_is_full(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "makedirs", fail)
    with pytest.raises(DiskFullError, match="free some space, or choose another folder"):
        files.make_parent(tmp_path / "new" / "x.png")


@pytest.mark.skipif(os.name != "posix", reason="an open file cannot be removed elsewhere")
def test_the_end_of_the_program_leaves_nothing_half_written(tmp_path):
    """A thread is still writing, and nothing waits for it."""
    program = """if True:
        import os, sys, threading
        from pathlib import Path
        from deepisp_cli import files
        writing = threading.Event()
        def fsync(_):
            writing.set()
            threading.Event().wait()
        os.fsync = fsync
        target = Path(sys.argv[1])
        threading.Thread(target=files.save, args=(target, b"half", False), daemon=True).start()
        assert writing.wait(60)
        print(os.listdir(target.parent))
    """
    run = [sys.executable, "-c", program, tmp_path / "x.png"]
    printed = subprocess.run(run, check=True, capture_output=True, text=True, timeout=60).stdout
    assert ".part" in printed
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="an open file cannot be removed elsewhere")
def test_a_temporary_file_that_is_gone_leaves_nothing_for_a_moment(tmp_path, monkeypatch):
    """The program ends while a thread writes: the thread may stop anywhere after that."""
    opened, original = [], os.open
    monkeypatch.setattr(os, "fsync", lambda _: files._remove_unfinished())
    monkeypatch.setattr(os, "open", lambda path, *rest: opened.append(path) or original(path, *rest))
    with pytest.raises(OutputError):
        write(tmp_path / "x.png")
    assert [os.path.splitext(path)[1] for path in opened] == [".part"]


@pytest.mark.skipif(os.name != "posix", reason="permission bits are a POSIX matter")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660)])
def test_permissions_follow_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write(tmp_path / "x.png")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.png").stat().st_mode) == mode


@pytest.mark.skipif(os.name != "posix", reason="permission bits are a POSIX matter")
@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_what_is_replaced_keeps_its_permissions(tmp_path, mode):
    write(tmp_path / "x.png")
    (tmp_path / "x.png").chmod(mode)
    write(tmp_path / "x.png", overwrite=True)
    assert stat.S_IMODE((tmp_path / "x.png").stat().st_mode) == mode


@pytest.mark.skipif(os.name != "posix", reason="permission bits are a POSIX matter")
def test_what_replaces_a_private_picture_is_private_while_it_is_written(tmp_path, monkeypatch):
    write(tmp_path / "x.png")
    (tmp_path / "x.png").chmod(0o600)
    modes = []

    def look(number):
        modes.append(stat.S_IMODE(os.fstat(number).st_mode))

    monkeypatch.setattr(files.os, "fsync", look)
    write(tmp_path / "x.png", overwrite=True)
    assert modes == [0o600]


def test_a_write_protected_file_leaves_nothing_behind_on_windows(tmp_path, monkeypatch):
    """It can neither be replaced nor removed there."""

    def heeding(call):
        def heed(*paths):
            if any(os.path.exists(path) and not os.stat(path).st_mode & stat.S_IWUSR for path in paths):
                raise PermissionError(13, "Access is denied")
            return call(*paths)

        return heed

    windows = {**vars(os), "name": "nt", "replace": heeding(os.replace), "unlink": heeding(os.unlink)}
    write(tmp_path / "x.png")
    (tmp_path / "x.png").chmod(stat.S_IREAD)
    monkeypatch.setattr(files, "os", SimpleNamespace(**windows))
    with pytest.raises(OutputError, match="Access is denied"):
        write(tmp_path / "x.png", overwrite=True)
    assert os.listdir(tmp_path) == ["x.png"]
    (tmp_path / "x.png").chmod(stat.S_IWRITE)  # or pytest could not remove it


@pytest.mark.skipif(os.name != "posix", reason="links need a privilege elsewhere")
def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.png").write_bytes(b"old")
    (tmp_path / "x.png").symlink_to(tmp_path / "real" / "x.png")
    write(tmp_path / "x.png", overwrite=True)
    assert (tmp_path / "x.png").is_symlink()
    assert Image.open(tmp_path / "real" / "x.png").size == (31, 23)


@pytest.mark.skipif(os.name != "posix", reason="no named pipes elsewhere")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "x.png"
    os.mkfifo(pipe)
    script = "import sys; print(len(open(sys.argv[1], 'rb').read()))"
    reader = subprocess.Popen([sys.executable, "-c", script, str(pipe)], stdout=subprocess.PIPE)
    try:
        size = write(pipe)
        assert reader.communicate(timeout=60)[0].strip() == str(size).encode()
    finally:
        reader.kill()  # it would wait for a writer forever
        reader.communicate()
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="a shell's >(command) there")
def test_a_pipe_without_a_name_is_written_to():
    ends = os.pipe()
    try:
        size = write(Path(f"/dev/fd/{ends[1]}"), pixels=noise(8, 4, 4))  # few enough to fit into the pipe
        assert len(os.read(ends[0], 1 << 16)) == size
    finally:
        for end in ends:
            os.close(end)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no folder/x.png", "create the folder"),
        ("file/x.png", "choose another folder"),
        ("n" * 300, "shorter"),
    ],
)
def test_a_target_that_cannot_be_is_named_with_a_remedy(tmp_path, name, message):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=message) as caught:
        write(tmp_path / name)
    assert name in str(caught.value)
    assert os.listdir(tmp_path) == ["file"]


def test_a_name_of_the_greatest_length(tmp_path):
    write(tmp_path / ("n" * 251 + ".png"))


def test_a_folder_is_not_replaced(tmp_path):
    (tmp_path / "x.png").mkdir()
    with pytest.raises(UsageError):
        write(tmp_path / "x.png")
    with pytest.raises(OutputError):
        write(tmp_path / "x.png", overwrite=True)
    assert os.listdir(tmp_path) == ["x.png"]


def test_a_stream_that_takes_a_little_at_a_time_gets_everything():
    class Slow(io.RawIOBase):
        taken = b""

        def writable(self):
            return True

        def write(self, data):
            self.taken += bytes(data[:100])
            return min(len(data), 100)

    stream = Slow()
    size = write(stream)
    assert len(stream.taken) == size
    assert Image.open(io.BytesIO(stream.taken)).size == (31, 23)


def test_a_broken_pipe_is_an_output_error():
    read_end, write_end = os.pipe()
    os.close(read_end)
    with pytest.raises(OutputError, match="closed the pipe"):
        stream = os.fdopen(write_end, "wb", buffering=0)
        with stream:
            write(stream)


# --- names ---


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.jpg", "jpeg"),
        ("a.JPEG", "jpeg"),
        ("b/c.d.png", "png"),
        (Path("x.TIF"), "tiff"),
        ("x.tiff", "tiff"),
    ],
)
def test_the_suffix_names_the_format(name, format):
    assert format_of_suffix(name) == format


@pytest.mark.parametrize("name", ["a.bmp", "a", ".png", "png"])
def test_an_unknown_suffix_lists_the_known(name):
    with pytest.raises(UsageError) as caught:
        format_of_suffix(name)
    for known in FORMATS.values():
        assert all(suffix in str(caught.value) for suffix in known.suffixes)


@pytest.mark.parametrize("tag", [27, 28])
@pytest.mark.parametrize("format", FORMATS)
def test_texts_about_a_place_name_their_encoding(tag, format):
    field = picture_ifds(Metadata(gps={tag: "Turm"}), 8, 8, "test", format)["gps"][tag]
    assert (field.type, field.data) == (7, b"ASCII\0\0\0Turm")


@pytest.mark.parametrize("tag", range(0x9C9B, 0x9CA0))
def test_what_windows_shows_is_of_bytes(tag):
    fields = picture_ifds(Metadata({tag: b"a\0\0\0"}), 8, 8, "test", "jpeg")["image"]
    assert (fields[tag].type, fields[tag].length) == (1, 4)


def test_a_dng_has_its_size_and_colours_in_its_image_directory_alone():
    exif = picture_ifds(Metadata(), 8, 8, "test", "dng")["exif"]
    assert not exif.keys() & {0xA001, 0xA002, 0xA003}


def test_numbers_are_as_exact_as_a_million_parts_can_be():
    exif = Image.open(io.BytesIO(written("png", noise(8), Metadata(exif={0x920A: np.pi})))).getexif()
    assert float(exif.get_ifd(0x8769)[0x920A]) == pytest.approx(np.pi, abs=1e-11)


def test_ratios_may_have_all_that_32_bits_hold():
    largest, signed = 2**32 - 1, 2**31 - 1
    exact = {0x829A: Fraction(1, largest), 0x829D: Fraction(largest, 2), 0x9204: Fraction(-1, signed)}
    exif = Image.open(io.BytesIO(written("png", noise(8), Metadata(exif=exact)))).getexif()
    assert {tag: exif.get_ifd(0x8769)[tag] for tag in exact} == exact


def test_odd_letters_in_texts_do_no_harm():
    """A zero would end them, and half of a pair has no encoding."""
    metadata = Metadata({0x010E: "one\0two", 0x8298: "\ud800 me"}, {0x9286: "ä\udc00"})
    again = read_metadata(io.BytesIO(written("tiff", noise(8), metadata)), "x")
    assert again.image == {0x010E: "one two", 0x8298: "? me"} and again.exif[0x9286][0] == "ä"


@pytest.mark.parametrize(("count", "more"), [(5, ""), (7, " and 2 more")])
def test_of_many_dropped_properties_five_are_named(count, more):
    longs = "".join(f"<dc:p{number}>{'x' * 66_000}</dc:p{number}>" for number in range(count))
    rdf = (
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    )
    packet = f"<rdf:RDF {rdf}><rdf:Description>{longs}<dc:short>x</dc:short></rdf:Description></rdf:RDF>"
    notes = []
    data = written("jpeg", noise(8), Metadata(xmp=packet.encode()), notes=notes)
    assert b"<dc:short>" in data
    (note,) = notes
    assert note.count("dc:p") == 5 and f"{more} dropped: a JPEG has no room for it" in note
    assert (" more " in note) == bool(more)


@pytest.mark.parametrize(("format", "bit_depth"), KINDS[3:])
def test_a_tiff_has_a_resolution(format, bit_depth):
    """Which the standard wants, though nobody knows it."""
    exif = Image.open(io.BytesIO(written(format, noise(bit_depth)))).getexif()
    assert [exif[tag] for tag in (0x011A, 0x011B, 0x0128)] == [72, 72, 2]


@pytest.mark.parametrize(("shape", "rows"), [((900, 700), 499), ((3, 400_000), 1)])
def test_a_tiff_is_in_strips_of_a_mebibyte_at_most_or_of_a_row(shape, rows):
    data = written("tiff", np.zeros((*shape, 3), np.uint8))
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        assert tif.pages.first.rowsperstrip == rows


@pytest.mark.parametrize("format", FORMATS)
def test_a_dng_is_of_a_restored_raw_and_no_other_format_is(format):
    raw = RestoredRaw(noise(16), noise(8), np.ones(3, np.float32), np.eye(3), (), 1.0)
    other = raw if format != "dng" else noise(16)
    with pytest.raises(ValueError, match=f"{format} cannot hold {type(other).__name__}"):
        written(format, other)


@pytest.mark.skipif(os.name != "posix", reason="links need a privilege elsewhere")
def test_a_link_to_nowhere_is_told_before_the_work(tmp_path):
    (tmp_path / "x.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UsageError, match=r"x\.png.*exists"):
        files.check_target(tmp_path / "x.png", overwrite=False)
    files.check_target(tmp_path / "x.png", overwrite=True)


def test_a_stream_has_everything_before_it_is_closed(tmp_path):
    with (tmp_path / "x.png").open("wb") as stream:
        size = write(stream)
        assert (tmp_path / "x.png").stat().st_size == size


@pytest.mark.parametrize(
    ("failure", "reason"), [(OSError("out of paper"), "out of paper"), (OSError(5, "I/O error"), "I/O error")]
)
def test_an_odd_failure_is_told_with_its_reason_and_what_to_look_at(failure, reason):
    with pytest.raises(OutputError) as caught, files.output_errors("x.png"):
        raise failure
    assert str(caught.value) == f"x.png: cannot be written ({reason}); check the disk and the path"


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize(("held", "written"), [(2, True), (3, False)])
def test_a_file_that_is_held_for_a_moment_is_waited_for(tmp_path, monkeypatch, overwrite, held, written):
    """As scanners for viruses do on Windows."""
    tries = []

    def rename(temporary, final):
        tries.append(final)
        if len(tries) <= held:
            raise PermissionError(errno.EACCES, "Permission denied")
        original(temporary, final)

    original = os.replace
    monkeypatch.setattr(files, "TRIES", 3)
    monkeypatch.setattr(files, "PAUSE", 0)
    place, name = (files.os, "replace") if overwrite else (files, "_rename_to_new")
    monkeypatch.setattr(place, name, rename)
    with nullcontext() if written else pytest.raises(PermissionError):
        files.save(tmp_path / "a.jpg", b"picture", overwrite)
    assert [path.name for path in tmp_path.iterdir()] == (["a.jpg"] if written else [])


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege")
def test_the_folder_behind_a_link_is_looked_at_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "b.jpg").write_bytes(b"x")
    (tmp_path / "a.jpg").symlink_to(tmp_path / "closed" / "b.jpg")
    monkeypatch.setattr(files.os, "access", lambda folder, _: Path(folder).name != "closed")
    with pytest.raises(OutputError, match="closed: cannot be written to"):
        files.check_target(tmp_path / "a.jpg", overwrite=True)

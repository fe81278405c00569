"""write_dng beyond what test_raw.py reads back: EXIF, GPS, compression, refusals."""

import io
import struct
from fractions import Fraction

import exifread
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from deepisp_cli.dng import write_dng
from deepisp_cli.raw import read_raw

EXIF = {
    33434: Fraction(1, 60),  # ExposureTime
    33437: 2.8,  # FNumber
    34855: 400,  # ISOSpeedRatings
    36867: "2024:05:06 07:08:09",  # DateTimeOriginal
    36881: "+02:00",  # OffsetTimeOriginal
    37521: "12",  # SubSecTimeOriginal
    42036: "Lens é",  # LensModel
}
GPS = {0: b"\2\3\0\0", 1: "N", 2: (48.0, 51.0, 29.5), 3: "E", 4: (2.0, 17.0, 40.2), 6: 12.5}


def noise(shape):
    return np.random.default_rng(0).integers(200, 900, shape, dtype=np.uint16)


def tags_of(path):
    with open(path, "rb") as source:
        return {name: str(value) for name, value in exifread.process_file(source).items()}


@pytest.mark.parametrize("shape", [(31, 33), (31, 33, 3)], ids=["mosaic", "linear"])
def test_exif_and_gps_are_read_back(tmp_path, shape):
    pattern = "RGGB" if len(shape) == 2 else None
    write_dng(tmp_path / "a.dng", noise(shape), pattern=pattern, make="Acme", model="One", exif=EXIF, gps=GPS)
    tags = tags_of(tmp_path / "a.dng")
    expected = {
        "Image Make": "Acme",
        "Image Model": "One",
        "EXIF ExposureTime": "1/60",
        "EXIF FNumber": "14/5",
        "EXIF ISOSpeedRatings": "400",
        "EXIF DateTimeOriginal": "2024:05:06 07:08:09",
        "EXIF OffsetTimeOriginal": "+02:00",
        "EXIF SubSecTimeOriginal": "12",
        "GPS GPSVersionID": "[2, 3, 0, 0]",
        "GPS GPSLatitude": "[48, 51, 59/2]",
        "GPS GPSLongitude": "[2, 17, 201/5]",
        "GPS GPSAltitude": "25/2",
    }
    assert {name: tags.get(name) for name in expected} == expected


@pytest.mark.parametrize("written", [(), ("exif",), ("gps",)], ids=["neither", "only exif", "only gps"])
def test_what_is_not_given_leaves_no_pointer(tmp_path, written):
    """Neither the pointer itself nor the next lower number, as which write_dng first writes it."""
    given = {name: values for name, values in {"exif": EXIF, "gps": GPS}.items() if name in written}
    write_dng(tmp_path / "a.dng", noise((31, 33)), pattern="RGGB", **given)
    pointers = {"Image ExifOffset": "exif", "Image GPSInfo": "gps"}
    assert {pointers[name] for name in pointers if name in tags_of(tmp_path / "a.dng")} == set(written)
    with tifffile.TiffFile(tmp_path / "a.dng") as tif:
        codes = {tag.code for tag in tif.pages.first.tags}
    numbers = {34665: "exif", 34853: "gps"}
    assert {numbers[code] for code in numbers if code in codes} == set(written)
    assert not {code - 1 for code in numbers} & codes


@pytest.mark.parametrize("shape", [(530, 1100, 3), (512, 512, 3), (23, 31, 3)])
def test_linear_samples_in_tiles_of_lossless_jpeg_are_read_back(tmp_path, shape):
    samples = np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16)
    write_dng(tmp_path / "a.dng", samples, pattern=None, compression="ljpeg")
    np.testing.assert_array_equal(read_raw(tmp_path / "a.dng").samples, samples)


@pytest.mark.parametrize("shape", [(64, 64), (64, 63), (64, 64, 3)])
def test_lossless_jpeg_is_of_the_predictor_that_every_reader_knows(tmp_path, shape):
    """ITU-T T.81, B.2.3: in a scan's header the predictor's number stands behind the components."""
    pattern = "RGGB" if len(shape) == 2 else None
    write_dng(tmp_path / "a.dng", noise(shape), pattern=pattern, compression="ljpeg")
    contents = (tmp_path / "a.dng").read_bytes()
    assert contents.count(b"\xff\xc3") == 1  # lossless, Huffman
    (scan,) = (at for at in range(len(contents)) if contents.startswith(b"\xff\xda", at))
    assert contents[scan + 5 + 2 * contents[scan + 4]] == 1


def test_the_preview_is_declared_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    jpeg = bytes(imagecodecs.jpeg8_encode(pixels, 90, subsampling="420"))
    write_dng(tmp_path / "a.dng", noise((32, 32)), pattern="RGGB", preview=jpeg)
    with tifffile.TiffFile(tmp_path / "a.dng") as tif:
        (page,) = tif.pages.first.pages
        stored = (tmp_path / "a.dng").read_bytes()[page.dataoffsets[0] :][: page.databytecounts[0]]
    assert stored == jpeg and page.shape == (40, 56, 3) and page.subfiletype == 1
    assert page.tags["YCbCrSubSampling"].value == Image.open(io.BytesIO(stored)).layer[0][1:3] == (2, 2)


@pytest.mark.parametrize("exif", [None, EXIF], ids=["alone", "with exif"])
def test_further_tags_replace_those_of_the_same_number(tmp_path, exif):
    """A TIFF's directory holds each number once, in ascending order."""
    extra = [(274, 3, 1, 6), (50708, 2, 6, b"Other\0"), (50714, 3, 1, 7), (50728, 5, 3, (1, 2) * 3)]
    options = {"make": "Acme", "white_balance": (2, 1, 1), "exif": exif, "extra": extra}
    write_dng(tmp_path / "a.dng", noise((32, 32)), pattern="RGGB", black=5, **options)
    contents = (tmp_path / "a.dng").read_bytes()
    (start,) = struct.unpack_from("<I", contents, 4)
    (count,) = struct.unpack_from("<H", contents, start)
    codes = [struct.unpack_from("<H", contents, start + 2 + 12 * number)[0] for number in range(count)]
    assert codes == sorted(set(codes))
    with tifffile.TiffFile(tmp_path / "a.dng") as tif:
        tags = tif.pages.first.tags
        found = [tags[code].value for code in (271, 274, 50708, 50714, 50728)]
    assert found == ["Acme", 6, "Other", 7, (1, 2) * 3]


def test_lossless_jpeg_is_smaller(tmp_path):
    samples = noise((256, 256)) // 8
    samples[:, 1::2] += 9000  # colours differ more than neighbours of one colour
    for compression in ("none", "ljpeg"):
        write_dng(tmp_path / compression, samples, pattern="RGGB", compression=compression)
    assert (tmp_path / "ljpeg").stat().st_size < 0.55 * (tmp_path / "none").stat().st_size


@pytest.mark.parametrize(
    ("samples", "options", "words"),
    [
        (noise((32, 32, 3)), {"pattern": "RGGB"}, "shape"),
        (noise((32, 32)), {"pattern": None}, "shape"),
        (noise((32, 32, 4)), {"pattern": None}, "shape"),
        (noise((32, 32)).astype(np.float32), {"pattern": "RGGB"}, "uint16"),
        (noise((32, 32)), {"pattern": "RGXB"}, "pattern"),
        (noise((32, 32)), {"pattern": "RGB"}, "pattern"),
        (noise((32, 32)), {"pattern": "RGGBRGGBR"}, "pattern"),
        (noise((32, 32)), {"pattern": "RGGB", "compression": "zip"}, "compression"),
        (noise((32, 32, 3)).astype(np.uint8), {"pattern": None, "compression": "ljpeg"}, "uint16"),
        (noise((1, 32)), {"pattern": "RGGB"}, "2x2"),
        (noise((0, 32, 3)), {"pattern": None}, "1x1"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, samples, options, words):
    with pytest.raises(ValueError, match=words):
        write_dng(tmp_path / "a.dng", samples, **options)
    assert not (tmp_path / "a.dng").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"black": 4095, "white": 4095},
        {"black": [[64, 64], [64, 5000]], "white": 4095},
        {"black": -1},
        {"white": 4095.0},
        {"white": 2**32},
        {"black": np.nan},
        {"black": [[[64]]]},
        {"black": (5, 6, 7)},  # would be a tile of one row
        {"black": np.zeros((0, 2))},
        {"white_balance": (2, 1)},
        {"white_balance": (2, 1, 1, 1)},
        {"white_balance": (2, 0, 1)},
        {"white_balance": (2, -1, 1)},
        {"white_balance": (2, np.nan, 1)},
        {"white_balance": (2, np.inf, 1)},
        {"white_balance": (2, 1e-12, 1)},  # its inverse is beyond 32 bits
        {"white_balance": (2, 1e7, 1)},  # its inverse would be written as 0
        {"orientation": 0},
        {"orientation": 9},
        {"xyz_to_camera": [[1, 0], [0, 1]]},
        {"xyz_to_camera": [[np.inf] * 3] * 3},
    ],
    ids=str,
)
def test_numbers_that_make_no_sense_are_refused(tmp_path, wrong):
    (name,) = wrong.keys() - {"white"} or wrong
    with pytest.raises(ValueError, match=f"{name} must be"):
        write_dng(tmp_path / "a.dng", noise((32, 32)), pattern="RGGB", **wrong)
    assert not (tmp_path / "a.dng").exists()


def test_the_black_of_linear_samples_is_one_or_one_for_each_colour(tmp_path):
    for black in (5, (5, 6, 7)):
        write_dng(tmp_path / "a.dng", noise((32, 32, 3)), pattern=None, black=black)
    with pytest.raises(ValueError, match="black must be"):
        write_dng(tmp_path / "b.dng", noise((32, 32, 3)), pattern=None, black=(5, 6))


@pytest.mark.parametrize("level", [0.3, 5000.1234567, 40000.7654321, 65534.99999])
def test_any_black_level_is_written(tmp_path, level):
    """Numerator and denominator of a rational have 32 bits."""
    write_dng(tmp_path / "a.dng", noise((32, 32)), pattern="RGGB", black=level)
    with tifffile.TiffFile(tmp_path / "a.dng") as tif:
        numerator, denominator = tif.pages.first.tags[50714].value
    assert numerator / denominator == pytest.approx(level, abs=1e-4)


def test_the_smallest_mosaic_and_the_widest_gains_are_written(tmp_path):
    write_dng(tmp_path / "a.dng", noise((2, 2)), pattern="RGGB", white_balance=(1000, 1, 0.001))
    with tifffile.TiffFile(tmp_path / "a.dng") as tif:
        assert tif.pages.first.tags[50728].value == (1, 1000, 1, 1, 1000, 1)


@pytest.mark.parametrize(
    ("make", "model", "name"),
    [("", "", "unknown"), ("Acme", "", "Acme"), ("", "One", "One"), ("A", "B", "A B")],
)
def test_every_dng_names_a_camera(tmp_path, make, model, name):
    """Which DNG wants."""
    write_dng(tmp_path / "a.dng", noise((32, 32)), pattern="RGGB", make=make, model=model)
    assert tags_of(tmp_path / "a.dng")["Image Tag 0xC614"] == name


def test_older_programs_may_read_it(tmp_path):
    """DNGBackwardVersion 1.1, which has all that is needed."""
    write_dng(tmp_path / "a.dng", noise((32, 32)), pattern="RGGB")
    with tifffile.TiffFile(tmp_path / "a.dng") as tif:
        assert bytes(tif.pages.first.tags[50707].value) == bytes((1, 1, 0, 0))


@pytest.mark.parametrize("width", [16, 31, 33, 600])
def test_tiles_are_no_wider_than_the_picture(tmp_path, width):
    """LibRaw wraps what is beyond it."""
    write_dng(tmp_path / "a.dng", noise((40, width, 3)), pattern=None, compression="ljpeg")
    with tifffile.TiffFile(tmp_path / "a.dng") as tif:
        page = tif.pages.first
        assert page.tilewidth <= width and page.tilewidth % 16 == page.tilelength % 16 == 0
    np.testing.assert_array_equal(read_raw(tmp_path / "a.dng").samples, noise((40, width, 3)))


def test_any_matrix_is_written(tmp_path):
    """Its ratios are signed: they have a bit less than those of levels."""
    matrix = np.array([[3000.1234567, -1, 0], [0, 2, -4000.7654321], [0.5, 0, 1]])
    write_dng(tmp_path / "a.dng", noise((32, 32)), pattern="RGGB", xyz_to_camera=matrix)
    with tifffile.TiffFile(tmp_path / "a.dng") as tif:
        parts = np.array(tif.pages.first.tags[50721].value, float)
    np.testing.assert_allclose((parts[::2] / parts[1::2]).reshape(3, 3), matrix, atol=1e-5)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_white_is_the_most_that_the_samples_hold(tmp_path, kind):
    write_dng(tmp_path / "a.dng", noise((32, 32)).astype(kind), pattern="RGGB")
    with tifffile.TiffFile(tmp_path / "a.dng") as tif:
        assert tif.pages.first.tags[50717].value == np.iinfo(kind).max


def test_a_name_that_has_no_encoding_is_written_as_far_as_it_has(tmp_path):
    write_dng(tmp_path / "a.dng", noise((32, 32)), pattern="RGGB", make="Acm\udc00")
    assert tags_of(tmp_path / "a.dng")["Image Make"] == "Acm?"

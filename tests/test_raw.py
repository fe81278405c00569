"""What read_raw says about files with a known scene, and what it refuses."""

import contextlib
import errno
import gc
import io
import mmap
import os
import re
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import rawpy
import tifffile
from conftest import DNG_VERSION, MATRIX, RGGB, decoded, gain_map, opcode_list, polynomial, with_tag
from hypothesis import given, settings
from hypothesis import strategies as st

from deepisp_cli import dng_decode, libraw
from deepisp_cli.camera_rgb import linear_rgb
from deepisp_cli.dng import write_dng
from deepisp_cli.dng_levels import active_area, default_crop, subtract_deltas
from deepisp_cli.dng_tags import RawTag, first_number, raw_page, text
from deepisp_cli.errors import InputError, UnsupportedRawError, UsageError
from deepisp_cli.libraw import read_capture, read_preview
from deepisp_cli.naming import fill
from deepisp_cli.raw import _assemble, read_raw
from deepisp_cli.reading import read_source
from deepisp_cli.refusals import refuse_by_tags

PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")
LEVELS = {"R": 3000, "G": 2000, "B": 1000}
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SRATIONAL, DOUBLE = 1, 2, 3, 4, 5, 7, 10, 12  # TIFF types


def colours_of(pattern, shape):
    """Return the counts of a scene in which each colour has its own level."""
    tile = np.array([LEVELS[letter] for letter in pattern], np.uint16).reshape(2, 2)
    return np.resize(np.tile(tile, (1, (shape[1] + 1) // 2))[:, : shape[1]], shape)


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(200, 16000, shape, dtype=np.uint16)


def rationals(numbers, scale=10000):
    return [part for number in np.ravel(numbers) for part in (round(float(number) * scale), scale)]


def read(path):
    with open(path, "rb") as source:
        return read_raw(source, Path(path).name)


def read_bytes(contents):
    return read_raw(io.BytesIO(contents), "test.raw")


@pytest.fixture
def dng(tmp_path):
    """Write a DNG with the given options and read it again."""

    def write_and_read(samples, **options):
        options = {"pattern": "RGGB", "white": 16000, "xyz_to_camera": MATRIX, **options}
        write_dng(tmp_path / "test.dng", samples, **options)
        return read(tmp_path / "test.dng")

    return write_and_read


def test_a_date_that_is_none_is_no_damage(tmp_path):
    """Of the year 10000, which Python does not know."""
    path = tmp_path / "a.dng"
    date = b"10000:01:01 00:00:0\0"
    write_dng(path, noise((24, 24)), pattern="RGGB", white=16000, extra=[(306, ASCII, len(date), date)])
    assert "timestamp" not in read(path).capture


@pytest.mark.parametrize("shape", [(1, 40, 3), (40, 1, 3), (1, 40), (40, 1)])
def test_a_picture_of_one_row_or_column_is_refused(shape):
    told = f"{shape[1]}x{shape[0]} pixels are too few; 2 a side is the least"
    with pytest.raises(UnsupportedRawError, match=told):
        read_bytes(coded(noise(shape), "zlib"))


@pytest.mark.parametrize("size", [(2, 2), (12, 40), (40, 12), (21, 21), (22, 22)])
@pytest.mark.parametrize("compression", ["none", "ljpeg"])
def test_raws_of_few_pixels_are_read(dng, size, compression):
    samples = noise(size)
    np.testing.assert_array_equal(dng(samples, compression=compression).samples, samples)


@pytest.mark.parametrize("across", [False, True], ids=["rows", "columns"])
def test_a_tile_of_black_levels_has_a_limit(dng, across):
    """Each of its positions is worked on by itself: thousands would take minutes."""

    def black(side):
        tile = (1, side) if across else (side, 1)
        extra = [(50713, SHORT, 2, tile), (50714, SHORT, side, list(range(side)))]
        return dng(noise((130, 130)), extra=extra).black

    assert black(64).shape == ((2, 64) if across else (64, 2))
    with pytest.raises(InputError, match="1x65 black levels" if across else "65x1 black levels"):
        black(65)


def test_more_pixels_than_memory_are_refused_before_they_are_decoded():
    """Tiles of a few bytes can all be one and the same."""
    contents = coded(noise((40, 40)), "zlib")
    width = contents.index(struct.pack("<HHI", 256, 4, 1))  # ImageWidth, ImageLength
    large = struct.pack("<HHII", 256, 4, 1, 40000) + struct.pack("<HHII", 257, 4, 1, 40000)
    contents = contents[:width] + large + contents[width + len(large) :]
    with pytest.raises(UnsupportedRawError, match="40000x40000 pixels are too many"):
        read_bytes(contents)


@pytest.mark.parametrize("count", [100, 101])
def test_lists_of_corrections_have_a_limit(dng, count):
    data = opcode_list(*[(6, bytes(16))] * count)
    extra = [(51009, UNDEFINED, len(data), data)]
    if count == 100:
        assert dng(noise((40, 40)), extra=extra).notes
    else:
        with pytest.raises(InputError, match="more than 100 entries in OpcodeList2"):
            dng(noise((40, 40)), extra=extra)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "absurd",
    [
        (50728, DOUBLE, 3, (1e-310, 1e-310, 1e-310)),  # AsShotNeutral
        (50720, DOUBLE, 2, (1e300, 1e300)),  # DefaultCropSize
        (50829, DOUBLE, 4, (0, 0, 1e300, float("nan"))),  # ActiveArea
        (50723, SRATIONAL, 9, (1, 0) * 9),  # CameraCalibration1
        (50717, DOUBLE, 1, (1e300,)),  # WhiteLevel
    ],
    ids=lambda tag: str(tag[0]),
)
def test_absurd_numbers_are_an_error_or_a_picture_and_no_warning(dng, absurd):
    with contextlib.suppress(InputError):
        dng(noise((40, 40)), extra=[absurd])


# How it is called


def test_a_path_an_open_file_and_contents_are_the_same_picture(tmp_path):
    path = tmp_path / "Ünï.dng"
    write_dng(path, noise((24, 36)), pattern="RGGB")
    with path.open("rb") as file:
        for source in (path, str(path), file, io.BytesIO(path.read_bytes())):
            np.testing.assert_array_equal(read_raw(source).samples, noise((24, 36)))


def test_messages_name_the_file_as_it_was_given(tmp_path):
    path = tmp_path / "empty.dng"
    path.touch()
    with path.open("rb") as file:
        for source, name, told in (
            (path, None, path),
            (str(path), None, path),
            (path, "mine", "mine"),
            (file, None, path),
            (file, "mine", "mine"),
            (io.BytesIO(), None, "the raw file"),
        ):
            with pytest.raises(InputError) as caught:
                read_raw(source, name)
            assert str(caught.value).startswith(f"{told}: the file is empty")
    with pytest.raises(InputError, match=r"nowhere\.dng: no such file; check the name"):
        read_raw(tmp_path / "nowhere.dng")
    with pytest.raises(InputError, match=re.escape(str(tmp_path))):  # a folder
        read_raw(tmp_path)


@pytest.mark.parametrize(
    ("code", "remedy"), [(errno.EACCES, "cannot be read.*check its perm"), (errno.EIO, "check the disk")]
)
def test_a_folder_is_told_as_one_where_opening_it_is_denied(tmp_path, monkeypatch, code, remedy):
    """As Windows does it."""

    def denied(path):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    (tmp_path / "a.dng").write_bytes(b"raw")
    for name, told in (("", "is a folder; give raw files"), ("a.dng", remedy)):
        with pytest.raises(InputError, match=told):
            read_raw(tmp_path / name)


def test_what_is_neither_a_path_nor_a_binary_file_is_told(tmp_path):
    (tmp_path / "a.dng").write_bytes(b"raw")
    with (tmp_path / "a.dng").open("r") as text:
        for wrong in (text, b"the contents", 3, None):
            with pytest.raises(UsageError, match=f"open in binary mode, not {type(wrong).__name__}"):
                read_raw(wrong)
    with pytest.raises(UsageError, match="cannot be rewound"):
        read_raw(io.RawIOBase())  # like a pipe
    closed = (tmp_path / "a.dng").open("rb")
    closed.close()
    with pytest.raises(UsageError, match="cannot be rewound"):
        read_raw(closed)


# Pattern, area and crop


@pytest.mark.parametrize("compression", ["none", "ljpeg"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_order_and_odd_sizes_come_back_sample_by_sample(dng, pattern, compression):
    samples = noise((45, 63))
    image = dng(samples, pattern=pattern, compression=compression)
    assert image.pattern == pattern
    assert image.samples.dtype == np.uint16
    np.testing.assert_array_equal(image.samples, samples)


@settings(max_examples=40, deadline=None)
@given(
    pattern=st.sampled_from(PATTERNS),
    margin=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    crop=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    size=st.tuples(st.integers(22, 27), st.integers(22, 27)),
)
def test_pattern_follows_margins_and_crop(tmp_path_factory, pattern, margin, crop, size):
    """Whatever the parities, each sample must carry the level of the colour that the pattern gives it."""
    (top, left), (crop_top, crop_left), (height, width) = margin, crop, size
    active = colours_of(pattern, (40, 40))
    samples = np.full((40 + top + 3, 40 + left + 2), 7, np.uint16)
    samples[top : top + 40, left : left + 40] = active
    path = tmp_path_factory.mktemp("dng") / "test.dng"
    write_dng(
        path,
        samples,
        pattern=pattern,
        active_area=(top, left, 40, 40),
        default_crop=(crop_top, crop_left, height, width),
    )
    image = read(path)
    expected = active[crop_top : crop_top + height, crop_left : crop_left + width]
    np.testing.assert_array_equal(image.samples, expected)
    np.testing.assert_array_equal(image.samples, colours_of(image.pattern, (height, width)))


def test_without_a_crop_the_picture_is_the_active_area(dng):
    samples = noise((50, 60))
    image = dng(samples, active_area=(4, 6, 40, 48))
    np.testing.assert_array_equal(image.samples, samples[4:44, 6:54])


def test_a_crop_may_reach_the_edge_of_the_active_area(dng):
    samples = noise((40, 40))
    np.testing.assert_array_equal(dng(samples, default_crop=(10, 10, 30, 30)).samples, samples[10:, 10:])


@pytest.mark.filterwarnings("error")
def test_a_crop_outside_the_active_area_is_ignored(dng):
    assert dng(noise((40, 40)), default_crop=(10, 10, 31, 20)).samples.shape == (40, 40)
    no_number = [(50719, RATIONAL, 2, (0, 0, 4, 1)), (50720, SHORT, 2, (8, 8))]
    assert dng(noise((40, 40)), extra=no_number).samples.shape == (40, 40)
    for count in (1, 3):  # numbers, instead of two
        origin, size = (50719, SHORT, count, (4,) * count), (50720, SHORT, 2, (8, 8))
        assert dng(noise((40, 40)), extra=[origin, size]).samples.shape == (40, 40)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_the_tag_and_does_not_turn_the_samples(dng, orientation):
    image = dng(noise((24, 36)), orientation=orientation)
    assert image.orientation == orientation
    np.testing.assert_array_equal(image.samples, noise((24, 36)))


def test_linear_dng(dng):
    samples = noise((33, 41, 3))
    image = dng(samples, pattern=None, black=(10, 20.5, 30), default_crop=(1, 2, 30, 35))
    assert image.pattern is None
    np.testing.assert_array_equal(image.samples, samples[1:31, 2:37])
    np.testing.assert_array_equal(image.black, np.float32([10, 20.5, 30]))
    np.testing.assert_array_equal(image.white, np.float32([16000] * 3))


@pytest.mark.parametrize("stated", [0, 9])
def test_an_orientation_that_does_not_exist_turns_nothing(dng, stated):
    assert dng(noise((24, 36)), extra=[(274, SHORT, 1, stated)]).orientation == 1


def test_the_crop_of_the_photographer_is_taken(dng):
    samples = noise((60, 80))
    user = (51125, RATIONAL, 4, rationals([0.25, 0.2, 0.75, 0.5]))  # top, left, bottom, right
    image = dng(samples, default_crop=(10, 20, 40, 50), extra=[user])
    np.testing.assert_array_equal(image.samples, samples[20:40, 30:45])
    nonsense = (51125, RATIONAL, 4, rationals([0.75, 0, 0.25, 1]))
    assert dng(samples, extra=[nonsense]).samples.shape == (60, 80)
    three = (51125, RATIONAL, 3, rationals([0.25, 0, 0.75]))
    assert dng(samples, extra=[three]).samples.shape == (60, 80)


# Levels


@pytest.mark.parametrize("origin", [(0, 0), (1, 0), (0, 1), (3, 5)])
@pytest.mark.parametrize(
    "tile",
    [
        [[64.25]],
        [[60, 61], [62, 63]],
        [[60, 61.5, 62, 63, 64, 65]],
        np.arange(64, 128).reshape(8, 8),
        np.arange(60, 66).reshape(3, 2),
    ],
    ids=["fraction", "2x2", "1x6", "8x8", "3x2"],
)
def test_black_repeats_from_the_active_area(dng, tile, origin):
    """The black tile, laid over the crop, must be what the file means at each sample."""
    tile, (top, left) = np.array(tile), origin
    image = dng(noise((45, 45)), black=tile, active_area=(1, 3, 40, 40), default_crop=(top, left, 30, 31))
    rows, columns = np.indices((40, 40))
    meant = tile[rows % tile.shape[0], columns % tile.shape[1]][top : top + 30, left : left + 31]
    rows, columns = np.indices((30, 31))
    laid = image.black[rows % image.black.shape[0], columns % image.black.shape[1]]
    np.testing.assert_array_equal(laid, meant.astype(np.float32))
    assert min(image.black.shape) >= 2 and image.black.dtype == np.float32
    scale = np.full(image.black.shape, 16000 - tile.max(), np.float32)  # one for all: DNG 1.7, chapter 5
    np.testing.assert_array_equal(image.white - image.black, scale)


@pytest.mark.parametrize("tile", [[[60, 70], [70, 80]], [[200, 256], [256, 300]]])
@pytest.mark.parametrize("even", [0, 20, -20])
def test_grey_is_grey_whatever_the_black_of_its_samples(dng, tile, even):
    """And what is clipped white: each sample is on the scale from the highest black to white."""
    tile = np.array(tile)
    rows = np.where(np.arange(40) % 2, -even, even)
    black = np.tile(tile, (20, 20)) + rows[:, None]
    scale = 1023 - black.max()
    counts = np.round(black + 0.3 * scale)
    counts[:, 20:] = 1023
    extra = [(50716, SRATIONAL, 40, rationals(rows))] if even else []
    image = dng(counts.astype(np.uint16), black=tile, white=1023, extra=extra)
    linear = linear_rgb(image, np.ones(3, np.float32))
    np.testing.assert_allclose(linear[2:-2, 2:18], 0.3, atol=1e-3)
    np.testing.assert_allclose(linear[2:-2, 22:-2], 1, atol=1e-6)


def test_darkness_is_told_as_a_share_of_white(dng):
    samples = np.full((24, 24), 1000, np.uint16)
    samples[5, 5] = 1075
    assert "very dark: nothing is brighter than 0.50% of white" in dng(samples, black=1000).notes
    samples[5, 5] = 1151  # more than 1 %
    assert not any("very dark" in note for note in dng(samples, black=1000).notes)


@pytest.mark.parametrize("rows", [1024, 1300, 1301])
def test_black_deltas_of_many_rows_are_subtracted(dng, rows):
    """Beyond 1024 numbers tifffile reads but half of a tag's rationals. Some are below zero."""
    samples, down = noise((rows, 32)), (np.arange(rows) - rows // 2) / 100
    extra = [(50716, SRATIONAL, rows, rationals(down))]
    image = dng(samples, black=500, default_crop=(8, 6, rows - 20, 20), extra=extra)
    expected = samples[8 : rows - 12, 6:26] - down[8 : rows - 12, None]
    np.testing.assert_allclose(image.samples, expected, rtol=1e-6)


def test_black_deltas_of_rows_and_columns_are_subtracted(dng):
    samples, down, across = noise((40, 36)), np.arange(40), np.arange(36) / 10
    extra = [
        (50715, SRATIONAL, 36, rationals(across)),  # BlackLevelDeltaH, one for each column
        (50716, SRATIONAL, 40, rationals(down)),  # BlackLevelDeltaV
    ]
    image = dng(samples, black=5, default_crop=(2, 3, 30, 31), extra=extra)
    assert image.samples.dtype == np.float32
    expected = samples[2:32, 3:34] - down[2:32, None] - across[None, 3:34]
    np.testing.assert_allclose(image.samples, expected, rtol=1e-6)
    np.testing.assert_array_equal(image.black, np.full((2, 2), 5))


def test_black_deltas_leave_float32_of_any_counts():
    counts = np.arange(6, dtype=np.uint32).reshape(2, 3)
    found = subtract_deltas(counts, {"BlackLevelDeltaV": np.array([0.5, 1.5])}, np.zeros(2, int))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, counts - np.float32([[0.5], [1.5]]))


@pytest.mark.parametrize(
    ("levels", "repeat", "meant"),
    [
        ([7], (2, 2), np.full((2, 2), 7)),
        ([1, 2, 3, 4], (1, 1), [[1, 2], [3, 4]]),
        ([1, 2, 3, 4], None, [[1, 2], [3, 4]]),
        ([1, 2, 3, 4], (1, 4), [[1, 2, 3, 4]] * 2),
    ],
)
def test_black_levels_that_disagree_with_their_tile(tmp_path, levels, repeat, meant):
    path = tmp_path / "test.dng"
    extra = [(50714, SHORT, len(levels), levels)]
    extra += [(50713, SHORT, 2, repeat)] if repeat else []
    write_dng(path, noise((24, 24)), pattern="RGGB", white=16000, xyz_to_camera=MATRIX, extra=extra)
    contents = path.read_bytes()
    if not repeat:  # replaced by another tag, which nobody reads
        contents = contents.replace(struct.pack("<HHI", 50713, 3, 2), struct.pack("<HHI", 50712 - 1, 3, 2), 1)
    np.testing.assert_array_equal(read_bytes(contents).black, meant)


def test_the_black_of_a_linear_dng_may_repeat_but_not_vary(dng):
    samples = noise((24, 24, 3))
    extra = [(50713, SHORT, 2, (2, 2)), (50714, SHORT, 12, (5, 6, 7) * 4)]
    np.testing.assert_array_equal(dng(samples, pattern=None, extra=extra).black, [5, 6, 7])
    extra = [(50713, SHORT, 2, (2, 2)), (50714, SHORT, 12, (5, 6, 7) * 3 + (5, 6, 8))]
    with pytest.raises(UnsupportedRawError, match="varies over the picture"):
        dng(samples, pattern=None, extra=extra)


def test_black_deltas_that_are_no_numbers_are_damage(dng):
    with pytest.raises(InputError, match="damaged: its tags make no sense"):
        dng(noise((24, 24)), extra=[(50715, SRATIONAL, 24, [0, 0] + [1, 1] * 23)])


@pytest.mark.parametrize("tag", [50715, 50716], ids=["columns", "rows"])
def test_the_black_of_a_linear_dng_may_not_vary_by_rows_or_columns(dng, tag):
    def image(last):
        return dng(noise((24, 24, 3)), pattern=None, extra=[(tag, SRATIONAL, 24, [0, 1] * 23 + [last, 1])])

    assert image(0).samples.shape == (24, 24, 3)
    with pytest.raises(UnsupportedRawError, match="varies over the picture"):
        image(1)


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
@pytest.mark.parametrize("shape", [(40, 40), (40, 40, 3)], ids=["mosaic", "linear"])
def test_white_is_the_largest_count_unless_stated(dtype, white, shape):
    image = read_bytes(coded((noise(shape) // 64).astype(dtype), "zlib"))
    np.testing.assert_array_equal(image.white, np.full((2, 2) if len(shape) == 2 else 3, white))


@pytest.mark.parametrize(
    ("pattern", "levels", "told"),
    [
        ("RGGB", [(50714, SHORT, 1, 16000)], "black level 16000, white level 16000"),
        (
            "RGGB",
            [(50713, SHORT, 2, (2, 2)), (50714, SHORT, 4, (0, 0, 0, 16000))],
            "black level 16000, white level 16000",
        ),
        (
            None,
            [(50717, LONG, 3, (16000, 500, 16000)), (50714, SHORT, 3, (0, 600, 0))],
            "black level 600, .* 500",
        ),
    ],
    ids=["all", "one sample", "one colour"],
)
def test_levels_that_contradict_each_other_are_damage(dng, pattern, levels, told):
    with pytest.raises(InputError, match=told):
        dng(noise((24, 24) if pattern else (24, 24, 3)), pattern=pattern, extra=levels)


def test_no_colour_of_other_raws_is_white_beyond_the_common_level(tmp_path, monkeypatch):
    """LibRaw gives both levels, and above the lower one a colour may have no counts."""

    class Stated(rawpy.RawPy):
        camera_white_level_per_channel = (15000, 20000, 16000, 20000)

    path = tmp_path / "test.dng"
    write_dng(path, noise((24, 24)), pattern="RGGB", white=16000)
    monkeypatch.setattr(rawpy, "RawPy", Stated)
    with path.open("rb") as file:
        np.testing.assert_array_equal(libraw.decode(file, {}).white, [15000, 16000, 16000, 16000])


@pytest.mark.parametrize("origin", [(0, 0), (1, 0), (0, 1), (3, 5)])
def test_levels_of_other_raws_follow_their_colours(origin):
    """LibRaw gives one per colour number: for a Bayer mosaic red, green, blue, second green."""
    colours = np.array([[0, 1], [3, 2]])
    top, left = origin
    black, white = np.float32([10, 20, 30, 40]), np.float32([1000, 2000, 3000, 4000])
    frame = decoded(
        noise((40, 40)), colours, origin=np.array(origin), visible=(30, 31), black=black, white=white
    )
    gains = np.array([4, 2, 3])
    image = _assemble(frame._replace(camera_gains=gains), {}, io.BytesIO())
    np.testing.assert_array_equal(image.camera_white_balance, gains / 2)
    for y, x in np.ndindex(2, 2):
        number = colours[(top + y) % 2, (left + x) % 2]
        assert image.pattern[2 * y + x] == "RGBG"[number]
        assert (image.black[y, x], image.white[y, x]) == (black[number], white[number])
    np.testing.assert_array_equal(image.samples, noise((40, 40))[top : top + 30, left : left + 31])
    unknown = _assemble(frame._replace(black=np.zeros(4, np.float32)), {}, io.BytesIO())
    assert set(unknown.notes) - set(image.notes) == {
        "no black level: 0 is assumed",
        "no as-shot white balance",
    }


# Colour


def test_white_balance_and_matrix(dng):
    image = dng(noise((24, 24)), white_balance=(4, 2, 3))
    np.testing.assert_allclose(image.camera_white_balance, [2, 1, 1.5], rtol=1e-5)
    np.testing.assert_allclose(image.xyz_to_camera, MATRIX, atol=1e-6)
    neutral = MATRIX @ [0.95047, 1, 1.08883]
    np.testing.assert_allclose(image.daylight_white_balance, neutral.max() / neutral, rtol=1e-5)
    assert image.notes == ()


NEUTRALS = {
    "zero": [0, 1, 1, 1, 1, 1],
    "negative": [-1, 1, 1, 1, 1, 1],
    "nothing through nothing": [0, 0, 1, 1, 1, 1],
    "infinite": [1, 0, 1, 1, 1, 1],
    "absurd": [1, 1000, 1, 1, 1, 1],
}


@pytest.mark.parametrize("neutral", [None, *NEUTRALS.values()], ids=["none", *NEUTRALS])
def test_no_usable_white_balance_is_none_and_said(dng, neutral):
    extra = [] if neutral is None else [(50728, SRATIONAL, 3, neutral)]
    image = dng(noise((24, 24)), extra=extra)
    assert image.camera_white_balance is None
    assert image.daylight_white_balance is not None
    assert "no as-shot white balance" in image.notes


def test_white_point_as_chromaticity(dng):
    """AsShotWhiteXY of D65 must give the daylight gains."""
    image = dng(noise((24, 24)), extra=[(50729, RATIONAL, 2, [31271, 100000, 32902, 100000])])
    np.testing.assert_allclose(image.camera_white_balance, image.daylight_white_balance, rtol=1e-3)


@pytest.mark.parametrize("matrix", [MATRIX, None], ids=["matrix", "no matrix"])
def test_a_neutral_counts_before_a_white_point(dng, matrix):
    """A file is to have one of them. Adobe's programs, and LibRaw, then take the neutral."""
    both = {"white_balance": (4, 2, 3), "extra": [(50729, RATIONAL, 2, [31271, 100000, 32902, 100000])]}
    image = dng(noise((24, 24)), xyz_to_camera=matrix, **both)
    np.testing.assert_allclose(image.camera_white_balance, [2, 1, 1.5], rtol=1e-5)


def test_a_white_point_without_a_matrix_says_nothing(dng):
    image = dng(noise((24, 24)), xyz_to_camera=None, extra=[(50729, RATIONAL, 2, [1, 3, 1, 3])])
    assert image.camera_white_balance is None
    assert "no as-shot white balance" in image.notes


def test_a_zero_matrix_is_none_and_said(dng):
    image = dng(noise((24, 24)), xyz_to_camera=np.zeros((3, 3)))
    assert image.xyz_to_camera is None and image.daylight_white_balance is None
    assert "no colour matrix: the camera's colours are not known" in image.notes


def test_the_matrix_nearest_daylight_is_taken_with_calibration_and_analog_balance(dng):
    """ColorMatrix2 is usually D65, but here ColorMatrix1 is; AnalogBalance is part of the samples."""
    extra = [
        (50721, SRATIONAL, 9, rationals(MATRIX)),
        (50722, SRATIONAL, 9, rationals(MATRIX[::-1])),
        (50778, SHORT, 1, 21),
        (50779, SHORT, 1, 17),
        (50723, SRATIONAL, 9, rationals(np.diag([0.9, 1, 1.1]))),
        (50727, RATIONAL, 3, rationals([2, 1, 1.5])),
    ]
    image = dng(noise((24, 24)), extra=extra)
    np.testing.assert_allclose(image.xyz_to_camera, np.diag([1.8, 1, 1.65]) @ MATRIX, atol=1e-3)


@pytest.mark.parametrize(
    ("near", "far"),
    [
        (21, 20),
        (20, 23),
        (22, 23),
        (1, 23),
        (22, 11),
        (22, 20),  # compared by the reciprocals: 7500 K looks more like 6500 K than 5500 K does
        (20, 4),
        (10, 11),
        (23, 17),
        (11, 17),
        (23, 3),
        (3, 0),
        (17, 255),
    ],
)
@pytest.mark.parametrize("nearer_first", [True, False])
def test_of_two_lights_that_nearer_to_d65_counts(dng, near, far, nearer_first):
    """1 is daylight, 3 tungsten, 4 flash, 10 cloudy, 11 shade; 17 is A, 20 to 23 D55, D65, D75, D50."""
    lights, matrices = (near, far), (MATRIX, MATRIX[::-1])
    order = 1 if nearer_first else -1
    extra = [(50721 + n, SRATIONAL, 9, rationals(matrix)) for n, matrix in enumerate(matrices[::order])]
    extra += [(50778 + n, SHORT, 1, light) for n, light in enumerate(lights[::order])]
    np.testing.assert_allclose(dng(noise((24, 24)), extra=extra).xyz_to_camera, MATRIX, atol=1e-3)


@pytest.mark.parametrize("kind", [ASCII, BYTE])
@pytest.mark.parametrize(("profile", "applies"), [("same", True), ("other", False)])
def test_a_calibration_is_that_of_the_profile_or_left_out(dng, kind, profile, applies):
    def signature(code, text):
        return (code, ASCII, 0, text) if kind == ASCII else (code, BYTE, len(text) + 1, text.encode() + b"\0")

    extra = [
        (50723, SRATIONAL, 9, rationals(np.diag([0.9, 1, 1.1]))),
        signature(50931, "same"),
        signature(50932, profile),
    ]
    image = dng(noise((24, 24)), extra=extra)
    expected = np.diag([0.9, 1, 1.1]) @ MATRIX if applies else MATRIX
    np.testing.assert_allclose(image.xyz_to_camera, expected, atol=1e-3)


def test_a_dng_without_make_and_model_has_its_unique_model(dng):
    assert (dng(noise((24, 24)), unique_camera_model="Cinema 4K").model) == "Cinema 4K"
    assert dng(noise((24, 24))).model == ""  # "unknown" is stored then
    named = dng(noise((24, 24)), unique_camera_model="Cinema 4K", model="C4")
    assert named.model == "C4"


# What is refused


def test_mosaics_that_are_neither_bayer_nor_x_trans_are_refused(dng):
    with pytest.raises(UnsupportedRawError, match="only Bayer and X-Trans"):
        dng(noise((36, 36)), pattern="RGGRRGGRBGGB" * 3)
    with pytest.raises(UnsupportedRawError, match="only Bayer"):
        dng(noise((36, 36)), pattern="RGBG")
    extra = [(33422, BYTE, 4, bytes((1, 3, 5, 4))), (50710, BYTE, 4, bytes((1, 3, 4, 5)))]  # G C Y M
    with pytest.raises(UnsupportedRawError):
        dng(noise((36, 36)), extra=extra)
    with pytest.raises(UnsupportedRawError, match="staggered"):
        dng(noise((36, 36)), extra=[(50711, SHORT, 1, 2)])


def test_all_colours_at_each_pixel_are_refused():
    """Canon's sRAW, as LibRaw returns it."""
    frame = decoded(np.full((8, 8, 4), 900, np.uint16), None)
    with pytest.raises(UnsupportedRawError, match=r"^a file with all colours at each pixel"):
        _assemble(frame, {}, io.BytesIO())


def test_gopros_compression_is_named(tmp_path):
    path = tmp_path / "test.dng"
    write_dng(path, noise((24, 24)), pattern="RGGB", white=16000)
    with pytest.raises(UnsupportedRawError, match="GoPro's VC-5 cannot be decoded"):
        read_bytes(with_tag(path.read_bytes(), 259, 259, 9))


def as_tile(path):
    """Return a DNG of write_dng whose one strip is declared as one tile."""
    contents = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", contents, 4)
    (count,) = struct.unpack_from("<H", contents, start)
    entries = {
        code: (kind, number, value)
        for code, kind, number, value in struct.iter_unpack("<HHII", contents[start + 2 :][: 12 * count])
    }
    entries[324], entries[325] = entries.pop(273), entries.pop(279)  # TileOffsets, TileByteCounts
    del entries[278]  # RowsPerStrip
    entries[322], entries[323] = entries[256], entries[257]  # TileWidth, TileLength
    contents += bytes(len(contents) % 2)
    directory = b"".join(struct.pack("<HHII", code, *entries[code]) for code in sorted(entries))
    struct.pack_into("<I", contents, 4, len(contents))
    return bytes(contents) + struct.pack("<H", len(entries)) + directory + bytes(4)


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"", "empty"),
        (imagecodecs.jpeg_encode(np.zeros((16, 16, 3), np.uint8)), "a JPEG picture"),
        (imagecodecs.png_encode(np.zeros((16, 16, 3), np.uint8)), "a PNG picture"),
        (b"\0\0\0\x18ftypheic" + bytes(100), "a HEIF picture"),
        (b"\0\0\0\x14ftypqt  " + bytes(100), "a film"),
        (b"\0\0\0\x18ftypcrx " + bytes(100), "damaged"),
        (b"II+\0" + bytes(100), "a BigTIFF"),
        (b"some text\n" * 100, "not a raw file"),
        (np.random.default_rng(1).bytes(5000), "not a raw file"),
        (b"II*\0" + np.random.default_rng(2).bytes(5000), "not a raw file"),
    ],
    ids=["empty", "jpeg", "png", "heif", "film", "cr3", "bigtiff", "text", "random", "random tiff"],
)
def test_other_files_are_named_for_what_they_are(contents, words):
    with pytest.raises(InputError, match=words) as caught:
        read_bytes(contents)
    assert str(caught.value).startswith("test.raw: ")
    assert not isinstance(caught.value, UnsupportedRawError)


def test_a_plain_tiff_picture_is_refused():
    file = io.BytesIO()
    tifffile.imwrite(file, noise((32, 32, 3)), photometric="rgb")
    with pytest.raises(InputError, match="a TIFF without raw data"):
        read_bytes(file.getvalue())


def test_a_tag_of_the_wrong_type_is_damage(dng):
    with pytest.raises(InputError, match="its tags make no sense"):
        dng(noise((32, 48)), extra=[(51125, 2, 5, b"many\0")])


def test_planar_and_four_colour_linear_dngs_are_refused():
    file = io.BytesIO()
    options = {"photometric": "linear_raw", "metadata": None, "extratags": DNG_VERSION}
    tifffile.imwrite(file, noise((3, 32, 32)), planarconfig="separate", **options)
    with pytest.raises(UnsupportedRawError, match="one plane for each colour"):
        read_bytes(file.getvalue())


@pytest.mark.parametrize("compression", ["none", "ljpeg"])
@pytest.mark.parametrize("kept", [0.02, 0.1, 0.3, 0.5, 0.9, 0.99, "one byte less"])
def test_a_truncated_file_is_an_error(tmp_path, compression, kept):
    write_dng(tmp_path / "test.dng", noise((64, 64)), pattern="RGGB", compression=compression)
    contents = (tmp_path / "test.dng").read_bytes()
    length = len(contents) - 1 if kept == "one byte less" else int(len(contents) * kept)
    assert read_bytes(contents).samples.shape == (64, 64)
    with pytest.raises(InputError):
        read_bytes(contents[:length])


def with_preview_first(contents, start):
    """Return a DNG of write_dng as the SubIFD of a first directory: a preview of 100 bytes from ``start``."""
    own = {254: (4, 1), 256: (4, 10), 257: (4, 10), 258: (3, 8), 259: (3, 1), 262: (3, 1), 277: (3, 1)}
    (raw,) = struct.unpack_from("<I", contents, 4)
    entries = own | {273: (4, start), 278: (4, 10), 279: (4, 100), 330: (4, raw), 50706: (1, 0x0401)}
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", code, kind, 4 if kind == BYTE else 1, value)
        for code, (kind, value) in sorted(entries.items())
    )
    return contents[:4] + struct.pack("<I", len(contents)) + contents[8:] + directory + bytes(4)


@pytest.mark.parametrize("tiled", [False, True], ids=["strips", "tiles"])
def test_only_the_preview_may_lie_beyond_the_end(tmp_path, tiled):
    """The raw data is intact, so the picture is developed; the preview's offsets are not the raw's."""
    samples, path = noise((32, 48)), tmp_path / "test.dng"
    write_dng(path, samples, pattern="RGGB", white=16000)
    contents = with_preview_first(as_tile(path) if tiled else path.read_bytes(), start=1 << 20)
    image = read_bytes(contents)
    assert image.pattern == "RGGB"
    np.testing.assert_array_equal(image.samples, samples)
    np.testing.assert_array_equal(image.white, np.full((2, 2), 16000))


def test_a_camera_named_in_the_raws_own_directory_is_known(tmp_path):
    path = tmp_path / "a.dng"
    write_dng(path, noise((32, 48)), pattern="RGGB", white=16000, make="Acme", model="One")
    path.write_bytes(with_preview_first(path.read_bytes(), start=8))
    assert read_source(path)[1].camera == fill("{camera}", path, "") == "Acme One"


def test_a_mosaic_that_ends_in_zeros_is_damage(dng):
    samples = noise((64, 64))
    samples[-8:] = 0
    dng(samples)
    samples[-9:] = 0
    with pytest.raises(InputError, match="after row 55 of 64"):
        dng(samples)
    border = dng(samples[..., None].repeat(3, 2), pattern=None)
    assert "the last 9 of 64 rows are empty: a border, or lost data" in border.notes
    with pytest.raises(InputError, match="holds only zeros"):
        dng(np.zeros((64, 64), np.uint16))


def test_corrupt_compressed_data_is_an_error(tmp_path):
    write_dng(tmp_path / "test.dng", noise((64, 64)), pattern="RGGB", compression="ljpeg")
    contents = bytearray((tmp_path / "test.dng").read_bytes())
    middle = len(contents) // 2
    contents[middle : middle + 400] = b"\xff\xd9" * 200
    with pytest.raises(InputError):
        read_bytes(bytes(contents))


def test_random_damage_never_escapes_as_another_error(tmp_path):
    """Each run overwrites bytes of the directory; only a picture or an InputError may follow."""
    write_dng(tmp_path / "test.dng", noise((64, 64)), pattern="RGGB", white_balance=(2, 1, 1.5))
    contents, random = (tmp_path / "test.dng").read_bytes(), np.random.default_rng(3)
    refused = 0
    for _ in range(150):
        damaged = bytearray(contents)
        damaged[random.integers(8, 500)] = random.integers(256)
        try:
            read_bytes(bytes(damaged))
        except InputError:
            refused += 1
    assert 0 < refused < 150


# Preview, lossy data, memory


def test_no_preview_is_none(tmp_path):
    write_dng(tmp_path / "test.dng", noise((24, 24)), pattern="RGGB")
    assert read_preview(io.BytesIO((tmp_path / "test.dng").read_bytes())) is None
    assert read_preview(io.BytesIO(b"no picture at all" * 10)) is None


LOSSY_AREA = (0, 0, 32, 64)


def lossy_dng(grey, opcodes=None, extra=()):
    """Read a linear DNG of 8-bit JPEG data, 32x64, four columns of ``grey`` levels, black 51."""
    picture = np.repeat(np.uint8([grey]).repeat(32, 0).repeat(16, 1)[..., None], 3, 2)
    jpeg = imagecodecs.jpeg_encode(picture, level=100, colorspace="RGB", outcolorspace="RGB")
    tags = [
        *DNG_VERSION,
        (50714, SHORT, 3, (51,) * 3),
        *([] if any(code == 50717 for code, *_ in extra) else [(50717, SHORT, 3, (255,) * 3)]),
        *([(51009, UNDEFINED, len(opcodes), opcodes)] if opcodes else []),
        *extra,
    ]
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(
            iter([jpeg]),
            shape=picture.shape,
            dtype=picture.dtype,
            photometric="linear_raw",
            planarconfig="contig",
            compression=34892,
            tile=(32, 64),
            metadata=None,
            extratags=tags,
        )
    return read_bytes(file.getvalue())


@pytest.mark.parametrize(
    "opcodes",
    [
        opcode_list(*(polynomial((0, 0.2, 0, 0.6), LOSSY_AREA, (plane, 1)) for plane in range(3))),
        opcode_list(polynomial((0, 0.2, 0, 0.6), LOSSY_AREA, (0, 3))),
    ],
    ids=["one for each plane", "one for all"],
)
def test_lossy_linear_dng_applies_black_before_the_polynomial(opcodes):
    """DNG scales black to 0 and white to 1 before OpcodeList2; values below black stay negative."""
    image = lossy_dng([40, 51, 153, 255], opcodes)
    x = (np.array([40, 51, 153, 255]) - 51) / 204
    expected = 51 + 204 * (0.2 * x + 0.6 * x**3)
    for plane in range(3):
        np.testing.assert_allclose(image.samples[8, 8::16, plane], expected, atol=0.006 * 204)
    assert image.samples[8, 8, 1] < 51
    assert (image.black == 51).all() and (image.white == 255).all()
    assert not any("OpcodeList2" in note for note in image.notes)


def test_lossy_linear_dng_gets_its_gains_after_the_polynomial():
    gains = gain_map([[[0.5]]], LOSSY_AREA, (0, 3))
    squares = polynomial((0, 0, 1), LOSSY_AREA, (0, 3))
    plain, image = (
        lossy_dng([51, 153, 204, 255], opcode_list(*entries)) for entries in ([squares], [squares, gains])
    )
    np.testing.assert_allclose(image.samples - 51, 0.5 * (plain.samples - 51), rtol=1e-5)
    assert not any("OpcodeList2" in note for note in image.notes)


def test_lossy_linear_dng_goes_through_its_table():
    table = (np.arange(256) ** 2 // 4 + 51).astype(np.uint16)  # 51 to 16307
    extra = [(50712, SHORT, 256, table), (50717, LONG, 3, (16307,) * 3)]
    image = lossy_dng([0, 60, 153, 255], extra=extra)
    expected = table[[0, 60, 153, 255]]
    np.testing.assert_allclose(image.samples[8, 8::16, 1], expected, atol=0.012 * (16307 - 51))
    assert (image.black == 51).all() and (image.white == 16307).all()
    last = int(table[199])
    short = [(50712, SHORT, 200, table[:200]), (50717, LONG, 3, (last,) * 3)]
    found = lossy_dng([0, 60, 153, 255], extra=short).samples[8, 56]
    np.testing.assert_allclose(found, last, atol=0.01 * (last - 51))


# Data that LibRaw does not read


def coded(samples, compression, extra=(), cfa=RGGB, **options):
    """A DNG of one tile, encoded by tifffile."""
    file = io.BytesIO()
    mosaic = len(options.get("shape", np.shape(samples))) == 2
    cfa = cfa if mosaic else []
    tags = [(50706, BYTE, 4, bytes((1, 7, 1, 0))), (50708, ASCII, 0, "Test"), *cfa, *extra]
    photometric = "cfa" if mosaic else "linear_raw"
    options = {"tile": (64, 64), "subfiletype": 0, "metadata": None, **options}
    if not mosaic:
        options = {"planarconfig": "contig", **options}
    with tifffile.TiffWriter(file) as writer:
        writer.write(samples, photometric=photometric, compression=compression, extratags=tags, **options)
    return file.getvalue()


def test_an_enhanced_picture_beside_the_raw_is_not_the_raw():
    """NewSubfileType 16: demosaiced, often larger."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        options = {"photometric": "linear_raw", "planarconfig": "contig", "metadata": None, "subfiletype": 16}
        writer.write(np.zeros((64, 64, 3), np.uint16), **options)
        writer.write(noise((40, 40)), photometric="cfa", metadata=None, extratags=[*RGGB])
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as tif:
        assert raw_page(tif).shape == (40, 40)


@pytest.mark.parametrize(
    ("compression", "options"),
    [
        ("jpegxl_dng", {"compressionargs": {"lossless": True}}),
        ("zlib", {"predictor": True}),
    ],
)
@pytest.mark.parametrize("shape", [(60, 62), (60, 62, 3)])
def test_what_libraw_cannot_decode_is_decoded(compression, options, shape):
    samples = noise(shape)
    crop = [(50719, LONG, 2, (2, 1)), (50720, LONG, 2, (50, 40)), (50829, LONG, 4, (3, 2, 60, 62))]
    image = read_bytes(coded(samples, compression, crop, **options))
    np.testing.assert_array_equal(image.samples, samples[4:44, 4:54])
    assert image.pattern == ("GBRG" if len(shape) == 2 else None)  # RGGB from the second row on


def test_samples_of_more_than_16_bits_are_read():
    samples = noise((60, 62)).astype(np.uint32) * 1000
    for compression, tile in ((None, (16, 16)), (None, None), ("zlib", (64, 64))):
        np.testing.assert_array_equal(read_bytes(coded(samples, compression, tile=tile)).samples, samples)


@pytest.mark.parametrize("sides", [(4, 4), (2, 4), (4, 2)])
def test_a_bayer_mosaic_may_be_stated_as_several_of_its_cells(sides):
    colours = np.tile([[0, 1], [1, 2]], (sides[0] // 2, sides[1] // 2))
    cfa = [(33421, SHORT, 2, sides), (33422, BYTE, colours.size, bytes(colours.ravel().tolist()))]
    for compression, tile in (("zlib", (64, 64)), (None, None)):
        image = read_bytes(coded(noise((60, 62)), compression, cfa=cfa, tile=tile))
        assert image.pattern == "RGGB"
        np.testing.assert_array_equal(image.samples, noise((60, 62)))
    colours[0, 1] = 2
    cfa[1] = (33422, BYTE, colours.size, bytes(colours.ravel().tolist()))
    with pytest.raises(UnsupportedRawError, match="only Bayer and X-Trans mosaics are"):
        read_bytes(coded(noise((60, 62)), "zlib", cfa=cfa))


def test_a_predictor_that_cannot_be_undone_is_not_damage():
    data = bytearray(coded(noise((60, 62)), "zlib", predictor=True))
    entry = data.index(struct.pack("<HHII", 317, 3, 1, 2))
    data[entry + 8 : entry + 12] = struct.pack("<I", 34892)
    with pytest.raises(UnsupportedRawError, match="predicted from further away"):
        read_bytes(bytes(data))
    plain = coded(noise((60, 62)), None, [(317, SHORT, 1, 34892)])  # has no meaning there
    assert read_bytes(plain).pattern == "RGGB"


@pytest.mark.parametrize("compression", ["none", "lossless JPEG", "lossless JPEG in pairs"])
@pytest.mark.parametrize("shape", [(60, 40), (60, 40, 3)])
def test_a_tile_may_be_wider_than_the_picture(compression, shape):
    """TIFF wants multiples of 16. LibRaw wraps what is beyond the picture into the next row."""
    samples = noise(shape)
    if compression == "none":
        return np.testing.assert_array_equal(read_bytes(coded(samples, None)).samples, samples)
    tile = np.zeros((64, 64, *shape[2:]), np.uint16)
    tile[:60, :40] = samples
    if compression == "lossless JPEG in pairs" and len(shape) == 2:  # as cameras and Adobe do
        tile = tile.reshape(64, 32, 2)
    jpeg = bytes(imagecodecs.jpeg8_encode(tile, lossless=True, predictor=1, bitspersample=16))
    options = {"shape": shape, "dtype": np.uint16, "bitspersample": 16}
    if len(shape) == 3:
        options["planarconfig"] = "contig"
    data = coded(iter([jpeg]), 7, **options)
    np.testing.assert_array_equal(read_bytes(data).samples, samples)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_interleaved_fields_are_put_in_order_whatever_the_compression(compression):
    samples = noise((60, 62))
    fields = np.concatenate([samples[0::2], samples[1::2]])
    data = coded(fields, compression, [(50975, SHORT, 1, 2)], tile=(64, 48))
    np.testing.assert_array_equal(read_bytes(data).samples, samples)


def test_blocks_within_tiles_are_refused(dng):
    with pytest.raises(UnsupportedRawError, match="samples in blocks within tiles"):
        dng(noise((24, 24)), extra=[(50974, SHORT, 2, (2, 2))])
    dng(noise((24, 24)), extra=[(50974, SHORT, 2, (1, 1))])


@pytest.mark.parametrize(("dtype", "entries"), [(np.uint8, 300), (np.uint16, 70000)])
def test_a_table_may_be_longer_than_the_samples_reach(dtype, entries):
    samples = np.random.default_rng(0).integers(0, 256, (40, 40)).astype(dtype)
    table = np.arange(entries) % 65521
    data = coded(samples, "zlib", [(50712, SHORT, entries, table.astype(np.uint16))])
    np.testing.assert_array_equal(read_bytes(data).samples, table[samples])


def test_what_is_wrong_with_a_mosaic_is_said_whoever_decodes_it():
    cmy = (33422, BYTE, 4, bytes((3, 1, 5, 4)))
    image = read_bytes(coded(noise((40, 40)), "zlib", cfa=RGGB[1:]))
    assert image.pattern == "RGGB"  # 2x2 if nothing is said
    with pytest.raises(UnsupportedRawError, match="a mosaic of CGYM"):
        read_bytes(coded(noise((40, 40)), "zlib", cfa=[cmy]))


@pytest.mark.parametrize(
    ("scale", "aspect", "told"),
    [
        ((1, 0, 1, 1), 1, []),
        ((1, 1, 1, 1), 1, []),
        ((4, 1, 2, 1), 2, ["pixels are not square (2)"]),
        ((1, 1, 4, 1), 0.25, ["pixels are not square (0.25)"]),
        ((5, 1, 1, 1), 1, ["pixels 5 times as wide as high are not believed"]),
        ((1, 1, 5, 1), 1, ["pixels 0.2 times as wide as high are not believed"]),
    ],
)
def test_pixels_may_be_up_to_four_times_as_wide_as_high_or_as_high_as_wide(scale, aspect, told):
    image = read_bytes(coded(noise((40, 40)), "zlib", [(50718, RATIONAL, 2, scale)]))
    assert image.pixel_aspect == aspect
    assert [note.partition(":")[0] for note in image.notes if "pixels" in note] == told


def test_a_table_and_interleaved_fields_are_undone():
    """JPEG XL compresses a mosaic better if each colour is a separate picture (DNG 1.7)."""
    samples = np.random.default_rng(0).integers(0, 100, (50, 48), dtype=np.uint16)
    table = (np.arange(90) ** 2).astype(np.uint16)  # the last value is repeated
    fields = np.concatenate([samples[0::2], samples[1::2]])
    fields = np.concatenate([fields[:, 0::3], fields[:, 1::3], fields[:, 2::3]], axis=1)
    extra = [(50712, SHORT, 90, table), (50975, LONG, 1, 2), (52547, LONG, 1, 3)]
    image = read_bytes(coded(fields, "jpegxl_dng", extra, compressionargs={"lossless": True}))
    np.testing.assert_array_equal(image.samples, table[np.minimum(samples, 89)])


def test_damaged_jpeg_xl_is_an_error():
    contents = bytearray(coded(noise((60, 62)), "jpegxl_dng"))
    contents[-3000:-2000] = bytes(1000)
    with pytest.raises(InputError, match="cannot be decoded"):
        read_bytes(bytes(contents))


# Bad pixels


def test_bad_pixels_of_a_linear_dng_are_left(dng):
    codes = opcode_list((4, struct.pack(">2I", 9, 1)))
    samples = noise((24, 36))[..., None].repeat(3, 2)
    image = dng(samples, pattern=None, extra=[(51008, UNDEFINED, len(codes), codes)])
    np.testing.assert_array_equal(image.samples, samples)
    assert "the corrections in its OpcodeList1 are not applied" in image.notes


@pytest.mark.parametrize(("constant", "found"), [(3, True), (29, False), (2**32 - 1, False)])
def test_a_bad_pixels_constant_is_that_of_the_samples_as_stored(constant, found):
    """They are found once LinearizationTable is applied, which makes 29 of a 3."""
    stored = np.random.default_rng(0).integers(30, 100, (40, 44)).astype(np.uint16)
    stored[20, 20] = 3
    table = (np.arange(100) ** 2 + 20).astype(np.uint16)
    codes = opcode_list((4, struct.pack(">2I", constant, 1)))
    extra = [(50712, SHORT, 100, table), (51008, UNDEFINED, len(codes), codes)]
    expected = table[stored]
    if found:
        around = expected[18:23:2, 18:23:2].astype(float)
        expected[20, 20] = np.rint((around.sum() - around[1, 1]) / 8)
    np.testing.assert_array_equal(read_bytes(coded(stored, "zlib", extra)).samples, expected)


def test_bad_pixels_become_what_their_colour_is_around_them(dng):
    samples = colours_of("RGGB", (40, 44))
    bad = samples.copy()
    bad[[0, 7, 8, 39, 38, 20], [0, 5, 5, 43, 42, 20]] = 9  # corners, neighbours, one inside
    bad[20, 22] = 9  # of the same colour as the bad one beside it
    bad[30, 10] = 8
    bad[24, [26, 28, 30]] = bad[[22, 26], 28] = (
        9  # only diagonal neighbours are left of the one in the middle
    )
    areas = struct.pack(">3I2I4I", 1, 1, 1, 30, 10, 12, 12, 15, 14)
    bad[12:15, 12:14] = 5
    constant = struct.pack(">2I", 9, 1)
    codes = opcode_list((4, constant), (5, areas))
    image = dng(bad, extra=[(51008, UNDEFINED, len(codes), codes)])
    np.testing.assert_array_equal(image.samples, samples)
    assert image.notes == ("no as-shot white balance",)
    image = dng(bad, extra=[(51008, UNDEFINED, 20, opcode_list((9, b"")))])
    assert image.samples[0, 0] == 9
    assert "the corrections in its OpcodeList1 are not applied" in image.notes


@pytest.mark.parametrize("kept", [(0, 0), (0, 2), (2, 0), (4, 4)])
def test_a_bad_pixel_may_have_one_good_neighbour_at_the_edge(dng, kept):
    samples = np.full((24, 24), 5, np.uint16)  # bad
    samples[kept] = 700
    constant = opcode_list((4, struct.pack(">2I", 5, 1)))
    image = dng(samples, extra=[(51008, UNDEFINED, len(constant), constant)])
    assert image.samples[2, 2] == 700


def test_a_bad_pixel_of_a_ramp_lies_on_it_again(dng):
    """Its neighbours count alike on all sides."""
    rows, columns = np.indices((40, 44))
    samples = (500 + 30 * rows + 70 * columns).astype(np.uint16)
    bad = samples.copy()
    bad[20, 21] = 9
    codes = opcode_list((4, struct.pack(">2I", 9, 1)))
    np.testing.assert_array_equal(dng(bad, extra=[(51008, UNDEFINED, len(codes), codes)]).samples, samples)


# Where the sensor clips


def clipped_scene(level, noise=30.0, blown=0.2):
    """Counts of a noisy scene, a fifth of which is far beyond ``level``, where the sensor clips."""
    random = np.random.default_rng(5)
    light = random.uniform(600, 9000, (160, 160))
    light[: int(160 * blown)] = 30000
    return np.clip(light + random.normal(0, noise, light.shape), 0, level).astype(np.uint16)


@pytest.mark.parametrize("share", [0.78, 0.85, 0.95, 0.99])
def test_what_the_sensor_clips_is_white(dng, share):
    level = int(500 + share * (16000 - 500))
    image = dng(clipped_scene(level), black=500)
    assert image.white.max() <= level
    np.testing.assert_allclose(image.white, level, rtol=0.005)
    (stated,) = re.findall(r"the sensor clips at ([0-9.]+)% of", image.notes[0])
    assert float(stated) / 100 == pytest.approx(share, abs=0.004)


def test_what_clips_is_white_whatever_the_black_of_its_row(dng):
    """The sensor clips at one count as stored, before the black of rows is subtracted."""
    random = np.random.default_rng(0)
    deltas = np.round(random.uniform(-40, 40, 160))
    level = 13000
    light = clipped_scene(30000)[:, ::-1].astype(float) + 500 + deltas[:, None]
    samples = np.minimum(light, level).astype(np.uint16)
    image = dng(samples, black=500, extra=[(50716, SRATIONAL, 160, rationals(deltas))])
    highest = 500 + deltas.max()
    assert image.clipped_at == pytest.approx((level - highest) / (16000 - highest), abs=0.004)
    linear = linear_rgb(image, np.ones(3, np.float32))
    assert (linear[:30, 2:-2] == 1).all()


@pytest.mark.parametrize("spread", [0, 4, 16])
def test_what_clips_is_white_whatever_the_black_of_its_samples(dng, spread):
    black = 64 + np.arange(16).reshape(4, 4) * spread / 15
    level = int(64 + spread + 0.87 * (4095 - 64 - spread))
    samples = np.minimum(clipped_scene(30000) / 4 + 64, level).astype(np.uint16)
    image = dng(samples, black=black, white=4095)
    assert image.clipped_at == pytest.approx(0.87, abs=0.004)
    linear = linear_rgb(image, np.ones(3, np.float32))
    assert (linear[2:28, 2:-2] == 1).all()


def test_where_nothing_clips_white_is_as_stated(dng):
    # to the last bit: polynomials ask whether it is
    rng = np.random.default_rng(0)
    for _ in range(50):
        black = rng.uniform(5, 15, (2, 2))
        image = dng(noise((24, 24)) // 8, black=black, white=16000)
        assert image.clipped_at == 1
        tile = image.black.astype(np.float64)
        np.testing.assert_allclose(image.white, tile + 16000 - tile.max(), rtol=1e-7)


def test_white_stays_above_every_black(dng):
    samples = clipped_scene(780)
    samples[1::2, 1::2] = np.maximum(samples[1::2, 1::2], 905)
    image = dng(samples, black=np.array([[0, 0], [0, 900]]), white=1000)
    assert (image.white - image.black > 0).all() and image.clipped_at == 1


def test_green_may_clip_where_red_and_blue_do_not(dng):
    """Each place of the mosaic is judged by itself: the others' samples lie at that level, too."""
    rng = np.random.default_rng(0)
    samples = rng.integers(600, 15900, (400, 400)).astype(np.uint16)
    for row, column in ((0, 1), (1, 0)):
        samples[row::2, column::2] = np.minimum(samples[row::2, column::2], 14000)
    image = dng(samples, white=16000)
    assert image.clipped_at == pytest.approx(14000 / 16000, abs=0.01)


@pytest.mark.parametrize(
    "samples",
    [
        clipped_scene(16000),
        clipped_scene(int(0.6 * 16000)),  # an even surface rather than the end of the scale
        clipped_scene(14000, blown=0.01),  # too few
        np.clip(
            clipped_scene(14000) + np.random.default_rng(1).normal(0, 100, (160, 160)), 0, 16000
        ),  # noisy
        np.concatenate([clipped_scene(14000), clipped_scene(16000)]),  # something is brighter
        np.concatenate([clipped_scene(14000), clipped_scene(16000, blown=0.02)]),
        np.random.default_rng(2).integers(13000, 14000, (400, 400)),
    ],
    ids=["at white", "too low", "too few", "noisy", "brighter", "a little brighter", "even"],
)
def test_what_is_not_clipped_keeps_its_white(dng, samples):
    image = dng(samples.astype(np.uint16), black=500)
    np.testing.assert_array_equal(image.white, 16000)


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_one_colour_that_clips_sets_white_for_all(dng, place):
    """As green does in a blue sky; the colours must stay in balance."""
    samples = np.random.default_rng(3).integers(600, 9000, (160, 160), dtype=np.uint16)
    samples[place[0] :: 2, place[1] :: 2] = clipped_scene(14000)[:80, :80]
    image = dng(samples, black=500)
    np.testing.assert_allclose(image.white, 14000, rtol=0.005)
    assert np.ptp(image.white) == 0


def test_hot_pixels_do_not_hide_where_the_sensor_clips(dng):
    samples = clipped_scene(14000)
    for row, column in np.ndindex(2, 2):  # of each colour
        samples[row::80, column::80] = 16000
    assert dng(samples, black=500).white.max() <= 14000


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_stays_flat(tmp_path):
    write_dng(tmp_path / "test.dng", noise((512, 512)), pattern="RGGB")

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    for _ in range(5):
        read(tmp_path / "test.dng")
    gc.collect()
    before = resident()
    for _ in range(60):
        read(tmp_path / "test.dng")
    gc.collect()
    grown, one_picture = resident() - before, 512 * 512 * 2
    assert grown < 20 * one_picture, f"{grown} bytes more after 60 pictures of {one_picture}"


# Real files

REAL = Path(__file__).parents[2] / "shared" / "data" / "raw"

DEVELOPED = {
    "DSC8695.dng": ((400, 600, 3), None, "very dark"),
    "RAW_KODAK_DC50.KDC": ((512, 768), "GRBG", "no as-shot white balance"),
    "bep_sample_NikonD1.nef": ((1324, 2012), "BGGR", "no as-shot white balance"),
    "canon_eos_6d.dng": ((816, 1224, 3), None, ""),
    "colorchart.dng": ((1156, 1734), "RGGB", ""),
    "infinite_isp_indoor1.dng": ((1536, 2592), "GRBG", ""),
    "infinite_isp_outdoor1.dng": ((1536, 2592), "GRBG", ""),
    "infinite_isp_outdoor2.dng": ((1536, 2592), "GRBG", ""),
    "nikon_dsc1339_bggr.dng": ((512, 768), "BGGR", ""),
    "nikon_dsc1339_gbrg.dng": ((512, 768), "GBRG", ""),
    "nikon_dsc1339_grbg.dng": ((512, 768), "GRBG", ""),
    "nikon_dsc1339_rggb.dng": ((512, 768), "RGGB", ""),
    "sample_1mp.dng": ((338, 600, 3), None, ""),
    "sample_1mp_rotated.dng": ((338, 600, 3), None, ""),
}
REFUSED = {
    "GOPR0024.GPR": (UnsupportedRawError, "VC-5"),
    "RAW_KODAK_C330_FORMAT_NONE_YRGB.raw": (UnsupportedRawError, "all colours at each pixel"),
    "damaged/canon_r6_pruned.cr3": (InputError, "damaged"),
    "damaged/iphone12pro_proraw_pruned.dng": (InputError, "cut off"),
    "damaged/nikon_d70s_truncated.nef": (InputError, "damaged"),
    "damaged/sony_zve10_header_only.arw": (InputError, "damaged"),
}

needs_real_files = pytest.mark.skipif(not REAL.exists(), reason="the real raw files are not here")


@needs_real_files
@pytest.mark.parametrize("name", DEVELOPED)
def test_real_files_that_are_developed(name):
    shape, pattern, note = DEVELOPED[name]
    image = read(REAL / name)
    assert (image.samples.shape, image.pattern) == (shape, pattern)
    assert any(note in said for said in image.notes) if note else image.notes == ()
    assert image.orientation == (8 if "rotated" in name else 1)
    assert image.make and image.model


@needs_real_files
@pytest.mark.parametrize("name", REFUSED)
def test_real_files_that_are_refused(name):
    error, words = REFUSED[name]
    with pytest.raises(error, match=words) as caught:
        read(REAL / name)
    assert type(caught.value) is error


@needs_real_files
def test_a_real_preview_is_a_jpeg():
    with open(REAL / "canon_eos_6d.dng", "rb") as source:
        read_raw(source, "canon_eos_6d.dng")
        preview = read_preview(source)
    assert preview is not None and preview.startswith(b"\xff\xd8")


def test_the_capture_is_read_without_the_samples(tmp_path):
    path = tmp_path / "test.dng"
    write_dng(path, noise((32, 32)), pattern="RGGB", exif={0x8827: 1600}, extra=[(315, ASCII, 4, "Zoe")])
    with open(path, "rb") as source:
        assert read_capture(source) == read_raw(source, "test.dng").capture
        assert read_capture(source) == {"iso": 1600, "artist": "Zoe"}
    assert read_capture(io.BytesIO(b"no raw" * 100)) == {}


@pytest.mark.parametrize(
    ("pattern", "shape", "length"),
    [("RGGB", (40, 44), 41), ("RGGB", (40, 44), 400), (None, (40, 44, 3), 41), (None, (40, 44, 3), 119)],
)
def test_too_few_bytes_for_the_stated_size(tmp_path, pattern, shape, length):
    """A damaged size would make LibRaw return memory that it never filled."""
    path = tmp_path / "tall.dng"
    write_dng(path, noise(shape), pattern=pattern, white=16000, xyz_to_camera=MATRIX)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages.first.tags["ImageLength"].overwrite(length)
    told = rf"tall\.dng: damaged: {noise(shape).nbytes} bytes of raw data where 44x{length}"
    with pytest.raises(InputError, match=told):
        read(path)


def test_without_bits_stated_a_sample_has_one():
    """TIFF's default."""
    numbers = {"ImageWidth": 64, "ImageLength": 10**6, "StripByteCounts": 6144}
    tags = {name: np.array([number]) for name, number in numbers.items()}
    with pytest.raises(InputError, match="damaged: 6144 bytes of raw data"):
        refuse_by_tags({"DNGVersion": np.uint8([1, 4, 0, 0])} | tags, 10**9)


@pytest.mark.parametrize(
    ("raw_format", "size", "cut_off"),
    [(4, 112 + 1599, True), (4, 112 + 1600, False), (7, 112 + 1599, True), (8, 200, False)],
)
def test_a_panasonic_raw_that_is_cut_off(raw_format, size, cut_off):
    """28 x 50 samples need 1600 bytes in format 4, and more in the others; format 8 is of any length."""
    tags = {2: (SHORT, 28), 3: (SHORT, 50), 45: (SHORT, raw_format), 280: (LONG, 112)}
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in tags.items())
    start = b"IIU\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    with pytest.raises(InputError) as caught:  # in any case: it is no whole raw
        read_bytes(start.ljust(size, b"\1"))
    assert ("cut off: its raw data ends at byte 1712 or later" in str(caught.value)) == cut_off


@pytest.mark.parametrize("kind", ["LibRawUnsufficientMemoryError", "LibRawMemPoolOverflowError"])
def test_too_little_memory_is_no_damage(write_raw, grey_ramp, monkeypatch, kind):
    class Full(rawpy.RawPy):
        def unpack(self):
            raise getattr(rawpy, kind)

    path = write_raw("a.dng", grey_ramp)
    monkeypatch.setattr(rawpy, "RawPy", Full)
    with pytest.raises(MemoryError):
        read_raw(path)


def test_directories_in_a_circle_end(tmp_path):
    """A damaged pointer to the next may lead back; what was found by then counts."""
    path = tmp_path / "a.dng"
    write_dng(path, noise((32, 48)), pattern="RGGB", white=16000)
    contents = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", contents, 4)
    (count,) = struct.unpack_from("<H", contents, first)
    struct.pack_into("<I", contents, first + 2 + 12 * count, first)
    assert read_bytes(bytes(contents)).samples.shape == (32, 48)


@pytest.mark.parametrize("letters", [b"Acme \x83J\x83\x81", "Ącmé".encode(), b"\xff\x81"])
def test_a_model_in_any_encoding_is_text(tmp_path, letters):
    path = tmp_path / "a.dng"
    write_dng(path, noise((32, 48)), pattern="RGGB", white=16000, make="Acme", model="One of Many")
    contents = path.read_bytes().replace(b"One of Many", letters.ljust(11, b"\0"))
    image = read_bytes(contents)
    assert image.make == "Acme"
    assert isinstance(image.model, str) and image.model and not image.model.startswith("[")


@pytest.mark.parametrize("level", [np.inf, -np.inf])
def test_levels_without_end_are_damage(dng, level):
    for tag in (50714, 50717):  # BlackLevel, WhiteLevel
        with pytest.raises(InputError, match="damaged: black level"):
            dng(noise((32, 48)), extra=[(tag, 12, 1, level)])


@pytest.mark.parametrize("fields", [0, 17, 2**32 - 1])
def test_fields_of_more_rows_than_there_are_is_damage(monkeypatch, fields):
    monkeypatch.setattr(dng_decode, "_stored", lambda source: np.zeros((16, 16), np.uint16))
    for tag in ("RowInterleaveFactor", "ColumnInterleaveFactor"):
        with pytest.raises(ValueError, match=tag):
            dng_decode.decode(io.BytesIO(), {tag: np.array([float(fields)])})


DNG = {"DNGVersion": np.float64([1, 4, 0, 0])}


def tag_values(**values):
    """As `read_tags` returns them."""
    return {name: np.atleast_1d(np.asarray(value, np.float64)) for name, value in values.items()}


@pytest.mark.parametrize(
    ("area", "fits"),
    [
        ((0, 0, 8, 9), True),
        ((1, 2, 3, 4), True),
        ((0, 0, 9, 9), False),
        ((0, 0, 8, 10), False),
        ((-1, 0, 8, 9), False),
        ((0, -1, 8, 9), False),
        ((4, 0, 4, 9), False),
        ((0, 5, 8, 4), False),
    ],
)
def test_an_active_area_that_does_not_fit_is_none(area, fits):
    found = active_area({**DNG, **tag_values(ActiveArea=area)}, (8, 9))
    top, left, bottom, right = area
    assert (found is not None) == fits
    assert not fits or (tuple(found[0]), found[1]) == ((top, left), (bottom - top, right - left))


@pytest.mark.parametrize(
    ("crop", "expected"),
    [
        ((0.25, 0.5, 0.5, 0.7), (2, 5, 2, 2)),
        ((0.25, 0.5, 0.375, 0.7), None),  # one row
        ((0.25, 0.5, 0.5, 0.6), None),  # one column
        ((0.24, 0.51, 0.99, 0.97), (2, 5, 6, 5)),  # rounded
        ((-0.5, 0, 1, 1), None),
        ((0, 0, 1, 1.5), None),
    ],
)
def test_the_crop_of_the_photographer_is_of_whole_samples_within_the_other(crop, expected):
    (top, left), shape = default_crop({**DNG, **tag_values(DefaultUserCrop=crop)}, (8, 10))
    assert (top, left, *shape) == (expected or (0, 0, 8, 10))


@pytest.mark.parametrize(
    ("origin", "size", "expected"),
    [
        ((1.6, 2.4), (4.6, 3.4), (2, 2, 3, 5)),
        ((-1, 0), (4, 4), None),
        ((0, -1), (4, 4), None),
        ((1, 1), (2, 2), (1, 1, 2, 2)),
        ((1, 1), (1, 2), None),
    ],
)
def test_a_crop_is_of_whole_samples_within_the_active_area(origin, size, expected):
    tags = {**DNG, **tag_values(DefaultCropOrigin=origin, DefaultCropSize=size)}
    (top, left), shape = default_crop(tags, (8, 10))
    assert (top, left, *shape) == (expected or (0, 0, 8, 10))


def test_numbers_of_dng_mean_other_things_in_other_files():
    tags = tag_values(
        ActiveArea=(1, 1, 4, 4), DefaultCropOrigin=(1, 1), DefaultCropSize=(2, 2),
        DefaultUserCrop=(0.25, 0.25, 0.75, 0.75), Compression=9, SubTileBlockSize=(2, 2),
        ImageWidth=1e6, ImageLength=1e6, BitsPerSample=16, StripByteCounts=100, StripOffsets=0,
    )  # fmt: skip
    assert active_area(tags, (8, 10)) is None
    assert default_crop(tags, (8, 10))[1] == (8, 10)
    refuse_by_tags(tags, 1000)
    refuse_by_tags({**tags, **tag_values(Compression=1)}, 1000)
    refuse_by_tags(tag_values(**{"2": 6000, "3": 4000, "45": 0, "MinSampleValue": 9}), 1000)  # no Panasonic's
    mosaic = {**DNG, **tag_values(PlanarConfiguration=2), "PhotometricInterpretation": np.float64([32803])}
    refuse_by_tags(mosaic, 1000)  # which has one plane


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({"SubTileBlockSize": (2, 1)}, "samples in blocks"),
        ({"SubTileBlockSize": (1, 2)}, "samples in blocks"),
        ({"Compression": 8, "Predictor": 34892}, "predicted from further away"),
        ({"Compression": 32946, "Predictor": 34893}, "predicted from further away"),
        ({"ImageWidth": 32769, "ImageLength": 32768}, "pixels are too many"),
        ({"ImageWidth": 20000, "ImageLength": 20000, "SamplesPerPixel": 3}, "pixels are too many"),
        ({"ImageWidth": 40, "ImageLength": 44, "BitsPerSample": 16, "TileByteCounts": 3519}, "3519 bytes of"),
    ],
)
def test_what_is_refused_by_its_tags_is_refused_from_the_limit_on(tags, told):
    with pytest.raises(InputError, match=told):
        refuse_by_tags({**DNG, **tag_values(**tags)}, 10**6)
    allowed = {"ImageWidth": 32768, "ImageLength": 32768, "SubTileBlockSize": (1, 1), "Predictor": 3}
    if "TileByteCounts" in tags:
        allowed = {**tags, "TileByteCounts": 3520}
    refuse_by_tags({**DNG, **tag_values(**allowed)}, 10**6)


def test_black_deltas_of_nothing_leave_the_samples_as_stored(dng):
    samples = noise((24, 24))
    image = dng(samples, extra=[(50716, SRATIONAL, 24, [0, 1] * 24)])
    assert image.samples.dtype == np.uint16
    np.testing.assert_array_equal(image.samples, samples)


def test_black_deltas_below_zero_lengthen_the_scale(dng):
    """It begins at the highest black level."""
    image = dng(noise((24, 24)), black=500, extra=[(50716, SRATIONAL, 24, [-20, 1] * 24)])
    assert (image.white - image.black == 16000 - 480).all()


def with_previews(samples, previews, raw_tags=(), first_tags=()):
    """A DNG whose directories hold previews, and the last of them the raw below it."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for number in range(previews):
            last = number == previews - 1
            tags = [*DNG_VERSION, *first_tags] if number == 0 else []
            writer.write(
                np.zeros((16, 16, 3), np.uint8), photometric="rgb", subfiletype=1, subifds=int(last),
                extratags=tags, metadata=None,
            )  # fmt: skip
        writer.write(
            samples, photometric="cfa", subfiletype=0, extratags=[*RGGB, *raw_tags], metadata=None,
            compression="zlib", tile=(64, 64),
        )  # fmt: skip
    return file.getvalue()


@pytest.mark.parametrize("previews", [1, 5])
def test_a_raw_below_previews_has_the_colours_of_the_first_directory(previews):
    colours = [(50721, SRATIONAL, 9, rationals(MATRIX)), (50728, RATIONAL, 3, (1, 2, 1, 1, 2, 3))]
    samples = noise((40, 40))
    image = read_bytes(with_previews(samples, previews, first_tags=[*colours, (271, ASCII, 0, "Acme")]))
    np.testing.assert_array_equal(image.samples, samples)
    np.testing.assert_allclose(image.camera_white_balance, (2, 1, 1.5))
    np.testing.assert_allclose(image.xyz_to_camera, MATRIX, atol=1e-3)
    assert image.make == "Acme"


def test_a_text_in_bytes_ends_with_its_first_zero():
    tags = {"Model": np.frombuffer(b"One\0\0\0", np.uint8), "Make": np.frombuffer(b"Acme\0x", np.uint8)}
    assert [text(tags, name) for name in ("Make", "Model", "Software")] == ["Acme", "One", ""]


def test_the_first_of_several_numbers_counts():
    assert first_number(tag_values(BitsPerSample=(8, 16)), "BitsPerSample", 1) == 8
    assert RawTag(50730, DOUBLE, 2, (0.5, 4.0)).number == 0.5
    assert RawTag(50730, SRATIONAL, 1, (-1, 2)).number == -0.5


def test_a_calibration_is_applied_before_the_camera_sees(dng):
    """CameraCalibration x ColorMatrix, which need not be diagonal."""
    calibration = np.array([[0.9, 0.1, 0], [0, 1, -0.05], [0.02, 0, 1.1]])
    image = dng(noise((24, 24)), extra=[(50723, SRATIONAL, 9, rationals(calibration))])
    np.testing.assert_allclose(image.xyz_to_camera, calibration @ MATRIX, atol=1e-3)


def test_only_the_bad_pixels_that_are_counted_are_replaced(dng):
    """The numbers of an area are no points, and what stands behind the last one is nothing."""
    samples = noise((40, 44))
    parameters = struct.pack(">3I2I4I", 1, 1, 1, 30, 10, 12, 14, 15, 17) + struct.pack(">4I", 0, 0, 9, 9)
    codes = opcode_list((5, parameters))
    image = dng(samples, extra=[(51008, UNDEFINED, len(codes), codes)])
    expected = np.zeros(samples.shape, bool)
    expected[30, 10] = expected[12:15, 14:17] = True
    np.testing.assert_array_equal(image.samples != samples, expected)


def piles(*levels, spread=0):
    """Half of the samples are of an even scene, the others at these levels, as many at each."""
    random = np.random.default_rng(7)
    samples = random.integers(600, 9000, (200, 200))
    bright = random.choice(np.array(levels), samples.shape) + random.integers(
        -spread, spread + 1, samples.shape
    )
    return np.where(random.random(samples.shape) < 0.5, samples, bright).astype(np.uint16)


BIN = 15500 / 1024  # counts from black, 500, to white, 16000


def test_what_is_clipped_may_lie_on_both_sides_of_a_bin(dng):
    image = dng(piles(round(500 + 870 * BIN), spread=2), black=500)
    np.testing.assert_allclose(image.white, 500 + 870 * BIN, rtol=0.005)


@pytest.mark.parametrize(
    "samples",
    [
        piles(14000 - round(10 * BIN), 14000, 14000),
        piles(*[14000 - round(number * BIN) for number in range(1, 20)], *[14000] * 5),
    ],
    ids=["two even things", "not much more than what is a little darker"],
)
def test_what_does_not_tower_over_what_is_a_little_darker_is_not_clipped(dng, samples):
    np.testing.assert_array_equal(dng(samples, black=500).white, 16000)


def test_daylight_is_not_known_of_a_matrix_that_tells_no_colours_apart(dng):
    """LibRaw's comes from that very matrix."""
    matrix = np.array([[1, 0.2, 0.1], [2, 0.4, 0.2], [0.1, 0.1, 1]])
    image = dng(noise((24, 24)), xyz_to_camera=matrix, white_balance=(2, 1, 1.5))
    assert image.xyz_to_camera is None and image.daylight_white_balance is None


@pytest.fixture
def night(tmp_path):
    path = tmp_path / "night.dng"
    write_dng(path, noise((24, 24)), pattern="RGGB", white=16000, xyz_to_camera=MATRIX)
    return path


def test_a_file_that_can_be_read_only_once_is_not_taken_for_another(night):
    """An error of its disk would pass for tags that are not there."""

    class Failing(io.BytesIO):
        left = 0

        def read(self, *size):
            self.left -= 1
            if self.left < 0:
                raise OSError(5, "Input/output error")
            return super().read(*size)

    expected = read_raw(night)
    for left in range(12):
        file = Failing(night.read_bytes())
        file.left = left
        try:
            image = read_raw(file, "a.dng")
        except InputError as error:
            assert "a.dng: cannot be read (Input/output error)" in str(error)
        else:
            np.testing.assert_array_equal(image.xyz_to_camera, expected.xyz_to_camera)
            np.testing.assert_array_equal(image.samples, expected.samples)


def test_a_mapped_file_is_read(night):
    with open(night, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        np.testing.assert_array_equal(read_raw(mapped).samples, read_raw(night).samples)
    with open(night, "ab") as file, pytest.raises(UsageError, match="cannot be rewound and read"):
        read_raw(file)


@pytest.mark.parametrize("name", ["a\0.dng", "a\ud800.dng"])
def test_a_name_that_no_file_can_have_is_told(name):
    with pytest.raises(UsageError, match="no file can have this name"):
        read_raw(name)

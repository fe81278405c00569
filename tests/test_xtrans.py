"""X-Trans mosaics: read with their layout, then interpolated."""

import io
import itertools
import struct

import numpy as np
import pytest
from conftest import MATRIX, decoded, mosaic_of, opcode_list
from PIL import Image

from deepisp_cli import stated_colour
from deepisp_cli.camera_rgb import linear_rgb
from deepisp_cli.demosaic import sample_mosaic
from deepisp_cli.dng import write_dng
from deepisp_cli.dng_corrections import BLOCK_ROWS as SHADING_ROWS
from deepisp_cli.dng_opcodes import FIX_BAD_PIXELS_LIST, FIX_VIGNETTE_RADIAL
from deepisp_cli.errors import UnsupportedRawError
from deepisp_cli.info import describe
from deepisp_cli.pipeline import develop_array
from deepisp_cli.raw import _assemble, read_raw
from deepisp_cli.xtrans import BLOCK_ROWS, KERNEL, RADIUS, SIDE, X_TRANS, interpolate, is_x_trans

COLOURS = np.array(["RGB".index(letter) for letter in X_TRANS]).reshape(SIDE, SIDE)
PHASES = list(itertools.product(range(SIDE), repeat=2))


def phase(down, right, pattern=X_TRANS):
    """The colours of a mosaic that begins ``down`` rows and ``right`` columns into ``pattern``."""
    return "".join(np.roll(np.array(list(pattern)).reshape(SIDE, SIDE), (-down, -right), (0, 1)).ravel())


def slow_interpolation(samples, pattern):
    """One pixel, one colour, one neighbour at a time."""
    height, width = samples.shape
    rgb = np.empty((height, width, 3))
    for y, x, colour in itertools.product(range(height), range(width), range(3)):
        total = weights = 0.0
        for j, i in itertools.product(range(-RADIUS, RADIUS + 1), repeat=2):
            row, column = y + j, x + i
            inside = 0 <= row < height and 0 <= column < width
            if inside and pattern[SIDE * (row % SIDE) + column % SIDE] == "RGB"[colour]:
                weight = float(KERNEL[RADIUS + j] * KERNEL[RADIUS + i])
                total, weights = total + weight * samples[row, column], weights + weight
        own = pattern[SIDE * (y % SIDE) + x % SIDE] == "RGB"[colour]
        rgb[y, x, colour] = samples[y, x] if own else total / weights
    return rgb


def noise(height, width, dtype=np.float32):
    return np.random.default_rng(0).integers(200, 16000, (height, width)).astype(dtype)


@pytest.fixture
def dng(tmp_path):
    """Write an X-Trans DNG with the given options and read it again."""

    def write_and_read(samples, pattern=X_TRANS, **options):
        path = tmp_path / "test.dng"
        write_dng(path, samples, pattern=pattern, **{"white": 16000, "xyz_to_camera": MATRIX, **options})
        return read_raw(path)

    return write_and_read


def test_the_layout_is_the_published_one():
    """Of 36 samples 20 are green, 8 red and 8 blue; each row and column holds every colour."""
    letters = np.array(list(X_TRANS)).reshape(SIDE, SIDE)
    assert {colour: X_TRANS.count(colour) for colour in "RGB"} == {"R": 8, "G": 20, "B": 8}
    assert all(set(line) == set("RGB") for line in (*letters, *letters.T))


@pytest.mark.parametrize("size", [(3, 3), (7, 20), (BLOCK_ROWS + 8, 9)])
@pytest.mark.parametrize("start", [(0, 0), (2, 5)])
def test_each_colour_is_the_weighted_mean_of_its_nearest_samples(size, start):
    samples, pattern = noise(*size), phase(*start)
    np.testing.assert_allclose(interpolate(samples, pattern), slow_interpolation(samples, pattern), rtol=1e-5)


@pytest.mark.parametrize("start", PHASES)
def test_even_colours_stay_what_they_are_up_to_the_corners(start):
    even = np.full((BLOCK_ROWS + 5, 13, 3), (0.25, 0.875, 0.5))
    mosaic = sample_mosaic(even, phase(*start)).astype(np.float32)
    np.testing.assert_allclose(interpolate(mosaic, phase(*start)), even, atol=1e-6)


@pytest.mark.parametrize("start", PHASES)
def test_every_phase_is_known_and_nothing_else(start):
    pattern = phase(*start)
    assert is_x_trans(pattern)
    swapped = pattern.translate(str.maketrans("RG", "GR"))
    assert not is_x_trans(swapped)
    assert not is_x_trans(pattern[:4])


@pytest.mark.parametrize("margins", [(0, 0), (1, 5), (8, 10), (13, 7)])
def test_a_dng_is_interpolated_from_where_its_active_area_and_crop_begin(dng, margins):
    """LibRaw looks up the colours of margins of more than six samples beside its table."""
    stored = noise(40, 50, np.uint16)
    top, left = margins
    image = dng(stored, active_area=(top, left, 24, 30), default_crop=(1, 2, 20, 25), black=100)
    assert (image.pattern, image.x_trans) == (phase(1, 2), True)
    np.testing.assert_array_equal(image.samples, stored[top + 1 :, left + 2 :][:20, :25])
    assert (np.unique(image.black), np.unique(image.white)) == (100, 16000)


def test_a_file_of_the_cameras_own_format_has_libraws_levels(monkeypatch):
    samples = noise(20, 22, np.uint16)
    levels = {"black": np.full(4, 1022, np.float32), "white": np.full(4, 15900, np.float32)}
    place = {"origin": np.array([3, 4]), "visible": (16, 18)}
    frame = decoded(samples, np.roll(COLOURS, (3, 4), (0, 1)), xyz_to_camera=MATRIX, **levels, **place)
    monkeypatch.setattr(stated_colour, "developed_matrix", lambda source: pytest.fail("LibRaw may crash"))
    assert _assemble(frame._replace(xyz_to_camera=np.zeros((3, 3))), {}, io.BytesIO()).notes
    image = _assemble(frame, {}, io.BytesIO())
    np.testing.assert_array_equal(image.samples, samples[3:19, 4:22])
    assert image.pattern == X_TRANS
    assert (np.unique(image.black), np.unique(image.white)) == (1022, 15900)


def raf(mosaic, pattern, crop):
    """A RAF as LibRaw reads it: a preview with the camera's name, a header with sizes (``crop``: top, left,
    height, width), layout and white balance, and the samples in a TIFF of their own."""
    preview = io.BytesIO()
    exif = Image.Exif()
    exif.update({271: "FUJIFILM", 272: "X-T1"})
    Image.new("RGB", (160, 120)).save(preview, "JPEG", exif=exif)
    jfif, start = preview.getvalue(), preview.getvalue().index(b"\xff\xe1")
    jpeg = jfif[:2] + jfif[start:]  # EXIF first

    layout = bytes("RGB".index(colour) for colour in reversed(pattern))
    facts = {
        0x100: mosaic.shape,
        0x110: crop[:2],
        0x111: crop[2:],
        0x121: mosaic.shape,
        0x2FF0: (302, 500, 302, 600),
    }
    entries = {code: struct.pack(f">{len(numbers)}H", *numbers) for code, numbers in facts.items()}
    entries |= {0x130: bytes((0, 8)), 0x131: layout}
    header = struct.pack(">I", len(entries))
    header += b"".join(struct.pack(">2H", code, len(data)) + data for code, data in entries.items())

    height, width = mosaic.shape
    long = {0xF001: width, 0xF002: height, 0xF003: 14, 0xF007: 2048, 0xF008: 2 * mosaic.size}
    directory = struct.pack("<HHHII", 1, 0xF000, 13, 1, 26) + bytes(4) + struct.pack("<H", len(long) + 1)
    directory += b"".join(struct.pack("<HHII", code, 4, 1, number) for code, number in long.items())
    directory += struct.pack("<HHII", 0xF00A, 4, 36, 512) + bytes(4)  # black levels
    tiff = (b"II*\0" + struct.pack("<I", 8) + directory).ljust(512, b"\0") + struct.pack("<36I", *[1022] * 36)
    tiff = tiff.ljust(2048, b"\0") + mosaic.astype(">u2").tobytes()

    parts, places, at = [jpeg, header, tiff], [], 160
    for part in parts:
        places += [at, len(part)]
        at += len(part)
    start = b"FUJIFILMCCD-RAW 0201FF383501X-T1".ljust(84, b"\0") + struct.pack(">6I", *places)
    return start.ljust(160, b"\0") + b"".join(parts)


def test_a_raf_has_its_colours_where_libraw_crops_it(tmp_path):
    """Its margins have more than six samples, for which rawpy's raw_pattern is made of other memory."""
    pattern = phase(4, 3)
    mosaic = mosaic_of(np.full((300, 420, 3), (0.2, 0.7, 0.5)), pattern, 1022, 16383, (1, 1, 1))
    path = tmp_path / "a.raf"
    path.write_bytes(raf(mosaic, pattern, (20, 16, 260, 390)))
    image = read_raw(path)
    assert image.size == (256, 388)
    linear = linear_rgb(image, np.ones(3, np.float32))
    np.testing.assert_allclose(linear, np.broadcast_to((0.2, 0.7, 0.5), linear.shape), atol=1e-4)
    np.testing.assert_allclose(image.camera_white_balance, [500 / 302, 1, 600 / 302], rtol=1e-6)
    facts = describe(path)
    assert (facts["camera"], facts["cfa"]) == ("FUJIFILM X-T1", "X-Trans")


def test_a_black_level_that_varies_is_subtracted(dng):
    """Its tile and the mosaic's repeat after different numbers of samples."""
    even = np.full((44, 50, 3), (0.2, 0.7, 0.5))
    black = np.array([[512, 520, 515, 530], [514, 512, 530, 540]])
    mosaic = mosaic_of(even, X_TRANS, 0, 10000, (1, 1, 1))
    image = dng((mosaic + np.tile(black, (22, 13))[:, :50]).astype(np.uint16), black=black, white=10520)
    linear = linear_rgb(image, np.float32([1.5, 1, 1.2]))
    np.testing.assert_allclose(linear, even * (1.5, 1, 1.2), rtol=5e-3)


def test_highlights_are_clipped_before_they_are_interpolated(dng):
    """As those of a Bayer mosaic are: a neutral edge stays neutral."""
    scene = np.ones((30, 30, 3))
    scene[:, 15:] = 0
    counts = mosaic_of(scene, X_TRANS, 0, 16000, (1, 1, 1))  # every channel at white, though red needs less
    linear = linear_rgb(dng(counts), np.float32([2, 1, 1.5]))
    single = linear_rgb(dng(counts), np.ones(3, np.float32))
    np.testing.assert_allclose(linear, single, atol=1e-6)


def test_where_the_sensor_clips_is_white(dng):
    samples = np.minimum(noise(300, 300, np.uint16), 15000)
    image = dng(samples)
    np.testing.assert_allclose(image.white, 15000, rtol=2e-3)
    assert any("the sensor clips" in note for note in image.notes)


def test_a_bad_pixel_is_replaced_from_samples_of_its_colour(dng):
    samples = mosaic_of(np.full((30, 30, 3), (0.2, 0.5, 0.9)), X_TRANS, gains=(1, 1, 1))
    damaged = samples.copy()
    damaged[12, 14] = 16000
    listed = opcode_list((FIX_BAD_PIXELS_LIST, struct.pack(">5I", 0, 1, 0, 12, 14)))
    image = dng(damaged, extra=[(51008, 7, len(listed), listed)])
    np.testing.assert_array_equal(image.samples, samples)


@pytest.mark.parametrize("number", [2, 3])
def test_lens_shading_is_corrected_before(dng, number):
    """In a frame of more than one block of rows."""
    samples = mosaic_of(np.full((SHADING_ROWS + 30, 40, 3), 0.3), X_TRANS, 0, gains=(1, 1, 1))
    vignette = opcode_list((FIX_VIGNETTE_RADIAL, struct.pack(">7d", 0.5, 0, 0, 0, 0, 0.5, 0.5)))
    image = dng(samples, extra=[({2: 51009, 3: 51022}[number], 7, len(vignette), vignette)])
    assert image.samples.dtype == np.float32
    assert image.samples[0, 0] > 1.4 * image.samples[len(samples) // 2, 20]
    assert np.abs(np.diff(image.samples, axis=0)).max() < 0.02 * samples[0, 0]


def test_it_is_developed_as_a_bayer_mosaic_of_the_scene_is(write_raw, identity_engine):
    rows, columns = np.mgrid[:48, :60]
    scene = 0.3 + 0.2 * np.stack([np.sin(rows / 9 + i) * np.cos(columns / 11 - i) for i in range(3)], -1)
    bayer, x_trans = (
        develop_array(write_raw(f"{name}.dng", scene, pattern), identity_engine).astype(int)
        for name, pattern in (("bayer", "RGGB"), ("x-trans", phase(4, 1)))
    )
    assert np.abs(bayer - x_trans)[2:-2, 2:-2].max() <= 10  # curvature between samples, in shadows
    assert np.abs(bayer - x_trans).mean() <= 1.5
    assert bayer.std() > 10  # there is a picture to be equal to


def test_info_says_what_it_is(write_raw, grey_ramp):
    facts = describe(write_raw("a.dng", grey_ramp, X_TRANS))
    assert facts["cfa"] == "X-Trans"
    assert any("fine detail is softer" in note for note in facts["notes"])


def test_a_white_balance_that_is_missing_is_estimated(write_raw, grey_ramp, identity_engine):
    """It is a mosaic, and so not balanced yet, as a linear file may be."""
    path = write_raw("a.dng", grey_ramp, X_TRANS, extra=[(50728, 5, 0, [])], xyz_to_camera=None)
    picture = develop_array(path, identity_engine).astype(int)
    assert np.ptp(picture, axis=2).mean() < 4


def test_a_frame_smaller_than_its_reach_is_refused(dng):
    with pytest.raises(UnsupportedRawError, match="40x2 pixels are too few; 3 a side is the least"):
        dng(noise(24, 40, np.uint16), default_crop=(0, 0, 2, 40))


def test_without_a_matrix_daylight_is_libraws():
    frame = decoded(noise(18, 18, np.uint16), COLOURS, daylight_gains=np.array([2.0, 1.0, 1.5]))
    image = _assemble(frame, {}, io.BytesIO())
    assert image.xyz_to_camera is None and image.camera_white_balance is None
    np.testing.assert_allclose(image.daylight_white_balance, [2, 1, 1.5])
    unknown = _assemble(frame._replace(daylight_gains=np.ones(3)), {}, io.BytesIO())
    assert unknown.daylight_white_balance is None

"""The distortion of lenses, from a DNG's WarpRectilinear, WarpFisheye and WarpRectilinear2."""

import struct

import numpy as np
import pytest
from conftest import MATRIX, opcode_list

from deepisp_cli import lens_warp
from deepisp_cli.dng import write_dng
from deepisp_cli.errors import InputError
from deepisp_cli.info import describe
from deepisp_cli.lens_warp import read_lens_warp
from deepisp_cli.options import Options
from deepisp_cli.pipeline import develop_array
from deepisp_cli.raw import read_raw

UNDEFINED, LONG = 7, 4
WARP_RECTILINEAR, WARP_FISHEYE, WARP_RECTILINEAR_2 = 1, 2, 14
SIZE = (240, 330)  # of the active area
NOTHING = (1, 0, 0, 0, 0, 0)
BARREL = (0.99, -0.06, 0.01, 0.002, 0.003, -0.004)
PINCUSHION = (0.96, 0.06, -0.01, 0.002, -0.002, 0.003)
FISHEYE = (1.01, 0.25, 0.12, 0.04)
# factors of the powers 0 to 14, two tangential ones, the range of distances, whether it is the reciprocal
HIGH = (0.98, 0.01, 0.02, -0.05, *[0.0] * 10, 0.01, 0.002, -0.003, 0.0, 1.0, False)
LIMITED = (1.0, 0.0, -0.02, *[0.0] * 12, 0.0, 0.0, 0.2, 0.7, False)
RECIPROCAL = (1.02, 0.0, 0.06, *[0.0] * 12, 0.002, 0.003, 0.0, 1.0, True)
CODES = {6: WARP_RECTILINEAR, 4: WARP_FISHEYE, 20: WARP_RECTILINEAR_2}  # by the number of factors
CENTRE = (0.54, 0.47)  # horizontal, vertical


def warp(*planes, centre=CENTRE):
    code, end = CODES[len(planes[0])], b""
    if code == WARP_RECTILINEAR_2:
        end = struct.pack(">I", planes[0][-1])
        planes = [plane[:-1] for plane in planes]
    numbers = [number for plane in planes for number in plane]
    return code, struct.pack(f">I{len(numbers) + 2}d", len(planes), *numbers, *centre) + end


def source(x, y, factors, centre=CENTRE):
    """Where the light of the place (x, y) of the picture fell, as the specification writes it."""
    height, width = SIZE
    cx, cy = centre[0] * width, centre[1] * height
    m = np.hypot(max(cx, width - cx), max(cy, height - cy))
    dx, dy = (x - cx) / m, (y - cy) / m
    r = np.hypot(dx, dy)
    kt0 = kt1 = 0
    if len(factors) == 4:
        theta = np.arctan(r)
        f = sum(factors[i] * theta ** (2 * i + 1) for i in range(4)) / r
    elif len(factors) == 6:
        kr0, kr1, kr2, kr3, kt0, kt1 = factors
        f = kr0 + kr1 * r**2 + kr2 * r**4 + kr3 * r**6
    else:
        kt0, kt1, least, most, reciprocal = factors[15:]
        f = sum(factors[i] * np.clip(r, least, most) ** i for i in range(15))
        f = 1 / f if reciprocal else f
    x = cx + m * (f * dx + kt0 * 2 * dx * dy + kt1 * (r**2 + 2 * dx**2))
    y = cy + m * (f * dy + kt1 * 2 * dx * dy + kt0 * (r**2 + 2 * dy**2))
    return x, y


def grid(size=SIZE, top=0, left=0):
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return x + left, y + top


def scene(x, y):
    """Something smooth, different everywhere: 0 to 1."""
    return 0.5 + 0.2 * np.sin(x / 9 + y / 40) + 0.2 * np.cos(y / 11 - x / 60)


def photographed(*planes):
    """The scene as it falls on the sensor (H, W, 3), counts: of each plane through its distortions, the last
    of which is corrected last."""
    if planes.count(planes[0]) == len(planes) > 1:  # alike: one is enough
        return photographed(planes[0]).repeat(len(planes), -1)
    pictures = []
    for distortions in planes:
        x, y = sensor = grid()
        for _ in range(40):  # the inverse, by iteration
            at = x, y
            for factors in reversed(distortions):
                at = source(*at, factors)
            x, y = x - (at[0] - sensor[0]), y - (at[1] - sensor[1])
        pictures.append(scene(x, y))
    return np.rint(np.stack(pictures, -1) * 60000).astype(np.uint16)


@pytest.fixture
def read(tmp_path):
    """``read(samples, *entries)``: a linear DNG with these entries in OpcodeList3, read."""

    def write_and_read(samples, *entries, extra=(), flags=0, **options):
        data = opcode_list(*entries, flags=flags)
        extra = [(51022, UNDEFINED, len(data), data), *extra]
        options = {"pattern": None, "black": 0, "white": 65535, "xyz_to_camera": MATRIX, **options}
        write_dng(tmp_path / "test.dng", samples, extra=extra, white_balance=(2, 1, 2), **options)
        return read_raw(tmp_path / "test.dng")

    return write_and_read


def crop(top, left, height, width):
    """Tags of DefaultCropOrigin and DefaultCropSize."""
    return [(50719, LONG, 2, (left, top)), (50720, LONG, 2, (width, height))]


def assert_shows_scene(pixels, top, left):
    expected = 60000 * scene(*grid(pixels.shape[:2], top, left))[..., None]
    np.testing.assert_allclose(*np.broadcast_arrays(pixels, expected), rtol=0, atol=120)


def corrected(image):
    return image.lens_warp.correct(image.samples.astype(np.float32))


def test_a_warp_of_nothing_changes_nothing(read):
    samples = np.random.default_rng(0).integers(0, 65536, (*SIZE, 3)).astype(np.uint16)
    np.testing.assert_allclose(corrected(read(samples, warp(NOTHING))), samples, atol=0.05)


@pytest.mark.parametrize("older", [warp(BARREL), warp(FISHEYE)])
def test_a_warp_for_older_programs_is_not_a_second_one(read, older):
    """DNG 1.7, chapter 7: an optional WarpRectilinear2 stands for the older one that follows it."""
    samples = photographed([HIGH], [HIGH], [HIGH])
    once = corrected(read(samples, warp(HIGH)))
    np.testing.assert_array_equal(corrected(read(samples, warp(HIGH), older, flags=1)), once)
    several = read(samples, warp(HIGH), older, older, flags=1)
    np.testing.assert_array_equal(corrected(several), once)
    for flags, entries in ((0, (warp(HIGH), older)), (1, (older, warp(HIGH)))):
        assert np.abs(corrected(read(samples, *entries, flags=flags)) - once).max() > 500


def test_without_a_warp_there_is_nothing_to_correct(read):
    image = read(photographed([NOTHING], [NOTHING], [NOTHING]))
    assert image.lens_warp is None and image.size == SIZE


@pytest.mark.parametrize(
    "factors",
    [BARREL, PINCUSHION, FISHEYE, HIGH, LIMITED, RECIPROCAL],
    ids=["barrel", "pincushion", "fisheye", "high", "limited", "reciprocal"],
)
def test_a_distorted_scene_comes_out_straight(read, factors):
    samples = photographed(*[[factors]] * 3)
    image = read(samples, warp(factors), extra=crop(20, 30, 200, 270))
    assert image.size == (200, 270) and image.notes == ()
    pixels = corrected(image)
    assert pixels.shape == (200, 270, 3) and pixels.dtype == np.float32
    assert_shows_scene(pixels, 20, 30)
    optional = read(samples, warp(factors), flags=1, extra=crop(20, 30, 200, 270))
    np.testing.assert_array_equal(corrected(optional), pixels)


def test_what_the_correction_needs_beyond_the_crop_is_read(read):
    """The pincushion's corners come from beyond: repeating the crop's own edge would show."""
    samples = photographed(*[[PINCUSHION]] * 3)
    image = read(samples, warp(PINCUSHION), extra=crop(6, 8, 228, 314))
    area = image.lens_warp.area
    assert image.samples.shape[:2] == area[1] and (area[0] < (6, 8)).all()
    assert_shows_scene(corrected(image), 6, 8)


def test_the_area_that_is_read_holds_all_that_the_correction_uses(monkeypatch):
    """To the last bit, as if the whole active area had been read."""
    full = np.random.default_rng(0).random((*SIZE, 3)).astype(np.float32)
    tags = {"OpcodeList3": np.frombuffer(opcode_list(warp(PINCUSHION)), np.uint8)}
    found = []
    for margin in (lens_warp.MARGIN, max(SIZE)):
        monkeypatch.setattr(lens_warp, "MARGIN", margin)
        read = read_lens_warp(tags, (np.array([60, 70]), (120, 190)), SIZE)
        (top, left), (height, width) = read.area
        found.append(read.correct(full[top : top + height, left : left + width].copy()))
    assert found[0].shape == (120, 190, 3)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


@pytest.mark.parametrize(
    "planes",
    [
        [(0.994, *BARREL[1:]), BARREL, (1.001, *BARREL[1:])],
        [FISHEYE, (1.03, *FISHEYE[1:]), (1.045, *FISHEYE[1:])],
        [HIGH, LIMITED, (0.97, *HIGH[1:])],
    ],
    ids=["rectilinear", "fisheye", "rectilinear 2"],
)
def test_each_colour_has_its_own_warp(read, planes):
    """Which is how lateral colour is corrected."""
    image = read(photographed(*[[plane] for plane in planes]), warp(*planes), extra=crop(20, 30, 200, 270))
    assert_shows_scene(corrected(image), 20, 30)


@pytest.mark.parametrize("second", [(0.95, -0.03, 0, 0, 0.01, 0), FISHEYE], ids=["rectilinear", "fisheye"])
def test_the_first_of_two_warps_is_corrected_first(read, second):
    samples = photographed(*[[BARREL, second]] * 3)
    image = read(samples, warp(BARREL), warp(second), extra=crop(30, 40, 180, 250))
    assert_shows_scene(corrected(image), 30, 40)


@pytest.mark.filterwarnings("error")
def test_a_centre_on_a_place_that_is_computed_stays_where_it_is(read):
    """0 / 0 in the middle of a fisheye."""
    sample = np.full((*SIZE, 3), 30000, np.uint16)
    image = read(sample, warp(FISHEYE, centre=(160 / SIZE[1], 160 / SIZE[0])))
    np.testing.assert_allclose(corrected(image), sample, atol=0.01)


def test_a_colour_without_a_warp_gets_the_first_one(read):
    samples = photographed([BARREL], [PINCUSHION], [BARREL])
    image = read(samples, warp(BARREL, PINCUSHION), extra=crop(20, 30, 200, 270))
    assert_shows_scene(corrected(image), 20, 30)


@pytest.mark.parametrize("centre", [(0, 0), (1, 1)])
def test_what_is_magnified_is_a_part_of_what_is_developed(read, centre):
    ramp = np.stack([*grid(), grid()[0]], -1)
    image = read(np.rint(100 * ramp).astype(np.uint16), warp((0.5, 0, 0, 0, 0, 0), centre=centre))
    first, shape = image.lens_warp.area
    assert (first >= 0).all() and (first + shape <= SIZE).all() and image.samples.shape[:2] == SIZE
    x, y = source(*grid(), (0.5, 0, 0, 0, 0, 0), centre)
    inside = (x > 3) & (x < SIZE[1] - 3) & (y > 3) & (y < SIZE[0] - 3)
    np.testing.assert_allclose(corrected(image)[inside][:, :2], 100 * np.stack([x, y], -1)[inside], atol=1)


def test_a_raw_is_developed_to_its_default_crop(read, identity_engine, tmp_path):
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    planes = photographed(*[[PINCUSHION]] * 3)
    mosaic = np.where((y + x) % 2, planes[..., 1], np.where(y % 2, planes[..., 2], planes[..., 0]))
    options = Options(look="neutral", white_balance="1,1,1", bit_depth=16)
    tags = [*crop(7, 8, 210, 301), (274, 3, 1, 6)]
    read(mosaic, warp(PINCUSHION), pattern="RGGB", xyz_to_camera=None, extra=tags)
    found = develop_array(tmp_path / "test.dng", identity_engine, options)
    known = describe(tmp_path / "test.dng")
    assert (known["width"], known["height"]) == (301, 210)
    assert found.shape == (301, 210, 3)
    straight = np.rint(60000 * scene(*grid())).astype(np.uint16)
    read(straight, pattern="RGGB", xyz_to_camera=None, extra=tags)
    expected = develop_array(tmp_path / "test.dng", identity_engine, options)
    inside = slice(2, -2), slice(2, -2)  # at the edge of the sensor the demosaic has other neighbours
    np.testing.assert_allclose(found[inside].astype(int), expected[inside].astype(int), atol=600)


DAMAGED = {
    "no planes": (WARP_RECTILINEAR, struct.pack(">I2d", 0, 0.5, 0.5)),
    "too many planes": (WARP_RECTILINEAR, struct.pack(">I200d", 2**31, *[1.0] * 200)),
    "cut off": (WARP_RECTILINEAR, warp(BARREL)[1][:-8]),
    "nothing": (WARP_RECTILINEAR, b""),
    "no number": warp((np.nan, 0, 0, 0, 0, 0)),
    "no centre": warp(BARREL, centre=(0.5, np.inf)),
    "too large": warp((1e308, 1e308, 0, 0, 0, 0)),
    "far away": warp((1, 0, 0, 0, 0, 0), (1e300, 0, 0, 0, 0, 0), centre=(1e9, 1e9)),
    "beside the sensor": warp((0, 0, 0, 0, 0, 0), centre=(3, 3)),
    "fisheye cut off": (WARP_FISHEYE, warp(FISHEYE)[1][:-1]),
    "no flag": (WARP_RECTILINEAR_2, warp(HIGH)[1][:-4]),
    "below no distance": warp((*HIGH[:17], -0.1, 1.0, False)),
    "beyond the corners": warp((*HIGH[:17], 0.0, 1.1, False)),
    "between equal distances": warp((*HIGH[:17], 0.5, 0.5, False)),
    "divided by zero": warp((*[0.0] * 17, 0.0, 1.0, True)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("entry", DAMAGED.values(), ids=DAMAGED)
def test_damaged_warps_are_told(read, entry):
    with pytest.raises(InputError, match=r"test\.dng: damaged: its tags make no sense"):
        read(np.full((*SIZE, 3), 30000, np.uint16), entry)


def test_a_warp_may_be_for_four_colours_but_not_for_five(read):
    samples = photographed([BARREL], [BARREL], [BARREL])
    np.testing.assert_array_equal(
        corrected(read(samples, warp(*[BARREL] * 4))), corrected(read(samples, warp(BARREL)))
    )
    with pytest.raises(InputError, match="lens distortion is for 5 colours"):
        read(samples, warp(*[BARREL] * 5))


def test_beyond_the_corners_of_a_fisheye_the_distortion_is_that_of_the_corners():
    """Polynomials of high degrees run away; places beyond are where another warp has moved them."""
    radial, everywhere = np.tile((0.0, 1.0, 0.0, 0.3), (3, 1)), np.tile((0.0, 1.0), (3, 1))
    distortion = lens_warp.Distortion((0.5, 0.5), radial, np.zeros((3, 2)), everywhere, fisheye=True)
    ratio = np.pi / 4 + 0.3 * (np.pi / 4) ** 3
    centre, corner = np.array(SIZE) / 2, np.array(SIZE, float)
    for distance in (1.0, 1.2, 3.0):
        found = distortion.sources(centre + distance * (corner - centre), 0, SIZE)
        np.testing.assert_allclose(found, centre + ratio * distance * (corner - centre))


def test_places_beyond_the_sensor_repeat_its_edge(read):
    """Also where a cell of the mesh is partly beyond it."""
    x, y = grid()
    image = read(np.rint(100 * np.stack([x, y, x], -1)).astype(np.uint16), warp((1.8, 0, 0, 0, 0, 0)))
    x, y = source(x, y, (1.8, 0, 0, 0, 0, 0))
    expected = np.stack([x.clip(0.5, SIZE[1] - 0.5), y.clip(0.5, SIZE[0] - 0.5)], -1)
    np.testing.assert_allclose(corrected(image)[..., :2] / 100, expected, atol=0.12)

"""Gains against lens shading, from DNG's opcode lists."""

import io
import struct
from functools import partial

import conftest
import numpy as np
import pytest
from conftest import MATRIX, opcode_list

from deepisp_cli import dng_corrections
from deepisp_cli.dng import write_dng
from deepisp_cli.errors import InputError
from deepisp_cli.raw import read_raw

UNDEFINED = 7
SIZE = (40, 60)  # of the active area
BLACK = 500
gain_map = partial(conftest.gain_map, area=(0, 0, *SIZE))
polynomial = partial(conftest.polynomial, area=(0, 0, *SIZE))
VIGNETTE = (3, struct.pack(">7d", 1, 0, 0, 0, 0, 0.5, 0.5))


@pytest.fixture
def corrected(tmp_path):
    """``corrected(samples, second=[...], third=[...])``: what is read of a DNG with these lists."""

    def write_and_read(samples, second=(), third=(), flags=0, **options):
        lists = (
            (code, opcode_list(*entries, flags=flags)) for code, entries in ((51009, second), (51022, third))
        )
        extra = [(code, UNDEFINED, len(data), data) for code, data in lists]
        options = {"pattern": "RGGB", "black": BLACK, "white": 16000, "xyz_to_camera": MATRIX, **options}
        write_dng(tmp_path / "test.dng", samples, extra=extra, white_balance=(2, 1, 2), **options)
        return read_raw(tmp_path / "test.dng")

    return write_and_read


def random_samples(shape=SIZE):
    return np.random.default_rng(0).integers(BLACK, 16000, shape, dtype=np.uint16)


def light(samples):
    return samples.astype(np.float32) - BLACK


def test_light_is_multiplied_not_the_black_level(corrected):
    samples = random_samples()
    image = corrected(samples, [gain_map([[[1.5]]])])
    assert image.samples.dtype == np.float32
    assert (image.black == BLACK).all() and (image.white == 16000).all() and image.notes == ()
    np.testing.assert_allclose(light(image.samples), 1.5 * light(samples), rtol=1e-5)


def test_without_gains_the_samples_are_as_stored(corrected):
    samples = random_samples()
    image = corrected(samples, [gain_map([[[1.5]]], area=(0, 0, 0, 0))])
    np.testing.assert_array_equal(image.samples, samples)
    assert corrected(samples, third=[(6, bytes(16))]).samples.dtype == np.uint16


@pytest.mark.parametrize("crop", [(0, 0, 40, 60), (3, 6, 30, 40), (4, 7, 35, 41)])
def test_each_position_of_the_cell_has_its_map(corrected, crop):
    """As phones write them: rows and columns of the active area, of which the crop may begin anywhere."""
    maps = [
        gain_map([[[1 + 2 * row + column]]], area=(row, column, *SIZE), pitch=(2, 2))
        for row in (0, 1)
        for column in (0, 1)
    ]
    samples = random_samples((46, 70))
    image = corrected(samples, maps, active_area=(3, 5, *SIZE), default_crop=crop)
    top, left, height, width = crop
    stored = light(samples[3:43, 5:65])
    rows, columns = np.indices(SIZE)
    expected = stored * (1 + 2 * (rows % 2) + columns % 2)
    found = light(image.samples)
    np.testing.assert_allclose(found, expected[top : top + height, left : left + width], rtol=1e-5)


@pytest.mark.parametrize("crop", [(0, 0, 40, 60), (5, 8, 30, 41)])
@pytest.mark.parametrize("block_rows", [7, 256])
def test_a_flat_scene_is_flat_again(corrected, monkeypatch, block_rows, crop):
    """Linear between the points: the centre of pixel y is at (y + 0.5) / height of the active area."""
    monkeypatch.setattr(dng_corrections, "BLOCK_ROWS", block_rows)
    gains = np.random.default_rng(1).uniform(1, 3, (5, 9, 1))
    down, across = ((np.arange(side) + 0.5) / side for side in SIZE)
    columns = [np.interp(down, np.linspace(0, 1, 5), gains[:, point, 0]) for point in range(9)]
    shading = np.array([np.interp(across, np.linspace(0, 1, 9), row) for row in np.transpose(columns)])
    samples = np.round(BLACK + 9000 / shading).astype(np.uint16)
    image = corrected(samples, [gain_map(gains)], default_crop=crop)
    np.testing.assert_allclose(light(image.samples), 9000, atol=2)


def test_one_point_needs_no_spacing(corrected):
    samples = random_samples()
    image = corrected(
        samples, [gain_map([[[1]], [[3]]], spacing=(1.0, 0.0)), gain_map([[[2]]], spacing=(0, 0))]
    )
    expected = 2 * (1 + 2 * (np.arange(40)[:, None] + 0.5) / 40) * light(samples)
    np.testing.assert_allclose(light(image.samples), expected, rtol=1e-4)


def test_beyond_the_grid_the_gains_stay(corrected):
    """The grid covers the second quarter of the height."""
    samples = random_samples()
    image = corrected(samples, [gain_map([[[1]], [[3]]], spacing=(0.25, 1.0), origin=(0.25, 0.0))])
    gains = light(image.samples) / light(samples).clip(1)
    np.testing.assert_allclose(gains[:10, 1:5].max(1), 1, rtol=1e-3)
    np.testing.assert_allclose(gains[15, :5].max(), 1 + 2 * (15.5 / 40 - 0.25) / 0.25, rtol=1e-3)
    np.testing.assert_allclose(gains[20:, 1:5].max(1), 3, rtol=1e-3)


def test_only_the_area_and_the_planes_that_it_names(corrected):
    samples = random_samples((*SIZE, 3))
    entry = gain_map([[[2, 4]]], area=(10, 20, 30, 50), planes=(1, 2), pitch=(2, 1))
    expected = light(samples)
    expected[10:30:2, 20:50, 1] *= 2
    expected[10:30:2, 20:50, 2] *= 4
    for lists in ({"second": [entry]}, {"third": [entry]}):
        image = corrected(samples, pattern=None, **lists)
        np.testing.assert_allclose(light(image.samples), expected, rtol=1e-5)
    for planes in (1, 2, 3):  # of which all have the one gain
        image = corrected(samples, [gain_map([[[2]]], planes=(0, planes))], pattern=None)
        np.testing.assert_allclose(
            light(image.samples)[..., :planes], 2 * light(samples)[..., :planes], rtol=1e-5
        )
        np.testing.assert_array_equal(image.samples[..., planes:], samples[..., planes:])


@pytest.mark.parametrize("crop", [(0, 0, 40, 60), (1, 3, 30, 40)])
def test_gains_for_the_demosaiced_picture_go_by_colour(corrected, crop):
    samples = random_samples()
    image = corrected(samples, third=[gain_map([[[2, 3, 5]]], planes=(0, 3))], default_crop=crop)
    factors = np.tile([[2.0, 3.0], [3.0, 5.0]], (20, 30)) * light(samples)
    top, left, height, width = crop
    expected = factors[top : top + height, left : left + width]
    np.testing.assert_allclose(light(image.samples), expected, rtol=1e-5)


def test_gains_follow_each_other(corrected):
    samples = random_samples()
    image = corrected(samples, [gain_map([[[1.5]]]), gain_map([[[2]]])], [gain_map([[[0.5]]], planes=(0, 3))])
    np.testing.assert_allclose(light(image.samples), 1.5 * light(samples), rtol=1e-5)


@pytest.mark.parametrize(("row", "column"), [(10, 20), (30, 40)])
def test_vignetting_grows_with_the_distance_from_the_optical_centre(corrected, row, column):
    """The furthest corner, 30 rows and 40 columns away, is at a distance of 1."""
    samples = random_samples()
    entry = 3, struct.pack(">7d", 0.5, 0, 0, 0, 0.25, column / 60, row / 40)
    image = corrected(samples, third=[entry])
    y, x = np.indices(SIZE) + 0.5
    squares = ((y - row) ** 2 + (x - column) ** 2) / (30**2 + 40**2)
    np.testing.assert_allclose(
        light(image.samples), (1 + 0.5 * squares + 0.25 * squares**5) * light(samples), rtol=1e-4
    )


@pytest.mark.parametrize(
    ("black", "area"), [((2, 2), (0, 0, 40, 60)), ((3, 5), (0, 0, 40, 60)), ((4, 6), (1, 1, 30, 50))]
)
def test_the_black_level_may_repeat_in_any_period(corrected, black, area):
    tile = np.random.default_rng(2).integers(100, 900, black)
    samples = random_samples()
    image = corrected(samples, [gain_map([[[2]]])], black=tile, default_crop=area)
    top, left, height, width = area
    level = np.tile(image.black, (40, 60))[:height, :width]
    stored = samples[top : top + height, left : left + width]
    np.testing.assert_allclose(image.samples - level, 2 * (stored - level), atol=1e-2)


DAMAGED = {
    "cut off": (9, gain_map([[[2]]])[1][:-1]),
    "infinite": gain_map([[[np.inf]]]),
    "not a number": (9, gain_map([[[1]]])[1][:-4] + bytes.fromhex("7fa00000")),  # a signalling one
    "negative": gain_map([[[-1]]]),
    "no points": gain_map(np.ones((0, 1, 1))),
    "no pitch": gain_map([[[1]]], pitch=(0, 1)),
    "no pitch across": gain_map([[[1]]], pitch=(1, 0)),
    "no spacing": gain_map(np.ones((2, 2, 1)), spacing=(0.0, 1.0)),
    "no origin": gain_map([[[1]]], origin=(np.nan, 0)),
    "no numbers": (9, b""),
    "vignetting": (3, struct.pack(">7d", np.nan, 0, 0, 0, 0, 0.5, 0.5)),
    "too large": (3, struct.pack(">7d", 1e300, 0, 0, 0, 0, 0.5, 0.5)),
    "finite, but too large": gain_map([[[1e30]]]),
    "too far": (3, struct.pack(">7d", 0.5, 0, 0, 0, 0, 1e308, 0.5)),
    "polynomial without pitch": polynomial((0, 1), pitch=(0, 1)),
    "polynomial without pitch across": polynomial((0, 1), pitch=(1, 0)),
    "no coefficient": polynomial((0, np.nan)),
    "coefficient too large": polynomial((0, 1e300)),
    "light too large": polynomial((-2e4,)),
    "ninth degree": polynomial((0,) * 9 + (1,)),
    "polynomial cut off": (8, polynomial((0, 1))[1][:-8]),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("entry", DAMAGED.values(), ids=DAMAGED)
def test_damaged_corrections_are_told(corrected, entry):
    with pytest.raises(InputError, match=r"test\.dng: damaged: its tags make no sense"):
        corrected(random_samples(), [entry])


@pytest.mark.parametrize(("flags", "told"), [(0, True), (1, False), (2, True)])
def test_what_is_not_applied_is_told_unless_it_is_optional(corrected, flags, told):
    """6 is TrimBounds, which cuts something off."""
    image = corrected(random_samples(), third=[(6, bytes(16))], flags=flags)
    assert image.notes == (("the corrections in its OpcodeList3 are not applied",) if told else ())


@pytest.mark.parametrize("white", [16000, 12000])
def test_a_polynomial_is_of_the_light_as_a_share_of_white(corrected, white):
    samples = random_samples()
    image = corrected(samples, [polynomial((0.1, 0.2, 0, 0.6))], white=white)
    x = light(samples) / (white - BLACK)
    expected = (0.1 + 0.2 * x + 0.6 * x**3) * (white - BLACK)
    np.testing.assert_allclose(light(image.samples), expected, rtol=1e-4)
    assert not any("OpcodeList2" in note for note in image.notes)


def test_a_polynomial_may_be_for_a_part_of_the_picture(corrected):
    samples = random_samples()
    image = corrected(samples, [polynomial((0, 0.5), area=(4, 7, 30, 50), pitch=(2, 3))])
    expected = light(samples)
    expected[4:30:2, 7:50:3] *= 0.5
    np.testing.assert_allclose(light(image.samples), expected, rtol=1e-4)


def test_each_plane_of_a_linear_dng_may_have_its_polynomial(corrected):
    """As Adobe's programs write lossy JPEG XL: each plane is stretched to full scale."""
    samples = random_samples((*SIZE, 3))
    polynomials = [polynomial((0, gain), planes=(plane, 1)) for plane, gain in enumerate((0.5, 1.0, 0.66))]
    image = corrected(samples, polynomials, pattern=None)
    np.testing.assert_allclose(light(image.samples), light(samples) * (0.5, 1, 0.66), rtol=1e-4)
    assert not any("OpcodeList2" in note for note in image.notes)


def test_a_planes_white_is_its_own():
    samples = random_samples((*SIZE, 3))
    black, white = np.float32([BLACK] * 3), np.float32([16000, 12000, 9000])
    tags = {"OpcodeList2": np.frombuffer(opcode_list(polynomial((0, 0, 1), planes=(0, 3))), np.uint8)}
    found = dng_corrections.correct(samples, None, black, (white, white * 9), tags, (0, 0), SIZE)
    span = white - BLACK
    np.testing.assert_allclose(light(found), light(samples) ** 2 / span, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("level", [16000, 15000])
def test_what_is_clipped_stays_white_under_gains_below_one(corrected, level):
    """Else green, whose gain of white balance is the smallest, would be less than white."""
    samples = np.minimum(random_samples((200, 300)), level)
    samples[:100] = level
    image = corrected(samples, [gain_map([[[0.8]]], area=(0, 0, 200, 300))])
    clipped = samples >= image.white.max()
    assert clipped[:100].all()
    assert (image.samples[clipped] >= image.white.max()).all()
    np.testing.assert_allclose(light(image.samples)[~clipped], 0.8 * light(samples)[~clipped], rtol=1e-4)


def test_of_a_linear_dng_nobody_knows_what_was_clipped(corrected):
    samples = random_samples((*SIZE, 3))
    samples[:20] = 16000
    image = corrected(samples, [gain_map([[[0.8]]], planes=(0, 3))], pattern=None)
    np.testing.assert_allclose(light(image.samples), 0.8 * light(samples), rtol=1e-4)


def test_white_is_what_the_file_states_even_if_the_sensor_clips_below(corrected):
    samples = np.minimum(random_samples((200, 300)), 15000)
    plain = corrected(samples)
    assert plain.clipped_at < 0.99
    x = light(samples) / (16000 - BLACK)
    image = corrected(samples, [polynomial((0, 0, 1), area=(0, 0, 200, 300))])
    clipped = samples >= image.white.max()
    assert clipped.sum() > 3000
    np.testing.assert_allclose(
        light(image.samples)[~clipped], x[~clipped] ** 2 * (16000 - BLACK), rtol=1e-4, atol=0.01
    )
    assert (image.samples[clipped] >= image.white.max()).all()  # or blown highlights would turn magenta


@pytest.mark.parametrize("warp_first", [True, False])
def test_an_order_that_is_not_kept_is_told(corrected, warp_first):
    warp = (1, struct.pack(">I8d", 1, 1, 0.01, 0, 0, 0, 0, 0.5, 0.5))
    entries = [warp, gain_map([[[1.1]]])] if warp_first else [gain_map([[[1.1]]]), warp]
    told = "lens shading is corrected before distortion, which its OpcodeList3 has first"
    assert (told in corrected(random_samples(), third=entries).notes) == warp_first
    assert told not in corrected(random_samples(), third=[gain_map([[[1.1]]])]).notes


def test_what_is_not_known_of_the_second_list_is_told(corrected):
    image = corrected(random_samples(), [(7, bytes(44))])  # MapTable
    assert image.notes == ("the corrections in its OpcodeList2 are not applied",)


def test_what_clips_in_the_corners_stays_white(corrected):
    samples = np.full(SIZE, 16000, np.uint16)
    gains = [
        gain_map([[[gain]]], area=(0, column, *SIZE), pitch=(1, 2)) for column, gain in ((0, 1.2), (1, 2.0))
    ]
    image = corrected(samples, gains)
    assert image.samples.min() >= image.white.max()


@pytest.mark.parametrize(("gain", "allowed"), [(0.0, True), (200.0, True), (5e3, True), (3e4, False)])
def test_light_may_become_nothing_or_ten_thousand_times_white(corrected, gain, allowed):
    samples = np.full(SIZE, 16000, np.uint16)
    samples[:, :30] = BLACK + 100
    entry = gain_map([[[gain]]], area=(0, 0, 40, 60))
    if not allowed:
        with pytest.raises(InputError, match="too large"):
            corrected(samples, [entry])
        return
    image = corrected(samples, [entry])
    np.testing.assert_allclose(light(image.samples)[:, :30], 100 * gain, rtol=1e-4, atol=0.01)


def test_a_polynomial_may_be_of_the_eighth_degree(corrected):
    samples = random_samples()
    image = corrected(samples, [polynomial((0,) * 8 + (1,))])
    x = light(samples) / (16000 - BLACK)
    np.testing.assert_allclose(light(image.samples), x**8 * (16000 - BLACK), rtol=1e-3, atol=0.05)


def test_a_polynomial_for_the_demosaiced_picture_is_told(corrected):
    """Of the third list only gains are applied."""
    samples = random_samples()
    image = corrected(samples, third=[polynomial((0, 0.5), planes=(0, 3))])
    np.testing.assert_array_equal(image.samples, samples)
    assert image.notes == ("the corrections in its OpcodeList3 are not applied",)


def test_what_stays_white_is_where_the_sensor_clips(corrected):
    """And not more: a restored raw would have highlights that nobody saw."""
    samples = np.minimum(random_samples((200, 300)), 15000)
    samples[:100] = 15000
    image = corrected(samples, [gain_map([[[0.8]]], area=(0, 0, 200, 300))])
    assert image.clipped_at < 0.99
    np.testing.assert_allclose(image.samples[:100], image.white.max(), rtol=1e-6)


@pytest.mark.parametrize("padding", [1, 16, 40])
def test_what_follows_the_last_opcode_is_not_one(padding):
    padded = read_with(opcode_list(VIGNETTE) + bytes(padding))
    assert padded.notes == ()
    np.testing.assert_array_equal(padded.samples, read_with(opcode_list(VIGNETTE)).samples)


@pytest.mark.parametrize("missing", [60, 100])
def test_an_opcode_list_that_is_cut_off_is_damage(missing):
    with pytest.raises(InputError, match="damaged"):
        read_with(opcode_list(VIGNETTE, VIGNETTE)[:-missing])


def read_with(opcodes):
    samples = np.random.default_rng(0).integers(600, 9000, (64, 64)).astype(np.uint16)
    file = io.BytesIO()
    write_dng(
        file,
        samples,
        pattern="RGGB",
        black=512,
        white=16383,
        white_balance=(2, 1, 1.5),
        xyz_to_camera=MATRIX,
        extra=[(51022, 7, len(opcodes), opcodes)],
    )
    return read_raw(file, "a.dng")

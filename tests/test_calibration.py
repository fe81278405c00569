"""Files that state colour matrices for several lights: which holds, and what colours come out."""

import struct

import numpy as np
import pytest
import tifffile
from conftest import MATRIX, mosaic_of, raw_with
from hypothesis import given
from hypothesis import strategies as st

from deepisp_cli.calibration import (
    LIGHTS,
    Calibration,
    is_usable,
    kelvin_of,
    matrix_at,
    neutral_gains,
    srgb_from_calibrated,
    to_gains,
)
from deepisp_cli.camera_rgb import camera_matrix
from deepisp_cli.colour import XYZ_FROM_SRGB, srgb_decode, srgb_from_camera
from deepisp_cli.dng import write_dng
from deepisp_cli.lights import BRADFORD, D65, chromatic_adaptation, correlated_temperature, white_xyz
from deepisp_cli.options import Options
from deepisp_cli.pipeline import develop_array
from deepisp_cli.raw import read_raw
from deepisp_cli.white_balance import choose_white_balance, gains_at

SHORT, RATIONAL, SRATIONAL = 3, 5, 10  # TIFF types
# a camera that sees lamplight otherwise than its daylight matrix says
WARM = np.asarray(MATRIX) * [[1.1, 1, 0.9], [1, 1.05, 1], [0.9, 1, 1.3]]
BOTH = (Calibration(2850.0, np.float32(WARM)), Calibration(6500.0, np.float32(MATRIX)))
MAGENTA = Calibration(4150.0, np.float32(MATRIX) * np.float32([[1.2], [0.8], [1.2]]))
COLOURS = np.array([[0.5, 0.5, 0.5], [0.6, 0.2, 0.2], [0.2, 0.5, 0.25], [0.15, 0.2, 0.6], [0.7, 0.6, 0.2]])


def fractions(numbers):
    return [part for number in np.ravel(numbers) for part in (round(float(number) * 10**6), 10**6)]


def tags_of(*calibrations, analog=None):
    """(light, matrix) as DNG's tags."""
    extra = []
    for index, (light, matrix) in enumerate(calibrations):
        extra += [
            ((50721, 50722, 52531)[index], SRATIONAL, 9, fractions(matrix)),
            ((50778, 50779, 52529)[index], SHORT, 1, light),
        ]
    return extra + ([(50727, RATIONAL, 3, fractions(analog))] if analog else [])


@pytest.fixture
def read(tmp_path):
    def read(extra, samples=None, **options):
        samples = np.full((24, 24), 900, np.uint16) if samples is None else samples
        path = tmp_path / "two.dng"
        write_dng(path, samples, **{"pattern": "RGGB", "white": 16383, **options}, extra=extra)
        return read_raw(path)

    return read


@pytest.mark.parametrize("kelvin", [1667, 2500, 2850, 3500, 4200, 5000, 6500, 9000, 25000])
def test_between_two_lights_matrices_are_interpolated_by_the_reciprocal(kelvin):
    share = np.clip((1 / kelvin - 1 / 6500) / (1 / 2850 - 1 / 6500), 0, 1)
    np.testing.assert_allclose(
        matrix_at(kelvin, BOTH), share * WARM + (1 - share) * np.asarray(MATRIX), rtol=1e-6
    )


def test_of_three_lights_the_two_nearest_count():
    three = (BOTH[0], Calibration(4150.0, np.eye(3, dtype=np.float32)), BOTH[1])
    for each in three:
        np.testing.assert_array_equal(matrix_at(each.kelvin, three), each.matrix)
    low, high = matrix_at(3000, three), matrix_at(5000, three)
    assert not np.allclose(low, matrix_at(3000, BOTH)) and not np.allclose(high, matrix_at(5000, BOTH))
    assert 0 < (low - WARM)[0, 1] / (np.eye(3) - WARM)[0, 1] < 1


@pytest.mark.parametrize("kelvin", [2000, 2850, 3600, 4400, 5200, 6500, 12000])
def test_a_light_is_known_by_the_neutral_that_the_camera_sees(kelvin):
    neutral = matrix_at(kelvin, BOTH) @ white_xyz(kelvin)
    assert kelvin_of(0.37 * neutral, BOTH) == pytest.approx(kelvin, rel=0.01)
    assert correlated_temperature(white_xyz(kelvin)) == pytest.approx(kelvin, rel=0.006)
    assert correlated_temperature(5 * white_xyz(kelvin)) == correlated_temperature(white_xyz(kelvin))


@pytest.mark.parametrize("kelvin", [3600, 4000, 4500, 5500])
def test_a_search_that_takes_turns_between_two_lights_ends_between_them(kelvin):
    """With matrices such as those that a program for phones writes."""
    lamp = [[0.9219, 0.0264, -0.1110], [-0.3331, 1.1793, 0.1261], [-0.0543, 0.2320, 0.2339]]
    day = [[0.6053, 0.0173, -0.0729], [-0.3331, 1.1793, 0.1261], [-0.0853, 0.3645, 0.3674]]
    phone = (Calibration(2850.0, np.float32(lamp)), Calibration(6500.0, np.float32(day)))
    neutral = matrix_at(kelvin, phone) @ white_xyz(kelvin)
    assert kelvin_of(neutral, phone) == pytest.approx(kelvin, rel=0.05)


@pytest.mark.parametrize(
    ("x", "y"),
    [(0.3721, 0.3751), (0.4402, 0.4031), (0.3129, 0.3292), (0.40, 0.42), (0.45, 0.45), (0.33, 0.38)],
)
def test_lamps_have_the_temperature_that_is_published(x, y):
    """CIE's F2, F4 and F7, and greener ones, by McCamy's formula (1992)."""
    slope = (x - 0.3320) / (0.1858 - y)
    kelvin = 449 * slope**3 + 3525 * slope**2 + 6823.3 * slope + 5520.33
    assert correlated_temperature(np.array([x, y, 1 - x - y])) == pytest.approx(kelvin, rel=0.005)


def test_bradfords_transform_turns_lights_into_one_another():
    """The figures are those of the literature for A to D65."""
    a = np.array([1.09850, 1.0, 0.35585])
    expected = [
        [0.8446965, -0.1179225, 0.3948108],
        [-0.1366303, 1.1041226, 0.1291718],
        [0.0798489, -0.1348999, 3.1924009],
    ]
    np.testing.assert_allclose(chromatic_adaptation(a), expected, atol=2e-3)
    np.testing.assert_allclose(chromatic_adaptation(a) @ a, D65, rtol=1e-9)
    np.testing.assert_allclose(chromatic_adaptation(D65), np.eye(3), atol=1e-9)
    assert BRADFORD.sum() == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize("kelvin", [2850, 4000, 6500])
def test_colours_under_any_light_come_out_as_under_daylight(kelvin):
    """Surfaces whose colours change with the light as Bradford's transform says."""
    matrix, light = matrix_at(kelvin, BOTH), white_xyz(kelvin)
    gains = neutral_gains(matrix, light)
    under_light = COLOURS @ XYZ_FROM_SRGB.T @ np.linalg.inv(chromatic_adaptation(light)).T
    camera = under_light @ matrix.T * gains
    raw = raw_with(np.ones((8, 8)), "RGGB", xyz_to_camera=np.float32(MATRIX), calibrations=BOTH)
    to_srgb, note = camera_matrix(raw, gains)
    assert note == "" and to_srgb.dtype == np.float32
    np.testing.assert_allclose(to_srgb.sum(1), 1, atol=1e-4)
    found = camera @ to_srgb.T
    np.testing.assert_allclose(found / found[0, 1], COLOURS / 0.5, atol=0.02)
    daylight_alone = camera @ srgb_from_camera(MATRIX).T
    off = np.abs(daylight_alone / daylight_alone[0, 1] - COLOURS / 0.5).max()
    assert kelvin > 2850 or off > 0.1


@given(
    st.floats(1, 30),
    st.floats(1, 30),
    st.floats(1, 30),
    st.sampled_from([BOTH, (BOTH[0], MAGENTA, BOTH[1])]),
)
def test_white_stays_white_and_no_gains_make_colours_explode(red, green, blue, calibrations):
    """Of lights that there are, and of those that there are not."""
    matrix = srgb_from_calibrated(calibrations, np.array([red, green, blue]))
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-5)
    assert np.abs(matrix).max() < 8


def chromaticity(number, x, y, kind=0):
    """The tag IlluminantData1, 2 or 3."""
    parts = (kind, round(x * 10**6), 10**6, round(y * 10**6), 10**6)
    return (52532 + number, 7, 18, struct.pack("<H4I", *parts))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([chromaticity(1, 0.4476, 0.4074), chromaticity(2, 0.3127, 0.3290)], [2856, 6500]),
        ([chromaticity(1, 0.4476, 0.4074)], [2856]),
        ([chromaticity(2, 0.3127, 0.3290)], []),  # D65 alone, as without its chromaticity
        ([chromaticity(1, 0.4476, 0.4074, kind=1)], []),  # a spectrum
        ([chromaticity(1, 0, 0.4)], []),
        ([(52533, 7, 3, b"abc")], []),
        ([], []),
    ],
)
def test_a_light_without_a_code_is_known_by_its_chromaticity(read, data, expected):
    extra = [*tags_of((255, WARM), (255, MATRIX)), *data]
    found = [each.kelvin for each in read(extra).calibrations]
    assert found == pytest.approx(expected, rel=0.01)


def test_a_file_with_two_lights_is_read_and_developed_by_the_right_one(read, identity_engine, tmp_path):
    light = white_xyz(2850)
    gains = neutral_gains(WARM, light)
    under_light = COLOURS @ XYZ_FROM_SRGB.T @ np.linalg.inv(chromatic_adaptation(light)).T @ WARM.T * gains
    scene = np.repeat(np.repeat(0.6 * under_light[None] / under_light.max(), 32, 0), 32, 1)
    counts = mosaic_of(scene, black=0, gains=gains)
    extra = tags_of((17, WARM), (21, MATRIX))
    raw = read(extra, counts, white_balance=gains)
    assert [each.kelvin for each in raw.calibrations] == [2850, 6500]
    np.testing.assert_allclose(raw.calibrations[0].matrix, WARM, atol=1e-5)
    np.testing.assert_allclose(raw.xyz_to_camera, MATRIX, atol=1e-5)
    np.testing.assert_allclose(gains_at(2850, raw), gains, rtol=1e-4)
    assert choose_white_balance(raw, "2850K")[0] == pytest.approx(gains, rel=1e-4)
    picture = srgb_decode(develop_array(tmp_path / "two.dng", identity_engine, Options(look="neutral")) / 255)
    found = picture[16, 16::32]
    np.testing.assert_allclose(found / found[0, 1], COLOURS / 0.5, atol=0.03)


@pytest.mark.parametrize(
    ("calibrations", "kelvins"),
    [
        ([(21, MATRIX)], []),
        ([(21, MATRIX), (17, WARM)], [2850, 6500]),
        ([(21, MATRIX), (10, WARM)], []),  # both of 6500 K
        ([(17, np.zeros((3, 3))), (21, MATRIX)], []),
        ([(0, WARM), (21, MATRIX)], []),  # not known
        ([(255, WARM), (21, MATRIX)], []),  # other
        ([(17, WARM), (20, MATRIX), (22, MATRIX)], [2850, 5500, 7500]),
    ],
)
def test_lights_that_are_not_known_and_useless_matrices_are_left_out(read, calibrations, kelvins):
    raw = read(tags_of(*calibrations))
    assert [each.kelvin for each in raw.calibrations] == kelvins
    at = raw.matrix_at(2850)
    expected = WARM if 2850 in kelvins else raw.xyz_to_camera
    np.testing.assert_allclose(at, expected, atol=1e-5)


def test_analog_balance_is_part_of_each(read):
    raw = read(tags_of((17, WARM), (21, MATRIX), analog=(2, 1, 1.5)))
    for each, matrix in zip(raw.calibrations, (WARM, MATRIX), strict=True):
        np.testing.assert_allclose(each.matrix, np.diag([2, 1, 1.5]) @ matrix, atol=1e-5)


def test_a_white_point_is_seen_by_the_matrix_of_its_light(read):
    x, y, _ = white_xyz(2850) / white_xyz(2850).sum()
    white_point = (50729, RATIONAL, 2, fractions([x, y]))
    raw = read([*tags_of((17, WARM), (21, MATRIX)), white_point])
    np.testing.assert_allclose(raw.camera_white_balance, neutral_gains(WARM, white_xyz(2850)), rtol=2e-3)


def test_every_light_of_exif_has_a_temperature_and_daylight_is_as_in_the_standard():
    """EXIF 2.32, LightSource, without 0, unknown, and 255, other."""
    assert LIGHTS.keys() == {1, 2, 3, 4, *range(9, 25)}
    assert LIGHTS[21] == 6500 and LIGHTS[17] == 2850 and LIGHTS[23] == 5000
    assert all(2000 < kelvin < 10000 for kelvin in LIGHTS.values())


B = 10**8  # apart by one, which float32 cannot tell
UNUSABLE = {
    "singular in float32": [[B, B + 1, B], [B, B, B + 1], [B + 1, B, B]],
    "sees blue as negative": [*np.asarray(MATRIX)[:2], [-0.3, 0.2, -0.6]],
}


def whole(matrix):
    return [
        part
        for number in np.ravel(matrix)
        for part in ((int(number), 1) if number >= B else fractions(number))
    ]


@pytest.mark.parametrize("matrix", UNUSABLE.values(), ids=UNUSABLE)
def test_matrices_for_several_lights_are_checked_like_a_single_one(read, matrix):
    tags = [(50721, SRATIONAL, 9, whole(matrix)), (50722, SRATIONAL, 9, whole(matrix))]
    image = read([*tags, (50778, SHORT, 1, 17), (50779, SHORT, 1, 21)])
    found, note = camera_matrix(image, np.ones(3, np.float32))
    np.testing.assert_array_equal(found, np.eye(3))
    assert note or any("no colour matrix" in each for each in image.notes)


def test_colours_are_known_from_matrices_for_other_lights(read):
    image = read(tags_of((17, WARM), (23, MATRIX), (21, np.zeros((3, 3)))))
    assert len(image.calibrations) == 2
    assert not any("colour matrix" in note for note in image.notes)


@pytest.mark.parametrize("scale", [0.01, 0.1, 10, 100])
def test_the_scale_of_a_matrix_does_not_matter(read, scale):
    expected, found = (read(tags_of((21, np.asarray(MATRIX) * each))) for each in (1, scale))
    for image in (expected, found):
        assert not any("colour matrix" in note for note in image.notes)
    matrices = [camera_matrix(image, np.ones(3, np.float32))[0] for image in (expected, found)]
    np.testing.assert_allclose(*matrices, atol=1e-3)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("order", "<>")
def test_each_chromaticity_is_read_in_either_byte_order(tmp_path, number, order):
    matrix, light = ((50721, 50778), (50722, 50779), (52531, 52529))[number - 1]
    parts = (0, 4476, 10000, 4074, 10000)
    tags = [(50706, 1, 4, bytes((1, 6, 0, 0))), (33421, SHORT, 2, (2, 2)), (33422, 1, 4, bytes((0, 1, 1, 2)))]
    tags += [(matrix, SRATIONAL, 9, fractions(WARM)), (light, SHORT, 1, 255)]
    tags += [(52532 + number, 7, 18, struct.pack(f"{order}H4I", *parts))]
    with tifffile.TiffWriter(tmp_path / "a.dng", byteorder=order) as writer:
        writer.write(np.full((24, 24), 900, np.uint16), photometric="cfa", metadata=None, extratags=tags)
    assert [each.kelvin for each in read_raw(tmp_path / "a.dng").calibrations] == pytest.approx(
        [2856], rel=0.01
    )


@pytest.mark.parametrize("data", [b"", b"a", b"abc", b"abcdefg"])
def test_a_chromaticity_of_an_odd_length_is_none_in_either_byte_order(tmp_path, data):
    tags = [(50706, 1, 4, bytes((1, 6, 0, 0))), (33421, SHORT, 2, (2, 2)), (33422, 1, 4, bytes((0, 1, 1, 2)))]
    tags += [*tags_of((255, WARM)), (52533, 7, len(data), data)]
    with tifffile.TiffWriter(tmp_path / "a.dng", byteorder=">") as writer:
        writer.write(np.full((24, 24), 900, np.uint16), photometric="cfa", metadata=None, extratags=tags)
    raw = read_raw(tmp_path / "a.dng")
    assert raw.calibrations == () and raw.xyz_to_camera is not None


def test_a_light_with_a_code_needs_no_chromaticity(read):
    extra = [*tags_of((17, WARM), (21, MATRIX)), chromaticity(1, 0.3127, 0.3290)]
    assert [each.kelvin for each in read(extra).calibrations] == [2850, 6500]


def test_of_two_matrices_for_one_light_the_first_counts(read):
    raw = read(tags_of((17, WARM), (3, np.eye(3)), (21, MATRIX)))
    np.testing.assert_allclose(raw.matrix_at(2850), WARM, atol=1e-5)


@pytest.mark.parametrize("kelvin", [1700, 2000, 15000, 23000])
def test_every_light_of_the_scale_has_its_temperature(kelvin):
    assert correlated_temperature(white_xyz(kelvin)) == pytest.approx(kelvin, rel=0.015)


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
@pytest.mark.parametrize(("smallest", "usable"), [(1e-5, True), (1e-7, False), (0, False)])
def test_a_matrix_that_can_hardly_be_inverted_is_useless(scale, smallest, usable):
    assert is_usable(scale * np.diag([1, 1, smallest])) == usable


def test_a_gain_may_be_32_times_another_and_no_more():
    np.testing.assert_array_equal(to_gains(np.array([64.0, 2.0, 2.0])), [32, 1, 1])
    assert to_gains(np.array([64.1, 2.0, 2.0])) is None

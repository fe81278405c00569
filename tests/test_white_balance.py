"""Which white balance a raw gets, and what is estimated from a picture."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import MATRIX, raw_with

from deepisp_cli.calibration import Calibration, neutral_gains
from deepisp_cli.camera_rgb import camera_matrix
from deepisp_cli.demosaic import BAYER_PATTERNS
from deepisp_cli.dng_tags import RawTag
from deepisp_cli.errors import UsageError
from deepisp_cli.lights import D65, white_xyz
from deepisp_cli.options import Options
from deepisp_cli.raw import read_raw
from deepisp_cli.white_balance import (
    _nearer_to_one,
    choose_white_balance,
    estimated_gains,
    find_balanced,
    gains_at,
    near_daylight,
    parse_gains,
    parse_kelvin,
)


def colour_of(pattern, row, col):
    return pattern[row % 2 * 2 + col % 2]


def test_white_balance_choices(write_raw, grey_ramp):
    path = write_raw("ramp.dng", grey_ramp)
    with path.open("rb") as file:
        raw = read_raw(file, path.name)
    camera, remark = choose_white_balance(raw, "camera")
    np.testing.assert_allclose(camera, [2, 1, 1.5], rtol=1e-3)
    assert remark == ""
    estimated = choose_white_balance(replace(raw, xyz_to_camera=None), "auto")[0]
    np.testing.assert_allclose(estimated, [2, 1, 1.5], rtol=0.02)
    moved = choose_white_balance(raw, "auto")[0]  # to where light is for this matrix
    np.testing.assert_allclose(moved, near_daylight(estimated, raw), rtol=1e-5)
    assert 0.02 < np.abs(moved / estimated - 1).max() < 0.05
    np.testing.assert_allclose(choose_white_balance(raw, "3,2,4")[0], [1.5, 1, 2])
    daylight, _ = choose_white_balance(raw, "daylight")
    assert daylight.min() == 1
    assert np.abs(daylight - camera).max() > 0.05


@pytest.mark.parametrize("pattern", [None, "RGGB"])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_picture_that_shows_no_white_balance_gets_the_best_known(pattern, level):
    """A black or blown frame cannot be judged, and without gains there would be a colour cast."""
    samples = np.full((8, 8, 3) if pattern is None else (8, 8), level, np.float32)
    camera, daylight = np.float32([2, 1, 1.5]), np.float32([1.9, 1, 1.6])
    raw = raw_with(samples, pattern, camera_white_balance=camera, daylight_white_balance=daylight)
    gains, remark = choose_white_balance(raw, "auto")
    assert gains is camera and "the camera's is used" in remark
    raw = raw_with(samples, pattern, daylight_white_balance=daylight)
    for wanted in ("auto", "camera"):
        gains, remark = choose_white_balance(raw, wanted)
        assert gains is daylight and "daylight white balance is used" in remark
    for wanted in ("auto", "camera", "daylight"):
        gains, remark = choose_white_balance(raw_with(samples, pattern), wanted)
        assert (gains == 1).all() and remark == "no white balance is applied"


def test_daylight_that_is_not_known_is_estimated_not_the_cameras():
    samples = np.full((8, 8), 0.5, np.float32)
    samples[::2, ::2] = 0.25  # red
    gains, remark = choose_white_balance(
        raw_with(samples, "RGGB", camera_white_balance=np.float32([3, 1, 2])), "daylight"
    )
    np.testing.assert_allclose(gains, [2, 1, 1])
    assert remark == "white balance is estimated from the picture"


@pytest.mark.parametrize("wanted", ["daylight", "5500K", "camera"])
def test_a_linear_file_without_a_matrix_has_the_cameras_white_balance(wanted):
    samples, camera = np.full((8, 8, 3), 0.5, np.float32), np.float32([3, 1, 2])
    gains, remark = choose_white_balance(raw_with(samples, None, camera_white_balance=camera), wanted)
    np.testing.assert_array_equal(gains, camera)
    assert ("no colour matrix" in remark) == (wanted != "camera")


def test_samples_that_look_balanced_get_no_gains():
    """Near grey whatever the gain of green, which need not be the smallest."""
    assert _nearer_to_one(np.array([1, 1.8, 1]), np.array([2, 1, 1.5]))
    assert not _nearer_to_one(np.array([1.8, 1, 1.4]), np.array([2, 1, 1.5]))
    assert not _nearer_to_one(np.array([1.5, 1, 1.2]), np.array([4, 2, 3]))


def test_the_white_balance_of_a_linear_dng_can_be_estimated():
    samples = np.random.default_rng(0).uniform(0.1, 0.6, (8, 8, 1)) * np.float32([0.5, 1.0, 0.4])
    gains, remark = choose_white_balance(raw_with(samples, None), "auto")
    np.testing.assert_allclose(gains, [2, 1, 2.5], rtol=1e-5)
    assert remark == ""
    assert choose_white_balance(raw_with(samples, None), "camera")[1] == "no white balance is applied"


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
def test_an_estimate_does_not_judge_darkness(pattern):
    """Means as small as the error of the black level mean nothing."""
    black, white = np.full((2, 2), 512, np.float32), np.full((2, 2), 16383, np.float32)
    for counts in (
        {"R": 512, "G": 512, "B": 512},
        {"R": 520, "G": 511, "B": 520},
        {"R": 520, "G": 900, "B": 513},
    ):
        samples = np.uint16([[counts[colour_of(pattern, y, x)] for x in range(8)] for y in range(8)])
        assert estimated_gains(samples, pattern, black, white) is None


def test_what_is_only_in_the_brightest_places_is_not_judged():
    picture = np.full((64, 64, 3), (0.2, 0.3, 0.0), np.float32)
    picture[3, :4] = 0.9
    assert estimated_gains(picture, None, np.zeros(3), np.ones(3)) is None


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
def test_an_estimate_finds_the_cast(pattern):
    cast = {"R": 0.5, "G": 1.0, "B": 0.4}
    rows, cols = np.indices((16, 16))
    light = np.random.default_rng(0).uniform(0.1, 0.6, (8, 8)).repeat(2, 0).repeat(2, 1)
    samples = light * np.vectorize(lambda y, x: cast[colour_of(pattern, y, x)])(rows, cols)
    gains = estimated_gains(samples, pattern, np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32))
    np.testing.assert_allclose(gains, [2.0, 1.0, 2.5], rtol=1e-5)


def test_an_estimate_of_linear_counts_finds_the_cast():
    light = np.random.default_rng(0).uniform(0.1, 0.6, (8, 8, 1))
    counts = np.rint(100 + light * (0.5, 1.0, 0.4) * 60000).astype(np.uint16)
    gains = estimated_gains(counts, None, np.full(3, 100, np.float32), np.full(3, 60100, np.float32))
    np.testing.assert_allclose(gains, [2.0, 1.0, 2.5], rtol=1e-3)


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
def test_an_estimate_looks_at_what_is_not_clipped_and_has_a_limit(pattern):
    cast = {"R": 0.02, "G": 0.6, "B": 0.3}
    rows, cols = np.indices((16, 16))
    samples = np.vectorize(lambda y, x: cast[colour_of(pattern, y, x)])(rows, cols)
    row, col = divmod(pattern.index("G"), 2)
    samples[8 + row :: 2, col::2] = 1.0  # one of two greens: these cells say nothing
    levels = np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32)
    np.testing.assert_allclose(estimated_gains(samples, pattern, *levels), [8, 1, 2], rtol=1e-5)
    assert estimated_gains(np.ones((16, 16)), pattern, *levels) is None


def test_an_estimate_is_that_of_all_blocks_of_rows(monkeypatch):
    """Also with a black tile of three rows."""
    random = np.random.default_rng(1)
    samples = random.uniform(0.1, 0.9, (61, 40)) * np.linspace(0.3, 1, 61)[:, None]
    black, white = np.float32([[0.01, 0.02], [0.03, 0.04], [0.05, 0.06]]), np.ones((2, 2), np.float32)
    whole = estimated_gains(samples, "GRBG", black, white)
    linear = estimated_gains(samples[..., None] * (0.4, 0.9, 0.6), None, np.zeros(3), np.ones(3))
    monkeypatch.setattr("deepisp_cli.white_balance.BLOCK_ROWS", 10)
    np.testing.assert_allclose(estimated_gains(samples, "GRBG", black, white), whole, rtol=1e-5)
    in_blocks = estimated_gains(samples[..., None] * (0.4, 0.9, 0.6), None, np.zeros(3), np.ones(3))
    np.testing.assert_allclose(in_blocks, linear, rtol=1e-5)


def test_an_estimate_is_not_led_astray_by_what_most_of_the_picture_is_or_by_hot_pixels():
    """A meadow with a white wall: the grey world would make it magenta."""
    light = np.float32([0.5, 1.0, 0.6])
    picture = np.full((64, 64, 3), (0.05, 0.2, 0.04), np.float32) * light
    picture[:, 50:] = 0.7 * light
    right, plain = 1 / light, picture.mean((0, 1)).max() / picture.mean((0, 1))
    gains = estimated_gains(picture, None, np.zeros(3), np.ones(3))
    np.testing.assert_allclose(gains, right / right.min(), rtol=0.1)
    assert np.abs(np.log(gains[[0, 2]] / right[[0, 2]])).max() < 0.3 * np.abs(np.log(plain * light)).max()
    picture[3, 4], picture[40, 8] = (0.9, 0.1, 0.1), (0.1, 0.1, 0.95)
    np.testing.assert_allclose(estimated_gains(picture, None, np.zeros(3), np.ones(3)), gains, rtol=0.01)


def test_a_large_picture_is_estimated_from_a_part(monkeypatch):
    picture = np.random.default_rng(2).uniform(0.1, 0.9, (300, 200, 3)) * (0.4, 0.9, 0.6)
    whole = estimated_gains(picture, None, np.zeros(3), np.ones(3))
    monkeypatch.setattr("deepisp_cli.white_balance.ENOUGH_CELLS", 7000)
    part = estimated_gains(picture, None, np.zeros(3), np.ones(3))
    assert (part != whole).any()
    np.testing.assert_allclose(part, whole, rtol=0.03)


@pytest.mark.parametrize("kelvin", [2300, 4000, 6000, 12000])
def test_estimates_come_near_to_lights_there_are(kelvin):
    samples = np.zeros((8, 8), np.float32)
    raw, unknown, blind = (
        raw_with(samples, "RGGB", xyz_to_camera=matrix) for matrix in (MATRIX, None, -np.asarray(MATRIX))
    )
    light = gains_at(kelvin, raw)
    found = near_daylight(light, raw)
    np.testing.assert_allclose(found, light, rtol=0.01)
    assert found.min() == 1  # whichever colour that is: of candles, or of blue skies
    green = light * (1, 0.7, 1)  # as for a magenta light
    moved = near_daylight(green / green.min(), raw)
    off, was = np.log(moved / moved[1]), np.log(green / green[1])
    lights = [np.log(gains_at(1e6 / mired, raw)) for mired in range(80, 440)]
    nearest = [min(np.linalg.norm(each - (ratio - ratio[1])) for ratio in lights) for each in (off, was)]
    assert nearest[0] == pytest.approx(0.2 * nearest[1], abs=0.01)
    np.testing.assert_array_equal(near_daylight(light, unknown), light)
    np.testing.assert_array_equal(near_daylight(light, blind), light)


@pytest.mark.parametrize(
    ("kelvin", "x", "y"),
    [
        (2856, 0.4476, 0.4074),  # illuminant A
        (2000, 0.5267, 0.4133),  # black body
        (5003, 0.3457, 0.3585),  # D50
        (6504, 0.3127, 0.3290),  # D65
        (7504, 0.2990, 0.3149),  # D75
        (25000, 0.2499, 0.2548),
        (1667, 0.5650, 0.4027),
    ],
)
def test_colour_temperatures_are_those_of_the_standard_illuminants(kelvin, x, y):
    xyz = white_xyz(kelvin)
    np.testing.assert_allclose(xyz[:2] / xyz.sum(), (x, y), atol=6e-4)
    assert xyz[1] == 1


def test_a_colour_temperature_makes_its_light_neutral_and_lower_ones_make_pictures_cooler():
    samples = np.full((8, 8), 0.5, np.float32)
    raw = raw_with(samples, "RGGB", xyz_to_camera=MATRIX, camera_white_balance=np.float32([2, 1, 1.5]))
    warmth = []
    for kelvin in (2000, 3200, 5500, 12000):
        gains, remark = choose_white_balance(raw, f"{kelvin}K")
        neutral = gains * (MATRIX @ white_xyz(kelvin))
        np.testing.assert_allclose(neutral, neutral[0], rtol=1e-5)
        assert gains.min() == 1 and remark == ""
        warmth.append(gains[0] / gains[2])
    assert warmth == sorted(warmth)
    gains, remark = choose_white_balance(raw_with(samples, "RGGB", camera_white_balance=gains), "5500 k")
    assert "no colour matrix" in remark and gains.max() > 1
    assert gains_at(5500, replace(raw, xyz_to_camera=-np.asarray(MATRIX))) is None


@pytest.mark.parametrize("factor", [1, 3])
def test_balanced_samples_count_as_under_daylight_for_every_choice(factor):
    """Like those of the Nikon D1: gains for daylight, for 6500 K or of an estimate would turn them pink."""
    samples = np.full((16, 16), 0.5, np.float32)
    matrix = factor * np.float32(MATRIX)
    daylight = neutral_gains(matrix, D65)
    raw = raw_with(samples, "RGGB", xyz_to_camera=matrix, daylight_white_balance=daylight)
    assert daylight.max() > 1.5
    balanced, remark = find_balanced(raw)
    assert remark == "the samples seem to be white-balanced already"
    for wanted in ("camera", "daylight", "6500K", "auto"):
        gains, remark = choose_white_balance(balanced, wanted)
        np.testing.assert_allclose(gains, 1, atol=0.02)
        assert remark == ""
    warm, _ = choose_white_balance(balanced, "9000K")
    assert warm[0] > warm[2]
    np.testing.assert_allclose(camera_matrix(balanced, gains)[0], camera_matrix(raw, gains)[0], atol=1e-5)
    for known in ({"camera_white_balance": daylight}, {"daylight_white_balance": None}, {"pattern": None}):
        same = replace(raw, **known)
        assert find_balanced(same) == (same, "")
    grey = raw_with(np.ones((16, 16)) / np.tile(daylight[[[0, 1], [1, 2]]], (8, 8)) / 2, "RGGB",
                    xyz_to_camera=matrix, daylight_white_balance=daylight)  # fmt: skip
    assert find_balanced(grey) == (grey, "")
    lights = (Calibration(2850.0, matrix), Calibration(6500.0, matrix))
    known = find_balanced(replace(raw, calibrations=lights, profile=(RawTag(50721, 10, 9, ()),)))[0]
    assert (known.calibrations, known.profile) == ((), ())  # they are for samples that are not balanced
    unknown, remark = find_balanced(replace(raw, xyz_to_camera=None))
    assert unknown.xyz_to_camera is None and remark


def test_one_kelvin_is_a_small_step():
    """The hues of a black body and of daylight are not the same."""
    lights = np.array([white_xyz(kelvin) for kelvin in range(1667, 25000)])
    assert np.abs(np.diff(np.log(lights), axis=0)).max() < 0.003
    blue = lights[:, 2]
    assert (np.diff(blue) > 0).all()


@pytest.mark.parametrize("given", ["1000K", "30000k", "500", "K", "warm", "-5500K"])
def test_temperatures_that_make_no_sense_are_refused(given):
    with pytest.raises(UsageError, match="white balance"):
        Options(white_balance=given)
    Options(white_balance="5500K")
    assert parse_kelvin("5500") == parse_kelvin("5500K") == parse_kelvin("5500 k") == 5500


@pytest.mark.filterwarnings("error")
def test_only_the_ratios_of_gains_count():
    np.testing.assert_allclose(parse_gains("3e38,1.5e38,3e38"), (2, 1, 2))
    np.testing.assert_allclose(parse_gains("4e-320,2e-320,2e-320"), (2, 1, 1), rtol=1e-3)
    for wrong in ("1e39,1,1", "1e400,1,1", (10**400, 1, 1)):
        with pytest.raises(UsageError):
            parse_gains(wrong)


def test_the_arguments_in_a_picture_can_be_given_to_the_command_again():
    asked = Options(white_balance="2.1, 1, 1.6", exposure=-0.5).arguments()
    assert asked == "--white-balance '2.1, 1, 1.6' --exposure -0.5"
    assert Options(white_balance=(2.1, 1, 1.6)).arguments() == "--white-balance 2.1,1,1.6"
    assert Options().arguments() == ""


@pytest.mark.parametrize(
    ("given", "allowed"), [("1667K", True), ("1666K", False), ("25000", True), ("25001", False)]
)
def test_temperatures_are_those_for_which_there_are_lights(given, allowed):
    if allowed:
        assert parse_kelvin(given) == float(given.rstrip("K"))
    else:
        with pytest.raises(UsageError, match="1667 to 25000 K"):
            parse_kelvin(given)


def test_gains_are_above_nothing_and_at_most_32_times_another():
    np.testing.assert_array_equal(parse_gains("64,2,2"), [32, 1, 1])
    for wrong in ("64.1,2,2", "0,0,0", "0,1,1", "-1,1,1"):
        with pytest.raises(UsageError, match="white balance"):
            parse_gains(wrong)


def estimated(picture):
    return estimated_gains(np.asarray(picture, np.float32), None, np.zeros(3), np.ones(3))


def test_an_estimate_is_the_mean_of_the_sixth_power():
    """Of a picture in which green varies, and red and blue do not."""
    picture = np.full((64, 64, 3), 0.3)
    picture[::2, :, 1], picture[1::2, :, 1] = 0.2, 0.4
    green = ((0.2**6 + 0.4**6) / 2) ** (1 / 6)
    np.testing.assert_allclose(estimated(picture), (green / 0.3, 1, green / 0.3), rtol=1e-5)


def test_what_is_dark_but_not_black_is_judged():
    np.testing.assert_allclose(estimated(np.full((64, 64, 3), (4e-4, 8e-4, 2e-4))), (2, 1, 4), rtol=1e-4)


def test_what_is_bright_but_not_clipped_is_judged():
    picture = np.full((64, 64, 3), (0.2, 0.1, 0.1))
    picture[:32] = (0.48, 0.96, 0.24)
    np.testing.assert_allclose(estimated(picture), (2, 1, 4), rtol=1e-3)


def test_a_bright_place_of_half_a_hundredth_is_judged():
    """Hot pixels are fewer."""
    picture = np.full((64, 64, 3), (0.04, 0.02, 0.02))
    picture[20:25, 20:24] = (0.45, 0.9, 0.225)
    np.testing.assert_allclose(estimated(picture), (2, 1, 4), rtol=0.02)


def test_noise_below_black_is_no_light():
    picture = np.full((64, 64, 3), (0.2, 0.4, 0.3))
    picture[::2, :, 0], dark = -0.3, picture.copy()
    dark[::2, :, 0] = 0
    picture[1::2, :, 0] = dark[1::2, :, 0] = 0.35  # its mean is above black
    np.testing.assert_allclose(estimated(picture), estimated(dark), rtol=1e-6)


def test_a_light_beyond_the_matrix_is_told():
    no_blue = np.float32([[1, 0, 0], [0, 1, 0], [0, -0.5, 1]])  # in the light of a candle
    raw = raw_with(np.full((8, 8), 0.5, np.float32), "RGGB", xyz_to_camera=no_blue)
    raw = replace(raw, camera_white_balance=np.float32([2, 1, 1.5]))
    gains, remark = choose_white_balance(raw, "1667K")
    assert gains[0] == 2
    assert remark == "light of 1667 K is beyond the camera's colour matrix: the camera's is used"


def test_without_a_matrix_the_note_is_of_what_is_used():
    raw = raw_with(np.full((8, 8), 0.5, np.float32), "RGGB", daylight_white_balance=np.float32([2, 1, 1.5]))
    gains, remark = choose_white_balance(raw, "5500K")
    assert (gains[0], remark) == (2, "daylight white balance is used")

"""Which colour matrix holds under which light: a DNG may state up to three, each measured under its own."""

import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from deepisp_cli.colour import XYZ_FROM_SRGB
from deepisp_cli.dng_tags import SIGNATURES, Tags, first_number, is_dng, text
from deepisp_cli.lights import chromatic_adaptation, correlated_temperature, white_xyz, xyz_of

LIGHTS = {  # K, of EXIF's codes of light sources
    **dict.fromkeys((1, 4, 9, 18, 20), 5500.0),  # daylight, flash, fine weather, B, D55
    **dict.fromkeys((10, 19, 21), 6500.0),  # cloudy, C, D65
    **dict.fromkeys((11, 22), 7500.0),  # shade, D75
    **dict.fromkeys((3, 17), 2850.0),  # tungsten, A
    **dict.fromkeys((2, 14), 4150.0),  # fluorescent, cool white
    **{12: 6400.0, 13: 5050.0, 15: 3525.0, 16: 2925.0},  # fluorescent: daylight, day white, white, warm
    **{23: 5000.0, 24: 3200.0},  # D50, studio tungsten
}
D65_LIGHT, OTHER_LIGHT = 21, 255
CHROMATICITY = 0  # the kind of IlluminantData that is a chromaticity, x and y
STANDARD = (20, 21, 22, 23)  # preferred among lights of one temperature: laboratories' own
STEPS = 30  # of the search for a light, which mostly ends after a few
LARGEST_GAIN = 32.0  # channel gains further apart are nonsense, not light: candlelight needs about 5


class Calibration(NamedTuple):
    """A camera's colours under one light.

    Attributes
    ----------
    kelvin : float
        The light's colour temperature.
    matrix : (3, 3) float32
        XYZ to the RGB of the samples.
    """

    kelvin: float
    matrix: np.ndarray


def colour_matrix(tags: Tags) -> np.ndarray | None:
    """Return the DNG's AnalogBalance x CameraCalibration x ColorMatrix: the one whose known light is nearest
    D65, among those that can be inverted if any can.

    (colours, 3) float64, XYZ to the RGB of the samples; None if there is none.
    """
    numbers = _stated(tags)
    if not numbers:
        return None

    def from_d65(number: str) -> tuple[float, bool]:
        kelvin = _kelvin(tags, number)
        distance = abs(1 / kelvin - 1 / LIGHTS[D65_LIGHT]) if kelvin else np.inf
        return distance, _light(tags, number) not in STANDARD

    usable = [number for number in numbers if is_usable(_calibrated(tags, number))]
    return _calibrated(tags, min(usable or numbers, key=from_d65))


def read_calibrations(tags: Tags) -> tuple[Calibration, ...]:
    """The matrices of a DNG that states several for different lights, or one for another light than D65, by
    colour temperature; () for others, of which `colour_matrix` is all that is known."""
    found: dict[float, np.ndarray] = {}
    for number in _stated(tags):
        kelvin = _kelvin(tags, number)
        matrix = _calibrated(tags, number).astype(np.float32)
        if kelvin and is_usable(matrix):
            found.setdefault(kelvin, matrix)
    d65 = 1e6 / LIGHTS[D65_LIGHT]  # or its chromaticity, which is not exactly as warm
    others = any(abs(1e6 / kelvin - d65) >= 1 for kelvin in found)
    return tuple(Calibration(*each) for each in sorted(found.items())) if others else ()


def is_usable(matrix: np.ndarray) -> bool:
    """Whether it can be inverted.

    Parameters
    ----------
    matrix : of any shape; only (3, 3) will do.
    """
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or not matrix.any():
        return False
    return bool(abs(np.linalg.det(matrix / np.abs(matrix).max())) > 1e-6)  # whatever its scale


def _stated(tags: Tags) -> list[str]:
    return [number for number in "123" if f"ColorMatrix{number}" in tags] if is_dng(tags) else []


def _light(tags: Tags, number: str) -> int:
    """EXIF's code of the light of one of the matrices; 0: not known."""
    return int(first_number(tags, f"CalibrationIlluminant{number}", 0))


def _kelvin(tags: Tags, number: str) -> float | None:
    """The colour temperature of the light of one of the matrices; None: not known. A light that has no code
    may have its chromaticity instead; a spectrum is not read."""
    light, data = _light(tags, number), tags.get(f"IlluminantData{number}")
    if light != OTHER_LIGHT or not isinstance(data, np.ndarray):
        return LIGHTS.get(light)
    with suppress(struct.error, ZeroDivisionError, ValueError):
        kind, *parts = struct.unpack("<H4I", data.tobytes())
        x, y = parts[0] / parts[1], parts[2] / parts[3]
        if kind == CHROMATICITY and 0 < x < 1 and 0 < y < 1:
            return correlated_temperature(xyz_of(x, y))
    return None


def _calibrated(tags: Tags, number: str) -> np.ndarray:
    matrix: np.ndarray = tags[f"ColorMatrix{number}"].reshape(-1, 3)
    camera, profile = (text(tags, tag) for tag in SIGNATURES)
    if camera == profile and f"CameraCalibration{number}" in tags:
        matrix = tags[f"CameraCalibration{number}"].reshape(-1, len(matrix)) @ matrix
    return tags.get("AnalogBalance", np.ones(len(matrix)))[:, None] * matrix


def matrix_at(kelvin: float, calibrations: Sequence[Calibration]) -> np.ndarray:
    """The matrix for a light: interpolated in 1 / K between the two nearest, as DNG 1.7 (chapter 6) has it
    for two; for three it names no rule, and Adobe's programs mix all of them.

    Parameters
    ----------
    kelvin : the light's colour temperature.
    calibrations : by colour temperature; beyond the first and the last these hold.

    Returns
    -------
    (3, 3) float64, XYZ to the RGB of the samples.
    """
    below = [each for each in calibrations if each.kelvin <= kelvin][-1:]
    above = [each for each in calibrations if each.kelvin > kelvin][:1]
    first, last = (below or above)[0], (above or below)[0]
    share = 0.0
    if first.kelvin < last.kelvin:
        share = (1 / first.kelvin - 1 / kelvin) / (1 / first.kelvin - 1 / last.kelvin)
    return (1 - share) * first.matrix.astype(np.float64) + share * last.matrix


def kelvin_of(neutral: np.ndarray, calibrations: Sequence[Calibration]) -> float:
    """The colour temperature of the light under which a camera sees grey as ``neutral``.

    Parameters
    ----------
    neutral : (3,) RGB of the samples.
    calibrations : by colour temperature.
    """
    kelvin = 6500.0
    for _ in range(STEPS):
        before = kelvin
        kelvin = correlated_temperature(np.linalg.solve(matrix_at(kelvin, calibrations), neutral))
        if kelvin == before:
            return kelvin
    return 2 / (1 / before + 1 / kelvin)  # some matrices let two take turns; the light is between them


def srgb_from_calibrated(calibrations: Sequence[Calibration], gains: np.ndarray) -> np.ndarray:
    """White-balanced camera RGB to linear sRGB, for the light that white balance makes neutral.

    The matrix for its temperature; Bradford's transform turns colours under such light into those under D65.
    A green or magenta tint of the light is left to the white balance alone.

    Parameters
    ----------
    calibrations : by colour temperature.
    gains : (3,) white balance.

    Returns
    -------
    (3, 3) float32; each row sums to 1.

    Raises
    ------
    ValueError
        If the camera does not see such a light, or its colours cannot be told apart.
    """
    kelvin = kelvin_of(1 / gains.astype(np.float64), calibrations)
    matrix, light = matrix_at(kelvin, calibrations), white_xyz(kelvin)
    if not (matrix @ light).min() > 0:
        raise ValueError("the colour matrix cannot be inverted")
    to_xyz = np.linalg.inv(matrix) * (matrix @ light)
    srgb: np.ndarray = np.linalg.inv(XYZ_FROM_SRGB) @ chromatic_adaptation(light) @ to_xyz
    return srgb.astype(np.float32)


def neutral_gains(xyz_to_camera: np.ndarray, light: np.ndarray) -> np.ndarray | None:
    """White-balance gains that make a light neutral.

    Parameters
    ----------
    xyz_to_camera : (3, 3).
    light : (3,) XYZ.

    Returns
    -------
    (3,) float32, the smallest 1; None if the camera does not see such a light.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return to_gains(1 / (xyz_to_camera @ light))


def to_gains(gains: np.ndarray) -> np.ndarray | None:
    """White-balance gains from numbers in their proportions.

    Parameters
    ----------
    gains : any array; only three positive numbers, none over `LARGEST_GAIN` times another, will do.

    Returns
    -------
    (3,) float32, the smallest 1; None if they are not a white balance.
    """
    if gains.shape != (3,) or not gains.min() > 0:  # "not", so that NaN is refused, too
        return None
    gains = gains / gains.min()
    return gains.astype(np.float32) if gains.max() <= LARGEST_GAIN else None

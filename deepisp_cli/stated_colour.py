"""What a raw file states about its colours: the camera's matrix, white balances, a DNG's profile."""

from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

import numpy as np

from deepisp_cli import dng_tags
from deepisp_cli.calibration import (
    Calibration,
    colour_matrix,
    is_usable,
    matrix_at,
    neutral_gains,
    read_calibrations,
    to_gains,
)
from deepisp_cli.developed_matrix import developed_matrix
from deepisp_cli.dng_tags import RawTag, Tags
from deepisp_cli.libraw import Decoded
from deepisp_cli.lights import D65, correlated_temperature, xyz_of
from deepisp_cli.xtrans import SIDE


class Colours(NamedTuple):
    """The fields of `RawImage` of these names."""

    camera_white_balance: np.ndarray | None
    daylight_white_balance: np.ndarray | None
    xyz_to_camera: np.ndarray | None
    calibrations: tuple[Calibration, ...] = ()
    profile: tuple[RawTag, ...] = ()


COLOURLESS = Colours(np.ones(3, np.float32), np.ones(3, np.float32), None)  # of a monochrome sensor


def stated_colours(decoded: Decoded, tags: Tags, source: BinaryIO) -> Colours:
    """What the file states.

    Parameters
    ----------
    decoded : by `deepisp_cli.libraw` or `deepisp_cli.dng_decode`.
    tags : of the same file.
    source : the file.
    """
    own = colour_matrix(tags)
    matrix = _xyz_to_camera(own, decoded, tags, source)
    calibrations = read_calibrations(tags)
    camera, daylight = _white_balances(decoded, tags, matrix, calibrations)
    profile: tuple[RawTag, ...] = ()
    if dng_tags.is_dng(tags):
        profile = dng_tags.profile_tags(source, matrices=own is not None and matrix is not None)
    return Colours(camera, daylight, matrix, calibrations, profile)


def _xyz_to_camera(
    own: np.ndarray | None, decoded: Decoded, tags: Tags, source: BinaryIO
) -> np.ndarray | None:
    """From XYZ to the camera's RGB, (3, 3) float32: the DNG's ``own`` matrix, else the one that LibRaw states
    or, if it states none, uses; None if there is none that is usable."""
    matrix = (decoded.xyz_to_camera if own is None else own).astype(np.float32)
    if is_usable(matrix):
        return matrix
    x_trans = decoded.colours is not None and len(decoded.colours) == SIDE
    if dng_tags.is_dng(tags) or x_trans:  # LibRaw's X-Trans demosaic may crash
        return None
    used, balanced = developed_matrix(source), to_gains(decoded.daylight_gains)
    return used if used is None or balanced is None else used / balanced[:, None]


def _white_balances(
    decoded: Decoded, tags: Tags, matrix: np.ndarray | None, calibrations: Sequence[Calibration]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The gains of R, G and B, each (3,), as shot and for D65; None: unknown, for which LibRaw's are all one.

    Parameters
    ----------
    decoded : by `deepisp_cli.libraw` or `deepisp_cli.dng_decode`.
    tags : of the same file.
    matrix : from `_xyz_to_camera`.
    calibrations : from `deepisp_cli.calibration.read_calibrations`.
    """
    camera = daylight = None
    if dng_tags.is_dng(tags):
        neutral = _as_shot_neutral(tags, matrix, calibrations)
        camera = None if neutral is None else to_gains(1 / neutral)
    else:
        camera, daylight = (
            None if np.ptp(gains) == 0 else to_gains(gains)
            for gains in (decoded.camera_gains, decoded.daylight_gains)
        )
    if matrix is not None:
        daylight = neutral_gains(_matrix_under(D65, matrix, calibrations), D65)
    return camera, daylight


def _as_shot_neutral(
    tags: Tags, matrix: np.ndarray | None, calibrations: Sequence[Calibration]
) -> np.ndarray | None:
    """Return the camera RGB of a neutral colour in the shot, not checked; None if the DNG does not say.

    AsShotWhiteXY needs a matrix. A file is to have only one of the two; with both, AsShotNeutral counts, as
    for Adobe's own programs.
    """
    if "AsShotNeutral" in tags or "AsShotWhiteXY" not in tags or matrix is None:
        return tags.get("AsShotNeutral")
    light = xyz_of(*tags["AsShotWhiteXY"])
    return _matrix_under(light, matrix, calibrations) @ light


def _matrix_under(light: np.ndarray, matrix: np.ndarray, calibrations: Sequence[Calibration]) -> np.ndarray:
    """The matrix for a light, (3,) XYZ: of several calibrations, else the only one."""
    return matrix_at(correlated_temperature(light), calibrations) if calibrations else matrix

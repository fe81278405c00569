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
    matrix = _xyz_to_camera(decoded, tags, source)
    calibrations = read_calibrations(tags)
    balances = _white_balances(decoded, tags, matrix, calibrations)
    return Colours(*balances, matrix, calibrations, _profile(source, tags))


def _xyz_to_camera(decoded: Decoded, tags: Tags, source: BinaryIO) -> np.ndarray | None:
    """From XYZ to the camera's RGB, (3, 3) float32: the DNG's matrix, else the one that LibRaw states or, if
    it states none, uses; None if there is none that is usable."""
    matrix = decoded.xyz_to_camera if (own := colour_matrix(tags)) is None else own
    with np.errstate(over="ignore"):
        matrix = matrix.astype(np.float32)
    if is_usable(matrix):
        return matrix
    x_trans = decoded.colours is not None and len(decoded.colours) == SIDE
    if dng_tags.is_dng(tags) or x_trans:  # LibRaw's X-Trans demosaic may crash
        return None
    used, balanced = developed_matrix(source), to_gains(decoded.daylight_gains)
    return used if used is None or balanced is None else used / balanced[:, None]


def _profile(source: BinaryIO, tags: Tags) -> tuple[RawTag, ...]:
    """A DNG's tags for its colours, as stored, for a DNG that is made of it."""
    if not dng_tags.is_dng(tags):
        return ()
    matrix = colour_matrix(tags)
    return dng_tags.profile_tags(source, matrices=matrix is not None and is_usable(matrix))


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
    camera = None if np.ptp(decoded.camera_gains) == 0 else to_gains(decoded.camera_gains)
    daylight = None if np.ptp(decoded.daylight_gains) == 0 else to_gains(decoded.daylight_gains)
    with np.errstate(divide="ignore", invalid="ignore"):
        if dng_tags.is_dng(tags):
            neutral = _as_shot_neutral(tags, matrix, calibrations)
            camera = None if neutral is None else to_gains(1 / neutral)
        if matrix is not None:
            daylight = neutral_gains(matrix, D65)
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
    return (matrix_at(correlated_temperature(light), calibrations) if calibrations else matrix) @ light

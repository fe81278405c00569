"""The gains against lens shading in a DNG: phones and drones darken the corners, each colour differently.

GainMap and FixVignetteRadial of OpcodeList2 and 3 (Adobe DNG Specification 1.7, chapter 7). They count from
the active area: a place is the centre of a pixel, as a share of that area's height or width.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from deepisp_cli.demosaic import phases
from deepisp_cli.dng_opcodes import FIX_VIGNETTE_RADIAL, GAIN_MAP, opcodes, optical_centre
from deepisp_cli.dng_tags import Tags

BLOCK_ROWS = 252  # corrected at a time, which bounds the memory; whole cells of 2x2 and 6x6 samples
_GAIN_MAP = ">10I4dI"  # its numbers, before the gains


class GainMap(NamedTuple):
    """Gains on a grid, between which they are interpolated."""

    area: tuple[int, int, int, int]  # top, left, bottom, right: what is corrected
    planes: range
    pitch: tuple[int, int]  # of its rows and columns, every so many
    spacing: tuple[float, float]  # of the grid's points, vertical and horizontal, as a share
    origin: tuple[float, float]  # of the grid, likewise
    gains: np.ndarray  # (vertical, horizontal, planes) float32; the last plane is also for those beyond it

    def gain(self, rows: np.ndarray, columns: np.ndarray, plane: int, size: tuple[int, int]) -> np.ndarray:
        """(rows, columns) float32: the gains of a plane there, in an active area of ``size``."""
        gain = np.ones((len(rows), len(columns)), np.float32)
        if plane not in self.planes:
            return gain
        values = self.gains[..., min(plane - self.planes.start, self.gains.shape[2] - 1)]
        chosen = []
        for axis, places in enumerate((rows, columns)):
            start, end = self.area[axis], self.area[axis + 2]
            inside = (places >= start) & (places < end) & ((places - start) % self.pitch[axis] == 0)
            chosen.append(np.flatnonzero(inside))
            share = (places[inside] + 0.5) / size[axis]
            values = _interpolate(values, axis, share - self.origin[axis], self.spacing[axis])
        gain[np.ix_(*chosen)] = values
        return gain


class Vignette(NamedTuple):
    """FixVignetteRadial: a polynomial of the distance from the optical centre."""

    coefficients: tuple[float, ...]  # of the 2nd, 4th, ... power; a distance of 1 is the furthest corner
    centre: tuple[float, float]  # vertical and horizontal, as a share

    def gain(self, rows: np.ndarray, columns: np.ndarray, plane: int, size: tuple[int, int]) -> np.ndarray:
        """As `GainMap.gain`; the same for all planes."""
        centre, unit = optical_centre(self.centre, size)
        squares = ((rows + 0.5 - centre[0]) ** 2)[:, None] + (columns + 0.5 - centre[1]) ** 2
        squares = (squares / unit).astype(np.float32)
        return np.polyval((*self.coefficients[::-1], 1), squares)


def correct_shading(
    samples: np.ndarray,
    pattern: str | None,
    black: np.ndarray,
    tags: Tags,
    offset: Sequence[int] | np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    """Apply the gains of OpcodeList2 and 3.

    Parameters
    ----------
    samples : (H, W) counts of a mosaic, or (H, W, 3) linear counts.
    pattern : CFA colours of ``samples[:2, :2]`` or ``samples[:6, :6]`` in reading order; None if the counts
        are linear.
    black : (rows, columns) counts, repeating from ``samples[0, 0]``; (3,) of linear counts.
    offset : (top, left) of ``samples`` in the active area.
    size : (height, width) of the active area.

    Returns
    -------
    ndarray
        ``samples`` themselves if there are no gains, else float32 counts of the same black and white level.

    Raises
    ------
    ValueError, struct.error
        If the gains are damaged.
    """
    readers: dict[int, Callable[[bytes], GainMap | Vignette]] = {
        GAIN_MAP: _read_gain_map,
        FIX_VIGNETTE_RADIAL: _read_vignette,
    }
    corrections = [
        (number, readers[code](parameters))
        for number in (2, 3)
        for code, _, parameters in opcodes(tags, number)
        if code in readers
    ]
    if not corrections:
        return samples
    parts = [
        (correction, part)
        for number, correction in corrections
        for part in _planes(pattern, demosaiced=number == 3)
    ]
    height, width = samples.shape[:2]
    columns = np.arange(width)
    corrected = np.empty(samples.shape, np.float32)
    for start in range(0, height, BLOCK_ROWS):
        rows = np.arange(start, min(start + BLOCK_ROWS, height))
        level = black[np.ix_(rows % black.shape[0], columns % black.shape[1])] if pattern else black
        light = samples[rows].astype(np.float32) - level
        with np.errstate(over="ignore", invalid="ignore"):
            for correction, (plane, down, across) in parts:
                part = light[down, across] if pattern else light[..., plane]
                part *= correction.gain(rows[down] + offset[0], columns[across] + offset[1], plane, size)
        if not np.isfinite(light).all():
            raise ValueError("its gains against lens shading are too large")
        corrected[rows] = light + level
    return corrected


def _planes(pattern: str | None, demosaiced: bool) -> Iterator[tuple[int, slice, slice]]:
    """Each plane, and the rows and columns of its samples. A mosaic is one plane before the demosaic, and
    holds samples of three afterwards."""
    every = slice(None)
    if pattern is None:
        yield from ((plane, every, every) for plane in range(3))
    elif not demosaiced:
        yield 0, every, every
    else:
        yield from phases(pattern)


def _interpolate(values: np.ndarray, axis: int, distance: np.ndarray, spacing: float) -> np.ndarray:
    """Linear between the points of an axis of ``values``, at distances from the first; level beyond."""
    last = values.shape[axis] - 1
    position = (distance / spacing).clip(0, last)
    before = position.astype(np.intp)
    after = np.minimum(before + 1, last)
    share = np.expand_dims((position - before).astype(np.float32), 1 - axis)
    return (1 - share) * values.take(before, axis) + share * values.take(after, axis)


def _read_gain_map(parameters: bytes) -> GainMap:
    numbers = struct.unpack_from(_GAIN_MAP, parameters)
    plane, planes, *pitch = numbers[4:8]
    shape = (*numbers[8:10], numbers[14])
    gains = np.frombuffer(parameters, ">f4", int(np.prod(shape)), struct.calcsize(_GAIN_MAP)).reshape(shape)
    # an axis of one point needs no spacing
    spacing = [step if points > 1 else 1.0 for step, points in zip(numbers[10:12], shape[:2], strict=True)]
    if not (min(pitch) > 0 and min(spacing) > 0):
        raise ValueError("its gain map has no grid")
    if not (np.isfinite(numbers[10:14]).all() and np.isfinite(gains).all() and gains.min() >= 0):
        raise ValueError("its gain map holds what is no gain")
    return GainMap(
        area=numbers[:4],
        planes=range(plane, plane + planes),
        pitch=tuple(pitch),
        spacing=(spacing[0], spacing[1]),
        origin=numbers[12:14],
        gains=gains.astype(np.float32),
    )


def _read_vignette(parameters: bytes) -> Vignette:
    *coefficients, horizontal, vertical = struct.unpack_from(">7d", parameters)
    if not np.isfinite([*coefficients, horizontal, vertical]).all():
        raise ValueError("its vignetting is not a number")
    return Vignette(tuple(coefficients), (vertical, horizontal))

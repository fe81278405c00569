"""What a DNG's opcodes correct in its samples: lens shading (phones and drones darken the corners, each
colour differently), and curves under which Adobe's programs compress pictures.

GainMap and FixVignetteRadial of OpcodeList2 and 3, MapPolynomial of OpcodeList2 (Adobe DNG Specification 1.7,
chapter 7). They count from the active area: a place is the centre of a pixel, as a share of that area's
height or width.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from deepisp_cli.demosaic import phases
from deepisp_cli.dng_opcodes import (
    CORRECTIONS,
    FIX_VIGNETTE_RADIAL,
    GAIN_MAP,
    MAP_POLYNOMIAL,
    opcodes,
    optical_centre,
)
from deepisp_cli.dng_tags import Tags

BLOCK_ROWS = 252  # corrected at a time, which bounds the memory; whole cells of 2x2 and 6x6 samples
LARGEST_LIGHT = 1e4  # share of white that gains and polynomials may lead to
LARGEST_DEGREE = 8  # of a polynomial, by the specification
_AREA = ">8I"
_GAIN_MAP = ">2I4dI"  # its numbers between the area and the gains


class Area(NamedTuple):
    """The part of the picture that is corrected."""

    edges: tuple[int, int, int, int]  # top, left, bottom, right
    planes: range
    pitch: tuple[int, int]  # of its rows and columns, every so many

    def holds(self, places: np.ndarray, axis: int) -> np.ndarray:
        """Which rows (``axis`` 0) or columns (1) belong to it."""
        start, end = self.edges[axis], self.edges[axis + 2]
        return (places >= start) & (places < end) & ((places - start) % self.pitch[axis] == 0)


class Place(NamedTuple):
    """Where samples lie: rows and columns of the active area of ``size``, and their plane."""

    rows: np.ndarray
    columns: np.ndarray
    plane: int
    size: tuple[int, int]


class GainMap(NamedTuple):
    """Gains on a grid, between which they are interpolated."""

    area: Area
    spacing: tuple[float, float]  # of the grid's points, vertical and horizontal, as a share
    origin: tuple[float, float]  # of the grid, likewise
    gains: np.ndarray  # (vertical, horizontal, planes) float32; the last plane is also for those beyond it

    def apply(self, light: np.ndarray, place: Place, white: np.ndarray) -> None:
        """Correct samples in place.

        Parameters
        ----------
        light : (rows, columns) float32 counts above black.
        place : of these samples in the raw.
        white : of the same shape, or a number: what is white of these.
        """
        if place.plane not in self.area.planes:
            return
        values = self.gains[..., min(place.plane - self.area.planes.start, self.gains.shape[2] - 1)]
        inside = [self.area.holds(places, axis) for axis, places in enumerate((place.rows, place.columns))]
        for axis, places in enumerate((place.rows, place.columns)):
            share = (places[inside[axis]] + 0.5) / place.size[axis]
            values = _interpolate(values, axis, share - self.origin[axis], self.spacing[axis])
        light[np.ix_(*inside)] *= values


class Vignette(NamedTuple):
    """FixVignetteRadial: a polynomial of the distance from the optical centre."""

    coefficients: tuple[float, ...]  # of the 2nd, 4th, ... power; a distance of 1 is the furthest corner
    centre: tuple[float, float]  # vertical and horizontal, as a share

    def apply(self, light: np.ndarray, place: Place, white: np.ndarray) -> None:
        """As `GainMap.apply`; the same for all planes."""
        centre, furthest_squared = optical_centre(self.centre, place.size)
        squares = ((place.rows + 0.5 - centre[0]) ** 2)[:, None] + (place.columns + 0.5 - centre[1]) ** 2
        squares = (squares / furthest_squared).astype(np.float32)
        light *= np.polyval(np.array((*self.coefficients[::-1], 1), np.float32), squares)


class Polynomial(NamedTuple):
    """MapPolynomial: of the light, where 1 is white."""

    area: Area
    coefficients: tuple[float, ...]  # from the constant one on

    def apply(self, light: np.ndarray, place: Place, white: np.ndarray) -> None:
        """As `GainMap.apply`."""
        if place.plane not in self.area.planes:
            return
        where = np.ix_(self.area.holds(place.rows, 0), self.area.holds(place.columns, 1))
        scale = np.broadcast_to(white, light.shape)[where]
        light[where] = scale * np.polyval(self.coefficients[::-1], light[where] / scale)


def correct(
    samples: np.ndarray,
    pattern: str | None,
    black: np.ndarray,
    whites: tuple[np.ndarray, np.ndarray],
    tags: Tags,
    offset: Sequence[int] | np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    """Apply the corrections of OpcodeList2 and 3, in that order.

    Parameters
    ----------
    samples : (H, W) counts of a mosaic, or (H, W, 3) linear counts.
    pattern : CFA colours of ``samples[:2, :2]`` or ``samples[:6, :6]`` in reading order; None if the counts
        are linear.
    black : (rows, columns) counts, repeating from ``samples[0, 0]``; (3,) of linear counts.
    whites : each (rows, columns) counts, repeating likewise, or (3,) of linear counts
        The white that the file states, and the lower one at which the sensor clips, or the same. A mosaic's
        clipped samples stay white at least: else one colour would become less, and highlights magenta.
    tags : from `dng_tags.read_tags`.
    offset : (top, left) of ``samples`` in the active area.
    size : (height, width) of the active area.

    Returns
    -------
    (H, W) or (H, W, 3)
        ``samples`` themselves if there is nothing to correct, else float32 counts with the same levels.

    Raises
    ------
    ValueError, struct.error
        If the corrections are damaged.
    """
    corrections = [
        (number, READERS[code](parameters))
        for number in (2, 3)
        for code, _, parameters in opcodes(tags, number)
        if code in CORRECTIONS[number]
    ]
    if not corrections:
        return samples
    parts = [
        (correction, part)
        for number, correction in corrections
        for part in _planes(pattern, demosaiced=number == 3)
    ]
    # a polynomial may be for a scale of the file's own, whose end is not where the sensor clips
    own_scale = any(isinstance(correction, Polynomial) for _, correction in corrections)
    stays_white = pattern is not None and not (own_scale and np.array_equal(*whites))
    height, width = samples.shape[:2]
    columns = np.arange(width)
    corrected = np.empty(samples.shape, np.float32)
    for start in range(0, height, BLOCK_ROWS):
        rows = np.arange(start, min(start + BLOCK_ROWS, height))
        level, white, clips_at = (
            each[np.ix_(rows % each.shape[0], columns % each.shape[1])] if pattern else each
            for each in (black, *whites)
        )
        light, span = samples[rows].astype(np.float32) - level, white - level
        for correction, (plane, down, across) in parts:
            place = Place(rows[down] + offset[0], columns[across] + offset[1], plane, size)
            part, scale = (
                (light[down, across], span[down, across]) if pattern else (light[..., plane], span[plane])
            )
            correction.apply(part, place, scale)
        if not (np.abs(light) <= LARGEST_LIGHT * span).all():  # not a number is not
            raise ValueError("its gains against lens shading, or its polynomials, are too large")
        light += level
        if stays_white:
            np.maximum(light, clips_at, out=light, where=samples[rows] >= clips_at)
        corrected[rows] = light
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


def _read_area(parameters: bytes) -> tuple[Area, bytes]:
    """The area, and the parameters after it."""
    top, left, bottom, right, plane, planes, down, across = struct.unpack_from(_AREA, parameters)
    if not (down and across):
        raise ValueError("its correction has rows or columns without a pitch")
    area = Area((top, left, bottom, right), range(plane, plane + planes), (down, across))
    return area, parameters[struct.calcsize(_AREA) :]


def _read_gain_map(parameters: bytes) -> GainMap:
    area, rest = _read_area(parameters)
    *points, down, right, top, left, planes = struct.unpack_from(_GAIN_MAP, rest)
    shape = (*points, planes)
    gains = np.frombuffer(rest, ">f4", int(np.prod(shape)), struct.calcsize(_GAIN_MAP)).reshape(shape)
    # an axis of one point needs no spacing
    spacing = (down if points[0] > 1 else 1.0, right if points[1] > 1 else 1.0)
    if not min(spacing) > 0:
        raise ValueError("its gain map has no grid")
    if not (np.isfinite([down, right, top, left]).all() and np.isfinite(gains).all() and gains.min() >= 0):
        raise ValueError("its gain map holds what is no gain")
    return GainMap(area, spacing, (top, left), gains.astype(np.float32))


def _read_vignette(parameters: bytes) -> Vignette:
    *coefficients, horizontal, vertical = struct.unpack_from(">7d", parameters)
    if not np.isfinite([*coefficients, horizontal, vertical]).all():
        raise ValueError("its vignetting is not a number")
    return Vignette(tuple(coefficients), (vertical, horizontal))


def _read_polynomial(parameters: bytes) -> Polynomial:
    area, rest = _read_area(parameters)
    (degree,) = struct.unpack_from(">I", rest)
    if degree > LARGEST_DEGREE:
        raise ValueError(f"its polynomial is of degree {degree}")
    coefficients = struct.unpack_from(f">{degree + 1}d", rest, 4)
    if not np.isfinite(coefficients).all():
        raise ValueError("its polynomial is not of numbers")
    return Polynomial(area, coefficients)


READERS: dict[int, Callable[[bytes], GainMap | Vignette | Polynomial]] = {
    GAIN_MAP: _read_gain_map,
    FIX_VIGNETTE_RADIAL: _read_vignette,
    MAP_POLYNOMIAL: _read_polynomial,
}

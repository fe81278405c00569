"""The distortion of a lens, and its shift of red and blue against green, as a DNG describes them.

The warps of OpcodeList3 (Adobe DNG Specification 1.7, chapter 7) say for each pixel of the picture where in
the active area its light fell. The restored picture is warped, not the samples: the network knows
the noise of a sensor's grid, not of resampled samples. A place is (vertical, horizontal), in pixels from the
corner of the active area; the centre of its first pixel is (0.5, 0.5).
"""

import struct
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.Image import Resampling, Transform

from deepisp_cli.dng_opcodes import (
    LENS_WARPS,
    WARP_FISHEYE,
    WARP_RECTILINEAR,
    WARP_RECTILINEAR_2,
    opcodes,
    optical_centre,
)
from deepisp_cli.dng_tags import Tags
from deepisp_cli.machine import on_blocks

CELL = 16  # pixels between the places that are computed; in between linear, at most 0.01 off at 12 megapixels
BLOCK_ROWS = 16 * CELL  # corrected at a time
PADDING = 2 * CELL  # of repeated edge, so that no cell is partly beyond it
MARGIN = 4  # pixels around a place that the interpolation uses, and one for the lines between places
Rectangle = tuple[np.ndarray, tuple[int, int]]
"""(top, left) in the active area, and (height, width)."""


class Distortion(NamedTuple):
    """One warp. Distances are from the lens's centre; that of the furthest corner is 1."""

    centre: tuple[float, float]  # vertical and horizontal, as a share of the active area
    radial: np.ndarray  # (3, n): of R, G and B, the factors of powers, from the 0th, of the distance
    tangential: np.ndarray  # (3, 2): vertical, horizontal
    valid: np.ndarray  # (3, 2): the distances between which `radial` holds
    reciprocal: bool = False  # distances are divided by the polynomial (WarpRectilinear2)
    fisheye: bool = False  # it turns angles to the lens's axis, in radians, into distances

    def sources(self, places: np.ndarray, plane: int, size: tuple[int, int]) -> np.ndarray:
        """(..., 2): where the light of each of ``places`` (..., 2) fell, in an active area of ``size``."""
        centre, furthest_squared = optical_centre(self.centre, size)
        furthest = np.sqrt(furthest_squared)
        away = (places - centre) / furthest
        square = np.minimum((away**2).sum(-1, keepdims=True), 1)
        along, across = self.tangential[plane], self.tangential[plane, ::-1]
        shift = along * (square + 2 * away**2) + across * 2 * away.prod(-1, keepdims=True)
        return centre + furthest * (away * self._ratio(np.sqrt(square), plane) + shift)

    def _ratio(self, distance: np.ndarray, plane: int) -> np.ndarray:
        """How many times as far from the centre the light fell."""
        polynomial = np.polynomial.polynomial.polyval
        if self.fisheye:
            fell = polynomial(np.arctan(distance), self.radial[plane])
            return np.divide(fell, distance, out=np.ones_like(fell), where=distance > 0)
        ratio = polynomial(distance.clip(*self.valid[plane]), self.radial[plane])
        return 1 / ratio if self.reciprocal else ratio


@dataclass(frozen=True, eq=False)
class LensWarp:
    """How the pixels of a developed area become the picture.

    Attributes
    ----------
    distortions : tuple of Distortion
        In the order in which they are corrected.
    size : (height, width) of the active area.
    crop : Rectangle
        The picture.
    area : Rectangle
        What has to be developed for it, at least as large.
    """

    distortions: tuple[Distortion, ...]
    size: tuple[int, int]
    crop: Rectangle
    area: Rectangle

    def correct(self, picture: np.ndarray) -> np.ndarray:
        """Warp and crop a picture.

        Parameters
        ----------
        picture : (H, W, 3) float32
            ``area``; is overwritten.

        Returns
        -------
        ndarray
            ``crop``, a view of ``picture``.
        """
        height, width = self.crop[1]
        for plane in range(3):
            image = Image.fromarray(np.pad(picture[..., plane], PADDING, mode="edge"))

            def fill(rows: slice, plane: int = plane, image: Image.Image = image) -> None:
                picture[rows, :width, plane] = self._block(image, rows, plane)

            on_blocks(fill, height, BLOCK_ROWS)
        return picture[:height, :width]

    def _block(self, image: Image.Image, rows: slice, plane: int) -> np.ndarray:
        """Rows of a plane of the crop, from the padded plane of the area.

        Lanczos interpolation to twice the size, linear between that: exact on ramps, and where nothing moves.
        (Pillow's own bicubic warp is neither sharp nor smooth: ramps get steps.)
        """
        down, across = _ends(rows.start, rows.stop), _ends(0, self.crop[1][1])
        sources = self._sources(down, across, plane) - self.area[0] + PADDING
        sources = sources.clip(1, np.add(self.area[1], 2 * PADDING - 1))
        first = max(int(sources[..., 0].min()) - 2, 0)
        end = min(int(sources[..., 0].max()) + 3, image.height)
        box = (0.25, first + 0.25, image.width - 0.25, end - 0.25)  # every second sample is an original one
        doubled = image.resize((2 * image.width - 1, 2 * (end - first) - 1), Resampling.LANCZOS, box)
        corners = 2 * (sources - (first + 0.25, 0.25))[..., ::-1]
        mesh = _mesh(down - rows.start, across, corners)
        size = (int(across[-1]), rows.stop - rows.start)
        return np.asarray(doubled.transform(size, Transform.MESH, mesh, Resampling.BILINEAR))

    def _sources(self, down: np.ndarray, across: np.ndarray, plane: int) -> np.ndarray:
        """(down, across, 2): where the light fell at places that count from the crop's corner."""
        places = np.stack(np.meshgrid(down, across, indexing="ij"), -1) + self.crop[0].astype(float)
        for distortion in reversed(self.distortions):
            places = distortion.sources(places, plane, self.size)
        return places


def read_lens_warp(tags: Tags, crop: Rectangle, size: tuple[int, int]) -> LensWarp | None:
    """Read the distortions that a DNG lists.

    Parameters
    ----------
    tags : from `dng_tags.read_tags`.
    crop : ((top, left), (height, width)) of the picture in the active area.
    size : (height, width) of the active area.

    Returns
    -------
    LensWarp or None
        None if it lists none.

    Raises
    ------
    ValueError, struct.error
        If they are damaged.
    """
    distortions = tuple(
        _read_distortion(code, parameters) for code, _, parameters in opcodes(tags, 3) if code in LENS_WARPS
    )
    if not distortions:
        return None
    warp = LensWarp(distortions, size, crop, crop)
    down, across = (_ends(0, length) for length in crop[1])
    sources = np.stack([warp._sources(down, across, plane) for plane in range(3)])
    if not np.isfinite(sources).all():
        raise ValueError("its lens distortion is not a number")
    first = (np.floor(sources.min((0, 1, 2))) - MARGIN).clip(0, size).astype(int)
    end = (np.ceil(sources.max((0, 1, 2))) + MARGIN).clip(0, size).astype(int)
    if (end - first < 2).any():
        raise ValueError("its lens distortion moves everything out of the picture")
    shape = np.maximum(end - first, crop[1])
    return replace(warp, area=(np.minimum(first, size - shape), (int(shape[0]), int(shape[1]))))


def _ends(start: int, stop: int) -> np.ndarray:
    """Every `CELL` pixels from ``start``, and ``stop``."""
    return np.append(np.arange(start, stop, CELL), stop)


def _mesh(
    down: np.ndarray, across: np.ndarray, corners: np.ndarray
) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    """What Pillow warps: (left, top, right, bottom) of each cell and, (x, y) in turn, where its upper left,
    lower left, lower right and upper right ``corners`` (down, across, 2) are from."""
    cells = [
        (left, top, right, bottom)
        for top, bottom in pairwise(down.tolist())
        for left, right in pairwise(across.tolist())
    ]
    sources = (corners[:-1, :-1], corners[1:, :-1], corners[1:, 1:], corners[:-1, 1:])
    quads = np.concatenate(sources, axis=-1).reshape(-1, 8)
    return list(zip(cells, map(tuple, quads.tolist()), strict=True))


def _read_distortion(code: int, parameters: bytes) -> Distortion:
    numbers = {WARP_RECTILINEAR: 6, WARP_FISHEYE: 4, WARP_RECTILINEAR_2: 19}[code]  # of each colour
    (planes,) = struct.unpack_from(">I", parameters)
    if not 1 <= planes <= 4:
        raise ValueError(f"its lens distortion is for {planes} colours")
    *factors, horizontal, vertical = struct.unpack_from(f">{numbers * planes + 2}d", parameters, 4)
    colours = np.reshape(factors, (planes, numbers))[[plane if plane < planes else 0 for plane in range(3)]]
    centre, everywhere = (vertical, horizontal), np.tile((0.0, 1.0), (3, 1))
    if code == WARP_RECTILINEAR:
        return Distortion(centre, _powers(colours[:, :4], 0), colours[:, 4:], everywhere)
    if code == WARP_FISHEYE:
        return Distortion(centre, _powers(colours, 1), np.zeros((3, 2)), everywhere, fisheye=True)
    (reciprocal,) = struct.unpack_from(">I", parameters, 4 + 8 * (numbers * planes + 2))
    valid = colours[:, 17:]
    if not ((valid[:, 0] >= 0) & (valid[:, 0] < valid[:, 1]) & (valid[:, 1] <= 1)).all():
        raise ValueError("its lens distortion holds nowhere")
    return Distortion(centre, colours[:, :15], colours[:, 15:17], valid, bool(reciprocal))


def _powers(factors: np.ndarray, first: int) -> np.ndarray:
    """``factors`` (3, n) of every second power from the ``first`` one, as those of all powers."""
    powers = np.zeros((3, 2 * factors.shape[1]))
    powers[:, first::2] = factors
    return powers

"""The corrections that a DNG lists for its raw data, and the first of them: bad pixels.

OpcodeList1 is for the samples as stored, 2 for linear ones, 3 for the demosaiced picture (Adobe DNG
Specification 1.7, chapter 7).
"""

import struct
from collections.abc import Sequence

import numpy as np

from deepisp_cli.dng_tags import Tags, is_linear

WARP_RECTILINEAR, WARP_FISHEYE, FIX_VIGNETTE_RADIAL, MAP_POLYNOMIAL, GAIN_MAP = 1, 2, 3, 8, 9
FIX_BAD_PIXELS_CONSTANT, FIX_BAD_PIXELS_LIST = 4, 5
WARP_RECTILINEAR_2 = 14
CORRECTIONS = {2: (FIX_VIGNETTE_RADIAL, GAIN_MAP, MAP_POLYNOMIAL), 3: (FIX_VIGNETTE_RADIAL, GAIN_MAP)}
LENS_WARPS = (WARP_RECTILINEAR, WARP_FISHEYE, WARP_RECTILINEAR_2)
_OPTIONAL = 1  # flag: the picture is usable without it
MOST_OPCODES = 100  # of a list; files have a few


def opcodes(tags: Tags, number: int) -> list[tuple[int, bool, bytes]]:
    """The entries of OpcodeList1, 2 or 3: of each its code, whether it is optional, and its parameters.

    Raises
    ------
    ValueError, struct.error
        If the list is damaged.
    """
    tag = f"OpcodeList{number}"
    data = tags[tag].tobytes() if tag in tags else b""
    (count,) = struct.unpack_from(">I", data) if len(data) >= 4 else (0,)
    if count > MOST_OPCODES:
        raise ValueError(f"more than {MOST_OPCODES} entries in {tag}")
    entries: list[tuple[int, bool, bytes]] = []
    position, newer = 4, False  # after the count; whether the last entry is one that old programs skip
    for _ in range(count):
        code, _version, flags, length = struct.unpack_from(">4I", data, position)
        optional = bool(flags & _OPTIONAL)
        if not (newer and code in (WARP_RECTILINEAR, WARP_FISHEYE)):  # else it is for these programs
            entries.append((code, optional, data[position + 16 : position + 16 + length]))
            newer = optional and code == WARP_RECTILINEAR_2
        position += 16 + length
    return entries


def optical_centre(share: Sequence[float], size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """The centre of a lens, given as a share (vertical, horizontal) of an active area of ``size``: (2,) in
    pixels; and the square of the distance that counts as 1, that of its furthest corner."""
    centre = np.multiply(share, size)
    furthest = np.maximum(centre, size - centre)
    return centre, float((furthest**2).sum())


def unapplied_lists(tags: Tags) -> list[str]:
    """Names of the lists with corrections that are not applied and that the file does not call optional."""
    applied: dict[int, tuple[int, ...]] = {
        1: () if is_linear(tags) else (FIX_BAD_PIXELS_CONSTANT, FIX_BAD_PIXELS_LIST),
        2: CORRECTIONS[2],
        3: (*CORRECTIONS[3], *LENS_WARPS),
    }
    return [
        f"OpcodeList{number}"
        for number, known in applied.items()
        if any(code not in known and not optional for code, optional, _ in opcodes(tags, number))
    ]


def shades_after_warp(tags: Tags) -> bool:
    """Whether OpcodeList3 corrects shading after distortion; it is always done before."""
    codes = [code for code, *_ in opcodes(tags, 3)]
    first = next((place for place, code in enumerate(codes) if code in LENS_WARPS), len(codes))
    return any(code in CORRECTIONS[3] for code in codes[first:])


def fix_bad_pixels(samples: np.ndarray, tags: Tags, period: int) -> np.ndarray:
    """Replace the samples that OpcodeList1 calls bad with the mean of their good neighbours of that colour.

    Parameters
    ----------
    samples : (H, W) counts of a mosaic, margins included, LinearizationTable applied.
    tags : from `dng_tags.read_tags`.
    period : samples after which the mosaic repeats, down and across.

    Returns
    -------
    (H, W), ``samples`` themselves if none is bad.
    """
    entries = opcodes(tags, 1)
    if not entries:
        return samples
    height, width = samples.shape
    bad = np.zeros((height, width), bool)
    for code, _, data in entries:
        if code == FIX_BAD_PIXELS_CONSTANT:
            constant = struct.unpack_from(">I", data)[0]  # of the samples as stored
            table = tags.get("LinearizationTable", range(constant + 1))
            if constant < len(table):
                bad |= samples == table[constant]
        elif code == FIX_BAD_PIXELS_LIST:
            _phase, points, areas = struct.unpack_from(">3I", data)
            for row, column in struct.iter_unpack(">2I", data[12 : 12 + 8 * points]):
                bad[row : row + 1, column : column + 1] = True
            for top, left, bottom, right in struct.iter_unpack(">4I", data[12 + 8 * points :][: 16 * areas]):
                bad[top:bottom, left:right] = True
    if not bad.any():
        return samples
    rows, columns = np.nonzero(bad)
    total = np.zeros(len(rows))
    good = np.zeros(len(rows))
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)):
        other_rows, other_columns = rows + period * down, columns + period * right
        inside = (other_rows >= 0) & (other_rows < height)
        inside &= (other_columns >= 0) & (other_columns < width)
        beside = np.where(inside, other_rows, rows), np.where(inside, other_columns, columns)
        usable = ~bad[beside]  # neighbours outside were replaced by the sample itself, which is bad
        total += np.where(usable, samples[beside], 0)
        good += usable
    fixed = samples.copy()
    found = good > 0
    means = total[found] / good[found]
    whole = np.issubdtype(samples.dtype, np.integer)
    fixed[rows[found], columns[found]] = np.rint(means) if whole else means
    return fixed

"""Which part of the stored samples a DNG shows, and its black and white levels, as its tags state them.

They are read from the tags because LibRaw rounds fractional black levels, hides repeating ones, does not
apply the default crop, and loses the black level of lossy JPEG data. Areas are (top, left) and (height,
width); levels are counts.
"""

import numpy as np

from deepisp_cli.dng_tags import Tags, first_number, is_dng, is_floating
from deepisp_cli.errors import UnsupportedRawError

DELTAS = ("BlackLevelDeltaV", "BlackLevelDeltaH")  # of rows, of columns
_LARGEST_TILE = 64  # sides of a tile of black levels
_BRIGHTEST = 16.0  # EV of a BaselineExposure that is believed


def active_area(tags: Tags, stored: tuple[int, ...]) -> tuple[np.ndarray, tuple[int, int]] | None:
    """Return the DNG's ActiveArea.

    Parameters
    ----------
    tags : from `read_tags`.
    stored : shape of the data, (H, W) or (H, W, 3).

    Returns
    -------
    ((top, left), (height, width)); None if it is missing or does not fit.
    """
    if is_dng(tags) and "ActiveArea" in tags:
        top, left, bottom, right = tags["ActiveArea"].astype(int)
        if 0 <= top < bottom <= stored[0] and 0 <= left < right <= stored[1]:
            return np.array([top, left]), (int(bottom - top), int(right - left))
    return None


def default_crop(tags: Tags, visible: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the DNG's default crop within the visible area, whose (height, width) is ``visible``.

    DefaultCropOrigin and DefaultCropSize are (horizontal, vertical) and count from the ActiveArea.
    DefaultUserCrop, the crop that the photographer chose in the camera, is a part of that. A crop that does
    not fit is ignored; other raw files keep the visible area.
    """
    offset, shape = _sensor_crop(tags, visible)
    user = tags.get("DefaultUserCrop", np.array([0.0, 0.0, 1.0, 1.0]))
    if is_dng(tags) and user.shape == (4,) and (user >= 0).all() and (user <= 1).all():
        (top, left), (bottom, right) = np.rint(user.reshape(2, 2) * shape).astype(int)
        if bottom - top >= 2 and right - left >= 2:
            return offset + np.array([top, left]), (int(bottom - top), int(right - left))
    return offset, shape


def _sensor_crop(tags: Tags, visible: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    origin = tags.get("DefaultCropOrigin", np.zeros(2))
    size = tags.get("DefaultCropSize", np.zeros(2))
    if is_dng(tags) and origin.shape == size.shape == (2,) and np.isfinite([origin, size]).all():
        offset, shape = np.rint(origin[::-1]).astype(int), np.rint(size[::-1]).astype(int)
        if (offset >= 0).all() and (shape >= 2).all() and (offset + shape <= visible).all():
            return offset, (int(shape[0]), int(shape[1]))
    return np.zeros(2, int), visible


def mosaic_levels(tags: Tags, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the levels of a mosaic.

    Parameters
    ----------
    tags : from `read_tags`.
    offset : (2,), the crop's top and left in the active area.

    Returns
    -------
    black : (rows, columns) float32 counts, at least 2x2, repeating from the crop's first sample.
    white : (rows, columns) float32 counts, repeating likewise: all samples have one scale, from the highest
        level of black to white (DNG 1.7, chapter 5).
    """
    tile = _tile(tags)
    rows, columns = tile.shape
    scale = _white_level(tags)[0] - _highest(tile, tags)
    tile = np.roll(tile, -offset, axis=(0, 1))  # repeats from the active area
    tile = np.tile(tile, (2 if rows == 1 else 1, 2 if columns == 1 else 1))
    return tile.astype(np.float32), (tile + scale).astype(np.float32)


def most_by_deltas(tags: Tags) -> float:
    """By how much the highest black level of any sample is above the highest of `mosaic_levels`; 0 where rows
    and columns have none of their own."""
    if not (is_dng(tags) and any(tag in tags for tag in DELTAS)):
        return 0.0
    tile = _tile(tags)
    return _highest(tile, tags) - float(tile.max())


def _tile(tags: Tags) -> np.ndarray:
    """The black levels that repeat from the active area, (rows, columns)."""
    levels = tags.get("BlackLevel", np.zeros(1))
    likely = (2, 2) if levels.size == 4 else (1, 1)
    rows, columns = (int(number) for number in tags.get("BlackLevelRepeatDim", likely))
    if max(rows, columns) > _LARGEST_TILE:
        raise ValueError(f"{rows}x{columns} black levels")
    if levels.size in (1, 4) and rows * columns != levels.size:  # some writers contradict themselves
        rows, columns = likely
    return levels.reshape(rows, columns)


def _highest(tile: np.ndarray, tags: Tags) -> float:
    """The highest black level of any sample: that of a place of the tile, and the most that is added to its
    rows and columns."""
    rows, columns = tile.shape
    down, across = (np.atleast_1d(tags.get(tag, np.zeros(1))) for tag in DELTAS)
    most_down = [max(down[row::rows], default=down.max()) for row in range(rows)]
    most_across = [max(across[column::columns], default=across.max()) for column in range(columns)]
    return float((tile + np.array(most_down)[:, None] + np.array(most_across)).max())


def subtract_deltas(samples: np.ndarray, tags: Tags, offset: np.ndarray) -> np.ndarray:
    """Subtract what BlackLevelDeltaV and -H add to the black level of each row and column of the active area.

    Parameters
    ----------
    samples : (H, W) counts of the crop.
    tags : from `read_tags`.
    offset : (2,), the crop's top and left in the active area.

    Returns
    -------
    (H, W), ``samples`` themselves if nothing is added, else float32.
    """
    for axis, tag in enumerate(DELTAS):
        if tag in tags and tags[tag].any():
            if not np.isfinite(tags[tag]).all():
                raise ValueError(f"{tag} holds a value that is not a number")
            deltas = tags[tag][offset[axis] :][: samples.shape[axis]].astype(np.float32)
            samples = np.subtract(samples, np.expand_dims(deltas, 1 - axis), dtype=np.float32)
    return samples


def linear_levels(tags: Tags) -> tuple[np.ndarray, np.ndarray]:
    """Return black (3,) and white (3,) of a linear DNG; UnsupportedRawError if its black level varies."""
    black = tags.get("BlackLevel", np.zeros(1))
    if black.size % 3 == 0 and (black.reshape(-1, 3) == black[:3]).all():  # a tile of equal levels
        black = black[:3]
    deltas = [tags[tag].any() for tag in DELTAS if tag in tags]
    if black.size not in (1, 3) or any(deltas):
        raise UnsupportedRawError(
            "a linear DNG whose black level varies over the picture is not supported; save it with"
            " black subtracted"
        )
    return np.resize(black, 3).astype(np.float32), np.resize(_white_level(tags), 3).astype(np.float32)


def baseline_exposure(tags: Tags) -> float:
    """By how many EV merged exposures are to be brightened, 0 or more.

    Their white is the brightest thing of the scene, and BaselineExposure says how far below it the picture's
    lies. Of other raws it tells how two cameras compare, which the light meter sees by itself.
    """
    stated = first_number(tags, "BaselineExposure", 0)
    return float(stated) if is_floating(tags) and 0 < stated <= _BRIGHTEST else 0.0


def _white_level(tags: Tags) -> np.ndarray:
    if "WhiteLevel" in tags:
        return tags["WhiteLevel"]
    return np.ones(1) if is_floating(tags) else 2.0 ** tags["BitsPerSample"] - 1

"""Run a network over a frame of any size in tiles whose results join exactly."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any, cast

import numpy as np

from deepisp_cli.engine import ContinuingEngine, Engine
from deepisp_cli.models import STRIP, TileNeeds
from deepisp_cli.render import check_picture

BANDS_IN_WORK = 2  # rows of tiles in progress


def mirror(start: int, stop: int, length: int) -> np.ndarray:
    """Indices into an axis, mirrored about its first and last element.

    Mirroring keeps parity, and so the CFA's phase: at the front -1 becomes 1, at the back ``length`` becomes
    length - 2, whatever the length.

    Parameters
    ----------
    start, stop : the first index, and that after the last; may be outside of the axis.
    length : of the axis.

    Returns
    -------
    (N,) integers, 0 to ``length`` - 1; N is stop - start.
    """
    if length == 1:
        return np.zeros(stop - start, np.intp)
    period = 2 * (length - 1)
    index = np.arange(start, stop) % period
    return np.where(index < length, index, period - index)


def spans(length: int, origin: int, cell: int, tile: int) -> Iterator[tuple[int, int]]:
    """Cut an axis into the cores of tiles of about the same length.

    The first span starts at ``-origin``; every span is a multiple of ``cell`` long and at most ``tile`` (one
    cell where that is smaller); together they cover ``length`` and less than one cell beyond it.
    """
    cells = ceil((length + origin) / cell)
    count = ceil(cells / max(tile // cell, 1))
    edges = [index * cells // count * cell - origin for index in range(count + 1)]
    yield from pairwise(edges)


def run_tiled(
    engine: Engine,
    picture: np.ndarray,
    origin: tuple[int, int] = (0, 0),
    tile: int | None = None,
    progress: Callable[[float], None] | None = None,
    in_place: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Restore a frame and estimate its transform, as many tiles at a time as the engine has workers.

    The tile size changes speed and memory, never the result: each tile comes with the halo that the network
    sees, and the coefficients are averaged over the cells of the whole frame. Beyond the frame's borders the
    picture is mirrored about the border pixel. An engine that continues needs the halo above only for the
    first tile of a column: the next one continues with what the layers have kept.

    Parameters
    ----------
    engine : from `open_engine`.
    picture : (H, W, 3) float32, encoded camera RGB: 0 is black, 1 is white.
    origin : rows and columns, 0 or 1, to mirror in front so that the network sees a red sample first.
    tile : side of a tile's core in pixels, rounded down to whole cells, by default what suits the engine.
        If memory does not suffice for the first tiles, they are cut into smaller ones.
    progress : called with the completed share, 0 to 1.
    in_place : whether the restored frame overwrites ``picture``, which saves its memory.

    Returns
    -------
    image : (H, W, 3) float32, restored, encoded camera RGB.
    transform : W as (3, 10) float32 for `colour.apply_transform`, or None for a model without one.

    Raises
    ------
    ValueError
        If ``picture`` is no such array.
    MemoryError
        If memory does not suffice for a tile of one cell, or to continue.
    """
    check_picture(picture)
    height, width = picture.shape[:2]
    needs = engine.model.tile_needs
    down, across = height + origin[0], width + origin[1]
    if tile:
        sides = (tile, tile)
    elif engine.continues:
        sides = best_strip(across, needs, engine.tile(height * width), engine.workers)
    else:
        sides = best_tile(down, across, needs, engine.tile(height * width), engine.workers)
    row_spans = list(spans(height, origin[0], needs.cell, sides[0]))
    column_spans = list(spans(width, origin[1], needs.cell, sides[1]))
    first_seen = {
        goes_on: [int(_rows_seen(rows, height, needs, goes_on).min()) for rows in row_spans]
        for goes_on in (False, True)
    }
    image = picture if in_place else np.empty_like(picture)
    waiting: deque[_Part] = deque()  # parts held back until no later tile needs the pixels they replace
    total, cells = np.zeros(30), 0
    done, count = 0, len(row_spans) * len(column_spans)
    with closing(_in_work(engine, picture, row_spans, column_spans)) as bands:
        for number, band in enumerate(bands, 1):
            goes_on = True
            for future in band:
                parts, continued = future.result()
                goes_on = goes_on and continued
                for part in parts:
                    total += part.coefficients.sum((1, 2), np.float64)
                    cells += part.coefficients[0].size
                    waiting.append(part)
                done += 1
                if progress:
                    progress(done / count)
            unseen = min(first_seen[goes_on][number:], default=height)
            while waiting and min(waiting[0].bottom, height) <= unseen:
                waiting.popleft().put(image)
    return image, (total / cells).astype(np.float32).reshape(3, 10) if cells else None


def best_tile(height: int, width: int, needs: TileNeeds, largest: int, workers: int) -> tuple[int, int]:
    """Height and width in pixels of the tiles that restore a frame in the least time.

    The workers take turns, and a tile costs its area with a third of its halo, which shrinks from layer to
    layer (measured). Its area is at most ``largest`` squared; each side is at least about the halo and at
    most 1.5 times ``largest``: long rows do not fit into a core's cache.
    """
    halo = needs.halo
    smallest = max(halo // needs.cell, 1)
    rows, columns = (ceil(length / needs.cell) for length in (height, width))
    down = np.arange(1, ceil(rows / smallest) + 1)[:, None]
    across = np.arange(1, ceil(columns / smallest) + 1)
    tall, wide = (-(-rows // down) * needs.cell, -(-columns // across) * needs.cell)
    turns = -(-down * across // workers)
    cost = turns * (tall + halo / 3) * (wide + halo / 3)
    too_large = (tall * wide > largest**2) | (np.maximum(tall, wide) > 1.5 * largest)
    too_large[-1, -1] = False
    row, column = np.unravel_index(np.where(too_large, np.inf, cost).argmin(), cost.shape)
    return int(tall[row, 0]), int(wide[column])


def best_strip(width: int, needs: TileNeeds, widest: int, workers: int) -> tuple[int, int]:
    """Height and width in pixels of the tiles for an engine that continues.

    They are low and up to ``widest`` wide, so that only halos to the left and right are computed twice; but
    each worker gets a column, unless that would be narrower than its halo.
    """
    columns = max(ceil(width / widest), min(workers, width // needs.halo))
    return max(STRIP // needs.cell, 1) * needs.cell, ceil(width / columns / needs.cell) * needs.cell


@dataclass(frozen=True)
class _Part:
    """A restored part of the frame."""

    top: int
    left: int
    core: np.ndarray  # (3, h, w)
    coefficients: np.ndarray  # (30, rows, columns)

    @property
    def bottom(self) -> int:
        return self.top + self.core.shape[1]

    def put(self, image: np.ndarray) -> None:
        """Write what lies within the frame."""
        top, left = max(self.top, 0), max(self.left, 0)
        core = self.core[:, top - self.top :, left - self.left :].transpose(1, 2, 0)
        target = image[top : top + len(core), left : left + core.shape[1]]
        target[:] = core[: target.shape[0], : target.shape[1]]


_Restored = tuple[list[_Part], bool]  # a tile, and whether the one below continues it


@dataclass
class _Column:
    """The tiles of a column, one after the other."""

    left: int
    right: int
    kept: Any | None = None  # by the last tile for the one below; None: that one starts afresh


def _in_work(
    engine: Engine, picture: np.ndarray, row_spans: list[tuple[int, int]], column_spans: list[tuple[int, int]]
) -> Generator[list[Future[_Restored]]]:
    """The bands (rows of tiles) of a frame, from top to bottom. The next starts while the last tiles of one
    are in progress."""
    pool = ThreadPoolExecutor(engine.workers)
    columns = [_Column(*span) for span in column_spans]
    bands: deque[list[Future[_Restored]]] = deque()
    above: Sequence[Future[_Restored] | None] = [None] * len(columns)
    try:
        for rows in row_spans:
            places = zip(columns, above, strict=True)
            above = tiles = [pool.submit(_go_down, engine, picture, rows, *place) for place in places]
            bands.append(tiles)
            if len(bands) == BANDS_IN_WORK:
                yield bands.popleft()
        yield from bands
    finally:
        pool.shutdown(cancel_futures=True)


def _go_down(
    engine: Engine,
    picture: np.ndarray,
    rows: tuple[int, int],
    column: _Column,
    above: Future[_Restored] | None,
) -> _Restored:
    """Restore the next tile of a column, once the one above is done."""
    if above:
        above.result()
    parts, column.kept = _restore(engine, picture, rows, (column.left, column.right), column.kept)
    return parts, column.kept is not None


def _restore(
    engine: Engine, picture: np.ndarray, rows: tuple[int, int], columns: tuple[int, int], kept: Any | None
) -> tuple[list[_Part], Any | None]:
    """One tile and what the one below continues with; or several smaller ones if memory does not suffice.

    Nothing continues below those. A tile that continues another cannot be cut up: the picture above may
    already be overwritten.
    """
    needs = engine.model.tile_needs
    (top, bottom), (left, right) = rows, columns
    down = _rows_seen(rows, picture.shape[0], needs, kept is not None)
    across = mirror(left - needs.before, right + needs.after, picture.shape[1])
    patch = picture[_as_slice(down)][:, _as_slice(across)].transpose(2, 0, 1)[None]
    patch, below = np.ascontiguousarray(patch), None
    try:
        if engine.continues:
            core, coefficients, below = cast(ContinuingEngine, engine).run_below(patch, kept)
        else:
            core, coefficients = engine.run(patch)
        return [_Part(top, left, core[0], coefficients[0])], below
    except MemoryError:
        side = max(bottom - top, right - left) // 2
        if kept is not None or side < needs.cell:
            raise
    parts = []
    for start, end in spans(bottom - top, 0, needs.cell, side):
        for begin, stop in spans(right - left, 0, needs.cell, side):
            smaller = (top + start, top + end), (left + begin, left + stop)
            parts += _restore(engine, picture, *smaller, None)[0]
    return parts, None


def _rows_seen(rows: tuple[int, int], height: int, needs: TileNeeds, goes_on: bool) -> np.ndarray:
    """The rows of the picture that a tile reads, including those above it unless it continues another."""
    top, bottom = rows
    return mirror(top + needs.after if goes_on else top - needs.before, bottom + needs.after, height)


def _as_slice(index: np.ndarray) -> slice | np.ndarray:
    """Consecutive indices as a slice, which copies nothing."""
    start, stop = int(index[0]), int(index[-1]) + 1
    return slice(start, stop) if stop - start == len(index) else index

"""Run a network over a frame of any size in tiles whose results join exactly."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from deepisp_cli.demosaic import mirror
from deepisp_cli.engine import Engine

Result = TypeVar("Result")


def spans(length: int, origin: int, cell: int, tile: int) -> Iterator[tuple[int, int]]:
    """Cut an axis into the cores of tiles.

    The first span starts at ``-origin``; every span is a multiple of ``cell`` long and at most ``tile`` (one
    cell where that is smaller); together they cover ``length``, the last by less than one cell too much.
    """
    end = -origin + -(-(length + origin) // cell) * cell
    step = max(tile // cell, 1) * cell
    for start in range(-origin, end, step):
        yield start, min(start + step, end)


def run_tiled(
    engine: Engine,
    picture: np.ndarray,
    origin: tuple[int, int] = (0, 0),
    tile: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Restore a frame and estimate its transform.

    The tile size changes speed and memory, never the result: each tile comes with the halo that the network
    sees, and the coefficients are averaged over the cells of the whole frame. Beyond the frame's borders the
    picture is mirrored about the border pixel.

    Parameters
    ----------
    picture : (H, W, 3) float32, encoded camera RGB.
    origin : rows and columns, 0 or 1, to mirror in front so that the network sees a red sample first.
    tile : side of a tile's core in pixels, rounded down to whole cells, by default what suits the engine.
        Halved when memory runs out.
    progress : called with the share that is done, 0 to 1.

    Returns
    -------
    image : (H, W, 3) float32, restored, encoded camera RGB.
    transform : W as (3, 10) float32, or None for a model without one.
    """
    return halve_on_memory_error(
        lambda side: _run(engine, picture, origin, side, progress),
        tile or engine.tile,
        engine.model.tile_needs.cell,
    )


def halve_on_memory_error(run: Callable[[int], Result], tile: int, cell: int) -> Result:
    """``run`` with tiles of this side, or half of it and so on while memory does not suffice."""
    while True:
        try:
            return run(tile)
        except MemoryError:
            tile //= 2
            if tile < cell:
                raise


def _run(
    engine: Engine,
    picture: np.ndarray,
    origin: tuple[int, int],
    tile: int,
    progress: Callable[[float], None] | None,
) -> tuple[np.ndarray, np.ndarray | None]:
    height, width = picture.shape[:2]
    needs = engine.model.tile_needs
    image = np.empty_like(picture)
    total = np.zeros(30)
    cells = 0
    row_spans = list(spans(height, origin[0], needs.cell, tile))
    col_spans = list(spans(width, origin[1], needs.cell, tile))
    for row, (top, bottom) in enumerate(row_spans):
        rows = mirror(top - needs.before, bottom + needs.after, height)
        for col, (left, right) in enumerate(col_spans):
            cols = mirror(left - needs.before, right + needs.after, width)
            patch = np.ascontiguousarray(picture[np.ix_(rows, cols)].transpose(2, 0, 1)[None])
            core, coefficients = engine.run(patch)
            first_row, first_col = max(top, 0), max(left, 0)
            target = image[first_row:bottom, first_col:right]  # slices end at the frame's border
            core = core[0, :, first_row - top :, first_col - left :].transpose(1, 2, 0)
            target[:] = core[: target.shape[0], : target.shape[1]]
            total += coefficients[0].sum((1, 2), np.float64)
            cells += coefficients.shape[2] * coefficients.shape[3]
            if progress:
                progress((row * len(col_spans) + col + 1) / (len(row_spans) * len(col_spans)))
    transform = (total / cells).astype(np.float32).reshape(3, 10) if cells else None
    return image, transform

"""Develop a picture that stays on a GPU: the sensor's counts go up, finished pixels come down.

The same stages as on the CPU, with the same functions, on tensors. Imported only when needed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from deepisp_cli.colour import encode
from deepisp_cli.demosaic import black_and_scale, demosaic, normalise
from deepisp_cli.engine import ResidentEngine
from deepisp_cli.errors import told_of
from deepisp_cli.frame import Frame, Result
from deepisp_cli.grain import as_grain, taken_off
from deepisp_cli.look import develop_colour, exposure_of, frame_gain
from deepisp_cli.options import Options
from deepisp_cli.raw import RawImage
from deepisp_cli.render import LEVELS, TURNS, dither
from deepisp_cli.tiling import mirror, spans
from deepisp_cli.xtrans import SIDE, measured, weighted_means

BLOCK_ROWS = 512  # rows worked on at a time, so that temporaries are small beside the frame
Returned = TypeVar("Returned")


@torch.inference_mode()
def finish_on_device(
    frame: Frame,
    engine: ResidentEngine,
    options: Options,
    result: Result,
    progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """`pipeline.finish` for a frame that holds the raw itself: (H, W, 3) uint8 or uint16, upright.

    Raises
    ------
    MemoryError
        If the frame is too large for the device.
    """
    progress = partial(_report, progress, result.input) if progress else None
    with engine.errors():
        with _timed(result, "demosaic", engine):
            assert frame.raw is not None
            picture = _to_picture(frame.raw, frame.gains, engine.device)
            matrix = torch.from_numpy(frame.matrix).to(engine.device)
        with _timed(result, "network", engine):
            image, transform = _halve_on_memory_error(
                engine,
                lambda tile: _run(engine, picture, frame.origin, tile, progress),
                options.tile or engine.tile(len(picture) * picture.shape[1]),
                engine.model.tile_needs.cell,
            )
        with _timed(result, "colour", engine):
            transform = None if options.look == "neutral" else transform
            gain = frame_gain(image, matrix) if transform is not None and engine.model.metered else None
            result.metered = exposure_of(gain)
            if frame.strength < 1:
                residual = taken_off(image, picture, frame.pattern, 1 - frame.strength)
            picture = picture.new_empty(0)  # frees 288 MB for a 24-megapixel frame
            if frame.strength < 1:
                noise = _at_each_pixel(residual, frame.pattern)
                for rows, part in zip(image.split(BLOCK_ROWS), noise.split(BLOCK_ROWS), strict=True):
                    rows += as_grain(part, 1 - frame.strength)
                del residual, noise
        if frame.lens_warp is not None:
            with _timed(result, "lens", engine):
                image = torch.from_numpy(frame.lens_warp.correct(image.cpu().numpy())).to(engine.device)
        with _timed(result, "colour", engine):
            contrast = options.contrast_with(engine.model.contrast)
            for rows in image.split(BLOCK_ROWS):
                rows.copy_(develop_colour(rows, matrix, transform, options.exposure, gain, contrast))
        with _timed(result, "render", engine):
            return _render(image, frame.orientation, options.bit_depth)


def _report(progress: Callable[[float], None], name: str, share: float) -> None:
    with told_of(name):  # what the caller's function raises is no error of torch's
        progress(share)


@contextmanager
def _timed(result: Result, stage: str, engine: ResidentEngine) -> Iterator[None]:
    with result.timed(stage):
        yield
        engine.synchronise()


def _to_picture(raw: RawImage, gains: np.ndarray, device: str) -> Tensor:
    """The network's input: encoded camera RGB (H, W, 3) float32, black 0, white 1, neutral grey."""
    counts = _upload(raw.samples, device)
    assert raw.pattern is not None
    black, scale = black_and_scale(raw.pattern, raw.black, raw.white, gains)
    height, width = raw.samples.shape
    columns = np.arange(width) % black.shape[1]
    levels, scales = (torch.from_numpy(period[:, columns]).to(device) for period in (black, scale))
    rows = torch.arange(height, device=device) % len(levels)
    for block, index in zip(counts.split(BLOCK_ROWS), rows.split(BLOCK_ROWS), strict=True):
        block.copy_(normalise(block, levels[index], scales[index]))
    picture = _at_each_pixel(counts, raw.pattern)
    for block in picture.split(BLOCK_ROWS):
        block.copy_(encode(block))
    return picture


def _at_each_pixel(mosaic: Tensor, pattern: str) -> Tensor:
    """`camera_rgb.at_each_pixel` on the device."""
    if len(pattern) < SIDE**2:
        return demosaic(mosaic, pattern)
    masks = torch.from_numpy(measured(pattern, *mosaic.shape)).to(mosaic.device)
    return torch.stack(list(weighted_means(mosaic, masks)), -1)


def _upload(samples: np.ndarray, device: str) -> Tensor:
    """Counts as float32. 16-bit counts are transferred as such; torch computes only with signed numbers."""
    if samples.dtype != np.uint16:
        return torch.from_numpy(np.asarray(samples, np.float32)).to(device, copy=True)
    signed = torch.from_numpy(np.ascontiguousarray(samples).view(np.int16))
    counts = torch.empty(signed.shape, device=device)
    staging = _staging(signed.shape[1:], signed.dtype, counts.device)
    for block, rows in zip(counts.split(BLOCK_ROWS), signed.split(BLOCK_ROWS), strict=True):
        block.copy_(staging[: len(rows)].copy_(rows).to(device).to(torch.int32) & 0xFFFF)
    return counts


def _staging(row: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory of the CPU for `BLOCK_ROWS` of a frame on their way to the device or from it. For CUDA it is
    page-locked: any other the driver copies piece by piece itself, with the other lanes waiting for it."""
    return torch.empty((BLOCK_ROWS, *row), dtype=dtype, pin_memory=device.type == "cuda")


def _halve_on_memory_error(
    engine: ResidentEngine, run: Callable[[int], Returned], tile: int, cell: int
) -> Returned:
    """``run`` with tiles of this side, halved for as long as memory does not suffice."""
    while True:
        try:
            with engine.errors():  # also of what is cut out of the frame
                return run(tile)
        except MemoryError:
            tile //= 2
            if tile < cell:
                raise


def _run(
    engine: ResidentEngine,
    picture: Tensor,
    origin: tuple[int, int],
    tile: int,
    progress: Callable[[float], None] | None,
) -> tuple[Tensor, list[list[float]] | None]:
    """`tiling.run_tiled` on the device; the transform comes as lists of numbers."""
    height, width = picture.shape[:2]
    needs = engine.model.tile_needs
    image = torch.empty_like(picture)
    total = torch.zeros(30, dtype=torch.float64, device=picture.device)
    cells = 0
    row_spans = list(spans(height, origin[0], needs.cell, tile))
    column_spans = list(spans(width, origin[1], needs.cell, tile))
    for number, (top, bottom) in enumerate(row_spans):
        rows = torch.from_numpy(mirror(top - needs.before, bottom + needs.after, height))
        band = picture.index_select(0, rows.to(picture.device))
        for left, right in column_spans:
            columns = torch.from_numpy(mirror(left - needs.before, right + needs.after, width))
            patch = band.index_select(1, columns.to(picture.device)).permute(2, 0, 1)[None]  # channels last
            core, coefficients = engine.run_on_device(patch)
            target = image[max(top, 0) : bottom, max(left, 0) : right]
            core = core[0, :, max(top, 0) - top :, max(left, 0) - left :].permute(1, 2, 0)
            target.copy_(core[: target.shape[0], : target.shape[1]])
            total += coefficients[0].sum((1, 2), dtype=torch.float64)
            cells += coefficients.shape[2] * coefficients.shape[3]
        if progress:
            progress((number + 1) / len(row_spans))
    transform = (total / cells).reshape(3, 10).tolist() if cells else None
    return image, transform


def _render(image: Tensor, orientation: int, bit_depth: int) -> np.ndarray:
    """`render.render` on the device."""
    if torch.isnan(image).any():
        raise ValueError("picture holds a NaN")
    flipped, swapped = TURNS[orientation]
    upright = image.flip(flipped) if flipped else image
    upright = upright.transpose(0, 1) if swapped else upright
    height, width = upright.shape[:2]
    white = LEVELS[bit_depth]
    noise = torch.tensor(dither()).to(image.device)  # a copy: the cached one is read-only
    side = len(noise)
    noise = noise.repeat(-(-BLOCK_ROWS // side), -(-width // side), 1)[:, :width]
    pixels = np.empty((height, width, 3), np.uint8 if bit_depth == 8 else np.uint16)
    staging = _staging((width, 3), torch.uint8 if bit_depth == 8 else torch.int32, image.device)
    for number, rows in enumerate(upright.split(BLOCK_ROWS)):
        scaled = (rows * white).clip(0, white)
        counts = (scaled + noise[: len(rows)] if bit_depth == 8 else scaled.round()).to(staging.dtype)
        pixels[number * BLOCK_ROWS :][: len(rows)] = staging[: len(rows)].copy_(counts).numpy()
    return pixels

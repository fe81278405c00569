"""One raw file to one finished picture. `develop` shows the order of the stages, from top to bottom."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from deepisp_cli import __version__
from deepisp_cli.camera_rgb import camera_matrix, linear_rgb
from deepisp_cli.colour import LUMINANCE, encode
from deepisp_cli.demosaic import red_position, sample_mosaic
from deepisp_cli.engine import Engine, ResidentEngine, as_engine
from deepisp_cli.errors import OutputError, UsageError, check_path, told_of
from deepisp_cli.files import STANDARD_STREAM, check_target, make_parent
from deepisp_cli.frame import Frame, Result
from deepisp_cli.grain import leave_noise, leave_noise_in_linear
from deepisp_cli.look import develop_colour, exposure_of, frame_gain
from deepisp_cli.machine import by_rows
from deepisp_cli.metadata import Metadata
from deepisp_cli.models import Model
from deepisp_cli.options import Options
from deepisp_cli.output import OUTPUT_SUFFIXES, format_of_suffix, write_picture
from deepisp_cli.raw import RawImage
from deepisp_cli.reading import read_source
from deepisp_cli.render import make_grey, render, upright_aspect
from deepisp_cli.resize import reduce_to, with_square_pixels
from deepisp_cli.restored import RestoredRaw, preview_of, restore_highlights, restored_raw
from deepisp_cli.streams import let_wait
from deepisp_cli.tiling import run_tiled
from deepisp_cli.white_balance import choose_white_balance, find_balanced

FLOAT_BYTES = 12  # of a pixel of a float32 picture
FINISHED_BYTES = 6  # of a 16-bit one
DARK, BRIGHT = 0.02, 0.98  # mean luma of a finished picture: below and above, a note says so


def develop(
    source: Path | str,
    target: Path | str,
    engine: Engine | Model | str | os.PathLike[str],
    options: Options | None = None,
    progress: Callable[[float], None] | None = None,
) -> Result:
    """Develop one raw file and write the picture.

    Parameters
    ----------
    source : path of a raw file, or "-" for standard input.
    target : path of the picture, whose folder is made if need be, or "-" for standard output.
    engine : from `open_engine`; or a model or its name ("deepisp"), for which one is opened each time.
    options : an `Options`; None: its defaults.
    progress : called with the completed share of the network's work, 0 to 1; to stop, let it raise a
        `DeepIspError` of your own, or KeyboardInterrupt, which also ends an asyncio loop. Other exceptions
        are taken for bugs.

    Returns
    -------
    `Result` with the picture's size, the seconds of each stage, and notes for people.

    Raises
    ------
    DeepIspError
        `InputError`, `UnsupportedRawError`, `ModelError`, `EngineError`, `OutputError` or `UsageError`: each
        says which file, what is wrong and what to do. The base class itself: a bug.
    """
    engine = as_engine(engine)
    check_path(target)
    options = with_format(as_options(options), target)
    result = Result(str(source), str(target))
    if str(target) != STANDARD_STREAM:
        check_target(Path(target), options.overwrite, result.input)
    with told_of(result.input):
        raw, metadata = load(source, result)
        frame = to_frame(raw, options, result, engine.resident)
        del raw
        picture = finish(frame, engine, options, result, progress)
        write(picture, metadata, target, options, result)
    return result


def develop_array(
    source: Path | str | RawImage,
    engine: Engine | Model | str | os.PathLike[str],
    options: Options | None = None,
    progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """Develop one raw picture to an array: `develop` without the file.

    Parameters
    ----------
    source : path of a raw file, "-" for standard input, or what `read_raw` returns; that is not changed.
    engine, options, progress : as for `develop`. Of the options, those of the file have no effect: format,
        quality, overwrite.

    Returns
    -------
    (H, W, 3) uint8, or uint16 with ``Options(bit_depth=16)``
        sRGB, encoded with its curve, upright; white is 255 or 65535.

    Raises
    ------
    DeepIspError
        As `develop` does.
    """
    engine, options = as_engine(engine), replace(as_options(options), format=None)
    result = Result("the raw picture" if isinstance(source, RawImage) else str(source), None)
    with told_of(result.input):
        raw = source if isinstance(source, RawImage) else load(source, result)[0]
        frame = to_frame(raw, options, result, engine.resident)
        del raw
        pixels = finish(frame, engine, options, result, progress)
        assert isinstance(pixels, np.ndarray)
        return pixels


def load(source: Path | str, result: Result, contents: bytes | None = None) -> tuple[RawImage, Metadata]:
    """`read_source`, timed; ``result`` gets the notes, too."""
    with result.timed("read"):
        raw, metadata = read_source(source, contents)
        result.notes += [*raw.notes, *metadata.notes]
    return raw, metadata


def to_frame(raw: RawImage, options: Options, result: Result, resident: bool = False) -> Frame:
    """Choose white balance and matrix; normalise, demosaic, encode, unless a ``resident`` engine will do that
    on its device."""
    with result.timed("demosaic"):
        raw, balanced_remark = find_balanced(raw)
        gains, gains_remark = choose_white_balance(raw, options.white_balance)
        matrix, matrix_remark = camera_matrix(raw, gains)
        result.notes += filter(None, (balanced_remark, gains_remark, matrix_remark))
        result.white_balance = [round(float(gain), 4) for gain in gains]
        strength = 0.0 if raw.restored_strength else options.strength
        if strength != options.strength:
            ignored = ": --strength has no effect" if options.strength < 1 else ""
            result.notes.append(f"deepisp has restored it already and does not do so twice{ignored}")
        linear, to_dng = raw.pattern is None, options.format == "dng"
        plain = _encoded(raw, gains) if linear and strength < 1 else None
        mosaic = _sampled(raw) if linear else raw
        pattern = str(mosaic.pattern)
        on_device = resident and plain is None and not to_dng
        return Frame(
            picture=None if on_device else _encoded(mosaic, gains),
            origin=(0, 0) if mosaic.x_trans else red_position(pattern),
            matrix=matrix,
            orientation=raw.orientation,
            lens_warp=raw.lens_warp,
            raw=raw if to_dng else mosaic if on_device else None,
            gains=gains,
            pattern=pattern,
            strength=strength,
            pixel_aspect=upright_aspect(raw.pixel_aspect, raw.orientation),
            plain=plain,
            monochrome=raw.monochrome,
        )


def _sampled(raw: RawImage) -> RawImage:
    """A linear DNG as a Bayer mosaic. In full colour the network takes fine colours for the noise and the
    moire of a demosaic: see "Linear DNGs" in docs/how-it-works.md."""
    black, white = (level[[[0, 1], [1, 2]]] for level in (raw.black, raw.white))
    return replace(raw, samples=sample_mosaic(raw.samples), pattern="RGGB", black=black, white=white)


def _encoded(raw: RawImage, gains: np.ndarray) -> np.ndarray:
    picture = linear_rgb(raw, gains)
    by_rows(encode, picture)
    return picture


def prepare(
    source: Path | str, options: Options, result: Result | None = None, resident: bool = False
) -> Frame:
    """Everything before the network: `load` and `to_frame`."""
    result = result or Result(str(source), None)
    return to_frame(load(source, result)[0], options, result, resident)


def frame_bytes(raw: RawImage, options: Options) -> int:
    """The peak memory of a picture in progress: two float32 pictures, the finished one, the counts; a third
    float32 one where a linear DNG keeps its full colours."""
    height, width = raw.samples.shape[:2]
    third = FLOAT_BYTES if raw.pattern is None and (options.strength < 1 or raw.restored_strength) else 0
    return height * width * (2 * FLOAT_BYTES + third + FINISHED_BYTES) + raw.samples.nbytes


def finish(
    frame: Frame,
    engine: Engine,
    options: Options,
    result: Result,
    progress: Callable[[float], None] | None = None,
) -> np.ndarray | RestoredRaw:
    """Network, lens correction, colour, rendering.

    Parameters
    ----------
    frame : from `to_frame`, used up: its picture is overwritten.
    engine : the one that ``frame`` was made for: it holds the raw itself for a ``resident`` one.
    options : as for `develop`.
    result : gets model, engine, device, size, seconds and notes.
    progress : as for `develop`.

    Returns
    -------
    (H, W, 3) uint8 or uint16, sRGB, upright; with the format "dng" a `RestoredRaw`.
    """
    result.model, result.engine, result.device = engine.model.name, engine.name, engine.device
    pixels: np.ndarray | RestoredRaw | None = None
    if frame.picture is None:
        assert frame.raw is not None
        from deepisp_cli.resident import finish_on_device

        try:
            pixels = finish_on_device(frame, cast(ResidentEngine, engine), options, result, progress)
        except MemoryError:  # single tiles may still fit
            with result.timed("demosaic"):
                frame = replace(frame, picture=_encoded(frame.raw, frame.gains), raw=None)
    if pixels is None:
        pixels = _finish_here(frame, engine, options, result, progress)
    if isinstance(pixels, np.ndarray):
        with result.timed("render"):
            if frame.monochrome:
                make_grey(pixels)
            pixels = with_square_pixels(pixels, frame.pixel_aspect)
            if options.long_side is not None:
                pixels = reduce_to(pixels, options.long_side)
        luma = float(pixels[::8, ::8].mean((0, 1)) @ LUMINANCE) / np.iinfo(pixels.dtype).max
        if luma < DARK:
            result.notes.append("the picture is very dark; --exposure brightens it")
        if luma > BRIGHT:
            result.notes.append("the picture is almost white; a lower --exposure darkens it")
        if options.look != "neutral" and not engine.model.has_transform:
            result.notes.append(f"{engine.model.name} has no look of its own: this is --look neutral")
    result.height, result.width = pixels.shape[:2]
    return pixels


def _finish_here(
    frame: Frame,
    engine: Engine,
    options: Options,
    result: Result,
    progress: Callable[[float], None] | None,
) -> np.ndarray | RestoredRaw:
    """`finish` with everything but the network on the CPU. `resident.finish_on_device` is its twin."""
    picture = frame.picture
    assert picture is not None
    raw = frame.raw  # for a DNG alone
    noise_left = 1 - frame.strength
    contrast = options.contrast_with(engine.model.contrast)
    with result.timed("network"):
        in_place = not noise_left or frame.plain is not None  # saves 288 MB at 24 megapixels
        image, transform = run_tiled(engine, picture, frame.origin, options.tile, progress, in_place=in_place)
    with result.timed("colour"):
        transform = None if options.look == "neutral" else transform
        gain = frame_gain(image, frame.matrix) if transform is not None and engine.model.metered else None
        result.metered = exposure_of(gain)
        if noise_left and frame.plain is not None:
            leave_noise_in_linear(image, frame.plain, noise_left)
        elif noise_left:
            leave_noise(image, picture, frame.pattern, noise_left)
        frame.picture = frame.plain = None
        del picture  # frees 288 MB at 24 megapixels, where it is not ``image``
        if raw is not None:
            restore_highlights(image, raw, frame.gains)
    if frame.lens_warp is not None:
        with result.timed("lens"):
            image = frame.lens_warp.correct(image)
    if raw is not None:
        with result.timed("render"):
            preview = preview_of(image, frame.orientation, frame.matrix, transform, gain, contrast)
            if frame.monochrome:
                make_grey(preview)
            preview = with_square_pixels(preview, frame.pixel_aspect)
            return restored_raw(image, raw, frame.gains, preview, raw.restored_strength or frame.strength)
    with result.timed("colour"):
        look = partial(
            develop_colour, matrix=frame.matrix, transform=transform, exposure=options.exposure, gain=gain,
            contrast=contrast,
        )  # fmt: skip
        by_rows(look, image)
    with result.timed("render"):
        return render(image, frame.orientation, options.bit_depth)


def write(
    pixels: np.ndarray | RestoredRaw, metadata: Metadata, target: Path | str, options: Options, result: Result
) -> None:
    """Encode and write the picture, with the source's EXIF.

    Parameters
    ----------
    pixels : from `finish`.
    metadata : the source's.
    target : as for `develop`.
    options : from `with_format`.
    result : names the model; gets bytes, seconds and notes.

    Raises
    ------
    OutputError
        If it cannot be written.
    UsageError
        If it exists and may not be replaced.
    """
    with result.timed("write"):
        if str(target) == STANDARD_STREAM:
            if not hasattr(sys.stdout, "buffer"):  # closed, or a notebook's
                raise OutputError("-: there is no standard output for pictures here; give a path")
            let_wait(sys.stdout)
        else:
            make_parent(Path(target))
        result.bytes = write_picture(
            sys.stdout.buffer if str(target) == STANDARD_STREAM else Path(target),
            pixels,
            metadata,
            format=str(options.format),
            quality=options.quality,
            software=f"deepisp {__version__} ({f'{result.model} {options.arguments()}'.rstrip()})",
            overwrite=options.overwrite,
            notes=result.notes,
        )
    result.status = "written"


def with_format(options: Options, target: Path | str) -> Options:
    """``options``; if they name no format, with the one that the name of ``target`` implies.

    Raises
    ------
    UsageError
        If that implies none, or another than the options name.
    """
    if options.format:
        if OUTPUT_SUFFIXES.get(Path(target).suffix.lower(), options.format) != options.format:
            raise UsageError(f"{target}: is not the name of a {options.format} file; choose another")
        return options
    return replace(options, format="jpeg" if str(target) == STANDARD_STREAM else format_of_suffix(target))


def as_options(options: Options | None) -> Options:
    """``options``, or the defaults for None.

    Raises
    ------
    UsageError
        If it is something else.
    """
    if not isinstance(options, Options | None):
        raise UsageError(f"{options!r} is not an Options; give one such as Options(exposure=0.5)")
    return options or Options()

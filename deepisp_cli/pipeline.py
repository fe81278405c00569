"""One raw file to one finished picture. `develop` is the order of the stages, readable top to bottom."""

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from deepisp_cli import __version__
from deepisp_cli.colour import LUMINANCE, encode, srgb_from_camera
from deepisp_cli.demosaic import demosaic, grey_world_gains, normalise, normalise_mosaic, red_position
from deepisp_cli.engine import Engine, available_cores
from deepisp_cli.errors import InputError, UsageError
from deepisp_cli.look import develop_colour, frame_gain
from deepisp_cli.metadata import Metadata, read_metadata
from deepisp_cli.output import write_picture
from deepisp_cli.raw import RawImage, read_preview, read_raw
from deepisp_cli.render import render
from deepisp_cli.tiling import DEFAULT_TILE, run_tiled

STANDARD_STREAM = "-"
LOOKS = ("learned", "neutral")
BYTES_PER_PIXEL = 12 + 12 + 6 + 2
BLOCK_ROWS = 128  # rows of a frame worked on at a time: temporaries stay in the cache
DARK = 0.02  # mean luminance of a finished picture below which a remark says that it is dark


@dataclass(frozen=True)
class Options:
    """How a picture is developed and written."""

    white_balance: str = "camera"  # "camera", "daylight", "auto" or "R,G,B" gains
    exposure: float = 0.0  # EV added to the finished picture, in linear light
    strength: float = 1.0  # 0: the plain bilinear picture, 1: the network's restoration
    look: str = "learned"  # "learned": the network's transform; "neutral": exposure and colour as metered
    format: str = "jpeg"  # a key of output.FORMATS
    quality: int = 95  # of JPEG, 1 to 100
    bit_depth: int = 8  # 8, or 16 for PNG and TIFF
    tile: int = DEFAULT_TILE  # side of a tile in pixels; changes speed and memory, not the picture
    overwrite: bool = False  # replace an output that exists

    def __post_init__(self) -> None:
        if self.white_balance not in ("camera", "daylight", "auto"):
            _parse_gains(self.white_balance)
        if not 0 <= self.strength <= 1:
            raise UsageError(f"strength is 0 to 1, got {self.strength:g}")
        if self.look not in LOOKS:
            raise UsageError(f"unknown look {self.look!r}; known: {', '.join(LOOKS)}")
        if not 1 <= self.quality <= 100:
            raise UsageError(f"quality is 1 to 100, got {self.quality}")
        if self.bit_depth not in (8, 16) or (self.format == "jpeg" and self.bit_depth == 16):
            raise UsageError(f"{self.format} cannot hold {self.bit_depth} bits; 16 bits go into PNG or TIFF")
        if not -10 <= self.exposure <= 10:
            raise UsageError(f"exposure is -10 to 10 EV, got {self.exposure:g}")


@dataclass
class Result:
    """What became of one input; also the object that ``--json`` prints."""

    input: str
    output: str
    model: str = ""
    engine: str = ""
    device: str = ""
    width: int = 0  # of the output, pixels
    height: int = 0
    bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)  # by stage
    notes: list[str] = field(default_factory=list)  # remarks for people
    error: str | None = None
    exit_code: int = 0
    status: str = "written"  # "written", "skipped", "planned", "failed"

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0) + time.perf_counter() - started, 4)


@dataclass
class Frame:
    """A raw file on its way through the stages; the counts themselves are no longer needed."""

    picture: np.ndarray  # (H, W, 3) float32, encoded camera RGB: what the network sees
    origin: tuple[int, int]  # rows and columns to put in front so that the network sees red first
    matrix: np.ndarray  # (3, 3) float32, camera RGB to linear sRGB
    orientation: int  # EXIF


def develop(
    source: Path | str,
    target: Path | str,
    engine: Engine,
    options: Options | None = None,
    progress: Callable[[float], None] | None = None,
) -> Result:
    """Develop one raw file and write the picture.

    Parameters
    ----------
    source : path of a raw file, or "-" for standard input.
    target : path of the picture, or "-" for standard output.
    engine : from `deepisp_cli.engine.open_engine`.
    progress : called with the share of the network's work that is done, 0 to 1.

    Raises
    ------
    InputError, UnsupportedRawError, EngineError, OutputError, UsageError
        Each names the file, what is wrong and what to do.
    """
    options = options or Options()
    result = Result(str(source), str(target))
    raw, metadata = load(source, result)
    frame = to_frame(raw, options, result)
    del raw
    picture = finish(frame, engine, options, result, progress)
    write(picture, metadata, target, options, result)
    return result


def load(source: Path | str, result: Result) -> tuple[RawImage, Metadata]:
    """Read and unpack the file."""
    with result.timed("read"):
        raw, metadata = _read(source)
        result.notes += [*raw.notes, *metadata.notes]
    return raw, metadata


def to_frame(raw: RawImage, options: Options, result: Result) -> Frame:
    """Normalise, demosaic, encode."""
    with result.timed("demosaic"):
        gains, balance_remark = choose_white_balance(raw, options.white_balance)
        matrix, matrix_remark = camera_matrix(raw)
        result.notes += filter(None, (balance_remark, matrix_remark))
        picture = linear_rgb(raw, gains)
        _by_rows(encode, picture)
    origin = red_position(raw.pattern) if raw.pattern else (0, 0)
    return Frame(picture, origin, matrix, raw.orientation)


def prepare(source: Path | str, options: Options, result: Result) -> Frame:
    """Everything before the network: `load` and `to_frame`."""
    return to_frame(load(source, result)[0], options, result)


def frame_bytes(raw: RawImage) -> int:
    """The most memory that a picture takes on its way: two float32 pictures, the finished one, the counts."""
    height, width = raw.samples.shape[:2]
    return height * width * BYTES_PER_PIXEL


def finish(
    frame: Frame,
    engine: Engine,
    options: Options,
    result: Result,
    progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """Network, colour, rendering: (H, W, 3) uint8 or uint16, upright."""
    plain = frame.picture
    result.model, result.engine, result.device = engine.model.name, engine.name, engine.device
    with result.timed("network"):
        image, transform = run_tiled(engine, plain, frame.origin, options.tile, progress)
    with result.timed("colour"):
        gain = frame_gain(image, frame.matrix) if engine.model.metered else None
        if options.strength < 1:
            image -= plain  # in place: another 288 MB would be too many
            image *= np.float32(options.strength)
            image += plain
        frame.picture = plain = np.empty(0, np.float32)  # 288 MB of a 24-megapixel frame
        if options.look == "neutral":
            transform = None
        _by_rows(lambda rows: develop_colour(rows, frame.matrix, transform, options.exposure, gain), image)
    with result.timed("render"):
        pixels = render(image, frame.orientation, options.bit_depth)
    result.height, result.width = pixels.shape[:2]
    if float(pixels[::8, ::8].mean((0, 1)) @ LUMINANCE) < DARK * np.iinfo(pixels.dtype).max:
        result.notes.append("the picture is very dark; --exposure brightens it")
    return pixels


def write(
    pixels: np.ndarray, metadata: Metadata, target: Path | str, options: Options, result: Result
) -> None:
    """Encode and write, EXIF carried over."""
    with result.timed("write"):
        result.bytes = write_picture(
            sys.stdout.buffer if str(target) == STANDARD_STREAM else Path(target),
            pixels,
            metadata,
            format=options.format,
            quality=options.quality,
            software=f"deepisp {__version__} ({result.model})",
            overwrite=options.overwrite,
        )


def choose_white_balance(raw: RawImage, wanted: str) -> tuple[np.ndarray, str]:
    """Gains (3,) for R, G, B, the smallest 1, and a remark where it is not what was wanted.

    Without the camera's own white balance daylight is taken, without that the grey world. Early cameras (the
    Nikon D1) balanced the samples themselves and say nothing: samples that are nearer to grey as they are
    than daylight's gains would make them are left so.
    """
    if wanted not in ("camera", "daylight", "auto"):
        return _parse_gains(wanted), ""
    if wanted == "camera" and raw.camera_white_balance is not None:
        return raw.camera_white_balance, ""
    if wanted == "daylight" and raw.daylight_white_balance is not None:
        return raw.daylight_white_balance, ""
    if wanted == "camera" and raw.daylight_white_balance is not None:
        if raw.pattern and _nearer_to_one(_grey_world(raw), raw.daylight_white_balance):
            return np.ones(3, np.float32), "the samples are taken as white-balanced already"
        return raw.daylight_white_balance, "daylight white balance is used"
    remark = "" if wanted == "auto" else "white balance is estimated from the picture"
    if raw.pattern is None:
        return np.ones(3, np.float32), remark and "no white balance is applied"
    return _grey_world(raw), remark


def _grey_world(raw: RawImage) -> np.ndarray:
    return grey_world_gains(raw.samples, str(raw.pattern), raw.black, raw.white)


def _nearer_to_one(gains: np.ndarray, other: np.ndarray) -> bool:
    """Whether gains (3,) are nearer to no gain at all than to ``other``, by ratios against green."""
    ratios, others = np.log(gains / gains[1]), np.log(other / other[1])
    return bool(np.abs(ratios).sum() < np.abs(ratios - others).sum())


def linear_rgb(raw: RawImage, gains: np.ndarray) -> np.ndarray:
    """Linear camera RGB (H, W, 3) float32: black 0, white 1, neutral grey; linear files skip the demosaic."""
    if raw.pattern is None:
        samples = np.asarray(raw.samples, np.float32)
        return normalise(samples, raw.black, (gains / (raw.white - raw.black)).astype(np.float32))
    return demosaic(normalise_mosaic(raw.samples, raw.pattern, raw.black, raw.white, gains), raw.pattern)


def camera_matrix(raw: RawImage) -> tuple[np.ndarray, str]:
    """White-balanced camera RGB to linear sRGB, (3, 3) float32, and a remark where the file's is no use."""
    try:
        return srgb_from_camera(raw.xyz_to_camera), ""
    except ValueError as error:
        return srgb_from_camera(None), f"{error}: camera RGB is taken for sRGB"


def _by_rows(function: Callable[[np.ndarray], np.ndarray], frame: np.ndarray) -> None:
    """Replace ``frame`` by ``function`` of it, block of rows by block, on all cores (NumPy frees the GIL)."""

    def replace(top: int) -> None:
        rows = frame[top : top + BLOCK_ROWS]
        rows[:] = function(rows)

    with ThreadPoolExecutor(min(available_cores(), 8)) as pool:
        list(pool.map(replace, range(0, len(frame), BLOCK_ROWS)))


def _read(source: Path | str) -> tuple[RawImage, Metadata]:
    name = str(source)
    contents = BytesIO(_read_bytes(source))
    raw = read_raw(contents, name)
    fallback = {**raw.capture, "make": raw.make, "model": raw.model}
    return raw, read_metadata(contents, name, preview=read_preview(contents), fallback=fallback)


def _read_bytes(source: Path | str) -> bytes:
    if str(source) == STANDARD_STREAM:
        return sys.stdin.buffer.read()
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from error


def _parse_gains(text: str) -> np.ndarray:
    """ "R,G,B" to (3,) float32, the smallest 1."""
    try:
        gains = np.array([float(part) for part in text.split(",")], np.float32)
    except ValueError:
        gains = np.empty(0, np.float32)
    if gains.shape != (3,) or not np.all(np.isfinite(gains)) or gains.min() <= 0:
        raise UsageError(
            f"white balance {text!r}: give camera, daylight, auto or three gains such as 2.1,1,1.6"
        )
    return gains / gains.min()


def describe(source: Path | str) -> dict[str, Any]:
    """What the program understands of a raw file, for ``deepisp info``: plain JSON values.

    An unsupported or damaged file yields ``{"file", "supported": False, "reason"}`` and its exit code.
    """
    name = str(source)
    try:
        raw, metadata = _read(source)
    except InputError as error:
        reason = str(error).removeprefix(f"{name}: ")
        return {"file": name, "supported": False, "reason": reason, "exit_code": error.exit_code}
    captured = metadata.captured
    return {
        "file": name,
        "supported": True,
        "camera": metadata.camera,
        "lens": metadata.lens,
        "captured": captured.isoformat() if captured else None,
        "exposure_time": metadata.exposure_time,
        "f_number": metadata.f_number,
        "iso": metadata.iso,
        "focal_length": metadata.focal_length,
        "width": raw.samples.shape[1],
        "height": raw.samples.shape[0],
        "orientation": raw.orientation,
        "cfa": raw.pattern or "none (linear)",
        "black": np.unique(raw.black).tolist(),
        "white": np.unique(raw.white).tolist(),
        "white_balance": _rounded(raw.camera_white_balance),
        "daylight_white_balance": _rounded(raw.daylight_white_balance),
        "xyz_to_camera": _rounded(raw.xyz_to_camera),
        "gps": bool(metadata.gps),
        "notes": [*raw.notes, *metadata.notes],
    }


def _rounded(array: np.ndarray | None) -> list | None:
    return None if array is None else np.round(array.astype(float), 4).tolist()

"""Raw file → ``RawImage``: samples, levels, white balance and matrix as the file states them.

`deepisp_cli.libraw` decodes the samples, `deepisp_cli.dng_decode` those that LibRaw cannot. A DNG's own tags
(`deepisp_cli.dng_tags`) take precedence over what LibRaw makes of them.
"""

import io
import math
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from deepisp_cli import dng_decode, dng_levels, dng_tags, libraw
from deepisp_cli.calibration import Calibration, matrix_at
from deepisp_cli.clipping import clipping_level
from deepisp_cli.demosaic import BAYER_PATTERNS
from deepisp_cli.dng_corrections import correct
from deepisp_cli.dng_opcodes import fix_bad_pixels, shades_after_warp, unapplied_lists
from deepisp_cli.dng_tags import RawTag, Tags
from deepisp_cli.errors import InputError, UnsupportedRawError, UsageError, check_path, input_errors
from deepisp_cli.jpeg_headers import refuse_damaged_jpeg
from deepisp_cli.lens_warp import LensWarp, read_lens_warp
from deepisp_cli.libraw import Decoded
from deepisp_cli.refusals import refuse_by_tags
from deepisp_cli.stated_colour import COLOURLESS, stated_colours
from deepisp_cli.xtrans import SIDE, SMALLEST, is_x_trans

LARGEST_ASPECT = 4.0  # of pixels; cameras have up to 2, the Nikon D1X and old Kodaks
_LARGEST_EMPTY_TAIL = 8  # more all-zero rows at the end are missing data: a sensor's noise is never all zero
_ELSEWHERE = "develop it with darktable or RawTherapee"


@dataclass(frozen=True, eq=False)
class RawImage:
    """One raw picture as stored, within its default crop: not scaled, balanced or rotated, black included.

    The black level of ``samples[y, x]`` is ``black[y % rows, x % columns]``, its colour is
    ``pattern[side * (y % side) + x % side]``; the side of a Bayer mosaic is 2, of an X-Trans mosaic 6.

    Attributes
    ----------
    samples : (H, W) or (H, W, 3)
        Counts of a mosaic, or linear ones. Unsigned integers; float32 where the file has such numbers, where
        it lists corrections, and where rows or columns have their own black levels, which are already
        subtracted.
    pattern : str or None
        Colours of ``samples[:side, :side]`` in reading order: RGGB, BGGR, GRBG, GBRG or 36 letters; RGGB if
        the sensor is monochrome, which is a mosaic of a grey scene. None: linear.
    black : float32
        Counts. Mosaic: a tile (rows, columns), at least 2x2; linear: (3,).
    white : float32
        Counts at which light is white, which may differ as black does; lower than the file's if the sensor
        clips below that. Mosaic: a tile, repeating likewise; linear: (3,).
    camera_white_balance, daylight_white_balance : (3,) float32 or None
        RGB gains, the smallest 1, as shot and for D65. None: unknown.
    xyz_to_camera : (3, 3) float32 or None
        XYZ under D65 to the RGB of the samples. None: unknown.
    orientation : int
        EXIF orientation 1 to 8 that turns the samples upright.
    lens_warp : LensWarp or None
        What corrects the lens's distortion in the restored picture. ``samples`` are then what that needs, a
        little more than the default crop.
    make, model : str
        "" where the file is not TIFF-based (CR3, RAF).
    capture : mapping
        What LibRaw knows, for files whose EXIF cannot be read: iso, exposure_time (s), f_number, focal_length
        (mm), timestamp (datetime, the camera's clock), lens, artist; unknown keys are absent.
    notes : tuple of str
        For people: what the file lacks, what was not applied.
    clipped_at : float
        Where the sensor clips, as a share of the white level that the file states; ``white`` is lower by as
        much.
    brightened : float
        EV by which ``white`` is lower still, for the BaselineExposure of merged exposures.
    restored_strength : float
        The strength, 0 to 1, with which this program has restored it already.
    profile : tuple of RawTag
        A DNG's own tags about its colours; with its matrices if ``xyz_to_camera`` is from there.
    calibrations : tuple of Calibration
        Of a file with matrices for several lights, or one for another than D65, by colour temperature.
    pixel_aspect : float
        Width of a pixel over its height.
    monochrome : bool
        Whether all samples see the same colours. White balances are then 1, and there is no matrix.
    """

    samples: np.ndarray
    pattern: str | None
    black: np.ndarray
    white: np.ndarray
    camera_white_balance: np.ndarray | None
    daylight_white_balance: np.ndarray | None
    xyz_to_camera: np.ndarray | None
    orientation: int
    lens_warp: LensWarp | None
    make: str
    model: str
    capture: Mapping[str, Any]
    notes: tuple[str, ...]
    clipped_at: float = 1.0
    brightened: float = 0.0
    restored_strength: float = 0.0
    profile: tuple[RawTag, ...] = ()
    calibrations: tuple[Calibration, ...] = ()
    pixel_aspect: float = 1.0
    monochrome: bool = False

    @property
    def x_trans(self) -> bool:
        """Whether it is an X-Trans mosaic."""
        return self.pattern is not None and len(self.pattern) == SIDE**2

    def matrix_at(self, kelvin: float) -> np.ndarray | None:
        """XYZ to the RGB of the samples, (3, 3), under light of a colour temperature; None: unknown."""
        return matrix_at(kelvin, self.calibrations) if self.calibrations else self.xyz_to_camera

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the picture before it is turned upright."""
        if self.lens_warp is not None:
            return self.lens_warp.crop[1]
        height, width = self.samples.shape[:2]
        return height, width


def read_raw(source: BinaryIO | str | os.PathLike[str], name: str | None = None) -> RawImage:
    """Read one raw picture.

    Parameters
    ----------
    source : path, or seekable binary file
        LibRaw gets it already open, so that any path works. The position of a file is not kept.
    name : str, optional
        The file's name in messages; by default the path, or what the open file calls itself.

    Raises
    ------
    InputError
        If the file cannot be read, is not a raw file, or is damaged or cut off.
    UnsupportedRawError
        If it is intact, but not a Bayer or X-Trans mosaic, monochrome or a linear DNG that can be decoded.
    UsageError
        If ``source`` is neither a path nor a file that is open in binary mode and can be rewound.
    """
    if isinstance(source, str | os.PathLike):
        check_path(source)
        name = name or os.fspath(source)
        with input_errors(name):
            source = io.BytesIO(Path(source).read_bytes())
    name = name or str(getattr(source, "name", None) or "the raw file")
    if isinstance(source, io.TextIOBase) or not hasattr(source, "seek"):
        raise UsageError(f"{name}: give a path or a file open in binary mode, not {type(source).__name__}")
    with input_errors(name):
        try:
            source.seek(0)
            if type(source) is not io.BytesIO:  # else an error of the disk would pass for missing tags
                source = io.BytesIO(source.read())
            size = source.seek(0, 2)
        except ValueError as error:  # not seekable, not open for reading, or closed
            raise UsageError(
                f"{name}: cannot be rewound and read; give io.BytesIO with its contents"
            ) from error
    if size == 0:
        raise InputError(f"{name}: the file is empty; copy it from the camera again")
    tags = dng_tags.read_tags(source)
    with _named(name), np.errstate(all="ignore"):  # what comes of absurd numbers is checked
        refuse_by_tags(tags, size)
        refuse_damaged_jpeg(source, tags)
        return _assemble(_decode(source, tags), tags, source)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Put the file's name in front of what is wrong with it."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{name}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error) as error:
        raise InputError(f"{name}: damaged: its tags make no sense ({error}); copy it again") from error


def _decode(source: BinaryIO, tags: Tags) -> Decoded:
    if not dng_decode.is_decoded_here(tags):
        decoded = libraw.decode(source, tags)
        if not dng_tags.is_dng(tags) or decoded.samples.shape[:2] == dng_tags.stored_size(tags):
            return decoded  # else LibRaw took another of the file's images for the raw
    return dng_decode.decode(source, tags)


def _assemble(decoded: Decoded, tags: Tags, source: BinaryIO) -> RawImage:
    """Combine what LibRaw decoded with what the tags say."""
    colours = _mosaic_colours(decoded, tags)
    if colours is not None:
        period = len(colours) if np.ptp(colours) else 1  # of a monochrome sensor: any neighbour will do
        decoded = decoded._replace(samples=fix_bad_pixels(decoded.samples, tags, period))
    area = _picture_area(decoded, tags)
    samples = stored = _cut(decoded.samples, area, colours)
    notes = _check_tail(samples, colours is not None)
    restored = dng_tags.restored_strength(tags)
    pattern, monochrome = None, _is_monochrome(samples, colours, restored > 0)
    if colours is not None:
        colours = np.roll(colours, -area.corner, axis=(0, 1))
        pattern = "RRRR" if monochrome else _letters(decoded, colours)  # one plane
        samples = dng_levels.subtract_deltas(stored, tags, area.offset)
    black, stated = _levels(decoded, tags, colours, area.offset)
    white, share = stated, 1.0
    if pattern is not None:
        white, share = _clipped_white(stored, black, stated, dng_levels.most_by_deltas(tags))
    del stored
    samples = correct(samples, pattern, black, (stated, white), tags, area.offset, area.visible)
    brightened = max(0.0, dng_levels.baseline_exposure(tags) + math.log2(share))
    if brightened:
        white = black + np.float32(2**-brightened) * (white - black)
    aspect = decoded.pixel_aspect
    if not 1 / LARGEST_ASPECT <= aspect <= LARGEST_ASPECT:
        notes.append(f"pixels {aspect:g} times as wide as high are not believed: they are taken as square")
        aspect = 1.0
    image = RawImage(
        samples=samples,
        pattern="RGGB" if monochrome and pattern else pattern,
        black=black,
        white=white,
        orientation=_orientation(decoded, tags),
        lens_warp=area.lens_warp,
        clipped_at=share,
        brightened=brightened,
        restored_strength=restored,
        make=dng_tags.text(tags, "Make"),
        model=dng_tags.camera_model(tags),
        capture=decoded.capture,
        notes=(),
        pixel_aspect=aspect,
        monochrome=monochrome,
        **(COLOURLESS if monochrome else stated_colours(decoded, tags, source))._asdict(),
    )
    return replace(image, notes=(*notes, *_notes(image, tags)))


class _Area(NamedTuple):
    """Which of the decoded samples become the picture."""

    corner: np.ndarray  # (2,): its first row and column
    shape: tuple[int, int]  # its rows and columns
    offset: np.ndarray  # (2,): of the corner from that of the visible area
    visible: tuple[int, int]  # rows and columns of the visible area
    lens_warp: LensWarp | None


def _picture_area(decoded: Decoded, tags: Tags) -> _Area:
    """The crop that the file asks for; before a lens correction also what lies around it."""
    # LibRaw rounds an odd top or left of ActiveArea up, but levels and crop count from the exact position.
    origin, visible = dng_levels.active_area(tags, decoded.samples.shape) or (decoded.origin, decoded.visible)
    offset, shape = dng_levels.default_crop(tags, visible)
    lens_warp = read_lens_warp(tags, (offset, shape), visible)
    if lens_warp is not None:
        offset, shape = lens_warp.area
    return _Area(origin + offset, shape, offset, visible, lens_warp)


def _cut(samples: np.ndarray, area: _Area, colours: np.ndarray | None) -> np.ndarray:
    """The samples of the area, a contiguous copy.

    Raises
    ------
    ValueError
        If they do not reach as far.
    UnsupportedRawError
        If they are too few to be demosaiced.
    """
    (top, left), (height, width) = area.corner, area.shape
    samples = np.ascontiguousarray(samples[top : top + height, left : left + width])
    smallest = SMALLEST if colours is not None and len(colours) == SIDE else 2
    if samples.shape[:2] != tuple(area.shape):
        raise ValueError(f"a {'picture' if colours is None else 'mosaic'} of {height}x{width}")
    if min(area.shape) < smallest:
        raise UnsupportedRawError(f"{width}x{height} pixels are too few; {smallest} a side is the least")
    return samples


def _clipped_white(
    samples: np.ndarray, black: np.ndarray, stated: np.ndarray, most: float
) -> tuple[np.ndarray, float]:
    """The level at which a mosaic's sensor clips, where that is below the white that the file states, and its
    share of it. ``samples``: as stored, of which rows and columns have up to ``most`` more black."""
    # it clips at one count everywhere, so all samples have one scale: from the highest black level on
    highest = np.full_like(black, black.max() + most)
    share = clipping_level(samples, highest, np.minimum(highest + (stated - black), stated.max() + most))
    return (stated, 1.0) if share == 1 else (black + np.float32(share) * (stated - black), share)


def _levels(
    decoded: Decoded, tags: Tags, colours: np.ndarray | None, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`RawImage.black`, and white as the file states it. ``colours``: of the mosaic whose first sample is
    ``offset`` away from the visible area's."""
    if colours is None:
        black, white = dng_levels.linear_levels(tags)
    elif dng_tags.is_dng(tags):
        black, white = dng_levels.mosaic_levels(tags, offset)
    else:
        black, white = decoded.black[colours], decoded.white[colours]
    if not ((white > black).all() and np.isfinite([white.max(), black.min()]).all()):
        worst = np.where(white > black, -np.inf, black).argmax()
        levels = f"black level {black.ravel()[worst]:g}, white level {white.ravel()[worst]:g}"
        raise InputError(f"damaged: {levels}; copy it again")
    return black, white


def _orientation(decoded: Decoded, tags: Tags) -> int:
    """LibRaw's orientation; 1 for a DNG that states none of 1 to 8, which LibRaw would turn by 90 degrees."""
    stated = dng_tags.first_number(tags, "Orientation", 1)
    return decoded.orientation if stated in range(1, 9) or not dng_tags.is_dng(tags) else 1


def _check_tail(samples: np.ndarray, mosaic: bool) -> list[str]:
    """Refuse a mosaic that ends in zeros: LibRaw leaves samples missing from a damaged file at zero. A linear
    picture may have a black border: return a note."""
    filled = np.flatnonzero(samples.any(axis=tuple(range(1, samples.ndim))))
    end = int(filled[-1]) + 1 if filled.size else 0
    if end == 0:
        raise InputError("holds only zeros: its data is lost, or no light came in; copy it again")
    if len(samples) - end <= _LARGEST_EMPTY_TAIL:
        return []
    if mosaic:
        raise InputError(f"damaged: no data after row {end} of {len(samples)}; copy it again")
    return [f"the last {len(samples) - end} of {len(samples)} rows are empty: a border, or lost data"]


def _mosaic_colours(decoded: Decoded, tags: Tags) -> np.ndarray | None:
    """The colours of a Bayer or X-Trans mosaic, (2, 2) or (6, 6), equal ones of a monochrome sensor; None for
    a linear DNG."""
    linear = dng_tags.is_linear(tags)
    if decoded.colours is None:
        if linear and decoded.samples.ndim == 3 and dng_tags.first_number(tags, "SamplesPerPixel", 1) == 3:
            return None
        kind = "all colours at each pixel (Foveon, sRAW, YCC, multi-shot)"
        remedy = _ELSEWHERE if linear else "convert it to a linear DNG"
        raise UnsupportedRawError(f"a file with {kind} is not supported; {remedy}")
    if dng_tags.is_monochrome(tags) or (decoded.colours.shape == (1, 1) and not dng_tags.is_dng(tags)):
        return np.zeros((2, 2), int)
    if decoded.colours.shape == (1, 1):
        raise ValueError("no CFAPattern")
    colours = decoded.colours
    cell = colours[:2, :2]
    if np.array_equal(np.tile(cell, -(-np.array(colours.shape) // 2)), colours):  # several of its cells
        colours = cell
    pattern = _letters(decoded, colours)
    if pattern not in BAYER_PATTERNS and not is_x_trans(pattern):
        quad = colours.shape == (4, 4)
        kind = "a mosaic of 4x4 samples (quad Bayer, SuperCCD)" if quad else f"a mosaic of {pattern}"
        raise UnsupportedRawError(
            f"{kind} is not supported, only Bayer and X-Trans mosaics are; {_ELSEWHERE}"
        )
    return colours


def _is_monochrome(samples: np.ndarray, colours: np.ndarray | None, restored: bool) -> bool:
    """Whether the sensor sees no colours; of one whose raw has been restored, all planes are equal."""
    if colours is not None:
        return bool(np.ptp(colours) == 0)
    return restored and all(np.array_equal(samples[..., 0], samples[..., other]) for other in (1, 2))


def _letters(decoded: Decoded, colours: np.ndarray) -> str:
    return "".join(decoded.letters[colour] for colour in colours.ravel())


def _notes(image: RawImage, tags: Tags) -> tuple[str, ...]:
    brightest = max(0.0, (image.samples.max() - image.black.min()) / (image.white.max() - image.black.min()))
    unapplied = unapplied_lists(tags)
    reordered = image.lens_warp is not None and shades_after_warp(tags)
    remarks = {
        f"the sensor clips at {image.clipped_at:.1%} of the white level that the file states; this is used as"
        " white": image.clipped_at < 1,
        f"merged exposures, brightened by {image.brightened:.3g} EV for its BaselineExposure; in a finished"
        " picture what is brighter than white then is cut off": image.brightened,
        "no colour matrix: the camera's colours are not known": image.xyz_to_camera is None
        and not (image.calibrations or image.monochrome),
        "a monochrome sensor: the picture is grey": image.monochrome,
        "no as-shot white balance": image.camera_white_balance is None,
        "an X-Trans mosaic: fine detail is softer than from a Bayer mosaic": image.x_trans,
        "no black level: 0 is assumed": not image.black.any()
        and (not dng_tags.is_dng(tags) or ("MaskedAreas" in tags and "BlackLevel" not in tags)),
        f"very dark: nothing is brighter than {brightest:.2%} of white": brightest < 0.01,
        f"pixels are not square ({image.pixel_aspect:g}): the picture is stretched": image.pixel_aspect != 1,
        f"the corrections in its {' and '.join(unapplied)} are not applied": unapplied,
        "lens shading is corrected before distortion, which its OpcodeList3 has first": reordered,
    }
    return tuple(remark for remark, holds in remarks.items() if holds)

"""Raw file → ``RawImage``: samples, levels, white balance and matrix, all as the file states them.

LibRaw decodes the samples. What a DNG says in its own tags is taken from the tags: LibRaw rounds fractional
black levels, hides repeating ones, does not apply the default crop, leaves the XYZ matrix of a camera it does
not know at zero, and forgets the black level of lossy JPEG data. Tags: Adobe DNG Specification 1.7.
"""

import logging
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import rawpy
import tifffile

from deepisp_cli.errors import InputError, UnsupportedRawError

tifffile.logger().addHandler(logging.NullHandler())  # a damaged file is reported once, by us

# LibRaw's flip is "50132467"[orientation & 7], so EXIF orientation N is _FLIPS.index(flip) + 1.
_FLIPS = (0, 1, 3, 2, 4, 6, 7, 5)
# D65 white in XYZ, CIE 1931 2 degrees.
_D65 = np.array([0.95047, 1.0, 1.08883])
# EXIF LightSource codes from D65 (21) away: D55, D75, daylight kinds, flash, shade, D50; others are further.
_NEAR_D65 = (21, 20, 22, 1, 9, 10, 4, 11, 23)
# Channel gains further apart than this are nonsense, not light: candle light needs about 5.
_LARGEST_GAIN = 32.0
# More last rows than this of nothing but zeros are missing data: a sensor's noise never gives them.
_LARGEST_EMPTY_TAIL = 8
_FULL_SCALE = 65535.0  # white of decoded lossy data, as LibRaw scales it

_CFA, _LINEAR_RAW = 32803, 34892  # PhotometricInterpretation
_VC5, _LOSSY_JPEG = 9, 34892  # Compression
_MAP_POLYNOMIAL = 8  # OpcodeList2
# What the first directory says of its own data, usually a preview, and not of the raw data.
_OWN_TAGS = ("PhotometricInterpretation", "Compression", "SampleFormat", "BitsPerSample", "StripOffsets")
_STARTS = {
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"GIF8": "a GIF picture",
    b"BM": "a BMP picture",
    b"%PDF": "a PDF document",
    b"RIFF": "a RIFF file (WebP, AVI, WAV)",
    b"PK\x03\x04": "a ZIP archive",
}


@dataclass(frozen=True)
class RawImage:
    """One raw picture as stored within its default crop: not scaled, balanced, rotated, black not subtracted.

    The black level of ``samples[y, x]`` is ``black[y % rows, x % columns]``, its colour is
    ``pattern[2 * (y % 2) + x % 2]``.
    """

    # (H, W) mosaic counts or (H, W, 3) linear counts. uint16; float32 of a lossy DNG, and where rows or
    # columns have black levels of their own, which are subtracted already
    samples: np.ndarray
    # CFA colours of samples[:2, :2] in reading order: RGGB, BGGR, GRBG or GBRG; None: linear
    pattern: str | None
    # float32 counts. mosaic: (rows, columns) tile, at least 2x2; linear: (3,)
    black: np.ndarray
    # float32 counts. mosaic: (2, 2), one for each CFA position; linear: (3,)
    white: np.ndarray
    # (3,) float32 RGB gains, smallest 1. As shot, and for D65. None: unknown
    camera_white_balance: np.ndarray | None
    daylight_white_balance: np.ndarray | None
    # (3, 3) float32, XYZ under D65 to the RGB of the samples. None: unknown
    xyz_to_camera: np.ndarray | None
    # EXIF orientation 1 to 8 that turns the samples upright
    orientation: int
    # "" where the file is not TIFF-based (CR3, RAF)
    make: str
    model: str
    # What LibRaw knows, for files whose EXIF cannot be read: iso, exposure_time (s), f_number,
    # focal_length (mm), taken (datetime, the camera's clock), lens, artist; what it does not know is absent
    capture: Mapping[str, Any]
    # Remarks for people: what the file lacks, what was not applied
    notes: tuple[str, ...]


class _Frame(NamedTuple):
    """What LibRaw gave, copied out of its memory. Colours are LibRaw's numbers 0 to 3."""

    samples: np.ndarray  # (H, W) or (H, W, 3), with margins
    colours: np.ndarray | None  # (n, n) colour numbers from samples[0, 0]; None: no mosaic
    letters: str  # the letter of each colour number
    origin: np.ndarray  # (top, left) of the visible area
    visible: tuple[int, int]  # (height, width) of it
    orientation: int
    pixel_aspect: float
    black: np.ndarray  # (4,) by colour number
    white: np.ndarray  # (4,) by colour number
    camera_gains: np.ndarray  # (3,)
    daylight_gains: np.ndarray  # (3,)
    xyz_to_camera: np.ndarray  # (3, 3)
    capture: Mapping[str, Any]


def read_raw(source: BinaryIO, name: str) -> RawImage:
    """Read one raw picture.

    Parameters
    ----------
    source : seekable binary file
        Handed to LibRaw open, so that any path works. Its position is not kept.
    name : str
        What messages call the file.

    Raises
    ------
    InputError
        If the file is no raw file, damaged or cut off.
    UnsupportedRawError
        If it is whole, but not a three-colour Bayer mosaic or a linear DNG that can be decoded.
    """
    size = source.seek(0, 2)
    if size == 0:
        raise InputError(f"{name}: the file is empty; copy it from the camera again")
    tags = _read_tags(source)
    try:
        _refuse_by_tags(tags, size, name)
        return _assemble(_decode(source, name), tags, source, name)
    except (ArithmeticError, LookupError, TypeError, ValueError, struct.error) as error:
        raise InputError(f"{name}: damaged: its tags make no sense ({error}); copy it again") from error


def _assemble(frame: _Frame, tags: dict[str, Any], source: BinaryIO, name: str) -> RawImage:
    """Put together what LibRaw decoded and what the tags say."""
    pattern = _bayer_pattern(frame, tags, name)
    if pattern is None and _number(tags, "Compression", 1) == _LOSSY_JPEG:
        frame, tags = _decode_lossy(source, frame, tags, name)
    origin, visible = _active_area(frame, tags)
    offset, shape = _default_crop(tags, visible)
    (top, left), (height, width) = origin + offset, shape
    samples = np.ascontiguousarray(frame.samples[top : top + height, left : left + width])
    if pattern is None:
        black, white = _linear_levels(tags, name)
    else:
        _refuse_empty_tail(samples, name)
        pattern = "".join(pattern[2 * ((top + y) % 2) + (left + x) % 2] for y in (0, 1) for x in (0, 1))
        black, white = _mosaic_levels(frame, tags, origin, offset)
        samples = _subtract_deltas(samples, tags, offset)
    if not white.min() > black.max():
        raise InputError(f"{name}: damaged: black level {black.max():g}, white level {white.min():g}")
    matrix = _xyz_to_camera(frame, tags)
    camera, daylight = _white_balances(frame, tags, matrix)
    image = RawImage(
        samples=samples,
        pattern=pattern,
        black=black,
        white=white,
        camera_white_balance=camera,
        daylight_white_balance=daylight,
        xyz_to_camera=matrix,
        orientation=frame.orientation,
        make=tags.get("Make", ""),
        model=tags.get("Model", ""),
        capture=frame.capture,
        notes=(),
    )
    return replace(image, notes=_notes(image, tags, frame.pixel_aspect))


def read_preview(source: BinaryIO) -> bytes | None:
    """Return the largest embedded JPEG preview (LibRaw gives it an EXIF head if it has none), or None."""
    source.seek(0)
    with rawpy.RawPy() as raw:
        try:
            raw.open_buffer(source)
            # Never after unpack(): rawpy lets go of the buffer there and LibRaw would read freed memory.
            data = raw.extract_thumb().data
        except (rawpy.LibRawError, rawpy.NotSupportedError, NotImplementedError):
            return None
    return data if isinstance(data, bytes) else None


# What the tags say


def _read_tags(source: BinaryIO) -> dict[str, Any]:
    """Return a TIFF-based raw file's tags by name, those of the raw image over those of the first directory.

    Numbers come as float64 arrays, bytes as uint8 arrays, text as str. Empty if the file is not TIFF-based or
    cannot be walked; ``PhotometricInterpretation`` is there only if a raw image was found.
    """
    source.seek(0)
    try:
        with tifffile.TiffFile(source) as tif:
            tags = {tag.name: _tag_value(tag) for tag in tif.pages.first.tags if tag.name not in _OWN_TAGS}
            raw = _raw_page(tif)
            return tags if raw is None else tags | {tag.name: _tag_value(tag) for tag in raw.tags}
    except Exception:  # tifffile meets damage in many ways; LibRaw then decides alone
        return {}


def _raw_page(tif: tifffile.TiffFile) -> tifffile.TiffPage | None:
    """Return the directory of the largest raw image."""
    pages = [page for top in tif.pages for page in (top, *(top.pages or ()))]
    raws = [page for page in pages if page.photometric in (_CFA, _LINEAR_RAW) and not page.subfiletype]
    return max(raws, key=lambda page: page.imagewidth * page.imagelength, default=None)


def _tag_value(tag: tifffile.TiffTag) -> Any:
    value = tag.value
    if isinstance(value, str | dict):
        return value
    if isinstance(value, bytes):
        return np.frombuffer(value, np.uint8)
    numbers = np.atleast_1d(np.asarray(value, np.float64))
    if tag.dtype in (tifffile.DATATYPE.RATIONAL, tifffile.DATATYPE.SRATIONAL):
        with np.errstate(divide="ignore", invalid="ignore"):
            return numbers[0::2] / numbers[1::2]
    return numbers


def _number(tags: Mapping[str, Any], tag: str, default: float) -> float:
    return tags[tag][0] if tag in tags else default


def _refuse_by_tags(tags: Mapping[str, Any], size: int, name: str) -> None:
    """Refuse what the tags already tell: raw data beyond the end of the file, kinds not developed."""
    if "PhotometricInterpretation" not in tags:
        return
    for starts, lengths in (("StripOffsets", "StripByteCounts"), ("TileOffsets", "TileByteCounts")):
        if starts in tags and lengths in tags and (end := int((tags[starts] + tags[lengths]).max())) > size:
            raise InputError(
                f"{name}: cut off: raw data up to byte {end}, file ends at {size}; copy it again"
            )
    if _number(tags, "SampleFormat", 1) == tifffile.SAMPLEFORMAT.IEEEFP:
        raise UnsupportedRawError(f"{name}: floating-point samples are not developed; save it with integers")
    if "DNGVersion" in tags and _number(tags, "Compression", 1) == _VC5:
        raise UnsupportedRawError(
            f"{name}: GoPro's VC-5 cannot be decoded; convert it with Adobe's converter"
        )
    if _number(tags, "CFALayout", 1) != 1:
        raise UnsupportedRawError(f"{name}: a staggered mosaic is not developed; convert it to a linear DNG")


# What LibRaw decodes


def _decode(source: BinaryIO, name: str) -> _Frame:
    """Let LibRaw decode the file and copy everything out of its memory."""
    source.seek(0)
    start = source.read(12)
    source.seek(0)
    with rawpy.RawPy() as raw:
        try:
            raw.open_buffer(source)
        except rawpy.LibRawError as error:
            raise InputError(f"{name}: {_not_raw(start)}") from error
        try:
            raw.unpack()
            stored, colours = raw.raw_image, raw.raw_pattern
        except (rawpy.LibRawFileUnsupportedError, NotImplementedError, RuntimeError) as error:
            raise UnsupportedRawError(f"{name}: LibRaw cannot decode its data; convert it to DNG") from error
        except rawpy.LibRawError as error:
            raise InputError(f"{name}: damaged or cut off; copy it again") from error
        white = raw.camera_white_level_per_channel or [raw.white_level] * 4
        return _Frame(
            samples=stored[..., :3].copy() if stored.ndim == 3 else stored.copy(),
            colours=colours,
            letters=raw.color_desc.decode("ascii", "replace"),
            origin=np.array([raw.sizes.top_margin, raw.sizes.left_margin]),
            visible=(raw.sizes.height, raw.sizes.width),
            orientation=_FLIPS.index(raw.sizes.flip & 7) + 1,
            pixel_aspect=raw.sizes.pixel_aspect,
            black=np.array(raw.black_level_per_channel, np.float32),
            white=np.minimum(white, raw.white_level).astype(np.float32),
            camera_gains=np.array(raw.camera_whitebalance[:3]),
            daylight_gains=np.array(raw.daylight_whitebalance[:3]),
            xyz_to_camera=raw.rgb_xyz_matrix[:3].astype(np.float64),
            capture=_capture(raw),
        )


def _not_raw(start: bytes) -> str:
    for magic, kind in _STARTS.items():
        if start.startswith(magic):
            return f"{kind}, not a raw file; give the raw file that the camera wrote"
    return "not a raw file that LibRaw can read; if a camera wrote it, it is damaged, cut off or too new"


def _capture(raw: rawpy.RawPy) -> dict[str, Any]:
    """Return what LibRaw knows about the exposure; LibRaw says 0 for unknown."""
    other = raw.other
    known = {
        "iso": other.iso_speed,
        "exposure_time": other.shutter_speed,
        "f_number": other.aperture,
        "focal_length": other.focal_length,
        "taken": other.timestamp if other.timestamp != datetime.fromtimestamp(0) else None,
        "lens": raw.lens.model,
        "artist": other.artist,
    }
    return {key: value for key, value in known.items() if value}


def _decode_lossy(
    source: BinaryIO, frame: _Frame, tags: dict[str, Any], name: str
) -> tuple[_Frame, dict[str, Any]]:
    """Decode the 8-bit JPEG data of a lossy linear DNG as DNG says; levels become 0 and full scale.

    First black and white, then OpcodeList2's MapPolynomial. LibRaw applies the polynomial to the JPEG
    values and reports the JPEG's black level for the result.
    """
    black, white = _linear_levels(tags, name)
    source.seek(0)
    try:
        with tifffile.TiffFile(source) as tif:
            page = _raw_page(tif)
            assert page is not None
            stored = page.asarray()
        curves = (np.arange(256)[:, None] - black) / (white - black)
        for opcode, data in _opcodes(tags):
            if opcode == _MAP_POLYNOMIAL:
                # Area (4), plane, planes, row and column pitch, degree; Adobe writes one plane, all of it.
                plane, degree = struct.unpack_from(">16xI12xI", data)
                coefficients = struct.unpack_from(f">{degree + 1}d", data, 36)
                curves[:, plane] = np.polyval(coefficients[::-1], curves[:, plane])
        curves = (curves * _FULL_SCALE).astype(np.float32)
        samples = np.stack([curves[stored[..., plane], plane] for plane in range(3)], axis=-1)
    except Exception as error:  # tifffile and imagecodecs meet damage in many ways
        raise InputError(f"{name}: damaged: its JPEG data cannot be decoded; copy it again") from error
    done = {"BlackLevel": np.zeros(3), "WhiteLevel": np.full(3, _FULL_SCALE)}
    return frame._replace(samples=samples), tags | done


def _opcodes(tags: Mapping[str, Any]) -> list[tuple[int, bytes]]:
    """Return number and parameters of each entry of OpcodeList2."""
    data = tags["OpcodeList2"].tobytes() if "OpcodeList2" in tags else b""
    opcodes, position = [], 4  # behind the count
    while position + 16 <= len(data):
        opcode, _version, _flags, length = struct.unpack_from(">4I", data, position)
        opcodes.append((opcode, data[position + 16 : position + 16 + length]))
        position += 16 + length
    return opcodes


def _refuse_empty_tail(samples: np.ndarray, name: str) -> None:
    """Refuse a mosaic that ends in zeros: LibRaw leaves what a damaged file does not give at zero."""
    filled = np.flatnonzero(samples.any(axis=1))
    end = int(filled[-1]) + 1 if filled.size else 0
    if len(samples) - end > _LARGEST_EMPTY_TAIL:
        raise InputError(f"{name}: damaged: no data after row {end} of {len(samples)}; copy it again")


# Pattern, crop and levels


def _bayer_pattern(frame: _Frame, tags: Mapping[str, Any], name: str) -> str | None:
    """Return the colours of ``frame.samples[:2, :2]`` in reading order; None for a linear DNG."""
    linear = "DNGVersion" in tags and tags.get("PhotometricInterpretation") == _LINEAR_RAW
    if frame.colours is None:
        if not linear or frame.samples.ndim != 3 or _number(tags, "SamplesPerPixel", 1) != 3:
            kind = "all colours at each pixel (Foveon, sRAW, YCC, multi-shot)"
            raise UnsupportedRawError(
                f"{name}: a file with {kind} is not developed; convert it to a linear DNG"
            )
        return None
    if linear or frame.colours.shape == (1, 1):
        raise UnsupportedRawError(f"{name}: a monochrome raw has no colours to develop")
    if frame.colours.shape == (6, 6):
        raise UnsupportedRawError(
            f"{name}: Fujifilm's X-Trans mosaic is not developed, only Bayer mosaics are"
        )
    pattern = "".join(frame.letters[colour] for colour in frame.colours.ravel())
    if pattern not in ("RGGB", "BGGR", "GRBG", "GBRG"):
        raise UnsupportedRawError(f"{name}: a mosaic of {pattern} is not developed, only Bayer mosaics are")
    return pattern


def _active_area(frame: _Frame, tags: Mapping[str, Any]) -> tuple[np.ndarray, tuple[int, int]]:
    """Return (top, left) and (height, width) of DNG's ActiveArea, or LibRaw's visible area.

    LibRaw rounds an odd top or left of ActiveArea up, but levels and crop count from the true one.
    """
    if "DNGVersion" in tags and "ActiveArea" in tags:
        top, left, bottom, right = tags["ActiveArea"].astype(int)
        if 0 <= top < bottom <= frame.samples.shape[0] and 0 <= left < right <= frame.samples.shape[1]:
            return np.array([top, left]), (int(bottom - top), int(right - left))
    return frame.origin, frame.visible


def _default_crop(tags: Mapping[str, Any], visible: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Return (top, left) within the visible area and (height, width) of DNG's default crop.

    DefaultCropOrigin and DefaultCropSize are (horizontal, vertical) and count from the ActiveArea. A crop
    that does not fit is ignored; other raw files keep LibRaw's visible area.
    """
    origin = tags.get("DefaultCropOrigin", np.zeros(2))
    size = tags.get("DefaultCropSize", np.zeros(2))
    if "DNGVersion" in tags and origin.shape == size.shape == (2,) and np.isfinite([origin, size]).all():
        offset, shape = np.rint(origin[::-1]).astype(int), np.rint(size[::-1]).astype(int)
        if (offset >= 0).all() and (shape >= 2).all() and (offset + shape <= visible).all():
            return offset, (int(shape[0]), int(shape[1]))
    return np.zeros(2, int), visible


def _mosaic_levels(
    frame: _Frame, tags: Mapping[str, Any], origin: np.ndarray, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the black tile and the 2x2 white levels as seen from the first sample of the crop."""
    if "DNGVersion" not in tags:
        colours = np.roll(np.asarray(frame.colours), -(origin + offset), axis=(0, 1))
        return frame.black[colours], frame.white[colours]
    levels = tags.get("BlackLevel", np.zeros(1))
    unsaid = (2, 2) if levels.size == 4 else (1, 1)
    rows, columns = (int(number) for number in tags.get("BlackLevelRepeatDim", unsaid))
    tile = np.roll(levels.reshape(rows, columns), -offset, axis=(0, 1))  # repeats from the active area
    tile = np.tile(tile, (2 if rows == 1 else 1, 2 if columns == 1 else 1))
    return tile.astype(np.float32), np.full((2, 2), _white_level(tags)[0], np.float32)


def _subtract_deltas(samples: np.ndarray, tags: Mapping[str, Any], offset: np.ndarray) -> np.ndarray:
    """Subtract what BlackLevelDeltaV and -H add to the black of each row and column of the active area."""
    for axis, tag in enumerate(("BlackLevelDeltaV", "BlackLevelDeltaH")):
        if tag in tags and tags[tag].any():
            deltas = tags[tag][offset[axis] :][: samples.shape[axis]].astype(np.float32)
            samples = samples - np.expand_dims(deltas, 1 - axis)
    return samples


def _linear_levels(tags: Mapping[str, Any], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return black and white of each colour of a linear DNG."""
    black = tags.get("BlackLevel", np.zeros(1))
    deltas = [tags[tag].any() for tag in ("BlackLevelDeltaH", "BlackLevelDeltaV") if tag in tags]
    if black.size not in (1, 3) or any(deltas):
        raise UnsupportedRawError(f"{name}: a linear DNG whose black level varies over the picture")
    return np.resize(black, 3).astype(np.float32), np.resize(_white_level(tags), 3).astype(np.float32)


def _white_level(tags: Mapping[str, Any]) -> np.ndarray:
    return tags["WhiteLevel"] if "WhiteLevel" in tags else 2.0 ** tags["BitsPerSample"] - 1


# Colour


def _xyz_to_camera(frame: _Frame, tags: Mapping[str, Any]) -> np.ndarray | None:
    """Return DNG's AnalogBalance x CameraCalibration x ColorMatrix for the light nearest D65, or LibRaw's."""
    matrix = frame.xyz_to_camera
    numbers = [number for number in "123" if f"ColorMatrix{number}" in tags]
    if "DNGVersion" in tags and numbers:
        lights = [tags.get(f"CalibrationIlluminant{number}", [0])[0] for number in numbers]
        distances = [_NEAR_D65.index(light) if light in _NEAR_D65 else len(_NEAR_D65) for light in lights]
        number = numbers[distances.index(min(distances))]
        matrix = tags[f"ColorMatrix{number}"].reshape(-1, 3)
        same = tags.get("CameraCalibrationSignature", "") == tags.get("ProfileCalibrationSignature", "")
        if same and f"CameraCalibration{number}" in tags:
            matrix = tags[f"CameraCalibration{number}"].reshape(-1, len(matrix)) @ matrix
        matrix = tags.get("AnalogBalance", np.ones(len(matrix)))[:, None] * matrix
    usable = matrix.shape == (3, 3) and np.isfinite(matrix).all() and abs(np.linalg.det(matrix)) > 1e-6
    return matrix.astype(np.float32) if usable else None


def _white_balances(
    frame: _Frame, tags: Mapping[str, Any], matrix: np.ndarray | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the gains as shot and for D65. LibRaw's are all one where it knows nothing."""
    camera = None if np.ptp(frame.camera_gains) == 0 else _gains(frame.camera_gains)
    daylight = None if np.ptp(frame.daylight_gains) == 0 else _gains(frame.daylight_gains)
    with np.errstate(divide="ignore", invalid="ignore"):
        if "DNGVersion" in tags:
            camera = _gains(1 / tags["AsShotNeutral"]) if "AsShotNeutral" in tags else None
            if "AsShotWhiteXY" in tags and matrix is not None:
                x, y = tags["AsShotWhiteXY"]
                camera = _gains(1 / (matrix @ [x / y, 1.0, (1 - x - y) / y]))
        if matrix is not None:
            daylight = _gains(1 / (matrix @ _D65))
    return camera, daylight


def _gains(gains: np.ndarray) -> np.ndarray | None:
    """Return the gains with the smallest at 1, or None if they are no white balance."""
    if gains.shape != (3,) or not np.isfinite(gains).all() or gains.min() <= 0:
        return None
    gains = gains / gains.min()
    return gains.astype(np.float32) if gains.max() <= _LARGEST_GAIN else None


def _notes(image: RawImage, tags: Mapping[str, Any], pixel_aspect: float) -> tuple[str, ...]:
    brightest = (image.samples.max() - image.black.min()) / (image.white.max() - image.black.min())
    applied = () if image.pattern else (_MAP_POLYNOMIAL,)
    remarks = {
        "no colour matrix: the camera's colours are not known": image.xyz_to_camera is None,
        "no white balance as shot": image.camera_white_balance is None,
        "no black level, 0 assumed": not image.black.any() and "DNGVersion" not in tags,
        f"very dark: nothing is brighter than {brightest:.2%} of white": brightest < 0.01,
        f"pixels are not square ({pixel_aspect:g}): the picture comes out distorted": pixel_aspect != 1,
        "the corrections in its OpcodeList2 are not applied": any(
            opcode not in applied for opcode, _ in _opcodes(tags)
        ),
    }
    return tuple(remark for remark, holds in remarks.items() if holds)

"""The data of a DNG that LibRaw does not decode, or not as DNG specifies."""

from typing import BinaryIO

import numpy as np
import tifffile
from tifffile import COMPRESSION

from deepisp_cli.dng_tags import (
    DEFLATE,
    Tags,
    cfa_pattern,
    first_number,
    is_dng,
    is_floating,
    is_linear,
    raw_page,
    stored_size,
)
from deepisp_cli.errors import InputError
from deepisp_cli.jpeg_headers import LOSSLESS_JPEG
from deepisp_cli.libraw import Decoded, read_capture

_DECODED_HERE = (*DEFLATE, COMPRESSION.JPEG_LOSSY, COMPRESSION.JPEGXL_DNG)
_LARGEST_FLOAT = 1e9  # counts
_SMALLEST = 22  # pixels a side of what is visible that LibRaw takes for a raw
_INTERLEAVE_FACTORS = ("RowInterleaveFactor", "ColumnInterleaveFactor")  # by axis


def is_decoded_here(tags: Tags) -> bool:
    """Whether it is a DNG that LibRaw does not read, or gets wrong."""
    return is_dng(tags) and (_is_unknown_to_libraw(tags) or _is_misread_by_libraw(tags))


def _is_unknown_to_libraw(tags: Tags) -> bool:
    """JPEG XL (DNG 1.7) and Deflate, samples of more than 16 bits, pictures of a few pixels, and lossy JPEG,
    of which LibRaw does not tell the levels."""
    compression, bits = first_number(tags, "Compression", 1), first_number(tags, "BitsPerSample", 1)
    top, left, bottom, right = tags.get("ActiveArea", (0, 0, *stored_size(tags)))
    smallest = min(bottom - top, right - left, *stored_size(tags))
    return compression in _DECODED_HERE or bits > 16 or smallest < _SMALLEST


def _is_misread_by_libraw(tags: Tags) -> bool:
    """Floating-point samples, of which LibRaw makes whole numbers; interleaved fields; large cells of Bayer's
    mosaic; tiles wider than the picture; and two layouts that it takes for others: mosaics of a few tiles in
    lossless JPEG, whose lines of several components it joins, and strips of which it reads the first, and
    then on."""
    repeats = tuple(tags.get("CFARepeatPatternDim", (2, 2)))
    interleaved = any(first_number(tags, tag, 1) != 1 for tag in _INTERLEAVE_FACTORS)
    lossless = first_number(tags, "Compression", 1) == LOSSLESS_JPEG
    (_, width), tile = stored_size(tags), first_number(tags, "TileWidth", 0)
    joined = lossless and not is_linear(tags) and width in (2 * tile, 4 * tile)
    starts, counts = (tags.get(tag, np.zeros(1)) for tag in ("StripOffsets", "StripByteCounts"))
    strips = len(starts) > 1 and (lossless or not np.array_equal(starts[1:], (starts + counts)[:-1]))
    return (
        is_floating(tags)
        or interleaved
        or repeats not in ((2, 2), (6, 6))
        or tile > width
        or joined
        or strips
    )


def decode(source: BinaryIO, tags: Tags) -> Decoded:
    """Decode a DNG with tifffile and imagecodecs, as `libraw.decode` does; its tags say everything else.

    Raises
    ------
    InputError
        If the data is damaged.
    """
    samples = _samples(source, tags)
    across, down = tags.get("DefaultScale", np.ones(2))
    stated = 0 < across < np.inf and 0 < down < np.inf
    return Decoded(
        samples=samples,
        colours=cfa_pattern(tags),
        letters="RGBCMYW",
        origin=np.zeros(2, int),
        visible=samples.shape[:2],
        orientation=int(first_number(tags, "Orientation", 1)),
        pixel_aspect=across / down if stated else 1.0,
        capture=read_capture(source),
    )


def _samples(source: BinaryIO, tags: Tags) -> np.ndarray:
    """The raw image, (H, W) or (H, W, 3), unsigned integers or float32: with margins, interleaved fields in
    order, LinearizationTable applied."""
    stored = _stored(source)
    for axis, tag in enumerate(_INTERLEAVE_FACTORS):
        fields, length = int(first_number(tags, tag, 1)), stored.shape[axis]
        if not 1 <= fields <= length:
            raise ValueError(f"{tag} {fields} of {length}")
        order = np.concatenate([np.arange(field, length, fields) for field in range(fields)])
        stored = np.take(stored, np.argsort(order), axis)
    if not is_floating(tags):
        table = tags.get("LinearizationTable")  # of uint16; its last value stands for all beyond
        return stored if table is None else np.take(table.astype(np.uint16), stored, mode="clip")
    stored = stored.astype(np.float32, copy=False)
    if not (np.abs(stored) < _LARGEST_FLOAT).all():  # not a number is not
        raise InputError("damaged: it holds samples that are not numbers, or absurd; copy it again")
    return stored


def _stored(source: BinaryIO) -> np.ndarray:
    source.seek(0)
    try:
        with tifffile.TiffFile(source) as tif:
            page = raw_page(tif)
            assert page is not None
            return page.asarray()
    except MemoryError:
        raise
    except Exception as error:  # tifffile and imagecodecs fail on damage in many ways
        raise InputError("damaged: its image data cannot be decoded; copy it again") from error

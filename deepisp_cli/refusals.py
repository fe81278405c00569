"""What the tags of a raw file already give away: that it is cut off, or of a kind that is not developed."""

import math

import numpy as np
from tifffile import PLANARCONFIG, PREDICTOR

from deepisp_cli.dng_tags import (
    DEFLATE,
    Tags,
    first_number,
    is_dng,
    is_floating,
    is_linear,
    stored_parts,
    stored_size,
)
from deepisp_cli.errors import InputError, UnsupportedRawError

_VC5 = 9  # Compression, of DNGs
_FURTHER_PREDICTORS = (PREDICTOR.HORIZONTALX2, PREDICTOR.HORIZONTALX4)  # two and four samples to the left
_FLOATING = (16, 32)  # BitsPerSample
_LARGEST = 1 << 31  # bytes of samples, as LibRaw has it
# Panasonic's own tags, as tifffile calls them: its numbers mean other things in other files.
_SENSOR_WIDTH, _SENSOR_HEIGHT, _RAW_FORMAT, _RAW_DATA_OFFSET = "2", "3", "45", "MinSampleValue"
_LAST_FIXED_RATE = 7  # Panasonic's RawFormat; from 8 on the data is of variable length
_LEAST_RATE = 16 / 14  # bytes per sample of RawFormat 4; the others need more


def refuse_by_tags(tags: Tags, size: int) -> None:
    """Refuse what the tags already give away: raw data beyond the end of the file, kinds not developed.

    Parameters
    ----------
    tags : from `read_tags`.
    size : bytes in the file.

    Raises
    ------
    InputError, UnsupportedRawError
    """
    _refuse_short_panasonic(tags, size)
    for starts, lengths in (("StripOffsets", "StripByteCounts"), ("TileOffsets", "TileByteCounts")):
        if starts in tags and lengths in tags and (end := int((tags[starts] + tags[lengths]).max())) > size:
            raise InputError(f"cut off: its raw data ends at byte {end}, the file at {size}; copy it again")
    if is_dng(tags):
        _refuse_too_few_bytes(tags)
        _refuse_unsupported(tags)
        _refuse_too_few_parts(tags)


def _refuse_unsupported(tags: Tags) -> None:
    """Refuse kinds of DNG that are not developed."""
    compression, bits = first_number(tags, "Compression", 1), first_number(tags, "BitsPerSample", 16)
    predictor, planes = first_number(tags, "Predictor", 1), first_number(tags, "PlanarConfiguration", 1)
    height, width = stored_size(tags)
    size = width * height * first_number(tags, "SamplesPerPixel", 1) * 2
    converter = "convert it with Adobe DNG Converter"
    kinds = {
        "a linear DNG with one plane for each colour is not supported; save it with interleaved colours":
            is_linear(tags) and planes == PLANARCONFIG.SEPARATE,
        f"floating-point samples of {bits:g} bits are not supported; save it with 16 or 32 bits":
            is_floating(tags) and bits not in _FLOATING,
        f"samples predicted from further away are not supported; {converter}":
            compression in DEFLATE and predictor in _FURTHER_PREDICTORS,
        f"GoPro's VC-5 cannot be decoded; {converter}": compression == _VC5,
        f"samples in blocks within tiles are not supported; {converter}":
            (tags.get("SubTileBlockSize", np.ones(1)) != 1).any(),
        f"{width:.0f}x{height:.0f} pixels are too many; develop a part of it": size > _LARGEST,
        "a staggered mosaic is not supported; convert it to a linear DNG":
            first_number(tags, "CFALayout", 1) != 1,
    }  # fmt: skip
    for message, holds in kinds.items():
        if holds:
            raise UnsupportedRawError(message)


def _refuse_short_panasonic(tags: Tags, size: int) -> None:
    """Refuse a cut-off RW2, whose tags state no length: LibRaw would repeat the last block that is there."""
    if not 0 < first_number(tags, _RAW_FORMAT, 0) <= _LAST_FIXED_RATE:
        return
    start, width, height = (
        first_number(tags, key, 0) for key in (_RAW_DATA_OFFSET, _SENSOR_WIDTH, _SENSOR_HEIGHT)
    )
    if (end := int(start + width * height * _LEAST_RATE)) > size:
        raise InputError(
            f"cut off: its raw data ends at byte {end} or later, the file at {size}; copy it again"
        )


def _refuse_too_few_parts(tags: Tags) -> None:
    """Refuse fewer tiles or strips than the picture consists of: LibRaw would leave memory unfilled."""
    height, width = stored_size(tags)
    parts = stored_parts(tags)
    if parts is not None and parts.rows > 0 and parts.columns > 0:
        needed = math.ceil(height / parts.rows) * math.ceil(width / parts.columns)
        if len(parts.offsets) < needed:
            raise InputError(f"damaged: {len(parts.offsets)} {parts.kind}s of {needed}; copy it again")


def _refuse_too_few_bytes(tags: Tags) -> None:
    """Refuse uncompressed data that is too short for its size: LibRaw would leave memory unfilled."""
    counts = tags.get("StripByteCounts", tags.get("TileByteCounts"))
    if counts is None or first_number(tags, "Compression", 1) != 1:
        return
    (height, width), bits = stored_size(tags), first_number(tags, "BitsPerSample", 1)  # TIFF's default
    needed = int(width * height * bits * first_number(tags, "SamplesPerPixel", 1) // 8)
    if counts.sum() < needed:
        raise InputError(
            f"damaged: {int(counts.sum())} bytes of raw data where {width:g}x{height:g} samples"
            f" of {bits:g} bits need {needed}; copy it again"
        )

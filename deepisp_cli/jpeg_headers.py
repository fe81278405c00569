"""Whether the lossless JPEG in a DNG begins as it should.

Where it does not, LibRaw leaves memory unfilled; and it believes any size that is stated there, for which it
may take minutes.
"""

import struct
from io import SEEK_CUR
from typing import BinaryIO

from tifffile import COMPRESSION

from deepisp_cli.dng_tags import Tags, first_number, is_dng, stored_parts
from deepisp_cli.errors import InputError

LOSSLESS_JPEG = COMPRESSION.JPEG  # which it is in a DNG
_SOI, _SOF0, _SOF3 = 0xD8, 0xC0, 0xC3  # markers: start of image, first and last of frames
_MOST_MARKERS = 100  # before the frame's; files have a few
_LARGEST = 2.0  # times as many samples as a tile has: some writers fill tiles up to whole blocks


def refuse_damaged_jpeg(source: BinaryIO, tags: Tags) -> None:
    """Refuse what does not begin with the headers of a JPEG of the size of its tile or strip.

    Parameters
    ----------
    source : seekable binary file
        Its position is not kept.
    tags : from `dng_tags.read_tags`.

    Raises
    ------
    InputError
    """
    parts = stored_parts(tags)
    if not is_dng(tags) or first_number(tags, "Compression", 1) != LOSSLESS_JPEG or parts is None:
        return
    most = _LARGEST * parts.rows * parts.columns * first_number(tags, "SamplesPerPixel", 1)
    for number, offset in enumerate(parts.offsets, 1):
        if not 0 < _samples(source, int(offset)) <= most:
            raise InputError(
                f"damaged: {parts.kind} {number} does not begin as lossless JPEG does; copy it again"
            )


def _samples(source: BinaryIO, offset: int) -> int:
    """The samples that the JPEG there states to hold; 0 if it does not get as far."""
    source.seek(offset)
    if source.read(2)[1:] != bytes((_SOI,)):  # LibRaw looks at the second byte alone
        return 0
    for _ in range(_MOST_MARKERS):
        header = source.read(9)
        while header[:2] == b"\xff\xff":  # fill bytes
            header = header[1:] + source.read(1)
        if len(header) < 9 or header[0] != 0xFF:
            return 0
        if _SOF0 <= header[1] <= _SOF3:
            height, width = struct.unpack_from(">HH", header, 5)
            return height * width * (source.read(1) or b"\0")[0]
        source.seek(int.from_bytes(header[2:4], "big") - 7, SEEK_CUR)
    return 0

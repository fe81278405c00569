"""Whether the lossless JPEG in a DNG begins as it should.

Where it does not, LibRaw leaves memory unfilled; and it believes any size that is stated there, for which it
may take minutes.
"""

import struct
from typing import BinaryIO

from deepisp_cli.dng_tags import Tags, first_number, is_dng, stored_size
from deepisp_cli.errors import InputError

LOSSLESS_JPEG = 7  # Compression
_SOI, _SOF0, _SOF3 = 0xD8, 0xC0, 0xC3  # markers: start of image, first and last of frames
_HEADER = 1 << 16  # bytes that the markers before the frame's may take
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
    if not is_dng(tags) or first_number(tags, "Compression", 1) != LOSSLESS_JPEG:
        return
    height, width = stored_size(tags)
    if "TileOffsets" in tags:
        rows, columns = first_number(tags, "TileLength", height), first_number(tags, "TileWidth", width)
    else:
        rows, columns = min(first_number(tags, "RowsPerStrip", height), height), width
    most = _LARGEST * rows * columns * first_number(tags, "SamplesPerPixel", 1)
    for number, offset in enumerate(tags.get("TileOffsets", tags.get("StripOffsets", ())), 1):
        source.seek(int(offset))
        found = _samples(source.read(_HEADER))
        if not 0 < found <= most:
            part = "tile" if "TileOffsets" in tags else "strip"
            raise InputError(f"damaged: {part} {number} does not begin as lossless JPEG does; copy it again")


def _samples(data: bytes) -> int:
    """The samples that a JPEG states to hold; 0 if it does not get as far."""
    if data[1:2] != bytes((_SOI,)):
        return 0
    place = 2
    while data[place : place + 1] == b"\xff" and place + 10 <= len(data):
        marker = data[place + 1]
        if _SOF0 <= marker <= _SOF3:
            height, width, components = struct.unpack_from(">HHB", data, place + 5)
            return int(height * width * components)
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return 0

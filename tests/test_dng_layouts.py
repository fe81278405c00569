"""Where a DNG's raw data lies: tiles, strips and directories that LibRaw takes for others."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from conftest import DNG_VERSION, RGGB, with_tag

from deepisp_cli.dng_tags import read_tags
from deepisp_cli.errors import InputError
from deepisp_cli.raw import read_raw

SHORT = 3  # a TIFF type
TILE_OFFSETS, STRIP_OFFSETS = 324, 273
LOSSLESS_JPEG = 7


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(200, 16000, (height, width), dtype=np.uint16)


def lossless(part, components=2):
    """A part of a mosaic in lossless JPEG, each line as pixels of several components."""
    part = np.ascontiguousarray(part).reshape(len(part), -1, components)
    return bytes(imagecodecs.jpeg8_encode(part, lossless=True, predictor=1, bitspersample=16))


def dng(samples, parts=None, extra=(), **options):
    """A DNG of a mosaic; ``parts``: its tiles or strips in lossless JPEG."""
    file = io.BytesIO()
    options = {"photometric": "cfa", "subfiletype": 0, "metadata": None, **options}
    if parts is not None:
        options |= {
            "compression": LOSSLESS_JPEG,
            "shape": samples.shape,
            "dtype": np.uint16,
            "bitspersample": 16,
        }
    with tifffile.TiffWriter(file) as writer:
        data = samples if parts is None else iter(parts)
        writer.write(data, extratags=[*DNG_VERSION, *RGGB, *extra], **options)
    return file.getvalue()


def read(data):
    return read_raw(io.BytesIO(data), "test.dng")


def in_order(data, code, order):
    """The file with the offsets of its tiles or strips in another order."""
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        tag = tif.pages[0].tags[code]
        offsets, place = tag.value, tag.valueoffset
    data = bytearray(data)
    struct.pack_into(f"<{len(offsets)}I", data, place, *(offsets[index] for index in order))
    return bytes(data)


@pytest.mark.parametrize("components", [1, 2, 4])
@pytest.mark.parametrize("across", [1, 2, 3, 4, 8])
def test_any_number_of_tiles_in_lossless_jpeg_lies_across(across, components):
    samples = noise(64, 64 * across)
    tiles = [lossless(samples[:, left : left + 64], components) for left in range(0, 64 * across, 64)]
    np.testing.assert_array_equal(read(dng(samples, tiles, tile=(64, 64))).samples, samples)


@pytest.mark.parametrize("rows", [128, 64, 48])
def test_strips_in_lossless_jpeg_are_all_read(rows):
    samples = noise(128, 96)
    strips = [lossless(samples[top : top + rows]) for top in range(0, 128, rows)]
    np.testing.assert_array_equal(read(dng(samples, strips, rowsperstrip=rows)).samples, samples)


def test_uncompressed_strips_may_lie_in_any_order():
    samples = noise(128, 96)
    upside_down = np.concatenate([samples[64:], samples[:64]])
    data = in_order(dng(upside_down, rowsperstrip=64), STRIP_OFFSETS, (1, 0))
    np.testing.assert_array_equal(read(data).samples, samples)


def test_uncompressed_strips_may_have_gaps():
    samples = noise(128, 96)
    stored = np.concatenate([samples[:64], np.zeros((32, 96), np.uint16), samples[64:]])
    data = dng(stored, rowsperstrip=32)
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        place = tif.pages[0].tags[STRIP_OFFSETS].valueoffset
        offsets = tif.pages[0].tags[STRIP_OFFSETS].value
    data = bytearray(with_tag(data, 257, 257, 128))  # ImageLength
    struct.pack_into("<4I", data, place, *(offsets[:2] + offsets[3:]))
    np.testing.assert_array_equal(read(bytes(data)).samples, samples)


@pytest.mark.parametrize("compression", [None, LOSSLESS_JPEG, "zlib"])
@pytest.mark.parametrize("sizes", [(40, 64), (64, 40)], ids=["small first", "large first"])
def test_of_several_raw_images_the_largest_is_the_raw(sizes, compression):
    """Samples and levels are of the same one."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for size in sizes:
            options = {"photometric": "cfa", "subfiletype": 0, "metadata": None, "compression": compression}
            samples = noise(size, size, size)
            if compression == LOSSLESS_JPEG:
                options |= {"shape": samples.shape, "dtype": np.uint16, "bitspersample": 16}
                samples = iter([lossless(samples)])
            black = (50714, SHORT, 1, size)
            writer.write(samples, extratags=[*DNG_VERSION, *RGGB, black], rowsperstrip=size, **options)
    image = read(file.getvalue())
    np.testing.assert_array_equal(image.samples, noise(64, 64, 64))
    assert (image.black == 64).all()


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("first", [1, 6])
@pytest.mark.parametrize("own", [None, 1, 6])
def test_orientation_may_be_stated_in_either_directory(compression, first, own):
    """DNG has it in the first; a raw's own directory may repeat TIFF's default."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        preview = np.zeros((16, 16, 3), np.uint8)
        tags = [*DNG_VERSION, (274, SHORT, 1, first)]
        writer.write(preview, subfiletype=1, subifds=1, metadata=None, extratags=tags, photometric="rgb")
        options = {"photometric": "cfa", "subfiletype": 0, "metadata": None, "compression": compression}
        tags = [*RGGB, *([(274, SHORT, 1, own)] if own else [])]
        writer.write(noise(48, 64), extratags=tags, **options)
    assert read(file.getvalue()).orientation == max(first, own or 1)


def test_missing_tiles_are_damage():
    samples = noise(128, 192)
    data = dng(samples, tile=(64, 64), compression="zlib")
    read(data)
    missing = with_tag(data, 257, 257, 192)  # ImageLength: a row of tiles more
    with pytest.raises(InputError, match=r"test\.dng: damaged: 6 tiles of 9"):
        read(missing)
    with pytest.raises(InputError, match="damaged: 2 strips of 3"):
        read(with_tag(dng(samples, rowsperstrip=64, compression="zlib"), 257, 257, 192))


def test_black_that_only_masked_samples_tell_is_noted():
    areas = [(50830, SHORT, 4, (0, 0, 64, 4))]
    assert "no black level: 0 is assumed" in read(dng(noise(64, 64), extra=areas)).notes
    stated = [*areas, (50714, SHORT, 1, 0)]
    assert "no black level: 0 is assumed" not in read(dng(noise(64, 64), extra=stated)).notes


def first_jpeg(data):
    """Where the first tile or strip begins."""
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        return tif.pages[0].dataoffsets[0]


@pytest.mark.parametrize("options", [{"tile": (64, 64)}, {"rowsperstrip": 64}], ids=["tile", "strip"])
def test_a_jpeg_that_does_not_begin_as_one_is_damage(options):
    """LibRaw would leave memory unfilled."""
    samples = noise(128, 64)
    data = bytearray(dng(samples, [lossless(samples[:64]), lossless(samples[64:])], **options))
    read(bytes(data))
    start = first_jpeg(bytes(data))
    for lost in (slice(start, start + 2), slice(start + 2, start + 40), slice(start, start + 200)):
        broken = data.copy()
        broken[lost] = bytes(lost.stop - lost.start)
        (kind,) = options
        with pytest.raises(InputError, match=rf"damaged: {kind.removeprefix('rowsper')} 1 does not begin"):
            read(bytes(broken))


def test_a_jpeg_larger_than_its_tile_is_damage():
    """LibRaw would be busy with it for minutes."""
    samples = noise(128, 64)
    data = bytearray(dng(samples, [lossless(samples[:64]), lossless(samples[64:])], tile=(64, 64)))
    frame = data.rindex(b"\xff\xc3")  # of the second
    data[frame + 5 : frame + 9] = b"\xff" * 4
    with pytest.raises(InputError, match="damaged: tile 2 does not begin as lossless JPEG does"):
        read(bytes(data))


@pytest.mark.parametrize("area", [(4, 5, 25, 60), (4, 5, 60, 26), (4, 5, 26, 27)])
def test_an_active_area_may_be_small(area):
    """LibRaw takes nothing below 22 rows or columns for a raw."""
    top, left, bottom, right = area
    samples = noise(64, 64)
    image = read(dng(samples, extra=[(50829, SHORT, 4, area)]))
    np.testing.assert_array_equal(image.samples, samples[top:bottom, left:right])


@pytest.mark.parametrize("parts", [None, "lossless JPEG"])
@pytest.mark.parametrize("stated", [None, 8], ids=["of the preview", "wrong"])
def test_one_strip_is_all_of_it_whatever_its_rows(parts, stated):
    """TIFF need not state them; what the first directory says is about its preview."""
    samples, file = noise(96, 64), io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        preview = np.zeros((16, 16, 3), np.uint8)
        of_preview = {"rowsperstrip": 8, "subifds": 1, "subfiletype": 1, "photometric": "rgb"}
        writer.write(preview, metadata=None, extratags=DNG_VERSION, **of_preview)
        options = {"photometric": "cfa", "subfiletype": 0, "metadata": None, "rowsperstrip": 96}
        if parts:
            options |= {"shape": samples.shape, "dtype": np.uint16, "bitspersample": 16, "compression": 7}
        writer.write(iter([lossless(samples)]) if parts else samples, extratags=RGGB, **options)
    data = bytearray(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        (raw,) = tif.pages[0].pages
        tag = raw.tags["RowsPerStrip"]
    if stated:
        struct.pack_into("<H", data, tag.valueoffset, stated)
    else:
        struct.pack_into("<H", data, tag.offset, 65000)  # another tag
        assert "RowsPerStrip" not in read_tags(io.BytesIO(data))
    np.testing.assert_array_equal(read(bytes(data)).samples, samples)


def test_headers_before_the_frame_may_be_long():
    samples = noise(64, 64)
    jpeg = lossless(samples)
    long = jpeg[:2] + 3 * (b"\xff\xe5\xff\xff" + bytes(65533)) + jpeg[2:]
    np.testing.assert_array_equal(read(dng(samples, [long], tile=(64, 64))).samples, samples)

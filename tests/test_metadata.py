"""What is read from a source and what is left behind; damage stops nothing. Pillow writes the inputs."""

import io
import logging
import struct
from datetime import datetime, timedelta, timezone
from fractions import Fraction

import exifread
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from deepisp_cli.exif_values import READERS
from deepisp_cli.metadata import EXIF_TAGS, GPS_TAGS, IMAGE_TAGS, Metadata, read_metadata
from deepisp_cli.output import write_picture

IMAGE = {0x010F: "Maker", 0x0110: "M-1", 0x013B: "Zoë".encode(), 0x0132: "2024:05:17 06:07:09"}
EXIF = {
    0x829A: IFDRational(10, 1250),
    0x829D: IFDRational(28, 10),
    0x8827: 400,
    0x9003: "2024:05:17 06:07:08",
    0x9011: "-03:30",
    0x9291: "25",
    0x9204: IFDRational(-1, 3),
    0x920A: IFDRational(50),
    0xA434: "50 mm",
    0xA436: "Night",  # ImageTitle and Photographer, of EXIF 3.0
    0xA437: "Zoe",
}
GPS = {1: "N", 2: (IFDRational(48), IFDRational(51), IFDRational(295, 10)), 5: b"\1", 29: "2024:05:17"}


def tiff(image=IMAGE, exif=EXIF, gps=GPS, endian="<") -> bytes:
    """A TIFF structure with the given IFDs and no picture, like most raws as far as EXIF is concerned."""
    block = Image.Exif()
    block.endian = endian
    block.update(image)
    if exif:
        block[0x8769] = dict(exif)
    if gps:
        block[0x8825] = dict(gps)
    return block.tobytes()[6:]


def jpeg(block: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "jpeg", exif=b"Exif\0\0" + block)
    return buffer.getvalue()


def read(data: bytes, **options) -> Metadata:
    return read_metadata(io.BytesIO(data), "x.dng", **options)


def cr3() -> bytes:
    def box(kind, body):
        return struct.pack(">I", 8 + len(body)) + kind + body

    boxes = [
        box(b"CMT1", tiff(IMAGE, None, None)),
        box(b"CMT2", tiff({**EXIF, 0x9286: b"ASCII\0\0\0hello"}, None, None)),
        box(b"CMT3", b"maker note"),
        box(b"CMT4", tiff(GPS, None, None)),
    ]
    moov = box(b"moov", box(b"uuid", bytes(16) + b"".join(boxes)))
    return box(b"ftyp", b"crx \0\0\0\1crx isom") + moov + box(b"mdat", bytes(1000))


def raf() -> bytes:
    preview = jpeg(tiff())
    return (
        b"FUJIFILMCCD-RAW 0201".ljust(84, b"\0") + struct.pack(">II", 148, len(preview)) + bytes(56) + preview
    )


def mrw() -> bytes:
    def block(name, body):
        return b"\0" + name + struct.pack(">I", len(body)) + body

    blocks = block(b"PRD", bytes(24)) + block(b"TTW", tiff(endian=">"))
    return block(b"MRM", blocks) + bytes(1000)


@pytest.mark.parametrize(
    "data",
    [tiff(), tiff(endian=">"), jpeg(tiff()), cr3(), raf(), mrw()],
    ids=["little", "big", "jpeg", "cr3", "raf", "mrw"],
)
def test_every_kind_of_source_is_read(data):
    found = read(data)
    assert found.notes == ()
    assert found.image == {**IMAGE, 0x013B: "Zoë"}
    expected = {
        0x829A: Fraction(1, 125),
        0x829D: Fraction(14, 5),
        0x8827: 400,
        0x9003: "2024:05:17 06:07:08",
        0x9011: "-03:30",
        0x9291: "25",
        0x9204: Fraction(-1, 3),
        0x920A: Fraction(50),
        0xA434: "50 mm",
        0xA436: "Night",
        0xA437: "Zoe",
    }
    assert {tag: found.exif[tag] for tag in expected} == expected
    assert found.gps == {1: "N", 2: (48, 51, Fraction(59, 2)), 5: 1, 29: "2024:05:17"}
    assert found.captured == datetime(2024, 5, 17, 6, 7, 8, 250000, timezone(-timedelta(hours=3, minutes=30)))
    assert (found.camera, found.lens, found.iso) == ("Maker M-1", "50 mm", 400)
    assert (found.exposure_time, found.f_number, found.focal_length) == (0.008, 2.8, 50)


@pytest.mark.parametrize(
    ("fraction", "microseconds"),
    [("5", 500000), ("1234567", 123456), ("x5", 0), ("", 0), ("²", 0), ("٣", 0), ("5²", 0)],
)
def test_fractions_of_a_second(fraction, microseconds):
    metadata = Metadata(exif={0x9003: "2024:05:17 06:07:08", 0x9291: fraction})
    assert metadata.captured == datetime(2024, 5, 17, 6, 7, 8, microseconds)


def test_a_year_before_1000_keeps_its_zeros():
    found = read(tiff(exif={0x9003: "0099:05:17 06:07:08"}))
    assert found.exif[0x9003] == "0099:05:17 06:07:08"


def test_the_comment_of_a_cr3_is_found():
    assert read(cr3()).exif[0x9286] == "hello"


def test_only_what_stays_true_is_carried():
    """Structure, orientation, colour, thumbnails, maker notes and DNG tags concern only the source."""
    image = {
        **IMAGE,
        0x0100: 6000,
        0x0103: 7,
        0x0112: 6,
        0x0131: "firmware",
        0xC621: (IFDRational(1),) * 9,
        0xC634: b"note",
    }
    found = read(tiff(image, {**EXIF, 0x927C: b"note", 0xA001: 65535, 0xA002: 6000, 0x9000: b"0230"}))
    assert found.image.keys() == IMAGE.keys()
    assert found.exif.keys() == EXIF.keys()
    assert not IMAGE_TAGS.keys() & EXIF_TAGS.keys()
    assert GPS_TAGS.keys() == set(range(32))


def test_the_source_comes_before_the_preview_and_both_before_the_rest():
    source = tiff({0x010F: "Source"}, {0x8827: 100}, None)
    preview = jpeg(tiff({0x010F: "Preview", 0x0110: "P-1"}, {0x8827: 200, 0x829D: IFDRational(4)}))
    known = {
        "make": "Raw",
        "model": "R-1",
        "iso": 300.0,
        "f_number": 8.0,
        "exposure_time": 0.0125,
        "lens": "L",
    }
    found = read(source, preview=preview, fallback=known)
    assert found.image == {0x010F: "Source", 0x0110: "P-1"}
    assert found.exif == {0x8827: 100, 0x829D: 4, 0x829A: Fraction(1, 80), 0xA434: "L"}
    assert found.gps[1] == "N"


@pytest.mark.parametrize(
    "source", [b"", b"II", b"FUJIFILM", b"\0MRM", b"\xff\xd8\xff\xd9", b"anything at all" * 20]
)
def test_a_source_without_exif_leaves_what_libraw_knows(source):
    known = {
        "make": "Canon",
        "model": "EOS",
        "iso": np.float32(204800),
        "exposure_time": np.float32(1 / 3),
        "f_number": np.float32(2.8),
        "focal_length": 0.0,
        "timestamp": datetime(2020, 2, 3, 4, 5, 6),
        "artist": "Zoë",
    }
    found = read(source, preview=b"no jpeg", fallback=known)
    assert found.camera == "Canon EOS"
    assert found.image[0x013B] == "Zoë"
    assert found.exif == {
        0x829A: Fraction(1, 3),
        0x829D: Fraction(14, 5),
        0x8827: 65535,
        0x8830: 2,
        0x8832: 204800,
        0x9003: "2020:02:03 04:05:06",
    }
    assert (found.iso, found.focal_length) == (204800, None)
    assert found.captured == datetime(2020, 2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    "known",
    [{"iso": None, "timestamp": 0}, {"iso": "x", "timestamp": 1e30}, {"iso": -1.0, "f_number": float("nan")}],
)
def test_what_libraw_does_not_know_is_left_out(known):
    assert read(b"", fallback=known) == Metadata()


def test_tags_in_the_wrong_directory_are_found():
    """TIFF/EP and some DNG writers put the exposure into the image IFD."""
    found = read(tiff({0x829A: IFDRational(1, 60), 0x9003: "2024:01:01 00:00:00"}, {0x010F: "M"}, None))
    assert found.exposure_time == pytest.approx(1 / 60)
    assert found.captured == datetime(2024, 1, 1)
    assert found.camera == "M"


def test_a_tag_in_two_directories_is_that_of_its_own():
    image, exif = {0x010F: "Image", 0x8827: 100}, {0x010F: "EXIF", 0x8827: 200}
    found = read(tiff(image, exif, None))
    assert (found.camera, found.iso) == ("Image", 200)


def test_dng_tags_stand_in_for_their_exif_twins():
    lens = (IFDRational(24), IFDRational(70), IFDRational(28, 10), IFDRational(0, 0))
    image = {0xC62F: "serial", 0xC630: lens}
    found = read(tiff(image, None, None))
    assert found.exif[0xA431] == "serial"
    assert str(found.exif[0xA432]) == str((Fraction(24), Fraction(70), Fraction(14, 5), float("nan")))
    assert read(tiff(image, {0xA431: "own"}, None)).exif[0xA431] == "own"


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        (b"ASCII\0\0\0plain   \0\0", "plain"),
        (b"ASCII   padded", "padded"),
        (b"        of no encoding", "of no encoding"),
        (b"\0\0\0\0\0\0\0\0caf\xc3\xa9", "café"),
        (b"\0\0\0\0\0\0\0\0caf\xe9", "café"),
        (b"JIS\0\0\0\0\0" + "山".encode("iso2022_jp"), "山"),
        (b"Photographed without an encoding", "Photographed without an encoding"),
        (b"ASCII\0\0\0" + b"long " * 2000, ("long " * 2000).strip()),
        (b"ASCII\0\0\0" + b" " * 36, None),
        (b"JIS\0\0\0\0\0" + b"\x1b$\xff\xff", None),
        (bytes(264), None),
    ],
)
def test_user_comments(stored, text):
    found = read(tiff(IMAGE, {**EXIF, 0x9286: stored}))
    assert found.exif.get(0x9286) == text
    assert found.iso == 400 and found.notes == ()


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_comments_with_latin_letters_are_read_whatever_the_byte_order(order, endian, mark):
    """And those without any in that of the file."""
    stored = b"UNICODE\0" + f"{mark}schön 山".encode(f"utf-16-{order}")
    assert read(tiff(exif={0x9286: stored}, endian=endian)).exif == {0x9286: "schön 山"}
    if {"<": "le", ">": "be"}[endian] == order:
        stored = b"UNICODE " + "東京タワー".encode(f"utf-16-{order}")
        assert read(tiff(exif={0x9286: stored}, endian=endian)).exif[0x9286] == "東京タワー"


def test_what_is_unset_is_left_to_the_preview():
    unset = {0x9003: "0000:00:00 00:00:00", 0x9004: "    :  :     :  :  ", 0x829A: IFDRational(0, 0)}
    found = read(tiff({0x013B: "   ", 0x8298: ""}, unset, None), preview=jpeg(tiff()))
    assert found.captured is not None and found.captured.hour == 6
    assert found.image[0x013B] == "Zoë" and 0x8298 not in found.image
    assert 0x9004 not in found.exif and found.exposure_time == 0.008
    assert found.notes == ()


def test_what_makes_no_sense_is_dropped_and_noted():
    found = read(tiff(IMAGE, {**EXIF, 0x9003: "yesterday", 0x8827: "ISO"}, {**GPS, 5: b"\1\2", 30: 300}))
    assert not {0x9003, 0x8827} & found.exif.keys() and not {5, 30} & found.gps.keys()
    assert len(found.notes) == 4 and all(note.startswith("x.dng: EXIF tag 0x") for note in found.notes)
    assert found.captured == datetime(2024, 5, 17, 6, 7, 9)  # DateTime, without the other one's zone


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS R5", "Canon EOS R5"),
        ("NIKON CORPORATION", "NIKON D850", "NIKON D850"),
        ("SONY", "ILCE-7M3", "SONY ILCE-7M3"),
        ("OLYMPUS IMAGING CORP.", "E-M5", "OLYMPUS E-M5"),
        ("RICOH IMAGING COMPANY, LTD.", "PENTAX K-1", "RICOH PENTAX K-1"),
        ("Leica Camera AG", "M9 Digital Camera", "Leica M9 Digital Camera"),
        ("EASTMAN KODAK COMPANY", "DCS Pro 14N", "EASTMAN KODAK DCS Pro 14N"),
        ("CORPORATION", "X", "CORPORATION X"),
        ("OLYMPUS OPTICAL CO.,LTD", "E-1", "OLYMPUS E-1"),
        ("CASIO COMPUTER CO.,LTD.", "EX-F1", "CASIO EX-F1"),
        ("EASTMAN KODAK COMPANY", "KODAK DC50", "KODAK DC50"),
        ("Konica", "KONICA MINOLTA 7D", "KONICA MINOLTA 7D"),
        ("", "X", "X"),
        ("M", "", "M"),
        ("", "", ""),
    ],
)
def test_camera_names(make, model, camera):
    assert Metadata(image={0x010F: make, 0x0110: model}).camera == camera


def test_of_two_texts_of_one_tag_that_of_utf8_counts():
    """Written for readers of either kind; not every reader takes the first."""
    plain, utf8 = b"a tower in Tokyo\0", "東京タワー".encode()
    entries = struct.pack("<HHIIHHII", 0x010E, 2, len(plain), 38, 0x010E, 129, len(utf8), 38 + len(plain))
    found = read(struct.pack("<2sHIH", b"II", 42, 8, 2) + entries + bytes(4) + plain + utf8)
    assert found.image[0x010E] == "東京タワー"


def with_utf8(block: bytes, *tags: int) -> bytes:
    """The same TIFF structure, whose texts of these tags are of EXIF 3.0's type UTF-8."""
    block = bytearray(block)
    for tag in tags:
        entry = block.index(struct.pack("<HH", tag, 2))
        struct.pack_into("<H", block, entry + 2, 129)
    return bytes(block)


def test_texts_of_exif_3_are_read():
    spelled = {"Berenice": "Bérénice", "Jose": "José", "O": "Ö", "Objektiv": "Öbjektiv"}
    padded = {plain: plain.ljust(len(text.encode()), "~") for plain, text in spelled.items()}  # Pillow: ASCII
    image, exif = {0x010E: "Berenice", 0x8298: "Jose", 0x013B: "O"}, {0xA434: "Objektiv"}
    block = tiff(*({tag: padded[text] for tag, text in ifd.items()} for ifd in (image, exif)))
    for plain, text in spelled.items():
        block = block.replace(padded[plain].encode() + b"\0", text.encode() + b"\0")
    for data in (block, with_utf8(block, *image, *exif)):
        found = read(data)
        assert {tag: found.image[tag] for tag in image} == {tag: spelled[image[tag]] for tag in image}
        assert found.lens == "Öbjektiv"
        assert found.notes == ()


def test_a_text_of_exif_3_beyond_the_end_is_not_invented():
    block = with_utf8(tiff({0x010E: "x" * 40}, None, None), 0x010E)
    assert read(block).image[0x010E] == "x" * 40
    assert 0x010E not in read(block[:-20]).image


def test_zero_means_unknown():
    """A manual lens reports f/0 and 0 mm."""
    found = Metadata(exif={0x829D: Fraction(0), 0x920A: Fraction(0)})
    assert (found.f_number, found.focal_length) == (None, None)


@pytest.mark.parametrize("tag", [0x8831, 0x8832, 0x8833])
def test_a_sensitivity_may_be_stated_by_a_long_tag_alone(tag):
    assert Metadata(exif={tag: 3200}).iso == 3200
    assert Metadata(exif={tag: 102400, 0x8827: 65535}).iso == 102400
    assert Metadata(exif={tag: 3200, 0x8827: 400}).iso == 400


def test_a_tuple_of_sensitivities_means_the_first():
    assert Metadata(exif={0x8827: (200, 0)}).iso == 200


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        (b"Photographer\0Editor", "Photographer; Editor"),
        (b" \0Editor only", "Editor only"),
        ("Zoë".encode() + bytes(60), "Zoë"),
        (b"ab\0", "ab"),
        (b"one\0two\0rubbish", "one; two"),
    ],
)
def test_a_copyright_has_two_parts(stored, text):
    data = tiff({0x8298: b"x" * len(stored)}, EXIF, None)  # Pillow itself would cut it at the zero
    assert read(data.replace(b"x" * len(stored), stored)).image[0x8298] == text


def test_a_sensitivity_beyond_its_tag_goes_into_the_longer_one():
    data = tiff(IMAGE, {0x8827: 102400}, None)
    found = read(data)
    assert (found.exif, found.iso) == ({0x8827: 65535, 0x8830: 2, 0x8832: 102400}, 102400)
    kept = read(tiff(IMAGE, {0x8827: 102400, 0x8830: 1, 0x8831: 102400}, None)).exif
    assert (kept[0x8830], kept[0x8831], kept[0x8827]) == (1, 102400, 65535)


def test_zeros_give_way_to_what_is_known():
    zeros = {0x829A: IFDRational(0, 1), 0x829D: IFDRational(0, 1), 0x8827: 0, 0x920A: IFDRational(0)}
    assert read(tiff(IMAGE, zeros, None)).exif == {}
    found = read(tiff(IMAGE, zeros, None), preview=jpeg(tiff()), fallback={"focal_length": 35.0})
    assert (found.exposure_time, found.f_number, found.iso, found.focal_length) == (0.008, 2.8, 400, 50)


def test_where_exposure_is_zero_an_apex_value_is_a_placeholder_too():
    """LibRaw makes 1 s and f/1 of APEX values of 0."""
    zeros = {0x829A: IFDRational(0, 1), 0x829D: IFDRational(0, 1), 0x8827: 0}
    guessed = {"exposure_time": 1.0, "f_number": 1.0, "iso": 200}
    found = read(tiff(IMAGE, zeros, None), fallback=guessed)
    assert (found.exposure_time, found.f_number, found.iso) == (None, None, 200)
    found = read(tiff(IMAGE, {}, None), fallback=guessed)  # not said to be unknown
    assert (found.exposure_time, found.f_number) == (1, 1)


def test_a_sensitivity_that_no_tag_holds_is_left_out():
    assert read(tiff(IMAGE, {}, None), fallback={"iso": 2.0**32}).iso is None


@pytest.mark.parametrize(
    "where", [{"image": {0x0132: "2020:01:02 03:04:05"}}, {"exif": {0x9004: "2020:01:02 03:04:05"}}]
)
def test_a_date_of_another_kind_does_not_become_the_original_one(where):
    """LibRaw knows one date, and moves it by an hour where its time zone has no such hour."""
    data = tiff(**{"image": {}, "exif": {}, "gps": None, **where})
    found = read(data, fallback={"timestamp": datetime(2020, 1, 2, 4, 4, 5)})
    assert 0x9003 not in found.exif
    assert found.captured == datetime(2020, 1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [
        ("2024-05-17 06:07:08", "08"),
        ("2024-05-17T06:07:08.25+02:00", "08"),
        ("2024:05:17 06:07", "00"),
        *((f"2024:05:17 06:07:08{behind}", "08") for behind in (".50", "Z", "+02:00", " UTC")),
    ],
)
def test_a_date_that_is_not_written_as_in_exif_is_read(stated, seconds):
    """What stands behind it is passed over."""
    found = read(tiff({}, {0x9003: stated}, None))
    assert (found.exif[0x9003], found.notes) == (f"2024:05:17 06:07:{seconds}", ())


def test_nothing_is_made_of_a_date_that_does_not_exist():
    """LibRaw makes January of a month 13."""
    data = tiff({}, {0x9003: "2024:13:06 07:08:09", 0x9011: "+01:00"}, None)
    found = read(data, fallback={"timestamp": datetime(2025, 1, 6, 7, 8, 9), "iso": 100})
    assert found.captured is None and 0x9003 not in found.exif and found.iso == 100
    assert len(found.notes) == 1
    found = read(tiff({}, {0x8827: "high", 0x829D: "wide"}, None), fallback={"iso": 100, "f_number": 8.0})
    assert found.exif == {} and len(found.notes) == 2


def test_a_blank_time_zone_is_none():
    assert 0x9011 not in read(tiff(IMAGE, {**EXIF, 0x9011: "   :  "}, None)).exif


def test_what_people_typed_and_what_surrounded_them_is_kept():
    typed = "schön".encode("utf-16-le") + bytes(2)
    values = {0x9400: IFDRational(-75, 10), 0x9403: IFDRational(-3), 0xA300: b"\3", 0xA407: 2}
    found = read(tiff({0x9C9B: typed}, values, None))
    assert found.image[0x9C9B] == typed
    assert found.exif == {0x9400: Fraction(-15, 2), 0x9403: -3, 0xA300: b"\3", 0xA407: 2}
    written = io.BytesIO()
    write_picture(written, np.zeros((2, 2, 3), np.uint8), found, format="jpeg", software="s", overwrite=False)
    again = read(written.getvalue())
    assert (again.image[0x9C9B], again.exif) == (typed, found.exif)
    tags = exifread.process_file(io.BytesIO(written.getvalue()))
    assert tags["Image XPTitle"].field_type == 1  # BYTE, as Windows reads it


# --- damage ---


@pytest.mark.parametrize(("directory", "tag"), [("EXIF", 0x8769), ("GPS", 0x8825)])
def test_a_lost_directory_is_noted(directory, tag):
    data = bytearray(tiff())
    data += bytes(len(data) % 2 + 6)  # a directory without entries
    (count,) = struct.unpack_from("<H", data, 8)
    (entry,) = (at for at in range(10, 10 + 12 * count, 12) if struct.unpack_from("<H", data, at) == (tag,))
    note = f"x.dng: its {directory} directory is damaged and was dropped"
    for pointer, notes in ((1 << 20, (note,)), (len(data) - 6, ())):
        struct.pack_into("<I", data, entry + 8, pointer)
        found = read(bytes(data))
        assert not (found.gps if directory == "GPS" else found.exif)
        assert found.notes == notes
    for kind, length in ((2, 4), (11, 1), (5, 1)):  # no offset: text, float, ratio
        struct.pack_into("<HII", data, entry + 2, kind, length, 8 if kind == 5 else 0xC1C1C1C1)
        found = read(bytes(data))
        assert found.image[0x010F] == "Maker"
        assert not (found.gps if directory == "GPS" else found.exif)


@pytest.mark.parametrize("endian", ["<", ">"])
def test_values_that_are_cut_off_are_noted_not_invented(endian):
    """A file that ends too early, where a DNG may keep its EXIF: what is left is as it was."""
    typed = {0x8298: "Zo Doe\0Ed Itor", 0x9286: b"ASCII\0\0\0quite a long remark"}
    data = tiff({**IMAGE, 0x8298: typed[0x8298]}, {**EXIF, 0x9286: typed[0x9286]}, endian=endian)
    whole = read(data)
    lost = set()
    for end in range(16, len(data)):
        part = read(data[:end])
        for ifd in ("image", "exif", "gps"):
            values, sound = getattr(part, ifd), getattr(whole, ifd)
            assert values.items() <= sound.items(), end
            if values:  # else the directory itself is noted
                lost |= sound.keys() - values.keys()
        assert part.notes or part == whole
        assert not any("cannot be read" in note for note in part.notes)
    assert lost >= {0x920A, 0x829A, 0x9003, 0x9286}
    assert read(data[:20]).notes == ("x.dng: its Image directory is damaged and was dropped",)
    part = read(data[:-2], fallback={"focal_length": 35.0})
    assert part.notes == ("x.dng: EXIF tag 0x001D dropped (cut off)",)


def test_a_value_that_is_cut_off_is_not_replaced_but_one_that_is_not_carried_is_nothing_to_note():
    data = tiff({0x010F: "Maker", 0x0131: "Software of the camera"}, None, None)
    assert read(data[:-2]) == Metadata(image={0x010F: "Maker"})
    assert read(tiff({0xC62F: "a serial number"}, None, None)[:-4]).notes
    data = tiff({}, {0x920A: IFDRational(50)}, None)
    assert read(data[:-4], fallback={"focal_length": 35.0}).focal_length is None


def check_harmless(data: bytes, preview: bytes | None = None) -> None:
    found = read(data, preview=preview)
    _ = found.captured, found.camera, found.lens, found.iso, found.exposure_time, found.f_number
    for format in ("jpeg", "tiff"):
        size = write_picture(
            io.BytesIO(), np.zeros((2, 2, 3), np.uint8), found, format=format, software="s", overwrite=False
        )
        assert size > 0


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from([tiff(), tiff(endian=">"), cr3(), jpeg(tiff()), raf()]),
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from([0, 1, 3, 5, 7, 10, 12, 128, 255])), max_size=12
    ),
    keep=st.floats(0, 1),
)
def test_damage_is_survived(kind, edits, keep):
    data = bytearray(kind)
    for place, value in edits:
        data[int(place * (len(data) - 1))] = value
    check_harmless(bytes(data[: round(len(data) * max(keep, 0.2) ** 0.25)]), preview=bytes(data))


@pytest.mark.parametrize("kind", [2, 5])
def test_endless_directories_end(kind):
    """65,535 entries of four billion values each; and IFDs that name each other as next."""
    entry = struct.pack("<HHII", 0x010F, kind, 2**32 - 1, 8)
    data = b"II*\0\x08\0\0\0" + b"\xff\xff" + entry * 70000
    found = read(data, fallback={"make": "M"})
    assert found.camera == "M"
    assert "its directories never end" in found.notes[0]
    check_harmless(struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<HI", 0, 10) * 1000)


def test_an_unreadable_source_is_noted():
    class Broken(io.BytesIO):
        def read(self, *_):
            raise OSError("I/O error")

    found = read_metadata(Broken(), "x.dng", fallback={"make": "M"})
    assert found.camera == "M"
    exif, xmp = found.notes
    assert "x.dng: EXIF cannot be read" in exif and "I/O error" in exif
    assert xmp == "x.dng: XMP cannot be read (I/O error)"


def test_nothing_is_printed_or_logged(capfd):
    handler = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    try:
        assert read(tiff({0x013B: b"caf\xe9"})).image[0x013B] == "café"  # exifread warns here
        for data in (b"II*\0\xff\xff\xff\xff", b"junk", tiff()[:200], jpeg(tiff()[:60])):
            check_harmless(data, preview=b"junk")
    finally:
        logging.getLogger().removeHandler(handler)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["ratio", "signed ratio"])
def test_what_cannot_be_negative_is_not_taken_for_zero(kind):
    """A latitude of -48 as a signed ratio: the file's mistake; at 0 it would be on the equator."""
    angle = [Fraction(-48), Fraction(51), Fraction(30)]
    if kind == "signed ratio":
        assert READERS[kind](angle) == tuple(angle)
    else:
        with pytest.raises(ValueError, match="negative"):
            READERS[kind](angle)
    assert READERS[kind]([Fraction(0)]) == 0
    assert EXIF_TAGS[0x9204] == "signed ratio"  # ExposureBiasValue


def test_a_number_written_as_text_is_none():
    with pytest.raises(ValueError, match="'400' is a text"):
        READERS["number"]("400")


@pytest.mark.parametrize("date", ["1970:01:01 01:00:00", "1969:12:31 19:00:00"])
def test_placeholders_that_libraw_writes_for_a_preview_are_nothing(date):
    """Into one without EXIF: its zero of time, which the time zone may move to the day before."""
    placeholders = {0x0131: "dcraw v9.26", 0x0132: date, 0x010F: "unknown", 0x0110: "M"}
    assert read(b"", preview=jpeg(tiff(placeholders, None, None))).image == {0x0110: "M"}
    dated = {0x0131: "dcraw v9.26", 0x0132: "1970:06:01 12:00:00", 0x010F: "Maker"}
    assert read(b"", preview=jpeg(tiff(dated, None, None))).image == {0x010F: "Maker"}
    cameras = {**placeholders, 0x0131: "firmware"}
    del placeholders[0x0131]
    assert read(tiff(cameras, None, None)).image == placeholders


def test_exif_that_libraw_makes_up_for_a_preview_is_nothing():
    """Its own idea of what the raw says, which has been refused there."""
    made_up = {0x0131: "dcraw v9.26", 0x0132: "2025:01:17 06:07:08", 0x010F: "Maker", 0x013B: "unknown"}
    exposure = {0x829A: IFDRational(1), 0x829D: IFDRational(1), 0x9003: "2025:01:17 06:07:08"}
    impossible = tiff({}, {0x9003: "2024:13:17 00:00:00", 0x829A: IFDRational(0)}, None)
    metadata = read(impossible, preview=jpeg(tiff(made_up, exposure, {1: "\u00c9i", 5: b"\0"})))
    assert (metadata.image, metadata.exif, metadata.gps) == ({0x010F: "Maker"}, {}, {})


@pytest.mark.parametrize(
    "exif", [{0x9286: b"ASCII\0\0\0a note"}, {0x927C: b"Nikon\0\2\0\0\0II*\0\x08\0\0\0\0\0"}]
)
def test_a_directory_of_a_comment_or_a_maker_note_alone_is_sound(exif):
    metadata = read(tiff({}, exif, None))
    assert not metadata.notes
    assert metadata.exif == ({0x9286: "a note"} if 0x9286 in exif else {})


LENS = (18, 1, 70, 1, 7, 2, 0, 0)  # four ratios, of which one is not known


def maker_note(tag: int, kind: int, count: int, value: bytes, at: int, order: str) -> bytes:
    """A directory of one entry that begins at ``at``, and its value."""
    return struct.pack(f"{order}HHHIII", 1, tag, kind, count, at + 18, 0) + value


def with_maker_note(make: str, order: str, exif=(), own_structure=False) -> bytes:
    """A TIFF structure whose maker note states a lens."""
    if make == "Canon of 2005":
        entry = (0x01, 3, 26, struct.pack(f"{order}26H", *range(23), 135, 27, 2))
    elif make == "Canon":
        entry = (0x95, 2, 64, b"EF-S18-55mm f/3.5-5.6".ljust(64, b"\0"))
    else:
        entry = (0x84, 5, 4, struct.pack(f"{order}8I", *LENS))
    mark, other = {"<": (b"II", ">"), ">": (b"MM", "<")}[order]
    head = b"Nikon\0\2\x10\0\0" + struct.pack(f"{order}2sHI", mark, 42, 8) if own_structure else b""
    space = b"?" * (len(head) + 18 + len(entry[-1]))
    block = tiff({0x010F: make}, {0x927C: space, **dict(exif)}, None, other if own_structure else order)
    return block.replace(space, head + maker_note(*entry, 8 if own_structure else block.index(space), order))


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_lens_that_the_maker_note_alone_states(order):
    canon = read(with_maker_note("Canon", order))
    assert (canon.lens, canon.notes) == ("EF-S18-55mm f/3.5-5.6", ())
    earlier = read(with_maker_note("Canon of 2005", order))
    assert (earlier.exif[0xA432][:2], earlier.lens) == ((Fraction(27, 2), Fraction(135, 2)), "13.5-67.5mm")
    for own_structure in (False, True):
        nikon = read(with_maker_note("NIKON CORPORATION", order, own_structure=own_structure))
        *known, unknown = nikon.exif[0xA432]
        assert (known, nikon.notes) == ([18, 70, Fraction(7, 2)], ())
        assert unknown != unknown  # NaN


@pytest.mark.parametrize("name", [b"", b"   ", b"----"])
def test_a_canon_without_a_lens_name_may_have_focal_lengths(name):
    space = b"?" * (30 + 64 + 52)
    block = tiff({0x010F: "Canon"}, {0x927C: space}, None)
    at = block.index(space) + 30
    entries = struct.pack("<HHHIIHHIII", 2, 0x95, 2, 64, at, 0x01, 3, 26, at + 64, 0)
    settings = struct.pack("<26H", *range(23), 135, 27, 2)
    assert read(block.replace(space, entries + name.ljust(64, b"\0") + settings)).lens == "13.5-67.5mm"


def test_a_maker_note_is_read_only_if_it_is_needed_and_known():
    assert read(with_maker_note("Canon", "<").replace(b"Canon", b"Kanon")).lens == ""
    stated = read(with_maker_note("Canon", "<", {0xA434: "50 mm"}))
    assert (stated.lens, stated.exif.get(0xA432)) == ("50 mm", None)
    ranges = {0xA432: (IFDRational(18), IFDRational(70), IFDRational(7, 2), IFDRational(9, 2))}
    assert read(with_maker_note("Canon", "<", ranges)).lens == "18-70mm f/3.5-4.5"


@pytest.mark.parametrize(
    ("make", "own_structure"), [("Canon", False), ("NIKON", False), ("NIKON", True), ("Canon of 2005", False)]
)
def test_damage_in_a_maker_note_does_no_harm(make, own_structure):
    block = with_maker_note(make, "<", {0x920A: IFDRational(50)}, own_structure)
    entry = {"Canon": b"\x95\0\2\0", "Canon of 2005": b"\1\0\3\0\x1a"}.get(make, b"\x84\0\5\0")
    start = block.rindex(entry) - 2
    for place in range(start, start + 18):
        damaged = block[:place] + b"\xff" + block[place + 1 :]
        check_harmless(damaged)
        check_harmless(block[:place])
        assert (read(damaged).focal_length, read(damaged).notes) == (50, ())


def test_the_owner_of_a_canon_that_nobody_has_entered_is_no_artist():
    known = {"artist": "unknown"}
    assert 0x013B not in read(tiff({}, EXIF, None), fallback=known).image
    assert read(tiff({}, EXIF, None), fallback={"artist": "Zoe"}).image[0x013B] == "Zoe"


def test_places_texts_are_read_behind_their_zeros():
    """Some programs type them as text, which would end at the first zero."""
    metadata = read(tiff(gps={**GPS, 27: "ASCII\0\0\0NETWORK", 28: "ASCII\0\0\0The hill"}))
    assert (metadata.gps[27], metadata.gps[28]) == ("NETWORK", "The hill")


def test_long_texts_of_windows_are_kept():
    words = ("keyword;" * 80).encode("utf-16-le") + b"\0\0"
    assert read(tiff({0x9C9E: words}, None, None)).image[0x9C9E] == words


def test_windows_quotation_marks_are_no_control_characters():
    assert read(tiff({0x013B: b"\x93J\x94 \x80"}, None, None)).image[0x013B] == "\u201cJ\u201d \u20ac"


def test_what_else_describes_the_shot_is_carried():
    shot = {0xA20B: IFDRational(5, 2), 0xA215: IFDRational(100), 0xA461: (3, 2)}
    assert read(tiff({}, shot, None)).exif == {
        0xA20B: Fraction(5, 2),
        0xA215: 100,
        0xA461: (3, 2),
    }


def test_each_date_has_its_own_zone_and_fraction():
    original = {0x9011: "+09:00", 0x9291: "7"}
    digitised = {0x9004: "2024:05:17 06:07:08", 0x9012: "+02:00", 0x9292: "5", **original}
    moment = datetime(2024, 5, 17, 6, 7, 8, 500000)
    assert Metadata(exif=digitised).captured == moment.replace(tzinfo=timezone(timedelta(hours=2)))
    changed = Metadata({0x0132: "2024:05:17 06:07:08"}, {0x9010: "-01:00", 0x9290: "5", **original})
    assert changed.captured == moment.replace(tzinfo=timezone(-timedelta(hours=1)))


def test_a_fault_of_source_and_preview_is_noted_once():
    wrong = tiff(IMAGE, {0x9003: "yesterday"}, None)
    assert len(read(wrong, preview=jpeg(wrong)).notes) == 1


def test_numbers_that_libraw_has_rounded_are_the_usual_ones_again():
    known = {
        **{"exposure_time": np.float32(1 / 8000), "f_number": np.float32(0.95)},
        **{"focal_length": np.float32(4.38), "iso": np.float32(199.99)},
    }
    expected = {0x829A: Fraction(1, 8000), 0x829D: Fraction(19, 20), 0x920A: Fraction(219, 50), 0x8827: 200}
    assert read(b"", fallback=known).exif == expected


@pytest.mark.parametrize("key", ["exposure_time", "f_number", "focal_length", "iso"])
@pytest.mark.parametrize("number", [float("inf"), float("nan"), 10**400])
def test_numbers_that_are_none_are_not_known(key, number):
    assert read(b"", fallback={key: number}) == Metadata()


@pytest.mark.parametrize(("kind", "largest"), [("number", 2**32 - 1), ("byte", 255)])
def test_numbers_have_the_range_of_their_types(kind, largest):
    assert READERS[kind]([largest]) == largest
    with pytest.raises(ValueError, match="out of range"):
        READERS[kind]([largest + 1])


def test_one_of_several_numbers_may_be_unknown():
    """As of a lens whose aperture is not known; exifread has floats in tuples."""
    found = READERS["ratio"]([Fraction(24), (float("inf"),), (2.5,)])
    assert str(found) == str((Fraction(24), float("nan"), Fraction(5, 2)))
    assert READERS["ratio"]([(float("inf"),)]) is None
    assert READERS["bytes"](b"") is None


def directory_at(data: bytes, tag: int) -> int:
    """Where the directory begins that a tag of the first one points to."""
    (count,) = struct.unpack_from("<H", data, 8)
    (entry,) = (at for at in range(10, 10 + 12 * count, 12) if struct.unpack_from("<H", data, at) == (tag,))
    return struct.unpack_from("<I", data, entry + 8)[0]


def test_a_directory_of_values_of_no_known_type_is_noted():
    data = bytearray(tiff(gps=None))
    start = directory_at(data, 0x8769)
    (count,) = struct.unpack_from("<H", data, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        struct.pack_into("<H", data, entry + 2, 99)
    found = read(bytes(data))
    assert (found.image[0x010F], found.exif) == ("Maker", {})
    assert found.notes == ("x.dng: its EXIF directory is damaged and was dropped",)


def test_a_directory_may_end_with_the_file():
    """Without the place of a next one, which EXIF's has not, either."""
    data = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<HHHIII", 1, 0x8769, 4, 1, 26, 0)
    data += struct.pack("<HHHII", 1, 0x8827, 3, 1, 400)
    found = read(data)
    assert (found.iso, found.notes) == (400, ())


def test_a_copyright_of_four_bytes_is_within_its_entry():
    """And no offset, though that lies within this file."""
    data = tiff({0x8298: "xyz"}, None, None).replace(b"xyz\0", b"ab\0\0")
    assert read(data + bytes(30_000)).image == {0x8298: "ab"}


def test_the_place_of_a_cr3_is_found_behind_a_long_maker_note():
    data = cr3().replace(b"maker note", bytes(300_000))
    assert read(data).gps == read(cr3()).gps != {}

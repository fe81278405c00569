"""Names that ``--name`` makes: what they hold, where it is from, and that they are names on any system."""

import io
import os
import struct
from datetime import datetime
from pathlib import Path

import pytest
from PIL import Image

from deepisp_cli import naming
from deepisp_cli.errors import InputError, UsageError
from deepisp_cli.metadata import Metadata
from deepisp_cli.naming import check_template, fill

KNOWN = {0x9003: "2024:05:06 21:30:00", 0x8827: 1600}
EVERYTHING = "{date:%Y-%m} {camera} {iso}"
CORRECTED = b"""<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
    xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:DateTimeOriginal="2019-08-07T06:05:04"/></rdf:RDF>"""


def preview(make: str, model: str, iso: int, date: str) -> bytes:
    """A JPEG that begins with EXIF, as cameras write it; before another one LibRaw puts its own."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif.update({0x010F: make, 0x0110: model})
    exif[0x8769] = {0x8827: iso, 0x9003: date}
    Image.new("RGB", (320, 240)).save(buffer, "jpeg")
    segment = struct.pack(">H", len(exif.tobytes()) + 2) + exif.tobytes()
    return buffer.getvalue()[:2] + b"\xff\xe1" + segment + buffer.getvalue()[2:]


@pytest.mark.parametrize("template", ["{stem}", "{date:%Y/%m}/{stem}", "{{{folder}}}", "{iso:05d}.{suffix}"])
def test_templates_that_make_sense(template):
    check_template(template)


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{lens}", "unknown field {lens}; known: {stem}, {suffix}, {folder}, {model}, {date}, "),
        ("{stem}.jpg", "leave out the suffix; --format chooses it"),
        ("{stem}.TIFF", "leave out the suffix; --format chooses it"),
        ("{stem:{iso}}", "fields cannot be nested"),
        ("../{stem}", "must name a file in the output folder"),
        ("{stem}/", "must name a file in the output folder"),
        ("{stem", "--name"),
        ("{iso:s}", "--name"),
        ("{camera:99999999999999999999}", "--name"),
    ],
)
def test_what_is_wrong_with_a_template_is_told(template, told):
    with pytest.raises(UsageError) as caught:
        check_template(template)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("folder", "name"),
    [("Rome", "Rome"), ('Rome? "May" *', "Rome_ _May_ _"), ("a<b>c|d", "a_b_c_d"), ("tab\there", "tab_here")],
)
def test_a_folder_becomes_a_name_on_any_system(folder, name):
    assert fill("{folder}/{stem}", Path("photos", folder, "a.nef"), "") == f"{name}/a"


@pytest.mark.parametrize(("model", "name"), [("deepisp", "deepisp"), ("my/model:2. ", "my_model_2")])
def test_a_model_becomes_a_name_on_any_system(model, name):
    assert fill("{stem}_{model}", Path("a.nef"), model) == f"a_{name}"


def test_the_name_of_a_file_is_its_own():
    """It is one on this system already."""
    assert fill("{stem}-{suffix}", Path("photos", "What?.NEF"), "") == "What?-nef"


@pytest.mark.parametrize("field", ["date", "camera", "iso"])
def test_a_file_that_cannot_be_read_is_told(tmp_path, field):
    gone = tmp_path / "gone.dng"
    assert fill("{stem}", gone, "") == "gone"  # for which it need not be read
    with pytest.raises(InputError) as caught:
        fill(f"{{{field}}}", gone, "")
    assert str(caught.value).startswith(f"{gone}: ")
    with pytest.raises(InputError, match="is a folder"):
        fill(f"{{{field}}}", tmp_path, "")


def test_of_standard_input_little_is_known():
    assert fill("{stem}_{model}", Path("-"), "m") == "stdin_m"
    for field in ("folder", "date", "camera", "iso"):
        with pytest.raises(UsageError, match="for standard input only stem and model are known"):
            fill(f"{{{field}}}", Path("-"), "m")


@pytest.mark.skipif(os.name == "nt", reason="no named pipes there")
def test_a_pipe_is_not_read_for_its_name(tmp_path):
    os.mkfifo(tmp_path / "a.dng")
    assert fill("{stem}", tmp_path / "a.dng", "m") == "a"
    with pytest.raises(UsageError, match="for a pipe only stem and model are known"):
        fill("{date}", tmp_path / "a.dng", "m")


def test_what_the_file_says_itself_needs_neither_preview_nor_libraw(write_raw, grey_ramp, monkeypatch):
    path = write_raw("a.dng", grey_ramp, exif=KNOWN)
    monkeypatch.delattr(naming, "read_preview")
    monkeypatch.delattr(naming, "read_capture")
    assert fill(EVERYTHING, path, "") == "2024-05 Test Camera 1600"


@pytest.mark.parametrize("lacking", [(), (0x8827,), (0x9003,), (0x8827, 0x9003)])
def test_a_sidecar_corrects_the_date_whatever_else_is_known(write_raw, grey_ramp, lacking):
    exif = {tag: value for tag, value in KNOWN.items() if tag not in lacking}
    path = write_raw("a.dng", grey_ramp, exif=exif)
    path.with_suffix(".xmp").write_bytes(CORRECTED)
    iso = "unknown iso" if 0x8827 in lacking else 1600
    assert fill(EVERYTHING, path, "") == f"2019-08 Test Camera {iso}"


def test_the_preview_says_what_the_file_does_not(write_raw, grey_ramp):
    jpeg = preview("Acme", "One", 800, "2022:03:04 05:06:07")
    path = write_raw("a.dng", grey_ramp, make="", model="", preview=jpeg)
    for field, value in (("date:%Y-%m", "2022-03"), ("camera", "Acme One"), ("iso", "800")):
        assert fill(f"{{{field}}}", path, "") == value
    path = write_raw("c.dng", grey_ramp, make="", model="", preview=jpeg, exif=KNOWN)
    assert fill(EVERYTHING, path, "") == "2024-05 Acme One 1600"
    path = write_raw("b.dng", grey_ramp, preview=jpeg, exif={0x8827: 100})
    assert fill(EVERYTHING, path, "") == "2022-03 Test Camera 100"


@pytest.mark.parametrize(
    ("exif", "name"),
    [
        (None, "2021-02 Test Camera 200"),
        ({0x8827: 100}, "2021-02 Test Camera 100"),
        ({0x9003: "2024:05:06 21:30:00"}, "2024-05 Test Camera 200"),
    ],
)
def test_libraw_says_what_nothing_else_does(write_raw, grey_ramp, monkeypatch, exif, name):
    known = {"iso": 200.0, "timestamp": datetime(2021, 2, 3, 4, 5, 6)}
    monkeypatch.setattr(naming, "read_capture", lambda file: known)
    assert fill(EVERYTHING, write_raw("a.dng", grey_ramp, exif=exif), "") == name


def test_formats_that_a_value_does_not_fit_are_told(write_raw, grey_ramp):
    path = write_raw("a.dng", grey_ramp, exif={0x8832: 2_000_000, 0x8827: 65535})
    with pytest.raises(InputError, match=r"a\.dng: --name '{iso:c}': .*; choose another format"):
        fill("{iso:c}", path, "")
    with pytest.raises(UsageError, match="too long"):
        check_template("{stem:>1000000000}")


@pytest.mark.parametrize(
    ("camera", "expected"),
    [
        ("-rf", "rf"),
        ("--help", "help"),
        (".hidden", "hidden"),
        ("CON", "CON_"),
        ("aux.x", "aux.x_"),
        ("com1", "com1_"),
        ("COM9", "COM9_"),
        ("lpt7.x", "lpt7.x_"),
        ("Prn", "Prn_"),
        ("nul", "nul_"),
        ("com", "com"),
        ("com10", "com10"),
        ("Conrad", "Conrad"),
        ("- . rf", "rf"),
        ("a\x9b2Jb\x7f\u202ec", "a_2Jb__c"),
    ],
)
def test_what_a_stranger_calls_the_camera_is_a_harmless_name(camera, expected, monkeypatch):
    monkeypatch.setattr(naming, "_metadata_values", lambda source, wanted: {"camera": camera})
    assert fill("{camera}/{camera}_{stem}", Path("a.dng"), "") == f"{expected}/{expected}_a"


def test_a_field_may_have_hundreds_of_letters_but_not_a_thousand():
    check_template("{stem:>999}")
    with pytest.raises(UsageError, match="a field of a thousand letters is too long"):
        check_template("{stem:>1000}")


@pytest.mark.parametrize("form", ["YYYY-MM-DD", "%Q", "%Y-%Q", "x"])
def test_a_form_of_dates_that_is_none_is_refused(form):
    with pytest.raises(UsageError, match=r"dates are given as in \{date:%Y"):
        check_template("{stem}_{date:" + form + "}")
    check_template("{date}_{date:%Y/%m}_100%_{stem}_{date:Summer 2024, %d}")


def test_the_folder_of_a_file_named_alone_is_the_current_one(tmp_path, monkeypatch):
    (tmp_path / "card").mkdir()
    monkeypatch.chdir(tmp_path / "card")
    assert fill("{folder}/{stem}", Path("a.nef"), "") == "card/a"
    assert fill("{folder}/{stem}", Path("..", "card", "a.nef"), "") == "card/a"


def test_a_camera_that_only_the_tags_name_is_known(write_raw, grey_ramp, monkeypatch):
    """As of raws whose EXIF cannot be read."""
    monkeypatch.setattr(
        naming,
        "read_metadata",
        lambda *_, fallback=None, **__: Metadata(
            {} if fallback is None else {0x010F: fallback["make"], 0x0110: fallback["model"]}
        ),
    )
    assert fill("{camera}", write_raw("a.dng", grey_ramp), "") == "Test Camera"


def test_a_camera_that_only_a_profile_is_named_after_is_known(write_raw, grey_ramp):
    """UniqueCameraModel, which each DNG states even if it has no Make and Model."""
    path = write_raw("a.dng", grey_ramp, make="", model="", unique_camera_model="Cinema 4K")
    assert fill("{camera}_{stem}", path, "") == "Cinema 4K_a"
    assert fill("{camera}", write_raw("b.dng", grey_ramp, make="", model=""), "") == "unknown camera"

"""Which inputs become which outputs, and what is refused before any work."""

import errno
import os
import re
from contextlib import nullcontext
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest

from deepisp_cli import naming
from deepisp_cli.dng import write_dng
from deepisp_cli.errors import InputError, UsageError
from deepisp_cli.exif import exif_block, picture_ifds
from deepisp_cli.inputs import find_sources, is_ours
from deepisp_cli.metadata import Metadata
from deepisp_cli.options import Options
from deepisp_cli.output import FORMATS, write_picture
from deepisp_cli.pipeline import develop
from deepisp_cli.plan import plan_jobs


@pytest.fixture
def card(tmp_path, monkeypatch):
    """A card with two folders, each with a raw of the same name, and other files that cameras leave there."""
    for name in (
        "a/one.dng",
        "a/TWO.NEF",
        "b/one.dng",
        "a/one.jpg",
        "a/readme.txt",
        "a/._one.dng",
        "top.cr2",
    ):
        path = tmp_path / "card" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return Path("card")


def targets(jobs):
    return [str(job.target).replace(os.sep, "/") for job in jobs]


def test_beside_the_source_by_default(card):
    jobs, format = plan_jobs([str(card / "a/TWO.NEF")], None)
    assert (targets(jobs), format) == (["card/a/TWO.jpg"], "jpeg")


def test_the_suffix_of_the_output_picks_the_format(card):
    jobs, format = plan_jobs([str(card / "a/one.dng")], "picture.tif")
    assert (targets(jobs), format) == (["picture.tif"], "tiff")
    with pytest.raises(UsageError, match="suffix says tiff"):
        plan_jobs([str(card / "a/one.dng")], "picture.tif", format="png")
    with pytest.raises(UsageError, match="suffix"):
        plan_jobs([str(card / "a/one.dng")], "picture.bmp")
    with pytest.raises(UsageError, match="unknown format 'jpg'; known: jpeg, "):
        plan_jobs([str(card / "a/one.dng")], "out", format="jpg")


def test_folders_are_searched_for_raws_and_sub_folders_kept(card):
    jobs, _ = plan_jobs([str(card)], "out", recursive=True, format="png")
    assert targets(jobs) == ["out/a/TWO.png", "out/a/one.png", "out/b/one.png", "out/top.png"]
    jobs, _ = plan_jobs([str(card)], "out")
    assert targets(jobs) == ["out/top.jpg"]


def test_patterns_in_a_folder_whose_name_looks_like_one(card):
    (card / "b").rename(card / "b [raw]")
    jobs, _ = plan_jobs(["card/b [raw]/*.dng"], "out/")
    assert targets(jobs) == ["out/one.jpg"]
    for pattern in ("card/b [raw]/**/*.dng", "c*/../card/b [[]raw]/*.dng"):
        assert len(plan_jobs([pattern], "out/")[0]) == 1
    with pytest.raises(InputError, match=r"^card/b \[raw\]/\*\.nef: no file matches"):
        plan_jobs(["card/b [raw]/*.nef"], "out/")


def test_patterns_are_expanded_by_the_program(card):
    jobs, _ = plan_jobs(["card/*/*.NEF"], "out/")
    assert targets(jobs) == ["out/TWO.jpg"]
    jobs, _ = plan_jobs(["card/**/top.cr2"], "out/")
    assert targets(jobs) == ["out/top.jpg"]
    with pytest.raises(InputError, match="no file matches"):
        plan_jobs(["card/*.tiff"], "out")


BESIDE = ".AAE .MOV .mp4 .acr .xmp .JPG .thm .on1 .dop .NKSC .lrv .pp3 .heif .HIF"


@pytest.mark.parametrize("suffix", BESIDE.split())
def test_what_lies_beside_a_raw_is_passed_over(card, suffix):
    Path("card/b/one.dng").with_suffix(suffix).touch()
    jobs, _ = plan_jobs(["card/b/*"], "out")
    assert targets(jobs) == ["out/one.jpg"] and not jobs[0].error


def test_standard_input_is_known_by_its_device(card):
    jobs, _ = plan_jobs(["/dev/stdin"])
    assert (jobs[0].source, jobs[0].target) == ("-", "-")


def test_paths_and_a_single_input_are_understood(card):
    for given in (card / "top.cr2", "card/top.cr2", [card / "top.cr2"]):
        jobs, _ = plan_jobs(given, Path("out"))
        assert targets(jobs) == ["out/top.jpg"]


@pytest.mark.parametrize("others", [["a.xmp"], ["a.jpg"], ["a.jpg", "a.tif.xmp"], []])
def test_tiffs_are_raws_where_there_are_no_others(card, others):
    """As those of old Canon and Kodak cameras; beside a DNG they are pictures of it."""
    for name in ("a.tif", *others, "a.dng"):
        Path("card/b", name).write_bytes(b"x")
    inputs = [f"card/b/{name}" for name in ("a.tif", *others)]
    for order in (inputs, inputs[::-1]):
        assert targets(plan_jobs(order, "out")[0]) == ["out/a.jpg"]
    jobs, _ = plan_jobs([*inputs, "card/b/a.dng"], "out")
    assert [str(job.source) for job in jobs] == [str(Path("card/b/a.dng"))]


def test_patterns_find_suffixes_in_capitals(card):
    """Cameras write them; shells that find nothing leave the pattern to the program."""
    for pattern in ("card/a/*.nef", "card/**/*.nef"):
        assert targets(plan_jobs([pattern], "out")[0]) == ["out/TWO.jpg"]
    (card / "a" / "three.nef").touch()
    for pattern in ("card/a/*.Nef", "card/a/*.NEF", "card/a/*.nef"):
        assert sorted(targets(plan_jobs([pattern], "out")[0])) == ["out/TWO.jpg", "out/three.jpg"]
    (card / "a" / "three.nef").unlink()
    assert len(plan_jobs(["card/a/*"], "out")[0]) == 3


def test_a_file_given_twice_is_developed_once(card):
    jobs, _ = plan_jobs(["card/a/TWO.NEF", "card/a", "card/a/*.NEF"], "out", skip_existing=True)
    assert targets(jobs) == ["out/TWO.jpg", "out/one.jpg"]


def test_two_inputs_of_one_name_are_refused_before_work(card):
    with pytest.raises(
        UsageError,
        match=r"a[/\\]one\.dng and card[/\\]b[/\\]one\.dng would both become out[/\\]one\.jpg.*"
        r'"\{stem\}_\{folder\}"',
    ):
        plan_jobs(["card/a/one.dng", "card/b/one.dng"], "out")
    jobs, _ = plan_jobs(["card/a/one.dng", "card/b/one.dng"], "out", template="{folder}_{stem}")
    assert targets(jobs) == ["out/a_one.jpg", "out/b_one.jpg"]


def test_a_clash_is_not_remedied_by_the_name_that_clashes(card):
    for folder in ("card/a/x", "card/b/x"):
        Path(folder).mkdir()
        Path(folder, "one.dng").write_bytes(b"x")
    for paths, template, remedy in (
        (["card/a/one.dng", "card/a/TWO.NEF"], "x/y", '"x/y_{stem}"'),
        (["card/a/one.dng", "card/b/one.dng"], "{stem}", '"{stem}_{folder}"'),
        (
            ["card/a/x/one.dng", "card/b/x/one.dng"],
            "{folder}_{stem}",
            "; give them in separate commands with other folders",
        ),
    ):
        with pytest.raises(UsageError, match=re.escape(remedy)):
            plan_jobs(paths, "out", template=template)
    with pytest.raises(UsageError, match="; give the folder that holds both, or give them in separate"):
        plan_jobs(["card/a", "card/b"], "out", recursive=True, template="{folder}_{stem}")
    assert len(plan_jobs(["card"], "out", recursive=True, template="{folder}_{stem}")[0]) == 6
    for minute, folder in enumerate(("card/a/x", "card/b/x")):
        exif = {0x9003: f"2024:05:06 21:0{minute}:00"}
        write_dng(Path(folder, "one.dng"), np.ones((24, 24), np.uint16), pattern="RGGB", exif=exif)
    with pytest.raises(UsageError, match=re.escape('"{folder}_{stem}_{date}"')):
        plan_jobs(paths, "out", template="{folder}_{stem}")
    with pytest.raises(UsageError, match="separate commands with other folders"):
        plan_jobs(paths, "out", template="{date:%Y}_{stem}_{folder}")
    (card / "a" / "one.cr2").write_bytes(b"x")
    with pytest.raises(UsageError, match=re.escape('"{stem}_{suffix}"')):
        plan_jobs(["card/a/one.dng", "card/a/one.cr2"], "out")
    paths = ["card/a/one.dng", "card/a/one.cr2", "card/b/one.dng"]
    with pytest.raises(UsageError, match=re.escape('"{stem}_{suffix}_{folder}"')):
        plan_jobs(paths, "out")
    assert len(plan_jobs(paths, "out", template="{stem}_{suffix}_{folder}")[0]) == 3
    (card / "b" / "top.dng").write_bytes(b"x")
    for more, told in ((["card/b/top.dng"], False), (["card/b/top.dng", "card/top.cr2"], True)):
        with pytest.raises(UsageError) as error:
            plan_jobs([*paths[:2], *more], "out")
        assert ("other names clash, too" in str(error.value)) == told


@pytest.mark.parametrize(
    "names",
    [
        ("NIGHT.dng", "night.dng"),
        ("caf\u00e9.dng", "cafe\u0301.dng"),  # one character, or a letter and an accent
        ("stra\u00dfe.dng", "STRASSE.dng"),  # for some file systems ß is ss
    ],
    ids=["case", "encoding", "folding"],
)
def test_names_that_are_one_to_a_file_system_clash(card, names):
    given = [card / folder / name for folder, name in zip("ab", names, strict=True)]
    for path in given:
        path.write_bytes(b"x")
    with pytest.raises(UsageError, match="would both become"):
        plan_jobs(given, "out")


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="a shell's >(command) there")
def test_a_pipe_without_a_name_is_an_output(card):
    """It is a link to what is no file."""
    ends = os.pipe()
    try:
        jobs, format = plan_jobs(["card/top.cr2"], f"/dev/fd/{ends[1]}")
    finally:
        for end in ends:
            os.close(end)
    assert (targets(jobs), format) == ([f"/dev/fd/{ends[1]}"], "jpeg")


def test_an_existing_output_is_refused_counted_and_remedies_named(card):
    (card / "b/one.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"one\.jpg: exists, and 1 more of 4") as error:
        plan_jobs([str(card)], None, recursive=True)
    for remedy in ("-o", "--name", "a camera may have written it"):
        assert remedy in str(error.value)
    assert "--skip-existing" not in str(error.value)  # it would skip all raws
    (card / "b/one.jpg").write_bytes(b"\xff\xd8\xff\xe1 deepisp 0.1.0 (deepisp)")
    with pytest.raises(UsageError, match=r"one\.jpg: exists; choose .*use --skip-existing or --overwrite"):
        plan_jobs([str(card / "b")], None)
    Path("here.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"here\.jpg: exists; choose a folder .*use --skip-existing"):
        plan_jobs(["card/b/one.dng"], "here.jpg")
    jobs, _ = plan_jobs([str(card)], None, recursive=True, skip_existing=True)
    assert [job.skip for job in jobs] == [False, True, True, False]
    assert [job.skip_existing for job in jobs] == [True, False, False, True]
    jobs, _ = plan_jobs([str(card)], None, recursive=True, overwrite=True)
    assert not any(job.skip for job in jobs)


SIDECAR = """<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
    xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:DateTimeOriginal="{}"/></rdf:RDF>"""


def taken(time: str, zone: str = "") -> Metadata:
    return Metadata(exif={0x9003: f"2024:05:06 {time}", **({0x9011: zone} if zone else {})})


@pytest.mark.parametrize("format", [format for format in FORMATS if format != "dng"])
@pytest.mark.parametrize("time", ["21:30:00", "21:30:02", "21:30:03", ""])
def test_a_picture_of_another_shot_is_no_reason_to_skip(card, format, time):
    """Two cameras, or one after 9999 shots, use the same names."""
    raw, picture = card / "a/one.dng", Path(f"one{FORMATS[format].suffixes[0]}")
    raw.write_bytes(exif_block(picture_ifds(taken("21:30:00", "+02:00"), 8, 8, "", "tiff")))
    metadata = taken(time) if time else Metadata()
    write_picture(
        picture, np.zeros((8, 8, 3), np.uint8), metadata, format=format, software="", overwrite=False
    )
    (job,), _ = plan_jobs([str(raw)], ".", format=format, skip_existing=True)
    if time == "21:30:03":
        assert not job.skip
        assert "shows another photograph, taken 2024-05-06 21:30:03" in str(job.error)
        assert "sidecar" not in str(job.error)
        raw.with_suffix(".xmp").write_text(SIDECAR.format("2024-05-06T23:30:00"))
        (job,), _ = plan_jobs([str(raw)], ".", format=format, skip_existing=True)
        assert "one.dng 2024-05-06 23:30:00" in str(job.error)
        assert "its sidecar has changed, use --overwrite" in str(job.error)
        assert job.result().status == "failed"
    else:
        assert job.skip
        assert not job.error
    assert not plan_jobs([str(raw)], ".", format=format, overwrite=True)[0][0].error


@pytest.mark.parametrize("ours", ["Z 6", "Z 6_2", "", "NIKON Z 6", "z  6"])
@pytest.mark.parametrize("time", ["21:30:01", ""])
def test_a_picture_of_another_camera_is_no_reason_to_skip(card, ours, time):
    """Of two at the same wedding, with the same names within the same second."""
    raw, theirs = card / "a/one.dng", {0x010F: "Nikon", 0x0110: "Z 6"}
    exif = taken(time).exif if time else {}
    raw.write_bytes(
        exif_block(picture_ifds(Metadata({0x0110: ours} if ours else {}, exif), 8, 8, "", "tiff"))
    )
    pixels = np.zeros((8, 8, 3), np.uint8)
    write_picture(
        Path("one.jpg"), pixels, Metadata(theirs, exif), format="jpeg", software="", overwrite=False
    )
    (job,), _ = plan_jobs([str(raw)], ".", skip_existing=True)
    if ours == "Z 6_2":
        assert re.search(
            r"one\.jpg: shows another photograph, taken with a Z 6, .*one.dng with", str(job.error)
        )
    else:
        assert job.skip and not job.error


def test_a_restored_raw_is_known_by_its_name_in_capitals_too(card):
    (card / "a/NIGHT-DEEPISP.DNG").write_bytes(b"x")
    (job,), _ = plan_jobs([str(card / "a/NIGHT-DEEPISP.DNG")], "out", format="dng")
    assert job.skip and "restored" in job.note


def test_pictures_of_ours_alone_are_no_raws(card):
    pixels, name = np.zeros((8, 8, 3), np.uint8), "deepisp 0.1.0 (deepisp)"
    write_picture(Path("ours.tif"), pixels, Metadata(), format="tiff", software=name, overwrite=False)
    for given in (["ours.tif"], ["*.tif"]):
        jobs, _ = plan_jobs(given, "out")
        assert [str(job.source) for job in jobs] == ["ours.tif"]  # reading it tells that it is none


@pytest.mark.parametrize("developed", ["20:30:00", "21:30:00"])
def test_a_time_may_have_been_corrected_before_or_after_the_picture_was_made(card, developed):
    raw = card / "a/one.dng"
    raw.write_bytes(exif_block(picture_ifds(taken("21:30:00"), 8, 8, "", "tiff")))
    pixels = np.zeros((8, 8, 3), np.uint8)
    write_picture(Path("one.jpg"), pixels, taken(developed), format="jpeg", software="", overwrite=False)
    raw.with_suffix(".xmp").write_text(SIDECAR.format("2024-05-06T20:30:00"))
    assert plan_jobs([str(raw)], ".", skip_existing=True)[0][0].skip


@pytest.mark.parametrize("format", [format for format in FORMATS if format != "dng"])
def test_pictures_of_earlier_runs_are_passed_over(card, format):
    """What "card/*" finds after a run with --name "{stem}_{model}"."""
    picture = card / f"a/one_deepisp{FORMATS[format].suffixes[0]}"
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    write_picture(
        picture, pixels, taken("21:30:00"), format=format, software="deepisp 0.1.0 (deepisp)", overwrite=False
    )
    assert picture.stat().st_size > 3 * 2**16 or format == "jpeg"
    jobs, _ = plan_jobs(["card/a/*"], "out", template="{stem}_{model}", model="deepisp", format=format)
    assert [Path(job.source).name for job in jobs] == ["TWO.NEF", "one.dng", "readme.txt"]
    with pytest.raises(InputError) if format != "tiff" else nullcontext():
        plan_jobs([str(picture)], "out")
    write_picture(picture, pixels, taken("21:30:00"), format=format, software="somebody's", overwrite=True)
    assert len(plan_jobs(["card/a/*"], "out", template="{stem}_{model}", model="deepisp")[0]) == 4


def test_a_cameras_own_picture_exists_under_a_name_in_capitals(card):
    """IMG_1.JPG and IMG_1.jpg are one file as soon as the card is copied to a Mac or to Windows."""
    (card / "b/ONE.JPG").write_bytes(b"x")
    (card / "b/two.dng").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"ONE\.JPG: exists; a camera may have"):
        plan_jobs([str(card / "b")], None)
    jobs, _ = plan_jobs([str(card / "b")], None, skip_existing=True)
    assert [(Path(job.source).name, job.skip) for job in jobs] == [("one.dng", True), ("two.dng", False)]
    assert "ONE.JPG: a camera may have written it" in jobs[0].note
    assert not jobs[1].note
    Path("sorted").mkdir()
    (card / "b/ONE.JPG").rename("sorted/ONE.JPG")
    with pytest.raises(UsageError, match=r"a camera may have .* choose another folder .* or --overwrite"):
        plan_jobs([str(card / "b")], "sorted")
    jobs, _ = plan_jobs([str(card / "b")], "sorted", skip_existing=True)
    assert "ONE.JPG: a camera may have written it" in jobs[0].note
    assert not jobs[1].note
    plan_jobs([str(card)], "elsewhere", recursive=True)


def test_subfolders_are_only_named_where_there_are_some(card):
    (card / "c").mkdir()
    with pytest.raises(InputError, match=r"no raw files in this folder$"):
        plan_jobs([str(card / "c")], None)
    (card / "c/d").mkdir()
    with pytest.raises(InputError, match="-r searches"):
        plan_jobs([str(card / "c")], None)
    with pytest.raises(InputError, match=r"no raw files in this folder$"):
        plan_jobs([str(card / "c")], None, recursive=True)


def test_a_folder_that_may_not_be_listed_may_be_written_to(card, monkeypatch):
    def closed(folder):
        raise PermissionError

    (card / "b/one.jpg").write_bytes(b"x")
    (card / "b/two.dng").write_bytes(b"x")
    monkeypatch.setattr(Path, "iterdir", closed)
    with pytest.raises(UsageError, match=r"one\.jpg: exists"):
        plan_jobs(["card/b/one.dng"], None)
    assert targets(plan_jobs(["card/b/two.dng"], None)[0]) == ["card/b/two.jpg"]


def test_an_output_never_replaces_an_input(card):
    picture = card / "linear.tif"
    picture.write_bytes(b"x")
    with pytest.raises(UsageError, match="replace an input"):
        plan_jobs([str(picture)], None, format="tiff", overwrite=True)


def test_another_programs_raw_is_no_picture_to_replace(card, write_raw, grey_ramp, identity_engine):
    (card / "b/one-deepisp.dng").write_bytes(b"a negative")
    with pytest.raises(UsageError, match=r"one-deepisp\.dng: is a raw that this program has not written"):
        plan_jobs(["card/b/one.dng"], None, format="dng", overwrite=True)
    restored = card / "b/one-deepisp.dng"
    raw = write_raw("a.dng", grey_ramp)
    develop(raw, restored, identity_engine, Options(format="dng", overwrite=True))
    assert targets(plan_jobs(["card/b/one.dng"], None, format="dng", overwrite=True)[0]) == [
        "card/b/one-deepisp.dng"
    ]


def test_a_restored_raw_with_much_about_it_is_known(write_raw, identity_engine):
    """Profiles and keywords of more than 64 KiB stand between its EXIF and the end of the file."""
    noise = np.random.default_rng(0).random((256, 256, 3))  # which does not become smaller
    raw = write_raw("a.dng", noise)
    words = "".join(f"<rdf:li>keyword {number}</rdf:li>" for number in range(5000))
    raw.with_suffix(".xmp").write_text(
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag>'
        f"{words}</rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    develop(raw, raw.with_name("a-deepisp.dng"), identity_engine, Options(format="dng"))
    ((job,), _) = plan_jobs([raw], None, format="dng", overwrite=True)
    assert not job.error


def test_an_empty_file_is_no_raw_to_keep(card):
    (card / "b/one-deepisp.dng").touch()
    ((job,), _) = plan_jobs(["card/b/one.dng"], None, format="dng", overwrite=True)
    assert not job.error


@pytest.mark.skipif(os.name == "nt", reason="links take a privilege there")
def test_a_pattern_of_all_folders_follows_no_links_and_finds_nothing_deleted(card):
    (card / "again").symlink_to(card.resolve(), target_is_directory=True)
    for name in ("$RECYCLE.BIN/gone.dng", ".Trashes/gone.dng", "b/deep/two.dng"):
        (card / name).parent.mkdir()
        (card / name).write_bytes(b"x")

    def found(*patterns):
        jobs, _ = plan_jobs(patterns, "out", template="{folder}_{stem}")
        return sorted(Path(job.source).as_posix() for job in jobs)

    assert found("card/**/*.dng") == ["card/a/one.dng", "card/b/deep/two.dng", "card/b/one.dng"]
    assert found("card/**/deep/*.dng") == ["card/b/deep/two.dng"]
    assert found("card/[$b]*/*.dng") == ["card/b/one.dng"]
    assert found("card/$RECYCLE.BIN/*.dng") == ["card/$RECYCLE.BIN/gone.dng"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_pipes_are_not_looked_into_for_a_picture(card):
    os.mkfifo(card / "b/one.jpg")
    (card / "c").mkdir()
    os.mkfifo(card / "c/one.dng")
    (card / "c/one.jpg").write_bytes(b"a picture")
    jobs, _ = plan_jobs(["card/b/one.dng", "card/c/one.dng"], None, skip_existing=True)
    assert len(jobs) == 2


@pytest.mark.skipif(os.name == "nt", reason="links take a privilege there")
def test_a_link_to_nowhere_is_no_picture_to_keep(card):
    (card / "b/one.jpg").symlink_to("/nowhere/one.jpg")
    ((job,), _) = plan_jobs(["card/b/one.dng"], None, skip_existing=True)
    assert not job.skip
    assert "one.jpg: is a link to what is not there" in str(job.error)


@pytest.mark.skipif(os.name == "nt", reason="links take a privilege there")
def test_a_link_into_a_closed_folder_is_named_itself(card, monkeypatch):
    usual = Path.stat

    def refuse(path, **links):
        if path.stem == "far" and links.get("follow_symlinks", True):
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path, **links)

    for name in ("far.dng", "far.jpg"):
        (card / "b" / name).symlink_to(card / "a/one.dng")
    monkeypatch.setattr(Path, "stat", refuse)
    jobs, _ = plan_jobs([str(card / "b")], "out")
    failed = [str(job.error) for job in jobs if job.error]
    assert len(failed) == 1
    assert failed[0].startswith(f"{card / 'b' / 'far.dng'}: is a link to a file that cannot be read")
    assert len(jobs) == 2


@pytest.mark.parametrize("template", [5, Path("x"), b"x", "a\0b"])
def test_a_template_that_is_no_text_is_refused(card, template):
    with pytest.raises(UsageError, match="give a text such as"):
        plan_jobs(["card/b/one.dng"], None, template=template)


@pytest.mark.skipif(os.name == "nt", reason="links take a privilege there")
def test_paths_are_followed_before_they_are_compared(card):
    picture, link = card / "linear.tif", card.parent / "link"
    picture.write_bytes(b"x")
    link.symlink_to(card, target_is_directory=True)
    for source, output in (
        ("card/a/../linear.tif", "card/linear.tif"),
        ("link/linear.tif", "card/b/../linear.tif"),
    ):
        with pytest.raises(UsageError, match="replace an input"):
            plan_jobs([source], output, overwrite=True)
    with pytest.raises(UsageError, match="would both become"):
        plan_jobs(["card/top.cr2", "link/top.cr2"], None)
    jobs, _ = plan_jobs(["card/top.cr2", "card/a/../top.cr2"], "out")
    assert targets(jobs) == ["out/top.jpg"]


@pytest.mark.parametrize(
    "template",
    ["{stem}_{lens}", "{", "{stem!x}", "", "../{stem}", "/tmp/{stem}", "{0}", "{stem.x}", "{stem:{iso}}"],
)
def test_templates_that_make_no_sense(card, template):
    with pytest.raises(UsageError, match="--name"):
        plan_jobs(["card/top.cr2"], "out", template=template)


def test_templates(card, write_raw, grey_ramp):
    path = write_raw("night.dng", grey_ramp, exif={0x9003: "2024:05:06 21:30:00", 0x8827: 1600})
    template = "{date:%Y/%m-%d}/{stem}_{model}_{iso}_{camera}"
    jobs, _ = plan_jobs([str(path)], "out", template=template, model="deepisp")
    assert targets(jobs) == ["out/2024/05-06/night_deepisp_1600_Test Camera.jpg"]


def test_names_from_metadata_are_names_on_any_system(card, write_raw, grey_ramp):
    path = write_raw(
        "a.dng", grey_ramp, make="", model='PENTAX *ist "D"/S', exif={0x9003: "2024:05:06 21:30:00"}
    )
    jobs, _ = plan_jobs([str(path)], "out", template="{camera} {date}")
    assert targets(jobs) == ["out/PENTAX _ist _D__S 2024-05-06_21-30-00.jpg"]
    jobs, _ = plan_jobs([str(path)], "out", template="{model}", model="a/b:c")
    assert targets(jobs) == ["out/a_b_c.jpg"]


def test_dates_are_names_on_any_system(card, write_raw, grey_ramp):
    path = write_raw("a.dng", grey_ramp, model="Inc.", exif={0x9003: "2024:05:06 21:30:00"})
    for template, name in (
        ("{date:%Y/%H:%M}", "2024/21_30"),
        ("{date:}", "2024-05-06_21-30-00"),
        ("{date!s}", "2024-05-06_21-30-00"),
        ("{date!r}", "2024-05-06_21-30-00"),
        ("{camera}/{stem}", "Test Inc/a"),
    ):
        jobs, _ = plan_jobs([str(path)], "out", template=template)
        assert targets(jobs) == [f"out/{name}.jpg"]


def test_what_only_libraw_knows_makes_names(card, write_raw, grey_ramp, monkeypatch):
    """As ``deepisp info`` shows it."""
    monkeypatch.setattr("deepisp_cli.naming.read_capture", lambda file: {"iso": 200.0})
    path = write_raw("a.dng", grey_ramp)
    jobs, _ = plan_jobs([str(path)], "out", template="{stem}_{iso}")
    assert targets(jobs) == ["out/a_200.jpg"]


def test_metadata_does_not_lead_out_of_the_folder(card, write_raw, grey_ramp):
    path = write_raw("a.dng", grey_ramp, make="", model="..")
    (job,), _ = plan_jobs([str(path)], "out", template="{camera}/{stem}")
    assert "choose other fields" in str(job.error)


def test_what_a_file_does_not_state_is_called_so(card, write_raw, grey_ramp):
    dated = write_raw("a.dng", grey_ramp, exif={0x9003: "2024:05:06 21:30:00", 0x8827: 400})
    undated = write_raw("b.dng", grey_ramp, make="", model="")
    template = "{date:%Y}/{camera}_{iso:05d}_{stem}"
    jobs, _ = plan_jobs([str(dated), str(undated)], "out", template=template)
    assert targets(jobs) == [
        "out/2024/Test Camera_00400_a.jpg",
        "out/undated/unknown camera_unknown iso_b.jpg",
    ]


def test_a_file_without_a_suffix_has_no_name_that_needs_one(card):
    Path("card/plain").write_bytes(b"x")
    (job,), _ = plan_jobs(["card/plain"], "out", template="{stem}.{suffix}")
    assert "has no suffix" in str(job.error)


def test_sidecars_are_no_inputs_beside_raws(card):
    for name in ("one.xmp", "one.dng.xmp", "one.pp3"):
        Path("card/a", name).write_bytes(b"x")
    Path("card/a/one.jpg").unlink()
    names = [str(path) for path in sorted(Path("card/a").glob("one*"))]
    assert len(names) == 4
    for inputs in (["card/a/one*"], names):
        assert targets(plan_jobs(inputs, "out")[0]) == ["out/one.jpg"]
    with pytest.raises(InputError, match=r"one\.xmp: is a sidecar file; give the raw file"):
        plan_jobs(["card/a/one.xmp"], "out")


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".tif", ".HEIC", ".wav"])
def test_what_cameras_write_beside_a_raw_is_no_input(card, suffix):
    """Shells expand "card/*"; what has no raw among the inputs is still named."""
    beside, alone = Path("card/a/two").with_suffix(suffix), Path("card/a/alone").with_suffix(suffix)
    raw = Path("card/a/two.dng").absolute()
    for path in (beside, alone, raw):
        path.write_bytes(b"x")
    jobs, _ = plan_jobs([str(beside), str(raw), str(alone)], "out")
    assert [str(job.source) for job in jobs] == [str(raw), str(alone)]
    assert bool(jobs[1].error) == (suffix.lower() in {".jpg", ".jpeg"})
    only = find_sources([str(beside)])
    assert len(only[0]) + len(only[1]) == 1


@pytest.mark.parametrize("suffix", [".mov", ".MP4", ".avi"])
def test_films_among_raws_are_passed_over(card, suffix):
    """Cameras number them like pictures, so most have no raw of their name."""
    film, raw = Path("card/a/three").with_suffix(suffix), Path("card/a/one.dng")
    film.write_bytes(b"x")
    assert [str(job.source) for job in plan_jobs([str(raw), str(film)], "out")[0]] == [str(raw)]
    assert [str(job.source) for job in plan_jobs([str(film)], "out")[0]] == [
        str(film)
    ]  # told when it is read


def test_standard_streams(card):
    jobs, _ = plan_jobs(["-"], None)
    assert (jobs[0].source, jobs[0].target) == ("-", "-")
    jobs, _ = plan_jobs(["-"], "night.png")
    assert targets(jobs) == ["night.png"]
    jobs, _ = plan_jobs(["card/top.cr2"], "-")
    assert jobs[0].target == "-"
    jobs, format = plan_jobs(["card/top.cr2"], "/dev/stdout")
    assert (jobs[0].target, format) == ("-", "jpeg")
    Path("-").write_bytes(b"x")  # which is not standard input
    (job,), _ = plan_jobs(["-"], "out", template="{stem}_{iso}")
    assert "for standard input only stem and model" in str(job.error)
    (job,), _ = plan_jobs(["-"], "out", template="{folder}_{stem}")
    assert "for standard input only stem and model" in str(job.error)
    Path("-").unlink()
    for other in ("card/top.cr2", "gone.dng"):
        with pytest.raises(UsageError, match="standard input"):
            plan_jobs(["-", other], "out")
    with pytest.raises(UsageError, match="standard output"):
        plan_jobs(["card/a/one.dng", "card/top.cr2"], "-")


def test_several_inputs_need_a_folder(card):
    with pytest.raises(UsageError, match="need a folder"):
        plan_jobs(["card/a/one.dng", "card/top.cr2"], "all.jpg")
    with pytest.raises(UsageError, match="need a folder"):
        plan_jobs([str(card)], "all.jpg")
    with pytest.raises(UsageError, match="need a folder"):  # what is missing counts
        plan_jobs(["card/a/one.dng", "card/top.cr2", "gone.dng"], "all.jpg")
    with pytest.raises(UsageError, match="2 inputs cannot all go to standard output"):
        plan_jobs(["card/a/one.dng", "gone.dng"], "-")


def test_what_is_missing_among_others_fails_alone(card):
    (card / "empty").mkdir()
    (card / "empty" / "readme.txt").touch()
    given = ["card/gone.dng", "card/top.cr2", "card/empty", "card/*.zip", "card/a/one.jpg"]
    jobs, _ = plan_jobs(given, "out")
    assert targets(jobs)[0] == "out/top.jpg"
    assert [str(job.source) for job in jobs[1:]] == [given[2], given[0], *given[3:]]
    assert (jobs[1].skip, jobs[1].note) == (True, "card/empty: no raw files in this folder")
    (card / "empty" / "readme.txt").rename(card / "empty" / ".hidden")  # where a card should be, perhaps
    emptied, _ = plan_jobs(given, "out")
    assert "no raw files in this folder" in str(emptied[2].error)
    found, _ = plan_jobs(given, "card/empty")  # found where it is to be written to
    assert [str(job.source) for job in found[1:]] == [given[0], *given[3:]]
    for job, reason in zip(jobs[2:], ("no such file", "no file matches", "not a raw"), strict=True):
        assert reason in str(job.error)
    (card / "empty" / "sub").mkdir()
    jobs, _ = plan_jobs(given, "out")  # somebody may have forgotten -r
    assert "no raw files in this folder; -r searches its sub-folders" in str(jobs[2].error)
    with pytest.raises(UsageError, match="need a folder"):
        plan_jobs(given[:2], "one.jpg")


def test_each_of_several_that_are_missing_is_named(card):
    jobs, _ = plan_jobs(["gone.dng", "lost.dng"], "out")
    assert [str(job.error).partition(":")[0] for job in jobs] == ["gone.dng", "lost.dng"]
    with pytest.raises(InputError, match=r"gone\.dng: no such file"):
        plan_jobs(["gone.dng"], "out")


def test_a_template_with_a_model_needs_one(card):
    with pytest.raises(UsageError, match=r"\{model\} in the template"):
        plan_jobs(["card/top.cr2"], "out", template="{stem}_{model}")
    jobs, _ = plan_jobs(["card/top.cr2"], "out", template="{stem}_{model}", model="mine")
    assert targets(jobs) == ["out/top_mine.jpg"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_among_the_pictures_is_not_waited_for(card, monkeypatch):
    os.mkfifo(card / "a" / "pipe.jpg")
    monkeypatch.setattr(Path, "open", lambda path, mode: pytest.fail(f"{path} is opened"))
    assert not is_ours(card / "a" / "pipe.jpg")


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(card):
    (card / "b").chmod(0)
    try:
        jobs, _ = plan_jobs(["card"], "out", recursive=True)
        assert [Path(job.source) for job in jobs if job.error] == [card / "b"]
        assert len(jobs) == 4
        with pytest.raises(InputError, match=r"card/b/one\.dng: cannot be accessed"):
            plan_jobs(["card/b/one.dng"], "out")
    finally:
        (card / "b").chmod(0o755)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(13, "Permission denied", "card/b"), "; check its permissions"),
        (OSError(116, "Stale file handle", "card/b"), " (Stale file handle); check the disk"),
    ],
)
def test_folders_that_cannot_be_read_do_not_hide_the_others(card, monkeypatch, error, told):
    def walk(top, onerror):
        onerror(error)
        yield from [("card", ["b"], ["top.cr2"])]

    monkeypatch.setattr(os, "walk", walk)
    jobs, _ = plan_jobs(["card"], "out", recursive=True)
    assert targets(jobs) == ["out/top.jpg", ""]
    assert f"card/b: cannot be searched{told}" in str(jobs[1].error)


def test_a_name_that_is_too_long_is_told(card):
    with pytest.raises(InputError, match=r"^a{5000}: cannot be accessed"):
        plan_jobs(["a" * 5000], "out")
    with pytest.raises(InputError, match="cannot be accessed"):
        plan_jobs(["a" * 5000 + "*"], "out")
    sources, missing, _ = find_sources(["a" * 5000 + "*", "card/top.cr2"])  # the others can be developed
    assert [str(source) for source, _ in sources] == [os.path.join("card", "top.cr2")]
    assert "cannot be accessed" in str(missing[0][1])
    jobs, _ = plan_jobs([str(card / "a" / "one.dng")], "a" * 5000 + ".jpg")
    assert len(jobs) == 1  # which will fail when it is written
    plan_jobs([str(card / "a" / "one.dng")], "a" * 5000)


def test_folders_may_look_like_files(card):
    (card / "a" / "folder.dng").mkdir()
    jobs, _ = plan_jobs([str(card / "a")], "out")
    assert sorted(targets(jobs)) == ["out/TWO.jpg", "out/one.jpg"]
    Path("pictures.jpg").mkdir()
    jobs, _ = plan_jobs(["card/top.cr2"], "pictures.jpg")
    assert targets(jobs) == ["pictures.jpg/top.jpg"]


@pytest.mark.parametrize("given", ["card/a", "card/a/*.dng", "card/a/*", "card/a/l*.dng", "card/a/lost.dng"])
def test_a_link_to_nothing_is_named(card, given):
    """Of a disk that is not mounted, or of git-annex: a backup would believe that all is developed."""
    (card / "a" / "lost.dng").symlink_to("nowhere.dng")
    (card / "a" / "lost.txt").symlink_to("nowhere.txt")  # no raw
    if given == "card/a/*":
        (card / "a" / "readme.txt").unlink()
    jobs, _ = plan_jobs(["card/top.cr2", given], "out")
    assert targets(jobs)[0] == "out/top.jpg"
    assert [str(job.error) for job in jobs if job.error] == [
        f"{os.path.join('card', 'a', 'lost.dng') if given != 'card/a/lost.dng' else given}:"
        " is a link to a file that is not there; mount its disk or fetch it"
    ]


@pytest.mark.parametrize("given", ["card", "card/*/*.dng"])
def test_files_that_may_be_listed_but_not_entered_are_named_by_their_folder(card, monkeypatch, given):
    usual = Path.stat

    def refuse(path, **links):
        if path.parent.name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path, **links)

    (card / "b" / "two.dng").write_bytes(b"x")
    monkeypatch.setattr(Path, "stat", refuse)
    jobs, _ = plan_jobs([given], "out", recursive=True)
    assert [str(job.source) for job in jobs if job.error] == [os.path.join("card", "b")]
    assert len(jobs) == (4 if given == "card" else 2)


@pytest.mark.parametrize("last", ["out.jpg", "web/out.PNG", "new/", "empty/"])
def test_an_output_without_its_option_is_refused_before_any_work(card, last):
    """As darktable-cli and ocrmypdf take it."""
    Path("empty").mkdir()
    Path("empty/.DS_Store").touch()
    what = "is empty" if last == "empty/" else "no such file or folder"
    with pytest.raises(UsageError, match=rf"{last}: {what}; .* name it with -o: -o {last}"):
        plan_jobs(["card/top.cr2", last])
    with pytest.raises(InputError, match="no raw files" if last == "empty/" else "no such file or folder"):
        plan_jobs([last])
    assert len(plan_jobs(["card/top.cr2", "card/a/"], "out")[0]) == 3
    assert len(plan_jobs(["card/", "card/b/", "empty/"])[0]) == 3  # as "*/" gives them
    if last == "empty/":
        with pytest.raises(UsageError, match="empty/: is empty"):
            plan_jobs(["card/b/", "empty/"])
        with pytest.raises(UsageError, match="empty/: is empty"):  # a file among them: no "*/"
            plan_jobs(["card/top.cr2", "card/b/", "empty/"])
    assert len(plan_jobs(["card/top.cr2", last], "out")[0]) == 2
    assert len(plan_jobs(["card/top.cr2", "lost.dng"], "out")[0]) == 2
    assert len(find_sources(["card/top.cr2", last]).missing) == 1  # for ``deepisp info`` it is just missing


def test_what_is_hidden_is_passed_over(card):
    for name in (".Trashes/old.dng", "a/.hidden.dng", "$RECYCLE.BIN/S-1-5/$R1.dng", "$Recycle.Bin/$R2.dng"):
        (card / name).parent.mkdir(parents=True, exist_ok=True)
        (card / name).write_bytes(b"x")
    jobs, _ = plan_jobs(["card"], "out", recursive=True)
    assert len(jobs) == 4
    jobs, _ = plan_jobs(["card/$RECYCLE.BIN", "card/a", "card/$Recycle.Bin"], "out", recursive=True)
    assert targets(jobs) == ["out/TWO.jpg", "out/one.jpg"]  # as "card/*" gives them
    assert len(plan_jobs(["card/$RECYCLE.BIN"], "out", recursive=True)[0]) == 1
    (card / "$RECYCLE.BIN.dng").write_bytes(b"x")
    assert len(plan_jobs(["card/$RECYCLE.BIN.dng", "card/a/one.dng"], "out")[0]) == 2
    jobs, _ = plan_jobs(["card/a/.hidden.dng"], "out")  # but here it is named explicitly
    assert targets(jobs) == ["out/.hidden.jpg"]


def test_folders_in_a_template_take_the_place_of_the_sources(card):
    (card / "a/one.dng").unlink()
    jobs, _ = plan_jobs(["card"], "out", template="{model}/{stem}", model="m", recursive=True)
    assert targets(jobs) == ["out/m/TWO.jpg", "out/m/one.jpg", "out/m/top.jpg"]
    jobs, _ = plan_jobs(["card"], "out", template="{stem}_{model}", model="m", recursive=True)
    assert "out/b/one_m.jpg" in targets(jobs)
    with pytest.raises(UsageError, match=r"TWO\.NEF and 2 more would all become .*\"all/{model}_{"):
        plan_jobs(["card"], "out", template="all/{model}", model="m", recursive=True)
    (card / "b/two.dng").write_bytes(b"x")
    with pytest.raises(
        UsageError, match=r'one\.dng and card/b/two\.dng would both become .*"all/{model}_{stem}", or'
    ):
        plan_jobs(["card/b"], "out", template="all/{model}", model="m")
    with pytest.raises(UsageError, match="leave out the suffix; --format"):
        plan_jobs(["card"], "out", template="{stem}.JPG", recursive=True)


@pytest.mark.parametrize(
    ("inputs", "output"), [([""], None), (["card/top.cr2", ""], "out"), (["card/top.cr2"], "")]
)
def test_an_empty_name_is_a_variable_that_is_not_set(card, inputs, output):
    with pytest.raises(UsageError, match="variable"):
        plan_jobs(inputs, output)


def test_a_file_called_dash_is_no_stream(card):
    Path("-").write_bytes(b"x")
    (job,), _ = plan_jobs(["./-"], "out")
    assert (job.source, targets([job])) == (Path("-").absolute(), ["out/-.jpg"])


@pytest.mark.skipif(os.name == "nt", reason="links take a privilege there")
def test_links_to_no_picture_and_to_nowhere_are_not_replaced(card):
    Path("keep.nef").write_bytes(b"x")
    Path("a.jpg").symlink_to("keep.nef")
    with pytest.raises(UsageError, match="not a picture"):
        plan_jobs(["card/top.cr2"], "a.jpg", overwrite=True)
    Path("b.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(UsageError, match="exists"):
        plan_jobs(["card/top.cr2"], "b.jpg")


@pytest.mark.skipif(os.name == "nt", reason="devices are POSIX's")
def test_a_device_is_a_file_that_is_always_there(card):
    jobs, format = plan_jobs(["card/top.cr2"], "/dev/null")
    assert (targets(jobs), format) == (["/dev/null"], "jpeg")


@pytest.mark.parametrize(
    "template", ["/{stem}", "C:{stem}", "C:/{stem}", "\\\\server\\share\\{stem}", "sub\\"]
)
def test_names_stay_in_the_folder_on_windows_too(card, monkeypatch, template):
    """There neither a drive nor a leading slash alone makes a path absolute, but both leave the folder."""
    monkeypatch.setattr(naming, "Path", PureWindowsPath)
    monkeypatch.setattr(os, "sep", "\\")
    with pytest.raises(UsageError, match="must name a file in the output folder"):
        plan_jobs(["card"], "out", template=template)


def test_a_backslash_makes_folders_on_windows(card, monkeypatch):
    (card / "b/one.dng").unlink()
    monkeypatch.setattr(os, "sep", "\\")
    jobs, _ = plan_jobs([str(card)], "out", template="new\\{suffix}_{stem}", recursive=True)
    assert "out/new/nef_TWO.jpg" in targets(jobs)


def test_a_name_without_a_pattern_is_looked_for_as_it_is_spelled(card):
    """Where IMG_1.DNG and IMG_1.dng are one file, both would be found."""
    (card / "a" / "two.DNG").write_bytes(b"")
    (card / "b" / "two.dng").write_bytes(b"")
    jobs, _ = plan_jobs(["card/*/two.DNG"], "out")
    assert [str(job.source) for job in jobs] == [str(Path("card/a/two.DNG"))]


def test_standard_input_may_be_given_twice(card):
    assert len(plan_jobs(["-", "/dev/stdin"])[0]) == 1


@pytest.mark.parametrize("suffix", [".tif", ".TIF", ".tiff"])
def test_pictures_of_tiffs_are_passed_over_where_these_are_the_raws(card, suffix):
    Path("card/b/one.dng").unlink()
    for name in (f"a{suffix}", "a.jpg"):
        Path("card/b", name).write_bytes(b"x")
    jobs, _ = plan_jobs(["card/b/*"], "out")
    assert targets(jobs) == ["out/a.jpg"] and not jobs[0].error


RAWS = """
    3fr arw cr2 cr3 crw dcr dng erf fff gpr iiq k25 kdc mef mos mrw nef nrw orf pef raf raw rw2 rwl sr2 srf
    srw x3f
"""


@pytest.mark.parametrize("suffix", RAWS.split())
def test_a_folder_is_searched_for_every_kind_of_raw(card, suffix):
    for name in (f"one.{suffix}", f"two.{suffix.upper()}"):
        path = card / "new" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert targets(plan_jobs([card / "new"], "out")[0]) == ["out/one.jpg", "out/two.jpg"]


def test_the_folder_that_windows_keeps_on_cards_is_passed_over(card):
    (card / "System Volume Information").mkdir()
    (card / "System Volume Information" / "old.dng").write_bytes(b"x")
    assert len(plan_jobs(["card"], "out", recursive=True)[0]) == 4


@pytest.mark.parametrize(
    ("software", "ours"), [(b"deepisp 1.0", True), (b"deepispy 1.0", False), (b"", False)]
)
def test_a_picture_is_ours_if_it_names_the_program(card, software, ours):
    (card / "x.jpg").write_bytes(bytes(100) + software + bytes(100))
    assert is_ours(card / "x.jpg") == ours


@pytest.mark.parametrize("end", ["/", "\\"])
def test_a_folder_may_be_named_with_either_slash(card, end):
    (job,), _ = plan_jobs(["card/top.cr2"], f"new.jpg{end}")
    assert Path(job.target) == Path(f"new.jpg{end}", "top.jpg")


def test_only_a_jpeg_may_be_the_cameras(card):
    (card / "b/one.png").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"one\.png: exists; choose .*--skip-existing"):
        plan_jobs(["card/b/one.dng"], format="png")
    (job,), _ = plan_jobs(["card/b/one.dng"], format="png", skip_existing=True)
    assert (job.skip, job.note) == (True, "")


def test_only_a_jpeg_of_the_raws_name_may_be_the_cameras(card):
    (card / "b/best.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"best\.jpg: exists; choose .*--overwrite"):
        plan_jobs(["card/b/one.dng"], "card/b/best.jpg")


def test_an_input_by_another_name_is_not_replaced(card):
    """A hard link, as a folder that is mounted twice."""
    os.link("card/a/one.dng", "card/a/other.dng")
    with pytest.raises(UsageError, match=r"other\.dng: the output would replace an input"):
        plan_jobs(["card/a/one.dng"], "card/a/other.dng", overwrite=True)


def test_a_file_that_the_disk_does_not_give_up_fails_alone(card, monkeypatch):
    usual = Path.stat

    def stat(path, **links):
        if path.name == "TWO.NEF":
            raise OSError(errno.EIO, "Input/output error")
        return usual(path, **links)

    monkeypatch.setattr(Path, "stat", stat)
    found = find_sources(["card/a"])
    assert [str(source) for source, _ in found.found] == [str(Path("card/a/one.dng"))]
    [(name, error)] = found.missing
    assert name == str(Path("card/a/TWO.NEF")) and "Input/output error); check the disk" in str(error)


@pytest.mark.parametrize("inputs", [b"a.dng", [b"a.dng"], 5, None, [5]])
def test_inputs_that_are_no_paths_are_told(inputs):
    with pytest.raises(UsageError, match="are no inputs"):
        plan_jobs(inputs, "out")


@pytest.mark.parametrize("output", [b"out", 3, "a\0b/"])
def test_an_output_that_is_no_path_is_told(card, output):
    with pytest.raises(UsageError, match=r"is no path|no file can have this name"):
        plan_jobs(["card/top.cr2"], output)


def test_entries_of_a_folder_are_paths(card):
    with os.scandir("card/b") as entries:
        jobs, _ = plan_jobs(list(entries), "out")
    assert targets(jobs) == ["out/one.jpg"]

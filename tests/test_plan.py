"""Which inputs become which outputs, and what is refused before any work."""

from pathlib import Path

import pytest

from deepisp_cli.errors import InputError, UsageError
from deepisp_cli.plan import plan_jobs


@pytest.fixture
def card(tmp_path, monkeypatch):
    """A card with two folders, a raw of one name in each, and what else cameras leave there."""
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
    return [str(job.target) for job in jobs]


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


def test_folders_are_searched_for_raws_and_sub_folders_kept(card):
    jobs, _ = plan_jobs([str(card)], "out", recursive=True, format="png")
    assert targets(jobs) == ["out/a/TWO.png", "out/a/one.png", "out/b/one.png", "out/top.png"]
    jobs, _ = plan_jobs([str(card)], "out")
    assert targets(jobs) == ["out/top.jpg"]


def test_patterns_are_expanded_by_the_program(card):
    jobs, _ = plan_jobs(["card/*/*.NEF"], "out/")
    assert targets(jobs) == ["out/TWO.jpg"]
    with pytest.raises(InputError, match="no file matches"):
        plan_jobs(["card/*.tiff"], "out")


def test_a_file_given_twice_is_developed_once(card):
    jobs, _ = plan_jobs(["card/a/TWO.NEF", "card/a", "card/a/*.NEF"], "out", skip_existing=True)
    assert targets(jobs) == ["out/TWO.jpg", "out/one.jpg"]


def test_two_inputs_of_one_name_are_refused_before_work(card):
    with pytest.raises(UsageError, match=r"a/one\.dng and card/b/one\.dng would both become out/one\.jpg"):
        plan_jobs(["card/a/one.dng", "card/b/one.dng"], "out")


def test_names_that_differ_in_case_only_clash(card):
    (card / "two.cr2").write_bytes(b"x")
    with pytest.raises(UsageError, match="would both become"):
        plan_jobs(["card/a/TWO.NEF", "card/two.cr2"], "out")


def test_an_existing_output_is_refused_counted_and_remedies_named(card):
    (card / "b/one.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"one\.jpg: exists, and 1 more of 4") as error:
        plan_jobs([str(card)], None, recursive=True)
    for remedy in ("-o", "--name", "--skip-existing", "--overwrite"):
        assert remedy in str(error.value)
    jobs, _ = plan_jobs([str(card)], None, recursive=True, skip_existing=True)
    assert [job.skip for job in jobs] == [False, True, True, False]
    jobs, _ = plan_jobs([str(card)], None, recursive=True, overwrite=True)
    assert not any(job.skip for job in jobs)


def test_an_output_never_replaces_an_input(card):
    picture = card / "linear.tif"
    picture.write_bytes(b"x")
    with pytest.raises(UsageError, match="replace an input"):
        plan_jobs([str(picture)], None, format="tiff", overwrite=True)


@pytest.mark.parametrize(
    "template", ["{stem}_{lens}", "{", "{stem!x}", "", "../{stem}", "/tmp/{stem}", "{0}", "{stem.x}"]
)
def test_templates_that_make_no_sense(card, template):
    with pytest.raises(UsageError, match="--name"):
        plan_jobs(["card/top.cr2"], "out", template=template)


def test_templates(card, write_raw, grey_ramp):
    path = write_raw("night.dng", grey_ramp, exif={0x9003: "2024:05:06 21:30:00", 0x8827: 1600})
    template = "{date:%Y/%m-%d}/{stem}_{model}_{iso}_{camera}"
    jobs, _ = plan_jobs([str(path)], "out", template=template, model="deepisp")
    assert targets(jobs) == ["out/2024/05-06/night_deepisp_1600_Test Camera.jpg"]


def test_a_file_without_a_date_fails_alone(card, write_raw, grey_ramp):
    dated = write_raw("dated.dng", grey_ramp, exif={0x9003: "2024:05:06 21:30:00"})
    undated = write_raw("undated.dng", grey_ramp)
    jobs, _ = plan_jobs([str(dated), str(undated)], "out", template="{date:%Y}/{stem}")
    assert jobs[0].error is None
    assert "has no date" in str(jobs[1].error)


def test_standard_streams(card):
    jobs, _ = plan_jobs(["-"], None)
    assert (jobs[0].source, jobs[0].target) == ("-", "-")
    jobs, _ = plan_jobs(["-"], "night.png")
    assert targets(jobs) == ["night.png"]
    jobs, _ = plan_jobs(["card/top.cr2"], "-")
    assert jobs[0].target == "-"
    with pytest.raises(UsageError, match="standard input"):
        plan_jobs(["-", "card/top.cr2"], "out")
    with pytest.raises(UsageError, match="standard output"):
        plan_jobs(["card/a/one.dng", "card/top.cr2"], "-")


def test_several_inputs_need_a_folder(card):
    with pytest.raises(UsageError, match="need a folder"):
        plan_jobs(["card/a/one.dng", "card/top.cr2"], "all.jpg")
    with pytest.raises(UsageError, match="need a folder"):
        plan_jobs([str(card)], "all.jpg")


def test_nothing_to_do_is_an_error(card):
    (card / "empty").mkdir()
    with pytest.raises(InputError, match="no raw files"):
        plan_jobs(["card/empty"], "out")
    with pytest.raises(InputError, match="no such file"):
        plan_jobs(["card/gone.dng"], "out")

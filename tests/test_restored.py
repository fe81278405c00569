"""The restored raw as a linear DNG: samples, highlights, colours, preview, names."""

import struct
from dataclasses import replace
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
import tifffile
from conftest import MATRIX, IdentityEngine, opcode_list, raw_with
from PIL import Image

from deepisp_cli import restored as restoring
from deepisp_cli.batch import develop_many
from deepisp_cli.camera_rgb import clipped_off, linear_rgb
from deepisp_cli.colour import decode, encode
from deepisp_cli.dng import write_dng
from deepisp_cli.dng_tags import RawTag, restored_strength
from deepisp_cli.errors import UsageError
from deepisp_cli.info import describe
from deepisp_cli.metadata import read_metadata
from deepisp_cli.options import Options
from deepisp_cli.pipeline import develop, develop_array, prepare
from deepisp_cli.plan import plan_jobs
from deepisp_cli.raw import read_raw
from deepisp_cli.restored import (
    PREVIEW_SIDE,
    RestoredRaw,
    _darkened,
    encode_dng,
    preview_of,
    restore_highlights,
)
from deepisp_cli.xtrans import X_TRANS

ONES = np.ones(3, np.float32)
GAINS = np.array([2.0, 1.0, 1.5], np.float32)
PLAIN = Options(look="neutral", strength=0)


def scene_of(height=48, width=64, brightest=0.9):
    """Smooth colours (height, width, 3), balanced camera RGB."""
    down, across = np.mgrid[0:height, 0:width] / max(height, width)
    waves = np.stack([np.sin(4 * across), np.cos(5 * down), np.sin(3 * (down + across))], -1)
    return np.clip(0.5 + 0.45 * waves, 0.02, 1) * brightest


def tags_of(path):
    with tifffile.TiffFile(path) as tif:
        return {tag.name: tag.value for tag in tif.pages.first.tags}


def preview_in(path):
    with tifffile.TiffFile(path) as tif:
        page, file = tif.pages.first.pages[0], tif.filehandle
        assert page.subfiletype == 1
        file.seek(page.dataoffsets[0])
        jpeg = file.read(page.databytecounts[0])
        # readers go by what the directory says of the colours' resolution
        assert page.tags["YCbCrSubSampling"].value == Image.open(BytesIO(jpeg)).layer[0][1:3]
        return imagecodecs.jpeg8_decode(jpeg)


def restored(raw, tmp_path, engine, **options):
    target = tmp_path / "out" / "restored.dng"
    target.parent.mkdir(exist_ok=True)
    return target, develop(raw, target, engine, Options(overwrite=True, **options))


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("pattern", ["RGGB", "GBRG", X_TRANS], ids=["RGGB", "GBRG", "X-Trans"])
def test_samples_are_what_was_restored_upright(write_raw, tmp_path, identity_engine, pattern, orientation):
    path = write_raw("a.dng", scene_of(), pattern, orientation=orientation)
    target, result = restored(path, tmp_path, identity_engine)
    raw, back = read_raw(path), read_raw(target)
    expected = linear_rgb(raw, GAINS)
    if orientation == 6:
        expected = np.rot90(expected, -1)
    assert (back.pattern, back.orientation) == (None, 1)
    assert (result.width, result.height) == back.samples.shape[1::-1]
    np.testing.assert_allclose(linear_rgb(back, GAINS), expected, atol=3e-5)
    np.testing.assert_allclose(back.camera_white_balance, raw.camera_white_balance, rtol=1e-5)
    np.testing.assert_allclose(back.xyz_to_camera, raw.xyz_to_camera, rtol=1e-5)


@pytest.mark.parametrize("known", [MATRIX, None], ids=["matrix", "no matrix"])
def test_it_develops_to_the_same_colours(write_raw, tmp_path, identity_engine, known):
    path = write_raw("a.dng", scene_of(), xyz_to_camera=known)
    target, _ = restored(path, tmp_path, identity_engine)
    again, first = (develop_array(each, identity_engine, PLAIN).astype(int) for each in (target, path))
    assert np.abs(again - first).max() <= 2
    if known is None:  # balanced camera RGB is sRGB then, and D65 its white
        np.testing.assert_allclose(read_raw(target).daylight_white_balance, GAINS, rtol=1e-3)


@pytest.mark.parametrize("pattern", ["GBRG", X_TRANS, None], ids=["Bayer", "X-Trans", "linear"])
@pytest.mark.parametrize("tile", [(2, 2), (3, 2), (4, 6)])
def test_what_is_clipped_off_a_band_is_that_of_the_frame(pattern, tile):
    """Wherever the band begins in the CFA and in the tile of black levels."""
    rng = np.random.default_rng(0)
    shape = (90, 40) if pattern else (90, 40, 3)
    black = (0.05 * rng.random(tile if pattern else 3)).astype(np.float32)
    raw = raw_with(1.2 * rng.random(shape).astype(np.float32), pattern, black=black)
    whole = clipped_off(raw, GAINS, slice(0, 90))
    assert whole.max() > 0.5
    for rows in (slice(0, 25), slice(25, 52), slice(52, 90)):
        np.testing.assert_allclose(clipped_off(raw, GAINS, rows), whole[rows], atol=1e-6)


@pytest.mark.parametrize("stated", [None, (-5, 10)])
def test_a_white_level_that_is_found_does_not_brighten(write_raw, tmp_path, identity_engine, stated):
    """The samples' white is where the sensor clips; BaselineExposure makes up for it."""
    rng = np.random.default_rng(0)
    scene = scene_of(100)
    scene = np.minimum(scene + rng.normal(0, 0.01, scene.shape), 0.8)
    scene[:60] = 0.8
    extra = [] if stated is None else [(50730, 10, 1, stated)]
    path = write_raw("a.dng", scene, gains=(1.0, 1.0, 1.0), extra=extra)
    share = read_raw(path).clipped_at
    assert share == pytest.approx(0.8, abs=0.01)
    target, _ = restored(path, tmp_path, identity_engine)
    with tifffile.TiffFile(target) as tif:
        assert [tag.code for tag in tif.pages.first.tags].count(50730) == 1
    numerator, denominator = tags_of(target)["BaselineExposure"]
    expected = (-0.5 if stated else 0) + np.log2(share)
    assert numerator / denominator == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("pattern", ["RGGB", X_TRANS, None], ids=["Bayer", "X-Trans", "linear"])
def test_highlights_of_amplified_channels_are_kept(
    write_raw, tmp_path, identity_engine, monkeypatch, pattern
):
    """The network sees them clipped to 1; the sensor recorded red up to 2 and blue up to 1.5."""
    monkeypatch.setattr(restoring, "BLOCK_ROWS", 36)
    scene = np.minimum(scene_of(100, brightest=2.2), GAINS)  # three bands of rows
    if pattern:
        path = write_raw("a.dng", scene, pattern)
        options = {}
    else:
        path = tmp_path / "a.dng"
        counts = np.rint(scene / GAINS * 60000).astype(np.uint16)
        write_dng(path, counts, pattern=None, white=60000, white_balance=GAINS, xyz_to_camera=MATRIX)
        options = {"strength": 0}
    raw = read_raw(path)
    frame = prepare(path, Options(format="dng"))
    assert frame.picture.max() <= encode(np.ones(1, np.float32))
    target, _ = restored(path, tmp_path, identity_engine, **options)
    expected = linear_rgb(raw, ONES)
    assert (expected[..., 0] > 0.6).any() and (expected[..., 2] > 0.8).any()
    np.testing.assert_allclose(linear_rgb(read_raw(target), ONES), expected, atol=2e-3)


@pytest.mark.parametrize("pattern", ["RGGB", X_TRANS], ids=["Bayer", "X-Trans"])
def test_highlights_do_not_spread_beyond_sharp_edges(write_raw, pattern):
    """A demosaic spreads the light of a lamp to its neighbours; the network, which finds edges, does not."""
    scene = np.full((60, 60, 3), 0.05)
    scene[20:40, 20:40] = GAINS
    image = encode(np.minimum(scene, 1).astype(np.float32))
    restore_highlights(image, read_raw(write_raw("a.dng", scene, pattern)), GAINS)
    np.testing.assert_allclose(decode(image)[23:37, 23:37], scene[23:37, 23:37], atol=1e-3)
    lamp = np.zeros((60, 60), bool)
    lamp[20:40, 20:40] = True
    np.testing.assert_allclose(decode(image)[~lamp], 0.05, atol=1e-5)


def test_the_preview_is_the_finished_picture_with_white_highlights(write_raw, tmp_path, identity_engine):
    path = write_raw("a.dng", np.minimum(scene_of(brightest=2.2), GAINS), orientation=8)
    target, _ = restored(path, tmp_path, identity_engine)
    preview = preview_in(target)
    finished = develop_array(path, identity_engine)
    assert preview.shape == finished.shape
    assert np.abs(preview.astype(int) - finished).mean() < 4
    assert (preview[finished.min(-1) == 255] > 245).all()


@pytest.mark.parametrize(
    ("shape", "small"),
    [
        ((4100, 40), (1366, 13)),
        ((50, 6200), (12, 1550)),
        ((2048, 30), (2048, 30)),
        ((3, 5), (3, 5)),
        ((2, 6300), (1, 3150)),  # smaller, but not less than a pixel high
    ],
)
def test_previews_are_small(shape, small):
    image = np.full((*shape, 3), 0.25, np.float32)
    image[: shape[0] // 2] = 0.75
    preview = preview_of(image, 1, np.eye(3, dtype=np.float32), None, None)
    assert preview.shape == (*small, 3)
    assert max(small) <= PREVIEW_SIDE or min(small) == 1
    if small[0] > 2:
        assert preview[0].mean() > 1.5 * preview[-1].mean()


def test_previews_keep_the_light_of_stars():
    image = np.zeros((3000, 100, 3), np.float32)
    image[::2] = 1
    preview = preview_of(image, 1, np.eye(3, dtype=np.float32), None, None)
    assert abs(preview.mean() - 188) < 1  # half of the light, sRGB-encoded


def test_the_preview_has_the_learned_look(write_raw, tmp_path):
    class Brightening(IdentityEngine):
        def run(self, tile):
            core, coefficients = super().run(tile)
            return core, coefficients * 0.6

    path = write_raw("a.dng", scene_of() * 0.1)
    engine = Brightening()
    engine.model.card["architecture"]["metered"] = True
    engine.model.card["contrast"] = 1.0
    target, _ = restored(path, tmp_path, engine)
    finished = develop_array(path, engine)
    preview = preview_in(target)
    assert np.abs(preview.astype(int) - finished).mean() < 4
    assert np.abs(develop_array(path, engine, Options(look="neutral")) - preview.astype(float)).mean() > 20


def test_lens_corrections_are_made(tmp_path, write_raw, identity_engine):
    data = opcode_list((1, struct.pack(">I8d", 1, 0.99, -0.06, 0.01, 0.002, 0.003, -0.004, 0.54, 0.47)))
    scene = np.minimum(scene_of(brightest=2.2), GAINS)
    path = write_raw("a.dng", scene, extra=[(51022, 7, len(data), data)])
    raw = read_raw(path)
    assert raw.lens_warp is not None
    target, _ = restored(path, tmp_path, identity_engine)
    back = read_raw(target)
    assert back.samples.shape[:2] == raw.size
    assert back.lens_warp is None
    corrected = raw.lens_warp.correct(encode(linear_rgb(raw, ONES)))
    assert np.abs(encode(linear_rgb(back, ONES)) - corrected).mean() < 0.01


@pytest.mark.parametrize(("order", "dynamic_range"), [("<", True), (">", True), (">", False)])
def test_tags_that_are_numbers_in_bytes_are_kept(tmp_path, identity_engine, order, dynamic_range):
    """In the byte order of the new file; and its version of DNG is theirs."""
    light, most = (0, 4476, 10000, 4074, 10000), (1, 1, 16.0)
    tags = [(50706, 1, 4, bytes((1, 7, 0, 0))), (33421, 3, 2, (2, 2)), (33422, 1, 4, bytes((0, 1, 1, 2)))]
    tags += [(50721, 10, 9, SECOND_MATRIX[3]), (50778, 3, 1, 255), (50728, 5, 3, (1, 2, 1, 1, 2, 3))]
    tags += [(52533, 7, 18, struct.pack(f"{order}H4I", *light))]
    if dynamic_range:
        tags.append((52551, 7, 8, struct.pack(f"{order}HHf", *most)))
    with tifffile.TiffWriter(tmp_path / "a.dng", byteorder=order) as writer:
        writer.write(np.full((48, 64), 900, np.uint16), photometric="cfa", metadata=None, extratags=tags)
    target, _ = restored(tmp_path / "a.dng", tmp_path, identity_engine)
    found = tags_of(target)
    assert struct.unpack("<H4I", found["IlluminantData1"]) == light
    assert bytes(found["DNGVersion"]) == bytes((1, 7 if dynamic_range else 6, 0, 0))
    if dynamic_range:
        assert struct.unpack("<HHf", found["ProfileDynamicRange"]) == most


@pytest.mark.parametrize("odd", [(4, 1, 300_000_000), (3, 1, 7), (6, 1, -3), (12, 1, 0.5), (2, 4, "abc")])
def test_a_structure_of_another_type_does_no_harm(write_raw, tmp_path, identity_engine, odd):
    kind, count, value = odd
    path = write_raw("a.dng", scene_of(), extra=[(50778, 3, 1, 255), (52533, kind, count, value)])
    target, _ = restored(path, tmp_path, identity_engine)
    assert target.stat().st_size < 100_000
    assert read_raw(target).samples.shape == (48, 64, 3)


def test_the_matrix_nearest_daylight_may_be_useless(write_raw, tmp_path, identity_engine):
    """Then the others hold, before and after."""
    matrix = SECOND_MATRIX[3]
    extra = [(50721, 10, 9, matrix), (50778, 3, 1, 17), (50722, 10, 9, matrix), (50779, 3, 1, 23)]
    extra += [(52531, 10, 9, (0, 1) * 9), (52529, 3, 1, 21)]
    path = write_raw("a.dng", scene_of(), xyz_to_camera=None, extra=extra)
    target, _ = restored(path, tmp_path, identity_engine)
    assert len(read_raw(target).calibrations) == len(read_raw(path).calibrations) == 2
    again, first = (develop_array(each, identity_engine, PLAIN).astype(int) for each in (target, path))
    assert np.abs(again - first).max() <= 2


def test_a_camera_without_dngs_is_named_as_others_name_it():
    samples = np.full((40, 60, 3), 1000, np.uint16)
    preview = np.full((40, 60, 3), 99, np.uint8)
    data = encode_dng(RestoredRaw(samples, preview, GAINS, MATRIX, (), 0.25), "Canon EOS 6D")
    tags = tags_of(BytesIO(data))
    assert (tags["UniqueCameraModel"], tags["Make"]) == ("Canon EOS 6D", "")  # the latter is EXIF's
    assert tags["NoiseReductionApplied"] == (25, 100)
    np.testing.assert_allclose(read_raw(BytesIO(data)).xyz_to_camera, MATRIX, atol=1e-5)
    unknown = encode_dng(RestoredRaw(samples, preview, GAINS, MATRIX, (), 1), "")
    np.testing.assert_array_equal(read_raw(BytesIO(unknown)).samples, samples)


SECOND_MATRIX = (50722, 10, 9, [part for number in MATRIX.ravel() for part in (round(number * 1e4), 10000)])
ANALOG_BALANCE = (50727, 5, 3, (2, 1, 1, 1, 3, 2))
ZERO_MATRIX = (50721, 10, 9, (0, 1) * 9)


@pytest.mark.parametrize(
    ("own", "extra"),
    [
        (None, [SECOND_MATRIX, (50779, 3, 1, 21), ANALOG_BALANCE]),
        (None, [(52531, *SECOND_MATRIX[1:]), (52529, 3, 1, 21), ANALOG_BALANCE]),
        (None, [ZERO_MATRIX, (50778, 3, 1, 17)]),
        (None, [(50778, 3, 1, 17), ANALOG_BALANCE]),
        (MATRIX, [(50778, 3, 1, 17), ANALOG_BALANCE]),
    ],
    ids=["second only", "third only", "zero", "none", "light A"],
)
def test_matrices_are_the_sources_or_ours_but_not_both(write_raw, tmp_path, identity_engine, own, extra):
    path = write_raw("a.dng", scene_of(), xyz_to_camera=own, extra=extra)
    target, _ = restored(path, tmp_path, identity_engine)
    raw, back = read_raw(path), read_raw(target)
    assert ("ColorMatrix1" in tags_of(target)) == (own is not None or raw.xyz_to_camera is None)
    if raw.xyz_to_camera is None:
        np.testing.assert_allclose(back.daylight_white_balance, GAINS, rtol=1e-3)
        assert tags_of(target)["CalibrationIlluminant1"] == 21
    else:
        np.testing.assert_allclose(back.xyz_to_camera, raw.xyz_to_camera, rtol=1e-4)
    again, first = (develop_array(each, identity_engine, PLAIN).astype(int) for each in (target, path))
    assert np.abs(again - first).max() <= 2


def test_odd_tags_of_the_source_do_no_harm(write_raw, tmp_path, identity_engine):
    extra = [
        (50936, 2, 0, "© Müller".encode() + b"\0"),  # ProfileName
        (50941, 16, 1, 0),  # ProfileEmbedPolicy as LONG8
        (50940, 11, 4, (0.0, float("nan"), 1.0, 1.0)),  # ProfileToneCurve
        (50730, 10, 1, (0, 0)),  # BaselineExposure
        (50709, 2, 1, b"\0"),  # LocalizedCameraModel
    ]
    path = write_raw("a.dng", scene_of(), extra=extra, make="Kamerawerk Süd")
    target, _ = restored(path, tmp_path, identity_engine)
    tags = tags_of(target)
    for name in ("ProfileEmbedPolicy", "ProfileToneCurve", "BaselineExposure", "LocalizedCameraModel"):
        assert name not in tags
    data = target.read_bytes()
    assert "© Müller".encode() in data
    assert "Kamerawerk Süd Camera".encode() in data
    assert read_raw(target).samples.shape == (48, 64, 3)


def test_exif_and_place_are_kept(write_raw, tmp_path, identity_engine):
    exif, gps = {0x8827: 3200, 0x9003: "2024:05:06 07:08:09"}, {1: "N", 2: (48.0, 51.0, 29.5)}
    path = write_raw("a.dng", scene_of(), exif=exif, gps=gps)
    (tmp_path / "a.xmp").write_text(
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:a="http://ns.adobe.com/xap/1.0/">'
        '<rdf:Description a:Rating="4" /></rdf:RDF>'
    )
    target, _ = restored(path, tmp_path, identity_engine)
    with target.open("rb") as file:
        metadata = read_metadata(file, "a")
    assert (metadata.iso, metadata.camera, str(metadata.captured)) == (
        3200,
        "Test Camera",
        "2024-05-06 07:08:09",
    )
    assert metadata.gps[2] == (48, 51, 29.5)
    assert b"<xmp:Rating>4</xmp:Rating>" in metadata.xmp
    tags = tags_of(target)
    assert "identity" in tags["Software"]
    assert "ColorSpace" not in tags["ExifTag"]  # sRGB it is not


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_what_was_restored_in_part_stays_so(write_raw, tmp_path, identity_engine, strength):
    """A DNG written with a strength of 0 has all its noise: that one is restored."""
    target, _ = restored(write_raw("a.dng", scene_of()), tmp_path, identity_engine, strength=strength)
    assert read_raw(target).restored_strength == strength
    result = develop(target, tmp_path / "again.dng", identity_engine, Options(format="dng"))
    assert any("does not do so twice" in note for note in result.notes) == (strength > 0)
    assert not any("--strength" in note for note in result.notes)  # nobody has asked for another
    assert tags_of(tmp_path / "again.dng")["NoiseReductionApplied"] == (round(100 * strength) or 100, 100)


@pytest.mark.parametrize("format", [None, "dng"])
def test_what_is_restored_is_not_restored_again(write_raw, tmp_path, identity_engine, format):
    class Brighter(IdentityEngine):
        def run(self, tile):
            core, coefficients = super().run(tile)
            return core + np.float32(0.1), coefficients

    target, _ = restored(write_raw("a.dng", scene_of()), tmp_path, identity_engine)
    again = tmp_path / ("again.dng" if format else "again.png")
    result = develop(
        target, again, Brighter(), Options(format=format, look="learned" if format else "neutral")
    )
    assert "does not do so twice" in result.notes[0]
    half = develop(target, again, Brighter(), Options(strength=0.5, format=format, overwrite=True))
    assert half.notes[0] == f"{result.notes[0]}: --strength has no effect"
    assert describe(target)["restored"] and not describe(tmp_path / "a.dng")["restored"]
    if format:
        np.testing.assert_allclose(read_raw(again).samples.astype(int), read_raw(target).samples, atol=3)
        assert tags_of(again)["NoiseReductionApplied"] == (100, 100)
    else:
        expected = develop_array(target, identity_engine, PLAIN).astype(int)
        assert np.abs(np.asarray(Image.open(again)) - expected).max() <= 1
    linear = tmp_path / "linear.dng"
    extra = [(50935, 5, 1, (1, 1))]  # NoiseReductionApplied
    write_dng(linear, read_raw(target).samples, pattern=None, extra=extra)
    assert read_raw(linear).restored_strength == 0  # though this program wrote it


@pytest.mark.parametrize(
    ("stated", "share"), [(0.5, 0.5), (1, 1), (0, 0), (1.5, 0), (-1, 0), (np.nan, 0), (np.inf, 0)]
)
def test_only_a_share_says_that_a_raw_is_restored(stated, share):
    tags = {"Software": "deepisp 0.1.0 (deepisp)", "NoiseReductionApplied": np.array([stated])}
    assert restored_strength(tags) == share
    assert restored_strength({**tags, "Software": "deepispy"}) == 0


def test_white_balance_and_strength_are_the_users(write_raw, tmp_path, identity_engine):
    path = write_raw("a.dng", scene_of())
    target, _ = restored(path, tmp_path, identity_engine, white_balance="1.6,1,3.2", strength=0.5)
    np.testing.assert_allclose(read_raw(target).camera_white_balance, (1.6, 1, 3.2), rtol=1e-5)
    assert tags_of(target)["NoiseReductionApplied"] == (50, 100)


@pytest.mark.parametrize(
    "given", [{"exposure": 1.0}, {"contrast": 0.1}, {"look": "neutral"}, {"long_side": 100}]
)
def test_options_of_finished_pictures_are_refused(given):
    with pytest.raises(UsageError, match="left to be developed"):
        Options(format="dng", **given)


@pytest.mark.parametrize("bits", [8, 16])
def test_the_number_of_bits_is_not_chosen(bits):
    assert Options(format="dng", bit_depth=bits).format == "dng"


def test_a_device_gets_no_frame_whose_samples_are_needed(write_raw):
    path = write_raw("a.dng", scene_of())
    assert prepare(path, Options(), resident=True).picture is None
    frame = prepare(path, Options(format="dng"), resident=True)
    assert frame.picture is not None and frame.raw is not None


def test_an_array_is_always_a_picture(write_raw, identity_engine):
    path = write_raw("a.dng", scene_of())
    picture = develop_array(path, identity_engine, Options(format="dng"))
    np.testing.assert_array_equal(picture, develop_array(path, identity_engine))


def test_a_batch_and_the_next_one(write_raw, tmp_path):
    """What the first run wrote is no input of the second, whose folder it lies in."""
    for name in ("a.dng", "b.dng"):
        write_raw(f"card/{name}", scene_of())
    card = tmp_path / "card"
    jobs, format = plan_jobs([card], None, format="dng")
    assert [job.target for job in jobs] == [card / "a-deepisp.dng", card / "b-deepisp.dng"]
    results = list(develop_many(jobs, IdentityEngine(), replace(Options(), format=format)))
    assert [result.status for result in results] == ["written", "written"]
    originals, copies = [card / "a.dng", card / "b.dng"], [card / "a-deepisp.dng", card / "b-deepisp.dng"]
    for inputs, format, skipped in (
        ([card], "dng", originals),
        ([card], "jpeg", []),
        (sorted(card.iterdir()), "dng", [*originals, *copies]),
    ):
        again, _ = plan_jobs(inputs, None, format=format, skip_existing=True)
        assert [job.source for job in again if job.skip] == skipped
        for job in again:
            result = job.result()
            told = (result.output is None, "give another name" in "".join(result.notes))
            assert told == ((True, True) if job.source in copies else (False, False))
        assert [job.source for job in again if not job.skip] == ([] if skipped else originals)
    originals[0].unlink()
    alone, _ = plan_jobs([card], None)
    assert [job.source for job in alone] == [copies[0], originals[1]]
    alone, _ = plan_jobs([copies[0]], None, format="dng", template="{stem}_{suffix}")
    assert not alone[0].skip
    named, _ = plan_jobs([card / "a-deepisp.dng"], tmp_path / "twice.dng")
    assert not named[0].skip
    by_suffix = list(develop_many([replace(jobs[1], target=card / "c.dng")], IdentityEngine()))
    assert by_suffix[0].error is None
    assert read_raw(card / "c.dng").pattern is None


def test_the_source_is_never_replaced(write_raw, tmp_path):
    path = write_raw("a.dng", scene_of())
    for output, name in ((None, "{stem}"), (path, None), (tmp_path / "a.dng", None)):
        with pytest.raises(UsageError, match="replace an input"):
            plan_jobs([path], output, template=name, format="dng", overwrite=True)
    other = write_raw("camera/b.dng", scene_of())
    link = tmp_path / "a-deepisp.dng"
    link.symlink_to(other)
    with pytest.raises(UsageError, match="not a picture"):
        plan_jobs([path], None, format="dng", overwrite=True)
    link.unlink()
    link.symlink_to(path)
    with pytest.raises(UsageError, match="replace an input"):
        plan_jobs([path], None, format="dng", overwrite=True)


@pytest.mark.parametrize(
    ("level", "share"), [(0.5, 0), (0.75, 0), (0.8125, 0.25), (0.875, 0.5), (1.0, 1), (1.25, 1)]
)
def test_highlights_come_back_the_more_the_brighter_what_the_network_sees(level, share):
    raw = raw_with(np.full((8, 8), 0.9, np.float32), "RGGB")
    image = encode(np.full((8, 8, 3), level, np.float32))
    restore_highlights(image, raw, GAINS)
    expected = level + share * (0.9 * GAINS - 1).clip(0, None)
    np.testing.assert_allclose(decode(image), np.broadcast_to(expected, (8, 8, 3)), atol=1e-4)


@pytest.mark.parametrize("orientation", [1, 6])
def test_pixels_that_are_not_square_stay_so(write_raw, tmp_path, identity_engine, orientation):
    path = write_raw("a.dng", scene_of(), orientation=orientation, extra=[(50718, 5, 2, (2, 1, 1, 1))])
    target, _ = restored(path, tmp_path, identity_engine)
    assert read_raw(target).pixel_aspect == (2 if orientation == 1 else 0.5)
    again, first = (develop_array(each, identity_engine, PLAIN) for each in (target, path))
    assert again.shape == first.shape == preview_in(target).shape


@pytest.mark.parametrize(
    ("stated", "believed"),
    [
        ((10, 2, (-1, 2, 5, 1)), -0.5),
        ((3, 1, 1), 1),
        ((11, 1, 0.5), 0.5),
        ((12, 1, -0.25), -0.25),
        *(((10, 1, (stops, 1)), stops) for stops in (99, -99)),
        *(((10, 1, (stops, 1)), 0) for stops in (100, -100, 5_000_000)),
        *(((12, 1, (stops,)), 0) for stops in (1e300, float("nan"))),
        ((1, 1, b"\5"), 0),
        ((10, 1, (1, 0)), 0),
    ],
    ids=str,
)
def test_exposures_of_any_type_below_a_hundred_stops_are_lowered(stated, believed):
    """And others, which make no sense, taken for none."""
    profile = (RawTag(50730, *stated),)
    (tag,) = _darkened(profile, 0.5)
    assert (tag.type, tag.length) == (10, 1)
    assert tag.number == pytest.approx(believed - 1)
    assert _darkened(profile, 1) is profile


def test_directories_are_pointed_to_as_readers_of_exif_expect(write_raw, tmp_path, identity_engine):
    """With LONG; tifffile writes a newer type."""
    target, _ = restored(write_raw("a.dng", scene_of()), tmp_path, identity_engine)
    with tifffile.TiffFile(target) as tif:
        tags = tif.pages.first.tags
        assert {tags[name].dtype for name in ("SubIFDs", "ExifTag")} == {4}


DIAGONAL = (9, 10, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 11, 10)
KEPT = {
    "UniqueCameraModel": (50708, 2, 0, "Test Camera Mark II"),
    "LocalizedCameraModel": (50709, 2, 0, "Testkamera"),
    "CameraSerialNumber": (50735, 2, 0, "0815"),
    "BaselineExposure": (50730, 10, 1, (1, 2)),
    "BaselineExposureOffset": (51109, 10, 1, (-1, 4)),
    "DefaultBlackRender": (51110, 4, 1, 1),
    "ProfileToneCurve": (50940, 11, 4, (0.0, 0.0, 1.0, 1.0)),
    "ForwardMatrix1": (50964, 10, 9, DIAGONAL),
    "ForwardMatrix2": (50965, 10, 9, DIAGONAL),
    "ColorMatrix2": (50722, 10, 9, DIAGONAL),
    "ColorMatrix3": (52531, 10, 9, DIAGONAL),
    "CalibrationIlluminant1": (50778, 3, 1, 21),
    "CalibrationIlluminant2": (50779, 3, 1, 17),
    "CalibrationIlluminant3": (52529, 3, 1, 23),
    "CameraCalibration1": (50723, 10, 9, DIAGONAL),
    "CameraCalibration2": (50724, 10, 9, DIAGONAL),
    "CameraCalibrationSignature": (50931, 2, 0, "com.test"),
    "ProfileCalibrationSignature": (50932, 2, 0, "com.test"),
    "AnalogBalance": (50727, 5, 3, (2, 1, 1, 1, 3, 2)),
    "AsShotProfileName": (50934, 2, 0, "Vivid"),
    "ProfileName": (50936, 2, 0, "Vivid"),
    "ProfileCopyright": (50942, 2, 0, "me"),
    "ProfileEmbedPolicy": (50941, 4, 1, 3),
    "ProfileHueSatMapDims": (50937, 4, 3, (1, 2, 1)),
    "ProfileHueSatMapData1": (50938, 11, 6, (0.0, 1.0, 1.0, 0.0, 1.0, 1.0)),
    "ProfileHueSatMapData2": (50939, 11, 6, (0.0, 1.0, 1.0, 0.0, 1.0, 1.0)),
    "ProfileHueSatMapEncoding": (51107, 4, 1, 1),
    "ProfileLookTableDims": (50981, 4, 3, (1, 2, 1)),
    "ProfileLookTableData": (50982, 11, 6, (0.0, 1.0, 1.0, 0.0, 1.0, 1.0)),
    "ProfileLookTableEncoding": (51108, 4, 1, 1),
}


def test_every_tag_of_a_profile_is_kept(write_raw, tmp_path, identity_engine):
    """Lacking one, other programs would develop the restored raw to other colours."""
    path = write_raw("a.dng", scene_of(), extra=KEPT.values())
    target, _ = restored(path, tmp_path, identity_engine)
    before, after = tags_of(path), tags_of(target)
    for name in (*KEPT, "ColorMatrix1"):
        assert after.get(name) == before[name], name
    np.testing.assert_allclose(read_raw(target).xyz_to_camera, read_raw(path).xyz_to_camera, rtol=1e-5)
    plain = write_raw(
        "b.dng", scene_of(), xyz_to_camera=None, extra=[KEPT["ProfileName"], KEPT["ProfileCopyright"]]
    )
    found = tags_of(restored(plain, tmp_path, identity_engine)[0])
    assert "ProfileName" not in found  # of other matrices
    assert bytes(found["DNGVersion"]) == bytes((1, 4, 0, 0))  # no tag needs a later one


def test_a_tag_without_values_is_left_out(write_raw, tmp_path, identity_engine):
    path = write_raw("a.dng", scene_of(), extra=[(50940, 11, 4, (0.0, 0.0, 1.0, 1.0))])  # ProfileToneCurve
    contents = bytearray(path.read_bytes())
    struct.pack_into("<I", contents, contents.index(struct.pack("<HHI", 50940, 11, 4)) + 4, 0)
    path.write_bytes(contents)
    target, _ = restored(path, tmp_path, identity_engine)
    assert "ProfileToneCurve" not in tags_of(target)

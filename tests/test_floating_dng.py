"""DNGs of floating-point samples: merged exposures."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from conftest import DNG_VERSION, RGGB, gain_map, opcode_list, with_tag

from deepisp_cli import Options, develop, develop_array
from deepisp_cli.dng_tags import read_tags
from deepisp_cli.errors import InputError, UnsupportedRawError
from deepisp_cli.raw import read_raw

SHORT = 3  # a TIFF type
TILE = 64
PREDICTORS = {1: 0, 3: 1, 34894: 2, 34895: 4}  # by TIFF's number: how many pixels to the left
PLACE_OF_PREDICTOR = 316  # a tag that is stored there, and renamed: tifffile writes no other's predictor


def noise(shape, dtype=np.float32):
    return np.random.default_rng(0).random(shape).astype(dtype)


def deflated(tile, distance):
    """A tile as DNG stores it: bytes of equal weight beside each other, the highest first, and of each the
    difference from the one so many samples to the left (DNG SDK, EncodeFPDelta)."""
    rows = tile.reshape(len(tile), -1)
    stored = rows.astype(rows.dtype.newbyteorder(">")).view(np.uint8).reshape(*rows.shape, -1)
    stored = stored.transpose(0, 2, 1).reshape(len(tile), -1)
    differences = stored.copy()
    differences[:, distance:] -= stored[:, :-distance]
    return zlib.compress(differences.tobytes())


def floating_dng(samples, predictor=1, extra=(), compression="zlib"):
    """A DNG of these samples, in one tile."""
    file, mosaic = io.BytesIO(), samples.ndim == 2
    options = {"photometric": "cfa"} if mosaic else {"photometric": "linear_raw", "planarconfig": "contig"}
    tags = [*DNG_VERSION, *(RGGB if mosaic else []), *extra]
    data = samples
    if predictor != 1:
        data = np.zeros((TILE, TILE, *samples.shape[2:]), samples.dtype)
        data[: samples.shape[0], : samples.shape[1]] = samples
        data = iter([deflated(data, PREDICTORS[predictor] * (1 if mosaic else 3))])
        tags.append((PLACE_OF_PREDICTOR, SHORT, 1, predictor))
        options |= {"shape": samples.shape, "dtype": samples.dtype}
    with tifffile.TiffWriter(file) as writer:
        writer.write(
            data, tile=(TILE, TILE), metadata=None, extratags=tags, compression=compression, **options
        )
    stored = file.getvalue()
    return stored if predictor == 1 else with_tag(stored, PLACE_OF_PREDICTOR, 317)


def read(data):
    return read_raw(io.BytesIO(data), "test.dng")


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("shape", [(60, 62), (60, 62, 3)], ids=["mosaic", "linear"])
def test_samples_are_read_as_stored(shape, dtype, predictor):
    samples = noise(shape, dtype)
    image = read(floating_dng(samples, predictor))
    assert image.samples.dtype == np.float32
    np.testing.assert_array_equal(image.samples, samples)
    assert image.pattern == ("RGGB" if len(shape) == 2 else None)


def test_uncompressed_samples_are_read():
    """LibRaw makes whole numbers of them."""
    samples = noise((64, 64), np.float16)
    np.testing.assert_array_equal(read(floating_dng(samples, compression=None)).samples, samples)


@pytest.mark.parametrize("shape", [(60, 62), (60, 62, 3)], ids=["mosaic", "linear"])
def test_white_is_one_unless_stated(shape):
    image = read(floating_dng(noise(shape)))
    assert (image.white == 1).all() and (image.black == 0).all()
    stated = read(floating_dng(8 * noise(shape), extra=[(50717, SHORT, 1, 8)]))
    assert (stated.white == 8).all()


@pytest.mark.parametrize("shape", [(130, 134), (130, 134, 3)], ids=["mosaic", "linear"])
def test_they_come_out_as_the_same_counts_do(shape):
    counts = np.random.default_rng(0).integers(0, 4096, shape, dtype=np.uint16)
    white = [(50717, SHORT, 1, 4096)]
    whole = develop_array(read(floating_dng(counts, extra=white)), "deepisp")
    floating = develop_array(read(floating_dng((counts / 4096).astype(np.float32))), "deepisp")
    np.testing.assert_array_equal(floating, whole)


def baseline_exposure(ev):
    return (50730, 10, 1, (round(100 * ev), 100))


@pytest.mark.parametrize("shape", [(130, 134), (130, 134, 3)], ids=["mosaic", "linear"])
def test_merged_exposures_are_brightened_by_their_baseline_exposure(shape):
    """Their white is the brightest lamp, and the picture lies far below it."""
    samples = noise(shape)
    samples[:4] = 8.0
    shown = read(floating_dng(samples.clip(0, 1)))
    merged = read(floating_dng(samples / 8, extra=[baseline_exposure(3)]))
    np.testing.assert_array_equal(develop_array(merged, "deepisp"), develop_array(shown, "deepisp"))
    assert (merged.clipped_at, merged.brightened) == (1, 3)
    assert [note for note in merged.notes if "brightened by 3 EV for its BaselineExposure" in note]
    assert not [note for note in merged.notes if "the sensor clips" in note]


@pytest.mark.parametrize("ev", [-2, 0, 40])
def test_what_baseline_exposure_would_darken_or_make_white_stays(ev):
    samples = noise((60, 62))
    image = read(floating_dng(samples, extra=[baseline_exposure(ev)]))
    assert (image.white == 1).all() and not image.brightened


def test_an_even_bright_area_of_merged_exposures_is_not_where_the_sensor_clips():
    samples = noise((400, 400)) * 0.2
    samples[:200] = 0.23  # nine tenths of what becomes white
    image = read(floating_dng(samples, extra=[baseline_exposure(2)]))
    assert (image.white == 0.25).all() and image.clipped_at == 1


def test_a_sensor_that_clips_is_brightened_as_far_as_that_leaves():
    samples = (noise((400, 400)) * 0.97).clip(0, 0.8)  # it clips at four fifths of what is stated
    image = read(floating_dng(samples, extra=[baseline_exposure(2)]))
    assert image.clipped_at == pytest.approx(0.8, abs=0.01)
    np.testing.assert_allclose(image.white, 0.25, rtol=1e-6)


def test_gains_apply_to_what_becomes_brighter_than_white():
    codes = opcode_list(gain_map([[[0.5]]], (0, 0, 64, 64)))
    samples = np.full((64, 64), 0.3, np.float32)
    image = read(floating_dng(samples, extra=[(51009, 7, len(codes), codes), baseline_exposure(2)]))
    np.testing.assert_allclose(image.samples, 0.15, rtol=1e-6)


def test_baseline_exposure_of_counts_is_left_to_the_light_meter():
    counts = np.random.default_rng(0).integers(0, 4000, (60, 62), dtype=np.uint16)
    image = read(floating_dng(counts, extra=[(50717, SHORT, 1, 4096), baseline_exposure(2)]))
    assert (image.white == 4096).all() and not image.brightened


def test_a_restored_dng_of_merged_exposures_keeps_their_highlights(tmp_path, identity_engine):
    """And what brightens it."""
    source, target = tmp_path / "merged.dng", tmp_path / "restored.dng"
    samples = np.full((130, 134, 3), 0.1, np.float32)
    samples[40:80, 40:80] = 0.6  # 1.3 EV brighter than white
    source.write_bytes(floating_dng(samples, extra=[baseline_exposure(2)]))
    develop(source, target, identity_engine, Options(format="dng"))
    with open(target, "rb") as file:
        assert read_tags(file)["BaselineExposure"] == 2
    kept = read_raw(target).samples / 65535
    np.testing.assert_allclose(kept[:30], 0.1, rtol=2e-3)
    np.testing.assert_allclose(kept[45:75, 45:75], 0.6, rtol=2e-3)  # away from the edge


def test_a_bad_pixel_becomes_the_mean_of_its_neighbours():
    """Which is not rounded."""
    samples = noise((24, 24)) / 4 + 0.5
    samples[8, 9] = 0
    listed = struct.pack(">5I", 0, 1, 0, 8, 9)  # one point, no areas
    image = read(floating_dng(samples, extra=[(51008, 7, len(op := opcode_list((5, listed))), op)]))
    around = [samples[8 + down, 9 + right] for down in (-2, 0, 2) for right in (-2, 0, 2) if down or right]
    assert image.samples[8, 9] == pytest.approx(np.mean(around), rel=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_what_is_no_number_is_damage(value):
    samples = noise((60, 62))
    samples[30, 31] = value
    with pytest.raises(InputError, match=r"test\.dng: damaged: it holds samples that are not numbers"):
        read(floating_dng(samples))


def test_24_bits_are_refused():
    data = with_tag(floating_dng(noise((60, 62))), 258, 258, 24)
    with pytest.raises(UnsupportedRawError, match="floating-point samples of 24 bits"):
        read(data)

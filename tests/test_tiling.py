"""Tiles give the same picture as the whole frame, whatever the sizes."""

import itertools
import threading

import numpy as np
import pytest
from conftest import IdentityEngine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepisp_cli.models import STRIP, TileNeeds
from deepisp_cli.onnx_engine import OnnxEngine
from deepisp_cli.tiling import best_strip, best_tile, mirror, run_tiled, spans


@given(
    height=st.integers(2, 90),
    width=st.integers(2, 90),
    tile=st.integers(1, 64),
    origin=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tiled_equals_whole(tiny_engine, height, width, tile, origin, seed):
    picture = np.random.default_rng(seed).uniform(0, 1, (height, width, 3)).astype(np.float32)
    whole, whole_transform = run_tiled(tiny_engine, picture, origin, tile=10**6)
    tiled, transform = run_tiled(tiny_engine, picture, origin, tile=tile)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    np.testing.assert_allclose(transform, whole_transform, atol=1e-5)
    in_place, same_transform = run_tiled(tiny_engine, picture, origin, tile=tile, in_place=True)
    assert in_place is picture
    np.testing.assert_array_equal(in_place, tiled)
    np.testing.assert_array_equal(same_transform, transform)


@pytest.fixture(scope="session")
def tiny_engine(tiny_model):
    return OnnxEngine(tiny_model)


def test_the_tiny_network_does_something(tiny_engine):
    """Otherwise the property above would be trivial."""
    rng = np.random.default_rng(0)
    first, second = rng.uniform(0, 1, (2, 40, 40, 3)).astype(np.float32)
    image, transform = run_tiled(tiny_engine, first)
    _, other = run_tiled(tiny_engine, second)
    assert np.abs(image - first).mean() > 1e-3
    assert np.abs(transform - other).max() > 1e-4


def test_the_shifted_origin_matters(tiny_engine):
    """A fold-2 network depends on which sample comes first."""
    picture = np.random.default_rng(0).uniform(0, 1, (40, 40, 3)).astype(np.float32)
    plain, _ = run_tiled(tiny_engine, picture, (0, 0))
    shifted, _ = run_tiled(tiny_engine, picture, (0, 1))
    assert np.abs(plain - shifted).max() > 1e-3


@given(length=st.integers(1, 200), origin=st.integers(0, 1), cell=st.integers(1, 20), tile=st.integers(1, 90))
@settings(deadline=None)
def test_spans_cover_the_axis_in_whole_cells(length, origin, cell, tile):
    found = list(spans(length, origin, cell, tile))
    assert found[0][0] == -origin
    assert length <= found[-1][1] < length + cell
    for (_, end), (start, _) in itertools.pairwise(found):
        assert end == start
    lengths = [end - start for start, end in found]
    assert all(length % cell == 0 and 0 < length <= max(tile, cell) for length in lengths)
    assert max(lengths) - min(lengths) <= cell


def test_the_picture_stays_as_it_is(tiny_engine):
    picture = np.random.default_rng(0).uniform(0, 1, (70, 50, 3)).astype(np.float32)
    before = picture.copy()
    run_tiled(tiny_engine, picture, tile=32)
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((8, 8, 3)), np.zeros((8, 8), np.float32), np.zeros((3, 8, 8), np.float32)],
    ids=["float64", "grey", "planes"],
)
def test_what_is_no_frame_is_refused(tiny_engine, wrong):
    with pytest.raises(ValueError, match=r"picture must be \(H, W, 3\) float32"):
        run_tiled(tiny_engine, wrong)


def test_running_out_of_memory_halves_the_tile():
    class Small(IdentityEngine):
        def run(self, tile):
            if tile.shape[2] > 40:
                raise MemoryError
            return super().run(tile)

    picture = np.random.default_rng(0).uniform(0, 1, (70, 50, 3)).astype(np.float32)
    engine = Small()
    image, _ = run_tiled(engine, picture, tile=64)
    np.testing.assert_array_equal(image, picture)
    assert max(shape[2] for shape in engine.tiles) <= 42


@pytest.mark.parametrize("in_place", [False, True])
def test_halved_tiles_join_exactly(tiny_engine, in_place):
    class Small:
        """The tiny engine on a device that holds only small tiles."""

        model, workers, continues = tiny_engine.model, 2, False

        def __init__(self):
            self.largest = 0

        def run(self, tile):
            if max(tile.shape[2:]) > 60:
                raise MemoryError
            self.largest = max(self.largest, *tile.shape[2:])
            return tiny_engine.run(tile)

    picture = np.random.default_rng(0).uniform(0, 1, (150, 90, 3)).astype(np.float32)
    whole, whole_transform = run_tiled(tiny_engine, picture, tile=10**6)
    engine = Small()
    image, transform = run_tiled(engine, picture, tile=64, in_place=in_place)
    np.testing.assert_allclose(image, whole, atol=1e-5)
    np.testing.assert_allclose(transform, whole_transform, atol=1e-5)
    assert 0 < engine.largest <= 60


class Continuing:
    """The tiny engine, recording its inputs; it holds ``largest`` pixels a side."""

    workers, continues = 2, True

    def __init__(self, engine, largest=10**6):
        self.engine, self.model, self.largest = engine, engine.model, largest
        self.shapes = []

    def tile(self, pixels):
        return self.engine.tile(pixels)

    def run_below(self, tile, above):
        if max(tile.shape[2:]) > self.largest:
            raise MemoryError
        self.shapes.append((above is not None, tile.shape[2]))
        return self.engine.run_below(tile, above)


def test_a_tile_below_another_one_sees_no_row_twice(tiny_engine):
    engine, needs = Continuing(tiny_engine), tiny_engine.model.tile_needs
    picture = np.random.default_rng(0).uniform(0, 1, (3 * needs.cell, 2 * needs.cell, 3)).astype(np.float32)
    run_tiled(engine, picture, tile=needs.cell)
    first, below = needs.before + needs.cell + needs.after, needs.cell
    assert sorted(engine.shapes) == [(False, first)] * 2 + [(True, below)] * 4


def test_an_engine_that_continues_gets_strips(tiny_engine):
    engine = Continuing(tiny_engine)
    run_tiled(engine, np.zeros((3 * STRIP, 90, 3), np.float32))
    assert {height for went_on, height in engine.shapes if went_on} == {STRIP}


def test_eight_bits_go_on_exactly(eight_bit_model):
    engine = OnnxEngine(eight_bit_model, eight_bit=True)
    picture = np.random.default_rng(0).uniform(0, 0.3, (150, 90, 3)).astype(np.float32)
    whole, whole_transform = run_tiled(engine, picture, tile=10**6)
    image, transform = run_tiled(engine, picture, tile=32)
    np.testing.assert_allclose(image, whole, atol=1e-6)
    np.testing.assert_allclose(transform, whole_transform, atol=1e-6)


@pytest.mark.parametrize("in_place", [False, True])
def test_first_tiles_that_are_too_large_are_cut_up(tiny_engine, in_place):
    """The last band is lower: its tiles fit, but there is nothing above for them to continue."""
    picture = np.random.default_rng(0).uniform(0, 1, (150, 90, 3)).astype(np.float32)
    whole, whole_transform = run_tiled(tiny_engine, picture, tile=10**6)
    engine = Continuing(tiny_engine, 60)
    image, transform = run_tiled(engine, picture, tile=64, in_place=in_place)
    np.testing.assert_allclose(image, whole, atol=1e-5)
    np.testing.assert_allclose(transform, whole_transform, atol=1e-5)
    assert not any(went_on for went_on, _ in engine.shapes)


def test_a_column_that_cannot_continue_keeps_the_rows_that_it_needs(tiny_engine):
    """In place, the other column's tiles must not overwrite what its tiles have still to see."""

    class Narrow(Continuing):
        def run_below(self, tile, above):
            if tile.shape[3] > 50 and tile[0, 0].mean() < 0.5:  # the first column's
                raise MemoryError
            return super().run_below(tile, above)

    picture = np.random.default_rng(0).uniform(0, 1, (300, 90, 3)).astype(np.float32)
    picture[..., 0] = np.linspace(0, 1, 90)
    whole, _ = run_tiled(tiny_engine, picture, tile=10**6)
    engine = Narrow(tiny_engine)
    image, _ = run_tiled(engine, picture.copy(), tile=48, in_place=True)
    went_on = [went_on for went_on, _ in engine.shapes]
    assert 1 <= sum(went_on) < len(went_on) - 2
    np.testing.assert_allclose(image, whole, atol=1e-5)


def test_running_out_of_memory_after_the_first_tiles_is_an_error(tiny_engine):
    class Late(Continuing):
        def run_below(self, tile, above):
            if above is not None:
                raise MemoryError
            return super().run_below(tile, above)

    picture = np.random.default_rng(0).uniform(0, 1, (150, 90, 3)).astype(np.float32)
    with pytest.raises(MemoryError):
        run_tiled(Late(tiny_engine), picture, tile=64)


@given(
    width=st.integers(1, 9000),
    halo=st.integers(1, 150),
    cell=st.sampled_from([1, 2, 16, 128]),
    widest=st.integers(300, 1000),
    workers=st.integers(1, 8),
)
@settings(deadline=None)
def test_strips_are_low_and_wide(width, halo, cell, widest, workers):
    tall, wide = best_strip(width, TileNeeds(cell, halo, halo), widest, workers)
    assert tall == STRIP
    assert wide % cell == 0
    assert wide < widest + cell
    if width >= 2 * halo * workers:
        assert wide < width / workers + cell  # no worker is without a column
    else:
        assert wide >= min(2 * halo, width, widest // 2)


def test_as_many_tiles_at_a_time_as_there_are_workers():
    class Meeting(IdentityEngine):
        workers = 3
        together = threading.Barrier(3, timeout=30)

        def run(self, tile):
            self.together.wait()  # times out unless three arrive
            return super().run(tile)

    picture = np.random.default_rng(0).uniform(0, 1, (40, 90, 3)).astype(np.float32)
    image, _ = run_tiled(Meeting(), picture, tile=32)  # two bands of three tiles
    np.testing.assert_array_equal(image, picture)


def test_the_next_band_begins_while_the_last_tile_of_one_is_worked_on():
    below_has_begun, waited = threading.Event(), []

    class Waiting(IdentityEngine):
        workers = 2

        def run(self, tile):
            image, coefficients = super().run(tile)
            place = tuple(int(number) for number in image[0, :2, 0, 0])
            if place == (32, 0):
                below_has_begun.set()
            if place == (0, 32):
                waited.append(below_has_begun.wait(20))
            return image, coefficients

    picture = np.dstack([*np.mgrid[:64, :64], np.zeros((64, 64))]).astype(np.float32)
    image, _ = run_tiled(Waiting(), picture, tile=32)
    np.testing.assert_array_equal(image, picture)
    assert waited == [True]


@pytest.mark.parametrize("workers, tiles", [(1, 1), (2, 2), (6, 6), (10**4, 3 * 4)])
def test_a_small_frame_gives_every_worker_a_tile(workers, tiles):
    """Unless the tiles would be smaller than their halo."""
    engine = IdentityEngine(cell=10, before=15, after=15)
    engine.workers = workers
    run_tiled(engine, np.zeros((90, 120, 3), np.float32))
    assert len(engine.tiles) == tiles


@given(
    height=st.integers(1, 9000),
    width=st.integers(1, 9000),
    halo=st.integers(0, 150),
    cell=st.sampled_from([1, 2, 16, 128]),
    largest=st.integers(300, 1000),
    workers=st.integers(1, 8),
)
@settings(max_examples=200, deadline=None)
def test_the_best_tile_is_no_slower_than_a_square_one(height, width, halo, cell, largest, workers):
    needs = TileNeeds(cell, halo, halo)

    def cost(tall, wide):
        tiles = len(list(spans(height, 0, cell, tall))) * len(list(spans(width, 0, cell, wide)))
        return -(-tiles // workers) * (tall + 2 * halo / 3) * (wide + 2 * halo / 3)

    tall, wide = best_tile(height, width, needs, largest, workers)
    assert tall % cell == wide % cell == 0
    assert tall * wide <= largest**2
    assert max(tall, wide) <= 1.5 * largest
    step = largest // cell * cell
    tallest, widest = (
        max(end - start for start, end in spans(side, 0, cell, step)) for side in (height, width)
    )
    assert cost(tall, wide) <= cost(tallest, widest)


def test_what_stops_the_progress_stops_the_tiles(identity_engine):
    def stop(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tiled(identity_engine, np.zeros((400, 70, 3), np.float32), tile=16, progress=stop)
    assert len(identity_engine.tiles) <= 2 * 5  # of 125: the bands in progress


def test_a_device_too_small_for_one_cell_is_an_error():
    class Full(IdentityEngine):
        def run(self, tile):
            raise MemoryError

    with pytest.raises(MemoryError):
        run_tiled(Full(), np.zeros((20, 20, 3), np.float32), tile=64)


def test_progress_rises_to_one(identity_engine):
    seen = []
    run_tiled(identity_engine, np.zeros((40, 70, 3), np.float32), tile=16, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert len(seen) == 3 * 5


@given(length=st.integers(2, 9), start=st.integers(-30, 0), stop=st.integers(1, 40))
@settings(deadline=None)
def test_mirror_keeps_the_phase_and_stays_inside(length, start, stop):
    index = mirror(start, stop, length)
    inside = [i for i, position in enumerate(range(start, stop)) if 0 <= position < length]
    np.testing.assert_array_equal(index[inside], np.arange(start, stop)[inside])
    assert index.min() >= 0
    assert index.max() < length
    assert set(np.abs(np.diff(index))) <= {1}  # no sample repeated, none left out
    np.testing.assert_array_equal((index - np.arange(start, stop)) % 2, 0)

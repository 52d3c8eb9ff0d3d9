"""The census of a session that grows is that of the session read back."""

import math

import pytest

import nanostream as ns
from nanostream.config import Config
from nanostream.records import SectionId, TrackerSettings
from nanostream.results.census import Census
from nanostream.results.store import Store
from tests import factories

MOVIE = TrackerSettings()


def a_result(path, z, *circles, stream=None, pixel_size_nm=0.5):
    """Discs given by (y, x, radius) on 80 x 100 px."""
    known = {"pixel_size_nm": pixel_size_nm, "stream": stream}
    return factories.a_result(factories.discs(*circles), SectionId(path, z), known=known)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "session", Config()) as store:
        yield store


def taken(census):
    for _ in census.update():
        pass
    told = census.statistics
    return told.count, told.edge, told.unit, told.mean


def a_frame(z):
    """One particle that stays, one that is whole in the third frame alone, one that never is."""
    discs = (20, 50, 7), (60, 7 if z == 2 else 5, 6), (40, 0, 4)
    return a_result("movie.mrc", z, *discs, stream=MOVIE)


def test_each_particle_counts_once_as_the_session_grows(store):
    census = Census(store.folder)
    assert taken(census)[:2] == (0, 0)
    store.commit(a_frame(0))
    assert taken(census)[:2] == (1, 2)
    store.commit(a_frame(2))  # has no tracks yet: the one before it is missing
    assert taken(census)[:2] == (1, 2)
    store.commit(a_result("still.mrc", 0, (20, 20, 9), (0, 90, 6)))
    store.commit(a_frame(1))
    told = taken(census)
    assert told[:3] == (3, 2, "nm")
    store.commit(a_frame(3))
    session = ns.open_session(store.folder).population
    assert taken(census) == pytest.approx(told)  # no size has changed
    assert told[:2] == (session.count, session.edge)
    assert told[3] == pytest.approx(session.mean)
    assert taken(Census(store.folder)) == pytest.approx(told)  # after a restart


def test_a_track_counts_with_the_mean_of_its_frames(store):
    census = Census(store.folder)
    for z, radius in enumerate((6, 7, 8)):
        store.commit(a_result("movie.mrc", z, (30, 50, radius), stream=MOVIE))
        taken(census)
    diameters = ns.open_session(store.folder).particles.diameter_nm
    assert taken(census)[3] == pytest.approx(diameters.mean())


@pytest.mark.parametrize("bad", [0.0, -5.0, math.inf, 1e200])
def test_what_is_stored_and_can_be_no_size_is_left_out_and_counted(store, bad):
    """Results of before were not checked."""
    odd = a_result("still.mrc", 0, (20, 20, 9), (20, 60, 9), (60, 40, 7))
    odd.particles["diameter_nm"][0] = odd.particles["diameter_px"][0] = bad
    store.commit(odd)
    for z in range(3):
        frame = a_result("movie.mrc", z, (30, 50, 7), stream=MOVIE)
        if z == 1:
            frame.particles["diameter_nm"] = bad
        store.commit(frame)
    session = ns.open_session(store.folder).population
    assert (session.count, session.unsized) == (3, 1)
    small, large = 0.5 * math.sqrt(4 / math.pi * 149), 0.5 * math.sqrt(4 / math.pi * 253)
    assert session.mean == pytest.approx((2 * small + large) / 3)
    census = Census(store.folder)
    assert taken(census) == pytest.approx((3, 0, "nm", session.mean))
    assert census.statistics.unsized == 1
    store.commit(a_result("still.mrc", 1, (60, 40, 7)))
    assert taken(census)[0] == 4


def test_tracks_of_two_movies_are_different_ones(store):
    for z in range(2):
        for path in ("a.mrc", "b.mrc"):
            store.commit(a_result(path, z, (30, 50, 7), stream=MOVIE))
    assert taken(Census(store.folder))[:2] == (2, 0)


def test_without_a_pixel_size_the_census_is_in_px(store):
    store.commit(a_result("a.mrc", 0, (30, 50, 7), pixel_size_nm=None))
    census = Census(store.folder)
    assert taken(census)[:3] == (1, 0, "px")
    store.commit(a_result("b.mrc", 0, (30, 50, 7)))
    assert taken(census)[:3] == (1, 0, "nm")

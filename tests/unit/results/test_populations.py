"""Populations of a session: a particle of a movie counts once."""

import math

import numpy as np
import pytest

import nanostream as ns
from nanostream.config import Config
from nanostream.errors import SessionError
from nanostream.particles.populations import Population, describe
from nanostream.records import RELATIVE_WIDTH, Metadata, SectionId, Statistics, TrackerSettings
from nanostream.results.store import Store
from tests import factories

MOVIE = TrackerSettings()


def a_result(path, z, *circles, pixel_size_nm=0.5, stream=None, **known):
    """Discs given by (y, x, radius) on 80 x 100 px."""
    known = {"pixel_size_nm": pixel_size_nm, "stream": stream} | known
    return factories.a_result(factories.discs(*circles), SectionId(path, z), known=known)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A movie of two particles, one of which is cut in all frames but one, and a micrograph."""
    folder = tmp_path_factory.mktemp("populations") / "session"
    with Store(folder, Config()) as store:
        for z, radius in enumerate((6, 7, 8, 7, 6)):
            left = 7 if z == 2 else 5
            discs = (20, 50, radius), (60, left, 6), (40, 0, 4)
            store.commit(a_result("movie.mrc", z, *discs, stream=MOVIE))
        store.commit(a_result("still.mrc", 0, (20, 20, 9), (20, 60, 9), (60, 20, 10), (0, 90, 6)))
        store.commit(a_result("still.mrc", 1))
    return ns.open_session(folder)


def diameter_nm(radius):
    rows, columns = np.mgrid[-12:13, -12:13]
    return 0.5 * math.sqrt(4 / np.pi * np.count_nonzero(rows**2 + columns**2 <= radius**2))


def test_a_particle_of_a_movie_counts_once_with_the_median_of_its_sizes(session):
    movie, still = session.populations(by="stream").to_dict("records")
    assert (movie["file"], movie["count"], movie["edge"], movie["unit"]) == (
        "movie.mrc",
        2,
        1,
        "nm",
    )
    sizes = [diameter_nm(7), diameter_nm(6)]
    assert movie["mean"] == pytest.approx(np.mean(sizes))
    assert (still["file"], still["count"], still["edge"]) == ("still.mrc", 3, 1)
    assert still["d50"] == pytest.approx(diameter_nm(9))


def test_the_session_holds_tracks_and_particles(session):
    (row,) = session.populations().to_dict("records")
    assert (row["count"], row["edge"]) == (5, 2)
    sizes = [diameter_nm(radius) for radius in (6, 7, 9, 9, 10)]
    assert (row["mean"], row["d50"]) == pytest.approx((np.mean(sizes), diameter_nm(9)))
    told = session.population
    assert (told.count, told.edge, told.mean, told.unit) == (5, 2, row["mean"], "nm")


def test_the_width_that_is_enough_is_the_same_wherever_none_is_given(session):
    widths = {
        *session.populations(by="section")["relative_width"],
        Statistics().relative_width,
        Population().statistics("nm").relative_width,
        describe([2.0], "nm").relative_width,
    }
    assert widths == {RELATIVE_WIDTH}


def test_who_counts_is_a_row_each_with_its_size_and_commonest_class(tmp_path):
    with Store(tmp_path / "session", Config()) as store:
        for z, shape in enumerate(("round", "faceted", "round", "faceted", "irregular")):
            frame = a_result("movie.mrc", z, (20, 50, 6 + z), (60, 4 if z else 6, 5), stream=MOVIE)
            frame.particles["shape_class"][0] = shape
            store.commit(frame)
        store.commit(a_result("still.mrc", 0, (20, 20, 9), (0, 90, 6)))
    groups, rows = ns.open_session(tmp_path / "session").counted()
    assert groups.to_dict("records") == [{"group": 0, "unit": "nm"}]
    whole = rows[~rows["edge"]].sort_values("nm")
    assert len(rows) - len(whole) == 1
    sizes = [diameter_nm(radius) for radius in (5, 8, 9)]
    assert whole["nm"].tolist() == pytest.approx(sizes)
    assert whole["px"].tolist() == pytest.approx([2 * size for size in sizes])
    assert whole["shape_class"].iloc[1] == "faceted"  # as often as round, and before it
    assert not rows["weight"].ne(1.0).any()


def test_of_a_section_each_particle_counts_and_an_empty_one_has_a_row(session):
    table = session.populations(by="section")
    assert table["section"].tolist() == [f"movie.mrc#{z}" for z in range(5)] + [
        "still.mrc#0",
        "still.mrc#1",
    ]
    assert table.columns[:5].tolist() == ["file", "section", "frame", "count", "edge"]
    assert table["count"].tolist() == [1, 1, 2, 1, 1, 3, 0]
    assert table["edge"].tolist() == [2, 2, 1, 2, 2, 1, 0]
    summaries = session.sections
    np.testing.assert_allclose(table["d50"], summaries["median_diameter_nm"])


def test_other_sizes_and_wishes_are_taken(session):
    plain = session.populations(by="stream").iloc[1]
    least = session.populations(by="stream", measure="feret_min").iloc[1]
    particles = session.particles.query("file == 'still.mrc' and not touches_edge")
    assert least["mean"] == pytest.approx(particles["feret_min_nm"].mean())
    weighted = session.populations(by="stream", weighted=True).iloc[1]
    assert plain["mean"] < weighted["mean"] < diameter_nm(10)
    assert weighted["effective_count"] < 3


def test_without_a_pixel_size_sizes_are_in_px(tmp_path):
    with Store(tmp_path / "session", Config()) as store:
        store.commit(a_result("a.mrc", 0, (20, 20, 9), pixel_size_nm=None))
        store.commit(a_result("b.mrc", 0, (20, 20, 9)))
    session = ns.open_session(tmp_path / "session")
    table = session.populations(by="stream")
    assert table["unit"].tolist() == ["px", "nm"]
    assert table["mean"].tolist() == pytest.approx([2 * diameter_nm(9), diameter_nm(9)])
    assert session.population.count == 1  # the one whose size in nm is known


def test_a_window_of_time_holds_what_was_acquired_in_it(tmp_path):
    with Store(tmp_path / "session", Config()) as store:
        for z, second in enumerate(("00", "04", "11", "12")):
            acquired = Metadata(acquired=f"2026-12-01T10:00:{second}")
            known = {"metadata": acquired, "stream": MOVIE}
            store.commit(a_result("movie.mrc", z, (20, 50, 6 + z), **known))
    session = ns.open_session(tmp_path / "session")
    table = session.populations(window_s=10)
    assert table[["start_s", "end_s", "count"]].to_numpy().tolist() == [[0, 10, 1], [10, 20, 1]]
    expected = [
        np.mean([diameter_nm(6), diameter_nm(7)]),
        np.mean([diameter_nm(8), diameter_nm(9)]),
    ]
    assert table["mean"].tolist() == pytest.approx(expected)
    assert session.populations(by="stream", window_s=10).columns[:3].tolist() == [
        "file",
        "start_s",
        "end_s",
    ]


def test_an_empty_session_has_an_empty_population(tmp_path):
    with Store(tmp_path / "session", Config()):
        session = ns.open_session(tmp_path / "session")
    assert session.population.count == 0
    assert session.populations(by="section").empty


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"by": "file"}, "by = 'file'"),
        ({"measure": "area"}, "measure = 'area'"),
        ({"window_s": 0.0}, r"window_s = 0\.0"),
        ({"window_s": 5.0, "by": "section"}, r"window_s = 5\.0"),
    ],
)
def test_wrong_questions_are_named(session, wrong, said):
    with pytest.raises(ValueError, match=said):
        session.populations(**wrong)


def test_weights_are_refused_where_no_box_is_known(tmp_path):
    result = a_result("a.mrc", 0, (20, 20, 9))
    for name in ("left_px", "right_px", "top_px", "bottom_px"):
        result.particles[name] = 0  # as in a session from before
    with Store(tmp_path / "session", Config()) as store:
        store.commit(result)
    with pytest.raises(SessionError, match=r"a\.mrc#0 was .* or use weighted=False$"):
        ns.open_session(tmp_path / "session").populations(weighted=True)

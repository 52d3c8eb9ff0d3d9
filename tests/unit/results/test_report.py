"""Report of a session: what its page says, and that nothing in it leads outside."""

import json
import re

import numpy as np
import pytest

import nanostream as ns
from nanostream.config import Config
from nanostream.records import SectionId, TrackerSettings
from nanostream.results.report.content import collect
from nanostream.results.report.page import Shown, render
from nanostream.results.store import Store
from tests import factories

#: A name that a careless page would take for its own.
HOSTILE = "</script><b>&.mrc"


def a_result(path, z, *circles, warning="", **known):
    """Discs given by (y, x, radius) on 80 x 100 px."""
    known = {"pixel_size_nm": 0.5} | known
    return factories.a_result(
        factories.discs(*circles), SectionId(path, z), known=known, warning=warning
    )


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "session", Config()) as store:
        yield store


def page_of(store, *pictures):
    return render(collect(ns.open_session(store.folder)), pictures)


@pytest.fixture
def full(store):
    for z, radius in enumerate((6, 7, 8)):
        store.commit(
            a_result("movie.mrc", z, (20, 50, radius), (60, 5, 6), stream=TrackerSettings())
        )
    store.commit(a_result(HOSTILE, 0, (20, 20, 9), (60, 60, 10), warning="half of it is a guess"))
    return store


def test_a_particle_of_a_movie_counts_once_in_drawing_and_classes(full):
    session = ns.open_session(full.folder)
    content = collect(session)
    assert len(content.sizes) == session.population.count == 3
    assert np.median(content.sizes) == pytest.approx(session.population.d50)
    assert sum(content.classes.values()) == 3
    assert content.counts == {"sections": 4, "quarantined": 0, "warned": 1, "particles": 8}
    assert content.statistics["of"].tolist() == ["session", HOSTILE, "movie.mrc"]
    assert content.series["time_s"].min() == 0
    assert content.tracks["frames"].max() == 3


def test_what_is_drawn_is_what_is_described(full):
    odd = a_result("odd.mrc", 0, (20, 20, 9), (60, 60, 12))
    odd.particles["diameter_nm"][0] = -1.0  # from before sizes were checked
    full.commit(odd)
    content = collect(ns.open_session(full.folder))
    (whole,) = content.statistics[content.statistics["of"] == "session"].to_dict("records")
    assert (len(content.sizes), whole["unsized"]) == (whole["count"], 1)
    assert (content.sizes.mean(), np.median(content.sizes)) == pytest.approx(
        (whole["mean"], whole["d50"])
    )
    assert "1 of them without a known size left out" in page_of(full)


def test_the_page_needs_nothing_beside_it_and_names_of_files_stay_texts(full):
    gone = "movie.mrc#1: no picture: the file has changed"
    page = page_of(full, Shown("movie.mrc#0", "typical", b"\xff\xd8 x"), Shown("#1", gone, b""))
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page)
    assert page.count("<svg") == 2
    assert page.count("<img") == page.count('src="data:image/jpeg;base64,/9gge') == 1
    assert gone in page
    assert "half of it is a guess" in page
    assert "<b>&.mrc" not in page
    assert page.count("</script>") == 1
    assert "&lt;/script&gt;&lt;b&gt;&amp;.mrc#0" in page


def test_no_name_in_the_table_that_the_page_saves_is_a_formula(store):
    name = "=HYPERLINK(1).mrc"
    store.commit(a_result(name, 0, (20, 20, 9)))
    rows = re.search(r"const rows = (.*);", page_of(store))
    assert rows
    assert json.loads(rows[1])[0][0] == f"'{name}#0"


def test_a_session_without_a_section_has_a_page(store):
    page = page_of(store)
    assert "Nothing is stored in this session yet." in page
    assert "<svg" not in page


def test_without_a_pixel_size_lengths_are_in_px(store):
    store.commit(a_result("a.mrc", 0, (20, 20, 9), (60, 60, 10), pixel_size_nm=None))
    assert "equivalent circular diameter, px" in page_of(store)
    content = collect(ns.open_session(store.folder))
    assert content.unit == "px"
    assert content.series["median"].tolist() == pytest.approx([np.median(content.sizes)])

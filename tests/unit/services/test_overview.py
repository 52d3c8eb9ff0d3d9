"""The sink's view of a session, by results and messages alone."""

import math

import numpy as np
import pytest

from nanostream.records import SectionId, State
from nanostream.transport import messages as m
from nanostream_services.processes.overview import Overview, Peers, Sizes, Warnings, small_mask


def a_crowd():
    return Peers(silent_s=10.0, ready_s=1.0)


def states(peers, now_s):
    return {process.name: process.state for process in peers.health(now_s)}


@pytest.mark.parametrize(
    ("sign", "state"),
    [
        (m.Beat(3), State.READY),
        (m.Beat(1, loading=True), State.LOADING),
        (m.Beat(3, computing=SectionId("a.mrc", 0)), State.COMPUTING),
    ],
)
def test_a_worker_is_in_the_state_of_its_last_sign_until_it_is_silent(sign, state):
    peers = a_crowd()
    peers.hear("worker-1", sign, 100.0)
    assert states(peers, 109.0) == {"worker-1": state, "sink": State.STORING}
    assert states(peers, 110.0)["worker-1"] is State.SILENT
    assert states(peers, 141.0) == {"sink": State.STORING}


def test_of_agents_there_is_one_and_a_new_one_has_to_report_itself_ready():
    peers = a_crowd()
    peers.hear("agent-1", m.Report(0, 0, 0), 1.0)
    peers.set_ready("agent-1", 50.0)
    assert peers.is_ready("agent-1")
    peers.hear("agent-2", m.Report(0, 0, 0), 2.0)
    peers.set_ready("agent-1", 51.0)  # its last message, which comes late
    assert not peers.is_ready("agent-1")
    assert states(peers, 3.0) == {"agent": State.WATCHING, "sink": State.STORING}
    snapshot = Overview("s", NOTHING, peers).snapshot(time_s=1.0, now_s=3.0)
    assert snapshot.ready == {"sink"}


NOTHING = {"sections": 0, "particles": 0, "quarantine": 0, "tracks": 0}


def test_no_section_is_open_and_stored_at_once():
    """The agent's counts are older than the sink's own."""
    overview = Overview("s", NOTHING | {"sections": 7, "quarantine": 1}, a_crowd())
    overview.report(m.Report(seen=9, waiting=3, in_work=2, longest_wait_s=5.0))
    snapshot = overview.snapshot(time_s=1.0, now_s=1.0)
    counts = (snapshot.seen, snapshot.stored, snapshot.failed, snapshot.waiting, snapshot.in_work)
    assert counts == (9, 7, 1, 1, 0)
    overview.report(m.Report(seen=5, waiting=0, in_work=0, longest_wait_s=5.0))
    late = overview.snapshot(time_s=1.0, now_s=1.0)
    assert (late.seen, late.longest_wait_s) == (8, 0.0)


def test_files_that_may_change_are_those_of_the_agent_and_not_none_before_it_has_told():
    overview = Overview("s", NOTHING, a_crowd())
    assert overview.snapshot(time_s=1.0, now_s=1.0).unsettled == 1
    overview.report(m.Report(seen=0, waiting=0, in_work=0, unsettled=5))
    assert overview.snapshot(time_s=1.0, now_s=1.0).unsettled == 5


def words(warnings):
    """(number of the section, what is said) for a sequence of warnings."""
    warned = Warnings()
    heard = [warned.hear(f"a.mrc#{z}", warning) for z, warning in enumerate(warnings)]
    return [(z, text) for z, text in enumerate(heard) if text]


def test_a_warning_that_lasts_is_said_once_and_then_counted_ever_more_rarely():
    said = words(["not sure"] * 1500)
    assert [z for z, _ in said] == [0, 9, 99, 999]
    assert said[0][1] == "a.mrc#0: not sure"
    assert said[2][1] == "100 sections with a warning, the last a.mrc#99: not sure"


def test_a_warning_that_comes_and_goes_does_not_flood():
    assert len(words(["not sure", ""] * 500)) == 3


def test_a_warning_after_a_good_while_is_a_new_one():
    assert [z for z, _ in words(["a"] + [""] * 10 + ["b"])] == [0, 11]
    assert [z for z, _ in words(["a"] + [""] * 9 + ["b"])] == [0]


def sizes(px, nm=()):
    running = Sizes()
    running.add(np.array(px, np.float64), np.array(nm, np.float64))
    return running


def test_every_particle_is_in_one_bar_of_the_histogram():
    rng = np.random.default_rng(3)
    diameters = rng.uniform(0, 900, 1000)
    edges, counts, unit = sizes(diameters).histogram()
    assert (sum(counts), unit) == (1000, "px")
    assert len(counts) <= 48
    assert len(edges) == len(counts) + 1
    np.testing.assert_array_equal(np.histogram(diameters, edges)[0], counts)


def test_sizes_are_in_nm_as_soon_as_one_is_known():
    running = sizes([10.0, 20.0], [math.nan, math.nan])
    assert running.histogram()[2] == "px"
    running.add(np.array([10.0]), np.array([2.5]))
    edges, counts, unit = running.histogram()
    assert (sum(counts), unit) == (1, "nm")
    assert edges[0] <= 2.5 <= edges[-1]


def test_enormous_and_unknown_sizes_break_nothing():
    running = sizes([1e300, math.inf, math.nan, 5000.0])
    assert sum(running.histogram()[1]) == 2  # finite ones, in the last bar


def test_a_histogram_of_nothing_is_empty():
    assert sizes([]).histogram() == ((), (), "px")


@pytest.mark.parametrize(
    ("shape", "small"),
    [((512, 512), (128, 128)), ((1024, 512), (128, 64)), ((4, 4000), (1, 128)), ((64, 64), None)],
)
def test_the_small_mask_keeps_the_aspect(shape, small):
    picture, (rows, columns) = small_mask(np.ones(shape, np.uint16))
    assert (rows, columns) == (small or (128, 128))
    assert picture == b"\1" * (rows * columns)


def test_the_small_mask_shows_a_particle_where_it_is():
    labels = np.zeros((2048, 2048), np.uint16)
    labels[512:544, 1024:1056] = 9
    picture, shape = small_mask(labels)
    shown = np.frombuffer(picture, np.uint8).reshape(shape)
    assert np.argwhere(shown).tolist() == [[32, 64], [32, 65], [33, 64], [33, 65]]

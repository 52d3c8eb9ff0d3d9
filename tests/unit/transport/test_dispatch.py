"""Nothing lost, nothing in two places, whatever the order of events."""

import heapq
import itertools
import time
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from nanostream.config import Delivery
from nanostream.records import SectionId
from nanostream.transport import dispatch as d
from nanostream.transport import messages as m
from tests.effort import examples

RULES = Delivery(slots=2, attempts=3, retry_s=0.0, silent_s=15.0, resend_s=10.0)


def section(z):
    return SectionId("a.mrc", z)


def sends(actions):
    return [(a.worker, a.section.z) for a in actions if isinstance(a, d.Send)]


def quarantines(actions):
    return [a for a in actions if isinstance(a, d.Quarantine)]


def a_dispatch(sections=0, rules=RULES):
    dispatch = d.Dispatch(rules)
    for z in range(sections):
        dispatch.handle(d.SectionFound(section(z)), 0.0)
    return dispatch


def beat(worker, *holding, computing=None, slots=2, received=0, link=0):
    message = m.Beat(
        slots,
        tuple(map(section, holding)),
        None if computing is None else section(computing),
        received=received,
        link=link,
    )
    return d.FromWorker(worker, message)


def done(section, worker="w"):
    return d.FromWorker(worker, m.Done(section))


def failed(section, reason="?", worker="w"):
    return d.FromWorker(worker, m.Failed(section, reason))


def goodbye(worker, *finishing):
    return d.FromWorker(worker, m.Goodbye(finishing))


def test_a_worker_gets_no_more_than_its_credit_and_in_order():
    dispatch = a_dispatch(3)
    assert sends(dispatch.handle(beat("w"), 1.0)) == [("w", 0), ("w", 1)]
    assert sends(dispatch.handle(done(section(0)), 2.0)) == [("w", 2)]


def test_a_worker_that_is_loading_gets_a_section_only_if_there_is_no_other():
    dispatch = a_dispatch(4)
    loading = d.FromWorker("loading", m.Beat(1, loading=True))
    assert sends(dispatch.handle(loading, 0.0)) == [("loading", 0)]
    assert sends(dispatch.handle(beat("loaded", slots=1), 0.0)) == [("loaded", 1)]
    dispatch.handle(goodbye("loading"), 1.0)
    assert sends(dispatch.handle(loading, 1.0)) == []  # the other one will be free in a moment
    assert sends(dispatch.handle(done(section(1)), 1.0)) == [("loaded", 0)]
    loaded = d.FromWorker("loading", m.Beat(2))
    assert sends(dispatch.handle(loaded, 1.0)) == [("loading", 2), ("loading", 3)]


def test_two_workers_share_the_sections():
    dispatch = a_dispatch()
    dispatch.handle(beat("a"), 0.0)
    dispatch.handle(beat("b"), 0.0)
    given = [sends(dispatch.handle(d.SectionFound(section(z)), 0.0))[0][0] for z in range(4)]
    assert sorted(given) == ["a", "a", "b", "b"]


def test_done_is_remembered_for_good():
    dispatch = a_dispatch(1)
    dispatch.handle(beat("w"), 0.0)
    assert d.Store(section(0)) in dispatch.handle(done(section(0)), 1.0)
    assert (dispatch.waiting, dispatch.in_work) == (0, 0)


def test_a_silent_worker_loses_its_sections_to_another_at_the_front():
    dispatch = a_dispatch(4)
    dispatch.handle(beat("a"), 0.0)
    dispatch.handle(beat("b", slots=0), 14.0)
    dispatch.handle(d.Tick(), 16.0)
    assert sends(dispatch.handle(beat("b"), 17.0)) == [("b", 0), ("b", 1)]


def test_a_frame_lost_on_the_way_is_sent_again():
    dispatch = a_dispatch(1)
    dispatch.handle(beat("w"), 0.0)
    assert sends(dispatch.handle(beat("w"), 5.0)) == []
    assert sends(dispatch.handle(beat("w"), 11.0)) == [("w", 0)]


def test_a_gap_in_the_numbers_is_seen_at_the_next_beat():
    dispatch = a_dispatch(2)
    first, second = (a.number for a in dispatch.handle(beat("w"), 0.0) if isinstance(a, d.Send))
    assert second == first + 1
    # The second one came, the first did not.
    assert sends(dispatch.handle(beat("w", 1, received=second), 0.5)) == [("w", 0)]


def test_what_was_under_way_when_the_connection_broke_is_sent_again_at_once():
    dispatch = a_dispatch(1)
    dispatch.handle(beat("w", link=1), 0.0)
    assert sends(dispatch.handle(beat("w", link=1), 1.0)) == []
    assert sends(dispatch.handle(beat("w", link=2), 2.0)) == [("w", 0)]
    assert sends(dispatch.handle(beat("w", link=2), 3.0)) == []


def test_numbers_go_on_where_they_were_although_the_clock_went_back():
    dispatch = a_dispatch(1)
    dispatch.handle(beat("w", received=1000), 0.0)
    assert dispatch._workers["w"].sent[section(0)].number == 1001
    assert sends(dispatch.handle(beat("w", received=1000), 1.0)) == []


def test_a_beat_said_to_the_agent_before_gives_no_credit():
    dispatch = d.Dispatch(RULES, instance="new")
    dispatch.handle(d.SectionFound(section(0)), 0.0)
    assert sends(dispatch.handle(d.FromWorker("w", m.Beat(2, agent="old")), 1.0)) == []
    assert sends(dispatch.handle(d.FromWorker("w", m.Beat(2, agent="new")), 2.0)) == [("w", 0)]


def test_what_a_worker_still_holds_for_others_is_taken_off_its_credit():
    dispatch = a_dispatch(2)
    dispatch.handle(beat("a"), 0.0)
    dispatch.handle(d.Tick(), 16.0)  # silent
    dispatch.handle(beat("b"), 17.0)  # b is given both
    dispatch.handle(d.SectionFound(section(7)), 17.0)
    assert sends(dispatch.handle(beat("a", 0, 1, computing=0), 18.0)) == []
    assert sends(dispatch.handle(beat("a", 1), 19.0)) == [("a", 7)]


def test_what_is_not_open_cannot_fail():
    dispatch = a_dispatch(1)
    dispatch.handle(beat("w"), 0.0)
    dispatch.handle(done(section(0)), 1.0)
    for z in (0, 99):
        assert dispatch.handle(failed(section(z), "?", "w"), 2.0) == []
    assert (dispatch.waiting, dispatch.in_work) == (0, 0)


def test_newest_first_also_holds_for_what_comes_back():
    dispatch = a_dispatch(0, Delivery(slots=1, order="newest-first", silent_s=15.0))
    for z in range(3):
        dispatch.handle(d.SectionFound(section(z)), 0.0)
    assert sends(dispatch.handle(beat("w", slots=1), 0.0)) == [("w", 2)]
    dispatch.handle(d.Tick(), 16.0)
    assert sends(dispatch.handle(beat("w", slots=1), 17.0)) == [("w", 2)]


def test_a_beat_from_before_the_first_connection_loses_nothing():
    dispatch = a_dispatch(1)
    dispatch.handle(beat("w", link=0), 0.0)
    assert sends(dispatch.handle(beat("w", link=1), 1.0)) == []


def test_what_is_still_on_its_way_is_no_gap():
    dispatch = a_dispatch(2)
    first, second = (a.number for a in dispatch.handle(beat("w"), 0.0) if isinstance(a, d.Send))
    assert sends(dispatch.handle(beat("w", 0, received=first), 0.5)) == []
    assert sends(dispatch.handle(beat("w", 0, 1, received=second), 1.0)) == []


def test_numbers_of_a_worker_that_was_thought_gone_are_not_used_again():
    dispatch = a_dispatch(1)
    (number,) = (a.number for a in dispatch.handle(beat("w"), 0.0) if isinstance(a, d.Send))
    dispatch.handle(d.Tick(), 16.0)  # silent
    assert sends(dispatch.handle(beat("w", received=number), 17.0)) == [("w", 0)]
    assert sends(dispatch.handle(beat("w", received=number), 17.5)) == []


def test_on_a_slow_line_a_frame_is_sent_again_less_and_less_often():
    dispatch = a_dispatch(1)
    dispatch.handle(beat("w"), 0.0)
    again = [t for t in range(1, 200) if sends(dispatch.handle(beat("w"), float(t)))]
    assert again == [11, 32, 73, 154]  # after 10, 20, 40, 80 s


def test_what_a_frame_was_under_way_is_given_to_the_next_ones():
    dispatch = a_dispatch(2)
    numbers = [a.number for a in dispatch.handle(beat("w"), 0.0) if isinstance(a, d.Send)]
    dispatch.handle(beat("w", 0, received=numbers[0]), 9.0)
    for now_s in (18.0, 27.0, 36.0):
        assert sends(dispatch.handle(beat("w", 0, received=numbers[0]), now_s)) == []
    assert sends(dispatch.handle(beat("w", 0, received=numbers[0]), 37.0)) == [("w", 1)]


def test_a_line_that_is_down_again_and_again_is_not_the_sections_fault():
    dispatch = a_dispatch(1)
    now_s = 0.0
    dispatch.handle(beat("w", computing=None), now_s)
    for _ in range(5):
        dispatch.handle(beat("w", 0, computing=0), now_s)
        now_s += 16.0
        assert not quarantines(dispatch.handle(d.Tick(), now_s))
    assert d.Store(section(0)) in dispatch.handle(done(section(0)), now_s)
    assert not dispatch._failures
    assert not dispatch._blamed


def test_the_longest_wait_is_of_the_oldest_section_without_an_end():
    dispatch = a_dispatch(1)
    dispatch.handle(d.SectionFound(section(1)), 5.0)
    assert dispatch.longest_wait_s(8.0) == 8.0
    sent = [a for a in dispatch.handle(beat("w"), 8.0) if isinstance(a, d.Send)]
    assert [(a.section.z, a.waited_s) for a in sent] == [(0, 8.0), (1, 3.0)]
    dispatch.handle(done(section(0)), 9.0)
    assert dispatch.longest_wait_s(10.0) == 5.0
    dispatch.handle(d.SectionFailed(section(1), "gone", final=True), 11.0)
    assert dispatch.longest_wait_s(12.0) == 0.0


def test_a_section_held_longer_than_that_is_not_sent_again():
    dispatch = a_dispatch(1)
    dispatch.handle(beat("w"), 0.0)
    for now_s in (5.0, 11.0, 60.0, 600.0):
        assert sends(dispatch.handle(beat("w", 0, computing=0), now_s)) == []


def test_after_a_restart_of_the_agent_held_sections_are_not_sent_twice():
    dispatch = a_dispatch(2)  # read back from the ledger
    assert sends(dispatch.handle(beat("w", 0, computing=0), 0.0)) == [("w", 1)]
    assert dispatch.in_work == 2


def test_only_the_section_that_was_computed_counts_against_a_dead_worker():
    dispatch = a_dispatch(2)
    now_s = 0.0
    for number in range(2):
        dispatch.handle(beat(f"w{number}"), now_s)
        dispatch.handle(beat(f"w{number}", 0, 1, computing=0), now_s)
        now_s += 16.0
        assert not quarantines(dispatch.handle(d.Tick(), now_s))
    dispatch.handle(beat("w2"), now_s)
    dispatch.handle(beat("w2", 0, 1, computing=0), now_s)
    given_up = quarantines(dispatch.handle(d.Tick(), now_s + 16.0))
    assert [(q.section.z, q.attempts) for q in given_up] == [(0, 3)]
    assert dispatch.waiting == 1  # the bystander


def test_a_section_that_fails_three_times_is_quarantined_with_its_reasons():
    dispatch = a_dispatch(1)
    dispatch.handle(beat("w"), 0.0)
    for reason in ("no memory", "no memory"):
        dispatch.handle(d.SectionFailed(section(0), reason), 0.0)
        assert sends(dispatch.handle(d.Tick(), 0.0)) == [("w", 0)]
    given_up = quarantines(dispatch.handle(d.SectionFailed(section(0), "torn"), 0.0))
    assert given_up == [d.Quarantine(section(0), "no memory; torn", 3)]


def test_what_cannot_get_better_is_quarantined_at_once():
    dispatch = a_dispatch(1)
    assert quarantines(dispatch.handle(d.SectionFailed(section(0), "gone", final=True), 0.0))


def test_a_failed_section_waits_and_holds_nothing_up():
    rules = Delivery(slots=1, retry_s=2.0)
    dispatch = a_dispatch(2, rules)
    dispatch.handle(beat("w", slots=1), 0.0)
    actions = dispatch.handle(d.SectionFailed(section(0), "share is away"), 0.0)
    assert sends(actions) == [("w", 1)]
    assert sends(dispatch.handle(done(section(1)), 1.0)) == []
    assert sends(dispatch.handle(d.Tick(), 2.0)) == [("w", 0)]


def test_while_the_files_are_away_nothing_is_sent_and_nothing_is_blamed():
    dispatch = a_dispatch(3)
    dispatch.handle(beat("w"), 0.0)
    for z in (0, 1):
        assert dispatch.handle(d.FilesAway(True, section(z)), 0.0) == []
    assert dispatch.waiting == 3
    assert dispatch.handle(d.Tick(), 9.0) == []
    assert len(sends(dispatch.handle(d.FilesAway(False), 10.0))) == 2


def test_a_section_whose_pixels_are_not_there_yet_rests_and_nothing_is_blamed():
    dispatch = a_dispatch(1, Delivery(slots=1, attempts=3, retry_s=2.0))
    assert sends(dispatch.handle(beat("w", slots=1), 0.0)) == [("w", 0)]
    for now_s in (0.0, 2.0, 4.0, 6.0, 8.0):
        assert dispatch.handle(d.SectionNotReady(section(0)), now_s) == []
        assert dispatch.handle(d.Tick(), now_s + 1.9) == []
        assert sends(dispatch.handle(d.Tick(), now_s + 2.0)) == [("w", 0)]
    assert not dispatch._failures
    assert dispatch.longest_wait_s(10.0) == 10.0


def test_a_long_queue_costs_no_more_than_a_short_one():
    rules = Delivery(slots=1, attempts=2, retry_s=1000.0)
    dispatch = a_dispatch(0, rules)
    dispatch.handle(beat("w", slots=1), 0.0)
    start = time.process_time()
    for z in range(20_000):
        dispatch.handle(d.SectionFound(section(z)), 0.0)
    for z in range(20_000):
        dispatch.handle(d.SectionFailed(section(z), "?"), 0.0)
    assert time.process_time() - start < 10.0  # was minutes when the queue was copied each time


def test_a_worker_that_fails_on_everything_is_set_aside_and_its_word_forgotten():
    dispatch = a_dispatch(6)
    dispatch.handle(beat("sick", slots=1), 0.0)
    for z in range(2):
        dispatch.handle(failed(section(z), "out of memory", "sick"), 0.0)
    dispatch.handle(beat("sound", slots=1), 0.0)
    actions = dispatch.handle(failed(section(2), "out of memory", "sick"), 0.0)
    assert any("gets no more" in a.text for a in actions if isinstance(a, d.Note))
    assert not dispatch._workers["sick"].sent
    while held := list(dispatch._workers["sound"].sent):
        dispatch.handle(done(held[0]), 0.0)
        dispatch.handle(d.Tick(), 0.0)
    assert (dispatch.waiting, dispatch.in_work) == (0, 0)
    assert not dispatch._failures


def notes(actions):
    return [a.text for a in actions if isinstance(a, d.Note)]


def fail(dispatch, worker, name, reason="cannot be segmented"):
    return dispatch.handle(failed(SectionId.parse(name), reason, worker), 0.0)


def test_a_stack_that_fails_on_every_worker_sets_none_of_them_aside():
    dispatch = a_dispatch(60)
    given_up, said = [], []
    for _ in range(200):
        for worker in ("a", "b"):
            dispatch.handle(beat(worker), 0.0)
            for held in list(dispatch._workers[worker].sent):
                actions = fail(dispatch, worker, str(held))
                given_up += quarantines(actions)
                said += notes(actions)
        dispatch.handle(d.Tick(), 0.0)
    assert len(given_up) == 60
    assert all(one.attempts == 3 for one in given_up)
    assert not any("gets no more" in text for text in said)
    assert not dispatch._bad_files  # nothing of it is left to come


def test_a_worker_set_aside_for_a_bad_stack_works_again_when_another_fails_on_it_too():
    dispatch = d.Dispatch(Delivery(slots=4, attempts=3, retry_s=0.0))
    for z in range(8):
        dispatch.handle(d.SectionFound(section(z)), 0.0)
    dispatch.handle(beat("a", slots=4), 0.0)
    dispatch.handle(beat("slow", slots=4), 0.0)
    for z in (0, 1):
        fail(dispatch, "a", f"a.mrc#{z}")
    assert any("a failed on 3 sections" in t for t in notes(fail(dispatch, "a", "a.mrc#2")))
    assert dispatch._workers["a"].set_aside
    said = notes(fail(dispatch, "slow", "a.mrc#4"))
    assert said[-1] == "worker a works again: a.mrc fails on other workers as well"
    assert not dispatch._workers["a"].set_aside


def test_a_worker_that_fails_on_all_files_is_set_aside_although_one_of_them_is_bad():
    dispatch = d.Dispatch(Delivery(slots=1, attempts=3, retry_s=1000.0))
    for name in "abcdef":
        dispatch.handle(d.SectionFound(SectionId(f"{name}.mrc", 0)), 0.0)
    for worker in ("sick", "sound"):
        dispatch.handle(beat(worker, slots=1), 0.0)
    fail(dispatch, "sick", "a.mrc#0")
    fail(dispatch, "sound", "a.mrc#0")
    for name in "bc":
        assert not dispatch._workers["sick"].set_aside
        fail(dispatch, "sick", f"{name}.mrc#0")
    fail(dispatch, "sick", "d.mrc#0")
    assert dispatch._workers["sick"].set_aside
    assert not dispatch._workers["sound"].set_aside


def test_a_file_is_not_bad_any_more_when_a_section_of_it_succeeds():
    dispatch = d.Dispatch(Delivery(slots=4, attempts=3, retry_s=1000.0))
    for z in range(9):
        dispatch.handle(d.SectionFound(section(z)), 0.0)
    for worker in ("sick", "sound"):
        dispatch.handle(beat(worker, slots=4), 0.0)
    for worker, z in (("sick", 0), ("sound", 1)):
        fail(dispatch, worker, f"a.mrc#{z}")
    dispatch.handle(done(section(2)), 0.0)
    for z in (3, 4, 5):
        fail(dispatch, "sick", f"a.mrc#{z}")
    assert dispatch._workers["sick"].set_aside


def test_a_worker_with_another_model_than_the_one_before_is_named_with_both():
    dispatch = a_dispatch()

    def arrives(worker, model):
        return notes(dispatch.handle(d.FromWorker(worker, m.Beat(2, model=model)), 0.0))[1:]

    assert arrives("a", "default 0123456789ab") == []
    assert arrives("b", "default 0123456789ab") == []
    (said,) = arrives("c", "default fedcba987654")
    assert said.startswith("worker c has another model (default fedcba98) than the one before it")
    assert "(default 01234567)" in said
    assert arrives("c", "default fedcba987654") == []  # a later beat
    assert arrives("d", "") == []  # it does not say
    assert arrives("e", "default fedcba987654") == []


def test_the_only_worker_is_not_set_aside():
    dispatch = a_dispatch(5)
    dispatch.handle(beat("w", slots=1), 0.0)
    given_up = []
    for _ in range(40):
        held = [z for z in range(5) if dispatch._holder(section(z))]
        for z in held:
            actions = dispatch.handle(failed(section(z), "?", "w"), 0.0)
            given_up += quarantines(actions)
        dispatch.handle(d.Tick(), 0.0)
    assert len(given_up) == 5


def test_newest_first_keeps_the_live_view_live():
    dispatch = a_dispatch(0, Delivery(slots=1, order="newest-first"))
    for z in range(4):
        dispatch.handle(d.SectionFound(section(z)), 0.0)
    order = sends(dispatch.handle(beat("w", slots=1), 0.0))
    for z in (3, 2, 1, 0):
        assert order == [("w", z)]
        order = sends(dispatch.handle(done(section(z)), 0.0))


def test_a_worker_that_leaves_finishes_what_it_says_and_gets_nothing_more():
    dispatch = a_dispatch(3)
    dispatch.handle(beat("w"), 0.0)
    dispatch.handle(goodbye("w", section(0)), 1.0)
    assert (dispatch.in_work, dispatch.waiting) == (1, 2)
    assert sends(dispatch.handle(beat("other"), 1.0)) == [("other", 1), ("other", 2)]
    assert dispatch.handle(done(section(0)), 2.0) == [d.Store(section(0))]


class Delivering(RuleBasedStateMachine):
    """Workers appear, compute, fail, vanish and lose messages in any order."""

    sections = Bundle("sections")
    names = st.sampled_from(["a", "b", "c"])

    def __init__(self):
        super().__init__()
        self.dispatch = d.Dispatch(RULES)
        self.now_s = 0.0
        self.found, self.ended = set(), {}
        self.held = {}  # by live worker, what has reached it
        self.received = {}

    def do(self, event):
        for action in self.dispatch.handle(event, self.now_s):
            match action:
                case d.Send(worker, sent, number):
                    assert sent not in self.ended
                    if not self.readable:
                        self.do(d.SectionNotReady(sent))
                    elif worker in self.held and self.lucky:
                        self.held[worker].append(sent)
                        self.received[worker] = number
                case d.Store(stored):
                    self.ended[stored] = "stored"
                case d.Quarantine(given_up):
                    assert given_up not in self.ended
                    self.ended[given_up] = "quarantined"

    lucky = True
    readable = True

    @rule(readable=st.booleans())
    def share(self, readable):
        self.readable = readable

    @rule(lucky=st.booleans())
    def network(self, lucky):
        self.lucky = lucky

    @rule(seconds=st.sampled_from([0.1, 5.0, 11.0, 16.0]))
    def time_passes(self, seconds):
        self.now_s += seconds
        self.do(d.Tick())

    @rule(target=sections, z=st.integers(0, 50))
    def find(self, z):
        if section(z) not in self.found:
            self.found.add(section(z))
            self.do(d.SectionFound(section(z)))
        return section(z)

    @rule(name=names)
    def live(self, name):
        holding = self.held.setdefault(name, [])
        computing, received = holding[0] if holding else None, self.received.get(name, 0)
        self.do(d.FromWorker(name, m.Beat(2, tuple(holding), computing, received=received)))

    @rule(away=st.booleans())
    def files(self, away):
        self.do(d.FilesAway(away))

    @rule(name=names)
    def die(self, name):
        self.held.pop(name, None)
        self.received.pop(name, None)

    @rule(name=names)
    def unreachable(self, name):
        self.held.pop(name, None)
        self.do(d.WorkerLost(name))

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data(), fails=st.booleans())
    def finish(self, data, fails):
        name = data.draw(st.sampled_from([n for n, h in self.held.items() if h]))
        finished = self.held[name].pop(0)
        if finished not in self.ended:
            self.do(failed(finished, worker=name) if fails else done(finished, worker=name))

    @invariant()
    def every_section_is_somewhere_once(self):
        open_sections = self.found - set(self.ended)
        waiting = set(self.dispatch._waiting) | set(self.dispatch._resting)
        sent = [s for w in self.dispatch._workers.values() for s in w.sent]
        assert len(sent) == len(set(sent))
        assert not waiting & set(sent)
        assert waiting | set(sent) == open_sections

    def teardown(self):
        """A healthy worker at the end finishes everything."""
        self.lucky = self.readable = True
        self.do(d.FilesAway(False))
        self.held.clear()
        for _ in range(400):
            self.now_s += 16.0
            self.do(d.Tick())
            self.live("a")
            self.now_s += 0.1
            self.live("a")
            while self.held["a"]:
                self.do(done(self.held["a"].pop(0)))
            if len(self.ended) == len(self.found):
                break
        assert set(self.ended) == self.found


Delivering.TestCase.settings = settings(examples(60), stateful_step_count=40)
test_delivery = Delivering.TestCase


def quarantined_good_sections(workers, bad=(), count=200):
    """Run a stack that grows by one section each half second until all of it is settled.

    Parameters
    ----------
    workers : dict
        Of each whether it fails on everything, and the seconds a section takes it.
    bad : collection of int
        Sections that fail on every worker.
    """
    dispatch = d.Dispatch(Delivery())
    events: list[tuple[float, int, Any]]
    events = [(0.5 * z, z, d.SectionFound(section(z))) for z in range(count)]
    serial = itertools.count(count)
    load = {name: [] for name in workers}
    number, free_s = dict.fromkeys(workers, 0), dict.fromkeys(workers, 0.0)
    settled, quarantined = set(), set()

    def handle(event, now_s):
        for action in dispatch.handle(event, now_s):
            match action:
                case d.Send(worker=name, section=sent):
                    load[name].append(sent)
                    number[name] = action.number
                    free_s[name] = max(now_s, free_s[name]) + workers[name][1]
                    heapq.heappush(events, (free_s[name], next(serial), (name, sent)))
                case d.Store(section=done):
                    settled.add(done.z)
                case d.Quarantine(section=given_up):
                    quarantined.add(given_up.z)

    def say(name, now_s):
        handle(d.FromWorker(name, m.Beat(2, tuple(load[name]), received=number[name])), now_s)

    for name in workers:
        heapq.heappush(events, (0.0, next(serial), name))
    while events and len(settled | quarantined) < count:
        now_s, _, event = heapq.heappop(events)
        if isinstance(event, str):  # a worker's second is over
            say(event, now_s)
            handle(d.Tick(), now_s)
            heapq.heappush(events, (now_s + 1.0, next(serial), event))
        elif isinstance(event, tuple):
            name, finished = event
            if finished in load[name]:
                load[name].remove(finished)
            broken = workers[name][0] or finished.z in bad
            handle(failed(finished, "bad", name) if broken else done(finished, name), now_s)
            say(name, now_s)
        else:
            handle(event, now_s)
    assert len(settled | quarantined) == count
    return quarantined - set(bad)


@pytest.mark.parametrize(
    ("workers", "bad"),
    [
        ({"a": (True, 0.1), "c": (False, 1.0)}, ()),
        ({"a": (True, 0.1), "b": (True, 0.1), "c": (False, 1.0)}, ()),
        ({"a": (True, 0.1), "c": (False, 1.0)}, range(0, 200, 10)),
        ({"a": (True, 0.1), "c": (False, 4.0)}, range(0, 200, 10)),
        ({"a": (True, 0.1), "c": (False, 1.0), "e": (False, 1.0)}, range(0, 200, 10)),
        ({"c": (False, 0.5), "e": (False, 1.0)}, range(50, 100)),
    ],
    ids=["one", "two", "one, bad stack", "one, slow, bad stack", "one of three", "bad stack"],
)
def test_broken_workers_beside_a_good_one_cost_no_good_section(workers, bad):
    """Also where the stack itself is bad in places, which is no reason to acquit the broken."""
    assert quarantined_good_sections(workers, bad) == set()

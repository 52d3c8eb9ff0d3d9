"""When a worker sends a result again, by its clock alone."""

from types import SimpleNamespace
from typing import Any

import pytest

from nanostream.records import SectionId
from nanostream_services.processes.unacknowledged import Unacknowledged

A, B = SectionId("a.mrc", 0), SectionId("a.mrc", 1)


def a_result(section) -> Any:
    return SimpleNamespace(section=section)


@pytest.fixture
def results():
    waiting = Unacknowledged(10.0)
    for section in (A, B):
        waiting.add(a_result(section))
    return waiting


def sends(waiting, now_s):
    """Sections that are sent at a time, as the worker does it."""
    due = [result.section for result in waiting.due(now_s)]
    for section in due:
        waiting.sent(section, now_s)
    return due


def test_a_result_is_sent_at_once_and_again_only_after_a_while(results):
    assert sends(results, 0.0) == [A, B]
    assert sends(results, 10.0) == []
    assert sends(results, 10.1) == [A, B]


def test_pauses_double_to_eight_times_the_first(results):
    at_s, pauses_s, now_s = 0.0, [], 0.0
    sends(results, 0.0)
    while len(pauses_s) < 6:
        now_s += 1.0
        if sends(results, now_s):
            pauses_s.append(now_s - at_s)
            at_s = now_s
    assert pauses_s == [11.0, 21.0, 41.0, 81.0, 81.0, 81.0]


def test_a_slow_line_is_not_filled_with_repetitions(results):
    sends(results, 0.0)
    assert results.acknowledge(A, 30.0)
    assert not results.acknowledge(A, 31.0)  # an answer that comes twice
    assert sends(results, 119.0) == []
    assert sends(results, 121.0) == [B]


def test_what_the_sink_could_not_store_is_tried_regularly_and_says_nothing_of_the_line(results):
    sends(results, 0.0)
    for now_s in (1.0, 12.0, 23.0):
        results.refuse(A, now_s)
        assert A not in sends(results, now_s + 9.0)
        assert A in sends(results, now_s + 10.5)
    results.refuse(A, 40.0)
    assert results.acknowledge(A, 1000.0)
    assert results.acknowledge(B, 40.0)
    results.add(a_result(A))
    sends(results, 2000.0)
    assert sends(results, 2161.0) == [A]  # four times the 40 s of B, not the 1000 s of A


def test_all_is_sent_again_to_another_sink_and_what_was_given_up_is_not(results):
    sends(results, 0.0)
    assert results.drop(A)
    assert not results.drop(A)
    results.restart()
    assert sends(results, 0.1) == [B]

"""File events that count as missed."""

import pytest

from nanostream_services.processes.file_events import Missed


@pytest.fixture
def missed():
    return Missed()


LATE_S = Missed.LATE_S + 0.1


def test_an_event_that_does_not_come_after_a_scan_is_missed_and_reported_once(missed):
    missed.found_by_scan("a.mrc", 10.0)
    assert missed.overdue(10.0 + 0.9 * Missed.LATE_S) == set()
    assert missed.overdue(10.0 + LATE_S) == {"a.mrc"}
    assert missed.overdue(20.0) == set()
    missed.found_by_scan("b.mrc", 30.0)
    assert missed.overdue(30.0 + LATE_S) == {"a.mrc", "b.mrc"}


def test_an_event_that_comes_in_time_is_not_missed(missed):
    missed.found_by_scan("a.mrc", 10.0)  # the scan was quicker than the event
    missed.told(["a.mrc"], 10.5)
    assert missed.overdue(100.0) == set()


def test_a_section_that_was_ready_only_after_a_while_is_not_missed(missed):
    missed.told(["a.mrc"], 10.0)
    missed.found_by_scan("a.mrc", 10.0 + 0.9 * Missed.TOLD_S)
    assert missed.overdue(1000.0) == set()
    missed.found_by_scan("a.mrc", 1000.0)
    assert missed.overdue(1010.0) == {"a.mrc"}


def test_the_event_of_an_idoc_is_one_of_its_images(missed):
    for name in ("day1/gold0000.tif", "day1/other0000.tif"):
        missed.found_by_scan(name, 10.0)
    missed.told(["day1/gold.idoc"], 10.1)
    assert missed.overdue(20.0) == {"day1/other0000.tif"}


def test_what_was_expected_before_listening_began_anew_is_not(missed):
    missed.found_by_scan("a.mrc", 10.0)
    missed.listening()
    assert missed.overdue(20.0) == set()


def test_as_many_files_are_remembered_as_may_change_in_a_while(missed):
    missed.told((f"{number}.mrc" for number in range(Missed.MOST_TOLD)), 10.0)
    missed.told(["0.mrc", "one more.mrc"], 11.0)
    assert len(missed._told) == Missed.MOST_TOLD
    assert {"0.mrc", "one more.mrc"} <= missed._told.keys()

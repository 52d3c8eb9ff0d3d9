"""Alarms are raised and cleared by what the sink knows, and by nothing else."""

import math

import pytest

from nanostream.records import Alarm, Health, Severity, State
from nanostream_services.alarms import Alarms, Change, Condition, Facts, Pace, conditions, worst

GB = 1e9
WELL = (
    Health("agent", "agent", State.WATCHING, 0.5),
    Health("worker-1", "worker", State.COMPUTING, 0.5, "model default"),
    Health("sink", "sink", State.STORING, 0.0),
)


def process(role, state, age_s=0.5, detail=""):
    return (*(one for one in WELL if one.role != role), Health(role, role, state, age_s, detail))


def facts(**known):
    return Facts(**{"time_s": 1000.0, "health": WELL, **known})


def test_a_session_that_is_well_has_no_alarm():
    assert conditions(facts(free_bytes=200 * GB, section_bytes=4e6, acquired_per_s=0.5)) == []
    assert conditions(Facts(time_s=0.0)) == []


@pytest.mark.parametrize(
    ("known", "name", "severity", "text"),
    [
        ({"storing": "no space left"}, "not storing", "problem", "no space left"),
        ({"damaged": "session.db is gone"}, "session damaged", "problem", "session.db is gone"),
        (
            {"watching": "D:/data cannot be reached", "away": True},
            "folder away",
            "problem",
            "cannot be reached",
        ),
        ({"watching": "ledger.db: disk full"}, "agent stuck", "problem", "disk full"),
        (
            {"health": process("worker", State.CRASHED, detail="exit code -9; restart in 0.5 s")},
            "worker crashed",
            "problem",
            "exit code -9",
        ),
        (
            {"health": process("agent", State.SILENT, 20)},
            "agent silent",
            "problem",
            "no report of agent for 20 s",
        ),
        (
            {"health": process("agent", State.WATCHING, 4.5)},
            "agent silent",
            "warning",
            "no report of agent for 4 s",
        ),
        (
            {"waiting": 3, "health": tuple(one for one in WELL if one.role != "worker")},
            "no worker",
            "problem",
            "3 sections wait and no worker is there",
        ),
        (
            {"waiting": 90, "acquired_per_s": 1.0, "analysed_per_s": 0.5},
            "falling behind",
            "warning",
            "90 sections wait: 60 a minute acquired, 30 analysed",
        ),
        (
            {"waiting": 300, "acquired_per_s": 0.0, "analysed_per_s": 1.0},
            "backlog",
            "notice",
            "caught up in 5 min",
        ),
        (
            {"quiet_s": 700.0, "interval_s": 20.0},
            "no new sections",
            "warning",
            "no new section for 11 min; before, one came every 20 s",
        ),
        ({"quarantined": 1}, "quarantine", "warning", "1 section was quarantined"),
        ({"quarantined": 5}, "quarantine", "problem", "5 sections were quarantined"),
        (
            {"free_bytes": 20 * GB, "section_bytes": 4e6, "acquired_per_s": 0.5},
            "disk filling",
            "warning",
            "20 GB free: room for about 5 000 sections, 2 h 46 min at this pace",
        ),
        (
            {"free_bytes": 30e6, "section_bytes": 4e6},
            "disk filling",
            "problem",
            "0.03 GB free: room for about 8 sections",
        ),
        (
            {"clocks_s": {"agent-1": -62.0}},
            "clocks apart",
            "warning",
            "the clock of agent-1 is 1 min behind the sink's",
        ),
        (
            {"warned": 12, "of_last": 20, "warning": "the network is unsure"},
            "check masks",
            "warning",
            "12 of the last 20 sections have a warning: the network is unsure",
        ),
        (
            {"intensity": Change(20.0, 118.0)},
            "intensity fallen",
            "warning",
            "mean intensity 20, it was 118",
        ),
        (
            {"count": Change(2.0, 15.0)},
            "count fallen",
            "notice",
            "2 particles a section, there were 15",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_cause_raises_its_alarm_with_what_to_do(known, name, severity, text):
    (found,) = conditions(facts(**known))
    assert (found.name, found.severity) == (name, severity)
    assert text in found.text
    assert found.advice or found.severity == Severity.NOTICE


@pytest.mark.parametrize(
    "known",
    [
        {"intensity": Change(70.0, 118.0), "count": Change(8.0, 15.0)},
        {"intensity": Change(-0.4, 0.001)},  # pixels around 0 say nothing
        {"count": Change(0.0, 2.0)},
        {"intensity": Change(), "count": Change()},
        # A section a minute that waits a moment is no backlog.
        {"waiting": 1, "acquired_per_s": 1 / 60, "analysed_per_s": 0.0},
        {"waiting": 2, "acquired_per_s": 0.5, "analysed_per_s": 0.5},
        {"waiting": 30, "acquired_per_s": 0.0, "analysed_per_s": 1.0},
        # What cannot be told yet is no alarm.
        {"waiting": 30, "acquired_per_s": math.nan, "analysed_per_s": math.nan},
        {"quiet_s": 3600.0, "interval_s": math.nan},
        {"quiet_s": 50.0, "interval_s": 1.0},
        {"free_bytes": 500 * GB, "section_bytes": math.nan},
        {"clocks_s": {"agent-1": 3.0}},
        {"warned": 5, "of_last": 20},
    ],
)
def test_what_is_usual_raises_none(known):
    assert conditions(facts(**known)) == []


def test_a_full_disk_is_not_called_falling_behind():
    known = {"waiting": 500, "acquired_per_s": 1.0, "analysed_per_s": 0.0}
    assert [c.name for c in conditions(facts(storing="disk full", **known))] == ["not storing"]


def test_the_worst_comes_first():
    found = conditions(facts(quarantined=1, storing="disk full", clocks_s={"agent": 60.0}))
    assert [condition.severity for condition in found] == ["problem", "warning", "warning"]


FULL = Condition("not storing", Severity.PROBLEM, "disk full", "free some", at_once=True)
BEHIND = Condition("falling behind", Severity.WARNING, "9 sections wait", "a GPU")


def test_an_alarm_has_the_time_of_its_cause_and_is_over_with_it():
    alarms = Alarms()
    raised, cleared, _ = alarms.update([FULL], 10.0)
    assert [(alarm.name, alarm.since_s) for alarm in raised] == [("not storing", 10.0)]
    assert cleared == ()
    assert alarms.update([FULL._replace(text="still full")], 11.0) == ((), (), ())
    (now,) = alarms.now
    assert (now.text, now.since_s) == ("still full", 10.0)
    raised, cleared, _ = alarms.update([], 12.0)
    assert (raised, [alarm.name for alarm in cleared]) == ((), ["not storing"])
    assert alarms.now == ()


def test_what_is_acknowledged_is_shown_last_and_counts_no_more_until_it_is_worse():
    alarms = Alarms()
    alarms.update([FULL, BEHIND], 10.0)
    assert worst(alarms.now) == Severity.PROBLEM
    alarms.acknowledge(["not storing", "unheard of"])
    assert [alarm.name for alarm in alarms.now] == ["falling behind", "not storing"]
    assert worst(alarms.now) == Severity.WARNING
    alarms.acknowledge(["falling behind"])
    assert worst(alarms.now) is None
    raised, _, replaced = alarms.update([FULL, BEHIND._replace(severity=Severity.PROBLEM)], 20.0)
    assert [(alarm.name, alarm.since_s) for alarm in raised] == [("falling behind", 20.0)]
    assert [(alarm.name, alarm.since_s) for alarm in replaced] == [("falling behind", 10.0)]
    assert worst(alarms.now) == Severity.PROBLEM


def test_two_conditions_of_a_name_are_one_alarm_the_worse():
    alarms = Alarms()
    alarms.update([FULL, FULL._replace(severity=Severity.WARNING)], 0.0)
    assert [alarm.severity for alarm in alarms.now] == [Severity.PROBLEM]


def test_what_flickers_is_no_alarm_and_a_problem_waits_for_nothing():
    alarms = Alarms(patience_s=2.0)
    assert alarms.update([BEHIND], 0.0).raised == ()
    alarms.update([], 1.0)
    assert alarms.update([BEHIND], 1.5).raised == ()
    assert alarms.update([BEHIND], 3.0).raised == ()
    assert [alarm.name for alarm in alarms.update([BEHIND], 3.5).raised] == ["falling behind"]
    assert [alarm.name for alarm in alarms.update([FULL, BEHIND], 3.6).raised] == ["not storing"]
    assert alarms.update([BEHIND], 4.0).cleared == ()
    assert alarms.update([FULL, BEHIND], 5.0).raised == ()  # it had not been over
    alarms.update([BEHIND], 6.0)
    assert [alarm.name for alarm in alarms.update([BEHIND], 8.0).cleared] == ["not storing"]


def test_what_an_agent_finds_at_its_start_is_not_acquired_now():
    pace = paced((0, 0), (500, 1), (501, 2), (502, 3))
    assert pace.rates() == pytest.approx((2 / 30, 0.1))
    assert math.isnan(pace.interval_s())


def test_a_pace_without_samples_is_not_known():
    assert all(map(math.isnan, Pace().rates()))


def test_equal_paces_that_differ_by_a_section_are_falling_behind_or_not_alike():
    for analysed_per_s in (0.99, 1.0, 1.01):
        known = {"waiting": 200, "acquired_per_s": 1.0, "analysed_per_s": analysed_per_s}
        (found,) = conditions(facts(**known))
        assert found.name == "falling behind"


def test_no_alarm_is_no_severity():
    assert worst(()) is None
    assert worst([Alarm("a", Severity.NOTICE, "b")]) == Severity.NOTICE


def paced(*counts, every_s=10.0, failed=0):
    """Counts of sections seen and ended, so long apart."""
    pace = Pace()
    for number, (seen, ended) in enumerate(counts):
        pace.sample(number * every_s, seen=seen, ended=ended, failed=failed)
    return pace


def test_rates_are_of_what_came_while_somebody_looked():
    pace = paced((1000, 0), (1002, 1), (1004, 2), (1006, 3))
    assert pace.rates() == pytest.approx((0.2, 0.1))


def test_rates_cannot_be_told_at_once():
    assert all(map(math.isnan, paced((5, 5), (6, 6)).rates()))


def test_rates_forget_what_is_long_past():
    pace = paced(*((n, n) for n in range(40)), *[(39, 39)] * 40)
    assert pace.rates() == (0.0, 0.0)


def test_the_usual_interval_is_known_after_some_sections():
    counts = [(n, n) for n in range(8)]
    assert math.isnan(paced(*counts[:5]).interval_s())
    pace = paced(*counts)
    assert pace.interval_s() == 10.0
    assert pace.quiet_s(100.0) == 30.0
    assert math.isnan(Pace().quiet_s(0.0))


def test_several_sections_at_once_have_a_share_of_the_interval_each():
    assert paced(*((4 * n, 0) for n in range(8))).interval_s() == 2.5


def test_a_quarantine_is_news_for_ten_minutes():
    pace = Pace()
    assert pace.quarantined(0.0) == 0
    for time_s, failed in ((0, 3), (10, 3), (20, 4), (100, 6)):  # three were there before
        pace.sample(float(time_s), seen=0, ended=0, failed=failed)
    assert pace.quarantined(110.0) == 3
    for time_s in range(110, 1000, 10):
        pace.sample(float(time_s), seen=0, ended=0, failed=6)
        if time_s == 650:
            assert pace.quarantined(650.0) == 2
    assert pace.quarantined(1000.0) == 0


def test_what_is_retried_is_no_news_any_more():
    pace = Pace()
    for time_s, failed in ((0, 0), (10, 2), (20, 0)):
        pace.sample(float(time_s), seen=0, ended=0, failed=failed)
    assert pace.quarantined(30.0) == 0

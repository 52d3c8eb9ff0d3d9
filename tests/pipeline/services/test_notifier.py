"""The user's own command hears of each alarm that matters, of its end, and of nothing twice."""

import sys

import msgspec
import pytest

from nanostream.config import Notify
from nanostream.records import Alarm, Severity
from nanostream_services.processes.notifier import Notifier
from tests.waiting import until

FULL = Alarm("not storing", Severity.PROBLEM, "disk\0 full", since_s=1.0)
BEHIND = Alarm("falling behind", Severity.WARNING, "9 sections wait", since_s=1.0)
BACKLOG = Alarm("backlog", Severity.NOTICE, "9 sections wait", since_s=1.0)

SCRIPT = """
import sys
with open(sys.argv[1], "a") as file:
    file.write(sys.argv[2] + "|" + sys.stdin.read() + chr(10))
"""


@pytest.fixture
def heard(tmp_path):
    """A notifier, and the lines that its command has written."""
    file = tmp_path / "heard"
    command = (sys.executable, "-c", SCRIPT, str(file))
    notifier = Notifier(Notify(command=command, every_s=100.0), session="S")

    def lines(count):
        def enough():
            written = file.read_text().splitlines() if file.exists() else []
            return written if len(written) >= count else None

        written = until(enough, f"{count} messages")
        assert len(written) == count
        return [line.split("|") for line in written]

    yield notifier, lines
    until(lambda: all(one.poll() is not None for one in notifier._running), "the commands' ends")


def test_a_beginning_and_its_end_are_sent_once_with_the_alarm(heard):
    notifier, lines = heard
    for now_s in (0.0, 0.25, 0.5):
        notifier.step([FULL, BACKLOG], now_s)
    ((text, alarm),) = lines(1)
    assert text == "nanostream S: problem: not storing: disk\\x00 full"
    assert msgspec.json.decode(alarm, type=Alarm) == FULL
    notifier.step([], 1.0)
    notifier.step([], 2.0)
    _, (text, alarm) = lines(2)
    assert text == "nanostream S: over: not storing"
    assert msgspec.json.decode(alarm, type=Alarm).cleared_s is not None


def test_what_comes_again_soon_is_sent_when_it_is_due_if_it_lasts(heard):
    notifier, lines = heard
    notifier.step([FULL], 0.0)
    lines(1)
    notifier.step([], 10.0)
    lines(2)
    notifier.step([FULL], 20.0)
    notifier.step([], 30.0)  # it was not sent, so its end is not, either
    notifier.step([FULL], 40.0)
    notifier.step([FULL], 99.0)
    lines(2)
    notifier.step([FULL], 100.0)
    assert "not storing" in lines(3)[2][0]


def test_what_becomes_worse_is_sent_at_once(heard):
    notifier, lines = heard
    notifier.step([BEHIND], 0.0)
    lines(1)
    notifier.step([msgspec.structs.replace(BEHIND, severity=Severity.PROBLEM)], 1.0)
    assert "problem: falling behind" in lines(2)[1][0]


def test_a_command_that_is_not_there_stops_nothing(caplog):
    notifier = Notifier(Notify(command=("/no/such/program",)))
    notifier.step([FULL], 0.0)
    assert "cannot be started: No such file" in caplog.text

"""Ctrl-C: what waits is left to the next start, or finished first, by choice."""

import signal
import sys
from contextlib import contextmanager

import pytest

from nanostream.acquisition.simulator import DemoMicrograph, demo_movie, play
from tests.pipeline.running import RunningSession, nanostream

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
]

BACKLOG = 12  # seconds of work: more than a process takes to hear of its end


def save(running, count, name, *, side=256):
    images = [pixels for pixels, _ in demo_movie(1, shape=(side, side), seed=7)] * count
    pixel_size_nm = DemoMicrograph.load().pixel_size_nm
    play(images, running.watch, interval_s=0.0, name=name, mdoc=False, pixel_size_nm=pixel_size_nm)


@contextmanager
def a_backlog(running):
    """Sections that wait as long as the worker stands still: Ctrl-C comes in the middle."""
    save(running, 1, "first")
    running.wait_for_stored(1)  # all are at work
    with running.standing_still("worker"):
        save(running, BACKLOG, "more", side=1024)
        running.wait_until(lambda: running.found() >= BACKLOG, "the backlog")
        yield


def log(running, role):
    return (running.out / "logs" / f"{role}.log").read_text()


def test_a_session_that_drains_finishes_what_was_acquired_and_takes_nothing_new(tmp_path):
    with RunningSession(tmp_path, "--drain") as running:
        with a_backlog(running):
            running.process.send_signal(signal.SIGINT)
            running.wait_until(lambda: "finished first" in log(running, "agent"), "the word")
            save(running, 1, "late")
        assert running.end() == 130
    stored = running.session.sections["path"].value_counts().to_dict()
    assert stored == {"first.mrc": 1, "more.mrc": BACKLOG}
    assert "are left" not in running.output


def test_a_second_ctrl_c_leaves_what_waits_and_the_next_start_goes_on(tmp_path):
    with RunningSession(tmp_path, "--drain") as running:
        with a_backlog(running):
            running.process.send_signal(signal.SIGINT)
            running.wait_until(lambda: "finished first" in log(running, "agent"), "the word")
            running.process.send_signal(signal.SIGINT)
        assert running.end() == 130
    left = 1 + BACKLOG - running.stored()
    assert left > 0
    assert f"{left} sections are left" in running.output
    with RunningSession(tmp_path, "--stop-when-idle", 1) as running:
        assert running.end() == 0
    done = nanostream("verify", running.out, "--watch", running.watch)
    assert done.returncode == 0, done.stdout
    assert "complete: every section" in done.stdout


def test_a_session_that_does_not_drain_leaves_what_waits(tmp_path):
    with RunningSession(tmp_path) as running:
        with a_backlog(running):
            running.process.send_signal(signal.SIGINT)
        assert running.end() == 130
    assert "sections are left" in running.output
    assert "finished first" not in log(running, "agent")

"""Faults around a real session: shares, readers, names and workers that come and go."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from nanostream.acquisition.simulator import DemoMicrograph, StackWriter, demo_movie, play
from tests.pipeline.running import RunningSession, nanostream
from tests.waiting import PATIENCE_S

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc, renames folders"),
]

PIXEL_SIZE_NM = DemoMicrograph.load().pixel_size_nm
QUICK = "[watch]\npoll_s = 0.2\n[delivery]\nheartbeat_s = 0.5\nsilent_s = 3.0\nresend_s = 2.0\n"


def save(running, count, name="session", *, side=256, kind="single"):
    """Sections at once, as fast as the disk takes them."""
    images = [pixels for pixels, _ in demo_movie(count, shape=(side, side), seed=7)]
    play(
        images,
        running.watch,
        interval_s=0.0,
        name=name,
        kind=kind,
        mdoc=False,
        pixel_size_nm=PIXEL_SIZE_NM,
    )


def log(running, role):
    path = running.out / "logs" / f"{role}.log"
    return path.read_text() if path.exists() else ""


def wait_for_words(running, role, text, count=1):
    running.wait_until(lambda: log(running, role).count(text) >= count, f"{text!r} of the {role}")


def said_of(running, process, words):
    """How often the agent said something of a worker, known by its process id and more."""
    return len(re.findall(rf"-{process.pid}-\w+ {words}", log(running, "agent")))


def in_ledger(running, state):
    ledger = running.out / "ledger.db"
    if not ledger.exists():
        return 0
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as db:
        try:
            query = "SELECT count(*) FROM sections WHERE state = ?"
            return int(db.execute(query, (state,)).fetchone()[0])
        except sqlite3.OperationalError:  # not made yet
            return 0


def all_is_stored_once(running, sections):
    done = nanostream("verify", running.out, "--watch", running.watch, "--json")
    found = json.loads(done.stdout)
    assert (found["acquired"], found["stored"]) == (sections, sections), found
    assert (found["quarantined"], found["missing"], found["doubled"]) == ([], [], []), found
    assert done.returncode == 0


def test_a_share_that_is_away_for_9_s_while_sections_wait_costs_none(tmp_path):
    with RunningSession(tmp_path, config=QUICK + "retry_s = 0.5\n") as running:
        save(running, 1, "first")
        running.wait_for_stored(1)  # the worker is at work
        save(running, 24, "more", side=1024)
        running.wait_until(lambda: in_ledger(running, "found") >= 20, "20 waiting sections")
        away = running.watch.rename(tmp_path / "away")
        wait_for_words(running, "agent", "cannot be reached")
        stored_before = running.stored()
        assert stored_before < 10
        time.sleep(9.0)  # that long; three attempts 0.5 s and 1 s apart would be over
        assert in_ledger(running, "quarantined") == 0
        away.rename(running.watch)
        wait_for_words(running, "agent", "is back")
        running.wait_for_stored(25)
        assert running.stop() == 130
    all_is_stored_once(running, 25)
    assert "failed: cannot be read" not in log(running, "agent")


def test_a_plain_session_whose_reader_goes_away_goes_on_storing(tmp_path):
    with RunningSession(tmp_path, config=QUICK) as running:
        save(running, 1, "first")
        running.wait_for_stored(1)
        stdout, running.process.stdout = running.process.stdout, None
        assert stdout.readline()  # the dashboard is there
        stdout.close()
        save(running, 8, "more")
        running.wait_for_stored(9)
        wait_for_words(running, "dashboard", "nobody reads it any more")
        save(running, 1, "last")
        running.wait_for_stored(10)
        assert running.process.poll() is None
        running.stop()
    all_is_stored_once(running, 10)
    assert "dashboard ended" not in log(running, "run")  # not missed


def test_an_agent_killed_while_the_folder_is_away_comes_back_with_it(tmp_path):
    with RunningSession(tmp_path, config=QUICK) as running:
        save(running, 3, "before")
        running.wait_for_stored(3)
        away = running.watch.rename(tmp_path / "away")
        wait_for_words(running, "agent", "cannot be reached")
        running.kill("agent")
        wait_for_words(running, "run", "agent ended with code 2", count=2)
        away.rename(running.watch)
        save(running, 3, "after")
        running.wait_for_stored(6)
        assert running.stop() == 130
    all_is_stored_once(running, 6)


def test_names_that_cannot_be_watched_stop_nothing(tmp_path):
    with RunningSession(tmp_path, "--stop-when-idle", 2, config=QUICK) as running:
        (running.watch / "loop.mrc").symlink_to("loop.mrc")
        (running.watch / "circle").symlink_to(running.watch, target_is_directory=True)
        bad = os.fsdecode(b"gold\xff.mrc")
        with StackWriter(running.watch / bad, mdoc=False) as stack:
            stack.append(next(demo_movie(1, shape=(256, 256), seed=1))[0])
        save(running, 3)
        running.wait_for_stored(3)
        assert running.end() == 0
    assert log(running, "agent").count("rename the file") == 1
    assert running.session.sections["path"].tolist() == [f"session_{n:04}.mrc" for n in (1, 2, 3)]
    # What could not be watched is named, not passed over.
    found = nanostream("verify", running.out, "--watch", running.watch, "--json")
    assert json.loads(found.stdout)["stored"] == 3
    assert "Traceback" not in found.stderr


@pytest.fixture
def second_worker():
    """``nanostream worker`` started by hand beside a session."""
    processes = []

    def start(running):
        config = running.out / "config.json"
        running.wait_until(config.exists, "the session's configuration")
        with (running.out / "logs" / "by-hand.log").open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "nanostream_services", "worker", "--config", str(config)],
                stdout=file,
                stderr=file,
            )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()


def test_two_workers_one_killed_again_and_again_one_stopped_for_a_while(tmp_path, second_worker):
    # A kill lays one attempt at the door of what was being computed, three would end it.
    config = QUICK + "attempts = 10\nretry_s = 0.2\n"
    with RunningSession(tmp_path, config=config) as running:
        other = second_worker(running)
        running.wait_for_ready("worker", 2)
        save(running, 12, "first", side=1024)
        running.wait_for_stored(2)
        for _ in range(2):  # at work, then while it loads the network
            running.kill("worker")
        running.wait_for_stored(12)  # by the other one
        wait_for_words(running, "agent", "is here", count=3)
        save(running, 16, "second", side=1024)
        running.wait_for_stored(14)
        other.send_signal(signal.SIGSTOP)
        assert running.stored() < 28
        running.wait_until(lambda: said_of(running, other, "was silent") >= 1, "the silence")
        running.wait_for_stored(28)  # by the one that was brought up
        other.send_signal(signal.SIGCONT)
        running.wait_until(lambda: said_of(running, other, "is here") == 2, "its return")
        save(running, 4, "third")
        running.wait_for_stored(32)
        assert other.poll() is None
        assert running.stop() == 130
    all_is_stored_once(running, 32)

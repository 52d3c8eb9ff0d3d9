"""A disk that is really full: a small tmpfs, filled and emptied again."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from typing import Any

import pytest

import nanostream as ns
from nanostream.acquisition.simulator import DemoMicrograph, demo_movie, play
from nanostream.results.verification import verify
from tests.pipeline.running import RunningSession, nanostream

pytestmark = [
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small disk needs root"
    ),
]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 24 MB for the session; the test is skipped where mounting is forbidden."""
    folder = tmp_path / "session"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a small disk: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_database_that_somebody_locks_is_waited_for(tmp_path):
    images = [pixels for pixels, _ in demo_movie(6, shape=(512, 512), seed=5)]
    options: dict[str, Any] = {
        "interval_s": 0.0,
        "pixel_size_nm": DemoMicrograph.load().pixel_size_nm,
    }
    with RunningSession(tmp_path, config="[delivery]\nresend_s = 1.0\n") as running:
        play(images[:1], running.watch, name="first", **options)
        running.wait_for_stored(1)
        with closing(sqlite3.connect(running.out / "session.db", isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")  # as a database browser does, forgotten over lunch
            play(images[1:], running.watch, name="second", **options)
            running.wait_until(
                lambda: "another program has it open" in running.logs(), "a clear word"
            )
            assert running.stored() == 1
            db.execute("ROLLBACK")
        running.wait_for_stored(6)
        running.stop()
    done = nanostream("verify", running.out, "--watch", running.watch)
    assert done.returncode == 0, done.stdout


def test_work_stops_in_order_on_a_full_disk_and_goes_on_when_there_is_room(tmp_path, small_disk):
    images = [pixels for pixels, _ in demo_movie(16, shape=(512, 512), seed=5)]
    pixel_size_nm = DemoMicrograph.load().pixel_size_nm
    config = "[delivery]\nresend_s = 1.0\nheartbeat_s = 0.5\nsilent_s = 4.0\n"
    with RunningSession(tmp_path, config=config) as running:
        options: dict[str, Any] = {"interval_s": 0.2, "pixel_size_nm": pixel_size_nm}
        play(images[:6], running.watch, name="first", **options)
        running.wait_for_stored(6)
        agent = running.pid("agent")

        ballast = small_disk / "ballast"
        # Filled to the last byte.
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 4096)
        writer = threading.Thread(
            target=play, args=(images[6:], running.watch), kwargs={"name": "second", **options}
        )
        writer.start()
        writer.join()
        running.wait_until(
            lambda: "No space left" in running.logs() or "full" in running.logs(), "a clear word"
        )
        told = nanostream("status", running.out)
        assert told.returncode == 3, told.stdout
        assert "problem: not storing: " in told.stdout
        running.wait_until(
            lambda: "disk filling" in nanostream("status", running.out).stdout, "its cause"
        )
        during = ns.open_session(running.out)
        assert verify(during).damaged == ()
        assert "second.mrc#9" not in during.section_ids()

        ballast.unlink()
        running.wait_for_stored(16)
        running.wait_until(
            lambda: "not storing" not in nanostream("status", running.out).stdout, "the alarm's end"
        )
        assert running.pid("agent") == agent  # it waited; nobody had to start it again
        running.stop()
    done = nanostream("verify", running.out, "--watch", running.watch)
    assert done.returncode == 0, done.stdout
    assert running.session.quarantine.empty

"""A real session that is told what to watch."""

import json
import shutil
import sys

import numpy as np
import pytest

from nanostream.acquisition.simulator import StackWriter, demo_movie
from tests.pipeline.running import RunningSession, nanostream

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="a watched folder cannot be renamed there"),
]

QUICK = "[delivery]\nheartbeat_s = 0.5\nsilent_s = 3.0\nresend_s = 2.0\n[watch]\npoll_s = 0.2\n"


def images(count):
    return [pixels for pixels, _ in demo_movie(count, shape=(256, 256), seed=3)]


def write(path, count):
    path.parent.mkdir(exist_ok=True)
    with StackWriter(path, mdoc=False) as stack:
        for pixels in images(count):
            stack.append(pixels)


def verified(running):
    done = nanostream("verify", running.out, "--watch", running.watch, "--json")
    return done.returncode, json.loads(done.stdout)


def test_a_session_that_leaves_alone_what_was_there_is_complete_without_it(tmp_path):
    (tmp_path / "microscope").mkdir()
    write(tmp_path / "microscope" / "old.mrc", 3)
    grows = StackWriter(tmp_path / "microscope" / "grows.mrc", mdoc=False)
    with grows, RunningSession(tmp_path, config=QUICK + 'start = "only-new"\n') as running:
        log = running.out / "logs" / "agent.log"
        running.wait_until(lambda: log.exists() and "left alone" in log.read_text(), "the word")
        for pixels in images(2):
            grows.append(pixels)
        running.kill("agent")
        write(running.watch / "new.mrc", 1)
        running.wait_for_stored(3)
        assert running.stop() == 130
    code, found = verified(running)
    assert (code, found["acquired"], found["stored"], found["passed_over"]) == (0, 3, 3, 3)
    assert set(running.session.sections["path"]) == {"grows.mrc", "new.mrc"}


def test_a_folder_that_is_deleted_and_made_again_is_watched_on(tmp_path):
    config = QUICK.replace("poll_s = 0.2", "poll_s = 2.0")
    with RunningSession(tmp_path, config=config) as running:
        write(running.watch / "day1" / "a.mrc", 1)
        running.wait_for_stored(1)
        shutil.rmtree(running.watch)
        write(running.watch / "b.mrc", 1)
        write(running.watch / "day1" / "c.mrc", 2)
        running.wait_for_stored(4)
        running.wait_until(
            lambda: any("listening there again" in text for text in running.session.events["text"]),
            "the word in the session's events",
        )
        write(running.watch / "day2" / "d.mrc", 1)
        running.wait_for_stored(5)
        assert running.stop() == 130
    assert np.isin(["b.mrc", "day1/c.mrc", "day2/d.mrc"], running.session.sections["path"]).all()

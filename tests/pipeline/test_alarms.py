"""Each alarm by its real cause in a running session: raised, told by `status`, and cleared."""

import json
import os
import signal
import sys
from typing import Any

import pytest

from nanostream.acquisition.simulator import DemoMicrograph, demo_movie, play
from tests.pipeline.running import RunningSession, nanostream

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are stopped by signals")

QUICK = "[delivery]\nresend_s = 1.0\nheartbeat_s = 0.5\nsilent_s = 4.0\n"


def status(running):
    """Exit code and answer of `nanostream status`."""
    done = nanostream("status", running.out, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def wait_for(running, name, *, code=None):
    """Wait until an alarm is raised; the alarm."""
    found: list[Any] = []

    def raised():
        returned, told = status(running)
        found[:] = [alarm for alarm in told["alarms"] if alarm["name"] == name]
        assert not found or code is None or returned == code, told
        return bool(found)

    running.wait_until(raised, f"the alarm {name!r}")
    return found[0]


def wait_until_over(running, name):
    running.wait_until(
        lambda: name not in {alarm["name"] for alarm in status(running)[1]["alarms"]},
        f"the end of {name!r}",
    )


def micrographs(count, seed=5):
    return [pixels for pixels, _ in demo_movie(count, shape=(512, 512), seed=seed)]


OPTIONS: dict[str, Any] = {
    "interval_s": 0.0,
    "pixel_size_nm": DemoMicrograph.load().pixel_size_nm,
}


def test_what_is_wrong_with_a_session_is_told_as_long_as_it_lasts(tmp_path):
    heard = tmp_path / "heard"
    notify = [sys.executable, "-c", "import sys; open(sys.argv[1], 'a').write(sys.argv[2] + '\\n')"]
    config = f"{QUICK}[notify]\ncommand = {json.dumps([*notify, str(heard)])}\nevery_s = 1.0\n"
    with RunningSession(tmp_path, config=config) as running:
        play(micrographs(2), running.watch, name="first", **OPTIONS)
        running.wait_for_stored(2)
        assert status(running)[0] == 0

        # The watched folder goes, as a share does, and comes back.
        running.watch.rename(tmp_path / "elsewhere")
        alarm = wait_for(running, "folder away", code=3)
        assert str(running.watch) in alarm["text"]
        (tmp_path / "elsewhere").rename(running.watch)
        wait_until_over(running, "folder away")

        # A worker that stands still, and goes on.
        with running.standing_still("worker"):
            assert wait_for(running, "worker silent")["advice"]
        wait_until_over(running, "worker silent")

        # A worker that is killed: the supervisor saw it.
        running.kill("worker")
        assert "restart in" in wait_for(running, "worker crashed", code=3)["text"]
        wait_until_over(running, "worker crashed")

        # The tables are moved away under the running session.
        (running.out / "session.db").rename(tmp_path / "moved.db")
        assert "session.db is not there" in wait_for(running, "session damaged", code=3)["text"]
        (tmp_path / "moved.db").rename(running.out / "session.db")
        wait_until_over(running, "session damaged")

        # A mask is removed for good: that is no condition that passes.
        min((running.out / "masks").rglob("*.h5")).unlink()
        assert "was removed" in wait_for(running, "session damaged", code=3)["text"]

        running.wait_until(heard.exists, "the user's command")
        assert "problem: folder away: " in heard.read_text()
        assert "over: folder away" in heard.read_text()
        kept = running.session.alarms
        assert {"folder away", "worker silent", "worker crashed", "session damaged"} <= set(
            kept.name
        )
        running.stop()
    assert "problem: folder away: " in running.output
    done = nanostream("status", running.out)
    assert done.returncode == 4
    assert "not running: 2 stored" in done.stdout


def test_an_acknowledged_alarm_is_shown_and_counts_no_more(tmp_path):
    with RunningSession(tmp_path, config=QUICK) as running:
        play(micrographs(1), running.watch, name="first", **OPTIONS)
        running.wait_for_stored(1)
        agent = running.pid("agent")
        assert agent is not None
        os.kill(agent, signal.SIGSTOP)
        try:
            wait_for(running, "agent silent")
            running.wait_until(lambda: status(running)[0] == 3, "a problem")
            done = nanostream("status", running.out, "--acknowledge")
            assert done.returncode == 0, done.stdout
            running.wait_until(lambda: status(running)[0] == 0, "the acknowledgement")
            (alarm,) = status(running)[1]["alarms"]
            assert alarm["acknowledged"]
        finally:
            os.kill(agent, signal.SIGCONT)
        wait_until_over(running, "agent silent")
        running.stop()


def test_a_limit_of_ones_own_is_an_alarm(tmp_path):
    config = f'{QUICK}[[alarms]]\nquantity = "median_diameter_nm"\nabove = 0.1\nsections = 2\n'
    with RunningSession(tmp_path, config=config) as running:
        play(micrographs(1), running.watch, name="first", **OPTIONS)
        running.wait_for_stored(1)
        assert status(running)[1]["alarms"] == []
        play(micrographs(1, seed=6), running.watch, name="second", **OPTIONS)
        alarm = wait_for(running, "median diameter nm", code=1)
        assert "above the limit of 0.1" in alarm["text"]
        running.stop()

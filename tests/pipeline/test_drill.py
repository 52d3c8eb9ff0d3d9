"""The fault drill as a user starts it."""

import re
import signal

from tests.pipeline.running import nanostream

FAULTS = [
    "the worker is killed",
    "the agent is killed",
    "the sink is killed",
    "the worker's connections are cut",
    "two files are torn",
    "the disk is full",
    *(["the worker cannot be reached"] if hasattr(signal, "SIGSTOP") else []),
]


def test_a_drill_overcomes_every_fault_and_ends_with_all_sections_stored(tmp_path):
    done = nanostream("drill", "--out", tmp_path / "drill")
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line.partition(": stored again")[0] for line in done.stdout.splitlines()]
    assert said[1 : len(FAULTS) + 1] == FAULTS
    log = (tmp_path / "drill" / "session" / "logs" / "agent.log").read_text()
    # Killed, cut off, stopped: each time the agent missed it.
    missed = re.findall(r"worker \S+ (?:was silent|cannot be reached)", log)
    assert len(missed) >= sum("worker" in fault for fault in FAULTS)

"""A small kill matrix; the whole one is a command of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import LONGEST_S

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "kill_matrix.py"


@pytest.mark.skipif(sys.platform == "win32", reason="kills by SIGKILL")
def test_processes_killed_at_the_edges_of_their_work_lose_double_and_tear_nothing():
    command = [
        sys.executable,
        str(SCRIPT),
        "--sections",
        "120",
        "--kills",
        "6",
        "--probability",
        "0.01",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost 0, doubled 0" in done.stdout

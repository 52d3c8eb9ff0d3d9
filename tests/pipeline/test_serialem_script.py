"""The script for SerialEM's Python as SerialEM starts it, a process that asks the query port."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zmq

SCRIPTS = Path(__file__).parents[2] / "configs" / "serialem"
STUB = """
from pathlib import Path
def __getattr__(name):
    def call(*_):
        with (Path(__file__).parent / "calls.log").open("a") as log:
            log.write(name + chr(10))
        return 0
    return call
"""


@pytest.mark.parametrize("words", [["gold.mrc", "0"], [], ["/unknown"], ["/a", "/b"]])
def test_the_python_script_only_asks_where_it_is_given_a_file_and_a_section(tmp_path, words):
    (tmp_path / "serialem.py").write_text(STUB)
    with zmq.Context() as context, context.socket(zmq.REP) as sink:
        port = sink.bind_to_random_port("tcp://127.0.0.1")
        text = (SCRIPTS / "nanostream_wait.py").read_text("ascii").replace("5773", str(port))
        (tmp_path / "script.py").write_text(text)
        process = subprocess.Popen([sys.executable, tmp_path / "script.py", *words])
        while process.poll() is None:
            if sink.poll(50):
                asked: Any = sink.recv_json()
                sink.send_json({"status": "fail", "reason": "x", "id": "1", "z": asked["z"]})
    log = tmp_path / "calls.log"
    calls = log.read_text().split() if log.exists() else []
    assert ("Record" in calls) == (words != ["gold.mrc", "0"])
    assert process.returncode == (0 if calls else 1)

"""A process of the pipeline is started with what it needs and no more; what it says is kept."""

import subprocess
import sys

import pytest

COMMAND_LINE = {"nanostream_services.cli", "typer", "rich"}
#: Of these each takes a tenth of a second or more, TensorFlow some.
TABLES, HEAVY = {"pandas", "scipy"}, {"tensorflow", "keras", "onnx", "onnxruntime"}


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("nanostream_services.supervisor", TABLES | HEAVY | {"h5py", "cv2"}),
        ("nanostream_services.processes.agent", TABLES | HEAVY | COMMAND_LINE | {"h5py"}),
        ("nanostream_services.processes.sink", TABLES | HEAVY | COMMAND_LINE),
        ("nanostream_services.processes.worker", TABLES | HEAVY | COMMAND_LINE | {"cv2"}),
        (
            "nanostream_services.__main__",
            TABLES | HEAVY | COMMAND_LINE | {"h5py", "cv2", "zmq"},
        ),
        ("nanostream_services.cli", TABLES | HEAVY | {"h5py", "cv2", "zmq"}),
    ],
)
def test_a_start_does_not_wait_for_what_is_not_needed_until_there_is_work(module, never):
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert never & set(done.stdout.split()) == set()


def test_a_wrong_configuration_is_one_line_and_exit_code_2(tmp_path):
    file = tmp_path / "wrong.toml"
    file.write_text("[delivery]\nslots = 0\n")
    command = [sys.executable, "-m", "nanostream_services", "sink", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("nanostream: ")
    assert "slots" in done.stderr
    assert "Traceback" not in done.stderr


LED_ELSEWHERE = """
import logging, os
from nanostream_services.processes.logs import start_log
start_log()
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # as while TensorFlow is imported
logging.warning("the sink was restarted")
"""


def test_what_is_logged_while_standard_error_is_led_elsewhere_is_not_lost():
    command = [sys.executable, "-c", LED_ELSEWHERE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.endswith("the sink was restarted\n")

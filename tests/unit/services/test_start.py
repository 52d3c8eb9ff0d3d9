"""A process of the pipeline is started with what it needs and no more."""

import subprocess
import sys
from pathlib import Path

import pytest

from nanostream_services.cli import app
from nanostream_services.processes.roles import ROLES, Order

COMMAND_LINE = {"nanostream_services.cli", "typer", "rich"}
#: Of these each takes a tenth of a second or more, TensorFlow some.
TABLES, HEAVY = {"pandas", "scipy"}, {"tensorflow", "keras"}


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("nanostream_services.supervisor", TABLES | HEAVY | {"h5py", "cv2"}),
        ("nanostream_services.processes.agent", TABLES | HEAVY | COMMAND_LINE | {"h5py"}),
        ("nanostream_services.processes.sink", TABLES | HEAVY | COMMAND_LINE),
        ("nanostream_services.processes.worker", TABLES | HEAVY | COMMAND_LINE | {"cv2"}),
        (
            "nanostream_services.processes.roles",
            TABLES | HEAVY | COMMAND_LINE | {"h5py", "cv2", "zmq"},
        ),
        ("nanostream_services.cli", TABLES | HEAVY | {"h5py", "cv2", "zmq"}),
    ],
)
def test_a_start_does_not_wait_for_what_is_not_needed_until_there_is_work(module, never):
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert never & set(done.stdout.split()) == set()


F = Path("F")


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        ("agent", Order("agent")),
        ("sink --config F", Order("sink", F)),
        ("worker --config F --with-parent", Order("worker", F, with_parent=True)),
        ("dashboard --plain --config F", Order("dashboard", F, plain=True)),
        ("agent --plain", None),
        ("agent --config", None),
        ("agent F", None),
        ("agent --help", None),
        ("--version", None),
        ("run F --out G", None),
        ("", None),
    ],
)
def test_only_a_plain_order_for_one_process_goes_past_the_command_line(arguments, order):
    assert Order.of(arguments.split()) == order


@pytest.mark.parametrize("role", ROLES)
def test_the_command_line_orders_the_same_as_goes_past_it(role, monkeypatch):
    orders = []
    monkeypatch.setattr("nanostream_services.cli.serve", orders.append)
    arguments = [role, "--with-parent", "--config", "F"]
    app(arguments, standalone_mode=False)
    assert orders == [Order.of(arguments)]


def test_a_wrong_configuration_is_one_line_and_exit_code_2(tmp_path):
    file = tmp_path / "wrong.toml"
    file.write_text("[delivery]\nslots = 0\n")
    command = [sys.executable, "-m", "nanostream_services", "sink", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("nanostream: ")
    assert "slots" in done.stderr
    assert "Traceback" not in done.stderr

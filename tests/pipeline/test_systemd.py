"""The systemd unit is one that systemd takes, for each of the three processes."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import LONGEST_S

UNIT = Path(__file__).resolve().parents[2] / "configs" / "systemd" / "nanostream@.service"
PROGRAM = "/opt/nanostream/bin/nanostream"


def test_it_is_always_started_again_and_writes_in_its_own_folder_only():
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign,assignment]  # as its manual says
    unit.read(UNIT, encoding="utf-8")
    service = unit["Service"]
    assert service["Restart"] == "always"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert service["ProtectSystem"] == "strict"
    assert service["NoNewPrivileges"] == "yes"
    assert service["User"] == service["StateDirectory"] == "nanostream"
    assert not {"ReadWritePaths", "PrivateDevices", "MemoryDenyWriteExecute"} & set(service)


def test_its_command_is_one_of_nanostreams():
    line = next(line for line in UNIT.read_text().splitlines() if line.startswith("ExecStart="))
    command = line.removeprefix("ExecStart=").split()
    assert command[0] == PROGRAM
    for role in ("agent", "worker", "sink"):
        arguments = [word.replace("%i", role) for word in command[1:]]
        done = subprocess.run(
            [sys.executable, "-m", "nanostream_services", *arguments],
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
        # Its file is not there; the command line itself is understood.
        assert done.returncode == 2
        assert done.stderr.startswith("nanostream: configuration /etc/nanostream/microscope.toml")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("role", ["agent", "worker", "sink"])
def test_systemd_finds_nothing_wrong_with_it(tmp_path, role):
    program = tmp_path / "nanostream"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / UNIT.name).write_text(UNIT.read_text().replace(PROGRAM, str(program)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", f"./nanostream@{role}.service"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert UNIT.name not in done.stderr
    assert "nanostream@" not in done.stderr

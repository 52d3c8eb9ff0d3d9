"""The doctor as its user sees it, and what needs other processes to be found."""

import json
import os
import subprocess
import sys

import pytest

from nanostream.config import load_config
from nanostream.transport.keys import trust
from nanostream.transport.sockets import free_network
from nanostream_services import doctor
from tests.pipeline.running import nanostream
from tests.waiting import PATIENCE_S, until


def written(folder, text=""):
    file = folder / "microscope.toml"
    ports = "\n".join(f"{key} = {port}" for key, port in free_network().items())
    file.write_text(f"{text}\n[network]\n{ports}\n")
    return file


def test_a_good_machine_has_no_problem_and_a_section_goes_through_its_chain(tmp_path):
    (tmp_path / "data").mkdir()
    text = "[watch]\ndirectory = 'data'\n[sink]\nsession = 'session'"
    file = written(tmp_path, text)
    done = nanostream("doctor", "--json", "--config", file)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert found["whole chain"]["state"] == "ok"
    assert "predict" in found["its steps"]["text"]
    assert {path.name for path in tmp_path.iterdir()} == {"data", "microscope.toml"}
    assert list((tmp_path / "data").iterdir()) == []


def test_a_problem_is_told_in_80_columns_with_what_to_do_and_exits_with_1(tmp_path):
    (tmp_path / "session").mkdir()
    (tmp_path / "session" / "thesis.tex").write_text("")
    file = written(tmp_path, "[sink]\nsession = 'session'")
    done = nanostream("doctor", "--config", file, "--role", "sink")
    assert done.returncode == 1, done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "problem session folder" in done.stdout
    assert "-> give a new folder" in done.stdout
    assert done.stdout.endswith("1 problem, 0 warnings\n")


def test_a_device_that_is_not_there_is_a_problem(tmp_path):
    file = written(tmp_path, "[worker]\ndevice = 'gpu:7'")
    (found,) = doctor.check_device(load_config(file), "worker")
    assert found.state == "problem"
    assert "gpu:7" in found.text


@pytest.mark.skipif(os.name != "posix", reason="the sink is stopped by SIGTERM")
def test_keys_that_do_not_fit_are_found_before_a_session_needs_them(tmp_path):
    """A sink that trusts the camera PC: its agent's handshake succeeds, a stranger's does not."""
    keys = {name: tmp_path / name for name in ("gpu-box", "camera-pc", "stranger")}
    for folder in keys.values():
        assert nanostream("keys", "create", folder).returncode == 0
    trust(keys["gpu-box"], "camera-pc", keys["camera-pc"] / "own.public")
    for name in ("camera-pc", "stranger"):
        trust(keys[name], "gpu-box", keys["gpu-box"] / "own.public")
        trust(keys[name], "other-box", keys["stranger"] / "own.public")
    text = written(tmp_path).read_text()

    def config(name, server):
        file = tmp_path / f"{name}-{server}.toml"
        file.write_text(
            f"{text}keys = '{keys[name]}'\nresults_server = '{server}'\n[sink]\nsession = 'session'"
        )
        return file

    sink = subprocess.Popen(
        [sys.executable, "-m", "nanostream_services", "sink", "--config", config("gpu-box", "")]
    )

    def results(name, server):
        found = doctor.check_ports(load_config(config(name, server)), "agent")
        return next(finding for finding in found if finding.check == "results port")

    try:
        found = []

        def it_answers():
            found.append(results("camera-pc", "gpu-box"))
            return found[-1].state != "warning"

        until(it_answers, "the sink", seen=lambda: found[-1:])
        fitting = found[-1]
        untrusted = results("stranger", "gpu-box")
        another = results("camera-pc", "other-box")
    finally:
        sink.terminate()
        sink.wait(PATIENCE_S)
    assert fitting.state == "ok"
    assert untrusted.state == "problem"
    assert "does not trust this machine's key" in untrusted.text
    assert another.state == "problem"
    assert "nanostream keys allow" in another.advice

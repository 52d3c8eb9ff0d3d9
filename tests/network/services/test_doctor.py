"""Each check of the doctor's finds what is wrong, says what to do, and leaves nothing behind."""

import os
import re
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from nanostream.acquisition.simulator import StackWriter, demo_movie
from nanostream.config import Config, Feedback, Network, Sink, Watch, Worker
from nanostream.records import Snapshot
from nanostream.transport.keys import create_keys, trust
from nanostream.transport.sockets import Publisher, Server, new_key_pair
from nanostream_services import doctor
from nanostream_services.processes.lifecycle import Stop
from tests.factories import a_network


@pytest.fixture
def watched(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def saved(folder, *, pixel_size_nm=0.03, name="gold.mrc"):
    with StackWriter(folder / name, pixel_size_nm=pixel_size_nm) as stack:
        for pixels, _ in demo_movie(2, shape=(64, 64), seed=1):
            stack.append(pixels)


def states(findings):
    return {finding.check: finding.state for finding in findings}


def everything(folder):
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def test_a_watched_folder_is_listed_and_nothing_is_written_there(watched):
    saved(watched)
    before = everything(watched)
    config = Config(watch=Watch(directory=str(watched)))
    found = list(doctor.check_watched(config, "agent"))
    assert states(found) == {"watched folder": "ok", "share": "ok", "newest file": "ok"}
    assert "1 micrograph," in found[0].text
    assert found[2].text == "gold.mrc, complete sections: 2"
    assert everything(watched) == before


def test_a_watched_folder_that_is_not_there_is_a_problem(tmp_path):
    config = Config(watch=Watch(directory=str(tmp_path / "absent")))
    (found,) = doctor.check_watched(config, "all")
    assert found.state == "problem"
    assert "absent is not a folder" in found.text
    assert found.advice


def test_an_agent_needs_a_folder_and_run_gets_it_from_its_argument():
    assert states(doctor.check_watched(Config(), "agent")) == {"watched folder": "problem"}
    assert states(doctor.check_watched(Config(), "all")) == {"watched folder": "skipped"}


def test_a_newest_file_that_is_no_micrograph_is_named(watched):
    (watched / "notes.mrc").write_text("not a micrograph " * 100)
    config = Config(watch=Watch(directory=str(watched)))
    found = list(doctor.check_watched(config, "agent"))[-1]
    assert found.state == "warning"
    assert "notes.mrc" in found.text


@pytest.mark.parametrize(
    ("share", "file_events", "state"),
    [
        (None, "on", "ok"),
        ("cifs", "auto", "ok"),
        ("cifs", "on", "warning"),
    ],
)
def test_a_share_is_watched_without_file_events(share, file_events, state):
    assert doctor.share_finding(Path("/data"), share, file_events).state == state


def test_a_session_on_a_share_is_a_problem():
    found = doctor.session_finding(Path("/share/session"), "nfs4")
    assert found.state == "problem"
    assert "nfs4" in found.text
    assert doctor.session_finding(Path("/session"), None).state == "ok"


def test_a_session_folder_is_tried_and_left_as_it_was(tmp_path):
    before = everything(tmp_path).keys()
    config = Config(sink=Sink(session=str(tmp_path / "new" / "session")))
    found = states(doctor.check_session(config, "sink"))
    assert found["session folder"] == "ok"
    assert "free disk" in found
    assert everything(tmp_path).keys() == before


def test_a_session_folder_that_cannot_be_made_is_a_problem(tmp_path):
    (tmp_path / "file").write_text("")
    config = Config(sink=Sink(session=str(tmp_path / "file" / "session")))
    (found,) = doctor.check_session(config, "sink")
    assert found.state == "problem"
    assert str(tmp_path / "file") in found.advice


def test_a_folder_of_something_else_is_no_session(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    (found,) = doctor.check_session(Config(sink=Sink(session=str(tmp_path))), "sink")
    assert found.state == "problem"


@pytest.mark.parametrize(
    ("free_bytes", "state"), [(5e8, "problem"), (2e10, "warning"), (1e12, "ok")]
)
def test_room_is_counted_in_days(free_bytes, state):
    found = doctor.disk_finding(int(free_bytes))
    assert found.state == state
    assert "days" in found.text


def test_free_ports_are_free():
    found = states(doctor.check_ports(Config(network=a_network()), "all"))
    assert set(found.values()) == {"ok"}
    assert set(found) == {"frames port", "results port", "snapshots port", "queries port"}


def test_a_port_that_another_program_has_is_a_problem():
    network = a_network()
    with socket.create_server(("127.0.0.1", network.frames_port)):
        found = states(doctor.check_ports(Config(network=network), "agent"))
    assert found["frames port"] == "problem"


def test_a_port_of_a_running_session_is_said_to_be_its(tmp_path):
    network = a_network()
    publisher = Publisher(network)
    over = threading.Event()

    def publish():
        while not over.wait(0.05):
            publisher.send(Snapshot(session=str(tmp_path / "today"), time_s=0.0))

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        same = list(doctor.check_ports(Config(network=network), "sink"))
        config = Config(network=network, sink=Sink(session=str(tmp_path / "other")))
        other = list(doctor.check_ports(config, "sink"))
    finally:
        over.set()
        thread.join()
        publisher.close()
    assert states(same)["snapshots port"] == "ok"
    assert any("today" in finding.text for finding in same)
    assert states(other)["snapshots port"] == "problem"


def test_a_host_that_is_another_machines_cannot_be_bound():
    config = Config(network=Network(frames_host="192.0.2.7"))
    found = next(iter(doctor.check_ports(config, "agent")))
    assert found.state == "problem"
    assert "no address of this machine" in found.text
    assert "--role" in found.advice


def test_a_sink_that_runs_answers_the_agents_machine_and_one_that_does_not_is_named():
    network = a_network()
    config = Config(network=network)
    assert states(doctor.check_ports(config, "agent"))["results port"] == "warning"
    server = Server(network, "results", largest_bytes=1000)
    found = states(doctor.check_ports(config, "agent"))
    server.close()
    assert found["results port"] == "ok"


def with_keys(folder, *, friends=("camera-pc",), **network):
    create_keys(folder, new_key_pair())
    for name in friends:
        other = folder.parent / name
        create_keys(other, new_key_pair())
        trust(folder, name, other / "own.public")
    return Config(network=Network(keys=str(folder), **network))


def test_keys_are_not_needed_on_one_machine():
    assert states(doctor.check_keys(Config(), "all")) == {"keys": "ok"}


def test_trusted_machines_are_listed(tmp_path):
    (found,) = doctor.check_keys(with_keys(tmp_path / "keys", frames_server="camera-pc"), "worker")
    assert found.state == "ok"
    assert "camera-pc" in found.text


def test_keys_that_trust_nobody_are_a_warning(tmp_path):
    config = with_keys(tmp_path / "keys", friends=())
    assert states(doctor.check_keys(config, "sink")) == {"keys": "warning"}


def test_a_server_without_a_key_is_a_problem(tmp_path):
    config = with_keys(tmp_path / "keys", results_server="gpu-box")
    (found,) = doctor.check_keys(config, "agent")
    assert found.state == "problem"
    assert "gpu-box" in found.text


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_a_secret_that_others_can_read_is_a_problem(tmp_path):
    config = with_keys(tmp_path / "keys")
    (tmp_path / "keys" / "own.secret").chmod(0o644)
    (found,) = doctor.check_keys(config, "sink")
    assert found.state == "problem"
    assert "chmod 600" in found.text


@pytest.mark.parametrize(
    ("saved_before_s", "acquired_before_s", "state", "said"),
    [
        (600.0, 603.0, "ok", "10.0 min ago; its mdoc agrees within 3 s"),
        (600.0, None, "ok", "no mdoc"),
        (-90.0, None, "warning", "90 s from now"),
        (600.0, 600.0 - 7200.0, "warning", "2.0 h after it was saved"),
        (600.0, 600.0 + 7200.0, "warning", "2.0 h before it was saved"),
    ],
)
def test_clocks_that_differ_are_a_hint(saved_before_s, acquired_before_s, state, said):
    now_s = 1_750_000_000.0
    acquired = None
    if acquired_before_s is not None:
        acquired = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(now_s - acquired_before_s))
    found = doctor.clock_finding("a.mrc", now_s - saved_before_s, acquired, now_s=now_s)
    assert found.state == state
    assert said in found.text
    assert bool(found.advice) == (state == "warning")


def test_the_clock_is_read_from_the_newest_file(watched):
    assert list(doctor.check_clock(Config(watch=Watch(directory=str(watched))), "agent")) == []
    saved(watched)
    (found,) = doctor.check_clock(Config(watch=Watch(directory=str(watched))), "agent")
    assert found.state == "ok"
    assert "its mdoc agrees within" in found.text


@pytest.mark.parametrize("date", ["31-Feb-2024", "01-Jan-0000", "01-Jan-0001", "31-Dec-9999"])
def test_a_date_that_no_clock_shows_is_no_traceback(watched, date):
    saved(watched)
    mdoc = watched / "gold.mrc.mdoc"
    text = re.sub("DateTime = [^ ]+", f"DateTime = {date}", mdoc.read_text())
    assert date in text
    mdoc.write_text(text)
    (found,) = doctor.check_clock(Config(watch=Watch(directory=str(watched))), "agent")
    assert found.state == ("warning" if date.endswith(("0001", "9999")) else "ok")


def test_a_model_that_is_not_there_is_a_problem():
    (found,) = doctor.check_model(Config(worker=Worker(model="absent")), "worker")
    assert found.state == "problem"
    assert "default" in found.text


@pytest.mark.parametrize(("pixel_size_nm", "state"), [(0.03, "ok"), (2.0, "ok"), (20.0, "warning")])
def test_the_pixel_size_is_held_against_the_models(watched, pixel_size_nm, state):
    saved(watched, pixel_size_nm=pixel_size_nm)
    config = Config(watch=Watch(directory=str(watched)))
    assert states(doctor.check_model(config, "all")) == {"model": "ok", "pixel size": state}


def test_a_machine_without_an_engine_is_told_what_it_can_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (found,) = doctor.check_device(Config(), "all")
    assert found.state == "warning"
    assert "can run agent, sink and dashboard, not the worker" in found.text
    assert states(doctor.check_device(Config(), "worker")) == {"engine": "problem"}
    chain = states(doctor.check_chain(Config(), "all", Stop()))
    assert chain == {"whole chain": "skipped"}


def test_feedback_in_the_session_folder_needs_no_look():
    assert list(doctor.check_feedback(Config(), "sink")) == []


def test_a_feedback_folder_is_tried_unless_it_is_watched(tmp_path, watched):
    config = Config(feedback=Feedback(directory=str(tmp_path / "back")))
    assert states(doctor.check_feedback(config, "sink")) == {"feedback folder": "ok"}
    before = everything(watched)
    config = Config(
        watch=Watch(directory=str(watched)), feedback=Feedback(directory=str(watched / "back"))
    )
    assert states(doctor.check_feedback(config, "sink")) == {"feedback folder": "warning"}
    assert everything(watched) == before
    (tmp_path / "file").write_text("")
    config = Config(feedback=Feedback(directory=str(tmp_path / "file" / "back")))
    assert states(doctor.check_feedback(config, "sink")) == {"feedback folder": "problem"}


def test_a_navigator_file_that_cannot_be_read_is_a_problem(tmp_path):
    config = Config(feedback=Feedback(navigator=str(tmp_path / "absent.nav")))
    (found,) = doctor.check_feedback(config, "sink")
    assert found.state == "problem"
    assert "absent.nav" in found.text
    nav = tmp_path / "nav.nav"
    nav.write_text("AdocVersion = 2.00\n\n[Item = 1]\nType = 0\nStageXYZ = 1 2 3\n")
    config = Config(feedback=Feedback(navigator=str(nav)))
    assert states(doctor.check_feedback(config, "sink")) == {"Navigator file": "ok"}

"""The whole pipeline: real processes, real sockets, real files, the shipped network."""

import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress

import numpy as np
import pandas as pd
import pytest

import nanostream as ns
from nanostream.acquisition.simulator import DemoMicrograph, StackWriter, demo_movie, play
from nanostream.config import Network, load_config
from tests.pipeline.movie import drifting_particles, score_links
from tests.pipeline.running import RunningSession, nanostream
from tests.waiting import LONGEST_S, until

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
]

PIXEL_SIZE_NM = DemoMicrograph.load().pixel_size_nm


def micrographs(count):
    return [pixels for pixels, _ in demo_movie(count, shape=(512, 512), seed=7)]


@pytest.fixture
def saving():
    """Start SerialEM's stand-in beside the test."""
    threads = []

    def start(images, folder, interval_s, **options):
        thread = threading.Thread(
            target=play,
            args=(images, folder),
            kwargs={"interval_s": interval_s, "pixel_size_nm": PIXEL_SIZE_NM, **options},
        )
        threads.append(thread)
        thread.start()
        return thread

    yield start
    for thread in threads:
        thread.join(60)


def verified(running):
    done = nanostream("verify", running.out, "--watch", running.watch, "--json")
    return done.returncode, json.loads(done.stdout)


def test_live_and_offline_give_the_same_masks_and_tables(tmp_path, saving):
    with RunningSession(tmp_path, "--stop-when-idle", 2, "--stream", "*.mrc") as running:
        saving(micrographs(6), running.watch, 0.5)
        running.wait_for_stored(6)
        assert running.end() == 0
        assert "sections stored" in running.output
    code, found = verified(running)
    assert (code, found["acquired"], found["stored"], found["missing"]) == (0, 6, 6, [])

    stack = running.watch / "session.mrc"
    offline = tmp_path / "offline"
    done = nanostream("segment", stack, "--out", offline, "--stream", "*.mrc")
    assert done.returncode == 0, done.stderr
    live, again = running.session, ns.open_session(offline)
    for name in ("particles", "tracks", "drift"):
        pd.testing.assert_frame_equal(getattr(live, name), getattr(again, name))
    assert len(live.particles) > 6
    for section in live.sections["section"]:
        np.testing.assert_array_equal(live.labels(section), again.labels(section))
        np.testing.assert_array_equal(live.probability(section), again.probability(section))
    same = ["count", "area_fraction", "pixel_size_nm", "pixels_crc32", "labels_crc32", "threshold"]
    pd.testing.assert_frame_equal(live.sections[same], again.sections[same])
    assert live.sections["pixel_size_nm"].tolist() == pytest.approx([PIXEL_SIZE_NM] * 6, rel=1e-4)
    assert live.sections["pixel_size_source"].unique().tolist() == ["mdoc"]


def test_killed_processes_lose_and_double_nothing_in_a_session_with_keys(tmp_path, saving):
    assert nanostream("keys", "create", tmp_path / "keys").returncode == 0
    # The folder is relative to the configuration file; the table [network] is open already.
    config = 'keys = "keys"\n'
    with RunningSession(tmp_path, "--stop-when-idle", 3, config=config) as running:
        writer = saving(micrographs(30), running.watch, 0.2, mdoc=False)
        for stored, victim in ((3, "agent"), (9, "sink"), (15, "worker")):
            running.wait_for_stored(stored)
            running.kill(victim)
        writer.join()
        running.wait_for_stored(30)
        assert running.end() == 0, running.logs()
        ends = [f"the {victim} ended" for victim in ("agent", "sink", "worker")]
        assert [end for end in ends if end not in running.logs()] == []
    code, found = verified(running)
    assert (code, found["acquired"], found["stored"]) == (0, 30, 30), found
    assert (found["quarantined"], found["missing"], found["doubled"]) == ([], [], [])


def test_identities_last_through_a_movie_although_the_sink_is_killed(tmp_path, saving):
    images, truth = drifting_particles(sections=60, particles=40)
    with RunningSession(tmp_path, "--stop-when-idle", 3, "--stream", "*.mrc") as running:
        saving(list(images), running.watch, 0.15)
        running.wait_for_stored(25)
        running.kill("sink")
        running.wait_for_stored(60)
        assert running.end() == 0, running.logs()
    right = score_links(truth, running.session.tracks, radius_px=12)
    print(f"{right:.4f} of the true links are right")
    assert right >= 0.95


def test_ctrl_c_stops_cleanly_and_the_session_goes_on_where_it_stopped(tmp_path, saving):
    images = micrographs(12)
    with RunningSession(tmp_path) as running:
        saving(images[:6], running.watch, 0.1, name="first")
        running.wait_for_stored(2)
        assert running.stop() == 130
        assert "sections stored" in running.output
        assert running.pid("worker") is None
    before = running.session.sections.set_index("section")["stored_s"]
    with RunningSession(tmp_path, "--stop-when-idle", 2) as running:
        saving(images[6:], running.watch, 0.1, name="second")
        running.wait_for_stored(12)
        assert running.end() == 0
    after = running.session.sections.set_index("section")["stored_s"]
    assert len(after) == 12
    pd.testing.assert_series_equal(after[before.index], before)  # nothing was done again


def test_bad_files_are_said_and_stop_nothing_else(tmp_path, saving):
    with RunningSession(tmp_path, "--stop-when-idle", 2) as running:
        (running.watch / "notes.mrc").write_text("not a micrograph " * 100)
        (running.watch / "torn.mrc").write_bytes(b"\0" * 500)
        with StackWriter(running.watch / "flat.mrc") as flat:
            flat.append(np.zeros((64, 64), np.int16))  # shutter closed
        saving(micrographs(2), running.watch, 0.1, kind="single")
        running.wait_for_stored(3)
        assert running.end() == 0
    session = running.session
    assert sorted(session.sections["path"]) == ["flat.mrc", "session_0001.mrc", "session_0002.mrc"]
    assert "notes.mrc" in " ".join(session.events["text"])
    assert session.sections.set_index("path").loc["flat.mrc", "count"] == 0


def test_a_section_overwritten_before_it_was_read_is_quarantined_with_the_reason(tmp_path):
    images = micrographs(2)
    with RunningSession(tmp_path, config="[watch]\npoll_s = 0.1\n") as running:
        with running.before_work():
            play(images[:1], running.watch, interval_s=0.0, pixel_size_nm=PIXEL_SIZE_NM)
            running.wait_until(lambda: running.found() == 1, "the agent to see it")
            time.sleep(1.1)  # the title that tells the two files apart has whole seconds
            play(images[1:], running.watch, interval_s=0.0, pixel_size_nm=PIXEL_SIZE_NM)
        running.wait_for_stored(1)
        running.wait_until(lambda: len(running.session.quarantine) == 1, "the quarantine")
        running.stop()
    assert running.session.quarantine["section"].tolist() == ["session.mrc#0"]
    assert "written anew" in running.session.quarantine["reason"][0]
    assert running.session.sections["section"].tolist() == ["session.mrc~2#0"]


def test_a_quarantined_section_is_listed_with_its_tries_and_can_be_tried_again(tmp_path):
    image = micrographs(1)[0]
    config = "[watch]\npoll_s = 0.2\n[delivery]\nretry_s = 0.1\n"
    with RunningSession(tmp_path, config=config) as running:
        with running.before_work():
            with StackWriter(running.watch / "a.mrc", pixel_size_nm=PIXEL_SIZE_NM) as stack:
                stack.append(image)
            running.wait_until(lambda: running.found() == 1, "the agent to see it")
            (running.watch / "a.mrc").rename(running.watch / "a.away")
        running.wait_until(lambda: running.quarantined() == 1, "the quarantine")
        listed = nanostream("quarantine", "list", running.out, "--json")
        assert json.loads(listed.stdout)[0]["section"] == "a.mrc#0"
        shown = nanostream("quarantine", "show", running.out, "a.mrc#0").stdout
        assert shown.count("cannot be read") >= 3

        (running.watch / "a.away").rename(running.watch / "a.mrc")
        assert nanostream("quarantine", "retry", running.out).returncode == 0
        running.wait_for_stored(1)
        running.stop()
    assert running.session.quarantine.empty
    assert verified(running)[0] == 0
    unknown = nanostream("quarantine", "retry", running.out, "a.mrc#0")
    assert unknown.returncode == 2
    assert "not in quarantine" in unknown.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "absent-folder", "--out", "s"], "absent-folder"),
        (["segment", "absent.mrc", "--out", "s"], "absent.mrc"),
        (["verify", "absent-session"], "absent-session"),
        (["export", "absent-session", "--out", "x"], "absent-session"),
        (["models", "show", "unheard-of"], "unheard-of"),
        (["agent", "--config", "absent.toml"], "absent.toml"),
    ],
)
def test_a_users_mistake_is_one_line_and_no_traceback(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    done = nanostream(*arguments)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_session_that_nobody_gave_ports_takes_others_where_the_usual_ones_are_taken(tmp_path):
    (tmp_path / "watch").mkdir()
    play(
        [pixels for pixels, _ in demo_movie(1, shape=(256, 256), seed=5)],
        tmp_path / "watch",
        name="gold",
        interval_s=0.0,
        pixel_size_nm=0.026,
    )
    with ExitStack() as stack:

        def taken() -> bool:
            """Not by another session, which may end before this one looks."""
            with suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", Network().results_port)))
                return True
            return False

        until(taken, "the port of another session")
        done = nanostream(
            *("run", tmp_path / "watch", "--out", tmp_path / "session"),
            *("--plain", "--stop-when-idle", 0.5),
        )
    assert done.returncode == 0, done.stderr
    assert "the usual ports are taken" in done.stdout
    used = load_config(tmp_path / "session" / "config.json").network
    assert f"scripts in SerialEM need port {used.queries_port}" in done.stdout
    assert used.results_port != Network().results_port
    assert len(ns.open_session(tmp_path / "session").sections) == 1


def test_two_sessions_that_start_together_do_not_want_the_same_ports(tmp_path):
    started = []
    for name in ("one", "two"):
        (tmp_path / name / "watch").mkdir(parents=True)
        play(
            [pixels for pixels, _ in demo_movie(1, shape=(256, 256), seed=5)],
            tmp_path / name / "watch",
            name="gold",
            interval_s=0.0,
            pixel_size_nm=0.026,
        )
        words = ("run", tmp_path / name / "watch", "--out", tmp_path / name / "session", "--plain")
        started.append(
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "nanostream_services",
                    *map(str, words),
                    "--stop-when-idle",
                    "0.5",
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    said = [process.communicate(timeout=LONGEST_S)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    folders = [tmp_path / name / "session" for name in ("one", "two")]
    one, two = (load_config(folder / "config.json").network for folder in folders)
    assert not {one.frames_port, one.queries_port} & {two.frames_port, two.queries_port}


def test_a_busy_port_is_said_and_ends_the_session(tmp_path):
    with RunningSession(tmp_path / "one") as first:
        first.wait_until(lambda: first.pid("worker") is not None, "the first session")
        first.wait_for_ready("sink")
        (tmp_path / "two").mkdir()
        text = (tmp_path / "one" / "test.toml").read_text()
        (tmp_path / "two" / "same.toml").write_text(text)
        (tmp_path / "two" / "watch").mkdir()
        done = nanostream(
            "run",
            tmp_path / "two" / "watch",
            "--out",
            tmp_path / "two" / "session",
            "--config",
            tmp_path / "two" / "same.toml",
            "--plain",
        )
        first.stop()
    assert done.returncode == 2
    assert "_port" in done.stderr
    assert "Traceback" not in done.stderr

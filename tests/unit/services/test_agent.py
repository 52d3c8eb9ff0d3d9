"""What is watched and said; and an agent with a real ledger between sockets of the test."""

import itertools
import logging
import os
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from nanostream.acquisition.ledger import Ledger
from nanostream.acquisition.readiness import FileStat
from nanostream.acquisition.simulator import StackWriter
from nanostream.config import Config, Delivery, Network, Watch
from nanostream.errors import ConfigError
from nanostream.records import Frame, SectionId
from nanostream.transport import messages as m
from nanostream.transport.sockets import Client, Server, free_ports, wait
from nanostream_services import agent as agent_module
from nanostream_services import watching
from nanostream_services.agent import _Agent, run_agent
from nanostream_services.loop import Stop
from nanostream_services.watching import WatchedFolder

pytestmark = pytest.mark.timeout(60)

PATIENCE_S = 20.0
posix = pytest.mark.skipif(sys.platform == "win32", reason="names and links of POSIX")


# --- which files ---------------------------------------------------------------------------------


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 10)


def watched(root, **settings):
    return WatchedFolder(root, Watch(**settings))


def said(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_files_of_subfolders_are_named_by_their_path_with_size_and_inode(tmp_path):
    make(tmp_path, "a.mrc", "day1/b.st", "day1/night/c.map", "day1/notes.txt", "a.mrc.mdoc")
    found = watched(tmp_path).files()
    assert sorted(found) == ["a.mrc", "day1/b.st", "day1/night/c.map"]
    assert found["day1/b.st"] == FileStat.of((tmp_path / "day1" / "b.st").stat())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"include": ("movie*.mrc",)}, ["day1/movie2.mrc", "movie1.mrc"]),
        ({"include": ("day1/*",)}, ["day1/c.mrc", "day1/movie2.mrc"]),
        ({"exclude": ("movie*",)}, ["day1/c.mrc"]),
        ({"exclude": ("day1/*",)}, ["movie1.mrc"]),
        ({"include": ("*.mrc",), "exclude": ("*.mrc",)}, []),
    ],
)
def test_patterns_take_and_leave_files_by_name_or_by_path(tmp_path, settings, expected):
    make(tmp_path, "movie1.mrc", "day1/movie2.mrc", "day1/c.mrc")
    assert sorted(watched(tmp_path, **settings).files()) == expected


def test_what_serialem_moved_aside_is_not_watched(tmp_path):
    make(tmp_path, "a.mrc", "a.mrc~", "b.mrc~1")
    assert sorted(watched(tmp_path, include=("*",)).files()) == ["a.mrc", "b.mrc~1"]


@posix
def test_links_to_nowhere_and_to_themselves_hide_no_other_file(tmp_path):
    make(tmp_path, "a.mrc", "z.mrc")
    (tmp_path / "loop.mrc").symlink_to("loop.mrc")
    (tmp_path / "gone.mrc").symlink_to("absent.mrc")
    (tmp_path / "circle").symlink_to(tmp_path, target_is_directory=True)
    assert sorted(watched(tmp_path).files()) == ["a.mrc", "z.mrc"]


@posix
def test_a_linked_file_is_the_file(tmp_path):
    make(tmp_path, "elsewhere/a.mrc")
    (tmp_path / "watched").mkdir()
    (tmp_path / "watched" / "b.mrc").symlink_to(tmp_path / "elsewhere" / "a.mrc")
    assert watched(tmp_path / "watched").files()["b.mrc"].size == 10


@posix
def test_a_name_that_is_not_utf8_is_said_once_and_left(tmp_path, caplog):
    make(tmp_path, "a.mrc")
    name = os.fsdecode(b"b\xff.mrc")
    try:
        make(tmp_path, name)
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    folder = watched(tmp_path)
    for _ in range(3):
        assert sorted(folder.files()) == ["a.mrc"]
    assert len(said(caplog)) == 1
    said(caplog)[0].encode()  # can be written to a log
    assert "rename the file" in said(caplog)[0]


@posix
def test_a_name_that_no_section_may_have_is_said_once_and_left(tmp_path, caplog):
    make(tmp_path, "a.mrc", "time 10:15.mrc", "line\nbreak.mrc", "time 10:15.txt")
    folder = watched(tmp_path)
    assert sorted(folder.files()) == sorted(folder.files()) == ["a.mrc"]
    assert len(said(caplog)) == 2


def test_a_file_that_vanishes_during_the_look_hides_no_other(tmp_path):
    make(tmp_path, "a.mrc", "b.mrc", "c.mrc")

    class Vanishing(WatchedFolder):
        def wants(self, relative):
            if relative == "b.mrc":
                (self.root / relative).unlink()
            return super().wants(relative)

    assert sorted(Vanishing(tmp_path, Watch()).files()) == ["a.mrc", "c.mrc"]


def test_an_unreadable_folder_is_named_once_and_hides_no_other(tmp_path, caplog, monkeypatch):
    make(tmp_path, "a.mrc", "secret/b.mrc", "z/c.mrc")
    scandir = os.scandir

    def refuse(path):  # root, who runs tests in containers, may read everything
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(watching.os, "scandir", refuse)
    folder = watched(tmp_path)
    for _ in range(3):
        assert sorted(folder.files()) == ["a.mrc", "z/c.mrc"]
    assert len(said(caplog)) == 1
    assert "secret cannot be listed" in said(caplog)[0]


def test_a_folder_that_is_gone_has_no_files_and_is_empty(tmp_path):
    folder = watched(tmp_path / "absent")
    assert folder.files() == {}
    assert folder.is_empty()


def test_the_second_look_at_20000_files_matches_no_pattern_again(tmp_path, monkeypatch):
    for number in range(20_000):
        (tmp_path / f"{number}.{'mrc' if number % 2 else 'txt'}").touch()
    asked = itertools.count()
    matches = watching.matches

    def counted(path, patterns):
        next(asked)
        return matches(path, patterns)

    monkeypatch.setattr(watching, "matches", counted)
    folder = watched(tmp_path)
    assert len(folder.files()) == 10_000
    first = next(asked)
    assert first >= 20_000
    assert len(folder.files()) == 10_000
    assert next(asked) == first + 1  # only our own question


# --- the agent -----------------------------------------------------------------------------------


def write(path, z=1):
    with StackWriter(path, mdoc=False) as stack:
        for number in range(z):
            stack.append(np.full((16, 16), number + 1, np.int16))


class Desk:
    """An agent, and the worker and the sink as the test plays them."""

    def __init__(self, folder, *, poll_s=0.02, **delivery):
        self.root = folder / "microscope"
        self.root.mkdir(exist_ok=True)
        frames, results, snapshots = free_ports(3)
        network = Network(frames_port=frames, results_port=results, snapshots_port=snapshots)
        delivery = {"retry_s": 0.0, "heartbeat_s": 0.02, "silent_s": 60.0, **delivery}
        self.ledger = Ledger(folder / "ledger.db")
        self.sink = Server(network, "results", largest_bytes=2**20)
        config = Config(
            watch=Watch(directory=str(self.root), poll_s=poll_s, mdoc_wait_s=0.0),
            network=network,
            delivery=Delivery(**delivery),
        )
        self.agent = _Agent(config, self.root, self.ledger)
        self.worker = Client(network, "frames", name="worker-1", largest_bytes=2**20)
        self.frames, self.reports, self.notices, self.told = [], [], [], []
        self.done = set()
        self.peer = ""

    def turn(self):
        self.agent.step()
        for message in self.worker.receive():
            if isinstance(message, Frame):
                self.frames.append(message)
        for peer, message in self.sink.receive():
            self.peer = peer
            if isinstance(message, m.Report):
                self.reports.append(message)
            elif isinstance(message, m.Quarantine):
                self.notices.append(message)
            elif isinstance(message, m.Words):
                self.told.append(message.words)

    def until(self, condition, what):
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s, f"waited for {what}; words: {self.words}"
            self.turn()

    def until_found(self, sections):
        self.until(lambda: self.ledger.count("found") == sections, f"{sections} sections")
        self.until(lambda: self.agent._dispatch.waiting == sections, "all of them waiting")

    def work(self, sections):
        """Take sections and say that they are stored, until there are so many."""
        self.worker.send(m.Beat(slots=3, holding=tuple(f.section for f in self.held())))

        def finished():
            for frame in self.held():
                self.worker.send(m.Done(frame.section))
                self.done.add(frame.section)
            return self.ledger.count("stored") >= sections

        self.until(finished, f"{sections} stored sections")

    def held(self):
        return [frame for frame in self.frames if frame.section not in self.done]

    @property
    def words(self):
        return [text for _, text in self.agent._words._waiting]

    def was_said(self, text):
        return any(text in word for word in self.words)

    def close(self):
        self.agent.close()
        self.ledger.__exit__(None, None, None)
        self.worker.close()
        self.sink.close()


@pytest.fixture
def desk(tmp_path):
    desks = []

    def make_desk(**settings):
        desks.append(Desk(tmp_path, **settings))
        return desks[-1]

    yield make_desk
    for made in desks:
        made.close()


def absent(desk, tmp_path):
    desk.root.rename(tmp_path / "unmounted")


def empty(desk, tmp_path):
    """A share that is not mounted leaves its empty mount point."""
    desk.root.rename(tmp_path / "unmounted")
    desk.root.mkdir()


def back(desk, tmp_path):
    if desk.root.exists():
        desk.root.rmdir()
    (tmp_path / "unmounted").rename(desk.root)


@posix  # Windows keeps a watched folder from being renamed
@pytest.mark.parametrize("go_away", [absent, empty])
def test_a_share_that_goes_away_quarantines_nothing_and_all_is_sent_when_it_is_back(
    desk, tmp_path, go_away
):
    desk = desk()
    for number in range(6):
        write(desk.root / f"{number}.mrc")
    desk.until_found(6)
    go_away(desk, tmp_path)
    desk.until(lambda: desk.was_said("cannot be reached"), "the notice")
    desk.worker.send(m.Beat(slots=3))
    desk.until(lambda: desk.was_said("worker-1 is here"), "the worker")
    for _ in range(10):  # looks, and chances to send
        desk.turn()
    assert desk.frames == []
    back(desk, tmp_path)
    desk.work(6)
    assert sorted(frame.section.path for frame in desk.frames) == [f"{n}.mrc" for n in range(6)]
    assert desk.ledger.count("quarantined") == 0
    assert [word[9:] for word in desk.words if "cannot be re" in word or "is back" in word] == [
        f"{desk.root} cannot be reached; waiting for it",
        f"{desk.root} is back",
    ]


@posix
@pytest.mark.parametrize("go_away", [absent, empty])
def test_a_share_that_goes_away_between_two_looks_is_nobodys_attempt(desk, tmp_path, go_away):
    desk = desk(poll_s=1000.0)
    for number in range(4):
        write(desk.root / f"{number}.mrc")
    desk.until_found(4)
    go_away(desk, tmp_path)
    desk.worker.send(m.Beat(slots=3))
    desk.until(lambda: desk.was_said("cannot be reached"), "the failed read")
    assert desk.agent._dispatch.waiting == 4
    assert not desk.was_said("attempt 1 failed")
    back(desk, tmp_path)
    desk.agent._next_scan_s = 0.0
    desk.work(4)
    assert sorted(frame.section.path for frame in desk.frames) == [f"{n}.mrc" for n in range(4)]
    assert desk.ledger.count("quarantined") == 0


@posix
def test_files_that_come_with_the_share_are_noticed_after_it_was_away(desk, tmp_path):
    desk = desk()
    write(desk.root / "before.mrc")
    desk.until_found(1)
    absent(desk, tmp_path)
    desk.until(lambda: desk.was_said("cannot be reached"), "the notice")
    back(desk, tmp_path)
    desk.until(lambda: desk.was_said("is back"), "the share")
    desk.agent._next_scan_s = time.monotonic() + 1000.0  # only the system's notices are left
    write(desk.root / "after.mrc")
    desk.until_found(2)


def test_a_file_that_is_gone_while_its_folder_is_there_is_quarantined_with_the_reason(desk):
    desk = desk()
    write(desk.root / "a.mrc")
    write(desk.root / "b.mrc")
    desk.until_found(2)
    (desk.root / "a.mrc").unlink()
    desk.worker.send(m.Beat(slots=3))
    desk.until(lambda: desk.ledger.count("quarantined") == 1, "the quarantine")
    desk.work(1)
    ((section, reason, attempts),) = desk.ledger.given_up()
    assert (str(section), attempts) == ("a.mrc#0", 3)
    assert "cannot be read" in reason


def test_a_quarantine_is_told_until_it_is_acknowledged(desk):
    desk = desk()
    write(desk.root / "a.mrc")
    write(desk.root / "b.mrc")
    desk.until_found(2)
    (desk.root / "a.mrc").unlink()
    desk.worker.send(m.Beat(slots=3))
    desk.until(lambda: len(desk.notices) >= 3, "the notice, again and again")
    desk.sink.send(desk.peer, m.Ack(SectionId("a.mrc", 0)))
    desk.until(lambda: not desk.agent._to_report, "the acknowledgement")
    while wait([desk.sink], 0.0):
        desk.turn()
    told = len(desk.notices)
    for _ in range(5):
        desk.agent._next_report_s = 0.0
        desk.turn()
    assert len(desk.notices) == told


def test_words_are_numbered_and_told_64_at_a_time_until_they_are_heard(desk):
    desk = desk()
    for number in range(150):
        desk.agent._note(f"word {number}")
    desk.until(lambda: len(desk.told) >= 3, "words")
    for words in desk.told:
        assert [number for number, _ in words] == list(range(1, 65))
    assert desk.told[0][0][1].endswith("word 0")

    heard = []
    while len(heard) < 150:
        first = len(heard) + 1
        desk.until(lambda: desk.told[-1][0][0] == first, "the next words")  # noqa: B023
        heard += desk.told[-1]
        desk.sink.send(desk.peer, m.Pong("sink-1", heard=heard[-1][0]))
    assert [text.rpartition(" ")[2] for _, text in heard] == [str(n) for n in range(150)]
    desk.until(lambda: not desk.words, "silence")
    desk.agent._note("one more")
    desk.until(lambda: desk.told[-1][0][0] == 151, "the next word")


def test_a_sink_that_was_restarted_and_has_heard_nothing_takes_no_word_back(desk):
    desk = desk()
    desk.agent._note("kept")
    desk.until(lambda: desk.told, "the word")
    desk.sink.send(desk.peer, m.Pong("sink-2", heard=0))
    before = len(desk.told)
    desk.until(lambda: len(desk.told) >= before + 3, "the word again")
    assert desk.told[-1][0][1].endswith("kept")


def test_a_look_that_takes_long_is_not_the_workers_silence(desk, monkeypatch):
    desk = desk(heartbeat_s=5.0, silent_s=15.0)
    write(desk.root / "a.mrc")
    desk.worker.send(m.Beat(slots=3))
    desk.until(lambda: desk.frames, "the frame")
    section = desk.frames[0].section
    # The look at a slow share took 60 s; meanwhile the worker's beat has come.
    desk.worker.send(m.Beat(slots=3, holding=(section,), computing=section))
    assert wait([desk.agent._server], PATIENCE_S)
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 60.0, strftime=time.strftime)
    monkeypatch.setattr(agent_module, "time", later)
    desk.turn()
    assert not desk.was_said("was silent")
    assert desk.agent._dispatch.in_work == 1


def test_a_section_is_announced_once_and_a_restarted_agent_goes_on(desk):
    first = desk()
    write(first.root / "a.mrc", z=3)
    first.until_found(3)
    first.work(3)
    assert [str(frame.section) for frame in first.frames] == ["a.mrc#0", "a.mrc#1", "a.mrc#2"]
    write(first.root / "b.mrc")
    first.until(lambda: first.ledger.count("found") == 1, "the new one")
    second = desk()
    second.work(4)
    assert [str(frame.section) for frame in second.frames] == ["b.mrc#0"]
    assert second.was_said("1 sections of an earlier run go on")


def test_an_agent_refuses_to_watch_what_is_no_folder(tmp_path):
    with pytest.raises(ConfigError, match="is not a folder"):
        run_agent(Config(watch=Watch(directory=str(tmp_path / "absent"))), Stop())

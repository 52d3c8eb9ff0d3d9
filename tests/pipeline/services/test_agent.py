"""An agent with a real ledger between sockets of the test."""

import os
import shutil
import sys
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import tifffile

from nanostream.acquisition import orders as o
from nanostream.acquisition.frames import inspect
from nanostream.acquisition.ledger import Ledger, passed_over
from nanostream.acquisition.mrc import HEADER_DTYPE, read_header
from nanostream.acquisition.simulator import StackWriter, script
from nanostream.config import Config, Delivery, Network, Watch
from nanostream.errors import ConfigError
from nanostream.records import Frame, SectionId
from nanostream.results.verification import acquired_files
from nanostream.transport import messages as m
from nanostream.transport.sockets import Client, Server, free_ports, wait
from nanostream_services.processes.agent import Agent, run_agent
from nanostream_services.processes.lifecycle import Stop
from tests.waiting import PATIENCE_S, until

posix = pytest.mark.skipif(sys.platform == "win32", reason="names and links of POSIX")


def write(path, z=1, clock=datetime.now):
    with StackWriter(path, mdoc=False, clock=clock) as stack:
        for number in range(z):
            stack.append(np.full((16, 16), number + 1, np.int16))


class Desk:
    """An agent, and the worker and the sink as the test plays them."""

    def __init__(self, folder, *, poll_s=0.02, watch=None, read_header=inspect, **delivery):
        self.root = folder / "microscope"
        self.root.mkdir(exist_ok=True)
        frames, results, snapshots = free_ports(3)
        network = Network(frames_port=frames, results_port=results, snapshots_port=snapshots)
        delivery = {"retry_s": 0.0, "heartbeat_s": 0.02, "silent_s": 60.0, **delivery}
        self.ledger = Ledger(folder / "ledger.db")
        self.sink = Server(network, "results", largest_bytes=2**20)
        config = Config(
            watch=Watch(directory=str(self.root), poll_s=poll_s, mdoc_wait_s=0.0, **(watch or {})),
            network=network,
            delivery=Delivery(**delivery),
        )
        self.ahead_s = 0.0  # of this machine's clock
        self.agent = Agent(
            config,
            self.root,
            self.ledger,
            clock=lambda: time.monotonic() + self.ahead_s,
            read_header=read_header,
        )
        self.worker = Client(network, "frames", name="worker-1", largest_bytes=2**20)
        self.frames, self.reports, self.quarantines, self.told = [], [], [], []
        self.retried = []  # with how many quarantines were heard before
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
                self.quarantines.append(message)
            elif isinstance(message, m.Retried):
                self.retried.append((message.section, len(self.quarantines)))
            elif isinstance(message, m.Events):
                self.told.append(message.events)

    def until(self, condition, what):
        until(condition, what, turn=self.turn, seen=self.seen)

    def seen(self):
        return f"events {self.words}, {len(self.frames)} frames, {self.reports[-1:]}"

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
        return [text for _, text in self.agent._sink.events._waiting]

    def was_reported(self, text):
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
    desk.until(lambda: desk.was_reported("cannot be reached"), "the report")
    desk.worker.send(m.Beat(slots=3))
    desk.until(lambda: desk.was_reported("worker-1 is here"), "the worker")
    for _ in range(10):  # scans, and chances to send
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
def test_a_share_that_goes_away_between_two_scans_is_nobodys_attempt(desk, tmp_path, go_away):
    desk = desk(poll_s=1000.0, silent_s=10_000.0)
    for number in range(4):
        write(desk.root / f"{number}.mrc")
    desk.until_found(4)
    go_away(desk, tmp_path)
    desk.worker.send(m.Beat(slots=3))
    desk.until(lambda: desk.was_reported("cannot be reached"), "the failed read")
    assert desk.agent._dispatch.waiting == 4
    assert not desk.was_reported("attempt 1 failed")
    back(desk, tmp_path)
    desk.ahead_s = 2000.0
    desk.work(4)
    assert sorted(frame.section.path for frame in desk.frames) == [f"{n}.mrc" for n in range(4)]
    assert desk.ledger.count("quarantined") == 0


@posix
def test_file_events_come_again_after_a_share_was_away(desk, tmp_path):
    desk = desk(poll_s=1000.0)
    write(desk.root / "before.mrc")
    desk.until_found(1)
    absent(desk, tmp_path)
    desk.ahead_s += 2000.0
    desk.until(lambda: desk.was_reported("cannot be reached"), "the report")
    back(desk, tmp_path)
    desk.ahead_s += 2000.0
    desk.until(lambda: desk.was_reported("is back"), "the share")
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


def test_what_was_never_read_is_tried_again_by_itself_when_its_file_has_changed(desk, tmp_path):
    """A copy that stalls for longer than it is waited for, and then goes on."""
    desk = desk()
    pixels = np.random.default_rng(6).poisson(3, (64, 64)).astype(np.uint8)
    path = tmp_path / "whole.tif"
    tifffile.imwrite(path, pixels, compression="lzw", rowsperstrip=16, metadata=None)
    whole = (tmp_path / "whole.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "whole.tif") as file:
        end = file.pages[0].dataoffsets[1] + file.pages[0].databytecounts[1]
    stalled = whole[: end - 20] + bytes(20) + whole[end:]
    (desk.root / "gold0000.tif").write_bytes(stalled)
    (desk.root / "gold.idoc").write_text(
        "[Image = gold0000.tif]\nPixelSpacing = 0.5\nDateTime = 01-Jan-2026  10:00:00\n"
    )
    desk.until_found(1)
    desk.ahead_s += 100.0
    desk.worker.send(m.Beat(slots=3))
    desk.until(lambda: desk.ledger.count("quarantined") == 1, "the quarantine")
    ((_, reason, _),) = desk.ledger.given_up()
    assert "has not arrived, or is damaged" in reason
    (desk.root / "gold0000.tif").write_bytes(whole)
    desk.work(1)
    assert desk.was_reported("gold0000.tif#0 is tried again: its file has changed")
    assert [str(section) for section, _ in desk.retried] == ["gold0000.tif#0"]
    np.testing.assert_array_equal(desk.frames[-1].pixels, pixels)


def test_an_overwritten_section_is_sent_once_more_and_a_new_title_brings_nothing(desk):
    desk = desk()
    path = desk.root / "a.mrc"
    write(path, z=2)
    desk.work(2)
    header, _ = read_header(path)
    new = np.full((16, 16), 77, "<i2")
    with path.open("r+b") as file:  # as SerialEM: pixels, then the header with its new values
        file.seek(header.data_offset + header.section_bytes)
        file.write(new.tobytes())
        file.seek(HEADER_DTYPE.fields["maximum"][1])
        file.write(np.array([77, 39], "<f4").tobytes())
    desk.work(3)
    assert [str(frame.section) for frame in desk.frames] == ["a.mrc#0", "a.mrc#1", "a.mrc~2#1"]
    assert (desk.frames[-1].pixels == 77).all()
    with path.open("r+b") as file:
        file.seek(224 + 80)
        file.write(b"a title".ljust(80))
    for _ in range(10):  # until the file has settled
        desk.ahead_s += 0.5
        desk.turn()
    assert len(desk.frames) == desk.ledger.seen == 3


def test_a_renamed_file_is_found_again_and_the_old_name_says_where(desk):
    desk = desk()
    write(desk.root / "a.mrc")
    desk.until_found(1)
    (desk.root / "a.mrc").rename(desk.root / "b.mrc")
    desk.until_found(2)
    desk.worker.send(m.Beat(slots=3))
    desk.until(lambda: desk.ledger.count("quarantined") == 1, "the quarantine")
    desk.work(1)
    assert [str(frame.section) for frame in desk.frames] == ["b.mrc#0"]
    ((section, reason, _),) = desk.ledger.given_up()
    assert str(section) == "a.mrc#0"
    where = "a.mrc was renamed before it was read; it is found again as b.mrc#0"
    assert where in reason
    # Tried again it comes to the same end, and the operator reads why beforehand.
    desk.sink.send(desk.peer, m.Pong("sink-1", retry=(section,)))
    desk.until(lambda: desk.was_reported(f"a.mrc#0 is tried again, but {where}"), "a clear word")
    desk.until(lambda: desk.ledger.count("quarantined") == 1, "the quarantine again")
    (desk.root / "b.mrc").rename(desk.root / "a.mrc")  # and back under its name
    desk.sink.send(desk.peer, m.Pong("sink-1", retry=(section,)))
    desk.until(lambda: len(desk.frames) == 2, "the section")
    assert str(desk.frames[-1].section) == "a.mrc#0"


def test_a_retried_section_that_is_given_up_at_once_is_reported_again(desk):
    """Else the sink, which forgets a retried one, would have neither result nor quarantine."""
    desk = desk()
    write(desk.root / "a.mrc")
    desk.until_found(1)
    (desk.root / "a.mrc").unlink()
    write(desk.root / "a.mrc", z=2, clock=lambda: datetime(2001, 1, 1))  # another title
    desk.until_found(3)
    desk.work(2)  # the sections of the new file
    desk.until(lambda: desk.quarantines, "the quarantine of the old one")
    section = desk.quarantines[0].section
    assert "written anew before it was read" in desk.quarantines[0].reason
    desk.sink.send(desk.peer, m.Ack(section))
    desk.until(lambda: not desk.agent._sink._unheard, "the acknowledgement")
    before = len(desk.quarantines)
    desk.sink.send(desk.peer, m.Pong("sink-1", retry=(section,)))
    desk.until(lambda: len(desk.quarantines) > before, "the quarantine again")
    assert desk.retried == [(section, before)]


def test_a_tiff_series_is_sent_and_other_tiffs_are_left_alone(desk):
    desk = desk()
    images = [np.full((16, 16), number + 1, np.uint8) for number in range(2)]
    for _ in script("idoc", images, desk.root):
        pass
    shutil.copy(desk.root / "session0000.tif", desk.root / "figure.tif")
    desk.work(2)
    assert [str(f.section) for f in desk.frames] == ["session0000.tif#0", "session0001.tif#0"]
    assert desk.ledger.seen == 2


def test_a_quarantine_is_told_until_it_is_acknowledged(desk):
    desk = desk()
    write(desk.root / "a.mrc")
    write(desk.root / "b.mrc")
    desk.until_found(2)
    (desk.root / "a.mrc").unlink()
    desk.worker.send(m.Beat(slots=3))
    desk.until(lambda: len(desk.quarantines) >= 3, "the quarantine, again and again")
    desk.sink.send(desk.peer, m.Ack(SectionId("a.mrc", 0)))
    desk.until(lambda: not desk.agent._sink._unheard, "the acknowledgement")
    while wait([desk.sink], 0.0):
        desk.turn()
    told, reports = len(desk.quarantines), len(desk.reports)
    desk.until(lambda: len(desk.reports) >= reports + 5, "reports")
    assert len(desk.quarantines) == told


def test_words_are_numbered_and_told_64_at_a_time_until_they_are_heard(desk):
    desk = desk(poll_s=1000.0)  # a slow scan on a busy machine would be one more
    for number in range(150):
        desk.agent._report(f"word {number}")
    desk.until(lambda: len(desk.told) >= 3, "words")
    for words in desk.told:
        assert [number for number, _ in words] == list(range(1, 65))
    assert desk.told[0][0][1].endswith("word 0")

    heard = []
    while len(heard) < 150:
        first = len(heard) + 1
        desk.until(lambda: desk.told[-1][0][0] == first, "the next words")  # noqa: B023
        heard += desk.told[-1]
        desk.sink.send(desk.peer, m.Pong("sink-1", kept=heard[-1][0]))
    assert [text.rpartition(" ")[2] for _, text in heard] == [str(n) for n in range(150)]
    desk.until(lambda: not desk.words, "silence")
    desk.agent._report("one more")
    desk.until(lambda: desk.told[-1][0][0] == 151, "the next word")


def test_a_sink_that_was_restarted_and_has_heard_nothing_takes_no_word_back(desk):
    desk = desk()
    desk.agent._report("kept")
    desk.until(lambda: desk.told, "the word")
    desk.sink.send(desk.peer, m.Pong("sink-2", kept=0))
    before = len(desk.told)
    desk.until(lambda: len(desk.told) >= before + 3, "the word again")
    assert desk.told[-1][0][1].endswith("kept")


def test_a_worker_that_has_not_heard_of_this_agent_gets_no_frame_that_may_be_on_its_way(desk):
    desk = desk()
    write(desk.root / "a.mrc", z=2)
    desk.until_found(2)
    desk.worker.send(m.Beat(slots=3, agent="the-agent-before"))  # waited in the queue
    desk.until(lambda: desk.agent._dispatch._workers, "the beat")
    assert desk.agent._dispatch.in_work == 0
    # The frame that the agent before had sent has come meanwhile; this agent's answer as well.
    held = (SectionId("a.mrc", 0),)
    desk.worker.send(m.Beat(slots=3, holding=held, agent=desk.agent._server.instance))
    desk.until(lambda: desk.frames, "the other section")
    for _ in range(5):
        desk.turn()
    assert [str(frame.section) for frame in desk.frames] == ["a.mrc#1"]


def test_a_scan_that_takes_long_is_not_the_workers_silence(desk):
    desk = desk(heartbeat_s=5.0, silent_s=15.0)
    write(desk.root / "a.mrc")
    desk.worker.send(m.Beat(slots=3))
    desk.until(lambda: desk.frames, "the frame")
    section = desk.frames[0].section
    # The scan of a slow share took 60 s; meanwhile the worker's beat has come.
    desk.worker.send(m.Beat(slots=3, holding=(section,), computing=section))
    assert wait([desk.agent._server], PATIENCE_S)
    desk.ahead_s = 60.0
    desk.turn()
    assert not desk.was_reported("was silent")
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
    assert second.was_reported("resuming 1 section of an earlier run")


def test_a_full_disk_holds_the_agent_which_says_why_and_goes_on_by_itself(desk):
    desk = desk()
    write(desk.root / "a.mrc")
    desk.work(1)
    (pages,) = desk.ledger._db.execute("PRAGMA page_count").fetchone()
    desk.ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    said = []

    def go_on(error):
        for peer, message in desk.sink.receive():
            if isinstance(message, m.Events):
                said.extend(text for _, text in message.events)
                desk.sink.send(peer, m.Pong("sink-1", kept=message.events[-1][0]))
        if any("full" in text for text in said):
            desk.ledger._db.execute("PRAGMA max_page_count = 1000000")
        return desk.agent.hold(error)

    desk.ledger.when_stuck(go_on)
    write(desk.root / "b.mrc", z=300)
    desk.work(301)
    assert len({frame.section for frame in desk.frames}) == 301
    assert sum("nothing is handed out until then" in text for text in said) == 1
    assert desk.was_reported("the ledger can be written again") or any("again" in t for t in said)


def test_an_agent_refuses_to_watch_what_is_no_folder(tmp_path):
    with pytest.raises(ConfigError, match="is not a folder"):
        run_agent(Config(watch=Watch(directory=str(tmp_path / "absent"))), Stop())


# --- what was there before -----------------------------------------------------------------------


def sent(desk):
    return [str(frame.section) for frame in desk.frames]


def test_what_was_there_at_the_first_start_can_be_left_alone(desk, tmp_path):
    (tmp_path / "microscope").mkdir()
    write(tmp_path / "microscope" / "old.mrc", z=3)
    write(tmp_path / "microscope" / "older.mrc")
    desk = desk(watch={"start": "only-new"})
    desk.until(lambda: desk.was_reported("4 sections in 2 files were there before"), "the report")
    write(desk.root / "new.mrc", z=2)
    desk.work(2)
    assert sent(desk) == ["new.mrc#0", "new.mrc#1"]
    # Neither acquired nor missing for `verify`.
    known = passed_over(tmp_path / "ledger.db")
    files, *_ = acquired_files(desk.root, ["new.mrc", "old.mrc", "older.mrc"], known)
    assert [(f.path, f.sections, f.passed_over) for f in files] == [
        ("new.mrc", 2, 0),
        ("old.mrc", 3, 3),
        ("older.mrc", 1, 1),
    ]


def test_what_was_there_can_wait_for_what_is_new(desk, tmp_path):
    (tmp_path / "microscope").mkdir()
    for number, age_s in enumerate([300, 100, 200]):
        path = tmp_path / "microscope" / f"old{number}.mrc"
        write(path, z=2)
        os.utime(path, (time.time() - age_s,) * 2)
    desk = desk(watch={"start": "newest-first"}, slots=1)
    desk.until(lambda: desk.reports and desk.reports[-1].waiting == 6, "all of them waiting")
    write(desk.root / "new.mrc", z=2)
    desk.until(lambda: desk.agent._dispatch.waiting == 3, "the new ones")
    desk.work(8)
    # The one that was next when the new ones came goes before them.
    new, old = ["new.mrc#0", "new.mrc#1"], [f"old{n}.mrc#{z}" for n in (1, 2, 0) for z in (1, 0)]
    assert sent(desk) == [old[0], *new, *old[1:]]


# --- many files ----------------------------------------------------------------------------------


def test_workers_are_answered_during_a_long_first_scan(desk, tmp_path):
    (tmp_path / "microscope").mkdir()
    for number in range(100):
        write(tmp_path / "microscope" / f"{number:03}.mrc")

    def slowly(path):
        slow.ahead_s += 1.0
        return inspect(path)

    slow = desk(read_header=slowly, silent_s=6e5, resend_s=6e5)
    slow.worker.send(m.Beat(slots=3))
    slow.until(lambda: slow.was_reported("worker-1 is here"), "the worker")
    assert slow.ledger.seen < 100
    slow.until(lambda: slow.frames, "a frame")
    slow.work(100)
    assert sorted(sent(slow)) == [f"{number:03}.mrc#0" for number in range(100)]


@pytest.mark.parametrize("file_events", ["on", "off"])
def test_a_section_that_no_file_event_tells_of_is_found_by_a_scan(desk, file_events):
    desk = desk(watch={"file_events": file_events})
    desk.turn()
    desk.agent._file_events.take = set  # as of a full queue
    write(desk.root / "a.mrc")
    desk.until_found(1)
    desk.ahead_s += 2.0
    desk.turn()
    missed = desk.was_reported("no file event came of 1 changed files, such as a.mrc")
    assert missed == (file_events == "on")


# --- odd things in the folder --------------------------------------------------------------------


def spoil(path):
    """Zeros in place of the pixels, as a share shows them whose data comes later."""
    header, _ = read_header(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: header.data_offset] + bytes(header.section_bytes))
    return whole


def test_a_section_whose_pixels_come_long_after_its_header_is_not_lost(desk):
    desk = desk(retry_s=0.01)
    write(desk.root / "a.mrc")
    whole = spoil(desk.root / "a.mrc")
    desk.worker.send(m.Beat(slots=3))
    start = desk.agent._dispatch._last_number
    desk.until(lambda: desk.agent._dispatch._last_number > start + 5, "five reads")
    with (desk.root / "a.mrc").open("r+b") as file:
        file.write(whole)
    desk.work(1)
    assert desk.ledger.count("quarantined") == 0
    assert not desk.was_reported("attempt")


def test_a_section_whose_pixels_never_come_is_quarantined_with_the_reason(desk):
    desk = desk(retry_s=0.01, silent_s=1000.0)
    write(desk.root / "a.mrc")
    spoil(desk.root / "a.mrc")
    desk.until_found(1)
    desk.worker.send(m.Beat(slots=3))
    start = desk.agent._dispatch._last_number
    desk.until(lambda: desk.agent._dispatch._last_number > start + 5, "five reads")
    assert desk.ledger.count("quarantined") == 0
    desk.ahead_s = 61.0
    desk.until(lambda: desk.ledger.count("quarantined") == 1, "the quarantine")
    ((_, reason, attempts),) = desk.ledger.given_up()
    assert attempts == 3
    assert "section 0 has zeros, and the header a minimum of 1" in reason


def no_file(path):
    path.mkdir()


def far_piece(path):
    path.write_text("[ZValue = 0]\nPieceCoordinates = 1e300 0 0\nDateTime = 22-Feb-18  09:36:56\n")


def pipe(path):
    if sys.platform == "win32":
        pytest.skip("pipes of POSIX")
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.mrc.mdoc", no_file),
        ("a.mrc.mdoc", far_piece),
        ("a.mrc.mdoc", pipe),
        ("b.mrc", pipe),
        ("b" * 248 + ".mrc", write),
    ],
)
def test_odd_things_beside_a_section_do_not_hold_it_up(desk, name, make):
    desk = desk()
    make(desk.root / name)
    write(desk.root / "a.mrc")
    desk.work(2 if make is write else 1)
    assert "a.mrc#0" in sent(desk)
    desk.agent._take_in(o.FilesChanged(frozenset({name})))


# --- harmless ------------------------------------------------------------------------------------


class Audit:
    """Operations of this process on a folder, by Python's own audit events (PEP 578)."""

    def __init__(self):
        self.root, self.events = None, []
        sys.addaudithook(self.hear)  # cannot be taken away, so there is one for all

    def hear(self, event, arguments):
        if self.root is None or not event.startswith(("open", "os.", "shutil.", "fcntl.")):
            return
        if any(isinstance(a, (str, Path)) and str(a).startswith(self.root) for a in arguments):
            self.events.append((event, arguments))

    def harmful(self):
        changes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        return [
            (event, arguments)
            for event, arguments in self.events
            if event not in ("os.scandir", "os.listdir")
            and not (event == "open" and not arguments[2] & changes)
        ]


def test_the_agent_only_reads_in_the_watched_folder_and_holds_nothing_open(desk):
    desk = desk()
    audit = Audit()
    write(desk.root / "a.mrc", z=3)
    (desk.root / "b.txt").write_text("no micrograph")
    (desk.root / "c.mrc").write_bytes(b"nor this" * 1000)
    shutil.copy(desk.root / "a.mrc", desk.root / "d.mrc")
    before = {path: path.stat().st_mtime_ns for path in (desk.root, *desk.root.iterdir())}
    audit.root = str(desk.root)
    try:
        desk.work(6)
        if sys.platform == "linux":
            held = [entry.resolve() for entry in Path("/proc/self/fd").iterdir()]
            assert not [path for path in held if path.is_relative_to(desk.root)]
    finally:
        audit.root = None
    assert {event for event, _ in audit.events} >= {"open", "os.scandir"}
    assert audit.harmful() == []
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(desk.root.iterdir())) == 4

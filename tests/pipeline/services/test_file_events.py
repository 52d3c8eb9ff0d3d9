"""Events of the operating system for a folder, by its own means, and what becomes of them."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nanostream.acquisition.folder import WatchedFolder
from nanostream.config import Watch
from nanostream_services.processes.file_events import FileEvents, Missed
from tests.waiting import pause, until

SHARE = {"share": lambda _: "cifs"}
posix = pytest.mark.skipif(sys.platform == "win32", reason="a share is known by its path there")


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 10)


class Ear:
    """File events of a folder, and what was reported about them."""

    def __init__(self, root, *, ahead_s=0.0, doubles=None, **settings):
        self.root, self.ahead_s = root, ahead_s
        self.reports = []
        watch = Watch(**settings)
        self.events = FileEvents(
            WatchedFolder(root, watch),
            watch,
            report=self.reports.append,
            clock=lambda: time.monotonic() + self.ahead_s,
            **(doubles or {}),
        )
        self.events.listen()

    def hears_of(self, name):
        """Write a file until an event of it comes."""
        heard = set()

        def write():
            make(self.root, name)
            pause()
            heard.update(self.events.take())

        until(lambda: name in heard, f"an event of {name}", turn=write, seen=lambda: sorted(heard))
        return True


@pytest.fixture
def ear(tmp_path):
    ears = []

    def listen(**settings):
        root = tmp_path / "microscope"
        root.mkdir()
        ears.append(Ear(root.resolve(), **settings))
        return ears[-1]

    yield listen
    for made in ears:
        made.events.close()


def test_a_change_below_the_folder_is_told(ear):
    ear = ear()
    assert ear.hears_of("a.mrc")
    assert ear.hears_of("day1/night/b.mrc")
    assert ear.reports == []


def test_without_subfolders_there_are_no_events_of_them(ear):
    ear = ear(recursive=False)
    make(ear.root, "day1/a.mrc")
    assert ear.hears_of("b.mrc")
    assert "day1/a.mrc" not in ear.events.take()


@posix
def test_a_network_share_is_scanned_and_that_is_reported_once(ear):
    ear = ear(poll_s=0.5, doubles=SHARE)
    ear.events.listen()  # as after the share was away
    assert not ear.events.listens
    assert ear.reports == [f"{ear.root} is a network share (cifs): scanning every 0.5 s instead"]


@posix
def test_events_can_be_asked_for_on_a_share(ear):
    ear = ear(file_events="on", doubles=SHARE)
    assert ear.hears_of("a.mrc")
    assert ear.reports == []


def test_events_can_be_turned_off(ear):
    ear = ear(file_events="off")
    assert not ear.events.listens
    ear.events.check()
    assert ear.reports == []


def delete(root):
    shutil.rmtree(root)


def move_away(root):
    root.rename(root.with_name("yesterday"))


@posix  # Windows keeps a watched folder from being renamed
@pytest.mark.parametrize(
    ("go", "same_number"), [(delete, False), (delete, True), (move_away, False)]
)
def test_a_folder_that_was_made_anew_is_listened_to_again_and_that_is_reported(
    ear, go, same_number
):
    doubles = {}
    if same_number:  # ext4 gives the number of a deleted folder to the next one
        doubles["identity"] = lambda root: (1, 2) if root.exists() else None
    ear = ear(doubles=doubles)
    assert ear.hears_of("a.mrc")
    go(ear.root)
    ear.events.check()  # it may be asked for while it is not there
    ear.root.mkdir()
    # The end of the old one is an event too.
    until(lambda: ear.reports, "the report", turn=ear.events.check)
    assert ear.reports == [f"{ear.root} was made anew; listening there again"]
    assert ear.hears_of("b.mrc")
    ear.events.check()
    assert len(ear.reports) == 1


def test_a_subfolder_that_was_made_anew_is_listened_to_again(ear):
    ear = ear()
    for _ in range(3):
        assert ear.hears_of("day1/a.mrc")
        shutil.rmtree(ear.root / "day1")


def test_a_change_that_a_scan_found_and_no_event_told_of_is_reported(ear):
    ear = ear(poll_s=1e-9)
    assert ear.hears_of("a.mrc")
    for name in ("a.mrc", "never-told-of.mrc"):
        ear.events.found_by_scan(name)
    ear.events.check()
    assert ear.reports == []
    ear.ahead_s = 2 * Missed.LATE_S
    ear.events.check()
    assert ear.reports == [
        "no file event came of 1 changed files, such as never-told-of.mrc; a scan found them (too "
        "many changes at once, or made on another machine)"
    ]
    assert ear.hears_of("b.mrc")


def test_what_changed_just_before_listening_began_is_not_expected(ear):
    ear = ear(poll_s=1000.0)
    ear.events.found_by_scan("a.mrc")
    ear.ahead_s = 100.0
    ear.events.check()
    assert ear.reports == []


@pytest.mark.skipif(sys.platform != "linux", reason="the queue of inotify")
def test_a_full_queue_is_reported_and_events_come_again(ear):
    ear = ear(poll_s=1e-9)
    assert ear.hears_of("a.mrc")
    queue = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    # Events that are alike and follow each other are one: two files in turn fill the queue.
    flood = (
        "import os; open('a.mrc', 'w').close(); open('b.mrc', 'w').close()\n"
        f"for _ in range({queue}): os.utime('a.mrc'); os.utime('b.mrc')\n"
        "os.mkdir('late'); open('late/b.mrc', 'w').close()"
    )
    process = subprocess.Popen([sys.executable, "-c", flood], cwd=ear.root)
    while process.poll() is None:
        sum(range(10_000_000))  # one long step: watchdog's threads cannot read meanwhile
    ear.events.found_by_scan("late/b.mrc")
    ear.ahead_s = 2 * Missed.LATE_S
    ear.events.take()
    ear.events.check()
    (report,) = ear.reports
    assert report.startswith("no file event came of 1 changed files, such as late/b.mrc")
    assert ear.hears_of("late/c.mrc")

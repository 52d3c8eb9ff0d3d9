"""What the system's notices are good for: a real observer in a real folder."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nanostream.config import Watch
from nanostream_services.processes import watching
from nanostream_services.processes.watching import Notices, WatchedFolder

PATIENCE_S = 20.0
posix = pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 10)


class Ear:
    """Notices of a folder, and what was said about them."""

    def __init__(self, root, **settings):
        self.root = root
        self.said = []
        watch = Watch(**settings)
        self.notices = Notices(WatchedFolder(root, watch), watch, say=self.said.append)
        self.notices.listen()

    @property
    def listens(self):
        return self.notices._observer is not None

    def hears_of(self, name):
        """Write a file until a notice of it comes."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            make(self.root, name)
            time.sleep(0.02)
            if name in self.notices.take():
                return True
        return False


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
        made.notices.close()


def test_a_change_is_noticed_below_the_folder(ear):
    ear = ear()
    assert ear.hears_of("a.mrc")
    assert ear.hears_of("day1/night/b.mrc")
    assert ear.said == []


def test_without_subfolders_there_are_no_notices_of_them(ear):
    ear = ear(recursive=False)
    make(ear.root, "day1/a.mrc")
    assert ear.hears_of("b.mrc")
    assert "day1/a.mrc" not in ear.notices.take()


@pytest.fixture
def share(monkeypatch, tmp_path):
    """A mount table in which the tests' folder is a share."""
    point = str(tmp_path.resolve()).replace(" ", "\\040")
    table = f"29 1 8:2 / / rw - ext4 /dev/sda2 rw\n30 29 0:9 / {point} rw - cifs //scope/data rw\n"
    monkeypatch.setattr(watching, "_mounts", lambda: table)


@posix
def test_a_network_share_is_looked_at_and_that_is_said_once(share, ear):
    ear = ear(poll_s=0.5)
    ear.notices.listen()  # as after the share was away
    assert not ear.listens
    assert ear.said == [
        f"{ear.root} is a network share (cifs): looking every 0.5 s instead of listening"
    ]


@posix
def test_notices_can_be_asked_for_on_a_share(share, ear):
    ear = ear(notices="on")
    assert ear.hears_of("a.mrc")
    assert ear.said == []


def test_notices_can_be_turned_off(ear):
    ear = ear(notices="off")
    assert not ear.listens
    ear.notices.check()
    assert ear.said == []


def delete(root):
    shutil.rmtree(root)


def move_away(root):
    root.rename(root.with_name("yesterday"))


@posix  # Windows keeps a watched folder from being renamed
@pytest.mark.parametrize(
    ("go", "same_number"), [(delete, False), (delete, True), (move_away, False)]
)
def test_a_folder_that_was_made_anew_is_listened_to_again_and_that_is_said(
    ear, go, same_number, monkeypatch
):
    if same_number:  # ext4 gives the number of a deleted folder to the next one
        monkeypatch.setattr(watching, "_identity", lambda root: (1, 2) if root.exists() else None)
    ear = ear()
    assert ear.hears_of("a.mrc")
    go(ear.root)
    ear.notices.check()  # it may be looked for while it is not there
    ear.root.mkdir()
    deadline_s = time.monotonic() + PATIENCE_S
    while not ear.said:  # the end of the old one is a notice too
        ear.notices.check()
        assert time.monotonic() < deadline_s
    assert ear.said == [f"{ear.root} was made anew; listening there again"]
    assert ear.hears_of("b.mrc")
    ear.notices.check()
    assert len(ear.said) == 1


def test_a_subfolder_that_was_made_anew_is_listened_to_again(ear):
    ear = ear()
    for _ in range(3):
        assert ear.hears_of("day1/a.mrc")
        shutil.rmtree(ear.root / "day1")


def test_the_notice_of_an_idoc_is_one_of_its_images(ear, monkeypatch):
    monkeypatch.setattr(watching, "_LOST_AFTER_S", 0.0)
    ear = ear(poll_s=1e-9)
    for name in ("day1/gold0000.tif", "day1/other0000.tif"):
        ear.notices.found_by_look(name)
    assert ear.hears_of("day1/gold.idoc")
    assert list(ear.notices._expected) == ["day1/other0000.tif"]


def test_a_change_that_was_noticed_in_time_is_not_called_lost(ear, monkeypatch):
    monkeypatch.setattr(watching, "_LOST_AFTER_S", 0.05)
    ear = ear(poll_s=1e-9)
    ear.notices.found_by_look("a.mrc")  # the look was quicker than the notice
    assert ear.hears_of("a.mrc")
    time.sleep(0.1)
    ear.notices.check()
    assert ear.said == []


def test_a_section_that_was_ready_only_after_a_while_is_not_called_lost(ear, monkeypatch):
    monkeypatch.setattr(watching, "_LOST_AFTER_S", 0.0)
    ear = ear(poll_s=1e-9)
    assert ear.hears_of("a.mrc")
    for name in ("a.mrc", "never-told-of.mrc"):
        ear.notices.found_by_look(name)
    assert list(ear.notices._expected) == ["never-told-of.mrc"]


@pytest.mark.skipif(sys.platform != "linux", reason="the queue of inotify")
def test_a_full_queue_is_said_and_notices_come_again(ear):
    ear = ear(poll_s=1e-9)
    assert ear.hears_of("a.mrc")
    queue = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    # Notices that are alike and follow each other are one: two files in turn fill the queue.
    flood = (
        "import os; open('a.mrc', 'w').close(); open('b.mrc', 'w').close()\n"
        f"for _ in range({queue}): os.utime('a.mrc'); os.utime('b.mrc')\n"
        "os.mkdir('late'); open('late/b.mrc', 'w').close()"
    )
    process = subprocess.Popen([sys.executable, "-c", flood], cwd=ear.root)
    while process.poll() is None:
        sum(range(10_000_000))  # one long step: watchdog's threads cannot read meanwhile
    ear.notices.found_by_look("late/b.mrc")
    time.sleep(watching._LOST_AFTER_S + 0.1)
    ear.notices.take()
    ear.notices.check()
    (said,) = ear.said
    assert said.startswith("no notice came of 1 changed files, such as late/b.mrc")
    assert ear.hears_of("late/c.mrc")

"""Which files are watched, how they are looked at, and where notices can be had."""

import itertools
import logging
import os
import shutil
import sys
from pathlib import Path

import pytest

from nanostream.acquisition.readiness import FileStat
from nanostream.config import Watch
from nanostream_services.processes import watching
from nanostream_services.processes.watching import (
    WatchedFolder,
    file_system_type,
    is_network,
    share_type,
)

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
    make(tmp_path, "a.mrc", "a.mrc~", "b.mrc~1", "series-unsorted.st")
    assert sorted(watched(tmp_path, include=("*",)).files()) == ["a.mrc", "b.mrc~1"]


@posix
def test_links_to_nowhere_and_to_themselves_hide_no_other_file(tmp_path):
    make(tmp_path, "a.mrc", "z.mrc")
    (tmp_path / "loop.mrc").symlink_to("loop.mrc")
    (tmp_path / "gone.mrc").symlink_to("absent.mrc")
    (tmp_path / "circle").symlink_to(tmp_path, target_is_directory=True)
    assert sorted(watched(tmp_path).files()) == ["a.mrc", "z.mrc"]


@posix
@posix
def test_pipes_and_links_to_folders_are_no_files(tmp_path):
    (tmp_path / "day1").mkdir()
    (tmp_path / "a.mrc").symlink_to(tmp_path / "day1")
    os.mkfifo(tmp_path / "b.mrc")
    make(tmp_path, "c.mrc")
    folder = watched(tmp_path)
    assert set(folder.files()) == {"c.mrc"}
    assert folder.look_at("b.mrc") is None


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


def test_the_second_look_at_4000_files_matches_no_pattern_again(tmp_path, monkeypatch):
    for number in range(4_000):
        (tmp_path / f"{number}.{'mrc' if number % 2 else 'txt'}").touch()
    asked = itertools.count()
    matches = watching.matches

    def counted(path, patterns):
        next(asked)
        return matches(path, patterns)

    monkeypatch.setattr(watching, "matches", counted)
    folder = watched(tmp_path)
    assert len(folder.files()) == 2_000
    first = next(asked)
    assert first >= 4_000
    assert len(folder.files()) == 2_000
    assert next(asked) == first + 1  # only our own question


def test_without_subfolders_only_the_folder_itself_is_watched(tmp_path):
    make(tmp_path, "a.mrc", "day1/b.mrc", "day1/night/c.mrc")
    folder = watched(tmp_path, recursive=False)
    assert sorted(folder.files()) == ["a.mrc"]
    assert not folder.wants("day1/b.mrc")  # whoever names it
    assert folder.count_folders(10) == 1
    make(tmp_path, "day1/d.mrc", "e.mrc")
    assert "e.mrc" in folder.newest_files()
    assert sorted(folder.files()) == ["a.mrc", "e.mrc"]


# --- how they are looked at ----------------------------------------------------------------------


@pytest.fixture
def stats(monkeypatch):
    """Paths below a folder that os.stat was asked for."""
    asked = []
    stat = os.stat

    def counted(path, *arguments, **settings):
        asked.append(str(path))
        return stat(path, *arguments, **settings)

    monkeypatch.setattr(watching.os, "stat", counted)
    return asked


def many(root, folders, files):
    for number in range(folders):
        (root / f"day{number}").mkdir()
        for file in range(files):
            path = root / f"day{number}" / f"{file:03}.mrc"
            path.write_bytes(b"x")
            old_s = 1_500_000_000 + file
            os.utime(path, (old_s, old_s))
        os.utime(root / f"day{number}", (old_s, old_s))


def test_a_look_asks_for_each_file_once(tmp_path, stats):
    many(tmp_path, 5, 100)
    folder = watched(tmp_path)
    assert len(folder.files()) == 500
    files = [path for path in stats if path.endswith(".mrc")]
    assert len(files) == len(set(files)) == 500


def test_the_newest_are_looked_at_without_the_rest(tmp_path, stats):
    many(tmp_path, 20, 100)
    folder = watched(tmp_path)
    folder.files()
    stats.clear()
    found = folder.newest_files()
    assert len(found) == watching._NEWEST_FILES
    assert min(path[-7:] for path in found) == "090.mrc"
    assert len([path for path in stats if path.endswith(".mrc")]) == watching._NEWEST_FILES


@pytest.mark.parametrize("name", ["new.mrc", "day3/new.mrc", "today/new.mrc", "a/b/c/new.mrc"])
def test_a_new_file_is_among_the_newest_wherever_it_is(tmp_path, name):
    many(tmp_path, 5, 100)
    folder = watched(tmp_path)
    folder.files()
    make(tmp_path, name)
    assert folder.newest_files()[name].size == 10
    (tmp_path / name).write_bytes(b"grown" * 10)
    assert folder.newest_files()[name].size == 50


def test_files_that_come_within_one_tick_of_a_coarse_clock_are_all_found(tmp_path):
    many(tmp_path, 2, 300)
    folder = watched(tmp_path)
    folder.files()
    for number in range(5):
        make(tmp_path, f"day1/new{number}.mrc")
        os.utime(tmp_path / "day1", (1_600_000_000, 1_600_000_000))  # as if it stood still
        assert f"day1/new{number}.mrc" in folder.newest_files()


def test_an_open_stack_is_among_the_newest_whatever_the_clock_of_the_camera_pc(tmp_path):
    many(tmp_path, 5, 100)
    make(tmp_path, "day3/open.mrc")
    os.utime(tmp_path / "day3" / "open.mrc", (1_500_001_000, 1_500_001_000))  # years ago
    folder = watched(tmp_path)
    folder.files()
    (tmp_path / "day3" / "open.mrc").write_bytes(b"grown")
    assert folder.newest_files()["day3/open.mrc"].size == 5


def test_a_folder_that_is_deleted_says_nothing(tmp_path, caplog):
    make(tmp_path, "day1/a.mrc", "b.mrc")
    folder = watched(tmp_path)
    folder.files()
    shutil.rmtree(tmp_path / "day1")
    assert sorted(folder.newest_files()) == ["b.mrc"]
    assert sorted(folder.files()) == ["b.mrc"]
    assert said(caplog) == []


# --- where notices can be had --------------------------------------------------------------------

SERVER = """\
22 29 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:14 - proc proc rw
29 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw,errors=remount-ro
96 29 8:1 / /boot/efi rw,relatime shared:32 - vfat /dev/sda1 rw,fmask=0077
101 29 0:44 / /net rw,relatime shared:51 - autofs systemd-1 rw,fd=50,pgrp=1,timeout=0
612 101 0:58 / /net/titan rw,relatime shared:333 - nfs4 10.0.0.7:/export rw,vers=4.2,hard
733 29 0:61 / /mnt/camera\\040pc/data rw,relatime shared:401 - cifs //10.0.0.4/data rw,vers=3.1.1
801 29 0:66 / /home/op/scope rw,nosuid,nodev - fuse.sshfs op@scope:/data rw,user_id=1000
811 29 8:17 / /mnt/usb rw,relatime shared:460 - fuseblk /dev/sdb1 rw,user_id=0
830 29 8:33 / /mnt/data rw,relatime - xfs /dev/sdc1 rw,attr2,inode64
831 830 0:71 / /mnt/data rw,relatime - nfs 10.0.0.9:/vol rw,vers=3
"""
WSL = """\
64 65 8:32 / / rw,relatime - ext4 /dev/sdc rw,discard
78 64 0:59 / /mnt/c rw,noatime - 9p C:\\134 rw,aname=drvfs;path=C:\\;uid=1000
"""
CONTAINER = """\
1021 860 0:152 / / rw,relatime master:326 - overlay overlay rw,lowerdir=/var/lib/x - y
1054 1021 0:160 /data /watch rw,relatime master:1 - virtiofs host rw
"""
MACOS = """\
/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
/dev/disk3s5 on /System/Volumes/Data (apfs, local, journaled, nobrowse)
//op@scope._smb._tcp.local/data on /Volumes/camera pc (smbfs, nodev, nosuid, mounted by op)
"""


@pytest.mark.parametrize(
    ("mounts", "path", "kind", "network"),
    [
        (SERVER, "/data/today", "ext4", False),
        (SERVER, "/boot/efi", "vfat", False),
        (SERVER, "/net/titan/today", "nfs4", True),
        (SERVER, "/net/titanic", "autofs", False),
        (SERVER, "/mnt/camera pc/data/today", "cifs", True),
        (SERVER, "/mnt/camera pc", "ext4", False),
        (SERVER, "/home/op/scope", "fuse.sshfs", True),
        (SERVER, "/mnt/usb/today", "fuseblk", False),
        (SERVER, "/mnt/data/today", "nfs", True),  # mounted over the local disk
        (SERVER, "/mnt/database", "ext4", False),
        (WSL, "/mnt/c/SerialEM", "9p", True),
        (WSL, "/home/op", "ext4", False),
        (CONTAINER, "/watch/today", "virtiofs", True),
        (CONTAINER, "/tmp", "overlay", False),
        (MACOS, "/Volumes/camera pc/today", "smbfs", True),
        (MACOS, "/Users/op", "apfs", False),
        ("", "/data", "", False),
    ],
)
def test_the_type_of_the_file_system_is_that_of_the_innermost_mount(mounts, path, kind, network):
    assert file_system_type(mounts, path) == kind
    assert is_network(kind) == network


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="Linux")
def test_the_type_of_this_machines_own_file_systems_is_found():
    mounts = Path("/proc/self/mountinfo").read_text()
    assert file_system_type(mounts, "/proc/self") == "proc"
    assert share_type(Path("/proc/self")) is None

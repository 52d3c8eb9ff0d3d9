"""Files of the watched folder that are watched, and its scans."""

import logging
import os
import shutil
import sys
from pathlib import Path

import pytest

from nanostream.acquisition.folder import NEWEST_FILES, WatchedFolder
from nanostream.acquisition.readiness import FileStat
from nanostream.config import Watch

posix = pytest.mark.skipif(sys.platform == "win32", reason="names and links of POSIX")


# --- which files ---------------------------------------------------------------------------------


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 10)


def watched(root, **settings):
    return WatchedFolder(root, Watch(**settings))


class Disk:
    """The module os, which counts the files that are asked for and may refuse a folder."""

    def __init__(self, refused="nothing"):
        self.asked, self.refused = [], refused

    def stat(self, path):
        self.asked.append(path)
        return Path(path).stat()

    def scandir(self, path):
        if path.endswith(self.refused):  # root, who runs tests in containers, may read everything
            raise PermissionError(13, "Permission denied", path)
        return os.scandir(path)

    @property
    def files(self):
        return [path for path in self.asked if path.endswith(".mrc")]


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


@pytest.mark.parametrize("name", ["GOLD.MRC", "Gold2.Mrc", "gold3.ST", "day1/Gold4.TIF", "A.map"])
def test_the_case_of_names_does_not_matter(tmp_path, name):
    make(tmp_path, name)
    assert list(watched(tmp_path).files()) == [name]
    assert list(watched(tmp_path, include=("day?/*", "*D*.m*", "gold3*", "a.*")).files()) == [name]
    assert not watched(tmp_path, exclude=("g*", "a.MAP", "DAY1/*")).files()


NAMES = {
    "co:lon.mrc": "a colon",
    "back\\slash.mrc": "a backslash",
    "tab\tname.mrc": "a tab",
    "new\nline.mrc": "a line end",
    "bad\udcff.mrc": "letters are in no known code",
    "/".join(["d" * 200] * 6) + ".mrc": "1209 letters, 1024 are taken",
}


@posix
@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_no_section_can_have_is_reported_with_its_reason(tmp_path, name):
    make(tmp_path, name, "a.mrc")
    reports = []
    folder = WatchedFolder(tmp_path, Watch(), report=reports.append)
    for _ in range(2):
        assert set(folder.files()) == {"a.mrc"}
    assert NAMES[name] in folder.unwatched[name]
    (report,) = reports
    assert report.startswith("not watched: ")
    assert NAMES[name] in report
    assert report.isprintable()


@posix
def test_a_link_to_a_folder_is_named_and_not_followed(tmp_path):
    make(tmp_path, "elsewhere/a.mrc", "watched/b.mrc")
    (tmp_path / "watched" / "today").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    reports = []
    folder = WatchedFolder(tmp_path / "watched", Watch(), report=reports.append)
    assert list(folder.files()) == ["b.mrc"]
    assert reports == ["not watched: today is a link to a folder; watch that folder itself"]
    assert list(folder.unwatched) == ["today"]
    assert not watched(tmp_path / "watched", exclude=("today",)).unwatched


def test_micrographs_that_the_patterns_do_not_take_are_kept_and_the_first_is_reported(tmp_path):
    make(tmp_path, "a.mrc", "b.dm4", "day1/c.DM4", "d.emd", "notes.txt", "old.tiff", "a.mrc~")
    reports = []
    folder = WatchedFolder(tmp_path, Watch(exclude=("d.*",)), report=reports.append)
    assert list(folder.files()) == ["a.mrc"]
    assert sorted(folder.unwatched) == ["b.dm4", "day1/c.DM4", "old.tiff"]
    assert sorted(reports) == [
        f"not watched: {ending} files that [watch] include (*.mrc, *.st, *.map, *.mrcs, *.tif) "
        "does not take"
        for ending in (".dm4", ".tiff")
    ]


@posix
def test_pipes_and_links_to_folders_are_no_files(tmp_path):
    (tmp_path / "day1").mkdir()
    (tmp_path / "a.mrc").symlink_to(tmp_path / "day1")
    os.mkfifo(tmp_path / "b.mrc")
    make(tmp_path, "c.mrc")
    folder = watched(tmp_path)
    assert set(folder.files()) == {"c.mrc"}
    assert folder.file("b.mrc") is None


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


def test_a_file_that_vanishes_during_the_scan_hides_no_other(tmp_path):
    make(tmp_path, "a.mrc", "b.mrc", "c.mrc")

    class Vanishing(WatchedFolder):
        def wants(self, relative):
            if relative == "b.mrc":
                (self.root / relative).unlink()
            return super().wants(relative)

    assert sorted(Vanishing(tmp_path, Watch()).files()) == ["a.mrc", "c.mrc"]


def test_an_unreadable_folder_is_named_once_and_hides_no_other(tmp_path, caplog):
    make(tmp_path, "a.mrc", "secret/b.mrc", "z/c.mrc")
    folder = WatchedFolder(tmp_path, Watch(), disk=Disk(refused="secret"))
    for _ in range(3):
        assert sorted(folder.files()) == ["a.mrc", "z/c.mrc"]
    assert len(said(caplog)) == 1
    assert "secret cannot be listed" in said(caplog)[0]


def test_a_folder_that_is_gone_has_no_files_and_is_empty(tmp_path):
    folder = watched(tmp_path / "absent")
    assert folder.files() == {}
    assert not folder.is_there(expected=False)


def test_a_folder_that_is_suddenly_empty_is_a_share_that_is_not_mounted(tmp_path):
    folder = watched(tmp_path)
    assert folder.is_there(expected=False)
    assert not folder.is_there(expected=True)
    make(tmp_path, "notes.txt")
    assert folder.is_there(expected=True)


def test_the_second_scan_of_1000_files_matches_no_pattern_again(tmp_path):
    for number in range(1_000):
        (tmp_path / f"{number}.{'mrc' if number % 2 else 'txt'}").touch()

    class Counting(WatchedFolder):
        decided = 0

        def decide(self, relative):
            self.decided += 1
            return super().decide(relative)

    folder = Counting(tmp_path, Watch())
    for _ in range(2):
        assert len(folder.files()) == 500
        assert folder.decided == 1_000


def test_without_subfolders_only_the_folder_itself_is_watched(tmp_path):
    make(tmp_path, "a.mrc", "day1/b.mrc", "day1/night/c.mrc")
    folder = watched(tmp_path, recursive=False)
    assert sorted(folder.files()) == ["a.mrc"]
    assert not folder.wants("day1/b.mrc")  # whoever names it
    assert folder.count_folders(10) == 1
    make(tmp_path, "day1/d.mrc", "e.mrc")
    assert "e.mrc" in folder.newest_files()
    assert sorted(folder.files()) == ["a.mrc", "e.mrc"]


# --- how they are scanned ----------------------------------------------------------------------


def many(root, folders, files):
    for number in range(folders):
        (root / f"day{number}").mkdir()
        for file in range(files):
            path = root / f"day{number}" / f"{file:03}.mrc"
            path.write_bytes(b"x")
            old_s = 1_500_000_000 + file
            os.utime(path, (old_s, old_s))
        os.utime(root / f"day{number}", (old_s, old_s))


def test_a_scan_asks_for_each_file_once(tmp_path):
    many(tmp_path, 5, 100)
    disk = Disk()
    assert len(WatchedFolder(tmp_path, Watch(), disk=disk).files()) == 500
    assert len(disk.files) == len(set(disk.files)) == 500


def test_the_newest_are_scanned_without_the_rest(tmp_path):
    many(tmp_path, 20, 100)
    disk = Disk()
    folder = WatchedFolder(tmp_path, Watch(), disk=disk)
    folder.files()
    disk.asked.clear()
    found = folder.newest_files()
    assert len(found) == NEWEST_FILES
    assert min(path[-7:] for path in found) == "090.mrc"
    assert len(disk.files) == NEWEST_FILES


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
    folder = WatchedFolder(tmp_path, Watch(), clock=lambda: 1000.0)
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

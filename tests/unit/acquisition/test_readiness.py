"""Readiness: no section before its bytes, each once, all in the end."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanostream.acquisition.mrc import MrcHeader, read_header
from nanostream.acquisition.readiness import FileStat, KnownFile, Readiness
from nanostream.acquisition.simulator import StackWriter
from nanostream.errors import NotReadyError
from nanostream.records import SectionId
from tests.effort import examples

OFFSET, SECTION = 3072, 200


def header(nz, title="SerialEM: 1"):
    return MrcHeader(
        nx=10,
        ny=10,
        nz=nz,
        mode=1,
        dtype=np.dtype("<i2"),
        extended_bytes=2048,
        extended_type="SERI",
        pixel_size_nm=None,
        minimum=0,
        maximum=0,
        mean=0,
        labels=(title,) if title else (),
    )


def stat(sections=0, *, extra=0, mtime=0, inode=0):
    return FileStat(OFFSET + sections * SECTION + extra, mtime, inode)


def look(readiness, now_s, file_stat, nz, *, path="a.mrc", title="SerialEM: 1"):
    """One look at one file; the sections found, or None if its header was not read."""
    if not readiness.to_inspect({path: file_stat}, now_s):
        return None
    if nz == 0:
        readiness.not_ready(path, file_stat)
        return []
    return [str(s) for s in readiness.inspected(path, file_stat, header(nz, title))]


def test_stack_grows_section_by_section():
    readiness = Readiness()
    assert look(readiness, 0, stat(0), 0) == []
    assert look(readiness, 1, stat(1), 1) == ["a.mrc#0"]
    assert look(readiness, 5, stat(3), 3) == ["a.mrc#1", "a.mrc#2"]


def test_section_being_written_waits_for_its_header():
    readiness = Readiness()
    assert look(readiness, 0, stat(1), 1) == ["a.mrc#0"]
    assert look(readiness, 5, stat(1, extra=120), 1) == []
    assert look(readiness, 6, stat(2), 1) == []
    assert look(readiness, 7, stat(2), 2) == ["a.mrc#1"]


def test_header_ahead_of_the_bytes_gives_only_whole_sections():
    readiness = Readiness()  # a frame stack announces all its frames at once
    assert look(readiness, 0, stat(2, extra=199), 5) == ["a.mrc#0", "a.mrc#1"]
    assert look(readiness, 1, stat(5), 5) == ["a.mrc#2", "a.mrc#3", "a.mrc#4"]


def test_unchanged_file_is_read_until_it_settles_and_then_left_alone():
    readiness = Readiness()
    seen = [look(readiness, now_s, stat(1), 1) for now_s in (0, 0.5, 1.9, 2.5, 3, 1e6)]
    assert seen == [["a.mrc#0"], [], [], [], None, None]


def test_header_rewrite_without_a_trace_is_found():
    # Same size, same time: coarse clock, or NTFS while the file is open.
    readiness = Readiness()
    assert look(readiness, 0, stat(1), 1) == ["a.mrc#0"]
    assert look(readiness, 10, stat(2), 1) == []
    assert look(readiness, 1000, stat(2), 1) == []
    assert look(readiness, 1100, stat(2), 2) == ["a.mrc#1"]


def test_lagging_header_is_read_less_and_less_often():
    readiness = Readiness()
    reads = [t for t in range(4000) if look(readiness, t, stat(1), 0) is not None]
    assert reads[:3] == [0, 1, 2]
    assert 60 < len(reads) < 120
    assert max(np.diff(reads)) == 60


def test_file_that_could_not_be_opened_comes_again():
    readiness = Readiness()
    for now_s in (0, 100, 100.1, 100.2):
        assert readiness.to_inspect({"a.mrc": stat(1)}, now_s) == ["a.mrc"]


def test_refused_file_comes_again_only_when_it_changes():
    readiness = Readiness()
    readiness.to_inspect({"a.mrc": stat(1)}, 0)
    readiness.refused("a.mrc", stat(1))
    assert readiness.to_inspect({"a.mrc": stat(1)}, 0.5) == []
    assert readiness.to_inspect({"a.mrc": stat(1, mtime=1)}, 1) == ["a.mrc"]


def test_vanished_file_is_not_forgotten():
    readiness = Readiness()
    for now_s in (0, 3):
        look(readiness, now_s, stat(2), 2)
    assert readiness.to_inspect({}, 5) == []
    assert look(readiness, 10, stat(2), 2) is None
    assert look(readiness, 11, stat(3), 3) == ["a.mrc#2"]


def test_due_files_come_by_name():
    listing = {name: stat(1) for name in ("b.mrc", "c.mrc", "a.mrc")}
    assert Readiness().to_inspect(listing, 0) == ["a.mrc", "b.mrc", "c.mrc"]


@pytest.mark.parametrize(
    ("file_stat", "nz", "title"),
    [
        (stat(1), 1, "SerialEM: 1"),  # fewer sections than were handed out
        (stat(3, mtime=5), 1, "SerialEM: 1"),  # nz went back
        (stat(2, mtime=5), 2, "SerialEM: 2"),  # same size, opened at another time
        (stat(2, inode=8), 2, "SerialEM: 1"),  # another and smaller file
    ],
)
def test_name_used_again_is_a_new_generation(file_stat, nz, title):
    readiness = Readiness()
    assert len(look(readiness, 0, stat(2, extra=50, inode=7), 2)) == 2
    expected = [f"a.mrc~2#{z}" for z in range(min(nz, 2))]
    assert look(readiness, 5, file_stat, nz, title=title) == expected


@pytest.mark.parametrize("title", ["SerialEM: 1", ""])
def test_emptied_file_is_a_new_generation(title):
    readiness = Readiness()
    assert len(look(readiness, 0, stat(1), 1, title=title)) == 1
    assert look(readiness, 5, stat(0), 0) == []
    assert look(readiness, 6, stat(1), 1, title=title) == ["a.mrc~2#0"]


def test_larger_copy_of_the_file_continues_it():
    readiness = Readiness()  # as rsync renames it into place
    assert len(look(readiness, 0, stat(1, inode=7), 1)) == 1
    assert look(readiness, 5, stat(2, inode=8), 2) == ["a.mrc#1"]


def test_restart_repeats_nothing_and_reads_settled_files_no_more():
    readiness = Readiness()
    for now_s in (0, 3):
        look(readiness, now_s, stat(2), 2)
    known = readiness.known_file("a.mrc")
    assert known == KnownFile(1, 2, stat(2), "SerialEM: 1", state="2 0 0 0")
    again = Readiness({"a.mrc": known})
    assert look(again, 0, stat(2), 2) is None
    assert look(again, 1, stat(3), 3) == ["a.mrc#2"]
    assert again.known_file("a.mrc").stat is None  # not settled
    assert again.known_file("a.mrc").generation == 1
    assert look(Readiness({"a.mrc": KnownFile(3, 2)}), 0, stat(3), 3) == ["a.mrc~3#2"]


def overwrite(readiness, now_s, mean, mtime, changed, nz=2):
    """A look at a file of which a section was overwritten, and what comparing it brings."""
    file_stat = stat(nz, mtime=mtime)
    if not readiness.to_inspect({"a.mrc": file_stat}, now_s):
        return None
    found = readiness.inspected("a.mrc", file_stat, replace(header(nz), mean=mean))
    if readiness.in_doubt("a.mrc"):
        found += readiness.compared("a.mrc", changed)
    return [str(section) for section in found]


def known_stack(nz=2):
    readiness = Readiness()
    for now_s in (0, 3):
        look(readiness, now_s, stat(nz), nz)
    return readiness


def test_overwritten_section_comes_once_with_its_own_generation_when_the_file_is_still():
    readiness = known_stack()
    looks = [(10, 0, 5), (10.5, 7, 6), (11, 7, 6), (13, 7, 6), (13.5, 7, 6), (99, 7, 6)]
    found = [overwrite(readiness, *look, changed=[1]) for look in looks]
    assert found == [[], [], [], ["a.mrc~2#1"], None, None]
    assert readiness.known_file("a.mrc").overwritten == ((1, 2),)
    assert [readiness.known_file("a.mrc").generation_of(z) for z in (0, 1)] == [1, 2]


def test_section_whose_header_is_not_rewritten_is_still_being_overwritten_for_a_minute():
    readiness = known_stack()
    found = {t: overwrite(readiness, t, 0, 5, changed=[1]) for t in range(10, 90)}
    ((then, sections),) = ((t, sections) for t, sections in found.items() if sections)
    assert sections == ["a.mrc~2#1"]
    assert 70 <= then < 78


def test_header_rewritten_for_a_title_gives_no_generation():
    readiness = known_stack()
    found = [overwrite(readiness, t, 0, 5, changed=[]) for t in (10, 12, 13)]
    assert found == [[], [], None]


def test_section_overwritten_within_one_tick_of_a_coarse_clock_is_found():
    readiness = Readiness()
    assert overwrite(readiness, 0, 1, 5, changed=[]) == ["a.mrc#0", "a.mrc#1"]
    assert overwrite(readiness, 1, 2, 5, changed=[0]) == []
    assert overwrite(readiness, 3, 2, 5, changed=[0]) == ["a.mrc~2#0"]


def test_overwritten_and_then_appended_to_is_found_after_a_minute():
    readiness = known_stack()
    assert overwrite(readiness, 10, 7, 6, changed=[1], nz=3) == ["a.mrc#2"]
    found = [overwrite(readiness, t, 7, 6, changed=[1], nz=3) for t in range(11, 80)]
    assert sum(found_now == ["a.mrc~2#1"] for found_now in found) == 1


def test_section_overwritten_before_a_restart_is_found_after_it():
    kept = known_stack().known_file("a.mrc")
    after = Readiness({"a.mrc": kept})
    found = [overwrite(after, t, 7, 6, changed=[1]) for t in (0, 1, 2)]
    assert found == [[], [], ["a.mrc~2#1"]]


def test_new_file_after_an_overwritten_section_has_a_generation_of_its_own():
    readiness = known_stack()
    for t in (10, 12):
        overwrite(readiness, t, 7, 6, changed=[1])
    assert look(readiness, 20, stat(1, mtime=9), 1, title="SerialEM: 2") == ["a.mrc~3#0"]


def test_long_movie_is_compared_in_its_pauses_only():
    readiness = Readiness()
    look(readiness, 0, stat(1000), 1000)
    readiness.to_inspect({"a.mrc": stat(1001)}, 10)
    readiness.inspected("a.mrc", stat(1001), header(1001))
    doubts = []
    for t in (13, 20, 29, 31):
        readiness.to_inspect({"a.mrc": stat(1001)}, t)
        readiness.inspected("a.mrc", stat(1001), header(1001))
        doubts.append(readiness.in_doubt("a.mrc"))
    assert doubts == [False, False, False, True]


def frames(readiness, now_s, whole, counted, *, finished=False):
    file_stat = stat(whole, mtime=whole)
    readiness.to_inspect({"f.mrcs": file_stat}, now_s)
    contents = header(counted, "SerialEMCCD: Frames . .")
    found = readiness.inspected("f.mrcs", file_stat, contents, finished=finished)
    return [section.z for section in found]


def test_frames_come_all_together_when_their_mdoc_is_there():
    readiness = Readiness()
    steps = [(0, 1, 4), (5, 2, 4), (9, 4, 4)]
    assert [frames(readiness, *step) for step in steps] == [[], [], []]
    assert frames(readiness, 10, 4, 4, finished=True) == [0, 1, 2, 3]


def test_mdoc_of_an_older_exposure_does_not_finish_frames_that_are_not_there():
    assert frames(Readiness(), 0, 2, 4, finished=True) == []


def test_exposure_that_ended_early_has_the_frames_of_its_last_header():
    readiness = Readiness()
    assert frames(readiness, 0, 3, 8) == []
    assert frames(readiness, 1, 3, 3, finished=True) == [0, 1, 2]


def test_frames_whose_mdoc_never_comes_are_taken_when_they_have_lain_still():
    readiness = Readiness()
    found = [frames(readiness, t, 3, 4) for t in (0, 10, 29, 33, 60)]
    assert found == [[], [], [], [0, 1, 2], []]


def test_file_that_is_probably_none_of_ours_is_looked_at_17_times_a_day():
    readiness, looks = Readiness(), 0
    for now_s in range(0, 86_400, 1):
        if readiness.to_inspect({"a.tif": stat(1)}, now_s):
            looks += 1
            readiness.not_ready("a.tif", stat(1), patient=False)
    assert looks < 20


def test_renamed_file_is_known_by_inode_and_title():
    readiness = Readiness()
    for path in ("a.mrc", "b.mrc"):
        look(readiness, 0, stat(1, inode=7), 1, path=path)
    look(readiness, 0, stat(1, inode=7), 1, path="c.mrc", title="SerialEM: 2")
    assert readiness.renamed_to("a.mrc") == "b.mrc"
    assert readiness.renamed_to("c.mrc") is None
    assert readiness.renamed_to("never.mrc") is None


class Disk:
    """A SerialEM writer's file, as states between its writes; time stamps of the camera PC."""

    def __init__(self, incarnations, *, ahead, tick_s, lazy, skew_s, inodes):
        self.now_s, self.tick_s, self.lazy, self.skew_s = 100.0, tick_s, lazy, skew_s
        self.size, self.mtime, self.nz, self.incarnation, self.inode = -1, 0, 0, -1, 0
        self.inodes = inodes
        self._writes = iter(
            [w for n, count in enumerate(incarnations) for w in self._writes_of(n, count, ahead)]
        )

    @staticmethod
    def _writes_of(incarnation, count, ahead):
        yield incarnation, 0, 0
        yield incarnation, 1024, 0
        yield incarnation, OFFSET, 0
        for z in range(count):
            # Gatan's plugin announces all frames after the first one, SerialEM counts one by one.
            before, after = (count if z else 0, count) if ahead else (z, z + 1)
            yield incarnation, OFFSET + z * SECTION + 77, before  # the pixels, as far as they got
            yield incarnation, OFFSET + (z + 1) * SECTION, before
            yield incarnation, OFFSET + (z + 1) * SECTION, after  # the header
            yield incarnation, OFFSET + (z + 1) * SECTION, after  # the extended header

    def step(self):
        write = next(self._writes, None)
        if write is None:
            return False
        incarnation, size, self.nz = write
        # NTFS may leave the time of an open file alone; here it moves with the size at least.
        if size != self.size or not self.lazy:
            clock = self.now_s + self.skew_s
            self.mtime = int(clock // self.tick_s * self.tick_s * 1e9)
        if incarnation != self.incarnation and self.inodes:
            self.inode += 1
        self.incarnation, self.size = incarnation, size
        return True

    @property
    def complete(self):
        return min(self.nz, max(0, self.size - OFFSET) // SECTION)

    def stat(self):
        return FileStat(self.size, self.mtime, self.inode)


class Watch:
    """The agent's loop around `Readiness`, and what it handed out in which incarnation."""

    def __init__(self, disk):
        self.disk, self.readiness, self.found = disk, Readiness(), []

    def look(self, writes_meanwhile=0, *, locked=False):
        due = self.readiness.to_inspect({"a.mrc": self.disk.stat()}, self.disk.now_s)
        for _ in range(writes_meanwhile):
            self.disk.step()
        for path in due:
            if locked:
                continue
            if self.disk.nz == 0:
                self.readiness.not_ready(path, self.disk.stat())
                continue
            title = f"SerialEM: {self.disk.incarnation}"
            for section in self.readiness.inspected(
                path, self.disk.stat(), header(self.disk.nz, title)
            ):
                assert section.z < self.disk.complete
                self.found.append((section, self.disk.incarnation))

    def restart(self):
        self.readiness = Readiness({"a.mrc": self.readiness.known_file("a.mrc")})


OPERATION = st.one_of(
    st.integers(0, 3),  # a look, and so many writes between its listing and its inspections
    st.sampled_from([0.1, 0.7, 1.5, 2.5, 30.0, 500.0]),  # seconds pass
    st.sampled_from(["settle", "restart", "locked"]),
)


@examples(300)
@given(
    incarnations=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    between_writes=st.lists(st.lists(OPERATION, max_size=4), max_size=25),
    ahead=st.booleans(),
    tick_s=st.sampled_from([1e-7, 1.0, 2.0]),
    lazy=st.booleans(),
    skew_s=st.sampled_from([-86400.0, 0.3, 3600.0]),
    inodes=st.booleans(),
    last_looks=st.booleans(),
)
def test_any_interleaving_gives_each_section_once_and_never_early(
    incarnations, between_writes, ahead, tick_s, lazy, skew_s, inodes, last_looks
):
    disk = Disk(incarnations, ahead=ahead, tick_s=tick_s, lazy=lazy, skew_s=skew_s, inodes=inodes)
    watch = Watch(disk)
    for operations in between_writes:
        disk.step()
        for operation in operations:
            match operation:
                case int(writes):
                    watch.look(writes)
                case float(seconds):
                    disk.now_s += seconds
                case "settle":  # what settles a file that tells the whole story
                    watch.look()
                    disk.now_s += 2.5
                    watch.look()
                case "restart":
                    watch.restart()
                case "locked":
                    watch.look(locked=True)
    while disk.step():
        if last_looks:
            watch.look()
    for _ in range(3):
        disk.now_s += 61
        watch.look()

    ids = [section for section, _ in watch.found]
    assert len(set(ids)) == len(ids)
    by_generation = {}
    for section, incarnation in watch.found:
        by_generation.setdefault(section.generation, []).append((incarnation, section.z))
    for rows in by_generation.values():
        assert len({incarnation for incarnation, _ in rows}) == 1
        assert [z for _, z in rows] == list(range(len(rows)))
    last = [s.z for s, incarnation in watch.found if incarnation == len(incarnations) - 1]
    assert last == list(range(incarnations[-1]))


@examples(60)
@given(looks=st.lists(st.integers(0, 2), min_size=1, max_size=25), count=st.integers(1, 4))
def test_looks_between_the_simulators_real_writes(looks, count):
    rng = np.random.default_rng(0)
    images = [rng.integers(1, 99, (8, 9), dtype=np.int16) for _ in range(count)]
    with TemporaryDirectory() as folder:
        root = Path(folder)
        writer = StackWriter(root / "a.mrc")

        def writes():
            yield from writer.open_steps()
            for pixels in images:
                yield from writer.append_steps(pixels)

        readiness, found, now_s = Readiness(), [], 0.0
        names = writes()
        next(names)
        try:
            for steps in [*looks, 99, 0, 0]:
                for _ in range(steps):
                    next(names, None)
                now_s += 0.5
                current = FileStat.of((root / "a.mrc").stat())
                for path in readiness.to_inspect({"a.mrc": current}, now_s):
                    try:
                        read, read_stat = read_header(root / path)
                    except NotReadyError:
                        readiness.not_ready(path, current)
                        continue
                    for section in readiness.inspected(path, FileStat.of(read_stat), read):
                        data = (root / path).read_bytes()
                        start = read.data_offset + section.z * read.section_bytes
                        expected = images[section.z].tobytes()
                        assert data[start : start + read.section_bytes] == expected
                        found.append(section)
        finally:
            writer.__exit__()
    assert found == [SectionId("a.mrc", z) for z in range(count)]

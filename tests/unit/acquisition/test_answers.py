"""Answers of real files to the orders of an intake."""

import shutil

import cv2
import numpy as np
import pytest
import tifffile

from nanostream.acquisition import answers
from nanostream.acquisition import orders as o
from nanostream.acquisition.mrc import HEADER_DTYPE, fingerprint, read_section
from nanostream.acquisition.overdue import PATIENCE_S
from nanostream.acquisition.readiness import FRAMES_S, RECHECK_S, FileStat, KnownFile
from nanostream.acquisition.simulator import StackWriter, script
from nanostream.config import Watch
from nanostream.errors import NotReadyError, OverwrittenError
from nanostream.records import SectionId
from tests.unit.acquisition.intake_driver import DiskFolder, Driver

LISTED = FileStat(1, 2)


def write(path, z=1, *, mdoc=False):
    with StackWriter(path, mdoc=mdoc) as stack:
        for number in range(z):
            stack.append(np.full((16, 16), number + 1, np.int16))


def inspect(root, name, **reading):
    return answers.inspect(root, o.Inspect(name, LISTED), **reading)


def driver(root, **watch):
    root.mkdir(exist_ok=True)
    return Driver(DiskFolder(root, Watch()), mdoc_wait_s=0.0, **watch)


def test_a_header_comes_with_the_state_of_its_file(tmp_path):
    write(tmp_path / "a.mrc", 3)
    answer = inspect(tmp_path, "a.mrc")
    assert answer.stat == FileStat.of((tmp_path / "a.mrc").stat())
    assert answer.contents.complete_sections(answer.stat.size) == 3
    assert not answer.finished


def test_a_file_without_a_header_is_not_ready_and_one_of_something_else_is_refused(tmp_path):
    (tmp_path / "a.mrc").touch()
    assert inspect(tmp_path, "a.mrc") == o.HeaderNotReady("a.mrc", LISTED)
    (tmp_path / "b.mrc").write_bytes(b"no micrograph" * 1000)
    answer = inspect(tmp_path, "b.mrc")
    assert isinstance(answer, o.HeaderRefused)
    assert "b.mrc" in answer.reason


def test_a_tiff_that_nothing_lists_is_not_ready_and_perhaps_never_will_be(tmp_path):
    cv2.imwrite(str(tmp_path / "holiday.tif"), np.zeros((8, 8), np.uint8))
    assert inspect(tmp_path, "holiday.tif") == o.HeaderNotReady("holiday.tif", LISTED, True)


def test_a_file_that_cannot_be_opened_says_why(tmp_path):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    unreadable = o.HeaderUnreadable("a.mrc", "Permission denied")
    assert inspect(tmp_path, "a.mrc", read=refuse) == unreadable
    assert inspect(tmp_path, "gone.mrc").reason == "No such file or directory"


def test_sections_whose_pixels_differ_from_what_was_read_are_named(tmp_path):
    write(tmp_path / "a.mrc", 2)
    prints = {z: fingerprint(read_section(tmp_path / "a.mrc", z)[1]) for z in range(2)}
    order = o.Compare("a.mrc", KnownFile(), inspect(tmp_path, "a.mrc").contents)
    assert answers.compare(tmp_path, order, prints) == o.Compared("a.mrc", ())
    assert answers.compare(tmp_path, order, prints | {1: 0}) == o.Compared("a.mrc", (1,))
    (tmp_path / "a.mrc").unlink()
    assert answers.compare(tmp_path, order, prints) is None


@pytest.mark.parametrize("mdoc", [True, False])
def test_a_sidecar_says_of_each_section_what_it_has(tmp_path, mdoc):
    write(tmp_path / "a.mrc", 2, mdoc=mdoc)
    title = inspect(tmp_path, "a.mrc").contents.title
    sections = tuple(SectionId("a.mrc", z) for z in range(3))
    answer = answers.read_sidecar(tmp_path, o.ReadSidecar("a.mrc", title, sections, late=True))
    assert tuple(answer.entries) == sections
    assert [entry is not None for entry in answer.entries.values()] == [mdoc, mdoc, False]
    assert answer.has_mdoc == mdoc


def test_a_released_section_is_read_with_its_sidecar_whether_that_was_read_before_or_not(tmp_path):
    write(tmp_path / "a.mrc", 2, mdoc=True)
    title = inspect(tmp_path, "a.mrc").contents.title
    section = SectionId("a.mrc", 1)
    order = o.ReadSidecar("a.mrc", title, (section,), late=True)
    entry = answers.read_sidecar(tmp_path, order).entries[section]
    file = KnownFile(published=2, title=title)
    described = o.Release(section, entry, described=True, written_s=5.0)
    frame = answers.read_frame(tmp_path, described, file)
    assert (frame.pixels == 2).all()
    assert frame.written_s == 5.0
    other = answers.read_frame(tmp_path, o.Release(section), file)
    assert other.metadata == frame.metadata
    assert other.metadata.magnification is not None


@pytest.mark.parametrize(
    "file", [KnownFile(2), KnownFile(1, overwritten=((0, 2),)), KnownFile(title="SerialEM: other")]
)
def test_a_section_that_was_written_anew_does_not_pass_for_the_one_that_was_found(tmp_path, file):
    write(tmp_path / "a.mrc")
    with pytest.raises(OverwrittenError, match="section 0 was written anew before"):
        answers.read_frame(tmp_path, o.Release(SectionId("a.mrc", 0)), file)


def test_a_tiff_series_is_found_when_its_idoc_comes_although_it_came_late(tmp_path):
    there, watched = tmp_path / "there", driver(tmp_path / "watched")
    images = [np.full((16, 16), number + 1, np.uint8) for number in range(2)]
    for _ in script("idoc", images, there):
        pass
    for path in there.glob("*.tif"):
        shutil.copy(path, tmp_path / "watched")
    watched.turns(10.0)  # until they are inspected but now and then
    shutil.copy(there / "session.idoc", tmp_path / "watched")
    assert watched.turn("session.idoc") == ["session0000.tif#0", "session0001.tif#0"]


@pytest.mark.parametrize("at_front", [True, False])
@pytest.mark.parametrize("compression", [None, "lzw"])
def test_a_tiff_whose_size_is_set_first_is_found_when_its_bytes_are_there(
    tmp_path, at_front, compression
):
    """As Explorer and robocopy copy; the series' list is there before."""
    pixels = np.random.default_rng(6).poisson(3, (192, 160)).astype(np.uint8)
    path = tmp_path / "watched" / "gold0000.tif"
    watched = driver(path.parent)
    entry = "[Image = gold0000.tif]\nPixelSpacing = 0.5\nDateTime = 01-Jan-2026  10:00:00\n"
    path.with_name("gold.idoc").write_text(f"[T = SerialEM: here]\n\n{entry}")
    if at_front:
        tifffile.imwrite(tmp_path / "whole.tif", pixels, compression=compression)
    else:
        number = cv2.IMWRITE_TIFF_COMPRESSION
        cv2.imwrite(str(tmp_path / "whole.tif"), pixels, [number, 5 if compression else 1])
    whole = (tmp_path / "whole.tif").read_bytes()
    for done in (0, 4, 1000, len(whole) - 1000):
        path.write_bytes(whole[:done].ljust(len(whole), b"\0"))
        assert watched.turns(20.0) == []
    path.write_bytes(whole)
    assert watched.turns(5.0) == ["gold0000.tif#0"]
    assert watched.reports == []


IDOC = "[T = SerialEM: here]\n\n[Image = gold0000.tif]\nPixelSpacing = 0.5\n"
DATED = f"{IDOC}DateTime = 01-Jan-2026  10:00:00\n"


def lzw_tiff(path):
    pixels = np.random.default_rng(6).poisson(3, (192, 160)).astype(np.uint8)
    tifffile.imwrite(path, pixels, compression="lzw", rowsperstrip=16, metadata=None)
    return path.read_bytes()


@pytest.mark.parametrize("kept", [200, 6000, -300])
def test_a_compressed_tiff_whose_copy_stalls_is_not_ready_and_comes_when_it_goes_on(tmp_path, kept):
    path = tmp_path / "watched" / "gold0000.tif"
    watched = driver(path.parent)
    path.with_name("gold.idoc").write_text(DATED)
    whole = lzw_tiff(tmp_path / "whole.tif")
    path.write_bytes(whole[:kept].ljust(len(whole), b"\0"))
    found = watched.turns(FRAMES_S + 5)  # taken, as its end may be zero
    known = KnownFile(published=1, title="SerialEM: here")
    for section in found:
        release = o.Release(SectionId.parse(section))
        with pytest.raises(NotReadyError, match="has not arrived, or is damaged"):
            answers.read_frame(path.parent, release, known)
    path.write_bytes(whole)
    found += watched.turns(5.0)
    assert found == ["gold0000.tif#0"]


def test_a_listed_tiff_that_has_lain_still_unfinished_is_refused_with_the_reason(tmp_path):
    path = tmp_path / "watched" / "gold0000.tif"
    watched = driver(path.parent)
    path.with_name("gold.idoc").write_text(DATED)
    whole = lzw_tiff(tmp_path / "whole.tif")
    path.write_bytes(whole[: len(whole) // 2])
    assert watched.turns(RECHECK_S - 5) == []
    assert watched.reports == []
    assert watched.turns(3 * RECHECK_S) == []
    (report,) = watched.reports
    assert report.startswith("not a micrograph: gold0000.tif: strip ")
    assert "not all is written, or it was cut" in report
    path.write_bytes(whole)
    assert watched.turns(5.0) == ["gold0000.tif#0"]


def test_the_last_image_of_an_idoc_without_its_date_is_taken_once_all_lies_still(tmp_path):
    path = tmp_path / "watched" / "gold0000.tif"
    watched = driver(path.parent)
    lzw_tiff(tmp_path / "whole.tif")
    path.with_name("gold.idoc").write_text(IDOC)
    shutil.copy(tmp_path / "whole.tif", path)
    assert watched.turns(RECHECK_S - 5) == []
    assert watched.turns(3 * RECHECK_S) == ["gold0000.tif#0"]
    (release,) = watched.released.values()
    frame = answers.read_frame(path.parent, release, watched.intake.known_file(path.name))
    assert frame.pixel_size_nm == pytest.approx(0.05)


@pytest.mark.parametrize("head", ["[ZValue = 0]", "[FrameSet = 0]"])
def test_a_tiff_that_ends_with_zeros_is_taken_and_not_called_cut_off(tmp_path, head):
    watched = driver(tmp_path)
    pixels = np.ones((64, 64), np.uint8)
    pixels[32:] = 0
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    (tmp_path / "a.tif.mdoc").write_text(f"{head}\nDateTime = 22-Feb-18  09:36:56\n")
    assert watched.turns(FRAMES_S - 5) == []
    assert watched.turns(2 * FRAMES_S) == ["a.tif#0"]
    watched.turns(3 * PATIENCE_S)
    assert watched.reports == []


def test_a_stack_that_is_cut_off_is_reported_and_its_whole_sections_go(tmp_path):
    watched = driver(tmp_path)
    write(tmp_path / "whole.mrc", 3)
    (tmp_path / "cut.mrc").write_bytes((tmp_path / "whole.mrc").read_bytes()[:-10])
    assert sorted(watched.turns(100.0)) == [
        *("cut.mrc#0", "cut.mrc#1"),
        *("whole.mrc#0", "whole.mrc#1", "whole.mrc#2"),
    ]
    (report,) = watched.reports
    assert report.startswith("cut.mrc is cut off, or still being copied")


def bare(path, **more):
    """An MRC file of another program: no map string, no stamp and no labels."""
    header = np.zeros(1, HEADER_DTYPE)
    for key, value in ({"nx": 16, "ny": 16, "nz": 1, "mode": 1} | more).items():
        header[key] = value
    path.write_bytes(header.tobytes() + np.full((16, 16), 7, np.int16).tobytes())


def test_a_bare_header_is_believed_when_its_file_has_lain_still_for_a_minute(tmp_path):
    watched = driver(tmp_path / "watched")
    bare(tmp_path / "watched" / "a.mrc")
    assert watched.turns(RECHECK_S) == []
    assert watched.turns(20.0) == ["a.mrc#0"]
    section = SectionId("a.mrc", 0)
    file = watched.intake.known_file("a.mrc")
    frame = answers.read_frame(tmp_path / "watched", watched.released[section], file)
    assert (frame.pixels == 7).all()


def test_an_extended_header_that_does_not_come_for_a_minute_is_refused(tmp_path):
    watched = driver(tmp_path / "watched")
    bare(tmp_path / "watched" / "a.mrc", next=2048, map=b"MAP ")
    assert watched.turns(RECHECK_S + 20.0) == []
    assert watched.reported("not a micrograph: a.mrc: its header counts an extended header") == 1


def test_a_foreign_tiff_is_not_taken_however_long_it_lies_still(tmp_path):
    watched = driver(tmp_path / "watched")
    cv2.imwrite(str(tmp_path / "watched" / "holiday.tif"), np.zeros((8, 8), np.uint8))
    assert watched.turns(10 * RECHECK_S) == []

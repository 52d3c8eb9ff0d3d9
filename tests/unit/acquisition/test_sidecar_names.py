"""Which file beside a micrograph is its sidecar, whatever the case of its name."""

import itertools
import math
import os

import numpy as np
import pytest

from nanostream.acquisition import sidecars
from nanostream.acquisition.frames import read_section
from nanostream.acquisition.mdoc import read_metadata
from nanostream.acquisition.sidecars import find_sidecar
from nanostream.acquisition.simulator import StackWriter
from nanostream.config import Watch
from tests.unit.acquisition.intake_driver import DiskFolder, Driver


@pytest.fixture(autouse=True)
def folders_are_listed_as_on_an_idle_machine(monkeypatch):
    monkeypatch.setattr(sidecars, "_CHEAP_WALL_S", math.inf)


NAMES = [
    ("gold.mrc", "gold.mrc.mdoc"),
    ("gold.mrc", "gold.mdoc"),
    ("GOLD.MRC", "GOLD.MRC.MDOC"),
    ("GOLD.MRC", "gold.mrc.mdoc"),
    ("gold.mrc", "Gold.Mrc.Mdoc"),
    ("Gold.St", "GOLD.mdoc"),
]


def write(folder, name, mdoc, **keys):
    """A stack of SerialEM and its mdoc under other names."""
    with StackWriter(folder / "written.mrc", pixel_size_nm=0.05) as stack:
        stack.append(IMAGE, RefinedPixelSpacing=0.52, **keys)
    (folder / "written.mrc").rename(folder / name)
    (folder / "written.mrc.mdoc").rename(folder / mdoc)


IMAGE = np.zeros((8, 8), np.int16)


@pytest.mark.parametrize(("name", "mdoc"), NAMES)
def test_the_case_of_a_sidecars_name_does_not_matter(tmp_path, name, mdoc):
    (tmp_path / name).touch()
    (tmp_path / mdoc).write_text("[ZValue = 0]\nRefinedPixelSpacing = 0.52\n")
    assert find_sidecar(tmp_path / name) == tmp_path / mdoc
    assert read_metadata(tmp_path / name, 0)[0] == pytest.approx(0.052)


@pytest.mark.parametrize(
    ("image", "idoc"), [("GOLD0003.TIF", "GOLD.IDOC"), ("gold0003.tif", "Gold.idoc")]
)
def test_the_case_of_an_idoc_and_of_the_names_in_it_does_not_matter(tmp_path, image, idoc):
    (tmp_path / idoc).write_text("[Image = Gold0003.tif]\nPixelSpacing = 0.5\n")
    assert read_metadata(tmp_path / image, 0)[0] == pytest.approx(0.05)


def test_serialems_own_name_wins(tmp_path):
    (tmp_path / "A").touch()
    if (tmp_path / "a").exists():
        pytest.skip("a file system that does not tell A from a")
    for name, spacing in (("gold.mdoc", 3), ("GOLD.MRC.mdoc", 2), ("gold.mrc.mdoc", 1)):
        (tmp_path / name).write_text(f"[ZValue = 0]\nPixelSpacing = {spacing}\n")
    found = []
    for name in ("gold.mrc.mdoc", "GOLD.MRC.mdoc", "gold.mdoc"):
        found.append(read_metadata(tmp_path / "gold.mrc", 0)[0])
        (tmp_path / name).unlink()
    assert found == pytest.approx([0.1, 0.2, 0.3])
    assert find_sidecar(tmp_path / "gold.mrc") is None


def test_a_short_name_is_of_the_file_that_it_says(tmp_path):
    mdoc = tmp_path / "gold.mdoc"
    for image, name in itertools.product(
        ("GOLD.MRC", "D:\\data\\gold.mrc"), ("gold.mrc", "gold.st")
    ):
        mdoc.write_text(f"ImageFile = {image}\n\n[ZValue = 0]\nPixelSpacing = 2\n")
        assert (find_sidecar(tmp_path / name) == mdoc) == (name == "gold.mrc")
    (tmp_path / "a.mrc").touch()
    (tmp_path / "a.mrc.mdoc").write_text("[ZValue = 0]\nPixelSpacing = 2\n")
    assert find_sidecar(tmp_path / "a.mrc.ali") is None  # that of a.mrc


def test_a_sidecar_that_comes_later_is_found(tmp_path):
    (tmp_path / "GOLD.MRC").touch()
    assert find_sidecar(tmp_path / "GOLD.MRC") is None
    (tmp_path / "gold.mrc.mdoc").write_text("[ZValue = 0]\nPixelSpacing = 2\n")
    assert find_sidecar(tmp_path / "GOLD.MRC") == tmp_path / "gold.mrc.mdoc"


def driver(folder):
    return Driver(DiskFolder(folder, Watch()), mdoc_wait_s=0.5)


@pytest.mark.parametrize(
    "text", ["[ZValue = 7]\nPixelSpacing = 2\n", "", "[ZValue = 0]\nDay = 1\n"]
)
def test_live_an_mdoc_that_gives_nothing_is_reported_once_for_each_file(tmp_path, text):
    with StackWriter(tmp_path / "gold.mrc", pixel_size_nm=0.05, mdoc=False) as stack:
        for _ in range(3):
            stack.append(IMAGE)
    (tmp_path / "gold.mrc.mdoc").write_text(text)
    watched = driver(tmp_path)
    assert len(watched.turns(5.0)) == 3
    assert watched.reported("its mdoc is there and gives nothing for it") == 1
    assert watched.reported("gold.mrc#0: ") == 1


def test_live_no_word_is_said_of_an_mdoc_that_describes_its_sections(tmp_path):
    write(tmp_path, "GOLD.MRC", "gold.mrc.MDOC")
    watched = driver(tmp_path)
    assert watched.turns(5.0) == ["GOLD.MRC#0"]
    assert watched.reported("mdoc") == 0
    (release,) = watched.released.values()
    assert release.sidecar[0] == pytest.approx(0.052)


def test_many_files_that_ask_one_after_the_other_cost_few_listings_of_their_folder(
    tmp_path, monkeypatch
):
    paths = [tmp_path / f"gold{number:04}.mrc" for number in range(200)]
    for path in paths:
        path.touch()
    listings, scandir = [], os.scandir
    monkeypatch.setattr("os.scandir", lambda path: listings.append(path) or scandir(path))
    assert not any(map(find_sidecar, paths))
    assert len(listings) < 100
    (tmp_path / "GOLD0199.mrc.mdoc").write_text("[ZValue = 0]\nPixelSpacing = 2\n")
    newer_ns = tmp_path.stat().st_mtime_ns + 10**9  # whatever a file system counts time in
    os.utime(tmp_path, ns=(newer_ns, newer_ns))
    assert find_sidecar(paths[-1]) == tmp_path / "GOLD0199.mrc.mdoc"


@pytest.mark.parametrize("end", ["DateTime = 22-Feb-18  09:36", "", "\n"])
def test_live_as_at_rest_the_last_entry_of_an_mdoc_that_stays_as_it_is_counts(tmp_path, end):
    write(tmp_path, "gold.mrc", "gold.mrc.mdoc")
    mdoc = tmp_path / "gold.mrc.mdoc"
    before, _, date = mdoc.read_text().rpartition("DateTime = ")
    first = f"{before}DateTime = {date.strip()}\n\n"
    whole = (tmp_path / "gold.mrc").read_bytes()
    header = bytearray(whole[:1024])
    header[8:12] = (2).to_bytes(4, "little")
    (tmp_path / "gold.mrc").write_bytes(bytes(header) + whole[1024:] + whole[-IMAGE.nbytes :])
    last = f"[ZValue = 1]\nRefinedPixelSpacing = 0.61\nTiltAngle = 3{end and chr(10)}{end.strip()}"
    mdoc.write_text(first + last)
    watched = driver(tmp_path)
    assert sorted(watched.turns(5.0)) == ["gold.mrc#0", "gold.mrc#1"]
    assert watched.reported("gives nothing for it") == 0
    sidecars = [watched.released[name].sidecar for name in sorted(watched.released, key=str)]
    assert [size_nm for size_nm, _ in sidecars] == pytest.approx([0.052, 0.061])
    frame = read_section(tmp_path / "gold.mrc", 1)
    assert (frame.pixel_size_nm, frame.metadata.tilt_deg) == (pytest.approx(0.061), 3)
    assert sidecars[1][1].tilt_deg == 3


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("gold.mrc.mdoc", None, "gold.mrc.mdoc gives nothing for it: it is a pipe"),
        ("gold.mdoc", "ImageFile = a.st\n", "gives nothing for it: its ImageFile is a.st"),
        (
            "gold.mrc.mdoc",
            "[ZValue = 0]\nPixelSpacing = 1e9\nTiltAngle = 3\nDateTime = 22-Feb-18  09:36:56\n",
            "PixelSpacing = 1e9 in its mdoc can be no pixel size",
        ),
    ],
)
def test_live_an_odd_sidecar_is_reported_once_for_each_file(tmp_path, name, text, said):
    with StackWriter(tmp_path / "gold.mrc", pixel_size_nm=0.05, mdoc=False) as stack:
        for _ in range(2):
            stack.append(IMAGE)
    if text is None:
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).write_text(text)
    watched = driver(tmp_path)
    assert len(watched.turns(5.0)) == 2
    assert watched.reported(said) == 1
    assert watched.reported("nothing for it") + watched.reported("can be no pixel") == 1

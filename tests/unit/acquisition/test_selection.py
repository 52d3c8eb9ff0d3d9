"""Files, folders and wildcards as people name them."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from nanostream.acquisition.selection import expand, select_files
from nanostream.errors import MicrographError


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A day at the microscope, in the current folder."""
    monkeypatch.chdir(tmp_path)
    files = (
        *("data/day1/GOLD.MRC", "data/day1/GOLD.MRC.mdoc", "data/day1/notes.txt"),
        *("data/day2/gold.mrc", "data/day2/gold[1].tif", "data/day2/photo.JPG"),
        *("data/top.dm4", "data/top.png", "data/label_top.png", "data/nav.nav", "data/._top.dm4"),
        *("data/session/session.db", "data/session/previews/a.png", "data/.trash/old.mrc"),
        *("data/gold.mrc~", "other/a.npy"),
    )
    for name in files:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")
    return tmp_path / "data"


def slashed(text):
    """The same on every system."""
    return str(text).replace("\\", "/")


DAY1 = ["data/day1/GOLD.MRC"]
DAY2 = ["data/day2/gold.mrc", "data/day2/gold[1].tif"]


@pytest.mark.parametrize(
    ("names", "files", "root"),
    [
        (["data"], [*["data/top.dm4"], *DAY1, *DAY2], "data"),
        (["data/day1", "data/day2"], [*DAY1, *DAY2], "data"),
        (["data/day2", "other/a.npy", "data/top.dm4"], [*DAY2, "other/a.npy", "data/top.dm4"], "."),
        (["data/day2", "data/day2/gold.mrc", "data/day1/../day2"], DAY2, "data/day2"),
        (["data/**/*.mrc"], [*DAY1, DAY2[0]], "data"),
        (["data/day?/gold*"], [*DAY1, *DAY2], "data"),
        (["data/*/*.MRC"], [*DAY1, DAY2[0]], "data"),
        (["data/**"], ["data/top.dm4", *DAY1, *DAY2], "data"),
        (["data/[dt]*"], ["data/top.dm4", *DAY1, *DAY2], "data"),
        (["data/*.png"], ["data/top.png"], "data"),
        (["data/top.png"], ["data/top.png"], "data"),
        (["data/day2/gold[1].tif"], [DAY2[1]], "data/day2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_names_give_their_micrographs_each_once(data, names, files, root):
    found = select_files(names)
    assert sorted(path.as_posix() for path in found.files) == sorted(files)
    assert found.root == data.parent / root


def test_what_lies_beside_is_passed_over_and_what_cannot_be_read_is_said(data):
    found = select_files(["data", "data/day1/GOLD.MRC.mdoc", "absent.mrc", "data/*.st"])
    assert {slashed(name): reason for name, reason in found.left_out} == {
        "data/day2/photo.JPG": "nanostream does not read .jpg files",
        "absent.mrc": "no such file or folder; in the current folder there are 2 folders",
        "data/*.st": "no file fits *.st in data; there are 4 folders, 2 .dm4, 2 .png, "
        "1 .mrc~ and 1 .nav",
    }
    assert [path.name for path in found.pictures] == ["label_top.png", "top.png"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "no file is named; give files, folders or wildcards such as *.mrc"),
        (["data/day1/notes.txt"], "data/day1/notes.txt: no micrograph (only what lies beside"),
        (["data/day2/*.jpg"], "no micrograph (nanostream does not read .jpg files); nanostream"),
        (["data/day1/*.tif"], "no file fits *.tif in data/day1; there are 1 .mdoc, 1 .mrc and 1"),
        (["data/**/*.st"], "no file fits **/*.st in data or below; there are "),
        (["data/day3/*.mrc"], "data/day3: no such file or folder; is data/day2 meant?"),
        (["data/top.dm4/*"], "data/top.dm4: is a file, not a folder"),
        (["data/day2/glod.mrc"], "no such file or folder; is data/day2/gold.mrc meant?"),
        (["/nowhere/at/all.mrc"], "/nowhere/at/all.mrc: no such file or folder; in / there are "),
        (["data/session"], "data/session is a session, and its micrographs are elsewhere"),
        (["empty"], "empty: no micrograph in it or below; there is nothing; nanostream reads .mrc"),
        (["x" * 300], "no such file or folder"),
        (["a\0b"], "no such file or folder"),
    ],
    ids=lambda value: " ".join(value)[:30].replace("\0", "0") if isinstance(value, list) else "",
)
def test_where_nothing_is_the_folder_and_what_is_there_are_said(data, names, said):
    Path("empty").mkdir()
    with pytest.raises(MicrographError) as raised:
        select_files(names)
    assert said in slashed(raised.value)
    assert "Errno" not in str(raised.value)


@pytest.mark.skipif(sys.platform == "win32", reason="other names and links")
def test_pipes_and_linked_folders_are_left_out_with_a_word(data):
    os.mkfifo("data/pipe.mrc")
    Path("data/link").symlink_to("../other")
    Path("data/gone.mrc").symlink_to("nowhere.mrc")
    found = select_files(["data"])
    assert dict(found.left_out) == {
        "data/day2/photo.JPG": "nanostream does not read .jpg files",
        "data/link": "a link to a folder is not followed; name it, too",
        "data/pipe.mrc": "neither a file nor a folder",
    }
    assert Path("data/gone.mrc") in found.files  # its reader says that it is not there


def test_a_quote_that_cmd_left_at_the_end_is_not_part_of_the_name(data):
    assert expand('data/day2"') == (Path("data/day2"), [Path("data/day2")])


def test_a_folder_of_very_many_files_costs_a_listing(tmp_path):
    for number in range(3000):
        (tmp_path / f"{number:05}.TIF").touch()
        (tmp_path / f"{number:05}.TIF.mdoc").touch()
    found = select_files([tmp_path, f"{tmp_path}/*.tif"])
    assert [path.name for path in found.files] == [f"{number:05}.TIF" for number in range(3000)]
    assert found.left_out == ()


def test_a_tilde_is_a_home_or_part_of_a_name(data, monkeypatch):
    monkeypatch.setenv("HOME", str(data))
    Path("~nobody.mrc").touch()
    assert select_files(["~/day2/*.mrc"]).files == (data / "day2" / "gold.mrc",)
    assert select_files(["~nobody.mrc"]).files == (Path("~nobody.mrc"),)
    with pytest.raises(MicrographError, match=r"^~nobody/a\.mrc: no such file or folder"):
        select_files(["~nobody/a.mrc"])


def test_a_path_is_a_name_as_well_as_a_text(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 2)))
    assert select_files([tmp_path / "*.npy"]).files == (tmp_path / "a.npy",)

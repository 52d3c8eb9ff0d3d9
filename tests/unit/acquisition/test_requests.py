"""Requests in Python: files, arrays, lists, folders; and those that are refused in words."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nanostream as ns
from nanostream.acquisition.simulator import StackWriter
from nanostream.errors import ConfigError, MicrographError

IMAGE = np.arange(48, dtype=np.int16).reshape(6, 8)


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """Files of one and of three sections, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for day in ("day1", "day2"):
        Path(day).mkdir()
        np.save(f"{day}/gold.npy", IMAGE)
    with StackWriter(Path("day2/movie.mrc"), pixel_size_nm=0.026) as stack:
        for z in range(3):
            stack.append(IMAGE + z)
    Path("day2/movie.mrc.mdoc").touch()


class OnlyAnArray:
    """As dask's and HyperSpy's arrays are: nothing of NumPy but this."""

    def __array__(self, dtype=None, copy=None):
        return IMAGE


@pytest.mark.parametrize(
    "image",
    [
        IMAGE,
        IMAGE.tolist(),
        tuple(map(tuple, IMAGE.tolist())),
        list(IMAGE),
        OnlyAnArray(),
        IMAGE.astype(">f8"),
        IMAGE.astype(np.uint64),
        np.ma.MaskedArray(IMAGE),
        "day1/gold.npy",
        Path("day1/gold.npy"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_one_image_is_one_frame(image):
    frame = ns.read_section(image, pixel_size_nm=0.5)
    np.testing.assert_array_equal(frame.pixels, IMAGE)
    assert frame.pixel_size_nm == 0.5


def test_a_frame_stays_as_it_is_and_gets_a_size_that_it_has_not():
    frame = ns.read_section("day2/movie.mrc", 2)
    assert ns.read_section(frame, pixel_size_nm=9) is frame
    sized = ns.read_section(ns.read_section(IMAGE), pixel_size_nm=9)
    assert (sized.pixel_size_nm, sized.metadata.pixel_size_source) == (9, "user")


def test_masked_pixels_are_not_known():
    masked = np.ma.MaskedArray(IMAGE, IMAGE == 5)
    assert np.isnan(ns.read_section(masked).pixels[0, 5])


@pytest.mark.parametrize(
    ("asked", "z", "sections"),
    [
        (["day1/gold.npy", Path("day2/movie.mrc")], 0, ["gold.npy#0", "movie.mrc#0"]),
        ([IMAGE, OnlyAnArray()], 0, ["array#0", "array#1"]),
        ((IMAGE, "day1/gold.npy"), 0, ["array#0", "gold.npy#0"]),
        ("day2/movie.mrc", "all", ["movie.mrc#0", "movie.mrc#1", "movie.mrc#2"]),
        ("day1", "all", ["gold.npy#0"]),
        ("*/gold.*", "all", ["day1/gold.npy#0", "day2/gold.npy#0"]),
        (["day2/movie.mrc", "day1"], "all", [*(f"movie.mrc#{z}" for z in range(3)), "gold.npy#0"]),
        (IMAGE, "all", ["array#0"]),
    ],
)
def test_lists_and_all_are_lists_of_frames(asked, z, sections):
    assert [str(frame.section) for frame in ns.read_section(asked, z)] == sections


def test_all_of_a_folder_names_sections_below_it():
    found = ns.read_section(".", "all")
    assert [str(frame.section) for frame in found] == [
        *("day1/gold.npy#0", "day2/gold.npy#0"),
        *(f"day2/movie.mrc#{z}" for z in range(3)),
    ]
    assert [int(frame.pixels[0, 0]) for frame in found] == [0, 0, 0, 1, 2]


REFUSED = [
    (IMAGE + 1j, "array: complex pixels (complex128); give the real image"),
    (IMAGE > 3, "array: true and false are a mask, not a micrograph"),
    (np.zeros((0, 5)), "array: no pixels, its shape is (0, 5)"),
    ([], "array: no pixels, its shape is (0,)"),
    (np.zeros((2, 6, 8)), "array: 3 dimensions (2, 6, 8); give one image, such as stack[0]"),
    (np.zeros((2, 2, 6, 8)), "array: 4 dimensions"),
    (np.zeros((3, 4, 4)), "array: shape (3, 4, 4) can be an image of 4 channels or 3 images"),
    (IMAGE[0], "array: one row of 8 values"),
    (np.dstack([IMAGE, IMAGE + 1, IMAGE]), "array: colour image"),
    (np.full((6, 8), np.nan), "array: no pixel is a finite number"),
    (np.full((6, 8), -np.inf), "array: no pixel is a finite number"),
    (IMAGE.astype(object), "array: pixels of type object"),
    (np.array([["a", "b"]]), "array: pixels of type <U1"),
    ([["a", "b"]], "array: pixels of type <U1"),
    (np.zeros((2, 2), "M8[s]"), "array: pixels of type datetime64[s]"),
    ([[1, 2], [3]], "array: its rows are not all of one length"),
    (7, "array: not an image but of type int; give a file or rows"),
    (None, "array: not an image but of type NoneType"),
    ({"image": IMAGE}, "array: not an image but of type dict; give a file or rows"),
    ((row for row in IMAGE), "array: not an image but of type generator (make a list of it)"),
    ("glod.npy", "glod.npy: no such file or folder; in the current folder there are 2 folders"),
    ("day1/glod.npy", "day1/glod.npy: no such file or folder; is day1/gold.npy meant?"),
    ("day1", 'day1: a folder, 1 micrograph; z="all" gives a list of the sections of all'),
    ("day*/*", 'day*/*: a wildcard, 3 micrographs; z="all" gives a list'),
    ("day1/*.tif", "day1/*.tif: no file fits *.tif in day1; there is 1 .npy"),
    ("day2/movie.mrc.mdoc", "movie.mrc.mdoc: not a micrograph format"),
    (["day1/gold.npy", "absent.mrc"], "absent.mrc: no such file or folder"),
    ("", ": a folder, 3 micrographs"),
]


@pytest.mark.parametrize(("image", "said"), REFUSED, ids=[said[:40] for _, said in REFUSED])
@pytest.mark.parametrize("ask", [ns.read_section, ns.segment])
def test_what_is_no_image_is_refused_in_words(ask, image, said):
    with pytest.raises(MicrographError) as raised:
        ask(image)
    assert said in str(raised.value).replace("\\", "/")


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"z": -1}, ConfigError, 'z=-1: give the number of a section, from 0, or "all"'),
        ({"z": 1.0}, ConfigError, "z=1.0: give"),
        ({"z": True}, ConfigError, "z=True: give"),
        ({"z": "3"}, ConfigError, "z='3': give"),
        ({"z": 3}, MicrographError, "movie.mrc: section 3"),
        ({"pixel_size_nm": 0}, ConfigError, "pixel_size_nm=0: give"),
        ({"pixel_size_nm": float("nan")}, ConfigError, "pixel_size_nm=nan: give"),
        ({"pixel_size_nm": "a"}, ConfigError, "pixel_size_nm='a': give"),
        ({"pixel_size_nm": [0.1]}, ConfigError, "pixel_size_nm=[0.1]: give"),
        ({"pixel_size_nm": True}, ConfigError, "pixel_size_nm=True: give"),
    ],
    ids=str,
)
def test_a_section_or_a_size_that_cannot_be_is_refused(options, error, said):
    with pytest.raises(error, match=re.escape(said)):
        ns.read_section("day2/movie.mrc", **options)


def test_a_number_of_numpy_is_a_pixel_size():
    size_nm: Any = np.float32(0.5)
    assert ns.read_section(IMAGE, pixel_size_nm=size_nm).pixel_size_nm == 0.5


def test_a_number_of_numpy_is_a_section():
    assert ns.read_section("day2/movie.mrc", np.int64(2)).section.z == 2


@pytest.mark.parametrize("threshold", [0, 1, 1.5, float("nan")])
def test_a_threshold_that_is_no_probability_is_refused(threshold):
    with pytest.raises(ConfigError, match=r"threshold=.*: give a probability"):
        ns.segment(IMAGE, threshold=threshold)


def test_what_cannot_be_read_ends_all_before_the_first():
    Path("day1/photo.jpg").touch()
    with pytest.raises(MicrographError, match=r"photo\.jpg: nanostream does not read \.jpg files"):
        ns.read_section("day1", "all")
    Path("day2/movie.mrc").write_bytes(Path("day2/movie.mrc").read_bytes()[:-1])
    with pytest.raises(MicrographError, match="2 whole sections, its header counts more"):
        ns.read_section("day2/*.mrc", "all")


@pytest.mark.skipif(sys.platform == "win32", reason="has no such names")
@pytest.mark.parametrize("name", ["a:b.npy", "tab\t.npy"])
def test_a_name_that_no_section_can_have_is_refused_with_what_to_do(name):
    np.save(Path("day1") / name, IMAGE)
    said = r"it has a (colon|tab), .*; rename or copy"
    with pytest.raises(MicrographError, match=said):
        ns.read_section(Path("day1") / name)
    with pytest.raises(MicrographError, match=said):
        ns.read_section("day1", "all")

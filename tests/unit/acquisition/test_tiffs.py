"""TIFF pages: one at a time, and never beyond what is written."""

import struct

import cv2
import numpy as np
import pytest

from nanostream.acquisition import tiffs
from nanostream.errors import MicrographError

RNG = np.random.default_rng(0)
PAGES = [RNG.integers(0, 60_000, (40, 30 + z), dtype=np.uint16) for z in range(3)]


def decoded(file, offset):
    page = tiffs.read_page(file, offset)
    return cv2.imdecode(np.frombuffer(page, np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("compression", [1, 5, 8, 32946])  # none, LZW, ZIP, old ZIP
def test_each_page_is_read_alone(tmp_path, compression):
    path = tmp_path / "a.tif"
    cv2.imwritemulti(str(path), PAGES, [cv2.IMWRITE_TIFF_COMPRESSION, compression])
    with path.open("rb", buffering=0) as file:
        offsets = tiffs.page_offsets(file)
        for offset, pixels in zip(offsets, PAGES, strict=True):
            assert (decoded(file, offset) == pixels).all()
            assert len(tiffs.read_page(file, offset)) < pixels.nbytes * 1.5


def test_file_that_is_being_written_has_no_page(tmp_path):
    path = tmp_path / "a.tif"
    whole = cv2.imencode(".tif", PAGES[0], [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1].tobytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        with path.open("rb", buffering=0) as file, pytest.raises(ValueError, match=r"TIFF|written"):
            decoded(file, tiffs.page_offsets(file)[0])


def test_directories_that_form_a_ring_end(tmp_path):
    path = tmp_path / "a.tif"
    data = bytearray(cv2.imencode(".tif", PAGES[0])[1].tobytes())
    (start,) = np.frombuffer(data[4:8], "<u4")
    count = int(np.frombuffer(data[start : start + 2], "<u2")[0])
    data[start + 2 + 12 * count : start + 6 + 12 * count] = data[4:8]
    path.write_bytes(data)
    with path.open("rb", buffering=0) as file:
        assert tiffs.page_offsets(file) == [start]


def test_length_beyond_the_file_allocates_nothing(tmp_path):
    path = tmp_path / "a.tif"
    data = b"II*\0" + np.array([8], "<u4").tobytes() + np.array([65_535], "<u2").tobytes()
    path.write_bytes(data)
    with (
        path.open("rb", buffering=0) as file,
        pytest.raises(ValueError, match="not all is written"),
    ):
        tiffs.page_offsets(file)


def directory(*tags, following=0):
    """Bytes of a directory of long values: tag, count, value or its place."""
    entries = b"".join(
        np.array([tag, 4], "<u2").tobytes() + np.array([count, value], "<u4").tobytes()
        for tag, count, value in tags
    )
    count, end = np.array([len(tags)], "<u2"), np.array([following], "<u4")
    return count.tobytes() + entries + end.tobytes()


@pytest.mark.parametrize(
    "tags", [[(273, 100, 8), (279, 100, 408)], [(z, 150, 8) for z in range(9)]]
)
def test_parts_that_overlap_allocate_nothing(tmp_path, tags):
    path = tmp_path / "a.tif"
    values = np.r_[np.full(100, 8), np.full(100, 800)].astype("<u4").tobytes()
    start = np.array([8 + len(values)], "<u4").tobytes()
    path.write_bytes(b"II*\0" + start + values + directory(*tags))
    with path.open("rb", buffering=0) as file, pytest.raises(ValueError, match="in a file of"):
        tiffs.read_page(file, tiffs.page_offsets(file)[0])


def test_a_chain_of_more_pages_than_anybody_saves_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    width = (256, 1, 8)
    size = len(directory(width))
    chain = (directory(width, following=8 + size * (n + 1)) for n in range(tiffs.MOST_PAGES + 1))
    path.write_bytes(b"II*\0\x08\0\0\0" + b"".join(chain))
    with path.open("rb", buffering=0) as file, pytest.raises(MicrographError, match="10000 pages"):
        tiffs.page_offsets(file)


def page_of(*tags):
    """A TIFF whose only page has these (tag, type, count, value)."""
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    return head + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ([(256, 3, 1, 5), (257, 3, 1, 5)], "without strips or tiles"),
        ([(256, 3, 1, 5), (273, 4, 1, 8), (279, 4, 1, 900)], "900 bytes in a file of"),
    ],
)
def test_a_page_whose_pixels_are_not_there_is_none(tmp_path, tags, expected):
    path = tmp_path / "a.tif"
    path.write_bytes(page_of(*tags))
    with path.open("rb", buffering=0) as file, pytest.raises(ValueError, match=expected):
        tiffs.read_page(file, tiffs.page_offsets(file)[0])

"""Files of every format, changed at random: the readers' own error or an answer, nothing else.

Longer runs of the same kind, from the same files: scripts/fuzz_readers.py.
"""

import contextlib
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanostream.acquisition.frames import count_sections, inspect, read_section, remark_on
from nanostream.acquisition.mdoc import read_metadata
from nanostream.errors import MicrographError
from tests.effort import examples
from tests.micrograph_files import mrc_bytes, write_ser
from tests.reader_matrix import FORMATS

#: The first bytes of a file decide; a change is a place and what is written there.
CHANGES = st.lists(
    st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=8)), min_size=1, max_size=5
)
CUTS = st.none() | st.integers(0, 5000)
MDOC = b"PixelSpacing = 2\nImageFile = a.mrc\n\n[ZValue = 0]\nTiltAngle = 1\nMinMaxMean = 1 2 3\n"
MDOC += b"DateTime = 23-Nov-26  09:36:56\nPieceCoordinates = 0 0 0\n\n[ZValue = 1]\nTiltAngle = 3\n"


def changed(data, changes, cut):
    data = bytearray(data)
    for place, new in changes:
        if data:
            place %= len(data)
            data[place : place + len(new)] = new
    return bytes(data[:cut])


def files_of(heading):
    """A few valid files of a format."""
    column = next(column for column in FORMATS if column.heading == heading)
    files = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("form: stack", "form: one image", "form: several images"):
            if name in column.cells:
                path = Path(folder) / f"a{column.suffix}"
                column.cells[name].write(path)
                files.append(path.read_bytes())
    return column.suffix, files


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # ncempy's __del__
@pytest.mark.parametrize("heading", [column.heading for column in FORMATS])
def test_a_changed_file_is_read_or_refused(tmp_path, heading, capfd):
    suffix, files = files_of(heading)
    path = tmp_path / f"a{suffix}"

    @examples(30)
    @given(file=st.integers(0, len(files) - 1), changes=CHANGES, cut=CUTS)
    def check(file, changes, cut):
        path.write_bytes(changed(files[file], changes, cut))
        with contextlib.suppress(MicrographError):
            count = count_sections(path).sections
            for z in (0, count - 1):
                read_section(path, z)
            remark_on(path)

    check()
    assert capfd.readouterr() == ("", "")


def test_a_changed_mdoc_never_stops_the_reading_of_its_file(tmp_path):
    path = tmp_path / "a.mrc"
    path.write_bytes(mrc_bytes(np.zeros((2, 5, 7), np.int16)))

    @examples(100)
    @given(changes=CHANGES, cut=CUTS)
    def check(changes, cut):
        (tmp_path / "a.mrc.mdoc").write_bytes(changed(MDOC, changes, cut))
        for z in (0, 1, 9):
            read_metadata(path, z)
        assert read_section(path).pixels.shape == (5, 7)

    check()


def test_an_mrc_that_is_being_written_is_ready_or_not_whatever_its_bytes(tmp_path):
    path, whole = tmp_path / "a.mrc", mrc_bytes(np.zeros((2, 5, 7), np.int16))

    @examples(100)
    @given(changes=CHANGES, cut=CUTS)
    def check(changes, cut):
        path.write_bytes(changed(whole, changes, cut))
        try:
            contents, status = inspect(path)
        except MicrographError:
            return
        assert 0 <= contents.complete_sections(status.st_size) <= status.st_size

    check()


@pytest.mark.parametrize("place", [22, 62, 122, 126])
def test_a_length_beyond_the_file_costs_no_memory(tmp_path, place):
    """Of a series of TIA; those of the other formats are in their own tests."""
    path = tmp_path / "a.ser"
    write_ser(path, np.zeros((2, 6, 5), np.int16), pixel_m=5e-11)
    path.write_bytes(changed(path.read_bytes(), [(place, b"\xff\xff\xff\x7f")], None))
    tracemalloc.start()
    with pytest.raises(MicrographError):
        read_section(path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # ncempy's __del__
@pytest.mark.parametrize("heading", ["DM3", "DM4"])
def test_no_length_in_a_dm_file_costs_memory(tmp_path, heading):
    suffix, (data, *_) = files_of(heading)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    read_section(path)  # what is imported first
    tracemalloc.start()
    for place in range(0, min(len(data), 600), 15):  # in any place of a number
        path.write_bytes(changed(data, [(place, b"\x7f\xff\xff\xff")], None))
        with contextlib.suppress(MicrographError):
            read_section(path)
    assert tracemalloc.get_traced_memory()[1] < 3_000_000
    tracemalloc.stop()

"""The script that fuzzes the readers: what it takes for a finding, and what not."""

import logging
import os
import random
import signal
import time

import pytest

pytest.importorskip("resource", reason="the script measures memory as Unix does")

import fuzz_readers
from nearly_valid_files import Target

from nanostream.errors import MicrographError


class Tried:
    """One file whose reading does something, as often as time allows."""

    def __init__(self, folder, read):
        self.path = folder / "a.mrc"
        self.read = read

    def write(self):
        self.path.write_bytes(b"bytes")


@pytest.fixture
def tried(tmp_path, monkeypatch):
    """The outcomes of one reading, with limits that a test can reach."""
    monkeypatch.setattr(fuzz_readers, "HANG_CPU_S", 0.05)

    def once(read):
        def read_and_end():
            signal.raise_signal(signal.SIGINT)  # as Ctrl-C: the script ends with this file
            read()

        outcomes, findings = fuzz_readers.run(Tried(tmp_path, read_and_end), 600, tmp_path / "kept")
        return dict(outcomes), findings

    return once


def use_processor(seconds):
    """Work for so much processor time, however long that takes on this machine."""
    end_s = time.process_time() + seconds
    while time.process_time() < end_s:
        pass


def test_a_reader_that_waits_for_the_processor_is_no_hang(tried):
    assert tried(lambda: time.sleep(0.1)) == ({"read": 1}, 0)


def test_a_reader_that_uses_the_processor_for_long_is_a_finding(tried, tmp_path):
    assert tried(lambda: use_processor(60)) == ({"finding: _HangError": 1}, 1)
    assert (tmp_path / "kept" / "finding-1" / "a.mrc").read_bytes() == b"bytes"


def test_a_reader_that_never_ends_and_uses_nothing_is_a_finding(tried, monkeypatch):
    monkeypatch.setattr(fuzz_readers, "HANG_S", 0.05)
    assert tried(lambda: time.sleep(60)) == ({"finding: _HangError": 1}, 1)


def test_a_refusal_is_none_but_one_for_want_of_memory_is(tried):
    def refuse():
        raise MicrographError("a.mrc: damaged")

    def want():
        try:
            raise MemoryError("9 GiB")
        except MemoryError as error:
            logging.getLogger("nanostream.acquisition").debug("a.mrc: %r", error)
        refuse()

    assert tried(refuse) == ({"MicrographError": 1}, 0)
    assert tried(want) == ({"finding: MemoryError": 1}, 1)


def test_another_error_and_a_line_on_the_screen_are_findings(tried):
    def write_line():
        os.write(2, b"libtiff: no")

    assert tried(lambda: {}["key"]) == ({"finding: KeyError": 1}, 1)
    assert tried(write_line) == ({"finding: ValueError": 1}, 1)


@pytest.mark.parametrize("name", ["tiff", "mrc", "mdoc", "emd"])
def test_the_files_of_a_target_are_of_many_kinds(tmp_path, name):
    target = Target(name, tmp_path, random.Random(1))
    target.read()  # a valid one
    files = set()
    for _ in range(20):
        target.write()
        files |= {path.read_bytes() for path in tmp_path.iterdir()}
    assert len(files) > 15

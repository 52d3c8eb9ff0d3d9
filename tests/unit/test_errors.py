"""Reasons of errors, in words of the system's or nanostream's own."""

import errno
import os

from nanostream.errors import MicrographError, advice_on, reason_of


def test_numbers_and_paths_of_the_system_are_left_out():
    error = OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), "/long")
    assert reason_of(error) == "File name too long"
    assert advice_on(error) == "File name too long; give the file a shorter name"


def test_an_error_of_nanostreams_own_keeps_its_words():
    said = "a.mrc: truncated file: 5 of 9 bytes; copy it again"
    assert reason_of(MicrographError(said)) == said
    assert reason_of(ValueError(said)) == "no HDF5, or damaged"

"""Lines of libraries on file descriptor 2."""

import logging
import os

import pytest

from nanostream.noise import logged_stderr


def test_what_native_code_writes_is_in_the_log_and_not_on_the_screen(caplog, capfd):
    with caplog.at_level(logging.INFO, "nanostream.noise"):
        with logged_stderr():
            os.write(2, b"[ WARN:0@0.1] unknown field\nand \xff\n")
        os.write(2, b"after\n")
    assert [record.getMessage() for record in caplog.records] == [
        "[ WARN:0@0.1] unknown field",
        "and \ufffd",
    ]
    assert capfd.readouterr().err == "after\n"


def fail():
    with logged_stderr():
        os.write(2, b"noise\n")
        raise ValueError("torn")


def test_an_error_passes_and_the_screen_is_there_again(caplog, capfd):
    caplog.set_level(logging.INFO, "nanostream.noise")
    with pytest.raises(ValueError, match="torn"):
        fail()
    assert caplog.messages == ["noise"]
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"

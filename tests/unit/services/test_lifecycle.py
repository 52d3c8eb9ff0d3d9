"""Common parts of every process: its start, its messages and its log."""

import gc
import logging

import pytest

from nanostream.errors import printable
from nanostream_services.processes.lifecycle import importing
from nanostream_services.processes.logs import start_log
from nanostream_services.processes.outbox import Outbox

HOSTILE = "a\x1b[2Jb\x9b2Jc\u202egpj.exe\n12:00:00 forged\x7f\udc80"


@pytest.fixture
def root():
    logger = logging.getLogger()
    before = logger.handlers[:], logger.level
    yield logger
    for handler in set(logger.handlers) - set(before[0]):
        handler.close()
    logger.handlers[:] = before[0]
    logger.setLevel(before[1])


def test_what_is_printable_stays():
    text = "Größe µm 金 \\ 'x' \"y\" #3"
    assert printable(text) == text
    assert printable(HOSTILE) == (r"a\x1b[2Jb\x9b2Jc\u202egpj.exe\n12:00:00 forged\x7f\udc80")
    assert printable(printable(HOSTILE)) == printable(HOSTILE)


def test_events_are_printable():
    outbox = Outbox()
    outbox.add(HOSTILE)
    ((_, text),) = outbox.message().events
    assert text.isprintable()
    assert text.endswith(printable(HOSTILE))


def test_a_log_line_is_one_printable_line_and_a_traceback_keeps_its_lines(tmp_path, root):
    start_log(tmp_path / "run.log")
    root.warning("folder %s cannot be listed", HOSTILE)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        root.exception("broken")
    first, second, *traceback = (tmp_path / "run.log").read_text("utf-8").splitlines()
    assert first.endswith(f"folder {printable(HOSTILE)} cannot be listed")
    assert second.endswith("broken")
    assert len(traceback) > 3
    assert all(line.isprintable() for line in (first, second, *traceback))


@pytest.mark.parametrize("wanted", [True, False])
def test_garbage_is_looked_for_after_an_import_as_before_even_if_it_fails(wanted):
    def fail():
        with importing():
            assert not gc.isenabled()
            raise ImportError

    try:
        if not wanted:
            gc.disable()
        with pytest.raises(ImportError):
            fail()
        assert gc.isenabled() == wanted
    finally:
        gc.enable()
        gc.unfreeze()

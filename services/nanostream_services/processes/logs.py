"""Logs: where they go, in text that cannot steer a terminal."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TextIO

from platformdirs import user_log_path

from nanostream.errors import printable

__all__ = ["libraries_silent", "start_log", "user_log"]

#: Of the log of commands without a session; a longer one begins anew.
_LONGEST_BYTES = 1_000_000

#: Descriptor 2 is led into the log, and not the screen.
_silent = threading.Event()


def start_log(file: Path | None = None) -> None:
    """Send the log to a file, or to standard error; only the command line calls this."""
    own_file = logging.FileHandler(file, encoding="utf-8") if file else None
    _log_to(own_file or _to_stderr())
    # It logs each lost file event, several times a second on a large tree; scans find the files.
    logging.getLogger("watchdog").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)  # the same, of subfolders
    if own_file is not None and own_file.stream is not None and _silent.is_set():
        os.dup2(own_file.stream.fileno(), 2)


@contextmanager
def libraries_silent() -> Iterator[None]:
    """Lead what libraries write by themselves into the log: the screen has what we write.

    OpenCV, HDF5 and TensorFlow write to file descriptor 2 and some packages to Python's log or
    warnings. Until `start_log` has a session's file for it, it is kept, and added to `user_log` in
    the end.
    """
    screen = sys.stderr
    if screen is None or not _is_descriptor_2(screen):  # led elsewhere already
        yield
        return
    with _place_for_noise() as noise:
        own = os.fdopen(os.dup(2), "w", 1, encoding=screen.encoding, errors="backslashreplace")
        screen.flush()
        os.dup2(noise.fileno(), 2)
        sys.stderr = own
        _silent.set()
        _log_to(logging.StreamHandler(os.fdopen(os.dup(noise.fileno()), "w", 1, encoding="utf-8")))
        logging.raiseExceptions = False  # a full disk has a message of its own
        logging.captureWarnings(True)
        try:
            yield
        finally:
            _silent.clear()
            os.dup2(own.fileno(), 2)
            sys.stderr = screen
            noise.seek(0)
            _keep(noise.read())


def _place_for_noise() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError:  # no room anywhere
        return Path(os.devnull).open("r+b")


def user_log() -> Path:
    """The log of commands without a session."""
    return user_log_path("nanostream", appauthor=False) / "nanostream.log"


def _keep(text: bytes) -> None:
    if not text:
        return
    file = user_log()
    with suppress(OSError):  # a home that cannot be written must not fail a command
        file.parent.mkdir(parents=True, exist_ok=True)
        begun = file.exists() and file.stat().st_size < _LONGEST_BYTES
        with file.open("ab" if begun else "wb") as log:
            log.write(text)


def _is_descriptor_2(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 2
    except (OSError, ValueError):  # a test's, or closed
        return False


def _log_to(handler: logging.Handler) -> None:
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    root = logging.getLogger()
    for before in root.handlers:
        if isinstance(before, logging.FileHandler):
            before.close()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


class _Formatter(logging.Formatter):
    """Only a traceback has further lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (its name in logging)
        return printable(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


def _to_stderr() -> logging.StreamHandler[TextIO]:
    """A way of its own to where standard error goes now.

    While TensorFlow is imported, standard error is led elsewhere, for all threads.
    """
    stream = sys.stderr
    if stream is sys.__stderr__ and stream is not None:
        with suppress(OSError, ValueError):  # closed, or no file
            own = os.dup(stream.fileno())
            stream = os.fdopen(own, "w", 1, encoding=stream.encoding, errors="backslashreplace")
    return logging.StreamHandler(stream)

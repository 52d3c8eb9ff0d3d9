"""Logs: where they go, and text that cannot steer a terminal."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TextIO

__all__ = ["printable", "start_log"]


def start_log(file: Path | None = None) -> None:
    """Send the log to a file, or to standard error; only the command line calls this."""
    handler = logging.FileHandler(file, encoding="utf-8") if file else _to_stderr()
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # It logs each lost file event, several times a second on a large tree; scans find the files.
    logging.getLogger("watchdog").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)  # the same, of subfolders
    root.setLevel(logging.INFO)


def printable(text: str) -> str:
    """Text for a terminal: what could steer it or turn the line around becomes an escape.

    Names of files and folders, and what comes from the network, can have such characters.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


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

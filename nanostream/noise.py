"""Lines that libraries write to standard error by themselves, led into the log.

OpenCV, libtiff, libpng, HDF5 and TensorFlow write to the file descriptor, past Python; an operator
who segments a file, or a notebook, should not see that.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from nanostream.errors import printable

__all__ = ["logged_stderr"]

logger = logging.getLogger(__name__)


@contextmanager
def logged_stderr() -> Iterator[None]:
    """Send to the log whatever native code writes to standard error meanwhile, in all threads."""
    try:
        stderr = os.dup(2)
    except OSError:  # closed, as in a program of Windows without a console
        yield
        return
    with tempfile.TemporaryFile() as noise:
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(noise.fileno(), 2)
        try:
            yield
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            noise.seek(0)
            for line in noise.read().decode(errors="replace").splitlines():
                logger.info("%s", printable(line))

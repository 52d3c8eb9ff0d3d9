"""Fuzzing of the readers of micrographs by mutation of valid files: no atheris, any Unix.

::

    python scripts/fuzz_readers.py tiff --seconds 200
    python scripts/fuzz_readers.py mdoc --seconds 200 --seed 2

Begins with the files of the reader matrix (tests/reader_matrix.py, tests/tiff_files.py), changes
each in a few places and reads it as ``nanostream segment`` does, at rest and as a file that is
being written. A finding is an exception that is no MicrographError, a line on the screen, more
than `HANG_CPU_S` of processor time for one file, or a wish for more than `MOST_BYTES` of memory,
whatever the reader makes of its refusal: the file is kept, and the exit code is 1. Ends with the
number of executions, what came of them and the peak of memory.

Processor time and not time of the clock: on a machine with other work a good reader waits.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import logging
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from nearly_valid_files import TARGETS, Target

from nanostream.errors import MicrographError

#: Of all threads; the largest of the files takes some milliseconds.
HANG_CPU_S = 5.0
#: Who waits for good uses no processor. What does not come back from a library hears no signal:
#: after twice this time the script ends with the place, and leaves the file in its folder.
HANG_S = 300.0
#: Beyond what the process has when it begins: a read that wants more is refused by the system. The
#: files have some kilobytes, of which no codec makes a hundredth of this.
MOST_BYTES = 2**30


class _HangError(BaseException):
    """A file has taken too long; no OSError, which the readers take for the file's."""


class _Shortage(logging.Handler):
    """Notes that memory was refused, of which readers make an error of the file."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if "MemoryError" in line:
            self.lines.append(line)

    def check(self) -> None:
        """Raise what was noted."""
        lines, self.lines = self.lines, []
        if lines:
            raise MemoryError(lines[0])


class Files(Protocol):
    """Files of one kind, one after the other at ``path``."""

    path: Path

    def write(self) -> None:
        """Make the next file."""

    def read(self) -> None:
        """Read it in every way."""


def run(target: Files, seconds: float, keep: Path) -> tuple[Counter[str], int]:
    """Counts of outcomes until the time is over or Ctrl-C, and how many findings are kept."""
    end_s = time.monotonic() + seconds

    def stop(*_: object) -> None:
        nonlocal end_s
        end_s = 0.0

    outcomes: Counter[str] = Counter()
    seen: set[str] = set()
    with _told(stop, signal.SIGINT), _shortage() as shortage:
        while time.monotonic() < end_s:
            target.write()
            try:
                outcomes[_outcome(target, shortage)] += 1
            except (Exception, _HangError) as error:  # noqa: BLE001 - that is what is looked for
                outcomes[f"finding: {type(error).__name__}"] += 1
                where = "".join(traceback.format_tb(error.__traceback__)[-2:])
                if where not in seen:
                    seen.add(where)
                    _keep(target.path, keep / f"finding-{len(seen)}", error)
    return outcomes, len(seen)


def _outcome(target: Files, shortage: _Shortage) -> str:
    """Read one file: read, or the name of the readers' own error. Raises what is a finding."""
    try:
        with _alarm(), _quiet():
            target.read()
    except MicrographError as error:
        shortage.check()
        return type(error).__name__
    shortage.check()
    return "read"


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    """Raises `_HangError` inside when too much processor time is used, or nothing ever comes."""

    def hang(*_: object) -> None:
        raise _HangError

    with _told(hang, signal.SIGPROF, signal.SIGALRM):
        signal.setitimer(signal.ITIMER_PROF, HANG_CPU_S)
        signal.setitimer(signal.ITIMER_REAL, HANG_S)
        faulthandler.dump_traceback_later(2 * HANG_S, exit=True, file=1)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def _told(handler: Callable[..., None], *numbers: signal.Signals) -> Iterator[None]:
    """Calls a function at some signals meanwhile."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextlib.contextmanager
def _shortage() -> Iterator[_Shortage]:
    """Notes of the readers' log, in which they say what a library has raised."""
    logger, handler = logging.getLogger("nanostream"), _Shortage()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Raises where a library has written to the screen meanwhile."""
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as noise:
        os.dup2(noise.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(screen, 2)
            os.close(screen)
            if size := noise.seek(0, os.SEEK_END):
                noise.seek(0)
                msg = f"{size} bytes on the screen: {noise.read(200)!r}"
                raise ValueError(msg)


def _keep(path: Path, folder: Path, error: BaseException) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in path.parent.glob("a.*"):
        (folder / file.name).write_bytes(file.read_bytes())
    traceback.print_exception(error)
    sys.stdout.write(f"kept in {folder}\n")


def _limit_memory() -> None:
    """Let the process have `MOST_BYTES` more than it has, where the system says what it has."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return
    most = int(statm.read_text().split()[0]) * resource.getpagesize() + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "fuzzed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        target = Target(options.target, Path(folder), random.Random(options.seed))
        target.read()  # what is imported with the first file
        sys.stdout.write(f"files are written in {folder}\n")
        sys.stdout.flush()
        _limit_memory()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcomes, findings = run(target, options.seconds, options.keep / options.target)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = ", ".join(f"{count} {what}" for what, count in outcomes.most_common())
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    sys.stdout.write(
        f"{options.target}: {sum(outcomes.values())} executions ({counts}); {findings} findings; "
        f"peak memory {peak // unit} MiB, {(peak - before) // unit} MiB of it while reading\n"
    )
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()

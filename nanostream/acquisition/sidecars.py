"""Which file beside a micrograph is the one that SerialEM writes for it.

====================  ==============================================================================
sidecar               of
====================  ==============================================================================
``gold.mrc.mdoc``     ``gold.mrc``: SerialEM's own name; it wins over others
``gold.mdoc``         ``gold.mrc``, unless its ImageFile is another
``gold.idoc``         each file ``gold0003.tif`` of a TIFF series
====================  ==============================================================================

The case of letters does not matter: the names come from Windows, and ``GOLD.MRC.MDOC`` is found on
Linux too. None of them need be there; SerialEM writes none by default.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nanostream.acquisition.autodoc import parse_mdoc
from nanostream.acquisition.scans import pause_s
from nanostream.errors import printable

__all__ = ["MOST_BYTES", "find_sidecar", "passed_over", "read_file"]

logger = logging.getLogger(__name__)

#: An mdoc of 100,000 sections has some 80 MB.
MOST_BYTES = 2**27
_ENDINGS = (".mdoc", ".idoc")
#: The coarsest time of a file system in use (FAT): a change may not show in it for so long.
_COARSEST_TIME_S = 2.0
#: The keys of a whole file come before its first section.
_TOP_BYTES = 2**16
#: A folder is listed whenever it may have changed, until that has taken so long since its last
#: change; then, as one of many files or on a slow share, no more often than it is scanned.
_CHEAP_CPU_S, _CHEAP_WALL_S = 1e-3, 0.05


def find_sidecar(path: Path) -> Path | None:
    """The mdoc or idoc of a micrograph, or None if there is none."""
    files = (found for found, mode in _there(path) if stat.S_ISREG(mode))
    return next((file for file in files if _owner(file, path) == path.name), None)


def passed_over(path: Path) -> str:
    """Reasons why what is called like a sidecar of a micrograph gives nothing for it; or empty."""
    reasons = []
    for found, mode in _there(path):
        why = ""
        if not stat.S_ISREG(mode):  # to read a pipe would wait for good
            why = f"it is {'a folder' if stat.S_ISDIR(mode) else 'a pipe or a device'}"
        elif (owner := _owner(found, path)) not in ("", path.name):
            why = f"its ImageFile is {owner}"
        if why:
            reasons.append(f"{found.name} gives nothing for it: {why}")
    return "; ".join(reasons)


def _owner(sidecar: Path, path: Path) -> str:
    """The name of the micrograph that a file of such a name describes: ``gold.mdoc`` says it.

    Empty if another file that is there has its name from the same rule.
    """
    if len(sidecar.name) != len(path.stem) + len(".mdoc") or sidecar.suffix.lower() == ".idoc":
        return path.name
    if path.with_suffix("").is_file():  # it is that file's own
        return ""
    of_file = parse_mdoc((read_file(sidecar) or b"")[:_TOP_BYTES]).globals.get("ImageFile", "")
    name = re.split(r"[\\/]", of_file)[-1]
    return path.name if name.casefold() in ("", path.name.casefold()) else name


def _there(path: Path) -> Iterator[tuple[Path, int]]:
    """Paths under a sidecar's names that exist, likeliest first, and their modes."""
    names = [f"{path.name}.mdoc", f"{path.stem}.mdoc"]
    if path.suffix.lower() == ".tif" and (digits := re.fullmatch(r".*?(\d{4,})", path.stem)):
        # The idoc of gold0003.tif is gold.idoc (KStoreADOC.cpp: root and %04d).
        names += [f"{path.stem[:-count]}.idoc" for count in range(4, len(digits[1]) + 1)]
    beside, listed = str(path)[: -len(path.name)], None
    for name in names:
        status, found = _status(beside + name), name
        if status is None or not stat.S_ISREG(status.st_mode):
            listed = _names(str(path.parent)) if listed is None else listed
            other = listed.get(name.casefold(), name)
            if other != name and (of_other := _status(beside + other)) is not None:
                status, found = of_other, other
        if status is not None:
            yield path.with_name(found), status.st_mode


def _status(path: str) -> os.stat_result | None:
    """The state of a file or folder; None if it is absent, or too long a name, or has no answer.

    Most files have no sidecar, and to make the `Path` of each name takes longer than the disk.
    """
    try:
        return os.stat(path)  # noqa: PTH116
    except OSError:
        return None


def _names(folder: str) -> dict[str, str]:
    """Sidecars in a folder, by their names in small letters; listed again when it has changed."""
    if os.name == "nt":  # which finds a name in any case
        return {}
    status = _status(folder)
    if status is None:
        return {}
    mtime_ns = status.st_mtime_ns
    known, now_s = _LISTED.get(folder), time.monotonic()
    if known is None or not known.holds(mtime_ns, now_s):
        known = _LISTED[folder] = _list(folder, mtime_ns, known)
    return known.names


@dataclass(frozen=True)
class _Listing:
    """Sidecars of a folder by their names in small letters, as they were at one moment.

    ``since_s`` is when the folder's time was first seen, by our own clock, and ``times`` how often
    the folder was listed since.
    """

    names: dict[str, str]
    mtime_ns: int
    since_s: float
    times: int
    listed_s: float
    cpu_s: float
    wall_s: float

    def holds(self, mtime_ns: int, now_s: float) -> bool:
        """Whether nothing has changed, or it is too early to list again."""
        unchanged = mtime_ns == self.mtime_ns
        if unchanged and self.listed_s - self.since_s >= _COARSEST_TIME_S:
            return True
        # Thousands of files that come to rest together ask for their sidecars one after the other.
        times = self.times if unchanged else 1
        cpu_s, wall_s = times * self.cpu_s, times * self.wall_s
        dear = cpu_s > _CHEAP_CPU_S or wall_s > _CHEAP_WALL_S
        return dear and now_s - self.listed_s < pause_s(cpu_s, wall_s, poll_s=0.0)


def _list(folder: str, mtime_ns: int, before: _Listing | None) -> _Listing:
    same = before if before is not None and before.mtime_ns == mtime_ns else None
    start_s, start_cpu_s = time.monotonic(), time.thread_time()
    try:
        with os.scandir(folder) as entries:  # without a stat of each
            names = [entry.name for entry in entries if entry.name.lower().endswith(_ENDINGS)]
    except OSError:
        names = []
    by_name = {name.casefold(): name for name in sorted(names)}
    cpu_s, wall_s = time.thread_time() - start_cpu_s, time.monotonic() - start_s
    since_s, times = (start_s, 1) if same is None else (same.since_s, same.times + 1)
    return _Listing(by_name, mtime_ns, since_s, times, start_s, cpu_s, wall_s)


#: By folder; a session has few.
_LISTED: dict[str, _Listing] = {}


def read_file(path: Path) -> bytes | None:
    """All bytes of a sidecar; None if it is absent, held by its writer or too long."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would block for good
            return None
        if status.st_size > MOST_BYTES:
            _warn_too_long(path)
            return None
        # One gulp: SerialEM must be able to open it for writing at any moment.
        return path.read_bytes()
    except OSError:  # absent, held by its writer, or on a share that has no answer now
        return None


@functools.cache
def _warn_too_long(path: Path) -> None:
    why = f"it has more than {MOST_BYTES // 2**20} MiB; is it an mdoc?"
    logger.warning("%s is not read: %s", printable(str(path)), why)

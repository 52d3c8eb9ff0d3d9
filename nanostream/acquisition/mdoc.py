"""Files that SerialEM writes beside a micrograph: which one it is, and what it says of a section.

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
import itertools
import logging
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from nanostream.acquisition.autodoc import (
    TILT_FRAMES,
    Mdoc,
    metadata_of,
    parse_mdoc,
    without_mark,
)
from nanostream.acquisition.scans import pause_s
from nanostream.records import Metadata

__all__ = [
    "MOST_BYTES",
    "find_sidecar",
    "read_listing",
    "read_mdoc",
    "read_metadata",
    "read_metadata_of",
]

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


def read_metadata(
    path: Path, z: int, *, title: str = "", at_rest: bool = False
) -> tuple[float | None, Metadata] | None:
    """Pixel size and metadata of one section of a file on disk.

    Parameters
    ----------
    path : Path
        The micrograph; see the module's text for how its sidecar is called.
    z : int
        0-based section.
    title : str
        First label of the file. SerialEM gives it to the mdoc as well, with the time of "Open
        New": an mdoc with another one was left by an older file of the same name. Where the mdoc
        has none, its MinMaxMean is not believed.
    at_rest : bool
        As `parse_mdoc`.

    Returns
    -------
    tuple or None
        As `metadata_of`; None if there is no mdoc, or it has no such section yet, or it belongs to
        another file.
    """
    return next(read_metadata_of(path, [z], title=title, at_rest=at_rest))


def read_metadata_of(
    path: Path,
    numbers: Iterable[int],
    *,
    title: str = "",
    dated: bool = False,
    at_rest: bool = False,
) -> Iterator[tuple[float | None, Metadata] | None]:
    """`read_metadata` of several sections of one file, which is read once.

    Parameters
    ----------
    path, title
        As `read_metadata`.
    numbers : iterable of int
        0-based sections.
    dated, at_rest : bool
        As `parse_mdoc`.

    Yields
    ------
    tuple or None
        In the order of the numbers.
    """
    sidecar = _sidecar(path, at_rest=at_rest)
    for z in numbers:
        mdoc = None if sidecar is None else sidecar.around(z, dated=dated)
        yield None if mdoc is None else _entry(mdoc, path, z, title)


def _entry(mdoc: Mdoc, path: Path, z: int, title: str) -> tuple[float | None, Metadata] | None:
    if mdoc.section(z, path.name) is None:
        return None
    of_mdoc = next((t for t in mdoc.titles if t.startswith("SerialEM:")), "")
    ours = title.startswith("SerialEM:")
    if ours and of_mdoc and not mdoc.frame_sets and _label(of_mdoc) != _label(title):
        return None
    pixel_size_nm, metadata = metadata_of(mdoc, z, path.name)
    if ours and not of_mdoc:
        metadata = replace(metadata, min_max_mean=None)
    return pixel_size_nm, metadata


def read_mdoc(path: Path, z: int | None = None) -> Mdoc | None:
    """The mdoc or idoc of a micrograph, or None.

    Parameters
    ----------
    path : Path
        The micrograph.
    z : int or None
        0-based section that is asked for; others may be left out. Of an idoc it is the one of this
        file.
    """
    sidecar = _sidecar(path)
    if sidecar is None:
        return None
    return sidecar.around(z) if z is not None or sidecar.image else sidecar.whole


def read_listing(path: Path, *, at_rest: bool = False) -> tuple[Mdoc, int] | None:
    """The entry of the first section of a file, and how many sections are listed; or None.

    Parameters
    ----------
    path : Path
        The micrograph.
    at_rest : bool
        As `parse_mdoc`.

    Returns
    -------
    mdoc : Mdoc
        As `read_mdoc` for section 0.
    count : int
        Complete sections, from 0 on without a gap.
    """
    sidecar = _sidecar(path, at_rest=at_rest)
    return None if sidecar is None else (sidecar.around(0), sidecar.count)


def find_sidecar(path: Path) -> Path | None:
    """The mdoc or idoc of a micrograph, or None if there is none."""
    return next((file for file in _found(path) if _belongs(file, path)), None)


class _Sidecar:
    """An mdoc, or an idoc and which ``image`` of it is asked for, as it was read once.

    Parsing all of it for each section of a long movie would cost more with every section.
    """

    def __init__(self, data: bytes, image: str = "", *, at_rest: bool = False) -> None:
        self.image, self._at_rest = image, at_rest
        self._data, self._encoding = without_mark(data)
        found = list(_HEADS["Image" if image else "ZValue"].finditer(self._data))
        self._starts = [match.start() for match in found]
        names = (match[1].strip(b" \t").lower() for match in found)
        self._places = {name: place for place, name in enumerate(names)}

    @functools.cached_property
    def whole(self) -> Mdoc:
        """All of it."""
        return self._parsed(self._data)

    @functools.cached_property
    def _of_tilts(self) -> bool:
        return TILT_FRAMES.encode() in self._data

    @property
    def count(self) -> int:
        """Complete sections from 0 on without a gap; only the last in the file can be torn."""
        numbers = {int(name): place for name, place in self._places.items() if _NUMBER(name)}
        count = next(n for n in itertools.count() if n not in numbers)
        last = next((n for n in range(count) if numbers[n] == len(self._starts) - 1), None)
        return count if last is None or self.around(last).section(last) is not None else last

    def around(self, z: int | None, *, dated: bool = False) -> Mdoc:
        """Top of it, one section, the one before and the start of the one after.

        Enough for `parse_mdoc` to judge whether the section is complete.
        """
        data, starts = self._data, self._starts
        place = self._places.get((self.image or str(z)).encode(self._encoding, "replace").lower())
        if self._of_tilts:
            return self.whole
        if not starts:
            return self._parsed(data, dated=dated)  # of frame sets
        if place is None:
            return self._parsed(data[: starts[0]], dated=dated)
        end = len(data)
        if place + 1 < len(starts):
            end = data.find(b"\n", starts[place + 1]) + 1 or end
        before = starts[max(place - 1, 0)]
        return self._parsed(data[: starts[0]] + data[before:end], dated=dated)

    def _parsed(self, data: bytes, *, dated: bool = False) -> Mdoc:
        text = data.decode(self._encoding, errors="replace")
        return parse_mdoc(text, dated=dated, at_rest=self._at_rest)


_NUMBER = re.compile(rb"[0-9]{1,9}").fullmatch
#: Heads of sections. They begin with a letter that is rare, so that 10 MB take 50 ms.
_HEADS = {
    kind: re.compile(rb"\[[ \t]*" + kind.encode() + rb"[ \t]*=([^\r\n]*)\]")
    for kind in ("ZValue", "Image")
}


def _sidecar(path: Path, *, at_rest: bool = False) -> _Sidecar | None:
    found = find_sidecar(path)
    data = None if found is None else _read(found)
    if found is None or data is None:
        return None
    image = path.name if found.suffix.lower() == ".idoc" else ""
    return _Sidecar(data, image, at_rest=at_rest)


def _belongs(sidecar: Path, path: Path) -> bool:
    """Whether a file of such a name is of this micrograph: ``gold.mdoc`` says of which it is."""
    if len(sidecar.name) != len(path.stem) + len(".mdoc") or sidecar.suffix.lower() == ".idoc":
        return True
    if path.with_suffix("").is_file():  # it is that file's own
        return False
    of_file = parse_mdoc((_read(sidecar) or b"")[:_TOP_BYTES]).globals.get("ImageFile", "")
    name = re.split(r"[\\/]", of_file)[-1]
    return name.casefold() in ("", path.name.casefold())


def _found(path: Path) -> Iterator[Path]:
    """Files that are there under the names that a sidecar can have, the likeliest first."""
    names = [f"{path.name}.mdoc", f"{path.stem}.mdoc"]
    if path.suffix.lower() == ".tif" and (digits := re.fullmatch(r".*?(\d{4,})", path.stem)):
        # The idoc of gold0003.tif is gold.idoc (KStoreADOC.cpp: root and %04d).
        names += [f"{path.stem[:-count]}.idoc" for count in range(4, len(digits[1]) + 1)]
    beside, listed = str(path)[: -len(path.name)], None
    for name in names:
        if _is_file(beside + name):
            yield path.with_name(name)
            continue
        listed = _names(str(path.parent)) if listed is None else listed
        other = listed.get(name.casefold())
        if other is not None and _is_file(beside + other):
            yield path.with_name(other)


def _is_file(path: str) -> bool:
    status = _status(path)
    return status is not None and stat.S_ISREG(status.st_mode)


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


def _label(title: str) -> str:
    """The part that is sure to be the same in mdoc and label: the ASCII of its 80 characters."""
    return "".join(letter for letter in title[:80] if " " <= letter <= "~").rstrip()


def _read(path: Path) -> bytes | None:
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
    logger.warning(
        "%s is not read: it has more than %d MiB; is it an mdoc?", path, MOST_BYTES // 2**20
    )

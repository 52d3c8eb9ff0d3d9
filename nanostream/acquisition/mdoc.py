"""Metadata of sections, from the file that SerialEM writes beside a micrograph.

`nanostream.acquisition.sidecars` finds the file, `nanostream.acquisition.autodoc` parses it.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from nanostream.acquisition.autodoc import (
    TILT_FRAMES,
    Mdoc,
    impossible_sizes,
    metadata_of,
    parse_mdoc,
    without_mark,
)
from nanostream.acquisition.sidecars import find_sidecar, read_file
from nanostream.records import Metadata

__all__ = [
    "Entry",
    "read_entries",
    "read_listing",
    "read_mdoc",
    "read_metadata",
    "read_metadata_of",
]


class Entry(NamedTuple):
    """Pixel size and metadata of a section in its sidecar, as `metadata_of`; a remark, or none."""

    found: tuple[float | None, Metadata] | None
    remark: str


def read_metadata(
    path: Path, z: int, *, title: str = "", at_rest: bool = False
) -> tuple[float | None, Metadata] | None:
    """Pixel size and metadata of one section of a file on disk.

    Parameters
    ----------
    path : Path
        The micrograph; see `nanostream.acquisition.sidecars` for how its sidecar is called.
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

    Returns
    -------
    iterator of tuple or None
        In the order of the numbers.
    """
    entries = read_entries(path, numbers, title=title, dated=dated, at_rest=at_rest)
    return (entry.found for entry in entries)


def read_entries(
    path: Path,
    numbers: Iterable[int],
    *,
    title: str = "",
    dated: bool = False,
    at_rest: bool = False,
) -> Iterator[Entry]:
    """`read_metadata_of`, with remarks."""
    sidecar = _sidecar(path, at_rest=at_rest)
    for z in numbers:
        mdoc = None if sidecar is None else sidecar.around(z, dated=dated)
        found = None if mdoc is None else _entry(mdoc, path, z, title)
        sizes = impossible_sizes(mdoc, z, path.name) if mdoc is not None and found else []
        what = ", ".join(sizes)
        yield Entry(
            found, what and f"{what} in its mdoc can be no pixel size in Å, and is not taken"
        )


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
    data = None if found is None else read_file(found)
    if found is None or data is None:
        return None
    image = path.name if found.suffix.lower() == ".idoc" else ""
    return _Sidecar(data, image, at_rest=at_rest)


def _label(title: str) -> str:
    """The part that is sure to be the same in mdoc and label: the ASCII of its 80 characters."""
    return "".join(letter for letter in title[:80] if " " <= letter <= "~").rstrip()

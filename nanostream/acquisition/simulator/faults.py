"""Faults at a microscope: changes in, changes with faults out.

Each fault strikes at its first opportunity and then at one in three, by chance.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from enum import StrEnum
from pathlib import PurePosixPath

import numpy as np

from nanostream.acquisition.simulator.changes import Change, CompleteSection

__all__ = ["HALFWAY", "Fault", "with_faults"]

#: Ends of the names of steps after which a section or header is half there for a while.
HALFWAY = ("first part", "early header", "zeros")

_SIDECARS = (".mdoc", ".idoc", ".openTS")

#: Bytes of an MRC header up to nz, and up to the labels.
_NZ_END, _LABELS = 12, 224


class Fault(StrEnum):
    """A thing that goes wrong.

    ``pause``: the writer stops in the middle of the pixels. ``torn-header``: the header is written
    in two parts. ``reordered``: as over a share, the header comes before the size of the file, and
    the size before the pixels, which are zeros until then. ``rename``, ``delete``: of a file that
    is finished, and its mdoc.
    """

    pause = "pause"
    torn_header = "torn-header"
    reordered = "reordered"
    rename = "rename"
    delete = "delete"


_Chance = Callable[[], bool]


def with_faults(
    changes: Iterator[Change], faults: Collection[Fault], *, seed: int
) -> Iterator[Change]:
    """The changes of a writer, with faults in between.

    Parameters
    ----------
    changes : iterator of Change
        Of one writer.
    faults : collection of Fault
    seed : int
        The same seed makes the same faults.

    Yields
    ------
    Change
        ``completed`` stays true: of a torn header with the part that makes the section readable,
        of a reordered section with its pixels, of a renamed file again under the new name.
    """
    rng = np.random.default_rng(seed)

    def chance() -> _Chance:
        strikes = itertools.chain([True], (rng.random() < 1 / 3 for _ in itertools.count()))
        return lambda: next(strikes)

    if Fault.reordered in faults:
        changes = _reordered(changes, chance())
    if Fault.torn_header in faults:
        changes = _torn(changes, chance(), rng)
    if Fault.pause in faults:
        changes = _paused(changes, chance(), rng)
    if Fault.rename in faults:
        changes = _after_finished(changes, chance(), _renamed)
    if Fault.delete in faults:
        changes = _after_finished(changes, chance(), _deleted)
    return changes


def _reordered(changes: Iterator[Change], strikes: _Chance) -> Iterator[Change]:
    for change in changes:
        if change.name != "pixels" or not strikes():
            yield change
            continue
        header = next(changes)  # every writer of "pixels" and a header writes the header next
        yield replace(header, name="early header", completed=())
        yield Change("zeros", change.path, "extend", offset=change.offset + len(change.data))
        yield replace(change, completed=header.completed)


def _torn(
    changes: Iterator[Change], strikes: _Chance, rng: np.random.Generator
) -> Iterator[Change]:
    for change in changes:
        if change.name not in ("header", "early header") or not strikes():
            yield change
            continue
        # Between words, as no processor copies less at a time: after nx, ny, nz or somewhere later.
        words = (1, 2, 3, int(rng.integers(4, len(change.data) // 4)))
        cut = 4 * words[rng.integers(4)]
        # The first header of a file says nothing before its mode, pixel size and first label.
        first = any(z == 0 for _, z, _ in change.completed)
        readable = cut > _LABELS if first else cut >= _NZ_END
        yield from _in_two(change, cut, completed_first=readable)


def _paused(
    changes: Iterator[Change], strikes: _Chance, rng: np.random.Generator
) -> Iterator[Change]:
    for change in changes:
        if change.name in ("pixels", "frame") and len(change.data) > 1 and strikes():
            yield from _in_two(
                change, int(rng.integers(1, len(change.data))), completed_first=False
            )
        else:
            yield change


def _in_two(change: Change, cut: int, *, completed_first: bool) -> Iterator[Change]:
    yield replace(
        change,
        name=f"{change.name}, {HALFWAY[0]}",
        data=change.data[:cut],
        completed=change.completed if completed_first else (),
    )
    yield replace(
        change,
        data=change.data[cut:],
        offset=change.offset + cut,
        completed=() if completed_first else change.completed,
    )


#: Path, its sections with the path of the file whose change completed each, and a number.
_Finished = Callable[[str, list[tuple[CompleteSection, str]], int], Iterator[Change]]


def _after_finished(
    changes: Iterator[Change], strikes: _Chance, action: _Finished
) -> Iterator[Change]:
    """Do something to a finished file before the next is created, or at the end."""
    closed = ""
    sections: list[tuple[CompleteSection, str]] = []
    numbers = itertools.count(1)
    for change in changes:
        if change.action == "create" and not change.path.endswith(_SIDECARS):
            if closed and strikes():
                yield from action(closed, sections, next(numbers))
            closed, sections = "", []
        elif change.action == "close" and not change.path.endswith(_SIDECARS):
            closed = change.path
        elif change.action == "rename" and change.path == closed:
            closed, sections = change.target, []
        by = change.target or change.path
        sections += [(section, by) for section in change.completed]
        yield change
    if closed and strikes():
        yield from action(closed, sections, next(numbers))


def _renamed(
    path: str, sections: list[tuple[CompleteSection, str]], number: int
) -> Iterator[Change]:
    old = PurePosixPath(path)
    new = str(old.with_name(f"{old.stem}_renamed{number}{old.suffix}"))
    for name, suffix in (("renamed", ""), ("mdoc renamed", ".mdoc")):
        completed = {(new, z, 1) for (_, z, _), by in sections if by == path + suffix}
        yield Change(
            name, path + suffix, "rename", target=new + suffix, completed=tuple(sorted(completed))
        )


def _deleted(
    path: str, sections: list[tuple[CompleteSection, str]], number: int
) -> Iterator[Change]:
    yield Change("deleted", path, "delete")
    yield Change("mdoc deleted", path + ".mdoc", "delete")

"""Sections that are held until their metadata is there, or for long enough. Pure.

A section waits for its metadata if there is an mdoc beside its file, or if it is the first of a
file and that of the last file had one: whether SerialEM was told to write mdocs, the first one
shows. An entry whose end has not come then, as far as can be told, has `SETTLE_S` more.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from nanostream.acquisition import orders as o
from nanostream.acquisition.readiness import SETTLE_S
from nanostream.records import Metadata, SectionId

__all__ = ["HeldSections"]

#: Sections of one file whose metadata is read in one go: some 0.1 ms each.
_MOST_AT_ONCE = 1000


@dataclass(frozen=True)
class _Wait:
    """Of a section: until when it is held, whether an mdoc is expected, the time of its file."""

    until_s: float
    expects_mdoc: bool
    written_s: float | None


class HeldSections:
    """Sections that wait for their metadata, in the order in which their sidecars are read.

    Parameters
    ----------
    wait_s : float
        The longest that one is held.
    title_of : callable
        Gives the title of a file as it is known now, by its path.
    """

    def __init__(self, wait_s: float, title_of: Callable[[str], str]) -> None:
        self._wait_s, self._title_of = wait_s, title_of
        #: By file, those first whose sidecars were read longest ago; a turn must not cost more
        #: with many thousands of them.
        self._held: OrderedDict[str, dict[SectionId, _Wait]] = OrderedDict()
        self._count = 0
        #: To be read in this turn: what is new, then the rest, and whether one is being read.
        self._new: deque[o.ReadSidecar] = deque()
        self._rest: Iterator[o.ReadSidecar] = iter(())
        self._reading = False
        self._expects_mdocs = True
        #: Files with a remark on their mdoc, which was reported.
        self._remarked: set[str] = set()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[SectionId]:
        return chain.from_iterable(self._held.values())

    def begin_turn(self, now_s: float) -> None:
        """Read the sidecars of all that is held, from now on."""
        self._reading = False
        self._new.clear()
        self._rest = self._sidecars(list(self._held), now_s)

    def hold(self, sections: Iterable[SectionId], now_s: float, *, written_s: float | None) -> None:
        """Hold sections of a file; their sidecar is the next to be read.

        Parameters
        ----------
        written_s : float or None
            POSIX time of the file, for `orders.Release`.
        """
        new: dict[str, dict[SectionId, _Wait]] = {}
        for section in sections:
            new.setdefault(section.path, {})[section] = _Wait(
                now_s + self._wait_s,
                # No mdoc beside the first section of the last file: SerialEM writes none.
                expects_mdoc=section.z == 0 and self._expects_mdocs,
                written_s=written_s,
            )
        orders: list[o.ReadSidecar] = []
        for path, waits in new.items():
            held = self._held.setdefault(path, {})
            self._count += len(waits.keys() - held.keys())
            held |= waits
            orders += self._sidecars_of(path, waits, now_s)
        self._new.extendleft(reversed(orders))

    def next_sidecar(self) -> list[o.Order]:
        """Order the next sidecar to be read, unless one is being read."""
        if self._reading:
            return []
        order = self._new.popleft() if self._new else next(self._rest, None)
        self._reading = order is not None
        return [] if order is None else [order]

    def described(self, event: o.SidecarRead) -> list[o.Order]:
        """Release sections whose metadata is there, is late, or is not to be expected."""
        self._reading = False
        released: list[o.Order] = []
        held = self._held[event.order.path]
        for section, entry in event.entries.items():
            wait = held[section]
            expected = wait.expects_mdoc or event.has_mdoc
            if entry is None and expected and (not event.order.late or section in event.begun):
                continue
            del held[section]
            self._count -= 1
            released += self._remark(section, event)
            if section.z == 0:
                self._expects_mdocs = entry is not None
            released.append(o.Release(section, entry, described=True, written_s=wait.written_s))
        if held:
            self._held.move_to_end(event.order.path)  # if there is no time for all, others first
        else:
            del self._held[event.order.path]
        return released

    def _remark(self, section: SectionId, event: o.SidecarRead) -> list[o.Order]:
        """A report on the sidecar of a section, the first of its file."""
        remark = event.remarks.get(section, "")
        if event.has_mdoc and event.entries[section] in (None, (None, Metadata())):
            remark = (
                "its mdoc is there and gives nothing for it: an older file's, damaged, or written "
                f"later than {self._wait_s:g} s after it; such sections have the pixel size of "
                "their file"
            )
        if not remark or section.path in self._remarked:
            return []
        self._remarked.add(section.path)
        return [o.Report(f"{section}: {remark}")]

    def _sidecars(self, paths: Iterable[str], now_s: float) -> Iterator[o.ReadSidecar]:
        """Orders to read the sidecars of files, as far as sections of them are still held then."""
        for path in paths:
            yield from self._sidecars_of(path, self._held.get(path, {}), now_s)

    def _sidecars_of(
        self, path: str, waits: Mapping[SectionId, _Wait], now_s: float
    ) -> Iterator[o.ReadSidecar]:
        """Orders to read the sidecar of a file, once for many of its sections."""
        groups: dict[tuple[bool, bool], list[SectionId]] = {}
        for section, wait in waits.items():
            late_s = now_s - wait.until_s
            groups.setdefault((late_s >= 0, late_s >= SETTLE_S), []).append(section)
        for (late, at_rest), sections in groups.items():
            title = self._title_of(path)
            for start in range(0, len(sections), _MOST_AT_ONCE):
                some = tuple(sections[start : start + _MOST_AT_ONCE])
                yield o.ReadSidecar(path, title, some, late, at_rest)

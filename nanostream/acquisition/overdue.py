"""Files of which nothing comes, or not all: reported once, after a while. Pure."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator

from nanostream.acquisition import orders as o

__all__ = ["PATIENCE_S", "OverdueFiles"]

#: A copy or an upload may take a moment; what is cut off, held by another program or listed by no
#: sidecar for so long needs somebody's attention.
PATIENCE_S = 60.0


class OverdueFiles:
    """Files that are cut off, files that cannot be opened, and TIFFs that no sidecar lists.

    Attributes
    ----------
    unlisted : _Since
        Paths of those TIFFs.
    """

    def __init__(self) -> None:
        self.unlisted = _Since()
        self._unlisted_reported = 0
        #: By their size: a file that grows is being copied.
        self._cut_off = _Since()
        self._unreadable = _Since()

    @property
    def hoped_for(self) -> int:
        """Number of files that are cut off and were not reported: the rest may come."""
        return self._cut_off.unreported

    def inspected(self, event: o.HeaderAnswer, now_s: float) -> list[o.Order]:
        """Reports that an answer to `orders.Inspect` gives reason for."""
        path = event.path
        cut_off = isinstance(event, o.HeaderRead) and event.contents.lacks(event.stat.size)
        size = event.stat.size if isinstance(event, o.HeaderRead) else 0
        self._cut_off.note(path, now_s, holds=cut_off, how=size)
        unlisted = isinstance(event, o.HeaderNotReady) and event.unlisted
        self.unlisted.note(path, now_s, holds=unlisted)
        unreadable = isinstance(event, o.HeaderUnreadable)
        self._unreadable.note(path, now_s, holds=unreadable)
        if not (isinstance(event, o.HeaderUnreadable) and self._unreadable.is_long(path, now_s)):
            return []
        self._unreadable.reported(path)
        return [
            o.Report(
                f"{path} cannot be read for a minute ({event.reason}); see to its rights, or who "
                "holds it"
            )
        ]

    def scanned(self, listing: Container[str], now_s: float) -> list[o.Order]:
        """Reports after a scan of all files; foreign TIFFs again when they are twice as many."""
        reports: list[o.Order] = []
        foreign = [path for path in self.unlisted if self.unlisted.is_long(path, now_s)]
        if len(foreign) > 2 * self._unlisted_reported:
            self._unlisted_reported = len(foreign)
            reports.append(
                o.Report(
                    f"TIFF files that no mdoc or idoc of SerialEM lists are left alone "
                    f"({len(foreign)}, such as {foreign[0]})"
                )
            )
        for path in list(self._cut_off):
            if path not in listing:
                self._cut_off.note(path, now_s, holds=False)
            elif self._cut_off.is_long(path, now_s):
                self._cut_off.reported(path)
                reports.append(
                    o.Report(
                        f"{path} is cut off, or still being copied: its header counts more "
                        "sections than are there; the rest is segmented when it comes"
                    )
                )
        return reports


class _Since:
    """Since when something holds of a file, and whether that was reported."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[object, float]] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._since

    def __iter__(self) -> Iterator[str]:
        return iter(self._since)

    def note(self, path: str, now_s: float, *, holds: bool, how: object = None) -> None:
        """It holds now, or not; if it holds in another way than before, only since now."""
        if not holds:
            self._since.pop(path, None)
        elif path not in self._since or self._since[path][0] != how:
            self._since[path] = how, now_s

    def is_long(self, path: str, now_s: float) -> bool:
        """Whether it has held for `PATIENCE_S`, and that was not reported."""
        return path in self._since and now_s - self._since[path][1] > PATIENCE_S

    @property
    def unreported(self) -> int:
        """Number of those of which it was not reported."""
        return sum(since_s < math.inf for _, since_s in self._since.values())

    def reported(self, path: str) -> None:
        """It was reported: not again while it holds in this way."""
        self._since[path] = self._since[path][0], math.inf

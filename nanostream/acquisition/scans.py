"""When to scan what of the watched folder, so that many files cost little. Pure.

All files are scanned every ``poll_s``; where that costs much, as with 100,000 of them, more rarely,
and those that were written last in between.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["ScanSchedule", "pause_s"]

#: Scanning all files may take 0.5 % of a core, and a fifth of the time where a share answers
#: slowly; so may scanning the newest ...
_REST_CPU = 200
_REST_WALL = 4
#: ... unless a change that no file event tells of would be found later than this.
_LONGEST_PAUSE_S = 120.0


def pause_s(cpu_s: float, wall_s: float, poll_s: float) -> float:
    """Time from the end of a scan to the next one.

    Parameters
    ----------
    cpu_s, wall_s : float
        What the scan took.
    poll_s : float
        The shortest pause.

    Examples
    --------
    >>> pause_s(0.001, 0.2, 1.0), pause_s(0.2, 0.2, 1.0), pause_s(0.1, 25.0, 1.0)
    (1.0, 40.0, 100.0)
    """
    return max(poll_s, min(max(_REST_CPU * cpu_s, _REST_WALL * wall_s), _LONGEST_PAUSE_S))


@dataclass
class ScanSchedule:
    """Monotonic times (s) of the next scan of all files and of the newest.

    Parameters
    ----------
    poll_s : float
        Shortest pause between two scans.
    """

    poll_s: float
    all_s: float = 0.0
    newest_s: float = 0.0
    _reported_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._reported_s = 2 * self.poll_s

    @property
    def next_s(self) -> float:
        """Time of the next scan, of whatever."""
        return min(self.all_s, self.newest_s)

    def scanned_newest(self, pause_s: float, now_s: float) -> None:
        """Plan from the end of a scan of the newest."""
        self.newest_s = now_s + pause_s

    def scanned_all(self, files: int, pause_s: float, now_s: float) -> str:
        """Plan from the end of a scan of all files; a report if they become rare, else empty."""
        self.newest_s, self.all_s = now_s + self.poll_s, now_s + pause_s
        if pause_s <= 2 * self._reported_s:
            return ""
        self._reported_s = pause_s
        return (
            f"{files} files: all are scanned every {pause_s:.0f} s, those written last and what is "
            f"new every {self.poll_s:g} s"
        )

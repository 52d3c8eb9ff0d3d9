"""The state of a session in lines, for a log or a terminal that cannot draw."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nanostream.records import Alarm, Health, Snapshot, State
from nanostream_services.panels.alarms import alarm_text
from nanostream_services.panels.processes import GOOD
from nanostream_services.panels.values import clean, waiting_text
from nanostream_services.quantities import (
    counted,
    diameter_text,
    duration_text,
    rate_text,
    seconds_text,
)

__all__ = ["Log", "plain_line"]

#: A connection takes a moment: a log does not complain about a sink that is there.
_PATIENCE_S = 1.0


def plain_line(snapshot: Snapshot) -> str:
    """The state of a session in one line for a log.

    Examples
    --------
    >>> plain_line(Snapshot("s", 0.0, seen=2, waiting=1, in_work=1, sections_per_minute=30))
    'no section yet  | seen 2 stored 0 in work 1 waiting 1 quarantined 0 | 30/min'
    """
    words = [clean(snapshot.last_section) or "no section yet"]
    if (summary := snapshot.last_summary) is not None:
        words.append(counted(summary.count, "particle"))
        if summary.count:
            mean = diameter_text(summary.mean_diameter_nm, summary.mean_diameter_px)
            words.append(f"mean {mean}")
    if math.isfinite(snapshot.latency_s):
        words.append(f"latency {seconds_text(snapshot.latency_s)}")
    warning = f" | {clean(snapshot.last_warning)}" if snapshot.last_warning else ""
    return (
        f"{'  '.join(words)}  | seen {snapshot.seen} stored {snapshot.stored} "
        f"in work {snapshot.in_work} waiting {waiting_text(snapshot)} "
        f"quarantined {snapshot.failed} "
        f"| {rate_text(snapshot.sections_per_minute)}/min{warning}"
    )


class Log:
    """Which lines a log gets of a stream of snapshots.

    One for each newly stored section, each new message, each process that becomes silent or comes
    back, and when the sink itself does. While sections wait and none is stored, the state is
    repeated every `busy_s`; when there is nothing to do, every `idle_s`, as a sign of life.

    Parameters
    ----------
    address : str
        Where the sink is expected.
    busy_s, idle_s : float
        Time without a line after which one is written.
    silent_s : float
        Time without a snapshot after which the sink counts as gone.
    """

    def __init__(
        self,
        address: str,
        *,
        busy_s: float = 30.0,
        idle_s: float = 600.0,
        silent_s: float = 10.0,
    ) -> None:
        self._address = address
        self._busy_s, self._idle_s, self._silent_s = busy_s, idle_s, silent_s
        self._last: Snapshot | None = None
        self._heard_s = self._wrote_s = -math.inf
        self._began_s = math.inf
        self._away = False

    def lines(self, snapshot: Snapshot | None, *, now_s: float) -> list[str]:
        """Lines to write now; ``snapshot`` is None if none has come since the last call."""
        if snapshot is None:
            lines = self._without_news(now_s)
        else:
            lines = self._news(snapshot, now_s)
            self._last, self._heard_s, self._away = snapshot, now_s, False
        if lines:
            self._wrote_s = now_s
        return lines

    def _news(self, new: Snapshot, now_s: float) -> list[str]:
        old = self._last
        lines = ["the sink is back"] if self._away else []
        before = old.messages if old is not None else ()
        lines += [clean(message) for message in _added(before, new.messages)]
        lines += _changed_alarms(old.alarms if old is not None else (), new.alarms)
        lines += _changed_states(old.health if old is not None else (), new.health)
        pending = new.seen > new.stored + new.failed
        quiet_s = self._busy_s if pending else self._idle_s
        if old is None:
            lines.append(plain_line(new))
        elif (new.stored, new.last_section) != (old.stored, old.last_section):
            # Only the newest snapshot is heard: several sections may lie between two of them.
            more = new.stored - old.stored - 1
            lines.append(plain_line(new) + (f" (and {more} before)" if more > 0 else ""))
        elif now_s - self._wrote_s >= quiet_s:
            lines.append(plain_line(new))
        return lines

    def _without_news(self, now_s: float) -> list[str]:
        if self._last is None:
            self._began_s = min(self._began_s, now_s)
            patient = now_s - self._began_s < _PATIENCE_S
            if patient or now_s - self._wrote_s < self._idle_s:
                return []
            return [f"waiting for the sink at {clean(self._address)}"]
        silent_s = now_s - self._heard_s
        if silent_s < self._silent_s or (self._away and now_s - self._wrote_s < self._idle_s):
            return []
        self._away = True
        return [f"no news from the sink at {clean(self._address)} for {duration_text(silent_s)}"]


def _added(before: tuple[str, ...], after: tuple[str, ...]) -> tuple[str, ...]:
    """Messages that were appended to a list that forgets its oldest.

    Examples
    --------
    >>> _added(("a", "b"), ("b", "c"))
    ('c',)
    """
    for common in range(min(len(before), len(after)), 0, -1):
        if before[-common:] == after[:common]:
            return after[common:]
    return after


def _changed_alarms(before: Sequence[Alarm], after: Sequence[Alarm]) -> list[str]:
    """Alarms that were raised, became worse, or are over."""
    was = {alarm.name: alarm.severity for alarm in before}
    now = {alarm.name for alarm in after}
    raised = [
        f"{alarm.severity}: {alarm_text(alarm)}"
        for alarm in after
        if was.get(alarm.name) != alarm.severity
    ]
    return raised + [f"over: {clean(name)}" for name in was if name not in now]


def _changed_states(before: Sequence[Health], after: Sequence[Health]) -> list[str]:
    """Processes whose state matters now and did not, or the other way round."""
    was = {process.name: process.state for process in before}
    lines = []
    for process in after:
        old = was.get(process.name, State.READY)
        if old != process.state and not {old, process.state} <= GOOD:
            detail = f": {clean(process.detail)}" if process.detail else ""
            lines.append(f"{clean(process.name)} is {process.state}{detail}")
    return lines

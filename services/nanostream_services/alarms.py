"""Conditions of a running session that its operator must know of, and the alarms they raise.

Pure: the sink says what it knows at one moment (`Facts`), `conditions` says what is wrong with it,
`Alarms` remembers since when and whether somebody has acknowledged it. An alarm is cleared by its
cause alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec.structs import replace

from nanostream.records import Alarm, Health, Role, Severity, State
from nanostream_services.quantities import counted, duration_text, grouped

__all__ = ["Alarms", "Change", "Changes", "Condition", "Facts", "Pace", "conditions", "worst"]

_NOTICE, _WARNING, _PROBLEM = Severity.NOTICE, Severity.WARNING, Severity.PROBLEM
_ORDER = {_PROBLEM: 0, _WARNING: 1, _NOTICE: 2}

#: A process sends a heartbeat every second or so.
_UNHEARD_S = 4.0
#: Rates are taken over so long, and judged once they have been seen for so long.
_WINDOW_S, _SHORTEST_S = 300.0, 20.0
#: No microscope saves so many sections between two samples.
_AT_ONCE = 20
#: A backlog that is worked off within this time is none.
_LONGEST_BACKLOG_S = 60.0
#: The usual pace has paused if nothing comes for so many times its interval, and at least so long.
_PAUSES, _SHORTEST_PAUSE_S = 8.0, 60.0
#: A quarantine is news for so long; so many within it are a problem of the session, not of a file.
_NEWS_S, _MANY_QUARANTINED = 600.0, 5
#: The disk is filling if it will be full within so long, or has room for so few sections.
_FULL_WITHIN_S, _ROOM_SECTIONS = 8 * 3600.0, 100
#: Clocks that differ by more make nonsense of latencies and of an mdoc's times.
_CLOCKS_S = 5.0
#: The image has changed if the last sections have less than this part of what those before had;
#: of fewer particles than this a count says nothing.
_FALLEN, _SOME = 0.5, 6
#: The model is out of its depth if so many of the last sections have a warning.
_WARNED = 10


class Condition(NamedTuple):
    """Something that is the case now.

    Attributes
    ----------
    name : str
        In two or three words, for the dashboard's first line; the alarm's identity.
    severity : Severity
        A problem stops results, a warning will or may, a notice is worth knowing.
    text : str
        What happened, with its value.
    advice : str
        What to do.
    at_once : bool
        It is no condition that comes and goes by itself: see ``patience_s`` of `Alarms`.
    """

    name: str
    severity: Severity
    text: str
    advice: str = ""
    at_once: bool = False


class Change(NamedTuple):
    """A quantity of the sections: the greatest of the last three, and the median of those before.

    NaN as long as there are too few.
    """

    lately: float = math.nan
    before: float = math.nan


_UNKNOWN = Change()


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Knowledge of the sink at one moment.

    Attributes
    ----------
    time_s : float
        POSIX time.
    storing, watching, damaged : str
        Why nothing can be stored, why the agent cannot read its folder or remember what it finds,
        and what of the session is not there any more; empty if all is well.
    away : bool
        The watched folder cannot be reached, which is why.
    health : tuple of Health
        The processes.
    waiting : int
        Sections that were found and not handed out.
    acquired_per_s, analysed_per_s : float
        Lately; NaN until it can be told.
    quiet_s, interval_s : float
        Time since the last new section, and the usual time between two; NaN if not known.
    quarantined : int
        Sections given up lately.
    free_bytes, section_bytes : float
        Of the session's disk, and what a section takes there; NaN if not known.
    clocks_s : mapping
        How far the clock of a process is ahead of the sink's (s).
    warned, of_last : int
        Of the last sections, how many have a warning; ``warning`` is the last.
    intensity, count : Change
        Mean intensity of the micrographs and number of particles: lately, and before.
    beyond : tuple of Condition
        Limits of the user's own that are passed.
    """

    time_s: float
    storing: str = ""
    watching: str = ""
    damaged: str = ""
    away: bool = False
    health: tuple[Health, ...] = ()
    waiting: int = 0
    acquired_per_s: float = math.nan
    analysed_per_s: float = math.nan
    quiet_s: float = math.nan
    interval_s: float = math.nan
    quarantined: int = 0
    free_bytes: float = math.nan
    section_bytes: float = math.nan
    clocks_s: Mapping[str, float] = field(default_factory=dict)
    warned: int = 0
    of_last: int = 0
    warning: str = ""
    intensity: Change = _UNKNOWN
    count: Change = _UNKNOWN
    beyond: tuple[Condition, ...] = ()


def conditions(facts: Facts) -> list[Condition]:
    """All that is wrong or worth knowing, the worst first."""
    found = [
        *_of_storing(facts),
        *_of_watching(facts),
        *_of_processes(facts),
        *_of_pace(facts),
        *_of_quarantine(facts),
        *_of_disk(facts),
        *_of_clocks(facts),
        *_of_model(facts),
        *_of_images(facts),
        *facts.beyond,
    ]
    return sorted(found, key=lambda condition: _ORDER[condition.severity])


def _of_storing(facts: Facts) -> Iterator[Condition]:
    if facts.damaged:
        advice = "stop the session, put it back or give another --out; nanostream verify compares"
        yield Condition("session damaged", _PROBLEM, facts.damaged, advice, at_once=True)
    if facts.storing:
        advice = "results wait with the workers and are stored as soon as that is possible"
        yield Condition("not storing", _PROBLEM, facts.storing, advice, at_once=True)


def _of_watching(facts: Facts) -> Iterator[Condition]:
    if facts.away:
        advice = "mount it or put it back; SerialEM goes on, and nothing is lost meanwhile"
        yield Condition("folder away", _PROBLEM, facts.watching, advice, at_once=True)
    elif facts.watching:
        advice = "make room where the agent keeps its memory: until then nothing is handed out"
        yield Condition("agent stuck", _PROBLEM, facts.watching, advice, at_once=True)


def _of_processes(facts: Facts) -> Iterator[Condition]:
    for process in facts.health:
        if process.state == State.CRASHED:
            text = f"{process.name} crashed" + (f": {process.detail}" if process.detail else "")
            advice = f"it is restarted by itself; why: logs/{process.role}.log"
            yield Condition(f"{process.role} crashed", _PROBLEM, text, advice, at_once=True)
        elif process.state == State.SILENT or process.age_s > _UNHEARD_S:
            severity = _PROBLEM if process.state == State.SILENT else _WARNING
            text = f"no report of {process.name} for {duration_text(process.age_s)}"
            yield Condition(f"{process.role} silent", severity, text, _SILENT[process.role])
    works = any(
        p.role == "worker" and p.state not in (State.SILENT, State.CRASHED) for p in facts.health
    )
    if facts.waiting and facts.health and not works:
        text = f"{_waiting(facts)} and no worker is there"
        advice = "one that crashed is restarted by itself; else: nanostream worker --config FILE"
        yield Condition("no worker", _PROBLEM, text, advice)


_SILENT: dict[Role, str] = {
    "agent": "a share that hangs blocks it: check the share, then the agent's machine and network",
    "worker": "its sections go to another worker; check its machine and network",
    "sink": "check its machine and network",
}


def _of_pace(facts: Facts) -> Iterator[Condition]:
    analysed = facts.analysed_per_s
    acquired = facts.acquired_per_s if facts.acquired_per_s >= 0 else 0.0
    if facts.waiting and analysed >= 0 and not facts.storing:
        gain = analysed - acquired
        paces = f"{60 * acquired:.3g} a minute acquired, {60 * analysed:.3g} analysed"
        never = gain <= 0 or gain < 0.05 * acquired  # counts are whole sections
        if never and facts.waiting > max(3.0, _LONGEST_BACKLOG_S * acquired):
            advice = "a GPU, another worker or a smaller model; or [delivery] order newest-first"
            yield Condition("falling behind", _WARNING, f"{_waiting(facts)}: {paces}", advice)
        elif gain > 0 and (left_s := facts.waiting / gain) > _LONGEST_BACKLOG_S:
            text = f"{_waiting(facts)}: {paces}; caught up in {duration_text(left_s)}"
            yield Condition("backlog", _NOTICE, text)
    pause_s = max(_PAUSES * facts.interval_s, _SHORTEST_PAUSE_S)
    if facts.quiet_s > pause_s:  # not if either is NaN
        text = (
            f"no new section for {duration_text(facts.quiet_s)}; before, one came every "
            f"{duration_text(facts.interval_s)}"
        )
        advice = "has SerialEM stopped, or does it save elsewhere?"
        yield Condition("no new sections", _WARNING, text, advice)


def _of_quarantine(facts: Facts) -> Iterator[Condition]:
    if facts.quarantined:
        many = facts.quarantined >= _MANY_QUARANTINED
        were = counted(facts.quarantined, "section was", "sections were")
        text = f"{were} quarantined in the last {duration_text(_NEWS_S)}"
        advice = "nanostream quarantine list SESSION says why"
        yield Condition("quarantine", _PROBLEM if many else _WARNING, text, advice)


def _of_disk(facts: Facts) -> Iterator[Condition]:
    if not facts.free_bytes >= 0:
        return
    left = facts.free_bytes / facts.section_bytes if facts.section_bytes > 0 else math.inf
    pace = max((p for p in (facts.acquired_per_s, facts.analysed_per_s) if p > 0), default=0.0)
    left_s = left / pace if pace else math.inf
    if left < _ROOM_SECTIONS or left_s < _FULL_WITHIN_S:
        text = (
            f"{facts.free_bytes / 1e9:.3g} GB free: room for about {grouped(round(left))} sections"
        )
        if left_s < math.inf:
            text += f", {duration_text(left_s)} at this pace"
        severity = _PROBLEM if left < _ROOM_SECTIONS / 10 else _WARNING
        yield Condition("disk filling", severity, text, "free some space on the session's disk")


def _of_clocks(facts: Facts) -> Iterator[Condition]:
    for name, ahead_s in facts.clocks_s.items():
        if abs(ahead_s) > _CLOCKS_S:
            way = "ahead of" if ahead_s > 0 else "behind"
            text = f"the clock of {name} is {duration_text(abs(ahead_s))} {way} the sink's"
            advice = (
                "set both by a time server; latencies and acquisition times are wrong till then"
            )
            yield Condition("clocks apart", _WARNING, text, advice)
            return


def _of_model(facts: Facts) -> Iterator[Condition]:
    if facts.warned >= _WARNED:
        text = (
            f"{facts.warned} of the last {facts.of_last} sections have a warning: {facts.warning}"
        )
        yield Condition("check masks", _WARNING, text, "look at the masks; another model or scale?")


def _of_images(facts: Facts) -> Iterator[Condition]:
    lately, before = facts.intensity
    if before >= 1 and lately < _FALLEN * before:  # not if either is NaN, nor around 0
        text = f"mean intensity {lately:.4g}, it was {before:.4g}"
        advice = "beam, valve, shutter, or a grid bar?"
        yield Condition("intensity fallen", _WARNING, text, advice)
    lately, before = facts.count
    if before >= _SOME and lately < _FALLEN * before:
        text = f"{lately:.0f} particles a section, there were {before:.0f}"
        advice = "another place, defocus or drift? look at the last section"
        yield Condition("count fallen", _NOTICE, text, advice)


def _waiting(facts: Facts) -> str:
    return counted(facts.waiting, "section waits", "sections wait")


class Changes(NamedTuple):
    """Alarms that were raised, those that are over, and those that a worse one has replaced."""

    raised: tuple[Alarm, ...]
    cleared: tuple[Alarm, ...]
    replaced: tuple[Alarm, ...] = ()


class Alarms:
    """Alarms of a session: raised and cleared by their conditions, acknowledged by people.

    Parameters
    ----------
    patience_s : float
        An alarm is raised when its condition has lasted so long, unless that is to be reported at
        once, and is over when it has been gone so long.
    """

    def __init__(self, *, patience_s: float = 0.0) -> None:
        self._patience_s = patience_s
        self._alarms: dict[str, Alarm] = {}
        self._begun_s: dict[str, float] = {}
        self._gone_s: dict[str, float] = {}

    @property
    def now(self) -> tuple[Alarm, ...]:
        """Those that are raised, the worst first; acknowledged ones last."""
        return tuple(
            sorted(
                self._alarms.values(),
                key=lambda alarm: (alarm.acknowledged, _ORDER[alarm.severity], -alarm.since_s),
            )
        )

    def update(self, found: Iterable[Condition], time_s: float) -> Changes:
        """Take over the conditions of a moment.

        A condition that becomes worse raises its alarm anew, also an acknowledged one.
        """
        worst_of: dict[str, Condition] = {}
        for condition in found:
            worst_of.setdefault(condition.name, condition)  # the worse one comes first
        self._begun_s = {name: self._begun_s.get(name, time_s) for name in worst_of}
        raised, replaced = [], []
        for name, (_, severity, text, advice, at_once) in worst_of.items():
            known = self._alarms.get(name)
            worse = known is None or _ORDER[severity] < _ORDER[known.severity]
            if not worse and known is not None:
                self._alarms[name] = replace(known, severity=severity, text=text, advice=advice)
            elif at_once or time_s - self._begun_s[name] >= self._patience_s:
                alarm = Alarm(name, severity, text, advice, since_s=time_s)
                self._alarms[name] = alarm
                raised.append(alarm)
                if known is not None:
                    replaced.append(known)
        return Changes(tuple(raised), self._over(worst_of, time_s), tuple(replaced))

    def _over(self, found: Mapping[str, Condition], time_s: float) -> tuple[Alarm, ...]:
        """Take away the alarms whose condition has been gone long enough."""
        gone = [name for name in self._alarms if name not in found]
        self._gone_s = {name: self._gone_s.get(name, time_s) for name in gone}
        ended = [name for name in gone if time_s - self._gone_s[name] >= self._patience_s]
        return tuple(self._alarms.pop(name) for name in ended)

    def acknowledge(self, names: Iterable[str]) -> None:
        """Mark alarms as seen by somebody: they are shown, and trouble nobody further."""
        for name in names:
            if alarm := self._alarms.get(name):
                self._alarms[name] = replace(alarm, acknowledged=True)


def worst(alarms: Iterable[Alarm]) -> Severity | None:
    """The worst severity among alarms that nobody has acknowledged."""
    found = [alarm.severity for alarm in alarms if not alarm.acknowledged]
    return min(found, key=_ORDER.__getitem__, default=None)


class Pace:
    """How fast sections come and are analysed, from counts at some moments.

    A session that resumes finds many sections at once: what its first count has is not acquired
    now.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int, int]] = deque()
        self._intervals_s: deque[float] = deque(maxlen=51)
        self._last_new_s = math.nan
        self._quarantined: deque[tuple[float, int]] = deque()

    def sample(self, time_s: float, *, seen: int, ended: int, failed: int) -> None:
        """Take counts of sections that were found, that have an end, that were given up."""
        new = seen - self._samples[-1][1] if self._samples else 0
        if new > _AT_ONCE:  # an agent that starts finds what is there: nobody has acquired it now
            self._samples = deque((when, was + new, ended_) for when, was, ended_ in self._samples)
        elif new > 0:
            if not math.isnan(self._last_new_s):
                self._intervals_s.append((time_s - self._last_new_s) / new)
            self._last_new_s = time_s
        before = self._quarantined[-1][1] if self._quarantined else failed
        if failed != before or not self._quarantined:
            self._quarantined.append((time_s, failed))
        while len(self._quarantined) > 1 and time_s - self._quarantined[1][0] > _NEWS_S:
            self._quarantined.popleft()
        self._samples.append((time_s, seen, ended))
        while time_s - self._samples[0][0] > _WINDOW_S:
            self._samples.popleft()

    def rates(self) -> tuple[float, float]:
        """Sections per second that come, and that get an end; NaN until it can be told."""
        if not self._samples:
            return math.nan, math.nan
        first, last = self._samples[0], self._samples[-1]
        span_s = last[0] - first[0]
        if span_s < _SHORTEST_S:
            return math.nan, math.nan
        return (last[1] - first[1]) / span_s, (last[2] - first[2]) / span_s

    def quiet_s(self, time_s: float) -> float:
        """Time since the last new section; NaN before the first."""
        return time_s - self._last_new_s

    def interval_s(self) -> float:
        """Usual time between two sections; NaN before there were six."""
        if len(self._intervals_s) < 5:
            return math.nan
        return sorted(self._intervals_s)[len(self._intervals_s) // 2]

    def quarantined(self, time_s: float) -> int:
        """Sections given up lately, as far as they are still given up."""
        if not self._quarantined:
            return 0
        recent = [failed for when, failed in self._quarantined if time_s - when <= _NEWS_S]
        first = self._quarantined[0][1]
        return max(0, (recent[-1] if recent else first) - first)

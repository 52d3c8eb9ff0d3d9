"""Facts of a running session, from which its alarms are computed: counts, ages, disk, clocks."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nanostream.config import Config, Limit
from nanostream.records import Result, Snapshot, Summary
from nanostream.results.folders import DATABASE
from nanostream.results.mask_files import mask_path
from nanostream.transport.messages import Beat, Report
from nanostream_services.alarms import Change, Condition, Facts, Pace

__all__ = ["Observer"]

#: Time between two checks of the session's disk and folder.
_DISK_S = 3.0
#: Of so many of the last sections warnings are counted and sizes on the disk averaged.
_LAST = 20
#: So many sections are "lately", and at most so many before them are compared with.
_LATELY, _BEFORE = 3, 20
#: Of so many heartbeats the one that came quickest says how far a clock is ahead, if the last is
#: not older than this: messages wait while a disk or a machine is busy.
_HEARTBEATS, _RECENT_S = 10, 30.0


@dataclass
class _Clock:
    """A process' clock against ours, in its last heartbeats."""

    ahead_s: deque[float] = field(default_factory=lambda: deque(maxlen=_HEARTBEATS))
    heard_s: float = -math.inf


class Observer:
    """Events and counts of the sink, as `nanostream_services.alarms.Facts`.

    Parameters
    ----------
    folder : Path
        Of the session, open.
    config : Config
        With the user's own limits.

    Attributes
    ----------
    storing : str
        Why nothing can be stored now.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        self._folder, self._limits = folder, config.alarms
        self.storing = ""
        self._watching, self._away = "", False
        self._reported = False
        self._clocks: dict[str, _Clock] = {}
        self._pace = Pace()
        self._sizes: deque[int] = deque(maxlen=_LAST)
        self._warnings: deque[str] = deque(maxlen=_LAST)
        self._summaries: deque[Summary] = deque(
            maxlen=max([_LATELY + _BEFORE, *(x.sections for x in self._limits)])
        )
        self._database = (folder / DATABASE).stat().st_ino
        #: Nobody removes it: where it is absent, masks were, whatever was stored since.
        self._first_mask: Path | None = None
        self._next_check_s = -math.inf
        self._free_bytes, self._damaged = math.nan, ""

    def hear(self, name: str, sign: Beat | Report, time_s: float) -> None:
        """Take a worker's heartbeat or the agent's report."""
        if isinstance(sign, Report):
            self._watching, self._away, self._reported = sign.trouble, sign.away, True
        if not math.isnan(sign.time_s):
            clock = self._clocks.setdefault(name, _Clock())
            clock.ahead_s.append(sign.time_s - time_s)
            clock.heard_s = time_s

    def add(self, result: Result) -> None:
        """Take a result that has just been stored."""
        self._warnings.append(result.warning)
        self._summaries.append(result.summary)
        mask = self._folder / mask_path(result.section)
        self._first_mask = self._first_mask or mask
        with contextlib.suppress(OSError):  # the next check of the folder says what is wrong
            self._sizes.append(mask.stat().st_size)

    def facts(self, now: Snapshot, now_s: float) -> Facts:
        """All that is known with the counts of a snapshot, at monotonic time ``now_s``."""
        if now_s >= self._next_check_s:
            self._next_check_s = now_s + _DISK_S
            self._check_folder()
        ended = now.stored + now.failed
        if self._reported:  # before, nobody knows what is there
            self._pace.sample(now.time_s, seen=now.seen, ended=ended, failed=now.failed)
        acquired, analysed = self._pace.rates()
        warned = [warning for warning in self._warnings if warning]
        return Facts(
            time_s=now.time_s,
            storing=self.storing,
            watching=self._watching,
            away=self._away,
            damaged=self._damaged,
            health=now.health,
            waiting=now.waiting,
            acquired_per_s=acquired,
            analysed_per_s=analysed,
            quiet_s=self._pace.quiet_s(now.time_s),
            interval_s=self._pace.interval_s(),
            quarantined=self._pace.quarantined(now.time_s),
            free_bytes=self._free_bytes,
            section_bytes=sum(self._sizes) / len(self._sizes) if self._sizes else math.nan,
            clocks_s={
                name: max(clock.ahead_s)
                for name, clock in self._clocks.items()
                if now.time_s - clock.heard_s < _RECENT_S
            },
            warned=len(warned),
            of_last=len(self._warnings),
            warning=warned[-1] if warned else "",
            intensity=self._change("mean_intensity"),
            count=self._change("count"),
            beyond=tuple(filter(None, (self._beyond(limit) for limit in self._limits))),
        )

    def _check_folder(self) -> None:
        """See how much room the disk has, and whether the session's files are what was opened."""
        self._damaged = ""
        try:
            self._free_bytes = float(shutil.disk_usage(self._folder).free)
            if (self._folder / DATABASE).stat().st_ino != self._database:
                self._damaged = f"{self._folder / DATABASE} is another file than the one in use"
            if self._first_mask is not None and not self._first_mask.is_file():
                self._damaged = f"{self._first_mask} was removed, and perhaps others with it"
        except FileNotFoundError as error:
            self._damaged = f"{error.filename} is not there any more"
        except OSError as error:
            self._damaged = f"{self._folder} cannot be read: {error.strerror}"

    def _change(self, quantity: str) -> Change:
        """A quantity of the last sections and of those before."""
        values = [float(getattr(one, quantity)) for one in self._summaries]
        if len(values) < 2 * _LATELY:
            return Change()
        before = values[-_LATELY - _BEFORE : -_LATELY]
        return Change(max(values[-_LATELY:]), float(np.median(before)))

    def _beyond(self, limit: Limit) -> Condition | None:
        """The condition of a user's limit, if all of its last sections are beyond it."""
        last = list(self._summaries)[-limit.sections :]
        values = [float(getattr(summary, limit.quantity)) for summary in last]
        if len(values) < limit.sections:
            return None
        for bound, passed, word in (
            (limit.above, lambda value: value > limit.above, "above"),
            (limit.below, lambda value: value < limit.below, "below"),
        ):
            if bound is not None and all(map(passed, values)):
                what = limit.quantity.replace("_", " ")
                text = f"{what} is {values[-1]:.4g}, {word} the limit of {bound:g}"
                return Condition(what, limit.severity, text, "your own limit: [[alarms]]")
        return None

"""Dispatch of sections to workers: credits, acknowledgements, retries, lost workers. Pure.

Workers' messages come as they are, with events of the agent's own.
``Dispatch.handle(event, now_s)`` takes what happened and returns what to do; it knows no socket,
file or clock. Every section is in exactly one place::

    SectionFound ──▶ waiting ──Send──▶ in work ──Done──▶ (Store)
                        ▲                 │ Failed, Goodbye, WorkerLost, a Beat without it
                        │                 │ SectionFailed, SectionNotReady
                        └─────────────────┤
                                          └─ too many attempts ──▶ (Quarantine)

Rules:

- A beat that was meant for the agent before this one gives no credit: frames from there, of which
  the worker does not know yet, may still be on their way.
- A worker's credit is its number of slots less what it holds or is sent, so credit cannot leak. One
  that is still loading its network gets a section beforehand only if there is no other worker.
- What a worker reports to hold is the truth: a section it holds while it waits here (the agent was
  restarted) is in work. What was sent is numbered, and a worker reports the last number that
  came: a section with no higher number that it does not hold was lost on the way and is sent
  again at once. So is what was sent before the worker's connection was made anew. Should neither
  show that a frame is lost, it is sent again after ``resend_s``, or four times what the slowest
  frame was under way, and each time after twice as long, so that a slow line is not filled with
  repetitions.
- A worker that stays silent has lost its sections (one that was restarted has another name, so
  its predecessor is silent). Only the one it was computing counts an attempt: the others were
  innocent bystanders. If the same process comes back and still holds it, the attempt is taken
  back: the line was down, not the worker.
- What comes back goes to the front of the queue, so order is disturbed as little as possible; what
  failed rests first, and nothing waits for it.
- A worker on which one section after another fails, while there is another worker, is set aside;
  its reports of those sections are forgotten. A file of which sections fail on two workers is to
  blame itself, until one of it succeeds: that counts against no worker that has done others of the
  file (against none, where nobody has), and who was set aside for it works again.
- With ``order = "newest-first"`` the newest waiting section goes first, so that the live view stays
  live; the older ones follow when there is time.
- While the files cannot be reached nothing is sent, and that counts as nobody's attempt. Nor does
  the reading of a section whose pixels have not come yet, which rests as well.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from nanostream.config import Delivery
from nanostream.records import SectionId
from nanostream.transport.messages import Beat, Done, Failed, Goodbye

__all__ = [
    "Action",
    "Dispatch",
    "Event",
    "FilesAway",
    "FromWorker",
    "Note",
    "Quarantine",
    "SectionFailed",
    "SectionFound",
    "SectionNotReady",
    "Send",
    "Store",
    "Tick",
    "WorkerLost",
    "WorkerMessage",
]

WorkerMessage = Beat | Done | Failed | Goodbye


@dataclass(frozen=True)
class SectionFound:
    """A section is complete on disk."""

    section: SectionId


@dataclass(frozen=True)
class FromWorker:
    """A worker's message, and the name it has here."""

    worker: str
    message: WorkerMessage


@dataclass(frozen=True)
class WorkerLost:
    """A worker cannot be reached any more."""

    worker: str
    reason: str = "cannot be reached"


@dataclass(frozen=True)
class SectionFailed:
    """The section could not be read or sent; ``final`` if it never can be."""

    section: SectionId
    reason: str
    final: bool = False


@dataclass(frozen=True)
class SectionNotReady:
    """The section's header is there and its pixels are not: read it again after ``retry_s``."""

    section: SectionId


@dataclass(frozen=True)
class FilesAway:
    """The watched folder cannot be reached, which is no section's fault; or it is back.

    ``section`` was to be read just then and waits again.
    """

    away: bool
    section: SectionId | None = None


@dataclass(frozen=True)
class Tick:
    """Time has passed, and all messages until now have been handled."""


@dataclass(frozen=True)
class Send:
    """Read the section's pixels and send them to the worker, with their number in the sequence."""

    worker: str
    section: SectionId
    number: int = 0
    waited_s: float = 0.0


@dataclass(frozen=True)
class Store:
    """Remember for good that the section is stored."""

    section: SectionId


@dataclass(frozen=True)
class Quarantine:
    """Give the section up, with the reason of every attempt."""

    section: SectionId
    reason: str
    attempts: int


@dataclass(frozen=True)
class Note:
    """Something the operator should read."""

    text: str


Event = SectionFound | FromWorker | WorkerLost | SectionFailed | SectionNotReady | FilesAway | Tick
Action = Send | Store | Quarantine | Note


@dataclass(frozen=True)
class _Sent:
    at_s: float
    number: int
    arrived: bool = False


_FILES_KEPT = 64


@dataclass
class _Worker:
    slots: int
    seen_s: float
    link: int = 0
    computing: SectionId | None = None
    detail: str = ""
    holding: frozenset[SectionId] = frozenset()
    leaving: bool = False
    loading: bool = False
    #: Sections that failed here since the last one that did not.
    failed: dict[SectionId, None] = field(default_factory=dict)
    #: The last files of which it has done sections, until another does one that failed here.
    able: dict[str, None] = field(default_factory=dict)
    doubted: set[SectionId] = field(default_factory=set)
    set_aside: bool = False
    sent: dict[SectionId, _Sent] = field(default_factory=dict)


class Dispatch:
    """State of the delivery; see the module's docstring.

    Parameters
    ----------
    settings : Delivery
        Attempts and time limits.
    last_number : int
        Of the sequence that frames are numbered in; after a restart higher than before.
    instance : str
        Of the agent: it tells whether a worker's beat is meant for this one.
    """

    def __init__(self, settings: Delivery, *, last_number: int = 0, instance: str = "") -> None:
        self._settings, self._instance = settings, instance
        self._last_number = last_number
        self._found_s: dict[SectionId, float] = {}
        #: What the last frames were under way, and how often one was sent again without a gap.
        self._transits_s: deque[float] = deque(maxlen=20)
        self._repeated: dict[SectionId, int] = {}
        #: Whose silence counted as a section's last attempt.
        self._blamed: dict[SectionId, str] = {}
        self._waiting: OrderedDict[SectionId, None] = OrderedDict()
        self._resting: dict[SectionId, float] = {}
        self._workers: dict[str, _Worker] = {}
        self._failures: dict[SectionId, list[str]] = {}
        #: Of the worker that came last.
        self._model = ""
        #: Files of which sections fail on more than one worker.
        self._bad_files: set[str] = set()
        self._away = False

    @property
    def waiting(self) -> int:
        """Sections that no worker has yet."""
        return len(self._waiting) + len(self._resting)

    @property
    def in_work(self) -> int:
        """Sections that are with a worker."""
        return sum(len(worker.sent) for worker in self._workers.values())

    def longest_wait_s(self, now_s: float) -> float:
        """How long the oldest section without an end has been here."""
        return now_s - next(iter(self._found_s.values()), now_s)  # in the order of finding

    def handle(self, event: Event, now_s: float) -> list[Action]:
        """Actions that an event at POSIX or monotonic time ``now_s`` (seconds) calls for."""
        actions: list[Action] = []
        match event:
            case FromWorker(name, message):
                actions += self._hear(name, message, now_s)
            case WorkerLost(name, reason):
                actions += self._lose(name, reason, now_s)
            case SectionFound(section):
                if self._holder(section) is None and section not in self._resting:
                    self._waiting.setdefault(section)
                    self._found_s.setdefault(section, now_s)
            case SectionFailed(section, reason, final) if section in self._found_s:
                actions += self._fail(section, reason, now_s, final=final)
            case SectionNotReady(section):
                self._forget(section)
                self._resting[section] = now_s + self._settings.retry_s
            case FilesAway(away, section):
                self._away = away
                if section is not None:
                    self._forget(section)
                    self._resting[section] = now_s  # with others that came back, in their order
            case Tick():
                self._requeue(s for s, due_s in list(self._resting.items()) if due_s <= now_s)
                actions += self._miss(now_s)
        return actions + self._send(now_s)

    def _hear(self, name: str, message: WorkerMessage, now_s: float) -> list[Action]:
        match message:
            case Beat():
                return self._beat(name, message, now_s)
            case Goodbye(finishing):
                return self._leave(name, finishing)
            case Done(section):
                return self._finish(section)
            case Failed(section, reason) if section in self._found_s:
                actions = self._fail(section, reason, now_s)
                return actions + (self._suspect(name, section) if name in self._workers else [])
        return []  # it has its end, or never was

    def _finish(self, section: SectionId) -> list[Action]:
        """Note that the sink has committed a section, and who was able to do it."""
        holder = self._holder(section)
        if holder is not None:
            holder.failed.clear()
            holder.able.pop(section.file, None)
            holder.able[section.file] = None
            if len(holder.able) > _FILES_KEPT:
                del holder.able[next(iter(holder.able))]
        for worker in self._workers.values():
            if worker is not holder and section in worker.doubted:
                worker.able.pop(section.file, None)
        self._bad_files.discard(section.file)
        self._end(section)
        return [Store(section)]

    def _fail(
        self, section: SectionId, reason: str, now_s: float, *, final: bool = False
    ) -> list[Action]:
        self._forget(section)
        self._blamed.pop(section, None)
        return self._failed(section, reason, now_s, final=final)

    def _miss(self, now_s: float) -> list[Action]:
        actions: list[Action] = []
        for name, worker in list(self._workers.items()):
            if now_s - worker.seen_s > self._settings.silent_s:
                silence = f"was silent for {now_s - worker.seen_s:.0f} s"
                actions += self._lose(name, silence, now_s)
        return actions

    def _beat(self, name: str, beat: Beat, now_s: float) -> list[Action]:
        actions: list[Action] = []
        slots = beat.slots if beat.agent in ("", self._instance) else 0
        worker = self._workers.get(name)
        if worker is None:
            worker = self._workers[name] = _Worker(slots, now_s, beat.link)
            actions.append(Note(f"worker {name} is here: {beat.detail}"))
            actions += self._compare_models(name, beat)
        worker.slots, worker.seen_s, worker.detail = slots, now_s, beat.detail
        worker.holding, worker.loading = frozenset(beat.holding), beat.loading
        # The clock may have gone back before a restart: numbers must not.
        self._last_number = max(self._last_number, beat.received)
        worker.computing = beat.computing
        for section in beat.holding:
            # Held but not open here: another worker was quicker, its end is known already.
            if section in self._waiting or section in self._resting:
                self._forget(section)
                worker.sent[section] = _Sent(now_s, beat.received, arrived=True)
                if self._blamed.pop(section, None) == name and section in self._failures:
                    self._failures[section].pop()
            elif section in worker.sent and not worker.sent[section].arrived:
                sent = worker.sent[section]
                self._transits_s.append(now_s - sent.at_s)
                worker.sent[section] = _Sent(sent.at_s, sent.number, arrived=True)
        # Its "done" came before this beat on the same way, if it came at all.
        lost = [
            section
            for section, sent in worker.sent.items()
            if section not in beat.holding
            and (
                sent.number <= beat.received
                or (worker.link and beat.link != worker.link)  # 0: from before there was any
                or self._overdue(section, sent, now_s)
            )
        ]
        worker.link = beat.link
        for section in lost:
            del worker.sent[section]
        self._requeue(lost)
        actions += [Note(f"{section} was lost on the way; sending it again") for section in lost]
        return actions

    def _compare_models(self, name: str, beat: Beat) -> list[Action]:
        """Say so if a worker has not the model of the one that came before it."""
        before, self._model = self._model, beat.model or self._model
        if before in ("", self._model):
            return []
        return [
            Note(
                f"worker {name} has another model ({_short(self._model)}) than the one "
                f"before it ({_short(before)}): their results are not alike"
            )
        ]

    def _overdue(self, section: SectionId, sent: _Sent, now_s: float) -> bool:
        repeated = self._repeated.get(section, 0)
        slowest_s = max(self._transits_s, default=0.0)
        limit_s = max(self._settings.resend_s, 4 * slowest_s) * (1 << repeated)
        if now_s - sent.at_s <= limit_s:
            return False
        self._repeated[section] = repeated + 1
        return True

    def _leave(self, name: str, finishing: tuple[SectionId, ...]) -> list[Action]:
        """Take back what a worker that leaves does not finish."""
        worker = self._workers.get(name)
        if worker is None:
            return []
        back = [section for section in worker.sent if section not in finishing]
        for section in back:
            del worker.sent[section]
        if finishing:
            worker.leaving = True
        else:
            del self._workers[name]
        self._requeue(back)
        return [_note_gone(name, "has left", back)]

    def _lose(self, name: str, reason: str, now_s: float) -> list[Action]:
        """Take back all that a lost worker had; what it was computing counts an attempt."""
        worker = self._workers.pop(name, None)
        if worker is None:
            return []
        back = list(worker.sent)
        actions: list[Action] = [_note_gone(name, reason, back)]
        culprit = worker.computing
        if culprit in worker.sent:
            back.remove(culprit)
            self._blamed[culprit] = name
            actions += self._failed(culprit, f"worker {name} {reason} while computing it", now_s)
        self._requeue(back)
        return actions

    def _suspect(self, name: str, section: SectionId) -> list[Action]:
        """Set a worker aside that fails on one section after another: the fault is its own.

        Unless it is the only one: then nobody else could tell, and the sections are quarantined.
        """
        worker = self._workers[name]
        worker.failed[section] = None
        worker.doubted.add(section)
        of_others = {s.file for w in self._workers.values() if w != worker for s in w.failed}
        if section.file in of_others:
            self._bad_files.add(section.file)
        if section.file in self._bad_files:
            actions = self._acquit(section.file)
            if section not in worker.failed:
                return actions
        others = any(
            not w.set_aside and not w.leaving for w in self._workers.values() if w != worker
        )
        if worker.set_aside or len(worker.failed) < self._settings.attempts or not others:
            return []
        worker.set_aside = True
        for failed in worker.failed:
            if self._failures.get(failed):
                self._failures[failed].pop()  # its report no longer counts
        return [
            Note(
                f"worker {name} failed on {len(worker.failed)} sections in a row and gets no more; "
                "read its log and restart it"
            )
        ]

    def _acquit(self, file: str) -> list[Action]:
        """Count the failures of a file against no worker that has done others of it.

        Where nobody has, against none at all.
        """
        actions: list[Action] = []
        able = any(file in worker.able for worker in self._workers.values())
        for name, worker in self._workers.items():
            if able and file not in worker.able:
                continue  # others can: the fault is its own
            worker.failed = {s: None for s in worker.failed if s.file != file}
            if worker.set_aside and len(worker.failed) < self._settings.attempts:
                worker.set_aside = False
                actions.append(
                    Note(f"worker {name} works again: {file} fails on other workers as well")
                )
        return actions

    def _failed(
        self, section: SectionId, reason: str, now_s: float, *, final: bool = False
    ) -> list[Action]:
        reasons = self._failures.setdefault(section, [])
        reasons.append(reason)
        if not final and len(reasons) < self._settings.attempts:
            self._resting[section] = now_s + self._settings.retry_s * len(reasons)
            return [Note(f"{section}: attempt {len(reasons)} failed: {reason}")]
        self._end(section)
        different = list(dict.fromkeys(reasons))
        return [Quarantine(section, "; ".join(different), len(reasons))]

    def _send(self, now_s: float) -> list[Action]:
        actions: list[Action] = []
        free = {
            name: credit
            for name, worker in self._workers.items()
            if not (worker.leaving or worker.set_aside)
            # It may still hold what others were given while it was silent.
            and (credit := worker.slots - len(worker.holding | worker.sent.keys())) > 0
        }
        if any(not (w.leaving or w.set_aside or w.loading) for w in self._workers.values()):
            free = {
                name: credit for name, credit in free.items() if not self._workers[name].loading
            }
        while free and self._waiting and not self._away:
            name = max(free, key=lambda worker: free[worker])
            free[name] -= 1
            if not free[name]:
                del free[name]
            section, _ = self._waiting.popitem(last=self._settings.order == "newest-first")
            self._last_number += 1
            self._workers[name].sent[section] = _Sent(now_s, self._last_number)
            waited_s = now_s - self._found_s.get(section, now_s)
            actions.append(Send(name, section, self._last_number, waited_s))
        return actions

    def _holder(self, section: SectionId) -> _Worker | None:
        return next((w for w in self._workers.values() if section in w.sent), None)

    def _end(self, section: SectionId) -> None:
        self._forget(section)
        if section.file in self._bad_files and not any(
            other.file == section.file for other in self._found_s if other != section
        ):
            self._bad_files.discard(section.file)  # the last of it that is known
        for kept in (self._failures, self._found_s, self._repeated, self._blamed):
            kept.pop(section, None)
        for worker in self._workers.values():
            worker.doubted.discard(section)

    def _forget(self, section: SectionId) -> None:
        self._waiting.pop(section, None)
        self._resting.pop(section, None)
        for worker in self._workers.values():
            worker.sent.pop(section, None)
            worker.holding -= {section}

    def _requeue(self, sections: Iterable[SectionId]) -> None:
        newest = self._settings.order == "newest-first"  # then the end is the front
        back = list(sections)
        for section in back if newest else reversed(back):
            self._resting.pop(section, None)
            self._waiting[section] = None
            self._waiting.move_to_end(section, last=newest)


def _note_gone(name: str, reason: str, back: list[SectionId]) -> Note:
    goes_back = f"; {len(back)} in work go back" if back else ""
    return Note(f"worker {name} {reason}{goes_back}")


def _short(model: str) -> str:
    name, _, sha256 = model.partition(" ")
    return f"{name} {sha256[:8]}"

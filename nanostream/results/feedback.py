"""Result files and Navigator points for SerialEM, kept in step with what the session has stored."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from nanostream.config import Feedback
from nanostream.errors import ConfigError, advice_on, reason_of
from nanostream.records import SectionId
from nanostream.results import navigator
from nanostream.results.folders import is_never
from nanostream.results.navigator import Chart
from nanostream.results.outcomes import Outcome, Outcomes
from nanostream.results.points import (
    FIELDS_FILE,
    navigator_file,
    navigator_head,
    particle_items,
    section_items,
)
from nanostream.results.result_files import (
    RESULT_VERSION,
    head_of,
    publish,
    result_path,
    result_text,
)

__all__ = ["FeedbackFiles"]

#: Sections whose files are looked after at a start, and that may wait for a folder to come back.
_MOST_WAITING = 1000
_RETRY_S = 1.0
#: A turn of the sink's loop writes no longer than this.
_TURN_S = 0.1
#: The ranked fields are written anew no more often.
_FIELDS_S = 2.0


class FeedbackFiles:
    """Keeps the files for SerialEM in step with what the session has stored.

    Parameters
    ----------
    session : Path
        Session folder; the feedback folder is made in it if the settings name no other.
    settings : Feedback
        What is wanted and where.
    outcomes : Outcomes
        Of the session.

    Notes
    -----
    Sections that ended just before a kill have no files yet; at a start the most recent ones
    are checked.
    """

    def __init__(self, session: Path, settings: Feedback, outcomes: Outcomes) -> None:
        self._settings, self._outcomes = settings, outcomes
        self._folder = Path(settings.directory) if settings.directory else session / "feedback"
        self._made = False
        self._due: dict[tuple[str, int], None] = {}
        self._again_s = -math.inf
        self._trouble = False
        self._reported: set[str] = set()
        self._chart: tuple[object, Chart] = (None, Chart())
        self._fields_s: float | None = None
        for section in outcomes.recent(_MOST_WAITING):
            self.ended(section, now_s=-math.inf)

    @property
    def waiting(self) -> int:
        """Sections whose files are not written yet."""
        return len(self._due)

    def ended(self, section: SectionId, *, now_s: float) -> None:
        """A section has been stored or given up."""
        settings = self._settings
        if settings.navigator_items == "sections" and self._fields_s is None:
            self._fields_s = now_s + _FIELDS_S
        if settings.result_files or settings.navigator_items == "particles":
            self._due[section.path, section.z] = None
            self._again_s = -math.inf
            while len(self._due) > _MOST_WAITING:
                del self._due[next(iter(self._due))]

    def step(self, now_s: float, *, clock: Callable[[], float] = time.monotonic) -> list[str]:
        """Write what is due, the newest section first; what the operator should know."""
        news: list[str] = []
        if now_s < self._again_s or not (self._due or self._fields_s is not None):
            return news
        end_s = clock() + _TURN_S
        try:
            self._make_folder()
            while self._due and clock() < end_s:
                self._write_newest(news)
            if self._fields_s is not None and self._fields_s <= now_s:
                self._write_fields(news)
                self._fields_s = None
        except (OSError, sqlite3.Error) as error:
            self._again_s = now_s + _RETRY_S
            if not self._trouble:
                text = f"feedback for SerialEM cannot be written: {reason_of(error)}"
                news.append(f"{text}; tried again until it can")
            self._trouble = True
        else:
            if self._trouble and not self._due:
                news.append(f"feedback for SerialEM is written again to {self._folder}")
                self._trouble = False
        return news

    def _write_newest(self, news: list[str]) -> None:
        (path, z), _ = self._due.popitem()
        try:
            self._write(path, z, news)
        except OSError as error:
            if is_never(error):
                self._report_once(
                    f"no feedback for {path} section {z}: {advice_on(error)}", news, kind=path
                )
                return
            self._due = {(path, z): None, **self._due}  # the others go first
            raise

    def _make_folder(self) -> None:
        """Only once: a folder that goes away is a share that will come back."""
        if not self._made:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._made = True
        elif not self._folder.is_dir():
            msg = f"{self._folder} is gone"
            raise FileNotFoundError(msg)

    def _write(self, path: str, z: int, news: list[str]) -> None:
        ended = self._outcomes.ended(path, z)
        if ended is None:  # in quarantine no more: it is tried again
            return
        section, id = ended
        result = self._folder / result_path(section)
        points = self._folder / result_path(section, "nav")
        head = f"npres {RESULT_VERSION}\nid {id}\n"
        want_result = self._settings.result_files and not head_of(result).startswith(head)
        want_points = self._settings.navigator_items == "particles" and head_of(points).split(
            "\n\n"
        )[0].rstrip() != navigator_head(id)
        if not (want_result or want_points):
            return
        outcome = self._outcomes.of(section)
        if want_result:
            self._publish(result, result_text(outcome), "npres ", news)
        if want_points:
            self._write_points(points, outcome, news)

    def _write_points(self, path: Path, outcome: Outcome, news: list[str]) -> None:
        settings = self._settings
        try:
            items = particle_items(
                outcome, self._read_chart(), rank_by=settings.rank_by, most=settings.most_items
            )
        except ConfigError as error:
            self._report_once(str(error), news)
            return
        if items:
            text = navigator_file(items, id=outcome.id)
            self._publish(path, text, navigator_head(), news)
        elif outcome.particles:
            msg = (
                f"{outcome.section} and perhaps others are no map of [feedback] navigator and have "
                "no ImageToStageMatrix in their mdoc: no Navigator points for them"
            )
            self._report_once(msg, news, kind="no place")

    def _write_fields(self, news: list[str]) -> None:
        settings = self._settings
        ranked = self._outcomes.ranked(settings.rank_by, settings.most_items)
        try:
            items = section_items(ranked, self._read_chart())
        except ConfigError as error:
            self._report_once(str(error), news)
            return
        text = navigator_file(items, id="sections")
        self._publish(self._folder / FIELDS_FILE, text, navigator_head(), news)

    def _read_chart(self) -> Chart:
        """Of the operator's Navigator file, read again when SerialEM has saved it."""
        if not self._settings.navigator:
            return Chart()
        path = Path(self._settings.navigator)
        try:
            stat = path.stat()
        except OSError as error:
            msg = f"[feedback] navigator: {path} cannot be read: {error.strerror}"
            raise ConfigError(msg) from error
        version = (stat.st_mtime_ns, stat.st_size)
        if self._chart[0] != version:
            self._chart = (version, navigator.read_chart(path))
        return self._chart[1]

    def _publish(self, path: Path, text: str, mark: str, news: list[str]) -> None:
        try:
            publish(path, text, mark=mark)
        except FileExistsError as error:
            self._report_once(str(error), news)

    def _report_once(self, text: str, news: list[str], *, kind: str = "") -> None:
        if (kind or text) not in self._reported:
            self._reported.add(kind or text)
            news.append(text)

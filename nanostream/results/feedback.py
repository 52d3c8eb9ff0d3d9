"""What SerialEM can use while the session runs: result files and Navigator points.

A section's result file is ``<file>.z<section>.npres`` below the feedback folder, for SerialEM's own
scripts; docs/formats/serialem.md describes it. It appears whole, by renaming, after the result has
been committed; it can be made anew from the session at any time, so nothing waits for it.

Positions are SerialEM's image coordinates: pixels, the middle of the first pixel at 0.5, and in
scripts y counted downwards from the top of SerialEM's display, where the last row of an MRC is and
the first of a TIFF (KImageStore.cpp ``convertForWriting``, KStoreMRC and KStoreIMOD
``WriteSection``; NavHelper.cpp l.7778-7790).
"""

from __future__ import annotations

import math
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from nanostream import failpoints
from nanostream.acquisition.frames import first_row_of
from nanostream.config import Feedback
from nanostream.errors import ConfigError
from nanostream.records import FirstRow, Metadata, SectionId, Summary
from nanostream.results import navigator
from nanostream.results.folders import connect
from nanostream.results.navigator import Chart, NavigatorItem, OnMap, OnStage, Place
from nanostream.results.store import is_never

__all__ = [
    "FIELDS_FILE",
    "RESULT_VERSION",
    "FeedbackFiles",
    "Outcome",
    "Outcomes",
    "Particle",
    "answer",
    "navigator_file",
    "navigator_head",
    "particle_items",
    "places",
    "publish",
    "result_path",
    "result_text",
    "section_items",
]

#: Raised with every change of the result files or of the answers on the query port.
RESULT_VERSION = 1
#: ReadLineToArray takes 60 words a line (MacroProcessor.h l.29); a reason is cut before.
_MOST_WORDS = 40
#: Sections whose files are looked after at a start, and that may wait for a folder to come back.
_MOST_WAITING = 1000
_RETRY_S = 1.0
#: A turn of the sink's loop writes no longer than this.
_TURN_S = 0.1
#: The ranked fields are written anew no more often.
_FIELDS_S = 2.0
_RANK = {
    "count": "count",
    "area_fraction": "area_fraction",
    # In one session every section has a size in nm, or none has.
    "diameter": "coalesce(mean_diameter_nm, mean_diameter_px)",
    "probability": "(SELECT avg(mean_probability) FROM particles p WHERE p.section = s.section)",
}
#: Where the ranked sections are.
FIELDS_FILE = "sections.nav"


class Particle(NamedTuple):
    """One particle; its position as in the session's tables, diameter in nm None if unknown."""

    label: int
    x_px: float
    y_px: float
    diameter_px: float
    diameter_nm: float | None
    probability: float


@dataclass(frozen=True)
class Outcome:
    """What became of a section.

    Attributes
    ----------
    ended_s : float
        POSIX time at which it was stored or given up.
    reason : str
        Why it was given up; empty if it was stored. Then all that follows is known.
    particles : list of Particle
        Most certain first.
    """

    section: SectionId
    ended_s: float
    reason: str = ""
    height_px: int = 0
    width_px: int = 0
    pixel_size_nm: float | None = None
    metadata: Metadata = field(default_factory=Metadata)
    summary: Summary | None = None
    particles: list[Particle] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Tells the result from every other, also of an earlier file of the same name."""
        return _id(self.ended_s)

    @property
    def first_row(self) -> FirstRow:
        """Where SerialEM shows row 0; a session of before it was kept tells it by the file."""
        return self.metadata.first_row or first_row_of(self.section.path)


def _id(ended_s: float) -> str:
    return f"{ended_s:.6f}"


class Outcomes:
    """What has become of sections so far, read beside the writer.

    Parameters
    ----------
    folder : Path
        Of the session.
    """

    def __init__(self, folder: Path) -> None:
        self._db = connect(folder)
        self._db.row_factory = sqlite3.Row

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()

    def ended(self, path: str, z: int) -> tuple[SectionId, str] | None:
        """Of all generations of a section the newest that has an end, and its outcome's id."""
        stored = self._db.execute(
            "SELECT section, stored_s FROM sections WHERE path = ? AND z = ?"
            " ORDER BY generation DESC LIMIT 1",
            (path, z),
        ).fetchall()
        # By the primary key: path#z, and of all that begins with path~ what ends with #z.
        end = f"#{z}"
        given_up = self._db.execute(
            "SELECT section, time_s FROM quarantine WHERE section = ?"
            " OR (section > ? AND section < ? AND substr(section, ?) = ?)",
            (path + end, f"{path}~", f"{path}\x7f", -len(end), end),
        ).fetchall()
        found = [(SectionId.parse(text), _id(ended_s)) for text, ended_s in stored + given_up]
        found = [one for one in found if one[0].path == path]  # not path~x.mrc
        return max(found, key=lambda one: one[0].generation, default=None)

    def of(self, section: SectionId) -> Outcome:
        """What became of a section that has an end.

        Raises
        ------
        KeyError
            If it has none.
        """
        row = self._db.execute(
            "SELECT * FROM sections WHERE section = ?", (str(section),)
        ).fetchone()
        if row is not None:
            return _outcome(row, self._particles(section))
        row = self._db.execute(
            "SELECT reason, time_s FROM quarantine WHERE section = ?", (str(section),)
        ).fetchone()
        if row is None:
            raise KeyError(str(section))
        return Outcome(section, row["time_s"], reason=row["reason"] or "given up")

    def recent(self, most: int) -> list[SectionId]:
        """The sections that ended last, oldest of them first."""
        rows = self._db.execute(
            "SELECT section FROM (SELECT section, stored_s AS t FROM sections UNION ALL"
            " SELECT section, time_s FROM quarantine) ORDER BY t DESC LIMIT ?",
            (most,),
        ).fetchall()
        return [SectionId.parse(row[0]) for row in reversed(rows)]

    def paths(self) -> list[str]:
        """Every file of the session."""
        stored = self._db.execute("SELECT DISTINCT path FROM sections").fetchall()
        given_up = self._db.execute("SELECT section FROM quarantine").fetchall()
        return [*(row[0] for row in stored), *(SectionId.parse(row[0]).path for row in given_up)]

    def ranked(self, rank_by: str, most: int) -> list[Outcome]:
        """Stored sections with the highest values first, without their particles."""
        rows = self._db.execute(
            f"SELECT s.*, {_RANK[rank_by]} AS rank FROM sections s WHERE rank IS NOT NULL"
            " ORDER BY rank DESC, section LIMIT ?",
            (most,),
        )
        return [_outcome(row, []) for row in rows]

    def _particles(self, section: SectionId) -> list[Particle]:
        rows = self._db.execute(
            "SELECT label, x, y, diameter_px, diameter_nm, mean_probability FROM particles"
            " WHERE section = ? ORDER BY mean_probability DESC, label",
            (str(section),),
        )
        return [Particle(*row) for row in rows]


def _outcome(row: sqlite3.Row, particles: list[Particle]) -> Outcome:
    numbers: dict[str, Any] = {
        name: math.nan if row[name] is None else row[name] for name in Summary.__struct_fields__
    }
    return Outcome(
        SectionId.parse(row["section"]),
        row["stored_s"],
        height_px=row["height_px"],
        width_px=row["width_px"],
        pixel_size_nm=row["pixel_size_nm"],
        metadata=msgspec.json.decode(row["metadata"], type=Metadata),
        summary=Summary(**numbers),
        particles=particles,
    )


def result_path(section: SectionId, ending: str = "npres") -> str:
    """Where a section's file is below the feedback folder; a file name used again has the same."""
    return f"{section.path}.z{section.z}.{ending}"


def result_text(outcome: Outcome) -> str:
    """Result file of one section, docs/formats/serialem.md.

    Notes
    -----
    One key and its words a line, ASCII, at most 42 words (ReadLineToArray takes 60), without ``#``,
    which would begin a comment, and ``$``. A number that is not known is 0, because SerialEM's
    scripts know no other sign for it. There is no comment line: what ReadLineToArray makes of one
    is not documented.
    """
    known = answer(outcome, most=0)
    lines = [f"npres {RESULT_VERSION}", f"id {known['id']}", f"status {known['status']}"]
    lines += [
        f"file {quote(outcome.section.path, safe='/~()+,')}",
        f"z {outcome.section.z}",
        f"generation {outcome.section.generation}",
    ]
    if outcome.summary is None:
        return "\n".join([*lines, f"reason {_words(outcome.reason)}", "end"]) + "\n"
    lines += [f"acquired {_words(outcome.metadata.acquired or '') or '0'}"]
    lines += [f"{key} {_number(known[key])}" for key in _NUMBERS]
    lines += [f"size {outcome.width_px} {outcome.height_px}", f"unit {known['unit']}"]
    for x, y, diameter, probability in _rows(outcome):
        lines.append(f"p {x:.2f} {y:.2f} {diameter:.3f} {probability:.3f}")
    return "\n".join([*lines, "end"]) + "\n"


_NUMBERS = (
    *("n", "n_edge", "d_mean_nm", "d_median_nm", "d_mean_px", "d_median_px"),
    *("area_fraction", "pixel_nm"),
)


def answer(outcome: Outcome, *, most: int) -> dict[str, Any]:
    """The same as the result file, for JSON.

    Parameters
    ----------
    most : int
        Particles that are listed at most, the most certain first.

    Returns
    -------
    dict
        ``particles`` are rows of x, y (SerialEM's image coordinates), diameter in ``unit``, and
        probability. What is not known is None or NaN.
    """
    section, summary = outcome.section, outcome.summary
    head = {
        "nanostream": RESULT_VERSION,
        "status": "fail" if summary is None else "ok",
        "id": outcome.id,
        "file": section.path,
        "z": section.z,
        "generation": section.generation,
    }
    if summary is None:
        return head | {"reason": outcome.reason}
    return head | {
        "acquired": outcome.metadata.acquired,
        "n": summary.count,
        "n_edge": summary.count_edge,
        "d_mean_nm": summary.mean_diameter_nm,
        "d_median_nm": summary.median_diameter_nm,
        "d_mean_px": summary.mean_diameter_px,
        "d_median_px": summary.median_diameter_px,
        "area_fraction": summary.area_fraction,
        "pixel_nm": outcome.pixel_size_nm,
        "size": (outcome.width_px, outcome.height_px),
        "unit": "px" if outcome.pixel_size_nm is None else "nm",
        "particles": list(_rows(outcome))[:most],
    }


def _rows(outcome: Outcome) -> Iterator[tuple[float, float, float, float]]:
    for particle in outcome.particles:
        x, y = _in_script(particle.x_px, particle.y_px, outcome)
        diameter = particle.diameter_nm
        if outcome.pixel_size_nm is None or diameter is None:
            diameter = particle.diameter_px
        yield x, y, diameter, particle.probability


def _in_script(x_px: float, y_px: float, outcome: Outcome) -> tuple[float, float]:
    """Pixel centres at n + 0.5, y counted from the top of SerialEM's display."""
    y = y_px + 0.5
    return x_px + 0.5, y if outcome.first_row == "top" else outcome.height_px - y


def _in_map(x_px: float, y_px: float, outcome: Outcome) -> tuple[float, float]:
    """Pixel centres at n + 0.5, y counted from the bottom of SerialEM's display."""
    x, y = _in_script(x_px, y_px, outcome)
    return x, outcome.height_px - y


def _number(value: float | None) -> str:
    return f"{value:.6g}" if value is not None and math.isfinite(value) else "0"


def _words(text: str) -> str:
    """Words that stay on their line and stay words, whatever the text came from."""
    kept = re.sub(r"[^ -~]|[$]", "?", re.sub(r"\s+", " ", text).replace("#", " section "))
    return " ".join(kept.split()[:_MOST_WORDS])[:400]


def publish(path: Path, text: str, *, mark: str) -> None:
    """Write a file so that a reader sees all of it or none.

    Parameters
    ----------
    mark : str
        How a file of this kind begins.

    Raises
    ------
    FileExistsError
        If something else is there, and not empty; it is left alone.
    OSError
        If it cannot be written, or on Windows while someone reads the older one.
    """
    head = _head(path)
    if head and not head.startswith(mark):
        msg = f"{path} is there and not nanostream's; it is left alone"
        raise FileExistsError(msg)
    failpoints.disk_is_full()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.part")
    # Not waited for until it is on the disk: it can be made anew.
    temporary.write_text(text, encoding="cp1252", newline="\n")
    temporary.replace(path)


def _head(path: Path) -> str:
    try:
        path.stat()  # of a name that cannot be, Windows says so here, and not at the opening
        with path.open("rb") as file:
            return file.read(200).decode("latin-1").replace("\r\n", "\n")
    except FileNotFoundError:
        return ""


# --- Navigator -----------------------------------------------------------------------------------


def places(outcome: Outcome, chart: Chart) -> Callable[[float, float], Place] | None:
    """From a section's pixels to places, as far as the Navigator or the metadata tell.

    Parameters
    ----------
    chart : Chart
        Of the Navigator file whose maps are known; may be empty.

    Returns
    -------
    callable or None
        Takes x and y (px, 0-based pixel centres in file order) and gives the place on the map that
        the section is, or else on the stage by the mdoc's ImageToStageMatrix; None if there is
        neither.

    Raises
    ------
    ConfigError
        If the section can be one of several maps.
    """
    section, metadata = outcome.section, outcome.metadata
    shape = (outcome.height_px, outcome.width_px)
    on = navigator.find_map(chart.maps, section.path, section.z, shape=shape)
    if on is not None:
        return lambda x_px, y_px: OnMap(on, *_in_map(x_px, y_px, outcome))
    if metadata.image_to_stage is None:
        return None
    xpx, xpy, ypx, ypy, dx, dy = metadata.image_to_stage
    z_um = metadata.stage_z_um or 0.0

    def on_stage(x_px: float, y_px: float) -> Place:
        x, y = _in_script(x_px, y_px, outcome)
        return OnStage(xpx * x + xpy * y + dx, ypx * x + ypy * y + dy, z_um, chart.registration)

    return on_stage


def particle_items(
    outcome: Outcome, chart: Chart, *, rank_by: str, most: int
) -> list[NavigatorItem]:
    """A section's particles as Navigator points, the highest ranked first.

    Parameters
    ----------
    chart : Chart
        As `places`.
    rank_by : str
        ``diameter``; anything else is by probability.
    most : int
        Points at most.

    Returns
    -------
    list of NavigatorItem
        Empty if there are no particles or the place of the section is not known.
    """
    place = places(outcome, chart)
    if place is None:
        return []
    ranked = outcome.particles
    if rank_by == "diameter":
        ranked = sorted(ranked, key=lambda p: -p.diameter_px)
    found = []
    for rank, particle in enumerate(ranked[:most], 1):
        size = f"d={particle.diameter_px:.1f}px"
        if particle.diameter_nm is not None:
            size = f"d={particle.diameter_nm:.2f}nm"
        note = (
            f"nanostream {rank} {size} p={particle.probability:.2f} "
            f"{outcome.section.path} z{outcome.section.z}"
        )
        found.append(_item(outcome, place(particle.x_px, particle.y_px), note, particle.label))
    return found


def section_items(outcomes: Sequence[Outcome], chart: Chart) -> list[NavigatorItem]:
    """Sections as Navigator points at their middle, in the order given.

    A section whose pixels have no known place is at the stage position of its mdoc, and left out
    if there is none.
    """
    found = []
    for rank, outcome in enumerate(outcomes, 1):
        place, summary = _middle(outcome, chart), outcome.summary
        if place is None or summary is None:
            continue
        size = f"{_number(summary.mean_diameter_nm)}nm"
        if outcome.pixel_size_nm is None:
            size = f"{_number(summary.mean_diameter_px)}px"
        note = (
            f"nanostream {rank} n={summary.count} d={size} "
            f"area={summary.area_fraction:.3f} {outcome.section.path} z{outcome.section.z}"
        )
        found.append(_item(outcome, place, note, "field"))
    return found


def _middle(outcome: Outcome, chart: Chart) -> Place | None:
    place, metadata = places(outcome, chart), outcome.metadata
    if place is not None:
        return place((outcome.width_px - 1) / 2, (outcome.height_px - 1) / 2)
    if metadata.stage_x_um is None or metadata.stage_y_um is None:
        return None
    z_um = metadata.stage_z_um or 0.0
    return OnStage(metadata.stage_x_um, metadata.stage_y_um, z_um, chart.registration)


def _item(outcome: Outcome, place: Place, note: str, which: object) -> NavigatorItem:
    # The date tells two files of one name apart, and is the same when a session is analysed anew.
    section = (outcome.section, outcome.metadata.acquired or outcome.id)
    return navigator.point_item(
        place,
        item_id=navigator.stable_id(*section, which),
        group_id=navigator.stable_id("fields" if which == "field" else section),
        note=note,
    )


def navigator_file(items: Sequence[NavigatorItem], *, id: str) -> str:
    """A Navigator file that says who made it and from which result."""
    return navigator.navigator_text(items, saved_as=f"nanostream {id}")


def navigator_head(id: str = "") -> str:
    """How such a file begins; SerialEM would write its own name there."""
    return navigator.navigator_text([], saved_as=f"nanostream {id}").rstrip()


# --- kept in step with the session ---------------------------------------------------------------


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
    Sections that ended just before a kill have no files yet; the most recent ones are looked
    through at a start.
    """

    def __init__(self, session: Path, settings: Feedback, outcomes: Outcomes) -> None:
        self._settings, self._outcomes = settings, outcomes
        self._folder = Path(settings.directory) if settings.directory else session / "feedback"
        self._made = False
        self._due: dict[tuple[str, int], None] = {}
        self._again_s = -math.inf
        self._trouble = False
        self._said: set[str] = set()
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
        words: list[str] = []
        if now_s < self._again_s or not (self._due or self._fields_s is not None):
            return words
        end_s = clock() + _TURN_S
        try:
            self._make_folder()
            while self._due and clock() < end_s:
                self._write_newest(words)
            if self._fields_s is not None and self._fields_s <= now_s:
                self._write_fields(words)
                self._fields_s = None
        except (OSError, sqlite3.Error) as error:
            self._again_s = now_s + _RETRY_S
            if not self._trouble:
                text = f"feedback for SerialEM cannot be written: {error}"
                words.append(f"{text}; tried again until it can")
            self._trouble = True
        else:
            if self._trouble and not self._due:
                words.append(f"feedback for SerialEM is written again to {self._folder}")
                self._trouble = False
        return words

    def _write_newest(self, words: list[str]) -> None:
        (path, z), _ = self._due.popitem()
        try:
            self._write(path, z, words)
        except OSError as error:
            if is_never(error):
                self._say_once(f"no feedback for {path} section {z}: {error}", words, kind=path)
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

    def _write(self, path: str, z: int, words: list[str]) -> None:
        ended = self._outcomes.ended(path, z)
        if ended is None:  # in quarantine no more: it is tried again
            return
        section, id = ended
        result = self._folder / result_path(section)
        points = self._folder / result_path(section, "nav")
        head = f"npres {RESULT_VERSION}\nid {id}\n"
        want_result = self._settings.result_files and not _head(result).startswith(head)
        want_points = self._settings.navigator_items == "particles" and _head(points).split("\n\n")[
            0
        ].rstrip() != navigator_head(id)
        if not (want_result or want_points):
            return
        outcome = self._outcomes.of(section)
        if want_result:
            self._publish(result, result_text(outcome), "npres ", words)
        if want_points:
            self._write_points(points, outcome, words)

    def _write_points(self, path: Path, outcome: Outcome, words: list[str]) -> None:
        settings = self._settings
        try:
            items = particle_items(
                outcome, self._read_chart(), rank_by=settings.rank_by, most=settings.most_items
            )
        except ConfigError as error:
            self._say_once(str(error), words)
            return
        if items:
            text = navigator_file(items, id=outcome.id)
            self._publish(path, text, navigator_head(), words)
        elif outcome.particles:
            msg = (
                f"{outcome.section} and perhaps others are no map of [feedback] navigator and have "
                "no ImageToStageMatrix in their mdoc: no Navigator points for them"
            )
            self._say_once(msg, words, kind="no place")

    def _write_fields(self, words: list[str]) -> None:
        settings = self._settings
        ranked = self._outcomes.ranked(settings.rank_by, settings.most_items)
        try:
            items = section_items(ranked, self._read_chart())
        except ConfigError as error:
            self._say_once(str(error), words)
            return
        text = navigator_file(items, id="sections")
        self._publish(self._folder / FIELDS_FILE, text, navigator_head(), words)

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

    def _publish(self, path: Path, text: str, mark: str, words: list[str]) -> None:
        try:
            publish(path, text, mark=mark)
        except FileExistsError as error:
            self._say_once(str(error), words)

    def _say_once(self, text: str, words: list[str], *, kind: str = "") -> None:
        if (kind or text) not in self._said:
            self._said.add(kind or text)
            words.append(text)

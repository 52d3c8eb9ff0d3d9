"""Outcomes of a session's sections, read beside the writer: what SerialEM is told of them.

Positions are those of the session's tables: 0-based pixel centres in file order. SerialEM's image
coordinates have the middle of the first pixel at 0.5, and in scripts y counted downwards from the
top of SerialEM's display, where the last row of an MRC is and the first of a TIFF (KImageStore.cpp
``convertForWriting``, KStoreMRC and KStoreIMOD ``WriteSection``; NavHelper.cpp l.7778-7790).
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from nanostream.records import FirstRow, Measured, Metadata, SectionId, Summary
from nanostream.results.columns import measured_of
from nanostream.results.folders import connect

__all__ = ["Outcome", "Outcomes", "Particle"]

_RANK = {
    "count": "count",
    "area_fraction": "area_fraction",
    # In one session every section has a size in nm, or none has.
    "diameter": "coalesce(mean_diameter_nm, mean_diameter_px)",
    "probability": "(SELECT avg(mean_probability) FROM particles p WHERE p.section = s.section)",
}


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
    """End of a section: stored, or given up.

    Attributes
    ----------
    ended_s : float
        POSIX time at which it was stored or given up.
    reason : str
        Why it was given up; empty if it was stored.
    measured : Measured or None
        All numbers and texts that were stored; None if it was given up.
    height_px, width_px : int
        Of the micrograph; 0 if it was given up.
    particles : list of Particle
        Most certain first.
    """

    section: SectionId
    ended_s: float
    reason: str = ""
    measured: Measured | None = None
    height_px: int = 0
    width_px: int = 0
    particles: list[Particle] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Tells the result from every other, also of an earlier file of the same name."""
        return _id(self.ended_s)

    @property
    def summary(self) -> Summary | None:
        """Numbers of the section; None if it was given up."""
        return self.measured.summary if self.measured else None

    @property
    def metadata(self) -> Metadata:
        """Of the micrograph; empty if the section was given up."""
        return self.measured.metadata if self.measured else Metadata()

    @property
    def pixel_size_nm(self) -> float | None:
        """Of the micrograph; None if it is not known, or the section was given up."""
        return self.measured.pixel_size_nm if self.measured else None

    @property
    def first_row(self) -> FirstRow:
        """Where SerialEM shows row 0; a session of before it was kept tells it by the file."""
        from nanostream.acquisition.frames import first_row_of  # a sink's start need not wait

        return self.metadata.first_row or first_row_of(self.section.path)

    def in_script(self, x_px: float, y_px: float) -> tuple[float, float]:
        """Pixel centres at n + 0.5, y counted from the top of SerialEM's display."""
        y = y_px + 0.5
        return x_px + 0.5, y if self.first_row == "top" else self.height_px - y

    def in_map(self, x_px: float, y_px: float) -> tuple[float, float]:
        """Pixel centres at n + 0.5, y counted from the bottom of SerialEM's display."""
        x, y = self.in_script(x_px, y_px)
        return x, self.height_px - y


def _id(ended_s: float) -> str:
    return f"{ended_s:.6f}"


class Outcomes:
    """Sections that have an end so far, read beside the writer.

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
        """Outcome of a section that has an end.

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
    measured = measured_of(row)
    return Outcome(
        measured.section,
        row["stored_s"],
        measured=measured,
        height_px=row["height_px"],
        width_px=row["width_px"],
        particles=particles,
    )

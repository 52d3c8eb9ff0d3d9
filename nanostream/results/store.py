"""Masks (HDF5) and tables (SQLite) of a session, committed together.

The mask of a section is one HDF5 file, written under a temporary name, flushed to the disk and
renamed; then one SQLite transaction adds the section, its particles, the tracks that it makes
possible and the tracker's memory. A kill between the two leaves a mask without a row, which the
next try replaces; there is never a row without its mask. docs/formats/session.md describes both.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from nanostream import failpoints
from nanostream.config import Config
from nanostream.database import open_database, transaction
from nanostream.errors import SessionError, reason_of
from nanostream.records import Alarm, Result, SectionId, TrackerSettings
from nanostream.results.columns import row_of
from nanostream.results.folders import DATABASE, SESSION_VERSION, check_folder, connect, lock
from nanostream.results.mask_files import mask_path, write_mask
from nanostream.results.schema import ALARM_COLUMNS, PARTICLE_NAMES, SCHEMA, complete
from nanostream.results.tracking import advance_tracks

__all__ = ["Store", "acknowledge", "ask_retry", "diameters"]


_ACKNOWLEDGED = (
    "SELECT DISTINCT a.name FROM alarms a JOIN acknowledgements k"
    " ON k.name = a.name AND k.time_s >= a.since_s WHERE a.cleared_s IS NULL"
)


class MadeFrom(NamedTuple):
    """Checksum of the micrograph, SHA-256 of the model, threshold and pixel size of a section."""

    pixels_crc32: int
    model_sha256: str
    threshold: float
    pixel_size_nm: float | None


class Store:
    """A session being written; one writer at a time.

    Parameters
    ----------
    folder : Path
        Made if it does not exist; a folder with other things in it is refused.
    config : Config
        Kept as provenance.

    Raises
    ------
    SessionError
        If the folder is foreign, of another version, in use by another writer, or cannot be
        written.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder = folder
        check_folder(folder)
        self._lock = lock(folder / "writer.lock")
        self._db = open_database(
            folder / DATABASE, schema=SCHEMA, version=SESSION_VERSION, synchronous="FULL"
        )
        text = msgspec.json.encode(config)
        sha256 = hashlib.sha256(text).hexdigest()
        self._config_version = {"config_sha256": sha256}
        known = {"created_s": str(time.time()), f"config {sha256}": text.decode()}
        with transaction(self._db, f"session {folder}"):
            self._db.executemany("INSERT OR IGNORE INTO provenance VALUES (?, ?)", known.items())
            complete(self._db)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()
        self._lock.close()

    def has(self, section: SectionId) -> bool:
        """Whether the section's result is committed."""
        row = self._db.execute("SELECT 1 FROM sections WHERE section = ?", (str(section),))
        return row.fetchone() is not None

    def made_from(self, section: SectionId) -> MadeFrom:
        """The pixels and settings that a stored section was made from."""
        row = self._db.execute(
            "SELECT pixels_crc32, model_sha256, threshold, pixel_size_nm FROM sections"
            " WHERE section = ?",
            (str(section),),
        ).fetchone()
        return MadeFrom(*row)

    def sections_by_pixels(self) -> dict[int, SectionId]:
        """A stored section for each checksum of a micrograph."""
        rows = self._db.execute("SELECT pixels_crc32, section FROM sections")
        return {int(checksum): SectionId.parse(name) for checksum, name in rows}

    def commit(self, result: Result) -> bool:
        """Keep a result for good: mask, rows and tracks, or nothing.

        Returns
        -------
        bool
            False if the section was already stored: a result that comes twice changes nothing.

        Raises
        ------
        SessionError
            If the disk is full or the folder cannot be written; the result can be committed
            again later.
        MessageError
            If this result can never be stored, wherever there is room.
        """
        if self.has(result.section):
            return False
        labels_crc32 = write_mask(self.folder, result)
        with transaction(self._db, f"{result.section} in {self.folder}"):
            self._insert_section(result, labels_crc32)
            if result.stream is not None:
                advance_tracks(self._db, result.section, result.stream)
            failpoints.point("sink.rows")
        return True

    def quarantine(
        self,
        section: SectionId,
        reason: str,
        *,
        attempts: int,
        stream: TrackerSettings | None = None,
    ) -> None:
        """List a section as given up; tracks continue without it.

        Parameters
        ----------
        stream : TrackerSettings, optional
            Of the movie that it is a section of.
        """
        if self.has(section):
            return
        with transaction(self._db, f"quarantine of {section}"):
            self._db.execute(
                "INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?, ?)",
                (str(section), reason, attempts, time.time()),
            )
            if stream is not None:
                advance_tracks(self._db, section, stream)

    def retries(self) -> tuple[SectionId, ...]:
        """Quarantined sections that the operator wants tried again."""
        rows = self._db.execute("SELECT section FROM retries").fetchall()
        return tuple(SectionId.parse(section) for (section,) in rows)

    def retried(self, section: SectionId) -> None:
        """Take note that the agent tries it again: it is in quarantine no more."""
        with transaction(self._db, f"retry of {section}"):
            for table in ("retries", "quarantine"):
                self._db.execute(f"DELETE FROM {table} WHERE section = ?", (str(section),))

    def event(self, source: str, number: int, text: str) -> None:
        """Keep an event; the same number of the same source is kept once."""
        with transaction(self._db, "an event"):
            self._db.execute(
                "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?)",
                (time.time(), source, number, text),
            )

    def alarm(self, alarm: Alarm) -> None:
        """Keep an alarm that was raised, or that one kept before is over."""
        with transaction(self._db, "an alarm"):
            self._db.execute(
                f"INSERT OR REPLACE INTO alarms ({', '.join(ALARM_COLUMNS)})"
                f" VALUES ({', '.join('?' * len(ALARM_COLUMNS))})",
                [getattr(alarm, name) for name in ALARM_COLUMNS],
            )

    def acknowledged(self) -> set[str]:
        """Names of the alarms that somebody has acknowledged since they were raised."""
        try:
            rows = self._db.execute(_ACKNOWLEDGED).fetchall()
        except sqlite3.OperationalError:  # its disk is away; asked again with the next snapshot
            return set()
        return {name for (name,) in rows}

    def counts(self) -> dict[str, int]:
        """Number of sections, particles, quarantined sections and identities in streams."""
        return {
            name: int(self._db.execute(query).fetchone()[0])
            for name, query in (
                ("sections", "SELECT count(*) FROM sections"),
                ("particles", "SELECT coalesce(sum(count), 0) FROM sections"),
                ("quarantine", "SELECT count(*) FROM quarantine"),
                ("tracks", "SELECT coalesce(sum(identities), 0) FROM trackers"),
            )
        }

    def normalization_maximum(self) -> float | None:
        """Largest value the session was scaled by, for models that need the data set's maximum."""
        row = self._db.execute("SELECT max(normalization_maximum) FROM sections").fetchone()
        return None if row[0] is None else float(row[0])

    def models(self) -> set[str]:
        """SHA-256 of the models that results were made with."""
        return {sha for (sha,) in self._db.execute("SELECT DISTINCT model_sha256 FROM sections")}

    def last_particle(self) -> int:
        """Number of the particle that was stored last, for `diameters`; 0 if there is none."""
        return int(self._db.execute("SELECT coalesce(max(rowid), 0) FROM particles").fetchone()[0])

    def _insert_section(self, result: Result, labels_crc32: int) -> None:
        section = result.section
        row: dict[str, Any] = {
            "section": str(section),
            "path": section.path,
            "generation": section.generation,
            "z": section.z,
            "stream": section.file if result.stream else None,
            "height_px": result.labels.shape[0],
            "width_px": result.labels.shape[1],
            "mask": mask_path(section),
            "labels_crc32": labels_crc32,
            "stored_s": time.time(),
            **row_of(replace(result, versions=result.versions | self._config_version)),
        }
        self._db.execute(
            f"INSERT INTO sections ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
            list(row.values()),
        )
        self._db.executemany(
            # By name: a session from before has the newer columns last.
            f"INSERT INTO particles (section, {', '.join(PARTICLE_NAMES)})"
            f" VALUES ({', '.join('?' * (len(PARTICLE_NAMES) + 1))})",
            [(str(section), *particle) for particle in result.particles.tolist()],
        )
        self._db.execute("DELETE FROM quarantine WHERE section = ?", (str(section),))


def diameters(
    folder: Path, last_particle: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Diameters in px and nm of the whole particles up to one, some at a time.

    Reads through a connection of its own, so it can be used in another thread.
    """
    with closing(connect(folder)) as db:
        rows = db.execute(
            "SELECT diameter_px, diameter_nm FROM particles WHERE NOT touches_edge AND rowid <= ?",
            (last_particle,),
        )
        while some := rows.fetchmany(10_000):
            table = np.array(some, np.float64)
            yield table[:, 0], table[:, 1]


def acknowledge(folder: Path, names: Sequence[str]) -> None:
    """Acknowledge alarms of a session that runs now.

    Raises
    ------
    SessionError
        If the session cannot be written.
    """
    try:
        with closing(sqlite3.connect(folder / DATABASE, timeout=10)) as db, db:
            rows = [(name, time.time()) for name in names]
            db.executemany("INSERT OR REPLACE INTO acknowledgements VALUES (?, ?)", rows)
    except sqlite3.Error as error:
        msg = f"session {folder} cannot be written: {reason_of(error)}"
        raise SessionError(msg) from error


def ask_retry(folder: Path, sections: Sequence[str]) -> None:
    """Ask the session's agent, running now or later, to try quarantined sections again.

    Raises
    ------
    SessionError
        If a section is not in quarantine, or the session cannot be written.
    """
    try:
        with closing(sqlite3.connect(folder / DATABASE, timeout=10)) as db, db:
            known = {row[0] for row in db.execute("SELECT section FROM quarantine")}
            for section in sections:
                if section not in known:
                    msg = (
                        f"{section} is not in quarantine; nanostream quarantine list shows what is"
                    )
                    raise SessionError(msg)
                db.execute("INSERT OR IGNORE INTO retries VALUES (?)", (section,))
    except sqlite3.Error as error:
        msg = f"session {folder} cannot be written: {reason_of(error)}"
        raise SessionError(msg) from error

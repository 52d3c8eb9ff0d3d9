"""Masks (HDF5) and tables (SQLite) of a session, committed together.

The mask of a section is one HDF5 file, written under a temporary name, flushed to the disk and
renamed; then one SQLite transaction adds the section, its particles, the tracks that it makes
possible and the tracker's memory. A kill between the two leaves a mask without a row, which the
next try replaces; there is never a row without its mask. docs/formats/session.md describes both.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import h5py
import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from nanostream import failpoints
from nanostream.config import Config
from nanostream.database import open_database, transaction
from nanostream.errors import MessageError, SessionError
from nanostream.records import PARTICLE_DTYPE, Result, SectionId, TrackerSettings
from nanostream.results.columns import COLUMNS, attributes_of, row_of
from nanostream.results.folders import DATABASE, check_folder, connect, lock

if TYPE_CHECKING:
    from nanostream.particles.tracks import Tracker

__all__ = [
    "SESSION_VERSION",
    "Store",
    "ask_retry",
    "diameters",
    "is_never",
    "mask_path",
]

#: Raised with every change of tables or masks that a reader must know of; another version is
#: refused by name. A new column with a default does not: who does not know it misses nothing.
SESSION_VERSION = 1

_SQL_TYPES = {"i": "INTEGER", "f": "REAL", "b": "INTEGER"}
_PARTICLE_NAMES = PARTICLE_DTYPE.names or ()
_PARTICLE_COLUMNS = ", ".join(
    f"{name} {_SQL_TYPES[PARTICLE_DTYPE[name].kind]}" for name in _PARTICLE_NAMES
)

_SCHEMA = f"""
CREATE TABLE provenance (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE sections (
    section TEXT PRIMARY KEY, path TEXT NOT NULL, generation INTEGER NOT NULL, z INTEGER NOT NULL,
    stream TEXT, height_px INTEGER NOT NULL, width_px INTEGER NOT NULL, mask TEXT NOT NULL,
    labels_crc32 INTEGER NOT NULL, stored_s REAL NOT NULL,
    {", ".join(column.declaration for column in COLUMNS)}
);
CREATE INDEX sections_of_stream ON sections (stream, z);
CREATE TABLE particles (
    section TEXT NOT NULL REFERENCES sections (section), {_PARTICLE_COLUMNS},
    PRIMARY KEY (section, label)
);
CREATE TABLE tracks (
    stream TEXT NOT NULL, frame INTEGER NOT NULL, particle INTEGER NOT NULL,
    section TEXT NOT NULL REFERENCES sections (section), label INTEGER NOT NULL,
    x_corr REAL NOT NULL, y_corr REAL NOT NULL,
    PRIMARY KEY (section, label), UNIQUE (stream, frame, particle)
);
CREATE TABLE drift (
    stream TEXT NOT NULL, frame INTEGER NOT NULL, dx_px REAL NOT NULL, dy_px REAL NOT NULL,
    total_x_px REAL NOT NULL, total_y_px REAL NOT NULL, votes INTEGER NOT NULL, gate_px REAL,
    PRIMARY KEY (stream, frame)
);
CREATE TABLE trackers (
    stream TEXT PRIMARY KEY, next_frame INTEGER NOT NULL, identities INTEGER NOT NULL,
    state BLOB NOT NULL
);
CREATE TABLE quarantine (
    section TEXT PRIMARY KEY, reason TEXT NOT NULL, attempts INTEGER NOT NULL, time_s REAL NOT NULL
);
CREATE TABLE retries (section TEXT PRIMARY KEY);
CREATE TABLE events (
    time_s REAL NOT NULL, source TEXT NOT NULL, number INTEGER NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (source, number)
);
"""


def mask_path(section: SectionId) -> str:
    """Where a section's mask is, relative to the session folder."""
    return f"masks/{section.file}/z{section.z:05d}.h5"


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
            folder / DATABASE, schema=_SCHEMA, version=SESSION_VERSION, synchronous="FULL"
        )
        text = msgspec.json.encode(config)
        sha256 = hashlib.sha256(text).hexdigest()
        self._config_version = {"config_sha256": sha256}
        known = {"created_s": str(time.time()), f"config {sha256}": text.decode()}
        with transaction(self._db, f"session {folder}"):
            self._db.executemany("INSERT OR IGNORE INTO provenance VALUES (?, ?)", known.items())
            # Not in the schema: older sessions of this version are without it.
            self._db.execute(
                "CREATE INDEX IF NOT EXISTS sections_of_file ON sections (path, z, generation)"
            )
            found = {row[1] for row in self._db.execute("PRAGMA table_info(sections)")}
            for column in COLUMNS:
                if column.name not in found:
                    self._db.execute(f"ALTER TABLE sections ADD COLUMN {column.declaration}")

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

    def made_from(self, section: SectionId) -> tuple[int, str, float]:
        """Of a stored section: checksum of the micrograph, SHA-256 of the model, threshold."""
        row = self._db.execute(
            "SELECT pixels_crc32, model_sha256, threshold FROM sections WHERE section = ?",
            (str(section),),
        ).fetchone()
        return int(row[0]), str(row[1]), float(row[2])

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
        labels_crc32 = _write_mask(self.folder / mask_path(result.section), result)
        with transaction(self._db, f"{result.section} in {self.folder}"):
            self._insert_section(result, labels_crc32)
            if result.stream is not None:
                self._advance_tracks(result.section, result.stream)
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
        """List a section as given up; tracks go on without it.

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
                self._advance_tracks(section, stream)

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
        """Keep a word about what happened; the same number of the same source is kept once."""
        with transaction(self._db, "an event"):
            self._db.execute(
                "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?)",
                (time.time(), source, number, text),
            )

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
            f"INSERT INTO particles VALUES ({', '.join('?' * (len(_PARTICLE_NAMES) + 1))})",
            [(str(section), *particle) for particle in result.particles.tolist()],
        )
        self._db.execute("DELETE FROM quarantine WHERE section = ?", (str(section),))

    def _advance_tracks(self, section: SectionId, settings: TrackerSettings) -> None:
        """Link all sections of a stream that have become consecutive."""
        # SciPy and pandas: a session without movies does not need them, a start does not wait.
        from nanostream.particles.tracks import Tracker

        stream = section.file
        row = self._db.execute(
            "SELECT next_frame, identities, state FROM trackers WHERE stream = ?", (stream,)
        ).fetchone()
        if row:
            frame, identities, tracker = int(row[0]), int(row[1]), Tracker.from_bytes(row[2])
        else:
            frame, identities = 0, 0
            tracker = Tracker(settings)
        first = frame
        while (end := self._end_of(stream, frame)) is not None:
            if end == "stored":
                identities += self._link(stream, frame, tracker)
            frame += 1
        if frame > first:
            self._db.execute(
                "INSERT OR REPLACE INTO trackers VALUES (?, ?, ?, ?)",
                (stream, frame, identities, tracker.to_bytes()),
            )

    def _end_of(self, stream: str, frame: int) -> str | None:
        section = f"{stream}#{frame}"
        row = self._db.execute(
            "SELECT 'stored' FROM sections WHERE section = ?1"
            " UNION ALL SELECT 'quarantined' FROM quarantine WHERE section = ?1",
            (section,),
        ).fetchone()
        return row and str(row[0])

    def _link(self, stream: str, frame: int, tracker: Tracker) -> int:
        """Identities of one section's particles; how many of them are new."""
        import pandas as pd

        section = f"{stream}#{frame}"
        rows = self._db.execute(
            "SELECT label, x, y, diameter_px, touches_edge FROM particles WHERE section = ?"
            " ORDER BY label",
            (section,),
        ).fetchall()
        table = pd.DataFrame(
            np.array(rows, np.float64).reshape(-1, 5),
            columns=["label", "x", "y", "diameter_px", "touches_edge"],
        ).astype({"label": np.int64, "touches_edge": np.bool_})
        step = tracker.step(frame, table)
        total_y, total_x = step.cumulative_drift_px
        self._db.executemany(
            "INSERT INTO tracks VALUES (?, ?, ?, ?, ?, ?, ?)",
            zip(
                [stream] * len(table),
                [frame] * len(table),
                step.particle.tolist(),
                [section] * len(table),
                table["label"].tolist(),
                (table["x"] - total_x).tolist(),
                (table["y"] - total_y).tolist(),
                strict=True,
            ),
        )
        dy, dx = step.drift_px
        self._db.execute(
            "INSERT INTO drift VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (stream, frame, dx, dy, total_x, total_y, step.drift_votes, step.gate_px),
        )
        return len(step.appeared)


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
        msg = f"session {folder} cannot be written: {error}"
        raise SessionError(msg) from error


_NEVER = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENOTDIR, errno.EISDIR)
#: ERROR_INVALID_PARAMETER and ERROR_INVALID_NAME.
_NEVER_WINDOWS = (87, 123)


def is_never(error: OSError, *, windows: bool = os.name == "nt") -> bool:
    """Whether a name or a value is impossible: no room on any disk would help.

    Parameters
    ----------
    windows : bool
        There EINVAL also stands for every error that Python has no number for, e.g. that a share
        was lost (winerror 59, 64).
    """
    if windows and error.errno == errno.EINVAL:
        return getattr(error, "winerror", None) in _NEVER_WINDOWS
    return error.errno in _NEVER


def _write_mask(path: Path, result: Result) -> int:
    """Write one section's mask so that it exists whole or not at all; its labels' checksum."""
    temporary = path.with_suffix(".part")
    try:
        failpoints.disk_is_full()
        path.parent.mkdir(parents=True, exist_ok=True)
        _fill_mask(temporary, result)
        failpoints.point("sink.mask-part")
        _to_disk(temporary)
        temporary.replace(path)
        _to_disk(path.parent)
        failpoints.point("sink.mask")
    except (OSError, RuntimeError) as error:  # h5py: RuntimeError when a write fails at closing
        msg = f"mask of {result.section} cannot be written to {path}: {error}"
        if isinstance(error, OSError) and is_never(error):
            raise MessageError(msg) from error
        raise SessionError(msg) from error
    except (ValueError, TypeError) as error:  # metadata that HDF5 cannot keep
        msg = f"mask of {result.section} cannot be kept: {error}"
        raise MessageError(msg) from error
    return zlib.crc32(np.ascontiguousarray(result.labels).data)


def _fill_mask(path: Path, result: Result) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["nanostream_mask"] = SESSION_VERSION
        file.attrs.update(attributes_of(result))
        for name, array in (("labels", result.labels), ("probability", result.probability)):
            file.create_dataset(
                name,
                data=array,
                chunks=tuple(min(512, side) for side in array.shape),
                compression="gzip",
                compression_opts=1,
                shuffle=array.itemsize > 1,
                fletcher32=True,
            )


def _to_disk(path: Path) -> None:
    """Wait until a file, or on POSIX a folder's list of names, is on the disk."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

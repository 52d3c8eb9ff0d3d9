"""Durable state of every section the agent has seen; survives any kill of it.

::

    found ──▶ stored            the sink has committed its result
      ▲   └─▶ quarantined       given up, with the reason
      └──────────┘              until the operator wants it tried again, or, of what was never read,
                                its file changes

What was there before the agent's first start may be passed over: such sections are counted with
their file, and are never found.

What is found and neither stored nor quarantined is sent again after a restart; its pixels are
read again from the file. Losing the last few entries in a power cut costs a repeated computation,
never a section, so the database need not wait for the disk at each (synchronous NORMAL). A change
that cannot be written, because the disk is full, is waited for: nothing else happens meanwhile.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from nanostream.acquisition.readiness import FileStat, KnownFile
from nanostream.database import open_database, transaction
from nanostream.errors import SessionError
from nanostream.records import SectionId

__all__ = ["Ledger", "last_read", "passed_over"]

T = TypeVar("T")

#: Full, locked or away for now; extended codes have these in their lowest byte.
_PASSING = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
)

_VERSION = 2
_SCHEMA = """
CREATE TABLE files (
    path TEXT PRIMARY KEY, generation INTEGER NOT NULL, published INTEGER NOT NULL,
    size INTEGER, mtime_ns INTEGER, inode TEXT, title TEXT NOT NULL,
    overwritten TEXT NOT NULL, state TEXT NOT NULL
) STRICT;
CREATE TABLE sections (
    section TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('found', 'stored', 'quarantined')),
    reason TEXT, attempts INTEGER NOT NULL DEFAULT 0, found_s REAL NOT NULL, settled_s REAL
) STRICT;
CREATE TABLE fingerprints (
    path TEXT NOT NULL, z INTEGER NOT NULL, generation INTEGER NOT NULL,
    fingerprint INTEGER NOT NULL, PRIMARY KEY (path, z, generation)
) STRICT, WITHOUT ROWID;
CREATE INDEX unfinished ON sections (state) WHERE state = 'found';
CREATE TABLE first_look (ended_s REAL NOT NULL) STRICT;
CREATE TABLE passed_over (
    path TEXT PRIMARY KEY, sections INTEGER NOT NULL, title TEXT NOT NULL
) STRICT;
"""
_KEEP_FILE = "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Ledger:
    """The agent's memory, one SQLite file.

    Parameters
    ----------
    path : Path
        Made if it does not exist.

    Raises
    ------
    SessionError
        If the file is no ledger, is damaged, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._try_again: Callable[[SessionError], bool] = lambda _: False
        self._db = open_database(path, schema=_SCHEMA, version=_VERSION, synchronous="NORMAL")
        rows = self._db.execute("SELECT state, count(*) FROM sections GROUP BY state")
        self._counts: dict[str, int] = dict(rows.fetchall())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def when_stuck(self, try_again: Callable[[SessionError], bool]) -> None:
        """Have somebody wait where a change cannot be written now, as when the disk is full.

        Parameters
        ----------
        try_again : callable
            Asked with the error, again and again, until the change can be written; if it answers
            False the error is raised. Who made the change need not know of it.
        """
        self._try_again = try_again

    def known_files(self) -> dict[str, KnownFile]:
        """Files as `Readiness` needs them to resume where it stopped."""
        rows = self._db.execute(
            "SELECT path, generation, published, size, mtime_ns, inode, title, overwritten, state"
            " FROM files"
        )
        return {
            path: KnownFile(
                generation,
                published,
                None if size is None else FileStat(size, mtime_ns, int(inode)),
                title,
                tuple((z, own) for z, own in json.loads(overwritten))
                if overwritten != "[]"
                else (),
                state,
            )
            for (
                path,
                generation,
                published,
                size,
                mtime_ns,
                inode,
                title,
                overwritten,
                state,
            ) in rows
        }

    def unfinished(self) -> list[SectionId]:
        """Sections that were found and have no end yet, in the order they were found."""
        rows = self._db.execute("SELECT section FROM sections WHERE state = 'found' ORDER BY rowid")
        return [SectionId.parse(section) for (section,) in rows]

    def found(self, path: str, file: KnownFile, sections: Iterable[SectionId]) -> None:
        """Remember what is known of a file and the sections it brought; all or nothing."""
        new = [(str(section), time.time()) for section in sections]

        def write() -> int:
            self._db.execute(_KEEP_FILE, _row(path, file))
            return self._db.executemany(
                "INSERT OR IGNORE INTO sections (section, state, found_s) VALUES (?, 'found', ?)",
                new,
            ).rowcount

        self._count("found", max(self._change(write), 0))

    def read(self, section: SectionId, fingerprint: int) -> None:
        """Remember what was read of a section, to notice that it is overwritten; the first counts.

        A section that is sent again may have been overwritten meanwhile.
        """
        row = (section.path, section.z, section.generation, fingerprint)
        query = "INSERT OR IGNORE INTO fingerprints VALUES (?, ?, ?, ?)"
        self._change(lambda: self._db.execute(query, row))

    def fingerprints(self, path: str, file: KnownFile) -> dict[int, int]:
        """Fingerprints of the sections that are in a file now, by z, as far as they were read."""
        rows = self._db.execute(
            "SELECT z, generation, fingerprint FROM fingerprints WHERE path = ?", (path,)
        )
        own = dict(file.overwritten)
        return {z: value for z, of, value in rows if of == own.get(z, file.generation)}

    @property
    def first_scan_ended(self) -> bool:
        """Whether an agent has once listed all that was there when it started."""
        return self._db.execute("SELECT 1 FROM first_look").fetchone() is not None

    def end_first_scan(self, passed_over: Mapping[str, KnownFile]) -> None:
        """Remember what was there at the first start and is not wanted; all or nothing.

        Parameters
        ----------
        passed_over : mapping of path to KnownFile
            Their published sections are known, and will not be found.
        """

        def write() -> None:
            self._db.executemany(_KEEP_FILE, [_row(*item) for item in passed_over.items()])
            self._db.executemany(
                "INSERT INTO passed_over VALUES (?, ?, ?)",
                [(path, file.published, file.title) for path, file in passed_over.items()],
            )
            self._db.execute("INSERT INTO first_look VALUES (?)", (time.time(),))

        self._change(write)

    def stored(self, section: SectionId) -> None:
        """The sink has committed it."""
        self._settle(section, "stored", None, 0)

    def quarantined(self, section: SectionId, reason: str, attempts: int) -> None:
        """Nothing more is tried until somebody asks for it."""
        self._settle(section, "quarantined", reason, attempts)

    def retry(self, section: SectionId) -> bool:
        """Take a section out of quarantine; False if it is not in it."""
        query = (
            "UPDATE sections SET state = 'found', reason = NULL, attempts = 0, settled_s = NULL"
            " WHERE section = ? AND state = 'quarantined'"
        )
        changed = self._change(lambda: self._db.execute(query, (str(section),)).rowcount)
        if changed:
            self._count("quarantined", -1)
            self._count("found", 1)
        return bool(changed)

    def unread_end(self, path: str, file: KnownFile) -> list[SectionId]:
        """Quarantined sections at the end of a file of which no pixels were ever read.

        A copy may have stalled there for longer than it was waited for. What has a section behind
        it that was read is damaged, however the file grows.
        """
        read, given_up = self.fingerprints(path, file), {s for s, _, _ in self.given_up()}
        last = range(file.published - 1, -1, -1)
        sections = (SectionId(path, z, file.generation_of(z)) for z in last)
        unread = takewhile(lambda s: s in given_up and s.z not in read, sections)
        return sorted(unread, key=lambda section: section.z)

    def given_up(self) -> list[tuple[SectionId, str, int]]:
        """Quarantined sections with reason and number of attempts."""
        rows = self._db.execute(
            "SELECT section, reason, attempts FROM sections WHERE state = 'quarantined'"
        )
        return [(SectionId.parse(section), reason, attempts) for section, reason, attempts in rows]

    @property
    def seen(self) -> int:
        """All sections ever found."""
        return sum(self._counts.values())

    def count(self, state: str) -> int:
        """Number of sections in a state: found, stored or quarantined."""
        return self._counts.get(state, 0)

    def _settle(self, section: SectionId, state: str, reason: str | None, attempts: int) -> None:
        name = str(section)

        def write() -> str | None:
            row = self._db.execute("SELECT state FROM sections WHERE section = ?", (name,))
            before: str | None = next((known for (known,) in row), None)
            if before is None or before in (state, "stored"):
                return None  # a stored section stays stored, whatever comes later
            self._db.execute(
                "UPDATE sections SET state = ?, reason = ?, attempts = ?, settled_s = ?"
                " WHERE section = ?",
                (state, reason, attempts, time.time(), name),
            )
            return before

        before = self._change(write)
        if before is not None:
            self._count(before, -1)
            self._count(state, 1)

    def _change(self, write: Callable[[], T]) -> T:
        """Result of ``write``, when its changes are in the database; all of them or none."""
        while True:
            try:
                with transaction(self._db, f"ledger {self._path}"):
                    return write()
            except SessionError as error:
                # A damaged database, or one of another make, gets no better by waiting.
                passing = getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF in _PASSING
                if not (passing and self._try_again(error)):
                    raise

    def _count(self, state: str, by: int) -> None:
        self._counts[state] = self._counts.get(state, 0) + by


def passed_over(path: Path) -> dict[tuple[str, str], int]:
    """Sections from 0 on that were there at the first start and not wanted, by path and title.

    The title tells a file from a later one of the same name.

    Parameters
    ----------
    path : Path
        Of the ledger, which may be in use; without one there are none.
    """
    rows = _rows(path, "SELECT path, title, sections FROM passed_over")
    return {(file, title): sections for file, title, sections in rows}


def last_read(path: Path) -> dict[str, dict[int, tuple[int, int]]]:
    """Of each file and section the generation that was read last, and its fingerprint.

    Parameters
    ----------
    path : Path
        Of the ledger, which may be in use; without one there are none.
    """
    # Of the other columns SQLite gives those of the row that has the maximum.
    query = "SELECT path, z, max(generation), fingerprint FROM fingerprints GROUP BY path, z"
    found: dict[str, dict[int, tuple[int, int]]] = {}
    for file, z, generation, fingerprint in _rows(path, query):
        found.setdefault(file, {})[z] = generation, fingerprint
    return found


def _rows(path: Path, query: str) -> list[Any]:
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            return db.execute(query).fetchall()
    except sqlite3.OperationalError:  # no ledger here, or one from before there was this table
        return []


def _row(path: str, file: KnownFile) -> tuple[str | int | None, ...]:
    stat = file.stat
    return (
        path,
        file.generation,
        file.published,
        None if stat is None else stat.size,
        None if stat is None else stat.mtime_ns,
        # Windows file ids are unsigned 64-bit or larger: too large for SQLite's integer.
        None if stat is None else str(stat.inode),
        file.title,
        json.dumps(file.overwritten),
        file.state,
    )

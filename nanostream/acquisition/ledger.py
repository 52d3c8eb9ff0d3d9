"""Durable state of every section the agent has seen; survives any kill of it.

::

    found ──▶ stored            the sink has committed its result
      ▲   └─▶ quarantined       given up, with the reason
      └──────────┘              until the operator wants it tried again

What is found and neither stored nor quarantined is sent again after a restart; its pixels are
read again from the file. Losing the last few entries in a power cut costs a repeated computation,
never a section, so the database need not wait for the disk at each (synchronous NORMAL).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from nanostream.acquisition.readiness import FileStat, KnownFile
from nanostream.database import open_database, transaction
from nanostream.records import SectionId

__all__ = ["Ledger"]

_VERSION = 1
_SCHEMA = """
CREATE TABLE files (
    path TEXT PRIMARY KEY, generation INTEGER NOT NULL, published INTEGER NOT NULL,
    size INTEGER, mtime_ns INTEGER, inode TEXT, title TEXT NOT NULL
) STRICT;
CREATE TABLE sections (
    section TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('found', 'stored', 'quarantined')),
    reason TEXT, attempts INTEGER NOT NULL DEFAULT 0, found_s REAL NOT NULL, settled_s REAL
) STRICT;
CREATE INDEX unfinished ON sections (state) WHERE state = 'found';
"""


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

    def known_files(self) -> dict[str, KnownFile]:
        """What `Readiness` needs to go on where it stopped."""
        rows = self._db.execute(
            "SELECT path, generation, published, size, mtime_ns, inode, title FROM files"
        )
        return {
            path: KnownFile(
                generation,
                published,
                None if size is None else FileStat(size, mtime_ns, int(inode)),
                title,
            )
            for path, generation, published, size, mtime_ns, inode, title in rows
        }

    def unfinished(self) -> list[SectionId]:
        """Sections that were found and have no end yet, in the order they were found."""
        rows = self._db.execute("SELECT section FROM sections WHERE state = 'found' ORDER BY rowid")
        return [SectionId.parse(section) for (section,) in rows]

    def found(self, path: str, file: KnownFile, sections: Iterable[SectionId]) -> None:
        """Remember a look at a file and the sections it brought; all or nothing."""
        stat = file.stat
        row = (
            path,
            file.generation,
            file.published,
            stat and stat.size,
            stat and stat.mtime_ns,
            # Windows file ids are unsigned 64-bit or larger: too large for SQLite's integer.
            None if stat is None else str(stat.inode),
            file.title,
        )
        now_s = time.time()
        with transaction(self._db, f"ledger {self._path}"):
            self._db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            added = self._db.executemany(
                "INSERT OR IGNORE INTO sections (section, state, found_s) VALUES (?, 'found', ?)",
                [(str(section), now_s) for section in sections],
            ).rowcount
        self._count("found", max(added, 0))

    def stored(self, section: SectionId) -> None:
        """The sink has committed it."""
        self._settle(section, "stored", None, 0)

    def quarantined(self, section: SectionId, reason: str, attempts: int) -> None:
        """Nothing more is tried until somebody asks for it."""
        self._settle(section, "quarantined", reason, attempts)

    def retry(self, section: SectionId) -> bool:
        """Take a section out of quarantine; False if it is not in it."""
        with transaction(self._db, f"ledger {self._path}"):
            changed = self._db.execute(
                "UPDATE sections SET state = 'found', reason = NULL, attempts = 0,"
                " settled_s = NULL WHERE section = ? AND state = 'quarantined'",
                (str(section),),
            ).rowcount
        if changed:
            self._count("quarantined", -1)
            self._count("found", 1)
        return bool(changed)

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
        with transaction(self._db, f"ledger {self._path}"):
            before = self._db.execute(
                "SELECT state FROM sections WHERE section = ?", (str(section),)
            ).fetchone()
            if before is None or before[0] in (state, "stored"):
                return  # a stored section stays stored, whoever says something else later
            self._db.execute(
                "UPDATE sections SET state = ?, reason = ?, attempts = ?, settled_s = ?"
                " WHERE section = ?",
                (state, reason, attempts, time.time(), str(section)),
            )
        self._count(before[0], -1)
        self._count(state, 1)

    def _count(self, state: str, by: int) -> None:
        self._counts[state] = self._counts.get(state, 0) + by

"""SQLite as the agent's ledger and the session use it: versioned, journalled, all or nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from nanostream.errors import MessageError, SessionError, reason_of

__all__ = ["open_database", "transaction"]

#: How long a writer waits for another one, e.g. a retry asked for on the command line.
BUSY_S = 2.0


def open_database(
    path: Path, *, schema: str, version: int, synchronous: Literal["NORMAL", "FULL"]
) -> sqlite3.Connection:
    """Open a database for writing, made from its schema if it is new.

    Parameters
    ----------
    version : int
        Of the schema, kept as ``PRAGMA user_version``.
    synchronous : str
        FULL waits for the disk at each commit, NORMAL may lose the last ones in a power cut.

    Raises
    ------
    SessionError
        If the file is no such database, of another version, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA synchronous = {synchronous}")
            found = int(db.execute("PRAGMA user_version").fetchone()[0])
            damage = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if damage != "ok":
                raise sqlite3.DatabaseError(f"it is damaged: {damage}")
            if found == 0:
                db.executescript(
                    f"BEGIN IMMEDIATE; {schema} PRAGMA user_version = {version}; COMMIT"
                )
        except sqlite3.Error:
            db.close()
            raise
    except (OSError, sqlite3.Error) as error:
        msg = f"{path} cannot be used: {reason_of(error)}; give a folder that can be written"
        raise SessionError(msg) from error
    if found not in (0, version):
        db.close()
        msg = f"{path} is of version {found}, this nanostream knows {version}; use another folder"
        raise SessionError(msg)
    return db


@contextmanager
def transaction(db: sqlite3.Connection, what: str) -> Iterator[None]:
    """All of the changes inside, or none.

    Parameters
    ----------
    what : str
        Names the change in the error.

    Raises
    ------
    SessionError
        If the database cannot be written: disk full, folder read-only, locked for too long.
    MessageError
        If what is written can never fit: a key twice, a number beyond 64 bits.
    """
    try:
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # a full disk has rolled back by itself
                db.execute("ROLLBACK")
            raise
    except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError) as error:
        msg = f"{what} does not fit the tables: {error}"
        raise MessageError(msg) from error
    except sqlite3.Error as error:
        msg = (
            f"{what} cannot be written: {reason_of(error)}; make room and check the folder's rights"
        )
        raise SessionError(msg) from error

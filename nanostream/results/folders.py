"""A session's folder: is it one, who is at work in it, its database to be read. Cheap to import.

Whoever starts a session, or only asks its database, need not wait for HDF5 and pandas.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from nanostream.errors import SessionError, reason_of

__all__ = ["DATABASE", "SESSION_VERSION", "check_folder", "connect", "is_never", "lock"]

DATABASE = "session.db"
#: Raised with every change of tables or masks that a reader must know of; another version is
#: refused by name. A new column with a default does not: who does not know it misses nothing.
SESSION_VERSION = 1

#: What the other processes may have made in the folder before the sink makes the database.
_BEFORE_DATABASE = ("logs", "config.json", "ledger.db", "run.lock", "writer.lock")


def check_folder(folder: Path) -> None:
    """Refuse to write into anything that is not a session.

    Raises
    ------
    SessionError
        If the folder is a file, or has other things in it and no session.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        msg = f"{folder} is a file; give a folder for the session"
        raise SessionError(msg)
    names = {path.name for path in folder.iterdir()}
    # SQLite puts a journal beside a database: ledger.db-wal, ledger.db-journal.
    foreign = {name for name in names if name.partition("-")[0] not in _BEFORE_DATABASE}
    if DATABASE not in names and foreign:
        msg = f"{folder} has other things in it and no session; choose an empty or new folder"
        raise SessionError(msg)


def lock(path: Path) -> sqlite3.Connection:
    """Keep others out until it is closed; the system lets go when the process ends, however.

    SQLite's own file lock, because it works alike on every system.

    Raises
    ------
    SessionError
        If another process has it, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = sqlite3.connect(path, isolation_level=None, timeout=0)
        try:
            held.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error:
            held.close()
            raise
    except sqlite3.Error as error:
        why = reason_of(error)
        msg = f"session {path.parent} is in use by another nanostream, or read-only ({why})"
        raise SessionError(msg) from error
    except OSError as error:
        msg = f"session {path.parent} cannot be made: {error.strerror}; choose another folder"
        raise SessionError(msg) from error
    return held


def connect(folder: Path) -> sqlite3.Connection:
    """The database of a session, to be read only, also beside its writer."""
    path = (folder / DATABASE).resolve()
    # SQLite wants to write beside a WAL database even to read it. Where that is forbidden and
    # no writer has left a log, the file is all there is.
    settled = not path.with_name(f"{DATABASE}-wal").exists()
    mode = "immutable=1" if settled and not os.access(path.parent, os.W_OK) else "mode=ro"
    return sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True, timeout=10)


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

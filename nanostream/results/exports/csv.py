"""Tables of a session as CSV files."""

from __future__ import annotations

from pathlib import Path

from nanostream.results.exports.tables import tables
from nanostream.results.exports.targets import Target
from nanostream.results.session import Session
from nanostream.results.spreadsheets import harmless

__all__ = ["write_tables"]


def write_tables(session: Session, target: Target) -> list[Path]:
    """Files that were written, one per table: UTF-8, full precision."""
    written = []
    for name, table in tables(session):
        with target.whole(f"{name}.csv") as path:
            harmless(table).to_csv(path, index=False, encoding="utf-8")
        written.append(target.path(f"{name}.csv"))
    return written

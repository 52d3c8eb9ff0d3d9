"""Tables of a session as Parquet files: types and text as they are, a fraction of CSV's size."""

from __future__ import annotations

from pathlib import Path

from nanostream.results.exports.tables import tables
from nanostream.results.exports.targets import Target
from nanostream.results.session import Session

__all__ = ["write_tables"]


def write_tables(session: Session, target: Target) -> list[Path]:
    """Files that were written, one per table."""
    written = []
    for name, table in tables(session):
        with target.whole(f"{name}.parquet") as path:
            table.to_parquet(path, index=False, engine="pyarrow")
        written.append(target.path(f"{name}.parquet"))
    return written

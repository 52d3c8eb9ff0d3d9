"""Tables of a session as CSV files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nanostream.results.exports.tables import tables
from nanostream.results.exports.targets import Target
from nanostream.results.session import Session

__all__ = ["write_tables"]


def write_tables(session: Session, target: Target) -> list[Path]:
    """Files that were written, one per table: UTF-8, full precision."""
    written = []
    for name, table in tables(session):
        with target.whole(f"{name}.csv") as path:
            _harmless(table).to_csv(path, index=False, encoding="utf-8")
        written.append(target.path(f"{name}.csv"))
    return written


def _harmless(table: pd.DataFrame) -> pd.DataFrame:
    """Text that a spreadsheet would run as a formula gets an apostrophe before it.

    File names and labels come from outside (OWASP, CSV injection).
    """
    text = table.select_dtypes(exclude=["number", "bool"]).columns
    return table.assign(
        **{c: table[c].replace(r"^([=+\-@\t\r])", r"'\1", regex=True) for c in text}
    )

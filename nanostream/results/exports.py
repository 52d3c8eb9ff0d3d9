"""A session for other programs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nanostream.errors import SessionError
from nanostream.results.session import Session

__all__ = ["FORMATS", "export"]

FORMATS = ("csv",)

_TABLES = ("sections", "particles", "tracks", "drift", "events", "quarantine")


def export(session: Session, format: str, folder: Path) -> list[Path]:
    """Write a session's tables; what is there of the same name is replaced.

    Parameters
    ----------
    format : str
        ``csv``: one UTF-8 file per table, full precision, for pandas, R, Origin, Excel.
    folder : Path
        Made if it does not exist.

    Raises
    ------
    SessionError
        If the format is not known or the folder cannot be written.
    """
    if format not in FORMATS:
        msg = f"no export to {format!r}; there is: {', '.join(FORMATS)}"
        raise SessionError(msg)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _TABLES:
            path = folder / f"{name}.csv"
            _harmless(getattr(session, name)).to_csv(path, index=False, encoding="utf-8")
            written.append(path)
    except OSError as error:
        msg = f"export to {folder}: {error}; choose a folder that can be written"
        raise SessionError(msg) from error
    return written


def _harmless(table: pd.DataFrame) -> pd.DataFrame:
    """Text that a spreadsheet would run as a formula gets an apostrophe before it.

    File names and labels come from outside (OWASP, CSV injection).
    """
    text = table.select_dtypes(exclude=["number", "bool"]).columns
    return table.assign(
        **{c: table[c].replace(r"^([=+\-@\t\r])", r"'\1", regex=True) for c in text}
    )

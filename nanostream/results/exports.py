"""A session for other programs."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pandas as pd

from nanostream.config import Feedback
from nanostream.errors import SessionError
from nanostream.records import SectionId
from nanostream.results import feedback
from nanostream.results.navigator import Chart, read_chart
from nanostream.results.session import Session

__all__ = ["FORMATS", "export"]

FORMATS = ("csv", "nav")

_TABLES = ("sections", "particles", "tracks", "drift", "events", "quarantine")


def export(
    session: Session, format: str, folder: Path, *, navigator: Path | None = None
) -> list[Path]:
    """Write a session's tables; what is there of the same name is replaced.

    Parameters
    ----------
    format : str
        ``csv``: one UTF-8 file per table, full precision, for pandas, R, Origin, Excel.
        ``nav``: Navigator points for SerialEM to merge, a file per section with its particles and
        ``sections.nav`` with the sections that have most; a foreign file is left alone.
    folder : Path
        Made if it does not exist.
    navigator : Path, optional
        Navigator file whose maps give places to particles.

    Raises
    ------
    SessionError
        If the format is not known or the folder cannot be written.
    ConfigError
        If the Navigator file cannot be used.
    """
    if format not in FORMATS:
        msg = f"no export to {format!r}; there is: {', '.join(FORMATS)}"
        raise SessionError(msg)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if format == "nav":
            chart = read_chart(navigator) if navigator else Chart()
            return _write_navigator(session, folder, chart)
        return _write_tables(session, folder)
    except OSError as error:
        msg = f"export to {folder}: {error}; choose a folder that can be written"
        raise SessionError(msg) from error


def _write_tables(session: Session, folder: Path) -> list[Path]:
    written = []
    for name in _TABLES:
        path = folder / f"{name}.csv"
        _harmless(getattr(session, name)).to_csv(path, index=False, encoding="utf-8")
        written.append(path)
    return written


def _write_navigator(session: Session, folder: Path, chart: Chart) -> list[Path]:
    """Files with points; a section whose place is not known, or that has no particles, has none."""
    written = []
    usual = Feedback()
    with closing(feedback.Outcomes(session.folder)) as outcomes:
        fields = outcomes.ranked(usual.rank_by, usual.most_items)
        found = {feedback.FIELDS_FILE: feedback.section_items(fields, chart)}
        for name in session.section_ids():
            outcome = outcomes.of(SectionId.parse(name))
            found[feedback.result_path(outcome.section, "nav")] = feedback.particle_items(
                outcome, chart, rank_by=usual.rank_by, most=usual.most_items
            )
    for name, points in found.items():
        if points:
            text = feedback.navigator_file(points, id="export")
            feedback.publish(folder / name, text, mark=feedback.navigator_head())
            written.append(folder / name)
    return written


def _harmless(table: pd.DataFrame) -> pd.DataFrame:
    """Text that a spreadsheet would run as a formula gets an apostrophe before it.

    File names and labels come from outside (OWASP, CSV injection).
    """
    text = table.select_dtypes(exclude=["number", "bool"]).columns
    return table.assign(
        **{c: table[c].replace(r"^([=+\-@\t\r])", r"'\1", regex=True) for c in text}
    )

"""A session for other programs: one module per format, each with a function that writes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nanostream.errors import SessionError, reason_of
from nanostream.results.exports import csv, nav, png
from nanostream.results.navigator import Chart, read_chart
from nanostream.results.session import Session

__all__ = ["FORMATS", "export"]

Write = Callable[[Session, Path, Chart], list[Path]]

FORMATS: dict[str, Write] = {
    "csv": csv.write_tables,
    "nav": nav.write_points,
    "png": png.write_masks,
}


def export(
    session: Session, format: str, folder: Path, *, navigator: Path | None = None
) -> list[Path]:
    """Write a session's tables or masks; what is there of the same name is replaced.

    Parameters
    ----------
    format : str
        ``csv``: one UTF-8 file per table, full precision, for pandas, R, Origin, Excel.
        ``nav``: Navigator points for SerialEM to merge, a file per section with its particles and
        ``sections.nav`` with the sections that have most; a foreign file is left alone.
        ``png``: the mask of each section, white on black.
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
    chart = read_chart(navigator) if navigator else Chart()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FORMATS[format](session, folder, chart)
    except OSError as error:
        msg = f"export to {folder}: {reason_of(error)}; choose a folder that can be written"
        raise SessionError(msg) from error

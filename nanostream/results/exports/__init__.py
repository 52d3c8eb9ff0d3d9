"""A session for other programs: one module per format, each with a function that writes it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from nanostream.errors import SessionError, reason_of
from nanostream.results.exports import (
    coco,
    csv,
    geff,
    napari,
    nav,
    parquet,
    png,
    roi,
    tiff,
    trackmate,
)
from nanostream.results.exports.targets import Target, unheard
from nanostream.results.navigator import Chart, read_chart
from nanostream.results.session import Session

__all__ = ["FORMATS", "Format", "export"]


class Format(NamedTuple):
    """How a format is written, and the package beyond the base that this takes."""

    write: Callable[[Session, Target], list[Path]]
    package: str | None = None


FORMATS: dict[str, Format] = {
    "csv": Format(csv.write_tables),
    "parquet": Format(parquet.write_tables, "pyarrow"),
    "nav": Format(nav.write_points),
    "png": Format(png.write_masks),
    "tiff": Format(tiff.write_stacks),
    "roi": Format(roi.write_rois, "roifile"),
    "coco": Format(coco.write_annotations, "pycocotools"),
    "trackmate": Format(trackmate.write_spots),
    "napari": Format(napari.write_tracks),
    "geff": Format(geff.write_graphs, "geff"),
}


def export(
    session: Session,
    format: str,
    folder: Path,
    *,
    navigator: Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write a session's tables, masks or tracks; what is there of the same name is replaced.

    Parameters
    ----------
    format : str
        ``csv``: one UTF-8 file per table, full precision, for pandas, R, Origin, Excel.
        ``parquet``: the same tables with their types, smaller.
        ``nav``: Navigator points for SerialEM to merge, a file per section with its particles and
        ``sections.nav`` with the sections that have most; a foreign file is left alone.
        ``png``: the mask of each section, white on black.
        ``tiff``: a stack of labels per file, for ImageJ. ``roi``: outlines for its ROI manager.
        ``coco``: all masks as annotations, for training and scoring of networks.
        ``trackmate``: spots and tracks of each movie as TrackMate exports them. ``napari``: tracks
        as ``id, t, y, x``. ``geff``: tracks as graphs.
    folder : Path
        Made if it does not exist.
    navigator : Path, optional
        Navigator file whose maps give places to particles.
    progress, note : callable, optional
        As `nanostream.results.exports.targets.Target` tells them.

    Raises
    ------
    SessionError
        If the format is not known, its package is not installed, the session has nothing of what
        it holds, or the folder cannot be written.
    ConfigError
        If the Navigator file cannot be used.
    """
    if format not in FORMATS:
        msg = f"no export to {format!r}; there is: {', '.join(FORMATS)}"
        raise SessionError(msg)
    write, package = FORMATS[format]
    if package and find_spec(package) is None:
        msg = (
            f"export to {format} needs {package}, which is not installed; in a clone: "
            "pip install '.[export]'"
        )
        raise SessionError(msg)
    chart = read_chart(navigator) if navigator else Chart()
    target = Target(folder, chart, progress or unheard, note or unheard)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return write(session, target)
    except OSError as error:
        msg = f"export to {folder}: {reason_of(error)}; choose a folder that can be written"
        raise SessionError(msg) from error

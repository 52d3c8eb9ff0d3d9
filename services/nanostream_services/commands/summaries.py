"""The end of a session on the terminal: what it holds, and the code that the command exits with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from nanostream_services.commands.printing import FAILED, add_row, print_line
from nanostream_services.quantities import counted

if TYPE_CHECKING:
    import pandas as pd

    from nanostream.records import Statistics

__all__ = ["exit_with", "print_summary"]


def print_summary(folder: Path) -> None:
    """Print how many sections, particles and tracks a session holds, and their size."""
    from nanostream.results.session import Session

    session = Session(folder)
    table = Table(title="Session", show_header=False)
    _add_sections(table, session.sections, quarantined=len(session.quarantine))
    tracks = session.tracks
    _add_particles(table, session.particles, session.population, in_movies=not tracks.empty)
    _add_tracks(table, tracks)
    Console().print(table)


def _add_sections(table: Table, sections: pd.DataFrame, *, quarantined: int) -> None:
    add_row(table, "sections stored", str(len(sections)))
    add_row(table, "sections quarantined", str(quarantined))
    if warned := int((sections["warning"] != "").sum()):
        add_row(table, "sections with a warning", str(warned))
    made = sections.groupby(["model", "model_sha256", "threshold"]).size().reset_index(name="n")
    if len(made) > 1:
        each = (f"{row.n} by {row.model} above {row.threshold:g}" for row in made.itertuples())
        add_row(table, "models", f"{', '.join(each)}; below is what all found")
    if unknown := int(sections["pixel_size_nm"].isna().sum()):
        text = "not known: sizes in px"
        if unknown < len(sections):
            text = f"not known of {counted(unknown, 'section')}, left out below"
        add_row(table, "pixel size", text)


def _add_particles(
    table: Table, particles: pd.DataFrame, sizes: Statistics, *, in_movies: bool
) -> None:
    whole = int((~particles["touches_edge"]).sum())
    add_row(table, "particles", f"{len(particles)} ({whole} whole, not cut by the edge)")
    if len(particles) and not whole:
        add_row(table, "equivalent circular diameter", "of whole particles only: there is none")
    if not sizes.count:
        return
    of = f"N {sizes.count}" + (", each of a movie once" if in_movies else "")
    interval = ""
    if math.isfinite(sizes.d50_low) and math.isfinite(sizes.d50_high):
        interval = f", 95 % within {sizes.d50_low:.2f} to {sizes.d50_high:.2f}"
    text = f"median {sizes.d50:.2f} {sizes.unit}{interval}"
    spread = f", SD {sizes.sd:.2f}" if math.isfinite(sizes.sd) else ""
    add_row(table, "equivalent circular diameter", f"{text}; mean {sizes.mean:.2f}{spread} ({of})")


def _add_tracks(table: Table, tracks: pd.DataFrame) -> None:
    if tracks.empty:
        return
    lengths = tracks.groupby(["file", "particle"]).size()
    of_file = tracks.groupby("file")["frame"].nunique().loc[lengths.index.get_level_values(0)]
    lasting = int((2 * lengths.to_numpy() > of_file.to_numpy()).sum())
    add_row(table, "tracks", f"{len(lengths)} ({lasting} through most sections)")


def exit_with(folder: Path, *, expected: int | None = None) -> None:
    """Exit with 1 if a section was quarantined, or fewer than expected are stored."""
    from nanostream.results.session import Session

    session = Session(folder)
    if quarantined := len(session.quarantine):
        found = counted(quarantined, "section")
        print_line(f"exit code 1: {found} in quarantine (nanostream quarantine list {folder})")
    if quarantined or (expected is not None and len(session.sections) != expected):
        raise typer.Exit(FAILED)

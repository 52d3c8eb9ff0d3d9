"""``nanostream lattice``: lattice fringes of a session's particles, and the phases they fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nanostream.errors import NanostreamError, reason_of
from nanostream.particles.indexing import TOLERANCE
from nanostream_services.commands.options import Json, Micrographs, SessionFolder
from nanostream_services.commands.pictures import write_picture
from nanostream_services.commands.preview import chosen_sections
from nanostream_services.commands.printing import (
    FAILED,
    add_row,
    print_error,
    print_line,
    write_json,
)

if TYPE_CHECKING:
    from nanostream.particles.lattice import Lattice
    from nanostream.records import Frame

__all__ = ["lattice"]

#: Fringes of a particle that the table has room for.
_MOST_FRINGES = 4
#: Reasons that are printed why particles are not resolved.
_MOST_REASONS = 3
_COLUMNS = ("angle, °", "strength", "crystallinity", "phases")


_Sections = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SECTION]...", help="Their names; without any, the last one."),
]
_Phases = Annotated[
    list[str] | None,
    typer.Option(
        "--phase",
        metavar="NAME|FILE",
        help="Au, CdSe ..., or a .toml or .csv of yours; may be repeated.",
    ),
]
_Tolerance = Annotated[
    float,
    typer.Option(metavar="0..0.2", min=0.001, max=0.2, help="Relative error of a spacing."),
]
_Spectra = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Write each section's power spectrum there as PNG."),
]


def lattice(
    session: SessionFolder,
    sections: _Sections = None,
    watch: Micrographs = None,
    phases: _Phases = None,
    tolerance: _Tolerance = TOLERANCE,
    spectra: _Spectra = None,
    as_json: Json = False,
) -> None:
    """Measure the lattice fringes of particles: spacings, directions, and the phases they fit."""
    from nanostream.particles.phase_files import named_phases
    from nanostream.results.micrographs import micrographs_folder
    from nanostream.results.session import Session

    opened = Session(session)
    named_phases(phases or ())  # a wrong name or folder is wrong for all sections
    folder = micrographs_folder(session, watch)
    names = chosen_sections(opened, sections or opened.section_ids()[-1:] or None, 1)
    results: dict[str, Any] = {}
    for name in names:
        try:
            frame = opened.micrograph(name, micrographs=folder)
            found = opened.lattice(name, frame=frame, phases=phases or (), tolerance=tolerance)
            path = _draw(name, frame, phases or (), spectra) if spectra else None
        except (NanostreamError, OSError, ValueError) as error:
            print_error(f"{name}: no lattice: {reason_of(error)}")
            continue
        results[name] = _as_json(found)
        if not as_json:
            _print(name, found)
            if path:
                print_line(str(path))
    if as_json:
        write_json(results)
    if len(results) < len(names):
        raise typer.Exit(FAILED)


def _as_json(found: Lattice) -> dict[str, Any]:
    return {
        "particles": found.particles.to_dict("records"),
        "peaks": found.peaks.to_dict("records"),
    }


def _print(name: str, found: Lattice) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    resolved = found.particles[found.particles.resolved]
    shown = resolved[resolved.peaks > 0]
    print_line(
        f"{name}: fringes in {len(shown)} of {len(resolved)} particles that could show them, "
        f"{len(found.particles) - len(resolved)} could not"
    )
    if shown.empty:
        unresolved = found.particles[~found.particles.resolved]
        for reason in unresolved.reason.unique()[:_MOST_REASONS]:
            print_line(f"  not resolved: {reason}")
        return
    table = Table("label", Column("d, nm", no_wrap=True), *_COLUMNS)
    for crystal in shown.to_dict("records"):
        peaks = found.peaks[found.peaks.label == crystal["label"]].head(_MOST_FRINGES)
        add_row(
            table,
            str(crystal["label"]),
            *("\n".join(lines) for lines in _fringes(peaks)),
            f"{crystal['crystallinity']:.2f}",
            _named(crystal["phases"], crystal["evidence"]),
        )
    Console().print(table)


def _named(phases: str, evidence: str) -> str:
    """Phases and how surely they are named, for a person."""
    from nanostream.particles.lattice import Evidence

    match Evidence(evidence):
        case Evidence.ANGLES:
            return f"{phases}, by spacings and angles"
        case Evidence.SPACINGS:
            return f"consistent with {phases}"
    return evidence


def _fringes(peaks: Any) -> tuple[list[str], list[str], list[str]]:
    """Lines of spacings with their uncertainty, of angles and of strengths."""
    return (
        [f"{d:.4f} ± {sd:.4f}" for d, sd in zip(peaks.d_nm, peaks.d_sd_nm, strict=True)],
        [f"{angle:.1f}" for angle in peaks.angle_deg],
        [f"{strength:.0f}" for strength in peaks.strength],
    )


def _draw(name: str, frame: Frame, phases: Sequence[str], folder: Path) -> Path:
    """Power spectrum of a section as a picture."""
    from nanostream.particles.diffractograms import power_spectrum
    from nanostream.particles.phase_files import named_phases
    from nanostream.results.spectrum_pictures import draw_spectrum

    picture = draw_spectrum(
        power_spectrum(frame.pixels, frame.pixel_size_nm),
        named_phases(phases) if phases else (),
        first_row=frame.metadata.first_row,
    )
    return write_picture(folder, name, picture, kind="spectrum")

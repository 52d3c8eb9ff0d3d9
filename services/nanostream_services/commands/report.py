"""``nanostream report``: a session on one page, for a browser and for print."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nanostream.errors import ConfigError
from nanostream_services.commands.options import Micrographs, SessionFolder
from nanostream_services.commands.pictures import draw_sections
from nanostream_services.commands.printing import print_error, print_line

if TYPE_CHECKING:
    import pandas as pd

    from nanostream.results.report.page import Shown
    from nanostream.results.session import Session

__all__ = ["report"]

_SIDE_PX = 640
_JPEG_QUALITY = 85
#: Sections of each kind in the gallery.
_EACH = 3


def report(
    session: SessionFolder,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page; report.html in the session.")
    ] = None,
    watch: Micrographs = None,
    every_s: Annotated[
        float | None,
        typer.Option(
            "--every", metavar="SECONDS", min=5.0, help="Write it anew so often, until Ctrl-C."
        ),
    ] = None,
) -> None:
    """Write a session on one page: sizes with their uncertainty, trends, pictures, provenance.

    The HTML file needs nothing beside it; the browser prints it or saves it as PDF.
    """
    if missing := [name for name in ("matplotlib", "jinja2") if find_spec(name) is None]:
        msg = f"a report needs {' and '.join(missing)}: pip install '.[report]'"
        raise ConfigError(msg)
    from nanostream.results.session import Session

    opened = Session(session)
    page = out or session / "report.html"
    print_line(str(_write(opened, page, watch)))
    while every_s is not None:
        time.sleep(every_s)
        _write(opened, page, watch)


def _write(session: Session, page: Path, watch: Path | None) -> Path:
    from nanostream.results.report.content import collect
    from nanostream.results.report.page import render

    text = render(collect(session), list(_gallery(session, watch)))
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        partial = page.with_name(f".{page.name}.{os.getpid()}")
        partial.write_text(text, encoding="utf-8")
        partial.replace(page)  # a browser never sees half of it
    except OSError as error:
        msg = f"{page} cannot be written: {error.strerror}; give another place by --out"
        raise ConfigError(msg) from error
    return page


def _gallery(session: Session, watch: Path | None) -> Iterator[Shown]:
    """Pictures of typical, extreme, doubtful and warned sections."""
    import cv2

    from nanostream.results.micrographs import micrographs_folder
    from nanostream.results.report.page import Shown

    chosen = _chosen(session.sections, session.particles)
    if not chosen:
        return
    try:
        micrographs = micrographs_folder(session.folder, watch)
    except ConfigError as error:
        print_error(f"no gallery: {error}")
        return
    drawn = draw_sections(session, list(chosen), micrographs, numbers=False, side_px=_SIDE_PX)
    for name, picture in drawn:
        if isinstance(picture, str):
            yield Shown(name, picture, b"")
            continue
        coded = cv2.imencode(
            ".jpg",
            cv2.cvtColor(picture, cv2.COLOR_RGB2BGR),
            [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY],
        )[1]
        yield Shown(name, chosen[name], coded.tobytes())


def _chosen(sections: pd.DataFrame, particles: pd.DataFrame) -> dict[str, str]:
    """Names of the sections of the gallery and their captions."""
    if sections.empty:
        return {}
    table = sections.set_index("section")
    found = table[table["count"] > 0]
    size = (
        "median_diameter_nm" if table["median_diameter_nm"].notna().any() else "median_diameter_px"
    )
    unit = size.rpartition("_")[2]
    doubtful = particles.groupby("section")["doubtful"].mean()
    largest = particles[~particles["touches_edge"]].groupby("section")[f"diameter_{unit}"].max()
    kinds = {
        "typical": (found[size] - found[size].median()).abs().nsmallest(_EACH).index,
        "largest particle": largest.nlargest(_EACH).index,
        "most doubtful": doubtful[doubtful > 0].nlargest(_EACH).index,
        "warned": table.index[table["warning"] != ""][-_EACH:],
        "last": table["stored_s"].nlargest(1).index,
    }
    chosen: dict[str, str] = {}
    for kind, names in kinds.items():
        for name in names:
            row = table.loc[name]
            numbers = f"{row['count']} particles, median {row[size]:.3g} {unit}"
            before = chosen.get(name, f": {numbers}")
            chosen[name] = f"{kind}{before}" if before.startswith(":") else f"{kind}, {before}"
    return chosen

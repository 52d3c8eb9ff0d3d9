"""Result files of sections, for SerialEM's own scripts; and the same for JSON.

A section's result file is ``<file>.z<section>.npres`` below the feedback folder;
docs/formats/serialem.md describes it. It appears whole, by renaming, after the result has been
committed; it can be made anew from the session at any time, so nothing waits for it. Positions are
SerialEM's image coordinates in scripts (`nanostream.results.outcomes`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nanostream import failpoints
from nanostream.records import SectionId
from nanostream.results.outcomes import Outcome

__all__ = ["RESULT_VERSION", "answer", "head_of", "number", "publish", "result_path", "result_text"]

#: Raised with every change of the result files or of the answers on the query port.
RESULT_VERSION = 1
#: ReadLineToArray takes 60 words a line (MacroProcessor.h l.29); a reason is cut before.
_MOST_WORDS = 40


def result_path(section: SectionId, ending: str = "npres") -> str:
    """Where a section's file is below the feedback folder; a file name used again has the same."""
    return f"{section.path}.z{section.z}.{ending}"


def result_text(outcome: Outcome) -> str:
    """Result file of one section, docs/formats/serialem.md.

    Notes
    -----
    One key and its words a line, ASCII, at most 42 words (ReadLineToArray takes 60), without ``#``,
    which would begin a comment, and ``$``. A number that is not known is 0, because SerialEM's
    scripts know no other sign for it. There is no comment line: what ReadLineToArray makes of one
    is not documented.
    """
    known = answer(outcome, most=0)
    lines = [f"npres {RESULT_VERSION}", f"id {known['id']}", f"status {known['status']}"]
    lines += [
        f"file {quote(outcome.section.path, safe='/~()+,')}",
        f"z {outcome.section.z}",
        f"generation {outcome.section.generation}",
    ]
    if outcome.summary is None:
        return "\n".join([*lines, f"reason {_text(outcome.reason)}", "end"]) + "\n"
    lines += [f"acquired {_text(outcome.metadata.acquired or '') or '0'}"]
    lines += [f"{key} {number(known[key])}" for key in _NUMBERS]
    lines += [f"size {outcome.width_px} {outcome.height_px}", f"unit {known['unit']}"]
    for x, y, diameter, probability in _rows(outcome):
        lines.append(f"p {x:.2f} {y:.2f} {diameter:.3f} {probability:.3f}")
    return "\n".join([*lines, "end"]) + "\n"


_NUMBERS = (
    *("n", "n_edge", "d_mean_nm", "d_median_nm", "d_mean_px", "d_median_px"),
    *("area_fraction", "pixel_nm"),
)


def answer(outcome: Outcome, *, most: int) -> dict[str, Any]:
    """The same as the result file, for JSON.

    Parameters
    ----------
    most : int
        Particles that are listed at most, the most certain first.

    Returns
    -------
    dict
        ``particles`` are rows of x, y (SerialEM's image coordinates), diameter in ``unit``, and
        probability. What is not known is None or NaN.
    """
    section, summary = outcome.section, outcome.summary
    head = {
        "nanostream": RESULT_VERSION,
        "status": "fail" if summary is None else "ok",
        "id": outcome.id,
        "file": section.path,
        "z": section.z,
        "generation": section.generation,
    }
    if summary is None:
        return head | {"reason": outcome.reason}
    return head | {
        "acquired": outcome.metadata.acquired,
        "n": summary.count,
        "n_edge": summary.count_edge,
        "d_mean_nm": summary.mean_diameter_nm,
        "d_median_nm": summary.median_diameter_nm,
        "d_mean_px": summary.mean_diameter_px,
        "d_median_px": summary.median_diameter_px,
        "area_fraction": summary.area_fraction,
        "pixel_nm": outcome.pixel_size_nm,
        "size": (outcome.width_px, outcome.height_px),
        "unit": "px" if outcome.pixel_size_nm is None else "nm",
        "particles": list(_rows(outcome))[:most],
    }


def _rows(outcome: Outcome) -> Iterator[tuple[float, float, float, float]]:
    for particle in outcome.particles:
        x, y = outcome.in_script(particle.x_px, particle.y_px)
        diameter = particle.diameter_nm
        if outcome.pixel_size_nm is None or diameter is None:
            diameter = particle.diameter_px
        yield x, y, diameter, particle.probability


def number(value: float | None) -> str:
    """A number as SerialEM's scripts read it; 0 for one that is not known."""
    return f"{value:.6g}" if value is not None and math.isfinite(value) else "0"


def _text(text: str) -> str:
    """Text that stays on its line and stays text, whatever it came from."""
    kept = re.sub(r"[^ -~]|[$]", "?", re.sub(r"\s+", " ", text).replace("#", " section "))
    return " ".join(kept.split()[:_MOST_WORDS])[:400]


def publish(path: Path, text: str, *, mark: str) -> None:
    """Write a file so that a reader sees all of it or none.

    Parameters
    ----------
    mark : str
        How a file of this kind begins.

    Raises
    ------
    FileExistsError
        If something else is there, and not empty; it is left alone.
    OSError
        If it cannot be written, or on Windows while someone reads the older one.
    """
    head = head_of(path)
    if head and not head.startswith(mark):
        msg = f"{path} is there and not nanostream's; it is left alone"
        raise FileExistsError(msg)
    failpoints.disk_is_full()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.part")
    # Not waited for until it is on the disk: it can be made anew.
    temporary.write_text(text, encoding="cp1252", newline="\n")
    temporary.replace(path)


def head_of(path: Path) -> str:
    """Beginning of a file; empty if there is none."""
    try:
        path.stat()  # of a name that cannot be, Windows says so here, and not at the opening
        with path.open("rb") as file:
            return file.read(200).decode("latin-1").replace("\r\n", "\n")
    except FileNotFoundError:
        return ""

"""Values of a snapshot as text: numbers with their units, and names cut to their room.

All text of a snapshot goes through `clean`: section ids are file names and messages quote them, so
both could carry control sequences.
"""

from __future__ import annotations

import math
import unicodedata

from rich.cells import cell_len, chop_cells, set_cell_size

from nanostream.records import Snapshot
from nanostream_services.quantities import duration_text, grouped

__all__ = [
    "clean",
    "keep_end",
    "keep_start",
    "stage_text",
    "waiting_text",
    "wrap",
]


def clean(text: str) -> str:
    r"""Text without anything that a terminal would obey instead of show.

    Control characters, direction marks and lone surrogates (from undecodable file names) become
    a question mark, white space a blank.

    Examples
    --------
    >>> clean("a\x1b[2Jb\nc")
    'a?[2Jb c'
    """
    return "".join(_clean_character(c) for c in text).strip()


def _clean_character(character: str) -> str:
    if character.isspace():
        return " "
    if "\ufe00" <= character <= "\ufe0f":  # variation selectors: terminals disagree about the width
        return ""
    return "?" if unicodedata.category(character)[0] == "C" else character


def keep_start(text: str, columns: int) -> str:
    """Clean text, its end cut off where it is too long."""
    text = clean(text)
    if cell_len(text) <= columns:
        return text
    return set_cell_size(text, max(0, columns - 1)).rstrip() + "…"


def keep_end(text: str, columns: int) -> str:
    """A path's end says more than its start."""
    text = clean(text)
    if cell_len(text) <= columns:
        return text
    while text and cell_len(text) > columns - 1:
        text = text[1:]
    return "…" + text


def wrap(text: str, columns: int) -> list[str]:
    """Lines of at most so many columns; a word that is longer is broken."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines[-1].strip() else lines[-1] + word
        if cell_len(joined) <= columns:
            lines[-1] = joined
            continue
        pieces = chop_cells(word, columns - 2)
        if not lines[-1].strip():
            lines.pop()
        lines += [("  " if lines else "") + piece for piece in pieces]
    return lines


def stage_text(value_s: float) -> str:
    """The time of a step of the work, in ms or s."""
    if not math.isfinite(value_s):
        return "–"
    return f"{value_s * 1000:.0f} ms" if value_s < 0.9995 else f"{value_s:.2f} s"


def waiting_text(snapshot: Snapshot) -> str:
    """How many sections wait, and the oldest for how long."""
    number = grouped(snapshot.waiting)
    waited_s = snapshot.longest_wait_s
    return f"{number} · {duration_text(waited_s)}" if snapshot.waiting and waited_s >= 1 else number

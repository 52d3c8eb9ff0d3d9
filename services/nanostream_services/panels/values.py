"""Values of a snapshot as text: numbers with their units, and names cut to their room.

All text of a snapshot goes through `clean`: section ids are file names and messages quote them, so
both could carry control sequences.
"""

from __future__ import annotations

import math
import unicodedata

from rich.cells import cell_len, chop_cells, set_cell_size

from nanostream.records import Snapshot

__all__ = [
    "clean",
    "counted",
    "diameter_text",
    "duration_text",
    "grouped",
    "keep_end",
    "keep_start",
    "percent_text",
    "rate_text",
    "seconds_text",
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


def grouped(value: int) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}".replace(",", " ")


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun.

    Examples
    --------
    >>> counted(1, "section"), counted(2000, "section"), counted(0, "entry", "entries")
    ('1 section', '2 000 sections', '0 entries')
    """
    return f"{grouped(count)} {noun if count == 1 else plural or f'{noun}s'}"


def percent_text(fraction: float) -> str:
    """A fraction in percent; a dash if it is not known."""
    return f"{fraction * 100:.1f} %" if math.isfinite(fraction) else "–"


def rate_text(per_minute: float) -> str:
    """A rate without needless digits; a dash if it is not known."""
    if not math.isfinite(per_minute):
        return "–"
    return f"{per_minute:.0f}" if per_minute >= 10 or per_minute == 0 else f"{per_minute:.1f}"


def diameter_text(nm: float, px: float) -> str:
    """In nm where the pixel size is known, else in px, else a dash."""
    value, unit = (nm, "nm") if math.isfinite(nm) else (px, "px")
    if not math.isfinite(value):
        return "–"
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{decimals}f} {unit}"


def seconds_text(value_s: float) -> str:
    """A short time with a tenth of a second, a longer one in minutes and hours."""
    if not math.isfinite(value_s):
        return "–"
    return f"{value_s:.1f} s" if value_s < 60 else duration_text(value_s)


def stage_text(value_s: float) -> str:
    """The time of a step of the work, in ms or s."""
    if not math.isfinite(value_s):
        return "–"
    return f"{value_s * 1000:.0f} ms" if value_s < 0.9995 else f"{value_s:.2f} s"


def duration_text(value_s: float) -> str:
    """A time as a clock on the wall tells it: 12 s, 3 min, 2 h 5 min."""
    if not math.isfinite(value_s):
        return "–"
    seconds = max(0, int(value_s))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def waiting_text(snapshot: Snapshot) -> str:
    """How many sections wait, and the oldest for how long."""
    number = grouped(snapshot.waiting)
    waited_s = snapshot.longest_wait_s
    return f"{number} · {duration_text(waited_s)}" if snapshot.waiting and waited_s >= 1 else number

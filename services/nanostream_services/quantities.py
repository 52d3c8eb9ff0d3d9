"""Counts, times and sizes as text, for screens and messages."""

from __future__ import annotations

import math

__all__ = [
    "counted",
    "diameter_text",
    "duration_text",
    "grouped",
    "percent_text",
    "rate_text",
    "seconds_text",
]


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

"""The histogram of diameters as bars over an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.align import Align
from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from nanostream.records import Snapshot, Statistics
from nanostream_services.panels.boxes import panel
from nanostream_services.panels.values import clean
from nanostream_services.quantities import counted, grouped

__all__ = ["diameter_histogram", "diameters", "population_text"]

_BAR_STYLE = "#5fafaf"
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_WIDEST_BAR = 6


def diameters(snapshot: Snapshot, width: int, height: int) -> RenderableType:
    """The panel with the sizes of all particles of the session so far."""
    unit = clean(snapshot.diameter_unit)
    bars = diameter_histogram(
        snapshot.diameter_edges,
        snapshot.diameter_counts,
        unit=unit,
        width=width - 4,
        height=height - 2,
    )
    footer = f"N {grouped(sum(snapshot.diameter_counts))}"
    if snapshot.tracks_total:
        footer += f" · {counted(snapshot.tracks_total, 'track')}"
    if told := population_text(snapshot.population, width - 6):
        footer = told
    body: RenderableType = bars
    if not bars:
        body = Align.center(Text("no particles yet", "dim"), vertical="middle")
    return panel(body, "diameters", width, height, footer=footer)


def population_text(population: Statistics | None, columns: int) -> str:
    """Number, median, its interval and how many are missing, as far as there is room.

    Examples
    --------
    >>> known = Statistics(count=208, d50=2.347, d50_low=2.31, d50_high=2.4, needed=412)
    >>> population_text(known, 60)
    'N 208 · median 2.35 nm [2.31, 2.40] · 412 more for 5 %'
    >>> population_text(known, 30)
    'N 208 · median 2.35 nm'
    """
    if population is None or not math.isfinite(population.d50):
        return ""
    decimals = 2 if population.d50 < 9.995 else 1 if population.d50 < 99.95 else 0
    median, low, high = (
        f"{value:.{decimals}f}"
        for value in (population.d50, population.d50_low, population.d50_high)
    )
    parts = [f"N {grouped(population.count)}", f" · median {median} {clean(population.unit)}"]
    if math.isfinite(population.d50_low) and math.isfinite(population.d50_high):
        parts.append(f" [{low}, {high}]")
    if math.isfinite(population.needed) and population.needed > 0:
        wanted = f"{100 * population.relative_width:g} %"
        parts.append(f" · {grouped(int(population.needed))} more for {wanted}")
    text = ""
    for part in parts:
        if cell_len(text + part) > columns:
            break
        text += part
    return text


def diameter_histogram(
    edges: Sequence[float], counts: Sequence[int], *, unit: str, width: int, height: int
) -> Text:
    """A histogram as bars over an axis with numbers.

    Parameters
    ----------
    edges : (N + 1,) sequence of float
        Ascending.
    counts : (N,) sequence of int
        Particles between them.
    unit : str
        Of the edges.
    width, height : int
        Characters; the last two lines are the axis.

    Returns
    -------
    Text
        Empty if nothing was counted, or if edges and counts do not fit together.
    """
    edges_, counts_ = np.asarray(edges, np.float64), np.asarray(counts, np.int64)
    bar_rows = height - 2
    if not _fit_together(edges_, counts_) or bar_rows < 1:
        return Text()
    # Room for the highest number even if every bin were merged into one.
    margin = len(grouped(int(counts_.sum()))) + 1
    room = width - margin - 1
    if room < 8:
        return Text()
    edges_, counts_, bar_columns = _fitted(edges_, counts_, room)
    highest = grouped(int(counts_.max()))
    columns = np.repeat(counts_, bar_columns)

    eighths = np.ceil(columns / counts_.max() * bar_rows * 8).astype(int)
    text = Text(no_wrap=True)
    for row in range(bar_rows):
        filled = np.clip(eighths - (bar_rows - 1 - row) * 8, 0, 8)
        label = highest if row == 0 else ""
        text.append(label.rjust(margin - 1), "dim")
        text.append(" ┤" if row == 0 else " │", "dim")
        text.append("".join(_EIGHTHS[n] for n in filled).rstrip() + "\n", _BAR_STYLE)
    line, labels = _axis(edges_, columns.size, unit=unit, room=width - margin - 1)
    text.append("0".rjust(margin - 1) + " └" + line + "\n", "dim")
    text.append(" " * (margin + 1) + labels, "dim")
    return text


def _fit_together(edges: NDArray[np.float64], counts: NDArray[np.int64]) -> bool:
    return (
        len(edges) == len(counts) + 1
        and bool(np.isfinite(edges).all() and (np.diff(edges) > 0).all())
        and bool((counts >= 0).all() and (counts > 0).any())
    )


def _fitted(
    edges: NDArray[np.float64], counts: NDArray[np.int64], room: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    """Bins that fill the room as bars of equal width: those in use, and empty ones around them."""
    merge = 1
    while True:
        starts = np.arange(0, len(counts), merge)
        merged = np.add.reduceat(counts, starts)
        filled = np.flatnonzero(merged)
        first, last = int(filled[0]), int(filled[-1]) + 1
        if last - first <= room:
            break
        merge += 1
    edges, counts = np.append(edges[starts], edges[-1]), merged
    bar_columns = max(1, min(_WIDEST_BAR, room // min(len(counts), last - first + 2)))
    shown = min(len(counts), room // bar_columns)
    # Centred on what is in use, as far as there are bins.
    first = max(0, min(first - (shown - (last - first)) // 2, len(counts) - shown))
    return edges[first : first + shown + 1], counts[first : first + shown], bar_columns


def _axis(edges: NDArray[np.float64], columns: int, *, unit: str, room: int) -> tuple[str, str]:
    """The line below the bars with its ticks, and the numbers below it."""
    low, high = float(edges[0]), float(edges[-1])
    step = _tick_step((high - low) / max(3, columns // 6))
    decimals = max(0, -math.floor(math.log10(step)))
    line, labels = ["─"] * columns, [" "] * room
    end = 0
    last_label = room - len(unit) - 1
    for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1):
        share = np.interp(k * step, edges, np.linspace(0, columns, len(edges)))
        at = min(columns - 1, int(share))
        line[at] = "┴"
        label = f"{k * step:.{decimals}f}"
        start = max(0, at - len(label) // 2)
        if start >= end and start + len(label) <= last_label:
            labels[start : start + len(label)] = label
            end = start + len(label) + 1
    labels[room - len(unit) :] = unit
    return "".join(line), "".join(labels)


def _tick_step(smallest: float) -> float:
    """The smallest of 1, 2, 5, 10, ... that is not below ``smallest``."""
    power: float = 10.0 ** math.floor(math.log10(smallest))
    return next(power * factor for factor in (1, 2, 5, 10, 20) if power * factor >= smallest)

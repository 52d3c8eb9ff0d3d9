"""What the dashboard shows: a `Snapshot` in, rich renderables and log lines out.

`screen` lays the panels out for a terminal of a given size; `plain_line` and `Log` say the same
without a terminal. Nothing here reads a clock, a socket or a file: the age of the snapshot and the
size of the terminal are passed in. All text of a snapshot goes through `_clean`: section ids are
file names and messages quote them, so both could carry control sequences.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from rich.align import Align
from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.styled import Styled
from rich.table import Table
from rich.text import Text

from nanostream.records import Health, Snapshot

__all__ = [
    "STALE_S",
    "Log",
    "diameter_histogram",
    "mask_picture",
    "plain_line",
    "screen",
    "waiting_screen",
]

#: The sink publishes several times a second: without news for this long, the numbers are old.
STALE_S = 3.0

#: A connection takes a moment: a log does not complain about a sink that is there.
_PATIENCE_S = 1.0

#: Process states by how they are shown; a word that is in neither is trouble.
_GOOD = frozenset({"ok", "ready", "computing", "watching", "storing"})
_PASSING = frozenset({"starting", "restarting", "loading", "leaving", "silent"})
#: Without colours (NO_COLOR, colour-blind eyes) the sign and the word still tell them apart.
_SIGNS = {"green": "●", "yellow": "○", "red": "×"}

#: Particles on a dark ground, also in a terminal with a light one: it is a micrograph.
_MASK_STYLE = "#5fd7d7 on #1c2226"
_BAR_STYLE = "#5fafaf"
_FRAME_STYLE = "dim"

#: A picture cell is particle if at least this share of its pixels is: with 0.5, particles smaller
#: than a cell vanish; with 0.2, neighbours flow together.
_COVERAGE = 1 / 3

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_SUMMARY_COLUMNS = 22
_WIDEST_BAR = 6
#: Below this, panels would cut their content in half; one column of lines remains.
_SMALLEST_COLUMNS, _SMALLEST_ROWS = 72, 20


def screen(
    snapshot: Snapshot, *, age_s: float, width: int, height: int, note: str = ""
) -> RenderableType:
    """The whole dashboard for a terminal.

    Parameters
    ----------
    snapshot : Snapshot
        The newest one.
    age_s : float
        Time since it arrived; from `STALE_S` on, the screen says so and fades.
    width, height : int
        Columns and rows of the terminal; exactly these are filled.
    note : str
        What hinders the dashboard itself, shown instead of the state of the session.
    """
    stale = age_s >= STALE_S
    top = _header(snapshot, age_s=age_s, width=width, note=note)
    if width < _SMALLEST_COLUMNS or height < _SMALLEST_ROWS:
        body = Group(*(_line(line, width) for line in _compact(snapshot)[: max(0, height - 1)]))
        compact = Layout()
        compact.split_column(Layout(top, size=1), Layout(_faded(body, stale)))
        return compact

    air = 1 if height >= 24 else 0
    bottom_rows = min(14, max(7, round(height * 0.24)))
    middle_rows = height - 1 - 2 * air - 3 - bottom_rows
    last, last_columns = _last_section(snapshot, width=width, height=middle_rows)
    process_columns = min(64, max(30, round(width * 0.4)))

    middle, bottom, whole = Layout(size=middle_rows), Layout(size=bottom_rows), Layout()
    middle.split_row(
        Layout(_faded(last, stale), size=last_columns),
        Layout(_faded(_diameters(snapshot, width - last_columns, middle_rows), stale)),
    )
    bottom.split_row(
        Layout(
            _faded(_processes(snapshot.health, age_s, process_columns, bottom_rows), stale),
            size=process_columns,
        ),
        Layout(_faded(_messages(snapshot, width - process_columns, bottom_rows), stale)),
    )
    whole.split_column(
        Layout(top, size=1),
        *[Layout(Text(" "), size=1)] * air,
        Layout(_faded(_sections(snapshot, width), stale), size=3),
        *[Layout(Text(" "), size=1)] * air,
        middle,
        bottom,
    )
    return whole


def waiting_screen(address: str, *, waited_s: float, note: str = "") -> RenderableType:
    """The dashboard before the first snapshot: where it listens and for how long already."""
    return Align.center(
        Group(
            Text(f"waiting for the sink at {_clean(address)}", style="bold", justify="center"),
            Text(
                "it starts with nanostream run, or nanostream sink on its own",
                style="dim",
                justify="center",
            ),
            Text(_clean(note) or _duration(waited_s), style="yellow", justify="center"),
        ),
        vertical="middle",
    )


def plain_line(snapshot: Snapshot) -> str:
    """The state of a session in one line for a log.

    Examples
    --------
    >>> plain_line(Snapshot("s", 0.0, seen=2, waiting=1, in_work=1, sections_per_minute=30))
    'no section yet  | seen 2 stored 0 in work 1 waiting 1 failed 0 | 30/min'
    """
    words = [_clean(snapshot.last_section) or "no section yet"]
    if (summary := snapshot.last_summary) is not None:
        words.append(_counted(summary.count, "particle"))
        if summary.count:
            mean = _diameter(summary.mean_diameter_nm, summary.mean_diameter_px)
            words.append(f"mean {mean}")
    if math.isfinite(snapshot.latency_s):
        words.append(f"latency {_seconds(snapshot.latency_s)}")
    warning = f" | {_clean(snapshot.last_warning)}" if snapshot.last_warning else ""
    return (
        f"{'  '.join(words)}  | seen {snapshot.seen} stored {snapshot.stored} "
        f"in work {snapshot.in_work} waiting {_waiting(snapshot)} failed {snapshot.failed} "
        f"| {_rate(snapshot.sections_per_minute)}/min{warning}"
    )


class Log:
    """Which lines a log gets of a stream of snapshots.

    One for each newly stored section, each new message, each process that falls silent or comes
    back, and when the sink itself does. While sections wait and none is stored, the state is
    repeated every `busy_s`; when there is nothing to do, every `idle_s`, as a sign of life.

    Parameters
    ----------
    address : str
        Where the sink is expected.
    busy_s, idle_s : float
        Time without a line after which one is written.
    silent_s : float
        Time without a snapshot after which the sink counts as gone.
    """

    def __init__(
        self,
        address: str,
        *,
        busy_s: float = 30.0,
        idle_s: float = 600.0,
        silent_s: float = 10.0,
    ) -> None:
        self._address = address
        self._busy_s, self._idle_s, self._silent_s = busy_s, idle_s, silent_s
        self._last: Snapshot | None = None
        self._heard_s = self._said_s = -math.inf
        self._began_s = math.inf
        self._away = False

    def lines(self, snapshot: Snapshot | None, *, now_s: float) -> list[str]:
        """Lines to write now; ``snapshot`` is None if none has come since the last call."""
        if snapshot is None:
            lines = self._without_news(now_s)
        else:
            lines = self._news(snapshot, now_s)
            self._last, self._heard_s, self._away = snapshot, now_s, False
        if lines:
            self._said_s = now_s
        return lines

    def _news(self, new: Snapshot, now_s: float) -> list[str]:
        old = self._last
        lines = ["the sink is back"] if self._away else []
        before = old.messages if old is not None else ()
        lines += [_clean(message) for message in _added(before, new.messages)]
        lines += _changed_states(old.health if old is not None else (), new.health)
        pending = new.seen > new.stored + new.failed
        quiet_s = self._busy_s if pending else self._idle_s
        if old is None:
            lines.append(plain_line(new))
        elif (new.stored, new.last_section) != (old.stored, old.last_section):
            # Only the newest snapshot is heard: several sections may lie between two of them.
            more = new.stored - old.stored - 1
            lines.append(plain_line(new) + (f" (and {more} before)" if more > 0 else ""))
        elif now_s - self._said_s >= quiet_s:
            lines.append(plain_line(new))
        return lines

    def _without_news(self, now_s: float) -> list[str]:
        if self._last is None:
            self._began_s = min(self._began_s, now_s)
            patient = now_s - self._began_s < _PATIENCE_S
            if patient or now_s - self._said_s < self._idle_s:
                return []
            return [f"waiting for the sink at {_clean(self._address)}"]
        silent_s = now_s - self._heard_s
        if silent_s < self._silent_s or (self._away and now_s - self._said_s < self._idle_s):
            return []
        self._away = True
        return [f"no news from the sink at {_clean(self._address)} for {_duration(silent_s)}"]


def mask_picture(mask: bytes, shape: tuple[int, int], *, width: int, height: int) -> Text:
    """A mask as half blocks, two mask rows per line, as SerialEM's display shows it.

    Parameters
    ----------
    mask : bytes
        ``shape`` rows by columns, 0 or 1; row 0 is drawn at the bottom.
    shape : (int, int)
        Rows and columns.
    width, height : int
        Characters at most; the picture keeps its aspect (a character is twice as high as wide).

    Returns
    -------
    Text
        Empty if the mask does not fit its shape.

    Examples
    --------
    >>> print(mask_picture(bytes([1, 0, 1, 1]), (2, 2), width=2, height=1))
    █▀
    """
    picture = Text(no_wrap=True, style=_MASK_STYLE)
    rows, columns = shape
    if rows < 1 or columns < 1 or len(mask) != rows * columns or width < 1 or height < 1:
        return picture
    scale = min(width / columns, 2 * height / rows)
    size = (max(2, round(rows * scale) // 2 * 2), max(1, round(columns * scale)))
    cover = np.frombuffer(mask, np.uint8).reshape(shape)[::-1] != 0
    cells = _resized(_resized(cover.astype(np.float64), size[0]).T, size[1]).T >= _COVERAGE
    code = cells[0::2] * 2 + cells[1::2]
    glyphs = np.array(list(" ▄▀█"))[code]
    picture.append("\n".join("".join(line) for line in glyphs))
    return picture


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
    margin = len(_number(int(counts_.sum()))) + 1
    room = width - margin - 1
    if room < 8:
        return Text()
    edges_, counts_, bar_columns = _fitted(edges_, counts_, room)
    highest = _number(int(counts_.max()))
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


def _header(snapshot: Snapshot, *, age_s: float, width: int, note: str) -> RenderableType:
    """Who, when, and one word that tells from two metres whether all is well."""
    word, style = _state(snapshot, age_s=age_s, note=note)
    chip = Text(f" {_keep_start(word, max(min(width - 2, 24), width - 30))} ", style)
    left = Text.assemble((" nanostream", "bold"), "  ")
    if left.cell_len + chip.cell_len > width:
        return _line(chip, width)
    clock = datetime.fromtimestamp(snapshot.time_s).strftime("%H:%M:%S")
    right = Text.assemble((clock, "dim"), "  ", chip)
    room = width - left.cell_len - right.cell_len - 1
    if room < 8:
        return _line(Text.assemble(left, chip), width)
    left.append(set_cell_size(_keep_end(snapshot.session, room), room))
    return _line(Text.assemble(left, " ", right), width)


def _state(snapshot: Snapshot, *, age_s: float, note: str) -> tuple[str, str]:
    if note:
        return _clean(note), "bold white on red"
    if age_s >= STALE_S:
        return f"no news for {_duration(age_s)}", "bold black on yellow"
    for colour, style in (("red", "bold white on red"), ("yellow", "black on yellow")):
        for process in snapshot.health:
            if _colour(process.state) == colour:
                return f"{_clean(process.name)} {_clean(process.state)}", style
    if snapshot.failed:
        return f"{_number(snapshot.failed)} failed", "bold white on red"
    return "live", "black on green"


def _sections(snapshot: Snapshot, width: int) -> RenderableType:
    """Three lines: numbers, what they are, and the same as a bar."""
    failed = "bold red" if snapshot.failed else "dim"
    columns = [
        (_number(snapshot.seen), "seen", "bold"),
        (_number(snapshot.stored), "stored", "bold green"),
        (_number(snapshot.in_work), "in work", "bold cyan" if snapshot.in_work else "dim"),
        (_waiting(snapshot), "waiting", "bold" if snapshot.waiting else "dim"),
        (_number(snapshot.failed), "failed", failed),
        (_rate(snapshot.sections_per_minute), "per minute", "bold"),
        (_seconds(snapshot.latency_s), "latency", "bold"),
    ]
    table = Table.grid(expand=True)
    for _ in columns:
        table.add_column(ratio=1, no_wrap=True, justify="center")
    table.add_row(*(Text(number, style) for number, _, style in columns))
    table.add_row(*(Text(label, "dim") for _, label, _ in columns))
    return Group(table, _progress(snapshot, width))


def _waiting(snapshot: Snapshot) -> str:
    """How many sections wait, and the oldest for how long."""
    number = _number(snapshot.waiting)
    waited_s = snapshot.longest_wait_s
    return f"{number} · {_duration(waited_s)}" if snapshot.waiting and waited_s >= 1 else number


def _progress(snapshot: Snapshot, width: int) -> Text:
    """Stored, failed, in work and waiting as shares of one line; whatever is there shows."""
    shares = [
        (snapshot.stored, "━", "green"),
        (snapshot.failed, "━", "red"),
        (snapshot.in_work, "━", "cyan"),
        (snapshot.waiting, "─", "dim"),
    ]
    room = width - 4
    total = sum(max(0, n) for n, _, _ in shares)
    if not total:
        return Text("  " + "─" * room, "dim", no_wrap=True)
    cells = [max(1, n * room // total) if n > 0 else 0 for n, _, _ in shares]
    cells[cells.index(max(cells))] += room - sum(cells)
    bar = Text("  ", no_wrap=True)
    for count, (_, glyph, style) in zip(cells, shares, strict=True):
        bar.append(glyph * count, style)
    return bar


def _last_section(snapshot: Snapshot, *, width: int, height: int) -> tuple[RenderableType, int]:
    """The newest stored section, and how many columns it needs."""
    rows = height - 2
    room = round(width * 0.62) - _SUMMARY_COLUMNS - 6
    picture = mask_picture(snapshot.mask, snapshot.mask_shape, width=room, height=rows)
    picture_columns = max(0, *(line.cell_len for line in picture.split()))
    columns = max(picture_columns, 18) + _SUMMARY_COLUMNS + 6
    title = _keep_end(snapshot.last_section, columns - 6) or "last section"
    body: RenderableType
    if snapshot.last_summary is None:
        body = Align.center(Text("no section yet", "dim"), vertical="middle")
    else:
        body = Table.grid(padding=(0, 2, 0, 0))
        body.add_column(width=max(picture_columns, 18))
        body.add_column(width=_SUMMARY_COLUMNS)
        # An inner grid keeps the dark ground of the picture from filling the whole cell.
        frame = Table.grid()
        frame.add_row(picture)
        body.add_row(frame, _summary(snapshot, rows))
    footer = _keep_start(_warned(snapshot), columns - 6)
    return _panel(body, title, columns, height, footer=footer), columns


def _warned(snapshot: Snapshot) -> str:
    """Why the mask should be checked, else how many sections before had a reason."""
    if snapshot.last_warning or not snapshot.warned:
        return snapshot.last_warning
    return f"{_counted(snapshot.warned, 'section')} with a warning"


def _summary(snapshot: Snapshot, rows: int) -> RenderableType:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(justify="right", width=8, no_wrap=True)
    table.add_column(width=_SUMMARY_COLUMNS - 9, no_wrap=True)
    summary = snapshot.last_summary
    if summary is None:
        return table
    facts = [
        (_number(summary.count), "particle" if summary.count == 1 else "particles", "bold cyan"),
        (
            _diameter(summary.mean_diameter_nm, summary.mean_diameter_px),
            "mean diameter",
            "bold",
        ),
        (_diameter(summary.median_diameter_nm, summary.median_diameter_px), "median", ""),
        (_percent(summary.area_fraction), "of the area", ""),
        (_number(summary.count_edge), "at the edge", ""),
    ]
    for value, label, style in facts[:rows]:
        table.add_row(Text(value, style), Text(label, "dim"))
    left = rows - len(facts)
    if snapshot.last_timings_s and left >= 2:
        if left > 2:
            table.add_row("", "")
        for name, seconds in _longest(snapshot.last_timings_s, left - 1):
            table.add_row(Text(_stage_time(seconds), "dim"), Text(_keep_start(name, 13), "dim"))
    return table


def _diameters(snapshot: Snapshot, width: int, height: int) -> RenderableType:
    unit = _clean(snapshot.diameter_unit)
    bars = diameter_histogram(
        snapshot.diameter_edges,
        snapshot.diameter_counts,
        unit=unit,
        width=width - 4,
        height=height - 2,
    )
    footer = f"N {_number(sum(snapshot.diameter_counts))}"
    if snapshot.tracks_total:
        footer += f" · {_counted(snapshot.tracks_total, 'track')}"
    body: RenderableType = bars
    if not bars:
        body = Align.center(Text("no particles yet", "dim"), vertical="middle")
    return _panel(body, "diameters", width, height, footer=footer)


def _processes(health: Sequence[Health], age_s: float, width: int, height: int) -> RenderableType:
    rows = height - 2
    shown = list(health)
    if len(shown) > rows:
        # Trouble first: a process that is well may be counted, one that is not must be read.
        order = {"red": 0, "yellow": 1, "green": 2}
        shown = sorted(shown, key=lambda process: order[_colour(process.state)])[: rows - 1]
    name_columns = min(14, max((cell_len(_clean(process.name)) for process in shown), default=0))
    lines = []
    for process in shown:
        colour = _colour(process.state)
        line = Text(no_wrap=True)
        line.append(f"{_SIGNS[colour]} ", colour)
        line.append(set_cell_size(_keep_start(process.name, name_columns), name_columns) + "  ")
        line.append(_clean(process.state), "dim" if colour == "green" else colour)
        since_s = process.age_s + age_s
        if since_s >= STALE_S:
            line.append(f"  {_duration(since_s)}", "dim" if colour == "green" else colour)
        room = width - 4 - line.cell_len - 2
        if process.detail and room >= 6:
            line.append(f"  {_keep_start(process.detail, room)}", "dim")
        lines.append(_line(line, width - 4))
    if len(health) > len(shown):
        lines.append(Text(f"  and {len(health) - len(shown)} more", "dim"))
    return _panel(Group(*lines), "processes", width, height)


def _messages(snapshot: Snapshot, width: int, height: int) -> RenderableType:
    """The newest messages that fit as a whole, oldest first, the newest brightest."""
    rows, columns = height - 2, width - 4
    lines: list[Text] = []
    for number, message in enumerate(reversed(snapshot.messages)):
        wrapped = _wrapped(_clean(message), columns)
        if number == 0 and len(wrapped) > rows:
            wrapped = [*wrapped[: rows - 1], _keep_start(wrapped[rows - 1] + "…", columns - 1)]
        if len(lines) + len(wrapped) > rows:
            break
        style = "" if number == 0 else "dim"
        lines[:0] = [Text(line, style, no_wrap=True) for line in wrapped]
    return _panel(Group(*lines), "messages", width, height)


def _compact(snapshot: Snapshot) -> list[Text]:
    """Lines for a very small terminal, the most important first."""
    summary = snapshot.last_summary
    lines = [
        Text(
            f" stored {_number(snapshot.stored)} of {_number(snapshot.seen)}  "
            f"failed {_number(snapshot.failed)}",
            "bold",
        ),
        Text(
            f" in work {_number(snapshot.in_work)}  waiting {_waiting(snapshot)}  "
            f"{_rate(snapshot.sections_per_minute)}/min"
        ),
        Text(f" {_clean(snapshot.last_section) or 'no section yet'}", "cyan"),
    ]
    if summary is not None:
        mean = _diameter(summary.mean_diameter_nm, summary.mean_diameter_px)
        lines.append(Text(f" {_counted(summary.count, 'particle')}  mean {mean}"))
    if snapshot.last_warning:
        lines.append(Text(f" {_clean(snapshot.last_warning)}", "yellow"))
    for process in snapshot.health:
        colour = _colour(process.state)
        lines.append(
            Text(f" {_SIGNS[colour]} {_clean(process.name)} {_clean(process.state)}", colour)
        )
    lines += [Text(f" {_clean(message)}", "dim") for message in reversed(snapshot.messages)]
    return lines


def _panel(
    body: RenderableType, title: str, width: int, height: int, *, footer: str = ""
) -> RenderableType:
    return Panel(
        body,
        title=Text(title),
        title_align="left",
        subtitle=Text(footer) if footer else None,
        subtitle_align="right",
        border_style=_FRAME_STYLE,
        width=width,
        height=height,
        padding=(0, 1),
    )


def _faded(body: RenderableType, stale: bool) -> RenderableType:
    return Styled(body, "dim") if stale else body


def _line(text: Text, width: int) -> Text:
    text.no_wrap = True
    text.truncate(width, overflow="ellipsis")
    return text


def _colour(state: str) -> str:
    if state in _GOOD:
        return "green"
    return "yellow" if state in _PASSING else "red"


def _resized(rows: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Mean of the rows that fall into each of ``size``; repeated where there are fewer."""
    count = len(rows)
    starts = np.arange(size) * count // size
    if size >= count:
        return rows[starts]
    lengths = np.diff(starts, append=count)
    return np.asarray(np.add.reduceat(rows, starts, axis=0) / lengths[:, None], np.float64)


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


def _longest(timings_s: dict[str, float], rows: int) -> list[tuple[str, float]]:
    """The longest stages in their own order, the shorter ones as one."""
    stages = [(_clean(name).removesuffix("_s"), seconds) for name, seconds in timings_s.items()]
    if len(stages) <= rows:
        return stages
    kept = sorted(stages, key=lambda stage: stage[1], reverse=True)[: max(rows - 1, 0)]
    rest = sum(seconds for _, seconds in stages) - sum(seconds for _, seconds in kept)
    return [*(stage for stage in stages if stage in kept), ("other", rest)][:rows]


def _added(before: tuple[str, ...], after: tuple[str, ...]) -> tuple[str, ...]:
    """What was appended to a list of messages that forgets its oldest.

    Examples
    --------
    >>> _added(("a", "b"), ("b", "c"))
    ('c',)
    """
    for common in range(min(len(before), len(after)), 0, -1):
        if before[-common:] == after[:common]:
            return after[common:]
    return after


def _changed_states(before: Sequence[Health], after: Sequence[Health]) -> list[str]:
    """Processes whose state matters now and did not, or the other way round."""
    was = {process.name: process.state for process in before}
    lines = []
    for process in after:
        old = was.get(process.name, "ok")
        if old != process.state and not {old, process.state} <= _GOOD:
            detail = f": {_clean(process.detail)}" if process.detail else ""
            lines.append(f"{_clean(process.name)} is {_clean(process.state)}{detail}")
    return lines


def _clean(text: str) -> str:
    r"""Text without anything that a terminal would obey instead of show.

    Control characters, direction marks and lone surrogates (from undecodable file names) become
    a question mark, white space a blank.

    Examples
    --------
    >>> _clean("a\x1b[2Jb\nc")
    'a?[2Jb c'
    """
    return "".join(_clean_character(c) for c in text).strip()


def _clean_character(character: str) -> str:
    if character.isspace():
        return " "
    if "\ufe00" <= character <= "\ufe0f":  # variation selectors: terminals disagree about the width
        return ""
    return "?" if unicodedata.category(character)[0] == "C" else character


def _keep_start(text: str, columns: int) -> str:
    text = _clean(text)
    if cell_len(text) <= columns:
        return text
    return set_cell_size(text, max(0, columns - 1)).rstrip() + "…"


def _keep_end(text: str, columns: int) -> str:
    """A path's end says more than its start."""
    text = _clean(text)
    if cell_len(text) <= columns:
        return text
    while text and cell_len(text) > columns - 1:
        text = text[1:]
    return "…" + text


def _wrapped(text: str, columns: int) -> list[str]:
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


def _number(value: int) -> str:
    return f"{value:,}".replace(",", " ")


def _counted(count: int, noun: str) -> str:
    return f"{_number(count)} {noun}{'' if count == 1 else 's'}"


def _percent(fraction: float) -> str:
    return f"{fraction * 100:.1f} %" if math.isfinite(fraction) else "–"


def _rate(per_minute: float) -> str:
    if not math.isfinite(per_minute):
        return "–"
    return f"{per_minute:.0f}" if per_minute >= 10 or per_minute == 0 else f"{per_minute:.1f}"


def _diameter(nm: float, px: float) -> str:
    """In nm where the pixel size is known, else in px, else a dash."""
    value, unit = (nm, "nm") if math.isfinite(nm) else (px, "px")
    if not math.isfinite(value):
        return "–"
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{decimals}f} {unit}"


def _seconds(value_s: float) -> str:
    if not math.isfinite(value_s):
        return "–"
    return f"{value_s:.1f} s" if value_s < 60 else _duration(value_s)


def _stage_time(value_s: float) -> str:
    if not math.isfinite(value_s):
        return "–"
    return f"{value_s * 1000:.0f} ms" if value_s < 0.9995 else f"{value_s:.2f} s"


def _duration(value_s: float) -> str:
    if not math.isfinite(value_s):
        return "–"
    seconds = max(0, int(value_s))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"

"""The dashboard: a `Snapshot` in, rich renderables out.

`screen` lays the panels out for a terminal of a given size. Nothing here reads a clock, a socket
or a file: the age of the snapshot and the size of the terminal are passed in.
"""

from __future__ import annotations

from datetime import datetime

from rich.align import Align
from rich.cells import set_cell_size
from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.table import Table
from rich.text import Text

from nanostream.records import Severity, Snapshot
from nanostream_services.panels.alarms import CHIPS, COLOURS, SIGNS_OF, alarm_text
from nanostream_services.panels.boxes import faded, one_line, panel
from nanostream_services.panels.histogram import diameters
from nanostream_services.panels.last_section import last_section
from nanostream_services.panels.processes import GOOD, SIGNS, STALE_S, colour_of, process_list
from nanostream_services.panels.values import clean, keep_end, keep_start, waiting_text, wrap
from nanostream_services.quantities import (
    counted,
    diameter_text,
    duration_text,
    grouped,
    rate_text,
    seconds_text,
)

__all__ = ["screen", "waiting_screen"]

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
        body = Group(
            *(
                one_line(line, width)
                for line in _compact(snapshot, width, height)[: max(0, height - 1)]
            )
        )
        compact = Layout()
        compact.split_column(Layout(top, size=1), Layout(faded(body, stale)))
        return compact

    air = 1 if height >= 24 else 0
    bottom_rows = min(14, max(7, round(height * 0.24)))
    middle_rows = height - 1 - 2 * air - 3 - bottom_rows
    last, last_columns = last_section(snapshot, width=width, height=middle_rows)
    process_columns = min(64, max(30, round(width * 0.4)))

    middle, bottom, whole = Layout(size=middle_rows), Layout(size=bottom_rows), Layout()
    middle.split_row(
        Layout(faded(last, stale), size=last_columns),
        Layout(faded(diameters(snapshot, width - last_columns, middle_rows), stale)),
    )
    bottom.split_row(
        Layout(
            faded(process_list(snapshot.health, age_s, process_columns, bottom_rows), stale),
            size=process_columns,
        ),
        Layout(faded(message_list(snapshot, width - process_columns, bottom_rows), stale)),
    )
    whole.split_column(
        Layout(top, size=1),
        *[Layout(Text(" "), size=1)] * air,
        Layout(faded(_sections(snapshot, width), stale), size=3),
        *[Layout(Text(" "), size=1)] * air,
        middle,
        bottom,
    )
    return whole


def waiting_screen(
    address: str, *, waited_s: float, height: int | None = None, note: str = ""
) -> RenderableType:
    """The dashboard before the first snapshot: where it listens and for how long already."""
    return Align.center(
        Group(
            Text(f"waiting for the sink at {clean(address)}", style="bold", justify="center"),
            Text(
                "it starts with nanostream run, or nanostream sink on its own",
                style="dim",
                justify="center",
            ),
            Text(clean(note) or duration_text(waited_s), style="yellow", justify="center"),
        ),
        vertical="middle",
        height=height,
    )


def _header(snapshot: Snapshot, *, age_s: float, width: int, note: str) -> RenderableType:
    """Who, when, and one word that tells from two metres whether all is well."""
    word, style = _state(snapshot, age_s=age_s, note=note)
    chip = Text(f" {keep_start(word, max(min(width - 2, 24), width - 30))} ", style)
    left = Text.assemble((" nanostream", "bold"), "  ")
    if left.cell_len + chip.cell_len > width:
        return one_line(chip, width)
    clock = datetime.fromtimestamp(snapshot.time_s).strftime("%H:%M:%S")
    right = Text.assemble((clock, "dim"), "  ", chip)
    room = width - left.cell_len - right.cell_len - 1
    if room < 8:
        return one_line(Text.assemble(left, chip), width)
    left.append(set_cell_size(keep_end(snapshot.session, room), room))
    return one_line(Text.assemble(left, " ", right), width)


def _state(snapshot: Snapshot, *, age_s: float, note: str) -> tuple[str, str]:
    if note:
        return clean(note), "bold white on red"
    if age_s >= STALE_S:
        return f"no news for {duration_text(age_s)}", "bold black on yellow"
    open_ = [alarm for alarm in snapshot.alarms if not alarm.acknowledged]
    if open_ and open_[0].severity != Severity.NOTICE:
        more = f" +{len(open_) - 1}" if len(open_) > 1 else ""
        return clean(open_[0].name) + more, CHIPS[open_[0].severity]
    for process in snapshot.health:
        seen = any(a.acknowledged and a.name.startswith(process.role) for a in snapshot.alarms)
        if process.state not in GOOD and not seen:
            return f"{clean(process.name)} {process.state}", "black on yellow"
    return "live", "black on green"


def _sections(snapshot: Snapshot, width: int) -> RenderableType:
    """Three lines: numbers, what they are, and the same as a bar."""
    failed = "bold yellow" if snapshot.failed else "dim"
    columns = [
        (grouped(snapshot.seen), "seen", "bold"),
        (grouped(snapshot.stored), "stored", "bold green"),
        (grouped(snapshot.in_work), "in work", "bold cyan" if snapshot.in_work else "dim"),
        (waiting_text(snapshot), "waiting", "bold" if snapshot.waiting else "dim"),
        (grouped(snapshot.failed), "quarantined", failed),
        (rate_text(snapshot.sections_per_minute), "per minute", "bold"),
        (seconds_text(snapshot.latency_s), "latency", "bold"),
    ]
    table = Table.grid(expand=True)
    for _, label, _ in columns:
        table.add_column(ratio=len(label) + 4, no_wrap=True, justify="center")
    table.add_row(*(Text(number, style) for number, _, style in columns))
    table.add_row(*(Text(label, "dim") for _, label, _ in columns))
    return Group(table, _progress(snapshot, width))


def _progress(snapshot: Snapshot, width: int) -> Text:
    """Stored, quarantined, in work and waiting as shares of one line; whatever is there shows."""
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


def message_list(snapshot: Snapshot, width: int, height: int) -> RenderableType:
    """Alarms, the worst first, and the newest messages that fit as a whole, oldest first."""
    rows, columns = height - 2, width - 4
    alarms = alarm_lines(snapshot, columns, rows)
    rows -= len(alarms)
    lines: list[Text] = []
    for number, message in enumerate(reversed(snapshot.messages)):
        wrapped = wrap(clean(message), columns)
        if number == 0 and rows and len(wrapped) > rows:
            wrapped = [*wrapped[: rows - 1], keep_start(wrapped[rows - 1] + "…", columns - 1)]
        if len(lines) + len(wrapped) > rows:
            break
        style = "" if number == 0 else "dim"
        lines[:0] = [Text(line, style, no_wrap=True) for line in wrapped]
    title = "alarms, messages" if alarms else "messages"
    return panel(Group(*alarms, *lines), title, width, height)


def alarm_lines(snapshot: Snapshot, columns: int, rows: int) -> list[Text]:
    """Alarms with time, what happened and what to do; where they do not fit, the worst has most."""
    wrapped = []
    for alarm in snapshot.alarms:
        style = "dim" if alarm.acknowledged else COLOURS[alarm.severity]
        since = datetime.fromtimestamp(alarm.since_s).strftime("%H:%M")
        text = f"{SIGNS_OF[alarm.severity]} {since} {alarm_text(alarm)}"
        wrapped.append([Text(line, style, no_wrap=True) for line in wrap(text, columns)])
    for number in reversed(range(len(wrapped))):
        too_many = sum(map(len, wrapped)) - rows
        if too_many > 0 and len(wrapped[number]) > 1:
            keep = max(1, len(wrapped[number]) - too_many)
            last = wrapped[number][keep - 1]
            wrapped[number] = [
                *wrapped[number][: keep - 1],
                Text(keep_start(last.plain + "…", columns - 1), last.style, no_wrap=True),
            ]
    return [line for lines in wrapped for line in lines][:rows]


def _compact(snapshot: Snapshot, width: int, height: int) -> list[Text]:
    """Lines for a very small terminal, the most important first."""
    summary = snapshot.last_summary
    lines = [
        Text(
            f" stored {grouped(snapshot.stored)} of {grouped(snapshot.seen)}  "
            f"quarantined {grouped(snapshot.failed)}",
            "bold",
        ),
        Text(
            f" in work {grouped(snapshot.in_work)}  waiting {waiting_text(snapshot)}  "
            f"{rate_text(snapshot.sections_per_minute)}/min"
        ),
        Text(f" {clean(snapshot.last_section) or 'no section yet'}", "cyan"),
    ]
    if summary is not None:
        mean = diameter_text(summary.mean_diameter_nm, summary.mean_diameter_px)
        lines.append(Text(f" {counted(summary.count, 'particle')}  mean {mean}"))
    alarms = alarm_lines(snapshot, width - 2, max(2, height - 8))
    lines[2:2] = [Text.assemble(" ", line) for line in alarms]
    if snapshot.last_warning:
        lines.append(Text(f" {clean(snapshot.last_warning)}", "yellow"))
    for process in snapshot.health:
        colour = colour_of(process.state)
        lines.append(Text(f" {SIGNS[colour]} {clean(process.name)} {process.state}", colour))
    lines += [Text(f" {clean(message)}", "dim") for message in reversed(snapshot.messages)]
    return lines

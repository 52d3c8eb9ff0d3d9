"""The newest stored section: its mask, its numbers, how long its steps took."""

from __future__ import annotations

from rich.align import Align
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from nanostream.records import Snapshot
from nanostream_services.panels.boxes import panel
from nanostream_services.panels.mask_picture import mask_picture
from nanostream_services.panels.values import clean, keep_end, keep_start, stage_text
from nanostream_services.quantities import counted, diameter_text, grouped, percent_text

__all__ = ["last_section"]

_SUMMARY_COLUMNS = 22


def last_section(snapshot: Snapshot, *, width: int, height: int) -> tuple[RenderableType, int]:
    """The newest stored section, and how many columns it needs."""
    rows = height - 2
    room = round(width * 0.62) - _SUMMARY_COLUMNS - 6
    picture = mask_picture(snapshot.mask, snapshot.mask_shape, width=room, height=rows)
    picture_columns = max(0, *(line.cell_len for line in picture.split()))
    columns = max(picture_columns, 18) + _SUMMARY_COLUMNS + 6
    title = keep_end(snapshot.last_section, columns - 6) or "last section"
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
    footer = keep_start(_warned(snapshot), columns - 6)
    return panel(body, title, columns, height, footer=footer), columns


def _warned(snapshot: Snapshot) -> str:
    """Why the mask should be checked, else how many sections before had a reason."""
    if snapshot.last_warning or not snapshot.warned:
        return snapshot.last_warning
    return f"{counted(snapshot.warned, 'section')} with a warning"


def _summary(snapshot: Snapshot, rows: int) -> RenderableType:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(justify="right", width=8, no_wrap=True)
    table.add_column(width=_SUMMARY_COLUMNS - 9, no_wrap=True)
    summary = snapshot.last_summary
    if summary is None:
        return table
    facts = [
        (grouped(summary.count), "particle" if summary.count == 1 else "particles", "bold cyan"),
        (
            diameter_text(summary.mean_diameter_nm, summary.mean_diameter_px),
            "mean diameter",
            "bold",
        ),
        (diameter_text(summary.median_diameter_nm, summary.median_diameter_px), "median", ""),
        (percent_text(summary.area_fraction), "of the area", ""),
        (grouped(summary.count_edge), "at the edge", ""),
    ]
    for value, label, style in facts[:rows]:
        table.add_row(Text(value, style), Text(label, "dim"))
    left = rows - len(facts)
    if snapshot.last_timings_s and left >= 2:
        if left > 2:
            table.add_row("", "")
        for name, seconds in _longest(snapshot.last_timings_s, left - 1):
            table.add_row(Text(stage_text(seconds), "dim"), Text(keep_start(name, 13), "dim"))
    return table


def _longest(timings_s: dict[str, float], rows: int) -> list[tuple[str, float]]:
    """The longest stages in their own order, the shorter ones as one."""
    stages = [(clean(name).removesuffix("_s"), seconds) for name, seconds in timings_s.items()]
    if len(stages) <= rows:
        return stages
    kept = sorted(stages, key=lambda stage: stage[1], reverse=True)[: max(rows - 1, 0)]
    rest = sum(seconds for _, seconds in stages) - sum(seconds for _, seconds in kept)
    return [*(stage for stage in stages if stage in kept), ("other", rest)][:rows]

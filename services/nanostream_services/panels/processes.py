"""The processes with their states, as lines and as colours."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.text import Text

from nanostream.records import Health, State
from nanostream_services.panels.boxes import one_line, panel
from nanostream_services.panels.values import clean, keep_start
from nanostream_services.quantities import duration_text

__all__ = ["GOOD", "SIGNS", "STALE_S", "colour_of", "process_list"]

#: The sink publishes several times a second: without news for this long, the numbers are old.
STALE_S = 3.0

#: States of a process that works; in the others it is waited for.
GOOD = frozenset({State.READY, State.COMPUTING, State.WATCHING, State.STORING})
#: Without colours (NO_COLOR, colour-blind eyes) the sign and the state still tell them apart.
SIGNS = {"green": "●", "yellow": "○"}


def colour_of(state: State) -> str:
    """Green for a process that works, yellow for one that is waited for."""
    return "green" if state in GOOD else "yellow"


def process_list(health: Sequence[Health], age_s: float, width: int, height: int) -> RenderableType:
    """The panel with a line for each process; if there are too many, trouble comes first."""
    rows = height - 2
    shown = list(health)
    if len(shown) > rows:
        # Trouble first: a process that is well may be counted, one that is not must be read.
        shown = sorted(shown, key=lambda process: process.state in GOOD)[: rows - 1]
    name_columns = min(14, max((cell_len(clean(process.name)) for process in shown), default=0))
    lines = []
    for process in shown:
        colour = colour_of(process.state)
        line = Text(no_wrap=True)
        line.append(f"{SIGNS[colour]} ", colour)
        line.append(set_cell_size(keep_start(process.name, name_columns), name_columns) + "  ")
        line.append(process.state, "dim" if colour == "green" else colour)
        since_s = process.age_s + age_s
        if since_s >= STALE_S:
            line.append(f"  {duration_text(since_s)}", "dim" if colour == "green" else colour)
        room = width - 4 - line.cell_len - 2
        if process.detail and room >= 6:
            line.append(f"  {keep_start(process.detail, room)}", "dim")
        lines.append(one_line(line, width - 4))
    if len(health) > len(shown):
        lines.append(Text(f"  and {len(health) - len(shown)} more", "dim"))
    return panel(Group(*lines), "processes", width, height)

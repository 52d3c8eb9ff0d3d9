"""Frames around the panels, and lines that fit into them."""

from __future__ import annotations

from rich.console import RenderableType
from rich.panel import Panel
from rich.styled import Styled
from rich.text import Text

__all__ = ["faded", "one_line", "panel"]

_FRAME_STYLE = "dim"


def panel(
    body: RenderableType, title: str, width: int, height: int, *, footer: str = ""
) -> RenderableType:
    """A box of exactly this size with a title, and a footer at its lower right."""
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


def faded(body: RenderableType, stale: bool) -> RenderableType:
    """The same, dimmed if it is out of date."""
    return Styled(body, "dim") if stale else body


def one_line(text: Text, width: int) -> Text:
    """The text cut to one line of so many columns."""
    text.no_wrap = True
    text.truncate(width, overflow="ellipsis")
    return text

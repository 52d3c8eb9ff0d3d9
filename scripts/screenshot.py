"""A terminal screen as an SVG for the documentation.

::

    tmux capture-pane -e -N -p -t demo | python scripts/screenshot.py - docs/images/dashboard.svg

rich's own SVG export loads a font from the network, which GitHub does not allow in pictures, and
draws block elements as letters, which leaves gaps between rows in most fonts. Here blocks and frame
lines are drawn as shapes, each run of letters is fitted to its cells, and any monospace font does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from rich.cells import cell_len
from rich.color import Color, blend_rgb
from rich.color_triplet import ColorTriplet
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

CELL_WIDTH, CELL_HEIGHT = 10, 20
MARGIN = 16
TITLE_HEIGHT = 34
FONTS = "'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace"

#: Calm colours on a dark ground, readable on GitHub's light and dark pages.
THEME = TerminalTheme(
    background=(17, 21, 24),
    foreground=(205, 211, 214),
    normal=[
        (46, 52, 56),
        (224, 108, 108),
        (120, 190, 120),
        (222, 180, 90),
        (100, 150, 220),
        (190, 130, 200),
        (95, 200, 200),
        (205, 211, 214),
    ],
    bright=[
        (96, 104, 110),
        (240, 130, 130),
        (150, 215, 150),
        (240, 205, 120),
        (130, 175, 240),
        (215, 160, 225),
        (130, 225, 225),
        (240, 244, 246),
    ],
)

#: Share of the cell that a block element fills: left, top, right, bottom.
BLOCKS = {
    "▀": (0.0, 0.0, 1.0, 0.5),
    "█": (0.0, 0.0, 1.0, 1.0),
    "▌": (0.0, 0.0, 0.5, 1.0),
    "▐": (0.5, 0.0, 1.0, 1.0),
} | {glyph: (0.0, 1 - k / 8, 1.0, 1.0) for k, glyph in enumerate("▁▂▃▄▅▆▇", start=1)}

#: Frame lines as paths in a cell of 10 by 20.
LINES = {
    "─": "M0 10H10",
    "━": "M0 10H10",
    "│": "M5 0V20",
    "┌": "M10 10H5V20",
    "┐": "M0 10H5V20",
    "└": "M5 0V10H10",
    "┘": "M0 10H5V0",
    "├": "M5 0V20M5 10H10",
    "┤": "M5 0V20M0 10H5",
    "┬": "M0 10H10M5 10V20",
    "┴": "M0 10H10M5 0V10",
    "╭": "M5 20V15Q5 10 10 10",
    "╮": "M0 10Q5 10 5 15V20",
    "╯": "M0 10Q5 10 5 5V0",
    "╰": "M5 0V5Q5 10 10 10",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "ansi", help="file with the output of tmux capture-pane -e -N -p; - for stdin"
    )
    parser.add_argument("svg", type=Path)
    parser.add_argument("--title", default="nanostream")
    arguments = parser.parse_args()
    source = arguments.ansi
    ansi = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    arguments.svg.parent.mkdir(parents=True, exist_ok=True)
    arguments.svg.write_text(terminal_svg(ansi, title=arguments.title), encoding="utf-8")


def terminal_svg(ansi: str, *, title: str) -> str:
    """A picture of terminal output."""
    # As a whole, not line by line: tmux carries a style over to the next line.
    lines = list(Text.from_ansi(ansi.rstrip("\n")).split("\n", allow_blank=True))
    columns = max(line.cell_len for line in lines)
    width = columns * CELL_WIDTH + 2 * MARGIN
    height = len(lines) * CELL_HEIGHT + TITLE_HEIGHT + MARGIN
    console = Console(width=columns, color_system="truecolor", force_terminal=True)
    shapes = [
        shape
        for row, line in enumerate(lines)
        for shape in _row(list(line.render(console)), row * CELL_HEIGHT)
    ]
    dots = "".join(
        f'<circle cx="{20 + 18 * k}" cy="18" r="5.5" fill="{colour}"/>'
        for k, colour in enumerate(("#e06c6c", "#deb45a", "#78be78"))
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" aria-label={quoteattr(title)}>',
            f"<style>text{{font:16px {FONTS};white-space:pre}}.b{{font-weight:bold}}"
            ".t{font-size:14px;text-anchor:middle}path{fill:none}</style>",
            f'<rect width="{width}" height="{height}" rx="8" fill="{_hex(_BACKGROUND)}"/>',
            f'{dots}<text class="t" x="{width // 2}" y="23" fill="#8a9499">{escape(title)}</text>',
            f'<g transform="translate({MARGIN} {TITLE_HEIGHT})">',
            *shapes,
            "</g>",
            "</svg>\n",
        ]
    )


_BACKGROUND = THEME.background_color


def _row(segments: list[Segment], top: int) -> Iterator[str]:
    column = 0
    for segment in segments:
        style = segment.style or Style()
        ink, ground = _colours(style)
        text = segment.text.rstrip("\n")
        cells = cell_len(text)
        if ground != _BACKGROUND and cells:
            # Half a pixel more, or a hairline shows between rows when the picture is scaled.
            yield (
                f'<rect x="{column * CELL_WIDTH}" y="{top}" width="{cells * CELL_WIDTH}" '
                f'height="{CELL_HEIGHT + 0.5}" fill="{_hex(ground)}"/>'
            )
        for run in _runs(text):
            yield from _drawn(run, column * CELL_WIDTH, top, ink=ink, bold=bool(style.bold))
            column += cell_len(run)


def _runs(text: str) -> Iterator[str]:
    """Equal shapes together, words together, one blank between words with them."""
    run = ""
    for character in text:
        shape = character in BLOCKS or character in LINES
        if run and (
            (shape and run[-1] != character)
            or (not shape and (run[-1] in BLOCKS or run[-1] in LINES))
            or (run.isspace() != character.isspace())
        ):
            yield run
            run = ""
        run += character
    if run:
        yield run


def _drawn(run: str, left: int, top: int, *, ink: str, bold: bool) -> Iterator[str]:
    if not run or run.isspace():
        return
    width = cell_len(run) * CELL_WIDTH
    glyph = run[0]
    if glyph in BLOCKS:
        x0, y0, x1, y1 = BLOCKS[glyph]
        wide = width if (x0, x1) == (0, 1) else CELL_WIDTH * (x1 - x0)
        yield (
            f'<rect x="{left + x0 * CELL_WIDTH:g}" y="{top + y0 * CELL_HEIGHT:g}" '
            f'width="{wide:g}" height="{(y1 - y0) * CELL_HEIGHT + 0.3:g}" fill="{ink}"/>'
        )
    elif glyph in LINES:
        stroke = 3 if glyph == "━" else 1.2
        path = LINES[glyph].replace("H10", f"H{width}") if glyph in "─━" else LINES[glyph]
        for k in range(1 if glyph in "─━" else len(run)):
            yield (
                f'<path transform="translate({left + k * CELL_WIDTH} {top})" d="{path}" '
                f'stroke="{ink}" stroke-width="{stroke}"/>'
            )
    else:
        weight = ' class="b"' if bold else ""
        yield (
            f'<text{weight} x="{left}" y="{top + 15}" fill="{ink}" textLength="{width}" '
            f'lengthAdjust="spacingAndGlyphs">{escape(run)}</text>'
        )


def _colours(style: Style) -> tuple[str, ColorTriplet]:
    ink = _triplet(style.color, foreground=True)
    ground = _triplet(style.bgcolor, foreground=False)
    if style.reverse:
        ink, ground = ground, ink
    if style.dim:
        ink = blend_rgb(ink, ground, 0.35)
    return _hex(ink), ground


def _triplet(colour: Color | None, *, foreground: bool) -> ColorTriplet:
    if colour is None:
        return THEME.foreground_color if foreground else THEME.background_color
    return colour.get_truecolor(THEME, foreground=foreground)


def _hex(colour: ColorTriplet) -> str:
    return f"#{colour.red:02x}{colour.green:02x}{colour.blue:02x}"


if __name__ == "__main__":
    main()

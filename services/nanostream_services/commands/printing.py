"""Printing for commands: tables, JSON, warnings; and the codes they exit with."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nanostream.errors import printable
from nanostream_services.quantities import counted

if TYPE_CHECKING:
    from nanostream.acquisition.selection import Selection

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "WRONG_USE",
    "add_row",
    "few",
    "local_time",
    "print_error",
    "print_left_out",
    "print_line",
    "print_warnings",
    "shorten",
    "write_json",
]

#: Something was quarantined or failed; wrong use or configuration; stopped by Ctrl-C.
FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130

#: Names that are printed of a list that can be long.
_FEW = 5


def write_json(value: Any) -> None:
    """Write what a program reads to standard output; numbers that are not finite are null."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    sys.stdout.write(f"{text}\n")


def add_row(table: Table, *cells: str) -> None:
    """Add a row of plain text: what came from files must not be taken for markup."""
    table.add_row(*map(Text, cells))


def print_line(text: str) -> None:
    """Print a line as it is, or several; a path in it is neither broken nor coloured."""
    lines = "\n".join(map(printable, text.split("\n")))
    Console().print(Text(lines), soft_wrap=True)


def print_error(text: str) -> None:
    """Print a line about something that did not work on standard error."""
    sys.stderr.write(f"nanostream: {printable(text)}\n")


def print_warnings(warnings: Sequence[str], *, where_all: str) -> None:
    """Print the first few on standard error, and where all of them are."""
    different = shorten(warnings)
    for warning in different[:_FEW]:
        print_error(f"warning: {warning}")
    if (more := len(different) - _FEW) > 0:
        print_error(f"{counted(more, 'more warning')}; {where_all}")


def print_left_out(selected: Selection) -> None:
    """Print on standard error what was named or found and not taken, each in a line.

    Of many files that are left out for one reason the first few are named.
    """
    alike: dict[str, list[str]] = {}
    for name, reason in selected.left_out:
        alike.setdefault(reason, []).append(name)
    for reason, names in alike.items():
        for name in names[:_FEW]:
            print_error(f"left out: {name}: {reason}")
        if (more := len(names) - _FEW) > 0:
            print_error(f"left out: {more} more: {reason}")
    if pictures := selected.pictures:
        print_error(
            f"{counted(len(pictures), 'PNG')} named as labels, or as pictures of the micrographs "
            f"beside them, not segmented: {few([str(path) for path in pictures])}"
        )


def few(names: Sequence[str]) -> str:
    """The first names of a list.

    Examples
    --------
    >>> few("abcdefg")
    'a, b, c, d, e, ...'
    """
    return ", ".join(names[:_FEW]) + (", ..." if len(names) > _FEW else "")


def shorten(reasons: Sequence[str]) -> list[str]:
    """Reasons, each once for all sections of a file.

    Examples
    --------
    >>> shorten(["a.mrc#0: no", "b.mrc: cut off", "c.mrc: cut off", "a.mrc#1: no", "disk full"])
    ['a.mrc#0 and 1 more: no', 'b.mrc: cut off', 'c.mrc: cut off', 'disk full']
    """
    alike: dict[tuple[str, str], list[str]] = {}
    for reason in reasons:
        name, _, why = reason.partition(": ")
        file, section, _ = name.rpartition("#")
        alike.setdefault((file, why) if section else (reason, ""), []).append(reason)
    return [
        first if not others else first.replace(": ", f" and {len(others)} more: ", 1)
        for first, *others in alike.values()
    ]


def local_time(time_s: float) -> str:
    """A POSIX time as date and time of day here."""
    return datetime.fromtimestamp(time_s).isoformat(" ", "seconds")

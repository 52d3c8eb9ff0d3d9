"""Labelled micrographs that commands are given: found, and what has no partner named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nanostream_services.commands.printing import few, print_error

if TYPE_CHECKING:
    from nanostream.training.sources import Found

__all__ = ["find_labelled", "print_names"]


def find_labelled(names: Sequence[str | Path]) -> Found:
    """Micrographs with their labels, and simulated sets; what has no partner is named."""
    from nanostream.training.sources import find_sources

    found = find_sources(names)
    print_names(list(found.unlabelled), "without a label, left out")
    print_names([str(path) for path in found.strays], "labels without a micrograph, left out")
    return found


def print_names(names: list[str], what: str) -> None:
    """Print on standard error how many there are and the first names; nothing of none."""
    if names:
        print_error(f"{len(names)} {what}: {few(names)}")

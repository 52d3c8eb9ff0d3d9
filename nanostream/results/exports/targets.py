"""Where an export goes, and who hears of its progress and of what is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nanostream.results.navigator import Chart

__all__ = ["Target", "unheard"]


def unheard(*_: object) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Target:
    """Folder and listeners of an export.

    Attributes
    ----------
    folder : Path
    chart : Chart
        Maps of the user's Navigator file, which give places to particles.
    progress : callable
        Is told what is done, how much there is, and what is in work.
    note : callable
        Is told in a sentence what a user has to know: what was left out, and why.
    """

    folder: Path
    chart: Chart = field(default_factory=Chart)
    progress: Callable[[int, int, str], None] = unheard
    note: Callable[[str], None] = unheard

    def path(self, name: str) -> Path:
        """Path of a file of this name, below a folder that exists."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def whole(self, name: str) -> Iterator[Path]:
        """Path to write to; the file has its name once all of it is there, and is new then."""
        path = self.path(name)
        part = path.with_name(f"{path.name}.part")
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

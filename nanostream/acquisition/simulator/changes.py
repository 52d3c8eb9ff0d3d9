"""Changes of a folder by a writer, one call after the other: planned first, made by `Disk`.

The writers of `writers` plan what SerialEM does, `faults` changes it, only `Disk` touches files.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Literal, Self

__all__ = ["Change", "CompleteSection", "Disk"]

#: Path, z and generation of a section.
CompleteSection = tuple[str, int, int]


@dataclass(frozen=True)
class Change:
    """One call by which a writer changes its folder.

    Attributes
    ----------
    name : str
        What it is in the writer's order: ``"pixels"``, ``"header"``, ...
    path : str
        POSIX path relative to the folder.
    action : str
        ``create``: empty, or emptied, and held open. Of the file held open: ``write`` at `offset`,
        ``extend`` with zeros up to the size `offset`, ``close``. ``append``: opened for it and
        closed again. ``rename`` to `target`, ``delete``.
    data : bytes-like
        To be written.
    offset : int
        Bytes.
    target : str
        POSIX path relative to the folder.
    completed : tuple of CompleteSection
        Sections that are complete on disk after it and were not before.
    """

    name: str
    path: str
    action: Literal["create", "write", "extend", "append", "close", "rename", "delete"]
    data: bytes | memoryview = b""
    offset: int = 0
    target: str = ""
    completed: tuple[CompleteSection, ...] = ()


class Disk:
    """Carries changes out below a folder; use it in a ``with`` statement.

    A file that SerialEM holds open is held open here too: on Windows others cannot rename it, and
    a Linux watcher hears of its closing only at the end.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, FileIO] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()

    def perform(self, change: Change) -> bool:
        """Do it; False if the folder is as before.

        Closing shows nothing, a file may have the size already, and one that is not there is
        neither renamed nor deleted.
        """
        path = self._folder / change.path
        match change.action:
            case "create":
                self._open[change.path] = path.open("wb", buffering=0)
            case "write":
                file = self._open[change.path]
                file.seek(change.offset)
                _write_all(file, change.data)
            case "extend":
                size = path.stat().st_size
                if size >= change.offset:
                    return False
                self._open[change.path].truncate(change.offset)
            case "append":
                with path.open("ab", buffering=0) as file:
                    _write_all(file, change.data)
            case "close":
                self._open.pop(change.path).close()
                return False
            case "rename":
                if not path.exists():
                    return False
                path.replace(self._folder / change.target)
            case "delete":
                if not path.exists():
                    return False
                path.unlink()
        return True


def _write_all(file: FileIO, data: bytes | memoryview) -> None:
    while data:
        data = data[file.write(data) :]

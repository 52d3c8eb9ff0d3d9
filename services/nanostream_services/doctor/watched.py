"""The watched folder and the newest file in it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from nanostream.acquisition import frames
from nanostream.acquisition.folder import WatchedFolder
from nanostream.acquisition.readiness import FileStat
from nanostream.config import Config
from nanostream.errors import MicrographError, reason_of
from nanostream_services.doctor.findings import Finding, Role, State
from nanostream_services.processes.shares import share_type
from nanostream_services.quantities import counted

__all__ = ["check_watched", "look_into", "newest", "share_finding"]

_SLOW_LISTING_S = 1.0


def check_watched(config: Config, role: Role) -> Iterator[Finding]:
    """The watched folder: there, listed quickly, and on what kind of disk."""
    name, watch = "watched folder", config.watch
    if not watch.directory:
        state: State = "problem" if role == "agent" else "skipped"
        advice = "name the folder SerialEM saves into" if role == "agent" else ""
        yield Finding(name, state, "[watch] directory names none; nanostream run does", advice)
        return
    root = Path(watch.directory)
    if not root.is_dir():
        advice = "create it or mount it; nanostream waits for one that goes away, not for the first"
        yield Finding(name, "problem", f"{root} is not a folder", advice)
        return
    refused: list[str] = []
    start_s = time.perf_counter()
    files = WatchedFolder(root, watch, report=refused.append).files()
    took_s = time.perf_counter() - start_s
    for text in refused:
        yield Finding(name, "warning", text, "give this user the right to read it")
    slow = took_s > max(watch.poll_s, _SLOW_LISTING_S)
    yield Finding(
        name,
        "warning" if slow else "ok",
        f"{root}: {counted(len(files), 'micrograph')}, listed in {took_s:.2f} s",
        f"watch a smaller folder, or raise poll_s above {took_s:.0f} s" if slow else "",
    )
    yield share_finding(root, share_type(root), watch.file_events)
    yield from _of_newest(root, files)


def share_finding(root: Path, share: str | None, file_events: str) -> Finding:
    """The consequence of the kind of disk for watching; None is a disk of this machine."""
    if share is None:
        return Finding("share", "ok", f"{root} is on a disk of this machine")
    if file_events == "on":
        advice = 'a share reports no file events of others; set [watch] file_events = "auto"'
        return Finding("share", "warning", f"{root} is on a network share ({share})", advice)
    text = f"{root} is on a network share ({share}): scanned every poll_s, read only when settled"
    return Finding("share", "ok", text)


def _of_newest(root: Path, files: Mapping[str, FileStat]) -> Iterator[Finding]:
    if not files:
        yield Finding("newest file", "skipped", "the folder has no micrograph yet")
        return
    path, _ = newest(files)
    try:
        sections, _, _ = look_into(root / path)
    except (MicrographError, OSError) as error:
        advice = "wait if SerialEM has just opened it; else give this user the right to read it"
        yield Finding("newest file", "warning", reason_of(error), advice)
        return
    yield Finding("newest file", "ok", f"{path}, complete sections: {sections}")


def look_into(path: Path) -> tuple[int, float | None, str | None]:
    """Complete sections of a file; pixel size in nm and time of the last of them, if it says so."""
    contents, status = frames.inspect(path)
    sections = contents.complete_sections(status.st_size)
    if not sections:
        return 0, None, None
    frame = frames.read_section(path, sections - 1)
    return sections, frame.pixel_size_nm, frame.metadata.acquired


def newest(files: Mapping[str, FileStat]) -> tuple[str, FileStat]:
    """The file that was written last, with its size and time."""
    return max(files.items(), key=lambda item: item[1].mtime_ns)

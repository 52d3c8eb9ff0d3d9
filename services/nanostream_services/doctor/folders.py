"""The folders that are written: session and feedback."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nanostream.config import Config
from nanostream.errors import NanostreamError, SessionError
from nanostream.results.folders import check_folder
from nanostream.results.navigator import read_navigator
from nanostream_services.doctor.findings import Finding, Role
from nanostream_services.processes.shares import share_type
from nanostream_services.quantities import counted

__all__ = ["check_feedback", "check_session", "disk_finding", "session_finding"]

#: Room that a 4096 x 4096 micrograph takes (docs/formats/session.md), and how often one is acquired
#: at most: a camera's overhead alone is 2 to 3 s a shot (SerialEM's about_camera.htm).
_SECTION_BYTES = 1_000_000
_SECONDS_A_SECTION = 3.0
_LEAST_FREE_BYTES = 2**30


def check_session(config: Config, _: Role) -> Iterator[Finding]:
    """The session folder: can be written, on a local disk, with room."""
    name = "session folder"
    if not config.sink.session:
        yield Finding(name, "skipped", "[sink] session names none; nanostream run --out does")
        return
    folder = Path(config.sink.session)
    try:
        check_folder(folder)
    except SessionError as error:
        yield Finding(name, "problem", str(error), "give a new folder")
        return
    there = _existing(folder)
    try:
        _try_to_write(there)
    except OSError as error:
        advice = f"give this user the right to write into {there}, or choose another folder"
        yield Finding(name, "problem", f"{there} cannot be written: {error.strerror}", advice)
        return
    yield session_finding(folder, share_type(there))
    yield disk_finding(shutil.disk_usage(there).free)


def session_finding(folder: Path, share: str | None) -> Finding:
    """Whether a database can live there; None is a disk of this machine."""
    name = "session folder"
    if share is None:
        return Finding(name, "ok", f"{folder} can be written, on a disk of this machine")
    # sqlite.org/wal.html: WAL does not work over a network file system.
    text = f"{folder} is on a network share ({share}), where SQLite does not work"
    return Finding(name, "problem", text, "choose a folder on a disk of this machine")


def disk_finding(free_bytes: int) -> Finding:
    """How long the free room lasts."""
    days = free_bytes / _SECTION_BYTES * _SECONDS_A_SECTION / 86_400
    text = (
        f"{free_bytes / 1e9:.0f} GB free: {days:.1f} days of a 4096 x 4096 micrograph "
        f"each {_SECONDS_A_SECTION:.0f} s"
    )
    if free_bytes < _LEAST_FREE_BYTES:
        return Finding("free disk", "problem", text, "make room, or choose another disk")
    if days < 1:
        return Finding("free disk", "warning", text, "make room before a long session")
    return Finding("free disk", "ok", text)


def check_feedback(config: Config, _: Role) -> Iterator[Finding]:
    """Where SerialEM will look for results, and the Navigator file with its maps."""
    feedback = config.feedback
    if feedback.directory and (feedback.result_files or feedback.navigator_items != "off"):
        yield _of_feedback_folder(config)
    if feedback.navigator:
        try:
            items = read_navigator(Path(feedback.navigator))
        except NanostreamError as error:
            yield Finding("Navigator file", "problem", str(error))
        else:
            text = f"{feedback.navigator}: {counted(len(items), 'item')}"
            yield Finding("Navigator file", "ok", text)


def _of_feedback_folder(config: Config) -> Finding:
    name, folder = "feedback folder", Path(config.feedback.directory)
    there = _existing(folder)
    watched = config.watch.directory
    if watched and there.resolve().is_relative_to(Path(watched).resolve()):
        text = f"{folder} is in the watched folder; nothing was written there to test it"
        if os.access(there, os.W_OK):
            return Finding(name, "warning", text, "choose another if SerialEM can reach one")
        return Finding(name, "problem", text, f"give this user the right to write into {there}")
    try:
        _try_to_write(there)
    except OSError as error:
        text = f"{there} cannot be written: {error.strerror}"
        return Finding(name, "problem", text, "give this user the right to write there")
    return Finding(name, "ok", f"{folder} can be written; SerialEM must see it under some name")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _try_to_write(folder: Path) -> None:
    # A name, not an anonymous file: that is what the session will make.
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".nanostream-doctor-") as file:
        file.write(b"nanostream doctor")

"""Origins of a session's masks: all that its row has of a section, and the settings it was made by.

A session that was resumed, or segmented into twice, has sections of several configurations. Each
row names its own by its SHA-256, and the table ``provenance`` has them all.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from nanostream.config import Worker, worker_of_text
from nanostream.errors import SessionError
from nanostream.records import Measured
from nanostream.results.columns import measured_of
from nanostream.results.folders import connect

__all__ = ["Origin", "origin_of", "worker_of"]


class Origin(NamedTuple):
    """The row of a section.

    Attributes
    ----------
    measured : Measured
        Its numbers, texts and metadata, as they were stored.
    pixels_crc32 : int
        Checksum of the micrograph that its mask was made from.
    labels_crc32 : int
        Checksum of the labels of its mask.
    """

    measured: Measured
    pixels_crc32: int
    labels_crc32: int


def origin_of(session: Path, section: str) -> Origin:
    """The row of a section, also beside the session's writer.

    Parameters
    ----------
    session : Path
        Session folder.
    section : str
        Name of the section.

    Raises
    ------
    SessionError
        If the session has no such section.
    """
    with closing(connect(session)) as db:
        db.row_factory = sqlite3.Row
        row = db.execute("SELECT * FROM sections WHERE section = ?", (section,)).fetchone()
    if row is None:
        msg = f"section {section} is not in {session}; .section_ids() has their names"
        raise SessionError(msg)
    return Origin(measured_of(row), int(row["pixels_crc32"]), int(row["labels_crc32"]))


def worker_of(session: Path, measured: Measured) -> Worker:
    """Settings of the worker that made a section's mask, by the configuration that its row names.

    Parameters
    ----------
    session : Path
        Session folder.
    measured : Measured
        Of `origin_of`: what it says of model and threshold counts, whatever was configured.

    Raises
    ------
    SessionError
        If the session does not have that configuration.
    ConfigError
        If it has keys or values of another version.
    """
    sha256 = measured.versions.get("config_sha256", "")
    with closing(connect(session)) as db:
        key = f"config {sha256}"
        kept = db.execute("SELECT value FROM provenance WHERE key = ?", (key,)).fetchone()
    if kept is None:
        named = f"the configuration {sha256[:8]}" if sha256 else "no configuration"
        msg = (
            f"its row names {named}, and the session does not have it, so that the settings are "
            "not known; segment it anew into another session"
        )
        raise SessionError(msg)
    return worker_of_text(
        kept[0], model=measured.model, threshold=measured.threshold, hand_over=False
    )

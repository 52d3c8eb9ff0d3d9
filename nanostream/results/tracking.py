"""Tracks of the movies of a session, linked inside the commit of each section.

A section is linked when all before it in its movie have an end, so identities do not depend on the
order in which results come. The tracker's memory is committed with the rows.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import numpy as np

from nanostream.records import SectionId, TrackerSettings

__all__ = ["advance_tracks"]

if TYPE_CHECKING:
    from nanostream.particles.tracks import Tracker


def advance_tracks(db: sqlite3.Connection, section: SectionId, settings: TrackerSettings) -> None:
    """Link all sections of a movie that have become consecutive, in an open transaction.

    Parameters
    ----------
    section : SectionId
        That has just got its end, stored or given up.
    settings : TrackerSettings
        Of its movie; used if it has no tracker yet.
    """
    # SciPy and pandas: a session without movies does not need them, a start does not wait.
    from nanostream.particles.tracks import Tracker

    stream = section.file
    row = db.execute(
        "SELECT next_frame, identities, state FROM trackers WHERE stream = ?", (stream,)
    ).fetchone()
    if row:
        frame, identities, tracker = int(row[0]), int(row[1]), Tracker.from_bytes(row[2])
    else:
        frame, identities = 0, 0
        tracker = Tracker(settings)
    first = frame
    while (end := _end_of(db, stream, frame)) is not None:
        if end == "stored":
            identities += _link(db, stream, frame, tracker)
        frame += 1
    if frame > first:
        db.execute(
            "INSERT OR REPLACE INTO trackers VALUES (?, ?, ?, ?)",
            (stream, frame, identities, tracker.to_bytes()),
        )


def _end_of(db: sqlite3.Connection, stream: str, frame: int) -> str | None:
    section = f"{stream}#{frame}"
    row = db.execute(
        "SELECT 'stored' FROM sections WHERE section = ?1"
        " UNION ALL SELECT 'quarantined' FROM quarantine WHERE section = ?1",
        (section,),
    ).fetchone()
    return row and str(row[0])


def _link(db: sqlite3.Connection, stream: str, frame: int, tracker: Tracker) -> int:
    """Identities of one section's particles; how many of them are new."""
    import pandas as pd

    section = f"{stream}#{frame}"
    rows = db.execute(
        "SELECT label, x, y, diameter_px, touches_edge FROM particles WHERE section = ?"
        " ORDER BY label",
        (section,),
    ).fetchall()
    table = pd.DataFrame(
        np.array(rows, np.float64).reshape(-1, 5),
        columns=["label", "x", "y", "diameter_px", "touches_edge"],
    ).astype({"label": np.int64, "touches_edge": np.bool_})
    step = tracker.step(frame, table)
    total_y, total_x = step.cumulative_drift_px
    db.executemany(
        "INSERT INTO tracks VALUES (?, ?, ?, ?, ?, ?, ?)",
        zip(
            [stream] * len(table),
            [frame] * len(table),
            step.particle.tolist(),
            [section] * len(table),
            table["label"].tolist(),
            (table["x"] - total_x).tolist(),
            (table["y"] - total_y).tolist(),
            strict=True,
        ),
    )
    dy, dx = step.drift_px
    db.execute(
        "INSERT INTO drift VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (stream, frame, dx, dy, total_x, total_y, step.drift_votes, step.gate_px),
    )
    return len(step.appeared)

"""Tables of a session as they are exported: those of `Session`, and a number for each track."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from nanostream.results.identities import number_tracks
from nanostream.results.session import Session

__all__ = ["tables", "with_tracks"]

_TABLES = ("sections", "particles", "tracks", "drift", "events", "quarantine")


def tables(session: Session) -> Iterator[tuple[str, pd.DataFrame]]:
    """Names and tables; ``populations`` has the size distribution of each movie and other file."""
    for name in _TABLES:
        table = getattr(session, name)
        yield name, with_tracks(session, table) if name in ("particles", "tracks") else table
    yield "populations", session.populations("stream")


def with_tracks(session: Session, table: pd.DataFrame) -> pd.DataFrame:
    """A table of particles with the column ``track``, unique in the session, 0 for none.

    The labels, ROIs and tracks that are exported to other programs have this number.

    Parameters
    ----------
    session : Session
    table : DataFrame
        With ``section`` and ``label``.
    """
    tracks = session.tracks
    numbers = tracks[["section", "label"]].assign(track=number_tracks(tracks))
    numbered = table.merge(numbers, "left", on=["section", "label"])
    return numbered.assign(track=numbered["track"].fillna(0).astype("int64"))

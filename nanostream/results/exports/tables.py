"""Tables of a session as they are exported: those of `Session`, and a number for each track."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from nanostream.results.identities import number_tracks
from nanostream.results.session import Session

__all__ = ["tables"]

_TABLES = ("sections", "particles", "tracks", "drift", "events", "quarantine")


def tables(session: Session) -> Iterator[tuple[str, pd.DataFrame]]:
    """Names and tables. ``track`` of particles and tracks is unique in the session, 0 for none.

    The labels, ROIs and tracks that are exported to other programs have this number.
    """
    tracks = session.tracks
    numbers = pd.DataFrame({"section": tracks["section"], "label": tracks["label"]})
    numbers["track"] = number_tracks(tracks)
    for name in _TABLES:
        table = getattr(session, name)
        if name in ("particles", "tracks"):
            table = table.merge(numbers, "left", on=["section", "label"])
            table["track"] = table["track"].fillna(0).astype("int64")
        yield name, table

"""Tables of a session as they are exported."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from nanostream.results.exports.movies import with_tracks
from nanostream.results.session import Session

__all__ = ["tables"]

_TABLES = ("sections", "particles", "tracks", "drift", "events", "quarantine")


def tables(session: Session) -> Iterator[tuple[str, pd.DataFrame]]:
    """Names and tables; ``populations`` has the size distribution of each movie and other file."""
    for name in _TABLES:
        table = getattr(session, name)
        yield name, with_tracks(session, table) if name in ("particles", "tracks") else table
    yield "populations", session.populations("stream")

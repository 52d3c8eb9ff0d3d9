"""Movies and masks of a session as they are exported, with a number for each track."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from nanostream.errors import SessionError
from nanostream.results.exports.targets import Target
from nanostream.results.identities import WITHOUT_IDENTITY, numbered
from nanostream.results.label_stacks import LabelStack, label_stacks
from nanostream.results.session import Session

__all__ = ["movies", "stacks", "with_tracks"]


def movies(
    session: Session, target: Target, measures: Sequence[str] = ()
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Name of each movie and its rows of ``session.tracks``, with the column ``track``.

    Progress is told with each, and first how many particles have no identity yet: those have no
    row. No two rows have the same index.

    Parameters
    ----------
    session, target
        Where from and where to.
    measures : sequence of str
        Columns of ``session.particles`` that the rows have besides.

    Raises
    ------
    SessionError
        If the session has no movie, or no track yet.
    """
    sections = session.sections
    of_movies = sections[sections["stream"].notna()]
    tracks = session.tracks
    if tracks.empty:
        msg = (
            f"{session.folder} has no tracks: particles are followed in movies, which --stream of "
            "nanostream run or segment names, and in which one was found"
        )
        raise SessionError(msg)
    known = int(tracks["section"].isin(of_movies["section"]).sum())
    found = int(of_movies["count"].sum())
    if (pending := found - known) > 0:
        target.note(f"{pending} of {found} particles of movies {WITHOUT_IDENTITY}")
    if measures:
        particles = session.particles[["section", "label", *measures]]
        tracks = tracks.merge(particles, on=["section", "label"])
    each = numbered(tracks).groupby("file", sort=False)
    for done, (file, of_file) in enumerate(each):
        target.progress(done, len(each), str(file))
        yield str(file), of_file


def stacks(session: Session) -> list[LabelStack]:
    """The masks of each file; those of movies have the numbers of `movies`."""
    return label_stacks(session.sections, numbered(session.tracks), session.labels)


def with_tracks(session: Session, table: pd.DataFrame) -> pd.DataFrame:
    """A table of particles with the column ``track``, unique in the session, 0 for none.

    The labels, ROIs and tracks that are exported to other programs have this number.

    Parameters
    ----------
    session : Session
    table : DataFrame
        With ``section`` and ``label``.
    """
    numbers = numbered(session.tracks)[["section", "label", "track"]]
    joined = table.merge(numbers, "left", on=["section", "label"])
    return joined.assign(track=joined["track"].fillna(0).astype("int64"))

"""Numbers of tracks that no two movies share, for programs that take all of them at once.

In a session frames and identities begin anew in each movie: ``particle`` is unique with ``file``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from nanostream.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nanostream.results.session import Session

__all__ = ["WITHOUT_IDENTITY", "movie_tracks", "number_tracks"]

#: What a user is told of particles that wait for an earlier section.
WITHOUT_IDENTITY = (
    "are left out: they have no identity yet, as a section before theirs in the movie has no result"
)


def number_tracks(tracks: pd.DataFrame) -> pd.Series[int]:
    """Number of each row's track, from 1, different in every movie.

    That of the first movie is ``particle``; the next ones, in the order of the table, are shifted
    by all identities before them. So the numbers of a growing session can change.

    Parameters
    ----------
    tracks : DataFrame
        With ``file`` and ``particle``.

    Examples
    --------
    >>> table = pd.DataFrame({"file": ["a", "a", "b"], "particle": [1, 2, 1]})
    >>> number_tracks(table).tolist()
    [1, 2, 3]
    """
    highest = tracks.groupby("file", sort=False)["particle"].max()
    before = highest.cumsum() - highest
    shift = tracks["file"].map(before).astype("int64")
    return (tracks["particle"] + shift).rename("track")


def movie_tracks(session: Session, note: Callable[[str], None]) -> pd.DataFrame:
    """The table ``tracks`` of a session, with the column ``track`` of `number_tracks`.

    Parameters
    ----------
    session : Session
    note : callable
        Is told how many particles of movies have no identity yet: these have no row.

    Raises
    ------
    SessionError
        If the session has no movie, or no track yet.
    """
    sections = session.sections
    movies = sections[sections["stream"].notna()]
    tracks = session.tracks
    if tracks.empty:
        msg = (
            f"{session.folder} has no tracks: particles are followed in movies, which --stream of "
            "nanostream run or segment names, and in which one was found"
        )
        raise SessionError(msg)
    known = int(tracks["section"].isin(movies["section"]).sum())
    particles = int(movies["count"].sum())
    if (pending := particles - known) > 0:
        note(f"{pending} of {particles} particles of movies {WITHOUT_IDENTITY}")
    return tracks.assign(track=number_tracks(tracks))

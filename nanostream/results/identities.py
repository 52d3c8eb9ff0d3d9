"""Numbers of tracks that no two movies share, for programs that take all of them at once.

In a session frames and identities begin anew in each movie: ``particle`` is unique with ``file``.
"""

from __future__ import annotations

import pandas as pd

__all__ = ["WITHOUT_IDENTITY", "numbered"]

#: What a user is told of particles that wait for an earlier section.
WITHOUT_IDENTITY = (
    "are left out: they have no identity yet, as a section before theirs in the movie has no result"
)


def numbered(tracks: pd.DataFrame) -> pd.DataFrame:
    """The tracks of a session with the column ``track``, from 1, different in every movie.

    That of the first movie is ``particle``; the next ones, in the order of the table, are shifted
    by all identities before them. So the numbers of a growing session can change.

    Parameters
    ----------
    tracks : DataFrame
        With ``file`` and ``particle``.

    Examples
    --------
    >>> table = pd.DataFrame({"file": ["a", "a", "b"], "particle": [1, 2, 1]})
    >>> numbered(table)["track"].tolist()
    [1, 2, 3]
    """
    highest = tracks.groupby("file", sort=False)["particle"].max()
    before = highest.cumsum() - highest
    shift = tracks["file"].map(before).astype("int64")
    return tracks.assign(track=tracks["particle"] + shift)

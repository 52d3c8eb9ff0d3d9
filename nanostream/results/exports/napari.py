"""Tracks of a session as napari's layer of tracks wants them."""

from __future__ import annotations

from pathlib import Path

from nanostream.results.exports.movies import movies
from nanostream.results.exports.targets import Target
from nanostream.results.session import Session

__all__ = ["write_tracks"]


def write_tracks(session: Session, target: Target) -> list[Path]:
    """Files that were written, one per movie: ``gold.mrc_tracks.csv`` with ``id, t, y, x``.

    Positions in px, by id and t: ``viewer.add_tracks(pandas.read_csv(...))`` draws them over the
    micrographs in file order.
    """
    written = []
    for file, tracks in movies(session, target):
        table = tracks.sort_values(["track", "frame"])[["track", "frame", "y", "x"]]
        with target.whole(f"{file}_tracks.csv") as path:
            table.to_csv(path, index=False, header=["id", "t", "y", "x"])
        written.append(target.path(f"{file}_tracks.csv"))
    return written

"""Census of a session while it grows: each particle counts once, at constant cost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanostream.particles.populations import Population, known_sizes
from nanostream.records import Statistics
from nanostream.results.folders import connect

__all__ = ["Census"]

_UNITS = ("px", "nm")
#: Rows that are read at a time.
_MOST_ROWS = 10_000

_SIZES = "p.diameter_px, p.diameter_nm, p.touches_edge"
_QUERIES = {
    "particles": (
        f"SELECT '', 0, {_SIZES} FROM particles p JOIN sections s ON s.section = p.section"
        " WHERE s.stream IS NULL AND p.rowid > ? AND p.rowid <= ?"
    ),
    "tracks": (
        f"SELECT t.stream, t.particle, {_SIZES} FROM tracks t JOIN particles p"
        " ON p.section = t.section AND p.label = t.label WHERE t.rowid > ? AND t.rowid <= ?"
    ),
}


@dataclass
class _Tracks:
    """Tracks of one movie by their identities; of frames with a size in px and in nm the sums."""

    seen: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    whole: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    frames: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))

    def reserve(self, identities: int) -> None:
        """Room for so many, with as much again."""
        more = max(0, 2 * identities - self.seen.size) if identities > self.seen.size else 0
        self.seen = np.pad(self.seen, (0, more))
        self.whole = np.pad(self.whole, (0, more))
        self.frames = np.pad(self.frames, ((0, more), (0, 0)))
        self.sums = np.pad(self.sums, ((0, more), (0, 0)))


class Census:
    """Sizes of the particles of a session, of a movie one per track: the mean of its frames.

    Kept up to date by what was committed since; it reads through connections of its own, so it
    can be used in another thread. `Session.populations` takes the median of a track's frames, for
    which all of them have to be read.

    Parameters
    ----------
    folder : Path
        Of the session.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._populations = {unit: Population() for unit in _UNITS}
        self._movies: dict[str, _Tracks] = {}
        self._last = dict.fromkeys(_QUERIES, 0)

    def update(self) -> Iterator[None]:
        """Count what was committed since, some at a time.

        Raises
        ------
        sqlite3.Error
            If the database cannot be read; what was not counted is counted the next time.
        """
        with closing(connect(self._folder)) as db:
            for table, query in _QUERIES.items():
                newest = db.execute(f"SELECT coalesce(max(rowid), 0) FROM {table}").fetchone()[0]
                while self._last[table] < newest:
                    upto = min(newest, self._last[table] + _MOST_ROWS)
                    self._count(db.execute(query, (self._last[table], upto)).fetchall())
                    self._last[table] = upto
                    yield

    @property
    def statistics(self) -> Statistics:
        """Numbers of what was counted, in nm as soon as one size is."""
        unit = "nm" if self._populations["nm"].count else "px"
        return self._populations[unit].statistics(unit)

    def _count(self, rows: list[tuple[Any, ...]]) -> None:
        for movie, of_movie in itertools.groupby(rows, key=itemgetter(0)):
            # A size that is not known becomes NaN.
            table = np.array([row[1:] for row in of_movie], np.float64)
            edge = table[:, 3].astype(bool)
            if movie:
                tracks = self._movies.setdefault(movie, _Tracks())
                self._count_tracks(tracks, table[:, 0].astype(np.int64), table[:, 1:3], edge)
            else:
                for unit, sizes in zip(_UNITS, table[~edge, 1:3].T, strict=True):
                    self._populations[unit].add(sizes, edge=int(edge.sum()))

    def _count_tracks(
        self,
        tracks: _Tracks,
        identities: NDArray[np.int64],
        sizes: NDArray[np.float64],
        edge: NDArray[np.bool_],
    ) -> None:
        """Replace the means of those tracks by what they are with these frames."""
        tracks.reserve(int(identities.max()) + 1)
        concerned = np.unique(identities)
        self._enter(tracks, concerned, -1)
        tracks.seen[concerned] = True
        tracks.whole[identities[~edge]] = True
        known = known_sizes(sizes[~edge])
        np.add.at(tracks.frames, identities[~edge], ~np.isnan(known))
        np.add.at(tracks.sums, identities[~edge], np.nan_to_num(known))
        self._enter(tracks, concerned, 1)

    def _enter(self, tracks: _Tracks, concerned: NDArray[np.int64], times: int) -> None:
        whole = concerned[tracks.whole[concerned]]
        cut = int(tracks.seen[concerned].sum()) - whole.size
        for column, unit in enumerate(_UNITS):
            population = self._populations[unit]
            sums, frames = tracks.sums[whole, column], tracks.frames[whole, column]
            means = np.divide(sums, frames, where=frames > 0, out=np.full(whole.size, np.nan))
            (population.add if times > 0 else population.remove)(means)
            population.edge += times * cut

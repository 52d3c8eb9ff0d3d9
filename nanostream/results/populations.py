"""Populations of a session: which particles count, each once, and the numbers of each group."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nanostream.errors import SessionError
from nanostream.particles.populations import describe, edge_weights, known_sizes
from nanostream.records import Statistics

__all__ = ["BOX", "By", "population_table", "timed"]

#: What makes a group of particles.
By = Literal["section", "stream", "session"]

#: Columns of the bounding box, which edge weights need.
BOX = ("left_px", "right_px", "top_px", "bottom_px")

_KEYS: dict[By, list[str]] = {
    "section": ["file", "section", "frame"],
    "stream": ["file"],
    "session": [],
}


def population_table(
    sections: pd.DataFrame,
    particles: pd.DataFrame,
    *,
    by: By,
    window_s: float | None,
    weighted: bool,
    calibration_percent: float,
    relative_width: float,
) -> pd.DataFrame:
    """One row per group of particles; parameters as in `nanostream.results.session.Session`.

    Parameters
    ----------
    sections : DataFrame
        All of the session: ``file, section, frame, stream, time_s, pixel_size_nm, height_px,
        width_px``; ``stream`` is None where the file is no movie.
    particles : DataFrame
        All of the session: ``section, track, touches_edge, px, nm`` and `BOX`; ``track`` is NaN
        where a particle has no identity.
    """
    if by not in _KEYS:
        msg = f'by = {by!r}: expected "section", "stream" or "session"'
        raise ValueError(msg)
    if window_s is not None and (by == "section" or not 0 < window_s < math.inf):
        msg = f"window_s = {window_s}: expected seconds above 0, and by stream or session"
        raise ValueError(msg)
    keys = _KEYS[by]
    placed = sections.assign(start_s=_starts(sections, keys, window_s))
    if window_s is not None:
        keys = [*keys, "start_s"]
    placed["group"] = placed.groupby(keys, sort=False).ngroup() if keys else 0
    once = _each_once(placed, particles, by=by, weighted=weighted).sort_values("group")
    groups = placed.drop_duplicates("group")[["group", *keys]]
    known = placed["pixel_size_nm"].notna().groupby(placed["group"], sort=False).any()
    # Slices of arrays: tables in their place take four times as long for thousands of sections.
    columns = {name: once[name].to_numpy() for name in ("edge", "px", "nm", "weight")}
    ends = np.searchsorted(once["group"], groups["group"], side="right")
    starts = np.searchsorted(once["group"], groups["group"], side="left")
    describe_group = partial(
        describe, calibration_percent=calibration_percent, relative_width=relative_width
    )
    numbers = [
        _statistics(
            {name: column[start:end] for name, column in columns.items()},
            "nm" if in_nm else "px",
            describe_group,
        )
        for start, end, in_nm in zip(starts, ends, known, strict=True)
    ]
    if not (numbers or keys):  # nothing is stored
        numbers = [Statistics()]
    described = pd.DataFrame(
        [msgspec.structs.asdict(one) for one in numbers], columns=[*Statistics.__struct_fields__]
    )
    table = pd.concat([groups[keys].reset_index(drop=True), described], axis="columns")
    if window_s is not None:
        table.insert(len(keys), "end_s", table["start_s"] + window_s)
    return table


def timed(sections: pd.DataFrame) -> pd.DataFrame:
    """The table of a session's sections with ``file``, ``frame`` and ``time_s`` (POSIX).

    Times are of one clock: of the acquisition, of writing, or of storing, whichever is the first
    that every section has.
    """
    acquired = sections["acquired"] if "acquired" in sections else pd.Series(None, sections.index)
    # ISO 8601 without a zone: differences alone matter.
    when = pd.to_datetime(acquired, format="ISO8601", errors="coerce")
    seconds = (when - pd.Timestamp(0)) / pd.Timedelta(1, "s")
    clocks = (seconds, sections["written_s"], sections["stored_s"])
    time_s = next((clock for clock in clocks if clock.notna().all()), sections["stored_s"])
    return sections.assign(
        file=sections["section"].str.rsplit("#", n=1).str[0],
        frame=sections["z"],
        time_s=time_s.astype(np.float64),
    )


def _starts(sections: pd.DataFrame, keys: list[str], window_s: float | None) -> pd.Series[float]:
    """Begin of each section's window, in seconds after the first section of its group."""
    time_s = sections["time_s"]
    if window_s is None or sections.empty:
        return time_s * 0.0
    first = time_s.groupby(sections["file"]).transform("min") if keys else time_s.min()
    return (time_s - first) // window_s * window_s


def _each_once(
    placed: pd.DataFrame, particles: pd.DataFrame, *, by: By, weighted: bool
) -> pd.DataFrame:
    """One row per particle, of a movie per track and group: ``group, edge, px, nm, weight``."""
    names = ["section", "file", "stream", "group", "height_px", "width_px"]
    rows = particles.merge(placed[names], on="section")
    rows["edge"] = rows["touches_edge"].astype(bool)
    rows["px"], rows["nm"] = known_sizes(rows["px"]), known_sizes(rows["nm"])
    rows["weight"] = 1.0
    if weighted:
        rows.loc[~rows["edge"], "weight"] = _weights(rows[~rows["edge"]])
    wanted = ["group", "edge", "px", "nm", "weight"]
    movies = rows["stream"].notna()
    if by == "section" or not movies.any():
        return rows[wanted]
    tracks = rows[movies & rows["track"].notna()]
    whole = tracks.where(~tracks["edge"])[["px", "nm", "weight"]]
    by_track = [tracks["group"], tracks["file"], tracks["track"]]
    # A median leaves out what is not there: a track that was never whole has none.
    medians = whole.groupby(by_track).median()
    medians["edge"] = tracks["edge"].groupby(by_track).all()
    return pd.concat([rows.loc[~movies, wanted], medians.reset_index()[wanted]])


def _weights(whole: pd.DataFrame) -> Any:
    box = {name: whole[name].to_numpy() for name in BOX}
    without = whole["section"][box["right_px"] == 0].unique()
    if without.size:
        msg = (
            f"weights need bounding boxes: {without[0]} was stored before those were, as the first "
            f"of {without.size}; segment the files into another session, or use weighted=False"
        )
        raise SessionError(msg)
    return edge_weights(
        box["right_px"] - box["left_px"],
        box["bottom_px"] - box["top_px"],
        shape=(whole["height_px"].to_numpy(), whole["width_px"].to_numpy()),
    )


def _statistics(
    once: dict[str, NDArray[Any]], unit: str, describe_group: Callable[..., Statistics]
) -> Statistics:
    edge = once["edge"].astype(bool)
    return describe_group(
        once[unit][~edge], unit, edge=int(edge.sum()), weights=once["weight"][~edge]
    )

"""Populations of a session: which particles count, each once, and the numbers of each group."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import pandas as pd

from nanostream.errors import SessionError
from nanostream.particles.populations import describe, edge_weights, known_sizes
from nanostream.records import RELATIVE_WIDTH, Statistics

__all__ = ["BOX", "By", "Counted", "count_once", "describe_groups", "timed"]

#: What makes a group of particles.
By = Literal["section", "stream", "session"]

#: Columns of the bounding box, which edge weights need.
BOX = ("left_px", "right_px", "top_px", "bottom_px")

_KEYS: dict[By, list[str]] = {
    "section": ["file", "section", "frame"],
    "stream": ["file"],
    "session": [],
}


class Counted(NamedTuple):
    """Particles that count, each once, and the groups that they are in.

    Attributes
    ----------
    groups : DataFrame
        A row per group, also where it has no particle: ``group`` (a number), ``unit`` ("nm" as
        soon as a section of it has a pixel size, else "px"), and what the group is of: ``file,
        section, frame, start_s, end_s`` as far as they are asked for.
    particles : DataFrame
        A row per particle, of a movie per track and group, in order of ``group``: ``edge`` (it has
        no size), ``px, nm`` (NaN where that is not known), ``weight, shape_class``. Of a track the
        medians of the frames in which it does not touch the edge, and its commonest class.
    """

    groups: pd.DataFrame
    particles: pd.DataFrame


def count_once(
    sections: pd.DataFrame,
    particles: pd.DataFrame,
    *,
    by: By,
    window_s: float | None,
    weighted: bool,
) -> Counted:
    """Who counts in each group; parameters as in `nanostream.results.session.Session.populations`.

    Parameters
    ----------
    sections : DataFrame
        All of the session: ``file, section, frame, stream, time_s, pixel_size_nm, height_px,
        width_px``; ``stream`` is None where the file is no movie.
    particles : DataFrame
        All of the session: ``section, track, touches_edge, px, nm, shape_class`` and `BOX`;
        ``track`` is NaN where a particle has no identity.
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
        placed["end_s"] = placed["start_s"] + window_s
        keys = [*keys, "start_s", "end_s"]
    placed["group"] = placed.groupby(keys, sort=False).ngroup() if keys else 0
    groups = placed.drop_duplicates("group")[["group", *keys]].reset_index(drop=True)
    known = placed["pixel_size_nm"].notna().groupby(placed["group"], sort=False).any()
    groups["unit"] = np.where(known, "nm", "px")
    if not (keys or len(groups)):  # nothing is stored; the session is a group all the same
        groups = pd.DataFrame({"group": [0], "unit": [Statistics().unit]})
    rows = _each_once(placed, particles, by=by, weighted=weighted)
    return Counted(groups, rows.sort_values("group", ignore_index=True))


def describe_groups(
    counted: Counted,
    *,
    calibration_percent: float = 0.0,
    relative_width: float = RELATIVE_WIDTH,
) -> pd.DataFrame:
    """One row per group: what it is of, then its `nanostream.records.Statistics`.

    Parameters are those of `nanostream.particles.populations.describe`.
    """
    groups, rows = counted
    # Slices of arrays: tables in their place take four times as long for thousands of sections.
    edge, weight = rows["edge"].to_numpy(bool), rows["weight"].to_numpy()
    sizes = {unit: rows[unit].to_numpy() for unit in ("px", "nm")}
    ends = np.searchsorted(rows["group"], groups["group"], side="right")
    starts = np.searchsorted(rows["group"], groups["group"], side="left")
    numbers = []
    for start, end, unit in zip(starts, ends, groups["unit"], strict=True):
        cut = edge[start:end]
        described = describe(
            sizes[unit][start:end][~cut],
            unit,
            edge=int(cut.sum()),
            weights=weight[start:end][~cut],
            calibration_percent=calibration_percent,
            relative_width=relative_width,
        )
        numbers.append(msgspec.structs.asdict(described))
    table = pd.DataFrame(numbers, columns=[*Statistics.__struct_fields__])
    return pd.concat([groups.drop(columns=["group", "unit"]), table], axis="columns")


def timed(sections: pd.DataFrame, *, by_file: bool = False) -> pd.DataFrame:
    """The table of a session's sections with ``file``, ``frame`` and ``time_s`` (POSIX).

    Times are of one clock: of the acquisition, of writing, or of storing, whichever is the first
    that every section has.

    Parameters
    ----------
    sections : DataFrame
        Of a session.
    by_file : bool
        Whether each file has a clock of its own: then times are compared within a file only.
    """
    file = sections["section"].str.rsplit("#", n=1).str[0]
    acquired = sections["acquired"] if "acquired" in sections else pd.Series(None, sections.index)
    # ISO 8601 without a zone: differences alone matter.
    when = pd.to_datetime(acquired, format="ISO8601", errors="coerce")
    seconds = (when - pd.Timestamp(0)) / pd.Timedelta(1, "s")
    one_clock = file if by_file else pd.Series(0, sections.index)
    time_s = sections["stored_s"]
    for clock in (sections["written_s"], seconds):
        time_s = clock.where(clock.notna().groupby(one_clock).transform("all"), time_s)
    return sections.assign(file=file, frame=sections["z"], time_s=time_s.astype(np.float64))


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
    """Rows of `Counted.particles`."""
    names = ["section", "file", "stream", "group", "height_px", "width_px"]
    rows = particles.merge(placed[names], on="section")
    rows["edge"] = rows["touches_edge"].astype(bool)
    rows["px"], rows["nm"] = known_sizes(rows["px"]), known_sizes(rows["nm"])
    rows["weight"] = 1.0
    if weighted:
        rows.loc[~rows["edge"], "weight"] = _weights(rows[~rows["edge"]])
    wanted = ["group", "edge", "px", "nm", "weight", "shape_class"]
    movies = rows["stream"].notna()
    if by == "section" or not movies.any():
        return rows[wanted]
    by_track = ["group", "file", "track"]
    tracks = rows[movies & rows["track"].notna()]
    # A median leaves out what is not there: a track that was never whole has none.
    sizes = ["px", "nm", "weight"]
    each = tracks[by_track].join(tracks[sizes].where(~tracks["edge"])).groupby(by_track).median()
    each["edge"] = tracks.groupby(by_track)["edge"].all()
    each["shape_class"] = _commonest(tracks[~tracks["edge"]], by_track)
    return pd.concat([rows.loc[~movies, wanted], each.reset_index()[wanted]])


def _commonest(whole: pd.DataFrame, by_track: list[str]) -> pd.Series[str]:
    """Shape class that most frames of a track have, of several the first by name."""
    frames = whole.groupby([*by_track, "shape_class"]).size().reset_index(name="frames")
    most = frames.sort_values("frames", ascending=False, kind="stable").drop_duplicates(by_track)
    return most.set_index(by_track)["shape_class"]


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

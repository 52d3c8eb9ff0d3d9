"""Tables, numbers and texts of a session's report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nanostream.records import SHAPE_CLASSES, UNCLASSIFIED
from nanostream.results.populations import describe_groups, timed
from nanostream.results.session import Session

__all__ = ["Content", "collect"]

#: Groups, sections and events that a table of the page shows.
_MOST_ROWS = 200
_PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, kw_only=True)
class Content:
    """All that a report shows, except pictures.

    Attributes
    ----------
    folder : str
        Of the session.
    made : str
        When the report was made, in local time with its offset.
    counts : dict
        Sections stored, quarantined, warned; particles found.
    statistics : DataFrame
        `Statistics` of the session, then of each file if there are several.
    sizes : ndarray of float
        Of each particle that does not touch the edge, of a movie's each once, in `unit`.
    unit : str
        "nm", or "px" where no pixel size is known.
    classes : dict
        Number of particles of each shape class.
    series : DataFrame
        One row per section: ``section, time_s`` (since the first), ``count, median, area_percent,
        stage_x_um, stage_y_um``.
    settings, versions : dict
        What the results were made with; several values of one name are separated by commas.
    latencies : DataFrame
        Percentiles of each step's seconds.
    alarms, events, quarantine, warnings, tracks : DataFrame
        The newest rows of each.
    """

    folder: str
    made: str
    counts: dict[str, int]
    statistics: pd.DataFrame
    sizes: NDArray[np.float64]
    unit: str
    classes: dict[str, int]
    series: pd.DataFrame
    settings: dict[str, str]
    versions: dict[str, str]
    latencies: pd.DataFrame
    alarms: pd.DataFrame
    events: pd.DataFrame
    quarantine: pd.DataFrame
    warnings: pd.DataFrame
    tracks: pd.DataFrame


def collect(session: Session) -> Content:
    """Content of a session's report, as it is stored now."""
    sections, particles = session.sections, session.particles
    quarantine = session.quarantine
    counts = {
        "sections": len(sections),
        "quarantined": len(quarantine),
        "warned": int((sections["warning"] != "").sum()),
        "particles": len(particles),
    }
    counted = session.counted()
    unit = str(counted.groups["unit"].iloc[0])
    whole = counted.particles[~counted.particles["edge"]]
    tables = [describe_groups(counted).assign(of="session")]
    if sections["path"].nunique() > 1:
        each = session.populations("stream")
        tables.append(each.assign(of=each["file"]).head(_MOST_ROWS))
    events, alarms = session.events, session.alarms
    return Content(
        folder=str(session.folder.resolve()),
        made=datetime.now(UTC).astimezone().isoformat(sep=" ", timespec="seconds"),
        counts=counts,
        statistics=pd.concat(tables, ignore_index=True),
        sizes=whole[unit].dropna().to_numpy(np.float64),
        unit=unit,
        classes={
            name: int((whole["shape_class"] == name).sum())
            for name in (*SHAPE_CLASSES, UNCLASSIFIED)
        },
        series=_series(sections, unit),
        settings=_settings(sections),
        versions=_versions(sections),
        latencies=_latencies(sections),
        alarms=_dated(alarms, "since_s", "cleared_s"),
        events=_dated(events.tail(_MOST_ROWS), "time_s").drop(columns=["source", "number"]),
        quarantine=_dated(quarantine.head(_MOST_ROWS), "time_s"),
        warnings=sections.loc[sections["warning"] != "", ["section", "warning"]].head(_MOST_ROWS),
        tracks=_tracks(session.tracks, unit),
    )


def _series(sections: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Quantities of each section over the time since the first."""
    placed = timed(sections)
    unknown = pd.Series(np.nan, placed.index)
    table = pd.DataFrame(
        {
            "section": placed["section"],
            "time_s": placed["time_s"] - placed["time_s"].min(),
            "count": placed["count"],
            "median": placed[f"median_diameter_{unit}"],
            "area_percent": 100 * placed["area_fraction"],
            "stage_x_um": placed.get("stage_x_um", unknown),
            "stage_y_um": placed.get("stage_y_um", unknown),
        }
    )
    return table.sort_values("time_s", kind="stable", ignore_index=True)


def _settings(sections: pd.DataFrame) -> dict[str, str]:
    names = {
        "model": "model",
        "model_sha256": "its weights (SHA-256)",
        "threshold": "probability threshold",
        "pixel_size_nm": "pixel size, nm",
        "pixel_size_source": "its source",
        "magnification": "magnification",
        "voltage_kv": "voltage, kV",
    }
    return {shown: _several(sections[name]) for name, shown in names.items() if name in sections}


def _versions(sections: pd.DataFrame) -> dict[str, str]:
    names = [name for name in map(str, sections) if name.startswith("version_")]
    return {name.removeprefix("version_"): _several(sections[name]) for name in names}


def _several(values: pd.Series) -> str:
    """Distinct values of a column, the first four."""
    known = [f"{v:.6g}" if isinstance(v, float) else str(v) for v in values.dropna().unique()]
    known = list(dict.fromkeys(text for text in known if text))
    more = f" and {len(known) - 4} more" if len(known) > 4 else ""
    return ", ".join(known[:4]) + more or "not known"


def _latencies(sections: pd.DataFrame) -> pd.DataFrame:
    """Percentiles of the time from a written section to its stored result, and of the steps."""
    waited = sections["stored_s"] - sections["written_s"]
    steps = {"written to stored": waited[waited >= 0]}
    for name, shown in (
        ("wait_s", "waiting"),
        ("read_s", "reading"),
        ("filter_s", "filtering"),
        ("predict_s", "predicting"),
        ("label_s", "labelling"),
        ("measure_s", "measuring"),
    ):
        if name in sections:
            steps[shown] = sections[name]
    rows = [
        {"step": step, **{f"{p} %": _percentile(values, p) for p in _PERCENTILES}}
        for step, values in steps.items()
    ]
    return pd.DataFrame(rows)


def _percentile(values: pd.Series, percent: int) -> float:
    known = values.dropna()
    return float(np.percentile(known, percent)) if len(known) else math.nan


def _dated(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """POSIX times as local ones."""
    shown = table.copy()
    for column in columns:
        shown[column] = [
            "" if math.isnan(time_s) else datetime.fromtimestamp(time_s).strftime("%F %T")
            for time_s in table[column].astype(float)
        ]
    return shown.rename(columns={c: c.removesuffix("_s") for c in columns})


def _tracks(tracks: pd.DataFrame, unit: str) -> pd.DataFrame:
    """The longest tracks of movies, with their first and last frame and change of size."""
    if tracks.empty:
        return pd.DataFrame()
    size = f"diameter_{unit}"
    each = tracks.sort_values("frame").groupby(["file", "particle"])
    table = each.agg(
        frames=("frame", "size"), first=("frame", "first"), last=("frame", "last"),
        size_first=(size, "first"), size_last=(size, "last"),
    )  # fmt: skip
    return table.nlargest(20, "frames").reset_index()

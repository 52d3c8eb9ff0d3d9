"""Tracks of a session as graphs in geff, the exchange format of trackers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nanostream.results.exports.movies import movies
from nanostream.results.exports.targets import Target
from nanostream.results.session import Session

__all__ = ["write_graphs"]

#: Columns of ``tracks`` that are kept of each particle, and their names in the graph.
_PROPERTIES = {
    "t": "frame",
    "y": "y",
    "x": "x",
    "track": "track",
    "label": "label",
    "diameter_px": "diameter_px",
}


def write_graphs(session: Session, target: Target) -> list[Path]:
    """Folders that were written, one per movie: ``gold.mrc.geff``, a Zarr group.

    A node per particle and section, an edge from each to the next of its track, forward in time.
    Positions in px; the axes have the pixel size as their scale where it is known.
    """
    sizes = session.sections.set_index("section")["pixel_size_nm"]
    written = []
    for file, tracks in movies(session, target):
        path, part = target.path(f"{file}.geff"), target.path(f"{file}.geff.part")
        shutil.rmtree(part, ignore_errors=True)  # of an export that was interrupted
        size_nm = float(sizes[tracks["section"].iloc[0]])
        _write(part, tracks.sort_values(["track", "frame"]), pixel_size_nm=size_nm)
        if path.exists():
            shutil.rmtree(path)
        part.replace(path)
        written.append(path)
    return written


def _write(path: Path, tracks: pd.DataFrame, *, pixel_size_nm: float) -> None:
    from geff import GeffMetadata
    from geff.core_io import write_arrays

    scale: dict[str, Any] = {}
    if not np.isnan(pixel_size_nm):
        scale = {"scale": pixel_size_nm, "scaled_unit": "nanometer"}
    space = {"type": "space", "unit": "pixel"} | scale
    axes = [{"name": "t", "type": "time", "unit": "frame"}, {"name": "y"} | space]
    metadata = GeffMetadata.model_validate(
        {
            "directed": True,
            "axes": [*axes, {"name": "x"} | space],
            "track_node_props": {"tracklet": "track", "lineage": "track"},
            "node_props_metadata": {},
            "edge_props_metadata": {},
        }
    )
    write_arrays(
        path,
        node_ids=np.arange(len(tracks), dtype=np.uint64),
        node_props={
            name: {"values": tracks[column].to_numpy(), "missing": None}
            for name, column in _PROPERTIES.items()
        },
        edge_ids=_edges(tracks["track"].to_numpy()),
        edge_props={},
        metadata=metadata,
    )


def _edges(track: NDArray[np.int64]) -> NDArray[np.uint64]:
    """(M, 2) rows that follow each other in a track, in a table that is sorted by it."""
    first = np.flatnonzero(track[:-1] == track[1:])
    return np.stack([first, first + 1], axis=1).astype(np.uint64)

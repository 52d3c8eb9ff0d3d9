"""Layers of napari made of a session, ready to add; napari itself is not needed here.

napari draws row 0 at the top. So an MRC whose pixels are in file order, as `nanostream` and
`mrcfile` give them, lies upside down to SerialEM's display, and masks and tracks fit on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nanostream.errors import SessionError
from nanostream.results.identities import numbered
from nanostream.results.label_stacks import LabelStack, label_stacks

__all__ = ["LayerData", "napari_layers", "tracks_array"]

#: A layer as napari's plugins give it: data, attributes, kind.
LayerData = tuple[Any, dict[str, Any], str]

#: Columns of the table that colour tracks.
_FEATURES = ("diameter_nm", "diameter_px")


def tracks_array(tracks: pd.DataFrame) -> NDArray[np.float64]:
    """(N, 4) track, frame, y, x (px), by track and frame, as napari's layer of tracks wants it.

    Parameters
    ----------
    tracks : DataFrame
        With these columns, sorted by track and frame.
    """
    return tracks[["track", "frame", "y", "x"]].to_numpy(np.float64)


def napari_layers(
    sections: pd.DataFrame,
    tracks: pd.DataFrame,
    read: Callable[[str], NDArray[np.int32]],
    *,
    file: str | None = None,
) -> list[LayerData]:
    """The masks of each file and the tracks of each movie, as layers for napari.

    Parameters
    ----------
    sections, tracks : DataFrame
        Of a session.
    read : callable
        Gives the mask of a section by its name.
    file : str, optional
        One of the column ``file`` of its particles; by default all are taken.

    Returns
    -------
    list of (data, attributes, kind)
        "labels": a stack of masks that is read as it is shown. "tracks": (N, 4) id, t, y, x. The
        colour of a particle in the masks lasts like its track, they have one number.

    Raises
    ------
    SessionError
        If there is no such file.
    """
    with_numbers = numbered(tracks).sort_values(["track", "frame"])
    stacks = label_stacks(sections, with_numbers, read)
    files = [stack.file for stack in stacks]
    if file is not None and file not in files:
        there = f"there is {', '.join(files[:5])}" if files else "nothing is stored yet"
        msg = f"no file {file} in this session; {there}"
        raise SessionError(msg)
    layers: list[LayerData] = []
    for stack in stacks:
        if file in (None, stack.file):
            layers.append(_labels(stack))
            of_file = with_numbers[with_numbers["file"] == stack.file]
            if not of_file.empty:
                layers.append(_tracks(of_file, stack))
    return layers


def _labels(stack: LabelStack) -> LayerData:
    return stack, {"name": f"{stack.file} particles", "metadata": _metadata(stack)}, "labels"


def _tracks(tracks: pd.DataFrame, stack: LabelStack) -> LayerData:
    features = {name: tracks[name].to_numpy() for name in _FEATURES if tracks[name].notna().all()}
    attributes = {
        "name": f"{stack.file} tracks",
        "features": features,
        "metadata": _metadata(stack),
    }
    return tracks_array(tracks), attributes, "tracks"


def _metadata(stack: LabelStack) -> dict[str, Any]:
    return {"file": stack.file, "pixel_size_nm": stack.pixel_size_nm}

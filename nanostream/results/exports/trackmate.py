"""Tracks of a session as the table of spots that TrackMate exports."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from nanostream.results.exports.movies import movies
from nanostream.results.exports.targets import Target
from nanostream.results.session import Session

__all__ = ["write_spots"]


class _Feature(NamedTuple):
    """A column: the four lines of its head. Of the unit, what stands for a length in nm or px."""

    key: str
    name: str
    short: str
    unit: str = ""


#: Keys, names and units as TrackMate 7 writes them; L stands for the unit of lengths.
_FEATURES = (
    _Feature("LABEL", "Label", "Label"),
    _Feature("ID", "Spot ID", "Spot ID"),
    _Feature("TRACK_ID", "Track ID", "Track ID"),
    _Feature("QUALITY", "Quality", "Quality", "(quality)"),
    _Feature("POSITION_X", "X", "X", "(L)"),
    _Feature("POSITION_Y", "Y", "Y", "(L)"),
    _Feature("POSITION_Z", "Z", "Z", "(L)"),
    _Feature("POSITION_T", "T", "T", "(frame)"),
    _Feature("FRAME", "Frame", "Frame"),
    _Feature("RADIUS", "Radius", "R", "(L)"),
    _Feature("VISIBILITY", "Visibility", "Visibility"),
    _Feature("MANUAL_SPOT_COLOR", "Manual spot color", "Spot color"),
    _Feature("MEAN_INTENSITY_CH1", "Mean intensity ch1", "Mean ch1", "(counts)"),
    _Feature("STD_INTENSITY_CH1", "Std intensity ch1", "Std ch1", "(counts)"),
    _Feature("AREA", "Area", "Area", "(L^2)"),
    _Feature("PERIMETER", "Perimeter", "Perim.", "(L)"),
    _Feature("CIRCULARITY", "Circularity", "Circ."),
    _Feature("SOLIDITY", "Solidity", "Solidity"),
)

#: Columns of ``particles`` that the features are made of.
_MEASURES = (
    *("x_nm", "y_nm", "mean_probability", "mean_intensity", "sd_intensity", "area_px", "area_nm2"),
    *("perimeter_px", "perimeter_nm", "circularity", "solidity"),
)


def write_spots(session: Session, target: Target) -> list[Path]:
    """Files that were written, one per movie: ``gold.mrc_spots.csv``.

    Four lines of head: key, name, short name, unit. Lengths are in nm where every section of the
    movie has its pixel size, else in pixels; the centre of the first pixel is 0, 0.
    """
    written = []
    for file, spots in movies(session, target, _MEASURES):
        with target.whole(f"{file}_spots.csv") as path:
            _write(path, spots)
        written.append(target.path(f"{file}_spots.csv"))
    return written


def _write(path: Path, spots: pd.DataFrame) -> None:
    in_nm = bool(spots["x_nm"].notna().all())
    unit = "nm" if in_nm else "pixel"
    end = "_nm" if in_nm else "_px"
    columns = {
        "LABEL": "ID" + spots.index.astype(str),
        "ID": spots.index,
        "TRACK_ID": spots["track"],
        "QUALITY": spots["mean_probability"],
        "POSITION_X": spots["x_nm" if in_nm else "x"],
        "POSITION_Y": spots["y_nm" if in_nm else "y"],
        "POSITION_Z": 0.0,
        "POSITION_T": spots["frame"].astype(float),
        "FRAME": spots["frame"],
        "RADIUS": spots[f"diameter{end}"] / 2,
        "VISIBILITY": 1,
        "MANUAL_SPOT_COLOR": "",
        "MEAN_INTENSITY_CH1": spots["mean_intensity"],
        "STD_INTENSITY_CH1": spots["sd_intensity"],
        "AREA": spots["area_nm2" if in_nm else "area_px"],
        "PERIMETER": spots[f"perimeter{end}"],
        "CIRCULARITY": spots["circularity"],
        "SOLIDITY": spots["solidity"],
    }
    table = pd.DataFrame(columns)[[feature.key for feature in _FEATURES]]
    with path.open("w", encoding="utf-8", newline="") as file:
        for line in zip(*_FEATURES, strict=True):
            file.write(f"{','.join(line)}\n".replace("(L", f"({unit}"))
        table.to_csv(file, index=False, header=False, lineterminator="\n")

"""Measures of TrackMate's own test image beside those of TrackMate, each difference by its cause.

::

    python scripts/compare_trackmate.py ../shared/data/trackmate

The folder has ``LabelImage.tif`` and ``LabelImage.xml``, the objects that TrackMate made of it; an
object's mean intensity is its label. TrackMate measures a polygon along the corners of pixels. For
every measure the table has the median and the extremes of the quotient with TrackMate's, and the
same for a value computed from the pixels by TrackMate's own definition: where that is 1, the
definition is all that differs. Of an object in several pieces TrackMate keeps the largest. Exit
code 1 if an object of one piece differs by its own definition.
"""

from __future__ import annotations

import argparse
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import tifffile

from nanostream.particles.measures import measure_particles
from nanostream.particles.runs import Runs, runs_of
from nanostream.particles.shapes import hulls

CORNERS = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
#: Largest difference of a value by TrackMate's definition from TrackMate's.
TOLERANCE = 0.005


def trackmate(path: Path) -> pd.DataFrame:
    """One row per object, by its label; of the ellipse of its polygon's corners, too."""
    rows = []
    for spot in ET.parse(path).iter("Spot"):
        known = {name: float(spot.attrib[name]) for name in spot.attrib if name != "name"}
        polygon = np.array((spot.text or "").split(), np.float32).reshape(-1, 2)
        (_, axes, _) = cv2.fitEllipseDirect(polygon) if len(polygon) >= 5 else (0, (0, 0), 0)
        known |= {"fit_minor": min(axes) / 2, "fit_major": max(axes) / 2}
        rows.append(known)
    table = pd.DataFrame(rows)
    table["label"] = table["MEAN_INTENSITY_CH1"].round().astype(int)
    return table.set_index("label")


def by_their_definition(runs: Runs) -> pd.DataFrame:
    """Perimeter along the corners of pixels, and the hull of the corners."""
    area = runs.total(runs.length)
    rows = runs.total(np.ones_like(runs.row))
    below = _same_below(runs)
    perimeter = 2 * (rows + (area - below))
    return pd.DataFrame(
        {
            "PERIMETER": perimeter,
            "CIRCULARITY": 4 * np.pi * area / perimeter**2,
            "SOLIDITY": area / hulls(runs, CORNERS).area_px,
            "AREA": area,
        },
        index=runs.label,
    )


def _same_below(runs: Runs) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Pixels of each particle that have one of it below."""
    labels = np.zeros(runs.shape, np.int64)
    for owner, row, left, right in zip(runs.owner, runs.row, runs.left, runs.right, strict=True):
        labels[row, left:right] = owner + 1
    same = labels[:-1][(labels[:-1] == labels[1:]) & (labels[1:] > 0)]
    return np.bincount(same, minlength=runs.label.size + 1)[1:]


def quotients(ours: pd.Series, theirs: pd.Series) -> str:
    ratio = (ours / theirs).dropna()
    return f"{ratio.median():.4f} ({ratio.min():.3f} to {ratio.max():.3f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    labels = tifffile.imread(folder / "LabelImage.tif").astype(np.int32)
    ones = np.ones(labels.shape, np.float32)
    table = measure_particles(labels, labels, ones, pixel_size_nm=None).set_index("label")
    theirs = trackmate(folder / "LabelImage.xml")
    same = by_their_definition(runs_of(labels)).reindex(theirs.index)
    ours = table.reindex(theirs.index)
    print(
        f"{len(theirs)} objects of TrackMate, {len(table)} labels, {ours['x'].notna().sum()} shared"
    )
    apart = np.hypot(ours["x"] - theirs["POSITION_X"], ours["y"] - theirs["POSITION_Y"])
    print(f"centroids: {np.median(apart):.4f} px apart, at most {np.max(apart):.4f}")
    rows = [
        ("area", ours["area_px"], theirs["AREA"], same["AREA"]),
        ("radius", ours["diameter_px"] / 2, theirs["RADIUS"], None),
        ("perimeter", ours["perimeter_px"], theirs["PERIMETER"], same["PERIMETER"]),
        ("circularity", ours["circularity"], theirs["CIRCULARITY"], same["CIRCULARITY"]),
        ("solidity", ours["solidity"], theirs["SOLIDITY"], same["SOLIDITY"]),
        ("major axis", ours["major_px"] / 2, theirs["ELLIPSE_MAJOR"], theirs["fit_major"]),
        ("minor axis", ours["minor_px"] / 2, theirs["ELLIPSE_MINOR"], theirs["fit_minor"]),
    ]
    for name, mine, other, rebuilt in rows:
        again = "" if rebuilt is None else f"; by their definition {quotients(rebuilt, other)}"
        print(f"{name}: ours / theirs {quotients(mine, other)}{again}")
    off = pd.concat([same[name] / theirs[name] - 1 for name in same], axis=1).abs().max(axis=1)
    pieces = {
        label: cv2.connectedComponents((labels == label).astype(np.uint8), connectivity=4)[0] - 1
        for label in off[off > TOLERANCE].index
    }
    for label, number in pieces.items():
        print(f"label {label} is off by {off[label]:.3f}: it is in {number} pieces")
    return int(any(number == 1 for number in pieces.values()))


if __name__ == "__main__":
    sys.exit(main())

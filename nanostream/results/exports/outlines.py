"""Outlines of particles as polygons along the edges of their pixels."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from nanostream.particles.runs import runs_of

__all__ = ["outlines"]

#: OpenCV's contour runs through the centres of pixels. On pixels cut into 3 x 3 each corner of a
#: pixel has a part of its own, which tells which corner is meant.
_PARTS = 3


def outlines(labels: NDArray[np.int32]) -> Iterator[tuple[int, list[NDArray[np.int64]]]]:
    """Label and polygons of each particle of a mask, by label.

    Parameters
    ----------
    labels : (H, W) int32
        0 is background.

    Yields
    ------
    int, list of (n, 2) int64
        The particle's label and the corners x, y of its outline, in px from the corner of the
        first pixel, so that the centre of that pixel is 0.5, 0.5. A particle in several pieces, the
        largest first, has a polygon for each; pixels that touch by a corner are one piece. Holes
        are not told.

    Examples
    --------
    >>> _, (square,) = next(outlines(np.array([[0, 0, 0], [0, 1, 1]], np.int32)))
    >>> sorted(map(tuple, square.tolist()))
    [(1, 1), (1, 2), (3, 1), (3, 2)]
    """
    runs = runs_of(labels)
    tops, bottoms = runs.least(runs.row), runs.greatest(runs.row) + 1
    lefts, rights = runs.least(runs.left), runs.greatest(runs.right)
    for label, top, bottom, left, right in zip(
        runs.label.tolist(), tops, bottoms, lefts, rights, strict=True
    ):
        particle = (labels[top:bottom, left:right] == label).astype(np.uint8)
        polygons = [polygon + np.array([left, top]) for polygon in _polygons(particle)]
        yield label, sorted(polygons, key=lambda one: -np.ptp(one, axis=0).prod())


def _polygons(particle: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    fine = particle.repeat(_PARTS, axis=0).repeat(_PARTS, axis=1)
    contours, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    polygons = []
    for contour in contours:
        points = contour.reshape(-1, 2).astype(np.int64)
        points = points[(points % _PARTS != 1).all(axis=1)]  # no corner of a pixel
        corners = (points + 1) // _PARTS
        polygons.append(_without_repeats(corners))
    return polygons


def _without_repeats(corners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Corners of a closed polygon without doubles and without those within a straight side."""
    corners = corners[(corners != np.roll(corners, 1, axis=0)).any(axis=1)]
    before, after = corners - np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0) - corners
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return np.asarray(corners[turns], np.int64)

"""Stripes of a camera, which look like lattice fringes along its rows or columns."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

__all__ = ["Stripes", "striped"]

Floats = NDArray[np.float64]

#: A row or column of a section's spectrum with so many times the power of its neighbours: stripes.
_STRIPED = 4.0
#: Values in a range of frequencies that stripes stand out in.
_RANGE = 24


class Stripes(NamedTuple):
    """Whether a camera's rows, or columns, differ from one to the next all across the section."""

    rows: bool
    columns: bool


def striped(pixels: NDArray[Any]) -> Stripes:
    """Whether the camera draws stripes: as sharp as lattice fringes, and along its rows or columns.

    Parameters
    ----------
    pixels : (H, W) any number
        The whole section.

    Notes
    -----
    The power along the axes of its spectrum is compared with that beside them. A crystal adds to
    few frequencies, stripes to many, so that medians over ranges of frequencies count.
    """
    values = np.nan_to_num(np.asarray(pixels, np.float64))
    height, width = values.shape
    if min(height, width) < 32:
        return Stripes(rows=False, columns=False)
    window = np.outer(np.hanning(height), np.hanning(width))
    power = np.abs(fft.rfft2((values - values.mean()) * window)) ** 2 + 1e-30
    across = power[:, width // 16 : -1]  # frequencies along x, 0 along y in the first row
    along = power[height // 16 : height // 2]
    return Stripes(
        rows=_outstanding(along[:, 0], along[:, 3:9].mean(axis=1)),
        columns=_outstanding(across[0], across[3:9].mean(axis=0)),
    )


def _outstanding(axis: Floats, beside: Floats) -> bool:
    """Whether the power on an axis is above that beside it in any range of frequencies."""
    ranges = np.array_split(axis / beside, max(1, axis.size // _RANGE))
    # Of exponential values the median is ln 2.
    return max(float(np.median(part)) for part in ranges) > _STRIPED * math.log(2)

"""Power of amorphous matter beneath the peaks of a spectrum.

What is amorphous gives speckle: its power at each frequency is distributed exponentially about a
mean that changes smoothly, but for the Thon rings of the lens, with frequency and, where the lens
is astigmatic, with direction. So the background is a median along the ring, and along a part of it.

References
----------
Thon, F. Zur Defokussierungsabhängigkeit des Phasenkontrastes bei der elektronenmikroskopischen
Abbildung. Zeitschrift für Naturforschung A 21, 476 (1966). https://doi.org/10.1515/zna-1966-0417
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nanostream.particles.spectra import Band, Spectrum

__all__ = ["Background", "background"]

Floats = NDArray[np.float64]

#: Mean power of amorphous matter at rows and columns of a spectrum, one value for each pair.
Background = Callable[[NDArray[np.int64], NDArray[np.int64]], Floats]

#: Directions in which a spectrum is looked at, over half a turn; there is a part of a ring for each
#: so many of them.
_DIRECTIONS, _EVERY = 90, 5

#: A part of a ring is 60 degrees long, or so many widths of a peak to both sides if that is more:
#: of a short one the peak itself would be the greater half.
_PART, _PART_WIDTHS = math.radians(30), 5


def background(spectrum: Spectrum, band: Band) -> Background:
    """Mean power of amorphous matter in a spectrum, as a function of rows and columns.

    Parameters
    ----------
    spectrum : Spectrum
    band : Band
        Spacings in whose range the mean is asked for.

    Notes
    -----
    The median of exponential values is ln 2 of their mean. Of those along the ring and along a part
    of it the greater counts: the first is surer, the second follows an elliptical Thon ring.
    """
    step = 0.5 * spectrum.width_per_nm
    radii = np.arange(1.0 / band.largest_nm - 2 * step, 1.0 / band.smallest_nm + 2 * step, step)
    angles = np.arange(_DIRECTIONS) * (np.pi / _DIRECTIONS)
    middle = len(spectrum.power) // 2
    along = radii[:, None] / spectrum.step_per_nm
    polar = ndimage.map_coordinates(
        spectrum.power,
        [middle + along * np.sin(angles), middle + along * np.cos(angles)],
        order=1,
        mode="nearest",
    )
    ring = np.median(_windows(polar, 1, 0)[:, :1], axis=(2, 3))
    half = max(_PART, _PART_WIDTHS * spectrum.width_per_nm / float(np.mean(radii)))
    side = min(math.ceil(half * _DIRECTIONS / np.pi), _DIRECTIONS // 2 - 1)
    part = np.median(_windows(polar, 2, side)[:, ::_EVERY], axis=(2, 3))
    mean = np.maximum(part, ring) / math.log(2)

    # A turn by half is the same spectrum: the first part follows the last.
    def at(y: NDArray[np.int64], x: NDArray[np.int64]) -> Floats:
        radius = np.hypot(y - middle, x - middle) * spectrum.step_per_nm
        turn = np.arctan2(y - middle, x - middle) % np.pi * (_DIRECTIONS / np.pi / _EVERY)
        return np.asarray(
            ndimage.map_coordinates(
                mean, [(radius - radii[0]) / step, turn], order=1, mode="grid-wrap"
            ),
            np.float64,
        )

    return at


def _windows(polar: Floats, rings: int, directions: int) -> Floats:
    """Neighbours of each value: rings and directions to both sides, or all directions if 0."""
    rows = np.pad(polar, ((rings, rings), (0, 0)), mode="edge")
    across = 2 * directions + 1 if directions else polar.shape[1]
    if directions:
        rows = np.pad(rows, ((0, 0), (directions, directions)), mode="wrap")
    return np.lib.stride_tricks.sliding_window_view(rows, (2 * rings + 1, across))

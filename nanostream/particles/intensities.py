"""Grey values and probabilities of particles: in each, and beside the ring around it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanostream.particles.runs import Runs
from nanostream.particles.shapes import Hulls

__all__ = ["Inside", "Rings", "inside", "rings"]

# Sums over pixels are taken over bands of so many pixels: their float64 copy stays at 8 MB.
_BAND_PX = 1 << 20

#: Distances outside of the hull, in px. Nearer the outline is blurred, and the mask may be off.
_RING_PX = (2.0, 3.0, 4.0, 5.0)

#: Places along the hull, at equal distances.
_RING_PLACES = 32

#: Share of the ring's values that is left out at each end.
_TRIMMED = 0.1

#: Standard deviation of a normal distribution over that of its middle 80 %: with z = 1.2816 of the
#: 90th percentile, (1 - 2 z phi(z) / 0.8) ** -0.5.
_WHOLE_OVER_TRIMMED = 1.5115

#: Fewer values than this say nothing about the ring's spread.
_LEAST_RING = 16


class Inside(NamedTuple):
    """Values of the pixels of each particle, (n,) float64.

    Attributes
    ----------
    mean_intensity, sd_intensity
        Of the micrograph, in its own units.
    mean_probability, min_probability
        Of the particle class.
    """

    mean_intensity: NDArray[np.float64]
    sd_intensity: NDArray[np.float64]
    mean_probability: NDArray[np.float64]
    min_probability: NDArray[np.float64]


class Rings(NamedTuple):
    """Background around each particle, (n,) float64; NaN where too little of it is seen.

    Attributes
    ----------
    mean, sd
        Of the middle 80 % of its values; `sd` is scaled to that of a normal distribution.
    """

    mean: NDArray[np.float64]
    sd: NDArray[np.float64]


def inside(runs: Runs, image: NDArray[Any], probability: NDArray[np.floating]) -> Inside:
    """Mean and spread of the micrograph and of the probability in each particle.

    Parameters
    ----------
    image, probability : (H, W)
    """
    area = runs.total(runs.length)
    flat_image, flat_probability = image.reshape(-1), probability.reshape(-1)
    start, length = runs.start, runs.length
    # Deviations from one of the particle's own pixels: squares of large values lose their digits.
    origin = flat_image[start[runs.order[runs.first]]].astype(np.float64)
    origin[~np.isfinite(origin)] = 0.0
    deviation, square, chance, least = (np.zeros(start.size) for _ in range(4))
    done = np.cumsum(length)
    bands = np.flatnonzero(np.diff(done // _BAND_PX, prepend=-1))
    # Pixels that are infinite give what arithmetic gives.
    with np.errstate(invalid="ignore", over="ignore"):
        for low, high in pairwise(np.append(bands, start.size)):
            some = slice(low, high)
            before = np.cumsum(length[some]) - length[some]
            pixel = np.arange(length[some].sum())
            pixel += np.repeat(start[some] - before, length[some])
            values = flat_image[pixel].astype(np.float64)
            values -= np.repeat(origin[runs.owner[some]], length[some])
            deviation[some] = np.add.reduceat(values, before)
            values *= values
            square[some] = np.add.reduceat(values, before)
            chances = flat_probability[pixel]
            least[some] = np.minimum.reduceat(chances, before)
            chance[some] = np.add.reduceat(chances.astype(np.float64), before)
        mean = runs.total(deviation) / area
        spread = np.sqrt(np.maximum(runs.total(square) / area - mean * mean, 0.0))
    return Inside(origin + mean, spread, runs.total(chance) / area, runs.least(least))


def rings(found: Hulls, labels: NDArray[np.integer], image: NDArray[Any]) -> Rings:
    """Background in a ring around the convex hull of each particle.

    Notes
    -----
    128 values: at 32 places along the hull, 2, 3, 4 and 5 px outside of it. Those that lie in a
    particle or beyond the micrograph are left out, then the least and the greatest tenth of the
    rest: a bright fringe or a particle that the mask lacks does not count. With fewer than 16
    values there is no ring. A median absolute deviation would be 0 for a dim micrograph, whose
    counts are few and equal.
    """
    x, y = _around(found)
    height, width = labels.shape
    seen = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    pixel = np.where(seen, y * width + x, 0)
    values = image.reshape(-1)[pixel].astype(np.float64)
    seen &= (labels.reshape(-1)[pixel] == 0) & np.isfinite(values)
    values[~seen] = np.inf
    values.sort(axis=1)
    count = seen.sum(axis=1)
    cut = (count * _TRIMMED).astype(np.int64)
    place = np.arange(values.shape[1])
    kept = (place >= cut[:, None]) & (place < (count - cut)[:, None])
    number = np.maximum(kept.sum(axis=1), 1)
    mean = np.where(kept, values, 0.0).sum(axis=1) / number
    deviation = np.where(kept, values - mean[:, None], 0.0)
    sd = _WHOLE_OVER_TRIMMED * np.sqrt((deviation * deviation).sum(axis=1) / number)
    enough = count >= _LEAST_RING
    return Rings(np.where(enough, mean, np.nan), np.where(enough, sd, np.nan))


def _around(found: Hulls) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Columns and rows (n, 128) of the pixels of each ring."""
    edges = found.edges / 2.0
    length = np.hypot(edges[:, 0], edges[:, 1])
    done = np.cumsum(length)
    counts = found.counts
    end = done[found.first + counts - 1]
    share = (np.arange(_RING_PLACES) + 0.5) / _RING_PLACES
    along = (end - found.perimeter_px)[:, None] + found.perimeter_px[:, None] * share
    edge = np.searchsorted(done, along.reshape(-1), side="right").reshape(along.shape)
    last = found.first + counts - 1
    edge = np.clip(edge, found.first[:, None], last[:, None])
    part = (along - (done - length)[edge]) / length[edge]
    # Seen along an edge, the hull lies on one side: outside is where the area's sign says.
    outwards = np.stack([edges[:, 1], -edges[:, 0]], axis=1) / length[:, None]
    outwards *= found.turn[np.repeat(np.arange(counts.size), counts), None]
    points = []
    for axis in range(2):
        on_hull = found.vertices[edge, axis] / 2.0 + part * edges[edge, axis]
        away = outwards[edge, axis][:, :, None] * np.array(_RING_PX)
        points.append(
            np.rint(on_hull[:, :, None] + away)
            .astype(np.int64)
            .reshape(len(edge), _RING_PLACES * len(_RING_PX))
        )
    return points[0], points[1]

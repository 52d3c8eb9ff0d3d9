"""Touching particles apart: one label for each, from regions of a mask.

::

    fill_dark_holes     regions, image  -> regions without their dark holes
    separate            regions, depth  -> labels of single particles, and which of them were split

A network with two outputs says how deep in its particle each pixel lies (distance to the outline
over the greatest in that particle). Its hills are the particles: smoothed by a part of the region's
half width, each hill is a particle whose *logarithm* rises enough above the pass to the next.
Without that output the hills are those of the distance to the mask's outline, and only regions
that are not convex are divided.

Hills are found without a priority queue: every pixel points to its highest neighbour, and following
the pointers leads to a summit. Passes between the summits' catchments then say which to merge, from
the highest pass down. That is the watershed by flooding from markers of a least dynamic [1]_ [2]_,
at the price of some passes over the pixels of the mask, on a grid that is coarser the wider the
region is.

References
----------
.. [1] S. Beucher and F. Meyer, "The morphological approach to segmentation: the watershed
   transformation", in Mathematical Morphology in Image Processing (1993).
.. [2] M. Grimaud, "A new measure of contrast: the dynamics", Proc. SPIE 1769 (1992),
   doi:10.1117/12.60650.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from nanostream.segmentation.separation_rule import SeparationRule

__all__ = ["Separated", "fill_dark_holes", "separate"]

#: Logarithms of a depth below this say nothing.
_LEAST_DEPTH = 0.02

#: Regions narrower than this (half width, px) are one particle.
_LEAST_HALF_WIDTH_PX = 2.0

#: On its grid a region is from this to twice this half width wide.
_COARSE_HALF_WIDTH_PX = 4.0

#: Without a learnt depth: least height of a hill on its grid, px; lower ones are the outline's
#: steps.
_LEAST_RISE_PX = 0.75

_LEVELS = 10

_NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


class Separated(NamedTuple):
    """Labels of single particles, and of each whether it was split from another.

    Attributes
    ----------
    labels
        (H, W) int32, 1..n in raster order of the first pixel.
    split
        (n,) bool, for labels 1..n.
    """

    labels: NDArray[np.int32]
    split: NDArray[np.bool_]


def separate(
    labels: NDArray[np.int32],
    depth: NDArray[np.float32] | None = None,
    *,
    rule: SeparationRule | None = None,
) -> Separated:
    """Labels in which touching particles have their own numbers.

    Parameters
    ----------
    labels : (H, W) int32
        Connected regions, 1..n, 0 outside, as `nanostream.segmentation.masks.label_mask` makes
        them.
    depth : (H, W) float32, optional
        Second output of a network, 0 at outlines to 1; without it the distance to the outlines is
        taken.
    rule : SeparationRule, optional
        The default one if not given.

    Returns
    -------
    Separated
        Every pixel that had a label has one.
    """
    rule = rule or SeparationRule()
    pixels = np.flatnonzero(labels)
    if not pixels.size:
        return Separated(labels, np.zeros(0, bool))
    own = labels.reshape(-1)[pixels]
    count = int(own.max())
    mask = (labels > 0).view(np.uint8)
    distance = np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_5), np.float32)
    level_of = _levels(own, distance.reshape(-1)[pixels], count)
    if depth is None:
        level_of[1:][_solidities(labels, count) >= rule.solidity] = -1
    ground = distance if depth is None else depth
    part = np.zeros(pixels.size, np.int32)  # of each pixel; 0 in regions that are not split
    for level in range(int(level_of.max()) + 1):
        here = labels
        if level:
            here = labels[2 ** (level - 1) :: 2**level, 2 ** (level - 1) :: 2**level]
            if not here.size:
                break
            size = (here.shape[1], here.shape[0])
            ground = np.asarray(cv2.resize(ground, size, interpolation=cv2.INTER_AREA))
        if not (level_of == level).any():
            continue
        of_level = level_of[here] == level if level else level_of[own] == level
        on_grid = np.flatnonzero(of_level) if level else pixels[of_level]
        regions = here[of_level] if level else own[of_level]
        hills = _hills(ground, on_grid, regions, level, rule, count=count, learnt=depth is not None)
        if hills is not None:
            chosen = np.flatnonzero(hills.several[own])
            found = _spread(pixels[chosen], own[chosen], labels.shape, hills.number, here, level)
            part[chosen] = found + part.max()
    return _numbered(labels, pixels, own, part)


class _Hills(NamedTuple):
    """Hills on a grid.

    ``number`` (h, w) is 0 outside of these regions; ``several`` (n + 1,) says which regions
    have more than one hill.
    """

    number: NDArray[np.int32]
    several: NDArray[np.bool_]


def _levels(own: NDArray[np.int32], distance: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Halvings (count + 1,) of the grid for each region, by its half width; -1 if too narrow.

    The half width is the greatest distance of a pixel to the outline.
    """
    # By a table of halves of pixels: a logarithm of each pixel would take longer.
    # Where all is particle, OpenCV's distance is the largest number there is.
    halves = (2.0 * np.minimum(distance, 32767.0)).astype(np.uint16)
    width = np.maximum(np.arange(65536) / 2.0, 0.5)
    level = np.floor(np.log2(width / _COARSE_HALF_WIDTH_PX)).clip(0, _LEVELS - 2).astype(np.int64)
    level[width < _LEAST_HALF_WIDTH_PX] = -1
    key = own.astype(np.int64) * _LEVELS + (level + 1)[halves]
    there = np.bincount(key, minlength=(count + 1) * _LEVELS).reshape(-1, _LEVELS) > 0
    highest = np.asarray(_LEVELS - 2 - there[:, ::-1].argmax(axis=1), np.int64)
    highest[0] = -1
    return highest


def _solidities(labels: NDArray[np.int32], count: int) -> NDArray[np.float64]:
    """Part (count,) of its convex hull that each region fills, its holes included."""
    solidity = np.ones(count)
    mask = (labels > 0).astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        hull = cv2.contourArea(cv2.convexHull(outline))
        if hull > 0.0:
            x, y = outline[0, 0]
            solidity[labels[y, x] - 1] = cv2.contourArea(outline) / hull
    return solidity


def _hills(
    ground: NDArray[np.float32],
    pixels: NDArray[np.int64],
    own: NDArray[np.int32],
    level: int,
    rule: SeparationRule,
    *,
    count: int,
    learnt: bool,
) -> _Hills | None:
    """Hills of some regions on their grid; None if none has two.

    Parameters
    ----------
    ground
        (h, w) learnt depth, or distance in pixels of the full grid.
    pixels, own
        Flat indices of the regions' pixels, and their labels.
    level
        Halvings of the grid.
    count
        Of all labels.
    """
    width = ground.shape[1] + 2
    if learnt:
        deviation = rule.smoothing * _COARSE_HALF_WIDTH_PX * math.sqrt(2.0)
        ground = np.asarray(cv2.GaussianBlur(ground, (5, 5), deviation))
    height = ground.reshape(-1)[pixels]
    if learnt:
        height = np.log(np.maximum(height, np.float32(_LEAST_DEPTH)))
    # Zeros of the system's, which cost nothing where nobody looks.
    around = np.zeros((ground.shape[0] + 2) * width, np.int32)
    high = np.empty(around.size, np.float32)
    pixels = pixels + width + 1 + 2 * (pixels // (width - 2))
    around[pixels], high[pixels] = own, height
    tops, hill = _climb(pixels, own, around, high, width)
    regions = np.bincount(own[tops])
    if regions.max() < 2:
        return None
    peaks = height[tops].astype(np.float64)
    rise, least = np.full(len(tops), rule.rise), math.log(rule.least_depth)
    if not learnt:
        greatest = np.zeros(len(regions))
        np.maximum.at(greatest, own[tops], peaks)
        rise = np.maximum(rule.distance_rise * greatest[own[tops]], _LEAST_RISE_PX * 2**level)
        least = 0.0
    passes = _passes(pixels, own, hill, around, high, width)
    leader = _merge(*passes, peaks=peaks, rise=rise, least=least)
    leaders = np.flatnonzero(leader == np.arange(len(leader)))
    several = np.bincount(own[tops[leaders]], minlength=count + 1) > 1
    if not several.any():
        return None
    around[pixels] = leader[hill] + 1
    return _Hills(around.reshape(-1, width)[1:-1, 1:-1], several)


def _climb(
    pixels: NDArray[np.int64],
    own: NDArray[np.int32],
    around: NDArray[np.int32],
    high: NDArray[np.float32],
    width: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which pixels are summits, and the number of the summit that each pixel leads to."""
    best, summit = high[pixels], pixels.copy()
    for dy, dx in _NEIGHBOURS:
        beside = pixels + (dy * width + dx)
        value = np.where(around[beside] == own, high[beside], -np.inf)
        up = value > best
        summit[up], best[up] = beside[up], value[up]
    place = np.empty(around.size, np.int32)
    place[pixels] = np.arange(pixels.size, dtype=np.int32)
    parent = place[summit]
    while True:
        above = parent[parent]
        if (above == parent).all():
            break
        parent = above
    tops = np.flatnonzero(parent == np.arange(pixels.size))
    number = np.empty(pixels.size, np.int64)
    number[tops] = np.arange(len(tops))
    return tops, number[parent]


def _passes(
    pixels: NDArray[np.int64],
    own: NDArray[np.int32],
    hill: NDArray[np.int64],
    around: NDArray[np.int32],
    high: NDArray[np.float32],
    width: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Pairs of hills that touch within a region, and the height of the pass between them."""
    hill_of = np.empty(around.size, np.int32)
    hill_of[pixels] = hill
    keys, levels = [], []
    most = int(hill.max()) + 1
    for dy, dx in _NEIGHBOURS[4:]:
        beside = pixels + (dy * width + dx)
        meets = np.flatnonzero((around[beside] == own) & (hill_of[beside] != hill))
        one, two = hill[meets], hill_of[beside[meets]].astype(np.int64)
        keys.append(np.minimum(one, two) * most + np.maximum(one, two))
        levels.append(np.minimum(high[pixels[meets]], high[beside[meets]]))
    key, level = np.concatenate(keys), np.concatenate(levels)
    order = np.lexsort((-level, key))
    key, level = key[order], level[order]
    first = np.ones(len(key), bool)
    first[1:] = key[1:] != key[:-1]
    return key[first] // most, key[first] % most, level[first]


def _merge(
    low: NDArray[np.int64],
    top: NDArray[np.int64],
    level: NDArray[np.float32],
    *,
    peaks: NDArray[np.float64],
    rise: NDArray[np.float64],
    least: float,
) -> NDArray[np.int64]:
    """Hill (n,) that each hill ends in: over the highest passes first, those too low join."""
    leader = list(range(len(peaks)))
    peak: list[float] = peaks.tolist()

    def leading(hill: int) -> int:
        while leader[hill] != hill:
            leader[hill] = leader[leader[hill]]
            hill = leader[hill]
        return hill

    for k in np.argsort(-level, kind="stable").tolist():
        one, two = leading(int(low[k])), leading(int(top[k]))
        if one == two:
            continue
        if peak[one] < peak[two]:
            one, two = two, one
        if peak[two] - float(level[k]) < rise[two] or peak[two] < least:
            leader[two] = one
    return np.array([leading(hill) for hill in range(len(peaks))], np.int64)


def _spread(
    pixels: NDArray[np.int64],
    own: NDArray[np.int32],
    shape: tuple[int, ...],
    number: NDArray[np.int32],
    here: NDArray[np.int32],
    level: int,
) -> NDArray[np.int32]:
    """Hill of each full pixel: that of its place on the grid, else of the nearest that has one."""
    y, x = np.divmod(pixels, shape[1])
    row = np.minimum(y >> level, here.shape[0] - 1)
    column = np.minimum(x >> level, here.shape[1] - 1)
    part = np.where(here[row, column] == own, number[row, column], 0)
    width = shape[1] + 2
    at = (y + 1) * width + x + 1
    part_of = np.zeros((shape[0] + 2) * width, np.int32)
    own_of = np.zeros((shape[0] + 2) * width, np.int32)
    part_of[at], own_of[at] = part, own
    lacking = np.flatnonzero(part == 0)
    while lacking.size:
        best = np.zeros(lacking.size, np.int32)
        for dy, dx in _NEIGHBOURS:
            beside = at[lacking] + (dy * width + dx)
            same = own_of[beside] == own[lacking]
            best = np.where((best == 0) & same, part_of[beside], best)
        part[lacking] = part_of[at[lacking]] = best
        still = lacking[best == 0]
        if still.size == lacking.size:  # nothing of the region is on the grid
            break
        lacking = still
    return np.asarray(part, np.int32)


def _numbered(
    labels: NDArray[np.int32],
    pixels: NDArray[np.int64],
    own: NDArray[np.int32],
    part: NDArray[np.int32],
) -> Separated:
    """Parts as labels of their own, all in raster order of the first pixel."""
    count = int(own.max())
    if not part.any():
        return Separated(labels, np.zeros(count, bool))
    names = np.where(part > 0, part + count, own)
    most = int(names.max()) + 1
    # The first pixel of each: of repeated indices NumPy keeps the last assignment.
    first = np.full(most, pixels.size, np.int64)
    first[names[::-1]] = np.arange(pixels.size - 1, -1, -1)
    order = np.argsort(first, kind="stable")
    order = order[: np.count_nonzero(first < pixels.size)]
    rank = np.zeros(most, np.int32)
    rank[order] = np.arange(1, len(order) + 1)
    found = np.zeros(labels.shape, np.int32)
    found.reshape(-1)[pixels] = rank[names]
    # A region of which one part alone has full pixels was not split.
    origin = np.zeros(most, np.int64)
    origin[names] = own
    parts = np.bincount(origin[order], minlength=count + 1)
    return Separated(found, parts[origin[order]] > 1)


def fill_dark_holes(
    labels: NDArray[np.int32], image: NDArray[np.generic], *, darkness: float = 0.5
) -> NDArray[np.int32]:
    """The labels with those holes filled that look like particle, not like background.

    A network that sees a few tens of pixels takes the inside of a large particle for background; a
    ring of particles has real background inside. The grey value tells: of a hole's mean, that of
    the particle around it and that of the background around the particle.

    Parameters
    ----------
    labels : (H, W) int32
        Connected regions, 0 outside.
    image : (H, W) of numbers
        The micrograph; dark or bright particles alike.
    darkness : float
        Of the way from background to particle, how far a hole's mean goes at least.

    Returns
    -------
    (H, W) int32
        A hole has the label of the region around it. The same array if nothing was filled.

    Notes
    -----
    Background is 4-connected. Where particle and background differ by less than a fifth of the
    image's deviation, as in lattice images, nothing is filled.
    """
    outside = np.zeros((labels.shape[0] + 2, labels.shape[1] + 2), np.uint8)
    inner = outside[1:-1, 1:-1]
    np.greater(labels, 0, out=inner.view(np.bool_))
    cv2.floodFill(outside, None, (0, 0), 2, flags=4)
    holes = (inner == 0).view(np.uint8)
    if not holes.any():
        return labels
    rows, columns = (slice(None, None, max(1, side // 512)) for side in labels.shape)
    sample = np.asarray(image[rows, columns], np.float32)
    ground = sample[inner[rows, columns] == 2]
    if not ground.size:
        return labels
    background, least = float(np.median(ground)), 0.2 * float(sample.std())
    filled = labels.copy()
    count, number, stats, _ = cv2.connectedComponentsWithStats(holes, connectivity=4)
    for hole in range(1, count):
        x, y, width, height, _ = (int(value) for value in stats[hole])
        reach = max(3, round(0.15 * max(width, height)))
        box = np.s_[max(0, y - reach) : y + height + reach, max(0, x - reach) : x + width + reach]
        inside, around = np.asarray(number)[box] == hole, labels[box]
        rim = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        owner = int(np.bincount(around[rim & (around > 0)]).argmax())
        grey = np.asarray(image[box], np.float32)
        difference = float(grey[around == owner].mean()) - background
        if abs(difference) <= least:  # as where all pixels are equal
            continue
        if (float(grey[inside].mean()) - background) / difference >= darkness:
            filled[box][inside] = owner
    return filled

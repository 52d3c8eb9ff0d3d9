"""Where the particles of a picture lie and how large they are.

Sparse, touching, in heaps, in rows of a superlattice, or one so large that the picture shows a part
of it. Lengths are in pixels, positions (y, x).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Arrangement", "place_particles"]

Arrangement = Literal["apart", "touching", "heaped", "superlattice", "close-up"]

_Placed = tuple[NDArray[np.float64], NDArray[np.float64]]


def place_particles(
    rng: np.random.Generator,
    arrangement: Arrangement,
    *,
    field_px: int,
    radius_px: float,
    spread: float,
    most: int = 1000,
) -> _Placed:
    """Centres (n, 2) and radii (n,) of particles in and around a square field.

    Parameters
    ----------
    arrangement
        "apart" leaves gaps of all widths, "touching" puts many against another one, "heaped" lets
        them overlap, "superlattice" sets them in warped rows, "close-up" shows the edge or the
        inside of one or two.
    radius_px
        Median radius.
    spread
        Deviation of the logarithm of the radii.
    most
        Greatest number of particles.
    """
    if arrangement == "superlattice":
        return _superlattice(rng, field_px, radius_px, spread, most)
    if arrangement == "close-up":
        return _close_up(rng, field_px, radius_px)
    area_px = math.pi * radius_px**2
    most_covered = {"apart": 0.35, "touching": 0.6, "heaped": 0.8}[arrangement]
    coverage = rng.uniform(0.02, most_covered)
    wanted = int(np.clip(coverage * field_px**2 / area_px, 1, most))
    radii = radius_px * np.exp(rng.normal(0.0, spread, wanted))
    against = {"apart": 0.0, "touching": rng.uniform(0.4, 0.95), "heaped": rng.uniform(0.3, 0.9)}
    least_gap = {
        "apart": rng.choice([1.03, 1.2]),
        "touching": 0.97,
        "heaped": rng.uniform(0.3, 0.8),
    }
    return _in_turn(
        rng, field_px, radii, against=against[arrangement], least=float(least_gap[arrangement])
    )


def _in_turn(
    rng: np.random.Generator,
    field_px: int,
    radii: NDArray[np.float64],
    *,
    against: float,
    least: float,
) -> _Placed:
    """One after the other, some against an earlier one, none nearer than a part of the radii.

    Those that find no place in six tries are left out.
    """
    centres = np.empty((len(radii), 2))
    kept = np.empty(len(radii))
    count = 0
    for radius in radii:
        for _ in range(6):
            if count and rng.random() < against:
                host = int(rng.integers(count))
                angle = rng.uniform(0.0, 2.0 * math.pi)
                apart = (kept[host] + radius) * rng.uniform(max(least, 0.9), 1.06)
                if least < 0.9 and rng.random() < 0.5:  # lies on the other
                    apart = (kept[host] + radius) * rng.uniform(least, 1.0)
                at = centres[host] + apart * np.array([math.sin(angle), math.cos(angle)])
                if not ((at > -radius) & (at < field_px + radius)).all():
                    continue
            else:
                at = rng.uniform(-0.6 * radius, field_px + 0.6 * radius, 2)
            distance = np.hypot(*(centres[:count] - at).T)
            if (distance < least * (kept[:count] + radius)).any():
                continue
            centres[count], kept[count] = at, radius
            count += 1
            break
    return centres[:count], kept[:count]


def _superlattice(
    rng: np.random.Generator, field_px: int, radius_px: float, spread: float, most: int
) -> _Placed:
    """Hexagonal or square rows with a slow warp, vacancies, and parts of the field left free."""
    pitch = 2.0 * radius_px * rng.uniform(1.02, 1.6)
    rise = math.sqrt(0.75) if rng.random() < 0.75 else 1.0
    count = math.ceil(0.75 * field_px / pitch) + 2
    row, column = (index.ravel() for index in np.mgrid[-count : count + 1, -count : count + 1])
    at = np.stack([row * rise, column + (0.5 * (row % 2) if rise < 1.0 else 0.0)], 1) * pitch
    angle = rng.uniform(0.0, math.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    at = at @ np.array([[cos, sin], [-sin, cos]]) + rng.uniform(0.0, field_px, 2)
    for _ in range(3):
        wave = rng.normal(0.0, 1.0 / field_px, 2) * 4.0
        size = rng.normal(0.0, 0.12 * pitch, 2)
        at = at + size * np.sin(at @ wave + rng.uniform(0.0, 6.3))[:, None]
    at = at + rng.normal(0.0, rng.uniform(0.0, 0.12) * pitch, at.shape)
    inside = ((at > -radius_px) & (at < field_px + radius_px)).all(1)
    if rng.random() < 0.7:  # an edge of the layer, and a hole in it
        direction = rng.normal(0.0, 1.0, 2)
        height = (at - 0.5 * field_px) @ (direction / np.hypot(*direction))
        inside &= height < rng.uniform(-0.2, 0.6) * field_px
        hole = np.hypot(*(at - rng.uniform(0.0, field_px, 2)).T)
        inside &= hole > rng.uniform(0.0, 0.2) * field_px
    inside &= rng.random(len(at)) > rng.choice([0.0, 0.02, 0.2])
    chosen = np.flatnonzero(inside)
    if len(chosen) > most:  # those nearest to a point
        distance = np.hypot(*(at[chosen] - rng.uniform(0.0, field_px, 2)).T)
        chosen = chosen[np.argsort(distance)[:most]]
    return at[chosen], radius_px * np.exp(rng.normal(0.0, min(spread, 0.15), len(chosen)))


def _close_up(rng: np.random.Generator, field_px: int, radius_px: float) -> _Placed:
    """One or two particles about as large as the field or larger, their edges in it."""
    count = int(rng.choice([1, 1, 2]))
    centres, radii = np.empty((count, 2)), np.empty(count)
    for k in range(count):
        radii[k] = radius_px * rng.uniform(0.7, 1.4)
        angle = rng.uniform(0.0, 2.0 * math.pi)
        edge = np.array([math.sin(angle), math.cos(angle)]) * radii[k] * rng.uniform(0.2, 1.1)
        centres[k] = 0.5 * field_px + edge + rng.normal(0.0, 0.15 * field_px, 2)
    if count == 2 and np.hypot(*(centres[0] - centres[1])) < 0.7 * radii.sum():
        return centres[:1], radii[:1]
    return centres, radii

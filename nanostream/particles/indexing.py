"""Phases that a set of lattice fringes fits: by spacings, and by the angles between them.

One spacing alone fits many phases. Two sets of fringes of one crystal fix its orientation, so that
every further one must be where the cell puts it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanostream.particles.phases import Phase
from nanostream.particles.reflections import Reflections, reflections

__all__ = ["ANGLE_DEG", "TOLERANCE", "Match", "match_phases"]

Floats = NDArray[np.float64]

#: Relative difference of spacings up to which a phase fits: the pixel size is often wrong by 1 to
#: 2 %, and small crystals seen off their axis by 1 %.
TOLERANCE = 0.03

#: Difference of angles between fringes up to which a phase fits.
ANGLE_DEG = 3.0

#: Peaks that are indexed, the strongest first.
_INDEXED = 10

#: Fringes closer in direction than this are orders or doubles of each other and fix nothing.
_COLLINEAR_DEG = 8.0


class Match(NamedTuple):
    """A phase that fits a set of peaks.

    Attributes
    ----------
    phase : str
    peaks : tuple of int
        Which peaks it explains.
    angles : bool
        Two or more of different directions, angles as well as spacings; else spacings alone.
    misfit : float
        Root mean square of the relative differences of spacings.
    """

    phase: str
    peaks: tuple[int, ...]
    angles: bool
    misfit: float


def match_phases(
    vectors_per_nm: Floats,
    phases: Sequence[Phase],
    *,
    sd_per_nm: Floats | None = None,
    tolerance: float = TOLERANCE,
    angle_deg: float = ANGLE_DEG,
) -> list[Match]:
    """Phases that explain the most peaks, the one with the least misfit first.

    Parameters
    ----------
    vectors_per_nm : (n, 2) float64
        Positions of peaks, the strongest first.
    phases : sequence of Phase
    sd_per_nm : (n,) float64, optional
        Standard deviations of the peaks' frequencies; two of them add to the tolerance, as
        independent errors do.
    tolerance : float
        Relative difference of spacings.
    angle_deg : float
        Difference of angles.

    Returns
    -------
    list of Match
        Every phase that explains as many as the best does: phases that cannot be told apart are all
        there. One that explains angles goes before those that explain spacings only. Empty if none
        fits.
    """
    vectors = vectors_per_nm[:_INDEXED]
    if not len(vectors):
        return []
    length = np.linalg.norm(vectors, axis=1)
    sd = np.zeros(len(length)) if sd_per_nm is None else sd_per_nm[:_INDEXED] / length
    allowed = np.hypot(tolerance, 2 * sd)
    found = [_fit(vectors, phase, allowed, angle_deg) for phase in phases]
    rank = max((match.angles, len(match.peaks)) for match in found) if found else (False, 0)
    best = [m for m in found if m.peaks and (m.angles, len(m.peaks)) == rank]
    return sorted(best, key=lambda match: match.misfit)


def _fit(vectors: Floats, phase: Phase, tolerance: Floats, angle_deg: float) -> Match:
    """The most peaks that one phase explains."""
    length = np.linalg.norm(vectors, axis=1)
    known = reflections(phase, round(float(1.0 / (length * (1 + tolerance)).max()), 4))
    if not known.spacing_nm.size:
        return Match(phase.name, (), angles=False, misfit=0.0)
    difference = length[:, None] * known.spacing_nm - 1.0
    near = np.abs(difference) <= tolerance[:, None]
    best: tuple[int, ...] = ()
    if len(known.hkl):
        for i, j in itertools.combinations(np.flatnonzero(near.any(axis=1)), 2):
            for explained in _zones(vectors, int(i), int(j), known, near, tolerance, angle_deg):
                best = max(best, explained, key=len)
    peaks = best or tuple(int(i) for i in np.flatnonzero(near.any(axis=1)))
    least = np.abs(difference).min(axis=1)[list(peaks)]
    misfit = float(np.sqrt(np.mean(np.square(least)))) if peaks else 0.0
    return Match(phase.name, peaks, angles=bool(best), misfit=misfit)


def _zones(
    vectors: Floats,
    i: int,
    j: int,
    known: Reflections,
    near: NDArray[np.bool_],
    tolerance: Floats,
    angle_deg: float,
) -> set[tuple[int, ...]]:
    """Sets of peaks that belong to one crystal, if peaks i and j are of two of its reflections."""
    apart = _angle_deg(vectors[i], vectors[j])
    if min(apart, 180.0 - apart) < _COLLINEAR_DEG:
        return set()
    first, second = known.vectors_per_nm[near[i]], known.vectors_per_nm[near[j]]
    cosines = (first @ second.T) / np.outer(
        np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
    )
    angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    pairs = np.argwhere(np.abs(angles - apart) <= angle_deg)
    if not len(pairs):
        return set()
    # Peaks as sums of the two, and where those sums are in the crystal: (pairs, peaks, 3).
    parts = vectors @ np.linalg.inv(vectors[[i, j]])
    predicted = np.einsum(
        "nk,pkx->pnx", parts, np.stack([first[pairs[:, 0]], second[pairs[:, 1]]], 1)
    )
    hkl = np.rint(predicted @ np.linalg.inv(known.basis_per_nm))
    lattice = hkl @ known.basis_per_nm
    allowed = _allowed(hkl, known)
    norm = np.maximum(np.linalg.norm(lattice, axis=2), 1e-9)
    spacing = np.abs(np.linalg.norm(vectors, axis=1) / norm - 1.0) <= tolerance
    off = np.linalg.norm(predicted - lattice, axis=2) / norm
    explained = allowed & spacing & (off <= tolerance + np.radians(angle_deg))
    explained[:, [i, j]] = True
    return {tuple(int(k) for k in np.flatnonzero(row)) for row in np.unique(explained, axis=0)}


def _allowed(hkl: Floats, known: Reflections) -> NDArray[np.bool_]:
    """Which indices are of reflections of the phase, (pairs, peaks)."""
    reach = int(np.abs(known.hkl).max())
    table = np.zeros((2 * reach + 1,) * 3, np.bool_)
    table[tuple((known.hkl + reach).T)] = True
    inside = np.asarray((np.abs(hkl) <= reach).all(axis=-1), np.bool_)
    at = np.where(inside[..., None], hkl, 0).astype(np.int64) + reach
    return inside & table[at[..., 0], at[..., 1], at[..., 2]]


def _angle_deg(first: Floats, second: Floats) -> float:
    cosine = first @ second / (np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))

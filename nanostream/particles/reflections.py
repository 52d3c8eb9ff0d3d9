"""Reflections of a phase: spacings and directions of its lattice planes.

Which reflections a cell has follows from the structure factor with the atomic numbers as weights,
so that every extinction, of the lattice and of the places of atoms, comes from the same sum.

References
----------
International Tables for Crystallography, vol. B, chapter 1.1 (reciprocal space).
https://doi.org/10.1107/97809553602060000758
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanostream.particles.phases import Phase

__all__ = ["Reflections", "cell_axes", "reflections"]

Floats = NDArray[np.float64]

#: A structure factor below this part of its greatest possible value is extinct.
_EXTINCT = 1e-3


class Reflections(NamedTuple):
    """Reflections of a phase, those of each Friedel pair both, the greatest spacing first.

    Attributes
    ----------
    hkl : (n, 3) int64
    vectors_per_nm : (n, 3) float64
        Empty for a list of spacings, as is `hkl`.
    spacing_nm : (n,) float64
    basis_per_nm : (3, 3) float64
        Rows a*, b*, c*.
    """

    hkl: NDArray[np.int64]
    vectors_per_nm: Floats
    spacing_nm: Floats
    basis_per_nm: Floats


@lru_cache(maxsize=64)
def reflections(phase: Phase, smallest_nm: float) -> Reflections:
    """Reflections of a phase down to a spacing.

    Raises
    ------
    ValueError
        If the angles of its cell enclose no volume.

    Examples
    --------
    >>> from nanostream.particles.phases import PHASES
    >>> found = reflections(PHASES["Au"], 0.14)
    >>> sorted({(round(float(d), 4)) for d in found.spacing_nm}, reverse=True)
    [0.2355, 0.2039, 0.1442]
    """
    if not phase.cell:
        listed = np.sort(np.array(phase.spacings_nm))[::-1]
        none = np.empty((0, 3))
        return Reflections(none.astype(np.int64), none, listed[listed >= smallest_nm], np.eye(3))
    basis = np.asarray(np.linalg.inv(cell_axes(phase.cell)).T, np.float64)
    most = [math.floor(length / smallest_nm) for length in phase.cell[:3]]
    steps = [np.arange(-n, n + 1) for n in most]
    hkl = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    length = np.linalg.norm(hkl @ basis, axis=1)
    hkl = hkl[(length > 0) & (length <= 1.0 / smallest_nm)]
    atoms = np.array(phase.atoms)
    factor = np.abs(np.exp(2j * np.pi * (hkl @ atoms[:, 1:].T)) @ atoms[:, 0])
    hkl = hkl[factor > _EXTINCT * atoms[:, 0].sum()]
    vectors = hkl @ basis
    spacing = 1.0 / np.linalg.norm(vectors, axis=1)
    order = np.argsort(-spacing, kind="stable")
    return Reflections(hkl[order], vectors[order], spacing[order], basis)


def cell_axes(cell: tuple[float, ...]) -> Floats:
    """Axes of a cell, a along the first direction and b in the plane of the first two.

    Parameters
    ----------
    cell : tuple of 6 float
        a, b, c in nm and alpha, beta, gamma in degrees.

    Returns
    -------
    (3, 3) float64
        Rows a, b, c in nm.

    Raises
    ------
    ValueError
        If the angles enclose no volume.
    """
    a, b, c = cell[:3]
    possible = all(0 < angle < 180 for angle in cell[3:])
    cos_alpha, cos_beta, cos_gamma = np.cos(np.radians(cell[3:]))
    sin_gamma = math.sin(math.radians(cell[5]))
    across = (cos_alpha - cos_beta * cos_gamma) / sin_gamma if possible else 1.0
    upward = 1.0 - cos_beta**2 - across**2
    if upward <= 1e-9 or not possible:
        angles = ", ".join(f"{angle:g}" for angle in cell[3:])
        msg = f"the angles {angles} enclose no volume; check alpha, beta and gamma"
        raise ValueError(msg)
    return np.array(
        [
            [a, 0.0, 0.0],
            [b * cos_gamma, b * sin_gamma, 0.0],
            [c * cos_beta, c * across, c * math.sqrt(upward)],
        ]
    )

"""Atoms of what the particles lie on: amorphous films with hills and holes, dirt, soot.

Positions are (n, 3) in Å as (y, x, z) with the film's upper side flat where the particles lie.

References
----------
Ricolleau, C. et al. Random vs realistic amorphous carbon models for high resolution microscopy
and electron diffraction. Journal of Applied Physics 114, 213504 (2013).
https://doi.org/10.1063/1.4831669

Robertson, J. Diamond-like amorphous carbon. Materials Science and Engineering R 37, 129 (2002),
for density, bond length and coordination. https://doi.org/10.1016/S0927-796X(02)00005-0
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Film = Literal["carbon", "nitride"]

# Amorphous carbon of 2.0 g/cm3. Silicon nitride has nearly the same number density (0.095), so
# its films are the same network with other atoms on it.
_ATOMS_PER_A3 = 0.100
_BLOCK_A = 56.0

# Evaporated carbon is mostly sp2: three neighbours at 1.46 Å, the next at 2.45 Å or more.
_BOND_A = 1.46
_BONDS = 3
_SECOND_A = 2.45
_RELAXATIONS = 45

# Distance of graphitic layers in soot, and by how much its atoms leave them (turbostratic).
_LAYER_A = 3.5
_LAYER_DISORDER_A = 0.35


@dataclass(frozen=True)
class Support:
    """Support of the particles: an amorphous film, and what lies on it.

    Attributes
    ----------
    thickness_nm
        Mean thickness of the film; 0 is vacuum.
    film
        Amorphous carbon, or silicon nitride as on heating chips.
    relief
        Relative change of the thickness across the field, 0 to 1.
    hole
        Part of the field without film, 0 to 1.
    dirt_nm
        Greatest thickness of patches of hydrocarbon on the film and around the particles.
    soot_nm
        Radii of spheres of turbostratic carbon lying about, none if empty.
    """

    thickness_nm: float
    film: Film = "carbon"
    relief: float = 0.0
    hole: float = 0.0
    dirt_nm: float = 0.0
    soot_nm: tuple[float, ...] = ()

    @property
    def surface_nm(self) -> float:
        """Height of the flat upper side."""
        return self.thickness_nm * (1.0 + self.relief)


def support_atoms(
    support: Support, extent_a: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Positions (n, 3) in Å as (y, x, z) and atomic numbers (n,), over a square field."""
    top_a = 10.0 * support.surface_nm
    dirt_a = 10.0 * support.dirt_nm
    atoms = _filled(extent_a, top_a + dirt_a, rng)
    index = np.minimum((atoms[:, :2] * (_GRID / extent_a)).astype(int), _GRID - 1)
    at = (index[:, 0], index[:, 1])
    bottom = np.zeros(len(atoms))
    if support.relief:
        # The upper side is flat where the particles lie; the lower one is hilly.
        hills = slow_field(rng, _GRID, waves=rng.uniform(1.0, 5.0))
        bottom = top_a - 10.0 * support.thickness_nm * (1.0 + support.relief * hills[at])
    if support.hole:
        field = slow_field(rng, _GRID, waves=rng.uniform(0.8, 2.0))
        bottom[(field < np.quantile(field, support.hole))[at]] = top_a
    ceiling = np.full(len(atoms), top_a)
    if dirt_a:
        patches = slow_field(rng, _GRID, waves=rng.uniform(1.0, 8.0)) - rng.uniform(-0.3, 0.4)
        ceiling += dirt_a * np.clip(patches, 0.0, 1.0)[at]
    kept = (atoms[:, 2] > bottom) & (atoms[:, 2] < ceiling)
    in_film = atoms[kept, 2] < top_a
    atoms = atoms[kept]
    numbers = np.full(len(atoms), 6)
    if support.film == "nitride":
        numbers[in_film] = rng.choice([14, 7], int(in_film.sum()), p=[3 / 7, 4 / 7])
    for radius_nm in support.soot_nm:
        sphere = _soot(10.0 * radius_nm, rng)
        sphere[:, :2] += rng.uniform(0.0, extent_a, 2)
        sphere[:, 2] += top_a + 9.0 * radius_nm
        inside = ((sphere[:, :2] >= 0) & (sphere[:, :2] < extent_a)).all(1)
        atoms = np.vstack([atoms, sphere[inside]])
        numbers = np.concatenate([numbers, np.full(int(inside.sum()), 6)])
    return atoms, numbers


_GRID = 128


def slow_field(rng: np.random.Generator, size: int, *, waves: float) -> NDArray[np.float64]:
    """Smooth periodic random field (size, size) in -1..1 with about ``waves`` periods across."""
    frequency = np.fft.fftfreq(size, 1.0 / size)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    spectrum = np.exp(-((radius / waves) ** 2)) * np.fft.fft2(rng.normal(size=(size, size)))
    spectrum[0, 0] = 0.0
    field = np.fft.ifft2(spectrum).real
    return np.asarray(field / np.abs(field).max())


def _filled(extent_a: float, height_a: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """The amorphous network over a field, from z = 0 to a height."""
    block, side = amorphous_block(), _BLOCK_A
    cells, layers = math.ceil(extent_a / side), math.ceil(height_a / side)
    pieces: list[NDArray[np.float64]] = [np.empty((0, 3))]
    for row, column, layer in np.ndindex(cells, cells, layers):
        # Each cell sees the block from another side, so that no pattern repeats.
        piece = (
            block[:, rng.permutation(3)] * rng.choice([-1, 1], 3) + rng.uniform(0, side, 3)
        ) % side
        piece = piece + np.array([row, column, layer]) * side
        kept = (piece[:, 0] < extent_a) & (piece[:, 1] < extent_a) & (piece[:, 2] < height_a)
        pieces.append(piece[kept])
    return np.concatenate(pieces)


@functools.cache
def amorphous_block() -> NDArray[np.float32]:
    """Periodic cube of the amorphous network, (n, 3) in Å, from which every support is cut.

    Random points relaxed until each has three neighbours at the length of a bond and all others
    beyond the second shell: pair distances as diffraction finds them (first maximum near 1.45 Å,
    second near 2.5 Å), and so the halo of the diffractogram. Random points alone would look like
    white noise (Ricolleau et al. 2013). One block, because relaxing a million atoms for each
    scene would cost more than its multislice.
    """
    rng = np.random.default_rng(20201)
    side = _BLOCK_A
    at = rng.uniform(0.0, side, (int(_ATOMS_PER_A3 * side**3), 3))
    rank = np.arange(8)
    for step in range(_RELAXATIONS):
        found = cKDTree(at, boxsize=np.full(3, side)).query(at, k=9)
        distance, neighbour = (np.asarray(array)[:, 1:] for array in found)
        bonded = rank < _BONDS
        # How much each pair is too long (bonds) or too short (bonds and the others).
        strain = np.where(bonded, distance - _BOND_A, np.minimum(distance - _SECOND_A, 0.0))
        apart = at[neighbour] - at[:, None]
        apart -= side * np.rint(apart / side)
        pull = 0.5 * strain / np.maximum(distance, 0.3)
        moved = (pull[..., None] * apart).sum(1)
        moved *= np.minimum(1.0, 0.4 / np.maximum(np.linalg.norm(moved, axis=1), 1e-9))[:, None]
        at = (at + (0.45 if step < _RELAXATIONS // 2 else 0.3) * moved) % side
    return at.astype(np.float32)


def _soot(radius_a: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Primary particle of soot around the origin: carbon on more or less concentric layers."""
    side = 2.0 * radius_a + 20.0
    atoms = _filled(side, side, rng) - side / 2.0
    # The layers' common centre lies off the sphere's, and they are wavy, as in real soot.
    centre = rng.normal(0.0, 0.15 * radius_a, 3)
    distance = np.linalg.norm(atoms - centre, axis=1)
    waves = 1.5 * np.sin(atoms @ rng.normal(0.0, 0.12, (3, 2)) + rng.uniform(0, 6.28, 2)).sum(1)
    layer = _LAYER_A * np.rint((distance + waves) / _LAYER_A) - waves
    layer += rng.normal(0.0, _LAYER_DISORDER_A, len(atoms))
    moved = centre + (atoms - centre) * (layer / np.maximum(distance, 1.0))[:, None]
    shape = radius_a * (1.0 + 0.1 * rng.uniform(-1, 1, 3))
    return np.asarray(moved[((moved / shape) ** 2).sum(1) < 1.0])

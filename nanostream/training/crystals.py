"""Atoms of one crystalline nanoparticle: lattice, shape, twins, orientation.

Positions are (n, 3) as (z, y, x) in nm where they leave this file, Å inside it.

References
----------
Marks, L. D. & Peng, L. Nanoparticle shape, thermodynamics and kinetics. Journal of Physics:
Condensed Matter 28, 053001 (2016), for the shapes. https://doi.org/10.1088/0953-8984/28/5/053001
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal

import ase.build
import ase.cluster
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Structure = Literal["fcc", "wurtzite", "zincblende", "fluorite"]
Shape = Literal["cut-sphere", "sphere", "wulff", "rod", "decahedron", "icosahedron"]

Crystal = tuple[NDArray[np.float64], NDArray[np.int64]]
"""Positions (n, 3) in nm as (z, y, x), and atomic numbers (n,), of the atoms of one particle."""

MATERIALS: tuple[str, ...] = ("Au", "Ag", "Pt", "Pd", "CdSe", "CeO2", "ZnO")

# Lattice constants in Å at room temperature. CdSe: wurtzite and, because dots below 3 nm often
# grow in it, zinc blende.
_CUBIC_A = {"Au": 4.078, "Ag": 4.086, "Pt": 3.924, "Pd": 3.891, "CdSe": 6.05, "CeO2": 5.411}
_WURTZITE_A = {"CdSe": (4.30, 7.01), "ZnO": (3.25, 5.207)}
_STRUCTURES: dict[str, tuple[Structure, ...]] = {
    "CdSe": ("wurtzite", "wurtzite", "zincblende"),
    "CeO2": ("fluorite",),
    "ZnO": ("wurtzite",),
}

# Low-index directions along which crystals that lie on a facet are seen.
_ZONES = np.array([(0.0, 1.0, 1.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0), (1.0, 1.0, 2.0)])
_ZONE_PARTS = (0.5, 0.2, 0.2, 0.1)


@dataclass(frozen=True)
class Particle:
    """One crystalline particle.

    ``centre_nm`` is (z, y, x) from the corner of the micrograph, z from the lower side of the
    support; ``seed`` draws the orientation, the axes and the facets. A "cut-sphere" is an
    ellipsoid cut by random planes, "wulff" a truncated octahedron (or a hexagonal prism).
    """

    material: str
    structure: Structure
    centre_nm: tuple[float, float, float]
    radius_nm: float
    twinned: bool
    on_axis: bool
    seed: int
    shape: Shape = "cut-sphere"


def draw_form(rng: np.random.Generator, material: str) -> tuple[Structure, Shape, bool]:
    """Structure, shape and whether there is a twin, for a particle of a material."""
    choices = _STRUCTURES.get(material, ("fcc",))
    structure = choices[int(rng.integers(len(choices)))]
    shapes: tuple[Shape, ...] = ("cut-sphere", "sphere", "wulff", "rod")
    parts = [0.35, 0.2, 0.35, 0.1]
    if structure == "fcc":
        shapes = (*shapes, "decahedron", "icosahedron")
        parts = [0.3, 0.2, 0.28, 0.06, 0.08, 0.08]
    shape = shapes[int(rng.choice(len(shapes), p=parts))]
    cubic = structure != "wurtzite"
    twinned = cubic and shape in ("cut-sphere", "sphere", "wulff") and rng.random() < 0.25
    return structure, shape, bool(twinned)


def crystal_positions(particle: Particle) -> Crystal:
    """Positions (n, 3) in nm as (z, y, x), and atomic numbers (n,), of a particle's atoms."""
    rng = np.random.default_rng(particle.seed)
    if particle.shape in ("decahedron", "icosahedron"):
        positions, numbers = _multiply_twinned(particle, rng)
    else:
        positions, numbers = _single_crystal(particle, rng)
    if particle.shape != "cut-sphere" and rng.random() < 0.3:  # grown on what it lies on
        positions, numbers = _cut(positions, numbers, rng, least=0.45)
    placed = _orientation(particle, rng).apply(positions) / 10.0 + particle.centre_nm
    return placed, numbers


def _single_crystal(
    particle: Particle, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    radius_a = 10.0 * particle.radius_nm
    axes = rng.uniform(0.88, 1.14, 3) if particle.shape == "cut-sphere" else np.ones(3)
    reach_a = np.full(3, 1.3 * radius_a)
    if particle.shape == "rod":
        reach_a[2] *= rng.uniform(1.5, 3.0)
    positions, numbers = _lattice(particle, reach_a)
    positions += rng.uniform(-2.0, 2.0, 3)
    if particle.twinned:
        positions, numbers = _twin(positions, numbers, offset_a=rng.uniform(-0.4, 0.4) * radius_a)
    if particle.shape == "wulff":
        planes = _facets(particle, rng)
        inside = (positions @ planes.T <= radius_a).all(1)
    elif particle.shape == "rod":
        half_a = reach_a[2] - radius_a
        beyond = np.maximum(np.abs(positions[:, 2]) - half_a, 0.0)  # round caps
        inside = np.hypot(np.hypot(positions[:, 0], positions[:, 1]), beyond) < 0.75 * radius_a
    else:
        inside = ((positions / (radius_a * axes)) ** 2).sum(1) < 1.0
    positions, numbers = positions[inside], numbers[inside]
    if particle.shape == "cut-sphere":
        for _ in range(int(rng.integers(0, 8))):
            positions, numbers = _cut(positions, numbers, rng, least=0.68)
    return positions, numbers


def _facets(particle: Particle, rng: np.random.Generator) -> NDArray[np.float64]:
    """Normals (n, 3) over their distances, relative to the particle's radius."""
    if particle.structure == "wurtzite":
        angles = np.arange(6) * np.pi / 3.0
        prism = np.stack([np.cos(angles), np.sin(angles), np.zeros(6)], 1) / 0.85
        basal = np.array([(0.0, 0.0, 1.0), (0.0, 0.0, -1.0)]) / rng.uniform(0.7, 1.25)
        return np.vstack([prism, basal])
    corners = np.array(list(itertools.product((-1.0, 1.0), repeat=3))) / math.sqrt(3.0)
    faces = np.vstack([np.eye(3), -np.eye(3)])
    # Distance of {100} over that of {111}: 0.58 a cube, 1.15 the Wulff shape of gold, 1.73 an
    # octahedron (Marks & Peng 2016).
    ratio = rng.uniform(0.65, 1.6)
    d111 = 1.0 / max(1.0, 0.85 * ratio)
    return np.vstack([corners / d111, faces / (ratio * d111)]) / 1.05


def _multiply_twinned(
    particle: Particle, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Decahedron or icosahedron of the nearest magic size."""
    a = _CUBIC_A[particle.material]
    shells = max(2.0, 10.0 * particle.radius_nm / (0.95 * a / math.sqrt(2.0)) + 1.0)
    clusters: Any = ase.cluster
    if particle.shape == "icosahedron":
        cluster = clusters.Icosahedron(particle.material, round(shells), latticeconstant=a)
    else:
        p = max(2, round(shells))
        q, r = int(rng.integers(1, max(2, p // 2))), int(rng.integers(0, max(1, p // 4)))
        cluster = clusters.Decahedron(particle.material, p, q, r, latticeconstant=a)
    positions = cluster.get_positions()
    return positions - positions.mean(0), cluster.get_atomic_numbers().astype(np.int64)


def _cut(
    positions: NDArray[np.float64],
    numbers: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    least: float,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Without what lies beyond a random plane, ``least`` or more of the reach from the centre."""
    normal = rng.normal(size=3)
    height = positions @ (normal / np.linalg.norm(normal))
    inside = height < height.max(initial=0.0) * rng.uniform(least, 1.0)
    return positions[inside], numbers[inside]


def _orientation(particle: Particle, rng: np.random.Generator) -> Rotation:
    if not particle.on_axis:
        return Rotation.random(rng=rng)
    zone = _ZONES[rng.choice(len(_ZONES), p=_ZONE_PARTS)]
    upright = Rotation.align_vectors([[1.0, 0.0, 0.0]], [zone / np.linalg.norm(zone)])[0]
    tilt = Rotation.from_rotvec(np.radians(2.5) * rng.normal(size=3) * [0.0, 1.0, 1.0])
    spin = Rotation.from_rotvec([rng.uniform(0.0, 2.0 * np.pi), 0.0, 0.0])
    return tilt * spin * upright


def _lattice(
    particle: Particle, reach_a: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Atoms of the perfect crystal around the origin, Å, at least ``reach_a`` along each axis."""
    if particle.structure == "wurtzite":
        a, c = _WURTZITE_A[particle.material]
        cell = ase.build.bulk(particle.material, "wurtzite", a=a, c=c, orthorhombic=True)
    else:
        cell = ase.build.bulk(
            particle.material, particle.structure, a=_CUBIC_A[particle.material], cubic=True
        )
    repeats = [
        2 * math.ceil(reach / length) + 1
        for reach, length in zip(reach_a, cell.cell.lengths(), strict=True)
    ]
    block: Any = cell.repeat(repeats)  # type: ignore[no-untyped-call]
    positions = block.get_positions() - 0.5 * block.cell.lengths()
    return positions, block.get_atomic_numbers().astype(np.int64)


def _twin(
    positions: NDArray[np.float64], numbers: NDArray[np.int64], *, offset_a: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Crystal mirrored at the (111) layer nearest to ``offset_a`` from the origin."""
    normal = np.ones(3) / math.sqrt(3.0)
    height = positions @ normal
    plane = height[np.argmin(np.abs(height - offset_a))]
    below = height <= plane + 1e-3
    strictly = height < plane - 1e-3
    mirrored = positions[strictly] + 2.0 * (plane - height[strictly])[:, None] * normal
    return np.vstack([positions[below], mirrored]), np.concatenate(
        [numbers[below], numbers[strictly]]
    )

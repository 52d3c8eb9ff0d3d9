"""HRTEM micrographs of supported nanoparticles, with ground truth, from multislice.

A :class:`Scene` says what is in the microscope and how it is looked at; the same scene always
gives the same atoms, labels and expected counts (the latter to six digits: FFTW does not add in
the same order in every run, and a pixel of the noise drawn from them may then differ, too).
:func:`draw_scene` draws one at random, and its breadth is the point: a model trained on many
kinds of simulated micrograph carries over to real ones, a model trained on many micrographs of
one kind does not.

Lengths are in nm except inside this file, where abTEM and ASE work in Å. Arrays are (y, x); the
first axis of abTEM's grid is taken as y, so nothing is transposed.

References
----------
Madsen, J. & Susi, T. The abTEM code: transmission electron microscopy from first principles.
Open Research Europe 1, 24 (2021). https://doi.org/10.12688/openreseurope.13015.2

Ricolleau, C. et al. Random vs realistic amorphous carbon models for high resolution microscopy
and electron diffraction. Journal of Applied Physics 114, 213504 (2013).
https://doi.org/10.1063/1.4831669
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import abtem
import ase
import ase.build
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

Regime = Literal["lattice", "mass-thickness"]

MATERIALS: tuple[str, ...] = ("Au", "Ag", "Pt", "Pd", "CdSe")

# Lattice constants in Å at room temperature. CdSe: wurtzite (a, c) and, because dots below 3 nm
# often grow in it, zinc blende.
_FCC_A = {"Au": 4.078, "Ag": 4.086, "Pt": 3.924, "Pd": 3.891}
_CDSE_WURTZITE_A = (4.30, 7.01)
_CDSE_ZINCBLENDE_A = 6.05

# Amorphous carbon of 2.0 g/cm3, and the least distance between two of its atoms; without the
# latter its diffractogram has no ring and the support looks like white noise.
_CARBON_PER_A3 = 0.100
_CARBON_DISTANCE_A = 1.25
_CARBON_BLOCK_A = 120.0

# Thermal displacement of one frozen lattice, root mean square along one axis.
_VIBRATION_A = 0.08

# Grid outside the micrograph: the multislice is periodic, and what one edge scatters would
# appear at the other.
_MARGIN_PX = 32


@dataclass(frozen=True)
class Particle:
    """One crystalline particle: an ellipsoid cut by random planes.

    ``centre_nm`` is (z, y, x) from the corner of the micrograph, z from the lower side of the
    support; ``seed`` draws the orientation, the axes and the cutting planes.
    """

    material: str
    structure: Literal["fcc", "wurtzite", "zincblende"]
    centre_nm: tuple[float, float, float]
    radius_nm: float
    twinned: bool
    on_axis: bool
    seed: int


@dataclass(frozen=True)
class Exposure:
    """How one micrograph of a scene is taken: lens, dose, camera."""

    defocus_nm: float
    cs_mm: float
    astigmatism_nm: float
    astigmatism_angle_rad: float
    focal_spread_nm: float
    angular_spread_mrad: float
    aperture_mrad: float
    dose_e_per_a2: float
    mtf_sigma_px: float
    gain_counts_per_e: float
    readout_counts: float
    offset_counts: float
    shading: float
    bad_pixels: int


@dataclass(frozen=True)
class Scene:
    """What is in the microscope, and the exposures taken of it.

    ``pixel_size_nm`` is that of the micrograph; the wave is computed on a grid ``binning`` times
    finer. ``relief`` is the relative change of the support's thickness across the field.
    """

    regime: Regime
    size_px: int
    pixel_size_nm: float
    binning: int
    voltage_kv: float
    support_nm: float
    relief: float
    particles: tuple[Particle, ...]
    exposures: tuple[Exposure, ...]
    seed: int

    @property
    def materials(self) -> tuple[str, ...]:
        """Materials of the particles, sorted, each once; empty for a bare support."""
        return tuple(sorted({particle.material for particle in self.particles}))

    def as_dict(self) -> dict[str, Any]:
        """Everything above as plain values, for a JSON record beside the micrographs."""
        return asdict(self)


@dataclass(frozen=True)
class Micrographs:
    """Micrographs of one scene with their truth.

    Attributes
    ----------
    pixels
        (N, H, W) int16, one per exposure, camera counts.
    expected_counts
        (N, H, W) float32, the same without noise and bad pixels.
    label
        (H, W) bool, True in a particle.
    instances
        (H, W) uint16, 0 outside, particle number (index in the scene plus 1) inside; where
        particles overlap, the one with more atoms in the column.
    scene
        The parameters all of this came from.
    """

    pixels: NDArray[np.int16]
    expected_counts: NDArray[np.float32]
    label: NDArray[np.bool_]
    instances: NDArray[np.uint16]
    scene: Scene


def draw_scene(
    rng: np.random.Generator,
    *,
    size_px: int = 512,
    materials: Sequence[str] = MATERIALS,
    regime: Regime | None = None,
    images: int = 4,
) -> Scene:
    """Scene drawn at random, for training and validation.

    Parameters
    ----------
    rng
        Source of all randomness; the scene keeps a seed of its own for its atoms and noise.
    size_px
        Height and width of the micrographs.
    materials
        What the particles may be made of. A tenth of the scenes mixes two materials.
    regime
        "lattice" (0.014 to 0.042 nm/px) or "mass-thickness" (0.04 to 0.09 nm/px, objective
        aperture); by default 60 % and 40 % of the scenes.
    images
        Exposures of the scene. They share the exit wave, so each costs little.
    """
    if regime is None:
        regime = "lattice" if rng.random() < 0.6 else "mass-thickness"
    lattice = regime == "lattice"
    binning = 1 if lattice else 2
    pixel_size_nm = float(
        np.exp(rng.uniform(np.log(0.014), np.log(0.042))) if lattice else rng.uniform(0.04, 0.09)
    )
    voltage_kv = float(rng.choice([80.0, 200.0, 300.0], p=[0.2, 0.35, 0.45]))
    thinnest, thickest = (1.0, 6.0) if lattice else (2.0, 10.0)
    support_nm = float(np.exp(rng.uniform(np.log(thinnest), np.log(thickest))))
    relief = float(rng.uniform(0.1, 0.7)) if rng.random() < 0.5 else 0.0
    chosen = [str(rng.choice(materials))]
    if len(materials) > 1 and rng.random() < 0.1:
        chosen.append(str(rng.choice([m for m in materials if m != chosen[0]])))
    field_nm = size_px * pixel_size_nm
    particles: tuple[Particle, ...] = ()
    if rng.random() > 0.05:  # the rest is bare support
        particles = draw_particles(
            rng,
            materials=chosen,
            field_nm=field_nm,
            support_nm=support_nm,
            relief=relief,
            # Colloidal crystals lie on their facets, sintered islands as they come.
            on_axis=float(rng.uniform(0.3, 1.0) if lattice else rng.uniform(0.0, 0.5)),
        )
    exposures = tuple(
        _draw_exposure(rng, regime, voltage_kv=voltage_kv, pixel_size_nm=pixel_size_nm)
        for _ in range(images)
    )
    return Scene(
        regime=regime,
        size_px=size_px,
        pixel_size_nm=pixel_size_nm,
        binning=binning,
        voltage_kv=voltage_kv,
        support_nm=support_nm,
        relief=relief,
        particles=particles,
        exposures=exposures,
        seed=int(rng.integers(2**31)),
    )


def draw_particles(
    rng: np.random.Generator,
    *,
    materials: Sequence[str],
    field_nm: float,
    support_nm: float,
    relief: float,
    on_axis: float,
    radius_nm: tuple[float, float] | None = None,
    coverage: float | None = None,
    crowding: float | None = None,
) -> tuple[Particle, ...]:
    """Particles lying on a support: apart, touching, overlapping and cut by the edge.

    Parameters
    ----------
    on_axis
        Part of the particles seen within a few degrees of a low-index direction.
    radius_nm
        Least and greatest mean radius of the scene's population (default 0.9 and 4.5, the upper
        limited by the field); single particles spread by 18 % about it.
    coverage
        Part of the field to cover (default drawn, 0.04 to 0.4).
    crowding
        Chance that a particle is put against an earlier one (default drawn, 0 to 0.6).
    """
    low, high = radius_nm or (0.9, min(4.5, 0.3 * field_nm))
    mean_nm = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    coverage = float(rng.uniform(0.04, 0.4)) if coverage is None else coverage
    crowding = float(rng.uniform(0.0, 0.6)) if crowding is None else crowding
    particles: list[Particle] = []
    covered_nm2 = 0.0
    for _ in range(400):
        if covered_nm2 >= coverage * field_nm**2 or len(particles) >= 120:
            break
        radius = float(np.clip(mean_nm * rng.lognormal(0.0, 0.18), 0.6, 6.0))
        if particles and rng.random() < crowding:
            host = particles[int(rng.integers(len(particles)))]
            angle = rng.uniform(0.0, 2.0 * np.pi)
            apart = (host.radius_nm + radius) * rng.choice([1.0, rng.uniform(0.7, 1.15)])
            y = host.centre_nm[1] + apart * np.sin(angle)
            x = host.centre_nm[2] + apart * np.cos(angle)
        else:
            y, x = rng.uniform(-0.5 * radius, field_nm + 0.5 * radius, 2)
        if not (-radius < y < field_nm + radius and -radius < x < field_nm + radius):
            continue
        # It rests on the support (a little flattened or sunk), or on what it overlaps with.
        surface_nm = support_nm * (1.0 + relief)
        z = surface_nm + radius * rng.uniform(0.6, 1.0)
        overlapping = 0
        for other in particles:
            apart = math.hypot(y - other.centre_nm[1], x - other.centre_nm[2])
            touch = 0.97 * (radius + other.radius_nm)
            if apart < touch:
                overlapping += 1
                z = max(z, other.centre_nm[0] + math.sqrt(touch**2 - apart**2))
                if apart < 0.55 * touch:
                    overlapping = 2
        if overlapping > 1:
            continue
        material = str(rng.choice(materials))
        structure: Literal["fcc", "wurtzite", "zincblende"] = "fcc"
        if material == "CdSe":
            structure = "wurtzite" if rng.random() < 0.7 else "zincblende"
        particles.append(
            Particle(
                material=material,
                structure=structure,
                centre_nm=(float(z), float(y), float(x)),
                radius_nm=radius,
                twinned=bool(structure != "wurtzite" and rng.random() < 0.25),
                on_axis=bool(rng.random() < on_axis),
                seed=int(rng.integers(2**31)),
            )
        )
        inside = np.clip([y + radius, x + radius], 0, field_nm) - np.clip(
            [y - radius, x - radius], 0, field_nm
        )
        covered_nm2 += float(np.pi / 4 * np.prod(inside))
    return tuple(particles)


def simulate_micrographs(scene: Scene) -> Micrographs:
    """Micrographs of a scene with labels: multislice, lens, camera.

    One exit wave is computed for the scene (2 to 10 s for 512 x 512 px on one core) and imaged
    once for each exposure (0.03 s).
    """
    rng = np.random.default_rng(scene.seed)
    crystals = [crystal_positions(particle) for particle in scene.particles]
    instances = label_particles(scene, crystals)
    wave = _exit_wave(scene, crystals, rng)
    expected = np.empty((len(scene.exposures), scene.size_px, scene.size_px), np.float32)
    pixels = np.empty(expected.shape, np.int16)
    for k, exposure in enumerate(scene.exposures):
        electrons = _electrons(scene, wave, exposure)
        shading = 1.0 + exposure.shading * _slow_field(rng, scene.size_px, waves=1.5)
        electrons *= shading.astype(np.float32)
        expected[k] = exposure.offset_counts + exposure.gain_counts_per_e * ndimage.gaussian_filter(
            electrons, exposure.mtf_sigma_px, mode="reflect"
        )
        pixels[k] = _record(electrons, exposure, rng)
    return Micrographs(
        pixels=pixels,
        expected_counts=expected,
        label=instances > 0,
        instances=instances,
        scene=scene,
    )


def crystal_positions(particle: Particle) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Positions (n, 3) in nm as (z, y, x), and atomic numbers (n,), of a particle's atoms."""
    rng = np.random.default_rng(particle.seed)
    radius_a = 10.0 * particle.radius_nm
    axes = rng.uniform(0.88, 1.14, 3)
    if particle.material == "CdSe" and rng.random() < 0.3:
        axes[0] *= rng.uniform(1.2, 1.6)  # a short rod
    positions, numbers = _lattice(particle, 1.05 * radius_a * axes.max())
    positions += rng.uniform(-2.0, 2.0, 3)
    if particle.twinned:
        positions, numbers = _twin(positions, numbers, offset_a=rng.uniform(-0.4, 0.4) * radius_a)
    inside = ((positions / (radius_a * axes)) ** 2).sum(1) < 1.0
    for _ in range(int(rng.integers(0, 8))):
        normal = rng.normal(size=3)
        normal /= np.linalg.norm(normal)
        inside &= positions @ normal < radius_a * rng.uniform(0.68, 1.0)
    rotation = Rotation.random(rng=rng)
    if particle.on_axis:
        zone = np.array([(0, 1, 1), (0, 0, 1), (1, 1, 1), (1, 1, 2)])[
            rng.choice(4, p=[0.5, 0.2, 0.2, 0.1])
        ]
        upright = Rotation.align_vectors([[1.0, 0.0, 0.0]], [zone / np.linalg.norm(zone)])[0]
        tilt = Rotation.from_rotvec(np.radians(2.5) * rng.normal(size=3) * [0.0, 1.0, 1.0])
        spin = Rotation.from_rotvec([rng.uniform(0.0, 2.0 * np.pi), 0.0, 0.0])
        rotation = tilt * spin * upright
    placed = rotation.apply(positions[inside]) / 10.0 + particle.centre_nm
    return placed, numbers[inside]


def label_particles(
    scene: Scene,
    crystals: Sequence[tuple[NDArray[np.float64], NDArray[np.int64]]],
    *,
    smoothing_nm: float = 0.15,
    level: float = 0.06,
) -> NDArray[np.uint16]:
    """Instance labels (H, W): where the smoothed projected density is above 6 % of its maximum.

    Each particle is compared with its own maximum, so that a small one beside a large one keeps
    its rim, and its holes are filled.
    """
    size = scene.size_px
    instances = np.zeros((size, size), np.uint16)
    best = np.zeros((size, size), np.float32)
    sigma_px = smoothing_nm / scene.pixel_size_nm
    for number, (positions, _) in enumerate(crystals, start=1):
        if not len(positions):
            continue
        # A particle is smoothed in a box of its own, which also sees what lies outside the field.
        at = positions[:, 1:] / scene.pixel_size_nm
        corner = np.floor(at.min(0) - 4 * sigma_px - 2).astype(int)
        shape = np.ceil(at.max(0) + 4 * sigma_px + 2).astype(int) - corner
        index = np.floor(at - corner).astype(int)
        counts = np.bincount(index[:, 0] * shape[1] + index[:, 1], minlength=shape[0] * shape[1])
        density = ndimage.gaussian_filter(counts.reshape(shape).astype(np.float32), sigma_px)
        mask = ndimage.binary_fill_holes(density > level * density.max())
        low = np.maximum(corner, 0)
        high = np.minimum(corner + shape, size)
        if (high <= low).any():
            continue
        field = np.s_[low[0] : high[0], low[1] : high[1]]
        box = np.s_[
            low[0] - corner[0] : high[0] - corner[0], low[1] - corner[1] : high[1] - corner[1]
        ]
        # inf > 0 would hide later particles; a filled hole simply counts as some density.
        strength = np.where(mask[box], np.maximum(density[box], np.float32(1e-6)), 0)
        wins = strength > best[field]
        best[field][wins] = strength[wins]
        instances[field][wins] = number
    return instances


def save_micrographs(path: Path, micrographs: Micrographs) -> None:
    """Write pixels, truth and parameters to one .npz file, complete or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as stream:
        np.savez(
            stream,
            pixels=micrographs.pixels,
            instances=micrographs.instances,
            scene=np.array(json.dumps(micrographs.scene.as_dict())),
        )
    partial.replace(path)


def _draw_exposure(
    rng: np.random.Generator, regime: Regime, *, voltage_kv: float, pixel_size_nm: float
) -> Exposure:
    lattice = regime == "lattice"
    corrected = lattice and rng.random() < 0.45
    if corrected:
        cs_mm = rng.uniform(-0.02, 0.02)
        defocus_nm = rng.normal(0.0, 10.0)
    else:
        cs_mm = rng.uniform(0.5, 2.5)
        wavelength_nm = _wavelength_nm(voltage_kv)
        scherzer_nm = 1.2 * math.sqrt(cs_mm * 1e6 * wavelength_nm)
        defocus_nm = rng.normal(0.8 * scherzer_nm, 30.0) if lattice else rng.uniform(-90.0, 90.0)
        if not lattice and rng.random() < 0.35:
            defocus_nm = rng.uniform(20.0, 300.0)  # films are often taken well under focus
    if lattice:
        aperture_mrad = math.inf if rng.random() < 0.7 else rng.uniform(14.0, 40.0)
    else:
        aperture_mrad = np.exp(rng.uniform(np.log(6.0), np.log(30.0)))
    dose = np.exp(rng.uniform(np.log(60.0 if lattice else 15.0), np.log(3000.0)))
    # Below half an electron a pixel nothing can be learnt.
    dose = max(float(dose), 0.5 / (100.0 * pixel_size_nm**2))
    return Exposure(
        defocus_nm=float(defocus_nm),
        cs_mm=float(cs_mm),
        astigmatism_nm=float(abs(rng.normal(0.0, 4.0 if lattice else 10.0))),
        astigmatism_angle_rad=float(rng.uniform(0.0, np.pi)),
        focal_spread_nm=float(rng.uniform(1.5, 8.0)),
        angular_spread_mrad=float(rng.uniform(0.05, 0.5)),
        aperture_mrad=float(aperture_mrad),
        dose_e_per_a2=dose,
        mtf_sigma_px=float(rng.uniform(0.3, 1.5)),
        gain_counts_per_e=float(np.exp(rng.uniform(np.log(1.0), np.log(40.0)))),
        readout_counts=float(rng.uniform(0.0, 6.0)),
        offset_counts=float(rng.choice([0.0, rng.uniform(0.0, 200.0)])),
        shading=float(rng.uniform(0.0, 0.15)),
        bad_pixels=int(rng.choice([0, int(rng.integers(1, 40))])),
    )


def _wavelength_nm(voltage_kv: float) -> float:
    # Relativistic de Broglie wavelength: h c / sqrt(eV (2 m c2 + eV)), energies in keV.
    return 1.23984 / math.sqrt(voltage_kv * (2 * 510.999 + voltage_kv))


def _lattice(particle: Particle, reach_a: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Atoms of the perfect crystal around the origin, Å, at least ``reach_a`` in each direction."""
    if particle.structure == "fcc":
        cell = ase.build.bulk(particle.material, "fcc", a=_FCC_A[particle.material], cubic=True)
    elif particle.structure == "zincblende":
        cell = ase.build.bulk(particle.material, "zincblende", a=_CDSE_ZINCBLENDE_A, cubic=True)
    else:
        a, c = _CDSE_WURTZITE_A
        cell = ase.build.bulk(particle.material, "wurtzite", a=a, c=c, orthorhombic=True)
    lengths = cell.cell.lengths()
    repeats = [2 * math.ceil(reach_a / length) + 1 for length in lengths]
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


@functools.cache
def _carbon_block() -> NDArray[np.float32]:
    """Periodic cube of amorphous carbon, Å, from which every support is cut.

    Random points are thinned (of two closer than the least distance the later goes, Matérn's
    second process) until the density is that of the film; one block, because thinning a million
    atoms for each scene would cost more than its multislice.
    """
    rng = np.random.default_rng(20201)
    side, least = _CARBON_BLOCK_A, _CARBON_DISTANCE_A
    kept = np.empty((0, 3))
    target = int(_CARBON_PER_A3 * side**3)
    while len(kept) < target:
        points = np.vstack([kept, rng.uniform(0.0, side, (target, 3))])
        pairs = cKDTree(points, boxsize=np.full(3, side)).query_pairs(least, output_type="ndarray")
        # Sequential by age: a point falls only if an older one nearby is among those kept so far.
        # Dropping every later partner is a little too strict, which the next round makes good.
        drop = np.zeros(len(points), bool)
        drop[pairs.max(1)] = True
        kept = points[~drop]
    return kept[:target].astype(np.float32)


def _support(scene: Scene, extent_a: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Carbon atoms (n, 3) of the support, Å, as (y, x, z), over a square of side ``extent_a``."""
    block, side = _carbon_block(), _CARBON_BLOCK_A
    thickness_a = 10.0 * scene.support_nm
    top_a = thickness_a * (1.0 + scene.relief)
    cells = math.ceil(extent_a / side)
    pieces: list[NDArray[np.float64]] = []
    for row in range(cells):
        for column in range(cells):
            # Each cell sees the block from another side, so that no pattern repeats.
            piece = (
                block[:, rng.permutation(3)] * rng.choice([-1, 1], 3) + rng.uniform(0, side, 3)
            ) % side
            pieces.extend(
                piece + np.array([row, column, layer]) * side
                for layer in range(math.ceil(top_a / side))
            )
    atoms = np.concatenate(pieces)
    atoms = atoms[(atoms[:, 0] < extent_a) & (atoms[:, 1] < extent_a)]
    if scene.relief == 0.0:
        return atoms[atoms[:, 2] < thickness_a]
    # The upper side is flat where the particles lie; the lower one is hilly.
    grid = 128
    hills = _slow_field(rng, grid, waves=rng.uniform(1.0, 5.0))
    index = np.minimum((atoms[:, :2] * (grid / extent_a)).astype(int), grid - 1)
    bottom = top_a - thickness_a * (1.0 + scene.relief * hills[index[:, 0], index[:, 1]])
    inside: NDArray[np.bool_] = (atoms[:, 2] > bottom) & (atoms[:, 2] < top_a)
    return atoms[inside]


def _slow_field(rng: np.random.Generator, size: int, *, waves: float) -> NDArray[np.float64]:
    """Smooth periodic random field (size, size) in -1..1 with about ``waves`` periods across."""
    frequency = np.fft.fftfreq(size, 1.0 / size)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    spectrum = np.exp(-((radius / waves) ** 2)) * np.fft.fft2(rng.normal(size=(size, size)))
    spectrum[0, 0] = 0.0
    field = np.fft.ifft2(spectrum).real
    return np.asarray(field / np.abs(field).max())


def _exit_wave(
    scene: Scene,
    crystals: Sequence[tuple[NDArray[np.float64], NDArray[np.int64]]],
    rng: np.random.Generator,
) -> Any:
    """Wave (abTEM) behind the specimen, on the fine grid with its margin."""
    grid = (scene.size_px + 2 * _MARGIN_PX) * scene.binning
    step_a = 10.0 * scene.pixel_size_nm / scene.binning
    margin_a = _MARGIN_PX * 10.0 * scene.pixel_size_nm
    extent_a = grid * step_a
    carbon = _support(scene, extent_a, rng)
    positions, numbers = [], []
    for particle, (crystal_nm, elements) in zip(scene.particles, crystals, strict=True):
        crystal = 10.0 * crystal_nm[:, [1, 2, 0]] + [margin_a, margin_a, 0.0]
        inside = ((crystal[:, :2] >= 0.0) & (crystal[:, :2] < extent_a)).all(1)
        positions.append(crystal[inside])
        numbers.append(elements[inside])
        # Where a particle is sunk into the support, its own atoms displace the carbon.
        centre = 10.0 * np.array(particle.centre_nm)[[1, 2, 0]] + [margin_a, margin_a, 0.0]
        radius_a = 10.0 * particle.radius_nm
        under = np.flatnonzero(np.abs(carbon - centre).max(1) < radius_a)
        sunk = ((carbon[under] - centre) ** 2).sum(1) < radius_a**2
        carbon = np.delete(carbon, under[sunk], axis=0)
    positions.append(carbon)
    numbers.append(np.full(len(carbon), 6))
    xyz = np.concatenate(positions)
    xyz += rng.normal(0.0, _VIBRATION_A, xyz.shape)
    # Beam from above or from below: particles at the entrance or the exit of the specimen.
    if rng.random() < 0.5:
        xyz[:, 2] *= -1.0
    xyz[:, 2] -= xyz[:, 2].min() - 1.0
    height_a = float(xyz[:, 2].max()) + 1.0
    xyz[:, :2] %= extent_a
    atoms = ase.Atoms(
        numbers=np.concatenate(numbers),
        positions=xyz,
        cell=[extent_a, extent_a, height_a],
        pbc=[True, True, False],
    )
    # Half the resolution resolves less in depth, too.
    slice_a = 2.5 if scene.binning == 1 else 4.0
    with abtem.config.set({"diagnostics.progress_bar": False}):
        potential = abtem.Potential(
            atoms,
            gpts=grid,
            slice_thickness=height_a / math.ceil(height_a / slice_a),
            parametrization="lobato",
            projection="infinite",
        )
        beam = abtem.PlaneWave(energy=1e3 * scene.voltage_kv)
        return beam.multislice(potential, lazy=False)


def _electrons(scene: Scene, wave: Any, exposure: Exposure) -> NDArray[np.float32]:
    """Mean electrons per pixel (H, W) that reach the camera."""
    ctf = abtem.CTF(
        energy=1e3 * scene.voltage_kv,
        semiangle_cutoff=exposure.aperture_mrad,
        focal_spread=10.0 * exposure.focal_spread_nm,
        angular_spread=exposure.angular_spread_mrad,
        defocus=10.0 * exposure.defocus_nm,
        Cs=1e7 * exposure.cs_mm,
        astigmatism=10.0 * exposure.astigmatism_nm,
        astigmatism_angle=exposure.astigmatism_angle_rad,
    )
    image = np.abs(wave.apply_ctf(ctf).array) ** 2
    bins = scene.binning
    size = image.shape[0] // bins
    image = image.reshape(size, bins, size, bins).mean((1, 3))
    inner = np.s_[_MARGIN_PX : _MARGIN_PX + scene.size_px]
    area_a2 = (10.0 * scene.pixel_size_nm) ** 2
    return np.asarray(image[inner, inner] * (exposure.dose_e_per_a2 * area_a2), np.float32)


def _record(
    electrons: NDArray[np.float32], exposure: Exposure, rng: np.random.Generator
) -> NDArray[np.int16]:
    """What the camera writes: shot noise blurred by the scintillator, readout, bad pixels."""
    counts = rng.poisson(electrons).astype(np.float32)
    counts = ndimage.gaussian_filter(counts, exposure.mtf_sigma_px, mode="reflect")
    counts *= exposure.gain_counts_per_e
    counts += exposure.offset_counts
    counts += rng.normal(0.0, 1.0, counts.shape) * exposure.readout_counts
    if exposure.bad_pixels:
        at = rng.integers(0, counts.shape[0], (2, exposure.bad_pixels))
        hot = float(counts.max()) * rng.uniform(1.5, 4.0)
        counts[at[0], at[1]] = np.where(rng.random(exposure.bad_pixels) < 0.5, 0.0, hot)
    return np.clip(np.rint(counts), -32768, 32767).astype(np.int16)

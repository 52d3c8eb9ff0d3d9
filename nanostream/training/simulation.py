"""HRTEM micrographs of supported nanoparticles, with ground truth, from multislice.

A :class:`Scene` says what is in the microscope and how it is looked at; the same scene always
gives the same micrographs, bit for bit on the same machine.
:func:`draw_scene` draws one at random, and its breadth is the point: a model trained on many
kinds of simulated micrograph carries over to real ones, a model trained on many micrographs of
one kind does not.

Lengths are in nm except inside this file, where abTEM and ASE work in Å. Arrays are (y, x); the
first axis of abTEM's grid is taken as y, so nothing is transposed.

References
----------
Madsen, J. & Susi, T. The abTEM code: transmission electron microscopy from first principles.
Open Research Europe 1, 24 (2021). https://doi.org/10.12688/openreseurope.13015.2
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import abtem
import ase
import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from nanostream.training.crystals import MATERIALS, Particle, crystal_positions, draw_form
from nanostream.training.sets import Kind
from nanostream.training.supports import Film, Support, slow_field, support_atoms

__all__ = [
    "MATERIALS",
    "Exposure",
    "Micrographs",
    "Particle",
    "Scene",
    "crystal_positions",
    "draw_particles",
    "draw_scene",
    "label_particles",
    "save_micrographs",
    "simulate_micrographs",
]

Regime = Literal["lattice", "mass-thickness"]

# Thermal displacement of one frozen lattice, root mean square along one axis.
_VIBRATION_A = 0.08

# Grid outside the micrograph: the multislice is periodic, and what one edge scatters would
# appear at the other.
_MARGIN_PX = 32

# Plans that FFTW measures differ from run to run, and so would the sums; they are no faster.
_ABTEM = {"diagnostics.progress_bar": False, "fftw.planning_effort": "FFTW_ESTIMATE"}

# Carbon nearer than this to an atom of a crystal is displaced by it.
_CONTACT_A = 2.2

# How far inside the outermost atoms a label ends. Columns at the rim have one or two atoms, and
# under focus a bright fringe lies on them: in 113 simulated images of Au, Ag, Pt and Pd at 0.04 to
# 0.085 nm a pixel, 0 to 400 nm under focus, the contrast of the particles reached half its value
# here (about 0.13 to 0.24 nm inside an outline half a layer beyond the atoms), which is where
# people draw an edge (docs/decisions/0007).
_RIM_NM = 0.05

# Channels between columns, up to twice this wide, belong to the crystal.
_CHANNEL_NM = 0.3

# Grid of the labels, which a pixel of 0.08 nm would make too coarse.
_LABEL_STEP_NM = 0.025


@dataclass(frozen=True)
class Exposure:
    """How one micrograph of a scene is taken: lens, dose, camera.

    Attributes
    ----------
    defocus_nm
        Positive is under focus.
    astigmatism_nm, trefoil_nm, coma_nm
        Two- and three-fold astigmatism and axial coma (C12, C23, C21), with their angles.
    focal_spread_nm, angular_spread_mrad
        Of the partly coherent illumination.
    aperture_mrad
        Half angle of the objective aperture, infinite if there is none.
    vibration_nm, drift_nm, drift_angle_rad
        Movement of the image during the exposure: deviation of a jitter, and a straight way.
    mtf_sigma_px
        Blur of the scintillator, shot noise included.
    offset_counts
        -32768 where SerialEM subtracts it from unsigned data.
    shading, stripes
        Relative unevenness of the light, and of the gain from column to column.
    bad_pixels, xrays
        Dead or hot pixels, and hits of X-rays.
    """

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
    trefoil_nm: float = 0.0
    trefoil_angle_rad: float = 0.0
    coma_nm: float = 0.0
    coma_angle_rad: float = 0.0
    vibration_nm: float = 0.0
    drift_nm: float = 0.0
    drift_angle_rad: float = 0.0
    stripes: float = 0.0
    xrays: int = 0


@dataclass(frozen=True)
class Scene:
    """What is in the microscope, and the exposures taken of it.

    ``pixel_size_nm`` is that of the micrograph; the wave is computed on a grid ``binning`` times
    finer. ``support_nm`` to ``soot_nm`` are the fields of `nanostream.training.supports.Support`.
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
    film: Film = "carbon"
    hole: float = 0.0
    dirt_nm: float = 0.0
    soot_nm: tuple[float, ...] = ()

    @property
    def materials(self) -> tuple[str, ...]:
        """Materials of the particles, sorted, each once; empty for a bare support."""
        return tuple(sorted({particle.material for particle in self.particles}))

    @property
    def support(self) -> Support:
        """What the particles lie on."""
        return Support(
            thickness_nm=self.support_nm,
            film=self.film,
            relief=self.relief,
            hole=self.hole,
            dirt_nm=self.dirt_nm,
            soot_nm=self.soot_nm,
        )

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
    kind: Kind = "usual",
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
        "lattice" (0.01 to 0.045 nm/px) or "mass-thickness" (0.04 to 0.085 nm/px, objective
        aperture); by default 55 % and 45 % of the scenes.
    images
        Exposures of the scene. They share the exit wave, so each costs little.
    kind
        "bare": no particles, but soot and dirt on most supports: what must not be taken for
        particles. "faint": particles of 1.6 to 6 nm in 4 to 10 nm of amorphous matter: film,
        ligands and what is left of the solvent, as in the CdSe micrographs of Groschner et al.
        (2020). "defocused": particles of 1.6 to 7 nm (in four of five), 40 to 500 nm out of focus,
        as on the windows of heating holders. The last two are of lattice resolution, whatever
        ``regime`` says.
    """
    if kind in ("faint", "defocused"):
        regime = "lattice"
    if regime is None:
        regime = "lattice" if rng.random() < 0.55 else "mass-thickness"
    lattice = regime == "lattice"
    finest_nm, coarsest_nm = (0.01, 0.045) if lattice else (0.04, 0.085)
    if kind == "defocused":  # finer ones are resampled to this
        finest_nm = 0.02
    pixel_size_nm = float(np.exp(rng.uniform(*np.log((finest_nm, coarsest_nm)))))
    voltage_kv = float(rng.choice([80.0, 200.0, 300.0], p=[0.2, 0.35, 0.45]))
    support_nm = float(np.exp(rng.uniform(*np.log((1.0, 8.0)))))
    relief = float(rng.uniform(0.1, 0.8)) if rng.random() < 0.5 else 0.0
    chosen = [str(rng.choice(materials))]
    if len(materials) > 1 and rng.random() < 0.1:
        chosen.append(str(rng.choice([m for m in materials if m != chosen[0]])))
    field_nm = size_px * pixel_size_nm
    bareness = rng.random()
    soot = tuple(float(r) for r in rng.uniform(3.0, 8.0, int(rng.integers(1, 4))))
    scatter = partial(draw_particles, rng, materials=chosen, field_nm=field_nm, relief=relief)
    particles: tuple[Particle, ...] = ()
    if bareness > 0.08:  # the others are bare support, with or without soot
        # Colloidal crystals lie on their facets, sintered islands as they come.
        on_axis = float(rng.uniform(0.2, 1.0) if lattice else rng.uniform(0.0, 0.5))
        particles = scatter(support_nm=support_nm, on_axis=on_axis)
    exposures = tuple(
        _draw_exposure(rng, regime, voltage_kv=voltage_kv, pixel_size_nm=pixel_size_nm)
        for _ in range(images)
    )
    scene = Scene(
        regime=regime,
        size_px=size_px,
        pixel_size_nm=pixel_size_nm,
        binning=1 if lattice else 2,
        voltage_kv=voltage_kv,
        support_nm=support_nm,
        relief=relief,
        particles=particles,
        exposures=exposures,
        seed=int(rng.integers(2**31)),
        film="nitride" if rng.random() < (0.05 if lattice else 0.3) else "carbon",
        hole=float(rng.uniform(0.05, 0.5)) if rng.random() < 0.1 else 0.0,
        dirt_nm=float(rng.uniform(0.5, 4.0)) if rng.random() < 0.25 else 0.0,
        soot_nm=soot if bareness < 0.04 or rng.random() < 0.05 else (),
    )
    if kind == "bare":
        scene = replace(
            scene,
            particles=(),
            soot_nm=soot if rng.random() < 0.7 else (),
            dirt_nm=float(rng.uniform(0.5, 4.0)) if rng.random() < 0.5 else 0.0,
        )
    if kind == "faint":
        support_nm = float(rng.uniform(4.0, 10.0))
        on_axis = float(rng.uniform(0.2, 1.0))
        particles = scatter(support_nm=support_nm, on_axis=on_axis, radius_nm=(0.8, 3.0))
        scene = replace(scene, support_nm=support_nm, particles=particles, hole=0.0)
    if kind == "defocused":
        on_axis = float(rng.uniform(0.0, 0.5))
        particles = scatter(support_nm=support_nm, on_axis=on_axis, radius_nm=(0.8, 3.5))
        scene = replace(
            scene,
            particles=particles if bareness > 0.2 else (),
            exposures=tuple(
                replace(exposure, defocus_nm=_far_from_focus(rng)) for exposure in exposures
            ),
            film="nitride" if rng.random() < 0.5 else "carbon",
        )
    return scene


def _far_from_focus(rng: np.random.Generator) -> float:
    """Defocus in nm, three in four times under focus."""
    return float(rng.uniform(60.0, 500.0) if rng.random() < 0.75 else rng.uniform(-200.0, -40.0))


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
        Least and greatest mean radius of the scene's population (default 0.75 and 6, the upper
        limited by the field); single particles spread by a fifth or more about it.
    coverage
        Part of the field to cover (default drawn, 0.04 to 0.4).
    crowding
        Chance that a particle is put against an earlier one (default drawn, 0 to 0.6).
    """
    low, high = radius_nm or (max(0.75, 0.02 * field_nm), min(6.0, 0.35 * field_nm))
    mean_nm = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    # Colloids are all alike, what has sintered is not.
    spread = 0.18 if radius_nm or rng.random() < 0.5 else float(rng.uniform(0.2, 0.5))
    coverage = float(rng.uniform(0.04, 0.4)) if coverage is None else coverage
    crowding = float(rng.uniform(0.0, 0.6)) if crowding is None else crowding
    particles: list[Particle] = []
    covered_nm2 = 0.0
    for _ in range(400):
        if covered_nm2 >= coverage * field_nm**2 or len(particles) >= 120:
            break
        radius = float(np.clip(mean_nm * rng.lognormal(0.0, spread), 0.6, 6.5))
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
        structure, shape, twinned = draw_form(rng, material)
        particles.append(
            Particle(
                material=material,
                structure=structure,
                centre_nm=(float(z), float(y), float(x)),
                radius_nm=radius,
                twinned=twinned,
                on_axis=bool(rng.random() < on_axis),
                seed=int(rng.integers(2**31)),
                shape=shape,
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
        electrons *= _unevenness(exposure, scene.size_px, rng)
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


def label_particles(
    scene: Scene, crystals: Sequence[tuple[NDArray[np.float64], NDArray[np.int64]]]
) -> NDArray[np.uint16]:
    """Instance labels (H, W): the projection of each crystal.

    A crystal ends where its contrast is half, just inside its outermost atoms; its channels and
    holes belong to it. Where particles overlap in projection, the one with more atoms there has
    the pixel.
    """
    size = scene.size_px
    fine = max(1, math.ceil(scene.pixel_size_nm / _LABEL_STEP_NM))
    instances = np.zeros((size, size), np.uint16)
    best = np.zeros((size, size), np.float32)
    for number, (positions, _) in enumerate(crystals, start=1):
        if not len(positions):
            continue
        at = positions[:, 1:] / scene.pixel_size_nm
        # A particle is drawn in a box of its own, which also sees what lies outside the field.
        border = math.ceil(2.0 * _CHANNEL_NM / scene.pixel_size_nm) + 2
        corner = np.floor(at.min(0)).astype(int) - border
        shape = np.ceil(at.max(0)).astype(int) + border - corner
        low, high = np.maximum(corner, 0), np.minimum(corner + shape, size)
        if (high <= low).any():
            continue
        mask, density = _projection((at - corner) * fine, shape * fine, scene.pixel_size_nm / fine)
        mask, density = (_binned(array, fine) for array in (mask, density))
        field = np.s_[low[0] : high[0], low[1] : high[1]]
        box = np.s_[
            low[0] - corner[0] : high[0] - corner[0], low[1] - corner[1] : high[1] - corner[1]
        ]
        strength = np.where(mask[box] > 0.5, np.maximum(density[box], np.float32(1e-6)), 0)
        wins = strength > best[field]
        best[field][wins] = strength[wins]
        instances[field][wins] = number
    return instances


def _projection(
    at: NDArray[np.float64], shape: NDArray[np.int64], step_nm: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Outline (0 or 1) and smoothed density of atoms at pixel positions ``at``, in a box."""
    index = np.floor(at).astype(int)
    counts = np.bincount(index[:, 0] * shape[1] + index[:, 1], minlength=shape[0] * shape[1])
    counts = counts.reshape(shape).astype(np.float32)
    # Closed: grown by a channel's half width, and shrunk again by that and the rim.
    from_atoms = cv2.distanceTransform((counts == 0).astype(np.uint8), cv2.DIST_L2, 5)
    grown = from_atoms * step_nm <= _CHANNEL_NM
    inside = cv2.distanceTransform(grown.astype(np.uint8), cv2.DIST_L2, 5)
    outline = ndimage.binary_fill_holes(inside * step_nm > _CHANNEL_NM + _RIM_NM)
    density = ndimage.gaussian_filter(counts, 0.15 / step_nm)
    return np.asarray(outline, np.float32), np.asarray(density, np.float32)


def _binned(array: NDArray[np.float32], fine: int) -> NDArray[np.float32]:
    height, width = array.shape
    return np.asarray(array.reshape(height // fine, fine, width // fine, fine).mean((1, 3)))


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
    if lattice and rng.random() < 0.4:  # aberration corrected
        cs_mm = rng.uniform(-0.03, 0.03)
        defocus_nm = rng.normal(0.0, 12.0)
    else:
        cs_mm = rng.uniform(0.5, 2.5)
        scherzer_nm = 1.2 * math.sqrt(cs_mm * 1e6 * _wavelength_nm(voltage_kv))
        defocus_nm = rng.normal(0.8 * scherzer_nm, 35.0)
        if not lattice:  # films are often taken well under focus
            defocus_nm = rng.choice([rng.uniform(-120.0, 120.0), rng.uniform(20.0, 400.0)])
    aperture_mrad = math.inf
    if rng.random() < (0.3 if lattice else 0.85):
        least, most = (14.0, 40.0) if lattice else (5.0, 30.0)
        aperture_mrad = np.exp(rng.uniform(np.log(least), np.log(most)))
    # Below half an electron a pixel nothing can be learnt.
    dose = max(np.exp(rng.uniform(np.log(20.0), np.log(3000.0))), 0.5 / (100.0 * pixel_size_nm**2))

    def sometimes(part: float, value: float) -> float:
        return float(value) if rng.random() < part else 0.0

    def angle() -> float:
        return float(rng.uniform(0.0, 2.0 * np.pi))

    return Exposure(
        defocus_nm=float(defocus_nm),
        cs_mm=float(cs_mm),
        astigmatism_nm=float(abs(rng.normal(0.0, 4.0 if lattice else 10.0))),
        astigmatism_angle_rad=angle(),
        focal_spread_nm=float(rng.uniform(1.5, 10.0)),
        angular_spread_mrad=float(rng.uniform(0.05, 0.6)),
        aperture_mrad=float(aperture_mrad),
        dose_e_per_a2=float(dose),
        mtf_sigma_px=float(rng.uniform(0.3, 1.6)),
        gain_counts_per_e=float(np.exp(rng.uniform(np.log(1.0), np.log(40.0)))),
        readout_counts=float(rng.uniform(0.0, 6.0)),
        offset_counts=float(
            rng.choice([0.0, rng.uniform(0.0, 200.0), -32768.0], p=[0.5, 0.45, 0.05])
        ),
        shading=float(0.2 * rng.uniform() ** 2),
        bad_pixels=int(rng.choice([0, int(rng.integers(1, 40))])),
        trefoil_nm=sometimes(0.5, abs(rng.normal(0.0, 40.0))),
        trefoil_angle_rad=angle(),
        coma_nm=sometimes(0.5, abs(rng.normal(0.0, 60.0))),
        coma_angle_rad=angle(),
        vibration_nm=sometimes(0.5, rng.uniform(0.0, 0.05 if lattice else 0.12)),
        drift_nm=sometimes(0.3, rng.uniform(0.0, 0.15 if lattice else 0.5)),
        drift_angle_rad=angle(),
        stripes=sometimes(0.2, rng.uniform(0.0, 0.02)),
        xrays=int(sometimes(0.3, int(rng.integers(1, 12)))),
    )


def _wavelength_nm(voltage_kv: float) -> float:
    # Relativistic de Broglie wavelength: h c / sqrt(eV (2 m c2 + eV)), energies in keV.
    return 1.23984 / math.sqrt(voltage_kv * (2 * 510.999 + voltage_kv))


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
    film, film_numbers = support_atoms(scene.support, extent_a, rng)
    kept = np.ones(len(film), bool)
    positions, numbers = [], []
    for crystal_nm, elements in crystals:
        crystal = 10.0 * crystal_nm[:, [1, 2, 0]] + [margin_a, margin_a, 0.0]
        inside = ((crystal[:, :2] >= 0.0) & (crystal[:, :2] < extent_a)).all(1)
        if not inside.any():
            continue
        positions.append(crystal[inside])
        numbers.append(elements[inside])
        # Where a particle is sunk into the support or covered by dirt, it displaces the carbon.
        low, high = crystal.min(0) - _CONTACT_A, crystal.max(0) + _CONTACT_A
        near = np.flatnonzero(((film > low) & (film < high)).all(1))
        distance, _ = cKDTree(crystal).query(film[near], distance_upper_bound=_CONTACT_A)
        kept[near[np.isfinite(distance)]] = False
    positions.append(film[kept])
    numbers.append(film_numbers[kept])
    xyz = np.concatenate(positions)
    xyz += rng.normal(0.0, _VIBRATION_A, xyz.shape)
    # Beam from above or from below: particles at the entrance or the exit of the specimen.
    if rng.random() < 0.5:
        xyz[:, 2] *= -1.0
    xyz[:, 2] -= xyz[:, 2].min(initial=0.0) - 1.0
    height_a = float(xyz[:, 2].max(initial=0.0)) + 1.0
    xyz[:, :2] %= extent_a
    atoms = ase.Atoms(
        numbers=np.concatenate(numbers),
        positions=xyz,
        cell=[extent_a, extent_a, height_a],
        pbc=[True, True, False],
    )
    # Half the resolution resolves less in depth, too.
    slice_a = 2.5 if scene.binning == 1 else 4.0
    with abtem.config.set(_ABTEM):
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
        aberration_coefficients={
            "C10": -10.0 * exposure.defocus_nm,
            "C12": 10.0 * exposure.astigmatism_nm,
            "phi12": exposure.astigmatism_angle_rad,
            "C21": 10.0 * exposure.coma_nm,
            "phi21": exposure.coma_angle_rad,
            "C23": 10.0 * exposure.trefoil_nm,
            "phi23": exposure.trefoil_angle_rad,
            "C30": 1e7 * exposure.cs_mm,
        },
    )
    with abtem.config.set(_ABTEM):
        image = np.abs(wave.apply_ctf(ctf).array) ** 2
    if exposure.vibration_nm or exposure.drift_nm:
        image = _moved(image, exposure, scene.pixel_size_nm / scene.binning)
    bins = scene.binning
    size = image.shape[0] // bins
    image = image.reshape(size, bins, size, bins).mean((1, 3))
    inner = np.s_[_MARGIN_PX : _MARGIN_PX + scene.size_px]
    area_a2 = (10.0 * scene.pixel_size_nm) ** 2
    return np.asarray(image[inner, inner] * (exposure.dose_e_per_a2 * area_a2), np.float32)


def _moved(image: NDArray[np.float32], exposure: Exposure, step_nm: float) -> NDArray[np.float32]:
    """Mean of the image over its movement during the exposure."""
    frequency = np.fft.fftfreq(image.shape[0], step_nm)
    ky, kx = frequency[:, None], frequency[None, : image.shape[1] // 2 + 1]
    along = ky * np.sin(exposure.drift_angle_rad) + kx * np.cos(exposure.drift_angle_rad)
    transfer = np.exp(-2.0 * (np.pi * exposure.vibration_nm) ** 2 * (ky**2 + kx**2))
    transfer *= np.sinc(along * exposure.drift_nm)
    return np.asarray(np.fft.irfft2(np.fft.rfft2(image) * transfer, image.shape), np.float32)


def _unevenness(exposure: Exposure, size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Factor (H, W) by which light and gain differ from pixel to pixel."""
    shading = 1.0 + exposure.shading * slow_field(rng, size, waves=1.5)
    if exposure.stripes:
        shading *= 1.0 + exposure.stripes * rng.normal(size=(1, size))
    return shading.astype(np.float32)


def _record(
    electrons: NDArray[np.float32], exposure: Exposure, rng: np.random.Generator
) -> NDArray[np.int16]:
    """What the camera writes: shot noise blurred by the scintillator, readout, bad pixels."""
    counts = rng.poisson(electrons).astype(np.float32)
    counts = ndimage.gaussian_filter(counts, exposure.mtf_sigma_px, mode="reflect")
    if exposure.xrays:
        hits = np.zeros_like(counts)
        hits[tuple(rng.integers(0, counts.shape[0], (2, exposure.xrays)))] = 1.0
        counts += ndimage.gaussian_filter(hits, 0.8) * counts.mean() * rng.uniform(5.0, 40.0)
    counts *= exposure.gain_counts_per_e
    counts += rng.normal(0.0, 1.0, counts.shape) * exposure.readout_counts
    if exposure.bad_pixels:
        at = rng.integers(0, counts.shape[0], (2, exposure.bad_pixels))
        hot = float(counts.max()) * rng.uniform(1.5, 4.0)
        counts[at[0], at[1]] = np.where(rng.random(exposure.bad_pixels) < 0.5, 0.0, hot)
    counts += exposure.offset_counts
    return np.clip(np.rint(counts), -32768, 32767).astype(np.int16)

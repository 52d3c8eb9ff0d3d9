"""Scenes to simulate: what is in the microscope and how it is looked at, drawn at random.

`draw_scene` draws widely, and its breadth is the point: a model trained on many kinds of simulated
micrograph carries over to real ones, a model trained on many micrographs of one kind does not.
`nanostream.training.micrographs` simulates what was drawn.

Lengths are in nm, positions (y, x).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from nanostream.training.crystals import MATERIALS, Particle, draw_form
from nanostream.training.exposures import Exposure, Regime, draw_exposure, draw_far_defocus
from nanostream.training.supports import Film, Support

__all__ = ["Kind", "Scene", "draw_particles", "draw_scene"]

Kind = Literal["usual", "bare", "faint", "defocused"]
"""Kinds of scenes, see `draw_scene`."""

_MOST_TRIES = 400
_MOST_PARTICLES = 120


@dataclass(frozen=True)
class Scene:
    """A field of a specimen, and the exposures taken of it.

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
        """Support that the particles lie on."""
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
    pixel_size_nm = _draw_pixel_size(rng, lattice=lattice, kind=kind)
    voltage_kv = float(rng.choice([80.0, 200.0, 300.0], p=[0.2, 0.35, 0.45]))
    support_nm = float(np.exp(rng.uniform(*np.log((1.0, 8.0)))))
    relief = float(rng.uniform(0.1, 0.8)) if rng.random() < 0.5 else 0.0
    chosen = _draw_materials(rng, materials)
    bareness = rng.random()
    soot = tuple(float(r) for r in rng.uniform(3.0, 8.0, int(rng.integers(1, 4))))
    scatter = partial(
        draw_particles,
        rng,
        materials=chosen,
        field_nm=size_px * pixel_size_nm,
        relief=relief,
    )
    particles: tuple[Particle, ...] = ()
    if bareness > 0.08:  # the others are bare support, with or without soot
        # Colloidal crystals lie on their facets, sintered islands as they come.
        on_axis = float(rng.uniform(0.2, 1.0) if lattice else rng.uniform(0.0, 0.5))
        particles = scatter(support_nm=support_nm, on_axis=on_axis)
    exposures = tuple(
        draw_exposure(rng, regime, voltage_kv=voltage_kv, pixel_size_nm=pixel_size_nm)
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
        return _made_bare(scene, rng, soot)
    if kind == "faint":
        return _made_faint(scene, rng, scatter)
    if kind == "defocused":
        return _made_defocused(scene, rng, scatter, bare=bareness <= 0.2)
    return scene


def _draw_pixel_size(rng: np.random.Generator, *, lattice: bool, kind: Kind) -> float:
    finest_nm, coarsest_nm = (0.01, 0.045) if lattice else (0.04, 0.085)
    if kind == "defocused":  # finer ones are resampled to this
        finest_nm = 0.02
    return float(np.exp(rng.uniform(*np.log((finest_nm, coarsest_nm)))))


def _draw_materials(rng: np.random.Generator, materials: Sequence[str]) -> list[str]:
    """One material, or two in a tenth of the scenes."""
    chosen = [str(rng.choice(materials))]
    if len(materials) > 1 and rng.random() < 0.1:
        chosen.append(str(rng.choice([m for m in materials if m != chosen[0]])))
    return chosen


def _made_bare(scene: Scene, rng: np.random.Generator, soot: tuple[float, ...]) -> Scene:
    return replace(
        scene,
        particles=(),
        soot_nm=soot if rng.random() < 0.7 else (),
        dirt_nm=float(rng.uniform(0.5, 4.0)) if rng.random() < 0.5 else 0.0,
    )


def _made_faint(
    scene: Scene, rng: np.random.Generator, scatter: Callable[..., tuple[Particle, ...]]
) -> Scene:
    support_nm = float(rng.uniform(4.0, 10.0))
    on_axis = float(rng.uniform(0.2, 1.0))
    particles = scatter(support_nm=support_nm, on_axis=on_axis, radius_nm=(0.8, 3.0))
    return replace(scene, support_nm=support_nm, particles=particles, hole=0.0)


def _made_defocused(
    scene: Scene,
    rng: np.random.Generator,
    scatter: Callable[..., tuple[Particle, ...]],
    *,
    bare: bool,
) -> Scene:
    on_axis = float(rng.uniform(0.0, 0.5))
    # Drawn also for a bare scene, so that what is drawn next does not depend on it.
    particles = scatter(support_nm=scene.support_nm, on_axis=on_axis, radius_nm=(0.8, 3.5))
    return replace(
        scene,
        particles=() if bare else particles,
        exposures=tuple(
            replace(exposure, defocus_nm=draw_far_defocus(rng)) for exposure in scene.exposures
        ),
        film="nitride" if rng.random() < 0.5 else "carbon",
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
    surface_nm = support_nm * (1.0 + relief)
    particles: list[Particle] = []
    covered_nm2 = 0.0
    for _ in range(_MOST_TRIES):
        if covered_nm2 >= coverage * field_nm**2 or len(particles) >= _MOST_PARTICLES:
            break
        radius = float(np.clip(mean_nm * rng.lognormal(0.0, spread), 0.6, 6.5))
        y, x = _draw_place(rng, particles, radius, field_nm=field_nm, crowding=crowding)
        if not (-radius < y < field_nm + radius and -radius < x < field_nm + radius):
            continue
        # A little flattened or sunk into the support.
        lying_nm = surface_nm + radius * rng.uniform(0.6, 1.0)
        z = _resting_height(particles, y, x, radius, lying_nm=lying_nm)
        if z is None:
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


def _draw_place(
    rng: np.random.Generator,
    particles: Sequence[Particle],
    radius_nm: float,
    *,
    field_nm: float,
    crowding: float,
) -> tuple[float, float]:
    """Centre (y, x) of the next particle: against an earlier one, or anywhere."""
    if particles and rng.random() < crowding:
        host = particles[int(rng.integers(len(particles)))]
        angle = rng.uniform(0.0, 2.0 * np.pi)
        apart = (host.radius_nm + radius_nm) * rng.choice([1.0, rng.uniform(0.7, 1.15)])
        return (
            host.centre_nm[1] + apart * np.sin(angle),
            host.centre_nm[2] + apart * np.cos(angle),
        )
    y, x = rng.uniform(-0.5 * radius_nm, field_nm + 0.5 * radius_nm, 2)
    return y, x


def _resting_height(
    particles: Sequence[Particle], y: float, x: float, radius_nm: float, *, lying_nm: float
) -> float | None:
    """Height of a particle's centre, on the support or on the one particle that it overlaps.

    None where it would overlap more than one, or one by too much to be told apart.
    """
    z = lying_nm
    overlapping = 0
    for other in particles:
        apart = math.hypot(y - other.centre_nm[1], x - other.centre_nm[2])
        touch = 0.97 * (radius_nm + other.radius_nm)
        if apart < touch:
            overlapping += 1 if apart >= 0.55 * touch else 2
            z = max(z, other.centre_nm[0] + math.sqrt(touch**2 - apart**2))
    return z if overlapping <= 1 else None

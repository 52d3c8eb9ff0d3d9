"""Specimens of the paper's experiment, and their micrographs simulated as the paper images them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nanostream.training.groschner2020.findings import MATERIALS
from nanostream.training.micrographs import save_micrographs, simulate_micrographs
from nanostream.training.scenes import Scene, draw_particles, draw_scene

__all__ = ["SPECIMENS", "Specimen", "draw_micrograph_scene", "simulate_micrograph"]


@dataclass(frozen=True)
class Specimen:
    """Particles, support and imaging of one material, by the paper's conditions.

    Pairs are the least and the greatest value, drawn evenly for each micrograph. What the paper
    gives is marked; the rest is chosen so that what it does give comes out, and by what is usual
    for these microscopes.

    Attributes
    ----------
    pixel_size_nm
        Not in the paper. The lattice of its published Au tile has 0.2355 nm, the spacing of
        (111), at 0.0206 nm a pixel.
    radius_nm
        Of the scene's mean particle. CdSe: 2 nm dots (section II).
    coverage
        Part of the field to cover. Particle pixels are 33 % for Au and 12 % for CdSe
        (section III B).
    support_nm
        All that is amorphous: carbon film (II A: ordinary for Au and Pd, ultra-thin for CdSe), and
        for the dots their ligands and what is left of the solvent.
    defocus_nm
        Standard deviation and greatest value. Au by autofocus, within about 100 nm (II A); CdSe
        taken by hand.
    focal_spread_nm
        Less in the TEAM 0.5 (CdSe) than in the Themis.
    dose_e_per_a2
        Not in the paper; CdSe suffers more from the beam.
    """

    material: str
    pixel_size_nm: float
    radius_nm: tuple[float, float]
    coverage: tuple[float, float]
    support_nm: tuple[float, float]
    defocus_nm: tuple[float, float]
    focal_spread_nm: tuple[float, float]
    dose_e_per_a2: tuple[float, float]


SPECIMENS = {
    one.material: one
    for one in (
        Specimen("Au", 0.020, (2.2, 3.3), (0.05, 0.4), (5, 10), (40, 100), (3, 5), (300, 900)),
        Specimen("CdSe", 0.025, (0.85, 1.1), (0.03, 0.17), (4, 8), (8, 25), (1, 2), (150, 400)),
        Specimen("Pd", 0.020, (2.2, 3.3), (0.05, 0.4), (5, 10), (40, 100), (3, 5), (300, 900)),
    )
}

# Both microscopes correct the spherical aberration, at 300 kV (section II A).
VOLTAGE_KV = 300.0
CS_MM = 0.005


def draw_micrograph_scene(specimen: Specimen, rng: np.random.Generator, *, size_px: int) -> Scene:
    """Scene of a specimen, one exposure: every image is of another place."""
    drawn = draw_scene(rng, materials=(specimen.material,), regime="lattice", images=1)
    support_nm = float(rng.uniform(*specimen.support_nm))
    particles = draw_particles(
        rng,
        materials=(specimen.material,),
        field_nm=size_px * specimen.pixel_size_nm,
        support_nm=support_nm,
        relief=0.0,
        on_axis=0.4,
        radius_nm=specimen.radius_nm,
        coverage=float(rng.uniform(*specimen.coverage)),
        crowding=0.15,
    )
    deviation_nm, greatest_nm = specimen.defocus_nm
    defocus_nm = np.clip(rng.normal(0.0, deviation_nm), -greatest_nm, greatest_nm)
    exposure = replace(
        drawn.exposures[0],
        defocus_nm=float(defocus_nm),
        cs_mm=float(rng.uniform(-CS_MM, CS_MM)),
        astigmatism_nm=float(abs(rng.normal(0.0, 2.0))),
        focal_spread_nm=float(rng.uniform(*specimen.focal_spread_nm)),
        angular_spread_mrad=0.1,
        aperture_mrad=math.inf,
        dose_e_per_a2=float(rng.uniform(*specimen.dose_e_per_a2)),
        mtf_sigma_px=0.8,
        gain_counts_per_e=20.0,
        readout_counts=5.0,
        offset_counts=0.0,
        shading=float(rng.uniform(0.0, 0.05)),
        # Corrected, and nobody publishes what drifted or was hit.
        trefoil_nm=float(abs(rng.normal(0.0, 10.0))),
        coma_nm=float(abs(rng.normal(0.0, 10.0))),
        vibration_nm=0.02,
        drift_nm=0.0,
        stripes=0.0,
        xrays=0,
    )
    return replace(
        drawn,
        size_px=size_px,
        pixel_size_nm=specimen.pixel_size_nm,
        voltage_kv=VOLTAGE_KV,
        support_nm=support_nm,
        relief=0.0,
        particles=particles,
        exposures=(exposure,),
        film="carbon",
        hole=0.0,
        dirt_nm=0.0,
        soot_nm=(),
    )


def simulate_micrograph(path: Path, seed: int, material: str, number: int, size_px: int) -> None:
    """Simulate a micrograph and write its file (runs in a worker process)."""
    key = (MATERIALS.index(material), number)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
    while True:
        micrographs = simulate_micrographs(
            draw_micrograph_scene(SPECIMENS[material], rng, size_px=size_px)
        )
        if micrographs.label.any():  # the paper discards tiles without a particle (II B)
            break
    save_micrographs(path, micrographs)

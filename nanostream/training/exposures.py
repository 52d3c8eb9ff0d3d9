"""Lens and camera settings with which a simulated scene is taken: `Exposure`, and its draw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["Exposure", "Regime", "draw_exposure", "draw_far_defocus"]

Regime = Literal["lattice", "mass-thickness"]
"""Whether atomic columns or the particles' mass make the contrast."""


@dataclass(frozen=True)
class Exposure:
    """Lens, dose and camera of one micrograph of a scene.

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


def draw_exposure(
    rng: np.random.Generator, regime: Regime, *, voltage_kv: float, pixel_size_nm: float
) -> Exposure:
    """Exposure drawn at random, from what is usual for the contrast that is looked for."""
    lattice = regime == "lattice"
    cs_mm, defocus_nm = _draw_focus(rng, lattice=lattice, voltage_kv=voltage_kv)
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


def _draw_focus(
    rng: np.random.Generator, *, lattice: bool, voltage_kv: float
) -> tuple[float, float]:
    """Spherical aberration in mm, and defocus in nm."""
    if lattice and rng.random() < 0.4:  # aberration corrected
        cs_mm = rng.uniform(-0.03, 0.03)
        defocus_nm = rng.normal(0.0, 12.0)
    else:
        cs_mm = rng.uniform(0.5, 2.5)
        scherzer_nm = 1.2 * math.sqrt(cs_mm * 1e6 * _wavelength_nm(voltage_kv))
        defocus_nm = rng.normal(0.8 * scherzer_nm, 35.0)
        if not lattice:  # films are often taken well under focus
            defocus_nm = rng.choice([rng.uniform(-120.0, 120.0), rng.uniform(20.0, 400.0)])
    return cs_mm, defocus_nm


def draw_far_defocus(rng: np.random.Generator) -> float:
    """Defocus in nm, three in four times under focus."""
    return float(rng.uniform(60.0, 500.0) if rng.random() < 0.75 else rng.uniform(-200.0, -40.0))


def _wavelength_nm(voltage_kv: float) -> float:
    # Relativistic de Broglie wavelength: h c / sqrt(eV (2 m c2 + eV)), energies in keV.
    return 1.23984 / math.sqrt(voltage_kv * (2 * 510.999 + voltage_kv))

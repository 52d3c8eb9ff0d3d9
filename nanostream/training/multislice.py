"""Electron waves of a simulated scene: through its atoms, through the lens, onto the camera.

Everything that abTEM computes. It works in Å and so does this file; the first axis of its grid is
taken as y, so nothing is transposed.

References
----------
Madsen, J. & Susi, T. The abTEM code: transmission electron microscopy from first principles.
Open Research Europe 1, 24 (2021). https://doi.org/10.12688/openreseurope.13015.2
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import abtem
import ase
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from nanostream.training.crystals import Crystal
from nanostream.training.exposures import Exposure
from nanostream.training.scenes import Scene
from nanostream.training.supports import support_atoms

__all__ = ["exit_wave", "mean_electrons"]

# Thermal displacement of one frozen lattice, root mean square along one axis.
_VIBRATION_A = 0.08

# Grid outside the micrograph: the multislice is periodic, and what one edge scatters would
# appear at the other.
_MARGIN_PX = 32

# Plans that FFTW measures differ from run to run, and so would the sums; they are no faster.
_ABTEM = {"diagnostics.progress_bar": False, "fftw.planning_effort": "FFTW_ESTIMATE"}

# Carbon nearer than this to an atom of a crystal is displaced by it.
_CONTACT_A = 2.2


def exit_wave(scene: Scene, crystals: Sequence[Crystal], rng: np.random.Generator) -> Any:
    """Wave (abTEM) behind the specimen, on the fine grid with its margin.

    Parameters
    ----------
    crystals
        Positions (n, 3) as (z, y, x) in nm and atomic numbers (n,) of each particle's atoms.
    rng
        Of the support's atoms, the frozen vibration, and the side that the beam comes from.
    """
    grid = (scene.size_px + 2 * _MARGIN_PX) * scene.binning
    step_a = 10.0 * scene.pixel_size_nm / scene.binning
    extent_a = grid * step_a
    xyz, numbers = _specimen_atoms(scene, crystals, extent_a, rng)
    xyz += rng.normal(0.0, _VIBRATION_A, xyz.shape)
    # Beam from above or from below: particles at the entrance or the exit of the specimen.
    if rng.random() < 0.5:
        xyz[:, 2] *= -1.0
    xyz[:, 2] -= xyz[:, 2].min(initial=0.0) - 1.0
    height_a = float(xyz[:, 2].max(initial=0.0)) + 1.0
    xyz[:, :2] %= extent_a
    atoms = ase.Atoms(
        numbers=numbers,
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


def _specimen_atoms(
    scene: Scene, crystals: Sequence[Crystal], extent_a: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Positions (n, 3) as (y, x, z) in Å and atomic numbers of crystals and support together."""
    film, film_numbers = support_atoms(scene.support, extent_a, rng)
    margin_a = _MARGIN_PX * 10.0 * scene.pixel_size_nm
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
    return np.concatenate(positions), np.concatenate(numbers)


def mean_electrons(scene: Scene, wave: Any, exposure: Exposure) -> NDArray[np.float32]:
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

"""Simulated HRTEM micrographs with their truth: a scene in, counts and labels out.

The same scene always gives the same micrographs, bit for bit on the same machine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nanostream.training.cameras import expected_counts, recorded_counts, unevenness
from nanostream.training.crystals import crystal_positions
from nanostream.training.multislice import exit_wave, mean_electrons
from nanostream.training.outlines import label_particles
from nanostream.training.scenes import Scene

__all__ = ["Micrographs", "save_micrographs", "simulate_micrographs"]


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


def simulate_micrographs(scene: Scene) -> Micrographs:
    """Micrographs of a scene with labels: multislice, lens, camera.

    One exit wave is computed for the scene (2 to 10 s for 512 x 512 px on one core) and imaged
    once for each exposure (0.03 s).
    """
    rng = np.random.default_rng(scene.seed)
    crystals = [crystal_positions(particle) for particle in scene.particles]
    instances = label_particles(crystals, size_px=scene.size_px, pixel_size_nm=scene.pixel_size_nm)
    wave = exit_wave(scene, crystals, rng)
    expected = np.empty((len(scene.exposures), scene.size_px, scene.size_px), np.float32)
    pixels = np.empty(expected.shape, np.int16)
    for k, exposure in enumerate(scene.exposures):
        electrons = mean_electrons(scene, wave, exposure)
        electrons *= unevenness(exposure, scene.size_px, rng)
        expected[k] = expected_counts(electrons, exposure)
        pixels[k] = recorded_counts(electrons, exposure, rng)
    return Micrographs(
        pixels=pixels,
        expected_counts=expected,
        label=instances > 0,
        instances=instances,
        scene=scene,
    )


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

"""Crystals: every shape a crystal of its size, twins without atoms too close."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from scipy.spatial import cKDTree

pytest.importorskip("ase", reason="the extra [simulate] is not installed")

from nanostream.training.crystals import Particle, Shape, crystal_positions

SHAPES = get_args(Shape)

GOLD = Particle(
    material="Au",
    structure="fcc",
    centre_nm=(2.0, 1.8, 2.4),
    radius_nm=1.0,
    twinned=False,
    on_axis=True,
    seed=5,
)


def test_a_twin_has_no_two_atoms_closer_than_in_the_crystal() -> None:
    positions, _ = crystal_positions(replace(GOLD, twinned=True, radius_nm=1.5))
    nearest = np.asarray(cKDTree(positions).query(positions, k=2)[0])[:, 1]

    # Neighbours in gold: a / sqrt(2) = 0.2884 nm, in the twin plane as elsewhere.
    np.testing.assert_allclose(nearest, 0.2884, atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_a_crystal_of_about_its_radius(shape: Shape) -> None:
    particle = replace(GOLD, shape=shape, radius_nm=1.6, on_axis=False)
    positions, _ = crystal_positions(particle)
    nearest = np.asarray(cKDTree(positions).query(positions, k=2)[0])[:, 1]

    # Multiply twinned particles are strained by a few per cent.
    np.testing.assert_allclose(nearest, 0.2884, rtol=0.06)
    reach = np.linalg.norm(positions - np.array(particle.centre_nm), axis=1).max()
    assert 0.8 * 1.6 < reach < (4.0 if shape == "rod" else 1.5) * 1.6

"""Outlines of simulated particles: where their atoms are, and no farther."""

import numpy as np
import pytest

pytest.importorskip("ase", reason="the extra [simulate] is not installed")

from nanostream.training.crystals import Particle, crystal_positions
from nanostream.training.outlines import label_particles

PIXEL_NM = 0.036

GOLD = Particle(
    material="Au",
    structure="fcc",
    centre_nm=(2.0, 1.8, 2.4),
    radius_nm=1.0,
    twinned=False,
    on_axis=True,
    seed=5,
)


def test_the_label_is_where_the_atoms_are() -> None:
    positions, numbers = crystal_positions(GOLD)
    label = label_particles([(positions, numbers)], size_px=128, pixel_size_nm=PIXEL_NM) > 0
    pixel = np.floor(positions[:, 1:] / PIXEL_NM).astype(int)

    assert set(numbers) == {79}
    # It ends just inside the outermost atoms, half a pixel more or less.
    inside = np.linalg.norm((positions - GOLD.centre_nm)[:, 1:], axis=1) < 0.6 * GOLD.radius_nm
    assert label[tuple(pixel[inside].T)].all()
    assert 0.6 < label[tuple(pixel.T)].mean() < 1.0
    rows, columns = np.nonzero(label)
    centre_nm = np.array([rows.mean(), columns.mean()]) * PIXEL_NM
    # Facets shift the centre of the mask by a fraction of the radius.
    np.testing.assert_allclose(centre_nm, GOLD.centre_nm[1:], atol=0.3)
    # No halo.
    hull_nm2 = np.pi * (GOLD.radius_nm * 1.14) ** 2
    assert 0.5 * np.pi * GOLD.radius_nm**2 < label.sum() * PIXEL_NM**2 < hull_nm2

"""Supports: carbon with bonds, films with hills, holes, dirt and soot."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from nanostream.training.supports import Support, amorphous_block, support_atoms


def test_carbon_has_bonds_and_not_random_distances() -> None:
    block = amorphous_block().astype(float)
    side = 56.0
    tree = cKDTree(block % side, boxsize=np.full(3, side))

    def density(low: float, high: float) -> float:
        """Pairs at a distance, relative to random points."""
        near, far = (tree.count_neighbors(tree, r) - len(block) for r in (low, high))
        shell = 4.0 / 3.0 * np.pi * (high**3 - low**3)
        return float((far - near) / len(block) / shell / (len(block) / side**3))

    assert density(1.4, 1.6) > 1.8
    assert density(2.3, 2.5) > 1.4
    assert density(1.8, 2.0) < 0.5
    assert density(0.1, 1.0) < 0.1
    assert 0.9 < density(4.0, 6.0) < 1.1


def test_a_support_has_hills_holes_dirt_and_soot() -> None:
    def atoms(support: Support) -> int:
        return len(support_atoms(support, 60.0, np.random.default_rng(0))[0])

    plain = atoms(Support(1.0))
    assert plain == pytest.approx(60 * 60 * 10 * 0.1, rel=0.03)
    assert atoms(Support(1.0, relief=0.5)) == pytest.approx(plain, rel=0.15)
    assert atoms(Support(1.0, hole=0.4)) == pytest.approx(0.6 * plain, rel=0.1)
    assert atoms(Support(1.0, dirt_nm=2.0)) > 1.05 * plain
    assert atoms(Support(1.0, soot_nm=(2.0,))) > 1.2 * plain
    assert atoms(Support(0.0)) == 0
    numbers = support_atoms(Support(1.0, film="nitride"), 60.0, np.random.default_rng(0))[1]
    assert set(numbers) == {7, 14}

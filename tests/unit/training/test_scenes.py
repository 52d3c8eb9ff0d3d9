"""Scenes drawn at random: the same for a seed, of many kinds."""

from typing import get_args

import numpy as np
import pytest

pytest.importorskip("ase", reason="the extra [simulate] is not installed")

from nanostream.training.crystals import MATERIALS, Shape
from nanostream.training.scenes import Scene, draw_scene

SHAPES = get_args(Shape)


def test_a_seed_draws_the_same_scene_twice_and_another_seed_another() -> None:
    def drawn(seed: int) -> Scene:
        return draw_scene(np.random.default_rng(seed))

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_faint_scenes_have_much_around_their_particles() -> None:
    scenes = [draw_scene(np.random.default_rng(k), kind="faint") for k in range(10)]

    assert all(scene.particles and scene.regime == "lattice" for scene in scenes)
    assert all(4.0 <= scene.support_nm <= 10.0 for scene in scenes)
    assert max(one.radius_nm for scene in scenes for one in scene.particles) < 6.0


def test_defocused_scenes_are_far_from_focus_on_both_sides() -> None:
    scenes = [draw_scene(np.random.default_rng(k), kind="defocused") for k in range(10)]

    assert all(0.02 <= scene.pixel_size_nm <= 0.045 for scene in scenes)
    assert 0 < sum(bool(scene.particles) for scene in scenes) < 10
    defoci_nm = np.array([one.defocus_nm for scene in scenes for one in scene.exposures])
    assert abs(defoci_nm).min() >= 40.0
    assert (defoci_nm < 0).any()
    assert (defoci_nm > 0).any()


def test_bare_scenes_have_no_particles() -> None:
    scenes = [draw_scene(np.random.default_rng(k), kind="bare") for k in range(10)]

    assert not any(scene.particles for scene in scenes)
    assert any(scene.soot_nm for scene in scenes)


def test_drawn_scenes_are_of_many_kinds() -> None:
    rng = np.random.default_rng(3)
    scenes = [draw_scene(rng) for _ in range(200)]

    assert {m for scene in scenes for m in scene.materials} == set(MATERIALS)
    assert {scene.voltage_kv for scene in scenes} == {80.0, 200.0, 300.0}
    assert 0 < sum(not scene.particles for scene in scenes) < 30
    assert any(scene.soot_nm and not scene.particles for scene in scenes)
    assert {p.shape for scene in scenes for p in scene.particles} == set(SHAPES)
    lattice = [scene for scene in scenes if scene.regime == "lattice"]
    assert 0.45 < len(lattice) / len(scenes) < 0.65
    assert all(0.01 <= scene.pixel_size_nm <= 0.045 for scene in lattice)
    assert max(scene.pixel_size_nm for scene in scenes) <= 0.085

"""Simulated micrographs: reproducible, labelled where the atoms are, looking like micrographs."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

pytest.importorskip("abtem", reason="the extra [simulate] is not installed")

from nanostream.training import simulation
from nanostream.training.crystals import Shape
from nanostream.training.supports import Support, amorphous_block, support_atoms

SHAPES = get_args(Shape)

EXPOSURE = simulation.Exposure(
    defocus_nm=40.0,
    cs_mm=1.0,
    astigmatism_nm=0.0,
    astigmatism_angle_rad=0.0,
    focal_spread_nm=3.0,
    angular_spread_mrad=0.2,
    aperture_mrad=float("inf"),
    dose_e_per_a2=2000.0,
    mtf_sigma_px=0.5,
    gain_counts_per_e=2.0,
    readout_counts=1.0,
    offset_counts=10.0,
    shading=0.0,
    bad_pixels=0,
)

GOLD = simulation.Particle(
    material="Au",
    structure="fcc",
    centre_nm=(2.0, 1.8, 2.4),
    radius_nm=1.0,
    twinned=False,
    on_axis=True,
    seed=5,
)


def tiny_scene(**changes: object) -> simulation.Scene:
    """A gold particle of 2 nm on 1 nm of carbon, 128 x 128 px."""
    scene = simulation.Scene(
        regime="lattice",
        size_px=128,
        pixel_size_nm=0.036,
        binning=1,
        voltage_kv=300.0,
        support_nm=1.0,
        relief=0.0,
        particles=(GOLD,),
        exposures=(EXPOSURE,),
        seed=7,
    )
    return replace(scene, **changes)  # type: ignore[arg-type]


def test_a_scene_gives_the_same_micrographs_bit_for_bit() -> None:
    first = simulation.simulate_micrographs(tiny_scene())
    second = simulation.simulate_micrographs(tiny_scene())

    assert first.pixels.dtype == np.int16
    assert first.pixels.shape == (1, 128, 128)
    np.testing.assert_array_equal(first.instances, second.instances)
    np.testing.assert_array_equal(first.expected_counts, second.expected_counts)
    np.testing.assert_array_equal(first.pixels, second.pixels)


def test_the_same_counts_get_the_same_noise() -> None:
    electrons = np.full((32, 32), 20.0, np.float32)
    noisy = [
        simulation._record(electrons, EXPOSURE, np.random.default_rng(seed)) for seed in (1, 1, 2)
    ]

    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert not np.array_equal(noisy[0], noisy[2])


def test_a_seed_draws_the_same_scene_twice_and_another_seed_another() -> None:
    def drawn(seed: int) -> simulation.Scene:
        return simulation.draw_scene(np.random.default_rng(seed))

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_faint_scenes_have_much_around_their_particles() -> None:
    scenes = [simulation.draw_scene(np.random.default_rng(k), kind="faint") for k in range(10)]

    assert all(scene.particles and scene.regime == "lattice" for scene in scenes)
    assert all(4.0 <= scene.support_nm <= 10.0 for scene in scenes)
    assert max(one.radius_nm for scene in scenes for one in scene.particles) < 6.0


def test_defocused_scenes_are_far_from_focus_on_both_sides() -> None:
    scenes = [simulation.draw_scene(np.random.default_rng(k), kind="defocused") for k in range(10)]

    assert all(0.02 <= scene.pixel_size_nm <= 0.045 for scene in scenes)
    assert 0 < sum(bool(scene.particles) for scene in scenes) < 10
    defoci_nm = np.array([one.defocus_nm for scene in scenes for one in scene.exposures])
    assert abs(defoci_nm).min() >= 40.0
    assert (defoci_nm < 0).any()
    assert (defoci_nm > 0).any()


def test_bare_scenes_have_no_particles() -> None:
    scenes = [simulation.draw_scene(np.random.default_rng(k), kind="bare") for k in range(10)]

    assert not any(scene.particles for scene in scenes)
    assert any(scene.soot_nm for scene in scenes)


def test_the_label_is_where_the_atoms_are() -> None:
    scene = tiny_scene()
    positions, numbers = simulation.crystal_positions(GOLD)
    label = simulation.label_particles(scene, [(positions, numbers)]) > 0
    pixel = np.floor(positions[:, 1:] / scene.pixel_size_nm).astype(int)

    assert set(numbers) == {79}
    # It ends just inside the outermost atoms, half a pixel more or less.
    inside = np.linalg.norm((positions - GOLD.centre_nm)[:, 1:], axis=1) < 0.6 * GOLD.radius_nm
    assert label[tuple(pixel[inside].T)].all()
    assert 0.6 < label[tuple(pixel.T)].mean() < 1.0
    rows, columns = np.nonzero(label)
    centre_nm = np.array([rows.mean(), columns.mean()]) * scene.pixel_size_nm
    # Facets shift the centre of the mask by a fraction of the radius.
    np.testing.assert_allclose(centre_nm, GOLD.centre_nm[1:], atol=0.3)
    # No halo.
    hull_nm2 = np.pi * (GOLD.radius_nm * 1.14) ** 2
    assert 0.5 * np.pi * GOLD.radius_nm**2 < label.sum() * scene.pixel_size_nm**2 < hull_nm2


def test_a_particle_is_darker_than_its_support() -> None:
    micrographs = simulation.simulate_micrographs(tiny_scene())
    expected = micrographs.expected_counts[0]

    assert expected[micrographs.label].mean() < expected[~micrographs.label].mean()


def test_counts_are_dose_times_area_times_gain_plus_offset() -> None:
    bare = simulation.simulate_micrographs(tiny_scene(particles=()))

    electrons = 2000.0 * (10 * 0.036) ** 2
    # Carbon of 1 nm scatters less than 2 % outside the grid's band.
    assert bare.expected_counts.mean() == pytest.approx(10.0 + 2.0 * electrons, rel=0.02)
    assert bare.pixels.mean() == pytest.approx(bare.expected_counts.mean(), rel=0.01)
    assert not bare.label.any()


def test_binning_halves_the_grid_and_keeps_the_field() -> None:
    scene = tiny_scene(size_px=64, pixel_size_nm=0.072, binning=2, regime="mass-thickness")

    micrographs = simulation.simulate_micrographs(scene)

    assert micrographs.pixels.shape == (1, 64, 64)
    assert micrographs.label.mean() == pytest.approx(
        (simulation.label_particles(tiny_scene(), [simulation.crystal_positions(GOLD)]) > 0).mean(),
        abs=0.03,
    )


@pytest.mark.parametrize("offset", [0.0, 10.0, -32768.0])
def test_bad_pixels_are_dead_or_hot_whatever_the_dark_level(offset: float) -> None:
    electrons = np.full((64, 64), 200.0, np.float32)
    exposure = replace(EXPOSURE, bad_pixels=20, offset_counts=offset)
    pixels = simulation._record(electrons, exposure, np.random.default_rng(0)) - offset

    bad = (pixels == 0) | (pixels > 650)  # the others lie about 400 with a deviation below 30
    assert 15 <= bad.sum() <= 20
    assert (pixels[bad] == 0).sum() >= 5
    assert (pixels[bad] > 650).sum() >= 5
    assert 320 < pixels[~bad].min() < pixels[~bad].max() < 490


def test_a_twin_has_no_two_atoms_closer_than_in_the_crystal() -> None:
    from scipy.spatial import cKDTree

    positions, _ = simulation.crystal_positions(replace(GOLD, twinned=True, radius_nm=1.5))
    nearest = np.asarray(cKDTree(positions).query(positions, k=2)[0])[:, 1]

    # Neighbours in gold: a / sqrt(2) = 0.2884 nm, in the twin plane as elsewhere.
    np.testing.assert_allclose(nearest, 0.2884, atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_a_crystal_of_about_its_radius(shape: Shape) -> None:
    from scipy.spatial import cKDTree

    particle = replace(GOLD, shape=shape, radius_nm=1.6, on_axis=False)
    positions, _ = simulation.crystal_positions(particle)
    nearest = np.asarray(cKDTree(positions).query(positions, k=2)[0])[:, 1]

    # Multiply twinned particles are strained by a few per cent.
    np.testing.assert_allclose(nearest, 0.2884, rtol=0.06)
    reach = np.linalg.norm(positions - np.array(particle.centre_nm), axis=1).max()
    assert 0.8 * 1.6 < reach < (4.0 if shape == "rod" else 1.5) * 1.6


def test_carbon_has_bonds_and_not_random_distances() -> None:
    from scipy.spatial import cKDTree

    block = amorphous_block().astype(float)
    side = 56.0
    tree = cKDTree(block % side, boxsize=[side] * 3)

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


def test_drawn_scenes_are_of_many_kinds() -> None:
    rng = np.random.default_rng(3)
    scenes = [simulation.draw_scene(rng) for _ in range(200)]

    assert {m for scene in scenes for m in scene.materials} == set(simulation.MATERIALS)
    assert {scene.voltage_kv for scene in scenes} == {80.0, 200.0, 300.0}
    assert 0 < sum(not scene.particles for scene in scenes) < 30
    assert any(scene.soot_nm and not scene.particles for scene in scenes)
    assert {p.shape for scene in scenes for p in scene.particles} == set(SHAPES)
    lattice = [scene for scene in scenes if scene.regime == "lattice"]
    assert 0.45 < len(lattice) / len(scenes) < 0.65
    assert all(0.01 <= scene.pixel_size_nm <= 0.045 for scene in lattice)
    assert max(scene.pixel_size_nm for scene in scenes) <= 0.085


def test_saved_micrographs_are_complete_or_absent(tmp_path: Path) -> None:
    micrographs = simulation.simulate_micrographs(tiny_scene(size_px=64))
    simulation.save_micrographs(tmp_path / "scene.npz", micrographs)

    assert [path.name for path in tmp_path.iterdir()] == ["scene.npz"]
    with np.load(tmp_path / "scene.npz") as stored:
        np.testing.assert_array_equal(stored["pixels"], micrographs.pixels)
        np.testing.assert_array_equal(stored["instances"], micrographs.instances)
        assert '"material": "Au"' in str(stored["scene"])

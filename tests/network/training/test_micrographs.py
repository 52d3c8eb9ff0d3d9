"""Simulated micrographs: reproducible, labelled where the atoms are, looking like micrographs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("abtem", reason="the extra [simulate] is not installed")

from nanostream.training.crystals import Particle, crystal_positions
from nanostream.training.exposures import Exposure
from nanostream.training.micrographs import save_micrographs, simulate_micrographs
from nanostream.training.outlines import label_particles
from nanostream.training.scenes import Scene

EXPOSURE = Exposure(
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

GOLD = Particle(
    material="Au",
    structure="fcc",
    centre_nm=(2.0, 1.8, 2.4),
    radius_nm=1.0,
    twinned=False,
    on_axis=True,
    seed=5,
)


def tiny_scene(**changes: object) -> Scene:
    """A gold particle of 2 nm on 1 nm of carbon, 128 x 128 px."""
    scene = Scene(
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
    first = simulate_micrographs(tiny_scene())
    second = simulate_micrographs(tiny_scene())

    assert first.pixels.dtype == np.int16
    assert first.pixels.shape == (1, 128, 128)
    np.testing.assert_array_equal(first.instances, second.instances)
    np.testing.assert_array_equal(first.expected_counts, second.expected_counts)
    np.testing.assert_array_equal(first.pixels, second.pixels)


def test_a_particle_is_darker_than_its_support() -> None:
    micrographs = simulate_micrographs(tiny_scene())
    expected = micrographs.expected_counts[0]

    assert expected[micrographs.label].mean() < expected[~micrographs.label].mean()


def test_counts_are_dose_times_area_times_gain_plus_offset() -> None:
    bare = simulate_micrographs(tiny_scene(particles=()))

    electrons = 2000.0 * (10 * 0.036) ** 2
    # Carbon of 1 nm scatters less than 2 % outside the grid's band.
    assert bare.expected_counts.mean() == pytest.approx(10.0 + 2.0 * electrons, rel=0.02)
    assert bare.pixels.mean() == pytest.approx(bare.expected_counts.mean(), rel=0.01)
    assert not bare.label.any()


def test_binning_halves_the_grid_and_keeps_the_field() -> None:
    scene = tiny_scene(size_px=64, pixel_size_nm=0.072, binning=2, regime="mass-thickness")

    micrographs = simulate_micrographs(scene)

    assert micrographs.pixels.shape == (1, 64, 64)
    assert micrographs.label.mean() == pytest.approx(
        (label_particles([crystal_positions(GOLD)], size_px=128, pixel_size_nm=0.036) > 0).mean(),
        abs=0.03,
    )


def test_saved_micrographs_are_complete_or_absent(tmp_path: Path) -> None:
    micrographs = simulate_micrographs(tiny_scene(size_px=64))
    save_micrographs(tmp_path / "scene.npz", micrographs)

    assert [path.name for path in tmp_path.iterdir()] == ["scene.npz"]
    with np.load(tmp_path / "scene.npz") as stored:
        np.testing.assert_array_equal(stored["pixels"], micrographs.pixels)
        np.testing.assert_array_equal(stored["instances"], micrographs.instances)
        assert '"material": "Au"' in str(stored["scene"])

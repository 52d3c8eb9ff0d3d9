"""Cameras: noise by the seed, bad pixels whatever the dark level."""

from dataclasses import replace

import numpy as np
import pytest

from nanostream.training.cameras import recorded_counts
from nanostream.training.exposures import Exposure

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


def test_the_same_counts_get_the_same_noise() -> None:
    electrons = np.full((32, 32), 20.0, np.float32)
    noisy = [
        recorded_counts(electrons, EXPOSURE, np.random.default_rng(seed)) for seed in (1, 1, 2)
    ]

    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert not np.array_equal(noisy[0], noisy[2])


@pytest.mark.parametrize("offset", [0.0, 10.0, -32768.0])
def test_bad_pixels_are_dead_or_hot_whatever_the_dark_level(offset: float) -> None:
    electrons = np.full((64, 64), 200.0, np.float32)
    exposure = replace(EXPOSURE, bad_pixels=20, offset_counts=offset)
    pixels = recorded_counts(electrons, exposure, np.random.default_rng(0)) - offset

    bad = (pixels == 0) | (pixels > 650)  # the others lie about 400 with a deviation below 30
    assert 15 <= bad.sum() <= 20
    assert (pixels[bad] == 0).sum() >= 5
    assert (pixels[bad] > 650).sum() >= 5
    assert 320 < pixels[~bad].min() < pixels[~bad].max() < 490

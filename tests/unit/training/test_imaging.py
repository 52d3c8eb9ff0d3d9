"""The transfer function against formulas that can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from nanostream.training.imaging import (
    Camera,
    Optics,
    draw_camera,
    draw_optics,
    expose,
    image_wave,
    transfer_function,
    wavelength_nm,
)

SIZE, STEP_NM = 128, 0.05


def weak_grating(spacing_px: float, *, phase: float = 0.0, absorption: float = 0.0):
    """Wave behind a weak sinusoidal object along x."""
    x = np.arange(SIZE)
    wave = np.cos(2.0 * np.pi * x / spacing_px)[None] * np.ones((SIZE, 1))
    return np.exp((1j * phase - 0.5 * absorption) * wave).astype(np.complex64)


def amplitude(intensity, spacing_px: float) -> float:
    """Of the grating's spacing in an image."""
    spectrum = np.fft.rfft(intensity.mean(0)) / SIZE
    return float(2.0 * spectrum[round(SIZE / spacing_px)].real)


@pytest.mark.parametrize("voltage_kv", [80.0, 200.0, 300.0])
def test_wavelengths_are_those_of_tables(voltage_kv):
    table = {80.0: 0.0041757, 200.0: 0.0025079, 300.0: 0.0019687}
    assert wavelength_nm(voltage_kv) == pytest.approx(table[voltage_kv], rel=1e-4)


def test_vacuum_is_one_whatever_the_lens():
    optics = Optics(defocus_nm=80.0, cs_mm=1.2, astigmatism_nm=20.0, coma_nm=100.0)
    image = image_wave(np.ones((32, 48), np.complex64), optics, STEP_NM)
    np.testing.assert_allclose(image, 1.0, atol=1e-5)


@pytest.mark.parametrize("defocus_nm", [-60.0, -15.0, 0.0, 15.0, 60.0])
def test_a_weak_phase_shows_as_the_sine_of_chi(defocus_nm):
    """Contrast of a weak phase grating: 2 phi sin(chi), chi = pi lambda defocus / d^2 - Cs term."""
    spacing_px, phase = 8.0, 0.01
    optics = Optics(defocus_nm=defocus_nm, cs_mm=0.5)
    image = image_wave(weak_grating(spacing_px, phase=phase), optics, STEP_NM)
    wavelength, k = wavelength_nm(300.0), 1.0 / (spacing_px * STEP_NM)
    chi = math.pi * (0.5 * 0.5e6 * wavelength**3 * k**4 - wavelength * defocus_nm * k**2)
    assert amplitude(image, spacing_px) == pytest.approx(2.0 * phase * math.sin(chi), abs=2e-4)


def test_absorption_shows_in_focus_and_a_weak_phase_does_not():
    focus = Optics()
    seen = image_wave(weak_grating(8.0, absorption=0.02), focus, STEP_NM)
    assert amplitude(seen, 8.0) == pytest.approx(-0.02, rel=0.02)
    assert abs(amplitude(image_wave(weak_grating(8.0, phase=0.01), focus, STEP_NM), 8.0)) < 2e-4


def test_astigmatism_is_another_defocus_along_each_axis():
    plain = Optics(defocus_nm=40.0, astigmatism_nm=25.0)
    shape = (SIZE, SIZE)
    along_x = transfer_function(plain, shape, STEP_NM)[0]
    along_y = transfer_function(plain, shape, STEP_NM)[:, 0]
    for line, defocus_nm in ((along_x, 15.0), (along_y, 65.0)):
        expected = transfer_function(Optics(defocus_nm=defocus_nm), shape, STEP_NM)[0]
        np.testing.assert_allclose(line, expected, atol=1e-4)


def test_focal_spread_damps_fine_spacings_more():
    spread = Optics(defocus_nm=20.0, focal_spread_nm=5.0)
    damping = np.abs(transfer_function(spread, (SIZE, SIZE), STEP_NM)[0, : SIZE // 2])
    assert damping[0] == pytest.approx(1.0)
    assert (np.diff(damping) <= 1e-6).all()
    assert damping[-1] < 0.02


def test_the_aperture_stops_what_is_beyond_it():
    optics = Optics(aperture_mrad=10.0)
    transfer = np.abs(transfer_function(optics, (SIZE, SIZE), STEP_NM)[0])
    angle = 1e3 * wavelength_nm(300.0) * np.abs(np.fft.fftfreq(SIZE, STEP_NM))
    np.testing.assert_array_equal(transfer > 0.5, angle <= 10.0)


def test_drift_blurs_along_its_way_alone():
    x = np.zeros((64, 64), np.float32)
    wave = np.exp(np.complex64(-0.5) * (x + np.eye(64, dtype=np.float32)))
    moved = Optics(drift_nm=0.4, drift_angle_rad=0.0)
    still = image_wave(wave, Optics(), STEP_NM)
    seen = image_wave(wave, moved, STEP_NM)
    np.testing.assert_allclose(seen.sum(1), still.sum(1), rtol=1e-4)
    assert seen.std() < still.std()


def test_counts_have_the_dose_and_poisson_noise():
    rng = np.random.default_rng(5)
    for electrons in (3.0, 400.0):
        camera = Camera(electrons_per_px=electrons, counts_per_electron=2.0)
        counts = expose(np.ones((256, 256), np.float32), camera, rng)
        assert counts.mean() == pytest.approx(2.0 * electrons, rel=0.02)
        assert counts.var() == pytest.approx(4.0 * electrons, rel=0.05)


def test_drawn_settings_are_the_same_for_a_seed_and_broad():
    def drawn(seed):
        rng = np.random.default_rng(seed)
        return draw_optics(rng, pixel_size_nm=0.03), draw_camera(rng)

    assert drawn(3) == drawn(3)
    several = [drawn(seed) for seed in range(200)]
    defoci = np.array([optics.defocus_nm for optics, _ in several])
    assert (defoci < -20).any()
    assert (defoci > 20).any()
    assert (np.abs(defoci) < 5).any()
    doses = np.array([camera.electrons_per_px for _, camera in several])
    assert doses.min() < 3
    assert doses.max() > 1500
    assert {replace(optics, defocus_nm=0.0).cs_mm < 0.1 for optics, _ in several} == {True, False}

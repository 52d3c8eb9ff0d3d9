"""The spectrum of a section: where its rings are."""

import numpy as np
import pytest

from nanostream.particles.diffractograms import power_spectrum
from nanostream.particles.phase_files import named_phases
from nanostream.results.spectrum_pictures import draw_spectrum

RNG = np.random.default_rng(8)


def carbon(shape, pixel_size_nm, defocus):
    """Amorphous matter with zeros of the transfer at k = sqrt(n pi / defocus)."""
    ky, kx = np.meshgrid(*(np.fft.fftfreq(n, pixel_size_nm) for n in shape), indexing="ij")
    k2 = kx**2 + ky**2
    spectrum = np.fft.fft2(RNG.normal(size=shape)) * np.sin(defocus * k2)
    return np.fft.ifft2(spectrum).real


def test_thon_rings_are_where_the_lens_transfers_nothing():
    found = power_spectrum(500 + carbon((256, 320), 0.05, 0.4), 0.05)
    zeros = np.sqrt(np.arange(1, 5) * np.pi / 0.4)
    for zero in zeros:
        assert np.abs(found.thon_per_px - 0.05 * zero).min() < 2 * found.step_per_px
    assert len(found.k_per_px) == len(found.profile) == 127


def test_white_noise_has_no_thon_rings_and_a_crystal_does_not_raise_the_profile():
    noise = RNG.normal(size=(256, 256))
    x = np.arange(256)
    plain = power_spectrum(noise, 0.05)
    crystal = power_spectrum(noise + 5 * np.cos(2 * np.pi * x * 0.05 / 0.25), 0.05)
    assert not (plain.thon_per_px > 0.05).any()
    ring = np.abs(plain.k_per_px - 0.2) < 0.01  # 0.25 nm
    assert crystal.profile[ring] == pytest.approx(plain.profile[ring], rel=0.2)
    row, column = np.unravel_index(crystal.log_power.argmax(), crystal.log_power.shape)
    assert row == 128
    assert abs(column - 128) * crystal.step_per_px == pytest.approx(0.2, abs=0.005)


def test_a_spectrum_without_a_pixel_size_has_the_same_frequencies_and_no_rings_of_phases():
    image = RNG.normal(size=(64, 64))
    found = power_spectrum(image)
    assert found.step_per_px == power_spectrum(image, 0.1).step_per_px == 1 / 64
    plain = draw_spectrum(found, side_px=128)
    assert np.array_equal(draw_spectrum(found, named_phases(["Au"]), side_px=128), plain)
    with pytest.raises(ValueError, match="32 px"):
        power_spectrum(np.zeros((8, 64)), 0.1)


@pytest.mark.parametrize("first_row", ["top", "bottom"])
def test_a_phases_ring_goes_through_its_spot_the_right_way_up(first_row):
    y, x = np.indices((128, 128))
    d_nm, angle = 0.2355, np.radians(30)
    along = x * np.cos(angle) + y * np.sin(angle)
    image = RNG.normal(size=x.shape) + 5 * np.cos(2 * np.pi * along * 0.05 / d_nm)
    found = power_spectrum(image, 0.05)
    plain = draw_spectrum(found, first_row=first_row, side_px=512)[..., 0].astype(int)
    spot = np.argwhere(plain == plain.max()).mean(axis=0)  # of the pair, their middle
    assert spot == pytest.approx([256, 256], abs=6)
    right = np.argwhere((plain == plain.max()) & (np.arange(512) > 300))
    # Row 0 at the bottom: what lies along y in the file goes up on the display.
    assert (right.mean(axis=0)[0] > 256) == (first_row == "top")
    ringed = draw_spectrum(found, named_phases(["Au"]), first_row=first_row, side_px=512)
    drawn = np.argwhere((ringed[..., 0] != plain) & (np.arange(512) > 200))  # and not the name
    assert np.hypot(*(drawn - right.mean(axis=0)).T).min() < 4

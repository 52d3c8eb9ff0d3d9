"""Images of an exit wave: the microscope's transfer function, dose and camera.

::

    image_wave      exit wave, `Optics`       -> mean intensity, 1 without a specimen
    expose          intensity, `Camera`       -> counts
    draw_optics, draw_camera                  -> settings drawn at random

The wave of a thin specimen is ``exp(-mu / 2 + i phi)``: absorption and phase. Passed through the
transfer function it shows lattice fringes, the grain of amorphous matter, Fresnel fringes at edges
and delocalisation, at either sign of defocus and in focus, for the price of two Fourier transforms.

Lengths are in nm unless a name says otherwise. Arrays are (y, x) and periodic at their edges:
compute a margin and cut it off.

References
----------
Kirkland, E. J. Advanced computing in electron microscopy (2010), chapters 2 and 3: wave
aberration function, envelopes of partial coherence. https://doi.org/10.1007/978-1-4419-6533-2
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

__all__ = [
    "Camera",
    "Optics",
    "draw_camera",
    "draw_optics",
    "expose",
    "image_wave",
    "transfer_function",
    "wavelength_nm",
]

#: Above this mean number of electrons a normal deviate stands for a Poisson one: its skewness,
#: 1 over the root of the mean, is below 0.2, and it takes a fifth of the time.
_NORMAL_ABOVE = 30.0


@dataclass(frozen=True)
class Optics:
    """Lens and movement of the image during the exposure.

    Attributes
    ----------
    voltage_kv
        Of acceleration.
    defocus_nm
        Positive is under focus.
    cs_mm
        Spherical aberration.
    astigmatism_nm, coma_nm, trefoil_nm
        Two-fold astigmatism, axial coma, three-fold astigmatism (C12, C21, C23), with angles.
    focal_spread_nm, angular_spread_mrad
        Root mean square of the focal spread, and half angle of the illumination.
    aperture_mrad
        Half angle of the objective aperture, infinite if there is none.
    vibration_nm, drift_nm
        Deviation of a jitter, and length of a straight way (with its angle).
    """

    voltage_kv: float = 300.0
    defocus_nm: float = 0.0
    cs_mm: float = 0.0
    astigmatism_nm: float = 0.0
    astigmatism_angle_rad: float = 0.0
    coma_nm: float = 0.0
    coma_angle_rad: float = 0.0
    trefoil_nm: float = 0.0
    trefoil_angle_rad: float = 0.0
    focal_spread_nm: float = 0.0
    angular_spread_mrad: float = 0.0
    aperture_mrad: float = math.inf
    vibration_nm: float = 0.0
    drift_nm: float = 0.0
    drift_angle_rad: float = 0.0


@dataclass(frozen=True)
class Camera:
    """Dose and detector.

    Attributes
    ----------
    electrons_per_px
        Mean number where nothing is in the way.
    blur_px
        Deviation of the blur of each electron's light (signal and shot noise alike).
    smoothing_px
        Deviation of a blur of the finished picture: binning, resampling, a display's filter.
    counts_per_electron
        Gain.
    readout_electrons
        Deviation of the readout noise.
    stripes
        Relative deviation of the gain from column to column.
    dead_pixels, xrays
        Dead or hot pixels, and hits of X-rays.
    """

    electrons_per_px: float
    blur_px: float = 0.0
    smoothing_px: float = 0.0
    counts_per_electron: float = 1.0
    readout_electrons: float = 0.0
    stripes: float = 0.0
    dead_pixels: int = 0
    xrays: int = 0


def wavelength_nm(voltage_kv: float) -> float:
    """De Broglie wavelength of an accelerated electron, relativistic.

    Examples
    --------
    >>> round(wavelength_nm(300.0), 6)
    0.001969
    """
    # h c / sqrt(eV (2 m c2 + eV)), energies in keV.
    return 1.23984 / math.sqrt(voltage_kv * (2.0 * 510.999 + voltage_kv))


def transfer_function(
    optics: Optics, shape: tuple[int, int], pixel_size_nm: float
) -> NDArray[np.complex64]:
    """Factor (H, W) of each wave's amplitude, in the order of ``numpy.fft.fftfreq``.

    ``exp(-i chi)`` with the envelopes of focal spread and illumination, and the aperture. The
    envelopes are those of a wave that interferes with a strong unscattered one.
    """
    wavelength = wavelength_nm(optics.voltage_kv)
    ky = (wavelength * fft.fftfreq(shape[0], pixel_size_nm)).astype(np.float32)[:, None]
    kx = (wavelength * fft.fftfreq(shape[1], pixel_size_nm)).astype(np.float32)[None]
    square = ky * ky + kx * kx  # of the angle, rad2
    # Even orders in the path difference: defocus, two-fold astigmatism, spherical aberration.
    c12 = optics.astigmatism_nm
    cos2, sin2 = (f(2.0 * optics.astigmatism_angle_rad, dtype=np.float32) for f in (np.cos, np.sin))
    c30 = np.float32(1e6 * optics.cs_mm)
    path = np.float32(0.25) * c30 * square * square - np.float32(0.5 * optics.defocus_nm) * square
    if c12:
        path += np.float32(0.5 * c12) * ((kx * kx - ky * ky) * cos2 + 2.0 * kx * ky * sin2)
    if optics.coma_nm:
        angle = optics.coma_angle_rad
        along = kx * np.float32(math.cos(angle)) + ky * np.float32(math.sin(angle))
        path += np.float32(optics.coma_nm / 3.0) * square * along
    if optics.trefoil_nm:
        angle = 3.0 * optics.trefoil_angle_rad
        cos3 = kx * (kx * kx - 3.0 * ky * ky)
        sin3 = ky * (3.0 * kx * kx - ky * ky)
        path += np.float32(optics.trefoil_nm / 3.0) * (
            cos3 * np.float32(math.cos(angle)) + sin3 * np.float32(math.sin(angle))
        )
    phase = path
    phase *= np.float32(-2.0 * math.pi / wavelength)
    transfer = np.empty(shape, np.complex64)
    envelope = _envelope(optics, square, wavelength)
    transfer.real = envelope * np.cos(phase)
    transfer.imag = envelope * np.sin(phase)
    return transfer


def _envelope(
    optics: Optics, square: NDArray[np.float32], wavelength: float
) -> NDArray[np.float32]:
    """Damping of amplitudes by partial coherence, and the aperture's edge."""
    focal = math.pi * optics.focal_spread_nm / wavelength
    exponent = np.float32(-0.5 * focal**2) * square * square
    if optics.angular_spread_mrad:
        # Slope of chi along the radius, defocus and spherical aberration alone.
        slope = 1e6 * optics.cs_mm * square - np.float32(optics.defocus_nm)
        spread = math.pi * 1e-3 * optics.angular_spread_mrad / wavelength
        exponent -= np.float32(spread**2) * square * slope * slope
    envelope = np.exp(exponent)
    if math.isfinite(optics.aperture_mrad):
        envelope *= square <= np.float32((1e-3 * optics.aperture_mrad) ** 2)
    return np.asarray(envelope, np.float32)


def image_wave(
    wave: NDArray[np.complex64], optics: Optics, pixel_size_nm: float
) -> NDArray[np.float32]:
    """Mean intensity (H, W) in the image plane; 1 where an undisturbed wave arrives.

    Parameters
    ----------
    wave
        (H, W) exit wave of unit amplitude in vacuum.
    """
    shape = (wave.shape[0], wave.shape[1])
    spectrum = fft.fft2(wave)
    spectrum *= transfer_function(optics, shape, pixel_size_nm)
    amplitude = fft.ifft2(spectrum, overwrite_x=True)
    intensity = np.square(amplitude.real) + np.square(amplitude.imag)
    if optics.vibration_nm or optics.drift_nm:
        intensity = _moved(intensity, optics, pixel_size_nm)
    return np.asarray(intensity, np.float32)


def _moved(
    intensity: NDArray[np.float32], optics: Optics, pixel_size_nm: float
) -> NDArray[np.float32]:
    """Mean of an image over its movement during the exposure."""
    height, width = intensity.shape
    ky = fft.fftfreq(height, pixel_size_nm).astype(np.float32)[:, None]
    kx = fft.rfftfreq(width, pixel_size_nm).astype(np.float32)[None]
    angle = optics.drift_angle_rad
    along = ky * np.float32(math.sin(angle)) + kx * np.float32(math.cos(angle))
    transfer = np.exp(np.float32(-2.0 * (math.pi * optics.vibration_nm) ** 2) * (ky**2 + kx**2))
    transfer *= np.sinc(along * np.float32(optics.drift_nm))
    return np.asarray(fft.irfft2(fft.rfft2(intensity) * transfer, (height, width)), np.float32)


def expose(
    intensity: NDArray[np.float32], camera: Camera, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Counts (H, W), not yet rounded, of an image of this intensity."""
    electrons = np.maximum(intensity, 0.0) * np.float32(camera.electrons_per_px)
    counts = _shot_noise(electrons, rng)
    if camera.blur_px > 0.15:
        counts = _blurred(counts, camera.blur_px)
    if camera.xrays:
        hits = np.zeros_like(counts)
        hits[tuple(rng.integers(0, counts.shape[0], (2, camera.xrays)))] = 1.0
        counts += _blurred(hits, 0.8) * np.float32(counts.mean() * rng.uniform(5.0, 60.0))
    if camera.readout_electrons:
        noise = rng.standard_normal(counts.shape, np.float32)
        counts += np.float32(camera.readout_electrons) * noise
    if camera.stripes:
        columns = rng.standard_normal((1, counts.shape[1]), np.float32)
        counts *= 1.0 + np.float32(camera.stripes) * columns
    if camera.dead_pixels:
        at = tuple(rng.integers(0, counts.shape[0], (2, camera.dead_pixels)))
        hot = float(counts.max()) * rng.uniform(1.0, 3.0)
        counts[at] = np.where(rng.random(camera.dead_pixels) < 0.5, 0.0, hot)
    if camera.smoothing_px > 0.15:
        counts = _blurred(counts, camera.smoothing_px)
    return counts * np.float32(camera.counts_per_electron)


def _shot_noise(electrons: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    if float(electrons.mean()) > _NORMAL_ABOVE:
        noise = rng.standard_normal(electrons.shape, np.float32)
        return np.asarray(electrons + np.sqrt(electrons) * noise, np.float32)
    return rng.poisson(electrons).astype(np.float32)


def _blurred(image: NDArray[np.float32], deviation_px: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), deviation_px, borderType=cv2.BORDER_REFLECT))


def draw_optics(rng: np.random.Generator, *, pixel_size_nm: float) -> Optics:
    """Lens of a lattice image: corrected or not, in focus or not, well or badly aligned.

    Parameters
    ----------
    pixel_size_nm
        Limits the defocus: beyond some hundred nm nothing of a lattice is left where it was.
    """
    voltage_kv = float(rng.choice([80.0, 120.0, 200.0, 300.0], p=[0.15, 0.05, 0.4, 0.4]))
    corrected = rng.random() < 0.4
    cs_mm = float(rng.uniform(-0.03, 0.03) if corrected else rng.uniform(0.4, 2.4))
    scherzer_nm = 1.2 * math.sqrt(max(abs(cs_mm), 0.005) * 1e6 * wavelength_nm(voltage_kv))
    how = rng.random()
    if how < 0.2:  # near focus
        defocus_nm = rng.normal(0.0, 8.0)
    elif how < 0.75:
        defocus_nm = scherzer_nm * rng.normal(1.0, 0.4) * (1.0 if rng.random() < 0.8 else -1.0)
    else:
        defocus_nm = rng.normal(0.0, 2500.0 * pixel_size_nm)
    badly = rng.random() < 0.25

    def sometimes(part: float, deviation: float) -> float:
        return float(abs(rng.normal(0.0, deviation))) if rng.random() < part else 0.0

    def angle() -> float:
        return float(rng.uniform(0.0, 2.0 * math.pi))

    return Optics(
        voltage_kv=voltage_kv,
        defocus_nm=float(defocus_nm),
        cs_mm=cs_mm,
        astigmatism_nm=float(abs(rng.normal(0.0, 25.0 if badly else 4.0))),
        astigmatism_angle_rad=angle(),
        coma_nm=sometimes(0.4, 200.0 if badly else 60.0),
        coma_angle_rad=angle(),
        trefoil_nm=sometimes(0.4, 150.0 if badly else 40.0),
        trefoil_angle_rad=angle(),
        focal_spread_nm=float(rng.uniform(0.5, 4.5)),
        angular_spread_mrad=float(rng.uniform(0.02, 0.4)),
        aperture_mrad=float(rng.uniform(10.0, 40.0)) if rng.random() < 0.2 else math.inf,
        vibration_nm=float(rng.uniform(0.0, 0.05)) if rng.random() < 0.4 else 0.0,
        drift_nm=float(rng.uniform(0.0, 0.2)) if rng.random() < 0.25 else 0.0,
        drift_angle_rad=angle(),
    )


def draw_camera(rng: np.random.Generator, *, least: float = 1.0, most: float = 3000.0) -> Camera:
    """Camera and dose: ``least`` to ``most`` electrons per pixel, uniform in the logarithm."""
    electrons = float(np.exp(rng.uniform(math.log(least), math.log(most))))
    return Camera(
        electrons_per_px=electrons,
        blur_px=float(rng.uniform(0.0, 1.1)),
        smoothing_px=float(rng.uniform(0.3, 1.8)) if rng.random() < 0.35 else 0.0,
        counts_per_electron=float(np.exp(rng.uniform(0.0, math.log(40.0)))),
        readout_electrons=float(rng.uniform(0.0, 0.1) * math.sqrt(electrons))
        if rng.random() < 0.5
        else 0.0,
        stripes=float(rng.uniform(0.0, 0.02)) if rng.random() < 0.1 else 0.0,
        dead_pixels=int(rng.integers(1, 40)) if rng.random() < 0.2 else 0,
        xrays=int(rng.integers(1, 12)) if rng.random() < 0.15 else 0,
    )

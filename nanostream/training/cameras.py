"""Counts that a camera records: uneven light, shot noise, scintillator, readout, bad pixels.

Images are (H, W); mean electrons per pixel go in, counts come out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nanostream.training.exposures import Exposure
from nanostream.training.supports import slow_field

__all__ = ["expected_counts", "recorded_counts", "unevenness"]


def unevenness(exposure: Exposure, size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Factor (H, W) by which light and gain differ from pixel to pixel."""
    shading = 1.0 + exposure.shading * slow_field(rng, size, waves=1.5)
    if exposure.stripes:
        shading *= 1.0 + exposure.stripes * rng.normal(size=(1, size))
    return shading.astype(np.float32)


def expected_counts(electrons: NDArray[np.float32], exposure: Exposure) -> NDArray[np.float32]:
    """Counts (H, W) of mean electrons, without noise and bad pixels."""
    blurred = ndimage.gaussian_filter(electrons, exposure.mtf_sigma_px, mode="reflect")
    return exposure.offset_counts + exposure.gain_counts_per_e * blurred


def recorded_counts(
    electrons: NDArray[np.float32], exposure: Exposure, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Counts (H, W): shot noise blurred by the scintillator, readout, bad pixels and X-rays."""
    counts = rng.poisson(electrons).astype(np.float32)
    counts = ndimage.gaussian_filter(counts, exposure.mtf_sigma_px, mode="reflect")
    if exposure.xrays:
        hits = np.zeros_like(counts)
        hits[tuple(rng.integers(0, counts.shape[0], (2, exposure.xrays)))] = 1.0
        counts += ndimage.gaussian_filter(hits, 0.8) * counts.mean() * rng.uniform(5.0, 40.0)
    counts *= exposure.gain_counts_per_e
    counts += rng.normal(0.0, 1.0, counts.shape) * exposure.readout_counts
    if exposure.bad_pixels:
        at = rng.integers(0, counts.shape[0], (2, exposure.bad_pixels))
        hot = float(counts.max()) * rng.uniform(1.5, 4.0)
        counts[at[0], at[1]] = np.where(rng.random(exposure.bad_pixels) < 0.5, 0.0, hot)
    counts += exposure.offset_counts
    return np.clip(np.rint(counts), -32768, 32767).astype(np.int16)

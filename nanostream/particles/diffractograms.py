"""The power spectrum of a whole section, for the operator: rings of lattices and of the lens."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, signal

__all__ = ["Diffractogram", "power_spectrum"]

Floats = NDArray[np.float64]

#: Side of the overlapping fields whose spectra are averaged, in px: enough for a spot of a crystal
#: of 20 nm, few enough that speckle is averaged in a large section.
_FIELD_PX = 1024

#: A dip of the profile by a third below its surroundings is a zero of the lens's transfer.
_DIP = 0.4


class Diffractogram(NamedTuple):
    """Power spectrum of a section.

    Attributes
    ----------
    log_power : (n, n) float32
        Decadic logarithm of the power, frequency zero at ``[n // 2, n // 2]``; rows and columns in
        file order.
    pixel_size_nm : float or None
        Width of a pixel, if it is known: frequencies in 1/px over it are in 1/nm.
    step_per_px : float
        Frequency from one value to the next.
    k_per_px : (m,) float64
        Frequencies of the rings, up to 0.5 (Nyquist).
    profile : (m,) float64
        Median power along each ring: peaks of single crystals do not count.
    thon_per_px : (t,) float64
        Where the profile dips: the zeros of the lens's transfer, the innermost first.
    """

    log_power: NDArray[np.float32]
    pixel_size_nm: float | None
    step_per_px: float
    k_per_px: Floats
    profile: Floats
    thon_per_px: Floats


def power_spectrum(image: NDArray[Any], pixel_size_nm: float | None = None) -> Diffractogram:
    """Power spectrum of a section, averaged over overlapping fields [1]_.

    Parameters
    ----------
    image : (H, W) any number
    pixel_size_nm : float, optional
        Width of a pixel; it is handed on.

    Raises
    ------
    ValueError
        If the image is smaller than 32 px.

    References
    ----------
    .. [1] Welch, P. D. IEEE Transactions on Audio and Electroacoustics 15, 70 (1967).
       https://doi.org/10.1109/TAU.1967.1161901
    """
    if image.ndim != 2 or min(image.shape) < 32:
        msg = f"a power spectrum needs an image of 32 px or more a side, not {image.shape}"
        raise ValueError(msg)
    side = min(_FIELD_PX, *image.shape)
    window = np.outer(np.hanning(side), np.hanning(side)).astype(np.float32)
    total = np.zeros((side, side))
    for top in _starts(image.shape[0], side):
        for left in _starts(image.shape[1], side):
            field = np.asarray(image[top : top + side, left : left + side], np.float32)
            field = np.nan_to_num(field) - np.float32(np.nanmean(field))
            total += np.abs(fft.fft2(field * window)) ** 2
    power = fft.fftshift(total)
    y, x = np.indices(power.shape) - side // 2
    ring = np.rint(np.hypot(y, x)).astype(np.int64)
    rings = np.arange(1, side // 2)
    profile = np.asarray(ndimage.median(power, ring, rings), np.float64)
    return Diffractogram(
        log_power=np.log10(power + 1e-30).astype(np.float32),
        pixel_size_nm=pixel_size_nm,
        step_per_px=1.0 / side,
        k_per_px=rings / side,
        profile=profile,
        thon_per_px=rings[_dips(profile)] / side,
    )


def _starts(length: int, side: int) -> NDArray[np.int64]:
    """Where fields begin that overlap by half or more and reach both ends."""
    count = 1 + -(-2 * (length - side) // side)
    return np.linspace(0, length - side, count).astype(np.int64)


def _dips(profile: Floats) -> NDArray[np.int64]:
    smooth = ndimage.gaussian_filter1d(np.log(profile + 1e-30), 2.0)
    found, _ = signal.find_peaks(-smooth, prominence=_DIP)
    return np.asarray(found, np.int64)

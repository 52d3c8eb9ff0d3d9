"""Significant peaks of a power spectrum: what amorphous matter does not make by chance.

A peak is what the speckle of amorphous matter reaches in one of 200 particles.

References
----------
Rife, D. C. & Boorstyn, R. R. Single-tone parameter estimation from discrete-time observations. IEEE
Transactions on Information Theory 20, 591 (1974), the uncertainty of a peak's position.
https://doi.org/10.1109/TIT.1974.1055282
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nanostream.particles.backgrounds import background
from nanostream.particles.spectra import Band, Spectrum
from nanostream.particles.stripes import Stripes

__all__ = ["Peaks", "find_peaks"]

Floats = NDArray[np.float64]

#: Peaks that amorphous matter makes by chance, per particle.
FALSE_ALARMS = 0.005

#: Of a peak's width: what the shape, the tilt and the defocus of a small crystal move its peak by
#: (standard deviation on simulated particles), besides the noise.
_SHAPE = 0.1

#: Closer than this, in widths of a peak, to a stronger one there is no peak of its own.
_APART = 1.5

#: A weaker peak is this many times above what leaks through the window from stronger ones, whose
#: crystals fill the window less smoothly than it falls.
_LEAK = 6.0

#: Two peaks within 5 degrees of a direction and so many widths apart are one that was split.
_ONE_DIRECTION, _SPLIT = math.cos(math.radians(5)), 2.2

#: More peaks than these say nothing more.
_MOST_PEAKS = 24


class Peaks(NamedTuple):
    """Significant peaks, one of each Friedel pair, the strongest first.

    Attributes
    ----------
    position_per_nm : (n, 2) float64
        Along (x, y), the direction from 0 to below 180 degrees.
    sd_per_nm : (n,) float64
        Standard deviation of its length.
    strength : (n,) float64
        Power over the mean power of the background there.
    power_share : float
        Power of all peaks over that of the band, backgrounds subtracted from the peaks: 0 to 1.
    """

    position_per_nm: Floats
    sd_per_nm: Floats
    strength: Floats
    power_share: float


def _significance(spectrum: Spectrum, band: Band, k_per_nm: Floats) -> Floats:
    """Strength above which a peak of some frequency in a band is no speckle.

    Notes
    -----
    Of N independent exponential values one is above T = ln(N / p) times their mean with probability
    p. The mean is not known but estimated from n others: the probability is the same above
    n (exp(T / n) - 1). A median is worth half as many values as it is taken of.
    """
    area = math.pi / 2 * (band.smallest_nm**-2 - band.largest_nm**-2)
    threshold = math.log(max(area * spectrum.cells_nm2, 1.0) / FALSE_ALARMS)
    along_the_ring = 0.5 * 1.5 * np.pi * k_per_nm / spectrum.width_per_nm
    return np.asarray(along_the_ring * np.expm1(threshold / along_the_ring), np.float64)


def find_peaks(spectrum: Spectrum, band: Band, *, stripes: Stripes | None = None) -> Peaks:
    """Significant peaks of a power spectrum within a band of spacings.

    Parameters
    ----------
    spectrum : Spectrum
    band : Band
    stripes : Stripes, optional
        Of the section: where there are any, peaks on that axis are not taken.

    Notes
    -----
    Positions are the summits of paraboloids through the logarithm of 3 x 3 values.
    """
    y, x, k = _summits(spectrum, band)
    level = background(spectrum, band)(y, x)
    least = _significance(spectrum, band, k) * level
    strong = spectrum.power[y, x] > least
    y, x, level = y[strong], x[strong], level[strong]
    kept = _standing_alone(spectrum, y, x, least[strong])
    if stripes:
        kept = _off_axes(spectrum, y, x, kept, stripes)
    y, x, level = y[kept], x[kept], level[kept]
    position, height = _refined(spectrum, y, x)
    strength = height / level
    sd = _deviations(spectrum, position, strength)
    position, sd, strength = _rejoined(position, sd, strength, spectrum.width_per_nm)
    return Peaks(position, sd, strength, _power_share(spectrum, band, y, x, level))


def _summits(spectrum: Spectrum, band: Band) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Rows, columns and frequencies of local maxima in half of a band, strongest first."""
    power, middle = spectrum.power, len(spectrum.power) // 2
    greatest = ndimage.maximum_filter(power, 3, mode="nearest") == power
    greatest[[0, -1]] = greatest[:, [0, -1]] = False
    y, x = np.nonzero(greatest)
    k = np.hypot(y - middle, x - middle) * spectrum.step_per_nm
    later = (y > middle) | ((y == middle) & (x > middle))
    inside = later & (k > 1.0 / band.largest_nm) & (k < 1.0 / band.smallest_nm)
    y, x, k = y[inside], x[inside], k[inside]
    order = np.argsort(-power[y, x], kind="stable")
    return y[order], x[order], k[order]


def _standing_alone(
    spectrum: Spectrum, y: NDArray[np.int64], x: NDArray[np.int64], least: Floats
) -> list[int]:
    """Which summits are peaks of their own, not flanks of stronger ones or of their mates."""
    power, middle = spectrum.power, len(spectrum.power) // 2
    reach = _APART * spectrum.width_per_nm / spectrum.step_per_nm
    kept: list[int] = []
    for i in range(y.size):
        leaked = 0.0
        for j in kept:
            for sign in (1, -1):
                dy = y[i] - middle - sign * (y[j] - middle)
                dx = x[i] - middle - sign * (x[j] - middle)
                at = (dy + middle) % len(power), (dx + middle) % len(power)
                near = math.hypot(dy, dx) < reach
                leaked += math.inf if near else power[y[j], x[j]] * spectrum.leakage[at]
        if power[y[i], x[i]] > least[i] + _LEAK * leaked:
            kept.append(i)
        if len(kept) == _MOST_PEAKS:
            break
    return kept


def _off_axes(
    spectrum: Spectrum,
    y: NDArray[np.int64],
    x: NDArray[np.int64],
    kept: list[int],
    stripes: Stripes,
) -> list[int]:
    """Those peaks that stripes along rows or columns cannot have made."""
    middle = len(spectrum.power) // 2
    reach = 0.75 * spectrum.width_per_nm / spectrum.step_per_nm
    return [
        i
        for i in kept
        if not (stripes.columns and abs(y[i] - middle) <= reach)
        and not (stripes.rows and abs(x[i] - middle) <= reach)
    ]


def _refined(
    spectrum: Spectrum, y: NDArray[np.int64], x: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Positions (x, y) in 1/nm and heights of summits, by a paraboloid in the logarithm."""
    around = np.arange(-1, 2)
    values = np.log(
        spectrum.power[y[:, None, None] + around[:, None], x[:, None, None] + around] + 1e-300
    )
    u, v = np.meshgrid(around, around)  # along x and y
    terms = np.stack([np.ones(9), *(t.ravel() for t in (u, v, u * u, u * v, v * v))], axis=1)
    _, bx, by, cxx, cxy, cyy = (values.reshape(-1, 9) @ np.linalg.pinv(terms).T).T
    determinant = 4 * cxx * cyy - cxy**2
    determinant = np.where(determinant > 0, determinant, np.inf)
    dx = np.clip((cxy * by - 2 * cyy * bx) / determinant, -1, 1)
    dy = np.clip((cxy * bx - 2 * cxx * by) / determinant, -1, 1)
    middle = len(spectrum.power) // 2
    position = np.stack([x + dx - middle, y + dy - middle], axis=1) * spectrum.step_per_nm
    return position, np.exp(values[:, 1, 1] + 0.5 * (bx * dx + by * dy))


def _deviations(spectrum: Spectrum, position: Floats, strength: Floats) -> Floats:
    """Standard deviations of the peaks' frequencies; they say nothing of the pixel size.

    Notes
    -----
    It is that of the frequency of a tone in white noise under the window w, with the strength S and
    the window's second moments m along the peak's direction [1]_::

        sqrt(m(w²) / (2 S)) / (2 pi m(w))

    and, independent of it, a tenth of the peak's width: a small crystal's shape, its tilt and the
    lens move its peaks.

    References
    ----------
    .. [1] Rife & Boorstyn (1974), as above.
    """
    k = np.hypot(*position.T)
    along = position / np.maximum(k, 1e-12)[:, None]
    plain, squared = (np.einsum("ni,ij,nj->n", along, m, along) for m in spectrum.spread_nm2)
    noise = np.sqrt(squared / (2 * strength)) / (2 * np.pi * np.maximum(plain, 1e-12))
    return np.asarray(np.hypot(noise, _SHAPE * spectrum.width_per_nm), np.float64)


def _rejoined(
    position: Floats, sd: Floats, strength: Floats, width_per_nm: float
) -> tuple[Floats, Floats, Floats]:
    """Peaks of which those that a zero of the lens's transfer split are one again.

    Far from focus the transfer oscillates within a peak's width: two summits in one direction, and
    the planes' frequency between them. It is their mean, weighted with their strengths.
    """
    position, sd = position.copy(), sd.copy()
    left = list(range(len(position)))
    kept: list[int] = []
    while left:
        i = left.pop(0)
        length = np.linalg.norm(position, axis=1)
        for j in left:
            cosine = float(position[i] @ position[j] / (length[i] * length[j]))
            apart = abs(float(length[i] - length[j]))
            if abs(cosine) > _ONE_DIRECTION and apart < _SPLIT * width_per_nm:
                left.remove(j)
                part = strength[j] / (strength[i] + strength[j])
                other = position[j] * math.copysign(1.0, cosine)
                position[i] = (1 - part) * position[i] + part * other
                sd[i] = max(sd[i], apart / 4)
                break
        kept.append(i)
    return position[kept], sd[kept], strength[kept]


def _power_share(
    spectrum: Spectrum,
    band: Band,
    y: NDArray[np.int64],
    x: NDArray[np.int64],
    level: Floats,
) -> float:
    """Power in discs around peaks, less their background, over all power of the band."""
    middle = len(spectrum.power) // 2
    rows, columns = np.indices(spectrum.power.shape)
    k = np.hypot(rows - middle, columns - middle) * spectrum.step_per_nm
    inside = (k > 1.0 / band.largest_nm) & (k < 1.0 / band.smallest_nm) & (rows >= middle)
    total = float(spectrum.power[inside].sum())
    reach = 0.75 * _APART * spectrum.width_per_nm / spectrum.step_per_nm
    excess, taken = 0.0, np.zeros(inside.shape, np.bool_)
    for row, column, mean in zip(y, x, level, strict=True):
        disc = inside & ~taken & (np.hypot(rows - row, columns - column) < reach)
        excess += float(np.maximum(spectrum.power[disc] - mean, 0).sum())
        taken |= disc
    return min(1.0, excess / total) if total > 0 else 0.0

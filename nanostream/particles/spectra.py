"""Power spectra of micrographs and particles, and the significant peaks in them.

Frequencies are in 1/nm along (x, y) in file order. A peak of a lattice lies at one over its
spacing, along the normal of its planes.

What is amorphous gives speckle: its power at each frequency is distributed exponentially about a
mean that changes smoothly, but for the Thon rings of the lens, with frequency and, where the lens
is astigmatic, with direction. So the background is a median along the ring, and along a part of it,
and a peak is what such speckle reaches by chance in one of 200 particles.

References
----------
Welch, P. D. The use of fast Fourier transform for the estimation of power spectra. IEEE
Transactions on Audio and Electroacoustics 15, 70 (1967). https://doi.org/10.1109/TAU.1967.1161901

Thon, F. Zur Defokussierungsabhängigkeit des Phasenkontrastes bei der elektronenmikroskopischen
Abbildung. Zeitschrift für Naturforschung A 21, 476 (1966). https://doi.org/10.1515/zna-1966-0417

Rife, D. C. & Boorstyn, R. R. Single-tone parameter estimation from discrete-time observations. IEEE
Transactions on Information Theory 20, 591 (1974), the uncertainty of a peak's position.
https://doi.org/10.1109/TIT.1974.1055282
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

__all__ = [
    "Band",
    "Peaks",
    "Spectrum",
    "Stripes",
    "find_peaks",
    "striped",
    "taper",
    "windowed_spectrum",
]

Floats = NDArray[np.float64]

#: Peaks that amorphous matter makes by chance, per particle.
FALSE_ALARMS = 0.005

#: Part of a mask's depth over which the window falls. With 0.3 more phases were named right than
#: with 0.5 or 0.8 on simulated particles of 1 to 6 nm.
_FLANK = 0.3

#: Of a peak's width: what the shape, the tilt and the defocus of a small crystal move its peak by
#: (standard deviation on simulated particles), besides the noise.
_SHAPE = 0.1

#: A row or column of a section's spectrum with so many times the power of its neighbours: stripes.
_STRIPED = 4.0
#: Values in a range of frequencies that stripes stand out in.
_RANGE = 24

#: Pixels this many deviations off are X-rays and hot pixels: two of them look like fringes.
_SPIKE = 6.0

#: Directions in which a spectrum is looked at, over half a turn; there is a part of a ring for each
#: so many of them.
_DIRECTIONS, _EVERY = 90, 5

#: A part of a ring is 60 degrees long, or so many widths of a peak to both sides if that is more:
#: of a short one the peak itself would be the greater half.
_PART, _PART_WIDTHS = math.radians(30), 5

#: Closer than this, in widths of a peak, to a stronger one there is no peak of its own.
_APART = 1.5

#: A weaker peak is this many times above what leaks through the window from stronger ones, whose
#: crystals fill the window less smoothly than it falls.
_LEAK = 6.0

#: Two peaks within 5 degrees of a direction and so many widths apart are one that was split.
_ONE_DIRECTION, _SPLIT = math.cos(math.radians(5)), 2.2

#: More peaks than these say nothing more.
_MOST_PEAKS = 24


class Band(NamedTuple):
    """Spacings that are looked for: the greatest and the least, in nm."""

    largest_nm: float
    smallest_nm: float


class Spectrum(NamedTuple):
    """Power spectrum of a windowed field.

    Attributes
    ----------
    power : (n, n) float64
        Frequency zero at ``[n // 2, n // 2]``; white noise has its variance as mean.
    step_per_nm : float
        Frequency from one value to the next.
    leakage : (n, n) float64
        The same of the window itself, 1 in its middle: how a peak looks.
    cells_nm2 : float
        Independent values per unit of frequency squared; their width is one over the root of it.
    spread_nm2 : (2, 2, 2) float64
        Second moments along (x, y) of the window, and of its square: they make the uncertainty of
        a peak's position, see `find_peaks`.
    """

    power: Floats
    step_per_nm: float
    leakage: Floats
    cells_nm2: float
    spread_nm2: Floats

    @property
    def width_per_nm(self) -> float:
        """Width of a peak: one over the window's effective diameter."""
        return math.sqrt(math.pi / 4 / self.cells_nm2)


class Stripes(NamedTuple):
    """Whether a camera's rows, or columns, differ from one to the next all across the section."""

    rows: bool
    columns: bool


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


def taper(mask: NDArray[np.bool_]) -> Floats:
    """Window that falls to 0 at the edge of a mask, as a cosine over 0.3 of its depth.

    A window that ended sharply would draw the outline's own spectrum over everything.

    Parameters
    ----------
    mask : (h, w) bool

    Returns
    -------
    (h, w) float64
        0 outside, up to 1.
    """
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    flank = max(2.0, _FLANK * float(distance.max(initial=0.0)))
    return np.asarray(np.sin(0.5 * np.pi * np.minimum(distance / flank, 1.0)) ** 2, np.float64)


def windowed_spectrum(
    pixels: NDArray[Any], window: Floats, *, pixel_size_nm: float, largest_nm: float
) -> Spectrum:
    """Power spectrum of a field, without what is slower than a lattice.

    Parameters
    ----------
    pixels : (h, w) any number
    window : (h, w) float64
        Weight of each pixel, as of `taper`.
    pixel_size_nm : float
    largest_nm : float
        Greatest spacing of interest; what is slower (thickness, shading) is subtracted.

    Raises
    ------
    ValueError
        If the window is empty.
    """
    weight = float(np.square(window).sum())
    if weight <= 0:
        raise ValueError("an empty window has no spectrum")
    values = _without_spikes(np.asarray(pixels, np.float64), window)
    sigma_px = 0.5 * largest_nm / pixel_size_nm
    values -= ndimage.gaussian_filter(values * window, sigma_px, mode="constant") / np.maximum(
        ndimage.gaussian_filter(window, sigma_px, mode="constant"), 1e-9
    )
    values -= (values * window).sum() / window.sum()
    n = fft.next_fast_len(2 * max(window.shape))
    power = np.abs(fft.fftshift(fft.fft2(values * window, (n, n)))) ** 2 / weight
    leakage = np.abs(fft.fftshift(fft.fft2(window, (n, n)))) ** 2 / window.sum() ** 2
    return Spectrum(
        power=power,
        step_per_nm=1.0 / (n * pixel_size_nm),
        leakage=leakage,
        cells_nm2=weight**2 / float((window**4).sum()) * pixel_size_nm**2,
        spread_nm2=_spread(window) * pixel_size_nm**2,
    )


def _without_spikes(values: Floats, window: Floats) -> Floats:
    inside = values[(window > 0) & np.isfinite(values)]
    middle = float(np.median(inside)) if inside.size else 0.0
    reach = _SPIKE * 1.4826 * float(np.median(np.abs(inside - middle))) if inside.size else 0.0
    values = np.where(np.isfinite(values), values, middle)
    return np.clip(values, middle - reach, middle + reach) if reach > 0 else values


def _spread(window: Floats) -> Floats:
    """Second moments of window and of its square, as the uncertainty of a position needs them."""
    y, x = np.indices(window.shape)
    places = np.stack([x.ravel(), y.ravel()])
    moments = [np.cov(places, aweights=weight.ravel(), ddof=0) for weight in (window, window**2)]
    return np.stack(moments)


def significance(spectrum: Spectrum, band: Band, k_per_nm: Floats) -> Floats:
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


def striped(pixels: NDArray[Any]) -> Stripes:
    """Whether the camera draws stripes: as sharp as lattice fringes, and along its rows or columns.

    Parameters
    ----------
    pixels : (H, W) any number
        The whole section.

    Notes
    -----
    The power along the axes of its spectrum is compared with that beside them. A crystal adds to
    few frequencies, stripes to many, so that medians over ranges of frequencies count.
    """
    values = np.nan_to_num(np.asarray(pixels, np.float64))
    height, width = values.shape
    if min(height, width) < 32:
        return Stripes(rows=False, columns=False)
    window = np.outer(np.hanning(height), np.hanning(width))
    power = np.abs(fft.rfft2((values - values.mean()) * window)) ** 2 + 1e-30
    across = power[:, width // 16 : -1]  # frequencies along x, 0 along y in the first row
    along = power[height // 16 : height // 2]
    return Stripes(
        rows=_outstanding(along[:, 0], along[:, 3:9].mean(axis=1)),
        columns=_outstanding(across[0], across[3:9].mean(axis=0)),
    )


def _outstanding(axis: Floats, beside: Floats) -> bool:
    """Whether the power on an axis is above that beside it in any range of frequencies."""
    ranges = np.array_split(axis / beside, max(1, axis.size // _RANGE))
    # Of exponential values the median is ln 2.
    return max(float(np.median(part)) for part in ranges) > _STRIPED * math.log(2)


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
    Positions are the summits of paraboloids through the logarithm of 3 x 3 values. Their standard
    deviation is that of the frequency of a tone in white noise under the window w, with the
    strength S and the window's second moments m along the peak's direction [1]_::

        sqrt(m(w²) / (2 S)) / (2 pi m(w))

    and, independent of it, a tenth of the peak's width: a small crystal's shape, its tilt and the
    lens move its peaks. It says nothing of the pixel size.

    References
    ----------
    .. [1] Rife & Boorstyn (1974), as above.
    """
    y, x, k = _summits(spectrum, band)
    level = _background(spectrum, band)(y, x)
    least = significance(spectrum, band, k) * level
    strong = spectrum.power[y, x] > least
    y, x, level = y[strong], x[strong], level[strong]
    kept = _standing_alone(spectrum, y, x, least[strong])
    if stripes:
        kept = _off_axes(spectrum, y, x, kept, stripes)
    y, x, level = y[kept], x[kept], level[kept]
    position, height = _refined(spectrum, y, x)
    strength = height / level
    k = np.hypot(*position.T)
    along = position / np.maximum(k, 1e-12)[:, None]
    plain, squared = (np.einsum("ni,ij,nj->n", along, m, along) for m in spectrum.spread_nm2)
    noise = np.sqrt(squared / (2 * strength)) / (2 * np.pi * np.maximum(plain, 1e-12))
    sd = np.hypot(noise, _SHAPE * spectrum.width_per_nm)
    position, sd, strength = _rejoined(position, sd, strength, spectrum.width_per_nm)
    return Peaks(position, sd, strength, _power_share(spectrum, band, y, x, level))


def _background(spectrum: Spectrum, band: Band) -> Any:
    """Function of rows and columns of a spectrum that gives the mean power of amorphous matter.

    The median of exponential values is ln 2 of their mean. Of those along the ring and along a part
    of it the greater counts: the first is surer, the second follows an elliptical Thon ring.
    """
    step = 0.5 * spectrum.width_per_nm
    radii = np.arange(1.0 / band.largest_nm - 2 * step, 1.0 / band.smallest_nm + 2 * step, step)
    angles = np.arange(_DIRECTIONS) * (np.pi / _DIRECTIONS)
    middle = len(spectrum.power) // 2
    along = radii[:, None] / spectrum.step_per_nm
    polar = ndimage.map_coordinates(
        spectrum.power,
        [middle + along * np.sin(angles), middle + along * np.cos(angles)],
        order=1,
        mode="nearest",
    )
    ring = np.median(_windows(polar, 1, 0)[:, :1], axis=(2, 3))
    half = max(_PART, _PART_WIDTHS * spectrum.width_per_nm / float(np.mean(radii)))
    side = min(math.ceil(half * _DIRECTIONS / np.pi), _DIRECTIONS // 2 - 1)
    part = np.median(_windows(polar, 2, side)[:, ::_EVERY], axis=(2, 3))
    mean = np.maximum(part, ring) / math.log(2)

    # A turn by half is the same spectrum: the first part follows the last.
    def at(y: NDArray[np.int64], x: NDArray[np.int64]) -> Floats:
        radius = np.hypot(y - middle, x - middle) * spectrum.step_per_nm
        turn = np.arctan2(y - middle, x - middle) % np.pi * (_DIRECTIONS / np.pi / _EVERY)
        return np.asarray(
            ndimage.map_coordinates(
                mean, [(radius - radii[0]) / step, turn], order=1, mode="grid-wrap"
            ),
            np.float64,
        )

    return at


def _windows(polar: Floats, rings: int, directions: int) -> Floats:
    """Neighbours of each value: rings and directions to both sides, or all directions if 0."""
    rows = np.pad(polar, ((rings, rings), (0, 0)), mode="edge")
    across = 2 * directions + 1 if directions else polar.shape[1]
    if directions:
        rows = np.pad(rows, ((0, 0), (directions, directions)), mode="wrap")
    return np.lib.stride_tricks.sliding_window_view(rows, (2 * rings + 1, across))


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

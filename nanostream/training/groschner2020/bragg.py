"""Where a micrograph shows a crystal lattice: the automatic Bragg filter of the comparison.

The conventional way to find crystals in HRTEM, against which the paper sets its network::

    median filter, less its own blur  hot pixels gone, nothing left that is slower than fringes
    fields of 20 nm, overlapping      few crystals in each, so that their peaks stand alone
    spectrum of a field               Tukey window: flat over the field, falling at its edge
    less its median-filtered self     Thon rings, support and camera are smooth, peaks are not
    peaks, one of each Friedel pair   so many deviations above what is left
    disc around a peak, inverse       local strength of that one set of fringes
    against noise and its own maximum each set of fringes by itself, the strongest counts
    mask                              small regions removed, small holes filled, as the network's

The published notebook decides by hand, image by image, which of the peaks are "good" and where
each is cut off, and the paper says so. Here nothing is set by hand: the few numbers that are
left free (`BraggSettings`) are those of `choose_settings`, on labelled training images.

References
----------
Groschner, C. K., Choi, C. & Scott, M. C. Methodologies for successful segmentation of HRTEM
images via neural network (2020), section III. https://arxiv.org/abs/2001.05022

ScottLabUCB/HTTEM @977b4aee, pyNanoFind/bragg_filtering/bragg_filtering.ipynb.

Hÿtch, M. J., Snoeck, E. & Kilaas, R. Quantitative measurement of displacement and strain fields
from HREM micrographs. Ultramicroscopy 74, 131 (1998), the complex image of one Bragg spot.
https://doi.org/10.1016/S0304-3991(98)00035-7

Harris, F. J. On the use of windows for harmonic analysis with the discrete Fourier transform.
Proceedings of the IEEE 66, 51 (1978), section V E (Tukey window).
https://doi.org/10.1109/PROC.1978.10837
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from nanostream.segmentation.masks import label_mask
from nanostream.segmentation.normalization import median_filter
from nanostream.segmentation.tiles import plan_tiles

__all__ = [
    "GRID",
    "LEVEL",
    "BraggSettings",
    "Peaks",
    "choose_settings",
    "field_spectrum",
    "find_peaks",
    "lattice_map",
    "segment_lattice",
    "tukey_window",
]

LEVEL = 0.5
"""Threshold of :func:`lattice_map`."""

# Above it are no strong reflections (CdSe 0.372 nm) but the shapes of particles and holes; below
# the other, in pixels, camera and median filter leave nothing.
_MAX_SPACING_NM = 0.45
_MIN_SPACING_PX = 2.2

# Side of a field, and how much of it on each side is left to its neighbours: enough that a crystal
# cut by the line where two fields meet is whole in both, and found in both or in none. A tile of
# the paper, 512 px, is about as large.
_FIELD_NM = 20.0
_MARGIN_NM = 4.0

# Taken where the pixel size is not known: the middle of those at which lattices are imaged.
_USUAL_PIXEL_SIZE_NM = 0.03


@dataclass(frozen=True)
class BraggSettings:
    """Numbers that are left free in the filter; `choose_settings` finds them on labelled images.

    Attributes
    ----------
    spot_per_nm
        Standard deviation of the Gaussian that the power spectrum is smoothed with before peaks
        are looked for, 1/nm: the width of a peak, which is one over the crystal's diameter.
    background_per_nm
        Side of the median filter's window, 1/nm: several spots wide, narrower than a Thon ring.
    min_spacing_nm
        Shortest spacing taken for a lattice. The lens moves the fine fringes off their crystal
        (delocalisation, which grows with the third power of one over the spacing): at 300 kV, Cs
        1 mm and 48 nm defocus those of Au (220), 0.144 nm, lie 2 to 3 nm beside it.
    peak_deviations
        Least height of a peak over the background, in deviations of the rest.
    disc_per_nm
        Radius of the disc around a peak, 1/nm; the mask is as sharp as about one over it, nm.
    noise_ratio
        Power of fringes, over that of the noise in the same disc, which makes a pixel crystal.
    peak_fraction
        The same over the field's greatest power of these fringes; the larger of both counts. A
        quarter, half of the amplitude, is where the edge of a single crystal is.
    min_diameter_nm
        Regions with less than the area of this disc are removed.
    """

    spot_per_nm: float = 0.12
    background_per_nm: float = 1.5
    min_spacing_nm: float = 0.17
    peak_deviations: float = 5.0
    disc_per_nm: float = 1.0
    noise_ratio: float = 4.0
    peak_fraction: float = 0.15
    min_diameter_nm: float = 1.2


#: Values that `choose_settings` tries, the coarse decisions first.
GRID: dict[str, tuple[float, ...]] = {
    "peak_deviations": (4.0, 5.0, 6.0, 8.0, 11.0),
    "min_spacing_nm": (0.11, 0.13, 0.17, 0.185),
    "peak_fraction": (0.05, 0.1, 0.15, 0.2, 0.3),
    "noise_ratio": (2.0, 4.0, 8.0, 16.0),
    "disc_per_nm": (0.5, 0.7, 1.0, 1.4),
    "spot_per_nm": (0.08, 0.12, 0.17),
    "min_diameter_nm": (0.8, 1.2, 2.0),
}


class Peaks(NamedTuple):
    """Bragg peaks of a power spectrum, one of each Friedel pair.

    Attributes
    ----------
    position : (n, 2) int64
        Row and column in the spectrum.
    background : (n,) float32
        Power of the background there.
    """

    position: NDArray[np.int64]
    background: NDArray[np.float32]


def tukey_window(shape: tuple[int, int], *, flank_px: int) -> NDArray[np.float32]:
    """Window that is 1 but for its flanks, where it falls as a cosine.

    Without a window the jump between opposite edges draws a cross through the spectrum, full of
    false peaks. A Hann window over the whole field, the common one, would make each crystal
    weaker the farther it is from the middle. The flanks of this one lie where the mask is left
    to the neighbouring field.
    """
    flank = 0.5 - 0.5 * np.cos(np.pi * (np.arange(flank_px) + 0.5) / flank_px)
    rows, columns = (
        np.concatenate([flank, np.ones(length - 2 * flank_px), flank[::-1]]) for length in shape
    )
    return np.outer(rows, columns).astype(np.float32)


def field_spectrum(
    field: NDArray[np.float32], window: NDArray[np.float32]
) -> NDArray[np.complex64]:
    """Fourier transform of a field, frequency zero in the middle.

    Parameters
    ----------
    field : (H, W) float32
        Of mean zero.
    window : (H, W) float32
        Weight of each pixel: `tukey_window`, and 0 outside of the micrograph.

    Returns
    -------
    (H, W) complex64
        Frequency zero at ``[H // 2, W // 2]``. Scaled so that the mean power of white noise is
        its variance.
    """
    scale = np.float32(1.0 / math.sqrt(float(np.square(window, dtype=np.float64).sum())))
    return np.asarray(fft.fftshift(fft.fft2(field * window * scale)), np.complex64)


def find_peaks(
    power: NDArray[np.float32], settings: BraggSettings, *, pixel_size_nm: float
) -> Peaks:
    """Peaks above the smooth background of a power spectrum.

    Parameters
    ----------
    power : (H, W) float32
        Squared modulus of `field_spectrum`.

    Returns
    -------
    Peaks
        In raster order; of each Friedel pair the one that comes later. None of them belongs to a
        spacing above 0.45 nm, or below `min_spacing_nm` or 2.2 px.

    Notes
    -----
    Background is the median of its surroundings, in which peaks are a minority, and it is
    subtracted from the logarithm of the power: the noise of a spectrum is proportional to it.
    What is left has one deviation everywhere, taken from its median absolute value, so that the
    peaks themselves do not raise it.
    """
    per_nm = 1.0 / (np.array(power.shape) * pixel_size_nm)  # of one bin, along y and x
    shortest_nm = max(settings.min_spacing_nm, _MIN_SPACING_PX * pixel_size_nm)
    # Beyond the shortest spacing the spectrum serves the background only.
    outer = np.ceil((1.0 / shortest_nm + settings.background_per_nm) / per_nm).astype(int)
    half = np.minimum(np.array(power.shape) // 2, outer)
    corner = np.array(power.shape) // 2 - half
    seen = power[corner[0] :, corner[1] :][: 2 * half[0] + 1, : 2 * half[1] + 1]
    sigma_y, sigma_x = settings.spot_per_nm / per_nm
    smooth = np.log(cv2.GaussianBlur(seen, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y) + 1e-30)
    background = _median_background(smooth, settings.background_per_nm / per_nm)
    excess = smooth - background
    y, x = ((np.arange(n) - c) * d for n, c, d in zip(seen.shape, half, per_nm, strict=True))
    y = y[:, None]
    k_per_nm = np.hypot(y, x)
    allowed = (k_per_nm > 1.0 / _MAX_SPACING_NM) & (k_per_nm < 1.0 / shortest_nm)
    if not allowed.any():  # pixels too large to show any lattice
        return Peaks(np.empty((0, 2), np.int64), np.empty(0, np.float32))
    deviation = 1.4826 * float(np.median(np.abs(excess[allowed])))
    reach_y, reach_x = (2 * math.ceil(2 * sigma) + 1 for sigma in (sigma_y, sigma_x))
    summit = excess >= cv2.dilate(excess, np.ones((reach_y, reach_x), np.uint8))
    later = (y > 0) | ((y == 0) & (x > 0))
    found = summit & allowed & later & (excess > settings.peak_deviations * max(deviation, 1e-6))
    return Peaks(np.argwhere(found) + corner, np.exp(background[found]))


def _median_background(
    smooth: NDArray[np.float32], window: NDArray[np.float64]
) -> NDArray[np.float32]:
    # 11 x 11 values spread over the window have the median of all of it.
    step = np.maximum(1, np.rint(window / 11)).astype(int)
    size = 2 * np.rint(window / (2 * step)).astype(int) + 1
    coarse = ndimage.median_filter(smooth[:: step[0], :: step[1]], tuple(size), mode="nearest")
    return _stretched(coarse, smooth.shape, step=(step[0], step[1]))


def _stretched(
    coarse: NDArray[np.float32], shape: tuple[int, ...], *, step: tuple[float, float]
) -> NDArray[np.float32]:
    """Values between those of every `step`-th point; the first point stays the first.

    ``cv2.resize`` would move everything by half a step.
    """
    view = np.array([[1 / step[1], 0.0, 0.0], [0.0, 1 / step[0], 0.0]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    stretched: Any = cv2.warpAffine(
        coarse, view, (shape[1], shape[0]), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(stretched)


def lattice_map(
    pixels: NDArray[Any], settings: BraggSettings, *, pixel_size_nm: float | None
) -> NDArray[np.float32]:
    """How surely each pixel shows a lattice: 0 to 1, above `LEVEL` where it does.

    Parameters
    ----------
    pixels : (H, W)
        Counts, any number type; their level and contrast do not matter.
    pixel_size_nm
        If None, 0.03 nm is taken.

    Returns
    -------
    (H, W) float32
        s / (1 + s), where s is the power of the strongest fringes over what `settings` ask for.
        No probability: it is not calibrated.
    """
    pixel_size_nm = _USUAL_PIXEL_SIZE_NM if pixel_size_nm is None else pixel_size_nm
    margin_px = math.ceil(_MARGIN_NM / pixel_size_nm)
    padded = np.pad(_rapid(pixels, pixel_size_nm), margin_px)
    inside = np.pad(np.ones(pixels.shape, np.float32), margin_px)
    (height, width), tiles = plan_tiles(
        (padded.shape[0], padded.shape[1]),
        tile_px=math.ceil(_FIELD_NM / pixel_size_nm),
        margin_px=margin_px,
        step_px=1,
    )
    window = tukey_window((height, width), flank_px=margin_px // 2)
    strength = np.empty_like(padded)
    for tile in tiles:
        field = np.s_[tile.top : tile.top + height, tile.left : tile.left + width]
        rows, columns = (
            slice(core.start - start, core.stop - start)
            for core, start in zip(tile.core, (tile.top, tile.left), strict=True)
        )
        strength[tile.core] = _field_strength(
            padded[field],
            window * inside[field],
            settings,
            margin_px=margin_px,
            pixel_size_nm=pixel_size_nm,
        )[rows, columns]
    strength = strength[margin_px:-margin_px, margin_px:-margin_px]
    return np.asarray(strength / (1.0 + strength))


def _rapid(pixels: NDArray[Any], pixel_size_nm: float) -> NDArray[np.float32]:
    """Pixels less all slow change: no level, no uneven light, no mass-thickness contrast.

    Where the micrograph ends there is no jump then. To mirror it there would be to show crystals
    that are not there, with peaks of their own.
    """
    filtered = median_filter(pixels).astype(np.float32)
    filtered -= np.float32(filtered.mean(dtype=np.float64))
    slow = cv2.GaussianBlur(filtered, (0, 0), 0.5 * _MAX_SPACING_NM / pixel_size_nm)
    return np.asarray(filtered - slow)


def _field_strength(
    field: NDArray[np.float32],
    window: NDArray[np.float32],
    settings: BraggSettings,
    *,
    margin_px: int,
    pixel_size_nm: float,
) -> NDArray[np.float32]:
    """Power of the strongest fringes at each pixel, over what is asked for."""
    spectrum = field_spectrum(field, window)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    peaks = find_peaks(power, settings, pixel_size_nm=pixel_size_nm)
    radius = settings.disc_per_nm * np.array(field.shape) * pixel_size_nm  # in bins
    reach = np.ceil(radius).astype(int)
    disc = _disc(radius, reach)
    # The power of a band of 2 reach + 1 bins has twice its width: so many points hold it all.
    coarse = np.array([fft.next_fast_len(4 * int(n) + 1) for n in reach])
    step = (field.shape[0] / coarse[0], field.shape[1] / coarse[1])
    # Less than the disc's own resolution, and it halves the speckle.
    blur_px = 0.3 / settings.disc_per_nm / pixel_size_nm
    inner = tuple(slice(math.ceil(margin_px / s), -math.ceil(margin_px / s)) for s in step)
    # Mean power of noise where the window is 1, of a background of 1.
    noise = float(np.square(disc).sum()) / float(np.square(window, dtype=np.float64).mean())
    strongest: Any = np.zeros(tuple(coarse), np.float32)
    for (y, x), background in zip(peaks.position, peaks.background, strict=True):
        band = spectrum.take(range(y - reach[0], y + reach[0] + 1), 0, mode="wrap")
        band = band.take(range(x - reach[1], x + reach[1] + 1), 1, mode="wrap") * disc
        fringes = fft.ifft2(band, tuple(coarse), norm="forward")
        here: Any = np.square(fringes.real) + np.square(fringes.imag)
        here = cv2.GaussianBlur(here, (0, 0), sigmaX=blur_px / step[1], sigmaY=blur_px / step[0])
        asked = max(
            settings.noise_ratio * noise * float(background),
            settings.peak_fraction * float(here[inner].max()),
        )
        np.maximum(strongest, here / np.float32(asked), out=strongest)
    return _stretched(strongest, field.shape, step=step)


def _disc(radius: NDArray[np.float64], reach: NDArray[np.int64]) -> NDArray[np.float32]:
    """Mask around one peak: 1 in its middle, falling as a squared cosine to 0 at the radius."""
    y, x = (np.arange(-n, n + 1) / r for n, r in zip(reach, radius, strict=True))
    distance = np.minimum(np.hypot(y[:, None], x), 1.0)
    return np.asarray(np.square(np.cos(0.5 * np.pi * distance)), np.float32)


def segment_lattice(
    pixels: NDArray[Any], settings: BraggSettings, *, pixel_size_nm: float | None
) -> NDArray[np.int32]:
    """Label mask of the regions that show a lattice.

    Parameters
    ----------
    pixels, pixel_size_nm
        As in `lattice_map`.

    Returns
    -------
    (H, W) int32
        As from `nanostream.segmentation.masks.label_mask`: 0 is background, 1..n are crystals.
    """
    pixel_nm = _USUAL_PIXEL_SIZE_NM if pixel_size_nm is None else pixel_size_nm
    diameter_px = settings.min_diameter_nm / pixel_nm
    return label_mask(
        lattice_map(pixels, settings, pixel_size_nm=pixel_size_nm),
        LEVEL,
        min_area_px=round(np.pi / 4 * diameter_px**2),
    )


def choose_settings(
    images: Sequence[NDArray[Any]],
    labels: Sequence[NDArray[Any]],
    *,
    pixel_sizes_nm: Sequence[float | None],
    start: BraggSettings = BraggSettings(),
    grid: Mapping[str, Sequence[float]] = GRID,
) -> BraggSettings:
    """Settings with the greatest pixel accuracy on labelled images.

    Parameters
    ----------
    images : sequence of (H, W)
        Training micrographs. Those that the result is tested on must not be among them.
    labels : sequence of (H, W)
        True or a particle's number where there is one.
    start
        Where the search begins; what is not in the grid stays as it is here.
    grid
        Values to try of each setting.

    Returns
    -------
    BraggSettings
        The same for the same images, in whichever order.

    Raises
    ------
    ValueError
        If there is no image, if there are not as many labels and pixel sizes as images, or if a
        label's shape is not its image's.

    Notes
    -----
    Pixel accuracy over all images, because the paper chooses its network's threshold by it: both
    are then given the same chance.

    One setting after the other is set to its best value, the others kept, until a whole round
    improves nothing: about a hundred masks of each image. The whole grid has 14,400 points.
    """
    shapes = [image.shape for image in images]
    if not shapes or shapes != [label.shape for label in labels]:
        msg = f"images of {shapes} need a label each, not {[label.shape for label in labels]}"
        raise ValueError(msg)
    if len(pixel_sizes_nm) != len(shapes):
        msg = f"{len(shapes)} images need a pixel size each, not {len(pixel_sizes_nm)}"
        raise ValueError(msg)

    @functools.cache
    def right_px(settings: BraggSettings) -> int:
        right = 0
        for image, label, size in zip(images, labels, pixel_sizes_nm, strict=True):
            mask = segment_lattice(image, settings, pixel_size_nm=size) > 0
            right += int(np.count_nonzero(mask == (label > 0)))
        return right

    best, before = start, None
    while best != before:
        before = best
        for name, values in grid.items():
            tried = [replace(best, **{name: value}) for value in values]
            best = max([best, *tried], key=right_px)  # of equals the first: the one at hand
    return best

"""Lattice fringes of each particle, and the phases they fit.

What only high resolution gives: spacings and directions of lattice planes from the power spectrum
of each particle, how crystalline it is, and which known phases have such planes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from nanostream.particles.indexing import TOLERANCE, Match, match_phases
from nanostream.particles.peaks import Peaks, find_peaks
from nanostream.particles.phases import PHASES, Phase
from nanostream.particles.reflections import reflections
from nanostream.particles.spectra import Band, taper, windowed_spectrum
from nanostream.particles.stripes import Stripes, striped

__all__ = ["CRYSTAL_COLUMNS", "PEAK_COLUMNS", "Evidence", "Lattice", "measure_lattice"]

#: Spacings below this are beyond what most microscopes transfer.
SMALLEST_NM = 0.1

#: Fringes of fewer pixels are not looked for: camera and aliasing leave nothing sure of them.
SMALLEST_PX = 2.2

#: Spacings are looked for up to so many times the greatest of the phases.
_BEYOND = 1.06

#: A particle has to be so many of the largest spacings wide, and so many pixels.
_FRINGES, _WIDTH_PX = 3.0, 16

#: Columns and dtypes of `Lattice.peaks` and `Lattice.particles`.
PEAK_COLUMNS: dict[str, str] = {
    "label": "int64",
    "d_nm": "float64",
    "d_sd_nm": "float64",
    "angle_deg": "float64",
    "strength": "float64",
    "order": "int64",
}
CRYSTAL_COLUMNS: dict[str, str] = {
    "label": "int64",
    "resolved": "bool",
    "crystallinity": "float64",
    "peaks": "int64",
    "phases": "str",
    "evidence": "str",
    "reason": "str",
    "misfit": "float64",
}


class Evidence(StrEnum):
    """How surely phases are named, or why none is: values of ``evidence`` in `Lattice.particles`.

    SPACINGS are of one set of fringes, or of several whose angles do not fit, and prove nothing.
    """

    ANGLES = "spacings and angles"
    SPACINGS = "consistent with"
    NO_PHASE = "no phase fits"
    NO_FRINGES = "no fringes"
    NOT_RESOLVED = "not resolved"


class Lattice(NamedTuple):
    """Lattice fringes of the particles of a section; see `measure_lattice`.

    Attributes
    ----------
    peaks : DataFrame
        One row per set of fringes, in order of the particle's label, its strongest first:

        label
            Of the particle.
        d_nm, d_sd_nm
            Spacing of the planes, and its standard deviation (not that of the pixel size).
        angle_deg
            Of the planes' normal, 0 to 180: it lies along (x, y) = (cos, sin) in the coordinates of
            the particle table, as ``orientation_deg`` does. The fringes run across it.
        strength
            Power over the mean power of the background there.
        order
            2, 3 ... for the second, third ... order of other fringes of the particle, else 1.

    particles : DataFrame
        One row per particle, in order of the label:

        label
            Of the particle.
        resolved
            Whether fringes could be seen at all: false without a pixel size, with pixels too large,
            or where the particle is too small.
        crystallinity
            Power in the peaks above their background, over all power between the greatest and the
            least spacing that are looked for, 0 to 1. Noise of the camera lowers it: compare
            particles of one dose. NaN if not resolved.
        peaks
            How many.
        phases
            Names of the phases that fit, the least misfit first, with ", " between them.
        evidence
            A value of `Evidence`.
        reason
            For a person: why it is not resolved; else empty.
        misfit
            Of the first phase: root mean square of the relative differences of spacings.
    """

    peaks: pd.DataFrame
    particles: pd.DataFrame


def measure_lattice(
    labels: NDArray[np.integer],
    pixels: NDArray[Any],
    *,
    pixel_size_nm: float | None,
    phases: Sequence[Phase] | None = None,
    tolerance: float = TOLERANCE,
) -> Lattice:
    """Lattice fringes of each labelled particle, and the phases they fit.

    Parameters
    ----------
    labels : (H, W) integer
        0 is background; every other number is one particle.
    pixels : (H, W) any number
        The micrograph as stored, not filtered.
    pixel_size_nm : float or None
        Width of a pixel; without it nothing is resolved.
    phases : sequence of Phase, optional
        To compare with; all of `nanostream.particles.phases.PHASES` by default.
    tolerance : float
        Relative difference of spacings up to which a phase fits.

    Raises
    ------
    ValueError
        If the arrays are not 2-D of one shape, or the pixel size is not a positive number.
    """
    _check(labels, pixels, pixel_size_nm)
    known = tuple(PHASES.values()) if phases is None else tuple(phases)
    band, largest_nm = _band(known, pixel_size_nm)
    stripes = striped(pixels)
    peaks: list[pd.DataFrame] = []
    crystals: list[tuple[Any, ...]] = []
    for label, box in enumerate(ndimage.find_objects(labels.astype(np.int32, copy=False)), 1):
        if box is None:
            continue
        mask = labels[box] == label
        reason = _unresolved(mask, pixel_size_nm, band, largest_nm)
        if reason or pixel_size_nm is None:
            kind = Evidence.NOT_RESOLVED.value
            crystals.append((label, False, math.nan, 0, "", kind, reason, math.nan))
            continue
        found = _particle_peaks(pixels[box], mask, pixel_size_nm, band, stripes)
        matches = match_phases(
            found.position_per_nm, known, sd_per_nm=found.sd_per_nm, tolerance=tolerance
        )
        peaks.append(_peak_rows(label, found))
        crystals.append(_crystal_row(label, found, matches))
    return Lattice(
        peaks=pd.concat([_empty(PEAK_COLUMNS), *peaks], ignore_index=True).astype(PEAK_COLUMNS),
        particles=pd.DataFrame(crystals, columns=[*CRYSTAL_COLUMNS]).astype(CRYSTAL_COLUMNS),
    )


def _check(labels: NDArray[np.integer], pixels: NDArray[Any], pixel_size_nm: float | None) -> None:
    """Refuse what nothing can be measured in."""
    if labels.ndim != 2 or labels.shape != pixels.shape:
        msg = f"labels and pixels must be 2-D of one shape, not {labels.shape}, {pixels.shape}"
        raise ValueError(msg)
    if pixel_size_nm is not None and not 0 < pixel_size_nm < math.inf:
        msg = f"pixel size {pixel_size_nm} nm is not a positive number; None if it is not known"
        raise ValueError(msg)


def _band(phases: Sequence[Phase], pixel_size_nm: float | None) -> tuple[Band, float]:
    """Spacings to look for, and the greatest of the phases."""
    greatest = [float(reflections(p, SMALLEST_NM).spacing_nm.max(initial=0.0)) for p in phases]
    largest_nm = max(greatest, default=0.0) or 0.35
    smallest_nm = max(SMALLEST_NM, SMALLEST_PX * (pixel_size_nm or 0.0))
    return Band(_BEYOND * largest_nm, smallest_nm), largest_nm


def _unresolved(
    mask: NDArray[np.bool_], pixel_size_nm: float | None, band: Band, largest_nm: float
) -> str:
    """Why no fringes can be seen in a particle; empty if they can."""
    if pixel_size_nm is None:
        return "the pixel size is not known"
    if band.smallest_nm >= largest_nm:
        return f"pixels of {pixel_size_nm:.3g} nm are too large for spacings of {largest_nm:.3g} nm"
    width_px = math.sqrt(4 / math.pi * mask.sum())
    if width_px < _WIDTH_PX or width_px * pixel_size_nm < _FRINGES * largest_nm:
        return f"the particle is {width_px * pixel_size_nm:.2g} nm wide, too small"
    return ""


def _particle_peaks(
    pixels: NDArray[Any],
    mask: NDArray[np.bool_],
    pixel_size_nm: float,
    band: Band,
    stripes: Stripes,
) -> Peaks:
    window = taper(mask)
    spectrum = windowed_spectrum(
        pixels, window, pixel_size_nm=pixel_size_nm, largest_nm=band.largest_nm
    )
    return find_peaks(spectrum, band, stripes=stripes)


def _peak_rows(label: int, found: Peaks) -> pd.DataFrame:
    x, y = found.position_per_nm.T
    k = np.hypot(x, y)
    return pd.DataFrame(
        {
            "label": np.full(k.size, label),
            "d_nm": 1.0 / k,
            "d_sd_nm": found.sd_per_nm / k**2,
            "angle_deg": np.degrees(np.arctan2(y, x)) % 180.0,
            "strength": found.strength,
            "order": _orders(found),
        }
    )


def _orders(found: Peaks) -> NDArray[np.int64]:
    """How many times each peak's vector is that of another peak, 1 if of none."""
    vectors, sd = found.position_per_nm, found.sd_per_nm
    order = np.ones(len(vectors), np.int64)
    for i, vector in enumerate(vectors):
        for j, other in enumerate(vectors):
            times = round(float(np.linalg.norm(vector) / np.linalg.norm(other)))
            for sign in (1, -1):
                off = np.linalg.norm(vector - sign * times * other)
                if times > order[i] and off < 3 * math.hypot(sd[i], times * sd[j]):
                    order[i] = times
    return order


def _crystal_row(label: int, found: Peaks, matches: list[Match]) -> tuple[Any, ...]:
    count = len(found.strength)
    if matches:
        evidence = Evidence.ANGLES if matches[0].angles else Evidence.SPACINGS
    else:
        evidence = Evidence.NO_PHASE if count else Evidence.NO_FRINGES
    names = ", ".join(match.phase for match in matches)
    misfit = matches[0].misfit if matches else math.nan
    return (label, True, found.power_share, count, names, evidence.value, "", misfit)


def _empty(columns: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})

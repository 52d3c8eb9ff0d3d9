"""Measures of each particle of a label mask, and the summary of its section."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nanostream.particles.intensities import inside, rings
from nanostream.particles.runs import Runs, runs_of
from nanostream.particles.shape_classes import shape_classes
from nanostream.particles.shapes import Hulls, ellipses, ferets, hulls, outlines
from nanostream.records import PARTICLE_DTYPE, SHAPE_CLASSES, Summary

__all__ = ["SMALL_PX", "UNCERTAIN", "measure_particles", "summarize"]

#: Below this area (a disc 11 px wide) size and shape cannot be trusted: a digital disc's
#: circularity scatters by 2 %, its greatest Feret diameter is 5 % too large.
SMALL_PX = 100

#: Below this mean probability more than a quarter of the pixels are not particle, by the network's
#: own account.
UNCERTAIN = 0.75

_Columns = dict[str, NDArray[Any]]


def measure_particles(
    labels: NDArray[np.integer],
    image: NDArray[Any],
    probability: NDArray[np.floating],
    *,
    pixel_size_nm: float | None,
    frame: int = 0,
    split: NDArray[np.bool_] | None = None,
) -> pd.DataFrame:
    """Table of one row per labelled particle, in order of the label.

    Parameters
    ----------
    labels : (H, W) integer
        0 is background; every other number is one particle, whether or not its pixels touch.
    image : (H, W) integer or floating
        The micrograph as stored, not filtered, not scaled.
    probability : (H, W) floating
        Of the particle class, 0 to 1.
    pixel_size_nm : float or None
        Width of a pixel; None if it is not known, which makes every length in nm NaN.
    frame : int, default 0
        Number of the section, written to every row.
    split : (n,) bool, optional
        Of labels 1..n, whether they were separated from a particle that they touch.

    Returns
    -------
    DataFrame
        Columns and dtypes of `nanostream.records.PARTICLE_DTYPE`, also without a particle; texts
        are strings. What ends in ``_px`` is there in nm, too. Their bias by size, and what ImageJ
        and ISO call them, are in docs/reference/measures.md.

        frame, particle, label
            `particle` is the label until a tracker gives an identity that lasts.
        x, y : px
            Centroid: the mean of the particle's pixel centres; the first pixel's centre is 0.
        area_px, area_nm2
            Number of pixels, and that times the pixel's area.
        diameter_px
            Equivalent circular diameter, of the disc of the same area: sqrt(4 A / pi) [1]_.
        perimeter_px
            By Crofton's formula in four directions, see `nanostream.particles.shapes.outlines`.
        circularity
            4 pi A / perimeter². About 1 for a disc, and a little more or less by chance.
        feret_max_px, feret_min_px
            Greatest and least distance of parallel tangents to the convex hull of the midpoints of
            the pixels' edges.
        major_px, minor_px
            Full axes of the ellipse of the same second moments.
        orientation_deg
            Of the major axis, 0 to 180: it lies along (x, y) = (cos, sin) in the coordinates of
            this table, so that 90 is along the columns of the image. NaN if no axis is longer.
        aspect_ratio
            feret_min / feret_max, 0 to 1. ImageJ's AR is major / minor.
        roundness
            4 A / (pi feret_max²); 1 for a disc, 0.64 for a square.
        solidity
            Area over that of the convex hull, 0 to 1.
        convexity
            Perimeter of the convex hull, by the same formula, over the perimeter, 0 to 1.
        left_px, top_px, right_px, bottom_px
            Bounding box in pixel indices; left and top inclusive, right and bottom exclusive (as
            scikit-image does [2]_): ``labels[top:bottom, left:right]`` holds the particle, and
            right - left is its width. The box counts from the corner of the first pixel, x and y
            from its centre: half a pixel apart.
        mean_probability, min_probability
            Mean and least of `probability` over the particle's pixels.
        mean_intensity, sd_intensity
            Mean and standard deviation of `image` over the particle's pixels, in its own units.
        contrast
            (mean_intensity - mean of the ring) / standard deviation of the ring, of the background
            2 to 5 px outside of the convex hull, see `nanostream.particles.intensities.rings`.
            Negative where particles are dark. NaN where too little background is seen, or all of
            it has one value.
        touches_edge
            A pixel of the particle lies in the first or last row or column: it may extend outside.
        split
            It was separated from another particle that it touches, see
            `nanostream.segmentation.separation`.
        small, uncertain
            Area below 100 px; mean probability below 0.75.
        doubtful
            It is small, uncertain or split: look before you count it.
        shape_class
            round, elongated, faceted, irregular, aggregate or unclassified, by the rules of
            `nanostream.particles.shape_classes`.

    Raises
    ------
    ValueError
        If the three arrays are not 2-D of one shape, or the pixel size is not a positive number.

    Notes
    -----
    The mask is read once, as runs of equal label within a row: areas, moments and perimeters are
    exact sums over runs, in integers.

    References
    ----------
    .. [1] ISO 21363:2020, Nanotechnologies: Measurements of particle size and shape distributions
       by transmission electron microscopy: area-equivalent circular diameter.
    .. [2] ``skimage.measure.regionprops``, property ``bbox``: half-open interval.
    """
    if labels.ndim != 2 or not labels.shape == image.shape == probability.shape:
        msg = (
            "labels, image and probability must be 2-D arrays of one shape, "
            f"not {labels.shape}, {image.shape} and {probability.shape}"
        )
        raise ValueError(msg)
    if pixel_size_nm is not None and not (0 < pixel_size_nm < math.inf):
        msg = f"pixel size {pixel_size_nm} nm is not a positive number; None if it is not known"
        raise ValueError(msg)
    nm = math.nan if pixel_size_nm is None else float(pixel_size_nm)
    runs = runs_of(labels)
    found = hulls(runs)
    columns = _places(runs, frame) | _shapes(runs, found)
    within, ring = inside(runs, image, probability), rings(found, labels, image)
    columns |= within._asdict()
    spread = np.where(ring.sd > 0, ring.sd, np.nan)
    columns["contrast"] = (within.mean_intensity - ring.mean) / spread
    columns["split"] = np.zeros(runs.label.size, bool) if split is None else split[runs.label - 1]
    columns["small"] = columns["area_px"] < SMALL_PX
    columns["uncertain"] = columns["mean_probability"] < UNCERTAIN
    columns["doubtful"] = columns["small"] | columns["uncertain"] | columns["split"]
    columns["shape_class"] = shape_classes(columns)
    columns["x_nm"], columns["y_nm"] = columns["x"] * nm, columns["y"] * nm
    columns["area_nm2"] = columns["area_px"] * nm**2
    for name in [name for name in columns if name.endswith("_px") and name != "area_px"]:
        columns[f"{name.removesuffix('_px')}_nm"] = columns[name] * nm
    dtypes = PARTICLE_DTYPE
    return pd.DataFrame({name: columns[name].astype(dtypes[name]) for name in dtypes.names or ()})


def _places(runs: Runs, frame: int) -> _Columns:
    """Names, centroids and boxes."""
    area = runs.total(runs.length)
    left, top = runs.least(runs.left), runs.least(runs.row)
    right, bottom = runs.greatest(runs.right), runs.greatest(runs.row) + 1
    height, width = runs.shape
    return {
        "frame": np.full(area.size, frame),
        "particle": runs.label,
        "label": runs.label,
        "area_px": area,
        # The columns left .. right-1 of a run sum to (left + right - 1) * length / 2, an integer.
        "x": runs.total((runs.left + runs.right - 1) * runs.length // 2) / area,
        "y": runs.total(runs.row * runs.length) / area,
        "left_px": left,
        "top_px": top,
        "right_px": right,
        "bottom_px": bottom,
        "touches_edge": (left == 0) | (top == 0) | (right == width) | (bottom == height),
    }


def _shapes(runs: Runs, found: Hulls) -> _Columns:
    """Sizes in px, and the ratios that are made of them."""
    area = runs.total(runs.length)
    outline, feret, ellipse = outlines(runs), ferets(found), ellipses(runs)
    return {
        "diameter_px": np.sqrt(area * (4 / np.pi)),
        "perimeter_px": outline.perimeter_px,
        "circularity": 4 * np.pi * area / outline.perimeter_px**2,
        "feret_max_px": feret.greatest_px,
        "feret_min_px": feret.least_px,
        **ellipse._asdict(),
        "aspect_ratio": feret.least_px / feret.greatest_px,
        "roundness": 4 / np.pi * area / feret.greatest_px**2,
        # The hull of a line of pixels leaves their corners out.
        "solidity": np.minimum(area / found.area_px, 1.0),
        "convexity": outline.convexity,
    }


def summarize(
    table: pd.DataFrame, *, shape: tuple[int, int], mean_intensity: float = math.nan
) -> Summary:
    """Numbers of one section from its particle table.

    Parameters
    ----------
    table : DataFrame
        What `measure_particles` returned for the section.
    shape : (H, W)
        Shape of the section in px.
    mean_intensity : float
        Of the micrograph, in counts.

    Returns
    -------
    Summary
        `count` is every particle, `count_edge` those that touch the edge. Means and medians of
        the diameter are over the particles that do not: a cut particle has no size, and leaving
        it in makes the distribution too small [1]_. NaN where no whole particle is left, and in
        nm where the pixel size is not known. `area_fraction` counts every particle pixel. Shape
        classes are counted over whole particles that are not small.

    References
    ----------
    .. [1] ISO 21363:2020, as in `measure_particles`; ImageJ, *Analyze Particles*, "Exclude on
       edges".
    """
    whole = ~table["touches_edge"].to_numpy(np.bool_)
    diameter_px = table["diameter_px"].to_numpy(np.float64)[whole]
    diameter_nm = table["diameter_nm"].to_numpy(np.float64)[whole]
    some = diameter_px.size > 0
    classes = table["shape_class"].to_numpy(np.str_)
    return Summary(
        count=len(table),
        count_edge=int(len(table) - whole.sum()),
        area_fraction=float(table["area_px"].sum()) / (shape[0] * shape[1]),
        mean_diameter_px=float(diameter_px.mean()) if some else math.nan,
        median_diameter_px=float(np.median(diameter_px)) if some else math.nan,
        mean_diameter_nm=float(diameter_nm.mean()) if some else math.nan,
        median_diameter_nm=float(np.median(diameter_nm)) if some else math.nan,
        **{f"count_{name}": int((classes == name).sum()) for name in SHAPE_CLASSES},
        mean_intensity=mean_intensity,
    )

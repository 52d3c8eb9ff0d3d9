"""True outlines of simulated particles: instance labels from the positions of their atoms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["label_particles"]

# How far inside the outermost atoms a label ends. Columns at the rim have one or two atoms, and
# under focus a bright fringe lies on them: in 113 simulated images of Au, Ag, Pt and Pd at 0.04 to
# 0.085 nm a pixel, 0 to 400 nm under focus, the contrast of the particles reached half its value
# here (about 0.13 to 0.24 nm inside an outline half a layer beyond the atoms), which is where
# people draw an edge (docs/decisions/0007).
_RIM_NM = 0.05

# Channels between columns, up to twice this wide, belong to the crystal.
_CHANNEL_NM = 0.3

# Grid of the labels, which a pixel of 0.08 nm would make too coarse.
_LABEL_STEP_NM = 0.025


def label_particles(
    crystals: Sequence[tuple[NDArray[np.float64], NDArray[np.int64]]],
    *,
    size_px: int,
    pixel_size_nm: float,
) -> NDArray[np.uint16]:
    """Instance labels (H, W): the projection of each crystal.

    Parameters
    ----------
    crystals
        Positions (n, 3) as (z, y, x) in nm and atomic numbers (n,) of each particle's atoms, from
        `nanostream.training.crystals.crystal_positions`.
    size_px
        Height and width of the field.

    Returns
    -------
    (H, W) uint16
        0 is background, else the crystal's place in the sequence, from 1.

    Notes
    -----
    A crystal ends where its contrast is half, just inside its outermost atoms; its channels and
    holes belong to it. Where particles overlap in projection, the one with more atoms there has
    the pixel.
    """
    fine = max(1, math.ceil(pixel_size_nm / _LABEL_STEP_NM))
    instances = np.zeros((size_px, size_px), np.uint16)
    best = np.zeros((size_px, size_px), np.float32)
    for number, (positions, _) in enumerate(crystals, start=1):
        if not len(positions):
            continue
        at = positions[:, 1:] / pixel_size_nm
        # A particle is drawn in a box of its own, which also sees what lies outside the field.
        border = math.ceil(2.0 * _CHANNEL_NM / pixel_size_nm) + 2
        corner = np.floor(at.min(0)).astype(int) - border
        shape = np.ceil(at.max(0)).astype(int) + border - corner
        low, high = np.maximum(corner, 0), np.minimum(corner + shape, size_px)
        if (high <= low).any():
            continue
        mask, density = _projection((at - corner) * fine, shape * fine, pixel_size_nm / fine)
        mask, density = (_binned(array, fine) for array in (mask, density))
        field = np.s_[low[0] : high[0], low[1] : high[1]]
        box = np.s_[
            low[0] - corner[0] : high[0] - corner[0], low[1] - corner[1] : high[1] - corner[1]
        ]
        strength = np.where(mask[box] > 0.5, np.maximum(density[box], np.float32(1e-6)), 0)
        wins = strength > best[field]
        best[field][wins] = strength[wins]
        instances[field][wins] = number
    return instances


def _projection(
    at: NDArray[np.float64], shape: NDArray[np.int64], step_nm: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Outline (0 or 1) and smoothed density of atoms at pixel positions ``at``, in a box."""
    index = np.floor(at).astype(int)
    counts = np.bincount(index[:, 0] * shape[1] + index[:, 1], minlength=shape[0] * shape[1])
    counts = counts.reshape(shape).astype(np.float32)
    # Closed: grown by a channel's half width, and shrunk again by that and the rim.
    from_atoms = cv2.distanceTransform((counts == 0).astype(np.uint8), cv2.DIST_L2, 5)
    grown = from_atoms * step_nm <= _CHANNEL_NM
    inside = cv2.distanceTransform(grown.astype(np.uint8), cv2.DIST_L2, 5)
    outline = ndimage.binary_fill_holes(inside * step_nm > _CHANNEL_NM + _RIM_NM)
    density = ndimage.gaussian_filter(counts, 0.15 / step_nm)
    return np.asarray(outline, np.float32), np.asarray(density, np.float32)


def _binned(array: NDArray[np.float32], fine: int) -> NDArray[np.float32]:
    height, width = array.shape
    return np.asarray(array.reshape(height // fine, fine, width // fine, fine).mean((1, 3)))

"""Pictures to train on: what a generator of scenes hands to the fit.

A picture has its pixels as a camera or a journal gives them, and for every pixel what it is: of
which particle, how deep inside it, and whether anybody could tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nanostream.training.projections import Projection

__all__ = ["Picture", "Truth", "visible_particles"]


@dataclass(frozen=True)
class Truth:
    """Kind of every pixel of a field.

    Attributes
    ----------
    instances
        (H, W) uint16, number of the particle, 0 outside; where two overlap, of that in which the
        pixel lies deeper.
    depth
        (H, W) float32, distance to the particle's outline over its greatest, 0 outside.
    ignored
        (H, W) bool, pixels that count for nothing in a loss: of particles that cannot be seen, and
        of particles under burnt-in letters.
    """

    instances: NDArray[np.uint16]
    depth: NDArray[np.float32]
    ignored: NDArray[np.bool_]

    @classmethod
    def empty(cls, field_px: int) -> Truth:
        """Field without particles."""
        shape = (field_px, field_px)
        return cls(np.zeros(shape, np.uint16), np.zeros(shape, np.float32), np.zeros(shape, bool))

    def add(self, number: int, projection: Projection) -> None:
        """Put a particle in, in place."""
        field = projection.field
        deeper = projection.depth > self.depth[field]
        self.instances[field][deeper] = number
        self.depth[field][deeper] = projection.depth[deeper]

    def cut(self, margin_px: int) -> Truth:
        """Without a margin on all sides."""
        inner = slice(margin_px, self.depth.shape[0] - margin_px)
        return Truth(
            np.ascontiguousarray(self.instances[inner, inner]),
            np.ascontiguousarray(self.depth[inner, inner]),
            np.ascontiguousarray(self.ignored[inner, inner]),
        )


@dataclass(frozen=True)
class Picture:
    """Pixels with their truth.

    Attributes
    ----------
    pixels
        (H, W) int16 counts or uint8 grey values, as a file would have them.
    truth
        Of the same shape.
    kind
        Which generator made it, for statistics.
    """

    pixels: NDArray[np.int16] | NDArray[np.uint8]
    truth: Truth
    kind: str


def visible_particles(
    truth: Truth,
    signal: NDArray[np.float32],
    noise: NDArray[np.float32],
    *,
    least_ratio: float,
    least_snr: float,
    grain_px: float,
) -> Truth:
    """The truth with its invisible particles ignored.

    Parameters
    ----------
    signal
        (H, W) difference of the mean image with and without the particles.
    noise
        (H, W) or (1, 1) variance of all else.
    least_ratio
        Of the signal's to the noise's root mean square in a particle.
    least_snr
        The same times the root of the number of independent places in the particle.
    grain_px
        Side of such a place, the length over which the noise is correlated.
    """
    count = int(truth.instances.max())
    if not count:
        return truth
    flat = truth.instances.ravel()
    area = np.maximum(np.bincount(flat, minlength=count + 1), 1)
    relative = np.square(signal) / np.maximum(noise, 1e-12)
    ratio = np.sqrt(np.bincount(flat, relative.ravel(), count + 1) / area)
    hidden = (ratio < least_ratio) | (ratio * np.sqrt(area) / grain_px < least_snr)
    hidden[0] = False
    if not hidden.any():
        return truth
    lost = hidden[truth.instances]
    # Its rim, where the blurred picture may still show something.
    around = cv2.dilate(lost.view(np.uint8), np.ones((5, 5), np.uint8)).view(bool)
    ignored = truth.ignored | lost | (around & (truth.instances == 0))
    return Truth(truth.instances, truth.depth, ignored)

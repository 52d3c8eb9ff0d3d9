"""Micrographs to measure with: particles as the demo has them, at any size."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition.simulator import DemoMicrograph

__all__ = ["PIXEL_SIZE_NM", "micrograph"]

PIXEL_SIZE_NM = DemoMicrograph.load().pixel_size_nm


def micrograph(side: int, seed: int) -> NDArray[np.int16]:
    """Counts (side, side) of a camera: the demo's gold on carbon, as often as it takes.

    Mirrored from one time to the next, so that no edge is in it; a 4096 x 4096 one has some
    hundred particles. Shot noise differs from seed to seed.
    """
    counts = DemoMicrograph.load().expected_counts
    again = math.ceil(side / counts.shape[0])
    row = np.hstack([counts[:, :: -1 if k % 2 else 1] for k in range(again)])
    field = np.vstack([row[:: -1 if k % 2 else 1] for k in range(again)])[:side, :side]
    rng = np.random.default_rng(seed)
    # Poisson's, nearly: of so many electrons it is a normal distribution, in a tenth of the time.
    noise = rng.standard_normal(field.shape, np.float32) * np.sqrt(field.astype(np.float32))
    return np.asarray(np.rint(field + noise).clip(0, 32767), np.int16)

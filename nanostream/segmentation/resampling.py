"""Micrographs at a magnification that the network knows, and its probabilities back at their own.

A network trained on micrographs of 0.02 to 0.12 nm a pixel has seen lattice fringes and edges of so
many pixels, and no others. A micrograph outside of that range is brought to the nearest end of it.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LEAST_ZOOM",
    "MOST_PX",
    "MOST_ZOOM",
    "needed_zoom",
    "resample",
    "to_shape",
    "zoom_within",
]

#: Enlarged more than so many times, an image is all interpolation and no detail.
MOST_ZOOM = 4.0
#: Of an image that must be shrunk more than so, the pixel size is wrong or nothing is left.
LEAST_ZOOM = 1 / 16
#: An image of more pixels is not made: of it and of its probability each takes 512 MiB (float32).
MOST_PX = 2**27
#: Magnifications are calibrated to a few per cent; so near to the range is within it.
_TOLERANCE = 0.01


def needed_zoom(pixel_size_nm: float | None, known_nm: tuple[float, float] | None) -> float:
    """How many times an image must be enlarged for a network to know its pixel size.

    Parameters
    ----------
    pixel_size_nm : float or None
        Of the micrograph.
    known_nm : tuple of float or None
        Smallest and largest pixel size that the network was trained on.

    Returns
    -------
    float
        1 within the range (to 1 %), or if either is not known; below 1 the image must be shrunk.

    Examples
    --------
    >>> [needed_zoom(size, (0.01, 0.1)) for size in (0.005, 0.05, 0.2)]
    [0.5, 1.0, 2.0]
    """
    if pixel_size_nm is None or known_nm is None:
        return 1.0
    low, high = known_nm
    zoom = max(pixel_size_nm / high, 1.0) * min(pixel_size_nm / low, 1.0)
    return 1.0 if abs(zoom - 1) <= _TOLERANCE else zoom


def zoom_within(needed: float, shape: tuple[int, int]) -> float:
    """The zoom that is made: as needed, or 1 where that would be absurd or take too much memory.

    Parameters
    ----------
    needed : float
        Of `needed_zoom`.
    shape : tuple of int
        Height and width of the image.
    """
    if not LEAST_ZOOM <= needed <= MOST_ZOOM or (
        needed > 1 and needed**2 * shape[0] * shape[1] > MOST_PX
    ):
        return 1.0
    return needed


def resample(image: NDArray[Any], zoom: float) -> NDArray[Any]:
    """A micrograph at another pixel size.

    Parameters
    ----------
    image : (H, W) uint8, uint16, int16 or float32
        After the median filter.
    zoom : float
        Sides become so many times as long.

    Returns
    -------
    (H', W') float32
        By area when shrunk, which averages the noise as a larger pixel does; cubic when enlarged,
        which keeps the contrast of fringes. For a zoom of 1 the image itself.
    """
    height, width = (max(1, round(side * zoom)) for side in image.shape)
    if (height, width) == image.shape:
        return image
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    # As float32: the average of a few counts is not a whole number.
    return np.asarray(
        cv2.resize(np.asarray(image, np.float32), (width, height), interpolation=method)
    )


def to_shape(probability: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Probabilities at the pixels of the micrograph itself; between 0 and 1 as before.

    Parameters
    ----------
    probability : (H', W') float32
        Of the resampled image.
    shape : tuple of int
        Height and width of the micrograph.

    Returns
    -------
    (H, W) float32
        Exactly of that shape; the same array if it has that shape already.
    """
    if probability.shape == shape:
        return probability
    shrinks = probability.size > shape[0] * shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    back = np.asarray(cv2.resize(probability, shape[::-1], interpolation=method), np.float32)
    return np.clip(back, 0.0, 1.0, out=back)  # the weights of a pixel may add up to 1 + 1e-7

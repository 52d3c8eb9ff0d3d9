"""Median filter and grey scaling of a micrograph, as its network expects them.

Which scaling belongs to which network is part of the model's card: the choice matters as much as
the weights (on one real Au tile the published network's Dice falls from 0.90 to 0.83 by taking
the minimum off before dividing).

References
----------
Groschner, C. K., Choi, C. & Scott, M. C. Methodologies for successful segmentation of HRTEM
images via neural network (2020), section II. https://arxiv.org/abs/2001.05022
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

Method = Literal["image-max", "image-minmax", "dataset-max", "standardize"]

METHODS: tuple[str, ...] = get_args(Method)

# Types that OpenCV's 3x3 median takes as they are, and where the others go without loss of what
# a camera can deliver (int32 and wider counts stay exact in float32 up to 2**24).
_FILTERED_AS_IS = frozenset(["uint8", "uint16", "int16", "float32"])
_CONVERTED = {"bool": np.uint8, "int8": np.int16, "float16": np.float32}


def median_filter(pixels: NDArray[Any]) -> NDArray[Any]:
    """3x3 median of a micrograph: dead and hot pixels gone, edges kept.

    Parameters
    ----------
    pixels
        (H, W), any number type. int16, uint16, uint8 and float32 are filtered as they are (12 ms
        for 4096 x 4096 int16); bool and int8 become uint8 and int16, all others float32.

    Returns
    -------
    ndarray
        (H, W) in the type it was filtered in. Outside the border the nearest pixel is repeated
        (OpenCV's choice; SciPy's default mirrors, which differs only in the outermost pixels).

    Raises
    ------
    ValueError
        If the array is not two-dimensional.
    """
    if pixels.ndim != 2:
        raise ValueError(f"median_filter: expected an (H, W) image, got shape {pixels.shape}")
    if pixels.size == 0:
        return pixels.copy()
    name = pixels.dtype.name
    if name not in _FILTERED_AS_IS or not pixels.dtype.isnative:
        target = pixels.dtype.newbyteorder("=") if name in _FILTERED_AS_IS else None
        pixels = pixels.astype(target or _CONVERTED.get(name, np.float32))
    return np.asarray(cv2.medianBlur(np.ascontiguousarray(pixels), 3))


def normalize(
    filtered: NDArray[Any], method: Method, *, maximum: float | None = None
) -> NDArray[np.float32]:
    """Micrograph scaled as the network was trained, float32.

    Parameters
    ----------
    filtered
        (H, W), after :func:`median_filter`.
    method
        "image-max" divides by the image's maximum, "image-minmax" brings it to 0..1,
        "dataset-max" divides by ``maximum``, "standardize" gives zero mean and unit deviation.
    maximum
        Greatest count of the data set, for "dataset-max" only.

    Returns
    -------
    ndarray
        (H, W) float32, finite for finite input: a constant image becomes zeros ("image-minmax",
        "standardize"), and where the maximum is not positive nothing is divided.

    Raises
    ------
    ValueError
        For an unknown method, and for "dataset-max" without a maximum, or with a negative one.
    """
    if method not in METHODS:
        raise ValueError(
            f"normalize: unknown method {method!r}; choose one of {', '.join(METHODS)}"
        )
    if method == "dataset-max":
        if maximum is None or not maximum >= 0:
            raise ValueError(
                f"normalize: method 'dataset-max' needs the data set's maximum, got {maximum}"
            )
        return _scaled(filtered, 1.0 / maximum if maximum else 1.0, 0.0)
    if filtered.size == 0:
        return filtered.astype(np.float32)
    if method == "standardize":
        # One pass gives both moments, in double precision.
        mean, deviation = (float(moment[0, 0]) for moment in cv2.meanStdDev(_readable(filtered)))
        # Of a constant image rounding may leave a deviation of about 1e-8 of its level.
        flat = deviation <= 1e-7 * abs(mean)
        scale = 1.0 if flat else 1.0 / deviation
        return _scaled(filtered, scale, -mean * scale)
    low, high, _, _ = cv2.minMaxLoc(_readable(filtered))
    if method == "image-max":
        return _scaled(filtered, 1.0 / high if high > 0 else 1.0, 0.0)
    return _scaled(filtered, 1.0 / (high - low) if high > low else 1.0, -low, shift_first=True)


def without_shift(pixels: NDArray[Any]) -> NDArray[Any]:
    """Counts as the camera gave them, where SerialEM has stored them less 32768.

    With its option to subtract 32768 from unsigned data (the default for STEM), dark is about
    -32768 in an int16 file; nothing in the file says so, but no other micrograph has such counts.
    Dividing by the maximum needs counts that start at zero.

    Returns
    -------
    (H, W)
        uint16 if the shift was found, else the same array.

    References
    ----------
    SerialEM, KImageStore.cpp and the property STEMUnsignedOption.
    """
    if pixels.dtype != np.int16 or pixels.size == 0 or pixels.min() > -16384:
        return pixels
    return np.asarray(np.ascontiguousarray(pixels).view(np.uint16) ^ np.uint16(0x8000))


def _readable(pixels: NDArray[Any]) -> NDArray[Any]:
    """Contiguous view or copy of a type whose moments OpenCV can take."""
    if pixels.dtype.name in _FILTERED_AS_IS and pixels.dtype.isnative:
        return np.ascontiguousarray(pixels)
    return np.ascontiguousarray(pixels, dtype=np.float32)


def _scaled(
    pixels: NDArray[Any], scale: float, offset: float, *, shift_first: bool = False
) -> NDArray[np.float32]:
    """Pixels times scale plus offset, or (pixels plus offset) times scale; one new array."""
    scaled = np.empty(pixels.shape, np.float32)
    if shift_first:  # exact 0 and 1 at the ends
        np.add(pixels, np.float32(offset), out=scaled, casting="unsafe")
        scaled *= np.float32(scale)
    else:
        np.multiply(pixels, np.float32(scale), out=scaled, casting="unsafe")
        if offset:
            scaled += np.float32(offset)
    return scaled

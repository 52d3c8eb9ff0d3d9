"""Arrays that someone has in memory, as frames: NumPy's, and whatever can become one.

dask, xarray, HyperSpy's ``.data``, pandas and Pillow give their values by ``__array__``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition.sections import MASK, channels_of, unclear, wire_pixels
from nanostream.errors import MicrographError
from nanostream.records import Frame, SectionId

__all__ = ["as_frame", "is_list_of_images"]


def as_frame(image: object, *, pixel_size_nm: float | None = None, name: str = "array") -> Frame:
    """An array of rows and columns as a frame.

    Parameters
    ----------
    image : (H, W) array
        Or a list of rows. Integers and real numbers. (H, W, 3) and (H, W, 4) are one image of
        channels, if H and W are above 4, and read if it is grey; (H, W, 1) is an image of rows and
        columns. Masked pixels count as not known.
    pixel_size_nm : float, optional
    name : str
        In messages, and of the section.

    Raises
    ------
    MicrographError
        If it is no image of real numbers, or has not one that is finite.

    Examples
    --------
    >>> as_frame([[1, 2], [3, 4]]).pixels.shape
    (2, 2)
    """
    if isinstance(image, np.ma.MaskedArray) and image.dtype.kind in "iuf":
        image = np.ma.filled(image.astype(np.float32), np.nan)
    try:
        pixels: NDArray[Any] = np.asarray(image)
    except (TypeError, ValueError) as error:
        rows = isinstance(image, list | tuple)
        why = "its rows are not all of one length" if rows else f"no array ({error})"
        msg = f"{name}: {why}; give an image of rows and columns"
        raise MicrographError(msg) from error
    if pixels.ndim == 3 and pixels.shape[-1] == 1:  # channels of TensorFlow's arrays
        pixels = pixels[..., 0]
    if reason := _no_image(pixels, image):
        msg = f"{name}: {reason}"
        raise MicrographError(msg)
    pixels = wire_pixels(pixels, name)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).any():
        msg = f"{name}: no pixel is a finite number; give an image with values"
        raise MicrographError(msg)
    return Frame(SectionId(name, 0), pixels, pixel_size_nm=pixel_size_nm)


def is_list_of_images(value: object) -> bool:
    """Whether a list or tuple holds images, arrays or files, and not the rows of one.

    Examples
    --------
    >>> is_list_of_images(["a.mrc", "b.mrc"]), is_list_of_images([[1, 2], [3, 4]])
    (True, False)
    """
    if not isinstance(value, list | tuple) or not value:
        return False
    return not all(_is_row(item) for item in value)


def _is_row(value: object) -> bool:
    """Whether it is a number, or numbers in a line or in a nested list."""
    if isinstance(value, list | tuple) or np.isscalar(value):
        return not isinstance(value, str | bytes)
    return getattr(value, "ndim", 2) < 2


def _no_image(pixels: NDArray[Any], given: object) -> str:
    """The reason that an array is not a micrograph, by shape or type; empty if it may be."""
    kind = pixels.dtype.kind
    if pixels.ndim == 0 or (kind == "O" and not isinstance(given, np.ndarray)):
        its_type = type(given).__name__
        held = " (make a list of it)" if isinstance(given, Iterator) else ""
        return f"not an image but of type {its_type}{held}; give a file or rows of numbers"
    if pixels.size == 0:
        return f"no pixels, its shape is {pixels.shape}; give an image of rows and columns"
    if kind == "c":
        return (
            f"complex pixels ({pixels.dtype}); give the real image, such as abs() of it, or of "
            "its inverse transform if it is a Fourier transform"
        )
    if kind == "b":
        return MASK
    if kind not in "iuf":
        return f"pixels of type {pixels.dtype}; give integers or real numbers"
    if pixels.ndim == 1:
        return f"one row of {pixels.size} values; give an image of rows and columns"
    if reason := unclear(pixels.shape):
        return reason
    if pixels.ndim > 2 and not channels_of(pixels.shape):
        return (
            f"{pixels.ndim} dimensions {pixels.shape}; give one image, such as stack[0], or all "
            "of a stack as a list: list(stack)"
        )
    return ""

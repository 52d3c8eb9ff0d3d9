"""Grey values of pictures that are stored as colours, by a palette, inverted or turned.

What is grey however it is stored is read as grey; what has colours is refused, since no rule makes
one number of three that a network was trained on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanostream.errors import MicrographError

__all__ = ["are_equal", "grey_of_channels", "grey_of_palette", "inverted", "upright"]

#: Whole numbers of so many bits are the same in float32.
_EXACT_BITS = 24


def are_equal(channels: NDArray[Any]) -> bool:
    """Whether channels (H, W, C) are the same everywhere, NaN where the others are NaN, too."""
    with_nan = channels.dtype.kind == "f"
    return all(
        np.array_equal(channels[..., 0], channels[..., other], equal_nan=with_nan)
        for other in range(1, channels.shape[2])
    )


def grey_of_channels(channels: NDArray[Any], name: str) -> NDArray[Any]:
    """The grey value of each pixel.

    Parameters
    ----------
    channels : (height, width, channels)
        Grey or colour.
    name : str
        Of the file, for messages.

    Returns
    -------
    (height, width)
        Of the same type.

    Raises
    ------
    MicrographError
        The channels differ: it has colours.
    """
    count = channels.shape[2]
    if not are_equal(channels):
        colours = "colour image" if count == 3 else f"an image of {count} channels"
        msg = f"{name}: {colours}, its channels differ; save it as grey values"
        raise MicrographError(msg)
    return np.ascontiguousarray(channels[..., 0])


def grey_of_palette(indices: NDArray[Any], palette: NDArray[Any], name: str) -> NDArray[Any]:
    """The grey value that a palette has for each pixel.

    Parameters
    ----------
    indices : (height, width)
        Whole numbers.
    palette : (3, entries)
        Red, green and blue; of 16 bits, or of 8 bits.
    name : str
        Of the file, for messages.

    Returns
    -------
    (height, width)
        uint8 where that is what the palette has, else uint16.

    Raises
    ------
    MicrographError
        A pixel has a colour, or no entry in the palette.
    """
    used = np.bincount(indices.ravel())
    if len(used) > palette.shape[1]:
        msg = f"{name}: damaged: value {len(used) - 1} in a palette of {palette.shape[1]}"
        raise MicrographError(msg)
    drawn = palette[:, : len(used)][:, used > 0]
    if not (drawn == drawn[0]).all():
        msg = f"{name}: colour image, its palette has colours; save it as grey values"
        raise MicrographError(msg)
    values = palette[0]
    # TIFF has 16 bits: programs of 8 bits repeat them, shift them, or write them as they are.
    if values.max() > 255 and ((values % 257 == 0).all() or (values % 256 == 0).all()):
        values = values >> 8
    greys: NDArray[Any] = values.astype(np.uint8 if values.max() <= 255 else np.uint16)
    return np.asarray(greys[indices])


def inverted(pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    """Values that grow with brightness, of such where zero is white.

    Parameters
    ----------
    pixels : (height, width)
        Of any type.
    bits : int
        That a value has.

    Notes
    -----
    Whole numbers keep their range: unsigned v becomes 2^bits - 1 - v, signed v becomes -1 - v.
    Above 24 bits, which float32 does not hold, they are counted from the brightest that there is.
    A real number becomes its negative.
    """
    if pixels.dtype.kind == "f":
        return np.asarray(-pixels)
    if pixels.dtype.kind == "i":
        return np.asarray(~pixels)
    if bits > _EXACT_BITS:
        return np.asarray(pixels.max(initial=0) - pixels)
    return np.asarray((2**bits - 1) - pixels)


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rows from top to bottom and columns from left to right.

    Parameters
    ----------
    pixels : (rows, columns)
        As stored.
    orientation : int
        TIFF's: where the first row and the first column are. Any other number counts as 1.

    References
    ----------
    TIFF 6.0, tag 274.
    """
    if orientation in (5, 6, 7, 8):  # the first row is at the left or right
        pixels = pixels.T
    down, right = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    if down:
        pixels = pixels[::-1]
    if right:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)

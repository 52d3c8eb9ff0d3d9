"""Pictures of results: a micrograph with the outlines of its particles, and sheets of them.

Only OpenCV draws here, so that a facility's server needs no plotting library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from nanostream.records import UNCLASSIFIED, FirstRow

__all__ = ["OUTLINE_COLOURS", "contact_sheet", "draw_overlay", "scale_bar_nm", "stretched"]

Picture = NDArray[np.uint8]

#: Colours (red, green, blue) of outlines by shape class, told apart by colour-blind eyes: Okabe and
#: Ito, "Color universal design" (2008), https://jfly.uni-koeln.de/color/.
OUTLINE_COLOURS: dict[str, tuple[int, int, int]] = {
    "round": (86, 180, 233),
    "elongated": (230, 159, 0),
    "faceted": (0, 158, 115),
    "irregular": (213, 94, 0),
    "aggregate": (204, 121, 167),
    UNCLASSIFIED: (240, 228, 66),
}

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
#: Of the darkest and brightest pixels so many per cent are clipped, as ImageJ's "Enhance Contrast".
_CLIPPED_PERCENT = 0.35
#: More numbers than this would hide the micrograph.
_MOST_NUMBERS = 200


def draw_overlay(
    pixels: NDArray[np.generic],
    labels: NDArray[np.integer],
    *,
    pixel_size_nm: float | None,
    first_row: FirstRow | None = None,
    classes: Mapping[int, str] | None = None,
    numbers: bool = True,
    side_px: int = 1024,
) -> Picture:
    """A micrograph with the outlines of its particles, their numbers and a scale bar.

    Parameters
    ----------
    pixels : (H, W) integer or floating
        The micrograph in file order.
    labels : (H, W) integer
        Its mask; 0 is background.
    pixel_size_nm : float or None
        Width of a pixel; without it there is no scale bar.
    first_row : {"bottom", "top"}, optional
        Where SerialEM shows the first row; the picture is as on its display.
    classes : mapping, optional
        Shape class of each label, which gives its outline a colour.
    numbers : bool
        Write labels beside the particles, where there are at most 200.
    side_px : int
        Longest side of the picture; a smaller micrograph is enlarged by a whole number.

    Returns
    -------
    (h, w, 3) uint8
        Red, green, blue; row 0 at the top.
    """
    if pixels.shape != labels.shape:
        msg = f"a micrograph of {pixels.shape} px and a mask of {labels.shape} px do not fit"
        raise ValueError(msg)
    labels = np.ascontiguousarray(labels, np.int32)
    grey = stretched(pixels)
    if first_row == "bottom":
        grey, labels = grey[::-1], labels[::-1]
    height, width = grey.shape
    zoom = side_px / max(height, width)
    if zoom > 1:
        zoom = math.floor(zoom)
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    smoothly = cv2.INTER_AREA if zoom < 1 else cv2.INTER_NEAREST
    resized = cv2.resize(np.ascontiguousarray(grey), size, interpolation=smoothly)
    shown = cv2.resize(
        np.ascontiguousarray(labels).astype(np.float32), size, interpolation=cv2.INTER_NEAREST
    ).astype(np.int32)
    picture = np.asarray(cv2.cvtColor(resized, cv2.COLOR_GRAY2RGB), np.uint8)
    _draw_outlines(picture, shown, classes or {})
    if numbers:
        _draw_numbers(picture, shown)
    if pixel_size_nm:
        _draw_scale_bar(picture, pixel_size_nm / zoom)
    return picture


def stretched(pixels: NDArray[np.generic]) -> Picture:
    """A micrograph in 256 greys, its few darkest and brightest pixels clipped."""
    counts = np.asarray(pixels, np.float32)
    finite = counts[np.isfinite(counts)]
    if finite.size == 0:
        return np.zeros(counts.shape, np.uint8)
    few = finite[:: max(1, finite.size // 1_000_000)]
    low, high = np.percentile(few, (_CLIPPED_PERCENT, 100 - _CLIPPED_PERCENT))
    scaled = (np.nan_to_num(counts, nan=low, posinf=high, neginf=low) - low) / max(high - low, 1e-9)
    return np.asarray(np.clip(np.rint(255 * scaled), 0, 255), np.uint8)


def _draw_outlines(
    picture: NDArray[np.uint8], labels: NDArray[np.int32], classes: Mapping[int, str]
) -> None:
    """Colour the pixels of each particle that have a neighbour of another."""
    rim = np.zeros(labels.shape, np.bool_)
    rim[1:] |= labels[1:] != labels[:-1]
    rim[:-1] |= labels[1:] != labels[:-1]
    rim[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    rim[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    rim &= labels > 0
    if max(labels.shape) > 500:  # thin lines vanish on a large picture
        rim = cv2.dilate(rim.astype(np.uint8), np.ones((2, 2), np.uint8)).astype(np.bool_)
        owner = np.maximum(
            labels, np.asarray(cv2.dilate(labels.astype(np.float32), np.ones((2, 2))), np.int32)
        )
    else:
        owner = labels
    colours = np.full((int(labels.max()) + 1, 3), OUTLINE_COLOURS[UNCLASSIFIED], np.uint8)
    for label, name in classes.items():
        if 0 < label < len(colours):
            colours[label] = OUTLINE_COLOURS.get(name, OUTLINE_COLOURS[UNCLASSIFIED])
    picture[rim] = colours[owner[rim]]


def _draw_numbers(picture: NDArray[np.uint8], labels: NDArray[np.int32]) -> None:
    found = np.unique(labels[labels > 0])
    if not 0 < found.size <= _MOST_NUMBERS:
        return
    scale = max(picture.shape[:2]) / 1700
    ys, xs = np.nonzero(labels)
    owners = labels[ys, xs]
    counts = np.bincount(owners)
    cx, cy = (np.bincount(owners, along) / np.maximum(counts, 1) for along in (xs, ys))
    for label in found:
        _write(picture, str(label), (int(cx[label]), int(cy[label])), scale, centred=True)


def _draw_scale_bar(picture: NDArray[np.uint8], pixel_nm: float) -> None:
    height, width = picture.shape[:2]
    length_nm = scale_bar_nm(width * pixel_nm)
    length, thick = round(length_nm / pixel_nm), max(2, height // 120)
    left, top = max(4, width // 40), height - max(4, height // 40) - thick
    cv2.rectangle(picture, (left - 2, top - 2), (left + length + 1, top + thick + 1), _BLACK, -1)
    cv2.rectangle(picture, (left, top), (left + length - 1, top + thick - 1), _WHITE, -1)
    text = f"{length_nm / 1000:g} um" if length_nm >= 1000 else f"{length_nm:g} nm"
    _write(picture, text, (left, top - thick - 2), max(picture.shape[:2]) / 1300)


def scale_bar_nm(width_nm: float) -> float:
    """Length of a scale bar: 1, 2 or 5 times a power of ten, about a fifth of the width.

    Examples
    --------
    >>> scale_bar_nm(53.2), scale_bar_nm(1000.0), scale_bar_nm(3.1)
    (10.0, 200.0, 0.5)
    """
    power = 10.0 ** math.floor(math.log10(width_nm / 4))
    return max(step * power for step in (1.0, 2.0, 5.0) if step * power <= width_nm / 4)


def _write(
    picture: NDArray[np.uint8],
    text: str,
    place: tuple[int, int],
    scale: float,
    *,
    centred: bool = False,
) -> None:
    """White letters with a dark rim, which are seen on every grey."""
    scale = max(scale, 0.3)
    x, y = place
    if centred:
        (width, height), _ = cv2.getTextSize(text, _FONT, scale, 1)
        x, y = x - width // 2, y + height // 2
    cv2.putText(picture, text, (x, y), _FONT, scale, _BLACK, 3, cv2.LINE_AA)
    cv2.putText(picture, text, (x, y), _FONT, scale, _WHITE, 1, cv2.LINE_AA)


def contact_sheet(
    pictures: Sequence[tuple[str, Picture]], *, columns: int = 4, side_px: int = 360
) -> Picture:
    """Pictures side by side, each with its name below.

    Parameters
    ----------
    pictures : sequence of (str, (h, w, 3) uint8)
        Names and pictures, in order.
    columns : int
        Pictures in a row.
    side_px : int
        Side of the square that each has.

    Returns
    -------
    (H, W, 3) uint8
        White between the pictures.
    """
    if not pictures:
        raise ValueError("a contact sheet needs pictures")
    columns = min(columns, len(pictures))
    rows, gap, line = -(-len(pictures) // columns), 8, 22
    cell_width, cell_height = side_px + gap, side_px + line + gap
    sheet = np.full((rows * cell_height + gap, columns * cell_width + gap, 3), 255, np.uint8)
    for number, (name, picture) in enumerate(pictures):
        zoom = side_px / max(picture.shape[:2])
        size = tuple(max(1, round(side * zoom)) for side in picture.shape[1::-1])
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        top = gap + (number // columns) * cell_height
        left = gap + (number % columns) * cell_width
        sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
        place = (left, top + small.shape[0] + line - 7)
        cv2.putText(sheet, _ascii(name), place, _FONT, 0.42, _BLACK, 1, cv2.LINE_AA)
    return sheet


def _ascii(name: str) -> str:
    """A name in the letters that OpenCV can write, its end where it is long."""
    shown = "".join(c if " " <= c <= "~" else "?" for c in name)
    return shown if len(shown) <= 44 else "..." + shown[-41:]

"""From counts to what a file holds: int16, 8 bit, JPEG, and what journals print into pictures.

`present` draws all of that at random. Burnt-in bars and letters are background to a network; where
they hide a particle the pixels count for nothing.
"""

from __future__ import annotations

import math
import string

import cv2
import numpy as np
from numpy.typing import NDArray

from nanostream.training.pictures import Picture, Truth

__all__ = ["present"]

_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
)


def present(
    rng: np.random.Generator, counts: NDArray[np.float32], picture: Picture, *, journal: float
) -> Picture:
    """The picture with its pixels.

    Parameters
    ----------
    counts
        (H, W) as the camera gave them.
    picture
        Its truth, and its kind.
    journal
        Chance that it was printed: always in 8 bit, with bars and letters.
    """
    printed = rng.random() < journal
    how = rng.random()
    truth = picture.truth
    pixels: NDArray[np.int16] | NDArray[np.uint8]
    if printed or how < 0.45:
        grey = _stretched(rng, counts)
        if printed:
            grey, truth = _printed(rng, grey, truth)
        if rng.random() < (0.6 if printed else 0.15):
            quality = [int(cv2.IMWRITE_JPEG_QUALITY), int(rng.integers(35, 96))]
            _, packed = cv2.imencode(".jpg", grey, quality)
            grey = np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE), np.uint8)
        pixels = grey
    elif how < 0.52:  # a dim camera of 8 bit
        levels = rng.uniform(10.0, 50.0)
        low, high = np.percentile(counts[::4, ::4], [0.1, 99.9])
        dim = rng.uniform(0.0, 20.0) + (counts - low) * (levels / max(high - low, 1e-6))
        pixels = np.clip(np.rint(dim), 0, 255).astype(np.uint8)
    else:
        pixels = _as_counts(rng, counts)
    return Picture(pixels, truth, picture.kind)


def _as_counts(rng: np.random.Generator, counts: NDArray[np.float32]) -> NDArray[np.int16]:
    """Rounded to int16, sometimes with the offset by which unsigned data are stored."""
    greatest = float(counts.max())
    if greatest > 30000.0:
        counts = counts * np.float32(30000.0 / greatest)
    if greatest < 40.0:  # few electrons, counted: the gain of a camera makes levels of them
        counts = counts * np.float32(rng.uniform(5.0, 60.0))
    offset = float(rng.choice([0.0, rng.uniform(0.0, 200.0), -32768.0], p=[0.6, 0.35, 0.05]))
    rounded = np.rint(counts + np.float32(offset))
    return np.asarray(np.clip(rounded, -32768, 32767), np.int16)


def _stretched(rng: np.random.Generator, counts: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Grey values as a display shows them: limits cut off, gamma, sometimes sharpened."""
    if rng.random() < 0.08:
        soft = cv2.GaussianBlur(counts, (0, 0), rng.uniform(0.8, 2.5))
        counts = counts + np.float32(rng.uniform(0.3, 1.5)) * (counts - soft)
    cut = rng.uniform(0.0, 1.5, 2) if rng.random() < 0.7 else np.zeros(2)
    low, high = np.percentile(counts[::2, ::2], [cut[0], 100.0 - cut[1]])
    span = max(float(high - low), 1e-6)
    if rng.random() < 0.3:  # a flat contrast, somewhere in the range
        below, above = rng.uniform(0.0, 1.0, 2)
        low, span = low - below * span, span * (1.0 + below + above)
    grey = np.clip((counts - np.float32(low)) / np.float32(span), 0.0, 1.0)
    if rng.random() < 0.5:
        grey = grey ** np.float32(rng.uniform(0.6, 1.6))
    return np.asarray(np.rint(grey * np.float32(255.0)), np.uint8)


def _printed(
    rng: np.random.Generator, grey: NDArray[np.uint8], truth: Truth
) -> tuple[NDArray[np.uint8], Truth]:
    """With a scale bar, letters, a frame or a line of text at the bottom."""
    covered = np.zeros_like(grey)  # 0 free, else 1 + brightness / 2
    size = grey.shape[0]
    if rng.random() < 0.75:
        _scale_bar(rng, covered)
    if rng.random() < 0.65:
        _letter(rng, covered)
    if rng.random() < 0.12:  # an arrow or a circle someone drew
        start, stop = (tuple(int(c) for c in rng.uniform(0, size, 2)) for _ in range(2))
        cv2.arrowedLine(covered, start, stop, _ink(rng), int(rng.integers(1, 4)), tipLength=0.1)
    if rng.random() < 0.1:
        top = int(size * rng.uniform(0.86, 0.97))
        covered[top:] = int(rng.choice([1, 128]))
        height = size - top
        text = "".join(rng.choice(list(string.ascii_letters + string.digits + " ."), 40))
        ink = 128 if covered[-1, 0] == 1 else 1
        place = (4, size - height // 3)
        cv2.putText(covered, text, place, _FONTS[0], max(0.3, height / 60.0), ink, 1, cv2.LINE_8)
    if rng.random() < 0.15:  # the edge of a panel, or of the next one
        width = int(rng.integers(1, 0.08 * size))
        side = int(rng.integers(4))
        turned = np.rot90(covered, side)  # a view: what is written to it is in the picture
        turned[:width] = int(rng.choice([1, 128]))
    inked = covered > 0
    if not inked.any():
        return grey, truth
    values = np.clip(2 * (covered.astype(np.int16) - 1), 0, 255).astype(np.uint8)
    ignored = truth.ignored | (inked & (truth.instances > 0))
    return np.where(inked, values, grey), Truth(truth.instances, truth.depth, ignored)


def _ink(rng: np.random.Generator) -> int:
    """Black, white or grey."""
    return int(rng.choice([1, 128, int(rng.integers(1, 129))], p=[0.45, 0.45, 0.1]))


def _scale_bar(rng: np.random.Generator, covered: NDArray[np.uint8]) -> None:
    """Bar with a length above or below it, in a corner, sometimes on a box."""
    size = covered.shape[0]
    ink = _ink(rng)
    length, height = int(size * rng.uniform(0.08, 0.4)), int(rng.integers(2, 14))
    scale = rng.uniform(0.4, 1.6)
    x = int(rng.uniform(0.02, 0.1) * size)
    if rng.random() < 0.6:
        x = size - x - max(length, int(90 * scale))
    y = int(size * rng.uniform(0.85, 0.97))
    if rng.random() < 0.12:
        y = int(size * rng.uniform(0.08, 0.15))
    if rng.random() < 0.3:
        box = 128 if ink < 64 else 1
        corner = (x - 8, y - int(34 * scale))
        cv2.rectangle(covered, corner, (x + max(length, int(90 * scale)), y + height + 8), box, -1)
    if rng.random() < 0.9:
        cv2.rectangle(covered, (x, y), (x + length, y + height), ink, -1)
    if rng.random() < 0.85:
        unit = str(rng.choice(["nm", "um", " nm", "nm", "A"]))
        text = str(rng.choice([1, 2, 5, 10, 20, 50, 100, 200, 500])) + unit
        thick = int(rng.integers(1, 4))
        font = _FONTS[int(rng.integers(len(_FONTS)))]
        cv2.putText(covered, text, (x, y - 5), font, scale, ink, thick, cv2.LINE_8)


def _letter(rng: np.random.Generator, covered: NDArray[np.uint8]) -> None:
    """Name of a panel in a corner: a, (b), C', d1."""
    size = covered.shape[0]
    letter = str(rng.choice(list(string.ascii_letters[:20] + string.ascii_uppercase[:8])))
    text = str(rng.choice(["{}", "({})", "{})", "{}1", "{}'"])).format(letter)
    scale = float(np.exp(rng.uniform(math.log(0.6), math.log(2.6))))
    ink = _ink(rng)
    y = int(30 * scale + rng.uniform(0, 12))
    x = int(rng.uniform(2, 20)) if rng.random() < 0.85 else int(size - 60 * scale)
    if rng.random() < 0.25:
        box = 128 if ink < 64 else 1
        cv2.rectangle(covered, (x - 4, 0), (x + int(28 * len(text) * scale), y + 8), box, -1)
    font = _FONTS[int(rng.integers(len(_FONTS)))]
    cv2.putText(covered, text, (x, y), font, scale, ink, int(rng.integers(1, 5)), cv2.LINE_8)

"""Random textures of supports and particles: slow fields, grain, steps, webs, blobs.

All are float32 (size, size), made from a generator that is passed in.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["blobs", "grain", "patches", "slow", "webs"]


def slow(rng: np.random.Generator, size: int, *, waves: float) -> NDArray[np.float32]:
    """Smooth field between -1 and 1 with about ``waves`` hills across."""
    knots = max(2, math.ceil(2.0 * waves)) + 3
    field = rng.standard_normal((knots, knots), np.float32)
    zoom = math.ceil(size / (knots - 3))
    grown = cv2.resize(field, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    start = 3 * zoom // 2
    inner = grown[start : start + size, start : start + size]
    return np.asarray(inner / max(float(np.abs(inner).max()), 1e-6), np.float32)


def grain(rng: np.random.Generator, size: int, *, length_px: float) -> NDArray[np.float32]:
    """Noise of unit variance, correlated over a length; computed coarsely where it is long."""
    step = max(1, int(length_px / 3.0))
    coarse = math.ceil(size / step) + 1
    noise = rng.standard_normal((coarse, coarse), np.float32)
    deviation = length_px / step
    if deviation > 0.2:
        noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), deviation))
    if step > 1:
        wide = (coarse * step, coarse * step)
        noise = np.asarray(cv2.resize(noise, wide, interpolation=cv2.INTER_CUBIC))
    noise = noise[:size, :size]
    return np.asarray(noise / max(float(noise.std()), 1e-9), np.float32)


def patches(
    rng: np.random.Generator, size: int, *, part: float, waves: float, edge: float = 0.02
) -> NDArray[np.float32]:
    """1 in about a part of the field, 0 elsewhere, with borders like coast lines.

    Parameters
    ----------
    edge
        Width of the border, of the field's own variation: 0.02 is sharp, 0.5 soft.
    """
    field = slow(rng, size, waves=waves)
    if rng.random() < 0.5:
        field = field + np.float32(0.15) * slow(rng, size, waves=6.0 * waves)
    level = np.quantile(field[::8, ::8], 1.0 - part)
    height = (field - np.float32(level)) / np.float32(edge) + np.float32(0.5)
    return np.asarray(np.clip(height, 0.0, 1.0), np.float32)


def webs(rng: np.random.Generator, size: int, *, count: int) -> NDArray[np.float32]:
    """Curved bands, 1 along their middle: lacey carbon, wrinkles."""
    total = np.zeros((size, size), np.float32)
    for _ in range(count):
        points = rng.uniform(-0.3 * size, 1.3 * size, (3, 2))
        t = np.linspace(0.0, 1.0, 40)[:, None]
        curve = (1 - t) ** 2 * points[0] + 2 * t * (1 - t) * points[1] + t**2 * points[2]
        width = max(1, round(float(np.exp(rng.uniform(math.log(1.5), math.log(0.1 * size))))))
        band = np.zeros((size, size), np.uint8)
        cv2.polylines(band, [np.rint(curve).astype(np.int32)], False, 255, width, cv2.LINE_AA)
        np.maximum(total, _softened(band, max(0.6, width * rng.uniform(0.05, 0.35))), out=total)
    return total


def blobs(
    rng: np.random.Generator, size: int, *, count: int, largest_px: float
) -> NDArray[np.float32]:
    """Soft spots without a sharp outline, 0 to about 1: dirt, residue, charging."""
    total = np.zeros((size, size), np.float32)
    for _ in range(count):
        radius = float(np.exp(rng.uniform(math.log(3.0), math.log(largest_px))))
        spot = np.zeros((size, size), np.uint8)
        y, x = (int(c) for c in rng.uniform(0, size, 2))
        axes = tuple(max(1, int(radius * f)) for f in rng.uniform(0.5, 1.3, 2))
        cv2.ellipse(spot, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
        soft = _softened(spot, max(1.5, radius * rng.uniform(0.35, 0.8)))
        total += soft * np.float32(rng.uniform(0.2, 1.0))
    return total


def _softened(picture: NDArray[np.uint8], deviation_px: float) -> NDArray[np.float32]:
    """A drawing, 0 to 255, blurred and scaled to 0 to 1; coarsely where the blur is wide."""
    step = max(1, int(deviation_px / 3.0))
    size = picture.shape[0]
    if step > 1:
        small = (math.ceil(size / step),) * 2
        picture = np.asarray(cv2.resize(picture, small, interpolation=cv2.INTER_AREA), np.uint8)
    soft = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), deviation_px / step)
    if step > 1:
        soft = cv2.resize(soft, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(soft, np.float32) / np.float32(255.0)

"""Particles of many shapes seen from above: thickness, outline, depth.

`draw_projection` draws one on the pixels that it covers. Its `Projection.thickness` makes contrast,
its outline is the label, its depth (distance to the outline over the greatest in the particle) is
what tells touching particles apart.

Lengths are in pixels. The outline is where the thickness is above `RIM` of its greatest: of a
sphere 98 % of the radius, near which its contrast, blurred by a lens, is half of what it is inside.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

__all__ = ["FORMS", "RIM", "Form", "Projection", "draw_projection"]

Form = Literal["round", "rod", "plate", "cube", "octahedron", "tetrahedron", "polyhedron", "lump"]

FORMS: tuple[Form, ...] = (
    "round",
    "rod",
    "plate",
    "cube",
    "octahedron",
    "tetrahedron",
    "polyhedron",
    "lump",
)

RIM = 0.18

_Grid = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Projection:
    """A particle on the pixels of its box.

    Attributes
    ----------
    corner
        (y, x) of the box's first pixel in the field.
    thickness
        (h, w) float32, along the beam, in pixels; 0 outside.
    outline
        (h, w) bool, inside; hollows belong to it.
    depth
        (h, w) float32, distance to the outline over the greatest, 0 outside.
    """

    corner: tuple[int, int]
    thickness: NDArray[np.float32]
    outline: NDArray[np.bool_]
    depth: NDArray[np.float32]

    @property
    def field(self) -> tuple[slice, slice]:
        """Where the box is in an array of the field."""
        (y, x), (height, width) = self.corner, self.outline.shape
        return slice(y, y + height), slice(x, x + width)

    def grid(self, centre: tuple[float, float]) -> _Grid:
        """Pixel positions of the box relative to a point of the field, (h, 1) and (1, w)."""
        height, width = self.outline.shape
        y = np.arange(height, dtype=np.float32)[:, None] + np.float32(self.corner[0] - centre[0])
        x = np.arange(width, dtype=np.float32)[None] + np.float32(self.corner[1] - centre[1])
        return y, x


def draw_projection(
    rng: np.random.Generator,
    form: Form,
    *,
    centre: tuple[float, float],
    radius_px: float,
    field_px: int,
    hollow: bool = False,
) -> Projection | None:
    """Particle of a form, drawn at random; None if nothing of it lies in the field.

    Parameters
    ----------
    centre
        (y, x) in the field.
    radius_px
        Of about its mean extent.
    field_px
        Height and width of the field, which cuts the box.
    hollow
        With a void inside.
    """
    reach = 2.6 * radius_px + 2.0 if form == "rod" else 1.75 * radius_px + 2.0
    low = [max(0, math.floor(c - reach)) for c in centre]
    high = [min(field_px, math.ceil(c + reach) + 1) for c in centre]
    if high[0] - low[0] < 2 or high[1] - low[1] < 2:
        return None
    y = np.arange(low[0], high[0], dtype=np.float32)[:, None] - np.float32(centre[0])
    x = np.arange(low[1], high[1], dtype=np.float32)[None] - np.float32(centre[1])
    turn = rng.uniform(0.0, 2.0 * math.pi)
    cos, sin = np.float32(math.cos(turn)), np.float32(math.sin(turn))
    y, x = y * cos - x * sin, y * sin + x * cos
    thickness, greatest = _DRAW[form](rng, y, x, radius_px)
    outline = thickness > np.float32(RIM * greatest)
    if not outline.any():
        return None
    if hollow:
        thickness = _hollowed(rng, thickness, y, x, radius_px)
    depth = _depth(outline, low, high, field_px)
    return Projection((low[0], low[1]), np.where(outline, thickness, 0), outline, depth)


def _depth(
    outline: NDArray[np.bool_], low: list[int], high: list[int], field_px: int
) -> NDArray[np.float32]:
    """Distance to the outline over its greatest; the field's edge is no outline."""
    before = [int(start > 0) for start in low]
    after = [int(stop < field_px) for stop in high]
    padded = np.pad(outline, tuple(zip(before, after, strict=True))).view(np.uint8)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_5)
    inner = tuple(
        slice(start, start + size) for start, size in zip(before, outline.shape, strict=True)
    )
    distance = np.asarray(distance, np.float32)[inner]
    return np.asarray(distance / max(float(distance.max()), 1e-6), np.float32)


def _hollowed(
    rng: np.random.Generator,
    thickness: NDArray[np.float32],
    y: NDArray[np.float32],
    x: NDArray[np.float32],
    radius_px: float,
) -> NDArray[np.float32]:
    """Without an ellipsoidal void about the middle, walls left."""
    inner = radius_px * rng.uniform(0.4, 0.85)
    shift = rng.normal(0.0, 0.06 * radius_px, 2)
    square = np.square(y - np.float32(shift[0])) + np.square(x - np.float32(shift[1]))
    void = 2.0 * np.sqrt(np.maximum(np.float32(inner**2) - square, 0.0))
    return np.asarray(np.maximum(thickness - void, np.float32(0.1) * thickness), np.float32)


def _round(
    rng: np.random.Generator, y: NDArray[np.float32], x: NDArray[np.float32], radius_px: float
) -> tuple[NDArray[np.float32], float]:
    """Ellipsoid with an uneven outline and some flat sides."""
    stretch = 1.0 if rng.random() < 0.4 else rng.uniform(0.75, 1.0)
    u, v = x * np.float32(math.sqrt(stretch)), y * np.float32(1.0 / math.sqrt(stretch))
    edge = _edge(rng, u, v, roughness=0.0 if rng.random() < 0.35 else rng.uniform(0.01, 0.06))
    inside = 1.0 - (u * u + v * v) / np.square(np.float32(radius_px) * edge)
    thickness = np.float32(2.0 * radius_px) * np.sqrt(np.maximum(inside, 0.0))
    if rng.random() < 0.4:
        for _ in range(int(rng.integers(1, 5))):
            angle = rng.uniform(0.0, 2.0 * math.pi)
            height = u * np.float32(math.cos(angle)) + v * np.float32(math.sin(angle))
            thickness = thickness * (height < np.float32(radius_px * rng.uniform(0.72, 1.0)))
    return thickness, 2.0 * radius_px


def _edge(
    rng: np.random.Generator,
    u: NDArray[np.float32],
    v: NDArray[np.float32],
    *,
    roughness: float,
) -> NDArray[np.float32]:
    """Factor of the radius in each direction: 1 and some harmonics."""
    edge = np.ones(np.broadcast_shapes(u.shape, v.shape), np.float32)
    if roughness:
        angle = np.arctan2(v, u)
        for order in range(2, 8):
            size, phase = rng.normal(0.0, roughness / math.sqrt(order - 1)), rng.uniform(0.0, 6.3)
            edge += np.float32(size) * np.cos(np.float32(order) * angle + np.float32(phase))
        np.maximum(edge, 0.3, out=edge)
    return edge


def _lump(
    rng: np.random.Generator, y: NDArray[np.float32], x: NDArray[np.float32], radius_px: float
) -> tuple[NDArray[np.float32], float]:
    """Irregular particle: strongly uneven outline, flat or domed, uneven in thickness."""
    edge = _edge(rng, x, y, roughness=rng.uniform(0.06, 0.22))
    inside = np.maximum(1.0 - (x * x + y * y) / np.square(np.float32(radius_px) * edge), 0.0)
    power = np.float32(rng.uniform(0.15, 0.8))
    thickness = np.float32(1.6 * radius_px) * inside**power
    tilt = rng.normal(0.0, 0.25 / radius_px, 2).astype(np.float32)
    return thickness * np.clip(1.0 + tilt[0] * y + tilt[1] * x, 0.4, 1.6), 1.6 * radius_px


def _rod(
    rng: np.random.Generator, y: NDArray[np.float32], x: NDArray[np.float32], radius_px: float
) -> tuple[NDArray[np.float32], float]:
    """Capsule or cylinder lying on its side; of a mean extent of the radius."""
    aspect = rng.uniform(1.6, 5.0)
    half = radius_px / math.sqrt(aspect)
    length = half * (aspect - 1.0)
    along = np.abs(x)
    across = np.square(np.float32(half)) - y * y
    if rng.random() < 0.6:  # round caps
        across = across - np.square(np.maximum(along - np.float32(length), 0.0))
    else:
        across = np.where(along < np.float32(length + 0.6 * half), across, 0.0)
    power = np.float32(0.5 if rng.random() < 0.6 else 0.25)
    return np.maximum(across / np.float32(half**2), 0.0) ** power * np.float32(2 * half), 2 * half


def _plate(
    rng: np.random.Generator, y: NDArray[np.float32], x: NDArray[np.float32], radius_px: float
) -> tuple[NDArray[np.float32], float]:
    """Prism of three to six sides lying flat, its corners more or less round."""
    sides = int(rng.choice([3, 4, 4, 5, 6, 6]))
    rounding = np.float32(rng.uniform(0.0, 0.35) * radius_px)
    inner = 1.15 * radius_px * math.cos(math.pi / sides) * (1.25 if sides == 3 else 1.0)
    distance = np.full(np.broadcast_shapes(y.shape, x.shape), -np.inf, np.float32)
    square = np.zeros_like(distance)
    for side in range(sides):
        angle = 2.0 * math.pi * (side + rng.normal(0.0, 0.02)) / sides
        height = x * np.float32(math.cos(angle)) + y * np.float32(math.sin(angle))
        beyond = height - (np.float32(inner * rng.uniform(0.9, 1.1)) - rounding)
        distance = np.maximum(distance, beyond)
        square += np.square(np.maximum(beyond, 0.0))
    outside = np.where(distance > 0, np.sqrt(square), distance) - rounding
    bevel = np.float32(max(0.5, rng.uniform(0.0, 0.25) * radius_px))
    height_px = radius_px * rng.uniform(0.3, 1.6)
    return np.clip(-outside / bevel, 0.0, 1.0) * np.float32(height_px), height_px


def _convex(
    rng: np.random.Generator,
    y: NDArray[np.float32],
    x: NDArray[np.float32],
    normals: NDArray[np.float64],
    heights: NDArray[np.float64],
    *,
    lying: int | None,
) -> tuple[NDArray[np.float32], float]:
    """Thickness of a polyhedron of half spaces, turned at random or lying on one of its faces."""
    if lying is None:
        turned = Rotation.random(rng=rng).apply(normals)
    else:
        turn, _ = Rotation.align_vectors([[0.0, 0.0, -1.0]], normals[lying : lying + 1])
        tilt = Rotation.from_rotvec(rng.normal(0.0, 0.04, 3))
        turned = (tilt * turn).apply(normals)
    shape = np.broadcast_shapes(y.shape, x.shape)
    upper, lower = np.full(shape, np.inf, np.float32), np.full(shape, -np.inf, np.float32)
    for normal, height in zip(np.asarray(turned), heights, strict=True):
        nx, ny, nz = (float(part) for part in np.asarray(normal))
        rest = np.float32(height) - np.float32(nx) * x - np.float32(ny) * y
        # A wall along the beam is a very steep face.
        steep = math.copysign(max(abs(nz), 0.02), nz)
        if steep > 0:
            np.minimum(upper, rest / np.float32(steep), out=upper)
        else:
            np.maximum(lower, rest / np.float32(steep), out=lower)
    thickness = np.maximum(upper - lower, 0.0)
    greatest = float(heights.mean()) * 1.6
    return thickness, greatest


_AXES = np.vstack([np.eye(3), -np.eye(3)])
_CORNERS = np.array(list(itertools.product((-1.0, 1.0), repeat=3))) / math.sqrt(3.0)
_TETRAHEDRON = _CORNERS[[0, 3, 5, 6]]
_EDGES = np.array(
    [
        v
        for v in itertools.product((-1.0, 0.0, 1.0), repeat=3)
        if abs(v[0]) + abs(v[1]) + abs(v[2]) == 2
    ]
) / math.sqrt(2.0)


def _cube(
    rng: np.random.Generator, y: NDArray[np.float32], x: NDArray[np.float32], radius_px: float
) -> tuple[NDArray[np.float32], float]:
    """Cuboid, its edges more or less cut, mostly lying on a face."""
    sides = 0.85 * radius_px * np.where(rng.random(3) < 0.5, 1.0, rng.uniform(0.7, 1.3, 3))
    cut = radius_px * rng.uniform(0.95, 1.25)
    normals = np.vstack([_AXES, _EDGES])
    heights = np.concatenate([np.tile(sides, 2), np.full(len(_EDGES), cut)])
    return _convex(rng, y, x, normals, heights, lying=0 if rng.random() < 0.75 else None)


def _octahedron(
    rng: np.random.Generator, y: NDArray[np.float32], x: NDArray[np.float32], radius_px: float
) -> tuple[NDArray[np.float32], float]:
    """Octahedron to cuboctahedron, cut at its corners."""
    heights = np.concatenate(
        [
            np.full(8, 0.88 * radius_px) * rng.uniform(0.93, 1.07, 8),
            np.full(6, radius_px * rng.uniform(0.85, 1.35)),
        ]
    )
    lying = int(rng.choice([0, 8])) if rng.random() < 0.6 else None
    return _convex(rng, y, x, np.vstack([_CORNERS, _AXES]), heights, lying=lying)


def _tetrahedron(
    rng: np.random.Generator, y: NDArray[np.float32], x: NDArray[np.float32], radius_px: float
) -> tuple[NDArray[np.float32], float]:
    """Tetrahedron with cut corners."""
    normals = np.vstack([_TETRAHEDRON, -_TETRAHEDRON])
    heights = np.concatenate(
        [np.full(4, 0.6 * radius_px), np.full(4, radius_px * rng.uniform(0.9, 1.4))]
    )
    return _convex(rng, y, x, normals, heights, lying=0 if rng.random() < 0.6 else None)


def _polyhedron(
    rng: np.random.Generator, y: NDArray[np.float32], x: NDArray[np.float32], radius_px: float
) -> tuple[NDArray[np.float32], float]:
    """Between some random planes and a box around them."""
    normals = rng.normal(size=(int(rng.integers(6, 16)), 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    heights = radius_px * rng.uniform(0.75, 1.1, len(normals))
    normals = np.vstack([normals, _AXES, _CORNERS])
    heights = np.concatenate([heights, np.full(14, 1.2 * radius_px)])
    return _convex(rng, y, x, normals, heights, lying=None)


_DRAW = {
    "round": _round,
    "rod": _rod,
    "plate": _plate,
    "cube": _cube,
    "octahedron": _octahedron,
    "tetrahedron": _tetrahedron,
    "polyhedron": _polyhedron,
    "lump": _lump,
}

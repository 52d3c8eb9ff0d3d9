"""Views of micrographs that a network is shown: cut, turned, altered, in batches.

Every batch is drawn and altered from its own seed, so a training is the same whether or not it was
interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nanostream.segmentation.normalization import median_filter, normalize
from nanostream.training.examples import Examples
from nanostream.training.recipe import Recipe

__all__ = ["ZOOM", "augment", "draw_batch", "gaps"]

ZOOM = (0.7, 1.5)
"""Least and greatest magnification by :func:`augment`."""

Chance = Callable[[float], bool]
"""Whether something that is done to a part of the views is done to this one."""

_GAP = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))


def augment(
    image: NDArray[np.int16],
    label: NDArray[np.integer] | NDArray[np.bool_],
    rng: np.random.Generator,
    *,
    crop_px: int,
    span: NDArray[np.float64] | None = None,
    alteration: float = 1.0,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Random view of a micrograph and its label, each (crop_px, crop_px) float32.

    Turned, mirrored, magnified 0.7 to 1.5 times; blurred, given more noise, an uneven background
    and another contrast; scaled as the network expects it: see `Examples` for the span, and
    `nanostream.training.recipe.Cycle` for the alteration.
    """

    def chance(part: float) -> bool:
        return bool(rng.random() < alteration * part)

    view = _draw_view(image.shape, crop_px, rng, chance)

    def seen(array: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(
            cv2.warpAffine(array, view, (crop_px, crop_px), borderMode=cv2.BORDER_REFLECT_101)
        )

    # By the moments of the whole image: those of a frame are not those of the crop.
    crop = _altered(seen(normalize(image, "standardize")), rng, chance)
    if span is None:
        if chance(0.3):
            crop = normalize(crop, "standardize")
        crop = crop * rng.uniform(0.85, 1.2) + rng.normal(0.0, 0.15)
    else:
        crop = (crop * image.std() + image.mean() - span[0]) / (span[1] - span[0])
    return np.asarray(crop, np.float32), (seen((label > 0).astype(np.float32)) > 0.5).astype(
        np.float32
    )


def _draw_view(
    shape: tuple[int, ...], crop_px: int, rng: np.random.Generator, chance: Chance
) -> Any:
    """Affine map (2, 3) from a micrograph to a crop: turned, magnified, mirrored."""
    height, width = shape
    angle, zoom = 90.0 * int(rng.integers(4)), 1.0
    if chance(0.7):  # the others keep their noise as it was
        angle, zoom = rng.uniform(0.0, 360.0), float(np.exp(rng.uniform(*np.log(ZOOM))))
    sides = np.array([width, height])
    reach = 0.5 * np.maximum(0.0, sides - crop_px / zoom)
    centre_x, centre_y = 0.5 * sides - 0.5 + np.rint(rng.uniform(-reach, reach))
    view = cv2.getRotationMatrix2D((centre_x, centre_y), angle, zoom)
    view[0, 2] += 0.5 * (crop_px - 1) - centre_x
    view[1, 2] += 0.5 * (crop_px - 1) - centre_y
    if rng.random() < 0.5:
        view[0] = -view[0]
        view[0, 2] += crop_px - 1
    return view


def _altered(crop: Any, rng: np.random.Generator, chance: Chance) -> Any:
    """A crop blurred, noisier, with another background and contrast, each with its chance."""
    crop_px = len(crop)
    if chance(0.3):
        crop = cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.4, 1.5))
    if chance(0.4):
        noise: Any = rng.standard_normal(crop.shape, np.float32)
        if rng.random() < 0.5:  # grain of a scintillator
            noise = cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.4, 1.5))
        level = np.float32(rng.uniform(0.1, 1.0))
        noisy = median_filter(crop + level / noise.std() * noise)
        crop = noisy / np.sqrt(1.0 + level**2)
    if chance(0.4):
        knots = rng.standard_normal((4, 4), np.float32) * np.float32(rng.uniform(0.05, 0.6))
        crop = crop + cv2.resize(knots, (crop_px, crop_px), interpolation=cv2.INTER_CUBIC)
    if chance(0.3):  # grey values stretched for display
        low, high = np.percentile(crop, [rng.uniform(0.0, 2.0), rng.uniform(98.0, 100.0)])
        stretched = np.clip((crop - low) / max(high - low, 1e-6), 0.0, 1.0) ** rng.uniform(0.6, 1.6)
        crop = normalize(stretched, "standardize") * crop.std() + crop.mean()
    return crop


def draw_batch(
    examples: Examples, recipe: Recipe, step: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Images (N, H, W, 1), and labels with gaps (N, H, W, 2), of one step.

    The same for the same seed and step.
    """
    rng = np.random.default_rng(np.random.SeedSequence(recipe.seed, spawn_key=(step,)))
    views = [
        augment(
            examples.images[index],
            examples.labels[examples.scene_of[index]],
            rng,
            crop_px=recipe.crop_px,
            span=None if examples.spans is None else examples.spans[index],
            alteration=recipe.cycle(step).alteration,
        )
        for index in _draw(examples, recipe, step, rng)
    ]
    images = np.stack([image for image, _ in views])[..., None]
    labels = np.stack([np.stack([label, gaps(label)], -1) for _, label in views])
    return images, labels


def _draw(
    examples: Examples, recipe: Recipe, step: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Indices of the micrographs of a batch."""
    count = len(examples.images)
    emphasis = recipe.cycle(step).emphasis
    if not emphasis:
        return rng.integers(count, size=recipe.batch)
    of_scene = [
        max(emphasis.get(material, 1.0) for material in name.split("+"))
        for name in examples.materials
    ]
    weights = np.array(of_scene)[examples.scene_of]
    return rng.choice(count, size=recipe.batch, p=weights / weights.sum())


def gaps(label: NDArray[np.float32]) -> NDArray[np.float32]:
    """Background in narrow gaps between particles, and in notches where two touch.

    Few pixels, but they decide whether two particles are one: what a morphological closing of the
    label (H, W) fills.
    """
    return np.asarray(cv2.morphologyEx(label, cv2.MORPH_CLOSE, _GAP) - label)

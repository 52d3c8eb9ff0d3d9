"""Fine-tuning that does not forget: labelled micrographs beside generated pictures.

A network that learns from ten micrographs of one sample gets better at that sample and worse at all
others. Half of each batch is therefore of pictures as the network was trained on
(`nanostream.training.stream`), each drawn when a step asks for it; the labelled micrographs are
altered like multislice scenes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanostream.training.stream import (
    Example,
    altered_picture,
    as_example,
    crop_planes,
    draw_picture,
)

__all__ = ["Labelled", "draw_mixture", "rehearsed"]


@dataclass(frozen=True)
class Labelled:
    """A micrograph with the numbers of its particles.

    Attributes
    ----------
    pixels
        (H, W) counts after the 3x3 median.
    instances
        (H, W) integer, 0 outside. Particles that touch need numbers of their own.
    """

    pixels: NDArray[Any]
    instances: NDArray[np.integer]


def rehearsed(seed: int, *, count: int, size_px: int) -> list[Callable[[], Example]]:
    """Generated pictures of all kinds, the same for a seed.

    Each is drawn at the first call of its function, which takes a fifth of a second, and kept: of
    160 pictures a short fine-tuning sees a few.
    """

    def drawer(number: int) -> Callable[[], Example]:
        return cache(lambda: as_example(draw_picture(seed, number, size_px=size_px)))

    return [drawer(number) for number in range(count)]


def draw_mixture(
    labelled: Sequence[Labelled],
    pictures: Sequence[Callable[[], Example]],
    step: int,
    *,
    batch: int,
    crop_px: int,
    seed: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Images (N, H, W, 1) and targets (N, H, W, 4) of a step, every other one labelled.

    The same for a seed and step; without pictures all are labelled.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(step,)))
    planes = []
    for k in range(batch):
        if k % 2 and pictures:
            example = pictures[int(rng.integers(len(pictures)))]()
        else:
            one = labelled[int(rng.integers(len(labelled)))]
            picture = altered_picture(
                rng, one.pixels, one.instances, size_px=crop_px, kind="labelled"
            )
            example = as_example(picture, filtered=True)
        planes.append(crop_planes(example, rng, crop_px))
    stacked = np.stack(planes)
    return stacked[..., :1], stacked[..., 1:]

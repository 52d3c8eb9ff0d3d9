"""What a network says of a micrograph when it may look at it from all sides.

A network of convolutions does not answer alike when a micrograph is turned or mirrored. The mean of
its answers over the eight such views is better than each of them, and costs eight times as much. A
network that is trained towards that mean (`nanostream.training.recipe.Recipe.imitation`) comes
nearer to it for the price of one.

Hinton, G., Vinyals, O. & Dean, J. Distilling the knowledge in a neural network (2015).
https://arxiv.org/abs/1503.02531

Furlanello, T. et al. Born-again neural networks, ICML (2018): a teacher of the same size.
https://arxiv.org/abs/1805.04770
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from nanostream.segmentation.normalization import normalize
from nanostream.segmentation.unet import PARTICLE_CLASS

__all__ = ["teach"]

#: Sides are made multiples of it, which every network's poolings need at most.
_STEP_PX = 32


def teach(
    model: keras.Model,
    images: Sequence[NDArray[np.int16]],
    on_image: Callable[[int], None] | None = None,
) -> list[NDArray[np.uint8]]:
    """Probabilities of a particle, as the mean of the logits of eight views.

    Parameters
    ----------
    model
        For micrographs scaled by their own moments ("standardize").
    images
        (H, W) int16 after the 3x3 median.
    on_image
        Called with the number of images done.

    Returns
    -------
    list of (H, W) uint8
        255 times the probability.
    """
    logits = tf.function(lambda views: _logits(model(views, training=False)), reduce_retracing=True)
    answers = []
    for done, image in enumerate(images, start=1):
        scaled = normalize(image, "standardize")
        height, width = scaled.shape
        margins = [(0, -side % _STEP_PX) for side in (height, width)]
        padded = np.pad(scaled, margins, "symmetric")
        mean = 0.5 * (_mirrored(logits, padded) + _mirrored(logits, padded.T).T)
        probability = 1.0 / (1.0 + np.exp(-mean[:height, :width]))
        answers.append(np.rint(255.0 * probability).astype(np.uint8))
        if on_image is not None:
            on_image(done)
    return answers


def _logits(probabilities: Any) -> Any:
    particle = keras.ops.clip(probabilities[..., PARTICLE_CLASS], 1e-6, 1.0 - 1e-6)
    return keras.ops.log(particle) - keras.ops.log(1.0 - particle)


def _mirrored(logits: Any, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of four views, each mirrored back."""
    ways = [np.s_[::y, ::x] for y in (1, -1) for x in (1, -1)]
    found = logits(np.stack([image[way] for way in ways])[..., None]).numpy()
    return np.asarray(np.mean([one[way] for one, way in zip(found, ways, strict=True)], axis=0))

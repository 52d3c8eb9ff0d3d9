"""The U-Net of Groschner et al. 2020 in Keras, with the graph of its published weights.

Shallow on purpose: 65,490 parameters for features (4, 8, 16, 32). The graph of the published
weight files (HTTEM repository) differs from the paper's Figure 1 in two points, and this one
follows the files: max pooling takes the batch-normalised features *before* the ReLU while the
skip connection takes them after it, and the last layer is a softmax over the two classes
background and particle.

References
----------
Groschner, C. K., Choi, C. & Scott, M. C. Methodologies for successful segmentation of HRTEM
images via neural network (2020). https://arxiv.org/abs/2001.05022, Figure 1.

Weights and notebooks: https://github.com/ScottLabUCB/HTTEM
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from nanostream.segmentation.weights import (
    BATCH_NORM_EPSILON,
    PAPER_FEATURES,
    Arrays,
    read_weights,
)

PARTICLE_CLASS = 1
"""Channel of the network's output that is the probability of a particle."""


def build_unet(
    features: Sequence[int] = PAPER_FEATURES, *, dropout: float = 0.2, name: str = "unet"
) -> keras.Model:
    """U-Net that maps scaled micrographs to the probabilities of background and particle.

    Parameters
    ----------
    features
        Number of feature maps at each level of the encoder, finest first; the bottom has as many
        as the last level.
    dropout
        Part of the features dropped in each decoder level while training, 0.2 in the training
        scripts beside the published weights; it has no weights and no effect on inference.
    name
        Name of the model.

    Returns
    -------
    keras.Model
        Input (N, H, W, 1) float32 with H and W multiples of ``2 ** len(features)``; output
        (N, H, W, 2) float32, channel 1 is the particle.
    """
    layers = keras.layers
    count = 0

    def convolve(tensor: Any, channels: int) -> Any:
        nonlocal count
        count += 1
        tensor = layers.Conv2D(channels, 3, padding="same", name=f"conv2d_{count}")(tensor)
        return layers.BatchNormalization(
            epsilon=BATCH_NORM_EPSILON, name=f"batch_normalization_{count}"
        )(tensor)

    def rectify(tensor: Any, number: int) -> Any:
        return layers.Activation("relu", name=f"activation_{number}")(tensor)

    inputs = tensor = keras.Input((None, None, 1), name="input_1")
    skips = []
    for channels in features:
        normalised = convolve(tensor, channels)
        skips.append(rectify(normalised, count))
        tensor = layers.MaxPooling2D(2, name=f"max_pooling2d_{count}")(normalised)
    for _ in range(2):
        tensor = rectify(convolve(tensor, features[-1]), count)
    for level, (channels, skip) in enumerate(
        zip(reversed(features), reversed(skips), strict=True), start=1
    ):
        tensor = layers.UpSampling2D(2, name=f"up_sampling2d_{level}")(tensor)
        tensor = layers.Concatenate(name=f"concatenate_{level}")([skip, tensor])
        tensor = rectify(convolve(tensor, channels), count)
        tensor = layers.Dropout(dropout, name=f"dropout_{level}")(tensor)
        tensor = rectify(convolve(tensor, channels), count)
    outputs = layers.Conv2D(2, 1, activation="softmax", name="final_layer")(tensor)
    return keras.Model(inputs, outputs, name=name)


def load_weights(model: keras.Model, path: Path) -> None:
    """Put the weights of a file into a network of the same architecture.

    Parameters
    ----------
    model
        Made by :func:`build_unet`.
    path
        See `nanostream.segmentation.weights.read_weights`.

    Raises
    ------
    ModelError
        If the file cannot be read or does not fit. The model is then unchanged.
    """
    filters = [layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    features = filters[: len(filters) // 3 - 1]  # one in each encoder level, two at the bottom, ...
    arrays = iter([array for group in read_weights(path, features) for array in group])
    for layer in _weighted_layers(model):
        layer.set_weights([next(arrays) for _ in layer.weights])


def convolutions(model: keras.Model) -> list[Arrays]:
    """Arrays of a network as `nanostream.segmentation.weights.read_weights` has them of a file."""
    groups: list[Arrays] = []
    for layer in _weighted_layers(model):
        if isinstance(layer, keras.layers.Conv2D):
            groups.append([])
        groups[-1].extend(layer.get_weights())
    return groups


def _weighted_layers(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if layer.weights]

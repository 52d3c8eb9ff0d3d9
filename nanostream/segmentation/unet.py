"""The U-Net of Groschner et al. 2020 in Keras, with the graph of its published weights, and ours.

The paper's is shallow on purpose: 65,490 parameters for features (4, 8, 16, 32). The graph of the
published weight files (HTTEM repository) differs from the paper's Figure 1 in two points, and this
one follows the files: max pooling takes the batch-normalised features *before* the ReLU while the
skip connection takes them after it, and the last layer is a softmax over the two classes
background and particle.

Ours ("unet-quarter") spends its multiply-adds at a quarter of the resolution, where they are
cheaper on every processor: an 8x8 convolution of stride 4 takes the micrograph there (it sees 2x2
blocks of 4x4 pixels, and 40 features keep what sixteen pixels hold), the last layer gives the
sixteen pixels of each block back. More features and a wider view for the time of the paper's
network. "unet-half", the same by a 6x6 convolution of stride 2, was shipped before.

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
    QUARTER_FEATURES,
    STRIDES,
    Architecture,
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


def build_strided_unet(
    features: Sequence[int] = QUARTER_FEATURES,
    *,
    stride: int = 4,
    name: str = "strided_unet",
) -> keras.Model:
    """U-Net at a part of the resolution, from scaled micrographs to probabilities.

    Parameters
    ----------
    features
        Number of feature maps at each level, the finest first.
    stride
        Pixels of the micrograph along a side of each of the finest features.
    name
        Name of the model.

    Returns
    -------
    keras.Model
        Input (N, H, W, 1) float32 with H and W multiples of ``stride * 2 ** len(features)``;
        output (N, H, W, 2) float32, channel 1 is the particle. Nothing is dropped in training: so
        small a network is as good on what it was trained on as on other micrographs.
    """
    layers = keras.layers
    count = 0

    def convolve(tensor: Any, channels: int, side: int = 3, step: int = 1) -> Any:
        nonlocal count
        count += 1
        tensor = layers.Conv2D(
            channels, side, strides=step, padding="same", name=f"conv2d_{count}"
        )(tensor)
        tensor = layers.BatchNormalization(
            epsilon=BATCH_NORM_EPSILON, name=f"batch_normalization_{count}"
        )(tensor)
        return layers.Activation("relu", name=f"activation_{count}")(tensor)

    inputs = keras.Input((None, None, 1), name="input_1")
    tensor = convolve(inputs, features[0], side=stride + 4, step=stride)
    skips = []
    for level, channels in enumerate(features, start=1):
        tensor = convolve(tensor, channels)
        skips.append(tensor)
        tensor = layers.MaxPooling2D(2, name=f"max_pooling2d_{level}")(tensor)
    for _ in range(2):
        tensor = convolve(tensor, features[-1])
    for level, (channels, skip) in enumerate(
        zip(reversed(features), reversed(skips), strict=True), start=1
    ):
        tensor = layers.UpSampling2D(2, name=f"up_sampling2d_{level}")(tensor)
        tensor = layers.Concatenate(name=f"concatenate_{level}")([skip, tensor])
        tensor = convolve(tensor, channels)
        tensor = convolve(tensor, channels)
    tensor = layers.Conv2DTranspose(2, stride, strides=stride, name="final_layer")(tensor)
    return keras.Model(inputs, layers.Softmax(name="softmax")(tensor), name=name)


def build_network(architecture: Architecture, features: Sequence[int]) -> keras.Model:
    """Network of a model's card, with random weights."""
    stride = STRIDES[architecture]
    return build_unet(features) if stride == 1 else build_strided_unet(features, stride=stride)


def load_weights(model: keras.Model, path: Path) -> None:
    """Put the weights of a file into a network of the same architecture.

    Parameters
    ----------
    model
        Made by :func:`build_network`.
    path
        See `nanostream.segmentation.weights.read_weights`.

    Raises
    ------
    ModelError
        If the file cannot be read or does not fit. The model is then unchanged.
    """
    filters = [layer.filters for layer in model.layers if type(layer) is keras.layers.Conv2D]
    # One in each encoder level, two at the bottom, two in each decoder level, and a first or a
    # last one.
    levels = (len(filters) - 3) // 3
    stride = model.get_layer("final_layer").strides[0]
    groups = read_weights(
        path,
        filters[1 : levels + 1] if stride > 1 else filters[:levels],
        architecture=next(name for name, known in STRIDES.items() if known == stride),
    )
    arrays = iter([array for group in groups for array in group])
    for layer in _weighted_layers(model):
        layer.set_weights([next(arrays) for _ in layer.weights])


def convolutions(model: keras.Model) -> list[Arrays]:
    """Arrays of a network as `nanostream.segmentation.weights.read_weights` has them of a file."""
    groups: list[Arrays] = []
    for layer in _weighted_layers(model):
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Conv2DTranspose)):
            groups.append([])
        groups[-1].extend(layer.get_weights())
    return groups


def _weighted_layers(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if layer.weights]

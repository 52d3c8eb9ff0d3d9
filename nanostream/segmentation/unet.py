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
network. "unet-quarter-residual" brings half as many features up from each level to the next, which
pays for residual blocks (inverted, as in MobileNetV2) where most can be had for a multiply-add,
below the finest level.

"unet-depth" has two outputs: beside the probability of a particle the depth of a pixel in it, which
is its distance to the particle's outline over the greatest there. It tells touching particles apart
whatever their size (`nanostream.segmentation.separation`). Its finest features are at half the
resolution, where particles of 6 px still have three; little is computed there, most at a quarter
and below.

References
----------
Groschner, C. K., Choi, C. & Scott, M. C. Methodologies for successful segmentation of HRTEM
images via neural network (2020). https://arxiv.org/abs/2001.05022, Figure 1.

Weights and notebooks: https://github.com/ScottLabUCB/HTTEM

Sandler, M. et al. MobileNetV2: inverted residuals and linear bottlenecks, CVPR (2018).
https://arxiv.org/abs/1801.04381
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from nanostream.segmentation.weights import (
    BATCH_NORM_EPSILON,
    DEPTH_FEATURES,
    EXPANSION,
    PAPER_FEATURES,
    QUARTER_FEATURES,
    RESIDUAL,
    STRIDES,
    WITH_DEPTH,
    Architecture,
    Arrays,
    Layer,
    read_layers,
)

PARTICLE_CLASS = 1
"""Channel of the network's output that is the probability of a particle."""


class BatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Keras' own, in training by TensorFlow's fused operation, which takes less time.

    A step of ``unet-quarter-residual`` on two cores: 0.22 s instead of 0.26. Of n values the moving
    variance takes in n / (n - 1) times that of Keras. The name of the class is in weight files.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise a batch by its own moments in training, else by the moving ones."""
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            keras.ops.cast(self.gamma, "float32"),
            keras.ops.cast(self.beta, "float32"),
            epsilon=self.epsilon,
            is_training=True,
        )
        for moving, of_batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(self.momentum * moving + (1.0 - self.momentum) * of_batch)
        return outputs


_KINDS = {
    keras.layers.Conv2D: "conv2d",
    keras.layers.DepthwiseConv2D: "depthwise_conv2d",
    keras.layers.Conv2DTranspose: "conv2d_transpose",
    BatchNormalization: "batch_normalization",
}


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
        return BatchNormalization(epsilon=BATCH_NORM_EPSILON, name=f"batch_normalization_{count}")(
            tensor
        )

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
    residual: bool = False,
    name: str = "strided_unet",
) -> keras.Model:
    """U-Net at a part of the resolution, from scaled micrographs to probabilities.

    Parameters
    ----------
    features
        Number of feature maps at each level, the finest first.
    stride
        Pixels of the micrograph along a side of each of the finest features.
    residual
        With residual blocks below the finest level, which change nothing before they are trained,
        and half as many features coming up.
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
        return layers.Conv2D(channels, side, strides=step, padding="same", name=f"conv2d_{count}")(
            tensor
        )

    def normalise(tensor: Any, **options: str) -> Any:
        return BatchNormalization(
            epsilon=BATCH_NORM_EPSILON, name=f"batch_normalization_{count}", **options
        )(tensor)

    def rectify(tensor: Any) -> Any:
        return layers.Activation("relu", name=f"activation_{count}")(normalise(tensor))

    def add_block(tensor: Any) -> Any:
        nonlocal count
        channels = tensor.shape[-1]
        inside = rectify(convolve(tensor, EXPANSION * channels, side=1))
        count += 1
        depthwise = layers.DepthwiseConv2D(3, padding="same", name=f"conv2d_{count}")
        inside = rectify(depthwise(inside))
        change = normalise(convolve(inside, channels, side=1), gamma_initializer="zeros")
        return layers.Add(name=f"add_{count}")([tensor, change])

    inputs = keras.Input((None, None, 1), name="input_1")
    tensor = rectify(convolve(inputs, features[0], side=stride + 4, step=stride))
    skips = []
    for level, channels in enumerate(features):
        tensor = rectify(convolve(tensor, channels))
        if residual and level:
            tensor = add_block(tensor)
        skips.append(tensor)
        tensor = layers.MaxPooling2D(2, name=f"max_pooling2d_{level + 1}")(tensor)
    for _ in range(2):
        tensor = rectify(convolve(tensor, features[-1]))
    for level, channels in reversed(list(enumerate(features))):
        if residual:
            tensor = convolve(tensor, tensor.shape[-1] // 2, side=1)
        number = len(features) - level
        tensor = layers.UpSampling2D(2, name=f"up_sampling2d_{number}")(tensor)
        tensor = layers.Concatenate(name=f"concatenate_{number}")([skips[level], tensor])
        for _ in range(2):
            tensor = rectify(convolve(tensor, channels))
        if residual and level:
            tensor = add_block(tensor)
    tensor = layers.Conv2DTranspose(2, stride, strides=stride, name="final_layer")(tensor)
    return keras.Model(inputs, layers.Softmax(name="softmax")(tensor), name=name)


def build_depth_unet(
    features: Sequence[int] = DEPTH_FEATURES, *, name: str = "depth_unet"
) -> keras.Model:
    """U-Net from scaled micrographs to the probability of a particle and the depth in it.

    Parameters
    ----------
    features
        Number of feature maps at each level, the finest first. The finest level has one
        convolution on the way down and one on the way up, the others two and two.
    name
        Name of the model.

    Returns
    -------
    keras.Model
        Input (N, H, W, 1) float32 with H and W multiples of ``2 * 2 ** len(features)``; output
        (N, H, W, 2) float32 between 0 and 1: probability, depth.
    """
    layers = keras.layers
    count = 0

    def convolve(tensor: Any, channels: int, side: int = 3, step: int = 1) -> Any:
        nonlocal count
        count += 1
        tensor = layers.Conv2D(
            channels, side, strides=step, padding="same", name=f"conv2d_{count}"
        )(tensor)
        tensor = BatchNormalization(
            epsilon=BATCH_NORM_EPSILON, name=f"batch_normalization_{count}"
        )(tensor)
        return layers.Activation("relu", name=f"activation_{count}")(tensor)

    inputs = keras.Input((None, None, 1), name="input_1")
    tensor = convolve(inputs, features[0], side=6, step=2)
    skips = []
    for level, channels in enumerate(features):
        for _ in range(2 if level else 1):
            tensor = convolve(tensor, channels)
        skips.append(tensor)
        tensor = layers.MaxPooling2D(2, name=f"max_pooling2d_{level + 1}")(tensor)
    tensor = convolve(tensor, features[-1])
    for level, channels in reversed(list(enumerate(features))):
        number = len(features) - level
        count += 1
        tensor = layers.Conv2D(tensor.shape[-1] // 2, 1, name=f"conv2d_{count}")(tensor)
        tensor = layers.UpSampling2D(2, name=f"up_sampling2d_{number}")(tensor)
        tensor = layers.Concatenate(name=f"concatenate_{number}")([skips[level], tensor])
        for _ in range(2 if level else 1):
            tensor = convolve(tensor, channels)
    tensor = layers.Conv2DTranspose(2, 4, strides=2, padding="same", name="final_layer")(tensor)
    return keras.Model(inputs, layers.Activation("sigmoid", name="sigmoid")(tensor), name=name)


def build_network(architecture: Architecture, features: Sequence[int]) -> keras.Model:
    """Network of a model's card, with random weights."""
    stride, residual = STRIDES[architecture], architecture in RESIDUAL
    if stride == 1:
        return build_unet(features)
    if architecture in WITH_DEPTH:
        return build_depth_unet(features)
    return build_strided_unet(features, stride=stride, residual=residual)


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
    layers = [layer for group in groups(model) for layer in group]
    stored = read_layers(path, [_described(layer) for layer in layers])
    for layer, arrays in zip(layers, stored, strict=True):
        layer.set_weights(arrays)


def _described(layer: keras.layers.Layer) -> Layer:
    return Layer(layer.name, _KINDS[type(layer)], tuple(tuple(w.shape) for w in layer.weights))


def convolutions(model: keras.Model) -> list[Arrays]:
    """Arrays of a network as `nanostream.segmentation.weights.read_weights` has them of a file."""
    return [[array for layer in group for array in layer.get_weights()] for group in groups(model)]


def groups(model: keras.Model) -> list[list[keras.layers.Layer]]:
    """Each convolution with its batch normalisation, if it has one, in the order of the graph."""
    found: list[list[keras.layers.Layer]] = []
    for layer in model.layers:
        if not layer.weights:
            continue
        if not isinstance(layer, BatchNormalization):
            found.append([])
        found[-1].append(layer)
    return found

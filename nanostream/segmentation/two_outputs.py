"""U-Net with two outputs, particle and depth, in Keras.

A 6x6 convolution of stride 2 takes the micrograph to half its resolution, where particles of 6 px
still have three; little is computed there, most at a quarter and below. The second output is the
distance to the particle's outline over its greatest in that particle: it tells touching particles
apart whatever their size (`nanostream.segmentation.separation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from nanostream.segmentation.unet import BatchNormalization
from nanostream.segmentation.weights import BATCH_NORM_EPSILON

__all__ = ["FEATURES", "build_two_output_unet"]

#: Feature maps at 1/2, 1/4, 1/8, 1/16 and 1/32 of the resolution.
FEATURES: tuple[int, ...] = (16, 40, 64, 96, 112)


def build_two_output_unet(
    features: Sequence[int] = FEATURES, *, name: str = "two_output_unet"
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

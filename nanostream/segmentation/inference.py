"""The network for use, not for training: batch normalisation folded into the convolutions.

Equal in result to the Keras model it is made from (to float32 rounding), faster, and without
Keras on the path of a frame. The softmax over two classes becomes the sigmoid of their
difference.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from nanostream.errors import ConfigError
from nanostream.segmentation.weights import RESIDUAL, STRIDES, WITH_DEPTH, Architecture

__all__ = ["FoldedUNet", "choose_device", "receptive_radius_px"]

logger = logging.getLogger(__name__)

Arrays = Sequence[NDArray[np.float32]]


def receptive_radius_px(levels: int, architecture: Architecture = "unet") -> int:
    """How far the network looks, in pixels, for a number of pooling levels.

    A 3x3 convolution at a level pooled by ``p`` looks ``p`` pixels further: one in each encoder
    level, two at the bottom and two in each decoder level; each pooling and each upsampling can
    shift by up to ``p``. At a part of the resolution all of that counts a stride, and the first
    convolution looks two pixels beyond its block, from the other end of it.
    """
    encoder = pooling = (1 << levels) - 1  # 1 + 2 + 4 + ... over the levels
    bottom = 2 * (1 << levels)
    decoder = 2 * ((1 << levels) - 1)
    radius = encoder + bottom + decoder + pooling
    if architecture in WITH_DEPTH:  # a second convolution below the finest level, none at it
        once = 2 * encoder - 1
        radius = once + (1 << levels) + once + pooling + 1  # and one in the last step
    if architecture in RESIDUAL:  # one more for a block, in encoder and decoder, but at the finest
        radius += 2 * ((1 << levels) - 2)
    stride = STRIDES[architecture]
    return radius if stride == 1 else stride * radius + stride + 2


def choose_device(wanted: str) -> str:
    """TensorFlow's name of the device to use, its memory taken only as needed.

    Parameters
    ----------
    wanted : str
        ``auto`` (the first GPU, else the CPU), ``cpu``, ``gpu`` or ``gpu:N``.

    Raises
    ------
    ConfigError
        If there is no such device.
    """
    gpus = tf.config.list_physical_devices("GPU")
    kind, _, number = wanted.lower().partition(":")
    if kind == "cpu" or (kind == "auto" and not gpus):
        # A GPU this process does not use must not lose memory to it.
        with contextlib.suppress(RuntimeError):  # TensorFlow has it already
            tf.config.set_visible_devices([], "GPU")
        return "/CPU:0"
    if kind not in ("auto", "gpu") or not (number.isdigit() or not number):
        msg = f"[worker] device: {wanted!r}; use auto, cpu, gpu or gpu:N"
        raise ConfigError(msg)
    index = int(number or 0)
    if index >= len(gpus):
        msg = f"[worker] device: {wanted!r}, but TensorFlow sees {len(gpus)} GPUs; use auto or cpu"
        raise ConfigError(msg)
    try:
        tf.config.set_visible_devices([gpus[index]], "GPU")
        tf.config.experimental.set_memory_growth(gpus[index], True)
    except RuntimeError:  # after a training in this process, TensorFlow has its GPUs already
        return f"/GPU:{index}"
    return "/GPU:0"


class FoldedUNet:
    """Tiles in, particle probabilities out, and depths where the network has them.

    Parameters
    ----------
    layers : sequence
        Weights of each convolution as ``(kernel, bias)`` or, where batch normalisation follows,
        ``(kernel, bias, gamma, beta, mean, variance)``, in the order of the graph.
    epsilon : float
        Of the batch normalisation.
    levels : int
        Number of poolings.
    device : str
        As `choose_device` gave it.
    mixed : bool
        Compute in bfloat16 on a CPU, float16 on a GPU; the last step stays in float32.
    architecture : str
        Which graph, see `nanostream.segmentation.unet`.
    """

    def __init__(
        self,
        layers: Sequence[Arrays],
        *,
        epsilon: float,
        levels: int = 4,
        device: str = "/CPU:0",
        mixed: bool = False,
        architecture: Architecture = "unet",
    ) -> None:
        self.levels = levels
        self._stride = STRIDES[architecture]
        self._residual = architecture in RESIDUAL
        self.with_depth = architecture in WITH_DEPTH
        self.step_px = self._stride * 2**levels
        self.margin_px = receptive_radius_px(levels, architecture)
        self._device = device
        self._dtype = (tf.float16 if "GPU" in device else tf.bfloat16) if mixed else tf.float32
        with tf.device(device):
            self._layers = [
                tuple(tf.constant(array, self._dtype) for array in fold(arrays, epsilon))
                for arrays in layers
            ]
        forward = self._forward if self._stride == 1 else self._forward_strided
        if self.with_depth:
            forward = self._forward_depth
        signature = [tf.TensorSpec((None, None, None, 1), tf.float32)]
        # Nothing in it branches on a tensor; AutoGraph would take 0.1 s of each start.
        self._compiled = tf.function(forward, input_signature=signature, autograph=False)

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability of the particle class, with a depth beside it if the network has one.

        Parameters
        ----------
        tiles : (N, H, W, 1) float32
            H and W multiples of ``step_px``.

        Returns
        -------
        (N, H, W) float32, or (N, H, W, 2): probability, depth.
        """
        with tf.device(self._device):
            result: NDArray[np.float32] = self._compiled(tiles).numpy()
        return result

    def _forward(self, tiles: Any) -> Any:
        """The paper's graph."""
        layers = iter(self._layers)
        x = tf.cast(tiles, self._dtype)
        skips = []
        for _ in range(self.levels):
            x = _convolve(x, next(layers))
            skips.append(tf.nn.relu(x))
            # The published graph pools before the ReLU.
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        x = self._bottom_and_up(x, skips, layers)
        kernel, bias = next(layers)
        x = tf.nn.conv2d(x, kernel[..., 1:] - kernel[..., :1], 1, "SAME")
        return _sigmoid(x[..., 0], bias)

    def _forward_strided(self, tiles: Any) -> Any:
        """Ours: the same at a part of the resolution."""
        layers = iter(self._layers)
        x = tf.nn.relu(_convolve(tf.cast(tiles, self._dtype), next(layers), stride=self._stride))
        skips = []
        for level in range(self.levels):
            x = tf.nn.relu(_convolve(x, next(layers)))
            if self._residual and level:
                x = _residual_block(x, layers)
            skips.append(x)
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        x = self._bottom_and_up(x, skips, layers)
        kernel, bias = next(layers)
        # (stride, stride, classes, C), each pixel of a block from the block's features alone.
        difference = kernel[:, :, 1] - kernel[:, :, 0]
        channels = tf.shape(difference)[-1]
        difference = tf.reshape(difference, (1, 1, self._stride**2, channels))
        difference = tf.transpose(difference, (0, 1, 3, 2))
        x = tf.nn.depth_to_space(tf.nn.conv2d(x, difference, 1, "SAME"), self._stride)
        return _sigmoid(x[..., 0], bias)

    def _forward_depth(self, tiles: Any) -> Any:
        """Two outputs, each from a logit of its own."""
        layers = iter(self._layers)
        x = tf.nn.relu(_convolve(tf.cast(tiles, self._dtype), next(layers), stride=self._stride))
        skips = []
        for level in range(self.levels):
            for _ in range(2 if level else 1):
                x = tf.nn.relu(_convolve(x, next(layers)))
            skips.append(x)
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        x = tf.nn.relu(_convolve(x, next(layers)))
        for level, skip in reversed(list(enumerate(skips))):
            x = _convolve(x, next(layers))
            x = tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)
            x = tf.concat([skip, x], axis=-1)
            for _ in range(2 if level else 1):
                x = tf.nn.relu(_convolve(x, next(layers)))
        kernel, bias = next(layers)
        x = tf.nn.depth_to_space(tf.nn.conv2d(x, _by_phase(kernel), 1, "SAME"), 2)
        return tf.sigmoid(tf.cast(x, tf.float32) + tf.cast(bias, tf.float32))

    def _bottom_and_up(self, x: Any, skips: list[Any], layers: Iterator[Any]) -> Any:
        for _ in range(2):
            x = tf.nn.relu(_convolve(x, next(layers)))
        for level, skip in reversed(list(enumerate(skips))):
            if self._residual:
                x = _convolve(x, next(layers))
            x = tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)
            x = tf.concat([skip, x], axis=-1)
            for _ in range(2):
                x = tf.nn.relu(_convolve(x, next(layers)))
            if self._residual and level:
                x = _residual_block(x, layers)
        return x


def _convolve(x: Any, layer: tuple[Any, Any], *, stride: int = 1) -> Any:
    kernel, bias = layer
    return tf.nn.bias_add(tf.nn.conv2d(x, kernel, stride, "SAME"), bias)


def _by_phase(kernel: Any) -> Any:
    """A transposed 4x4 convolution of stride 2 as a 3x3 one that makes the four phases.

    Of output ``2 i + a`` row ``ky`` of the kernel sees input ``i + (a + 1 - ky) / 2``: for phase 0
    rows 3 and 1 see ``i - 1`` and ``i``, for phase 1 rows 2 and 0 see ``i`` and ``i + 1``.
    """
    none = tf.zeros_like(kernel[0])
    rows = [
        tf.stack([kernel[3], kernel[1], none]),
        tf.stack([none, kernel[2], kernel[0]]),
    ]
    phases = []
    for row in rows:  # (3, 4, classes, C)
        nothing = tf.zeros_like(row[:, 0])
        phases.append(tf.stack([row[:, 3], row[:, 1], nothing], axis=1))
        phases.append(tf.stack([nothing, row[:, 2], row[:, 0]], axis=1))
    return tf.transpose(tf.concat(phases, axis=2), (0, 1, 3, 2))


def _residual_block(x: Any, layers: Iterator[Any]) -> Any:
    inside = tf.nn.relu(_convolve(x, next(layers)))
    kernel, bias = next(layers)
    inside = tf.nn.depthwise_conv2d(inside, kernel, (1, 1, 1, 1), "SAME")
    inside = tf.nn.relu(tf.nn.bias_add(inside, bias))
    return x + _convolve(inside, next(layers))


def _sigmoid(difference: Any, bias: Any) -> Any:
    """Softmax over two classes, from what the second has more than the first."""
    return tf.sigmoid(tf.cast(difference, tf.float32) + tf.cast(bias[1] - bias[0], tf.float32))


def fold(arrays: Arrays, epsilon: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernel and bias of a convolution that contains its batch normalisation.

    ``gamma * (k*x + b - mean) / sqrt(variance + epsilon) + beta`` is a convolution again, with
    the kernel scaled by ``gamma / sqrt(variance + epsilon)`` per output channel, which is the last
    but one of a depthwise kernel.
    """
    if len(arrays) == 2:
        return arrays[0], arrays[1]
    kernel, bias, gamma, beta, mean, variance = (np.asarray(a, np.float64) for a in arrays)
    scale = gamma / np.sqrt(variance + epsilon)
    scaled = kernel * (scale if kernel.shape[-1] == scale.size else scale[:, None])
    return scaled.astype(np.float32), ((bias - mean) * scale + beta).astype(np.float32)

"""The network for use, not for training: batch normalisation folded into the convolutions.

Equal in result to the Keras model it is made from (to float32 rounding), faster, and without
Keras on the path of a frame. The softmax over two classes becomes the sigmoid of their
difference. The graph is written once, for whatever engine computes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nanostream.segmentation.weights import RESIDUAL, STRIDES, WITH_DEPTH, Architecture

__all__ = ["Engine", "FoldedUNet", "Network", "Operations", "fold", "receptive_radius_px"]

Array = NDArray[np.float32]
Arrays = Sequence[Array]


class Operations(Protocol):
    """Arithmetic of an engine: each operation takes and gives features of its own kind.

    Kernels are (height, width, in, out), as TensorFlow has them; convolutions keep the size of the
    features, divided by their stride.
    """

    def convolve(self, x: Any, kernel: Array, bias: Array | None, *, stride: int = 1) -> Any:
        """Convolution with a bias, where there is one."""

    def convolve_each(self, x: Any, kernel: Array, bias: Array) -> Any:
        """Depthwise convolution: a kernel (height, width, in, 1)."""

    def relu(self, x: Any) -> Any:
        """Nothing below zero."""

    def pool(self, x: Any) -> Any:
        """Greatest of each block of 2x2."""

    def repeat(self, x: Any) -> Any:
        """Each feature four times, as a block of 2x2."""

    def join(self, first: Any, second: Any) -> Any:
        """Features of both, side by side."""

    def add(self, first: Any, second: Any) -> Any:
        """Sum of both."""

    def to_space(self, x: Any, block: int) -> Any:
        """Features as blocks of pixels: feature ``(row * block + column) * C + c`` is class c."""

    def sigmoid(self, x: Any, bias: Array) -> Any:
        """Probability of a logit and its bias, in float32."""


class Engine(Protocol):
    """A network that an engine has built on its device."""

    name: str
    version: str
    #: Name of the device that computes, as the engine calls it.
    device: str

    def __call__(self, tiles: Array) -> Array:
        """Outputs (N, H, W, K) of scaled tiles (N, H, W, 1)."""


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


class FoldedUNet:
    """A network's convolutions and the graph over them.

    Parameters
    ----------
    layers : sequence
        Weights of each convolution as ``(kernel, bias)`` or, where batch normalisation follows,
        ``(kernel, bias, gamma, beta, mean, variance)``, in the order of the graph.
    epsilon : float
        Of the batch normalisation.
    levels : int
        Number of poolings.
    architecture : str
        Which graph, see `nanostream.segmentation.unet`.
    """

    def __init__(
        self,
        layers: Sequence[Arrays],
        *,
        epsilon: float,
        levels: int = 4,
        architecture: Architecture = "unet",
    ) -> None:
        self.levels = levels
        self._stride = STRIDES[architecture]
        self._residual = architecture in RESIDUAL
        self.with_depth = architecture in WITH_DEPTH
        self.step_px = self._stride * 2**levels
        self.margin_px = receptive_radius_px(levels, architecture)
        self._layers = [fold(arrays, epsilon) for arrays in layers]

    def forward(self, ops: Operations, tiles: Any) -> Any:
        """Outputs of the graph for an engine's tiles: probability, and depth where there is one.

        Parameters
        ----------
        ops : Operations
            Of the engine.
        tiles
            What the engine has for an array (N, H, W, 1), H and W multiples of ``step_px``.
        """
        layers = iter(self._layers)
        if self.with_depth:
            return self._with_depth(ops, tiles, layers)
        if self._stride == 1:
            return self._papers(ops, tiles, layers)
        return self._strided(ops, tiles, layers)

    def _papers(self, ops: Operations, x: Any, layers: Iterator[tuple[Array, Array]]) -> Any:
        """The paper's graph."""
        skips = []
        for _ in range(self.levels):
            x = ops.convolve(x, *next(layers))
            skips.append(ops.relu(x))
            x = ops.pool(x)  # the published graph pools before the ReLU
        x = self._bottom_and_up(ops, x, skips, layers)
        kernel, bias = next(layers)
        x = ops.convolve(x, kernel[..., 1:] - kernel[..., :1], None)
        return ops.sigmoid(x, bias[1:] - bias[:1])

    def _strided(self, ops: Operations, x: Any, layers: Iterator[tuple[Array, Array]]) -> Any:
        """Ours: the same at a part of the resolution."""
        x = ops.relu(ops.convolve(x, *next(layers), stride=self._stride))
        skips = []
        for level in range(self.levels):
            x = ops.relu(ops.convolve(x, *next(layers)))
            if self._residual and level:
                x = _residual_block(ops, x, layers)
            skips.append(x)
            x = ops.pool(x)
        x = self._bottom_and_up(ops, x, skips, layers)
        kernel, bias = next(layers)
        # (stride, stride, classes, C), each pixel of a block from the block's features alone.
        difference = (kernel[:, :, 1] - kernel[:, :, 0]).reshape(1, 1, self._stride**2, -1)
        x = ops.convolve(x, difference.transpose(0, 1, 3, 2), None)
        return ops.sigmoid(ops.to_space(x, self._stride), bias[1:] - bias[:1])

    def _with_depth(self, ops: Operations, x: Any, layers: Iterator[tuple[Array, Array]]) -> Any:
        """Two outputs, each from a logit of its own."""
        x = ops.relu(ops.convolve(x, *next(layers), stride=self._stride))
        skips = []
        for level in range(self.levels):
            for _ in range(2 if level else 1):
                x = ops.relu(ops.convolve(x, *next(layers)))
            skips.append(x)
            x = ops.pool(x)
        x = ops.relu(ops.convolve(x, *next(layers)))
        for level, skip in reversed(list(enumerate(skips))):
            x = ops.join(skip, ops.repeat(ops.convolve(x, *next(layers))))
            for _ in range(2 if level else 1):
                x = ops.relu(ops.convolve(x, *next(layers)))
        kernel, bias = next(layers)
        return ops.sigmoid(ops.to_space(ops.convolve(x, _by_phase(kernel), None), 2), bias)

    def _bottom_and_up(
        self, ops: Operations, x: Any, skips: list[Any], layers: Iterator[tuple[Array, Array]]
    ) -> Any:
        for _ in range(2):
            x = ops.relu(ops.convolve(x, *next(layers)))
        for level, skip in reversed(list(enumerate(skips))):
            if self._residual:
                x = ops.convolve(x, *next(layers))
            x = ops.join(skip, ops.repeat(x))
            for _ in range(2):
                x = ops.relu(ops.convolve(x, *next(layers)))
            if self._residual and level:
                x = _residual_block(ops, x, layers)
        return x


class Network:
    """Tiles in, particle probabilities out, and depths where the network has them.

    Parameters
    ----------
    graph : FoldedUNet
        Of the model.
    engine : Engine
        That has built it.
    """

    def __init__(self, graph: FoldedUNet, engine: Engine) -> None:
        self.margin_px, self.step_px = graph.margin_px, graph.step_px
        self.with_depth = graph.with_depth
        self.engine = engine

    def __call__(self, tiles: Array) -> Array:
        """Probability of the particle class, with a depth beside it if the network has one.

        Parameters
        ----------
        tiles : (N, H, W, 1) float32
            H and W multiples of ``step_px``.

        Returns
        -------
        (N, H, W) float32, or (N, H, W, 2): probability, depth.
        """
        outputs = self.engine(tiles)
        return outputs if self.with_depth else outputs[..., 0]


def _by_phase(kernel: Array) -> Array:
    """A transposed 4x4 convolution of stride 2 as a 3x3 one that makes the four phases.

    Of output ``2 i + a`` row ``ky`` of the kernel sees input ``i + (a + 1 - ky) / 2``: for phase 0
    rows 3 and 1 see ``i - 1`` and ``i``, for phase 1 rows 2 and 0 see ``i`` and ``i + 1``.
    """
    classes, channels = kernel.shape[2:]
    phases = np.zeros((3, 3, 2, 2, classes, channels), np.float32)
    seen = (((0, 3), (1, 1)), ((1, 2), (2, 0)))  # of each phase: which of three is which of four
    for a, rows in enumerate(seen):
        for b, columns in enumerate(seen):
            for row, of_row in rows:
                for column, of_column in columns:
                    phases[row, column, a, b] = kernel[of_row, of_column]
    return phases.reshape(3, 3, 4 * classes, channels).transpose(0, 1, 3, 2)


def _residual_block(ops: Operations, x: Any, layers: Iterator[tuple[Array, Array]]) -> Any:
    inside = ops.relu(ops.convolve(x, *next(layers)))
    inside = ops.relu(ops.convolve_each(inside, *next(layers)))
    return ops.add(x, ops.convolve(inside, *next(layers)))


def fold(arrays: Arrays, epsilon: float) -> tuple[Array, Array]:
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

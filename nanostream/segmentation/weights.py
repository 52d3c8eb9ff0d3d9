"""Weight files of the U-Net: Keras 2 and Keras 3 in, arrays in the order of the graph out.

Without Keras: a worker that predicts need not import it, which is a third of its start. Nothing in
a file is executed: a ``.keras`` archive is read as a zip of arrays, its configuration is ignored.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from nanostream.errors import ModelError, reason_of

__all__ = [
    "BATCH_NORM_EPSILON",
    "DEPTH_FEATURES",
    "EXPANSION",
    "PAPER_FEATURES",
    "QUARTER_FEATURES",
    "RESIDUAL",
    "STRIDES",
    "WITH_DEPTH",
    "Architecture",
    "Arrays",
    "Layer",
    "multiply_adds_per_px",
    "read_layers",
    "read_weights",
]

Architecture = Literal["unet", "unet-quarter", "unet-quarter-residual", "unet-depth"]
"""The paper's network, or ours, see `nanostream.segmentation.unet`."""

STRIDES: dict[Architecture, int] = {
    "unet": 1,
    "unet-quarter": 4,
    "unet-quarter-residual": 4,
    "unet-depth": 2,
}
"""Pixels of the micrograph, along a side, for each of the network's finest features."""

RESIDUAL: frozenset[Architecture] = frozenset({"unet-quarter-residual"})
"""Those with residual blocks below the finest level, and half as many features coming up."""

WITH_DEPTH: frozenset[Architecture] = frozenset({"unet-depth"})
"""Those with a second output, the depth of a pixel in its particle.

They have one convolution at the finest level and two below it, each way, and one at the bottom.
"""

EXPANSION = 4
"""How many times more features a residual block has inside."""

PAPER_FEATURES: tuple[int, ...] = (4, 8, 16, 32)

QUARTER_FEATURES: tuple[int, ...] = (40, 48, 64)
"""Of the shipped network at a quarter of the resolution."""

DEPTH_FEATURES: tuple[int, ...] = (16, 40, 64, 96, 112)
"""Of the network with two outputs, at 1/2, 1/4, 1/8, 1/16 and 1/32 of the resolution."""

#: As stored in the configuration of the published networks (Keras' own default is 1e-3).
BATCH_NORM_EPSILON = 1e-4

#: What h5py, zipfile and NumPy raise for odd and rotten files.
_DAMAGE = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)

Arrays = list[NDArray[np.float32]]
_Stored = tuple[str, Arrays]


@dataclass(frozen=True)
class Layer:
    """A layer with weights, as a network of an architecture has it.

    Attributes
    ----------
    kind
        Keras' name of its class, as in a Keras 3 file: ``conv2d``, ``depthwise_conv2d``,
        ``conv2d_transpose`` or ``batch_normalization``.
    shapes
        Of its arrays.
    """

    name: str
    kind: str
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _Convolution:
    """A convolution of the graph, at a number of poolings, and whether its features are scaled."""

    kernel: tuple[int, int, int, int]
    depth: int
    kind: str = "conv2d"
    normalised: bool = True

    @property
    def channels(self) -> int:
        """Features that it makes."""
        return self.kernel[2] if self.kind != "conv2d" else self.kernel[3]


def read_weights(
    path: Path,
    features: Sequence[int] = PAPER_FEATURES,
    *,
    architecture: Architecture = "unet",
) -> list[Arrays]:
    """Arrays of each convolution and of the batch normalisation after it, in graph order.

    Parameters
    ----------
    path
        A Keras 2 ``save_weights`` file (.h5, as published with the paper), a Keras 3
        ``.weights.h5``, or a Keras 3 ``.keras`` archive.
    features, architecture
        Of the network that they are for, see `nanostream.segmentation.unet.build_network`.

    Returns
    -------
    list
        ``[kernel, bias, gamma, beta, mean, variance]`` for each convolution, ``[kernel, bias]``
        for the last and for those that halve the features that come up.

    Raises
    ------
    ModelError
        If the file cannot be read or does not fit; the message names the first layer that does
        not.

    Notes
    -----
    Keras' own reader skips or mixes up layers whose names differ and names none of them. Here
    the layers are matched in the order of the graph and by the shapes of their arrays.
    """
    groups: list[Arrays] = []
    for arrays in read_layers(path, _expected(features, architecture)):
        if arrays[0].ndim == 4:
            groups.append([])
        groups[-1].extend(arrays)
    return groups


def read_layers(path: Path, layers: Sequence[Layer]) -> list[Arrays]:
    """Arrays of each layer of a network from a file.

    Parameters
    ----------
    path
        As for `read_weights`.
    layers
        With weights, in the order of the graph.

    Returns
    -------
    list
        Of arrays, float32, for each layer.

    Raises
    ------
    ModelError
        As `read_weights`.
    """
    path = Path(path)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member:
                stored = _read_stored(member, layers)
        else:
            with path.open("rb") as stream:
                stored = _read_stored(stream, layers)
    except _DAMAGE as error:
        raise ModelError(
            f"{path}: cannot be read as Keras weights ({reason_of(error)}); expected a Keras 2 "
            ".h5, a Keras 3 .weights.h5 or a .keras file"
        ) from error
    _check_fit(layers, stored, path)
    return [arrays for _, arrays in stored]


def multiply_adds_per_px(features: Sequence[int], architecture: Architecture = "unet") -> float:
    """Multiply-adds of the convolutions for each pixel of the micrograph.

    Examples
    --------
    >>> multiply_adds_per_px(PAPER_FEATURES)
    2492.0
    """
    stride = STRIDES[architecture]
    return sum(
        math.prod(convolution.kernel) / float(stride**2 * 4**convolution.depth)
        for convolution in _graph(features, architecture)
    )


def _graph(features: Sequence[int], architecture: Architecture) -> list[_Convolution]:
    """Every convolution, in the order of the graph."""
    stride, residual = STRIDES[architecture], architecture in RESIDUAL
    with_depth = architecture in WITH_DEPTH
    graph: list[_Convolution] = []

    def add(before: int, after: int, depth: int, side: int = 3) -> None:
        graph.append(_Convolution((side, side, before, after), depth))

    def add_block(channels: int, depth: int) -> None:
        inside = EXPANSION * channels
        add(channels, inside, depth, side=1)
        graph.append(_Convolution((3, 3, inside, 1), depth, "depthwise_conv2d"))
        add(inside, channels, depth, side=1)

    channels = 1
    if stride > 1:
        add(1, features[0], 0, side=stride + 4)
        channels = features[0]
    for depth, after in enumerate(features):
        add(channels, after, depth)
        channels = after
        if with_depth and depth:
            add(channels, channels, depth)
        if residual and depth:
            add_block(channels, depth)
    for _ in range(1 if with_depth else 2):
        add(channels, channels, len(features))
    for depth, after in reversed(list(enumerate(features))):
        if residual or with_depth:
            half = (1, 1, channels, channels // 2)
            graph.append(_Convolution(half, depth + 1, normalised=False))
            channels //= 2
        add(channels + after, after, depth)  # the skip connection comes beside it
        if depth or not with_depth:
            add(after, after, depth)
        channels = after
        if residual and depth:
            add_block(channels, depth)
    side = 2 * stride if with_depth else stride
    last = (side, side, 2, channels) if stride > 1 else (1, 1, channels, 2)
    kind = "conv2d_transpose" if stride > 1 else "conv2d"
    return [*graph, _Convolution(last, 0, kind, normalised=False)]


def _expected(features: Sequence[int], architecture: Architecture) -> list[Layer]:
    """Each layer with weights, in the order of the graph."""
    layers: list[Layer] = []
    graph = _graph(features, architecture)
    for number, convolution in enumerate(graph, start=1):
        name = f"conv2d_{number}" if number < len(graph) else "final_layer"
        after = (convolution.channels,)
        layers.append(Layer(name, convolution.kind, (convolution.kernel, after)))
        if convolution.normalised:
            norm = f"batch_normalization_{number}"
            layers.append(Layer(norm, "batch_normalization", (after,) * 4))
    return layers


def _check_fit(layers: Sequence[Layer], stored: Sequence[_Stored], path: Path) -> None:
    for layer, (name, arrays) in zip(layers, stored, strict=False):
        found = tuple(array.shape for array in arrays)
        if layer.shapes != found:
            raise ModelError(
                f"{path}: layer {layer.name} does not fit: the network has arrays of shape "
                f"{list(layer.shapes)}, the file's layer {name} has {list(found)}; were other "
                "features used?"
            )
        for array in arrays:
            if not np.isfinite(array).all():
                raise ModelError(f"{path}: layer {name} has weights that are not finite")
    if len(layers) > len(stored):
        raise ModelError(
            f"{path}: layer {layers[len(stored)].name} is missing: the network has {len(layers)} "
            f"layers with weights, the file {len(stored)}"
        )
    if len(stored) > len(layers):
        raise ModelError(
            f"{path}: layer {stored[len(layers)][0]} has no place: the network has {len(layers)} "
            f"layers with weights, the file {len(stored)}"
        )


def _read_stored(stream: Any, layers: Sequence[Layer]) -> list[_Stored]:
    """Layers with weights in the order of the graph, from an open HDF5 file of either format."""
    with h5py.File(stream, "r") as file:
        if "layer_names" in file.attrs:
            return _read_keras2(file)
        if "model_weights" in file:  # a whole Keras 2 model, not only its weights
            return _read_keras2(file["model_weights"])
        if "layers" in file:
            return _read_keras3(file["layers"], [layer.kind for layer in layers])
        raise ValueError(f"neither layer_names nor layers in it, but {sorted(file)}")


def _read_keras2(group: Any) -> list[_Stored]:
    layers = []
    for name in map(_text, group.attrs["layer_names"]):
        names = [_text(weight) for weight in group[name].attrs["weight_names"]]
        if names:
            layers.append((name, [np.asarray(group[name][weight], np.float32) for weight in names]))
    return layers


def _read_keras3(group: Any, kinds: Sequence[str]) -> list[_Stored]:
    """Layers in the order of their kinds, then those that are too many."""

    # Keras 3 names a layer's group by its class and a running number in the order of the graph
    # (conv2d, conv2d_1, ...), whatever the layer's own name; HDF5 lists them alphabetically.
    def numbered(kind: str) -> list[_Stored]:
        found = []
        for name in group:
            stem, _, number = name.rpartition("_")
            order = 0 if name == kind else int(number) if stem == kind and number.isdigit() else -1
            arrays = group[name].get("vars")
            if order >= 0 and arrays is not None and len(arrays):
                ordered = sorted(arrays, key=int)
                found.append((order, name, [np.asarray(arrays[k], np.float32) for k in ordered]))
        return [(name, arrays) for _, name, arrays in sorted(found, key=lambda item: item[0])]

    left = {
        kind: numbered(kind)
        for kind in ("conv2d", "depthwise_conv2d", "batch_normalization", "conv2d_transpose")
    }
    layers = [left[kind].pop(0) for kind in kinds if left[kind]]
    return [*layers, *(layer for rest in left.values() for layer in rest)]


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name

"""Weight files of the U-Net: Keras 2 and Keras 3 in, arrays in the order of the graph out.

Without Keras: a worker that predicts need not import it, which is a third of its start. Nothing in
a file is executed: a ``.keras`` archive is read as a zip of arrays, its configuration is ignored.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from nanostream.errors import ModelError

__all__ = [
    "BATCH_NORM_EPSILON",
    "PAPER_FEATURES",
    "QUARTER_FEATURES",
    "STRIDES",
    "Architecture",
    "Arrays",
    "multiply_adds_per_px",
    "read_weights",
]

Architecture = Literal["unet", "unet-half", "unet-quarter"]
"""The paper's network, or ours, see `nanostream.segmentation.unet`."""

STRIDES: dict[Architecture, int] = {"unet": 1, "unet-half": 2, "unet-quarter": 4}
"""Pixels of the micrograph, along a side, for each of the network's finest features."""

PAPER_FEATURES: tuple[int, ...] = (4, 8, 16, 32)

QUARTER_FEATURES: tuple[int, ...] = (40, 48, 64)
"""Of the shipped network at a quarter of the resolution."""

#: As stored in the configuration of the published networks (Keras' own default is 1e-3).
BATCH_NORM_EPSILON = 1e-4

Arrays = list[NDArray[np.float32]]
_Layer = tuple[str, Arrays]


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
        for the last.

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
    path = Path(path)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member:
                stored = _read_layers(member)
        else:
            with path.open("rb") as stream:
                stored = _read_layers(stream)
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(
            f"{path}: cannot be read as Keras weights ({error}); expected a Keras 2 .h5, a "
            "Keras 3 .weights.h5 or a .keras file"
        ) from error
    _check_fit(_expected(features, architecture), stored, path)
    groups: list[Arrays] = []
    for _, arrays in stored:
        if arrays[0].ndim == 4:
            groups.append([])
        groups[-1].extend(arrays)
    return groups


def multiply_adds_per_px(features: Sequence[int], architecture: Architecture = "unet") -> float:
    """Multiply-adds of the convolutions for each pixel of the micrograph.

    Examples
    --------
    >>> multiply_adds_per_px(PAPER_FEATURES)
    2492.0
    """
    levels = len(features)
    stride = STRIDES[architecture]
    up = [level for level in reversed(range(levels)) for _ in range(2)]
    depths = [*([0] if stride > 1 else []), *range(levels), levels, levels, *up, 0]
    kernels = [shapes[0] for _, shapes in _expected(features, architecture) if len(shapes) == 2]
    return sum(
        math.prod(kernel) / float(stride**2 * 4**depth)
        for kernel, depth in zip(kernels, depths, strict=True)
    )


def _expected(
    features: Sequence[int], architecture: Architecture
) -> list[tuple[str, list[tuple[int, ...]]]]:
    """Name and shapes of each layer with weights, in the order of the graph."""
    stride = STRIDES[architecture]
    stem = [features[0]] if stride > 1 else []
    decoder = [c for channels in reversed(features) for c in (channels, channels)]
    channels = (1, *stem, *features, features[-1], features[-1], *decoder)
    inputs = list(channels[:-1])
    for level, skip in enumerate(reversed(features)):
        # The skip connection comes beside it.
        inputs[len(stem) + len(features) + 2 + 2 * level] += skip
    layers: list[tuple[str, list[tuple[int, ...]]]] = []
    for number, (before, after) in enumerate(zip(inputs, channels[1:], strict=True), start=1):
        side = stride + 4 if stem and number == 1 else 3
        layers.append((f"conv2d_{number}", [(side, side, before, after), (after,)]))
        layers.append((f"batch_normalization_{number}", [(after,)] * 4))
    final = (stride, stride, 2, channels[-1]) if stem else (1, 1, channels[-1], 2)
    return [*layers, ("final_layer", [final, (2,)])]


def _check_fit(
    layers: Sequence[tuple[str, list[tuple[int, ...]]]], stored: Sequence[_Layer], path: Path
) -> None:
    for (layer, expected), (name, arrays) in zip(layers, stored, strict=False):
        found = [array.shape for array in arrays]
        if expected != found:
            raise ModelError(
                f"{path}: layer {layer} does not fit: the network has arrays of shape "
                f"{expected}, the file's layer {name} has {found}; were other features used?"
            )
        for array in arrays:
            if not np.isfinite(array).all():
                raise ModelError(f"{path}: layer {name} has weights that are not finite")
    if len(layers) > len(stored):
        raise ModelError(
            f"{path}: layer {layers[len(stored)][0]} is missing: the network has {len(layers)} "
            f"layers with weights, the file {len(stored)}"
        )
    if len(stored) > len(layers):
        raise ModelError(
            f"{path}: layer {stored[len(layers)][0]} has no place: the network has {len(layers)} "
            f"layers with weights, the file {len(stored)}"
        )


def _read_layers(stream: Any) -> list[_Layer]:
    """Layers with weights in the order of the graph, from an open HDF5 file of either format."""
    with h5py.File(stream, "r") as file:
        if "layer_names" in file.attrs:
            return _read_keras2(file)
        if "model_weights" in file:  # a whole Keras 2 model, not only its weights
            return _read_keras2(file["model_weights"])
        if "layers" in file:
            return _read_keras3(file["layers"])
        raise ValueError(f"neither layer_names nor layers in it, but {sorted(file)}")


def _read_keras2(group: Any) -> list[_Layer]:
    layers = []
    for name in map(_text, group.attrs["layer_names"]):
        names = [_text(weight) for weight in group[name].attrs["weight_names"]]
        if names:
            layers.append((name, [np.asarray(group[name][weight], np.float32) for weight in names]))
    return layers


def _read_keras3(group: Any) -> list[_Layer]:
    # Keras 3 names a layer's group by its class and a running number in the order of the graph
    # (conv2d, conv2d_1, ...), whatever the layer's own name; HDF5 lists them alphabetically.
    def numbered(kind: str) -> list[_Layer]:
        found = []
        for name in group:
            stem, _, number = name.rpartition("_")
            order = 0 if name == kind else int(number) if stem == kind and number.isdigit() else -1
            arrays = group[name].get("vars")
            if order >= 0 and arrays is not None and len(arrays):
                ordered = sorted(arrays, key=int)
                found.append((order, name, [np.asarray(arrays[k], np.float32) for k in ordered]))
        return [(name, arrays) for _, name, arrays in sorted(found, key=lambda item: item[0])]

    convolutions, norms = numbered("conv2d"), numbered("batch_normalization")
    # Every convolution but the last, which may be a transposed one, is followed by its batch
    # normalisation.
    layers: list[_Layer] = []
    for index, convolution in enumerate(convolutions):
        layers.append(convolution)
        layers.extend(norms[index : index + 1])
    layers.extend(norms[len(convolutions) :])
    return layers + numbered("conv2d_transpose")


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name

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

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from numpy.typing import NDArray

from nanostream.errors import ModelError

PAPER_FEATURES: tuple[int, ...] = (4, 8, 16, 32)

# As stored in the configuration of the published networks (Keras' own default is 1e-3).
BATCH_NORM_EPSILON = 1e-4

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
        A Keras 2 ``save_weights`` file (.h5, as published with the paper), a Keras 3
        ``.weights.h5``, or a Keras 3 ``.keras`` archive.

    Raises
    ------
    nanostream.errors.ModelError
        If the file cannot be read or does not fit; the message names the first layer that does
        not. The model is then unchanged.

    Notes
    -----
    Keras' own reader skips or mixes up layers whose names differ and names none of them. Here
    the layers are matched in the order of the graph and by the shapes of their arrays. Nothing
    in a file is executed: a ``.keras`` archive is read as a zip of arrays, its configuration is
    ignored.
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
    _check_fit(model, stored, path)
    for layer, (_, arrays) in zip(_weighted_layers(model), stored, strict=True):
        layer.set_weights(arrays)


def convolutions(model: keras.Model) -> list[list[NDArray[np.float32]]]:
    """Arrays of each convolution and of the batch normalisation after it, in graph order.

    Returns
    -------
    list
        ``[kernel, bias, gamma, beta, mean, variance]`` for each convolution, ``[kernel, bias]``
        for the last.
    """
    groups: list[list[NDArray[np.float32]]] = []
    for layer in _weighted_layers(model):
        if isinstance(layer, keras.layers.Conv2D):
            groups.append([])
        groups[-1].extend(layer.get_weights())
    return groups


_StoredLayer = tuple[str, list[NDArray[np.float32]]]


def _weighted_layers(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if layer.weights]


def _check_fit(model: keras.Model, stored: Sequence[_StoredLayer], path: Path) -> None:
    layers = _weighted_layers(model)
    for layer, (name, arrays) in zip(layers, stored, strict=False):
        expected = [tuple(weight.shape) for weight in layer.weights]
        found = [array.shape for array in arrays]
        if expected != found:
            raise ModelError(
                f"{path}: layer {layer.name} does not fit: the network has arrays of shape "
                f"{expected}, the file's layer {name} has {found}; were other features used?"
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


def _read_layers(stream: Any) -> list[_StoredLayer]:
    """Layers with weights in the order of the graph, from an open HDF5 file of either format."""
    with h5py.File(stream, "r") as file:
        if "layer_names" in file.attrs:
            return _read_keras2(file)
        if "model_weights" in file:  # a whole Keras 2 model, not only its weights
            return _read_keras2(file["model_weights"])
        if "layers" in file:
            return _read_keras3(file["layers"])
        raise ValueError(f"neither layer_names nor layers in it, but {sorted(file)}")


def _read_keras2(group: Any) -> list[_StoredLayer]:
    layers = []
    for name in map(_text, group.attrs["layer_names"]):
        names = [_text(weight) for weight in group[name].attrs["weight_names"]]
        if names:
            layers.append((name, [np.asarray(group[name][weight], np.float32) for weight in names]))
    return layers


def _read_keras3(group: Any) -> list[_StoredLayer]:
    # Keras 3 names a layer's group by its class and a running number in the order of the graph
    # (conv2d, conv2d_1, ...), whatever the layer's own name; HDF5 lists them alphabetically.
    def numbered(kind: str) -> list[_StoredLayer]:
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
    # Every convolution but the last is followed by its batch normalisation.
    layers: list[_StoredLayer] = []
    for index, convolution in enumerate(convolutions):
        layers.append(convolution)
        layers.extend(norms[index : index + 1])
    layers.extend(norms[len(convolutions) :])
    return layers


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name

"""A network with residual blocks that goes on from one without.

Chen, T., Goodfellow, I. & Shlens, J. Net2Net: accelerating learning via knowledge transfer, ICLR
(2016), https://arxiv.org/abs/1511.05641: a larger network need not begin anew if it begins as the
same function. The blocks are that; half as many features coming up are it nearly.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from nanostream.segmentation.unet import build_network, groups
from nanostream.segmentation.weights import Arrays, read_weights

__all__ = ["grown_network"]


def grown_network(path: Path, features: Sequence[int]) -> keras.Model:
    """A ``unet-quarter-residual`` that does nearly what a ``unet-quarter`` does.

    Parameters
    ----------
    path
        Weights of the ``unet-quarter``.
    features
        Of both.

    Returns
    -------
    keras.Model
        Its blocks add nothing yet. Of what comes up from below, the half that matters least to
        the kernel after it is missing.

    Raises
    ------
    ModelError
        If the weights cannot be read or are of another network.
    """
    network = build_network("unet-quarter-residual", features)
    places = iter(groups(network))
    stored = iter(read_weights(path, features, architecture="unet-quarter"))

    def put(arrays: Arrays) -> None:
        first, *norm = next(places)
        first.set_weights(arrays[:2])
        for layer in norm:
            layer.set_weights(arrays[2:])

    def pass_block(level: int) -> None:
        for _ in range(3 if level else 0):
            next(places)

    put(next(stored))
    for level in range(len(features)):
        put(next(stored))
        pass_block(level)
    for _ in range(2):
        put(next(stored))
    for level, skip in reversed(list(enumerate(features))):
        kernel, *others = next(stored)
        half, rest = halved(kernel[:, :, skip:])
        put([half, np.zeros(half.shape[-1], np.float32)])
        put([np.concatenate([kernel[:, :, :skip], rest], axis=2), *others])
        put(next(stored))
        pass_block(level)
    put(next(stored))
    return network


def halved(kernel: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A 1x1 kernel to half as many features, and one of theirs, which together are nearly this.

    Parameters
    ----------
    kernel
        (3, 3, C, N).

    Returns
    -------
    tuple
        (1, 1, C, C // 2) and (3, 3, C // 2, N), by the greatest singular values.
    """
    height, width, before, after = kernel.shape
    matrix = kernel.transpose(2, 0, 1, 3).reshape(before, -1)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    kept = before // 2
    root = np.sqrt(values[:kept])
    half = (left[:, :kept] * root)[None, None]
    rest = (root[:, None] * right[:kept]).reshape(kept, height, width, after)
    return half.astype(np.float32), rest.transpose(1, 2, 0, 3).astype(np.float32)

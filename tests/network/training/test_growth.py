"""A larger network goes on where a smaller one stood."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the extra [worker] is not installed")

from nanostream.errors import ModelError
from nanostream.segmentation.unet import build_network
from nanostream.training.growth import grown_network, halved

FEATURES = (8, 12)


def smaller(path: Path, *, rank: int | None) -> np.ndarray:
    """Save a network whose kernels after what comes up have this rank; its answer to noise."""
    rng = np.random.default_rng(1)
    model = build_network("unet-quarter", FEATURES)
    for layer in model.layers:
        arrays = [
            rng.uniform(0.5, 1.5, array.shape)
            if array.ndim == 1
            else rng.normal(0, 1 / np.sqrt(np.prod(array.shape[:3])), array.shape)
            for array in layer.get_weights()
        ]
        skip = {20: 8, 24: 12}.get(arrays[0].shape[2]) if arrays and arrays[0].ndim == 4 else None
        if skip and rank:
            up = arrays[0][:, :, skip:].transpose(2, 0, 1, 3)
            left, values, right = np.linalg.svd(up.reshape(len(up), -1), full_matrices=False)
            low = (left[:, :rank] * values[:rank]) @ right[:rank]
            arrays[0][:, :, skip:] = low.reshape(up.shape).transpose(1, 2, 0, 3)
        layer.set_weights(arrays)
    model.save_weights(path)
    return model(noise()).numpy()


def noise() -> np.ndarray:
    return np.random.default_rng(2).normal(size=(1, 64, 96, 1)).astype(np.float32)


def test_it_is_the_same_function_where_half_of_what_comes_up_is_enough(tmp_path: Path) -> None:
    before = smaller(tmp_path / "a.weights.h5", rank=6)
    assert before.std() > 0.01

    grown = grown_network(tmp_path / "a.weights.h5", FEATURES)

    np.testing.assert_allclose(grown(noise()).numpy(), before, atol=1e-4)


def test_elsewhere_it_is_nearly_the_same(tmp_path: Path) -> None:
    before = smaller(tmp_path / "a.weights.h5", rank=None)

    grown = grown_network(tmp_path / "a.weights.h5", FEATURES)

    difference = np.abs(grown(noise()).numpy() - before)
    assert difference.max() > 1e-4
    assert difference.mean() < 0.5 * before.std()


def test_half_the_features_keep_what_matters_most() -> None:
    kernel = np.random.default_rng(3).normal(size=(3, 3, 12, 8)).astype(np.float32)
    kernel[:, :, 6:] = 0.01 * kernel[:, :, 6:]

    half, rest = halved(kernel)

    assert half.shape == (1, 1, 12, 6)
    assert rest.shape == (3, 3, 6, 8)
    together = np.einsum("cr,abrn->abcn", half[0, 0], rest)
    assert np.abs(together - kernel).max() < 0.1


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    build_network("unet-half", FEATURES).save_weights(tmp_path / "b.weights.h5")

    with pytest.raises(ModelError, match="conv2d_1 does not fit"):
        grown_network(tmp_path / "b.weights.h5", FEATURES)

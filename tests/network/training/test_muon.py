"""The optimizer of the shipped models' recipe."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the extra [worker] is not installed")

import keras
import tensorflow as tf

from nanostream.training.muon import Muon, orthogonalized


@pytest.mark.parametrize("shape", [(90, 16), (16, 90), (20, 20)])
def test_singular_vectors_stay_and_singular_values_become_alike(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    u, _, v = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    matrix = (u * np.geomspace(1.0, 0.05, len(v))) @ v

    found = keras.ops.convert_to_numpy(orthogonalized(matrix.astype(np.float32)))

    mixed = u.T @ found @ v.T
    assert np.abs(mixed - np.diag(np.diag(mixed))).max() < 1e-3
    assert 0.6 < np.diag(mixed).min() <= np.diag(mixed).max() < 1.3


def test_inner_kernels_are_stepped_in_all_directions_and_the_others_as_adamw_does() -> None:
    rng = np.random.default_rng(1)
    shapes = {"first": (6, 6, 1, 8), "inner": (3, 3, 8, 8), "last": (2, 2, 2, 8), "bias": (8,)}
    gradients = [rng.normal(size=shape).astype(np.float32) for shape in shapes.values()]
    gradients[1] *= np.geomspace(1.0, 0.01, 8, dtype=np.float32)  # some outputs hardly matter

    def stepped(kind: type[keras.optimizers.Optimizer]) -> list[np.ndarray]:
        variables = [keras.Variable(np.zeros(shape, np.float32)) for shape in shapes.values()]
        optimizer = kind(learning_rate=0.1, weight_decay=0.0)
        optimizer.build(variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return [keras.ops.convert_to_numpy(variable) for variable in variables]

    muon, adamw = stepped(Muon), stepped(keras.optimizers.AdamW)

    for number in (0, 2, 3):
        np.testing.assert_allclose(muon[number], adamw[number], rtol=1e-6)
    inner = muon[1].reshape(-1, 8)
    assert (inner * gradients[1].reshape(-1, 8)).sum() < 0.0
    singular = np.linalg.svd(inner, compute_uv=False)
    assert singular.min() > 0.5 * singular.max()
    # As large as a step of AdamW is on the average of a training, 0.2 of the learning rate.
    assert np.sqrt(np.mean(inner**2)) == pytest.approx(0.02, rel=0.25)


def test_momenta_come_back_from_a_checkpoint(tmp_path: Path) -> None:
    def made() -> tuple[Muon, tf.train.Checkpoint]:
        kernel = keras.Variable(np.zeros((3, 3, 4, 4), np.float32))
        optimizer = Muon(learning_rate=0.1)
        optimizer.build([kernel])
        return optimizer, tf.train.Checkpoint(optimizer=optimizer)

    optimizer, checkpoint = made()
    gradient = np.random.default_rng(0).normal(size=(3, 3, 4, 4)).astype(np.float32)
    optimizer.apply([keras.ops.convert_to_tensor(gradient)])
    again, empty = made()
    empty.restore(checkpoint.save(str(tmp_path / "state")))

    restored: np.ndarray = again.kernel_momenta[0].numpy()
    np.testing.assert_allclose(restored, gradient)

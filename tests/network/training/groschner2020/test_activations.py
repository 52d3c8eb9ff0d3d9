"""Activation maps: they are what the network goes on with, layer by layer."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the extra [worker] is not installed")

import keras

from nanostream.segmentation.unet import build_unet
from nanostream.training.groschner2020 import activations


@pytest.fixture(autouse=True)
def _seeded() -> None:
    keras.utils.set_random_seed(0)


def image(size: int = 64) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(size, 2 * size)).astype(np.float32)


def test_each_layer_has_its_own_resolution_and_number_of_maps() -> None:
    maps = activations.activation_maps(build_unet(), image())

    assert {name: found.shape for name, found in maps.items()} == {
        "activation_1": (64, 128, 4),
        "concatenate_1": (8, 16, 64),  # 32 of the skip and 32 from below
        "activation_14": (64, 128, 4),
    }
    assert list(maps) == list(activations.LAYERS)
    assert all(found.dtype == np.float32 for found in maps.values())


def test_the_last_maps_are_what_the_answer_is_made_of() -> None:
    model = build_unet()
    last = activations.activation_maps(model, image(), ["activation_14"])["activation_14"]
    kernel, bias = model.get_layer("final_layer").get_weights()

    logits = last @ kernel[0, 0] + bias
    particle = 1 / (1 + np.exp(logits[..., 0] - logits[..., 1]))

    answer = model(image()[None, ..., None], training=False)[0, ..., 1]
    np.testing.assert_allclose(particle, answer, atol=1e-5)


def test_dropout_is_off() -> None:
    model = build_unet(dropout=0.9)
    one, two = (
        activations.activation_maps(model, image(), ["activation_14"])["activation_14"]
        for _ in range(2)
    )

    np.testing.assert_array_equal(one, two)


def test_a_layer_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="has no layer nonsense; it has input_1, conv2d_1"):
        activations.activation_maps(build_unet(), image(), ["nonsense"])


@pytest.mark.parametrize("shape", [(60, 64), (64, 64, 1), (0, 16)])
def test_an_image_that_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        activations.activation_maps(build_unet(), np.zeros(shape, np.float32))


def test_dead_maps_are_left_out_and_the_liveliest_comes_first() -> None:
    maps = np.zeros((4, 4, 3), np.float32)
    maps[0, 0, 2], maps[0, 0, 0] = 5.0, 1.0

    assert activations.most_varied(maps, 3).tolist() == [2, 0]
    assert activations.most_varied(maps, 1).tolist() == [2]


def test_a_figure_is_drawn_even_of_dead_layers(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    maps = activations.activation_maps(build_unet(), image())
    maps["activation_1"] = np.zeros_like(maps["activation_1"])
    label = np.zeros((64, 128), np.bool_)
    label[:20] = True

    activations.draw_activations(image(), maps, tmp_path / "maps.png", label=label)

    assert (tmp_path / "maps.png").stat().st_size > 5000

"""The mean answer over eight views."""

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the extra [worker] is not installed")

from nanostream.segmentation.normalization import normalize
from nanostream.segmentation.unet import build_network
from nanostream.training.teacher import teach

IMAGE = np.random.default_rng(0).integers(0, 3000, (80, 97)).astype(np.int16)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    network = build_network("unet-quarter", (4, 4))
    final = network.get_layer("final_layer")
    final.set_weights([40.0 * array for array in final.get_weights()])  # surer than at random
    return network


def test_a_turned_or_mirrored_micrograph_has_the_same_answer_turned_or_mirrored(
    model: keras.Model,
) -> None:
    square = IMAGE[:64, :64]
    views = [np.rot90(square, turns) for turns in range(4)]
    views += [view[:, ::-1] for view in views]

    first, *others = teach(model, views)

    assert first.std() > 5
    for turns, other in enumerate(others, start=1):
        back = other[:, ::-1] if turns > 3 else other
        difference = np.rot90(back, -(turns % 4)).astype(int) - first
        assert np.abs(difference).max() <= 1


def test_it_is_the_mean_of_the_logits(model: keras.Model) -> None:
    square = IMAGE[:64, :64]
    views = [np.rot90(square, turns) for turns in range(4)]
    views += [view.T for view in views]
    scaled = np.stack([normalize(view, "standardize") for view in views])[..., None]
    one = model(scaled).numpy()
    logits = np.log(one[..., 1]) - np.log(one[..., 0])
    back = [np.rot90(logit.T if k > 3 else logit, -(k % 4)) for k, logit in enumerate(logits)]

    (taught,) = teach(model, [square])

    np.testing.assert_allclose(taught, 255 / (1 + np.exp(-np.mean(back, 0))), atol=0.51)


def test_any_size_and_the_images_are_counted(model: keras.Model) -> None:
    done: list[int] = []
    taught = teach(model, [IMAGE, IMAGE[:50]], on_image=done.append)
    assert [one.shape for one in taught] == [(80, 97), (50, 97)]
    assert {one.dtype for one in taught} == {np.dtype(np.uint8)}
    assert done == [1, 2]

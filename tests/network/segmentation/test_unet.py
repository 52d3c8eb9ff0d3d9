"""The network is the published one: its size, its graph, and its answers with its weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("tensorflow", reason="the extra [worker] is not installed")

import cv2
import keras
import tensorflow as tf

from nanostream.errors import ModelError
from nanostream.segmentation.normalization import Method, median_filter, normalize
from nanostream.segmentation.unet import BatchNormalization, build_unet, load_weights

DATA = Path(__file__).parents[4] / "shared" / "data"
PUBLISHED = DATA / "httem" / "unet32_AuCdSeDots_09_final.h5"

needs_data = pytest.mark.skipif(
    not PUBLISHED.exists(), reason=f"published weights and real images are not in {DATA}"
)


def test_it_has_the_papers_parameters() -> None:
    assert build_unet().count_params() == 65_490


def test_pooling_takes_the_features_before_the_relu_and_the_skip_after_it() -> None:
    model = build_unet()

    for level, skip in zip((1, 2, 3, 4), (4, 3, 2, 1), strict=True):
        pooled = model.get_layer(f"max_pooling2d_{level}").input
        assert pooled is model.get_layer(f"batch_normalization_{level}").output
        first, second = model.get_layer(f"concatenate_{skip}").input
        assert first is model.get_layer(f"activation_{level}").output
        assert second is model.get_layer(f"up_sampling2d_{skip}").output
    norms = [layer for layer in model.layers if "batch_norm" in layer.name]
    assert len(norms) == 14
    assert {layer.epsilon for layer in norms} == {1e-4}


def test_the_two_classes_add_up_to_one_at_any_size() -> None:
    image = np.random.default_rng(0).normal(size=(1, 48, 80, 1)).astype(np.float32)

    probabilities = build_unet()(image, training=False).numpy()

    assert probabilities.shape == (1, 48, 80, 2)
    np.testing.assert_allclose(probabilities.sum(-1), 1.0, atol=1e-6)


@pytest.mark.parametrize(("training", "trainable"), [(True, True), (False, True), (True, False)])
def test_batch_normalisation_is_that_of_keras(training: bool, trainable: bool) -> None:
    batch = np.random.default_rng(0).normal(3.0, 2.0, size=(1, 4, 4, 5)).astype(np.float32)
    found = []
    for kind in (BatchNormalization, keras.layers.BatchNormalization):
        layer = kind(epsilon=1e-4, momentum=0.5, trainable=trainable)
        layer.build(batch.shape)
        layer.set_weights([np.full(5, value, np.float32) for value in (1.5, -0.2, 2.5, 3.5)])
        images = tf.constant(batch)
        with tf.GradientTape() as tape:
            watched = [images, layer.gamma.value, layer.beta.value]
            tape.watch(watched)
            outputs = layer(images, training=training)
            loss = tf.reduce_sum(outputs**3)
        found.append([outputs, layer.moving_mean, *tape.gradient(loss, watched)])
        found[-1].append(np.asarray(layer.moving_variance))

    *ours, variance = found[0]
    *theirs, other_variance = found[1]
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    of_batch = 16 / 15 if training and trainable else 1.0  # of 16 values
    np.testing.assert_allclose(variance - 1.75, of_batch * (other_variance - 1.75), rtol=1e-4)


@dataclass(frozen=True)
class Row:
    """One row of the table in shared/data/README.md."""

    data: str
    filtered: bool
    method: Method
    threshold: float
    dice: float


TABLE = [
    Row("tile_au", False, "image-max", 0.25, 0.8953),
    Row("tile_au", False, "image-minmax", 0.25, 0.8953),
    Row("tile_au", True, "image-max", 0.40, 0.8977),
    Row("tile_au", True, "image-minmax", 0.40, 0.8338),
    Row("sintering", True, "image-minmax", 0.70, 0.9255),
    Row("sintering", True, "image-max", 0.60, 0.8688),
]


def real_images(data: str) -> list[tuple[NDArray[Any], NDArray[np.bool_]]]:
    """Images with their hand-drawn masks."""
    names = (
        [("httem/tile_au.tif", "httem/tile_au_label.png")]
        if data == "tile_au"
        else [(f"sintering/image_{k:02d}.png", f"sintering/label_{k:02d}.png") for k in range(20)]
    )
    pairs = []
    for image, label in names:
        pixels = cv2.imread(str(DATA / image), cv2.IMREAD_UNCHANGED)
        mask = cv2.imread(str(DATA / label), cv2.IMREAD_GRAYSCALE)
        assert pixels is not None, image
        assert mask is not None, label
        pairs.append((pixels, mask > 0))
    return pairs


@needs_data
@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.data}-{row.method}-{row.filtered}")
def test_the_published_weights_give_the_published_answers(row: Row) -> None:
    model = build_unet()
    load_weights(model, PUBLISHED)
    found = []
    for pixels, truth in real_images(row.data):
        scaled = normalize(median_filter(pixels) if row.filtered else pixels, row.method)
        mask = model(scaled[None, ..., None], training=False).numpy()[0, ..., 1] > row.threshold
        found.append(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))

    assert np.mean(found) == pytest.approx(row.dice, abs=0.01)


@needs_data
@pytest.mark.parametrize("path", sorted((DATA / "httem").glob("*.h5")), ids=lambda path: path.stem)
def test_every_published_file_fits(path: Path) -> None:
    model = build_unet()
    load_weights(model, path)

    with h5py.File(path) as file:
        stored = file["conv2d_14/conv2d_14/kernel:0"][:]
    np.testing.assert_array_equal(model.get_layer("conv2d_14").get_weights()[0], stored)


def test_weights_survive_both_keras_3_files(tmp_path: Path) -> None:
    model = build_unet()
    model.save_weights(tmp_path / "a.weights.h5")
    model.save(tmp_path / "a.keras")

    for name in ("a.weights.h5", "a.keras"):
        copy = build_unet()
        load_weights(copy, tmp_path / name)
        for mine, other in zip(model.get_weights(), copy.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, other)


def test_weights_of_another_width_are_refused_by_layer(tmp_path: Path) -> None:
    build_unet((4, 8, 24, 32)).save_weights(tmp_path / "w.weights.h5")
    model = build_unet()
    before = model.get_weights()

    with pytest.raises(ModelError, match=r"w\.weights\.h5: layer conv2d_3 does not fit"):
        load_weights(model, tmp_path / "w.weights.h5")
    for mine, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_weights_with_a_layer_too_few_are_refused_by_layer(tmp_path: Path) -> None:
    path = tmp_path / "short.weights.h5"
    build_unet().save_weights(path)
    with h5py.File(path, "a") as file:
        del file["layers/batch_normalization_13"]

    with pytest.raises(ModelError, match=r"layer batch_normalization_14 .*does not fit"):
        load_weights(build_unet(), path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "nan.weights.h5"
    build_unet().save_weights(path)
    with h5py.File(path, "a") as file:
        file["layers/conv2d_2/vars/1"][0] = np.nan

    with pytest.raises(ModelError, match="conv2d_2 has weights that are not finite"):
        load_weights(build_unet(), path)


@pytest.mark.parametrize("content", [b"", b"not a weights file", b"PK\x03\x04 torn archive"])
def test_a_file_that_is_no_weights_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.h5").write_bytes(content)

    with pytest.raises(ModelError, match=r"x\.h5: cannot be read"):
        load_weights(build_unet(), tmp_path / "x.h5")


@pytest.mark.parametrize("odd", ["layers", "layers/conv2d", "layers/conv2d/vars", "layer_names"])
def test_a_weights_file_with_something_odd_in_it_is_refused(tmp_path: Path, odd: str) -> None:
    path = tmp_path / "odd.weights.h5"
    build_unet().save_weights(path)
    with h5py.File(path, "a") as file:
        if odd == "layer_names":
            file.attrs[odd] = 3
        else:
            del file[odd]
            file[odd] = 1.0

    with pytest.raises(ModelError, match=r"odd\.weights\.h5"):
        load_weights(build_unet(), path)


def test_a_rotten_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rotten.keras"
    build_unet().save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)

    with pytest.raises(ModelError, match=r"rotten\.keras: cannot be read"):
        load_weights(build_unet(), path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.h5"):
        load_weights(build_unet(), tmp_path / "absent.h5")

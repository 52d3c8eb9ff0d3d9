"""The paper's recipe: its numbers, its samples, its stop."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the extra [worker] is not installed")

import keras

from nanostream.segmentation.unet import build_unet
from nanostream.training.groschner2020 import fit as paper
from nanostream.training.groschner2020.recipe import PaperRecipe
from nanostream.training.groschner2020.tiles import Tile

SMALL = PaperRecipe(crop_px=48, samples_per_epoch=24, epochs=4, batch=4, learning_rate=1e-2, seed=1)


def discs(count: int = 8, size: int = 72, *, light: int = 1000, source: str = "") -> list[Tile]:
    """Dark discs on noise: the simplest thing a network can learn."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    tiles = []
    for cy, cx in rng.uniform(0.4 * size, 0.6 * size, (count, 2)):
        label = (y - cy) ** 2 + (x - cx) ** 2 < (0.25 * size) ** 2
        counts = light * (1 + 0.05 * rng.standard_normal(label.shape) - 0.4 * label)
        tiles.append(Tile(counts.astype(np.int16), label, source))
    return tiles


@pytest.fixture(autouse=True)
def _seeded() -> None:
    keras.utils.set_random_seed(0)


def test_the_numbers_are_those_of_section_2() -> None:
    recipe = PaperRecipe()

    assert (recipe.training_images, recipe.validation_images, recipe.test_images) == (97, 32, 46)
    assert (recipe.tile_px, recipe.samples_per_epoch, recipe.epochs) == (512, 1000, 10)
    assert (recipe.batch, recipe.learning_rate) == (20, 1e-4)
    assert (recipe.patience_epochs, recipe.least_improvement) == (2, 0.001)
    assert recipe.steps_per_epoch == 50


def test_samples_depend_on_seed_and_step_only() -> None:
    images, maps = paper.draw_samples(discs(), SMALL, 3, maximum=lambda _: 1300.0)
    again, _ = paper.draw_samples(discs(), SMALL, 3, maximum=lambda _: 1300.0)
    later, _ = paper.draw_samples(discs(), SMALL, 4, maximum=lambda _: 1300.0)
    other, _ = paper.draw_samples(discs(), replace(SMALL, seed=2), 3, maximum=lambda _: 1300.0)

    assert images.shape == (4, 48, 48, 1)
    assert maps.shape == (4, 48, 48, 2)
    assert images.dtype == maps.dtype == np.float32
    np.testing.assert_array_equal(maps.sum(-1), 1.0)
    np.testing.assert_array_equal(images, again)
    assert not np.array_equal(images, later)
    assert not np.array_equal(images, other)


def test_every_tile_comes_once_before_any_comes_again() -> None:
    level = [100 * (k + 1) for k in range(6)]
    flat = [Tile(np.full((72, 72), n, np.int16), np.ones((72, 72), np.bool_)) for n in level]
    recipe = replace(SMALL, batch=3)

    seen = np.concatenate(
        [
            paper.draw_samples(flat, recipe, step, maximum=lambda _: 1.0)[0].mean((1, 2, 3))
            for step in range(6)
        ]
    ).reshape(3, 6)

    assert [sorted(turn) for turn in seen.tolist()] == [level] * 3
    assert len({tuple(turn) for turn in seen.tolist()}) > 1  # in another order


def test_each_data_set_is_divided_by_its_own_maximum() -> None:
    dark, bright = discs(4, light=500, source="dark"), discs(4, light=5000, source="bright")
    maxima = {name: max(int(t.pixels.max()) for t in s) for name, s in (("d", dark), ("b", bright))}

    images, _ = paper.draw_samples(
        [*dark, *bright], replace(SMALL, batch=8), 0, maximum=lambda tile: maxima[tile.source[0]]
    )

    assert images.max() <= 1.0
    np.testing.assert_allclose(images.mean((1, 2, 3)), images.mean(), atol=0.1)


def test_the_losses_fall_and_every_step_and_epoch_is_told() -> None:
    steps: list[int] = []
    epochs: list[tuple[int, float, float]] = []
    tiles = discs()

    history = paper.fit_paper(
        build_unet((4, 8)),
        tiles[:6],
        tiles[6:],
        SMALL,
        on_step=lambda done, loss: steps.append(done),
        on_epoch=lambda *told: epochs.append(told),
    )

    assert steps == list(range(1, 25))
    assert epochs == [
        (k + 1, *losses)
        for k, losses in enumerate(zip(history.loss, history.validation_loss, strict=True))
    ]
    assert history.loss[-1] < 0.8 * history.loss[0]
    assert history.validation_loss[-1] < history.validation_loss[0]
    assert not history.stopped_early


def test_it_stops_two_epochs_after_the_last_improvement() -> None:
    tiles = discs(4)
    hopeless = replace(SMALL, epochs=8, least_improvement=10.0)

    history = paper.fit_paper(build_unet((4,)), tiles[:3], tiles[3:], hopeless)

    assert history.epochs == 1 + hopeless.patience_epochs
    assert history.stopped_early


def test_the_same_seeds_give_the_same_losses() -> None:
    tiles = discs(4)
    runs = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        runs.append(
            paper.fit_paper(build_unet((4,)), tiles[:3], tiles[3:], replace(SMALL, epochs=1))
        )

    np.testing.assert_allclose(runs[0].loss, runs[1].loss, rtol=1e-3)


def test_prediction_knows_the_moments_after_two_epochs_of_the_paper() -> None:
    # Of images divided by their maximum: a variance of 0.002, where the moving one begins with 1.
    tiles = discs(6)
    recipe = replace(SMALL, samples_per_epoch=400, epochs=1, learning_rate=1e-6)
    model = build_unet((4,))
    first = model.get_layer("batch_normalization_1")

    paper.fit_paper(model, tiles[:4], tiles[4:], recipe)

    images, _ = paper.draw_samples(tiles, recipe, 0, maximum=lambda _: 1200.0)
    true = np.asarray(model.get_layer("conv2d_1")(images)).var((0, 1, 2))
    np.testing.assert_allclose(np.asarray(first.moving_variance), true, rtol=0.5)


def test_a_set_without_a_tile_is_refused() -> None:
    with pytest.raises(ValueError, match="0 training and 8 validation"):
        paper.fit_paper(build_unet((4,)), [], discs(), SMALL)


def test_predictions_are_those_of_the_whole_tile() -> None:
    model, tiles = build_unet((4, 8)), discs(3)

    found = paper.predict_tiles(model, tiles, maximum=lambda _: 1200.0)

    image = (tiles[1].pixels / np.float32(1200.0))[None, ..., None]
    assert found.shape == (3, 72, 72)
    np.testing.assert_allclose(found[1], model(image, training=False)[0, ..., 1], atol=1e-5)

"""Training: the loss falls, a run is reproducible and goes on where it stopped."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the extra [worker] is not installed")

import keras

from nanostream.segmentation.unet import build_unet
from nanostream.training import fit
from nanostream.training.examples import Examples
from nanostream.training.recipe import Cycle, Recipe
from nanostream.training.views import gaps

RECIPE = Recipe((Cycle(25),), batch=4, crop_px=64, learning_rate=1e-2, averaging=0.8, seed=1)


def discs(count: int = 6, size: int = 96) -> Examples:
    """Dark discs on noise: the simplest thing a network can learn."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    centres = rng.uniform(0.3 * size, 0.7 * size, (count, 2))
    labels = np.stack([(y - cy) ** 2 + (x - cx) ** 2 < (0.25 * size) ** 2 for cy, cx in centres])
    images = (1000 + 60 * rng.standard_normal(labels.shape) - 400 * labels).astype(np.int16)
    return Examples(list(images), list(labels), np.arange(count), ("Au",) * count)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    keras.utils.set_random_seed(0)


def test_the_loss_falls() -> None:
    losses = fit.fit(build_unet((4, 8)), discs(), RECIPE)

    assert len(losses) == RECIPE.steps
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    fit.fit(build_unet((4,)), discs(), RECIPE, checkpoints=tmp_path)

    assert fit.fit(build_unet((4,)), discs(), RECIPE, checkpoints=tmp_path) == []


def test_each_cycle_begins_again_with_great_steps() -> None:
    recipe = replace(RECIPE, cycles=(Cycle(10), Cycle(20), Cycle(5)))
    model = build_unet((4,))
    moved: list[float] = []
    weights = model.trainable_variables[0]
    last = weights.numpy()

    def look(*_: object) -> None:
        nonlocal last
        moved.append(float(np.abs(weights.numpy() - last).max()))
        last = weights.numpy()

    fit.fit(model, discs(), recipe, on_step=look)

    assert len(moved) == recipe.steps == 35
    for start, end in ((0, 10), (10, 30), (30, 35)):
        assert moved[end - 1] < 0.2 * max(moved[start:end])
    assert moved[19] > 0.1 * max(moved[10:30])  # half-way


def test_the_learning_rate_is_that_of_cosines_with_warm_restarts() -> None:
    ours = fit.CosineCycles(replace(RECIPE, cycles=(Cycle(10), Cycle(20))))
    kept = keras.optimizers.schedules.CosineDecayRestarts(RECIPE.learning_rate, 10)

    for step in range(30):
        assert float(ours(step)) == pytest.approx(float(kept(step)), rel=1e-4, abs=1e-8)
    assert float(ours(30)) == pytest.approx(0.0, abs=1e-8)


def test_a_cycle_may_begin_with_smaller_steps() -> None:
    whole = fit.CosineCycles(replace(RECIPE, cycles=(Cycle(10), Cycle(20))))
    half = fit.CosineCycles(replace(RECIPE, cycles=(Cycle(10), Cycle(20, rate=0.5))))

    for step in range(30):
        part = 1.0 if step < 10 else 0.5
        assert float(half(step)) == pytest.approx(part * float(whole(step)), rel=1e-4, abs=1e-8)


def test_an_emphasis_on_what_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="emphasis on Cu, which no micrograph has; there is Au"):
        fit.fit(build_unet((4,)), discs(), replace(RECIPE, cycles=(Cycle(9, {"Cu": 2.0}),)))


def test_loss_of_a_perfect_answer_is_nearly_zero() -> None:
    truth = np.zeros((1, 8, 8, 1), np.float32)
    truth[0, 2:5, 2:5] = 1.0

    labels = np.concatenate([truth, np.zeros_like(truth)], -1)

    perfect = float(fit.segmentation_loss(labels, np.concatenate([1 - truth, truth], -1)))
    inverted = float(fit.segmentation_loss(labels, np.concatenate([truth, 1 - truth], -1)))

    assert perfect == pytest.approx(0.0, abs=1e-4)
    assert inverted > 5.0


def test_filling_the_gap_between_two_particles_costs_more_than_the_same_pixels_elsewhere() -> None:
    truth = np.zeros((1, 32, 32, 1), np.float32)
    truth[0, 4:28, 4:14] = truth[0, 4:28, 17:27] = 1.0

    def loss(columns: slice) -> float:
        found = truth.copy()
        found[0, 4:28, columns] = 0.9
        labels = np.stack([truth[0, ..., 0], gaps(truth[0, ..., 0])], -1)[None]
        return float(fit.segmentation_loss(labels, np.concatenate([1 - found, found], -1)))

    assert loss(slice(14, 17)) > 2.0 * loss(slice(28, 31))

"""A fit to a stream of pictures: its loss, its rate, and that a stop changes nothing."""

from __future__ import annotations

from functools import partial

import keras
import numpy as np
import pytest

from nanostream.segmentation.unet import build_depth_unet
from nanostream.training.stream import generate
from nanostream.training.stream_fit import (
    StreamRecipe,
    draw_batch,
    fit_stream,
    two_output_loss,
)

RECIPE = StreamRecipe(
    cycles=(4,), batch=2, crop_px=32, first_pictures=4, pictures_per_step=0.5, recent=2, seed=3
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    generate(folder, 1, size_px=96, numbers=range(7))
    return folder


def network():
    keras.utils.set_random_seed(5)
    return build_depth_unet((4, 6))


def test_a_batch_is_the_same_for_its_step_and_has_four_planes(pictures):
    images, targets = draw_batch(pictures, RECIPE, 2)
    again, _ = draw_batch(pictures, RECIPE, 2)
    np.testing.assert_array_equal(images, again)
    assert images.shape == (2, 32, 32, 1)
    assert targets.shape == (2, 32, 32, 4)
    particle, depth, counts, gap = np.moveaxis(targets, -1, 0)
    assert set(np.unique(particle)) <= {0.0, 1.0}
    assert (depth[particle == 0] == 0).all()
    assert depth.max() <= 1.0
    assert set(np.unique(counts)) | set(np.unique(gap)) <= {0.0, 1.0}


def test_the_rate_rises_shortly_and_falls_to_nothing_in_each_cycle():
    recipe = StreamRecipe(cycles=(1000, 500))
    rates = np.array([recipe.rate(step) for step in range(1500)])
    assert rates[0] < 0.02 * recipe.learning_rate
    assert rates[120] > 0.9 * recipe.learning_rate
    assert rates[999] < 1e-4 * recipe.learning_rate
    assert rates[1000] == pytest.approx(recipe.learning_rate)
    assert rates[1499] < 1e-4 * recipe.learning_rate
    assert recipe.available(1000) == 80 + 1000


def target(particle: float, depth: float, counts: float = 1.0) -> np.ndarray:
    plane = np.zeros((1, 8, 8, 4), np.float32)
    plane[..., 0], plane[..., 1], plane[..., 2] = particle, depth, counts
    return plane


def test_a_right_answer_costs_next_to_nothing_and_what_is_ignored_nothing():
    truth = target(1.0, 0.4)
    right = np.stack([truth[..., 0], truth[..., 1]], -1)
    wrong = 1.0 - right
    assert float(two_output_loss(truth, right)) < 1e-3
    assert float(two_output_loss(truth, wrong)) > 1.0
    assert float(two_output_loss(target(1.0, 0.4, counts=0.0), wrong)) < 1e-6


def test_a_stopped_fit_goes_the_way_of_one_that_was_not(pictures, tmp_path):
    whole, losses = network(), []
    assert fit_stream(
        whole,
        partial(draw_batch, pictures, RECIPE),
        RECIPE,
        checkpoints=tmp_path / "whole",
        on_step=lambda _, loss: losses.append(loss),
    )
    steps: list[int] = []
    parted, seen = network(), []

    def on_step(step: int, loss: float) -> None:
        steps.append(step)
        seen.append(loss)

    ended = fit_stream(
        parted,
        partial(draw_batch, pictures, RECIPE),
        RECIPE,
        checkpoints=tmp_path / "parted",
        on_step=on_step,
        stopped=lambda: len(steps) == 2,
    )
    assert not ended
    averages: list[int] = []
    resumed = network()
    assert fit_stream(
        resumed,
        partial(draw_batch, pictures, RECIPE),
        RECIPE,
        checkpoints=tmp_path / "parted",
        averaged_every=3,
        on_step=on_step,
        on_average=lambda step, _: averages.append(step),
    )
    assert steps == [1, 2, 3, 4]
    assert averages == [3, 4]
    np.testing.assert_allclose(seen, losses, rtol=1e-3)
    for one, two in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-2, atol=1e-4)

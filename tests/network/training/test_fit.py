"""Training: the loss falls, a run is reproducible and goes on where it stopped."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the extra [worker] is not installed")

import keras

from nanostream.segmentation.unet import build_unet
from nanostream.training import fit
from nanostream.training.recipe import Cycle, Recipe

RECIPE = Recipe((Cycle(25),), batch=4, crop_px=64, learning_rate=1e-2, averaging=0.8, seed=1)


def discs(count: int = 6, size: int = 96) -> fit.Examples:
    """Dark discs on noise: the simplest thing a network can learn."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    centres = rng.uniform(0.3 * size, 0.7 * size, (count, 2))
    labels = np.stack([(y - cy) ** 2 + (x - cx) ** 2 < (0.25 * size) ** 2 for cy, cx in centres])
    images = (1000 + 60 * rng.standard_normal(labels.shape) - 400 * labels).astype(np.int16)
    return fit.Examples(images, labels, np.arange(count), ("Au",) * count)


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


def test_batches_depend_on_seed_and_step_only() -> None:
    images, labels = fit.draw_batch(discs(), RECIPE, 3)
    again, _ = fit.draw_batch(discs(), RECIPE, 3)
    other, _ = fit.draw_batch(discs(), RECIPE, 4)

    assert images.shape == (4, 64, 64, 1)
    assert labels.shape == (4, 64, 64, 2)
    assert images.dtype == labels.dtype == np.float32
    assert set(np.unique(labels)) <= {0.0, 1.0}
    np.testing.assert_array_equal(images, again)
    assert not np.array_equal(images, other)


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


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": 5, "rate": 0.0},
        {"steps": 5, "alteration": 1.5},
        {"steps": 5, "alteration": -0.1},
        {"steps": 5, "emphasis": {"Au": 0.0}},
    ],
)
def test_what_cannot_be_trained_by_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"1 or more|positive"):
        Cycle(**wrong)


def test_a_recipe_has_a_cycle() -> None:
    with pytest.raises(ValueError, match="without a cycle"):
        Recipe(())


def test_an_emphasis_on_what_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="emphasis on Cu: there is Au"):
        fit.fit(build_unet((4,)), discs(), replace(RECIPE, cycles=(Cycle(9, {"Cu": 2.0}),)))


def test_what_is_emphasised_is_drawn_more_often_in_its_cycle() -> None:
    dark = np.full((96, 96), 0, np.int16)
    examples = fit.Examples(
        [dark, dark + 1000], [dark > 0, dark == 0], np.arange(2), ("Au", "CdSe+Pt")
    )
    recipe = replace(RECIPE, cycles=(Cycle(30), Cycle(60, {"CdSe": 4.0}), Cycle(30)))

    def part(steps: range) -> float:
        return float(np.mean([fit.draw_batch(examples, recipe, s)[1][..., 0] for s in steps]))

    assert part(range(30)) == pytest.approx(0.5, abs=0.1)
    assert part(range(30, 90)) == pytest.approx(0.8, abs=0.1)
    assert part(range(90, 120)) == pytest.approx(0.5, abs=0.1)


def test_views_that_are_not_altered_are_turned_by_right_angles_only() -> None:
    y, x = np.mgrid[:64, :64]
    ramp = (100 * x + y).astype(np.int16)
    examples = fit.Examples([ramp], [ramp > 3000], np.zeros(1, np.int64), ("Au",))

    def steepness(alteration: float) -> set[float]:
        """Slope along the steeper axis by that along the other, of 40 views."""
        recipe = replace(RECIPE, cycles=(Cycle(10, alteration=alteration),))
        slopes = [
            sorted(abs(float(slope.mean())) for slope in np.gradient(view[..., 0]))
            for step in range(recipe.steps)
            for view in fit.draw_batch(examples, recipe, step)[0]
        ]
        return {round(steep / flat) for flat, steep in slopes}

    assert steepness(0.0) == {100}
    assert len(steepness(1.0)) > 10


def test_image_and_label_are_moved_alike() -> None:
    examples = discs(1)
    for seed in range(20):
        image, label = fit.augment(
            (1000 - 900 * examples.labels[0]).astype(np.int16),
            examples.labels[0],
            np.random.default_rng(seed),
            crop_px=64,
        )
        assert np.isfinite(image).all()
        if 0.1 < label.mean() < 0.9:
            assert image[label > 0].mean() < image[label == 0].mean() - 0.8


def test_a_batch_is_scaled_by_the_span_of_each_image() -> None:
    flat = np.full((64, 64), 500, np.int16)
    spans = np.array([[0.0, 1000.0], [400.0, 600.0], [0.0, 500.0]])
    examples = fit.Examples([flat] * 3, [flat > 0], np.zeros(3, np.int64), ("Au",), spans)
    recipe = replace(RECIPE, cycles=(Cycle(10, alteration=0.0),))

    seen = {
        round(float(view.mean()), 3)
        for step in range(recipe.steps)
        for view in fit.draw_batch(examples, recipe, step)[0]
    }

    assert seen == {0.5, 1.0}


@pytest.mark.parametrize("end", [np.s_[20:44, :20], np.s_[20:44, -20:]])
def test_both_ends_of_a_long_image_are_learnt_from(end: tuple[slice, slice]) -> None:
    label = np.zeros((64, 400), np.bool_)
    label[end] = True
    image = (1000 + 500 * label).astype(np.int16)

    seen = [
        fit.augment(image, label, np.random.default_rng(seed), crop_px=64)[1].any()
        for seed in range(100)
    ]

    assert 3 < sum(seen) < 50


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
        labels = np.stack([truth[0, ..., 0], fit.gaps(truth[0, ..., 0])], -1)[None]
        return float(fit.segmentation_loss(labels, np.concatenate([1 - found, found], -1)))

    assert loss(slice(14, 17)) > 2.0 * loss(slice(28, 31))


def test_the_threshold_separates_what_can_be_separated() -> None:
    labels = np.array([[[True, True, False, False]]])
    probabilities = np.array([[[0.9, 0.42, 0.38, 0.1]]], np.float32)

    assert 0.38 < fit.choose_threshold(probabilities, labels) < 0.42


def test_of_equally_good_thresholds_the_middle_one_is_taken() -> None:
    labels = np.array([[[True, False]]])
    probabilities = np.array([[[0.9, 0.1]]], np.float32)

    assert fit.choose_threshold(probabilities, labels) == pytest.approx(0.5)


def test_the_peak_leaves_out_what_is_wrong_more_often_than_right() -> None:
    peaks = np.array([0.55, 0.62, 0.7, 0.8, 0.99])
    gains = np.array([30, -10, 25, -90, -400])  # without the first three 45 more pixels are right

    assert fit.choose_peak(peaks, gains, 0.5) == 0.7
    assert fit.choose_peak(peaks, -np.abs(gains), 0.5) == 0.0
    assert fit.choose_peak(peaks[:0], gains[:0], 0.5) == 0.0

"""Views that a network is shown: the same for a seed and step, moved with their labels."""

from dataclasses import replace

import numpy as np
import pytest

from nanostream.training.examples import Examples
from nanostream.training.recipe import Cycle, Recipe
from nanostream.training.views import augment, draw_batch

RECIPE = Recipe((Cycle(25),), batch=4, crop_px=64, learning_rate=1e-2, averaging=0.8, seed=1)


def discs(count: int = 6, size: int = 96) -> Examples:
    """Dark discs on noise: the simplest thing a network can learn."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    centres = rng.uniform(0.3 * size, 0.7 * size, (count, 2))
    labels = np.stack([(y - cy) ** 2 + (x - cx) ** 2 < (0.25 * size) ** 2 for cy, cx in centres])
    images = (1000 + 60 * rng.standard_normal(labels.shape) - 400 * labels).astype(np.int16)
    return Examples(list(images), list(labels), np.arange(count), ("Au",) * count)


def test_batches_depend_on_seed_and_step_only() -> None:
    images, labels = draw_batch(discs(), RECIPE, 3)
    again, _ = draw_batch(discs(), RECIPE, 3)
    other, _ = draw_batch(discs(), RECIPE, 4)

    assert images.shape == (4, 64, 64, 1)
    assert labels.shape == (4, 64, 64, 2)
    assert images.dtype == labels.dtype == np.float32
    assert set(np.unique(labels)) <= {0.0, 1.0}
    np.testing.assert_array_equal(images, again)
    assert not np.array_equal(images, other)


def test_what_is_emphasised_is_drawn_more_often_in_its_cycle() -> None:
    dark = np.full((96, 96), 0, np.int16)
    examples = Examples(
        [dark, dark + 1000],
        [(dark > 0).astype(np.uint16), (dark == 0).astype(np.uint16)],
        np.arange(2),
        ("Au", "CdSe+Pt"),
    )
    recipe = replace(RECIPE, cycles=(Cycle(30), Cycle(60, {"CdSe": 4.0}), Cycle(30)))

    def part(steps: range) -> float:
        return float(np.mean([draw_batch(examples, recipe, s)[1][..., 0] for s in steps]))

    assert part(range(30)) == pytest.approx(0.5, abs=0.1)
    assert part(range(30, 90)) == pytest.approx(0.8, abs=0.1)
    assert part(range(90, 120)) == pytest.approx(0.5, abs=0.1)


def test_views_that_are_not_altered_are_turned_by_right_angles_only() -> None:
    y, x = np.mgrid[:64, :64]
    ramp = (100 * x + y).astype(np.int16)
    examples = Examples([ramp], [ramp > 3000], np.zeros(1, np.int64), ("Au",))

    def steepness(alteration: float) -> set[float]:
        """Slope along the steeper axis by that along the other, of 40 views."""
        recipe = replace(RECIPE, cycles=(Cycle(10, alteration=alteration),))
        slopes = [
            sorted(abs(float(slope.mean())) for slope in np.gradient(view[..., 0]))
            for step in range(recipe.steps)
            for view in draw_batch(examples, recipe, step)[0]
        ]
        return {round(steep / flat) for flat, steep in slopes}

    assert steepness(0.0) == {100}
    assert len(steepness(1.0)) > 10


def test_image_and_label_are_moved_alike() -> None:
    examples = discs(1)
    for seed in range(20):
        image, label = augment(
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
    examples = Examples(
        [flat] * 3, [(flat > 0).astype(np.uint16)], np.zeros(3, np.int64), ("Au",), spans
    )
    recipe = replace(RECIPE, cycles=(Cycle(10, alteration=0.0),))

    seen = {
        round(float(view.mean()), 3)
        for step in range(recipe.steps)
        for view in draw_batch(examples, recipe, step)[0]
    }

    assert seen == {0.5, 1.0}


@pytest.mark.parametrize("end", [np.s_[20:44, :20], np.s_[20:44, -20:]])
def test_both_ends_of_a_long_image_are_learnt_from(end: tuple[slice, slice]) -> None:
    label = np.zeros((64, 400), np.bool_)
    label[end] = True
    image = (1000 + 500 * label).astype(np.int16)

    seen = [
        augment(image, label, np.random.default_rng(seed), crop_px=64)[1].any()
        for seed in range(100)
    ]

    assert 3 < sum(seen) < 50

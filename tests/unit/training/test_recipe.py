"""Recipes: what cannot be trained by is refused, fine-tuning is gentle."""

from typing import Any

import pytest

from nanostream.training.recipe import Cycle, Recipe, default_recipe, tuning_recipe


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


def test_fine_tuning_is_gentle_and_its_average_spans_a_part_of_its_steps() -> None:
    recipe, new = tuning_recipe("standardize"), default_recipe()

    assert recipe.learning_rate <= 0.1 * new.learning_rate
    assert recipe.steps <= 300
    for steps in (10, 200, 1000):
        momentum = tuning_recipe("standardize", steps=steps).averaging
        assert momentum**steps < 0.01  # of the old weights' share


def test_steps_are_those_that_were_asked_for() -> None:
    assert default_recipe(steps=7).steps == tuning_recipe("image-max", steps=7).steps == 7

"""The plan of the experiment: the paper's numbers, sets without a micrograph in common."""

import pytest

from nanostream.errors import DataSetError
from nanostream.training.groschner2020.plans import (
    NETWORKS,
    ExperimentPlan,
    members,
    numbers_of,
    recipe_of,
)
from nanostream.training.groschner2020.work import WorkFolder

PLAN = ExperimentPlan.of_paper(2026)


def test_the_sets_are_as_large_as_the_papers_and_apart():
    gold = numbers_of(PLAN, "Au")
    assert {name: len(numbers) for name, numbers in gold.items()} == {
        "train": 97,
        "validation": 32,
        "test": 46,
    }
    assert len({number for numbers in gold.values() for number in numbers}) == 97 + 32 + 46
    assert len(numbers_of(PLAN, "Pd")["train"]) == 0
    assert len(numbers_of(PLAN, "Pd")["test"]) == 46


def test_the_combined_network_learns_from_as_many_of_both():
    drawn = members(PLAN, "combined")
    assert {name: len(set(pairs)) for name, pairs in drawn.items()} == {
        "train": 97,
        "validation": 32,
    }
    assert {material for material, _ in drawn["train"]} == {"Au", "CdSe"}
    assert members(PLAN, "combined") == drawn
    assert members(ExperimentPlan.of_paper(1), "combined") != drawn


def test_every_network_has_a_seed_of_its_own_and_what_was_asked_for():
    plan = ExperimentPlan.of_paper(5, samples_per_epoch=20_000, epochs=3)
    recipes = [recipe_of(plan, network) for network in NETWORKS]
    assert [recipe.seed for recipe in recipes] == [5, 6, 7]
    assert {(recipe.samples_per_epoch, recipe.epochs) for recipe in recipes} == {(20_000, 3)}


def test_a_work_folder_belongs_to_one_plan(tmp_path):
    work = WorkFolder(tmp_path / "work")
    work.begin(PLAN)
    work.begin(PLAN)
    with pytest.raises(DataSetError, match="begun with other settings"):
        work.begin(ExperimentPlan.quick(2026))


def test_times_of_a_stage_add_up(tmp_path):
    work = WorkFolder(tmp_path)
    for _ in range(2):
        with work.timed("nothing"):
            pass
    assert list(work.times) == ["nothing"]
    assert 0.0 <= work.times["nothing"]["wall_s"] < 60.0

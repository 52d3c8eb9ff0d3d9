"""Plan of the paper's experiment: how many micrographs, in which sets, for which networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nanostream.training.groschner2020.bragg import GRID
from nanostream.training.groschner2020.recipe import PaperRecipe

__all__ = ["NETWORKS", "SHIPPED", "ExperimentPlan", "members", "numbers_of", "recipe_of"]

NETWORKS: dict[str, tuple[str, ...]] = {
    "Au only": ("Au",),
    "CdSe only": ("CdSe",),
    "combined": ("Au", "CdSe"),
}
"""Networks by name, with the materials that each is trained on."""

SHIPPED = {"shipped groschner2020": "groschner2020", "shipped default": "default"}
"""nanostream's own models beside them, as they are for every micrograph."""


@dataclass(frozen=True)
class ExperimentPlan:
    """Numbers of a run; a work folder belongs to one plan."""

    seed: int
    train: int
    validation: int
    test: int
    size_px: int
    crop_px: int
    samples_per_epoch: int
    epochs: int
    batch: int
    bragg_images: int
    bragg_grid: dict[str, list[float]]

    @classmethod
    def of_paper(cls, seed: int, *, samples_per_epoch: int = 0, epochs: int = 0) -> ExperimentPlan:
        """Plan with the numbers of the paper, or with other ones where they are not 0."""
        recipe = PaperRecipe()
        return cls(
            seed=seed,
            train=recipe.training_images,
            validation=recipe.validation_images,
            test=recipe.test_images,
            size_px=recipe.tile_px,
            crop_px=recipe.crop_px,
            samples_per_epoch=samples_per_epoch or recipe.samples_per_epoch,
            epochs=epochs or recipe.epochs,
            batch=recipe.batch,
            bragg_images=24,
            bragg_grid={name: list(values) for name, values in GRID.items()},
        )

    @classmethod
    def quick(cls, seed: int) -> ExperimentPlan:
        """Plan of a few small images, whose scores mean nothing."""
        return cls(
            seed=seed,
            train=3,
            validation=1,
            test=2,
            size_px=128,
            crop_px=80,
            samples_per_epoch=16,
            epochs=1,
            batch=4,
            bragg_images=2,
            bragg_grid={"peak_deviations": [5.0, 8.0]},
        )


def numbers_of(plan: ExperimentPlan, material: str) -> dict[str, range]:
    """Numbers of a material's micrographs in each set; Pd is never trained on."""
    counts = (0, 0) if material == "Pd" else (plan.train, plan.validation)
    ends = np.cumsum([0, *counts, plan.test]).tolist()
    names = ("train", "validation", "test")
    return {name: range(ends[k], ends[k + 1]) for k, name in enumerate(names)}


def members(plan: ExperimentPlan, network: str) -> dict[str, list[tuple[str, int]]]:
    """Material and number of the micrographs that a network is trained and validated on.

    The combined network gets as many as the others, drawn from their sets (section III C).
    """
    found = {}
    for key, name in enumerate(("train", "validation")):
        pool = [
            (material, number)
            for material in NETWORKS[network]
            for number in numbers_of(plan, material)[name]
        ]
        if len(NETWORKS[network]) > 1:
            rng = np.random.default_rng(np.random.SeedSequence(plan.seed, spawn_key=(9, key)))
            count = plan.train if name == "train" else plan.validation
            pool = [pool[int(k)] for k in rng.choice(len(pool), count, replace=False)]
        found[name] = pool
    return found


def recipe_of(plan: ExperimentPlan, network: str) -> PaperRecipe:
    """The paper's recipe with the numbers of the plan."""
    return PaperRecipe(
        training_images=plan.train,
        validation_images=plan.validation,
        test_images=plan.test,
        tile_px=plan.size_px,
        crop_px=plan.crop_px,
        samples_per_epoch=plan.samples_per_epoch,
        epochs=plan.epochs,
        batch=plan.batch,
        seed=plan.seed + list(NETWORKS).index(network),
    )

"""Trainings by the paper's recipe: what ``nanostream train --recipe paper`` does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

from nanostream.noise import logged_stderr
from nanostream.segmentation.models import ModelCard
from nanostream.training.cards import WEIGHTS, Trained, write_model
from nanostream.training.groschner2020.recipe import PaperRecipe
from nanostream.training.groschner2020.tiles import read_tiles
from nanostream.training.plans import Plan
from nanostream.training.sources import file_hashes

__all__ = ["train_by_paper"]


def train_by_paper(
    plan: Plan,
    recipe: PaperRecipe,
    *,
    on_step: Callable[[int, float], None] | None = None,
    on_stage: Callable[[str], None] = lambda _: None,
) -> ModelCard:
    """Train a new network as the paper does, score it, and write weights and card.

    Parameters
    ----------
    plan
        Its base is not used: the paper begins anew.
    on_step
        Called with the number of steps done and the mean loss of the epoch so far. What it raises
        ends the training, which cannot be resumed.
    on_stage
        Called with what begins: reading, training, scoring.

    Returns
    -------
    ModelCard
        As written.

    Raises
    ------
    DataSetError
        If files cannot be used, or no tile of the recipe's size has a particle.
    """
    on_stage("reading")
    training, held_out = (
        read_tiles(sources, size_px=recipe.tile_px, pixel_size_nm=plan.pixel_size_nm)
        for sources in (plan.training, plan.held_out)
    )
    recipe = replace(
        recipe,
        training_images=len(training.tiles),
        validation_images=len(held_out.tiles),
        test_images=0,  # scores are of whole micrographs
    )
    greatest = max(training.greatest, held_out.greatest)
    with logged_stderr():
        import keras

        from nanostream.segmentation.unet import build_network
        from nanostream.training.groschner2020.fit import fit_paper

        keras.utils.set_random_seed(recipe.seed)
        model = build_network(plan.architecture, plan.features)
    on_stage("training")
    history = fit_paper(
        model,
        training.tiles,
        held_out.tiles,
        recipe,
        maximum=lambda _: greatest,
        on_step=on_step,
    )
    on_stage("scoring")
    plan.work.mkdir(parents=True, exist_ok=True)
    weights = plan.work / WEIGHTS
    model.save_weights(weights)
    trained = Trained(
        images=len(training.tiles),
        hashes=file_hashes(plan.training),
        sizes_nm=training.sizes_nm,
        zoom=(1.0, 1.0),
        normalization="dataset-max",
        normalization_maximum=max(training.greatest_recorded, held_out.greatest_recorded),
        recipe=asdict(recipe),
        seed=recipe.seed,
        steps=history.epochs * recipe.steps_per_epoch,
        history=asdict(history),
        by_paper=True,
    )
    return write_model(plan, trained, weights)

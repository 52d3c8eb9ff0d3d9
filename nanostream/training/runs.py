"""Trainings from files to a model that can be used: what ``nanostream train`` does.

TensorFlow is imported when it is needed, so that a mistake is reported at once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nanostream.errors import DataSetError
from nanostream.noise import logged_stderr
from nanostream.segmentation.models import ModelCard
from nanostream.segmentation.weights import WITH_DEPTH
from nanostream.training.cards import WEIGHTS, Trained, write_model
from nanostream.training.examples import FINEST_NM, Examples, read_examples
from nanostream.training.plans import Plan
from nanostream.training.recipe import Recipe
from nanostream.training.sources import file_hashes
from nanostream.training.views import ZOOM

if TYPE_CHECKING:
    import keras

__all__ = ["train_model"]


def train_model(
    plan: Plan,
    recipe: Recipe,
    *,
    on_step: Callable[[int, float], None] | None = None,
    on_stage: Callable[[str], None] = lambda _: None,
) -> ModelCard:
    """Train a network, choose its threshold, score it, and write weights and card.

    Parameters
    ----------
    recipe
        See `nanostream.training.recipe`.
    on_step
        Called with the number of steps done and the loss of the last. What it raises stops the
        training, which is resumed from its last checkpoint when this is called again with the same
        plan and recipe.
    on_stage
        Called with what begins: reading, training, scoring.

    Returns
    -------
    ModelCard
        As written. If there is a base, ``scores["before"]`` has its scores.

    Raises
    ------
    DataSetError
        If files cannot be used, or `work` has another training.
    ModelError
        If the base does not fit its architecture.
    """
    on_stage("reading")
    base = plan.base.card if plan.base else None
    known_nm = base.pixel_size_nm if base else (FINEST_NM, math.inf)
    examples, sizes_nm = read_examples(
        plan.training,
        pixel_size_nm=plan.pixel_size_nm,
        finest_nm=known_nm[0] if known_nm else None,
        normalization=recipe.normalization,
        maximum=base.normalization_maximum if base else None,
    )
    hashes = file_hashes(plan.training)
    _check_same_training(plan, recipe, hashes)
    with logged_stderr():
        model = _network(plan, recipe)
    on_stage("training")
    _fit(model, examples, recipe, plan, on_step)
    on_stage("scoring")
    weights = plan.work / WEIGHTS
    model.save_weights(weights)
    trained = Trained(
        images=len(examples.images),
        hashes=hashes,
        sizes_nm=sizes_nm,
        zoom=ZOOM,
        normalization=recipe.normalization,
        normalization_maximum=base.normalization_maximum if base else None,
        recipe=asdict(recipe),
        seed=recipe.seed,
        steps=recipe.steps,
        finest_nm=known_nm[0] if known_nm else 0.0,
        materials=_materials(examples),
    )
    return write_model(plan, trained, weights)


def _network(plan: Plan, recipe: Recipe) -> keras.Model:
    """Network of the base with its weights, or a new one."""
    import keras

    from nanostream.segmentation.unet import build_network, load_weights

    keras.utils.set_random_seed(recipe.seed)
    if plan.base is None:
        return build_network(plan.architecture, plan.features)
    model = build_network(plan.base.card.architecture, plan.base.card.features)
    load_weights(model, plan.base.weights)
    return model


def _fit(
    model: keras.Model,
    examples: Examples,
    recipe: Recipe,
    plan: Plan,
    on_step: Callable[[int, float], None] | None,
) -> None:
    """Train a network in place; one with two outputs rehearses what it was trained on before."""
    checkpoints = plan.work / "checkpoints"
    architecture = plan.base.card.architecture if plan.base else plan.architecture
    if architecture not in WITH_DEPTH:
        from nanostream.training.fit import fit

        fit(model, examples, recipe, checkpoints=checkpoints, on_step=on_step)
        return
    from nanostream.training.rehearsal import Labelled, draw_mixture, rehearsed
    from nanostream.training.stream_fit import StreamRecipe, fit_stream

    labelled = [
        Labelled(image, examples.labels[scene])
        for image, scene in zip(examples.images, examples.scene_of, strict=True)
    ]
    pictures = rehearsed(recipe.seed, count=recipe.rehearsal, size_px=max(512, recipe.crop_px))
    schedule = StreamRecipe(
        cycles=tuple(cycle.steps for cycle in recipe.cycles),
        batch=recipe.batch,
        crop_px=recipe.crop_px,
        learning_rate=recipe.learning_rate * recipe.cycles[0].rate,
        weight_decay=recipe.weight_decay,
        averaging=recipe.averaging,
        seed=recipe.seed,
    )

    def draw(step: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return draw_mixture(
            labelled, pictures, step, batch=recipe.batch, crop_px=recipe.crop_px, seed=recipe.seed
        )

    def keep(_: int, averaged: keras.Model) -> None:
        model.set_weights(averaged.get_weights())

    fit_stream(
        model,
        draw,
        schedule,
        checkpoints=checkpoints,
        averaged_every=recipe.steps,
        on_step=on_step,
        on_average=keep,
    )


def _materials(examples: Examples) -> tuple[str, ...]:
    return tuple(sorted({part for name in examples.materials for part in name.split("+")} - {""}))


def _check_same_training(plan: Plan, recipe: Recipe, hashes: dict[str, str]) -> None:
    """Refuse a work folder with the checkpoints of another training; mark a new one with this."""
    settings = {
        "from": plan.base.card.weights_sha256 if plan.base else None,
        "network": None if plan.base else [plan.architecture, plan.features],
        "recipe": asdict(recipe),
        "files": hashes,
        # Both decide what is resampled.
        "pixel size": plan.pixel_size_nm,
        "base's pixel sizes": plan.base.card.pixel_size_nm if plan.base else None,
    }
    wanted = json.loads(json.dumps(settings))  # as the file gives it back
    file = plan.work / "run.json"
    if file.is_file():
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            found = {}
        others = [key for key in wanted if found.get(key) != wanted[key]]
        if others:
            msg = (
                f"{plan.work} has an unfinished training begun with another "
                f"{' and '.join(others)}; resume that one with its own settings, delete the "
                "folder, or give another --work"
            )
            raise DataSetError(msg)
        return
    plan.work.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".partial")
    part.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
    part.replace(file)

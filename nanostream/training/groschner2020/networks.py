"""Networks of the paper's experiment: trained once, kept with their card and record."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import keras
import numpy as np

from nanostream.segmentation.models import ModelCard
from nanostream.segmentation.unet import build_unet
from nanostream.segmentation.weights import PAPER_FEATURES
from nanostream.training.cards import WEIGHTS, save_model
from nanostream.training.choosing import choose_threshold
from nanostream.training.groschner2020.fit import History, fit_paper, predict_tiles
from nanostream.training.groschner2020.micrographs import Data
from nanostream.training.groschner2020.plans import (
    NETWORKS,
    ExperimentPlan,
    members,
    recipe_of,
)
from nanostream.training.groschner2020.recipe import PaperRecipe
from nanostream.training.groschner2020.tiles import Tile
from nanostream.training.groschner2020.work import Progress, WorkFolder, cpu_s, write_json
from nanostream.training.scores import Confusion

__all__ = ["THRESHOLD_STEPS", "load_network", "train"]

THRESHOLD_STEPS = 1000
"""One over the step of the thresholds that are tried."""


def train(
    work: WorkFolder,
    plan: ExperimentPlan,
    network: str,
    data: Data,
    maxima: Mapping[str, float],
    *,
    versions: Mapping[str, str],
    progress: Progress,
) -> dict[str, Any]:
    """Record of a trained network; it is trained if it has not been."""
    folder = work.network(network)
    recipe = recipe_of(plan, network)
    stage, steps = f"training {network}", recipe.epochs * recipe.steps_per_epoch
    record_path = folder / "record.json"
    if record_path.exists():
        progress.update(stage, steps, steps)
        return dict(json.loads(record_path.read_text(encoding="utf-8")))
    chosen = {
        name: [data[material][number].tile for material, number in pairs]
        for name, pairs in members(plan, network).items()
    }

    def maximum(tile: Tile) -> float:
        return maxima[tile.source]

    def on_epoch(done: int, loss: float, validation: float) -> None:
        progress.note(f"{network}: epoch {done}, loss {loss:.4f}, validation {validation:.4f}")

    start, cpu = time.monotonic(), cpu_s()
    keras.utils.set_random_seed(recipe.seed)
    model = build_unet(PAPER_FEATURES, dropout=recipe.dropout)
    history = fit_paper(
        model,
        chosen["train"],
        chosen["validation"],
        recipe,
        maximum=maximum,
        on_epoch=on_epoch,
        on_step=lambda done, _: progress.update(stage, done, steps),
    )
    progress.update(stage, steps, steps)
    found = predict_tiles(model, chosen["train"], maximum=maximum)
    truth = np.stack([tile.label for tile in chosen["train"]])
    threshold = choose_threshold(found, truth, steps=THRESHOLD_STEPS)
    card = _card(network, recipe, history, threshold, data, versions)
    card = save_model(folder, card, model.save_weights)
    record = {
        "materials": list(NETWORKS[network]),
        "recipe": asdict(recipe),
        "epochs": history.epochs,
        "stopped_early": history.stopped_early,
        "loss": list(history.loss),
        "validation_loss": list(history.validation_loss),
        "threshold": threshold,
        "training_accuracy": Confusion.of(truth, found > threshold).accuracy,
        "weights_sha256": card.weights_sha256,
        "wall_s": round(time.monotonic() - start),
        "cpu_s": round(cpu_s() - cpu),
    }
    write_json(record_path, record)
    return record


def _card(
    network: str,
    recipe: PaperRecipe,
    history: History,
    threshold: float,
    data: Data,
    versions: Mapping[str, str],
) -> ModelCard:
    """Card of a network, so that ``nanostream models import`` takes it; its scores come later."""
    materials = NETWORKS[network]
    sizes_nm = [data[material][0].pixel_size_nm for material in materials]
    seed = recipe.seed - list(NETWORKS).index(network)
    return ModelCard(
        name=f"groschner2020-{network.replace(' ', '-')}",
        architecture="unet",
        features=PAPER_FEATURES,
        # Of the session: each data set is divided by its own maximum.
        normalization="dataset-max",
        threshold=threshold,
        pixel_size_nm=(min(sizes_nm), max(sizes_nm)),
        materials=materials,
        training={
            "data": "simulated HRTEM micrographs only (abTEM multislice), no real image",
            "recipe": asdict(recipe),
            "epochs": history.epochs,
            "loss": list(history.loss),
            "validation_loss": list(history.validation_loss),
            "versions": dict(versions),
        },
        weights=WEIGHTS,
        weights_sha256="",
        licence="BSD-3-Clause",
        date=datetime.now(UTC).date().isoformat(),
        command=f"python scripts/reproduce_paper.py --work WORK --seed {seed}",
    )


def load_network(work: WorkFolder, network: str) -> keras.Model:
    """A trained network."""
    model = build_unet(PAPER_FEATURES)
    model.load_weights(work.network(network) / WEIGHTS)
    return model

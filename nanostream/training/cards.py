"""Cards of trained models: settings, scores, and the record of how the model was made.

Settings and scores come from micrographs that were held out, segmented by the same steps as live
ones; so ``nanostream evaluate`` finds the scores that the card has.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from nanostream.analysis import Analyzer, versions
from nanostream.config import Worker
from nanostream.segmentation.models import ModelCard, Normalization
from nanostream.segmentation.separation_rule import SeparationRule
from nanostream.segmentation.weights import WITH_DEPTH
from nanostream.training.evaluation import evaluate_section, pool
from nanostream.training.held_out import keep_settings, settle
from nanostream.training.plans import Base, Plan
from nanostream.training.scores import Scores
from nanostream.training.sources import BARE, Source, file_hashes, read_frames, set_record

__all__ = ["WEIGHTS", "Trained", "base_record", "listed", "save_model", "write_model"]

WEIGHTS = "weights.weights.h5"
"""Name of the weights file of a trained model."""

# A card with more hashes than this would be longer than its weights are worth.
_MOST_LISTED = 60


@dataclass(frozen=True)
class Trained:
    """A training that is done, as the card records it.

    Attributes
    ----------
    images
        Micrographs, or tiles of them, that were learnt from.
    hashes
        SHA-256 of their files and labels.
    sizes_nm
        Pixel size of each micrograph that has one, as trained on.
    zoom
        Least and greatest magnification by the augmentation.
    normalization, normalization_maximum
        Of the network.
    recipe, seed, steps
        As they were in the end.
    finest_nm
        Pixel size to which finer micrographs were resampled, 0 if they were not.
    materials
        Of the simulated scenes.
    history
        Losses of the epochs, of a training by the paper's recipe.
    by_paper
        Whether its threshold is chosen by the paper's rule, see `nanostream.training.held_out`.
    """

    images: int
    hashes: dict[str, str]
    sizes_nm: list[float]
    zoom: tuple[float, float]
    normalization: Normalization
    normalization_maximum: float | None
    recipe: dict[str, Any]
    seed: int
    steps: int
    finest_nm: float = 0.0
    materials: tuple[str, ...] = ()
    history: dict[str, Any] = field(default_factory=dict)
    by_paper: bool = False


def write_model(plan: Plan, trained: Trained, weights: Path) -> ModelCard:
    """Choose the settings of a trained model, score it, and write weights and card.

    Parameters
    ----------
    weights
        As trained; copied to the plan's folder.

    Returns
    -------
    ModelCard
        As written.
    """
    base = plan.base.card if plan.base else None
    card = _provisional_card(plan, trained, weights)
    if plan.held_out:
        card = settle(Base(card, weights), plan, by_paper=trained.by_paper)
    elif base:
        card = keep_settings(Base(card, weights), base, plan)
    card = msgspec.structs.replace(
        card,
        training=_training_record(plan, trained),
        scores=_scores(Base(card, weights), plan, trained),
    )
    return save_model(plan.folder, card, lambda path: shutil.copyfile(weights, path))


def save_model(folder: Path, card: ModelCard, save_weights: Callable[[Path], object]) -> ModelCard:
    """Write weights and card into a folder, the card last: a model is there whole or not at all.

    Parameters
    ----------
    card
        With the name of the weights file; its SHA-256 is filled in.
    save_weights
        Writes them to a path, such as ``keras.Model.save_weights``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"partial.{card.weights}"  # Keras insists on the suffix
    save_weights(part)
    card = msgspec.structs.replace(card, weights_sha256=_sha256(part))
    part.replace(folder / card.weights)
    written = folder / "card.json.partial"
    written.write_bytes(msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")
    written.replace(folder / "card.json")
    return card


def _provisional_card(plan: Plan, trained: Trained, weights: Path) -> ModelCard:
    """Card with the base's settings, or with none."""
    base = plan.base.card if plan.base else None
    return ModelCard(
        name=plan.name,
        architecture=base.architecture if base else plan.architecture,
        features=base.features if base else plan.features,
        normalization=trained.normalization,
        normalization_maximum=trained.normalization_maximum,
        threshold=base.threshold if base else 0.5,
        peak=base.peak if base else 0.0,
        weights=WEIGHTS,
        weights_sha256=_sha256(weights),
        pixel_size_nm=_known_nm(trained, base),
        min_area_px=base.min_area_px if base else None,
        separation=base.separation if base else SeparationRule(),
        materials=tuple(
            dict.fromkeys([*(base.materials if base else ()), *trained.materials, *plan.materials])
        ),
        licence=plan.licence,
        date=datetime.now(UTC).date().isoformat(),
        command=plan.command,
    )


def _known_nm(trained: Trained, base: ModelCard | None) -> tuple[float, float] | None:
    """Pixel sizes that the model knows: of its micrographs, or its base's if it rehearsed them."""
    if base and base.architecture in WITH_DEPTH:
        return base.pixel_size_nm
    return _range_nm(trained) or (base.pixel_size_nm if base else None)


def _range_nm(trained: Trained) -> tuple[float, float] | None:
    """Least and greatest pixel size, with the magnification of the augmentation.

    Finer than ``finest_nm`` nothing was trained on but by that: live micrographs are resampled to
    it.
    """
    if not trained.sizes_nm:
        return None
    least, greatest = trained.zoom
    return (
        round(max(min(trained.sizes_nm) / greatest, trained.finest_nm), 4),
        round(max(trained.sizes_nm) / least, 4),
    )


def _scores(model: Base, plan: Plan, trained: Trained) -> dict[str, Any]:
    """Scores by material, and those of the base."""
    sources = plan.test or plan.held_out
    if not sources:
        return {}
    if plan.test:
        which = "a test set"
    elif trained.by_paper:
        which = "the held-out part, by whose loss the training was ended"
    else:
        which = "the held-out part, on which the threshold was chosen"
    scores: dict[str, Any] = {
        "set": f"{which}: whole images, masks as of nanostream evaluate",
        "by_material": _by_material(model, sources, plan),
    }
    if plan.base:
        scores["before"] = {
            "model": plan.base.card.name,
            "weights_sha256": plan.base.card.weights_sha256,
            "by_material": _by_material(plan.base, sources, plan),
        }
    return scores


def _by_material(model: Base, sources: Sequence[Source], plan: Plan) -> dict[str, Any]:
    settings = Worker()
    analyzer = Analyzer(settings, model=(model.card, model.weights))
    sections = [
        evaluate_section(
            truth,
            analyzer(frame),
            group=material if source.pairs else material or BARE,
            min_area_px=analyzer.min_area_px,
        )
        for source in sources
        for frame, truth, material in read_frames(source, pixel_size_nm=plan.pixel_size_nm)
    ]
    groups = {
        name: pool([one for one in sections if one.group == name])
        for name in sorted({one.group for one in sections} - {""})
    }
    return {name: _row(pooled) for name, pooled in (groups | {"all": pool(sections)}).items()}


def _row(pooled: Scores) -> dict[str, Any]:
    """One line of a card's table; where there is no particle, Dice and the like say nothing.

    ``false_area`` is the part of the background that was taken for particles.
    """
    confusion = pooled.confusion
    row: dict[str, Any] = {"images": pooled.sections, "pixel_accuracy": pooled.pixel_accuracy}
    if confusion.true_positive + confusion.false_negative:
        row |= {"dice": pooled.dice, "precision": pooled.precision, "recall": pooled.recall}
    return row | {
        "false_area": pooled.confusion_rows[0][1],
        "calibration_error": pooled.calibration_error,
    }


def _training_record(plan: Plan, trained: Trained) -> dict[str, Any]:
    simulated = set_record([*plan.training, *plan.held_out, *plan.test])
    record: dict[str, Any] = {
        "images": trained.images,
        "files": listed(trained.hashes),
        "held_out_files": listed(file_hashes(plan.held_out)),
        "recipe": trained.recipe,
        "seed": trained.seed,
        "steps_done": trained.steps,
        "versions": versions("tensorflow")
        | _more_versions("keras", "abtem" if simulated else "h5py"),
    }
    if plan.test:
        record["test_files"] = listed(file_hashes(plan.test))
    if simulated:
        record["simulated_sets"] = simulated
    if plan.base:
        record["from"] = base_record(plan.base)
    if trained.history:
        record["history"] = trained.history
    return record


def base_record(base: Base) -> dict[str, str]:
    """Name and hash of a base, as the card of a model trained from it has them."""
    return {"model": base.card.name, "weights_sha256": base.card.weights_sha256}


def listed(hashes: dict[str, str]) -> dict[str, Any]:
    """SHA-256 of each file; of many, how many and that of their list as ``sha256sum`` writes it."""
    if len(hashes) <= _MOST_LISTED:
        return dict(hashes)
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(hashes.items()))
    return {"count": len(hashes), "sha256_of_list": hashlib.sha256(lines.encode()).hexdigest()}


def _more_versions(*packages: str) -> dict[str, str]:
    return {name: version(name) for name in packages if find_spec(name)}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

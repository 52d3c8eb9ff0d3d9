"""A training from files to a model that can be used: what ``nanostream train`` does.

::

    check_new_name   before anything is read: may a model be called so?
    default_recipe   steps, learning rate and averaging for a start from nothing or from a model
    train_model      examples, fit, threshold, scores, weights and card        -> ModelCard

Threshold and scores come from micrographs that were held out, segmented by the same steps as live
ones; so ``nanostream evaluate`` finds the scores that the card has. TensorFlow is imported when it
is needed, so that a mistake is said at once.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit, logit

from nanostream.analysis import Analyzer, versions
from nanostream.config import Worker
from nanostream.errors import DataSetError, ModelError
from nanostream.segmentation.domain import DomainReference, describe, fit_reference, unsure_fraction
from nanostream.segmentation.models import (
    ModelCard,
    Normalization,
    check_tensorflow,
    list_models,
)
from nanostream.segmentation.weights import PAPER_FEATURES, Architecture
from nanostream.training import evaluation
from nanostream.training.calibration import fit_calibration
from nanostream.training.examples import (
    BARE,
    FINEST_NM,
    Source,
    file_hashes,
    read_examples,
    read_frames,
    read_tiles,
    set_record,
)
from nanostream.training.recipe import Cycle, Recipe

if TYPE_CHECKING:
    import keras

    from nanostream.training.groschner2020.recipe import PaperRecipe

__all__ = [
    "Base",
    "Plan",
    "base_record",
    "check_new_name",
    "check_tensorflow",
    "default_recipe",
    "listed",
    "paper_recipe",
    "save_model",
    "train_model",
]

_WEIGHTS = "weights.weights.h5"

#: Fine-tuning, by measurement on 10 of the 20 sintering images (2026-11-25): see
#: docs/how-to/train-a-model.md. The running average spans a fifth of the steps; that of the
#: default recipe, 0.999, would be four fifths the old weights after 200.
_TUNING_STEPS = 200
_TUNING_RATE = 3e-4

# A card with more hashes than this would be longer than its weights are worth.
_MOST_LISTED = 60

# Micrographs that say what is usual: fewer say nothing about it.
_ENOUGH = 20

# As many held-out files the base's calibration and threshold count for: a few say little of the
# others. The best of 0, 1, 2, ... 32 for `default` on simulated micrographs of one material, by
# the cross entropy of those that were not held out (2026-11-27): for 0, it was 0.180 instead of
# 0.144 with one held out, 0.132 instead of 0.130 with eight. For the threshold, it is the
# best by their pixel accuracy: 0.946 instead of 0.939 with one, 0.948 instead of 0.947 with eight.
_BASE_COUNTS_FOR = 8

# Nine in ten held-out micrographs give no warning of being unsure; of simulated ones the tenth is
# so faint that a warning is right.
_SURE_PART = 0.9

# At most about so many pixels decide about the threshold, a million of a micrograph; a simulated
# scene has four micrographs.
_PIXELS_FOR_THRESHOLD = 200_000_000
_PIXELS_OF_ONE = 1_000_000
_EXPOSURES = 4


@dataclass(frozen=True)
class Base:
    """A model to start from: its card and its weights."""

    card: ModelCard
    weights: Path


@dataclass(frozen=True)
class Plan:
    """What is trained on what, and where it goes.

    Attributes
    ----------
    name
        Of the model.
    folder
        Where weights and card go.
    training, held_out
        What is learnt from; what calibration and threshold are chosen on, which stay near the
        base's where that is little.
    test
        What the scores are of; if empty, `held_out`.
    recipe
        See `default_recipe` and `paper_recipe`.
    base
        Model to start from, None for new weights.
    architecture, features
        Of the network, if there is no base.
    grow
        Whether the base, a ``unet-quarter``, gets residual blocks first.
    pixel_size_nm
        Of files that do not say it.
    materials
        For the card, besides those of simulated scenes and of the base.
    work
        Folder for checkpoints, from which an interrupted training goes on; one by the paper's
        recipe begins anew.
    command, licence
        For the card.
    """

    name: str
    folder: Path
    training: Sequence[Source]
    held_out: Sequence[Source]
    recipe: Recipe | PaperRecipe
    work: Path
    test: Sequence[Source] = ()
    base: Base | None = None
    architecture: Architecture = "unet"
    features: tuple[int, ...] = PAPER_FEATURES
    grow: bool = False
    pixel_size_nm: float | None = None
    materials: tuple[str, ...] = ()
    command: str = ""
    licence: str = ""


def check_new_name(name: str, folder: Path) -> None:
    """Say before the work if a new model cannot have this name.

    Parameters
    ----------
    folder
        Of the models, where it is to get a folder of its own.

    Raises
    ------
    ModelError
        If it is no plain name, or a shipped or another model has it.
    """
    from nanostream.segmentation.models import _NAME

    if not _NAME.fullmatch(name):
        msg = f"model name {name!r}: letters, digits, dot, dash and underscore, 64 at most"
        raise ModelError(msg)
    if any(card.name == name for card in list_models()) or (folder / name / "card.json").exists():
        msg = (
            f"there is a model {name!r} already, and it stays (nanostream models show {name} "
            "says where); choose another --name"
        )
        raise ModelError(msg)


def default_recipe(base: Base | None, *, steps: int | None = None, seed: int = 0) -> Recipe:
    """How to train, from a model or from nothing.

    Parameters
    ----------
    base
        Model to fine-tune: a small learning rate and few steps, so that it keeps what it knows,
        and its scaling of micrographs.
    steps
        Instead of the recipe's own.
    """
    if base is None:
        recipe = Recipe(seed=seed)
        return recipe if steps is None else Recipe((Cycle(steps),), seed=seed)
    steps = _TUNING_STEPS if steps is None else steps
    return Recipe(
        (Cycle(steps),),
        learning_rate=_TUNING_RATE,
        averaging=1.0 - 1.0 / max(2.0, 0.2 * steps),
        normalization=base.card.normalization,
        seed=seed,
    )


def paper_recipe(*, seed: int = 0) -> PaperRecipe:
    """How the paper trains, see `nanostream.training.groschner2020.recipe`."""
    with _quiet():
        from nanostream.training.groschner2020.recipe import PaperRecipe

    return PaperRecipe(seed=seed)


def train_model(
    plan: Plan,
    *,
    on_step: Callable[[int, float], None] | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> ModelCard:
    """Train a network, choose its threshold, score it, and write weights and card.

    Parameters
    ----------
    on_step
        Called with the number of steps done and the loss of the last. What it raises stops the
        training, which goes on from its last checkpoint when it is called again with the same
        plan.
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
        If the base does not fit its architecture, or cannot grow.
    """
    with _quiet():
        from nanostream.training.groschner2020.recipe import PaperRecipe

    if isinstance(plan.recipe, PaperRecipe):
        return _train_as_paper(plan, plan.recipe, on_step, on_stage or (lambda _: None))
    return _train(plan, plan.recipe, on_step, on_stage or (lambda _: None))


def _train(
    plan: Plan,
    recipe: Recipe,
    on_step: Callable[[int, float], None] | None,
    say: Callable[[str], None],
) -> ModelCard:
    say("reading")
    card = plan.base.card if plan.base else None
    if plan.grow and (card is None or card.architecture != "unet-quarter"):
        msg = f"what grows is a unet-quarter, not {card.architecture if card else 'nothing'}"
        raise ModelError(msg)
    known_nm = card.pixel_size_nm if card else (FINEST_NM, math.inf)
    examples, sizes_nm = read_examples(
        plan.training,
        pixel_size_nm=plan.pixel_size_nm,
        finest_nm=known_nm[0] if known_nm else None,
        normalization=recipe.normalization,
        maximum=card.normalization_maximum if card else None,
    )
    hashes = file_hashes(plan.training)
    _same_training(plan, hashes)
    with _quiet():
        import keras

        from nanostream.segmentation.unet import build_network, load_weights
        from nanostream.training import fit
        from nanostream.training.growth import grown_network

        keras.utils.set_random_seed(recipe.seed)
        if plan.base and plan.grow:
            model = grown_network(plan.base.weights, plan.base.card.features)
        elif plan.base and card:
            model = build_network(card.architecture, card.features)
            load_weights(model, plan.base.weights)
        else:
            model = build_network(plan.architecture, plan.features)
    facts = _Facts(
        images=len(examples.images),
        hashes=hashes,
        sizes_nm=sizes_nm,
        finest_nm=known_nm[0] if known_nm else 0.0,
        zoom=fit.ZOOM,
        normalization=recipe.normalization,
        normalization_maximum=card.normalization_maximum if card else None,
        steps=recipe.steps,
        materials=tuple(
            sorted({part for name in examples.materials for part in name.split("+")} - {""})
        ),
    )

    say("training")
    fit.fit(model, examples, recipe, checkpoints=plan.work / "checkpoints", on_step=on_step)
    say("scoring")
    return _finish(plan, model, facts)


def _train_as_paper(
    plan: Plan,
    recipe: PaperRecipe,
    on_step: Callable[[int, float], None] | None,
    say: Callable[[str], None],
) -> ModelCard:
    say("reading")
    training, held_out = (
        read_tiles(sources, size_px=recipe.tile_px, pixel_size_nm=plan.pixel_size_nm)
        for sources in (plan.training, plan.held_out)
    )
    with _quiet():
        import keras

        from nanostream.segmentation.unet import build_network
        from nanostream.training.groschner2020.recipe import fit_paper

        keras.utils.set_random_seed(recipe.seed)
        model = build_network(plan.architecture, plan.features)
    recipe = replace(
        recipe,
        training_images=len(training.tiles),
        validation_images=len(held_out.tiles),
        test_images=0,  # scores are of whole micrographs
    )
    plan = replace(plan, recipe=recipe)
    greatest = max(training.greatest, held_out.greatest)
    say("training")
    history = fit_paper(
        model,
        training.tiles,
        held_out.tiles,
        recipe,
        maximum=lambda _: greatest,
        on_step=on_step,
    )
    say("scoring")
    facts = _Facts(
        images=len(training.tiles),
        hashes=file_hashes(plan.training),
        sizes_nm=training.sizes_nm,
        zoom=(1.0, 1.0),
        normalization="dataset-max",
        normalization_maximum=max(training.greatest_recorded, held_out.greatest_recorded),
        steps=history.epochs * recipe.steps_per_epoch,
        history=asdict(history),
    )
    return _finish(plan, model, facts)


def _architecture(plan: Plan) -> Architecture:
    if plan.base is None:
        return plan.architecture
    return "unet-quarter-residual" if plan.grow else plan.base.card.architecture


@dataclass(frozen=True)
class _Facts:
    """What is known of the examples after they were read."""

    images: int
    hashes: dict[str, str]
    sizes_nm: list[float]
    zoom: tuple[float, float]
    normalization: Normalization
    normalization_maximum: float | None
    steps: int
    finest_nm: float = 0.0
    materials: tuple[str, ...] = ()
    history: dict[str, Any] = field(default_factory=dict)


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


def _finish(plan: Plan, model: keras.Model, facts: _Facts) -> ModelCard:
    """Threshold, scores, weights and card."""
    base = plan.base.card if plan.base else None
    plan.work.mkdir(parents=True, exist_ok=True)
    weights = plan.work / _WEIGHTS
    model.save_weights(weights)
    card = ModelCard(
        name=plan.name,
        architecture=_architecture(plan),
        features=base.features if base else plan.features,
        normalization=facts.normalization,
        normalization_maximum=facts.normalization_maximum,
        threshold=base.threshold if base else 0.5,
        peak=base.peak if base else 0.0,
        weights=_WEIGHTS,
        weights_sha256=_sha256(weights),
        pixel_size_nm=_range_nm(facts) or (base.pixel_size_nm if base else None),
        materials=tuple(
            dict.fromkeys([*(base.materials if base else ()), *facts.materials, *plan.materials])
        ),
        licence=plan.licence,
        date=datetime.now(UTC).date().isoformat(),
        command=plan.command,
    )
    if plan.held_out:
        card = _settled(card, weights, plan, by_accuracy=bool(facts.history))
    elif base:  # its threshold is one of calibrated probabilities
        card = msgspec.structs.replace(card, calibration=base.calibration)
        looks = _looks(Analyzer(Worker(), model=(card, weights)), plan)
        card = msgspec.structs.replace(card, domain=_widened(base.domain, looks))
    return save_model(
        plan.folder,
        msgspec.structs.replace(
            card,
            training=_training_record(plan, facts),
            scores=_scores(Base(card, weights), plan),
        ),
        lambda path: shutil.copyfile(weights, path),
    )


def _settled(card: ModelCard, weights: Path, plan: Plan, *, by_accuracy: bool) -> ModelCard:
    """The card with calibration, threshold, peak and domain.

    Calibration, threshold and peak are chosen on what was held out (the paper's threshold on what
    was trained on), near the base's where that is little; the domain is that of the training
    micrographs.
    """
    from nanostream.training.fit import choose_threshold
    from nanostream.training.groschner2020.recipe import choose_threshold_for_accuracy

    pixel_nm = plan.pixel_size_nm
    analyzer = Analyzer(Worker(), model=(card, weights))
    found, truths, _ = _predicted(analyzer, plan.held_out, pixel_nm)
    base = plan.base.card if plan.base and not plan.grow else None  # what grows is another network
    card = msgspec.structs.replace(card, calibration=base.calibration if base else None)
    # Where nothing can be said, all stays as it is: the scores will tell.
    with suppress(ValueError):
        calibration = fit_calibration(found, truths)
        card = msgspec.structs.replace(card, calibration=calibration)
    files = len({source.file for source in plan.held_out})  # sections of one resemble one another
    if base:
        card = _drawn_to(base, card, files)
    analyzer = Analyzer(Worker(), model=(card, weights))
    found, truths, unsure = _predicted(analyzer, plan.held_out, pixel_nm)
    if by_accuracy:
        found, truths, _ = _predicted(analyzer, plan.training, pixel_nm)
    choose = choose_threshold_for_accuracy if by_accuracy else choose_threshold
    threshold = choose(np.concatenate(found), np.concatenate(truths))
    if base:
        telling = files if any(truth.any() for truth in truths) else 0
        threshold = _threshold_drawn_to(base, card, threshold, telling)
    card = msgspec.structs.replace(card, threshold=threshold, peak=0.0)
    if not by_accuracy:
        if len(unsure) >= _ENOUGH:
            peak = _peak(Base(card, weights), plan)
        else:
            peak = _carried_peak(base, card) if base else 0.0
        card = msgspec.structs.replace(card, peak=peak)
    looks = _looks(analyzer, plan)
    domain: DomainReference | None
    try:
        domain = fit_reference(looks, np.array(unsure), sure_part=_SURE_PART)
    except ValueError:  # fewer than 20 micrographs say nothing about what is usual
        domain = _widened(plan.base.card.domain, looks) if plan.base else None
    return msgspec.structs.replace(card, domain=domain)


def _part(files: int) -> float:
    """How much some held-out files count beside the base."""
    return files / (files + _BASE_COUNTS_FOR)


def _drawn_to(base: ModelCard, card: ModelCard, files: int) -> ModelCard:
    """The card, its calibration by some held-out files nearer to the base's the fewer they are."""
    if base.calibration == card.calibration:
        return card
    base_scale, base_shift = base.calibration or (1.0, 0.0)
    scale, shift = card.calibration or (1.0, 0.0)
    part = _part(files)
    scale = base_scale * (scale / base_scale) ** part
    shift = base_shift + part * (shift - base_shift)
    return msgspec.structs.replace(card, calibration=(scale, shift))


def _threshold_drawn_to(base: ModelCard, card: ModelCard, threshold: float, files: int) -> float:
    """The same of a threshold for the probabilities of a card that has its calibration."""
    part = _part(files)
    carried = float(logit(_carried(base.threshold, base, card)))
    mixed = float(expit(part * float(logit(threshold)) + (1.0 - part) * carried))
    return round(min(max(mixed, 0.01), 0.99), 2)


def _carried(probability: float, base: ModelCard, card: ModelCard) -> float:
    """A probability of the base by another card's calibration."""
    scale, shift = base.calibration or (1.0, 0.0)
    uncalibrated = (float(logit(probability)) - shift) / scale
    scale, shift = card.calibration or (1.0, 0.0)
    return float(expit(scale * uncalibrated + shift))


def _looks(analyzer: Analyzer, plan: Plan) -> NDArray[np.float64]:
    """Descriptors (N, D) of the micrographs that were trained on."""
    return np.array(
        [
            describe(analyzer.scaled(frame)[0])
            for source in plan.training
            for frame, _, _ in read_frames(source, pixel_size_nm=plan.pixel_size_nm)
        ]
    )


def _widened(domain: DomainReference | None, looks: NDArray[np.float64]) -> DomainReference | None:
    """The base's domain, and what is no more unusual there than nine in ten of the looks (N, D)."""
    if domain is None:
        return None
    scores = [score for look in looks if math.isfinite(score := domain.score(look))]
    if not scores:
        return domain
    # One odd micrograph must not make everything usual.
    least = float(np.quantile(scores, 0.1, method="higher"))
    return msgspec.structs.replace(domain, least_score=min(domain.least_score, least))


def _carried_peak(base: ModelCard, card: ModelCard) -> float:
    """The base's peak, for which too little was held out to choose one, by a new calibration."""
    if not base.peak:
        return 0.0
    peak = round(_carried(base.peak, base, card), 3)
    return peak if card.threshold < peak < 1 else 0.0


def _peak(model: Base, plan: Plan) -> float:
    """Peak of the particles that were rightly found in what was held out."""
    from nanostream.training.fit import choose_peak

    analyzer = Analyzer(Worker(), model=(model.card, model.weights))
    peaks: list[float] = []
    gains: list[int] = []
    for source in plan.held_out:
        for frame, truth, _ in read_frames(source, pixel_size_nm=plan.pixel_size_nm):
            seen = analyzer(frame)
            regions = range(1, int(seen.labels.max()) + 1)
            peaks.extend(ndimage.maximum(seen.probability, seen.labels, regions))
            gains.extend(ndimage.sum_labels(np.where(truth > 0, -1, 1), seen.labels, regions))
    return choose_peak(np.array(peaks), np.array(gains), model.card.threshold)


def _predicted(
    analyzer: Analyzer, sources: Sequence[Source], pixel_size_nm: float | None
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.bool_]], list[float]]:
    """Probabilities and truths of a part of the pixels, flat, and the unsure fractions."""
    found: list[NDArray[np.float32]] = []
    truths: list[NDArray[np.bool_]] = []
    unsure: list[float] = []
    micrographs = sum(len(source.pairs) or _EXPOSURES for source in sources)
    most = min(_PIXELS_OF_ONE, _PIXELS_FOR_THRESHOLD // max(1, micrographs))
    for source in sources:
        for frame, truth, _ in read_frames(source, pixel_size_nm=pixel_size_nm):
            every = max(1, math.ceil(truth.size / most))
            probability = analyzer(frame).probability
            found.append(probability.reshape(-1)[::every].copy())
            truths.append(truth.reshape(-1)[::every] > 0)
            unsure.append(unsure_fraction(probability))
    return found, truths, unsure


def _scores(trained: Base, plan: Plan) -> dict[str, Any]:
    """Scores by material, and those of the base."""
    sources = plan.test or plan.held_out
    if not sources:
        return {}
    which = "a test set" if plan.test else "the held-out part, on which the threshold was chosen"
    if trained.card.normalization == "dataset-max" and not plan.test and plan.base is None:
        which = "the held-out part, by whose loss the training was ended"
    scores: dict[str, Any] = {
        "set": f"{which}: whole images, masks as of nanostream evaluate",
        "by_material": _by_material(trained, sources, plan),
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
        evaluation.evaluate_section(
            truth,
            analyzer(frame),
            group=material if source.pairs else material or BARE,
            min_area_px=settings.min_area_px,
        )
        for source in sources
        for frame, truth, material in read_frames(source, pixel_size_nm=plan.pixel_size_nm)
    ]
    groups = {
        name: evaluation.pool([one for one in sections if one.group == name])
        for name in sorted({one.group for one in sections} - {""})
    }
    return {
        name: _row(pooled) for name, pooled in (groups | {"all": evaluation.pool(sections)}).items()
    }


def _row(pooled: evaluation.Scores) -> dict[str, Any]:
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


def _training_record(plan: Plan, facts: _Facts) -> dict[str, Any]:
    simulated = set_record([*plan.training, *plan.held_out, *plan.test])
    record: dict[str, Any] = {
        "images": facts.images,
        "files": listed(facts.hashes),
        "held_out_files": listed(file_hashes(plan.held_out)),
        "recipe": asdict(plan.recipe),
        "seed": plan.recipe.seed,
        "steps_done": facts.steps,
        "versions": versions() | _more_versions("keras", "abtem" if simulated else "h5py"),
    }
    if plan.test:
        record["test_files"] = listed(file_hashes(plan.test))
    if simulated:
        record["simulated_sets"] = simulated
    if plan.base:
        record["from"] = base_record(plan.base)
    if facts.history:
        record["history"] = facts.history
    return record


def base_record(base: Base) -> dict[str, str]:
    """What a card says of the model that its own went on from."""
    return {"model": base.card.name, "weights_sha256": base.card.weights_sha256}


def listed(hashes: dict[str, str]) -> dict[str, Any]:
    """SHA-256 of each file; of many, how many and that of their list as ``sha256sum`` writes it."""
    if len(hashes) <= _MOST_LISTED:
        return dict(hashes)
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(hashes.items()))
    return {"count": len(hashes), "sha256_of_list": hashlib.sha256(lines.encode()).hexdigest()}


def _more_versions(*packages: str) -> dict[str, str]:
    return {name: version(name) for name in packages if find_spec(name)}


def _range_nm(facts: _Facts) -> tuple[float, float] | None:
    """Least and greatest pixel size, with the magnification of the augmentation.

    Finer than ``finest_nm`` nothing was trained on but by that: what is live goes there.
    """
    if not facts.sizes_nm:
        return None
    least, greatest = facts.zoom
    return (
        round(max(min(facts.sizes_nm) / greatest, facts.finest_nm), 4),
        round(max(facts.sizes_nm) / least, 4),
    )


def _same_training(plan: Plan, hashes: dict[str, str]) -> None:
    """See that the checkpoints in the work folder are of this training, or begin a new one."""
    settings = {
        "from": plan.base.card.weights_sha256 if plan.base else None,
        "network": None if plan.base else [plan.architecture, plan.features],
        "growth": plan.grow,
        "recipe": asdict(plan.recipe),
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
                f"{plan.work} has a training begun with another {' and '.join(others)}; go on "
                "with the same, delete that folder, or give another --work"
            )
            raise DataSetError(msg)
        return
    plan.work.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".partial")
    part.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
    part.replace(file)


@contextmanager
def _quiet() -> Iterator[None]:
    """Import and first use of TensorFlow without its native code's lines on standard error."""
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

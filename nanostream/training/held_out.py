"""Settings of a model's card that are chosen on micrographs which were held out.

Calibration, threshold and minimum peak probability come from what was held out, segmented by the
same steps as live micrographs; the domain is that of the training micrographs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nanostream.analysis import Analyzer
from nanostream.config import Worker
from nanostream.segmentation.domain import DomainReference, describe, doubt, fit_reference
from nanostream.segmentation.models import ModelCard
from nanostream.training.choosing import (
    carried_probability,
    choose_minimum_peak,
    choose_threshold,
    fit_calibration,
    mixed_calibration,
    mixed_threshold,
)
from nanostream.training.plans import Base, Plan
from nanostream.training.sources import Source, read_frames

__all__ = ["keep_settings", "settle"]

# Micrographs that say what is usual: fewer say nothing about it.
_ENOUGH = 20

# Threshold of the mask whose doubt is taken before one is chosen.
_HALF = 0.5

# Nine in ten held-out micrographs give no warning of being uncertain; of simulated ones the tenth
# is so faint that a warning is right.
_SURE_PART = 0.9

# At most about so many pixels decide about the threshold, a million of a micrograph; a simulated
# scene has four micrographs.
_PIXELS_FOR_THRESHOLD = 200_000_000
_PIXELS_OF_ONE = 1_000_000
_EXPOSURES = 4

# One over the step of the paper's threshold, and of ours.
_PAPER_STEPS = 1000
_STEPS = 100


def settle(model: Base, plan: Plan, *, by_paper: bool = False) -> ModelCard:
    """Card of a new model with calibration, threshold, minimum peak probability and domain.

    Parameters
    ----------
    model
        As trained, with a provisional card that has no calibration.
    plan
        Of its training; something must be held out. Where that is little, calibration and
        threshold stay near those of the base.
    by_paper
        Whether the threshold is chosen by the paper's rule: on the training micrographs, in steps
        of 0.001, without a minimum peak probability.
    """
    base = plan.base.card if plan.base else None
    card = _calibrated(model, plan, base)
    analyzer = _analyzer(Base(card, model.weights))
    found, truths, doubts = _predicted(analyzer, plan.held_out, plan.pixel_size_nm)
    if by_paper:
        found, truths, _ = _predicted(analyzer, plan.training, plan.pixel_size_nm)
    threshold = choose_threshold(
        np.concatenate(found),
        np.concatenate(truths),
        steps=_PAPER_STEPS if by_paper else _STEPS,
    )
    if base:
        telling = _files(plan) if any(truth.any() for truth in truths) else 0
        carried = carried_probability(base.threshold, base.calibration, card.calibration)
        threshold = mixed_threshold(threshold, carried, files=telling)
    card = msgspec.structs.replace(card, threshold=threshold, peak=0.0)
    if not by_paper:
        if len(doubts) >= _ENOUGH:
            peak = _minimum_peak(Base(card, model.weights), plan)
        else:
            peak = _carried_peak(base, card) if base else 0.0
        card = msgspec.structs.replace(card, peak=peak)
    return msgspec.structs.replace(card, domain=_domain(analyzer, plan, doubts))


def keep_settings(model: Base, base: ModelCard, plan: Plan) -> ModelCard:
    """Card of a fine-tuned model with nothing held out: the base's settings, a wider domain."""
    # The base's threshold is one of calibrated probabilities.
    card = msgspec.structs.replace(model.card, calibration=base.calibration)
    looks = _looks(_analyzer(Base(card, model.weights)), plan)
    return msgspec.structs.replace(card, domain=_widened(base.domain, looks))


def _analyzer(model: Base) -> Analyzer:
    return Analyzer(Worker(), model=(model.card, model.weights))


def _files(plan: Plan) -> int:
    """Files that were held out: sections of one resemble one another."""
    return len({source.file for source in plan.held_out})


def _calibrated(model: Base, plan: Plan, base: ModelCard | None) -> ModelCard:
    """The card with a calibration by what was held out, near the base's where that is little."""
    found, truths, _ = _predicted(_analyzer(model), plan.held_out, plan.pixel_size_nm)
    card = msgspec.structs.replace(model.card, calibration=base.calibration if base else None)
    # Where nothing can be said, all stays as it is: the scores will tell.
    with suppress(ValueError):
        calibration = fit_calibration(found, truths)
        card = msgspec.structs.replace(card, calibration=calibration)
    if base:
        mixed = mixed_calibration(card.calibration, base.calibration, files=_files(plan))
        card = msgspec.structs.replace(card, calibration=mixed)
    return card


def _domain(analyzer: Analyzer, plan: Plan, doubts: Sequence[float]) -> DomainReference | None:
    """Domain of the training micrographs, or the base's widened by them where they are few."""
    looks = _looks(analyzer, plan)
    try:
        return fit_reference(looks, np.array(doubts), sure_part=_SURE_PART)
    except ValueError:  # fewer than 20 micrographs say nothing about what is usual
        return _widened(plan.base.card.domain, looks) if plan.base else None


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
    """The base's domain, and all that is no more unusual there than nine in ten looks (N, D)."""
    if domain is None:
        return None
    scores = [score for look in looks if math.isfinite(score := domain.score(look))]
    if not scores:
        return domain
    # One odd micrograph must not make everything usual.
    least = float(np.quantile(scores, 0.1, method="higher"))
    return msgspec.structs.replace(domain, least_score=min(domain.least_score, least))


def _carried_peak(base: ModelCard, card: ModelCard) -> float:
    """The base's minimum peak probability by a new calibration.

    For where too little was held out to choose one.
    """
    if not base.peak:
        return 0.0
    peak = round(carried_probability(base.peak, base.calibration, card.calibration), 3)
    return peak if card.threshold < peak < 1 else 0.0


def _minimum_peak(model: Base, plan: Plan) -> float:
    """Minimum peak probability of the particles that were rightly found in what was held out."""
    analyzer = _analyzer(model)
    peaks: list[float] = []
    gains: list[int] = []
    for source in plan.held_out:
        for frame, truth, _ in read_frames(source, pixel_size_nm=plan.pixel_size_nm):
            seen = analyzer(frame)
            regions = range(1, int(seen.labels.max()) + 1)
            peaks.extend(ndimage.maximum(seen.probability, seen.labels, regions))
            gains.extend(ndimage.sum_labels(np.where(truth > 0, -1, 1), seen.labels, regions))
    return choose_minimum_peak(np.array(peaks), np.array(gains), model.card.threshold)


def _predicted(
    analyzer: Analyzer, sources: Sequence[Source], pixel_size_nm: float | None
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.bool_]], list[float]]:
    """Probabilities and truths of a part of the pixels, flat, and the doubts of the masks."""
    found: list[NDArray[np.float32]] = []
    truths: list[NDArray[np.bool_]] = []
    doubts: list[float] = []
    micrographs = sum(len(source.pairs) or _EXPOSURES for source in sources)
    most = min(_PIXELS_OF_ONE, _PIXELS_FOR_THRESHOLD // max(1, micrographs))
    for source in sources:
        for frame, truth, _ in read_frames(source, pixel_size_nm=pixel_size_nm):
            every = max(1, math.ceil(truth.size / most))
            probability = analyzer(frame).probability
            found.append(probability.reshape(-1)[::every].copy())
            truths.append(truth.reshape(-1)[::every] > 0)
            doubts.append(doubt(probability, probability > _HALF))
    return found, truths, doubts

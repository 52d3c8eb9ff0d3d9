"""Agreement of masks with labelled micrographs: by pixel, by particle, and in their certainty.

`evaluate_section` compares one micrograph, `pool` a group of them, `evaluate` makes the record of
a whole evaluation. All numbers of a group come from sums over its sections, so that a section
counts by its pixels and its particles; `mean_dice` is the only mean over sections.

References
----------
Kirillov, A. et al. Panoptic segmentation. CVPR (2019), section 4.1 (matching).
https://arxiv.org/abs/1801.00868
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from msgspec import Struct
from msgspec.structs import astuple
from numpy.typing import NDArray

from nanostream.particles.measures import measure_particles
from nanostream.records import Segmentation
from nanostream.training.scores import (
    CALIBRATION_BINS,
    Calibration,
    Confusion,
    Diameters,
    Evaluation,
    ParticleCounts,
    ReliabilityBin,
    Scores,
    SectionEvaluation,
    quotient,
)

__all__ = ["evaluate", "evaluate_section", "match_particles", "pool"]

_Record = TypeVar("_Record", bound=Struct)


def match_particles(truth: NDArray[np.integer], found: NDArray[np.integer]) -> NDArray[np.int64]:
    """Pairs of true and found particles that overlap by an IoU of at least 0.5.

    Parameters
    ----------
    truth, found : (H, W) integer
        0 is background, each particle has its own positive number.

    Returns
    -------
    (M, 2) int64
        Numbers of the true and the found particle, in order of the true one; each occurs once.

    Notes
    -----
    No assignment has to be solved (``scipy.optimize.linear_sum_assignment``), and no matrix of
    all pairs made: above 0.5 a particle can have one partner only (Kirillov et al., theorem 1).
    At exactly 0.5 it can have two, each half of it and inside it, therefore without a partner
    else; the first of them is taken, and the number of matches is the greatest possible.
    """
    both = (truth > 0) & (found > 0)
    true_label, found_label = truth[both].astype(np.int64), found[both].astype(np.int64)
    stride = int(found.max(initial=0)) + 1
    pair, overlap_px = np.unique(true_label * stride + found_label, return_counts=True)
    of_true, of_found = np.divmod(pair, stride)
    area_px = np.bincount(truth.reshape(-1))[of_true] + np.bincount(found.reshape(-1))[of_found]
    # overlap / (area - overlap) >= 1/2, in integers.
    same = 3 * overlap_px >= area_px
    pairs = np.stack([of_true[same], of_found[same]], axis=1)
    for side in (0, 1):
        pairs = pairs[np.sort(np.unique(pairs[:, side], return_index=True)[1])]
    return pairs


def evaluate_section(
    truth: NDArray[np.integer],
    segmentation: Segmentation,
    *,
    section: str = "",
    group: str = "",
    min_area_px: int = 0,
) -> SectionEvaluation:
    """Agreement of one micrograph's mask with its label.

    Parameters
    ----------
    truth : (H, W) integer
        0 is background, each true particle has its own number.
    segmentation
        What the model found, with pixel size and probability.
    section, group
        Names for the record.
    min_area_px
        True particles of fewer pixels do not count as particles, their pixels do: below
        ``[worker] min_area_px`` none is ever found.

    Raises
    ------
    ValueError
        If truth and mask differ in shape.
    """
    mask = truth > 0
    confusion = Confusion.of(mask, segmentation.labels > 0)
    area_px = np.bincount(truth.reshape(-1))
    counted = np.where(area_px[truth] >= min_area_px, truth, 0)
    true = measure_particles(
        counted,
        segmentation.probability,
        segmentation.probability,
        pixel_size_nm=segmentation.pixel_size_nm,
    )
    matched = len(match_particles(counted, segmentation.labels))
    return SectionEvaluation(
        section=section,
        group=group,
        pixel_size_nm=segmentation.pixel_size_nm,
        dice=confusion.dice,
        confusion=confusion,
        particles=ParticleCounts(len(true), len(segmentation.particles), matched),
        true_diameters=_diameters(true),
        found_diameters=_diameters(segmentation.particles),
        calibration=Calibration.of(mask, segmentation.probability),
        warning=segmentation.warning,
    )


def _diameters(table: Any) -> Diameters:
    whole = table[~table["touches_edge"]]
    sums = [float(whole[name].sum()) for name in ("diameter_px", "diameter_nm")]
    return Diameters(len(whole), *sums)


def pool(sections: Sequence[SectionEvaluation]) -> Scores:
    """Scores of a group of sections.

    Raises
    ------
    ValueError
        If there is none.
    """
    if not sections:
        msg = "no section to take scores of"
        raise ValueError(msg)
    confusion = _summed([one.confusion for one in sections])
    particles = _summed([one.particles for one in sections])
    calibration = _summed([one.calibration for one in sections])
    unit = "px" if any(one.pixel_size_nm is None for one in sections) else "nm"
    true, found = (
        quotient(getattr(total, f"sum_{unit}"), total.count)
        for total in (
            _summed([one.true_diameters for one in sections]),
            _summed([one.found_diameters for one in sections]),
        )
    )
    off = [abs(one.particles.found - one.particles.true) for one in sections]
    return Scores(
        sections=len(sections),
        pixel_accuracy=confusion.accuracy,
        dice=confusion.dice,
        mean_dice=sum(one.dice for one in sections) / len(sections),
        iou=confusion.iou,
        confusion=confusion,
        confusion_rows=confusion.rows,
        particles=particles,
        precision=particles.precision,
        recall=particles.recall,
        count_error=particles.found - particles.true,
        count_error_per_section=sum(off) / len(sections),
        diameter_unit=unit,
        true_diameter=true,
        found_diameter=found,
        diameter_error=found - true,
        calibration_error=calibration.expected_error,
        reliability=_reliability(calibration),
    )


def evaluate(
    sections: Sequence[SectionEvaluation],
    *,
    model: str,
    model_sha256: str,
    threshold: float,
    min_area_px: int,
) -> Evaluation:
    """Record of an evaluation: each group, in order of name, and all sections together.

    Raises
    ------
    ValueError
        If there is no section.
    """
    groups: dict[str, list[SectionEvaluation]] = {}
    for one in sorted(sections, key=lambda one: one.group):
        groups.setdefault(one.group, []).append(one)
    return Evaluation(
        model=model,
        model_sha256=model_sha256,
        threshold=threshold,
        min_area_px=min_area_px,
        groups={name: pool(members) for name, members in groups.items()},
        all=pool(sections),
        sections=tuple(sections),
    )


def _reliability(calibration: Calibration) -> tuple[ReliabilityBin, ...]:
    columns = (calibration.pixels, calibration.probability, calibration.particle)
    return tuple(
        ReliabilityBin(
            low=number / CALIBRATION_BINS,
            high=(number + 1) / CALIBRATION_BINS,
            pixels=pixels,
            mean_probability=quotient(probability, pixels),
            particle_fraction=quotient(particle, pixels),
        )
        for number, (pixels, probability, particle) in enumerate(zip(*columns, strict=True))
    )


def _summed(records: Sequence[_Record]) -> _Record:
    """Field by field, and within fields of several numbers one by one."""
    columns = zip(*map(astuple, records), strict=True)
    totals = [np.sum(column, axis=0).tolist() for column in columns]
    return type(records[0])(*(tuple(t) if isinstance(t, list) else t for t in totals))

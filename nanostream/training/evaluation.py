"""How well masks agree with labelled micrographs: by pixel, by particle, and in their certainty.

`evaluate_section` compares one micrograph, `pool` a group of them, `evaluate` makes the record of
a whole evaluation. All numbers of a group come from sums over its sections, so that a section
counts by its pixels and its particles; `mean_dice` is the only mean over sections.

Where nothing is in the truth and nothing was found, that is right: Dice, IoU, precision and recall
are 1. Precision is 1 where nothing was found (nothing was claimed wrongly), recall where nothing
was to be found. A difference of diameters needs particles on both sides and is NaN otherwise
(null in JSON).

References
----------
Dice, L. R. Measures of the amount of ecologic association between species. Ecology 26, 297 (1945).
https://doi.org/10.2307/1932409

Jaccard, P. The distribution of the flora in the alpine zone. New Phytologist 11, 37 (1912).
https://doi.org/10.1111/j.1469-8137.1912.tb05611.x

Kirillov, A. et al. Panoptic segmentation. CVPR (2019), section 4.1 (matching).
https://arxiv.org/abs/1801.00868

Naeini, M. P., Cooper, G. F. & Hauskrecht, M. Obtaining well calibrated probabilities using
Bayesian binning. AAAI (2015), section "Calibration" (expected calibration error).
https://doi.org/10.1609/aaai.v29i1.9602
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from msgspec import Struct
from msgspec.structs import astuple
from numpy.typing import NDArray

from nanostream.errors import ConfigError
from nanostream.particles.measures import measure_particles
from nanostream.records import Segmentation

__all__ = [
    "CALIBRATION_BINS",
    "FIGURE_SUFFIXES",
    "Calibration",
    "Confusion",
    "Diameters",
    "Evaluation",
    "ParticleCounts",
    "ReliabilityBin",
    "Scores",
    "SectionEvaluation",
    "check_figure",
    "draw_evaluation",
    "evaluate",
    "evaluate_section",
    "match_particles",
    "pool",
]

_Record = TypeVar("_Record", bound=Struct)

#: Bins of equal width between the probabilities 0 and 1.
CALIBRATION_BINS = 10

FIGURE_SUFFIXES = (".svg", ".png", ".pdf")

_CLASSES = ("background", "particle")
_BARS = {
    "pixel_accuracy": "pixel accuracy",
    "dice": "Dice",
    "iou": "IoU",
    "precision": "precision of particles",
    "recall": "recall of particles",
}


class Confusion(Struct, frozen=True):
    """Pixels by what they are and what they were taken for; a particle is the positive."""

    true_negative: int
    false_positive: int
    false_negative: int
    true_positive: int

    @classmethod
    def of(cls, truth: NDArray[np.bool_], mask: NDArray[np.bool_]) -> Confusion:
        """Count the pixels of two masks of one shape.

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        if truth.shape != mask.shape:
            msg = f"truth and mask must be of one shape, not {truth.shape} and {mask.shape}"
            raise ValueError(msg)
        both = int(np.count_nonzero(truth & mask))
        true, found = int(np.count_nonzero(truth)), int(np.count_nonzero(mask))
        return cls(truth.size - true - found + both, found - both, true - both, both)

    @property
    def accuracy(self) -> float:
        """Part of all pixels that were taken for what they are."""
        wrong = self.false_positive + self.false_negative
        right = self.true_positive + self.true_negative
        return _ratio(right, right + wrong)

    @property
    def dice(self) -> float:
        """2 ``|A and B| / (|A| + |B|)`` of the particle pixels."""
        wrong = self.false_positive + self.false_negative
        return _ratio(2 * self.true_positive, 2 * self.true_positive + wrong)

    @property
    def iou(self) -> float:
        """``|A and B| / |A or B|`` of the particle pixels (Jaccard index): Dice / (2 - Dice)."""
        wrong = self.false_positive + self.false_negative
        return _ratio(self.true_positive, self.true_positive + wrong)

    @property
    def rows(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Parts of the background and of the particle pixels taken for background and particle.

        As the paper draws its confusion matrices: each row adds up to 1, or is NaN for a class
        that does not occur.
        """
        background = self.true_negative + self.false_positive
        particle = self.false_negative + self.true_positive
        return (
            (_quotient(self.true_negative, background), _quotient(self.false_positive, background)),
            (_quotient(self.false_negative, particle), _quotient(self.true_positive, particle)),
        )


class ParticleCounts(Struct, frozen=True):
    """Particles that there are, that were found, and that are the same."""

    true: int
    found: int
    matched: int

    @property
    def precision(self) -> float:
        """Part of the found particles that are there."""
        return _ratio(self.matched, self.found)

    @property
    def recall(self) -> float:
        """Part of the true particles that were found."""
        return _ratio(self.matched, self.true)


class Diameters(Struct, frozen=True):
    """Sum of the equivalent circular diameters of some whole particles, and their number."""

    count: int
    sum_px: float
    sum_nm: float


class Calibration(Struct, frozen=True):
    """Pixels, their summed probability and the particle pixels among them, in each bin."""

    pixels: tuple[int, ...]
    probability: tuple[float, ...]
    particle: tuple[int, ...]

    @classmethod
    def of(cls, truth: NDArray[np.bool_], probability: NDArray[np.floating]) -> Calibration:
        """Sort the pixels of a micrograph into `CALIBRATION_BINS` by their probability (0..1)."""
        pixels = np.zeros(CALIBRATION_BINS, np.int64)
        particle = np.zeros(CALIBRATION_BINS, np.int64)
        total = np.zeros(CALIBRATION_BINS)
        for seen, is_particle in zip(probability, truth, strict=True):  # a row: no large copies
            # Probability 1 belongs to the last bin.
            number = np.minimum((seen * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
            pixels += np.bincount(number, minlength=CALIBRATION_BINS)
            particle += np.bincount(number[is_particle], minlength=CALIBRATION_BINS)
            total += np.bincount(number, weights=seen, minlength=CALIBRATION_BINS)
        return cls(tuple(pixels.tolist()), tuple(total.tolist()), tuple(particle.tolist()))

    @property
    def expected_error(self) -> float:
        """Mean over the pixels of how far a bin's particle fraction is from its probability.

        Of the probability to be particle, as a user reads it; not of the confidence in the more
        likely class.
        """
        off = [abs(p - n) for p, n in zip(self.probability, self.particle, strict=True)]
        return sum(off) / max(1, sum(self.pixels))


class ReliabilityBin(Struct, frozen=True):
    """One line of the reliability table; NaN in a bin without pixels."""

    low: float
    high: float
    pixels: int
    mean_probability: float
    particle_fraction: float


class SectionEvaluation(Struct, frozen=True):
    """One micrograph: what is summed over a group, and its own Dice coefficient."""

    section: str
    group: str
    pixel_size_nm: float | None
    dice: float
    confusion: Confusion
    particles: ParticleCounts
    true_diameters: Diameters
    found_diameters: Diameters
    calibration: Calibration
    warning: str


class Scores(Struct, frozen=True):
    """Scores of a group of micrographs.

    Attributes
    ----------
    pixel_accuracy, dice, iou
        Over all pixels of the group.
    mean_dice
        Mean of the sections' own Dice coefficients.
    confusion
        Numbers of pixels; `confusion_rows` as parts of the true class.
    particles, precision, recall
        Particles matched at an IoU of at least 0.5.
    count_error
        Found less true particles, over the group; `count_error_per_section` is the mean of its
        absolute value over the sections.
    diameter_unit
        "nm" where the pixel size of every section is known, else "px".
    true_diameter, found_diameter, diameter_error
        Mean equivalent circular diameters of the particles that do not touch the edge, as in
        ``nanostream.particles.measures.summarize``, and their difference. Over all particles,
        not only the matched ones.
    calibration_error, reliability
        Expected calibration error of the particle's probability, and its bins.
    """

    sections: int
    pixel_accuracy: float
    dice: float
    mean_dice: float
    iou: float
    confusion: Confusion
    confusion_rows: tuple[tuple[float, float], tuple[float, float]]
    particles: ParticleCounts
    precision: float
    recall: float
    count_error: int
    count_error_per_section: float
    diameter_unit: str
    true_diameter: float
    found_diameter: float
    diameter_error: float
    calibration_error: float
    reliability: tuple[ReliabilityBin, ...]


class Evaluation(Struct, frozen=True):
    """Everything of one evaluation, as its JSON file has it."""

    model: str
    model_sha256: str
    threshold: float
    min_area_px: int
    groups: dict[str, Scores]
    all: Scores
    sections: tuple[SectionEvaluation, ...]


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
        _quotient(getattr(total, f"sum_{unit}"), total.count)
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


def check_figure(path: Path) -> None:
    """Say before the work whether `draw_evaluation` can write this file.

    Raises
    ------
    ConfigError
        For another suffix than `FIGURE_SUFFIXES`, or without matplotlib.
    """
    if path.suffix.lower() not in FIGURE_SUFFIXES:
        msg = f"{path}: a figure is written as one of {' '.join(FIGURE_SUFFIXES)}"
        raise ConfigError(msg)
    if find_spec("matplotlib") is None:
        msg = "figures need matplotlib, which is not installed: pip install matplotlib"
        raise ConfigError(msg)


def draw_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Figure of an evaluation: scores, calibration, confusion and errors of each group.

    Raises
    ------
    ConfigError
        As `check_figure`.
    """
    check_figure(path)
    from matplotlib.figure import Figure

    # Names are from folders: no mathematics in them.
    names = [*(name.replace("$", r"\$") for name in evaluation.groups), "all"]
    groups = [*evaluation.groups.values(), evaluation.all]
    figure = Figure(figsize=(14, 8), layout="constrained")
    (bars, reliability), (pixels, particles) = figure.subplots(2, 2, width_ratios=(1.5, 1))
    figure.suptitle(f"{evaluation.model} above {evaluation.threshold:g}")
    _draw_scores(bars, groups)
    _draw_confusion(pixels, groups)
    _draw_errors(particles, groups)
    _draw_reliability(reliability, names, groups)
    for axes in (bars, pixels, particles):
        axes.set_xticks(range(len(groups)), names, rotation=20)
    figure.savefig(path)


def _draw_scores(axes: Any, groups: Sequence[Scores]) -> None:
    for number, (measure, label) in enumerate(_BARS.items()):
        at = np.arange(len(groups)) + (number - 2) * 0.16
        axes.bar(at, [getattr(one, measure) for one in groups], 0.15, label=label)
    axes.set(ylim=(0, 1.3), yticks=np.linspace(0, 1, 6), title="by group")
    axes.legend(ncols=3, fontsize="small", loc="upper center")


def _draw_confusion(axes: Any, groups: Sequence[Scores]) -> None:
    """What background and particle of each group were taken for."""
    rows = np.array([one.confusion_rows for one in groups]).reshape(-1, 4).T
    axes.imshow(rows, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), part in np.ndenumerate(rows):
        colour = "white" if part > 0.5 else "black"
        text = "-" if math.isnan(part) else f"{part:.3f}"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set_yticks(range(4), [f"{true} as {taken}" for true in _CLASSES for taken in _CLASSES])
    axes.set_title("confusion matrix: parts of the true pixels")


def _draw_errors(axes: Any, groups: Sequence[Scores]) -> None:
    """Error of count and of mean diameter, as parts of the true ones; none without particles."""
    counts = [_quotient(one.count_error, one.particles.true) for one in groups]
    sizes = [one.diameter_error / one.true_diameter for one in groups]
    for shift, values, label in ((-0.2, counts, "count"), (0.2, sizes, "mean diameter")):
        at = np.arange(len(groups)) + shift
        axes.bar(at, 100.0 * np.array(values), 0.38, label=label)
    axes.axhline(0.0, color="grey", linewidth=0.8)
    axes.set(ylabel="%", title="error of what was found")
    axes.legend(fontsize="small")


def _draw_reliability(axes: Any, names: Sequence[str], groups: Sequence[Scores]) -> None:
    axes.plot((0, 1), (0, 1), color="grey", linewidth=0.8)
    for name, scores in zip(names, groups, strict=True):
        points = [(one.mean_probability, one.particle_fraction) for one in scores.reliability]
        label = f"{scores.calibration_error:.3f} {name}"
        axes.plot(*zip(*points, strict=True), "o-", linewidth=1, markersize=3, label=label)
    axes.lines[-1].set(color="black", markersize=5)  # of all
    axes.set(xlim=(0, 1), ylim=(0, 1), title="expected calibration error")
    axes.set(xlabel="probability", ylabel="part that is particle")
    axes.legend(fontsize="small")


def _reliability(calibration: Calibration) -> tuple[ReliabilityBin, ...]:
    columns = (calibration.pixels, calibration.probability, calibration.particle)
    return tuple(
        ReliabilityBin(
            low=number / CALIBRATION_BINS,
            high=(number + 1) / CALIBRATION_BINS,
            pixels=pixels,
            mean_probability=_quotient(probability, pixels),
            particle_fraction=_quotient(particle, pixels),
        )
        for number, (pixels, probability, particle) in enumerate(zip(*columns, strict=True))
    )


def _summed(records: Sequence[_Record]) -> _Record:
    """Field by field, and within fields of several numbers one by one."""
    columns = zip(*map(astuple, records), strict=True)
    totals = [np.sum(column, axis=0).tolist() for column in columns]
    return type(records[0])(*(tuple(t) if isinstance(t, list) else t for t in totals))


def _ratio(part: int, whole: int) -> float:
    """Part of a whole; of nothing, all."""
    return part / whole if whole else 1.0


def _quotient(total: float, count: int) -> float:
    return total / count if count else math.nan

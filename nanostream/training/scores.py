"""Records of an evaluation: counts of pixels and particles that add up, and scores made of them.

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

Naeini, M. P., Cooper, G. F. & Hauskrecht, M. Obtaining well calibrated probabilities using
Bayesian binning. AAAI (2015), section "Calibration" (expected calibration error).
https://doi.org/10.1609/aaai.v29i1.9602
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

__all__ = [
    "CALIBRATION_BINS",
    "Calibration",
    "Confusion",
    "Diameters",
    "Evaluation",
    "ParticleCounts",
    "ReliabilityBin",
    "Scores",
    "SectionEvaluation",
    "quotient",
]

#: Bins of equal width between the probabilities 0 and 1.
CALIBRATION_BINS = 10


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
        """``2 |A and B| / (|A| + |B|)`` of the particle pixels."""
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
            (quotient(self.true_negative, background), quotient(self.false_positive, background)),
            (quotient(self.false_negative, particle), quotient(self.true_positive, particle)),
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


def _ratio(part: int, whole: int) -> float:
    """Part of a whole; of nothing, all."""
    return part / whole if whole else 1.0


def quotient(total: float, count: int) -> float:
    """Mean of a sum; NaN of nothing."""
    return total / count if count else math.nan

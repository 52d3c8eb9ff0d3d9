"""The paper's numbers and findings, compared with those of an experiment done again.

`score` takes the confusions of a method on a test set, `judge` those of all methods and materials.
Every rule is fixed here, before there is a number to judge by it.

References
----------
Groschner, C. K., Choi, C. & Scott, M. C. Methodologies for successful segmentation of HRTEM
images via neural network (2020), section III. https://arxiv.org/abs/2001.05022

Efron, B. & Tibshirani, R. J. An introduction to the bootstrap (1993), chapter 13 (percentile
intervals).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from nanostream.training.scores import Confusion

__all__ = [
    "AGREES_WITHIN",
    "BRAGG",
    "MATERIALS",
    "PUBLISHED",
    "Counts",
    "Finding",
    "Published",
    "Score",
    "confusions",
    "judge",
    "score",
    "stands",
]

MATERIALS = ("Au", "CdSe", "Pd")

BRAGG = "Bragg filter"


@dataclass(frozen=True)
class Published:
    """One line of the paper: pixel accuracy and Dice, None where it gives none."""

    accuracy: float | None
    dice: float | None


#: By method ("Au only", "CdSe only", "combined" are networks) and material. Of section III; the
#: Bragg filter's are of one micrograph each, and so is the network's on Pd.
PUBLISHED: dict[tuple[str, str], Published] = {
    ("Au only", "Au"): Published(0.88, 0.79),
    ("CdSe only", "CdSe"): Published(0.87, 0.24),
    ("combined", "Au"): Published(0.92, 0.87),
    ("combined", "CdSe"): Published(0.89, 0.56),
    ("combined", "Pd"): Published(0.96, None),
    (BRAGG, "Au"): Published(0.77, None),
    (BRAGG, "CdSe"): Published(0.71, None),
    (BRAGG, "Pd"): Published(0.91, None),
}

#: A number agrees with the paper's within this difference.
AGREES_WITHIN = 0.05

#: Confusions (N, 4) of a method's masks on the test micrographs of a material.
Counts = Mapping[tuple[str, str], NDArray[np.int64]]


@dataclass(frozen=True)
class Score:
    """Scores over all pixels of a test set, with 95 % intervals over its micrographs.

    Attributes
    ----------
    accuracy, dice
        Of the pixels of all micrographs together.
    accuracy_interval, dice_interval
        Middle 95 % of test sets drawn from this one with replacement.
    rows
        As ``Confusion.rows``: parts of background and particle taken for either.
    empty_accuracy
        Pixel accuracy of a mask without a particle.
    """

    accuracy: float
    accuracy_interval: tuple[float, float]
    dice: float
    dice_interval: tuple[float, float]
    rows: tuple[tuple[float, float], tuple[float, float]]
    empty_accuracy: float


_RESAMPLES = 2000


def _resampled(
    counts: NDArray[np.int64], *, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixel accuracy and Dice of test sets drawn from this one, with replacement.

    The same seed draws the same micrographs, so that two methods are compared on the same.
    """
    rng = np.random.default_rng(seed)
    drawn = counts[rng.integers(len(counts), size=(_RESAMPLES, len(counts)))].sum(1)
    true_negative, false_positive, false_negative, true_positive = drawn.T
    wrong = false_positive + false_negative
    accuracy = (true_positive + true_negative) / drawn.sum(1)
    return accuracy, 2 * true_positive / np.maximum(2 * true_positive + wrong, 1)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Middle 95 % of resampled values."""
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def score(counts: NDArray[np.int64]) -> Score:
    """Scores of a test set; `counts` (N, 4) as of `confusions`."""
    pooled = Confusion(*counts.sum(0).tolist())
    accuracy, dice = _resampled(counts)
    background = pooled.true_negative + pooled.false_positive
    return Score(
        accuracy=pooled.accuracy,
        accuracy_interval=_interval(accuracy),
        dice=pooled.dice,
        dice_interval=_interval(dice),
        rows=pooled.rows,
        empty_accuracy=background / int(counts.sum()),
    )


def confusions(
    truth: Sequence[NDArray[np.bool_]], masks: Sequence[NDArray[np.bool_]]
) -> NDArray[np.int64]:
    """Confusion (N, 4) of each micrograph, columns in the order of `Confusion`'s fields."""
    return np.array(
        [astuple(Confusion.of(one, mask)) for one, mask in zip(truth, masks, strict=True)],
        np.int64,
    )


@dataclass(frozen=True)
class Finding:
    """One statement of the paper, compared with our numbers by a rule fixed beforehand."""

    claim: str
    source: str
    rule: str
    verdict: str
    evidence: str


def judge(counts: Counts) -> list[Finding]:
    """Verdicts on the paper's findings.

    Parameters
    ----------
    counts
        By method and material: the three networks and the Bragg filter on Au, CdSe and Pd. The
        micrographs of a material are the same for all methods.
    """
    scores = {key: score(value) for key, value in counts.items()}
    return [_fails(scores), _combined(counts), _unseen(scores), _bragg(counts)]


def _verdict(fulfilled: Sequence[bool]) -> str:
    if all(fulfilled):
        return "confirmed"
    return "partly confirmed" if any(fulfilled) else "not confirmed"


@dataclass(frozen=True)
class _Gain:
    """How much one method's score is above another's on the same micrographs."""

    difference: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.difference:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


def _gains(better: NDArray[np.int64], worse: NDArray[np.int64]) -> tuple[_Gain, _Gain]:
    """Of pixel accuracy and of Dice."""
    one, other = score(better), score(worse)
    spread = [np.subtract(*pair) for pair in zip(*map(_resampled, (better, worse)), strict=True)]
    return (
        _Gain(one.accuracy - other.accuracy, *_interval(spread[0])),
        _Gain(one.dice - other.dice, *_interval(spread[1])),
    )


def _fails(scores: Mapping[tuple[str, str], Score]) -> Finding:
    own, other = scores["Au only", "Au"], scores["Au only", "CdSe"]
    taken = other.rows[0][1], other.rows[1][0]
    how = (
        "background taken for particle" if taken[0] > taken[1] else "particle taken for background"
    )
    return Finding(
        claim="A network trained on Au only fails on CdSe.",
        source="III A, Figure 2",
        rule="Its Dice on CdSe is less than half of its Dice on Au.",
        verdict=_verdict([other.dice < 0.5 * own.dice]),
        evidence=(
            f"Dice {own.dice:.2f} on Au, {other.dice:.2f} on CdSe (the CdSe network has "
            f"{scores['CdSe only', 'CdSe'].dice:.2f}); pixel accuracy there {other.accuracy:.3f}, "
            f"an empty mask has {other.empty_accuracy:.3f}. On CdSe it takes {taken[0]:.0%} of the "
            f"background for particle and {taken[1]:.0%} of the particle for background: mostly "
            f"{how} (in the paper: background taken for particle)."
        ),
    )


def _combined(counts: Counts) -> Finding:
    fulfilled, gains = [], []
    for material in ("Au", "CdSe"):
        both = _gains(counts["combined", material], counts[f"{material} only", material])
        for measure, gain in zip(("pixel accuracy", "Dice"), both, strict=True):
            fulfilled.append(gain.low > 0)
            gains.append(f"{material} {measure} {gain}")
    return Finding(
        claim="The network trained on both is better on each material than the one of its own.",
        source="III C, Figure 4",
        rule="Pixel accuracy and Dice on Au and on CdSe are higher, the 95 % interval of the "
        "difference above 0.",
        verdict=_verdict(fulfilled),
        evidence="Combined less own: " + "; ".join(gains) + ".",
    )


def _unseen(scores: Mapping[tuple[str, str], Score]) -> Finding:
    new, known = scores["combined", "Pd"], [scores["combined", name] for name in ("Au", "CdSe")]
    worst = min(known, key=lambda one: one.dice)
    return Finding(
        claim="The combined network segments Pd, which it has never seen.",
        source="III C, Figure 5",
        rule="Its pixel accuracy on Pd is above that of an empty mask, and its Dice not below the "
        "lower of its Dices on Au and CdSe.",
        verdict=_verdict([new.accuracy > new.empty_accuracy, new.dice >= worst.dice]),
        evidence=(
            f"Pixel accuracy {new.accuracy:.3f} on Pd, an empty mask has {new.empty_accuracy:.3f}; "
            f"Dice {new.dice:.2f}, on Au {known[0].dice:.2f}, on CdSe {known[1].dice:.2f}. The "
            "paper has one Pd micrograph, this is a set."
        ),
    )


def _bragg(counts: Counts) -> Finding:
    gains = {
        material: _gains(counts["combined", material], counts[BRAGG, material])[0]
        for material in MATERIALS
    }
    shown = [f"{material} {gain}" for material, gain in gains.items()]
    most = max(gains, key=lambda material: gains[material].difference)
    return Finding(
        claim="The network is better than Bragg filtering, most clearly on the weakly scattering "
        "CdSe.",
        source="III C, Figure 5",
        rule="The combined network's pixel accuracy is higher on each material, the 95 % interval "
        "of the difference above 0, and the difference is greatest on CdSe.",
        verdict=_verdict([*(gain.low > 0 for gain in gains.values()), most == "CdSe"]),
        evidence="Network less Bragg filter, pixel accuracy: " + "; ".join(shown) + ".",
    )


def stands(ours: float, paper: float | None) -> str:
    """Where a number of ours stands to the paper's."""
    if paper is None:
        return ""
    off = round(abs(ours - paper), 2)  # the paper's numbers have two digits
    return "agrees" if off <= AGREES_WITHIN else f"{'higher' if ours > paper else 'lower'} by {off}"

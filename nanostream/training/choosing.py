"""Calibration, threshold and minimum peak probability of a network, chosen on labelled pixels.

Of all pixels that a calibrated network gives 0.8, four in five are particle. Training does not
bring that about by itself: networks that are trained to separate classes end too sure of themselves
[2]_. A line through the logits, fitted on images that the network has not seen, mends most of it
[1]_, and changes neither the order of the pixels nor the time that a frame takes (see
`nanostream.segmentation.models.load_network`).

A network that was fine-tuned with little held out stays near the settings of its base:
`mixed_calibration`, `mixed_threshold`.

References
----------
.. [1] J. C. Platt, "Probabilistic outputs for support vector machines and comparisons to
   regularized likelihood methods", Advances in Large Margin Classifiers (1999) 61.
.. [2] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On calibration of modern neural networks",
   ICML (2017), https://arxiv.org/abs/1706.04599.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

__all__ = [
    "Calibration",
    "carried_probability",
    "choose_minimum_peak",
    "choose_threshold",
    "fit_calibration",
    "logits_of",
    "mixed_calibration",
    "mixed_threshold",
]

Calibration = tuple[float, float]
"""Scale and shift of the logits: the probability is ``sigmoid(scale * logit + shift)``."""

_UNCHANGED: Calibration = (1.0, 0.0)

#: float32 has no probability between this logit and 1.
_MOST_LOGIT = 16.0
_BINS = 1024

#: Pixels that `choose_threshold` sorts at a time.
_CHUNK = 1 << 22

# As many held-out files the base's calibration and threshold count for: a few say little of the
# others. The best of 0, 1, 2, ... 32 for `default` on simulated micrographs of one material, by
# the cross entropy of those that were not held out (2026-11-27): for 0, it was 0.180 instead of
# 0.144 with one held out, 0.132 instead of 0.130 with eight. For the threshold, it is the
# best by their pixel accuracy: 0.946 instead of 0.939 with one, 0.948 instead of 0.947 with eight.
_BASE_COUNTS_FOR = 8


def logits_of(probability: NDArray[np.floating]) -> NDArray[np.float32]:
    """Log odds of probabilities, between -16 and 16: float32 knows no number closer to 1.

    Parameters
    ----------
    probability : floating
        Any shape, 0 to 1.

    Returns
    -------
    float32
        Of the same shape.

    Examples
    --------
    >>> logits_of(np.array([0.0, 0.5, 1.0], np.float32)).tolist()
    [-16.0, 0.0, 16.0]
    """
    with np.errstate(divide="ignore"):
        logits = np.log(probability) - np.log1p(-probability)
    return np.asarray(np.clip(logits, -_MOST_LOGIT, _MOST_LOGIT), np.float32)


def fit_calibration(
    probabilities: Iterable[NDArray[np.floating]], labels: Iterable[NDArray[np.bool_]]
) -> Calibration:
    """Scale and shift of the logits that fit the truth best, for the card's ``calibration``.

    Parameters
    ----------
    probabilities : iterable of (H, W) floating
        Of the particle class, not calibrated, for validation images: the network must not have been
        trained on them. An (N, H, W) array is one, too.
    labels : iterable of (H, W) bool
        True where there is particle.

    Returns
    -------
    scale, shift : float
        The calibrated probability is ``sigmoid(scale * logit + shift)``; scale is positive.

    Raises
    ------
    ValueError
        If images and labels do not fit together, one of the classes is absent, or the network is
        not right more often than wrong.

    Notes
    -----
    Logistic regression of the truth on the logit (Platt scaling), with Platt's targets
    ``(N+ + 1) / (N+ + 2)`` and ``1 / (N- + 2)`` instead of 1 and 0, so that it has an end also
    where the classes separate. Pixels are counted in 1024 bins of the logit first: however many
    there are, the fit takes some milliseconds.
    """
    pixels, particle, total = _sums_by_logit(probabilities, labels)
    positives, negatives = particle.sum(), (pixels - particle).sum()
    if not positives or not negatives:
        msg = f"{positives:.0f} particle and {negatives:.0f} background pixels: both are needed"
        raise ValueError(msg)
    used = pixels > 0
    pixels, particle, total = pixels[used], particle[used], total[used]
    mean_logit, count = total / pixels, pixels.sum()
    high, low = (positives + 1) / (positives + 2), 1 / (negatives + 2)
    target = (particle * high + (pixels - particle) * low) / pixels
    weight = pixels / count

    def loss(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = line[0] * mean_logit + line[1]
        miss = weight * (expit(z) - target)
        entropy = float((weight * (np.logaddexp(0.0, z) - target * z)).sum())
        return entropy, np.array([(miss * mean_logit).sum(), miss.sum()])

    found = minimize(loss, np.array(_UNCHANGED), jac=True, method="BFGS")
    scale, shift = float(found.x[0]), float(found.x[1])
    if not (np.isfinite(scale) and np.isfinite(shift) and scale > 0):
        msg = f"the best line has scale {scale:g}: the network is no better than chance here"
        raise ValueError(msg)
    return scale, shift


def _sums_by_logit(
    probabilities: Iterable[NDArray[np.floating]], labels: Iterable[NDArray[np.bool_]]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Pixels, particle pixels and the sum of logits in each of 1024 bins of the logit."""
    pixels, particle, total = np.zeros((3, _BINS))
    for probability, label in zip(probabilities, labels, strict=True):
        if probability.shape != label.shape:
            msg = f"probabilities of shape {probability.shape}, labels of {label.shape}"
            raise ValueError(msg)
        logits = logits_of(probability).ravel()
        bins = ((logits + _MOST_LOGIT) * (_BINS / (2 * _MOST_LOGIT))).astype(np.int64)
        np.clip(bins, 0, _BINS - 1, out=bins)
        pixels += np.bincount(bins, minlength=_BINS)
        particle += np.bincount(bins[label.ravel()], minlength=_BINS)
        total += np.bincount(bins, logits, _BINS)
    return pixels, particle, total


def choose_threshold(
    probabilities: NDArray[np.floating], labels: NDArray[np.bool_], *, steps: int = 100
) -> float:
    """Threshold above which most pixels are taken for what they are.

    Parameters
    ----------
    probabilities, labels
        Of one shape: of validation micrographs, never of test micrographs. (The paper's are of the
        training tiles, section II D: chosen on others it would know the test.)
    steps
        One over the distance of the thresholds that are tried.

    Returns
    -------
    float
        Above 0 and below 1. Of several that are equally good the one nearest to the middle, 0.5.

    Raises
    ------
    ValueError
        If the shapes differ.

    Notes
    -----
    The rule of the paper. For calibrated probabilities it is near 0.5. Accuracy, unlike Dice, is
    greatest for a threshold that gives up a rare class that is hard to find: with 12 % of particle
    pixels, taking all of them for background is right for 88 %. (The threshold of the greatest
    Dice coefficient over a set is lower the more of its particles cannot be seen, and draws the
    others too wide.)
    """
    if probabilities.shape != labels.shape:
        msg = f"probabilities {probabilities.shape} and labels {labels.shape} differ in shape"
        raise ValueError(msg)
    # Compared in the type of the probabilities, as a mask is made. Bin k is above k thresholds.
    tried = (np.arange(1, steps) / steps).astype(probabilities.dtype)
    found, truth = probabilities.reshape(-1), labels.reshape(-1)
    particle, background = np.zeros((2, steps), np.int64)
    for start in range(0, found.size, _CHUNK):  # no copy of everything
        here = np.s_[start : start + _CHUNK]
        number = np.searchsorted(tried, found[here], side="left")
        particle += np.bincount(number[truth[here]], minlength=steps)
        background += np.bincount(number[~truth[here]], minlength=steps)
    # At the threshold k / steps the bins from k on are particle.
    right = particle[::-1].cumsum()[::-1][1:] + background.cumsum()[:-1]
    best = np.flatnonzero(right == right.max()) + 1
    return float(best[np.argmin(np.abs(best - steps / 2))]) / steps


def choose_minimum_peak(
    peaks: NDArray[np.floating], gains: NDArray[np.integer], threshold: float
) -> float:
    """Minimum peak probability of a region with which most pixels are right.

    Parameters
    ----------
    peaks
        (N,) greatest probability in each region above the threshold.
    gains
        (N,) how many more pixels are right without the region: its wrong ones less its right ones.
    threshold
        Of the regions.

    Returns
    -------
    float
        In steps of 0.01, the lowest of the best; 0 if nothing is gained by leaving regions out.
    """
    limits = np.round(np.arange(round(100 * threshold) + 1, 100) / 100, 2)
    gained = np.array([gains[peaks <= limit].sum() for limit in limits])
    return float(limits[gained.argmax()]) if gained.size and gained.max() > 0 else 0.0


def mixed_calibration(
    own: Calibration | None, base: Calibration | None, *, files: int
) -> Calibration | None:
    """Calibration by some held-out files, nearer to the base's the fewer they are."""
    if own == base:
        return own
    base_scale, base_shift = base or _UNCHANGED
    scale, shift = own or _UNCHANGED
    part = _own_part(files)
    return (
        base_scale * (scale / base_scale) ** part,
        base_shift + part * (shift - base_shift),
    )


def mixed_threshold(own: float, base: float, *, files: int) -> float:
    """Threshold by some held-out files, nearer to the base's the fewer they are, 0.01 to 0.99."""
    part = _own_part(files)
    mixed = float(expit(part * float(logit(own)) + (1.0 - part) * float(logit(base))))
    return round(min(max(mixed, 0.01), 0.99), 2)


def _own_part(files: int) -> float:
    """How much some held-out files count beside the base."""
    return files / (files + _BASE_COUNTS_FOR)


def carried_probability(
    probability: float, old: Calibration | None, new: Calibration | None
) -> float:
    """A probability of one calibration as another one gives it for the same logit.

    Examples
    --------
    >>> round(float(carried_probability(0.5, None, (2.0, 1.0))), 3)  # expit(1)
    0.731
    """
    scale, shift = old or _UNCHANGED
    uncalibrated = (float(logit(probability)) - shift) / scale
    scale, shift = new or _UNCHANGED
    return float(expit(scale * uncalibrated + shift))

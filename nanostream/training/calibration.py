"""Two numbers that make a network's probabilities honest.

Of all pixels that a calibrated network gives 0.8, four in five are particle. Training does not
bring that about by itself: networks that are trained to separate classes end too sure of themselves
[2]_. A line through the logits, fitted on images that the network has not seen, mends most of it
[1]_, and changes neither the order of the pixels nor the time that a frame takes (see
`nanostream.segmentation.models.load_network`).

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
from scipy.special import expit

__all__ = ["calibrated_probability", "fit_calibration", "logits_of"]

#: float32 has no probability between this logit and 1.
_MOST_LOGIT = 16.0
_BINS = 1024


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


def calibrated_probability(
    probability: NDArray[np.floating], calibration: tuple[float, float]
) -> NDArray[np.float32]:
    """Probabilities as the network gives them once the two numbers are on its card.

    Parameters
    ----------
    probability : floating
        Any shape, 0 to 1, not calibrated.
    calibration : tuple of float
        Scale and shift of the logits, as `fit_calibration` found them.

    Returns
    -------
    float32
        Of the same shape.
    """
    scale, shift = np.float32(calibration[0]), np.float32(calibration[1])
    return np.asarray(expit(scale * logits_of(probability) + shift), np.float32)


def fit_calibration(
    probabilities: Iterable[NDArray[np.floating]], labels: Iterable[NDArray[np.bool_]]
) -> tuple[float, float]:
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
    positives, negatives = particle.sum(), (pixels - particle).sum()
    if not positives or not negatives:
        msg = f"{positives:.0f} particle and {negatives:.0f} background pixels: both are needed"
        raise ValueError(msg)
    used = pixels > 0
    pixels, particle, total = pixels[used], particle[used], total[used]
    logit, count = total / pixels, pixels.sum()
    high, low = (positives + 1) / (positives + 2), 1 / (negatives + 2)
    target = (particle * high + (pixels - particle) * low) / pixels
    weight = pixels / count

    def loss(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = line[0] * logit + line[1]
        miss = weight * (expit(z) - target)
        entropy = float((weight * (np.logaddexp(0.0, z) - target * z)).sum())
        return entropy, np.array([(miss * logit).sum(), miss.sum()])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS")
    scale, shift = float(found.x[0]), float(found.x[1])
    if not (np.isfinite(scale) and np.isfinite(shift) and scale > 0):
        msg = f"the best line has scale {scale:g}: the network is no better than chance here"
        raise ValueError(msg)
    return scale, shift

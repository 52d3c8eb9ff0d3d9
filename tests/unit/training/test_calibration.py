"""Calibration gives probabilities back their meaning."""

import numpy as np
import pytest
from scipy.special import expit

from nanostream.training.calibration import calibrated_probability, fit_calibration, logits_of


def drawn(scale, shift, *, images=4, side=256, seed=1):
    """Logits of a network, and a truth that follows sigmoid(scale * logit + shift) exactly."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1.0, 3.0, (images, side, side)).astype(np.float32)
    return expit(logits), rng.random(logits.shape) < expit(scale * logits + shift)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.4, -0.7), (1.8, 1.2)])
def test_the_line_that_made_the_truth_is_found(scale, shift):
    probability, label = drawn(scale, shift)
    assert fit_calibration(probability, label) == pytest.approx((scale, shift), abs=0.03)


def test_calibrated_probabilities_are_as_often_right_as_they_say():
    probability, label = drawn(0.4, -0.7)
    honest = calibrated_probability(probability, fit_calibration(probability, label))

    def error(p):
        of_bin = np.minimum((p * 10).astype(int), 9).ravel()
        pixels = np.bincount(of_bin, minlength=10)
        gap = np.bincount(of_bin, (p - label).ravel(), 10)
        return np.abs(gap).sum() / pixels.sum()

    assert error(probability) > 0.1
    assert error(honest) < 0.005


def test_the_order_of_the_pixels_stays():
    probability = np.linspace(0.001, 0.999, 500, dtype=np.float32)
    assert (np.diff(calibrated_probability(probability, (0.4, -0.7))) > 0).all()


def test_classes_that_separate_give_a_finite_line():
    probability = np.array([[0.1, 0.2, 0.8, 0.9]], np.float32)
    scale, shift = fit_calibration([probability], [probability > 0.5])
    assert np.isfinite([scale, shift]).all()
    assert scale > 0


def test_certainty_has_a_finite_logit():
    assert logits_of(np.array([0, 1], np.float32)).tolist() == [-16, 16]


@pytest.mark.parametrize(
    ("label", "word"),
    [
        (np.zeros((4, 4), bool), "0 particle"),
        (np.ones((4, 4), bool), "0 background"),
        (np.ones((4, 5), bool), "shape"),
        (np.tile([True, False], (4, 2)), "chance"),
    ],
    ids=["no particle", "no background", "another shape", "wrong more often than right"],
)
def test_what_cannot_be_fitted_is_said(label, word):
    probability = np.tile(np.array([0.1, 0.9], np.float32), (4, 2))
    with pytest.raises(ValueError, match=word):
        fit_calibration([probability], [label])

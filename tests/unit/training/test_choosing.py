"""Calibration, threshold and minimum peak probability: what labelled pixels say of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np
from scipy.special import expit

from nanostream.training.choosing import (
    carried_probability,
    choose_minimum_peak,
    choose_threshold,
    fit_calibration,
    logits_of,
    mixed_calibration,
    mixed_threshold,
)
from nanostream.training.scores import Confusion


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
    scale, shift = fit_calibration(probability, label)
    honest = expit(scale * logits_of(probability) + shift)

    def error(p):
        of_bin = np.minimum((p * 10).astype(int), 9).ravel()
        pixels = np.bincount(of_bin, minlength=10)
        gap = np.bincount(of_bin, (p - label).ravel(), 10)
        return np.abs(gap).sum() / pixels.sum()

    assert error(probability) > 0.1
    assert error(honest) < 0.005


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


# The threshold


def test_the_threshold_separates_what_can_be_separated():
    labels = np.array([[[True, True, False, False]]])
    probabilities = np.array([[[0.9, 0.42, 0.38, 0.1]]], np.float32)
    assert 0.38 < choose_threshold(probabilities, labels) < 0.42


@pytest.mark.parametrize("steps", [100, 1000])
def test_of_equally_good_thresholds_the_middle_one_is_taken(steps):
    labels = np.array([[[True, False]]])
    probabilities = np.array([[[0.9, 0.1]]], np.float32)
    assert choose_threshold(probabilities, labels, steps=steps) == 0.5


@given(
    st_np.arrays(np.float32, (2, 3, 4), elements=st.floats(0, 1, width=32)),
    st_np.arrays(np.bool_, (2, 3, 4)),
)
def test_no_threshold_is_more_accurate(probabilities, labels):
    chosen = choose_threshold(probabilities, labels, steps=1000)

    def accuracy(threshold):
        return Confusion.of(labels, probabilities > threshold).accuracy

    assert accuracy(chosen) == max(accuracy(k / 1000) for k in range(1, 1000))


def test_a_rare_class_that_is_hard_to_find_is_given_up():
    labels = np.zeros((1, 10, 10), np.bool_)
    labels[0, 0] = True
    probabilities = np.where(labels, 0.4, 0.1).astype(np.float32)
    probabilities[0, 1:4] = 0.6  # more of the background looks like it than there is of it

    threshold = choose_threshold(probabilities, labels, steps=1000)

    assert not (probabilities > threshold).any()


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        choose_threshold(np.zeros((1, 4, 4), np.float32), np.zeros((2, 4, 4), np.bool_))


# The minimum peak


def test_the_minimum_peak_leaves_out_what_is_wrong_more_often_than_right():
    peaks = np.array([0.55, 0.62, 0.7, 0.8, 0.99])
    gains = np.array([30, -10, 25, -90, -400])  # without the first three 45 more pixels are right

    assert choose_minimum_peak(peaks, gains, 0.5) == 0.7
    assert choose_minimum_peak(peaks, -np.abs(gains), 0.5) == 0.0
    assert choose_minimum_peak(peaks[:0], gains[:0], 0.5) == 0.0


# What is near the base


@pytest.mark.parametrize(
    ("base", "chosen", "files", "threshold"),
    [
        (0.999, 0.99, 1, 0.99),
        (0.001, 0.01, 1, 0.01),
        (0.5, 0.8, 10**9, 0.8),
        (0.5, 0.8, 0, 0.69),  # logit 0.8
        (0.5, 0.9, 8, 0.82),  # logit (0.8 + 2.197) / 2
    ],
)
def test_a_threshold_is_near_the_bases_where_little_is_held_out_and_always_one(
    base, chosen, files, threshold
):
    carried = carried_probability(base, None, (2.0, 0.8))
    assert mixed_threshold(chosen, carried, files=files) == threshold


def test_the_fewer_files_are_held_out_the_more_the_bases_calibration_counts():
    own, base = (2.0, 0.9), (0.5, -0.3)
    assert mixed_calibration(own, base, files=0) == pytest.approx(base)
    assert mixed_calibration(own, base, files=8) == pytest.approx((1.0, 0.3))
    assert mixed_calibration(own, base, files=10**9) == pytest.approx(own, rel=1e-6)
    assert mixed_calibration(None, base, files=8) == pytest.approx((0.5**0.5, -0.15))
    assert mixed_calibration(None, None, files=8) is None

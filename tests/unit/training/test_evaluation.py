"""Scores on masks made by hand, with numbers that can be counted; laws; figures."""

import itertools
import math

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import linear_sum_assignment

from nanostream.errors import ConfigError
from nanostream.particles.measures import measure_particles, summarize
from nanostream.records import SectionId, Segmentation
from nanostream.training import evaluation, figures
from nanostream.training.evaluation import evaluate_section, pool
from nanostream.training.scores import Calibration, Confusion, ReliabilityBin


def found(labels, *, probability=None, pixel_size_nm=None):
    """Segmentation that a model would return for this mask."""
    labels = np.asarray(labels, np.int32)
    if probability is None:
        probability = (labels > 0).astype(np.float32)
    table = measure_particles(labels, probability, probability, pixel_size_nm=pixel_size_nm)
    return Segmentation(
        section=SectionId("a", 0),
        labels=labels,
        probability=probability,
        particles=table,
        summary=summarize(table, shape=labels.shape),
        model="by hand",
        model_sha256="0",
        threshold=0.5,
        pixel_size_nm=pixel_size_nm,
    )


def squares(*corners, side=4, size=20):
    """Particles 1, 2, ... as squares at (y, x)."""
    labels = np.zeros((size, size), np.int32)
    for number, (y, x) in enumerate(corners, 1):
        labels[y : y + side, x : x + side] = number
    return labels


def record(*sections):
    return evaluation.evaluate(
        sections, model="by hand", model_sha256="0", threshold=0.5, min_area_px=0
    )


def test_pixels_of_masks_that_overlap_by_half():
    scores = pool([evaluate_section(squares((2, 2)), found(squares((2, 4))))])
    assert scores.confusion == Confusion(
        true_negative=400 - 24, false_positive=8, false_negative=8, true_positive=8
    )
    assert scores.pixel_accuracy == 1 - 16 / 400
    assert scores.dice == scores.mean_dice == 0.5
    assert scores.iou == pytest.approx(1 / 3)
    assert scores.confusion_rows == ((376 / 384, 8 / 384), (0.5, 0.5))


def test_a_group_is_pooled_by_pixels_and_the_mean_dice_by_sections():
    right = evaluate_section(squares((2, 2), side=8), found(squares((2, 2), side=8)))
    wrong = evaluate_section(squares((2, 2), side=2), found(squares((8, 8), side=2)))
    scores = pool([right, wrong])
    assert scores.dice == pytest.approx(128 / 136)
    assert scores.mean_dice == 0.5
    assert scores.sections == 2


def test_nothing_there_and_nothing_found_is_right():
    scores = pool([evaluate_section(squares(), found(squares()))])
    assert scores.dice == scores.mean_dice == scores.iou == scores.pixel_accuracy == 1
    assert scores.precision == scores.recall == 1
    assert scores.count_error == 0
    assert math.isnan(scores.diameter_error)
    assert math.isnan(scores.confusion_rows[1][1])


def test_one_side_empty_is_wrong():
    missed = pool([evaluate_section(squares((2, 2)), found(squares()))])
    invented = pool([evaluate_section(squares(), found(squares((2, 2))))])
    assert missed.dice == invented.dice == missed.iou == 0
    assert (missed.precision, missed.recall, missed.count_error) == (1, 0, -1)
    assert (invented.precision, invented.recall, invented.count_error) == (0, 1, 1)


def test_particles_are_the_same_from_an_overlap_of_one_half_on():
    truth = squares((0, 0), (0, 10), (10, 0), side=6)
    mask = np.zeros_like(truth)
    mask[0:3, 0:6] = 7  # IoU 18 / 36
    mask[0:6, 11:17] = 3  # 30 / 42
    mask[10:12, 0:6] = 4  # 12 / 36
    mask[18:, 18:] = 5
    assert evaluation.match_particles(truth, mask).tolist() == [[1, 7], [2, 3]]
    scores = pool([evaluate_section(truth, found(mask))])
    assert (scores.precision, scores.recall) == (2 / 4, 2 / 3)
    assert (scores.count_error, scores.count_error_per_section) == (1, 1)


def test_of_two_halves_one_is_the_particle():
    truth = squares((2, 2))
    halves = squares((2, 2))
    halves[4:6, 2:6] = 2
    assert evaluation.match_particles(truth, halves).tolist() == [[1, 1]]
    assert evaluation.match_particles(halves, truth).tolist() == [[1, 1]]


def test_count_errors_of_both_signs_do_not_cancel_per_section():
    more = evaluate_section(squares((2, 2)), found(squares((2, 2), (10, 10))))
    less = evaluate_section(squares((2, 2), (10, 10)), found(squares((2, 2))))
    scores = pool([more, less])
    assert (scores.count_error, scores.count_error_per_section) == (0, 1)


def test_diameters_are_of_whole_particles_in_nm_where_every_pixel_size_is_known():
    truth, mask = squares((2, 2)), squares((2, 2), side=8)
    truth[:5, 12:], mask[:9, 12:] = 2, 2  # cut by the edge
    known = evaluate_section(truth, found(mask, pixel_size_nm=0.5))
    unknown = evaluate_section(truth, found(mask))
    whole = math.sqrt(4 * 16 / math.pi)
    scores = pool([known])
    assert (scores.diameter_unit, pool([known, unknown]).diameter_unit) == ("nm", "px")
    assert scores.true_diameter == pytest.approx(0.5 * whole)
    assert scores.diameter_error == pytest.approx(0.5 * whole)
    assert pool([known, unknown]).diameter_error == pytest.approx(whole)


def test_true_specks_that_no_mask_can_have_count_as_pixels_only():
    truth = squares((2, 2))
    truth[15, 15] = 2
    scores = pool([evaluate_section(truth, found(squares((2, 2))), min_area_px=2)])
    assert (scores.recall, scores.count_error) == (1, 0)
    assert scores.confusion.false_negative == 1


def test_calibration_by_hand():
    probability = np.array([[0.0, 0.05, 0.95, 1.0], [0.85, 0.85, 0.85, 0.85]])
    truth = np.array([[False, False, True, True], [True, True, True, False]])
    calibration = Calibration.of(truth, probability)
    assert calibration.pixels == (2, 0, 0, 0, 0, 0, 0, 0, 4, 2)
    assert calibration.particle == (0, 0, 0, 0, 0, 0, 0, 0, 3, 2)
    assert calibration.expected_error == pytest.approx((2 * 0.025 + 4 * 0.1 + 2 * 0.025) / 8)
    section = evaluate_section(truth.astype(np.int32), found(truth, probability=probability))
    bins = pool([section]).reliability
    assert bins[8] == ReliabilityBin(0.8, 0.9, 4, bins[8].mean_probability, 0.75)
    assert bins[8].mean_probability == pytest.approx(0.85)
    assert math.isnan(bins[3].particle_fraction)


def test_a_calibrated_probability_has_no_error_and_a_boaster_has():
    rng = np.random.default_rng(0)
    probability = rng.random((400, 400))
    truth = rng.random((400, 400)) < probability
    assert Calibration.of(truth, probability).expected_error < 0.01
    assert Calibration.of(truth, np.rint(probability)).expected_error == pytest.approx(
        0.25, abs=0.01
    )


MASKS = arrays.arrays(np.bool_, (6, 7))


@given(MASKS, MASKS)
def test_dice_and_iou_do_not_mind_the_order_and_agree(one, other):
    there, back = Confusion.of(one, other), Confusion.of(other, one)
    assert there.dice == back.dice
    assert there.iou == back.iou
    assert there.accuracy == back.accuracy
    assert there.iou == pytest.approx(there.dice / (2 - there.dice))
    assert 0 <= there.dice <= 1
    assert sum(msgspec.structs.astuple(there)) == one.size


@given(arrays.arrays(np.int32, (6, 7), elements=st.integers(0, 4)))
def test_a_perfect_mask_has_perfect_scores(labels):
    scores = pool([evaluate_section(labels, found(labels))])
    perfect = (scores.dice, scores.iou, scores.pixel_accuracy, scores.precision, scores.recall)
    assert perfect == (1, 1, 1, 1, 1)
    assert scores.calibration_error == scores.count_error == 0


@given(*[arrays.arrays(np.int32, (4, 4), elements=st.integers(0, 3))] * 2)
def test_no_assignment_has_more_matches(truth, mask):
    same = np.zeros((4, 4))
    for true, other in itertools.product(range(1, 4), range(1, 4)):
        union = np.sum((truth == true) | (mask == other))
        both = np.sum((truth == true) & (mask == other))
        same[true, other] = union > 0 and both / union >= 0.5
    most = same[linear_sum_assignment(same, maximize=True)].sum()
    pairs = evaluation.match_particles(truth, mask)
    assert len(pairs) == most
    assert all(same[true, other] for true, other in pairs)
    assert all(len(set(side)) == len(pairs) for side in pairs.T)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"\(20, 20\) and \(9, 9\)"):
        evaluate_section(squares(), found(squares(size=9)))


def test_no_section_has_no_scores():
    with pytest.raises(ValueError, match="no section"):
        pool([])


def test_groups_are_kept_apart_and_survive_json():
    gold = evaluate_section(squares((2, 2)), found(squares((2, 2))), group="Au")
    dots = evaluate_section(squares((2, 2)), found(squares()), group="CdSe")
    whole = record(dots, gold)
    assert [(name, scores.dice) for name, scores in whole.groups.items()] == [
        ("Au", 1),
        ("CdSe", 0),
    ]
    assert whole.all.dice == pytest.approx(2 / 3)
    tree = msgspec.json.decode(msgspec.json.encode(whole))
    assert tree["groups"]["Au"]["dice"] == 1
    assert tree["groups"]["CdSe"]["found_diameter"] is None
    assert [one["group"] for one in tree["sections"]] == ["CdSe", "Au"]


@pytest.mark.parametrize("suffix", figures.FIGURE_SUFFIXES)
def test_a_figure_is_drawn(tmp_path, suffix):
    pytest.importorskip("matplotlib")
    section = evaluate_section(squares((2, 2)), found(squares()), group=r"a $\nonsense$ folder")
    path = tmp_path / f"scores{suffix}"
    figures.draw_evaluation(record(section), path)
    begins = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(begins)
    if suffix == ".png":
        assert cv2.imread(str(path)).std() > 10


def test_another_kind_of_figure_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(ConfigError, match=r"scores\.jpg: .*\.svg \.png \.pdf"):
        figures.check_figure(tmp_path / "scores.jpg")


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="pip install matplotlib"):
        figures.check_figure(tmp_path / "scores.svg")

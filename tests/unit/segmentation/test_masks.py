"""Label masks against SciPy's labelling and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from nanostream.segmentation.masks import label_mask, label_regions


def picture(text: str) -> np.ndarray:
    """Probability 1 where the text has an x."""
    return np.array([[c == "x" for c in row] for row in text.split()], np.float32)


def labelled_by_scipy(mask, min_area_px, hole_px):
    """The definition, step by step and slowly."""
    background, count = ndimage.label(~np.pad(mask, 1))
    for hole in range(1, count + 1):
        region = background == hole
        if hole != background[0, 0] and region.sum() < hole_px:
            mask = mask | region[1:-1, 1:-1]
    regions, count = ndimage.label(mask, np.ones((3, 3)))
    labels = np.zeros(mask.shape, np.int32)
    for region in range(1, count + 1):  # SciPy numbers in raster order
        if (regions == region).sum() >= min_area_px:
            labels[regions == region] = labels.max() + 1
    return labels


@given(
    mask=hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24)),
    min_area_px=st.integers(0, 9),
    hole_px=st.integers(0, 9),
)
def test_labels_are_those_of_scipy(mask, min_area_px, hole_px):
    labels = label_mask(
        mask.astype(np.float32), 0.5, min_area_px=min_area_px, fill_holes_below_px=hole_px
    )
    assert labels.dtype == np.int32
    assert np.array_equal(labels, labelled_by_scipy(mask, min_area_px, hole_px))


@given(
    mask=hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24)),
    min_area_px=st.integers(1, 9),
)
def test_labels_have_no_gaps_and_follow_the_raster(mask, min_area_px):
    labels = label_mask(mask.astype(np.float32), 0.5, min_area_px=min_area_px)
    found, first, area = np.unique(labels[labels > 0], return_index=True, return_counts=True)
    assert found.tolist() == list(range(1, found.size + 1))
    assert (np.diff(first) > 0).all()
    assert (area >= min_area_px).all()


def test_large_noise_is_labelled_as_by_scipy():
    # Large enough for OpenCV to number out of raster order.
    probability = np.random.default_rng(0).random((700, 901), np.float32)
    labels = label_mask(probability, 0.6, min_area_px=1, fill_holes_below_px=0)
    expected, _ = ndimage.label(probability > np.float32(0.6), np.ones((3, 3)))
    assert np.array_equal(labels, expected)


def test_threshold_is_exclusive():
    probability = np.array([[0.7, np.nextafter(np.float32(0.7), np.float32(1)), 0.2]], np.float32)
    assert label_mask(probability, 0.7, min_area_px=1).tolist() == [[0, 1, 0]]


def test_nan_is_background():
    probability = np.array([[np.nan, 0.9]], np.float32)
    assert label_mask(probability, 0.5, min_area_px=1).tolist() == [[0, 1]]


def test_corners_join_particles_but_not_holes():
    diagonal = picture("x.. .x. ..x")
    assert label_mask(diagonal, 0.5, min_area_px=3).max() == 1
    two_holes = picture("xxxx x.xx xx.x xxxx")
    for holes in (two_holes, two_holes[:, ::-1]):
        assert (label_mask(holes, 0.5, min_area_px=1, fill_holes_below_px=2) == 1).all()


def test_small_holes_are_filled_and_large_ones_kept():
    ring = picture("xxxxxxx x.xx..x xxxx..x xxxxxxx")
    labels = label_mask(ring, 0.5, min_area_px=4)
    assert labels[1, 1] == 1
    assert (labels[1:3, 4:6] == 0).all()
    assert (label_mask(ring, 0.5, min_area_px=5) == 1).all()


def test_bays_at_the_border_are_no_holes():
    assert label_mask(picture("x.x xxx"), 0.5, min_area_px=3)[0, 1] == 0


def test_filled_holes_count_for_the_area():
    assert label_mask(picture("xxx x.x xxx"), 0.5, min_area_px=9).max() == 1


@pytest.mark.parametrize("value", [0.0, 0.9])
def test_nothing_and_everything(value):
    labels = label_mask(np.full((5, 8), value, np.float32), 0.5, min_area_px=3)
    assert (labels == (value > 0.5)).all()


def test_strided_probabilities_are_read():
    wide = np.zeros((6, 8), np.float16)
    wide[2:4, 2:6] = 1
    assert label_mask(wide[::2, ::2].T, 0.5, min_area_px=1).sum() == 2


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 2), np.uint8), np.zeros(4, np.float32), np.zeros((0, 4), np.float32)]
)
def test_other_arrays_are_refused(wrong):
    with pytest.raises(ValueError, match="2-D array of floating numbers"):
        label_mask(wrong, 0.5, min_area_px=1)


def test_a_region_that_is_nowhere_sure_is_no_particle_and_the_others_keep_their_outline():
    probability = np.array([[0.6, 0.6, 0.1, 0.6, 0.95, 0.6], [0.1, 0.1, 0.1, 0.1, 0.1, 0.6]])
    both = label_mask(probability, 0.5, min_area_px=1)
    sure = label_mask(probability, 0.5, min_area_px=1, peak=0.9)
    assert both.max() == 2
    assert sure.tolist() == [[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1]]
    assert label_mask(probability, 0.5, min_area_px=1, peak=0.4).tolist() == both.tolist()
    assert not label_mask(probability, 0.5, min_area_px=1, peak=0.95).any()


def test_regions_left_out_for_their_size_are_counted():
    mask = np.zeros((20, 40), np.float32)
    mask[2:8, 2:8] = mask[12, 5] = mask[12, 20:22] = mask[15:18, 30:33] = 1.0
    found = label_regions(mask, 0.5, min_area_px=9)
    assert (found.labels.max(), found.dropped) == (2, 2)
    assert label_regions(mask, 0.5, min_area_px=0).dropped == 0
    # What is nowhere sure enough is left out for another reason.
    mask[12, 5] = 0.6
    assert label_regions(mask, 0.5, min_area_px=9, peak=0.8).dropped == 1

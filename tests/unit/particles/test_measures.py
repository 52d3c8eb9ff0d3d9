"""Measurements against SciPy and against discs of known size."""

from __future__ import annotations

import math
import tracemalloc
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from nanostream.particles import intensities
from nanostream.particles.measures import measure_particles, summarize
from nanostream.records import PARTICLE_DTYPE
from tests import factories
from tests.effort import examples

discs = partial(factories.discs, shape=(120, 160))


def measured(labels, image=None, probability=None, *, pixel_size_nm=None, frame=0):
    image = np.ones(labels.shape, np.int16) if image is None else image
    probability = np.ones(labels.shape, np.float32) if probability is None else probability
    return measure_particles(labels, image, probability, pixel_size_nm=pixel_size_nm, frame=frame)


def assert_columns(table):
    assert list(table.columns) == [*(PARTICLE_DTYPE.names or ())]
    numbers = [name for name in PARTICLE_DTYPE.names if PARTICLE_DTYPE[name].kind != "U"]
    assert [table[name].dtype for name in numbers] == [PARTICLE_DTYPE[name] for name in numbers]
    assert pd.api.types.is_string_dtype(table["shape_class"])


label_arrays = hnp.arrays(
    np.int32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=16),
    elements=st.sampled_from([0, 0, 1, 2, 5]),
)


@given(labels=label_arrays, seed=st.integers(0, 99))
def test_measures_are_those_of_scipy(labels, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(-3000, 3000, labels.shape).astype(np.int16)
    probability = rng.random(labels.shape, np.float32)
    table = measured(labels, image, probability)
    present = np.unique(labels[labels > 0])
    assert_columns(table)
    assert table["label"].tolist() == table["particle"].tolist() == present.tolist()
    if not present.size:
        return
    ones = np.ones(labels.shape)
    assert np.array_equal(table["area_px"], ndimage.sum(ones, labels, present))
    centroid = np.array(ndimage.center_of_mass(ones, labels, present))
    assert np.allclose(table[["y", "x"]], centroid, rtol=0, atol=1e-12)
    assert np.allclose(table["mean_intensity"], ndimage.mean(image, labels, present))
    assert np.allclose(table["mean_probability"], ndimage.mean(probability, labels, present))
    boxes = [box for box in ndimage.find_objects(labels) if box is not None]
    expected = [(x.start, y.start, x.stop, y.stop) for y, x in boxes]
    assert table[["left_px", "top_px", "right_px", "bottom_px"]].to_numpy().tolist() == [
        list(box) for box in expected
    ]
    height, width = labels.shape
    assert table["touches_edge"].tolist() == [
        left == 0 or top == 0 or right == width or bottom == height
        for left, top, right, bottom in expected
    ]


@given(labels=label_arrays, factor=st.floats(1e-3, 1e3))
def test_lengths_in_nm_scale_with_the_pixel_size(labels, factor):
    table = measured(labels, pixel_size_nm=factor)
    lengths = [name.removesuffix("_px") for name in table.columns if name.endswith("_px")]
    assert len(lengths) == 11
    lengths.remove("area")
    for name in lengths:
        assert np.allclose(table[f"{name}_nm"], table[f"{name}_px"] * factor)
    assert np.allclose(table["area_nm2"], table["area_px"] * factor**2)
    assert np.allclose(table[["x_nm", "y_nm"]], table[["x", "y"]] * factor)


@pytest.mark.parametrize(("radius", "error"), [(5, 0.03), (12, 0.02), (40, 0.005)])
def test_a_disc_has_its_diameter_and_centre(radius, error):
    table = measured(discs((60, 70, radius)), pixel_size_nm=0.05, frame=7)
    row = table.iloc[0]
    assert row["diameter_nm"] == pytest.approx(2 * radius * 0.05, rel=error)
    assert (row["x"], row["y"]) == (70, 60)
    assert row["right_px"] - row["left_px"] == 2 * radius + 1
    assert row["frame"] == 7


def test_without_a_pixel_size_nm_is_nan():
    table = measured(discs((60, 70, 9)))
    lengths = [name for name in table.columns if name.endswith(("_nm", "_nm2"))]
    assert len(lengths) == 13
    assert table[lengths].isna().all(axis=None)
    # A disc on the grid has no direction, and an image of one grey no contrast.
    rest = table.drop(columns=[*lengths, "orientation_deg", "contrast"])
    assert rest.notna().all(axis=None)


def test_an_empty_mask_gives_an_empty_table_of_the_same_columns():
    labels = np.zeros((8, 9), np.int32)
    table = measured(labels, pixel_size_nm=0.1)
    assert_columns(table)
    assert len(table) == 0
    summary = summarize(table, shape=labels.shape)
    assert (summary.count, summary.count_edge, summary.area_fraction) == (0, 0, 0.0)
    assert math.isnan(summary.mean_diameter_px)
    assert math.isnan(summary.median_diameter_nm)


def test_edge_particles_count_for_the_area_but_not_for_the_size():
    labels = discs((60, 70, 20), (60, 120, 10), (0, 20, 15))
    table = measured(labels, pixel_size_nm=0.5)
    summary = summarize(table, shape=labels.shape)
    assert table["touches_edge"].tolist() == [False, False, True]
    assert (summary.count, summary.count_edge) == (3, 1)
    assert summary.area_fraction == np.count_nonzero(labels) / labels.size
    whole = table["diameter_px"][:2]
    assert summary.mean_diameter_px == pytest.approx(whole.mean())
    assert summary.median_diameter_nm == pytest.approx(0.5 * whole.median())


def test_only_edge_particles_leave_no_size():
    labels = discs((0, 70, 9))
    summary = summarize(measured(labels, pixel_size_nm=0.5), shape=labels.shape)
    assert summary.count == summary.count_edge == 1
    assert math.isnan(summary.mean_diameter_nm)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float16, np.float32, ">i2"])
def test_intensity_is_exact_for_every_type_a_camera_writes(dtype):
    labels = discs((60, 70, 40))
    image = np.full(labels.shape, 200, dtype)
    image[60, 70] = 100
    area = np.count_nonzero(labels)
    expected = 200 - 100 / area
    assert measured(labels, image)["mean_intensity"][0] == pytest.approx(expected, rel=1e-12)


def test_what_is_not_finite_outside_a_particle_does_not_reach_it():
    labels = discs((60, 70, 9), (60, 120, 9))
    image = np.where(labels == 1, 5, np.nan).astype(np.float32)
    assert measured(labels, image)["mean_intensity"].tolist()[0] == 5


@given(seed=st.integers(0, 9), band_px=st.integers(1, 400))
@examples(30)
def test_bands_do_not_change_the_sums(seed, band_px):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (20, 30))
    image = rng.integers(0, 1000, labels.shape)
    whole = measured(labels, image)["mean_intensity"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intensities, "_BAND_PX", band_px)
        assert np.array_equal(measured(labels, image)["mean_intensity"], whole)


def test_no_float64_copy_of_the_image_is_made():
    labels = np.ones((2048, 2048), np.int32)
    image, probability = np.ones(labels.shape, np.int16), np.ones(labels.shape, np.float32)
    tracemalloc.start()
    try:
        measured(labels, image, probability)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < labels.size * 8


@pytest.mark.parametrize("pixel_size_nm", [0.0, -0.1, math.nan, math.inf])
def test_an_impossible_pixel_size_is_refused(pixel_size_nm):
    with pytest.raises(ValueError, match="not a positive number"):
        measured(discs((60, 70, 9)), pixel_size_nm=pixel_size_nm)


def test_arrays_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        measured(discs((60, 70, 9)), np.ones((3, 3)))

"""Shapes against scikit-image, and against discs, ellipses, squares and rods of known size."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shape_bias
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import pdist
from skimage import measure

from nanostream.particles import shapes
from nanostream.particles.measures import measure_particles, summarize
from nanostream.particles.runs import runs_of
from nanostream.records import SHAPE_CLASSES, UNCLASSIFIED
from tests.effort import examples

masks = hnp.arrays(
    np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14)
).filter(np.any)
several = hnp.arrays(
    np.int32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14),
    elements=st.sampled_from([0, 0, 1, 1, 2, 9]),
).filter(np.any)


def measured(labels, image=None, probability=None, **known):
    image = np.ones(labels.shape, np.int16) if image is None else image
    probability = np.ones(labels.shape, np.float32) if probability is None else probability
    return measure_particles(labels, image, probability, pixel_size_nm=None, **known)


def errors(shape, size_px, times=20):
    return shape_bias.bias(shape, size_px, times, np.random.default_rng(0)).mean()


def midpoints(mask):
    """Midpoints of the edges of all pixels, x, y."""
    centres = np.argwhere(mask)[:, ::-1]
    return (centres[:, None] + np.array([[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]])).reshape(-1, 2)


@given(labels=several)
def test_the_perimeter_is_that_of_scikit_image_with_four_directions(labels):
    found = shapes.outlines(runs_of(labels))
    expected = [
        measure.perimeter_crofton(labels == label) for label in np.unique(labels[labels > 0])
    ]
    assert found.perimeter_px == pytest.approx(expected, rel=1e-12)
    assert (found.convexity > 0).all()
    assert (found.convexity <= 1).all()


@given(mask=masks)
def test_axes_and_orientation_are_those_of_scikit_image(mask):
    (known,) = measure.regionprops(mask.astype(np.uint8))
    found = shapes.ellipses(runs_of(mask.astype(np.int32)))
    assert found.major_px[0] == pytest.approx(known.axis_major_length, abs=1e-6)
    assert found.minor_px[0] == pytest.approx(known.axis_minor_length, abs=1e-6)
    if np.isnan(found.orientation_deg[0]):
        assert known.axis_major_length == pytest.approx(known.axis_minor_length, abs=1e-6)
        return
    # scikit-image's is against the rows' axis, and only of directions that differ it says one.
    off = math.radians(found.orientation_deg[0]) - (math.pi / 2 - known.orientation)
    if known.axis_major_length - known.axis_minor_length > 1e-3:
        assert abs(math.sin(off)) < 1e-6


@given(mask=masks)
def test_feret_diameters_are_those_of_every_pair_and_every_direction(mask):
    found = shapes.ferets(shapes.hulls(runs_of(mask.astype(np.int32))))
    points = midpoints(mask)
    assert found.greatest_px[0] == pytest.approx(pdist(points).max(), rel=1e-12)
    directions = np.linspace(0, np.pi, 2000)
    across = np.ptp(points @ np.stack([np.cos(directions), np.sin(directions)]), axis=0)
    # The least width is at an edge of the hull, near which one of the directions is.
    assert found.least_px[0] <= across.min() + 1e-9
    assert found.least_px[0] == pytest.approx(across.min(), abs=0.03)


def test_feret_max_is_that_of_scikit_image():
    mask = shape_bias.drawn(shape_bias.star(5, 0.2), 20, np.random.default_rng(1))
    (known,) = measure.regionprops(mask.astype(np.uint8))
    table = measured(mask.astype(np.int32))
    # Its hull is filled with pixels before it is measured.
    assert table["feret_max_px"][0] == pytest.approx(known.feret_diameter_max, abs=0.5)
    assert table["solidity"][0] == pytest.approx(known.solidity, abs=0.015)


#: Greatest error of the mean over places and angles, in per cent, of what is measured best and of
#: what is measured worst.
@pytest.mark.parametrize(
    ("size_px", "best", "perimeter", "feret"), [(12, 1.5, 3, 8), (20, 1, 3, 5), (80, 0.2, 3, 2)]
)
@pytest.mark.parametrize("shape", shape_bias.known_shapes(), ids=lambda shape: shape.name)
def test_known_shapes_have_their_measures(shape, size_px, best, perimeter, feret):
    off = 100 * errors(shape, size_px, 8)
    assert off[["area_px", "diameter_px", "major_px", "minor_px"]].abs().max() < best
    assert abs(off["perimeter_px"]) < perimeter
    assert abs(off["circularity"]) < 2 * perimeter
    assert off[["feret_max_px", "feret_min_px"]].abs().max() < feret
    assert off["convexity"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("shape", shape_bias.known_shapes(), ids=lambda shape: shape.name)
def test_the_smallest_and_the_largest_have_their_area(shape):
    off = 100 * errors(shape, 3)
    assert abs(off["area_px"]) < 8
    masks = [shape_bias.drawn(shape, 100, np.random.default_rng(2))]
    true = 1e4 * shape.true()["area_px"]
    assert shape_bias.measured(masks)["area_px"][0] == pytest.approx(true, rel=2e-3)


@pytest.mark.parametrize(("height", "width"), [(3, 3), (5, 20), (40, 12), (1, 7), (1, 1)])
def test_an_upright_rectangle_is_measured_to_the_pixel(height, width):
    labels = np.zeros((height + 8, width + 8), np.int32)
    labels[4 : 4 + height, 4 : 4 + width] = 1
    (row,) = measured(labels).itertuples()
    assert row.area_px == height * width
    diagonal = math.hypot(height, width)
    assert diagonal - 0.75 < row.feret_max_px <= diagonal
    if min(height, width) > 2:
        assert row.feret_min_px == min(height, width)
    assert row.convexity == 1
    if height != width:
        assert row.orientation_deg == (0 if width > height else 90)
    else:
        assert math.isnan(row.orientation_deg)


@pytest.mark.parametrize("angle_deg", [0, 20, 45, 90, 110, 170])
def test_the_orientation_is_that_of_cos_and_sin_in_x_and_y(angle_deg):
    y, x = np.mgrid[-30:31, -30:31]
    angle = math.radians(angle_deg)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    labels = ((abs(along) < 25.3) & (abs(across) < 5.2)).astype(np.int32)
    off = (measured(labels)["orientation_deg"][0] - angle_deg + 90) % 180 - 90
    assert abs(off) < 0.5


def test_particles_that_touch_and_particles_in_parts_have_their_own_hulls():
    labels = np.zeros((12, 40), np.int32)
    labels[2:10, 2:12] = 3
    labels[2:10, 12:22] = 7
    labels[2:4, 30:32] = labels[8:10, 34:36] = 9
    table = measured(labels)
    assert table["feret_max_px"][0] == table["feret_max_px"][1] < 13
    assert table["feret_min_px"].tolist()[:2] == [8, 8]
    assert table["solidity"][2] < 0.5


@given(labels=several, seed=st.integers(0, 9))
@examples(30)
def test_spread_and_least_probability_are_those_of_numpy(labels, seed):
    rng = np.random.default_rng(seed)
    image = (rng.integers(0, 50, labels.shape) + 60_000).astype(np.uint16)
    probability = rng.random(labels.shape, np.float32)
    table = measured(labels, image, probability)
    for row in table.itertuples():
        inside = labels == row.label
        assert row.sd_intensity == pytest.approx(image[inside].std(), abs=1e-9)
        assert row.min_probability == probability[inside].min()


def test_contrast_counts_standard_deviations_of_the_ring():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:120, :120]
    labels = np.zeros((120, 120), np.int32)
    for number, (row, column) in enumerate([(30, 30), (30, 90), (90, 30), (90, 90)], 1):
        labels[(y - row) ** 2 + (x - column) ** 2 < 400] = number
    image = rng.normal(100, 5, labels.shape)
    image[labels > 0] -= 20
    plain = measured(labels, image)["contrast"]
    assert plain.to_numpy() == pytest.approx([-4] * 4, rel=0.25)
    # A hot pixel or a particle that the mask lacks does not count.
    image[(np.hypot(y - 30, x - 53) < 3)] = 1e4
    assert measured(labels, image)["contrast"][0] == pytest.approx(plain[0], rel=0.15)
    # Neither does another particle.
    image[labels == 2] = -1e6
    assert measured(labels, image)["contrast"][0] == pytest.approx(plain[0], rel=0.15)


def test_without_background_around_it_a_particle_has_no_contrast():
    rng = np.random.default_rng(0)
    labels = np.ones((20, 20), np.int32)
    assert math.isnan(measured(labels, rng.normal(size=labels.shape))["contrast"][0])
    labels = np.pad(np.ones((9, 9), np.int32), 12)
    assert math.isnan(measured(labels)["contrast"][0])


def test_what_is_small_uncertain_or_split_is_doubtful():
    labels = np.zeros((40, 160), np.int32)
    for number in range(1, 5):
        side = 9 if number == 1 else 20
        labels[10 : 10 + side, 40 * number - 30 : 40 * number - 30 + side] = number
    probability = np.where(labels == 2, 0.7, 0.95).astype(np.float32)
    table = measured(labels, probability=probability, split=np.array([False, False, True, False]))
    assert table["small"].tolist() == [True, False, False, False]
    assert table["uncertain"].tolist() == [False, True, False, False]
    assert table["split"].tolist() == [False, False, True, False]
    assert table["doubtful"].tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("name", "right"),
    [(name, right) for name, right, _ in shape_bias.classes(np.random.default_rng(0))],
)
def test_a_shape_of_40_px_has_its_class(name, right):
    rng = np.random.default_rng(3)
    make = {name: make for name, _, make in shape_bias.classes(rng)}[name]
    drawn = []
    for _ in range(10):
        shape = make()
        drawn.append(shape_bias.drawn(shape, 40 / shape.diameter, rng))
    assert (shape_bias.measured(drawn)["shape_class"] == right).sum() >= 8


def test_classes_are_counted_over_whole_particles_that_are_not_small():
    rng = np.random.default_rng(0)
    drawn = [
        shape_bias.drawn(shape, scale, rng)
        for shape, scale in (
            (shape_bias.disc(), 15),
            (shape_bias.disc(), 20),
            (shape_bias.disc(), 3),
            (shape_bias.rectangle(4), 40),
        )
    ]
    labels = shape_bias.beside(drawn)
    table = measured(labels)
    assert table["shape_class"].tolist() == ["round", "round", UNCLASSIFIED, "elongated"]
    summary = summarize(table, shape=labels.shape)
    assert (summary.count_round, summary.count_elongated, summary.count_faceted) == (2, 1, 0)
    cut = labels[:, labels.shape[1] // 2 - 30 :]
    assert set(measured(cut)["shape_class"]) <= {*SHAPE_CLASSES, UNCLASSIFIED}


@given(labels=several, seed=st.integers(0, 99))
@examples(30)
def test_measures_do_not_depend_on_the_numbers_of_the_labels(labels, seed):
    rng = np.random.default_rng(seed)
    numbers = np.append(0, rng.permutation(np.arange(1, 11)))
    image = rng.integers(0, 99, labels.shape)
    first = measured(labels, image)
    again = measured(numbers[labels], image).set_index("label").loc[numbers[first["label"]]]
    for name in first.columns.drop(["label", "particle"]):
        assert first[name].astype(str).tolist() == again[name].astype(str).tolist(), name

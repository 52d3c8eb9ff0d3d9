"""Touching particles get their own labels, whole ones stay whole; dark holes are filled."""

from __future__ import annotations

import math
from time import process_time

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from nanostream.segmentation.masks import label_mask
from nanostream.segmentation.separation import (
    Separated,
    fill_dark_holes,
    separate,
)
from nanostream.segmentation.separation_rule import SeparationRule

Disc = tuple[float, float, float]


def scene(
    discs: list[Disc], shape: tuple[int, int] = (200, 240)
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Regions of discs (y, x, radius), and the depth that a perfect network would give."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    depth = np.zeros(shape, np.float32)
    for cy, cx, radius in discs:
        inside = 1.0 - np.hypot(y - cy, x - cx) / radius
        depth = np.maximum(depth, inside.astype(np.float32))
    return regions(depth > 0), depth


def regions(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    return label_mask(mask.astype(np.float32), 0.5, min_area_px=1, fill_holes_below_px=0)


def count(separated: Separated) -> int:
    return int(separated.labels.max())


PAIR: list[Disc] = [(100, 80, 30), (100, 136, 28)]


@pytest.mark.parametrize("learnt", [True, False])
def test_two_touching_discs_are_two_and_say_so(learnt: bool) -> None:
    labels, depth = scene([*PAIR, (30, 200, 12)])
    found = separate(labels, depth if learnt else None)
    assert count(found) == 3
    split = {int(found.labels[100, 80]), int(found.labels[100, 136])}
    assert {k + 1 for k in np.flatnonzero(found.split)} == split
    assert not found.split[found.labels[30, 200] - 1]


@pytest.mark.parametrize("radius", [3.5, 8.0, 30.0, 75.0])
def test_pairs_of_any_size_are_split_at_their_waist(radius: float) -> None:
    y, x = 2.0 * radius, 2.0 * radius
    labels, depth = scene(
        [(y, x, radius), (y, x + 1.8 * radius, radius)],
        (math.ceil(4 * radius), math.ceil(6 * radius)),
    )
    found = separate(labels, depth)
    assert count(found) == 2
    waist = x + 0.9 * radius
    columns = np.arange(found.labels.shape[1])
    row = found.labels[round(y)]
    away = np.abs(columns - waist) > max(1.5, 0.2 * radius)
    left, right = int(row[round(x)]), int(row[round(x + 1.8 * radius)])
    assert (row[(row > 0) & away & (columns < waist)] == left).all()
    assert (row[(row > 0) & away & (columns > waist)] == right).all()


@pytest.mark.parametrize("learnt", [True, False])
def test_a_single_particle_with_noise_in_its_depth_stays_one(learnt: bool) -> None:
    labels, depth = scene([(100, 110, 60)])
    noise = np.random.default_rng(3).normal(0.0, 0.08, depth.shape).astype(np.float32)
    found = separate(labels, depth + noise if learnt else None)
    assert count(found) == 1
    assert not found.split.any()


@pytest.mark.parametrize("learnt", [True, False])
def test_a_rod_stays_one(learnt: bool) -> None:
    mask = np.zeros((120, 300), np.uint8)
    cv2.line(mask, (50, 60), (250, 60), 1, 24)
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    depth = np.asarray(distance / distance.max(), np.float32)
    found = separate(regions(mask > 0), depth if learnt else None)
    assert count(found) == 1


def test_a_chain_is_as_many_as_it_has_links() -> None:
    labels, depth = scene([(40.0, 30.0 + 36.0 * k, 20.0) for k in range(6)])
    assert labels.max() == 1
    found = separate(labels, depth)
    assert count(found) == 6
    assert found.split.all()


def test_no_pixel_is_lost_and_none_is_won() -> None:
    labels, depth = scene([*PAIR, (160, 60, 25), (160, 100, 20), (20, 20, 5), (22, 28, 5)])
    found = separate(labels, depth)
    np.testing.assert_array_equal(found.labels > 0, labels > 0)


def test_labels_are_in_raster_order_without_gaps() -> None:
    labels, depth = scene([(150, 50, 20), *PAIR, (20, 120, 10)])
    found = separate(labels, depth)
    names, first = np.unique(found.labels, return_index=True)
    np.testing.assert_array_equal(names, np.arange(5))
    assert (np.diff(first[1:]) > 0).all()
    assert found.split.shape == (4,)


def test_regions_do_not_mix_where_they_nearly_touch() -> None:
    """A line of one background pixel stays between them, whatever the grid is."""
    labels, depth = scene([(100, 70, 40), (100, 151, 40)])
    assert labels.max() == 2
    found = separate(labels, depth)
    np.testing.assert_array_equal(found.labels, labels)
    assert not found.split.any()


def test_without_a_learnt_depth_convex_regions_are_left_alone() -> None:
    labels, _ = scene(PAIR)
    assert count(separate(labels, rule=SeparationRule(solidity=0.5))) == 1


def test_an_empty_mask_has_no_particles() -> None:
    found = separate(np.zeros((40, 50), np.int32), np.zeros((40, 50), np.float32))
    assert count(found) == 0
    assert found.split.shape == (0,)


def test_where_all_is_particle_there_is_one() -> None:
    everything = np.ones((80, 90), np.int32)
    np.testing.assert_array_equal(separate(everything, None).labels, everything)


def test_the_input_is_not_changed() -> None:
    labels, depth = scene(PAIR)
    before = labels.copy(), depth.copy()
    separate(labels, depth)
    np.testing.assert_array_equal(labels, before[0])
    np.testing.assert_array_equal(depth, before[1])


def ring(inner_grey: float) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Mask of a ring, and an image: background 100, ring 40, inside as given."""
    y, x = np.mgrid[:120, :120]
    way = np.hypot(y - 60, x - 60)
    image = np.full((120, 120), 100.0, np.float32)
    image[way < 40] = 40.0
    image[way < 25] = inner_grey
    return (way < 40) & (way >= 25), image


@pytest.mark.parametrize(
    ("inner_grey", "filled"), [(45.0, True), (20.0, True), (95.0, False), (130.0, False)]
)
def test_holes_are_filled_where_they_are_as_dark_as_the_particle(
    inner_grey: float, filled: bool
) -> None:
    mask, image = ring(inner_grey)
    assert bool(fill_dark_holes(regions(mask), image)[60, 60]) is filled


def test_bright_particles_have_bright_holes_filled() -> None:
    mask, image = ring(45.0)
    assert fill_dark_holes(regions(mask), 200.0 - image)[60, 60] == 1


def test_holes_are_left_where_particle_and_background_are_alike() -> None:
    mask, _ = ring(45.0)
    noise = np.random.default_rng(1).normal(100.0, 10.0, mask.shape).astype(np.float32)
    np.testing.assert_array_equal(fill_dark_holes(regions(mask), noise), regions(mask))


def many(particles: int, size: int = 4096) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Discs of 8 to 16 px, one in three touching another."""
    rng = np.random.default_rng(7)
    depth = np.zeros((size, size), np.float32)
    side = math.ceil(math.sqrt(particles))
    pitch = size / side
    for k in range(particles):
        radius = rng.uniform(8.0, 16.0)
        cy, cx = (np.array(divmod(k, side)) + 0.5) * pitch
        if k % 3 == 0:
            cx += pitch - 1.8 * radius - 2
        top, left = max(0, int(cy - 20)), max(0, int(cx - 20))
        box = depth[top : top + 41, left : left + 41]
        y, x = np.mgrid[top : top + box.shape[0], left : left + box.shape[1]]
        np.maximum(box, 1.0 - np.hypot(y - cy, x - cx) / radius, out=box)
    return regions(depth > 0), depth


def test_five_thousand_particles_take_a_moment() -> None:
    """Processor time, with a bound for a machine under load."""
    labels, depth = many(5000)
    start = process_time()
    found = separate(labels, depth)
    assert process_time() - start < 5.0
    assert count(found) == pytest.approx(5000, rel=0.02)


@pytest.mark.parametrize("value", [0, 100])
def test_holes_of_a_micrograph_of_one_value_are_left(value):
    labels = np.zeros((40, 40), np.int32)
    labels[5:30, 5:30] = 1
    labels[12:20, 12:20] = 0
    image = np.full(labels.shape, value, np.int16)
    assert np.array_equal(fill_dark_holes(labels, image), labels)

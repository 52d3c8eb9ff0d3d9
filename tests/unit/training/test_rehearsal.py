"""Labelled micrographs and generated pictures side by side."""

from __future__ import annotations

import numpy as np
import pytest

from nanostream.training import rehearsal
from nanostream.training.rehearsal import Labelled, draw_mixture, rehearsed
from nanostream.training.stream import altered_picture, depth_of, draw_picture

DISC = np.hypot(*(np.mgrid[:200, :240] - np.array([90, 120])[:, None, None])) < 40


def labelled() -> Labelled:
    rng = np.random.default_rng(0)
    pixels = rng.normal(np.where(DISC, 60.0, 100.0), 5.0).astype(np.int16)
    return Labelled(pixels, DISC.astype(np.int32))


@pytest.fixture(scope="module")
def pictures():
    return rehearsed(3, count=3, size_px=128)


def test_every_other_view_is_of_a_labelled_micrograph(pictures):
    images, targets = draw_mixture([labelled()], pictures, 5, batch=4, crop_px=96, seed=2)
    again, _ = draw_mixture([labelled()], pictures, 5, batch=4, crop_px=96, seed=2)
    np.testing.assert_array_equal(images, again)
    assert images.shape == (4, 96, 96, 1)
    assert targets.shape == (4, 96, 96, 4)
    alone, _ = draw_mixture([labelled()], [], 5, batch=4, crop_px=96, seed=2)
    np.testing.assert_array_equal(alone[0], images[0])
    assert not np.array_equal(alone[1], images[1])


def test_a_picture_is_drawn_when_it_is_asked_for_once(monkeypatch):
    drawn = []

    def draw(seed, number, *, size_px):
        drawn.append(number)
        return draw_picture(seed, number, size_px=size_px)

    monkeypatch.setattr(rehearsal, "draw_picture", draw)
    pictures = rehearsed(3, count=160, size_px=64)
    for _ in range(2):
        draw_mixture([labelled()], pictures, 5, batch=4, crop_px=48, seed=2)
    assert len(pictures) == 160
    assert len(drawn) == len(set(drawn)) <= 2


def test_label_and_pixels_are_altered_alike():
    """The dark disc stays where its label is, whatever was done to the picture."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        one = labelled()
        picture = altered_picture(rng, one.pixels, one.instances, size_px=128, kind="labelled")
        inside = picture.truth.instances > 0
        if 0.05 < inside.mean() < 0.95:
            pixels = picture.pixels.astype(np.float32)
            assert np.median(pixels[inside]) < np.median(pixels[~inside])


def test_depth_is_one_at_the_middle_of_each_particle_and_falls_to_its_outline():
    numbers = np.zeros((40, 60), np.uint16)
    numbers[5:16, 5:16] = 1
    numbers[5:16, 16:27] = 2
    numbers[30:, 50:] = 3  # goes on outside
    depth = depth_of(numbers)
    for number in (1, 2, 3):
        assert depth[numbers == number].max() == pytest.approx(1.0)
    assert depth[10, 10] == depth[10, 21] == pytest.approx(1.0)
    assert depth[10, 15] < 0.3
    assert depth[10, 16] < 0.3
    assert depth[39, 59] == pytest.approx(1.0)
    assert (depth[numbers == 0] == 0).all()

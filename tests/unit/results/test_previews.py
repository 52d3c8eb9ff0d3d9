"""Pictures show what is in the mask, where it is, the right way up."""

import numpy as np
import pytest

from nanostream.results.previews import (
    OUTLINE_COLOURS,
    contact_sheet,
    draw_overlay,
    scale_bar_nm,
    stretched,
)

RNG = np.random.default_rng(3)


def micrograph(shape=(100, 80)):
    return RNG.normal(1000, 50, shape).astype(np.int16)


def one_particle(shape=(100, 80), top=10, left=20, side=15):
    labels = np.zeros(shape, np.int32)
    labels[top : top + side, left : left + side] = 1
    return labels


def coloured(picture, colour):
    """Rows and columns of the pixels of a colour."""
    return np.nonzero((picture == np.array(colour, np.uint8)).all(axis=2))


def draw(labels, **options):
    known = {"pixel_size_nm": None, "numbers": False, "side_px": 100}
    return draw_overlay(micrograph(labels.shape), labels, **(known | options))


def test_an_outline_is_the_rim_of_its_particle():
    rows, columns = coloured(draw(one_particle(), classes={1: "round"}), OUTLINE_COLOURS["round"])
    assert (rows.min(), rows.max()) == (10, 24)
    assert (columns.min(), columns.max()) == (20, 34)
    assert rows.size == 4 * 14


@pytest.mark.parametrize(("first_row", "top"), [("top", 10), (None, 10), ("bottom", 75)])
def test_a_picture_is_as_serialem_shows_it(first_row, top):
    picture = draw(one_particle(), classes={1: "round"}, first_row=first_row)
    rows, _ = coloured(picture, OUTLINE_COLOURS["round"])
    assert rows.min() == top


def test_touching_particles_have_an_outline_each():
    labels = one_particle()
    labels[10:25, 35:50] = 2
    picture = draw(labels, classes={1: "round", 2: "faceted"})
    for label, name in ((1, "round"), (2, "faceted")):
        rows, columns = coloured(picture, OUTLINE_COLOURS[name])
        assert (labels[rows, columns] == label).all()
        assert rows.size == 4 * 14


def test_without_a_class_it_is_drawn_all_the_same():
    assert coloured(draw(one_particle()), OUTLINE_COLOURS["unclassified"])[0].size == 56


def test_a_large_micrograph_is_made_smaller_and_a_small_one_larger():
    assert draw(one_particle((400, 300)), side_px=200).shape == (200, 150, 3)
    assert draw(one_particle((40, 30)), side_px=200).shape == (200, 150, 3)
    picture = draw(one_particle((400, 300), 40, 80, 60), side_px=200, classes={1: "round"})
    rows, columns = coloured(picture, OUTLINE_COLOURS["round"])
    assert (rows.min(), columns.min()) == (20, 40)


def test_a_scale_bar_is_as_long_as_it_says():
    labels = np.zeros((200, 300), np.int32)
    picture = draw_overlay(
        np.full(labels.shape, 7, np.int16), labels, pixel_size_nm=0.5, side_px=300, numbers=False
    )
    # 300 px are 150 nm: a bar of 20 nm, which is 40 px.
    rows, columns = coloured(picture[-12:], (255, 255, 255))
    assert columns.max() - columns.min() + 1 == 40
    assert rows.size >= 40


@pytest.mark.parametrize("width_nm", [0.3, 1.0, 7.7, 49.9, 1e4])
def test_a_scale_bar_is_a_round_length_that_fits(width_nm):
    length = scale_bar_nm(width_nm)
    assert 0.08 * width_nm <= length <= 0.25 * width_nm
    assert f"{length:e}"[0] in "125"


def test_numbers_are_left_out_where_there_are_very_many():
    labels = np.zeros((150, 150), np.int32)
    labels[::5, ::5] = np.arange(1, 901).reshape(30, 30)
    many = draw(labels, numbers=True, side_px=150)
    np.testing.assert_array_equal(many.shape, (150, 150, 3))
    assert coloured(many, (0, 0, 0))[0].size < 150  # dark rims of letters


def test_greys_are_stretched_and_what_is_no_number_is_dark():
    pixels = np.linspace(-5, 5, 10_000).reshape(100, 100).astype(np.float32)
    pixels[0, 0] = np.nan
    pixels[-1, -1] = np.inf
    grey = stretched(pixels)
    assert (grey.min(), grey.max()) == (0, 255)
    assert grey[0, 0] == 0
    assert grey[-1, -1] == 255
    assert (np.diff(grey[50].astype(int)) >= 0).all()


@pytest.mark.parametrize("value", [0, 7, np.nan])
def test_an_even_micrograph_is_drawn(value):
    assert stretched(np.full((5, 5), value)).max() == 0


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="do not fit"):
        draw_overlay(micrograph((10, 10)), one_particle(), pixel_size_nm=None)


def test_a_sheet_has_every_picture_in_its_place():
    red, green = (np.full((40, 60, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 255, 0)))
    sheet = contact_sheet([("a", red), ("b/ü.mrc#1", green), ("c", red)], columns=2, side_px=60)
    rows, columns = coloured(sheet, (0, 255, 0))
    assert rows.size == 40 * 60
    assert columns.min() > coloured(sheet, (255, 0, 0))[1].min()
    assert coloured(sheet, (255, 0, 0))[0].size == 2 * 40 * 60
    with pytest.raises(ValueError, match="needs pictures"):
        contact_sheet([])

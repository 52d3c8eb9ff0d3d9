"""Labels of micrographs: which PNG belongs to which micrograph, and what a label may be."""

import cv2
import numpy as np
import pytest

from nanostream.acquisition.simulator import StackWriter
from nanostream.errors import DataSetError
from nanostream.training.labels import Pair, Pairing, pair_labels, read_label, read_pair
from tests.micrograph_files import write_png


def stack(path, *images):
    path.parent.mkdir(parents=True, exist_ok=True)
    with StackWriter(path, pixel_size_nm=0.02) as writer:
        for pixels in images or [np.zeros((8, 8), np.int16)]:
            writer.append(np.asarray(pixels, np.int16))
    return path


def png(path, grey=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.zeros((8, 8), np.uint8) if grey is None else grey
    path.write_bytes(cv2.imencode(".png", grey)[1].tobytes())
    return path


def disc(size=64, radius=12, value=255):
    y, x = np.mgrid[:size, :size]
    return (((y - size // 3) ** 2 + (x - size // 2) ** 2 < radius**2) * value).astype(np.uint8)


# Who belongs to whom


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("gold.mrc", "gold.png"),
        ("gold.mrc", "gold_label.png"),
        ("gold.mrc", "label_gold.png"),
        ("gold.mrc", "gold.z0.png"),
        ("gold.mrc", "gold.z0_label.png"),
        ("gold.z3.mrc", "gold.z3.png"),
        ("gold.npy", "gold.png"),
        ("gold.png", "gold_label.png"),
        ("image_07.png", "label_07.png"),
        ("Gold 2°.mrc", "Gold 2°.PNG"),
    ],
)
def test_a_label_is_known_by_its_name(tmp_path, image, label):
    if image.endswith(".mrc"):
        stack(tmp_path / image)
    elif image.endswith(".npy"):
        np.save(tmp_path / image, np.zeros((8, 8), np.int16))
    else:
        png(tmp_path / image)
    png(tmp_path / label)
    found = pair_labels(tmp_path)
    assert found == Pairing((Pair(tmp_path / image, 0, tmp_path / label),), (), ())


def test_sections_of_a_stack_have_labels_of_their_own(tmp_path):
    image = stack(tmp_path / "day" / "gold.mrc", *np.zeros((4, 8, 8)))
    labels = [png(tmp_path / "day" / name) for name in ("gold.z3.png", "label_gold.z1.png")]
    found = pair_labels(tmp_path)
    assert found.pairs == (Pair(image, 1, labels[1]), Pair(image, 3, labels[0]))
    assert found.unlabelled == (f"{image}#0", f"{image}#2")


def test_what_has_no_partner_is_named(tmp_path):
    alone = [stack(tmp_path / "a.mrc"), png(tmp_path / "picture.png")]
    stray = png(tmp_path / "b_label.png")
    elsewhere = png(tmp_path / "other" / "a_label.png")
    found = pair_labels(tmp_path)
    assert found.pairs == ()
    assert set(found.unlabelled) == set(map(str, alone))
    assert set(found.strays) == {stray, elsewhere}


def test_labels_that_fit_twice_are_refused_with_both_names(tmp_path):
    stack(tmp_path / "gold.mrc")
    png(tmp_path / "gold.png")
    png(tmp_path / "gold_label.png")
    with pytest.raises(DataSetError, match=r"gold\.mrc: section 0 has two labels, gold\.png and g"):
        pair_labels(tmp_path)
    (tmp_path / "gold_label.png").unlink()
    np.save(tmp_path / "gold.npy", np.zeros((8, 8)))
    with pytest.raises(
        DataSetError, match=r"gold\.png can be the label of gold\.mrc and gold\.npy"
    ):
        pair_labels(tmp_path)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("gold.png", r"which of the 2 sections of .*gold\.mrc .*name it gold\.z0\.png"),
        ("gold.z2.png", r"gold\.z2\.png: .*gold\.mrc has 2 sections, counted from 0"),
    ],
)
def test_a_label_of_no_section_is_refused(tmp_path, label, said):
    stack(tmp_path / "gold.mrc", *np.zeros((2, 8, 8)))
    png(tmp_path / label)
    with pytest.raises(DataSetError, match=said):
        pair_labels(tmp_path)


def test_a_folder_that_is_none_is_said(tmp_path):
    with pytest.raises(DataSetError, match="absent is not a folder"):
        pair_labels(tmp_path / "absent")


def test_a_damaged_micrograph_with_a_label_is_named(tmp_path):
    (tmp_path / "gold.mrc").write_bytes(b"torn")
    png(tmp_path / "gold.png")
    ((name, reason),) = pair_labels(tmp_path).failed
    assert name == str(tmp_path / "gold.mrc")
    assert reason


# What a label may be


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (1, 2)])
def test_of_two_grey_values_the_greater_is_particle(tmp_path, low, high):
    grey = np.full((9, 9), low, np.uint8)
    grey[1:3, 1:3] = high
    grey[3, 3] = high  # at a corner: the same particle
    grey[6:, 6:] = high
    label = read_label(png(tmp_path / "l.png", grey))
    assert label.dtype == np.int32
    assert label.max() == 2
    assert label[1, 1] == label[3, 3] != label[8, 8]
    np.testing.assert_array_equal(label > 0, grey == high)


def test_a_single_grey_value_is_all_particle_unless_it_is_zero(tmp_path):
    assert not read_label(png(tmp_path / "0.png", np.zeros((4, 4), np.uint8))).any()
    assert read_label(png(tmp_path / "255.png", np.full((4, 4), 255, np.uint8))).all()


def test_a_16_bit_label_numbers_its_particles(tmp_path):
    grey = np.zeros((6, 6), np.uint16)
    grey[:3], grey[3:5] = 700, 2
    np.testing.assert_array_equal(read_label(png(tmp_path / "n.png", grey)), grey)


def test_grey_saved_as_colour_is_grey(tmp_path):
    mask = disc()
    drawn = np.dstack([mask, mask, mask, np.full_like(mask, 255)])
    np.testing.assert_array_equal(read_label(png(tmp_path / "l.png", drawn)) > 0, mask > 0)


@pytest.mark.parametrize(("colour", "paper"), [(255, 255), (0, 0), (255, 0), (0, 255)])
def test_what_is_drawn_on_transparent_paper_is_particle(tmp_path, colour, paper):
    mask = disc()
    grey = np.where(mask > 0, colour, paper).astype(np.uint8)
    drawn = np.dstack([grey, grey, grey, mask])
    np.testing.assert_array_equal(read_label(png(tmp_path / "l.png", drawn)) > 0, mask > 0)


def test_of_a_palette_the_indices_count_and_not_its_colours(tmp_path):
    mask = (disc() > 0).astype(np.uint8)
    # ImageJ's inverting table: what is 1 is drawn black.
    write_png(tmp_path / "l.png", mask, bits=8, kind=3, palette=[[255] * 3, [0] * 3])
    np.testing.assert_array_equal(read_label(tmp_path / "l.png") > 0, mask > 0)
    numbers = np.zeros((6, 6), np.uint8)
    numbers[:3], numbers[3:5] = 2, 7
    colours = np.arange(3 * 8).reshape(8, 3) * 29 % 256
    write_png(tmp_path / "n.png", numbers, bits=4, kind=3, palette=colours)
    np.testing.assert_array_equal(read_label(tmp_path / "n.png"), numbers)


def test_a_palette_of_grey_values_is_no_numbering_of_particles(tmp_path):
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for name, ramp in (("up.png", np.arange(256)), ("down.png", np.arange(256)[::-1])):
        write_png(tmp_path / name, values, bits=8, kind=3, palette=np.repeat(ramp, 3))
        with pytest.raises(DataSetError, match="64 grey values"):
            read_label(tmp_path / name)


def shaded():
    """A disc on transparent paper, with soft edges or with a hole that was painted over."""
    white = np.full_like(disc(), 255)
    return [
        np.dstack([white, white, white, cv2.blur(disc(), (5, 5))]),
        np.dstack([*[np.where(np.eye(64), 0, white).astype(np.uint8)] * 3, disc()]),
        np.dstack([white, white, white, 0 * white]),
    ]


@pytest.mark.parametrize("content", shaded(), ids=["soft", "two colours", "nothing"])
def test_a_label_that_is_transparent_in_part_is_refused_where_it_can_mean_two_things(
    tmp_path, content
):
    with pytest.raises(DataSetError, match="flatten it"):
        read_label(png(tmp_path / "l.png", content))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (np.dstack([disc(), disc(), 0 * disc()]), "in colour"),
        (np.arange(64, dtype=np.uint8).reshape(8, 8), r"64 grey values \(0, 1, 2, 3, \.\.\.\)"),
        (b"", "not a readable PNG"),
        (b"\x89PNG\r\n\x1a\n torn", "not a readable PNG"),
    ],
)
def test_what_is_no_label_is_refused(tmp_path, content, said):
    path = tmp_path / "bad.png"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        png(path, content)
    with pytest.raises(DataSetError, match=rf"bad\.png: .*{said}"):
        read_label(path)


def test_a_label_of_another_size_is_refused_with_both(tmp_path):
    pair = Pair(stack(tmp_path / "g.mrc", np.zeros((8, 12))), 0, png(tmp_path / "g.png", disc()))
    with pytest.raises(DataSetError, match=r"g\.png is 64 x 64 px, .*g\.mrc#0 12 x 8 px"):
        read_pair(pair)


def test_rows_of_label_and_file_are_in_one_order(tmp_path):
    pixels = np.zeros((8, 8), np.int16)
    pixels[0] = 5
    grey = np.uint8(pixels > 0)
    frame, label = read_pair(
        Pair(stack(tmp_path / "g.mrc", pixels), 0, png(tmp_path / "g.png", grey))
    )
    np.testing.assert_array_equal(frame.pixels > 0, label > 0)
    assert frame.pixel_size_nm == pytest.approx(0.02)

"""Labelled micrographs: who belongs to whom, what a label may be, tiles, files, augmentation."""

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanostream.acquisition.simulator import StackWriter
from nanostream.errors import DataSetError, MicrographError
from nanostream.segmentation.normalization import median_filter
from nanostream.training.groschner2020 import datasets
from nanostream.training.groschner2020.datasets import (
    Pair,
    Tile,
    pair_labels,
    read_label,
    read_pair,
)


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
    assert found == datasets.Pairing((Pair(tmp_path / image, 0, tmp_path / label),), (), ())


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
    with pytest.raises(MicrographError, match=r"gold\.mrc"):
        pair_labels(tmp_path)


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


# Counts


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.array([[-5, 300]], np.int16), [[-5, 300]]),
        (np.array([[0, 255]], np.uint8), [[0, 255]]),
        (np.array([[0, 65535]], np.uint16), [[0, 32767]]),
        (np.array([[7, 9]], np.uint16), [[3, 4]]),
        (np.array([[-32768, -32760]], np.int16), [[0, 4]]),  # stored less 32768
        (np.array([[0.6, 1000.4]], np.float32), [[1, 1000]]),
    ],
)
def test_counts_become_int16(pixels, expected):
    counts = datasets.as_int16(pixels, "x")
    assert counts.dtype == np.int16
    assert counts.tolist() == expected


@pytest.mark.parametrize("ends", [(0.0, 1.0), (0.0, 70000.0), (np.nan, 500.0)])
def test_counts_that_int16_would_spoil_are_refused(ends):
    with pytest.raises(DataSetError, match=r"gold\.npy: float32 pixels from .* do not fit"):
        datasets.as_int16(np.array([ends], np.float32), "gold.npy")


# Tiles


@pytest.fixture
def labelled(tmp_path):
    """A micrograph of 80 x 50 px with a particle in the lower left, and its filtered counts."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 2000, (80, 50)).astype(np.int16)
    pixels[40, 5] = 30000  # a hot pixel
    grey = np.zeros((80, 50), np.uint8)
    grey[30:45, 2:9] = 255
    grey[73:, 40:] = 255  # in no whole tile
    pair = Pair(stack(tmp_path / "g.mrc", pixels), 0, png(tmp_path / "g.png", grey))
    return pair, median_filter(pixels), grey > 0


def test_tiles_hold_the_filtered_counts_where_there_are_particles(labelled):
    pair, filtered, mask = labelled
    tiles = list(datasets.cut_tiles([pair], size_px=24))
    assert [tile.source for tile in tiles] == ["g.mrc#0 y24 x0"]
    np.testing.assert_array_equal(tiles[0].pixels, filtered[24:48, :24])
    np.testing.assert_array_equal(tiles[0].label, mask[24:48, :24])
    assert tiles[0].pixels.dtype == np.int16
    assert tiles[0].pixels.max() < 30000
    assert len(list(datasets.cut_tiles([pair], size_px=24, keep_empty=True))) == 3 * 2


def test_files_are_read_when_their_turn_comes(labelled, tmp_path):
    missing = Pair(tmp_path / "absent.mrc", 0, tmp_path / "absent.png")
    tiles = datasets.cut_tiles([labelled[0], missing], size_px=24)
    assert next(tiles).source == "g.mrc#0 y24 x0"
    with pytest.raises(MicrographError, match="absent"):
        next(tiles)


def test_a_tile_is_divided_by_the_data_sets_maximum():
    tiles = [Tile(np.full((2, 2), n, np.int16), np.eye(2, dtype=bool)) for n in (100, 400)]
    assert datasets.greatest_count(tiles) == 400
    image, maps = datasets.scale_tile(tiles[0], maximum=400)
    assert image.shape, maps.shape == ((2, 2, 1), (2, 2, 2))
    assert image.dtype == maps.dtype == np.float32
    assert (image == 0.25).all()
    np.testing.assert_array_equal(maps[..., 1], np.eye(2))
    np.testing.assert_array_equal(maps.sum(axis=-1), 1)


# HDF5


def some_tiles(count=3, size=16):
    rng = np.random.default_rng(1)
    return [
        Tile(
            rng.integers(-9, 999, (size, size)).astype(np.int16),
            rng.random((size, size)) < 0.5,
            f"g.mrc#0 y{16 * n} x0",
        )
        for n in range(count)
    ]


def test_tiles_come_back_from_a_file(tmp_path):
    tiles = some_tiles()
    assert datasets.write_hdf5(tmp_path / "set.h5", iter(tiles)) == 3
    back = list(datasets.read_hdf5(tmp_path / "set.h5"))
    for tile, same in zip(tiles, back, strict=True):
        np.testing.assert_array_equal(tile.pixels, same.pixels)
        np.testing.assert_array_equal(tile.label, same.label)
        assert (same.pixels.dtype, same.label.dtype) == (np.int16, np.bool_)
        assert same.source == tile.source
    with h5py.File(tmp_path / "set.h5") as file:
        assert (file["images"].shape, file["images"].dtype) == ((3, 16, 16, 1), np.int16)
        assert (file["maps"].shape, file["maps"].dtype) == ((3, 16, 16, 2), np.uint8)
        assert file.attrs["maximum"] == datasets.greatest_count(tiles)


@pytest.mark.parametrize("greatest", [1.0, 255.0])
def test_files_as_the_published_notebooks_make_them_are_read(tmp_path, greatest):
    """Two files, one-hot maps in float64."""
    tiles = some_tiles(2)
    with h5py.File(tmp_path / "i.h5", "w") as file:
        file["images"] = np.stack([tile.pixels for tile in tiles])[..., None]
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["maps"] = np.stack([np.stack([~t.label, t.label], -1) * greatest for t in tiles])
    back = list(datasets.read_hdf5(tmp_path / "i.h5", tmp_path / "m.h5"))
    for tile, same in zip(tiles, back, strict=True):
        np.testing.assert_array_equal(tile.pixels, same.pixels)
        np.testing.assert_array_equal(tile.label, same.label)


def test_a_single_map_is_particle_where_it_is_not_zero(tmp_path):
    tile = some_tiles(1)[0]
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["images"] = tile.pixels[None, ..., None]
        file["maps"] = tile.label[None, ..., None].astype(np.uint8)
    np.testing.assert_array_equal(next(datasets.read_hdf5(tmp_path / "s.h5")).label, tile.label)


@pytest.mark.parametrize(
    ("images", "maps"),
    [(None, (2, 8, 8, 2)), ((2, 8, 8, 1), None), ((2, 8, 8), (2, 8, 8, 2)),
     ((2, 8, 8, 1), (1, 8, 8, 2)), ((2, 8, 8, 1), (2, 4, 4, 2)), ((2, 8, 8, 1), (2, 8, 8, 3))],
)  # fmt: skip
def test_other_shapes_are_refused_by_name(tmp_path, images, maps):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        for name, shape in (("images", images), ("maps", maps)):
            if shape:
                file[name] = np.zeros(shape, np.int16)
    said = rf"s\.h5: images {images or 'absent'}, maps {maps or 'absent'}; expected"
    with pytest.raises(DataSetError, match=said.replace("(", r"\(").replace(")", r"\)")):
        next(datasets.read_hdf5(tmp_path / "s.h5"))


def test_a_rotten_tile_is_refused_by_name(tmp_path):
    path = tmp_path / "s.h5"
    datasets.write_hdf5(path, some_tiles())
    with h5py.File(path) as file:
        offset = file["images"].id.get_chunk_info(2).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 20] ^= 0xFF
    path.write_bytes(content)
    tiles = datasets.read_hdf5(path)
    assert [next(tiles).source[-2:] for _ in range(2)] == ["x0", "x0"]
    with pytest.raises(DataSetError, match=r"s\.h5: not a data set, or damaged"):
        next(tiles)


@pytest.mark.parametrize("odd", ["group", "scalar"])
def test_other_things_by_the_names_of_data_sets_are_refused(tmp_path, odd):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        for name in ("images", "maps"):
            if odd == "group":
                file.create_group(name)
            else:
                file[name] = 1.0
    with pytest.raises(DataSetError, match=r"s\.h5"):
        next(datasets.read_hdf5(tmp_path / "s.h5"))


def test_what_is_no_hdf5_file_is_refused(tmp_path):
    (tmp_path / "s.h5").write_text("no")
    with pytest.raises(DataSetError, match=r"s\.h5: cannot be read as HDF5"):
        next(datasets.read_hdf5(tmp_path / "s.h5"))


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    small = Tile(np.zeros((4, 4), np.int16), np.ones((4, 4), bool))
    with pytest.raises(DataSetError, match=r"s\.h5: tiles of \(16, 16\) and \(4, 4\) px"):
        datasets.write_hdf5(tmp_path / "s.h5", [*some_tiles(1), small])
    with pytest.raises(DataSetError, match="not one tile"):
        datasets.write_hdf5(tmp_path / "s.h5", [])
    assert list(tmp_path.iterdir()) == []


# Augmentation


@given(seed=st.integers(0, 2**32), size=st.integers(8, 90))
def test_nothing_from_outside_the_tile_enters(seed, size):
    # OpenCV fills with 0 what is outside.
    tile = Tile(np.full((size, size), 1000, np.int16), np.ones((size, size), bool))
    crop_px = datasets.greatest_crop_px(size)
    turned = datasets.augment(tile, np.random.default_rng(seed), crop_px=crop_px)
    assert turned.pixels.shape == turned.label.shape == (crop_px, crop_px)
    assert (turned.pixels == 1000).all()
    assert turned.label.all()


def test_image_and_label_are_turned_alike_by_every_angle_and_mirrored():
    size = 96
    y, x = np.mgrid[:size, :size]
    mask = (y > 48) & (x > 30)
    tile = Tile((mask * 1000).astype(np.int16), mask)
    angles, hands = [], []
    rng = np.random.default_rng(0)
    for _ in range(200):
        # Gradients tell the angle; two of them, whether it was mirrored.
        turned = datasets.augment(tile, rng, crop_px=64)
        clear = np.abs(turned.pixels - 500) > 1  # counts are rounded, labels are not
        np.testing.assert_array_equal(turned.label[clear], turned.pixels[clear] > 500)
        ramps = [datasets.augment(Tile(ramp.astype(np.int16) * 50, mask), np.random.default_rng(_),
                                  crop_px=64).pixels.astype(float) for ramp in (x, y)]  # fmt: skip
        (gx, gy), (hx, hy) = ([np.diff(r, axis=a).mean() / 50 for a in (1, 0)] for r in ramps)
        angles.append(np.degrees(np.arctan2(gy, gx)) % 360)
        hands.append(gx * hy - gy * hx)
    assert np.histogram(angles, bins=6, range=(0, 360))[0].min() > 15
    np.testing.assert_allclose(np.abs(hands), 1, atol=0.02)  # turned, never stretched
    assert 70 < np.sum(np.array(hands) < 0) < 130


def test_the_same_seed_gives_the_same_view_and_the_tile_stays_as_it_was():
    tile = some_tiles(1, size=64)[0]
    before = tile.pixels.copy()
    views = [datasets.augment(tile, np.random.default_rng(seed), crop_px=40) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(views[0].pixels, views[1].pixels)
    assert not np.array_equal(views[0].pixels, views[2].pixels)
    np.testing.assert_array_equal(tile.pixels, before)
    assert views[0].source == tile.source


def test_a_crop_that_needs_a_border_is_refused():
    assert datasets.greatest_crop_px(512) >= 352
    assert datasets.greatest_crop_px(725) == 512
    tile = some_tiles(1, size=512)[0]
    assert datasets.augment(tile, np.random.default_rng(0)).pixels.shape == (352, 352)
    with pytest.raises(ValueError, match="at most 361 px"):
        datasets.augment(tile, np.random.default_rng(0), crop_px=362)

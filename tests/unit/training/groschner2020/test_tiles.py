"""Tiles as the paper cuts, turns and scales them."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanostream.acquisition.simulator import StackWriter
from nanostream.errors import MicrographError
from nanostream.segmentation.normalization import median_filter
from nanostream.training.groschner2020 import tiles as paper
from nanostream.training.groschner2020.tiles import Tile
from nanostream.training.labels import Pair


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
    tiles = list(paper.cut_tiles([pair], size_px=24))
    assert [tile.source for tile in tiles] == ["g.mrc#0 y24 x0"]
    np.testing.assert_array_equal(tiles[0].pixels, filtered[24:48, :24])
    np.testing.assert_array_equal(tiles[0].label, mask[24:48, :24])
    assert tiles[0].pixels.dtype == np.int16
    assert tiles[0].pixels.max() < 30000
    assert len(list(paper.cut_tiles([pair], size_px=24, keep_empty=True))) == 3 * 2


def test_files_are_read_when_their_turn_comes(labelled, tmp_path):
    missing = Pair(tmp_path / "absent.mrc", 0, tmp_path / "absent.png")
    tiles = paper.cut_tiles([labelled[0], missing], size_px=24)
    assert next(tiles).source == "g.mrc#0 y24 x0"
    with pytest.raises(MicrographError, match="absent"):
        next(tiles)


def test_a_tile_is_divided_by_the_data_sets_maximum():
    tiles = [Tile(np.full((2, 2), n, np.int16), np.eye(2, dtype=bool)) for n in (100, 400)]
    assert paper.greatest_count(tiles) == 400
    image, maps = paper.scale_tile(tiles[0], maximum=400)
    assert image.shape, maps.shape == ((2, 2, 1), (2, 2, 2))
    assert image.dtype == maps.dtype == np.float32
    assert (image == 0.25).all()
    np.testing.assert_array_equal(maps[..., 1], np.eye(2))
    np.testing.assert_array_equal(maps.sum(axis=-1), 1)


@given(seed=st.integers(0, 2**32), size=st.integers(8, 90))
def test_nothing_from_outside_the_tile_enters(seed, size):
    # OpenCV fills with 0 what is outside.
    tile = Tile(np.full((size, size), 1000, np.int16), np.ones((size, size), bool))
    crop_px = paper.greatest_crop_px(size)
    turned = paper.augment(tile, np.random.default_rng(seed), crop_px=crop_px)
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
        turned = paper.augment(tile, rng, crop_px=64)
        clear = np.abs(turned.pixels - 500) > 1  # counts are rounded, labels are not
        np.testing.assert_array_equal(turned.label[clear], turned.pixels[clear] > 500)
        ramps = [paper.augment(Tile(ramp.astype(np.int16) * 50, mask), np.random.default_rng(_),
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
    views = [paper.augment(tile, np.random.default_rng(seed), crop_px=40) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(views[0].pixels, views[1].pixels)
    assert not np.array_equal(views[0].pixels, views[2].pixels)
    np.testing.assert_array_equal(tile.pixels, before)
    assert views[0].source == tile.source


def test_a_crop_that_needs_a_border_is_refused():
    assert paper.greatest_crop_px(512) >= 352
    assert paper.greatest_crop_px(725) == 512
    tile = some_tiles(1, size=512)[0]
    assert paper.augment(tile, np.random.default_rng(0)).pixels.shape == (352, 352)
    with pytest.raises(ValueError, match="at most 361 px"):
        paper.augment(tile, np.random.default_rng(0), crop_px=362)

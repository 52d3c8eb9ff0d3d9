"""Tiles cover every pixel once, and no seam shows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from nanostream.segmentation.tiles import plan_tiles, predict_tiled


@given(
    st.tuples(st.integers(1, 80), st.integers(1, 80)),
    st.integers(16, 40),
    st.sampled_from([0, 5, 32, 96]),
    st.sampled_from([1, 16]),
)
def test_tiles_cover_every_pixel_once(blocks, tile_blocks, margin_px, step_px):
    shape = (blocks[0] * step_px, blocks[1] * step_px)
    size, tiles = plan_tiles(
        shape, tile_px=tile_blocks * step_px + 2 * margin_px, margin_px=margin_px, step_px=step_px
    )
    covered = np.zeros(shape, int)
    for tile in tiles:
        covered[tile.core] += 1
        assert tile.top % step_px == tile.left % step_px == 0
        for axis, start in enumerate((tile.top, tile.left)):
            core = tile.core[axis]
            assert start >= 0
            assert start + size[axis] <= shape[axis]
            assert start == 0 or core.start - start >= margin_px
            assert start + size[axis] == shape[axis] or start + size[axis] - core.stop >= margin_px
    assert (covered == 1).all()


@given(st.integers(1, 150), st.integers(1, 150), st.integers(1, 5), st.randoms())
def test_a_tiled_filter_equals_the_filter_of_the_whole(height, width, batch, random):
    rng = np.random.default_rng(random.getrandbits(32))
    image = rng.random((height, width), np.float32)

    def blur(tiles):
        return np.stack([uniform_filter(tile[..., 0], 9, mode="constant") for tile in tiles])

    tiled = predict_tiled(image, blur, tile_px=64, margin_px=4, step_px=4, batch=batch)
    padded = np.pad(image, ((0, -height % 4), (0, -width % 4)), mode="symmetric")
    np.testing.assert_allclose(tiled, blur(padded[None, ..., None])[0, :height, :width], atol=1e-6)

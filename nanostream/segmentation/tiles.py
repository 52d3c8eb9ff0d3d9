"""A micrograph of any size as overlapping tiles of one size, and back.

The network is fully convolutional: a pixel's probability depends on the pixels within its
receptive field only. A tile that carries a margin of that radius, and starts at a multiple of the
network's total pooling, gives exactly the whole image's probabilities in its core, so no seam
shows (the published workflow cuts 512x512 tiles without margins, and each cut shows).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tile", "plan_tiles", "predict_tiled"]

Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Tile:
    """Where a tile is read and which part of the image its core writes, in padded pixels.

    Attributes
    ----------
    top, left : int
        First row and column that the network sees.
    core : tuple of slice
        Rows and columns of the image that this tile, and no other, decides.
    """

    top: int
    left: int
    core: tuple[slice, slice]

    def within(self) -> tuple[slice, slice]:
        """The core inside the tile."""
        rows, columns = self.core
        return (
            slice(rows.start - self.top, rows.stop - self.top),
            slice(columns.start - self.left, columns.stop - self.left),
        )


def plan_tiles(
    shape: tuple[int, int], *, tile_px: int, margin_px: int, step_px: int
) -> tuple[tuple[int, int], list[Tile]]:
    """Tiles of one size whose cores cover every pixel once.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the image; multiples of ``step_px``.
    tile_px : int
        Wanted side of a tile, margins included.
    margin_px : int
        Least distance of a core from a tile's edge, unless that is the image's edge.
    step_px : int
        Tiles start at multiples of it: the network's total pooling.

    Returns
    -------
    size : tuple of int
        Height and width of every tile.
    tiles : list of Tile
    """
    rows = _plan_axis(shape[0], tile_px, margin_px, step_px)
    columns = _plan_axis(shape[1], tile_px, margin_px, step_px)
    tiles = [
        Tile(top, left, (slice(*row), slice(*column)))
        for top, row in rows[1]
        for left, column in columns[1]
    ]
    return (rows[0], columns[0]), tiles


def _plan_axis(
    length: int, tile_px: int, margin_px: int, step_px: int
) -> tuple[int, list[tuple[int, tuple[int, int]]]]:
    if length <= tile_px:
        return length, [(0, (0, length))]
    margin = -(-margin_px // step_px) * step_px
    inner = max(step_px, (tile_px - 2 * margin) // step_px * step_px)
    count = -(-(length - 2 * margin) // inner)
    # The same number of tiles, no larger than they need to be.
    inner = -(-(length - 2 * margin) // (count * step_px)) * step_px
    size = min(length, inner + 2 * margin)
    starts = [min(i * inner, length - size) for i in range(count)]
    ends = [start + size - margin for start in starts[:-1]] + [length]
    begins = [0, *ends[:-1]]
    return size, [
        (start, (begin, end)) for start, begin, end in zip(starts, begins, ends, strict=True)
    ]


def predict_tiled(
    image: NDArray[np.float32],
    predict: Predict,
    *,
    tile_px: int,
    margin_px: int,
    step_px: int,
    batch: int = 1,
) -> NDArray[np.float32]:
    """Probabilities of a whole micrograph.

    Parameters
    ----------
    image : (H, W) float32
        Filtered and normalised; any size.
    predict : callable
        (N, h, w, 1) float32 to (N, h, w) or (N, h, w, outputs) float32.
    tile_px, margin_px, step_px : int
        See `plan_tiles`.
    batch : int
        Tiles at a time.

    Returns
    -------
    (H, W) or (H, W, outputs) float32
        Equal to the prediction of the whole image at once, mirrored at its lower and right edges
        to the next multiple of ``step_px``.
    """
    height, width = image.shape
    bottom, right = -height % step_px, -width % step_px
    if bottom or right:
        image = np.pad(image, ((0, bottom), (0, right)), mode="symmetric")
    size, tiles = plan_tiles(image.shape, tile_px=tile_px, margin_px=margin_px, step_px=step_px)
    if len(tiles) == 1:
        return predict(image[None, :, :, None])[0, :height, :width]
    probability = np.empty(0, np.float32)
    for group in _groups(tiles, batch):
        stack = np.stack([image[t.top : t.top + size[0], t.left : t.left + size[1]] for t in group])
        parts = predict(stack[..., None])
        if not probability.size:
            probability = np.empty((*image.shape, *parts.shape[3:]), np.float32)
        for tile, part in zip(group, parts, strict=True):
            probability[tile.core] = part[tile.within()]
    return probability[:height, :width]


def _groups(tiles: list[Tile], count: int) -> Iterator[list[Tile]]:
    for start in range(0, len(tiles), count):
        yield tiles[start : start + count]

"""Tiles of labelled micrographs as the paper cuts, turns and scales them.

::

    cut_tiles     3x3 median, tiles of 512 px, int16, without those that hold no particle  -> Tile
    augment       turned by any angle and mirrored, nothing from outside the tile
    scale_tile    divided by the greatest count of the data set    -> what the network takes

One micrograph is in memory at a time. What is random takes its generator from the caller.

References
----------
Groschner, C. K., Choi, C. & Scott, M. C. Methodologies for successful segmentation of HRTEM
images via neural network (2020), section II B and C. https://arxiv.org/abs/2001.05022

ScottLabUCB/HTTEM @edbe3364, pyNanoFind: unet_training_files/unet481632_AuCdSeDots_09.py (scaling
and augmentation).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nanostream.errors import DataSetError
from nanostream.segmentation.normalization import median_filter, normalize, without_shift
from nanostream.training.examples import as_int16
from nanostream.training.labels import Pair, read_pair
from nanostream.training.sources import Source, read_frames

__all__ = [
    "Tile",
    "TileSet",
    "augment",
    "cut_tiles",
    "greatest_count",
    "greatest_crop_px",
    "one_hot",
    "read_tiles",
    "scale_tile",
    "tiles_of",
]


@dataclass(frozen=True, eq=False)
class Tile:
    """A square piece of a micrograph with its label.

    Attributes
    ----------
    pixels
        (S, S) int16, after the 3x3 median.
    label
        (S, S) bool, True in a particle.
    source
        Where it is from: section and corner, ``gold.mrc#0 y512 x0``; "" if it is not known.
    """

    pixels: NDArray[np.int16]
    label: NDArray[np.bool_]
    source: str = ""


@dataclass(frozen=True)
class TileSet:
    """Tiles for the paper's recipe, and the counts that its network's scaling needs.

    Attributes
    ----------
    tiles
        Those with a particle.
    greatest
        Count in the tiles' int16, of all that was read.
    greatest_recorded
        The same in the files' own counts, which a live micrograph has: twice it for uint16.
    sizes_nm
        Pixel size of each micrograph that has one.
    """

    tiles: list[Tile]
    greatest: float
    greatest_recorded: float
    sizes_nm: list[float]


def read_tiles(
    sources: Sequence[Source], *, size_px: int, pixel_size_nm: float | None = None
) -> TileSet:
    """Tiles as the paper cuts them, in memory.

    Parameters
    ----------
    size_px
        Height and width.
    pixel_size_nm
        For files that do not say it.

    Raises
    ------
    DataSetError
        As `read_frames`; if pixels are no counts, or no tile has a particle.
    """
    tiles: list[Tile] = []
    greatest = recorded = 1.0
    sizes_nm: list[float] = []
    for source in sources:
        for frame, truth, _ in read_frames(source, pixel_size_nm=pixel_size_nm):
            name = f"{source.file}#{frame.section.z}"
            pixels = median_filter(as_int16(frame.pixels, name))
            greatest = max(greatest, float(pixels.max()))
            recorded = max(recorded, float(median_filter(without_shift(frame.pixels)).max()))
            cut = tiles_of(pixels, truth > 0, size_px=size_px, source=name)
            tiles += [tile for tile in cut if tile.label.any()]
            if frame.pixel_size_nm is not None:
                sizes_nm.append(frame.pixel_size_nm)
    if not tiles:
        msg = (
            f"{sources[0].file} and the others: no tile of {size_px} x {size_px} px with a "
            "particle, and the paper's recipe needs them; the default recipe takes smaller images"
        )
        raise DataSetError(msg)
    return TileSet(tiles, greatest, recorded, sizes_nm)


def cut_tiles(
    pairs: Iterable[Pair], *, size_px: int = 512, keep_empty: bool = False
) -> Iterator[Tile]:
    """Tiles of labelled micrographs, filtered, those without a particle pixel left out.

    Parameters
    ----------
    size_px
        Height and width. The tiles lie side by side from the first pixel on; what is left at the
        right and the lower edge is not used: tiles that overlap would bring the same pixels into
        training and test.
    keep_empty
        Tiles without a particle pixel, too. The paper discards them, 72 % of its tiles, as a
        rough balance of the classes (section II B).

    Yields
    ------
    Tile
        The median is taken of the whole micrograph, so that tiles have no borders of their own.

    Raises
    ------
    DataSetError, MicrographError
        As `read_pair` and `as_int16`, when the turn comes to the file.
    """
    for pair in pairs:
        frame, numbers = read_pair(pair)
        pixels = median_filter(as_int16(frame.pixels, f"{pair.image}#{pair.z}"))
        for tile in tiles_of(pixels, numbers > 0, size_px=size_px, source=str(frame.section)):
            if keep_empty or tile.label.any():
                yield tile


def tiles_of(
    pixels: NDArray[np.int16], label: NDArray[np.bool_], *, size_px: int, source: str = ""
) -> Iterator[Tile]:
    """Tiles of one filtered micrograph, side by side from its first pixel on."""
    height, width = pixels.shape
    for top in range(0, height - size_px + 1, size_px):
        for left in range(0, width - size_px + 1, size_px):
            here = np.s_[top : top + size_px, left : left + size_px]
            yield Tile(pixels[here].copy(), label[here].copy(), f"{source} y{top} x{left}")


def greatest_count(tiles: Iterable[Tile]) -> int:
    """Greatest count of a data set, by which the paper divides it; 0 without a tile.

    A file of `write_hdf5` has it as attribute ``maximum``.
    """
    return max((int(tile.pixels.max()) for tile in tiles), default=0)


def scale_tile(tile: Tile, *, maximum: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A tile as the paper's network takes it.

    Parameters
    ----------
    maximum
        Of the whole data set, filtered: `greatest_count`.

    Returns
    -------
    image : (S, S, 1) float32
        Counts divided by the maximum.
    maps : (S, S, 2) float32
        1 in the map of the pixel's class: background, particle.
    """
    image = normalize(tile.pixels, "dataset-max", maximum=maximum)
    return image[..., None], one_hot(tile.label).astype(np.float32)


def one_hot(label: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Maps (H, W, 2) of the classes background and particle, 1 in that of the pixel's class."""
    return np.stack([~label, label], axis=-1).astype(np.uint8)


def greatest_crop_px(size_px: int) -> int:
    """Side of the greatest square that fits into a tile at any angle; 361 px for 512.

    Of the square turned by 45 degrees the pixel centres span (side - 1) times the square root of
    2. One pixel is left over for the rounding of positions.
    """
    return max(0, math.floor((size_px - 2) / math.sqrt(2.0)) + 1)


def augment(tile: Tile, rng: np.random.Generator, *, crop_px: int = 352) -> Tile:
    """The tile turned by 0 to 360 degrees and, every other time, mirrored.

    Parameters
    ----------
    rng
        Angle, mirroring and place are drawn from it, uniformly.
    crop_px
        Side of what is cut out, at most `greatest_crop_px` of the tile's. 352 is the greatest
        multiple of 16, as four poolings need it, for tiles of 512 px; cut tiles of 725 px for
        512.

    Returns
    -------
    Tile
        Both interpolated linearly; a pixel is particle where more than half of it is.

    Raises
    ------
    ValueError
        If the crop does not fit at every angle.

    Notes
    -----
    Nothing but the tile's own pixels enters: the square that is cut out lies inside the tile at
    every angle. The published script keeps 512 px and fills the corners from the opposite side
    (``fill_mode="wrap"``), which puts edges between unrelated parts of an image into the
    training.
    """
    size = min(tile.pixels.shape)
    if crop_px > greatest_crop_px(size):
        msg = (
            f"a crop of {crop_px} px does not fit into a tile of {size} px at every angle; "
            f"at most {greatest_crop_px(size)} px do"
        )
        raise ValueError(msg)
    angle_rad = rng.uniform(0.0, 2.0 * math.pi)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    # Half of what the turned crop spans, between pixel centres; the tile leaves the rest to chance.
    half = 0.5 * (crop_px - 1) * (abs(cos) + abs(sin))
    height, width = tile.pixels.shape
    x, y = (rng.uniform(half + 0.5, side - 1.5 - half) for side in (width, height))
    # From crop to tile: the middle of the crop to (x, y), turned and mirrored.
    middle = 0.5 * (crop_px - 1)
    view = np.array([[mirror * cos, -sin, 0.0], [mirror * sin, cos, 0.0]])
    view[:, 2] = np.array([x, y]) - view[:, :2] @ [middle, middle]

    def seen(array: NDArray[Any]) -> NDArray[np.float32]:
        # In float32: OpenCV moves integers to the nearest 1/32 px.
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        turned = cv2.warpAffine(array.astype(np.float32), view, (crop_px, crop_px), flags=flags)
        return np.asarray(turned, np.float32)

    pixels = np.rint(seen(tile.pixels)).astype(np.int16)
    return Tile(pixels, seen(tile.label) > 0.5, tile.source)

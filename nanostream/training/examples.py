"""Examples to train on, in memory: micrographs filtered, resampled and cut, with their truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nanostream.errors import DataSetError
from nanostream.segmentation.normalization import Method, median_filter, without_shift
from nanostream.segmentation.resampling import LEAST_ZOOM, needed_zoom, resample
from nanostream.training.sources import Source, read_frames

__all__ = ["FINEST_NM", "MIN_SIDE_PX", "TILE_PX", "Examples", "as_int16", "read_examples"]

#: Side of the tiles that larger micrographs are cut into. They are scaled each by its own
#: moments, which should be near those of the whole micrograph that the live network sees.
TILE_PX = 1024

#: Micrographs of finer pixels are brought to this one, in training as live. What can be seen of a
#: crystal is there (Nyquist at 0.04 nm), the network looks twice as far as at 0.01 nm, and noise is
#: averaged. (Simulated micrographs of 512 px become smaller than a crop then, and are mirrored.)
FINEST_NM = 0.02

#: Micrographs below are refused, also if resampling makes them so: poolings leave 2 to 4 px.
MIN_SIDE_PX = 64


@dataclass(frozen=True)
class Examples:
    """Micrographs with their truth.

    Attributes
    ----------
    images
        N of (H, W) int16 after the 3x3 median, of any sizes.
    labels
        M of (H, W) uint16, one for each tile of a scene: numbers of the particles, 0 outside.
    scene_of
        (N,) index of each image's scene in ``labels``.
    materials
        (M,) materials of each scene, joined by "+", "" for a bare support.
    spans
        (N, 2) counts of each image that become 0 and 1; None if each is scaled by its own moments.
    """

    images: Sequence[NDArray[np.int16]]
    labels: Sequence[NDArray[np.uint16]]
    scene_of: NDArray[np.int64]
    materials: tuple[str, ...]
    spans: NDArray[np.float64] | None = None


def as_int16(pixels: NDArray[Any], name: str) -> NDArray[np.int16]:
    """Counts in the type of the data sets.

    Parameters
    ----------
    pixels
        (H, W). int8, uint8 and int16 go as they are. uint16 is halved, as SerialEM's "divide by
        2" does, always, so that files of one camera stay comparable; what SerialEM has stored
        less 32768 is brought back first. Others are rounded.
    name
        For the error.

    Raises
    ------
    DataSetError
        If other pixels exceed int16, or span fewer than 256 counts: rounding would take from
        them what the paper found crucial not to lose (section II B).
    """
    pixels = without_shift(pixels)
    if pixels.dtype == np.uint16:
        return (pixels >> 1).astype(np.int16)
    if pixels.dtype.kind in "iu" and pixels.dtype.itemsize <= 2:
        return pixels.astype(np.int16, copy=False)
    low, high = float(pixels.min()), float(pixels.max())
    # Written so that NaN fails.
    if not (low >= -32768 and high <= 32767 and high - low >= 255):
        msg = (
            f"{name}: {pixels.dtype} pixels from {low:g} to {high:g} do not fit into int16; "
            "scale them to counts, 256 to 65,536 steps"
        )
        raise DataSetError(msg)
    return np.asarray(np.rint(pixels), np.int16)


def read_examples(
    sources: Sequence[Source],
    *,
    pixel_size_nm: float | None = None,
    finest_nm: float | None = None,
    normalization: Method = "standardize",
    maximum: float | None = None,
) -> tuple[Examples, list[float]]:
    """Examples of all sources, in memory and filtered, and the pixel sizes.

    Parameters
    ----------
    pixel_size_nm
        For files that do not say it.
    finest_nm
        Pixel size to which micrographs of finer ones are resampled, as the network's worker will.
    normalization, maximum
        Of the network, see `nanostream.segmentation.normalization.normalize`. Where the scaling
        does not mind another level and contrast, pixels that are no counts, such as 0 to 1, are
        stretched to counts, and else refused. Without a maximum, "dataset-max" takes the greatest
        count of the examples.

    Returns
    -------
    tuple
        The examples, and the pixel size of each micrograph that has one, nm, as trained on.

    Raises
    ------
    DataSetError
        As `read_frames`; if a side is below `MIN_SIDE_PX`, pixels are no counts, or there is not
        one particle.

    Notes
    -----
    Micrographs larger than `TILE_PX` are cut into tiles of that side, which cover all of it and
    overlap where its size is no multiple. Where labelled images and simulated ones come together,
    tiles of the rarer kind are repeated until they are as many: ten images would else be lost
    among hundreds that only keep the network from forgetting.
    """
    scalable = normalization in ("standardize", "image-minmax")
    gathered = _Gathered()
    for source in sources:
        for frame, truth, material in read_frames(source, pixel_size_nm=pixel_size_nm):
            name = f"{source.file}#{frame.section.z}"
            zoom = _zoom(frame.pixel_size_nm, finest_nm, name)
            _check_side(truth, frame.pixel_size_nm, zoom, name)
            picture = _filtered(frame.pixels, name, zoom=zoom, scalable=scalable)
            halved = (
                normalization == "dataset-max"  # else nobody asks
                and without_shift(median_filter(frame.pixels)).dtype == np.uint16
            )
            if frame.pixel_size_nm is not None:
                gathered.sizes_nm.append(frame.pixel_size_nm / zoom)
            gathered.add_truth(truth, material, zoom)
            gathered.add_picture(
                picture,
                _span(picture, normalization),
                simulated=not source.pairs,
                halved=halved,
            )
    if not any(label.any() for label in gathered.labels):
        msg = (
            f"{sources[0].file} and the others: no label has a particle; label some, or give "
            "other folders"
        )
        raise DataSetError(msg)
    return gathered.examples(normalization, maximum), gathered.sizes_nm


@dataclass
class _Gathered:
    """Tiles as they are read, one entry for each tile, but labels one for each tile of a scene."""

    images: list[NDArray[np.int16]] = field(default_factory=list)
    labels: list[NDArray[np.uint16]] = field(default_factory=list)
    scene_of: list[int] = field(default_factory=list)
    simulated: list[bool] = field(default_factory=list)
    materials: list[str] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)
    halved: list[bool] = field(default_factory=list)  # by `as_int16`, not where the network is live
    sizes_nm: list[float] = field(default_factory=list)
    _truth: NDArray[np.int32] | None = None
    _first: int = 0

    def add_truth(self, truth: NDArray[np.int32], material: str, zoom: float) -> None:
        """Labels of what is added next; the exposures of a scene share theirs."""
        if truth is self._truth:
            return
        self._truth, self._first = truth, len(self.labels)
        tiles = _tiles(_numbers(truth, zoom))
        self.labels += tiles
        self.materials += [material] * len(tiles)

    def add_picture(
        self,
        picture: NDArray[np.int16],
        span: tuple[float, float],
        *,
        simulated: bool,
        halved: bool,
    ) -> None:
        """Tiles of a filtered micrograph."""
        tiles = _tiles(picture)
        self.images += tiles
        self.scene_of += range(self._first, self._first + len(tiles))
        self.simulated += [simulated] * len(tiles)
        self.spans += [span] * len(tiles)
        self.halved += [halved] * len(tiles)

    def examples(self, normalization: Method, maximum: float | None) -> Examples:
        """Examples of all that was added, the rarer kind repeated."""
        drawn = _balanced(np.array(self.simulated))
        counts = np.array(self.spans)
        if normalization == "dataset-max":
            halves = np.where(self.halved, 0.5, 1.0)
            largest = (counts[:, 1] / halves).max() if maximum is None else maximum
            counts[:, 1] = largest * halves
        return Examples(
            images=[self.images[k] for k in drawn],
            labels=self.labels,
            scene_of=np.array(self.scene_of)[drawn],
            materials=tuple(self.materials),
            spans=None if normalization == "standardize" else counts[drawn],
        )


def _numbers(truth: NDArray[np.int32], zoom: float) -> NDArray[np.uint16]:
    """Numbers of the particles of a micrograph as it is resampled.

    Past 65,535 they begin again at 1: particles so far apart in a label do not touch.
    """
    numbers = np.where(truth > 0, (truth - 1) % 65535 + 1, 0).astype(np.uint16)
    if zoom == 1.0:
        return numbers
    inside = resample((truth > 0).astype(np.float32), zoom) > 0.5
    size = (inside.shape[1], inside.shape[0])
    nearest = cv2.resize(numbers, size, interpolation=cv2.INTER_NEAREST)
    # A pixel that is mostly particle but has its middle outside belongs to one beside it.
    beside = cv2.dilate(nearest, np.ones((3, 3), np.uint8))
    return np.asarray(np.where(inside, np.where(nearest > 0, nearest, beside), 0), np.uint16)


def _check_side(
    truth: NDArray[np.int32], pixel_size_nm: float | None, zoom: float, name: str
) -> None:
    """Refuse a micrograph that is too small, or becomes so when it is resampled."""
    if zoom * min(truth.shape) >= MIN_SIDE_PX:
        return
    height, width = truth.shape
    msg = f"{name}: {width} x {height} px; a side needs {MIN_SIDE_PX} px or more"
    if zoom < 1.0 and pixel_size_nm is not None:
        msg = (
            f"{name}: {width} x {height} px, {pixel_size_nm} nm a pixel; a side needs "
            f"{MIN_SIDE_PX} px or more after it is resampled to {pixel_size_nm / zoom:g} nm"
        )
    raise DataSetError(msg)


def _balanced(simulated: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Which tiles to draw from: of simulated and labelled ones the rarer kind repeated."""
    kinds = [np.flatnonzero(simulated == kind) for kind in (False, True)]
    if min(map(len, kinds)) == 0:
        return np.arange(len(simulated))
    return np.concatenate([np.resize(kind, max(map(len, kinds))) for kind in kinds])


def _zoom(pixel_size_nm: float | None, finest_nm: float | None, name: str) -> float:
    """How many times larger a micrograph becomes, 1 or less."""
    zoom = needed_zoom(pixel_size_nm, (finest_nm, math.inf)) if finest_nm else 1.0
    if zoom < LEAST_ZOOM:
        msg = (
            f"{name}: {pixel_size_nm} nm a pixel, too fine for the network, whose finest is "
            f"{finest_nm} nm; is the pixel size right? Give another with --pixel-size, or correct "
            "the file's"
        )
        raise DataSetError(msg)
    return zoom


def _span(picture: NDArray[np.int16], normalization: Method) -> tuple[float, float]:
    """Counts of a picture that become 0 and 1 where a network is live that knows no other."""
    low, high = float(picture.min()), float(picture.max())
    if normalization == "image-minmax":
        return low, high if high > low else low + 1.0
    return 0.0, high if high > 0.0 else 1.0


def _filtered(pixels: NDArray[Any], name: str, *, zoom: float, scalable: bool) -> NDArray[np.int16]:
    """Pixels after the 3x3 median, as int16; stretched to it if need be and if it does no harm.

    Averaged pixels need it, too: of a few electrons each, they would lose by rounding.
    """
    try:
        counts = as_int16(median_filter(pixels), name)
        if zoom == 1.0:
            return counts
        if not scalable:
            return np.asarray(np.rint(resample(counts, zoom)), np.int16)
    except DataSetError:
        if not scalable or not np.isfinite(pixels).all():
            raise
    filtered = resample(median_filter(without_shift(pixels)), zoom).astype(np.float32)
    low, high = float(filtered.min()), float(filtered.max())
    scale = 32767.0 / (high - low) if high > low else 0.0
    return np.asarray(np.rint((filtered - low) * scale), np.int16)


def _tiles(array: NDArray[Any]) -> list[NDArray[Any]]:
    """Tiles of at most `TILE_PX` a side that cover an image."""
    corners = [_starts(side, TILE_PX) for side in array.shape]
    return [array[y : y + TILE_PX, x : x + TILE_PX] for y in corners[0] for x in corners[1]]


def _starts(length: int, side_px: int) -> list[int]:
    count = math.ceil(length / side_px)
    return [round(start) for start in np.linspace(0, max(0, length - side_px), count)]

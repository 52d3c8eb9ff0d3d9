"""Labelled micrographs to train on, from a user's images or from simulated sets.

::

    find_sources    files of folders: labelled images, scene files         -> Source
    hold_out        part of the files, for the threshold and the scores    -> two lists of Source
    read_frames     what a source shows, as it was recorded, and the truth -> Frame, (H, W) int32
    read_examples   all of it, filtered, at a pixel size to learn from     -> fit.Examples

Files are split, not images: the sections of a stack, and the exposures of a scene, resemble one
another too much for one to judge what was learnt from the other.
"""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from nanostream.errors import DataSetError
from nanostream.records import Frame, SectionId
from nanostream.segmentation.normalization import Method, median_filter, without_shift
from nanostream.segmentation.resampling import LEAST_ZOOM, needed_zoom, resample
from nanostream.training.groschner2020.datasets import (
    Pair,
    Pairing,
    Tile,
    as_int16,
    pair_labels,
    read_pair,
    tiles_of,
)
from nanostream.training.sets import SET_FILE

if TYPE_CHECKING:
    from nanostream.training.fit import Examples

__all__ = [
    "BARE",
    "FINEST_NM",
    "LEAST_ELECTRONS_PER_PX",
    "MIN_SIDE_PX",
    "TILE_PX",
    "Found",
    "PaperTiles",
    "Source",
    "file_hashes",
    "find_sources",
    "hold_out",
    "read_examples",
    "read_frames",
    "read_tiles",
    "set_record",
]

#: Side of the tiles that larger micrographs are cut into. They are scaled each by its own
#: moments, which should be near those of the whole micrograph that the live network sees.
TILE_PX = 1024

#: Micrographs of finer pixels are brought to this one, in training as live. What can be seen of a
#: crystal is there (Nyquist at 0.04 nm), the network looks twice as far as at 0.01 nm, and noise is
#: averaged. (Simulated micrographs of 512 px become smaller than a crop then, and are mirrored.)
FINEST_NM = 0.02

#: Name of what has no material, in tables.
BARE = "bare support"

#: Simulated exposures of fewer electrons are left out. At fine pixel sizes the lowest doses leave
#: less than one a pixel; nobody records that, and a network learns from it to guess.
LEAST_ELECTRONS_PER_PX = 4.0

#: Micrographs below are refused, also if resampling makes them so: poolings leave 2 to 4 px.
MIN_SIDE_PX = 64


@dataclass(frozen=True)
class Source:
    """A file to learn from.

    Attributes
    ----------
    file
        Micrographs of a user, or a scene file of `nanostream.training.sets.simulate_set`.
    pairs
        Its labelled sections; none for a scene file, which has its own truth.
    """

    file: Path
    pairs: tuple[Pair, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The file and its labels."""
        return (self.file, *(pair.label for pair in self.pairs))


@dataclass(frozen=True)
class Found:
    """What folders hold.

    Attributes
    ----------
    sources
        In order of path.
    unlabelled, strays
        As in `nanostream.training.groschner2020.datasets.Pairing`: what has no partner.
    """

    sources: tuple[Source, ...]
    unlabelled: tuple[str, ...]
    strays: tuple[Path, ...]


def find_sources(folders: Sequence[Path]) -> Found:
    """Labelled images and scene files of folders and their subfolders, each file once.

    Raises
    ------
    DataSetError
        As `nanostream.training.groschner2020.datasets.pair_labels`, and if there is nothing to
        learn from.
    MicrographError
        If a labelled file cannot be read.
    """
    pairings: list[Pairing] = []
    sources: dict[Path, Source] = {}
    for folder in dict.fromkeys(folders):
        pairings.append(pair_labels(folder))
        of_file: dict[Path, list[Pair]] = {}
        for pair in pairings[-1].pairs:
            of_file.setdefault(pair.image, []).append(pair)
        found = [Source(file, tuple(pairs)) for file, pairs in of_file.items()]
        found += [Source(path) for path in sorted(folder.rglob("scene_*.npz"))]
        for source in found:
            sources.setdefault(source.file.resolve(), source)
    if not sources:
        where = ", ".join(map(str, folders))
        msg = (
            f"{where}: neither a micrograph with its label nor a scene of nanostream "
            "simulate-training; the label of gold.mrc is gold.png, gold_label.png or "
            "label_gold.png beside it, of its section 3 gold.z3.png"
        )
        raise DataSetError(msg)
    return Found(
        tuple(sources[path] for path in sorted(sources)),
        tuple(name for pairing in pairings for name in pairing.unlabelled),
        tuple(path for pairing in pairings for path in pairing.strays),
    )


def hold_out(
    sources: Sequence[Source], part: float, rng: np.random.Generator
) -> tuple[list[Source], list[Source]]:
    """Sources to train on and sources that are held out, each in the order given.

    Parameters
    ----------
    part
        Of the files to hold out, rounded, but at least one; 0 for none. A single file gives its
        last labelled sections.

    Raises
    ------
    DataSetError
        If nothing is left to train on.
    """
    if part <= 0.0:
        return list(sources), []
    whole = list(sources)
    if len(whole) == 1 and len(whole[0].pairs) > 1:
        file, pairs = whole[0].file, whole[0].pairs
        whole = [Source(file, (pair,)) for pair in pairs]
        chosen = set(range(len(whole))[-_count(len(whole), part) :])
    else:
        chosen = set(rng.permutation(len(whole))[: _count(len(whole), part)].tolist())
    if len(chosen) == len(whole):
        msg = (
            f"{whole[0].file}: with {len(whole)} labelled "
            f"{'file' if len(whole) == 1 else 'files'} nothing is left to train on when a part is "
            "held out; label more, or name others with --validation"
        )
        raise DataSetError(msg)
    return (
        [source for number, source in enumerate(whole) if number not in chosen],
        [source for number, source in enumerate(whole) if number in chosen],
    )


def _count(total: int, part: float) -> int:
    return min(total, max(1, round(part * total)))


def read_frames(
    source: Source, *, pixel_size_nm: float | None = None
) -> Iterator[tuple[Frame, NDArray[np.int32], str]]:
    """Micrographs of a source with their particle numbers and material.

    Parameters
    ----------
    pixel_size_nm
        For files that do not say it.

    Yields
    ------
    tuple
        Frame, (H, W) int32 with 0 for the background, and the materials of a scene joined by
        "+": "" for a bare support and for labelled images, which do not say them.

    Raises
    ------
    DataSetError, MicrographError
        If a file cannot be read, or micrograph and label differ in size.
    """
    for pair in source.pairs:
        frame, truth = read_pair(pair)
        if frame.pixel_size_nm is None and pixel_size_nm is not None:
            frame = replace(frame, pixel_size_nm=pixel_size_nm)
        yield frame, truth, ""
    if source.pairs:
        return
    try:
        with np.load(source.file) as stored:
            pixels, instances = stored["pixels"], stored["instances"].astype(np.int32)
            scene = json.loads(str(stored["scene"]))
        electrons_per_px = [
            exposure["dose_e_per_a2"] * (10.0 * scene["pixel_size_nm"]) ** 2
            for exposure in scene["exposures"]
        ]
        materials = "+".join(sorted({particle["material"] for particle in scene["particles"]}))
        scene_nm = float(scene["pixel_size_nm"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        # What NumPy cannot read it takes for a pickle.
        no_zip = isinstance(error, ValueError) and not zipfile.is_zipfile(source.file)
        why = "no zip archive" if no_zip else error
        msg = f"{source.file}: not a scene of nanostream simulate-training ({why}); delete it"
        raise DataSetError(msg) from error
    for z, image in enumerate(pixels):
        if electrons_per_px[z] < LEAST_ELECTRONS_PER_PX:
            continue
        section = SectionId(source.file.name, z)
        yield Frame(section=section, pixels=image, pixel_size_nm=scene_nm), instances, materials


def read_examples(
    sources: Sequence[Source],
    *,
    pixel_size_nm: float | None = None,
    finest_nm: float | None = None,
    normalization: Method = "standardize",
    maximum: float | None = None,
) -> tuple[Examples, list[float]]:
    """Everything to train on, in memory and filtered; and the pixel sizes.

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
    from nanostream.training.fit import Examples

    scalable = normalization in ("standardize", "image-minmax")
    images: list[NDArray[np.int16]] = []
    labels: list[NDArray[np.bool_]] = []
    scene_of: list[int] = []
    simulated: list[bool] = []
    materials: list[str] = []
    sizes_nm: list[float] = []
    spans: list[tuple[float, float]] = []
    halved: list[bool] = []  # by `as_int16`, not where the network is live
    for source in sources:
        shared: NDArray[np.int32] | None = None
        first = 0
        for frame, truth, material in read_frames(source, pixel_size_nm=pixel_size_nm):
            name = f"{source.file}#{frame.section.z}"
            zoom = _zoom(frame.pixel_size_nm, finest_nm, name)
            if zoom * min(truth.shape) < MIN_SIDE_PX:
                height, width = truth.shape
                at = f", {frame.pixel_size_nm} nm a pixel" if zoom < 1.0 else ""
                msg = (
                    f"{name}: {width} x {height} px{at}; {MIN_SIDE_PX} px a side are needed at "
                    f"least{f' at {finest_nm} nm a pixel' if at else ''}"
                )
                raise DataSetError(msg)
            picture = _filtered(frame.pixels, name, zoom=zoom, scalable=scalable)
            span = _span(picture, normalization)
            is_halved = (
                normalization == "dataset-max"  # else nobody asks
                and without_shift(median_filter(frame.pixels)).dtype == np.uint16
            )
            if frame.pixel_size_nm is not None:
                sizes_nm.append(frame.pixel_size_nm / zoom)
            if truth is not shared:  # the exposures of a scene share theirs
                shared, first = truth, len(labels)
                tiles = _tiles(resample((truth > 0).astype(np.float32), zoom) > 0.5)
                labels += tiles
                materials += [material] * len(tiles)
            tiles_of_picture = _tiles(picture)
            images += tiles_of_picture
            scene_of += range(first, first + len(tiles_of_picture))
            simulated += [not source.pairs] * len(tiles_of_picture)
            spans += [span] * len(tiles_of_picture)
            halved += [is_halved] * len(tiles_of_picture)
    if not any(label.any() for label in labels):
        msg = f"{sources[0].file}: there is not one particle in its label, nor in any other"
        raise DataSetError(msg)
    drawn = _balanced(np.array(simulated))
    counts = np.array(spans)
    if normalization == "dataset-max":
        halves = np.where(halved, 0.5, 1.0)
        largest = (counts[:, 1] / halves).max() if maximum is None else maximum
        counts[:, 1] = largest * halves
    examples = Examples(
        images=[images[k] for k in drawn],
        labels=labels,
        scene_of=np.array(scene_of)[drawn],
        materials=tuple(materials),
        spans=None if normalization == "standardize" else counts[drawn],
    )
    return examples, sizes_nm


@dataclass(frozen=True)
class PaperTiles:
    """Tiles for the paper's recipe, and what its network's scaling has to know.

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
) -> PaperTiles:
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
    return PaperTiles(tiles, greatest, recorded, sizes_nm)


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
            f"{name}: {pixel_size_nm} nm a pixel, and the network's finest is {finest_nm} nm; is "
            "the pixel size right? Say another with --pixel-size, or mend the file's"
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


def set_record(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """How the simulated sets among the sources were drawn (their `SET_FILE`), with the folder."""
    folders = dict.fromkeys(source.file.parent for source in sources if not source.pairs)
    records = []
    for folder in folders:
        file = folder / SET_FILE
        if file.is_file():
            records.append({"folder": folder.name, **json.loads(file.read_text(encoding="utf-8"))})
    return records


def file_hashes(sources: Sequence[Source]) -> dict[str, str]:
    """SHA-256 of every file and label, by path."""
    return {
        path.as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for source in sources
        for path in source.files
    }

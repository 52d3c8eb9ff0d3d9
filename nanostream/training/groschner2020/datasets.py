"""Labelled micrographs as a data set: the recipe of the paper, step by step.

::

    pair_labels   micrograph and label PNG matched by name         -> Pair, and what has no partner
    read_pair     one section and its label, of one size           -> Frame, particle numbers
    cut_tiles     3x3 median, tiles of 512 px, int16, without those that hold no particle  -> Tile
    write_hdf5, read_hdf5     tiles in a file, as the published notebooks name and shape them
    augment       turned by any angle and mirrored, nothing from outside the tile
    scale_tile    divided by the greatest count of the data set    -> what the network takes

One micrograph is in memory at a time, and one tile of an HDF5 file. What is random takes its
generator from the caller.

A label is a PNG of its micrograph's size and row order: its first row belongs to the first row of
the file, which SerialEM and 3dmod show at the *bottom* if it is an MRC. A label drawn on a picture
of one that they saved has to be flipped.

References
----------
Groschner, C. K., Choi, C. & Scott, M. C. Methodologies for successful segmentation of HRTEM
images via neural network (2020), section II B and C. https://arxiv.org/abs/2001.05022

ScottLabUCB/HTTEM @edbe3364, pyNanoFind: utilities/TEM2Net.py (the HDF5 files),
unet_training_files/unet481632_AuCdSeDots_09.py (scaling and augmentation).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition.frames import SUFFIXES, count_sections, read_section
from nanostream.errors import DataSetError
from nanostream.records import Frame, SectionId
from nanostream.segmentation.normalization import median_filter, normalize, without_shift

__all__ = [
    "DATASET_VERSION",
    "Pair",
    "Pairing",
    "Tile",
    "as_int16",
    "augment",
    "cut_tiles",
    "greatest_count",
    "greatest_crop_px",
    "pair_labels",
    "read_hdf5",
    "read_label",
    "read_pair",
    "scale_tile",
    "tiles_of",
    "write_hdf5",
]

#: Attribute ``nanostream_dataset`` of the HDF5 files.
DATASET_VERSION = 1

_SECTION = re.compile(r"(?P<name>.+)\.z(?P<z>\d{1,6})")


@dataclass(frozen=True)
class Pair:
    """A section of a micrograph file and the PNG that says where its particles are."""

    image: Path
    z: int
    label: Path


@dataclass(frozen=True)
class Pairing:
    """What belongs together in a folder, and what is alone.

    Attributes
    ----------
    pairs
        In order of path and section.
    unlabelled
        Micrographs, and sections of labelled stacks (``gold.mrc#3``), without a label.
    strays
        Labels without a micrograph.
    """

    pairs: tuple[Pair, ...]
    unlabelled: tuple[str, ...]
    strays: tuple[Path, ...]


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


def pair_labels(folder: Path) -> Pairing:
    """Micrographs and labels of a folder and its subfolders, matched by name.

    Parameters
    ----------
    folder
        A label lies beside its micrograph. That of ``gold.mrc`` is ``gold.png``,
        ``gold_label.png`` or ``label_gold.png``; that of section 3, counted from 0, of a stack
        ``gold.z3.png``, ``gold.z3_label.png`` or ``label_gold.z3.png``. ``image_07.png`` has
        ``label_07.png``, too. A PNG that is not the label of anything by these rules is a
        micrograph, unless its name says that it is a label.

    Raises
    ------
    DataSetError
        If there is no such folder, a name fits twice, a label of a stack does not say which
        section it is of, or there is no such section.
    MicrographError
        If a labelled file cannot be read.
    """
    if not folder.is_dir():
        msg = f"{folder} is not a folder; give one with micrographs and their label PNGs"
        raise DataSetError(msg)
    beside: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            beside.setdefault(path.parent, []).append(path)
    pairs: list[Pair] = []
    unlabelled: list[str] = []
    strays: list[Path] = []
    for files in beside.values():
        owned, alone = _owners(files)
        strays += alone
        for image, labels in owned.items():
            found, missing = _section_labels(image, labels)
            pairs += found
            unlabelled += missing
    return Pairing(tuple(pairs), tuple(unlabelled), tuple(strays))


def _owners(
    files: list[Path],
) -> tuple[dict[Path, list[tuple[int | None, Path]]], list[Path]]:
    """The micrographs of a folder with their labels and sections, and labels of nothing."""
    pictures = [path for path in files if path.suffix.lower() == ".png"]
    others = [path for path in files if path.suffix.lower() != ".png"]
    labels = [path for path in pictures if _is_marked(path) or _labelled_by(path, others)]
    images = sorted(set(files) - set(labels))
    owned: dict[Path, list[tuple[int | None, Path]]] = {image: [] for image in images}
    strays = []
    for label in labels:
        owners = _labelled_by(label, images)
        if len(owners) > 1:
            names = " and ".join(image.name for image, _ in owners)
            msg = f"{label} can be the label of {names}; put one of them into another folder"
            raise DataSetError(msg)
        for image, z in owners:
            owned[image].append((z, label))
        if not owners:
            strays.append(label)
    return owned, strays


def _is_marked(path: Path) -> bool:
    return path.stem.startswith("label_") or path.stem.endswith("_label")


def _labelled_by(label: Path, images: list[Path]) -> list[tuple[Path, int | None]]:
    """Micrographs that a PNG of this name is the label of, with the section that it names."""
    name = label.stem.removeprefix("label_")
    name = name if name != label.stem else name.removesuffix("_label")
    names = {name, f"image_{name}"} if label.stem.startswith("label_") else {name}
    whole = [(image, None) for image in images if image.stem in names]
    section = _SECTION.fullmatch(name)
    if whole or section is None:
        return [*whole]
    return [(image, int(section["z"])) for image in images if image.stem == section["name"]]


def _section_labels(
    image: Path, labels: list[tuple[int | None, Path]]
) -> tuple[list[Pair], list[str]]:
    """The labelled sections of a micrograph file, and names of those without a label."""
    if not labels:
        return [], [str(image)]
    count = count_sections(image).sections
    found: dict[int, Path] = {}
    for z, label in labels:
        if z is None and count != 1:
            msg = (
                f"{label.name} does not say which of the {count} sections of {image} it labels; "
                f"name it {image.stem}.z0.png for the first"
            )
            raise DataSetError(msg)
        number = z or 0
        if number >= count:
            msg = f"{label.name}: {image} has {count} sections, counted from 0"
            raise DataSetError(msg)
        if number in found:
            msg = (
                f"{image}: section {number} has two labels, {found[number].name} and "
                f"{label.name}; keep one"
            )
            raise DataSetError(msg)
        found[number] = label
    pairs = [Pair(image, z, found[z]) for z in sorted(found)]
    return pairs, [f"{image}#{z}" for z in range(count) if z not in found]


def read_label(path: Path) -> NDArray[np.int32]:
    """Particle numbers of a label PNG.

    Parameters
    ----------
    path
        Of two grey values the greater is particle, whatever they are; of one, 0 is background.
        A 16-bit PNG of more values has a number for each particle, and 0 for the background.

    Returns
    -------
    (H, W) int32
        0 is background. Where the file does not number them, particles are its 8-connected
        regions, as in the masks of ``nanostream.segmentation.masks``: two that touch are one.

    Raises
    ------
    DataSetError
        If it is no PNG, in colour, or has more than two grey values in 8 bits: smoothed edges,
        or a picture of the micrograph.
    """
    # OpenCV decodes memory: it cannot open names outside the ANSI code page on Windows.
    data = np.frombuffer(path.read_bytes(), np.uint8)
    grey: Any = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if grey is None:
        msg = f"{path}: not a readable PNG file"
        raise DataSetError(msg)
    if grey.ndim == 3:  # of a drawing program, which saves grey as three equal channels
        if (grey[..., :3] != grey[..., :1]).any():
            msg = f"{path}: a label in colour; save it as grey values"
            raise DataSetError(msg)
        grey = np.ascontiguousarray(grey[..., 0])
    values = np.flatnonzero(np.bincount(grey.reshape(-1)))
    if values.size > 2:
        if grey.dtype != np.uint16:
            shown = ", ".join(map(str, values[:4]))
            msg = (
                f"{path}: {values.size} grey values ({shown}, ...); a label has two, background "
                "and particle, or is a 16-bit PNG with a number for each particle"
            )
            raise DataSetError(msg)
        return np.asarray(grey, np.int32)
    particle = grey == values[-1] if values[-1] > 0 else np.zeros(grey.shape, np.bool_)
    _, numbers = cv2.connectedComponents(particle.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    return np.asarray(numbers, np.int32)


def read_pair(pair: Pair) -> tuple[Frame, NDArray[np.int32]]:
    """One section with its particle numbers (H, W).

    Raises
    ------
    DataSetError
        If the label cannot be read, or is not of the micrograph's size.
    MicrographError
        If the micrograph cannot be read.
    """
    section = SectionId(pair.image.name, pair.z)
    frame = read_section(pair.image, pair.z, section=section)
    label = read_label(pair.label)
    if label.shape != frame.pixels.shape:
        sizes = [" x ".join(map(str, array.shape[::-1])) for array in (label, frame.pixels)]
        msg = (
            f"{pair.label} is {sizes[0]} px, its micrograph {pair.image}#{pair.z} {sizes[1]} px; "
            "a label has the size of its micrograph"
        )
        raise DataSetError(msg)
    return frame, label


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


def write_hdf5(path: Path, tiles: Iterable[Tile]) -> int:
    """Tiles in an HDF5 file, as they come; the file appears whole, by renaming.

    Parameters
    ----------
    path
        Gets ``images`` (N, S, S, 1) int16 and ``maps`` (N, S, S, 2) uint8, 1 in the map of the
        pixel's class (0 background, 1 particle): names, shapes and order of the published
        notebooks, which keep them in two files. See ``docs/formats/data-sets.md``.

    Returns
    -------
    int
        Tiles written.

    Raises
    ------
    DataSetError
        If there is no tile, or tiles differ in size.
    """
    part = path.with_name(path.name + ".part")
    try:
        count = _write(part, path, tiles)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


def _write(part: Path, path: Path, tiles: Iterable[Tile]) -> int:
    count, maximum = 0, 0
    with h5py.File(part, "w") as file:
        for tile in tiles:
            if count == 0:
                size = tile.pixels.shape
                images = _growing(file, "images", (*size, 1), np.int16)
                maps = _growing(file, "maps", (*size, 2), np.uint8)
                sources = file.create_dataset(
                    "sources", (0,), h5py.string_dtype(), maxshape=(None,)
                )
            if tile.pixels.shape != size:
                msg = f"{path}: tiles of {size} and {tile.pixels.shape} px; cut them to one size"
                raise DataSetError(msg)
            for dataset in (images, maps, sources):
                dataset.resize(count + 1, axis=0)
            images[count, ..., 0] = tile.pixels
            maps[count] = _one_hot(tile.label)
            sources[count] = tile.source
            maximum = max(maximum, int(tile.pixels.max()))
            count += 1
        if count == 0:
            msg = f"{path}: not one tile with a particle; are the images large enough?"
            raise DataSetError(msg)
        file.attrs["nanostream_dataset"] = DATASET_VERSION
        file.attrs["filter"] = "median 3x3"
        file.attrs["maximum"] = maximum
    return count


def _growing(file: Any, name: str, shape: tuple[int, ...], dtype: type) -> Any:
    """Data set of no tiles yet, a chunk for each."""
    return file.create_dataset(
        name,
        (0, *shape),
        dtype,
        maxshape=(None, *shape),
        chunks=(1, *shape),
        compression="gzip",
        compression_opts=1,
        fletcher32=True,
    )


def read_hdf5(images: Path, maps: Path | None = None) -> Iterator[Tile]:
    """Tiles of an HDF5 file, one after the other.

    Parameters
    ----------
    images
        File with ``images`` (N, H, W, 1), of any type that `as_int16` takes. A file from
        elsewhere is taken as it is: not filtered once more.
    maps
        File with ``maps``, where it is another one: (N, H, W, 2), particle where the second map
        is greater than the first, or (N, H, W, 1), particle where it is not 0.

    Raises
    ------
    DataSetError
        If a file cannot be read, or has not these data sets in these shapes.
    """
    with _damage_said(images), ExitStack() as stack:
        pixels = stack.enter_context(_open(images))
        other = pixels if maps is None else stack.enter_context(_open(maps))
        image, label = (
            tuple(file[name].shape) if name in file else ()
            for file, name in ((pixels, "images"), (other, "maps"))
        )
        fits = len(image) == len(label) == 4 and image[:3] == label[:3]
        if not fits or image[3] != 1 or label[3] not in (1, 2):
            msg = (
                f"{images}: images {image or 'absent'}, maps {label or 'absent'}"
                f"{f' in {maps}' if maps else ''}; expected (N, H, W, 1) and (N, H, W, 2)"
            )
            raise DataSetError(msg)
        sources = pixels.get("sources")
        for number in range(image[0]):
            classes = other["maps"][number]
            yield Tile(
                as_int16(pixels["images"][number, ..., 0], f"{images}, image {number}"),
                classes[..., -1] > (classes[..., 0] if label[3] == 2 else 0),
                "" if sources is None else sources[number].decode(),
            )


@contextmanager
def _damage_said(path: Path) -> Iterator[None]:
    """Turn what h5py and NumPy say about an odd or a rotten file into one clear error."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, TypeError, AttributeError, IndexError) as error:
        msg = f"{path}: not a data set, or damaged ({error}); make it anew"
        raise DataSetError(msg) from error


def _open(path: Path) -> Any:
    try:
        return h5py.File(path)
    except OSError as error:
        msg = f"{path}: cannot be read as HDF5 ({error})"
        raise DataSetError(msg) from error


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
    return image[..., None], _one_hot(tile.label).astype(np.float32)


def _one_hot(label: NDArray[np.bool_]) -> NDArray[np.uint8]:
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

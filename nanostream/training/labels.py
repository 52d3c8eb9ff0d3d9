"""Labels that people or programs drew: which PNG belongs to which micrograph, and its particles.

::

    pair_labels   micrograph and label PNG matched by name         -> Pair, and what has no partner
    pair_files    the same of single files
    read_pair     one section and its label, of one size           -> Frame, particle numbers

A label is a PNG of its micrograph's size and row order: its first row belongs to the first row of
the file, which SerialEM and 3dmod show at the *bottom* if it is an MRC. A label drawn on a picture
of one that they saved has to be flipped.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition.frames import SUFFIXES, count_sections, read_section
from nanostream.acquisition.greys import are_equal
from nanostream.acquisition.pngs import read_png
from nanostream.errors import DataSetError, MicrographError, printable
from nanostream.records import Frame, SectionId

__all__ = ["Pair", "Pairing", "pair_files", "pair_labels", "read_label", "read_pair"]

_SECTION = re.compile(r"(?P<name>.+)\.z(?P<z>\d{1,6})")


@dataclass(frozen=True)
class Pair:
    """A section of a micrograph file and the PNG that says where its particles are."""

    image: Path
    z: int
    label: Path


@dataclass(frozen=True)
class Pairing:
    """Micrographs and labels of a folder that belong together, and those that are alone.

    Attributes
    ----------
    pairs
        In order of path and section.
    unlabelled
        Micrographs, and sections of labelled stacks (``gold.mrc#3``), without a label.
    strays
        Labels without a micrograph.
    failed
        Labelled micrographs that cannot be read, with the reason.
    """

    pairs: tuple[Pair, ...]
    unlabelled: tuple[str, ...]
    strays: tuple[Path, ...]
    failed: tuple[tuple[str, str], ...] = ()


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
    """
    if not folder.is_dir():
        msg = f"{folder} is not a folder; give one with micrographs and their label PNGs"
        raise DataSetError(msg)
    beside: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            beside.setdefault(path.parent, []).append(path)
    return _paired(beside.values())


def pair_files(files: Collection[Path]) -> Pairing:
    """The same of some files: micrographs with their labels, and labels with their micrographs.

    Parameters
    ----------
    files
        Micrographs, labels or both; what belongs to one of them is found beside it.

    Raises
    ------
    DataSetError
        As `pair_labels`.
    """
    folders = dict.fromkeys(path.parent for path in files)
    beside = [
        sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        for folder in folders
    ]
    return _paired(beside, wanted=frozenset(files))


def _paired(folders: Iterable[list[Path]], *, wanted: frozenset[Path] | None = None) -> Pairing:
    """Micrographs and labels, of the files of each folder; all, or those that are wanted."""
    pairs: list[Pair] = []
    unlabelled: list[str] = []
    strays: list[Path] = []
    failed: list[tuple[str, str]] = []
    for files in folders:
        owned, alone = _owners(files)
        strays += [path for path in alone if wanted is None or path in wanted]
        for image, every in owned.items():
            whole = wanted is None or image in wanted
            labels = every if whole else [one for one in every if one[1] in (wanted or ())]
            if not (whole or labels):
                continue
            try:
                found, missing = _section_labels(image, labels)
            except MicrographError as error:
                failed.append((str(image), str(error).removeprefix(f"{printable(image.name)}: ")))
                continue
            pairs += found
            unlabelled += missing if whole else []
    return Pairing(tuple(pairs), tuple(unlabelled), tuple(strays), tuple(failed))


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
            msg = (
                f"{label.name}: {image} has {count} sections, counted from 0; name the label by "
                "one of them"
            )
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
        A 16-bit PNG of more values has a number for each particle, and 0 for the background. Of a
        palette the indices count, not its colours. Where nothing but one colour is drawn on
        transparent paper, what is drawn is particle.

    Returns
    -------
    (H, W) int32
        0 is background. Where the file does not number them, particles are its 8-connected
        regions, as in the masks of ``nanostream.segmentation.masks``: two that touch are one.

    Raises
    ------
    DataSetError
        If it is no PNG, in colour, drawn with several colours on transparent paper, or has more
        than two grey values in 8 bits: smoothed edges, or a picture of the micrograph.
    """
    try:
        label = read_png(path.read_bytes(), str(path), palette="index")
    except MicrographError as error:
        raise DataSetError(str(error)) from error
    values = label.pixels if label.pixels.ndim == 2 else _drawn(label.pixels, path)
    found = np.flatnonzero(np.bincount(values.reshape(-1)))
    if found.size > 2:
        # An index for each particle, unless the palette is a scale of grey values.
        indexed = label.palette is not None and not _is_ramp(label.palette[: found[-1] + 1])
        if values.dtype != np.uint16 and not indexed:
            shown = ", ".join(map(str, found[:4]))
            msg = (
                f"{path}: {found.size} grey values ({shown}, ...); a label has two, background "
                "and particle, or is a 16-bit PNG with a number for each particle"
            )
            raise DataSetError(msg)
        return np.asarray(values, np.int32)
    particle = values == found[-1] if found[-1] > 0 else np.zeros(values.shape, np.bool_)
    _, numbers = cv2.connectedComponents(particle.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    return np.asarray(numbers, np.int32)


def _drawn(channels: NDArray[Any], path: Path) -> NDArray[Any]:
    """Grey values (H, W) of a drawing program's channels, or its opacity if that is the drawing."""
    opacity = channels[..., 3] if channels.shape[-1] == 4 else np.array([1])
    if not opacity.any():
        msg = f"{path}: nothing but transparency; save the label without opacity (flatten it)"
        raise DataSetError(msg)
    if (opacity == opacity.flat[0]).all():
        if not are_equal(channels[..., :3]):
            msg = f"{path}: a label in colour; save it as grey values"
            raise DataSetError(msg)
        return np.ascontiguousarray(channels[..., 0])
    colours = channels[opacity > 0][:, :3]
    if np.unique(opacity).size > 2 or opacity.min() > 0 or (colours != colours[0]).any():
        msg = (
            f"{path}: a label that is transparent in part, and of several colours or degrees of "
            "opacity where it is not; save it without opacity (flatten it)"
        )
        raise DataSetError(msg)
    return np.ascontiguousarray(opacity)


def _is_ramp(palette: NDArray[np.uint8]) -> bool:
    """Whether the colours of a palette (N, 3) are grey values from dark to bright, or back."""
    steps = np.diff(palette[:, 0].astype(int))
    grey = bool((palette == palette[:, :1]).all())
    return grey and bool((steps >= 0).all() or (steps <= 0).all())


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

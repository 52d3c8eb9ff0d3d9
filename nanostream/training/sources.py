"""Files to learn from: a user's labelled images, and scenes of simulated sets.

::

    find_sources    files of folders: labelled images, scene files         -> Source
    hold_out        part of the files, for the threshold and the scores    -> two lists of Source
    read_frames     micrographs as they were recorded, and their truth     -> Frame, (H, W) int32

Files are split, not images: the sections of a stack, and the exposures of a scene, resemble one
another too much for one to judge what was learnt from the other.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from nanostream.acquisition.frames import SUFFIXES
from nanostream.acquisition.selection import expand, lies_beside
from nanostream.errors import DataSetError, MicrographError
from nanostream.records import Frame, SectionId
from nanostream.training.labels import Pair, Pairing, pair_files, pair_labels, read_pair
from nanostream.training.sets import SET_FILE

__all__ = [
    "BARE",
    "LEAST_ELECTRONS_PER_PX",
    "Found",
    "Source",
    "file_hashes",
    "find_sources",
    "hold_out",
    "read_frames",
    "set_record",
]

#: Name of what has no material, in tables.
BARE = "bare support"

#: Simulated exposures of fewer electrons are left out. At fine pixel sizes the lowest doses leave
#: less than one a pixel; nobody records that, and a network learns from it to guess.
LEAST_ELECTRONS_PER_PX = 4.0

_SCENES = "scene_*.npz"


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
    """Files of folders to learn from, and those without a partner.

    Attributes
    ----------
    sources
        In order of path.
    unlabelled, strays
        As in `nanostream.training.labels.Pairing`: what has no partner.
    failed
        What cannot be read, with the reason.
    """

    sources: tuple[Source, ...]
    unlabelled: tuple[str, ...]
    strays: tuple[Path, ...]
    failed: tuple[tuple[str, str], ...] = ()


def find_sources(names: Sequence[str | Path]) -> Found:
    """Labelled images and scene files of folders and their subfolders, each file once.

    Parameters
    ----------
    names
        Folders, files, wildcards. A micrograph brings its label, a label its micrograph.

    Raises
    ------
    DataSetError
        As `nanostream.training.labels.pair_labels`, and if there is nothing to
        learn from.
    MicrographError
        If there is nothing under a name, or nothing can be read.
    """
    pairings: list[Pairing] = []
    scenes: list[Path] = []
    failed: list[tuple[str, str]] = []
    paths = dict.fromkeys(path for name in dict.fromkeys(names) for path in expand(name)[1])
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            pairings.append(pair_labels(path))
            scenes += sorted(path.rglob(_SCENES))
        elif path.match(_SCENES):
            scenes.append(path)
        elif path.suffix.lower() in SUFFIXES:
            files.append(path)
        elif not lies_beside(path.name):
            failed.append((str(path), f"nanostream does not read {path.suffix or 'such'} files"))
    pairings.append(pair_files(files))
    of_file: dict[Path, list[Pair]] = {}
    for pair in dict.fromkeys(pair for pairing in pairings for pair in pairing.pairs):
        of_file.setdefault(pair.image, []).append(pair)
    sources: dict[Path, Source] = {}
    for source in [
        *(Source(file, tuple(of)) for file, of in of_file.items()),
        *map(Source, scenes),
    ]:
        sources.setdefault(source.file.resolve(), source)
    failed += [one for pairing in pairings for one in pairing.failed]
    if not sources and failed:
        raise MicrographError("\n".join(f"{name}: {reason}" for name, reason in failed))
    if not sources:
        where = ", ".join(map(str, names))
        msg = (
            f"{where}: nothing to learn from, neither a micrograph with its label nor a scene of "
            "nanostream simulate-training; the label of gold.mrc is gold.png, gold_label.png or "
            "label_gold.png beside it, of its section 3 gold.z3.png"
        )
        raise DataSetError(msg)
    return Found(
        tuple(sources[path] for path in sorted(sources)),
        tuple(name for pairing in pairings for name in pairing.unlabelled),
        tuple(path for pairing in pairings for path in pairing.strays),
        tuple(failed),
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
        msg = (
            f"{source.file}: not a scene of nanostream simulate-training ({why}); delete it, or "
            "have it simulated again"
        )
        raise DataSetError(msg) from error
    for z, image in enumerate(pixels):
        if electrons_per_px[z] < LEAST_ELECTRONS_PER_PX:
            continue
        section = SectionId(source.file.name, z)
        yield Frame(section=section, pixels=image, pixel_size_nm=scene_nm), instances, materials


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

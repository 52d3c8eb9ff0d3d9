"""A session at the microscope: which files are written, section by section, and at what pace."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from operator import itemgetter
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from nanostream.acquisition.simulator.changes import Change, CompleteSection, Disk
from nanostream.acquisition.simulator.faults import HALFWAY, Fault, with_faults
from nanostream.acquisition.simulator.writers import (
    SECTION_KEYS,
    Clock,
    FrameStack,
    Sidecar,
    Stack,
    TiffImage,
    described,
    section_text,
    sidecar_top,
    statistics_of,
)
from nanostream.errors import ConfigError

__all__ = ["FRAMES", "Kind", "Step", "play", "script"]

Images = Iterable[NDArray[Any]]

#: Of one exposure (kind gatan).
FRAMES = 8
#: Tilt angles of one series: -60 to 60 degrees by 3, as dose-limited series are taken.
_TILTS = tuple(range(-60, 61, 3))
#: The same, dose-symmetric: 0, 3, -3, 6, -6, ...
_SYMMETRIC = tuple(sorted(_TILTS, key=lambda tilt: (abs(tilt), -tilt)))
#: Pieces of one montage: 2 x 2, which overlap by a tenth; y counts faster (EMmontageController).
_PIECES = 4
#: Images after which the file name is used again (kind reuse).
_REUSED_AFTER = 3
_MANY_SECTIONS = 100_000


class Kind(StrEnum):
    """The files that a session writes."""

    stack = "stack"
    single = "single"
    tilt = "tilt"
    dosesym = "dosesym"
    montage = "montage"
    gatan = "gatan"
    tiff = "tiff"
    idoc = "idoc"
    overwrite = "overwrite"
    reuse = "reuse"


#: A TIFF file has no header that is written again; that of frames is ahead of them anyhow.
_IMPOSSIBLE = {
    Kind.tiff: frozenset({Fault.torn_header, Fault.reordered}),
    Kind.idoc: frozenset({Fault.torn_header, Fault.reordered}),
    Kind.gatan: frozenset({Fault.reordered}),
}


@dataclass(frozen=True)
class Step:
    """One change of the folder that has happened.

    Attributes
    ----------
    name : str
        The step as the writers name it: ``"pixels"``, ``"header"``, ``"mdoc"``.
    path : str
        The file, POSIX, relative to the folder.
    completed : tuple of (path, z, generation)
        Sections that are complete on disk since this step.
    """

    name: str
    path: str
    completed: tuple[CompleteSection, ...] = ()


@dataclass(frozen=True)
class _Files:
    """The properties that all files of a session have in common."""

    name: str
    pixel_size_nm: float | None
    mdoc: bool
    clock: Clock

    def stack(
        self, path: str, *, flags: int = 17, max_sections: int = 360, generation: int = 1
    ) -> Stack:
        return Stack(
            path,
            pixel_size_nm=self.pixel_size_nm,
            mdoc=self.mdoc,
            flags=flags,
            max_sections=max_sections,
            generation=generation,
            clock=self.clock,
        )

    def top(self, pixels: NDArray[Any], **first: object) -> str:
        return sidecar_top(first, pixels, self.pixel_size_nm, self.clock())

    def keys(self, pixels: NDArray[Any]) -> dict[str, Any]:
        return described(SECTION_KEYS, statistics_of(pixels), self.pixel_size_nm, self.clock())


def script(
    kind: str,
    images: Images,
    dest: Path,
    *,
    name: str = "session",
    pixel_size_nm: float | None = None,
    mdoc: bool = True,
    clock: Clock = datetime.now,
    faults: Collection[str] = (),
    seed: int = 0,
) -> Iterator[Step]:
    """Write images as the session of a kind would; each ``next()`` makes exactly one change.

    Parameters
    ----------
    kind : str
        ========== ===========================================================================
        stack      one growing ``<name>.mrc``
        single     ``<name>_0001.mrc``, ... with one section each
        tilt       tilt series of 41 in ``<name>_0001.st``, ..., with the ``.openTS`` marker
        dosesym    the same taken from 0 degrees outwards, and sorted by tilt at the end: the
                   series becomes ``<name>_0001-unsorted.st`` and a file of its name a copy
        montage    ``<name>.mrc`` of pieces, 2 x 2 to a montage
        gatan      frame stacks ``<name>_0001.mrcs``, ... of 8 frames, by the Gatan plugin
        tiff       ``<name>_0001.tif``, ... with an mdoc each
        idoc       ``<name>0000.tif``, ... with one ``<name>.idoc``
        overwrite  a stack in which every third image overwrites a section in place
        reuse      ``<name>.mrc``, created anew after every third image
        ========== ===========================================================================
    images : iterable of (H, W) arrays
        uint8, int16, uint16 or float32; each is asked for when its save begins.
    dest : Path
        The watched folder; made if absent.
    name : str
        Of the files.
    pixel_size_nm : float or None
        Of the images.
    mdoc : bool
        Write mdoc files; an idoc is written anyhow.
    clock : callable
        Gives the local time.
    faults : collection of str
        See `Fault`.
    seed : int
        Of the faults: the same seed makes the same ones.

    Yields
    ------
    Step
        After the change.

    Raises
    ------
    ConfigError
        No such kind or fault, or a fault that the files of this kind cannot have.
    MicrographError
        Pixels that SerialEM would not write.
    """
    try:
        wanted, chosen = Kind(kind), frozenset(map(Fault, faults))
    except ValueError as error:
        msg = f"simulator: {error}; kinds: {', '.join(Kind)}; faults: {', '.join(Fault)}"
        raise ConfigError(msg) from None
    if impossible := chosen & _IMPOSSIBLE.get(wanted, frozenset()):
        msg = f"fault {', '.join(sorted(impossible))}: cannot happen to files of kind {wanted}"
        raise ConfigError(msg)
    files = _Files(name, pixel_size_nm, mdoc, clock)
    return _performed(with_faults(_SESSIONS[wanted](images, files), chosen, seed=seed), dest)


def _performed(changes: Iterator[Change], dest: Path) -> Iterator[Step]:
    dest.mkdir(parents=True, exist_ok=True)
    with Disk(dest) as disk:
        for change in changes:
            if disk.perform(change):
                yield Step(change.name, change.path, change.completed)


def _stack(images: Images, files: _Files) -> Iterator[Change]:
    # A user who records a movie raises FileOptionsMaxSections; 4 bytes a section cost nothing.
    stack = files.stack(f"{files.name}.mrc", max_sections=_MANY_SECTIONS)
    yield from stack.open()
    for pixels in images:
        yield from stack.save(pixels)
    yield from stack.close()


def _single(images: Images, files: _Files) -> Iterator[Change]:
    for i, pixels in enumerate(images, 1):
        stack = files.stack(f"{files.name}_{i:04}.mrc")
        yield from stack.open()
        yield from stack.save(pixels)
        yield from stack.close()


def _tilt(images: Images, files: _Files) -> Iterator[Change]:
    yield from _series(images, files, _TILTS, sort=False)


def _dosesym(images: Images, files: _Files) -> Iterator[Change]:
    yield from _series(images, files, _SYMMETRIC, sort=True)


def _series(
    images: Images, files: _Files, tilts: tuple[int, ...], *, sort: bool
) -> Iterator[Change]:
    stack: Stack | None = None
    to_sort: list[tuple[int, NDArray[Any]]] = []
    for i, pixels in enumerate(images):
        series, z = divmod(i, len(tilts))
        if z == 0:
            yield from _ended(stack, files, to_sort)
            stack = files.stack(f"{files.name}_{series + 1:04}.st")
            to_sort.clear()
            yield from stack.open()
            yield from _marked(stack.path)
        assert stack is not None
        yield from stack.save(pixels, TiltAngle=float(tilts[z]))
        if sort:
            to_sort.append((tilts[z], pixels))
    yield from _ended(stack, files, to_sort)


def _marked(path: str) -> Iterator[Change]:
    yield Change("open marker", path + ".openTS", "create")
    yield Change("open marker", path + ".openTS", "close")


def _closed(stack: Stack) -> Iterator[Change]:
    # KImageStore::Close takes the marker away before it closes the file.
    yield Change("marker removed", stack.path + ".openTS", "delete")
    yield from stack.close()


def _ended(
    stack: Stack | None, files: _Files, to_sort: list[tuple[int, NDArray[Any]]]
) -> Iterator[Change]:
    if stack is not None and to_sort:
        yield from _sorted(stack, files, to_sort)
    elif stack is not None:
        yield from _closed(stack)


def _sorted(stack: Stack, files: _Files, taken: list[tuple[int, NDArray[Any]]]) -> Iterator[Change]:
    """Rename the series, copy its sections by tilt to a file of its name, and remove it.

    MultiTSTasks.cpp, ``SetupBidirFileCopy`` and ``StartBidirFileCopy``.
    """
    path = stack.path
    unsorted = path.removesuffix(".st") + "-unsorted.st"
    yield Change("unsorted mdoc", path + ".mdoc", "rename", target=unsorted + ".mdoc")
    yield from _closed(stack)
    completed = tuple((unsorted, z, 1) for z in range(len(taken)))
    yield Change("unsorted", path, "rename", target=unsorted, completed=completed)
    yield from _marked(unsorted)
    copy = files.stack(path, generation=2)
    yield from copy.open()
    yield from _marked(path)
    for tilt, pixels in sorted(taken, key=itemgetter(0)):
        yield from copy.save(pixels, TiltAngle=float(tilt))
    yield Change("marker removed", unsorted + ".openTS", "delete")
    yield from _closed(copy)
    yield Change("unsorted removed", unsorted, "delete")
    yield Change("unsorted mdoc removed", unsorted + ".mdoc", "delete")


def _montage(images: Images, files: _Files) -> Iterator[Change]:
    # SerialEM makes room for the pieces of its 360 sections, and adds the stage (flags 2 and 4).
    stack = files.stack(f"{files.name}.mrc", flags=1 | 2 | 4 | 16, max_sections=360 * _PIECES)
    yield from stack.open()
    for i, pixels in enumerate(images):
        montage, piece = divmod(i, _PIECES)
        height, width = pixels.shape
        x, y = (piece // 2) * round(width * 0.9), (piece % 2) * round(height * 0.9)
        yield from stack.save(pixels, PieceCoordinates=(x, y, montage))
        if piece == _PIECES - 1 and (sidecar := stack.sidecar) is not None:
            for k in range(-_PIECES, 0):  # the alignment adds to each piece
                sidecar.sections[k] += f"AlignedPieceCoords = {x} {y} {montage}\n"
            keys = SECTION_KEYS | {"PieceCoordinates": (x, y, montage)}
            sidecar.sections.append(section_text("MontSection", montage, keys))
            yield from sidecar.rewrite()
    yield from stack.close()


def _gatan(images: Images, files: _Files) -> Iterator[Change]:
    stack = None
    for i, pixels in enumerate(images):
        exposure, frame = divmod(i, FRAMES)
        if frame == 0:
            if stack is not None:
                yield from stack.close()
            stack = FrameStack(
                f"{files.name}_{exposure + 1:04}.mrcs",
                expected=FRAMES,
                pixel_size_nm=files.pixel_size_nm,
                mdoc=files.mdoc,
                clock=files.clock,
            )
        assert stack is not None
        yield from stack.save(pixels)
    if stack is not None:
        yield from stack.close()


def _tiff(images: Images, files: _Files) -> Iterator[Change]:
    for i, pixels in enumerate(images, 1):
        image = TiffImage(f"{files.name}_{i:04}.tif", pixels)
        section = (image.path, 0, 1)
        yield from image.save(*(() if files.mdoc else (section,)))
        if files.mdoc:
            sidecar = Sidecar(image.path + ".mdoc")
            sidecar.top = files.top(pixels, ImageFile=image.path)
            yield from sidecar.add(section_text("ZValue", 0, files.keys(pixels)), section)


def _idoc(images: Images, files: _Files) -> Iterator[Change]:
    sidecar = Sidecar(f"{files.name}.idoc")
    for z, pixels in enumerate(images):
        sidecar.top = sidecar.top or files.top(pixels, ImageSeries=1)
        image = TiffImage(f"{files.name}{z:04}.tif", pixels)
        yield from image.save()
        text = section_text("Image", image.path, files.keys(pixels))
        yield from sidecar.add(text, (image.path, 0, 1))


def _overwrite(images: Images, files: _Files) -> Iterator[Change]:
    stack = files.stack(f"{files.name}.mrc", max_sections=_MANY_SECTIONS)
    yield from stack.open()
    for i, pixels in enumerate(images):
        round_, turn = divmod(i, 3)
        yield from stack.save(pixels, z=round_ if turn == 2 else None)
    yield from stack.close()


def _reuse(images: Images, files: _Files) -> Iterator[Change]:
    stack = None
    for i, pixels in enumerate(images):
        if i % _REUSED_AFTER == 0:
            if stack is not None:
                yield from stack.close()
            stack = files.stack(f"{files.name}.mrc", generation=i // _REUSED_AFTER + 1)
            yield from stack.open()
        assert stack is not None
        yield from stack.save(pixels)
    if stack is not None:
        yield from stack.close()


_SESSIONS: dict[Kind, Callable[[Images, _Files], Iterator[Change]]] = {
    Kind.stack: _stack,
    Kind.single: _single,
    Kind.tilt: _tilt,
    Kind.dosesym: _dosesym,
    Kind.montage: _montage,
    Kind.gatan: _gatan,
    Kind.tiff: _tiff,
    Kind.idoc: _idoc,
    Kind.overwrite: _overwrite,
    Kind.reuse: _reuse,
}


def play(
    images: Images,
    dest: Path,
    *,
    kind: str = Kind.stack,
    interval_s: float,
    name: str = "session",
    pixel_size_nm: float | None = None,
    mdoc: bool = True,
    faults: Collection[str] = (),
    seed: int = 0,
    pause_s: float = 0.3,
    sleep: Callable[[float], object] = time.sleep,
    now: Callable[[], float] = time.monotonic,
    clock: Clock = datetime.now,
) -> list[Path]:
    """Write images as a SerialEM session would, at a steady rate: `script`, paced.

    Parameters
    ----------
    images, dest, kind, name, pixel_size_nm, mdoc, faults, seed, clock
        As for `script`.
    interval_s : float
        From the start of one save to the next; a save that takes longer delays the next.
    pause_s : float
        How long a section or header stays half written, where a fault does that.
    sleep, now : callable
        Time, passed in for tests.

    Returns
    -------
    list of Path
        The image files with complete sections that are there at the end.

    Raises
    ------
    ConfigError, MicrographError
        As `script`.
    """
    paced = _paced(images, interval_s=interval_s, sleep=sleep, now=now)
    paths: dict[str, None] = {}
    for step in script(
        kind,
        paced,
        dest,
        name=name,
        pixel_size_nm=pixel_size_nm,
        mdoc=mdoc,
        clock=clock,
        faults=faults,
        seed=seed,
    ):
        paths |= dict.fromkeys(path for path, _, _ in step.completed)
        if step.name.endswith(HALFWAY):
            sleep(pause_s)
    return [dest / path for path in paths if (dest / path).exists()]


def _paced(
    images: Images,
    *,
    interval_s: float,
    sleep: Callable[[float], object],
    now: Callable[[], float],
) -> Iterator[NDArray[Any]]:
    due = now()
    for pixels in images:
        if (wait := due - now()) > 0:
            sleep(wait)
        due = max(due, now()) + interval_s
        yield pixels

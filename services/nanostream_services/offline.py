"""Micrograph files into a session without the pipeline: the same steps, the same results."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import pandas as pd
from msgspec.structs import replace

from nanostream.acquisition.frames import count_sections, read_section, section_of
from nanostream.acquisition.remarks import remarks_on
from nanostream.analysis import Analyzer, used_threshold
from nanostream.config import Config, Worker, tracker_of
from nanostream.errors import (
    ConfigError,
    MicrographError,
    ModelError,
    SessionError,
    printable,
    reason_of,
)
from nanostream.records import Frame, Result, SectionId
from nanostream.results.session import Session
from nanostream.results.store import Store
from nanostream.segmentation.handing_over import models_in_use
from nanostream_services.processes.lifecycle import Stop

logger = logging.getLogger(__name__)

__all__ = ["GivenSize", "SegmentedFiles", "read_frame", "segment_files"]


class _AnotherError(MicrographError):
    """A section of this name is stored, but it is not this one."""


@dataclass(frozen=True)
class SegmentedFiles:
    """The outcome: sections stored now, there already, and reasons of what failed.

    ``sections`` is the number of all in the files that could be read, ``same`` of those whose mask
    and probability are, bit for bit, those of the session they were to be like. ``warned`` says of
    sections why their masks should be checked, or that another pixel size than given was used.
    """

    sections: int
    stored: int
    known: int
    failed: tuple[str, ...]
    same: int = 0
    warned: tuple[str, ...] = ()


class GivenSize(NamedTuple):
    """The pixel size that the user gave, if one, and whether it counts against the file's own."""

    nm: float | None = None
    force: bool = False


_NOT_GIVEN = GivenSize()

#: SHA-256 of a model's weights, and threshold.
_Way = tuple[str, float]

#: So many files take a second to be inspected, on a share.
_MANY_FILES = 100


def segment_files(
    files: Sequence[Path],
    config: Config,
    stop: Stop,
    *,
    root: Path | None = None,
    pixel_size_nm: float | None = None,
    force_pixel_size: bool = False,
    like: Session | None = None,
    progress: Callable[[int, int, str], None],
    on_session: Callable[[], object] = lambda: None,
) -> SegmentedFiles:
    """Segment every section of some files that the session does not have yet.

    Parameters
    ----------
    files : sequence of Path
    root : Path, optional
        Section ids are paths below it, as if it were the watched folder; by default the files'
        common folder.
    pixel_size_nm : float, optional
        For files that do not say it, instead of the configuration's.
    force_pixel_size : bool
        Also for files that say another.
    like : Session, optional
        Whose sections are to be made again, each scaled as it was then.
    progress : callable
        Called with (sections done, sections in all, section id), and before, of every hundredth
        file, with (files inspected, files in all, words for that).
    on_session : callable
        Called when there is something to segment and the session folder is there.

    Raises
    ------
    ConfigError
        If there is no file, or one is not below the root.
    SessionError, ModelError
        If the session folder or the model cannot be used.
    """
    sections, failed = _sections_of(_names(files, root), stop, progress)
    ways = _ways(config.worker)
    if not sections:  # nothing that a session would be for
        return SegmentedFiles(0, 0, 0, tuple(failed))
    with Store(Path(config.sink.session), config) as store:
        on_session()
        given = GivenSize(pixel_size_nm, force_pixel_size)
        run = _Run(store, config, ways, given=given, like=like)
        for done, (file, section) in enumerate(sections):
            if stop.is_set():
                break
            progress(done, len(sections), str(section))
            run.take(file, section)
        else:
            progress(len(sections), len(sections), "")
    failed += run.failed
    return SegmentedFiles(
        len(sections), run.stored, run.known, tuple(failed), run.same, tuple(run.warned)
    )


class _Run:
    """Sections into a store, one after the other, and what came of them."""

    def __init__(
        self,
        store: Store,
        config: Config,
        ways: frozenset[_Way],
        *,
        given: GivenSize,
        like: Session | None,
    ) -> None:
        self.stored = self.known = self.same = 0
        self.failed: list[str] = []
        self.warned: list[str] = []
        self._store, self._config, self._ways = store, config, ways
        self._given = given
        self._like = like
        self._before = None if like is None else like.sections
        self._stored_as = store.sections_by_pixels()
        self._analyzer: Analyzer | None = None

    def take(self, file: Path, section: SectionId) -> None:
        """Segment a section and store it; what cannot be is quarantined, with the reason."""
        try:
            self._take(file, section)
        except (SessionError, ModelError, ConfigError):
            raise
        except _AnotherError as error:
            self.failed.append(f"{section}: {error}")
        except Exception as error:  # noqa: BLE001 - one bad section must not stop the rest
            reason = reason_of(error).removeprefix(f"{printable(file.name)}: ")
            self.failed.append(f"{section}: {reason}")
            movie = tracker_of(section.path, self._config.streams)
            self._store.quarantine(section, reason, attempts=1, stream=movie)

    def _warn(self, text: str) -> None:
        """Keep a warning for the screen, which has room for a few, and log it."""
        self.warned.append(text)
        logger.warning("%s", text)

    def _take(self, file: Path, section: SectionId) -> None:
        frame = read_frame(file, section, self._config, given=self._given)
        if own := _other_than(self._given.nm, frame):
            self._warn(f"{section}: {own}")
        for remark in remarks_on(file, frame):
            self._warn(remark)
        if self._store.has(section):
            _check_same(self._store, frame, self._ways)
            self.known += 1
            return
        analyzer = self._loaded()
        if self._before is not None:
            frame, maximum = _as_before(self._before, frame, self._ways)
            analyzer.take_maximum(maximum)
        _check_new(frame.section, self._stored_as.get(frame.pixels_crc32()))
        result = Result.of(frame, analyzer(frame), versions=analyzer.versions)
        self._store.commit(result)
        self.stored += 1
        if result.warning:
            self._warn(f"{section}: {result.warning}")
        self.same += self._like is not None and _is_same(self._like, result)

    def _loaded(self) -> Analyzer:
        """The model, loaded when the first section needs it."""
        if self._analyzer is None:
            maximum = self._store.normalization_maximum()
            self._analyzer = Analyzer(self._config.worker, normalization_maximum=maximum)
        return self._analyzer


def _sections_of(
    files: Sequence[tuple[Path, str]], stop: Stop, progress: Callable[[int, int, str], None]
) -> tuple[list[tuple[Path, SectionId]], list[str]]:
    """All whole sections of some files, and reasons of what cannot be read or is cut off."""
    sections: list[tuple[Path, SectionId]] = []
    failed: list[str] = []
    for number, (file, relative) in enumerate(files):
        if stop.is_set():
            break
        if number and not number % _MANY_FILES:
            progress(number, len(files), "counting sections")
        try:
            count, cut_off = count_sections(file)
            sections += [(file, section_of(relative, z)) for z in range(count)]
        except MicrographError as error:
            reason = str(error)
            for name in (relative, file.name):
                reason = reason.removeprefix(f"{printable(name)}: ")
            failed.append(f"{relative}: {reason}")
            continue
        if count == 0:
            failed.append(f"{relative}: not one complete section in it; is it cut off?")
        elif cut_off:
            failed.append(
                f"{relative}: {count} whole sections, but its header counts more; is it cut off?"
            )
    return sections, failed


def _names(files: Sequence[Path], root: Path | None) -> list[tuple[Path, str]]:
    """Each file once, with its POSIX path below the root."""
    if not files:
        msg = "no files to segment"
        raise ConfigError(msg)
    # By the name that it has in its folder: a link may lead out of the root.
    absolute = list(
        {os.path.realpath(file): file.parent.resolve() / file.name for file in files}.values()
    )
    try:
        below = root.resolve() if root else Path(os.path.commonpath([f.parent for f in absolute]))
        return [(file, file.relative_to(below).as_posix()) for file in absolute]
    except ValueError as error:
        outside = next((f for f in absolute if root and not f.is_relative_to(root.resolve())), None)
        where = f"{outside} is not below --root {root}" if outside else "they are on several drives"
        msg = f"no common folder: {where}; give another --root, or segment them in turn"
        raise ConfigError(msg) from error


def read_frame(
    file: Path, section: SectionId, config: Config, *, given: GivenSize = _NOT_GIVEN
) -> Frame:
    """One section as ``nanostream segment`` sees it.

    Parameters
    ----------
    given : GivenSize
        Instead of the configuration's.

    Raises
    ------
    MicrographError
        As `nanostream.acquisition.frames.read_section`.
    """
    start_s = perf_counter()
    frame = read_section(
        file,
        section.z,
        section=section,
        pixel_size_nm=config.watch.pixel_size_nm if given.nm is None else given.nm,
        given_by="configuration" if given.nm is None else "user",
        overrule=given.force and given.nm is not None,
    )
    timings_s = {"read_s": perf_counter() - start_s}
    return replace(frame, stream=tracker_of(section.path, config.streams), timings_s=timings_s)


def _other_than(pixel_size_nm: float | None, frame: Frame) -> str:
    """A warning of a given pixel size that is not the one of the file, which is used."""
    if pixel_size_nm is None or math.isclose(frame.pixel_size_nm or 0, pixel_size_nm, rel_tol=1e-3):
        return ""
    return (
        f"pixels of {frame.pixel_size_nm:.4g} nm by the file itself; --pixel-size "
        f"{pixel_size_nm:.4g} is for files that do not say it, unless --force-pixel-size"
    )


def _ways(worker: Worker) -> frozenset[_Way]:
    """The ways in which a worker with these settings may make a mask."""
    cards = (card for card, _ in models_in_use(worker))
    return frozenset((card.weights_sha256, used_threshold(worker, card)) for card in cards)


def _as_before(
    sections: pd.DataFrame, frame: Frame, ways: frozenset[_Way]
) -> tuple[Frame, float | None]:
    """The frame under its name in a session, and the maximum that it was scaled by there."""
    rows = sections[
        (sections["path"] == frame.section.path)
        & (sections["z"] == frame.section.z)
        & (sections["pixels_crc32"] == frame.pixels_crc32())
    ]
    if rows.empty:
        msg = "the other session has no section of this name and these pixels; give --root"
        raise _AnotherError(msg)
    row = rows.iloc[-1]
    if (row.model_sha256, row.threshold) not in ways:
        msg = f"it was made by model {row.model} at {row.threshold:g}; give --model and --threshold"
        raise _AnotherError(msg)
    maximum = row.normalization_maximum
    section = SectionId.parse(row.section)
    return replace(frame, section=section), None if np.isnan(maximum) else float(maximum)


def _is_same(like: Session, result: Result) -> bool:
    labels = np.array_equal(like.labels(result.section), result.labels)
    scaled = np.rint(like.probability(result.section) * 255)
    return labels and np.array_equal(scaled, result.probability)


def _check_new(section: SectionId, other: SectionId | None) -> None:
    """Refuse a micrograph that is stored under a name that another root gave it."""
    if other is None or other.z != section.z or other.path == section.path:
        return
    # Another root takes away, or puts before, whole folders.
    shorter, longer = sorted((other.path, section.path), key=len)
    if longer.endswith(f"/{shorter}"):
        msg = (
            f"the session has this micrograph as {other}; give the --root that it was named by, or "
            "use another --out"
        )
        raise _AnotherError(msg)


def _check_same(store: Store, frame: Frame, ways: frozenset[_Way]) -> None:
    """Refuse another micrograph under the name of one that is stored, or another way to see it."""
    crc32, model_sha256, used, stored_nm = store.made_from(frame.section)
    if crc32 != frame.pixels_crc32():
        msg = (
            "the session has another micrograph of this name; use another --out, or give --root "
            "so that the names differ"
        )
        raise _AnotherError(msg)
    if (model_sha256, used) not in ways:
        now = " or ".join(f"{threshold:g}" for _, threshold in sorted(ways))
        msg = (
            f"the session has it by another model or threshold ({used:g}, not {now}); "
            "use another --out"
        )
        raise _AnotherError(msg)
    # Of a file that says it, or a live section, what else was known then is as good.
    asked = frame.metadata.pixel_size_source == "user"
    if asked and not math.isclose(stored_nm or 0, frame.pixel_size_nm or 0, rel_tol=1e-6):
        before = "no pixel size" if stored_nm is None else f"pixels of {stored_nm:g} nm"
        msg = f"the session has it with {before}, now {frame.pixel_size_nm:g}; use another --out"
        raise _AnotherError(msg)

"""Micrograph files into a session without the pipeline: the same steps, the same results."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from nanostream.acquisition.micrographs import count_sections, read_micrograph
from nanostream.analysis import Analyzer, versions
from nanostream.config import Config
from nanostream.errors import ConfigError, MicrographError
from nanostream.records import Result, SectionId
from nanostream.results.store import Store, is_stream
from nanostream_services.loop import Stop

__all__ = ["SegmentedFiles", "segment_files"]


@dataclass(frozen=True)
class SegmentedFiles:
    """How it went."""

    stored: int
    known: int
    failed: tuple[str, ...]


def segment_files(
    files: Sequence[Path],
    config: Config,
    stop: Stop,
    *,
    progress: Callable[[int, int, str], None],
) -> SegmentedFiles:
    """Segment every section of some files that the session does not have yet.

    Parameters
    ----------
    files : sequence of Path
        Their names below their common folder become the section ids, as if it were watched.
    progress : callable
        Called with (sections done, sections in all, section id).

    Raises
    ------
    ConfigError
        If there is no file.
    SessionError, ModelError
        If the session folder or the model cannot be used.
    """
    if not files:
        msg = "no files to segment"
        raise ConfigError(msg)
    failed: list[str] = []
    sections = []
    absolute = [file.resolve() for file in files]
    root = Path(os.path.commonpath([file.parent for file in absolute]))
    for file in absolute:
        try:
            relative = file.relative_to(root).as_posix()
            sections += [(file, SectionId(relative, z)) for z in range(count_sections(file))]
        except (MicrographError, ValueError) as error:
            failed.append(str(error))
    stored = known = 0
    with Store(Path(config.sink.session), config) as store:
        analyzer: Analyzer | None = None
        for done, (file, section) in enumerate(sections):
            if stop.is_set():
                break
            progress(done, len(sections), str(section))
            if store.has(section):
                known += 1
                continue
            if analyzer is None:
                maximum = store.normalization_maximum()
                analyzer = Analyzer(config.worker, normalization_maximum=maximum)
            try:
                store.commit(_segment(file, section, config, analyzer))
                stored += 1
            except (MicrographError, OSError) as error:
                failed.append(str(error))
                movie = is_stream(section.path, config.streams)
                store.quarantine(section, str(error), attempts=1, stream=movie)
        else:
            progress(len(sections), len(sections), "")
    return SegmentedFiles(stored, known, tuple(failed))


def _segment(file: Path, section: SectionId, config: Config, analyzer: Analyzer) -> Result:
    start = perf_counter()
    frame = replace(
        read_micrograph(file, section.z, section=section),
        stream=is_stream(section.path, config.streams),
    )
    read_s = perf_counter() - start
    segmentation = analyzer(frame)
    segmentation.timings_s["read_s"] = read_s
    return Result.of(frame, segmentation, versions=versions())

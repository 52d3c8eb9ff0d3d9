"""Masks of a session that are damaged or removed, made again from the micrographs.

A mask counts only if it is the stored one bit for bit, by its checksum: the table of particles is
its, and stays.
"""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from nanostream.analysis import Analyzer
from nanostream.config import Worker
from nanostream.errors import NanostreamError, SessionError
from nanostream.records import Result, SectionId
from nanostream.results.folders import lock
from nanostream.results.mask_files import write_mask
from nanostream.results.micrographs import read_micrograph
from nanostream.results.session import Session
from nanostream.results.verification import verify
from nanostream.segmentation.models import find_model
from nanostream_services.processes.lifecycle import Stop

__all__ = ["Repaired", "repair"]

logger = logging.getLogger(__name__)


class Repaired(NamedTuple):
    """Names of the masks that were made again, and why others were not."""

    made: tuple[str, ...]
    failed: dict[str, str]


def repair(
    session: Session,
    worker: Worker,
    root: Path,
    stop: Stop,
    *,
    progress: Callable[[int, int, str], None],
) -> Repaired:
    """Make the damaged masks of a session again.

    Parameters
    ----------
    session : Session
        That nobody writes to.
    worker : Worker
        Settings that it was made with; model and threshold are those of each section.
    root : Path
        Of `nanostream.results.micrographs.micrographs_folder`.
    progress : callable
        Called with (sections done, sections in all, section id).

    Raises
    ------
    SessionError
        If the session is in use, or a mask cannot be written.
    """
    rows = session.sections.set_index("section", drop=False)
    made: list[str] = []
    failed: dict[str, str] = {}
    analyzers: dict[tuple[str, float], Analyzer] = {}
    with closing(lock(session.folder / "writer.lock")):
        damaged = verify(session).damaged
        for done, name in enumerate(damaged):
            if stop.is_set():
                break
            progress(done, len(damaged), name)
            row = rows.loc[name]
            try:
                result = _again(row, worker, root, analyzers)
            except (NanostreamError, OSError) as error:
                failed[name] = str(error)
                continue
            write_mask(session.folder, result)
            made.append(name)
            logger.info("%s: its mask was made again", name)
        progress(len(damaged), len(damaged), "")
    return Repaired(tuple(made), failed)


def _again(
    row: Any, worker: Worker, root: Path, analyzers: dict[tuple[str, float], Analyzer]
) -> Result:
    """Result of a section, the same as the stored one."""
    frame = read_micrograph(root, row.section, pixels_crc32=row.pixels_crc32)
    card, _ = find_model(row.model)
    if card.weights_sha256 != row.model_sha256:
        msg = f"model {row.model} has other weights now than those it was made with"
        raise SessionError(msg)
    key = (row.model, row.threshold)
    if key not in analyzers:
        analyzers[key] = Analyzer(replace(worker, model=row.model, threshold=row.threshold))
    analyzer = analyzers[key]
    analyzer.take_maximum(_known(row.normalization_maximum))
    known = {"section": SectionId.parse(row.section), "pixel_size_nm": _known(row.pixel_size_nm)}
    frame = replace(frame, **known)
    result = Result.of(frame, analyzer(frame), versions=analyzer.versions)
    if zlib.crc32(np.ascontiguousarray(result.labels).data) != row.labels_crc32:
        msg = (
            "its mask would be another than the one that its particles were measured in: other "
            "settings or another version; segment it anew into another session"
        )
        raise SessionError(msg)
    return result


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)

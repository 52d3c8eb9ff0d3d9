"""Masks of a session that are damaged or removed, made again from the micrographs.

A mask counts only if its labels are the stored ones bit for bit, by their checksum: the table of
particles is theirs, and stays. Of the probability no checksum is kept; it is what the same network
gives now. Attributes are those of the row.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from nanostream.analysis import Analyzer
from nanostream.config import Worker
from nanostream.errors import MessageError, NanostreamError, SessionError, reason_of
from nanostream.records import Measured, Result, shared
from nanostream.results.folders import lock
from nanostream.results.mask_files import write_mask
from nanostream.results.micrographs import read_micrograph
from nanostream.results.origins import origin_of, worker_of
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
    micrographs: Path,
    stop: Stop,
    *,
    progress: Callable[[int, int, str], None],
    load: Callable[[Worker], Analyzer] = Analyzer,
) -> Repaired:
    """Make the damaged masks of a session again.

    Parameters
    ----------
    session : Session
        That nobody writes to.
    micrographs : Path
        Their folder, of `nanostream.results.micrographs.micrographs_folder`.
    stop : Stop
        Asked before each section: what is not made by then is left as it is.
    progress : callable
        Called with (sections done, sections in all, section id).
    load : callable
        Makes the analyzer of a worker's settings, once for each that the sections were made by.

    Raises
    ------
    SessionError
        If the session is in use, or there is no room for a mask now.
    """
    made: list[str] = []
    failed: dict[str, str] = {}
    loaded = cache(load)
    with closing(lock(session.folder / "writer.lock")):
        damaged = verify(session).damaged
        for done, name in enumerate(damaged):
            if stop.is_set():
                break
            progress(done, len(damaged), name)
            try:
                result = _again(session.folder, name, micrographs, loaded)
            except (NanostreamError, OSError) as error:
                failed[name] = reason_of(error)
                continue
            try:
                write_mask(session.folder, result)
            except MessageError as error:  # of this section alone; a full disk is of all
                failed[name] = str(error)
                continue
            made.append(name)
            logger.info("%s: its mask was made again", name)
        progress(len(damaged), len(damaged), "")
    return Repaired(tuple(made), failed)


def _again(
    session: Path, section: str, micrographs: Path, loaded: Callable[[Worker], Analyzer]
) -> Result:
    """Result of a section with the stored labels, and in all but its arrays as its row has it."""
    origin = origin_of(session, section)
    measured, frame = origin.measured, read_micrograph(micrographs, origin)
    card, _ = find_model(measured.model)
    if card.weights_sha256 != measured.model_sha256:
        msg = f"model {measured.model} has other weights now than those it was made with"
        raise SessionError(msg)
    analyzer = loaded(worker_of(session, measured))
    analyzer.take_maximum(measured.normalization_maximum)
    result = Result.of(frame, analyzer(frame))
    if zlib.crc32(np.ascontiguousarray(result.labels).data) != origin.labels_crc32:
        msg = (
            "its mask would be another than the one that its particles were measured in: other "
            "settings or another version; segment it anew into another session"
        )
        raise SessionError(msg)
    return replace(result, **shared(measured, Measured))

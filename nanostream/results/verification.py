"""Is every section that SerialEM committed stored or quarantined? Read anew, not remembered."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from nanostream.acquisition import frames
from nanostream.acquisition.readiness import Contents
from nanostream.errors import MicrographError, NotReadyError, SessionError, reason_of
from nanostream.records import SectionId
from nanostream.results.session import Session

__all__ = ["AcquiredFile", "AcquiredFiles", "Verification", "acquired_files", "verify"]


class Verification(Struct, frozen=True):
    """A session compared with what was acquired.

    ``missing`` was acquired and is neither stored nor quarantined, an overwritten section by the
    name of its new generation; ``doubled`` is stored more than once; ``damaged`` has no readable
    mask or one whose checksum is not the stored one; ``absent`` has an end but is not in the folder
    now: its file was deleted, renamed or written anew; ``unreadable`` are files in it that are no
    micrographs, ``not_ready`` those that are none yet, such as TIFFs that no mdoc lists;
    ``cut_off`` are those whose headers count sections that are not there, or not yet;
    ``not_watched`` are files and folders that may hold micrographs and were never looked into;
    ``passed_over`` was there before the agent first started and was not wanted, and is
    not counted as acquired; ``named`` counts names in the session, whatever their generation.
    """

    acquired: int | None
    stored: int
    quarantined: tuple[str, ...]
    missing: tuple[str, ...]
    doubled: tuple[str, ...]
    damaged: tuple[str, ...]
    absent: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    not_ready: tuple[str, ...] = ()
    cut_off: tuple[str, ...] = ()
    not_watched: tuple[str, ...] = ()
    passed_over: int = 0
    named: int = 0

    @property
    def another_folder(self) -> bool:
        """Nothing of the session is in the folder: it is not the one that was watched."""
        return bool(self.absent) and len(self.absent) == self.named

    @property
    def complete(self) -> bool:
        """Every section that was acquired is stored or quarantined, once and whole."""
        wrong = self.missing or self.cut_off or self.another_folder or self.doubled or self.damaged
        return not wrong


class AcquiredFiles(NamedTuple):
    """The micrograph files of a folder, and why others are none, or none yet, or not watched."""

    files: list[AcquiredFile]
    unreadable: tuple[str, ...]
    not_ready: tuple[str, ...]
    not_watched: tuple[str, ...] = ()


class AcquiredFile(Struct, frozen=True):
    """A file as its header is now: complete sections, and the title that tells files apart.

    The first ``passed_over`` of the sections were not wanted; ``cut_off`` says that the header
    counts more than are complete. ``generations`` has the number of the
    micrograph that is in each section now, as far as the ledger can tell.
    """

    path: str
    sections: int
    title: str | None
    passed_over: int = 0
    generations: dict[int, int] = {}
    cut_off: bool = False


def acquired_files(
    folder: Path,
    files: Iterable[str],
    passed_over: Mapping[tuple[str, str], int] | None = None,
    last_read: Mapping[str, Mapping[int, tuple[int, int]]] | None = None,
    *,
    at_rest: bool = False,
) -> AcquiredFiles:
    """Micrograph files as their headers are now, and the reasons of those that are none.

    Parameters
    ----------
    files : iterable of str
        POSIX paths below the folder.
    passed_over : mapping of (path, title) to int, optional
        From `nanostream.acquisition.ledger.passed_over`.
    last_read : mapping of path to (z to (generation, fingerprint)), optional
        From `nanostream.acquisition.ledger.last_read`. A section whose pixels are not those that
        were read last has been overwritten since.
    at_rest : bool
        As `nanostream.acquisition.frames.inspect`: for a session that no agent made.
    """
    passed_over, last_read = passed_over or {}, last_read or {}
    acquired = []
    unreadable = []
    not_ready = []
    for path in files:
        try:
            # What was read of a file that lay still cannot be told in any other way.
            still = at_rest or (path in last_read and not frames.is_tiff(folder / path))
            contents, stat = frames.inspect(folder / path, at_rest=still)
        except NotReadyError as error:
            not_ready.append(str(error))
            continue
        except (MicrographError, OSError) as error:
            unreadable.append(_unreadable(path, error))
            continue
        title, complete = contents.title, contents.complete_sections(stat.st_size)
        passed = min(complete, passed_over.get((path, title), 0))
        read = {z: known for z, known in last_read.get(path, {}).items() if passed <= z < complete}
        generations: dict[int, int] = {}
        try:
            generations = _generations(folder / path, contents, read)
        except OSError as error:
            unreadable.append(_unreadable(path, error))
        cut_off = contents.lacks(stat.st_size)
        acquired.append(
            AcquiredFile(path, complete, title or None, passed, generations, cut_off=cut_off)
        )
    return AcquiredFiles(acquired, tuple(unreadable), tuple(not_ready))


def _unreadable(path: str, error: Exception) -> str:
    """Line about a file that cannot be read; readers' own messages begin with its name."""
    return f"{path}: {reason_of(error)}" if isinstance(error, OSError) else str(error)


def _generations(
    path: Path, contents: Contents, read: Mapping[int, tuple[int, int]]
) -> dict[int, int]:
    """Generation of what is in the file now: one more where it is not what was read last."""
    fingerprints = {z: fingerprint for z, (_, fingerprint) in read.items()}
    changed = set(frames.changed_sections(path, contents, fingerprints)) if read else set()
    return {z: generation + (z in changed) for z, (generation, _) in read.items()}


def verify(session: Session, acquired: Iterable[AcquiredFile] | None = None) -> Verification:
    """A session compared with what was acquired, and its masks with their checksums.

    Parameters
    ----------
    acquired : iterable of AcquiredFile, optional
        Without it only the session itself is checked.
    """
    sections = session.sections
    given_up = tuple(session.quarantine["section"])
    stored = [SectionId.parse(text) for text in sections["section"]]
    titles = sections["file_title"] if "file_title" in sections else [None] * len(sections)
    newest = _newest(
        *zip(stored, titles, strict=True), *((SectionId.parse(text), None) for text in given_up)
    )
    files = list(acquired or ())
    keys = Counter(zip(sections["path"], sections["generation"], sections["z"], strict=True))
    twice = tuple(f"{p}~{g}#{z}" for (p, g, z), n in keys.items() if n > 1)
    damaged = [
        str(section)
        for section, checksum in zip(stored, sections["labels_crc32"], strict=True)
        if not _mask_is_whole(session, section, int(checksum))
    ]
    there = {(file.path, z) for file in files for z in range(file.sections)}
    gone = (f"{path}#{z}" for path, z in newest if (path, z) not in there)
    wanted = sum(file.sections - file.passed_over for file in files)
    return Verification(
        acquired=None if acquired is None else wanted,
        stored=len(stored),
        quarantined=given_up,
        missing=tuple(_missing(files, newest)),
        doubled=twice + tuple(set(given_up) & set(sections["section"])),
        damaged=tuple(damaged),
        absent=() if acquired is None else tuple(gone),
        cut_off=tuple(f"{file.path} ({file.sections} whole)" for file in files if file.cut_off),
        named=len(newest),
        passed_over=sum(file.passed_over for file in files),
    )


#: Generation and file title of the newest result of a path and section.
_Newest = Mapping[tuple[str, int], tuple[int, str | None]]


def _newest(*results: tuple[SectionId, object]) -> _Newest:
    """The file that is there now is the newest of its name; results of an older one are not its."""
    newest: dict[tuple[str, int], tuple[int, str | None]] = {}
    for section, title in results:
        key = (section.path, section.z)
        if section.generation > newest.get(key, (0, None))[0]:
            newest[key] = (section.generation, title if isinstance(title, str) else None)
    return newest


def _missing(files: Iterable[AcquiredFile], newest: _Newest) -> Iterator[str]:
    for file in files:
        for z in range(file.passed_over, file.sections):
            generation, title = newest.get((file.path, z), (0, None))
            if not generation or title not in (None, file.title):
                yield f"{file.path}#{z}"
            elif generation < file.generations.get(z, 0):
                yield str(SectionId(file.path, z, file.generations[z]))


def _mask_is_whole(session: Session, section: SectionId, checksum: int) -> bool:
    try:
        labels = session.labels(section)
        session.probability(section)
    except SessionError:
        return False
    narrow = labels.astype(np.uint16 if labels.max(initial=0) < 2**16 else np.uint32)
    return zlib.crc32(narrow.data) == checksum

"""Is every section that SerialEM committed stored or quarantined? Read anew, not remembered."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from msgspec import Struct

from nanostream.acquisition.mrc import read_header
from nanostream.errors import MicrographError, NotReadyError, SessionError
from nanostream.records import SectionId
from nanostream.results.session import Session

__all__ = ["Verification", "acquired_sections", "verify"]


class Verification(Struct, frozen=True):
    """What a session has, against what was acquired.

    ``missing`` was acquired and is neither stored nor quarantined; ``doubled`` is stored more
    than once; ``damaged`` has no readable mask or one whose checksum is not the stored one;
    ``unreadable`` are files in the watched folder that are no micrographs.
    """

    acquired: int | None
    stored: int
    quarantined: tuple[str, ...]
    missing: tuple[str, ...]
    doubled: tuple[str, ...]
    damaged: tuple[str, ...]
    unreadable: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Nothing is missing, doubled or damaged."""
        return not (self.missing or self.doubled or self.damaged)


def acquired_sections(
    folder: Path, files: Iterable[str]
) -> tuple[list[tuple[str, int]], tuple[str, ...]]:
    """Complete sections as the headers say now, and the files that are no micrographs.

    Parameters
    ----------
    files : iterable of str
        POSIX paths below the folder.
    """
    sections: list[tuple[str, int]] = []
    unreadable = []
    for path in files:
        try:
            header, stat = read_header(folder / path)
        except NotReadyError:
            continue
        except MicrographError as error:
            unreadable.append(str(error))
            continue
        sections += [(path, z) for z in range(header.complete_sections(stat.st_size))]
    return sections, tuple(unreadable)


def verify(session: Session, acquired: Iterable[tuple[str, int]] | None = None) -> Verification:
    """Hold a session against what was acquired, and its masks against their checksums.

    Parameters
    ----------
    acquired : iterable of (path, z), optional
        From `acquired_sections`; without it only the session itself is checked.
    """
    sections = session.sections
    given_up = tuple(session.quarantine["section"])
    stored = [SectionId.parse(text) for text in sections["section"]]
    ended = {(s.path, s.z) for s in stored} | {
        (s.path, s.z) for s in map(SectionId.parse, given_up)
    }
    expected = None if acquired is None else list(acquired)
    # By what a section is, not by how its name is written.
    keys = Counter(zip(sections["path"], sections["generation"], sections["z"], strict=True))
    damaged = [
        str(section)
        for section, checksum in zip(stored, sections["labels_crc32"], strict=True)
        if not _mask_is_whole(session, section, int(checksum))
    ]
    return Verification(
        acquired=None if expected is None else len(expected),
        stored=len(stored),
        quarantined=given_up,
        missing=tuple(f"{path}#{z}" for path, z in expected or () if (path, z) not in ended),
        doubled=tuple(f"{p}~{g}#{z}" for (p, g, z), n in keys.items() if n > 1)
        + tuple(set(given_up) & set(sections["section"])),
        damaged=tuple(damaged),
    )


def _mask_is_whole(session: Session, section: SectionId, checksum: int) -> bool:
    try:
        labels = session.labels(section)
        session.probability(section)
    except SessionError:
        return False
    narrow = labels.astype(np.uint16 if labels.max(initial=0) < 2**16 else np.uint32)
    return zlib.crc32(narrow.data) == checksum

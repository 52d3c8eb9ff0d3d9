"""Events and orders of `intake.Intake`: what was seen in the watched folder, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nanostream.acquisition.readiness import Contents, FileStat, KnownFile
from nanostream.records import SectionId

if TYPE_CHECKING:  # it imports OpenCV
    from nanostream.acquisition.frames import SidecarEntry

__all__ = [
    "Compare",
    "Compared",
    "DrainBegan",
    "EndFirstScan",
    "Event",
    "ExpectFileEvent",
    "FilesChanged",
    "FilesListed",
    "HeaderAnswer",
    "HeaderNotReady",
    "HeaderRead",
    "HeaderRefused",
    "HeaderUnreadable",
    "Inspect",
    "List",
    "NothingWaits",
    "Order",
    "ReadSidecar",
    "Release",
    "Remember",
    "Report",
    "Resumed",
    "Scan",
    "Scanned",
    "SidecarRead",
    "Tick",
]


# --- events: what was seen -----------------------------------------------------------------------


@dataclass(frozen=True)
class Resumed:
    """The process has started; the first event."""


@dataclass(frozen=True)
class Tick:
    """Time has passed, all orders until now were performed: a new turn."""


@dataclass(frozen=True)
class FilesChanged:
    """File events came of these paths."""

    paths: frozenset[str]


@dataclass(frozen=True)
class FilesListed:
    """State of files that were to be listed, as far as they are there and are watched."""

    listing: Mapping[str, FileStat]


@dataclass(frozen=True)
class Scanned:
    """State of all watched files, or of the newest, and what the scan took (s).

    ``unwatched``: what may hold micrographs and is not watched has been seen.
    """

    listing: Mapping[str, FileStat]
    everything: bool
    wall_s: float = 0.0
    cpu_s: float = 0.0
    unwatched: bool = False


@dataclass(frozen=True)
class HeaderRead:
    """The header of a file was read, with the state of the file at that moment."""

    path: str
    stat: FileStat
    contents: Contents
    finished: bool = False


@dataclass(frozen=True)
class HeaderNotReady:
    """A file has no whole header yet; ``listed`` as ordered.

    ``unlisted`` is a TIFF that no mdoc or idoc lists, and perhaps never will.
    """

    path: str
    listed: FileStat
    unlisted: bool = False


@dataclass(frozen=True)
class HeaderRefused:
    """A file is not a micrograph."""

    path: str
    listed: FileStat
    reason: str


@dataclass(frozen=True)
class HeaderUnreadable:
    """A file cannot be opened or read now."""

    path: str
    reason: str


@dataclass(frozen=True)
class Compared:
    """Numbers of the sections whose pixels are not those that were read of them."""

    path: str
    changed: tuple[int, ...]


@dataclass(frozen=True)
class SidecarRead:
    """Entries of sections in their sidecar (None: not there yet), and whether there is an mdoc.

    ``begun``: those that are there in part, as far as can be told. ``remarks``: what is odd.
    """

    order: ReadSidecar
    entries: Mapping[SectionId, SidecarEntry | None]
    has_mdoc: bool
    begun: frozenset[SectionId] = frozenset()
    remarks: Mapping[SectionId, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NothingWaits:
    """All that was released is with the workers, or has its end."""


@dataclass(frozen=True)
class DrainBegan:
    """The process was told to finish what was acquired and to take nothing new."""


# --- orders: what to do --------------------------------------------------------------------------


@dataclass(frozen=True)
class Scan:
    """List all watched files, or the newest; answered by `Scanned`."""

    everything: bool


@dataclass(frozen=True)
class List:
    """List these files; answered by `FilesListed`."""

    paths: tuple[str, ...]


@dataclass(frozen=True)
class Inspect:
    """Read the header of a file; answered by one of the ``Header`` events.

    ``at_rest``: it was not ready and has not changed for long, so that nobody writes it any more.
    """

    path: str
    listed: FileStat
    at_rest: bool = False


@dataclass(frozen=True)
class Compare:
    """Compare the sections of a file with what was read of them.

    Answered by `Compared`, or by nothing if the file cannot be read now.
    """

    path: str
    file: KnownFile
    contents: Contents


@dataclass(frozen=True)
class ReadSidecar:
    """Read the metadata of sections of one file; answered by `SidecarRead`.

    ``late``: they have waited long enough, and a section that may still be being written counts.
    ``at_rest``: nobody writes it any more.
    """

    path: str
    title: str
    sections: tuple[SectionId, ...]
    late: bool
    at_rest: bool = False


@dataclass(frozen=True)
class Remember:
    """Keep what is known of a file and the sections it brought, for good; all or nothing."""

    path: str
    file: KnownFile
    sections: tuple[SectionId, ...] = ()


@dataclass(frozen=True)
class EndFirstScan:
    """Keep what was there at the first start and is not wanted, for good; all or nothing."""

    passed_over: Mapping[str, KnownFile]


@dataclass(frozen=True)
class Release:
    """Let a section go to the workers.

    ``described``: its sidecar was read, and ``sidecar`` is its entry there, if any; otherwise the
    sidecar is still to be read. ``written_s`` is the POSIX time of its file if it was not there
    before the start.
    """

    section: SectionId
    sidecar: SidecarEntry | None = None
    described: bool = False
    written_s: float | None = None


@dataclass(frozen=True)
class ExpectFileEvent:
    """A scan has found sections in a file: an event of it should have come, or comes now."""

    path: str


@dataclass(frozen=True)
class Report:
    """Tell the operator."""

    text: str


HeaderAnswer = HeaderRead | HeaderNotReady | HeaderRefused | HeaderUnreadable
Event = (
    Resumed
    | Tick
    | FilesChanged
    | FilesListed
    | Scanned
    | HeaderAnswer
    | Compared
    | SidecarRead
    | NothingWaits
    | DrainBegan
)
Order = (
    Scan
    | List
    | Inspect
    | Compare
    | ReadSidecar
    | Remember
    | EndFirstScan
    | Release
    | ExpectFileEvent
    | Report
)

"""SerialEM's metadata: ``gold.mrc.mdoc`` beside ``gold.mrc``, ``gold.idoc`` of a TIFF series.

An mdoc is written after the pixels and the header of its section, appended for a later section and
rewritten as a whole for the first one; it may be absent (SerialEM writes none by default). Of a
file that is being written only what is complete counts.
"""

from __future__ import annotations

import codecs
import functools
import logging
import math
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from msgspec.structs import replace

from nanostream.records import Metadata

__all__ = [
    "MONTHS",
    "MOST_BYTES",
    "Mdoc",
    "has_mdoc",
    "metadata_of",
    "parse_mdoc",
    "read_mdoc",
    "read_metadata",
    "read_metadata_of",
]

logger = logging.getLogger(__name__)

#: An mdoc of 100,000 sections has some 80 MB.
MOST_BYTES = 2**27
#: Coordinates of a montage are ints in SerialEM; beyond 64 bits a number cannot be sent or stored.
_END_INT = 2**31
#: SerialEM's labels have at most 15 letters (MAX_LABEL_SIZE in NavigatorDlg.h).
_LONGEST_LABEL = 100

#: SerialEM writes English names whatever the locale (about_formats.htm).
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

#: First and last frame of a tilt, where one file has the frames of a tilt series.
_TILT_FRAMES = "FrameTSStartEndFrames"
#: What does not count at the ends of lines, keys and values.
_BLANKS = " \t"
#: Titles have brackets in them.
_SECTION = re.compile(r"\[[ \t]*(\w+)[ \t]*=[ \t]*(.*?)[ \t]*\][^]]*$")

_DATE = re.compile(r"\s*(\d{1,2})-([A-Za-z]{3})-(\d{4}|\d{2})\s+(\d{1,2}):(\d\d):(\d\d)\s*")


@dataclass(frozen=True)
class Mdoc:
    """The contents of an mdoc, values as text.

    Attributes
    ----------
    globals : dict of str
        Keys before the first section.
    titles : tuple of str
        ``[T = ...]`` sections, or ``T``, ``T1``, ... of a frame mdoc.
    sections : dict of int to dict
        ``[ZValue = z]``: one section of the stack each; beside a frame set that is a tilt series,
        one tilt each.
    frame_sets : dict of int to dict
        ``[FrameSet = n]``: one exposure each, all its frames.
    images : dict of str to dict
        ``[Image = gold0003.tif]``: one file each, of an idoc.
    """

    globals: Mapping[str, str]
    titles: tuple[str, ...]
    sections: Mapping[int, Mapping[str, str]]
    frame_sets: Mapping[int, Mapping[str, str]]
    images: Mapping[str, Mapping[str, str]]

    def section(self, z: int, name: str = "") -> Mapping[str, str] | None:
        """Keys that describe section `z` of file `name`; None if it is not there (yet)."""
        if self.images:
            return self.images.get(name) if z == 0 else None
        whole = self.frame_sets.get(0)
        if whole is None or not any(_TILT_FRAMES in keys for keys in self.sections.values()):
            return self.sections.get(z, whole)
        # Frames of a whole tilt series: a section describes a tilt, and says which frames it has.
        tilts = (keys for keys in self.sections.values() if _has_frame(keys, z))
        tilt = next(tilts, {})
        own = {key: value for key, value in whole.items() if key != "TiltAngle"}
        return own | {key: tilt[key] for key in ("TiltAngle",) if key in tilt}


def parse_mdoc(text: str | bytes, *, dated: bool = False) -> Mdoc:
    """Complete sections of an mdoc.

    Parameters
    ----------
    text : str or bytes
        The whole file. Bytes are Windows-1252, the code page of SerialEM's build, unless they begin
        with the mark of UTF-8 or UTF-16.
    dated : bool
        The file may be being written: a last section whose last line lacks its end, or that is
        without ``DateTime``, which SerialEM always writes, is left out.

    Returns
    -------
    Mdoc
        A last section whose last line lacks its end counts if it has its ``DateTime``, which comes
        after the numbers. A last section without ``DateTime`` where another has one is left out.
        Of two sections with one number the later counts.

    Notes
    -----
    SerialEM writes the blank line before a section, not after it (autodoc.c, ``writeFile``), so
    nothing marks the end of the last one. Blanks and tabs at the ends of a line, at ``=`` and at
    brackets do not count (autodoc.c, ``AdocRead``), nor do empty lines and how lines end.
    """
    if isinstance(text, bytes):
        data, encoding = _without_mark(text)
        text = data.decode(encoding, errors="replace")
    *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    parts = _Parts()
    for line in lines:
        parts.take(line)
    # The head of another section shows that the one before is complete.
    torn = bool(rest.strip(_BLANKS)) and not rest.strip(_BLANKS).startswith("[")
    if torn and parts.last is not None:
        parts.take(rest)
    if parts.last is not None and not _is_complete(parts, torn=torn, dated=dated):
        parts.found.pop()
    top = parts.top
    titles = (*parts.titles, *(top[key] for key in top if re.fullmatch(r"T\d*", key)))
    return Mdoc(
        globals=top,
        titles=titles,
        sections={int(name): keys for kind, name, keys in parts.found if kind == "ZValue"},
        frame_sets={int(name): keys for kind, name, keys in parts.found if kind == "FrameSet"},
        images={name: keys for kind, name, keys in parts.found if kind == "Image"},
    )


class _Parts:
    """Globals, titles and sections of an autodoc, line by line."""

    def __init__(self) -> None:
        self.top: dict[str, str] = {}
        self.titles: list[str] = []
        self.found: list[tuple[str, str, dict[str, str]]] = []
        self._current: dict[str, str] | None = self.top

    @property
    def last(self) -> dict[str, str] | None:
        """The last section, if no other kind of section came after it."""
        return self._current if self.found and self._current is self.found[-1][2] else None

    def take(self, line: str) -> None:
        """Add a line."""
        line = line.strip(_BLANKS)
        if line.startswith("["):
            if head := _SECTION.match(line):
                self._begin(head[1], head[2])
            return
        key, equals, value = line.partition("=")
        if equals and self._current is not None:
            self._current[key.rstrip(_BLANKS)] = value.lstrip(_BLANKS)

    def _begin(self, kind: str, name: str) -> None:
        self._current = None
        if kind == "T":
            self.titles.append(name)
        elif kind == "Image" or (
            kind in ("ZValue", "FrameSet") and re.fullmatch(r"[0-9]{1,9}", name)
        ):
            self._current = {}
            self.found.append((kind, name, self._current))


def _is_complete(parts: _Parts, *, torn: bool, dated: bool) -> bool:
    """Whether the last section is all there, as far as can be told."""
    kind, _, keys = parts.found[-1]
    if torn:
        return not dated and _DATE.fullmatch(keys.get("DateTime", "")) is not None
    others = (k == kind and "DateTime" in other for k, _, other in parts.found[:-1])
    return "DateTime" in keys or not (dated or any(others))


def _without_mark(data: bytes) -> tuple[bytes, str]:
    """A file without the mark that editors set before it, and its encoding."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace").encode("utf-8"), "utf-8"
    if data.startswith(codecs.BOM_UTF8):
        return data.removeprefix(codecs.BOM_UTF8), "utf-8"
    return data, "cp1252"


def metadata_of(mdoc: Mdoc, z: int, name: str = "") -> tuple[float | None, Metadata]:
    """Pixel size and metadata of one section.

    Parameters
    ----------
    mdoc : Mdoc
        From `parse_mdoc`.
    z : int
        0-based section. A frame mdoc describes every frame.
    name : str
        Of the file, for an idoc.

    Returns
    -------
    pixel_size_nm : float or None
        Refined before nominal, of the section before that of the file.
    metadata : Metadata
        A key that is absent or cannot be read is None.

    Raises
    ------
    KeyError
        The mdoc has no such section.
    """
    keys = mdoc.section(z, name)
    if keys is None:
        raise KeyError(z)
    pixel_size_nm, source = _pixel_size(keys, mdoc.globals)
    stage = _numbers(keys.get("StagePosition"), 2)
    # That of a frame set is of the sum of its frames.
    counts = None if mdoc.frame_sets else _numbers(keys.get("MinMaxMean"), 3)
    piece = _numbers(keys.get("PieceCoordinates"), 3)
    if piece and max(map(abs, piece)) >= _END_INT:
        piece = None
    # AddToAutodoc before the first image writes it for the whole file.
    matrix = _numbers(keys.get("ImageToStageMatrix", mdoc.globals.get("ImageToStageMatrix")), 6)
    return pixel_size_nm, Metadata(
        pixel_size_source=source,
        stage_x_um=stage[0] if stage else None,
        stage_y_um=stage[1] if stage else None,
        stage_z_um=_number(keys.get("StageZ")),
        tilt_deg=_number(keys.get("TiltAngle")),
        defocus_um=_number(keys.get("Defocus")),
        # SerialEM writes 0 where the beam is not calibrated.
        dose_e_per_a2=_positive(keys.get("ExposureDose")),
        exposure_s=_number(keys.get("ExposureTime")),
        magnification=_number(keys.get("Magnification")),
        voltage_kv=_number(keys.get("Voltage", mdoc.globals.get("Voltage"))),
        binning=_number(keys.get("Binning")),
        acquired=_iso_date(keys.get("DateTime", "")),
        navigator_label=keys.get("NavigatorLabel", "").strip()[:_LONGEST_LABEL] or None,
        min_max_mean=(counts[0], counts[1], counts[2]) if counts else None,
        piece_x_px=int(piece[0]) if piece else None,
        piece_y_px=int(piece[1]) if piece else None,
        piece_z=int(piece[2]) if piece else None,
        image_to_stage=(matrix[0], matrix[1], matrix[2], matrix[3], matrix[4], matrix[5])
        if matrix
        else None,
    )


def _pixel_size(
    keys: Mapping[str, str], of_file: Mapping[str, str]
) -> tuple[float | None, str | None]:
    """Pixel size in nm, and where it is from."""
    if refined := _positive(keys.get("RefinedPixelSpacing")):
        return refined / 10, "mdoc refined"
    spacing = _positive(keys.get("PixelSpacing")) or _positive(of_file.get("PixelSpacing"))
    return (spacing / 10, "mdoc") if spacing else (None, None)


def read_metadata(path: Path, z: int, *, title: str = "") -> tuple[float | None, Metadata] | None:
    """Pixel size and metadata of one section of a file on disk.

    Parameters
    ----------
    path : Path
        The micrograph; its mdoc is ``<name>.mdoc`` beside it, its idoc ``<root>.idoc``.
    z : int
        0-based section.
    title : str
        First label of the file. SerialEM gives it to the mdoc as well, with the time of "Open
        New": an mdoc with another one was left by an older file of the same name. Where the mdoc
        has none, its MinMaxMean is not believed.

    Returns
    -------
    tuple or None
        As `metadata_of`; None if there is no mdoc, or it has no such section yet, or it belongs to
        another file.
    """
    return next(read_metadata_of(path, [z], title=title))


def read_metadata_of(
    path: Path, numbers: Iterable[int], *, title: str = "", dated: bool = False
) -> Iterator[tuple[float | None, Metadata] | None]:
    """`read_metadata` of several sections of one file, which is read once.

    Parameters
    ----------
    path, title
        As `read_metadata`.
    numbers : iterable of int
        0-based sections.
    dated : bool
        As `parse_mdoc`.

    Yields
    ------
    tuple or None
        In the order of the numbers.
    """
    sidecar = _sidecar(path)
    for z in numbers:
        mdoc = None if sidecar is None else sidecar.around(z, dated=dated)
        yield None if mdoc is None else _entry(mdoc, path, z, title)


def _entry(mdoc: Mdoc, path: Path, z: int, title: str) -> tuple[float | None, Metadata] | None:
    if mdoc.section(z, path.name) is None:
        return None
    of_mdoc = next((t for t in mdoc.titles if t.startswith("SerialEM:")), "")
    ours = title.startswith("SerialEM:")
    if ours and of_mdoc and not mdoc.frame_sets and _label(of_mdoc) != _label(title):
        return None
    pixel_size_nm, metadata = metadata_of(mdoc, z, path.name)
    if ours and not of_mdoc:
        metadata = replace(metadata, min_max_mean=None)
    return pixel_size_nm, metadata


def read_mdoc(path: Path, z: int | None = None) -> Mdoc | None:
    """The mdoc or idoc of a micrograph, or None.

    Parameters
    ----------
    path : Path
        The micrograph.
    z : int or None
        0-based section that is asked for; others may be left out. Of an idoc it is the one of this
        file.
    """
    sidecar = _sidecar(path)
    if sidecar is None:
        return None
    return sidecar.around(z) if z is not None or sidecar.image else sidecar.whole


def has_mdoc(path: Path) -> bool:
    """Whether there is an mdoc beside a micrograph."""
    try:
        return stat.S_ISREG(path.with_name(path.name + ".mdoc").stat().st_mode)
    except OSError:
        return False


class _Sidecar:
    """An mdoc, or an idoc and which ``image`` of it is asked for, as it was read once.

    Parsing all of it for each section of a long movie would cost more with every section.
    """

    def __init__(self, data: bytes, image: str = "") -> None:
        self.image = image
        self._data, self._encoding = _without_mark(data)
        found = list(_HEADS["Image" if image else "ZValue"].finditer(self._data))
        self._starts = [match.start() for match in found]
        self._places = {match[1].strip(b" \t"): place for place, match in enumerate(found)}

    @functools.cached_property
    def whole(self) -> Mdoc:
        """All of it."""
        return self._parsed(self._data)

    @functools.cached_property
    def _of_tilts(self) -> bool:
        return _TILT_FRAMES.encode() in self._data

    def around(self, z: int | None, *, dated: bool = False) -> Mdoc:
        """Top of it, one section, the one before and the start of the one after.

        Enough for `parse_mdoc` to judge whether the section is complete.
        """
        data, starts = self._data, self._starts
        place = self._places.get((self.image or str(z)).encode(self._encoding, "replace"))
        if self._of_tilts:
            return self.whole
        if not starts:
            return self._parsed(data, dated=dated)  # of frame sets
        if place is None:
            return self._parsed(data[: starts[0]], dated=dated)
        end = len(data)
        if place + 1 < len(starts):
            end = data.find(b"\n", starts[place + 1]) + 1 or end
        before = starts[max(place - 1, 0)]
        return self._parsed(data[: starts[0]] + data[before:end], dated=dated)

    def _parsed(self, data: bytes, *, dated: bool = False) -> Mdoc:
        return parse_mdoc(data.decode(self._encoding, errors="replace"), dated=dated)


#: Heads of sections. They begin with a letter that is rare, so that 10 MB take 50 ms.
_HEADS = {
    kind: re.compile(rb"\[[ \t]*" + kind.encode() + rb"[ \t]*=([^\r\n]*)\]")
    for kind in ("ZValue", "Image")
}


def _has_frame(keys: Mapping[str, str], frame: int) -> bool:
    """Whether a tilt has a frame of the series."""
    limits = _numbers(keys.get(_TILT_FRAMES), 2)
    return limits is not None and limits[0] <= frame <= limits[1]


def _sidecar(path: Path) -> _Sidecar | None:
    data = _read(path.with_name(path.name + ".mdoc"))
    if data is not None:
        return _Sidecar(data)
    # The idoc of gold0003.tif is gold.idoc (KStoreADOC.cpp: root and %04d).
    digits = re.fullmatch(r".*?(\d{4,})", path.stem) if path.suffix == ".tif" else None
    for count in range(4, len(digits[1]) + 1) if digits else ():
        data = _read(path.with_name(f"{path.stem[:-count]}.idoc"))
        if data is not None:
            return _Sidecar(data, path.name)
    return None


def _label(title: str) -> str:
    """The part that is sure to be the same in mdoc and label: the ASCII of its 80 characters."""
    return "".join(letter for letter in title[:80] if " " <= letter <= "~").rstrip()


def _read(path: Path) -> bytes | None:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would block for good
            return None
        if status.st_size > MOST_BYTES:
            _warn_too_long(path)
            return None
        # One gulp: SerialEM must be able to open it for writing at any moment.
        return path.read_bytes()
    except OSError:  # absent, held by its writer, or on a share that has no answer now
        return None


@functools.cache
def _warn_too_long(path: Path) -> None:
    logger.warning(
        "%s is not read: it has more than %d MiB; is it an mdoc?", path, MOST_BYTES // 2**20
    )


def _numbers(text: str | None, count: int) -> tuple[float, ...] | None:
    """Exactly `count` finite numbers, or None."""
    try:
        # float() also takes the 3-digit exponents of old builds and refuses everything else but
        # inf, nan and underscores.
        values = tuple(float(word) for word in (text or "").replace("_", "?").split())
    except ValueError:
        return None
    return values if len(values) == count and all(map(math.isfinite, values)) else None


def _number(text: str | None) -> float | None:
    values = _numbers(text, 1)
    return values[0] if values else None


def _positive(text: str | None) -> float | None:
    value = _number(text)
    return value if value is not None and value > 0 else None


def _iso_date(text: str) -> str | None:
    """ISO 8601 from ``22-Feb-18  09:36:56``, or with a 4-digit year (since SerialEM 4.1)."""
    match = _DATE.fullmatch(text)
    if match is None or match[2].capitalize() not in MONTHS:
        return None
    day, hour, minute, second = (int(match[i]) for i in (1, 4, 5, 6))
    year = int(match[3]) + (2000 if len(match[3]) == 2 else 0)
    month = MONTHS.index(match[2].capitalize()) + 1
    try:
        return datetime(year, month, day, hour, minute, second).isoformat()
    except ValueError:  # 31-Feb
        return None

"""SerialEM's mdoc and idoc files as IMOD's autodoc reads them, and what a section of one says.

An mdoc is written after the pixels and the header of its section, appended for a later section and
rewritten as a whole for the first one. Of a file that is being written only what is complete
counts. `nanostream.acquisition.mdoc` finds and reads the files.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from nanostream.acquisition.sections import possible_nm
from nanostream.records import Metadata

__all__ = [
    "MONTHS",
    "TILT_FRAMES",
    "Mdoc",
    "impossible_sizes",
    "metadata_of",
    "parse_mdoc",
    "without_mark",
]

#: Coordinates of a montage are ints in SerialEM; beyond 64 bits a number cannot be sent or stored.
_END_INT = 2**31
#: SerialEM's labels have at most 15 letters (MAX_LABEL_SIZE in NavigatorDlg.h).
_LONGEST_LABEL = 100

#: SerialEM writes English names whatever the locale (about_formats.htm).
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

#: First and last frame of a tilt, where one file has the frames of a tilt series.
TILT_FRAMES = "FrameTSStartEndFrames"
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
            if z != 0:
                return None
            folded = name.casefold()  # names come from Windows
            named = (keys for other, keys in self.images.items() if other.casefold() == folded)
            return self.images.get(name) or next(named, None)
        whole = self.frame_sets.get(0)
        if whole is None or not any(TILT_FRAMES in keys for keys in self.sections.values()):
            return self.sections.get(z, whole)
        # Frames of a whole tilt series: a section describes a tilt, and says which frames it has.
        tilts = (keys for keys in self.sections.values() if _has_frame(keys, z))
        tilt = next(tilts, {})
        own = {key: value for key, value in whole.items() if key != "TiltAngle"}
        return own | {key: tilt[key] for key in ("TiltAngle",) if key in tilt}


def parse_mdoc(text: str | bytes, *, dated: bool = False, at_rest: bool = False) -> Mdoc:
    """Complete sections of an mdoc.

    Parameters
    ----------
    text : str or bytes
        The whole file. Bytes are Windows-1252, the code page of SerialEM's build, unless they begin
        with the mark of UTF-8 or UTF-16.
    dated : bool
        The file may be being written: a last section whose last line lacks its end, or that is
        without ``DateTime``, which SerialEM always writes, is left out.
    at_rest : bool
        Nobody writes the file any more: a last section counts as it is, as for IMOD.

    Returns
    -------
    Mdoc
        Of a file that may be written or not, a last section whose last line lacks its end counts
        if it has its ``DateTime``, which comes after the numbers; one without ``DateTime`` where
        another has one is left out.
        Of two sections with one number the later counts.

    Notes
    -----
    SerialEM writes the blank line before a section, not after it (autodoc.c, ``writeFile``), so
    nothing marks the end of the last one. Blanks and tabs at the ends of a line, at ``=`` and at
    brackets do not count (autodoc.c, ``AdocRead``), nor do empty lines and how lines end.
    """
    if isinstance(text, bytes):
        data, encoding = without_mark(text)
        text = data.decode(encoding, errors="replace")
    *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    parts = _Parts()
    for line in lines:
        parts.take(line)
    # The head of another section shows that the one before is complete.
    torn = bool(rest.strip(_BLANKS)) and not rest.strip(_BLANKS).startswith("[")
    if torn and parts.last is not None:
        parts.take(rest)
    if parts.last is not None and not (at_rest or _is_complete(parts, torn=torn, dated=dated)):
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


def without_mark(data: bytes) -> tuple[bytes, str]:
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
        Refined before nominal, of the section before that of the file; what can be none is passed
        over (`impossible_sizes`).
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


def impossible_sizes(mdoc: Mdoc, z: int, name: str = "") -> list[str]:
    """Pixel sizes that an mdoc gives for a section and that can be none, as they are written."""
    keys = mdoc.section(z, name) or {}
    return [
        f"{key} = {text:.40}"
        for _, key, text in _stated_sizes(keys, mdoc.globals)
        if text and _number(text) != 0 and _angstroms_nm(text) is None
    ]


def _pixel_size(
    keys: Mapping[str, str], of_file: Mapping[str, str]
) -> tuple[float | None, str | None]:
    """Pixel size in nm, and where it is from: the first that can be one."""
    for source, _, text in _stated_sizes(keys, of_file):
        if size_nm := _angstroms_nm(text):
            return size_nm, source
    return None, None


def _stated_sizes(
    keys: Mapping[str, str], of_file: Mapping[str, str]
) -> list[tuple[str, str, str | None]]:
    """Source, key and value of each pixel size, in the order in which they count."""
    refined, nominal = "RefinedPixelSpacing", "PixelSpacing"
    return [
        ("mdoc refined", refined, keys.get(refined)),
        ("mdoc", nominal, keys.get(nominal)),
        ("mdoc", nominal, of_file.get(nominal)),
    ]


def _angstroms_nm(text: str | None) -> float | None:
    """A pixel size in Å as nm, if it can be one."""
    value = _number(text)
    return None if value is None else possible_nm(value / 10)


def _has_frame(keys: Mapping[str, str], frame: int) -> bool:
    """Whether a tilt has a frame of the series."""
    limits = _numbers(keys.get(TILT_FRAMES), 2)
    return limits is not None and limits[0] <= frame <= limits[1]


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

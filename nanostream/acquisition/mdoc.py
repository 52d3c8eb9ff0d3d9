"""SerialEM's metadata: ``gold.mrc.mdoc`` beside ``gold.mrc``, ``gold.idoc`` of a TIFF series.

An mdoc is written after the pixels and the header of its section, appended for a later section and
rewritten as a whole for the first one; it may be absent (SerialEM writes none by default). Of a
file that is being written only what is complete counts.
"""

from __future__ import annotations

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
        ``[ZValue = z]``: one section of the stack each.
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
        return self.sections.get(z, self.frame_sets.get(0))


def parse_mdoc(text: str | bytes, *, dated: bool = False) -> Mdoc:
    """Complete sections of an mdoc.

    Parameters
    ----------
    text : str or bytes
        The whole file. Bytes are Windows-1252, the code page of SerialEM's build.
    dated : bool
        A last section without ``DateTime``, which SerialEM always writes, is being written.

    Returns
    -------
    Mdoc
        A section whose last line lacks its end is being written and is left out; so is a last
        section without ``DateTime`` where another has one. Of two sections with one number
        the later counts.

    Notes
    -----
    SerialEM writes the blank line before a section, not after it (autodoc.c, ``writeFile``), so
    nothing marks the end of the last one.
    """
    if isinstance(text, bytes):
        text = text.decode("cp1252", errors="replace")
    lines = text.replace("\r\n", "\n").split("\n")
    torn = lines.pop() != ""
    top: dict[str, str] = {}
    titles: list[str] = []
    found: list[tuple[str, str, dict[str, str]]] = []
    current: dict[str, str] | None = top
    for line in lines:
        key, equals, value = line.partition(" = ")
        if line.startswith("[") and line.endswith("]") and equals:
            kind, name = key[1:], value[:-1]
            current = None
            if kind == "T":
                titles.append(name)
            elif kind == "Image" or (
                kind in ("ZValue", "FrameSet") and re.fullmatch(r" *[0-9]{1,9} *", name)
            ):
                current = {}
                found.append((kind, name, current))
        elif equals and current is not None:
            current[key.strip()] = value
    if found and current is found[-1][2]:
        kind = found[-1][0]
        dated = dated or any(k == kind and "DateTime" in keys for k, _, keys in found[:-1])
        if torn or (dated and "DateTime" not in current):
            found.pop()
    titles.extend(top[key] for key in top if re.fullmatch(r"T\d*", key))
    return Mdoc(
        globals=top,
        titles=tuple(titles),
        sections={int(name): keys for kind, name, keys in found if kind == "ZValue"},
        frame_sets={int(name): keys for kind, name, keys in found if kind == "FrameSet"},
        images={name.strip(): keys for kind, name, keys in found if kind == "Image"},
    )


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
    return sidecar.around(z) if z is not None or sidecar.image else parse_mdoc(sidecar.data)


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
        self.data, self.image = data, image
        mark = rb"\[Image = " if image else rb"\[ZValue = "
        found = list(re.finditer(mark + rb"([^\r\n]*)\]", data))
        self._starts = [match.start() for match in found]
        self._places = {match[1]: place for place, match in enumerate(found)}

    def around(self, z: int | None, *, dated: bool = False) -> Mdoc:
        """Top of it, one section, the one before and the start of the one after.

        Enough for `parse_mdoc` to judge whether the section is complete.
        """
        data, starts = self.data, self._starts
        place = self._places.get((self.image or str(z)).encode("cp1252", "replace"))
        if not starts:
            return parse_mdoc(data, dated=dated)  # of frame sets
        if place is None:
            return parse_mdoc(data[: starts[0]], dated=dated)
        end = len(data)
        if place + 1 < len(starts):
            end = data.find(b"\n", starts[place + 1]) + 1 or end
        before = starts[max(place - 1, 0)]
        return parse_mdoc(data[: starts[0]] + data[before:end], dated=dated)


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

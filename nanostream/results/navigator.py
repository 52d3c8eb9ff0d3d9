"""SerialEM's Navigator files: what is read from them, and points for SerialEM to merge.

A Navigator file is an autodoc (``[Item = label]`` and ``key = value`` lines) or the same as XML.
Points are suggestions: they are never marked for acquisition. A point on a micrograph that is a
Navigator map is given by its pixel in that map, and SerialEM computes the place on the stage; on
another micrograph it needs the matrix that a script can add to the mdoc as ``ImageToStageMatrix``.

References
----------
SerialEM help, about_formats.htm, "Navigator Files" and "Importing Externally Defined Navigator
Items"; NavigatorDlg.cpp, ``LoadNavFile``; NavHelper.cpp, ``TransformExternalCoords``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

from msgspec import Struct

from nanostream.errors import ConfigError
from nanostream.results.file_names import matching

__all__ = [
    "MOST_BYTES",
    "Chart",
    "MapItem",
    "NavigatorItem",
    "OnMap",
    "OnStage",
    "Place",
    "find_map",
    "maps_of",
    "navigator_text",
    "parse_navigator",
    "point_item",
    "read_chart",
    "read_navigator",
    "stable_id",
]

#: A Navigator file of 100,000 items has some 50 MB.
MOST_BYTES = 2**27
#: SerialEM gives ids from here on itself (MIN_INTERNAL_ID) and keeps them in 31 bits.
_FIRST_ID, _END_ID = 100_000, 2**31
_GREEN = 1
_POINT, _MAP = 0, 2
#: Longest label of an item (MAX_LABEL_SIZE in NavigatorDlg.h).
_LABEL = 16
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class NavigatorItem(Struct, frozen=True):
    """One item: its label and its keys, values as text."""

    label: str
    values: dict[str, str]


class MapItem(Struct, frozen=True):
    """A micrograph that is a Navigator map.

    ``width_px`` and ``height_px`` are the size at which pixels of the map are given.
    """

    map_id: int
    file: str
    section: int
    registration: int
    stage_z_um: float
    width_px: int
    height_px: int


class Chart(Struct, frozen=True):
    """Maps of a Navigator file, which give places to pixels.

    ``registration`` is the one that the Navigator was in last; 1 is the first.
    """

    maps: tuple[MapItem, ...] = ()
    registration: int = 1


class OnMap(NamedTuple):
    """A pixel of a map, right-handed: the corner at the lower left is 0, 0."""

    map: MapItem
    x_px: float
    y_px: float


class OnStage(NamedTuple):
    """A place on the stage, in SerialEM's stage coordinates."""

    x_um: float
    y_um: float
    z_um: float
    registration: int


Place = OnMap | OnStage


def read_chart(path: Path) -> Chart:
    """Maps and registration of a Navigator file on disk.

    Raises
    ------
    ConfigError
        If it cannot be read or is none.
    """
    items = read_navigator(path)
    last = items[-1].values.get("Regis", "") if items else ""
    return Chart(tuple(maps_of(items)), int(last) if re.fullmatch(r"[0-9]{1,2}", last) else 1)


def read_navigator(path: Path) -> list[NavigatorItem]:
    """Items of a Navigator file on disk.

    Raises
    ------
    ConfigError
        If it cannot be read or is none.
    """
    try:
        with path.open("rb") as file:  # in one gulp: SerialEM must be able to write it
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        msg = f"Navigator file {path} cannot be read: {error.strerror or error}"
        raise ConfigError(msg) from error
    if len(data) > MOST_BYTES:
        msg = f"Navigator file {path} has more than {MOST_BYTES} bytes; is it one?"
        raise ConfigError(msg)
    try:
        return parse_navigator(data)
    except ValueError as error:
        msg = f"{path}: {error}; give a file that SerialEM's Navigator has saved"
        raise ConfigError(msg) from error


def parse_navigator(data: bytes) -> list[NavigatorItem]:
    """Items of a Navigator file, as autodoc or XML.

    Parameters
    ----------
    data : bytes
        The whole file; an autodoc is in Windows-1252, the code page of SerialEM's build.

    Raises
    ------
    ValueError
        If it is neither, as SerialEM judges it: by the first line.
    """
    if data.removeprefix(b"\xef\xbb\xbf").startswith(b"<?xml"):
        return _parse_xml(data)
    if not data.startswith(b"AdocVersion"):
        msg = "not a Navigator file: its first line is neither AdocVersion nor <?xml"
        raise ValueError(msg)
    items: list[NavigatorItem] = []
    values: dict[str, str] = {}
    for line in data.decode("cp1252", errors="replace").replace("\r\n", "\n").split("\n"):
        key, equals, value = line.partition("=")
        if line.startswith("[") and line.rstrip().endswith("]") and equals:
            values = {}
            if key[1:].strip() == "Item":
                items.append(NavigatorItem(value.strip()[:-1].strip(), values))
        elif equals:
            values[key.strip()] = value.strip()
    return items


def _parse_xml(data: bytes) -> list[NavigatorItem]:
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        msg = "not a Navigator file: SerialEM's XML declares no entities"
        raise ValueError(msg)
    try:
        root = ET.fromstring(data)
    except (ET.ParseError, LookupError) as error:
        msg = f"not a Navigator file: {error}"
        raise ValueError(msg) from error
    return [
        NavigatorItem(
            item.get("name", ""), {child.tag: (child.text or "").strip() for child in item}
        )
        for item in root.iter("Item")
    ]


def maps_of(items: Iterable[NavigatorItem]) -> list[MapItem]:
    """Items that are maps of one image each; montages and items that lack a key are left out."""
    found = []
    for item in items:
        values = item.values
        try:
            width, height = _numbers(values["MapWidthHeight"])
            if int(values["Type"]) != _MAP or int(values.get("MapMontage", "0")):
                continue
            found.append(
                MapItem(
                    map_id=int(values["MapID"]),
                    file=values["MapFile"],
                    section=int(values.get("MapSection", "0")),
                    registration=int(values["Regis"]),
                    stage_z_um=_numbers(values["StageXYZ"])[2],
                    width_px=int(width),
                    height_px=int(height),
                )
            )
        except (KeyError, ValueError, IndexError, OverflowError):  # the last for a size of inf
            continue
    return found


def find_map(
    maps: Sequence[MapItem], path: str, z: int, *, shape: tuple[int, int]
) -> MapItem | None:
    """The map that a section is; of several of one image the last.

    Parameters
    ----------
    maps : sequence of MapItem
        From `maps_of`.
    path : str
        Of the section's file, below the watched folder.
    z : int
        0-based section.
    shape : (int, int)
        Height and width of the section; a map given at another size is not the same image.

    Raises
    ------
    ConfigError
        If maps of different files can be meant.
    """
    fits = [m for m in maps if m.section == z and (m.height_px, m.width_px) == shape]
    files = matching(path, dict.fromkeys(m.file for m in fits))
    if len({file.casefold().replace("\\", "/") for file in files}) > 1:
        msg = f"{path} can be the map {' or '.join(map(repr, files[:3]))}; remove one of the two"
        raise ConfigError(msg)
    return next((m for m in reversed(fits) if m.file in files), None)


def stable_id(*key: object) -> int:
    """The same id for the same thing, in every session: the merge drops what is there already.

    Returns
    -------
    int
        At least 100,000, below 2**31.

    Notes
    -----
    SerialEM's help proposes ids below 100,000, which can never be those of its own maps. So few
    would be too few: of 20,000 points with ids drawn from 100,000, 1,900 would have the id of
    another point and be dropped. Drawn from 2**31, 0.1 of them; and the chance that any of them is
    dropped for one of 1,000 maps is 1 %. SerialEM gives no id that is in its table.
    """
    digest = hashlib.sha256("\0".join(map(str, key)).encode("utf-8", "replace")).digest()
    return _FIRST_ID + int.from_bytes(digest[:8], "big") % (_END_ID - _FIRST_ID)


def point_item(place: Place, *, item_id: int, group_id: int, note: str) -> NavigatorItem:
    """A point as SerialEM merges it.

    Parameters
    ----------
    place : OnMap or OnStage
        Where it is.
    item_id, group_id : int
        From `stable_id`; points of one group are drawn and removed together.
    note : str
        Shown in SerialEM's table; what it cannot show is replaced.
    """
    match place:
        case OnMap(on, x, y):
            where = {
                "Regis": str(on.registration),
                "DrawnID": str(on.map_id),
                "CoordsInMap": f"{x:.3f} {y:.3f} {on.stage_z_um:g}",
                "PtsX": f"{x:.3f}",  # SerialEM transforms these as well
                "PtsY": f"{y:.3f}",
            }
        case OnStage(x, y, z, registration):
            where = {
                "Regis": str(registration),
                "StageXYZ": f"{x:.6f} {y:.6f} {z:g}",
                "PtsX": f"{x:.6f}",
                "PtsY": f"{y:.6f}",
            }
    return NavigatorItem(
        f"n{item_id}",
        {
            "Color": str(_GREEN),
            "NumPts": "1",
            "Type": str(_POINT),
            "Note": _plain(note),
            "GroupID": str(group_id),
            "MapID": str(item_id),
            "Acquire": "0",
            **where,
        },
    )


def navigator_text(items: Iterable[NavigatorItem], *, saved_as: str) -> str:
    """A Navigator file as autodoc.

    Parameters
    ----------
    items : iterable of NavigatorItem
        Labels of at most 16 characters.
    saved_as : str
        Who wrote it; SerialEM writes its own path there.

    Raises
    ------
    ValueError
        If a label, key or value would be something else when read again.
    """
    lines = ["AdocVersion = 2.00", f"LastSavedAs = {saved_as}"]
    for item in items:
        lines += ["", f"[Item = {item.label}]"]
        lines += [f"{key} = {value}" for key, value in item.values.items()]
        bad = _CONTROL.search("".join((item.label, *item.values, *item.values.values())))
        if bad or not 0 < len(item.label) <= _LABEL or any("=" in k for k in item.values):
            msg = f"item {item.label!r} cannot be written to a Navigator file"
            raise ValueError(msg)
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """On one line and in SerialEM's code page."""
    kept = _CONTROL.sub(" ", text).encode("cp1252", "replace").decode("cp1252")
    return " ".join(kept.split())[:200]


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.split()]

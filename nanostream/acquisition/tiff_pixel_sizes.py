"""The pixel size that a TIFF page states, by whatever program wrote it.

A program's own account counts before the resolution, which is often that of a screen. Where the
account gives no length, for a diffraction pattern say, the resolution is not asked.

References
----------
TIFF 6.0 (resolution); ImageJ's ``TiffDecoder``; OME-XML's schema; tifffile and HyperSpy's
RosettaSciIO (private tags of FEI, Zeiss, TVIPS, Olympus SIS, JEOL and DigitalMicrograph). AMT's
description has pixels for each unit, with or without ends of lines.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Callable
from xml.etree import ElementTree

from nanostream.acquisition.sections import length_nm
from nanostream.acquisition.tiff_directories import Directory
from nanostream.errors import MicrographError

__all__ = ["pixel_size_nm"]

_WIDTH, _DESCRIPTION, _MAKE, _X_RESOLUTION, _RESOLUTION_UNIT = 256, 270, 271, 282, 296
_INCH = 2
#: Units of a resolution. Some programs write 4 and 5; 1 is none.
_RESOLUTION_UNITS = {_INCH: "inch", 3: "cm", 4: "mm", 5: "µm"}
#: Unit and size of a pixel in x, in y.
_DM = ((65003, 65009), (65004, 65010))
_SIS, _ZEISS, _TVIPS = 33560, 34118, 37706
#: Of the Titan and its kin, which leave that of the Helios empty; of scanning microscopes.
_FEI_XML, _FEI = 34683, (34680, 34682)
#: Zeiss' first numbers have the pixel size of an image that is so wide.
_ZEISS_PX = 1024
#: Of EMMENU's second record: where it says the pixel size in nm.
_TVIPS_PIXEL = 244 + 2724

#: A length and its unit; a unit that is none is an account too.
_Length = tuple[object, object]
_Account = Callable[[Directory], _Length | None]


def pixel_size_nm(directory: Directory, first: Directory, page: int) -> float | None:
    """Pixel size of a page in nm; None if nothing says it.

    Parameters
    ----------
    directory, first : Directory
        Of the page, and of the first page: many programs describe that only.
    page : int
        0-based number of the page.
    """
    for described in (directory, first):
        for account in _ACCOUNTS:
            if length := _told(account, described):
                return length_nm(*length)
        text = _text(described)
        if length := _ome(text, page):
            return length_nm(*length)
        if unit := re.search(r"^unit=(\S+)", text, re.MULTILINE):
            pixels = directory.number(_X_RESOLUTION) or described.number(_X_RESOLUTION)
            return length_nm(1 / pixels, _unescaped(unit[1])) if pixels else None
    for described in (directory, first):
        if pixels := described.number(_X_RESOLUTION):
            return length_nm(1 / pixels, _resolution_unit(described))
    return None


def _told(account: _Account, directory: Directory) -> _Length | None:
    """Text or numbers that a program wrote, if they can be read; a damaged account is none."""
    try:
        return account(directory)
    except (MicrographError, struct.error, ValueError, OverflowError):
        return None


def _text(directory: Directory) -> str:
    try:
        return directory.text(_DESCRIPTION)
    except MicrographError:
        return ""


def _resolution_unit(directory: Directory) -> str:
    try:
        return _RESOLUTION_UNITS.get(directory.whole_number(_RESOLUTION_UNIT, _INCH), "")
    except MicrographError:
        return ""


def _unescaped(text: str) -> str:
    r"""ImageJ writes \u00B5 for what is not ASCII."""
    return re.sub(r"\\u([0-9A-Fa-f]{4})", lambda code: chr(int(code[1], 16)), text)


def _fei(directory: Directory) -> _Length | None:
    xml = directory.text(_FEI_XML)
    size = re.search(r"<PixelSize>\s*<X[^>]*>\s*([^<\s]+)", xml)
    if size or xml.strip():
        return (size[1], "m") if size else (None, None)
    for tag in _FEI:
        text = directory.text(tag)
        if found := re.search(r"^\s*PixelWidth\s*=\s*(\S+)", text, re.MULTILINE):
            return found[1], "m"
        # With an ion beam it says the width of the whole image instead.
        field = re.search(r"^\s*HFW\s*=\s*(\S+)", text, re.MULTILINE)
        columns = re.search(r"^\s*ResolutionX\s*=\s*(\d+)", text, re.MULTILINE)
        if field and columns and int(columns[1]):
            return float(field[1]) / int(columns[1]), "m"
        if text.strip():
            return None, None
    return None


def _zeiss(directory: Directory) -> _Length | None:
    if _ZEISS not in directory:
        return None
    lines = [line.strip() for line in directory.text(_ZEISS).splitlines()]
    numbers = [float(line) for line in lines[:16] if re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", line)]
    width = directory.whole_number(_WIDTH, 0)
    if len(numbers) > 3 and numbers[3] > 0 and width:
        return numbers[3] * _ZEISS_PX / width, "m"
    for name in ("AP_IMAGE_PIXEL_SIZE", "AP_PIXEL_SIZE"):
        for key, line in itertools.pairwise(lines):
            found = re.search(r"=\s*(\S+)\s+(\S+)", line)
            if key == name and found:
                return found[1], found[2]
    return None, None


def _tvips(directory: Directory) -> _Length | None:
    if _TVIPS not in directory:
        return None
    source, start = directory.source, directory.position(_TVIPS)
    if source.number(source.at(start, 4), "i") != 2:
        return None  # its first record has the size of the sensor's pixels only
    (size,) = struct.unpack(f"{source.order}f", source.at(start + _TVIPS_PIXEL, 4))
    return size, "nm"


def _sis(directory: Directory) -> _Length | None:
    if _SIS not in directory:
        return None
    source, start = directory.source, directory.position(_SIS)
    head = source.at(start, 60)
    (count,) = struct.unpack_from("<H", head, 58)
    for kind, _, where in struct.iter_unpack("<hhI", source.at(start + 60, 8 * count)):
        if kind == 1:
            exponent, size = struct.unpack("<10xhd", source.at(where, 20))
            return size * 10.0**exponent, "m"
    return (None, None) if head.startswith(b"SIS0") else None


def _jeol(directory: Directory) -> _Length | None:
    """The resolution is that of the camera; the pixel is so many times smaller."""
    if not directory.text(_MAKE).startswith("JEOL"):
        return None
    text, pixels = directory.text(_DESCRIPTION), directory.number(_X_RESOLUTION)
    found = re.search(r"<SelectorValue[^>]*>\s*([\d.]+)", text)
    if found is None or not pixels:
        return None
    image = re.search(r"<ModeString[^>]*>\s*MAG\s*<", text)
    size = 1 / pixels / float(found[1]) if image and float(found[1]) else None
    return size, _resolution_unit(directory)


def _digital_micrograph(directory: Directory) -> _Length | None:
    for unit, size in _DM:
        if size in directory:
            return directory.number(size), directory.text(unit)
    return None


def _amt(directory: Directory) -> _Length | None:
    """Of the cameras of AMT, which many TEMs of JEOL and Hitachi have."""
    text = directory.text(_DESCRIPTION)
    pixels = re.search(r"XpixCal\s*=\s*([\d.]+)", text)
    if pixels is None:
        return None
    unit = re.search(r"(?<![A-Za-z])Unit\s*=\s*(microns?|[unpµ]m|mm)", text[pixels.end() :])
    per_unit = float(pixels[1])
    return (1 / per_unit, unit[1]) if unit and per_unit else (None, None)


_ACCOUNTS: tuple[_Account, ...] = (
    *(_fei, _zeiss, _tvips, _sis, _jeol, _digital_micrograph),
    _amt,
)


def _ome(text: str, page: int) -> _Length | None:
    """Of the image that the page belongs to."""
    if "<OME" not in text or "<!DOCTYPE" in text:
        return None
    try:
        images = ElementTree.fromstring(text.strip()).findall("{*}Image/{*}Pixels")
    except ElementTree.ParseError:
        return None
    pixels = next((p for p in images if _has_page(p, page)), None)
    if pixels is None:
        pixels = images[0] if images else None
    if pixels is None or "PhysicalSizeX" not in pixels.attrib:
        return None
    return pixels.attrib["PhysicalSizeX"], pixels.attrib.get("PhysicalSizeXUnit", "µm")


def _has_page(pixels: ElementTree.Element, page: int) -> bool:
    for data in pixels.findall("{*}TiffData"):
        first, count = data.get("IFD"), data.get("PlaneCount", "1")
        if first is None:
            return True  # all of them are of this image
        if first.isdecimal() and count.isdecimal() and 0 <= page - int(first) < int(count):
            return True
    return False

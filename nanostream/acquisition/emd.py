"""Images in EMD files: HDF5 by openNCEM's and HyperSpy's rule ("Berkeley"), or by Velox.

A file may hold many data sets; the sections of one of them are read, and the others are named.

Velox
    keeps the images of all detectors, their Fourier transforms and element maps under random ids,
    rows first and frames last. Taken is the image of the camera, before that of the HAADF detector,
    of another dark field, and of any other; of two the one with more pixels, then the one that was
    begun first, then the first by name. What is complex, is of a spectrometer, is shown under the
    symbol of an element, or has an axis of length 0 is left out.
Berkeley
    has axes with names and units. An axis called y has the rows, x the columns, another the
    sections. Without such names the last axis has the columns, as openNCEM writes them; HyperSpy
    writes all axes in reverse. Version 1.0, of py4DSTEM, calls a group "array" where others have
    the number 1, and counts its axes from 0; its rows come before its columns, whatever their name.
    What has its columns in reciprocal space is taken last, with a remark.

References
----------
openNCEM, emdatasets.com; emdfile, ``classes/array.py`` (version 1.0); RosettaSciIO,
``emd/_emd_velox.py`` and ``emd/_emd_ncem.py`` (which data sets there are, and their order).
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition.hdf5_heaps import has_endless_heap
from nanostream.acquisition.sections import (
    Sections,
    check_section_size,
    is_energy,
    is_reciprocal,
    left_out,
    length_nm,
)
from nanostream.errors import MicrographError

__all__ = ["open_emd"]

#: Deflate makes at most 1032 bytes of one; no other filter of HDF5's makes more.
_MOST_FROM_A_BYTE = 1032

#: Velox's chunks are larger than the megabyte that HDF5 keeps (ncempy's ``emdVelox.py``).
_CACHE_BYTES = 10 * 2**20

_CAMERA = re.compile(r"ceta|falcon|camera|eagle|oneview|ultrascan|orius|rio|^k[23]", re.IGNORECASE)
_SPECTROMETER = re.compile(r"super-?x|eds|edx|zebra|gif|quantum|eels|x-?ray", re.IGNORECASE)
#: Detectors in the order in which they are taken; a camera comes before.
_DETECTORS = (re.compile(r"haadf", re.IGNORECASE), re.compile(r"df", re.IGNORECASE))

#: Symbols, each between blanks.
_ELEMENTS = (
    " H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se "
    "Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb "
    "Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm "
)
#: What Velox shows an element map as: Fe, Fe-K, Fe (at%); several in colours.
_OF_ELEMENT = re.compile(r"([A-Z][a-z]?)(?:[ -][KLMN].*| ?\(?[a-z]{0,2} ?%.*)?")
_MIXED = ("ColorMix", "CM")

_ROWS = {"y", "r_y", "ry", "height"}
_COLUMNS = {"x", "r_x", "rx", "width"}
#: Names of the data in a group, by the versions of the Berkeley format.
_DATA = ("data", "realslice")
#: What the type of a group is called in version 1.0, by a program or by one that builds on it.
_ARRAYS = ("array", "custom_array")
#: Instead of an axis: names of the sections of a stack, which is its first axis.
_LABELS = "_labels_"


@dataclass(frozen=True)
class _Image:
    """A data set of a file, and what is known of it.

    Attributes
    ----------
    name : str
        For messages.
    data : h5py.Dataset
    axes : tuple of int
        Of the sections (-1 for none), the rows and the columns.
    pixel_size_nm : float or None
    rank : int
        The lowest is taken first.
    begun_s : float
        POSIX time; infinite if it is not known.
    remark : str
        What is odd of it, if it is taken; empty if nothing is.
    refusal : str
        Reason that it is not a micrograph; empty if it is one.
    """

    name: str
    data: h5py.Dataset
    axes: tuple[int, int, int]
    pixel_size_nm: float | None
    rank: int = 0
    refusal: str = ""
    begun_s: float = math.inf
    remark: str = ""

    @property
    def count(self) -> int:
        return int(self.data.shape[self.axes[0]]) if self.axes[0] >= 0 else 1

    @property
    def order(self) -> tuple[int, int, float, str]:
        """Key of a data set that is the same whatever its random id."""
        return self.rank, -math.prod(self.data.shape), self.begun_s, self.name

    def read(self, z: int) -> NDArray[Any]:
        """Section z (rows, columns)."""
        stack, rows, columns = self.axes
        where = tuple(z if axis == stack else slice(None) for axis in range(self.data.ndim))
        pixels = np.asarray(self.data[where])
        return pixels if rows < columns else pixels.T


@contextlib.contextmanager
def open_emd(path: Path) -> Iterator[Sections]:
    """The sections of the data set that is taken, of a file that is open meanwhile.

    Raises
    ------
    MicrographError
        No data set is a micrograph, or its pixels are not all there.
    OSError
        The file cannot be opened or read, or is no HDF5 file.
    """
    if has_endless_heap(path):
        msg = f"{path.name}: not a readable .emd file: its texts are damaged"
        raise MicrographError(msg)
    # Not locked: a share may refuse it, and nobody writes a file at rest.
    with h5py.File(path, "r", rdcc_nbytes=_CACHE_BYTES, locking=False) as file:
        velox = file.get("Data")
        images = list(_velox(file, velox) if isinstance(velox, h5py.Group) else _berkeley(file))
        images.sort(key=lambda image: image.order)
        taken = next((image for image in images if not image.refusal), None)
        if taken is None:
            reasons = "; ".join(f"{image.name} {image.refusal}" for image in images)
            msg = f"{path.name}: not a micrograph ({reasons or 'no data set of EMD'})"
            raise MicrographError(msg)
        _check_size(taken, path.name)
        others = [
            f"{image.name} ({image.refusal})" if image.refusal else image.name
            for image in images
            if image is not taken
        ]
        remark = "; ".join(filter(None, [left_out(taken.name, others), taken.remark]))
        yield Sections(taken.count, lambda z: (taken.read(z), taken.pixel_size_nm), remark)


def _check_size(image: _Image, name: str) -> None:
    """Refuse a data set that is larger than the file can hold: nothing was written of it."""
    data = image.data
    check_section_size([data.shape[axis] for axis in image.axes[1:]], data.dtype.itemsize, name)
    stored = data.id.get_storage_size()
    if data.nbytes > _MOST_FROM_A_BYTE * stored:
        msg = f"{name}: {image.name} has {data.nbytes} bytes of pixels, {stored} are stored"
        raise MicrographError(msg)


# --- Velox ---------------------------------------------------------------------------------------


def _velox(file: h5py.File, data: h5py.Group) -> Iterator[_Image]:
    images = data.get("Image")
    labels = _labels(file)
    for key, group in sorted(images.items()) if isinstance(images, h5py.Group) else ():
        values = group.get("Data") if isinstance(group, h5py.Group) else None
        if isinstance(values, h5py.Dataset):
            yield _velox_image(key, group, values, labels.get(key, ""))
    for kind in ("SpectrumImage", "Spectrum"):
        others = data.get(kind)
        for group in others.values() if isinstance(others, h5py.Group) else ():
            values = group.get("Data") if isinstance(group, h5py.Group) else None
            if isinstance(values, h5py.Dataset):
                yield _Image(kind, values, (-1, 0, 1), None, refusal="is no image")


def _velox_image(key: str, group: h5py.Group, data: h5py.Dataset, label: str) -> _Image:
    card = _card(group)
    result = _table(card, "BinaryResult")
    detector, kind = _detector(card, result)
    unit = result.get("PixelUnitX", "")
    refusal = ""
    if data.dtype.kind == "b":
        refusal = "true and false, a mask"
    elif data.dtype.kind not in "iuf":
        refusal = "a Fourier transform or complex image"
    elif _SPECTROMETER.search(detector) or kind == "AnalyticalDetector":
        refusal = "a map of a spectrometer"
    elif _is_of_element(label):
        refusal = "an element map"
    elif data.ndim != 3 or 0 in data.shape:
        refusal = f"of shape {data.shape}"
    elif length_nm(1, unit) is None and unit:
        refusal = f"in units of {unit}, not of length"
    size = _table(result, "PixelSize").get("width")
    camera = bool(_CAMERA.search(detector)) or kind == "ImagingDetector"
    rank = 0 if camera else 1 + _place(detector)
    name = (label if refusal == "an element map" else "") or detector or f"data set {key}"
    return _Image(name, data, (2, 0, 1), length_nm(size, unit), rank, refusal, _begun_s(card))


def _is_of_element(label: str) -> bool:
    """Whether Velox shows an image as the map of an element, or of several."""
    found = _OF_ELEMENT.fullmatch(label)
    return label in _MIXED or (found is not None and f" {found[1]} " in _ELEMENTS)


def _begun_s(card: dict[str, Any]) -> float:
    begun = _table(_table(card, "Acquisition"), "AcquisitionStartDatetime").get("DateTime")
    try:
        begun_s = float(begun)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.inf
    return begun_s if math.isfinite(begun_s) else math.inf


def _labels(file: h5py.File) -> dict[str, str]:
    """Sources of Velox's images by their ids: a detector, or the element of a map.

    Version 11 refers to the image by another record, those before by the display itself.
    """
    labels = {}
    for place in ("Presentation/Displays/ImageDisplay", "Displays/ImageDisplay"):
        displays = file.get(place)
        for item in displays.values() if isinstance(displays, h5py.Group) else ():
            display = _record(item)
            shown = display if "dataPath" in display else _record(_at(file, display.get("data")))
            name = _table(display, "display").get("label") or display.get("id")
            labels[str(shown.get("dataPath")).rpartition("/")[2]] = str(name or "")
    return labels


def _at(file: h5py.File, path: object) -> object:
    """An object of the file; None if there is none of this name."""
    return file.get(path) if isinstance(path, str) and path.strip("/") else None


def _record(item: object) -> dict[str, Any]:
    """A JSON text that is alone in a data set; empty if it cannot be read."""
    if not isinstance(item, h5py.Dataset) or item.size != 1:
        return {}
    if h5py.check_string_dtype(item.dtype) is None:
        return {}
    text = np.ravel(item[()])[0]
    return _parsed(text) if isinstance(text, bytes) else {}


def _detector(card: dict[str, Any], result: dict[str, Any]) -> tuple[str, str]:
    """Name and type of the detector of an image; empty if it does not say them.

    Until version 10 an image has the name, from 11 on the number of its detector.
    """
    detectors = _table(card, "Detectors")
    entry = _table(detectors, f"Detector-{result.get('DetectorIndex')}")
    name = str(result.get("Detector") or entry.get("DetectorName") or "")
    named = (_table(detectors, key) for key in detectors)
    entry = next((each for each in named if each.get("DetectorName") == name), entry)
    return name, str(entry.get("DetectorType", ""))


def _place(detector: str) -> int:
    """Place of a detector of a scan in the order in which they are taken."""
    places = (n for n, known in enumerate(_DETECTORS) if known.search(detector))
    return next(places, len(_DETECTORS) + (not detector))


def _card(group: h5py.Group) -> dict[str, Any]:
    """Metadata of the first frame; empty if it cannot be read."""
    written = group.get("Metadata")
    if not isinstance(written, h5py.Dataset) or written.ndim != 2 or 0 in written.shape:
        return {}
    if written.dtype.kind not in "iu":
        return {}
    return _parsed(bytes(np.asarray(written[:, 0], np.uint8)).partition(b"\0")[0])


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        card = json.loads(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return {}
    return card if isinstance(card, dict) else {}


def _table(card: dict[str, Any], key: str) -> dict[str, Any]:
    table = card.get(key)
    return table if isinstance(table, dict) else {}


# --- Berkeley and HyperSpy -----------------------------------------------------------------------


def _berkeley(file: h5py.File) -> Iterator[_Image]:
    groups: list[h5py.Group] = []

    def note(_: str, item: object) -> None:
        if isinstance(item, h5py.Group) and (_of_version_1(item) or _number(_kind(item)) == 1):
            groups.append(item)

    file.visititems(note)  # follows no links out of the file, and none in a circle
    signals = file.get("signals")
    hyperspy = isinstance(signals, h5py.Group) and "emd_group_type" in signals.attrs
    for group in groups:
        for name in _DATA:
            data = group.get(name)
            if isinstance(data, h5py.Dataset):
                reverse = hyperspy and group.name.startswith("/signals/")
                yield _berkeley_image(group, data, reverse=reverse)


def _kind(group: h5py.Group) -> object:
    """The kind of a group: a number, or a word since version 1.0."""
    kind = _attribute(group, "emd_group_type")
    return kind.decode("utf-8", "replace") if isinstance(kind, bytes) else kind


def _of_version_1(group: h5py.Group) -> bool:
    return str(_kind(group)) in _ARRAYS


def _dims(group: h5py.Group, data: h5py.Dataset) -> list[object]:
    """Axes of a data set, in the order of its dimensions; None for those that are not described."""
    if not _of_version_1(group):
        return [group.get(f"dim{n + 1}") for n in range(data.ndim)]
    dims = [group.get(f"dim{n}") for n in range(data.ndim)]
    if dims and _text(dims[-1], "name") == _LABELS:
        return [None, *dims[:-1]]
    return dims


def _berkeley_image(group: h5py.Group, data: h5py.Dataset, *, reverse: bool) -> _Image:
    name = group.name.strip("/")
    dims = _dims(group, data)
    names = [_text(dim, "name").lower() for dim in dims]
    units = [_text(dim, "units") for dim in dims]
    refusal = ""
    if data.dtype.kind == "b":
        refusal = "true and false, a mask"
    elif data.dtype.kind not in "iuf":
        refusal = f"of type {data.dtype}"
    elif any(map(is_energy, units)) or "energy" in names:
        refusal = "a spectrum or spectrum image"
    elif data.ndim not in (2, 3):
        refusal = f"{data.ndim}-D data; an image or a stack is expected"
    elif 0 in data.shape:
        refusal = f"of shape {data.shape}"
    if refusal:
        return _Image(name, data, (-1, 0, 1), None, refusal=refusal)
    axes = _axes([""] * data.ndim if _of_version_1(group) else names, reverse=reverse)
    unit = units[axes[2]]
    size_nm = length_nm(_step(dims[axes[2]]), unit)
    if is_reciprocal(unit):
        plain = unit.strip("[]").replace("_", "")
        odd = f"{name} is in units of {plain}, not of length: is it a diffraction pattern?"
        return _Image(name, data, axes, None, rank=2, remark=odd)
    return _Image(name, data, axes, size_nm, rank=0 if size_nm else 1)


def _axes(names: list[str], *, reverse: bool) -> tuple[int, int, int]:
    """Which axis has the sections (-1 for none), the rows and the columns."""
    numbers = list(range(len(names)))
    rows = [n for n in numbers if names[n] in _ROWS]
    columns = [n for n in numbers if names[n] in _COLUMNS]
    if not reverse and len(rows) == len(columns) == 1:
        (stack,) = [n for n in numbers if n not in (*rows, *columns)] or [-1]
        return stack, rows[0], columns[0]
    *stacks, row, column = reversed(numbers) if reverse else numbers
    return (stacks or [-1])[0], row, column


def _step(dim: object) -> float | None:
    if not isinstance(dim, h5py.Dataset) or dim.ndim not in (1, 2) or dim.dtype.kind not in "iuf":
        return None
    values = np.ravel(dim[:2])  # some programs write a column
    return float(values[1]) - float(values[0]) if values.size > 1 else None


def _text(item: object, key: str) -> str:
    """An attribute as text; empty if there is none."""
    value = _attribute(item, key) if isinstance(item, h5py.Dataset) else None
    if value is None:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _attribute(item: h5py.Group | h5py.Dataset, key: str) -> object:
    """An attribute that is a text or a number, the first if they are several; else None.

    Damaged ones of other types are not read: HDF5 1.14.6 crashes on sequences.
    """
    if key not in item.attrs:
        return None
    stored = item.attrs.get_id(key)
    plain = (h5py.h5t.TypeStringID, h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID)
    if not isinstance(stored.get_type(), plain) or stored.shape is None:
        return None
    value = item.attrs[key]
    if not isinstance(value, np.ndarray):
        return value
    return value.flat[0] if value.size else None


def _number(value: object) -> int | None:
    try:
        return int(value)  # type: ignore[call-overload,no-any-return]
    except (TypeError, ValueError):
        return None

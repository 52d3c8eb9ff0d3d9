"""Any micrograph file as frames: MRC with its mdoc, and the formats of offline work.

=====================  ======================  ====================================================
file                   read by                 pixel size from
=====================  ======================  ====================================================
.mrc .st .map ...      `mrc`, `mdoc`           mdoc, else header
.dm3 .dm4              ncempy                  calibration of the image
.ser                   ncempy                  calibration of the section
.emd                   ncempy                  Berkeley: last axis; Velox: metadata
.tif .tiff             OpenCV                  ImageJ's unit, or the resolution in cm or inches
.png                   OpenCV                  none
.npy                   NumPy                   none
=====================  ======================  ====================================================

Three-dimensional data are sections along their first axis (Velox: along the last).
"""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from nanostream.acquisition import mrc, tiffs
from nanostream.acquisition.mdoc import read_metadata
from nanostream.errors import MicrographError
from nanostream.records import FirstRow, Frame, Metadata, SectionId

__all__ = ["SUFFIXES", "WIRE_DTYPES", "count_sections", "first_row_of", "read_micrograph"]

#: Pixel types that a `Frame` may have.
WIRE_DTYPES = ("int8", "uint8", "int16", "uint16", "float16", "float32")

_NM = {"pm": 1e-3, "å": 0.1, "a": 0.1, "angstrom": 0.1, "nm": 1.0, "µm": 1e3, "um": 1e3}
_NM |= {"micron": 1e3, "microns": 1e3, "mm": 1e6, "m": 1e9, "cm": 1e7, "inch": 2.54e7}

#: A pixel above 1 µm is the 72 dpi of a drawing program, not a micrograph's calibration.
_MAX_TIFF_PIXEL_NM = 1000.0


@dataclass(frozen=True)
class _Sections:
    """An open file: how many sections, and how to read one with its pixel size in nm."""

    count: int
    read: Callable[[int], tuple[NDArray[Any], float | None]]
    cut_off: bool = False


def first_row_of(path: str | Path) -> FirstRow:
    """Where SerialEM's display, or a program of the format, shows row 0 of a file's sections.

    An MRC has its origin at the lower left (MRC2014; KImageStore.cpp, ``convertForWriting``), all
    others begin with the line at the top; SerialEM's TIFFs, too (KStoreIMOD.cpp).
    """
    return "bottom" if Path(path).suffix.lower() in mrc.MRC_SUFFIXES else "top"


def count_sections(path: Path) -> int:
    """Number of complete sections in a file.

    Raises
    ------
    MicrographError
        The file is absent, damaged or of another format.
    """
    with _open(path) as sections:
        return sections.count


def is_cut_off(path: Path) -> bool:
    """Whether an MRC file is shorter than its header says: copied in part, or still growing.

    Raises
    ------
    MicrographError
        As `count_sections`.
    """
    with _open(path) as sections:
        return sections.cut_off


def read_micrograph(path: Path, z: int = 0, *, section: SectionId | None = None) -> Frame:
    """One section of a micrograph file.

    Parameters
    ----------
    path : Path
        See the module's table.
    z : int
        0-based section.
    section : SectionId or None
        Name of the frame; by default the file's name and `z`.

    Returns
    -------
    Frame
        Pixels as stored where the type is one of `WIRE_DTYPES`; other integers, and floats of
        64 bits, become float32. Rows in the order of the file, except .ser, which ncempy turns
        upright.

    Raises
    ------
    NotReadyError
        The section of an MRC file is not complete.
    MicrographError
        The file is absent, damaged, of another format or in colour, or has no such section.
    """
    with _open(path) as sections:
        if not (0 <= z < sections.count or (z >= 0 and _is_mrc(path))):
            msg = f"{path.name}: section {z} asked for, the file has {sections.count}"
            raise MicrographError(msg)
        pixels, pixel_size_nm = sections.read(z)
        pixels = _wire_pixels(pixels, path.name)
        written_s = path.stat().st_mtime
        if section is None:
            section = SectionId(path.name, z)
    source = None if pixel_size_nm is None else "header"
    metadata = Metadata()
    if _is_mrc(path) and (told := read_metadata(path, z)) is not None:
        mdoc_size_nm, metadata = told
        if mdoc_size_nm is not None:
            pixel_size_nm, source = mdoc_size_nm, metadata.pixel_size_source
    title = mrc.read_header(path)[0].title if _is_mrc(path) else ""
    metadata = replace(
        metadata,
        pixel_size_source=source,
        file_title=title or None,
        first_row=first_row_of(path),
    )
    return Frame(section, pixels, pixel_size_nm, metadata, written_s=written_s)


def _is_mrc(path: Path) -> bool:
    return path.suffix.lower() in mrc.MRC_SUFFIXES


@contextlib.contextmanager
def _open(path: Path) -> Iterator[_Sections]:
    """The sections of a file; whatever its reader raises becomes a MicrographError."""
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        msg = f"{path.name}: not a micrograph format; nanostream reads {' '.join(SUFFIXES)}"
        raise MicrographError(msg)
    quiet = _silence() if opener in (_open_dm, _open_ser, _open_emd) else contextlib.nullcontext()
    problem = None
    with quiet:
        try:
            with opener(path) as sections:
                yield sections
        except MicrographError:
            raise
        except OSError as error:
            problem = f"cannot be read ({error.strerror or error})"
        except Exception as error:  # noqa: BLE001 - ncempy's parsers raise whatever comes up
            problem = f"not a readable {path.suffix} file ({type(error).__name__}: {error})"
    # Raised here and not from the error: its traceback would keep ncempy's half-made object alive,
    # whose __del__ then complains on the operator's screen.
    if problem is not None:
        msg = f"{path.name}: {problem}"
        raise MicrographError(msg)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drop what ncempy prints about a file; the exception says it too."""
    noise = io.StringIO()
    with contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise):
        yield


def _wire_pixels(pixels: NDArray[Any], name: str) -> NDArray[Any]:
    """Two-dimensional pixels of a type that a `Frame` may have, in native order."""
    if pixels.ndim == 3 and pixels.shape[-1] in (3, 4):
        msg = f"{name}: colour image {pixels.shape}; save it as grey values"
        raise MicrographError(msg)
    if pixels.ndim != 2 or 0 in pixels.shape:
        msg = f"{name}: data of shape {pixels.shape} where an image (rows, columns) is expected"
        raise MicrographError(msg)
    if pixels.dtype.kind not in "biuf":
        msg = f"{name}: pixels of type {pixels.dtype}; nanostream reads integers and real numbers"
        raise MicrographError(msg)
    known = pixels.dtype.name in WIRE_DTYPES
    dtype = pixels.dtype.newbyteorder("=") if known else np.dtype(np.float32)
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes inf, which the model rejects
        return np.ascontiguousarray(pixels, dtype)


def _pixel_nm(size: object, unit: object) -> float | None:
    """A length with its unit in nm; None for no calibration or reciprocal space."""
    text = unit.decode("utf-8", "replace") if isinstance(unit, bytes) else str(unit)
    # Berkeley EMD writes [n_m]; the micro sign and the Greek letter look the same.
    text = text.strip("[] \0").replace("_", "").replace("μ", "µ").lower()
    try:
        nm = abs(float(size)) * _NM[text]  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError):
        return None
    return nm if 0 < nm < math.inf else None


@contextlib.contextmanager
def _open_mrc(path: Path) -> Iterator[_Sections]:
    header, stat = mrc.read_header(path)

    def read(z: int) -> tuple[NDArray[Any], float | None]:
        now, pixels = mrc.read_section(path, z)
        return pixels, now.pixel_size_nm

    yield _Sections(header.complete_sections(stat.st_size), read, header.lacks(stat.st_size))


@contextlib.contextmanager
def _open_dm(path: Path) -> Iterator[_Sections]:
    from ncempy.io import dm

    with dm.fileDM(path, on_memory=False) as file:
        # The first of several objects is the thumbnail; getSlice skips it.
        index = 0 if file.numObjects == 1 else 1
        if file.dataShape[index] not in (2, 3):
            msg = f"{path.name}: {file.dataShape[index]}-D data; an image or a stack is expected"
            raise MicrographError(msg)

        def read(z: int) -> tuple[NDArray[Any], float | None]:
            image = file.getSlice(0, z)
            return image["data"], _pixel_nm(image["pixelSize"][-1], image["pixelUnit"][-1])

        yield _Sections(int(file.zSize[index]), read)


@contextlib.contextmanager
def _open_ser(path: Path) -> Iterator[_Sections]:
    from ncempy.io import ser

    with ser.fileSER(path) as file:
        if file.head["DataTypeID"] != 0x4122:
            msg = f"{path.name}: a series of spectra; images are expected"
            raise MicrographError(msg)

        def read(z: int) -> tuple[NDArray[Any], float | None]:
            pixels, card = file.getDataset(z)
            return pixels, _pixel_nm(card["Calibration"][0]["CalibrationDelta"], "m")

        yield _Sections(int(file.head["ValidNumberElements"]), read)


@contextlib.contextmanager
def _open_emd(path: Path) -> Iterator[_Sections]:
    from ncempy.io import emd

    try:
        file = emd.fileEMD(path)
    except emd.NoEmdDataSets:
        with _open_velox(path) as sections:
            yield sections
        return
    with file:
        group = file.list_emds[0]
        shape = group["data"].shape

        def read(z: int) -> tuple[NDArray[Any], float | None]:
            pixels = group["data"][()] if len(shape) == 2 else group["data"][z]
            axis, _, unit = file.get_emddims(group)[-1]
            return pixels, _pixel_nm(axis[1] - axis[0] if len(axis) > 1 else None, unit)

        yield _Sections(1 if len(shape) == 2 else shape[0], read)


@contextlib.contextmanager
def _open_velox(path: Path) -> Iterator[_Sections]:
    from ncempy.io import emdVelox

    with emdVelox.fileEMDVelox(path) as file:
        group = file.list_data[0]

        def read(z: int) -> tuple[NDArray[Any], float | None]:
            card = file.parseMetaData(group)
            return group["Data"][:, :, z], _pixel_nm(card["pixelSize"][0], card["pixelUnit"][0])

        yield _Sections(group["Data"].shape[2], read)


@contextlib.contextmanager
def _open_tiff(path: Path) -> Iterator[_Sections]:
    with path.open("rb", buffering=0) as file:
        offsets = tiffs.page_offsets(file)

        def read(z: int) -> tuple[NDArray[Any], float | None]:
            # OpenCV decodes memory: it cannot open names outside the ANSI code page on Windows.
            import cv2

            page = tiffs.read_page(file, offsets[z])
            image = cv2.imdecode(np.frombuffer(page, np.uint8), cv2.IMREAD_UNCHANGED)
            if image is None:
                msg = f"{path.name}: a kind of TIFF that OpenCV does not read; save it uncompressed"
                raise MicrographError(msg)
            # ImageJ describes the first page only.
            first = tiffs.read_calibration(file, offsets[0])
            return np.asarray(image), _tiff_pixel_nm(
                first | tiffs.read_calibration(file, offsets[z])
            )

        yield _Sections(len(offsets), read)


def _tiff_pixel_nm(tags: Mapping[int, Any]) -> float | None:
    pixels, per = tags.get(282, (0, 1))
    if not pixels:
        return None
    # ImageJ gives pixels per its own unit and says so in the description.
    unit = re.search(rb"^unit=(\S+)", tags.get(270, b""), re.MULTILINE)
    text = unit[1].decode("latin-1") if unit else {2: "inch", 3: "cm"}.get(tags.get(296, 2), "")
    nm = _pixel_nm(per / pixels, text.replace("\\u00B5", "µ").replace("\\u00C5", "å"))
    return nm if nm is not None and nm < _MAX_TIFF_PIXEL_NM else None


@contextlib.contextmanager
def _open_png(path: Path) -> Iterator[_Sections]:
    import cv2

    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        msg = f"{path.name}: not a readable PNG file"
        raise MicrographError(msg)
    yield _Sections(1, lambda _: (np.asarray(image), None))


@contextlib.contextmanager
def _open_npy(path: Path) -> Iterator[_Sections]:
    with path.open("rb") as file:
        np.lib.format.read_magic(file)  # says what is wrong; np.load would suspect a pickle
    # Mapped, so that one section of a long movie costs one section.
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    stack = array.ndim == 3 and array.shape[-1] not in (3, 4)
    yield _Sections(
        array.shape[0] if stack else 1, lambda z: (np.array(array[z] if stack else array), None)
    )


_OPENERS: dict[str, Callable[[Path], contextlib.AbstractContextManager[_Sections]]] = {
    **dict.fromkeys(mrc.MRC_SUFFIXES, _open_mrc),
    ".dm3": _open_dm,
    ".dm4": _open_dm,
    ".ser": _open_ser,
    ".emd": _open_emd,
    ".tif": _open_tiff,
    ".tiff": _open_tiff,
    ".png": _open_png,
    ".npy": _open_npy,
}

#: Endings that can be read, in lower case.
SUFFIXES = tuple(_OPENERS)

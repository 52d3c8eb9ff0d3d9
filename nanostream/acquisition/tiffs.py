"""TIFF files: how many sections, and each of them as grey values with its pixel size.

::

    tiff_directories   where each page is, and what its tags say
    tiff_layout        where its pixels are, compared with the file
    tiff_pixels        its pixels unpacked: tifffile's codecs
    greys              as grey values, upright
    tiff_pixel_sizes   in nm, from what many programs write

A section is a page, without thumbnails and the smaller images of a pyramid; or a picture of a
stack that has one directory for all (ImageJ above 4 GB, tifffile, MetaMorph).
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition.greys import grey_of_channels, grey_of_palette, inverted, upright
from nanostream.acquisition.sections import Sections
from nanostream.acquisition.tiff_directories import Directory, Source, page_offsets
from nanostream.acquisition.tiff_layout import JPEG, Layout, layout_of
from nanostream.acquisition.tiff_pixel_sizes import pixel_size_nm
from nanostream.acquisition.tiff_pixels import has_arrived, read_samples
from nanostream.errors import MicrographError, NotReadyError

__all__ = ["SUFFIXES", "Pages", "open_tiff"]

SUFFIXES = (".tif", ".tiff")

_DESCRIPTION, _ORIENTATION, _COLOUR_MAP, _METAMORPH = 270, 274, 320, 33629
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _MASK, _YCBCR = 0, 1, 2, 3, 4, 6
_LINEAR = 34892
_COLOURS = {5: "CMYK", 6: "YCbCr", 8: "Lab", 9: "Lab", 10: "Lab", 32803: "a colour mosaic"}
_COLOURS |= {32844: "LogL", 32845: "LogLuv"}
#: Kinds of extra values: not said, opacity that values are multiplied with, opacity beside them.
_UNSPECIFIED, _MULTIPLIED, _OPACITY = 0, 1, 2
#: A file may be padded at its end.
_PADDING_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Pages(Sections):
    """An open TIFF.

    Attributes
    ----------
    has_arrived : callable
        Whether the end of a section's pixels is there; NotReadyError if its directory is not. What
        cannot be read has arrived.
    """

    has_arrived: Callable[[int], bool]


@contextlib.contextmanager
def open_tiff(path: Path, *, at_rest: bool = False) -> Iterator[Pages]:
    """The sections of a file.

    Parameters
    ----------
    at_rest : bool
        Nobody writes it any more: what cannot be unpacked is damaged.

    Raises
    ------
    NotReadyError
        The file, or a section that is read, is not all written.
    MicrographError
        It is no TIFF, it is damaged, or a section is of a kind that is not read.
    OSError
        The file cannot be opened or read.
    """
    with path.open("rb", buffering=0) as file:
        source = Source.of(file, path.name, at_rest=at_rest)
        offsets = page_offsets(source)
        first = Directory(source, offsets[0])
        stack = _stack(first) if len(offsets) == 1 else 1

        def described(z: int) -> tuple[Directory, Layout]:
            if stack > 1:
                layout = layout_of(first)
                return first, layout.moved(z * layout.plane_bytes)
            directory = Directory(source, offsets[z]) if z else first
            return directory, layout_of(directory)

        def read(z: int) -> tuple[NDArray[Any], float | None]:
            directory, layout = described(z)
            pixels = _grey(read_samples(source, directory, layout), directory, layout)
            pixels = upright(pixels, directory.whole_number(_ORIENTATION, 1))
            return pixels, pixel_size_nm(directory, first, z)

        def arrived(z: int) -> bool:
            try:
                return has_arrived(source, described(z)[1])
            except NotReadyError:
                raise
            except MicrographError:  # nothing will come that mends it; who reads it learns why
                return True

        yield Pages(max(stack, len(offsets)), read, has_arrived=arrived)


def _stack(first: Directory) -> int:
    """How many pictures lie one after the other where the only directory describes the first.

    Raises
    ------
    NotReadyError
        Not all of them are there.
    """
    count = _counted(first)
    if count < 2:
        return 1
    layout = layout_of(first)
    if not layout.contiguous:
        return 1
    there_bytes = first.source.size - int(layout.starts[0])
    there = there_bytes // layout.plane_bytes
    if there >= count:
        return count
    if there_bytes < layout.plane_bytes + _PADDING_BYTES:
        return 1  # a description that another program took over with one page
    msg = (
        f"{layout.name}: {there} of its {count} pictures are there; not all of it is written, "
        "or it was cut off"
    )
    raise NotReadyError(msg)


def _counted(first: Directory) -> int:
    """Pictures that a program says it saved."""
    if _METAMORPH in first:
        return first.count(_METAMORPH)
    for text in first.texts(_DESCRIPTION):
        if text.startswith("ImageJ="):
            found = re.search(r"^images=(\d{1,9})\s*$", text, re.MULTILINE)
            return int(found[1]) if found else 1
        if text.startswith('{"shape"') and '"truncated": true' in text:
            return _shaped(text)
    return 1


def _shaped(text: str) -> int:
    """Pictures of tifffile's description: all but the last two numbers of its shape."""
    try:
        shape = json.loads(text)["shape"]
        return math.prod(int(n) for n in shape[:-2])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return 1


def _grey(samples: NDArray[Any], directory: Directory, layout: Layout) -> NDArray[Any]:
    """Grey values of a page, (rows, columns)."""
    name, kind = layout.name, layout.photometric
    if kind == _YCBCR and layout.compression == JPEG:
        kind = _RGB  # unpacked as such
    if kind in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _MASK, _LINEAR):
        grey = grey_of_channels(_without_opacity(samples, layout), name)
        return inverted(grey, layout.bits) if kind == _WHITE_IS_ZERO else grey
    if kind == _PALETTE:
        indices = grey_of_channels(_without_opacity(samples, layout), name)
        return grey_of_palette(indices, _palette(directory, layout), name)
    msg = f"{name}: colour image ({_COLOURS.get(kind, f'kind {kind}')}); save it as grey values"
    raise MicrographError(msg)


def _without_opacity(samples: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Values of grey or colour; opacity says nothing of the specimen."""
    # Without the tag nobody says that it is opacity: where it varies it may be a second image.
    extra = layout.extra or ((_UNSPECIFIED,) if layout.samples in (2, 4) else ())
    count = layout.samples - min(len(extra), layout.samples - 1)
    kept = samples[..., :count]
    for kind, values in zip(extra, np.moveaxis(samples[..., count:], -1, 0), strict=False):
        if kind != _OPACITY and values.min() != values.max() and (values != kept[..., 0]).any():
            what = "partly transparent" if kind == _MULTIPLIED else "a second image at each pixel"
            _refuse(layout.name, f"{what}; save it as grey values only")
    return kept


def _palette(directory: Directory, layout: Layout) -> NDArray[np.int64]:
    """Red, green and blue of each value."""
    if layout.bits > 16 or layout.sample_format != 1:
        _refuse(layout.name, f"damaged: a palette for values of {layout.bits} bits")
    entries = 2**layout.bits
    values = directory.whole_numbers(_COLOUR_MAP, 3 * entries)
    if values.size < 3 * entries:
        _refuse(layout.name, f"damaged: its palette has {values.size} of {3 * entries} numbers")
    return values.astype(np.int64).reshape(3, entries)


def _refuse(name: str, why: str) -> NoReturn:
    msg = f"{name}: {why}"
    raise MicrographError(msg)

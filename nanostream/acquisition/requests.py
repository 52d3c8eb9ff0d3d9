"""Frames of whatever someone asks for in Python: a file, an array, a list of them, all of a folder.

One image is one frame; ``"all"`` sections, and a list, are several. So who asks for one never gets
another kind of thing, and nobody begins a day's work by naming a folder.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from typing import Literal, SupportsIndex

from msgspec.structs import replace

from nanostream.acquisition import frames
from nanostream.acquisition.arrays import as_frame, is_list_of_images
from nanostream.acquisition.remarks import remarks_on
from nanostream.acquisition.sections import POSSIBLE_NM
from nanostream.acquisition.selection import expand, is_wildcard, select_files
from nanostream.errors import ConfigError, MicrographError
from nanostream.noise import logged_stderr
from nanostream.records import Frame, SectionId

logger = logging.getLogger(__name__)

__all__ = ["Z", "frame_of", "frames_of", "is_several"]

#: A section, counted from 0, or all of them.
Z = SupportsIndex | Literal["all"]


def is_several(what: object, z: Z) -> bool:
    """Whether several images are asked for, so that the answer is a list."""
    return z == "all" or is_list_of_images(what)


def frames_of(what: object, z: Z, *, pixel_size_nm: float | None) -> Iterator[Frame]:
    """Frames of all that is asked for, one after the other.

    Headers are read before the first: a file that is none of ours ends no long work.

    Raises
    ------
    MicrographError, ConfigError
        As `frame_of`.
    """
    images = list(what) if is_list_of_images(what) else [what]  # type: ignore[call-overload]
    orders: list[tuple[object, Z, SectionId | None]] = []
    for number, image in enumerate(images):
        if isinstance(image, str | os.PathLike) and z == "all":
            orders += _sections(image)
        elif isinstance(image, str | os.PathLike):
            orders.append((_one_file(Path(image)), z, None))
        else:
            orders.append((image, 0, SectionId("array", number)))
    for image, of_file, section in orders:
        yield frame_of(image, of_file, pixel_size_nm=pixel_size_nm, section=section)


def frame_of(
    what: object, z: Z = 0, *, pixel_size_nm: float | None, section: SectionId | None = None
) -> Frame:
    """One image as a frame: a file, an array, or a frame as it is.

    Raises
    ------
    MicrographError
        If it is none, or stands for several, with what to ask instead.
    ConfigError
        If section or pixel size cannot be one.
    """
    if pixel_size_nm is not None and not _is_length(pixel_size_nm):
        msg = f"pixel_size_nm={pixel_size_nm!r}: give the length of a pixel, 0.0001 to 1000 nm"
        raise ConfigError(msg)
    pixel_size_nm = None if pixel_size_nm is None else float(pixel_size_nm)
    if isinstance(what, Frame):
        return _with_size(what, pixel_size_nm)
    if isinstance(what, str | os.PathLike):
        path, number = _one_file(Path(what)), _number(z)
        with logged_stderr():
            frame = frames.read_section(path, number, section=section, pixel_size_nm=pixel_size_nm)
            remarks = remarks_on(path, frame)
        for remark in remarks:
            logger.warning("%s", remark)
        return frame
    frame = as_frame(what, pixel_size_nm=pixel_size_nm)
    if z not in (0, "all"):
        msg = f"z={z}: an array is one image; give the one that you mean"
        raise MicrographError(msg)
    return frame if section is None else replace(frame, section=section)


def _one_file(path: Path) -> Path:
    """The file of this name, if it is one."""
    base, found = expand(path)
    several = base == found[0] or (is_wildcard(path) and found[0].name != path.name)
    if several:
        count = len(select_files([path]).files)
        kind = "a folder" if base == found[0] else "a wildcard"
        msg = (
            f'{path}: {kind}, {count} {"micrograph" if count == 1 else "micrographs"}; z="all" '
            "gives a list of the sections of all"
        )
        raise MicrographError(msg)
    if found[0].exists() and not found[0].is_file():  # to read a pipe would wait for good
        msg = f"{found[0]}: neither a file nor a folder"
        raise MicrographError(msg)
    return found[0]


def _sections(name: str | os.PathLike[str]) -> list[tuple[object, Z, SectionId | None]]:
    """Every whole section of the files that a name stands for."""
    selected = select_files([Path(name)])
    if selected.left_out:
        first, reason = selected.left_out[0]
        msg = f"{first}: {reason}; move it elsewhere, or give the files as a list"
        raise MicrographError(msg)
    found: list[tuple[object, Z, SectionId | None]] = []
    for file in selected.files:
        with logged_stderr():
            count, cut_off = frames.count_sections(file)
        if cut_off or not count:
            msg = f"{file}: {count} whole sections, its header counts more; is it cut off?"
            raise MicrographError(msg)
        here = file.parent.resolve() / file.name  # a link has the name of its place
        below = here.relative_to(selected.root) if selected.root else Path(file.name)
        found += [(file, z, frames.section_of(below.as_posix(), z)) for z in range(count)]
    return found


def _is_length(value: object) -> bool:
    """Whether it is a number, of Python or of NumPy, that can be an electron microscope's pixel."""
    low_nm, high_nm = POSSIBLE_NM
    number = isinstance(value, Real) and not isinstance(value, bool)
    return number and bool(low_nm <= value <= high_nm)  # type: ignore[operator]


def _number(z: object) -> int:
    if isinstance(z, SupportsIndex) and not isinstance(z, bool) and (number := int(z)) >= 0:
        return number
    msg = f'z={z!r}: give the number of a section, from 0, or "all"'
    raise ConfigError(msg)


def _with_size(frame: Frame, pixel_size_nm: float | None) -> Frame:
    if frame.pixel_size_nm is not None or pixel_size_nm is None:
        return frame
    metadata = replace(frame.metadata, pixel_size_source="user")
    return replace(frame, pixel_size_nm=pixel_size_nm, metadata=metadata)

"""Mask files: one HDF5 file per section, which exists whole or not at all."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from nanostream import failpoints
from nanostream.errors import MessageError, SessionError, reason_of
from nanostream.records import Result, SectionId
from nanostream.results.columns import attributes_of
from nanostream.results.folders import SESSION_VERSION, is_never

__all__ = ["mask_path", "read_mask", "write_mask"]


def mask_path(section: SectionId) -> str:
    """Where a section's mask is, relative to the session folder."""
    return f"masks/{section.file}/z{section.z:05d}.h5"


def read_mask(
    folder: Path, section: SectionId, name: Literal["labels", "probability"]
) -> NDArray[np.generic]:
    """One dataset of a section's mask, as stored.

    Raises
    ------
    OSError, KeyError
        If there is no such mask, or it is damaged.
    """
    with h5py.File(folder / mask_path(section), "r") as file:
        array: NDArray[np.generic] = file[name][...]
    return array


def write_mask(folder: Path, result: Result) -> int:
    """Checksum of the labels, after the mask of a section is on the disk.

    Raises
    ------
    SessionError
        If it cannot be written now.
    MessageError
        If it never can, wherever there is room.
    """
    path = folder / mask_path(result.section)
    temporary = path.with_suffix(".part")
    try:
        failpoints.disk_is_full()
        path.parent.mkdir(parents=True, exist_ok=True)
        _fill_mask(temporary, result)
        failpoints.point("sink.mask-part")
        _to_disk(temporary)
        temporary.replace(path)
        _to_disk(path.parent)
        failpoints.point("sink.mask")
    except (OSError, RuntimeError) as error:  # h5py: RuntimeError when a write fails at closing
        msg = f"mask of {result.section} cannot be written to {path}: {reason_of(error)}"
        if isinstance(error, OSError) and is_never(error):
            raise MessageError(msg) from error
        raise SessionError(msg) from error
    except (ValueError, TypeError) as error:  # metadata that HDF5 cannot keep
        msg = f"mask of {result.section} cannot be kept: {error}"
        raise MessageError(msg) from error
    return zlib.crc32(np.ascontiguousarray(result.labels).data)


def _fill_mask(path: Path, result: Result) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["nanostream_mask"] = SESSION_VERSION
        file.attrs.update(attributes_of(result))
        for name, array in (("labels", result.labels), ("probability", result.probability)):
            file.create_dataset(
                name,
                data=array,
                chunks=tuple(min(512, side) for side in array.shape),
                compression="gzip",
                compression_opts=1,
                shuffle=array.itemsize > 1,
                fletcher32=True,
            )


def _to_disk(path: Path) -> None:
    """Wait until a file, or on POSIX a folder's list of names, is on the disk."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

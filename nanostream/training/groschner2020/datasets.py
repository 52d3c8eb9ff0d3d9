"""Data sets of tiles in HDF5 files, as the published notebooks name and shape them.

::

    write_hdf5, read_hdf5     tiles in a file, one of them in memory at a time

References
----------
ScottLabUCB/HTTEM @edbe3364, pyNanoFind: utilities/TEM2Net.py (the HDF5 files).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nanostream.errors import DataSetError
from nanostream.training.examples import as_int16
from nanostream.training.groschner2020.tiles import Tile, one_hot

__all__ = ["DATASET_VERSION", "read_hdf5", "write_hdf5"]

#: Attribute ``nanostream_dataset`` of the HDF5 files.
DATASET_VERSION = 1


def write_hdf5(path: Path, tiles: Iterable[Tile]) -> int:
    """Tiles in an HDF5 file, as they come; the file appears whole, by renaming.

    Parameters
    ----------
    path
        Gets ``images`` (N, S, S, 1) int16 and ``maps`` (N, S, S, 2) uint8, 1 in the map of the
        pixel's class (0 background, 1 particle): names, shapes and order of the published
        notebooks, which keep them in two files. See ``docs/formats/data-sets.md``.

    Returns
    -------
    int
        Tiles written.

    Raises
    ------
    DataSetError
        If there is no tile, or tiles differ in size.
    """
    part = path.with_name(path.name + ".part")
    try:
        count = _write(part, path, tiles)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


def _write(part: Path, path: Path, tiles: Iterable[Tile]) -> int:
    count, maximum = 0, 0
    with h5py.File(part, "w") as file:
        for tile in tiles:
            if count == 0:
                size = tile.pixels.shape
                images = _growing(file, "images", (*size, 1), np.int16)
                maps = _growing(file, "maps", (*size, 2), np.uint8)
                sources = file.create_dataset(
                    "sources", (0,), h5py.string_dtype(), maxshape=(None,)
                )
            if tile.pixels.shape != size:
                msg = f"{path}: tiles of {size} and {tile.pixels.shape} px; cut them to one size"
                raise DataSetError(msg)
            for dataset in (images, maps, sources):
                dataset.resize(count + 1, axis=0)
            images[count, ..., 0] = tile.pixels
            maps[count] = one_hot(tile.label)
            sources[count] = tile.source
            maximum = max(maximum, int(tile.pixels.max()))
            count += 1
        if count == 0:
            msg = f"{path}: not one tile with a particle; are the images large enough?"
            raise DataSetError(msg)
        file.attrs["nanostream_dataset"] = DATASET_VERSION
        file.attrs["filter"] = "median 3x3"
        file.attrs["maximum"] = maximum
    return count


def _growing(file: Any, name: str, shape: tuple[int, ...], dtype: type) -> Any:
    """Data set of no tiles yet, a chunk for each."""
    return file.create_dataset(
        name,
        (0, *shape),
        dtype,
        maxshape=(None, *shape),
        chunks=(1, *shape),
        compression="gzip",
        compression_opts=1,
        fletcher32=True,
    )


def read_hdf5(images: Path, maps: Path | None = None) -> Iterator[Tile]:
    """Tiles of an HDF5 file, one after the other.

    Parameters
    ----------
    images
        File with ``images`` (N, H, W, 1), of any type that `as_int16` takes. A file from
        elsewhere is taken as it is: not filtered once more.
    maps
        File with ``maps``, where it is another one: (N, H, W, 2), particle where the second map
        is greater than the first, or (N, H, W, 1), particle where it is not 0.

    Raises
    ------
    DataSetError
        If a file cannot be read, or has not these data sets in these shapes.
    """
    with _damage_named(images), ExitStack() as stack:
        pixels = stack.enter_context(_open(images))
        other = pixels if maps is None else stack.enter_context(_open(maps))
        image, label = (
            tuple(file[name].shape) if name in file else ()
            for file, name in ((pixels, "images"), (other, "maps"))
        )
        fits = len(image) == len(label) == 4 and image[:3] == label[:3]
        if not fits or image[3] != 1 or label[3] not in (1, 2):
            msg = (
                f"{images}: images {image or 'absent'}, maps {label or 'absent'}"
                f"{f' in {maps}' if maps else ''}; expected (N, H, W, 1) and (N, H, W, 2)"
            )
            raise DataSetError(msg)
        sources = pixels.get("sources")
        for number in range(image[0]):
            classes = other["maps"][number]
            yield Tile(
                as_int16(pixels["images"][number, ..., 0], f"{images}, image {number}"),
                classes[..., -1] > (classes[..., 0] if label[3] == 2 else 0),
                "" if sources is None else sources[number].decode(),
            )


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """One clear error instead of those of h5py and NumPy about an odd or a rotten file."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, TypeError, AttributeError, IndexError) as error:
        msg = f"{path}: not a data set, or damaged ({error}); make it anew"
        raise DataSetError(msg) from error


def _open(path: Path) -> Any:
    try:
        return h5py.File(path)
    except OSError as error:
        msg = f"{path}: cannot be read as HDF5 ({error})"
        raise DataSetError(msg) from error

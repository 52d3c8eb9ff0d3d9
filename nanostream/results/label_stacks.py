"""Masks of all sections of a file as one stack, which is read a section at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nanostream.records import SectionId

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LabelStack", "label_stacks"]


@dataclass(frozen=True, eq=False)
class LabelStack:
    """(n, H, W) int32 masks of a file in the order of its sections, 0 where there is no particle.

    An index reads what it asks for and no more, as NumPy's does; so viewers show long movies.

    Attributes
    ----------
    file : str
        Its path below the watched folder, and its generation.
    sections : tuple of str or None
        Name of each plane's section, None where none is stored: such a plane is empty.
    shape : tuple of int
        Smaller sections lie in the corner of row 0 and column 0.
    is_movie : bool
        Pixels have the number of their track then (`nanostream.results.identities`), 0 where it is
        not known yet; else the label in the mask.
    highest : int
        No pixel has a higher number.
    pixel_size_nm : float or None
        Of the first section.
    read : callable
        Gives the mask of a section by its name.
    tracks : mapping
        For each section of a movie, its labels and the numbers of their tracks.
    """

    file: str
    sections: tuple[str | None, ...]
    shape: tuple[int, int, int]
    is_movie: bool
    highest: int
    pixel_size_nm: float | None
    read: Callable[[str], NDArray[np.int32]]
    tracks: Mapping[str, tuple[NDArray[np.int64], NDArray[np.int64]]]

    dtype = np.dtype(np.int32)
    ndim = 3

    @property
    def stored(self) -> tuple[str, ...]:
        """Names of the sections that are stored."""
        return tuple(name for name in self.sections if name is not None)

    def __len__(self) -> int:
        return len(self.sections)

    def __iter__(self) -> Iterator[NDArray[np.int32]]:
        return (self._plane(name) for name in self.sections)

    def __getitem__(self, index: Any) -> NDArray[np.int32]:
        first, *rest = index if isinstance(index, tuple) else (index,)
        if first is Ellipsis:
            return np.asarray(np.asarray(self)[index], np.int32)
        chosen = np.arange(len(self))[first]
        if chosen.ndim == 0:
            return np.asarray(self._plane(self.sections[chosen])[tuple(rest)], np.int32)
        planes = [self._plane(self.sections[k]) for k in chosen]
        stack = np.stack(planes) if planes else np.zeros((0, *self.shape[1:]), np.int32)
        return np.asarray(stack[(slice(None), *rest)], np.int32)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            msg = "the masks lie in files; an array of them is a copy"
            raise ValueError(msg)
        return self[:].astype(dtype or self.dtype, copy=False)

    def _plane(self, section: str | None) -> NDArray[np.int32]:
        plane = np.zeros(self.shape[1:], np.int32)
        if section is not None:
            labels = self.read(section)
            if self.is_movie:
                lookup = np.zeros(int(labels.max(initial=0)) + 1, np.int32)
                if section in self.tracks:
                    of_section, numbers = self.tracks[section]
                    lookup[of_section] = numbers
                labels = lookup[labels]
            plane[: labels.shape[0], : labels.shape[1]] = labels
        return plane


def label_stacks(
    sections: pd.DataFrame, tracks: pd.DataFrame, read: Callable[[str], NDArray[np.int32]]
) -> list[LabelStack]:
    """The masks of a session, a stack for each file (and generation of it), in order.

    Parameters
    ----------
    sections : DataFrame
        Of the session.
    tracks : DataFrame
        Of the session, as `nanostream.results.identities.numbered` gives them.
    read : callable
        Gives the mask of a section by its name.
    """
    numbers = {
        str(name): (rows["label"].to_numpy(), rows["track"].to_numpy())
        for name, rows in tracks.groupby("section")
    }
    highest = tracks.groupby("file")["track"].max().to_dict()
    stacks = []
    for _, table in sections.groupby(["path", "generation"]):
        file = SectionId.parse(table["section"].iloc[0]).file
        is_movie = bool(table["stream"].notna().any())
        # Labels of a mask are 1, 2, ... without a gap.
        most = highest.get(file, 0) if is_movie else table["count"].max()
        stacks.append(_stack(table, file, numbers, read, is_movie=is_movie, highest=int(most)))
    return stacks


def _stack(
    table: pd.DataFrame,
    file: str,
    tracks: Mapping[str, tuple[NDArray[np.int64], NDArray[np.int64]]],
    read: Callable[[str], NDArray[np.int32]],
    *,
    is_movie: bool,
    highest: int,
) -> LabelStack:
    planes: list[str | None] = [None] * (int(table["z"].max()) + 1)
    for name, z in zip(table["section"], table["z"], strict=True):
        planes[z] = name
    size_nm = float(table["pixel_size_nm"].iloc[0])
    return LabelStack(
        file=file,
        sections=tuple(planes),
        shape=(len(planes), int(table["height_px"].max()), int(table["width_px"].max())),
        is_movie=is_movie,
        highest=highest,
        pixel_size_nm=None if math.isnan(size_nm) else size_nm,
        read=read,
        tracks=tracks,
    )

"""Particles of a label mask as runs of equal label: exact sums without a loop over pixels."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Runs", "runs_of"]

Number = TypeVar("Number", bound=np.number[Any])


class Runs(NamedTuple):
    """Pixels of all particles, as runs within a row, in raster order.

    Attributes
    ----------
    label : (n,) integer
        Of each particle, ascending.
    owner : (m,) int64
        Index of each run's particle.
    row, left, right : (m,) int64
        The run is the pixels ``left`` to ``right - 1`` of its row.
    order : (m,) int64
        Sorts the runs by particle, and within one leaves them in raster order.
    first : (n,) int64
        Where each particle begins in that order.
    shape : (H, W)
        Of the mask.
    """

    label: NDArray[np.integer]
    owner: NDArray[np.int64]
    row: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    order: NDArray[np.int64]
    first: NDArray[np.int64]
    shape: tuple[int, int]

    @property
    def start(self) -> NDArray[np.int64]:
        """Index of each run's first pixel in the flat mask."""
        return self.row * self.shape[1] + self.left

    @property
    def length(self) -> NDArray[np.int64]:
        """Pixels of each run."""
        return self.right - self.left

    def total(self, values: NDArray[Number]) -> NDArray[Number]:
        """Sum over each particle of a value of each run; of integers, exact."""
        return self._reduced(np.add, values)

    def least(self, values: NDArray[Number]) -> NDArray[Number]:
        """Least value among the runs of each particle."""
        return self._reduced(np.minimum, values)

    def greatest(self, values: NDArray[Number]) -> NDArray[Number]:
        """Greatest value among the runs of each particle."""
        return self._reduced(np.maximum, values)

    def _reduced(self, how: np.ufunc, values: NDArray[Number]) -> NDArray[Number]:
        if not self.first.size:
            return values[:0]
        return np.asarray(how.reduceat(values[self.order], self.first), values.dtype)


def runs_of(labels: NDArray[np.integer]) -> Runs:
    """Runs of a label mask.

    Parameters
    ----------
    labels : (H, W) integer
        0 is background; every other number is one particle, whether or not its pixels touch.
    """
    height, width = labels.shape
    flat = labels.reshape(-1)
    change = np.ones(flat.size, np.bool_)
    np.not_equal(flat[1:], flat[:-1], out=change[1:])
    change[:: width or None] = True
    start = np.flatnonzero(change)
    length = np.diff(start, append=flat.size)
    run_label = flat[start]
    particle = run_label != 0
    start, length = start[particle], length[particle]
    label, owner = np.unique(run_label[particle], return_inverse=True)
    row, left = np.divmod(start, max(width, 1))
    # NumPy sorts 16-bit integers stably in linear time, wider ones not.
    narrow = owner.astype(np.uint16) if label.size <= 2**16 else owner
    order = np.argsort(narrow, kind="stable")
    first = np.searchsorted(owner[order], np.arange(label.size))
    return Runs(label, owner, row, left, left + length, order, first, (height, width))

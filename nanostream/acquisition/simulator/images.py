"""Images for the stand-in to write: of files, or a simulated movie with its truth."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanostream.errors import MicrographError

__all__ = ["DemoMicrograph", "demo_movie", "load_images"]


def load_images(paths: Iterable[Path], *, count: int | None = None) -> Iterator[NDArray[Any]]:
    """Sections of micrograph files, from the start again until there are `count`.

    Parameters
    ----------
    paths : iterable of Path
        Any format of `nanostream.acquisition.frames`; every section of each.
    count : int or None
        None: each section once.

    Yields
    ------
    (H, W) array

    Raises
    ------
    MicrographError
        A file cannot be read, or there is no file.
    """
    from nanostream.acquisition import frames  # with OpenCV, which a command line need not wait for

    sections = [(path, z) for path in paths for z in range(frames.count_sections(path).sections)]
    if not sections:
        msg = "no images to play; give PNG, TIFF, NPY or MRC files"
        raise MicrographError(msg)
    chosen = sections if count is None else itertools.islice(itertools.cycle(sections), count)
    for path, z in chosen:
        yield frames.read_section(path, z).pixels


@dataclass(frozen=True, eq=False)
class DemoMicrograph:
    """A simulated micrograph that comes with the package.

    Attributes
    ----------
    name : str
        ``"gold"``, ``"cdse"`` or ``"gold-and-cdse"``.
    expected_counts : (1024, 1024) uint16
        Electrons per pixel without noise.
    labels : (1024, 1024) int32
        The particles that are really there, numbered from 1; 0 is the support film.
    pixel_size_nm : float
    """

    name: str
    expected_counts: NDArray[np.uint16]
    labels: NDArray[np.int32]
    pixel_size_nm: float

    @classmethod
    def load(cls, name: str = "gold") -> DemoMicrograph:
        """By name; MicrographError if the package has none of that name."""
        import cv2

        folder = resources.files("nanostream.acquisition") / "demo"
        cards = json.loads((folder / "demo.json").read_text(encoding="utf-8"))["micrographs"]
        card = next((card for card in cards if card["name"] == name), None)
        if card is None:
            msg = f"no demo micrograph {name!r}; there are {', '.join(c['name'] for c in cards)}"
            raise MicrographError(msg)
        counts, labels = (
            np.asarray(
                cv2.imdecode(
                    np.frombuffer((folder / card[key]).read_bytes(), np.uint8),
                    cv2.IMREAD_UNCHANGED,
                )
            )
            for key in ("expected_counts", "labels")
        )
        return cls(name, counts.astype(np.uint16), labels.astype(np.int32), card["pixel_size_nm"])


def demo_fields(
    name: str = "gold", *, seed: int = 0
) -> Iterator[tuple[NDArray[np.int16], NDArray[np.int32]]]:
    """Four fields side by side, 512 x 512 px each, which have no pixel in common, with their truth.

    Parameters
    ----------
    name : str
        Of the micrograph; its pixel size is ``DemoMicrograph.load(name).pixel_size_nm``.
    seed : int
        Of the noise.

    Yields
    ------
    pixels : (512, 512) int16
        Electron counts with Poisson noise.
    labels : (512, 512) int32
        True particles.

    Raises
    ------
    MicrographError
        No such micrograph.
    """
    micrograph = DemoMicrograph.load(name)
    rng = np.random.default_rng(seed)
    for top in (0, 512):
        for left in (0, 512):
            field = np.s_[top : top + 512, left : left + 512]
            yield _exposed(micrograph, field, rng)


def demo_movie(
    count: int, *, shape: tuple[int, int] = (768, 768), seed: int, name: str = "gold"
) -> Iterator[tuple[NDArray[np.int16], NDArray[np.int32]]]:
    """An in-situ movie with its truth: particles stay, the sample drifts, the noise is new.

    Parameters
    ----------
    count : int
        Sections.
    shape : (height, width)
        Of the window that drifts over a demo micrograph, in px; at most 1024 x 1024.
    seed : int
        Of drift and noise; the same seed gives the same movie.
    name : str
        Of the micrograph; its pixel size is ``DemoMicrograph.load(name).pixel_size_nm``.

    Yields
    ------
    pixels : shape, int16
        Electron counts with Poisson noise.
    labels : shape, int32
        True particles; a particle keeps its number through the movie.

    Raises
    ------
    MicrographError
        No such micrograph, or the window does not fit.

    Notes
    -----
    Drift is a slow random walk of the velocity, at most 2 px a section in y and in x, reflected
    where the micrograph ends; one section in 40 jumps by up to 20 px, as a stage does.
    """
    micrograph = DemoMicrograph.load(name)
    room = np.subtract(micrograph.labels.shape, shape)
    if min(shape) < 1 or room.min() < 0:
        msg = f"demo window of {shape} px: the micrograph has {micrograph.labels.shape}"
        raise MicrographError(msg)
    rng = np.random.default_rng(seed)
    corner, velocity = room / 2, rng.uniform(-1, 1, 2)
    for _ in range(count):
        top, left = np.rint(corner).astype(int)
        window = np.s_[top : top + shape[0], left : left + shape[1]]
        yield _exposed(micrograph, window, rng)
        velocity = np.clip(velocity + rng.normal(0, 0.3, 2), -2, 2)
        jump = rng.uniform(-20, 20, 2) if rng.random() < 1 / 40 else 0
        corner = corner + velocity + jump
        outside = (corner < 0) | (corner > room)
        velocity[outside] *= -1
        corner = np.clip(corner, 0, room)


def _exposed(
    micrograph: DemoMicrograph, field: tuple[slice, slice], rng: np.random.Generator
) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
    """Counts with Poisson noise, and the labels, of a part of a micrograph."""
    noisy = rng.poisson(micrograph.expected_counts[field])
    return np.minimum(noisy, 32767).astype(np.int16), micrograph.labels[field].copy()

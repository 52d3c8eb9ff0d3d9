"""Records for tests: a mask is all that has to be thought of, the rest follows from it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanostream.config import Network
from nanostream.particles.measures import measure_particles, summarize
from nanostream.records import Frame, Result, SectionId, Segmentation
from nanostream.transport.sockets import free_network


def a_network(**changes: Any) -> Network:
    """Free ports of this machine."""
    ports: dict[str, Any] = dict(free_network())
    return Network(**(ports | changes))


def squares(*corners: tuple[int, int], side: int, shape: tuple[int, int]) -> NDArray[np.int32]:
    """A label mask with particles 1, 2, ... as squares at (top, left), in px."""
    labels = np.zeros(shape, np.int32)
    for number, (top, left) in enumerate(corners, 1):
        labels[top : top + side, left : left + side] = number
    return labels


def discs(
    *circles: tuple[float, float, float], shape: tuple[int, int] = (80, 100)
) -> NDArray[np.int32]:
    """A label mask with particles 1, 2, ... as discs by (y, x, radius), in px."""
    labels = np.zeros(shape, np.int32)
    rows, columns = np.indices(shape)
    for number, (y, x, radius) in enumerate(circles, 1):
        labels[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = number
    return labels


def a_section(section: SectionId | str) -> SectionId:
    """A section by its id or its name, such as ``a.mrc~2#0``."""
    return SectionId.parse(section) if isinstance(section, str) else section


def a_frame(
    section: SectionId | str = "a.mrc#0", pixels: NDArray[Any] | None = None, **known: Any
) -> Frame:
    """A micrograph, all of one grey unless pixels are given."""
    pixels = np.full((32, 32), 7, np.int16) if pixels is None else pixels
    return Frame(a_section(section), pixels, **known)


def a_segmentation(
    labels: NDArray[Any],
    frame: Frame | None = None,
    *,
    probability: NDArray[Any] | None = None,
    **changes: Any,
) -> Segmentation:
    """Probabilities that a network would give for this label mask.

    Parameters
    ----------
    labels : (H, W) int
        The mask; a particle's number is its label.
    frame : Frame, optional
        The micrograph, by default one of the mask's shape whose pixel size is not known.
    probability : (H, W) float, optional
        By default 1 where there is a particle.
    **changes
        Of the segmentation's other fields.
    """
    labels = np.asarray(labels, np.int32)
    frame = a_frame(pixels=np.full(labels.shape, 100, np.int16)) if frame is None else frame
    chance = np.asarray(labels > 0 if probability is None else probability, np.float32)
    particles = measure_particles(
        labels, frame.pixels, chance, pixel_size_nm=frame.pixel_size_nm, frame=frame.section.z
    )
    fields = {
        "section": frame.section,
        "pixel_size_nm": frame.pixel_size_nm,
        "summary": summarize(particles, shape=labels.shape),
        "model": "default",
        "model_sha256": "abc",
        "threshold": 0.5,
    }
    return Segmentation(
        labels=labels, probability=chance, particles=particles, **(fields | changes)
    )


def a_result(
    labels: NDArray[Any],
    section: SectionId | str = "a.mrc#0",
    *,
    probability: NDArray[Any] | None = None,
    known: dict[str, Any] | None = None,
    versions: dict[str, str] | None = None,
    **changes: Any,
) -> Result:
    """A section's result for this label mask; `known` is what its frame says, the rest as above."""
    pixels = np.full(np.shape(labels), 100, np.int16)
    frame = a_frame(section, pixels, **(known or {}))
    segmentation = a_segmentation(labels, frame, probability=probability, **changes)
    return Result.of(frame, segmentation, versions=versions)

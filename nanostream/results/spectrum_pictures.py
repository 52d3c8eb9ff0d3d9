"""Pictures of a section's power spectrum, with the rings of phases and of the lens."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from nanostream.particles.diffractograms import Diffractogram
from nanostream.particles.phases import Phase
from nanostream.particles.reflections import reflections
from nanostream.records import FirstRow

__all__ = ["draw_spectrum"]

#: Colours (red, green, blue) of rings, as those of outlines: told apart by colour-blind eyes.
_RINGS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (213, 94, 0))
_THON = (240, 228, 66)

#: Rings drawn of each phase, the greatest spacings: the others are too close.
_MOST_RINGS = 4


def draw_spectrum(
    found: Diffractogram,
    phases: Sequence[Phase] = (),
    *,
    first_row: FirstRow | None = None,
    side_px: int = 1024,
) -> NDArray[np.uint8]:
    """Picture of a power spectrum: rings of phases, dashes on the zeros of the lens's transfer.

    Parameters
    ----------
    found : Diffractogram
    phases : sequence of Phase
        Their four greatest spacings are drawn, each phase in its colour, named at the left; none
        without a pixel size.
    first_row : {"bottom", "top"}, optional
        Where SerialEM shows the first row; the picture is as on its display.
    side_px : int
        Side of the picture.

    Returns
    -------
    (h, w, 3) uint8
        Red, green, blue; row 0 at the top.
    """
    values = found.log_power[::-1] if first_row == "bottom" else found.log_power
    low, high = np.percentile(values, (5, 99.9))
    grey = np.clip(255 * (values - low) / max(float(high - low), 1e-9), 0, 255).astype(np.uint8)
    picture = np.asarray(
        cv2.cvtColor(cv2.resize(grey, (side_px, side_px)), cv2.COLOR_GRAY2RGB), np.uint8
    )
    n = len(values)
    zoom = side_px / n
    # Turned upside down, an even number of rows has its middle one row higher.
    down = (n - 1 - n // 2 if first_row == "bottom" else n // 2) + 0.5
    middle = (round((n // 2 + 0.5) * zoom), round(down * zoom))
    if found.pixel_size_nm is not None:
        nm = zoom * found.pixel_size_nm / found.step_per_px  # radius of a spacing of 1 nm
        _draw_phases(picture, middle, nm, phases)
    for k in found.thon_per_px:
        radius = round(zoom * k / found.step_per_px)
        for start in range(0, 360, 20):
            ends = (float(start), float(start + 6))
            cv2.ellipse(picture, middle, (radius, radius), 0.0, *ends, _THON, 1, cv2.LINE_AA)
    return picture


def _draw_phases(
    picture: NDArray[np.uint8], middle: tuple[int, int], nm: float, phases: Sequence[Phase]
) -> None:
    """Draw the rings of phases and their names; a spacing d is ``nm / d`` px from the middle."""
    for number, phase in enumerate(phases):
        colour = _RINGS[number % len(_RINGS)]
        spacings = np.unique(reflections(phase, 0.1).spacing_nm.round(4))[::-1][:_MOST_RINGS]
        for spacing in spacings:
            radius = round(nm / spacing)
            if radius < len(picture) // 2:
                cv2.circle(picture, middle, radius, colour, 1, cv2.LINE_AA)
        place = (10, 24 + 22 * number)
        cv2.putText(picture, phase.name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, 1)

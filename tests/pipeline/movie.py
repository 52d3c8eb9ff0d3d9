"""A movie of drifting nanoparticles with its truth, and the score of tracks against it.

Not a test: tests write the movie as SerialEM would and send it through the pipeline.
"""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
from scipy.spatial import KDTree

LEAST_GAP_PX = 24.0
"""Between the outlines of any two particles, in every section; a network that was trained for a
few minutes only draws each particle 8 px too large, and they must not merge."""

_MARGIN_PX = 8.0  # between an outline and the edge

_ELECTRONS = 600.0  # of the bare support, per pixel: shot noise of 4 %
_GAIN = 4.0  # counts per electron
_SPECKLE = 0.05  # standard deviation of the support's contrast
_ABSORPTION = 0.55  # of a particle of 12 px radius, in its middle: transmits exp(-0.55) = 0.58
_FRINGES = 0.18
_FRINGE_PX = 4.4  # as Au (111), 2.35 Å, at 0.053 nm per pixel


def drifting_particles(
    sections: int = 60,
    particles: int = 40,
    shape: tuple[int, int] = (512, 512),
    *,
    seed: int = 0,
    enlarged: int = 1,
) -> tuple[np.ndarray, pd.DataFrame]:
    """HRTEM-like movie of crystalline particles on an amorphous film, and where they are.

    The particles move by 0.5 px a section and axis of their own and by 1 px together, in a wide
    circle; at one and two thirds the stage jumps by 15 px, away and back. None touches another or
    the edge. `enlarged` 2 magnifies the finished sections, so that a network that was trained at
    higher magnification, as the published ones were, finds the particles too.

    Returns
    -------
    (N, H, W) int16, times `enlarged` in H and W
        As SerialEM stores them.
    DataFrame
        frame, particle, x, y, radius_px; one row per particle and section, positions as 0-based
        pixel centres.
    """
    rng = np.random.default_rng(seed)
    drift = _drift(sections, rng)
    radius = rng.uniform(9, 16, particles)
    paths = _paths(drift, radius, shape, rng)

    pad = int(np.ceil(np.abs(drift).max())) + 2
    film = _speckle((shape[0] + 2 * pad, shape[1] + 2 * pad), rng)
    uneven = _illumination(shape)
    angle = rng.uniform(0, np.pi, particles)
    phase = rng.uniform(0, 2 * np.pi, (particles, 2))
    size = (shape[0] * enlarged, shape[1] * enlarged)
    images = np.empty((sections, *size), np.int16)
    for section, (dy, dx) in enumerate(drift):
        move = np.array([[1, 0, dx - pad], [0, 1, dy - pad]])
        contrast = cv2.warpAffine(film, move, shape[::-1], flags=cv2.INTER_LINEAR)
        for position, r, a, p in zip(paths[section], radius, angle, phase, strict=True):
            _draw(contrast, position, r, a, p)
        counts = _GAIN * rng.poisson(_ELECTRONS * uneven * np.exp(contrast))
        larger = cv2.resize(counts, size[::-1], interpolation=cv2.INTER_CUBIC)
        images[section] = np.clip(np.rint(larger), 0, 32767)

    frame, particle = np.indices((sections, particles)).reshape(2, -1)
    y, x = (paths.reshape(-1, 2).T + 0.5) * enlarged - 0.5
    radius_px = radius[particle] * enlarged
    columns = {"frame": frame, "particle": particle, "x": x, "y": y, "radius_px": radius_px}
    return images, pd.DataFrame(columns)


def score_links(truth: pd.DataFrame, tracks: pd.DataFrame, *, radius_px: float) -> float:
    """Share of the true links that the tracks have.

    A true link is a particle in two sections that follow one another for it. The tracks have it
    if both of its detections exist, within `radius_px` of the true position, and carry the same
    identity. A detection belongs to the true particle nearest to it, and one at most.

    Parameters
    ----------
    truth : DataFrame
        frame, particle, x, y as `drifting_particles` gives them.
    tracks : DataFrame
        frame, particle, x, y as measured and tracked.
    radius_px : float
        Greatest distance between a detection and its particle.
    """
    identities = []
    detections = dict(iter(tracks.groupby("frame")))
    for frame, rows in truth.groupby("frame"):
        seen = detections.get(frame)
        identity = np.full(len(rows), -1)
        if seen is not None and len(seen):
            where, detected = rows[["y", "x"]].to_numpy(), seen[["y", "x"]].to_numpy()
            distance, nearest = KDTree(detected).query(where)
            _, back = KDTree(where).query(detected)
            mutual = (back[nearest] == np.arange(len(rows))) & (distance <= radius_px)
            identity[mutual] = seen["particle"].to_numpy()[nearest[mutual]]
        identities.append(rows[["frame", "particle"]].assign(identity=identity))
    table = pd.concat(identities).sort_values(["particle", "frame"])
    before = table.groupby("particle")["identity"].shift()
    has_before = before.notna()
    total = int(has_before.sum())
    right = int(((table["identity"] == before) & (table["identity"] >= 0) & has_before).sum())
    return right / total if total else 1.0


def _drift(sections: int, rng: np.random.Generator) -> np.ndarray:
    """(N, 2) position of the specimen in px, y and x, zero in the first section."""
    heading = rng.uniform(0, 2 * np.pi) + np.arange(sections) * 2 * np.pi / 60
    step = np.column_stack([np.sin(heading), np.cos(heading)])
    step[0] = 0
    away = rng.uniform(0, 2 * np.pi)
    jump = 15 * np.array([np.sin(away), np.cos(away)])
    if sections >= 3:
        step[sections // 3] += jump
        step[2 * sections // 3] -= jump
    return np.cumsum(step, axis=0)


def _paths(
    drift: np.ndarray, radius: np.ndarray, shape: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """(N, particles, 2) positions that keep their distances and stay inside."""
    margin = radius[:, None] + _MARGIN_PX
    low = margin - drift.min(axis=0)
    high = np.array(shape) - 1 - margin - drift.max(axis=0)

    def free(index: int, place: np.ndarray, others: np.ndarray) -> bool:
        gap = np.hypot(*(others - place).T) - radius[: len(others)] - radius[index]
        if index < len(others):
            gap[index] = np.inf
        inside = (low[index] <= place).all() and (place <= high[index]).all()
        return bool(inside and (gap >= LEAST_GAP_PX).all())

    home = np.empty((0, 2))
    for index in range(radius.size):
        for _ in range(20_000):
            place = rng.uniform(low[index], high[index])
            if free(index, place, home):
                break
        else:
            msg = f"no room for {radius.size} particles in {shape}"
            raise ValueError(msg)
        home = np.vstack([home, place])

    paths = np.empty((len(drift), *home.shape))
    for section, shift in enumerate(drift):
        if section:
            for index in range(radius.size):
                place = home[index] + rng.normal(0, 0.5, 2)
                if free(index, place, home):
                    home[index] = place
        paths[section] = home + shift
    return paths


def _speckle(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Contrast of an amorphous film: noise of a grain of about 4 px, a thickness that varies."""
    noise = rng.standard_normal(shape)
    grain = cv2.GaussianBlur(noise, (0, 0), 1.2) - cv2.GaussianBlur(noise, (0, 0), 2.4)
    thickness = cv2.GaussianBlur(rng.standard_normal(shape), (0, 0), 40)
    return _SPECKLE * grain / grain.std() + 0.006 * thickness / thickness.std()


def _illumination(shape: tuple[int, int]) -> np.ndarray:
    """Beam that falls off by 3 % towards the corners."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    away = ((y / shape[0] - 0.5) ** 2 + (x / shape[1] - 0.5) ** 2) * 2
    return 1 - 0.03 * away


def _draw(
    contrast: np.ndarray, position: np.ndarray, radius: float, angle: float, phase: np.ndarray
) -> None:
    """Take a crystal off the contrast, in place: a ball's thickness with two sets of fringes."""
    top, left = (int(c - radius) - 2 for c in position)
    size = int(2 * radius) + 6
    y, x = np.ogrid[top : top + size, left : left + size]
    dy, dx = y - position[0], x - position[1]
    thickness = np.sqrt(np.clip(1 - (dy**2 + dx**2) / radius**2, 0, None))
    # Facets make the edge steeper than a ball's.
    thickness = thickness**0.6 * (radius / 12) ** 0.5
    fringes = sum(
        np.cos(2 * np.pi * (dx * np.cos(a) + dy * np.sin(a)) / _FRINGE_PX + p)
        for a, p in zip((angle, angle + np.deg2rad(70.5)), phase, strict=True)
    )
    window = contrast[top : top + size, left : left + size]
    window += -_ABSORPTION * thickness + _FRINGES / 2 * fringes * thickness

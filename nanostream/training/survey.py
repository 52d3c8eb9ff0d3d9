"""Bright-field pictures without lattice, as at survey magnification and in publications.

`draw_survey_picture` makes one in a tenth of a second. Particles absorb by their thickness, some
more than others (a crystal in Bragg condition), with bend contours, thickness fringes, mottling,
shells and voids; supports have holes, steps, folds, webs, dirt and heaps of carbon. Fresnel fringes
come from the transfer function: everything is in pixels, so the lens is of a width of fringe in
pixels and stands for any magnification from 0.1 to 3 nm a pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nanostream.training.imaging import Optics, draw_camera, expose, image_wave, wavelength_nm
from nanostream.training.pictures import Picture, Truth, visible_particles
from nanostream.training.placement import Arrangement, place_particles
from nanostream.training.presentation import present
from nanostream.training.projections import FORMS, Form, Projection, draw_projection
from nanostream.training.textures import blobs, grain, patches, slow, webs

__all__ = ["draw_survey_picture"]

_MARGIN_PX = 32

#: Part of the pictures with bright particles on a dark ground, as in dark field or in print.
_INVERTED = 0.04


@dataclass(frozen=True)
class _Look:
    """Properties that the particles of one picture have in common.

    Attributes
    ----------
    depth
        Optical depth of a particle of the median size: 1 lets 37 % of the electrons through.
    phase
        Greatest phase in rad, for Fresnel fringes.
    bragg
        Part of the particles that are darker than their thickness says, and by how much.
    mottling, fringes, bend, shell, hollow
        Part of the particles with spots, thickness fringes, bend contours, a lighter shell, a void.
    """

    depth: float
    phase: float
    bragg: tuple[float, float]
    mottling: float
    fringes: float
    bend: float
    shell: float
    hollow: float


def draw_survey_picture(rng: np.random.Generator, *, size_px: int, bare: bool = False) -> Picture:
    """Bright-field picture and its truth.

    Parameters
    ----------
    size_px
        Height and width.
    bare
        Without particles.
    """
    field_px = size_px + 2 * _MARGIN_PX
    support = _support(rng, field_px, busy=bare or rng.random() < 0.3)
    truth = Truth.empty(field_px)
    particles: NDArray[np.complex64] | None = None
    if not bare:
        truth, particles = _particles(rng, field_px)
    optics = _draw_optics(rng)
    background = image_wave(np.exp(np.complex64(1j) * support), optics, 1.0)
    intensity, signal = background, None
    if particles is not None:
        wave = np.exp(np.complex64(1j) * (support + particles))
        intensity = image_wave(wave, optics, 1.0)
        signal = intensity - background
    camera = draw_camera(rng)
    if signal is not None:
        noise = _variance(background, camera.electrons_per_px)
        truth = visible_particles(
            truth, signal, noise, least_ratio=0.35, least_snr=4.0, grain_px=2.0
        )
    if rng.random() < 0.45:
        slope = np.float32(0.5 * rng.random() ** 1.5)
        intensity = intensity * (1.0 + slope * slow(rng, field_px, waves=rng.uniform(0.4, 1.5)))
    counts = expose(intensity, camera, rng)
    if rng.random() < _INVERTED:
        counts = counts.max() - counts
    inner = slice(_MARGIN_PX, _MARGIN_PX + size_px)
    kind = "survey bare" if bare else "survey"
    picture = Picture(np.empty((0, 0), np.int16), truth.cut(_MARGIN_PX), kind)
    return present(rng, np.ascontiguousarray(counts[inner, inner]), picture, journal=0.4)


def _draw_optics(rng: np.random.Generator) -> Optics:
    """Lens whose Fresnel fringes are up to 6 px wide, at either sign of defocus.

    Lengths are in pixels here: a first fringe is ``sqrt(wavelength * defocus)`` wide.
    """
    wavelength = wavelength_nm(300.0)
    width_px = rng.uniform(0.0, 2.0) if rng.random() < 0.65 else rng.uniform(1.5, 6.0)
    defocus = width_px**2 / wavelength * (1.0 if rng.random() < 0.7 else -1.0)
    blur_px = rng.uniform(0.3, 1.5)
    return Optics(
        voltage_kv=300.0,
        defocus_nm=float(defocus),
        astigmatism_nm=float(abs(defocus) * rng.uniform(0.0, 0.5)) if rng.random() < 0.3 else 0.0,
        astigmatism_angle_rad=float(rng.uniform(0.0, math.pi)),
        # Damps the fringes after the first one or two.
        focal_spread_nm=float(0.15 * abs(defocus) + 0.5 * blur_px**2 / wavelength),
        vibration_nm=float(0.35 * blur_px),
        drift_nm=float(rng.uniform(0.0, 4.0)) if rng.random() < 0.1 else 0.0,
        drift_angle_rad=float(rng.uniform(0.0, math.pi)),
    )


def _support(rng: np.random.Generator, field_px: int, *, busy: bool) -> NDArray[np.complex64]:
    """Phase (real) and half absorption (imaginary) of the film and all that lies on it."""
    film = np.full((field_px, field_px), np.float32(rng.uniform(0.02, 0.5)))
    mean = float(film[0, 0])
    if rng.random() < 0.6:
        film *= np.float32(1.0) + np.float32(rng.uniform(0.05, 0.6)) * slow(
            rng, field_px, waves=rng.uniform(0.5, 4.0)
        )
    chance = 0.35 if busy else 0.12
    if rng.random() < chance:  # steps
        for _ in range(int(rng.integers(1, 4))):
            part, waves = rng.uniform(0.1, 0.9), rng.uniform(0.4, 2.5)
            edge = float(rng.choice([0.02, 0.1, 0.5]))
            film += np.float32(rng.uniform(0.05, 0.6)) * patches(
                rng, field_px, part=part, waves=waves, edge=edge
            )
    if rng.random() < chance:  # folds and webs, as of lacey carbon
        count = int(rng.integers(1, 7))
        film += np.float32(rng.uniform(0.05, 0.9)) * webs(rng, field_px, count=count)
    if rng.random() < 1.5 * chance:
        largest = 0.35 * field_px
        dirt = blobs(rng, field_px, count=int(rng.integers(1, 14)), largest_px=largest)
        film += np.float32(rng.uniform(0.03, 0.4)) * dirt
    if rng.random() < chance:
        film += _agglomerate(rng, field_px) * np.float32(rng.uniform(0.05, 0.3))
    if rng.random() < 1.6 * chance:  # holes
        waves = float(np.exp(rng.uniform(math.log(0.4), math.log(8.0))))
        hole = patches(rng, field_px, part=rng.uniform(0.03, 0.7), waves=waves)
        film *= 1.0 - hole
    rough = np.float32(np.exp(rng.uniform(math.log(0.003), math.log(0.12))))
    noise = grain(rng, field_px, length_px=float(np.exp(rng.uniform(-0.7, 1.6))))
    absorption = film + rough * noise * np.sqrt(film / max(mean, 1e-3)) * np.float32(0.4)
    phase = film * np.float32(rng.uniform(0.5, 3.0)) + np.float32(rng.uniform(1.0, 4.0)) * (
        rough * noise * np.minimum(film / max(mean, 1e-3), 2.0)
    )
    total = np.empty((field_px, field_px), np.complex64)
    total.real = phase
    total.imag = np.float32(0.5) * np.maximum(absorption, 0.0)
    return total


def _agglomerate(rng: np.random.Generator, field_px: int) -> NDArray[np.float32]:
    """Chains of grown-together, fuzzy spheres: soot, residue of a polymer; 1 where it is thick."""
    total = np.zeros((field_px, field_px), np.float32)
    radius = float(np.exp(rng.uniform(math.log(6.0), math.log(60.0))))
    at = rng.uniform(0.0, field_px, 2)
    heading = rng.uniform(0.0, 6.3)
    for _ in range(int(rng.integers(4, 30))):
        heading += rng.normal(0.0, 0.9)
        at = at + radius * rng.uniform(0.5, 1.1) * np.array([math.sin(heading), math.cos(heading)])
        ball = draw_projection(
            rng,
            "round",
            centre=(at[0], at[1]),
            radius_px=radius * rng.uniform(0.8, 1.2),
            field_px=field_px,
        )
        if ball is not None:
            total[ball.field] += ball.thickness / np.float32(2.0 * radius)
    soft = cv2.GaussianBlur(total, (0, 0), max(0.8, radius * rng.uniform(0.05, 0.3)))
    return np.minimum(np.asarray(soft, np.float32), 4.0)


def _draw_look(rng: np.random.Generator) -> _Look:
    def sometimes(chance: float) -> float:
        return float(rng.uniform(0.2, 1.0)) if rng.random() < chance else 0.0

    return _Look(
        depth=float(np.exp(rng.uniform(math.log(0.12), math.log(4.0)))),
        phase=float(rng.uniform(0.2, 2.5)),
        bragg=(float(rng.uniform(0.0, 0.6)), float(rng.uniform(0.3, 2.5)))
        if rng.random() < 0.6
        else (0.0, 0.0),
        mottling=sometimes(0.35),
        fringes=sometimes(0.12),
        bend=sometimes(0.25),
        shell=sometimes(0.15),
        hollow=sometimes(0.12),
    )


def _particles(rng: np.random.Generator, field_px: int) -> tuple[Truth, NDArray[np.complex64]]:
    """Truth, and phase and half absorption of the particles."""
    truth = Truth.empty(field_px)
    total = np.zeros((field_px, field_px), np.complex64)
    arrangement, radius_px = _draw_arrangement(rng, field_px)
    centres, radii = place_particles(
        rng,
        arrangement,
        field_px=field_px,
        radius_px=radius_px,
        spread=float(np.exp(rng.uniform(math.log(0.02), math.log(0.7)))),
    )
    look, forms = _draw_look(rng), _draw_forms(rng)
    flat = rng.random() < 0.15  # plates of one thickness, whatever their width
    for number, (centre, radius) in enumerate(zip(centres, radii, strict=True), start=1):
        if radius < 2.0:
            continue
        form = forms[int(rng.integers(len(forms)))] if radius > 5.0 else "round"
        hollow = rng.random() < look.hollow
        drawn = draw_projection(
            rng,
            form,
            centre=(centre[0], centre[1]),
            radius_px=radius,
            field_px=field_px,
            hollow=hollow,
        )
        if drawn is None:
            continue
        truth.add(number, drawn)
        relative = drawn.thickness / np.float32(2.0 * (radius if flat else radius_px))
        depth = np.float32(look.depth) * relative * _contrast(rng, look, drawn, centre, radius)
        field = total[drawn.field]
        field.imag += np.float32(0.5) * np.minimum(depth, 12.0)
        field.real += np.float32(look.phase) * (1.0 - np.exp(-relative * np.float32(2.0)))
    return truth, total


def _draw_arrangement(rng: np.random.Generator, field_px: int) -> tuple[Arrangement, float]:
    """How the particles lie, and their median radius in pixels."""
    how = rng.random()
    if how < 0.22:  # tiny ones
        arrangement: Arrangement = "superlattice" if rng.random() < 0.6 else "apart"
        if rng.random() < 0.15:
            arrangement = "touching"
        return arrangement, float(rng.uniform(2.5, 7.0))
    if how < 0.31:
        return "close-up", float(np.exp(rng.uniform(math.log(0.25), math.log(1.5))) * field_px)
    arrangements: tuple[Arrangement, ...] = ("apart", "touching", "heaped", "superlattice")
    arrangement = arrangements[int(rng.choice(4, p=[0.3, 0.35, 0.22, 0.13]))]
    return arrangement, float(np.exp(rng.uniform(math.log(5.0), math.log(90.0))))


def _draw_forms(rng: np.random.Generator) -> tuple[Form, ...]:
    """Forms of one picture's particles: mostly of one kind, as a synthesis gives them."""
    how = rng.random()
    if how < 0.4:
        return ("round",)
    if how < 0.7:
        return (FORMS[int(rng.integers(len(FORMS)))],)
    if how < 0.85:
        return ("round", FORMS[int(rng.integers(len(FORMS)))])
    return FORMS


def _contrast(
    rng: np.random.Generator,
    look: _Look,
    drawn: Projection,
    centre: NDArray[np.float64],
    radius: float,
) -> NDArray[np.float32]:
    """Factor (h, w) of a particle's optical depth: diffraction, spots, fringes, shells."""
    part, strength = look.bragg
    base = float(np.exp(rng.normal(0.0, 0.1)))
    if rng.random() < part:
        base *= 1.0 + strength * rng.random()
    factor = np.full(drawn.outline.shape, np.float32(base))
    if radius < 6.0:
        return factor
    height, width = drawn.outline.shape
    side, here = max(height, width), np.s_[:height, :width]
    if rng.random() < look.mottling:
        spots = slow(rng, side, waves=float(np.exp(rng.uniform(0.3, 2.3))))[here]
        factor *= np.clip(1.0 + np.float32(rng.uniform(0.1, 0.8)) * spots, 0.15, 3.0)
    y, x = drawn.grid((centre[0], centre[1]))
    if rng.random() < look.fringes:
        period = np.float32(radius * rng.uniform(0.15, 0.6))
        wave = np.cos(np.float32(2.0 * math.pi) * drawn.thickness / period)
        factor *= 1.0 + np.float32(rng.uniform(0.1, 0.4)) * wave
    if rng.random() < look.bend:
        for _ in range(int(rng.integers(1, 4))):
            angle, curve = rng.uniform(0.0, math.pi), rng.normal(0.0, 0.5 / radius)
            u = y * np.float32(math.sin(angle)) + x * np.float32(math.cos(angle))
            v = x * np.float32(math.sin(angle)) - y * np.float32(math.cos(angle))
            way = u - np.float32(rng.normal(0.0, 0.5) * radius) + np.float32(curve) * v * v
            width = np.float32(radius * rng.uniform(0.04, 0.25))
            size = np.float32(rng.uniform(-0.7, 2.0))
            factor *= 1.0 + size * np.exp(-np.square(way / width))
    if rng.random() < look.shell:
        core = np.float32(radius * rng.uniform(0.3, 0.8))
        shift = rng.normal(0.0, 0.1 * radius, 2)
        distance = np.hypot(y - np.float32(shift[0]), x - np.float32(shift[1]))
        factor *= np.where(distance < core, np.float32(rng.uniform(1.5, 5.0)), np.float32(0.8))
    return factor


def _variance(background: NDArray[np.float32], electrons_per_px: float) -> NDArray[np.float32]:
    """Variance (H, W) of the support's grain and of shot noise after a 3x3 median (a quarter)."""
    grains = background - cv2.blur(background, (15, 15))
    shot = np.float32(0.25 / electrons_per_px) * cv2.blur(background, (15, 15))
    return np.asarray(cv2.blur(grains * grains, (41, 41)) + shot, np.float32)

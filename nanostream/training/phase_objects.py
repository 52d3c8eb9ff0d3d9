"""Lattice images made in a fifth of a second: crystals as phase gratings on amorphous matter.

`draw_lattice_picture` makes one: particles whose phase is their thickness times a mean and some
fringes, on a support that is noise with the spectrum of amorphous matter, through the transfer
function of `nanostream.training.imaging`. There is no multiple scattering and no atom; what there
is, is breadth: every defocus, any spacing, any thickness and dose. `nanostream.training.multislice`
makes fewer and truer ones.

Kinds
-----
"usual"
    particles of all sizes, strong to faint.
"faint"
    small dots of weak contrast (CdSe of 1.6 to 4 nm) on 4 to 10 nm of carbon at low dose: the
    hardest sample of Groschner et al. (2020), https://arxiv.org/abs/2001.05022.
"bare"
    supports of all kinds without a particle, soot with graphitic fringes, near focus and
    astigmatic as often as not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from nanostream.training.imaging import Optics, draw_camera, draw_optics, expose, image_wave
from nanostream.training.pictures import Picture, Truth, visible_particles
from nanostream.training.placement import Arrangement, place_particles
from nanostream.training.presentation import present
from nanostream.training.projections import Form, draw_projection
from nanostream.training.textures import blobs, grain, patches, slow

__all__ = ["LatticeKind", "draw_lattice_picture"]

LatticeKind = Literal["usual", "faint", "bare"]

_MARGIN_PX = 32

#: Spacings of Au, Pt, Pd, Ag, CdSe, CeO2, ZnO, PbS and their like that an image can show, nm.
_SPACINGS_NM = (
    0.0816, 0.0975, 0.1177, 0.1230, 0.1355, 0.1387, 0.1442, 0.1564, 0.1631, 0.1911, 0.1945,
    0.1980, 0.2024, 0.2039, 0.2150, 0.2246, 0.2265, 0.2355, 0.2476, 0.2554, 0.2603, 0.2705,
    0.2814, 0.2970, 0.3124, 0.3290, 0.3430, 0.3510, 0.3720, 0.4180, 0.4770,
)  # fmt: skip


@dataclass(frozen=True)
class _Matter:
    """Materials of a scene's particles and of its support.

    Attributes
    ----------
    absorption, phase
        Of a particle's matter, per nm of thickness.
    fringe
        Amplitude of a strong fringe, of the phase.
    """

    absorption: float
    phase: float
    fringe: float


def draw_lattice_picture(
    rng: np.random.Generator, *, size_px: int, kind: LatticeKind = "usual"
) -> Picture:
    """Micrograph of a support with crystals, and its truth.

    Parameters
    ----------
    size_px
        Height and width.
    kind
        See the module.
    """
    field_px = size_px + 2 * _MARGIN_PX
    if kind == "faint":
        pixel_size_nm = float(np.exp(rng.uniform(math.log(0.018), math.log(0.062))))
    else:
        pixel_size_nm = float(np.exp(rng.uniform(math.log(0.012), math.log(0.085))))
    optics = draw_optics(rng, pixel_size_nm=pixel_size_nm)
    if kind == "bare" and rng.random() < 0.6:  # as `default` of 2026-11 failed on
        optics = replace(
            optics,
            defocus_nm=float(rng.normal(0.0, 8.0)),
            astigmatism_nm=float(rng.uniform(1.0, 14.0)),
            cs_mm=float(rng.uniform(-0.03, 0.03)),
        )
    support = _support(rng, field_px, pixel_size_nm, thick=kind == "faint")
    if rng.random() < (0.55 if kind == "bare" else 0.06):
        support += _soot(rng, field_px, pixel_size_nm)
    truth, particles = Truth.empty(field_px), None
    if kind != "bare":
        truth, particles = _particles(rng, field_px, pixel_size_nm, faint=kind == "faint")
        _sink(rng, support, truth)
    intensity, signal = _intensities(support, particles, optics, pixel_size_nm)
    camera = draw_camera(rng, least=1.5 if kind == "usual" else 2.0, most=2500.0)
    if kind == "faint":
        camera = draw_camera(rng, least=2.0, most=400.0)
    if signal is not None:
        noise = _variance(intensity - signal, camera.electrons_per_px)
        truth = visible_particles(
            truth, signal, noise, least_ratio=0.28, least_snr=5.0, grain_px=3.0
        )
    if rng.random() < 0.35:
        slope = np.float32(0.3 * rng.random() ** 2)
        intensity = intensity * (1.0 + slope * slow(rng, field_px, waves=rng.uniform(0.5, 2.0)))
    counts = expose(intensity, camera, rng)
    inner = slice(_MARGIN_PX, _MARGIN_PX + size_px)
    picture = Picture(np.empty((0, 0), np.int16), truth.cut(_MARGIN_PX), f"lattice {kind}")
    return present(rng, np.ascontiguousarray(counts[inner, inner]), picture, journal=0.08)


def _support(
    rng: np.random.Generator, field_px: int, pixel_size_nm: float, *, thick: bool
) -> NDArray[np.complex64]:
    """Phase (real) and half absorption (imaginary) of the amorphous film.

    Its grain is that of a carbon network seen through some nm: white noise with the fall of an
    atom's potential, and a coarser one of the film's roughness.
    """
    strength = np.exp(rng.uniform(math.log(0.01), math.log(0.2)))
    if thick:  # 4 to 10 nm of carbon
        strength = np.exp(rng.uniform(math.log(0.03), math.log(0.16)))
    atom_px = rng.uniform(0.03, 0.06) / pixel_size_nm
    phase = grain(rng, field_px, length_px=atom_px)
    if rng.random() < 0.7:
        coarse_px = rng.uniform(0.12, 0.5) / pixel_size_nm
        phase += np.float32(rng.uniform(0.1, 0.8)) * grain(rng, field_px, length_px=coarse_px)
    phase *= np.float32(strength)
    relief = np.ones((field_px, field_px), np.float32)
    if rng.random() < 0.4:
        hills = slow(rng, field_px, waves=rng.uniform(0.7, 5.0))
        relief *= np.float32(1.0) + np.float32(rng.uniform(0.05, 0.6)) * hills
    if rng.random() < 0.15:  # steps
        part = rng.uniform(0.2, 0.8)
        step = patches(rng, field_px, part=part, waves=rng.uniform(0.6, 2.0))
        relief *= np.float32(1.0) + np.float32(rng.uniform(0.3, 1.5)) * step
    if rng.random() < 0.15 and not thick:  # holes
        hole = patches(rng, field_px, part=rng.uniform(0.05, 0.6), waves=rng.uniform(0.5, 2.0))
        relief *= 1.0 - hole
    if rng.random() < 0.3:  # dirt
        dirt = blobs(rng, field_px, count=int(rng.integers(1, 8)), largest_px=0.3 * field_px)
        relief *= np.float32(1.0) + np.float32(rng.uniform(0.3, 1.5)) * dirt
    # A carbon film's mean potential against the deviation of its grain; little is absorbed.
    mean_phase = np.float32(rng.uniform(2.0, 8.0) * strength)
    absorption = np.float32(rng.uniform(0.0, 0.08))
    film = np.empty((field_px, field_px), np.complex64)
    film.real = phase * np.sqrt(relief) + mean_phase * relief
    film.imag = np.float32(0.5) * absorption * mean_phase * relief
    return film


def _soot(rng: np.random.Generator, field_px: int, pixel_size_nm: float) -> NDArray[np.complex64]:
    """Spheres and ribbons of turbostratic carbon: short curved fringes of 0.34 to 0.4 nm.

    Part of the fringes shows where they stand edge-on, in an onion's rings or a ribbon's bands.
    """
    total = np.zeros((field_px, field_px), np.complex64)
    for _ in range(int(rng.integers(1, 5))):
        radius = rng.uniform(2.5, 14.0) / pixel_size_nm
        centre = rng.uniform(-0.3 * radius, field_px + 0.3 * radius, 2)
        form: Form = "round" if rng.random() < 0.6 else "lump"
        body = draw_projection(
            rng, form, centre=(centre[0], centre[1]), radius_px=radius, field_px=field_px
        )
        if body is None:
            continue
        thickness = body.thickness * np.float32(pixel_size_nm)
        spacing = rng.uniform(0.335, 0.42) / pixel_size_nm
        y, x = np.mgrid[body.field].astype(np.float32)
        warp = np.float32(rng.uniform(0.5, 3.0)) * np.float32(spacing)
        bend = slow(rng, field_px, waves=rng.uniform(3.0, 14.0))[body.field]
        if rng.random() < 0.7:  # layers around a middle that is not the sphere's
            middle = centre + rng.normal(0.0, 0.25 * radius, 2)
            way = np.hypot(y - np.float32(middle[0]), x - np.float32(middle[1]))
        else:
            angle = rng.uniform(0.0, math.pi)
            way = y * np.float32(math.sin(angle)) + x * np.float32(math.cos(angle))
        order = np.clip(
            grain(rng, field_px, length_px=rng.uniform(0.5, 1.5) / pixel_size_nm)[body.field]
            + np.float32(rng.uniform(-0.5, 0.8)),
            0.0,
            1.5,
        )
        rings = np.cos(np.float32(2.0 * math.pi / spacing) * (way + warp * bend))
        phase = np.float32(rng.uniform(0.01, 0.03)) * thickness
        field = total[body.field]
        field.real += phase * (1.0 + np.float32(rng.uniform(0.3, 2.5)) * order * rings)
        amorphous = grain(rng, field_px, length_px=0.05 / pixel_size_nm)[body.field]
        field.real += np.float32(rng.uniform(0.02, 0.08)) * amorphous * np.sqrt(thickness)
        field.imag += np.float32(0.03) * phase
    return total


def _particles(
    rng: np.random.Generator, field_px: int, pixel_size_nm: float, *, faint: bool
) -> tuple[Truth, NDArray[np.complex64]]:
    """Truth, and phase and half absorption of the crystals."""
    truth = Truth.empty(field_px)
    total = np.zeros((field_px, field_px), np.complex64)
    if faint:
        radius_px = rng.uniform(0.8, 2.0) / pixel_size_nm
        matter = _Matter(
            absorption=float(rng.uniform(0.002, 0.015)),
            phase=float(rng.uniform(0.02, 0.09)),
            fringe=float(np.exp(rng.uniform(math.log(0.25), math.log(1.4)))),
        )
    else:
        radius_px = float(np.exp(rng.uniform(math.log(9.0), math.log(190.0))))
        radius_px = min(radius_px, 12.0 / pixel_size_nm)
        weak = rng.random() < 0.42
        matter = _Matter(
            absorption=float(rng.uniform(0.0, 0.02 if weak else 0.12)),
            phase=float(rng.uniform(0.01, 0.08) if weak else rng.uniform(0.05, 0.25)),
            fringe=float(np.exp(rng.uniform(math.log(0.1), math.log(2.0)))),
        )
    arrangements: tuple[Arrangement, ...] = (
        "apart", "touching", "heaped", "superlattice", "close-up",
    )  # fmt: skip
    parts = [0.55, 0.2, 0.1, 0.15, 0.0] if faint else [0.4, 0.22, 0.14, 0.14, 0.1]
    arrangement = arrangements[int(rng.choice(5, p=parts))]
    if arrangement == "close-up":
        radius_px = float(rng.uniform(0.35, 1.6) * field_px)
    centres, radii = place_particles(
        rng,
        arrangement,
        field_px=field_px,
        radius_px=radius_px,
        spread=float(rng.uniform(0.03, 0.15) if faint else rng.uniform(0.03, 0.5)),
        most=250,
    )
    spacings = rng.choice(_SPACINGS_NM, 5) * rng.uniform(0.97, 1.03)
    if rng.random() < 0.3:
        spacings = rng.uniform(0.08, 0.48, 5)
    forms = _forms(rng, faint=faint)
    if arrangement == "close-up":
        spacings = np.maximum(spacings, 4.0 * pixel_size_nm)
    clear = rng.uniform(0.3, 1.0)  # part of the crystals on or near a zone axis
    for number, (centre, radius) in enumerate(zip(centres, radii, strict=True), start=1):
        form = forms[int(rng.integers(len(forms)))]
        drawn = draw_projection(
            rng, form, centre=(centre[0], centre[1]), radius_px=max(radius, 3.0), field_px=field_px
        )
        if drawn is None:
            continue
        truth.add(number, drawn)
        thickness_nm = np.minimum(drawn.thickness * np.float32(pixel_size_nm), 12.0)
        y, x = drawn.grid((centre[0], centre[1]))
        # Of a crystal that fills the field nothing but its lattice is seen.
        shown = rng.random() < clear or arrangement == "close-up"
        fringes = _fringes(rng, y, x, spacings / pixel_size_nm, radius_px=radius, clear=shown)
        field = total[drawn.field]
        strength = matter.phase * float(np.exp(rng.normal(0.0, 0.2)))
        field.real += (
            np.float32(strength) * thickness_nm * (1.0 + np.float32(matter.fringe) * fringes)
        )
        dark = matter.absorption * (1.0 + (rng.exponential(1.0) if rng.random() < 0.25 else 0.0))
        field.imag += np.float32(0.5 * dark) * thickness_nm
    return truth, total


def _forms(rng: np.random.Generator, *, faint: bool) -> tuple[Form, ...]:
    """Forms of one scene's particles."""
    if faint or rng.random() < 0.35:
        return ("round", "round", "polyhedron")
    some: tuple[Form, ...] = (
        "round", "round", "polyhedron", "octahedron", "cube", "plate", "tetrahedron", "rod", "lump",
    )  # fmt: skip
    if rng.random() < 0.5:
        return some
    return ("round", some[int(rng.integers(len(some)))])


def _fringes(
    rng: np.random.Generator,
    y: NDArray[np.float32],
    x: NDArray[np.float32],
    spacings_px: NDArray[np.float64],
    *,
    radius_px: float,
    clear: bool,
) -> NDArray[np.float32]:
    """Sum of the fringes of a crystal about its centre, a strong family of amplitude 1.

    Parameters
    ----------
    clear
        Near a zone axis: up to five families; else one or two, weaker.
    """
    if rng.random() < 0.2:  # a twin: another lattice beyond a plane
        angle, place = rng.uniform(0.0, 2.0 * math.pi), rng.uniform(-0.4, 0.4) * radius_px
        side = y * np.float32(math.sin(angle)) + x * np.float32(math.cos(angle)) > place
        return np.where(
            side,
            _grain_fringes(rng, y, x, spacings_px, clear=clear),
            _grain_fringes(rng, y, x, spacings_px, clear=clear and rng.random() < 0.7),
        )
    return _grain_fringes(rng, y, x, spacings_px, clear=clear)


def _grain_fringes(
    rng: np.random.Generator,
    y: NDArray[np.float32],
    x: NDArray[np.float32],
    spacings_px: NDArray[np.float64],
    *,
    clear: bool,
) -> NDArray[np.float32]:
    angle = rng.uniform(0.0, math.pi)
    first = 1.0 / float(spacings_px[int(rng.integers(len(spacings_px)))])
    vectors = [first * np.array([math.sin(angle), math.cos(angle)])]
    if clear:
        turn = rng.choice([math.pi / 2, math.pi / 3, math.radians(70.53), math.radians(54.74)])
        second = first if rng.random() < 0.6 else 1.0 / float(spacings_px[0])
        vectors.append(second * np.array([math.sin(angle + turn), math.cos(angle + turn)]))
        if rng.random() < 0.6:
            vectors += [vectors[0] - vectors[1], vectors[0] + vectors[1]]
    else:
        strength = rng.uniform(0.0, 0.8)
    total = np.zeros(np.broadcast_shapes(y.shape, x.shape), np.float32)
    for order, vector in enumerate(vectors):
        if np.hypot(*vector) > 0.48:  # beyond the grid
            continue
        size = rng.uniform(0.4, 1.0) * (0.7 if order > 1 else 1.0) if clear else strength
        way = np.float32(2.0 * math.pi * vector[0]) * y + np.float32(2.0 * math.pi * vector[1]) * x
        total += np.float32(size) * np.cos(way + np.float32(rng.uniform(0.0, 2.0 * math.pi)))
    return total


def _sink(rng: np.random.Generator, support: NDArray[np.complex64], truth: Truth) -> None:
    """Sometimes the particles displace some of the amorphous matter, in place."""
    if rng.random() < 0.3:
        grainless = np.float32(rng.uniform(0.3, 1.0))
        inside = truth.instances > 0
        mean = np.complex64(support[~inside].mean()) if not inside.all() else np.complex64(0)
        support[inside] = mean + (support[inside] - mean) * grainless


def _intensities(
    support: NDArray[np.complex64],
    particles: NDArray[np.complex64] | None,
    optics: Optics,
    pixel_size_nm: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Mean image, and its difference from that of the support alone."""
    bare = image_wave(np.exp(np.complex64(1j) * support), optics, pixel_size_nm)
    if particles is None:
        return bare, None
    wave = np.exp(np.complex64(1j) * (support + particles))
    intensity = image_wave(wave, optics, pixel_size_nm)
    return intensity, intensity - bare


def _variance(bare: NDArray[np.float32], electrons_per_px: float) -> NDArray[np.float32]:
    """Variance (H, W) of what is not of the particles: the support's grain and shot noise.

    Shot noise counts a quarter: a 3x3 median comes before the network.
    """
    grains = bare - cv2.blur(bare, (31, 31))
    shot = 0.25 * float(bare.mean()) / electrons_per_px
    return np.asarray(cv2.blur(grains * grains, (61, 61)) + np.float32(shot), np.float32)

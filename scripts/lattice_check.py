"""Lattice spacings, phases and false alarms on simulated particles of known phase, as tables.

::

    python scripts/lattice_check.py                          (particles on a zone axis; 4 minutes)
    python scripts/lattice_check.py --scenes FOLDER...       (sets of nanostream simulate-training)

The first simulates, for each phase, spheres of 4 to 5.6 nm on 2 nm of carbon along a low-index
direction, and bare carbon. The second takes particles as they come: 1 to 12 nm, twinned,
overlapping, in any direction, at any defocus and dose. Both print, for each phase, how many
particles show fringes, whether the right phase is among those named, and the errors of the
strongest fringes' spacing; then how often discs laid on bare supports are said to have fringes. The
tables are in docs/reference/lattice.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nanostream.particles.lattice import Evidence, measure_lattice
from nanostream.particles.phases import PHASES
from nanostream.particles.reflections import reflections

#: Names of phases here, of material and structure there.
NAMES = {
    ("CdSe", "wurtzite"): "CdSe wurtzite",
    ("CdSe", "zincblende"): "CdSe zinc blende",
    **{(metal, "fcc"): metal for metal in ("Au", "Ag", "Pt", "Pd")},
    ("CeO2", "fluorite"): "CeO2",
}
#: Radii of the discs that are laid on bare supports, in nm.
DISCS_NM = (1.0, 1.8, 3.0)


class View(NamedTuple):
    """One micrograph and what is in it."""

    pixels: NDArray[Any]
    instances: NDArray[np.int32]
    scene: dict[str, Any]


def saved(folders: list[Path], exposures: int) -> Iterator[View]:
    for folder in folders:
        for path in sorted(folder.glob("*.npz")):
            with np.load(path) as stored:
                scene = json.loads(str(stored["scene"]))
                for pixels in stored["pixels"][:exposures]:
                    yield View(pixels, stored["instances"].astype(np.int32), scene)


def simulated(scenes: int, seed: int) -> Iterator[View]:
    from nanostream.training.crystals import Particle
    from nanostream.training.micrographs import simulate_micrographs
    from nanostream.training.scenes import draw_scene

    rng = np.random.default_rng(seed)
    for material, structure in [*NAMES, ("", "")]:
        for _ in range(scenes):
            drawn = draw_scene(rng, regime="lattice", images=1, materials=("Au",))
            centres = [(y, x) for y in (3.4, 9.4) for x in (3.4, 9.4)] if material else []
            particles = tuple(
                Particle(
                    material=material,
                    structure=structure,  # type: ignore[arg-type]
                    centre_nm=(2.0 + radius, y, x),
                    radius_nm=radius,
                    twinned=False,
                    on_axis=True,
                    seed=int(rng.integers(2**31)),
                    shape="sphere",
                )
                for (y, x), radius in zip(centres, rng.uniform(2.0, 2.8, 4), strict=False)
            )
            exposures = tuple(
                replace(
                    drawn.exposures[0],
                    defocus_nm=defocus_nm,
                    cs_mm=0.005,
                    astigmatism_nm=2.0,
                    coma_nm=0.0,
                    trefoil_nm=0.0,
                    focal_spread_nm=3.0,
                    aperture_mrad=float("inf"),
                    dose_e_per_a2=2000.0,
                )
                for defocus_nm in (8.0, 60.0)
            )
            scene = replace(
                drawn,
                pixel_size_nm=0.025,
                voltage_kv=300.0,
                support_nm=2.0,
                particles=particles,
                exposures=exposures,
                film="carbon",
                relief=0.0,
                hole=0.0,
                dirt_nm=0.0,
                soot_nm=(),
            )
            made = simulate_micrographs(scene)
            for pixels in made.pixels:
                yield View(pixels, made.instances.astype(np.int32), scene.as_dict())


def discs(radius_px: float, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Labels of up to nine discs on a section."""
    labels = np.zeros(shape, np.int32)
    y, x = np.indices(shape)
    centres = np.arange(radius_px + 2, shape[0] - radius_px - 2, 2 * radius_px + 4)[:3]
    for number, (cy, cx) in enumerate(((a, b) for a in centres for b in centres), 1):
        labels[np.hypot(y - cy, x - cx) < radius_px] = number
    return labels


def rows_of(view: View) -> Iterator[dict[str, Any]]:
    """A row for each particle of a micrograph: the fringes found, beside those that are there."""
    pixel_size_nm, particles = view.scene["pixel_size_nm"], view.scene["particles"]
    if not particles:
        for radius_nm in DISCS_NM:
            labels = discs(radius_nm / pixel_size_nm, view.pixels.shape)
            laid = measure_lattice(labels, view.pixels, pixel_size_nm=pixel_size_nm).particles
            for count in laid[laid.resolved].peaks:
                yield {"phase": "amorphous", "fringes": count > 0}
        return
    found = measure_lattice(view.instances, view.pixels, pixel_size_nm=pixel_size_nm)
    strongest = found.peaks.groupby("label").first()
    for crystal in found.particles[found.particles.resolved].to_dict("records"):
        there = particles[crystal["label"] - 1]
        phase = NAMES.get((there["material"], there["structure"]))
        if phase is None:
            continue
        names = crystal["phases"].split(", ") if crystal["phases"] else []
        row = {
            "phase": phase,
            "diameter_nm": 2 * there["radius_nm"],
            "fringes": crystal["peaks"] > 0,
            "right": phase in names,
            "indexed": crystal["evidence"] == Evidence.ANGLES,
            "names": len(names),
        }
        if crystal["peaks"]:
            peak = strongest.loc[crystal["label"]]
            known = reflections(PHASES[phase], 0.09).spacing_nm
            nearest = known[np.abs(peak.d_nm / known - 1).argmin()]
            row["error"] = peak.d_nm / nearest - 1
            row["deviations"] = (peak.d_nm - nearest) / peak.d_sd_nm
        yield row


def tables(found: pd.DataFrame) -> Iterator[str]:
    particles = found[found.phase != "amorphous"]
    if len(particles):
        sizes = pd.cut(particles.diameter_nm, [0, 2, 3, 4, 6, 20])
        for key, title in ((particles.phase, "phase"), (sizes, "diameter, nm")):
            groups = particles.groupby(key, observed=True)
            yield f"| {title} | resolved | with fringes | right phase named | of them by angles |"
            yield "|---|---|---|---|---|"
            for name, group in groups:
                shown = group[group.fringes]
                by_angles = shown[shown.indexed]
                named = f"{shown.right.mean():.0%}, {shown.names.mean():.1f} named"
                sure = f"{len(by_angles)}: {by_angles.right.mean():.0%}"
                yield f"| {name} | {len(group)} | {len(shown)} | {named} | {sure} |"
            yield f"\n| {title} | median error | within 1 % | within 3 % | rms of error / d_sd |"
            yield "|---|---|---|---|---|"
            for name, group in groups:
                error = group.error.dropna()
                rms = np.sqrt(np.mean(group.deviations.dropna().clip(-5, 5) ** 2))
                yield (
                    f"| {name} | {error.median():+.2%}, absolute {error.abs().median():.2%} "
                    f"| {(error.abs() < 0.01).mean():.0%} | {(error.abs() < 0.03).mean():.0%} "
                    f"| {rms:.1f} |"
                )
            yield ""
        shown = particles[particles.fringes]
        yield f"all: right phase named {shown.right.mean():.1%} of {len(shown)}"
    bare = found[found.phase == "amorphous"]
    if len(bare):
        yield f"amorphous: {int(bare.fringes.sum())} of {len(bare)} discs are said to have fringes"


def main() -> None:
    parser = argparse.ArgumentParser(description="Lattice on simulated particles.")
    parser.add_argument("--scenes", nargs="+", type=Path, help="folders of simulated sets")
    parser.add_argument("--exposures", type=int, default=4, help="of each saved scene")
    parser.add_argument("--each", type=int, default=2, help="scenes to simulate of each phase")
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    views = (
        saved(chosen.scenes, chosen.exposures)
        if chosen.scenes
        else simulated(chosen.each, chosen.seed)
    )
    found = pd.DataFrame([row for view in views for row in rows_of(view)])
    print("\n".join(tables(found)))


if __name__ == "__main__":
    main()

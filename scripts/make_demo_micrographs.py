"""Make the micrographs that ``nanostream demo`` plays as an in-situ movie.

    python scripts/make_demo_micrographs.py

Three scenes of 1024 x 1024 px: gold, CdSe quantum dots, both on one support. Written without
noise, as the mean electron counts of each pixel, so that the player can add the shot noise of
every section anew; with a label of every particle and the parameters. The seed gives streams
that no training, validation or test scene uses (their generators have another spawn key).
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from nanostream.training.exposures import Exposure
from nanostream.training.micrographs import simulate_micrographs
from nanostream.training.scenes import Scene, draw_particles

DEMO_SET = 100
"""First number of the spawn key; the training sets have the first ones."""

FOLDER = Path(__file__).parents[1] / "nanostream" / "acquisition" / "demo"

GREATEST_BYTES = 1_600_000


@dataclass(frozen=True)
class Specimen:
    """Particles and support of one demo micrograph."""

    name: str
    materials: tuple[str, ...]
    pixel_size_nm: float
    radius_nm: tuple[float, float]
    support_nm: float
    coverage: float
    crowding: float


SPECIMENS = (
    Specimen("gold", ("Au",), 0.026, (1.4, 1.6), 2.0, 0.18, 0.2),
    Specimen("cdse", ("CdSe",), 0.024, (1.6, 1.8), 1.5, 0.16, 0.2),
    Specimen("gold-and-cdse", ("Au", "CdSe"), 0.028, (1.5, 1.7), 1.8, 0.18, 0.25),
)

SIZE_PX = 1024
VOLTAGE_KV = 300.0
COUNTS_PER_PIXEL = 120.0


def draw(specimen: Specimen, rng: np.random.Generator) -> Scene:
    """Scene of a specimen, seen by an uncorrected 300 kV microscope near Scherzer focus."""
    field_nm = SIZE_PX * specimen.pixel_size_nm
    particles = draw_particles(
        rng,
        materials=specimen.materials,
        field_nm=field_nm,
        support_nm=specimen.support_nm,
        relief=0.3,
        on_axis=0.7,
        radius_nm=specimen.radius_nm,
        coverage=specimen.coverage,
        crowding=specimen.crowding,
    )
    exposure = Exposure(
        defocus_nm=48.0,
        cs_mm=1.0,
        astigmatism_nm=2.0,
        astigmatism_angle_rad=0.6,
        focal_spread_nm=3.5,
        angular_spread_mrad=0.2,
        aperture_mrad=math.inf,
        dose_e_per_a2=COUNTS_PER_PIXEL / (10.0 * specimen.pixel_size_nm) ** 2,
        mtf_sigma_px=0.5,
        gain_counts_per_e=1.0,
        readout_counts=0.0,
        offset_counts=0.0,
        shading=0.04,
        bad_pixels=0,
    )
    return Scene(
        regime="lattice",
        size_px=SIZE_PX,
        pixel_size_nm=specimen.pixel_size_nm,
        binning=1,
        voltage_kv=VOLTAGE_KV,
        support_nm=specimen.support_nm,
        relief=0.3,
        particles=particles,
        exposures=(exposure,),
        seed=int(rng.integers(2**31)),
    )


def write_png(path: Path, image: NDArray[Any]) -> None:
    """Write a grey PNG, as small as PNG gets, and see that it is small enough."""
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        raise OSError(f"{path}: could not be written")
    size = path.stat().st_size
    if size > GREATEST_BYTES:
        raise SystemExit(f"{path}: {size} bytes, more than {GREATEST_BYTES}")


def number_visible(instances: NDArray[np.uint16], *, least_px: int = 60) -> NDArray[np.uint8]:
    """Labels 1, 2, ... of the particles that are in the field with at least ``least_px`` pixels."""
    numbers, areas = np.unique(instances, return_counts=True)
    visible = numbers[(numbers > 0) & (areas >= least_px)]
    table: NDArray[np.uint8] = np.zeros(int(instances.max()) + 1, np.uint8)
    table[visible] = np.arange(1, len(visible) + 1)
    return np.asarray(table[instances])


def main() -> None:
    """Simulate the specimens and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--seed", type=int, default=2026)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, specimen in enumerate(track(SPECIMENS, description="simulating")):
        sequence = np.random.SeedSequence(arguments.seed, spawn_key=(DEMO_SET, number))
        scene = draw(specimen, np.random.default_rng(sequence))
        micrographs = simulate_micrographs(scene)
        labels = number_visible(micrographs.instances)
        expected = np.rint(micrographs.expected_counts[0]).astype(np.uint16)
        write_png(arguments.out / f"{specimen.name}.png", expected)
        write_png(arguments.out / f"{specimen.name}.label.png", labels)
        exposure = scene.exposures[0]
        entries.append(
            {
                "name": specimen.name,
                "expected_counts": f"{specimen.name}.png",
                "labels": f"{specimen.name}.label.png",
                "materials": list(specimen.materials),
                "particles": int(labels.max()),
                "pixel_size_nm": specimen.pixel_size_nm,
                "voltage_kv": scene.voltage_kv,
                "defocus_nm": exposure.defocus_nm,
                "cs_mm": exposure.cs_mm,
                "dose_e_per_a2": round(exposure.dose_e_per_a2, 1),
                "dose_counts_per_pixel": COUNTS_PER_PIXEL,
                "support_nm": scene.support_nm,
                "spawn_key": [DEMO_SET, number],
            }
        )
    card = {
        "what": "simulated HRTEM micrographs (multislice), mean electron counts without noise; "
        "labels number each particle from 1",
        "command": f"python scripts/make_demo_micrographs.py --seed {arguments.seed}",
        "seed": arguments.seed,
        "versions": {name: version(name) for name in ("abtem", "ase", "numpy")},
        "licence": "BSD-3-Clause",
        "micrographs": entries,
    }
    text = json.dumps(card, indent=2) + "\n"
    (arguments.out / "demo.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

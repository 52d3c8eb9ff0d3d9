"""Do the paper's experiment again, on simulated micrographs: networks, Bragg filter, comparison.

    python scripts/reproduce_paper.py --work ~/nanostream-paper

Simulates Au, CdSe and Pd as the paper images them, trains its three networks (Au only, CdSe only,
both) by its recipe (``nanostream.training.groschner2020.recipe``), tests each on every material,
sets the automatic Bragg filter and the shipped models beside them, and writes table, figures,
verdicts and ``results.json`` to ``docs/paper``. Every scene has a seed of its own, derived from
``--seed``, its material and its number; finished scenes, networks and settings are skipped, so the
command can be stopped and started again. No real micrograph is read.

The paper's text has 1,000 samples in an epoch, its published scripts 1,000 batches of 20; with a
GPU, ``--samples-per-epoch 20000`` is the latter.

``--quick`` runs the whole way on a few small images in a minute; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import platform
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nanostream.analysis import Analyzer
from nanostream.config import Worker
from nanostream.records import Frame, SectionId
from nanostream.segmentation.models import find_model
from nanostream.segmentation.normalization import median_filter
from nanostream.training.evaluation import Confusion
from nanostream.training.groschner2020.bragg import (
    GRID,
    BraggSettings,
    choose_settings,
    segment_lattice,
)
from nanostream.training.groschner2020.datasets import Tile, greatest_count, scale_tile
from nanostream.training.groschner2020.findings import (
    AGREES_WITHIN,
    BRAGG,
    MATERIALS,
    PUBLISHED,
    Counts,
    Finding,
    Published,
    Score,
    confusions,
    judge,
    score,
    stands,
)

if TYPE_CHECKING:
    from nanostream.training import simulation
    from nanostream.training.groschner2020.recipe import PaperRecipe

DOCS = Path(__file__).parents[1] / "docs" / "paper"

BRAGG_OWN = "Bragg filter, own settings"

#: nanostream's own models beside them, as they are for every micrograph.
SHIPPED = {"shipped groschner2020": "groschner2020", "shipped default": "default"}

NETWORKS: dict[str, tuple[str, ...]] = {
    "Au only": ("Au",),
    "CdSe only": ("CdSe",),
    "combined": ("Au", "CdSe"),
}


@dataclass(frozen=True)
class Specimen:
    """What lies on the support and how it is imaged: the paper's conditions for one material.

    Pairs are the least and the greatest value, drawn evenly for each micrograph. What the paper
    gives is marked; the rest is chosen so that what it does give comes out, and by what is usual
    for these microscopes.

    Attributes
    ----------
    pixel_size_nm
        Not in the paper. The lattice of its published Au tile has 0.2355 nm, the spacing of
        (111), at 0.0206 nm a pixel.
    radius_nm
        Of the scene's mean particle. CdSe: 2 nm dots (section II).
    coverage
        Part of the field to cover. Particle pixels are 33 % for Au and 12 % for CdSe
        (section III B).
    support_nm
        All that is amorphous: carbon film (II A: ordinary for Au and Pd, ultra-thin for CdSe), and
        for the dots their ligands and what is left of the solvent.
    defocus_nm
        Standard deviation and greatest value. Au by autofocus, within about 100 nm (II A); CdSe
        taken by hand.
    focal_spread_nm
        Less in the TEAM 0.5 (CdSe) than in the Themis.
    dose_e_per_a2
        Not in the paper; CdSe suffers more from the beam.
    """

    material: str
    pixel_size_nm: float
    radius_nm: tuple[float, float]
    coverage: tuple[float, float]
    support_nm: tuple[float, float]
    defocus_nm: tuple[float, float]
    focal_spread_nm: tuple[float, float]
    dose_e_per_a2: tuple[float, float]


SPECIMENS = {
    one.material: one
    for one in (
        Specimen("Au", 0.020, (2.2, 3.3), (0.05, 0.4), (5, 10), (40, 100), (3, 5), (300, 900)),
        Specimen("CdSe", 0.025, (0.85, 1.1), (0.03, 0.17), (4, 8), (8, 25), (1, 2), (150, 400)),
        Specimen("Pd", 0.020, (2.2, 3.3), (0.05, 0.4), (5, 10), (40, 100), (3, 5), (300, 900)),
    )
}

# Both microscopes correct the spherical aberration, at 300 kV (section II A).
VOLTAGE_KV = 300.0
CS_MM = 0.005


@dataclass(frozen=True)
class Plan:
    """What a run makes; a work folder belongs to one plan."""

    seed: int
    train: int
    validation: int
    test: int
    size_px: int
    crop_px: int
    samples_per_epoch: int
    epochs: int
    batch: int
    bragg_images: int
    bragg_grid: dict[str, list[float]]


def make_plan(arguments: argparse.Namespace) -> Plan:
    """Plan of the paper's numbers, or of a few small images."""
    from nanostream.training.groschner2020.recipe import PaperRecipe

    recipe = PaperRecipe()
    if arguments.quick:
        grid = {"peak_deviations": [5.0, 8.0]}
        return Plan(arguments.seed, 6, 2, 2, 128, 80, 16, 1, 4, 2, grid)
    return Plan(
        seed=arguments.seed,
        train=recipe.training_images,
        validation=recipe.validation_images,
        test=recipe.test_images,
        size_px=recipe.tile_px,
        crop_px=recipe.crop_px,
        samples_per_epoch=arguments.samples_per_epoch or recipe.samples_per_epoch,
        epochs=arguments.epochs or recipe.epochs,
        batch=recipe.batch,
        bragg_images=24,
        bragg_grid={name: list(values) for name, values in GRID.items()},
    )


def check_plan(work: Path, plan: Plan) -> None:
    """Remember the plan of a work folder, and refuse another one's."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / "plan.json"
    text = json.dumps(asdict(plan), indent=2) + "\n"
    if not path.exists():
        path.write_text(text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text:
        raise SystemExit(f"{work} was begun with other settings (plan.json); take another --work")


# Micrographs


def draw(specimen: Specimen, rng: np.random.Generator, *, size_px: int) -> simulation.Scene:
    """Scene of a specimen, one exposure: every image is of another place."""
    from nanostream.training import simulation

    drawn = simulation.draw_scene(rng, materials=(specimen.material,), regime="lattice", images=1)
    support_nm = float(rng.uniform(*specimen.support_nm))
    particles = simulation.draw_particles(
        rng,
        materials=(specimen.material,),
        field_nm=size_px * specimen.pixel_size_nm,
        support_nm=support_nm,
        relief=0.0,
        on_axis=0.4,
        radius_nm=specimen.radius_nm,
        coverage=float(rng.uniform(*specimen.coverage)),
        crowding=0.15,
    )
    deviation_nm, greatest_nm = specimen.defocus_nm
    defocus_nm = np.clip(rng.normal(0.0, deviation_nm), -greatest_nm, greatest_nm)
    exposure = replace(
        drawn.exposures[0],
        defocus_nm=float(defocus_nm),
        cs_mm=float(rng.uniform(-CS_MM, CS_MM)),
        astigmatism_nm=float(abs(rng.normal(0.0, 2.0))),
        focal_spread_nm=float(rng.uniform(*specimen.focal_spread_nm)),
        angular_spread_mrad=0.1,
        aperture_mrad=math.inf,
        dose_e_per_a2=float(rng.uniform(*specimen.dose_e_per_a2)),
        mtf_sigma_px=0.8,
        gain_counts_per_e=20.0,
        readout_counts=5.0,
        offset_counts=0.0,
        shading=float(rng.uniform(0.0, 0.05)),
        # Corrected, and nobody publishes what drifted or was hit.
        trefoil_nm=float(abs(rng.normal(0.0, 10.0))),
        coma_nm=float(abs(rng.normal(0.0, 10.0))),
        vibration_nm=0.02,
        drift_nm=0.0,
        stripes=0.0,
        xrays=0,
    )
    return replace(
        drawn,
        size_px=size_px,
        pixel_size_nm=specimen.pixel_size_nm,
        voltage_kv=VOLTAGE_KV,
        support_nm=support_nm,
        relief=0.0,
        particles=particles,
        exposures=(exposure,),
        film="carbon",
        hole=0.0,
        dirt_nm=0.0,
        soot_nm=(),
    )


def simulate_one(path: Path, seed: int, material: str, number: int, size_px: int) -> None:
    """Simulate a micrograph and write its file (runs in a worker process)."""
    from nanostream.training import simulation

    key = (MATERIALS.index(material), number)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
    while True:
        micrographs = simulation.simulate_micrographs(
            draw(SPECIMENS[material], rng, size_px=size_px)
        )
        if micrographs.label.any():  # the paper discards tiles without a particle (II B)
            break
    simulation.save_micrographs(path, micrographs)


def numbers_of(plan: Plan, material: str) -> dict[str, range]:
    """Numbers of a material's micrographs in each set; Pd is never trained on."""
    counts = (0, 0) if material == "Pd" else (plan.train, plan.validation)
    ends = np.cumsum([0, *counts, plan.test]).tolist()
    names = ("train", "validation", "test")
    return {name: range(ends[k], ends[k + 1]) for k, name in enumerate(names)}


def scene_path(work: Path, material: str, number: int) -> Path:
    """File of one micrograph."""
    return work / "scenes" / material / f"{number:03d}.npz"


def simulate(work: Path, plan: Plan, *, jobs: int, progress: Progress) -> None:
    """Simulate all micrographs that are not there yet."""
    wanted = [
        (scene_path(work, material, number), plan.seed, material, number, plan.size_px)
        for material in MATERIALS
        for number in range(numbers_of(plan, material)["test"].stop)
    ]
    for material in MATERIALS:
        (work / "scenes" / material).mkdir(parents=True, exist_ok=True)
    missing = [item for item in wanted if not item[0].exists()]
    task = progress.add_task("simulating", total=len(wanted), completed=len(wanted) - len(missing))
    if not missing:
        return
    with worker_pool(min(jobs, len(missing))) as pool:
        for future in as_completed([pool.submit(simulate_one, *item) for item in missing]):
            future.result()
            progress.advance(task)


@contextmanager
def worker_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread each, begun afresh: TensorFlow does not live through a fork."""
    names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            yield pool
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@dataclass(frozen=True, eq=False)
class Example:
    """A micrograph as taken, and as the network takes it."""

    pixels: NDArray[np.int16]
    tile: Tile
    pixel_size_nm: float


Data = dict[str, list[Example]]


def read_data(work: Path, plan: Plan) -> Data:
    """All micrographs of each material, in order of their number."""
    data: Data = {}
    for material in MATERIALS:
        data[material] = []
        for number in range(numbers_of(plan, material)["test"].stop):
            with np.load(scene_path(work, material, number)) as scene:
                pixels, label = scene["pixels"][0], scene["instances"] > 0
                size_nm = float(json.loads(str(scene["scene"]))["pixel_size_nm"])
            tile = Tile(median_filter(pixels), label, material)
            data[material].append(Example(pixels, tile, size_nm))
    return data


def maxima_of(data: Data) -> dict[str, float]:
    """Greatest filtered count of each material's data set, by which it is divided (II B)."""
    return {name: float(greatest_count(one.tile for one in data[name])) for name in data}


def members(plan: Plan, network: str) -> dict[str, list[tuple[str, int]]]:
    """Material and number of the micrographs that a network is trained and validated on.

    The combined network gets as many as the others, drawn from their sets (section III C).
    """
    found = {}
    for key, name in enumerate(("train", "validation")):
        pool = [
            (material, number)
            for material in NETWORKS[network]
            for number in numbers_of(plan, material)[name]
        ]
        if len(NETWORKS[network]) > 1:
            rng = np.random.default_rng(np.random.SeedSequence(plan.seed, spawn_key=(9, key)))
            count = plan.train if name == "train" else plan.validation
            pool = [pool[int(k)] for k in rng.choice(len(pool), count, replace=False)]
        found[name] = pool
    return found


# Networks


def recipe_of(plan: Plan, network: str) -> PaperRecipe:
    """The paper's recipe with the numbers of the plan."""
    from nanostream.training.groschner2020.recipe import PaperRecipe

    return PaperRecipe(
        training_images=plan.train,
        validation_images=plan.validation,
        test_images=plan.test,
        tile_px=plan.size_px,
        crop_px=plan.crop_px,
        samples_per_epoch=plan.samples_per_epoch,
        epochs=plan.epochs,
        batch=plan.batch,
        seed=plan.seed + list(NETWORKS).index(network),
    )


def slug(network: str) -> str:
    """Name of a network's files."""
    return network.replace(" ", "-")


def train(
    work: Path,
    plan: Plan,
    network: str,
    data: Data,
    maxima: Mapping[str, float],
    *,
    progress: Progress,
) -> dict[str, Any]:
    """Record of a trained network; it is trained if it has not been."""
    folder = work / "networks" / slug(network)
    record_path = folder / "record.json"
    recipe = recipe_of(plan, network)
    task = progress.add_task(f"training {network}", total=recipe.epochs * recipe.steps_per_epoch)
    if record_path.exists():
        progress.update(task, completed=progress.tasks[task].total)
        return dict(json.loads(record_path.read_text(encoding="utf-8")))
    import keras

    from nanostream.segmentation.unet import PAPER_FEATURES, build_unet
    from nanostream.training.groschner2020 import recipe as paper

    folder.mkdir(parents=True, exist_ok=True)
    chosen = {
        name: [data[material][number].tile for material, number in pairs]
        for name, pairs in members(plan, network).items()
    }

    def maximum(tile: Tile) -> float:
        return maxima[tile.source]

    def on_epoch(done: int, loss: float, validation: float) -> None:
        progress.console.print(
            f"{datetime.now(UTC):%H:%M:%S} {network}: epoch {done}, loss {loss:.4f}, "
            f"validation {validation:.4f}"
        )

    start, cpu = time.monotonic(), cpu_s()
    keras.utils.set_random_seed(recipe.seed)
    model = build_unet(PAPER_FEATURES, dropout=recipe.dropout)
    history = paper.fit_paper(
        model,
        chosen["train"],
        chosen["validation"],
        recipe,
        maximum=maximum,
        on_epoch=on_epoch,
        on_step=lambda done, _: progress.update(task, completed=done),
    )
    progress.update(task, completed=progress.tasks[task].total)
    found = paper.predict_tiles(model, chosen["train"], maximum=maximum)
    truth = np.stack([tile.label for tile in chosen["train"]])
    threshold = paper.choose_threshold_for_accuracy(found, truth)
    weights = folder / "weights.weights.h5"
    model.save_weights(weights)
    record = {
        "materials": list(NETWORKS[network]),
        "recipe": asdict(recipe),
        "epochs": history.epochs,
        "stopped_early": history.stopped_early,
        "loss": list(history.loss),
        "validation_loss": list(history.validation_loss),
        "threshold": threshold,
        "training_accuracy": Confusion.of(truth, found > threshold).accuracy,
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "wall_s": round(time.monotonic() - start),
        "cpu_s": round(cpu_s() - cpu),
    }
    write_card(folder / "card.json", network, record, data)
    write_json(record_path, record)
    return record


def write_card(path: Path, network: str, record: Mapping[str, Any], data: Data) -> None:
    """Card of a network as ``nanostream.segmentation.models`` reads it; scores come later."""
    from nanostream.segmentation.unet import PAPER_FEATURES

    sizes = [data[material][0].pixel_size_nm for material in record["materials"]]
    card = {
        "name": f"groschner2020-{slug(network)}",
        "architecture": "unet",
        "features": list(PAPER_FEATURES),
        # Of the session: each data set is divided by its own.
        "normalization": "dataset-max",
        "normalization_maximum": None,
        "threshold": record["threshold"],
        "pixel_size_nm": [min(sizes), max(sizes)],
        "materials": record["materials"],
        "training": {
            "data": "simulated HRTEM micrographs only (abTEM multislice), no real image",
            **{k: record[k] for k in ("recipe", "epochs", "loss", "validation_loss")},
            "versions": versions(),
        },
        "weights": "weights.weights.h5",
        "weights_sha256": record["weights_sha256"],
        "licence": "BSD-3-Clause",
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"python scripts/{Path(__file__).name} --work WORK "
        f"--seed {record['recipe']['seed'] - list(NETWORKS).index(network)}",
    }
    write_json(path, card)


def load_network(work: Path, network: str) -> Any:
    """A trained network (Keras)."""
    from nanostream.segmentation.unet import PAPER_FEATURES, build_unet

    model = build_unet(PAPER_FEATURES)
    model.load_weights(work / "networks" / slug(network) / "weights.weights.h5")
    return model


# Bragg filter


def choose_bragg(
    examples: list[tuple[NDArray[np.int16], NDArray[np.bool_], float]],
    grid: dict[str, list[float]],
) -> dict[str, float]:
    """Settings of the Bragg filter for training images (runs in a worker process)."""
    images, labels, sizes = zip(*examples, strict=True)
    return asdict(choose_settings(images, labels, pixel_sizes_nm=sizes, grid=grid))


def bragg_settings(
    work: Path, plan: Plan, data: Data, *, jobs: int, progress: Progress
) -> dict[str, BraggSettings]:
    """Settings chosen on the training images of each network; the first of them, to save time."""
    path = work / "bragg.json"
    task = progress.add_task("choosing Bragg settings", total=len(NETWORKS))
    if path.exists():
        chosen = json.loads(path.read_text(encoding="utf-8"))
        progress.update(task, completed=len(NETWORKS))
    else:
        chosen = {}
        with worker_pool(min(jobs, len(NETWORKS))) as pool:
            futures = {}
            for network in NETWORKS:
                pairs = members(plan, network)["train"][: plan.bragg_images]
                picked = [data[material][number] for material, number in pairs]
                shown = [(one.pixels, one.tile.label, one.pixel_size_nm) for one in picked]
                futures[pool.submit(choose_bragg, shown, plan.bragg_grid)] = network
            for future in as_completed(futures):
                chosen[futures[future]] = future.result()
                progress.advance(task)
        write_json(path, chosen)
    return {network: BraggSettings(**chosen[network]) for network in NETWORKS}


# Scores


Masks = dict[tuple[str, str], NDArray[np.bool_]]
"""Masks (N, H, W) of the test micrographs by method and material."""


def make_masks(
    work: Path,
    plan: Plan,
    data: Data,
    records: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, BraggSettings],
    *,
    progress: Progress,
) -> Masks:
    """Masks of every method on every material's test set."""
    from nanostream.training.groschner2020.recipe import predict_tiles

    maxima = maxima_of(data)
    tests = {name: [data[name][k] for k in numbers_of(plan, name)["test"]] for name in MATERIALS}
    methods = len(NETWORKS) + 1 + len(SHIPPED)
    task = progress.add_task("testing", total=len(MATERIALS) * methods + 2)
    masks: Masks = {}
    for network in NETWORKS:
        model = load_network(work, network)
        for material, examples in tests.items():
            tiles = [one.tile for one in examples]
            found = predict_tiles(model, tiles, maximum=lambda tile: maxima[tile.source])
            masks[network, material] = found > records[network]["threshold"]
            progress.advance(task)
    wanted = [(BRAGG, material, "combined") for material in MATERIALS]
    wanted += [(BRAGG_OWN, material, f"{material} only") for material in ("Au", "CdSe")]
    for method, material, chosen_on in wanted:
        masks[method, material] = np.stack(
            [
                segment_lattice(one.pixels, settings[chosen_on], pixel_size_nm=one.pixel_size_nm)
                > 0
                for one in tests[material]
            ]
        )
        progress.advance(task)
    for method, name in SHIPPED.items():
        analyzer = Analyzer(Worker(model=name))
        for material, examples in tests.items():
            frames = [
                Frame(SectionId(material, k), one.pixels, pixel_size_nm=one.pixel_size_nm)
                for k, one in enumerate(examples)
            ]
            masks[method, material] = np.stack([analyzer(frame).labels > 0 for frame in frames])
            progress.advance(task)
    return masks


# Figures


def typical(counts: Counts, material: str) -> int:
    """Test micrograph with the middle accuracy of the combined network: neither best nor worst."""
    found = counts["combined", material]
    accuracy = found[:, [0, 3]].sum(1) / found.sum(1)
    return int(np.argsort(accuracy, kind="stable")[(len(accuracy) - 1) // 2])


def new_figure(width: float, height: float) -> Any:
    """Figure whose SVG is the same in every run."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "nanostream"
    return Figure(figsize=(width, height), dpi=90, layout="constrained")


def save(figure: Any, path: Path) -> None:
    """Write a figure without the date."""
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {})


def draw_examples(path: Path, plan: Plan, data: Data, masks: Masks, counts: Counts) -> None:
    """Micrographs of the middle, their truth, and the masks of every method."""
    methods = [*NETWORKS, BRAGG]
    figure = new_figure(1.75 * (len(methods) + 2), 1.95 * len(MATERIALS))
    grid = figure.subplots(len(MATERIALS), len(methods) + 2, squeeze=False)
    for row, material in zip(grid, MATERIALS, strict=True):
        number = typical(counts, material)
        example = data[material][numbers_of(plan, material)["test"][number]]
        pixels, truth = example.tile.pixels, example.tile.label
        low, high = np.percentile(pixels, (0.5, 99.5))
        row[0].imshow(pixels, cmap="gray", vmin=low, vmax=high)
        width_nm = plan.size_px * example.pixel_size_nm
        row[0].set_title(f"{material}, {width_nm:.1f} nm wide", fontsize="small")
        row[1].imshow(truth, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
        row[1].set_title("truth", fontsize="small")
        for axes, method in zip(row[2:], methods, strict=True):
            mask = masks[method, material][number]
            axes.imshow(mask, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(f"{method}: {np.mean(mask == truth):.0%}", fontsize="small")
    for axes in grid.flat:
        axes.set_axis_off()
    save(figure, path)


def draw_bars(path: Path, scores: Mapping[tuple[str, str], Score]) -> None:
    """Our numbers beside the paper's."""
    figure = new_figure(10.5, 4.2)
    panels = figure.subplots(1, 2, width_ratios=(8, 4), sharey=True)
    for axes, measure, title in zip(
        panels, ("accuracy", "dice"), ("pixel accuracy", "Dice"), strict=True
    ):
        shown = [
            (key, getattr(published, measure))
            for key, published in PUBLISHED.items()
            if getattr(published, measure) is not None
        ]
        at = np.arange(len(shown))
        ours = np.array([getattr(scores[key], measure) for key, _ in shown])
        ends = np.array([getattr(scores[key], f"{measure}_interval") for key, _ in shown])
        errors = np.abs(ends.T - ours)
        axes.bar(at - 0.2, [paper for _, paper in shown], 0.38, label="paper", color="0.7")
        axes.bar(at + 0.2, ours, 0.38, yerr=errors, capsize=2, label="here", color="tab:blue")
        if measure == "accuracy":
            for x, (key, _) in zip(at, shown, strict=True):
                empty = scores[key].empty_accuracy
                label = "here, an empty mask" if x == 0 else None
                axes.hlines(empty, x + 0.01, x + 0.39, color="tab:red", lw=1.5, label=label)
        names = [f"{method}\non {material}" for (method, material), _ in shown]
        axes.set_xticks(at, names, fontsize="small", rotation=30)
        axes.set(title=title, ylim=(0, 1.25))
        axes.set_yticks(np.linspace(0, 1, 6))
    panels[0].legend(ncols=3, fontsize="small", loc="upper center")
    save(figure, path)


def draw_confusions(path: Path, scores: Mapping[tuple[str, str], Score]) -> None:
    """Confusion matrices as the paper draws them, a row for each method."""
    methods = [*NETWORKS, BRAGG]
    figure = new_figure(2.1 * len(MATERIALS), 2.1 * len(methods))
    grid = figure.subplots(len(methods), len(MATERIALS), squeeze=False)
    for row, method in zip(grid, methods, strict=True):
        for axes, material in zip(row, MATERIALS, strict=True):
            rows = scores[method, material].rows
            axes.imshow(rows, cmap="Blues", vmin=0, vmax=1)
            for y, parts in enumerate(rows):
                for x, part in enumerate(parts):
                    colour = "white" if part > 0.5 else "black"
                    axes.text(x, y, f"{part:.2f}", ha="center", va="center", color=colour)
            axes.set_xticks((0, 1), ("background", "particle"), fontsize="x-small")
            axes.set_yticks(
                (0, 1), ("background", "particle"), fontsize="x-small", rotation=90, va="center"
            )
            axes.set_title(f"{method} on {material}", fontsize="small")
    figure.supxlabel("taken for", fontsize="small")
    figure.supylabel("is", fontsize="small")
    save(figure, path)


def draw_losses(path: Path, records: Mapping[str, Mapping[str, Any]]) -> None:
    """Cross entropy of training and validation by epoch."""
    figure = new_figure(6.0, 3.4)
    axes = figure.subplots()
    for number, (network, record) in enumerate(records.items()):
        epochs = np.arange(1, record["epochs"] + 1)
        colour = f"C{number}"
        axes.plot(epochs, record["loss"], "o--", color=colour, lw=0.8, ms=3, mfc="none")
        axes.plot(epochs, record["validation_loss"], "o-", color=colour, ms=3, label=network)
    axes.plot([], [], "o--", color="0.4", lw=0.8, ms=3, mfc="none", label="training, with dropout")
    axes.set(xlabel="epoch", ylabel="cross entropy of a pixel", ylim=(0, None))
    axes.set_xticks(range(1, 1 + max(record["epochs"] for record in records.values())))
    axes.legend(fontsize="small")
    save(figure, path)


def draw_figures(
    out: Path,
    work: Path,
    plan: Plan,
    data: Data,
    masks: Masks,
    counts: Counts,
    records: Mapping[str, Mapping[str, Any]],
) -> None:
    """All figures of the report."""
    from nanostream.training.groschner2020.activations import activation_maps, draw_activations

    scores = {key: score(value) for key, value in counts.items()}
    draw_examples(out / "examples.png", plan, data, masks, counts)
    draw_bars(out / "bars.svg", scores)
    draw_confusions(out / "confusions.svg", scores)
    draw_losses(out / "losses.svg", records)
    model, maxima = load_network(work, "combined"), maxima_of(data)
    for material in ("Au", "CdSe"):
        tile = data[material][numbers_of(plan, material)["test"][typical(counts, material)]].tile
        image = scale_tile(tile, maximum=maxima[material])[0][..., 0]
        draw_activations(
            tile.pixels,
            activation_maps(model, image),
            out / f"activations_{material}.png",
            label=tile.label,
        )


# Report


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    packages = ("nanostream", "abtem", "ase", "keras", "tensorflow", "numpy", "scipy")
    found = {package: version(package) for package in packages}
    return {"python": platform.python_version(), **found}


def commit() -> str:
    """Commit of this checkout, "" outside of one."""
    git = shutil.which("git")
    if git is None:
        return ""
    command = [git, "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def cpu_s() -> float:
    """Processor time of this process and of those that it has waited for."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(kind)[:2]) for kind in kinds)


@contextmanager
def timed(work: Path, stage: str) -> Iterator[None]:
    """Add the time of a stage to what earlier runs have spent on it (``times.json``)."""
    start, cpu = time.monotonic(), cpu_s()
    yield
    path = work / "times.json"
    times = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    spent = times.setdefault(stage, {"wall_s": 0.0, "cpu_s": 0.0})
    spent["wall_s"] = round(spent["wall_s"] + time.monotonic() - start, 1)
    spent["cpu_s"] = round(spent["cpu_s"] + cpu_s() - cpu, 1)
    write_json(path, times)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, complete or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def table(scores: Mapping[tuple[str, str], Score]) -> list[str]:
    """Lines of the comparison: every method on every material, the paper's number beside ours."""
    lines = [
        "| method | tested on | accuracy: paper | here (95 %) | | Dice: paper | here (95 %) | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (method, material), one in scores.items():
        paper = PUBLISHED.get((method, material), Published(None, None))
        cells = [method, material]
        for measure in ("accuracy", "dice"):
            known, ours = getattr(paper, measure), getattr(one, measure)
            low, high = getattr(one, f"{measure}_interval")
            cells += [
                "" if known is None else f"{known:.2f}",
                f"{ours:.3f} ({low:.3f} to {high:.3f})",
                stands(ours, known),
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def agreement(scores: Mapping[tuple[str, str], Score]) -> list[str]:
    """Lines that say of each of the paper's numbers whether ours agrees."""
    said: dict[str, list[str]] = {}
    for (method, material), published in PUBLISHED.items():
        for measure, name in (("accuracy", "pixel accuracy"), ("dice", "Dice")):
            known = getattr(published, measure)
            if known is not None:
                ours = getattr(scores[method, material], measure)
                how = stands(ours, known).split(" by ")[0]
                text = f"{method} on {material}, {name} ({ours:.2f}, paper {known:.2f})"
                said.setdefault(how, []).append(text)
    names = {"agrees": "Agree", "higher": "Higher here", "lower": "Lower here"}
    return [
        f"- {title}, {len(said[how])}: {'; '.join(said[how])}."
        for how, title in names.items()
        if how in said
    ]


def write_report(
    path: Path,
    results: Mapping[str, Any],
    scores: Mapping[tuple[str, str], Score],
    findings: Sequence[Finding],
) -> None:
    """The page: table, verdicts, figures, what is different from the paper, how it was made."""
    plan, networks, times = results["plan"], results["networks"], results["times"]
    minutes = {name: [spent[k] / 60 for k in ("wall_s", "cpu_s")] for name, spent in times.items()}
    total = np.sum(list(minutes.values()), axis=0)
    fractions, shipped = results["particle_pixels"], results["shipped"]
    lines = [
        "# The paper's experiment, done again",
        "",
        "Written by `scripts/reproduce_paper.py`; all numbers, also as JSON, are in",
        "[results.json](results.json). Groschner, Choi and Scott,",
        "[arXiv 2001.05022](https://arxiv.org/abs/2001.05022), trained on real micrographs; here "
        "all are simulated",
        "(multislice, abTEM), so numbers can differ where the images do. What should agree are the "
        "findings.",
        "",
        "## Findings",
        "",
        *(
            f"{number}. **{one.claim}** ({one.source}) **{one.verdict.capitalize()}.** "
            f"{one.evidence} *Rule: {one.rule}*"
            for number, one in enumerate(findings, start=1)
        ),
        "",
        "## Numbers",
        "",
        f"Over all pixels of {plan['test']} test images of each material; in brackets the middle "
        "95 % of test sets drawn",
        'from these images with replacement. "Agrees" is a difference of at most '
        f"{AGREES_WITHIN:g}.",
        "",
        *table(scores),
        "",
        "Of the numbers that the paper gives:",
        "",
        *agreement(scores),
        "",
        "The paper's Bragg numbers are of one image each, with thresholds tuned by hand for each; "
        "here the filter is",
        "automatic (`nanostream.training.groschner2020.bragg`), "
        f"its settings chosen on {plan['bragg_images']} "
        "of the combined network's training",
        'images, or, "own settings", on as many of the material\'s own.',
        "",
        "The shipped models ("
        + ", ".join(f"{name} {one['weights_sha256'][:12]}" for name, one in shipped.items())
        + ") were trained on other",
        "simulated micrographs, of many materials and conditions. Their set of faint particles was "
        "added because models",
        "before them had failed on the CdSe micrographs here.",
        "",
        "![Pixel accuracy and Dice, the paper's and ours](bars.svg)",
        "",
        "![Micrographs, truth and masks](examples.png)",
        "",
        "The test image of each material on which the combined network's accuracy is the middle "
        "one; above each mask",
        "its accuracy.",
        "",
        "![Confusion matrices](confusions.svg)",
        "",
        "![Activation maps for Au](activations_Au.png)",
        "",
        "![Activation maps for CdSe](activations_CdSe.png)",
        "",
        "Activation maps of the combined network, the most varied ones of an early layer, of the "
        "first concatenation",
        "(both as in the paper's Figure 6) and of the last layer with maps.",
        "",
        "## The recipe",
        "",
        f"As in the paper: {plan['train']}/{plan['validation']}/{plan['test']} images of "
        f"{plan['size_px']} px, 3x3 median, int16, divided by",
        f"the data set's greatest count; rotation by any angle and mirroring only; "
        f"{plan['samples_per_epoch']:,} samples an epoch, at most",
        f"{plan['epochs']} epochs, batch {plan['batch']}, Adam at 1e-4, categorical cross entropy "
        "of two classes; stop after 2 epochs",
        "without 0.001; threshold with the best pixel accuracy on the training images. Particle "
        "pixels: "
        + ", ".join(f"{name} {part:.0%}" for name, part in fractions.items())
        + " (paper: Au 33 %, CdSe 12 %).",
        "",
        "Otherwise than in the paper, with reasons in",
        "[decisions/0010](../decisions/0010-the-paper-again.md): turned samples are cut to "
        f"{plan['crop_px']} px, and the batch",
        "normalisation's moments have a momentum of 0.9.",
        "",
        "| network | epochs | training loss | validation loss | threshold | minutes | "
        "core-minutes |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {name} | {one['epochs']}{' (stopped early)' if one['stopped_early'] else ''} | "
            f"{one['loss'][-1]:.3f} | {one['validation_loss'][-1]:.3f} | {one['threshold']:.3f} | "
            f"{one['wall_s'] / 60:.1f} | {one['cpu_s'] / 60:.1f} |"
            for name, one in networks.items()
        ),
        "",
        "![Losses](losses.svg)",
        "",
        "## How it was made",
        "",
        f"`{results['command']}`, seed {plan['seed']}, commit {results['commit'][:12] or 'unknown'}"
        f", {results['date']}. "
        + ", ".join(f"{name} {number}" for name, number in results["versions"].items())
        + ".",
        "",
        f"{total[0]:.0f} minutes, {total[1]:.0f} core-minutes ("
        + "; ".join(f"{name} {cpu:.1f}" for name, (_, cpu) in minutes.items())
        + ").",
        "",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


def reproduce(work: Path, plan: Plan, out: Path, *, jobs: int, command: str) -> None:
    """All stages in turn."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        with timed(work, "simulation"):
            simulate(work, plan, jobs=jobs, progress=progress)
        data = read_data(work, plan)
        maxima = maxima_of(data)
        with timed(work, "training"):
            records = {
                network: train(work, plan, network, data, maxima, progress=progress)
                for network in NETWORKS
            }
        with timed(work, "Bragg settings"):
            settings = bragg_settings(work, plan, data, jobs=jobs, progress=progress)
        with timed(work, "test and figures"):
            masks = make_masks(work, plan, data, records, settings, progress=progress)
            truth = {
                name: [data[name][k].tile.label for k in numbers_of(plan, name)["test"]]
                for name in MATERIALS
            }
            counts = {key: confusions(truth[key[1]], found) for key, found in masks.items()}
            out.mkdir(parents=True, exist_ok=True)
            draw_figures(out, work, plan, data, masks, counts, records)
    scores = {key: score(value) for key, value in counts.items()}
    findings = judge(counts)
    results = {
        "plan": asdict(plan),
        "command": command,
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": versions(),
        "times": json.loads((work / "times.json").read_text(encoding="utf-8")),
        "specimens": {name: asdict(one) for name, one in SPECIMENS.items()},
        "particle_pixels": {
            name: float(np.mean([one.tile.label.mean() for one in data[name]])) for name in data
        },
        "normalization": "dataset-max, each material by its own maximum",
        "maxima": maxima,
        "networks": records,
        "bragg": {name: asdict(one) for name, one in settings.items()},
        "shipped": {
            name: {key: getattr(card, key) for key in ("weights_sha256", "threshold", "date")}
            for name, card in ((name, find_model(name)[0]) for name in SHIPPED.values())
        },
        "scores": [
            {
                "method": method,
                "tested_on": material,
                "paper": asdict(PUBLISHED.get((method, material), Published(None, None))),
                **asdict(scores[method, material]),
                "confusions": counts[method, material].tolist(),
            }
            for method, material in scores
        ],
        "findings": [asdict(one) for one in findings],
    }
    write_json(out / "results.json", results)
    write_report(out / "README.md", results, scores, findings)
    print(*table(scores), "", sep="\n")
    for one in findings:
        print(f"{one.verdict}: {one.claim}\n  {one.evidence}")


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for scenes and networks")
    parser.add_argument("--seed", type=int, default=2026, help="of scenes, weights and samples")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--out", type=Path, default=DOCS, help="where figures and table go")
    parser.add_argument("--samples-per-epoch", type=int, default=0, help="default: the paper's")
    parser.add_argument("--epochs", type=int, default=0, help="at most; default: the paper's")
    parser.add_argument("--quick", action="store_true", help="a few small images, to try it out")
    arguments = parser.parse_args()
    plan = make_plan(arguments)
    check_plan(arguments.work, plan)
    shown = {
        "seed": plan.seed,
        "samples-per-epoch": arguments.samples_per_epoch,
        "epochs": arguments.epochs,
    }
    options = "".join(f" --{name} {value}" for name, value in shown.items() if value)
    command = f"python scripts/{Path(__file__).name} --work WORK{options}"
    command += " --quick" if arguments.quick else ""
    reproduce(arguments.work, plan, arguments.out, jobs=arguments.jobs, command=command)


if __name__ == "__main__":
    main()

"""Make the shipped model from nothing: simulate, train, choose the threshold, evaluate, write.

    python scripts/train_default_model.py --work ~/nanostream-training

Every scene has a seed of its own, derived from ``--seed``, the set it belongs to and its number;
finished scene files are skipped, so the command can be stopped and started again. The threshold
is chosen on the validation set, the scores come from the test set, all three simulated. No real
micrograph is read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

FOLDER = Path(__file__).parents[1] / "nanostream" / "segmentation" / "shipped" / "default"

SETS = ("train", "validation", "test")


def scene_rng(seed: int, which: str, number: int) -> np.random.Generator:
    """Random generator of one scene; no two scenes of any set share a stream."""
    return np.random.default_rng(
        np.random.SeedSequence(seed, spawn_key=(SETS.index(which), number))
    )


def simulate_one(path: Path, seed: int, which: str, number: int, size_px: int) -> None:
    """Simulate a scene and write its file (runs in a worker process)."""
    from nanostream.training import simulation

    rng = scene_rng(seed, which, number)
    materials = simulation.MATERIALS
    if which == "test":  # one material in turn, so that each has its score
        materials = (materials[number % len(materials)],)
    scene = simulation.draw_scene(rng, size_px=size_px, materials=materials)
    simulation.save_micrographs(path, simulation.simulate_micrographs(scene))


def simulate(folder: Path, counts: dict[str, int], *, seed: int, size_px: int, jobs: int) -> None:
    """Simulate all scenes that are not there yet."""
    wanted = [
        (folder / which / f"scene_{number:04d}.npz", which, number)
        for which in ("validation", "test", "train")
        for number in range(counts[which])
    ]
    for which in SETS:
        (folder / which).mkdir(parents=True, exist_ok=True)
    missing = [item for item in wanted if not item[0].exists()]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        Progress(*columns, TimeRemainingColumn()) as progress,
        ProcessPoolExecutor(jobs) as pool,
    ):
        task = progress.add_task("simulating", total=len(wanted))
        progress.advance(task, len(wanted) - len(missing))
        futures = [
            pool.submit(simulate_one, path, seed, which, number, size_px)
            for path, which, number in missing
        ]
        for future in as_completed(futures):
            future.result()
            progress.advance(task)


def scene_paths(folder: Path, which: str, count: int) -> list[Path]:
    """Scene files of one set."""
    return [folder / which / f"scene_{number:04d}.npz" for number in range(count)]


def pixel_sizes_nm(paths: list[Path], zoom: tuple[float, float]) -> list[float]:
    """Least and greatest pixel size of the scenes, with the magnification of the augmentation."""
    sizes = []
    for path in paths:
        with np.load(path) as scene:
            sizes.append(json.loads(str(scene["scene"]))["pixel_size_nm"])
    return [round(min(sizes) / zoom[1], 4), round(max(sizes) / zoom[0], 4)]


def train(arguments: argparse.Namespace, counts: dict[str, int]) -> None:
    """Train, choose the threshold, score, and write weights and card."""
    # TensorFlow here, so that the simulating processes do without it.
    import keras

    from nanostream.segmentation.unet import PAPER_FEATURES, build_unet
    from nanostream.training import fit

    scenes = arguments.work / "scenes"
    paths = {which: scene_paths(scenes, which, counts[which]) for which in SETS}
    recipe = fit.Recipe(steps=arguments.steps, seed=arguments.seed)
    keras.utils.set_random_seed(arguments.seed)
    model = build_unet(PAPER_FEATURES)
    examples = fit.read_examples(paths["train"])

    def write(*, early_step: int | None) -> None:
        held = {which: fit.read_examples(paths[which]) for which in ("validation", "test")}
        found = {which: fit.predict(model, held[which], recipe.normalization) for which in held}
        truth = {which: held[which].labels[held[which].scene_of] for which in held}
        threshold = fit.choose_threshold(found["validation"], truth["validation"])
        materials = np.array(held["test"].materials)[held["test"].scene_of]
        # A bare support has no material and counts for all of them together.
        scores = {
            material: asdict(
                fit.score(
                    found["test"][materials == material],
                    truth["test"][materials == material],
                    threshold,
                )
            )
            for material in sorted(set(materials) - {""})
        }
        scores["all"] = asdict(fit.score(found["test"], truth["test"], threshold))
        arguments.out.mkdir(parents=True, exist_ok=True)
        weights = arguments.out / "weights.weights.h5"
        model.save_weights(weights)
        card = {
            "name": "default",
            "architecture": "unet",
            "features": list(PAPER_FEATURES),
            "parameters": model.count_params(),
            "normalization": recipe.normalization,
            "threshold": threshold,
            "pixel_size_nm": pixel_sizes_nm(paths["train"], fit.ZOOM),
            "materials": list(MATERIALS),
            "training": {
                "data": "simulated HRTEM micrographs only (abTEM multislice), no real image",
                "scenes": counts["train"],
                "images": len(examples.images),
                "validation_scenes": counts["validation"],
                "test_scenes": counts["test"],
                "recipe": asdict(recipe),
                "seed": arguments.seed,
                "steps_done": early_step or recipe.steps,
                "versions": {
                    package: version(package)
                    for package in ("abtem", "ase", "keras", "tensorflow", "numpy")
                },
            },
            "scores": {
                "set": "held-out simulated scenes, whole images, at the threshold above",
                "by_material": scores,
            },
            "weights": weights.name,
            "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
            "licence": "BSD-3-Clause",
            "date": datetime.now(UTC).date().isoformat(),
            "command": f"python scripts/{Path(__file__).name} --work WORK --seed {arguments.seed} "
            f"--scenes {counts['train']} --validation-scenes {counts['validation']} "
            f"--test-scenes {counts['test']} --size-px {arguments.size_px} "
            f"--steps {arguments.steps}",
        }
        if early_step:
            card["early"] = f"not the final model: written after {early_step} steps"
        text = json.dumps(card, indent=2) + "\n"
        (arguments.out / "card.json").write_text(text, encoding="utf-8")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task("training", total=recipe.steps)
        smooth = 1.0

        def on_step(done: int, loss: float) -> None:
            nonlocal smooth
            smooth += 0.02 * (loss - smooth)
            progress.update(task, completed=done, description=f"training, loss {smooth:.3f}")
            if done % 100 == 0:  # a record where there is no terminal
                progress.console.print(
                    f"{datetime.now(UTC):%H:%M:%S} step {done} loss {smooth:.4f}"
                )
            if arguments.early_steps and done == arguments.early_steps:
                write(early_step=done)

        fit.fit(
            model,
            examples,
            recipe,
            checkpoints=arguments.work / "checkpoints",
            on_step=on_step,
        )
    write(early_step=None)


def main() -> None:
    """Run the stages in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for scenes, checkpoints")
    parser.add_argument("--seed", type=int, default=2026, help="of scenes, weights and batches")
    parser.add_argument("--scenes", type=int, default=300, help="scenes to train on, 4 images each")
    parser.add_argument("--validation-scenes", type=int, default=40)
    parser.add_argument("--test-scenes", type=int, default=50)
    parser.add_argument("--size-px", type=int, default=512)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--steps", type=int, default=4400)
    parser.add_argument("--early-steps", type=int, default=0, help="write a first model here, too")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where weights and card go")
    arguments = parser.parse_args()
    counts = {
        "train": arguments.scenes,
        "validation": arguments.validation_scenes,
        "test": arguments.test_scenes,
    }
    simulate(
        arguments.work / "scenes",
        counts,
        seed=arguments.seed,
        size_px=arguments.size_px,
        jobs=arguments.jobs,
    )
    train(arguments, counts)


if __name__ == "__main__":
    main()

"""Make the shipped model from nothing: simulate, train, choose the threshold, evaluate, write.

    python scripts/train_default_model.py --work ~/nanostream-training

What ``nanostream simulate-training`` and ``nanostream train`` do, with three sets of one seed: the
threshold is chosen on the validation set, the scores come from the test set, all three simulated.
Finished scene files are skipped and a training goes on from its checkpoint, so the command can be
stopped and started again. No real micrograph is read.
"""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nanostream.segmentation.weights import HALF_FEATURES
from nanostream.training.examples import Source
from nanostream.training.runs import Plan, default_recipe, train_model
from nanostream.training.sets import SetPlan, simulate_set

FOLDER = Path(__file__).parents[1] / "nanostream" / "segmentation" / "shipped" / "default"


def progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )


def simulate(arguments: argparse.Namespace) -> dict[str, list[Source]]:
    """Simulate all scenes that are not there yet."""
    counts = {
        "validation": arguments.validation_scenes,
        "test": arguments.test_scenes,
        "train": arguments.scenes,
    }
    sources = {}
    for name, count in counts.items():
        # In the test set one material in turn, so that each has its score.
        plan = SetPlan(arguments.seed, arguments.size_px, name=name, in_turn=name == "test")
        with progress() as bar:
            task = bar.add_task(f"simulating {name}", total=count)
            paths = simulate_set(
                arguments.work / "scenes" / name,
                plan,
                scenes=count,
                jobs=arguments.jobs,
                on_scene=lambda done, bar=bar, task=task: bar.update(task, completed=done),
            )
        sources[name] = [Source(path) for path in paths]
    return sources


def train(arguments: argparse.Namespace, sources: dict[str, list[Source]]) -> None:
    """Train, choose the threshold, score, and write weights and card."""
    recipe = default_recipe(None, steps=arguments.steps, seed=arguments.seed)
    plan = Plan(
        name="default",
        folder=arguments.out,
        training=sources["train"],
        held_out=sources["validation"],
        test=sources["test"],
        recipe=recipe,
        work=arguments.work,
        architecture="unet-half",
        features=HALF_FEATURES,
        early_steps=arguments.early_steps,
        licence="BSD-3-Clause",
        command=f"python scripts/{Path(__file__).name} --work WORK --seed {arguments.seed} "
        f"--scenes {arguments.scenes} --validation-scenes {arguments.validation_scenes} "
        f"--test-scenes {arguments.test_scenes} --size-px {arguments.size_px} "
        f"--steps {arguments.steps}",
    )
    with progress() as bar:
        task = bar.add_task("training", total=recipe.steps)
        smooth = 1.0

        def on_step(done: int, loss: float) -> None:
            nonlocal smooth
            smooth += 0.02 * (loss - smooth)
            bar.update(task, completed=done, description=f"training, loss {smooth:.3f}")
            if done % 100 == 0:  # a record where there is no terminal
                bar.console.print(f"{datetime.now(UTC):%H:%M:%S} step {done} loss {smooth:.4f}")

        train_model(plan, on_step=on_step)


def main() -> None:
    """Run the stages in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for scenes, checkpoints")
    parser.add_argument("--seed", type=int, default=2027, help="of scenes, weights and batches")
    parser.add_argument("--scenes", type=int, default=700, help="scenes to train on, 4 images each")
    parser.add_argument("--validation-scenes", type=int, default=84)
    parser.add_argument("--test-scenes", type=int, default=105)
    parser.add_argument("--size-px", type=int, default=512)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--early-steps", type=int, default=0, help="write a first model here, too")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where weights and card go")
    arguments = parser.parse_args()
    train(arguments, simulate(arguments))


if __name__ == "__main__":
    main()

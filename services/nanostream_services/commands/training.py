"""Commands that make models: simulate-training and train."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, Self

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

from nanostream.errors import ConfigError
from nanostream_services.commands.labelled import find_labelled
from nanostream_services.commands.options import PixelSize
from nanostream_services.commands.printing import (
    INTERRUPTED,
    add_row,
    print_error,
    print_line,
)
from nanostream_services.commands.scores import score
from nanostream_services.panels.values import counted
from nanostream_services.processes.lifecycle import Stop, stopping

if TYPE_CHECKING:
    from nanostream.segmentation.models import ModelCard
    from nanostream.training.plans import Plan
    from nanostream.training.sources import Source

__all__ = ["simulate_training", "train"]

_SMOOTHING = 0.05  # of the loss that is shown


class RecipeName(StrEnum):
    """The ways to train a network."""

    default = "default"
    paper = "paper"


def simulate_training(
    dest: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of the set; made if absent.")
    ],
    scenes: Annotated[
        int, typer.Option(metavar="NUMBER", help="Scenes, of 4 micrographs each.", min=1)
    ],
    seed: Annotated[
        int,
        typer.Option(metavar="NUMBER", help="Seed of the set: another one, other scenes.", min=0),
    ],
    materials: Annotated[
        str, typer.Option(metavar="NAMES", help="Such as Au,CdSe; all there are if not given.")
    ] = "",
    size_px: Annotated[
        int, typer.Option(metavar="PX", help="Height and width.", min=256, max=4096)
    ] = 512,
    jobs: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="Processes; as many as cores if not given.", min=1),
    ] = None,
) -> None:
    """Simulate micrographs with their truth, to train on; resumes where it was stopped."""
    from nanostream.training.sets import SetPlan, simulate_set

    plan = SetPlan(seed=seed, size_px=size_px, materials=_listed(materials))
    with stopping() as stop, _progress() as bar:
        task = bar.add_task("simulating", total=scenes)
        found = simulate_set(
            dest,
            plan,
            scenes=scenes,
            jobs=(os.cpu_count() or 1) if jobs is None else jobs,
            stop=stop,
            on_scene=lambda done: bar.update(task, completed=done),
        )
    if len(found) < scenes:
        print_error(f"{len(found)} of {scenes} scenes are in {dest}; the same command resumes")
        raise typer.Exit(INTERRUPTED)
    sys.stdout.write(f"{counted(scenes, 'scene is', 'scenes are')} in {dest}\n")


def train(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDERS", help="Micrographs with label PNGs, or sets of simulate-training."
        ),
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the model.")],
    recipe: Annotated[
        RecipeName, typer.Option(help="paper is the one of Groschner et al. 2020.")
    ] = RecipeName.default,
    base: Annotated[
        str | None,
        typer.Option("--from", metavar="NAME", help="Fine-tune this model: default, or another."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="Batches of 4; the recipe's if not given.", min=1),
    ] = None,
    validation: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER", help="To choose calibration and threshold on, and for scores."
        ),
    ] = None,
    holdout: Annotated[
        float | None,
        typer.Option(
            metavar="PART",
            help="Without --validation: part of the files kept for that (0.2).",
            min=0,
        ),
    ] = None,
    pixel_size: PixelSize = None,
    materials: Annotated[
        str, typer.Option(metavar="NAMES", help="For the card, such as Au,CdSe.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="For the model's folder, instead of the user's models."
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(metavar="NUMBER", help="Of batches, new weights and what is held out.", min=0),
    ] = 0,
    work: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="For checkpoints; the model's if not given."),
    ] = None,
) -> None:
    """Train a model on labelled images, or fine-tune one; resumes where it was stopped.

    Calibration and threshold are chosen on held-out images, and the model's card has its scores on
    them. At once it can be used: nanostream run --model NAME.
    """
    from nanostream.segmentation.models import check_tensorflow, find_model, user_models
    from nanostream.segmentation.weights import PAPER_FEATURES, QUARTER_FEATURES
    from nanostream.training.plans import Base, Plan, check_new_name

    paper = recipe is RecipeName.paper
    if paper and (base or steps):
        msg = "--recipe paper goes without --from and --steps: it has its own, and begins anew"
        raise ConfigError(msg)
    models = out or user_models()
    check_new_name(name, models)
    _check_holdout(holdout, validation, new=base is None)
    start = Base(*find_model(base)) if base else None
    training, held_out = _split(folders, validation, holdout, seed)
    check_tensorflow()
    checkpoints = work or models / name / "unfinished"
    plan = Plan(
        name=name,
        folder=models / name,
        training=training,
        held_out=held_out,
        work=checkpoints,
        base=start,
        architecture="unet" if paper else "unet-quarter",
        features=PAPER_FEATURES if paper else QUARTER_FEATURES,
        pixel_size_nm=pixel_size,
        materials=_listed(materials),
        command=_command(
            "train",
            *folders,
            name=name,
            recipe=recipe.value,
            **{"from": base},
            steps=steps,
            validation=validation,
            holdout=holdout,
            pixel_size=pixel_size,
            materials=materials or None,
            seed=seed,
        ),
    )
    card = _train_by_paper(plan, seed) if paper else _train(plan, steps, seed)
    if work is None:
        shutil.rmtree(checkpoints)
    _print_trained(card, len(training), len(held_out), models / name, named=out is None)


def _split(
    folders: list[Path], validation: list[Path] | None, holdout: float | None, seed: int
) -> tuple[list[Source], list[Source]]:
    """Files to train on, and files held out to choose calibration and threshold on."""
    import numpy as np

    from nanostream.training.sources import hold_out

    training = find_labelled(folders)
    if validation:
        held_out = find_labelled(validation)
        _check_apart(training, held_out)
        return training, held_out
    part = 0.2 if holdout is None else holdout
    return hold_out(training, part, np.random.default_rng(seed))


def _train(plan: Plan, steps: int | None, seed: int) -> ModelCard:
    """Train a new network by the default recipe, or fine-tune the plan's base."""
    from nanostream.training.recipe import default_recipe, tuning_recipe
    from nanostream.training.runs import train_model

    if plan.base is None:
        recipe = default_recipe(steps=steps, seed=seed)
    else:
        recipe = tuning_recipe(plan.base.card.normalization, steps=steps, seed=seed)
    with _progress() as bar, _Shown(bar, recipe.steps, "the same command resumes") as shown:
        return train_model(plan, recipe, on_step=shown.step, on_stage=shown.stage)


def _train_by_paper(plan: Plan, seed: int) -> ModelCard:
    """Train a new network by the paper's recipe."""
    from nanostream.training.groschner2020.recipe import PaperRecipe
    from nanostream.training.groschner2020.runs import train_by_paper

    recipe = PaperRecipe(seed=seed)
    most = recipe.epochs * recipe.steps_per_epoch
    with _progress() as bar, _Shown(bar, most, "the same command begins anew") as shown:
        return train_by_paper(plan, recipe, on_step=shown.step, on_stage=shown.stage)


class _Shown:
    """The progress of a training on the terminal.

    When it is told to stop, a step is finished first; reading and scoring would begin again, so
    Ctrl-C ends them at once.
    """

    def __init__(self, bar: Progress, total: int, after: str) -> None:
        self._bar = bar
        self._task = bar.add_task("reading", total=total)
        self._after = after
        self._training = ExitStack()
        self._stop: Stop | None = None
        self._loss: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._training.close()
        if kind is KeyboardInterrupt:
            self._end("stopped")

    def stage(self, name: str) -> None:
        self._bar.update(self._task, description=name)
        self._training.close()
        if self._stop is not None and self._stop.is_set():  # after the last step
            self._end("stopped")
        if name == "training":
            self._stop = self._training.enter_context(stopping())

    def step(self, done: int, loss: float) -> None:
        if self._loss is None and done > 1:
            self._bar.console.print(f"resuming after step {done - 1}", highlight=False)
        before = loss if self._loss is None else self._loss
        self._loss = before + _SMOOTHING * (loss - before)
        shown = f"training, loss {self._loss:.3f}"
        self._bar.update(self._task, completed=done, description=shown)
        if self._stop is not None and self._stop.is_set():
            self._end(f"stopped at step {done}")

    def _end(self, what: str) -> NoReturn:
        print_error(f"{what}; {self._after}")
        raise typer.Exit(INTERRUPTED)


def _print_trained(
    card: ModelCard, training: int, held_out: int, folder: Path, *, named: bool
) -> None:
    """Print how good the model is, and how to use it."""
    console = Console()
    print_line(
        f"trained on {counted(training, 'file')}, {held_out} held out; threshold {card.threshold:g}"
    )
    if card.scores:
        names = ("images", "accuracy", "Dice", "precision", "recall")
        table = Table(Column("held out", overflow="fold"))
        for column in names:
            table.add_column(column, justify="right")
        rows = [(card.name, card.scores)]
        if "before" in card.scores:
            rows.insert(0, (card.scores["before"]["model"], card.scores["before"]))
        for model, scores in rows:
            found = scores["by_material"]["all"]
            values = (found.get(key) for key in ("pixel_accuracy", "dice", "precision", "recall"))
            add_row(table, model, str(found["images"]), *map(score, values))
        console.print(table)
    use = f"--model {card.name}"
    if not named:
        use = f"NANOSTREAM_MODELS={shlex.quote(str(folder.parent))} and {use}"
    sys.stdout.write(f"{card.name} is in {folder}; use it with {use}\n")


def _check_holdout(holdout: float | None, validation: list[Path] | None, *, new: bool) -> None:
    if holdout is not None and validation:
        msg = "--holdout and --validation: give one of them"
        raise ConfigError(msg)
    if holdout is not None and holdout >= 1:
        msg = f"--holdout {holdout:g}: a part of the files, below 1"
        raise ConfigError(msg)
    if new and holdout == 0:
        msg = "--holdout 0 goes with --from: a new network needs images to choose its threshold on"
        raise ConfigError(msg)


def _check_apart(training: list[Source], held_out: list[Source]) -> None:
    common = {source.file.resolve() for source in training} & {
        source.file.resolve() for source in held_out
    }
    if common:
        msg = f"{min(common)} is to be trained on and in --validation; it would judge itself"
        raise ConfigError(msg)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _command(what: str, *arguments: Path, **options: object) -> str:
    """The command line, with what was left to its default left out."""
    words = ["nanostream", what, *map(str, arguments)]
    for option, value in options.items():
        values = value if isinstance(value, list) else [] if value is None else [value]
        for one in values:
            words += [f"--{option.replace('_', '-')}", str(one)]
    return shlex.join(words)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )

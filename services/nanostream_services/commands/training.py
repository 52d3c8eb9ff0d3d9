"""``nanostream train``: a model trained or fine-tuned on labelled images."""

from __future__ import annotations

import shlex
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from nanostream.errors import ConfigError, MicrographError
from nanostream_services.commands.labelled import find_labelled
from nanostream_services.commands.options import PixelSize, model_names, split_names
from nanostream_services.commands.printing import add_row, print_line
from nanostream_services.commands.progress import TrainingProgress, long_progress
from nanostream_services.commands.scores import score
from nanostream_services.quantities import counted

if TYPE_CHECKING:
    from nanostream.segmentation.models import ModelCard
    from nanostream.training.plans import Plan
    from nanostream.training.sources import Source

__all__ = ["train"]


class RecipeName(StrEnum):
    """The ways to train a network."""

    default = "default"
    paper = "paper"


Folders = Annotated[
    list[str],
    typer.Argument(
        metavar="FOLDERS",
        help="Micrographs with label PNGs, or sets of simulate-training; files and wildcards, too.",
    ),
]
Name = Annotated[str, typer.Option(metavar="NAME", help="Name of the model.")]
Recipe = Annotated[RecipeName, typer.Option(help="paper is the one of Groschner et al. 2020.")]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="NAME",
        help="Fine-tune this model: default, or another.",
        autocompletion=model_names,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(metavar="NUMBER", help="Batches of 4; the recipe's if not given.", min=1),
]
Validation = Annotated[
    list[str] | None,
    typer.Option(metavar="FOLDER", help="To choose calibration and threshold on, and for scores."),
]
Holdout = Annotated[
    float | None,
    typer.Option(
        metavar="PART", help="Without --validation: part of the files kept for that (0.2).", min=0
    ),
]
Materials = Annotated[str, typer.Option(metavar="NAMES", help="For the card, such as Au,CdSe.")]
Models = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="For the model's folder, instead of the user's models."),
]
Seed = Annotated[
    int,
    typer.Option(metavar="NUMBER", help="Of batches, new weights and what is held out.", min=0),
]
Work = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="For checkpoints; the model's if not given.")
]


def train(
    folders: Folders,
    name: Name,
    recipe: Recipe = RecipeName.default,
    base: From = None,
    steps: Steps = None,
    validation: Validation = None,
    holdout: Holdout = None,
    pixel_size: PixelSize = None,
    materials: Materials = "",
    out: Models = None,
    seed: Seed = 0,
    work: Work = None,
) -> None:
    """Train a model on labelled images, or fine-tune one; resumes where it was stopped.

    Calibration and threshold are chosen on held-out images, and the model's card has its scores on
    them. At once it can be used: nanostream run --model NAME.
    """
    from nanostream.segmentation.engines import check_tensorflow
    from nanostream.segmentation.models import find_model, user_models
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
        materials=split_names(materials),
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
    folders: list[str], validation: list[str] | None, holdout: float | None, seed: int
) -> tuple[list[Source], list[Source]]:
    """Files to train on, and files held out to choose calibration and threshold on."""
    import numpy as np

    from nanostream.training.sources import hold_out

    training = _all_labelled(folders)
    if validation:
        held_out = _all_labelled(validation)
        _check_apart(training, held_out)
        return training, held_out
    part = 0.2 if holdout is None else holdout
    return hold_out(training, part, np.random.default_rng(seed))


def _all_labelled(names: list[str]) -> list[Source]:
    """Everything labelled: a model must not be trained on less than its card says."""
    found = find_labelled(names)
    if found.failed:
        each = "\n".join(f"{name}: {reason}" for name, reason in found.failed)
        msg = f"{each}\nmend or move what cannot be read; nothing was trained"
        raise MicrographError(msg)
    return list(found.sources)


def _train(plan: Plan, steps: int | None, seed: int) -> ModelCard:
    """Train a new network by the default recipe, or fine-tune the plan's base."""
    from nanostream.training.recipe import default_recipe, tuning_recipe
    from nanostream.training.runs import train_model

    if plan.base is None:
        recipe = default_recipe(steps=steps, seed=seed)
    else:
        recipe = tuning_recipe(plan.base.card.normalization, steps=steps, seed=seed)
    with (
        long_progress() as bar,
        TrainingProgress(bar, recipe.steps, "the same command resumes") as shown,
    ):
        return train_model(plan, recipe, on_step=shown.step, on_stage=shown.stage)


def _train_by_paper(plan: Plan, seed: int) -> ModelCard:
    """Train a new network by the paper's recipe."""
    from nanostream.training.groschner2020.recipe import PaperRecipe
    from nanostream.training.groschner2020.runs import train_by_paper

    recipe = PaperRecipe(seed=seed)
    most = recipe.epochs * recipe.steps_per_epoch
    with (
        long_progress() as bar,
        TrainingProgress(bar, most, "the same command begins anew") as shown,
    ):
        return train_by_paper(plan, recipe, on_step=shown.step, on_stage=shown.stage)


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


def _check_holdout(holdout: float | None, validation: list[str] | None, *, new: bool) -> None:
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


def _command(what: str, *arguments: str, **options: object) -> str:
    """The command line, with what was left to its default left out."""
    words = ["nanostream", what, *arguments]
    for option, value in options.items():
        values = value if isinstance(value, list) else [] if value is None else [value]
        for one in values:
            words += [f"--{option.replace('_', '-')}", str(one)]
    return shlex.join(words)

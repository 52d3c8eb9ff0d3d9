"""Commands about the making of models: simulate-training, train, evaluate."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, Self

import msgspec
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

from nanostream.config import Config, override
from nanostream.errors import ConfigError
from nanostream_services.commands.groups import Threshold, add_row, say_warnings
from nanostream_services.processes.lifecycle import Stop, stopping

if TYPE_CHECKING:
    from nanostream.segmentation.models import ModelCard
    from nanostream.training.evaluation import Evaluation, Scores
    from nanostream.training.examples import Source
    from nanostream.training.groschner2020.recipe import PaperRecipe
    from nanostream.training.recipe import Recipe

__all__ = ["evaluate", "simulate_training", "train"]

_INTERRUPTED = 130
_NAMED = 5  # of what has no partner
_SMOOTHING = 0.05  # of the loss that is shown


class RecipeName(StrEnum):
    """How a network is trained."""

    default = "default"
    paper = "paper"


def simulate_training(
    dest: Annotated[Path, typer.Argument(help="Folder of the set; made if absent.")],
    scenes: Annotated[int, typer.Option(help="How many; 4 micrographs each.", min=1)],
    seed: Annotated[int, typer.Option(help="Of the set: another one, other scenes.", min=0)],
    materials: Annotated[
        str, typer.Option(help="Such as Au,CdSe; all that can be simulated if not said.")
    ] = "",
    size_px: Annotated[int, typer.Option(help="Height and width.", min=256, max=4096)] = 512,
    jobs: Annotated[
        int | None, typer.Option(help="Processes; as many as cores if not said.", min=1)
    ] = None,
) -> None:
    """Simulate micrographs with their truth, to train on; goes on where it was stopped."""
    from nanostream.training.sets import SetPlan, simulate_set

    plan = SetPlan(seed=seed, size_px=size_px, materials=_listed(materials))
    with stopping() as stop, _progress() as bar:
        task = bar.add_task("simulating", total=scenes)
        found = simulate_set(
            dest,
            plan,
            scenes=scenes,
            jobs=jobs or os.cpu_count() or 1,
            stop=stop,
            on_scene=lambda done: bar.update(task, completed=done),
        )
    if len(found) < scenes:
        sys.stderr.write(
            f"nanostream: {len(found)} of {scenes} scenes are in {dest}; the same command goes on\n"
        )
        raise typer.Exit(_INTERRUPTED)
    sys.stdout.write(f"{scenes} scenes are in {dest}\n")


def train(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Micrographs with label PNGs, or sets of simulate-training."),
    ],
    name: Annotated[str, typer.Option(help="Of the model.")],
    recipe: Annotated[
        RecipeName, typer.Option(help="default, or the one of Groschner et al. 2020.")
    ] = RecipeName.default,
    base: Annotated[
        str | None, typer.Option("--from", help="Fine-tune this model: default, or another.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Batches of 4; the recipe's if not said.", min=1)
    ] = None,
    validation: Annotated[
        list[Path] | None,
        typer.Option(help="Folder to choose calibration and threshold on, and for scores."),
    ] = None,
    holdout: Annotated[
        float | None,
        typer.Option(help="Without --validation: part of the files kept for that (0.2).", min=0),
    ] = None,
    pixel_size: Annotated[
        float | None, typer.Option(help="nm, for files that do not say it.", min=1e-6)
    ] = None,
    materials: Annotated[str, typer.Option(help="For the card, such as Au,CdSe.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the model's, instead of the user's models.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of batches, new weights and what is held out.", min=0)
    ] = 0,
    work: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints; the model's if not said.")
    ] = None,
) -> None:
    """Train a model on labelled images, or fine-tune one; goes on where it was stopped.

    Calibration and threshold are chosen on held-out images, and the model's card has its scores on
    them. At once it can be used: nanostream run --model NAME.
    """
    import numpy as np

    from nanostream.segmentation.models import find_model, user_models
    from nanostream.segmentation.weights import PAPER_FEATURES, QUARTER_FEATURES
    from nanostream.training.examples import hold_out
    from nanostream.training.runs import (
        Base,
        Plan,
        check_new_name,
        check_tensorflow,
        default_recipe,
        paper_recipe,
        train_model,
    )

    paper = recipe is RecipeName.paper
    if paper and (base or steps):
        msg = "--recipe paper goes without --from and --steps: it has its own, and begins anew"
        raise ConfigError(msg)
    models = out or user_models()
    check_new_name(name, models)
    _check_holdout(holdout, validation, new=base is None)
    start = Base(*find_model(base)) if base else None
    training = _sources(folders)
    if validation:
        held_out = _sources(validation)
        _check_apart(training, held_out)
    else:
        part = 0.2 if holdout is None else holdout
        training, held_out = hold_out(training, part, np.random.default_rng(seed))
    check_tensorflow()
    checkpoints = work or models / name / "unfinished"
    how: Recipe | PaperRecipe
    if paper:
        how = by_paper = paper_recipe(seed=seed)
        total = by_paper.epochs * by_paper.steps_per_epoch  # at most
    else:
        how = by_default = default_recipe(start, steps=steps, seed=seed)
        total = by_default.steps
    plan = Plan(
        name=name,
        folder=models / name,
        training=training,
        held_out=held_out,
        recipe=how,
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
    after = "begins anew" if paper else "goes on"
    with _progress() as bar, _Shown(bar, total, f"the same command {after}") as shown:
        card = train_model(plan, on_step=shown.step, on_stage=shown.stage)
    if work is None:
        shutil.rmtree(checkpoints)
    _print_trained(card, len(training), len(held_out), models / name, named=out is None)


class _Shown:
    """What is seen of a training. When it is told to stop, a step is finished first; what is read
    or scored would begin again, so Ctrl-C ends that at once.
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
            self._bar.console.print(f"going on from step {done - 1}", highlight=False)
        before = loss if self._loss is None else self._loss
        self._loss = before + _SMOOTHING * (loss - before)
        shown = f"training, loss {self._loss:.3f}"
        self._bar.update(self._task, completed=done, description=shown)
        if self._stop is not None and self._stop.is_set():
            self._end(f"stopped at step {done}")

    def _end(self, what: str) -> NoReturn:
        sys.stderr.write(f"nanostream: {what}; {self._after}\n")
        raise typer.Exit(_INTERRUPTED)


def _print_trained(
    card: ModelCard, training: int, held_out: int, folder: Path, *, named: bool
) -> None:
    """How good the model is, and how to use it."""
    console = Console()
    console.print(
        f"trained on {training} files, {held_out} held out; threshold {card.threshold:g}",
        highlight=False,
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
            add_row(table, model, str(found["images"]), *map(_number, values))
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


def _sources(folders: list[Path]) -> list[Source]:
    """Everything to learn from; what has no partner is named."""
    from nanostream.training.examples import find_sources

    found = find_sources(folders)
    _say_partners(list(found.unlabelled), [str(path) for path in found.strays])
    return list(found.sources)


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


def evaluate(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Micrographs with label PNGs, or simulated ones; subfolders, too."),
    ],
    model: Annotated[str | None, typer.Option(help="See: nanostream models list.")] = None,
    threshold: Threshold = None,
    group_by: Annotated[
        str,
        typer.Option(
            help="folder, or a regular expression: its first group, or all that it finds. "
            "Simulated ones always go by material."
        ),
    ] = "folder",
    pixel_size: Annotated[
        float | None, typer.Option(help="nm, for files that do not say it.", min=1e-6)
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write everything to this file.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw it: .svg, .png or .pdf.")] = None,
) -> None:
    """Compare a model's masks with labelled micrographs."""
    from nanostream.training import evaluation

    worker = override(Config(), worker={"model": model, "threshold": threshold}).worker
    if figure is not None:
        evaluation.check_figure(figure)
    for file in (json, figure):
        if file is not None and file.is_dir():
            msg = f"{file} is a folder; give the name of a file"
            raise ConfigError(msg)
        if file is not None and not file.parent.is_dir():
            msg = f"{file}: there is no folder {file.parent}; make it, or choose another"
            raise ConfigError(msg)
    sources = _sources(folders)
    group_of = _grouping(group_by, [source.file for source in sources])

    from nanostream.analysis import Analyzer
    from nanostream.training.examples import BARE, read_frames

    analyzer = Analyzer(worker)
    sections = []
    empty = []
    with stopping() as stop, Progress(console=Console(stderr=True), transient=True) as bar:
        for source in bar.track(sources, description="evaluating"):
            for frame, truth, material in read_frames(source, pixel_size_nm=pixel_size):
                if stop.is_set():
                    raise typer.Exit(_INTERRUPTED)
                section = f"{source.file.as_posix()}#{frame.section.z}"
                if source.pairs and not truth.any():
                    empty.append(section)
                sections.append(
                    evaluation.evaluate_section(
                        truth,
                        analyzer(frame),
                        section=section,
                        group=group_of(source.file) if source.pairs else material or BARE,
                        min_area_px=worker.min_area_px,
                    )
                )
    found = evaluation.evaluate(
        sections,
        model=analyzer.card.name,
        model_sha256=analyzer.card.weights_sha256,
        threshold=analyzer.threshold,
        min_area_px=worker.min_area_px,
    )
    _say(empty, "without a particle in the label; all that is found there counts as false")
    warned = [f"{one.section}: {one.warning}" for one in sections if one.warning]
    say_warnings(warned, where_all="--json FILE has all")
    _print(Console(), found)
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    if figure is not None:
        evaluation.draw_evaluation(found, figure)


def _say_partners(unlabelled: list[str], strays: list[str]) -> None:
    _say(unlabelled, "without a label, left out")
    _say(strays, "labels without a micrograph, left out")


def _say(names: list[str], what: str) -> None:
    if names:
        shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        sys.stderr.write(f"nanostream: {len(names)} {what}: {shown}\n")


def _grouping(by: str, images: list[Path]) -> Callable[[Path], str]:
    """What decides which group a micrograph belongs to."""
    if by == "folder":
        names = _folder_names({image.parent for image in images})
        return lambda path: names[path.parent]
    try:
        pattern = re.compile(by)
    except re.error as error:
        msg = f"--group-by {by}: neither folder nor a regular expression ({error})"
        raise ConfigError(msg) from error

    def group(path: Path) -> str:
        match = pattern.search(path.as_posix())
        if match is None:
            return "(no group)"
        return str(match[1] if pattern.groups and match[1] is not None else match[0])

    return group


def _folder_names(folders: set[Path]) -> dict[Path, str]:
    """Names of folders below what contains them all; of a single one, its own."""
    absolute = {folder: folder.resolve() for folder in folders}
    try:
        root = Path(os.path.commonpath(absolute.values()))
    except ValueError:  # on several drives
        return {folder: path.as_posix() for folder, path in absolute.items()}
    return {
        folder: path.name if path == root else path.relative_to(root).as_posix()
        for folder, path in absolute.items()
    }


def _print(console: Console, found: Evaluation) -> None:
    """Tables of at most 80 columns, as long as the names of the groups allow it."""
    rows = list(found.groups.items())
    if len(rows) > 1:
        rows.append(("all", found.all))
    title = f"{found.model} above {found.threshold:g}"
    pixels = ("images", "accuracy", "Dice", "mean", "IoU", "particle", "backgr.", "calibr.")
    particles = ("true", "found", "matched", "precision", "recall", "diameter", "error")
    _print_table(console, f"{title}: pixels", pixels, rows, _pixel_cells)
    _print_table(console, f"{title}: particles", particles, rows, _particle_cells)
    table = Table("probability", title="all: what it is worth")
    for name in ("pixels", "mean probability", "particle fraction"):
        table.add_column(name, justify="right")
    for one in found.all.reliability:
        add_row(
            table,
            f"{one.low:.1f} to {one.high:.1f}",
            str(one.pixels),
            _number(one.mean_probability),
            _number(one.particle_fraction),
        )
    console.print(table)
    console.print(
        "mean: of the images' own Dice coefficients\n"
        "particle, backgr.: part of these pixels that was taken for what it is\n"
        "calibr.: expected calibration error of the probability\n"
        "error: mean diameter of what was found less that of the true particles",
        highlight=False,
    )


def _print_table(
    console: Console,
    title: str,
    names: tuple[str, ...],
    rows: list[tuple[str, Scores]],
    cells: Callable[[Scores], tuple[str, ...]],
) -> None:
    table = Table(Column("group", overflow="fold"), title=title, padding=(0, 0, 0, 1))
    for name in names:
        table.add_column(name, justify="right")
    for number, (group, scores) in enumerate(rows):
        if number and number == len(rows) - 1:
            table.add_section()
        add_row(table, group, *cells(scores))
    console.print(table)


def _pixel_cells(scores: Scores) -> tuple[str, ...]:
    (background, _), (_, particle) = scores.confusion_rows
    parts = (scores.pixel_accuracy, scores.dice, scores.mean_dice, scores.iou)
    cells = (*parts, particle, background, scores.calibration_error)
    return (str(scores.sections), *map(_number, cells))


def _particle_cells(scores: Scores) -> tuple[str, ...]:
    counts = scores.particles
    return (
        str(counts.true),
        str(counts.found),
        str(counts.matched),
        _number(scores.precision),
        _number(scores.recall),
        *(
            "-" if size != size else f"{size:{how}} {scores.diameter_unit}"
            for size, how in ((scores.true_diameter, ".2f"), (scores.diameter_error, "+.2f"))
        ),
    )


def _number(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.3f}"

"""Commands about the making of models: evaluate."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from nanostream.config import Config, override
from nanostream.errors import ConfigError, DataSetError
from nanostream_services.command_groups import add_row
from nanostream_services.loop import stopping

if TYPE_CHECKING:
    from nanostream.training.datasets import Pair
    from nanostream.training.evaluation import Evaluation, Scores

__all__ = ["evaluate"]

_INTERRUPTED = 130
_NAMED = 5  # of what has no partner


def evaluate(
    folders: Annotated[
        list[Path], typer.Argument(help="Micrographs with label PNGs; subfolders, too.")
    ],
    model: Annotated[str | None, typer.Option(help="See: nanostream models list.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Instead of the model card's.")] = None,
    group_by: Annotated[
        str,
        typer.Option(
            help="folder, or a regular expression: its first group, or all that it finds."
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
        if file is not None and not file.parent.is_dir():
            msg = f"{file}: there is no folder {file.parent}; make it, or choose another"
            raise ConfigError(msg)
    pairs = _pairs(folders)
    group_of = _grouping(group_by, [pair.image for pair in pairs])

    from nanostream.analysis import Analyzer
    from nanostream.training.datasets import read_pair

    analyzer = Analyzer(worker)
    sections = []
    with stopping() as stop, Progress(console=Console(stderr=True), transient=True) as bar:
        for pair in bar.track(pairs, description="evaluating"):
            if stop.is_set():
                raise typer.Exit(_INTERRUPTED)
            frame, truth = read_pair(pair)
            if frame.pixel_size_nm is None:
                frame = replace(frame, pixel_size_nm=pixel_size)
            sections.append(
                evaluation.evaluate_section(
                    truth,
                    analyzer(frame),
                    section=f"{pair.image.as_posix()}#{pair.z}",
                    group=group_of(pair.image),
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
    _print(Console(), found)
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    if figure is not None:
        evaluation.draw_evaluation(found, figure)


def _pairs(folders: list[Path]) -> list[Pair]:
    """Every labelled section once; what has no partner is named."""
    from nanostream.training.datasets import pair_labels

    pairings = [pair_labels(folder) for folder in dict.fromkeys(folders)]
    pairs = list(dict.fromkeys(pair for pairing in pairings for pair in pairing.pairs))
    unlabelled = [name for pairing in pairings for name in pairing.unlabelled]
    strays = [str(path) for pairing in pairings for path in pairing.strays]
    _say(unlabelled, "without a label, left out")
    _say(strays, "labels without a micrograph, left out")
    if not pairs:
        where = ", ".join(map(str, folders))
        msg = (
            f"{where}: not one micrograph with its label; the label of gold.mrc is gold.png, "
            "gold_label.png or label_gold.png beside it, of its section 3 gold.z3.png"
        )
        raise DataSetError(msg)
    return pairs


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
    pixels = ("sections", "accuracy", "Dice", "mean Dice", "IoU", "particle", "background")
    particles = ("true", "found", "matched", "precision", "recall", "diameter", "of the mask")
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
        "particle, background: part of these pixels that was taken for what it is\n"
        f"expected calibration error: {found.all.calibration_error:.4f}",
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
    return (str(scores.sections), *map(_number, (*parts, particle, background)))


def _particle_cells(scores: Scores) -> tuple[str, ...]:
    counts = scores.particles
    return (
        str(counts.true),
        str(counts.found),
        str(counts.matched),
        _number(scores.precision),
        _number(scores.recall),
        *(
            "-" if size != size else f"{size:.2f} {scores.diameter_unit}"
            for size in (scores.true_diameter, scores.found_diameter)
        ),
    )


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"

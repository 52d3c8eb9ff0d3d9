"""Scores of an evaluation as tables of 80 columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table

from nanostream_services.commands.printing import add_row

if TYPE_CHECKING:
    from nanostream.training.scores import Evaluation, Scores

__all__ = ["print_scores", "score"]


def print_scores(console: Console, found: Evaluation) -> None:
    """Print tables of at most 80 columns, as long as the names of the groups allow it."""
    rows = list(found.groups.items())
    if len(rows) > 1:
        rows.append(("all", found.all))
    title = f"{found.model} above {found.threshold:g}"
    pixels = ("images", "accuracy", "Dice", "mean", "IoU", "particle", "backgr.", "calibr.")
    particles = ("true", "found", "matched", "precision", "recall", "diameter", "error")
    _print_table(console, f"{title}: pixels", pixels, rows, _pixel_cells)
    _print_table(console, f"{title}: particles", particles, rows, _particle_cells)
    table = Table("probability", title="all: whether the probabilities are true")
    for name in ("pixels", "mean probability", "particle fraction"):
        table.add_column(name, justify="right")
    for one in found.all.reliability:
        add_row(
            table,
            f"{one.low:.1f} to {one.high:.1f}",
            str(one.pixels),
            score(one.mean_probability),
            score(one.particle_fraction),
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
    return (str(scores.sections), *map(score, cells))


def _particle_cells(scores: Scores) -> tuple[str, ...]:
    counts = scores.particles
    return (
        str(counts.true),
        str(counts.found),
        str(counts.matched),
        score(scores.precision),
        score(scores.recall),
        *(
            "-" if size != size else f"{size:{how}} {scores.diameter_unit}"
            for size, how in ((scores.true_diameter, ".2f"), (scores.diameter_error, "+.2f"))
        ),
    )


def score(value: float | None) -> str:
    """A score as tables show it; a dash where it has no meaning."""
    return "-" if value is None or value != value else f"{value:.3f}"

"""Figures of an evaluation, by matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nanostream.errors import ConfigError
from nanostream.training.scores import Evaluation, Scores, quotient

__all__ = ["FIGURE_SUFFIXES", "check_figure", "draw_evaluation"]

FIGURE_SUFFIXES = (".svg", ".png", ".pdf")

_CLASSES = ("background", "particle")
_BARS = {
    "pixel_accuracy": "pixel accuracy",
    "dice": "Dice",
    "iou": "IoU",
    "precision": "precision of particles",
    "recall": "recall of particles",
}


def check_figure(path: Path) -> None:
    """Say before the work whether `draw_evaluation` can write this file.

    Raises
    ------
    ConfigError
        For another suffix than `FIGURE_SUFFIXES`, or without matplotlib.
    """
    if path.suffix.lower() not in FIGURE_SUFFIXES:
        msg = f"{path}: a figure is written as one of {' '.join(FIGURE_SUFFIXES)}"
        raise ConfigError(msg)
    if find_spec("matplotlib") is None:
        msg = "figures need matplotlib, which is not installed: pip install matplotlib"
        raise ConfigError(msg)


def draw_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Figure of an evaluation: scores, calibration, confusion and errors of each group.

    Raises
    ------
    ConfigError
        As `check_figure`.
    """
    check_figure(path)
    from matplotlib.figure import Figure

    # Names are from folders: no mathematics in them.
    names = [*(name.replace("$", r"\$") for name in evaluation.groups), "all"]
    groups = [*evaluation.groups.values(), evaluation.all]
    figure = Figure(figsize=(14, 8), layout="constrained")
    (bars, reliability), (pixels, particles) = figure.subplots(2, 2, width_ratios=(1.5, 1))
    figure.suptitle(f"{evaluation.model} above {evaluation.threshold:g}")
    _draw_scores(bars, groups)
    _draw_confusion(pixels, groups)
    _draw_errors(particles, groups)
    _draw_reliability(reliability, names, groups)
    for axes in (bars, pixels, particles):
        axes.set_xticks(range(len(groups)), names, rotation=20)
    figure.savefig(path)


def _draw_scores(axes: Any, groups: Sequence[Scores]) -> None:
    for number, (measure, label) in enumerate(_BARS.items()):
        at = np.arange(len(groups)) + (number - 2) * 0.16
        axes.bar(at, [getattr(one, measure) for one in groups], 0.15, label=label)
    axes.set(ylim=(0, 1.3), yticks=np.linspace(0, 1, 6), title="by group")
    axes.legend(ncols=3, fontsize="small", loc="upper center")


def _draw_confusion(axes: Any, groups: Sequence[Scores]) -> None:
    """Confusion matrix of each group, as a column."""
    rows = np.array([one.confusion_rows for one in groups]).reshape(-1, 4).T
    axes.imshow(rows, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), part in np.ndenumerate(rows):
        colour = "white" if part > 0.5 else "black"
        text = "-" if math.isnan(part) else f"{part:.3f}"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set_yticks(range(4), [f"{true} as {taken}" for true in _CLASSES for taken in _CLASSES])
    axes.set_title("confusion matrix: parts of the true pixels")


def _draw_errors(axes: Any, groups: Sequence[Scores]) -> None:
    """Error of count and of mean diameter, as parts of the true ones; none without particles."""
    counts = [quotient(one.count_error, one.particles.true) for one in groups]
    sizes = [one.diameter_error / one.true_diameter for one in groups]
    for shift, values, label in ((-0.2, counts, "count"), (0.2, sizes, "mean diameter")):
        at = np.arange(len(groups)) + shift
        axes.bar(at, 100.0 * np.array(values), 0.38, label=label)
    axes.axhline(0.0, color="grey", linewidth=0.8)
    axes.set(ylabel="%", title="error of what was found")
    axes.legend(fontsize="small")


def _draw_reliability(axes: Any, names: Sequence[str], groups: Sequence[Scores]) -> None:
    axes.plot((0, 1), (0, 1), color="grey", linewidth=0.8)
    for name, scores in zip(names, groups, strict=True):
        points = [(one.mean_probability, one.particle_fraction) for one in scores.reliability]
        label = f"{scores.calibration_error:.3f} {name}"
        axes.plot(*zip(*points, strict=True), "o-", linewidth=1, markersize=3, label=label)
    axes.lines[-1].set(color="black", markersize=5)  # of all
    axes.set(xlim=(0, 1), ylim=(0, 1), title="expected calibration error")
    axes.set(xlabel="probability", ylabel="part that is particle")
    axes.legend(fontsize="small")

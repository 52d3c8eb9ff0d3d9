"""Figures of the paper's experiment, the same in every run, by matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nanostream.training.groschner2020.activations import activation_maps, draw_activations
from nanostream.training.groschner2020.comparison import Masks
from nanostream.training.groschner2020.findings import (
    BRAGG,
    MATERIALS,
    PUBLISHED,
    Counts,
    Score,
    score,
)
from nanostream.training.groschner2020.micrographs import Data, maxima_of
from nanostream.training.groschner2020.networks import load_network
from nanostream.training.groschner2020.plans import NETWORKS, ExperimentPlan, numbers_of
from nanostream.training.groschner2020.tiles import scale_tile
from nanostream.training.groschner2020.work import WorkFolder

__all__ = ["draw_figures"]


def draw_figures(
    out: Path,
    work: WorkFolder,
    plan: ExperimentPlan,
    data: Data,
    masks: Masks,
    counts: Counts,
    records: Mapping[str, Mapping[str, Any]],
) -> None:
    """All figures of the report."""
    scores = {key: score(value) for key, value in counts.items()}
    _draw_examples(out / "examples.png", plan, data, masks, counts)
    _draw_bars(out / "bars.svg", scores)
    _draw_confusions(out / "confusions.svg", scores)
    _draw_losses(out / "losses.svg", records)
    model, maxima = load_network(work, "combined"), maxima_of(data)
    for material in ("Au", "CdSe"):
        tile = data[material][numbers_of(plan, material)["test"][_typical(counts, material)]].tile
        image = scale_tile(tile, maximum=maxima[material])[0][..., 0]
        draw_activations(
            tile.pixels,
            activation_maps(model, image),
            out / f"activations_{material}.png",
            label=tile.label,
        )


def _typical(counts: Counts, material: str) -> int:
    """Test micrograph with the middle accuracy of the combined network: neither best nor worst."""
    found = counts["combined", material]
    accuracy = found[:, [0, 3]].sum(1) / found.sum(1)
    return int(np.argsort(accuracy, kind="stable")[(len(accuracy) - 1) // 2])


def _new_figure(width: float, height: float) -> Any:
    """Figure whose SVG is the same in every run."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "nanostream"
    return Figure(figsize=(width, height), dpi=90, layout="constrained")


def _save(figure: Any, path: Path) -> None:
    """Write a figure without the date."""
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {})


def _draw_examples(
    path: Path, plan: ExperimentPlan, data: Data, masks: Masks, counts: Counts
) -> None:
    """Micrographs of the middle, their truth, and the masks of every method."""
    methods = [*NETWORKS, BRAGG]
    figure = _new_figure(1.75 * (len(methods) + 2), 1.95 * len(MATERIALS))
    grid = figure.subplots(len(MATERIALS), len(methods) + 2, squeeze=False)
    for row, material in zip(grid, MATERIALS, strict=True):
        number = _typical(counts, material)
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
    _save(figure, path)


def _draw_bars(path: Path, scores: Mapping[tuple[str, str], Score]) -> None:
    """Our numbers beside the paper's."""
    figure = _new_figure(10.5, 4.2)
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
    _save(figure, path)


def _draw_confusions(path: Path, scores: Mapping[tuple[str, str], Score]) -> None:
    """Confusion matrices as the paper draws them, a row for each method."""
    methods = [*NETWORKS, BRAGG]
    figure = _new_figure(2.1 * len(MATERIALS), 2.1 * len(methods))
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
    _save(figure, path)


def _draw_losses(path: Path, records: Mapping[str, Mapping[str, Any]]) -> None:
    """Cross entropy of training and validation by epoch."""
    figure = _new_figure(6.0, 3.4)
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
    _save(figure, path)

"""Drawings of a report, as SVG that stands in the page."""

from __future__ import annotations

import io
import math
import re

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

__all__ = ["draw_series", "draw_sizes", "draw_stage"]

_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#777777"
#: More points than this make a page slow and show no more.
_MOST_POINTS = 2000


def draw_sizes(
    sizes: NDArray[np.float64],
    unit: str,
    *,
    median: float,
    interval: tuple[float, float],
    geometric_mean: float,
    gsd: float,
) -> str:
    """Histogram with the median, its 95 % interval and the log-normal fit; "" without particles.

    Parameters
    ----------
    sizes : (n,) float
        In `unit`.
    median, interval, geometric_mean, gsd
        Of `nanostream.records.Statistics`.
    """
    if not sizes.size:
        return ""
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    axes = figure.subplots()
    edges = _edges(sizes)
    axes.hist(sizes, edges.tolist(), color=_BLUE, alpha=0.55, edgecolor="white", linewidth=0.5)
    if math.isfinite(gsd) and gsd > 1:
        at = np.linspace(edges[0], edges[-1], 300)[1:]
        spread = math.log(gsd)
        density = np.exp(-0.5 * (np.log(at / geometric_mean) / spread) ** 2)
        density /= at * spread * math.sqrt(2 * math.pi)
        label = f"log-normal: {geometric_mean:.3g} {unit}, GSD {gsd:.3g}"
        axes.plot(at, density * sizes.size * (edges[1] - edges[0]), color=_ORANGE, label=label)
    if math.isfinite(median):
        label = f"median {median:.3g} {unit}"
        if all(map(math.isfinite, interval)):
            axes.axvspan(*interval, color=_GREY, alpha=0.25, linewidth=0)
            label += f", 95 % within {interval[0]:.3g} to {interval[1]:.3g}"
        axes.axvline(median, color=_GREY, label=label)
    axes.set_xlabel(f"equivalent circular diameter, {unit}")
    axes.set_ylabel("particles")
    axes.set_xlim(edges[0], edges[-1])
    axes.legend(frameon=False, fontsize="small")
    return _svg(figure, "Histogram of sizes")


def draw_series(series: pd.DataFrame, unit: str) -> str:
    """Count, median size and covered area of the sections over time; "" for fewer than two."""
    if len(series) < 2:
        return ""
    thinned = series.iloc[:: math.ceil(len(series) / _MOST_POINTS)]
    time, time_unit = _scaled(thinned["time_s"].to_numpy(float))
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    rows = (
        ("count", "particles"),
        ("median", f"median, {unit}"),
        ("area_percent", "area, %"),
    )
    for axes, (column, name) in zip(figure.subplots(3, sharex=True), rows, strict=True):
        dots = "." if len(thinned) < 400 else ""
        axes.plot(time, thinned[column], marker=dots, markersize=3, linewidth=0.8, color=_BLUE)
        axes.set_ylabel(name)
        axes.set_ylim(bottom=0 if column != "median" else None)
        axes.margins(x=0.01)
    axes.set_xlabel(f"time, {time_unit}")
    return _svg(figure, "Quantities over time")


def draw_stage(series: pd.DataFrame, unit: str) -> str:
    """Map of stage positions, coloured by the median size, dots by count; "" if it stood still."""
    known = series.dropna(subset=["stage_x_um", "stage_y_um"])
    if len(known[["stage_x_um", "stage_y_um"]].drop_duplicates()) < 2:
        return ""
    figure = Figure(figsize=(5.5, 4.4), layout="constrained")
    axes = figure.subplots()
    area = 12 + 60 * known["count"] / max(1, known["count"].max())
    dots = axes.scatter(known["stage_x_um"], known["stage_y_um"], area, known["median"])
    figure.colorbar(dots, ax=axes, label=f"median size, {unit}")
    axes.set_xlabel("stage x, µm")
    axes.set_ylabel("stage y, µm")
    axes.set_aspect("equal", adjustable="datalim")
    return _svg(figure, "Stage positions")


def _edges(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bins by Freedman and Diaconis, at most 60; the few largest particles do not widen them."""
    low, high = 0.0, float(np.percentile(sizes, 99.5)) * 1.05
    quarter, third = np.percentile(sizes, [25, 75])
    width = 2 * (third - quarter) / np.cbrt(sizes.size)
    bins = int(np.clip(math.ceil((high - low) / width) if width > 0 else 10, 8, 60))
    return np.linspace(low, high or 1.0, bins + 1)


def _scaled(time_s: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    longest_s = float(np.nanmax(time_s))
    for unit, seconds in (("h", 3600.0), ("min", 60.0)):
        if longest_s > 2 * seconds:
            return time_s / seconds, unit
    return time_s, "s"


def _svg(figure: Figure, title: str) -> str:
    """The drawing as an element of a page, with its own ids and a title for who cannot see it."""
    text = io.StringIO()
    with rc_context({"svg.hashsalt": title, "svg.fonttype": "path"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Title": title})
    drawing = re.sub(r"^.*?(?=<svg)", "", text.getvalue(), flags=re.DOTALL)
    # A size in points would not become narrower on a phone.
    return re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", drawing, count=1).replace(
        "<svg ", '<svg role="img" ', 1
    )

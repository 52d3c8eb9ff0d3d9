"""Errors of the particles' measures on shapes of known size, as tables and a plot.

::

    python scripts/shape_bias.py                                   (half a minute)
    python scripts/shape_bias.py --plot docs/images/shape-bias.svg

Each shape is laid on the pixels at random places and angles; a pixel belongs to it where the
pixel's centre does. Three tables are printed as Markdown: the bias of each measure by shape and
size, the bias of three models of a particle's hull, and how often the shape class is right. They
are in docs/reference/measures.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nanostream.particles.measures import measure_particles
from nanostream.particles.runs import runs_of
from nanostream.particles.shapes import ferets, hulls
from nanostream.records import SHAPE_CLASSES

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Directions in which a shape's outline is given.
ANGLES: Floats = np.linspace(0, 2 * np.pi, 4096, endpoint=False)
SIZES_PX = (3, 5, 8, 12, 20, 40, 80, 200)
MEASURES = (
    *("area_px", "diameter_px", "perimeter_px", "circularity", "feret_max_px", "feret_min_px"),
    *("major_px", "minor_px", "aspect_ratio", "roundness", "solidity", "convexity"),
)
#: Ways to make a polygon of a particle: by points around each centre, in half pixels.
HULLS = {
    "corners of pixels": [(1, 1), (-1, 1), (-1, -1), (1, -1)],
    "midpoints of their edges": [(1, 0), (0, 1), (-1, 0), (0, -1)],
    "their centres": [(0, 0)],  # and half a pixel on each side
}


class Shape(NamedTuple):
    """An outline by its distance from the middle in each of `ANGLES`."""

    name: str
    radius: Floats

    @property
    def outline(self) -> Floats:
        """Points x, y of the outline, (n, 2)."""
        x, y = self.radius * np.cos(ANGLES), self.radius * np.sin(ANGLES)
        return np.stack([x, y], axis=1)

    @property
    def diameter(self) -> float:
        """Equivalent circular diameter, in units of the radius."""
        return float(np.sqrt(4 * _area(self.outline) / np.pi))

    def true(self) -> dict[str, float]:
        """Its measures; those of lengths in units of the radius."""
        points = self.outline
        area, perimeter = _area(points), _perimeter(points)
        hull = cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64)
        across = [np.ptp(hull @ [np.cos(a), np.sin(a)]) for a in np.linspace(0, np.pi, 1441)]
        feret_max, feret_min = float(max(across)), float(min(across))
        minor, major = 4 * np.sqrt(np.linalg.eigvalsh(self._moments(area)))
        return {
            "area_px": area,
            "diameter_px": self.diameter,
            "perimeter_px": perimeter,
            "circularity": 4 * np.pi * area / perimeter**2,
            "feret_max_px": feret_max,
            "feret_min_px": feret_min,
            "major_px": major,
            "minor_px": minor,
            "aspect_ratio": feret_min / feret_max,
            "roundness": 4 * area / np.pi / feret_max**2,
            "solidity": area / _area(hull),
            "convexity": _perimeter(hull) / perimeter,
        }

    def _moments(self, area: float) -> Floats:
        """Second moments about the centroid, over the area."""
        step = 2 * np.pi / ANGLES.size
        along = np.stack([np.cos(ANGLES), np.sin(ANGLES)])
        centre = (along * self.radius**3).sum(axis=1) / 3 * step / area
        about = (along[:, None] * along[None] * self.radius**4).sum(axis=2) / 4 * step / area
        return np.asarray(about - np.outer(centre, centre), np.float64)


def disc() -> Shape:
    return Shape("disc", np.ones(ANGLES.size))


def ellipse(ratio: float) -> Shape:
    radius = 1 / np.hypot(np.cos(ANGLES), ratio * np.sin(ANGLES))
    return Shape(f"ellipse {ratio:g}:1", radius)


def rectangle(ratio: float, name: str = "") -> Shape:
    radius = 1 / np.maximum(abs(np.cos(ANGLES)), ratio * abs(np.sin(ANGLES)))
    return Shape(name or f"rectangle {ratio:g}:1", radius)


def polygon(corners: int, name: str) -> Shape:
    half = np.pi / corners
    return Shape(name, np.cos(half) / np.cos(ANGLES % (2 * half) - half))


def cut_square(cut: float) -> Shape:
    """A square whose corners are cut off, each by a part of half a side."""
    x, y = abs(np.cos(ANGLES)), abs(np.sin(ANGLES))
    return Shape("square, corners cut", 1 / np.maximum(np.maximum(x, y), (x + y) / (2 - cut)))


def star(corners: int, depth: float) -> Shape:
    return Shape(f"star of {corners}", 1 + depth * np.cos(corners * ANGLES))


def two_discs(apart: float) -> Shape:
    """Two discs of radius 1 whose centres are so far apart, at most 2."""
    half = apart / 2
    radius = half * abs(np.cos(ANGLES)) + np.sqrt(1 - (half * np.sin(ANGLES)) ** 2)
    return Shape(f"two discs, {apart:g} radii apart", np.asarray(radius, np.float64))


def rough(
    shape: Shape, share: float, rng: np.random.Generator, longest: int = 2, shortest: int = 8
) -> Shape:
    """The shape with waves along its outline, of so large a standard deviation.

    The longest and the shortest wave are given by how often they go around the outline.
    """
    waves: Floats = np.zeros(ANGLES.size)
    for number in range(longest, shortest + 1):
        phase = rng.uniform(0, 2 * np.pi)
        waves += rng.normal() / number * np.cos(number * ANGLES + phase)
    height = share / float(waves.std())
    radius: Floats = np.asarray(shape.radius * (1 + height * waves), np.float64)
    return Shape(shape.name, radius)


def drawn(shape: Shape, scale: float, rng: np.random.Generator) -> Mask:
    """The shape on pixels, at a random place and angle, with background around it."""
    half = int(scale * shape.radius.max()) + 8
    turn = rng.uniform(0, 2 * np.pi)
    dx, dy = rng.uniform(-0.5, 0.5, 2)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    angle = (np.arctan2(y - dy, x - dx) - turn) % (2 * np.pi)
    reach = np.interp(angle, ANGLES, scale * shape.radius, period=2 * np.pi)
    inside = np.hypot(y - dy, x - dx) <= reach
    rows, columns = inside.any(axis=1).nonzero()[0], inside.any(axis=0).nonzero()[0]
    return np.pad(inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 8)


def beside(masks: Sequence[Mask]) -> NDArray[np.int32]:
    """Labels 1, 2, ... of masks beside each other."""
    height = max(mask.shape[0] for mask in masks)
    return np.concatenate(
        [
            np.pad(np.where(mask, number, 0), ((0, height - mask.shape[0]), (0, 0)))
            for number, mask in enumerate(masks, 1)
        ],
        axis=1,
    ).astype(np.int32)


def measured(masks: Sequence[Mask]) -> pd.DataFrame:
    """Particle table of one row per mask."""
    labels = beside(masks)
    ones = np.ones(labels.shape, np.float32)
    return measure_particles(labels, ones, ones, pixel_size_nm=None)


def bias(shape: Shape, size_px: float, times: int, rng: np.random.Generator) -> pd.DataFrame:
    """Relative errors of `MEASURES`, a row each time, of a shape by its least width."""
    true = shape.true()
    scale = size_px / true["feret_min_px"]
    table = measured([drawn(shape, scale, rng) for _ in range(times)])
    powers = {name: name.endswith("_px") + (name == "area_px") for name in MEASURES}
    return pd.DataFrame(
        {n: table[n].to_numpy() / (true[n] * scale ** powers[n]) - 1 for n in MEASURES}
    )


def known_shapes() -> list[Shape]:
    return [disc(), ellipse(2), rectangle(1, "square"), rectangle(4, "rod 4:1")]


def classes(rng: np.random.Generator) -> Iterator[tuple[str, str, Callable[[], Shape]]]:
    """Name, right class, and a maker of one of a kind."""
    yield "disc", "round", disc
    yield "disc, rough by 3 %", "round", lambda: rough(disc(), 0.03, rng)
    yield "ellipse 1.3:1, rough by 3 %", "round", lambda: rough(ellipse(1.3), 0.03, rng)
    yield "ellipse 2:1", "elongated", lambda: ellipse(2)
    yield "rod 4:1, rough by 3 %", "elongated", lambda: rough(rectangle(4), 0.03, rng)
    yield "hexagon", "faceted", lambda: polygon(6, "hexagon")
    yield "hexagon, rough by 3 %", "faceted", lambda: rough(polygon(6, "hexagon"), 0.03, rng)
    yield "square", "faceted", lambda: rectangle(1)
    yield "rectangle 1.3:1, rough by 3 %", "faceted", lambda: rough(rectangle(1.3), 0.03, rng)
    yield "triangle", "faceted", lambda: polygon(3, "triangle")
    yield "octagon, nearly", "round", lambda: cut_square(0.5)
    yield "disc, jagged by 5 %", "irregular", lambda: rough(disc(), 0.05, rng, 8, 16)
    yield "star of five", "irregular", lambda: star(5, 0.2)
    yield "two discs, 1.9 radii apart", "aggregate", lambda: two_discs(1.9)
    yield "two discs, 1.7 radii apart", "aggregate", lambda: two_discs(1.7)


def bias_table(rng: np.random.Generator, sizes_px: Iterable[float]) -> pd.DataFrame:
    """Mean and standard deviation of the errors in per cent, by shape, size and measure."""
    rows = []
    for shape in known_shapes():
        for size_px in sizes_px:
            errors = 100 * bias(shape, size_px, 40 if size_px < 100 else 12, rng)
            rows += [
                (shape.name, size_px, name, errors[name].mean(), errors[name].std())
                for name in MEASURES
            ]
    return pd.DataFrame(rows, columns=["shape", "size_px", "measure", "mean", "sd"])


def hull_table(rng: np.random.Generator, sizes_px: Iterable[float]) -> pd.DataFrame:
    """Mean errors of Feret diameters (px) and hull area (%) by three models of the hull."""
    rows = []
    for shape in known_shapes():
        true = shape.true()
        for size_px in sizes_px:
            scale = size_px / true["feret_min_px"]
            masks = [drawn(shape, scale, rng) for _ in range(40 if size_px < 100 else 12)]
            runs = runs_of(beside(masks))
            for model, points in HULLS.items():
                found = hulls(runs, np.array(points))
                feret, area = ferets(found), found.area_px
                wider = float(model == "their centres")
                area = area + wider * (found.perimeter_px / 2 + np.pi / 4)
                whole = scale**2 * true["area_px"] / true["solidity"]
                errors = (
                    feret.greatest_px + wider - scale * true["feret_max_px"],
                    feret.least_px + wider - scale * true["feret_min_px"],
                    100 * (area / whole - 1),
                )
                rows.append((shape.name, size_px, model, *(error.mean() for error in errors)))
    names = ["shape", "size_px", "hull", "feret_max_px", "feret_min_px", "area_percent"]
    return pd.DataFrame(rows, columns=names)


def class_table(rng: np.random.Generator, times: int = 40) -> pd.DataFrame:
    """Shares of the right class in per cent, and of the commonest wrong one, by size."""
    rows = []
    for name, right, make in classes(rng):
        row: dict[str, str] = {"shape": name, "class": right}
        for size_px in (12, 20, 40, 80):
            masks = []
            for _ in range(times):
                shape = make()
                masks.append(drawn(shape, size_px / shape.diameter, rng))
            found = measured(masks)["shape_class"].value_counts(normalize=True)
            wrong = found.drop(right, errors="ignore")
            shown = f"{100 * found.get(right, 0.0):.0f} %"
            if len(wrong) and wrong.iloc[0] >= 0.05:
                shown += f" ({wrong.index[0]} {100 * wrong.iloc[0]:.0f} %)"
            row[f"{size_px} px"] = shown
        rows.append(row)
    return pd.DataFrame(rows)


def plot(table: pd.DataFrame, path: Path) -> None:
    """Bias over size, a panel for each shape."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams |= {"svg.hashsalt": "shape_bias", "svg.fonttype": "none", "font.size": 8}
    names = [name for name in MEASURES if name not in ("area_px", "aspect_ratio", "convexity")]
    figure, axes = plt.subplots(2, 2, figsize=(8, 6), sharex=True, sharey=True, layout="tight")
    for axis, (shape, rows) in zip(axes.flat, table.groupby("shape", sort=False), strict=True):
        axis.axhline(0, color="0.6", linewidth=0.8)
        for name, line in rows[rows["measure"].isin(names)].groupby("measure", sort=False):
            axis.plot(line["size_px"], line["mean"], marker=".", label=name, linewidth=1)
        axis.set(title=str(shape), xscale="log", ylim=(-16, 16))
        axis.set_xticks(SIZES_PX, [str(size) for size in SIZES_PX], minor=False)
        axis.minorticks_off()
    for axis in axes[1]:
        axis.set_xlabel("least width, px")
    for axis in axes[:, 0]:
        axis.set_ylabel("mean error, %")
    axes[0, 1].legend(fontsize=7, ncols=2)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _area(points: Floats) -> float:
    x, y = points.T
    return float(abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2)


def _perimeter(points: Floats) -> float:
    return float(np.hypot(*(np.roll(points, -1, axis=0) - points).T).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--plot", type=Path, help="write the plot here (SVG)")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    rng = np.random.default_rng(chosen.seed)
    table = bias_table(rng, SIZES_PX)
    shown = table.assign(
        error=[f"{m:+.1f} ± {s:.1f}" for m, s in table[["mean", "sd"]].to_numpy()]
    ).pivot_table(
        index=["shape", "size_px"], columns="measure", values="error", aggfunc="first", sort=False
    )
    print(markdown(shown[list(MEASURES)].reset_index()))
    print("\n" + markdown(hull_table(rng, (5, 12, 40)).round(2)))
    print("\n" + markdown(class_table(np.random.default_rng(chosen.seed))))
    print("\nclasses:", ", ".join(SHAPE_CLASSES))
    if chosen.plot:
        plot(table, chosen.plot)


if __name__ == "__main__":
    main()

"""Micrographs of the paper's experiment: simulated once, read for training and test."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nanostream.segmentation.normalization import median_filter
from nanostream.training.groschner2020.findings import MATERIALS
from nanostream.training.groschner2020.plans import ExperimentPlan, numbers_of
from nanostream.training.groschner2020.specimens import simulate_micrograph
from nanostream.training.groschner2020.tiles import Tile, greatest_count
from nanostream.training.groschner2020.work import Progress, WorkFolder
from nanostream.training.pools import in_processes

__all__ = ["Data", "Example", "maxima_of", "one_thread_each", "read_data", "simulate"]


def simulate(work: WorkFolder, plan: ExperimentPlan, *, jobs: int, progress: Progress) -> None:
    """Simulate all micrographs that are not there yet."""
    wanted = [
        (work.scene(material, number), plan.seed, material, number, plan.size_px)
        for material in MATERIALS
        for number in range(numbers_of(plan, material)["test"].stop)
    ]
    for path, *_ in wanted:
        path.parent.mkdir(parents=True, exist_ok=True)
    missing = [item for item in wanted if not item[0].exists()]
    there = len(wanted) - len(missing)
    progress.update("simulating", there, len(wanted))
    with (
        one_thread_each(),
        closing(in_processes(simulate_micrograph, missing, jobs=jobs)) as finished,
    ):
        for done, _ in enumerate(finished, start=there + 1):
            progress.update("simulating", done, len(wanted))


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Environment in which each new process computes with one thread."""
    names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@dataclass(frozen=True, eq=False)
class Example:
    """A micrograph as taken, and as the network takes it."""

    pixels: NDArray[np.int16]
    tile: Tile
    pixel_size_nm: float


Data = dict[str, list[Example]]
"""Micrographs of each material, in order of their number."""


def read_data(work: WorkFolder, plan: ExperimentPlan) -> Data:
    """All micrographs of each material, in order of their number."""
    data: Data = {}
    for material in MATERIALS:
        data[material] = []
        for number in range(numbers_of(plan, material)["test"].stop):
            with np.load(work.scene(material, number)) as scene:
                pixels, label = scene["pixels"][0], scene["instances"] > 0
                size_nm = float(json.loads(str(scene["scene"]))["pixel_size_nm"])
            tile = Tile(median_filter(pixels), label, material)
            data[material].append(Example(pixels, tile, size_nm))
    return data


def maxima_of(data: Data) -> dict[str, float]:
    """Greatest filtered count of each material's data set, by which it is divided (II B)."""
    return {name: float(greatest_count(one.tile for one in data[name])) for name in data}

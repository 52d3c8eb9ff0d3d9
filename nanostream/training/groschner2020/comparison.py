"""Masks of every method on the test micrographs: networks, Bragg filter, shipped models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanostream.analysis import Analyzer
from nanostream.config import Worker
from nanostream.records import Frame, SectionId
from nanostream.training.groschner2020.bragg import (
    BraggSettings,
    choose_settings,
    segment_lattice,
)
from nanostream.training.groschner2020.findings import BRAGG, MATERIALS
from nanostream.training.groschner2020.fit import predict_tiles
from nanostream.training.groschner2020.micrographs import (
    Data,
    Example,
    maxima_of,
    one_thread_each,
)
from nanostream.training.groschner2020.networks import load_network
from nanostream.training.groschner2020.plans import (
    NETWORKS,
    SHIPPED,
    ExperimentPlan,
    members,
    numbers_of,
)
from nanostream.training.groschner2020.work import Progress, WorkFolder, write_json
from nanostream.training.pools import in_processes

__all__ = ["BRAGG_OWN", "Masks", "bragg_settings", "make_masks"]

BRAGG_OWN = "Bragg filter, own settings"

Masks = dict[tuple[str, str], NDArray[np.bool_]]
"""Masks (N, H, W) of the test micrographs by method and material."""

_Examples = list[tuple[NDArray[np.int16], NDArray[np.bool_], float]]


def bragg_settings(
    work: WorkFolder, plan: ExperimentPlan, data: Data, *, jobs: int, progress: Progress
) -> dict[str, BraggSettings]:
    """Settings chosen on the training images of each network; the first of them, to save time."""
    stage = "choosing Bragg settings"
    if work.bragg.exists():
        chosen = json.loads(work.bragg.read_text(encoding="utf-8"))
    else:
        chosen = {}
        calls = [
            (network, _bragg_examples(plan, network, data), plan.bragg_grid) for network in NETWORKS
        ]
        with one_thread_each(), closing(in_processes(_choose_bragg, calls, jobs=jobs)) as finished:
            for network, settings in finished:
                chosen[network] = settings
                progress.update(stage, len(chosen), len(NETWORKS))
        write_json(work.bragg, chosen)
    progress.update(stage, len(NETWORKS), len(NETWORKS))
    return {network: BraggSettings(**chosen[network]) for network in NETWORKS}


def _bragg_examples(plan: ExperimentPlan, network: str, data: Data) -> _Examples:
    pairs = members(plan, network)["train"][: plan.bragg_images]
    picked = [data[material][number] for material, number in pairs]
    return [(one.pixels, one.tile.label, one.pixel_size_nm) for one in picked]


def _choose_bragg(
    network: str, examples: _Examples, grid: dict[str, list[float]]
) -> tuple[str, dict[str, float]]:
    """Settings of the Bragg filter for training images (runs in a worker process)."""
    images, labels, sizes_nm = zip(*examples, strict=True)
    return network, asdict(choose_settings(images, labels, pixel_sizes_nm=sizes_nm, grid=grid))


def make_masks(
    work: WorkFolder,
    plan: ExperimentPlan,
    data: Data,
    records: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, BraggSettings],
    *,
    progress: Progress,
) -> Masks:
    """Masks of every method on every material's test set."""
    maxima = maxima_of(data)
    tests = {name: [data[name][k] for k in numbers_of(plan, name)["test"]] for name in MATERIALS}
    wanted = [(BRAGG, material, "combined") for material in MATERIALS]
    wanted += [(BRAGG_OWN, material, f"{material} only") for material in ("Au", "CdSe")]
    total = len(MATERIALS) * (len(NETWORKS) + len(SHIPPED)) + len(wanted)
    masks: Masks = {}

    def add(method: str, material: str, found: NDArray[np.bool_]) -> None:
        masks[method, material] = found
        progress.update("testing", len(masks), total)

    for network in NETWORKS:
        model = load_network(work, network)
        for material, examples in tests.items():
            tiles = [one.tile for one in examples]
            found = predict_tiles(model, tiles, maximum=lambda tile: maxima[tile.source])
            add(network, material, found > records[network]["threshold"])
    for method, material, chosen_on in wanted:
        add(method, material, _bragg_masks(tests[material], settings[chosen_on]))
    for method, name in SHIPPED.items():
        analyzer = Analyzer(Worker(model=name))
        for material, examples in tests.items():
            add(method, material, _shipped_masks(analyzer, material, examples))
    return masks


def _bragg_masks(examples: list[Example], settings: BraggSettings) -> NDArray[np.bool_]:
    return np.stack(
        [
            segment_lattice(one.pixels, settings, pixel_size_nm=one.pixel_size_nm) > 0
            for one in examples
        ]
    )


def _shipped_masks(analyzer: Analyzer, material: str, examples: list[Example]) -> NDArray[np.bool_]:
    frames = [
        Frame(SectionId(material, k), one.pixels, pixel_size_nm=one.pixel_size_nm)
        for k, one in enumerate(examples)
    ]
    return np.stack([analyzer(frame).labels > 0 for frame in frames])

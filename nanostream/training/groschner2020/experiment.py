"""The experiment of the paper, done again on simulated micrographs.

Simulates Au, CdSe and Pd as the paper images them, trains its three networks (Au only, CdSe only,
both) by its recipe, tests each on every material, sets the automatic Bragg filter and the shipped
models beside them, and writes table, figures, verdicts and ``results.json``. Every scene has a seed
of its own, derived from the plan's seed, its material and its number. No real micrograph is read.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nanostream.segmentation.models import find_model
from nanostream.training.groschner2020.bragg import BraggSettings
from nanostream.training.groschner2020.comparison import bragg_settings, make_masks
from nanostream.training.groschner2020.figures import draw_figures
from nanostream.training.groschner2020.findings import (
    MATERIALS,
    PUBLISHED,
    Counts,
    Finding,
    Published,
    Score,
    confusions,
    judge,
    score,
)
from nanostream.training.groschner2020.micrographs import Data, maxima_of, read_data, simulate
from nanostream.training.groschner2020.networks import train
from nanostream.training.groschner2020.page import write_page
from nanostream.training.groschner2020.plans import (
    NETWORKS,
    SHIPPED,
    ExperimentPlan,
    numbers_of,
)
from nanostream.training.groschner2020.specimens import SPECIMENS
from nanostream.training.groschner2020.work import Progress, WorkFolder, write_json

__all__ = ["Outcome", "reproduce"]


@dataclass(frozen=True)
class Outcome:
    """Scores by method and material, and the verdicts on the paper's findings."""

    scores: dict[tuple[str, str], Score]
    findings: list[Finding]


def reproduce(
    work: WorkFolder,
    plan: ExperimentPlan,
    out: Path,
    *,
    jobs: int,
    command: str,
    commit: str,
    progress: Progress,
) -> Outcome:
    """Run all stages in turn; finished scenes, networks and settings are not made again.

    Parameters
    ----------
    out
        Folder for figures, page and ``results.json``.
    jobs
        Processes for what does not need a network.
    command, commit
        For the page: how it was made, and of which code.

    Raises
    ------
    DataSetError
        If the work folder was begun with another plan.
    """
    work.begin(plan)
    with work.timed("simulation"):
        simulate(work, plan, jobs=jobs, progress=progress)
    data = read_data(work, plan)
    maxima = maxima_of(data)
    with work.timed("training"):
        records = {
            network: train(
                work, plan, network, data, maxima, versions=_versions(), progress=progress
            )
            for network in NETWORKS
        }
    with work.timed("Bragg settings"):
        settings = bragg_settings(work, plan, data, jobs=jobs, progress=progress)
    with work.timed("test and figures"):
        masks = make_masks(work, plan, data, records, settings, progress=progress)
        truth = {
            name: [data[name][k].tile.label for k in numbers_of(plan, name)["test"]]
            for name in MATERIALS
        }
        counts = {key: confusions(truth[key[1]], list(found)) for key, found in masks.items()}
        out.mkdir(parents=True, exist_ok=True)
        draw_figures(out, work, plan, data, masks, counts, records)
    outcome = Outcome({key: score(value) for key, value in counts.items()}, judge(counts))
    results = {
        "plan": asdict(plan),
        "command": command,
        "commit": commit,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": _versions(),
        "times": work.times,
        **_made(data, maxima, records, settings),
        "scores": _score_rows(outcome.scores, counts),
        "findings": [asdict(one) for one in outcome.findings],
    }
    write_json(out / "results.json", results)
    write_page(out / "README.md", results, outcome.scores, outcome.findings)
    return outcome


def _made(
    data: Data,
    maxima: Mapping[str, float],
    records: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, BraggSettings],
) -> dict[str, Any]:
    """Specimens, networks and settings, for ``results.json``."""
    return {
        "specimens": {name: asdict(one) for name, one in SPECIMENS.items()},
        "particle_pixels": {
            name: float(np.mean([one.tile.label.mean() for one in data[name]])) for name in data
        },
        "normalization": "dataset-max, each material by its own maximum",
        "maxima": dict(maxima),
        "networks": dict(records),
        "bragg": {name: asdict(one) for name, one in settings.items()},
        "shipped": {
            name: {key: getattr(card, key) for key in ("weights_sha256", "threshold", "date")}
            for name, card in ((name, find_model(name)[0]) for name in SHIPPED.values())
        },
    }


def _score_rows(scores: Mapping[tuple[str, str], Score], counts: Counts) -> list[dict[str, Any]]:
    return [
        {
            "method": method,
            "tested_on": material,
            "paper": asdict(PUBLISHED.get((method, material), Published(None, None))),
            **asdict(one),
            "confusions": counts[method, material].tolist(),
        }
        for (method, material), one in scores.items()
    ]


def _versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    packages = ("nanostream", "abtem", "ase", "keras", "tensorflow", "numpy", "scipy")
    found = {package: version(package) for package in packages}
    return {"python": platform.python_version(), **found}

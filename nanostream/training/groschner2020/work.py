"""Work folder of the paper's experiment: what is finished is there, whole, and not made again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from nanostream.errors import DataSetError
from nanostream.training.groschner2020.plans import ExperimentPlan

__all__ = ["Progress", "WorkFolder", "write_json"]


class Progress(Protocol):
    """Receiver of how far the experiment is."""

    def update(self, stage: str, done: int, total: int) -> None:
        """So much of a stage is done."""
        ...

    def note(self, line: str) -> None:
        """A line worth reading, such as the losses of an epoch."""
        ...


@dataclass(frozen=True)
class WorkFolder:
    """Paths of the experiment's files below one folder."""

    folder: Path

    def begin(self, plan: ExperimentPlan) -> None:
        """Keep the plan of a new folder, and refuse another one's.

        Raises
        ------
        DataSetError
            If the folder was begun with another plan.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "plan.json"
        text = json.dumps(asdict(plan), indent=2) + "\n"
        if not path.exists():
            path.write_text(text, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != text:
            msg = (
                f"{self.folder} was begun with other settings (plan.json); give them again, or "
                "another --work"
            )
            raise DataSetError(msg)

    def scene(self, material: str, number: int) -> Path:
        """File of one micrograph."""
        return self.folder / "scenes" / material / f"{number:03d}.npz"

    def network(self, name: str) -> Path:
        """Folder of a trained network."""
        return self.folder / "networks" / name.replace(" ", "-")

    @property
    def bragg(self) -> Path:
        """File of the Bragg filter's settings."""
        return self.folder / "bragg.json"

    @property
    def times(self) -> dict[str, dict[str, float]]:
        """Seconds spent on each stage: ``wall_s`` and ``cpu_s``."""
        path = self.folder / "times.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of a stage to what earlier runs have spent on it."""
        start, cpu = time.monotonic(), cpu_s()
        yield
        times = self.times
        spent = times.setdefault(stage, {"wall_s": 0.0, "cpu_s": 0.0})
        spent["wall_s"] = round(spent["wall_s"] + time.monotonic() - start, 1)
        spent["cpu_s"] = round(spent["cpu_s"] + cpu_s() - cpu, 1)
        write_json(self.folder / "times.json", times)


def cpu_s() -> float:
    """Processor time of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, complete or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)

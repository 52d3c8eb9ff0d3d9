"""Sets of simulated micrographs: many scenes, each from a seed of its own, in several processes.

::

    simulate_set    scenes 0 to N - 1 into a folder           -> scene_0000.npz, ..., and set.json

Scene k depends on the seed, the set's name and k only, not on how many there are: a set can be
made longer, and an interrupted one is resumed. A file has the micrographs, the truth and all
that was drawn for them (`nanostream.training.scenes.Scene`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nanostream.errors import ConfigError, DataSetError
from nanostream.training.pools import StopFlag, in_processes

if TYPE_CHECKING:
    from nanostream.training.scenes import Kind

__all__ = [
    "NAMES",
    "SET_FILE",
    "SetPlan",
    "scene_path",
    "scene_rng",
    "simulate_set",
]

#: Sets that share a seed and no scene.
NAMES = ("train", "validation", "test", "bare", "bare-test", "faint", "defocused")

_KINDS: dict[str, Kind] = {
    "bare": "bare",
    "bare-test": "bare",
    "faint": "faint",
    "defocused": "defocused",
}

#: In a set's folder: how its scenes were drawn.
SET_FILE = "set.json"

_NO_ABTEM = (
    "abTEM is not installed on this machine; install nanostream with its simulation: "
    "pip install '.[simulate]' in a clone"
)


@dataclass(frozen=True)
class SetPlan:
    """How the scenes of a set are drawn, however many.

    Attributes
    ----------
    seed
        Of the whole set, 0 or more.
    size_px
        Height and width of the micrographs; the least particle needs 256.
    materials
        What the particles may be made of; all that can be simulated if empty.
    name
        One of `NAMES`: sets of one seed and different names have no scene in common. "bare" and
        "bare-test" have supports without particles, most of them with soot or dirt, "faint" has
        small particles in much amorphous matter, "defocused" small particles far from focus.
    in_turn
        Scene k has the material k modulo their number alone, so that each gets its own score.
    """

    seed: int
    size_px: int = 512
    materials: tuple[str, ...] = ()
    name: str = "train"
    in_turn: bool = False

    @property
    def kind(self) -> Kind:
        """Of the scenes, see `nanostream.training.scenes.draw_scene`."""
        return _KINDS.get(self.name, "usual")

    def materials_of(self, number: int) -> tuple[str, ...]:
        """Materials that the particles of one scene may be made of."""
        return (self.materials[number % len(self.materials)],) if self.in_turn else self.materials


def scene_rng(seed: int, name: str, number: int) -> np.random.Generator:
    """Random generator of one scene; no two scenes of any set share a stream."""
    return np.random.default_rng(
        np.random.SeedSequence(seed, spawn_key=(NAMES.index(name), number))
    )


def scene_path(folder: Path, number: int) -> Path:
    """File of one scene."""
    return folder / f"scene_{number:04d}.npz"


def simulate_set(
    folder: Path,
    plan: SetPlan,
    *,
    scenes: int,
    jobs: int = 1,
    stop: StopFlag | None = None,
    on_scene: Callable[[int], None] | None = None,
    simulate: Callable[[Path, SetPlan, int], int] | None = None,
) -> list[Path]:
    """Scene files of a set, in order; those that are there already are not made again.

    Parameters
    ----------
    folder
        Made if absent.
    scenes
        How many; fewer than are there is no reason to delete any.
    jobs
        Processes, each with one thread and, for 512 px, up to about 1 GB of memory.
    stop
        Checked five times a second. Scenes that are being simulated then are given up, and the
        list returned is shorter.
    on_scene
        Called with the number of scenes that are done, first of those that were there.
    simulate
        Instead of abTEM: called in the processes with file, plan and number of a scene, of which
        it returns the last.

    Raises
    ------
    ConfigError
        If abTEM is not installed, or a material is unknown.
    DataSetError
        If the folder has scenes that were drawn otherwise, or a process was ended from outside.
    """
    if simulate is None:
        plan = _checked(plan)
    folder.mkdir(parents=True, exist_ok=True)
    _agree(folder, plan)
    paths = [scene_path(folder, number) for number in range(scenes)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    report = on_scene or (lambda _: None)
    report(scenes - len(missing))
    calls = [(scene_path(folder, number), plan, number) for number in missing]
    try:
        with closing(
            in_processes(simulate or _simulate_one, calls, jobs=jobs, stop=stop)
        ) as finished:
            for done, _ in enumerate(finished, start=1):
                report(scenes - len(missing) + done)
    except BrokenProcessPool as error:
        msg = (
            f"{folder}: a simulating process was ended from outside, perhaps for lack of memory; "
            "start again with fewer --jobs: finished scenes stay"
        )
        raise DataSetError(msg) from error
    finally:
        for number in missing:
            path = scene_path(folder, number)
            path.with_name(path.name + ".partial").unlink(missing_ok=True)
    return [path for path in paths if path.exists()]


def _simulate_one(path: Path, plan: SetPlan, number: int) -> int:
    """Simulate a scene and write its file (runs in a process of its own)."""
    from nanostream.training.micrographs import save_micrographs, simulate_micrographs
    from nanostream.training.scenes import draw_scene

    scene = draw_scene(
        scene_rng(plan.seed, plan.name, number),
        size_px=plan.size_px,
        materials=plan.materials_of(number),
        kind=plan.kind,
    )
    save_micrographs(path, simulate_micrographs(scene))
    return number


def _checked(plan: SetPlan) -> SetPlan:
    """The plan with its materials spelt out, if it can be simulated here."""
    if find_spec("abtem") is None:
        raise ConfigError(_NO_ABTEM)
    from nanostream.training.crystals import MATERIALS

    unknown = [material for material in plan.materials if material not in MATERIALS]
    if unknown:
        msg = (
            f"materials {', '.join(unknown)} cannot be simulated; these can: {', '.join(MATERIALS)}"
        )
        raise ConfigError(msg)
    materials = tuple(dict.fromkeys(plan.materials)) or MATERIALS
    return SetPlan(plan.seed, plan.size_px, materials, plan.name, plan.in_turn)


def _agree(folder: Path, plan: SetPlan) -> None:
    """Write how the set is drawn, or refuse a folder whose scenes were drawn otherwise."""
    wanted = _as_written(plan)
    file = folder / SET_FILE
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except ValueError as error:
        msg = f"{file} is damaged ({error}); choose another folder"
        raise DataSetError(msg) from error
    if file.exists() or any(folder.glob("scene_*.npz")):
        others = [key for key, value in wanted.items() if found.get(key) != value]
        if others:
            was = ", ".join(f"{key} {found.get(key, 'unknown')}" for key in others)
            msg = (
                f"{folder} has scenes that were drawn otherwise ({was}); give the same, or choose "
                "another folder"
            )
            raise DataSetError(msg)
        return
    _write(folder, plan)


def _as_written(plan: SetPlan) -> dict[str, Any]:
    return {
        "set": plan.name,
        "seed": plan.seed,
        "size_px": plan.size_px,
        "materials": list(plan.materials),
        "in_turn": plan.in_turn,
    }


def _write(folder: Path, plan: SetPlan) -> None:
    packages = ("nanostream", "abtem", "ase", "numpy")
    versions = {name: version(name) for name in packages if find_spec(name)}
    part = folder / f"{SET_FILE}.partial"
    text = json.dumps(_as_written(plan) | {"versions": versions}, indent=2)
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(folder / SET_FILE)

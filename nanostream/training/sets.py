"""Sets of simulated micrographs: many scenes, each from a seed of its own, in several processes.

::

    simulate_set    scenes 0 to N - 1 into a folder           -> scene_0000.npz, ..., and set.json

Scene k depends on the seed, the set's name and k only, not on how many there are: a set can be
made longer, and an interrupted one is gone on with. A file has the micrographs, the truth and all
that was drawn for them (`nanostream.training.simulation.Scene`).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from nanostream.errors import ConfigError, DataSetError

__all__ = [
    "NAMES",
    "SET_FILE",
    "Kind",
    "SetPlan",
    "StopFlag",
    "scene_path",
    "scene_rng",
    "simulate_set",
]

#: Sets that share a seed and no scene.
NAMES = ("train", "validation", "test", "bare", "bare-test", "faint", "defocused")

Kind = Literal["usual", "bare", "faint", "defocused"]
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

_LOOK_S = 0.2


class StopFlag(Protocol):
    """Says that the work is to stop; a `threading.Event` is one."""

    def is_set(self) -> bool:
        """Whether it is to stop."""
        ...


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
        """Of the scenes, see `nanostream.training.simulation.draw_scene`."""
        return _KINDS.get(self.name, "usual")

    def materials_of(self, number: int) -> tuple[str, ...]:
        """What the particles of one scene may be made of."""
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
        Looked at five times a second. Scenes that are being simulated then are given up, and the
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
        _adopt(folder, plan)
    folder.mkdir(parents=True, exist_ok=True)
    _agree(folder, plan)
    paths = [scene_path(folder, number) for number in range(scenes)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    say = on_scene or (lambda _: None)
    say(scenes - len(missing))
    try:
        for done, _ in enumerate(
            _simulate(folder, plan, missing, jobs, stop, simulate or _simulate_one), start=1
        ):
            say(scenes - len(missing) + done)
    except BrokenProcessPool as error:
        msg = (
            f"{folder}: a simulating process was ended from outside, perhaps for want of memory; "
            "start again with fewer --jobs, finished scenes stay"
        )
        raise DataSetError(msg) from error
    finally:
        for number in missing:
            path = scene_path(folder, number)
            path.with_name(path.name + ".partial").unlink(missing_ok=True)
    return [path for path in paths if path.exists()]


def _simulate(
    folder: Path,
    plan: SetPlan,
    numbers: Sequence[int],
    jobs: int,
    stop: StopFlag | None,
    simulate: Callable[[Path, SetPlan, int], int],
) -> Iterator[int]:
    """Numbers of scenes, as they are finished; ends early if it is stopped."""
    if not numbers:
        return
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(
        min(jobs, len(numbers)), mp_context=context, initializer=_prepare_process
    ) as pool:
        try:
            with _interrupts_held():
                waiting = {pool.submit(simulate, scene_path(folder, n), plan, n) for n in numbers}
            while waiting and not (stop and stop.is_set()):
                done, waiting = wait(waiting, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:  # stopped, failed, or nobody asks for more
            if waiting:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in set(multiprocessing.active_children()) - others:
                    process.terminate()


def _simulate_one(path: Path, plan: SetPlan, number: int) -> int:
    """Simulate a scene and write its file (runs in a process of its own)."""
    from nanostream.training import simulation

    scene = simulation.draw_scene(
        scene_rng(plan.seed, plan.name, number),
        size_px=plan.size_px,
        materials=plan.materials_of(number),
        kind=plan.kind,
    )
    simulation.save_micrographs(path, simulation.simulate_micrographs(scene))
    return number


def _prepare_process() -> None:
    """Leave Ctrl-C to the parent, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits while processes start: they inherit that it is blocked.

    A terminal sends it to all of them, and one that is still importing would print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _checked(plan: SetPlan) -> SetPlan:
    """The plan with its materials spelt out, if it can be simulated here."""
    if find_spec("abtem") is None:
        raise ConfigError(_NO_ABTEM)
    from nanostream.training.simulation import MATERIALS

    unknown = [material for material in plan.materials if material not in MATERIALS]
    if unknown:
        msg = f"materials {', '.join(unknown)}: can be simulated are {', '.join(MATERIALS)}"
        raise ConfigError(msg)
    materials = tuple(dict.fromkeys(plan.materials)) or MATERIALS
    return SetPlan(plan.seed, plan.size_px, materials, plan.name, plan.in_turn)


def _agree(folder: Path, plan: SetPlan) -> None:
    """Write how the set is drawn, or see that it was drawn so."""
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
                f"{folder} has scenes that were drawn otherwise ({was}); say the same, or choose "
                "another folder"
            )
            raise DataSetError(msg)
        return
    _write(folder, plan)


def _adopt(folder: Path, plan: SetPlan) -> None:
    """Take over scenes of an earlier version, which wrote no `SET_FILE`, if they are the plan's."""
    from nanostream.training.simulation import draw_scene

    there = min(folder.glob("scene_*.npz"), default=None)
    if there is None or (folder / SET_FILE).exists():
        return
    number = int(there.stem.removeprefix("scene_"))
    scene = draw_scene(
        scene_rng(plan.seed, plan.name, number),
        size_px=plan.size_px,
        materials=plan.materials_of(number),
        kind=plan.kind,
    )
    try:
        with np.load(there) as stored:
            same = json.loads(str(stored["scene"])) == json.loads(json.dumps(scene.as_dict()))
    except (OSError, ValueError, KeyError):
        same = False
    if same:
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

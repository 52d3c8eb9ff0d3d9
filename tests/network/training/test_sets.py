"""Simulated sets: the same from the same seed, longer at will, stopped and resumed."""

import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from nanostream.errors import ConfigError, DataSetError
from nanostream.training.sets import NAMES, SetPlan, scene_path, scene_rng, simulate_set
from tests.waiting import LONGEST_S

PLAN = SetPlan(seed=7, materials=("Au", "CdSe"))


def draw(path: Path, plan: SetPlan, number: int) -> int:
    """Stand-in for a multislice simulation: what the scene's generator draws first."""
    drawn = scene_rng(plan.seed, plan.name, number).random()
    path.write_text(f"{drawn} {os.getpid()}")
    return number


def draw_slowly(path: Path, plan: SetPlan, number: int) -> int:
    path.with_name(path.name + ".partial").write_text("half")
    time.sleep(0.0 if number == 0 else LONGEST_S)
    path.with_name(path.name + ".partial").unlink()
    return draw(path, plan, number)


def die(path: Path, plan: SetPlan, number: int) -> int:
    os._exit(9)


def drawn(folder: Path) -> list[str]:
    return [path.read_text().split()[0] for path in sorted(folder.glob("scene_*.npz"))]


def test_scene_k_does_not_depend_on_how_many_there_are_or_on_the_processes(tmp_path: Path) -> None:
    simulate_set(tmp_path / "a", PLAN, scenes=5, jobs=2, simulate=draw)
    paths = simulate_set(tmp_path / "b", PLAN, scenes=3, simulate=draw)

    assert paths == [scene_path(tmp_path / "b", number) for number in range(3)]
    assert drawn(tmp_path / "a")[:3] == drawn(tmp_path / "b")
    assert len(set(drawn(tmp_path / "a"))) == 5


def test_a_set_is_made_longer_and_what_is_there_stays(tmp_path: Path) -> None:
    simulate_set(tmp_path, PLAN, scenes=2, simulate=draw)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    told: list[int] = []

    simulate_set(tmp_path, PLAN, scenes=4, simulate=draw, on_scene=told.append)

    assert told == [2, 3, 4]
    assert len(drawn(tmp_path)) == 4
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("change", [{"seed": 8}, {"size_px": 256}, {"materials": ("Au",)}])
def test_scenes_that_were_drawn_otherwise_are_not_added_to(tmp_path: Path, change) -> None:
    simulate_set(tmp_path, PLAN, scenes=1, simulate=draw)
    other = SetPlan(**({"seed": 7, "materials": PLAN.materials} | change))

    with pytest.raises(DataSetError, match=f"drawn otherwise .*{next(iter(change))}"):
        simulate_set(tmp_path, other, scenes=2, simulate=draw)


def test_scenes_of_unknown_origin_are_not_added_to(tmp_path: Path) -> None:
    scene_path(tmp_path, 0).write_text("?")

    with pytest.raises(DataSetError, match="seed unknown"):
        simulate_set(tmp_path, PLAN, scenes=2, simulate=draw)


def test_a_stopped_set_has_whole_scenes_only_and_ends_at_once(tmp_path: Path) -> None:
    stop = threading.Event()
    start_s = time.monotonic()

    paths = simulate_set(
        tmp_path,
        PLAN,
        scenes=3,
        jobs=2,
        stop=stop,
        simulate=draw_slowly,
        on_scene=lambda done: stop.set() if done == 1 else None,
    )

    assert time.monotonic() - start_s < LONGEST_S
    assert paths == [scene_path(tmp_path, 0)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scene_0000.npz", "set.json"]
    assert len(simulate_set(tmp_path, PLAN, scenes=3, simulate=draw)) == 3


def test_a_process_that_was_ended_from_outside_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="ended from outside, perhaps for lack of memory"):
        simulate_set(tmp_path, PLAN, scenes=2, simulate=die)


def test_sets_of_one_seed_have_no_scene_in_common() -> None:
    first = [scene_rng(1, name, 0).random() for name in NAMES]

    assert len(set(first)) == len(NAMES)
    # The training of the first shipped model drew so.
    old = np.random.default_rng(np.random.SeedSequence(1, spawn_key=(0, 4)))
    assert scene_rng(1, "train", 4).random() == old.random()


def test_each_scene_has_one_material_in_turn() -> None:
    plan = SetPlan(seed=0, materials=("Au", "Pd"), in_turn=True)

    assert [plan.materials_of(k) for k in range(3)] == [("Au",), ("Pd",), ("Au",)]
    assert PLAN.materials_of(1) == ("Au", "CdSe")


def test_without_abtem_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "abtem", None)

    with pytest.raises(ConfigError, match=r"pip install '\.\[simulate\]'"):
        simulate_set(tmp_path / "new", PLAN, scenes=1)
    assert not (tmp_path / "new").exists()


def test_a_material_that_cannot_be_simulated_is_named(tmp_path: Path) -> None:
    pytest.importorskip("abtem", reason="the extra [simulate] is not installed")

    with pytest.raises(ConfigError, match="materials Xx cannot be simulated; these can: Au"):
        simulate_set(tmp_path, SetPlan(seed=0, materials=("Au", "Xx")), scenes=1)

"""Markers by folder: `pytest -m "not pipeline"` is every test outside of tests/pipeline.

And a quick profile of hypothesis, unless another one is asked for. Where tests run in several
processes, those that take long begin first: else the last file would run alone.
"""

import gc
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import tests.effort  # noqa: F401 - registers the profiles

FOLDERS = ("pipeline", "network", "benchmarks", "unit")  # those with the longest files first
_HERE = Path(__file__).parent
_ROOM_BYTES = 2**31
settings.load_profile("quick")


@pytest.fixture(autouse=True)
def _no_log_left() -> Iterator[None]:
    """Take away the log of a session that a test began in this process; its folder goes, too."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler) and handler not in before:
            root.removeHandler(handler)
            handler.close()


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Processes on two cores: three, since most of a pipeline test is waiting, for tests/unit two.

    What is in tests/unit computes all the time, and each process collects all of it by itself.
    """
    return 2 if _only_unit(config) else 3


def pytest_configure(config: pytest.Config) -> None:
    """Keep the many small files of tests/unit in memory, where there is such a place with room.

    A tenth of their time goes into making them on a disk. Other tests need a real one: what a
    session does on a full disk, or at a kill.
    """
    memory = Path("/dev/shm")
    if _only_unit(config) and memory.is_dir() and shutil.disk_usage(memory).free > _ROOM_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


def _only_unit(config: pytest.Config) -> bool:
    """Whether nothing but tests/unit was asked for."""
    chosen = [Path(argument).resolve() for argument in config.args]
    return all(path.is_relative_to(_HERE / "unit") for path in chosen)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect without garbage collection: modules and tests live to the end of the process."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test by the folder that it is in, and sort them in a process of pytest-xdist."""
    for item in items:
        folder = item.path.relative_to(_HERE).parts[0]
        if folder not in FOLDERS:
            message = f"{item.nodeid}: a test belongs in one of tests/{{{','.join(FOLDERS)}}}"
            raise pytest.UsageError(message)
        item.add_marker(folder)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: FOLDERS.index(item.path.relative_to(_HERE).parts[0]))

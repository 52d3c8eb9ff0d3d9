"""The rule of this folder, made true: no engine of networks, no process, no socket.

Whoever breaks it gets a failed test that says where the test belongs. Python's audit events see
each start of a process and each socket under whatever name it was imported; ZeroMQ opens its
sockets in C and multiprocessing its processes, so those two are watched by themselves.
"""

from __future__ import annotations

import multiprocessing.process
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer.main
import typer.testing
import zmq

_NETWORKS = {"tensorflow", "keras", "onnx", "onnxruntime"}
_PROCESSES = {
    "subprocess.Popen",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.system",
}
#: Programs that a library starts when it is imported for the first time on a machine: Matplotlib's
#: list of fonts.
_OF_LIBRARIES = ("fc-list",)
_HERE = Path(__file__).parent
_active = False


def _refuse(what: str, where: str) -> None:
    if _active:
        pytest.fail(f"a test in tests/unit {what}: it belongs in {where}", pytrace=True)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "import":
        # By the package: `importlib.import_module` tells only of the modules inside.
        package = str(arguments[0]).partition(".")[0]
        if package in _NETWORKS:
            _refuse(f"imports {package}", "tests/network")
    elif event == "socket.__new__":
        _refuse("opens a socket", "tests/pipeline")
    elif event in _PROCESSES and arguments[0] not in _OF_LIBRARIES:
        _refuse(f"starts a process ({event})", "tests/pipeline")


def _watched(method: Any, what: str) -> Any:
    def watched(self: object, *arguments: Any, **options: Any) -> Any:
        _refuse(what, "tests/pipeline")
        return method(self, *arguments, **options)

    return watched


# What takes a third of the time in tests of many small tables and command lines: texts as Arrow's
# arrays (where it is installed; the tests with processes have them), and making the parser of all
# commands, which a process does once, for each command line.
pd.set_option("mode.string_storage", "python")
typer.main.get_command = cache(typer.main.get_command)
vars(typer.testing)["_get_command"] = typer.main.get_command

platform.processor()  # asks uname by a process and remembers; h5py wants to know it
sys.addaudithook(_audit)
zmq.Socket.__init__ = _watched(zmq.Socket.__init__, "opens a socket of ZeroMQ")  # type: ignore[method-assign]
_BaseProcess = multiprocessing.process.BaseProcess
_BaseProcess.start = _watched(_BaseProcess.start, "starts a process")  # type: ignore[method-assign]


@contextmanager
def _rule(node: pytest.Item | pytest.Collector) -> Iterator[None]:
    """Let the rule hold meanwhile, if the node is of this folder: not every hook asks only it."""
    global _active
    _active = node.path.is_relative_to(_HERE)
    try:
        yield
    finally:
        _active = False


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """Watch the imports of a module while pytest collects it."""
    with _rule(collector):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Watch a test from its set-up to its end."""
    with _rule(item):
        return (yield)

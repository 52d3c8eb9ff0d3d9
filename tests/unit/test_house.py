"""The rules of the house: what a unit test may do, who imports whom, that examples are right."""

import ast
import doctest
import graphlib
import importlib
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest
import zmq

import nanostream

ROOT = Path(__file__).parents[2]
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(folder).with_suffix("").parts)
    for folder, package in ((ROOT, "nanostream"), (ROOT / "services", "nanostream_services"))
    for path in (folder / package).rglob("*.py")
    if ">>> " in path.read_text("utf-8")
)


def open_a_zeromq_socket():
    with zmq.Context() as context:
        context.socket(zmq.REQ)


@pytest.mark.parametrize(
    ("act", "folder"),
    [
        (lambda: __import__("keras"), "tests/network"),
        (lambda: __import__("tensorflow"), "tests/network"),
        (lambda: subprocess.run([sys.executable, "-V"], check=False), "tests/pipeline"),
        (lambda: os.system("true"), "tests/pipeline"),
        (multiprocessing.Process().start, "tests/pipeline"),
        (socket.socket, "tests/pipeline"),
        (open_a_zeromq_socket, "tests/pipeline"),
    ],
    ids=["keras", "tensorflow", "subprocess", "system", "multiprocessing", "socket", "zmq"],
)
def test_what_does_not_belong_in_this_folder_fails_with_the_folder_where_it_does(
    act, folder, monkeypatch
):
    # Tests of the network may have run in this process before.
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    with pytest.raises(pytest.fail.Exception, match=f"belongs in {folder}"):
        act()


def test_no_file_imports_itself_by_way_of_others():
    """Imports inside of functions and those for types alone count as well."""
    graph = grimp.build_graph("nanostream", "nanostream_services", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 100
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        pytest.fail("a cycle of imports: " + " -> ".join(reversed(error.args[1])))


def imported_packages(file):
    """Packages that a module imports as soon as it is imported itself."""
    for node in ast.parse(file.read_bytes()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]


def test_the_api_pages_need_no_package_of_an_extra():
    """Sphinx imports every module where `.[docs]` is installed: it mocks what is not there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    other_names = {"opencv-python-headless": "cv2", "pyzmq": "zmq"}
    base = (re.match(r"[\w-]+", one)[0] for one in project["dependencies"])
    conf = (ROOT / "docs" / "conf.py").read_text("utf-8")
    there = {other_names.get(name, name) for name in base} | sys.stdlib_module_names
    there |= {"nanostream", "nanostream_services"} | {"jinja2", "markupsafe"}  # Sphinx has these
    there |= set(ast.literal_eval(re.search(r"^autodoc_mock_imports = (.+)$", conf, re.M)[1]))
    lacking = {
        f"{file.relative_to(ROOT)}: {package}"
        for file in (ROOT / "nanostream").rglob("*.py")
        for package in imported_packages(file)
        if package not in there
    }
    assert lacking == set()


def test_the_citation_names_the_version():
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {nanostream.__version__}\n" in citation


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_docstring_give_what_they_say(name):
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried
    assert not failed

"""Table of how big the parts of the code are, and which files form import cycles.

::

    python scripts/house.py
    python scripts/house.py --root ../another-checkout --longest 10

Lines are counted from the first to the last of a definition, with docstring, comments and blank
lines, without decorators. A cycle is a set of files each of which reaches every other by imports.
Cycles are looked for twice: among the imports that run when a file is imported, and among all
imports, with those inside functions and those for type checkers. Nothing of the project is
imported. Exit code 0 only if there is no cycle of either kind.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

#: Packages of the project, and the folders below the root that they are imported from.
PACKAGES = {"nanostream": ".", "nanostream_services": "services"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One file of a package."""

    name: str
    path: Path
    tree: ast.Module
    lines: int

    @property
    def package(self) -> str:
        """Package that its relative imports begin at."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Part:
    """A module, class or function, and how long it is."""

    kind: Literal["module", "class", "function"]
    name: str
    lines: int
    methods: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="checkout")
    parser.add_argument("--longest", type=int, default=5, help="rows of each kind")
    options = parser.parse_args()
    modules = {module.name: module for module in read_modules(options.root)}
    if not modules:
        sys.exit(f"{options.root}: no {' or '.join(PACKAGES)} in it; give a checkout as --root")
    console = Console()
    console.print(longest(modules, options.longest))
    total = sum(module.lines for module in modules.values())
    console.print(f"{len(modules)} modules, {total} lines")
    cycles_found = False
    for what, everything in (("when a file is imported", False), ("all imports", True)):
        found = cycles(imports(modules, everything=everything))
        console.print(f"import cycles ({what}): {len(found)}")
        for cycle in found:
            console.print(f"  {len(cycle)} files: {', '.join(cycle)}", soft_wrap=True)
        cycles_found |= bool(found)
    sys.exit(1 if cycles_found else 0)


def read_modules(root: Path) -> Iterator[Module]:
    """Every file of the packages, parsed."""
    for package, folder in PACKAGES.items():
        for path in sorted((root / folder / package).rglob("*.py")):
            parts = path.relative_to(root / folder).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            text = path.read_text(encoding="utf-8")
            yield Module(name, path, ast.parse(text), len(text.splitlines()))


def longest(modules: Mapping[str, Module], count: int) -> Table:
    """Table of the longest modules, classes and functions."""
    table = Table("kind", "name", "lines", "methods")
    parts = [part for module in modules.values() for part in parts_of(module)]
    for kind in ("module", "class", "function"):
        same = sorted((p for p in parts if p.kind == kind), key=lambda p: (-p.lines, p.name))
        for part in same[:count]:
            methods = str(part.methods) if kind == "class" else ""
            table.add_row(kind, part.name, str(part.lines), methods)
        table.add_section()
    return table


def parts_of(module: Module) -> Iterator[Part]:
    """The module itself, and the classes and functions in it at any depth."""
    yield Part("module", module.name, module.lines)
    waiting: list[tuple[str, ast.AST]] = [(module.name, module.tree)]
    while waiting:
        name, parent = waiting.pop()
        for node in ast.iter_child_nodes(parent):
            if not isinstance(node, Function | ast.ClassDef):
                waiting.append((name, node))
                continue
            own = f"{name}.{node.name}"
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if isinstance(node, ast.ClassDef):
                methods = sum(isinstance(child, Function) for child in node.body)
                yield Part("class", own, lines, methods)
            else:
                yield Part("function", own, lines)
            waiting.append((own, node))


def imports(modules: Mapping[str, Module], *, everything: bool) -> dict[str, set[str]]:
    """Files of the project that each file imports.

    Parameters
    ----------
    modules : mapping of str to Module
        By name.
    everything : bool
        Also what is imported inside functions and for type checkers only.
    """
    found: dict[str, set[str]] = {}
    for module in modules.values():
        names = found.setdefault(module.name, set())
        for node in _statements(module.tree, everything=everything):
            names |= {name for name in _targets(node, module.package) if name in modules}
            if isinstance(node, ast.ImportFrom):
                # "from package import name" needs the package's own file unless name is a file.
                base = _base(node, module.package)
                if any(f"{base}.{alias.name}" not in modules for alias in node.names):
                    names |= {base} & modules.keys()
        names.discard(module.name)
    return found


def _statements(tree: ast.Module, *, everything: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
            continue
        if isinstance(node, Function | ast.Lambda) and not everything:
            continue
        if isinstance(node, ast.If) and not everything and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)


def _targets(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    else:
        yield from (f"{_base(node, package)}.{alias.name}" for alias in node.names)


def _base(node: ast.ImportFrom, package: str) -> str:
    """Module that names are imported from, absolute."""
    if not node.level:
        return node.module or ""
    above = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Sets of files that reach one another, the largest first."""
    names = sorted(graph)
    number = {name: i for i, name in enumerate(names)}
    edges = [(number[name], number[other]) for name in names for other in graph[name]]
    rows, columns = np.array(edges, np.int64).reshape(-1, 2).T
    matrix = coo_array((np.ones(len(edges)), (rows, columns)), shape=(len(names), len(names)))
    _, component = connected_components(matrix, connection="strong")
    groups: dict[int, list[str]] = {}
    for name, group in zip(names, component, strict=True):
        groups.setdefault(int(group), []).append(name)
    return sorted((g for g in groups.values() if len(g) > 1), key=lambda g: (-len(g), g))


if __name__ == "__main__":
    main()

"""Phases that are asked for: those known by name, and those of a user's TOML or CSV files."""

from __future__ import annotations

import csv
import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nanostream.errors import ConfigError
from nanostream.particles.phases import HEXAGONAL, PHASES, Phase, phase_of_structure
from nanostream.particles.reflections import cell_axes

__all__ = ["named_phases", "read_phases"]


def named_phases(names: Sequence[str] = ()) -> tuple[Phase, ...]:
    """Phases by name or from files; all that are known if none is named.

    Parameters
    ----------
    names : sequence of str
        ``Au``, ``CdSe`` (all of that name), or a path as `read_phases` takes.

    Raises
    ------
    ConfigError
        If a name is not known, or a file cannot be read.
    """
    chosen: list[Phase] = []
    for name in names or PHASES:
        alike = [p for p in PHASES.values() if name in (p.name, p.name.split()[0])]
        if not alike and not Path(name).suffix:
            msg = f"phase {name!r} is not known: there are {', '.join(PHASES)}, or give a file"
            raise ConfigError(msg)
        chosen += alike or read_phases(Path(name))
    return tuple(dict.fromkeys(chosen))


def read_phases(path: Path) -> list[Phase]:
    """Phases of a TOML or CSV file.

    Parameters
    ----------
    path : Path
        CSV: lines ``name, spacing in nm``. TOML: a table per phase, either of
        ``spacings_nm = [0.25, 0.21]`` or of ``structure`` (a key of
        `nanostream.particles.phases.STRUCTURES`), ``numbers``
        (atomic numbers), ``a_nm`` and for hexagonal ones ``c_nm``; or of ``cell = [a, b, c, alpha,
        beta, gamma]`` in nm and degrees with ``atoms = [[number, x, y, z], ...]``.

    Raises
    ------
    ConfigError
        If it cannot be read, naming the phase and the key.
    """
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix.lower() == ".csv":
            return _listed(path, text)
        if path.suffix.lower() == ".toml":
            return [_from_table(name, table, path) for name, table in tomllib.loads(text).items()]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        msg = f"phases {path}: {error}"
        raise ConfigError(msg) from error
    msg = f"phases {path}: give a .toml with cells or a .csv of names and spacings in nm"
    raise ConfigError(msg)


def _listed(path: Path, text: str) -> list[Phase]:
    spacings: dict[str, list[float]] = {}
    for number, row in enumerate(csv.reader(text.splitlines()), 1):
        if not row or row[0].lstrip().startswith("#"):
            continue
        try:
            name, spacing = row[0].strip(), float(row[1])
        except (IndexError, ValueError) as error:
            if number == 1:  # titles
                continue
            msg = f"phases {path}, line {number}: {row} is not a name and a spacing in nm"
            raise ConfigError(msg) from error
        spacings.setdefault(name, []).append(_positive(spacing, f"{path}, line {number}"))
    return [Phase(name, spacings_nm=tuple(d), source=str(path)) for name, d in spacings.items()]


def _from_table(name: str, table: Any, path: Path) -> Phase:
    where = f"{path}, [{name}]"
    try:
        if "spacings_nm" in table:
            spacings = tuple(_positive(d, where) for d in table["spacings_nm"])
            return Phase(name, spacings_nm=spacings, source=str(path))
        if "structure" in table:
            a_nm = _positive(table["a_nm"], where)
            c_nm = table["c_nm"] if table["structure"] in HEXAGONAL else a_nm
            numbers = [int(n) for n in table["numbers"]]
            c_nm = _positive(c_nm, where)
            return phase_of_structure(name, table["structure"], numbers, a_nm, c_nm, str(path))
        cell = tuple(_positive(value, where) for value in table["cell"])
        atoms = tuple((int(n), float(x), float(y), float(z)) for n, x, y, z in table["atoms"])
        phase = Phase(name, cell, atoms, source=str(path))
        cell_axes(phase.cell)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        msg = (
            f"phases {where}: {error}; a phase has spacings_nm, or structure, numbers and a_nm, or "
            "cell and atoms"
        )
        raise ConfigError(msg) from error
    return phase


def _positive(value: Any, where: str) -> float:
    number = float(value)
    if not 0 < number < math.inf:
        msg = f"phases {where}: {number:g} is no length in nm or angle in degrees above 0"
        raise ConfigError(msg)
    return number

"""Crystal phases and their reflections: spacings and directions of lattice planes.

A phase is a unit cell with its atoms; which reflections it has follows from the structure factor
with the atomic numbers as weights, so that every extinction, of the lattice and of the places of
atoms, comes from the same sum. Or it is a list of spacings, of which no angles are known.

References
----------
Wyckoff, R. W. G. Crystal Structures, vol. 1, 2nd ed. Interscience (1963), for the cells and the
structure types.

Swanson, H. E., Gilfrich, N. T. & Cook, M. I. Standard X-ray Diffraction Powder Patterns, vol. 7.
National Bureau of Standards Circular 539 (1957), for wurtzite CdSe.

International Tables for Crystallography, vol. B, chapter 1.1 (reciprocal space).
https://doi.org/10.1107/97809553602060000758
"""

from __future__ import annotations

import csv
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanostream.errors import ConfigError

__all__ = [
    "PHASES",
    "STRUCTURES",
    "Phase",
    "Reflections",
    "named_phases",
    "read_phases",
    "reflections",
]

Floats = NDArray[np.float64]

_F = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))


def _centred(*places: tuple[int, float]) -> tuple[tuple[int, float, float, float], ...]:
    """Atoms of a face-centred cell: place of the element in a list, and place on the diagonal."""
    return tuple((e, x + s, y + s, z + s) for e, s in places for x, y, z in _F)


#: Structure types by name: of each atom the place of its element in a list, and its coordinates.
STRUCTURES: dict[str, tuple[tuple[int, float, float, float], ...]] = {
    "fcc": _centred((0, 0.0)),
    "bcc": ((0, 0.0, 0.0, 0.0), (0, 0.5, 0.5, 0.5)),
    "hcp": ((0, 1 / 3, 2 / 3, 0.25), (0, 2 / 3, 1 / 3, 0.75)),
    "diamond": _centred((0, 0.0), (0, 0.25)),
    "rocksalt": _centred((0, 0.0), (1, 0.5)),
    "zincblende": _centred((0, 0.0), (1, 0.25)),
    "fluorite": _centred((0, 0.0), (1, 0.25), (1, 0.75)),
    "wurtzite": (
        *((0, 1 / 3, 2 / 3, 0.0), (0, 2 / 3, 1 / 3, 0.5)),
        *((1, 1 / 3, 2 / 3, 0.375), (1, 2 / 3, 1 / 3, 0.875)),
    ),
}
_HEXAGONAL = ("hcp", "wurtzite")

#: A structure factor below this part of its greatest possible value is extinct.
_EXTINCT = 1e-3


@dataclass(frozen=True)
class Phase:
    """A crystal phase.

    Attributes
    ----------
    name : str
    cell : tuple of 6 float, or empty
        a, b, c in nm and alpha, beta, gamma in degrees.
    atoms : tuple of (int, float, float, float)
        Atomic number and fractional coordinates of every atom of the cell.
    spacings_nm : tuple of float
        Of a phase that is a list of spacings only.
    source : str
        Where the numbers are from.
    """

    name: str
    cell: tuple[float, ...] = ()
    atoms: tuple[tuple[int, float, float, float], ...] = ()
    spacings_nm: tuple[float, ...] = ()
    source: str = ""


class Reflections(NamedTuple):
    """Reflections of a phase, those of each Friedel pair both, the greatest spacing first.

    Attributes
    ----------
    hkl : (n, 3) int64
    vectors_per_nm : (n, 3) float64
        Empty for a list of spacings, as is `hkl`.
    spacing_nm : (n,) float64
    basis_per_nm : (3, 3) float64
        Rows a*, b*, c*.
    """

    hkl: NDArray[np.int64]
    vectors_per_nm: Floats
    spacing_nm: Floats
    basis_per_nm: Floats


def _phase(
    name: str, structure: str, numbers: Sequence[int], a_nm: float, c_nm: float, source: str
) -> Phase:
    angles = (90.0, 90.0, 120.0 if structure in _HEXAGONAL else 90.0)
    atoms = tuple((numbers[e], x, y, z) for e, x, y, z in STRUCTURES[structure])
    return Phase(name, (a_nm, a_nm, c_nm, *angles), atoms, source=source)


_WYCKOFF = "Wyckoff (1963)"

#: Phases that are looked for if no others are asked for; cells at room temperature.
PHASES: dict[str, Phase] = {
    phase.name: phase
    for phase in (
        _phase("Au", "fcc", [79], 0.407825, 0.407825, _WYCKOFF),
        _phase("Ag", "fcc", [47], 0.40862, 0.40862, _WYCKOFF),
        _phase("Pt", "fcc", [78], 0.39231, 0.39231, _WYCKOFF),
        _phase("Pd", "fcc", [46], 0.38898, 0.38898, _WYCKOFF),
        _phase("CdSe wurtzite", "wurtzite", [48, 34], 0.4299, 0.7010, "NBS Circular 539-7 (1957)"),
        _phase("CdSe zinc blende", "zincblende", [48, 34], 0.605, 0.605, _WYCKOFF),
        _phase("CeO2", "fluorite", [58, 8], 0.5411, 0.5411, _WYCKOFF),
    )
}


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


@lru_cache(maxsize=64)
def reflections(phase: Phase, smallest_nm: float) -> Reflections:
    """Reflections of a phase down to a spacing.

    Examples
    --------
    >>> found = reflections(PHASES["Au"], 0.14)
    >>> sorted({(round(float(d), 4)) for d in found.spacing_nm}, reverse=True)
    [0.2355, 0.2039, 0.1442]
    """
    if not phase.cell:
        listed = np.sort(np.array(phase.spacings_nm))[::-1]
        none = np.empty((0, 3))
        return Reflections(none.astype(np.int64), none, listed[listed >= smallest_nm], np.eye(3))
    basis = np.asarray(np.linalg.inv(_axes(phase.cell)).T, np.float64)
    most = [math.floor(length / smallest_nm) for length in phase.cell[:3]]
    steps = [np.arange(-n, n + 1) for n in most]
    hkl = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    length = np.linalg.norm(hkl @ basis, axis=1)
    hkl = hkl[(length > 0) & (length <= 1.0 / smallest_nm)]
    atoms = np.array(phase.atoms)
    factor = np.abs(np.exp(2j * np.pi * (hkl @ atoms[:, 1:].T)) @ atoms[:, 0])
    hkl = hkl[factor > _EXTINCT * atoms[:, 0].sum()]
    vectors = hkl @ basis
    spacing = 1.0 / np.linalg.norm(vectors, axis=1)
    order = np.argsort(-spacing, kind="stable")
    return Reflections(hkl[order], vectors[order], spacing[order], basis)


def _axes(cell: tuple[float, ...]) -> Floats:
    """Rows a, b, c in nm, a along the first axis and b in the plane of the first two."""
    a, b, c = cell[:3]
    cos_alpha, cos_beta, cos_gamma = np.cos(np.radians(cell[3:]))
    sin_gamma = math.sin(math.radians(cell[5]))
    across = (cos_alpha - cos_beta * cos_gamma) / sin_gamma
    upward = 1.0 - cos_beta**2 - across**2
    if upward <= 1e-9 or sin_gamma <= 0:
        msg = f"a cell with the angles {cell[3:]} has no volume; check alpha, beta and gamma"
        raise ConfigError(msg)
    return np.array(
        [
            [a, 0.0, 0.0],
            [b * cos_gamma, b * sin_gamma, 0.0],
            [c * cos_beta, c * across, c * math.sqrt(upward)],
        ]
    )


def read_phases(path: Path) -> list[Phase]:
    """Phases of a TOML or CSV file.

    Parameters
    ----------
    path : Path
        CSV: lines ``name, spacing in nm``. TOML: a table per phase, either of
        ``spacings_nm = [0.25, 0.21]`` or of ``structure`` (a key of `STRUCTURES`), ``numbers``
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
            c_nm = table["c_nm"] if table["structure"] in _HEXAGONAL else a_nm
            numbers = [int(n) for n in table["numbers"]]
            c_nm = _positive(c_nm, where)
            return _phase(name, table["structure"], numbers, a_nm, c_nm, str(path))
        cell = tuple(_positive(value, where) for value in table["cell"])
        atoms = tuple((int(n), float(x), float(y), float(z)) for n, x, y, z in table["atoms"])
        phase = Phase(name, cell, atoms, source=str(path))
        _axes(phase.cell)
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

"""Phases that are asked for: those known by name, and those of a user's TOML or CSV files."""

from __future__ import annotations

import csv
import math
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from nanostream.config.diagnostics import (
    Mistake,
    WrongValueError,
    as_lines,
    key_lines,
    mismatches,
    syntax_mistake,
)
from nanostream.errors import ConfigError, reason_of
from nanostream.particles.phases import HEXAGONAL, PHASES, STRUCTURES, Phase, phase_of_structure
from nanostream.particles.reflections import cell_axes

__all__ = ["named_phases", "read_phases"]

#: The last element with a name.
_MOST_PROTONS = 118

_FORMS = "spacings_nm; structure, numbers and a_nm; or cell and atoms"


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
        CSV: lines ``name, spacing in nm``, with or without titles; comments begin with ``#``. TOML:
        a table per phase, either of ``spacings_nm = [0.25, 0.21]`` or of ``structure`` (a key of
        `nanostream.particles.phases.STRUCTURES`), ``numbers`` (atomic numbers), ``a_nm`` and for
        hexagonal ones ``c_nm``; or of ``cell = [a, b, c, alpha, beta, gamma]`` in nm and degrees
        with ``atoms = [[number, x, y, z], ...]``.

    Raises
    ------
    ConfigError
        If it cannot be read, or anything in it is wrong; every mistake of a TOML file is named with
        its line, phase and key, the first one of a CSV file with its line.
    """
    readers = {".toml": _of_toml, ".csv": _of_csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        msg = f"phases {path}: give a .toml with cells or a .csv of names and spacings in nm"
        raise ConfigError(msg)
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        msg = f"phases {path} cannot be read: {reason_of(error)}; give a file that exists"
        raise ConfigError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"phases {path}: a letter is not UTF-8; save the file as UTF-8"
        raise ConfigError(msg) from error
    found = reader(path, text)
    if not found:
        msg = f"phases {path}: there is no phase in it; write for example: graphite, 0.3354"
        if path.suffix.lower() == ".toml":
            msg = f"phases {path}: there is no phase in it; give a table for each, with {_FORMS}"
        raise ConfigError(msg)
    return found


def _of_csv(path: Path, text: str) -> list[Phase]:
    rows = csv.reader(text.splitlines())
    filled = (row for row in rows if "".join(row).strip())
    spacings: dict[str, list[float]] = {}
    may_be_titles = True
    try:
        for row in filled:
            if row[0].lstrip().startswith("#"):
                continue
            if not (may_be_titles and _is_titles(row)):
                name, spacing = _spacing(row)
                spacings.setdefault(name, []).append(spacing)
            may_be_titles = False
    except (ValueError, csv.Error) as error:
        msg = f"phases {path}:{rows.line_num}: {error}; write for example: graphite, 0.3354"
        raise ConfigError(msg) from error
    return [Phase(name, spacings_nm=tuple(d), source=str(path)) for name, d in spacings.items()]


def _is_titles(row: list[str]) -> bool:
    return not any(letter.isdigit() for letter in row[min(1, len(row) - 1)])


def _spacing(row: list[str]) -> tuple[str, float]:
    """Name and spacing of a line; ValueError says what is wrong with it."""
    shown = ",".join(row)
    name = row[0].strip()
    try:
        spacing = float(row[1])
    except (IndexError, ValueError) as error:
        msg = f"expected a name and a spacing in nm, not {shown!r}"
        raise ValueError(msg) from error
    if not (name and 0 < spacing < math.inf):
        msg = f"expected a name and a spacing above 0 nm, not {shown!r}"
        raise ValueError(msg)
    return name, spacing


class _Spacings(Struct, frozen=True):
    """A phase that is a list of spacings."""

    spacings_nm: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.spacings_nm:
            raise WrongValueError(("spacings_nm",), "is empty; give the spacings in nm")
        _check_positive("spacings_nm", self.spacings_nm)

    def phase(self, name: str, source: str) -> Phase:
        return Phase(name, spacings_nm=self.spacings_nm, source=source)


class _Structure(Struct, frozen=True):
    """A phase of a known structure type."""

    structure: Annotated[
        str, Meta(pattern=f"^({'|'.join(STRUCTURES)})$", examples=sorted(STRUCTURES))
    ]
    numbers: tuple[int, ...]
    a_nm: float
    c_nm: float | None = None

    def __post_init__(self) -> None:
        elements = 1 + max(element for element, *_ in STRUCTURES[self.structure])
        if len(self.numbers) != elements:
            text = (
                f"expected {elements}, one for each element of {self.structure}, "
                f"not {list(self.numbers)}"
            )
            raise WrongValueError(("numbers",), text)
        _check_protons("numbers", self.numbers)
        _check_positive("a_nm", (self.a_nm,))
        if self.structure in HEXAGONAL:
            if self.c_nm is None:
                raise WrongValueError(("c_nm",), f"is missing: {self.structure} is hexagonal")
            _check_positive("c_nm", (self.c_nm,))
        elif self.c_nm not in (None, self.a_nm):
            text = f"expected none, as {self.structure} is cubic, not {self.c_nm:g}; "
            raise WrongValueError(("c_nm",), f"{text}give cell and atoms instead")

    def phase(self, name: str, source: str) -> Phase:
        c_nm = self.a_nm if self.c_nm is None else self.c_nm
        return phase_of_structure(name, self.structure, self.numbers, self.a_nm, c_nm, source)


class _Cell(Struct, frozen=True):
    """A phase of any cell."""

    cell: tuple[float, float, float, float, float, float]
    atoms: tuple[tuple[float, float, float, float], ...]

    def __post_init__(self) -> None:
        _check_positive("cell", self.cell)
        try:
            cell_axes(self.cell)
        except ValueError as error:
            raise WrongValueError(("cell",), str(error)) from error
        if not self.atoms:
            raise WrongValueError(("atoms",), "is empty; give [atomic number, x, y, z] of each")
        _check_protons("atoms", (atom[0] for atom in self.atoms))
        if not all(math.isfinite(place) for atom in self.atoms for place in atom):
            raise WrongValueError(("atoms",), "expected places in the cell as finite numbers")

    def phase(self, name: str, source: str) -> Phase:
        atoms = tuple((int(number), x, y, z) for number, x, y, z in self.atoms)
        return Phase(name, self.cell, atoms, source=source)


_Form = type[_Spacings] | type[_Structure] | type[_Cell]


def _check_positive(key: str, values: Iterable[float]) -> None:
    for value in values:
        if not 0 < value < math.inf:
            raise WrongValueError((key,), f"expected lengths and angles above 0, not {value:g}")


def _check_protons(key: str, numbers: Iterable[float]) -> None:
    for number in numbers:
        if number not in range(1, _MOST_PROTONS + 1):
            text = f"expected atomic numbers from 1 to {_MOST_PROTONS}, not {number:g}"
            raise WrongValueError((key,), text)


def _of_toml(path: Path, text: str) -> list[Phase]:
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, reason = syntax_mistake(error, text)
        msg = f"phases {path}:{line}: {reason}"
        raise ConfigError(msg) from error
    if mistakes := [one for name, table in tree.items() for one in _mistakes(name, table)]:
        raise ConfigError("\n".join(as_lines(f"phases {path}", key_lines(text), mistakes)))
    return [
        msgspec.convert(table, _form(table)).phase(name, str(path)) for name, table in tree.items()
    ]


def _mistakes(name: str, table: Any) -> Iterator[Mistake]:
    """Mistakes in a phase's table, by its keys in the file."""
    form = _form(table)
    if form is None:
        yield Mistake(((name,),), f"expected a table of a phase, with {_FORMS}")
        return
    for mistake in mismatches(table, form):
        yield Mistake(tuple((name, *key) for key in mistake.keys), mistake.text)


def _form(table: Any) -> _Form | None:
    """The way in which a table gives its phase; None if it gives none."""
    forms: dict[str, _Form] = {
        "spacings_nm": _Spacings,
        **dict.fromkeys(("structure", "numbers", "a_nm"), _Structure),
        **dict.fromkeys(("cell", "atoms"), _Cell),
    }
    keys = forms if isinstance(table, dict) else ()
    return next((forms[key] for key in keys if key in table), None)

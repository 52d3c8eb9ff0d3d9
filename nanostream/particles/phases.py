"""Crystal phases: unit cells with their atoms, or lists of spacings of which no angles are known.

References
----------
Wyckoff, R. W. G. Crystal Structures, vol. 1, 2nd ed. Interscience (1963), for the cells and the
structure types.

Swanson, H. E., Gilfrich, N. T. & Cook, M. I. Standard X-ray Diffraction Powder Patterns, vol. 7.
National Bureau of Standards Circular 539 (1957), for wurtzite CdSe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["HEXAGONAL", "PHASES", "STRUCTURES", "Phase", "phase_of_structure"]

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
#: Structure types with a hexagonal cell, of two lengths; those of all others are cubic.
HEXAGONAL = ("hcp", "wurtzite")


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


def phase_of_structure(
    name: str, structure: str, numbers: Sequence[int], a_nm: float, c_nm: float, source: str
) -> Phase:
    """A phase of a known structure type.

    Parameters
    ----------
    name : str
    structure : str
        A key of `STRUCTURES`.
    numbers : sequence of int
        Atomic numbers of its elements, in the order of the structure type.
    a_nm, c_nm : float
        Of the cell; the same of a cubic one.
    source : str
        Where the numbers are from.

    Raises
    ------
    KeyError, IndexError
        If there is no such structure type, or it has more elements.
    """
    angles = (90.0, 90.0, 120.0 if structure in HEXAGONAL else 90.0)
    atoms = tuple((numbers[e], x, y, z) for e, x, y, z in STRUCTURES[structure])
    return Phase(name, (a_nm, a_nm, c_nm, *angles), atoms, source=source)


_WYCKOFF = "Wyckoff (1963)"

#: Phases that are looked for if no others are asked for; cells at room temperature.
PHASES: dict[str, Phase] = {
    phase.name: phase
    for phase in (
        phase_of_structure("Au", "fcc", [79], 0.407825, 0.407825, _WYCKOFF),
        phase_of_structure("Ag", "fcc", [47], 0.40862, 0.40862, _WYCKOFF),
        phase_of_structure("Pt", "fcc", [78], 0.39231, 0.39231, _WYCKOFF),
        phase_of_structure("Pd", "fcc", [46], 0.38898, 0.38898, _WYCKOFF),
        phase_of_structure(
            "CdSe wurtzite", "wurtzite", [48, 34], 0.4299, 0.7010, "NBS Circular 539-7 (1957)"
        ),
        phase_of_structure("CdSe zinc blende", "zincblende", [48, 34], 0.605, 0.605, _WYCKOFF),
        phase_of_structure("CeO2", "fluorite", [58, 8], 0.5411, 0.5411, _WYCKOFF),
    )
}

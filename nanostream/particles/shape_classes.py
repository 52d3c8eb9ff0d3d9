"""Shape class of each particle, by rules on its measures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanostream.records import SHAPE_CLASSES, UNCLASSIFIED

__all__ = ["shape_classes"]

#: Deep notches: two equal discs whose neck is less than two fifths as wide as they are.
_AGGREGATE = 0.91
#: An elongated one with a waist: two equal discs whose neck is less than half as wide as they are.
_WAIST_SOLIDITY = 0.93
_WAIST_CONVEXITY = 0.96
#: Bent or star-shaped, or jagged. What is convex has, at 100 px, a solidity of at least 0.89 (a
#: triangle, on average) and a convexity of 1; an outline that is rough by a pixel or two has a
#: convexity of 0.95, as masks of real particles do, and a solidity of 0.96.
_IRREGULAR_SOLIDITY = 0.88
_JAGGED_SOLIDITY = 0.94
_JAGGED_CONVEXITY = 0.96
#: Minor over major axis.
_ELONGATED = 2 / 3
#: Roundness over the ratio of the axes: 1 for discs and ellipses, 0.95 where they are a little
#: rough, 0.83 for a hexagon, 0.64 for a square.
_FACETED_ROUNDNESS = 0.89
#: By so much the Feret diameter of what is round is too large, or a little more.
_FERET_EXCESS_PX = 0.5
#: Circularity without the roughness of the outline: ellipses that are not elongated have at least
#: 0.93, rectangles at most 0.8.
_FACETED_CIRCULARITY = 0.86


def shape_classes(measured: Mapping[str, NDArray[Any]]) -> NDArray[np.str_]:
    """Shape class of each particle, of the type of ``shape_class`` in the particle table.

    Parameters
    ----------
    measured : mapping of name to (n,) array
        ``touches_edge, small, solidity, convexity, minor_px, major_px, area_px, feret_max_px,
        circularity`` as in `nanostream.particles.measures.measure_particles`.

    Notes
    -----
    The first rule that holds gives the class:

    =============  ================================================================================
    unclassified   it touches the edge, or is small: its shape is not seen
    aggregate      solidity and convexity below 0.91; or minor / major below 2/3, solidity below
                   0.93 and convexity below 0.96: two with a waist between them
    irregular      solidity below 0.88; or solidity below 0.94 and convexity below 0.96
    elongated      minor / major below 2/3
    faceted        R / (minor / major) below 0.89, or circularity / convexity² below 0.86
    round          all others
    =============  ================================================================================

    R is the roundness with a greatest Feret diameter that is half a pixel shorter: by that much it
    is too large on what is round.

    How often the rules are right on shapes that are known, by size, is in
    docs/reference/measures.md.
    """
    solidity, convexity = measured["solidity"], measured["convexity"]
    # A single pixel has no axes, a line of pixels no minor one; both are small.
    slender = measured["minor_px"] / np.maximum(measured["major_px"], 1e-9)
    elongated = slender < _ELONGATED
    waist = elongated & (solidity < _WAIST_SOLIDITY) & (convexity < _WAIST_CONVEXITY)
    jagged = (solidity < _JAGGED_SOLIDITY) & (convexity < _JAGGED_CONVEXITY)
    feret = measured["feret_max_px"] - _FERET_EXCESS_PX
    evenness = 4 / np.pi * measured["area_px"] / feret**2 / np.maximum(slender, 1e-9)
    rules = {
        UNCLASSIFIED: measured["touches_edge"] | measured["small"],
        "aggregate": ((solidity < _AGGREGATE) & (convexity < _AGGREGATE)) | waist,
        "irregular": (solidity < _IRREGULAR_SOLIDITY) | jagged,
        "elongated": elongated,
        "faceted": (evenness < _FACETED_ROUNDNESS)
        | (measured["circularity"] / convexity**2 < _FACETED_CIRCULARITY),
    }
    longest = max(map(len, (*SHAPE_CLASSES, UNCLASSIFIED)))
    names = [np.array(name, f"U{longest}") for name in rules]
    return np.select(list(rules.values()), names, np.array("round", f"U{longest}"))

"""The rule by which touching particles are separated, as a model's card has it.

Apart from `separation`, which does it: a worker reads cards before there is anything to compute,
and need not wait for OpenCV then.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SeparationRule"]


@dataclass(frozen=True)
class SeparationRule:
    """When two parts of a region are two particles.

    Attributes
    ----------
    smoothing
        Deviation of the blur of the learnt depth, of the region's half width.
    rise
        How much the logarithm of the learnt depth rises from the pass to the lower summit.
    least_depth
        Learnt depth that a summit has; every particle's own is 1.
    solidity
        Without a learnt depth: regions are split only if they fill less of their convex hull.
    distance_rise
        Without a learnt depth: rise from the pass to the lower summit, of the greatest distance to
        the region's outline.
    """

    smoothing: float = 0.16
    rise: float = 0.2
    least_depth: float = 0.25
    solidity: float = 0.90
    distance_rise: float = 0.10

"""What a training is done by, as it is written on a model's card.

`nanostream.training.fit` does it; here is no TensorFlow, so that a plan can be made without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from nanostream.segmentation.normalization import Method


@dataclass(frozen=True)
class Cycle:
    """A part of a training in which the learning rate falls from its greatest to 0, as a cosine.

    Attributes
    ----------
    emphasis
        Materials, "" for a bare support, whose micrographs are drawn so many times as often. Of
        several materials in a micrograph the greatest number counts.
    rate
        Greatest learning rate, as a part of the recipe's.
    alteration
        How often `nanostream.training.fit.augment` alters a view, as a part of how often it does by
        default. Views are turned by right angles, mirrored and, if each is scaled by its own
        moments, changed a little in level and contrast all the same.

    Raises
    ------
    ValueError
        If there is no step, an emphasis or the rate is not positive, or the alteration is not of 0
        to 1.
    """

    steps: int
    emphasis: Mapping[str, float] = field(default_factory=dict)
    alteration: float = 1.0
    rate: float = 1.0

    def __post_init__(self) -> None:
        if self.rate <= 0:
            msg = f"rate {self.rate}: a positive part of the recipe's learning rate"
            raise ValueError(msg)
        if self.steps < 1 or not 0.0 <= self.alteration <= 1.0:
            msg = f"{self.steps} steps, alteration {self.alteration}: 1 or more, and 0 to 1"
            raise ValueError(msg)
        if self.emphasis and min(self.emphasis.values()) <= 0:
            msg = f"emphasis {dict(self.emphasis)}: positive numbers"
            raise ValueError(msg)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    cycles
        One after the other, each from its greatest learning rate again [1]_.
    optimizer
        The one there is, for the record: a training begun with another cannot go on.

    Raises
    ------
    ValueError
        If there is no cycle.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "SGDR: Stochastic gradient descent with warm restarts",
       ICLR (2017), https://arxiv.org/abs/1608.03983.
    """

    cycles: tuple[Cycle, ...] = (Cycle(6000),)
    batch: int = 4
    crop_px: int = 384
    normalization: Method = "standardize"
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    averaging: float = 0.999
    optimizer: str = field(default="muon", init=False)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.cycles:
            msg = "a recipe without a cycle: give one or more"
            raise ValueError(msg)

    @property
    def steps(self) -> int:
        """Of all cycles."""
        return sum(cycle.steps for cycle in self.cycles)

    def cycle(self, step: int) -> Cycle:
        """The one that a step belongs to; the last for steps after it."""
        ends = accumulate(cycle.steps for cycle in self.cycles)
        return next(
            (cycle for cycle, end in zip(self.cycles, ends, strict=True) if step < end),
            self.cycles[-1],
        )

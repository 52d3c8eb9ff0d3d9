"""Recipes of trainings, as they are written on a model's card.

`nanostream.training.fit` trains by them; no TensorFlow is needed to make one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from nanostream.segmentation.normalization import Method

__all__ = ["Cycle", "Recipe", "default_recipe", "tuning_recipe"]

#: Fine-tuning, by measurement on 10 of the 20 sintering images (2026-11-25): see
#: docs/how-to/train-a-model.md. The running average spans a fifth of the steps; that of the
#: default recipe, 0.999, would be four fifths the old weights after 200.
_TUNING_STEPS = 200
_TUNING_RATE = 3e-4


@dataclass(frozen=True)
class Cycle:
    """Part of a training in which the learning rate falls from its greatest to 0, as a cosine.

    Attributes
    ----------
    emphasis
        Materials, "" for a bare support, whose micrographs are drawn so many times as often. Of
        several materials in a micrograph the greatest number counts.
    rate
        Greatest learning rate, as a part of the recipe's.
    alteration
        How often `nanostream.training.views.augment` alters a view, as a part of how often it does
        by default. Views are turned by right angles, mirrored and, if each is scaled by its own
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
            msg = f"rate {self.rate}: a positive part of the recipe's learning rate is needed"
            raise ValueError(msg)
        if self.steps < 1 or not 0.0 <= self.alteration <= 1.0:
            msg = (
                f"{self.steps} steps, alteration {self.alteration}: steps must be 1 or more, the "
                "alteration 0 to 1"
            )
            raise ValueError(msg)
        if self.emphasis and min(self.emphasis.values()) <= 0:
            msg = f"emphasis {dict(self.emphasis)}: positive numbers are needed"
            raise ValueError(msg)


@dataclass(frozen=True)
class Recipe:
    """Cycles, batches, learning rate and averaging of a training.

    Attributes
    ----------
    cycles
        One after the other, each from its greatest learning rate again [1]_.
    rehearsal
        Generated pictures of all kinds that a network with depth learns from in every other view,
        so that it does not forget the others over one sample.
    optimizer
        The one there is, for the record: a training begun with another cannot be resumed.

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
    rehearsal: int = 160
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


def default_recipe(*, steps: int | None = None, seed: int = 0) -> Recipe:
    """Recipe of a new network.

    Parameters
    ----------
    steps
        Instead of the recipe's own.
    """
    recipe = Recipe(seed=seed)
    return recipe if steps is None else Recipe((Cycle(steps),), seed=seed)


def tuning_recipe(normalization: Method, *, steps: int | None = None, seed: int = 0) -> Recipe:
    """Recipe to fine-tune a model: few small steps, so that it keeps what it knows.

    Parameters
    ----------
    normalization
        Of the model that is fine-tuned.
    steps
        Instead of the recipe's own.
    """
    steps = _TUNING_STEPS if steps is None else steps
    return Recipe(
        (Cycle(steps),),
        learning_rate=_TUNING_RATE,
        averaging=1.0 - 1.0 / max(2.0, 0.2 * steps),
        normalization=normalization,
        seed=seed,
    )

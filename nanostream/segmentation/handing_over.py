"""Which of two models answers for a micrograph: its pixel size says it, else its look.

A model that is good at lattice resolution is not at survey magnification, and the other way round.
The card of one names the other (`nanostream.segmentation.models.ModelCard.hands_over_to`), so that
a user need not know which of them a micrograph is for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nanostream.config import Worker
from nanostream.segmentation.models import ModelCard, find_model

__all__ = ["Look", "models_in_use", "other_answers"]


Look = Callable[[], NDArray[np.float64]]

#: A micrograph of a higher domain score is usual enough: the model that was asked for answers.
_USUAL = 0.3


def models_in_use(
    settings: Worker, model: tuple[ModelCard, Path] | None = None
) -> list[tuple[ModelCard, Path]]:
    """Card and weights of the model that is asked for, and of the one it hands over to, if any.

    Parameters
    ----------
    settings : Worker
    model : tuple of ModelCard and Path, optional
        Instead of the settings'.

    Raises
    ------
    ModelError
        If one of them cannot be used.
    """
    card, weights = model or find_model(settings.model)
    others = [find_model(card.hands_over_to)] if settings.hand_over and card.hands_over_to else []
    return [(card, weights), *others]


def other_answers(
    card: ModelCard, other: ModelCard, pixel_size_nm: float | None, look: Look
) -> bool:
    """Whether the model that a card hands over to answers for a micrograph.

    Where the pixel size is known it does for larger ones than the card's. Elsewhere it does if the
    micrograph's domain score is below 0.3 and that of the other model is higher. Nothing but the
    micrograph counts, so that it gets the same answer whenever it is asked for.

    Parameters
    ----------
    card, other : ModelCard
        The model that was asked for, and the one that it hands over to.
    pixel_size_nm : float or None
        Of the micrograph; None is not known.
    look : callable
        Gives the descriptor (`nanostream.segmentation.domain.describe`) of the micrograph after the
        3x3 median; called only where no pixel size decides.

    Notes
    -----
    Chosen on the development sets of 2026-12 as if no pixel size were known: 62 of 65 published
    panels and all frames of particles of 8 px go from ``default`` to ``survey``, and 1 of 56 other
    images does. The higher score alone would send 19 of those.
    """
    if pixel_size_nm and card.pixel_size_nm:
        return pixel_size_nm > card.pixel_size_nm[1]
    if card.domain is None or other.domain is None:
        return False
    own = card.domain.score(look())
    return own < _USUAL and other.domain.score(look()) > own  # False for NaN

"""The networks that a model card can name, ready to be trained."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from nanostream.errors import ModelError
from nanostream.segmentation.unet import build_unet

__all__ = ["build_network", "seed_everything"]

_BUILDERS = {"unet": build_unet}


def build_network(architecture: str, features: Sequence[int]) -> keras.Model:
    """Network of a card, with new weights.

    Parameters
    ----------
    architecture, features
        As in `nanostream.segmentation.models.ModelCard`.

    Raises
    ------
    ModelError
        If this version of nanostream does not know the architecture.
    """
    if architecture not in _BUILDERS:
        known = ", ".join(_BUILDERS)
        msg = f"architecture {architecture!r} cannot be trained here; known are {known}"
        raise ModelError(msg)
    return _BUILDERS[architecture](features)


def seed_everything(seed: int) -> None:
    """Seed what new weights and dropout are drawn from."""
    keras.utils.set_random_seed(seed)

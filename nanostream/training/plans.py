"""Plan of a training: what is trained on what, from which model, and where the result goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nanostream.errors import ModelError
from nanostream.segmentation.models import ModelCard, is_name, list_models
from nanostream.segmentation.weights import PAPER_FEATURES, Architecture
from nanostream.training.sources import Source

__all__ = ["Base", "Plan", "check_new_name"]


@dataclass(frozen=True)
class Base:
    """A model to start from: its card and its weights."""

    card: ModelCard
    weights: Path


@dataclass(frozen=True)
class Plan:
    """Data, base and destination of a training.

    Attributes
    ----------
    name
        Of the model.
    folder
        Where weights and card go.
    training, held_out
        Files to learn from; files to choose calibration and threshold on, which stay near the
        base's where that is little.
    work
        Folder for checkpoints, from which an interrupted training is resumed; one by the paper's
        recipe begins anew.
    test
        Files to score on; if empty, `held_out`.
    base
        Model to start from, None for new weights.
    architecture, features
        Of the network, if there is no base.
    pixel_size_nm
        Of files that do not say it.
    materials
        For the card, besides those of simulated scenes and of the base.
    command, licence
        For the card.
    """

    name: str
    folder: Path
    training: Sequence[Source]
    held_out: Sequence[Source]
    work: Path
    test: Sequence[Source] = ()
    base: Base | None = None
    architecture: Architecture = "unet"
    features: tuple[int, ...] = PAPER_FEATURES
    pixel_size_nm: float | None = None
    materials: tuple[str, ...] = ()
    command: str = ""
    licence: str = ""


def check_new_name(name: str, folder: Path) -> None:
    """Refuse, before the work, a name that a new model cannot have.

    Parameters
    ----------
    folder
        Of the models, where it is to get a folder of its own.

    Raises
    ------
    ModelError
        If it is no plain name, or a shipped or another model has it.
    """
    if not is_name(name):
        msg = (
            f"model name {name!r} cannot be used; give one of letters, digits, dot, dash and "
            "underscore, 64 at most"
        )
        raise ModelError(msg)
    if any(card.name == name for card in list_models()) or (folder / name / "card.json").exists():
        msg = (
            f"there is a model {name!r} already (nanostream models show {name} says where), which "
            "is not overwritten; choose another --name"
        )
        raise ModelError(msg)

"""Named models: weights, and a card with how to use them.

A model is a folder with ``card.json`` and its weights. The package ships ``default``; imported
models live in the user's data folder (or ``$NANOSTREAM_MODELS``) and come first, except that the
name of a shipped model cannot be taken.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
from collections.abc import Callable
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import platformdirs
from msgspec import Struct

from nanostream.errors import ModelError, reason_of
from nanostream.segmentation.domain import DomainReference
from nanostream.segmentation.engines import build_engine
from nanostream.segmentation.inference import FoldedUNet, Network
from nanostream.segmentation.separation_rule import SeparationRule
from nanostream.segmentation.weights import (
    BATCH_NORM_EPSILON,
    PAPER_FEATURES,
    WITH_DEPTH,
    Architecture,
    Arrays,
    read_weights,
)

__all__ = [
    "ModelCard",
    "Normalization",
    "find_model",
    "import_folder",
    "import_model",
    "is_name",
    "list_models",
    "load_network",
    "model_of",
    "read_card",
    "remove_model",
    "user_models",
]

Normalization = Literal["image-max", "image-minmax", "dataset-max", "standardize"]

_SHIPPED = Path(__file__).parent / "shipped"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ModelCard(Struct, frozen=True):
    """A model's card: how to use it and how it was made; other keys of the file are kept.

    Attributes
    ----------
    features : tuple of int
        Feature maps of each level of the U-Net, finest first.
    normalization : str
        How a micrograph is scaled after the 3x3 median; as much part of a model as its weights.
    normalization_maximum : float or None
        For ``dataset-max``: the fixed value; None for the session's running maximum.
    threshold : float
        Probability, calibrated if there is a calibration, above which a pixel is particle.
    peak : float
        Minimum peak probability: what every particle reaches somewhere; 0 if it need not.
    calibration : tuple of float or None
        Scale and shift of the logits: the network's probability is ``sigmoid(scale * logit +
        shift)``. See `nanostream.training.choosing.fit_calibration`.
    min_area_px : int or None
        Pixels of the smallest particle that the network is to be trusted with; None is not known.
    separation : SeparationRule
        How touching particles are told apart.
    pixel_size_nm : tuple of float or None
        Range of the micrographs it was trained on; others are resampled to the nearest end of it.
    hands_over_to : str or None
        Name of the model that answers for the micrographs that this one is not for, see
        `nanostream.segmentation.handing_over`.
    domain : DomainReference or None
        How the training images look; without it no micrograph gets a domain score.
    weights : str
        Name of the file in the model's folder.
    weights_sha256 : str
        Of that file.
    """

    name: str
    features: tuple[int, ...]
    normalization: Normalization
    threshold: float
    weights_sha256: str
    weights: str = "weights.weights.h5"
    architecture: Architecture = "unet"
    peak: float = 0.0
    normalization_maximum: float | None = None
    calibration: tuple[float, float] | None = None
    pixel_size_nm: tuple[float, float] | None = None
    min_area_px: int | None = None
    separation: SeparationRule = SeparationRule()
    hands_over_to: str | None = None
    domain: DomainReference | None = None
    materials: tuple[str, ...] = ()
    training: dict[str, Any] = {}
    scores: dict[str, Any] = {}
    licence: str = ""
    date: str = ""
    command: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            msg = f"threshold {self.threshold}: a probability between 0 and 1 is needed"
            raise ValueError(msg)
        if not 0 <= self.peak < 1:
            msg = f"minimum peak probability (peak) {self.peak}: below 1, or 0 for none, is needed"
            raise ValueError(msg)
        maximum = self.normalization_maximum
        if maximum is not None and not 0 < maximum < math.inf:
            msg = f"maximum {maximum:g}: a count above 0 is needed"
            raise ValueError(msg)
        if self.calibration is not None:
            scale, shift = self.calibration
            if not (0 < scale < math.inf and math.isfinite(shift)):
                msg = f"calibration {self.calibration}: a positive scale and a shift are needed"
                raise ValueError(msg)
        if self.pixel_size_nm is not None:
            low, high = self.pixel_size_nm
            if not 0 < low <= high < math.inf:
                msg = f"pixel sizes {low:g} to {high:g} nm: the smaller one first, above 0"
                raise ValueError(msg)
        if self.weights in (".", "..") or Path(self.weights).name != self.weights:
            msg = f"weights {self.weights!r}: the name of a file in the model's folder is needed"
            raise ValueError(msg)


def is_name(name: str) -> bool:
    """Whether a model can have this name: letters, digits, dot, dash and underscore, 64 at most.

    Examples
    --------
    >>> is_name("gold-2026"), is_name("../gold")
    (True, False)
    """
    return _NAME.fullmatch(name) is not None


def user_models() -> Path:
    """Folder of imported models."""
    chosen = os.environ.get("NANOSTREAM_MODELS")
    return Path(chosen) if chosen else platformdirs.user_data_path("nanostream") / "models"


def list_models(on_damaged: Callable[[ModelError], object] = lambda _: None) -> list[ModelCard]:
    """Cards of all models, shipped ones first.

    Parameters
    ----------
    on_damaged
        Called with what is wrong with a card that cannot be read, which is left out.
    """
    cards = []
    for path in (*sorted(_SHIPPED.glob("*/card.json")), *sorted(user_models().glob("*/card.json"))):
        try:
            cards.append(_read_card(path))
        except ModelError as error:
            on_damaged(error)
    return cards


def find_model(name: str) -> tuple[ModelCard, Path]:
    """Card and weights of a model.

    Raises
    ------
    ModelError
        If there is none of that name, its card is damaged, or its weights are not the card's.
    """
    for folder in (_SHIPPED / name, user_models() / name):
        if is_name(name) and (folder / "card.json").is_file():
            card = _read_card(folder / "card.json")
            weights = folder / card.weights
            if not weights.is_file() or _sha256(weights) != card.weights_sha256:
                msg = (
                    f"model {name!r}: {weights} is missing or not the file its card describes; "
                    "import the model again"
                )
                raise ModelError(msg)
            return card, weights
    raise _no_model(name)


def _no_model(name: str) -> ModelError:
    known = [card.name for card in list_models()]
    meant = "".join(f"; did you mean {near}?" for near in get_close_matches(name, known, n=1))
    return ModelError(
        f"no model {name!r}{meant or ';'} there are: {', '.join(known)} "
        "(nanostream models import adds one)"
    )


def import_model(
    file: Path,
    *,
    name: str,
    normalization: Normalization,
    threshold: float,
    normalization_maximum: float | None = None,
    pixel_size_nm: tuple[float, float] | None = None,
) -> ModelCard:
    """Take weights into the user's models.

    Parameters
    ----------
    file : Path
        Weights of the paper's U-Net: Keras 2 ``.h5``, Keras 3 ``.weights.h5`` or ``.keras``.
    name : str
        To be known by; letters, digits, dot, dash and underscore.

    Raises
    ------
    ModelError
        If the file does not fit the network, or the name is not free or not a name.
    """
    _check_name(name)
    if normalization_maximum is not None and normalization != "dataset-max":
        msg = f"a fixed maximum goes with --normalization dataset-max, not {normalization}"
        raise ModelError(msg)
    read_weights(file, PAPER_FEATURES)  # refuses what does not fit
    try:
        card = ModelCard(
            name=name,
            features=PAPER_FEATURES,
            normalization=normalization,
            normalization_maximum=normalization_maximum,
            threshold=threshold,
            pixel_size_nm=pixel_size_nm,
            weights="weights" + "".join(file.suffixes[-1:]),
            weights_sha256=_sha256(file),
            training={"imported_from": file.name},
            date=date.today().isoformat(),
        )
    except ValueError as error:
        msg = f"model {name!r}: {error}"
        raise ModelError(msg) from error
    _take(file, card, msgspec.to_builtins(card))
    return card


def import_folder(folder: Path, *, name: str | None = None) -> ModelCard:
    """Take a model with its card, as ``nanostream train`` makes it, into the user's models.

    Parameters
    ----------
    folder : Path
        With ``card.json`` and the weights that it names.
    name : str, optional
        To be known by, instead of the card's name.

    Raises
    ------
    ModelError
        If the card is damaged, the weights are not the card's or do not fit its network, or the
        name is not free or not a name.
    """
    card, weights = model_of(folder)
    card = msgspec.structs.replace(card, name=name or card.name)
    _check_name(card.name)
    _read_layers(card, weights)  # refuses what does not fit
    _take(weights, card, read_card(folder / "card.json") | {"name": card.name})
    return card


def model_of(folder: Path) -> tuple[ModelCard, Path]:
    """Card and weights of a model in any folder.

    Raises
    ------
    ModelError
        If the card is damaged or not there, or the weights are not the card's.
    """
    path = folder / "card.json"
    card = _read_card(path)
    weights = folder / card.weights
    if not weights.is_file() or _sha256(weights) != card.weights_sha256:
        msg = f"{weights} is missing or not the file that {path} describes"
        raise ModelError(msg)
    return card, weights


def remove_model(name: str) -> Path:
    """Folder of a model of the user's, deleted.

    A card that is damaged, or weights that are not the card's, do not keep it.

    Raises
    ------
    ModelError
        If there is none of that name, it is a shipped one, or it cannot be deleted.
    """
    if is_name(name) and (_SHIPPED / name).exists():
        msg = f"model {name!r} came with nanostream and is not removed; imported models can be"
        raise ModelError(msg)
    folder = user_models() / name
    if not (is_name(name) and (folder / "card.json").is_file()):
        raise _no_model(name)
    try:
        shutil.rmtree(folder)
    except OSError as error:
        msg = f"model {name!r} cannot be removed from {folder}: {reason_of(error)}"
        raise ModelError(msg) from error
    return folder


def read_card(path: Path) -> dict[str, Any]:
    """A card as it is in its file, also what `ModelCard` does not know of.

    Raises
    ------
    ModelError
        If it cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        msg = f"model card {path} cannot be used: {reason_of(error)}; make or import it again"
        raise ModelError(msg) from error


def _check_name(name: str) -> None:
    if not is_name(name) or (_SHIPPED / name).exists():
        msg = (
            f"model name {name!r}: a shipped model has it, or it is not of letters, digits, dot, "
            "dash and underscore; choose another"
        )
        raise ModelError(msg)


def _take(weights: Path, card: ModelCard, tree: dict[str, Any]) -> None:
    """Put a model into the user's folder; the same one again, or another, replaces it."""
    folder = user_models() / card.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if weights.resolve() != (folder / card.weights).resolve():
            shutil.copyfile(weights, folder / card.weights)
        text = msgspec.json.format(msgspec.json.encode(tree), indent=2)
        (folder / "card.json").write_bytes(text + b"\n")
    except OSError as error:
        msg = f"model {card.name!r} cannot be kept in {folder}: {reason_of(error)}"
        raise ModelError(msg) from error


def load_network(
    card: ModelCard,
    weights: Path,
    *,
    engine: str = "auto",
    device: str = "auto",
    mixed: bool = False,
) -> Network:
    """The model's network on a device, ready to predict.

    Parameters
    ----------
    card, weights
        Of the model.
    engine, device, mixed
        As `nanostream.segmentation.engines.choose_engine` takes them.

    Raises
    ------
    ModelError
        If the engine is not installed or the weights do not fit the card's features.
    ConfigError
        If there is no such device.
    """
    layers = _calibrated(_read_layers(card, weights), card.calibration, card.architecture)
    graph = FoldedUNet(
        layers,
        epsilon=BATCH_NORM_EPSILON,
        levels=len(card.features),
        architecture=card.architecture,
    )
    return Network(graph, build_engine(graph, engine=engine, device=device, mixed=mixed))


def _read_layers(card: ModelCard, weights: Path) -> list[Arrays]:
    return read_weights(weights, card.features, architecture=card.architecture)


def _calibrated(
    layers: list[Arrays], calibration: tuple[float, float] | None, architecture: Architecture
) -> list[Arrays]:
    """The layers of a network whose logits are scaled and shifted by its last convolution.

    A softmax over background and particle is the sigmoid of their difference: with the last kernel
    and bias times the scale, and the shift added to the particle's bias, it is
    ``sigmoid(scale * logit + shift)``, and costs nothing.
    """
    if calibration is None:
        return layers
    scale, shift = (np.float32(number) for number in calibration)
    kernel, bias = layers[-1]
    if architecture in WITH_DEPTH:  # a logit of its own, before that of the depth
        particle = np.array([scale, 1.0], np.float32)
        last = [kernel * particle[:, None], bias * particle + np.array([shift, 0], np.float32)]
        return [*layers[:-1], last]
    return [*layers[:-1], [kernel * scale, bias * scale + np.array([0, shift], np.float32)]]


def _read_card(path: Path) -> ModelCard:
    try:
        return msgspec.json.decode(path.read_bytes(), type=ModelCard)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        msg = f"model card {path} cannot be used: {reason_of(error)}; make or import it again"
        raise ModelError(msg) from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

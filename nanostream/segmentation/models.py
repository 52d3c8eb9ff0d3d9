"""Named models: weights and a card that says how to use them.

A model is a folder with ``card.json`` and its weights. The package ships ``default``; imported
models live in the user's data folder (or ``$NANOSTREAM_MODELS``) and come first, except that the
name of a shipped model cannot be taken.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import platformdirs
from msgspec import Struct

from nanostream.errors import ModelError
from nanostream.segmentation.weights import (
    BATCH_NORM_EPSILON,
    PAPER_FEATURES,
    Architecture,
    read_weights,
)

if TYPE_CHECKING:
    from nanostream.segmentation.inference import FoldedUNet

__all__ = [
    "ModelCard",
    "Normalization",
    "check_tensorflow",
    "find_model",
    "import_model",
    "list_models",
    "load_network",
    "user_models",
]

Normalization = Literal["image-max", "image-minmax", "dataset-max", "standardize"]

NO_TENSORFLOW = (
    "TensorFlow is not installed on this machine; install nanostream with its worker: "
    "pip install 'nanostream[worker]', in a clone pip install '.[worker]'"
)

_SHIPPED = Path(__file__).parent / "shipped"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ModelCard(Struct, frozen=True):
    """What is known of a model; further keys of the file are kept for readers.

    Attributes
    ----------
    features : tuple of int
        Feature maps of each level of the U-Net, finest first.
    normalization : str
        How a micrograph is scaled after the 3x3 median; as much part of a model as its weights.
    normalization_maximum : float or None
        For ``dataset-max``: the fixed value; None for the session's running maximum.
    threshold : float
        Probability above which a pixel is particle.
    pixel_size_nm : tuple of float or None
        Range of the micrographs it was trained on.
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
    normalization_maximum: float | None = None
    pixel_size_nm: tuple[float, float] | None = None
    materials: tuple[str, ...] = ()
    training: dict[str, Any] = {}
    scores: dict[str, Any] = {}
    licence: str = ""
    date: str = ""
    command: str = ""


def user_models() -> Path:
    """Folder of imported models."""
    chosen = os.environ.get("NANOSTREAM_MODELS")
    return Path(chosen) if chosen else platformdirs.user_data_path("nanostream") / "models"


def list_models() -> list[ModelCard]:
    """Cards of all models, shipped ones first."""
    folders = [*sorted(_SHIPPED.glob("*/card.json")), *sorted(user_models().glob("*/card.json"))]
    return [_read_card(folder) for folder in folders]


def find_model(name: str) -> tuple[ModelCard, Path]:
    """Card and weights of a model.

    Raises
    ------
    ModelError
        If there is none of that name, its card is damaged, or its weights are not the card's.
    """
    for folder in (_SHIPPED / name, user_models() / name):
        if _NAME.fullmatch(name) and (folder / "card.json").is_file():
            card = _read_card(folder / "card.json")
            weights = folder / card.weights
            if not weights.is_file() or _sha256(weights) != card.weights_sha256:
                msg = (
                    f"model {name!r}: {weights} is missing or not the file its card describes; "
                    "import the model again"
                )
                raise ModelError(msg)
            return card, weights
    known = ", ".join(card.name for card in list_models())
    msg = f"no model {name!r}; there are: {known} (nanostream models import adds one)"
    raise ModelError(msg)


def check_tensorflow() -> None:
    """Look whether TensorFlow is installed, without the seconds that its import takes.

    Raises
    ------
    ModelError
        If it is not.
    """
    if find_spec("tensorflow") is None:
        raise ModelError(NO_TENSORFLOW)


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
    if not _NAME.fullmatch(name) or (_SHIPPED / name).exists():
        msg = f"model name {name!r} is taken by a shipped model or no plain name; choose another"
        raise ModelError(msg)
    if not 0 < threshold < 1:
        msg = f"threshold {threshold}: a probability between 0 and 1 is needed"
        raise ModelError(msg)
    if normalization_maximum is not None and normalization != "dataset-max":
        msg = f"a fixed maximum goes with --normalization dataset-max, not {normalization}"
        raise ModelError(msg)
    read_weights(file, PAPER_FEATURES)  # refuses what does not fit
    folder = user_models() / name
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / ("weights" + "".join(file.suffixes[-1:]))
    shutil.copyfile(file, weights)
    card = ModelCard(
        name=name,
        features=PAPER_FEATURES,
        normalization=normalization,
        normalization_maximum=normalization_maximum,
        threshold=threshold,
        pixel_size_nm=pixel_size_nm,
        weights=weights.name,
        weights_sha256=_sha256(weights),
        training={"imported_from": file.name},
        date=date.today().isoformat(),
    )
    text = msgspec.json.format(msgspec.json.encode(card), indent=2)
    (folder / "card.json").write_bytes(text + b"\n")
    return card


def load_network(card: ModelCard, weights: Path, *, device: str, mixed: bool) -> FoldedUNet:
    """The model's network on a device, ready to predict.

    Raises
    ------
    ModelError
        If TensorFlow is not installed or the weights do not fit the card's features.
    ConfigError
        If there is no such device.
    """
    layers = read_weights(weights, card.features, architecture=card.architecture)
    with _tensorflow():
        from nanostream.segmentation import inference

        where = inference.choose_device(device)
    return inference.FoldedUNet(
        layers,
        epsilon=BATCH_NORM_EPSILON,
        levels=len(card.features),
        device=where,
        mixed=mixed,
        architecture=card.architecture,
    )


@contextmanager
def _tensorflow() -> Iterator[None]:
    """Import and first use of TensorFlow: a clear word if it is absent, and no noise.

    Its native code writes to standard error which drivers it did not find, before any log level
    is looked at (TensorFlow issue 100442); an operator who segments a file should not see that.
    It also imports Keras 3 unless told that the older Keras is wanted; that takes a third of its
    time, and nothing that predicts uses Keras.
    """
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    if "keras" not in sys.modules:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("tensorflow", "keras"):
            raise
        raise ModelError(NO_TENSORFLOW) from error
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.environ.pop("TF_USE_LEGACY_KERAS", None)
        if before is not None:
            os.environ["TF_USE_LEGACY_KERAS"] = before


def _read_card(path: Path) -> ModelCard:
    try:
        return msgspec.json.decode(path.read_bytes(), type=ModelCard)
    except (OSError, msgspec.DecodeError) as error:
        msg = f"model card {path} cannot be used: {error}"
        raise ModelError(msg) from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

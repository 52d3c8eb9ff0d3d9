"""The card of a model as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Column, Table

from nanostream.segmentation.domain import MOST_DOUBT
from nanostream_services.commands.printing import add_row

if TYPE_CHECKING:
    from nanostream.segmentation.models import ModelCard

__all__ = ["card_tables", "pixel_sizes"]

_HOW_SCORED = """Accuracy and Dice are by pixel, precision and recall by particle: particles that
touch and are found as one are missed, and simulated sets have many that nobody
could see."""


def card_tables(card: ModelCard, folder: Path) -> Iterator[RenderableType]:
    """Tables of its properties, its scores and its training, in this order."""
    facts = Table("", Column("", overflow="fold"), title=f"Model {card.name}", show_header=False)
    for key, value in _facts(card):
        add_row(facts, key, value)
    add_row(facts, "folder", str(folder))
    yield facts
    yield from _score_tables(card.scores)
    if card.scores:
        yield _HOW_SCORED
    if card.training:
        training = Table(title="Training (--json has all)", show_header=False)
        for key, value in card.training.items():
            plain = _sets(value) if key == "simulated_sets" else _plain(value)
            add_row(training, key.replace("_", " "), plain)
        yield training


def pixel_sizes(card: ModelCard) -> str:
    """The pixel sizes in nm that a model was trained on; empty if its card does not say."""
    return "{:g} to {:g}".format(*card.pixel_size_nm) if card.pixel_size_nm else ""


def _facts(card: ModelCard) -> Iterator[tuple[str, str]]:
    yield "architecture", f"{card.architecture}, features {_plain(card.features)}"
    if card.materials:
        yield "materials", ", ".join(card.materials)
    sizes = pixel_sizes(card)
    yield "pixel sizes", f"{sizes} nm; others are resampled" if sizes else "not known"
    if other := card.hands_over_to:
        yield "hands over", f"larger pixel sizes, and what looks more like its own, to {other}"
    scaling: str = card.normalization
    if card.normalization == "dataset-max":
        maximum = card.normalization_maximum
        scaling += f", of {maximum:g}" if maximum else ", of the session so far"
    yield "normalization", scaling
    yield "threshold", f"{card.threshold:g}"
    if card.peak:
        yield (
            "minimum peak probability",
            f"{card.peak:g}: the probability that a particle reaches somewhere",
        )
    if card.calibration:
        scale, shift = card.calibration
        yield "calibration", f"scale {scale:.4g}, shift {shift:.4g} of the logits"
    else:
        yield "calibration", "none"
    yield "warns", _warns(card)
    for key in ("date", "licence", "command"):
        if value := getattr(card, key):
            yield key, value
    yield "weights", f"{card.weights}, SHA-256 {card.weights_sha256}"


def _warns(card: ModelCard) -> str:
    """When a section of this model gets a warning."""
    most_doubt = card.domain.most_doubt if card.domain else MOST_DOUBT
    uncertain = f"if the mean probability inside particles is below {1 - most_doubt:.3g}"
    if card.domain is None:
        return f"{uncertain}; this model does not know how unlike its training images one is"
    return (
        f"below domain score {card.domain.least_score:g} (of {card.domain.images} training "
        f"images), or {uncertain}"
    )


def _plain(value: Any) -> str:
    """A value of a card as a person writes it; names of files as they are.

    Examples
    --------
    >>> _plain({"steps": 4400, "crop_px": 288}), _plain([4, 8]), _plain(0.87654)
    ('steps 4400, crop px 288', '4, 8', '0.8765')
    >>> _plain({"mine/image_00.png": "5c1d", "emphasis": {"CdSe": 3.0, "": 0.5}, "history": {}})
    'mine/image_00.png 5c1d, emphasis CdSe 3, bare support 0.5'
    """
    if isinstance(value, dict):
        return ", ".join(
            f"{(key if '.' in key else key.replace('_', ' ')) or 'bare support'} {_plain(held)}"
            for key, held in value.items()
            if held not in ({}, [], ())
        )
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _sets(sets: list[dict[str, Any]]) -> str:
    """Simulated sets in short.

    Examples
    --------
    >>> _sets([{"folder": "a", "set": "train", "seed": 7}, {"folder": "b", "set": "bare"}])
    'a (train, seed 7), b (bare, seed ?)'
    """
    return ", ".join(f"{s.get('folder')} ({s.get('set')}, seed {s.get('seed', '?')})" for s in sets)


def _score(value: Any) -> str:
    """A score as tables show it; nothing where it has no meaning."""
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _score_tables(scores: dict[str, Any]) -> list[Table]:
    """Scores as tables: one for each group of rows, such as materials, and one of what is left."""
    tables = []
    rest = Table(title="Scores", show_header=False)
    for key, value in scores.items():
        title = key.replace("_", " ")
        if isinstance(value, dict) and "by_material" in value:  # those of the base
            weights = f" ({sha256[:8]})" if (sha256 := value.get("weights_sha256")) else ""
            title, value = f"{title}, of {value['model']}{weights}", value["by_material"]
        if not (
            isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values())
        ):
            add_row(rest, title, _plain(value))
            continue
        names = list(dict.fromkeys(name for row in value.values() for name in row))
        table = Table(Column("", overflow="fold"), title=f"Scores {title}", padding=0)
        for name in names:
            table.add_column(name.replace("_", " "), justify="right")
        for row, cells in value.items():
            add_row(table, row, *(_score(cells.get(name)) for name in names))
        tables.append(table)
    return [rest, *tables] if rest.row_count else tables

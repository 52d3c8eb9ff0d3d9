"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "ConfigFile",
    "Json",
    "Micrographs",
    "ModelName",
    "Out",
    "PixelSize",
    "Plain",
    "SessionFolder",
    "Streams",
    "Threshold",
    "check_pixel_size",
    "check_probability",
    "model_names",
    "split_names",
]


def check_probability(value: float | None) -> float | None:
    """The value of an option, if it is a probability that a pixel can lie above and below.

    Raises
    ------
    typer.BadParameter
        If it is not above 0 and below 1.
    """
    if value is not None and not 0.0 < value < 1.0:
        msg = f"{value:g} is not a probability above 0 and below 1."
        raise typer.BadParameter(msg)
    return value


def check_pixel_size(value: float | None) -> float | None:
    """The value of an option, if it can be the pixel size (nm) of an electron microscope.

    Raises
    ------
    typer.BadParameter
        If it is not from 0.0001 to 1000.
    """
    if value is not None and not 1e-4 <= value <= 1e3:
        msg = "give the pixel of an electron microscope, 0.0001 to 1000 nm."
        raise typer.BadParameter(msg)
    return value


def model_names(incomplete: str) -> list[str]:
    """Names of models that begin so, for the shell."""
    from nanostream.segmentation.models import list_models

    names = (card.name for card in list_models(on_damaged=lambda _: None))
    return [name for name in names if name.startswith(incomplete)]


def split_names(text: str) -> tuple[str, ...]:
    """Names that were given with commas between them.

    Examples
    --------
    >>> split_names("Au, CdSe")
    ('Au', 'CdSe')
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="TOML; nanostream config example microscope has all keys."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Micrographs = Annotated[
    Path | None,
    typer.Option(
        "--watch",
        metavar="FOLDER",
        help="Where the micrographs are, if they are not where they were.",
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="See: nanostream models list.",
        autocompletion=model_names,
    ),
]
Out = Annotated[
    Path, typer.Option("--out", metavar="FOLDER", help="Session folder; made if absent.")
]
PixelSize = Annotated[
    float | None,
    typer.Option(
        "--pixel-size",
        metavar="NM",
        help="For files that do not give it.",
        callback=check_pixel_size,
    ),
]
Plain = Annotated[bool, typer.Option("--plain", help="Print lines instead of the dashboard.")]
SessionFolder = Annotated[Path, typer.Argument(metavar="SESSION", help="Session folder.")]
Streams = Annotated[
    list[str] | None,
    typer.Option(
        "--stream",
        metavar="PATTERN",
        help="Stacks that are movies: particles keep their ids; may be repeated.",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(metavar="0..1", help="Instead of the model card's.", callback=check_probability),
]

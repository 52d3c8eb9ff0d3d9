"""``nanostream models``: networks that can be used, and their cards."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from nanostream.errors import ConfigError
from nanostream_services.commands.cards import card_tables, pixel_sizes
from nanostream_services.commands.options import Json, check_probability, model_names
from nanostream_services.commands.printing import add_row, print_error, write_json

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Networks and their cards.")

Name = Annotated[str, typer.Argument(metavar="MODEL", autocompletion=model_names)]


_SCALING = """How the network's micrographs were scaled, for weights: image-max, image-minmax,
dataset-max or standardize."""


class Scaling(StrEnum):
    """How a model wants its micrographs scaled after the median filter."""

    image_max = "image-max"
    image_minmax = "image-minmax"
    dataset_max = "dataset-max"
    standardize = "standardize"


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Show the models that can be used."""
    from nanostream.segmentation.models import list_models

    cards = list_models(on_damaged=lambda error: print_error(str(error)))
    if as_json:
        write_json(cards)
        return
    table = Table(
        Column("model", overflow="fold"),
        Column("architecture", no_wrap=True),
        "materials",
        "pixel size (nm)",
        "threshold",
        padding=0,
    )
    for card in cards:
        materials = ", ".join(card.materials)
        sizes = pixel_sizes(card) or "?"
        add_row(table, card.name, card.architecture, materials, sizes, f"{card.threshold:g}")
    Console().print(table)


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Show the card of a model: what it is for, what it was trained on, how good it is."""
    from nanostream.segmentation.models import find_model, read_card

    card, weights = find_model(name)
    if as_json:
        folder = weights.parent
        write_json(read_card(folder / "card.json") | {"folder": str(folder)})
        return
    for part in card_tables(card, weights.parent):
        Console().print(part)


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Keras weights of the paper's U-Net, or a folder with card.json."
        ),
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the model; a folder's card has one.")
    ] = None,
    normalization: Annotated[Scaling | None, typer.Option(metavar="METHOD", help=_SCALING)] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="0..1",
            help="Probability above which a pixel is particle; for weights.",
            callback=check_probability,
        ),
    ] = None,
    maximum: Annotated[
        float | None,
        typer.Option(
            metavar="COUNT",
            help="For dataset-max: a fixed value; else the session's running maximum.",
        ),
    ] = None,
    pixel_size_nm: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="NM NM",
            help="Smallest and largest of the micrographs it was trained on; others are resampled.",
        ),
    ] = None,
) -> None:
    """Take a model into use: weights, such as those published with the paper, or a folder."""
    from nanostream.segmentation.models import import_folder, import_model, user_models

    if file.is_dir():
        if not (file / "card.json").is_file():
            msg = f"{file} has no card.json; give the folder of a model, or a file of weights"
            raise ConfigError(msg)
        if (normalization, threshold, maximum, pixel_size_nm) != (None,) * 4:
            msg = f"{file} has a card that says how it is used; only --name goes with a folder"
            raise ConfigError(msg)
        card = import_folder(file, name=name)
    elif not file.exists():
        msg = f"{file}: no such file"
        raise ConfigError(msg)
    elif name is None or normalization is None or threshold is None:
        options = {"--name": name, "--normalization": normalization, "--threshold": threshold}
        missing = " and ".join(option for option, given in options.items() if given is None)
        msg = f"{file}: weights without a card need {missing}, too"
        raise ConfigError(msg)
    else:
        card = import_model(
            file,
            name=name,
            normalization=normalization.value,
            threshold=threshold,
            normalization_maximum=maximum,
            pixel_size_nm=pixel_size_nm,
        )
    sys.stdout.write(
        f"{card.name} is in {user_models() / card.name}; use it with --model {card.name}\n"
    )


@app.command()
def remove(name: Name) -> None:
    """Delete a model that was imported or trained, with its whole folder."""
    from nanostream.segmentation.models import remove_model

    sys.stdout.write(f"{name} is removed; its folder was {remove_model(name)}\n")

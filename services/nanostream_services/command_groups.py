"""Commands that come in groups: models, quarantine, keys, config."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from nanostream.config import Config, as_toml, check_config, load_config
from nanostream.errors import ConfigError
from nanostream.records import SectionId

__all__ = [
    "ConfigFile",
    "Json",
    "add_row",
    "config_app",
    "keys_app",
    "models_app",
    "quarantine_app",
]

models_app = typer.Typer(no_args_is_help=True, help="Networks and their cards.")
quarantine_app = typer.Typer(no_args_is_help=True, help="Sections that were given up.")
keys_app = typer.Typer(no_args_is_help=True, help="Keys, for more than one machine.")

config_app = typer.Typer(no_args_is_help=True, help="Configuration files.")

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file; configs/microscope.toml shows all keys.")
]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


class Scaling(StrEnum):
    """How a model wants its micrographs scaled after the median filter."""

    image_max = "image-max"
    image_minmax = "image-minmax"
    dataset_max = "dataset-max"
    standardize = "standardize"


@models_app.command("list")
def models_list(as_json: Json = False) -> None:
    """Models that can be used."""
    from nanostream.segmentation.models import list_models

    cards = list_models()
    if as_json:
        sys.stdout.write(msgspec.json.encode(cards).decode() + "\n")
        return
    columns = ("normalization", "threshold", "pixel size (nm)", "materials")
    table = Table(Column("model", overflow="fold"), *columns)
    for card in cards:
        low_high = card.pixel_size_nm
        add_row(
            table,
            card.name,
            card.normalization,
            f"{card.threshold:g}",
            f"{low_high[0]:g} to {low_high[1]:g}" if low_high else "?",
            ", ".join(card.materials),
        )
    Console().print(table)


@models_app.command("show")
def models_show(name: str) -> None:
    """Show the whole card of a model."""
    from nanostream.segmentation.models import find_model

    card, weights = find_model(name)
    tree = msgspec.to_builtins(card) | {"folder": str(weights.parent)}
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(tree), indent=2).decode() + "\n")


@models_app.command("import")
def models_import(
    file: Annotated[Path, typer.Argument(help="Keras weights of the paper's U-Net.")],
    name: Annotated[str, typer.Option(help="To be known by.")],
    normalization: Annotated[Scaling, typer.Option(help="As the network was trained.")],
    threshold: Annotated[float, typer.Option(help="Above which a pixel is particle.")],
    maximum: Annotated[
        float | None,
        typer.Option(help="For dataset-max: a fixed value; else the session's running maximum."),
    ] = None,
) -> None:
    """Take weights, such as those published with the paper, into use."""
    from nanostream.segmentation.models import import_model, user_models

    card = import_model(
        file,
        name=name,
        normalization=normalization.value,
        threshold=threshold,
        normalization_maximum=maximum,
    )
    sys.stdout.write(
        f"{card.name} is in {user_models() / card.name}; use it with --model {card.name}\n"
    )


@quarantine_app.command("list")
def quarantine_list(
    session: Annotated[Path, typer.Argument(help="Session folder.")], as_json: Json = False
) -> None:
    """Show what was given up and why."""
    from nanostream.results.session import Session

    table = Session(session).quarantine
    if as_json:
        sys.stdout.write(table.to_json(orient="records") + "\n")
        return
    shown = Table("section", "attempts", "since", "reason")
    for row in table.to_dict("records"):
        add_row(shown, row["section"], str(row["attempts"]), _date(row["time_s"]), row["reason"])
    Console().print(shown)


@quarantine_app.command("show")
def quarantine_show(
    session: Annotated[Path, typer.Argument(help="Session folder.")],
    section: Annotated[str, typer.Argument(help="As in: quarantine list.")],
) -> None:
    """Show one section: the reason, and every event that names it."""
    from nanostream.results.session import Session

    opened = Session(session)
    rows = opened.quarantine.query("section == @section")
    if rows.empty:
        msg = f"{section} is not in quarantine; nanostream quarantine list shows what is"
        raise ConfigError(msg)
    sys.stdout.write(f"{section}: {rows.iloc[0].reason} ({rows.iloc[0].attempts} attempts)\n")
    events = opened.events
    for event in events[events["text"].str.contains(section, regex=False)].to_dict("records"):
        sys.stdout.write(f"{_date(event['time_s'])}  {event['source']}: {event['text']}\n")


@quarantine_app.command("retry")
def quarantine_retry(
    session: Annotated[Path, typer.Argument(help="Session folder.")],
    sections: Annotated[list[str] | None, typer.Argument(help="All, if none is named.")] = None,
) -> None:
    """Try sections again: at once if the session is running, else when it runs again."""
    from nanostream.results.session import Session
    from nanostream.results.store import ask_retry

    chosen = sections or list(Session(session).quarantine["section"])
    ask_retry(session, chosen)
    sys.stdout.write(f"{len(chosen)} sections will be tried again\n")
    for path, count in _gone(session, chosen).items():
        sys.stdout.write(
            f"{path} is not in the watched folder now: {count} of them will come back here unless "
            "it is there again under that name. A renamed file is found under its new name by "
            "itself, all its sections with it.\n"
        )


def _gone(session: Path, sections: Sequence[str]) -> Mapping[str, int]:
    """Files that are not in the watched folder any more, as far as this machine can tell."""
    written = session / "config.json"
    watched = load_config(written).watch.directory if written.is_file() else ""
    if not watched or not Path(watched).is_dir():  # the agent's machine is another one
        return {}
    paths = Counter(SectionId.parse(section).path for section in sections)
    return {path: count for path, count in paths.items() if not (Path(watched) / path).exists()}


@keys_app.command("create")
def keys_create(folder: Annotated[Path, typer.Argument(help="Made if absent.")]) -> None:
    """Make the key pair of this machine."""
    from nanostream.transport.keys import create_keys
    from nanostream.transport.sockets import new_key_pair

    create_keys(folder, new_key_pair())
    sys.stdout.write(
        f"{folder / 'own.secret'} stays here; take {folder / 'own.public'} to the other machines\n"
        f"and say there: nanostream keys allow KEYS THIS_FILE --name NAME_OF_THIS_MACHINE\n"
    )


@keys_app.command("allow")
def keys_allow(
    folder: Annotated[Path, typer.Argument(help="Keys of this machine.")],
    public: Annotated[Path, typer.Argument(help="own.public of the other machine.")],
    name: Annotated[str, typer.Option(help="To know it by, as in [network] frames_server.")],
) -> None:
    """Trust another machine; delete its file to refuse it again."""
    from nanostream.transport.keys import trust

    sys.stdout.write(f"{trust(folder, name, public)}\n")


@keys_app.command("list")
def keys_list(folder: Annotated[Path, typer.Argument(help="Keys of this machine.")]) -> None:
    """Show whom this machine trusts."""
    from nanostream.transport.keys import load_keys

    table = Table("machine", "public key")
    for key, name in load_keys(folder).trusted().items():
        add_row(table, name, key.decode())
    Console().print(table)


@config_app.command("check")
def config_check(file: Annotated[Path, typer.Argument(help="TOML file.")]) -> None:
    """Name everything that is wrong in a configuration, with its line."""
    config, said = check_config(file)
    for line in said:
        sys.stdout.write(f"{line}\n")
    if config is None:
        raise typer.Exit(2)
    sys.stdout.write(f"{file} can be used; nanostream config show has it with all defaults\n")


@config_app.command("show")
def config_show(config: ConfigFile = None, as_json: Json = False) -> None:
    """Show every key as it is in effect, and what is not the default."""
    settings = load_config(config) if config else Config()
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(settings)).decode() + "\n")
    else:
        sys.stdout.write(as_toml(settings))


def add_row(table: Table, *cells: str) -> None:
    """A row of plain text: what came from files must not be taken for markup."""
    table.add_row(*map(Text, cells))


def _date(time_s: float) -> str:
    return datetime.fromtimestamp(time_s).isoformat(" ", "seconds")

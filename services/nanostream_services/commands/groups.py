"""Commands that come in groups: models, quarantine, keys, config."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from nanostream.config import Config, as_toml, check_config, load_config
from nanostream.errors import ConfigError
from nanostream.records import SectionId
from nanostream_services.processes.lifecycle import printable

__all__ = [
    "ConfigFile",
    "Json",
    "Threshold",
    "add_row",
    "config_app",
    "keys_app",
    "models_app",
    "quarantine_app",
    "said_once",
    "say_warnings",
]

_HOW_SCORED = """Accuracy and Dice are by pixel, precision and recall by particle: particles that
touch and are found as one are missed, and simulated sets have many that nobody
could see."""

#: Warnings that are printed.
_MOST_WARNINGS = 5

models_app = typer.Typer(no_args_is_help=True, help="Networks and their cards.")
quarantine_app = typer.Typer(no_args_is_help=True, help="Sections that were given up.")
keys_app = typer.Typer(no_args_is_help=True, help="Keys, for more than one machine.")

config_app = typer.Typer(no_args_is_help=True, help="Configuration files.")

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file; configs/microscope.toml shows all keys.")
]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


def _is_probability(value: float | None) -> float | None:
    if value is not None and not 0.0 < value < 1.0:
        msg = f"{value:g} is not a probability above 0 and below 1."
        raise typer.BadParameter(msg)
    return value


Threshold = Annotated[
    float | None, typer.Option(help="Instead of the model card's.", callback=_is_probability)
]


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

    cards = list_models(on_damaged=lambda error: sys.stderr.write(f"nanostream: {error}\n"))
    if as_json:
        sys.stdout.write(msgspec.json.encode(cards).decode() + "\n")
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
        add_row(
            table,
            card.name,
            card.architecture,
            ", ".join(card.materials),
            _range(card.pixel_size_nm) or "?",
            f"{card.threshold:g}",
        )
    Console().print(table)


@models_app.command("show")
def models_show(name: str, as_json: Json = False) -> None:
    """Show the card of a model: what it is for, what it was trained on, how good it is."""
    from nanostream.segmentation.models import find_model, read_card

    card, weights = find_model(name)
    tree = read_card(weights.parent / "card.json")
    if as_json:
        tree |= {"folder": str(weights.parent)}
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(tree), indent=2).decode() + "\n")
        return
    facts = Table("", Column("", overflow="fold"), title=f"Model {card.name}", show_header=False)
    add_row(facts, "architecture", f"{card.architecture}, features {_plain(card.features)}")
    if card.materials:
        add_row(facts, "materials", ", ".join(card.materials))
    pixel_sizes = _range(card.pixel_size_nm)
    known = f"{pixel_sizes} nm; others are resampled" if pixel_sizes else "not known"
    add_row(facts, "pixel sizes", known)
    scaling: str = card.normalization
    if card.normalization == "dataset-max":
        maximum = card.normalization_maximum
        scaling += f", of {maximum:g}" if maximum else ", of the session so far"
    add_row(facts, "normalization", scaling)
    add_row(facts, "threshold", f"{card.threshold:g}")
    if card.peak:
        add_row(facts, "peak", f"{card.peak:g}, which every particle has somewhere")
    add_row(
        facts,
        "calibration",
        f"scale {card.calibration[0]:.4g}, shift {card.calibration[1]:.4g} of the logits"
        if card.calibration
        else "none",
    )
    add_row(
        facts,
        "warns",
        f"below domain score {card.domain.least_score:g} (of {card.domain.images} training "
        f"images), above {100 * card.domain.most_unsure:.0f} % unsure"
        if card.domain
        else "above 50 % unsure; what is unlike its training data it does not know",
    )
    for key in ("date", "licence", "command"):
        if value := getattr(card, key):
            add_row(facts, key, value)
    add_row(facts, "weights", f"{card.weights}, SHA-256 {card.weights_sha256}")
    add_row(facts, "folder", str(weights.parent))
    console = Console()
    console.print(facts)
    for table in _score_tables(card.scores):
        console.print(table)
    if card.scores:
        console.print(_HOW_SCORED)
    training = Table(title="Training (--json has all)", show_header=False)
    for key, value in card.training.items():
        plain = _sets(value) if key == "simulated_sets" else _plain(value)
        add_row(training, key.replace("_", " "), plain)
    if card.training:
        console.print(training)


@models_app.command("import")
def models_import(
    file: Annotated[
        Path, typer.Argument(help="Keras weights of the paper's U-Net, or a folder with card.json.")
    ],
    name: Annotated[
        str | None, typer.Option(help="To be known by; a folder's card has one.")
    ] = None,
    normalization: Annotated[
        Scaling | None, typer.Option(help="As the network was trained; for weights.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Above which a pixel is particle; for weights.", callback=_is_probability
        ),
    ] = None,
    maximum: Annotated[
        float | None,
        typer.Option(help="For dataset-max: a fixed value; else the session's running maximum."),
    ] = None,
    pixel_size_nm: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Smallest and largest of the micrographs it was trained on; others are resampled."
        ),
    ] = None,
) -> None:
    """Take a model into use: weights, such as those published with the paper, or a folder."""
    from nanostream.segmentation.models import import_folder, import_model, user_models

    if file.is_dir():
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


@models_app.command("remove")
def models_remove(name: str) -> None:
    """Delete a model that was imported or trained, with its whole folder."""
    from nanostream.segmentation.models import remove_model

    sys.stdout.write(f"{name} is removed; its folder was {remove_model(name)}\n")


def _range(low_high: tuple[float, float] | None) -> str:
    return f"{low_high[0]:g} to {low_high[1]:g}" if low_high else ""


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
    attempts = rows.iloc[0].attempts
    tried = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    sys.stdout.write(f"{section}: {rows.iloc[0].reason} ({tried})\n")
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
    number = "1 section" if len(chosen) == 1 else f"{len(chosen)} sections"
    here = (session / "config.json").is_file()  # not of nanostream segment, or of a sink alone
    how = "" if here else " when the session runs, or nanostream segment is called with them"
    sys.stdout.write(f"{number} will be tried again{how}\n")
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
    sys.stdout.write(
        f"{file} can be used; nanostream config show --config {file} has it with all defaults, "
        f"nanostream doctor --config {file} sees to model, folders and ports\n"
    )


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


def say_warnings(warnings: Sequence[str], *, where_all: str) -> None:
    """The first few on stderr, and where all of them are."""
    different = said_once(warnings)
    for warning in different[:_MOST_WARNINGS]:
        sys.stderr.write(f"nanostream: warning: {printable(warning)}\n")
    if (more := len(different) - _MOST_WARNINGS) > 0:
        sys.stderr.write(f"nanostream: {more} more; {where_all}\n")


def said_once(reasons: Sequence[str]) -> list[str]:
    """What sections of one file have in common, once.

    Examples
    --------
    >>> said_once(["a.mrc#0: no", "b.mrc: cut off", "c.mrc: cut off", "a.mrc#1: no", "disk full"])
    ['a.mrc#0 and 1 more: no', 'b.mrc: cut off', 'c.mrc: cut off', 'disk full']
    """
    alike: dict[tuple[str, str], list[str]] = {}
    for reason in reasons:
        name, _, why = reason.partition(": ")
        file, section, _ = name.rpartition("#")
        alike.setdefault((file, why) if section else (reason, ""), []).append(reason)
    return [
        first if not others else first.replace(": ", f" and {len(others)} more: ", 1)
        for first, *others in alike.values()
    ]

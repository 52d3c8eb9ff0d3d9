"""``nanostream config``: configuration files checked, shown in full, and examples to begin with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from nanostream.config import Config, as_toml, check_config, load_config
from nanostream.config.examples import find_example, list_examples
from nanostream.errors import ConfigError, advice_on
from nanostream_services.commands.options import ConfigFile, Json
from nanostream_services.commands.printing import WRONG_USE, add_row, write_json

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Configuration files.")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML file.")], as_json: Json = False
) -> None:
    """Name everything that is wrong in a configuration, with its line."""
    config, remarks = check_config(file)
    if as_json:
        write_json({"file": str(file), "usable": config is not None, "remarks": remarks})
    else:
        for remark in remarks:
            sys.stdout.write(f"{remark}\n")
    if config is None:
        raise typer.Exit(WRONG_USE)
    if not as_json:
        sys.stdout.write(
            f"{file} can be used; nanostream config show --config {file} prints it with all "
            f"defaults, nanostream doctor --config {file} checks model, folders and ports\n"
        )


@app.command()
def show(config: ConfigFile = None, as_json: Json = False) -> None:
    """Show every key as it is in effect, and what is not the default."""
    settings = load_config(config) if config else Config()
    if as_json:
        write_json(settings)
    else:
        sys.stdout.write(as_toml(settings))


def _example_names(incomplete: str) -> list[str]:
    return [one.name for one in list_examples() if one.name.startswith(incomplete)]


@app.command()
def example(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="All are listed without.", autocompletion=_example_names
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it there; it must not exist.")
    ] = None,
) -> None:
    """Print a file to begin with: a configuration, a script for SerialEM, a systemd unit."""
    if name is None:
        table = Table("name", "what it is")
        for one in list_examples():
            add_row(table, one.name, one.summary)
        Console().print(table)
        return
    text = find_example(name).file.read_text("utf-8")
    if out is None:
        sys.stdout.write(text)
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        msg = f"--out {out} is there already, and stays; choose another name"
        raise ConfigError(msg) from error
    except OSError as error:
        msg = f"--out {out}: {advice_on(error)}"
        raise ConfigError(msg) from error

"""``nanostream config``: configuration files checked, shown in full, and examples to begin with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nanostream.config import Config, as_toml, check_config, load_config
from nanostream_services.commands.options import ConfigFile, Json
from nanostream_services.commands.printing import WRONG_USE, write_json

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

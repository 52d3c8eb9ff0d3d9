"""``nanostream keys``: the key pair of this machine, and the machines that it trusts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from nanostream_services.commands.options import Json
from nanostream_services.commands.printing import add_row, write_json

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Keys, for more than one machine.")

Folder = Annotated[
    Path, typer.Argument(metavar="KEYS", help="Folder with the keys of this machine.")
]


@app.command()
def create(
    folder: Annotated[Path, typer.Argument(metavar="KEYS", help="Folder; made if absent.")],
) -> None:
    """Make the key pair of this machine."""
    from nanostream.transport.keys import create_keys
    from nanostream.transport.sockets import new_key_pair

    create_keys(folder, new_key_pair())
    sys.stdout.write(
        f"{folder / 'own.secret'} stays here; copy {folder / 'own.public'} to the other machines\n"
        "and call there: nanostream keys allow KEYS THIS_FILE --name NAME_OF_THIS_MACHINE\n"
    )


@app.command()
def allow(
    folder: Folder,
    public: Annotated[
        Path, typer.Argument(metavar="FILE", help="own.public of the other machine.")
    ],
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of that machine, as frames_server has it.")
    ],
) -> None:
    """Trust another machine; delete its file to refuse it again."""
    from nanostream.transport.keys import trust

    sys.stdout.write(f"{trust(folder, name, public)}\n")


@app.command("list")
def list_(folder: Folder, as_json: Json = False) -> None:
    """Show which machines this one trusts."""
    from nanostream.transport.keys import load_keys

    trusted = {name: key.decode() for key, name in load_keys(folder).trusted().items()}
    if as_json:
        write_json([{"machine": name, "public_key": key} for name, key in trusted.items()])
        return
    table = Table("machine", "public key")
    for name, key in trusted.items():
        add_row(table, name, key)
    Console().print(table)

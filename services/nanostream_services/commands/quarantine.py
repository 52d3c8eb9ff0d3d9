"""``nanostream quarantine``: sections that were given up, why, and how they are tried again."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from nanostream.config import load_config
from nanostream.errors import ConfigError
from nanostream.records import SectionId
from nanostream_services.commands.options import Json, SessionFolder
from nanostream_services.commands.printing import add_row, local_time, print_line, write_json
from nanostream_services.quantities import counted

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Sections that were given up.")


@app.command("list")
def list_(session: SessionFolder, as_json: Json = False) -> None:
    """Show what was given up and why."""
    from nanostream.results.session import Session

    rows = Session(session).quarantine.to_dict("records")
    if as_json:
        write_json(rows)
        return
    if not rows:
        print_line(f"nothing is in quarantine in {session}")
        return
    shown = Table("section", "attempts", "since", "reason")
    for row in rows:
        since = local_time(row["time_s"])
        add_row(shown, row["section"], str(row["attempts"]), since, row["reason"])
    Console().print(shown)


@app.command()
def show(
    session: SessionFolder,
    section: Annotated[str, typer.Argument(metavar="SECTION", help="As in: quarantine list.")],
) -> None:
    """Show one section: the reason, and every event that names it."""
    from nanostream.results.session import Session

    opened = Session(session)
    rows = opened.quarantine.query("section == @section")
    if rows.empty:
        msg = f"{section} is not in quarantine; nanostream quarantine list shows what is"
        raise ConfigError(msg)
    tried = counted(rows.iloc[0].attempts, "attempt")
    sys.stdout.write(f"{section}: {rows.iloc[0].reason} ({tried})\n")
    events = opened.events
    for event in events[events["text"].str.contains(section, regex=False)].to_dict("records"):
        sys.stdout.write(f"{local_time(event['time_s'])}  {event['source']}: {event['text']}\n")


@app.command()
def retry(
    session: SessionFolder,
    sections: Annotated[
        list[str] | None, typer.Argument(metavar="SECTIONS", help="All, if none is named.")
    ] = None,
) -> None:
    """Try sections again: at once if the session is running, else when it runs again."""
    from nanostream.results.session import Session
    from nanostream.results.store import ask_retry

    chosen = sections or list(Session(session).quarantine["section"])
    if not chosen:
        print_line(f"nothing is in quarantine in {session}")
        return
    ask_retry(session, chosen)
    here = (session / "config.json").is_file()  # not of nanostream segment, or of a sink alone
    when = "" if here else " when the session runs, or nanostream segment is called with them"
    sys.stdout.write(f"{counted(len(chosen), 'section')} will be tried again{when}\n")
    for path, count in _gone(session, chosen).items():
        sys.stdout.write(
            f"{path} is not in the watched folder now; {counted(count, 'section')} of it will be "
            "quarantined again unless it is there again under that name. A renamed file is found "
            "under its new name by itself, with all its sections.\n"
        )


def _gone(session: Path, sections: Sequence[str]) -> Mapping[str, int]:
    """Files that are not in the watched folder any more, as far as this machine can tell."""
    written = session / "config.json"
    watched = load_config(written).watch.directory if written.is_file() else ""
    if not watched or not Path(watched).is_dir():  # the agent's machine is another one
        return {}
    paths = Counter(SectionId.parse(section).path for section in sections)
    return {path: count for path, count in paths.items() if not (Path(watched) / path).exists()}

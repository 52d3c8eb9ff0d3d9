"""``nanostream verify``: a session compared with the files that were acquired."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from nanostream.config import Config, load_config
from nanostream.errors import ConfigError
from nanostream_services.commands.options import ConfigFile, Json, SessionFolder
from nanostream_services.commands.printing import (
    FAILED,
    add_row,
    few,
    print_line,
    write_json,
)
from nanostream_services.quantities import counted

if TYPE_CHECKING:
    from nanostream.results.session import Session
    from nanostream.results.verification import AcquiredFiles, Verification

__all__ = ["verify"]


def verify(
    session: SessionFolder,
    watch: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The watched folder.")
    ] = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Check that every section is stored or quarantined, once, with a whole mask.

    Without --watch the folder that the session was told to watch is taken. If none is known and
    something was acquired live, nothing is known of what is missing, and the exit code is 1.
    """
    from nanostream.results.session import Session
    from nanostream.results.verification import verify as compare

    used = config or session / "config.json"
    settings = load_config(used) if config or used.is_file() else Config()
    watch = watch or _reachable(settings.watch.directory)
    opened = Session(session)
    live = _was_live(opened)
    acquired = _acquired(watch, opened, settings, live=live) if watch else None
    found = compare(opened, acquired.files if acquired else None)
    if acquired:
        found = msgspec.structs.replace(
            found,
            unreadable=acquired.unreadable,
            not_ready=acquired.not_ready,
            not_watched=acquired.not_watched,
        )
    complete = found.complete and (acquired is not None or not live)
    if as_json:
        write_json(msgspec.to_builtins(found) | {"complete": complete})
    else:
        Console().print(_table(found, title=str(session)))
        for remark in _remarks(found, watch, known=settings.watch.directory, live=live):
            print_line(remark)
    if not complete:
        raise typer.Exit(FAILED)


def _reachable(directory: str) -> Path | None:
    return Path(directory) if directory and Path(directory).is_dir() else None


def _acquired(watch: Path, session: Session, settings: Config, *, live: bool) -> AcquiredFiles:
    """The sections in the watched folder, as files and ledger are now.

    Of a session that ``nanostream segment`` made its own files count, whatever their format.
    """
    from nanostream.acquisition.folder import WatchedFolder, shown
    from nanostream.acquisition.ledger import last_read, passed_over
    from nanostream.results.verification import acquired_files

    if not watch.is_dir():
        msg = f"{watch} is not a folder; give the one that was watched"
        raise ConfigError(msg)
    folder = WatchedFolder(watch.resolve(), settings.watch, report=lambda _: None)
    files = set(folder.files())
    if not live:
        files |= {path for path in session.sections["path"] if (folder.root / path).is_file()}
    ledger = Path(settings.watch.ledger or session.folder / "ledger.db")
    acquired = acquired_files(
        folder.root, sorted(files), passed_over(ledger), last_read(ledger), at_rest=not live
    )
    reasons = sorted(folder.unwatched.items())
    unwatched = (f"{shown(path)}: {why}" for path, why in reasons if path not in files)
    return acquired._replace(not_watched=tuple(unwatched))


def _was_live(session: Session) -> bool:
    """Whether an agent has been at work: ``nanostream segment`` never waits and tries once."""
    waits = session.sections.get("wait_s")
    tried_again = bool((session.quarantine["attempts"] > 1).any())
    waited = waits is not None and bool(waits.notna().any())
    return (session.folder / "ledger.db").exists() or tried_again or waited


def _table(found: Verification, *, title: str) -> Table:
    table = Table("", "sections", "which", title=title)
    add_row(table, "acquired", "-" if found.acquired is None else str(found.acquired), "")
    add_row(table, "stored", str(found.stored), "")
    kinds = ("quarantined", "missing", "cut_off", "absent", "doubled", "damaged", "unreadable")
    for name in (*kinds, "not_ready", "not_watched"):
        names: tuple[str, ...] = getattr(found, name)
        add_row(table, name.replace("_", " "), str(len(names)), few(names))
    return table


def _remarks(found: Verification, watch: Path | None, *, known: str, live: bool) -> list[str]:
    """The verdict in words, and what limits it."""
    remarks = []
    if found.passed_over:
        was = counted(found.passed_over, "section was", "sections were")
        remarks.append(f"{was} there before the session and left alone")
    if watch is None:
        why = f"{known} cannot be reached" if known else "no watched folder is known"
        unknown = ", so what is missing is not known" if live else ""
        remarks.append(f"{why}{unknown}: give --watch or --config")
    elif found.another_folder:
        remarks.append(f"nothing of this session is in {watch}; is it the right folder?")
    elif found.absent:
        remarks.append(f"absent: in the session, but deleted, renamed or replaced in {watch}")
    if found.not_watched:
        kept = counted(len(found.not_watched), "file or folder is", "files and folders are")
        remarks.append(f"{kept} not watched and not counted")
    if not found.complete:
        kinds = ("missing", "cut_off", "doubled", "damaged")
        counts = {name.replace("_", " "): len(getattr(found, name)) for name in kinds}
        wrong = [f"{count} {name}" for name, count in counts.items() if count]
        remarks.append(f"not complete: {', '.join(wrong) or 'another folder'}")
        if found.damaged:
            remarks.append("damaged: nanostream repair makes the masks again, from the micrographs")
        if found.missing:
            remarks.append("missing: start the session again, and it takes them up")
    elif unread := [k for k in ("unreadable", "not_ready") if getattr(found, k)]:
        see = " and ".join(unread).replace("_", " ")
        remarks.append(f"complete, as far as it could be read: see {see}")
    elif watch is not None:
        limit = ", except for what is not watched" if found.not_watched else ""
        remarks.append(
            f"complete: every section wanted is stored or quarantined, once and whole{limit}"
        )
    return remarks

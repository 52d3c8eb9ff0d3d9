"""``nanostream run``: a session on this machine, from its start to its summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from nanostream.config import Config, check_together, load_config, override
from nanostream.errors import ConfigError
from nanostream.records import Snapshot
from nanostream_services.commands.options import (
    ConfigFile,
    ModelName,
    Out,
    Plain,
    Streams,
    Threshold,
)
from nanostream_services.commands.printing import INTERRUPTED, print_line
from nanostream_services.commands.starting import check_worker, log_beside, session_config
from nanostream_services.commands.summaries import exit_with, print_summary
from nanostream_services.processes.lifecycle import stopping
from nanostream_services.quantities import counted

__all__ = ["idle_for", "run"]


def run(
    watch_dir: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder SerialEM saves into.")
    ],
    out: Out,
    config: ConfigFile = None,
    model: ModelName = None,
    threshold: Threshold = None,
    stream: Streams = None,
    stop_when_idle: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Stop when nothing new came for so long, after the first file.",
            min=0,
        ),
    ] = None,
    drain: Annotated[
        bool,
        typer.Option("--drain", help="On Ctrl-C finish what was acquired; a second one leaves it."),
    ] = False,
    plain: Plain = False,
) -> None:
    """Segment what SerialEM writes, until Ctrl-C."""
    from nanostream_services.supervisor import run_session

    settings = session_config(config, model=model, threshold=threshold, stream=stream, out=out)
    settings = override(
        settings,
        delivery={"at_stop": "drain" if drain else None},
        watch={"directory": str(watch_dir.resolve())},
    )
    _check_folders(watch_dir, out)
    check_together(settings)
    check_worker(settings.worker)
    log_beside(out)
    done = None if stop_when_idle is None else idle_for(stop_when_idle)
    with stopping() as stop:
        run_session(settings, stop, plain=plain, done=done)
        interrupted = stop.is_set()
    print_summary(out)
    print_line(f"Masks and tables: {out}\nNext: nanostream export {out} --format csv --out tables")
    if interrupted:
        _print_what_is_left(settings)
        raise typer.Exit(INTERRUPTED)
    exit_with(out)


def _check_folders(watch_dir: Path, out: Path) -> None:
    """Refuse a session inside the watched folder, and a second folder for one session."""
    if not watch_dir.is_dir():
        msg = f"{watch_dir} is not a folder; give the one SerialEM saves into"
        raise ConfigError(msg)
    if out.resolve().is_relative_to(watch_dir.resolve()):
        msg = f"--out {out} is inside {watch_dir}, and nothing is written there; choose another"
        raise ConfigError(msg)
    # Files of the same name in two folders would pass for newer versions of each other.
    written = out / "config.json"
    before = load_config(written).watch.directory if written.is_file() else ""
    if before and Path(before).is_dir() and not Path(before).samefile(watch_dir):
        msg = f"--out {out} is the session of {before}; give {watch_dir} one of its own"
        raise ConfigError(msg)


def _print_what_is_left(settings: Config) -> None:
    from nanostream.acquisition.ledger import Ledger

    memory = settings.watch.ledger or Path(settings.sink.session) / "ledger.db"
    with Ledger(Path(memory)) as ledger:
        left = ledger.count("found")
    if left:
        print_line(f"{counted(left, 'section is', 'sections are')} left; the same command resumes")


def idle_for(seconds: float) -> Callable[[Snapshot, Mapping[str, int]], bool]:
    """Whether everything seen has ended and nothing new came for so long, as a function.

    Not before the first file, and not while a file is half written or has just changed.
    """
    last = (-1, -1)
    since_s = 0.0

    def done(snapshot: Snapshot, _: Mapping[str, int]) -> bool:
        nonlocal last, since_s
        now = (snapshot.seen, snapshot.stored + snapshot.failed)
        if now != last:
            last, since_s = now, snapshot.time_s
        ended = now[0] == now[1] and not snapshot.waiting and not snapshot.in_work
        over = ended and not snapshot.unsettled
        return "agent" in snapshot.ready and over and snapshot.time_s - since_s >= seconds

    return done

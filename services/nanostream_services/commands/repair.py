"""``nanostream repair``: damaged and removed masks of a session made again."""

from __future__ import annotations

import typer

from nanostream_services.commands.options import Micrographs, SessionFolder
from nanostream_services.commands.printing import FAILED, INTERRUPTED, print_error, print_line
from nanostream_services.commands.progress import shown_progress
from nanostream_services.processes.lifecycle import stopping
from nanostream_services.quantities import counted

__all__ = ["repair"]


def repair(
    session: SessionFolder,
    watch: Micrographs = None,
) -> None:
    """Make masks that are damaged or were removed again, from the micrographs.

    Labels are compared with their stored checksum, and a mask with others is not written. Exit code
    1 if one could not be made; the reason is printed. What verify calls missing is not made: start
    the session again, or segment it.
    """
    from nanostream.results.micrographs import micrographs_folder
    from nanostream.results.session import Session
    from nanostream_services.repair import repair as make_again

    opened = Session(session)
    micrographs = micrographs_folder(session, watch)
    with stopping() as stop, shown_progress() as progress:
        done = make_again(opened, micrographs, stop, progress=progress)
        interrupted = stop.is_set()
    for name, reason in done.failed.items():
        print_error(f"{name}: not repaired: {reason}")
    print_line(f"{counted(len(done.made), 'mask was', 'masks were')} made again in {session}")
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if done.failed:
        raise typer.Exit(FAILED)

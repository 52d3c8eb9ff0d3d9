"""``nanostream simulate-training``: micrographs with their truth."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from nanostream.errors import ConfigError
from nanostream_services.commands.options import split_names
from nanostream_services.commands.printing import INTERRUPTED, print_error
from nanostream_services.commands.progress import shown_progress
from nanostream_services.processes.lifecycle import stopping
from nanostream_services.quantities import counted

__all__ = ["simulate_training"]


def simulate_training(
    dest: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of the set; made if absent.")
    ],
    scenes: Annotated[
        int, typer.Option(metavar="NUMBER", help="Scenes, of 4 micrographs each.", min=1)
    ],
    seed: Annotated[
        int,
        typer.Option(metavar="NUMBER", help="Seed of the set: another one, other scenes.", min=0),
    ],
    materials: Annotated[
        str, typer.Option(metavar="NAMES", help="Such as Au,CdSe; all there are if not given.")
    ] = "",
    size_px: Annotated[
        int, typer.Option(metavar="PX", help="Height and width.", min=256, max=4096)
    ] = 512,
    jobs: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="Processes; as many as cores if not given.", min=1),
    ] = None,
) -> None:
    """Simulate micrographs with their truth, to train on; resumes where it was stopped."""
    from nanostream.training.sets import SetPlan, simulate_set

    if dest.exists() and not dest.is_dir():
        msg = f"{dest} is a file; give a folder"
        raise ConfigError(msg)
    plan = SetPlan(seed=seed, size_px=size_px, materials=split_names(materials))
    with stopping() as stop, shown_progress() as progress:
        found = simulate_set(
            dest,
            plan,
            scenes=scenes,
            jobs=(os.cpu_count() or 1) if jobs is None else jobs,
            stop=stop,
            on_scene=lambda done: progress(done, scenes, "simulating"),
        )
    if len(found) < scenes:
        print_error(f"{len(found)} of {scenes} scenes are in {dest}; the same command resumes")
        raise typer.Exit(INTERRUPTED)
    sys.stdout.write(f"{counted(scenes, 'scene is', 'scenes are')} in {dest}\n")

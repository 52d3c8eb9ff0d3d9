"""``nanostream segment``: files that are there already, with the same results as live."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nanostream.config import Config
from nanostream.errors import ConfigError
from nanostream_services.commands.options import (
    ConfigFile,
    ModelName,
    Out,
    PixelSize,
    Streams,
    Threshold,
)
from nanostream_services.commands.printing import (
    FAILED,
    INTERRUPTED,
    print_error,
    print_left_out,
    print_line,
    print_warnings,
    shorten,
)
from nanostream_services.commands.progress import shown_progress
from nanostream_services.commands.starting import log_beside, session_config
from nanostream_services.commands.summaries import print_summary
from nanostream_services.processes.lifecycle import stopping
from nanostream_services.quantities import counted

__all__ = ["segment"]


def segment(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILES",
            help="Files, folders, wildcards: MRC, dm3, dm4, ser, emd, TIFF, PNG, NPY.",
        ),
    ],
    out: Out,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Name sections by their path below it, as when watched."
        ),
    ] = None,
    config: ConfigFile = None,
    model: ModelName = None,
    threshold: Threshold = None,
    stream: Streams = None,
    pixel_size: PixelSize = None,
    force_pixel_size: Annotated[
        bool, typer.Option("--force-pixel-size", help="Use --pixel-size whatever the files say.")
    ] = False,
    like: Annotated[
        Path | None,
        typer.Option(metavar="SESSION", help="Make the masks of this session again, and compare."),
    ] = None,
) -> None:
    """Segment files; the same results as live.

    A folder gives all micrographs in it and below. Sections are named by their path below it.
    """
    from nanostream.acquisition.selection import select_files
    from nanostream.results.session import Session
    from nanostream_services.offline import segment_files

    if force_pixel_size and pixel_size is None:
        msg = "--force-pixel-size: give the pixel size in nm with --pixel-size"
        raise ConfigError(msg)
    selected = select_files(files)
    before = Session(like) if like else None
    if like and not config and (like / "config.json").is_file():
        config = like / "config.json"
    settings = session_config(config, model=model, threshold=threshold, stream=stream, out=out)
    with stopping() as stop, shown_progress() as progress:
        watched = _watched_root(settings, selected.files) if like else None
        result = segment_files(
            selected.files,
            settings,
            stop,
            root=root or watched or selected.root,
            pixel_size_nm=pixel_size,
            force_pixel_size=force_pixel_size,
            like=before,
            progress=progress,
            on_session=lambda: log_beside(out, "segment"),
        )
        interrupted = stop.is_set()
    if interrupted:
        done = counted(result.stored + result.known, "section", "sections")
        print_error(f"interrupted after {done}; the same command segments the rest")
    if result.known:
        print_line(f"{counted(result.known, 'section was', 'sections were')} in the session before")
    print_left_out(selected)
    for reason in shorten(result.failed):
        print_error(reason)
    print_warnings(result.warned, where_all=f"all are in {out / 'logs' / 'segment.log'}")
    if result.sections:
        print_summary(out)
        print_line(_next(out))
    if like:
        print_line(f"{result.same} of {result.stored} masks equal those of {like} bit for bit")
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if result.failed or selected.left_out or (like and result.same < result.stored):
        raise typer.Exit(FAILED)


def _next(out: Path) -> str:
    """Where everything is, and what one does with it next."""
    from nanostream.results.session import Session

    export = f"nanostream export {_typed(out)}"
    lines = [
        f"Masks and tables: {out}",
        f"To see the masks: {export} --format png --out {_typed(out, 'masks')}",
        f"Tables as files:  {export} --format csv --out {_typed(out, 'tables')}",
    ]
    if Session(out).sections["pixel_size_nm"].isna().any():
        lines.append("Sizes in nm:      segment again with --pixel-size NM and another --out")
    return "\n".join(lines)


def _typed(folder: Path, what: str = "") -> str:
    """A folder, or one beside it, as it is typed."""
    name = f"{folder}-{what}" if what else str(folder)
    return f'"{name}"' if " " in name else name


def _watched_root(settings: Config, files: Sequence[Path]) -> Path | None:
    """The folder that was watched, if all files are in it."""
    watched = settings.watch.directory
    if not watched or not all(file.resolve().is_relative_to(watched) for file in files):
        return None
    return Path(watched)

"""``nanostream simulate``: a stand-in for SerialEM."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nanostream.acquisition.simulator import Fault, Kind
from nanostream.errors import ConfigError
from nanostream_services.commands.options import check_pixel_size
from nanostream_services.commands.printing import print_left_out

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["simulate"]

_KINDS = """stack: one that grows; single: a file each; tilt: series with their .openTS marker;
dosesym: the same, sorted by tilt at the end; montage: 2 x 2 pieces; gatan: stacks of 8 frames;
tiff: a file and an mdoc each; idoc: a TIFF series; overwrite: every third image overwrites a
section; reuse: the file is created anew after every third image."""

_FAULTS = """Fault to play, at once and then by chance; may be repeated. pause: in mid-section;
torn-header: written in two parts; reordered: as over a share, header and size before the pixels;
rename, delete: a finished file."""


def simulate(
    dest: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write into.")],
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGES", help="Files, folders, wildcards; simulated ones if none is given."
        ),
    ] = None,
    rate: Annotated[
        float, typer.Option(metavar="NUMBER", help="Sections per second.", min=0.001)
    ] = 1.0,
    sections: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Sections to write; images repeat.", min=1)
    ] = None,
    kind: Annotated[
        Kind, typer.Option(metavar="KIND", help=_KINDS.replace("\n", " "))
    ] = Kind.stack,
    fault: Annotated[
        list[Fault] | None, typer.Option(metavar="FAULT", help=_FAULTS.replace("\n", " "))
    ] = None,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Seed of the faults.", min=0)] = 0,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the files.")] = "session",
    pixel_size: Annotated[
        float | None,
        typer.Option(metavar="NM", help="For images without one.", callback=check_pixel_size),
    ] = None,
    as_demo: Annotated[bool, typer.Option("--demo", hidden=True)] = False,
) -> None:
    """Write micrographs in exactly SerialEM's order, as a stand-in for it."""
    from nanostream.acquisition.simulator import play
    from nanostream_services.demo import play_demo

    if as_demo:
        play_demo(dest)
        return
    if dest.exists() and not dest.is_dir():
        msg = f"{dest} is a file; give a folder"
        raise ConfigError(msg)
    if not name or Path(name).name != name:
        msg = f"--name {name}: give the name of a file, without folder and ending"
        raise ConfigError(msg)
    taken = (f"{name}.*", f"{name}_[0-9]*.*", f"{name}[0-9]*.tif")
    if any(path for pattern in taken for path in dest.glob(pattern)):
        msg = f"{dest} has files named {name} already, and they stay; choose another --name"
        raise ConfigError(msg)
    pixels, own_nm = _pixels(images, sections)
    for path in play(
        pixels,
        dest,
        kind=kind,
        interval_s=1 / rate,
        name=name,
        pixel_size_nm=own_nm if pixel_size is None else pixel_size,
        faults=fault or (),
        seed=seed,
    ):
        sys.stdout.write(f"{path}\n")


def _pixels(
    images: list[str] | None, sections: int | None
) -> tuple[Iterable[NDArray[Any]], float | None]:
    """Micrographs to write, and their pixel size in nm."""
    from nanostream.acquisition.frames import read_section
    from nanostream.acquisition.selection import select_files
    from nanostream.acquisition.simulator import DemoMicrograph, demo_movie, load_images
    from nanostream_services.demo import DEMO_SEED

    if images:
        selected = select_files(images)
        print_left_out(selected)
        files = selected.files
        return load_images(files, count=sections), read_section(files[0]).pixel_size_nm
    pixels = (frame for frame, _ in demo_movie(sections or 20, seed=DEMO_SEED))
    return pixels, DemoMicrograph.load().pixel_size_nm

"""``nanostream preview-separation``: how touching particles are told apart, rule by rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from nanostream.config import Config, override
from nanostream.errors import ConfigError
from nanostream_services.commands.options import ConfigFile, ModelName, PixelSize
from nanostream_services.commands.pictures import write_png
from nanostream_services.commands.printing import add_row, print_line
from nanostream_services.commands.starting import check_worker

if TYPE_CHECKING:
    from nanostream.config import Worker
    from nanostream.records import Frame, Segmentation

__all__ = ["preview_separation"]

_RISES = "0.05,0.1,0.2,0.4"


def preview_separation(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A micrograph, of any format that is read.")
    ],
    z: Annotated[int, typer.Option("--section", metavar="NUMBER", min=0, help="Of a stack.")] = 0,
    rises: Annotated[
        str, typer.Option(metavar="R,R,...", help="Values of [worker] separation_rise to try.")
    ] = _RISES,
    out: Annotated[Path, typer.Option(metavar="FILE.png", help="The picture.")] = Path(
        "separation.png"
    ),
    model: ModelName = None,
    config: ConfigFile = None,
    pixel_size: PixelSize = None,
) -> None:
    """Show how the rule that tells touching particles apart changes what is found.

    A table of counts and a sheet of pictures: regions as they are, by the model's own rule, and by
    each value. The higher [worker] separation_rise is, the less is taken apart.
    """
    from nanostream.acquisition.requests import frame_of
    from nanostream.config import load_config
    from nanostream.results.previews import contact_sheet, draw_overlay

    settings = override(load_config(config) if config else Config(), worker={"model": model})
    check_worker(settings.worker)
    frame = frame_of(file, z, pixel_size_nm=pixel_size)
    table = Table("separation_rise", "particles", "split", "median diameter")
    drawn = []
    for name, found in _tried(settings.worker, frame, _values(rises)):
        add_row(table, name, str(found.summary.count), str(_split(found)), _median(found))
        picture = draw_overlay(
            frame.pixels,
            found.labels,
            pixel_size_nm=frame.pixel_size_nm,
            first_row=frame.metadata.first_row,
            numbers=False,
        )
        drawn.append((f"{name}: {found.summary.count}", picture))
    Console().print(table)
    print_line(str(write_png(out, contact_sheet(drawn, columns=3, side_px=640))))


def _values(text: str) -> list[float]:
    """Numbers of a list; refused here, with the option's name."""
    try:
        rises = [float(word) for word in text.split(",")]
    except ValueError:
        rises = []
    if not rises or not all(0 < rise < 10 for rise in rises):
        msg = f"--rises {text}: give numbers between 0 and 10, such as {_RISES}"
        raise ConfigError(msg)
    return rises


def _tried(
    worker: Worker, frame: Frame, rises: Sequence[float]
) -> Iterator[tuple[str, Segmentation]]:
    """Name and result of each way: without separation, by the settings, and by each value."""
    from nanostream.analysis import Analyzer

    analyzer = Analyzer(worker)
    ways: dict[str, dict[str, bool | float]] = {
        "not separated": {"separate": False},
        "as it is": {"separate": True},
    }
    ways |= {f"{rise:g}": {"separate": True, "separation_rise": rise} for rise in rises}
    for name, changes in ways.items():
        analyzer.settings = replace(worker, **changes)
        yield name, analyzer(frame)


def _split(found: Segmentation) -> int:
    return int(found.particles["split"].sum())


def _median(found: Segmentation) -> str:
    """Of the particles that are whole, in the unit there is."""
    whole = found.particles[~found.particles["touches_edge"]]
    if whole.empty:
        return "no whole particle"
    unit = "px" if found.pixel_size_nm is None else "nm"
    return f"{whole[f'diameter_{unit}'].median():.2f} {unit}"

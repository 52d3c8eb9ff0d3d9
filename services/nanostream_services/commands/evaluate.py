"""``nanostream evaluate``: a model's masks compared with labelled micrographs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress

from nanostream.config import Config, Worker, override
from nanostream.errors import ConfigError, DataSetError, MicrographError
from nanostream_services.commands.labelled import find_labelled, print_names
from nanostream_services.commands.options import ModelName, PixelSize, Threshold
from nanostream_services.commands.printing import FAILED, INTERRUPTED, print_error, print_warnings
from nanostream_services.commands.scores import print_scores
from nanostream_services.processes.lifecycle import stopping
from nanostream_services.quantities import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nanostream.records import Frame
    from nanostream.training.scores import Evaluation, SectionEvaluation
    from nanostream.training.sources import Source

__all__ = ["evaluate"]


def evaluate(
    folders: Annotated[
        list[str],
        typer.Argument(
            metavar="FOLDERS",
            help="Micrographs with label PNGs, or simulated ones; subfolders, files, wildcards.",
        ),
    ],
    model: ModelName = None,
    threshold: Threshold = None,
    group_by: Annotated[
        str,
        typer.Option(
            metavar="GROUP",
            help="folder, or a regular expression: its first group, or all that it finds. "
            "Simulated ones always go by material.",
        ),
    ] = "folder",
    pixel_size: PixelSize = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write everything to this file.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it: .svg, .png or .pdf.")
    ] = None,
) -> None:
    """Compare a model's masks with labelled micrographs."""
    from nanostream.training.figures import check_figure, draw_evaluation

    worker = override(Config(), worker={"model": model, "threshold": threshold}).worker
    if figure is not None:
        check_figure(figure)
    _check_files(json, figure)
    labelled = find_labelled(folders)
    group_of = _grouping(group_by, [source.file for source in labelled.sources])
    found, empty, failed = _evaluated(labelled.sources, worker, group_of, pixel_size)
    failed += [f"{name}: {reason}" for name, reason in labelled.failed]
    for reason in failed:
        print_error(f"left out: {reason}")
    print_names(empty, "without a particle in the label; all that is found there counts as false")
    warned = [f"{one.section}: {one.warning}" for one in found.sections if one.warning]
    print_warnings(warned, where_all="--json FILE has all")
    print_scores(Console(), found)
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    if figure is not None:
        draw_evaluation(found, figure)
    if failed:
        raise typer.Exit(FAILED)


def _check_files(*files: Path | None) -> None:
    """Refuse files that could not be written, before an hour of work."""
    for file in files:
        if file is not None and file.is_dir():
            msg = f"{file} is a folder; give the name of a file"
            raise ConfigError(msg)
        if file is not None and not file.parent.is_dir():
            msg = f"{file}: there is no folder {file.parent}; make it, or choose another"
            raise ConfigError(msg)


def _evaluated(
    sources: Sequence[Source],
    worker: Worker,
    group_of: Callable[[Path], str],
    pixel_size_nm: float | None,
) -> tuple[Evaluation, list[str], list[str]]:
    """The evaluation, names of sections whose label has no particle, and what cannot be read.

    Raises
    ------
    DataSetError, MicrographError
        If nothing can be read.
    """
    from nanostream.analysis import Analyzer
    from nanostream.training import evaluation
    from nanostream.training.sources import BARE

    analyzer = Analyzer(worker)
    sections: list[SectionEvaluation] = []
    empty = []
    failed: list[DataSetError | MicrographError] = []
    with stopping() as stop, Progress(console=Console(stderr=True), transient=True) as bar:
        for source in bar.track(sources, description="evaluating"):
            for frame, truth, material in _readable(source, pixel_size_nm, failed):
                if stop.is_set():
                    done = counted(len(sections), "section", "sections")
                    print_error(f"interrupted after {done}; no scores")
                    raise typer.Exit(INTERRUPTED)
                section = f"{source.file.as_posix()}#{frame.section.z}"
                if source.pairs and not truth.any():
                    empty.append(section)
                sections.append(
                    evaluation.evaluate_section(
                        truth,
                        analyzer(frame),
                        section=section,
                        group=group_of(source.file) if source.pairs else material or BARE,
                        min_area_px=analyzer.min_area_px,
                    )
                )
    if failed and not sections:
        raise failed[0]
    found = evaluation.evaluate(
        sections,
        model=analyzer.card.name,
        model_sha256=analyzer.card.weights_sha256,
        threshold=analyzer.threshold,
        min_area_px=analyzer.min_area_px,
    )
    return found, empty, [str(error) for error in failed]


def _readable(
    source: Source, pixel_size_nm: float | None, failed: list[DataSetError | MicrographError]
) -> Iterator[tuple[Frame, NDArray[np.int32], str]]:
    """Micrographs of a source with their truth, up to one that cannot be read."""
    from nanostream.training.sources import read_frames

    try:
        yield from read_frames(source, pixel_size_nm=pixel_size_nm)
    except (DataSetError, MicrographError) as error:
        failed.append(error)


def _grouping(by: str, images: list[Path]) -> Callable[[Path], str]:
    """The name of the group that a micrograph belongs to, as a function of its path."""
    if by == "folder":
        names = _folder_names({image.parent for image in images})
        return lambda path: names[path.parent]
    try:
        pattern = re.compile(by)
    except re.error as error:
        where = f"see character {(error.pos or 0) + 1}"
        msg = f"--group-by {by}: neither folder nor a regular expression ({where})"
        raise ConfigError(msg) from error

    def group(path: Path) -> str:
        match = pattern.search(path.as_posix())
        if match is None:
            return "(no group)"
        return str(match[1] if pattern.groups and match[1] is not None else match[0])

    return group


def _folder_names(folders: set[Path]) -> dict[Path, str]:
    """Names of folders below what contains them all; of a single one, its own."""
    absolute = {folder: folder.resolve() for folder in folders}
    try:
        root = Path(os.path.commonpath(absolute.values()))
    except ValueError:  # on several drives
        return {folder: path.as_posix() for folder, path in absolute.items()}
    return {
        folder: path.name if path == root else path.relative_to(root).as_posix()
        for folder, path in absolute.items()
    }

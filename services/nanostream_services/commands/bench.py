"""``nanostream bench``: the speed of this machine, in tables and in a sentence."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from nanostream.config import Config, override
from nanostream.errors import ConfigError
from nanostream_services.commands.options import ConfigFile, Json, ModelName
from nanostream_services.commands.printing import (
    INTERRUPTED,
    add_row,
    print_error,
    print_line,
    write_json,
)
from nanostream_services.commands.progress import shown_progress
from nanostream_services.commands.starting import check_worker
from nanostream_services.processes.lifecycle import stopping
from nanostream_services.quantities import counted

if TYPE_CHECKING:
    from nanostream_services.bench.measurement import Bench, Figures

__all__ = ["bench"]

_ALL = (512, 1024, 2048, 4096, 8192)
_QUICK = (4096,)
_STEP_PX = 512


def bench(
    quick: Annotated[
        bool, typer.Option("--quick", help="4096 x 4096 alone, without a session; a minute.")
    ] = False,
    sizes: Annotated[
        str | None,
        typer.Option(metavar="PX,PX", help="Sides, multiples of 512; 512 to 8192 if not given."),
    ] = None,
    model: ModelName = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Measure how fast this machine segments, against the published workflow.

    Sections go from a file to a committed result, in turn with the workflow of the paper on the
    same pixels; a session of its own processes gives the latencies. What was measured is kept and
    compared with the last time. Nothing else should run meanwhile.
    """
    from nanostream.config import load_config
    from nanostream_services.bench.measurement import keep, last_kept, measure
    from nanostream_services.bench.published import MISSING

    settings = load_config(config) if config else Config()
    worker = override(settings, worker={"model": model} if model else {}).worker
    check_worker(worker)
    wanted = _sides(sizes) if sizes else _QUICK if quick else _ALL
    with stopping() as stop, shown_progress() as progress:
        found = measure(worker, wanted, stop, quick=quick, progress=progress)
        interrupted = stop.is_set()
    before = last_kept(found)
    if not interrupted:
        keep(found)
    if as_json:
        write_json(found)
    else:
        _show(found, before)
    if MISSING:
        packages = " and ".join(MISSING)
        print_error(f"the published workflow was not measured: {packages} not installed")
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _sides(text: str) -> tuple[int, ...]:
    sides = tuple(int(word) if word.strip().isdigit() else 0 for word in text.split(","))
    if not all(side and side % _STEP_PX == 0 and side <= 16384 for side in sides):
        msg = f"--sizes {text}: give multiples of 512 up to 16384, such as 1024,4096"
        raise ConfigError(msg)
    return sides


def _show(found: Bench, before: Bench | None) -> None:
    """Tables of the figures, and a sentence for each size."""
    speed = Table(
        *("side", "ms", "published", "faster", "network", "a minute", "stored after, ms"),
        title=f"{found.model} on {found.machine}, {counted(found.cores, 'core', 'cores')}",
    )
    stages = Table("side", "engine", *_STAGES, title="Stages, ms")
    for side, of in found.sizes.items():
        late = of.latency
        add_row(
            speed,
            side,
            f"{of.section_ms:.0f}",
            "–" if of.reference_ms is None else f"{of.reference_ms:.0f}",
            "–" if of.speedup is None else f"{of.speedup:.1f}",
            "–" if of.inference_speedup is None else f"{of.inference_speedup:.1f}",
            f"{60_000 / of.section_ms:.0f}",
            f"{late.p50_ms:.0f}, 95 % {late.p95_ms:.0f}, 99 % {late.p99_ms:.0f}" if late else "–",
        )
        add_row(
            stages,
            side,
            of.engine.split(" ")[0],
            *(f"{of.stages.get(stage, 0.0):.1f}" for stage in _STAGES),
        )
    Console().print(speed)
    Console().print(stages)
    print_line(
        "published: the workflow of the paper, in ms; faster, network: how many times we are"
    )
    for side, of in found.sizes.items():
        print_line(f"{of.engine}, {of.precision}: {of.particles} particles in a section")
        print_line(f"keeps up with one {side} x {side} image every {of.section_ms / 1000:.2g} s")
    for line in _compared(found, before) if before else ():
        print_line(line)


_STAGES = ("read", "filter", "predict", "label", "measure", "pack", "store")


def _compared(found: Bench, before: Bench) -> Iterator[str]:
    """How the figures differ from those of the last time."""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(before.time_s))
    for side, of in found.sizes.items():
        if (then := before.sizes.get(side)) is not None:
            yield f"{side} px: {_change(of, then)} than on {when} (version {before.version})"


def _change(now: Figures, then: Figures) -> str:
    """By how much a section takes longer; by the published workflow where both have it."""
    if now.speedup and then.speedup:
        ratio = now.speedup / then.speedup
        how = "against the published workflow "
    else:
        ratio, how = then.section_ms / now.section_ms, ""
    percent = 100 * abs(ratio - 1)
    return f"{how}{percent:.0f} % {'faster' if ratio >= 1 else 'slower'}"

"""The command line. Exit codes: 0 fine, 1 something was quarantined or failed, 2 wrong use,
130 stopped by Ctrl-C.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from nanostream.acquisition.simulator import Fault, Kind
from nanostream.config import Config, Stream, load_config, override
from nanostream.errors import ConfigError
from nanostream.records import Snapshot
from nanostream_services.commands.groups import (
    ConfigFile,
    Json,
    Threshold,
    add_row,
    config_app,
    keys_app,
    models_app,
    quarantine_app,
    said_once,
    say_warnings,
)
from nanostream_services.commands.training import evaluate, simulate_training, train
from nanostream_services.processes.lifecycle import start_log, stopping
from nanostream_services.processes.roles import Order, main, serve

if TYPE_CHECKING:
    from nanostream_services.doctor import Finding

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(models_app, name="models")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(keys_app, name="keys")
app.add_typer(config_app, name="config")
app.command()(evaluate)
app.command()(train)
app.command("simulate-training")(simulate_training)

_INTERRUPTED = 130

Out = Annotated[Path, typer.Option("--out", help="Session folder; made if absent.")]
ModelName = Annotated[str | None, typer.Option("--model", help="See: nanostream models list.")]
Streams = Annotated[
    list[str] | None,
    typer.Option("--stream", help="Stacks (pattern) that are movies: particles keep their ids."),
]
Plain = Annotated[bool, typer.Option("--plain", help="Lines instead of the dashboard.")]
WithParent = Annotated[bool, typer.Option("--with-parent", hidden=True)]


class Part(StrEnum):
    """What a machine is to run."""

    agent = "agent"
    worker = "worker"
    sink = "sink"
    all = "all"


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"nanostream {version('nanostream')}\n")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="And exit.")
    ] = False,
) -> None:
    """Live segmentation of HRTEM micrographs beside SerialEM."""


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option(help="Folder; made if absent.")] = None,
    plain: Plain = False,
) -> None:
    """Play a simulated SerialEM session through the real pipeline."""
    from nanostream_services.demo import run_demo

    folder = _new_folder(out, "demo")
    _check_model("default")
    _log_beside(folder / "session")
    with stopping() as stop:
        result = run_demo(folder, stop, plain=plain)
    if result is None:
        raise typer.Exit(_INTERRUPTED)
    console = Console()
    _summary(console, folder / "session")
    console.print(
        f"Dice coefficient with the simulated atoms: {result.dice:.3f}\n"
        f"Micrographs, as SerialEM would write them:  {folder / 'microscope'}\n"
        f"Masks and tables:                           {folder / 'session'}\n"
        f"Next: nanostream export {folder / 'session'} --format csv --out tables",
        soft_wrap=True,
        highlight=False,
    )
    _exit_with(folder / "session", result.sections)


@app.command()
def run(
    watch_dir: Annotated[Path, typer.Argument(help="The folder SerialEM saves into.")],
    out: Out,
    config: ConfigFile = None,
    model: ModelName = None,
    threshold: Threshold = None,
    stream: Streams = None,
    stop_when_idle: Annotated[
        float | None, typer.Option(help="Stop after so many seconds without anything new.", min=0)
    ] = None,
    drain: Annotated[
        bool,
        typer.Option("--drain", help="On Ctrl-C finish what was acquired; a second one leaves it."),
    ] = False,
    plain: Plain = False,
) -> None:
    """Segment what SerialEM writes, until Ctrl-C."""
    from nanostream_services.supervisor import run_session

    settings = _settings(config, model=model, threshold=threshold, stream=stream, out=out)
    settings = override(settings, delivery={"at_stop": "drain" if drain else None})
    settings = override(settings, watch={"directory": str(watch_dir.resolve())})
    if not watch_dir.is_dir():
        msg = f"{watch_dir} is not a folder; give the one SerialEM saves into"
        raise ConfigError(msg)
    if out.resolve().is_relative_to(watch_dir.resolve()):
        msg = f"--out {out} is inside {watch_dir}, and nothing is written there; choose another"
        raise ConfigError(msg)
    _check_model(settings.worker.model)
    _check_watched_before(out, watch_dir)
    _log_beside(out)
    done = _idle_for(stop_when_idle) if stop_when_idle is not None else None
    with stopping() as stop:
        run_session(settings, stop, plain=plain, done=done)
        interrupted = stop.is_set()
    console = Console()
    _summary(console, out)
    console.print(
        f"Masks and tables: {out}\nNext: nanostream export {out} --format csv --out tables",
        soft_wrap=True,
        highlight=False,
    )
    if interrupted:
        _say_what_is_left(settings)
        raise typer.Exit(_INTERRUPTED)
    _exit_with(out)


@app.command()
def segment(
    files: Annotated[list[Path], typer.Argument(help="MRC, dm3, dm4, ser, emd, TIFF, PNG, NPY.")],
    out: Out,
    root: Annotated[
        Path | None, typer.Option(help="Name sections by their path below it, as when watched.")
    ] = None,
    config: ConfigFile = None,
    model: ModelName = None,
    threshold: Threshold = None,
    stream: Streams = None,
    pixel_size: Annotated[
        float | None, typer.Option(help="nm, for files that do not say it.", min=1e-6)
    ] = None,
    like: Annotated[
        Path | None, typer.Option(help="Make the masks of this session again, and compare.")
    ] = None,
) -> None:
    """Segment files; the same results as live."""
    from rich.progress import Progress

    from nanostream.results.session import Session
    from nanostream_services.offline import segment_files

    before = Session(like) if like else None
    if like and not config and (like / "config.json").is_file():
        config = like / "config.json"
    settings = _settings(config, model=model, threshold=threshold, stream=stream, out=out)
    if like and not root and settings.watch.directory:
        watched = Path(settings.watch.directory)
        root = watched if all(f.resolve().is_relative_to(watched) for f in files) else None
    console = Console()
    with stopping() as stop, Progress(console=console) as bar:
        task = bar.add_task("segmenting", total=None, visible=False)

        def progress(done: int, total: int, name: str) -> None:
            description = name or "done"
            bar.update(task, completed=done, total=total, description=description, visible=True)

        result = segment_files(
            files,
            settings,
            stop,
            root=root,
            pixel_size_nm=pixel_size,
            like=before,
            progress=progress,
        )
        interrupted = stop.is_set()
    if result.known:
        console.print(f"{result.known} sections were in the session already")
    for reason in said_once(result.failed):
        sys.stderr.write(f"nanostream: {reason}\n")
    say_warnings(result.warned, where_all="those of sections are in nanostream export")
    if result.sections:
        _summary(console, out)
    if like:
        console.print(
            f"{result.same} of {result.stored} masks are, bit for bit, those of {like}",
            soft_wrap=True,
        )
    if interrupted:
        raise typer.Exit(_INTERRUPTED)
    if result.failed or (like and result.same < result.stored):
        raise typer.Exit(1)


@app.command()
def verify(
    session: Annotated[Path, typer.Argument(help="Session folder.")],
    watch: Annotated[Path | None, typer.Option(help="The watched folder.")] = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Check that what was acquired is stored or quarantined, once, with a whole mask.

    Without --watch the folder that the session was told to watch is taken. If none is known and
    something was acquired live, nothing can be said of what is missing, and the exit code is 1.
    """
    from nanostream.acquisition.ledger import last_read, passed_over
    from nanostream.results.session import Session
    from nanostream.results.verification import Acquired, acquired_files
    from nanostream.results.verification import verify as hold_against
    from nanostream_services.processes.watching import WatchedFolder

    used = config or session / "config.json"
    settings = load_config(used) if config or used.is_file() else Config()
    if watch is None and settings.watch.directory and Path(settings.watch.directory).is_dir():
        watch = Path(settings.watch.directory)
    acquired: Acquired | None = None
    if watch is not None:
        if not watch.is_dir():
            msg = f"{watch} is not a folder; give the one that was watched"
            raise ConfigError(msg)
        folder = WatchedFolder(watch.resolve(), settings.watch)
        ledger = Path(settings.watch.ledger or session / "ledger.db")
        acquired = acquired_files(
            folder.root, folder.files(), passed_over(ledger), last_read(ledger)
        )
    opened = Session(session)
    found = hold_against(opened, acquired.files if acquired else None)
    if acquired:
        found = msgspec.structs.replace(
            found, unreadable=acquired.unreadable, not_ready=acquired.not_ready
        )
    # What nanostream segment made has not waited for anything and was tried once.
    waits = opened.sections.get("wait_s")
    live = (session / "ledger.db").exists() or bool((opened.quarantine["attempts"] > 1).any())
    live |= waits is not None and bool(waits.notna().any())
    complete = found.complete and (acquired is not None or not live)
    if as_json:
        tree = msgspec.to_builtins(found) | {"complete": complete}
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(tree)).decode() + "\n")
    else:
        table = Table("", "sections", "which", title=str(session))
        add_row(table, "acquired", "-" if found.acquired is None else str(found.acquired), "")
        add_row(table, "stored", str(found.stored), "")
        kinds = ("quarantined", "missing", "cut_off", "absent", "doubled", "damaged", "unreadable")
        for name in (*kinds, "not_ready"):
            names: tuple[str, ...] = getattr(found, name)
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            add_row(table, name.replace("_", " "), str(len(names)), shown)
        Console().print(table)
        if found.passed_over:
            Console().print(f"{found.passed_over} sections were there before and not wanted")
        if watch is None:
            known = settings.watch.directory
            why = f"{known} cannot be reached" if known else "compared with no folder"
            unknown = "; what is missing is not known" if live else ""
            Console().print(f"{why}{unknown}: give --watch or --config")
        elif found.another_folder:
            Console().print(f"nothing of this session is in {watch}; is it the right folder?")
        elif found.absent:
            Console().print(f"absent: in the session, but deleted, renamed or replaced in {watch}")
        if not found.complete:
            counts = {
                "missing": len(found.missing),
                "cut off": len(found.cut_off),
                "doubled": len(found.doubled),
                "damaged": len(found.damaged),
            }
            wrong = [f"{count} {name}" for name, count in counts.items() if count]
            Console().print(f"not complete: {', '.join(wrong) or 'another folder'}")
        elif unread := [k for k in ("unreadable", "not_ready") if getattr(found, k)]:
            see = " and ".join(unread).replace("_", " ")
            Console().print(f"complete, as far as it could be read: see {see}")
        elif watch is not None:
            Console().print(
                "complete: every section wanted is stored or quarantined, once and whole"
            )
    if not complete:
        raise typer.Exit(1)


@app.command()
def export(
    session: Annotated[Path, typer.Argument(help="Session folder.")],
    out: Annotated[Path, typer.Option(help="Folder for the files.")],
    format: Annotated[str, typer.Option(help="csv, nav")] = "csv",
    navigator: Annotated[
        Path | None, typer.Option(help="For nav: SerialEM's own Navigator file, with its maps.")
    ] = None,
) -> None:
    """Write a session's tables for other programs, or points for SerialEM's Navigator."""
    from nanostream.results.exports import export as write
    from nanostream.results.session import Session

    opened = Session(session)
    if not opened.section_ids():
        sys.stderr.write(f"nanostream: nothing is stored in {session} yet\n")
    for path in write(opened, format, out, navigator=navigator):
        sys.stdout.write(f"{path}\n")


@app.command()
def simulate(
    dest: Annotated[Path, typer.Argument(help="Folder to write into.")],
    images: Annotated[
        list[Path] | None, typer.Argument(help="PNG, TIFF, NPY, MRC; the package's own if none.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Sections per second.", min=0.001)] = 1.0,
    sections: Annotated[int | None, typer.Option(help="How many; images repeat.", min=1)] = None,
    kind: Annotated[
        Kind,
        typer.Option(
            help="stack: one that grows; single: a file each; tilt: series with their .openTS "
            "marker; dosesym: the same, sorted by tilt at the end; montage: 2 x 2 pieces; gatan: "
            "stacks of 8 frames; tiff: a file and an mdoc each; idoc: a TIFF series; overwrite: "
            "every third image overwrites a section; reuse: the file is created anew after every "
            "third image."
        ),
    ] = Kind.stack,
    fault: Annotated[
        list[Fault] | None,
        typer.Option(
            help="What goes wrong, at once and then by chance; may be repeated. pause: in "
            "mid-section; torn-header: written in two parts; reordered: as over a share, header "
            "and size before the pixels; rename, delete: a finished file."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the faults.", min=0)] = 0,
    name: Annotated[str, typer.Option(help="Of the files.")] = "session",
    pixel_size: Annotated[float | None, typer.Option(help="nm, for images without one.")] = None,
    as_demo: Annotated[bool, typer.Option("--demo", hidden=True)] = False,
) -> None:
    """Write micrographs in exactly SerialEM's order, as a stand-in for it."""
    from nanostream.acquisition.frames import read_section
    from nanostream.acquisition.simulator import DemoMicrograph, demo_movie, load_images, play
    from nanostream_services.demo import DEMO_SEED, play_demo

    if as_demo:
        play_demo(dest)
        return
    taken = (f"{name}.*", f"{name}_[0-9]*.*", f"{name}[0-9]*.tif")
    if any(path for pattern in taken for path in dest.glob(pattern)):
        msg = f"{dest} has files named {name} already, and they stay; choose another --name"
        raise ConfigError(msg)
    if images:
        pixels = load_images(images, count=sections)
        pixel_size = pixel_size or read_section(images[0]).pixel_size_nm
    else:
        pixel_size = pixel_size or DemoMicrograph.load().pixel_size_nm
        pixels = (frame for frame, _ in demo_movie(sections or 20, seed=DEMO_SEED))
    for path in play(
        pixels,
        dest,
        kind=kind,
        interval_s=1 / rate,
        name=name,
        pixel_size_nm=pixel_size,
        faults=fault or (),
        seed=seed,
    ):
        sys.stdout.write(f"{path}\n")


@app.command()
def drill(
    out: Annotated[Path | None, typer.Option(help="New folder for it.")] = None,
) -> None:
    """Let things go wrong in a simulated session, and see whether all is stored."""
    from nanostream_services.drill import SECTIONS, run_drill

    folder = _new_folder(out, "drill")
    _check_model("default")
    _log_beside(folder / "session")
    console = Console()
    console.print(f"{SECTIONS} simulated sections; this takes about a minute", highlight=False)
    with stopping() as stop:
        finished = run_drill(folder, stop, say=lambda text: console.print(text, highlight=False))
    if not finished:
        raise typer.Exit(_INTERRUPTED)
    verify(folder / "session", folder / "microscope")


@app.command()
def doctor(
    config: ConfigFile = None,
    role: Annotated[Part, typer.Option(help="What this machine is to run.")] = Part.all,
    as_json: Json = False,
) -> None:
    """Check folders, disk, ports, keys, clocks, model and GPU, and send a section through."""
    from nanostream_services.doctor import examine

    settings = load_config(config) if config else Config()
    found: list[Finding] = []
    console = Console(highlight=False, quiet=as_json)
    logging.getLogger().addHandler(logging.NullHandler())  # what falls is a finding
    with stopping() as stop, console.status("looking; the whole chain takes half a minute"):
        for finding in examine(settings, role.value, stop):
            found.append(finding)
            _show(console, finding)
        if stop.is_set():
            raise typer.Exit(_INTERRUPTED)
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
    problems, warnings = (
        sum(finding.state == state for finding in found) for state in ("problem", "warning")
    )
    console.print(f"problems: {problems}, warnings: {warnings}")
    if problems:
        raise typer.Exit(1)


@app.command()
def agent(config: ConfigFile = None, with_parent: WithParent = False) -> None:
    """Watch a folder and hand out complete sections."""
    serve(Order("agent", config, with_parent))


@app.command()
def worker(config: ConfigFile = None, with_parent: WithParent = False) -> None:
    """Segment what the agent hands out."""
    serve(Order("worker", config, with_parent))


@app.command()
def sink(config: ConfigFile = None, with_parent: WithParent = False) -> None:
    """Keep results and tell the dashboard."""
    serve(Order("sink", config, with_parent))


@app.command()
def dashboard(
    config: ConfigFile = None, plain: Plain = False, with_parent: WithParent = False
) -> None:
    """Show a running session."""
    serve(Order("dashboard", config, with_parent, plain))


def _new_folder(out: Path | None, what: str) -> Path:
    folder = out or Path(f"nanostream-{what}-{datetime.now():%Y%m%d-%H%M%S}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        msg = f"--out {folder} is there already; give a new or an empty folder"
        raise ConfigError(msg)
    return folder


def _check_model(name: str) -> None:
    """Say at once, before anything is made or started, that a session could not work."""
    from nanostream.segmentation.models import check_tensorflow, find_model

    find_model(name)
    check_tensorflow()


def _check_watched_before(session: Path, watch_dir: Path) -> None:
    """Keep two folders out of one session: files of one name would pass for newer ones."""
    written = session / "config.json"
    before = load_config(written).watch.directory if written.is_file() else ""
    if before and Path(before).is_dir() and not Path(before).samefile(watch_dir):
        msg = f"--out {session} is the session of {before}; give {watch_dir} one of its own"
        raise ConfigError(msg)


def _say_what_is_left(settings: Config) -> None:
    from nanostream.acquisition.ledger import Ledger

    memory = settings.watch.ledger or Path(settings.sink.session) / "ledger.db"
    with Ledger(Path(memory)) as ledger:
        left = ledger.count("found")
    if left:
        Console().print(f"{left} sections are left; the same command goes on with them")


def _log_beside(session: Path) -> None:
    """The supervisor's log goes to a file: the terminal belongs to the dashboard."""
    from nanostream.results.folders import check_folder

    try:
        check_folder(session)
        (session / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"--out {session}: {error.strerror}; choose a folder that can be written"
        raise ConfigError(msg) from error
    start_log(session / "logs" / "run.log")


def _settings(
    file: Path | None,
    *,
    out: Path,
    model: str | None,
    threshold: float | None,
    stream: list[str] | None,
) -> Config:
    config = load_config(file) if file else Config()
    config = override(
        config,
        worker={"model": model, "threshold": threshold},
        sink={"session": str(out.resolve())},
    )
    more = tuple(Stream(pattern=pattern) for pattern in stream or ())
    return msgspec.structs.replace(config, streams=(*config.streams, *more))


def _show(console: Console, finding: Finding) -> None:
    """A finding in a few lines of a narrow terminal, what to do indented below."""
    shown = Table.grid(Column(width=7), Column(width=15), Column(overflow="fold"), padding=(0, 1))
    colour = {"ok": "green", "warning": "yellow", "problem": "red"}.get(finding.state, "dim")
    shown.add_row(Text(finding.state, colour), finding.check, Text(finding.text))
    if finding.advice:
        shown.add_row("", "", Text(f"-> {finding.advice}", "bold"))
    console.print(shown)


def _idle_for(seconds: float) -> Callable[[Snapshot, Mapping[str, int]], bool]:
    """Whether everything seen has ended and nothing new came for so long."""
    last = (-1, -1)
    since_s = 0.0

    def done(snapshot: Snapshot, _: Mapping[str, int]) -> bool:
        nonlocal last, since_s
        now = (snapshot.seen, snapshot.stored + snapshot.failed)
        if now != last:
            last, since_s = now, snapshot.time_s
        agent_is_here = any(health.name == "agent" for health in snapshot.health)
        ended = now[0] == now[1] and not snapshot.waiting and not snapshot.in_work
        return agent_is_here and ended and snapshot.time_s - since_s >= seconds

    return done


def _summary(console: Console, folder: Path) -> None:
    from nanostream.results.session import Session

    session = Session(folder)
    sections, particles = session.sections, session.particles
    whole = particles[~particles["touches_edge"]]
    unit = "nm" if whole["diameter_nm"].notna().any() else "px"
    size = whole[f"diameter_{unit}"]
    tracks = session.tracks
    table = Table(title="Session", show_header=False)
    add_row(table, "sections stored", str(len(sections)))
    add_row(table, "sections quarantined", str(len(session.quarantine)))
    if warned := int((sections["warning"] != "").sum()):
        add_row(table, "sections with a warning", str(warned))
    made = sections.groupby(["model", "model_sha256", "threshold"]).size().reset_index(name="n")
    if len(made) > 1:
        each = (f"{row.n} by {row.model} above {row.threshold:g}" for row in made.itertuples())
        add_row(table, "models", f"{', '.join(each)}; below is what all found")
    if unknown := int(sections["pixel_size_nm"].isna().sum()):
        which = "" if unknown == len(sections) else f" of {unknown} sections"
        add_row(table, "pixel size", f"not known{which}: sizes in px")
    add_row(table, "particles", f"{len(particles)} ({len(whole)} whole)")
    if len(whole):
        add_row(
            table,
            "equivalent circular diameter",
            f"mean {size.mean():.2f} {unit}, median {size.median():.2f} {unit}",
        )
    if len(tracks):
        lengths = tracks.groupby(["file", "particle"]).size()
        of_file = tracks.groupby("file")["frame"].nunique().loc[lengths.index.get_level_values(0)]
        lasting = int((2 * lengths.to_numpy() > of_file.to_numpy()).sum())
        add_row(table, "tracks", f"{len(lengths)} ({lasting} through most sections)")
    console.print(table)


def _exit_with(folder: Path, expected: int | None = None) -> None:
    """Exit 1 if something was quarantined or is missing."""
    from nanostream.results.session import Session

    session = Session(folder)
    if given_up := len(session.quarantine):
        Console().print(
            f"exit code 1: {given_up} in quarantine (nanostream quarantine list {folder})"
        )
    if given_up or (expected is not None and len(session.sections) != expected):
        raise typer.Exit(1)

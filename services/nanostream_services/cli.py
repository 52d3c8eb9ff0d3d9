"""The command line. Exit codes: 0 fine, 1 something was quarantined or failed, 2 wrong use,
130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table
from rich.text import Text

from nanostream.config import Config, Stream, load_config, override
from nanostream.errors import ConfigError, ModelError, NanostreamError
from nanostream.records import Snapshot
from nanostream_services.loop import Stop, start_log, stopping

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(no_args_is_help=True, help="Networks and their cards.")
app.add_typer(models_app, name="models")
quarantine_app = typer.Typer(no_args_is_help=True, help="Sections that were given up.")
app.add_typer(quarantine_app, name="quarantine")
keys_app = typer.Typer(no_args_is_help=True, help="Keys, for more than one machine.")
app.add_typer(keys_app, name="keys")

_INTERRUPTED = 130

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file; configs/microscope.toml shows all keys.")
]
Out = Annotated[Path, typer.Option("--out", help="Session folder; made if absent.")]
ModelName = Annotated[str | None, typer.Option("--model", help="See: nanostream models list.")]
Threshold = Annotated[float | None, typer.Option(help="Instead of the model card's.")]
Streams = Annotated[
    list[str] | None,
    typer.Option("--stream", help="Stacks (pattern) that are movies: particles keep their ids."),
]
Plain = Annotated[bool, typer.Option("--plain", help="Lines instead of the dashboard.")]
WithParent = Annotated[bool, typer.Option("--with-parent", hidden=True)]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


class Kind(StrEnum):
    """How the stand-in saves."""

    stack = "stack"
    single = "single"


class Scaling(StrEnum):
    """How a model wants its micrographs scaled after the median filter."""

    image_max = "image-max"
    image_minmax = "image-minmax"
    dataset_max = "dataset-max"
    standardize = "standardize"


def main() -> None:
    """Entry point; a user's mistake gives one line, not a traceback."""
    try:
        app()
    except NanostreamError as error:
        sys.stderr.write(f"nanostream: {error}\n")
        sys.exit(2)
    except OSError as error:  # no rights, no room, no such folder: the user's to mend
        where = f" {error.filename}" if error.filename else ""
        sys.stderr.write(f"nanostream:{where}: {error.strerror or error}\n")
        sys.exit(2)


def _print_version(wanted: bool) -> None:
    if wanted:
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
    plain: Plain = False,
) -> None:
    """Segment what SerialEM writes, until Ctrl-C."""
    from nanostream_services.session import run_session

    settings = _settings(config, model=model, threshold=threshold, stream=stream, out=out)
    settings = override(settings, watch={"directory": str(watch_dir.resolve())})
    if not watch_dir.is_dir():
        msg = f"{watch_dir} is not a folder; give the one SerialEM saves into"
        raise ConfigError(msg)
    if out.resolve().is_relative_to(watch_dir.resolve()):
        msg = f"--out {out} is inside {watch_dir}, and nothing is written there; choose another"
        raise ConfigError(msg)
    _check_model(settings.worker.model)
    _log_beside(out)
    done = _idle_for(stop_when_idle) if stop_when_idle is not None else None
    with stopping() as stop:
        run_session(settings, stop, plain=plain, done=done)
        interrupted = stop.is_set()
    _summary(Console(), out)
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
) -> None:
    """Segment files; the same results as live."""
    from nanostream_services.offline import segment_files

    settings = _settings(config, model=model, threshold=threshold, stream=stream, out=out)
    console = Console()
    with stopping() as stop, Progress(console=console) as bar:
        task = bar.add_task("segmenting", total=None)

        def progress(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, description=name or "done")

        result = segment_files(
            files, settings, stop, root=root, pixel_size_nm=pixel_size, progress=progress
        )
        interrupted = stop.is_set()
    if result.known:
        console.print(f"{result.known} sections were in the session already")
    for reason in result.failed:
        sys.stderr.write(f"nanostream: {reason}\n")
    _summary(console, out)
    if interrupted:
        raise typer.Exit(_INTERRUPTED)
    if result.failed:
        raise typer.Exit(1)


@app.command()
def verify(
    session: Annotated[Path, typer.Argument(help="Session folder.")],
    watch: Annotated[Path | None, typer.Option(help="The watched folder.")] = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Check that what was acquired is stored or quarantined, once, with a whole mask.

    Without --watch the folder that the session was told to watch is taken.
    """
    from nanostream.results.session import Session
    from nanostream.results.verification import AcquiredFile, acquired_files
    from nanostream.results.verification import verify as hold_against
    from nanostream_services.watching import WatchedFolder

    used = config or session / "config.json"
    settings = load_config(used) if config or used.is_file() else Config()
    if watch is None and settings.watch.directory and Path(settings.watch.directory).is_dir():
        watch = Path(settings.watch.directory)
    acquired: list[AcquiredFile] | None = None
    unreadable: tuple[str, ...] = ()
    if watch is not None:
        if not watch.is_dir():
            msg = f"{watch} is not a folder; give the one that was watched"
            raise ConfigError(msg)
        folder = WatchedFolder(watch.resolve(), settings.watch)
        acquired, unreadable = acquired_files(folder.root, folder.files())
    found = hold_against(Session(session), acquired)
    found = msgspec.structs.replace(found, unreadable=unreadable)
    if as_json:
        tree = msgspec.to_builtins(found) | {"complete": found.complete}
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(tree)).decode() + "\n")
    else:
        table = Table("", "sections", "which", title=str(session))
        _add_row(table, "acquired", "-" if found.acquired is None else str(found.acquired), "")
        _add_row(table, "stored", str(found.stored), "")
        for name in ("quarantined", "missing", "absent", "doubled", "damaged", "unreadable"):
            names: tuple[str, ...] = getattr(found, name)
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            _add_row(table, name, str(len(names)), shown)
        Console().print(table)
        if watch is None:
            Console().print("compared with no folder: give --watch")
        elif found.absent:
            Console().print(f"absent: stored, but not in {watch}; is it the right folder?")
    if not found.complete:
        raise typer.Exit(1)


@app.command()
def export(
    session: Annotated[Path, typer.Argument(help="Session folder.")],
    out: Annotated[Path, typer.Option(help="Folder for the files.")],
    format: Annotated[str, typer.Option(help="csv")] = "csv",
) -> None:
    """Write a session's tables for other programs."""
    from nanostream.results.exports import export as write
    from nanostream.results.session import Session

    for path in write(Session(session), format, out):
        sys.stdout.write(f"{path}\n")


@app.command()
def simulate(
    dest: Annotated[Path, typer.Argument(help="Folder to write into.")],
    images: Annotated[
        list[Path] | None, typer.Argument(help="PNG, TIFF, NPY, MRC; the package's own if none.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Sections per second.", min=0.001)] = 1.0,
    sections: Annotated[int | None, typer.Option(help="How many; images repeat.", min=1)] = None,
    kind: Annotated[Kind, typer.Option(help="One growing stack, or a file each.")] = Kind.stack,
    name: Annotated[str, typer.Option(help="Of the files.")] = "session",
    pixel_size: Annotated[float | None, typer.Option(help="nm, for images without one.")] = None,
    as_demo: Annotated[bool, typer.Option("--demo", hidden=True)] = False,
) -> None:
    """Write micrographs in exactly SerialEM's order, as a stand-in for it."""
    from nanostream.acquisition.micrographs import read_micrograph
    from nanostream.acquisition.simulator import DemoMicrograph, demo_movie, load_images, play
    from nanostream_services.demo import DEMO_SEED, play_demo

    if as_demo:
        play_demo(dest)
        return
    if any(dest.glob(f"{name}.mrc")) or any(dest.glob(f"{name}_[0-9]*.mrc")):
        msg = f"{dest} has files named {name} already, and they stay; choose another --name"
        raise ConfigError(msg)
    if images:
        pixels = load_images(images, count=sections)
        pixel_size = pixel_size or read_micrograph(images[0]).pixel_size_nm
    else:
        pixel_size = pixel_size or DemoMicrograph.load().pixel_size_nm
        pixels = (frame for frame, _ in demo_movie(sections or 20, seed=DEMO_SEED))
    for path in play(
        pixels, dest, kind=kind.value, interval_s=1 / rate, name=name, pixel_size_nm=pixel_size
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
def agent(config: ConfigFile = None, with_parent: WithParent = False) -> None:
    """Watch a folder and hand out complete sections."""
    from nanostream_services.agent import run_agent

    _serve(run_agent, config, with_parent)


@app.command()
def worker(config: ConfigFile = None, with_parent: WithParent = False) -> None:
    """Segment what the agent hands out."""
    from nanostream_services.worker import run_worker

    _serve(run_worker, config, with_parent)


@app.command()
def sink(config: ConfigFile = None, with_parent: WithParent = False) -> None:
    """Keep results and tell the dashboard."""
    from nanostream_services.sink import run_sink

    _serve(run_sink, config, with_parent)


@app.command()
def dashboard(
    config: ConfigFile = None, plain: Plain = False, with_parent: WithParent = False
) -> None:
    """Show a running session."""
    from nanostream_services.dashboard import run_dashboard

    _serve(lambda c, s: run_dashboard(c, s, plain=plain), config, with_parent)


@models_app.command("list")
def models_list(as_json: Json = False) -> None:
    """Models that can be used."""
    from nanostream.segmentation.models import list_models

    cards = list_models()
    if as_json:
        sys.stdout.write(msgspec.json.encode(cards).decode() + "\n")
        return
    columns = ("normalization", "threshold", "pixel size (nm)", "materials")
    table = Table(Column("model", overflow="fold"), *columns)
    for card in cards:
        low_high = card.pixel_size_nm
        _add_row(
            table,
            card.name,
            card.normalization,
            f"{card.threshold:g}",
            f"{low_high[0]:g} to {low_high[1]:g}" if low_high else "?",
            ", ".join(card.materials),
        )
    Console().print(table)


@models_app.command("show")
def models_show(name: str) -> None:
    """Show the whole card of a model."""
    from nanostream.segmentation.models import find_model

    card, weights = find_model(name)
    tree = msgspec.to_builtins(card) | {"folder": str(weights.parent)}
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(tree), indent=2).decode() + "\n")


@models_app.command("import")
def models_import(
    file: Annotated[Path, typer.Argument(help="Keras weights of the paper's U-Net.")],
    name: Annotated[str, typer.Option(help="To be known by.")],
    normalization: Annotated[Scaling, typer.Option(help="As the network was trained.")],
    threshold: Annotated[float, typer.Option(help="Above which a pixel is particle.")],
    maximum: Annotated[
        float | None,
        typer.Option(help="For dataset-max: a fixed value; else the session's running maximum."),
    ] = None,
) -> None:
    """Take weights, such as those published with the paper, into use."""
    from nanostream.segmentation.models import import_model, user_models

    card = import_model(
        file,
        name=name,
        normalization=normalization.value,
        threshold=threshold,
        normalization_maximum=maximum,
    )
    sys.stdout.write(
        f"{card.name} is in {user_models() / card.name}; use it with --model {card.name}\n"
    )


def _new_folder(out: Path | None, what: str) -> Path:
    folder = out or Path(f"nanostream-{what}-{datetime.now():%Y%m%d-%H%M%S}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        msg = f"--out {folder} is there already; give a new or an empty folder"
        raise ConfigError(msg)
    return folder


def _check_model(name: str) -> None:
    """Say at once, before anything is made or started, that a session could not work."""
    from nanostream.segmentation.models import NO_TENSORFLOW, find_model

    find_model(name)
    if find_spec("tensorflow") is None:
        raise ModelError(NO_TENSORFLOW)


def _say_what_is_left(settings: Config) -> None:
    from nanostream.acquisition.ledger import Ledger

    memory = settings.watch.ledger or Path(settings.sink.session) / "ledger.db"
    with Ledger(Path(memory)) as ledger:
        left = ledger.count("found")
    if left:
        Console().print(f"{left} sections are left; the same command goes on with them")


def _log_beside(session: Path) -> None:
    """The supervisor's log goes to a file: the terminal belongs to the dashboard."""
    from nanostream.results.store import check_folder

    try:
        check_folder(session)
        (session / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"--out {session}: {error.strerror}; choose a folder that can be written"
        raise ConfigError(msg) from error
    start_log(session / "logs" / "run.log")


@quarantine_app.command("list")
def quarantine_list(
    session: Annotated[Path, typer.Argument(help="Session folder.")], as_json: Json = False
) -> None:
    """Show what was given up and why."""
    from nanostream.results.session import Session

    table = Session(session).quarantine
    if as_json:
        sys.stdout.write(table.to_json(orient="records") + "\n")
        return
    shown = Table("section", "attempts", "since", "reason")
    for row in table.to_dict("records"):
        _add_row(shown, row["section"], str(row["attempts"]), _date(row["time_s"]), row["reason"])
    Console().print(shown)


@quarantine_app.command("show")
def quarantine_show(
    session: Annotated[Path, typer.Argument(help="Session folder.")],
    section: Annotated[str, typer.Argument(help="As in: quarantine list.")],
) -> None:
    """Show one section: the reason, and every event that names it."""
    from nanostream.results.session import Session

    opened = Session(session)
    rows = opened.quarantine.query("section == @section")
    if rows.empty:
        msg = f"{section} is not in quarantine; nanostream quarantine list shows what is"
        raise ConfigError(msg)
    sys.stdout.write(f"{section}: {rows.iloc[0].reason} ({rows.iloc[0].attempts} attempts)\n")
    events = opened.events
    for event in events[events["text"].str.contains(section, regex=False)].to_dict("records"):
        sys.stdout.write(f"{_date(event['time_s'])}  {event['source']}: {event['text']}\n")


@quarantine_app.command("retry")
def quarantine_retry(
    session: Annotated[Path, typer.Argument(help="Session folder.")],
    sections: Annotated[list[str] | None, typer.Argument(help="All, if none is named.")] = None,
) -> None:
    """Try sections again: at once if the session is running, else when it runs again."""
    from nanostream.results.session import Session
    from nanostream.results.store import ask_retry

    chosen = sections or list(Session(session).quarantine["section"])
    ask_retry(session, chosen)
    sys.stdout.write(f"{len(chosen)} sections will be tried again\n")


@keys_app.command("create")
def keys_create(folder: Annotated[Path, typer.Argument(help="Made if absent.")]) -> None:
    """Make the key pair of this machine."""
    from nanostream.transport.keys import create_keys
    from nanostream.transport.sockets import new_key_pair

    create_keys(folder, new_key_pair())
    sys.stdout.write(
        f"{folder / 'own.secret'} stays here; take {folder / 'own.public'} to the other machines\n"
        f"and say there: nanostream keys allow KEYS THIS_FILE --name NAME_OF_THIS_MACHINE\n"
    )


@keys_app.command("allow")
def keys_allow(
    folder: Annotated[Path, typer.Argument(help="Keys of this machine.")],
    public: Annotated[Path, typer.Argument(help="own.public of the other machine.")],
    name: Annotated[str, typer.Option(help="To know it by, as in [network] frames_server.")],
) -> None:
    """Trust another machine; delete its file to refuse it again."""
    from nanostream.transport.keys import trust

    sys.stdout.write(f"{trust(folder, name, public)}\n")


@keys_app.command("list")
def keys_list(folder: Annotated[Path, typer.Argument(help="Keys of this machine.")]) -> None:
    """Show whom this machine trusts."""
    from nanostream.transport.keys import load_keys

    table = Table("machine", "public key")
    for key, name in load_keys(folder).trusted().items():
        _add_row(table, name, key.decode())
    Console().print(table)


def _add_row(table: Table, *cells: str) -> None:
    """A row of plain text: what came from files must not be taken for markup."""
    table.add_row(*map(Text, cells))


def _date(time_s: float) -> str:
    return datetime.fromtimestamp(time_s).isoformat(" ", "seconds")


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


def _serve(service: Callable[[Config, Stop], None], config: Path | None, with_parent: bool) -> None:
    start_log()
    with stopping(with_parent=with_parent) as stop:
        service(load_config(config) if config else Config(), stop)


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
    _add_row(table, "sections stored", str(len(sections)))
    _add_row(table, "sections quarantined", str(len(session.quarantine)))
    _add_row(table, "particles", f"{len(particles)} ({len(whole)} whole)")
    if len(whole):
        _add_row(
            table,
            "equivalent circular diameter",
            f"mean {size.mean():.2f} {unit}, median {size.median():.2f} {unit}",
        )
    if len(tracks):
        identities = tracks.groupby("file")["particle"].nunique().sum()
        _add_row(table, "tracks", str(identities))
    console.print(table)


def _exit_with(folder: Path, expected: int | None = None) -> None:
    """Exit 1 if something was quarantined or is missing."""
    from nanostream.results.session import Session

    session = Session(folder)
    if len(session.quarantine) or (expected is not None and len(session.sections) != expected):
        raise typer.Exit(1)

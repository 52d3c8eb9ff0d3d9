"""What to see to before a session: each check says what it found and what to do.

A check is a function of the configuration. None writes into the watched folder, and what one
writes elsewhere it takes away again.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from msgspec import Struct

from nanostream.acquisition import frames
from nanostream.acquisition.readiness import FileStat
from nanostream.acquisition.simulator import DemoMicrograph, demo_movie, play
from nanostream.config import Config, Network, is_loopback, override
from nanostream.errors import MicrographError, NanostreamError, SessionError
from nanostream.records import Snapshot
from nanostream.results.folders import check_folder
from nanostream.results.navigator import read_navigator
from nanostream.results.session import Session
from nanostream.segmentation.models import NO_TENSORFLOW, find_model
from nanostream.transport.keys import load_keys
from nanostream.transport.sockets import (
    PortName,
    Subscriber,
    free_network,
    handshake,
    wait,
)
from nanostream_services.processes.lifecycle import Stop
from nanostream_services.processes.watching import WatchedFolder, share_type
from nanostream_services.supervisor import run_session

__all__ = ["CHECKS", "Finding", "Role", "State", "examine", "tell_device"]

State = Literal["ok", "skipped", "warning", "problem"]
Role = Literal["agent", "worker", "sink", "all"]

#: Room that a 4096 x 4096 micrograph takes (docs/formats/session.md), and how often one is acquired
#: at most: a camera's overhead alone is 2 to 3 s a shot (SerialEM's about_camera.htm).
_SECTION_BYTES = 1_000_000
_SECONDS_A_SECTION = 3.0
_LEAST_FREE_BYTES = 2**30
_SLOW_LISTING_S = 1.0
_ANSWER_S = 1.5
#: An image is saved some seconds after it was exposed, behind a queue of others.
_CLOCKS_APART_S = 120.0
_LONGEST_CHAIN_S = 180.0
_LONGEST_DEVICE_S = 120.0
#: The first pays for the network's compilation; the second is like every other.
_SECTIONS = 2

_BINDS: dict[Role, tuple[PortName, ...]] = {
    "agent": ("frames",),
    "worker": (),
    "sink": ("results", "snapshots", "queries"),
    "all": ("frames", "results", "snapshots", "queries"),
}
_CONNECTS: dict[Role, tuple[PortName, ...]] = {
    "agent": ("results",),
    "worker": ("frames", "results"),
    "sink": (),
    "all": (),
}


class Finding(Struct, frozen=True, omit_defaults=True):
    """One line of the doctor's.

    Attributes
    ----------
    check : str
        What was looked at.
    state : str
        A problem stops a session, or loses something in it; a warning costs time or comfort.
    text : str
        What was found.
    advice : str
        What to do; empty if nothing.
    """

    check: str
    state: State
    text: str
    advice: str = ""


def examine(config: Config, role: Role, stop: Stop) -> Iterator[Finding]:
    """All findings for the part that this machine is to play, as they come."""
    for roles, check in CHECKS:
        if role in roles and not stop.is_set():
            yield from check(config, role)
    if not stop.is_set():
        yield from check_chain(config, role, stop)


def check_watched(config: Config, role: Role) -> Iterator[Finding]:
    """The watched folder: there, listed quickly, and on what kind of disk."""
    name, watch = "watched folder", config.watch
    if not watch.directory:
        state: State = "problem" if role == "agent" else "skipped"
        advice = "name the folder SerialEM saves into" if role == "agent" else ""
        yield Finding(name, state, "[watch] directory names none; nanostream run does", advice)
        return
    root = Path(watch.directory)
    if not root.is_dir():
        advice = "create it or mount it; nanostream waits for one that goes away, not for the first"
        yield Finding(name, "problem", f"{root} is not a folder", advice)
        return
    said: list[str] = []
    start_s = time.perf_counter()
    files = WatchedFolder(root, watch, say=said.append).files()
    took_s = time.perf_counter() - start_s
    for text in said:
        yield Finding(name, "warning", text, "give this user the right to read it")
    slow = took_s > max(watch.poll_s, _SLOW_LISTING_S)
    yield Finding(
        name,
        "warning" if slow else "ok",
        f"{root}: {len(files)} micrographs, listed in {took_s:.2f} s",
        f"watch a smaller folder, or raise poll_s above {took_s:.0f} s" if slow else "",
    )
    yield share_finding(root, share_type(root), watch.notices)
    yield from _of_newest(root, files)


def share_finding(root: Path, share: str | None, notices: str) -> Finding:
    """What the kind of disk means for watching; None is a disk of this machine."""
    if share is None:
        return Finding("share", "ok", f"{root} is on a disk of this machine")
    if notices == "on":
        advice = 'a share sends no notices of what others write; set [watch] notices = "auto"'
        return Finding("share", "warning", f"{root} is on a network share ({share})", advice)
    text = f"{root} is on a network share ({share}): looked at every poll_s, read with more care"
    return Finding("share", "ok", text)


def _of_newest(root: Path, files: Mapping[str, FileStat]) -> Iterator[Finding]:
    if not files:
        yield Finding("newest file", "skipped", "there is no micrograph yet")
        return
    path, _ = _newest(files)
    try:
        sections, _, _ = _look_into(root / path)
    except (MicrographError, OSError) as error:
        advice = "nothing, if SerialEM has just opened it; else see that it can be read"
        yield Finding("newest file", "warning", str(error), advice)
        return
    yield Finding("newest file", "ok", f"{path}, complete sections: {sections}")


def _look_into(path: Path) -> tuple[int, float | None, str | None]:
    """Complete sections of a file; pixel size in nm and time of the last of them, if it says so."""
    contents, status = frames.inspect(path)
    sections = contents.complete_sections(status.st_size)
    if not sections:
        return 0, None, None
    frame = frames.read_section(path, sections - 1)
    return sections, frame.pixel_size_nm, frame.metadata.acquired


def _newest(files: Mapping[str, FileStat]) -> tuple[str, FileStat]:
    return max(files.items(), key=lambda item: item[1].mtime_ns)


def check_session(config: Config, _: Role) -> Iterator[Finding]:
    """The session folder: can be written, on a local disk, with room."""
    name = "session folder"
    if not config.sink.session:
        yield Finding(name, "skipped", "[sink] session names none; nanostream run --out does")
        return
    folder = Path(config.sink.session)
    try:
        check_folder(folder)
    except SessionError as error:
        yield Finding(name, "problem", str(error), "give a new folder")
        return
    there = _existing(folder)
    try:
        _try_to_write(there)
    except OSError as error:
        advice = f"give this user the right to write into {there}, or choose another folder"
        yield Finding(name, "problem", f"{there} cannot be written: {error.strerror}", advice)
        return
    yield session_finding(folder, share_type(there))
    yield disk_finding(shutil.disk_usage(there).free)


def session_finding(folder: Path, share: str | None) -> Finding:
    """Whether a database can live there; None is a disk of this machine."""
    name = "session folder"
    if share is None:
        return Finding(name, "ok", f"{folder} can be written, on a disk of this machine")
    # sqlite.org/wal.html: WAL does not work over a network file system.
    text = f"{folder} is on a network share ({share}), where SQLite does not work"
    return Finding(name, "problem", text, "choose a folder on a disk of this machine")


def disk_finding(free_bytes: int) -> Finding:
    """How long the free room lasts."""
    days = free_bytes / _SECTION_BYTES * _SECONDS_A_SECTION / 86_400
    text = (
        f"{free_bytes / 1e9:.0f} GB free: {days:.1f} days of a 4096 x 4096 micrograph "
        f"each {_SECONDS_A_SECTION:.0f} s"
    )
    if free_bytes < _LEAST_FREE_BYTES:
        return Finding("free disk", "problem", text, "make room, or choose another disk")
    if days < 1:
        return Finding("free disk", "warning", text, "make room before a long session")
    return Finding("free disk", "ok", text)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _try_to_write(folder: Path) -> None:
    # A name, not an anonymous file: that is what the session will make.
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".nanostream-doctor-") as file:
        file.write(b"nanostream doctor")


def check_ports(config: Config, role: Role) -> Iterator[Finding]:
    """The ports: free where this machine binds, answering where it connects."""
    network = config.network
    taken = []
    for port in _BINDS[role]:
        host, number = _address(network, port)
        try:
            with socket.create_server((host, number)):
                yield Finding(f"{port} port", "ok", f"{number} on {host} is free")
        except OSError as error:
            taken.append((port, host, number, error))
    running = _running(network) if taken else None
    for port, host, number, why in taken:
        yield _of_taken(config, port, f"{number} on {host}", why, running)
    for port in _CONNECTS[role]:
        yield _of_answer(network, port)


def _of_taken(
    config: Config, port: str, where: str, error: OSError, running: Snapshot | None
) -> Finding:
    if error.errno == errno.EADDRNOTAVAIL:
        text = f"{where}: that is no address of this machine"
        advice = f"mend [network] {port}_host, or say which part this machine plays with --role"
        return Finding(f"{port} port", "problem", text, advice)
    if running is None:
        advice = f"end what uses it, or choose another [network] {port}_port"
        return Finding(f"{port} port", "problem", f"{where}: {error.strerror}", advice)
    text = f"{where} is used by the session that runs: {running.session}"
    if config.sink.session in ("", running.session):
        return Finding(f"{port} port", "ok", text)
    advice = "stop it first, or give this one other ports"
    return Finding(f"{port} port", "problem", text, advice)


def _of_answer(network: Network, port: PortName) -> Finding:
    host, number = _address(network, port)
    process = "agent" if port == "frames" else "sink"
    try:
        trouble = handshake(network, port, timeout_s=_ANSWER_S)
    except NanostreamError as error:
        return Finding(f"{port} port", "problem", str(error))
    if not trouble:
        return Finding(f"{port} port", "ok", f"the {process} at {host}:{number} answers")
    if trouble == "nothing answers":
        advice = f"start the {process} there"
        if not is_loopback(host):
            advice += f", and let {number}/tcp through its firewall"
        return Finding(f"{port} port", "warning", f"{host}:{number}: nothing answers", advice)
    advice = f"exchange keys again (nanostream keys allow); [network] {port}_server names it"
    return Finding(f"{port} port", "problem", f"{host}:{number}: {trouble}", advice)


def _address(network: Network, port: str) -> tuple[str, int]:
    host = getattr(network, f"{port}_host") or network.host
    return host, getattr(network, f"{port}_port")


def _running(network: Network) -> Snapshot | None:
    """What a session that runs here says of itself, if one does."""
    try:
        news = Subscriber(network)
    except NanostreamError:  # the keys have a finding of their own
        return None
    try:
        deadline_s = time.monotonic() + _ANSWER_S
        while time.monotonic() < deadline_s:
            wait([news], deadline_s - time.monotonic())
            if (snapshot := news.receive()) is not None:
                return snapshot
    finally:
        news.close()
    return None


def check_keys(config: Config, _: Role) -> Iterator[Finding]:
    """The keys of this machine, and of those it must know."""
    network = config.network
    if not network.keys:
        yield Finding("keys", "ok", "none are needed: every port is on loopback")
        return
    try:
        keys = load_keys(Path(network.keys))
        trusted = sorted(name for name in keys.trusted().values() if name != "own")
        for server in (network.frames_server, network.results_server):
            keys.of_server(server)
    except NanostreamError as error:
        yield Finding("keys", "problem", str(error))
        return
    if trusted:
        yield Finding("keys", "ok", f"{network.keys}: trusted are {', '.join(trusted)}")
    else:
        advice = f"nanostream keys allow {network.keys} own.public --name NAME, with theirs"
        yield Finding("keys", "warning", f"{network.keys} trusts no other machine", advice)


def check_clock(config: Config, _: Role) -> Iterator[Finding]:
    """The clocks of camera PC, file server and this machine, as far as the newest file tells."""
    root = Path(config.watch.directory)
    if not config.watch.directory or not root.is_dir():
        return
    files = WatchedFolder(root, config.watch).files()
    if not files:
        return
    path, stat = _newest(files)
    try:
        acquired = _look_into(root / path)[2]
    except (MicrographError, OSError):  # said of the newest file already
        acquired = None
    yield clock_finding(path, stat.mtime_ns / 1e9, acquired, now_s=time.time())


def clock_finding(path: str, saved_s: float, acquired: str | None, *, now_s: float) -> Finding:
    """What one file says of the clocks.

    Parameters
    ----------
    path : str
        Of the file, to be named.
    saved_s : float
        Its modification time, by the clock of the machine that has the disk.
    acquired : str or None
        ``DateTime`` of its last section: local time of the camera PC, without a zone.
    now_s : float
        POSIX time of this machine.
    """
    advice = (
        "set the clocks by NTP; nothing is lost by it, but the delay that the dashboard shows is "
        "wrong"
    )
    if saved_s > now_s + 2.0:
        text = f"{path} was saved {saved_s - now_s:.0f} s from now, by this machine's clock"
        return Finding("clock", "warning", text, advice)
    age = f"{path} was saved {_duration(now_s - saved_s)} ago"
    if acquired is None:
        return Finding("clock", "ok", f"{age}; no mdoc says when it was acquired")
    # As local times: a year that the system's clock cannot have has no timestamp.
    apart = datetime.fromisoformat(acquired) - datetime.fromtimestamp(saved_s)
    apart_s = apart.total_seconds()
    if abs(apart_s) > _CLOCKS_APART_S:
        word = "after" if apart_s > 0 else "before"
        text = f"{path} was acquired {_duration(abs(apart_s))} {word} it was saved, it says"
        also = "if the file is a copy, or was kept open, this means nothing; else "
        return Finding("clock", "warning", text, also + advice)
    return Finding("clock", "ok", f"{age}; its mdoc agrees within {abs(apart_s):.0f} s")


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def check_model(config: Config, role: Role) -> Iterator[Finding]:
    """The model, and whether it was trained for micrographs like the newest one."""
    try:
        card, _ = find_model(config.worker.model)
    except NanostreamError as error:
        yield Finding("model", "problem", str(error))
        return
    yield Finding("model", "ok", f"{card.name}: its weights are those of its card")
    root = Path(config.watch.directory)
    if card.pixel_size_nm is None or not config.watch.directory or not root.is_dir():
        return
    files = WatchedFolder(root, config.watch).files()
    pixel_size_nm = None
    if files:
        with contextlib.suppress(MicrographError, OSError):  # said of the newest file already
            pixel_size_nm = _look_into(root / _newest(files)[0])[1]
    pixel_size_nm = pixel_size_nm or config.watch.pixel_size_nm
    if pixel_size_nm is None:
        return
    low_nm, high_nm = card.pixel_size_nm
    fits = low_nm <= pixel_size_nm <= high_nm
    yield Finding(
        "pixel size",
        "ok" if fits else "warning",
        f"the newest micrograph has {pixel_size_nm:.4g} nm, {card.name} was trained on "
        f"{low_nm:g} to {high_nm:g} nm",
        "" if fits else "look at the masks before you trust them, or choose another --model",
    )


def check_device(config: Config, role: Role) -> Iterator[Finding]:
    """TensorFlow and its device, in a process of its own: the import takes seconds and memory."""
    if find_spec("tensorflow") is None:
        if role == "worker":
            yield Finding("TensorFlow", "problem", NO_TENSORFLOW)
            return
        text = "not installed: this machine can run agent, sink and dashboard, not the worker"
        yield Finding("TensorFlow", "warning", text, NO_TENSORFLOW.partition("; ")[2])
        return
    code = (
        "import sys; from nanostream_services.doctor import tell_device; tell_device(sys.argv[1])"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, config.worker.device],
            capture_output=True,
            text=True,
            timeout=_LONGEST_DEVICE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        text = f"does not start within {_LONGEST_DEVICE_S:.0f} s"
        yield Finding("device", "problem", text, "look what the graphics driver is doing")
        return
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["TensorFlow does not start"]
        yield Finding("device", "problem", said[-1])
    elif "GPU" in done.stdout:
        yield Finding("device", "ok", f"the worker computes on a GPU ({done.stdout.strip()})")
    elif config.worker.device == "cpu":
        yield Finding("device", "ok", "the worker computes on the CPU, as told")
    else:
        advice = "nothing, if the seconds below will do; else a GPU, and pip install '.[gpu]'"
        yield Finding("device", "warning", "TensorFlow finds no GPU: the CPU computes", advice)


def tell_device(wanted: str) -> None:
    """Write the device that a worker would take; end with words if there is none."""
    from nanostream.segmentation.inference import choose_device

    try:
        sys.stdout.write(choose_device(wanted))
    except NanostreamError as error:
        sys.exit(str(error))


def check_feedback(config: Config, _: Role) -> Iterator[Finding]:
    """Where SerialEM will look for results, and the Navigator file with its maps."""
    feedback = config.feedback
    if feedback.directory and (feedback.result_files or feedback.navigator_items != "off"):
        yield _of_feedback_folder(config)
    if feedback.navigator:
        try:
            items = read_navigator(Path(feedback.navigator))
        except NanostreamError as error:
            yield Finding("Navigator file", "problem", str(error))
        else:
            text = f"{feedback.navigator}: {len(items)} items"
            yield Finding("Navigator file", "ok", text)


def _of_feedback_folder(config: Config) -> Finding:
    name, folder = "feedback folder", Path(config.feedback.directory)
    there = _existing(folder)
    watched = config.watch.directory
    if watched and there.resolve().is_relative_to(Path(watched).resolve()):
        text = f"{folder} is in the watched folder; the doctor writes nothing there to try"
        if os.access(there, os.W_OK):
            return Finding(name, "warning", text, "choose another if SerialEM can reach one")
        return Finding(name, "problem", text, f"give this user the right to write into {there}")
    try:
        _try_to_write(there)
    except OSError as error:
        text = f"{there} cannot be written: {error.strerror}"
        return Finding(name, "problem", text, "give this user the right to write there")
    return Finding(name, "ok", f"{folder} can be written; SerialEM must see it under some name")


def check_chain(config: Config, role: Role, stop: Stop) -> Iterator[Finding]:
    """Simulated sections through agent, worker and sink, each a process, with this model."""
    if role in ("agent", "sink"):
        yield Finding("whole chain", "skipped", f"tried on the worker's machine, not as {role}")
        return
    if find_spec("tensorflow") is None:
        yield Finding("whole chain", "skipped", "it needs the worker, and so TensorFlow")
        return
    # Windows cannot delete what a process has open for a moment longer.
    with tempfile.TemporaryDirectory(prefix="nanostream-", ignore_cleanup_errors=True) as folder:
        yield from _chain(config, Path(folder).resolve(), stop)


def _chain(config: Config, folder: Path, stop: Stop) -> Iterator[Finding]:
    microscope, session = folder / "microscope", folder / "session"
    microscope.mkdir()
    settings = override(
        Config(worker=config.worker, delivery=config.delivery),
        watch={"directory": str(microscope), "poll_s": config.watch.poll_s},
        network=free_network(),
        sink={"session": str(session)},
    )
    start_s = time.monotonic()
    ready_s = math.nan
    snapshot: Snapshot | None = None

    def done(news: Snapshot, _: Mapping[str, int]) -> bool:
        nonlocal ready_s, snapshot
        snapshot = news
        if math.isnan(ready_s) and {"agent", "worker"} <= news.ready:
            ready_s = time.monotonic() - start_s
            pixels = (image for image, _ in demo_movie(_SECTIONS, shape=(1024, 1024), seed=0))
            pixel_size_nm = DemoMicrograph.load().pixel_size_nm
            play(pixels, microscope, interval_s=0.0, name="doctor", pixel_size_nm=pixel_size_nm)
        late = time.monotonic() - start_s > _LONGEST_CHAIN_S
        return late or news.stored + news.failed >= _SECTIONS

    try:
        run_session(settings, stop, show=False, done=done)
    except NanostreamError as error:
        yield Finding("whole chain", "problem", str(error), "mend what is said above first")
        return
    if snapshot is not None and not stop.is_set():
        yield from _of_chain(Session(session), snapshot, ready_s)


def _of_chain(session: Session, snapshot: Snapshot, ready_s: float) -> Iterator[Finding]:
    name, sections = "whole chain", session.sections
    if len(sections) < _SECTIONS:
        said = "; ".join(dict.fromkeys([*session.quarantine["reason"], *snapshot.messages]))
        text = said or f"no result within {_LONGEST_CHAIN_S:.0f} s"
        yield Finding(name, "problem", text, "nanostream demo shows the same at length")
        return
    if fell := [text for text in snapshot.messages if "ended with code" in text]:
        text = f"a section was stored, but {'; '.join(fell)}"
        yield Finding(name, "warning", text, "look into the logs of a nanostream demo --out DEMO")
        return
    row = sections.iloc[-1]
    took = ", ".join(f"{key[:-2]} {value:.3f}" for key, value in snapshot.last_timings_s.items())
    text = (
        f"a section of 1024 x 1024 was stored {row.stored_s - row.written_s:.2f} s after it was "
        f"saved, with {row['count']} particles"
    )
    yield Finding(name, "ok", text)
    text = f"{took} s; before, {ready_s:.1f} s until the worker was ready"
    yield Finding("its steps", "ok", text)


Check = Callable[[Config, Role], Iterator[Finding]]
CHECKS: tuple[tuple[tuple[Role, ...], Check], ...] = (
    (("all", "agent"), check_watched),
    (("all", "agent"), check_clock),
    (("all", "sink"), check_session),
    (("all", "sink"), check_feedback),
    (("all", "agent", "worker", "sink"), check_keys),
    (("all", "agent", "worker", "sink"), check_ports),
    (("all", "worker"), check_model),
    (("all", "worker"), check_device),
)

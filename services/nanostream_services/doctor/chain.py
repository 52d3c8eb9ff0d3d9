"""Simulated sections through the whole pipeline, with this model, on this machine."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nanostream.acquisition.simulator import DemoMicrograph, demo_movie, play
from nanostream.config import Config, override
from nanostream.errors import NanostreamError
from nanostream.records import Snapshot
from nanostream.results.session import Session
from nanostream.segmentation.engines import has_any_engine
from nanostream.transport.sockets import free_network
from nanostream_services.doctor.findings import Finding, Role
from nanostream_services.processes.lifecycle import Stop
from nanostream_services.quantities import counted
from nanostream_services.supervisor import Crash, run_session

__all__ = ["check_chain"]

_LONGEST_CHAIN_S = 180.0
#: The first pays for the network's compilation; the second is like every other.
_SECTIONS = 2


def check_chain(config: Config, role: Role, stop: Stop) -> Iterator[Finding]:
    """Simulated sections through agent, worker and sink, each a process, with this model."""
    if role in ("agent", "sink"):
        yield Finding("whole chain", "skipped", f"tried on the worker's machine, not as {role}")
        return
    if not has_any_engine():
        yield Finding("whole chain", "skipped", "it needs the worker, and so an engine")
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
        crashes = run_session(settings, stop, show=False, done=done)
    except NanostreamError as error:
        yield Finding("whole chain", "problem", str(error), "solve the problems above first")
        return
    if snapshot is not None and not stop.is_set():
        yield from _of_chain(Session(session), snapshot, crashes, ready_s)


def _of_chain(
    session: Session, snapshot: Snapshot, crashes: Sequence[Crash], ready_s: float
) -> Iterator[Finding]:
    name, sections = "whole chain", session.sections
    if len(sections) < _SECTIONS:
        reasons = "; ".join(dict.fromkeys([*session.quarantine["reason"], *snapshot.messages]))
        text = reasons or f"no result within {_LONGEST_CHAIN_S:.0f} s"
        yield Finding(name, "problem", text, "nanostream demo shows the same in more detail")
        return
    if crashes:
        text = f"a section was stored, but {'; '.join(map(str, crashes))}"
        advice = "run nanostream demo --out DEMO and read the logs in DEMO/session/logs"
        yield Finding(name, "warning", text, advice)
        return
    row = sections.iloc[-1]
    took = ", ".join(f"{key[:-2]} {value:.3f}" for key, value in snapshot.last_timings_s.items())
    text = (
        f"a section of 1024 x 1024 was stored {row.stored_s - row.written_s:.2f} s after it was "
        f"saved, with {counted(int(row['count']), 'particle')}"
    )
    yield Finding(name, "ok", text)
    text = f"in s: {took}; the worker was ready {ready_s:.1f} s after its start"
    yield Finding("its steps", "ok", text)

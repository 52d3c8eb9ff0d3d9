"""Time from the write of a section to its stored result, in a session of its own processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition.simulator import StackWriter
from nanostream.config import Config, as_toml, override
from nanostream.errors import NanostreamError, SessionError
from nanostream.results.session import Session
from nanostream.transport.sockets import free_network
from nanostream_services.bench.workload import PIXEL_SIZE_NM, micrograph
from nanostream_services.processes.lifecycle import Stop

__all__ = ["latencies_s"]

_IDLE_S = 2.0
_POLL_S = 0.1


def latencies_s(
    folder: Path, config: Config, side: int, count: int, every_s: float, stop: Stop
) -> NDArray[np.float64]:
    """Seconds of each section but the first from SerialEM's write of its header to the commit.

    The others follow when the first is stored: until then the session's processes are starting.

    Parameters
    ----------
    folder : Path
        New; for the watched folder and the session.
    config : Config
        Of the worker.
    side : int
        Of the sections, px.
    count : int
        How many.
    every_s : float
        From one to the next: more than a section takes, else they wait for one another.
    stop : Stop
        Looked at before each section.

    Raises
    ------
    NanostreamError
        If the session does not store them.
    """
    watched, session = folder / "microscope", folder / "session"
    watched.mkdir(parents=True)
    file = folder / "bench.toml"
    file.write_text(as_toml(override(config, network=free_network())), encoding="utf-8")
    command: list[object] = ["run", watched, "--out", session, "--config", file, "--plain"]
    command += ["--stop-when-idle", _IDLE_S + every_s]
    with (folder / "run.log").open("w", encoding="utf-8") as log:
        run = subprocess.Popen(
            [sys.executable, "-m", "nanostream_services", *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )

        def started() -> bool:
            return run.poll() is not None or _has_stored(session)

        try:
            written_s = _acquire(watched / "bench.mrc", side, count, every_s, started, stop)
            run.wait()
        finally:
            run.terminate()
            run.wait()
    sections = Session(session).sections
    if len(sections) < count and not stop.is_set():
        msg = f"the session stored {len(sections)} of {count} sections; see {folder / 'run.log'}"
        raise NanostreamError(msg)
    stored_s = sections.sort_values("z")["stored_s"].to_numpy(np.float64)
    return np.asarray(stored_s - written_s[: len(stored_s)], np.float64)[1:]


def _has_stored(session: Path) -> bool:
    """Whether a section is in a session, which may not be there yet."""
    with suppress(SessionError):
        return bool(Session(session).section_ids())
    return False


def _acquire(
    path: Path,
    side: int,
    count: int,
    every_s: float,
    started: Callable[[], bool],
    stop: Stop,
) -> NDArray[np.float64]:
    """Write sections as SerialEM does, at a pace; when the header of each was written."""
    written_s: list[float] = []
    pixels = [micrograph(side, seed=k) for k in range(min(count, 4))]
    with StackWriter(path, pixel_size_nm=PIXEL_SIZE_NM) as stack:
        for z in range(count):
            if stop.is_set():
                break
            steps = stack.append_steps(pixels[z % len(pixels)])
            written_s.extend(time.time() for step in steps if step == "header")
            time.sleep(every_s)
            while z == 0 and not (started() or stop.is_set()):
                time.sleep(_POLL_S)
    return np.array(written_s)

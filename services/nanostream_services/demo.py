"""A simulated SerialEM session through the real pipeline, with a truth to compare with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanostream.acquisition.simulator import DemoMicrograph, demo_movie
from nanostream.config import Config, Stream, override
from nanostream.errors import NanostreamError
from nanostream.records import Snapshot
from nanostream.results.session import Session
from nanostream.transport.sockets import free_network
from nanostream_services.processes.lifecycle import Stop
from nanostream_services.supervisor import run_session

__all__ = ["DEMO_SEED", "DemoResult", "play_demo", "run_demo"]

DEMO_SEED = 2020
_SECTIONS = 24
_INTERVAL_S = 0.6
_SHAPE = (896, 896)
_NAME = "demo"


@dataclass(frozen=True)
class DemoResult:
    """The session of the demo, and how well its masks agree with the simulated atoms."""

    session: Session
    dice: float
    sections: int


def run_demo(folder: Path, stop: Stop, *, plain: bool) -> DemoResult | None:
    """Play the demo; None if it was stopped.

    Parameters
    ----------
    folder : Path
        Gets ``microscope/`` (what SerialEM writes) and ``session/`` (the results).
    """
    folder = folder.resolve()
    microscope = folder / "microscope"
    microscope.mkdir(parents=True, exist_ok=True)
    config = override(
        Config(streams=(Stream(pattern="*.mrc"),)),
        watch={"directory": str(microscope), "poll_s": 0.5},
        network=free_network(),
        sink={"session": str(folder / "session")},
    )
    serialem = subprocess.Popen(
        [sys.executable, "-m", "nanostream_services", "simulate", str(microscope), "--demo"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )

    def done(snapshot: Snapshot, _: Mapping[str, int]) -> bool:
        if serialem.poll() not in (None, 0):
            msg = "the SerialEM stand-in failed; its message is above"
            raise NanostreamError(msg)
        return snapshot.stored + snapshot.failed >= _SECTIONS

    try:
        run_session(config, stop, plain=plain, done=done)
    finally:
        serialem.terminate()
        serialem.wait()
    if stop.is_set():
        return None
    session = Session(folder / "session")
    return DemoResult(session, _dice(session), _SECTIONS)


def play_demo(folder: Path) -> None:
    """Write the demo's movie as SerialEM would, at its pace."""
    from nanostream.acquisition.simulator import play

    play(
        (pixels for pixels, _ in demo_movie(_SECTIONS, shape=_SHAPE, seed=DEMO_SEED)),
        folder,
        interval_s=_INTERVAL_S,
        name=_NAME,
        pixel_size_nm=DemoMicrograph.load().pixel_size_nm,
    )


def _dice(session: Session) -> float:
    """Mean Dice coefficient of the stored masks with the atoms that were simulated."""
    scores = []
    for z, (_, truth) in enumerate(demo_movie(_SECTIONS, shape=_SHAPE, seed=DEMO_SEED)):
        found, real = session.labels(f"{_NAME}.mrc#{z}") > 0, truth > 0
        scores.append(2 * np.sum(found & real) / max(1, found.sum() + real.sum()))
    return float(np.mean(scores))

"""All that ``nanostream bench`` measures, kept to be compared with the next time."""

from __future__ import annotations

import math
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import platformdirs
from msgspec import Struct

from nanostream import __version__
from nanostream.analysis import Analyzer
from nanostream.config import Config, Worker
from nanostream_services.bench.pipeline import latencies_s
from nanostream_services.bench.published import MISSING, Published
from nanostream_services.bench.stages import sections_through
from nanostream_services.bench.workload import micrograph
from nanostream_services.processes.lifecycle import Stop

__all__ = ["Bench", "Figures", "Latency", "keep", "last_kept", "measure"]

#: Seconds that the sections of one size may take, about; each size has three at least.
_LONG_S, _QUICK_S = 20.0, 6.0
_FEWEST, _MOST = 3, 30
#: No machine is thought to segment more, so that no more sections are written than are needed.
_PX_PER_S = 2e7
#: Sections of a session whose latencies are measured, and the most time for them.
_SESSION, _SESSION_S = 40, 40.0


class Latency(Struct, frozen=True):
    """Quantiles of the time from SerialEM's write of a section to its stored result."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    sections: int


class Figures(Struct, frozen=True, kw_only=True):
    """One size of micrograph; medians.

    Attributes
    ----------
    section_ms : float
        From the file to the committed result.
    reference_ms : float or None
        The published workflow on the same pixels, measured in turn; None where its packages are
        not installed.
    speedup, inference_speedup : float or None
        How many times faster: all of it, and the network alone.
    stages : dict
        ``section_ms`` by stage, in ms.
    reference_stages : dict
        The same of the published workflow.
    particles : int
        Found in a section.
    sections : int
        Measured.
    """

    section_ms: float
    stages: dict[str, float]
    engine: str
    precision: str
    particles: int
    sections: int
    reference_ms: float | None = None
    speedup: float | None = None
    inference_speedup: float | None = None
    reference_stages: dict[str, float] = {}
    latency: Latency | None = None


class Bench(Struct, frozen=True, kw_only=True):
    """Figures of a machine, by side of the micrographs in px."""

    sizes: dict[str, Figures]
    model: str
    machine: str
    cores: int
    version: str
    time_s: float


def measure(
    worker: Worker,
    sizes: Sequence[int],
    stop: Stop,
    *,
    quick: bool,
    progress: Callable[[int, int, str], None],
) -> Bench:
    """Figures of this machine.

    Parameters
    ----------
    worker : Worker
        Model, engine, device, precision.
    sizes : sequence of int
        Sides in px, multiples of 512.
    stop : Stop
        Looked at between sections: what is measured by then is in the figures.
    quick : bool
        Fewer sections, and no session for the latency.
    progress : callable
        Called with (steps done, steps in all, what is measured).

    Raises
    ------
    ModelError, ConfigError
        If the model or the device cannot be used.
    """
    progress(0, len(sizes), "loading")
    analyzer = Analyzer(worker)
    published = None if MISSING else Published()
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory(prefix="nanostream-bench-") as temporary:
        for done, side in enumerate(sizes):
            if stop.is_set():
                break
            progress(done, len(sizes), f"{side} x {side}")
            seconds = _QUICK_S if quick else _LONG_S
            figures = _of_size(Path(temporary), analyzer, published, side, seconds)
            if not quick and not stop.is_set():
                progress(done, len(sizes), f"{side} x {side}, a session")
                figures = _with_latency(Path(temporary), worker, side, figures, stop)
            found[str(side)] = figures
    progress(len(sizes), len(sizes), "")
    return Bench(
        sizes=found,
        model=analyzer.card.name,
        machine=f"{platform.system()} {platform.machine()}, {_processor()}",
        cores=os.cpu_count() or 1,
        version=__version__,
        time_s=time.time(),
    )


def _of_size(
    folder: Path, analyzer: Analyzer, published: Published | None, side: int, seconds: float
) -> Figures:
    """Ours and theirs in turn, so that what else the machine does is in both."""
    pixels = micrograph(side, seed=1)
    if published:
        published(pixels)  # memory is found, the network compiled
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    start = time.perf_counter()
    most = max(_FEWEST, min(_MOST, round(seconds * _PX_PER_S / side**2)))
    for times in sections_through(folder, analyzer, side, most):
        ours.append(times)
        if published:
            theirs.append(published(pixels))
        if len(ours) >= _FEWEST and time.perf_counter() - start > seconds:
            break
    stages = _medians(ours)
    section_ms, particles = stages.pop("all_s"), stages.pop("particles")
    engine = analyzer.engine
    figures = Figures(
        section_ms=section_ms,
        stages={name.removesuffix("_s"): ms for name, ms in stages.items()},
        engine=f"{engine.name} {engine.version}, {engine.device}",
        precision="mixed" if analyzer.settings.mixed else "float32",
        particles=round(particles / 1000),
        sections=len(ours),
    )
    if not theirs:
        return figures
    reference = _medians(theirs)
    reference_ms = float(np.median([1000 * sum(times.values()) for times in theirs]))
    return msgspec.structs.replace(
        figures,
        reference_ms=reference_ms,
        speedup=reference_ms / section_ms,
        inference_speedup=reference["predict_s"] / stages["predict_s"],
        reference_stages={name.removesuffix("_s"): ms for name, ms in reference.items()},
    )


def _medians(times: Sequence[dict[str, float]]) -> dict[str, float]:
    """Median of each stage, in ms."""
    return {name: float(1000 * np.median([one[name] for one in times])) for name in times[0]}


def _with_latency(folder: Path, worker: Worker, side: int, figures: Figures, stop: Stop) -> Figures:
    every_s = 1.5 * figures.section_ms / 1000 + 0.05
    count = max(8, min(_SESSION, math.floor(_SESSION_S / every_s)))
    late_s = latencies_s(
        folder / f"session-{side}", Config(worker=worker), side, count, every_s, stop
    )
    if not late_s.size:
        return figures
    p50, p95, p99 = (float(1000 * q) for q in np.quantile(late_s, (0.5, 0.95, 0.99)))
    return msgspec.structs.replace(figures, latency=Latency(p50, p95, p99, len(late_s)))


def _processor() -> str:
    """Name of the processor, as far as the system says it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "processor not known"


def keep(bench: Bench) -> Path:
    """The file of a measurement, written beside those before."""
    folder = _kept()
    folder.mkdir(parents=True, exist_ok=True)
    when = time.strftime("%Y%m%d-%H%M%S", time.localtime(bench.time_s))
    path = folder / f"bench-{when}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(bench), indent=2) + b"\n")
    return path


def last_kept(bench: Bench) -> Bench | None:
    """The newest measurement before, of the same model on the same machine."""
    for path in sorted(_kept().glob("bench-*.json"), reverse=True):
        try:
            before = msgspec.json.decode(path.read_bytes(), type=Bench)
        except (OSError, msgspec.DecodeError):
            continue
        if (before.model, before.machine) == (bench.model, bench.machine):
            return before
    return None


def _kept() -> Path:
    return platformdirs.user_data_path("nanostream") / "bench"

"""One section after the other from a file to a committed result, stage by stage."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from nanostream.acquisition.frames import read_section
from nanostream.acquisition.simulator import StackWriter
from nanostream.analysis import Analyzer
from nanostream.config import Config
from nanostream.records import Result, SectionId
from nanostream.results.store import Store
from nanostream_services.bench.workload import PIXEL_SIZE_NM, micrograph

__all__ = ["sections_through"]


def sections_through(
    folder: Path, analyzer: Analyzer, side: int, count: int
) -> Iterator[dict[str, float]]:
    """Seconds by stage of each section, and how many particles were found.

    Parameters
    ----------
    folder : Path
        Where the file and the session are until the last section, or until it is closed.
    analyzer : Analyzer
    side : int
        Of the sections, px.
    count : int
        How many are measured, after one that is not: memory is found and the network compiled
        with it.
    """
    with tempfile.TemporaryDirectory(dir=folder) as work:
        path = Path(work) / "bench.mrc"
        with StackWriter(path, pixel_size_nm=PIXEL_SIZE_NM) as stack:
            for z in range(count + 1):
                stack.append(micrograph(side, seed=z))
        with Store(Path(work) / "session", Config(worker=analyzer.settings)) as store:
            for z in range(count + 1):
                times = _through(path, SectionId(path.name, z), analyzer, store)
                if z:
                    yield times


def _through(path: Path, section: SectionId, analyzer: Analyzer, store: Store) -> dict[str, float]:
    start = perf_counter()
    frame = read_section(path, section.z, section=section)
    read = perf_counter()
    found = analyzer(frame)
    result = Result.of(frame, found, versions=analyzer.versions)
    analyzed = perf_counter()
    store.commit(result)
    end = perf_counter()
    stages = {"read_s": read - start} | found.timings_s
    stages["pack_s"] = analyzed - read - sum(found.timings_s.values())
    return stages | {
        "store_s": end - analyzed,
        "all_s": end - start,
        "particles": float(found.summary.count),
    }

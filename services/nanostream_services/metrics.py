"""Numbers of a session as Prometheus names them.

Pure: a snapshot in, families of metrics out. Names follow
https://prometheus.io/docs/practices/naming/: base units (seconds, metres, ratios), ``_total`` for
what only grows. No label is made of a file or a section, of which there is no end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from nanostream.records import Severity, Snapshot, State

__all__ = ["SILENT_S", "families"]

#: A sink publishes four times a second: what is older is not of now.
SILENT_S = 5.0

_NM = 1e-9


def families(found: Snapshot | None, age_s: float) -> Iterator[Metric]:
    """Metrics of a session's newest snapshot.

    Parameters
    ----------
    found : Snapshot or None
        None as long as none was heard.
    age_s : float
        Since it was heard; after `SILENT_S` only ``nanostream_up`` is left, 0.
    """
    up = found is not None and age_s <= SILENT_S
    yield _gauge("up", "1 if the session's sink is heard, else 0.", float(up))
    if found is None or not up:
        return
    yield from _of_sections(found)
    yield from _of_particles(found)
    yield from _of_processes(found)
    yield from _of_alarms(found)


def _of_sections(found: Snapshot) -> Iterator[Metric]:
    yield _counter("sections_stored", "Sections with a stored result.", found.stored)
    yield _gauge("sections_seen", "Sections that the agent has found.", found.seen)
    yield _gauge("sections_waiting", "Sections that wait for a worker.", found.waiting)
    yield _gauge("sections_in_work", "Sections that workers have.", found.in_work)
    yield _gauge("sections_quarantined", "Sections that were given up.", found.failed)
    yield _gauge("longest_wait_seconds", "Age of the oldest waiting section.", found.longest_wait_s)
    yield _gauge(
        "latency_seconds", "From writing to storing, of the last section.", found.latency_s
    )
    steps = GaugeMetricFamily(
        "nanostream_step_seconds", "Duration of a step of the last section.", labels=["step"]
    )
    for step, seconds in found.last_timings_s.items():
        steps.add_metric([step.removesuffix("_s")], seconds)
    yield steps


def _of_particles(found: Snapshot) -> Iterator[Metric]:
    yield _counter(
        "particles", "Particles found, in a movie each in each frame.", found.particles_total
    )
    yield _counter("tracks", "Identities in movies.", found.tracks_total)
    if (last := found.last_summary) is not None:
        yield _gauge("section_particles", "Particles of the last section.", last.count)
        yield _gauge("section_area_ratio", "Covered part of the last section.", last.area_fraction)
        yield _gauge(
            "section_median_diameter_meters",
            "Median equivalent circular diameter of the last section.",
            last.median_diameter_nm * _NM,
        )
    if found.population is not None and found.population.unit == "nm":
        sizes = GaugeMetricFamily(
            "nanostream_diameter_meters",
            "Median diameter of the session, each particle once, and its 95 % interval.",
            labels=["bound"],
        )
        population = found.population
        for bound, value in (
            ("low", population.d50_low),
            ("median", population.d50),
            ("high", population.d50_high),
        ):
            if math.isfinite(value):
                sizes.add_metric([bound], value * _NM)
        yield sizes


def _of_processes(found: Snapshot) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "nanostream_processes", "Processes that are heard, by their part.", labels=["role"]
    )
    heard: dict[str, int] = {"agent": 0, "worker": 0, "sink": 0}
    for process in found.health:
        alive = process.state not in (State.SILENT, State.CRASHED)
        heard[process.role] = heard.get(process.role, 0) + alive
    for role, count in heard.items():
        up.add_metric([role], count)
    yield up


def _of_alarms(found: Snapshot) -> Iterator[Metric]:
    counts = GaugeMetricFamily(
        "nanostream_alarms", "Alarms that last and are not acknowledged.", labels=["severity"]
    )
    for severity in Severity:
        lasting = (a for a in found.alarms if a.severity == severity and not a.acknowledged)
        counts.add_metric([severity.value], sum(1 for _ in lasting))
    yield counts
    each = GaugeMetricFamily(
        "nanostream_alarm", "1 for each alarm that lasts.", labels=["name", "severity"]
    )
    for alarm in found.alarms:
        each.add_metric([alarm.name, alarm.severity.value], 1.0)
    yield each


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"nanostream_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"nanostream_{name}", text, value=value)

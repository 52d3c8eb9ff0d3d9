"""Metrics of a session: as Prometheus' own library writes and reads them."""

import json
import math
import re

import pytest

from nanostream.config.examples import find_example
from nanostream.records import Alarm, Health, Severity, Snapshot, State, Statistics, Summary

pytest.importorskip("prometheus_client", reason="the extra [metrics] is not installed")
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from nanostream_services.metrics import SILENT_S, families

SNAPSHOT = Snapshot(
    session="/data/s",
    time_s=1e9,
    seen=12,
    stored=9,
    waiting=2,
    in_work=1,
    latency_s=0.25,
    last_summary=Summary(5, 1, 0.125, 90.0, 88.0, 2.5, 2.4),
    last_timings_s={"predict_s": 0.2},
    particles_total=50,
    population=Statistics(count=40, unit="nm", d50=2.4, d50_low=2.3, d50_high=2.6),
    health=(
        Health("agent", "agent", State.WATCHING, 0.1),
        Health("w1", "worker", State.SILENT, 60.0),
        Health("w2", "worker", State.READY, 0.1),
    ),
    alarms=(
        Alarm("not storing", Severity.PROBLEM, "the disk is full"),
        Alarm("quarantine", Severity.WARNING, "1 section", acknowledged=True),
    ),
)


class Served:
    def __init__(self, found, age_s):
        self.found, self.age_s = found, age_s

    def collect(self):
        return families(self.found, self.age_s)


def read(found, age_s=0.0):
    """Samples by name and labels, as a server of Prometheus takes them from the text."""
    registry = CollectorRegistry()
    registry.register(Served(found, age_s))
    text = generate_latest(registry).decode()
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_numbers_of_a_session_in_base_units():
    samples = read(SNAPSHOT)
    assert samples["nanostream_up",] == 1
    assert samples["nanostream_sections_stored_total",] == 9
    assert samples["nanostream_sections_waiting",] == 2
    assert samples["nanostream_latency_seconds",] == 0.25
    assert samples["nanostream_step_seconds", "predict"] == 0.2
    assert samples["nanostream_section_area_ratio",] == 0.125
    assert samples["nanostream_section_median_diameter_meters",] == pytest.approx(2.4e-9)
    assert samples["nanostream_diameter_meters", "high"] == pytest.approx(2.6e-9)
    assert samples["nanostream_processes", "worker"] == 1
    assert samples["nanostream_processes", "sink"] == 0
    assert samples["nanostream_alarms", "problem"] == 1
    assert samples["nanostream_alarms", "warning"] == 0  # somebody has seen it
    assert samples["nanostream_alarm", "quarantine", "warning"] == 1


@pytest.mark.parametrize(("found", "age_s"), [(None, math.inf), (SNAPSHOT, SILENT_S + 1)])
def test_what_is_not_of_now_is_not_served(found, age_s):
    assert read(found, age_s) == {("nanostream_up",): 0}


def test_a_section_without_a_pixel_size_has_no_length():
    px = Statistics(count=3, unit="px", d50=20.0)
    samples = read(Snapshot(session="s", time_s=0.0, population=px))
    assert not [name for name, *_ in samples if name.endswith("_meters")]


@pytest.mark.parametrize("name", ["grafana-dashboard.json", "prometheus-alerts.yml"])
def test_dashboard_and_rules_ask_for_metrics_that_there_are(name):
    known = {name for name, *_ in read(SNAPSHOT)} | {"nanostream_tracks_total"}
    text = find_example(name).file.read_text("utf-8")
    asked = set(re.findall(r"nanostream_[a-z_]+", text))
    assert asked
    assert asked <= known


def test_the_dashboard_has_a_panel_for_each_number_once():
    dashboard = json.loads(find_example("grafana-dashboard.json").file.read_text("utf-8"))
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) == 12
    taken = [
        (x, y)
        for grid in (panel["gridPos"] for panel in panels)
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(set(taken)) == len(taken)  # none lies over another
    assert max(x for x, _ in taken) < 24

"""Facts that the sink's observer takes from results."""

import math

import pytest
from msgspec.structs import replace

from nanostream.config import Config
from nanostream.records import Snapshot
from nanostream.results.store import Store
from nanostream_services.alarms import Change, conditions
from nanostream_services.processes.observer import Observer
from tests import factories


@pytest.fixture
def observer(tmp_path):
    with Store(tmp_path / "session", Config()) as store:
        yield Observer(store.folder, Config())


def a_result(number, intensity, count=8):
    corners = ((10, 9 * place) for place in range(1, count + 1))
    labels = factories.squares(*corners, side=5, shape=(40, 80))
    result = factories.a_result(labels, f"a.mrc#{number}")
    summary = replace(result.summary, mean_intensity=intensity)
    return replace(result, summary=summary)


def facts_of(observer):
    return observer.facts(Snapshot(session="s", time_s=0.0), 0.0)


def test_intensity_and_count_are_compared_with_those_before(observer):
    for number in range(10):
        observer.add(a_result(number, 100.0))
    for number in range(10, 12):
        observer.add(a_result(number, 10.0, count=1))
        assert facts_of(observer).intensity == Change(100.0, 100.0)  # one good one is enough
    observer.add(a_result(12, 12.0, count=2))
    facts = facts_of(observer)
    assert (facts.intensity, facts.count) == (Change(12.0, 100.0), Change(2.0, 8.0))
    assert {one.name for one in conditions(facts)} >= {"intensity fallen", "count fallen"}


def test_a_few_sections_say_nothing(observer):
    for number in range(5):
        observer.add(a_result(number, 100.0 / (number + 1)))
    assert math.isnan(facts_of(observer).intensity.lately)

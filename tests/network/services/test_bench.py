"""``nanostream bench`` at small sizes: every figure is there, and measured."""

import msgspec
import pytest
from typer.testing import CliRunner

pytest.importorskip("tensorflow", reason="the extra [worker] is not installed")

from nanostream.errors import ConfigError
from nanostream_services.bench import measurement
from nanostream_services.bench.workload import micrograph
from nanostream_services.cli import app


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(measurement, "_kept", lambda: tmp_path / "kept")
    return tmp_path / "kept"


def bench(*words):
    return CliRunner().invoke(app, ["bench", "--quick", *words], env={"COLUMNS": "140"})


def test_json_has_times_of_both_and_their_ratios(kept):
    done = bench("--sizes", "512,1024", "--json", "--model", "groschner2020")
    assert done.exit_code == 0, done.output
    found = msgspec.json.decode(done.stdout)
    assert found["model"] == "groschner2020"
    assert list(found["sizes"]) == ["512", "1024"]
    for of in found["sizes"].values():
        assert of["speedup"] == pytest.approx(of["reference_ms"] / of["section_ms"])
        ratio = of["reference_stages"]["predict"] / of["stages"]["predict"]
        assert of["inference_speedup"] == pytest.approx(ratio)
        # A median of sums is about the sum of medians.
        assert sum(of["stages"].values()) == pytest.approx(of["section_ms"], rel=0.5)
        assert set(of["stages"]) == {
            *("read", "filter", "predict", "label", "measure", "pack", "store")
        }
        assert (of["precision"], of["latency"]) == ("float32", None)
    assert found["sizes"]["1024"]["particles"] > found["sizes"]["512"]["particles"] > 0
    assert len(list(kept.iterdir())) == 1


def test_a_sentence_says_what_it_keeps_up_with_and_how_it_was_before():
    assert bench("--sizes", "512").exit_code == 0
    done = bench("--sizes", "512")
    assert "keeps up with one 512 x 512 image every 0." in done.stdout
    assert "512 px: against the published workflow " in done.stdout
    refused = bench("--sizes", "500")
    assert isinstance(refused.exception, ConfigError)
    assert "--sizes 500: give multiples of 512" in str(refused.exception)


def test_without_the_published_workflows_packages_its_own_times_are_there(monkeypatch):
    monkeypatch.setattr(measurement, "MISSING", ("scikit-image",))
    done = bench("--sizes", "512", "--json")
    of = msgspec.json.decode(done.stdout)["sizes"]["512"]
    assert of["reference_ms"] is None
    assert of["section_ms"] > 0


def test_a_micrograph_of_any_size_is_the_demos_without_seams():
    large = micrograph(2048, seed=1)
    assert large.shape == (2048, 2048)
    left, right = large[:, 1023].astype(float), large[:, 1024].astype(float)
    assert abs(left.mean() - right.mean()) < 0.05 * large.std()

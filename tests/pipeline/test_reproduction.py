"""The paper's experiment as one command, on a few small images: from nothing to the page."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from nanostream.segmentation.models import ModelCard

pytest.importorskip("tensorflow", reason="the extra [worker] is not installed")
pytest.importorskip("abtem", reason="the extra [simulate] is not installed")
pytest.importorskip("matplotlib", reason="is not installed")

ROOT = Path(__file__).resolve().parents[2]
HANGS_S = 1800  # half a minute of work or more, twice, where nothing else runs


def reproduce(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/reproduce_paper.py", "--work", str(folder / "work")]
    command += ["--out", str(folder / "out"), "--quick", "--jobs", "2", *options]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )


@pytest.mark.timeout(3 * HANGS_S)
def test_the_experiment_runs_from_nothing_and_again_without_work(tmp_path: Path) -> None:
    first = reproduce(tmp_path)
    assert first.returncode == 0, first.stderr

    out, work = tmp_path / "out", tmp_path / "work"
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    tested = {(one["method"], one["tested_on"]) for one in results["scores"]}
    assert len(tested) == len(results["scores"]) == 20
    assert {("combined", "Pd"), ("Bragg filter", "CdSe"), ("shipped default", "Au")} <= tested
    assert all(0 <= one["accuracy"] <= 1 for one in results["scores"])
    assert len(results["findings"]) == 4
    page = (out / "README.md").read_text(encoding="utf-8")
    shown = [line.split("](")[1].rstrip(")") for line in page.splitlines() if line[:2] == "!["]
    assert len(shown) == 6
    assert all((out / name).stat().st_size < 300_000 for name in shown)
    for name in ("Au-only", "CdSe-only", "combined"):
        folder = work / "networks" / name
        card = msgspec.json.decode((folder / "card.json").read_bytes(), type=ModelCard)
        assert (folder / card.weights).is_file()
        assert card.normalization == "dataset-max"

    made = [*work.glob("scenes/*/*.npz"), *work.glob("networks/*/*.h5"), work / "bragg.json"]
    before = {path: path.stat().st_mtime_ns for path in made}
    assert len(before) == 6 + 6 + 2 + 3 + 1
    again = reproduce(tmp_path)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in made} == before
    repeated = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert repeated["scores"] == results["scores"]

    other = reproduce(tmp_path, "--seed", "1")
    assert other.returncode == 1
    assert "begun with other settings" in other.stderr

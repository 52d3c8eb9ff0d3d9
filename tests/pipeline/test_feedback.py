"""SerialEM's scripts against the live pipeline: they wait, are told, and give up with a word."""

import json
import os
import re
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from nanostream.acquisition.simulator import DemoMicrograph, StackWriter, demo_movie
from tests.pipeline.running import RunningSession
from tests.serialem_emulation import Serialem
from tests.waiting import LONGEST_S

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
]

SCRIPTS = Path(__file__).parents[2] / "configs" / "serialem"
PIXEL_SIZE_NM = DemoMicrograph.load().pixel_size_nm


def micrographs(count, shape=(704, 704)):
    return [pixels for pixels, _ in demo_movie(count, shape=shape, seed=7)]


def script(name, **edited):
    """A shipped script, edited at the top as its user would."""
    text = (SCRIPTS / name).read_text("ascii")
    for key, value in edited.items():
        text, count = re.subn(rf"^{key}( @?=) .*$", rf"{key}\1 {value}", text, flags=re.MULTILINE)
        assert count == 1
    return text


#: Result files beside the images.
BESIDE = '[feedback]\ndirectory = "microscope"\n'


def test_the_script_run_by_serialem_is_told_of_each_section_it_saves(tmp_path):
    with RunningSession(tmp_path, config=BESIDE) as running:
        running.watch.joinpath("day 1").mkdir()
        path = running.watch / "day 1" / "gold.mrc"
        with StackWriter(path, pixel_size_nm=PIXEL_SIZE_NM) as stack:
            # Not square: what is counted from the top must not be counted from the side.
            serialem = Serialem(stack, iter(micrographs(4, shape=(704, 832))))
            for _ in range(2):
                serialem.run(script("nanostream_feedback.txt", npSteps=240))
            serialem.run(script("nanostream_condition.txt", npSteps=240, npLeast=9999, npTries=2))
        running.wait_for_stored(4)
        running.stop()
    table = running.session.sections.sort_values("z")
    told = [line for line in serialem.log if " particles in section " in line]
    assert told == [
        f"nanostream: {count} particles in section {z}, mean diameter {_as_number(mean_nm)} nm"
        for z, count, mean_nm in table[["z", "count", "mean_diameter_nm"]].itertuples(index=False)
    ]
    assert len(told) == 4
    assert serialem.log[-1] == "nanostream: not enough, going on to the next place"
    assert serialem.defocus_um == pytest.approx(0)
    assert_positions(path.with_name("gold.mrc.z1.npres"), running.session, "day 1/gold.mrc#1")


def _as_number(value):
    """As the file has it, and then as a variable of SerialEM's that was assigned with =."""
    return f"{float(f'{value:.6g}'):g}"


def assert_positions(file, session, section):
    """A pixel of each particle's label is where its row says, counted from the top."""
    labels = np.flipud(session.labels(section))  # as SerialEM shows it
    particles = session.particles.query("section == @section").set_index("label")
    rows = [line.split() for line in file.read_text().splitlines() if line.startswith("p ")]
    assert len(rows) == len(particles) > 0
    for label, particle in particles.iterrows():
        rows_there, columns_there = np.nonzero(labels == label)
        x, y = columns_there.mean() + 0.5, rows_there.mean() + 0.5
        nearest = min(rows, key=lambda row: np.hypot(float(row[1]) - x, float(row[2]) - y))
        assert np.hypot(float(nearest[1]) - x, float(nearest[2]) - y) < 0.02
        assert float(nearest[3]) == pytest.approx(particle.diameter_nm, abs=1e-3)


def test_the_script_is_told_although_the_sink_is_killed_while_it_waits(tmp_path):
    with RunningSession(tmp_path, config=BESIDE) as running:
        with StackWriter(running.watch / "gold.mrc", pixel_size_nm=PIXEL_SIZE_NM) as stack:
            serialem = Serialem(stack, iter(micrographs(1)))
            killed = []

            def kill(line):
                if line.startswith("Delay") and not killed:
                    killed.append(running.kill("sink"))

            serialem.run(script("nanostream_feedback.txt", npSteps=240), before_line=kill)
        running.stop()
    assert killed
    assert " particles in section 0" in serialem.log[0]


def test_a_sink_killed_between_commit_and_file_makes_the_file_when_it_is_back(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("NANOSTREAM_FAILPOINTS", "sink.acked")
    with RunningSession(tmp_path) as running:
        with StackWriter(running.watch / "gold.mrc", pixel_size_nm=PIXEL_SIZE_NM) as stack:
            stack.append(micrographs(1)[0])
        result = running.out / "feedback" / "gold.mrc.z0.npres"
        running.wait_until(result.exists, "the result file")
        assert "killed at sink.acked" in running.logs()
        running.stop()
    assert result.read_text().endswith("end\n")
    assert running.stored() == 1


def test_a_section_that_cannot_be_analysed_is_told_with_the_reason(tmp_path):
    config = f"{BESIDE}[delivery]\nattempts = 1\n"
    with RunningSession(tmp_path, config=config) as running, ExitStack() as held:
        held.enter_context(running.before_work())
        path = running.watch / "gold.mrc"
        with StackWriter(path, pixel_size_nm=PIXEL_SIZE_NM) as stack:
            serialem = Serialem(stack, iter(micrographs(1)))

            def hide(line):  # before a worker gets it
                if line.startswith("Delay") and path.exists():
                    running.wait_until(lambda: running.found() == 1, "the agent to see it")
                    path.rename(path.with_suffix(".away"))
                    held.close()

            serialem.run(script("nanostream_feedback.txt", npSteps=240), before_line=hide)
        running.stop()
    assert serialem.log[0].startswith("nanostream gave section 0 up: reason")


#: What nanostream_wait.py needs of SerialEM's module; each call is written down.
FAKE_SERIALEM = """
import json, os
from contextlib import ExitStack
from pathlib import Path
import numpy as np
from nanostream.acquisition.simulator import StackWriter

_path = Path(os.environ["STACK"])
_stack = StackWriter(_path, pixel_size_nm=float(os.environ["PIXEL_SIZE_NM"])).__enter__()
_log = Path(os.environ["LOG"])

def _note(*call):
    with _log.open("a") as file:
        file.write(json.dumps(call) + chr(10))

def ReportCurrentFilename():
    return "D:" + chr(92) + "data" + chr(92) + _path.name

def ReportFileZsize():
    return float(_stack.sections)

def Record():
    _note("Record")

def S():
    _stack.append(np.load(os.environ["IMAGE"]))

def Echo(text):
    _note("Echo", text)

def AddImagePosAsNavPoint(buffer, x, y):
    _note("AddImagePosAsNavPoint", buffer, x, y)
"""


class Scope:
    """SerialEM's Python as a process of its own."""

    def __init__(self, folder, watch):
        self.folder = folder
        (folder / "sem").mkdir()
        (folder / "sem" / "serialem.py").write_text(FAKE_SERIALEM)
        np.save(folder / "image.npy", micrographs(1)[0])
        self.environment = os.environ | {
            "STACK": str(watch / "gold.mrc"),
            "LOG": str(folder / "calls.log"),
            "IMAGE": str(folder / "image.npy"),
            "PIXEL_SIZE_NM": str(PIXEL_SIZE_NM),
        }

    def run(self, text, *arguments, in_serialem=True):
        path = self.folder / "script.py"
        path.write_text(text)
        added = {"PYTHONPATH": str(self.folder / "sem")} if in_serialem else {}
        return subprocess.run(
            [sys.executable, str(path), *map(str, arguments)],
            env=self.environment | added,
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )

    def calls(self):
        return [json.loads(line) for line in (self.folder / "calls.log").read_text().splitlines()]


def queries_port(running):
    config = json.loads((running.out / "config.json").read_text())
    return int(config["network"]["queries_port"])


def test_serialems_python_is_told_over_the_query_port(tmp_path):
    with RunningSession(tmp_path) as running:
        running.wait_for_ready("sink")
        address = f'"tcp://127.0.0.1:{queries_port(running)}"'
        scope = Scope(tmp_path, running.watch)
        text = script("nanostream_wait.py", ADDRESS=address, NAVIGATOR_POINTS=2)
        done = scope.run(text)
        assert done.returncode == 0, done.stderr
        # The same file, asked for from a command line.
        outside = scope.run(text, "Z:/elsewhere/gold.mrc", 0, in_serialem=False)
        late = scope.run(
            script("nanostream_wait.py", ADDRESS=address, TIME_LIMIT_S=0.5),
            *("gold.mrc", 7),
            in_serialem=False,
        )
        running.stop()
    (section,) = running.session.sections[["mean_diameter_nm"]].itertuples(index=False)
    particles = running.session.particles.sort_values("mean_probability", ascending=False)
    record, echo, *points = scope.calls()
    assert record == ["Record"]
    count = running.session.sections["count"][0]
    assert echo[1] == (
        f"nanostream: {count} particles in section 0, "
        f"mean diameter {section.mean_diameter_nm:.2f} nm"
    )
    best = particles.iloc[0]
    assert len(points) == min(2, count) > 0
    assert points[0] == [
        *("AddImagePosAsNavPoint", "A"),
        *(pytest.approx(best.x + 0.5), pytest.approx(704 - 0.5 - best.y)),
    ]
    assert outside.returncode == 0, outside.stderr
    assert outside.stdout.splitlines()[0] == echo[1]
    assert len(outside.stdout.splitlines()) == 1 + count
    assert (late.returncode, late.stdout) == (1, "nanostream: no result within 0.5 s\n")


def test_serialems_python_gives_up_when_nobody_answers(tmp_path):
    scope = Scope(tmp_path, tmp_path)
    text = script("nanostream_wait.py", ADDRESS='"tcp://127.0.0.1:9"', TIME_LIMIT_S=1.0)
    done = scope.run(text)
    assert (done.returncode, done.stderr) == (0, "")
    assert scope.calls()[-1] == ["Echo", "nanostream: no result within 1 s"]


def test_serialems_python_is_told_although_the_sink_is_killed_while_it_waits(tmp_path):
    with RunningSession(tmp_path) as running:
        running.wait_for_ready("sink")
        address = f'"tcp://127.0.0.1:{queries_port(running)}"'
        scope = Scope(tmp_path, running.watch)
        timer = threading.Timer(2.5, running.kill, ["sink"])
        timer.start()
        done = scope.run(script("nanostream_wait.py", ADDRESS=address))
        timer.join()
        running.stop()
    assert done.returncode == 0, done.stderr
    assert " particles in section 0" in scope.calls()[-1][1]

"""The scripts in configs/serialem, run line by line by the emulation of SerialEM."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nanostream.acquisition.simulator import StackWriter
from nanostream.records import Measured, SectionId, Summary
from nanostream.results.outcomes import Outcome, Particle
from nanostream.results.result_files import publish, result_text
from tests.serialem_emulation import ScriptError, Serialem

SCRIPTS = Path(__file__).parents[3] / "configs" / "serialem"
FEEDBACK = (SCRIPTS / "nanostream_feedback.txt").read_text("ascii")
CONDITION = (SCRIPTS / "nanostream_condition.txt").read_text("ascii")


class Scene:
    """A camera, an open file, and results that come after so many looks of the script."""

    def __init__(self, folder, counts, *, late=2, mdoc=True):
        self.folder, self.late = folder, late
        self.stack = StackWriter(folder / "my gold.mrc", mdoc=mdoc).__enter__()
        images = (np.full((8, 8), z, np.int16) for z in range(1000))
        self.counts = iter(counts)
        self.looks = 0
        self.serialem = Serialem(self.stack, images, sleep=self.look)
        self.ids = 100.0

    def run(self, script, **edited):
        for name, value in edited.items():
            assert f"\n{name} " in script
            script = "\n".join(
                f"{name} {line.split()[1]} {value}"
                if line.startswith((f"{name} =", f"{name} @="))
                else line
                for line in script.splitlines()
            )
        self.serialem.run(script)
        return self.serialem.log

    def look(self, seconds):
        assert seconds == 0.25
        self.looks += 1
        if self.looks % self.late == 0:
            count = next(self.counts, None)
            if count is not None:
                self.publish(self.stack.sections - 1, count)

    def publish(self, z, count, *, path=None):
        self.ids += 1
        outcome = Outcome(SectionId("my gold.mrc", z), self.ids, reason=str(count))
        if isinstance(count, int):
            summary = Summary(count, 0, 0.1, 40.0, 40.0, 4.2, 4.1)
            particles = [Particle(n, 1.0, 2.0, 40.0, 4.2, 0.9) for n in range(count)]
            measured = Measured(
                section=outcome.section, pixel_size_nm=0.1, summary=summary, model="default",
                model_sha256="abc", threshold=0.5,
            )  # fmt: skip
            outcome = replace(
                outcome, reason="", measured=measured, height_px=8, width_px=8, particles=particles
            )
        path = path or self.folder / f"my gold.mrc.z{z}.npres"
        publish(path, result_text(outcome), mark="npres ")


@pytest.fixture
def scene(tmp_path):
    scenes = []

    def make(*counts, **options):
        scenes.append(Scene(tmp_path, counts, **options))
        return scenes[-1]

    yield make
    for each in scenes:
        each.stack.__exit__(None, None, None)


def test_the_script_waits_for_the_result_and_says_count_and_mean_size(scene):
    here = scene(37, 3)
    log = here.run(FEEDBACK)
    assert log == ["nanostream: 37 particles in section 0, mean diameter 4.2 nm"]
    assert here.run(FEEDBACK)[1:] == ["nanostream: 3 particles in section 1, mean diameter 4.2 nm"]
    assert (here.looks, here.stack.sections) == (4, 2)


def test_an_older_result_of_the_same_name_is_waited_past(scene):
    here = scene(5, late=3)
    here.publish(0, 99)
    assert here.run(FEEDBACK) == ["nanostream: 5 particles in section 0, mean diameter 4.2 nm"]
    assert here.looks == 3


def test_the_script_gives_up_with_a_word_after_its_time(scene):
    here = scene()
    assert here.run(FEEDBACK, npSteps=7) == ["nanostream: no result for section 0 in time"]
    assert here.looks == 7


def test_a_section_that_was_given_up_is_not_waited_for(scene):
    here = scene("a.mrc#0 cannot be read")
    assert here.run(FEEDBACK) == [
        "nanostream gave section 0 up: reason  a.mrc  section  0  cannot  be  read"
    ]
    assert here.looks == 2


def test_the_results_can_be_in_another_folder(scene, tmp_path):
    here = scene()
    elsewhere = tmp_path / "results of today"
    here.look = lambda _: here.publish(0, 4, path=elsewhere / "my gold.mrc.z0.npres")
    here.serialem.sleep = here.look
    log = here.run(FEEDBACK, npWhere=elsewhere / "my gold.mrc")
    assert log == ["nanostream: 4 particles in section 0, mean diameter 4.2 nm"]


def test_the_count_goes_into_the_mdoc_only_if_wanted_and_there_is_one(scene, tmp_path):
    here = scene(6, 7)
    here.run(FEEDBACK)
    assert here.serialem.autodoc == {}
    here.run(FEEDBACK, npToMdoc=1)
    assert here.serialem.autodoc == {"NanostreamCount": "7"}
    (tmp_path / "other").mkdir()
    without = Scene(tmp_path / "other", [8], mdoc=False)
    assert without.run(FEEDBACK, npToMdoc=1)[1:] == ["nanostream: there is no mdoc for the count"]
    without.stack.__exit__(None, None, None)


def test_enough_particles_end_the_condition_at_once(scene):
    here = scene(12)
    assert here.run(CONDITION)[-1] == "nanostream: enough, going on"
    assert (here.stack.sections, here.serialem.defocus_um) == (1, 0)


def test_too_few_are_tried_again_at_another_defocus_which_is_taken_back(scene):
    here = scene(2, 3, 10)
    log = here.run(CONDITION)
    assert [line for line in log if "particles" in line] == [
        f"nanostream: {n} particles in section {z}, mean diameter 4.2 nm"
        for z, n in enumerate((2, 3, 10))
    ]
    assert log[-1] == "nanostream: enough, going on"
    text = (here.folder / "my gold.mrc.mdoc").read_text()
    assert [line[10:] for line in text.splitlines() if line.startswith("Defocus = ")] == [
        *("0", "-0.2", "-0.4")
    ]
    assert here.serialem.defocus_um == pytest.approx(0)


@pytest.mark.parametrize(
    ("ask", "proceed", "last"),
    [
        (0, True, "nanostream: not enough, going on to the next place"),
        (1, True, "nanostream: not enough, going on to the next place"),
        (1, False, "Pause: nanostream found fewer than 10 particles here."),
    ],
)
def test_too_few_in_every_image_go_on_or_stop_as_wanted(scene, ask, proceed, last):
    here = scene(1, 1)
    here.serialem.answers["Pause"] = proceed
    assert here.run(CONDITION, npTries=2, npTooFew=ask)[-1] == last
    assert here.stack.sections == 2


@pytest.mark.parametrize(
    ("count", "too_few", "last"),
    [
        (1, 2, "nanostream: not enough, stopping"),
        (1, 0, "the caller goes on"),
        (12, 2, "the caller goes on"),
    ],
)
def test_only_a_stop_ends_the_script_that_calls_the_condition(scene, count, too_few, last):
    here = scene(count)
    script = f"{CONDITION}\nEcho the caller goes on"
    assert here.run(script, npTries=1, npTooFew=too_few)[-1] == last
    assert ("EXIT" in here.serialem.commands) == (last != "the caller goes on")


def test_without_a_result_no_further_image_is_taken(scene):
    here = scene()
    log = here.run(CONDITION, npSteps=2)
    assert log[0] == "nanostream: no result for section 0"
    assert here.stack.sections == 1


WRONG = [
    ("Recrod", "unknown command"),
    ("Record 1", "wrong number"),
    ("ReadLineToArray NPR", "wrong number"),
    ("Echo 5 # a comment", "taken as text"),
    ("Loop 3", "missing"),
    ("EndLoop", "no beginning"),
    ("x = $y", "undefined"),
    ("x @= a b\nIf $x == 1\nEndif", "not a number"),
    ("i = 1\nLoop 2 i\nEndLoop", "a variable already"),
    ("CompareNoCase x y", "undefined"),
]


@pytest.mark.parametrize(("script", "said"), WRONG, ids=[w[0].splitlines()[0] for w in WRONG])
def test_the_emulation_is_as_strict_as_serialem(scene, script, said):
    with pytest.raises(ScriptError, match=said):
        scene().serialem.run(script)


def test_a_comment_line_in_a_text_file_has_no_words(scene, tmp_path):
    (tmp_path / "a.txt").write_text("# npres 1\n")
    script = f"OpenTextFile A T 0 {tmp_path / 'a.txt'}\nReadLineToArray A row\nx @= $row[1]"
    with pytest.raises(ScriptError, match="out of bounds"):
        scene().serialem.run(script)


def test_the_python_script_has_no_backslash_and_needs_pyzmq_alone():
    text = (SCRIPTS / "nanostream_wait.py").read_text("ascii")
    assert text.startswith("#!Python\n")
    assert "\\" not in text
    words = [line.split() for line in text.splitlines()]
    imports = {line[1] for line in words if line[:1] in (["import"], ["from"])}
    assert imports == {"json", "sys", "time", "pathlib", "zmq", "serialem"}

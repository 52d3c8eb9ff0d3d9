"""Result files and answers for SerialEM: exact, whole, and never over anything foreign."""

import errno
import itertools
import json
import math
import sqlite3
from contextlib import closing
from datetime import datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanostream.acquisition.autodoc import metadata_of, parse_mdoc
from nanostream.config import Config, Feedback
from nanostream.errors import MessageError, SessionError
from nanostream.records import Measured, Metadata, SectionId, Summary
from nanostream.results import feedback
from nanostream.results.exports import export
from nanostream.results.feedback import FeedbackFiles
from nanostream.results.navigator import Chart, NavigatorItem, maps_of, navigator_text
from nanostream.results.outcomes import Outcome, Outcomes, Particle
from nanostream.results.points import particle_items, section_items
from nanostream.results.queries import MOST_WAITING, Questions, read_query
from nanostream.results.result_files import answer, publish, result_text
from nanostream.results.session import Session
from nanostream.results.store import Store
from tests import factories
from tests.factories import squares
from tests.serialem_emulation import Navigator, numbers

HEIGHT, WIDTH = 60, 100


def a_result(section, *, corners=((10, 20), (40, 60)), pixel_size_nm=0.5, metadata=None):
    """A section with a square of 8 px at each place (top row, left column)."""
    labels = squares(*corners, side=8, shape=(HEIGHT, WIDTH))
    probability = 0.9 * (labels > 0) + 0.05 * (labels == 2)
    known = {"pixel_size_nm": pixel_size_nm, "metadata": metadata or Metadata()}
    return factories.a_result(labels, section, probability=probability, known=known)


class Desk:
    """A session being written, and what SerialEM is told of it."""

    def __init__(self, folder, **settings):
        self.folder = folder / "session"
        self.settings = Feedback(**settings)
        self.store = Store(self.folder, Config())
        self.open()

    def open(self):
        self.outcomes = Outcomes(self.folder)
        self.files = FeedbackFiles(self.folder, self.settings, self.outcomes)
        self.now_s = 0.0

    def close(self):
        self.outcomes.close()
        self.store.__exit__(None, None, None)

    def stored(self, text, **options):
        section = SectionId.parse(text)
        self.store.commit(a_result(section, **options))
        self.files.ended(section, now_s=self.now_s)

    def given_up(self, text, reason="cannot be read"):
        self.store.quarantine(SectionId.parse(text), reason, attempts=3)
        self.files.ended(SectionId.parse(text), now_s=self.now_s)

    def step(self, seconds=0.0):
        self.now_s += seconds
        return self.files.step(self.now_s)

    def result(self, name):
        return (self.folder / "feedback" / f"{name}.npres").read_text("ascii")


@pytest.fixture
def desk(tmp_path):
    made = []

    def make(**settings):
        made.append(Desk(tmp_path, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


def keys(text):
    """Keys and values that a reader finds in a result file."""
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["npres", "1"]
    assert lines[-1] == ["end"]
    assert all(len(words) <= 60 for words in lines)
    assert "#" not in text
    assert "$" not in text
    found = {words[0]: words[1:] for words in lines[:-1] if words[0] != "p"}
    return found | {"p": [list(map(float, words[1:])) for words in lines if words[0] == "p"]}


def test_a_stored_section_has_its_file_with_positions_as_serialem_counts_them(desk):
    desk = desk()
    acquired = Metadata(acquired="2026-11-23T22:10:11")
    desk.stored("day 1/gold #2.mrc#3", metadata=acquired)
    assert desk.step() == []
    found = keys(desk.result("day 1/gold #2.mrc.z3"))
    assert found["status"] == ["ok"]
    assert found["file"] == ["day%201/gold%20%232.mrc"]
    assert (found["z"], found["generation"], found["acquired"]) == (
        ["3"],
        ["1"],
        ["2026-11-23T22:10:11"],
    )
    assert (found["n"], found["n_edge"], found["size"]) == (["2"], ["0"], ["100", "60"])
    diameter = 2 * math.sqrt(64 / math.pi)
    assert float(found["d_mean_nm"][0]) == pytest.approx(diameter / 2, rel=1e-5)
    assert float(found["pixel_nm"][0]) == 0.5
    assert float(found["area_fraction"][0]) == pytest.approx(128 / 6000, rel=1e-5)
    # Rows 10 to 17 of the file reach from y = 10 to 18 upwards; counted from the top of the
    # display, which is the file's last row, their middle is at 60 - 14. The more certain first.
    assert found["p"] == [
        [64.0, 16.0, pytest.approx(diameter / 2, abs=1e-3), 0.95],
        [24.0, 46.0, pytest.approx(diameter / 2, abs=1e-3), 0.9],
    ]


def test_without_a_pixel_size_diameters_are_px_and_unknown_is_0(desk):
    desk = desk()
    desk.stored("a.mrc#0", pixel_size_nm=None)
    desk.stored("a.mrc#1", corners=())
    desk.step()
    found = keys(desk.result("a.mrc.z0"))
    assert (found["unit"], found["pixel_nm"], found["d_mean_nm"]) == (["px"], ["0"], ["0"])
    assert found["p"][0][2] == pytest.approx(2 * math.sqrt(64 / math.pi), abs=1e-3)
    empty = keys(desk.result("a.mrc.z1"))
    assert (empty["n"], empty["d_mean_px"], empty["p"]) == (["0"], ["0"], [])


def test_a_section_that_is_given_up_says_so_and_why(desk):
    desk = desk()
    desk.given_up("a.mrc#0", "a.mrc#0: 3 times\n$npGot = 1 \x1b[2J " + "word " * 80)
    desk.step()
    found = keys(desk.result("a.mrc.z0"))
    assert (found["status"], found["reason"][:4]) == (["fail"], ["a.mrc", "section", "0:", "3"])
    assert len(found["reason"]) == 40


def test_of_a_file_name_used_again_the_newest_result_is_there_under_another_id(desk):
    desk = desk()
    desk.stored("a.mrc#0")
    desk.step()
    first = keys(desk.result("a.mrc.z0"))
    desk.stored("a.mrc~2#0", corners=((3, 3),))
    desk.step()
    second = keys(desk.result("a.mrc.z0"))
    assert (second["generation"], second["n"]) == (["2"], ["1"])
    assert first["id"] != second["id"]
    desk.given_up("a.mrc~10#0")
    desk.step()
    assert keys(desk.result("a.mrc.z0"))["status"] == ["fail"]
    # An older file's section that ends late does not come over it.
    desk.stored("a.mrc~3#0")
    desk.step()
    assert keys(desk.result("a.mrc.z0"))["generation"] == ["10"]


def test_the_outcome_is_found_as_fast_among_many_sections_of_a_name_used_again(desk):
    desk = desk()
    for text in ("g.mrc~2#0", "g.mrc~x.mrc~3#7"):
        desk.stored(text)
    with closing(sqlite3.connect(desk.folder / "session.db")) as db, db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(sections)")]
        changed = {"section": "'g.mrc~2#' || value", "z": "value"}
        row = ", ".join(changed.get(column, column) for column in columns)
        db.execute(
            "WITH RECURSIVE numbers(value) AS"
            " (SELECT 1 UNION ALL SELECT value + 1 FROM numbers LIMIT 5000)"
            f" INSERT INTO sections SELECT {row} FROM sections, numbers"
            " WHERE section = 'g.mrc~2#0'"
        )
    desk.given_up("g.mrc~10#7")
    steps = itertools.count()
    desk.outcomes._db.set_progress_handler(lambda: next(steps) and None, 1)
    assert str(desk.outcomes.ended("g.mrc", 7)[0]) == "g.mrc~10#7"
    assert str(desk.outcomes.ended("g.mrc", 77)[0]) == "g.mrc~2#77"
    assert desk.outcomes.ended("g.mrc", 5001) is None
    assert next(steps) < 1000  # of SQLite's virtual machine


def test_files_missing_after_a_kill_are_made_at_the_next_start_and_no_others(desk):
    desk = desk()
    for z in range(4):
        desk.stored(f"a.mrc#{z}")
    desk.step()
    folder = desk.folder / "feedback"
    (folder / "a.mrc.z1.npres").unlink()
    (folder / "a.mrc.z2.npres").write_text("npres 1\nid")  # torn, by a power cut
    (folder / "a.mrc.z3.npres").write_text("")
    before = (folder / "a.mrc.z0.npres").stat().st_mtime_ns
    desk.outcomes.close()
    desk.open()
    assert desk.step() == []
    assert [keys(desk.result(f"a.mrc.z{z}"))["z"] for z in range(4)] == [["0"], ["1"], ["2"], ["3"]]
    assert (folder / "a.mrc.z0.npres").stat().st_mtime_ns == before
    assert sorted(path.name for path in folder.iterdir()) == [f"a.mrc.z{z}.npres" for z in range(4)]


def test_a_foreign_file_is_left_alone_and_said_once(desk):
    desk = desk()
    foreign = desk.folder / "feedback" / "a.mrc.z0.npres"
    foreign.parent.mkdir()
    foreign.write_text("my notes")
    desk.stored("a.mrc#0")
    desk.stored("a.mrc#1")
    (said,) = desk.step()
    assert "a.mrc.z0.npres is there and not nanostream's" in said
    assert foreign.read_text() == "my notes"
    assert keys(desk.result("a.mrc.z1"))["n"] == ["2"]
    assert desk.step(10) == []


def test_a_full_disk_is_said_once_and_what_is_missing_is_written_later(desk, monkeypatch):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    desk = desk()
    desk.stored("a.mrc#0")
    desk.stored("a.mrc#1")
    with monkeypatch.context() as patch:
        patch.setattr("nanostream.failpoints.disk_is_full", full)
        (said,) = desk.step()
        assert "feedback for SerialEM cannot be written: No space left on device" in said
        assert [desk.step(2) for _ in range(3)] == [[], [], []]
        assert desk.files.waiting == 2
    (said,) = desk.step(2)
    assert "written again" in said
    assert [keys(desk.result(f"a.mrc.z{z}"))["n"] for z in (0, 1)] == [["2"], ["2"]]


def test_a_folder_that_goes_away_is_not_made_anew_and_is_used_when_it_is_back(desk, tmp_path):
    share = tmp_path / "share"
    desk = desk(directory=str(share))
    desk.stored("a.mrc#0")
    desk.step()
    share.rename(tmp_path / "away")
    desk.stored("a.mrc#1")
    (said,) = desk.step()
    assert "is gone" in said
    assert not share.exists()
    (tmp_path / "away").rename(share)
    desk.step(2)
    assert keys((share / "a.mrc.z1.npres").read_text())["z"] == ["1"]


def test_only_a_bounded_number_of_sections_waits_for_the_folder(desk, monkeypatch):
    monkeypatch.setattr(feedback, "_MOST_WAITING", 3)
    desk = desk()
    for z in range(5):
        desk.stored(f"a.mrc#{z}")
    assert desk.files.waiting == 3
    desk.step()
    names = sorted(path.name for path in (desk.folder / "feedback").iterdir())
    assert names == [f"a.mrc.z{z}.npres" for z in (2, 3, 4)]


def test_a_name_that_the_disk_cannot_have_keeps_no_other_waiting(desk):
    desk = desk()
    desk.stored("a.mrc#0")
    long = "x" * 253
    desk.store.quarantine(SectionId(long, 0), "why", attempts=1)
    desk.files.ended(SectionId(long, 0), now_s=0.0)
    (said,) = desk.step()
    assert said.startswith("no feedback for xxx")
    assert said.endswith("section 0: File name too long; give the file a shorter name")
    assert desk.files.waiting == 0
    assert keys(desk.result("a.mrc.z0"))["n"] == ["2"]


def test_nothing_is_made_when_nothing_is_wanted(desk):
    desk = desk(result_files=False)
    desk.stored("a.mrc#0")
    assert desk.step(10) == []
    assert not (desk.folder / "feedback").exists()


def test_a_file_is_never_seen_in_part(tmp_path):
    path = tmp_path / "a.npres"
    publish(path, "npres 1\nend\n", mark="npres ")
    with path.open() as reader:
        publish(path, "npres 1\nmore\nend\n", mark="npres ")
        assert reader.read() == "npres 1\nend\n"
    assert [p.name for p in tmp_path.iterdir()] == ["a.npres"]


@given(st.text(max_size=400), st.text(max_size=80))
def test_no_text_from_outside_makes_a_line_or_a_word_of_the_format(reason, name):
    path = "".join(c for c in name if c.isprintable() and c not in "\\:/").strip(". ") or "a"
    try:
        section = SectionId(path, 0)
    except ValueError:
        return
    text = result_text(Outcome(section, 1.0, reason=reason))
    assert [line.split()[0] for line in text.splitlines()] == [
        *("npres", "id", "status", "file", "z", "generation", "reason", "end")
    ]
    assert len(keys(text)["file"]) == 1
    assert text.isascii()


# --- Navigator -----------------------------------------------------------------------------------

MAP = {
    "Color": "2",
    "StageXYZ": "10 20 1.5",
    "NumPts": "1",
    "Regis": "2",
    "Type": "2",
    "MapFile": "C:\\Users\\scope\\gold.mrc",
    "MapID": "298323846",
    "MapMontage": "0",
    "MapSection": "1",
    "MapScaleMat": "0 -20 10 0",
    "MapWidthHeight": f"{WIDTH} {HEIGHT}",
    "PtsX": "10",
    "PtsY": "20",
}


def navigator_file(tmp_path, *items):
    path = tmp_path / "session.nav"
    text = navigator_text([NavigatorItem(str(n), i) for n, i in enumerate(items)], saved_as="C:\\x")
    path.write_text(text)
    return path


def test_particles_of_a_map_are_points_that_serialem_puts_on_the_right_pixel(desk, tmp_path):
    nav = navigator_file(tmp_path, MAP)
    desk = desk(navigator=str(nav), navigator_items="particles")
    desk.stored("gold.mrc#1")
    desk.stored("gold.mrc#2")  # no map
    (said,) = desk.step()
    assert "gold.mrc#2" in said
    assert "no Navigator points" in said
    text = (desk.folder / "feedback" / "gold.mrc.z1.nav").read_text("cp1252")
    assert not (desk.folder / "feedback" / "gold.mrc.z2.nav").exists()
    table = Navigator()
    table.load(nav.read_text())
    assert [table.load(text), table.load(text)] == [2, 0]
    # Middle of the image: x 50, y 30 upwards; the square's: x 24, y 14. Right-handed dx -26,
    # dy -16 is y-inverted +16; MapScaleMat says x = -20 dY, y_inv = 10 dX.
    point = next(i for i in table.items if "nanostream 2 " in i.get("Note", ""))
    assert numbers(point["StageXYZ"]) == [pytest.approx(11.6), pytest.approx(21.3), 1.5]
    assert point["Note"] == "nanostream 2 d=4.51nm p=0.90 gold.mrc z1"
    assert (point["Acquire"], point["Regis"], point["DrawnID"]) == ("0", "2", "298323846")


def test_without_a_map_the_mdocs_matrix_gives_the_place(desk):
    matrix = (0.01, 0.0, 0.0, -0.01, 100.0, -50.0)
    metadata = Metadata(image_to_stage=matrix, stage_z_um=-2.5)
    desk = desk(navigator_items="particles", rank_by="diameter", most_items=1)
    desk.stored("gold.mrc#1", metadata=metadata)
    assert desk.step() == []
    table = Navigator()
    table.load((desk.folder / "feedback" / "gold.mrc.z1.nav").read_text("cp1252"))
    (point,) = table.items
    # x 64, y 16 from the top: of two of one size the more certain.
    assert point["StageXYZ"] == "100.640000 -50.160000 -2.5"


@pytest.mark.parametrize("kept", [True, False])
def test_serialem_is_told_the_same_of_a_picture_whatever_file_it_is_in(tmp_path, desk, kept):
    """An MRC begins with the line at the bottom of the display, a TIFF with the one at the top."""
    matrix = Metadata(image_to_stage=(0.01, 0.002, 0.003, -0.01, 100.0, -50.0))
    maps = [MAP | {"MapFile": name, "MapID": id_} for name, id_ in (("a.mrc", "5"), ("a.tif", "6"))]
    nav = navigator_file(tmp_path, *maps)
    desk = desk(navigator=str(nav), navigator_items="particles")
    told = {}
    for suffix, first_row, rows in (("mrc", "bottom", (10, 40)), ("tif", "top", (42, 12))):
        corners = tuple(zip(rows, (20, 60), strict=True))
        # A session of before it was kept is told by the file.
        metadata = msgspec.structs.replace(matrix, first_row=first_row if kept else None)
        desk.stored(f"a.{suffix}#1", corners=corners, metadata=metadata)  # a map
        desk.stored(f"a.{suffix}#2", corners=corners, metadata=metadata)  # by the matrix
        assert desk.step() == []
        told[suffix] = keys(desk.result(f"a.{suffix}.z1"))["p"]
        for z in (1, 2):
            table = Navigator()
            table.load(nav.read_text())
            path = desk.folder / "feedback" / f"a.{suffix}.z{z}.nav"
            assert table.load(path.read_text("cp1252")) == 2
            told[suffix] += [numbers(point["StageXYZ"]) for point in table.items[2:]]
    assert told["tif"] == told["mrc"]
    assert told["mrc"][0][:2] == [64.0, 16.0]


def test_fields_are_ranked_and_written_anew_at_most_every_two_seconds(desk):
    desk = desk(result_files=False, navigator_items="sections", rank_by="count", most_items=2)
    stage = Metadata(stage_x_um=5.0, stage_y_um=-3.0)
    desk.stored("a.mrc#0", corners=((3, 3),), metadata=stage)
    desk.stored("a.mrc#1", corners=(), metadata=stage)
    desk.stored("a.mrc#2", metadata=stage)
    path = desk.folder / "feedback" / "sections.nav"
    desk.step()
    assert not path.exists()
    desk.step(2.0)
    table = Navigator()
    table.load(path.read_text("cp1252"))
    assert [item["Note"].split()[:3] for item in table.items] == [
        ["nanostream", "1", "n=2"],
        ["nanostream", "2", "n=1"],
    ]
    assert {item["StageXYZ"] for item in table.items} == {"5.000000 -3.000000 0"}
    desk.stored("a.mrc#3", corners=((3, 3), (20, 20), (40, 40)), metadata=stage)
    desk.step(2.0)
    # Merged again, only the new one is added.
    assert table.load(path.read_text("cp1252")) == 1


def test_a_navigator_file_that_serialem_has_saved_is_not_overwritten(desk, tmp_path):
    desk = desk(navigator_items="particles", navigator=str(navigator_file(tmp_path, MAP)))
    saved = desk.folder / "feedback" / "gold.mrc.z1.nav"
    saved.parent.mkdir()
    saved.write_text("AdocVersion = 2.00\r\nLastSavedAs = D:\\gold.mrc.z1.nav\r\n")
    desk.stored("gold.mrc#1")
    (said,) = desk.step()
    assert "not nanostream's" in said
    assert "LastSavedAs = D:" in saved.read_text()


@pytest.mark.parametrize("content", [None, b"not a Navigator file"])
def test_a_navigator_file_that_cannot_be_used_is_said_and_stops_nothing(desk, tmp_path, content):
    path = tmp_path / "my.nav"
    if content:
        path.write_bytes(content)
    desk = desk(navigator_items="particles", navigator=str(path))
    desk.stored("a.mrc#0")
    desk.stored("a.mrc#1")
    (said,) = desk.step()
    assert "my.nav" in said
    assert keys(desk.result("a.mrc.z1"))["n"] == ["2"]


def an_outcome(*, ended_s=5.0, metadata=None):
    section = SectionId("gold.mrc", 1)
    measured = Measured(
        section=section,
        metadata=metadata or Metadata(),
        summary=Summary(1, 0, 0.1, 4.0, 4.0, 2.0, 2.0),
        model="default",
        model_sha256="abc",
        threshold=0.5,
    )
    particles = [Particle(1, 3.0, 4.0, 4.0, 2.0, 0.5)]
    return Outcome(
        section, ended_s, measured=measured, height_px=HEIGHT, width_px=WIDTH, particles=particles
    )


def test_ids_of_points_are_those_of_the_image_not_of_the_run():
    chart = Chart(tuple(maps_of([NavigatorItem("1", MAP)])))
    dated = Metadata(acquired="2026-11-23T22:10:11")

    def ids(**changes):
        found = particle_items(an_outcome(**changes), chart, rank_by="count", most=9)
        return [item.values["MapID"] for item in found]

    assert ids(metadata=dated) == ids(metadata=dated, ended_s=9.0) != []
    assert ids(metadata=dated) != ids(metadata=Metadata(acquired="2026-11-24T08:00:00"))
    assert ids() != ids(ended_s=9.0)


def test_a_field_without_any_place_is_left_out():
    assert section_items([an_outcome()], Chart()) == []


# --- questions -----------------------------------------------------------------------------------


class Asked(Desk):
    """The same, asked on the query port; `answers` are what was sent, by asker."""

    def __init__(self, folder):
        super().__init__(folder, result_files=False)
        self.answers = []
        self.questions = Questions(
            self.outcomes, lambda asker, body: self.answers.append((asker, json.loads(body)))
        )

    def ask(self, file="D:\\data\\a.mrc", z=0, *, asker=b"one", now_s=0.0, **keys):
        body = json.dumps({"nanostream": 1, "file": file, "z": z, **keys}).encode()
        return self.hear(body, asker=asker, now_s=now_s)

    def hear(self, body, *, asker=b"one", now_s=0.0):
        before = len(self.answers)
        self.questions.hear(asker, body, now_s=now_s)
        return self.answers[before][1] if len(self.answers) > before else None

    def stored(self, text, **options):
        super().stored(text, **options)
        self.questions.ended(SectionId.parse(text))


@pytest.fixture
def asked(tmp_path):
    with closing(Asked(tmp_path)) as made:
        yield made


def test_a_question_is_answered_with_the_same_as_the_file(asked):
    asked.stored("a.mrc#0")
    said = asked.ask()
    assert (said["status"], said["n"], said["unit"], said["size"]) == ("ok", 2, "nm", [100, 60])
    assert [row[:2] for row in said["particles"]] == [[64.0, 16.0], [24.0, 46.0]]
    assert asked.ask(most=1)["particles"] == said["particles"][:1]
    outcome = asked.outcomes.of(SectionId("a.mrc", 0))
    assert said == json.loads(msgspec.json.encode(answer(outcome, most=200)))
    assert keys(result_text(outcome))["id"] == [said["id"]]


def test_several_wait_and_each_is_answered_once_when_its_section_ends(asked):
    assert asked.ask(asker=b"one", wait_s=10) is None
    assert asked.ask(asker=b"two", wait_s=10) is None
    assert asked.ask(asker=b"three", z=1, wait_s=10) is None
    asked.stored("b.mrc#0")
    assert asked.answers == []
    asked.stored("a.mrc#0")
    assert [(asker, said["n"]) for asker, said in asked.answers] == [(b"one", 2), (b"two", 2)]
    asked.given_up("a.mrc#1")
    asked.questions.ended(SectionId("a.mrc", 1))
    assert asked.answers[2] == (
        b"three",
        {
            "nanostream": 1,
            "status": "fail",
            "id": asked.answers[2][1]["id"],
            "file": "a.mrc",
            "z": 1,
            "generation": 1,
            "reason": "cannot be read",
        },
    )
    assert asked.questions.waiting == 0


def test_who_waits_is_told_when_the_time_is_over(asked):
    asked.ask(wait_s=10, now_s=100.0)
    asked.questions.step(109.9)
    assert asked.answers == []
    asked.questions.step(110.0)
    assert asked.answers[0][1]["status"] == "pending"
    assert asked.ask(wait_s=0)["status"] == "pending"


def test_another_question_takes_the_place_of_the_one_that_waits(asked):
    asked.stored("a.mrc#0")
    assert asked.ask(z=5, wait_s=600) is None
    assert asked.ask(z=0)["status"] == "ok"
    asked.stored("a.mrc#5")
    assert len(asked.answers) == 1


def test_a_known_result_is_waited_past(asked):
    asked.stored("a.mrc#0")
    known = asked.ask()["id"]
    assert asked.ask(known=known, wait_s=10) is None
    asked.stored("a.mrc~2#0", corners=())
    assert asked.answers[-1][1]["n"] == 0


def test_two_files_that_can_be_meant_are_named_and_neither_is_taken(asked):
    asked.stored("monday/a.mrc#0")
    asked.stored("tuesday/a.mrc#0")
    said = asked.ask("X:\\a.mrc")
    assert (said["status"], "monday/a.mrc" in said["reason"]) == ("error", True)
    assert asked.ask("X:\\Tuesday\\A.mrc")["file"] == "tuesday/a.mrc"


def test_one_asker_waits_once_and_all_together_not_too_often(asked):
    for _ in range(1000):
        assert asked.ask(wait_s=600) is None
    assert asked.questions.waiting == 1
    for n in range(MOST_WAITING - 1):
        asked.ask(asker=b"%d" % n, wait_s=600)
    assert asked.ask(asker=b"one more", wait_s=600)["status"] == "error"
    assert asked.questions.waiting == MOST_WAITING


HOSTILE = {
    "nothing": b"",
    "garbage": b"\xff\xfe\x00",
    "no object": b"[1, 2]",
    "deep": b"[" * 16000,
    "huge": b" " * 20000,
    "no file": b'{"nanostream": 1, "z": 0}',
    "unknown key": b'{"nanostream": 1, "file": "a", "z": 0, "do": "delete"}',
    "other version": b'{"nanostream": 2, "file": "a", "z": 0}',
    "z is text": b'{"nanostream": 1, "file": "a", "z": "0"}',
    "z is negative": b'{"nanostream": 1, "file": "a", "z": -1}',
    "z is enormous": b'{"nanostream": 1, "file": "a", "z": 99999999999999999999}',
    "endless wait": b'{"nanostream": 1, "file": "a", "z": 0, "wait_s": 1e300}',
    "NaN": b'{"nanostream": 1, "file": "a", "z": 0, "wait_s": NaN}',
    "too many": b'{"nanostream": 1, "file": "a", "z": 0, "most": 1000000000}',
    "long file": b'{"nanostream": 1, "z": 0, "file": "' + b"a" * 3000 + b'"}',
    "surrogate": b'{"nanostream": 1, "z": 0, "file": "\\ud800"}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_question_is_answered_with_the_reason(asked, name):
    said = asked.hear(HOSTILE[name])
    assert said["status"] == "error"
    assert said["reason"]
    assert asked.questions.waiting == 0


@given(st.binary(max_size=200))
def test_any_bytes_are_a_question_or_refused(data):
    try:
        read_query(data)
    except MessageError as error:
        assert "question" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "file", ["../../etc/passwd", "a'; DROP TABLE sections; --", "/", "\0", "~"]
)
def test_a_name_that_is_no_file_of_the_session_is_only_not_known(asked, file):
    asked.stored("a.mrc#0")
    assert asked.ask(file)["status"] == "pending"
    assert asked.ask("a.mrc")["status"] == "ok"


def test_the_date_of_acquisition_is_in_the_answer(asked):
    when = datetime(2026, 11, 23, 22, 10, 11).isoformat()
    asked.stored("a.mrc#0", metadata=Metadata(acquired=when))
    assert asked.ask()["acquired"] == when


def test_the_same_points_can_be_exported_after_the_session(desk, tmp_path):
    nav = navigator_file(tmp_path, MAP)
    desk = desk(navigator=str(nav), navigator_items="particles")
    desk.stored("gold.mrc#1", metadata=Metadata(stage_x_um=1.0, stage_y_um=2.0))
    desk.stored("gold.mrc#2")
    desk.step()
    live = (desk.folder / "feedback" / "gold.mrc.z1.nav").read_text("cp1252")
    out = tmp_path / "out"
    written = export(Session(desk.folder), "nav", out, navigator=nav)
    assert written == [out / "sections.nav", out / "gold.mrc.z1.nav"]
    again = written[1].read_text("cp1252")
    assert again.splitlines()[2:] == live.splitlines()[2:]
    assert export(Session(desk.folder), "nav", out, navigator=nav) == written
    (out / "sections.nav").write_text("AdocVersion = 2.00\nLastSavedAs = C:\\mine.nav\n")
    with pytest.raises(SessionError, match="not nanostream's"):
        export(Session(desk.folder), "nav", out, navigator=nav)


def test_the_matrix_that_a_script_leaves_before_the_first_image_is_that_images():
    text = "ImageToStageMatrix = 1 2 3 4 5 6\n\n[ZValue = 0]\nDateTime = 1-Jan-26  10:00:00\n"
    assert metadata_of(parse_mdoc(text), 0)[1].image_to_stage == (1, 2, 3, 4, 5, 6)

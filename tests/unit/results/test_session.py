"""A session folder as its readers and the operator find it, and what is refused in it."""

import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest

import nanostream as ns
from nanostream.config import Config, Feedback
from nanostream.errors import SessionError
from nanostream.records import Metadata, SectionId, TrackerSettings
from nanostream.results.feedback import FeedbackFiles
from nanostream.results.folders import check_folder, lock
from nanostream.results.outcomes import Outcomes
from nanostream.results.queries import Questions
from nanostream.results.store import Store, ask_retry
from nanostream.results.verification import acquired_files
from tests.factories import a_result, squares

LABELS = squares((3, 4), side=8, shape=(40, 50))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "session"


@pytest.fixture
def store(folder):
    with Store(folder, Config()) as store:
        yield store


def test_a_session_shows_what_is_in_it(folder, store):
    store.commit(a_result(LABELS))
    store.quarantine(SectionId("a.mrc", 1), "torn", attempts=3)
    assert repr(ns.open_session(folder)) == (f"Session({str(folder)!r}: 1 stored, 1 quarantined)")


def test_a_stored_section_says_what_it_was_made_from(store):
    result = a_result(LABELS, model_sha256="f00", threshold=0.25)
    store.commit(result)
    made = (result.pixels_crc32, "f00", 0.25, result.pixel_size_nm)
    assert store.made_from(result.section) == made
    assert store.sections_by_pixels() == {result.pixels_crc32: result.section}


def test_rows_have_seconds_since_the_first_section_of_their_file(folder, store):
    for name, second in (("a.mrc#0", 10), ("a.mrc#1", 12.5), ("b.mrc#0", 40)):
        acquired = Metadata(acquired=f"2026-12-01T10:00:{second:04.1f}")
        known = {"metadata": acquired, "stream": TrackerSettings() if name[0] == "a" else None}
        store.commit(a_result(LABELS, name, known=known))
    store.commit(a_result(LABELS, "c.mrc#0"))  # its lack of a time is nothing to the others
    session = ns.open_session(folder)
    assert session.particles["time_s"].tolist() == [0.0, 2.5, 0.0, 0.0]
    assert session.tracks["time_s"].tolist() == [0.0, 2.5]


def test_a_section_that_is_tried_again_is_in_quarantine_no_more(folder, store):
    section = SectionId("a.mrc", 0)
    store.quarantine(section, "torn", attempts=3)
    ask_retry(folder, [str(section)])
    ask_retry(folder, [str(section)])  # asking twice is asking once
    assert store.retries() == (section,)
    store.retried(section)
    assert store.retries() == ()
    assert ns.open_session(folder).quarantine.empty


def test_only_what_is_in_quarantine_can_be_tried_again(folder, store):
    store.commit(a_result(LABELS))
    with pytest.raises(SessionError, match=r"a\.mrc#0 is not in quarantine"):
        ask_retry(folder, ["a.mrc#0"])
    with pytest.raises(SessionError, match="cannot be written"):
        ask_retry(folder / "absent", ["a.mrc#0"])


def test_feedback_forgets_a_section_that_is_tried_again(folder, store):
    store.quarantine(SectionId("a.mrc", 0), "torn", attempts=3)
    files = FeedbackFiles(folder, Feedback(), Outcomes(folder))
    files.ended(SectionId("a.mrc", 0), now_s=0.0)
    store.retried(SectionId("a.mrc", 0))
    assert files.step(now_s=100.0) == []
    assert list((folder / "feedback").glob("*")) == []


def test_a_damaged_database_is_named_by_its_readers(folder, store):
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "session.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    with pytest.raises(SessionError, match=r"session\.db cannot be read"):
        ns.open_session(folder / "elsewhere")


def test_a_script_is_told_when_the_session_cannot_be_read(folder, store):
    store.commit(a_result(LABELS))
    answers = []
    questions = Questions(Outcomes(folder), lambda asker, answer: answers.append(answer))
    with closing(sqlite3.connect(folder / "session.db")) as db, db:
        db.execute("DROP TABLE particles")
    questions.hear(b"script", b'{"nanostream": 1, "file": "a.mrc", "z": 0}', now_s=0.0)
    told = json.loads(answers[0])
    assert told["status"] == "error"
    assert "the session cannot be read" in told["reason"]


def test_a_file_is_no_folder_for_a_session(tmp_path):
    (tmp_path / "session").write_text("thesis")
    with pytest.raises(SessionError, match="is a file"):
        check_folder(tmp_path / "session")
    with pytest.raises(SessionError, match="choose another folder"):
        lock(tmp_path / "session" / "below" / "lock")


def test_a_file_that_is_no_micrograph_is_named_beside_the_acquired_ones(tmp_path):
    (tmp_path / "notes.mrc").write_bytes(b"not a micrograph " * 100)
    (tmp_path / "short.mrc").write_bytes(b"\0" * 100)
    found = acquired_files(tmp_path, ["notes.mrc", "absent.mrc", "short.mrc"])
    assert found.files == []
    assert "notes.mrc" in found.unreadable[0]
    assert "No such file" in found.unreadable[1]
    assert "short.mrc" in found.not_ready[0]


def test_masks_of_a_session_are_those_that_were_committed(folder, store):
    store.commit(a_result(LABELS))
    np.testing.assert_array_equal(ns.open_session(folder).labels("a.mrc#0"), LABELS)

"""Acquired sections are counted from the files as they are now, overwritten ones too."""

import json
import sys

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import nanostream as ns
from nanostream.acquisition import frames
from nanostream.acquisition.ledger import Ledger, last_read
from nanostream.acquisition.mrc import fingerprint, read_header, read_section
from nanostream.acquisition.simulator import StackWriter
from nanostream.config import Config
from nanostream.records import Frame, Metadata, Result, SectionId
from nanostream.results.store import Store
from nanostream.results.verification import acquired_files, verify
from nanostream_services.cli import app
from tests.factories import a_segmentation

SIDE = 32


class Desk:
    """A watched folder with one stack, the agent's ledger and the sink's store."""

    def __init__(self, folder, sections):
        self.watch, self.session, self.ledger = (
            folder / name for name in ("microscope", "session", "ledger.db")
        )
        self.watch.mkdir()
        self.path = self.watch / "a.mrc"
        with StackWriter(self.path, mdoc=False) as stack:
            for z in range(sections):
                stack.append(np.full((SIDE, SIDE), z + 1, np.int16))

    def overwrite(self, z, value):
        header, _ = read_header(self.path)
        with self.path.open("r+b") as file:
            file.seek(header.data_offset + z * header.section_bytes)
            file.write(np.full((SIDE, SIDE), value, "<i2").tobytes())

    def read(self, z, generation=1):
        """Do as the agent does when it sends a section."""
        _, pixels = read_section(self.path, z)
        with Ledger(self.ledger) as ledger:
            ledger.read(SectionId("a.mrc", z, generation), fingerprint(pixels))

    def store(self, z, generation=1):
        header, pixels = read_section(self.path, z)
        title = Metadata(file_title=header.title)
        self.commit(Frame(SectionId("a.mrc", z, generation), pixels, metadata=title))

    def commit(self, frame):
        segmentation = a_segmentation(np.zeros(frame.pixels.shape), frame)
        with Store(self.session, Config()) as store:
            store.commit(Result.of(frame, segmentation))

    def quarantine(self, z, generation):
        with Store(self.session, Config()) as store:
            store.quarantine(SectionId("a.mrc", z, generation), "torn", attempts=3)

    def found(self):
        files, unreadable, *_ = acquired_files(
            self.watch, ["a.mrc"], last_read=last_read(self.ledger)
        )
        assert unreadable == ()
        return verify(ns.open_session(self.session), files)


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path, sections=3)
    for z in range(3):
        desk.read(z)
        desk.store(z)
    return desk


def test_what_was_stored_and_is_still_in_the_file_is_complete(desk):
    assert desk.found().complete


def test_an_overwritten_section_is_missing_until_its_new_pixels_have_an_end(desk):
    desk.overwrite(1, value=77)
    assert desk.found().missing == ("a.mrc~2#1",)  # no agent has noticed
    desk.read(1, generation=2)
    assert desk.found().missing == ("a.mrc~2#1",)  # sent, not stored
    desk.store(1, generation=2)
    assert desk.found().complete
    desk.overwrite(1, value=78)
    assert desk.found().missing == ("a.mrc~3#1",)
    desk.quarantine(1, generation=3)
    assert desk.found().missing == ()


def test_without_the_agents_ledger_only_names_can_be_compared(desk):
    desk.overwrite(1, value=77)
    desk.ledger.unlink()
    assert desk.found().complete
    assert not desk.ledger.exists()


def test_a_file_that_cannot_be_read_again_is_named_and_ends_nothing(desk, monkeypatch):
    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("nanostream.acquisition.frames.changed_sections", fail)
    (file,), unreadable, *_ = acquired_files(
        desk.watch, ["a.mrc"], last_read=last_read(desk.ledger)
    )
    assert file.sections == 3
    assert unreadable == ("a.mrc: Input/output error",)


def test_a_file_that_is_cut_off_is_named_and_the_session_is_not_complete(tmp_path):
    desk = Desk(tmp_path, 3)
    for z in range(3):
        desk.store(z)
    whole = verify(ns.open_session(desk.session), acquired_files(desk.watch, ["a.mrc"])[0])
    assert whole.complete
    assert whole.cut_off == ()

    header, stat = read_header(desk.path)
    with desk.path.open("r+b") as file:
        file.truncate(stat.st_size - header.section_bytes // 2)
    cut = verify(ns.open_session(desk.session), acquired_files(desk.watch, ["a.mrc"])[0])
    assert cut.cut_off == ("a.mrc (2 whole)",)
    assert not cut.complete


def test_what_no_mdoc_lists_is_named(desk):
    (desk.watch / "holiday.tif").write_bytes(b"II*\0")
    _, unreadable, not_ready, _ = acquired_files(desk.watch, ["a.mrc", "holiday.tif"])
    assert unreadable == ()
    assert not_ready == ("holiday.tif: no mdoc or idoc of SerialEM lists it",)


def test_a_session_of_nanostream_segment_is_compared_with_its_own_files(desk):
    """TIFFs that no mdoc lists, and formats that are not watched."""
    cv2.imwrite(str(desk.watch / "b.tif"), np.full((SIDE, SIDE), 5, np.uint16))
    np.save(desk.watch / "c.npy", np.ones((2, SIDE, SIDE), np.float32))
    for name, z in (("b.tif", 0), ("c.npy", 0), ("c.npy", 1)):
        desk.commit(frames.read_section(desk.watch / name, z))

    def verified():
        arguments = ["verify", str(desk.session), "--watch", str(desk.watch), "--json"]
        return json.loads(CliRunner().invoke(app, arguments).output)

    found = verified()
    assert (found["complete"], found["acquired"], found["stored"]) == (True, 6, 6)
    assert (found["absent"], found["not_ready"], found["unreadable"]) == ([], [], [])
    np.save(desk.watch / "c.npy", np.ones((3, SIDE, SIDE), np.float32))
    assert verified()["missing"] == ["c.npy#2"]


@pytest.mark.parametrize("live", [False, True])
def test_a_live_session_that_is_compared_with_no_folder_is_not_called_complete(desk, live):
    if live:
        desk.quarantine(7, generation=1)  # after three attempts
    done = CliRunner().invoke(app, ["verify", str(desk.session), "--json"])
    assert json.loads(done.output)["complete"] == (not live)
    assert done.exit_code == int(live)
    watch = ["--watch", str(desk.watch)]
    assert CliRunner().invoke(app, ["verify", str(desk.session), *watch]).exit_code == 0


@pytest.mark.skipif(sys.platform == "win32", reason="names of POSIX")
def test_what_is_not_watched_is_counted_and_the_verdict_has_a_word_on_it(desk):
    def asked(*more):
        arguments = ["verify", str(desk.session), "--watch", str(desk.watch), *more]
        return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})

    assert "not watched and" not in asked().output
    assert asked().output.endswith(
        "complete: every section wanted is stored or quarantined, once and whole\n"
    )
    (desk.watch / "b.dm4").touch()
    (desk.watch / "c:d.mrc").touch()
    done = asked()
    assert done.exit_code == 0
    assert "2 files and folders are not watched and not counted" in done.output
    assert "once and whole, except for what is not watched" in done.output
    assert json.loads(asked("--json").output)["not_watched"] == [
        "b.dm4: [watch] include does not take its name",
        "c:d.mrc: it has a colon; rename it",
    ]

"""A result is stored once, whole, and can be read while the session grows."""

import errno
import math
import sqlite3
import time
from contextlib import closing

import cv2
import h5py
import msgspec
import numpy as np
import pandas as pd
import pytest

import nanostream as ns
from nanostream.analysis import versions
from nanostream.config import Config, Stream
from nanostream.errors import MessageError, SessionError
from nanostream.records import (
    PARTICLE_DTYPE,
    Alarm,
    Measured,
    Metadata,
    SectionId,
    Severity,
    TrackerSettings,
)
from nanostream.results import mask_files
from nanostream.results.columns import COLUMNS, measured_of
from nanostream.results.exports import export
from nanostream.results.folders import is_never
from nanostream.results.mask_files import mask_path
from nanostream.results.store import Store, acknowledge
from nanostream.results.verification import AcquiredFile, verify
from tests import factories

MOVIE = TrackerSettings()


def a_result(z, *, path="movie.mrc", stream=None, centres=((20, 20), (40, 60)), generation=1):
    """Discs at known places, 0.1 nm a pixel."""
    return factories.a_result(
        factories.discs(*((y, x, 6) for y, x in centres)),
        SectionId(path, z, generation),
        known={
            "pixel_size_nm": 0.1,
            "metadata": Metadata(file_title="SerialEM: 10:00"),
            "stream": stream,
        },
        versions=versions(),
        timings_s={"predict_s": 0.25},
    )


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "session"


def test_what_is_stored_is_read_back(folder):
    with Store(folder, Config()) as store:
        assert store.commit(a_result(3))
    session = ns.open_session(folder)
    (section,) = session.sections.itertuples()
    assert (section.section, section.count, section.predict_s) == ("movie.mrc#3", 2, 0.25)
    assert list(session.particles.columns[:4]) == ["frame", "particle", "x", "y"]
    assert session.particles["diameter_nm"].tolist() == pytest.approx([1.2, 1.2], rel=0.01)
    np.testing.assert_array_equal(session.labels("movie.mrc#3"), a_result(3).labels)
    np.testing.assert_array_equal(session.probability("movie.mrc#3") > 0.5, a_result(3).labels > 0)


def test_what_is_warned_of_is_in_table_and_mask(folder):
    warned = msgspec.structs.replace(
        a_result(1), domain_score=0.002, warning="unlike: check the mask"
    )
    with Store(folder, Config()) as store:
        store.commit(a_result(0))
        store.commit(warned)
    sections = ns.open_session(folder).sections
    assert sections["warning"].tolist() == ["", "unlike: check the mask"]
    assert sections["domain_score"].isna().tolist() == [True, False]
    assert sections["domain_score"][1] == 0.002
    attributes = []
    for z in (0, 1):
        with h5py.File(folder / mask_path(SectionId("movie.mrc", z)), "r") as file:
            attributes.append({k: file.attrs.get(k) for k in ("domain_score", "warning")})
    assert attributes == [
        {"domain_score": None, "warning": ""},
        {"domain_score": 0.002, "warning": "unlike: check the mask"},
    ]


#: What the sessions of version 1 began with, of the columns that are read off `Result`.
FIRST_COLUMNS = {
    *("pixel_size_nm", "metadata", "written_s", "timings", "count", "count_edge", "area_fraction"),
    *("mean_diameter_px", "median_diameter_px", "mean_diameter_nm", "median_diameter_nm", "model"),
    *("model_sha256", "threshold", "normalization_maximum", "pixels_crc32", "versions"),
}

#: And of a particle's.
FIRST_MEASURES = {
    *("frame", "particle", "x", "y", "x_nm", "y_nm", "label", "area_px", "area_nm2", "diameter_px"),
    *("diameter_nm", "left_px", "top_px", "right_px", "bottom_px", "left_nm", "top_nm", "right_nm"),
    *("bottom_nm", "mean_probability", "mean_intensity", "touches_edge"),
}


def test_a_column_that_came_later_has_a_default():
    assert {column.name for column in COLUMNS} >= FIRST_COLUMNS
    later = [column for column in COLUMNS if column.name not in FIRST_COLUMNS]
    assert [column.name for column in later if column.default is msgspec.NODEFAULT] == []
    assert {"domain_score", "warning"} <= {column.name for column in later}


def test_a_row_says_what_the_result_said(folder):
    result = msgspec.structs.replace(a_result(0, stream=MOVIE), warning="it's odd", written_s=2.5)
    with Store(folder, Config()) as store:
        store.commit(result)
    with closing(sqlite3.connect(folder / "session.db")) as db:
        db.row_factory = sqlite3.Row
        read = measured_of(db.execute("SELECT * FROM sections").fetchone())
    for name in Measured.__struct_fields__:
        if name not in ("stream", "domain_score", "versions"):
            assert getattr(read, name) == getattr(result, name), name
    assert math.isnan(read.domain_score)
    assert result.versions.items() <= read.versions.items()  # and that of the configuration


@pytest.fixture
def older_session(folder):
    """As an older nanostream left it: without the columns that have a default since."""
    with Store(folder, Config()) as store:
        store.commit(a_result(0))
    with closing(sqlite3.connect(folder / "session.db")) as db, db:
        for column in COLUMNS:
            if column.name not in FIRST_COLUMNS:
                db.execute(f"ALTER TABLE sections DROP COLUMN {column.name}")
        for name in PARTICLE_DTYPE.names or ():
            if name not in FIRST_MEASURES:
                db.execute(f"ALTER TABLE particles DROP COLUMN {name}")
    return folder


def test_an_older_session_can_be_read(older_session):
    (section,) = ns.open_session(older_session).sections.itertuples()
    assert str(section.domain_score) == "nan"
    assert (section.section, section.warning) == ("movie.mrc#0", "")


def test_an_older_session_can_be_gone_on_with(older_session):
    before = ns.open_session(older_session).sections
    with Store(older_session, Config()) as store:
        store.commit(msgspec.structs.replace(a_result(1), domain_score=0.5, warning="not sure"))
    after = ns.open_session(older_session).sections
    assert list(after.columns) == list(before.columns)
    assert after["warning"].tolist() == ["", "not sure"]
    assert after["domain_score"].fillna(-1).tolist() == [-1, 0.5]


def test_particles_of_an_older_session_have_the_columns_that_came_later(older_session):
    before = ns.open_session(older_session).particles
    with Store(older_session, Config()) as store:
        store.commit(a_result(1))
    after = ns.open_session(older_session).particles
    assert list(before.columns) == list(after.columns)
    assert (before.dtypes == after.dtypes).all()
    pd.testing.assert_frame_equal(before, after[after["frame"] == 0])
    old, new = before.iloc[0], after[after["frame"] == 1].iloc[0]
    assert (old["diameter_px"], old["shape_class"], old["doubtful"]) == (
        *(new["diameter_px"], "unclassified", False),
    )
    assert math.isnan(old["feret_max_px"])
    assert (new["shape_class"], new["feret_max_px"]) == ("round", pytest.approx(13, abs=1))


def test_a_result_that_comes_twice_changes_nothing(folder):
    with Store(folder, Config()) as store:
        assert store.commit(a_result(0))
        assert not store.commit(a_result(0, centres=((50, 50),)))
    assert len(ns.open_session(folder).particles) == 2


def test_an_acknowledgement_is_of_the_alarm_that_was_seen_and_of_no_later_one(folder):
    with Store(folder, Config()) as store:
        first = Alarm("agent silent", Severity.WARNING, "not heard for 4 s", since_s=time.time())
        store.alarm(first)
        assert store.acknowledged() == set()
        acknowledge(folder, ["agent silent"])
        assert store.acknowledged() == {"agent silent"}
        # It becomes worse: another alarm, and the one before is closed.
        later_s = time.time() + 1.0
        store.alarm(msgspec.structs.replace(first, cleared_s=later_s))
        store.alarm(msgspec.structs.replace(first, severity=Severity.PROBLEM, since_s=later_s))
        assert store.acknowledged() == set()
    kept = ns.open_session(folder).alarms
    assert kept.severity.tolist() == ["warning", "problem"]
    assert kept.cleared_s.isna().tolist() == [False, True]
    with Store(folder, Config()):  # what an ended process has raised ended with it
        assert ns.open_session(folder).alarms.cleared_s.notna().all()


def test_a_kill_between_mask_and_rows_leaves_nothing_and_can_be_repeated(folder, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    with Store(folder, Config()) as store:
        store.commit(a_result(0))
        with monkeypatch.context() as patch:
            patch.setattr(Store, "_insert_section", die)
            with pytest.raises(Killed):
                store.commit(a_result(1))
    assert ns.open_session(folder).sections["section"].tolist() == ["movie.mrc#0"]
    with Store(folder, Config()) as store:
        assert store.commit(a_result(1))
    assert verify(ns.open_session(folder)).complete


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("No space left on device")]
)
def test_a_full_disk_is_said_and_leaves_nothing(folder, monkeypatch, error):
    def full(*_):
        # h5py raises RuntimeError where the write that fails is the one at closing.
        raise error

    with Store(folder, Config()) as store:
        with monkeypatch.context() as patch:
            patch.setattr(mask_files, "_to_disk", full)
            with pytest.raises(SessionError, match="No space left"):
                store.commit(a_result(0))
        assert not store.has(SectionId("movie.mrc", 0))
        assert store.commit(a_result(0))


def test_a_reader_sees_what_is_committed_while_the_store_is_open(folder):
    with Store(folder, Config()) as store:
        for z in range(3):
            store.commit(a_result(z))
            session = ns.open_session(folder)
            assert len(session.sections) == z + 1
            assert session.labels(f"movie.mrc#{z}").max() == 2


def test_identities_last_although_sections_come_out_of_order(folder):
    places = [((20 + z, 20), (40 + z, 60)) for z in range(5)]
    with Store(folder, Config()) as store:
        for z in (0, 2, 1, 4, 3):
            store.commit(a_result(z, stream=MOVIE, centres=places[z]))
    tracks = ns.open_session(folder).tracks
    assert tracks["frame"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert tracks.groupby("particle")["x"].nunique().tolist() == [1, 1]
    particles = ns.open_session(folder).particles
    assert particles.groupby("particle")["x"].nunique().tolist() == [1, 1]


def test_identities_go_on_after_a_restart_and_past_a_quarantined_section(folder):
    config = Config()
    for z in range(6):
        with Store(folder, config) as store:
            if z == 3:
                store.quarantine(SectionId("movie.mrc", 3), "torn", attempts=3, stream=MOVIE)
            else:
                store.commit(a_result(z, stream=MOVIE))
    tracks = ns.open_session(folder).tracks
    assert tracks["frame"].unique().tolist() == [0, 1, 2, 4, 5]
    assert tracks["particle"].nunique() == 2


def test_a_movie_is_linked_as_its_sections_say_whatever_the_stores_own_configuration(folder):
    """The agent's machine has the streams' settings; the sink's need not have the same, or any."""
    places = [((20, 20 + 4 * z), (40, 60 + 4 * z)) for z in range(3)]
    short, long = TrackerSettings(max_step_px=1.0), TrackerSettings(max_step_px=9.0)
    other = Config(streams=(Stream("*.mrc", max_step_px=9.0), Stream("none-at-all")))
    with Store(folder, other) as store:
        for z in range(3):
            store.commit(a_result(z, path="short.mrc", stream=short, centres=places[z]))
            store.commit(a_result(z, path="long.mrc", stream=long, centres=places[z]))
            store.commit(a_result(z, path="no-movie.mrc", centres=places[z]))
    identities = ns.open_session(folder).tracks.groupby("file")["particle"].nunique()
    assert identities.to_dict() == {"short.mrc": 6, "long.mrc": 2}


def test_a_file_name_used_again_is_another_stream(folder):
    with Store(folder, Config()) as store:
        store.commit(a_result(0, stream=MOVIE))
        store.commit(a_result(0, stream=MOVIE, generation=2))
    session = ns.open_session(folder)
    assert session.tracks["file"].unique().tolist() == ["movie.mrc", "movie.mrc~2"]
    assert session.labels("movie.mrc~2#0").max() == 2


def test_quarantine_is_listed_until_the_section_is_stored_after_all(folder):
    with Store(folder, Config()) as store:
        store.quarantine(SectionId("movie.mrc", 0), "share was away", attempts=3)
        assert ns.open_session(folder).quarantine["reason"].tolist() == ["share was away"]
        store.commit(a_result(0))
        store.quarantine(SectionId("movie.mrc", 0), "late notice", attempts=3)
    assert ns.open_session(folder).quarantine.empty


def test_an_empty_section_is_a_result(folder):
    with Store(folder, Config()) as store:
        store.commit(a_result(0, stream=MOVIE, centres=()))
        store.commit(a_result(1, stream=MOVIE))
    session = ns.open_session(folder)
    assert session.sections["count"].tolist() == [0, 2]
    assert session.particles["frame"].tolist() == [1, 1]


def test_an_empty_session_has_the_tables_of_a_full_one(folder, tmp_path):
    for name, results in (("empty", []), ("full", [a_result(0, stream=MOVIE)])):
        with Store(tmp_path / name, Config()) as store:
            for result in results:
                store.commit(result)
    empty, full = ns.open_session(tmp_path / "empty"), ns.open_session(tmp_path / "full")
    for table in ("particles", "tracks", "drift", "quarantine"):
        numbers = getattr(full, table).select_dtypes("number").dtypes
        pd.testing.assert_series_equal(getattr(empty, table)[numbers.index].dtypes, numbers)


def test_a_result_that_can_never_be_stored_is_refused_for_good(folder):
    with Store(folder, Config()) as store, pytest.raises(MessageError, match="too long"):
        store.commit(a_result(0, path=f"{'x' * 255}.mrc"))


@pytest.mark.parametrize(
    ("winerror", "never"), [(123, True), (87, True), (59, False), (64, False), (None, False)]
)
def test_on_windows_an_unknown_error_passes(winerror, never):
    error = OSError(errno.EINVAL, "Invalid argument")
    assert is_never(error, windows=False)
    error.winerror = winerror  # type: ignore[attr-defined]  # on Windows alone
    assert is_never(error, windows=True) == never
    assert is_never(OSError(errno.ENAMETOOLONG, "too long"), windows=True)


def test_a_session_without_the_index_of_files_gets_it(folder):
    index = "SELECT name FROM sqlite_schema WHERE name = 'sections_of_file'"
    with Store(folder, Config()) as store:
        store.commit(a_result(0))
    with closing(sqlite3.connect(folder / "session.db", isolation_level=None)) as db:
        db.execute("DROP INDEX sections_of_file")
    with Store(folder, Config()) as store:
        assert store.has(SectionId("movie.mrc", 0))
    with closing(sqlite3.connect(folder / "session.db")) as db:
        assert db.execute(index).fetchone()


def test_metadata_that_hdf5_cannot_keep_are_refused_for_good(folder):
    result = a_result(0)
    metadata = msgspec.structs.replace(result.metadata, file_title="gold\0rest")
    with (
        Store(folder, Config()) as store,
        pytest.raises(MessageError, match="cannot be kept"),
    ):
        store.commit(msgspec.structs.replace(result, metadata=metadata))


def test_a_second_writer_is_kept_out_until_the_first_is_gone(folder):
    with Store(folder, Config()), pytest.raises(SessionError, match="in use by another"):
        Store(folder, Config())
    with Store(folder, Config()) as store:
        assert store.commit(a_result(0))


def test_until_its_turn_comes_a_particle_of_a_stream_has_no_identity(folder):
    with Store(folder, Config()) as store:
        store.commit(a_result(1, stream=MOVIE))
        assert ns.open_session(folder).particles["particle"].tolist() == [-1, -1]
        store.commit(a_result(0, stream=MOVIE))
    assert ns.open_session(folder).particles["particle"].tolist() == [1, 2, 1, 2]


def test_a_word_is_kept_once(folder):
    with Store(folder, Config()) as store:
        for number, text in ((1, "a"), (2, "b"), (1, "a")):
            store.event("agent-1", number, text)
        store.event("agent-2", 1, "a")
    assert ns.open_session(folder).events["text"].tolist() == ["a", "b", "a"]


def test_the_counts_are_those_of_the_tables(folder):
    with Store(folder, Config()) as store:
        for z in range(3):
            store.commit(a_result(z, stream=MOVIE))
        store.quarantine(SectionId("b.mrc", 0), "torn", attempts=3)
        assert store.counts() == {"sections": 3, "particles": 6, "quarantine": 1, "tracks": 2}


def test_a_file_name_cannot_become_a_formula(folder, tmp_path):
    with Store(folder, Config()) as store:
        store.commit(a_result(0, path="=HYPERLINK(1).mrc"))
    export(ns.open_session(folder), "csv", tmp_path)
    assert pd.read_csv(tmp_path / "sections.csv")["path"][0] == "'=HYPERLINK(1).mrc"


def test_a_damaged_database_is_said_at_the_start(folder):
    with Store(folder, Config()) as store:
        for z in range(20):
            store.commit(a_result(z))
    database = folder / "session.db"
    data = bytearray(database.read_bytes())
    data[8192:16384] = b"\xa5" * 8192
    database.write_bytes(data)
    with pytest.raises(SessionError, match=r"damaged|malformed|not a database"):
        Store(folder, Config())


@pytest.mark.parametrize("content", ["thesis.docx", "logs2"])
def test_a_foreign_folder_is_refused(folder, content):
    folder.mkdir()
    (folder / content).touch()
    (folder / "logs").mkdir()
    with pytest.raises(SessionError, match="other things"):
        Store(folder, Config())


def test_a_session_of_another_version_is_refused_by_name(folder):
    with Store(folder, Config()):
        pass
    with sqlite3.connect(folder / "session.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(SessionError, match="version 99"):
        Store(folder, Config())
    with pytest.raises(SessionError, match="version 99"):
        ns.open_session(folder)


def test_a_folder_that_is_no_session_is_named_and_one_inside_it_is_guessed(tmp_path):
    with pytest.raises(SessionError, match=r"no nanostream session: .*; give the --out"):
        ns.open_session(tmp_path)
    with Store(tmp_path / "session", Config()):
        pass
    with pytest.raises(SessionError, match=r"is .*session meant\?"):
        ns.open_session(tmp_path)


def test_a_section_without_a_mask_is_answered_with_how_sections_are_named(folder):
    with Store(folder, Config()) as store:
        store.commit(a_result(3))
    session = ns.open_session(folder)
    for wrong in (3, "movie.mrc", "movie.mrc#4"):
        with pytest.raises(SessionError, match=f"no mask of section {wrong} .*gold.mrc#3"):
            session.labels(wrong)  # type: ignore[arg-type]  # as somebody would type it


def test_verify_finds_missing_and_damaged_sections(folder):
    with Store(folder, Config()) as store:
        for z in range(3):
            store.commit(a_result(z))
        store.quarantine(SectionId("movie.mrc", 3), "torn", attempts=3)
    session = ns.open_session(folder)
    acquired = [AcquiredFile("movie.mrc", 4, "SerialEM: 10:00")]
    assert verify(session, acquired).complete
    more = [AcquiredFile("movie.mrc", 5, "SerialEM: 10:00")]
    assert verify(session, more).missing == ("movie.mrc#4",)
    # Stored is what was in the file that was opened at ten; now another has its name.
    anew = [AcquiredFile("movie.mrc", 1, "SerialEM: 11:00")]
    assert verify(session, anew).missing == ("movie.mrc#0",)
    with h5py.File(folder / mask_path(SectionId("movie.mrc", 1)), "r+") as file:
        file["labels"][0, 0] = 7
    (folder / mask_path(SectionId("movie.mrc", 2))).write_bytes(b"torn")
    assert verify(session, acquired).damaged == ("movie.mrc#1", "movie.mrc#2")


def test_csv_tables_are_the_sessions_tables(folder, tmp_path):
    with Store(folder, Config()) as store:
        result = a_result(0, stream=MOVIE)
        # An empty text would come back as NaN, as empty cells do.
        store.commit(msgspec.structs.replace(result, domain_score=0.002, warning="not sure: 41 %"))
    session = ns.open_session(folder)
    export(session, "csv", tmp_path / "tables")
    for name in ("sections", "particles", "tracks"):
        table = pd.read_csv(tmp_path / "tables" / f"{name}.csv")
        if name != "sections":
            assert table.pop("track").tolist() == [1, 2]
        pd.testing.assert_frame_equal(table, getattr(session, name), check_dtype=False)
    with pytest.raises(SessionError, match="csv"):
        export(session, "xls", tmp_path)


def test_masks_are_pictures_in_the_folders_of_their_micrographs(folder, tmp_path):
    with Store(folder, Config()) as store:
        for day in ("day1", "day2"):
            store.commit(a_result(0, path=f"{day}/gold.mrc"))
    session = ns.open_session(folder)
    written = export(session, "png", tmp_path / "masks")
    assert written == [tmp_path / "masks" / f"day{n}" / "gold.mrc.z0_mask.png" for n in (1, 2)]
    mask = cv2.imdecode(np.fromfile(written[1], np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(mask, 255 * (session.labels("day2/gold.mrc#0") > 0))
    assert mask.dtype == np.uint8

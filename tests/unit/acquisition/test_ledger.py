"""The agent's memory survives it."""

import pytest

from nanostream.acquisition.ledger import Ledger, passed_over
from nanostream.acquisition.readiness import FileStat, KnownFile
from nanostream.errors import MessageError, SessionError
from nanostream.records import SectionId


def sections(*numbers):
    return [SectionId("a.mrc", z) for z in numbers]


def test_what_was_found_and_has_no_end_comes_back_in_order(tmp_path):
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.found("a.mrc", KnownFile(1, 4), sections(0, 1, 2, 3))
        ledger.stored(SectionId("a.mrc", 1))
        ledger.quarantined(SectionId("a.mrc", 2), "torn", 3)
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert ledger.unfinished() == sections(0, 3)
        assert ledger.given_up() == [(SectionId("a.mrc", 2), "torn", 3)]
        assert (ledger.seen, ledger.count("found"), ledger.count("stored")) == (4, 2, 1)


def test_files_are_known_again_with_windows_sized_ids(tmp_path):
    stat = FileStat(5_000_000_000, 1_800_000_000_000_000_000, 2**64 - 1)
    known = KnownFile(2, 7, stat, "SerialEM: ...", ((3, 3), (5, 4)), "7 1 2 1.5")
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.found("a.mrc", known, [])
        ledger.found("b.mrc", KnownFile(), [])
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert ledger.known_files() == {"a.mrc": known, "b.mrc": KnownFile()}


def test_finding_again_and_late_words_change_no_end(tmp_path):
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.found("a.mrc", KnownFile(1, 1), sections(0))
        ledger.stored(SectionId("a.mrc", 0))
        ledger.found("a.mrc", KnownFile(1, 1), sections(0))
        ledger.quarantined(SectionId("a.mrc", 0), "late", 3)
        ledger.stored(SectionId("never-found.mrc", 0))
        assert (ledger.unfinished(), ledger.given_up(), ledger.seen) == ([], [], 1)


def fill_disk(ledger):
    """A disk that SQLite takes for full; calling the result makes room again."""
    (pages,) = ledger._db.execute("PRAGMA page_count").fetchone()
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    return lambda: ledger._db.execute("PRAGMA max_page_count = 1000000")


def test_what_cannot_be_written_now_is_waited_for_and_written_once(tmp_path):
    with Ledger(tmp_path / "ledger.db") as ledger:
        make_room, asked = fill_disk(ledger), []

        def go_on(error):
            asked.append(str(error))
            if len(asked) == 3:
                make_room()
            return True

        ledger.when_stuck(go_on)
        ledger.found("a.mrc", KnownFile(1, 500), sections(*range(500)))
        assert len(asked) == 3
        assert "No space left" in asked[0]
        assert ledger.count("found") == 500
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert ledger.unfinished() == sections(*range(500))


def test_what_nobody_waits_for_is_an_error_and_changes_nothing(tmp_path):
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.when_stuck(lambda _: False)
        fill_disk(ledger)
        with pytest.raises(SessionError, match="No space left"):
            ledger.found("a.mrc", KnownFile(1, 500), sections(*range(500)))
        assert (ledger.seen, ledger.unfinished()) == (0, [])


def test_what_can_never_fit_is_not_waited_for(tmp_path):
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.when_stuck(lambda _: pytest.fail("waiting mends nothing"))
        with pytest.raises(MessageError):
            ledger.read(SectionId("a.mrc", 0), 2**64)


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    (tmp_path / "ledger.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(SessionError, match=r"ledger\.db"):
        Ledger(tmp_path / "ledger.db")


def test_fingerprints_are_of_the_sections_that_are_in_the_file_now(tmp_path):
    with Ledger(tmp_path / "ledger.db") as ledger:
        for section, value in [("a.mrc#0", 10), ("a.mrc#1", 11), ("a.mrc~2#1", 12), ("b.mrc#0", 9)]:
            ledger.read(SectionId.parse(section), value)
        ledger.read(SectionId("a.mrc", 0), 99)  # sent again: what was read first counts
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert ledger.fingerprints("a.mrc", KnownFile(1, 2)) == {0: 10, 1: 11}
        overwritten = KnownFile(1, 2, overwritten=((1, 2),))
        assert ledger.fingerprints("a.mrc", overwritten) == {0: 10, 1: 12}
        assert ledger.fingerprints("a.mrc", KnownFile(3, 2)) == {}


def test_what_was_passed_over_at_the_first_start_is_known_and_never_found(tmp_path):
    known = KnownFile(1, 3, title="SerialEM: a")
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert not ledger.first_scan_ended
        ledger.end_first_scan({"a.mrc": known})
        assert passed_over(tmp_path / "ledger.db") == {("a.mrc", "SerialEM: a"): 3}  # while in use
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert ledger.first_scan_ended
        assert (ledger.known_files(), ledger.unfinished(), ledger.seen) == ({"a.mrc": known}, [], 0)
    assert passed_over(tmp_path / "absent.db") == {}
    assert not (tmp_path / "absent.db").exists()


def test_the_unread_end_of_a_file_is_what_a_copy_that_goes_on_may_mend(tmp_path):
    file = KnownFile(1, 5, overwritten=((4, 2),))
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.found("a.mrc", file, [*sections(0, 1, 2, 3), SectionId("a.mrc", 4, 2)])
        ledger.found("b.mrc", KnownFile(1, 1), [SectionId("b.mrc", 0)])
        assert ledger.unread_end("a.mrc", file) == []
        for z in (0, 3):
            ledger.quarantined(SectionId("a.mrc", z), "torn", 3)
        ledger.quarantined(SectionId("a.mrc", 4, 2), "torn", 3)
        ledger.quarantined(SectionId("b.mrc", 0), "torn", 3)
        ledger.stored(SectionId("a.mrc", 1))
        last = [SectionId("a.mrc", 3), SectionId("a.mrc", 4, 2)]
        assert ledger.unread_end("a.mrc", file) == last
        ledger.read(SectionId("a.mrc", 3), 7)  # its pixels are there, whatever came of them
        assert ledger.unread_end("a.mrc", file) == last[1:]
        assert ledger.unread_end("a.mrc", KnownFile(1, 6)) == []  # one behind it that is not

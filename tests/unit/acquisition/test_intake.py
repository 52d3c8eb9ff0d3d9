"""Scans, file events, headers, sidecars and kills in any order: each section once, none lost."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nanostream.acquisition import orders as o
from nanostream.acquisition.intake import METADATA_S, READ_S
from nanostream.acquisition.readiness import FileStat
from nanostream.records import SectionId
from tests.effort import examples
from tests.unit.acquisition.intake_driver import DESCRIBED, Driver, FakeFolder

POLL_S = 1.0


@pytest.fixture
def folder():
    return FakeFolder()


def old_files(folder, count=3, sections=1):
    for number in range(count):
        folder.save(f"old{number:02}.mrc", sections)


# --- scans and file events -----------------------------------------------------------------------


def test_a_section_is_found_by_a_scan_remembered_and_released(folder):
    folder.save("a.mrc", 2)
    driver = Driver(folder, mdoc_wait_s=0.0)
    assert driver.turn() == ["a.mrc#0", "a.mrc#1"]
    kinds = [type(order) for order in driver.performed]
    steps = [o.Scan, o.Inspect, o.Remember, o.ReadSidecar, o.Release]
    assert [kind for kind in dict.fromkeys(kinds) if kind in steps] == steps


def test_a_section_that_a_file_event_names_is_released_before_the_next_scan(folder):
    driver = Driver(folder, mdoc_wait_s=0.0)
    driver.turn()
    folder.save("a.mrc")
    assert driver.turn() == []
    driver.now_s += 5.0  # a scan is due as well
    driver.performed.clear()
    assert driver.turn("a.mrc") == ["a.mrc#0"]
    kinds = [type(order) for order in driver.performed]
    assert kinds.index(o.Release) < kinds.index(o.Scan)


def test_all_files_are_scanned_every_poll_s(folder):
    driver = Driver(folder, poll_s=2.0)
    driver.turns(10.5, every_s=0.5)
    assert [order.everything for order in driver.all_of(o.Scan)] == [True] * 6


def test_a_section_is_released_once_whatever_repeats(folder):
    folder.save("a.mrc", mdoc=True)
    driver = Driver(folder)
    released = [driver.turn("a.mrc", "a.mrc"), driver.turn("a.mrc"), driver.turns(100.0)]
    assert released == [["a.mrc#0"], [], []]


def test_a_header_that_file_events_ask_for_makes_what_a_scan_saw_before_obsolete(folder):
    old_files(folder, 30)
    driver = Driver(folder, read_s=1.0)
    driver.turn()  # one header, then the turn is over
    assert driver.inspected() == ["old00.mrc"]
    folder.save("old20.mrc")
    driver.turn("old20.mrc")
    assert driver.inspected()[1] == "old20.mrc"
    driver.turns(100.0)
    changed = [
        order.listed
        for order in driver.performed
        if isinstance(order, o.Inspect) and "20" in order.path
    ]
    assert set(changed) == {folder.files["old20.mrc"].stat}


def test_one_header_and_one_sidecar_a_turn_are_read_however_long_that_takes(folder):
    old_files(folder, 5)
    driver = Driver(folder, mdoc_wait_s=60.0, read_s=10 * READ_S)
    for _ in range(2):
        driver.performed.clear()
        driver.turn()
    kinds = [type(order) for order in driver.performed]
    assert kinds.count(o.Inspect) == kinds.count(o.ReadSidecar) == 1


def test_headers_are_read_for_a_while_in_a_turn_and_sections_go_meanwhile(folder):
    old_files(folder, 100)
    driver = Driver(folder, mdoc_wait_s=0.0, read_s=READ_S / 20)
    released = driver.turn()
    assert 5 <= len(released) < 20
    assert driver.intake.sleep_s(driver.now_s) == 0.0
    for _ in range(30):
        released += driver.turn()
    assert sorted(released) == [f"old{number:02}.mrc#0" for number in range(100)]


def test_no_scan_is_made_before_the_headers_of_the_last_one_are_read(folder):
    old_files(folder, 20)
    driver = Driver(folder, read_s=1.0)
    for _ in range(15):
        driver.turn()
    assert len(driver.all_of(o.Scan)) == 1


def test_scans_become_rare_where_they_cost_much_and_that_is_reported(folder):
    driver = Driver(folder, poll_s=1.0)
    driver.turn()  # the first one takes longer than others
    folder.scan_cost_s = (0.1, 0.5)
    driver.turns(500.0)
    scans = [order.everything for order in driver.all_of(o.Scan)]
    assert scans.count(True) == 1 + 5
    assert driver.reports == [
        "0 files: all are scanned every 100 s, those written last and what is new every 1 s"
    ]


def test_how_long_may_be_slept(folder):
    driver = Driver(folder, poll_s=3.0, mdoc_wait_s=60.0)
    assert driver.intake.sleep_s(driver.now_s) <= 0.0
    driver.turn()
    driver.now_s += 1.0
    assert driver.intake.sleep_s(driver.now_s) == pytest.approx(2.0)
    folder.save("a.mrc")
    driver.turn("a.mrc")
    assert driver.intake.sleep_s(driver.now_s) == METADATA_S


def test_a_section_that_a_scan_found_is_missed_by_file_events_unless_it_was_there_before(folder):
    folder.save("before.mrc")
    driver = Driver(folder)
    driver.turn()
    folder.save("told.mrc")
    driver.turn("told.mrc")
    folder.save("scanned.mrc")
    driver.turns(2.0)
    expected = [order.path for order in driver.all_of(o.ExpectFileEvent)]
    assert expected == ["scanned.mrc"]


# --- what may still come --------------------------------------------------------------------------


def unsettled(driver, seconds, every_s=1.0):
    """Files that may still change, after each turn."""
    found = []
    for _ in range(int(seconds / every_s)):
        driver.turns(every_s)
        found.append(driver.intake.unsettled)
    return found


def test_before_the_first_file_something_may_still_come(folder):
    driver = Driver(folder)
    assert min(unsettled(driver, 600.0)) == 1
    folder.save("a.mrc")
    assert unsettled(driver, 10.0)[-1] == 0


def test_what_is_not_watched_is_a_first_file_too(folder):
    driver = Driver(folder)
    driver.turns(10.0)
    assert driver.intake.unsettled == 1
    driver.feed(o.Scanned({}, everything=True, unwatched=True))
    assert driver.intake.unsettled == 0


def test_what_was_there_before_and_is_passed_over_is_no_first_file(folder):
    old_files(folder)
    driver = Driver(folder, start="only-new")
    assert min(unsettled(driver, 100.0)) == 1
    folder.save("a.mrc")
    assert unsettled(driver, 10.0)[-1] == 0


@pytest.mark.parametrize("event", [False, True])
def test_a_file_that_has_just_changed_may_change_again(folder, event):
    folder.save("a.mrc")
    driver = Driver(folder)
    assert unsettled(driver, 10.0)[-1] == 0
    folder.save("a.mrc")
    driver.turn(*["a.mrc"] * event)
    assert driver.intake.unsettled >= event
    assert unsettled(driver, 2.0)[0] >= 1
    assert unsettled(driver, 3.0)[-1] == 0


@pytest.mark.parametrize("what", ["half written", "cut off", "unreadable", "ahead"])
def test_a_file_of_which_sections_are_due_is_waited_for_but_not_for_ever(folder, what):
    folder.save("b.mrc")
    driver = Driver(folder)
    driver.turns(10.0)
    folder.create("a.mrc")
    folder.write_pixels("a.mrc")
    if what == "unreadable":
        folder.instead["a.mrc"] = o.HeaderUnreadable("a.mrc", "Permission denied")
    if what in ("cut off", "ahead"):
        folder.write_header("a.mrc")
        folder.files["a.mrc"].counted = 3 if what == "cut off" else 1
        folder.files["a.mrc"].saves += [0] * (what == "ahead")
    counts = unsettled(driver, 100.0)
    assert min(counts[:55]) == 1
    assert counts[-1] == 0
    folder.write_header("a.mrc")
    folder.instead.clear()
    driver.turns(1.0)
    assert driver.intake.unsettled == 1


def test_a_file_that_is_gone_brings_nothing_more(folder):
    folder.save("b.mrc")
    folder.create("a.mrc")
    driver = Driver(folder)
    assert unsettled(driver, 5.0)[-1] == 1
    del folder.files["a.mrc"]
    assert unsettled(driver, 2.0)[-1] == 0


# --- what is remembered --------------------------------------------------------------------------


def test_after_a_kill_what_has_no_end_is_resumed_and_what_is_stored_is_not(folder):
    folder.save("a.mrc", 3)
    driver = Driver(folder, mdoc_wait_s=0.0)
    driver.turn()
    driver.done(SectionId("a.mrc", 1))
    driver.kill()
    assert driver.turns(5.0) == ["a.mrc#0", "a.mrc#2"]
    assert not any(release.described for release in driver.released.values())
    assert driver.reported("resuming 2 sections of an earlier run") == 1


def test_a_kill_between_finding_and_remembering_finds_again(folder):
    folder.save("a.mrc")
    driver = Driver(folder)
    driver.feed(o.Tick())
    while not isinstance(driver.orders[0], o.Remember):
        driver.perform()
    driver.kill()
    assert driver.turns(2.0) == ["a.mrc#0"]


def test_no_header_of_a_settled_file_is_read_again_not_even_after_a_restart(folder):
    old_files(folder, 50)
    driver = Driver(folder)
    driver.turns(10.0)
    driver.performed.clear()
    driver.turns(100.0)
    driver.kill()
    folder.save("new.mrc")
    driver.turn()
    assert driver.inspected() == ["new.mrc"]


def test_an_overwritten_section_is_released_once_more(folder):
    folder.save("a.mrc", 2)
    driver = Driver(folder, mdoc_wait_s=0.0)
    assert driver.turns(3.0) == ["a.mrc#0", "a.mrc#1"]
    for section in list(driver.released):
        driver.memory.read(section, folder.pixels(section))
    folder.write_pixels("a.mrc", 1)
    folder.write_header("a.mrc")
    assert driver.turns(10.0) == ["a.mrc~2#1"]
    folder.write_header("a.mrc")  # a new title, say
    assert driver.turns(100.0) == []


# --- metadata ------------------------------------------------------------------------------------


def test_a_section_is_held_until_its_metadata_is_there(folder):
    folder.save("a.mrc")
    driver = Driver(folder, mdoc_wait_s=0.5)
    assert driver.turn() == []
    driver.now_s += 0.1
    folder.write_mdoc("a.mrc")
    assert driver.turn() == ["a.mrc#0"]
    assert driver.released[SectionId("a.mrc", 0)].sidecar == DESCRIBED


def test_a_section_whose_metadata_does_not_come_goes_without_after_a_while(folder):
    folder.save("a.mrc")
    driver = Driver(folder, mdoc_wait_s=0.5)
    assert driver.turns(0.49, every_s=0.02) == []
    assert driver.turns(0.1, every_s=0.02) == ["a.mrc#0"]
    release = driver.released[SectionId("a.mrc", 0)]
    assert (release.sidecar, release.described) == (None, True)
    late = [order.late for order in driver.all_of(o.ReadSidecar)]
    assert late == [False] * (len(late) - 1) + [True]


def test_where_serialem_writes_no_mdocs_only_the_first_section_waits_for_one(folder):
    folder.save("a.mrc")
    driver = Driver(folder, mdoc_wait_s=0.5)
    driver.turn()
    driver.turns(1.0)
    folder.save("a.mrc")
    assert driver.turn("a.mrc") == ["a.mrc#1"]
    folder.save("b.mrc")
    assert driver.turn("b.mrc") == ["b.mrc#0"]
    folder.save("c.mrc", mdoc=True)  # and now it does
    folder.save("d.mrc")
    assert driver.turn("c.mrc") == ["c.mrc#0"]
    assert driver.turn("d.mrc") == []


def test_a_later_section_waits_if_there_is_an_mdoc(folder):
    folder.save("a.mrc", mdoc=True)
    driver = Driver(folder, mdoc_wait_s=0.5)
    assert driver.turn() == ["a.mrc#0"]
    folder.save("a.mrc")
    assert driver.turn("a.mrc") == []
    folder.write_mdoc("a.mrc")
    assert driver.turn("a.mrc") == ["a.mrc#1"]


def test_the_sidecar_is_read_once_a_turn_however_many_sections_wait(folder):
    folder.save("a.mrc", 200, mdoc=True)
    driver = Driver(folder)
    assert len(driver.turn()) == 200
    assert len(driver.all_of(o.ReadSidecar)) == 1


def test_sections_that_wait_take_turns_if_there_is_no_time_for_all(folder):
    for number in range(20):
        folder.save(f"{number}.mrc")
    driver = Driver(folder, mdoc_wait_s=1000.0)
    driver.turn()
    driver.read_s = READ_S / 4
    driver.performed.clear()
    for _ in range(5):
        driver.turn()
    read = [order.path for order in driver.all_of(o.ReadSidecar)]
    assert len(set(read)) == len(read) == 20 or len(set(read[:20])) == 20


def test_what_was_there_before_does_not_say_how_quick_the_agent_is(folder):
    folder.save("old.mrc")
    driver = Driver(folder, mdoc_wait_s=0.0)
    driver.turn()
    folder.save("new.mrc")
    driver.turn("new.mrc")
    written = {str(section): release.written_s for section, release in driver.released.items()}
    assert written == {
        "old.mrc#0": None,
        "new.mrc#0": folder.files["new.mrc"].mtime_ns / 1e9,
    }


# --- what was there before -----------------------------------------------------------------------


def test_what_was_there_at_the_first_start_can_be_left_alone(folder):
    old_files(folder, 2, sections=2)
    driver = Driver(folder, start="only-new")
    assert driver.turns(3.0) == []
    assert driver.reports == [
        "4 sections in 2 files were there before and are left alone ([watch] start = only-new)"
    ]
    folder.save("old01.mrc")
    folder.save("new.mrc")
    assert sorted(driver.turns(3.0)) == ["new.mrc#0", "old01.mrc#2"]
    assert driver.memory.files["old00.mrc"].published == 2


@pytest.mark.parametrize("before", [0, 2])
def test_what_comes_while_the_agent_is_down_is_new(folder, before):
    old_files(folder, before)
    driver = Driver(folder, start="only-new")
    driver.turns(3.0)
    folder.save("new.mrc")
    driver.kill()
    assert driver.turns(3.0) == ["new.mrc#0"]


def test_what_comes_during_the_first_scan_is_new(folder):
    old_files(folder, 20)
    driver = Driver(folder, start="only-new", read_s=10 * READ_S, mdoc_wait_s=0.0, poll_s=1000.0)
    driver.turn()
    folder.save("new.mrc")
    assert driver.turn("new.mrc") == []
    assert driver.turns(60.0) == ["new.mrc#0"]  # by the file event: no other scan was made
    assert driver.reported("20 sections in 20 files were there before") == 1


def test_an_agent_that_is_killed_within_its_first_scan_has_passed_nothing_over(folder):
    old_files(folder, 3)
    driver = Driver(folder, start="only-new")
    driver.feed(o.Tick())
    while not isinstance(driver.orders[0], o.EndFirstScan):
        driver.perform()
    driver.kill()
    assert driver.turns(3.0) == []
    assert driver.reported("3 sections in 3 files were there before") == 1


@pytest.mark.parametrize(("start", "passed_over"), [("all", 0), ("only-new", 1)])
def test_a_file_event_before_the_first_scan_does_not_end_it(folder, start, passed_over):
    old_files(folder, 3)
    driver = Driver(folder, start=start)
    driver.feed(o.FilesChanged(frozenset({"old01.mrc"})))
    driver.run()
    assert not driver.memory.first_scan_ended
    assert len(driver.turns(3.0)) == (0 if passed_over else 3)
    assert driver.reported("3 sections in 3 files") == passed_over


def test_what_was_there_can_wait_for_what_is_new_the_newest_first(folder):
    old_files(folder, 3, sections=2)
    driver = Driver(folder, start="newest-first", mdoc_wait_s=0.0)
    assert driver.turn(idle=False) == []
    assert driver.intake.waiting == 6
    assert driver.reported("6 sections from before this start: taken while no new") == 1
    folder.save("new.mrc", 2)
    assert driver.turn("new.mrc", idle=False) == ["new.mrc#0", "new.mrc#1"]
    for section in list(driver.released):
        driver.done(section)
    driver.feed(o.NothingWaits())
    driver.run()
    # A restarted agent keeps to it.
    driver.done(SectionId("old02.mrc", 1))
    driver.kill()
    folder.save("newer.mrc")
    first, *others = driver.turn("newer.mrc")
    assert first == "newer.mrc#0"
    assert others == [f"old{number:02}.mrc#{z}" for number in (2, 1, 0) for z in (1, 0)][1:]


def test_what_was_there_waits_while_a_new_section_waits_for_its_metadata(folder):
    old_files(folder, 1)
    driver = Driver(folder, start="newest-first", mdoc_wait_s=0.5)
    driver.turn(idle=False)
    folder.save("new.mrc")
    assert driver.turn("new.mrc") == []
    assert driver.turns(1.0, every_s=0.1) == ["new.mrc#0", "old00.mrc#0"]


# --- files of which nothing comes ----------------------------------------------------------------


def test_tiffs_that_nothing_lists_are_named_again_only_when_they_are_twice_as_many(folder):
    nothing = o.HeaderNotReady("", FileStat(0, 0), unlisted=True)

    def add(*names):
        for name in names:
            folder.save(name)
            folder.instead[name] = o.HeaderNotReady(name, nothing.listed, unlisted=True)

    driver = Driver(folder)
    add("holiday 1.tif", "holiday 2.tif")
    driver.turns(50.0)
    assert driver.reports == []
    driver.turns(200.0)
    (report,) = driver.reports
    assert report.endswith("lists are left alone (2, such as holiday 1.tif)")
    add("3.tif", "4.tif")
    driver.turns(200.0)
    assert len(driver.reports) == 1
    add("5.tif")
    driver.turns(200.0)
    assert "(5, such as" in driver.reports[-1]


def test_an_idoc_that_comes_late_is_news_of_its_images(folder):
    for name in ("day1/gold0000.tif", "day1/gold0001.tif", "day1/other0000.tif"):
        folder.save(name)
        folder.instead[name] = o.HeaderNotReady(name, FileStat(0, 0), unlisted=True)
    driver = Driver(folder, mdoc_wait_s=0.0)
    driver.turns(10.0)  # until they are inspected but now and then
    folder.instead.clear()
    driver.performed.clear()
    assert driver.turn("day1/gold.idoc") == ["day1/gold0000.tif#0", "day1/gold0001.tif#0"]
    assert driver.inspected() == ["day1/gold0000.tif", "day1/gold0001.tif"]


def test_a_file_that_is_no_micrograph_is_reported_and_read_again_only_when_it_changes(folder):
    folder.save("a.mrc")
    folder.instead["a.mrc"] = o.HeaderRefused("a.mrc", FileStat(0, 0), "a.mrc: mode 4")
    driver = Driver(folder)
    driver.turns(100.0)
    assert driver.reports == ["not a micrograph: a.mrc: mode 4"]
    assert driver.inspected() == ["a.mrc"]
    folder.instead.clear()
    folder.save("a.mrc")
    assert len(driver.turns(3.0)) == 2


@pytest.mark.parametrize(("minutes", "reports"), [(0.9, 0), (1.1, 1), (10.0, 1)])
def test_a_file_that_cannot_be_opened_is_reported_after_a_minute_once(folder, minutes, reports):
    folder.save("a.mrc")
    folder.instead["a.mrc"] = o.HeaderUnreadable("a.mrc", "Permission denied")
    driver = Driver(folder)
    driver.turns(60 * minutes)
    assert len(driver.inspected()) > 10
    assert driver.reports == reports * [
        "a.mrc cannot be read for a minute (Permission denied); see to its rights, or who holds it"
    ]
    folder.instead.clear()
    assert driver.turns(3.0) == ["a.mrc#0"]


def cut(folder, path, sections, there):
    folder.save(path, sections)
    del folder.files[path].saves[there:]


def test_a_stack_that_is_cut_off_is_reported_after_a_minute_once_and_what_is_there_goes(folder):
    cut(folder, "cut.mrc", 3, there=2)
    driver = Driver(folder, mdoc_wait_s=0.0)
    assert driver.turns(59.0) == ["cut.mrc#0", "cut.mrc#1"]
    assert driver.reports == []
    driver.turns(600.0)
    assert driver.reports == [
        "cut.mrc is cut off, or still being copied: its header counts more sections than are "
        "there; the rest is segmented when it comes"
    ]


def test_a_stack_that_goes_on_being_copied_or_is_deleted_is_not_called_cut_off(folder):
    cut(folder, "copied.mrc", 40, there=0)
    cut(folder, "gone.mrc", 3, there=2)
    driver = Driver(folder)
    for _ in range(40):
        driver.turns(30.0)
        folder.write_pixels("copied.mrc")
        folder.files.pop("gone.mrc", None)
    assert driver.reports == []
    driver.turns(600.0)
    assert driver.reports == []


def test_a_renamed_file_says_where_its_sections_are(folder):
    folder.save("a.mrc")
    driver = Driver(folder)
    driver.turns(3.0)
    folder.files["b.mrc"] = folder.files.pop("a.mrc")
    assert driver.turns(3.0) == ["b.mrc#0"]
    assert driver.intake.why_lost(SectionId("a.mrc", 0)) == (
        "a.mrc was renamed before it was read; it is found again as b.mrc#0"
    )
    assert driver.intake.why_lost(SectionId("c.mrc", 0)) == (
        "c.mrc was deleted or renamed before it was read"
    )


# --- the end -------------------------------------------------------------------------------------


def test_while_draining_nothing_new_is_taken_and_what_was_found_goes(folder):
    old_files(folder, 4)
    driver = Driver(folder, start="newest-first")
    driver.turn(idle=False)
    folder.save("new.mrc")
    driver.turn("new.mrc", idle=False)
    driver.feed(o.DrainBegan())
    folder.save("late.mrc")
    released = driver.turn("late.mrc") + driver.turns(5.0)
    assert released == ["new.mrc#0", *(f"old{number:02}.mrc#0" for number in (3, 2, 1, 0))]
    assert driver.intake.waiting == 0


def test_a_drain_in_the_middle_of_the_first_scan_passes_nothing_over(folder):
    old_files(folder, 20)
    driver = Driver(folder, start="only-new", read_s=1.0)
    driver.turn()
    driver.feed(o.DrainBegan())
    driver.turns(10.0)
    assert not driver.memory.first_scan_ended


# --- any order -----------------------------------------------------------------------------------

PATHS = ("a.mrc", "b.mrc")
paths = st.sampled_from(PATHS)


class AnyOrder(RuleBasedStateMachine):
    """SerialEM, file events, turns and kills in any order; orders are performed one by one.

    Each section that is in a file in the end was found once, and none is released twice in one
    life of the agent, or at all once it is stored: `Driver` and `Memory` check that at each step.
    """

    @initialize(
        start=st.sampled_from(["all", "newest-first", "only-new"]), before=st.integers(0, 3)
    )
    def begin(self, start, before):
        self.folder, self.start = FakeFolder(), start
        for number in range(before):
            self.folder.save(PATHS[number % 2], mdoc=number == 2)
        self.driver = Driver(self.folder, start=start, mdoc_wait_s=0.5)

    @rule(path=paths)
    def create(self, path):
        self.folder.create(path)

    @precondition(lambda self: self.folder.files)
    @rule(path=paths, z=st.none() | st.integers(0, 3))
    def pixels(self, path, z):
        file = self.folder.files.get(path)
        if file and (z is None or z < file.counted):
            self.folder.write_pixels(path, z)

    @precondition(lambda self: self.folder.files)
    @rule(path=paths)
    def header(self, path):
        if path in self.folder.files:
            self.folder.write_header(path)

    @precondition(lambda self: self.folder.files)
    @rule(path=paths)
    def mdoc(self, path):
        if path in self.folder.files:
            self.folder.write_mdoc(path)

    @rule(path=paths)
    def file_event(self, path):
        self.driver.feed(o.FilesChanged(frozenset({path})))

    @precondition(lambda self: not self.driver.orders)
    @rule()
    def tick(self):
        self.driver.feed(o.Tick())

    @precondition(lambda self: not self.driver.orders)
    @rule()
    def nothing_waits(self):
        self.driver.feed(o.NothingWaits())

    @precondition(lambda self: self.driver.orders)
    @rule(count=st.integers(1, 9))
    def perform(self, count):
        for _ in range(min(count, len(self.driver.orders))):
            self.driver.perform()

    @rule(seconds=st.sampled_from([0.01, 0.2, 0.6, 1.5, 3.0, 70.0]))
    def wait(self, seconds):
        self.driver.now_s += seconds

    @precondition(lambda self: self.driver.released)
    @rule(which=st.integers(0, 9))
    def send(self, which):
        """A worker gets a section, and the sink commits it; it may have been replaced before."""
        section = list(self.driver.released)[which % len(self.driver.released)]
        file = self.folder.files[section.path]
        known = self.driver.intake.known_file(section.path)
        if known.generation_of(section.z) == section.generation and section.z < len(file.saves):
            self.driver.memory.read(section, self.folder.pixels(section))
        self.driver.done(section)

    @rule()
    def kill(self):
        self.driver.kill()

    @precondition(lambda self: not self.driver.orders)
    @rule()
    def drain(self):
        self.driver.feed(o.DrainBegan())

    def teardown(self):
        if not hasattr(self, "driver"):
            return
        driver = self.driver
        driver.run()
        if driver.draining:
            driver.kill()
        for path in self.folder.files:
            self.folder.write_header(path)
        for _ in range(3):
            driver.turns(5.0)
            driver.turns(200.0, every_s=50.0)
        for path, file in self.folder.files.items():
            known = driver.intake.known_file(path)
            if not file.saves:  # of a new file nothing is known while it has no section
                continue
            assert known.published == len(file.saves)
            passed_over = self.passed_over(path, known)
            for z in range(passed_over, known.published):
                assert SectionId(path, z, known.generation_of(z)) in driver.memory.sections
        assert driver.intake.waiting == 0
        assert set(driver.memory.unfinished()) == set(driver.released)

    def passed_over(self, path, known):
        """Sections of the file that were there at the first start and are not wanted."""
        if self.start != "only-new":
            return 0
        first = (SectionId(path, z, known.generation) for z in range(known.published))
        found = (s.z for s in first if s in self.driver.memory.sections)
        return next(found, known.published)

    @invariant()
    def clocks_are_asked(self):
        if hasattr(self, "driver"):
            assert self.driver.intake.sleep_s(self.driver.now_s) <= 120.0


AnyOrder.TestCase.settings = settings(examples(30), stateful_step_count=50)
test_any_order_of_saves_events_scans_and_kills_loses_no_section_and_doubles_none = AnyOrder.TestCase

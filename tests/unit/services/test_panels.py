from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from datetime import datetime

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len
from rich.console import Console, RenderableType

from nanostream.records import Alarm, Health, Severity, Snapshot, State, Statistics, Summary
from nanostream_services.panels.histogram import _fitted, diameter_histogram
from nanostream_services.panels.layout import screen, waiting_screen
from nanostream_services.panels.log_lines import Log, plain_line
from nanostream_services.panels.mask_picture import mask_picture
from nanostream_services.processes.dashboard import _dated

SIZES = [
    (80, 24),
    (120, 40),
    (200, 60),
    (100, 20),
    (72, 20),
    (40, 10),
    (20, 3),
    (71, 30),
    (300, 90),
]
HOSTILE = "a\x1b]0;owned\x07\x1b[2J[red]b[/red]\r\n\x9b31m\u202egnp\udcff漢字" + "x" * 300


ALARMS = (
    Alarm(
        "not storing",
        Severity.PROBLEM,
        "mask of a.mrc#1 cannot be written: No space left on device",
        "results wait with the workers and are stored as soon as that is possible",
        since_s=1.8e9,
    ),
    Alarm("falling behind", Severity.WARNING, "90 sections wait: 60 a minute acquired", "a GPU"),
)


def session(**changes: object) -> Snapshot:
    """A session in full swing."""
    mask = np.zeros((64, 64), np.uint8)
    mask[:16, :16] = 1  # file row 0 is the bottom of the display
    counts = np.zeros(60, int)
    counts[10:30] = [1, 2, 4, 8, 16, 32, 48, 64, 80, 90, 96, 90, 80, 64, 48, 32, 16, 8, 4, 2]
    snapshot = Snapshot(
        session="gold_on_carbon",
        time_s=1.8e9,
        seen=12,
        waiting=1,
        stored=11,
        sections_per_minute=30.0,
        latency_s=0.83,
        last_section="gold.mrc#3",
        last_summary=Summary(37, 5, 0.123, 84.2, 81.0, 4.21, 4.05),
        last_timings_s={"filter_s": 0.055, "predict_s": 1.42, "label_s": 0.062},
        mask=mask.tobytes(),
        mask_shape=mask.shape,
        diameter_edges=tuple(np.linspace(0, 12, 61).tolist()),
        diameter_counts=tuple(counts.tolist()),
        health=(
            Health("agent", "agent", State.READY, 0.2),
            Health("worker-1", "worker", State.READY, 0.4, "gold.mrc#4"),
        ),
        messages=("session opened", "gold.mrc#2: taken without metadata"),
    )
    return replace(snapshot, **changes)


NO_PIXEL_SIZE = session(
    last_summary=Summary(3, 0, 0.01, 84.2, 81.0, math.nan, math.nan), diameter_unit="px"
)
CROWDED = session(
    session="s" * 200,
    seen=10**7,
    stored=10**7 - 5,
    failed=5,
    latency_s=7300.0,
    sections_per_minute=1234.0,
    last_section="a/very/long/folder/name/" * 9 + "gold.mrc#999",
    last_timings_s={f"stage_{k}_with_a_long_name": 0.1 * k for k in range(30)},
    diameter_edges=tuple(float(k) for k in range(2001)),
    diameter_counts=tuple(range(2000)),
    health=tuple(Health(f"worker-{k}", "worker", State.READY, 0.1, "d" * 99) for k in range(30)),
    messages=tuple(f"message {k} " + "word " * k for k in range(50)),
)
ALL_HOSTILE = session(
    session=HOSTILE,
    last_section=HOSTILE,
    last_timings_s={HOSTILE: math.nan},
    last_warning=HOSTILE,
    diameter_unit="nm\x1b[2J",
    health=(Health(HOSTILE, "worker", State.SILENT, 1.0, HOSTILE),),
    messages=(HOSTILE, HOSTILE),
)
SENSELESS = session(
    mask=b"\x01" * 10,
    diameter_edges=(0.0, 2.0, 1.0),
    diameter_counts=(1, 2),
    latency_s=math.inf,
    sections_per_minute=math.nan,
    last_summary=Summary(0, 0, math.nan, math.nan, math.nan, math.nan, math.nan),
)


@dataclass(frozen=True)
class Case:
    name: str
    snapshot: Snapshot


POPULATION = Statistics(
    count=208, unit="nm\x1b[2J", d50=2.347, d50_low=2.31, d50_high=2.4, needed=412
)

CASES = [
    Case("in full swing", session()),
    Case("a population", session(population=POPULATION)),
    Case("empty", Snapshot("", 0.0)),
    Case("no pixel size", NO_PIXEL_SIZE),
    Case("crowded", CROWDED),
    Case("hostile", ALL_HOSTILE),
    Case("senseless", SENSELESS),
    Case("alarmed", session(alarms=ALARMS)),
]


def drawn(renderable: RenderableType, width: int, height: int) -> str:
    """The characters on the screen; what is too wide stays too wide, to be seen by the tests."""
    console = Console(
        file=io.StringIO(),
        width=width,
        height=height,
        record=True,
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    console.print(renderable, crop=False)
    return console.export_text()


def look(snapshot: Snapshot, width: int = 80, height: int = 24, *, age_s: float = 0.0) -> str:
    return drawn(screen(snapshot, age_s=age_s, width=width, height=height), width, height)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_screen_fills_the_terminal_and_no_more(case: Case, size: tuple[int, int]) -> None:
    width, height = size
    lines = look(case.snapshot, width, height, age_s=1.0).rstrip("\n").split("\n")
    assert len(lines) <= height
    assert max(cell_len(line) for line in lines) <= width


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)], ids=str)
def test_everything_important_is_on_the_screen(size: tuple[int, int]) -> None:
    text = look(session(), *size)
    for words in (
        "gold_on_carbon",
        "seen",
        "stored",
        "in work",
        "waiting",
        "quarantined",
        "per minute",
        "0.8 s",
        "gold.mrc#3",
        "37 particles",
        "4.21 nm mean diameter",
        "4.05 nm median",
        "12.3 % of the area",
        "1.42 s predict",
        "1.42 s predict",
        "N 785",
        "agent",
        "worker-1",
        "gold.mrc#2: taken without",
        "live",
    ):
        assert words in text, words


def test_the_median_has_its_interval_and_the_particles_that_are_missing_where_there_is_room() -> (
    None
):
    told = "N 208 · median 2.35 nm?[2J [2.31, 2.40] · 412 more for 5 %"
    assert told in look(session(population=POPULATION), 200, 60)
    assert "N 208 · median 2.35 nm" in look(session(population=POPULATION), 80, 24)
    enough = look(session(population=msgspec.structs.replace(POPULATION, needed=0)), 200, 60)
    assert "[2.31, 2.40]" in enough
    assert "more for" not in enough
    few = Statistics(count=3, unit="px", d50=104.2)
    assert "N 3 · median 104 px ─" in look(session(population=few), 200, 60)
    assert "N 785" in look(session(population=Statistics()), 200, 60)


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (200, 50)], ids=str)
def test_what_is_wrong_and_what_to_do_is_on_the_screen(size: tuple[int, int]) -> None:
    lines = look(session(alarms=ALARMS), *size).split("\n")
    assert lines[0].rstrip().endswith("not storing +1")
    right = " ".join(line[min(line.find("││") + 2, 34) if "││" in line else 0 :] for line in lines)
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", right).split())
    assert "not storing: mask of a.mrc#1 cannot be written" in text
    assert "results wait with the workers" in text
    assert "falling behind: 90 sections wait" in text


def test_an_acknowledged_alarm_leaves_the_first_line() -> None:
    seen = tuple(msgspec.structs.replace(alarm, acknowledged=True) for alarm in ALARMS)
    text = look(session(alarms=seen), 120, 40)
    assert text.split("\n")[0].rstrip().endswith("live")
    assert "(acknowledged)" in text


def test_a_quarantined_section_does_not_hide_the_next_fault() -> None:
    assert look(session(failed=3)).split("\n")[0].rstrip().endswith("live")


def test_alarms_are_lines_of_a_log_when_they_come_and_go() -> None:
    log = Log("here")
    log.lines(session(), now_s=0.0)
    problem, warning = log.lines(session(alarms=ALARMS), now_s=1.0)
    assert problem.startswith("problem: not storing: mask of a.mrc#1")
    assert warning.startswith("warning: falling behind")
    assert log.lines(session(alarms=ALARMS), now_s=2.0) == []
    assert log.lines(session(alarms=ALARMS[1:]), now_s=3.0) == ["over: not storing"]


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60), (72, 20)], ids=str)
def test_no_frame_is_cut(size: tuple[int, int]) -> None:
    text = look(session(), *size)
    corners = [text.count(corner) for corner in "╭╮╰╯"]
    assert corners == [4, 4, 4, 4]


def test_without_a_pixel_size_lengths_are_in_pixels() -> None:
    text = look(NO_PIXEL_SIZE)
    assert "84.2 px mean diameter" in text
    assert "px │" in text
    assert " nm" not in text


def test_an_empty_session_says_so() -> None:
    text = look(Snapshot("new", 0.0))
    assert "no section yet" in text
    assert "no particles yet" in text
    assert not re.search(r"\b(nan|inf)\b", text)


def test_senseless_numbers_are_dashes() -> None:
    text = look(SENSELESS)
    assert not re.search(r"\b(nan|inf)\b", text)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_old_news_are_marked(size: tuple[int, int]) -> None:
    assert "no news for 12 s" in look(session(), *size, age_s=12.4)
    assert "no news" not in look(session(), *size, age_s=1.0)


@pytest.mark.parametrize(
    ("health", "words"),
    [
        (Health("worker-1", "worker", State.SILENT, 20.0), "worker-1 silent"),
        (Health("worker-2", "worker", State.LOADING, 1.0), "worker-2 loading"),
    ],
)
def test_a_process_in_trouble_replaces_live(health: Health, words: str) -> None:
    header = look(session(health=(Health("other", "worker", State.READY, 0.0), health))).split(
        "\n"
    )[0]
    assert words in header
    assert "live" not in header


def test_of_many_processes_those_in_trouble_are_shown() -> None:
    health = [Health(f"worker-{k}", "worker", State.READY, 0.1) for k in range(30)]
    health[17] = Health("worker-17", "worker", State.SILENT, 40.0)
    text = look(session(health=tuple(health)))
    assert "○ worker-17" in text
    assert "40 s" in text
    assert "more" in text


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_text_from_files_cannot_command_the_terminal(size: tuple[int, int]) -> None:
    text = look(ALL_HOSTILE, *size)
    assert not [c for c in text if c != "\n" and (ord(c) < 32 or 0x7F <= ord(c) < 0xA0)]
    assert "\u202e" not in text
    text.encode()  # no lone surrogates


def test_markup_is_text() -> None:
    assert "[red]b[/red]" in look(session(messages=("[red]b[/red]",)))


def test_log_lines_are_single_and_clean() -> None:
    lines = Log("host:1").lines(ALL_HOSTILE, now_s=0.0)
    assert not [c for line in lines for c in line if ord(c) < 32 or 0x7F <= ord(c) < 0xA0]


def test_a_note_of_the_dashboard_itself_is_shown() -> None:
    note = "peer speaks protocol 2, this is 1: update one"
    assert note in drawn(screen(session(), age_s=0, width=80, height=24, note=note), 80, 24)
    assert note in drawn(waiting_screen("host:1", waited_s=3, note=note), 80, 24)


def test_waiting_names_the_address_and_the_time() -> None:
    text = drawn(waiting_screen("127.0.0.1:5772", waited_s=75), 80, 24)
    assert "waiting for the sink at 127.0.0.1:5772" in text
    assert "1 min" in text


def test_waiting_stands_in_the_middle_of_the_screen() -> None:
    lines = drawn(waiting_screen("host:1", waited_s=5, height=20), 80, 20).splitlines()
    (row,) = (number for number, line in enumerate(lines) if "waiting" in line)
    assert row == 8


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=str)
def test_messages_read_downwards(size: tuple[int, int]) -> None:
    text = look(session(messages=("the first", "the second", "the third")), *size)
    assert text.index("the first") < text.index("the second") < text.index("the third")


def test_newest_message_is_never_left_out() -> None:
    messages = ("older", "newest " + "word " * 200)
    text = look(session(messages=messages))
    assert "newest word" in text
    assert "…" in text


# Masks


def test_mask_is_drawn_as_serialem_shows_it() -> None:
    mask = np.zeros((4, 4), np.uint8)  # file order
    mask[0, :2] = mask[3, 3] = 1
    assert str(mask_picture(mask.tobytes(), (4, 4), width=4, height=2)) == "   ▀\n▄▄  "


@pytest.mark.parametrize("shape", [(64, 64), (48, 96), (96, 48), (1, 1), (3, 1000), (1000, 3)])
@pytest.mark.parametrize("room", [(18, 9), (40, 20), (150, 75), (1, 1)])
def test_mask_fits_its_room(shape: tuple[int, int], room: tuple[int, int]) -> None:
    rows, columns = shape
    picture = mask_picture(b"\x01" * (rows * columns), shape, width=room[0], height=room[1])
    lines = str(picture).split("\n")
    assert len(lines) <= room[1]
    assert {len(line) for line in lines} <= set(range(1, room[0] + 1))
    assert set("".join(lines)) == {"█"}


def test_mask_keeps_its_aspect() -> None:
    lines = str(mask_picture(bytes(64 * 128), (64, 128), width=60, height=60)).split("\n")
    assert (len(lines), len(lines[0])) == (15, 60)


def test_covered_share_survives_shrinking() -> None:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:128, :128]
    mask = np.zeros((128, 128), bool)
    for centre_y, centre_x in rng.uniform(10, 118, (12, 2)):
        mask |= (y - centre_y) ** 2 + (x - centre_x) ** 2 < 8**2
    text = str(mask_picture(mask.astype(np.uint8).tobytes(), (128, 128), width=40, height=20))
    share = sum({"█": 2, "▀": 1, "▄": 1}.get(c, 0) for c in text) / (40 * 40)
    # Cells count from a third of coverage on, so rims are drawn a little wide.
    assert mask.mean() <= share <= 1.4 * mask.mean()


def test_mask_of_the_wrong_size_is_not_drawn() -> None:
    assert not mask_picture(b"\x01" * 10, (4, 4), width=10, height=10)
    assert not mask_picture(b"", (0, 0), width=10, height=10)


# Histograms


def histogram(counts: list[int], *, high: float = 10.0, width: int = 40, height: int = 10) -> str:
    edges = np.linspace(0, high, len(counts) + 1).tolist()
    return str(diameter_histogram(edges, counts, unit="nm", width=width, height=height))


@pytest.mark.parametrize("bins", [1, 2, 7, 30, 60, 500])
@pytest.mark.parametrize("size", [(28, 10), (60, 30), (110, 38)], ids=str)
def test_histogram_fits_its_room(bins: int, size: tuple[int, int]) -> None:
    lines = histogram([3] * bins, width=size[0], height=size[1]).split("\n")
    assert len(lines) == size[1]
    assert max(len(line) for line in lines) <= size[0]


def test_bars_are_as_high_as_their_counts() -> None:
    lines = histogram([0, 8, 4, 2, 1, 0], height=10).split("\n")[:8]
    heights = [sum(line[k : k + 1] == "█" for line in lines) for k in range(2, 40)]
    assert sorted(set(heights)) == [0, 1, 2, 4, 8]


def test_a_single_particle_among_many_is_visible() -> None:
    assert "▁" in histogram([0, 1, 0, 5000, 0])


def test_axis_has_round_numbers_below_their_bars() -> None:
    lines = histogram([1] * 20, high=10.0, width=46).split("\n")
    assert lines[-1].split() == ["0", "2", "4", "6", "8", "nm"]
    ticks = [k for k, c in enumerate(lines[-2]) if c == "┴"]
    labels = [lines[-1].index(f" {n} ") + 1 for n in (2, 4, 6, 8)]
    assert ticks[1:5] == labels


def test_every_particle_is_counted_when_bins_are_merged() -> None:
    edges = np.linspace(0, 10, 501).tolist()
    text = str(diameter_histogram(edges, [2] * 500, unit="nm", width=60, height=5))
    assert text.split("\n")[0].strip().startswith("20 ┤")  # 500 bins in 50 columns


@given(
    before=st.integers(0, 100),
    used=st.lists(st.integers(1, 1000), min_size=1, max_size=300),
    after=st.integers(0, 100),
    room=st.integers(8, 200),
)
def test_no_particle_is_outside_the_axis(
    before: int, used: list[int], after: int, room: int
) -> None:
    counts = [0] * before + used + [0] * after
    edges, bars, bar_columns = _fitted(np.arange(len(counts) + 1.0), np.array(counts), room)
    assert bars.sum() == sum(counts)
    assert len(edges) == len(bars) + 1
    assert len(bars) * bar_columns <= room


@pytest.mark.parametrize(
    ("edges", "counts"),
    [([], []), ([0, 1], [0]), ([0, 1, 2], [1]), ([0, 2, 1], [1, 1]), ([0, math.nan], [1])],
)
def test_histogram_of_nothing_is_empty(edges: list[float], counts: list[int]) -> None:
    assert not diameter_histogram(edges, counts, unit="nm", width=40, height=10)


# Log lines


def test_plain_line_says_it_all() -> None:
    assert plain_line(session()) == (
        "gold.mrc#3  37 particles  mean 4.21 nm  latency 0.8 s  | "
        "seen 12 stored 11 in work 0 waiting 1 quarantined 0 | 30/min"
    )


WARNING = "unlike the training data (domain score 0.002): check the mask"


def test_a_warning_of_the_last_section_is_in_its_line_and_on_the_screen() -> None:
    warned = session(last_warning=WARNING, warned=3)
    assert plain_line(warned) == f"{plain_line(session())} | {WARNING}"
    for width, height in ((120, 40), (60, 15)):
        text = drawn(screen(warned, age_s=0.1, width=width, height=height), width, height)
        assert "unlike the training data" in text
    after = session(warned=3)
    text = drawn(screen(after, age_s=0.1, width=120, height=40), 120, 40)
    assert "3 sections with a warning" in text


def test_plain_line_without_particles_or_pixel_size() -> None:
    nothing = Summary(0, 0, 0.0, math.nan, math.nan, math.nan, math.nan)
    assert "0 particles  latency" in plain_line(session(last_summary=nothing))
    assert "mean 84.2 px" in plain_line(NO_PIXEL_SIZE)


def test_one_line_for_each_stored_section() -> None:
    log = Log("host:1")
    log.lines(session(), now_s=0.0)
    second = session(stored=12, seen=12, waiting=0, last_section="gold.mrc#4")
    assert log.lines(second, now_s=1.0) == [plain_line(second)]
    assert log.lines(second, now_s=1.2) == []


def test_sections_between_two_snapshots_are_counted() -> None:
    log = Log("host:1")
    log.lines(session(), now_s=0.0)
    (line,) = log.lines(session(stored=14, last_section="gold.mrc#6"), now_s=1.0)
    assert line.endswith("(and 2 before)")


def test_one_line_for_each_new_message() -> None:
    log = Log("host:1")
    log.lines(session(messages=("a", "b")), now_s=0.0)
    assert log.lines(session(messages=("b", "c", "d")), now_s=1.0) == ["c", "d"]
    assert log.lines(session(messages=("b", "c", "d")), now_s=2.0) == []
    assert log.lines(session(messages=("d", "d")), now_s=3.0) == ["d"]


def test_trouble_of_a_process_and_its_end_are_logged_once() -> None:
    log = Log("host:1")
    log.lines(session(), now_s=0.0)
    silent = session(health=(Health("worker-1", "worker", State.SILENT, 20.0),))
    assert log.lines(silent, now_s=1.0) == ["worker-1 is silent"]
    assert log.lines(silent, now_s=2.0) == []
    assert log.lines(session(), now_s=3.0) == ["worker-1 is ready: gold.mrc#4"]
    busy = session(health=(Health("worker-1", "worker", State.COMPUTING, 0.0),))
    assert log.lines(busy, now_s=4.0) == []


@pytest.mark.parametrize(("waiting", "quiet_s"), [(1, 30.0), (0, 600.0)])
def test_a_quiet_log_gives_signs_of_life(waiting: int, quiet_s: float) -> None:
    snapshot = session(waiting=waiting, seen=11 + waiting)
    log = Log("host:1")
    log.lines(snapshot, now_s=0.0)
    assert log.lines(snapshot, now_s=quiet_s - 1) == []
    assert log.lines(snapshot, now_s=quiet_s) == [plain_line(snapshot)]
    assert log.lines(snapshot, now_s=quiet_s + 1) == []


def test_the_sink_may_be_late_go_and_come_back() -> None:
    log = Log("host:1")
    assert log.lines(None, now_s=0.0) == []
    assert log.lines(None, now_s=1.0) == ["waiting for the sink at host:1"]
    assert log.lines(None, now_s=100.0) == []
    assert log.lines(session(), now_s=101.0) == [
        *session().messages,
        plain_line(session()),
    ]
    assert log.lines(None, now_s=105.0) == []
    assert log.lines(None, now_s=112.0) == ["no news from the sink at host:1 for 11 s"]
    assert log.lines(None, now_s=113.0) == []
    assert log.lines(session(), now_s=200.0)[0] == "the sink is back"


def test_the_wait_of_the_oldest_section_is_shown() -> None:
    late = session(waiting=7, longest_wait_s=185.0)
    assert "waiting 7 · 3 min" in plain_line(late)
    assert "7 · 3 min" in look(late)
    assert "·" not in plain_line(session(waiting=7, longest_wait_s=0.4))


@pytest.mark.parametrize(
    ("line", "dated"),
    [
        ("a.mrc#0  3 particles", "2026-11-27 00:00:05 a.mrc#0  3 particles"),
        ("00:00:01 worker gpu is here", "2026-11-27 00:00:01 worker gpu is here"),
        ("23:59:10 worker gpu is here", "2026-11-26 23:59:10 worker gpu is here"),
        (
            "25:61:61 of a.mrc#0  a file's name",
            "2026-11-27 00:00:05 25:61:61 of a.mrc#0  a file's name",
        ),
        ("00:00:09 by a clock that is fast", "2026-11-27 00:00:09 by a clock that is fast"),
    ],
)
def test_a_line_has_one_time_and_what_happened_its_own(line, dated):
    assert _dated(line, datetime(2026, 11, 27, 0, 0, 5)) == dated

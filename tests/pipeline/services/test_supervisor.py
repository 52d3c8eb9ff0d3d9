"""Restarts of processes, the pauses before them, and ends of a session; with real processes."""

import threading
from contextlib import closing
from types import SimpleNamespace

import pytest

from nanostream.config import Config, Sink
from nanostream.errors import ConfigError
from nanostream.records import Health, Snapshot, State
from nanostream.transport.messages import encode
from nanostream.transport.sockets import Subscriber, wait
from nanostream_services import supervisor
from nanostream_services.commands.run import idle_for
from nanostream_services.processes.lifecycle import Stop
from nanostream_services.supervisor import _Child, _keep_up, run_session
from tests.factories import a_network
from tests.waiting import PATIENCE_S

#: What ``python -m nanostream_services`` runs here: the role is a piece of Python.
RUN_ARGUMENT = "import sys; exec(sys.argv[1])"


def crash(code, words=""):
    return f"import sys; sys.stderr.write({words!r}); sys.exit({code})"


LIVE = "import sys; sys.stdin.read()"


@pytest.fixture(autouse=True)
def processes(tmp_path, monkeypatch):
    """The folder where a process is started comes first in its module path."""
    package = tmp_path / "nanostream_services"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(RUN_ARGUMENT)
    monkeypatch.chdir(tmp_path)
    return package


@pytest.fixture
def clock(monkeypatch):
    """The supervisor's clock, moved by hand."""
    clock = SimpleNamespace(now_s=1000.0)
    clock.monotonic = lambda: clock.now_s
    monkeypatch.setattr(supervisor, "time", clock)
    return clock


@pytest.fixture
def child(tmp_path):
    """A process by its code; whatever still runs at the end is ended."""
    children = []

    def make(role, code, **options):
        children.append(_Child(role, (code,), tmp_path / f"{role}.log", **options))
        return children[-1]

    yield make
    for made in children:
        made.stop()


def ended(child):
    """Start a process if it is due and wait for its end; the supervisor has not seen that yet."""
    _keep_up(child)
    assert child.process is not None, "not started: it is pausing, or was given up"
    with child.process as process:
        process.wait(PATIENCE_S)


def crashed(child, clock):
    """One crash and what the supervisor makes of it: the pause in s."""
    ended(child)
    _keep_up(child)
    assert child.process is None
    return child.start_at_s - clock.now_s


def test_a_process_that_refuses_its_configuration_ends_the_session_with_its_own_words(child):
    words = "2026-11-22 INFO starting\nnanostream: [watch] poll_s: expected a number\n"
    refusing = child("agent", crash(2, words))
    ended(refusing)
    with pytest.raises(ConfigError, match=r"^\[watch\] poll_s: expected a number$"):
        _keep_up(refusing)


def test_a_process_that_refuses_without_a_word_is_named(child):
    silent = child("worker", crash(2))
    ended(silent)
    with pytest.raises(ConfigError, match="worker does not start"):
        _keep_up(silent)


def test_a_process_that_never_was_ready_is_tried_five_times_more(child, clock):
    broken = child("sink", crash(1, "ImportError: no module named zmq\n"))
    for _ in range(5):
        clock.now_s += crashed(broken, clock)
    ended(broken)
    with pytest.raises(ConfigError, match="no module named zmq"):
        _keep_up(broken)


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_a_proven_process_is_restarted_whatever_its_code(child, clock, code):
    proven = child("agent", crash(code), proven=True)
    for _ in range(7):  # more than one that never was ready is allowed
        clock.now_s += crashed(proven, clock)


def test_pauses_double_to_ten_seconds_and_no_further(child, clock):
    proven = child("agent", crash(2), proven=True)
    pauses_s = []
    for _ in range(8):
        pauses_s.append(crashed(proven, clock))
        clock.now_s += pauses_s[-1]
    assert pauses_s == [0.5, 1, 2, 4, 8, 10, 10, 10]


def test_nothing_is_started_before_the_pause_is_over(child, clock):
    proven = child("agent", crash(1), proven=True)
    pause_s = crashed(proven, clock)
    clock.now_s += pause_s - 0.01
    _keep_up(proven)
    assert proven.process is None
    clock.now_s += 0.01
    ended(proven)


def test_a_minute_without_a_crash_makes_the_pauses_begin_anew(child, clock):
    proven = child("agent", crash(1), proven=True)
    for _ in range(4):
        clock.now_s += crashed(proven, clock)
    ended(proven)
    clock.now_s += 61.0
    _keep_up(proven)
    assert proven.start_at_s - clock.now_s == 0.5


def test_a_process_that_runs_is_left_alone(child):
    running = child("agent", LIVE)
    _keep_up(running)
    pid = running.process.pid
    _keep_up(running)
    assert running.process.pid == pid
    assert running.process.poll() is None


def test_a_dashboard_that_leaves_is_not_missed(child, clock):
    dashboard = child("dashboard", crash(0), shows=True)
    ended(dashboard)
    for _ in range(3):
        _keep_up(dashboard)
        clock.now_s += 60.0
    assert dashboard.left
    assert dashboard.start_at_s == 0.0


@pytest.mark.parametrize("code", [1, 2])
def test_a_dashboard_that_crashes_never_ends_the_session(child, clock, code):
    dashboard = child("dashboard", crash(code), shows=True)
    for _ in range(8):
        clock.now_s += crashed(dashboard, clock)
    ended(dashboard)


def test_a_process_is_asked_to_stop_by_the_end_of_its_input(child, tmp_path):
    polite = child("worker", f"{LIVE}; open('finished', 'w').close()")
    _keep_up(polite)
    polite.stop()
    assert polite.process.returncode == 0
    assert (tmp_path / "finished").exists()


def test_a_process_that_does_not_stop_is_killed(child, monkeypatch):
    monkeypatch.setattr(supervisor, "_LONGEST_STOP_S", 0.2)
    deaf = child("worker", "import time; time.sleep(600)")
    _keep_up(deaf)
    deaf.stop()
    assert deaf.process.returncode not in (None, 0)


# --- a whole session of stand-ins ----------------------------------------------------------------

#: Every role says that it started. The sink publishes what the test wrote; the agent ends with
#: code 2 as soon as it may; the rest live until their input ends.
STAND_INS = """
import pathlib, sys, threading
role = sys.argv[1]
if role == "dashboard":
    sys.exit(0)
with open(f"{role}.started", "a") as file:
    file.write("x")
ended = threading.Event()
def watch():
    sys.stdin.read()
    ended.set()
threading.Thread(target=watch, daemon=True).start()
if role == "sink":
    import msgspec
    from nanostream.config import Config
    from nanostream.transport.messages import decode
    from nanostream.transport.sockets import Publisher
    config = msgspec.json.decode(pathlib.Path(sys.argv[3]).read_bytes(), type=Config)
    publisher = Publisher(config.network)
    while not ended.wait(0.02):
        publisher.send(decode([pathlib.Path("snapshot").read_bytes()]))
if role == "agent":
    while not ended.wait(0.02):
        if pathlib.Path("crash").exists():
            sys.stderr.write("nanostream: the folder is away\\n")
            sys.exit(2)
ended.wait()
"""


@pytest.fixture
def stand_ins(tmp_path, processes):
    """A session in which the agent is heard of, or not, and then ends with code 2."""
    (processes / "__main__.py").write_text(STAND_INS)
    network = a_network()
    config = Config(network=network, sink=Sink(session=str(tmp_path / "session")))

    def publishes(*, session=config.sink.session, health=("agent", "worker", "sink"), ready_s=1.0):
        snapshot = Snapshot(
            session=session,
            time_s=1.0,
            health=tuple(
                Health(f"{role}-pc-7", role, State.READY, age_s=0.0, ready_s=ready_s)
                for role in health
            ),
        )
        (tmp_path / "snapshot").write_bytes(b"".join(encode(snapshot)))
        return config

    return publishes


@pytest.fixture
def started(tmp_path):
    return lambda role: len((tmp_path / f"{role}.started").read_text())


def test_an_agent_that_has_reported_itself_ready_may_refuse_later(stand_ins, started, tmp_path):
    def again(*_):
        (tmp_path / "crash").touch()  # the agent was in this snapshot, or one before
        return started("agent") >= 3

    crashes = run_session(stand_ins(), Stop(), plain=True, done=again)
    assert started("sink") == started("worker") == 1
    assert len(crashes) >= 2
    assert {crash[:3] for crash in crashes} == {("agent", 2, "the folder is away")}


def test_the_snapshots_of_another_session_prove_nothing_and_end_nothing(stand_ins, tmp_path):
    asked = []
    config = stand_ins(session="/elsewhere")

    def crash_when_heard():
        with closing(Subscriber(config.network)) as news:
            for _ in range(30):
                if not wait([news], PATIENCE_S):
                    return
                news.receive()
        (tmp_path / "crash").touch()

    listening = threading.Thread(target=crash_when_heard)
    listening.start()
    with pytest.raises(ConfigError, match="the folder is away"):
        run_session(config, Stop(), plain=True, done=lambda *news: asked.append(news) or True)
    listening.join()
    assert asked == []


def test_an_agent_that_nobody_heard_of_ends_the_session(stand_ins, tmp_path):
    def crash_now(*_):
        (tmp_path / "crash").touch()
        return False

    with pytest.raises(ConfigError, match="the folder is away"):
        run_session(stand_ins(health=("worker", "sink")), Stop(), plain=True, done=crash_now)


def test_a_process_that_has_not_reported_itself_ready_has_proven_nothing(stand_ins, tmp_path):
    def crash_now(*_):
        (tmp_path / "crash").touch()
        return False

    with pytest.raises(ConfigError, match="the folder is away"):
        run_session(stand_ins(ready_s=None), Stop(), plain=True, done=crash_now)


# --- when a session is idle ----------------------------------------------------------------------

AGENT = (Health("agent", "agent", State.WATCHING, age_s=0.1, ready_s=1.0),)


def a_snapshot(time_s, **fields):
    return Snapshot(session="s", time_s=time_s, **{"health": AGENT, **fields})


def idle(*snapshots, seconds=2.0):
    done = idle_for(seconds)
    return [done(snapshot, {}) for snapshot in snapshots]


def test_a_session_is_idle_so_long_after_the_last_end():
    counts = {"seen": 5, "stored": 4, "failed": 1}
    assert idle(
        a_snapshot(10.0, **counts), a_snapshot(11.9, **counts), a_snapshot(12.0, **counts)
    ) == [False, False, True]


def test_a_session_of_files_without_a_section_is_idle_after_the_agent_has_read_them():
    assert idle(a_snapshot(10.0, health=()), a_snapshot(13.0, health=()), a_snapshot(13.1)) == [
        False,
        False,
        True,
    ]


def test_something_new_starts_the_time_anew():
    found = {"seen": 2, "stored": 2}
    assert idle(a_snapshot(10.0), a_snapshot(11.5, **found), a_snapshot(12.5, **found)) == [
        False,
        False,
        False,
    ]


@pytest.mark.parametrize("open_", [{"waiting": 1}, {"in_work": 1}, {"seen": 1}, {"unsettled": 1}])
def test_a_session_with_open_sections_is_never_idle(open_):
    assert not any(idle(a_snapshot(10.0, **open_), a_snapshot(99.0, **open_)))

"""The sink with a real store and real sockets: nothing acknowledged that is not kept."""

import pickle
from contextlib import ExitStack, closing, suppress

import msgspec
import numpy as np
import pytest

import nanostream as ns
from nanostream.config import Config
from nanostream.errors import ConfigError, SessionError
from nanostream.records import SectionId
from nanostream.results.folders import connect
from nanostream.results.store import Store, diameters
from nanostream.transport import messages as m
from nanostream.transport.sockets import Client, Subscriber, wait
from nanostream_services.processes.sink import Sink
from tests import factories
from tests.factories import a_network
from tests.waiting import until


def a_result(z=0, *, pixel_size_nm=0.1, warning=""):
    labels = np.zeros((64, 80), np.int32)
    labels[10:20, 10:20], labels[40:52, 40:52] = 1, 2
    return factories.a_result(
        labels,
        f"a.mrc#{z}",
        known={"pixel_size_nm": pixel_size_nm},
        warning=warning,
        timings_s={"predict_s": 0.2},
    )


class Desk:
    """A sink, started anew at will, and those who talk to it."""

    def __init__(self, folder):
        self.folder = folder
        self.network = a_network()
        self.config = Config(network=self.network)
        self.clients = ExitStack()
        self.start()

    def start(self):
        self.opened = ExitStack()
        self.store = self.opened.enter_context(Store(self.folder, self.config))
        self.sink = until(self.bound, "the ports of the sink before")
        self.opened.callback(self.sink.close)

    def bound(self):
        with suppress(ConfigError):  # libzmq closes the ports of the one before a moment later
            return Sink(self.config, self.store)

    def stop(self):
        self.opened.close()

    def client(self, name="worker-1"):
        client = Client(self.network, "results", name=name, largest_bytes=2**20)
        self.clients.callback(client.close)
        return client

    def until(self, condition, what):
        until(condition, what, turn=lambda: self.sink.step(0.02), seen=self.events)

    def asked(self, client, message):
        """The next answer to a message."""
        assert client.send(message)
        answers = []
        self.until(lambda: answers.extend(client.receive()) or answers, "an answer")
        return answers[0]

    def unanswered(self, client, message):
        """Whether a message is read and nothing comes back; what is asked after it is answered."""
        assert client.send(message)
        answer = self.asked(client, m.Beat(slots=0))
        return isinstance(answer, m.Pong)

    def events(self):
        return ns.open_session(self.folder).events["text"].tolist()

    def sections(self):
        return ns.open_session(self.folder).sections["section"].tolist()

    def snapshot(self):
        return self.sink.snapshot()

    def alarms(self):
        self.sink._next_snapshot_s = 0.0  # alarms are computed for each snapshot
        self.sink.step(0.0)
        return self.sink.snapshot().alarms


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path / "session")
    yield desk
    desk.clients.close()
    desk.stop()


def test_a_result_is_acknowledged_only_when_it_is_committed(desk, monkeypatch):
    worker, commit = desk.client(), Store.commit
    answered = []

    def slow(store, result):
        new = commit(store, result)
        answered.extend(wait([worker], 0.3))  # an acknowledgement sent before would be here
        return new

    monkeypatch.setattr(Store, "commit", slow)
    assert desk.asked(worker, a_result()) == m.Ack(SectionId("a.mrc", 0))
    assert answered == []
    assert desk.sections() == ["a.mrc#0"]


def test_the_mask_is_sent_to_screens_as_serialem_shows_it(desk):
    """Row 0 at the bottom, which is the first row of an MRC and the last of a TIFF."""
    worker, pictures = desk.client(), {}
    for z, first_row in enumerate(("bottom", "top")):
        result = a_result(z)
        metadata = msgspec.structs.replace(result.metadata, first_row=first_row)
        desk.asked(worker, msgspec.structs.replace(result, metadata=metadata))
        snapshot = desk.snapshot()
        pictures[first_row] = np.frombuffer(snapshot.mask, np.uint8).reshape(snapshot.mask_shape)
    assert (pictures["bottom"] == pictures["top"][::-1]).all()
    assert (pictures["bottom"] != pictures["top"]).any()


def test_a_result_that_comes_twice_is_acknowledged_twice_and_stored_once(desk):
    first, second = desk.client("worker-1"), desk.client("worker-2")
    for worker in (first, first, second):
        assert desk.asked(worker, a_result()) == m.Ack(SectionId("a.mrc", 0))
    assert desk.sections() == ["a.mrc#0"]
    assert (desk.snapshot().stored, desk.snapshot().particles_total) == (1, 2)


def test_a_full_disk_gives_no_acknowledgement_and_an_alarm_until_there_is_room(desk, monkeypatch):
    worker, commit, left = desk.client(), Store.commit, [1, 1]

    def full(store, result):
        if left:
            left.pop()
            raise SessionError("mask of a.mrc#0 cannot be written: No space left on device")
        return commit(store, result)

    monkeypatch.setattr(Store, "commit", full)
    for _ in range(2):
        assert desk.asked(worker, a_result()) == m.Later(SectionId("a.mrc", 0))
    assert desk.snapshot().stored == 0
    (alarm,) = desk.alarms()
    assert (alarm.name, alarm.severity) == ("not storing", "problem")
    assert "No space left" in alarm.text
    desk.asked(worker, m.Beat(slots=1))  # a sign of life is no room on the disk
    assert desk.alarms() == (alarm,)
    assert desk.asked(worker, a_result()) == m.Ack(SectionId("a.mrc", 0))
    assert desk.sections() == ["a.mrc#0"]
    desk.until(lambda: desk.alarms() == (), "the end of the alarm")
    with closing(connect(desk.folder)) as db:
        ((name, cleared_s),) = db.execute("SELECT name, cleared_s FROM alarms").fetchall()
    assert (name, cleared_s >= alarm.since_s) == ("not storing", True)


def test_a_trouble_that_lasts_is_reported_once(desk, monkeypatch, caplog):
    def full(store, result):
        raise SessionError("No space left on device")

    monkeypatch.setattr(Store, "commit", full)
    for _ in range(5):
        desk.sink._hear("worker-1", a_result())
        desk.alarms()
    assert caplog.text.count("problem: not storing: No space left on device") == 1


def test_a_result_that_can_never_be_stored_fails_at_its_worker(desk):
    worker = desk.client()
    name = "x" * 300 + ".mrc"
    result = msgspec.structs.replace(a_result(), section=SectionId(name, 0))
    answer = desk.asked(worker, result)
    assert isinstance(answer, m.Failed)
    assert "File name too long" in answer.reason
    assert desk.asked(worker, a_result(1)) == m.Ack(SectionId("a.mrc", 1))


HOSTILE = {
    "nothing": [b""],
    "noise": [bytes(range(256))],
    "pickle": [pickle.dumps({"a": 1})],
    "another protocol": [b"nanostream\xff\x80"],
    "a header that does not parse": [b"nanostream\x01\xc1"],
    "a stray buffer": [*m.encode(m.Done(SectionId("a.mrc", 0))), b"more"],
    "a truncated result": [*m.encode(a_result())[:2], b"", b""],
    "many parts": [b"x"] * 200,
    "a message for the agent": m.encode(m.Goodbye()),
}


def negative_diameters():
    result = a_result(7)
    result.particles["diameter_px"] = -5.0
    result.particles["diameter_nm"] = -5.0
    return m.encode(result)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused_as_an_event_and_stop_nothing(desk, name):
    hostile, worker = desk.client("stranger"), desk.client()
    hostile.socket.send_multipart(HOSTILE[name])
    desk.until(lambda: any("refused from stranger" in text for text in desk.events()), "the event")
    assert desk.asked(worker, a_result()) == m.Ack(SectionId("a.mrc", 0))
    assert len(desk.events()) == 1


NUMBERS_OUT_OF_RANGE = {
    "attempts": m.encode(m.Quarantine(SectionId("b.mrc", 0), "bad", attempts=2**64 - 1)),
    "counts": m.encode(m.Report(seen=2**64 - 1, waiting=-(2**63), in_work=2**63)),
    "negative diameters": negative_diameters(),
}


@pytest.mark.parametrize("name", NUMBERS_OUT_OF_RANGE)
def test_numbers_out_of_range_stop_neither_this_sink_nor_the_next(desk, name):
    hostile, worker = desk.client("stranger"), desk.client()
    hostile.socket.send_multipart(NUMBERS_OUT_OF_RANGE[name])
    desk.asked(hostile, m.Beat(slots=0))  # what came before it has been read
    assert desk.asked(worker, a_result()) == m.Ack(SectionId("a.mrc", 0))
    desk.stop()
    desk.start()
    assert desk.asked(worker, a_result(1)) == m.Ack(SectionId("a.mrc", 1))


def test_a_peer_whose_name_is_no_ascii_stops_nothing(desk):
    stranger = desk.client("wörker\U0001f52c")
    assert stranger.send(a_result())
    desk.until(lambda: desk.snapshot().stored == 1, "the result")
    assert desk.asked(desk.client(), a_result(1)) == m.Ack(SectionId("a.mrc", 1))


WORDS = ((1, "10:00:00 no mdoc"), (2, "10:00:01 gold.mrc: not a micrograph"))


def said(*words):
    return m.Events(words)


def test_a_process_is_ready_when_it_has_reported_it_and_not_before(desk):
    """A worker's state may say what it likes: whether it is ready, it reports in a message."""
    worker = desk.client()
    assert not desk.asked(worker, m.Beat(slots=3)).ready
    assert desk.snapshot().ready == {"sink"}
    assert worker.send(m.Ready("worker", 12.5))
    assert desk.asked(worker, m.Beat(slots=3)).ready
    process, _ = desk.snapshot().health
    assert (process.name, process.role, process.ready_s) == ("worker-1", "worker", 12.5)
    assert desk.snapshot().ready == {"worker", "sink"}
    desk.stop()
    desk.start()  # it knows nothing of whom it heard before, and says so
    desk.until(lambda: worker.send(m.Beat(slots=3)) and len(desk.snapshot().health) == 2, "a beat")
    desk.until(lambda: any(not answer.ready for answer in worker.receive()), "its answer")
    assert desk.snapshot().ready == {"sink"}


def test_a_restarted_agent_takes_the_place_of_the_one_before(desk):
    first, second = desk.client("agent-1"), desk.client("agent-2")
    desk.asked(first, m.Report(0, 0, 0))
    assert first.send(m.Ready("agent", 1.0))
    assert desk.asked(first, m.Report(0, 0, 0)).ready
    assert not desk.asked(second, m.Report(0, 0, 0)).ready
    assert [process.name for process in desk.snapshot().health] == ["agent", "sink"]
    assert desk.snapshot().ready == {"sink"}


def test_words_of_a_strange_agent_cannot_steer_a_terminal(desk):
    desk.asked(desk.client("agent-1"), said((1, "10:00:00 a\x9b2J\u202eb")))
    assert desk.events() == [r"10:00:00 a\x9b2J\u202eb"]


def test_an_agents_words_are_kept_once_although_the_sink_is_restarted(desk):
    agent = desk.client("agent-1")
    for _ in range(2):
        assert desk.asked(agent, said(*WORDS)).kept == 2
    desk.stop()
    desk.start()
    assert desk.asked(agent, said(*WORDS, (3, "10:00:02 is back"))).kept == 3
    assert desk.events() == [text for _, text in WORDS] + ["10:00:02 is back"]
    # A restarted agent begins at 1 again; its words are others.
    assert desk.asked(desk.client("agent-2"), said((1, "10:05:00 go on"))).kept == 1
    assert len(desk.events()) == 4


def test_no_words_are_answered_with_nothing_heard(desk):
    assert desk.asked(desk.client("agent-1"), said()).kept == 0


def test_words_that_cannot_be_kept_are_not_heard(desk, monkeypatch):
    agent = desk.client("agent-1")
    with monkeypatch.context() as patch:

        def full(*_):
            raise SessionError("No space left on device")

        patch.setattr(Store, "event", full)
        assert desk.unanswered(agent, said(*WORDS))
    assert desk.asked(agent, said(*WORDS)).kept == 2


def test_a_quarantine_notice_is_acknowledged_and_counted_once(desk):
    agent = desk.client("agent-1")
    notice = m.Quarantine(SectionId("b.mrc", 3), "cannot be read", attempts=3)
    for _ in range(2):
        assert desk.asked(agent, notice) == m.Ack(notice.section)
    assert desk.snapshot().failed == 1


def test_the_snapshot_is_published_and_counts_what_was_stored_before(desk):
    desk.asked(desk.client(), a_result())
    desk.stop()
    desk.start()
    listener = Subscriber(desk.network)
    desk.clients.callback(listener.close)
    heard = []
    desk.until(lambda: heard.append(listener.receive()) or heard[-1], "a snapshot")
    assert (heard[-1].stored, heard[-1].particles_total) == (1, 2)
    desk.until(lambda: sum(desk.snapshot().diameter_counts) == 2, "the sizes")


def test_the_snapshot_has_the_population_of_what_was_stored_before_and_since(desk):
    desk.asked(desk.client(), a_result(0))
    desk.stop()
    desk.start()
    desk.until(lambda: desk.snapshot().population is not None, "a population")
    assert desk.snapshot().population.count == 2
    desk.asked(desk.client(), a_result(1))
    desk.until(lambda: desk.snapshot().population.count == 4, "the new particles in it")


def test_a_size_is_in_the_histogram_once_although_it_is_stored_while_earlier_ones_are_read(desk):
    desk.asked(desk.client(), a_result(0))
    last = desk.store.last_particle()
    desk.asked(desk.client(), a_result(1))  # counted when it comes
    read = [px for some, _ in diameters(desk.folder, last) for px in some]
    assert len(read) == 2
    assert [len(some) for some, _ in diameters(desk.folder, desk.store.last_particle())] == [4]


def test_the_first_result_by_another_model_is_an_event_also_after_a_restart(desk):
    def result(z, sha256):
        return msgspec.structs.replace(a_result(z), model_sha256=sha256)

    for z, sha256 in enumerate(["first", "first", "second"]):
        desk.asked(desk.client(f"worker-{z}"), result(z, sha256))
        if z == 1:
            assert not any("by the model" in text for text in desk.events())
            desk.stop()
            desk.start()
    for z, sha256 in ((3, "first"), (4, "second")):  # known by now
        desk.asked(desk.client(f"worker-{z}"), result(z, sha256))
    (said,) = [text for text in desk.events() if "by the model" in text]
    assert "a.mrc#2 is the first section of this session by the model default second" in said


def test_a_warning_is_said_when_it_begins_kept_and_shown_for_its_section(desk):
    worker = desk.client()
    for z, warning in enumerate(["", "not sure\x1b[2J", "not sure", ""]):
        desk.asked(worker, a_result(z, warning=warning))
        assert desk.snapshot().last_warning == warning
    (said,) = desk.snapshot().messages
    assert said.endswith(r"a.mrc#1: not sure\x1b[2J")
    assert desk.events() == [said]
    assert desk.snapshot().warned == 2
    assert ns.open_session(desk.folder).sections["warning"].astype(bool).tolist() == [
        False,
        True,
        True,
        False,
    ]


def test_another_writer_is_kept_out(desk):
    with pytest.raises(SessionError, match="in use by another"):
        Store(desk.folder, desk.config)

"""The worker between an agent and a sink that the test plays, with an analyzer passed in."""

import queue
import threading
import time
from contextlib import closing, suppress
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from nanostream.config import Config, Delivery, Network
from nanostream.errors import ConfigError, ModelError
from nanostream.records import Result, SectionId
from nanostream.transport import messages as m
from nanostream.transport.sockets import Server, Waker, free_ports, wait
from nanostream_services.processes.bench import Bench
from nanostream_services.processes.worker import Worker
from tests import factories, waiting
from tests.factories import a_segmentation, squares
from tests.waiting import PATIENCE_S

CARD: Any = SimpleNamespace(name="double", weights_sha256="abc")


def a_frame(z=0):
    return factories.a_frame(f"a.mrc#{z}", pixel_size_nm=0.1)


class Analysis:
    """An analyzer that can be held up, and that fails for some sections."""

    engine: Any = SimpleNamespace(name="double", device="CPU")
    versions: ClassVar = {"double": "1"}

    def __init__(self, fails=(), *, cold=False):
        self.fails, self.cold = fails, cold
        self.maximum = None
        self.analyzed = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def raise_maximum(self, maximum):
        self.maximum = maximum

    def warm_up(self):
        if self.cold:
            raise MemoryError("no memory on the device")

    def work_px(self, frame):
        return frame.pixels.size

    def __call__(self, frame):
        self.analyzed.append(frame.section.z)
        assert self.may_go_on.wait(PATIENCE_S)
        if frame.section.z in self.fails:
            raise FloatingPointError("no contrast")
        return a_segmentation(squares((10, 10), side=6, shape=frame.pixels.shape), frame)


def until(condition, what, do=lambda: time.sleep(0.001)):
    waiting.until(condition, what, turn=do)


# --- the computing thread ------------------------------------------------------------------------


@pytest.fixture
def bench():
    benches = []

    def make(analysis, clock=time.monotonic):
        bench = Bench(lambda: analysis, Waker(), clock=clock)
        benches.append((bench, analysis))
        return bench

    yield make
    for made, analysis in benches:
        analysis.may_go_on.set()
        made.close()
        made._waker.close()


def test_an_exception_in_the_analyzer_is_the_sections_reason_and_the_next_is_computed(bench):
    working = bench(Analysis(fails={0}))
    for z in (0, 1):
        working.add(a_frame(z))
    outcomes = {}
    until(lambda: len(outcomes) == 2, "both", lambda: outcomes.update(working.finished()))
    reason, result = outcomes.values()
    assert reason == "cannot be segmented: FloatingPointError: no contrast"
    assert isinstance(result, Result)
    assert result.summary.count == 1


def test_what_waits_is_taken_back_in_order_and_what_is_computed_is_finished(bench):
    analysis = Analysis()
    analysis.may_go_on.clear()
    working = bench(analysis)
    for z in range(4):
        working.add(a_frame(z))
    until(lambda: working.computing, "the first")
    assert [section.z for section in working.drop_waiting()] == [1, 2, 3]
    assert working.drop_waiting() == []
    analysis.may_go_on.set()
    finished = []
    until(lambda: finished, "the first", lambda: finished.extend(working.finished()))
    assert [section.z for section, _ in finished] == [0]


def test_taking_back_never_blocks_although_the_thread_takes_the_last_one_first(monkeypatch):
    class Raced(queue.Queue[object]):
        """Something was in it when asked, and the thread has taken it since."""

        def empty(self):
            return False

        def qsize(self):
            return super().qsize() + 1

    monkeypatch.setattr("nanostream_services.processes.bench.queue.Queue", Raced)
    # Nothing is closed if it blocks: the threads end with the process.
    waker: Any = SimpleNamespace(wake=lambda: None)
    working = Bench(cast(Any, Analysis), waker)
    taking = threading.Thread(target=working.drop_waiting, daemon=True)
    taking.start()
    taking.join(PATIENCE_S)
    assert not taking.is_alive()
    working.close()


def test_each_frame_is_either_computed_or_taken_back(bench):
    analysis = Analysis()
    working = bench(analysis)
    taken = []
    for z in range(300):
        working.add(a_frame(z))
        if z % 3 == 0:
            taken += [section.z for section in working.drop_waiting()]
    finished = []
    until(
        lambda: len(finished) + len(taken) >= 300,
        "all of them",
        lambda: finished.extend(section.z for section, _ in working.finished()),
    )
    assert sorted(finished + taken) == list(range(300))


def test_only_a_section_that_is_computed_for_too_long_is_hung(bench):
    analysis = Analysis()
    analysis.may_go_on.clear()
    working = bench(analysis)
    assert not working.hung(0.0)
    working.add(a_frame())
    until(lambda: working.computing, "the computation")
    assert not working.hung(60.0)
    until(lambda: working.hung(0.01), "the time limit")
    analysis.may_go_on.set()
    until(lambda: working.computing is None, "the end")
    assert not working.hung(0.0)


def test_the_time_limit_follows_from_what_the_last_sections_took(bench):
    clock: Any = SimpleNamespace(now_s=0.0)
    analysis = Analysis()
    working = bench(analysis, lambda: clock.now_s)
    working._s_per_px.append(2.0 / a_frame().pixels.size)  # the last one took 2 s
    analysis.may_go_on.clear()
    working.add(a_frame())
    until(lambda: working.computing, "the computation")
    clock.now_s = 39.0
    assert not working.hung(300.0)
    clock.now_s = 41.0  # 20 times as long
    assert working.hung(300.0)
    working._pixels *= 4  # a larger micrograph
    assert not working.hung(300.0)


def test_a_network_that_cannot_be_tried_out_does_not_end_the_thread(bench):
    working = bench(Analysis(cold=True))
    working.add(a_frame())
    finished = []
    until(lambda: finished.extend(working.finished()) or finished, "the section")


# --- between agent and sink ----------------------------------------------------------------------


class Desk:
    """A worker, and the agent and the sink as the test plays them."""

    def __init__(self, analysis, load=None, **delivery):
        frames, results, snapshots = free_ports(3)
        network = Network(frames_port=frames, results_port=results, snapshots_port=snapshots)
        # Heartbeats so rare that only what must be said at once is said.
        delivery = {"heartbeat_s": 100.0, "silent_s": 300.0, "resend_s": 100.0, **delivery}
        self.analysis = analysis
        self.agent = Server(network, "frames", largest_bytes=2**20)
        self.sink = Server(network, "results", largest_bytes=2**20)
        config = Config(network=network, delivery=Delivery(**delivery))
        self.worker = Worker(config, load or (lambda: analysis), CARD)
        self.to_agent, self.to_sink = [], []
        self.peer = ""
        self.until(lambda: self.beats and self.to_sink, "the first beats")

    def turn(self):
        self.worker.step()
        for peer, message in self.agent.receive():
            self.peer = peer
            self.to_agent.append(message)
        for _, message in self.sink.receive():
            self.to_sink.append(message)

    def until(self, condition, what):
        until(condition, what, self.turn)

    def turns(self, count):
        """Time for what must not happen: beyond both ways of loopback and the waiter's turn."""
        for _ in range(count):
            self.turn()

    def frame(self, z=0):
        assert self.agent.send(self.peer, a_frame(z))

    def say(self, message):
        assert self.sink.send(self.peer, message)

    def heard(self, kind):
        return [message for message in self.to_agent if isinstance(message, kind)]

    @property
    def beats(self):
        return self.heard(m.Beat)

    @property
    def results(self):
        return [message for message in self.to_sink if isinstance(message, Result)]

    def reports_ready(self):
        return [message for message in self.to_sink if isinstance(message, m.Ready)]

    def close(self):
        self.analysis.may_go_on.set()
        self.worker.close()
        self.agent.close()
        self.sink.close()


@pytest.fixture
def desk():
    desks = []

    def make(analysis=None, load=None, **delivery):
        desks.append(Desk(analysis or Analysis(), load, **delivery))
        return desks[-1]

    yield make
    for made in desks:
        made.close()


SECTION = SectionId("a.mrc", 0)


def test_a_worker_asks_for_nothing_before_the_sink_has_answered(desk):
    desk = desk(heartbeat_s=0.05)
    desk.until(lambda: len(desk.beats) >= 5, "some beats")
    assert {beat.slots for beat in desk.beats} == {0}
    desk.say(m.Pong("sink-1", normalization_maximum=4000.0))
    desk.until(lambda: desk.beats[-1].slots == 3, "credit")
    assert desk.analysis.maximum == 4000.0  # known before the first section


def test_credit_is_given_at_once_when_the_sink_answers(desk):
    desk = desk()  # the next beat would be due in 100 s
    desk.say(m.Pong("sink-1"))
    desk.until(lambda: desk.beats[-1].slots == 3, "credit")


def test_a_restarted_agent_hears_at_once_what_is_held(desk):
    analysis = Analysis()
    analysis.may_go_on.clear()
    desk = desk(analysis)
    desk.frame()
    desk.until(lambda: desk.beats[-1].computing == SECTION, "the computation")
    desk.agent.send(desk.peer, m.Pong("agent-1"))
    desk.until(lambda: len(desk.beats) >= 3, "the first answer")
    before = len(desk.beats)
    assert desk.beats[-1].agent == "agent-1"
    desk.agent.send(desk.peer, m.Pong("agent-2"))
    desk.until(lambda: len(desk.beats) > before, "a beat for the new agent")
    assert (desk.beats[-1].holding, desk.beats[-1].agent) == ((SECTION,), "agent-2")


def test_done_is_said_only_after_the_sinks_word(desk):
    desk = desk()
    desk.frame()
    desk.until(lambda: desk.results, "the result")
    desk.turns(4)
    assert desk.heard(m.Done) == []
    desk.say(m.Ack(SECTION))
    desk.until(lambda: desk.heard(m.Done), "done")
    assert desk.heard(m.Done) == [m.Done(SECTION)]
    assert len(desk.results) == 1


def test_a_result_without_an_answer_is_sent_again_after_resend_s(desk):
    desk = desk(resend_s=0.3)
    desk.frame()
    desk.until(lambda: len(desk.results) == 1, "the result")
    first_s = time.monotonic()
    desk.until(lambda: len(desk.results) == 2, "the result again")
    assert time.monotonic() - first_s > 0.2
    desk.say(m.Ack(SECTION))
    desk.until(lambda: desk.heard(m.Done), "done")
    sent = len(desk.results)
    desk.turns(4)
    assert len(desk.results) == sent
    assert desk.analysis.analyzed == [0]


def test_what_the_sink_could_not_store_is_sent_again_after_resend_s(desk):
    desk = desk(resend_s=0.3)
    answers_s = desk.worker._unacknowledged._answers_s
    answers_s.append(1000.0)  # a slow line: without an answer it would wait for an hour
    desk.frame()
    desk.until(lambda: len(desk.results) == 1, "the result")
    for times in (2, 3, 4):
        desk.say(m.Later(SECTION))
        desk.until(lambda times=times: len(desk.results) == times, "the result again")
    desk.say(m.Ack(SECTION))
    desk.until(lambda: desk.heard(m.Done), "done")
    assert max(answers_s) == 1000.0  # a full disk says nothing of the line


def test_on_a_slow_line_a_result_is_not_sent_before_its_answer_can_be_there(desk):
    desk = desk(resend_s=0.01)
    desk.worker._unacknowledged._answers_s.append(1000.0)
    desk.frame()
    desk.until(lambda: desk.results, "the result")
    desk.turns(10)
    assert len(desk.results) == 1


def test_results_under_way_in_a_connection_that_broke_are_sent_again_at_once(desk):
    desk = desk()  # sent again after 100 s only
    desk.frame()
    desk.until(lambda: desk.results, "the result")
    network = desk.worker._config.network
    desk.sink.close()

    def bound():
        with suppress(ConfigError):  # ZeroMQ gives the port back a moment after closing
            return Server(network, "results", largest_bytes=2**20)

    desk.sink = waiting.until(bound, "the port")
    desk.until(lambda: len(desk.results) == 2, "the result again")
    assert desk.worker._sink.link == 2


def test_a_restarted_sink_gets_the_result_at_once_and_the_same_sink_does_not(desk):
    desk = desk()  # sent again after 100 s only
    desk.say(m.Pong("sink-1"))
    desk.frame()
    desk.until(lambda: desk.results, "the result")
    desk.say(m.Pong("sink-1"))
    desk.turns(4)
    assert len(desk.results) == 1
    desk.say(m.Pong("sink-2"))
    desk.until(lambda: len(desk.results) == 2, "the result for the new sink")


def test_a_result_that_the_sink_refuses_ends_the_section_with_its_reason(desk):
    desk = desk(resend_s=0.1)
    desk.frame()
    desk.until(lambda: desk.results, "the result")
    desk.say(m.Failed(SECTION, "the name is too long for a file"))
    desk.until(lambda: desk.heard(m.Failed), "the failure")
    assert desk.heard(m.Failed) == [m.Failed(SECTION, "the name is too long for a file")]
    sent = len(desk.results)
    desk.turns(4)
    assert len(desk.results) == sent
    assert desk.worker._holding == {}
    assert desk.heard(m.Done) == []


def test_a_section_that_cannot_be_segmented_ends_with_the_reason_and_frees_its_slot(desk):
    desk = desk(Analysis(fails={0}))
    desk.frame(0)
    desk.until(lambda: desk.heard(m.Failed), "the failure")
    assert "no contrast" in desk.heard(m.Failed)[0].reason
    desk.frame(1)
    desk.until(lambda: desk.results, "the next section")
    assert desk.worker._holding == {SectionId("a.mrc", 1): None}


def test_a_section_sent_twice_is_computed_once(desk):
    analysis = Analysis()
    analysis.may_go_on.clear()
    desk = desk(analysis)
    desk.frame()
    desk.frame()
    desk.until(lambda: desk.worker._bench.computing, "the computation")
    desk.frame()
    desk.turns(2)
    analysis.may_go_on.set()
    desk.until(lambda: desk.results, "the result")
    desk.frame()  # while it waits for the sink
    desk.turns(4)
    desk.say(m.Ack(SECTION))
    desk.until(lambda: desk.heard(m.Done), "done")
    desk.frame()  # the "done" was lost
    desk.until(lambda: len(desk.heard(m.Done)) == 2, "done again")
    assert analysis.analyzed == [0]
    assert len(desk.results) == 1


def test_a_worker_that_hangs_ends_itself(desk, monkeypatch):
    def end(code):
        raise SystemExit(code)

    monkeypatch.setattr("nanostream_services.processes.worker.os._exit", end)
    analysis = Analysis()
    analysis.may_go_on.clear()
    desk = desk(analysis, hung_s=0.05)
    desk.frame()
    with pytest.raises(SystemExit) as ended:
        desk.until(lambda: False, "the end")
    assert ended.value.code == 3


def test_a_worker_told_to_stop_gives_back_what_waits_and_finishes_what_it_computes(desk):
    analysis = Analysis()
    analysis.may_go_on.clear()
    desk = desk(analysis)
    for z in range(3):
        desk.frame(z)
    desk.until(lambda: len(desk.worker._holding) == 3, "the frames")
    desk.until(lambda: desk.worker._bench.computing, "the computation")
    leaving = threading.Thread(target=desk.worker.finish)
    leaving.start()

    def listen():
        wait([desk.agent, desk.sink], 0.05)
        desk.to_agent += [message for _, message in desk.agent.receive()]
        desk.to_sink += [message for _, message in desk.sink.receive()]

    until(lambda: desk.heard(m.Goodbye), "the goodbye", listen)
    assert desk.heard(m.Goodbye) == [m.Goodbye((SECTION,))]
    analysis.may_go_on.set()
    until(lambda: desk.results, "the result", listen)
    desk.say(m.Ack(SECTION))
    until(lambda: len(desk.heard(m.Goodbye)) == 2, "the last word", listen)
    leaving.join(PATIENCE_S)
    assert desk.heard(m.Done) == [m.Done(SECTION)]
    assert desk.heard(m.Goodbye)[-1] == m.Goodbye()
    assert analysis.analyzed == [0]


def test_a_bench_is_closed_after_what_it_computes():
    with closing(Waker()) as waker:
        bench = Bench(cast(Any, Analysis), waker)
        bench.add(a_frame())
        bench.close()
        assert not bench._thread.is_alive()


# --- while the network is loaded ------------------------------------------------------------------


class Loading:
    """A network that takes as long to load as the test says, or never can be."""

    def __init__(self, error=None):
        self.analysis, self.error, self.may_end = Analysis(), error, threading.Event()

    def __call__(self):
        assert self.may_end.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        return self.analysis


@pytest.fixture
def loading():
    made = []

    def make(error=None):
        made.append(Loading(error))
        return made[-1]

    yield make
    for one in made:
        one.may_end.set()


def test_one_section_may_come_while_the_network_is_loaded_and_is_computed_then(desk, loading):
    load = loading()
    desk = desk(load=load)
    desk.say(m.Pong("sink-1", normalization_maximum=4000.0))
    desk.until(lambda: desk.beats[-1].slots == 1, "credit for one")
    assert desk.beats[-1].loading
    desk.frame()
    desk.until(lambda: desk.worker._holding, "the frame")
    desk.turns(4)
    assert load.analysis.analyzed == []
    load.may_end.set()
    desk.until(lambda: desk.results, "the result")
    desk.until(lambda: not desk.beats[-1].loading, "the beat, which comes by another socket")
    assert desk.beats[-1].slots == 3
    assert load.analysis.maximum == 4000.0  # said before there was anything to scale
    assert desk.reports_ready() == []
    desk.say(m.Pong("sink-1"))
    desk.until(desk.reports_ready, "the report that it is ready")
    desk.say(m.Pong("sink-1", ready=True))
    desk.say(m.Pong("sink-2"))  # a restarted sink has not heard it
    desk.until(lambda: len(desk.reports_ready()) == 2, "the same report")
    assert {ready.role for ready in desk.reports_ready()} == {"worker"}


def test_a_worker_whose_model_cannot_be_loaded_gives_back_what_came_and_ends_with_the_reason(
    desk, loading
):
    load = loading(ModelError("the weights do not fit"))
    desk = desk(load=load)
    desk.say(m.Pong("sink-1"))
    desk.until(lambda: desk.beats[-1].slots == 1, "credit for one")
    desk.frame()
    desk.until(lambda: desk.worker._holding, "the frame")
    load.may_end.set()
    with pytest.raises(ModelError, match="weights do not fit"):
        desk.until(lambda: False, "the end")
    until(
        lambda: desk.heard(m.Goodbye),
        "the goodbye",
        lambda: desk.to_agent.extend(message for _, message in desk.agent.receive()),
    )
    assert desk.heard(m.Goodbye) == [m.Goodbye()]


def test_a_worker_whose_network_is_never_loaded_ends_itself_if_a_section_waits_for_it(
    desk, loading, monkeypatch
):
    def end(code):
        raise SystemExit(code)

    monkeypatch.setattr("nanostream_services.processes.worker.os._exit", end)
    desk = desk(load=loading(), hung_s=0.05)
    desk.say(m.Pong("sink-1"))
    desk.until(lambda: desk.beats[-1].slots == 1, "credit for one")
    time.sleep(0.1)
    desk.turns(4)  # nobody waits
    desk.frame()
    with pytest.raises(SystemExit) as ended:
        desk.until(lambda: False, "the end")
    assert ended.value.code == 3


def test_a_worker_says_which_model_it_has(desk):
    assert desk().beats[0].model == "double abc"

"""Agent and sink with a configuration each: a movie is linked as the agent's says."""

from contextlib import ExitStack

import numpy as np
import pytest

import nanostream as ns
from nanostream.acquisition.ledger import Ledger
from nanostream.acquisition.simulator import StackWriter
from nanostream.config import Config, Stream, Watch
from nanostream.records import Frame, Result
from nanostream.results.store import Store
from nanostream.transport import messages as m
from nanostream.transport.sockets import Client
from nanostream_services.processes.agent import Agent
from nanostream_services.processes.sink import Sink
from tests.factories import a_network, a_segmentation, squares
from tests.waiting import until

SECTIONS = 3


def segmented(frame):
    """Two particles that move by 3 px from section to section."""
    top = 20 + 3 * frame.section.z
    labels = squares((top, 20), (top, 70), side=8, shape=frame.pixels.shape)
    return Result.of(frame, a_segmentation(labels, frame))


class TwoMachines:
    """An agent and a sink; the test is the worker between them."""

    def __init__(self, folder, opened, *, at_agent, at_sink):
        root = folder / "microscope"
        root.mkdir()
        network = a_network()
        watch = Watch(directory=str(root), poll_s=0.05, mdoc_wait_s=0.0)
        config = Config(watch=watch, network=network, streams=at_agent)
        ledger = opened.enter_context(Ledger(folder / "ledger.db"))
        self.session = folder / "session"
        other = Config(network=network, streams=at_sink)
        self.sink = Sink(other, opened.enter_context(Store(self.session, other)))
        self.agent = Agent(config, root, ledger)
        self.from_agent = Client(network, "frames", name="worker-1", largest_bytes=2**24)
        self.to_sink = Client(network, "results", name="worker-1", largest_bytes=2**24)
        for one in (self.sink, self.agent, self.from_agent, self.to_sink):
            opened.callback(one.close)
        with StackWriter(root / "movie.mrc", mdoc=False) as stack:
            for z in range(SECTIONS):
                stack.append(np.full((64, 100), 100 + z, np.int16))
        self.stored = 0
        self.from_agent.send(m.Beat(slots=SECTIONS))

    def turn(self):
        self.agent.step()
        self.sink.step(0.0)
        for message in self.from_agent.receive():
            if isinstance(message, Frame):
                self.to_sink.send(segmented(message))
        for message in self.to_sink.receive():
            if isinstance(message, m.Ack):
                self.from_agent.send(m.Done(message.section))
                self.stored += 1


@pytest.mark.parametrize(
    ("at_agent", "at_sink", "identities"),
    [
        ((Stream("*.mrc"),), (), 2),
        ((Stream("*.mrc", max_step_px=9.0),), (Stream("*.mrc", max_step_px=1.0),), 2),
        ((Stream("*.mrc", max_step_px=1.0),), (Stream("*.mrc", max_step_px=9.0),), 2 * SECTIONS),
        ((), (Stream("*.mrc"),), 0),
    ],
    ids=[
        "only the agent's",
        "short steps at the sink",
        "short steps at the agent",
        "only the sink's",
    ],
)
def test_a_movie_is_linked_as_the_agents_configuration_says(
    tmp_path, at_agent, at_sink, identities
):
    with ExitStack() as opened:
        machines = TwoMachines(tmp_path, opened, at_agent=at_agent, at_sink=at_sink)
        until(lambda: machines.stored == SECTIONS, "all stored", turn=machines.turn)
    assert ns.open_session(machines.session).tracks["particle"].nunique() == identities

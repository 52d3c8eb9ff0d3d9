"""The query port with real sockets: what a script of SerialEM meets, and what a stranger does."""

import json
import time
from contextlib import ExitStack

import pytest
import zmq

from nanostream.config import Config
from nanostream.errors import ConfigError
from nanostream.records import SectionId
from nanostream.results.queries import MOST_BYTES
from nanostream.results.store import Store
from nanostream.transport.keys import create_keys, trust
from nanostream.transport.sockets import new_key_pair, refusals, wait
from nanostream_services.processes.serialem import SerialEM
from tests import waiting
from tests.factories import a_network


class Sink:
    """The sink's query side, and those who ask it."""

    def __init__(self, folder, **network):
        self.folder = folder
        self.opened = ExitStack()
        self.network = a_network(**network)
        config = Config(network=self.network)
        self.store = self.opened.enter_context(Store(folder / "session", config))
        self.serialem = SerialEM(folder / "session", config)
        self.opened.callback(self.serialem.close)

    def asker(self, kind=zmq.REQ, keys=None, server=None):
        socket = zmq.Context.instance().socket(kind)
        self.opened.callback(socket.close)
        socket.linger = 0
        if keys is not None:
            socket.curve_publickey, socket.curve_secretkey = keys.public, keys.secret
            socket.curve_serverkey = server.public
        socket.connect(f"tcp://127.0.0.1:{self.network.queries_port}")
        return socket

    def until(self, condition):
        """Turn the sink's loop until it holds."""

        def turn():
            wait([self.serialem.desk], 0.01)
            list(self.serialem.step())

        waiting.until(condition, "the query port", turn=turn)

    def answer(self, socket):
        self.until(lambda: socket.poll(0))
        return json.loads(socket.recv_multipart()[-1])

    def turn(self, seconds):
        end_s = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end_s)

    def give_up(self, text):
        section = SectionId.parse(text)
        self.store.quarantine(section, "why", attempts=1)
        self.serialem.ended(section)


@pytest.fixture
def sink(tmp_path):
    made = Sink(tmp_path)
    yield made
    made.opened.close()


def question(file="a.mrc", z=0, **keys):
    return json.dumps({"nanostream": 1, "file": file, "z": z, **keys}).encode()


def test_two_scripts_wait_and_both_are_answered(sink):
    first, second = sink.asker(), sink.asker()
    for asker in (first, second):
        asker.send(question(wait_s=60))
    sink.turn(0.2)
    assert not first.poll(0)
    sink.give_up("a.mrc#0")
    assert [sink.answer(asker)["reason"] for asker in (first, second)] == ["why", "why"]


def test_a_script_is_told_when_its_time_is_over(sink):
    asker = sink.asker()
    start_s = time.monotonic()
    asker.send(question(wait_s=0.3))
    assert sink.answer(asker)["status"] == "pending"
    assert time.monotonic() - start_s >= 0.3


HOSTILE = {
    "garbage": [b"", b"\xff\x00garbage"],
    "no empty part": [b"only this"],
    "nothing": [b""],
    "many parts": [b"x"] * 500,
    "a pickle": [b"", b"\x80\x04\x95\x0b\x00\x00\x00."],
    "a message of the pipeline": [b"nanostream\x02", b"\x00" * 100],
    "the wrong types": [b"", question(file=5)],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages_get_an_error_and_others_their_answer(sink, name):
    stranger, script = sink.asker(zmq.DEALER), sink.asker()
    stranger.send_multipart(HOSTILE[name])
    script.send(question())
    assert sink.answer(script)["status"] == "pending"
    assert sink.answer(stranger)["status"] == "error"


def test_a_huge_message_is_never_read_and_cuts_its_sender_off(sink):
    stranger, script = sink.asker(zmq.DEALER), sink.asker()
    stranger.send_multipart([b"", b"x" * (MOST_BYTES + 1)])
    script.send(question())
    assert sink.answer(script)["status"] == "pending"
    assert not stranger.poll(200)


def test_a_thousand_waits_of_one_client_are_one_and_stop_nobody(sink):
    stranger, script = sink.asker(zmq.DEALER), sink.asker()
    for z in range(1000):
        stranger.send_multipart([b"", question(z=z, wait_s=600)])
    script.send(question(wait_s=60))
    sink.turn(0.5)
    sink.give_up("a.mrc#0")
    assert sink.answer(script)["status"] == "fail"
    sink.give_up("a.mrc#999")
    assert sink.answer(stranger)["z"] == 999


def test_an_asker_that_has_gone_is_not_missed(sink):
    gone = sink.asker()
    gone.send(question(wait_s=60))
    sink.turn(0.2)
    gone.close()
    script = sink.asker()
    script.send(question(wait_s=60))
    sink.turn(0.2)
    sink.give_up("a.mrc#0")
    assert sink.answer(script)["status"] == "fail"


def test_with_keys_a_trusted_script_is_answered_and_another_is_not(tmp_path):
    names = ("sink", "scope", "stranger")
    keys = {name: create_keys(tmp_path / name, new_key_pair()) for name in names}
    trust(tmp_path / "sink", "scope", tmp_path / "scope" / "own.public")
    sink = Sink(tmp_path, keys=str(tmp_path / "sink"))
    with sink.opened:
        stranger = sink.asker(keys=keys["stranger"], server=keys["sink"])
        plain = sink.asker()
        script = sink.asker(keys=keys["scope"], server=keys["sink"])
        for asker in (stranger, plain, script):
            asker.send(question())
        assert sink.answer(script)["status"] == "pending"
        sink.turn(0.3)
        assert not stranger.poll(0)
        assert not plain.poll(0)
        assert any("unknown key" in text for text in refusals())


def test_beyond_loopback_the_port_needs_keys(tmp_path):
    with pytest.raises(ConfigError, match="queries_host"):
        Sink(tmp_path, queries_host="0.0.0.0")
